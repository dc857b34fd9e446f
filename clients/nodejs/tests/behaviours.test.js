'use strict';
// What the client is shown to do. The number before each claim is that of clients/tests/behaviours.txt.
// The tests run side by side, because they mostly wait; each has servers of its own.

const assert = require('node:assert/strict');
const { fork, spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');
const { inspect } = require('node:util');
const { setTimeout: sleep } = require('node:timers/promises');
const clock = require('../lib/clock');
const dflockd = require('../client');
const { crc32 } = require('../lib/arguments');
const { Engine } = require('../lib/engine');
const { Stage, eventually } = require('./stage');

const { DistributedLockClient } = dflockd;
const ROOT = path.join(__dirname, '../../..');
const README = fs.readFileSync(path.join(__dirname, '../README.md'), 'utf8');
// As many as the claims take that need no options.
const SERVERS = 35;
const stage = new Stage();
const claims = new Map();

/** A claim. One that is skipped or does not end makes the run fail. */
function test(claim, body) {
  claims.set(claim, body);
}

/** Runs the claims whose number is, or is not, among those that take much time from the event loop. */
function run(isBusy) {
  const busy = ['01', '12', '14', '17', '18', '24', '25', '26', '27', '28', '30'];
  const chosen = [...claims].filter(([claim]) => busy.includes(claim.slice(0, 2)) === isBusy);
  for (const [claim, body] of chosen) {
    it(claim, { timeout: 150_000 }, async () => {
      await body();
      claims.delete(claim);
    });
  }
}

process.on('exit', () => {
  const isPart = process.execArgv.some((option) => option.startsWith('--test-name-pattern'));
  if (claims.size === 0 || isPart) return;
  console.error('not shown:', [...claims.keys()]);
  process.exitCode = 1;
});

/** A server and a client of it. */
async function scene(order, options) {
  const server = await stage.server(order);
  return { server, client: new DistributedLockClient(server.url, options) };
}

/** An acquire that polls so often. */
function acquireWithPolls(pollMax, client, ...rest) {
  const usual = Engine.pollMax;
  Engine.pollMax = pollMax;
  const acquired = client.acquire(...rest);
  Engine.pollMax = usual;
  return acquired;
}

/** Resolves when the lock is lost, with the time. */
function lost(lock) {
  return new Promise((resolve) => lock.signal.addEventListener('abort', () => resolve(clock.now())));
}

async function timed(promise) {
  const begun = clock.now();
  const value = await promise.catch((error) => error);
  return { value, took: clock.now() - begun };
}

/**
 * Fails if it takes longer each time, five times and for half a minute: a machine that stands still makes it longer,
 * and never shorter.
 */
async function atBest(most, take) {
  const all = [];
  for (const end = clock.now() + 30_000; all.length < 5 || clock.now() < end;) {
    all.push(await take());
    if (all.at(-1) <= most) return;
  }
  assert.fail(`at best ${most} ms were asked for, and it took ${all}`);
}

/** The code blocks of the README with the real address in them. */
function blocks(url) {
  const all = [...README.matchAll(/^```(?:javascript|js)\n([^]*?)^```/gm)].map(([, code]) => code);
  return all.map((code) => code.replaceAll(/https?:\/\/[a-z]+:5000/g, url));
}

/** Runs code as `node -e` does in the root of the project, in an async function if it `isBody`. */
function program(code, isBody = true) {
  const text = isBody ? `(async () => {\n${code}\n})()` : code;
  const child = spawn(process.execPath, ['-e', text], { cwd: ROOT, timeout: 40_000 });
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) child[name].setEncoding('utf8').on('data', (text) => (texts[name] += text));
  return { process: child, output: () => texts.stdout, ended: once(child, 'close'), texts };
}

async function runToEnd(code) {
  const { ended, texts } = program(code);
  const [status] = await ended;
  return { code: status, ...texts };
}

test('01 the snippet of the README that the project began with runs as it is', async () => {
  const { server } = await scene();
  const [snippet] = blocks(server.url);
  assert.match(snippet, /^const \{ DistributedLockClient \} = require\('.\/clients\/nodejs\/client'\);\n/);
  const { code, stdout, stderr } = await runToEnd(snippet);
  assert.equal(stderr, '');
  assert.equal(code, 0);
  assert.match(stdout, /^Lock acquired: lock-[0-9a-f]{16}\n$/);
  const [acquire, release] = await server.requests();
  assert.deepEqual(
    [acquire.path, acquire.body.timeout, release.path],
    ['/locks/user:123/acquire', 30, '/locks/user:123/release'],
  );
  assert.equal((await server.status('user:123')).locked, false);
});

test('01 all other code of the README runs, too', async () => {
  const { server, client } = await scene();
  const [, scoped, leader, ...others] = blocks(server.url);
  const prelude = `
      const { DistributedLockClient } = require('./clients/nodejs/client');
      const client = new DistributedLockClient('${server.url}');`;
  const all = [scoped, ...others].map((code) => `{\n${code}\n}`).join('\n');
  const { code, stdout, stderr } = await runToEnd(prelude + all);
  assert.deepEqual([stderr, code], ['', 0]);
  assert.equal(stdout, '42\ntrue true\nnull\ntimeout\nfalse ok\n');
  const [first, second] = [program(leader, false), program(leader, false)];
  await eventually(() => first.output() !== '' || second.output() !== '');
  const [led, waiting] = first.output() === '' ? [second, first] : [first, second];
  await eventually(async () => (await client.status('leader')).waiters === 1);
  assert.equal(waiting.output(), '', 'there is one leader');
  led.process.kill('SIGTERM');
  assert.deepEqual(await led.ended, [0, null]);
  await eventually(() => /^leader, with fence [0-9a-f]{16}\n/.test(waiting.output()));
  waiting.process.kill('SIGTERM');
  assert.deepEqual(await waiting.ended, [0, null]);
  assert.equal((await server.status('leader')).locked, false);
});

test('02 a try on a lock that is held ends within 0.5 s, and nothing is queued', async () => {
  const { server, client } = await scene();
  await client.acquire('a', 30_000);
  await atBest(500, async () => {
    const { value, took } = await timed(client.tryAcquire('a', 30_000));
    assert.equal(value, null);
    return took;
  });
  await assert.rejects(client.acquire('a', 30_000), (error) => {
    const { reason, code, status } = error;
    assert.deepEqual([reason, code, status], ['timeout', null, 200]);
    return error instanceof dflockd.LockTimeoutError;
  });
  assert.equal((await server.status('a')).waiters, 0);
});

test('03 three waiters keep their order over five polls each', async () => {
  const { server, client } = await scene();
  const first = await client.acquire('a', 30_000);
  const order = [];
  const waits = [];
  for (const number of [1, 2, 3]) {
    const wait = acquireWithPolls(200, client, 'a', 30_000, { waitTimeout: 30_000 });
    waits.push(wait.then(async (lock) => order.push(number) && (await lock.release())));
    await eventually(async () => (await server.status('a')).waiters === number);
  }
  const polls = await eventually(async () => {
    const by = {};
    for (const { body } of (await server.requests(/acquire/)).slice(1)) (by[body.requestId] ??= []).push(body);
    return Object.values(by).every((each) => each.length > 5) && by;
  });
  for (const each of Object.values(polls))
    assert.ok(each.every((body) => body.keepPlace === 5 && body.waitTimeout === 0.2));
  assert.equal(Object.keys(polls).length, 3);
  await first.release();
  await Promise.all(waits);
  assert.deepEqual(order, [1, 2, 3]);
});

test('04 a wait of 1.5 s ends after 1.5 to 2 s, and leaves neither a waiter nor a hold', async () => {
  const { server, client } = await scene();
  const first = await client.acquire('a', 30_000);
  await atBest(2_000, async () => {
    const { value, took } = await timed(client.acquire('a', 30_000, { waitTimeout: 1_500 }));
    assert.ok(value instanceof dflockd.LockTimeoutError, value);
    // The server counts from the moment at which its turn began, which is up to a pause of its process before.
    assert.ok(took >= 1_400, `${took} ms`);
    assert.equal((await server.status('a')).waiters, 0);
    return took;
  });
  assert.equal(await first.release(), true);
  assert.equal((await server.status('a')).locked, false);
});

test('05 the deadline of an answer that comes 1 s late counts from the send', async () => {
  const { server, client } = await scene();
  await server.order({ do: 'delay', seconds: 1, match: 'acquire' });
  const lock = await client.acquire('a', 30_000);
  const { at } = (await server.requests(/acquire/)).at(-1);
  const deadline = clock.now() + lock.remaining();
  // /proc/uptime has steps of 10 ms.
  assert.ok(deadline <= at + 29_000 + 15, `${deadline - at} ms after the send`);
  await server.order({ do: 'delay', seconds: 1, match: 'renew' });
  await lock.renew(60_000);
  const renewal = (await server.requests(/renew/)).at(-1);
  assert.ok(clock.now() + lock.remaining() <= renewal.at + 59_000 + 15);
  assert.ok(clock.now() + lock.remaining() >= renewal.at + 50_000, 'the renewal counts');
  // What the server waited is not lost.
  const other = client.acquire('a', 10_000, { waitTimeout: 20_000 });
  await eventually(async () => (await server.status('a')).waiters === 1);
  await sleep(4_000);
  const released = clock.now();
  await lock.release();
  const left = (await other).remaining();
  assert.ok(clock.now() + left >= released + 6_500, `${left} ms are left`);
  assert.ok(clock.now() + left <= clock.now() + 9_000);
});

test('06 a lock whose answer comes later than its lease is never handed out', async () => {
  const { server, client } = await scene();
  await server.order({ do: 'delay', seconds: 3.5, match: 'acquire' });
  await assert.rejects(client.acquire('a', 3_000), { name: 'LockTimeoutError', reason: 'late', status: null });
  await eventually(async () => (await server.status('a')).locked === false);
  await server.order({ do: 'delay', seconds: 3.5, match: 'acquire' });
  const lock = await client.acquire('a', 3_000, { waitTimeout: 20_000 });
  assert.ok(lock.remaining() > 0);
  const ids = [...new Set((await server.requests(/acquire/)).slice(1).map(({ body }) => body.requestId))];
  const cancelled = (await server.requests(/release/)).map(({ body }) => body.requestId);
  assert.ok(ids.length > 1, 'the next attempt is another one');
  for (const [index, id] of ids.entries()) assert.equal(cancelled.includes(id), index < ids.length - 1);
  // An answer with less than half of its lease left is renewed before it is handed out.
  await server.order({ do: 'delay', seconds: 8, match: '/b/acquire' });
  const renewed = await client.acquire('b', 16_000, { waitTimeout: 20_000 });
  assert.ok((await server.requests(/b.renew/)).length >= 1);
  assert.ok(renewed.remaining() > 8_000, `${renewed.remaining()} ms`);
});

test('07 a lease of 1 s, renewed for 5 s, keeps its lockId and its fence', async () => {
  // It is lost if the machine stands still for more than half a second.
  await atBest(0, missingOfShortLease);
});

/** How many of 5 s a lease of 1 s was lost. */
async function missingOfShortLease() {
  const { server } = await scene();
  // A process of its own: here the other tests take their time from the event loop.
  const child = program(`
      const { DistributedLockClient } = require('./clients/nodejs/client');
      const { setTimeout: sleep } = require('node:timers/promises');
      const options = { autoRenew: true, waitTimeout: 20_000 };
      const lock = await new DistributedLockClient('${server.url}').acquire('a', 1_000, options);
      for (const end = Date.now() + 5_000; Date.now() < end && !lock.signal.aborted; await sleep(50));
      console.log(await lock.release(), lock.lockId, lock.fencingToken, String(lock.fence));`);
  const [code] = await child.ended;
  assert.deepEqual([child.texts.stderr, code], ['', 0]);
  const [released, held, token, fence] = child.texts.stdout.trim().split(' ');
  if (released === 'false') return 5_000;
  assert.deepEqual([held, fence], [`lock-${token}`, String(BigInt(`0x${token}`))]);
  assert.ok((await server.requests(/renew/)).length >= 5);
  assert.equal((await server.stats()).totalAcquired, 1);
  return 0;
}

test('08 a stopped server or a silent network: the lock is lost before its lease ends', async () => {
  const stops = [(server) => server.signal('STOP'), (server) => server.order({ do: 'swallow', times: null })];
  await Promise.all(stops.map((stop) => atBest(0, () => lateness(stop))));
});

/**
 * How long after the ends of their leases the losses of two locks are told, which is a negative number. The margin of a
 * lease of 10 s is 1 s, so a machine that stands still may be that late.
 */
async function lateness(stop) {
  const { server, client } = await scene();
  const told = [];
  const lock = await client.acquire('a', 10_000, {
    autoRenew: true,
    waitTimeout: 20_000,
    onLost: (error) => told.push(error),
  });
  const idle = await client.acquire('b', 10_000);
  const losses = [lost(lock), lost(idle)];
  await eventually(async () => (await server.requests(/renew/)).some(({ status }) => status === 200));
  await stop(server);
  const [lostAt, idleLostAt] = await Promise.all(losses);
  const answered = async (name) => (await server.requests(name)).filter(({ status }) => status === 200).at(-1).at;
  const last = await answered(/\/a\//);
  const idleLast = await answered(/\/b\//);
  assert.match(lock.signal.reason.message, /its lease was not renewed in time/);
  assert.equal(lock.signal.reason.code, null);
  assert.throws(() => lock.check(), dflockd.LockLostError);
  assert.equal(lock.remaining(), 0);
  const { value, took } = await timed(lock.release());
  assert.equal(value, false);
  assert.ok(took < 3_000, 'nobody waits for the release of a lost lock');
  assert.deepEqual(told, [lock.signal.reason]);
  await server.signal('CONT');
  await server.forgetOrders();
  return Math.max(lostAt - last, idleLostAt - idleLast) - 10_000;
}

test('09 a server that was killed and came back empty: the lock is lost at the first renewal', async () => {
  const { server, client } = await scene();
  const lock = await client.acquire('a', 12_000, { autoRenew: true, waitTimeout: 20_000 });
  const isLost = lost(lock);
  await server.restart();
  await isLost;
  assert.match(lock.signal.reason.message, /the server has ended it/);
  assert.ok(lock.signal.reason instanceof dflockd.LockLostError);
  const answered = (await server.requests(/renew/)).filter(({ status }) => status !== null);
  for (const { status } of answered) assert.equal(status, 409);
  assert.equal(await lock.release(), false);
});

test('10 a lock that was released by force is lost within ttl/3 + 1 s, and the scoped form says so', async () => {
  const { server, client } = await scene();
  let lostAt;
  const scoped = client.withLock('a', 12_000, { autoRenew: true, waitTimeout: 20_000 }, async (lock) => {
    lostAt = await lost(lock);
    return 'the body succeeds';
  });
  await eventually(async () => (await server.status('a')).locked);
  await sleep(3_000); // The renewal is due in 1 s then.
  const { locks } = await client.forceRelease('a');
  assert.equal(locks.length, 1);
  await assert.rejects(scoped, dflockd.LockLostError);
  const [{ at }] = await server.requests(/DELETE/);
  assert.ok(lostAt - at <= 4_000 + 1_000, `${lostAt - at} ms`);
  // An onLost that fails is a warning, and harms nobody.
  const warning = once(process, 'warning');
  const onLost = async () => {
    throw new Error('of onLost');
  };
  const told = await client.acquire('e', 3_000, { autoRenew: true, waitTimeout: 20_000, onLost });
  await client.forceRelease('e');
  assert.match((await warning)[0].message, /onLost of the lock "e" failed: Error: of onLost/);
  assert.throws(() => told.check(), dflockd.LockLostError);
  // The release hears it, too, and an error of the body goes first.
  const unseen = client.withLock('b', 30_000, async () => client.forceRelease('b'));
  await assert.rejects(unseen, dflockd.LockLostError);
  const failing = client.withLock('c', 30_000, async () => {
    await client.forceRelease('c');
    throw new Error('of the body');
  });
  await assert.rejects(failing, /^Error: of the body$/);
  if (Symbol.asyncDispose) {
    const lock = await client.acquire('d', 30_000);
    await client.forceRelease('d');
    await assert.rejects(lock[Symbol.asyncDispose](), dflockd.LockLostError);
    const good = await client.acquire('d', 30_000);
    await good[Symbol.asyncDispose]();
    assert.equal((await server.status('d')).locked, false);
  }
  await assert.rejects(client.forceRelease('d'), dflockd.LockNotHeldError);
});

test('11 a renewal survives two cut connections, a page of 502, and refusals for half of the lease', async () => {
  const { server, client } = await scene();
  await server.order({ do: 'cut', at: 0, match: 'renew' });
  await server.order({ do: 'cut', at: 30, match: 'renew' });
  const page = '<html>Bad Gateway</html>';
  const answer = `HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: ${page.length}\r\n\r\n${page}`;
  await server.order({ do: 'say', answer, match: 'renew' });
  const lock = await client.acquire('a', 12_000, { autoRenew: true, waitTimeout: 20_000 });
  const good = async (count) => (await server.requests(/renew/)).filter(({ status }) => status === 200).length >= count;
  await eventually(() => good(1));
  const first = (await server.requests(/renew/)).slice(0, 3).map(({ status }) => status);
  assert.deepEqual(first, [null, null, null]);
  await server.refuse(6);
  const count = (await server.requests(/renew/)).filter(({ status }) => status === 200).length;
  await eventually(() => good(count + 2));
  lock.check();
  assert.equal((await server.status('a')).lockId, lock.lockId);
  assert.equal(await lock.release(), true);
});

test('12 an answer to acquire that is cut at each byte: one grant, and none is left after the release', async () => {
  const { server, client } = await scene();
  let grants = 0;
  for (let at = 0, isWhole = false; !isWhole;) {
    const batch = Array.from({ length: 50 }, () => String(at++).padStart(4, '0'));
    await Promise.all(batch.map((byte) => server.order({ do: 'cut', at: Number(byte), match: `/${byte}/acquire` })));
    await Promise.all(
      batch.map(async (byte) => {
        const lock = await client.acquire(byte, 30_000, { waitTimeout: 20_000 });
        grants += 1;
        assert.equal(await lock.release(), true);
      }),
    );
    const first = (await server.requests(/acquire/)).filter(({ path: target }) => target.includes(`/${batch[0]}/`));
    isWhole = first[0].status === 200;
    await server.forgetOrders();
  }
  assert.ok(grants > 300, `${grants} bytes`);
  const { totalAcquired, totalReleased, activeLocks } = await server.stats();
  assert.deepEqual([totalAcquired, totalReleased, activeLocks], [grants, grants, 0]);
  // A duplicate of the acquire that is still under way finds its attempt ended.
  const releases = (await server.requests(/0000.release/)).map(({ body }) => body.requestId);
  assert.match(releases[0], /^[0-9a-f]{32}$/);
});

test('13 a wait that is cancelled leaves no waiter after 1 s, also behind a proxy that hides it', async () => {
  const { server, client } = await scene();
  const first = await client.acquire('a', 30_000);
  for (const isHidden of [false, true]) {
    if (isHidden) await server.order({ do: 'hide', match: 'acquire', times: null });
    await atBest(1_000, async () => {
      const controller = new AbortController();
      const wait = client.acquire('a', 30_000, { waitTimeout: Infinity, signal: controller.signal });
      await eventually(async () => (await server.status('a')).waiters === 1);
      const begun = clock.now();
      const reason = new Error('enough');
      controller.abort(reason);
      await assert.rejects(wait, reason);
      await eventually(async () => (await server.status('a')).waiters === 0);
      return clock.now() - begun;
    });
  }
  assert.equal((await server.status('a')).lockId, first.lockId);
  const count = (await server.requests()).length;
  await assert.rejects(client.acquire('a', 30_000, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  assert.equal((await server.requests()).length, count, 'an abort before the acquire sends nothing');
});

test('14 an acquire that is cancelled around its grant, 100 times: nothing is held after 4 s', async () => {
  const { server, client } = await scene();
  await server.order({ do: 'delay', seconds: 0.02, match: 'acquire', times: 50 });
  await server.order({ do: 'hold', seconds: 0.02, match: 'acquire', times: 20 });
  const { took } = await timed(client.withLock('first', 30_000, () => {}));
  let handedOut = 1;
  for (let round = 0; round < 10; round += 1) {
    const names = Array.from({ length: 10 }, (_, number) => `${round}-${number}`);
    await Promise.all(
      names.map(async (name, number) => {
        const controller = new AbortController();
        const acquired = client.acquire(name, 300_000, { signal: controller.signal }).then(
          (lock) => (handedOut += 1) && lock.release(),
          (error) => assert.equal(error.name, 'AbortError'),
        );
        await sleep((took * number) / 4);
        controller.abort();
        await acquired;
      }),
    );
  }
  await eventually(async () => {
    const { activeLocks, waitingRequests } = await server.stats();
    return activeLocks === 0 && waitingRequests === 0;
  }, 4_000);
  const { totalAcquired } = await server.stats();
  assert.ok(totalAcquired > handedOut, `${totalAcquired} grants, ${handedOut} handed out`);
});

test('15 a release whose answer was lost is true, and a second release sends no request', async () => {
  const { server, client } = await scene();
  const lock = await client.acquire('a', 30_000);
  await server.order({ do: 'cut', at: 0, match: 'release' });
  const releases = [lock.release(), lock.release()];
  assert.deepEqual(await Promise.all(releases), [true, true]);
  assert.equal(await lock.release(), true);
  const sent = await server.requests(/release/);
  assert.deepEqual(
    sent.map(({ status }) => status),
    [null, 409],
  );
  assert.throws(() => lock.check(), dflockd.LockNotHeldError);
  await assert.rejects(lock.renew(), dflockd.LockNotHeldError);
  const taken = await client.acquire('a', 30_000);
  await client.forceRelease('a');
  assert.equal(await taken.release(), false);
  assert.match(taken.signal.reason.message, /the server has ended it/);
  // What the server does not confirm ends by its lease.
  const unconfirmed = await client.acquire('a', 3_000);
  await server.order({ do: 'swallow', match: 'release', times: null });
  assert.equal(await unconfirmed.release(), false);
  assert.equal(unconfirmed.signal.aborted, false);
  await server.forgetOrders();
  const { length } = await server.requests(/release/);
  assert.equal(await unconfirmed.release(), false);
  assert.equal((await server.requests(/release/)).length, length);
  // Of what ended with the server nothing is released, although the first connection is refused.
  const gone = await scene();
  const direct = new DistributedLockClient(gone.server.direct);
  const ended = await direct.acquire('a', 30_000);
  await gone.server.signal('KILL');
  await sleep(100);
  const released = ended.release();
  await sleep(200);
  await gone.server.restart();
  assert.equal(await released, false);
  assert.throws(() => ended.check(), dflockd.LockLostError);
});

test('16 no renewal follows the release, the deadline or max_hold', async () => {
  const { server, client } = await scene();
  const renewals = (name) => server.requests(new RegExp(`${name}/renew`));
  const lock = await client.acquire('released', 6_000, { autoRenew: true, waitTimeout: 20_000 });
  await eventually(async () => (await renewals('released')).length > 0);
  // A renewal is under way when the release is sent.
  await server.order({ do: 'delay', seconds: 1, match: 'released/renew' });
  const count = (await renewals('released')).length;
  await eventually(async () => (await renewals('released')).length > count);
  assert.equal(await lock.release(), true);
  const [release] = await server.requests(/released.release/);
  const silent = await client.acquire('silent', 6_000, { autoRenew: true, waitTimeout: 20_000 });
  await server.order({ do: 'swallow', match: 'silent/renew', times: null });
  // Its renewals would be due each 3 s.
  const short = await client.acquire('short', 9_000, { autoRenew: true, waitTimeout: 20_000, maxHold: 4_000 });
  const [acquire] = await server.requests(/short.acquire/);
  const [lostAt, endedAt] = await Promise.all([lost(silent), lost(short)]);
  assert.ok(endedAt < acquire.at + 20_000 && endedAt > acquire.at + 4_000, `${endedAt - acquire.at} ms`);
  await sleep(3_000);
  const past = { released: release.at, silent: lostAt, short: acquire.at + 4_000 };
  for (const [name, end] of Object.entries(past)) {
    const sent = await renewals(name);
    assert.ok(sent.length > 0, name);
    // What was sent before may come to the stage a little later.
    for (const { at } of sent) assert.ok(at <= end + 1_500, `${name}: ${at - end} ms after its end`);
  }
});

test('17 fences rise, and are exact in every type', async () => {
  const { client } = await scene();
  let last = 0n;
  for (let round = 0; round < 50; round += 1) {
    const lock = await client.acquire(`a${round % 3}`, 30_000);
    assert.equal(typeof lock.fence, 'bigint');
    assert.ok(lock.fence > last);
    last = lock.fence;
    assert.match(lock.fencingToken, /^[0-9a-f]{16}$/);
    assert.equal(lock.fence.toString(16).padStart(16, '0'), lock.fencingToken);
    assert.equal(lock.lockId, `lock-${lock.fencingToken}`);
    assert.equal(BigInt.asUintN(64, lock.fence), lock.fence);
    await lock.release();
  }
  assert.ok(last > BigInt(Number.MAX_SAFE_INTEGER));
});

test('18 a limit of 3 and ten clients: never four, and another limit is refused', async () => {
  const { server } = await scene();
  let holders = 0;
  let most = 0;
  const clients = Array.from({ length: 10 }, () => new DistributedLockClient(server.url));
  await Promise.all(
    clients.map(async (client) => {
      for (let round = 0; round < 5; round += 1) {
        await client.withLock('pool', 30_000, { limit: 3, waitTimeout: 30_000 }, async () => {
          most = Math.max(most, (holders += 1));
          await sleep(5);
          holders -= 1;
        });
      }
    }),
  );
  assert.equal(most, 3);
  const lock = await clients[0].acquire('pool', 30_000, { limit: 3 });
  const other = clients[1].acquire('pool', 30_000, { limit: 4 });
  await assert.rejects(other, (error) => error instanceof dflockd.LockLimitMismatchError && error.status === 409);
  assert.equal((await clients[2].status('pool', { space: 'semaphore' })).limit, 3);
  // Without a limit it is another lock.
  await (await clients[3].acquire('pool', 30_000)).release();
  assert.equal(await lock.release(), true);
});

test('19 metadata and the names user:123, a/b and ü come back as they were', async () => {
  const { server, client } = await scene();
  const metadata = { operation: 'Änderung', nested: { list: [1, 2.5, null, 'x'] } };
  const paths = { 'user:123': 'user:123', 'a/b': 'a%2Fb', ü: '%C3%BC', "it's(1)*!~%41": '%281%29%2a%21~%2541' };
  for (const [name, encoded] of Object.entries(paths)) {
    const lock = await client.acquire(name, 30_000, { metadata });
    assert.equal(lock.lockName, name);
    const status = await client.status(name);
    assert.equal(status.lockName, name);
    assert.deepEqual(status.metadata, metadata);
    assert.equal(status.clientId, lock.clientId);
    const listed = [];
    for await (const each of client.locks()) listed.push(each.lockName);
    assert.deepEqual(listed, [name]);
    assert.ok((await server.requests()).at(-1).path.startsWith('/locks'));
    assert.ok((await server.requests(/acquire/)).at(-1).path.includes(encoded));
    await lock.renew();
    assert.equal(await lock.release(), true);
  }
  const { length } = await server.requests();
  for (const name of ['', '.', '..', 'a b', 'a\nb', 'x'.repeat(257), '\ud800', 7, undefined]) {
    await assert.rejects(client.acquire(name, 30_000), /name/);
  }
  for (const timeout of [NaN, -1, 0, 30, Infinity, '30000', 5n]) {
    await assert.rejects(client.acquire('a', timeout), /timeout is .*: want milliseconds, at least 100/);
  }
  for (const options of [
    { waitTimeout: NaN },
    { waitTimeout: -1 },
    { waitTimeout: '1' },
    { maxHold: NaN },
    { limit: 0 },
    { limit: 1.5 },
    { limit: 2 ** 21 },
    { autoRenew: 1 },
    { metadata: [] },
    { onLost: 1 },
    { signal: {} },
    { waittimeout: 1 },
  ]) {
    await assert.rejects(client.acquire('a', 30_000, options), new RegExp(Object.keys(options)[0]));
  }
  const shown = [
    [{ waitTimeout: 1 }, '{ waitTimeout: 1 }'],
    ['30000', "'30000'"],
    [null, 'null'],
    [5n, '5n'],
    [-1, '-1'],
  ];
  for (const [timeout, text] of shown)
    await assert.rejects(client.acquire('a', timeout), {
      message: `timeout is ${text}: want milliseconds, at least 100`,
    });
  assert.throws(() => new DistributedLockClient('localhost:5000'), TypeError);
  assert.throws(
    () => new DistributedLockClient('http://user:secret@host'),
    (error) => !inspect(error).includes('secret'),
  );
  assert.throws(
    () => new DistributedLockClient('http://host', { token: 'secret\n' }),
    (error) => !inspect(error).includes('secret'),
  );
  for (const clientId of [undefined, null, '', 'a\nb', 'ü'.repeat(65), 7])
    assert.throws(() => client.actor(clientId), /clientId/);
  assert.equal((await server.requests()).length, length, 'nothing of this was sent');
});

test('20 two actors that wait for each other: the later one is refused with the cycle, the other served', async () => {
  const { server, client } = await scene();
  const ann = client.actor('ann');
  const bob = new DistributedLockClient(server.url, { clientId: 'bob' });
  const x = await ann.acquire('x', 30_000);
  const y = await bob.acquire('y', 30_000);
  const served = ann.acquire('y', 30_000, { waitTimeout: 20_000 });
  await eventually(async () => (await server.status('y')).waiters === 1);
  await assert.rejects(bob.acquire('x', 30_000, { waitTimeout: 20_000 }), (error) => {
    assert.ok(error instanceof dflockd.LockDeadlockError, error);
    assert.deepEqual(error.cycle.map(({ clientId }) => clientId).sort(), ['ann', 'bob']);
    return true;
  });
  await y.release();
  assert.equal((await served).clientId, 'ann');
  assert.equal(await x.release(), true);
  // Without an actor two locks are two owners, so nothing is taken for a deadlock.
  const [a, b] = [await client.acquire('a', 30_000), await client.acquire('b', 30_000)];
  assert.notEqual(a.clientId, b.clientId);
  assert.match(a.clientId, new RegExp(`-${process.pid}-[0-9a-f]{8}-[0-9]+$`));
});

test('21 a wrong token is refused at once, without a repeat, and no text shows a secret', async () => {
  const { server } = await scene({ options: ['--auth-token', 'the-right-one'] });
  const wrong = new DistributedLockClient(server.url, { token: 'the-wrong-one' });
  const { value: denied, took } = await timed(wrong.acquire('a', 30_000, { waitTimeout: 20_000 }));
  assert.ok(denied instanceof dflockd.LockDeniedError, denied);
  assert.deepEqual([denied.status, denied.code], [401, 'unauthorized']);
  assert.ok(took < 10_000, `${took} ms`);
  const requests = await server.requests();
  assert.equal(requests.length, 1);
  const right = new DistributedLockClient(server.url, { token: 'the-right-one' });
  const lock = await right.acquire('a', 30_000);
  const echo = JSON.stringify({ code: 'bad-request', detail: 'Bearer the-right-one' });
  await server.order({
    do: 'say',
    answer: `HTTP/1.1 400 Bad\r\nContent-Length: ${echo.length}\r\n\r\n${echo}`,
    match: 'renew',
  });
  const echoed = await lock.renew().catch((error) => error);
  assert.ok(echoed instanceof dflockd.LockRequestError);
  const texts = [denied, echoed, lock, right, wrong].flatMap((each) => [
    inspect(each, { depth: Infinity, showHidden: true }),
    String(each),
    JSON.stringify(each),
    each.stack ?? '',
  ]);
  await lock.release();
  const { renewalToken } = (await server.requests(/release/))[0].body;
  const [{ requestId }] = (await server.requests(/acquire/)).map(({ body }) => body);
  assert.ok(renewalToken.length === 32 && requestId.length === 32);
  for (const text of texts)
    for (const secret of ['the-wrong', 'the-right', renewalToken, requestId]) assert.ok(!text.includes(secret), text);
});

test('22 a server that drains: a holder renews and releases, and a waiter outlives the restart', async () => {
  const { server, client } = await scene();
  const lock = await client.acquire('a', 30_000);
  // A drain waits for connections of the line protocol that hold locks.
  const line = net.connect(server.port, '127.0.0.1').on('error', () => {});
  line.write('l\nline\n0 60\n');
  assert.match(String((await once(line, 'data'))[0]), /^ok /);
  const waiter = client.acquire('a', 30_000, { waitTimeout: 50_000 });
  await eventually(async () => (await server.status('a')).waiters === 1);
  await server.signal('TERM');
  await eventually(async () => (await server.raw('GET', '/ready')).status === 503);
  await lock.renew(40_000);
  assert.ok(lock.remaining() > 29_500);
  await assert.rejects(client.acquire('b', 30_000), dflockd.LockDrainingError);
  assert.equal(await lock.release(), true);
  line.destroy();
  await server.restart();
  const next = await waiter;
  assert.equal((await server.status('a')).lockId, next.lockId);
});

test('23 without a server a try fails within 1 s, and a wait gets the lock when the server comes', async () => {
  const { server } = await scene();
  const client = new DistributedLockClient(server.direct);
  await server.signal('KILL');
  await atBest(1_000, async () => {
    const { value, took } = await timed(client.tryAcquire('a', 30_000));
    assert.ok(value instanceof dflockd.LockUnavailableError, value);
    assert.equal(value.code, 'no-connection');
    return took;
  });
  const wait = client.acquire('a', 30_000, { waitTimeout: 30_000 });
  await sleep(300);
  await server.restart();
  const lock = await wait;
  assert.equal((await server.status('a')).lockId, lock.lockId);
  // What may have been heard is asked again for 5 s.
  const cut = await scene();
  await cut.server.order({ do: 'cut', at: 0, match: 'acquire', times: 3 });
  assert.equal((await cut.client.acquire('a', 30_000)).lockName, 'a');
  const answer = 'HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n';
  await cut.server.order({ do: 'say', answer, match: 'GET', times: 3 });
  assert.equal((await cut.client.health()).status, 'ok');
  await cut.server.signal('KILL');
  await atBest(1_000, async () => {
    const { value, took } = await timed(new DistributedLockClient(cut.server.direct).health());
    assert.equal(value.code, 'no-connection');
    return took;
  });
  // One that never answers is no better.
  const silent = await scene();
  await silent.server.order({ do: 'swallow', times: null });
  const unanswered = await timed(silent.client.tryAcquire('a', 30_000));
  assert.equal(unanswered.value.code, 'no-answer');
  assert.ok(unanswered.took < 7_500, `${unanswered.took} ms`);
});

test('24 broken JSON, HTML, a cut answer, chunks: an error or a lock, never a guess', async () => {
  const { server, client } = await scene();
  const say = async (head, body, length = Buffer.byteLength(body)) => {
    const answer = `HTTP/1.1 ${head}\r\n${length === null ? '' : `Content-Length: ${length}\r\n`}\r\n${body}`;
    await server.order({ do: 'say', answer, match: 'acquire' });
    return client.acquire('a', 30_000, { waitTimeout: 20_000 }).catch((error) => error);
  };
  const foreign = {
    acquired: true,
    lockId: 'lock-1',
    lockName: 'b',
    clientId: 'c',
    renewalToken: 'x',
    ttl: 30,
    waitTime: 0,
  };
  const nonsense = ['{"acquired":tr', '<html></html>', '[]', 'null', '{}', '', JSON.stringify(foreign)];
  const { LockServerError, LockRequestError, LockDeniedError, LockCapacityError, LockUnavailableError } = dflockd;
  for (const [head, body, Kind, code] of [
    ...nonsense.map((body) => ['200 OK', body, LockServerError, 'nonsense']),
    ['302 Found', '', LockServerError, 'nonsense'],
    ['404 Not Found', '<html>', LockServerError, 'nonsense'],
    ['418 Teapot', '{"code":7}', LockServerError, 'nonsense'],
    ['500 Oops', '<html>', LockServerError, 'nonsense'],
    ['500 Oops', '{"code":"internal"}', LockServerError, 'internal'],
    ['418 Teapot', '{"code":"constructor"}', LockRequestError, 'constructor'],
    ['401 Who', '<html>', LockDeniedError, null],
    ['403 No', '<html>', LockDeniedError, null],
    ['422 What', '<html>', LockRequestError, null],
    ['429 Slow', '{}', LockCapacityError, null],
    ['503 Full', '<html>', LockUnavailableError, null],
    ['503 Full', '{"code":"max-locks"}', LockCapacityError, 'max-locks'],
  ]) {
    const error = await say(head, body);
    assert.ok(error instanceof Kind, `${head} ${body}: ${error}`);
    assert.equal(error.code, code, `${head} ${body}`);
  }
  const unfinished = await say('200 OK', '{"acquired":true,"lockId', null);
  assert.deepEqual([unfinished.name, unfinished.code], ['LockServerError', 'nonsense']);
  await server.order({ do: 'say', answer: 'what is this\r\n\r\n', match: 'acquire' });
  await assert.rejects(client.acquire('a', 30_000), { name: 'LockServerError', code: 'nonsense' });
  for (const known of await server.requests(/acquire/)) assert.equal(known.status, null, 'the server never saw these');
  for (const [head, body] of [
    ['200 OK', '{"acquired":true,'],
    ['502 Bad', '<html>'],
  ]) {
    const lock = await say(head, body, 500);
    assert.equal((await server.status('a')).lockId, lock.lockId);
    assert.equal(await lock.release(), true);
  }
  await server.order({ do: 'chunk', times: null });
  const lock = await client.acquire('a', 30_000);
  await lock.renew();
  assert.equal((await client.status('a')).lockId, lock.lockId);
  assert.equal(await lock.release(), true);
  await eventually(async () => (await server.stats()).activeLocks === 0);
});

test('25 an idle connection that was closed is no error', async () => {
  const { server, client } = await scene();
  const names = ['a', 'b', 'c', 'd', 'e'];
  const locks = await Promise.all(names.map((name) => client.acquire(name, 30_000)));
  // The repeat takes a new connection, although others are idle, which may have ended as well.
  await server.order({ do: 'cut', at: 0, match: 'renew' });
  await locks[0].renew();
  const used = (await server.requests()).map(({ connection }) => connection);
  assert.ok(!used.slice(0, -1).includes(used.at(-1)), `${used}`);
  await Promise.all(locks.map((lock) => lock.renew()));
  // The proxy may still be busy with what was answered a moment ago.
  let closed = 0;
  await eventually(async () => (closed += (await server.closeIdle()).closed) >= 5);
  assert.deepEqual(await Promise.all(locks.map((lock) => lock.release())), [true, true, true, true, true]);
  for (let round = 0; round < 20; round += 1) {
    const lock = await client.acquire('a', 30_000);
    // The close is on its way while the request is.
    const [released] = await Promise.all([
      round % 2 ? sleep(1).then(() => lock.release()) : lock.release(),
      server.closeIdle(),
    ]);
    assert.equal(released, true);
  }
  // A connection that ends under the request, before the server has it.
  await server.order({ do: 'say', answer: '', match: 'acquire' });
  await (await client.acquire('a', 30_000)).release();
  assert.equal((await server.stats()).activeLocks, 0);
  const { connection } = (await server.requests()).at(-1);
  await (await client.acquire('a', 30_000)).release();
  assert.equal((await server.requests()).at(-1).connection, connection, 'connections are kept');
});

test('26 status, a list of 250 locks in pages, stats and health', async () => {
  const { server, client } = await scene();
  const names = Array.from({ length: 250 }, (_, number) => `many-${number}`);
  const locks = await Promise.all(names.map((name) => client.acquire(name, 60_000, { waitTimeout: 20_000 })));
  const other = await client.acquire('other', 30_000);
  const listed = [];
  for await (const { lockName, locked } of client.locks({ prefix: 'many-', pageSize: 100 }))
    listed.push(locked && lockName);
  assert.deepEqual(listed.sort(), names.sort());
  assert.ok((await server.requests(/GET .locks/)).length >= 3);
  const { activeLocks, totalAcquired } = await client.stats();
  assert.deepEqual([activeLocks, totalAcquired], [251, 251]);
  assert.equal((await client.health()).status, 'ok');
  const status = await client.status('other');
  assert.deepEqual([status.locked, status.lockId, status.waiters], [true, other.lockId, 0]);
  assert.equal((await client.status('free')).locked, false);
  await assert.rejects(client.stats(1), RangeError);
  // Pages that lead back to one another have no end.
  for (const next of ['x', 'y', 'x']) {
    const page = JSON.stringify({ locks: [], next });
    const answer = `HTTP/1.1 200 OK\r\nContent-Length: ${page.length}\r\n\r\n${page}`;
    await server.order({ do: 'say', answer, match: 'GET' });
  }
  await assert.rejects(client.locks().next(), dflockd.LockServerError);
  // A forced release of one grant is done although its answer was lost; without a lockId nobody knows.
  const forced = await client.acquire('forced', 30_000);
  await server.order({ do: 'cut', at: 0, match: 'DELETE', times: 2 });
  const { locks: gone } = await client.forceRelease('forced', { lockId: forced.lockId });
  assert.deepEqual(gone, [{ lockId: forced.lockId, clientId: null }]);
  await assert.rejects(client.forceRelease('forced', { lockId: forced.lockId }), (error) => {
    assert.match(error.message, /^forceRelease "forced": the server answered 404 not-held: .*nothing to release$/);
    return error instanceof dflockd.LockNotHeldError;
  });
  await server.order({ do: 'cut', at: 0, match: 'DELETE' });
  await assert.rejects(client.forceRelease('other-name'), { code: 'no-answer' });
  // close() of an actor ends only what is its own.
  const actor = client.actor('worker-7');
  const own = await actor.acquire('own', 30_000);
  const ownWait = actor.acquire('other', 30_000, { waitTimeout: Infinity });
  await eventually(async () => (await server.status('other')).waiters === 1);
  await Promise.all([assert.rejects(ownWait, { code: 'closed' }), actor.close()]);
  assert.throws(() => own.check(), dflockd.LockNotHeldError);
  assert.deepEqual([(await server.status('own')).locked, (await server.stats()).activeLocks], [false, 251]);
  await assert.rejects(actor.acquire('a', 30_000), { code: 'closed' });
  await assert.rejects(actor.health(), { code: 'closed' });
  other.check();
  // close() of the client releases what is held, and ends what waits: a few, since it takes 5 s at most.
  for (const lock of locks.slice(10)) assert.equal(await lock.release(), true);
  const wait = client.acquire('other', 30_000, { waitTimeout: Infinity });
  await eventually(async () => (await server.status('other')).waiters === 1);
  await Promise.all([assert.rejects(wait, /the client was closed/), client.close()]);
  assert.equal(await locks[0].release(), true);
  await assert.rejects(client.acquire('a', 30_000), { name: 'LockUnavailableError', code: 'closed' });
  await assert.rejects(client.health(), { name: 'LockUnavailableError', code: 'closed' });
  await eventually(async () => (await server.stats()).activeLocks === 0);
});

test('27 three shards: the vectors of CRC-32, and one that is down fails its own names only', async () => {
  assert.equal(crc32('my-key'), 0xd6e33ac1);
  assert.equal(crc32('123456789'), 0xcbf43926);
  assert.equal(crc32(''), 0);
  assert.equal(crc32('ü'), crc32(Buffer.from([0xc3, 0xbc]).toString()));
  const servers = await Promise.all([stage.server(), stage.server(), stage.server()]);
  const urls = servers.map(({ url }) => url).join(', ');
  const client = new DistributedLockClient(urls);
  const names = Array.from({ length: 30 }, (_, number) => `name-${number}`).concat('my-key');
  for (const name of names) {
    const lock = await client.acquire(name, 30_000);
    assert.equal((await servers[crc32(name) % 3].status(name)).lockId, lock.lockId);
  }
  const listed = [];
  for await (const { lockName } of client.locks()) listed.push(lockName);
  assert.deepEqual(listed.sort(), [...names].sort());
  assert.equal((await client.stats(2)).activeLocks, names.filter((name) => crc32(name) % 3 === 2).length);
  const direct = new DistributedLockClient(servers.map((each) => each.direct).join());
  await servers[1].signal('KILL');
  const results = await Promise.all(names.map((name) => direct.acquire(`${name}/2`, 30_000).catch((error) => error)));
  results.forEach((result, index) => {
    const isDown = crc32(`${names[index]}/2`) % 3 === 1;
    assert.ok(result instanceof (isDown ? dflockd.LockUnavailableError : dflockd.DistributedLock), `${result}`);
  });
  const own = new DistributedLockClient(urls, { shard: (name, count) => name.length % count });
  const lock = await own.acquire('xx', 30_000);
  assert.equal((await servers[2].status('xx')).lockId, lock.lockId);
});

test('28 TLS: an authority of one’s own, and a wrong authority or host is refused', async () => {
  const files = await stage.certificates();
  const [ca, otherCa] = [fs.readFileSync(files.ca), fs.readFileSync(files.other_ca, 'utf8')];
  const [here, elsewhere] = await Promise.all(
    ['localhost', 'elsewhere'].map((certificate) => stage.server({ certificate })),
  );
  const good = new DistributedLockClient(here.url, { ca });
  const lock = await good.acquire('a', 30_000);
  await lock.renew();
  assert.equal(await lock.release(), true);
  for (const [url, options] of [
    [here.url, { ca: otherCa }],
    [here.url, {}],
    [elsewhere.url, { ca }],
  ]) {
    const client = new DistributedLockClient(url, { ...options, token: 'x' });
    const { value, took } = await timed(client.acquire('a', 30_000, { waitTimeout: 20_000 }));
    assert.ok(value instanceof dflockd.LockUnavailableError, value);
    assert.equal(value.code, 'tls');
    assert.match(value.message, /`ca`/);
    assert.ok(took < 10_000, `${took} ms: it is not repeated`);
  }
  const plain = new DistributedLockClient(here.url.replace('https', 'http'));
  assert.ok((await plain.acquire('a', 30_000).catch((error) => error)) instanceof dflockd.LockError);
});

test('29 a program with a renewed lock exits at once, and a forked child has lost it', async () => {
  const { server, client } = await scene();
  // The renewal is swallowed, so it is under way when the program ends.
  await server.order({ do: 'swallow', match: 'mine/renew', times: null });
  await atBest(1_000, async () => {
    const { length } = await server.requests(/mine.renew/);
    const {
      process: child,
      ended,
      texts,
    } = program(`
        const { DistributedLockClient } = require('./clients/nodejs/client');
        const client = new DistributedLockClient('${server.url}');
        await client.acquire('mine', 12_000, { autoRenew: true, waitTimeout: 20_000 });
        await client.acquire('other', 300_000, { autoRenew: true });
        await new Promise((resolve) => process.stdin.once('data', resolve));
        process.stdin.destroy();
        process.on('exit', () => console.log(Date.now()));
        console.log(Date.now());`);
    await eventually(async () => (await server.requests(/mine.renew/)).length > length);
    child.stdin.write('end');
    const [status] = await ended;
    assert.deepEqual([texts.stderr, status], ['', 0]);
    assert.equal((await server.status('other')).locked, true, 'nothing is released at exit');
    await client.forceRelease('other');
    const [done, exited] = texts.stdout.trim().split('\n').map(Number);
    return exited - done;
  });
  // A child shares nothing: what it is given of a lock is its name and its fence.
  const lock = await client.acquire('a', 6_000, { autoRenew: true, waitTimeout: 20_000 });
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'dflockd-')), 'child.js');
  fs.writeFileSync(file, "process.on('message', (lock) => process.send([Object.keys(lock), typeof lock.release]))");
  const child = fork(file);
  child.send(lock);
  const [[keys, release]] = await once(child, 'message');
  child.kill();
  fs.rmSync(path.dirname(file), { recursive: true });
  assert.deepEqual(keys.sort(), ['clientId', 'fencingToken', 'lockId', 'lockName']);
  assert.equal(release, 'undefined');
  const { length } = await server.requests(/a.renew/);
  await eventually(async () => (await server.requests(/a.renew/)).length > length + 1);
  lock.check();
  assert.equal(await lock.release(), true);
});

test('30 25 clients and one key: a file that only a holder may create is never there before', async () => {
  const { server } = await scene();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dflockd-'));
  const file = path.join(folder, 'held');
  await server.order({ do: 'cut', at: 0, match: 'acquire', after: 10, times: 5 });
  await server.order({ do: 'delay', seconds: 0.05, match: 'acquire', after: 20, times: 10 });
  await server.order({ do: 'cut', at: 50, match: 'release', after: 5, times: 5 });
  let count = 0;
  const clients = Array.from({ length: 25 }, () => new DistributedLockClient(server.url));
  await Promise.all(
    clients.map(async (client) => {
      for (let round = 0; round < 4; round += 1) {
        const options = { waitTimeout: 40_000, autoRenew: true };
        await client.withLock('key', 10_000, options, async () => {
          fs.closeSync(fs.openSync(file, 'wx'));
          await sleep(2);
          fs.unlinkSync(file);
          count += 1;
        });
      }
    }),
  );
  fs.rmdirSync(folder);
  assert.equal(count, 100);
  assert.equal((await server.stats()).activeLocks, 0);
});

describe('behaviours', () => {
  before(async () => {
    await stage.open();
    await stage.prepare(SERVERS);
  });
  after(() => stage.close());
  describe('that are mostly waited for', { concurrency: 24 }, () => run(false));
  describe('that work', { concurrency: 4 }, () => run(true));
});
