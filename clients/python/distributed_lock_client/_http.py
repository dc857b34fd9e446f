"""One exchange over HTTP/1.1, on a connection that was kept or is new. Both clients share it; each brings a Link of its
own. Invariant: an answer that was cut off is never taken for a whole one.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import ssl
from collections import deque
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any, Callable, NamedTuple, Protocol, Union
from urllib.parse import quote, urlsplit

STATUS = re.compile(rb"HTTP/1\.[01] [1-5]\d\d(?:[ \r]|$)")
LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?:\r|$)")
CLOSE = re.compile(rb"(?i)\r\nconnection:[^\r]*\bclose\b")
CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding:[^\r]*\bchunked\b")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]*\r\n")
CONNECT_S = 5.0
IDLE_MAX_S = 60.0  # The server hangs up after 75 s.
ANSWER_MAX = 64 << 20
HEAD_MAX = 64 << 10
INTERIM_MAX = 20  # Answers of 1xx before the one that counts.
WANT_URL = "url: want http://HOST:PORT or https://HOST:PORT, several with commas between, and no user or query in it"


class Server(NamedTuple):
    """Where a server is. `head` is what each request to it says, with the secret; `shown` is for messages."""

    host: str
    port: int
    context: ssl.SSLContext | None
    prefix: str
    head: str
    shown: str


def servers_of(url: str, token: str | None, ca: str | os.PathLike[str] | ssl.SSLContext | None) -> list[Server]:
    servers, context = [], ca if isinstance(ca, ssl.SSLContext) else None
    secret = "" if token is None else f"Authorization: Bearer {token}\r\n"
    for part in url.split(","):
        at = urlsplit(part.strip())
        is_odd = "@" in at.netloc or at.netloc.endswith(":") or at.query or at.fragment
        if at.scheme not in ("http", "https") or not at.hostname or is_odd:
            raise ValueError(WANT_URL)
        if at.scheme == "https":
            context = context or ssl.create_default_context(cafile=None if isinstance(ca, ssl.SSLContext) else ca)
        head = f"Host: {at.netloc.encode('idna').decode()}\r\n{secret}User-Agent: distributed-lock-client (Python)\r\n"
        used, port = (context, 443) if at.scheme == "https" else (None, 80)
        prefix = quote(at.path.rstrip("/"), safe="/%:")
        servers.append(Server(at.hostname, at.port or port, used, prefix, head, f"{at.scheme}://{at.netloc}"))
    return servers


class Request:
    """One request. `prepare` is called before each try, with the seconds that the one before lasted; `begin` when the
    bytes are about to go, and if it says false, none goes. The answer has to be there at `until` of the clock.
    `is_fresh` demands a new connection, and `is_once` that it is not sent again. `owner` is the client whose it is."""

    def __init__(self, server: int, method: str, path: str, fields: Mapping[str, Any] | None = None) -> None:
        self.server = server
        self.method = method
        self.path = path
        self.fields = fields
        self.until = math.inf
        self.is_fresh = self.is_once = False
        self.owner: object = None
        self.prepare: Callable[[float], None] = lambda lasted_s: None
        self.begin: Callable[[], bool] = lambda: True

    def data(self, server: Server) -> bytes:
        body = "" if self.fields is None else json.dumps(self.fields)
        about = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        return f"{self.method} {server.prefix}{self.path} HTTP/1.1\r\n{server.head}{about}\r\n{body}".encode()


class Answer(NamedTuple):
    """What came. `sent` is the time of the clock when the request went out."""

    status: int
    body: bytes
    sent: float


class Failure(NamedTuple):
    """What came instead: no-connection, no-answer, tls, nonsense or closed. `sent` is None if no byte went out."""

    code: str
    text: str
    sent: float | None


Result = Union[Answer, Failure]


class Link(Protocol):
    """A connection. `read` gives nothing at its end, and at the end of its time. Another thread may call `hang_up`."""

    async def write(self, data: bytes, within_s: float) -> None: ...
    async def read(self, within_s: float) -> bytes: ...
    def fileno(self) -> int: ...
    def hang_up(self) -> None: ...
    def close(self) -> None: ...


class Pool:
    """The connections of one client."""

    def __init__(
        self, servers: list[Server], connect: Callable[[Server, float], Awaitable[Link]], now: Callable[[], float]
    ) -> None:
        self.servers = servers
        self.connect = connect
        self.now = now
        self.is_closed = False
        self.idle: list[deque[tuple[Link, float]]] = [deque() for _ in servers]
        self.busy: dict[Link, Request] = {}

    async def exchange(self, request: Request) -> Result:
        link, sent, answer = None if request.is_fresh else self.take(request.server), None, None
        try:
            server = self.servers[request.server]
            link = link or await self.connect(server, min(CONNECT_S, request.until - self.now()))
            self.busy[link] = request
            if not request.begin():
                return Failure("closed", "the client was closed, or the lock has ended", None)
            sent = self.now()
            await link.write(request.data(server), request.until - sent)
            data = bytearray()
            while answer is None:
                part = await link.read(request.until - self.now())
                data += part
                is_late = self.now() >= request.until
                answer = parsed(data, not part and not is_late)
                if answer is None and (not part or is_late or len(data) > ANSWER_MAX):
                    why = "in time" if is_late else "before the connection ended"
                    return Failure("no-answer", f"{len(data)} bytes of it came {why}", sent)
            return Answer(answer[0], answer[1], sent)
        except (OSError, UnicodeError) as error:
            is_refused = link is None and isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError)
            code = "tls" if is_refused else "no-connection" if sent is None else "no-answer"
            return Failure(code, str(error) or type(error).__name__, sent)
        except ValueError as error:
            return Failure("nonsense", str(error), sent)
        finally:
            if link is not None:
                self.busy.pop(link, None)
                if answer is not None and answer[2] and not self.is_closed:
                    self.keep(request.server, link)
                else:
                    link.close()

    def take(self, server: int) -> Link | None:
        """The connection that was used last. Several threads may take and keep at once."""
        with suppress(IndexError):
            while True:
                link, since = self.idle[server].pop()
                if since > self.now() - IDLE_MAX_S and not is_readable(link.fileno()):
                    return link
                link.close()
        return None

    def keep(self, server: int, link: Link) -> None:
        self.idle[server].append((link, self.now()))
        with suppress(IndexError):
            if self.idle[server][0][1] < self.now() - IDLE_MAX_S:
                self.idle[server].popleft()[0].close()

    def stop(self, owner: object = None) -> None:
        """Hangs up whatever an acquire of this owner waits on; without one that of all, and keeps no connection."""
        self.is_closed |= owner is None
        for link, request in list(self.busy.items()):
            if request.path.endswith("/acquire") and owner in (None, request.owner):
                link.hang_up()

    def close(self) -> None:
        for server, idle in enumerate(self.idle):
            while idle and (link := self.take(server)):
                link.close()

    def drop(self) -> None:
        """In a forked child: its copies of the connections end, and those of the parent live on. A number of a file
        that somebody may close later stays open, on nothing."""
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in {link.fileno() for link in [*self.busy, *(link for idle in self.idle for link, _ in idle)]} - {
            -1
        }:
            os.dup2(nothing, number, inheritable=False)
        os.close(nothing)
        self.busy, self.idle = {}, [deque() for _ in self.servers]


def is_readable(number: int) -> bool:
    """Whether something came on an idle connection, which is mostly its end. One that is closed has no number."""
    if number < 0:
        return True
    if not hasattr(select, "poll"):
        return bool(select.select([number], [], [], 0)[0])
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


def parsed(data: bytes | bytearray, is_ended: bool) -> tuple[int, bytes, bool] | None:
    """Status, body, and whether the connection may be used again; None if the answer is not whole; ValueError if it is
    none. It is called after each part, so it copies nothing but the head until all is there."""
    at = 0
    for _ in range(INTERIM_MAX + 1):
        if not data.startswith(b"HTTP/1.", at) and not b"HTTP/1.".startswith(data[at : at + 7]):
            raise ValueError("the first line is no status line")
        end = data.find(b"\r\n\r\n", at, at + HEAD_MAX)
        if end < 0 and len(data) >= at + HEAD_MAX:
            raise ValueError("its head has over 64 KiB")
        if end < 0:
            return None
        head, at = bytes(data[at:end]), end + 4
        if not STATUS.match(head) or head[9:12] == b"101":
            raise ValueError("its status is none of HTTP/1.1")
        if head[9:10] != b"1":
            break
    else:
        raise ValueError("no end of interim answers")
    length, stays = LENGTH.search(head), head[7:8] == b"1" and not CLOSE.search(head)
    if CHUNKED.search(head):
        body = unchunked(data, at) if data.endswith(b"\r\n\r\n") else None
        return None if body is None else (int(head[9:12]), body, stays)
    if head[9:12] in (b"204", b"304"):
        end = at
    elif length:
        end = at + int(length[1])
    elif is_ended:
        end = len(data)
    else:
        return None
    if end > len(data):
        return None
    return int(head[9:12]), bytes(data[at:end]), stays and not is_ended and end == len(data)


def unchunked(data: bytes | bytearray, at: int) -> bytes | None:
    """The body whose chunks begin there, or None if it is not whole. The trailers end with the data."""
    body = bytearray()
    while chunk := CHUNK.match(data, at):
        at, size = chunk.end(), int(chunk[1], 16)
        if size == 0:
            return bytes(body)
        body += data[at : at + size]
        at += size + 2
    return None
