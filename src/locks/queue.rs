//! Tickets and the lists they stand in. A ticket is one wait or one hold; it belongs to a key, perhaps to a
//! session, and has a timer. Invariant: a ticket waits while its fence is 0 and never waits again.

use crate::command::{Token, Us};
use crate::slab::{NIL, Slab};
use crate::wheel::{Link, Timers};

/// One wait or one hold. 64 bytes: a cache line.
pub(super) struct Ticket {
    pub token: Token,
    /// When the wait or the lease ends.
    pub due: Us,
    /// How long the hold lasts once granted.
    pub lease: Us,
    pub key: u32,
    /// The slot of its session in the table of members; NIL once a hold has outlived its session.
    pub member: u32,
    /// Its neighbours among the tickets of its key, and of its session.
    lanes: [Neighbours; 2],
    timer: Link,
}

const _: () = assert!(size_of::<Ticket>() == 64);

/// In [`List`]: the tickets of a key.
pub(super) const OF_KEY: usize = 0;
/// In [`List`]: the tickets of a session.
pub(super) const OF_MEMBER: usize = 1;

#[derive(Clone, Copy)]
struct Neighbours {
    prev: u32,
    next: u32,
}

const NOBODY: Neighbours = Neighbours {
    prev: NIL,
    next: NIL,
};

impl Ticket {
    /// A ticket that waits until `due` and is in no list yet.
    pub fn new(key: u32, member: u32, due: Us, lease: Us) -> Ticket {
        let (token, timer) = (Token::default(), Link::default());
        Ticket {
            token,
            due,
            lease,
            key,
            member,
            lanes: [NOBODY; 2],
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

    /// Whether its timer is filed.
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
        Ticket::new(NIL, NIL, 0, 0)
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

/// The ends of a list of tickets, linked through their neighbours of one lane.
#[derive(Clone, Copy)]
pub(super) struct List<const LANE: usize> {
    pub first: u32,
    pub last: u32,
}

impl<const LANE: usize> Default for List<LANE> {
    fn default() -> Self {
        List {
            first: NIL,
            last: NIL,
        }
    }
}

impl<const LANE: usize> List<LANE> {
    pub fn is_empty(&self) -> bool {
        self.first == NIL
    }

    pub fn push_back(&mut self, tickets: &mut Slab<Ticket>, place: u32) {
        let prev = std::mem::replace(&mut self.last, place);
        tickets[place].lanes[LANE] = Neighbours { prev, next: NIL };
        match prev {
            NIL => self.first = place,
            _ => tickets[prev].lanes[LANE].next = place,
        }
    }

    pub fn push_front(&mut self, tickets: &mut Slab<Ticket>, place: u32) {
        let next = std::mem::replace(&mut self.first, place);
        tickets[place].lanes[LANE] = Neighbours { prev: NIL, next };
        match next {
            NIL => self.last = place,
            _ => tickets[next].lanes[LANE].prev = place,
        }
    }

    pub fn remove(&mut self, tickets: &mut Slab<Ticket>, place: u32) {
        let Neighbours { prev, next } = std::mem::replace(&mut tickets[place].lanes[LANE], NOBODY);
        match prev {
            NIL => self.first = next,
            _ => tickets[prev].lanes[LANE].next = next,
        }
        match next {
            NIL => self.last = prev,
            _ => tickets[next].lanes[LANE].prev = prev,
        }
    }

    /// The places in the list, first to last.
    pub fn places(self, tickets: &Slab<Ticket>) -> impl Iterator<Item = u32> {
        let next = |place: u32| Some(place).filter(|&place| place != NIL);
        std::iter::successors(next(self.first), move |&place| {
            next(tickets[place].lanes[LANE].next)
        })
    }
}
