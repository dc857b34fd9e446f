package dflockd.client;

import static dflockd.client.Suite.*;

import java.io.*;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

/** What servers, proxies and networks do, and what the client makes of it. */
final class ServerClaims {
    private static final LockOptions WAIT = new LockOptions().waitTimeout(30);

    private final Stage stage;

    ServerClaims(Stage stage) { this.stage = stage; }

    void addTo(Suite suite) {
        suite.claim("19 metadata and the names user:123, a/b and ü come back as they were", this::metadataAndNames);
        suite.claim(
                "21 a wrong token is refused at once, without a repeat, and no text shows a secret", this::wrongToken);
        suite.claim("22 a server that drains: a holder renews and releases, and a waiter outlives the restart",
                this::draining);
        suite.claim("23 without a server a try fails within 1 s, and a wait gets the lock when the server comes",
                this::noServer);
        suite.work("24 broken JSON, HTML, a cut answer, chunks: an error or a lock, never a guess", this::nonsense);
        suite.work("25 an idle connection that was closed is no error", this::idleConnection);
        suite.work("26 status, a list of 250 locks in pages, stats and health", this::lists);
        suite.claim(
                "27 three shards: the vectors of CRC-32, and one that is down fails its own names only", this::shards);
        suite.claim("28 TLS: an authority of one's own, and a wrong authority or host is refused", this::tls);
        suite.work("29 a program with a renewed lock exits at once, and another process does not hold it", this::exit);
    }

    /** An answer with this body. */
    static String page(int status, String body) {
        int length = body.getBytes(StandardCharsets.UTF_8).length;
        return "HTTP/1.1 " + status + " Said\r\nContent-Type: application/json\r\nContent-Length: " + length
                + "\r\n\r\n" + body;
    }

    /** A grant of the lock k to the client actor, as a server writes it. */
    static String grant(String fence) {
        return "{\"lockName\":\"k\",\"clientId\":\"actor\",\"lockId\":\"lock-" + fence
                + "\",\"acquired\":true,\"renewalToken\":\"" + fence + fence
                + "\",\"waitTime\":0.0,\"ttl\":30.0,\"fencingToken\":\"" + fence + "\"}";
    }

    private void metadataAndNames() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        Map<String, Object> metadata = new HashMap<>();
        metadata.put("text", "a \"b\" \\ \n ü \u0001 😀");
        metadata.put("numbers", List.of(1L, -2.5, Long.MAX_VALUE, 1e300));
        metadata.put("nested", Map.of("yes", true, "none", List.of(), "empty", Map.of()));
        metadata.put("null", null);
        for (String name : List.of("user:123", "a/b", "ü", "a+b*~%2F?#&=😀")) {
            DistributedLock lock = client.acquire(name, 30, new LockOptions().metadata(metadata));
            Map<String, Object> status = client.status(name);
            equal(status.get("lockName"), name, "name");
            equal(status.get("metadata"), metadata, "metadata");
            equal(status.get("clientId"), lock.getClientId(), "clientId");
            equal(client.locks(name).size(), 1, "locks that begin so");
            check(lock.release(), "the release failed");
            equal(client.status(name).get("locked"), false, "locked");
        }
        Set<Object> paths =
                server.requests(".*acquire").stream().map(each -> each.get("path")).collect(Collectors.toSet());
        check(paths.containsAll(Set.of("/locks/user:123/acquire", "/locks/a%2Fb/acquire", "/locks/%C3%BC/acquire")),
                paths.toString());
    }

    private void wrongToken() throws Exception {
        Stage.Server server = stage.server("--auth-token", "the-right-token");
        DistributedLockClient wrong = new DistributedLockClient(server.url, new ClientOptions().token("a-wrong-token"));
        LockError refused = thrown(LockDeniedError.class, () -> wrong.acquire("k", 30, WAIT));
        equal(refused.getStatus(), 401, "status");
        equal(refused.getCode(), "unauthorized", "code");
        equal(server.requests(".*").size(), 1, "requests");
        thrown(LockDeniedError.class, () -> server.client().acquire("k", 30, WAIT));
        equal(server.requests(".*").size(), 2, "requests");
        DistributedLockClient right =
                new DistributedLockClient(server.url, new ClientOptions().token("the-right-token"));
        DistributedLock lock = right.acquire("k", 30);
        server.order(".*renew", 1, "say", "answer",
                page(400, "{\"code\":\"bad-request\",\"detail\":\"Bearer the-right-token\"}"));
        LockError echoed = thrown(LockRequestError.class, () -> lock.renew(30));
        check(echoed.getMessage().contains("***"), "the detail is missing: " + echoed.getMessage());
        equal(echoed.getDetail(), "Bearer ***", "the server's words");
        server.order(".*renew", 1, "say", "answer",
                "HTTP/1.1 400 Bad\r\nX-Request-Id: the-right-token\r\nContent-Length: 15\r\n\r\nthe-right-token");
        LockError page = thrown(LockServerError.class, () -> lock.renew(30));
        String requestId = (String) Answer.members(server.requests(".*acquire").get(2).get("body")).get("requestId");
        String renewalToken =
                (String) Answer.members(server.requests(".*renew").get(0).get("body")).get("renewalToken");
        StringWriter texts = new StringWriter();
        PrintWriter out = new PrintWriter(texts);
        for (LockError each : List.of(refused, echoed, page)) {
            each.printStackTrace(out);
            out.println(each.getCode() + each.getDetail() + each.getRequestId() + each.getStatus());
        }
        out.println(lock + lock.getName() + lock.getLockId() + lock.getClientId() + lock.getFencingToken() + right
                + new ClientOptions().token("the-right-token"));
        for (var method : DistributedLock.class.getMethods())
            if (method.getName().matches("(get|is).*") && method.getParameterCount() == 0)
                out.println(method.invoke(lock));
        for (String secret : List.of("the-right-token", "a-wrong-token", requestId, renewalToken))
            check(secret.length() > 10 && !texts.toString().contains(secret), "a text shows a secret");
        check(lock.release(), "the release failed");
    }

    private void draining() throws Exception {
        Stage.Server server = stage.keepingServer();
        DistributedLockClient client = server.client();
        DistributedLock lock = client.acquire("k", 30);
        // The drain waits for a connection of the line protocol that holds a lock.
        try (Socket line = new Socket("localhost", server.port)) {
            line.getOutputStream().write("l\nline\n0 60\n".getBytes(StandardCharsets.UTF_8));
            equal((char) line.getInputStream().read(), 'o', "the line protocol's answer");
            var waits = CompletableFuture.supplyAsync(() -> client.acquire("k", 30, WAIT), Transport.WORKERS);
            await("a waiter", 30, () -> server.waiters("k") == 1);
            server.signal("TERM");
            await("a waiter that is sent away", 30,
                    ()
                            -> server.requests(".*acquire")
                                    .stream()
                                    .anyMatch(each -> Long.valueOf(503).equals(each.get("status"))));
            lock.renew(60);
            check(lock.remaining().toSeconds() > 50, "not renewed");
            thrown(LockDrainingError.class, () -> client.acquire("m", 30));
            check(lock.release(), "the release failed");
            check(!waits.isDone(), "the waiter gave up");
            server.restart();
            check(waits.get(20, TimeUnit.SECONDS).release(), "the waiter was not served");
        }
    }

    private void noServer() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = new DistributedLockClient(server.direct);
        DistributedLockClient fresh = new DistributedLockClient(server.direct);
        client.health();
        server.signal("KILL");
        for (DistributedLockClient each : List.of(client, fresh)) {
            Body asTry = ()
                    -> equal(thrown(LockUnavailableError.class, () -> each.tryAcquire("k", 30)).getCode(),
                            "no-connection", "code");
            atBest(1, () -> seconds(asTry));
            atBest(1, () -> seconds(() -> thrown(LockUnavailableError.class, each::health)));
        }
        CompletableFuture<DistributedLock> waits =
                CompletableFuture.supplyAsync(() -> client.acquire("k", 30, WAIT), Transport.WORKERS);
        thrown(LockUnavailableError.class, () -> fresh.acquire("k", 30, new LockOptions().waitTimeout(1)));
        check(!waits.isDone(), "the wait is over");
        server.restart();
        check(waits.get(20, TimeUnit.SECONDS).release(), "the lock was not taken");
    }

    private void nonsense() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client().actor("actor");
        String good = grant("18a3f217b3c4d87f");
        List<String> bad = new ArrayList<>(List.of("", "{", "{\"acquired\":", "[]", "null", "true", "{}",
                "{\"acquired\":true}", "{\"acquired\":false}", "<html>200</html>", good + "x"));
        for (String member : List.of("\"acquired\":true,", "\"ttl\":30.0,", "\"waitTime\":0.0,",
                     "\"lockId\":\"lock-18a3f217b3c4d87f\",", "\"renewalToken\":\"18a3f217b3c4d87f18a3f217b3c4d87f\",",
                     ",\"fencingToken\":\"18a3f217b3c4d87f\"", "\"lockName\":\"k\",", "\"clientId\":\"actor\","))
            bad.add(good.replace(member, ""));
        bad.addAll(List.of(good.replace("30.0", "\"30\""), good.replace("30.0", "-1"), good.replace("true", "\"true\""),
                good.replace("\"k\"", "\"l\""), good.replace("actor", "another"),
                good.replace("Token\":\"18a3", "Token\":\"18A3")));
        for (String body : bad) {
            server.order(".*acquire", 1, "say", "answer", page(200, body));
            LockServerError error = thrown(LockServerError.class, () -> client.acquire("k", 30));
            equal(List.of(error.getStatus(), error.getCode()), List.of(200, "nonsense"), body);
        }
        refused(server, "error\n", LockServerError.class, "nonsense");
        refused(server, page(301, ""), LockServerError.class, "nonsense");
        refused(server, page(400, "<html>400</html>"), LockServerError.class, "nonsense");
        refused(server, page(404, "<html>404</html>"), LockServerError.class, "nonsense");
        refused(server, page(500, "<html>500</html>"), LockServerError.class, "nonsense");
        refused(server, page(500, "{\"code\":\"internal\"}"), LockServerError.class, "internal");
        refused(server, page(404, "{\"code\":\"not-found\"}"), LockRequestError.class, "not-found");
        refused(server, page(401, ""), LockDeniedError.class, null);
        refused(server, page(403, "<html>403</html>"), LockDeniedError.class, null);
        refused(server, page(422, "{}"), LockRequestError.class, null);
        refused(server, page(429, "{}"), LockCapacityError.class, null);
        refused(server, page(503, "{\"code\":\"max-waiters\"}"), LockCapacityError.class, "max-waiters");
        refused(server, page(503, "<html>503</html>"), LockUnavailableError.class, null);
        server.order(".*acquire", 1, "cut", "at", 200);
        server.order(".*acquire", 1, "say", "answer", page(502, "<html>502</html>"));
        DistributedLock lock = client.acquire("k", 30, WAIT);
        server.order(".*", 2, "chunk");
        lock.renew(30);
        check(lock.release(), "the release failed");
        server.order(".*acquire", 1, "chunk");
        check(client.acquire("k", 30).release(), "the release failed");
        server.order(".*locks", 1, "say", "answer", page(200, "[]"));
        thrown(LockServerError.class, client::locks);
        for (String body : List.of("{}", "{\"locks\":[1]}")) {
            server.order(".*", 4, "say", "answer", page(200, body));
            equal(thrown(LockServerError.class, client::locks).getStatus(), 200, "status");
            thrown(LockServerError.class, () -> client.status("k"));
            thrown(LockServerError.class, client::stats);
            thrown(LockServerError.class, () -> server.client().forceRelease("k"));
        }
        server.forgetRequests();
        server.order(".*locks.*", 3, "say", "answer", page(200, "{\"locks\":[],\"next\":\"1\"}"));
        thrown(LockServerError.class, client::locks);
        equal(server.requests("GET /locks.*").size(), 2, "pages, the last of which is the same again");
        server.forgetOrders();
        // A try and a query outlive what passes.
        server.order(".*acquire", 3, "say", "answer", page(502, "<html>502</html>"));
        check(client.tryAcquire("k", 30).get().release(), "the release failed");
        server.order(".*stats", 3, "say", "answer", page(502, "<html>502</html>"));
        equal(client.stats().get("activeLocks"), 0L, "activeLocks");
        // What may have been granted behind an answer that nobody understands is given back.
        server.order(".*acquire", 1, "cut", "at", 1000);
        await("nothing is left", 4, server::isIdle);
    }

    /** A try gets this answer, and throws this. */
    private static void refused(Stage.Server server, String answer, Class<? extends LockError> wanted, String code) {
        server.order(".*acquire", 1, "say", "answer", answer);
        equal(thrown(wanted, () -> server.client().acquire("k", 30)).getCode(), code, "code of " + answer);
    }

    private void idleConnection() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        for (int i = 0; i < 20; i++) {
            DistributedLock lock = client.acquire("k", 30);
            equal(lock.requests(), 1, "requests of an acquire after the end of a connection");
            await("an idle connection", 30, () -> server.closeIdle() > 0);
            check(lock.release(), "the release failed");
            server.closeIdle();
        }
        check(server.isIdle(), "something is left");
        // If one connection was cut, the others may be dead, too: the repeat has a new one.
        server.order(".*acquire", 3, "hold", "seconds", 1);
        List<DistributedLock> locks = Collections.synchronizedList(new ArrayList<>());
        together(Collections.nCopies(3, () -> locks.add(client.acquire("k" + UUID.randomUUID(), 30))));
        Set<Object> before =
                server.requests(".*").stream().map(each -> each.get("connection")).collect(Collectors.toSet());
        server.order(".*renew", 1, "cut", "at", 0);
        locks.get(0).renew(30);
        List<Map<String, Object>> renewals = server.requests(".*renew");
        check(renewals.size() >= 2 && !before.contains(renewals.get(1).get("connection")),
                "a repeat on an old connection");
    }

    private void lists() throws Exception {
        Stage.Server server = stage.server();
        DistributedLockClient client = server.client();
        List<DistributedLock> locks = new ArrayList<>();
        for (int i = 0; i < 250; i++) locks.add(client.acquire(String.format("list:%03d", i), 60));
        Set<String> names = locks.stream().map(DistributedLock::getName).collect(Collectors.toCollection(TreeSet::new));
        client.acquire("other", 60);
        client.acquire("pool", 60, new LockOptions().limit(2));
        Set<String> listed = client.locks("list:")
                                     .stream()
                                     .map(each -> (String) each.get("lockName"))
                                     .collect(Collectors.toCollection(TreeSet::new));
        equal(listed, names, "names");
        equal(client.locks().size(), 252, "locks");
        check(server.requests("GET /locks.*").size() >= 6, "no pages");
        equal(client.stats().get("activeLocks"), 252L, "activeLocks");
        equal(client.health().get("status"), "ok", "health");
        Map<String, Object> status = client.status("other");
        equal(status.get("locked"), true, "locked");
        equal(client.status("pool", true).get("limit"), 2L, "limit");
        check(client.forceRelease("pool", true).get("locks") instanceof List, "no list");
        equal(client.status("pool", true).get("locked"), false, "locked");
        // On a busy machine close() would not release all of them in its 5 s.
        for (DistributedLock lock : locks.subList(0, 240)) check(lock.release(), "the release failed");
        client.close();
        check(server.isIdle(), "something is left");
    }

    private void shards() throws Exception {
        List<Stage.Server> servers = List.of(stage.server(), stage.server(), stage.server());
        String urls = servers.stream().map(each -> each.direct).collect(Collectors.joining(", "));
        DistributedLockClient client = new DistributedLockClient(urls);
        // zlib.crc32 of Python: "my-key" is 0xd6e33ac1, "user:123" is 0x6fa60568.
        Map<String, Integer> vectors = Map.of("my-key", (int) (0xd6e33ac1L % 3), "user:123", (int) (0x6fa60568L % 3));
        for (Map.Entry<String, Integer> each : vectors.entrySet()) {
            DistributedLock lock = client.acquire(each.getKey(), 30);
            for (int server = 0; server < 3; server++)
                equal(client.stats(server).get("activeLocks"), server == each.getValue() ? 1L : 0L,
                        each.getKey() + " at server " + server);
            check(lock.release(), "the release failed");
        }
        servers.get(1).signal("KILL");
        int[] found = new int[3];
        for (int i = 0; i < 12; i++) {
            String name = "name-" + i;
            java.util.zip.CRC32 crc = new java.util.zip.CRC32();
            crc.update(name.getBytes(StandardCharsets.UTF_8));
            int server = (int) (crc.getValue() % 3);
            found[server]++;
            if (server == 1) thrown(LockUnavailableError.class, () -> client.acquire(name, 30));
            else check(client.acquire(name, 30).release(), "the release failed");
        }
        check(found[0] > 0 && found[1] > 0 && found[2] > 0, Arrays.toString(found));
        ClientOptions last = new ClientOptions().shard((name, count) -> count - 1);
        new DistributedLockClient(urls, last).acquire("my-key", 30);
        equal(client.stats(2).get("activeLocks"), 1L, "the strategy that was given");
    }

    private void tls() throws Exception {
        Stage.Server server = stage.tlsServer("localhost");
        Stage.Server elsewhere = stage.tlsServer("elsewhere");
        ClientOptions trusting = new ClientOptions().ca(Path.of((String) stage.certificates().get("ca")));
        ClientOptions wrong = new ClientOptions().ca(Path.of((String) stage.certificates().get("other_ca")));
        try (DistributedLockClient client = new DistributedLockClient(server.direct, trusting)) {
            check(client.acquire("k", 30, WAIT).release(), "the release failed");
        }
        double took = seconds(() -> {
            for (DistributedLockClient client :
                    List.of(new DistributedLockClient(server.direct), new DistributedLockClient(server.direct, wrong),
                            new DistributedLockClient(elsewhere.direct, trusting))) {
                LockError refused = thrown(LockUnavailableError.class, () -> client.acquire("k", 30, WAIT));
                check(refused.getMessage().contains("certificate"), refused.getMessage());
                equal(refused.getCode(), "tls", "code");
            }
        });
        check(took < 20, "a refusal was repeated for " + took + " s");
        ClientOptions missing = new ClientOptions().ca(Path.of("/no/such/file"));
        thrown(IllegalArgumentException.class, () -> new DistributedLockClient(server.direct, missing));
    }

    /** What the child of the claim runs: it takes a lock, renews it, says so and ends. */
    public static final class Holder {
        public static void main(String[] arguments) {
            DistributedLock lock = new DistributedLockClient(arguments[0]).acquire("k", 6, WAIT.autoRenew(true));
            System.out.println(lock.getClientId());
        }
    }

    private void exit() throws Exception {
        Stage.Server server = stage.server();
        Process child = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-cp",
                System.getProperty("java.class.path"), Holder.class.getName(), server.url)
                                .redirectError(ProcessBuilder.Redirect.INHERIT)
                                .start();
        String clientId =
                new BufferedReader(new InputStreamReader(child.getInputStream(), StandardCharsets.UTF_8)).readLine();
        double took = seconds(() -> child.waitFor(20, TimeUnit.SECONDS));
        child.destroyForcibly();
        check(took < 10, "the program ended after " + took + " s");
        equal(child.exitValue(), 0, "exit status");
        DistributedLockClient client = server.client();
        equal(client.status("k").get("clientId"), clientId, "holder");
        // Java has no fork; a program that is started is another client, and the lock ends by its lease.
        check(!client.acquire("l", 30).getClientId().split("-[0-9]+$")[0].equals(clientId.split("-[0-9]+$")[0]),
                "two processes with one name");
        check(client.acquire("k", 30, WAIT).release(), "a dead program's lock is renewed");
        equal(List.of(client.stats().get("totalExpired"), client.stats().get("totalReleased")), List.of(1L, 1L),
                "ended by the lease, and released");
    }
}
