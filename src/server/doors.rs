//! Where clients come in: a listening socket for each face, the limits on connections, and what is done when the system has
//! no more descriptors. Readiness to accept is told once, so what was not accepted is remembered. Invariant: a client that
//! is over a limit is closed before it is read.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::os::fd::{BorrowedFd, OwnedFd};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::limits::Limits;
use super::socket::Sockets;
use super::unix_us;
use crate::command::{SessionId, Us};
use crate::config::{Config, Distlockd};
use crate::hub::{Hub, Vitals};
use crate::log::{Fields, Log, Pace};
use crate::sys;
use crate::wire::Face;

/// The token of the first door; those of the others go down from it. It is above every slot.
const FIRST: Token = Token(usize::MAX - 2);
/// Connections that one door takes in a turn: some 20 us each.
const ACCEPTS_A_TURN: usize = 32;
/// When to try again to accept, if the system has no more files and nothing closes.
const RETRY: Us = 100_000;

/// What a connection is let into.
pub(super) struct World<'a> {
    pub hub: &'a mut Hub,
    pub sockets: &'a mut Sockets,
    pub registry: &'a Registry,
    pub log: Log,
    /// A descriptor to copy for the reserve.
    pub spare: BorrowedFd<'a>,
}

/// All doors, and how many connections came through them.
pub(super) struct Doors {
    doors: Vec<Door>,
    limits: Limits,
    /// When to try to accept although nothing says so.
    retry: Option<Us>,
    /// A descriptor to give up when there are no others, so that a client can be accepted and sent away.
    reserve: Option<OwnedFd>,
    refusals: Pace,
    errors: Pace,
    accepted: u64,
    turned_away: u64,
}

/// Where clients of one face come in.
struct Door {
    /// None once the server drains, unless there is still something to be done on that face.
    listener: Option<TcpListener>,
    face: Face,
    addr: SocketAddr,
    /// There may be more to accept.
    accept: bool,
}

impl Doors {
    /// Listens for every face that is configured.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub fn open(config: &Config) -> io::Result<Doors> {
        let mut doors = Vec::new();
        for (face, host, port) in faces(config) {
            doors.push(Door::open(face, host, port)?);
        }
        Ok(Doors {
            doors,
            limits: Limits::new(config.max_connections, config.max_connections_per_ip),
            retry: None,
            reserve: None,
            refusals: Pace::default(),
            errors: Pace::default(),
            accepted: 0,
            turned_away: 0,
        })
    }

    /// Lets poll tell of clients, and copies a descriptor for the reserve.
    pub fn watch(&mut self, registry: &Registry, spare: BorrowedFd) -> io::Result<()> {
        for (at, door) in self.doors.iter_mut().enumerate() {
            let listener = door.listener.as_mut().expect("it was just opened");
            registry.register(listener, Token(FIRST.0 - at), Interest::READABLE)?;
        }
        self.reserve = Some(spare.try_clone_to_owned()?);
        Ok(())
    }

    /// Logs where clients come in. The line protocol is the last: then all is ready.
    pub fn announce(&self, log: Log) {
        for Door { face, addr, .. } in &self.doors {
            log.info(unix_us(), face.rules().listening, &[("addr", addr)]);
        }
    }

    /// Notes an event that has this token. False if it is no door's.
    pub fn event(&mut self, token: Token) -> bool {
        let at = FIRST.0.wrapping_sub(token.0);
        let door = self.doors.get_mut(at);
        let is_door = door.is_some();
        if let Some(door) = door {
            door.accept = true;
        }
        is_door
    }

    /// Whether clients may be waiting.
    pub fn may_accept(&self) -> bool {
        self.doors.iter().any(|door| door.accept)
    }

    /// When a turn is needed though nothing happens: to try again, or to log what was counted.
    pub fn deadline(&self) -> Option<Us> {
        [self.retry, self.refusals.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// No edge will tell of clients that wait already.
    pub fn accept_again(&mut self) {
        self.retry = None;
        for door in &mut self.doors {
            door.accept = door.listener.is_some();
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

    /// Newcomers of the line protocol are sent away from now on. Other faces stay: a client that holds without a
    /// connection may still come to give back.
    pub fn close_lines(&mut self) {
        for door in &mut self.doors {
            if door.face.rules().drains {
                door.listener = None;
                door.accept = false;
            }
        }
    }

    /// Takes in clients that wait, as many as a turn may.
    pub fn accept(&mut self, now: Us, world: &mut World) {
        for at in 0..self.doors.len() {
            if std::mem::take(&mut self.doors[at].accept) {
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
                    self.admit(stream, peer.ip(), face, world);
                    Ok(())
                }
                Err(e) if sys::is_exhaustion(&e) => self.turn_away(at, now, world),
                Err(e) => Err(e),
            };
            match accepted.map_err(|e| (e.kind(), e)) {
                Ok(()) | Err((ErrorKind::Interrupted | ErrorKind::ConnectionAborted, _)) => {}
                Err((ErrorKind::WouldBlock, _)) => return,
                Err((_, e)) => {
                    // No edge will come for clients that wait already.
                    self.retry = Some(now.saturating_add(RETRY));
                    if let Some(count) = self.errors.tick(now) {
                        let fields: Fields = &[("error", &e), ("count", &count)];
                        world.log.warn(unix_us(), "accept-error", fields);
                    }
                    return;
                }
            }
        }
        self.doors[at].accept = true;
    }

    fn admit(&mut self, stream: TcpStream, peer: IpAddr, face: Face, world: &mut World) {
        // One that is over a limit is dropped, which closes it.
        let id = match self.limits.may_enter(peer) {
            true => world.hub.opened(face),
            false => None,
        };
        let Some(id) = id else {
            self.turned_away += 1;
            return;
        };
        self.accepted += 1;
        self.limits.enter(id.slot(), peer);
        if world.sockets.insert(stream, id, world.registry).is_err() {
            world.hub.closed(id);
        }
    }

    /// Accepts a client with the reserve descriptor only to send it away: it learns at once, and the backlog does
    /// not fill with the unheard.
    fn turn_away(&mut self, at: usize, now: Us, world: &World) -> io::Result<()> {
        self.reserve = None;
        let listener = self.doors[at].listener.as_ref().expect("it accepts");
        let accepted = listener.accept().map(drop);
        self.reserve = world.spare.try_clone_to_owned().ok();
        accepted?;
        self.turned_away += 1;
        let count = self.refusals.tick(now);
        warn_of_refusals(world.log, count);
        Ok(())
    }

    /// Logs what was counted and not said yet, once a second; all of it if `now` is the end of time.
    pub fn report(&mut self, now: Us, log: Log) {
        let count = self.refusals.rest(now);
        warn_of_refusals(log, count);
    }

    /// What the doors have counted, for the hub's snapshot.
    pub fn count(&self, vitals: &mut Vitals) {
        vitals.accepted = self.accepted;
        vitals.turned_away = self.turned_away;
    }
}

impl Door {
    fn open(face: Face, host: &str, port: u16) -> io::Result<Door> {
        let open = || {
            let listener = StdListener::bind((host, port))?;
            listener.set_nonblocking(true)?;
            sys::prepare_listener(&listener)?;
            let addr = listener.local_addr()?;
            Ok((listener, addr))
        };
        let (listener, addr) = open().map_err(|e: io::Error| {
            let text = format!("cannot listen on {host} port {port}: {e}");
            io::Error::new(e.kind(), text)
        })?;
        Ok(Door {
            listener: Some(TcpListener::from_std(listener)),
            face,
            addr,
            accept: false,
        })
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

fn warn_of_refusals(log: Log, count: Option<u64>) {
    if let Some(count) = count {
        log.warn(unix_us(), "fd-exhausted", &[("refused", &count)]);
    }
}
