//! What happened to holds, for a log: who got a lock, who lost it, and why. The table notes all of it only if it is told
//! to; that holds were broken it notes in any case. Invariant: an event tells of a hold as it was at that moment, and
//! never has a token.

use super::Locks;
use super::ticket::Ticket;
use crate::command::{SessionId, Space, Us};

/// Holds of one break that are noted though not all events are.
const BROKEN_NOTED: u64 = 20;
/// Holds that are noted when a drain begins, and when it ends.
pub(super) const KEPT_NOTED: u32 = 20;

/// What ended a hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// A client gave it back.
    Released,
    /// Its lease is over.
    Expired,
    /// Its session is gone.
    Closed,
    /// An administrator ended it.
    Broken,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A hold began.
    Granted {
        /// The hold.
        hold: Hold,
        /// How long it had waited, from its request or its enqueue.
        waited: Us,
    },
    /// A hold ended.
    Ended {
        /// The hold.
        hold: Hold,
        /// What ended it.
        end: End,
        /// How long it was held.
        held: Us,
        /// The session that ended it, if one did.
        by: SessionId,
    },
    /// A drain begins or ends, and this is still held.
    Kept {
        /// The hold.
        hold: Hold,
        /// For how long it has been held.
        held: Us,
    },
    /// An administrator has broken a key. The holds, if they are not too many, were noted before.
    Broken {
        /// The space of the key.
        space: Space,
        /// Its name, any bytes.
        key: Vec<u8>,
        /// How many holds were ended.
        holds: u64,
        /// The administrator's session.
        by: SessionId,
    },
}

/// A hold, as an event names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    /// The space of its key.
    pub space: Space,
    /// The name of its key, any bytes.
    pub key: Vec<u8>,
    /// Its fence.
    pub fence: u64,
    /// Its owner, if that was declared.
    pub owner: Option<Vec<u8>>,
    /// Its session; [`SessionId::NOBODY`] if it has none.
    pub session: SessionId,
}

impl Locks {
    /// Whether there is a deadlock or an event that was not taken yet.
    #[inline]
    pub fn has_news(&self) -> bool {
        !self.knots.is_empty() || !self.events.is_empty()
    }

    /// Takes the oldest event that was noted.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Notes the first holds that are bound to a session. It looks at all tickets: for the end of the server.
    pub fn note_kept(&mut self) {
        let mut noted = 0;
        for place in 0..self.tickets.places() {
            if noted < KEPT_NOTED && self.is_kept(place) {
                self.note_kept_at(place);
                noted += 1;
            }
        }
    }

    /// Whether there is a hold at this place that its session still has.
    pub(super) fn is_kept(&self, place: u32) -> bool {
        let ticket = &self.tickets[place];
        !ticket.is_vacant() && !ticket.waits() && self.members.get(ticket.member as usize).is_some()
    }

    pub(super) fn note_kept_at(&mut self, place: u32) {
        let (hold, held) = (self.hold_at(place), self.age(place));
        self.events.push_back(Event::Kept { hold, held });
    }

    /// The ticket has just been granted; it had waited since `since`.
    #[inline]
    pub(super) fn note_grant(&mut self, place: u32, since: Us) {
        if self.settings.log {
            let (hold, waited) = (self.hold_at(place), self.now - since);
            self.events.push_back(Event::Granted { hold, waited });
        }
    }

    /// The hold is about to end.
    #[inline]
    pub(super) fn note_end(&mut self, place: u32, end: End, by: SessionId) {
        if self.settings.log || end == End::Broken && self.broken < BROKEN_NOTED {
            let (hold, held) = (self.hold_at(place), self.age(place));
            let event = Event::Ended {
                hold,
                end,
                held,
                by,
            };
            self.events.push_back(event);
        }
    }

    /// How long the ticket has held, or waited.
    pub(super) fn age(&self, place: u32) -> Us {
        self.now - self.tickets[place].since
    }

    fn hold_at(&self, place: u32) -> Hold {
        let Ticket {
            key, member, token, ..
        } = self.tickets[place];
        let session = self.members.get(member as usize);
        Hold {
            space: self.keys[key].space(),
            key: self.keys[key].name().to_vec(),
            fence: token.fence,
            owner: self.owner_name(member).map(<[u8]>::to_vec),
            session: session.map_or(SessionId::NOBODY, |member| member.id),
        }
    }
}
