package dflockd.client;

/** The lock was not granted within the wait: somebody else holds it, or the answer came too late. */
public class LockTimeoutError extends LockError {
    private static final long serialVersionUID = 1;

    private final String reason;

    LockTimeoutError(Answer answer, String detail, String reason) {
        super(answer, detail + " (" + reason + ")");
        this.reason = reason;
    }

    /**
     * Why: "timeout" if others hold the lock; "quarantine" if the server has just started and grants nothing yet;
     * "late" if the answers of the server take longer than the lease; "cancelled" or "superseded" if the attempt was
     * ended.
     */
    public String getReason() { return reason; }
}
