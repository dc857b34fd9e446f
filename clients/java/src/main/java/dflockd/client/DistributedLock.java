package dflockd.client;

import java.lang.System.Logger.Level;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * A lock that this program holds until it is released or lost. Any thread may use it. It is lost when the server does
 * not know it any more, or when its time is over and no renewal was confirmed; then {@link #check} throws, and what was
 * given to {@link #onLost} runs.
 */
public final class DistributedLock implements AutoCloseable {
    private static final System.Logger LOG = System.getLogger("dflockd.client");
    private static final long SECOND_NS = 1_000_000_000L;

    final DistributedLockClient client;
    private final Transport transport;
    private final Lease lease;
    private final String name;
    private final String path;
    private final String clientId;
    private final CompletableFuture<Void> closed = new CompletableFuture<>();
    private final CompletableFuture<Void> acquired = new CompletableFuture<>();
    private final List<Runnable> callbacks = new ArrayList<>();
    private final AtomicBoolean isReleasing = new AtomicBoolean();
    private final CompletableFuture<Boolean> released = new CompletableFuture<>();
    private String requestId = DistributedLockClient.random(128);
    private int requests;
    private boolean isDoubtful;
    private volatile Answer grant;

    DistributedLock(DistributedLockClient client, Transport transport, String name, String clientId, Lease lease) {
        this.client = client;
        this.transport = transport;
        this.name = name;
        this.path = "/locks/" + DistributedLockClient.encode(name);
        this.clientId = clientId;
        this.lease = lease;
    }

    /** Polls until the lock is granted, the wait is over, the thread is interrupted or the client is closed. */
    DistributedLock acquire(Map<String, Object> asked, long waitNs, long pollNs) {
        client.keeper.locks.add(this);
        try {
            if (client.isClosed()) throw stopped("closed");
            requireGoingOn();
            Polls polls = new Polls(BootClock.now(), waitNs, pollNs);
            CompletableFuture<?> before = client.keeper.returns.get(List.of(clientId, name));
            if (before != null) await(before);
            boolean isHeld = false;
            while (!isHeld) isHeld = poll(asked, polls);
            client.keeper.wake(lease.wakeNs());
            acquired.complete(null);
            return this;
        } catch (RuntimeException | Error e) {
            lease.giveUp();
            if (isDoubtful) abandon().thenRun(this::forget);
            else forget();
            throw e;
        }
    }

    private void forget() {
        client.keeper.locks.remove(this);
        acquired.complete(null);
    }

    /**
     * The time for which the lock is surely held, by a clock that goes on while the machine sleeps; zero if it is not.
     */
    public Duration remaining() {
        long nowNs = BootClock.now();
        expire(nowNs);
        return Duration.ofNanos(lease.remainingNs(nowNs));
    }

    /**
     * Does nothing if the lock is held.
     * @throws LockLostError if it was lost
     * @throws LockNotHeldError if it was released
     */
    public void check() {
        if (isLost())
            throw new LockLostError(
                    Answer.none(""), "lock " + name + " is lost: " + lease.loss() + "; stop the work that it protects");
        if (remaining().isZero())
            throw new LockNotHeldError(Answer.none(""), "lock " + name + " has been released; acquire it anew");
    }

    /** Whether the lock ended otherwise than by its release. Once lost it stays lost. */
    public boolean isLost() {
        expire(BootClock.now());
        return lease.loss() != null;
    }

    /** Runs once, in a thread of its own, when the lock is lost; at once if it is lost already. */
    public void onLost(Runnable callback) {
        synchronized (callbacks) { callbacks.add(callback); }
        if (isLost()) tellLoss();
    }

    /** As {@link #renew(Duration)}, in seconds. */
    public void renew(long timeoutSeconds) { renew(Duration.ofSeconds(timeoutSeconds)); }

    /**
     * Makes the lease that long from now, 0.1 s to what the server allows; automatic renewals use it, too. Takes 5 s at
     * most, or a sixth of the present timeout.
     * @throws LockLostError if the lock was lost
     * @throws LockUnavailableError if no answer came. The lock is held until its deadline, or for that long from now if
     *     this is earlier: the server may have heard it. For a minute renewals make the lease no longer than that.
     */
    public void renew(Duration timeout) {
        long askedNs = DistributedLockClient.leaseNs(timeout);
        check();
        Lease.Renewal renewal = lease.renewalSent(BootClock.now(), askedNs);
        client.keeper.wake(lease.wakeNs());
        Answer answer = ask(renewal, null);
        boolean isRenewed = hear(answer, renewal);
        check();
        if (!isRenewed) throw answer.error("renewal of lock " + name, transport.url);
    }

    /**
     * Ends the hold. True if the server confirmed it. False if the lock was lost before, or if no answer came within 5
     * s; then it ends by its lease. Never throws; the second and later calls return what the first did.
     */
    public boolean release() {
        if (!isReleasing.getAndSet(true)) {
            try {
                released.complete(sendRelease());
            } finally {
                released.complete(false); // Unless it was completed.
            }
        }
        return released.join();
    }

    /**
     * Releases the lock.
     * @throws LockLostError if it was lost; beside an exception of the block it is a suppressed one
     */
    @Override
    public void close() {
        release();
        if (isLost()) check();
    }

    /** The name of the lock. */
    public String getName() { return name; }

    /** The public name of this hold, "lock-" and 16 hex digits. */
    public String getLockId() { return grant.text("lockId"); }

    /** Who holds the lock, as others see it. */
    public String getClientId() { return clientId; }

    /** 16 hex digits; they are greater at each later grant of this lock, also compared as text. */
    public String getFencingToken() { return grant.text("fencingToken"); }

    /** The fencing token as a number, unsigned: see {@link Long#compareUnsigned}. */
    public long getFence() { return Long.parseUnsignedLong(getFencingToken(), 16); }

    @Override
    public String toString() {
        return "DistributedLock[" + name + ", " + (grant == null ? "acquiring" : getLockId() + ", " + remaining())
                + "]";
    }

    /** Does what is due, and returns when something is due next. */
    long turn(long nowNs) {
        expire(nowNs);
        if (lease.beginRenewal(nowNs)) {
            Lease.Renewal renewal = lease.renewalSent(nowNs, lease.timeoutNs());
            long patienceNs = lease.patienceNs(nowNs);
            Transport.start(() -> {
                Answer answer = transport.exchange("POST", path + "/renew", body(renewal), patienceNs, null);
                if (!hear(answer, renewal)) lease.notRenewed(answer.isUnanswered(), BootClock.now());
                client.keeper.wake(lease.wakeNs());
            });
        }
        return lease.wakeNs();
    }

    int requests() { return requests; }

    /**
     * Ends the hold, or an acquire that is under way; a grant that crosses this is given back. The future tells when
     * nothing of it is left to send.
     */
    CompletableFuture<?> end() {
        lease.giveUp();
        closed.complete(null);
        return acquired.thenRunAsync(this::release, Transport::start);
    }

    /** In this thread. An interrupt is kept for later. */
    private boolean sendRelease() {
        long nowNs = BootClock.now();
        expire(nowNs);
        long patienceNs = Math.min(5 * SECOND_NS, Math.max(SECOND_NS, lease.remainingNs(nowNs)));
        if (!lease.beginRelease()) {
            if (isLost()) abandon();
            return false;
        }
        Map<String, Object> body =
                new HashMap<>(Map.of("clientId", clientId, "renewalToken", grant.text("renewalToken")));
        if (requests > 1) body.put("requestId", requestId);
        Answer answer = transport.call("POST", path + "/release", body, patienceNs, patienceNs);
        boolean isGone = answer.code().equals("not-held");
        boolean isConfirmed = answer.isOk() && answer.body.get("released") == Boolean.TRUE || isGone && answer.isRepeat;
        lease.endRelease(isGone && !isConfirmed ? "it had ended before its release" : null);
        client.keeper.locks.remove(this);
        if (isGone && !isConfirmed) tellLoss();
        else if (!isConfirmed)
            LOG.log(Level.WARNING, "{0}; it ends by its lease",
                    answer.error("release of lock " + name, transport.url).getMessage());
        return isConfirmed;
    }

    /** One poll and what follows from its answer. True if the lock is held. */
    private boolean poll(Map<String, Object> asked, Polls polls) {
        long sentNs = BootClock.now();
        boolean isLast = polls.isLast(sentNs);
        Map<String, Object> body = new HashMap<>(asked);
        body.putAll(Map.of("clientId", clientId, "requestId", requestId, "timeout", seconds(lease.timeoutNs())));
        body.put("waitTimeout", seconds(polls.waitNs(sentNs)));
        if (!isLast) body.put("keepPlace", Polls.KEEP_PLACE_S);
        boolean wasDoubtful = isDoubtful;
        isDoubtful = true;
        requests++;
        Answer answer = transport.exchange("POST", path + "/acquire", body, polls.patienceNs(sentNs), closed);
        if (answer.failure != null) requireGoingOn();
        long nowNs = BootClock.now();
        if (answer.isGrant(name, clientId)) {
            if (take(answer, nowNs)) return true;
            if (polls.waitNs(nowNs) == 0)
                throw new LockTimeoutError(Answer.none(""),
                        "lock " + name + ": the answer came too late for its lease; use a longer timeout", "late");
            return false;
        }
        isDoubtful = wasDoubtful || !isLast || answer.isDoubtful(); // A poll that is not the last leaves its place.
        long pauseNs = -1;
        if (answer.isWorthRepeating() || answer.reason().equals("superseded"))
            pauseNs = polls.failed(answer.isUnanswered() || answer.isFromProxy(), sentNs, nowNs);
        else if (answer.isMiss() && !isLast && !answer.reason().equals("cancelled"))
            pauseNs = polls.answered(sentNs, nowNs);
        if (pauseNs < 0) throw answer.error("acquire of lock " + name, transport.url);
        if (!Transport.pause(pauseNs, closed)) requireGoingOn();
        return false;
    }

    /** Takes the grant, renewed first if it came late. False if that failed: then it was given back. */
    private boolean take(Answer answer, long nowNs) {
        grant = answer;
        long waitedNs = Math.min(answer.ns("waitTime"), nowNs - answer.sentNs);
        long fromNs = answer.sentNs + waitedNs / 1000 * 999;
        if (Lease.isLate(fromNs, answer.ns("ttl"), nowNs)) {
            Lease.Renewal renewal = lease.renewalSent(nowNs, lease.timeoutNs());
            answer = ask(renewal, closed);
            nowNs = BootClock.now();
            lease.settle(renewal, isUncertain(answer), nowNs);
            fromNs = answer.sentNs;
            if (!isRenewal(answer) || Lease.isLate(fromNs, answer.ns("ttl"), nowNs)) {
                await(abandon()); // While this hold is there, the next poll of the same actor is a deadlock.
                requestId = DistributedLockClient.random(128); // The server remembers the old one as ended.
                requests = 0;
                isDoubtful = false;
                return false;
            }
        }
        if (!lease.grant(fromNs, answer.ns("ttl"), nowNs)) throw stopped("closed");
        return true;
    }

    /** Waits for what is done elsewhere. */
    private void await(CompletableFuture<?> done) {
        try {
            CompletableFuture.anyOf(done, closed).get();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } catch (ExecutionException e) {
            throw new AssertionError("an exchange does not fail", e);
        }
        requireGoingOn();
    }

    /** The interrupt of this thread and the end of the client end an acquire. */
    private void requireGoingOn() {
        if (closed.isDone()) throw stopped("closed");
        if (Thread.currentThread().isInterrupted()) throw stopped("");
    }

    private LockError stopped(String code) {
        String why = code.isEmpty() ? "its thread was interrupted" : "the client was closed";
        String told = "acquire of lock " + name + " was ended: " + why;
        return code.isEmpty() ? new LockError(Answer.none(code), told)
                              : new LockUnavailableError(Answer.none(code), told);
    }

    /** Takes the answer to a renewal. Whether the lock is held longer now. */
    private boolean hear(Answer answer, Lease.Renewal renewal) {
        long nowNs = BootClock.now();
        lease.settle(renewal, isUncertain(answer), nowNs);
        if (answer.isUndone()) lease.restore(renewal);
        expire(nowNs);
        if (answer.code().equals("not-held") && lease.lose("the server does not know it any more")) tellLoss();
        boolean isRenewed = isRenewal(answer) && lease.renewed(answer.sentNs, renewal.askedNs, answer.ns("ttl"), nowNs);
        if (isRenewed) client.keeper.wake(lease.wakeNs());
        return isRenewed;
    }

    private boolean isRenewal(Answer answer) {
        return answer.isGrant(name, clientId) && getLockId().equals(answer.text("lockId"));
    }

    /** Whether a renewal may be carried out later, though this is the answer to it. */
    private boolean isUncertain(Answer answer) { return answer.isRepeat || answer.isDoubtful() && !isRenewal(answer); }

    private Answer ask(Lease.Renewal renewal, CompletableFuture<Void> stop) {
        long patienceNs = lease.patienceNs(BootClock.now());
        return transport.call("POST", path + "/renew", body(renewal), patienceNs, patienceNs,
                answer -> lease.isRenewable(BootClock.now()), stop);
    }

    private Map<String, Object> body(Lease.Renewal renewal) {
        return Map.of(
                "clientId", clientId, "renewalToken", grant.text("renewalToken"), "timeout", seconds(renewal.askedNs));
    }

    /** Ends this attempt in the background, whatever has become of it. */
    private CompletableFuture<Void> abandon() {
        Map<String, Object> body = Map.of("clientId", clientId, "requestId", requestId);
        List<String> whose = List.of(clientId, name);
        CompletableFuture<Void> end = new CompletableFuture<>();
        client.keeper.returns.put(whose, end);
        Transport.start(() -> {
            transport.call("POST", path + "/release", body, 3 * SECOND_NS, SECOND_NS);
            client.keeper.returns.remove(whose, end);
            end.complete(null);
        });
        return end;
    }

    private void expire(long nowNs) {
        if (lease.expire(nowNs)) tellLoss();
    }

    private void tellLoss() {
        client.keeper.locks.remove(this);
        synchronized (callbacks) {
            for (Runnable callback : callbacks) Transport.start(() -> run(callback));
            callbacks.clear();
        }
    }

    private void run(Runnable callback) {
        try {
            callback.run();
        } catch (RuntimeException | Error e) {
            LOG.log(Level.ERROR, "what was to run at the loss of lock " + name + " failed", e);
        }
    }

    /** Whole milliseconds, upwards: a wait is not over before its time. */
    private static double seconds(long ns) { return Math.ceil(ns / 1e6) / 1e3; }
}
