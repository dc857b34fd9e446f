package dflockd.client;

/** The parent of all errors of this package, unchecked. No text of an error has a token or the name of an attempt. */
public class LockError extends RuntimeException {
    private static final long serialVersionUID = 1;

    private final String code;
    private final int status;
    private final String requestId;
    private final String detail;

    LockError(Answer answer, String detail) {
        super(detail, answer.cause);
        this.detail = answer.detail() == null ? detail : answer.detail();
        this.code = answer.code().isEmpty() ? null : answer.code();
        this.status = answer.status;
        this.requestId = answer.requestId;
    }

    /**
     * The server's own word for it, such as "not-held"; or what the client found: "no-connection", "no-answer", "tls",
     * "nonsense" or "closed"; else null.
     */
    public String getCode() { return code; }

    /** The status of the HTTP answer, 0 if there was none. */
    public int getStatus() { return status; }

    /** What went wrong, in the server's own words if it gave some; the message has more. */
    public String getDetail() { return detail; }

    /** The name of the request in the log of the server, null without an answer. */
    public String getRequestId() { return requestId; }
}
