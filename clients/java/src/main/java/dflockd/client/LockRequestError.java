package dflockd.client;

/** The server refuses the request (other 4xx): an argument is out of its range, or the URL is not a lock server. */
public class LockRequestError extends LockError {
    private static final long serialVersionUID = 1;

    LockRequestError(Answer answer, String detail) { super(answer, detail); }
}
