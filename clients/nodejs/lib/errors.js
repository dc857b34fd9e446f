'use strict';
// All errors, and which answer of a server is which. Invariant: no text here contains a token or the requestId of an acquire.

/** The parent of all errors here. `code`, `status` and `requestId` (of one HTTP request, as in the server's log) may be null. */
class LockError extends Error {
  constructor(message, { code = null, status = null, detail = null, requestId = null } = {}) {
    super(message);
    Object.assign(this, { code, status, detail, requestId });
    Object.defineProperty(this, 'name', { value: new.target.name, configurable: true });
  }
}

class LockTimeoutError extends LockError {
  constructor(message, { reason = 'timeout', ...rest } = {}) {
    super(message, rest);
    this.reason = reason;
  }
}

class LockDeadlockError extends LockError {
  constructor(message, { cycle = [], ...rest } = {}) {
    super(message, rest);
    this.cycle = cycle;
  }
}

class LockLostError extends LockError {}
class LockNotHeldError extends LockError {}
class LockLimitMismatchError extends LockError {}
class LockDeniedError extends LockError {}
class LockUnavailableError extends LockError {}
class LockDrainingError extends LockUnavailableError {}
class LockCapacityError extends LockError {}
class LockRequestError extends LockError {}
class LockServerError extends LockError {}

/** The error for an answer that is not 200. `problem` is its JSON, {} if it has none. */
function errorFor(status, problem, requestId) {
  const code = typeof problem.code === 'string' ? problem.code : null;
  const detail = typeof problem.detail === 'string' ? problem.detail : null;
  const [Kind, advice] = kindOf(status, code);
  const known = { code, status, detail, requestId: requestId ?? null };
  if (Kind === LockDeadlockError) known.cycle = Array.isArray(problem.cycle) ? problem.cycle : [];
  return new Kind(`the server answered ${status} ${code ?? ''}: ${detail ?? 'no detail'}; ${advice}`, known);
}

function kindOf(status, code) {
  if (status === 401)
    return [LockDeniedError, 'give the client the `token` that the server was started with'];
  if (status === 403)
    return [LockDeniedError, 'use the `token` of an administrator, or of the client that holds the lock'];
  if (code === 'not-held') return [LockNotHeldError, 'acquire the lock again'];
  if (code === 'limit-mismatch') return [LockLimitMismatchError, 'give the same `limit` everywhere'];
  if (code === 'deadlock') return [LockDeadlockError, 'release what this actor holds, then acquire again'];
  if (code === 'draining') return [LockDrainingError, 'the server stops: try again when it is back'];
  if (status === 502 || status === 504)
    return [LockUnavailableError, 'a proxy does not reach the server: try again later'];
  if (status === 429 || /^max-/.test(code ?? ''))
    return [LockCapacityError, 'raise that limit of the server, or try later'];
  if (status >= 400 && status < 500)
    return [LockRequestError, 'correct the argument, or the URL of the client'];
  return [LockServerError, 'see the log of the server, or check that the URL is that of a dflockd server'];
}

/** Whether the same request may be sent once more. An unknown certificate stays unknown. */
function isRepeatable(error) {
  return error instanceof LockUnavailableError && error.code !== 'tls';
}

/** Whether a server may have done as asked, although no good answer says so. */
function isUncertain(error) {
  if (error instanceof LockDrainingError) return false;
  return error instanceof LockServerError || (isRepeatable(error) && error.code !== 'no-connection');
}

module.exports = {
  LockError,
  LockTimeoutError,
  LockDeadlockError,
  LockLostError,
  LockNotHeldError,
  LockLimitMismatchError,
  LockDeniedError,
  LockUnavailableError,
  LockDrainingError,
  LockCapacityError,
  LockRequestError,
  LockServerError,
  errorFor,
  isRepeatable,
  isUncertain,
};
