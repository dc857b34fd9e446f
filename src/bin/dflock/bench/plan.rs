//! A scenario as the event loop sees it: how many connections and lanes, which keys they take, what they do with a
//! grant and which span is measured. Plain values; `options` makes them and `load` carries them out. Invariant: there
//! is at least one lane, and with `Habit::Expire` an even number.

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
    /// Even lanes let their lease end, odd lanes wait for that.
    Expire,
}

/// Which keys a lane takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// One of its own.
    Own,
    /// This many of its own, one after the other.
    Several(usize),
    /// Any of this many that all lanes share.
    Any(usize),
    /// One that it shares with its neighbour.
    Pair,
}

/// The span that a latency measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clocked {
    Pair,
    Acquire,
    /// From the end of a lease to the next grant.
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
    /// The pause before a server without a queue is asked again.
    pub pause: Us,
    /// Whether an acquire that is not granted in time is an error.
    pub must_grant: bool,
}

impl Plan {
    /// Whether several lanes lock and release the same key.
    pub fn shares(&self) -> bool {
        self.habit == Habit::Pairs && matches!(self.keys, Keys::Any(_))
    }

    /// Whether several lanes may wait for a key.
    pub fn has_queues(&self) -> bool {
        self.shares() || self.keys == Keys::Pair
    }
}
