'use strict';
// All errors of this package. Invariant: no text of theirs contains a token or the requestId of an acquire.

/** The parent of all. `requestId` is that of one HTTP request, as in the server's log; it opens nothing. */
class LockError extends Error {
  constructor(message, known) {
    super(message);
    Object.assign(this, { code: null, status: null, detail: null, requestId: null }, known);
  }

  get name() {
    return this.constructor.name;
  }
}

class LockUnavailableError extends LockError {}

exports.LockError = LockError;
exports.LockTimeoutError = class LockTimeoutError extends LockError {};
exports.LockDeadlockError = class LockDeadlockError extends LockError {};
exports.LockLostError = class LockLostError extends LockError {};
exports.LockNotHeldError = class LockNotHeldError extends LockError {};
exports.LockLimitMismatchError = class LockLimitMismatchError extends LockError {};
exports.LockDeniedError = class LockDeniedError extends LockError {};
exports.LockUnavailableError = LockUnavailableError;
exports.LockDrainingError = class LockDrainingError extends LockUnavailableError {};
exports.LockCapacityError = class LockCapacityError extends LockError {};
exports.LockRequestError = class LockRequestError extends LockError {};
exports.LockServerError = class LockServerError extends LockError {};
