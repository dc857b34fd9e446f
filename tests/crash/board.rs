//! Where the server is at the moment, for the clients of a run. Invariant: a server is announced when it is ready, and
//! taken back before it is told to stop.

use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::link::Gone;
use crate::record::Ns;

/// A server's doors.
#[derive(Clone, Copy)]
pub struct Place {
    /// Later servers have higher numbers.
    pub number: u64,
    pub line: SocketAddr,
    pub distlockd: SocketAddr,
    pub http: SocketAddr,
    /// Whether the first and the last of them speak TLS.
    pub secure: bool,
}

impl Place {
    pub fn of(daemon: &Daemon, number: u64, secure: bool) -> Place {
        Place {
            number,
            line: daemon.addr,
            distlockd: daemon.distlockd,
            http: daemon.http,
            secure,
        }
    }
}

#[derive(Default)]
struct State {
    place: Option<Place>,
    over: bool,
}

#[derive(Default)]
pub struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

impl Board {
    pub fn announce(&self, place: Option<Place>) {
        self.state().place = place;
        self.changed.notify_all();
    }

    /// The run is over: no client begins anything.
    pub fn end(&self) {
        self.state().over = true;
        self.changed.notify_all();
    }

    pub fn is_over(&self) -> bool {
        self.state().over
    }

    /// Waits for a server after the one with that number; None when the run is over.
    pub fn wait(&self, after: u64) -> Option<Place> {
        let mut state = self.state();
        loop {
            if state.over {
                return None;
            }
            if let Some(place) = state.place.filter(|place| place.number > after) {
                return Some(place);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether a connection that was just made is one to this server: if it is there now, nobody else can have had its ports
    /// then.
    pub fn has(&self, place: &Place) -> Result<(), Gone> {
        let is_there = |now: Place| now.number == place.number;
        let is_there = self.state().place.is_some_and(is_there);
        is_there.then_some(()).ok_or(Gone)
    }

    /// Waits for so long, or until the run is over, or, if a server's number is given, until a later one is there. That
    /// time passes is the matter itself: a client thinks, works or has stopped.
    pub fn sleep(&self, time: Ns, server: Option<u64>) {
        let end = Instant::now() + Duration::from_nanos(time);
        let mut state = self.state();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let is_new = |place: Place| server.is_some_and(|server| place.number > server);
            if left.is_zero() || state.over || state.place.is_some_and(is_new) {
                return;
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
