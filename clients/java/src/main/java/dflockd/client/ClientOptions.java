package dflockd.client;

import java.nio.file.Path;
import java.util.function.*;

/** How a client reaches its servers. Each method returns a copy with one change. */
public final class ClientOptions {
    String token;
    Path ca;
    String clientId;
    ToIntBiFunction<String, Integer> shard;
    long pollNs = Polls.POLL_NS;

    /** No token, the authorities of Java for https, a clientId of its own for each acquire. */
    public ClientOptions() {}

    /** The auth token of the server: printable ASCII without blanks. */
    public ClientOptions token(String token) { return with(copy -> copy.token = token); }

    /** A PEM file with the authorities that are trusted for https, instead of those of Java. */
    public ClientOptions ca(Path ca) { return with(copy -> copy.ca = ca); }

    /**
     * One clientId for all requests, 1 to 128 bytes without control characters; it promises one thing at a time. See
     * {@link DistributedLockClient#actor}.
     */
    public ClientOptions clientId(String clientId) {
        DistributedLockClient.requireText(clientId, 128, "a clientId");
        return with(copy -> copy.clientId = clientId);
    }

    /** Which of so many servers, from 0, has this name; the default is CRC-32 modulo their number. */
    public ClientOptions shard(ToIntBiFunction<String, Integer> shard) { return with(copy -> copy.shard = shard); }

    ClientOptions pollNs(long pollNs) { return with(copy -> copy.pollNs = pollNs); }

    private ClientOptions with(Consumer<ClientOptions> change) {
        ClientOptions copy = new ClientOptions();
        copy.token = token;
        copy.ca = ca;
        copy.clientId = clientId;
        copy.shard = shard;
        copy.pollNs = pollNs;
        change.accept(copy);
        return copy;
    }
}
