package dflockd.client;

/** The server failed (500), or answered something that is not what a lock server says. */
public class LockServerError extends LockError {
    private static final long serialVersionUID = 1;

    LockServerError(Answer answer, String detail) { super(answer, detail); }
}
