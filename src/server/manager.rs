//! Messages to the service manager; see sd_notify(3): the server is ready, reads its files again, or stops; how much it has
//! to do; its loop turns. Without a manager this file does nothing. Invariant: the server waits for no message to go, and
//! one for which the manager has no room is sent again until it has.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::command::{SECOND, Us, earlier};
use crate::sys;

/// A new status is told no sooner than this after the last one.
const STATUS_EVERY: Us = 5 * SECOND;
/// While it drains, the server asks for so much time again and again.
const EXTEND_EVERY: Us = 5 * SECOND;
const EXTEND_BY: Us = 15 * SECOND;
/// When a message is sent again for which there was no room.
const AGAIN: Us = SECOND / 10;
/// From so many on, a reload adds none.
const OWED_MAX: usize = 16;

/// The service manager, if there is one.
pub(super) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it is told that the loop turns.
    every: Option<Us>,
    /// When it is told so next, when a new status may be, and when more time is asked for.
    watchdog: Us,
    status: Us,
    extend: Option<Us>,
    load: Load,
    told: Load,
    /// Messages for which there was no room, and when they are sent again.
    owed: VecDeque<String>,
    again: Us,
    /// It was told of the reload that goes on.
    is_reloading: bool,
}

/// How much the server has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Load {
    pub holds: u64,
    pub waiters: u64,
    pub connections: u32,
    /// It stands by for the server that leads; and the store that says who does is away.
    pub stands_by: bool,
    pub is_cut_off: bool,
}

impl Manager {
    /// The manager that the environment names. `get` reads the environment.
    ///
    /// # Errors
    /// `NOTIFY_SOCKET` names no unix socket.
    pub fn new(get: impl Fn(&str) -> Option<OsString>) -> io::Result<Manager> {
        let number = |name| get(name)?.into_string().ok()?.parse().ok();
        let own = u64::from(std::process::id());
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid: u64| pid == own);
        let timeout = number("WATCHDOG_USEC").filter(|&timeout| timeout > 0 && is_ours);
        let socket = match get("NOTIFY_SOCKET").filter(|path| !path.is_empty()) {
            None => None,
            Some(path) => Some(open(path.as_bytes())?),
        };
        Ok(Manager {
            every: timeout
                .filter(|_| socket.is_some())
                .map(|timeout| (timeout / 2).max(1)),
            socket,
            watchdog: 0,
            status: 0,
            extend: None,
            load: Load::default(),
            told: Load::default(),
            owed: VecDeque::new(),
            again: 0,
            is_reloading: false,
        })
    }

    /// The server serves from now on.
    pub fn ready(&mut self, now: Us, load: Load) {
        let text = load.text();
        self.send(now, format!("READY=1\nSTATUS={text}\n"));
        (self.load, self.told) = (load, load);
        self.status = now.saturating_add(STATUS_EVERY);
    }

    /// It reads its files again, and serves meanwhile.
    pub fn reloading(&mut self, now: Us) {
        self.is_reloading = self.may_reload();
        if self.is_reloading {
            let text = format!("RELOADING=1\nMONOTONIC_USEC={}\n", sys::monotonic());
            self.send(now, text);
        }
    }

    /// It has read them.
    pub fn reloaded(&mut self, now: Us) {
        if std::mem::take(&mut self.is_reloading) {
            self.send(now, "READY=1\n".to_string());
        }
    }

    /// A server that stops does not become ready again. A manager that takes no messages is not owed more and more.
    fn may_reload(&self) -> bool {
        self.extend.is_none() && self.owed.len() < OWED_MAX
    }

    /// It stops once its holders have finished.
    pub fn stopping(&mut self, now: Us, load: Load) {
        let text = load.text();
        self.send(now, format!("STOPPING=1\nSTATUS=draining: {text}\n"));
        (self.load, self.told) = (load, load);
        self.extend = self.socket.is_some().then_some(now);
    }

    /// Whether anybody listens.
    #[inline]
    pub fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// A turn has done its timers. Tells what is due.
    #[cold]
    pub fn turned(&mut self, now: Us, load: Load) {
        self.load = load;
        if self.again <= now {
            self.send_owed(now);
        }
        if !self.owed.is_empty() {
            return;
        }
        let mut text = String::new();
        if let Some(every) = self.every.filter(|_| self.watchdog <= now) {
            self.watchdog = now.saturating_add(every);
            text.push_str("WATCHDOG=1\n");
        }
        if self.load != self.told && self.status <= now {
            self.status = now.saturating_add(STATUS_EVERY);
            self.told = self.load;
            let state = self.extend.map_or("", |_| "draining: ");
            let _ = writeln!(text, "STATUS={state}{}", self.told.text());
        }
        if self.extend.is_some_and(|due| due <= now) {
            self.extend = Some(now.saturating_add(EXTEND_EVERY));
            let _ = writeln!(text, "EXTEND_TIMEOUT_USEC={EXTEND_BY}");
        }
        if !text.is_empty() {
            self.send(now, text);
        }
    }

    /// When a turn is needed though nothing happens.
    pub fn deadline(&self) -> Option<Us> {
        if !self.owed.is_empty() {
            return Some(self.again);
        }
        let watchdog = self.every.map(|_| self.watchdog);
        let status = (self.load != self.told).then_some(self.status);
        earlier(watchdog, earlier(status, self.extend))
    }

    fn send(&mut self, now: Us, text: String) {
        if self.socket.is_some() {
            self.owed.push_back(text);
            self.send_owed(now);
        }
    }

    fn send_owed(&mut self, now: Us) {
        let Some((socket, manager)) = &self.socket else {
            return;
        };
        self.again = now.saturating_add(AGAIN);
        while let Some(text) = self.owed.front() {
            match socket.send_to_addr(text.as_bytes(), manager) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                // A manager that is gone hears nothing of this either.
                Ok(_) | Err(_) => self.owed.pop_front(),
            };
        }
    }
}

impl Load {
    fn text(&self) -> String {
        let Load {
            holds,
            waiters,
            connections,
            stands_by,
            is_cut_off,
        } = self;
        let part = match (*stands_by, *is_cut_off) {
            (false, _) => "",
            (true, false) => "standby: ",
            (true, true) => "standby, etcd does not answer: ",
        };
        format!("{part}{holds} holds, {waiters} waiters, {connections} connections")
    }
}

/// A socket to send to the one of this path; a path that begins with `@` is an abstract name (unix(7)).
fn open(path: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let manager = match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None if path.starts_with(b"/") => SocketAddr::from_pathname(OsStr::from_bytes(path)),
        None => Err(io::Error::other("want a path or a name that begins with @")),
    };
    let manager = manager.map_err(|e| {
        let path = String::from_utf8_lossy(path);
        io::Error::new(e.kind(), format!("NOTIFY_SOCKET {path:?}: {e}"))
    })?;
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, manager))
}
