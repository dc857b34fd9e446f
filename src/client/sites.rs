//! Where a server may be: its alternatives, of which one leads while the others stand by, the addresses of each, and
//! whose turn it is. No connection is opened here. Invariant: after a failure every other address has its turn before
//! the same one has its next, and between two rounds there is a pause.
//!
//! `a.example:6388|b.example:6388` are two alternatives: two servers that have the same locks, because one of them
//! leads and the other stands by. `localhost:6388` is one, perhaps with two addresses. To a client all of them are
//! addresses of one server.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Connector, Tls};
use crate::command::{SECOND, Us};
use crate::sys;

/// How long one address has before the next one is tried beside it.
pub const HEAD_START: Us = SECOND / 4;
/// The head start of an address that was slow before is twice as long, so many times at most.
const DOUBLINGS: u32 = 5;
/// After so long without an attempt another round may begin.
const PAUSE: Us = SECOND / 10;
/// Names are looked up again after this time.
const AGAIN: Us = SECOND;
/// How often the end of a lookup is checked: the first pause, and the longest.
const GLANCES: (Us, Us) = (SECOND / 5000, SECOND / 50);

/// An address of a server.
#[derive(Clone, Debug)]
pub struct Site {
    /// The address.
    pub addr: SocketAddr,
    /// If it is reached over TLS.
    pub connector: Option<Connector>,
}

/// All addresses of a server. A clone shares the lookups of names; whose turn it is, is its own.
#[derive(Clone, Debug)]
pub struct Sites {
    alternatives: Vec<Alternative>,
    /// The address in use, or that has its turn; None stands for the first.
    at: Option<SocketAddr>,
    /// How many more may be tried in this round.
    left: usize,
    tried: Us,
    /// How often an address that was given up was slow, since one has answered.
    slow: u32,
    looked: Us,
}

#[derive(Clone, Debug)]
struct Alternative {
    place: String,
    connector: Option<Connector>,
    found: Arc<Mutex<Found>>,
}

/// What is known of the addresses of an alternative.
#[derive(Debug, Default)]
struct Found {
    addrs: Vec<SocketAddr>,
    /// Why the last lookup has found none.
    error: Option<io::Error>,
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

/// How long to sleep before the next look at what another thread does: longer and longer.
#[derive(Debug)]
pub struct Glance(Us);

impl Default for Glance {
    fn default() -> Glance {
        Glance(GLANCES.0)
    }
}

impl Glance {
    /// When to look again.
    pub fn next(&mut self, now: Us) -> Us {
        let pause = self.0;
        self.0 = GLANCES.1.min(pause * 2);
        now.saturating_add(pause)
    }
}

impl Sites {
    /// The server at `HOST:PORT`, or at one of several with `|` between them. Over TLS the certificate of each must be
    /// for its own host, or for the name that was given.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if an alternative is no `HOST:PORT`, or its host no name that a certificate can be
    /// for.
    pub fn new(server: &str, tls: Option<&Tls>) -> io::Result<Sites> {
        let alternative = |place: &str| {
            let place = place.trim();
            check(place, server)?;
            let connector = tls.map(|tls| tls.to(place)).transpose()?;
            let addrs = place.parse().into_iter().collect();
            let found = Found {
                addrs,
                ..Found::default()
            };
            Ok(Alternative {
                place: place.to_string(),
                connector,
                found: Arc::new(Mutex::new(found)),
            })
        };
        let alternatives: io::Result<Vec<Alternative>> =
            server.split('|').map(alternative).collect();
        Ok(Sites::of(alternatives?))
    }

    /// One address, and nothing else.
    pub fn alone(site: Site) -> Sites {
        let found = Found {
            addrs: vec![site.addr],
            ..Found::default()
        };
        Sites::of(vec![Alternative {
            place: site.addr.to_string(),
            connector: site.connector,
            found: Arc::new(Mutex::new(found)),
        }])
    }

    fn of(alternatives: Vec<Alternative>) -> Sites {
        Sites {
            alternatives,
            at: None,
            left: 0,
            tried: 0,
            slow: 0,
            looked: 0,
        }
    }

    /// Begins to look all names up, each by a thread of its own, because nobody knows how long that takes. A lookup that
    /// is still under way goes on instead. Addresses that are known stay until others are found.
    ///
    /// # Errors
    /// The system allows no more threads.
    pub fn look_up(&mut self) -> io::Result<()> {
        self.looked = sys::now();
        self.look_up_by(|place| Ok(place.to_socket_addrs()?.collect()))
    }

    /// As [`Sites::look_up`], unless that was a moment ago. A thread that the system does not allow may be allowed later.
    pub fn look_up_again(&mut self, now: Us) {
        if now >= self.looked.saturating_add(AGAIN) {
            // The addresses that are known are tried meanwhile.
            let _ = self.look_up();
        }
    }

    /// As [`Sites::look_up`], by a resolver of the caller's.
    pub(super) fn look_up_by(
        &self,
        resolve: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Clone + Send + 'static,
    ) -> io::Result<()> {
        for alternative in &self.alternatives {
            let mut found = alternative.found();
            if found.is_looking() || alternative.place.parse::<SocketAddr>().is_ok() {
                continue;
            }
            let (resolve, place) = (resolve.clone(), alternative.place.clone());
            let thread = thread::Builder::new().name("dflock-lookup".to_string());
            found.lookup = Some(thread.spawn(move || resolve(&place))?);
        }
        Ok(())
    }

    /// Whether a lookup is under way. If none is, all its threads have ended.
    pub fn is_looking(&self) -> bool {
        let looking = self.alternatives.iter().map(|one| one.found().is_looking());
        // Each of them is asked.
        looking.fold(false, |any, one| any | one)
    }

    /// Waits for the end of the lookups. If the time is over first, their threads are left behind.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`].
    pub fn wait(&self, until: Us) -> io::Result<()> {
        let mut glance = Glance::default();
        while self.is_looking() {
            let now = sys::now();
            if now >= until {
                return Err(ErrorKind::TimedOut.into());
            }
            let nap = glance.next(now).min(until) - now;
            thread::sleep(Duration::from_micros(nap));
        }
        Ok(())
    }

    /// Whether the server has several alternatives.
    pub fn has_alternatives(&self) -> bool {
        self.alternatives.len() > 1
    }

    /// The addresses that are known, the one that has its turn first.
    pub fn list(&self) -> Vec<Site> {
        let mut list = self.in_order();
        let at = list.iter().position(|site| Some(site.addr) == self.at);
        list.rotate_left(at.unwrap_or(0));
        list
    }

    /// As they were named and found, each once.
    fn in_order(&self) -> Vec<Site> {
        let mut list: Vec<Site> = Vec::new();
        for alternative in &self.alternatives {
            for &addr in &alternative.found().addrs {
                if list.iter().all(|site| site.addr != addr) {
                    let connector = alternative.connector.clone();
                    list.push(Site { addr, connector });
                }
            }
        }
        list
    }

    /// The alternatives of which no address is known, and why.
    pub fn missing(&self) -> Vec<(String, io::Error)> {
        let missing = self.alternatives.iter().filter_map(|alternative| {
            let mut found = alternative.found();
            let is_missing = found.addrs.is_empty() && !found.is_looking();
            let error = is_missing.then(|| found.error.take());
            Some((alternative.place.clone(), error??))
        });
        missing.collect()
    }

    /// Why no address is known.
    pub fn failure(&self) -> io::Error {
        let error = self.missing().into_iter().next().map(|(_, error)| error);
        error.unwrap_or(ErrorKind::NotFound.into())
    }

    /// The address in use, or that has its turn.
    ///
    /// # Errors
    /// None is known.
    pub fn site(&self) -> io::Result<Site> {
        self.list().into_iter().next().ok_or_else(|| self.failure())
    }

    /// The address that was settled on, or that has its turn since.
    pub fn at(&self) -> Option<SocketAddr> {
        self.at
    }

    /// The server was found at this address.
    pub fn settle(&mut self, addr: SocketAddr) {
        (self.at, self.slow) = (Some(addr), 0);
    }

    /// The attempt at the address in use has failed: the next one has its turn, but none for which `skips` holds, unless
    /// that is all of them. Returns whether that is the last one of a round: after it there has to be a pause.
    pub fn pass(&mut self, now: Us, skips: impl Fn(SocketAddr) -> bool) -> bool {
        let mut list = self.list();
        if list.is_empty() {
            return true;
        }
        if self.at == Some(list[0].addr) {
            list.rotate_left(1);
        }
        let good = list.iter().filter(|site| !skips(site.addr));
        let count = good.clone().count().max(1);
        self.at = good.chain(&list).next().map(|site| site.addr);
        if now >= self.tried.saturating_add(PAUSE) {
            self.left = count;
        }
        self.tried = now;
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    /// How long the address in use may be silent before another one is tried beside it; None if there is no other one
    /// for which `skips` does not hold.
    pub fn head_start(&self, skips: impl Fn(SocketAddr) -> bool) -> Option<Us> {
        let list = self.list();
        let is_left = list.iter().skip(1).any(|site| !skips(site.addr));
        is_left.then_some(HEAD_START << self.slow.min(DOUBLINGS))
    }

    /// The address in use was silent for its head start. The next ones have a longer one: perhaps all of them are slow.
    pub fn slowed(&mut self) {
        self.slow = self.slow.saturating_add(1);
    }
}

/// Whether it is a host and a port, before a thread finds out.
fn check(place: &str, server: &str) -> io::Result<()> {
    let port = place
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty() && !host.contains(','));
    if port.is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        return Ok(());
    }
    let wanted = match server.contains('|') {
        true => "want HOST:PORT on both sides of each |",
        false => "want HOST:PORT",
    };
    let why = format!("{wanted}, not {server:?}");
    Err(io::Error::new(ErrorKind::InvalidInput, why))
}

impl Alternative {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().expect("nobody panics with it")
    }
}

impl Found {
    /// Whether the lookup is under way. Takes its result if it is over.
    fn is_looking(&mut self) -> bool {
        let Some(lookup) = self.lookup.take_if(|lookup| lookup.is_finished()) else {
            return self.lookup.is_some();
        };
        match lookup.join().expect("a lookup does not panic") {
            Ok(addrs) if addrs.is_empty() => self.error = Some(ErrorKind::NotFound.into()),
            Ok(addrs) => (self.addrs, self.error) = (addrs, None),
            Err(error) => self.error = Some(error),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Us = 60 * SECOND;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn order(sites: &Sites) -> Vec<u16> {
        let ports = sites.list().into_iter().map(|site| site.addr.port());
        ports.collect()
    }

    fn three() -> Sites {
        Sites::new("127.0.0.1:1|127.0.0.1:2|127.0.0.1:3", None).unwrap()
    }

    #[test]
    fn alternatives_are_places_with_bars_between_them() {
        assert_eq!(order(&three()), [1, 2, 3]);
        let sites = Sites::new(" 127.0.0.1:7 | [::1]:8 ", None).unwrap();
        assert_eq!(order(&sites), [7, 8]);
        assert!(sites.has_alternatives());
        assert!(!Sites::new("localhost:1", None).unwrap().has_alternatives());
        for server in ["", "no-port", "127.0.0.1:port", ":1", "a:1,b:1"] {
            let error = Sites::new(server, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), format!("want HOST:PORT, not {server:?}"));
        }
        for server in ["a:1||b:1", "|a:1", "a:1|", "|", "a:1|b"] {
            let error = Sites::new(server, None).unwrap_err();
            let text = format!("want HOST:PORT on both sides of each |, not {server:?}");
            assert_eq!(
                (error.kind(), error.to_string()),
                (ErrorKind::InvalidInput, text)
            );
        }
    }

    #[test]
    fn after_a_failure_the_next_address_has_its_turn_and_so_round() {
        let mut sites = three();
        sites.settle(addr("127.0.0.1:2"));
        assert_eq!(order(&sites), [2, 3, 1]);
        // Two at once, and the last one of a round before a pause.
        for (port, is_last) in [(3, false), (1, false), (2, true)] {
            assert_eq!(sites.pass(LONG, |_| false), is_last);
            assert_eq!(sites.site().unwrap().addr.port(), port);
        }
        assert!(sites.pass(LONG, |_| false), "no other round at once");
        assert!(!sites.pass(LONG + PAUSE, |_| false));
        let mut only = Sites::new("127.0.0.1:1", None).unwrap();
        assert!(only.pass(LONG, |_| false), "a round of one");
        assert_eq!(order(&only), [1]);
    }

    #[test]
    fn an_address_that_is_named_twice_has_one_turn() {
        let mut sites = Sites::new("127.0.0.1:1|127.0.0.1:1|127.0.0.1:2", None).unwrap();
        sites.settle(addr("127.0.0.1:1"));
        sites.pass(LONG, |_| false);
        assert_eq!(order(&sites), [2, 1]);
    }

    #[test]
    fn addresses_are_skipped_unless_that_leaves_none() {
        let mut sites = three();
        sites.settle(addr("127.0.0.1:1"));
        let skips = |addr: SocketAddr| addr.port() != 3;
        assert!(sites.pass(LONG, skips), "a round of one");
        assert_eq!(order(&sites), [3, 1, 2]);
        assert_eq!(sites.head_start(skips), None);
        assert_eq!(sites.head_start(|_| false), Some(HEAD_START));
        sites.slowed();
        assert_eq!(sites.head_start(|_| false), Some(2 * HEAD_START));
        sites.pass(LONG, |_| true);
        assert_eq!(order(&sites), [1, 2, 3]);
        sites.settle(addr("127.0.0.1:1"));
        assert_eq!(sites.head_start(|_| false), Some(HEAD_START));
    }

    #[test]
    fn a_name_that_nobody_knows_leaves_the_addresses_of_the_others() {
        let sites = Sites::new("a:1|b:1", None).unwrap();
        let resolve = |place: &str| match place {
            "a:1" => Err(io::Error::other("nobody knows it")),
            _ => Ok(vec![addr("127.0.0.1:1"), addr("127.0.0.1:2")]),
        };
        sites.look_up_by(resolve).unwrap();
        sites.wait(sys::now() + LONG).unwrap();
        assert_eq!(order(&sites), [1, 2]);
        let missing = sites.missing();
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].0, "a:1");
        // What was found stays if it is not found again.
        let lost = |_: &str| Err(io::Error::other("nobody knows any"));
        sites.look_up_by(lost).unwrap();
        sites.wait(sys::now() + LONG).unwrap();
        assert_eq!(order(&sites), [1, 2]);
        assert_eq!(sites.missing()[0].1.to_string(), "nobody knows any");
    }

    #[test]
    fn a_lookup_that_hangs_is_left_behind_and_its_result_is_taken_later() {
        let sites = Sites::new("a:1|127.0.0.1:2", None).unwrap();
        let (hang, hangs) = mpsc::channel::<()>();
        let hangs = Arc::new(Mutex::new(hangs));
        let resolve = move |_: &str| {
            // It ends with the sender.
            let _ = hangs.lock().unwrap().recv();
            Ok(vec![addr("127.0.0.1:1")])
        };
        sites.look_up_by(resolve).unwrap();
        let start = sys::now();
        let error = sites.wait(start + SECOND / 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!((SECOND / 2..LONG).contains(&(sys::now() - start)));
        assert_eq!(order(&sites), [2]);
        drop(hang);
        sites.wait(sys::now() + LONG).unwrap();
        assert_eq!(order(&sites), [1, 2]);
    }
}
