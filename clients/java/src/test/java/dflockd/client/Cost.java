package dflockd.client;

import java.net.URI;
import java.net.http.*;
import java.util.*;

/** Measures what a scoped lock costs beside bare requests of the same transport: prints both medians and their ratio. */
public final class Cost {
    private static final int ROUNDS = 3000;

    public static void main(String[] arguments) throws Exception {
        try (Stage stage = new Stage()) {
            Stage.Server server = stage.server();
            HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
            DistributedLockClient client = new DistributedLockClient(server.direct);
            double[] bare = new double[ROUNDS];
            double[] scoped = new double[ROUNDS];
            for (int round = -1000; round < ROUNDS; round++) { // The first thousand are for the compiler.
                long begin = System.nanoTime();
                Map<String, Object> grant =
                        send(http, server.direct + "/locks/bare/acquire", "{\"clientId\":\"bare\",\"timeout\":30.0}");
                send(http, server.direct + "/locks/bare/release",
                        "{\"renewalToken\":\"" + grant.get("renewalToken") + "\"}");
                long middle = System.nanoTime();
                try (DistributedLock lock = client.acquire("scoped", 30)) {
                    if (lock.getFence() == 0) throw new IllegalStateException("no fence");
                }
                if (round < 0) continue;
                bare[round] = (middle - begin) / 1e3;
                scoped[round] = (System.nanoTime() - middle) / 1e3;
            }
            Arrays.sort(bare);
            Arrays.sort(scoped);
            double b = bare[ROUNDS / 2];
            double s = scoped[ROUNDS / 2];
            System.out.printf(
                    "bare requests %.0f us, scoped lock %.0f us, ratio %.2f (medians of %d)%n", b, s, s / b, ROUNDS);
        }
        System.exit(0);
    }

    private static Map<String, Object> send(HttpClient http, String url, String body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url))
                                      .header("Content-Type", "application/json")
                                      .POST(HttpRequest.BodyPublishers.ofString(body))
                                      .build();
        HttpResponse<String> answer = http.send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) throw new IllegalStateException("status " + answer.statusCode());
        return Answer.members(Json.read(answer.body()));
    }
}
