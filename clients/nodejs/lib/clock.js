'use strict';
// Milliseconds since the boot of the host. On Linux they go on while the host sleeps, as the server's own clock does;
// timers and performance.now() of Node do not. Invariant: the clock never steps back.

const os = require('node:os');
const { performance } = require('node:perf_hooks');

// How often the host is asked, in time awake: /proc is slow. A program that has just slept may believe the old time for
// so long.
const ASK_EVERY = 5;

// By how much the time since boot is ahead of the time that the host was awake.
let ahead = -Infinity;
let askedAt = -Infinity;

/**
 * /proc/uptime has steps of 10 ms, so the clock may step ahead by that much: a lock then counts as lost a little
 * earlier.
 */
function now() {
  if (performance.now() - askedAt >= ASK_EVERY) ask();
  return performance.now() + ahead;
}

function ask() {
  // Elsewhere os.uptime() follows the date, which somebody may set. It is read first: if this thread is stopped between
  // the two, the difference is too small and is found later; the other way round the clock would be ahead for ever.
  const up = process.platform === 'linux' ? os.uptime() * 1000 : 0;
  askedAt = performance.now();
  ahead = Math.max(ahead, up - askedAt);
}

// The first answer may be old by as long as this thread was stopped. Of some, one is not.
for (let sample = 0; sample < 5; sample += 1) ask();

module.exports = { now };
