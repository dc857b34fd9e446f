package dflockd.client;

/** The server is about to stop, and grants nothing more. */
public class LockDrainingError extends LockUnavailableError {
    private static final long serialVersionUID = 1;

    LockDrainingError(Answer answer, String detail) { super(answer, detail); }
}
