'use strict';
// Milliseconds since the boot of the host. On Linux they go on while the host sleeps, as the server's own clock does; timers
// and performance.now() of Node do not. Invariant: the clock never steps back.

const os = require('node:os');
const { performance } = require('node:perf_hooks');

const started = performance.now();
// Elsewhere os.uptime() follows the date, which somebody may set.
const upAtStart = process.platform === 'linux' ? os.uptime() * 1000 : started;
let slept = 0;

/** /proc/uptime has steps of 10 ms, so the clock may step ahead by that much once: a lock then counts as lost a little earlier. */
function now() {
  const awake = performance.now() - started;
  if (process.platform === 'linux') slept = Math.max(slept, os.uptime() * 1000 - upAtStart - awake);
  return upAtStart + awake + slept;
}

module.exports = { now };
