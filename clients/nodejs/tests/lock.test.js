'use strict';
// A lock and a server that is played: what comes between two turns of the event loop cannot be staged.

const assert = require('node:assert/strict');
const { describe, test } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const clock = require('../lib/clock');
const { errorFor, errorOf } = require('../lib/answers');
const { Engine } = require('../lib/engine');
const { DistributedLock } = require('../lib/lock');

const CLOSED = new Error('closed');
const GRANT = { acquired: true, lockId: 'lock-1', lockName: 'a', clientId: 'me', renewalToken: 'x', waitTime: 0 };

/** A lock with a server that grants all, and what was asked of that. `renews` plays the answer to a renewal. */
function scene(timeout, renews) {
  const sent = [];
  const server = {
    async exchange({ onSend }) {
      onSend();
      const fencingToken = '0000000000000001';
      return { body: { ...GRANT, fencingToken, ttl: timeout / 1000 }, sentAt: clock.now() };
    },
    async persist({ path, body, onSend }) {
      onSend?.();
      sent.push(path);
      const sentAt = clock.now();
      if (path === '/renew') return { body: renews(body.timeout, onSend), sentAt };
      return { body: { released: true }, sentAt };
    },
  };
  const common = { server, path: '', locks: new Set(), returns: new Map() };
  const lock = new DistributedLock(new Engine(clock.now(), { timeout }), common, 'a', 'me');
  return { lock, sent, common };
}

describe('a lock', () => {
  test('whose client is closed around the grant is handed out, or its acquire fails with what closed it', async () => {
    const ends = new Set();
    for (let turns = 0; turns < 20; turns += 1) {
      const { lock, sent } = scene(30_000);
      const acquired = DistributedLock.acquire(lock).catch((error) => error);
      for (let turn = 0; turn < turns; turn += 1) await null;
      await DistributedLock.close(lock, CLOSED);
      const end = await acquired;
      assert.ok(end === lock || end === CLOSED, `after ${turns} turns: ${end}`);
      assert.ok(sent.includes('/release'), 'nothing is left at the server');
      ends.add(end === lock);
    }
    assert.equal(ends.size, 2);
  });

  test('keeps its deadline if a renewal was refused, and not if one sending of it may have been heard', async () => {
    for (const [status, sends, most] of [
      [429, 1, 29_000],
      [429, 2, 4_500],
      [500, 1, 4_500],
      ['no-connection', 1, 4_500],
      [200, 2, 4_500],
    ]) {
      const { lock } = scene(30_000, (ttl, onSend) => {
        if (ttl === 5) for (let send = 1; send < sends; send += 1) onSend();
        if (ttl === 5 && status === 'no-connection') throw errorOf('after a send that had no answer', status);
        if (ttl === 5 && status !== 200) throw errorFor('renew "a"', status, {});
        return { lockId: 'lock-1', ttl };
      });
      await DistributedLock.acquire(lock);
      await lock.renew(5_000).catch(() => {});
      for (let round = 0; round < 2; round += 1) {
        const left = lock.remaining();
        assert.ok(left <= most && left > most - 2_000, `${status}, sent ${sends} times: ${left} ms`);
        await lock.renew(30_000);
      }
      await lock.release();
    }
  });

  test('of an actor waits until the one that was lost before is given back, and an abort ends that', async () => {
    const { lock, sent, common } = scene(3_000);
    await DistributedLock.acquire(lock);
    await sleep(3_100);
    let giveBack;
    common.server.persist = () => new Promise((resolve) => (giveBack = resolve));
    assert.equal(await lock.release(), false);
    const another = () => new DistributedLock(new Engine(clock.now(), { timeout: 30_000 }), common, 'a', 'me');
    const [next, aborted] = [another(), another()];
    const order = [];
    const acquired = DistributedLock.acquire(next).then(() => order.push('next'));
    const stop = new AbortController();
    const refused = assert.rejects(DistributedLock.acquire(aborted, stop.signal), CLOSED);
    stop.abort(CLOSED);
    await refused;
    await sleep(20);
    order.push('given back');
    common.server.persist = async () => ({ body: { released: true }, sentAt: clock.now() });
    giveBack({ body: { released: true } });
    await acquired;
    assert.deepEqual(order, ['given back', 'next']);
    assert.deepEqual([sent, common.returns.size], [[], 0]);
    await next.release();
  });

  test('that was lost by its deadline is given back once, however often it is released', async () => {
    const { lock, sent } = scene(3_000);
    await DistributedLock.acquire(lock);
    await sleep(3_100);
    for (let round = 0; round < 3; round += 1) assert.equal(await lock.release(), false);
    assert.deepEqual(sent, ['/release']);
  });
});
