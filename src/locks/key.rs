//! One key: its name, and its tickets in order of arrival, holds before waits. Because the queue is strictly FIFO that
//! is one list, in which a grant only moves the border. Invariant: the first `held` tickets hold, the other `waiting`
//! ones wait, and `next` is the first of these.
//!
//! A key without tickets is idle. It is kept for a while for listings alone, and its words for tickets store its
//! place in the list of idle keys instead.

use super::ticket::OF_KEY;
use crate::base::list::List;
use crate::base::name::Name;
use crate::base::slab::NIL;
use crate::command::{Space, Us};

/// One lock or semaphore. 48 bytes.
pub(super) struct Key {
    name: Name,
    /// The limit of a semaphore; 0 marks a lock.
    slots: u32,
    pub held: u32,
    pub waiting: u32,
    /// The first in the queue, NIL when nobody waits.
    pub next: u32,
    pub tickets: List<OF_KEY>,
}

const _: () = assert!(size_of::<Key>() == 48);

/// The value of `waiting` for a key in the list of idle keys. No queue is that long.
const IDLE: u32 = u32::MAX;

/// A key's place in the list of idle keys.
#[derive(Clone, Copy)]
pub(super) struct Idle {
    pub since: Us,
    pub prev: u32,
    pub next: u32,
}

impl Key {
    pub fn new(space: Space, name: &[u8], limit: u32) -> Key {
        let slots = match space {
            Space::Lock => 0,
            Space::Semaphore => limit,
        };
        Key {
            name: Name::new(name),
            slots,
            held: 0,
            waiting: 0,
            next: NIL,
            tickets: List::default(),
        }
    }

    pub fn space(&self) -> Space {
        if self.slots == 0 {
            Space::Lock
        } else {
            Space::Semaphore
        }
    }

    pub fn name(&self) -> &[u8] {
        self.name.bytes()
    }

    /// How many may hold it at once.
    pub fn limit(&self) -> u32 {
        self.slots.max(1)
    }

    /// The first user of an idle key sets its limit. That of a lock is always 1.
    pub fn set_limit(&mut self, limit: u32) {
        if self.slots > 0 {
            self.slots = limit;
        }
    }

    pub fn is(&self, space: Space, name: &[u8]) -> bool {
        self.space() == space && self.name.is(name)
    }

    /// Whether nobody holds it or waits for it.
    pub fn is_unused(&self) -> bool {
        self.held == 0 && self.waiting == 0
    }

    /// Its place in the list of idle keys, and since when; None if it is not in.
    pub fn idle(&self) -> Option<Idle> {
        (self.waiting == IDLE).then(|| Idle {
            since: u64::from(self.held) << 32 | u64::from(self.next),
            prev: self.tickets.first,
            next: self.tickets.last,
        })
    }

    /// Writes its place in the list of idle keys over the words for its tickets; None clears them.
    pub fn set_idle(&mut self, idle: Option<Idle>) {
        let Some(Idle { since, prev, next }) = idle else {
            (self.held, self.waiting, self.next) = (0, 0, NIL);
            self.tickets = List::default();
            return;
        };
        (self.held, self.next) = ((since >> 32) as u32, since as u32);
        self.waiting = IDLE;
        self.tickets = List {
            first: prev,
            last: next,
        };
    }

    /// Whether the place in the slab holds no key.
    pub fn is_vacant(&self) -> bool {
        self.name().is_empty()
    }
}

impl Default for Key {
    fn default() -> Key {
        Key::new(Space::Lock, b"", 1)
    }
}
