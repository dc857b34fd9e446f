//! An index of the holds of semaphores with many slots, by fence and by end. A key with few slots has no entries here:
//! its holds are searched one by one. For other keys a release or an eviction must not cost more the more holds there
//! are. Invariant: an entry for each hold of a key with a limit over `FEW`, under the end that it has now.

use std::collections::BTreeSet;

use crate::base::table::Table;
use crate::command::Us;

/// Up to this limit the holds of a key are searched one by one.
pub(super) const FEW: u32 = 8;

/// Holds of all keys whose limit is over [`FEW`].
#[derive(Default)]
pub(super) struct Crowd {
    /// Tickets by the hash of their fence. The fence itself would not do: fences are consecutive and clients see them,
    /// so a client could keep the holds that make one long run of cells.
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
        assert!(was_in, "a hold is removed once, under the end that it has");
    }

    /// The end of a hold moves.
    pub fn postpone(&mut self, key: u32, from: Us, to: Us, ticket: u32) {
        let was_in = self.by_due.remove(&(key, from, ticket));
        assert!(was_in, "a hold that is renewed is in the index");
        self.by_due.insert((key, to, ticket));
    }

    /// The ticket with this hash for which `is_it` holds. It may be asked about tickets with the same hash and another
    /// fence.
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
