package dflockd.client;

/** There is no connection to the server, none that is trusted, or no answer in time (502, 504). */
public class LockUnavailableError extends LockError {
    private static final long serialVersionUID = 1;

    LockUnavailableError(Answer answer, String detail) { super(answer, detail); }
}
