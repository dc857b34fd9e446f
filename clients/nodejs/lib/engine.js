'use strict';
// The life of one lock: acquiring, held, releasing, ended. There is no I/O here and no clock, so that a test can play
// the time. All times are milliseconds of a clock that runs on while the host sleeps; `now` is passed in.
// Invariant: `deadline` is never later than the end of the lease that the server keeps.

const POLL_MIN = 5_000;
// A cut that comes sooner says nothing of a proxy's limit.
const CUT_MIN = 1_000;
const KEEP_PLACE = 5_000;
const ANSWER_PATIENCE = 5_000;
// In less time there is no answer to hope for.
const ANSWER_MIN = 100;
// For so long a renewal without an answer may still be on its way.
const DOUBT_MAX = 60_000;

class Engine {
  /** Proxies end a request after 60 s without an answer. */
  static pollMax = 45_000;

  state = 'acquiring';
  /** Why the lock was lost: null, "deadline" or "not-held". */
  lost = null;
  isReleased = false;
  deadline = -Infinity;
  #begin = 0;
  #ttl = 0;
  #renewAt = Infinity;
  #holdEnd = Infinity;
  #pollMax = Engine.pollMax;
  // The lease that the last renewal asks for, and the deadline without it.
  #asked = Infinity;
  #before = -Infinity;
  // The shortest lease that a renewal without an answer may still bring.
  #doubt = Infinity;
  #doubtEnd = -Infinity;

  /** `timeout` undefined leaves the lease to the server. */
  constructor(now, { timeout, waitTimeout = 0, autoRenew = false, maxHold = Infinity }) {
    Object.assign(this, { timeout, autoRenew, maxHold });
    this.waitEnd = now + waitTimeout;
  }

  /**
   * How long the server may let the next poll wait, for how long it keeps the place, and how long the answer may take.
   */
  nextPoll(now) {
    const rest = Math.max(0, this.waitEnd - now);
    const isLast = rest <= this.#pollMax;
    const waitTimeout = isLast ? Math.ceil(rest) : this.#pollMax;
    const patience = Math.max(0, Math.min(waitTimeout, this.waitEnd - now) + ANSWER_PATIENCE);
    return { waitTimeout, keepPlace: isLast ? undefined : KEEP_PLACE, patience };
  }

  /** For how long a poll that failed may still be repeated. `isUncertain`: the server may have heard it. */
  repeatPatience(now, isUncertain) {
    return this.waitEnd + (isUncertain ? ANSWER_PATIENCE - ANSWER_MIN : 0) - now;
  }

  /** A poll ended without an answer, perhaps because a proxy has a limit: the next ones are shorter. */
  pollCut(sentAt, now) {
    const length = now - sentAt;
    if (length >= CUT_MIN) this.#pollMax = Math.min(this.#pollMax, Math.max(POLL_MIN, 0.8 * length));
  }

  /** The answer to the poll sent at `sentAt` is a grant, made after `waitTime`. */
  granted(sentAt, waitTime, ttl, now) {
    this.#doubt = Infinity;
    // A drift of the clocks by a thousandth is allowed for. A grant is never later than its answer.
    this.#lease(Math.min(sentAt + 0.999 * waitTime, now), ttl);
    this.#holdEnd = this.#begin + this.maxHold;
  }

  /** Whether too little of the lease is left to hand the lock out. */
  isLate(now) {
    return this.deadline - now < usable(this.#ttl) / 2;
  }

  /** Whether the grant can be handed out. From then on the lock is held. */
  handOut(now) {
    if (!this.isLate(now)) this.state = 'held';
    return this.state === 'held';
  }

  /** Sees whether the deadline or max_hold has passed. */
  look(now) {
    if (now >= this.#holdEnd) this.#renewAt = Infinity;
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

  /** How long a renewal to `timeout` may try; `isOwn`: the keeper's, which also ends with max_hold. */
  renewalPatience(now, isOwn, timeout = this.#ttl) {
    const patience = Math.max(200, Math.min(5_000, timeout / 6, this.#shortest / 6));
    return Math.max(0, Math.min(patience, this.deadline - now, isOwn ? this.#holdEnd - now : Infinity));
  }

  /** A renewal that shortens the lease may reach the server although its answer never comes back. */
  renewalSent(sentAt, timeout = this.#ttl) {
    this.#asked = timeout;
    this.#before = this.deadline;
    this.deadline = Math.min(this.deadline, sentAt + usable(timeout));
  }

  /**
   * The answer to the renewal sent at `sentAt`. It is too late for a lock that is lost or being released.
   * `isUncertain`: one sending of it, at least, had no answer.
   */
  renewed(sentAt, ttl, now, timeout = this.timeout, isUncertain = false) {
    this.#remember(now, isUncertain);
    this.look(now);
    if (!['acquiring', 'held'].includes(this.state) || now >= this.deadline) return;
    this.timeout = timeout;
    this.#lease(sentAt, Math.min(ttl, this.#doubt));
  }

  /** `isUncertain`: the server may have done as asked. */
  renewalFailed(now, isUncertain = true) {
    this.#remember(now, isUncertain);
    if (!isUncertain) this.deadline = this.#before;
    if (this.autoRenew) this.#renewAt = now + Math.max(50, this.#shortest / 15);
  }

  /** A renewal hears that the lock is not held: it is lost, unless its release is under way. */
  notHeld(now) {
    if (this.look(now) === 'held') this.#lose('not-held');
    if (this.state === 'acquiring') this.deadline = -Infinity;
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

  /** The server confirms the release; or it says, and not to a repeat, that the lock was lost before. */
  released(isConfirmed = true) {
    this.state = 'ended';
    this.isReleased = isConfirmed;
    if (!isConfirmed) this.lost = 'not-held';
  }

  /** What the lease may be at the server. */
  get #shortest() {
    return Math.min(this.#ttl, this.#doubt);
  }

  /** A renewal that comes to the server late, after a longer one, shortens the lease again. */
  #remember(now, isUncertain) {
    if (now >= this.#doubtEnd) this.#doubt = Infinity;
    if (!isUncertain) return;
    this.#doubt = Math.min(this.#doubt, this.#asked);
    this.#doubtEnd = now + DOUBT_MAX;
  }

  #lease(begin, ttl) {
    this.#begin = begin;
    this.#ttl = ttl;
    this.deadline = begin + usable(ttl);
    this.#renewAt = this.autoRenew ? begin + ttl / 3 : Infinity;
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
