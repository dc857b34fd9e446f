"""The engine of a lock: what is sent when, and what an answer means. It does no I/O and reads no clock but the one that
it is given, so a test can play both. Its coroutines serve both clients: under asyncio they suspend, with threads the
I/O below them blocks and they run through at once. Invariant: here a lock ends before its lease ends at the server.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import logging
import math
import os
import random
import re
import secrets
import socket
import threading
import time
import weakref
import zlib
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Callable, NamedTuple, TypedDict, TypeVar
from urllib.parse import quote, urlencode

from ._errors import (
    LockError,
    LockLostError,
    LockNotHeldError,
    LockTimeoutError,
    error_of,
    is_refusal,
    judged,
    locks_of,
    masked,
)
from ._http import Link, Pool, Request, Server, servers_of

POLL_MAX_S = 45.0  # Proxies often cut a request that is silent for 60 s.
PLACE_S = 5.0
PATIENCE_S = 5.0
RELEASE_TRY_S = 2.0  # A connection may be dead without a sign, so a release tries others within its patience.
DOUBT_S = 60.0  # So long a renewal without an answer may still be on its way to the server.
REASONS = ("timeout", "quarantine", "superseded", "cancelled")
TICK_S = 0.5  # Timers stand still while the machine sleeps; the keeper looks at the clock at least so often.


class LockOptions(TypedDict, total=False):
    """What may be said with a lock. Durations are seconds."""

    wait_timeout: float | None  #: How long to wait; by default 0, one try. None waits for ever.
    auto_renew: bool  #: Renews while this process lives; by default False.
    limit: int | None  #: Makes a semaphore with so many holders at once, 1 to 1048576.
    metadata: Mapping[str, Any] | None  #: Shown by status(), at most 4 KiB of JSON.
    max_hold: float | None  #: No automatic renewal is sent so long after the grant.
    on_lost: Callable[[], object] | None  #: Called once when the lock is lost, in a thread or task of its own.


def boot_clock() -> float:
    """Seconds of a clock that goes on while the machine sleeps; of the monotonic clock where there is none."""
    return time.monotonic() if BOOT is None else time.clock_gettime(BOOT)


def number_of(value: object) -> float | None:
    """`value` as a number that a duration may be, or None."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1e15 else None  # type: ignore


def seconds(name: str, value: object, least: float = 0.0) -> float:
    number = number_of(value)
    if number is None or number < least:
        raise ValueError(f"{name}: want seconds, a number from {least:g} to 1e15, not {value!r}")
    return number


def text(name: str, value: object, most: int) -> str:
    is_text = isinstance(value, str) and not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", value)
    if not is_text or not 1 <= len(str(value).encode()) <= most:
        raise ValueError(f"{name}: want 1 to {most} bytes of text without control characters, not {value!r}")
    return str(value)


def path_of(name: object, verb: str, query: Mapping[str, object]) -> str:
    """The path of a request about this lock, or a ValueError if it is no name."""
    if " " in text("name", name, 256) or name in (".", ".."):
        raise ValueError(f"name: want text without blanks, not '.' or '..', not {name!r}")
    return f"/locks/{quote(str(name), safe=':')}{verb}{query_of(query)}"


def query_of(query: Mapping[str, object]) -> str:
    given = {key: value for key, value in query.items() if value is not None}
    return "?" + urlencode(given, quote_via=quote) if given else ""


def deadline_of(base: float, ttl_s: float) -> float:
    return base + ttl_s - min(1.0, ttl_s / 10)


class Reply(NamedTuple):
    """How an exchange ended: the last answer or an error, when that was sent, and how often anything was sent."""

    value: dict[str, Any] | LockError
    sent: float
    sends: int


class Hold:
    """One lock of one client: acquiring, held, releasing or ended, under one mutex."""

    name: str  #: As it was asked for.
    client_id: str  #: By which the server lists this lock.
    lock_id: str  #: Public, and of this grant only.
    fencing_token: str  #: 16 hex digits that order as text: a later grant has a higher one.

    def __init__(self, client: Client, name: str, timeout: float | None, options: LockOptions) -> None:
        if not LockOptions.__annotations__.keys() >= options.keys():
            raise TypeError(f"no such option: {', '.join(options.keys() - LockOptions.__annotations__.keys())}")
        self._timeout_s = 0.0 if timeout is None else seconds("timeout", timeout, 0.1)
        wait, max_hold, limit = options.get("wait_timeout", 0), options.get("max_hold"), options.get("limit")
        self._wait_s = math.inf if wait in (None, math.inf) else seconds("wait_timeout", wait)
        self._max_hold_s = math.inf if max_hold in (None, math.inf) else seconds("max_hold", max_hold)
        if limit is not None and (type(limit) is not int or not 1 <= limit <= 1_048_576):
            raise ValueError(f"limit: want a whole number, 1 to 1048576, not {limit!r}")
        self._on_lost = options.get("on_lost")
        if self._on_lost is not None and not callable(self._on_lost):
            raise ValueError(f"on_lost: want a function without arguments, not {self._on_lost!r}")
        metadata = options.get("metadata")
        try:
            if metadata is not None and not isinstance(metadata, dict):
                raise TypeError(type(metadata).__name__)
            json.dumps(metadata, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"metadata: want a dict of what JSON can say: {error}") from None
        asked = {"timeout": timeout, "limit": limit, "metadata": metadata}
        self._asked = {key: value for key, value in asked.items() if value is not None}
        self._auto_renew = bool(options.get("auto_renew"))
        self.name, self.lock_id, self.fencing_token = name, "", ""
        self.client_id = client._client_id or f"{PREFIX}-{os.getpid()}-{SALT}-{next(COUNT)}"
        self._client = client
        self._mutex = threading.Lock()
        self._state = "acquiring"
        self._is_lost = self._is_released = self._is_renewing = self._is_renewal_fresh = False
        self._token = ""
        self._ttl_s = self._deadline = self._next_renewal = self._renewals_end = 0.0
        self._draw()

    def _draw(self) -> None:
        self._request_id = secrets.token_hex(16)
        self._sends = 0
        self._doubt_s, self._doubt_ends = math.inf, 0.0
        self._is_open = False  # Whether the server may have a hold or a place of this attempt.

    @property
    def fence(self) -> int:
        """The fencing token as a number below 2**64."""
        return int(self.fencing_token, 16)

    def remaining(self) -> float:
        """Seconds until the lock is lost if no renewal follows; 0 if it is not held."""
        return max(0.0, self._deadline - self._client._now()) if self._state == "held" else 0.0

    def check(self) -> None:
        """Raises LockLostError if the lock was lost, LockNotHeldError if it was released. It costs no request."""
        self._step()
        if self._is_lost:
            raise LockLostError(f"the lock {self.name!r} was lost: stop what it protects, then acquire it again")
        if self._state != "held":
            raise LockNotHeldError(f"the lock {self.name!r} was released: acquire it again")

    def __repr__(self) -> str:
        state = "lost" if self._is_lost else self._state
        return f"<{type(self).__name__} {self.name!r} {self.lock_id} {state}, {self.remaining():.3f} s left>"

    def _begin_send(self) -> bool:
        if self._client._is_over:
            return False
        self._sends += 1
        self._is_open = True
        return True

    def _granted(self, fields: Mapping[str, Any], sent: float) -> bool:
        """Takes over what a grant says; false if it is not a grant of this lock."""
        lock_id, fence, token = (str(fields.get(key) or "") for key in ("lockId", "fencingToken", "renewalToken"))
        ttl_s, wait_s = number_of(fields.get("ttl")), number_of(fields.get("waitTime"))
        is_ours = fields.get("lockName") == self.name and fields.get("clientId") == self.client_id
        is_whole = lock_id != "" and token != "" and re.fullmatch("[0-9a-f]{16}", fence)
        if not (is_ours and is_whole and ttl_s and wait_s is not None):
            return False
        self.lock_id, self.fencing_token, self._token = lock_id, fence, token
        self._timeout_s = self._timeout_s or ttl_s
        # The lease began at the grant. A server with a fast clock may say a longer wait than there was.
        self._leased(sent + min(0.999 * wait_s, self._client._now() - sent), ttl_s)
        return True

    def _doubt(self, asked_s: float) -> None:
        """Notes a renewal without a clear answer, which may yet come to the server and shorten the lease."""
        now = self._client._now()
        self._doubt_s = min(asked_s, self._doubt_s if now < self._doubt_ends else math.inf)
        self._doubt_ends = now + DOUBT_S

    def _leased(self, base: float, ttl_s: float) -> None:
        if self._client._now() < self._doubt_ends:
            ttl_s = min(ttl_s, self._doubt_s)
        self._ttl_s = ttl_s
        self._deadline = deadline_of(base, ttl_s)
        self._next_renewal = base + ttl_s / 3

    def _is_late(self) -> bool:
        """Whether under half of the usable time is left."""
        return self._deadline - self._client._now() < deadline_of(0, self._ttl_s) / 2

    def _step(self) -> None:
        """Loses a lock whose time is over."""
        if self._client._now() >= self._deadline:
            self._lose(is_gone=False)

    def _lose(self, is_gone: bool = True) -> None:
        """Loses a lock that is held. Of one that is gone at the server nothing is left to release."""
        with self._mutex:
            if self._state != "held":
                return
            self._state, self._is_lost = "ended", True
            if is_gone:
                self._token = ""
        self._client._tell(self)

    def _next_at(self) -> float:
        """When the next step is due."""
        renews = self._auto_renew and not self._is_renewing and self._next_renewal < self._renewals_end
        return min(self._next_renewal, self._deadline) if renews else self._deadline

    def _may_renew(self) -> bool:
        return self._state in ("acquiring", "held") and self._client._now() < self._deadline

    def _begin_renewal(self) -> bool:
        """Whether the caller may send a renewal. There is one at a time, so that their answers do not cross."""
        with self._mutex:
            is_free = not self._is_renewing and self._may_renew()
            self._is_renewing = self._is_renewing or is_free
            return is_free

    def _orphan(self) -> None:
        """In a forked child: the lock is the parent's. A thread that is not here may have its mutex."""
        self._mutex = threading.Lock()
        self._state, self._is_lost, self._token = "ended", True, ""


C = TypeVar("C", bound="Client")


class Client:
    """What both clients are: the flows of locks, over the I/O that each of them adds."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        ca: Any = None,
        client_id: str | None = None,
        shard: Callable[[str, int], int] | None = None,
    ) -> None:
        """`url` names a server, or with commas several; a lock lives on the one that `shard(name, servers)` chooses, by
        default CRC-32 of the name modulo their number. `ca` is a PEM file of authorities or an ssl.SSLContext. With
        `client_id` all locks have that id: see actor()."""
        if token is not None and not re.fullmatch("[!-~]+", token):
            raise ValueError("token: want printable ASCII characters without spaces")  # Without the token itself.
        self._secret = token or "\n"
        self._client_id = None if client_id is None else text("client_id", client_id, 128)
        self._shard = shard or (lambda name, servers: zlib.crc32(name.encode()) % servers)
        self._now = boot_clock
        self._poll_max_s = POLL_MAX_S
        self._pool = Pool(servers_of(url, token, ca), self._connect, boot_clock)
        self._is_closed = False
        self._holds: set[Any] = set()
        self._returning: set[Any] = set()  # Holds that are given back beside whoever had them.
        self._root: Any = self  # Of an actor: the client that it came from, which the fork knows and the keeper serves.
        self._begin()
        CLIENTS.add(self)

    def actor(self: C, client_id: str) -> C:
        """This client under one id, which promises to do one thing at a time: deadlocks are seen among actors only."""
        actor = copy.copy(self)
        actor._client_id = text("client_id", client_id, 128)
        return actor

    @property
    def _is_over(self) -> bool:
        """Whether this client was closed, or that of which it is an actor."""
        return self._is_closed or self._pool.is_closed

    def _begin(self) -> None:
        """Makes what a forked child has to make again."""

    def _settle(self) -> None:
        """Leaves behind what belongs to another loop."""

    async def _connect(self, server: Server, within_s: float) -> Link:
        raise NotImplementedError

    async def _pause(self, seconds: float) -> None:
        raise NotImplementedError

    def _background(self, flow: Coroutine[Any, Any, object]) -> bool:
        """Runs a flow beside the caller. False if that cannot be."""
        raise NotImplementedError

    def _watch(self, hold: Any) -> None:
        """Has the keeper call _tick in time for this hold, too."""
        raise NotImplementedError

    def _tell(self, hold: Any) -> None:
        """Says that a lock was lost. Called once, without its mutex."""
        raise NotImplementedError

    def _request(self, name: str, method: str, verb: str = "", fields: Any = None, **query: object) -> Request:
        path, servers = path_of(name, verb, query), len(self._pool.servers)
        server = self._shard(name, servers) if servers > 1 else 0
        if server not in range(servers):
            raise ValueError(f"shard: want a function that gives 0 to {servers - 1}, not {server!r}")
        return Request(server, method, path, fields)

    async def _exchange(
        self, what: str, request: Request, until: float, wait_until: float, each_s: float = math.inf
    ) -> Reply:
        """Sends, and repeats: while it is before `until` if the server may have heard it, before `wait_until` if not.
        Each try has `each_s` at most."""
        backoff_s, sends, lasted_s = 0.0, 0, 0.0
        while True:
            request.until = min(until, self._now() + each_s)
            request.prepare(lasted_s)
            result = await self._pool.exchange(request)
            sends += result.sent is not None
            value, may_repeat = judged(result, what, self._pool.servers[request.server].shown, self._secret)
            is_heard = isinstance(value, LockError) and (value.code == "no-answer" or value.status in (502, 504))
            left_s = (until if is_heard else wait_until) - self._now()
            if not may_repeat or request.is_once or left_s <= 0:
                return Reply(value, result.sent or 0.0, sends)
            lasted_s = 0.0 if result.sent is None else self._now() - result.sent
            if backoff_s > 0:  # The first repeat goes out at once.
                await self._pause(min(backoff_s * random.uniform(0.5, 1), left_s))
            backoff_s = min(2.0, max(0.05, 2 * backoff_s))
            request.is_fresh = True

    async def _acquire(self, hold: Hold) -> None:
        """Returns when `hold` is held, or raises why it is not."""
        self._begun(f"acquire {hold.name!r}")
        self._holds.add(hold)
        try:
            await self._wait_for(hold)
            self._watch(hold)
        except BaseException:
            with hold._mutex:
                hold._state = "ended"
            if hold._is_open:
                self._give_back(hold)
            self._holds.discard(hold)
            raise

    def _begun(self, what: str) -> None:
        """Before anything is asked."""
        self._settle()
        if self._is_over:
            raise error_of(what, "the client was closed", "closed")

    def _give_back(self, hold: Hold, token: str = "") -> None:
        """Ends a lock, or without its token an attempt, beside the caller."""

        async def end() -> None:
            try:
                await (self._end(hold, token) if token else self._abandon(hold))
            finally:
                self._returning.discard(hold)

        self._returning.add(hold)
        if not self._background(end()):
            self._returning.discard(hold)

    async def _wait_for(self, hold: Hold) -> None:
        """Waits in polls, all but the last of which keep the place in the queue."""
        what = f"acquire {hold.name!r}"
        wait_end = self._now() + hold._wait_s
        poll_s, poll_max_s, is_last = 0.0, self._poll_max_s, False
        request = self._request(hold.name, "POST", "/acquire")

        def prepare(lasted_s: float) -> None:
            nonlocal poll_s, poll_max_s, is_last
            if lasted_s >= 1:
                poll_max_s = min(poll_max_s, max(5.0, 0.8 * lasted_s))
            rest_s = max(0.0, wait_end - self._now())
            poll_s, is_last = min(rest_s, poll_max_s), rest_s <= poll_max_s
            request.until = min(self._now() + poll_s, wait_end) + PATIENCE_S
            ids = {"clientId": hold.client_id, "requestId": hold._request_id, "waitTimeout": poll_s}
            request.fields = {**hold._asked, **ids, **({} if is_last else {"keepPlace": PLACE_S})}

        request.prepare, request.begin, request.owner = prepare, hold._begin_send, self
        give_up = self._now() + PATIENCE_S
        # While the server still has a lock of the same actor, this one would wait for itself.
        while any((hold.name, hold.client_id) == (each.name, each.client_id) for each in list(self._returning)):
            if self._now() >= give_up:
                break
            await self._pause(0.005)
        wait_end = max(wait_end, self._now())
        while True:
            start = self._now()
            reply = await self._exchange(what, request, wait_end + PATIENCE_S, wait_end)
            fields = reply.value
            if isinstance(fields, LockError):
                # A proxy may say 5xx to what the server has granted.
                if is_refusal(fields):
                    hold._is_open = hold._is_open and hold._sends > 1
                raise fields
            if fields.get("acquired") is True and hold._granted(fields, reply.sent):
                if hold._is_late():
                    with suppress(LockError):
                        await self._renew(hold)
                with hold._mutex:
                    # The client may have been closed meanwhile, and the lock released.
                    is_wanted = hold._state == "acquiring" and hold._token != "" and not self._is_over
                    if is_wanted and not hold._is_late():
                        hold._state, hold._renewals_end = "held", self._now() + hold._max_hold_s
                        return
                if not is_wanted:
                    raise error_of(what, "the client was closed", "closed")
                await self._abandon(hold)
                hold._draw()
                is_over, reason, advice = False, "late", "use a longer timeout= than the network needs"
            elif fields.get("acquired") is False:
                reason, advice = str(fields.get("reason")), "wait longer with wait_timeout="
                if reason not in REASONS:
                    reason = masked(reason, self._secret)
                is_over = reason == "cancelled" or (is_last and reason != "superseded")
                hold._is_open = hold._sends > 1 or not is_last
            else:
                raise error_of(what, "the answer is no grant", "nonsense")
            request.is_fresh = False
            if not is_over and self._now() < start + poll_s / 2:
                await self._pause(0.05)
            if is_over or self._now() >= wait_end:
                said = f"{what}: not granted within {hold._wait_s:g} s ({reason}); {advice}, or try later"
                raise LockTimeoutError(said, reason=reason, status=None if reason == "late" else 200)

    async def _renew(self, hold: Hold, timeout: float | None = None, is_begun: bool = False) -> None:
        """Renews once. Raises if the lock was lost, or if no answer says that it was renewed."""
        timeout_s = hold._timeout_s if timeout is None else seconds("timeout", timeout, 0.1)
        while not is_begun and not hold._begin_renewal():
            if not hold._may_renew():
                hold.check()
            await self._pause(0.02)  # Another renewal is on its way, and their answers must not cross.
        start, before, ends_at = self._now(), hold._deadline, hold._renewals_end if is_begun else math.inf
        is_renewed, is_clear = False, False
        # The server may have shortened the lease long before an answer says so.
        hold._deadline = min(before, deadline_of(start, timeout_s))
        until = min(start + max(0.2, min(PATIENCE_S, hold._ttl_s / 6)), hold._deadline)
        fields = {"renewalToken": hold._token, "timeout": timeout_s}
        request = self._request(hold.name, "POST", "/renew", fields)
        request.is_fresh = hold._is_renewal_fresh
        request.begin = lambda: hold._may_renew() and self._now() < ends_at
        try:
            reply = await self._exchange(f"renew {hold.name!r}", request, until, until)
            value = reply.value
            if isinstance(value, LockError):
                is_clear = reply.sends == 0 or (reply.sends == 1 and is_refusal(value))
                if is_clear:
                    hold._deadline = before
                if isinstance(value, LockNotHeldError):
                    hold._lose()
            elif (ttl_s := number_of(value.get("ttl"))) and value.get("lockId") == hold.lock_id:
                with hold._mutex:
                    if hold._may_renew():
                        hold._timeout_s, is_renewed, is_clear = timeout_s, True, reply.sends == 1
                        hold._leased(reply.sent, ttl_s)
            if hold._state != "acquiring":
                hold.check()
            if isinstance(value, LockError):
                raise value
            if not is_renewed:
                raise error_of(f"renew {hold.name!r}", "the answer is no renewal", "nonsense")
        finally:
            with hold._mutex:
                hold._is_renewing, hold._is_renewal_fresh = False, not is_renewed
                if not is_clear:
                    hold._doubt(timeout_s)
                if not is_renewed:
                    hold._next_renewal = max(self._now() + 0.05, start + min(hold._ttl_s, timeout_s) / 15)

    async def _keep(self, hold: Hold) -> None:
        """One renewal by the keeper."""
        try:
            await self._renew(hold, is_begun=True)
        except LockError as error:
            if hold._state == "held":
                LOG.warning("%s", error)
        if hold._state == "held":
            self._watch(hold)

    def _tick(self) -> float:
        """Does what is due, and says after how many seconds it is to be called again."""
        soon = math.inf
        for hold in list(self._holds):
            hold._step()
            is_due = hold._state == "held" and self._now() >= hold._next_at()
            if is_due and hold._begin_renewal() and not self._background(self._keep(hold)):
                hold._is_renewing, hold._next_renewal = False, self._now() + 0.05
            if hold._state == "held":
                soon = min(soon, hold._next_at())
        return min(TICK_S, max(0.001 + 2e-6 * len(self._holds), soon - self._now()))

    async def _call(self, on_lost: Callable[[], object]) -> None:
        try:
            result = on_lost()
            if inspect.isawaitable(result):
                await result
        except Exception:
            LOG.exception("on_lost has failed")

    async def _release(self, hold: Hold) -> bool:
        """Ends a lock. It is true if the server has confirmed that this ended it."""
        hold._step()
        with hold._mutex:
            token, hold._token = hold._token, ""
            if hold._state == "held":
                hold._state = "releasing"
        if not token:
            return hold._is_released
        try:
            if hold._state != "releasing":
                self._give_back(hold, token)
                return False
            return await self._end(hold, token)
        except BaseException:
            self._give_back(hold, token)
            raise

    async def _end(self, hold: Hold, token: str) -> bool:
        fields = {"renewalToken": token}
        if hold._sends > 1:
            fields.update(clientId=hold.client_id, requestId=hold._request_id)
        until = self._now() + PATIENCE_S
        request = self._request(hold.name, "POST", "/release", fields)
        reply = await self._exchange(f"release {hold.name!r}", request, until, until, RELEASE_TRY_S)
        is_gone = isinstance(reply.value, LockNotHeldError)
        is_confirmed = isinstance(reply.value, dict) and reply.value.get("released") is True
        with hold._mutex:
            hold._is_lost |= is_gone and reply.sends == 1 and hold._state == "releasing"
            hold._is_released = not hold._is_lost and (is_gone or is_confirmed)
            hold._state = "ended"
        self._holds.discard(hold)
        return hold._is_released

    async def _abandon(self, hold: Hold) -> None:
        """Ends an attempt wherever it is: tries of 1 s for 3 s."""
        fields = {"clientId": hold.client_id, "requestId": hold._request_id}
        request = self._request(hold.name, "POST", "/release", fields)
        await self._exchange(f"give up {hold.name!r}", request, self._now() + 3, self._now() + 3, 1.0)

    async def _ask(self, what: str, request: Request, done: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request about no hold of this client. One that must not be repeated gets a new connection. `done` is the
        answer that was lost if a repeat hears that there is nothing left to do."""
        self._begun(what)
        request.is_fresh = request.is_once
        now = self._now()
        reply = await self._exchange(what, request, now + PATIENCE_S, now)
        if done and reply.sends > 1 and isinstance(reply.value, LockNotHeldError):
            return done
        if isinstance(reply.value, LockError):
            raise reply.value
        return reply.value

    async def _locks(self, **query: object) -> AsyncGenerator[dict[str, Any], None]:
        for server in range(len(self._pool.servers)):
            after, seen = None, set[object]()
            while True:
                path = "/locks" + query_of({"limit": 100, "after": after, **query})
                page = await self._ask("locks", Request(server, "GET", path))
                for lock in locks_of("locks", page):
                    yield lock
                after = page.get("next")
                if after is None:
                    break
                if not isinstance(after, str) or after in seen:
                    raise error_of("locks", "the pages have no end", "nonsense")
                seen.add(after)

    async def _force_release(self, name: str, lock_id: str | None, space: str | None) -> list[dict[str, Any]]:
        if lock_id is not None:
            text("lock_id", lock_id, 64)
        what, request = f"force_release {name!r}", self._request(name, "DELETE", lockId=lock_id, space=space)
        request.is_once = lock_id is None  # A repeat could end the hold of the next in the queue.
        return locks_of(what, await self._ask(what, request, {"locks": [{"lockId": lock_id, "clientId": None}]}))

    async def _close(self, caller: object) -> None:
        """Of an actor only what is its own: it shares the connections."""
        self._settle()
        self._is_closed, is_actor, helpers = True, self._root is not self, self._root._helpers
        self._pool.stop(self if is_actor else None)

        def mine() -> list[Hold]:
            holds = [*self._holds, *self._returning]
            return [hold for hold in holds if hold._client is self or not is_actor]

        for hold in mine():
            self._background(self._release(hold))
        ends_at = self._now() + 6
        while (mine() or (not is_actor and len(helpers) > (caller in helpers))) and self._now() < ends_at:
            await self._pause(0.005)
        if not is_actor:
            self._pool.close()


def forked() -> None:
    for client in list(CLIENTS):
        client._pool.drop()
        for hold in list(client._holds):
            hold._orphan()
        client._holds.clear()
        client._returning.clear()
        client._begin()


BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", None)
LOG = logging.getLogger("distributed_lock_client")
COUNT = itertools.count(1)
SALT = secrets.token_hex(4)
PREFIX = re.sub("[^A-Za-z0-9.-]", "", socket.gethostname())[:64]
CLIENTS: weakref.WeakSet[Client] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forked)
