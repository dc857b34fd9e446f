//! What an answer in slices looks at, and what a slice may cost. Invariant: to look changes nothing.

use super::Snapshot;
use super::agenda::Work;
use crate::command::{Peer, SessionId, Us};
use crate::locks::Locks;
use crate::signals::Signals;

/// What a slice may cost before others have theirs.
pub(super) const SLICE: Work = 1_000;
/// What an entry that is looked at costs.
pub(super) const LOOK: Work = 2;

/// What an answer looks at, and where it finds the peer of a session.
pub(super) struct View<'a, Find> {
    pub now: Us,
    pub locks: &'a Locks,
    pub signals: &'a Signals,
    pub counts: Snapshot,
    pub peer: Find,
}

impl<'a, Find: Fn(SessionId) -> Option<Peer<'a>>> View<'a, Find> {
    /// The peer of a hold's session.
    pub fn peer(&self, of: Option<SessionId>) -> Option<Peer<'a>> {
        of.and_then(&self.peer)
    }
}
