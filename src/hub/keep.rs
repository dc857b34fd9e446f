//! The facts on their way to a store, and holds on their way back. Invariant: the hub writes for its sessions whether or not
//! the facts are kept; the server sends nothing before they are.

use super::Hub;
use crate::command::Us;
use crate::facts::{Facts, Held, Protection, Unfit};

impl Hub {
    /// Makes a hold of a former life of the server again; see [`Locks::recover`]. To be called before the first turn, for each
    /// hold in the order of their fences.
    ///
    /// # Errors
    /// The lock table cannot have had the hold.
    pub fn recover(&mut self, now: Us, held: &Held) -> Result<(), Unfit> {
        self.locks.recover(now, held)
    }

    /// What has happened to holds since [`Hub::kept`]. No byte of [`Hub::next_write`] may leave before it is kept.
    #[inline(always)]
    pub fn facts(&self) -> &Facts {
        &self.outbox.facts
    }

    /// Holds are kept this well from now on.
    pub fn set_protection(&mut self, protection: Protection) {
        self.protection = protection;
    }

    /// The facts are kept.
    pub fn kept(&mut self) {
        self.outbox.facts.clear();
    }
}
