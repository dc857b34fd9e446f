package dflockd.client;

import java.util.*;
import java.util.concurrent.*;

/**
 * Looks after all locks of a client: it has them renewed and sees them end. It has no thread; while locks are held it
 * is called when one of them has something to do, and once a second, since a machine may have slept.
 * Invariant: a call is planned that comes before what the first lock has to do.
 */
final class Keeper {
    private static final long TURN_NS = 1_000_000_000L;

    final Set<DistributedLock> locks = ConcurrentHashMap.newKeySet();
    /** What is being given back, by clientId and name: the next acquire of an actor would wait for itself. */
    final Map<List<String>, CompletableFuture<?>> returns = new ConcurrentHashMap<>();
    private long turnNs = Lease.NEVER_NS;

    /** A lock has something to do at this time. */
    synchronized void wake(long atNs) {
        long nowNs = BootClock.now();
        long nextNs = Math.min(atNs, nowNs + TURN_NS);
        boolean isPlanned = turnNs <= nextNs && nowNs < turnNs + TURN_NS;
        if (atNs == Lease.NEVER_NS || isPlanned) return;
        turnNs = nextNs;
        Transport.later(nextNs - nowNs, () -> turn(nextNs));
    }

    private void turn(long plannedNs) {
        synchronized (this) {
            if (plannedNs != turnNs) return; // An earlier call was planned since, and has planned all that follows.
            turnNs = Lease.NEVER_NS;
        }
        long nextNs = Lease.NEVER_NS;
        try {
            for (DistributedLock lock : locks) nextNs = Math.min(nextNs, lock.turn(BootClock.now()));
        } catch (RuntimeException | Error e) {
            nextNs = BootClock.now() + TURN_NS / 10; // Perhaps no thread was to be had; the next call tries again.
            throw e;
        } finally {
            wake(nextNs);
        }
    }
}
