package dflockd.client;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.BooleanSupplier;
import java.util.stream.*;

/**
 * Runs all claims side by side, each with servers of its own, and prints "N passed, N failed". Claims that wait come first;
 * those that work follow, so that they do not take the time of claims about time. Arguments choose the claims whose names
 * begin so. The server is the program that the environment variable DFLOCKD names.
 */
public final class Suite {
    /** What a claim does: it fails if it throws. */
    interface Body {
        void run() throws Exception;
    }

    private static final int WAITING = 32;
    private static final int WORKING = 4;
    private static final long LIMIT_S = 240;

    private final Map<String, Body> waiting = new LinkedHashMap<>();
    private final Map<String, Body> working = new LinkedHashMap<>();

    /** Adds a claim, whose name is a sentence. */
    void claim(String name, Body body) { add(waiting, name, body); }

    /** Adds a claim that takes much processor time. */
    void work(String name, Body body) { add(working, name, body); }

    private static void add(Map<String, Body> claims, String name, Body body) {
        if (claims.put(name, body) != null) throw new IllegalStateException("two claims: " + name);
    }

    public static void main(String[] chosen) throws Exception {
        Suite suite = new Suite();
        try (Stage stage = new Stage()) {
            new ReadmeClaims(stage).addTo(suite); // The longest first.
            new EngineClaims().addTo(suite);
            new WaitClaims(stage).addTo(suite);
            new HoldClaims(stage).addTo(suite);
            new ServerClaims(stage).addTo(suite);
            Set<String> failed = new TreeSet<>();
            warmUp(stage);
            int count = run(suite.waiting, WAITING, List.of(chosen), failed)
                    + run(suite.working, WORKING, List.of(chosen), failed);
            System.out.println(count - failed.size() + " passed, " + failed.size() + " failed");
            System.exit(failed.isEmpty() && count > 0 ? 0 : 1);
        }
    }

    /** Loads what a first lock loads, which is no claim's business. */
    private static void warmUp(Stage stage) {
        try (DistributedLockClient client = stage.server().client()) {
            for (int i = 0; i < 50; i++) client.acquire("k", 30).release();
        }
    }

    /** How many were run; the names of those that failed are added to `failed`. */
    private static int run(Map<String, Body> claims, int sideBySide, List<String> chosen, Set<String> failed)
            throws InterruptedException {
        ExecutorService threads = Executors.newFixedThreadPool(sideBySide);
        Map<String, Future<String>> results = new LinkedHashMap<>();
        claims.forEach((name, body) -> {
            if (chosen.isEmpty() || chosen.stream().anyMatch(name::startsWith))
                results.put(name, threads.submit(() -> result(name, body)));
        });
        for (Map.Entry<String, Future<String>> each : results.entrySet()) {
            String result;
            try {
                result = each.getValue().get(LIMIT_S, TimeUnit.SECONDS);
            } catch (ExecutionException | TimeoutException e) {
                result = "FAILED " + each.getKey() + ": " + e;
            }
            System.out.println(result);
            if (result.startsWith("FAILED")) failed.add(each.getKey());
        }
        threads.shutdownNow();
        return results.size();
    }

    private static String result(String name, Body body) {
        long begin = System.nanoTime();
        try {
            body.run();
            return String.format("ok %s (%.1f s)", name, (System.nanoTime() - begin) / 1e9);
        } catch (Throwable e) {
            StringWriter text = new StringWriter();
            e.printStackTrace(new PrintWriter(text));
            return "FAILED " + name + "\n"
                    + text.toString().lines().map(line -> "    " + line).collect(Collectors.joining("\n"));
        }
    }

    static void check(boolean isTrue, String claim) {
        if (!isTrue) throw new AssertionError(claim);
    }

    static void equal(Object is, Object wanted, String what) {
        check(Objects.equals(is, wanted), what + ": " + is + ", not " + wanted);
    }

    /** The error of this class that the body throws. */
    static <E extends Throwable> E thrown(Class<E> wanted, Body body) {
        try {
            body.run();
        } catch (Throwable e) {
            if (wanted.isInstance(e)) return wanted.cast(e);
            throw new AssertionError("want " + wanted.getSimpleName(), e);
        }
        throw new AssertionError("want " + wanted.getSimpleName() + ", and nothing was thrown");
    }

    /** Waits until it is so. Returns how many seconds that took. */
    static double await(String what, double limitS, BooleanSupplier isSo) throws InterruptedException {
        long begin = System.nanoTime();
        while (!isSo.getAsBoolean()) {
            check((System.nanoTime() - begin) / 1e9 < limitS, "not within " + limitS + " s: " + what);
            Thread.sleep(20);
        }
        return (System.nanoTime() - begin) / 1e9;
    }

    /** Runs the bodies at the same time, and throws what one of them throws. */
    static void together(List<Body> bodies) throws Exception {
        ExecutorService threads = Executors.newCachedThreadPool();
        try {
            List<Future<Object>> all = new ArrayList<>();
            for (Body body : bodies)
                all.add(threads.submit(() -> {
                    body.run();
                    return null;
                }));
            for (Future<Object> each : all) each.get(LIMIT_S, TimeUnit.SECONDS);
        } finally {
            threads.shutdownNow();
        }
    }

    /** An empty folder, which is removed when the suite ends. */
    static Path emptyFolder() throws IOException {
        Path folder = Files.createTempDirectory("suite");
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try (Stream<Path> inside = Files.walk(folder)) {
                inside.sorted(Comparator.reverseOrder()).forEach(each -> each.toFile().delete());
            } catch (IOException e) {
                System.err.println(folder + " stays: " + e);
            }
        }));
        return folder;
    }

    /** What takes so many seconds. */
    interface Timed {
        double run() throws Exception;
    }

    /**
     * Fails if it takes longer each time, five times and for half a minute: a machine that stands still makes it
     * longer, and never shorter.
     */
    static void atBest(double mostS, Timed body) throws Exception {
        List<Double> all = new ArrayList<>();
        long end = System.nanoTime() + 30_000_000_000L;
        while (all.size() < 5 || System.nanoTime() < end) {
            all.add(body.run());
            if (all.get(all.size() - 1) <= mostS) return;
        }
        throw new AssertionError("at best " + mostS + " s was asked for, and it took " + all);
    }

    /** The seconds that the body takes. */
    static double seconds(Body body) throws Exception {
        long begin = System.nanoTime();
        body.run();
        return (System.nanoTime() - begin) / 1e9;
    }
}
