//! One key: its name and its tickets in order of arrival, the holds before the waits. Strict FIFO makes that
//! one list: a grant only moves the border. Invariant: `held` tickets precede `next`, `waiting` follow from it.

use super::queue::{List, OF_KEY};
use crate::command::Space;
use crate::slab::NIL;

/// One lock or semaphore that is held or queued for. 48 bytes.
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

/// Names of up to this many bytes are kept in the key itself.
const INLINE: usize = 22;

enum Name {
    Inline { len: u8, bytes: [u8; INLINE] },
    Boxed(Box<[u8]>),
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
        match &self.name {
            Name::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Name::Boxed(bytes) => bytes,
        }
    }

    /// How many may hold it at once.
    pub fn limit(&self) -> u32 {
        self.slots.max(1)
    }

    pub fn is(&self, space: Space, name: &[u8]) -> bool {
        self.space() == space && self.name() == name
    }

    /// Nobody holds it, nobody waits: nothing but its name is left.
    pub fn is_idle(&self) -> bool {
        self.held == 0 && self.waiting == 0
    }
}

impl Default for Key {
    fn default() -> Key {
        Key::new(Space::Lock, b"", 1)
    }
}

impl Name {
    fn new(name: &[u8]) -> Name {
        if name.len() > INLINE {
            return Name::Boxed(name.into());
        }
        let mut bytes = [0; INLINE];
        bytes[..name.len()].copy_from_slice(name);
        Name::Inline {
            len: name.len() as u8,
            bytes,
        }
    }
}
