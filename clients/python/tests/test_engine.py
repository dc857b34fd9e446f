"""The engine with a played clock and a played network: nothing here waits, and a seed repeats whatever happens."""

import heapq
import json
import random
import threading
import unittest

import theatre

from distributed_lock_client import (
    LockDeadlockError,
    LockError,
    LockLostError,
    LockNotHeldError,
    LockRequestError,
    LockServerError,
    LockTimeoutError,
    LockUnavailableError,
)
from distributed_lock_client._core import Client, Hold
from distributed_lock_client._errors import judged
from distributed_lock_client._http import Answer, Failure, Request
from distributed_lock_client._sync import run

FENCE = "18a3f217b3c4d87f"
TOKEN = FENCE + "7f3c1f2b3e9a8d6e"


class Clock:
    """Time passes when somebody waits. What is due meanwhile happens on the way."""

    def __init__(self):
        self.time = 1000.0
        self.events = []
        self.count = 0

    def now(self):
        return self.time

    def at(self, time, call):
        self.count += 1
        heapq.heappush(self.events, (time, self.count, call))

    def play(self, until):
        while self.events and self.events[0][0] <= until:
            time, _, call = heapq.heappop(self.events)
            self.time = max(self.time, time)
            call()
        self.time = max(self.time, until)


class Played(Client):
    """A client whose network is the function `network(request)`, and whose time is the clock's."""

    def __init__(self, network, **options):
        super().__init__("http://played:1", **options)
        self.clock = Clock()
        self._now = self._pool.now = self.clock.now
        self.network = network
        self.has_no_threads = False
        self.told, self.later, self.log, self.pauses = [], [], [], []
        self._pool.exchange = self.play

    async def play(self, request):
        if not request.begin():
            return Failure("closed", "", None)
        sent = self.clock.time
        self.log.append((sent, request.method, request.path, request.fields, request.is_fresh))
        said = self.network(request)
        took_s, result = said if type(said) is tuple else (0.001, said)
        if sent + took_s > request.until:
            took_s, result = request.until - sent, Failure("no-answer", "", sent)
        self.clock.play(sent + took_s)
        if isinstance(result, dict):
            return Answer(result.pop("status", 200), json.dumps(result).encode(), sent)
        return (
            result if isinstance(result, Answer) else Failure(result, "", sent) if isinstance(result, str) else result
        )

    async def _pause(self, seconds):
        self.pauses.append(seconds)
        self.clock.play(self.clock.time + seconds)

    def _background(self, flow):
        if self.has_no_threads:
            flow.close()
        else:
            self.later.append(flow)
        return not self.has_no_threads

    def _watch(self, hold):
        pass

    def _tell(self, hold):
        self._holds.discard(hold)
        self.told.append(self.clock.time)

    def hold(self, name="k", timeout=None, **options):
        hold = Hold(self, name, timeout, options)
        run(self._acquire(hold))
        return hold

    def __del__(self):
        for flow in self.later:
            flow.close()

    def help_out(self):
        while self.later:
            run(self.later.pop(0))

    def asked(self, verb):
        return [entry for entry in self.log if entry[2].endswith(verb)]


def grant(request, **more):
    return {
        "lockId": "lock-" + FENCE,
        "lockName": "k",
        "clientId": request.fields["clientId"],
        "acquired": True,
        "renewalToken": TOKEN,
        "fencingToken": FENCE,
        "ttl": request.fields.get("timeout", 30.0),
        "waitTime": 0.0,
        **more,
    }


def renewal(request):
    return {"lockId": "lock-" + FENCE, "ttl": request.fields["timeout"], "waitTime": 0.0}


def refusal(request, reason="timeout"):
    return {"acquired": False, "reason": reason}


def scripted(*answers):
    """Each request gets the next answer: a function of the request, or what it would give."""
    rest = list(answers)

    def network(request):
        answer = rest.pop(0)
        return answer(request) if callable(answer) else answer

    return network


class Deadlines(unittest.TestCase):
    def test_a_deadline_counts_from_the_send_and_most_of_the_wait(self):
        client = Played(lambda request: (8.0, grant(request, waitTime=7.0)))
        hold = client.hold(timeout=30, wait_timeout=10)
        self.assertAlmostEqual(hold._deadline, 1000 + 0.999 * 7 + 30 - 1)

    def test_a_short_lease_has_a_margin_of_a_tenth(self):
        hold = Played(grant).hold(timeout=2)
        self.assertAlmostEqual(hold._deadline, 1000 + 1.8)

    def test_a_wait_that_is_longer_than_there_was_is_not_believed(self):
        hold = Played(lambda request: (1.0, grant(request, waitTime=100.0))).hold(timeout=30, wait_timeout=10)
        self.assertAlmostEqual(hold._deadline, 1001 + 29)

    def test_check_reads_the_clock_and_no_timer(self):
        client = Played(grant)
        hold = client.hold(timeout=10)
        client.clock.time += 8.99
        hold.check()
        client.clock.time += 0.02
        self.assertEqual(hold.remaining(), 0)
        self.assertRaises(LockLostError, hold.check)
        self.assertEqual(len(client.told), 1)
        self.assertRaises(LockLostError, hold.check)
        self.assertEqual(len(client.told), 1)

    def test_a_renewal_is_due_after_a_third_and_again_after_a_fifteenth(self):
        client = Played(scripted(grant, {"status": 401}, {"status": 500}, renewal))
        hold = client.hold(timeout=30, auto_renew=True)
        dues = []
        for _ in range(3):
            dues.append(hold._next_at() - 1000)
            client.clock.time = hold._next_at()
            client._holds.add(hold)
            client._tick()
            client.help_out()
        self.assertEqual([round(due, 1) for due in dues], [10.0, 12.0, 14.0])
        self.assertAlmostEqual(hold._deadline, 1014 + 29, 1)
        self.assertEqual([entry[4] for entry in client.asked("renew")], [False, True, True])
        self.assertEqual([entry[3]["timeout"] for entry in client.asked("renew")], [30, 30, 30])

    def test_a_renewal_without_a_thread_is_tried_again(self):
        client = Played(scripted(grant, renewal))
        hold = client.hold(timeout=30, auto_renew=True)
        client.clock.time, client.has_no_threads = 1010.5, True
        self.assertAlmostEqual(client._tick(), 0.05, 2)
        client.clock.time, client.has_no_threads = 1010.6, False
        client._tick()
        client.help_out()
        self.assertGreater(hold._deadline, 1039)

    def test_no_renewal_is_due_past_max_hold(self):
        client = Played(grant)
        hold = client.hold(timeout=30, auto_renew=True, max_hold=9)
        self.assertEqual(hold._next_at(), hold._deadline)
        self.assertEqual(client.hold(timeout=30)._next_at(), hold._deadline + 0.001)

    def test_an_answer_after_the_loss_changes_nothing(self):
        client = Played(scripted(grant, lambda request: (3.0, renewal(request))))
        hold = client.hold(timeout=30)
        client.clock.time = 1002.0
        client.clock.at(1003.0, lambda: hold._lose())
        with self.assertRaises(LockLostError):
            run(client._renew(hold, 30))
        self.assertEqual((hold._state, hold.remaining(), len(client.told)), ("ended", 0, 1))

    def test_a_renewal_that_the_server_may_have_done_moves_the_deadline_at_once(self):
        for answers, is_done in [
            ([{"status": 401}], False),
            ([{"status": 429}], False),
            (["no-answer", {"status": 401}], True),
            ([{"status": 500}], True),
            ([{"status": 503}], True),
        ]:
            client = Played(scripted(grant, *answers))
            hold = client.hold(timeout=30)
            with self.assertRaises(LockError):
                run(client._renew(hold, 10))
            self.assertAlmostEqual(hold._deadline, 1009 if is_done else 1029, 1, answers)

    def test_a_shorter_renewal_without_an_answer_is_reckoned_with_for_a_minute(self):
        for said in ["no-answer", {"status": 500}]:
            client = Played(grant)
            hold = client.hold(timeout=30)
            client.network = lambda request, said=said: said if said == "no-answer" else dict(said)
            with self.assertRaises(LockError):
                run(client._renew(hold, 10))
            client.network = renewal
            start = client.clock.time
            run(client._renew(hold, 30))
            self.assertAlmostEqual(hold._deadline, start + 9)
            while client.clock.time < start + 60:
                client.clock.time += 5
                run(client._renew(hold, 30))
            self.assertAlmostEqual(hold._deadline, client.clock.time + 29, 1)

    def test_a_renewal_that_the_release_overtakes_is_not_sent(self):
        client = Played(scripted(grant, {"released": True}))
        hold = client.hold(timeout=3, auto_renew=True)
        client.clock.time = 1001.0
        client._holds.add(hold)
        client._tick()
        self.assertTrue(run(client._release(hold)))
        client.help_out()
        self.assertEqual(client.asked("renew"), [])
        self.assertRaises(LockNotHeldError, hold.check)


class Waits(unittest.TestCase):
    def test_polls_of_45_s_keep_the_place_but_for_the_last(self):
        client = Played(lambda request: (request.fields["waitTimeout"], refusal(request)))
        with self.assertRaises(LockTimeoutError):
            client.hold(wait_timeout=100)
        asked = [(round(fields["waitTimeout"], 3), fields.get("keepPlace")) for _, _, _, fields, _ in client.log]
        self.assertEqual(asked, [(45, 5), (45, 5), (10, None)])
        self.assertEqual(len({fields["requestId"] for _, _, _, fields, _ in client.log}), 1)
        self.assertEqual(client.pauses, [])

    def test_a_poll_that_was_cut_makes_the_next_ones_shorter(self):
        client = Played(scripted((30.0, "no-answer"), (24.0, "no-answer"), (3.0, {"status": 504}), grant))
        client.hold(wait_timeout=None)
        self.assertEqual([round(fields["waitTimeout"], 1) for _, _, _, fields, _ in client.log], [45, 24, 19.2, 5])

    def test_repeats_are_at_once_and_then_ever_slower(self):
        client = Played(lambda request: "no-answer")
        with self.assertRaises(LockUnavailableError):
            client.hold()
        self.assertLess(client.clock.time, 1005.1)
        for pause, most in zip(client.pauses, [0.05, 0.1, 0.2, 0.4, 0.8, 1.6]):
            self.assertTrue(most / 2 <= pause <= most, client.pauses)
        self.assertEqual([entry[4] for entry in client.log], [False] + [True] * (len(client.log) - 1))

    def test_a_try_does_not_repeat_what_is_refused(self):
        for said in ["no-connection", {"status": 503, "code": "draining"}]:
            client = Played(
                lambda request, said=said: dict(said) if isinstance(said, dict) else Failure(said, "", None)
            )
            with self.assertRaises(LockUnavailableError):
                client.hold()
            self.assertEqual(len(client.log), 1)

    def test_a_try_and_a_query_repeat_for_5_s_what_may_have_been_heard(self):
        for said in ["no-answer", {"status": 502}, {"status": 504}]:
            for ask in [Played.hold, lambda client: run(client._ask("health", Request(0, "GET", "/health")))]:
                client = Played(lambda request, said=said: said if isinstance(said, str) else dict(said))
                with self.assertRaises(LockUnavailableError):
                    ask(client)
                self.assertAlmostEqual(client.clock.time, 1005, 1)
                self.assertGreater(len(client.log), 5)

    def test_a_query_without_a_server_is_not_repeated(self):
        client = Played(lambda request: Failure("no-connection", "", None))
        with self.assertRaises(LockUnavailableError):
            run(client._ask("health", Request(0, "GET", "/health")))
        self.assertEqual(len(client.log), 1)

    def test_a_forced_release_of_one_grant_may_be_repeated(self):
        not_held = {"status": 404, "code": "not-held"}
        done = [{"lockId": "lock-1", "clientId": None}]
        for first in ["no-answer", {"status": 502}]:
            client = Played(scripted(first, dict(not_held)))
            self.assertEqual(run(client._force_release("k", "lock-1", None)), done)
        for lock_id, answers in [("lock-1", [dict(not_held)]), (None, ["no-answer"]), (None, [{"status": 502}])]:
            client = Played(scripted(*answers))
            with self.assertRaises(LockError):
                run(client._force_release("k", lock_id, None))
            self.assertEqual([entry[4] for entry in client.log], [lock_id is None])

    def test_an_actor_waits_until_its_lost_lock_is_given_back(self):
        client = Played(lambda request: {"released": True} if request.path.endswith("release") else grant(request))
        actor = client.actor("worker-7")
        hold = actor.hold(timeout=10)
        client.clock.time += 9.5
        self.assertFalse(run(actor._release(hold)))
        client.clock.at(client.clock.time + 1, client.help_out)
        actor.hold(wait_timeout=20)
        verbs = [path.rpartition("/")[2] for _, _, path, _, _ in client.log]
        self.assertEqual(verbs, ["acquire", "release", "acquire"])
        # The same after an attempt that was given up, and others do not wait.
        client.network = scripted({"status": 500}, grant, grant, {"released": True}, grant)
        with self.assertRaises(LockServerError):
            actor.hold()
        start = client.clock.time
        client.hold()
        client.actor("other").hold()
        self.assertAlmostEqual(client.clock.time, start, 1)
        client.clock.at(start + 1, client.help_out)
        actor.hold()
        self.assertAlmostEqual(client.clock.time, start + 1, 1)

    def test_an_actor_does_not_wait_for_ever(self):
        client = Played(grant)
        actor = client.actor("worker-7")
        hold = actor.hold(timeout=10)
        client.clock.time += 9.5
        run(actor._release(hold))
        start = client.clock.time
        actor.hold()
        self.assertAlmostEqual(client.clock.time, start + 5, 1)

    def test_a_wait_repeats_it_until_its_end(self):
        client = Played(lambda request: Failure("no-connection", "", None))
        with self.assertRaises(LockUnavailableError):
            client.hold(wait_timeout=20)
        self.assertAlmostEqual(client.clock.time, 1020, 1)
        self.assertLess(max(client.pauses), 2.01)

    def test_other_answers_are_not_repeated(self):
        for status in [400, 401, 403, 404, 408, 421, 422, 429, 500, 501, 503]:
            client = Played(lambda request, status=status: {"status": status})
            with self.assertRaises(LockError):
                client.hold(wait_timeout=20)
            self.assertEqual(len(client.log), 1, status)

    def test_an_attempt_with_an_end_unknown_is_given_up(self):
        for answers, gives_up in [
            (["no-answer", {"status": 401}], True),
            ([{"status": 401}], False),
            ([refusal], False),
            ([{"status": 500}], True),
            ([{"status": 503}], True),
            ([{"status": 503, "code": "draining"}], False),
            ([{"status": 503, "code": "max-locks"}], False),
            ([{"status": 503, "code": "max-waiters"}], False),
            ([{"status": 200}], True),
            ([(1.0, "nonsense")], True),
        ]:
            client = Played(scripted(*answers, {"released": False}))
            with self.assertRaises(LockError):
                client.hold()
            client.help_out()
            released = client.asked("release")
            self.assertEqual(len(released), gives_up, answers)
            for _, _, _, fields, _ in released:
                self.assertEqual(fields, {"clientId": fields["clientId"], "requestId": client.log[0][3]["requestId"]})

    def test_an_interrupt_gives_up(self):
        def network(request):
            if request.path.endswith("release"):
                return {"released": True}
            raise KeyboardInterrupt

        client = Played(network)
        with self.assertRaises(KeyboardInterrupt):
            client.hold(wait_timeout=None)
        client.help_out()
        self.assertEqual(len(client.asked("release")), 1)

    def test_a_give_up_that_nobody_hears_ends_after_3_s(self):
        client = Played(lambda request: (9.0, "no-answer"))
        run(client._abandon(Hold(client, "k", None, {})))
        self.assertLessEqual(client.clock.time, 1003.3)
        self.assertGreaterEqual(len(client.log), 3)

    def test_a_late_grant_is_given_back_and_the_wait_goes_on(self):
        client = Played(
            scripted(
                lambda request: (3.0, grant(request)),
                {"released": True},
                lambda request: (2.0, grant(request)),
                renewal,
            )
        )
        hold = client.hold(timeout=3, wait_timeout=20)
        self.assertEqual(
            [path.rpartition("/")[2] for _, _, path, _, _ in client.log], ["acquire", "release", "acquire", "renew"]
        )
        first, again = client.asked("acquire")
        self.assertNotEqual(first[3]["requestId"], again[3]["requestId"])
        self.assertGreater(hold.remaining(), 2.6)

    def test_a_client_that_is_closed_while_a_late_grant_is_renewed_hands_nothing_out(self):
        for ends_first in [False, True]:
            self.close_while_a_late_grant_is_renewed(ends_first)

    def close_while_a_late_grant_is_renewed(self, ends_first):
        def network(request):
            if request.path.endswith("acquire"):
                return 2.0, grant(request)
            if request.path.endswith("release"):
                return {"released": True}
            client._pool.stop()
            run(client._release(*client._holds))
            if ends_first:
                client.help_out()
            return renewal(request)

        client = Played(network)
        with self.assertRaises(LockUnavailableError):
            client.hold(timeout=3, wait_timeout=20)
        client.help_out()
        self.assertEqual(len(client.asked("acquire")), 1)
        self.assertEqual(len([fields for _, _, _, fields, _ in client.asked("release") if "requestId" in fields]), 1)
        self.assertEqual(client._holds, set())

    def test_places_that_vanish_at_once_are_not_asked_for_without_a_pause(self):
        client = Played(lambda request: refusal(request, "superseded"))
        with self.assertRaises(LockTimeoutError):
            client.hold(wait_timeout=10)
        self.assertAlmostEqual(client.clock.time, 1010, 1)
        self.assertGreater(len(client.log), 150)
        self.assertLess(len(client.log), 250)

    def test_a_wait_outlives_its_own_repeat_that_comes_first(self):
        client = Played(scripted("no-answer", lambda request: refusal(request, "superseded"), grant))
        client.hold(wait_timeout=10).check()


class Releases(unittest.TestCase):
    def release(self, *answers):
        client = Played(scripted(grant, *answers))
        hold = client.hold(timeout=30)
        return client, hold, run(client._release(hold))

    def test_confirmed_or_not(self):
        not_held = {"status": 409, "code": "not-held"}
        for answers, is_released, is_lost in [
            ([{"released": True}], True, False),
            ([dict(not_held)], False, True),
            (["no-answer", dict(not_held)], True, False),
            ([{"status": 502}, dict(not_held)], True, False),
            ([{}], False, False),
            ([{"released": False}], False, False),
            ([{"status": 401}], False, False),
            ([{"status": 500}], False, False),
            ([Failure("no-connection", "", None), dict(not_held)], False, True),
        ]:
            client, hold, released = self.release(*answers)
            self.assertEqual((released, hold._is_lost), (is_released, is_lost), answers)
            self.assertEqual((hold._state, hold._token, client.told), ("ended", "", []))
            count = len(client.log)
            self.assertEqual(run(client._release(hold)), is_released)
            self.assertEqual(len(client.log), count)

    def test_a_renewal_on_its_way_does_not_lose_what_is_released(self):
        def network(request):
            if request.path.endswith("acquire"):
                return grant(request)
            hold._lose()  # What a renewal does that hears of the release before the release does.
            return {"released": True}

        client = Played(network)
        hold = client.hold(timeout=30)
        self.assertTrue(run(client._release(hold)))
        self.assertEqual((hold._is_lost, client.told), (False, []))
        self.assertRaises(LockNotHeldError, hold.check)

    def test_an_unconfirmed_release_ends_after_5_s(self):
        client = Played(lambda request: grant(request) if request.path.endswith("acquire") else (60.0, "no-answer"))
        hold = client.hold(timeout=30)
        self.assertFalse(run(client._release(hold)))
        self.assertLess(client.clock.time, 1005.2)
        self.assertEqual([entry[4] for entry in client.asked("release")][:2], [False, True])

    def test_an_interrupted_release_goes_on(self):
        answers = iter([grant, KeyboardInterrupt, {"released": True}])

        def network(request):
            answer = next(answers)
            if answer is KeyboardInterrupt:
                raise KeyboardInterrupt
            return answer(request) if callable(answer) else answer

        client = Played(network)
        hold = client.hold(timeout=30)
        with self.assertRaises(KeyboardInterrupt):
            run(client._release(hold))
        client.help_out()
        self.assertEqual([fields["renewalToken"] for _, _, _, fields, _ in client.asked("release")], [TOKEN, TOKEN])
        self.assertEqual(hold._state, "ended")

    def test_after_a_loss_it_does_not_wait(self):
        client = Played(scripted(grant, {"released": True}))
        hold = client.hold(timeout=30)
        client.clock.time += 29.5
        before = client.clock.time
        self.assertFalse(run(client._release(hold)))
        self.assertEqual((client.clock.time, client.asked("release")), (before, []))
        client.help_out()
        self.assertFalse(run(client._release(hold)))
        client.help_out()
        self.assertEqual(len(client.asked("release")), 1)


class Losses(unittest.TestCase):
    """1,000 played losses: the lease of the played server never ends before the client says that the lock is lost."""

    @theatre.busy
    def test_a_lock_is_told_lost_before_its_lease_ends(self):
        counts = {}
        for seed in range(1000):
            end = self.play(random.Random(seed), seed)
            counts[end] = counts.get(end, 0) + 1
        self.assertEqual(sum(counts.values()), 1000)
        self.assertGreater(min(counts.get(end, 0) for end in ["silence", "force", "suspend", "expiry"]), 50, counts)

    def play(self, dice, seed):
        ttl_s = dice.choice([0.3, 1.0, 3.0, 10.0, 30.0, 300.0]) * dice.uniform(0.9, 1.1)
        end = dice.choice(["silence", "force", "suspend", "expiry"])
        trouble = dice.uniform(0, 0.7) if end != "expiry" else 0
        lease = {"ends": 0.0, "silent_from": float("inf"), "is_gone": False}
        wait_s = dice.choice([0.0, dice.uniform(0, 40)])

        def network(request):
            sent = client.clock.time
            there_s, back_s = (dice.expovariate(1 / (0.02 * min(1.0, ttl_s))) for _ in range(2))
            if request.path.endswith("acquire"):
                waited = min(wait_s, request.fields["waitTimeout"])
                lease["ends"] = sent + there_s + waited + ttl_s
                waited_ms = int(waited * 1000) / 1000
                return there_s + waited + back_s, grant(request, ttl=ttl_s, waitTime=waited_ms)
            if sent >= lease["silent_from"] or dice.random() < trouble / 2:
                return dice.choice(
                    [(60.0, "no-answer"), (there_s, "no-answer"), (there_s, Failure("no-connection", "", None))]
                )
            if dice.random() < trouble / 4:
                return there_s + back_s, {"status": dice.choice([401, 500, 502, 503])}
            arrived = sent + there_s
            if lease["is_gone"] or arrived >= lease["ends"]:
                lease["is_gone"] = True
                return there_s + back_s, {"status": 409, "code": "not-held"}
            lease["ends"] = arrived + request.fields["timeout"]
            if dice.random() < trouble / 4:
                return there_s, "no-answer"
            return there_s + back_s, renewal(request)

        client = Played(network)
        hold = client.hold(timeout=ttl_s, wait_timeout=45, auto_renew=end != "expiry")
        trouble_at = client.clock.time + dice.uniform(0, 5 * ttl_s)
        suspends = [client.clock.time + dice.uniform(0, 5) * ttl_s] if end == "suspend" else []
        forced_at = trouble_at if end == "force" else float("inf")
        forced = None
        lease["silent_from"] = trouble_at if end in ("silence", "suspend") else float("inf")
        woken = None
        for _ in range(100_000):
            now = client.clock.time
            if forced_at <= now:
                lease["is_gone"] = True
                forced_at, forced, trouble = float("inf"), now, 0
            if not client.told:
                # Whatever the holder does now it does with the lease, or it can see that it has none.
                if now >= lease["ends"]:
                    self.assertEqual(hold.remaining(), 0, f"seed {seed}")
                elif hold.remaining() > 0 and not lease["is_gone"]:
                    self.assertLess(now + hold.remaining(), lease["ends"], f"seed {seed}")
            if client.told:
                break
            pause_s = client._tick()
            self.assertLessEqual(pause_s, 0.5)
            if client.later:
                self.renew_beside(client)
            elif not client.told:
                if suspends and suspends[0] <= now + pause_s:
                    client.clock.time = woken = max(now, suspends.pop()) + dice.uniform(0.1, 2) * ttl_s
                client.clock.play(client.clock.time + pause_s)
        told = client.told[0]
        self.assertEqual(len(client.told), 1)
        if forced is not None:
            self.assertLess(told, forced + ttl_s / 3 + 1, f"seed {seed}")
        elif woken is None or told < woken:
            self.assertLess(told, lease["ends"], f"seed {seed}")
        else:
            self.assertLess(told, max(woken + 1, lease["ends"]), f"seed {seed}")
        self.assertEqual(hold.remaining(), 0)
        self.assertRaises(LockLostError, hold.check)
        return end

    def renew_beside(self, client):
        """While a renewal is on its way, the keeper goes on with its ticks."""
        is_over = []

        def tick():
            if not is_over and not client.told:
                pause_s = client._tick()
                client.clock.at(client.clock.time + pause_s, tick)

        client.clock.at(client.clock.time + 0.001, tick)
        client.help_out()
        is_over.append(True)
        client.clock.events.clear()


class Texts(unittest.TestCase):
    def test_no_error_repeats_a_secret_of_an_answer(self):
        token, request_id = 'to"ken', "0123456789abcdef" * 2
        for secret in [token, request_id]:
            problem = {"code": secret, "detail": f"it is {secret}", "instance": secret}
            answer = Answer(400, json.dumps(problem).encode(), 0.0)
            error, _ = judged(answer, "acquire 'k'", "http://a", token)
            self.assertIsInstance(error, LockRequestError)
            self.assertEqual((error.code, error.detail, error.request_id), ("...", "it is ...", "..."))
            cycle = [{"clientId": secret, "waitsFor": "k"}]
            answer = Answer(409, json.dumps({"code": "deadlock", "cycle": cycle}).encode(), 0.0)
            error, _ = judged(answer, "acquire 'k'", "http://a", token)
            self.assertEqual(error.cycle, [{"clientId": "...", "waitsFor": "k"}])
        client = Played(lambda request: refusal(request, request.fields["requestId"]))
        with self.assertRaises(LockTimeoutError) as caught:
            client.hold()
        self.assertEqual(caught.exception.reason, "...")

    def test_a_token_that_is_a_word_changes_no_code(self):
        detail = "wait for each other; release what you hold, then try again"
        answer = Answer(409, json.dumps({"code": "deadlock", "detail": detail}).encode(), 0.0)
        error, _ = judged(answer, "acquire 'k'", "http://a", "lock")
        self.assertIsInstance(error, LockDeadlockError)
        self.assertEqual((error.code, str(error)), ("deadlock", f"acquire 'k': 409, {detail}"))

    def test_no_text_of_a_hold_has_a_secret(self):
        client = Played(grant, token="secret-token")
        hold = client.hold()
        for text in [repr(hold), str(hold), repr(client), repr(client.actor("x"))]:
            for secret in [TOKEN, hold._request_id, "secret-token"]:
                self.assertNotIn(secret, text)

    def test_client_ids_and_request_ids_differ(self):
        client = Played(grant)
        holds = [client.hold() for _ in range(100)]
        self.assertEqual(len({hold.client_id for hold in holds}), 100)
        self.assertEqual(len({hold._request_id for hold in holds}), 100)
        self.assertRegex(holds[0]._request_id, "^[0-9a-f]{32}$")
        self.assertEqual(client.actor("worker-7").hold().client_id, "worker-7")

    def test_a_lost_hold_is_lost_for_all_threads_once(self):
        client = Played(grant)
        hold = client.hold(timeout=10)
        client.clock.time += 20
        threads = [threading.Thread(target=hold._step) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(client.told), 1)
