'use strict';
// A lock, from its first request to its release. The engine decides, the server carries, and a timer wakes.
// Invariants: an acquire that fails leaves nothing at the server, no hold, no waiter, no place; and a holder is told
// once that its lock is lost.

const crypto = require('node:crypto');
const clock = require('./clock');
const { check } = require('./arguments');
const { errorOf, isRepeatable, isUncertain } = require('./answers');
const { LockLostError, LockNotHeldError, LockTimeoutError } = require('./errors');
const { Stop, backoff, sleep } = require('./server');

// The timers of Node stand still while the host sleeps, so none is long.
const NAP_MAX = 1_000;
// Why there is no grant.
const REASONS = ['timeout', 'quarantine', 'superseded', 'cancelled'];
const CANCEL = { patience: 3_000, tryMax: 1_000 };

class DistributedLock {
  #engine;
  #common;
  #requestId;
  #token;
  #sends;
  #mayBeOpen;
  #stop = new Stop();
  #loss = null;
  #signal = null;
  #renewal = null;
  #isRenewalFresh = false;
  #releasing = null;
  #cancelling;
  #timer;

  /** Only a client makes these. `common`: {client, server, path, locks, returns, limit, metadata, onLost}. */
  constructor(engine, common, lockName, clientId) {
    this.#engine = engine;
    this.#common = common;
    Object.assign(this, { lockName, lockId: null, clientId, fencingToken: null });
    this.#draw();
  }

  get fence() {
    return BigInt(`0x${this.fencingToken}`);
  }

  get signal() {
    this.#signal ??= new AbortController();
    if (this.#loss) this.#signal.abort(this.#loss);
    return this.#signal.signal;
  }

  remaining() {
    this.#tell();
    return this.#engine.remaining(clock.now());
  }

  check() {
    this.#tell();
    if (this.#loss) throw this.#loss;
    if (this.#engine.state !== 'held') throw new LockNotHeldError(`${this.#title} was released; acquire it again`);
  }

  async renew(timeout) {
    check({ timeout });
    while (this.#renewal) await this.#renewal.catch(() => {});
    this.check();
    try {
      await this.#renew(timeout ?? this.#engine.timeout);
    } finally {
      // That the lock is lost says more than why the renewal failed.
      this.check();
    }
  }

  release() {
    this.#releasing ??= this.#release();
    return this.#releasing;
  }

  /** Polls until `lock` has a grant that can be handed out. An abort of `signal` ends that at once. */
  static async acquire(lock, signal) {
    const { locks } = lock.#common;
    const abort = () => lock.#stop.stop(signal.reason);
    signal?.addEventListener('abort', abort);
    locks.add(lock);
    try {
      await lock.#acquire();
      if (lock.#stop.isStopped) throw lock.#stop.reason;
      lock.#look();
      return lock;
    } catch (error) {
      locks.delete(lock);
      const { isStopped, reason } = lock.#stop;
      if (isStopped || lock.#mayBeOpen) lock.#cancel();
      throw isStopped ? reason : error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** Whether `client`, and none of its actors, has acquired `lock`. */
  static isOf(lock, client) {
    return lock.#common.client === client;
  }

  /** Ends a lock for good when its client closes, whether it is held or not yet. */
  static async close(lock, reason) {
    const isWaiting = lock.#engine.state === 'acquiring';
    // Also for a grant that is on its way to the caller.
    lock.#stop.stop(reason);
    await (isWaiting ? lock.#cancel() : lock.release());
  }

  /** Releases a lock at the end of a scope, which has no other way to learn that it was lost. */
  static async end(lock) {
    await lock.release();
    return lock.#loss;
  }

  get #title() {
    return `the lock ${JSON.stringify(this.lockName)}`;
  }

  async #acquire() {
    const engine = this.#engine;
    const stop = this.#stop;
    await this.#returned();
    for (let failures = 0; ; failures += 1) {
      const begun = clock.now();
      const poll = engine.nextPoll(begun);
      let pause = backoff(failures);
      try {
        const denied = await this.#poll(poll, { stop, isFresh: failures > 0 });
        if (denied === null && (await this.#accept())) return;
        const isOver = denied !== null && denied !== 'superseded' && (denied === 'cancelled' || !poll.keepPlace);
        if (isOver || clock.now() >= engine.waitEnd) {
          const reason = denied ?? 'late';
          const text = `${this.#title} was not to be had in time (${reason}); try again later, or wait longer`;
          throw new LockTimeoutError(text, { reason, status: denied && 200 });
        }
        // A server that does not wait as asked is not asked all the time.
        if (clock.now() - begun > poll.waitTimeout / 2) [failures, pause] = [-1, 0];
        pause = Math.min(pause, engine.waitEnd - clock.now());
      } catch (error) {
        const patience = engine.repeatPatience(clock.now(), isUncertain(error));
        if (!isRepeatable(error) || patience <= 0) throw error;
        engine.pollCut(begun, clock.now());
        // The last repeat comes at the end.
        pause = Math.min(pause, patience);
      }
      await sleep(pause, { stop });
    }
  }

  /** While the server still has a lock of the same actor, this one would wait for itself. */
  async #returned() {
    const returning = this.#common.returns.get(this.#whose);
    if (!returning) return;
    await new Promise((resolve) => {
      this.#stop.hook = resolve;
      returning.then(resolve);
    });
    if (this.#stop.isStopped) throw this.#stop.reason;
  }

  get #whose() {
    return JSON.stringify([this.clientId, this.lockName]);
  }

  /** One poll. Its result is why there is no grant, or null. */
  async #poll({ waitTimeout, keepPlace, patience }, request) {
    const { server, path, limit, metadata } = this.#common;
    const body = { clientId: this.clientId, requestId: this.#requestId, timeout: seconds(this.#engine.timeout) };
    Object.assign(body, { waitTimeout: seconds(waitTimeout), keepPlace: seconds(keepPlace), limit, metadata });
    const order = { what: this.#what('acquire'), method: 'POST', path: `${path}/acquire`, body, patience, ...request };
    try {
      const { body: answer, sentAt } = await server.exchange({ ...order, onSend: () => (this.#sends += 1) });
      if (keepPlace) this.#mayBeOpen = true;
      const { acquired } = answer;
      const reason = answer.reason ?? 'timeout';
      if (acquired === false) return REASONS.includes(reason) ? reason : server.masked(String(reason), order);
      const isOurs = answer.lockName === this.lockName && answer.clientId === this.clientId;
      const isWhole = typeof answer.lockId === 'string' && typeof answer.renewalToken === 'string';
      const isGood = isOurs && isWhole && /^[0-9a-f]{16}$/.test(answer.fencingToken) && isDuration(answer.waitTime);
      if (acquired !== true || !isGood || !isDuration(answer.ttl)) throw this.#nonsense('acquire', 'grant');
      this.#token = answer.renewalToken;
      Object.assign(this, { lockId: answer.lockId, fencingToken: answer.fencingToken });
      this.#engine.granted(sentAt, answer.waitTime * 1000, answer.ttl * 1000, clock.now());
      return null;
    } catch (error) {
      if (isUncertain(error)) this.#mayBeOpen = true;
      throw error;
    }
  }

  /** Whether the grant can be handed out. One that is late is renewed first, or else given back. */
  async #accept() {
    const engine = this.#engine;
    if (engine.isLate(clock.now()) && clock.now() < engine.deadline) {
      await this.#renew(engine.timeout).catch(() => {});
      if (this.#stop.isStopped) throw this.#stop.reason;
    }
    if (engine.handOut(clock.now())) return true;
    await this.#cancel();
    // The server remembers an attempt that was ended.
    this.#draw();
    return false;
  }

  #draw() {
    this.#requestId = crypto.randomUUID().replaceAll('-', '');
    this.#sends = 0;
    this.#mayBeOpen = false;
    this.#cancelling = null;
  }

  /** Does what is due, and comes again when the next thing is. */
  #look() {
    clearTimeout(this.#timer);
    this.#tell();
    const engine = this.#engine;
    if (engine.state !== 'held') return;
    if (!this.#renewal && engine.isRenewalDue(clock.now())) this.#renew(engine.timeout, true).catch(() => {});
    // While a renewal is under way only the deadline counts.
    const rest = (this.#renewal ? engine.deadline : engine.wakeAt) - clock.now();
    this.#timer = setTimeout(() => this.#look(), Math.min(rest, NAP_MAX)).unref();
  }

  /** Tells the holder if the lock is lost. */
  #tell() {
    const engine = this.#engine;
    if (['acquiring', 'held'].includes(engine.look(clock.now()))) return;
    this.#stop.stop();
    if (engine.state === 'ended') this.#common.locks.delete(this);
    if (!engine.lost || this.#loss) return;
    const why = engine.lost === 'deadline' ? 'its lease was not renewed in time' : 'the server has ended it';
    const text = `${this.#title} is lost: ${why}; stop what it guards, then acquire it again`;
    this.#loss = new LockLostError(text);
    this.#signal?.abort(this.#loss);
    const warn = (failure) => process.emitWarning(`onLost of ${this.#title} failed: ${failure?.stack ?? failure}`);
    Promise.resolve(this.#loss).then(this.#common.onLost).catch(warn);
  }

  #renew(timeout, isOwn = false) {
    this.#renewal = this.#sendRenewal(timeout, isOwn).finally(() => {
      this.#renewal = null;
      this.#look();
    });
    return this.#renewal;
  }

  async #sendRenewal(timeout, isOwn) {
    const engine = this.#engine;
    let sends = 0;
    const onSend = () => (sends += 1);
    const patience = engine.renewalPatience(clock.now(), isOwn, timeout);
    const request = { patience, onSend, stop: this.#stop, isBackground: isOwn, isFresh: this.#isRenewalFresh };
    engine.renewalSent(clock.now(), timeout);
    try {
      const order = { clientId: this.clientId, renewalToken: this.#token, timeout: seconds(timeout) };
      const { body, sentAt } = await this.#persist('renew', order, request);
      if (body.lockId !== this.lockId || !isDuration(body.ttl)) throw this.#nonsense('renew', 'renewal');
      engine.renewed(sentAt, body.ttl * 1000, clock.now(), timeout, sends > 1);
      this.#isRenewalFresh = false;
    } catch (error) {
      this.#isRenewalFresh = true;
      if (error instanceof LockNotHeldError) engine.notHeld(clock.now());
      else engine.renewalFailed(clock.now(), sends > (error?.status ? 1 : 0) || isUncertain(error));
      throw error;
    }
  }

  async #release() {
    const engine = this.#engine;
    const isNeeded = engine.releasing(clock.now());
    this.#tell();
    // The server may still hold a lock that was lost by its deadline. Nobody waits for that.
    if (!isNeeded && engine.lost === 'deadline') this.#cancel();
    if (!isNeeded) return engine.isReleased;
    let sends = 0;
    try {
      // A duplicate of the acquire may still be under way. It is to find its attempt ended.
      const requestId = this.#sends > 1 ? this.#requestId : undefined;
      const order = { clientId: this.clientId, renewalToken: this.#token, requestId };
      const request = { patience: engine.releasePatience(clock.now()), onSend: () => (sends += 1) };
      const answer = await this.#persist('release', order, request);
      if (answer.body.released === true) engine.released();
    } catch (error) {
      // After a repeat it is most likely that the first release was heard.
      if (error instanceof LockNotHeldError && sends > 1) engine.released();
      else if (error instanceof LockNotHeldError) engine.released(false);
    }
    this.#tell();
    this.#common.locks.delete(this);
    return engine.isReleased;
  }

  /** Ends the attempt at the server, wherever it is. What even this does not reach ends with the lease. */
  async #cancel() {
    if (this.#sends === 0 || this.#cancelling) return this.#cancelling;
    const { returns } = this.#common;
    const order = { clientId: this.clientId, requestId: this.#requestId };
    const ended = this.#persist('release', order, CANCEL).catch(() => {});
    const isNewest = () => returns.get(this.#whose) === this.#cancelling;
    this.#cancelling = ended.then(() => isNewest() && returns.delete(this.#whose));
    returns.set(this.#whose, this.#cancelling);
    return this.#cancelling;
  }

  #persist(verb, body, request) {
    const { server, path } = this.#common;
    return server.persist({ what: this.#what(verb), method: 'POST', path: `${path}/${verb}`, body, ...request });
  }

  #what(verb) {
    return `${verb} ${JSON.stringify(this.lockName)}`;
  }

  #nonsense(verb, wanted) {
    return errorOf(`${this.#what(verb)}: the answer is no ${wanted}`, 'nonsense');
  }
}

// Node 18.0 to 18.17 has no such symbol.
DistributedLock.prototype[Symbol.asyncDispose ?? Symbol('asyncDispose')] = async function () {
  const loss = await DistributedLock.end(this);
  if (loss) throw loss;
};

/** The server counts in seconds. What is undefined is left to it. */
function seconds(milliseconds) {
  return milliseconds && milliseconds / 1000;
}

function isDuration(value) {
  return typeof value === 'number' && value >= 0 && value < Infinity;
}

module.exports = { DistributedLock };
