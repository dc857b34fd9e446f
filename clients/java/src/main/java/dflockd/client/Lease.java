package dflockd.client;

import java.util.*;

/**
 * The life of one hold: acquiring, held, releasing, ended. It is told what was sent and heard, and when, and says until
 * when the lock is held and when it is to be renewed. It knows no network and no clock: times are nanoseconds of a
 * clock that its callers read.
 * Invariants: what is lost or given up is never held again, and each end is reported by one call only. The deadline is
 * before the end of the lease at the server, whichever of the renewals that are not settled it carries out.
 */
final class Lease {
    /** A time that never comes. */
    static final long NEVER_NS = Long.MAX_VALUE;

    private static final long SECOND_NS = 1_000_000_000L;
    /** How long a renewal without an answer may still be on its way to the server. */
    private static final long DOUBT_NS = 60 * SECOND_NS;

    /** A renewal that was sent, and that the server may carry out until it is settled. */
    static final class Renewal {
        final long askedNs;
        private final long beforeNs;
        private long doubtEndNs = NEVER_NS;

        private Renewal(long askedNs, long beforeNs) {
            this.askedNs = askedNs;
            this.beforeNs = beforeNs;
        }
    }

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
    private final List<Renewal> unsettled = new ArrayList<>();
    private Renewal last;

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

    /**
     * A renewal is about to be sent. A shorter one counts from now on, since the server may carry it out and not be
     * able to say so.
     */
    synchronized Renewal renewalSent(long nowNs, long askedNs) {
        last = new Renewal(askedNs, deadlineNs);
        unsettled.add(last);
        deadlineNs = Math.min(deadlineNs, after(nowNs, askedNs - margin(askedNs)));
        return last;
    }

    /** The renewal has been answered or given up. If it is uncertain, it may come to the server later than others. */
    synchronized void settle(Renewal renewal, boolean isUncertain, long nowNs) {
        renewal.doubtEndNs = isUncertain ? after(nowNs, DOUBT_NS) : nowNs;
        unsettled.removeIf(each -> nowNs >= each.doubtEndNs);
    }

    /** The server has not carried the renewal out, and never will: unless more was sent since, nothing has changed. */
    synchronized void restore(Renewal renewal) {
        if (renewal == last) deadlineNs = renewal.beforeNs;
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

    /** How long a renewal that was begun waits for its answer: not past the deadline, which it may have moved. */
    synchronized long patienceNs(long nowNs) {
        long mostNs = Math.max(SECOND_NS / 5, Math.min(5 * SECOND_NS, timeoutNs / 6));
        return Math.max(1, Math.min(mostNs, deadlineNs - nowNs));
    }

    /** Whether a renewal may be sent: the lock is held, or its grant is renewed before it is handed out. */
    synchronized boolean isRenewable(long nowNs) {
        return nowNs < deadlineNs && (state == State.HELD || state == State.ACQUIRING);
    }

    static long after(long ns, long moreNs) { return moreNs >= NEVER_NS - Math.max(0, ns) ? NEVER_NS : ns + moreNs; }

    private void extend(long fromNs, long grantedNs, long nowNs) {
        long ttlNs = grantedNs;
        for (Renewal each : unsettled)
            if (nowNs < each.doubtEndNs) ttlNs = Math.min(ttlNs, each.askedNs);
        last = null;
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
