//! What the lock table counts, and how it is read. Invariant (S11): granted + adopted = released + expired + closed +
//! broken + held, between any two commands.

use super::Locks;
use crate::base::histogram::Histogram;
use crate::command::{Refusal, Reply, Us};

/// The bounds of waits in [`Waits::times`]: from a millisecond to five minutes.
pub const WAIT_BOUNDS: [Us; 15] = [
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];

/// How holds began and ended, how waits ended, and how often a deadlock was looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Holds that began.
    pub granted: u64,
    /// Holds of a former life of the server.
    pub adopted: u64,
    /// Grants whose hold was bound by its lease alone from the beginning, except claims.
    pub leased: u64,
    /// Grants of claims.
    pub claimed: u64,
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
    /// Tickets in queues now.
    pub waiting: u64,
    /// Renewals by clients, and steps of holds that renew themselves.
    pub renewals: u64,
    /// Renewals for which there was no such hold.
    pub renewal_failures: u64,
    /// How waits ended, and how long those were that ended well.
    pub waits: Waits,
    /// Deadlocks that were refused.
    pub deadlocks: u64,
    /// Searches for a deadlock.
    pub searches: u64,
    /// Searches that ended because the graph was too large.
    pub searches_cut: u64,
}

/// How waits ended. A wait that would have been a deadlock is in [`Counts::deadlocks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Waits that ended with a grant.
    pub granted: u64,
    /// Waits that took too long.
    pub timeouts: u64,
    /// Waits that were given up: the session is gone, or has taken its request back.
    pub cancelled: u64,
    /// Waits that a drain ended.
    pub drained: u64,
    /// Requests that found the queue full.
    pub refused: u64,
    /// The longest time before a grant.
    pub longest: Us,
    /// The time before each grant. The table adds the grants that did not wait only when it is asked.
    pub times: Histogram<{ WAIT_BOUNDS.len() }>,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits {
            granted: 0,
            timeouts: 0,
            cancelled: 0,
            drained: 0,
            refused: 0,
            longest: 0,
            times: Histogram::new(&WAIT_BOUNDS),
        }
    }
}

impl Waits {
    /// A grant came after so long. Apart from `grant`, because most grants do not wait.
    #[cold]
    pub(super) fn note_time(&mut self, waited: Us) {
        self.times.add(waited, 1);
        self.longest = self.longest.max(waited);
    }

    /// A wait ended with this answer, which is no grant.
    pub(super) fn note_end(&mut self, reply: Reply) {
        match reply {
            Reply::Timeout => self.timeouts += 1,
            Reply::Refused(Refusal::Draining) => self.drained += 1,
            // The search has counted it.
            Reply::Refused(Refusal::Deadlock) => {}
            _ => self.cancelled += 1,
        }
    }
}

impl Locks {
    /// The counts since the table was made.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        counts.held = self.held();
        counts.waiting = self.tickets.len() as u64 - counts.held;
        let times = &mut counts.waits.times;
        times.add(0, counts.granted - times.count());
        counts
    }

    /// How many holds there are.
    pub(super) fn held(&self) -> u64 {
        let c = &self.counts;
        c.granted + c.adopted - c.released - c.expired - c.closed - c.broken
    }

    /// The fence of the last grant; before the first, one less than it will have.
    pub fn fence(&self) -> u64 {
        self.next_fence - 1
    }
}
