"""The behaviours that behaviours.txt names, each for the client with threads and, through its face, for that of
asyncio."""

import io
import itertools
import json
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
import textwrap
import threading
import traceback
import zlib

import theatre
from theatre import Face, Play, at_best, busy, now, until

import distributed_lock_client as package
from distributed_lock_client import (
    LockCapacityError,
    LockDeadlockError,
    LockDeniedError,
    LockDrainingError,
    LockError,
    LockLimitMismatchError,
    LockLostError,
    LockNotHeldError,
    LockRequestError,
    LockServerError,
    LockTimeoutError,
    LockUnavailableError,
)


def heavy(test):
    """It takes long, so it begins first."""
    test.is_heavy = True
    return test


def inner(client):
    return client.client if isinstance(client, Face) else client


def close(client):
    """Its loop goes on."""
    if isinstance(client, Face):
        client.do(client.client.close())
    else:
        client.close()


def boxed(status, text, kind="application/json"):
    return f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\nContent-Length: {len(text.encode())}\r\n\r\n{text}"


class Behaviours:
    stride = 1

    def logs(self):
        """What the package logs from now on, in whichever test."""
        text = io.StringIO()
        handler = logging.StreamHandler(text)
        logger = logging.getLogger("distributed_lock_client")
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        return text

    def held(self, server, name, **query):
        return server.status(name, **query)["locked"]

    def waiters(self, server, name, **query):
        return server.status(name, **query)["waiters"]

    def test_02_a_try_on_a_held_lock_ends_at_once(self):
        server, client = self.both()
        client.acquire("k")
        at_best(0.5, lambda: self.assertIsNone(client.try_acquire("k")))
        with self.assertRaises(LockTimeoutError) as caught:
            client.acquire("k")
        error = caught.exception
        self.assertEqual((error.reason, error.code, error.status), ("timeout", None, 200))
        self.assertIn("wait_timeout", str(caught.exception))
        self.assertEqual(self.waiters(server, "k"), 0)
        self.assertEqual({each["path"] for each in server.requests()}, {"/locks/k/acquire"})

    def test_03_three_waiters_keep_their_order_over_five_polls(self):
        server, client = self.both()
        holder, order, ends = client.acquire("k"), [], []
        for number in range(3):
            waiter = self.client(server)
            inner(waiter)._poll_max_s = 0.6

            def wait(waiter=waiter, number=number):
                with waiter.lock("k", wait_timeout=60):
                    order.append(number)

            ends.append(self.beside(wait))
            until(lambda number=number: self.waiters(server, "k") == number + 1)
        ids = list(dict.fromkeys(each["body"]["requestId"] for each in server.requests("acquire")))[1:]

        def polls():
            return [
                ids.index(each["body"]["requestId"])
                for each in server.requests("acquire")
                if each["body"]["requestId"] in ids
            ]

        self.assertEqual(len(ids), 3)
        until(lambda: min(map(polls().count, range(3))) >= 5)
        # The first waiter has just polled again: without its place it would be the last one now.
        count = polls().count(0)
        until(lambda: polls().count(0) > count)
        holder.release()
        for end in ends:
            end()
        self.assertEqual(order, [0, 1, 2])
        asked = [each["body"] for each in server.requests("acquire") if each["body"]["requestId"] in ids]
        self.assertEqual({body["keepPlace"] for body in asked}, {5})

    def test_04_a_wait_ends_in_time_and_leaves_nothing(self):
        server, client = self.both()
        holder = client.acquire("k")

        def wait():
            start = now()
            with self.assertRaises(LockTimeoutError):
                client.acquire("k", wait_timeout=1.5)
            took_s = now() - start
            self.assertGreaterEqual(took_s, 1.4)
            self.assertEqual(self.waiters(server, "k"), 0)
            return took_s

        at_best(2, wait)
        self.assertTrue(holder.release())
        self.assertFalse(self.held(server, "k"))
        self.assertNotIn("keepPlace", server.requests("acquire")[-1]["body"])

    def test_05_a_late_answer_counts_from_its_send(self):
        server, client = self.both()
        server.order("delay", "acquire", seconds=1)
        lock = client.acquire("k", 10)
        ends_at = now() + lock.remaining()
        sent = server.requests("acquire")[0]["at"]
        self.assertLessEqual(ends_at, sent + 9)
        self.assertGreater(ends_at, sent + 5)
        self.assertEqual(server.requests("renew"), [])

    def test_05_so_does_a_late_answer_to_a_renewal(self):
        server, client = self.both()
        lock = client.acquire("k", 30)
        server.order("delay", "renew", seconds=1)
        lock.renew(60)
        self.assertLessEqual(now() + lock.remaining(), server.requests("renew")[0]["at"] + 59)
        self.assertGreater(lock.remaining(), 40)

    def test_05_a_wait_is_not_taken_from_the_lease(self):
        server, client = self.both()
        holder = client.acquire("k")
        waiting = self.beside(lambda: client.acquire("k", 10, wait_timeout=20))
        until(lambda: self.waiters(server, "k"))
        at = now()
        until(lambda: now() > at + 4)
        holder.release()
        lock = waiting()
        self.assertGreater(lock.remaining(), 6)
        self.assertLessEqual(lock.remaining(), 9)

    def test_06_a_lock_that_comes_after_its_lease_is_not_handed_out(self):
        server, client = self.both()
        server.order("delay", "acquire", seconds=3.5)
        with self.assertRaises(LockTimeoutError) as caught:
            client.acquire("k", 3)
        self.assertEqual((caught.exception.reason, caught.exception.status), ("late", None))
        self.assertEqual(server.requests("renew"), [])
        until(lambda: not self.held(server, "k"))
        # With time left the wait goes on, as another attempt.
        server.order("delay", "acquire", seconds=3.5)
        lock = client.acquire("k", 3, wait_timeout=20)
        lock.check()
        ids = [each["body"]["requestId"] for each in server.requests("acquire")]
        self.assertEqual(len(set(ids)), 3)
        self.assertTrue(lock.release())

    def test_06_one_that_comes_with_little_left_is_renewed_first(self):
        server, client = self.both()
        server.order("delay", "acquire", seconds=8)
        lock = client.acquire("k", 16, wait_timeout=20)
        self.assertIn(200, [each["status"] for each in server.requests("renew")])
        self.assertGreater(lock.remaining(), 8)
        self.assertTrue(lock.release())

    @heavy
    def test_07_a_renewed_lock_stays_the_same(self):
        at_best(1, self.missing_of_a_short_lease)

    def missing_of_a_short_lease(self):
        """How many of 5 seconds it was lost: none, unless the machine stands still for more than half of one."""
        server, client = self.both()
        lock = client.acquire("k", 1, auto_renew=True, wait_timeout=20)
        before = lock.lock_id, lock.fencing_token
        start = now()
        until(lambda: now() > start + 5 or lock.lost.is_set())
        held = server.status("k")["lockId"]
        if not lock.release():
            return 5
        self.assertEqual(((lock.lock_id, lock.fencing_token), held), (before, lock.lock_id))
        renewals = server.requests("renew")
        self.assertGreaterEqual(len(renewals), 5)
        self.assertEqual({each["body"]["timeout"] for each in renewals}, {1})
        self.assertNotIn("autoRenew", json.dumps(server.requests("acquire")))
        return 0

    def lost_in_time(self, trouble, end):
        """The margin of a lease of 10 s is 1 s, so a machine that stands still may be that late."""
        at_best(0, lambda: self.lateness(trouble, end))

    def lateness(self, trouble, end):
        """How long after the end of its lease the loss of a lock is told, which is a negative number of seconds."""
        server, client = self.both()
        told = []
        lock = client.acquire("k", 10, auto_renew=True, wait_timeout=20, on_lost=lambda: told.append(now()))
        until(lambda: [each for each in server.requests("renew") if each["status"] == 200])
        trouble(server)
        self.assertTrue(lock.lost.wait(20))
        until(lambda: told)
        sent = max(each["at"] for each in server.requests("renew") if each["status"] == 200)
        self.assertGreater(told[0], sent + 6)
        self.assertRaises(LockLostError, lock.check)
        self.assertEqual(lock.remaining(), 0)
        start = now()
        self.assertFalse(lock.release())
        self.assertLess(now() - start, 3)
        self.assertEqual(len(told), 1)
        end(server)
        return told[0] - sent - 10

    @heavy
    def test_08_a_stopped_server_loses_the_lock_in_time(self):
        self.lost_in_time(lambda server: server.signal("STOP"), lambda server: server.signal("CONT"))

    @heavy
    def test_08_a_silent_network_loses_the_lock_in_time(self):
        def end(server):
            server.forget_orders()
            until(lambda: not self.held(server, "k"))

        self.lost_in_time(lambda server: server.order("swallow", "renew", times=None), end)

    def test_09_a_server_without_memory_loses_the_lock_at_the_first_renewal(self):
        server, client = self.both()
        lock = client.acquire("k", 9, auto_renew=True, wait_timeout=20)
        server.signal("KILL")
        server.restart()
        self.assertTrue(lock.lost.wait(20))
        self.assertEqual({each["status"] for each in server.requests("renew") if each["status"]}, {409})
        self.assertLess(now(), server.requests("acquire")[-1]["at"] + 7)  # and not at its deadline
        self.assertRaises(LockLostError, lock.check)

    def test_10_a_lock_released_by_force_is_lost_soon(self):
        server, client = self.both()
        told = []
        with (
            self.assertRaises(LockLostError),
            client.lock("k", 12, auto_renew=True, wait_timeout=20, on_lost=lambda: told.append(now())) as lock,
        ):
            start = now()
            until(lambda: now() > start + 3)
            # The renewal is due in 1 s now, and a third of the lease and 1 s are 5 s.
            start = now()
            gone = client.force_release("k")
            self.assertEqual(gone, [{"lockId": lock.lock_id, "clientId": lock.client_id}])
            self.assertTrue(lock.lost.wait(20))
            self.assertLess(now() - start, 5)
        until(lambda: told)
        with self.assertRaises(LockNotHeldError):
            client.force_release("k")

    def test_10_also_if_only_the_release_hears_of_it(self):
        _, client = self.both()
        with self.assertRaises(LockLostError) as caught, client.lock("k", 30):
            client.force_release("k")
        self.assertEqual((caught.exception.code, caught.exception.status), (None, None))
        lock = client.acquire("k")
        client.force_release("k", lock_id=lock.lock_id)
        self.assertFalse(lock.release())
        self.assertTrue(lock._is_lost)

    def test_10_a_body_that_fails_keeps_its_own_error(self):
        _, client = self.both()
        with self.assertRaises(ZeroDivisionError), client.lock("k", 30):
            client.force_release("k")
            raise ZeroDivisionError

    @heavy
    def test_11_a_renewal_survives_cuts_a_page_and_refusals(self):
        server, client = self.both()
        server.order("cut", "renew", at=0, times=2)
        server.order("say", "renew", answer=boxed(502, "<html>Bad Gateway</html>", "text/html"))
        lock = client.acquire("k", 12, auto_renew=True, wait_timeout=20)
        until(lambda: [each for each in server.requests("renew") if each["status"] == 200])
        self.assertGreaterEqual(len(server.requests("renew")), 4)
        good = server.requests("renew")[-1]["at"]
        until(lambda: now() > good + 1)
        server.refuse(6).join()
        until(lambda: server.requests("renew")[-1]["at"] > good and server.requests("renew")[-1]["status"] == 200)
        lock.check()
        self.assertEqual(server.status("k")["lockId"], lock.lock_id)
        self.assertTrue(lock.release())

    @busy
    def test_12_an_answer_cut_at_each_byte_is_one_grant(self):
        server, client = self.both()
        whole = None
        for at in itertools.count(0, self.stride):
            name = f"k{at}"
            server.order("cut", f"/{name}/acquire", at=at)
            lock = client.acquire(name, 30, wait_timeout=20)
            if whole is None:
                whole = True
                grant = server.status(name)["holders"]
                self.assertEqual([each["lockId"] for each in grant], [lock.lock_id])
            tries = server.requests(f"/{name}/acquire")
            self.assertEqual(len({each["body"]["requestId"] for each in tries}), 1)
            self.assertTrue(lock.release())
            server.ask("DELETE", "/requests")
            if len(tries) == 1:
                break
        self.assertGreater(at, 400)
        stats = client.stats()
        self.assertEqual((stats["activeLocks"], stats["totalAcquired"]), (0, at // self.stride + 1))

    def cancelled(self, server, name):
        """How long a waiter is left after its acquire was cancelled."""
        client = self.face(server.url)
        waiting = self.beside(lambda: client.acquire(name, wait_timeout=None))
        until(lambda: self.waiters(server, name) == 1)
        client.close()
        start = now()
        until(lambda: self.waiters(server, name) == 0)
        took_s = now() - start
        with self.assertRaises(LockUnavailableError) as caught:
            waiting()
        self.assertEqual(caught.exception.code, "closed")
        return took_s

    def test_13_a_cancelled_wait_leaves_no_waiter(self):
        server, client = self.both()
        client.acquire("k")
        at_best(1, lambda: self.cancelled(server, "k"))
        until(lambda: server.requests("release"))
        self.assertEqual(server.requests("release")[-1]["body"].keys(), {"clientId", "requestId"})

    def test_13_also_behind_a_proxy_that_hides_it(self):
        server, client = self.both()
        client.acquire("k")
        server.order("hide", "acquire", times=None)
        at_best(1, lambda: self.cancelled(server, "k"))

    def test_15_a_release_whose_answer_is_lost_is_true(self):
        server, client = self.both()
        lock = client.acquire("k")
        server.order("cut", "release", at=0)
        self.assertTrue(lock.release())
        self.assertEqual([each["status"] for each in server.requests("release")], [None, 409])
        self.assertTrue(lock.release())
        self.assertEqual(len(server.requests("release")), 2)
        self.assertRaises(LockNotHeldError, lock.check)

    def test_15_a_silent_connection_does_not_keep_a_release(self):
        server, client = self.both()
        lock = client.acquire("k")
        server.order("swallow", "release")
        self.assertTrue(lock.release())
        self.assertFalse(self.held(server, "k"))

    def test_15_a_lock_that_was_asked_for_twice_ends_with_its_attempt(self):
        server, client = self.both()
        server.order("cut", "acquire", at=0)
        lock = client.acquire("k")
        self.assertTrue(lock.release())
        self.assertEqual(server.requests("release")[0]["body"].keys(), {"renewalToken", "clientId", "requestId"})
        lock = client.acquire("k")
        self.assertTrue(lock.release())
        self.assertEqual(server.requests("release")[1]["body"].keys(), {"renewalToken"})

    def test_15_a_lock_that_ended_with_its_server_is_not_released(self):
        server = self.server()
        lock = self.client(server.direct).acquire("k")
        server.signal("KILL")
        server.restart()
        self.assertFalse(lock.release())
        self.assertRaises(LockLostError, lock.check)

    @heavy
    def test_16_no_renewal_after_the_release(self):
        server, client = self.both()
        lock = client.acquire("k", 4, auto_renew=True, wait_timeout=20)
        until(lambda: len(server.requests("renew")) >= 2)
        lock.release()
        released = server.requests("release")[0]["at"]
        until(lambda: now() > released + 3)
        self.assertLess(server.requests("renew")[-1]["at"], released)

    @heavy
    def test_16_no_renewal_after_the_deadline(self):
        server, client = self.both()
        server.order("swallow", "renew", times=None)
        lock = client.acquire("k", 10, auto_renew=True, wait_timeout=20)
        self.assertTrue(lock.lost.wait(20))
        sent = server.requests("acquire")[0]["at"]
        server.forget_orders()
        until(lambda: now() > sent + 13)
        self.assertLess(server.requests("renew")[-1]["at"], sent + 10)
        with self.assertRaises(LockLostError):
            lock.renew()
        self.assertLess(server.requests("renew")[-1]["at"], sent + 10)

    @heavy
    def test_16_no_renewal_after_max_hold(self):
        server, client = self.both()
        # A renewal would be due each 3 s, so none is near the end.
        lock = client.acquire("k", 9, auto_renew=True, wait_timeout=20, max_hold=5)
        granted = now()
        self.assertTrue(lock.lost.wait(30))
        self.assertGreater(now(), granted + 9)
        renewals = server.requests("renew")
        self.assertLess(renewals[-1]["at"], granted + 5)
        self.assertIn(200, [each["status"] for each in renewals])
        until(lambda: now() > granted + 15)
        self.assertEqual(len(server.requests("renew")), len(renewals))

    def test_17_fences_rise_and_are_exact(self):
        server, client = self.both()
        locks = []
        for _ in range(20):
            with client.lock("k") as lock:
                self.assertEqual(server.status("k")["lockId"], "lock-" + lock.fencing_token)
            locks.append(lock)
        fences = [lock.fence for lock in locks]
        self.assertEqual(fences, sorted(set(fences)))
        self.assertEqual([lock.fencing_token for lock in locks], sorted(lock.fencing_token for lock in locks))
        self.assertEqual([f"{fence:016x}" for fence in fences], [lock.fencing_token for lock in locks])
        self.assertGreater(fences[0], 2**53)

    @busy
    def test_18_a_limit_holds(self):
        server, client = self.both()
        count, most, guard = 0, 0, threading.Lock()

        def use():
            nonlocal count, most
            mine = self.client(server)
            for _ in range(4):
                with mine.lock("pool", limit=3, wait_timeout=60):
                    with guard:
                        count += 1
                        most = max(most, count)
                    until(lambda: most == 3)  # noqa: B023
                    with guard:
                        count -= 1

        for end in [self.beside(use) for _ in range(10)]:
            end()
        self.assertEqual(most, 3)
        with client.lock("pool", limit=3), self.assertRaises(LockLimitMismatchError) as caught:
            client.acquire("pool", limit=4)
        self.assertEqual((caught.exception.code, caught.exception.status), ("limit-mismatch", 409))

    def test_19_names_and_metadata_come_back(self):
        server, client = self.both()
        metadata = {"operation": "user-update", "deep": {"ü": [1, 2.5, None, True]}}
        for name in ["user:123", "a/b", "ü", "a?b#c%2F&d", "~._-"]:
            with client.lock(name, metadata=metadata) as lock:
                status = client.status(name)
                self.assertEqual((status["lockName"], status["metadata"], lock.name), (name, metadata, name))
                self.assertEqual(status["clientId"], lock.client_id)
        paths = [each["path"] for each in server.requests("acquire")]
        self.assertEqual(paths[:3], ["/locks/user:123/acquire", "/locks/a%2Fb/acquire", "/locks/%C3%BC/acquire"])
        self.assertRegex(lock.client_id, r"^[A-Za-z0-9.-]+-\d+-[0-9a-f]{8}-\d+$")

    def test_20_two_actors_deadlock(self):
        server, client = self.both()
        one, two = client.actor("one"), client.actor("two")
        one.acquire("a")
        held = two.acquire("b")
        waiting = self.beside(lambda: one.acquire("b", wait_timeout=30))
        until(lambda: self.waiters(server, "b") == 1)
        with self.assertRaises(LockDeadlockError) as caught:
            two.acquire("a", wait_timeout=30)
        self.assertEqual(
            {(step["clientId"], step["waitsFor"]) for step in caught.exception.cycle}, {("one", "b"), ("two", "a")}
        )
        self.assertTrue(held.release())
        self.assertEqual(waiting().client_id, "one")

    def test_20_without_actors_nothing_is_refused(self):
        server, client = self.both()
        client.acquire("a")
        self.assertIsNone(client.try_acquire("a", wait_timeout=0.1))

    def test_21_a_wrong_token_is_denied_at_once(self):
        server = self.server("--auth-token", "right-secret")
        client = self.client(server, token="wrong-secret")
        with self.assertRaises(LockDeniedError) as caught:
            client.acquire("k", wait_timeout=10)
        error = caught.exception
        self.assertEqual((error.status, error.code), (401, "unauthorized"))
        self.assertIn("token=", str(error))
        self.assertEqual([each["path"] for each in server.requests()], ["/locks/k/acquire"])
        shown = repr(error) + str(vars(error)) + "".join(traceback.format_exception(None, error, error.__traceback__))
        self.assertNotIn("secret", shown + repr(inner(client)))
        with self.client(server, token="right-secret").lock("k") as lock:
            self.assertTrue(self.held_with(server, "right-secret"))
            self.no_secret(lock, server)

    def held_with(self, server, token):
        return self.client(server, token=token).status("k")["locked"]

    def no_secret(self, lock, server):
        body = server.requests("acquire")[-1]["body"]
        for secret in [lock._token, body["requestId"], "right-secret"]:
            self.assertTrue(secret)
            for text in [repr(lock), str(lock), f"{lock}"]:
                self.assertNotIn(secret, text)

    def test_21_no_error_repeats_a_secret(self):
        server, client = self.both()
        secrets = []
        logs = self.logs()
        lock = client.acquire("k", 6, auto_renew=True, wait_timeout=20)
        secrets += [lock._token, server.requests("acquire")[0]["body"]["requestId"]]
        said = boxed(500, json.dumps({"code": "internal", "detail": f"it was {secrets[0]} {secrets[1]}"}))
        server.order("say", "renew", answer=said, times=None)
        self.assertTrue(lock.lost.wait(20))
        self.assertIn("it was ... ...", logs.getvalue())
        with self.assertRaises(LockServerError) as caught:
            server.order("say", "acquire", answer=boxed(500, json.dumps({"detail": secrets[0]})))
            client.acquire("k")
        for secret in secrets:
            self.assertNotIn(secret, logs.getvalue() + str(caught.exception) + str(vars(caught.exception)))

    @heavy
    def test_22_a_server_that_drains_serves_its_holders(self):
        server = self.server(keeps=True)
        holder, waiter, other = (self.client(server) for _ in range(3))
        held, kept = holder.acquire("k", 30), holder.acquire("kept", 30, auto_renew=True)
        waiting = self.beside(lambda: waiter.acquire("k", wait_timeout=60))
        until(lambda: self.waiters(server, "k") == 1)
        lines = self.line_session(server)
        server.signal("TERM")
        with self.assertRaises(LockDrainingError):
            until(lambda: other.try_acquire("free", 0.1) and False)
        kept.renew()
        self.assertTrue(held.release())
        lines.close()
        server.restart()
        self.assertEqual(waiting().name, "k")
        kept.renew()
        self.assertTrue(kept.release())

    def line_session(self, server):
        """A lock of the line protocol, for which a drain waits."""
        import socket

        told = theatre.stage().ask("GET", f"/servers/{server.name}/requests")
        self.assertIsNotNone(told)
        session = socket.create_connection(("127.0.0.1", server.port))
        self.addCleanup(session.close)
        session.sendall(b"l\nline\n10 60\n")
        self.assertTrue(session.recv(100).startswith(b"ok"))
        return session

    def test_23_without_a_server_a_try_fails_soon(self):
        server, client = self.both()
        refusal = server.refuse(6)
        with self.assertRaises(LockUnavailableError) as caught:
            until(lambda: client.health() and False)
        self.assertEqual(caught.exception.code, "no-connection")
        self.assertIn("no connection", str(caught.exception))
        at_best(1, lambda: self.assertRaises(LockUnavailableError, client.try_acquire, "k"))
        lock = client.acquire("k", wait_timeout=20)
        refusal.join()
        lock.check()
        nobody = self.client("http://127.0.0.1:9")
        at_best(1, lambda: self.assertRaises(LockUnavailableError, nobody.acquire, "k"))
        self.assertRaises(LockUnavailableError, nobody.acquire, "k", wait_timeout=0.5)

    def test_24_nonsense_is_an_error(self):
        server, client = self.both()
        good = '{"lockId":"lock-18a3f217b3c4d87f","lockName":"k","clientId":"x","acquired":true,"ttl":30,"waitTime":0,'
        good += '"renewalToken":"18a3f217b3c4d87f7f3c1f2b3e9a8d6e","fencingToken":"18a3f217b3c4d87f"}'
        for answer in [
            boxed(200, '{"acquired":tru'),
            boxed(200, "<html>Welcome</html>", "text/html"),
            boxed(200, "[]"),
            boxed(200, "{}"),
            boxed(200, '{"acquired":1}'),
            boxed(200, '{"acquired":true}'),
            boxed(200, good),
            boxed(200, "[" * 50_000),
            boxed(302, ""),
            boxed(204, ""),
            boxed(404, "<html>Not Found</html>", "text/html"),
            boxed(418, '{"code":7,"detail":[]}'),
            boxed(500, "{}"),
            boxed(500, "<html>Oops</html>", "text/html"),
            "220 smtp.example ESMTP\r\n",
            "HTTP/1.1 abc\r\n\r\n",
        ]:
            with self.subTest(answer=answer[:40]):
                server.order("say", "acquire", answer=answer)
                with self.assertRaises(LockServerError) as caught:
                    client.acquire("k", wait_timeout=5)
                self.assertEqual(caught.exception.code, "nonsense")
        for answer, kind, code in [
            (boxed(401, "<html>Who?</html>", "text/html"), LockDeniedError, None),
            (boxed(403, "<html>Forbidden</html>", "text/html"), LockDeniedError, None),
            (boxed(422, "<html>What?</html>", "text/html"), LockRequestError, None),
            (boxed(429, "slow down", "text/plain"), LockCapacityError, None),
            (boxed(503, "<html>no backend</html>", "text/html"), LockUnavailableError, None),
            (boxed(503, '{"code":"max-waiters"}'), LockCapacityError, "max-waiters"),
            (boxed(409, '{"code":"deadlock","cycle":7}'), LockDeadlockError, "deadlock"),
            (boxed(418, '{"code":"teapot"}'), LockRequestError, "teapot"),
            (boxed(500, '{"code":"internal"}'), LockServerError, "internal"),
        ]:
            with self.subTest(answer=answer[:40]):
                server.order("say", "acquire", answer=answer)
                with self.assertRaises(kind) as caught:
                    client.acquire("k", wait_timeout=5)
                self.assertEqual(caught.exception.code, code)
        # None of these leaves anything.
        until(lambda: not self.held(server, "k") and not self.waiters(server, "k"), 5)

    def test_24_a_list_that_is_none_or_does_not_end_is_an_error(self):
        server, client = self.both()
        page = '{"locks":[{"lockName":"x"}],"next":"%s"}'
        for pages in [
            ["{}"],
            ['{"locks":{}}'],
            ['{"locks":[1]}'],
            ['{"locks":[],"next":7}'],
            [page % "x", page % "y", page % "x", page % "z"],
        ]:
            with self.subTest(pages=pages):
                for text in pages:
                    server.order("say", r"/locks\?", answer=boxed(200, text))
                with self.assertRaises(LockServerError) as caught:
                    list(client.locks())
                self.assertEqual(caught.exception.code, "nonsense")
                server.forget_orders()
        server.order("say", "/locks/k", answer=boxed(200, "{}"))
        with self.assertRaises(LockServerError):
            client.force_release("k", lock_id="x")

    def test_24_what_is_cut_is_asked_again(self):
        server, client = self.both()
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Len",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200",
            "",
        ]:
            with self.subTest(answer=answer):
                server.order("say", "acquire", answer=answer)
                with client.lock("k"):
                    self.assertEqual(len(server.requests("acquire")), 2)
                server.ask("DELETE", "/requests")
        server.order("chunk", times=None)
        with client.lock("k", metadata={"ü": "x" * 100}) as lock:
            self.assertEqual(client.status("k")["lockId"], lock.lock_id)
            lock.renew()
        self.assertEqual(len({each["connection"] for each in server.requests()}), 1)

    def test_25_an_idle_connection_that_was_closed_is_no_error(self):
        server, client = self.both()
        with client.lock("k"):
            self.assertEqual(server.ask("POST", "/close-idle"), {"closed": 1})
        for _ in range(3):
            server.ask("POST", "/close-idle")
            with client.lock("k"):
                pass
        self.assertFalse(self.held(server, "k"))

    def test_25_a_connection_is_kept(self):
        server, client = self.both()
        for _ in range(5):
            with client.lock("k"):
                pass
        self.assertEqual({each["connection"] for each in server.requests()}, {1})

    @busy
    def test_26_status_list_stats_and_health(self):
        server, client = self.both()
        self.assertEqual(client.status("free")["locked"], False)
        locks = [client.acquire(f"list-{number:03}", 60) for number in range(250)]
        client.acquire("pool", limit=2)
        names = sorted(lock["lockName"] for lock in client.locks(prefix="list-"))
        self.assertEqual(names, [f"list-{number:03}" for number in range(250)])
        self.assertEqual(len([each for each in server.requests() if each["path"].startswith("/locks?")]), 3)
        self.assertEqual([lock["lockName"] for lock in client.locks(space="semaphore")], ["pool"])
        self.assertEqual(client.status("pool", space="semaphore")["limit"], 2)
        self.assertEqual(client.stats()["activeLocks"], 251)
        self.assertEqual(client.health()["status"], "ok")
        self.assertEqual(len(client.force_release("pool", space="semaphore")), 1)
        with self.assertRaises(LockNotHeldError):
            client.force_release("pool", space="semaphore")
        for lock in locks[:240]:  # On a busy machine close() would not release all of them in its 5 s.
            self.assertTrue(lock.release())
        client.close()
        self.assertEqual(self.client(server).stats()["activeLocks"], 0)

    def test_27_three_shards(self):
        servers = [self.server() for _ in range(3)]
        client = self.client(",".join(server.url for server in servers))
        self.assertEqual(zlib.crc32(b"my-key"), 0xD6E33AC1)
        for name in ["my-key", "user:123", "ü", "a/b"]:
            lock = client.acquire(name)
            place = zlib.crc32(name.encode()) % 3
            self.assertEqual([self.held(server, name) for server in servers], [number == place for number in range(3)])
            self.assertTrue(lock.release())
        down = zlib.crc32(b"my-key") % 3
        servers[down].end()
        for number in range(12):
            if zlib.crc32(f"k{number}".encode()) % 3 == down:
                self.assertRaises(LockUnavailableError, client.acquire, f"k{number}")
            else:
                self.assertTrue(client.acquire(f"k{number}").release())
        first = self.client(",".join(server.url for server in servers), shard=lambda name, count: (down + 1) % count)
        self.assertTrue(first.acquire("my-key").release())
        self.assertEqual(first.stats((down + 1) % 3)["activeLocks"], 0)

    def test_28_tls(self):
        files = theatre.stage().ask("GET", "/certificates")
        server = self.server(certificate="localhost")
        client = self.client(server, ca=files["ca"])
        with client.lock("k") as lock:
            self.assertTrue(client.status("k")["locked"])
            lock.renew()
        for name, other in [("other_ca", server), ("ca", self.server(certificate="elsewhere"))]:
            start = now()
            with self.assertRaises(LockUnavailableError) as caught:
                self.client(other, ca=files[name]).acquire("k", wait_timeout=10)
            self.assertLess(now() - start, 8)
            self.assertEqual(caught.exception.code, "tls")
            self.assertIn("ca=", str(caught.exception))
        self.assertRaises(LockUnavailableError, self.client(server).acquire, "k")

    @busy
    def test_30_a_file_that_only_a_holder_may_create(self):
        server = self.server()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path, fences = os.path.join(folder.name, "held"), []

        def use():
            client = self.client(server)
            for _ in range(4):
                with client.lock("k", 10, wait_timeout=60) as lock:
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                    fences.append(lock.fence)
                    os.unlink(path)

        for end in [self.beside(use) for _ in range(25)]:
            end()
        self.assertEqual(len(fences), 100)
        self.assertEqual(fences, sorted(fences))

    def test_arguments_that_cannot_be_meant(self):
        server, client = self.both()
        nan = float("nan")
        for error, arguments, options in [
            (ValueError, ("k", nan), {}),
            (ValueError, ("k", -1), {}),
            (ValueError, ("k", 0), {}),
            (ValueError, ("k", True), {}),
            (ValueError, ("k", "30"), {}),
            (ValueError, ("k", 10**400), {}),
            (ValueError, ("k", float("inf")), {}),
            (ValueError, ("k",), {"wait_timeout": nan}),
            (ValueError, ("k",), {"wait_timeout": -0.1}),
            (ValueError, ("k",), {"max_hold": -1}),
            (ValueError, ("k",), {"limit": 0}),
            (ValueError, ("k",), {"limit": 2.0}),
            (ValueError, ("k",), {"metadata": {"x": nan}}),
            (ValueError, ("k",), {"metadata": {"x": {1}}}),
            (ValueError, ("k",), {"metadata": [1]}),
            (ValueError, ("k",), {"on_lost": 7}),
            (TypeError, ("k",), {"wait": 7}),
            (ValueError, ("",), {}),
            (ValueError, (".",), {}),
            (ValueError, ("..",), {}),
            (ValueError, ("a\nb",), {}),
            (ValueError, ("a b",), {}),
            (ValueError, ("\ud800",), {}),
            (ValueError, ("ü" * 129,), {}),
            (ValueError, (7,), {}),
        ]:
            with self.subTest(arguments=str(arguments)[:50], options=options), self.assertRaises(error):
                client.acquire(*arguments, **options)
        self.assertRaises(ValueError, client.status, "..")
        self.assertRaises(ValueError, client.force_release, "k", "")
        for client_id in ["", "a\nb", "ü" * 65, 7]:
            with self.subTest(client_id=client_id):
                self.assertRaises(ValueError, self.face, server.url, client_id=client_id)
                self.assertRaises(ValueError, client.actor, client_id)
        self.assertRaises(ValueError, client.actor, None)
        self.assertEqual(server.requests(), [])
        with self.assertRaises(LockRequestError) as caught:
            client.acquire("k", 1e9)
        self.assertEqual(caught.exception.code, "invalid-field")
        for url in [
            "localhost:5000",
            "ftp://x",
            "http://",
            "http://user:pass@x",
            "http://x?y",
            "",
            "http://a,,http://b",
            "http://a:",
        ]:
            with self.subTest(url=url), self.assertRaises(ValueError) as refused:
                self.face(url)
            self.assertNotIn("pass", str(refused.exception))
        for token in ["a b", "a\nb", "ü", ""]:
            with self.assertRaises(ValueError) as refused:
                self.face("http://x", token=token)
            self.assertNotIn(token or "''", str(refused.exception))

    def test_a_callback_that_fails_is_logged(self):
        _, client = self.both()
        logs = self.logs()
        lock = client.acquire("k", 1, on_lost=lambda: 1 / 0)
        self.assertTrue(lock.lost.wait(20))
        until(lambda: "ZeroDivisionError" in logs.getvalue())

    def test_a_shorter_renewal_counts_from_its_send(self):
        server, client = self.both()
        lock = client.acquire("k", 30)
        server.order("cut", "renew", at=0, times=None)
        with self.assertRaises(LockError):
            lock.renew(1)
        self.assertLess(lock.remaining(), 0.9)
        self.assertTrue(lock.lost.wait(10))  # and not only after the 30 s of before
        server.forget_orders()
        lock = self.client(server).acquire("other", 30)
        with self.assertRaises(LockRequestError):
            lock.renew(1e9)
        self.assertGreater(lock.remaining(), 20)

    def test_a_renewal_without_an_answer_says_so(self):
        server, client = self.both()
        lock = client.acquire("k", 6)
        server.order("swallow", "renew")
        with self.assertRaises(LockUnavailableError) as caught:
            lock.renew()
        self.assertEqual((caught.exception.code, caught.exception.status), ("no-answer", None))
        lock.check()

    def test_a_client_that_was_closed(self):
        server, client = self.both()
        lock = client.acquire("k")
        close(client)
        self.assertFalse(self.held(server, "k"))
        with self.assertRaises(LockNotHeldError) as caught:
            lock.check()
        self.assertIsNone(caught.exception.code)
        for call in [lambda: client.acquire("k"), lambda: client.status("k"), client.health]:
            with self.assertRaises(LockUnavailableError) as refused:
                call()
            self.assertEqual(refused.exception.code, "closed")
        self.assertEqual([each["path"] for each in server.requests()], ["/locks/k/acquire", "/locks/k/release"])

    def test_an_actor_that_was_closed_ends_only_what_is_its_own(self):
        server, client = self.both()
        actor, other = client.actor("worker-7"), client.actor("worker-8")
        kept, others, held = client.acquire("kept"), other.acquire("others"), actor.acquire("held")
        waits = [self.beside(lambda each=each: each.acquire("kept", wait_timeout=30)) for each in [actor, other]]
        until(lambda: self.waiters(server, "kept") == 2)
        actor.close()
        for call in [waits[0], lambda: actor.acquire("k"), actor.health]:
            with self.assertRaises(LockUnavailableError) as refused:
                call()
            self.assertEqual(refused.exception.code, "closed")
        self.assertRaises(LockNotHeldError, held.check)
        self.assertFalse(self.held(server, "held"))
        kept.check()
        others.check()
        self.assertEqual(self.waiters(server, "kept"), 1)
        kept.release()
        waits[1]()
        close(client)
        self.assertFalse(self.held(server, "kept") or self.held(server, "others"))
        self.assertRaises(LockUnavailableError, other.health)


class WithThreads(Behaviours, Play):
    """The client with threads."""

    def test_10_no_body_runs_without_its_lock(self):
        _, client = self.both()
        lock = client.acquire("k")
        lock._lose()
        with self.assertRaises(LockLostError), lock:
            self.fail("the body runs")


class WithAsyncio(Behaviours, Play):
    """The client with asyncio."""

    face = staticmethod(Face)
    stride = 7  # An answer is read by the same code; test_engine.py cuts it everywhere.


class Processes(Play):
    """What takes a process of its own."""

    def run_script(self, script, *arguments, within_s=30):
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(theatre.PACKAGE)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, env=environment)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_13_an_interrupt_ends_a_wait(self):
        server, client = self.both()
        for hides in [False, True]:
            name = f"k{hides}"
            client.acquire(name, 120)
            if hides:
                server.order("hide", "acquire", times=None)
            script = """
                import sys, time
                from distributed_lock_client import DistributedLockClient
                try:
                    DistributedLockClient(sys.argv[1]).acquire(sys.argv[2], wait_timeout=None)
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
                    sys.stdin.read()
            """
            command = [sys.executable, "-c", textwrap.dedent(script), server.url, name]
            environment = {**os.environ, "PYTHONPATH": str(theatre.PACKAGE)}

            def interrupted(command=command, environment=environment, name=name):
                with subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
                ) as process:
                    until(lambda: server.status(name)["waiters"] == 1)
                    process.send_signal(2)
                    self.assertEqual(process.stdout.readline(), b"interrupted\n")
                    start = now()
                    until(lambda: server.status(name)["waiters"] == 0)
                    process.stdin.close()
                    return now() - start

            at_best(1, interrupted)

    @busy
    def test_14_interrupts_around_the_grant_strand_nothing(self):
        server = self.server()
        script = """
            import random, signal, sys, time
            from distributed_lock_client import DistributedLockClient

            class Interrupt(BaseException):
                pass

            def interrupt(number, frame):
                while frame:  # Outside of acquire the lock is the caller's.
                    if frame.f_code.co_name == "acquire":
                        raise Interrupt
                    frame = frame.f_back

            signal.signal(signal.SIGALRM, interrupt)
            client, dice, ends = DistributedLockClient(sys.argv[1]), random.Random(14), [0, 0]
            while sum(ends) < 100 or (ends[0] < 11 and sum(ends) < 2000):  # How many it hits depends on the machine.
                lock = None
                signal.setitimer(signal.ITIMER_REAL, dice.uniform(0.0001, 0.006))
                try:
                    lock = client.acquire("k", 60, wait_timeout=30, auto_renew=True)
                except Interrupt:
                    ends[0] += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                if lock:
                    ends[1] += 1
                    lock.release()
            print(*ends, flush=True)
            time.sleep(4)
        """
        process = self.beside(lambda: self.run_script(script, server.url))
        until(lambda: len(server.requests("acquire")) >= 50, 30)
        ends = process().split()
        self.assertGreater(int(ends[0]), 10)
        self.assertFalse(server.status("k")["locked"])
        self.assertEqual(server.status("k")["waiters"], 0)

    def test_29_a_program_with_a_renewed_lock_exits_at_once(self):
        server = self.server()
        for kind in ["sync", "asyncio"]:
            script = """
                import asyncio, sys, time
                from distributed_lock_client import AsyncDistributedLockClient, DistributedLockClient

                async def main():
                    await AsyncDistributedLockClient(sys.argv[1]).acquire("asyncio", 30, auto_renew=True)

                if sys.argv[2] == "sync":
                    DistributedLockClient(sys.argv[1]).acquire("sync", 30, auto_renew=True)
                else:
                    asyncio.run(main())
                print(time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
            """
            environment = {**os.environ, "PYTHONPATH": str(theatre.PACKAGE)}
            command = [sys.executable, "-c", textwrap.dedent(script), server.url, kind]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertLess(now() - float(done.stdout), 8)
            self.assertTrue(server.status(kind)["locked"])
        self.assertEqual(server.requests("release"), [])

    def test_29_a_forked_child_has_lost_it(self):
        server = self.server()
        script = """
            import os, sys, threading, time
            from distributed_lock_client import DistributedLockClient, LockLostError
            client = DistributedLockClient(sys.argv[1])
            told = []
            lock = client.acquire("k", 6, auto_renew=True, wait_timeout=20, on_lost=lambda: told.append(1))
            waiting = threading.Thread(target=lambda: client.acquire("k", wait_timeout=60), daemon=True)
            waiting.start()
            while client.status("k")["waiters"] != 1:
                time.sleep(0.01)
            child = os.fork()
            if child == 0:
                try:
                    assert lock.lost.is_set() and lock.remaining() == 0 and not lock.release()
                    try:
                        lock.check()
                        os._exit(3)
                    except LockLostError:
                        pass
                    with client.lock("child", 6, auto_renew=True, wait_timeout=20) as mine:
                        assert str(os.getpid()) in mine.client_id, mine
                        time.sleep(7)
                        mine.check()
                    os._exit(0)
                except BaseException as error:
                    print(repr(error), flush=True)
                    os._exit(4)
            assert os.waitpid(child, 0)[1] == 0
            lock.check()
            assert lock.release()
            waiting.join(10)
            assert not waiting.is_alive() and not told
        """
        environment = {**os.environ, "PYTHONPATH": str(theatre.PACKAGE)}
        command = [sys.executable, "-c", textwrap.dedent(script), server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=40, env=environment)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        children = {each["body"]["clientId"] for each in server.requests("/child/acquire")}
        self.assertEqual(len(children), 1)
        self.assertIsNotNone(re.search(r"-\d+-", children.pop()))


assert package and random
