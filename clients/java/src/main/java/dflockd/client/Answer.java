package dflockd.client;

import java.io.EOFException;
import java.net.*;
import java.util.*;
import java.util.stream.Collectors;
import javax.net.ssl.SSLHandshakeException;

/**
 * What became of one request: an answer, or why there is none; and what that means.
 * Invariant: an answer is taken for a lock or a refusal only if it is JSON that has all of it.
 */
final class Answer {
    /** When the request was sent, by BootClock. */
    final long sentNs;
    /** 0 if there was no answer. */
    final int status;
    /** The members of the answer, none if it is no JSON object. */
    final Map<String, Object> body;
    /** Why there was no answer, else null. */
    final Throwable failure;
    /** The failure to show to people, null if its texts have a secret. */
    final Throwable cause;
    /** The server's name for the request, null if it gave none. */
    final String requestId;
    /** Whether an earlier request with the same body may have been carried out. */
    boolean isRepeat;

    /** What the server itself says, which is no secret, though a token may be a part of it. */
    private static final Set<String> WORDS = Set.of("deadlock", "not-held", "limit-mismatch", "draining", "max-locks",
            "max-waiters", "timeout", "quarantine", "superseded", "cancelled");

    private final boolean isJson;

    private Answer(
            long sentNs, int status, Map<String, Object> body, String requestId, Throwable failure, Throwable cause) {
        this.sentNs = sentNs;
        this.status = status;
        this.isJson = body != null;
        this.body = isJson ? body : Map.of();
        this.requestId = requestId;
        this.failure = failure;
        this.cause = cause;
    }

    /** A server, or what stands before it, may say again what it was sent: the secrets are taken out of texts for people. */
    static Answer of(int status, String requestId, String text, long sentNs, Set<String> secrets) {
        Map<String, Object> body = null;
        try {
            body = members(Json.read(text));
            if (body != null)
                body.replaceAll(
                        (name, value) -> name.matches("code|detail|title|reason|cycle") ? hide(value, secrets) : value);
        } catch (IllegalArgumentException | ClassCastException e) {
            // A page of a proxy, or half of an answer: there is no body.
        }
        return new Answer(sentNs, status, body, (String) hide(requestId, secrets), null, null);
    }

    static Answer failed(Throwable failure, long sentNs, Set<String> secrets) {
        boolean isSecret = false; // What is no HTTP/1.1 is in the text of the exception.
        for (Throwable each = failure; each != null; each = each.getCause())
            isSecret |= secrets.stream().anyMatch(String.valueOf(each.getMessage())::contains);
        return new Answer(sentNs, 0, null, null, failure, isSecret ? null : failure);
    }

    /** For an error that no answer stands behind; an empty code is none. */
    static Answer none(String code) { return new Answer(0, 0, Map.of("code", code), null, null, null); }

    boolean isOk() { return status == 200 && isJson; }

    /** The request was sent, and may have been carried out. */
    boolean isUnanswered() { return code().equals("no-answer"); }

    /** A proxy had no answer from the server. */
    boolean isFromProxy() { return status == 502 || status == 504; }

    boolean isWorthRepeating() { return isFromProxy() || code().matches("no-connection|no-answer|draining"); }

    /** Whether an acquire may have been carried out all the same: there is no clear word on it. */
    boolean isDoubtful() { return code().matches("no-answer|nonsense") || status >= 500 || status != 0 && !isJson; }

    /** Whether the server surely has done nothing, not even for an earlier request with the same body. */
    boolean isUndone() {
        return !isRepeat && (code().matches("no-connection|tls") || status / 100 == 4 && text("code") != null);
    }

    /** Whether this is a grant, or a renewal, of this lock to this client, with all that belongs to it. */
    boolean isGrant(String name, String clientId) {
        return isOk() && name.equals(text("lockName")) && clientId.equals(text("clientId"))
                && body.get("acquired") == Boolean.TRUE && text("lockId") != null && text("renewalToken") != null
                && String.valueOf(text("fencingToken")).matches("[0-9a-f]{16}") && ns("ttl") > 0 && ns("waitTime") >= 0;
    }

    /** Whether the lock was not granted in time. */
    boolean isMiss() { return isOk() && body.get("acquired") == Boolean.FALSE && text("reason") != null; }

    /** Why the lock was not granted in time, "" if it was. */
    String reason() { return isMiss() ? text("reason") : ""; }

    /** A member that is a text, else null. */
    String text(String member) { return body.get(member) instanceof String ? (String) body.get(member) : null; }

    /** What the server says for people, else null. */
    String detail() { return text("detail") != null ? text("detail") : text("title"); }

    /** A member that is a number of seconds, in nanoseconds; -1 if it is none. */
    long ns(String member) {
        return body.get(member) instanceof Number ? (long) (((Number) body.get(member)).doubleValue() * 1e9) : -1;
    }

    /**
     * The server's own code. Without one, what the client found: no-connection, no-answer, tls or nonsense; else "".
     * An answer of 200 that is not a miss is nonsense to whoever asks for its code.
     */
    String code() {
        if (failure instanceof ProtocolException) return "nonsense"; // It does not begin with HTTP/1.
        if (failure instanceof ConnectException) return "no-connection";
        // The end of a connection amid the handshake is no refusal, by whoever.
        if (failure instanceof SSLHandshakeException && !(failure.getCause() instanceof EOFException)) return "tls";
        if (failure != null) return "no-answer";
        String said = text("code");
        if (status == 0 || said != null && said.matches("[a-z0-9-]{1,40}")) return said;
        return isMiss() || List.of(401, 403, 422, 429, 502, 503, 504).contains(status) ? "" : "nonsense";
    }

    /** The error for an answer that is not what `what` needs; `from` is the address of the server. */
    LockError error(String what, String from) {
        String code = code();
        String said = detail();
        String told = what + ": "
                + (failure != null ? "no answer from " + from + (cause == null ? "" : " (" + cause + ")")
                                   : from + " answered " + (status + " " + code).strip())
                + (said == null ? "" : ": " + said);
        if (isMiss())
            return new LockTimeoutError(this, what + ": not granted in time; wait longer, or try later", reason());
        if (code.equals("deadlock")) // The server says what to do.
            return new LockDeadlockError(this, said != null ? told : told + "; release what this actor holds");
        if (code.equals("not-held")) return new LockNotHeldError(this, told);
        if (code.equals("limit-mismatch"))
            return new LockLimitMismatchError(this, told + "; use the limit of the others");
        if (code.equals("draining")) return new LockDrainingError(this, told + "; wait longer, or try later");
        if (code.equals("tls"))
            return new LockUnavailableError(this, told + "; check its certificate, and ClientOptions.ca");
        if (code.startsWith("max-") || status == 429) return new LockCapacityError(this, told + "; try later");
        if (code.startsWith("no-") || isFromProxy() || status == 503)
            return new LockUnavailableError(this, told + "; check the URL, and that the server runs");
        if (status == 401 || status == 403) return new LockDeniedError(this, told + "; check ClientOptions.token");
        if (status == 422) return new LockRequestError(this, told + "; check the arguments");
        if (status / 100 == 4 && !code.equals("nonsense"))
            return new LockRequestError(this, told + "; check the arguments and the URL");
        return new LockServerError(this, told + "; check the URL, and read the log of the server");
    }

    @SuppressWarnings("unchecked") // The reader of JSON makes no other maps.
    static Map<String, Object> members(Object value) {
        return (Map<String, Object>) value;
    }

    private static Object hide(Object value, Set<String> secrets) {
        if (value instanceof Map) members(value).replaceAll((name, each) -> hide(each, secrets));
        if (value instanceof List)
            return ((List<?>) value).stream().map(each -> hide(each, secrets)).collect(Collectors.toList());
        if (!(value instanceof String) || WORDS.contains(value)) return value;
        return secrets.stream().reduce((String) value, (left, secret) -> left.replace(secret, "***"));
    }
}
