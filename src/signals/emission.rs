//! How a signal finds its listeners, one at a time: whoever emits asks for the next, tries to send, and says whether that
//! went. There is one emission at a time, so all listeners hear all signals in the same order. It may take many turns,
//! while listeners come and go: one that comes may still get it, one that has gone does not. Invariant: the emission
//! stands at a subscription that exists, or between audiences.

use super::{OF_AUDIENCE, Signals};
use crate::base::list::Linked;
use crate::base::slab::NIL;
use crate::command::SessionId;

/// Where a signal is on its way.
#[derive(Default)]
pub(super) struct Emission {
    /// Counts signals.
    number: u64,
    /// Parts of patterns that match the channel so far.
    visits: Vec<Visit>,
    stand: Option<Stand>,
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
    /// Begins to emit a signal; the one before is done.
    pub fn emit(&mut self) {
        let Emission {
            number,
            visits,
            stand,
        } = &mut self.emission;
        assert!(visits.is_empty() && stand.is_none(), "one at a time");
        *number += 1;
        visits.push(Visit {
            part: NIL,
            serial: 0,
            rest: 0,
        });
    }

    /// What is to be done next for the signal to `channel` that is being emitted. A step costs a unit of fuel, some 100 ns,
    /// or three.
    pub fn next(&mut self, channel: &[u8], fuel: &mut u32) -> Next {
        loop {
            if *fuel == 0 {
                return Next::Tired;
            }
            *fuel -= 1;
            if let Some(stand) = self.emission.stand {
                if let Some(next) = self.ask(stand) {
                    return next;
                }
                continue;
            }
            let Some(visit) = self.emission.visits.pop() else {
                return Next::Done;
            };
            *fuel = fuel.saturating_sub(LOOKUPS);
            self.visit(channel, visit);
        }
    }

    /// The session that was offered the signal has it.
    pub fn sent(&mut self) {
        let stand = self.emission.stand.expect("somebody was offered it");
        let subscription = &self.subscriptions[stand.member];
        if !self.audiences[stand.audience].is_group() {
            self.listeners[subscription.listener as usize].served = self.emission.number;
            return self.step_on();
        }
        self.audiences[stand.audience].turn = subscription.next(OF_AUDIENCE);
        self.leave_audience(stand);
    }

    /// The session that was offered the signal has no room for it. True if it is to be cut off; else another of its
    /// group is asked first.
    pub fn stuck(&mut self) -> bool {
        let stand = (self.emission.stand.as_mut()).expect("somebody was offered it");
        stand.primary.get_or_insert(stand.member);
        let audience = stand.audience;
        self.step_on();
        !self.audiences[audience].is_group()
    }

    /// An audience has one member more: where the emission stands there, somebody else might be left out for it.
    pub(super) fn let_in(&mut self, audience: u32) {
        if let Some(stand) = &mut self.emission.stand
            && stand.audience == audience
        {
            stand.left += 1;
        }
    }

    /// The subscription is about to end: the emission does not stand there any more.
    pub(super) fn pass_over(&mut self, place: u32) {
        let Some(stand) = &mut self.emission.stand else {
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
            self.step_on();
        }
        if self.audiences[stand.audience].count == 1 {
            self.leave_audience(stand);
        }
    }

    /// The audience and the subscription at which the emission stands.
    pub(super) fn stand(&self) -> Option<(u32, u32)> {
        let stand = self.emission.stand?;
        Some((stand.audience, stand.member))
    }

    /// What to do where the emission stands; None if it has stepped on.
    fn ask(&mut self, stand: Stand) -> Option<Next> {
        let audience = &self.audiences[stand.audience];
        let is_group = audience.is_group();
        if stand.member == NIL || is_group && stand.left == 0 {
            self.leave_audience(stand);
            return self.primary(stand).map(Next::Cut);
        }
        let listener = &self.listeners[self.subscriptions[stand.member].listener as usize];
        if listener.leaving || !is_group && listener.served == self.emission.number {
            self.step_on();
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
    fn step_on(&mut self) {
        let Some(stand) = &mut self.emission.stand else {
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
    fn leave_audience(&mut self, stand: Stand) {
        self.emission.stand = self.stand_at(self.audiences[stand.audience].next(super::OF_PATTERN));
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
    fn visit(&mut self, channel: &[u8], visit: Visit) {
        let Visit { part, serial, rest } = visit;
        // It may have been removed, and with it all below it.
        if part != NIL && self.patterns.serial(part) != serial {
            return;
        }
        if rest == END {
            self.emission.stand = self.stand_at(self.patterns.first_audience(part));
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
                self.emission.visits.push(Visit { part, serial, rest });
            }
        }
    }
}
