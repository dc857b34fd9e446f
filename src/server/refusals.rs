//! Refusals in the log: connections and requests over a limit, wrong tokens, listeners that were cut off. Not here: who is
//! refused. Invariant: one line a second of each kind, with a count and the last address, and no count waits for another
//! refusal to be logged.

use std::fmt::Display;
use std::net::SocketAddr;

use super::unix_us;
use crate::command::Us;
use crate::config::Config;
use crate::hub::{Hub, Refused};
use crate::log::{Log, Pace};

/// The kinds of refusals. The first four are limits, in the order of their values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Connections,
    ConnectionsPerIp,
    Locks,
    Waiters,
    Token,
    Break,
    Listener,
    Handshake,
}

const KINDS: &[Kind] = &[
    Kind::Connections,
    Kind::ConnectionsPerIp,
    Kind::Locks,
    Kind::Waiters,
    Kind::Token,
    Kind::Break,
    Kind::Listener,
    Kind::Handshake,
];

/// The refusals of each kind that are not logged yet.
pub(super) struct Refusals {
    tallies: [Tally; KINDS.len()],
    /// One of them has a count.
    any: bool,
    /// Handshakes that have failed since the start.
    failed_handshakes: u64,
    /// The options that set limits, and their values.
    limits: [(&'static str, u64); 4],
}

#[derive(Default)]
struct Tally {
    pace: Pace,
    last: Option<SocketAddr>,
    /// Why the last one was refused, where that differs.
    why: Option<String>,
}

impl Refusals {
    /// Nothing was refused yet.
    pub fn new(config: &Config) -> Refusals {
        Refusals {
            tallies: Default::default(),
            any: false,
            failed_handshakes: 0,
            limits: [
                ("max-connections", config.max_connections.into()),
                (
                    "max-connections-per-ip",
                    config.max_connections_per_ip.into(),
                ),
                ("max-locks", config.max_locks as u64),
                ("max-waiters", config.max_waiters.into()),
            ],
        }
    }

    /// So many were refused, the last one from this address.
    pub fn add(&mut self, kind: Kind, count: u64, last: Option<SocketAddr>) {
        let tally = &mut self.tallies[kind as usize];
        tally.pace.add(count);
        self.any = true;
        tally.last = last.map(|addr| SocketAddr::new(addr.ip().to_canonical(), addr.port()));
    }

    /// The handshake of a client at this address has failed.
    pub fn add_failed(&mut self, why: String, peer: Option<SocketAddr>) {
        self.failed_handshakes += 1;
        self.add(Kind::Handshake, 1, peer);
        self.tallies[Kind::Handshake as usize].why = Some(why);
    }

    /// How many handshakes have failed since the start.
    pub fn failed_handshakes(&self) -> u64 {
        self.failed_handshakes
    }

    /// Takes what the hub has counted.
    pub fn take(&mut self, hub: &mut Hub) {
        while let Some(refusals) = hub.next_refusals() {
            let kind = match refusals.refused {
                Refused::Token => Kind::Token,
                Refused::Break => Kind::Break,
                Refused::MaxLocks => Kind::Locks,
                Refused::MaxWaiters => Kind::Waiters,
                Refused::Listener => Kind::Listener,
            };
            self.add(kind, refusals.count, refusals.last);
        }
    }

    /// When a count is to be logged though nothing more is refused.
    #[inline]
    pub fn deadline(&self) -> Option<Us> {
        self.any.then(|| self.next()).flatten()
    }

    /// Whether something was counted that the log has not been told.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.any
    }

    #[cold]
    fn next(&self) -> Option<Us> {
        let tallies = self.tallies.iter();
        tallies.filter_map(|tally| tally.pace.deadline()).min()
    }

    /// Logs the counts whose second has passed; all of them if `now` is the end of time.
    pub fn report(&mut self, now: Us, log: &mut Log) {
        for &kind in KINDS {
            let tally = &mut self.tallies[kind as usize];
            let Some(count) = tally.pace.rest(now) else {
                continue;
            };
            let unknown = "unknown";
            let last: &dyn Display = match &tally.last {
                Some(addr) => addr,
                None => &unknown,
            };
            let event = match kind {
                Kind::Token => "wrong-token",
                Kind::Break => "break-refused",
                Kind::Listener => "listener-cut",
                Kind::Handshake => "handshake-failed",
                _ => {
                    let (limit, value) = self.limits[kind as usize];
                    let fields: &[(&str, &dyn Display)] = &[
                        ("limit", &limit),
                        ("value", &value),
                        ("count", &count),
                        ("last", last),
                    ];
                    log.warn(unix_us(), "over-limit", fields);
                    continue;
                }
            };
            let mut fields: Vec<(&str, &dyn Display)> = vec![("count", &count), ("last", last)];
            if let Some(why) = &tally.why {
                fields.push(("error", why));
            }
            log.warn(unix_us(), event, &fields);
        }
        self.any = self.tallies.iter().any(|tally| tally.pace.has_some());
    }
}
