//! One connection of the load: bytes out, bytes in, in two buffers that are made once. It knows no protocol. (`link` of
//! dflock allocates for each line, which a load must not.) Invariant: after an end or an error it stays ended until it
//! is opened again, and then nothing is left of the former connection.

use std::io::{self, ErrorKind};
use std::net;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use dflockd::client::dial::dial;
use dflockd::client::sites::Sites;
use dflockd::client::stream::{Got, Stream};
use dflockd::command::{SECOND, Us};
use dflockd::sys;

use super::proto::Target;

/// Answers are short, and a pipeline of a thousand fits.
const ROOM: usize = 64 * 1024;
/// How long a connection may take, with the handshake of TLS.
const PATIENCE: Us = 5 * SECOND;

pub struct Peer {
    stream: Stream<TcpStream>,
    input: Vec<u8>,
    /// The bytes of `input` that were not taken.
    head: usize,
    tail: usize,
    pub output: Vec<u8>,
    pub ended: bool,
}

impl Peer {
    /// Connects, and waits until that is done.
    pub fn connect(target: &Target, registry: &Registry, token: Token) -> io::Result<Peer> {
        let (stream, unasked) = connect(target)?;
        let stream = stream.map(|socket| {
            socket.set_nonblocking(true)?;
            Ok(TcpStream::from_std(socket))
        })?;
        let mut input = vec![0; ROOM.max(unasked.len())];
        input[..unasked.len()].copy_from_slice(&unasked);
        let mut peer = Peer {
            stream,
            input,
            head: 0,
            tail: unasked.len(),
            output: Vec::with_capacity(ROOM),
            ended: false,
        };
        peer.register(registry, token)?;
        Ok(peer)
    }

    /// Hangs up and begins to connect anew.
    pub fn reopen(&mut self, target: &Target, registry: &Registry, token: Token) -> io::Result<()> {
        let socket = TcpStream::connect(target.site.addr)?;
        self.stream = Stream::new(socket, target.site.connector.as_ref())?;
        self.output.clear();
        (self.head, self.tail, self.ended) = (0, 0, false);
        self.register(registry, token)
    }

    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let socket = self.stream.socket_mut();
        socket.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(socket, token, interest)
    }

    /// Sends what can be sent without waiting.
    pub fn flush(&mut self) {
        let mut is_owed = self.stream.has_own_words();
        while !self.ended && (is_owed || !self.output.is_empty()) {
            is_owed = false;
            match self.stream.send(&self.output) {
                Ok(n) if n == self.output.len() => self.output.clear(),
                Ok(n) => drop(self.output.drain(..n)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if is_later(&e) => return,
                Err(_) => self.ended = true,
            }
        }
    }

    /// Reads once, and says whether there may be more. Without TLS a short read has emptied the socket, see epoll(7).
    pub fn receive(&mut self, is_last: bool) -> bool {
        if self.head == self.tail {
            (self.head, self.tail) = (0, 0);
        } else if self.tail == self.input.len() {
            self.input.copy_within(self.head.., 0);
            (self.head, self.tail) = (0, self.tail - self.head);
        }
        let room = self.input.len() - self.tail;
        if self.ended || room == 0 {
            // No answer is that long.
            self.ended = true;
            return false;
        }
        match self.stream.receive(&mut self.input[self.tail..]) {
            Ok(Got::End) => self.ended = true,
            Ok(Got::Nothing) => return true,
            Ok(Got::Bytes {
                count, is_drained, ..
            }) => {
                self.tail += count;
                return !is_drained || is_last;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => return true,
            Err(e) if is_later(&e) => {}
            Err(_) => self.ended = true,
        }
        false
    }

    /// Bytes that have arrived and were not taken.
    pub fn bytes(&self) -> &[u8] {
        &self.input[self.head..self.tail]
    }

    /// Takes the first `count` of them.
    pub fn take(&mut self, count: usize) {
        self.head += count;
    }
}

/// A connection to the server that is established, over TLS if that is wanted, and what the server has said unasked.
pub fn connect(target: &Target) -> io::Result<(Stream<net::TcpStream>, Vec<u8>)> {
    if target.site.connector.is_some() {
        let until = sys::now().saturating_add(PATIENCE);
        let (_, stream, unasked) = dial(&mut Sites::alone(target.site.clone()), until)?;
        return Ok((stream, unasked));
    }
    let patience = Duration::from_micros(PATIENCE);
    let socket = net::TcpStream::connect_timeout(&target.site.addr, patience)?;
    Ok((Stream::new(socket, None)?, Vec::new()))
}

/// Whether to try later: the socket is not ready, or not connected yet.
fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected
    )
}
