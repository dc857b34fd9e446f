"""The client for threads. Its I/O blocks, so a flow of the engine runs through at once. One daemon thread per client
keeps its locks while there are any; a renewal and a callback have threads of their own, so none of them delays another.
"""

from __future__ import annotations

import socket
import threading
import time
import weakref
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ._core import Client, Hold, LockOptions
from ._errors import LockTimeoutError
from ._http import Link, Request, Server

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


def run(flow: Coroutine[Any, Any, T]) -> T:
    try:
        flow.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    raise RuntimeError("a flow without asyncio has suspended")


class SocketLink:
    """A connection whose calls block."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    async def write(self, data: bytes, within_s: float) -> None:
        self.socket.settimeout(max(0.001, within_s))
        self.socket.sendall(data)

    async def read(self, within_s: float) -> bytes:
        self.socket.settimeout(max(0.001, within_s))
        try:
            return self.socket.recv(65536)
        except socket.timeout:
            return b""

    def fileno(self) -> int:
        return self.socket.fileno()

    def hang_up(self) -> None:
        with suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)  # That of TLS is not for two threads.

    def close(self) -> None:
        self.hang_up()
        self.socket.close()


class DistributedLock(Hold):
    """A lock that is held, until it is released or lost. As a context manager it is released at the end."""

    lost: threading.Event  #: Set when the lock is lost, before its lease ends at the server.

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.lost = threading.Event()
        self._ending = threading.RLock()

    def _orphan(self) -> None:
        super()._orphan()
        self.lost, self._ending = threading.Event(), threading.RLock()
        self.lost.set()

    def renew(self, timeout: float | None = None) -> None:
        """Makes the lease end `timeout` seconds from now, by default as long as it was. Raises LockLostError if the
        lock was lost, and another LockError if the server does not confirm the renewal; the lock may still be held
        then."""
        run(self._client._renew(self, timeout))

    def release(self) -> bool:
        """Ends the lock; true if the server confirms that this ended it. False if it was lost before, or if the server
        cannot be reached, and the lock ends with its lease. It raises no LockError, and a second call asks nobody."""
        with self._ending:
            return run(self._client._release(self))

    def __enter__(self) -> DistributedLock:
        self.check()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.release()
        if kind is None and self._is_lost:
            self.check()


class DistributedLockClient(Client):
    """Locks of a dflockd server, for threads. All methods may be called from any thread."""

    def _begin(self) -> None:
        self._wakeup = threading.Condition()
        self._keeper: threading.Thread | None = None
        self._wakes_at = 0.0
        self._helpers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()  # Those that run.

    async def _connect(self, server: Server, within_s: float) -> Link:
        connection = socket.create_connection((server.host, server.port), max(0.001, within_s))
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if server.context:
                connection = server.context.wrap_socket(connection, server_hostname=server.host)
        except BaseException:
            connection.close()
            raise
        return SocketLink(connection)

    async def _pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def _background(self, flow: Coroutine[Any, Any, object]) -> bool:
        helper = threading.Thread(target=run, args=(flow,), daemon=True)
        try:
            helper.start()
        except RuntimeError:  # The interpreter is about to end, or there are too many threads.
            flow.close()
            return False
        self._root._helpers.add(helper)
        return True

    def _watch(self, hold: Hold) -> None:
        root = self._root
        with root._wakeup:
            if root._keeper is None:
                keeper = threading.Thread(target=root._keep_all, daemon=True)
                keeper.start()
                root._keeper, root._wakes_at = keeper, 0.0
            elif hold._next_at() < root._wakes_at:
                root._wakeup.notify()

    def _keep_all(self) -> None:
        with self._wakeup:
            while self._holds:
                pause_s = self._tick()
                self._wakes_at = self._now() + pause_s
                self._wakeup.wait(pause_s)
            self._keeper = None

    def _tell(self, hold: DistributedLock) -> None:
        self._holds.discard(hold)
        hold.lost.set()
        if hold._on_lost:
            self._background(self._call(hold._on_lost))

    def acquire(self, name: str, timeout: float | None = None, **options: Unpack[LockOptions]) -> DistributedLock:
        """The lock `name` with a lease of `timeout` seconds, by default that of the server. Without `wait_timeout` it
        is tried once. Raises LockTimeoutError if it was not free in time, LockDeadlockError, LockUnavailableError or
        another LockError, and ValueError or TypeError, before any request, for arguments that cannot be meant."""
        lock = DistributedLock(self, name, timeout, options)
        try:
            run(self._acquire(lock))
            return lock
        except BaseException:
            if lock._state == "held":  # An interrupt on the way out.
                self._background(self._release(lock))
            raise

    def try_acquire(
        self, name: str, timeout: float | None = None, **options: Unpack[LockOptions]
    ) -> DistributedLock | None:
        """As acquire(), but None if the lock was not free in time."""
        try:
            return self.acquire(name, timeout, **options)
        except LockTimeoutError:
            return None

    @contextmanager
    def lock(
        self, name: str, timeout: float | None = None, **options: Unpack[LockOptions]
    ) -> Iterator[DistributedLock]:
        """For `with`: acquire(), and release at the end. If the lock was lost, a body that succeeded ends in
        LockLostError."""
        with self.acquire(name, timeout, **options) as lock:
            yield lock

    def status(self, name: str, space: str | None = None) -> dict[str, Any]:
        """Who holds and who waits. `space` is lock, the default, or semaphore, where locks with a limit are."""
        return run(self._ask(f"status {name!r}", self._request(name, "GET", "/status", space=space)))

    def locks(self, prefix: str | None = None, space: str | None = None) -> Iterator[dict[str, Any]]:
        """All locks that are held, of all servers, read page by page."""
        locks = self._locks(prefix=prefix, space=space)
        with suppress(StopAsyncIteration):
            while True:
                yield run(locks.__anext__())

    def stats(self, server: int = 0) -> dict[str, Any]:
        """The counters of one server, by its place in the url."""
        return run(self._ask("stats", Request(server, "GET", "/locks/stats")))

    def health(self, server: int = 0) -> dict[str, Any]:
        """Status, version and uptime of one server."""
        return run(self._ask("health", Request(server, "GET", "/health")))

    def force_release(self, name: str, lock_id: str | None = None, space: str | None = None) -> list[dict[str, Any]]:
        """Takes the lock from all who hold it, or from one grant. Raises LockNotHeldError if nobody has it. Only with
        `lock_id` it is repeated if no answer came; after that a `clientId` may be None."""
        return run(self._force_release(name, lock_id, space))

    def close(self) -> None:
        """Releases all locks, ends all waits and closes the connections. It takes at most some 5 s. An actor's close()
        ends only what is the actor's."""
        run(self._close(threading.current_thread()))

    def __enter__(self) -> DistributedLockClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
