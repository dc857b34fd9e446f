//! A guard: a hold that a thread of its own renews, and that ends with its value. The thread is in `keeper`; when to
//! renew and when the lock is lost is decided in [`super::lease`]. A connection that is lost or mute is replaced at
//! once, and again until the deadline. Nothing here stops the work that the lock guards: your `on_lost` does, or your
//! loop asks [`Lock::is_lost`]. Invariant: a lock is lost as soon as its deadline has passed, whatever the thread is
//! doing.
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

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::keeper::{Keeper, Loop, Shared};
use super::{Client, Error, Key, Owner, Refusal, Token};
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
    /// threads or descriptors.
    ///
    /// If the connection has declared no owner, it declares a unique one, so that the server's listing shows host and
    /// process, and so that the lock can move to another connection. A connection that holds something already goes on
    /// without. So does one whose server knows no owners: it is replaced, because such a server may have closed it.
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
    /// When the connection ends, the thread connects again, at once and then every 100 ms until the deadline. If the
    /// server has several addresses or alternatives, the next one has its turn each time, with no pause within a round.
    /// One that is silent has a quarter of a second, and longer later, before the next is tried beside it; names are
    /// looked up again. The thread says secret and owner, and renews there. The same when a renewal has no answer for a
    /// while; the mute connection stays open until the lock has moved. So a lock outlives its connection:
    ///
    /// - With an owner it moves to the new connection, unless the server has noticed the end of the old one first. A
    ///   server that releases at the end of a connection has then given it to the next in line.
    /// - Without an owner it stays with the connection that it was granted to, and ends with that. The renewal over a
    ///   new connection helps only at a server that runs with `--no-auto-release-on-disconnect`.
    ///
    /// It outlives its server too, if that was killed and is started again before the deadline, and knows its holds then:
    /// the hold is there with the same token and the same end, and the renewal binds it to the new connection. A server
    /// that knows nothing of its former life refuses the renewal.
    ///
    /// In the same way it outlives a server that another one stands in for.
    ///
    /// The lock is lost when the server refuses a renewal: it was released, has expired, or the server was restarted
    /// and does not know it. `on_lost` then runs as soon as the answer is here. It is lost at its deadline if no renewal
    /// was answered, because the server is frozen, away or out of reach. If this machine was suspended, `on_lost` runs
    /// within a second after it wakes up.
    ///
    /// A server that has noticed the end of the connection first may have granted the lock to another client before
    /// this side hears of it: work that must not be done twice needs the fence.
    pub fn acquire_with(
        mut client: Client,
        key: Key<'_>,
        wait: Duration,
        lease: Option<Duration>,
        on_lost: impl FnOnce() + Send + 'static,
    ) -> Result<Lock, Error> {
        if client.owner().is_none() && client.holds == 0 {
            let until = sys::now().saturating_add(client.patience);
            client = client.with_owner(Owner::unique(), until)?;
        }
        let circle = Loop::new()?;
        let grant = client.acquire(&key, wait, lease)?;
        let (home, patience) = (client.home.clone(), client.patience);
        let kept = Keeper::new(circle, client, &key, &grant).and_then(|mut keeper| {
            let shared = keeper.shared();
            let thread = thread::Builder::new().name("dflock-keeper".to_string());
            Ok((shared, thread.spawn(move || keeper.keep(on_lost))?))
        });
        match kept {
            Ok((shared, keeper)) => Ok(Lock {
                token: grant.token,
                shared,
                keeper: Some(keeper),
            }),
            Err(error) => {
                home.release(&key, grant.token, patience);
                Err(error.into())
            }
        }
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

    /// Gives the lock back and waits for the answer, no longer than the patience of the client. If the connection is
    /// gone or mute, this goes over a new one, which says the secret first. A server that refuses connections is asked
    /// again every 100 ms, until the patience or the lease is over: it may be about to start.
    ///
    /// If a connection ends after the release was sent, and over the next one the server says that it does not know the
    /// hold, that is no error: the hold has ended, though perhaps not by the release.
    ///
    /// [`Refusal::LeaseExpired`] if the lock was lost before. [`Refusal::Error`] if the server has ended the hold
    /// before the release, for example with the connection, or was restarted and does not know it: then the work was
    /// not guarded to its end. After [`Error::Io`] nobody knows whether the hold has ended; all connections are closed,
    /// so it ends soon, and at its deadline at the latest.
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
