//! A ticket is one wait or one hold. It is linked into the list of its key and of its session or owner, and into the
//! timer wheel; it knows none of these. Invariant: a ticket waits while its fence is 0; once granted it never waits
//! again.

use crate::base::list::{Linked, Neighbours};
use crate::base::slab::{NIL, Slab};
use crate::base::wheel::{Link, Timers};
use crate::command::{Token, Us};

/// One wait or one hold. 72 bytes.
pub(super) struct Ticket {
    pub token: Token,
    /// When the wait or the lease ends.
    pub due: Us,
    /// Since when it waits, or is held.
    pub since: Us,
    /// How long the hold will last after its grant.
    pub lease: Us,
    pub key: u32,
    /// The slot of its session. For a hold without a session: its owner as `owner.rs` encodes it, or NIL.
    pub member: u32,
    /// Its neighbours in the list of its key, and in that of its session or owner.
    lanes: [Neighbours; 2],
    timer: Link,
}

const _: () = assert!(size_of::<Ticket>() == 72);

/// The lane of [`List`] for the tickets of a key.
pub(super) const OF_KEY: usize = 0;
/// The lane of [`List`] for the tickets of a session or owner.
pub(super) const OF_MEMBER: usize = 1;

impl Ticket {
    /// A ticket that waits from now on and is in no list yet.
    pub fn new(now: Us, key: u32, member: u32, lease: Us) -> Ticket {
        let (token, timer) = (Token::default(), Link::default());
        Ticket {
            token,
            due: 0,
            since: now,
            lease,
            key,
            member,
            lanes: [Neighbours::default(); 2],
            timer,
        }
    }

    pub fn waits(&self) -> bool {
        self.token.fence == 0
    }

    /// Whether the place in the slab holds no ticket.
    pub fn is_vacant(&self) -> bool {
        self.key == NIL
    }

    /// Whether it is in the timer wheel.
    pub fn is_timed(&self) -> bool {
        self.timer.is_filed()
    }

    /// The ticket behind this one in the list of its key.
    pub fn behind(&self) -> u32 {
        self.lanes[OF_KEY].next
    }
}

impl Default for Ticket {
    fn default() -> Ticket {
        Ticket::new(0, NIL, NIL, 0)
    }
}

impl Linked for Ticket {
    #[inline(always)]
    fn lane(&mut self, lane: usize) -> &mut Neighbours {
        &mut self.lanes[lane]
    }

    #[inline(always)]
    fn next(&self, lane: usize) -> u32 {
        self.lanes[lane].next
    }
}

impl Timers for Slab<Ticket> {
    fn link(&mut self, place: u32) -> &mut Link {
        &mut self[place].timer
    }

    fn due(&self, place: u32) -> Us {
        self[place].due
    }
}
