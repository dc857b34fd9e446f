package dflockd.client;

import static dflockd.client.Suite.*;

import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

/** The engine by a played clock: leases, polls, the clock itself; and JSON. No server is needed. */
final class EngineClaims {
    private static final long S = 1_000_000_000L;
    private static final long MS = 1_000_000L;
    private static final long NEVER = Lease.NEVER_NS;

    void addTo(Suite suite) {
        suite.claim("engine: 1,000 played losses, and each is told before the lease ends", this::playedLosses);
        suite.claim("engine: the deadline counts from the send, the wait and the lease", this::deadlines);
        suite.claim("engine: a late answer does not bring a lost lock back", this::lostForGood);
        suite.claim("engine: a release and a renewal that cross", this::crossing);
        suite.claim("engine: a grant after the acquire was given up is not taken", this::givenUp);
        suite.claim("engine: renewals at a third, and after failures each fifteenth", this::renewals);
        suite.claim("engine: two renewals under way together count as the shorter one", this::together);
        suite.claim("engine: a renewal that shortens the lease counts when it is sent", this::shortened);
        suite.claim("engine: an uncertain renewal bounds those after it for a minute", this::doubt);
        suite.claim("engine: after max_hold there is nothing to do but to end", this::maxHold);
        suite.claim("engine: polls, their length, their last one, and the repeats", this::polls);
        suite.claim("engine: a renewal is not sent past the deadline, or when the lock is released", this::inTime);
        suite.claim("engine: what an error shows of an answer has no secret, and is not misread", this::secrets);
        suite.claim("http: an answer is whole or none at each cut, and which connections are kept", this::answers);
        suite.claim("http: an interrupt, a stop and the end of the time end an exchange", this::ended);
        suite.claim("http: an answer of over 32 MB is refused", this::tooLong);
        suite.work("engine: one call of many ends a lock", this::endsOnce);
        suite.claim("clock: a sleep of the machine counts, steps of 10 ms do not add up", this::clock);
        suite.claim("json: what is read is what was written", this::json);
        suite.claim("json: what is no JSON is refused, cut at each character", this::noJson);
        suite.claim("crc, encoding and identity: the vectors, and no two names alike", this::names);
    }

    /** A server that stops at some moment, a network that delays and drops, a machine that sleeps. */
    private void playedLosses() {
        Map<String, Integer> seen = new TreeMap<>();
        for (int seed = 0; seed < 1000; seed++) {
            Random random = new Random(seed);
            long ttl = (long) (Math.exp(random.nextDouble() * Math.log(3000)) * S / 10);
            boolean isRenewed = random.nextInt(5) > 0;
            double drift = 1 + (random.nextDouble() - 0.5) / 1000;
            long stops = (long) (random.nextDouble() * 6 * ttl);
            Lease lease =
                    new Lease(ttl, isRenewed, random.nextInt(4) == 0 ? (long) (random.nextDouble() * 4 * ttl) : NEVER);
            long now = 1 + random.nextInt(1000) * S;
            long begin = now;
            long wait = random.nextInt(3) == 0 ? (long) (random.nextDouble() * 40 * S) : 0;
            long processed = now + wait + (long) (random.nextDouble() * ttl / 10);
            long heard = processed + (long) (random.nextDouble() * ttl / 10);
            long serverEnd = processed + (long) (ttl * drift);
            long from = now + wait / 1000 * 999;
            now = heard;
            check(!Lease.isLate(from, ttl, now), "seed " + seed + ": the grant is late");
            check(lease.grant(from, ttl, now), "seed " + seed + ": not granted");
            long sent = 0;
            long answerAt = NEVER;
            boolean isAnswered = false;
            boolean sleeps = random.nextInt(3) == 0;
            boolean slept = false;
            while (true) {
                long look = Math.min(lease.wakeNs(), now + S);
                now = Math.max(now, Math.min(look, answerAt));
                slept = sleeps && random.nextInt(8) == 0;
                if (slept) now += (long) (random.nextDouble() * 2 * ttl);
                boolean isOver = now >= serverEnd;
                check(!isOver || lease.remainingNs(now) == 0, "seed " + seed + ": held after the end");
                if (lease.expire(now)) {
                    check(!isOver || slept, "seed " + seed + ": told " + (now - serverEnd) + " ns after the end");
                    break;
                }
                check(!isOver, "seed " + seed + ": not told at the first look after the end");
                if (now >= answerAt) {
                    answerAt = NEVER;
                    if (!isAnswered) lease.notRenewed(random.nextBoolean(), now);
                    else check(lease.renewed(sent, ttl, ttl, now), "seed " + seed + ": not renewed");
                }
                if (lease.beginRenewal(now)) {
                    sent = now;
                    boolean isUp = now - begin < stops && random.nextInt(4) > 0;
                    long arrives = now + (long) (random.nextDouble() * lease.patienceNs(now) / 2);
                    answerAt = isUp ? arrives + (long) (random.nextDouble() * lease.patienceNs(now) / 2)
                                    : now + lease.patienceNs(now);
                    isAnswered = isUp;
                    // A request that is not answered may have been carried out, too.
                    if ((isUp || random.nextInt(8) == 0) && arrives < serverEnd)
                        serverEnd = Math.max(serverEnd, arrives + (long) (ttl * drift));
                    else if (isUp) isAnswered = false;
                }
            }
            check(lease.loss() != null && !lease.expire(now) && !lease.lose("again")
                            && !lease.renewed(now, ttl, ttl, now),
                    "seed " + seed + ": not lost for good");
            check(!lease.beginRelease() && !lease.beginRenewal(now) && lease.wakeNs() == NEVER,
                    "seed " + seed + ": there is more to do");
            seen.merge(slept ? "slept" : isRenewed ? "renewed" : "not renewed", 1, Integer::sum);
        }
        check(seen.get("slept") > 100 && seen.get("renewed") > 300 && seen.get("not renewed") > 100,
                "losses of one kind only: " + seen);
    }

    private static Lease held(long ttl, boolean isRenewed, long maxHold) {
        Lease lease = new Lease(ttl, isRenewed, maxHold);
        check(lease.grant(0, ttl, 0), "not granted");
        return lease;
    }

    private void deadlines() {
        equal(held(30 * S, false, NEVER).remainingNs(0), 29 * S, "30 s: the margin is 1 s");
        equal(held(S, false, NEVER).remainingNs(0), 900 * MS, "1 s: the margin is a tenth");
        Lease lease = new Lease(30 * S, true, NEVER);
        check(lease.grant(100 * S, 30 * S, 101 * S), "not granted");
        equal(lease.remainingNs(101 * S), 28 * S, "counted from the send");
        check(lease.renewed(110 * S, 30 * S, 30 * S, 112 * S), "not renewed");
        equal(lease.remainingNs(112 * S), 27 * S, "counted from the send of the renewal");
        check(!lease.expire(139 * S - 1) && lease.expire(139 * S), "the deadline");
        check(!Lease.isLate(0, 10 * S, 4500 * MS) && Lease.isLate(0, 10 * S, 4500 * MS + 1),
                "late after half of the usable time");
        equal(Lease.after(NEVER - 5, 6), NEVER, "no overflow");
        equal(Lease.after(5, NEVER), NEVER, "no overflow");
    }

    private void lostForGood() {
        Lease lease = held(10 * S, true, NEVER);
        check(lease.beginRenewal(4 * S), "not due");
        check(!lease.renewed(4 * S, 10 * S, 10 * S, 9 * S), "an answer after the deadline renews");
        check(lease.expire(9 * S), "not lost");
        check(!lease.renewed(4 * S, 10 * S, 10 * S, 9 * S) && lease.remainingNs(9 * S) == 0, "a lost lock came back");
        Lease gone = held(10 * S, true, NEVER);
        check(gone.lose("gone") && !gone.lose("gone") && !gone.expire(9 * S), "lost twice");
        check(!gone.renewed(S, 10 * S, 10 * S, S), "a lost lock came back");
        equal(gone.loss(), "gone", "loss");
    }

    private void crossing() {
        Lease lease = held(10 * S, true, NEVER);
        check(lease.beginRenewal(4 * S) && lease.beginRelease(), "a release must not wait");
        check(!lease.beginRelease() && !lease.beginRenewal(8 * S), "begun twice");
        check(!lease.renewed(4 * S, 10 * S, 10 * S, 5 * S) && !lease.lose("gone") && !lease.expire(20 * S),
                "held or lost after its release");
        Lease other = held(10 * S, true, NEVER);
        check(other.beginRelease() && !other.beginRenewal(8 * S), "renewed after its release was sent");
        lease.endRelease(null);
        equal(lease.loss(), null, "loss");
        equal(lease.wakeNs(), NEVER, "wake");
    }

    private void givenUp() {
        Lease lease = new Lease(10 * S, true, NEVER);
        equal(lease.wakeNs(), NEVER, "wake");
        check(!lease.expire(NEVER - 1) && !lease.lose("gone") && !lease.beginRelease() && !lease.beginRenewal(S),
                "held before its grant");
        lease.giveUp();
        check(!lease.grant(0, 10 * S, 0) && lease.remainingNs(0) == 0, "granted after it was given up");
        Lease held = held(10 * S, true, NEVER);
        held.giveUp();
        check(held.remainingNs(0) > 0, "what is granted is not given up");
    }

    private void renewals() {
        Lease lease = held(30 * S, true, NEVER);
        equal(lease.wakeNs(), 10 * S, "the first");
        check(!lease.beginRenewal(10 * S - 1) && lease.beginRenewal(10 * S), "at a third");
        check(!lease.beginRenewal(11 * S), "two at once");
        equal(lease.wakeNs(), 29 * S, "the deadline, while one is under way");
        lease.notRenewed(true, 11 * S);
        check(lease.beginRenewal(11 * S), "a connection that ended is repeated at once");
        lease.notRenewed(true, 12 * S);
        equal(lease.wakeNs(), 14 * S, "each fifteenth");
        check(lease.beginRenewal(14 * S), "not due");
        lease.notRenewed(false, 15 * S);
        equal(lease.wakeNs(), 17 * S, "each fifteenth, whatever failed");
        check(lease.beginRenewal(17 * S) && lease.renewed(17 * S, 30 * S, 30 * S, 18 * S), "not renewed");
        equal(lease.wakeNs(), 27 * S, "a third after the last good send");
        Lease brief = held(300 * MS, true, NEVER);
        check(brief.beginRenewal(100 * MS), "not due");
        brief.notRenewed(false, 120 * MS);
        equal(brief.wakeNs(), 170 * MS, "50 ms at least");
        equal(brief.patienceNs(0), 200 * MS, "patience, at least");
        equal(held(12 * S, true, NEVER).patienceNs(0), 2 * S, "patience, a sixth");
        equal(held(300 * S, true, NEVER).patienceNs(0), 5 * S, "patience, at most");
        equal(held(30 * S, false, NEVER).wakeNs(), 29 * S, "without renewals only the deadline");
        check(!held(30 * S, false, NEVER).beginRenewal(20 * S), "renewed unasked");
    }

    private void together() {
        Lease lease = held(30 * S, true, NEVER);
        check(lease.beginRenewal(10 * S), "not due");
        check(lease.renewed(11 * S, 5 * S, 5 * S, 12 * S), "not renewed");
        equal(lease.remainingNs(12 * S), 3500 * MS, "the one by hand");
        check(lease.renewed(10 * S, 30 * S, 30 * S, 13 * S), "not renewed");
        equal(lease.remainingNs(13 * S), 2500 * MS, "the shorter one, whichever came last");
    }

    private void shortened() {
        Lease lease = held(30 * S, false, NEVER);
        Lease.Renewal renewal = lease.renewalSent(10 * S, 2 * S);
        equal(lease.remainingNs(10 * S), 1800 * MS, "from the send of a shorter one");
        equal(lease.wakeNs(), 11_800 * MS, "wake");
        lease.settle(renewal, true, 11 * S);
        check(lease.expire(11_800 * MS), "without an answer it is held on");
        lease.restore(renewal);
        equal(lease.remainingNs(11_800 * MS), 0L, "a lost lock came back");
        Lease longer = held(30 * S, false, NEVER);
        longer.renewalSent(10 * S, 60 * S);
        equal(longer.remainingNs(10 * S), 19 * S, "a longer one counts when it is confirmed");
        Lease refused = held(30 * S, false, NEVER);
        renewal = refused.renewalSent(10 * S, 2 * S);
        refused.settle(renewal, false, 10 * S);
        refused.restore(renewal);
        equal(refused.remainingNs(10 * S), 19 * S, "the server did nothing");
        Lease.Renewal first = refused.renewalSent(10 * S, 2 * S);
        refused.renewalSent(10 * S, 2 * S);
        refused.settle(first, false, 10 * S);
        refused.restore(first);
        equal(refused.remainingNs(10 * S), 1800 * MS, "another is on its way");
    }

    private void doubt() {
        Lease lease = held(30 * S, false, NEVER);
        Lease.Renewal brief = lease.renewalSent(S, 5 * S);
        Lease.Renewal longer = lease.renewalSent(2 * S, 60 * S);
        lease.settle(longer, false, 2 * S);
        check(lease.renewed(2 * S, 60 * S, 60 * S, 2 * S), "not renewed");
        equal(lease.remainingNs(2 * S), 4500 * MS, "while the shorter one is on its way");
        lease.settle(brief, true, 3 * S);
        for (long now = 3 * S; now < 63 * S; now += 3 * S) {
            check(lease.renewed(now, 60 * S, 60 * S, now), "not renewed");
            equal(lease.remainingNs(now), 4500 * MS, "the shorter one may come late");
        }
        check(lease.renewed(63 * S, 60 * S, 60 * S, 63 * S), "not renewed");
        equal(lease.remainingNs(63 * S), 59 * S, "after a minute");
    }

    private void maxHold() {
        Lease lease = held(30 * S, true, 15 * S);
        check(lease.beginRenewal(10 * S) && lease.renewed(10 * S, 30 * S, 30 * S, 10 * S), "not renewed");
        check(!lease.beginRenewal(20 * S), "renewed after max_hold");
        equal(lease.wakeNs(), 39 * S, "wake");
        check(lease.expire(39 * S), "not lost");
    }

    private void polls() {
        Polls polls = new Polls(0, 100 * S, 45 * S);
        equal(polls.waitNs(0), 45 * S, "the first");
        check(!polls.isLast(0) && !polls.isLast(54 * S) && polls.isLast(55 * S), "the last");
        equal(polls.waitNs(90 * S), 10 * S, "the rest");
        equal(polls.waitNs(101 * S), 0L, "after the end");
        equal(polls.patienceNs(0), 50 * S, "patience");
        equal(polls.patienceNs(101 * S), 4 * S, "patience after the end");
        equal(polls.answered(0, 45 * S), 0L, "the next goes out at once");
        equal(polls.failed(true, 0, 30 * S), 0L, "the first repeat, at once");
        equal(polls.waitNs(30 * S), 24 * S, "0.8 of the poll that was cut");
        long pause = polls.failed(true, 30 * S, 32 * S);
        check(pause >= 25 * MS && pause <= 50 * MS, "the second repeat after " + pause);
        equal(polls.waitNs(32 * S), 5 * S, "5 s at least");
        polls.failed(true, 33 * S, 33 * S + 1);
        equal(polls.waitNs(34 * S), 5 * S, "a quick end says nothing of the length");
        equal(polls.failed(false, 100 * S, 100 * S), -1L, "a refusal after the end");
        check(polls.failed(true, 100 * S, 101 * S) > 0, "no answer after the end");
        equal(polls.failed(true, 100 * S, 105 * S), -1L, "the patience is over");
        Polls once = new Polls(0, 0, 45 * S);
        check(once.isLast(0) && once.waitNs(0) == 0, "a try does not wait");
        check(once.failed(false, 0, 90 * MS) >= 0 && once.failed(false, 0, 100 * MS) < 0, "a refused try is told late");
        check(once.failed(true, 0, 4 * S) >= 0 && once.failed(true, 0, 5 * S) < 0, "502 ends a try before 5 s");
        Polls away = new Polls(0, 2 * S, 45 * S);
        for (int failures = 0; failures < 20; failures++)
            check(away.failed(false, 0, 1900 * MS) <= 100 * MS, "the last pause goes beyond the wait");
        check(away.failed(false, 0, 1999 * MS) >= 0 && away.failed(false, 0, 2 * S) < 0, "a wait ends before its end");
        Polls forever = new Polls(5 * S, NEVER, 45 * S);
        check(!forever.isLast(NEVER / 2) && forever.failed(false, 0, NEVER / 2) >= 0, "a wait without end ends");
        equal(forever.patienceNs(NEVER / 2), 50 * S, "patience");
        Polls hasty = new Polls(0, 100 * S, 45 * S);
        hasty.answered(0, 1);
        check(hasty.answered(1, 2) > 0, "answers without any wait are asked for in a busy loop");
        for (int failures = 0; failures < 100; failures++)
            check(Polls.pauseNs(failures) <= 2 * S, "a pause is too long");
        check(Polls.pauseNs(50) >= S, "a pause is too short");
    }

    private void inTime() {
        Lease lease = held(30 * S, false, NEVER);
        equal(lease.patienceNs(28 * S), S, "patience, until the deadline");
        lease.renewalSent(10 * S, 2 * S);
        equal(lease.patienceNs(10 * S), 1800 * MS, "patience, until the deadline that a shorter one brings");
        check(lease.isRenewable(11 * S) && !lease.isRenewable(11_800 * MS), "at the deadline");
        check(lease.beginRelease() && !lease.isRenewable(11 * S), "after the release");
    }

    private void secrets() {
        Set<String> sent = Set.of("0123456789abcdef0123456789abcdef", "lock", "a\"quote");
        LockError shown = said(409,
                "{\"code\":\"0123456789abcdef0123456789abcdef\",\"detail\":\"a\\\"quote\","
                        + "\"cycle\":[\"0123456789abcdef0123456789abcdef\"]}",
                sent)
                                  .error("acquire", "server");
        equal(List.of(String.valueOf(shown.getCode()), shown.getDetail()), List.of("nonsense", "***"), "shown");
        LockError deadlock = said(409, "{\"code\":\"deadlock\",\"cycle\":[{\"clientId\":\"a lock\"}]}", sent)
                                     .error("acquire", "server");
        equal(deadlock.getCode(), "deadlock", "code");
        equal(((LockDeadlockError) deadlock).getCycle(), List.of(Map.of("clientId", "a ***")), "cycle");
        Answer other = Answer.failed(new ProtocolException("not HTTP: a lock"), 0, sent);
        LockError error = other.error("acquire", "server");
        check(error.getCause() == null && !error.getMessage().contains("a lock"), error.getMessage());
        equal(error.getCode(), "nonsense", "code");
    }

    private static Answer said(int status, String body, Set<String> secrets) {
        return Answer.of(status, null, body, 0, secrets);
    }

    private static final String OK = "HTTP/1.1 200 OK\r\n";
    private static final String END = "\0";

    private void answers() throws Exception {
        String body = "{\"acquired\":true}";
        String plain = OK + "X-Request-Id: 7\r\ncontent-length: 17\r\n\r\n" + body;
        String chunked = OK + "Transfer-Encoding: chunked\r\n\r\n5\r\n" + body.substring(0, 5) + "\r\nC;x=y\r\n"
                + body.substring(5) + "\r\n0\r\nTrailer: x\r\n\r\n";
        for (String whole : List.of(plain, chunked, "HTTP/1.1 100 Continue\r\n\r\n" + plain)) {
            for (int at = 0; at < whole.length(); at++)
                equal(said(1, whole.substring(0, at)).get(0).code(), "no-answer", "cut at " + at + " of " + whole);
            equal(said(1, whole, whole).get(1).body, Map.of("acquired", true), "the second answer");
        }
        equal(said(1, plain).get(0).requestId, "7", "requestId");
        equal(said(1, "HTTP/1.1 204 No Content\r\n\r\n", plain).get(1).status, 200, "after one without a body");
        // After these the connection is not used again.
        for (String last : List.of(OK + "\r\n" + body + END, "HTTP/1.0 200 OK\r\nContent-Length: 17\r\n\r\n" + body,
                     OK + "Connection: Keep-Alive, Close\r\nContent-Length: 17\r\n\r\n" + body, plain + "HTTP"))
            equal(said(2, last, plain).get(0).body, Map.of("acquired", true), last);
        for (String bad : List.of("SSH-2.0-OpenSSH_9\r\n", "HTTP/2 200\r\n", "HTTP/1.1 abc\r\n\r\n", "\r\n",
                     "HTTP/1.1 200 "
                             + "x".repeat(1 << 17),
                     OK + "Content-Length: 99999999\r\n\r\n"))
            equal(said(1, bad).get(0).code(), "nonsense", bad.substring(0, Math.min(bad.length(), 20)));
        for (String broken : List.of("Transfer-Encoding: chunked\r\n\r\nzz\r\n", "Content-Length: 1, 1\r\n\r\n{}",
                     "Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n", "Content-Length: -1\r\n\r\n"))
            check(said(1, OK + broken).get(0).failure != null, broken);
    }

    /** What exchanges get from a server that says these one after the other, over so many connections. */
    private static List<Answer> said(int connections, String... texts) throws Exception {
        try (ServerSocket server = new ServerSocket(0, 9, InetAddress.getLoopbackAddress())) {
            CompletableFuture<Integer> accepted =
                    CompletableFuture.supplyAsync(() -> say(server, texts), Transport.WORKERS);
            Transport client = new Transport("http://127.0.0.1:" + server.getLocalPort(), null, null);
            List<Answer> answers = new ArrayList<>();
            for (int i = 0; i < texts.length; i++) answers.add(client.exchange("GET", "/", Map.of(), 30 * S, null));
            equal(accepted.get(30, TimeUnit.SECONDS), connections, "connections for " + String.join(", ", texts));
            return answers;
        }
    }

    /** Says each text to one request, and ends the connection after the last one and where a text says so. */
    private static int say(ServerSocket server, String... texts) {
        int connections = 0;
        for (int at = 0; at < texts.length; connections++) {
            try (Socket connection = server.accept()) {
                boolean isOpen = true;
                while (isOpen && at < texts.length && connection.getInputStream().read(new byte[4096]) > 0) {
                    String text = texts[at++];
                    isOpen = !text.endsWith(END);
                    connection.getOutputStream().write(text.replace(END, "").getBytes(StandardCharsets.UTF_8));
                }
            } catch (IOException e) {
                // The client has ended the connection.
            }
        }
        return connections;
    }

    private void ended() throws Exception {
        try (ServerSocket silent = new ServerSocket(0, 9, InetAddress.getLoopbackAddress())) {
            Transport client = new Transport("http://127.0.0.1:" + silent.getLocalPort(), null, null);
            Answer late = client.exchange("GET", "/", Map.of(), 2 * S, null);
            check(late.failure instanceof SocketTimeoutException && late.isUnanswered(), "ended by " + late.failure);
            CompletableFuture<Void> stop = new CompletableFuture<>();
            CompletableFuture<Answer> stopped = CompletableFuture.supplyAsync(
                    () -> client.exchange("GET", "/", Map.of(), 60 * S, stop), Transport.WORKERS);
            Thread.sleep(100);
            stop.complete(null);
            check(stopped.get(20, TimeUnit.SECONDS).failure != null, "an answer");
            check(client.exchange("GET", "/", Map.of(), 60 * S, stop).failure != null, "an answer after the stop");
            AtomicReference<Boolean> isInterrupted = new AtomicReference<>();
            Thread waits = new Thread(() -> {
                client.exchange("GET", "/", Map.of(), 60 * S, null);
                isInterrupted.set(Thread.currentThread().isInterrupted());
            });
            waits.start();
            Thread.sleep(100);
            waits.interrupt();
            waits.join(20_000);
            equal(isInterrupted.get(), true, "whether the thread stays interrupted");
        }
    }

    private void tooLong() throws Exception {
        try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            for (int length : List.of(32 << 20, (32 << 20) + 1)) {
                CompletableFuture<Void> said =
                        CompletableFuture.runAsync(() -> sayBlanks(server, length), Transport.WORKERS);
                Transport client = new Transport("http://127.0.0.1:" + server.getLocalPort(), null, null);
                Answer answer = client.exchange("GET", "/", Map.of(), 30 * S, null);
                check(answer.failure == null == (length == 32 << 20), length + " bytes: " + answer.failure);
                equal(answer.code(), "nonsense", "code");
                said.get(30, TimeUnit.SECONDS);
            }
        }
    }

    /** Answers one request with so many blanks, and waits for the end of the connection. */
    private static void sayBlanks(ServerSocket server, int length) {
        try (Socket connection = server.accept()) {
            connection.getInputStream().read(new byte[4096]);
            OutputStream out = connection.getOutputStream();
            out.write(
                    ("HTTP/1.1 200 OK\r\nContent-Length: " + length + "\r\n\r\n").getBytes(StandardCharsets.US_ASCII));
            out.write(" ".repeat(length).getBytes(StandardCharsets.US_ASCII));
        } catch (IOException e) {
            // The client has ended the connection.
        }
    }

    private void endsOnce() throws Exception {
        for (int i = 0; i < 50; i++) {
            Lease lease = held(10 * S, true, NEVER);
            AtomicInteger ends = new AtomicInteger();
            CountDownLatch go = new CountDownLatch(1);
            List<Body> bodies = new ArrayList<>();
            for (int kind = 0; kind < 6; kind++) {
                int what = kind % 3;
                bodies.add(() -> {
                    go.await();
                    if (what == 0 ? lease.expire(9 * S) : what == 1 ? lease.lose("gone") : lease.beginRelease())
                        ends.incrementAndGet();
                });
            }
            bodies.add(go::countDown);
            Suite.together(bodies);
            equal(ends.get(), 1, "ends");
        }
    }

    private void clock() {
        AtomicLong awake = new AtomicLong(-5 * S);
        AtomicLong asleep = new AtomicLong();
        BootClock clock =
                new BootClock(awake::get, () -> (awake.get() + 100 * S + asleep.get()) / (10 * MS) * (10 * MS));
        long begin = clock.read();
        for (int i = 0; i < 10_000; i++) {
            awake.addAndGet(MS + 137);
            long passed = clock.read() - begin;
            long really = (i + 1) * (MS + 137);
            check(passed >= really && passed <= really + 10 * MS, "after " + really + " ns the clock has " + passed);
        }
        asleep.set(3600 * S);
        long passed = clock.read() - begin - 10_000 * (MS + 137);
        check(passed >= 3600 * S && passed <= 3600 * S + 20 * MS, "a sleep of an hour is " + passed);
        asleep.set(0);
        check(clock.read() - begin >= 3600 * S, "the clock went back");
        check(BootClock.now() > 0, "the clock of this machine");
    }

    private void json() {
        Map<String, Object> value = new LinkedHashMap<>();
        value.put("a \" \\ / \b\f\n\r\t \u0001 ü 😀",
                Arrays.asList(null, true, false, 0L, -12L, 1.5, -2e-7, Long.MAX_VALUE, Map.of(), List.of(), ""));
        value.put("big", new java.math.BigInteger("123456789012345678901234567890"));
        equal(Json.read(Json.write(value)), value, "value");
        equal(Json.read(" [ 1 , 2.0 , \"\\u00fc\\ud83d\\ude00\\/\" ] \n"), List.of(1L, 2.0, "ü😀/"), "value");
        equal(Json.write(Map.of("n", 30.0)), "{\"n\":30.0}", "text");
    }

    private void noJson() {
        String whole = "{\"a\":[1,-2.5e3,true,null,\"\\u00fc\\n\",{}],\"b\":{}}";
        Json.read(whole);
        for (int at = 0; at < whole.length(); at++) {
            String cut = whole.substring(0, at);
            thrown(IllegalArgumentException.class, () -> Json.read(cut));
            String more = whole + whole.charAt(at);
            thrown(IllegalArgumentException.class, () -> Json.read(more));
        }
        for (String bad : List.of("[1,]", "[,1]", "{,}", "{\"a\":1,}", "{\"a\" 1}", "{a:1}", "01", "+1", "1.", ".5",
                     "-", "1e", "NaN", "nul", "truefalse", "\"\n\"", "\"\\x\"", "\"\\u12g4\"", "\"\\", "'a'", "[1 2]",
                     "]", "\0", "1\0", "[".repeat(100_000)))
            thrown(IllegalArgumentException.class, () -> Json.read(bad));
        List<Object> circle = new ArrayList<>();
        circle.add(circle);
        thrown(IllegalArgumentException.class, () -> Json.write(circle));
        Json.read("\""
                + "a\\n".repeat(100_000) + "\"");
    }

    private void names() {
        equal(DistributedLockClient.encode("user:123"), "user:123", "encoded");
        equal(DistributedLockClient.encode("a/b"), "a%2Fb", "encoded");
        equal(DistributedLockClient.encode("ü*+ ~-._%"), "%C3%BC%2A%2B%20~-._%25", "encoded");
        Set<String> drawn = new HashSet<>();
        for (int i = 0; i < 1000; i++) {
            String id = DistributedLockClient.random(128);
            check(id.matches("[0-9a-f]{32}") && drawn.add(id), "random: " + id);
        }
    }
}
