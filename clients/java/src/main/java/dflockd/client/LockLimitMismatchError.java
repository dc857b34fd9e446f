package dflockd.client;

/** Others use the semaphore of this name with another limit. */
public class LockLimitMismatchError extends LockError {
    private static final long serialVersionUID = 1;

    LockLimitMismatchError(Answer answer, String detail) { super(answer, detail); }
}
