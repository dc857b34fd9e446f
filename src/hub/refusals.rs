//! Refusals that an administrator should hear of, counted until the server takes them for its log. Invariant: a kind with
//! a count has the address of the last peer that was refused.

use core::net::SocketAddr;

use super::Hub;
use crate::command::{Refusal, SessionId};

/// What was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// A connection that did not say the right token first, or said a wrong one.
    Token,
    /// A break by a session that is no administrator's.
    Break,
    /// A key over the limit of keys.
    MaxLocks,
    /// A waiter over the limit of a queue.
    MaxWaiters,
    /// A listener that did not take what it was sent: it was cut off.
    Listener,
}

/// All kinds, in the order of their tallies.
const KINDS: [Refused; 5] = [
    Refused::Token,
    Refused::Break,
    Refused::MaxLocks,
    Refused::MaxWaiters,
    Refused::Listener,
];

/// How often something was refused since this was last asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusals {
    /// What.
    pub refused: Refused,
    /// How often, at least once.
    pub count: u64,
    /// The address of the last peer that was refused.
    pub last: Option<SocketAddr>,
}

/// The tallies of all kinds.
#[derive(Default)]
pub(super) struct Tallies {
    tallies: [(u64, Option<SocketAddr>); KINDS.len()],
    any: bool,
    /// Connections that were closed for want of the right token, since the start. On one connection of the REST face
    /// several tokens may be refused.
    untrusted: u64,
}

impl Tallies {
    #[inline]
    pub fn any(&self) -> bool {
        self.any
    }

    /// How many connections were closed for want of the right token.
    pub fn untrusted(&self) -> u64 {
        self.untrusted
    }

    /// A connection is closed for want of the right token.
    pub fn turn_away(&mut self) {
        self.untrusted += 1;
    }

    pub fn note(&mut self, refused: Refused, peer: Option<SocketAddr>) {
        let (count, last) = &mut self.tallies[refused as usize];
        (*count, *last) = (*count + 1, peer);
        self.any = true;
    }

    /// A request is refused; most are mistakes of the client.
    pub fn note_refusal(&mut self, refusal: Refusal, peer: Option<SocketAddr>) {
        match refusal {
            Refusal::MaxLocks => self.note(Refused::MaxLocks, peer),
            Refusal::MaxWaiters => self.note(Refused::MaxWaiters, peer),
            _ => {}
        }
    }
}

impl Hub {
    /// Takes one kind of refusals, if there were any.
    pub fn next_refusals(&mut self) -> Option<Refusals> {
        if !self.refusals.any {
            return None;
        }
        for refused in KINDS {
            let (count, last) = std::mem::take(&mut self.refusals.tallies[refused as usize]);
            if count > 0 {
                return Some(Refusals {
                    refused,
                    count,
                    last,
                });
            }
        }
        self.refusals.any = false;
        None
    }

    /// Ends a session that does not take what it listens to.
    pub(super) fn cut_off(&mut self, id: SessionId) {
        if let Some(slot) = self.find(id)
            && self.sessions[slot].phase.is_open()
        {
            self.refusals
                .note(Refused::Listener, self.sessions[slot].peer);
        }
        self.closed(id);
    }
}
