package dflockd.client;

import java.io.IOException;
import java.net.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.*;
import javax.net.ssl.SSLContext;

/**
 * The way to one server: connections that are kept, and repeats. A request is sent, and its answer read, by the thread
 * that asks.
 * Invariant: a request that was not answered is repeated on a connection that was opened later.
 */
final class Transport {
    /** Daemons, so that no thread of ours keeps a program from its end. */
    static final Executor WORKERS = Executors.newCachedThreadPool(Transport::daemon);
    // The timer of CompletableFuture needs the common pool from Java 25 on, and a program may keep that busy.
    private static final ScheduledThreadPoolExecutor TIMER = new ScheduledThreadPoolExecutor(1, Transport::daemon);

    private static final long IDLE_NS = 60_000_000_000L;
    private static final long CONNECT_NS = 5_000_000_000L;

    final String url;
    private final URI address;
    private final String token;
    private final SSLContext tls;
    /** The newest first. */
    private final Deque<Connection> idle = new ArrayDeque<>();
    private long leftNs = Long.MIN_VALUE;

    Transport(String url, String token, SSLContext tls) {
        this.url = url;
        this.address = URI.create(url);
        this.token = token;
        this.tls = tls;
    }

    /**
     * One request. It never throws: that there is no answer is one, too. An interrupt of the thread ends it, as `stop`
     * does, which may be null.
     */
    Answer exchange(
            String method, String path, Map<String, Object> body, long timeoutNs, CompletableFuture<Void> stop) {
        Set<String> secrets = new HashSet<>();
        for (String secret : new String[] {"requestId", "renewalToken"})
            if (body.containsKey(secret)) secrets.add((String) body.get(secret));
        if (token != null) secrets.add(token);
        long sentNs = BootClock.now();
        Connection connection = null;
        CompletableFuture<Void> stopped = null;
        try {
            byte[] request = request(method, path, body);
            connection = kept(sentNs + timeoutNs);
            boolean isNew = connection == null;
            if (isNew) connection = new Connection(sentNs + Math.min(timeoutNs, CONNECT_NS));
            if (stop != null) stopped = stop.thenRun(connection::close);
            if (isNew) {
                connection.connect(address, tls);
                connection.limit(sentNs + timeoutNs);
            }
            Answer answer = connection.exchange(request, sentNs, secrets);
            keep(connection);
            return answer;
        } catch (IOException | RuntimeException | Error e) { // An Error: no thread, or no memory, was to be had.
            boolean isOver = connection != null && connection.isOver() && !(e instanceof ConnectException);
            if (connection != null) connection.close();
            Throwable failure = isOver ? new SocketTimeoutException("no answer in time") : e;
            Answer answer = Answer.failed(failure, sentNs, secrets);
            if (answer.isUnanswered()) leave();
            return answer;
        } finally {
            if (stopped != null) stopped.cancel(false);
        }
    }

    private byte[] request(String method, String path, Map<String, Object> body) {
        String json = body.isEmpty() ? "" : Json.write(body);
        StringBuilder request = new StringBuilder(method + " " + address.getRawPath() + path + " HTTP/1.1\r\nHost: ");
        request.append(address.getRawAuthority()).append("\r\n");
        if (token != null) request.append("Authorization: Bearer ").append(token).append("\r\n");
        if (!body.isEmpty())
            request.append("Content-Type: application/json\r\nContent-Length: ")
                    .append(json.getBytes(StandardCharsets.UTF_8).length)
                    .append("\r\n");
        return request.append("\r\n").append(json).toString().getBytes(StandardCharsets.UTF_8);
    }

    /** A request that is repeated while there is no answer, for so long in all; each try has a limit, too. */
    Answer call(String method, String path, Map<String, Object> body, long patienceNs, long tryNs) {
        return call(method, path, body, patienceNs, tryNs, answer -> true, null);
    }

    /**
     * As {@link #call(String, String, Map, long, long)}, if `isRepeated` agrees just before each repeat. With a `stop`
     * the interrupt of the thread ends it as well; without one the interrupt waits.
     */
    Answer call(String method, String path, Map<String, Object> body, long patienceNs, long tryNs,
            Predicate<Answer> isRepeated, CompletableFuture<Void> stop) {
        long untilNs = BootClock.now() + patienceNs;
        boolean isRepeat = false;
        boolean isInterrupted = false;
        for (int failures = 1;; failures++) {
            isInterrupted |= stop == null && Thread.interrupted();
            long leftNs = Math.max(1, untilNs - BootClock.now());
            Answer answer = exchange(method, path, body, Math.min(leftNs, tryNs), stop);
            answer.isRepeat = isRepeat;
            isRepeat |= answer.isDoubtful();
            long pauseNs = Polls.pauseNs(failures);
            if (!answer.isWorthRepeating() || BootClock.now() + pauseNs >= untilNs
                    || !pause(pauseNs, stop) && stop != null || !isRepeated.test(answer)) {
                if (isInterrupted) Thread.currentThread().interrupt();
                return answer;
            }
        }
    }

    /** Waits so long. False if the thread was interrupted, which it stays, or if `stop` came; it may be null. */
    static boolean pause(long ns, CompletableFuture<Void> stop) {
        try {
            (stop == null ? new CompletableFuture<Void>() : stop).get(ns, TimeUnit.NANOSECONDS);
        } catch (TimeoutException e) {
            return true;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } catch (ExecutionException e) {
            throw new AssertionError("what stops does not fail", e);
        }
        return false;
    }

    /** Does the work after so long, in one of the workers. */
    static Future<?> later(long ns, Runnable work) {
        TIMER.setRemoveOnCancelPolicy(true);
        return TIMER.schedule(() -> start(work), ns, TimeUnit.NANOSECONDS);
    }

    /** Does the work in one of the workers. */
    static void start(Runnable work) {
        try {
            WORKERS.execute(work);
        } catch (RuntimeException | Error e) { // No thread was to be had; somebody waits for this work.
            TIMER.schedule(() -> start(work), 100, TimeUnit.MILLISECONDS);
        }
    }

    private static Thread daemon(Runnable work) {
        Thread thread = new Thread(work, "dflockd-client");
        thread.setDaemon(true);
        return thread;
    }

    /** The connection that was used last, with this limit, or null. */
    private synchronized Connection kept(long limitNs) {
        while (!idle.isEmpty()) {
            Connection connection = idle.pop();
            if (!connection.isOver() && connection.limit(limitNs) && connection.isAlive()) return connection;
            connection.close();
        }
        return null;
    }

    /** Keeps a connection for an idle minute: the server or a router drops one that is idle for longer. */
    private synchronized void keep(Connection connection) {
        while (!idle.isEmpty() && !idle.getLast().isOpen()) idle.removeLast();
        if (connection.isReusable() && connection.openedNs > leftNs && connection.limit(BootClock.now() + IDLE_NS))
            idle.push(connection);
        else connection.close();
    }

    /** From now on nothing is sent on a connection that is open now: like another one it may have ended unnoticed. */
    synchronized void leave() {
        leftNs = BootClock.now();
        idle.forEach(Connection::close);
        idle.clear();
    }
}
