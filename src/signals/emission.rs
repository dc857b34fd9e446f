//! How a signal finds its listeners, one at a time: the hub asks for the next one, tries to send, and reports the
//! outcome. An emission may take many turns, while listeners come and go: a new listener may still get the signal, one
//! that has gone does not. Several emissions may be under way, and none knows of the others. Invariant: the cursor of
//! an emission is at a subscription that exists, or between audiences.

use super::{OF_AUDIENCE, Signals};
use crate::base::list::Linked;
use crate::base::slab::NIL;
use crate::command::SessionId;

/// Emissions that may be under way at a time.
const EMISSIONS: usize = 64;

/// Room for bits that an emission keeps for the next one.
const KEEP_WORDS: usize = 64;

/// The progress of one signal.
#[derive(Default)]
pub(super) struct Emission {
    /// False in a free place.
    is_taken: bool,
    /// Parts of patterns that match the channel so far and are not looked at yet.
    visits: Vec<Visit>,
    cursor: Option<Cursor>,
    /// A bit for the slot of each session that has got the signal without a group: it gets it once, however many of its
    /// patterns match.
    served: Vec<u64>,
}

impl Emission {
    /// It is over; what it remembers of a crowd is not kept.
    fn end(&mut self) {
        self.is_taken = false;
        if self.served.len() > KEEP_WORDS {
            self.served = Vec::new();
        }
    }

    fn has_served(&self, listener: u32) -> bool {
        let word = self.served.get(listener as usize / 64);
        word.is_some_and(|word| word >> (listener % 64) & 1 == 1)
    }

    fn mark_served(&mut self, listener: u32) {
        let word = listener as usize / 64;
        if self.served.len() <= word {
            self.served.resize(word + 1, 0);
        }
        self.served[word] |= 1 << (listener % 64);
    }
}

/// A part of a pattern that matches the channel up to `rest`: parts below it must match from there on.
struct Visit {
    part: u32,
    serial: u64,
    rest: usize,
}

/// The cost of the look-up of the parts below a part, in fuel.
const LOOKUPS: u32 = 2;

/// The `rest` of a visit whose part matches the channel to its end.
const END: usize = usize::MAX;

/// The place of an emission among the listeners.
#[derive(Clone, Copy)]
struct Cursor {
    audience: u32,
    /// The next subscription to try; NIL if there is none.
    member: u32,
    /// In a group: how many of it are still to be tried.
    left: u32,
    /// In a group: the first that had no room, whose turn it was; NIL if it is gone.
    primary: Option<u32>,
}

/// What the hub must do next for a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Send it to this session, then call [`Signals::sent`] or [`Signals::stuck`].
    Offer(SessionId),
    /// No member of a group had room: cut off this session, whose turn it was, then ask again.
    Cut(SessionId),
    /// The fuel is spent: ask again when there is more.
    OutOfFuel,
    /// Every listener was asked, and the emission is over.
    Done,
}

impl Signals {
    /// Begins to emit a signal. Returns the number of the emission, valid until [`Signals::next`] says that it is done;
    /// None if too many are under way.
    pub fn emit(&mut self) -> Option<u32> {
        let free = self.emissions.iter().position(|e| !e.is_taken);
        let place = match free {
            Some(place) => place,
            None if self.emissions.len() < EMISSIONS => {
                self.emissions.push(Emission::default());
                self.emissions.len() - 1
            }
            None => return None,
        };
        let emission = &mut self.emissions[place];
        emission.is_taken = true;
        emission.served.clear();
        emission.visits.push(Visit {
            part: NIL,
            serial: 0,
            rest: 0,
        });
        self.emitted += 1;
        Some(place as u32)
    }

    /// How many emissions have begun since the start.
    pub fn emitted(&self) -> u64 {
        self.emitted
    }

    /// What to do next for the signal to `channel` of this emission. Takes 1 to 3 units of fuel a step, some 100 ns
    /// each.
    pub fn next(&mut self, emission: u32, channel: &[u8], fuel: &mut u32) -> Next {
        let at = emission as usize;
        assert!(self.emissions[at].is_taken, "the emission is under way");
        loop {
            if *fuel == 0 {
                return Next::OutOfFuel;
            }
            *fuel -= 1;
            if let Some(cursor) = self.emissions[at].cursor {
                if let Some(next) = self.ask(at, cursor) {
                    return next;
                }
                continue;
            }
            let Some(visit) = self.emissions[at].visits.pop() else {
                self.emissions[at].end();
                return Next::Done;
            };
            *fuel = fuel.saturating_sub(LOOKUPS);
            self.visit(at, channel, visit);
        }
    }

    /// The session that was offered the signal has got it.
    pub fn sent(&mut self, emission: u32) {
        let at = emission as usize;
        let cursor = self.emissions[at]
            .cursor
            .expect("a session was offered the signal");
        let subscription = &self.subscriptions[cursor.member];
        if !self.audiences[cursor.audience].is_group() {
            self.emissions[at].mark_served(subscription.listener);
            return self.advance(at);
        }
        self.audiences[cursor.audience].turn = subscription.next(OF_AUDIENCE);
        self.leave_audience(at, cursor);
    }

    /// The session that was offered the signal has no room for it. True if it must be cut off now. False in a group,
    /// where the others are tried first.
    pub fn stuck(&mut self, emission: u32) -> bool {
        let at = emission as usize;
        let cursor = self.emissions[at].cursor.as_mut();
        let cursor = cursor.expect("a session was offered the signal");
        cursor.primary.get_or_insert(cursor.member);
        let audience = cursor.audience;
        self.advance(at);
        !self.audiences[audience].is_group()
    }

    /// An audience has a new member. An emission that is at this audience tries one more, or the new member could take
    /// the turn of an older one.
    pub(super) fn member_added(&mut self, audience: u32) {
        let cursors = self.emissions.iter_mut().filter_map(|e| e.cursor.as_mut());
        for cursor in cursors.filter(|cursor| cursor.audience == audience) {
            cursor.left += 1;
        }
    }

    /// A subscription is about to end: moves all cursors off it.
    pub(super) fn move_off(&mut self, place: u32) {
        for at in 0..self.emissions.len() {
            self.move_one_off(at, place);
        }
    }

    fn move_one_off(&mut self, at: usize, place: u32) {
        let Some(cursor) = &mut self.emissions[at].cursor else {
            return;
        };
        if self.subscriptions[place].audience != cursor.audience {
            return;
        }
        if cursor.primary == Some(place) {
            cursor.primary = Some(NIL);
        }
        let cursor = *cursor;
        if cursor.member == place {
            self.advance(at);
        }
        if self.audiences[cursor.audience].count == 1 {
            self.leave_audience(at, cursor);
        }
    }

    /// Where the emissions are: an audience and a subscription each.
    pub(super) fn cursors(&self) -> impl Iterator<Item = (u32, u32)> {
        let cursors = self.emissions.iter().filter_map(|e| e.cursor);
        cursors.map(|cursor| (cursor.audience, cursor.member))
    }

    /// What to do for the listener at the cursor; None if the cursor has moved on.
    fn ask(&mut self, at: usize, mut cursor: Cursor) -> Option<Next> {
        let audience = &mut self.audiences[cursor.audience];
        let is_group = audience.is_group();
        if is_group && cursor.primary.is_none() && cursor.member != NIL {
            let first = match audience.turn {
                NIL => audience.members.first,
                turn => turn,
            };
            // Another emission has moved the turn since this one came here.
            if first != cursor.member {
                (cursor.member, cursor.left) = (first, audience.count);
                self.emissions[at].cursor = Some(cursor);
            }
        }
        if cursor.member == NIL || is_group && cursor.left == 0 {
            self.leave_audience(at, cursor);
            return self.primary(cursor).map(Next::Cut);
        }
        let slot = self.subscriptions[cursor.member].listener;
        let listener = &self.listeners[slot as usize];
        if listener.leaving || !is_group && self.emissions[at].has_served(slot) {
            if is_group && cursor.primary.is_none() {
                let next = self.subscriptions[cursor.member].next(OF_AUDIENCE);
                self.audiences[cursor.audience].turn = next;
            }
            self.advance(at);
            return None;
        }
        Some(Next::Offer(listener.id))
    }

    /// The session whose turn it was in a group in which nobody had room, if it still listens.
    fn primary(&self, cursor: Cursor) -> Option<SessionId> {
        let is_group = self.audiences[cursor.audience].is_group();
        let place = cursor.primary.filter(|&place| is_group && place != NIL)?;
        let listener = &self.listeners[self.subscriptions[place].listener as usize];
        (!listener.leaving).then_some(listener.id)
    }

    /// Moves the cursor to the next member; in a group the oldest comes after the newest.
    fn advance(&mut self, at: usize) {
        let Some(cursor) = &mut self.emissions[at].cursor else {
            return;
        };
        let audience = &self.audiences[cursor.audience];
        cursor.member = self.subscriptions[cursor.member].next(OF_AUDIENCE);
        if audience.is_group() {
            cursor.left = cursor.left.saturating_sub(1);
            if cursor.member == NIL {
                cursor.member = audience.members.first;
            }
        }
    }

    /// Moves the cursor to the next audience of the pattern.
    fn leave_audience(&mut self, at: usize, cursor: Cursor) {
        let next = self.audiences[cursor.audience].next(super::OF_PATTERN);
        self.emissions[at].cursor = self.cursor_at(next);
    }

    fn cursor_at(&self, audience: u32) -> Option<Cursor> {
        if audience == NIL {
            return None;
        }
        let of = &self.audiences[audience];
        let member = if of.turn == NIL {
            of.members.first
        } else {
            of.turn
        };
        Some(Cursor {
            audience,
            member,
            left: of.count,
            primary: None,
        })
    }

    /// Moves the cursor to the audiences of a part that matches the whole channel, or notes the parts below it that
    /// match.
    fn visit(&mut self, at: usize, channel: &[u8], visit: Visit) {
        let Visit { part, serial, rest } = visit;
        // The part may have been removed since, and with it all below it.
        if part != NIL && self.patterns.serial(part) != serial {
            return;
        }
        if rest == END {
            let first = self.patterns.first_audience(part);
            self.emissions[at].cursor = self.cursor_at(first);
            return;
        }
        let left = &channel[rest..];
        let (name, below) = match left.iter().position(|&byte| byte == b'.') {
            Some(dot) => (&left[..dot], rest + dot + 1),
            None => (left, END),
        };
        for (name, rest) in [(&b">"[..], END), (b"*", below), (name, below)] {
            if let Some(part) = self.patterns.child(&self.hash, part, name) {
                let serial = self.patterns.serial(part);
                self.emissions[at].visits.push(Visit { part, serial, rest });
            }
        }
    }
}
