//! What the clients and the supervisor of a run have seen, each with its time. Not here: what follows from it, which the
//! judge knows. Invariant: a client notes that something leaves before it leaves, and that something has come after it has
//! come; so of two events of different clients the judge never takes the later one for the earlier one.
//!
//! Times are nanoseconds of `Instant`, which is CLOCK_MONOTONIC. The server counts on CLOCK_BOOTTIME. Both run at one rate
//! but while the machine sleeps, and then the server's leases end sooner than the clients believe: a run with a sleep in it
//! could be found wrong that is not, and never the other way round. A machine that runs tests does not sleep.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Nanoseconds since the record began.
pub type Ns = u64;

pub const MS: Ns = 1_000_000;
pub const SECOND: Ns = 1000 * MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    Lock,
    Semaphore,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub at: Ns,
    /// Which client; 0 is the supervisor.
    pub who: u32,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// A connection to this server was made. Connections are counted over all clients.
    Opened { link: u64, server: u64 },
    /// A request is about to leave.
    Asked { link: u64 },
    /// An answer has come.
    Answered { link: u64 },
    /// The connection is over.
    Parted { link: u64, by: By },
    /// A hold began.
    Granted(Grant),
    /// A hold was told to last until then.
    Renewed { hold: u64, until: Ns },
    /// A release of it, or the end of its connection, is about to leave.
    Ended { hold: u64 },
    /// A renewal of it, or its first release, was answered with a refusal.
    Refused { hold: u64 },
    /// A server is about to be told to stop, or killed.
    Down { server: u64 },
    /// The journal is gone, and the next server is not started yet.
    Forgot,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Client,
    Server,
    /// The client, which has waited for an answer in vain.
    Patience,
}

#[derive(Clone, Debug)]
pub struct Grant {
    /// Holds are counted over all clients.
    pub hold: u64,
    pub space: Space,
    pub key: &'static str,
    pub limit: usize,
    /// None if the client's protocol does not tell it.
    pub fence: Option<u64>,
    /// When the request that was granted left.
    pub asked: Ns,
    /// The client's own deadline.
    pub until: Ns,
}

/// Where all threads of a run note what they see.
pub struct Record {
    start: Instant,
    events: Mutex<Vec<Event>>,
    next: AtomicU64,
}

impl Record {
    pub fn new() -> Record {
        Record {
            start: Instant::now(),
            events: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    pub fn now(&self) -> Ns {
        u64::try_from(self.start.elapsed().as_nanos()).expect("no run lasts for centuries")
    }

    /// A number for a connection, a hold or a server that no other has.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes an event that happened then.
    pub fn note_at(&self, at: Ns, who: u32, what: What) {
        // A client that has panicked has failed the test already.
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(Event { at, who, what });
    }

    /// Notes an event of this moment, and says when it was.
    pub fn note(&self, who: u32, what: What) -> Ns {
        let at = self.now();
        self.note_at(at, who, what);
        at
    }

    /// What was noted since the last time.
    pub fn take(&self) -> Vec<Event> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *events)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} client {}: ", Ms(self.at), self.who)?;
        match &self.what {
            What::Granted(grant) => write!(f, "granted {grant}"),
            What::Renewed { hold, until } => write!(f, "renewed hold {hold} until {}", Ms(*until)),
            other => write!(f, "{other:?}"),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hold, space, key) = (self.hold, self.space, self.key);
        let fence = self.fence.map(|fence| format!(" fence {fence:016x}"));
        let fence = fence.unwrap_or_default();
        let (asked, until) = (Ms(self.asked), Ms(self.until));
        write!(
            f,
            "hold {hold} of {space:?} {key}{fence} asked for at {asked} until {until}"
        )
    }
}

/// A time as people read it.
pub struct Ms(pub Ns);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0 / 1000;
        write!(f, "{}.{:03} ms", us / 1000, us % 1000)
    }
}
