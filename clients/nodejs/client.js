'use strict';
// A client of the lock server dflockd over its REST interface. client.d.ts says what everything does, with units and
// errors.
// Invariant: a client keeps no program alive and releases nothing by itself, but for close().

const crypto = require('node:crypto');
const os = require('node:os');
const clock = require('./lib/clock');
const { check, pathOf, shardOf, urlsOf } = require('./lib/arguments');
const { errorOf } = require('./lib/answers');
const { LockTimeoutError } = require('./lib/errors');
const { DistributedLock } = require('./lib/lock');
const { Engine } = require('./lib/engine');
const { Server } = require('./lib/server');

const PATIENCE = 5_000;
const ACQUIRE = ['waitTimeout', 'autoRenew', 'limit', 'metadata', 'maxHold', 'onLost', 'signal'];
const host = encodeURIComponent(os.hostname()).slice(0, 64);
const salt = crypto.randomBytes(4).toString('hex');
let count = 0;

class DistributedLockClient {
  // What a client shares with its actors.
  #common;
  #clientId;

  constructor(url, options = {}, common = null) {
    const { token, ca, clientId, shardOf: own = shardOf } = check(options, ['token', 'ca', 'clientId', 'shardOf']);
    this.#clientId = clientId;
    if ((this.#common = common)) return;
    const servers = urlsOf(url).map((each) => new Server(each, { token, ca }));
    this.#common = { servers, shardOf: own, locks: new Set(), closed: null };
  }

  actor(clientId) {
    return new DistributedLockClient(null, { clientId: clientId ?? null }, this.#common);
  }

  async acquire(name, timeout, options = {}) {
    check({ timeout });
    const path = pathOf(name);
    const { signal, ...rest } = check(options, ACQUIRE);
    const { locks, closed } = this.#common;
    if (closed) throw closed;
    signal?.throwIfAborted();
    const clientId = this.#clientId ?? `${host}-${process.pid}-${salt}-${(count += 1)}`;
    const engine = new Engine(clock.now(), { timeout, ...rest });
    const common = { server: this.#serverOf(name), path, locks, ...rest };
    return DistributedLock.acquire(new DistributedLock(engine, common, name, clientId), signal);
  }

  async tryAcquire(name, timeout, options) {
    return this.acquire(name, timeout, options).catch((error) => {
      if (error instanceof LockTimeoutError) return null;
      throw error;
    });
  }

  async withLock(name, timeout, options, body) {
    if (typeof options === 'function') [options, body] = [{}, options];
    check({ body: body ?? null });
    const lock = await this.acquire(name, timeout, options);
    let result;
    let loss;
    try {
      result = await body(lock);
    } finally {
      loss = await DistributedLock.end(lock);
    }
    if (loss) throw loss;
    return result;
  }

  async status(name, options = {}) {
    return this.#ask('GET', `${pathOf(name)}/status`, check(options, ['space']), this.#serverOf(name));
  }

  async *locks(options = {}) {
    const { pageSize: limit, prefix, space } = check(options, ['prefix', 'space', 'pageSize']);
    for (const server of this.#common.servers) {
      const seen = new Set();
      for (let after; after !== null;) {
        const page = await this.#ask('GET', '/locks', { limit, prefix, space, after }, server);
        if (!Array.isArray(page.locks)) throw errorOf('that is no page of locks', 'nonsense');
        yield* page.locks;
        after = page.next ?? null;
        if (seen.has(after)) throw errorOf('the pages of locks go round in a circle', 'nonsense');
        seen.add(after);
      }
    }
  }

  async stats(shard = 0) {
    return this.#ask('GET', '/locks/stats', {}, this.#serverAt(shard));
  }

  async health(shard = 0) {
    return this.#ask('GET', '/health', {}, this.#serverAt(shard));
  }

  async forceRelease(name, options = {}) {
    return this.#ask('DELETE', pathOf(name), check(options, ['lockId', 'space']), this.#serverOf(name));
  }

  async close() {
    const { servers, locks } = this.#common;
    this.#common.closed = errorOf('the client was closed', 'closed');
    await Promise.all([...locks].map((lock) => DistributedLock.close(lock, this.#common.closed)));
    for (const server of servers) server.close();
  }

  #serverOf(name) {
    const { servers, shardOf: own } = this.#common;
    return this.#serverAt(own(name, servers.length));
  }

  #serverAt(shard) {
    const server = this.#common.servers[check({ shard }).shard];
    if (server) return server;
    throw new RangeError(`shard is ${shard}: want less than ${this.#common.servers.length}`);
  }

  async #ask(method, path, query, server) {
    const given = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== undefined));
    const request = { method, path: `${path}?${given}`.replace(/\?$/, ''), patience: PATIENCE };
    // A repeat could end the hold of the next in the queue, so a DELETE that names no lockId is sent once.
    const isOnce = method === 'DELETE' && !query.lockId;
    const { body } = await (isOnce ? server.exchange({ ...request, isFresh: true }) : server.persist(request));
    return body;
  }
}

module.exports = { DistributedLockClient, DistributedLock, ...require('./lib/errors') };
