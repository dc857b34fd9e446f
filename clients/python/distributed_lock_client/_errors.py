"""The errors, and which of them an answer of the server, or the lack of one, becomes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ._http import Failure, Result


class LockError(Exception):
    """What each error of this package is. `code` is that of the server, or no-connection, no-answer, tls, nonsense or
    closed; `status` is the HTTP status, `detail` the server's own words, and `request_id` the X-Request-Id by which
    the server's log names the request. Each may be None."""

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


# Which error a code is, or else a status or its first digit, and what to do. The first five codes are those of this
# package, all others the server's. An answer without a code, and with a status that is not here, is nonsense.
KINDS: dict[object, tuple[type[LockError], str]] = {
    "no-connection": (LockUnavailableError, "see whether the server runs there"),
    "no-answer": (
        LockUnavailableError,
        "see whether the network works, and whether this is the HTTP port of the server",
    ),
    "tls": (LockUnavailableError, "give its authority with ca=, and use a name that is in its certificate"),
    "nonsense": (LockServerError, "see whether the url is that of a dflockd server"),
    "closed": (LockUnavailableError, "make another one"),
    "deadlock": (LockDeadlockError, ""),  # The detail has the advice.
    "draining": (LockDrainingError, "wait with wait_timeout= until the server is back"),
    "limit-mismatch": (LockLimitMismatchError, "use the same limit= in every client"),
    "max-locks": (LockCapacityError, "try again later or raise the limit of the server"),
    "max-waiters": (LockCapacityError, "try again later or raise the limit of the server"),
    "not-held": (LockNotHeldError, "there is nothing to release"),
    401: (LockDeniedError, "give the token of the server with token="),
    403: (LockDeniedError, "use a token that may do this"),
    422: (LockRequestError, "change the request"),
    429: (LockCapacityError, "send fewer requests"),
    **dict.fromkeys((502, 503, 504), (LockUnavailableError, "see whether the server runs behind its proxy")),
    4: (LockRequestError, "change the request, and see whether the url is right"),
    5: (LockServerError, "see the log of the server"),
}


def error_of(what: str, said: str, code: str | None, status: int = 0, **known: object) -> LockError:
    """The error of a code, or else of a status."""
    kind, advice = KINDS.get(code) or KINDS.get(status) or KINDS[status // 100]
    return kind(f"{what}: {said}; {advice}" if advice else f"{what}: {said}", code=code, status=status or None, **known)


def masked(text: str, secret: str) -> str:
    """What an answer says, without the token and whatever may be another secret, and at most 500 characters of it."""
    return re.sub("[0-9a-f]{32}", "...", text.replace(secret, "..."))[:500]


def is_refusal(error: LockError) -> bool:
    """Whether the server itself says that it has done nothing."""
    is_client_error = 400 <= (error.status or 0) < 500 and error.code != "nonsense"
    return is_client_error or error.code in ("draining", "max-locks", "max-waiters")


def judged(result: Result, what: str, shown: str, secret: str) -> tuple[dict[str, Any] | LockError, bool]:
    """What a result says, or its error, and whether the request may be repeated."""
    if isinstance(result, Failure):
        said = f"{result.code.replace('-', ' ')}: {result.text}"
        return error_of(f"{what} at {shown}", said, result.code), result.code in ("no-connection", "no-answer")
    fields, status = object_of(result.body), result.status
    if status == 200 and fields is not None:
        return fields, False
    given = [(fields or {}).get(name) if status >= 400 else None for name in ("code", "detail", "instance")]
    code, detail, instance = (
        None if not isinstance(value, str) else value if value in KINDS else masked(value, secret) for value in given
    )
    reason = detail or code or "an answer without a reason"
    if code is None and status not in KINDS:
        code = "nonsense"
    error = error_of(what, f"{status}, {reason}", code, status, detail=detail, request_id=instance)
    cycle = (fields or {}).get("cycle")
    if isinstance(error, LockDeadlockError) and isinstance(cycle, list):
        steps = [step.items() for step in cycle if isinstance(step, dict)]
        error.cycle = [{key: masked(value, secret) for key, value in step if isinstance(value, str)} for step in steps]
    return error, status in (502, 504) or code == "draining"


def locks_of(what: str, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    locks = answer.get("locks")
    if not isinstance(locks, list) or not all(isinstance(lock, dict) for lock in locks):
        raise error_of(what, "the answer has no locks", "nonsense")
    return locks


def object_of(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
