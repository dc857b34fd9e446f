package dflockd.client;

/** The server refuses this client (401, 403): the token is missing or wrong. */
public class LockDeniedError extends LockError {
    private static final long serialVersionUID = 1;

    LockDeniedError(Answer answer, String detail) { super(answer, detail); }
}
