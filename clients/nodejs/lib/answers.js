'use strict';
// Which answer of a server, or lack of one, is which error, and what that error means for the next request.

const errors = require('./errors');

/** The error for an answer that is not 200. `problem` is its JSON, {} if it has none. */
function errorFor(status, problem, requestId = null) {
  const code = typeof problem.code === 'string' ? problem.code : null;
  const detail = typeof problem.detail === 'string' ? problem.detail : null;
  const [Kind, advice] = kindOf(status, code);
  const known = { code, status, detail, requestId };
  if (code === 'deadlock') known.cycle = Array.isArray(problem.cycle) ? problem.cycle : [];
  return new Kind(`the server answered ${[status, code].join(' ').trim()}: ${detail ?? 'no detail'}; ${advice}`, known);
}

function kindOf(status, code) {
  if (status === 401) return [errors.LockDeniedError, 'give the client the `token` that the server was started with'];
  if (status === 403) return [errors.LockDeniedError, "use an administrator's `token`, or that of the lock's holder"];
  if (code === 'not-held') return [errors.LockNotHeldError, 'acquire the lock again'];
  if (code === 'limit-mismatch') return [errors.LockLimitMismatchError, 'give the same `limit` everywhere'];
  if (code === 'deadlock') return [errors.LockDeadlockError, 'release what this actor holds, then acquire again'];
  if (code === 'draining') return [errors.LockDrainingError, 'the server stops: try again when it is back'];
  if (status === 502 || status === 504)
    return [errors.LockUnavailableError, 'the proxy has no server: try again later'];
  if (status === 429 || code?.startsWith('max-'))
    return [errors.LockCapacityError, 'raise that limit, or try again later'];
  if (status >= 400 && status < 500) return [errors.LockRequestError, 'correct the argument, or the URL of the client'];
  return [errors.LockServerError, "see the server's log, or check that the URL is that of a dflockd server"];
}

/** The error for a request that failed with `error` of Node. `isSent`: whether there was a connection. */
function failureOf(error, isSent, url) {
  const { code = '', message } = error;
  const why = `${url}: ${[code, message].filter(Boolean).join(' ')}`;
  if (code.startsWith('HPE_')) return nonsense(`${url} does not speak HTTP (${code})`);
  // Who has sent a request trusted the server. All codes but these of systems, names and sockets are of TLS.
  const isSystem = code !== 'EPROTO' && /^(E[A-Z0-9]+|EAI_[A-Z]+|ERR_SOCKET_[A-Z_]+)?$/.test(code);
  if (!isSent && !isSystem) {
    const advice = 'give the client the authority of the server as `ca`, and a URL with the name in the certificate';
    return new errors.LockUnavailableError(`no TLS with ${why}; ${advice}`, { code: 'tls' });
  }
  const [text, kind] = isSent ? ['no answer from', 'no-answer'] : ['no connection to', 'no-connection'];
  return new errors.LockUnavailableError(`${text} ${why}; check that the server runs at this URL`, { code: kind });
}

function nonsense(what, known) {
  return new errors.LockServerError(`${what}; check that the URL is that of a dflockd server`, known);
}

/** Whether the same request may be sent once more. An unknown certificate stays unknown. */
function isRepeatable(error) {
  return error instanceof errors.LockUnavailableError && error.code !== 'tls';
}

/** Whether a server may have done as asked, although no good answer says so. */
function isUncertain(error) {
  return error instanceof errors.LockServerError || error?.code === 'no-answer' || [502, 504].includes(error?.status);
}

module.exports = { errorFor, failureOf, nonsense, isRepeatable, isUncertain };
