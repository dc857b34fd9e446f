package dflockd.client;

/** The lock is not held any more, and somebody else may hold it. Stop the work that it protects. */
public class LockLostError extends LockError {
    private static final long serialVersionUID = 1;

    LockLostError(Answer answer, String detail) { super(answer, detail); }
}
