//! How a signal finds its listeners, one at a time: the hub asks for the next, tries to send, and says whether that went.
//! An emission may take many turns, while listeners come and go: one that comes may still get the signal, one that has gone
//! does not. Several emissions are under way at a time, and none knows of the others. Invariant: an emission stands at a
//! subscription that exists, or between audiences.

use super::{OF_AUDIENCE, Signals};
use crate::base::list::Linked;
use crate::base::slab::NIL;
use crate::command::SessionId;

/// Emissions that may be under way at a time.
const EMISSIONS: usize = 64;

/// Where a signal is on its way.
#[derive(Default)]
pub(super) struct Emission {
    /// A signal is on its way here.
    is_taken: bool,
    /// Parts of patterns that match the channel so far.
    visits: Vec<Visit>,
    stand: Option<Stand>,
    /// A bit for the slot of each session that has the signal without a group: it gets it once, however many of its
    /// patterns match.
    served: Vec<u64>,
}

impl Emission {
    fn has_served(&self, listener: u32) -> bool {
        let word = self.served.get(listener as usize / 64);
        word.is_some_and(|word| word >> (listener % 64) & 1 == 1)
    }

    fn serve(&mut self, listener: u32) {
        let word = listener as usize / 64;
        if self.served.len() <= word {
            self.served.resize(word + 1, 0);
        }
        self.served[word] |= 1 << (listener % 64);
    }
}

/// A part of a pattern, and where in the channel the parts begin that those below it must match.
struct Visit {
    part: u32,
    serial: u64,
    rest: usize,
}

/// What the parts below a part cost to be found, in fuel.
const LOOKUPS: u32 = 2;

/// All of the channel is matched.
const END: usize = usize::MAX;

#[derive(Clone, Copy)]
struct Stand {
    audience: u32,
    /// The next to try; NIL if there is none.
    member: u32,
    /// In a group, how many are to be tried.
    left: u32,
    /// In a group, the first that had no room, whose turn it was; NIL if it is gone.
    primary: Option<u32>,
}

/// What to do next for a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Send it to this session, and say [`Signals::sent`] or [`Signals::stuck`].
    Offer(SessionId),
    /// Nobody in a group took it: cut off this one, whose turn it was, and ask on.
    Cut(SessionId),
    /// Ask on when there is fuel again.
    Tired,
    /// Everybody was asked.
    Done,
}

impl Signals {
    /// Begins to emit a signal: names the emission, until [`Signals::next`] says that it is done. None if too many are
    /// under way.
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

    /// How many signals have begun to be emitted.
    pub fn emitted(&self) -> u64 {
        self.emitted
    }

    /// What is to be done next for the signal to `channel` that is being emitted. A step costs a unit of fuel, some 100 ns,
    /// or three.
    pub fn next(&mut self, emission: u32, channel: &[u8], fuel: &mut u32) -> Next {
        let at = emission as usize;
        assert!(self.emissions[at].is_taken, "it has begun");
        loop {
            if *fuel == 0 {
                return Next::Tired;
            }
            *fuel -= 1;
            if let Some(stand) = self.emissions[at].stand {
                if let Some(next) = self.ask(at, stand) {
                    return next;
                }
                continue;
            }
            let Some(visit) = self.emissions[at].visits.pop() else {
                self.emissions[at].is_taken = false;
                return Next::Done;
            };
            *fuel = fuel.saturating_sub(LOOKUPS);
            self.visit(at, channel, visit);
        }
    }

    /// The session that was offered the signal has it.
    pub fn sent(&mut self, emission: u32) {
        let at = emission as usize;
        let stand = self.emissions[at].stand.expect("a session was offered it");
        let subscription = &self.subscriptions[stand.member];
        if !self.audiences[stand.audience].is_group() {
            self.emissions[at].serve(subscription.listener);
            return self.step_on(at);
        }
        self.audiences[stand.audience].turn = subscription.next(OF_AUDIENCE);
        self.leave_audience(at, stand);
    }

    /// The session that was offered the signal has no room for it. True if it is to be cut off; else another of its
    /// group is asked first.
    pub fn stuck(&mut self, emission: u32) -> bool {
        let at = emission as usize;
        let stand = self.emissions[at].stand.as_mut();
        let stand = stand.expect("a session was offered it");
        stand.primary.get_or_insert(stand.member);
        let audience = stand.audience;
        self.step_on(at);
        !self.audiences[audience].is_group()
    }

    /// An audience has one member more: where an emission stands there, somebody else might be left out for it.
    pub(super) fn member_added(&mut self, audience: u32) {
        let stands = self.emissions.iter_mut().filter_map(|e| e.stand.as_mut());
        for stand in stands.filter(|stand| stand.audience == audience) {
            stand.left += 1;
        }
    }

    /// The subscription is about to end: no emission stands there any more.
    pub(super) fn pass_over(&mut self, place: u32) {
        for at in 0..self.emissions.len() {
            self.pass_over_in(at, place);
        }
    }

    fn pass_over_in(&mut self, at: usize, place: u32) {
        let Some(stand) = &mut self.emissions[at].stand else {
            return;
        };
        if self.subscriptions[place].audience != stand.audience {
            return;
        }
        if stand.primary == Some(place) {
            stand.primary = Some(NIL);
        }
        let stand = *stand;
        if stand.member == place {
            self.step_on(at);
        }
        if self.audiences[stand.audience].count == 1 {
            self.leave_audience(at, stand);
        }
    }

    /// The audiences and the subscriptions at which emissions stand.
    pub(super) fn stands(&self) -> impl Iterator<Item = (u32, u32)> {
        let stands = self.emissions.iter().filter_map(|e| e.stand);
        stands.map(|stand| (stand.audience, stand.member))
    }

    /// What to do where the emission stands; None if it has stepped on.
    fn ask(&mut self, at: usize, mut stand: Stand) -> Option<Next> {
        let audience = &mut self.audiences[stand.audience];
        let is_group = audience.is_group();
        if is_group && stand.primary.is_none() && stand.member != NIL {
            let first = match audience.turn {
                NIL => audience.members.first,
                turn => turn,
            };
            // Another emission has moved the turn since this one came here.
            if first != stand.member {
                (stand.member, stand.left) = (first, audience.count);
                self.emissions[at].stand = Some(stand);
            }
        }
        if stand.member == NIL || is_group && stand.left == 0 {
            self.leave_audience(at, stand);
            return self.primary(stand).map(Next::Cut);
        }
        let slot = self.subscriptions[stand.member].listener;
        let listener = &self.listeners[slot as usize];
        if listener.leaving || !is_group && self.emissions[at].has_served(slot) {
            if is_group && stand.primary.is_none() {
                let next = self.subscriptions[stand.member].next(OF_AUDIENCE);
                self.audiences[stand.audience].turn = next;
            }
            self.step_on(at);
            return None;
        }
        Some(Next::Offer(listener.id))
    }

    /// In a group in which nobody has room, whose turn it was, if it is still there.
    fn primary(&self, stand: Stand) -> Option<SessionId> {
        let is_group = self.audiences[stand.audience].is_group();
        let place = stand.primary.filter(|&place| is_group && place != NIL)?;
        let listener = &self.listeners[self.subscriptions[place].listener as usize];
        (!listener.leaving).then_some(listener.id)
    }

    /// To the next member; in a group the oldest comes after the youngest.
    fn step_on(&mut self, at: usize) {
        let Some(stand) = &mut self.emissions[at].stand else {
            return;
        };
        let audience = &self.audiences[stand.audience];
        stand.member = self.subscriptions[stand.member].next(OF_AUDIENCE);
        if audience.is_group() {
            stand.left = stand.left.saturating_sub(1);
            if stand.member == NIL {
                stand.member = audience.members.first;
            }
        }
    }

    /// To the next audience of the pattern.
    fn leave_audience(&mut self, at: usize, stand: Stand) {
        let next = self.audiences[stand.audience].next(super::OF_PATTERN);
        self.emissions[at].stand = self.stand_at(next);
    }

    fn stand_at(&self, audience: u32) -> Option<Stand> {
        if audience == NIL {
            return None;
        }
        let of = &self.audiences[audience];
        let member = if of.turn == NIL {
            of.members.first
        } else {
            of.turn
        };
        Some(Stand {
            audience,
            member,
            left: of.count,
            primary: None,
        })
    }

    /// Goes to the audiences of a part at which the channel ends, or on to the parts below it.
    fn visit(&mut self, at: usize, channel: &[u8], visit: Visit) {
        let Visit { part, serial, rest } = visit;
        // It may have been removed, and with it all below it.
        if part != NIL && self.patterns.serial(part) != serial {
            return;
        }
        if rest == END {
            let first = self.patterns.first_audience(part);
            self.emissions[at].stand = self.stand_at(first);
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
