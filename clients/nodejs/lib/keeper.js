'use strict';
// Watches all locks of one client with one timer, which never keeps the program alive.
// Invariant: each lock is looked at when it asked for it, and within a second after the host has slept.

const clock = require('./clock');

// The timers of Node stand still while the host sleeps, so none is long.
const NAP_MAX = 1_000;

class Keeper {
  wards = new Set();
  #timer = null;
  #wakeAt = Infinity;

  /** The ward's `look()` is called at `wakeAt` at the latest, and then when its result says. */
  watch(ward, wakeAt) {
    this.wards.add(ward);
    this.arm(wakeAt);
  }

  forget(ward) {
    this.wards.delete(ward);
  }

  arm(wakeAt) {
    const now = clock.now();
    const soonest = Math.min(wakeAt, now + NAP_MAX);
    if (this.#timer && this.#wakeAt <= soonest) return;
    clearTimeout(this.#timer);
    this.#wakeAt = soonest;
    this.#timer = setTimeout(() => this.#wake(), Math.max(0, soonest - now)).unref();
  }

  #wake() {
    this.#timer = null;
    const wakeAt = [...this.wards]
      .map((ward) => ward.look())
      .reduce((soonest, each) => Math.min(soonest, each), Infinity);
    if (this.wards.size > 0) this.arm(wakeAt);
  }
}

module.exports = { Keeper };
