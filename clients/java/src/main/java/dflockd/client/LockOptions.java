package dflockd.client;

import java.time.Duration;
import java.util.Map;
import java.util.function.Consumer;

/** What an acquire is to do beyond the default. Each method returns a copy with one change. */
public final class LockOptions {
    Duration wait = Duration.ZERO;
    boolean isRenewed;
    Integer limit;
    Map<String, ?> metadata;
    Duration maxHold = DistributedLockClient.FOREVER;
    Runnable onLost;

    /** Tries once, renews nothing, takes a lock and no semaphore. */
    public LockOptions() {}

    /** How long to wait for the lock, in seconds; 0, the default, tries once. */
    public LockOptions waitTimeout(long seconds) { return waitTimeout(Duration.ofSeconds(seconds)); }

    /** How long to wait for the lock: zero, the default, tries once; {@link DistributedLockClient#FOREVER}. */
    public LockOptions waitTimeout(Duration wait) { return with(copy -> copy.wait = positive(wait, "waitTimeout")); }

    /** Whether this client renews the lock while it is held, each third of its timeout. */
    public LockOptions autoRenew(boolean isRenewed) { return with(copy -> copy.isRenewed = isRenewed); }

    /** Takes one of so many slots of the semaphore of this name, 1 to 1,048,576. All its users name the same limit. */
    public LockOptions limit(int limit) {
        if (limit < 1 || limit > 1 << 20)
            throw new IllegalArgumentException("limit " + limit + ": want 1 to 1,048,576, or none for a lock");
        return with(copy -> copy.limit = limit);
    }

    /** Others see it beside the lock: maps, lists, texts, numbers and booleans, at most 4 KiB as JSON. */
    public LockOptions metadata(Map<String, ?> metadata) { return with(copy -> copy.metadata = metadata); }

    /** After so many seconds the lock is renewed no more. */
    public LockOptions maxHold(long seconds) { return maxHold(Duration.ofSeconds(seconds)); }

    /** After so long the lock is renewed no more, so that it ends by its timeout; the default is never. */
    public LockOptions maxHold(Duration maxHold) { return with(copy -> copy.maxHold = positive(maxHold, "maxHold")); }

    /** Runs once, in a thread of its own, when the lock is lost. */
    public LockOptions onLost(Runnable onLost) { return with(copy -> copy.onLost = onLost); }

    private LockOptions with(Consumer<LockOptions> change) {
        LockOptions copy = new LockOptions();
        copy.wait = wait;
        copy.isRenewed = isRenewed;
        copy.limit = limit;
        copy.metadata = metadata;
        copy.maxHold = maxHold;
        copy.onLost = onLost;
        change.accept(copy);
        return copy;
    }

    private static Duration positive(Duration duration, String option) {
        if (duration.isNegative()) throw new IllegalArgumentException(option + " " + duration + ": want zero or more");
        return duration;
    }
}
