//! Whose turn it is while the address that answers is looked for: one after the other, and again while one of several
//! alternatives is silent, because another one may begin to lead meanwhile. No connection is opened here, and no clock
//! is read. Invariant: every address has its first turn before any has its second, and an address that refuses has
//! another one only while a connection to some address is open.
//!
//! A leader that is stopped is silent, and its kernel still accepts connections. A server that stands by refuses them
//! until it leads. So it is asked again every quarter of a second, beside the silent one, which may only be slow.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::sites::{HEAD_START, Site, Sites};
use crate::command::{SECOND, Us};

/// An alternative that says nothing for so long is left for the next one, where an answer is due at once.
pub const SILENCE: Us = 2 * SECOND;
/// Where no answer is due, in a queue, the server is pinged over another connection, so long after the last answer.
pub const PAUSE: Us = 2 * SECOND;

/// Whether an error says that nobody is there to take a connection, or to acknowledge what was sent. A server that is
/// full may end a connection with another one.
pub fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::TimedOut
    )
}

/// What is due.
#[derive(Clone, Debug)]
pub enum Turn {
    /// To connect to this address. It takes the place of an older connection to the same one.
    Now(Site),
    /// Nothing before this instant; [`Us::MAX`] if it is nobody's turn any more.
    Later(Us),
}

/// The turns of one search.
#[derive(Debug, Default)]
pub struct Turns {
    past: Vec<Past>,
    /// When the next address has its first turn beside those whose connections are open.
    next: Us,
}

#[derive(Debug)]
struct Past {
    addr: SocketAddr,
    /// When its last turn began.
    at: Us,
    /// How long its connection may be silent before another one takes its place. Each has twice as long as the one
    /// before.
    patience: Us,
}

impl Turns {
    /// Whose turn it is, if there are connections to the addresses in `open` and the search ends at `until`.
    pub fn turn(&mut self, sites: &Sites, open: &[SocketAddr], now: Us, until: Us) -> Turn {
        let list = sites.list();
        let is_new = |site: &&Site| self.past.iter().all(|past| past.addr != site.addr);
        let Some(site) = list.iter().find(is_new) else {
            return self.again(sites, &list, open, now);
        };
        if !open.is_empty() && now < self.next {
            return Turn::Later(self.next);
        }
        // With little time for many addresses each has less of a head start.
        let share = until.saturating_sub(now) / (2 * list.len() as Us);
        self.next = now.saturating_add(HEAD_START.min(share));
        self.past.push(Past {
            addr: site.addr,
            at: now,
            patience: SILENCE,
        });
        Turn::Now(site.clone())
    }

    /// The turns after the first ones.
    fn again(&mut self, sites: &Sites, list: &[Site], open: &[SocketAddr], now: Us) -> Turn {
        if open.is_empty() || !sites.has_alternatives() {
            return Turn::Later(Us::MAX);
        }
        let due = |past: &Past| {
            let pause = match open.contains(&past.addr) {
                true => past.patience,
                false => HEAD_START,
            };
            past.at.saturating_add(pause)
        };
        let site = |past: &Past| list.iter().find(|site| site.addr == past.addr);
        let known = self.past.iter_mut().filter(|past| site(past).is_some());
        let Some(past) = known.min_by_key(|past| due(past)) else {
            return Turn::Later(Us::MAX);
        };
        if now < due(past) {
            return Turn::Later(due(past));
        }
        if open.contains(&past.addr) {
            past.patience = past.patience.saturating_mul(2);
        }
        past.at = now;
        site(past).map_or(Turn::Later(Us::MAX), |site| Turn::Now(site.clone()))
    }

    /// An address gives no answer: the next one need not wait for its first turn.
    pub fn hurry(&mut self) {
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTIL: Us = 100 * SECOND;

    fn addr(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn sites(ports: &[u16]) -> Sites {
        let places: Vec<String> = ports.iter().map(|port| addr(*port).to_string()).collect();
        Sites::new(&places.join("|"), None).unwrap()
    }

    /// The turns of a search from 1 s on, as milliseconds and ports, if these addresses are silent and others refuse.
    fn turns(sites: &Sites, silent: &[u16], end_ms: Us) -> Vec<(Us, u16)> {
        let (mut turns, mut open, mut found) = (Turns::default(), Vec::new(), Vec::new());
        let mut now = SECOND;
        while now < SECOND + end_ms * 1000 {
            match turns.turn(sites, &open, now, UNTIL) {
                Turn::Now(Site { addr, .. }) => {
                    found.push(((now - SECOND) / 1000, addr.port()));
                    open.retain(|old| *old != addr);
                    match silent.contains(&addr.port()) {
                        true => open.push(addr),
                        false => turns.hurry(),
                    }
                }
                Turn::Later(next) => {
                    assert!(next > now, "time goes on");
                    now = next;
                }
            }
        }
        found
    }

    #[test]
    fn addresses_that_all_refuse_have_one_turn_each() {
        assert_eq!(turns(&sites(&[1, 2]), &[], 60_000), [(0, 1), (0, 2)]);
    }

    #[test]
    fn one_that_refuses_is_asked_again_while_another_one_is_silent() {
        let found = turns(&sites(&[1, 2]), &[1], 1_100);
        assert_eq!(found, [(0, 1), (250, 2), (500, 2), (750, 2), (1_000, 2)]);
    }

    #[test]
    fn one_that_is_silent_gets_another_connection_each_time_after_twice_as_long() {
        let found = turns(&sites(&[1, 2]), &[1, 2], 10_000);
        let wanted = [
            (0, 1),
            (250, 2),
            (2_000, 1),
            (2_250, 2),
            (6_000, 1),
            (6_250, 2),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_addresses_of_one_name_have_one_turn_each() {
        let sites = Sites::new("localhost:1", None).unwrap();
        sites.look_up_by(|_| Ok(vec![addr(1), addr(2)])).unwrap();
        sites.wait(Us::MAX).unwrap();
        assert_eq!(turns(&sites, &[1, 2], 60_000), [(0, 1), (250, 2)]);
    }

    #[test]
    fn with_little_time_for_many_addresses_each_has_less_of_a_head_start() {
        let (sites, mut turns) = (sites(&[1, 2]), Turns::default());
        let first = turns.turn(&sites, &[], SECOND, SECOND + 400);
        assert!(matches!(first, Turn::Now(_)));
        let second = turns.turn(&sites, &[addr(1)], SECOND, SECOND + 400);
        assert!(
            matches!(second, Turn::Later(at) if at == SECOND + 100),
            "{second:?}"
        );
    }
}
