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

use super::lease::{Lease, Step};
use super::{Client, Error, Key, NAP, Owner, Refusal, Token, micros};
use crate::command::Space;
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
        let lease = micros(grant.lease);
        let lease = Lease::new(grant.until.saturating_sub(lease), lease);
        let shared = Arc::new(Shared::new(lease));
        let mut keeper = Keeper {
            client,
            name: key.name.to_vec(),
            space: key.space,
            limit: key.limit,
            token: grant.token,
            wish: grant.lease,
            shared: Arc::clone(&shared),
        };
        let keeper = thread::Builder::new()
            .name("dflock-keeper".to_string())
            .spawn(move || keeper.keep(on_lost))?;
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
        self.shared.lease().is_lost(sys::now())
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

/// What the value and its thread both see. Nobody keeps the mutex for longer than it takes to look and to write.
#[derive(Debug)]
struct Shared {
    lease: Mutex<Lease>,
    /// The hold is to be given back.
    changed: Condvar,
}

/// Why the thread woke up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wake {
    Renew,
    Release,
    Lost,
}

impl Shared {
    fn new(lease: Lease) -> Shared {
        Shared {
            lease: Mutex::new(lease),
            changed: Condvar::new(),
        }
    }

    fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().expect("nobody panics with it")
    }

    /// Whether there is anything to release.
    fn begin_release(&self) -> bool {
        let is_held = self.lease().release(sys::now());
        self.changed.notify_all();
        is_held
    }

    /// Sleeps until there is something to do, with an eye on the clock.
    fn sleep(&self) -> Wake {
        let mut lease = self.lease();
        loop {
            let now = sys::now();
            let until = match lease.step(now) {
                Step::Wait(until) => until,
                // No other answer will come on this connection, but until then the hold may last.
                Step::Overdue => lease.until(),
                Step::Renew => return Wake::Renew,
                Step::Released => return Wake::Release,
                // The thread never connects again.
                Step::Lost | Step::Connect => return Wake::Lost,
            };
            let nap = Duration::from_micros(until.saturating_sub(now)).min(NAP);
            let woken = self.changed.wait_timeout(lease, nap);
            (lease, _) = woken.expect("nobody panics with it");
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
    /// The lease to ask for.
    wish: Duration,
    shared: Arc<Shared>,
}

impl Keeper {
    /// Renews until there is an end, and sees to it.
    fn keep(&mut self, on_lost: impl FnOnce()) -> Result<(), Error> {
        loop {
            match self.shared.sleep() {
                Wake::Renew => self.renew(),
                Wake::Release => break,
                Wake::Lost => {
                    on_lost();
                    return Err(Error::Refused(Refusal::LeaseExpired));
                }
            }
        }
        let token = self.token;
        let (client, key) = self.parts();
        client.release(&key, token)
    }

    fn renew(&mut self) {
        let (token, wish) = (self.token, self.wish);
        let left = {
            let (mut lease, now) = (self.shared.lease(), sys::now());
            lease.renewing(now, micros(wish));
            lease.until().saturating_sub(now)
        };
        // An answer after the deadline would be for nothing.
        let within = left.min(self.client.patience);
        if within == 0 {
            return;
        }
        let (client, key) = self.parts();
        let result = client.renew_within(&key, token, Some(wish), within);
        let mut lease = self.shared.lease();
        match result {
            Ok(grant) => lease.renewed(sys::now(), micros(grant.lease)),
            // The lease takes it for overdue.
            Err(Error::Io(e)) if e.kind() == ErrorKind::TimedOut => {}
            // Refused, or the connection is gone, and with it, as a rule, the lock.
            Err(_) => lease.lose(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{SECOND, Us};

    fn shared(until: Us) -> Shared {
        Shared::new(Lease::new(until - 10 * SECOND, 10 * SECOND))
    }

    #[test]
    fn a_deadline_that_has_passed_is_lost_without_the_thread() {
        let is_lost = |shared: &Shared| shared.lease().is_lost(sys::now());
        assert!(!is_lost(&shared(sys::now() + 100 * SECOND)));
        assert!(is_lost(&shared(sys::now())));
        assert!(!shared(sys::now()).begin_release());
    }

    #[test]
    fn a_sleep_ends_at_half_time_at_the_deadline_and_at_a_release() {
        assert_eq!(shared(sys::now() + SECOND).sleep(), Wake::Renew);
        let late = shared(sys::now() + SECOND / 10);
        // Its one renewal has no answer.
        late.lease().renewing(sys::now() - 9 * SECOND, 20 * SECOND);
        assert_eq!(late.sleep(), Wake::Lost);
        let long = shared(sys::now() + 10 * SECOND);
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| long.sleep());
            assert!(long.begin_release());
            assert_eq!(sleeper.join().unwrap(), Wake::Release);
        });
    }
}
