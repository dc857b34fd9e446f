package dflockd.client;

import java.io.*;
import java.net.URI;
import java.net.http.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;

/** The stage of all clients, clients/tests/stage.py: servers, and a proxy before each of them that does as it is told. */
final class Stage implements AutoCloseable {
    private final Process process;
    private final String url;
    private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    Stage() throws IOException {
        String server = System.getenv("DFLOCKD");
        if (server == null) throw new IllegalStateException("DFLOCKD is not set: want the path of the server");
        Path script = folder().resolve("../tests/stage.py");
        process = new ProcessBuilder("python3", script.toString(), server)
                          .redirectError(ProcessBuilder.Redirect.INHERIT)
                          .start();
        url = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8)).readLine();
        if (url == null) throw new IOException("the stage does not start");
    }

    /** The folder of this client, clients/java: where the suite is started, or what the property `folder` names. */
    static Path folder() { return Path.of(System.getProperty("folder", ".")).toAbsolutePath(); }

    /** A server with these options, whose locks do not outlive it. */
    Server server(String... options) {
        return new Server(ask("POST", "/servers", Map.of("options", List.of(options))));
    }

    /** A server whose locks outlive it. */
    Server keepingServer() { return new Server(ask("POST", "/servers", Map.of("keeps", true))); }

    /** A server with a certificate for "localhost" or "elsewhere". */
    Server tlsServer(String host) { return new Server(ask("POST", "/servers", Map.of("certificate", host))); }

    /** The files of the authority and of a stranger. */
    Map<String, Object> certificates() { return Answer.members(ask("GET", "/certificates", null)); }

    @Override
    public void close() throws IOException {
        process.getOutputStream().close();
    }

    private Object ask(String method, String path, Map<String, Object> order) {
        var body = order == null ? HttpRequest.BodyPublishers.noBody()
                                 : HttpRequest.BodyPublishers.ofString(Json.write(order));
        try {
            var answer = http.send(HttpRequest.newBuilder(URI.create(url + path)).method(method, body).build(),
                    HttpResponse.BodyHandlers.ofString());
            if (answer.statusCode() != 200) throw new AssertionError(method + " " + path + ": " + answer.body());
            return Json.read(answer.body());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    /** A server and its proxy. */
    final class Server {
        /** Through the proxy. */
        final String url;
        final String direct;
        private final DistributedLockClient observer;
        /** Of the line protocol. */
        final int port;
        private final String path;

        private Server(Object told) {
            Map<String, Object> server = Answer.members(told);
            url = (String) server.get("url");
            direct = (String) server.get("direct");
            observer = new DistributedLockClient(direct);
            port = ((Long) server.get("port")).intValue();
            path = "/servers/" + server.get("name");
        }

        DistributedLockClient client() { return new DistributedLockClient(url); }

        /** What the proxy does with the next `times` requests that match, null for all: see the head of stage.py. */
        void order(String match, Integer times, String what, Object... more) {
            Map<String, Object> order = new HashMap<>();
            order.put("do", what);
            order.put("match", match);
            order.put("times", times);
            for (int at = 0; at < more.length; at += 2) order.put((String) more[at], more[at + 1]);
            ask("POST", path + "/orders", order);
        }

        void forgetOrders() { ask("DELETE", path + "/orders", null); }

        void signal(String signal) { ask("POST", path + "/signal", Map.of("signal", signal)); }

        void restart() { ask("POST", path + "/restart", Map.of()); }

        void refuse(double seconds) { ask("POST", path + "/refuse", Map.of("seconds", seconds)); }

        long closeIdle() { return (Long) Answer.members(ask("POST", path + "/close-idle", Map.of())).get("closed"); }

        void forgetRequests() { ask("DELETE", path + "/requests", null); }

        /** What came to the proxy, if "METHOD /path" matches. */
        List<Map<String, Object>> requests(String match) {
            List<Map<String, Object>> found = new ArrayList<>();
            for (Object each : (List<?>) ask("GET", path + "/requests", null)) {
                Map<String, Object> request = Answer.members(each);
                if ((request.get("method") + " " + request.get("path")).matches(match)) found.add(request);
            }
            return found;
        }

        /** When the last of these requests came, by BootClock in seconds; the clock of the stage is the same. */
        double last(String match) {
            List<Map<String, Object>> requests = requests(match);
            return ((Number) requests.get(requests.size() - 1).get("at")).doubleValue();
        }

        /** An observer that the proxy does not see. */
        DistributedLockClient observer() { return observer; }

        /** Whether nobody holds any lock, and nobody waits. */
        boolean isIdle() {
            Map<String, Object> stats = observer.stats();
            return stats.get("activeLocks").equals(0L) && stats.get("waitingRequests").equals(0L);
        }

        long waiters(String name) { return (Long) observer.status(name).get("waiters"); }
    }
}
