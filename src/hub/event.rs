//! What happened to locks, with the peers that the events name, for a log. Invariant: whoever is named is named as it was
//! when it happened.

use core::net::SocketAddr;

use super::Hub;
use crate::command::{Peer, SessionId};
use crate::locks::Event;

/// A peer, also when its session is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Somebody {
    /// Its address.
    pub addr: SocketAddr,
    /// The name in its certificate, if it has shown one.
    pub name: Option<Box<str>>,
}

impl From<Peer<'_>> for Somebody {
    fn from(peer: Peer) -> Somebody {
        Somebody {
            addr: peer.addr,
            name: peer.name.map(Box::from),
        }
    }
}

/// An event of the lock table, and those that it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Happened {
    /// What happened.
    pub event: Event,
    /// Who the holder is, if its hold has a session.
    pub peer: Option<Somebody>,
    /// Whose session ended the hold, if one did.
    pub by: Option<Somebody>,
}

impl Hub {
    /// Takes the oldest event of the lock table that was noted. It must be taken before the turn ends, while the sessions
    /// that it names are there.
    pub fn next_event(&mut self) -> Option<Happened> {
        let event = self.locks.take_event()?;
        let (session, by) = match &event {
            Event::Granted { hold, .. } | Event::Kept { hold, .. } => (hold.session, None),
            Event::Ended { hold, by, .. } => (hold.session, Some(*by)),
            Event::Broken { by, .. } => (SessionId::NOBODY, Some(*by)),
        };
        let peer = |id: SessionId| {
            let peer = self.sessions[self.find(id)?].peer();
            peer.map(Somebody::from)
        };
        let by = by.and_then(|id| peer(id).or_else(|| self.breaker(id)));
        let peer = peer(session);
        if let Event::Broken { by, .. } = event {
            self.breakers.retain(|breaker| breaker.0 != by);
        }
        Some(Happened { event, peer, by })
    }

    /// Notes the first holds of sessions as [`Event::Kept`]. It looks at all: for the end of the server.
    pub fn note_kept(&mut self) {
        self.locks.note_kept();
    }
}
