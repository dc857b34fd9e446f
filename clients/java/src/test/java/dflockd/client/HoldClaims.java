package dflockd.client;

import static dflockd.client.Suite.*;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

/** How a lock is kept, lost and released. */
final class HoldClaims {
    /** It waits, since the grant of a short lease may come too late on a busy machine. */
    private static final LockOptions RENEWED = new LockOptions().autoRenew(true).waitTimeout(20);

    private final Stage stage;

    HoldClaims(Stage stage) { this.stage = stage; }

    void addTo(Suite suite) {
        suite.claim("07 a lease of 1 s, renewed for 5 s, keeps its lockId and its fence", this::renewed);
        suite.claim("08 a stopped server: the lock is lost before its lease ends",
                () -> silence(server -> server.signal("STOP")));
        suite.claim("08b a silent network: the lock is lost before its lease ends",
                () -> silence(server -> server.order(".*", null, "swallow")));
        suite.claim("08c a lock that nobody renews is lost before its lease ends", this::notRenewed);
        suite.claim("09 a server that was killed and came back empty: the lock is lost at the first renewal",
                this::backEmpty);
        suite.claim("10 a lock that was released by force is lost within a third of its lease and 1 s, and the scoped "
                        + "form says so",
                this::released);
        suite.claim("10b a forced release is sent once; the one of a named hold is repeated", this::forced);
        suite.claim("11 a renewal survives two cut connections, a page of 502, and refusals for half of the lease",
                this::survives);
        suite.claim("15 a release whose answer was lost is true, and a second release sends no request",
                this::releaseAnswerLost);
        suite.claim("15b a release that is not confirmed is false and never throws", this::releaseUnconfirmed);
        suite.claim("16 no renewal follows the release", this::noneAfterRelease);
        suite.claim("16b no renewal follows the deadline", this::noneAfterDeadline);
        suite.claim("16c no renewal follows max_hold", this::noneAfterMaxHold);
        suite.claim("a renewal by hand sets the timeout of those that follow", this::renewedByHand);
        suite.claim("a shorter renewal without an answer counts, one that was refused does not", this::shortened);
        suite.claim("a shorter renewal that was never sent does not count", this::neverSent);
        suite.claim(
                "16d a renewal by hand is not repeated past the deadline, nor after the release", this::noneRepeated);
        suite.claim("an interrupted thread releases, and stays interrupted", this::interruptedRelease);
        suite.claim("an error in the block is not masked by the loss", this::suppressed);
        suite.claim("what runs at the loss runs once, and its errors stop nothing", this::callbacks);
    }

    /** It is lost if the machine stands still for more than half a second. */
    private void renewed() throws Exception { atBest(0, this::missing); }

    /** How many of 5 s a lease of 1 s was lost. */
    private double missing() throws Exception {
        Stage.Server server = stage.server();
        try (DistributedLockClient client = server.client()) {
            DistributedLock lock = client.acquire("k", 1, RENEWED);
            String id = lock.getLockId();
            long fence = lock.getFence();
            long end = System.nanoTime() + 5_000_000_000L;
            while (System.nanoTime() < end && !lock.isLost()) Thread.sleep(20);
            Object held = client.status("k").get("lockId");
            if (!lock.release()) return 5;
            equal(List.of(lock.getLockId(), lock.getFence()), List.of(id, fence), "lockId and fence");
            equal(held, id, "lockId at the server");
            int renewals = server.requests(".*renew").size();
            check(renewals >= 5, renewals + " renewals");
        }
        equal(server.requests(".*renew")
                        .stream()
                        .filter(each -> Answer.members(each.get("body")).containsKey("autoRenew"))
                        .count(),
                0L, "autoRenew");
        return 0;
    }

    private interface Fault {
        void strike(Stage.Server server);
    }

    /** The margin of a lease of 10 s is 1 s, so a machine that stands still may be that late. */
    private void silence(Fault fault) throws Exception { atBest(0, () -> lateness(fault)); }

    /** How long after the end of its lease the loss of a lock is told, which is a negative number of seconds. */
    private double lateness(Fault fault) throws Exception {
        Stage.Server server = stage.server();
        AtomicLong lostNs = new AtomicLong();
        DistributedLock lock = server.client().acquire("k", 10, RENEWED.onLost(() -> lostNs.set(BootClock.now())));
        await("a renewal", 60,
                ()
                        -> server.requests(".*renew").stream().anyMatch(
                                each -> Long.valueOf(200).equals(each.get("status"))));
        fault.strike(server);
        await("the loss", 60, () -> lostNs.get() != 0);
        List<Map<String, Object>> confirmed = server.requests(".*renew");
        confirmed.removeIf(each -> each.get("status") == null);
        double leaseBegan = ((Number) confirmed.get(confirmed.size() - 1).get("at")).doubleValue();
        double late = lostNs.get() / 1e9 - leaseBegan - 10;
        check(late > -4, "told far too early, " + late);
        thrown(LockLostError.class, lock::check);
        check(lock.isLost() && lock.remaining().isZero(), "a lock that is lost is held");
        check(seconds(() -> check(!lock.release(), "a lost lock was released")) < 3,
                "the release of a lost lock waits");
        thrown(LockLostError.class, lock::close);
        thrown(LockLostError.class, () -> lock.renew(2));
        server.signal("CONT");
        server.forgetOrders();
        return late;
    }

    private void notRenewed() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        atBest(0, () -> {
            AtomicLong lostNs = new AtomicLong();
            DistributedLock lock = client.acquire("k", Duration.ofSeconds(10),
                    new LockOptions().waitTimeout(30).onLost(() -> lostNs.set(BootClock.now())));
            await("the loss", 60, () -> lostNs.get() != 0);
            double late = lostNs.get() / 1e9 - server.last(".*acquire") - 10;
            equal(server.requests(".*renew").size(), 0, "renewals");
            thrown(LockLostError.class, lock::close);
            return late;
        });
    }

    private void backEmpty() throws Exception {
        Stage.Server server = stage.server();
        AtomicLong lostNs = new AtomicLong();
        DistributedLock lock = server.client().acquire("k", 9, RENEWED.onLost(() -> lostNs.set(BootClock.now())));
        server.restart();
        await("the loss", 60, () -> lostNs.get() != 0);
        List<Map<String, Object>> renewals = server.requests(".*renew");
        renewals.removeIf(each -> each.get("status") == null);
        for (Map<String, Object> each : renewals) equal(each.get("status"), 409L, "status");
        LockError told = thrown(LockLostError.class, lock::close);
        check(told.getMessage().contains("the server does not know it any more"), told.getMessage());
    }

    private void released() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        equal(thrown(LockNotHeldError.class, () -> client.forceRelease("k")).getCode(), "not-held", "code");
        thrown(LockLostError.class, () -> {
            CompletableFuture<Void> lost = new CompletableFuture<>();
            try (DistributedLock lock = client.acquire("k", 12, RENEWED)) {
                lock.onLost(() -> lost.complete(null));
                Thread.sleep(3000); // The renewal is due in 1 s then, and a third of the lease and 1 s are 5 s.
                equal(client.forceRelease("k").get("released"), true, "released");
                lost.get(5, TimeUnit.SECONDS);
                check(lock.isLost(), "not lost");
            }
        });
        // Without renewals the release learns it.
        LockError told = thrown(LockLostError.class, () -> {
            try (DistributedLock lock = client.acquire("k", 30)) {
                client.forceRelease(lock.getName());
            }
        });
        equal(told.getCode(), null, "code");
    }

    private void forced() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        client.acquire("k", 30);
        server.closeIdle();
        server.order("DELETE.*", 1, "cut", "at", 0);
        equal(thrown(LockUnavailableError.class, () -> client.forceRelease("k")).getCode(), "no-answer", "code");
        equal(server.requests("DELETE.*").size(), 1, "requests");
        DistributedLock next = client.acquire("k", 30);
        await("an idle connection", 30, () -> server.closeIdle() > 0);
        equal(client.forceRelease("k").get("released"), true, "released, though a kept connection had ended");
        DistributedLock named = client.acquire("k", 30);
        thrown(LockNotHeldError.class, () -> client.forceRelease("k", next.getLockId()));
        check(named.remaining().toSeconds() > 20 && !server.isIdle(), "another hold is ended");
        server.order("DELETE.*", 1, "cut", "at", 0);
        equal(client.forceRelease("k", named.getLockId()),
                Map.of("lockName", "k", "released", true, "locks", List.of(Map.of("lockId", named.getLockId()))),
                "released, though no answer came");
        check(server.isIdle(), "something is left");
        DistributedLock ended = client.acquire("pool", 30, new LockOptions().limit(2));
        DistributedLock kept = client.acquire("pool", 30, new LockOptions().limit(2));
        thrown(LockNotHeldError.class, () -> client.forceRelease("pool", ended.getLockId()));
        equal(client.forceRelease("pool", ended.getLockId(), true).get("released"), true, "a slot released");
        check(!ended.release() && kept.release(), "another slot is ended");
    }

    private void survives() throws Exception {
        Stage.Server server = stage.server();
        server.order(".*renew", 2, "cut", "at", 0);
        server.order(".*renew", 1, "say", "answer",
                "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<h1>502</h1>\r\n");
        DistributedLock lock = server.client().acquire("k", 12, RENEWED);
        await("four renewals", 60, () -> server.requests(".*renew").size() >= 4);
        await("a good one", 30,
                ()
                        -> server.requests(".*renew").stream().anyMatch(
                                each -> Long.valueOf(200).equals(each.get("status"))));
        server.refuse(6);
        check(!lock.isLost(), "lost by refusals");
        double refusedS = BootClock.now() / 1e9;
        await("a renewal after the refusals", 30,
                () -> server.last(".*renew") > refusedS && lock.remaining().toMillis() > 6000);
        check(lock.release(), "the release failed");
    }

    private void releaseAnswerLost() throws Exception {
        Stage.Server server = stage.server();
        DistributedLock lock = server.client().acquire("k", 30);
        server.order(".*release", 1, "cut", "at", 0);
        check(lock.release(), "a release that was carried out is false");
        int requests = server.requests(".*release").size();
        equal(requests, 2, "requests");
        check(lock.release(), "the second release is false");
        lock.close();
        equal(server.requests(".*release").size(), requests, "requests after the second");
        check(server.isIdle(), "something is left");
    }

    private void releaseUnconfirmed() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        server.order(".*release", null, "swallow");
        atBest(4, () -> {
            DistributedLock lock = client.acquire("k", 3, new LockOptions().waitTimeout(20));
            double took = seconds(() -> check(!lock.release(), "a release without an answer is true"));
            check(took > 0.5, "the release took " + took + " s");
            check(!lock.isLost(), "a release without an answer is a loss");
            lock.close();
            return took;
        });
        server.forgetOrders();
        DistributedLock refused = client.acquire("l", 30);
        server.order(".*release", 1, "say", "answer", ServerClaims.page(500, "{\"code\":\"internal\"}"));
        check(!refused.release(), "a release that failed is true");
        DistributedLock other = client.acquire("m", 30);
        server.order(".*release", 1, "say", "answer", ServerClaims.page(200, "{\"released\":false}"));
        check(!other.release(), "a release that the server does not confirm is true");
    }

    private void noneAfterRelease() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        for (int i = 0; i < 2; i++) {
            DistributedLock lock = client.acquire("k", 6, RENEWED);
            int renewals = server.requests(".*renew").size();
            // The second time the release overtakes a renewal.
            server.order(".*renew", 1, i == 0 ? "pass" : "delay", "seconds", 0.1);
            await("a renewal", 30, () -> server.requests(".*renew").size() > renewals);
            check(lock.release(), "the release failed");
            check(!lock.isLost(), "a renewal that came after the release made it a loss");
        }
        server.forgetRequests();
        Thread.sleep(3000);
        equal(server.requests(".*renew").size(), 0, "renewals after the release");
    }

    private void noneAfterDeadline() throws Exception {
        Stage.Server server = stage.server();
        DistributedLock lock = server.client().acquire("k", 6, RENEWED);
        server.order(".*renew", null, "swallow");
        await("the loss", 60, lock::isLost);
        check(server.requests(".*renew").size() >= 2, "not repeated");
        // What was sent before the deadline may come to the stage a little later.
        Thread.sleep(1500);
        server.forgetRequests();
        Thread.sleep(2500);
        equal(server.requests(".*renew").size(), 0, "renewals after the deadline");
        server.forgetOrders();
    }

    private void noneAfterMaxHold() throws Exception {
        Stage.Server server = stage.server();
        double beganS = BootClock.now() / 1e9;
        DistributedLock lock = server.client().acquire("k", 6, RENEWED.maxHold(5));
        await("the loss", 30, lock::isLost);
        double lostS = BootClock.now() / 1e9;
        check(lostS > beganS + 6, "lost after " + (lostS - beganS) + " s");
        check(server.requests(".*renew").size() >= 1, "not renewed before");
        check(server.last(".*renew") < lostS - 4, "a renewal after max_hold");
        server.forgetRequests();
        Thread.sleep(2500);
        equal(server.requests(".*renew").size(), 0, "renewals after the loss");
    }

    private void renewedByHand() throws Exception {
        Stage.Server server = stage.server();
        DistributedLock lock = server.client().acquire("k", 30, RENEWED);
        lock.renew(Duration.ofMillis(4500));
        check(lock.remaining().toMillis() <= 4060, "a shorter lease is not taken");
        await("a renewal", 60, () -> server.requests(".*renew").size() >= 2);
        Object body = server.requests(".*renew").get(1).get("body");
        equal(Answer.members(body).get("timeout"), 4.5, "timeout");
        lock.renew(60);
        check(lock.remaining().toSeconds() > 50, "a longer lease is not taken");
        LockError refused = thrown(LockRequestError.class, () -> lock.renew(301));
        check(refused.getMessage().endsWith("; check the arguments"), refused.getMessage());
        thrown(IllegalArgumentException.class, () -> lock.renew(0));
        lock.check();
        check(lock.release(), "the release failed");
        equal(thrown(LockNotHeldError.class, () -> lock.renew(30)).getCode(), null, "code");
    }

    private void shortened() throws Exception {
        Stage.Server server = stage.server();
        DistributedLock lock = server.client().acquire("k", 40);
        server.order(".*renew", 1, "say", "answer", ServerClaims.page(403, "{\"code\":\"forbidden\"}"));
        thrown(LockDeniedError.class, () -> lock.renew(10));
        check(lock.remaining().toSeconds() >= 20, "a renewal that was refused shortens the lease");
        server.order(".*renew", null, "swallow");
        long sentNs = BootClock.now();
        thrown(LockError.class, () -> lock.renew(10));
        check(lock.remaining().toSeconds() < 9, "without an answer it is held on");
        await("the loss", 60, lock::isLost);
        double lostS = (BootClock.now() - sentNs) / 1e9;
        check(lostS > 8 && lostS < 20, "lost " + lostS + " s after the send");
        server.forgetOrders();
    }

    private void neverSent() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = new DistributedLockClient(server.direct);
        DistributedLock lock = client.acquire("k", 40);
        server.signal("KILL");
        thrown(LockUnavailableError.class, client::health); // A request on a connection that was kept is a sent one.
        equal(thrown(LockUnavailableError.class, () -> lock.renew(10)).getCode(), "no-connection", "code");
        check(lock.remaining().toSeconds() > 20, "held for " + lock.remaining());
    }

    private void noneRepeated() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        DistributedLock lost = client.acquire("k", 30);
        server.order(".*k/renew", null, "cut", "at", 0);
        double beganS = BootClock.now() / 1e9;
        double took = seconds(() -> thrown(LockError.class, () -> lost.renew(3)));
        check(took < 4.5 && server.last(".*renew") < beganS + 3.7, "repeated for " + took + " s");
        DistributedLock released = client.acquire("l", 30);
        server.order(".*l/renew", null, "say", "answer", ServerClaims.page(502, ""));
        CompletableFuture<Void> renewal = CompletableFuture.runAsync(() -> released.renew(60), Transport.WORKERS);
        await("a repeat", 30, () -> server.requests(".*l/renew").size() >= 3);
        check(released.release(), "the release failed");
        double releasedS = server.last(".*l/release");
        thrown(ExecutionException.class, () -> renewal.get(10, TimeUnit.SECONDS));
        // What was sent before the release may come to the stage a little later.
        check(server.last(".*l/renew") < releasedS + 1.5, "repeated after the release");
    }

    private void interruptedRelease() throws Exception {
        Stage.Server server = stage.server();
        DistributedLock lock = server.client().acquire("k", 30);
        Thread.currentThread().interrupt();
        boolean isReleased = lock.release();
        check(Thread.interrupted(), "the interrupt is forgotten");
        check(isReleased && server.isIdle(), "the lock is held");
    }

    private void suppressed() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        IllegalStateException error = thrown(IllegalStateException.class, () -> {
            try (DistributedLock lock = client.acquire("k", 30)) {
                client.forceRelease(lock.getName());
                throw new IllegalStateException("of the block");
            }
        });
        check(error.getSuppressed()[0] instanceof LockLostError, "the loss is not told");
    }

    private void callbacks() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        AtomicInteger calls = new AtomicInteger();
        LockOptions options = RENEWED.onLost(() -> {
            calls.incrementAndGet();
            throw new IllegalStateException("of a callback");
        });
        DistributedLock lock = client.acquire("k", 4, options);
        DistributedLock other = client.acquire("l", 4, RENEWED);
        lock.onLost(calls::incrementAndGet);
        client.forceRelease("k");
        await("both calls", 60, () -> calls.get() == 2);
        lock.onLost(calls::incrementAndGet);
        await("a call at once", 60, () -> calls.get() == 3);
        check(!lock.release() && !lock.release(), "a lost lock was released");
        int renewals = server.requests(".*/l/renew").size();
        await("renewals of the other", 60, () -> server.requests(".*/l/renew").size() >= renewals + 3);
        other.check();
        equal(calls.get(), 3, "calls");
        check(other.release(), "the release failed");
    }
}
