//! The holds of semaphores with many slots, by fence and by end. Keys with few slots are searched hold by hold and
//! have no entries here; for the others a release or an eviction must not cost what the crowd is large.

use std::collections::BTreeSet;

use crate::base::table::Table;
use crate::command::Us;

/// Up to this limit the holds of a key are searched one by one.
pub(super) const FEW: u32 = 8;

/// Holds of all keys whose limit is over [`FEW`].
#[derive(Default)]
pub(super) struct Crowd {
    /// Ticket by the hash of its fence. Not by the fence itself: those of a crowd are one run, and a client sees which
    /// it gets and chooses which it keeps.
    by_fence: Table,
    /// Key, end of the lease, ticket.
    by_due: BTreeSet<(u32, Us, u32)>,
}

impl Crowd {
    pub fn join(&mut self, key: u32, hash: u32, due: Us, ticket: u32) {
        self.by_fence.insert(hash, ticket);
        self.by_due.insert((key, due, ticket));
    }

    pub fn leave(&mut self, key: u32, hash: u32, due: Us, ticket: u32) {
        self.by_fence.remove(hash, ticket);
        let was_in = self.by_due.remove(&(key, due, ticket));
        assert!(was_in, "a hold leaves once, and with the end it has");
    }

    /// The lease of a hold ends at another time now.
    pub fn postpone(&mut self, key: u32, from: Us, to: Us, ticket: u32) {
        let was_in = self.by_due.remove(&(key, from, ticket));
        assert!(was_in, "only holds are renewed");
        self.by_due.insert((key, to, ticket));
    }

    /// The ticket whose fence has this hash, for which `is_it` holds. May ask about others.
    pub fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.by_fence.find(hash, is_it)
    }

    /// A hold of the key whose lease is over.
    pub fn past_due(&self, key: u32, now: Us) -> Option<u32> {
        self.by_due
            .range((key, 0, 0)..=(key, now, u32::MAX))
            .next()
            .map(|&(_, _, ticket)| ticket)
    }

    pub fn len(&self) -> usize {
        assert_eq!(self.by_fence.len(), self.by_due.len());
        self.by_due.len()
    }
}
