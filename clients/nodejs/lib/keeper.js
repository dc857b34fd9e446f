'use strict';
// Watches all locks of one client with one timer, which never keeps the program alive.
// Invariant: each lock is looked at when it asked for it, and within a second after the host has slept.

const clock = require('./clock');

// The timers of Node stand still while the host sleeps, so none is long.
const NAP_MAX = 1_000;

class Keeper {
  #wards = new Set();
  #timer = null;
  #wakeAt = Infinity;

  get wards() {
    return [...this.#wards];
  }

  /** A ward has `wakeAt`, and `look(now)` that is called then. */
  watch(ward) {
    this.#wards.add(ward);
    this.arm(ward.wakeAt, clock.now());
  }

  forget(ward) {
    this.#wards.delete(ward);
  }

  /** Wakes up at `wakeAt` or earlier. */
  arm(wakeAt, now) {
    const soonest = Math.min(wakeAt, now + NAP_MAX);
    if (this.#timer && this.#wakeAt <= soonest) return;
    clearTimeout(this.#timer);
    this.#wakeAt = soonest;
    this.#timer = setTimeout(() => this.#wake(), Math.max(0, Math.ceil(soonest - now)));
    this.#timer.unref();
  }

  #wake() {
    this.#timer = null;
    for (const ward of this.wards) ward.look(clock.now());
    if (this.#wards.size > 0) this.arm(Math.min(...this.wards.map((ward) => ward.wakeAt)), clock.now());
  }
}

module.exports = { Keeper };
