//! A guard: a hold that a thread of its own renews at half time, and that ends with its value. The thread never
//! connects again: when a renewal finds the connection broken, the lock is lost. Nothing here stops the work that the
//! lock guards, which `on_lost` or [`Lock::is_lost`] must. Invariant: once lost it stays lost, and it is lost as soon
//! as its deadline has passed, whatever the thread is doing.
//!
//! ```no_run
//! use std::time::Duration;
//! use dflockd::client::{Client, Error, Key, Lock, Options};
//!
//! # fn step(_fence: u64) -> bool { false }
//! # fn main() -> Result<(), Error> {
//! let client = Client::connect("127.0.0.1:6388", &Options::default())?;
//! let key = Key::lock(b"nightly-backup")?;
//! let lock = Lock::acquire(client, key, Duration::from_secs(10), None)?;
//! while !lock.is_lost() && step(lock.fence()) {}
//! lock.release()
//! # }
//! ```

use std::io::ErrorKind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Client, Error, Grant, Key, NAP, Owner, Refusal, Token};
use crate::command::{Space, Us};
use crate::sys;

/// A lock or a slot of a semaphore, held and renewed until it is dropped, released or lost.
///
/// To drop it is to release it without asking how that went; it waits for the answer no longer than the patience of
/// the client.
#[derive(Debug)]
pub struct Lock {
    token: Token,
    shared: Arc<Shared>,
    /// None once it was waited for.
    keeper: Option<JoinHandle<Result<(), Error>>>,
}

impl Lock {
    /// Acquires `key` on a connection of its own, as [`Client::acquire`] does and with its errors, and keeps it. With
    /// an error the connection is closed. [`Error::Io`] also if there can be no more threads.
    ///
    /// A connection that has declared no owner declares a unique one, by which the server's listing shows the host and
    /// the process; unless it holds something already, or the server knows no owners.
    pub fn acquire(
        client: Client,
        key: Key<'_>,
        wait: Duration,
        lease: Option<Duration>,
    ) -> Result<Lock, Error> {
        Lock::acquire_with(client, key, wait, lease, || {})
    }

    /// As [`Lock::acquire`]; `on_lost` runs if the lock is lost before it is released, once, on the thread that renews.
    /// It is lost when a renewal is refused or finds the connection broken, or at its deadline if none was answered:
    /// the server is frozen or out of reach, or this machine was suspended, in which case it runs within a second
    /// after that. Then the connection is closed, after `on_lost`.
    ///
    /// A server that closes the connection gives the lock to the next in line at once, unless told otherwise. Nobody
    /// here hears of that before the next renewal: what must not be done twice needs the fence.
    pub fn acquire_with(
        mut client: Client,
        key: Key<'_>,
        wait: Duration,
        lease: Option<Duration>,
        on_lost: impl FnOnce() + Send + 'static,
    ) -> Result<Lock, Error> {
        if client.owner().is_none() {
            let until = sys::now().saturating_add(client.patience);
            match client.declare(Owner::unique(), until) {
                Ok(()) | Err(Error::Refused(Refusal::Error)) => {}
                Err(error) => return Err(error),
            }
        }
        let grant = client.acquire(&key, wait, lease)?;
        let shared = Arc::new(Shared::new(grant.until));
        let mut keeper = Keeper {
            client,
            name: key.name.to_vec(),
            space: key.space,
            limit: key.limit,
            token: grant.token,
            shared: Arc::clone(&shared),
        };
        let keeper = thread::Builder::new()
            .name("dflock-keeper".to_string())
            .spawn(move || keeper.keep(grant, on_lost))?;
        Ok(Lock {
            token: grant.token,
            shared,
            keeper: Some(keeper),
        })
    }

    /// Proves the hold.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Rises with every grant: for the resource that the lock guards, which refuses what comes with a lower one.
    pub fn fence(&self) -> u64 {
        self.token.fence
    }

    /// Whether the hold has ended, or may have: a renewal was refused, or the deadline has passed. The deadline is
    /// the end of the lease on the clock of [`sys::now`], counted from when the last renewal that was answered was
    /// sent, so it is never later than the server's. Once true it stays true. Asks the clock and not the server.
    pub fn is_lost(&self) -> bool {
        self.shared.phase() == Phase::Lost
    }

    /// Gives it back and waits for the answer, no longer than the patience of the client.
    ///
    /// [`Refusal::LeaseExpired`] if it was lost before; else as [`Client::release`]. With [`Error::Io`] it is not known
    /// whether the hold has ended; as the connection is closed now, it ends soon, and at its deadline at the latest.
    pub fn release(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        if !self.shared.begin_release() {
            // The thread may be in `on_lost`, which may be what ends this value: it is not waited for.
            self.keeper = None;
        }
        match self.keeper.take() {
            Some(keeper) => keeper.join().expect("only on_lost may panic"),
            None => Err(Error::Refused(Refusal::LeaseExpired)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            // Whatever came of it, the connection is closed, and there is nobody left to tell.
            let _ = self.end();
        }
    }
}

/// What became of the hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Held,
    /// To be given back: nothing is renewed any more.
    Ending,
    /// For good.
    Lost,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    until: Us,
}

/// What the value and its thread both see. Nobody keeps the mutex for longer than it takes to look and to write.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The phase has changed.
    changed: Condvar,
}

impl Shared {
    fn new(until: Us) -> Shared {
        let phase = Phase::Held;
        Shared {
            state: Mutex::new(State { phase, until }),
            changed: Condvar::new(),
        }
    }

    /// The state as of now: a deadline that has passed ends what is held.
    fn look(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().expect("nobody panics with it");
        if state.phase == Phase::Held && sys::now() >= state.until {
            state.phase = Phase::Lost;
            self.changed.notify_all();
        }
        state
    }

    fn phase(&self) -> Phase {
        self.look().phase
    }

    /// Whether there is anything to release.
    fn begin_release(&self) -> bool {
        let mut state = self.look();
        if state.phase == Phase::Held {
            state.phase = Phase::Ending;
            self.changed.notify_all();
        }
        state.phase == Phase::Ending
    }

    fn renewed(&self, until: Us) {
        self.look().until = until;
    }

    fn lose(&self) {
        let mut state = self.look();
        if state.phase == Phase::Held {
            state.phase = Phase::Lost;
        }
    }

    /// Sleeps until `due`, or until it is not held any more, with an eye on the clock.
    fn sleep(&self, due: Us) -> Phase {
        loop {
            let state = self.look();
            let now = sys::now();
            if state.phase != Phase::Held || now >= due {
                return state.phase;
            }
            let left = Duration::from_micros(due.min(state.until).saturating_sub(now));
            // Why it woke up is seen above.
            drop(self.changed.wait_timeout(state, left.min(NAP)));
        }
    }
}

/// What the thread owns.
struct Keeper {
    client: Client,
    name: Vec<u8>,
    space: Space,
    limit: u32,
    token: Token,
    shared: Arc<Shared>,
}

impl Keeper {
    /// Renews until there is an end, and sees to it.
    fn keep(&mut self, first: Grant, on_lost: impl FnOnce()) -> Result<(), Error> {
        let (token, mut due) = (self.token, half_time(first));
        loop {
            match self.shared.sleep(due) {
                Phase::Held => due = self.renew(first.lease),
                Phase::Ending => break,
                Phase::Lost => {
                    on_lost();
                    return Err(Error::Refused(Refusal::LeaseExpired));
                }
            }
        }
        let (client, key) = self.parts();
        client.release(&key, token)
    }

    /// Renews once and returns when to do so again.
    fn renew(&mut self, lease: Duration) -> Us {
        let (token, until) = (self.token, self.shared.look().until);
        // An answer after the deadline would be for nothing.
        let within = until.saturating_sub(sys::now()).min(self.client.patience);
        if within == 0 {
            return until;
        }
        let (client, key) = self.parts();
        match client.renew_within(&key, token, Some(lease), within) {
            Ok(grant) => {
                self.shared.renewed(grant.until);
                half_time(grant)
            }
            // It may still be ours until then, but no other answer will come on this connection.
            Err(Error::Io(e)) if e.kind() == ErrorKind::TimedOut => until,
            // Refused, or the connection is gone, and with it, as a rule, the lock.
            Err(_) => {
                self.shared.lose();
                until
            }
        }
    }

    fn parts(&mut self) -> (&mut Client, Key<'_>) {
        let key = Key {
            space: self.space,
            name: &self.name,
            limit: self.limit,
        };
        (&mut self.client, key)
    }
}

fn half_time(grant: Grant) -> Us {
    let lease = Us::try_from(grant.lease.as_micros()).unwrap_or(Us::MAX);
    grant.until.saturating_sub(lease / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::SECOND;

    #[test]
    fn a_deadline_that_has_passed_is_lost_without_the_thread() {
        assert_eq!(Shared::new(sys::now() + 100 * SECOND).phase(), Phase::Held);
        assert_eq!(Shared::new(sys::now()).phase(), Phase::Lost);
        assert!(!Shared::new(sys::now()).begin_release());
    }

    #[test]
    fn what_is_lost_stays_lost_when_a_renewal_comes_late() {
        let shared = Shared::new(sys::now());
        shared.renewed(sys::now() + 100 * SECOND);
        assert_eq!(shared.phase(), Phase::Lost);
        assert_eq!(shared.sleep(Us::MAX), Phase::Lost);
    }

    #[test]
    fn what_is_being_released_is_not_lost_any_more() {
        let shared = Shared::new(sys::now() + 100 * SECOND);
        assert!(shared.begin_release());
        shared.lose();
        shared.renewed(sys::now());
        assert_eq!(shared.phase(), Phase::Ending);
    }

    #[test]
    fn a_sleep_ends_at_its_time_at_the_deadline_and_at_a_release() {
        let shared = Shared::new(sys::now() + SECOND / 10);
        assert_eq!(shared.sleep(sys::now()), Phase::Held);
        assert_eq!(shared.sleep(Us::MAX), Phase::Lost);
        let shared = Shared::new(Us::MAX);
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| shared.sleep(Us::MAX));
            assert!(shared.begin_release());
            assert_eq!(sleeper.join().unwrap(), Phase::Ending);
        });
    }

    #[test]
    fn half_time_is_half_a_lease_after_the_request() {
        let grant = Grant::new(Token::default(), 7 * SECOND, 100);
        assert_eq!(half_time(grant), 100 + 3_500_000);
    }
}
