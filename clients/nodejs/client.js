'use strict';
// A client of the lock server dflockd over its REST interface. client.d.ts says what everything does, with units and errors.
// Invariant: a client keeps no program alive and releases nothing by itself, but for close().

const crypto = require('node:crypto');
const os = require('node:os');
const args = require('./lib/arguments');
const clock = require('./lib/clock');
const errors = require('./lib/errors');
const { Attempt } = require('./lib/attempt');
const { DistributedLock } = require('./lib/lock');
const { Engine } = require('./lib/engine');
const { Keeper } = require('./lib/keeper');
const { Server } = require('./lib/server');
const { crc32 } = require('./lib/shards');

const PATIENCE = 5_000;
const HOST_MAX = 64;
const host = os
  .hostname()
  .replace(/[^\x21-\x7e]/g, '')
  .slice(0, HOST_MAX);
const salt = crypto.randomBytes(4).toString('hex');
let count = 0;

class DistributedLockClient {
  #common;
  #clientId = null;

  constructor(url, options = {}) {
    if (url instanceof Common) {
      this.#common = url;
      this.#clientId = args.checkId(options.clientId);
      return;
    }
    args.checkOptions(options, ['token', 'ca', 'clientId', 'shard']);
    const { token, ca, clientId, shard = (name, shards) => crc32(name) % shards } = options;
    if (token !== undefined) args.checkToken(token);
    if (clientId !== undefined) this.#clientId = args.checkId(clientId);
    args.checkType('shard', shard, 'function');
    this.#common = new Common(
      args.checkUrls(url).map((each) => new Server(each, { token, ca })),
      shard,
    );
  }

  actor(clientId) {
    return new DistributedLockClient(this.#common, { clientId });
  }

  async acquire(name, timeout, options = {}) {
    args.checkName(name);
    const lease = args.checkTimeout(timeout);
    const { signal, onLost, ...rest } = args.checkAcquire(options);
    const { keeper } = this.#common;
    const engine = new Engine(clock.now(), { timeout: lease, ...rest });
    const clientId = this.#clientId ?? `${host}-${process.pid}-${salt}-${(count += 1)}`;
    const attempt = new Attempt(this.#common.serverOf(name), name, clientId);
    return this.#common.whileOpen(signal, async (either) => {
      const grant = await attempt.acquire(engine, rest, either);
      engine.handedOut();
      return new DistributedLock({ engine, attempt, keeper, onLost, grant });
    });
  }

  async tryAcquire(name, timeout, options) {
    try {
      return await this.acquire(name, timeout, options);
    } catch (error) {
      if (error instanceof errors.LockTimeoutError) return null;
      throw error;
    }
  }

  async withLock(name, timeout, options, body) {
    if (typeof options === 'function') [options, body] = [{}, options];
    args.checkType('the last argument of withLock', body, 'function');
    const lock = await this.acquire(name, timeout, options);
    let result;
    try {
      result = await body(lock);
    } finally {
      await lock.release();
    }
    if (lock.signal.aborted) throw lock.signal.reason;
    return result;
  }

  async status(name, options = {}) {
    args.checkName(name);
    args.checkOptions(options, ['space']);
    return this.#ask(this.#common.serverOf(name), 'GET', `/locks/${args.encodeName(name)}/status`, options);
  }

  async *locks(options = {}) {
    args.checkOptions(options, ['prefix', 'space', 'pageSize']);
    const { pageSize, ...filter } = options;
    for (const server of this.#common.servers) {
      let after;
      do {
        const page = await this.#ask(server, 'GET', '/locks', { ...filter, limit: pageSize, after });
        if (!Array.isArray(page.locks))
          throw new errors.LockServerError('a page of locks has none; check the URL');
        yield* page.locks;
        after = page.next;
      } while (after);
    }
  }

  async stats(shard = 0) {
    return this.#ask(this.#common.serverAt(shard), 'GET', '/locks/stats');
  }

  async health(shard = 0) {
    return this.#ask(this.#common.serverAt(shard), 'GET', '/health');
  }

  async forceRelease(name, options = {}) {
    args.checkName(name);
    args.checkOptions(options, ['lockId', 'space']);
    const path = `/locks/${args.encodeName(name)}`;
    return this.#ask(this.#common.serverOf(name), 'DELETE', path, options);
  }

  async close() {
    await this.#common.close();
  }

  async #ask(server, method, path, query = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
    const target = given.length > 0 ? `${path}?${new URLSearchParams(given)}` : path;
    const request = { method, path: target, patience: PATIENCE };
    // A repeat could end the hold of the next in the queue, so a DELETE that names no lockId is sent once.
    const isOnce = method === 'DELETE' && !query.lockId;
    const { body } = await (isOnce
      ? server.exchange({ ...request, isFresh: true })
      : server.persist(request));
    return body;
  }
}

/** What a client shares with its actors. */
class Common {
  #shard;
  #closing = new AbortController();
  #attempts = new Set();

  constructor(servers, shard) {
    this.servers = servers;
    this.keeper = new Keeper();
    this.#shard = shard;
  }

  serverOf(name) {
    return this.serverAt(this.servers.length === 1 ? 0 : this.#shard(name, this.servers.length));
  }

  serverAt(shard) {
    if (Number.isInteger(shard) && shard >= 0 && shard < this.servers.length) return this.servers[shard];
    throw new RangeError(`the shard is ${shard}: want 0 to ${this.servers.length - 1}`);
  }

  /** Runs `attempt` with a signal that is aborted by the caller's, and by close(). */
  async whileOpen(signal, attempt) {
    if (this.#closing.signal.aborted) throw this.#closing.signal.reason;
    if (signal?.aborted) throw signal.reason;
    const either = new AbortController();
    const onAbort = () => either.abort(signal.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#attempts.add(either);
    try {
      return await attempt(either.signal);
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.#attempts.delete(either);
    }
  }

  async close() {
    const reason = new errors.LockError('the client was closed; make a new one');
    this.#closing.abort(reason);
    for (const each of this.#attempts) each.abort(reason);
    await Promise.all(this.keeper.wards.map((ward) => ward.release()));
    for (const server of this.servers) server.close();
  }
}

const { errorFor, isRepeatable, isUncertain, ...kinds } = errors;
module.exports = { DistributedLockClient, DistributedLock, ...kinds };
