package dflockd.client;

import java.io.*;
import java.math.BigInteger;
import java.net.*;
import java.nio.charset.*;
import java.nio.file.*;
import java.security.*;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Predicate;
import java.util.zip.CRC32;
import javax.net.ssl.*;

/**
 * A client of the lock server dflockd, or of several that share the names. Any number of threads may use it. Errors are
 * {@link LockError}s; an argument that no server would take is an IllegalArgumentException.
 */
public final class DistributedLockClient implements AutoCloseable {
    /** A wait without end. */
    public static final Duration FOREVER = Duration.ofSeconds(Long.MAX_VALUE, 999_999_999);

    private static final long PATIENCE_NS = 5_000_000_000L;
    private static final Duration LONGEST = Duration.ofDays(36_500);
    private static final SecureRandom RANDOM = new SecureRandom();
    private static final AtomicLong COUNT = new AtomicLong();
    private static final String PROCESS = host() + "-" + ProcessHandle.current().pid() + "-" + random(32) + "-";

    private final DistributedLockClient parent;
    private final ClientOptions options;
    private final List<Transport> servers;
    final Keeper keeper;
    private final String clientId;
    private volatile boolean isClosed;

    /** A client of "http://host:port", or of several servers, with commas between them. */
    public DistributedLockClient(String url) { this(url, new ClientOptions()); }

    /**
     * As {@link #DistributedLockClient(String)}, with a token, authorities, a clientId or another choice of servers.
     */
    public DistributedLockClient(String url, ClientOptions options) {
        this(null, options, servers(url, options), new Keeper(), options.clientId);
    }

    private DistributedLockClient(DistributedLockClient parent, ClientOptions options, List<Transport> servers,
            Keeper keeper, String clientId) {
        this.parent = parent;
        this.options = options;
        this.servers = servers;
        this.keeper = keeper;
        this.clientId = clientId;
    }

    /**
     * This client under one clientId, which promises to do one thing at a time. Deadlocks are seen among actors: one
     * that holds a lock and waits for another's is refused if it would wait for itself. 1 to 128 bytes without control
     * characters. Its {@link #close} ends only what is its own.
     */
    public DistributedLockClient actor(String clientId) {
        requireText(clientId, 128, "a clientId");
        return new DistributedLockClient(parent == null ? this : parent, options, servers, keeper, clientId);
    }

    /** Takes the lock for so many seconds, or throws LockTimeoutError if it is held. */
    public DistributedLock acquire(String name, long timeoutSeconds) {
        return acquire(name, Duration.ofSeconds(timeoutSeconds), new LockOptions());
    }

    /** Takes the lock for so long, or throws LockTimeoutError if it is held. */
    public DistributedLock acquire(String name, Duration timeout) { return acquire(name, timeout, new LockOptions()); }

    /** As {@link #acquire(String, Duration, LockOptions)}, in seconds. */
    public DistributedLock acquire(String name, long timeoutSeconds, LockOptions options) {
        return acquire(name, Duration.ofSeconds(timeoutSeconds), options);
    }

    /**
     * Takes the lock. An interrupt of the thread ends the wait with a plain LockError, without a code, and leaves the
     * thread interrupted; whatever the server had granted by then is released.
     * @param name 1 to 256 bytes of UTF-8 without blanks and control characters, and not . or ..
     * @param timeout the lease: the lock ends after it, unless it is renewed; 0.1 s to what the server allows (300 s)
     * @throws LockTimeoutError if it was not granted within the wait
     * @throws LockUnavailableError if there was no answer
     */
    public DistributedLock acquire(String name, Duration timeout, LockOptions options) {
        Transport server = server(name);
        Map<String, Object> asked = new HashMap<>();
        if (options.limit != null) asked.put("limit", options.limit);
        if (options.metadata != null) asked.put("metadata", Json.read(Json.write(options.metadata)));
        Lease lease = new Lease(leaseNs(timeout), options.isRenewed, ns(options.maxHold));
        String id = clientId != null ? clientId : PROCESS + COUNT.incrementAndGet();
        DistributedLock lock = new DistributedLock(this, server, name, id, lease);
        if (options.onLost != null) lock.onLost(options.onLost);
        return lock.acquire(asked, ns(options.wait), this.options.pollNs);
    }

    /** As {@link #acquire(String, long)}, but empty instead of a LockTimeoutError. */
    public Optional<DistributedLock> tryAcquire(String name, long timeoutSeconds) {
        return tryAcquire(name, Duration.ofSeconds(timeoutSeconds), new LockOptions());
    }

    /** As {@link #acquire(String, Duration)}, but empty instead of a LockTimeoutError. */
    public Optional<DistributedLock> tryAcquire(String name, Duration timeout) {
        return tryAcquire(name, timeout, new LockOptions());
    }

    /** As {@link #acquire(String, long, LockOptions)}, but empty instead of a LockTimeoutError. */
    public Optional<DistributedLock> tryAcquire(String name, long timeoutSeconds, LockOptions options) {
        return tryAcquire(name, Duration.ofSeconds(timeoutSeconds), options);
    }

    /** As {@link #acquire(String, Duration, LockOptions)}, but empty instead of a LockTimeoutError. */
    public Optional<DistributedLock> tryAcquire(String name, Duration timeout, LockOptions options) {
        try {
            return Optional.of(acquire(name, timeout, options));
        } catch (LockTimeoutError e) {
            return Optional.empty();
        }
    }

    /** Who holds the lock of this name, and who waits for it. */
    public Map<String, Object> status(String name) { return status(name, false); }

    /** The same of the lock or the semaphore of this name; a semaphore is what is acquired with a limit. */
    public Map<String, Object> status(String name, boolean isSemaphore) {
        Transport server = server(name);
        return ask(server, "GET", "/locks/" + encode(name) + "/status" + space(isSemaphore), each -> isOf(each, name));
    }

    /** All locks and semaphores that are held or waited for, of all servers, as {@link #status} has them. */
    public List<Map<String, Object>> locks() { return locks(""); }

    /** Those whose names begin so. They are read in pages, so that some may have changed meanwhile. */
    public List<Map<String, Object>> locks(String prefix) {
        List<Map<String, Object>> locks = new ArrayList<>();
        for (Transport server : servers) {
            String after = "";
            Set<Object> seen = new HashSet<>();
            while (after != null) {
                // The same page again would be a list without end.
                Map<String, Object> page = ask(server, "GET", "/locks?prefix=" + encode(prefix) + after,
                        each
                        -> each.get("locks") instanceof List
                                && ((List<?>) each.get("locks")).stream().allMatch(Map.class ::isInstance)
                                && (each.get("next") == null || seen.add(each.get("next"))));
                for (Object lock : (List<?>) page.get("locks")) locks.add(Answer.members(lock));
                after = page.get("next") == null ? null : "&after=" + encode(page.get("next").toString());
            }
        }
        return locks;
    }

    /** The counts of the server; of several servers, of the first. */
    public Map<String, Object> stats() { return stats(0); }

    /** The counts of one of several servers, from 0. */
    public Map<String, Object> stats(int server) {
        return ask(servers.get(server), "GET", "/locks/stats", each -> each.containsKey("activeLocks"));
    }

    /** Whether the server answers, and its version; of several servers, of the first. */
    public Map<String, Object> health() { return health(0); }

    /** The same of one of several servers, from 0. */
    public Map<String, Object> health(int server) {
        return ask(servers.get(server), "GET", "/health", each -> each.containsKey("status"));
    }

    /**
     * Ends all holds of a lock, for administrators. Returns what was ended; LockNotHeldError if there was nothing. It
     * is sent once, since a second one would end the hold of the next in turn: after a LockUnavailableError see
     * {@link #status}.
     */
    public Map<String, Object> forceRelease(String name) { return forceRelease(name, false); }

    /** The same of the lock or the semaphore of this name. */
    public Map<String, Object> forceRelease(String name, boolean isSemaphore) {
        Transport server = server(name);
        String path = "/locks/" + encode(name) + space(isSemaphore);
        requireOpen();
        server.leave(); // The end of a kept connection would be taken for one of the request.
        // In another thread, since an interrupt would end the request.
        Answer answer =
                CompletableFuture
                        .supplyAsync(
                                () -> server.exchange("DELETE", path, Map.of(), PATIENCE_NS, null), Transport.WORKERS)
                        .join();
        return body(answer, "DELETE " + path, server, each -> isOf(each, name));
    }

    /**
     * Ends this hold of the lock and no other, so that it is repeated while there is no answer. If a first request
     * ended the hold and its answer was lost, the number of waiters and the clientId are not known.
     */
    public Map<String, Object> forceRelease(String name, String lockId) { return forceRelease(name, lockId, false); }

    /** The same of the lock or the semaphore of this name: one slot of the semaphore. */
    public Map<String, Object> forceRelease(String name, String lockId, boolean isSemaphore) {
        Transport server = server(name);
        String path = "/locks/" + encode(name) + space(isSemaphore) + "&lockId=" + encode(lockId);
        Answer answer = repeated(server, "DELETE", path);
        if (answer.isRepeat && answer.code().equals("not-held"))
            return Map.of("lockName", name, "released", true, "locks", List.of(Map.of("lockId", lockId)));
        return body(answer, "DELETE " + path, server, each -> isOf(each, name));
    }

    /**
     * Releases all locks of this client and of its actors, and ends what waits; of an actor, its own only. What is
     * asked of it later is a LockUnavailableError with the code "closed". Takes 5 s at most.
     */
    @Override
    public void close() {
        isClosed = true;
        List<CompletableFuture<?>> ends = new ArrayList<>();
        for (DistributedLock lock : keeper.locks)
            if (parent == null || lock.client == this) ends.add(lock.end());
        CompletableFuture<?> all = CompletableFuture.allOf(ends.toArray(new CompletableFuture<?>[0]));
        Future<?> timer = Transport.later(PATIENCE_NS, () -> all.complete(null));
        all.join();
        timer.cancel(false);
    }

    boolean isClosed() { return isClosed || parent != null && parent.isClosed(); }

    /** Refuses a text that the server would refuse. */
    static void requireText(String text, int bytesMax, String what) {
        if (text == null || text.isEmpty() || !StandardCharsets.UTF_8.newEncoder().canEncode(text)
                || text.getBytes(StandardCharsets.UTF_8).length > bytesMax
                || text.chars().anyMatch(Character::isISOControl))
            throw new IllegalArgumentException(
                    what + ": want 1 to " + bytesMax + " bytes of UTF-8 without control characters");
    }

    /** Percent-encodes all but the unreserved characters of RFC 3986 and the colon. */
    static String encode(String text) {
        if (!StandardCharsets.UTF_8.newEncoder().canEncode(text))
            throw new IllegalArgumentException("half of a surrogate pair in a name: want text that UTF-8 can encode");
        return URLEncoder.encode(text, StandardCharsets.UTF_8)
                .replace("+", "%20")
                .replace("*", "%2A")
                .replace("%7E", "~")
                .replace("%3A", ":");
    }

    /** So many random bits, in hex. */
    static String random(int bits) { return String.format("%0" + bits / 4 + "x", new BigInteger(bits, RANDOM)); }

    /** A lease in nanoseconds. */
    static long leaseNs(Duration timeout) {
        if (timeout.compareTo(Duration.ofMillis(100)) < 0 || timeout.compareTo(LONGEST) > 0)
            throw new IllegalArgumentException("timeout " + timeout + ": want 0.1 s to what the server allows (300 s)");
        return timeout.toNanos();
    }

    private static long ns(Duration duration) {
        return duration.compareTo(LONGEST) > 0 ? Lease.NEVER_NS : duration.toNanos();
    }

    private Transport server(String name) {
        requireText(name, 256, "a name");
        if (name.contains(" ") || name.matches("\\.{1,2}"))
            throw new IllegalArgumentException("name " + name + ": want one without blanks, and not . or ..");
        CRC32 crc = new CRC32();
        crc.update(name.getBytes(StandardCharsets.UTF_8));
        int count = servers.size();
        return servers.get(
                options.shard != null ? options.shard.applyAsInt(name, count) : (int) (crc.getValue() % count));
    }

    private Map<String, Object> ask(
            Transport server, String method, String path, Predicate<Map<String, Object>> isWhole) {
        return body(repeated(server, method, path), method + " " + path, server, isWhole);
    }

    /** As a try: a refused connection is told soon, and without an answer the request is repeated. */
    private Answer repeated(Transport server, String method, String path) {
        requireOpen();
        long refusedNs = BootClock.now() + Polls.REFUSED_NS;
        return server.call(method, path, Map.of(), PATIENCE_NS, PATIENCE_NS,
                answer -> !answer.code().equals("no-connection") || BootClock.now() < refusedNs, null);
    }

    private void requireOpen() {
        if (isClosed())
            throw new LockUnavailableError(Answer.none("closed"), "the client was closed; make another one");
    }

    private static Map<String, Object> body(
            Answer answer, String what, Transport server, Predicate<Map<String, Object>> isWhole) {
        if (!answer.isOk() || !isWhole.test(answer.body)) throw answer.error(what, server.url);
        return answer.body;
    }

    private static boolean isOf(Map<String, Object> body, String name) { return name.equals(body.get("lockName")); }

    private static String space(boolean isSemaphore) { return isSemaphore ? "?space=semaphore" : "?space=lock"; }

    private static List<Transport> servers(String urls, ClientOptions options) {
        if (options.token != null && !options.token.matches("[!-~]+"))
            throw new IllegalArgumentException("the token: want printable ASCII without blanks");
        // The authorities of Java take a while to load, and plain HTTP needs none.
        boolean isPlain = !urls.toLowerCase(Locale.ROOT).contains("https:");
        SSLContext tls = options.ca != null || !isPlain ? trusting(options.ca) : null;
        List<Transport> servers = new ArrayList<>();
        for (String each : urls.split(",", -1)) {
            String url = each.strip().replaceFirst("/+$", "");
            if (!url.matches("(?i)https?://[^/?#@]+(/[^?#]*)?") || URI.create(url).getHost() == null)
                throw new IllegalArgumentException(
                        "a server's URL: want http://host:port or https://host:port, without user or query");
            servers.add(new Transport(url, options.token, tls));
        }
        return servers;
    }

    /** A context that trusts the authorities in this file, and no others; without a file, those of Java. */
    private static SSLContext trusting(Path ca) {
        try {
            if (ca == null) return SSLContext.getDefault();
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(null, authorities(ca), null);
            return context;
        } catch (IOException | GeneralSecurityException e) {
            throw new IllegalArgumentException("ca " + ca + ": want a readable file of PEM certificates", e);
        }
    }

    private static TrustManager[] authorities(Path ca) throws IOException, GeneralSecurityException {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream file = Files.newInputStream(ca)) {
            for (var each : CertificateFactory.getInstance("X.509").generateCertificates(file))
                store.setCertificateEntry("ca" + store.size(), each);
        }
        if (store.size() == 0) throw new GeneralSecurityException("no certificate in it");
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        return trust.getTrustManagers();
    }

    /** The host's name, for clientId; without a look-up, which may take long. */
    private static String host() {
        try {
            String name =
                    Files.readString(Path.of("/proc/sys/kernel/hostname")).strip().replaceAll("[^A-Za-z0-9._-]", "-");
            return name.substring(0, Math.min(64, name.length()));
        } catch (IOException e) {
            return "java";
        }
    }
}
