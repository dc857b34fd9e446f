'use strict';
// Which answer of a server, or lack of one, is which error, and what that error means for the next request.

const errors = require('./errors');

// What each code is, or else each status or its first digit, and what to do. The first five codes are those of this
// package, all others the server's. An answer without a code, and with a status that is not here, is nonsense.
const KINDS = {
  __proto__: null,
  'no-connection': [errors.LockUnavailableError, 'check that the server runs at this URL'],
  'no-answer': [errors.LockUnavailableError, 'check the network, and that the URL has the HTTP port of the server'],
  tls: [errors.LockUnavailableError, "give the server's authority as `ca`, and a URL with a name in its certificate"],
  nonsense: [errors.LockServerError, 'check that the URL is that of a dflockd server'],
  closed: [errors.LockUnavailableError, 'make a new one'],
  'not-held': [errors.LockNotHeldError, 'there is nothing to release'],
  'limit-mismatch': [errors.LockLimitMismatchError, 'give the same `limit` everywhere'],
  // The detail has the advice.
  deadlock: [errors.LockDeadlockError, ''],
  draining: [errors.LockDrainingError, 'try again when the server is back'],
  'max-locks': [errors.LockCapacityError, 'raise that limit, or try again later'],
  'max-waiters': [errors.LockCapacityError, 'raise that limit, or try again later'],
  401: [errors.LockDeniedError, 'give the client the `token` that the server was started with'],
  403: [errors.LockDeniedError, "use an administrator's `token`, or that of the lock's holder"],
  422: [errors.LockRequestError, 'correct the argument'],
  429: [errors.LockCapacityError, 'send fewer requests'],
  502: [errors.LockUnavailableError, 'the proxy has no server: try again later'],
  503: [errors.LockUnavailableError, 'the proxy has no server: try again later'],
  504: [errors.LockUnavailableError, 'the proxy has no server: try again later'],
  4: [errors.LockRequestError, 'correct the argument, or the URL of the client'],
  5: [errors.LockServerError, "see the server's log"],
};
// With 5xx, and yet the server has done nothing.
const REFUSALS = ['draining', 'max-locks', 'max-waiters'];

/** The error of a code, or else of a status. */
function errorOf(text, code, known = {}) {
  const [Kind, advice] = KINDS[code] ?? KINDS[known.status] ?? KINDS[Math.floor(known.status / 100)];
  return new Kind(advice ? `${text}; ${advice}` : text, { code, ...known });
}

/**
 * The error for an answer to `what` that is not good. `problem` is its JSON, {} if it has none; whatever of it is in
 * the error has gone through `mask`.
 */
function errorFor(what, status, problem, requestId = null, mask = (text) => text) {
  const said = (value) => (typeof value !== 'string' ? null : value in KINDS ? value : mask(value));
  const [own, detail] = [said(problem.code), said(problem.detail)];
  const code = status < 400 || (own === null && !KINDS[status]) ? 'nonsense' : own;
  const why = `${own ?? 'without a code'}${detail === null ? '' : `: ${detail}`}`;
  const known = { status, detail, requestId: said(requestId) };
  const error = errorOf(`${what}: the server answered ${status} ${why}`, code, known);
  const cycle = Array.isArray(problem.cycle) ? problem.cycle : [];
  if (code === 'deadlock')
    error.cycle = cycle.map((step) => ({ clientId: said(step?.clientId), waitsFor: said(step?.waitsFor) }));
  return error;
}

/** The error for a request that failed with `error` of Node. `isSent`: whether there was a connection. */
function failureOf(what, { code = '', message }, isSent, url) {
  const why = `${url}: ${[code, message].filter(Boolean).join(' ')}`;
  if (code.startsWith('HPE_')) return errorOf(`${what}: no HTTP from ${why}`, 'nonsense');
  if (isSent) return errorOf(`${what}: no answer from ${why}`, 'no-answer');
  // All codes but these of systems, names and sockets are of TLS.
  const isSystem = code !== 'EPROTO' && /^(E[A-Z0-9]+|EAI_[A-Z]+|ERR_SOCKET_[A-Z_]+)?$/.test(code);
  if (!isSystem) return errorOf(`${what}: no TLS with ${why}`, 'tls');
  return errorOf(`${what}: no connection to ${why}`, 'no-connection');
}

/** Whether the same request may be sent once more. */
function isRepeatable(error) {
  return ['no-connection', 'no-answer', 'draining'].includes(error?.code) || [502, 504].includes(error?.status);
}

/** Whether a server may have done as asked, although no good answer says so. */
function isUncertain(error) {
  return ['no-answer', 'nonsense'].includes(error?.code) || (error?.status >= 500 && !REFUSALS.includes(error.code));
}

module.exports = { errorOf, errorFor, failureOf, isRepeatable, isUncertain };
