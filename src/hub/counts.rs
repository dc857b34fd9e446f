//! What is counted, read as one snapshot. Each count stands beside what it counts: in the lock table, here, and in the
//! server, which hands its own in at the beginning of a turn. Nothing is counted twice.

use super::Hub;
use crate::command::Us;
use crate::locks;

/// What the server counts, as of the beginning of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Connections that were let in.
    pub accepted: u64,
    /// Connections that were sent away: over a limit, or for want of a descriptor.
    pub turned_away: u64,
    /// The longest turn, in microseconds; 0 unless turns are timed.
    pub longest_turn: Us,
}

/// All counts of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The wall clock at the beginning of the turn, in microseconds since 1970.
    pub wall_us: u64,
    /// The lock table's.
    pub locks: locks::Counts,
    /// Connections whose close is not decided.
    pub connections: usize,
    /// Signals that were sent on to all who listened.
    pub signals: u64,
    /// The server's.
    pub server: Vitals,
}

impl Hub {
    /// The counts as of now.
    pub fn counts(&self) -> Snapshot {
        Snapshot {
            wall_us: self.wall_us,
            locks: self.locks.counts(),
            connections: self.connections,
            signals: self.signals.emitted(),
            server: self.vitals,
        }
    }
}
