package dflockd.client;

import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.function.LongSupplier;

/**
 * A clock that goes on while the machine sleeps; a lease does, too. System.nanoTime stands still then, so the sleep is
 * seen in /proc/uptime, which has steps of 10 ms. Where there is no such file, the clock is System.nanoTime.
 * Invariant: it never goes back, and never goes slower than time.
 */
final class BootClock {
    private static final long STEP_NS = 10_000_000;
    private static final BootClock SYSTEM = new BootClock(System::nanoTime, uptime());

    private final LongSupplier monotonicNs;
    private final LongSupplier uptimeNs;
    private long apartNs;

    BootClock(LongSupplier monotonicNs, LongSupplier uptimeNs) {
        this.monotonicNs = monotonicNs;
        this.uptimeNs = uptimeNs;
        this.apartNs = uptimeNs.getAsLong() - monotonicNs.getAsLong();
    }

    /** The time now, in nanoseconds since some moment. */
    static long now() { return SYSTEM.read(); }

    synchronized long read() {
        // In this order a pause between the two lines makes the difference smaller, and a smaller one is ignored.
        long uptime = uptimeNs.getAsLong();
        long monotonic = monotonicNs.getAsLong();
        long moreNs = uptime - monotonic - apartNs;
        // A sleep may have lasted a step longer than it seems.
        if (moreNs > 0) apartNs += moreNs > STEP_NS ? moreNs + STEP_NS : moreNs;
        return monotonic + apartNs;
    }

    private static LongSupplier uptime() {
        try {
            RandomAccessFile file = new RandomAccessFile("/proc/uptime", "r");
            return () -> read(file);
        } catch (IOException | SecurityException e) {
            return () -> 0;
        }
    }

    /** The seconds in the first field; 0, which changes nothing, if it cannot be read. */
    private static long read(RandomAccessFile file) {
        byte[] line = new byte[64];
        try {
            file.seek(0);
            String text = new String(line, 0, Math.max(0, file.read(line)), StandardCharsets.US_ASCII);
            return Math.round(Double.parseDouble(text.split(" ")[0]) * 100) * 10_000_000L;
        } catch (IOException | NumberFormatException e) {
            return 0;
        }
    }
}
