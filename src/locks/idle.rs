//! Keys that nobody uses, in the order in which they fell idle. Their state is a cache: it goes after a while, or
//! when another key needs the place, the longest idle first. Invariant: a key is in this list exactly when it has
//! no ticket, unless idle keys are not kept at all.

use super::Locks;
use super::key::Idle;
use crate::base::slab::NIL;
use crate::command::Us;

/// Idle keys that may be forgotten in one turn, at some 200 ns.
const FORGOTTEN_A_TURN: u32 = 5000;

/// The ends of the list of idle keys.
#[derive(Clone, Copy)]
pub(super) struct IdleKeys {
    first: u32,
    last: u32,
    pub count: usize,
}

impl Default for IdleKeys {
    fn default() -> IdleKeys {
        IdleKeys {
            first: NIL,
            last: NIL,
            count: 0,
        }
    }
}

impl Locks {
    /// A key that nobody uses any more becomes idle.
    pub(super) fn retire_if_unused(&mut self, key: u32) {
        if !self.keys[key].is_unused() {
            return;
        }
        if self.settings.max_idle == 0 {
            return self.forget(key);
        }
        let prev = std::mem::replace(&mut self.idle.last, key);
        self.keys[key].set_idle(Some(Idle {
            since: self.now,
            prev,
            next: NIL,
        }));
        match prev {
            NIL => self.idle.first = key,
            _ => self.relink(prev, |idle| idle.next = key),
        }
        self.idle.count += 1;
    }

    /// An idle key is used again, or goes.
    pub(super) fn revive(&mut self, key: u32) {
        let Some(Idle { prev, next, .. }) = self.keys[key].idle() else {
            return;
        };
        match prev {
            NIL => self.idle.first = next,
            _ => self.relink(prev, |idle| idle.next = next),
        }
        match next {
            NIL => self.idle.last = prev,
            _ => self.relink(next, |idle| idle.prev = prev),
        }
        self.keys[key].set_idle(None);
        self.idle.count -= 1;
    }

    /// Makes room for another key at the cost of the longest idle one. Returns whether there is room.
    pub(super) fn make_room(&mut self) -> bool {
        if self.keys.len() < self.settings.max_locks {
            return true;
        }
        let longest = self.idle.first;
        if longest == NIL {
            return false;
        }
        self.revive(longest);
        self.forget(longest);
        true
    }

    /// Forgets keys that were idle for long enough.
    pub(super) fn forget_some(&mut self) {
        for _ in 0..FORGOTTEN_A_TURN {
            if self.idle_deadline().is_none_or(|due| due > self.now) {
                break;
            }
            let key = self.idle.first;
            self.revive(key);
            self.forget(key);
        }
    }

    /// When the longest idle key goes.
    pub(super) fn idle_deadline(&self) -> Option<Us> {
        let first = self.idle.first;
        let idle = (first != NIL).then(|| self.keys[first].idle())??;
        Some(idle.since.saturating_add(self.settings.max_idle))
    }

    fn forget(&mut self, key: u32) {
        let hash = self.hash_of(key);
        self.table.remove(hash, key);
        self.keys.remove(key);
    }

    fn relink(&mut self, key: u32, change: impl FnOnce(&mut Idle)) {
        let mut idle = self.keys[key].idle().expect("the list has idle keys only");
        change(&mut idle);
        self.keys[key].set_idle(Some(idle));
    }
}
