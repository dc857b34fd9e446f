//! What an answer in slices looks at, and what a slice may cost. Invariant: to look changes nothing.

use core::net::SocketAddr;

use super::Snapshot;
use super::agenda::Work;
use crate::command::{SessionId, Us};
use crate::locks::Locks;
use crate::signals::Signals;

/// What a slice may cost before others have theirs.
pub(super) const SLICE: Work = 1_000;
/// What an entry that is looked at costs.
pub(super) const LOOK: Work = 2;

/// What an answer looks at, and where it finds the address of a session's peer.
pub(super) struct View<'a, Peer> {
    pub now: Us,
    pub locks: &'a Locks,
    pub signals: &'a Signals,
    pub counts: Snapshot,
    pub peer: Peer,
}

impl<Peer: Fn(SessionId) -> Option<SocketAddr>> View<'_, Peer> {
    /// The address of the peer of a hold's session.
    pub fn peer(&self, of: Option<SessionId>) -> Option<SocketAddr> {
        of.and_then(&self.peer)
    }
}
