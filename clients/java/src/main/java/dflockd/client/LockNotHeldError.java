package dflockd.client;

/** There is no such hold: it has been released, or nobody holds the lock that was to be released by force. */
public class LockNotHeldError extends LockError {
    private static final long serialVersionUID = 1;

    LockNotHeldError(Answer answer, String detail) { super(answer, detail); }
}
