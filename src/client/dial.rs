//! The way to a server: a race of its addresses to a connection. What is said on the connection is up to the caller,
//! who may give a first question here: then the address that answers it wins. Invariant: the lookup of names and all
//! addresses together take no longer than they were given.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mio::{Events, Poll, Registry, Token};

use super::link::Link;
use super::sites::{Glance, Site, Sites};
use super::stream::Stream;
use super::turns::{Turn, Turns};
use super::{NAP, TlsError};
use crate::command::Us;
use crate::sys;

/// Connects to the first address of the server that takes the connection before `until`, and agrees on TLS if it is
/// reached over TLS. Names are looked up anew. An address that neither takes nor refuses the connection has a quarter of
/// a second before the next one is tried beside it. Returns also what the server has said unasked.
///
/// # Errors
/// The error of the lookup or [`ErrorKind::NotFound`] if the server has no address, [`ErrorKind::TimedOut`], or why the
/// last address could not be reached.
pub fn dial(sites: &mut Sites, until: Us) -> io::Result<(Site, Stream<TcpStream>, Vec<u8>)> {
    left(until)?;
    sites.look_up()?;
    let (site, link) = race(sites, &[], until)?;
    let (stream, unasked) = link.into_blocking()?;
    Ok((site, stream, unasked))
}

/// Returns the first address that answers `question` with a line, and its connection. Without a question, the first
/// address that accepts wins, over TLS the first whose handshake is done. The address that has its turn begins; those
/// that a lookup finds meanwhile have theirs. While one of several alternatives is silent, the others are asked again
/// and again, because one of them may begin to lead; see [`super::turns`].
///
/// # Errors
/// As for [`dial`].
pub(super) fn race(sites: &Sites, question: &[u8], until: Us) -> io::Result<(Site, Link)> {
    left(until)?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let mut runners = Runners::default();
    let mut glance = Glance::default();
    loop {
        let is_looking = sites.is_looking();
        let mut next = runners.start(sites, question, poll.registry(), until);
        if let Some(first) = runners.first(question) {
            return Ok(first);
        }
        if runners.drop_ended() {
            continue;
        }
        if runners.links.is_empty() && !is_looking {
            return Err(runners.last.unwrap_or_else(|| sites.failure()));
        }
        let left = left(until).map_err(|error| silence(&runners.links).unwrap_or(error))?;
        let now = sys::now();
        if is_looking {
            next = next.min(glance.next(now));
        }
        let nap = Duration::from_micros(next.saturating_sub(now));
        match poll.poll(&mut events, Some(left.min(nap).min(NAP))) {
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
    }
}

/// The addresses of a race.
#[derive(Default)]
struct Runners {
    turns: Turns,
    /// Those that are under way.
    links: Vec<(Site, Link)>,
    /// Why the last one is not under way any more.
    last: Option<io::Error>,
}

impl Runners {
    /// Lets each address run whose turn it is. Returns when the next one has its turn.
    fn start(&mut self, sites: &Sites, question: &[u8], registry: &Registry, until: Us) -> Us {
        loop {
            let open: Vec<SocketAddr> = self.links.iter().map(|(site, _)| site.addr).collect();
            let site = match self.turns.turn(sites, &open, sys::now(), until) {
                Turn::Now(site) => site,
                Turn::Later(next) => return next,
            };
            self.links.retain(|(open, _)| open.addr != site.addr);
            match Link::open(site.addr, site.connector.as_ref(), registry, Token(0)) {
                Ok(mut link) => {
                    link.output().extend_from_slice(question);
                    self.links.push((site, link));
                }
                Err(error) => self.fails(error),
            }
        }
    }

    /// Takes the first that has arrived.
    fn first(&mut self, question: &[u8]) -> Option<(Site, Link)> {
        for (_, link) in &mut self.links {
            // Without a question nothing is read: what the server says unasked is left to the first request.
            if !question.is_empty() || !link.is_connected() {
                link.move_on();
            }
        }
        let is_first = |(_, link): &(Site, Link)| match question {
            [] => link.is_connected() && link.why().is_none(),
            _ => link.has_line(),
        };
        let at = self.links.iter().position(is_first)?;
        Some(self.links.swap_remove(at))
    }

    /// Lets go of one that has ended, after which the next one need not wait. Returns whether there was one.
    fn drop_ended(&mut self) -> bool {
        let Some(at) = self.links.iter().position(|(_, link)| link.is_ended()) else {
            return false;
        };
        let (_, link) = self.links.swap_remove(at);
        self.fails(link.into_error());
        self.turns.hurry();
        true
    }

    fn fails(&mut self, error: io::Error) {
        self.last = Some(match self.last.take() {
            Some(last) => worse(last, error),
            None => error,
        });
    }
}

/// Of two errors the one that helps more: TLS that nobody agrees on is no accident.
fn worse(one: io::Error, other: io::Error) -> io::Error {
    match TlsError::within(&one) {
        Some(_) => one,
        None => other,
    }
}

/// What to say if the time is over in a handshake. A server that speaks no TLS may wait for the end of a line.
fn silence(links: &[(Site, Link)]) -> Option<io::Error> {
    let why = "no answer in the TLS handshake: perhaps the server speaks no TLS";
    let is_mute = links.iter().any(|(_, link)| link.is_handshaking());
    is_mute.then(|| io::Error::new(ErrorKind::TimedOut, why))
}

/// The time that is left until an instant, never zero.
///
/// # Errors
/// [`ErrorKind::TimedOut`] if there is none.
pub fn left(until: Us) -> io::Result<Duration> {
    match until.saturating_sub(sys::now()) {
        0 => Err(ErrorKind::TimedOut.into()),
        left => Ok(Duration::from_micros(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::sites::HEAD_START;
    use crate::command::SECOND;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    const LONG: Us = 60 * SECOND;

    fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    fn peer((site, link): (Site, Link)) -> SocketAddr {
        let (stream, _) = link.into_blocking().unwrap();
        assert_eq!(stream.socket().peer_addr().unwrap(), site.addr);
        site.addr
    }

    fn sites(addrs: &[SocketAddr]) -> Sites {
        let places: Vec<String> = addrs.iter().map(SocketAddr::to_string).collect();
        Sites::new(&places.join("|"), None).unwrap()
    }

    #[test]
    fn a_server_is_reached_at_the_address_that_answers() {
        let (_listener, addr) = listen();
        // Where localhost is ::1 first, nobody answers there.
        let name = format!("localhost:{}", addr.port());
        let mut sites = Sites::new(&name, None).unwrap();
        let (site, stream, _) = dial(&mut sites, sys::now() + LONG).unwrap();
        assert_eq!(stream.socket().peer_addr().unwrap(), addr);
        assert_eq!(site.addr, addr);
    }

    #[test]
    fn nobody_is_dialled_when_the_time_is_over() {
        let (_listener, addr) = listen();
        for server in [addr.to_string(), format!("localhost:{}", addr.port())] {
            let mut sites = Sites::new(&server, None).unwrap();
            let error = dial(&mut sites, sys::now()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
    }

    /// A quarter of a second for the mute one, and nothing for the one that refuses.
    #[test]
    fn an_address_that_is_mute_or_refuses_takes_little_of_the_time() {
        let (_mute, mute) = listen();
        let (gone, refuses) = listen();
        drop(gone);
        let (server, good) = listen();
        let answering = thread::spawn(move || {
            let mut peer = server.accept().unwrap().0;
            let mut asked = [0; 4];
            peer.read_exact(&mut asked).unwrap();
            peer.write_all(b"ok\n").unwrap();
            asked
        });
        let start = sys::now();
        let link = race(&sites(&[mute, refuses, good]), b"ask\n", start + LONG).unwrap();
        assert!(sys::now() - start >= HEAD_START);
        assert_eq!(answering.join().unwrap(), *b"ask\n");
        assert_eq!(peer(link), good);
        // Without a question it is good enough to take the connection.
        let link = race(&sites(&[refuses, mute]), b"", sys::now() + LONG).unwrap();
        assert_eq!(peer(link), mute);
    }

    #[test]
    fn a_slow_address_may_still_win_after_its_head_start() {
        let (slow, addr) = listen();
        let (_mute, mute) = listen();
        let answering = thread::spawn(move || {
            let mut peer = slow.accept().unwrap().0;
            // Longer than both head starts, which is what this is about.
            thread::sleep(Duration::from_micros(3 * HEAD_START));
            peer.write_all(b"ok\n").unwrap();
            peer
        });
        let link = race(&sites(&[addr, mute]), b"ask\n", sys::now() + LONG).unwrap();
        assert_eq!(peer(link), addr);
        answering.join().unwrap();
    }

    #[test]
    fn where_all_are_mute_the_time_is_over_in_time_and_where_all_refuse_at_once() {
        let (_one, one) = listen();
        let (_two, two) = listen();
        let start = sys::now();
        let error = race(&sites(&[one, two]), b"ask\n", start + SECOND / 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!((SECOND / 2..LONG).contains(&(sys::now() - start)));
        let (gone, refuses) = listen();
        drop(gone);
        let error = race(&sites(&[refuses, refuses]), b"ask\n", sys::now() + LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        // The label between the dots is empty, so no resolver asks anybody.
        let mut unknown = Sites::new("a..invalid:1", None).unwrap();
        assert!(dial(&mut unknown, sys::now() + LONG).is_err());
    }
}
