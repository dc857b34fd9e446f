//! A guard: a hold that a thread of its own renews, and that ends with its value. When to renew and when the lock is
//! lost is decided in [`super::lease`]. The thread never connects again: when a renewal finds the connection broken,
//! the lock is lost. Nothing here stops the work that the lock guards: your `on_lost` does, or your loop asks
//! [`Lock::is_lost`]. Invariant: a lock is lost as soon as its deadline has passed, whatever the thread is doing.
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
/// Dropping it releases it, and ignores whether that went well; the drop waits for the answer no longer than the
/// patience of the client.
#[derive(Debug)]
pub struct Lock {
    token: Token,
    shared: Arc<Shared>,
    /// The thread; None once it was joined.
    keeper: Option<JoinHandle<Result<(), Error>>>,
}

impl Lock {
    /// Acquires `key` as [`Client::acquire`] does, with the same errors, and keeps it renewed. The connection serves
    /// this lock alone from then on; after an error it is closed. [`Error::Io`] also if the system allows no more
    /// threads.
    ///
    /// If the connection has declared no owner, it declares a unique one, so that the server's listing shows host and
    /// process. A connection that holds something already, or whose server knows no owners, goes on without.
    pub fn acquire(
        client: Client,
        key: Key<'_>,
        wait: Duration,
        lease: Option<Duration>,
    ) -> Result<Lock, Error> {
        Lock::acquire_with(client, key, wait, lease, || {})
    }

    /// As [`Lock::acquire`]; `on_lost` runs if the lock is lost before it is released, once, on the thread that renews.
    /// The connection is closed after it.
    ///
    /// The lock is lost when a renewal is refused or finds the connection broken. It is lost at its deadline if no
    /// renewal was answered, because the server is frozen or out of reach. If this machine was suspended, `on_lost`
    /// runs within a second after it wakes up.
    ///
    /// A server whose connection has ended gives the lock to the next in line at once, unless it was told not to. This
    /// side hears of that at the next renewal only: work that must not be done twice needs the fence.
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

    /// The proof of the hold.
    pub fn token(&self) -> Token {
        self.token
    }

    /// A number that rises with every grant. Hand it to the resource that the lock guards, which refuses a lower one.
    pub fn fence(&self) -> u64 {
        self.token.fence
    }

    /// Whether the hold has ended, or may have ended: a renewal was refused, or the deadline has passed. Once true, it
    /// stays true. This reads the clock of [`sys::now`] and asks no server.
    ///
    /// The deadline is never later than the server's: it counts from when the last answered renewal was sent.
    pub fn is_lost(&self) -> bool {
        self.shared.lease().is_lost(sys::now())
    }

    /// Gives the lock back and waits for the answer, no longer than the patience of the client.
    ///
    /// [`Refusal::LeaseExpired`] if the lock was lost before; otherwise the errors of [`Client::release`]. After
    /// [`Error::Io`] nobody knows whether the hold has ended; the connection is closed, so it ends soon, and at its
    /// deadline at the latest.
    pub fn release(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        if !self.shared.begin_release() {
            // The thread may be in `on_lost`, and `on_lost` may be what drops this value: joining it could wait for
            // ever.
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
            // The connection is closed either way, and a drop has nobody to report to.
            let _ = self.end();
        }
    }
}

/// What the value and its thread share. Neither keeps the mutex while it waits for the server.
#[derive(Debug)]
struct Shared {
    lease: Mutex<Lease>,
    /// Notified when the hold is to be given back.
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

    /// Tells the thread to release; false if the lock is lost, so that there is nothing to release.
    fn begin_release(&self) -> bool {
        let is_held = self.lease().release(sys::now());
        self.changed.notify_all();
        is_held
    }

    /// Sleeps until there is something to do. A condition variable waits by a clock that stops while the machine is
    /// suspended, so ours is read at each [`NAP`].
    fn sleep(&self) -> Wake {
        let mut lease = self.lease();
        loop {
            let now = sys::now();
            let until = match lease.step(now) {
                Step::Wait(until) => until,
                // The connection may be mute, and there will be no other; the hold may last until its deadline.
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

/// What the thread owns and does.
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
    /// Renews until the lock is released or lost. Returns what [`Lock::release`] answers.
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
            // The answer is overdue: from here on the deadline counts.
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
