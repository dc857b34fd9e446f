package dflockd.client;

/** The server has as many locks, waiters or requests as it takes (max-locks, max-waiters, 429). */
public class LockCapacityError extends LockError {
    private static final long serialVersionUID = 1;

    LockCapacityError(Answer answer, String detail) { super(answer, detail); }
}
