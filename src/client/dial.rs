//! The way to a server: a name to its addresses, and a race of the addresses to a connection. What is said on the
//! connection is up to the caller, who may give a first question here: then the address that answers it wins.
//! Invariant: the lookup of the name and all addresses together take no longer than they were given.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::link::Link;
use super::stream::Stream;
use super::{Connector, NAP, TlsError};
use crate::command::{SECOND, Us};
use crate::sys;

/// How long one address has before the next one is tried beside it. With little time for many addresses it has less.
const HEAD_START: Us = SECOND / 4;

/// Every address of `HOST:PORT`. A name is looked up, and how long that takes is up to the system.
///
/// # Errors
/// The name is unknown, or it is no `HOST:PORT`.
pub fn resolve(server: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(server.to_socket_addrs()?.collect())
}

/// As [`resolve`], but waits no longer than `until`. A name, not an address, is looked up by a thread of its own. If
/// the time is over first, that thread is left behind: it ends when the system ends the lookup.
///
/// # Errors
/// Those of [`resolve`], [`ErrorKind::TimedOut`], or the system allows no more threads.
pub fn resolve_within(server: &str, until: Us) -> io::Result<Vec<SocketAddr>> {
    if let Ok(addr) = server.parse() {
        return Ok(vec![addr]);
    }
    let name = server.to_string();
    answer_within(until, move || resolve(&name))
}

/// Asks what may block for long, on a thread of its own.
fn answer_within<T: Send + 'static>(
    until: Us,
    question: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (answer, answered) = mpsc::channel();
    thread::Builder::new()
        .name("dflock-lookup".to_string())
        // It fails if nobody waits for the answer any more.
        .spawn(move || answer.send(question()))?;
    loop {
        match answered.recv_timeout(left(until)?.min(NAP)) {
            Ok(found) => return found,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => unreachable!("the thread answers"),
        }
    }
}

/// Connects to the first address of `HOST:PORT` that takes the connection before `until`, and agrees on TLS if there is a
/// connector. An address that neither takes nor refuses it has a quarter of a second before the next one is tried beside
/// it. Returns also what the server has said unasked.
///
/// # Errors
/// Those of [`resolve`], [`ErrorKind::NotFound`] if it has no address, [`ErrorKind::TimedOut`], or why the last address
/// could not be reached.
pub fn dial(
    server: &str,
    connector: Option<&Connector>,
    until: Us,
) -> io::Result<(Stream<TcpStream>, Vec<u8>)> {
    let addrs = resolve_within(server, until)?;
    let (_, link) = race(&addrs, connector, &[], until)?;
    link.into_blocking()
}

/// Returns the first address that answers `question` with a line, and its connection. Without a question, the first
/// address that accepts wins, over TLS the first whose handshake is done.
///
/// # Errors
/// As for [`dial`].
pub(super) fn race(
    addrs: &[SocketAddr],
    connector: Option<&Connector>,
    question: &[u8],
    until: Us,
) -> io::Result<(SocketAddr, Link)> {
    left(until)?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let share = until.saturating_sub(sys::now()) / (2 * addrs.len().max(1) as Us);
    let head_start = HEAD_START.min(share);
    let mut waiting = addrs.iter();
    let mut links: Vec<(SocketAddr, Link)> = Vec::new();
    // When the next address is tried, and why the last one is not under way any more.
    let (mut next, mut last) = (0, ErrorKind::NotFound.into());
    loop {
        while sys::now() >= next || links.is_empty() {
            let Some(&addr) = waiting.next() else {
                if links.is_empty() {
                    return Err(last);
                }
                next = Us::MAX;
                break;
            };
            match Link::open(addr, connector, poll.registry(), Token(0)) {
                Ok(mut link) => {
                    link.output().extend_from_slice(question);
                    links.push((addr, link));
                    next = sys::now().saturating_add(head_start);
                }
                Err(error) => last = worse(last, error),
            }
        }
        for (_, link) in &mut links {
            // Without a question nothing is read: what the server says unasked is left to the first request.
            if !question.is_empty() || !link.is_connected() {
                link.move_on();
            }
        }
        let is_first = |(_, link): &(SocketAddr, Link)| match question {
            [] => link.is_connected() && link.why().is_none(),
            _ => link.has_line(),
        };
        if let Some(at) = links.iter().position(is_first) {
            return Ok(links.swap_remove(at));
        }
        if let Some(at) = links.iter().position(|(_, link)| link.is_ended()) {
            last = worse(last, links.swap_remove(at).1.into_error());
            next = 0;
            continue;
        }
        let nap = Duration::from_micros(next.saturating_sub(sys::now()));
        let left = left(until).map_err(|error| silence(&links).unwrap_or(error))?;
        match poll.poll(&mut events, Some(left.min(nap).min(NAP))) {
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
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
fn silence(links: &[(SocketAddr, Link)]) -> Option<io::Error> {
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
    use std::io::{Read, Write};
    use std::net::TcpListener;

    const LONG: Us = 60 * SECOND;

    fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    fn peer((addr, link): (SocketAddr, Link)) -> SocketAddr {
        let (stream, _) = link.into_blocking().unwrap();
        assert_eq!(stream.socket().peer_addr().unwrap(), addr);
        addr
    }

    #[test]
    fn a_server_is_reached_at_the_address_that_answers() {
        let (_listener, addr) = listen();
        // Where localhost is ::1 first, nobody answers there.
        let name = format!("localhost:{}", addr.port());
        let (stream, _) = dial(&name, None, sys::now() + LONG).unwrap();
        assert_eq!(stream.socket().peer_addr().unwrap(), addr);
    }

    #[test]
    fn nobody_is_dialled_when_the_time_is_over() {
        let (_listener, addr) = listen();
        for server in [addr.to_string(), format!("localhost:{}", addr.port())] {
            let error = dial(&server, None, sys::now()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        let kind = |name| dial(name, None, sys::now() + LONG).unwrap_err().kind();
        assert_eq!(kind("no-port"), ErrorKind::InvalidInput);
        assert_eq!(kind("127.0.0.1:port"), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_lookup_that_hangs_is_left_behind_when_the_time_is_over() {
        let (hang, hangs) = mpsc::channel::<()>();
        let start = sys::now();
        let question = move || Ok(hangs.recv().is_ok());
        let error = answer_within(start + SECOND / 2, question).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!((SECOND / 2..LONG).contains(&(sys::now() - start)));
        drop(hang);
        assert!(answer_within(sys::now() + LONG, || Ok(true)).unwrap());
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
        let link = race(&[mute, refuses, good], None, b"ask\n", start + LONG).unwrap();
        assert!(sys::now() - start >= HEAD_START);
        assert_eq!(answering.join().unwrap(), *b"ask\n");
        assert_eq!(peer(link), good);
        // Without a question it is good enough to take the connection.
        let link = race(&[refuses, mute], None, b"", sys::now() + LONG).unwrap();
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
        let link = race(&[addr, mute], None, b"ask\n", sys::now() + LONG).unwrap();
        assert_eq!(peer(link), addr);
        answering.join().unwrap();
    }

    #[test]
    fn where_all_are_mute_the_time_is_over_in_time_and_where_all_refuse_at_once() {
        let (_one, one) = listen();
        let (_two, two) = listen();
        let start = sys::now();
        let error = race(&[one, two], None, b"ask\n", start + SECOND / 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!((SECOND / 2..LONG).contains(&(sys::now() - start)));
        let (gone, refuses) = listen();
        drop(gone);
        let error = race(&[refuses, refuses], None, b"ask\n", sys::now() + LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error = race(&[], None, b"", sys::now() + LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
