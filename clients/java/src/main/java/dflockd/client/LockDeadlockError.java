package dflockd.client;

import java.util.List;

/** The wait would never have ended: actors wait for each other. Release what this actor holds, and begin again. */
public class LockDeadlockError extends LockError {
    private static final long serialVersionUID = 1;

    private final String cycle;

    LockDeadlockError(Answer answer, String detail) {
        super(answer, detail);
        cycle = Json.write(answer.body.getOrDefault("cycle", List.of()));
    }

    /** Who waits for which lock: maps with "clientId" and "waitsFor", at most 16. */
    public List<?> getCycle() { return (List<?>) Json.read(cycle); }
}
