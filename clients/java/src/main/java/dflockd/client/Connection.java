package dflockd.client;

import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.regex.*;
import javax.net.ssl.*;

/**
 * A connection to a server, and HTTP/1.1 (RFC 9112) on it: one exchange after the other, in the thread of the caller.
 * An interrupt of that thread, close(), and the time limit each end an exchange that is under way.
 * Invariant: a connection whose last exchange was not answered to its end is never used again.
 */
final class Connection {
    private static final int LINE_MAX = 64 << 10;
    private static final int ANSWER_MAX = 32 << 20;
    private static final Set<String> FIELDS =
            Set.of("content-length", "transfer-encoding", "connection", "x-request-id");
    private static final Pattern STATUS = Pattern.compile("HTTP/1\\.([01]) ([1-9][0-9]{2})( .*)?");

    final long openedNs = BootClock.now();
    // Only a channel ends a blocking read when the thread is interrupted; the streams of its socket do, too.
    private final SocketChannel channel;
    private InputStream in;
    private OutputStream out;
    private boolean isReusable;
    private long limitNs;
    private long watchNs = Lease.NEVER_NS;

    /** A connection that is yet to be connected, in the time that is set here. */
    Connection(long limitNs) throws IOException {
        channel = SocketChannel.open();
        limit(limitNs);
    }

    /** Nothing was sent if this is a ConnectException. What the system takes to find the name is not limited. */
    void connect(URI url, SSLContext tls) throws IOException {
        boolean isPlain = url.getScheme().equalsIgnoreCase("http");
        String host = url.getHost().replaceAll("[\\[\\]]", "");
        int port = url.getPort() >= 0 ? url.getPort() : isPlain ? 80 : 443;
        try {
            channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
            channel.connect(new InetSocketAddress(InetAddress.getByName(host), port));
        } catch (ConnectException e) {
            throw e;
        } catch (IOException e) {
            ConnectException failure = new ConnectException(isOver() ? "no connection in time" : e.toString());
            failure.initCause(e);
            throw failure;
        }
        Socket socket = channel.socket();
        if (!isPlain) {
            SSLSocket secure = (SSLSocket) tls.getSocketFactory().createSocket(socket, host, port, true);
            SSLParameters checked = secure.getSSLParameters();
            checked.setEndpointIdentificationAlgorithm("HTTPS");
            secure.setSSLParameters(checked);
            secure.startHandshake();
            socket = secure;
        }
        in = new BufferedInputStream(socket.getInputStream());
        out = socket.getOutputStream();
    }

    /** Closes the connection at this time, unless another one is set before. False if it is closed already. */
    synchronized boolean limit(long ns) {
        if (!channel.isOpen()) return false;
        limitNs = ns;
        if (watchNs > ns) {
            watchNs = ns;
            Transport.later(ns - BootClock.now(), () -> watch(ns));
        }
        return true;
    }

    /** Most limits are set anew before they pass, so there is one look for many of them. */
    private synchronized void watch(long plannedNs) {
        if (plannedNs != watchNs) return; // An earlier look was planned since.
        watchNs = Lease.NEVER_NS;
        if (isOver()) close();
        else limit(limitNs);
    }

    /** Whether the time is over that was set. */
    synchronized boolean isOver() { return BootClock.now() >= limitNs; }

    void close() {
        try {
            channel.close();
        } catch (IOException e) {
            // Nothing is left to do for a connection that cannot be closed.
        }
    }

    boolean isOpen() { return channel.isOpen(); }

    /** Whether the peer has kept the connection, and silent. A byte or the end that came while it was idle ends it. */
    boolean isAlive() {
        try {
            channel.configureBlocking(false);
            boolean isSilent = channel.read(ByteBuffer.allocate(1)) == 0;
            channel.configureBlocking(true);
            return isSilent;
        } catch (IOException e) {
            return false;
        }
    }

    /** Whether another exchange may follow. */
    boolean isReusable() { return isReusable; }

    /** Sends these bytes, and reads the answer to its end. */
    Answer exchange(byte[] request, long sentNs, Set<String> secrets) throws IOException {
        isReusable = false;
        out.write(request);
        Matcher first;
        Map<String, String> head;
        do {
            String line = line();
            first = STATUS.matcher(line);
            if (!first.matches()) throw new ProtocolException("not HTTP/1.1: " + line);
            head = head();
        } while (first.group(2).startsWith("1")); // An interim answer.
        int status = Integer.parseInt(first.group(2));
        String length = head.get("content-length");
        boolean isChunked = head.getOrDefault("transfer-encoding", "").toLowerCase(Locale.ROOT).endsWith("chunked");
        boolean isEmpty = status == 204 || status == 304;
        byte[] body = isEmpty ? new byte[0] : isChunked ? chunks() : length != null ? bytes(length, 10) : rest();
        // What answers with 5xx often ends the connection then.
        isReusable = status < 500 && first.group(1).equals("1") && (isEmpty || isChunked || length != null)
                && in.available() == 0
                && !head.getOrDefault("connection", "").toLowerCase(Locale.ROOT).contains("close");
        return Answer.of(status, head.get("x-request-id"), new String(body, StandardCharsets.UTF_8), sentNs, secrets);
    }

    /** The header fields that matter, up to the empty line. */
    private Map<String, String> head() throws IOException {
        Map<String, String> head = new HashMap<>();
        for (String line = line(); !line.isEmpty(); line = line()) {
            int colon = Math.max(0, line.indexOf(':'));
            String name = line.substring(0, colon).toLowerCase(Locale.ROOT);
            if (FIELDS.contains(name))
                head.merge(name, line.substring(colon + 1).strip(), (one, two) -> one + "," + two);
        }
        return head;
    }

    private String line() throws IOException {
        StringBuilder line = new StringBuilder();
        for (int next = in.read(); next != '\n'; next = in.read()) {
            if (next < 0) throw new EOFException("the connection ended");
            if (line.length() == LINE_MAX) throw new ProtocolException("a line of over 64 KiB");
            line.append((char) next);
        }
        int end = line.length() - 1;
        return end >= 0 && line.charAt(end) == '\r' ? line.substring(0, end) : line.toString();
    }

    private byte[] chunks() throws IOException {
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        while (true) {
            byte[] chunk = bytes(line().split(";")[0].strip(), 16);
            if (chunk.length == 0) break;
            if (body.size() + chunk.length > ANSWER_MAX) throw tooLong();
            body.writeBytes(chunk);
            if (!line().isEmpty()) throw new IOException("a chunk that is longer than its size");
        }
        head(); // The trailer.
        return body.toByteArray();
    }

    private byte[] bytes(String length, int radix) throws IOException {
        long count;
        try {
            count = Long.parseLong(length, radix);
        } catch (NumberFormatException e) {
            throw new IOException("a length that is no number");
        }
        if (count < 0 || count > ANSWER_MAX) throw tooLong();
        byte[] bytes = in.readNBytes((int) count);
        if (bytes.length < count) throw new EOFException("the connection ended amid the answer");
        return bytes;
    }

    private byte[] rest() throws IOException {
        byte[] bytes = in.readNBytes(ANSWER_MAX + 1);
        if (bytes.length > ANSWER_MAX) throw tooLong();
        return bytes;
    }

    private static IOException tooLong() { return new ProtocolException("an answer of over 32 MB"); }
}
