//! One connection of the load: bytes out, bytes in, in two buffers that are made once. It knows no protocol. (`link` of
//! dflock allocates for each line, which a load must not.) Invariant: after an end or an error it stays ended until it
//! is opened again, and then nothing is left of the former connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// Answers are short, and a pipeline of a thousand fits.
const ROOM: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    /// The bytes of `input` that were not taken.
    head: usize,
    tail: usize,
    pub output: Vec<u8>,
    pub ended: bool,
}

impl Peer {
    /// Connects, and waits until that is done.
    pub fn connect(addr: SocketAddr, registry: &Registry, token: Token) -> io::Result<Peer> {
        let stream = std::net::TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nonblocking(true)?;
        let mut peer = Peer {
            stream: TcpStream::from_std(stream),
            input: vec![0; ROOM],
            head: 0,
            tail: 0,
            output: Vec::with_capacity(ROOM),
            ended: false,
        };
        peer.register(registry, token)?;
        Ok(peer)
    }

    /// Hangs up and begins to connect anew.
    pub fn reopen(
        &mut self,
        addr: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        self.stream = TcpStream::connect(addr)?;
        self.output.clear();
        (self.head, self.tail, self.ended) = (0, 0, false);
        self.register(registry, token)
    }

    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut self.stream, token, interest)
    }

    /// Sends what can be sent without waiting.
    pub fn flush(&mut self) {
        while !self.ended && !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(n) if n == self.output.len() => self.output.clear(),
                Ok(n) => drop(self.output.drain(..n)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if is_later(&e) => return,
                Err(_) => self.ended = true,
            }
        }
    }

    /// Reads once, and says whether there may be more. A short read has emptied the socket, see epoll(7).
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
        match self.stream.read(&mut self.input[self.tail..]) {
            Ok(0) => self.ended = true,
            Ok(n) => {
                self.tail += n;
                return n == room || is_last;
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

/// Whether to try later: the socket is not ready, or not connected yet.
fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected
    )
}
