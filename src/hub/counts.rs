//! What is counted, read as one snapshot. Each count stands beside what it counts: in the lock
//! table, here, and in the server, which hands its own in when they are asked for. Nothing is counted twice.

use super::Hub;
use super::Standing;
#[cfg(feature = "http")]
use super::answer_counts::AnswerCounts;
use crate::base::histogram::Histogram;
use crate::command::Us;
use crate::facts::Protection;
use crate::locks;
use crate::wire::Face;

/// The bounds of the lengths of turns: from 50 us to a second.
const TURN_BOUNDS: [Us; 12] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000,
];

/// What the server counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Connections that were sent away because there were too many.
    pub over_limit: u64,
    /// Connections that were sent away because there were too many from their address.
    pub over_limit_per_ip: u64,
    /// Connections that were sent away for want of a descriptor.
    pub out_of_files: u64,
    /// How often the server had to stop accepting connections for a while.
    pub accept_stalls: u64,
    /// How often the process stood still.
    pub clock_gaps: u64,
    /// When the server started, in microseconds since 1970.
    pub started_unix_us: u64,
    /// Bytes of memory in use, if the system says so.
    pub memory: Option<u64>,
    /// Files that are open, if that is known.
    pub files: Option<u64>,
    /// Handshakes of TLS that have failed.
    pub failed_handshakes: u64,
    /// When the certificate ends, in seconds since 1970; 0 if there is none.
    pub certificate_end_s: u64,
}

/// What the hub counts, and what it was told.
pub(super) struct Tally {
    /// Turns by their length, if they are timed.
    pub turns: Histogram<{ TURN_BOUNDS.len() }>,
    #[cfg(feature = "http")]
    pub answers: AnswerCounts,
    /// What the server has counted, when it was last asked.
    vitals: Vitals,
    wants_vitals: bool,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            turns: Histogram::new(&TURN_BOUNDS),
            #[cfg(feature = "http")]
            answers: AnswerCounts::default(),
            vitals: Vitals::default(),
            wants_vitals: false,
        }
    }
}

impl Tally {
    /// The turn is over, and took so long, if it was timed.
    #[inline]
    pub fn end_turn(&mut self, took: Option<Us>) {
        if let Some(took) = took {
            self.turns.add(took, 1);
        }
        #[cfg(feature = "http")]
        self.answers.end_turn(took.unwrap_or(0));
    }
}

/// All counts of one moment, but those by length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The wall clock at the beginning of the turn, in microseconds since 1970.
    pub wall_us: u64,
    /// The lock table's.
    pub locks: locks::Counts,
    /// Keys that are held or queued for.
    pub keys: usize,
    /// The fence of the last grant.
    pub fence: u64,
    /// Connections whose close is not decided, by [`Face`].
    pub connections: Connections,
    /// Connections that were closed because they did not say the right token.
    pub untrusted: u64,
    /// Signals that were sent on to all who listened.
    pub signals: u64,
    /// What a restart leaves.
    pub protection: Protection,
    /// For how long nothing is granted yet.
    pub opens_in: Us,
    /// The server's part among others, if it is not alone, and for how long its store has not been heard.
    pub standing: Option<(Standing, Us)>,
    /// The server's.
    pub server: Vitals,
}

/// How many connections there are, by face.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections([usize; 4]);

impl Connections {
    /// All of them.
    pub fn all(&self) -> usize {
        self.0.iter().sum()
    }

    /// Those of one face.
    pub fn of(&self, face: Face) -> usize {
        self.0[face as usize]
    }

    pub(super) fn enter(&mut self, face: Face) {
        self.0[face as usize] += 1;
    }

    pub(super) fn leave(&mut self, face: Face) {
        self.0[face as usize] -= 1;
    }
}

impl Hub {
    /// The counts as of now.
    pub fn counts(&self) -> Snapshot {
        Snapshot {
            wall_us: self.wall_us,
            locks: self.locks.counts(),
            keys: self.locks.keys(),
            fence: self.locks.fence(),
            connections: self.connections,
            untrusted: self.refusals.untrusted(),
            signals: self.signals.emitted(),
            protection: self.protection,
            opens_in: self.locks.opens_in(self.now),
            standing: self
                .standing
                .map(|standing| (standing, self.now.saturating_sub(standing.answered))),
            server: self.tally.vitals,
        }
    }

    /// Metrics are going to be written: the server is to hand in what it counts before the next tick.
    pub fn want_vitals(&mut self) {
        self.tally.wants_vitals = true;
    }

    /// Whether the server is to hand in what it counts.
    #[inline]
    pub fn wants_vitals(&self) -> bool {
        self.tally.wants_vitals
    }

    /// What the server has counted.
    pub fn set_vitals(&mut self, vitals: Vitals) {
        self.tally.vitals = vitals;
        self.tally.wants_vitals = false;
    }
}
