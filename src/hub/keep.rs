//! The facts on their way to a store, and holds on their way back. A store that needs time takes the facts in batches, one
//! at a time; meanwhile the tables run ahead of it, and outputs are held back. Invariant: no byte of an answer that
//! tells of a hold is handed out before the facts that were there when it was written are kept.

use super::Hub;
use crate::command::{SessionId, Us};
use crate::facts::{Facts, Held, Protection, Unfit};

/// Sessions whose output is held back.
#[derive(Default)]
pub(super) struct HeldBack {
    /// A batch is in flight.
    pub has_batch: bool,
    /// Sessions whose marked output goes when that is kept.
    marked: Vec<SessionId>,
    /// Sessions with output behind facts that no batch has yet.
    waiting: Vec<SessionId>,
}

impl Hub {
    /// Makes a hold of a former life of the server again; see [`Locks::recover`]. To be called before the first turn, for each
    /// hold in the order of their fences.
    ///
    /// # Errors
    /// The lock table cannot have had the hold.
    pub fn recover(&mut self, now: Us, held: &Held) -> Result<(), Unfit> {
        self.locks.recover(now, held)
    }

    /// What has happened to holds since [`Hub::kept`] or [`Hub::cut`].
    #[inline(always)]
    pub fn facts(&self) -> &Facts {
        &self.outbox.facts
    }

    /// Holds are kept this well from now on.
    pub fn set_protection(&mut self, protection: Protection) {
        self.protection = protection;
    }

    /// All facts so far are kept: by a store that is done when its call returns.
    pub fn kept(&mut self) {
        debug_assert!(!self.held_back.has_batch, "a batch is kept by itself");
        self.outbox.facts.clear();
    }

    /// Appends all facts so far to `batch`, which is in flight from now on. What is written until the next facts waits for
    /// it alone.
    ///
    /// # Panics
    /// Another one is in flight.
    pub fn cut(&mut self, batch: &mut Vec<u8>) {
        assert!(!self.held_back.has_batch, "one batch at a time");
        self.held_back.has_batch = true;
        batch.extend_from_slice(self.outbox.facts.bytes());
        self.outbox.facts.clear();
        for id in std::mem::take(&mut self.held_back.waiting) {
            if let Some(slot) = self.find(id) {
                self.sessions[slot].waits = false;
                self.mark(slot);
            }
        }
    }

    /// Whether a batch is in flight.
    pub fn has_batch(&self) -> bool {
        self.held_back.has_batch
    }

    /// The batch in flight is kept: what waited for it alone may go.
    pub fn batch_kept(&mut self) {
        assert!(
            std::mem::take(&mut self.held_back.has_batch),
            "there is one"
        );
        for id in std::mem::take(&mut self.held_back.marked) {
            if let Some(slot) = self.find(id) {
                self.sessions[slot].outlet.free_marked();
                self.mark_dirty(slot);
            }
        }
    }

    /// Whether no output needs to be held back.
    #[inline(always)]
    pub(super) fn is_all_kept(&self) -> bool {
        self.outbox.facts.is_empty() && !self.held_back.has_batch
    }

    /// What is new in the output of this session waits for the facts that are there.
    #[cold]
    pub(super) fn hold_back(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if !session.outlet.is_held_back() {
            return;
        }
        if self.outbox.facts.is_empty() {
            self.mark(slot);
        } else if !std::mem::replace(&mut session.waits, true) {
            self.held_back.waiting.push(session.id);
        }
    }

    fn mark(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if session.outlet.is_held_back() && session.outlet.mark() {
            self.held_back.marked.push(session.id);
        }
    }
}
