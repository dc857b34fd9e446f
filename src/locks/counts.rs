//! What the lock table counts, and how it is read. Invariant (S11): granted = released + expired + closed + broken +
//! held, between any two commands.

use super::Locks;

/// How holds began and ended, and how often a deadlock was looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Holds that began.
    pub granted: u64,
    /// Holds that a client gave back.
    pub released: u64,
    /// Holds whose lease ended.
    pub expired: u64,
    /// Holds that ended with their session.
    pub closed: u64,
    /// Holds that an administrator ended.
    pub broken: u64,
    /// Holds now.
    pub held: u64,
    /// Renewals by clients, and steps of holds that renew themselves.
    pub renewals: u64,
    /// Deadlocks that were refused.
    pub deadlocks: u64,
    /// Searches for a deadlock.
    pub searches: u64,
    /// Searches that ended because the graph was too large.
    pub searches_cut: u64,
}

impl Locks {
    /// The counts since the table was made.
    pub fn counts(&self) -> Counts {
        let c = self.counts;
        Counts {
            held: c.granted - c.released - c.expired - c.closed - c.broken,
            ..c
        }
    }
}
