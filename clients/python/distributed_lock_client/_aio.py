"""The client for asyncio. Timers of the event loop keep its locks. It belongs to the loop that uses it; in another loop
it begins anew, without the locks of the first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from ._core import LOG, TICK_S, Client, Hold, LockOptions
from ._errors import LockTimeoutError
from ._http import Link, Request, Server

if TYPE_CHECKING:
    from typing_extensions import Unpack


class StreamLink:
    """A connection of asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def write(self, data: bytes, within_s: float) -> None:
        self.writer.write(data)

    async def read(self, within_s: float) -> bytes:
        timer = asyncio.get_running_loop().call_later(max(0.0, within_s), self.hang_up)
        try:
            return await self.reader.read(65536)
        finally:
            timer.cancel()

    def fileno(self) -> int:
        return cast(int, self.writer.get_extra_info("socket").fileno())

    def hang_up(self) -> None:
        self.writer.transport.abort()

    close = hang_up


def close_opened(opening: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    if not opening.cancelled() and not opening.exception():
        opening.result()[1].transport.abort()


class AsyncDistributedLock(Hold):
    """A lock that is held, until it is released or lost. With `async with` it is released at the end, and a body that
    still runs when the lock is lost is cancelled."""

    lost: asyncio.Event  #: Set when the lock is lost, before its lease ends at the server.

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.lost = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Lock()
        self._body: asyncio.Task[Any] | None = None
        self._is_cancelled = False

    def _orphan(self) -> None:
        super()._orphan()
        with suppress(RuntimeError):  # Its loop has ended.
            self.lost.set()

    async def renew(self, timeout: float | None = None) -> None:
        """Makes the lease end `timeout` seconds from now, by default as long as it was. Raises LockLostError if the
        lock was lost, and another LockError if the server does not confirm the renewal; the lock may still be held
        then."""
        self._client._settle()
        await self._client._renew(self, timeout)

    async def release(self) -> bool:
        """Ends the lock; true if the server confirms that this ended it. False if it was lost before, or if the server
        cannot be reached, and the lock ends with its lease. It raises no LockError, and a second call asks nobody. If
        it is cancelled, the release goes on in the background."""
        self._client._settle()
        async with self._ending:
            return await self._client._release(self)

    async def __aenter__(self) -> AsyncDistributedLock:
        self.check()
        self._body = asyncio.current_task()
        self._cancels = getattr(self._body, "cancelling", int)()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        body, self._body = self._body, None
        is_ours = False
        if self._is_cancelled:
            if not isinstance(error, asyncio.CancelledError):
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)  # The cancellation that the body did not live to see.
            # Before Python 3.11 a task does not count who else cancels it.
            is_ours = getattr(body, "uncancel", int)() <= self._cancels
            if not is_ours and error is None:
                error = asyncio.CancelledError()
        await self.release()
        if self._is_lost and (error is None or (is_ours and isinstance(error, asyncio.CancelledError))):
            self.check()
        if error is not None and kind is None:
            raise error


class AsyncDistributedLockClient(Client):
    """Locks of a dflockd server, for asyncio."""

    def _begin(self) -> None:
        self._home: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._helpers: set[asyncio.Task[Any]] = set()

    def _settle(self) -> None:
        root, loop = self._root, asyncio.get_running_loop()
        if root._home is not loop:
            root._begin()
            root._home = loop
            self._pool.idle = [deque() for _ in self._pool.servers]
            for hold in list(self._holds):
                hold._orphan()
            self._holds.clear()
            self._returning.clear()

    async def _connect(self, server: Server, within_s: float) -> Link:
        host = server.host if server.context else None
        opening = asyncio.ensure_future(
            asyncio.open_connection(server.host, server.port, ssl=server.context, server_hostname=host)
        )
        try:
            await asyncio.wait({opening}, timeout=max(0.0, within_s))
            if not opening.done():
                raise OSError("no connection in time")
            return StreamLink(*opening.result())
        except asyncio.CancelledError:
            opening.add_done_callback(close_opened)
            raise
        finally:
            opening.cancel()

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _background(self, flow: Coroutine[Any, Any, object]) -> bool:
        try:
            helper = asyncio.get_running_loop().create_task(flow)
        except RuntimeError:  # The loop has ended.
            flow.close()
            return False
        self._root._helpers.add(helper)
        helper.add_done_callback(self._root._helpers.discard)
        return True

    def _watch(self, hold: Hold) -> None:
        self._root._arm(hold._next_at() - self._now())

    def _arm(self, pause_s: float) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + min(TICK_S, max(0.0, pause_s))
        if self._timer is None or at < self._timer.when():
            if self._timer:
                self._timer.cancel()
            self._timer = loop.call_at(at, self._keep_all)

    def _keep_all(self) -> None:
        self._timer = None
        pause_s = self._tick()
        if self._holds:
            self._arm(pause_s)

    def _tell(self, hold: AsyncDistributedLock) -> None:
        self._holds.discard(hold)
        try:
            hold._loop.call_soon_threadsafe(self._tell_here, hold)
        except RuntimeError:
            LOG.warning("the lock %r was lost after its loop had ended", hold.name)

    def _tell_here(self, hold: AsyncDistributedLock) -> None:
        hold.lost.set()
        if hold._body:
            hold._is_cancelled = hold._body.cancel()
        if hold._on_lost:
            self._background(self._call(hold._on_lost))

    async def acquire(
        self, name: str, timeout: float | None = None, **options: Unpack[LockOptions]
    ) -> AsyncDistributedLock:
        """The lock `name` with a lease of `timeout` seconds, by default that of the server. Without `wait_timeout` it
        is tried once. Raises LockTimeoutError if it was not free in time, LockDeadlockError, LockUnavailableError or
        another LockError, and ValueError or TypeError, before any request, for arguments that cannot be meant."""
        self._settle()
        lock = AsyncDistributedLock(self, name, timeout, options)
        await self._acquire(lock)
        return lock

    async def try_acquire(
        self, name: str, timeout: float | None = None, **options: Unpack[LockOptions]
    ) -> AsyncDistributedLock | None:
        """As acquire(), but None if the lock was not free in time."""
        try:
            return await self.acquire(name, timeout, **options)
        except LockTimeoutError:
            return None

    @asynccontextmanager
    async def lock(
        self, name: str, timeout: float | None = None, **options: Unpack[LockOptions]
    ) -> AsyncIterator[AsyncDistributedLock]:
        """For `async with`: acquire(), and release at the end. If the lock is lost, the body is cancelled, and the end
        is LockLostError."""
        async with await self.acquire(name, timeout, **options) as lock:
            yield lock

    async def status(self, name: str, space: str | None = None) -> dict[str, Any]:
        """Who holds and who waits. `space` is lock, the default, or semaphore, where locks with a limit are."""
        return await self._ask(f"status {name!r}", self._request(name, "GET", "/status", space=space))

    def locks(self, prefix: str | None = None, space: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """All locks that are held, of all servers, read page by page."""
        return self._locks(prefix=prefix, space=space)

    async def stats(self, server: int = 0) -> dict[str, Any]:
        """The counters of one server, by its place in the url."""
        return await self._ask("stats", Request(server, "GET", "/locks/stats"))

    async def health(self, server: int = 0) -> dict[str, Any]:
        """Status, version and uptime of one server."""
        return await self._ask("health", Request(server, "GET", "/health"))

    async def force_release(
        self, name: str, lock_id: str | None = None, space: str | None = None
    ) -> list[dict[str, Any]]:
        """Takes the lock from all who hold it, or from one grant. Raises LockNotHeldError if nobody has it. Only with
        `lock_id` it is repeated if no answer came; after that a `clientId` may be None."""
        return await self._force_release(name, lock_id, space)

    async def close(self) -> None:
        """Releases all locks, ends all waits and closes the connections. It takes at most some 5 s. An actor's close()
        ends only what is the actor's."""
        await self._close(asyncio.current_task())

    async def __aenter__(self) -> AsyncDistributedLockClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
