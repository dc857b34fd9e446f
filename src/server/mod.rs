//! The outer ring: one thread, one epoll loop, sockets on one side and the hub on the other. It reads the clock
//! once a turn, moves bytes, and decides nothing about locks. Invariant: it sleeps only when the hub is settled,
//! every socket was read or has no room, and the timer is set no later than the hub's deadline.
//!
//! All sockets are edge-triggered: what an edge announced and the turn did not take is remembered in `again`.

mod limits;

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};

use crate::command::{Owner, SessionId, Space, Tie, Us};
use crate::config::{Config, Distlockd};
use crate::hub::{Hub, INPUT_MAX, Next, Settings};
use crate::locks;
use crate::log::{Log, Pace};
use crate::sys::{self, Signals, Timer};
use crate::wire::Face;
use limits::Guests;

/// Events of one turn. With a read, some work and a send each, at some 10 us, a turn stays under 10 ms.
const EVENTS_A_TURN: usize = 256;
const ACCEPTS_A_TURN: usize = 128;
/// How long leases may wait for full batches of events to be read first: late is safe, but not for ever.
const BEHIND_MAX: Us = 15_000;
/// When to try again to accept, if the system has no more files and nothing closes.
const ACCEPT_RETRY: Us = 100_000;

// Tokens above every slot; those of the doors go down from the first.
const DOORS: mio::Token = mio::Token(usize::MAX - 2);
const TIMER: mio::Token = mio::Token(usize::MAX);
const SIGNALS: mio::Token = mio::Token(usize::MAX - 1);

/// Listens and serves until a signal has ended it. Clients have to say `secret` first, if there is one. What is to be
/// said of the configuration is logged once the address is known to be good.
///
/// # Errors
/// The address cannot be listened on, or the system refuses what the loop itself needs.
pub fn run(
    config: &Config,
    secret: Option<Vec<u8>>,
    warnings: &[String],
    log: Log,
) -> io::Result<()> {
    // With it the process ends: to free what it has, piece by piece, would only take time.
    let mut server = ManuallyDrop::new(Server::start(config, secret, warnings, log)?);
    let mut events = Events::with_capacity(EVENTS_A_TURN);
    while !server.is_over() {
        server.sleep(&mut events)?;
        server.turn(&events);
    }
    let untold = server.refusals.rest(Us::MAX);
    server.warn_of_refusals(untold);
    log.info(unix_us(), "stopped", &[("cut", &server.hub.lines())]);
    Ok(())
}

struct Server {
    log: Log,
    hub: Hub,
    poll: Poll,
    doors: Vec<Door>,
    timer: Timer,
    signals: Signals,
    /// By slot of the session.
    sockets: Vec<Option<Socket>>,
    buffer: Vec<u8>,
    /// Sessions whose sockets may have more to read.
    again: VecDeque<SessionId>,
    /// When to try to accept although nothing says so.
    accept_retry: Option<Us>,
    /// A descriptor to give up when there are no others, so that a client can be accepted and sent away.
    reserve: Option<OwnedFd>,
    refusals: Pace,
    accept_errors: Pace,
    guests: Guests,
    /// What the timer is set to.
    armed: Us,
    /// Everything that had arrived until then has been read, or has had its time.
    heard: Us,
    /// Since when every turn has left something unheard: events, bytes in sockets, requests put off.
    behind: Option<Us>,
    /// The time of the turn.
    now: Us,
    /// The longest turn so far; measured only for `--debug`.
    longest: Us,
    /// A first signal came, and a second one.
    draining: bool,
    cut: bool,
}

/// Where clients of one face come in.
struct Door {
    /// None once the server drains, unless there is still something to be done on that face.
    listener: Option<TcpListener>,
    face: Face,
    /// There may be more to accept.
    accept: bool,
}

struct Socket {
    stream: TcpStream,
    id: SessionId,
    /// The peer has finished sending: a short read does not mean that all was read.
    fin: bool,
    /// In `again`.
    again: bool,
    /// It did not take all of the last write: an edge will say when there is room.
    full: bool,
}

impl Server {
    fn start(
        config: &Config,
        secret: Option<Vec<u8>>,
        warnings: &[String],
        log: Log,
    ) -> io::Result<Server> {
        let mut doors = Vec::new();
        let mut addrs = Vec::new();
        for (face, host, port) in faces(config) {
            let (listener, addr) = listen(host, port)?;
            doors.push(Door {
                listener: Some(TcpListener::from_std(listener)),
                face,
                accept: false,
            });
            addrs.push((face, addr));
        }
        for warning in warnings {
            log.warn(unix_us(), "warning", &[("text", warning)]);
        }
        if let Err(e) = sys::raise_file_limit() {
            // Fewer clients fit, that is all.
            log.warn(unix_us(), "file-limit", &[("error", &e)]);
        }
        sys::adopt_quietly();
        let (poll, timer, signals) = (
            Poll::new()?,
            Timer::new()?,
            Signals::new(&[libc::SIGTERM, libc::SIGINT])?,
        );
        let registry = poll.registry();
        for (at, door) in doors.iter_mut().enumerate() {
            let token = mio::Token(DOORS.0 - at);
            let listener = door.listener.as_mut().expect("it was just opened");
            registry.register(listener, token, Interest::READABLE)?;
        }
        registry.register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        registry.register(
            &mut SourceFd(&signals.as_raw_fd()),
            SIGNALS,
            Interest::READABLE,
        )?;
        let server = Server {
            log,
            hub: Hub::new(settings(config, secret)?),
            poll,
            doors,
            reserve: Some(timer.as_fd().try_clone_to_owned()?),
            timer,
            signals,
            sockets: Vec::new(),
            buffer: vec![0; INPUT_MAX],
            again: VecDeque::new(),
            accept_retry: None,
            refusals: Pace::default(),
            accept_errors: Pace::default(),
            guests: Guests::new(config.max_connections, config.max_connections_per_ip),
            armed: Us::MAX,
            heard: 0,
            behind: None,
            now: sys::now(),
            longest: 0,
            draining: false,
            cut: false,
        };
        for (face, addr) in addrs {
            let event = match face {
                Face::Distlockd => "listening-distlockd",
                // The last: all is ready.
                Face::Text => "listening",
            };
            log.info(unix_us(), event, &[("addr", &addr)]);
        }
        Ok(server)
    }

    fn is_over(&self) -> bool {
        self.cut || self.hub.is_drained(self.now)
    }

    /// Waits for an event or for the hub's deadline, unless there is work already.
    fn sleep(&mut self, events: &mut Events) -> io::Result<()> {
        let untold = self.refusals.deadline();
        let deadline = [self.hub.deadline(), self.accept_retry, untold]
            .into_iter()
            .flatten()
            .min();
        let busy = self.may_accept()
            || !self.again.is_empty()
            || deadline.is_some_and(|due| due <= self.now);
        if let Some(due) = deadline
            && !busy
            && (due < self.armed || self.armed <= self.now)
        {
            // A deadline that moved later leaves the timer alone: one early wake-up, not a call every turn.
            self.timer.set(due)?;
            self.armed = due;
        }
        if !busy {
            self.behind = None;
        }
        // A turn without its events would end leases before it has read the renewals.
        loop {
            match self.poll.poll(events, busy.then_some(Duration::ZERO)) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Reads first, then the clock's work: a renewal that is already here comes before the end of its lease.
    fn turn(&mut self, events: &Events) {
        self.now = sys::now();
        let again = self.again.len().min(EVENTS_A_TURN);
        for event in events {
            match event.token() {
                TIMER => {}
                SIGNALS => self.signalled(),
                mio::Token(token) if token > DOORS.0 - self.doors.len() => {
                    self.doors[DOORS.0 - token].accept = true;
                }
                mio::Token(slot) => self.ready(slot, event),
            }
        }
        for _ in 0..again {
            let id = self.again.pop_front().expect("counted");
            if let Some(socket) = self.socket(id) {
                socket.again = false;
                self.read(id);
            }
        }
        self.listen_up(events.iter().count());
        self.hub.tick(self.now, self.heard);
        self.settle();
        // After the closes, whose descriptors may be wanted.
        if self.accept_retry.is_some_and(|due| due <= self.now) {
            self.accept_again();
        }
        if self.may_accept() {
            self.accept();
            self.settle();
        }
        while let Some(knot) = self.hub.next_knot() {
            self.log
                .debug(unix_us(), "deadlock", &[("waits", &Knot(&knot))]);
        }
        self.hub.end_turn();
        let untold = self.refusals.rest(self.now);
        self.warn_of_refusals(untold);
        if self.log.debug {
            self.measure();
        }
    }

    /// Notes until when everything that arrived has been heard: until now, unless there may be more than a turn
    /// takes. Then leases wait for those, but not for ever.
    fn listen_up(&mut self, events: usize) {
        if events < EVENTS_A_TURN && self.again.is_empty() && !self.hub.is_behind() {
            self.behind = None;
        } else if self.now
            < self
                .behind
                .get_or_insert(self.now)
                .saturating_add(BEHIND_MAX)
        {
            return;
        }
        self.heard = self.now;
    }

    /// Lets the hub work and writes what came of it, until neither leads to the other.
    fn settle(&mut self) {
        loop {
            self.hub.settle(self.now);
            let Some(mut id) = self.hub.next_dirty() else {
                break;
            };
            // One write for each connection: all of them before the hub goes on.
            loop {
                self.flush(id);
                match self.hub.next_dirty() {
                    Some(next) => id = next,
                    None => break,
                }
            }
        }
        while let Some(id) = self.hub.next_resumed() {
            self.read_again(id);
        }
    }

    fn ready(&mut self, slot: usize, event: &Event) {
        let Some(Some(socket)) = self.sockets.get_mut(slot) else {
            return;
        };
        let id = socket.id;
        // Not the end of both directions: one is ours, when we linger.
        let broken = event.is_error();
        socket.fin |= broken || event.is_read_closed();
        if event.is_readable() || socket.fin {
            self.read(id);
        }
        if event.is_priority() {
            // A read stops short at urgent data (tcp(7)), which is no sign that the socket is empty.
            self.read_again(id);
        }
        if broken {
            self.hub.closed(self.now, id);
        } else if event.is_writable() && self.socket(id).is_some_and(|socket| socket.full) {
            // Every edge says that there is room. An answer waits for its turn: who was granted comes first.
            self.flush(id);
        }
    }

    /// Reads once: a short read has emptied the socket, unless the peer has finished, when only 0 tells.
    fn read(&mut self, id: SessionId) {
        let Some(Some(socket)) = self.sockets.get_mut(id.slot() as usize) else {
            return;
        };
        loop {
            let room = self.hub.room(id).min(self.buffer.len());
            if room == 0 {
                if socket.fin {
                    self.hub.hung_up(self.now, id);
                }
                return;
            }
            match socket.stream.read(&mut self.buffer[..room]) {
                Ok(0) => return self.hub.finished(self.now, id),
                Ok(n) => {
                    self.hub.received(self.now, id, &self.buffer[..n]);
                    if n == room {
                        return self.read_again(id);
                    }
                    if !socket.fin {
                        return;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.hub.closed(self.now, id),
            }
        }
    }

    /// The next turn reads this socket, event or not.
    fn read_again(&mut self, id: SessionId) {
        if let Some(socket) = self.socket(id)
            && !socket.again
        {
            socket.again = true;
            self.again.push_back(id);
        }
    }

    /// Writes what the session has to say, once, and does what the hub wants done with the socket then.
    fn flush(&mut self, id: SessionId) {
        let Some(Some(socket)) = self.sockets.get_mut(id.slot() as usize) else {
            return;
        };
        socket.full = false;
        loop {
            let output = self.hub.output(id);
            if output.is_empty() {
                break;
            }
            match socket.stream.write(output) {
                Ok(n) => {
                    socket.full = n < output.len();
                    self.hub.sent(self.now, id, n);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => socket.full = true,
                Err(_) => self.hub.closed(self.now, id),
            }
            break;
        }
        match self.hub.next(self.now, id) {
            Next::Keep => {}
            Next::Shut => {
                // It fails if the peer has gone meanwhile, which the read will tell.
                let _ = socket.stream.shutdown(Shutdown::Write);
                self.read_again(id);
            }
            Next::Close => {
                self.sockets[id.slot() as usize] = None;
                self.guests.leave(id.slot());
                // There may be a client whom only the want of a descriptor kept out.
                if self.accept_retry.is_some() {
                    self.accept_again();
                }
            }
        }
    }

    fn may_accept(&self) -> bool {
        self.doors.iter().any(|door| door.accept)
    }

    /// No edge will tell of those who wait already.
    fn accept_again(&mut self) {
        self.accept_retry = None;
        for door in &mut self.doors {
            door.accept = door.listener.is_some();
        }
    }

    fn accept(&mut self) {
        for at in 0..self.doors.len() {
            if std::mem::take(&mut self.doors[at].accept) {
                self.accept_at(at);
            }
        }
    }

    fn accept_at(&mut self, at: usize) {
        for _ in 0..ACCEPTS_A_TURN {
            let Door { listener, face, .. } = &self.doors[at];
            let (Some(listener), face) = (listener, *face) else {
                return;
            };
            let accepted = match listener.accept() {
                Ok((stream, peer)) => {
                    self.admit(stream, peer.ip(), face);
                    Ok(())
                }
                Err(e) if is_exhaustion(&e) => self.refuse(at),
                Err(e) => Err(e),
            };
            match accepted.map_err(|e| (e.kind(), e)) {
                Ok(()) | Err((ErrorKind::Interrupted | ErrorKind::ConnectionAborted, _)) => {}
                Err((ErrorKind::WouldBlock, _)) => return,
                Err((_, e)) => {
                    // No edge will come for who waits already.
                    self.accept_retry = Some(self.now.saturating_add(ACCEPT_RETRY));
                    if let Some(count) = self.accept_errors.tick(self.now) {
                        self.log.warn(
                            unix_us(),
                            "accept-error",
                            &[("error", &e), ("count", &count)],
                        );
                    }
                    return;
                }
            }
        }
        self.doors[at].accept = true;
    }

    fn admit(&mut self, mut stream: TcpStream, peer: IpAddr, face: Face) {
        // One that is over a limit is dropped, which closes it.
        if !self.guests.may_enter(peer) {
            return;
        }
        let Some(id) = self.hub.opened(self.now, face) else {
            return;
        };
        self.guests.enter(id.slot(), peer);
        let slot = id.slot() as usize;
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        let registered = self
            .poll
            .registry()
            .register(&mut stream, mio::Token(slot), interest);
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        self.sockets[slot] = Some(Socket {
            stream,
            id,
            fin: false,
            again: false,
            full: false,
        });
        if registered.is_err() {
            self.hub.closed(self.now, id);
        }
    }

    /// Accepts a client with the reserve descriptor only to send it away: it learns at once, and the backlog does
    /// not fill with the unheard.
    fn refuse(&mut self, at: usize) -> io::Result<()> {
        self.reserve = None;
        let listener = self.doors[at].listener.as_ref().expect("it accepts");
        let accepted = listener.accept().map(drop);
        self.reserve = self.timer.as_fd().try_clone_to_owned().ok();
        accepted?;
        let count = self.refusals.tick(self.now);
        self.warn_of_refusals(count);
        Ok(())
    }

    fn warn_of_refusals(&self, count: Option<u64>) {
        if let Some(count) = count {
            self.log
                .warn(unix_us(), "fd-exhausted", &[("refused", &count)]);
        }
    }

    fn signalled(&mut self) {
        while self.signals.take().is_some() {
            if std::mem::replace(&mut self.draining, true) {
                self.cut = true;
                continue;
            }
            // Who has come already is turned away like the others, not reset.
            self.accept_again();
            self.accept();
            // Who holds without a connection may still come to give back.
            for door in &mut self.doors {
                if door.face == Face::Text {
                    door.listener = None;
                    door.accept = false;
                }
            }
            self.log
                .info(unix_us(), "draining", &[("connections", &self.hub.lines())]);
            self.hub.drain(self.now);
        }
    }

    fn socket(&mut self, id: SessionId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(id.slot() as usize)?.as_mut()?;
        (socket.id == id).then_some(socket)
    }

    fn measure(&mut self) {
        let took = sys::now() - self.now;
        if took > self.longest {
            self.longest = took;
            self.log.debug(unix_us(), "turn", &[("longest_us", &took)]);
        }
    }
}

/// Who waits for what, as `owner:key` or `owner:semaphore key` with commas between. The log escapes what is not plain,
/// so nothing is escaped here.
struct Knot<'a>(&'a [Tie]);

impl Display for Knot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (place, tie) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            match &tie.owner {
                Owner::Session(id) => write!(f, "conn {}", id.serial())?,
                Owner::Name(name) => f.write_str(&String::from_utf8_lossy(name))?,
            }
            let mark = match tie.space {
                Space::Lock => "",
                Space::Semaphore => "semaphore ",
            };
            write!(f, ":{mark}{}", String::from_utf8_lossy(&tie.key))?;
        }
        Ok(())
    }
}

/// The faces that there are to be, and where; the line protocol comes last.
fn faces(config: &Config) -> Vec<(Face, &str, u16)> {
    let Distlockd { port, host, .. } = &config.distlockd;
    let mut faces = Vec::new();
    if *port > 0 {
        let host = host.as_ref().unwrap_or(&config.host);
        faces.push((Face::Distlockd, host.as_str(), *port));
    }
    faces.push((Face::Text, &config.host, config.port));
    faces
}

fn listen(host: &str, port: u16) -> io::Result<(StdListener, SocketAddr)> {
    let open = || {
        let listener = StdListener::bind((host, port))?;
        listener.set_nonblocking(true)?;
        sys::prepare_listener(&listener)?;
        let addr = listener.local_addr()?;
        Ok((listener, addr))
    };
    open().map_err(|e: io::Error| {
        io::Error::new(
            e.kind(),
            format!("cannot listen on {host} port {port}: {e}"),
        )
    })
}

fn settings(config: &Config, said: Option<Vec<u8>>) -> io::Result<Settings> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|e| io::Error::other(format!("no random numbers: {e}")))?;
    let locks = locks::Settings {
        max_locks: config.max_locks,
        max_waiters: config.max_waiters,
        max_idle: config.max_idle,
        default_lease: config.default_lease,
        claim_lease: config.distlockd.lease,
        auto_release: config.auto_release,
        deadlock_detection: config.deadlock_detection,
        // A server that starts later has later fences, as long as nobody sets the clock back in between.
        first_fence: sys::unix_now_ns().max(1),
        secret,
    };
    Ok(Settings {
        locks,
        max_subscriptions: config.max_subscriptions,
        secret: said,
        read_timeout: config.read_timeout,
        write_timeout: config.write_timeout,
        shutdown_timeout: config.shutdown_timeout,
    })
}

fn is_exhaustion(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

fn unix_us() -> u64 {
    sys::unix_now_ns() / 1000
}
