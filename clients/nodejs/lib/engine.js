'use strict';
// The life of one lock: acquiring, held, releasing, ended. There is no I/O here and no clock, so that a test can play the time.
// All times are milliseconds of a clock that runs on while the host sleeps; `now` is passed in.
// Invariant: `deadline` is never later than the end of the lease that the server keeps.

// Proxies end a request after 60 s without an answer.
const POLL_MAX = 45_000;
const POLL_MIN = 5_000;
// A cut that comes sooner says nothing of a proxy's limit.
const CUT_MIN = 1_000;
const KEEP_PLACE = 5_000;
// Even a try outlives a connection that ended a moment ago.
const REPEATS_MIN = 500;
const ANSWER_PATIENCE = 5_000;

class Engine {
  #waitEnd;
  #repeatEnd;
  #pollMax = POLL_MAX;
  #timeout;
  #isRenewing;
  #maxHold;
  #holdEnd = Infinity;
  #renewAt = Infinity;
  #begin = 0;
  #ttl = 0;

  /** `timeout` null leaves the lease to the server. */
  constructor(now, { timeout = null, waitTimeout = 0, autoRenew = false, maxHold = Infinity } = {}) {
    this.state = 'acquiring';
    this.deadline = -Infinity;
    /** Why the lock was lost: null, "deadline" or "not-held". */
    this.lost = null;
    this.isReleased = false;
    this.#waitEnd = now + waitTimeout;
    this.#repeatEnd = now + Math.max(waitTimeout, REPEATS_MIN);
    this.#timeout = timeout;
    this.#isRenewing = autoRenew;
    this.#maxHold = maxHold;
  }

  get timeout() {
    return this.#timeout;
  }

  /** The next poll: how long the server may let it wait, for how long it keeps the place, how long its answer may take. */
  nextPoll(now) {
    const rest = Math.max(0, this.#waitEnd - now);
    const isLast = rest <= this.#pollMax;
    const waitTimeout = isLast ? Math.ceil(rest) : this.#pollMax;
    return { waitTimeout, keepPlace: isLast ? 0 : KEEP_PLACE, patience: waitTimeout + ANSWER_PATIENCE };
  }

  /** A poll ended without an answer, perhaps because a proxy has a limit: the next ones are shorter. */
  pollCut(sentAt, now) {
    const length = now - sentAt;
    if (length >= CUT_MIN) this.#pollMax = Math.min(this.#pollMax, Math.max(POLL_MIN, 0.8 * length));
  }

  mayWait(now) {
    return now < this.#waitEnd;
  }

  mayRepeat(now) {
    return now < this.#repeatEnd;
  }

  /** What is left until the last repeat. */
  repeatRest(now) {
    return Math.max(0, this.#repeatEnd - now);
  }

  /** The server granted the lock in an answer to the poll sent at `sentAt`, after `waitTime`. */
  granted(sentAt, waitTime, ttl, now) {
    // A drift of the clocks by a thousandth is allowed for. The grant cannot be later than its answer.
    this.#lease(Math.min(sentAt + 0.999 * waitTime, now), ttl);
    this.#holdEnd = this.#begin + this.#maxHold;
  }

  /** Whether too little of the lease is left to hand the lock out. */
  isLate(now) {
    return this.deadline - now < usable(this.#ttl) / 2;
  }

  /** The grant was given back: the wait goes on. */
  gaveBack() {
    this.deadline = -Infinity;
  }

  handedOut() {
    this.state = 'held';
  }

  /** Sees whether the deadline has passed. Every reading of the state begins with this. */
  look(now) {
    if (this.state === 'held' && now >= this.deadline) this.#lose('deadline');
    return this.state;
  }

  remaining(now) {
    return this.look(now) === 'held' ? this.deadline - now : 0;
  }

  /** When the keeper must look again. */
  get wakeAt() {
    if (this.state !== 'held') return Infinity;
    return this.#renewAt < this.#holdEnd ? Math.min(this.deadline, this.#renewAt) : this.deadline;
  }

  isRenewalDue(now) {
    return this.look(now) === 'held' && now >= this.#renewAt && now < this.#holdEnd;
  }

  /** How long one renewal may try. */
  renewalPatience(now) {
    const patience = Math.max(200, Math.min(5_000, this.#ttl / 6));
    return Math.max(0, Math.min(patience, this.deadline - now));
  }

  /** A renewal that shortens the lease may reach the server although its answer never comes back. */
  renewalSent(sentAt, timeout) {
    if (timeout !== null) this.deadline = Math.min(this.deadline, sentAt + usable(timeout));
  }

  /** The answer to a renewal sent at `sentAt`. It is too late for a lock that is lost. */
  renewed(sentAt, ttl, now, timeout = this.#timeout) {
    if (this.look(now) === 'ended' || this.state === 'releasing' || now >= this.deadline) return;
    this.#timeout = timeout;
    this.#lease(sentAt, ttl);
  }

  renewalFailed(now) {
    if (this.#isRenewing) this.#renewAt = now + Math.max(50, this.#ttl / 15);
  }

  /** The server says that the lock is not held. */
  notHeld(now) {
    if (this.look(now) === 'held' || this.state === 'releasing') this.#lose('not-held');
  }

  /** Whether a release must be sent. Nothing is renewed from now on. */
  releasing(now) {
    if (this.look(now) === 'held') this.state = 'releasing';
    return this.state === 'releasing';
  }

  /** How long a release may try: after the end of the lease there is nothing left to release. */
  releasePatience(now) {
    return Math.min(5_000, Math.max(1_000, this.#begin + this.#ttl - now));
  }

  released() {
    this.state = 'ended';
    this.isReleased = true;
  }

  #lease(begin, ttl) {
    this.#begin = begin;
    this.#ttl = ttl;
    this.deadline = begin + usable(ttl);
    this.#renewAt = this.#isRenewing ? begin + ttl / 3 : Infinity;
  }

  #lose(reason) {
    this.state = 'ended';
    this.lost = reason;
  }
}

/** What is left of a lease after the margin for drift, and for a holder that has to stop. */
function usable(ttl) {
  return ttl - Math.min(1_000, ttl / 10);
}

module.exports = { Engine };
