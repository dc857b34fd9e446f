'use strict';
// A lock and a server that is played: what comes between two turns of the event loop cannot be staged.

const assert = require('node:assert/strict');
const { describe, test } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const clock = require('../lib/clock');
const { Engine } = require('../lib/engine');
const { DistributedLock } = require('../lib/lock');

const CLOSED = new Error('closed');
const GRANT = { acquired: true, lockId: 'lock-1', lockName: 'a', clientId: 'me', renewalToken: 'x', waitTime: 0 };

/** A lock with a server that grants all, and what is persistently asked of that. */
function scene(timeout, options) {
  const sent = [];
  const server = {
    async exchange({ onSend }) {
      onSend();
      const fencingToken = '0000000000000001';
      return { body: { ...GRANT, fencingToken, ttl: timeout / 1000 }, sentAt: clock.now() };
    },
    async persist({ path, onSend }) {
      onSend?.();
      sent.push(path);
      return { body: { released: true }, sentAt: clock.now() };
    },
  };
  const common = { server, path: '', locks: new Set() };
  const lock = new DistributedLock(new Engine(clock.now(), { timeout, ...options }), common, 'a', 'me');
  return { lock, sent };
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

  test('that was lost by its deadline is given back once, however often it is released', async () => {
    const { lock, sent } = scene(100);
    await DistributedLock.acquire(lock);
    await sleep(120);
    for (let round = 0; round < 3; round += 1) assert.equal(await lock.release(), false);
    assert.deepEqual(sent, ['/release']);
  });
});
