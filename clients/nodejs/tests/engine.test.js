'use strict';
// The engine with a played clock: nothing here waits, and a seed plays the same again.

const assert = require('node:assert/strict');
const { describe, test } = require('node:test');
const { Engine } = require('../lib/engine');

/** mulberry32: numbers from 0 to 1 that a seed repeats. */
function dice(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function held(now, ttl, options = {}) {
  const engine = new Engine(now, { timeout: ttl, ...options });
  engine.granted(now, 0, ttl, now);
  assert.ok(engine.handOut(now));
  return engine;
}

/**
 * Plays one lock until it is lost: renewals that are late, lost on the way or lost on the way back, a server that ends
 * the lock or falls silent, a host that sleeps. Gives what became of it.
 */
function playLoss(seed) {
  const random = dice(seed);
  const between = (low, high) => low + random() * (high - low);
  let now = between(0, 1e6);
  const ttl = Math.exp(between(Math.log(100), Math.log(300_000)));
  const latency = () => between(0, ttl / 40);
  // The server's clock is up to a thousandth faster.
  const lease = ttl * (1 - between(0, 0.0005));
  const autoRenew = random() < 0.8;
  const failure = between(0, 0.6);
  const silentAt = now + between(0, 6 * ttl);
  const endedAt = random() < 0.2 ? now + between(0, 4 * ttl) : Infinity;
  const sleeps = random() < 0.3;
  const engine = new Engine(now, { timeout: ttl, autoRenew, waitTimeout: ttl });
  const sentAt = now;
  const waited = random() < 0.5 ? between(0, ttl * 3) : 0;
  const grantedAt = sentAt + latency() + waited;
  now = grantedAt + latency();
  let leaseEnd = grantedAt + lease;
  engine.granted(sentAt, waited, ttl, now);
  assert.ok(engine.handOut(now));
  let renewal = null;
  let slept = false;
  for (let turn = 0; turn < 10_000; turn += 1) {
    const before = engine.remaining(now);
    assert.ok(before === 0 || now + before <= leaseEnd, `seed ${seed}: the deadline is after the end of the lease`);
    if (engine.lost) return { engine, now, leaseEnd, slept, ttl, endedAt };
    if (!renewal && engine.isRenewalDue(now)) {
      engine.renewalSent(now, ttl);
      const arrival = now + latency();
      const isHeard = arrival < silentAt && random() > failure / 2;
      const isGone = isHeard && (arrival >= endedAt || arrival >= leaseEnd);
      if (isHeard && !isGone) leaseEnd = Math.max(leaseEnd, arrival + lease);
      const isAnswered = isHeard && random() > failure / 2;
      const end = isAnswered ? arrival + latency() : now + engine.renewalPatience(now, true);
      renewal = { sentAt: now, end, isAnswered, isGone };
    }
    const next = Math.min(renewal ? Math.min(renewal.end, engine.deadline) : engine.wakeAt, now + 1_000);
    now = Math.max(now, next);
    slept = sleeps && random() < 0.05;
    if (slept) now += between(0, 3 * ttl);
    if (renewal && now >= renewal.end) {
      if (!renewal.isAnswered) engine.renewalFailed(now);
      else if (renewal.isGone) engine.notHeld(now);
      else engine.renewed(renewal.sentAt, ttl, now, ttl);
      renewal = null;
    }
  }
  throw new Error(`seed ${seed}: never lost`);
}

/** Plays renewals to other and other leases: answered, refused, or so late at the server that nobody waits any more. */
function playRenewals(seed) {
  const random = dice(seed);
  const between = (low, high) => low + random() * (high - low);
  const anyLease = () => Math.exp(between(Math.log(500), Math.log(300_000)));
  let now = 0;
  let leaseEnd = anyLease();
  const engine = held(now, leaseEnd, { autoRenew: true });
  let late = [];
  const passTo = (moment) => {
    const arrived = late.filter(({ at }) => at <= moment).sort((one, other) => one.at - other.at);
    late = late.filter(({ at }) => at > moment);
    for (const { at, lease } of arrived) {
      leaseEnd = at < leaseEnd ? at + lease : leaseEnd;
      assert.ok(engine.remaining(at) === 0 || engine.deadline <= leaseEnd, `seed ${seed}: shortened unseen`);
    }
    now = moment;
  };
  let count = 0;
  for (; count < 40 && engine.remaining(now) > 0; count += 1) {
    passTo(now + between(0, Math.min(10_000, engine.remaining(now) / 2)));
    const lease = random() < 0.5 ? engine.timeout : anyLease();
    const sentAt = now;
    engine.renewalSent(sentAt, lease);
    passTo(now + between(0, 50));
    if (random() < 0.2) {
      engine.renewalFailed(now, false);
    } else if (random() < 0.4) {
      late.push({ at: sentAt + between(0, 59_000), lease });
      engine.renewalFailed(now, true);
    } else if (now < leaseEnd) {
      leaseEnd = now + lease;
      engine.renewed(sentAt, lease, now, lease);
    }
    assert.ok(engine.remaining(now) === 0 || engine.deadline <= leaseEnd, `seed ${seed}: the deadline is too late`);
  }
  return count;
}

describe('the engine', () => {
  test('in each of 1,000 played losses the lock is told lost before its lease ends, and stays lost', () => {
    const told = { deadline: 0, 'not-held': 0, asleep: 0 };
    for (let seed = 0; seed < 1_000; seed += 1) {
      const { engine, now, leaseEnd, slept, ttl, endedAt } = playLoss(seed);
      if (slept && now > leaseEnd) told.asleep += 1;
      else if (engine.lost === 'deadline') assert.ok(now <= leaseEnd, `seed ${seed}: told ${now - leaseEnd} ms late`);
      else assert.ok(now >= Math.min(endedAt, leaseEnd), `seed ${seed}`);
      told[engine.lost] += 1;
      engine.renewed(now, ttl, now, ttl);
      assert.deepEqual([engine.state, engine.remaining(now), engine.releasing(now)], ['ended', 0, false]);
    }
    assert.equal(told.deadline + told['not-held'], 1_000);
    assert.ok(told.deadline > 300 && told['not-held'] > 50 && told.asleep > 50, JSON.stringify(told));
  });

  test('a deadline counts from the send, and what the server waited counts but for a thousandth', () => {
    const engine = new Engine(0, { waitTimeout: 20_000 });
    engine.granted(1_000, 10_000, 30_000, 11_500);
    assert.equal(engine.deadline, 1_000 + 9_990 + 29_000);
    engine.handOut(11_500);
    engine.renewed(15_000, 4_000, 15_100);
    assert.equal(engine.deadline, 15_000 + 3_600);
    const impossible = new Engine(0, {});
    impossible.granted(0, 50_000, 30_000, 100);
    assert.equal(impossible.deadline, 100 + 29_000, 'a grant is not later than its answer');
  });

  test('polls are of 45 s and keep the place, but for the last', () => {
    const engine = new Engine(0, { waitTimeout: 100_000 });
    assert.deepEqual(engine.nextPoll(0), { waitTimeout: 45_000, keepPlace: 5_000, patience: 50_000 });
    assert.deepEqual(engine.nextPoll(60_000), { waitTimeout: 40_000, keepPlace: undefined, patience: 45_000 });
    assert.deepEqual(engine.nextPoll(101_000), { waitTimeout: 0, keepPlace: undefined, patience: 4_000 });
    assert.equal(new Engine(0, { waitTimeout: Infinity }).nextPoll(1e9).waitTimeout, 45_000);
  });

  test('polls that a proxy cuts become shorter, down to 5 s', () => {
    const engine = new Engine(0, { waitTimeout: Infinity });
    engine.pollCut(0, 900);
    assert.equal(engine.nextPoll(0).waitTimeout, 45_000);
    engine.pollCut(0, 30_000);
    assert.equal(engine.nextPoll(0).waitTimeout, 24_000);
    engine.pollCut(0, 24_000);
    engine.pollCut(0, 2_000);
    assert.equal(engine.nextPoll(0).waitTimeout, 5_000);
    engine.pollCut(0, 50_000);
    assert.equal(engine.nextPoll(0).waitTimeout, 5_000);
  });

  test('a renewal is due a third of the lease after the last good send, and after a failure each fifteenth', () => {
    const engine = held(0, 30_000, { autoRenew: true });
    assert.equal(engine.wakeAt, 10_000);
    assert.equal(engine.isRenewalDue(9_999), false);
    assert.equal(engine.isRenewalDue(10_000), true);
    assert.equal(engine.renewalPatience(10_000, true), 5_000);
    engine.renewalFailed(10_100);
    assert.equal(engine.wakeAt, 12_100);
    engine.renewed(12_100, 30_000, 12_200);
    assert.equal(engine.wakeAt, 22_100);
    const short = held(0, 300, { autoRenew: true });
    assert.equal(short.renewalPatience(100, true), 170, 'not past the deadline');
    short.renewalFailed(100);
    assert.equal(short.wakeAt, 150);
    assert.equal(held(0, 30_000).isRenewalDue(28_000), false);
  });

  test('nothing is renewed after max_hold, the deadline or the release', () => {
    const bounded = held(0, 30_000, { autoRenew: true, maxHold: 25_000 });
    assert.equal(bounded.renewalPatience(22_000, true), 3_000);
    bounded.renewed(24_000, 30_000, 24_100);
    assert.equal(bounded.isRenewalDue(34_000), false);
    assert.equal(bounded.wakeAt, 24_000 + 29_000);
    const awake = held(0, 30_000, { autoRenew: true, maxHold: 10_001 });
    assert.deepEqual(
      [awake.isRenewalDue(10_002), awake.wakeAt],
      [false, 29_000],
      'nothing to wake for but the deadline',
    );
    const late = held(0, 30_000, { autoRenew: true });
    assert.equal(late.isRenewalDue(29_000), false);
    assert.equal(late.lost, 'deadline');
    const released = held(0, 30_000, { autoRenew: true });
    assert.equal(released.releasing(11_000), true);
    assert.equal(released.isRenewalDue(11_000), false);
    released.renewed(10_000, 30_000, 11_001);
    released.notHeld(11_002);
    assert.deepEqual([released.state, released.lost], ['releasing', null], 'answers to renewals come too late');
    released.released();
    assert.deepEqual([released.state, released.isReleased, released.lost], ['ended', true, null]);
  });

  test('a lock that is lost stays lost, whatever comes', () => {
    const engine = held(0, 1_000, { autoRenew: true });
    assert.equal(engine.remaining(899), 1);
    assert.equal(engine.remaining(900), 0);
    engine.renewed(899, 1_000, 901);
    engine.notHeld(902);
    assert.deepEqual([engine.state, engine.lost, engine.wakeAt], ['ended', 'deadline', Infinity]);
    const asleep = held(0, 1_000);
    assert.equal(asleep.remaining(1e9), 0, 'the clock ran on while the host slept');
    const refused = held(0, 1_000);
    refused.notHeld(500);
    assert.deepEqual([refused.lost, refused.remaining(500)], ['not-held', 0]);
    const unheard = held(0, 1_000);
    unheard.releasing(500);
    unheard.released(false);
    assert.deepEqual([unheard.lost, unheard.isReleased], ['not-held', false]);
  });

  test('a grant with under half of its usable time left is not handed out', () => {
    const engine = new Engine(0, { waitTimeout: 20_000 });
    engine.granted(0, 0, 10_000, 4_501);
    assert.equal(engine.isLate(4_500), false);
    assert.equal(engine.isLate(4_501), true);
    assert.equal(engine.handOut(4_501), false);
    engine.renewed(4_600, 10_000, 4_700);
    assert.equal(engine.handOut(4_700), true);
    const gone = new Engine(0, {});
    gone.granted(0, 0, 10_000, 9_000);
    gone.renewed(8_999, 10_000, 9_001);
    assert.equal(gone.handOut(9_001), false, 'a renewal after the deadline is not counted');
    const ended = new Engine(0, {});
    ended.granted(0, 0, 10_000, 5_000);
    ended.notHeld(5_001);
    assert.equal(ended.handOut(5_001), false);
  });

  test('a renewal that shortens the lease counts from its send, answered or not', () => {
    const engine = held(0, 30_000);
    engine.renewalSent(1_000, 2_000);
    assert.equal(engine.deadline, 2_800);
    const longer = held(0, 2_000);
    longer.renewalSent(1_000, 30_000);
    assert.equal(longer.deadline, 1_800);
  });

  test('in each of 1,000 plays with late and refused renewals the deadline is not after the end of the lease', () => {
    let count = 0;
    for (let seed = 0; seed < 1_000; seed += 1) count += playRenewals(seed);
    assert.ok(count > 10_000, `${count} renewals`);
  });

  test('a renewal that was refused leaves the deadline as it was; one that may not have been is followed soon', () => {
    const refused = held(0, 30_000, { autoRenew: true });
    assert.equal(refused.renewalPatience(1_000, false, 1_500), 250);
    refused.renewalSent(1_000, 1_500);
    refused.renewalFailed(1_100, false);
    assert.deepEqual([refused.deadline, refused.remaining(5_000), refused.wakeAt], [29_000, 24_000, 3_100]);
    const unheard = held(0, 30_000, { autoRenew: true });
    unheard.renewalSent(1_000, 1_500);
    unheard.renewalFailed(1_250, true);
    assert.deepEqual([unheard.deadline, unheard.wakeAt], [2_350, 1_350]);
    assert.equal(unheard.renewalPatience(1_350, true, 30_000), 250);
    unheard.renewalSent(1_350, 30_000);
    unheard.renewalFailed(1_400, false);
    assert.deepEqual([unheard.deadline, unheard.wakeAt], [2_350, 1_500], 'the one before may still have been heard');
  });

  test('an acquire without an answer ends 5 s after its wait, and the repeats do not make it longer', () => {
    const once = new Engine(0, {});
    assert.equal(once.nextPoll(0).patience, 5_000);
    assert.equal(once.nextPoll(2_000).patience, 3_000);
    assert.deepEqual([once.repeatPatience(2_000, true), once.repeatPatience(2_000, false)], [2_900, -2_000]);
    assert.equal(once.repeatPatience(0, false), 0, 'a try without a server is not repeated');
    const wait = new Engine(0, { waitTimeout: 20_000 });
    assert.equal(wait.nextPoll(19_000).patience, 6_000);
    assert.deepEqual([wait.repeatPatience(19_999, false), wait.repeatPatience(24_000, true)], [1, 900]);
    assert.equal(new Engine(0, { waitTimeout: Infinity }).repeatPatience(1e12, false), Infinity);
  });

  test('a renewal without an answer may shorten the lease for a minute, whatever is confirmed after it', () => {
    const engine = held(0, 30_000, { autoRenew: true });
    engine.renewalSent(1_000, 1_500);
    engine.renewalFailed(1_100);
    for (const sentAt of [1_200, 2_000]) {
      engine.renewalSent(sentAt, 30_000);
      engine.renewed(sentAt, 30_000, sentAt + 10, 30_000);
      assert.equal(engine.deadline, sentAt + 1_350);
      assert.equal(engine.wakeAt, sentAt + 500);
    }
    const late = held(0, 300_000);
    late.renewalSent(1_000, 250_000);
    late.renewed(1_000, 250_000, 1_100, 250_000, true);
    late.renewalSent(61_000, 300_000);
    late.renewed(61_000, 300_000, 61_099, 300_000);
    assert.equal(late.deadline, 61_000 + 249_000, 'one sending of it had no answer');
    late.renewalSent(61_100, 300_000);
    late.renewed(61_100, 300_000, 61_110, 300_000);
    assert.equal(late.deadline, 61_100 + 299_000);
    const refused = held(0, 30_000);
    refused.renewalSent(1_000, 20_000);
    refused.renewalFailed(1_100, false);
    refused.renewalSent(1_200, 30_000);
    refused.renewed(1_200, 30_000, 1_300, 30_000);
    assert.equal(refused.deadline, 1_200 + 29_000, 'the server has answered that it did nothing');
  });

  test('a release tries for 5 s, but not much longer than the lease', () => {
    const engine = held(0, 30_000);
    assert.equal(engine.releasePatience(1_000), 5_000);
    assert.equal(engine.releasePatience(27_000), 3_000);
    assert.equal(engine.releasePatience(29_900), 1_000);
  });
});
