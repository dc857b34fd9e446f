package dflockd.client;

import java.util.concurrent.ThreadLocalRandom;

/**
 * The requests of one acquire: how long each of them waits at the server, and when a failed one is repeated. Like Lease
 * it knows no network and no clock.
 * Invariant: after a poll that lasted its time the next goes out at once, since the place in the queue is kept shortly.
 */
final class Polls {
    /** How long the server keeps the place between two polls, in seconds. */
    static final double KEEP_PLACE_S = 5;
    /** The longest poll; proxies end a request after 60 s. */
    static final long POLL_NS = 45_000_000_000L;
    /** How long after the wait a request may still be answered. */
    static final long PATIENCE_NS = 5_000_000_000L;
    /** How long a request that does not wait is repeated while connections are refused. */
    static final long REFUSED_NS = 100_000_000;

    private static final long SECOND_NS = 1_000_000_000L;

    private final long endNs;
    private final long refusedNs;
    private long longestNs;
    private int failures;

    Polls(long nowNs, long waitNs, long longestNs) {
        this.endNs = Lease.after(nowNs, waitNs);
        // A try outlives a restart that takes a moment.
        this.refusedNs = Math.max(endNs, nowNs + REFUSED_NS);
        this.longestNs = longestNs;
    }

    /** How long the server is to wait in a poll that is sent now. */
    long waitNs(long nowNs) { return Math.max(0, Math.min(longestNs, endNs - nowNs)); }

    /** Whether a poll that is sent now lasts until the end. */
    boolean isLast(long nowNs) { return endNs - nowNs <= longestNs; }

    /** How long a poll that is sent now is given for its answer. */
    long patienceNs(long nowNs) {
        return Math.max(1, Math.min(waitNs(nowNs) + PATIENCE_NS, Lease.after(endNs, PATIENCE_NS) - nowNs));
    }

    /** The poll was answered. Its successor goes out at once, but for an answer that came without any wait. */
    long answered(long sentNs, long nowNs) {
        failures = nowNs - sentNs >= waitNs(sentNs) / 2 ? 0 : failures + 1;
        return pauseNs(failures);
    }

    /**
     * The poll failed: no connection, no answer, or none of the server's own. Returns the pause before it is repeated,
     * negative if the time is over. `isCut` if there was no answer, or a proxy's: then its length may be why.
     */
    long failed(boolean isCut, long sentNs, long nowNs) {
        long lastedNs = nowNs - sentNs;
        if (isCut && lastedNs >= SECOND_NS) longestNs = Math.min(longestNs, Math.max(5 * SECOND_NS, lastedNs / 10 * 8));
        long pauseNs = pauseNs(++failures);
        // A request without an answer may have taken the lock, so it is repeated longer.
        long untilNs = isCut ? Lease.after(endNs, PATIENCE_NS) : refusedNs;
        return nowNs < untilNs ? Math.min(pauseNs, untilNs - nowNs) : -1;
    }

    /** The pause after so many failures: none, 50 ms, then double up to 2 s, with jitter. */
    static long pauseNs(int failures) {
        if (failures <= 1) return 0;
        long longestNs = Math.min(2 * SECOND_NS, SECOND_NS / 20 << Math.min(failures - 2, 6));
        return ThreadLocalRandom.current().nextLong(longestNs / 2, longestNs);
    }
}
