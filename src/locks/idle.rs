//! Idle keys: keys that nobody holds or queues for, in the order in which they became idle. Such a key is kept for
//! listings alone, and binds nobody. It is forgotten after a while, or earlier, the longest idle first, when another key needs the
//! room. Invariant: a key is in this list exactly when it has no ticket; with `max_idle` 0 there are none.

use super::Locks;
use super::key::Idle;
use crate::base::slab::NIL;
use crate::command::Us;

/// Idle keys that may be forgotten in one turn, at some 200 ns each.
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
    /// Makes a key idle if nobody uses it any more.
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

    /// Takes a key out of the list of idle keys, if it is in: it is used again, or forgotten.
    pub(super) fn unlink_idle(&mut self, key: u32) {
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

    /// Makes room for another key, if need be by forgetting the longest idle one. Returns whether there is room: there is
    /// none while as many keys are used as there may be, or more since they were recovered.
    pub(super) fn make_room(&mut self) -> bool {
        if self.keys.len() < self.settings.max_locks {
            return true;
        }
        if self.keys() >= self.settings.max_locks {
            return false;
        }
        let longest = self.idle.first;
        self.unlink_idle(longest);
        self.forget(longest);
        true
    }

    /// Forgets keys that have been idle for long enough, up to a number a turn.
    pub(super) fn forget_some(&mut self) {
        for _ in 0..FORGOTTEN_A_TURN {
            if self.idle_deadline().is_none_or(|due| due > self.now) {
                break;
            }
            let key = self.idle.first;
            self.unlink_idle(key);
            self.forget(key);
        }
    }

    /// When the longest idle key is to be forgotten.
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
