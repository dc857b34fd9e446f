//! Where clients come in: a listening socket for each face on each address of its host, or those that a service manager
//! hands over; the limits on connections, and what is done when the system has no more descriptors. Readiness to accept
//! is told once, so what was not accepted is remembered. Invariant: a client that is over a limit is closed before it
//! is read.

use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{BorrowedFd, OwnedFd};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::limits::{Limits, Over};
use super::places::{Place, Places};
use super::refusals::Kind;
use super::unix_us;
use super::world::World;
use crate::command::{Refusal, Reply, SessionId, Us, earlier};
use crate::config;
use crate::hub::Vitals;
use crate::log::{Fields, Log, Pace};
use crate::sys;
use crate::sys::activation::Inherited;
use crate::wire::{Face, Rules};

/// The token of the first door; those of the others go down from it. It is above every slot.
const FIRST: Token = Token(usize::MAX - 3);
/// Connections that one door takes in a turn: some 20 us each.
const ACCEPTS_A_TURN: usize = 32;
/// How often a free port is looked for that is free on all addresses of a host.
const PORT_TRIES: usize = 64;
/// When to try again to accept, if there are too many handshakes.
const PRESSED: Us = 5_000;
/// When to try again to accept, if the system has no more files and nothing closes.
const RETRY: Us = 100_000;

/// All doors, and how many connections came through them.
pub(super) struct Doors {
    doors: Vec<Door>,
    limits: Limits,
    /// One of the doors may have more to accept.
    may_accept: bool,
    /// When to try to accept although nothing says so.
    retry: Option<Us>,
    /// A descriptor to give up when there are no others, so that a client can be accepted and sent away.
    reserve: Option<OwnedFd>,
    exhausted: Pace,
    errors: Pace,
    /// The last of the errors.
    error: Option<io::Error>,
    /// Connections that were sent away: over one of the limits, or for want of a descriptor.
    over_limit: u64,
    over_limit_per_ip: u64,
    out_of_files: u64,
    /// How often nothing could be accepted until later.
    stalls: u64,
}

/// Where clients of one face come in, at one address.
struct Door {
    /// None once a drain has come to its end, unless there is still something to be done on that face.
    listener: Option<TcpListener>,
    face: Face,
    addr: SocketAddr,
    /// The socket is the service manager's, and there will be another process behind it.
    is_inherited: bool,
    /// There may be more to accept.
    accept: bool,
}

impl Doors {
    /// Listens at every place that is wanted, and at sockets that are inherited. The texts are warnings: addresses of a
    /// host that this machine lacks.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub fn open(
        places: &Places,
        sockets: Vec<(Face, Inherited)>,
        is_wanted: impl Fn(&Rules) -> bool,
    ) -> io::Result<(Doors, Vec<String>)> {
        let (mut doors, mut warnings) = (Vec::new(), Vec::new());
        for (face, socket) in sockets {
            doors.push(Door::new(face, socket.listener, true)?);
        }
        let wanted = places.all.iter();
        for wanted in wanted.filter(|place| is_wanted(place.face.rules())) {
            let opened = wanted.open(&mut warnings);
            let opened = opened.map_err(|e| wanted.refusal(&e, &doors))?;
            doors.extend(opened);
        }
        // The line protocol is the last that is announced.
        doors.sort_by_key(|door: &Door| door.face == Face::Text);
        let doors = Doors {
            may_accept: doors.iter().any(|door| door.accept),
            doors,
            limits: Limits::new(places.max_connections, places.max_connections_per_ip),
            retry: None,
            reserve: None,
            exhausted: Pace::default(),
            errors: Pace::default(),
            error: None,
            over_limit: 0,
            over_limit_per_ip: 0,
            out_of_files: 0,
            stalls: 0,
        };
        Ok((doors, warnings))
    }

    /// Takes in the doors of other faces. All connections so far are gone.
    pub fn join(&mut self, others: Doors, registry: &Registry) -> io::Result<()> {
        self.limits = others.limits;
        let first = self.doors.len();
        self.doors.extend(others.doors);
        self.watch_from(first, registry)
    }

    /// Lets poll tell of clients, and copies a descriptor for the reserve.
    pub fn watch(&mut self, registry: &Registry, spare: BorrowedFd) -> io::Result<()> {
        self.reserve = Some(spare.try_clone_to_owned()?);
        self.watch_from(0, registry)
    }

    fn watch_from(&mut self, first: usize, registry: &Registry) -> io::Result<()> {
        for (at, door) in self.doors.iter_mut().enumerate().skip(first) {
            let listener = door.listener.as_mut().expect("it was just opened");
            registry.register(listener, Token(FIRST.0 - at), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Logs where clients come in. The line protocol is the last: then all is ready.
    pub fn announce(&self, tls: &config::Tls, log: &mut Log) {
        for Door { face, addr, .. } in &self.doors {
            let mut fields: Vec<(&str, &dyn Display)> = vec![("addr", addr)];
            if tls.has(*face) {
                fields.push(("tls", &true));
            }
            log.info(unix_us(), face.rules().listening, &fields);
        }
    }

    /// Notes an event that has this token. False if it is no door's.
    pub fn event(&mut self, token: Token) -> bool {
        let at = FIRST.0.wrapping_sub(token.0);
        let door = self.doors.get_mut(at);
        let is_door = door.is_some();
        if let Some(door) = door {
            door.accept = true;
            self.may_accept = true;
        }
        is_door
    }

    /// Whether clients may be waiting.
    pub fn may_accept(&self) -> bool {
        self.may_accept
    }

    /// When a turn is needed though nothing happens: to try again, or to log what was counted.
    pub fn deadline(&self) -> Option<Us> {
        let told = earlier(self.exhausted.deadline(), self.errors.deadline());
        earlier(self.retry, told)
    }

    /// Whether something was counted that the log has not been told.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.exhausted.has_some() || self.errors.has_some()
    }

    /// No edge will tell of clients that wait already.
    pub fn accept_again(&mut self) {
        self.retry = None;
        for door in &mut self.doors {
            door.accept = door.listener.is_some();
            self.may_accept |= door.accept;
        }
    }

    /// Tries again, if that is due.
    pub fn retry(&mut self, now: Us) {
        if self.retry.is_some_and(|due| due <= now) {
            self.accept_again();
        }
    }

    /// A connection was closed: there may be a client whom only the want of a descriptor kept out.
    pub fn closed(&mut self, id: SessionId) {
        self.limits.leave(id.slot());
        if self.retry.is_some() {
            self.accept_again();
        }
    }

    /// Whether doors are open that the end of a drain closes.
    pub fn are_to_close(&self) -> bool {
        let closes = |door: &Door| door.is_inherited || door.face.rules().drains;
        let is_open = |door: &Door| closes(door) && door.listener.is_some();
        self.doors.iter().any(is_open)
    }

    /// Newcomers wait for the next process where there will be one: at the sockets of the service manager.
    pub fn leave_to_others(&mut self, registry: &Registry) {
        self.close(registry, |door| door.is_inherited);
    }

    /// Newcomers find another server.
    pub fn close_all(&mut self, registry: &Registry) {
        self.close(registry, |_| true);
    }

    /// Newcomers of the line protocol are sent away from now on. Other faces stay: a client that holds without a
    /// connection may still come to give back.
    pub fn close_lines(&mut self, registry: &Registry) {
        self.close(registry, |door| door.face.rules().drains);
    }

    fn close(&mut self, registry: &Registry, which: impl Fn(&Door) -> bool) {
        for door in self.doors.iter_mut().filter(|door| which(door)) {
            door.accept = false;
            if let Some(mut listener) = door.listener.take() {
                // The manager has the socket, too: a close alone would not end its events here (epoll(7)).
                let _ = registry.deregister(&mut listener);
            }
        }
    }

    /// Takes in clients that wait, as many as a turn may.
    pub fn accept(&mut self, now: Us, world: &mut World) {
        self.may_accept = false;
        for at in 0..self.doors.len() {
            if world.is_pressed(self.doors[at].face) {
                // Nothing tells when that is over.
                self.retry.get_or_insert(now.saturating_add(PRESSED));
            } else if std::mem::take(&mut self.doors[at].accept) {
                self.accept_at(at, now, world);
            }
        }
    }

    fn accept_at(&mut self, at: usize, now: Us, world: &mut World) {
        for _ in 0..ACCEPTS_A_TURN {
            let Door { listener, face, .. } = &self.doors[at];
            let (Some(listener), face) = (listener, *face) else {
                return;
            };
            let accepted = match listener.accept() {
                Ok((stream, peer)) => {
                    self.admit(stream, peer, face, world);
                    Ok(())
                }
                Err(e) if sys::is_exhaustion(&e) => self.turn_away(at, world),
                Err(e) => Err(e),
            };
            match accepted.map_err(|e| (e.kind(), e)) {
                Ok(()) | Err((ErrorKind::Interrupted | ErrorKind::ConnectionAborted, _)) => {}
                Err((ErrorKind::WouldBlock, _)) => return,
                Err((_, e)) => {
                    // No edge will come for clients that wait already.
                    self.stalls += 1;
                    self.retry = Some(now.saturating_add(RETRY));
                    self.errors.add(1);
                    self.error = Some(e);
                    return;
                }
            }
        }
        self.doors[at].accept = true;
        self.may_accept = true;
    }

    fn admit(&mut self, socket: TcpStream, peer: SocketAddr, face: Face, world: &mut World) {
        if let Some(over) = self.limits.keeps_out(peer.ip()) {
            let (kind, count) = match over {
                Over::All => (Kind::Connections, &mut self.over_limit),
                Over::PerIp => (Kind::ConnectionsPerIp, &mut self.over_limit_per_ip),
            };
            *count += 1;
            world.refusals.add(kind, 1, Some(peer));
            // Over TLS it could not be told before it has shaken hands.
            if !world.has_tls(face) {
                refuse(socket, face);
            }
            return;
        }
        let Some(id) = world.hub.opened(face, peer) else {
            self.over_limit += 1;
            return;
        };
        self.limits.enter(id.slot(), peer.ip());
        let stream = world.stream(socket, face);
        if stream.is_handshaking() {
            let (sockets, refusals) = (&mut *world.sockets, &mut *world.refusals);
            sockets.begin_handshake(id, world.hub, refusals);
        }
        if world.sockets.insert(stream, id, world.registry).is_err() {
            world.hub.closed(id);
        }
    }

    /// Accepts a client with the reserve descriptor only to send it away: it learns at once, and the backlog does
    /// not fill with the unheard.
    fn turn_away(&mut self, at: usize, world: &World) -> io::Result<()> {
        self.reserve = None;
        let listener = self.doors[at].listener.as_ref().expect("it accepts");
        let accepted = listener.accept().map(drop);
        self.reserve = world.spare.try_clone_to_owned().ok();
        accepted?;
        self.out_of_files += 1;
        self.exhausted.add(1);
        Ok(())
    }

    /// Logs what was counted and not said yet, once a second; all of it if `now` is the end of time.
    pub fn report(&mut self, now: Us, log: &mut Log) {
        if let Some(count) = self.exhausted.rest(now) {
            log.warn(unix_us(), "fd-exhausted", &[("refused", &count)]);
        }
        if let Some(count) = self.errors.rest(now)
            && let Some(error) = &self.error
        {
            let fields: Fields = &[("error", error), ("count", &count)];
            log.warn(unix_us(), "accept-error", fields);
        }
    }

    /// How many connections there are.
    pub fn connections(&self) -> u32 {
        self.limits.count()
    }

    /// The counts of the doors, for the metrics.
    pub fn count(&self, vitals: &mut Vitals) {
        vitals.over_limit = self.over_limit;
        vitals.over_limit_per_ip = self.over_limit_per_ip;
        vitals.out_of_files = self.out_of_files;
        vitals.accept_stalls = self.stalls;
    }
}

/// Listens on each address of a host, on the same port of each: a client may take any of them first. If the port is 0
/// the kernel chooses one at the first address, and another one if that is not free at all of them.
fn open_each(
    face: Face,
    host: &str,
    mut addrs: Vec<SocketAddr>,
    warnings: &mut Vec<String>,
) -> io::Result<Vec<Door>> {
    let is_any = addrs.iter().all(|addr| addr.port() == 0);
    let mut tries = PORT_TRIES;
    loop {
        match open_on(face, &addrs) {
            Err((_, e)) if e.kind() == ErrorKind::AddrInUse && is_any && tries > 1 => tries -= 1,
            // A name may have addresses that this machine does not have, such as ::1 where there is no IPv6.
            Err((addr, e)) if is_not_ours(&e) && addrs.len() > 1 => {
                addrs.retain(|other| other.ip() != addr.ip());
                warnings.push(format!("not listening on {} of {host}: {e}", addr.ip()));
            }
            Err((addr, e)) if addr.ip().to_string() != host => {
                return Err(io::Error::new(e.kind(), format!("{}: {e}", addr.ip())));
            }
            opened => return opened.map_err(|(_, e)| e),
        }
    }
}

/// Listens on all these addresses, which have the same port, or on none. With an error comes its address.
fn open_on(face: Face, addrs: &[SocketAddr]) -> Result<Vec<Door>, (SocketAddr, io::Error)> {
    let mut doors: Vec<Door> = Vec::new();
    for &(mut addr) in addrs {
        if let Some(first) = doors.first() {
            addr.set_port(first.addr.port());
        }
        doors.push(Door::open(face, addr).map_err(|e| (addr, e))?);
    }
    Ok(doors)
}

/// Whether it is for want of this address that it cannot be listened on; see ip(7) and socket(2).
fn is_not_ours(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || sys::is_no_family(error)
}

impl Door {
    fn open(face: Face, addr: SocketAddr) -> io::Result<Door> {
        Door::new(face, StdListener::bind(addr)?, false)
    }

    fn new(face: Face, listener: StdListener, is_inherited: bool) -> io::Result<Door> {
        listener.set_nonblocking(true)?;
        sys::prepare_listener(&listener)?;
        let addr = listener.local_addr()?;
        Ok(Door {
            listener: Some(TcpListener::from_std(listener)),
            face,
            addr,
            is_inherited,
            // Clients may have come before this process.
            accept: is_inherited,
        })
    }
}

impl Place {
    fn open(&self, warnings: &mut Vec<String>) -> io::Result<Vec<Door>> {
        match &self.addrs {
            Ok(addrs) => open_each(self.face, &self.host, addrs.clone(), warnings),
            Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
        }
    }

    /// An error that says what was wanted and by which option. The address may be that of another face.
    fn refusal(&self, error: &io::Error, doors: &[Door]) -> io::Error {
        let Place { host, port, .. } = self;
        let is_own = |door: &Door| {
            let mut addrs = self.addrs.iter().flatten();
            addrs.any(|&addr| is_same(addr, door.addr))
        };
        let own = doors.iter().find(|door| is_own(door));
        let why = match own.filter(|_| error.kind() == ErrorKind::AddrInUse) {
            Some(door) => format!(
                "{} and {} have the same address",
                door.face.rules().port_flag,
                self.face.rules().port_flag
            ),
            None => format!(
                "{error}; see {} and {}",
                self.host_flag,
                self.face.rules().port_flag
            ),
        };
        let text = format!("cannot listen on {host} port {port}: {why}");
        io::Error::new(error.kind(), text)
    }
}

/// Whether only one socket can listen on both. An unspecified address is all of the machine's.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (is_any || one.ip() == other.ip())
}

/// Closes a connection that is over a limit, and tells its client why where that cannot be taken for an answer. Nothing
/// waits for the client to hear it.
fn refuse(mut stream: TcpStream, face: Face) {
    if !face.rules().has_last_word {
        return;
    }
    let mut line = Vec::new();
    face.write(Reply::Refused(Refusal::MaxConnections), &mut line);
    // The client may be gone by now.
    let _ = stream.write(&line);
    // A close with input unread is a reset, by which the line can be lost.
    let _ = stream.read(&mut [0; 4096]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream as StdStream;

    fn open(host: &str, addrs: &[&str]) -> (io::Result<Vec<Door>>, Vec<String>) {
        let addrs = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        let mut warnings = Vec::new();
        let opened = open_each(Face::Text, host, addrs, &mut warnings);
        (opened, warnings)
    }

    #[test]
    fn a_name_has_a_door_on_each_of_its_addresses_all_on_one_port() {
        for addrs in [["127.0.0.1:0", "[::1]:0"], ["[::1]:0", "127.0.0.1:0"]] {
            let (doors, warnings) = open("both", &addrs);
            let doors = doors.unwrap();
            assert_eq!((doors.len(), warnings.len()), (2, 0));
            assert_eq!(doors[0].addr.port(), doors[1].addr.port());
            for door in &doors {
                StdStream::connect(door.addr).unwrap();
            }
        }
    }

    #[test]
    fn a_name_of_which_one_address_is_in_use_is_refused_and_the_address_named() {
        let taken = StdListener::bind("[::1]:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let (doors, _) = open(
            "both",
            &[&format!("127.0.0.1:{port}"), &format!("[::1]:{port}")],
        );
        let error = doors.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with("::1: "), "{error}");
        // Nothing of it is left.
        StdListener::bind(("127.0.0.1", port)).unwrap();
    }

    /// The addresses are for documents only: RFC 5737.
    #[test]
    fn addresses_that_this_machine_lacks_are_left_out_unless_there_is_no_other() {
        let (doors, warnings) = open("some", &["192.0.2.1:0", "127.0.0.1:0"]);
        let doors = doors.unwrap();
        assert_eq!(doors.len(), 1);
        assert!(doors[0].addr.ip().is_loopback());
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].starts_with("not listening on 192.0.2.1 of some: "),
            "{warnings:?}"
        );
        let (doors, warnings) = open("none", &["192.0.2.1:0", "198.51.100.1:0"]);
        let error = doors.err().unwrap();
        assert!(error.to_string().starts_with("198.51.100.1: "), "{error}");
        assert_eq!(warnings.len(), 1);
    }
}
