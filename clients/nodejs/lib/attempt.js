'use strict';
// One attempt to hold a lock: the requests of one clientId and requestId, from the first poll to the release.
// Invariant: an attempt that ends without a lock leaves nothing at the server: no hold, no waiter, no place.

const crypto = require('node:crypto');
const clock = require('./clock');
const { encodeName } = require('./arguments');
const { LockServerError, LockTimeoutError, isRepeatable, isUncertain } = require('./errors');
const { backoff, sleep } = require('./server');

const CANCEL_TRY = 1_000;
const CANCEL_TRIES = 3;

class Attempt {
  #server;
  #path;
  #requestId;
  #token = null;
  #sends = 0;
  #mayBeOpen = false;

  constructor(server, name, clientId) {
    this.#server = server;
    this.#path = `/locks/${encodeName(name)}`;
    this.name = name;
    this.clientId = clientId;
    this.#renewRequestId();
  }

  /** Polls until `engine` has a grant that can be handed out: {lockId, fencingToken}. */
  async acquire(engine, { limit, metadata }, signal) {
    try {
      for (let failures = 0; ;) {
        const poll = engine.nextPoll(clock.now());
        const sentAt = clock.now();
        let grant;
        try {
          const fields = { timeout: seconds(engine.timeout), limit, metadata };
          grant = await this.#poll(poll, fields, { signal, isFresh: failures > 0 });
        } catch (error) {
          const now = clock.now();
          if (!isRepeatable(error) || !engine.mayRepeat(now)) throw error;
          engine.pollCut(sentAt, now);
          await sleep(Math.min(backoff(failures++), engine.repeatRest(now)), { signal });
          continue;
        }
        if (grant.acquired) {
          if (await this.#accept(engine, grant, signal)) return grant;
          if (!engine.mayWait(clock.now()))
            throw this.#timeout('timeout', 'its answer came later than half of its lease');
          continue;
        }
        const isLast = poll.keepPlace === 0 && grant.reason !== 'superseded';
        if (isLast || grant.reason === 'cancelled' || !engine.mayWait(clock.now())) {
          throw this.#timeout(grant.reason, `${poll.waitTimeout} ms were the last that it waited`);
        }
        // A server that does not wait as asked is not asked all the time.
        failures = clock.now() - sentAt < poll.waitTimeout / 2 ? failures + 1 : 0;
        if (failures > 0) await sleep(backoff(failures), { signal });
      }
    } catch (error) {
      if (signal.aborted || this.#mayBeOpen) this.cancel();
      throw error;
    }
  }

  /** Renews the lease: {ttl, sentAt}. */
  async renew(timeout, request) {
    const body = { clientId: this.clientId, renewalToken: this.#token, timeout: seconds(timeout) };
    const answer = await this.#server.persist({
      method: 'POST',
      path: `${this.#path}/renew`,
      body,
      ...request,
    });
    const { lockId, ttl } = answer.body;
    if (lockId !== this.lockId || !isDuration(ttl)) throw nonsense('renew');
    return { ttl: ttl * 1000, sentAt: answer.sentAt };
  }

  /** Gives the lock back. */
  async release(request) {
    const body = { clientId: this.clientId, renewalToken: this.#token };
    // A duplicate of the acquire may still be under way. It is to find its attempt ended.
    if (this.#sends > 1) body.requestId = this.#requestId;
    const answer = await this.#server.persist({
      method: 'POST',
      path: `${this.#path}/release`,
      body,
      ...request,
    });
    if (answer.body.released !== true) throw nonsense('release');
  }

  /** Ends the attempt at the server, wherever it is, in the background. The lease ends what even this does not reach. */
  cancel() {
    if (this.#sends === 0) return Promise.resolve();
    const body = { clientId: this.clientId, requestId: this.#requestId };
    const request = { method: 'POST', path: `${this.#path}/release`, body };
    return this.#server
      .persist({ ...request, patience: CANCEL_TRIES * CANCEL_TRY, tryMax: CANCEL_TRY })
      .catch(() => {});
  }

  async #poll(poll, fields, request) {
    const body = {
      clientId: this.clientId,
      requestId: this.#requestId,
      waitTimeout: seconds(poll.waitTimeout),
      ...fields,
    };
    if (poll.keepPlace > 0) body.keepPlace = seconds(poll.keepPlace);
    const onSend = () => (this.#sends += 1);
    const path = `${this.#path}/acquire`;
    try {
      const answer = await this.#server.exchange({
        method: 'POST',
        path,
        body,
        patience: poll.patience,
        onSend,
        ...request,
      });
      this.#mayBeOpen ||= poll.keepPlace > 0;
      return { ...this.#read(answer.body), sentAt: answer.sentAt };
    } catch (error) {
      this.#mayBeOpen ||= isUncertain(error);
      throw error;
    }
  }

  #read(body) {
    const { acquired, lockName, clientId, lockId, renewalToken, fencingToken, ttl, waitTime } = body;
    if (acquired === false)
      return { acquired, reason: typeof body.reason === 'string' ? body.reason : 'timeout' };
    const isOurs = acquired === true && lockName === this.name && clientId === this.clientId;
    const isWhole =
      typeof lockId === 'string' && typeof renewalToken === 'string' && /^[0-9a-f]{16}$/.test(fencingToken);
    if (!isOurs || !isWhole || !isDuration(ttl) || !isDuration(waitTime)) throw nonsense('acquire');
    this.#token = renewalToken;
    this.lockId = lockId;
    return { acquired, lockId, fencingToken, ttl: ttl * 1000, waitTime: waitTime * 1000 };
  }

  /** Whether the grant can be handed out. One that is late is renewed first, or else given back. */
  async #accept(engine, { sentAt, waitTime, ttl }, signal) {
    engine.granted(sentAt, waitTime, ttl, clock.now());
    if (engine.isLate(clock.now()) && engine.deadline > clock.now()) {
      try {
        const renewed = await this.renew(engine.timeout, {
          patience: engine.renewalPatience(clock.now()),
          signal,
        });
        engine.renewed(renewed.sentAt, renewed.ttl, clock.now());
      } catch (error) {
        if (signal.aborted) throw error;
      }
    }
    if (!engine.isLate(clock.now())) return true;
    engine.gaveBack();
    await this.cancel();
    // The server remembers an attempt that was ended.
    this.#renewRequestId();
    return false;
  }

  #renewRequestId() {
    this.#requestId = crypto.randomBytes(16).toString('hex');
    this.#sends = 0;
    this.#mayBeOpen = false;
  }

  #timeout(reason, detail) {
    const advice = 'try again later, or give a longer waitTimeout';
    return new LockTimeoutError(
      `the lock ${JSON.stringify(this.name)} was not to be had (${reason}): ${detail}; ${advice}`,
      {
        reason,
        status: 200,
      },
    );
  }
}

function nonsense(verb) {
  const text = `the answer to ${verb} is not that of a lock; check that the URL of the client is that of a dflockd server`;
  return new LockServerError(text, { status: 200 });
}

/** Milliseconds as the server counts them; null is left to the server. */
function seconds(milliseconds) {
  return milliseconds === null ? undefined : milliseconds / 1000;
}

function isDuration(value) {
  return typeof value === 'number' && value >= 0 && value < Infinity;
}

module.exports = { Attempt };
