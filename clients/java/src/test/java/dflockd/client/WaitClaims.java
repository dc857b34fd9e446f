package dflockd.client;

import static dflockd.client.Suite.*;

import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

/** How a lock is come by: tries, waits, late answers, lost answers, and what is given up. */
final class WaitClaims {
    private static final LockOptions WAIT = new LockOptions().waitTimeout(30);

    private final Stage stage;

    WaitClaims(Stage stage) { this.stage = stage; }

    void addTo(Suite suite) {
        suite.work("12 an answer to acquire that is cut at each byte: one grant, none left after the release",
                this::cutAtEachByte);
        suite.work("14 an acquire that is cancelled around its grant, 100 times: nothing is held after 4 s",
                this::cancelledAroundItsGrant);
        suite.work("30 25 clients and one key: a file that only a holder may create is never there before",
                this::aFileJudges);
        suite.claim("03 three waiters keep their order over five polls each", this::waitersKeepTheirOrder);
        suite.claim("02 a try on a held lock ends within 0.5 s, and nothing is queued", this::aTry);
        suite.claim(
                "04 a wait of 1.5 s ends after 1.5 to 2 s, and leaves neither a waiter nor a hold", this::aWaitEnds);
        suite.claim("05 the deadline of an answer that comes 1 s late counts from the send", this::countedFromTheSend);
        suite.claim("06 a lock whose answer comes later than its lease is never handed out", this::laterThanItsLease);
        suite.claim("06b a grant that comes after half of its lease is renewed before it is handed out",
                this::afterHalfItsLease);
        suite.claim("13d a wait that is refused after its first poll leaves no place", this::leftPlace);
        suite.claim("20b an actor that gave up waits for its give-back, and not for itself", this::ownGiveBack);
        suite.claim("06c an actor that gives a late grant back is not in its own way", this::givenBack);
        suite.claim("13 a wait that is cancelled leaves no waiter after 1 s, also behind a proxy that hides it",
                this::cancelledWait);
        suite.claim("13c a release that overtakes the acquire that was given up wins", this::overtaken);
        suite.claim("15c after a repeated acquire the release names the attempt, so that a late copy takes nothing",
                this::namedRelease);
        suite.claim("13b a client that is closed ends its waits and releases its locks", this::closedClient);
        suite.work("17 fences rise, and are exact in every type", this::fences);
        suite.work("18 a limit of 3 and ten clients: never four, and another limit is refused", this::semaphore);
        suite.claim("20 two actors that wait for each other: the later is refused with the cycle, the other served",
                this::deadlock);
        suite.claim("arguments that no server would take are refused before any request", this::arguments);
    }

    private void aTry() throws Exception {
        Stage.Server server = stage.server();
        try (DistributedLockClient holder = server.client(); DistributedLockClient other = server.client()) {
            holder.acquire("k", 30);
            other.health();
            atBest(0.5, () -> seconds(() -> check(other.tryAcquire("k", 30).isEmpty(), "a held lock was granted")));
            LockTimeoutError late = thrown(LockTimeoutError.class, () -> other.acquire("k", 30));
            equal(late.getReason(), "timeout", "reason");
            equal(late.getCode(), null, "code");
            equal(late.getStatus(), 200, "status");
            equal(server.waiters("k"), 0L, "waiters");
        }
    }

    private void waitersKeepTheirOrder() throws Exception {
        Stage.Server server = stage.server();
        DistributedLock held = server.client().acquire("k", 30);
        List<Integer> served = Collections.synchronizedList(new ArrayList<>());
        List<Body> waiters = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            int number = i;
            ClientOptions options = new ClientOptions().pollNs(200_000_000L).clientId("waiter-" + number);
            waiters.add(() -> {
                await("the waiters before are queued", 30, () -> server.waiters("k") == number);
                try (DistributedLock lock = new DistributedLockClient(server.url, options).acquire("k", 30, WAIT)) {
                    lock.check();
                    served.add(number);
                }
            });
        }
        waiters.add(() -> {
            for (int i = 0; i < 3; i++) {
                String id = "waiter-" + i;
                await("five polls", 60,
                        ()
                                -> server.requests(".*acquire")
                                           .stream()
                                           .filter(each -> id.equals(Answer.members(each.get("body")).get("clientId")))
                                           .count()
                                >= 6);
            }
            check(held.release(), "the release failed");
        });
        together(waiters);
        equal(served, List.of(0, 1, 2), "order");
    }

    private void aWaitEnds() throws Exception {
        Stage.Server server = stage.server();
        try (DistributedLockClient holder = server.client(); DistributedLockClient other = server.client()) {
            DistributedLock held = holder.acquire("k", 30);
            other.health();
            LockOptions wait = new LockOptions().waitTimeout(Duration.ofMillis(1500));
            atBest(2, () -> {
                double took = seconds(() -> thrown(LockTimeoutError.class, () -> other.acquire("k", 30, wait)));
                check(took >= 1.4, "the wait took " + took + " s");
                equal(server.waiters("k"), 0L, "waiters");
                return took;
            });
            check(held.release(), "the release failed");
            check(server.isIdle(), "something is left");
        }
    }

    private void countedFromTheSend() throws Exception {
        Stage.Server server = stage.server();
        server.order(".*acquire", 1, "delay", "seconds", 1);
        DistributedLock lock = server.client().acquire("k", 30);
        double deadline = BootClock.now() / 1e9 + lock.remaining().toNanos() / 1e9;
        double sent = server.last(".*acquire");
        check(deadline <= sent + 29.02, "the deadline is " + (deadline - sent) + " s after the send came");
        check(deadline >= sent + 25, "the deadline is too early, " + (deadline - sent) + " s after the send came");
        server.order(".*renew", 1, "delay", "seconds", 1);
        lock.renew(30);
        double renewed = BootClock.now() / 1e9 + lock.remaining().toNanos() / 1e9;
        check(renewed <= server.last(".*renew") + 29.02, "the renewal counts from its answer");
        check(lock.release(), "the release failed");
    }

    private void laterThanItsLease() throws Exception {
        Stage.Server server = stage.server();
        try (DistributedLockClient client = server.client()) {
            server.order(".*acquire", 1, "delay", "seconds", 3.5);
            equal(thrown(LockTimeoutError.class, () -> client.acquire("k", 3)).getReason(), "late", "reason");
            await("nothing is held", 30, server::isIdle);
            server.forgetRequests();
            server.order(".*acquire", 1, "delay", "seconds", 3.5);
            DistributedLock lock = client.acquire("k", 3, WAIT);
            check(lock.remaining().toMillis() >= 500, "handed out with " + lock.remaining());
            lock.check();
            List<Map<String, Object>> sent = server.requests(".*acquire");
            equal(sent.size(), 2, "acquires");
            check(!Answer.members(sent.get(0).get("body"))
                            .get("requestId")
                            .equals(Answer.members(sent.get(1).get("body")).get("requestId")),
                    "the attempt that was given back goes on");
            lock.release();
        }
    }

    private void afterHalfItsLease() throws Exception {
        Stage.Server server = stage.server();
        server.order(".*acquire", 1, "delay", "seconds", 8);
        DistributedLock lock = server.client().acquire("k", 16, WAIT);
        check(server.requests(".*renew").size() >= 1, "not renewed");
        double deadline = BootClock.now() / 1e9 + lock.remaining().toNanos() / 1e9;
        check(deadline <= server.last(".*renew") + 15.02, "counted from the answer");
        check(lock.remaining().toMillis() > 8000, "handed out with " + lock.remaining());
        check(lock.release(), "the release failed");
    }

    private void givenBack() throws Exception {
        Stage.Server server = stage.server();
        server.order(".*acquire", 1, "delay", "seconds", 4.4);
        server.order(".*renew", 1, "say", "answer", ServerClaims.page(500, "{\"code\":\"internal\"}"));
        server.order(".*release", 1, "hold", "seconds", 0.5);
        DistributedLock lock = server.client().actor("actor").acquire("k", 8, WAIT);
        equal(server.requests(".*acquire").size(), 2, "acquires");
        check(lock.release(), "the release failed");
    }

    private void leftPlace() throws Exception {
        Stage.Server server = stage.server();
        server.observer().acquire("k", 60);
        DistributedLockClient client = new DistributedLockClient(server.url, new ClientOptions().pollNs(200_000_000L));
        CompletableFuture<DistributedLock> waits =
                CompletableFuture.supplyAsync(() -> client.acquire("k", 30, WAIT), Transport.WORKERS);
        await("two polls", 30, () -> server.requests(".*acquire").size() >= 2);
        server.order(".*acquire", 1, "say", "answer", ServerClaims.page(401, "{\"code\":\"unauthorized\"}"));
        check(thrown(ExecutionException.class, waits::get).getCause() instanceof LockDeniedError, "not denied");
        await("no waiter", 4, () -> server.waiters("k") == 0); // A place is kept for 5 s.
    }

    private void ownGiveBack() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient actor = server.client().actor("actor");
        server.order(".*acquire", 1, "delay", "seconds", 5);
        server.order(".*release", 1, "hold", "seconds", 0.5);
        AtomicReference<Throwable> ended = new AtomicReference<>();
        Thread waiter = waiting(actor, "k", ended);
        await("a hold", 30, () -> server.observer().status("k").get("locked").equals(true));
        waiter.interrupt();
        waiter.join();
        check(actor.acquire("k", 30, WAIT).release(), "the release failed");
        equal(((LockError) ended.get()).getCode(), null, "code");
    }

    private void cutAtEachByte() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        int length = 560;
        List<Body> parts = new ArrayList<>();
        AtomicInteger cuts = new AtomicInteger();
        for (int part = 0; part < 4; part++) {
            int first = part;
            parts.add(() -> {
                for (int at = first; at < length; at += 4) {
                    String name = "k" + at;
                    server.order("/locks/" + name + "/acquire", 1, "cut", "at", at);
                    DistributedLock lock = client.acquire(name, 30, WAIT);
                    check(lock.release(), "the release failed, cut at " + at);
                    if (lock.requests() > 1) cuts.incrementAndGet();
                }
            });
        }
        together(parts);
        Map<String, Object> stats = client.stats();
        equal(stats.get("totalAcquired"), (long) length, "grants");
        check(server.isIdle(), "something is left");
        check(cuts.get() > 400 && cuts.get() < length, "an answer has some 500 bytes, and " + cuts.get() + " were cut");
    }

    private void cancelledWait() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        DistributedLock held = client.acquire("k", 60);
        for (String order : List.of("pass", "hide")) {
            atBest(1, () -> {
                server.order(".*acquire", 1, order);
                AtomicReference<Throwable> ended = new AtomicReference<>();
                Thread waiter = waiting(client, "k", ended);
                await("a waiter", 30, () -> server.waiters("k") == 1);
                waiter.interrupt();
                double took = await("no waiter", 30, () -> server.waiters("k") == 0);
                waiter.join();
                equal(((LockError) ended.get()).getCode(), null, "code");
                return took;
            });
        }
        check(held.release(), "the release failed");
        check(server.isIdle(), "something is left");
    }

    private void overtaken() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        server.order(".*acquire", 1, "hold", "seconds", 3);
        AtomicReference<Throwable> ended = new AtomicReference<>();
        Thread waiter = waiting(client, "k", ended);
        await("the acquire", 30, () -> server.requests(".*acquire").size() == 1);
        waiter.interrupt();
        await("the release", 30,
                ()
                        -> server.requests(".*release")
                                .stream()
                                .anyMatch(each -> Long.valueOf(200).equals(each.get("status"))));
        Thread.sleep(3500); // The acquire comes to the server meanwhile.
        check(server.isIdle(), "something is left");
    }

    private void namedRelease() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        for (boolean isCut : List.of(false, true)) {
            if (isCut) server.order(".*acquire", 1, "cut", "at", 0);
            server.forgetRequests();
            check(client.acquire("k", 30).release(), "the release failed");
            Map<String, Object> body = Answer.members(server.requests(".*release").get(0).get("body"));
            equal(body.containsKey("requestId"), isCut, "a requestId in the release");
        }
    }

    private static Thread waiting(DistributedLockClient client, String name, AtomicReference<Throwable> ended) {
        Thread waiter = new Thread(() -> {
            try {
                client.acquire(name, 60, WAIT);
            } catch (LockError e) {
                ended.set(Thread.currentThread().isInterrupted() || "closed".equals(e.getCode())
                                ? e
                                : new AssertionError("the interrupt is forgotten", e));
            }
        });
        waiter.start();
        return waiter;
    }

    private void cancelledAroundItsGrant() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        Random random = new Random(14);
        AtomicInteger granted = new AtomicInteger();
        for (int round = 0; round < 10; round++) {
            List<Body> pairs = new ArrayList<>();
            for (int pair = 0; pair < 10; pair++) {
                String name = "k" + round + "-" + pair;
                int afterUs = random.nextInt(4000);
                if (pair % 3 == 0) server.order("/locks/" + name + "/acquire", null, "hide");
                pairs.add(() -> {
                    DistributedLock held = client.acquire(name, 60);
                    Thread waiter = new Thread(() -> {
                        try {
                            client.acquire(name, 60, WAIT);
                            granted.incrementAndGet();
                            client.status(name);
                        } catch (LockError e) {
                            // It was cancelled in time.
                        }
                    });
                    waiter.start();
                    await("a waiter", 30, () -> server.waiters(name) == 1);
                    CompletableFuture<Boolean> released =
                            CompletableFuture.supplyAsync(held::release, Transport.WORKERS);
                    TimeUnit.MICROSECONDS.sleep(afterUs);
                    waiter.interrupt();
                    waiter.join();
                    check(released.join(), "the release failed");
                });
            }
            together(pairs);
        }
        // A waiter that was served in spite of its interrupt holds its lock rightly.
        await("nothing else is held", 4,
                ()
                        -> (Long) client.stats().get("activeLocks") == granted.get()
                        && (Long) client.stats().get("waitingRequests") == 0);
        check(granted.get() < 100, "no acquire was cancelled in time");
        client.close();
        check(server.isIdle(), "something is left");
    }

    private void closedClient() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        DistributedLock held = client.acquire("k", 60);
        client.acquire("l", 60);
        DistributedLockClient actor = client.actor("actor");
        actor.acquire("m", 60);
        actor.close();
        check(!held.isLost() && held.remaining().toSeconds() > 30, "an actor ends what is not its own");
        equal(client.stats().get("activeLocks"), 2L, "locks");
        AtomicReference<Throwable> ended = new AtomicReference<>();
        DistributedLock others = server.observer().acquire("w", 60);
        server.order(".*acquire", 1, "hide");
        Thread waiter = waiting(client, "w", ended);
        await("a waiter", 30, () -> server.waiters("w") == 1);
        server.order(".*w/release", 1, "hold", "seconds", 0.5);
        client.close();
        equal(server.waiters("w"), 0L, "waiters");
        check(others.release() && server.isIdle(), "something is left");
        waiter.join(10_000);
        equal(((LockError) ended.get()).getCode(), "closed", "code");
        for (Body each : List.<Body>of(()
                                               -> client.acquire("k", 30),
                     client::stats, client::health, client::locks,
                     () -> client.status("k"), () -> client.forceRelease("k"), () -> actor.status("k")))
            equal(thrown(LockUnavailableError.class, each).getCode(), "closed", "code");
        thrown(LockNotHeldError.class, held::check);
        check(!held.isLost(), "a lock that was released is lost");
    }

    private void fences() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        long last = 0;
        String lastText = "";
        for (int i = 0; i < 20; i++) {
            DistributedLock lock = client.acquire("k", 30);
            check(lock.getFencingToken().matches("[0-9a-f]{16}"), "16 hex digits: " + lock.getFencingToken());
            equal(String.format("%016x", lock.getFence()), lock.getFencingToken(), "the number");
            equal(lock.getLockId(), "lock-" + lock.getFencingToken(), "lockId");
            check(Long.compareUnsigned(lock.getFence(), last) > 0, "the number does not rise");
            check(lock.getFencingToken().compareTo(lastText) > 0, "the text does not rise");
            last = lock.getFence();
            lastText = lock.getFencingToken();
            check(lock.release(), "the release failed");
        }
        server.order(".*acquire", 1, "say", "answer", ServerClaims.page(200, ServerClaims.grant("fffffffffffffffe")));
        equal(Long.toUnsignedString(client.actor("actor").acquire("k", 30).getFence()), "18446744073709551614",
                "the highest");
    }

    private void semaphore() throws Exception {
        Stage.Server server = stage.server();
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        AtomicInteger served = new AtomicInteger();
        List<Body> users = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            users.add(() -> {
                try (DistributedLockClient client = server.client()) {
                    for (int round = 0; round < 5; round++) {
                        try (DistributedLock lock = client.acquire("pool", 30, WAIT.limit(3))) {
                            most.accumulateAndGet(inside.incrementAndGet(), Math::max);
                            // Each stays until all slots were taken once, so that three at a time are seen.
                            await("three at a time", 60, () -> most.get() >= 3);
                            served.incrementAndGet();
                            inside.decrementAndGet();
                            lock.check();
                        }
                    }
                }
            });
        }
        together(users);
        equal(most.get(), 3, "at a time");
        equal(served.get(), 50, "served");
        try (DistributedLockClient client = server.client()) {
            DistributedLock held = client.acquire("pool", 30, new LockOptions().limit(3));
            LockError refused =
                    thrown(LockLimitMismatchError.class, () -> client.acquire("pool", 30, new LockOptions().limit(4)));
            equal(refused.getStatus(), 409, "status");
            equal(client.status("pool", true).get("limit"), 3L, "limit");
            equal(client.status("pool").get("locked"), false, "the lock of this name");
            check(held.release(), "the release failed");
        }
    }

    private void deadlock() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        DistributedLockClient ada = client.actor("ada");
        DistributedLockClient bob = client.actor("bob");
        DistributedLock a = ada.acquire("a", 60);
        DistributedLock b = bob.acquire("b", 60);
        CompletableFuture<DistributedLock> served =
                CompletableFuture.supplyAsync(() -> ada.acquire("b", 60, WAIT), Transport.WORKERS);
        await("ada waits", 30, () -> server.waiters("b") == 1);
        LockDeadlockError refused = thrown(LockDeadlockError.class, () -> bob.acquire("a", 60, WAIT));
        Set<Object> cycle = new HashSet<>();
        refused.getCycle().forEach(
                each -> cycle.add(List.of(Answer.members(each).get("clientId"), Answer.members(each).get("waitsFor"))));
        equal(refused.getCode(), "deadlock", "code");
        equal(cycle, Set.of(List.of("ada", "b"), List.of("bob", "a")), "cycle");
        check(b.release(), "the release failed");
        check(served.get(10, TimeUnit.SECONDS).release(), "ada was not served");
        check(a.release(), "the release failed");
    }

    private void aFileJudges() throws Exception {
        Stage.Server server = stage.server();
        Path file = emptyFolder().resolve("held");
        List<Body> users = new ArrayList<>();
        AtomicInteger served = new AtomicInteger();
        for (int i = 0; i < 25; i++) {
            users.add(() -> {
                DistributedLockClient client = server.client();
                for (int round = 0; round < 6; round++) {
                    try (DistributedLock lock = client.acquire(
                                 "k", 30, new LockOptions().waitTimeout(DistributedLockClient.FOREVER))) {
                        Files.createFile(file);
                        Files.delete(file);
                        served.incrementAndGet();
                        lock.check();
                    }
                }
            });
        }
        together(users);
        equal(served.get(), 150, "served");
        check(server.isIdle(), "something is left");
    }

    private void arguments() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        for (Duration timeout :
                List.of(Duration.ZERO, Duration.ofSeconds(-1), Duration.ofMillis(99), DistributedLockClient.FOREVER))
            thrown(IllegalArgumentException.class, () -> client.acquire("k", timeout));
        thrown(IllegalArgumentException.class, () -> client.acquire("k", Long.MAX_VALUE));
        thrown(IllegalArgumentException.class, () -> client.acquire("k", Long.MIN_VALUE));
        for (String name :
                List.of("", "\ud800", "x".repeat(257), "ü".repeat(129), "a b", "a\nb", "\u0085", ".", "..")) {
            thrown(IllegalArgumentException.class, () -> client.acquire(name, 30));
            thrown(IllegalArgumentException.class, () -> client.status(name));
            thrown(IllegalArgumentException.class, () -> client.forceRelease(name));
        }
        for (String id : List.of("", "x".repeat(129), "a\tb", "\udc00")) {
            thrown(IllegalArgumentException.class, () -> client.actor(id));
            thrown(IllegalArgumentException.class, () -> new ClientOptions().clientId(id));
        }
        for (int limit : new int[] {0, -1, (1 << 20) + 1})
            thrown(IllegalArgumentException.class, () -> new LockOptions().limit(limit));
        thrown(IllegalArgumentException.class, () -> new LockOptions().waitTimeout(-1));
        thrown(IllegalArgumentException.class, () -> new LockOptions().maxHold(-1));
        for (Object value : List.of(Double.NaN, Double.POSITIVE_INFINITY, new Object()))
            thrown(IllegalArgumentException.class,
                    () -> client.acquire("k", 30, new LockOptions().metadata(Map.of("m", value))));
        for (String url :
                List.of("localhost:5000", "ftp://localhost", "http://a,", "http://user:secret@a", "http://a?b", "")) {
            Exception e = thrown(IllegalArgumentException.class, () -> new DistributedLockClient(url));
            check(!e.toString().contains("secret"), "a secret is shown");
        }
        Exception e = thrown(IllegalArgumentException.class,
                () -> new DistributedLockClient(server.url, new ClientOptions().token("se cret")));
        check(!e.toString().contains("se cret"), "a secret is shown");
        equal(server.requests(".*").size(), 0, "requests");
        thrown(LockRequestError.class, () -> client.acquire("k", 301));
        check(server.isIdle(), "something is left");
    }
}
