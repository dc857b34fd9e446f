package dflockd.client;

import java.io.ByteArrayOutputStream;
import java.net.*;
import java.net.http.*;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.Predicate;
import javax.net.ssl.SSLContext;

/**
 * The way to one server: HTTP/1.1 over connections that are kept, and repeats.
 * Invariant: a request that was not answered is repeated on a connection that was opened later.
 */
final class Transport {
    /** Daemons, so that no thread of ours keeps a program from its end. */
    static final Executor WORKERS = Executors.newCachedThreadPool(Transport::daemon);
    // The timer of CompletableFuture needs the common pool from Java 25 on, and a program may keep that busy.
    private static final ScheduledThreadPoolExecutor TIMER = new ScheduledThreadPoolExecutor(1, Transport::daemon);

    private static final long IDLE_NS = 60_000_000_000L;
    private static final int ANSWER_MAX = 32 << 20;
    private static final Duration CONNECT = Duration.ofSeconds(5);

    final String url;
    private final String token;
    private final SSLContext tls;
    private HttpClient connections;
    private long usedNs;

    Transport(String url, String token, SSLContext tls) {
        this.url = url;
        this.token = token;
        this.tls = tls;
    }

    /** One request. The future never fails but by cancellation, which ends the connection from Java 16 on. */
    CompletableFuture<Answer> exchange(String method, String path, Map<String, Object> body, long timeoutNs) {
        try {
            return send(method, path, body, timeoutNs);
        } catch (RuntimeException | Error e) { // No file descriptor, or no thread, was to be had.
            return CompletableFuture.completedFuture(Answer.failed(e, BootClock.now()));
        }
    }

    private CompletableFuture<Answer> send(String method, String path, Map<String, Object> body, long timeoutNs) {
        HttpClient client = connections();
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url + path));
        // Before Java 16 a cancelled request leaves its connection open (JDK-8251312); one that times out does not.
        if (Runtime.version().feature() < 16) request.timeout(Duration.ofNanos(timeoutNs));
        Set<String> secrets = new HashSet<>();
        for (String secret : new String[] {"requestId", "renewalToken"})
            if (body.containsKey(secret)) secrets.add((String) body.get(secret));
        if (token != null) {
            request.header("Authorization", "Bearer " + token);
            secrets.add(token);
        }
        if (!body.isEmpty()) request.header("Content-Type", "application/json");
        request.method(method,
                body.isEmpty() ? HttpRequest.BodyPublishers.noBody()
                               : HttpRequest.BodyPublishers.ofString(Json.write(body)));
        CompletableFuture<Answer> answer = new CompletableFuture<>();
        long sentNs = BootClock.now();
        // The answer is taken with its last byte: the future of sendAsync comes through the common pool, which a program
        // may keep busy.
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        HttpResponse.BodyHandler<Void> taken = head -> HttpResponse.BodySubscribers.ofByteArrayConsumer(part -> {
            if (part.isEmpty())
                answer.complete(Answer.of(head, bytes.toString(StandardCharsets.UTF_8), sentNs, secrets));
            else if (bytes.size() + part.get().length <= ANSWER_MAX) bytes.writeBytes(part.get());
            else answer.complete(Answer.failed(new ProtocolException("an answer of over 32 MB"), sentNs));
        });
        CompletableFuture<?> sent = client.sendAsync(request.build(), taken);
        sent.whenComplete((response, failure) -> {
            if (failure != null) answer.complete(Answer.failed(failure, sentNs, secrets));
        });
        Future<?> timer = later(
                timeoutNs, () -> answer.complete(Answer.failed(new HttpTimeoutException("no answer in time"), sentNs)));
        answer.whenComplete((done, cancelled) -> {
            timer.cancel(false);
            if (done == null || done.failure != null) sent.cancel(true);
            if (done != null && done.isUnanswered()) leave(client);
        });
        return answer;
    }

    /** A request that is repeated while there is no answer, for so long in all; each try has a limit, too. */
    CompletableFuture<Answer> call(String method, String path, Map<String, Object> body, long patienceNs, long tryNs) {
        return call(method, path, body, patienceNs, tryNs, answer -> true);
    }

    /** As {@link #call(String, String, Map, long, long)}, if `isRepeated` agrees just before each repeat. */
    CompletableFuture<Answer> call(String method, String path, Map<String, Object> body, long patienceNs, long tryNs,
            Predicate<Answer> isRepeated) {
        return call(method, path, body, BootClock.now() + patienceNs, tryNs, isRepeated, 0, false);
    }

    private CompletableFuture<Answer> call(String method, String path, Map<String, Object> body, long untilNs,
            long tryNs, Predicate<Answer> isRepeated, int failures, boolean isRepeat) {
        long leftNs = Math.max(1, untilNs - BootClock.now());
        return exchange(method, path, body, Math.min(leftNs, tryNs)).thenCompose(answer -> {
            answer.isRepeat = isRepeat;
            long pauseNs = Polls.pauseNs(failures + 1);
            if (!answer.isWorthRepeating() || BootClock.now() + pauseNs >= untilNs)
                return CompletableFuture.completedFuture(answer);
            boolean mayBeDone = isRepeat || answer.isDoubtful();
            return pause(pauseNs).thenCompose(over
                    -> isRepeated.test(answer)
                            ? call(method, path, body, untilNs, tryNs, isRepeated, failures + 1, mayBeDone)
                            : CompletableFuture.completedFuture(answer));
        });
    }

    /** A future that is done after so long. */
    static CompletableFuture<Void> pause(long ns) {
        CompletableFuture<Void> pause = new CompletableFuture<>();
        later(ns, () -> pause.complete(null));
        return pause;
    }

    /** Does the work after so long, in one of the workers. */
    static Future<?> later(long ns, Runnable work) {
        TIMER.setRemoveOnCancelPolicy(true);
        return TIMER.schedule(() -> start(work), ns, TimeUnit.NANOSECONDS);
    }

    private static void start(Runnable work) {
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

    /** The connections in use; new ones after an idle minute, when the server or a router may have dropped them. */
    private synchronized HttpClient connections() {
        long nowNs = BootClock.now();
        if (connections != null && nowNs - usedNs > IDLE_NS) leave(connections);
        usedNs = nowNs;
        if (connections != null) return connections;
        HttpClient.Builder builder = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).executor(WORKERS);
        if (tls != null) builder.sslContext(tls);
        connections = builder.connectTimeout(CONNECT).proxy(HttpClient.Builder.NO_PROXY).build();
        return connections;
    }

    /** Nothing new is sent on connections that were idle so long that they may have ended unnoticed. */
    synchronized void leaveIdle() {
        // Not after each request: before Java 21 what is left has its threads until the garbage collector comes.
        if (connections != null && BootClock.now() - usedNs > 1_000_000_000L) leave(connections);
    }

    /** Nothing new is sent on these connections; requests that are under way on them go on. */
    private synchronized void leave(HttpClient left) {
        if (connections != left) return;
        connections = null;
        try {
            HttpClient.class.getMethod("shutdown").invoke(left);
        } catch (ReflectiveOperationException e) {
            // Before Java 21 there is no such method: the garbage collector ends it.
        }
    }
}
