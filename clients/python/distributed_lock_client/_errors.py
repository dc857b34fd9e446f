"""The errors, and which of them an answer of the server, or the lack of one, becomes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ._http import Failure, Result


class LockError(Exception):
    """What each error of this package is. `code` is the server's short code, `status` the HTTP status, `detail` the
    server's own words, `request_id` the X-Request-Id by which the server's log names the request; each may be None."""

    code: str | None = None
    status: int | None = None
    detail: str | None = None
    request_id: str | None = None

    def __init__(self, message: str, **known: object) -> None:
        super().__init__(message)
        self.__dict__.update(known)


class LockTimeoutError(LockError):
    """The lock was not free in time. `reason` is timeout, quarantine, superseded or cancelled, as the server says, or
    late: the lock came, but so late that most of its lease had passed."""

    reason: str = "timeout"


class LockDeadlockError(LockError):
    """Waiting would have been for ever. `cycle` names each waiting client and the lock that it waits for."""

    cycle: Sequence[Mapping[str, str]] = ()


class LockLostError(LockError):
    """The lock ended before it was released."""


class LockNotHeldError(LockError):
    """The lock is not held: it was released before, or nobody has it."""


class LockLimitMismatchError(LockError):
    """Other clients use this lock with another limit."""


class LockDeniedError(LockError):
    """The server wants another token (401), or refuses this one (403)."""


class LockUnavailableError(LockError):
    """No server could be asked: no connection, no answer, 502, 503 or 504 of a proxy, TLS, or a closed client."""


class LockDrainingError(LockUnavailableError):
    """The server is about to stop and grants no more locks."""


class LockCapacityError(LockError):
    """The server has as many locks, waiters or requests as it may have."""


class LockRequestError(LockError):
    """The server does not accept the request, for example a timeout above its limit."""


class LockServerError(LockError):
    """The server failed, or the answer is not one of a dflockd server."""


OF_CODE = {
    "deadlock": (LockDeadlockError, "release the locks that this client holds and begin again"),
    "draining": (LockDrainingError, "wait with wait_timeout= until the server is back"),
    "limit-mismatch": (LockLimitMismatchError, "use the same limit= in every client"),
    "max-locks": (LockCapacityError, "try again later or raise the limit of the server"),
    "max-waiters": (LockCapacityError, "try again later or raise the limit of the server"),
    "not-held": (LockNotHeldError, "the lock ended before"),
}
REFUSALS = ("draining", "max-locks", "max-waiters")  # With 5xx, and yet the server's own.
OF_STATUS = {
    401: (LockDeniedError, "give the token of the server with token="),
    403: (LockDeniedError, "use a token that may do this"),
    429: (LockCapacityError, "send fewer requests"),
    **dict.fromkeys((502, 503, 504), (LockUnavailableError, "see whether the server runs behind its proxy")),
}
OF_FAILURE = {
    "refused": "no connection: {}; see whether the server runs there",
    "cut": "the connection ended without an answer: {}; see whether the server runs",
    "late": "no answer in time; see whether the server and the network work",
    "tls": "not trusted: {}; give its authority with ca=, and use a name that is in its certificate",
    "nonsense": "not an answer in HTTP: {}; see whether the url is that of a dflockd server",
    "withdrawn": "the client was closed, or the lock has ended; make another one",
}


def judged(result: Result, what: str, shown: str, secret: str) -> tuple[dict[str, Any] | LockError, bool]:
    """What a result says, or its error, and whether the request may be repeated."""
    if isinstance(result, Failure):
        text = f"{what} at {shown}: {OF_FAILURE[result.kind].format(result.text)}"
        failed = LockServerError if result.kind == "nonsense" else LockUnavailableError
        return failed(text, code=result.kind), result.kind in ("refused", "cut", "late")
    fields, status = object_of(result.body), result.status
    if status == 200 and fields is not None:
        return fields, False
    said = {to: (fields or {}).get(key) for to, key in [("code", "code"), ("detail", "detail"), ("request_id", "instance")]}
    known: dict[str, Any] = {key: value for key, value in said.items() if isinstance(value, str) and status >= 400}
    if "detail" in known:
        known["detail"] = re.sub("[0-9a-f]{32}", "...", known["detail"].replace(secret, "..."))[:500]
    kind: type[LockError] = LockServerError
    advice = f"see the log of the server, and whether {shown} is a dflockd server"
    if 400 <= status < 500:
        kind, advice = LockRequestError, f"change the request, and see whether {shown} is a dflockd server"
    kind, advice = OF_CODE.get(known.get("code", ""), OF_STATUS.get(status, (kind, advice)))
    cycle = (fields or {}).get("cycle")
    if kind is LockDeadlockError and isinstance(cycle, list):
        known["cycle"] = [step for step in cycle if isinstance(step, dict)]
    reason = known.get("detail") or known.get("code") or "an answer without a reason"
    error = kind(f"{what}: {status}, {reason}; {advice}", status=status, **known)
    return error, status in (502, 504) or kind is LockDrainingError


def locks_of(what: str, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    locks = answer.get("locks")
    if not isinstance(locks, list) or not all(isinstance(lock, dict) for lock in locks):
        raise LockServerError(f"{what}: the answer has no locks; see whether the url is that of a dflockd server")
    return locks


def object_of(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
