//! One connection's socket, and its edges. epoll tells of a change once, so what an edge has announced and the turn did not
//! take is remembered here. It knows nothing of what the bytes mean. Invariant: bytes of sessions are read and written only
//! as the hub says, once a turn; TLS has a few of its own.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use mio::event::Event;
use mio::{Interest, Registry, Token};

use super::handshake_queue::Queue;
use super::stream::Stream;
use crate::base::got::Got;
use crate::base::grid::Grid;
use crate::command::SessionId;
use crate::hub::{Hub, INPUT_MAX, Next, Wrote};

/// A connected socket.
pub(super) struct Socket {
    pub stream: Stream,
    id: SessionId,
    /// The peer has finished sending: a short read does not mean that all was read.
    fin: bool,
    /// It stands in a queue: it is to be read in the next turn, event or not, or its handshake is to go on.
    pub again: bool,
    /// It did not take all of the last write: an edge will say when there is room.
    full: bool,
}

/// The bytes that may still be in a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    /// Nothing, as far as is known: an edge will tell of more.
    Nothing,
    /// Perhaps more, of which no edge will tell.
    More,
}

impl Socket {
    /// A socket that was just accepted, and whether the system watches it.
    fn new(mut stream: Stream, id: SessionId, registry: &Registry) -> (Socket, io::Result<()>) {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        let watched = registry.register(stream.source(), Token(id.slot() as usize), interest);
        let socket = Socket {
            stream,
            id,
            fin: false,
            again: false,
            full: false,
        };
        (socket, watched)
    }

    /// Acts on an event: reads once, and marks the session if there is room to write again.
    fn event(&mut self, event: &Event, buffer: &mut [u8], hub: &mut Hub) -> Left {
        let mut left = Left::Nothing;
        // Not the end of both directions: one is ours, when we linger.
        let is_broken = event.is_error();
        self.fin |= is_broken || event.is_read_closed();
        if event.is_readable() || self.fin {
            left = self.read(buffer, hub);
        }
        if event.is_priority() {
            // A read stops short at urgent data (tcp(7)), which is no sign that the socket is empty.
            left = Left::More;
        }
        if is_broken {
            hub.closed(self.id);
        } else if event.is_writable() && self.full {
            // Every edge says that there is room. The write itself has to wait for its turn.
            hub.writable(self.id);
        }
        if event.is_writable() && self.stream.speak().is_err() {
            hub.closed(self.id);
        }
        left
    }

    /// Notes an event while the handshake goes on. Whether there is work to do that was not known before.
    fn noted(&mut self, event: &Event, hub: &mut Hub) -> bool {
        self.fin |= event.is_error() || event.is_read_closed();
        if event.is_error() {
            hub.closed(self.id);
            return false;
        }
        !std::mem::replace(&mut self.again, true)
    }

    /// TLS has failed, and its alert is on the way.
    pub fn garbled(&mut self, hub: &mut Hub) {
        self.stream.give_up();
        hub.garbled(self.id);
    }

    /// Reads once. When the peer has finished, only 0 bytes tell that the socket is empty.
    fn read(&mut self, buffer: &mut [u8], hub: &mut Hub) -> Left {
        loop {
            let room = hub.room(self.id).min(buffer.len());
            if room == 0 {
                if self.fin {
                    hub.hung_up(self.id);
                }
                return Left::Nothing;
            }
            match self.stream.read(&mut buffer[..room]) {
                Ok(Got::End) => hub.finished(self.id),
                Ok(Got::Nothing) => return Left::More,
                Ok(Got::Bytes {
                    count,
                    is_drained,
                    is_last,
                }) => {
                    self.fin |= is_last;
                    if self.fin {
                        // A peer that has sent its last bytes may not be there to hear of a grant.
                        hub.hung_up(self.id);
                    }
                    hub.received(self.id, &buffer[..count]);
                    if !is_drained {
                        return Left::More;
                    }
                    if self.fin {
                        continue;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::InvalidData => self.garbled(hub),
                Err(_) => hub.closed(self.id),
            }
            return Left::Nothing;
        }
    }

    /// Writes once, and says what the kernel took.
    fn write(&mut self, output: &[u8]) -> Wrote {
        self.full = false;
        if output.is_empty() {
            return Wrote::All;
        }
        loop {
            let n = match self.stream.write(output) {
                Ok(n) if n == output.len() => return Wrote::All,
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
                Err(_) => return Wrote::Broken,
            };
            self.full = true;
            return Wrote::Some(n);
        }
    }
}

/// All sockets, and those that are to be read although no event says so.
pub(super) struct Sockets {
    /// By slot of the session.
    sockets: Grid<Option<Socket>>,
    /// Sessions whose sockets may have more to read.
    again: VecDeque<SessionId>,
    /// The bytes of one read, until the hub takes them.
    buffer: Vec<u8>,
    pub handshakes: Queue,
    /// There were events in this turn of sockets that have no handshake.
    pub has_others: bool,
}

impl Sockets {
    /// No sockets yet.
    pub fn new() -> Sockets {
        Sockets {
            sockets: Grid::new(),
            again: VecDeque::new(),
            buffer: vec![0; INPUT_MAX],
            handshakes: Queue::default(),
            has_others: false,
        }
    }

    /// The socket of a session that has just begun. Fails if the system cannot watch it.
    pub fn insert(&mut self, stream: Stream, id: SessionId, registry: &Registry) -> io::Result<()> {
        let slot = id.slot() as usize;
        let (socket, watched) = Socket::new(stream, id, registry);
        *self.sockets.take(slot) = Some(socket);
        watched
    }

    /// Acts on an event of the socket at this slot, if there still is one.
    pub fn event(&mut self, slot: usize, event: &Event, hub: &mut Hub) {
        if let Some(Some(socket)) = self.sockets.get_mut(slot) {
            let id = socket.id;
            if socket.stream.is_handshaking() {
                if socket.noted(event, hub) {
                    self.handshakes.push_ready(id);
                }
                return;
            }
            self.has_others = true;
            if socket.event(event, &mut self.buffer, hub) == Left::More {
                self.read_next_turn(id);
            }
        }
    }

    /// As [`Sockets::event`], but nothing is read any more.
    pub fn has_room(&mut self, slot: usize, event: &Event, hub: &mut Hub) {
        if let Some(Some(socket)) = self.sockets.get_mut(slot)
            && event.is_writable()
            && socket.full
        {
            hub.writable(socket.id);
        }
    }

    /// The socket of a session, if there still is one.
    pub fn of(&mut self, id: SessionId) -> Option<&mut Socket> {
        let at = self.sockets.get_mut(id.slot() as usize);
        at.filter(|at| is_of(at, id))?.as_mut()
    }

    /// Reads a session's socket now: of what has come with the last of the handshake no edge tells.
    pub fn read_now(&mut self, id: SessionId, hub: &mut Hub) {
        let at = self.sockets.get_mut(id.slot() as usize);
        if let Some(Some(socket)) = at
            && socket.read(&mut self.buffer, hub) == Left::More
        {
            self.read_next_turn(id);
        }
    }

    /// How many sockets are to be read although no event says so.
    pub fn to_read(&self) -> usize {
        self.again.len()
    }

    /// Whether sockets have bytes that have come and are left for another turn.
    #[inline]
    pub fn is_behind(&self) -> bool {
        self.to_read() > 0 || self.handshakes.is_behind()
    }

    /// Whether there is work of which no event says so.
    #[inline]
    pub fn have_work(&self) -> bool {
        self.to_read() > 0 || self.handshakes.has_work()
    }

    /// Reads up to `most` of them.
    pub fn read_again(&mut self, most: usize, hub: &mut Hub) {
        for _ in 0..most.min(self.again.len()) {
            let id = self.again.pop_front().expect("counted");
            let slot = id.slot() as usize;
            if let Some(Some(socket)) = self.sockets.get_mut(slot).filter(|at| is_of(at, id)) {
                socket.again = false;
                if socket.read(&mut self.buffer, hub) == Left::More {
                    self.read_next_turn(id);
                }
            }
        }
    }

    /// The next turn reads this session's socket, event or not.
    pub fn read_next_turn(&mut self, id: SessionId) {
        let at = self.sockets.get_mut(id.slot() as usize);
        if let Some(Some(socket)) = at.filter(|at| is_of(at, id))
            && !socket.again
        {
            socket.again = true;
            self.again.push_back(id);
        }
    }

    /// Writes to every session whose turn it is, once, and does what the hub wants done with the socket then. `closed` is
    /// told of each that is closed. Whether there was any.
    ///
    /// `keep` comes first, and before each further write: a write that has failed may have granted its lock to another
    /// session.
    ///
    /// # Errors
    /// `keep` has failed.
    pub fn flush(
        &mut self,
        hub: &mut Hub,
        mut keep: impl FnMut(&mut Hub) -> io::Result<()>,
        mut closed: impl FnMut(SessionId),
    ) -> io::Result<bool> {
        let mut any = false;
        loop {
            keep(hub)?;
            let Some((id, output)) = hub.next_write() else {
                return Ok(any);
            };
            any = true;
            let slot = id.slot() as usize;
            let Some(Some(socket)) = self.sockets.get_mut(slot) else {
                continue;
            };
            let wrote = socket.write(output);
            match hub.wrote(id, wrote) {
                Next::Keep => {}
                Next::Shut => {
                    socket.stream.shut();
                    self.read_next_turn(id);
                }
                Next::Close => {
                    socket.stream.say_goodbye();
                    if socket.stream.is_handshaking() {
                        self.handshakes.end();
                    }
                    self.sockets.free(slot);
                    closed(id);
                }
            }
        }
    }
}

fn is_of(socket: &Option<Socket>, id: SessionId) -> bool {
    socket.as_ref().is_some_and(|socket| socket.id == id)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream as StdStream;

    use mio::Poll;
    use mio::net::TcpListener;

    use super::super::settings::{Life, settings};
    use super::*;
    use crate::config::{Config, Secrets};
    use crate::facts::Protection;
    use crate::wire::Face;

    /// A hub whose facts are kept.
    fn hub() -> Hub {
        let life = Life {
            opens: 0,
            first_fence: 1,
            attempt_secret: [0; 16],
            protection: Protection::Journal,
        };
        Hub::new(settings(&Config::default(), &Secrets::default(), &life).unwrap())
    }

    /// A client that is connected to a session.
    fn connect(sockets: &mut Sockets, hub: &mut Hub, poll: &Poll) -> (StdStream, SessionId) {
        let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut accepts = Poll::new().unwrap();
        let registry = accepts.registry();
        registry
            .register(&mut listener, Token(0), Interest::READABLE)
            .unwrap();
        let client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        accepts
            .poll(&mut mio::Events::with_capacity(1), None)
            .unwrap();
        let (stream, peer) = listener.accept().unwrap();
        let id = hub.opened(Face::Text, peer).unwrap();
        sockets
            .insert(Stream::Plain(stream), id, poll.registry())
            .unwrap();
        client.set_nonblocking(true).unwrap();
        (client, id)
    }

    /// The first waiter's grant cannot be written, so the lock goes to the second one in the middle of a flush.
    #[test]
    fn facts_of_a_write_that_fails_are_kept_before_the_next_write() {
        let (mut sockets, mut hub, poll) = (Sockets::new(), hub(), Poll::new().unwrap());
        hub.begin_turn(0, 0);
        let (_holder, first) = connect(&mut sockets, &mut hub, &poll);
        let (gone, second) = connect(&mut sockets, &mut hub, &poll);
        let (mut next, third) = connect(&mut sockets, &mut hub, &poll);
        for id in [first, second, third] {
            hub.received(id, b"l\nk\n99\n");
        }
        hub.settle();
        hub.kept();
        sockets.of(second).unwrap().stream.shut();
        drop(gone);
        hub.closed(first);
        hub.settle();
        let (mut kept, mut byte) = (0, [0]);
        loop {
            let keep = |hub: &mut Hub| {
                if !hub.facts().is_empty() {
                    assert!(next.read(&mut byte).is_err(), "it was told too early");
                    kept += 1;
                }
                hub.kept();
                Ok(())
            };
            if !sockets.flush(&mut hub, keep, |_| {}).unwrap() {
                break;
            }
            assert!(
                hub.facts().is_empty(),
                "a client was told before they were kept"
            );
            hub.settle();
        }
        assert_eq!(kept, 2, "a grant for each of the waiters");
        assert_eq!((next.read(&mut byte).unwrap(), byte), (1, *b"o"));
    }
}
