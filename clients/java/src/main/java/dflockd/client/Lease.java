package dflockd.client;

/**
 * The life of one hold: acquiring, held, releasing, ended. It is told what was sent and heard, and when, and says until
 * when the lock is held and when it is to be renewed. It knows no network and no clock: times are nanoseconds of a
 * clock that its callers read.
 * Invariant: what is lost or given up is never held again, and each end is reported by one call only.
 */
final class Lease {
    /** A time that never comes. */
    static final long NEVER_NS = Long.MAX_VALUE;

    private static final long SECOND_NS = 1_000_000_000L;

    private enum State { ACQUIRING, HELD, RELEASING, ENDED }

    private final boolean isRenewed;
    private final long maxHoldNs;
    private State state = State.ACQUIRING;
    private String loss;
    private long timeoutNs;
    private long deadlineNs = NEVER_NS;
    private long heardNs = Long.MIN_VALUE;
    private long renewNs = NEVER_NS;
    private long lastRenewalNs = NEVER_NS;
    private boolean isRenewing;
    private int failures;

    /** `timeoutNs` is what a renewal asks for; no renewal is begun `maxHoldNs` after the grant or later. */
    Lease(long timeoutNs, boolean isRenewed, long maxHoldNs) {
        this.timeoutNs = timeoutNs;
        this.isRenewed = isRenewed;
        this.maxHoldNs = maxHoldNs;
    }

    /**
     * Whether under half of the usable time of a lease is left. `fromNs` is when it began at the earliest: the send of
     * the request and 0.999 of the wait that the server measured.
     */
    static boolean isLate(long fromNs, long ttlNs, long nowNs) { return nowNs > fromNs + (ttlNs - margin(ttlNs)) / 2; }

    /** Takes the grant. False if the acquire was given up meanwhile: then the grant must be given back. */
    synchronized boolean grant(long fromNs, long ttlNs, long nowNs) {
        if (state != State.ACQUIRING) return false;
        state = State.HELD;
        lastRenewalNs = after(nowNs, maxHoldNs);
        extend(fromNs, ttlNs, nowNs);
        return true;
    }

    /** Takes a renewal that was sent at `sentNs` and confirmed. False if the lock is not held any more. */
    synchronized boolean renewed(long sentNs, long askedNs, long ttlNs, long nowNs) {
        if (state != State.HELD || nowNs >= deadlineNs) return false;
        timeoutNs = askedNs;
        extend(sentNs, ttlNs, nowNs);
        return true;
    }

    /** The renewal that was begun has failed. It is repeated: once at once, if the connection ended, then in intervals. */
    synchronized void notRenewed(boolean isUnanswered, long nowNs) {
        isRenewing = false;
        failures++;
        renewNs = isUnanswered && failures == 1 ? nowNs : nowNs + Math.max(SECOND_NS / 20, timeoutNs / 15);
    }

    /** Whether a renewal is to be sent now; the caller then says how it went. */
    synchronized boolean beginRenewal(long nowNs) {
        if (nowNs >= lastRenewalNs) renewNs = NEVER_NS;
        if (state != State.HELD || isRenewing || nowNs < renewNs || nowNs >= deadlineNs) return false;
        isRenewing = true;
        return true;
    }

    /** Ends a hold whose deadline has passed. True if this call ended it. */
    synchronized boolean expire(long nowNs) {
        return nowNs >= deadlineNs && lose("its lease ran out and no renewal was confirmed in time");
    }

    /** Ends a hold that the server does not know any more. True if this call ended it. */
    synchronized boolean lose(String why) {
        if (state != State.HELD) return false;
        state = State.ENDED;
        loss = why;
        return true;
    }

    /** False if the lock is not held. From now on it is not renewed. */
    synchronized boolean beginRelease() {
        if (state != State.HELD) return false;
        state = State.RELEASING;
        return true;
    }

    /** The release has been answered or given up; `why` tells how the lock had been lost before, else null. */
    synchronized void endRelease(String why) {
        state = State.ENDED;
        loss = why;
    }

    /** Ends an acquire. */
    synchronized void giveUp() {
        if (state == State.ACQUIRING) state = State.ENDED;
    }

    /** How the lock was lost, null if it was not. */
    synchronized String loss() { return loss; }

    /** The time for which the lock is surely held, 0 if it is not. */
    synchronized long remainingNs(long nowNs) { return state == State.HELD ? Math.max(0, deadlineNs - nowNs) : 0; }

    /** When there is something to do: a renewal, or the end. */
    synchronized long wakeNs() {
        if (state != State.HELD) return NEVER_NS;
        return isRenewing ? deadlineNs : Math.min(renewNs, deadlineNs);
    }

    /** What a renewal asks for. */
    synchronized long timeoutNs() { return timeoutNs; }

    /** How long a renewal waits for its answer. */
    synchronized long patienceNs() { return Math.max(SECOND_NS / 5, Math.min(5 * SECOND_NS, timeoutNs / 6)); }

    static long after(long ns, long moreNs) { return moreNs >= NEVER_NS - Math.max(0, ns) ? NEVER_NS : ns + moreNs; }

    private void extend(long fromNs, long ttlNs, long nowNs) {
        long endNs = fromNs + ttlNs - margin(ttlNs);
        // Of two renewals that were under way together nobody knows which one the server carried out last.
        deadlineNs = fromNs < heardNs ? Math.min(deadlineNs, endNs) : endNs;
        heardNs = nowNs;
        failures = 0;
        isRenewing = false;
        renewNs = isRenewed ? fromNs + ttlNs / 3 : NEVER_NS;
    }

    /** What is taken off a lease for clocks that go at different speeds, and for the time that it takes to stop. */
    private static long margin(long ttlNs) { return Math.min(SECOND_NS, ttlNs / 10); }
}
