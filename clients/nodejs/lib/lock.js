'use strict';
// A lock that was granted, as its holder sees it. The engine decides, the attempt sends, the keeper wakes.
// Invariant: the holder is told once that its lock is lost, and a lost lock stays lost.

const clock = require('./clock');
const { LockLostError, LockNotHeldError } = require('./errors');

class DistributedLock {
  #engine;
  #attempt;
  #keeper;
  #onLost;
  #ward;
  #loss = new AbortController();
  #isTold = false;
  #renewal = null;
  #renewalFailures = 0;
  #stopRenewal = null;
  #releasing = null;
  #releaseSends = 0;

  /** Only a client makes these. */
  constructor({ engine, attempt, keeper, onLost, grant }) {
    this.#engine = engine;
    this.#attempt = attempt;
    this.#keeper = keeper;
    this.#onLost = onLost;
    this.lockName = attempt.name;
    this.lockId = grant.lockId;
    this.clientId = attempt.clientId;
    this.fencingToken = grant.fencingToken;
    const lock = this;
    this.#ward = {
      look: (now) => this.#look(now),
      release: () => this.release(),
      get wakeAt() {
        // While a renewal is under way only the deadline counts.
        return lock.#renewal ? engine.deadline : engine.wakeAt;
      },
    };
    keeper.watch(this.#ward);
  }

  get fence() {
    return BigInt(`0x${this.fencingToken}`);
  }

  get signal() {
    return this.#loss.signal;
  }

  remaining() {
    this.#tell(clock.now());
    return this.#engine.remaining(clock.now());
  }

  check() {
    this.#tell(clock.now());
    if (this.#engine.lost) throw this.#loss.signal.reason;
    if (this.#engine.state !== 'held')
      throw new LockNotHeldError(`${this.#title} was released; acquire it again`);
  }

  async renew(timeout) {
    this.check();
    while (this.#renewal) await this.#renewal.catch(() => {});
    this.check();
    await this.#renew(timeout ?? this.#engine.timeout, { isBackground: false }).catch((error) => {
      this.check();
      throw error;
    });
    this.check();
  }

  release() {
    this.#releasing ??= this.#release().finally(() => (this.#releasing = null));
    return this.#releasing;
  }

  toJSON() {
    const { lockName, lockId, clientId, fencingToken } = this;
    return { lockName, lockId, clientId, fencingToken };
  }

  get #title() {
    return `the lock ${JSON.stringify(this.lockName)}`;
  }

  #look(now) {
    this.#tell(now);
    if (this.#renewal || !this.#engine.isRenewalDue(now)) return;
    this.#renew(this.#engine.timeout, { isBackground: true }).catch(() => {});
  }

  /** Tells the holder if the lock is lost. */
  #tell(now) {
    if (this.#engine.look(now) !== 'ended') return;
    this.#keeper.forget(this.#ward);
    if (this.#isTold || !this.#engine.lost) return;
    this.#isTold = true;
    this.#stopRenewal?.abort();
    const why =
      this.#engine.lost === 'deadline'
        ? 'no renewal succeeded before its lease ended'
        : 'the server has ended it';
    const error = new LockLostError(
      `${this.#title} is lost: ${why}; stop the work it guards, then acquire it again`,
      {
        code: this.#engine.lost,
      },
    );
    this.#loss.abort(error);
    if (!this.#onLost) return;
    Promise.resolve(error)
      .then(this.#onLost)
      .catch((failure) =>
        process.emitWarning(`onLost of ${this.#title} failed: ${failure?.stack ?? failure}`),
      );
  }

  #renew(timeout, { isBackground }) {
    this.#stopRenewal = new AbortController();
    const { signal } = this.#stopRenewal;
    this.#renewal = this.#sendRenewal(timeout, { isBackground, signal }).finally(() => {
      this.#renewal = null;
      this.#tell(clock.now());
      this.#keeper.arm(this.#ward.wakeAt, clock.now());
    });
    return this.#renewal;
  }

  async #sendRenewal(timeout, request) {
    const engine = this.#engine;
    const patience = engine.renewalPatience(clock.now());
    const isFresh = this.#renewalFailures > 0;
    engine.renewalSent(clock.now(), timeout);
    try {
      const { sentAt, ttl } = await this.#attempt.renew(timeout, { ...request, patience, isFresh });
      this.#renewalFailures = 0;
      engine.renewed(sentAt, ttl, clock.now(), timeout);
    } catch (error) {
      this.#renewalFailures += 1;
      if (error instanceof LockNotHeldError) engine.notHeld(clock.now());
      else engine.renewalFailed(clock.now());
      throw error;
    }
  }

  async #release() {
    const engine = this.#engine;
    const isNeeded = engine.releasing(clock.now());
    this.#tell(clock.now());
    if (!isNeeded) {
      // The server may hold it a moment longer. Nobody waits for that.
      if (engine.lost === 'deadline') this.#attempt.cancel();
      return engine.isReleased;
    }
    this.#stopRenewal?.abort();
    try {
      const onSend = () => (this.#releaseSends += 1);
      await this.#attempt.release({ patience: engine.releasePatience(clock.now()), onSend });
      engine.released();
    } catch (error) {
      const isGone = error instanceof LockNotHeldError;
      if (isGone && this.#releaseSends > 1) engine.released();
      else if (isGone) engine.notHeld(clock.now());
    }
    this.#tell(clock.now());
    this.#keeper.forget(this.#ward);
    return engine.isReleased;
  }
}

// Node 18.0 to 18.17 has no such symbol.
if (Symbol.asyncDispose) {
  Object.defineProperty(DistributedLock.prototype, Symbol.asyncDispose, {
    async value() {
      await this.release();
      if (this.signal.aborted) throw this.signal.reason;
    },
  });
}

module.exports = { DistributedLock };
