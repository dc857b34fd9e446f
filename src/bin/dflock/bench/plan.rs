//! What a scenario is to the event loop: how many connections and lanes, which keys they take, what they do with a
//! grant and which span is measured. Plain values; `options` makes them and `load` carries them out. Invariant: there
//! is a lane at least, and with `Habit::Expire` an even number of them.

use dflockd::command::Us;

/// What a lane does with a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Releases it and goes on.
    Pairs,
    /// Keeps it and takes the next key; releases all in the end.
    Keep,
    /// Hangs up.
    HangUp,
    /// The even lanes let their lease end, the odd ones wait for that.
    Expire,
}

/// Which keys a lane takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// One of its own.
    Own,
    /// So many that are nobody else's, one after the other.
    Several(usize),
    /// Any of so many that are everybody's.
    Any(usize),
    /// One for itself and its neighbour.
    Pair,
}

/// What is measured by a latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clocked {
    Pair,
    Acquire,
    /// From the end of a lease.
    Lateness,
}

pub struct Plan {
    pub prefix: String,
    pub habit: Habit,
    pub keys: Keys,
    pub clocked: Clocked,
    pub peers: usize,
    /// Connections that do nothing.
    pub idle: usize,
    /// Lanes of each connection.
    pub lanes: usize,
    /// Acquires of each lane, unless time ends it.
    pub rounds: u64,
    pub time: Option<Us>,
    pub wait: Us,
    pub lease: Us,
    /// Until a server without a queue is asked again.
    pub pause: Us,
    /// An acquire that is not granted in time is an error.
    pub must_grant: bool,
}

impl Plan {
    /// Whether a lane that releases has others after its key.
    pub fn shares(&self) -> bool {
        self.habit == Habit::Pairs && matches!(self.keys, Keys::Any(_))
    }

    /// Whether several lanes may wait for a key.
    pub fn has_queues(&self) -> bool {
        self.shares() || self.keys == Keys::Pair
    }
}
