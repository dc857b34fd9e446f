'use strict';
// A client of the lock server dflockd over its REST interface. client.d.ts says what everything does, with units and
// errors.
// Invariant: a client keeps no program alive and releases nothing by itself, but for close().

const crypto = require('node:crypto');
const os = require('node:os');
const clock = require('./lib/clock');
const { check, pathOf, shardOf, urlsOf } = require('./lib/arguments');
const { errorOf } = require('./lib/answers');
const { LockNotHeldError, LockTimeoutError } = require('./lib/errors');
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
  #isClosed = false;

  constructor(url, options = {}, common = null) {
    const { token, ca, clientId, shard = shardOf } = check(options, ['token', 'ca', 'clientId', 'shard']);
    this.#clientId = clientId;
    if ((this.#common = common)) return;
    const servers = urlsOf(url).map((each) => new Server(each, { token, ca }));
    this.#common = { root: this, servers, shard, locks: new Set(), returns: new Map() };
  }

  actor(clientId) {
    return new DistributedLockClient(null, { clientId: clientId ?? null }, this.#common);
  }

  async acquire(name, timeout, options = {}) {
    check({ timeout });
    const path = pathOf(name);
    const { signal, ...rest } = check(options, ACQUIRE);
    const { locks, returns } = this.#common;
    this.#begin();
    signal?.throwIfAborted();
    const clientId = this.#clientId ?? `${host}-${process.pid}-${salt}-${(count += 1)}`;
    const engine = new Engine(clock.now(), { timeout, ...rest });
    const common = { client: this, server: this.#serverOf(name), path, locks, returns, ...rest };
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
    const what = `status ${JSON.stringify(name)}`;
    return this.#ask(what, 'GET', `${pathOf(name)}/status`, check(options, ['space']), this.#serverOf(name));
  }

  async *locks(options = {}) {
    const { pageSize: limit, prefix, space } = check(options, ['prefix', 'space', 'pageSize']);
    for (const server of this.#common.servers) {
      const seen = new Set();
      for (let after; after !== null;) {
        const page = await this.#ask('locks', 'GET', '/locks', { limit, prefix, space, after }, server);
        if (!Array.isArray(page.locks)) throw errorOf('locks: the answer is no page of locks', 'nonsense');
        yield* page.locks;
        after = page.next ?? null;
        if (seen.has(after)) throw errorOf('locks: the pages go round in a circle', 'nonsense');
        seen.add(after);
      }
    }
  }

  async stats(server = 0) {
    return this.#ask('stats', 'GET', '/locks/stats', {}, this.#serverAt(server));
  }

  async health(server = 0) {
    return this.#ask('health', 'GET', '/health', {}, this.#serverAt(server));
  }

  async forceRelease(name, options = {}) {
    const path = pathOf(name);
    const { lockId } = check(options, ['lockId', 'space']);
    let sends = 0;
    // A repeat could end the hold of the next in the queue, so what names no lockId is sent once.
    const order = { isOnce: !lockId, onSend: () => (sends += 1) };
    const what = `forceRelease ${JSON.stringify(name)}`;
    return this.#ask(what, 'DELETE', path, options, this.#serverOf(name), order).catch((error) => {
      if (sends < 2 || !(error instanceof LockNotHeldError)) throw error;
      // An earlier one was heard, and its answer lost.
      return { lockName: name, released: true, locks: [{ lockId, clientId: null }], waiters: null };
    });
  }

  async close() {
    const { root, servers, locks, returns } = this.#common;
    const isRoot = this === root;
    this.#isClosed = true;
    const mine = [...locks].filter((lock) => isRoot || DistributedLock.isOf(lock, this));
    await Promise.all(mine.map((lock) => DistributedLock.close(lock, closed())));
    if (!isRoot) return;
    await Promise.all(returns.values());
    for (const server of servers) server.close();
  }

  #begin() {
    if (this.#isClosed || this.#common.root.#isClosed) throw closed();
  }

  #serverOf(name) {
    const { servers, shard } = this.#common;
    return this.#serverAt(shard(name, servers.length));
  }

  #serverAt(server) {
    const { servers } = this.#common;
    if (servers[check({ server }).server]) return servers[server];
    throw new RangeError(`server is ${server}: want less than ${servers.length}`);
  }

  async #ask(what, method, path, query, server, { isOnce, onSend } = {}) {
    this.#begin();
    const given = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== undefined));
    const request = { what, method, path: `${path}?${given}`.replace(/\?$/, ''), patience: PATIENCE, onSend };
    const { body } = await (isOnce
      ? server.exchange({ ...request, isFresh: true })
      : server.persist({ ...request, awayPatience: 0 }));
    return body;
  }
}

function closed() {
  return errorOf('the client was closed', 'closed');
}

module.exports = { DistributedLockClient, DistributedLock, ...require('./lib/errors') };
