package dflockd.client;

import static dflockd.client.Suite.*;

import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.TimeUnit;
import java.util.regex.*;
import java.util.stream.*;

/** The code of README.md is taken out, compiled, and run; only the address of the server is replaced. */
final class ReadmeClaims {
    /** The snippet of the README that the project began with. */
    private static final String SEED =
            "DistributedLockClient client = new DistributedLockClient(\"http://localhost:5000\");\n\n"
            + "try (DistributedLock lock = client.acquire(\"user:123\", 30)) {\n    // Critical section\n"
            + "    System.out.println(\"Lock acquired: \" + lock.getLockId());\n    // Lock automatically "
            + "released\n}\n";

    private final Stage stage;
    private final String readme;

    ReadmeClaims(Stage stage) throws IOException {
        this.stage = stage;
        readme = Files.readString(Stage.folder().resolve("README.md"));
    }

    void addTo(Suite suite) {
        suite.work("01 the snippet of the README that the project began with runs as it is", this::seed);
        suite.work("readme: all of its other snippets run", this::snippets);
        suite.work("readme: the jar is built, and of two programs one leads, then the other", this::leaders);
    }

    private List<String> blocks(String language) {
        return Pattern.compile("(?ms)^```" + language + "\n(.*?)^```$")
                .matcher(readme)
                .results()
                .map(each -> each.group(1))
                .collect(Collectors.toList());
    }

    private void seed() throws Exception {
        equal(blocks("java").get(0), SEED, "the first block");
        Stage.Server server = stage.server();
        check(run(SEED.replace("http://localhost:5000", server.url)).matches("Lock acquired: lock-[0-9a-f]{16}\n"),
                "the output");
        equal(server.observer().stats().get("totalReleased"), 1L, "releases");
    }

    private void snippets() throws Exception {
        Stage.Server server = stage.server();
        Stage.Server secure = stage.tlsServer("localhost");
        String body = blocks("java")
                              .stream()
                              .filter(each -> !each.contains("class ") && !each.equals(SEED))
                              .map(each -> "{\n" + each + "}\n")
                              .collect(Collectors.joining());
        body = body.replace("http://localhost:5000", server.url)
                       .replace("https://localhost:5000", secure.direct)
                       .replace("ca.pem", (String) stage.certificates().get("ca"));
        String output =
                run("DistributedLockClient client = new DistributedLockClient(\"" + server.url + "\");\n" + body);
        for (String line : List.of("9, held for PT", "nightly: 0 more wait", "one of three: lock-",
                     "from account:1 to account:2", "ok"))
            check(output.contains(line), line + " is missing in " + output);
        check(server.isIdle(), "something is left");
    }

    /** Compiles these statements as a program, runs it, and returns what it prints. */
    private static String run(String statements) throws Exception {
        Path folder = emptyFolder();
        String head = "import dflockd.client.*;\nimport java.nio.file.Path;\nimport java.util.*;\n\n";
        Files.writeString(folder.resolve("Snippet.java"),
                head + "final class Snippet {\npublic static void main(String[] arguments) {\n" + statements
                        + "}\n}\n");
        String classes = System.getProperty("java.class.path");
        ended(start(folder, "javac", "--release", "11", "-Xlint:all", "-Werror", "-cp", absolute(classes), "-d", ".",
                "Snippet.java"));
        String java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
        return ended(start(folder, java, "-cp", "." + File.pathSeparator + absolute(classes), "Snippet"));
    }

    private static String absolute(String classes) {
        return Stream.of(classes.split(File.pathSeparator))
                .map(each -> Path.of(each).toAbsolutePath().toString())
                .collect(Collectors.joining(File.pathSeparator));
    }

    private static Process start(Path folder, String... command) throws IOException {
        return new ProcessBuilder(command).directory(folder.toFile()).redirectErrorStream(true).start();
    }

    private static String ended(Process process) throws Exception {
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        equal(process.waitFor(), 0, "exit status of a program that printed " + output + ", ");
        return output;
    }

    private void leaders() throws Exception {
        Stage.Server server = stage.server();
        Path folder = emptyFolder();
        Files.createSymbolicLink(folder.resolve("src"), Stage.folder().resolve("src").normalize());
        ended(start(folder, "sh", "-ec", blocks("sh").get(0).replace("find src/main", "find src/main/")));
        String program = blocks("java").stream().filter(each -> each.contains("class Leader")).findFirst().get();
        Files.writeString(folder.resolve("Leader.java"), program.replace("http://localhost:5000", server.url));
        String command = "exec " + blocks("console").get(0).strip().substring(2);
        Process first = start(folder, "sh", "-c", command);
        Process second = null;
        try {
            BufferedReader says = lines(first);
            check(says.readLine().matches("I lead, with fence [0-9a-f]{16}"), "the first does not lead");
            server.observer().forceRelease("leader");
            check(says.readLine().startsWith("I lead no more: "), "the loss is not told");
            check(says.readLine().startsWith("I lead, with fence "), "the first does not lead again");
            second = start(folder, "sh", "-c", command);
            await("the second waits", 60, () -> server.waiters("leader") == 1);
            first.destroyForcibly();
            BufferedReader next = lines(second);
            double took =
                    seconds(() -> check(next.readLine().startsWith("I lead, with fence "), "the second does not lead"));
            check(took < 8, "the second leads after " + took + " s");
        } finally {
            first.destroyForcibly();
            if (second != null) second.destroyForcibly();
        }
        check(first.waitFor(10, TimeUnit.SECONDS), "the first does not end");
    }

    private static BufferedReader lines(Process process) {
        return new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
    }
}
