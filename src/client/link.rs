//! One connection that never blocks: lines out, lines in, within an event loop. The library's loops use it, and those of
//! dflock(1). It knows no command and no answer. Invariant: after an end or an error it stays ended; lines that had
//! arrived can still be taken.

use std::io::{self, ErrorKind};
use std::mem;
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::stream::{Got, Stream};
use super::{Connector, TlsError};
use crate::sys;
use crate::wire::text::{SIGNAL_MAX, find_lf};

/// How much is read at a time, in bytes.
const CHUNK: usize = 4096;

/// A connection, perhaps not established yet.
#[derive(Debug)]
pub struct Link {
    stream: Stream<TcpStream>,
    input: Vec<u8>,
    output: Vec<u8>,
    ended: bool,
    /// Why, if it was no ordinary end.
    why: Option<io::Error>,
}

impl Link {
    /// Begins to connect; over TLS if there is a connector.
    ///
    /// # Errors
    /// The system refuses at once, for example because it has no route, or no descriptor for another socket.
    pub fn open(
        addr: SocketAddr,
        connector: Option<&Connector>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Link> {
        let socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        sys::watch_peer(&socket)?;
        Link::over(Stream::new(socket, connector)?, Vec::new(), registry, token)
    }

    /// Goes on with a connection that was used by blocking calls; `input` has arrived on it and was not needed.
    ///
    /// # Errors
    /// The system refuses to watch it.
    pub fn resume(
        stream: Stream<net::TcpStream>,
        input: Vec<u8>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Link> {
        let stream = stream.map(|socket| {
            socket.set_nonblocking(true)?;
            Ok(TcpStream::from_std(socket))
        })?;
        Link::over(stream, input, registry, token)
    }

    fn over(
        mut stream: Stream<TcpStream>,
        input: Vec<u8>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Link> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(stream.socket_mut(), token, interest)?;
        Ok(Link {
            stream,
            input,
            output: Vec::new(),
            ended: false,
            why: None,
        })
    }

    /// The connection for blocking calls, and what has arrived on it.
    ///
    /// # Errors
    /// The system refuses to let it block.
    pub fn into_blocking(self) -> io::Result<(Stream<net::TcpStream>, Vec<u8>)> {
        let stream = self.stream.map(|socket| {
            let socket = net::TcpStream::from(socket);
            socket.set_nonblocking(false)?;
            Ok(socket)
        })?;
        Ok((stream, self.input))
    }

    /// The bytes to be sent; append to them.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether the system has taken all bytes of the output, over TLS in their records.
    pub fn has_sent(&self) -> bool {
        self.output.is_empty()
    }

    /// Whether the peer has taken the connection, and agreed on TLS if that is wanted; it may have closed it since.
    pub fn is_connected(&self) -> bool {
        !self.stream.is_handshaking() && self.is_reached()
    }

    /// Whether the peer has taken the connection, but the handshake of TLS goes on.
    pub fn is_handshaking(&self) -> bool {
        self.stream.is_handshaking() && self.is_reached()
    }

    fn is_reached(&self) -> bool {
        self.stream.socket().peer_addr().is_ok()
    }

    /// Whether a line has arrived.
    pub fn has_line(&self) -> bool {
        find_lf(&self.input).is_some()
    }

    /// Sends and receives as much as goes without waiting. Call it after each event and after appending to the output.
    pub fn move_on(&mut self) {
        let was_handshaking = self.stream.is_handshaking();
        self.send();
        self.receive();
        if was_handshaking && !self.stream.is_handshaking() {
            // The output has waited for this, and no event may come for it.
            self.send();
        }
        if self.why.is_some() {
            self.ended = true;
        }
    }

    fn send(&mut self) {
        let mut is_owed = self.stream.has_own_words();
        while !self.ended && self.why.is_none() && (is_owed || !self.output.is_empty()) {
            is_owed = false;
            match self.stream.send(&self.output) {
                Ok(n) => drop(self.output.drain(..n)),
                Err(e) if is_early(&e) => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // What the server has said before it closed can still be read.
                Err(e) => self.why = Some(e),
            }
        }
    }

    /// Until the socket has nothing more: what an event has announced is not announced again.
    fn receive(&mut self) {
        let mut chunk = [0; CHUNK];
        while !self.ended {
            match self.stream.receive(&mut chunk) {
                Ok(Got::End) => self.ended = true,
                Ok(Got::Nothing) => {}
                Ok(Got::Bytes { count, .. }) => self.input.extend_from_slice(&chunk[..count]),
                Err(e) if is_early(&e) => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => self.fail(e),
            }
            if self.input.len() > SIGNAL_MAX && !self.has_line() {
                self.fail(ErrorKind::InvalidData.into());
            }
        }
    }

    /// The first error stays, unless this one is that of TLS, which says more.
    fn fail(&mut self, error: io::Error) {
        self.ended = true;
        if self.why.is_none() || error.kind() == ErrorKind::InvalidData {
            self.why = Some(error);
        }
    }

    /// Takes a line that has arrived, without its LF.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        let end = find_lf(&self.input)?;
        let rest = self.input.split_off(end + 1);
        let mut line = mem::replace(&mut self.input, rest);
        line.truncate(end);
        Some(line)
    }

    /// Whether nothing will arrive any more.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The error that ended it, if one did; [`ErrorKind::InvalidData`] if a line was too long, and with a [`TlsError`]
    /// inside if there is no TLS.
    pub fn why(&self) -> Option<&io::Error> {
        self.why.as_ref()
    }

    /// Why there is no TLS, if that is what ended it.
    pub fn tls_error(&self) -> Option<&TlsError> {
        TlsError::within(self.why.as_ref()?)
    }

    /// Why it has ended; [`ErrorKind::UnexpectedEof`] if its peer has closed it.
    pub fn into_error(self) -> io::Error {
        self.why.unwrap_or(ErrorKind::UnexpectedEof.into())
    }

    /// Nothing more will be sent, which is said to the peer; what it still sends can be read. False if not even all of
    /// what there was could be sent: then the peer has no whole request, or none that it could answer.
    pub fn shut_down(&mut self) -> bool {
        self.move_on();
        self.has_sent() && !self.ended && self.stream.shut_down().is_ok()
    }

    /// Throws away what the system has not delivered yet, as soon as this value is dropped.
    pub fn reset_on_drop(&self) {
        // It fails for no socket; and if it did, the bytes would be sent, which is what happens without.
        let _ = sys::reset_on_close(self.stream.socket());
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.socket().as_fd()
    }
}

/// Nothing goes at the moment, or the connection is not established yet.
fn is_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn pair(poll: &Poll) -> (Link, net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let link = Link::open(addr, None, poll.registry(), Token(0)).unwrap();
        (link, listener.accept().unwrap().0)
    }

    /// Goes on until there is a line or an end.
    fn hear(poll: &mut Poll, link: &mut Link) -> Option<Vec<u8>> {
        let mut events = Events::with_capacity(1);
        loop {
            link.move_on();
            match link.line() {
                None if !link.is_ended() => poll.poll(&mut events, Some(PATIENCE)).unwrap(),
                line => return line,
            }
        }
    }

    #[test]
    fn lines_that_came_before_the_end_are_taken_first() {
        let mut poll = Poll::new().unwrap();
        let (mut link, mut peer) = pair(&poll);
        peer.write_all(b"one\ntwo\nthr").unwrap();
        drop(peer);
        assert_eq!(hear(&mut poll, &mut link).as_deref(), Some(&b"one"[..]));
        assert_eq!(hear(&mut poll, &mut link).as_deref(), Some(&b"two"[..]));
        assert_eq!(hear(&mut poll, &mut link), None);
        assert_eq!(link.into_error().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_line_without_an_end_is_not_kept() {
        let mut poll = Poll::new().unwrap();
        let (mut link, mut peer) = pair(&poll);
        let sender = std::thread::spawn(move || while peer.write_all(&[b'x'; 4096]).is_ok() {});
        assert_eq!(hear(&mut poll, &mut link), None);
        assert_eq!(link.into_error().kind(), ErrorKind::InvalidData);
        sender.join().unwrap();
    }

    #[test]
    fn a_server_that_vanishes_is_noticed_by_the_system() {
        let poll = Poll::new().unwrap();
        let (link, _peer) = pair(&poll);
        let (stream, _) = link.into_blocking().unwrap();
        assert_eq!(sys::unacknowledged_max(stream.socket()).unwrap(), 60_000);
        assert!(stream.socket().nodelay().unwrap());
    }
}
