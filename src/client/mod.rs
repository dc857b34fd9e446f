//! A client that blocks: a connection to one server, where every call sends a question and waits for its answer. A
//! [`Client`] renews nothing by itself ([`Lock`] does) and never connects again. Invariant: an answer belongs to the
//! question before it, or the connection is of no further use.
//!
//! A [`Key`] is a lock or a semaphore. A [`Grant`] is proved by its token. It ends at its `until` unless it is renewed
//! before; it also ends with the connection, unless the server was told otherwise. Waits and leases are whole seconds
//! on the wire: a wait is rounded up, a lease is rounded down, but not below 1 s.
//!
//! An acquire can be cut in two phases: take a place in the queue, do something else, then wait for the turn.
//!
//! ```no_run
//! use std::time::Duration;
//! use dflockd::client::{Client, Error, Key, Options, Place};
//!
//! # fn prepare() {}
//! # fn work(_fence: u64) {}
//! # fn main() -> Result<(), Error> {
//! let mut client = Client::connect("127.0.0.1:6388", &Options::default())?;
//! let key = Key::lock(b"nightly-backup")?;
//! if let Place::Queued = client.enqueue(&key, Some(Duration::from_secs(60)))? {
//!     prepare();
//! }
//! // The turn may have come meanwhile, and half of its lease may be over: the wait starts the lease again.
//! let grant = client.wait(&key, Duration::from_secs(30))?;
//! work(grant.token.fence);
//! client.release(&key, grant.token)?;
//! # Ok(())
//! # }
//! ```
//!
//! # When the server is restarted
//!
//! A server with `--state-dir` knows its holds again after a crash or an upgrade: each has the same token and the same
//! end, but no connection. The first renewal binds it to its connection; if it has an owner, that must be a connection of
//! the same owner. After a loss of power it knows no holds, but grants nothing until they have ended: an acquire waits for
//! that, and a try is [`Error::Timeout`]. A server without `--state-dir` knows none and may grant them to others at once.
//!
//! - A [`Lock`] is renewed over a new connection as soon as the server is there, and goes on. If the server does not know
//!   it, it is lost at once; if no server is there in time, it is lost at its deadline. See [`Lock::acquire_with`].
//! - A [`Client`] answers [`Error::Io`], and nobody knows whether the request was executed. Connect again with the same
//!   [`Options::id`]. A [`Client::renew`] with the token of a [`Grant`] says whether it is still yours.
//! - A place in a queue is lost: acquire again.
//! - A hold whose grant was on its way when the server crashed is nobody's, because nobody has its token. It ends with
//!   its lease.
//!
//! # When another server stands by
//!
//! Two servers may share their locks: one leads, and the other stands by and refuses connections until it leads. To a
//! client they are alternatives of one server, `a.example:6388|b.example:6388`. A connect takes the one that answers. A
//! [`Lock`] whose leader is cut off or silent goes on at the next address, with the same token, if one of them leads
//! before its deadline. A [`Client`] answers [`Error::Io`], also in a wait, a few seconds after the leader has fallen
//! silent; connect again until one leads. Servers that share nothing are no alternatives: they are a list, see
//! [`Servers`].

mod admin;
mod connect;
pub mod dial;
mod error;
mod keeper;
pub mod lease;
pub mod link;
pub mod lock;
#[cfg(not(feature = "tls"))]
mod no_tls;
mod owner;
mod queue;
pub mod shard;
pub mod signals;
pub mod sites;
pub mod stream;
#[cfg(feature = "tls")]
mod tls;
pub mod turns;

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::TcpStream;
use std::time::Duration;

use crate::command::{Bound, Command, Reply, SECOND, SECONDS_MAX, Space};
pub use crate::command::{Refusal, Token, Us};
use crate::sys;
use crate::wire::ask;
use crate::wire::text::{self, LIMIT_MAX, LINE_MAX, SIGNAL_MAX};

use connect::Home;
use dial::left;
pub use error::{Error, TlsError, answered};
use lease::is_sharp;
pub use lock::Lock;
#[cfg(not(feature = "tls"))]
use no_tls as tls;
pub use owner::Owner;
use queue::Watch;
pub use shard::Servers;
use signals::Heard;
pub use signals::Signal;
use stream::Stream;
#[cfg(feature = "tls")]
pub use tls::{BadTls, TlsFiles, TlsPart};
pub use tls::{Connector, Tls};

/// How much is read at a time, in bytes.
const CHUNK: usize = 16 * 1024;
/// The longest sleep. Sockets and condition variables wait by a clock that stops while the machine is suspended. Ours
/// goes on, so it is read that often.
const NAP: Duration = Duration::from_secs(1);
/// How long the end of an unanswered wait may take, and then the release of a grant that was found there.
const GOODBYE: Us = SECOND;

/// How to connect.
#[derive(Clone)]
pub struct Options {
    /// The secret, if the server has one: 1 to 65,536 bytes without LF. Blanks around it do not count.
    pub secret: Option<Vec<u8>>,
    /// The owner of the waits and holds of this connection, declared after the secret. A renewal moves a hold of the
    /// same owner to this connection. With None the connection is an owner by itself. A server that knows no owners is
    /// used without one.
    pub id: Option<Owner>,
    /// How to use TLS, for a server that speaks it. With None secret, keys and tokens are sent in the clear.
    pub tls: Option<Tls>,
    /// How long a connect may take, with the lookup of the name, all addresses, the handshake of TLS, secret and owner,
    /// and then how long each answer may take, beyond the wait that was asked for.
    pub patience: Duration,
}

impl Default for Options {
    /// No secret, no owner, no TLS, and a patience of 10 s.
    fn default() -> Options {
        Options {
            secret: None,
            id: None,
            tls: None,
            patience: Duration::from_secs(10),
        }
    }
}

/// A lock or a semaphore by its name. The same name may be used for both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key<'a> {
    space: Space,
    name: &'a [u8],
    limit: u32,
}

impl<'a> Key<'a> {
    /// A lock, which has one holder at a time. The name is 1 to 256 bytes, none of them SP, TAB, CR or LF;
    /// [`Error::Key`] if not.
    pub fn lock(name: &'a [u8]) -> Result<Key<'a>, Error> {
        Key::new(Space::Lock, name, 1)
    }

    /// A semaphore, which has up to `limit` holders at a time: 1 to 1,048,576. All its users must give the same limit.
    /// The name is as for a lock; [`Error::Key`] if the name or the limit is not.
    pub fn semaphore(name: &'a [u8], limit: u32) -> Result<Key<'a>, Error> {
        if !(1..=LIMIT_MAX).contains(&u64::from(limit)) {
            return Err(Error::Key("a limit is 1 to 1,048,576"));
        }
        Key::new(Space::Semaphore, name, limit)
    }

    fn new(space: Space, name: &'a [u8], limit: u32) -> Result<Key<'a>, Error> {
        if name.is_empty() || name.len() > LINE_MAX {
            return Err(Error::Key("a key is 1 to 256 bytes"));
        }
        if name.iter().any(|byte| b" \t\r\n".contains(byte)) {
            return Err(Error::Key("a key has no SP, TAB, CR or LF"));
        }
        Ok(Key { space, name, limit })
    }
}

/// A hold, as of when it was granted or last renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The proof of the hold. Hand its fence to the resource that the lock guards.
    pub token: Token,
    /// How long the hold lasts. The server may grant another lease than was asked for. Whole seconds, at least 1.
    pub lease: Duration,
    /// When the hold ends unless it is renewed, in microseconds on the clock of [`sys::now`]. The lease counts from
    /// when the request was sent, so this is never later than the server's deadline.
    pub until: Us,
}

impl Grant {
    fn new(token: Token, lease: Us, sent: Us) -> Grant {
        Grant {
            token,
            lease: Duration::from_micros(lease),
            until: sent.saturating_add(lease),
        }
    }
}

/// The answer to the first of two phases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The hold, at once. Its lease runs; a [`Client::wait`] starts it again.
    Granted(Grant),
    /// A place in the queue. When the turn comes the lease starts, whether or not you wait for it.
    Queued,
}

/// A connection to one server. Dropping it closes it, which ends the holds that were granted on it.
///
/// After its `--read-timeout` the server closes a connection that sends nothing and holds nothing, with a last `error`.
/// The next call returns that as [`Refusal::Error`], the call after it [`Error::Io`].
#[derive(Debug)]
pub struct Client {
    stream: Stream<TcpStream>,
    home: Home,
    /// Bytes that have arrived and were not needed yet.
    input: Vec<u8>,
    patience: Us,
    is_broken: bool,
    /// The owner that it has declared.
    owner: Option<Owner>,
    /// How many holds and places in queues this connection may have: grants and places, without releases.
    holds: usize,
    /// Signals that have arrived; None if it never listened.
    heard: Option<Heard>,
    /// None unless a wait is under way at a server that has alternatives.
    watch: Option<Box<Watch>>,
}

impl Client {
    /// Takes a slot of `key`, queueing for up to `wait`; a wait of zero is a try. The hold lasts for `lease`, 1 to
    /// 9,223,372,036 s, or for the server's default if that is None.
    ///
    /// A grant that took long to come began at a time that is not known here. It is renewed once on receipt, and
    /// `until` counts from that renewal. [`Refusal::LeaseExpired`] if it had ended by then.
    ///
    /// [`Error::Io`] if no answer came within the patience after the wait. The client then leaves the queue, which takes
    /// a second at most, and gives back a grant that it finds there, which takes another. If the server has
    /// alternatives, it is pinged over a second connection while it has the wait in its queue, and left in the same way
    /// as soon as a ping is not answered for two seconds.
    ///
    /// [`Error::Timeout`] when the wait is over. The server may refuse with [`Refusal::MaxLocks`],
    /// [`Refusal::MaxWaiters`], [`Refusal::MaxHolds`], [`Refusal::LimitMismatch`] and [`Refusal::Draining`].
    ///
    /// [`Refusal::Deadlock`] if this owner ([`Options::id`], or else this connection) holds something that the holders
    /// of `key` wait for, directly or through others: none of them would ever go on. This owner then stands in no queue
    /// and keeps its holds. Release them before you try again; no other owner was told.
    pub fn acquire(
        &mut self,
        key: &Key<'_>,
        wait: Duration,
        lease: Option<Duration>,
    ) -> Result<Grant, Error> {
        let command = Command::Acquire {
            space: key.space,
            key: key.name,
            limit: key.limit,
            wait: span(wait),
            lease: lease.map(span),
            owner: None,
            bound: Bound::Session,
            terms: None,
        };
        let asked = self.queue(&command, span(wait));
        let (sent, reply) = asked.map_err(|e| self.leave(key, e))?;
        self.holds += usize::from(reply != Reply::Timeout);
        self.granted(key, sent, reply)
    }

    /// The first of two phases: takes a slot of `key` or a place in its queue, and does not wait. The lease is as in
    /// [`Client::acquire`].
    ///
    /// [`Refusal::AlreadyEnqueued`] if this connection has enqueued for `key` and not waited since; otherwise the
    /// errors of an acquire.
    pub fn enqueue(&mut self, key: &Key<'_>, lease: Option<Duration>) -> Result<Place, Error> {
        let command = Command::Enqueue {
            space: key.space,
            key: key.name,
            limit: key.limit,
            lease: lease.map(span),
        };
        let asked = self.ask(&command, self.patience);
        let (sent, reply) = asked.map_err(|e| self.leave(key, e))?;
        self.holds += 1;
        match (sent, reply) {
            (sent, Reply::Acquired { token, lease }) => {
                Ok(Place::Granted(Grant::new(token, lease, sent)))
            }
            (_, Reply::Queued) => Ok(Place::Queued),
            (_, reply) => Err(self.out_of_step(reply)),
        }
    }

    /// The second of two phases: waits for up to `wait` for the turn. If the turn has come already, the answer comes at
    /// once and the lease starts again. A grant that took long to come is renewed, as in [`Client::acquire`].
    ///
    /// [`Error::Timeout`] when the wait is over; the place in the queue is gone. [`Refusal::NotEnqueued`] if there was
    /// no place, [`Refusal::LeaseExpired`] if the turn came and its lease is over, [`Refusal::Draining`].
    /// [`Refusal::Deadlock`] as for an acquire, at once or later, when this owner is granted something else meanwhile;
    /// the place in the queue is gone.
    pub fn wait(&mut self, key: &Key<'_>, wait: Duration) -> Result<Grant, Error> {
        let wait = span(wait);
        let command = Command::Wait {
            space: key.space,
            key: key.name,
            wait,
        };
        let asked = self.queue(&command, wait);
        let (sent, reply) = asked.map_err(|e| self.leave(key, e))?;
        if reply == Reply::Timeout {
            self.holds = self.holds.saturating_sub(1);
        }
        self.granted(key, sent, reply)
    }

    /// Lets a hold last for `lease` from now, or for the server's default if that is None. The hold may have been
    /// granted to another connection. It stays with that connection, unless both have declared the same owner: then it
    /// moves here.
    ///
    /// [`Refusal::Error`] if nothing is held by this token.
    pub fn renew(
        &mut self,
        key: &Key<'_>,
        token: Token,
        lease: Option<Duration>,
    ) -> Result<Grant, Error> {
        self.renew_within(key, token, lease, self.patience)
    }

    /// Gives a hold back, which may have been granted to another connection.
    ///
    /// [`Refusal::Error`] if nothing is held by this token.
    pub fn release(&mut self, key: &Key<'_>, token: Token) -> Result<(), Error> {
        let command = Command::Release {
            space: key.space,
            key: key.name,
            token,
        };
        self.part_with(&command)
    }

    /// Asks whether the server is there. [`Refusal::Auth`] if it wants a secret and none was sent.
    pub fn ping(&mut self) -> Result<(), Error> {
        let mut request = Vec::new();
        ask::ping(&mut request);
        self.is_told_ok(&request, sys::now().saturating_add(self.patience))
    }

    /// Makes a hold last for its lease, whatever becomes of its connection; a renewal does not bind it again.
    ///
    /// [`Refusal::Error`] if nothing is held by this token, and from a server that does not know the request.
    pub fn detach(&mut self, key: &Key<'_>, token: Token) -> Result<(), Error> {
        let command = Command::Detach {
            space: key.space,
            key: key.name,
            token,
        };
        self.part_with(&command)
    }

    /// Asks for what ends a hold, or takes it from this connection.
    fn part_with(&mut self, command: &Command) -> Result<(), Error> {
        match self.ask(command, self.patience)? {
            (_, Reply::Released) => {
                self.holds = self.holds.saturating_sub(1);
                Ok(())
            }
            (_, reply) => Err(self.out_of_step(reply)),
        }
    }

    /// As [`Client::renew`], but waits for the answer no longer than `within`.
    fn renew_within(
        &mut self,
        key: &Key<'_>,
        token: Token,
        lease: Option<Duration>,
        within: Us,
    ) -> Result<Grant, Error> {
        let command = Command::Renew {
            space: key.space,
            key: key.name,
            token,
            lease: lease.map(span),
            bound: Bound::Session,
        };
        match self.ask(&command, within)? {
            (sent, Reply::Renewed { lease }) => Ok(Grant::new(token, lease, sent)),
            (_, reply) => Err(self.out_of_step(reply)),
        }
    }

    /// The hold that an acquire or a wait has brought. A grant out of the queue is younger than its request: counted
    /// from the request its deadline would be early, perhaps long over. A renewal makes it sharp.
    fn granted(&mut self, key: &Key<'_>, sent: Us, reply: Reply) -> Result<Grant, Error> {
        let grant = match reply {
            Reply::Granted { token, lease } => Grant::new(token, lease, sent),
            Reply::Timeout => return Err(Error::Timeout),
            other => return Err(self.out_of_step(other)),
        };
        if is_sharp(sent, sys::now(), micros(grant.lease)) {
            return Ok(grant);
        }
        match self.renew(key, grant.token, Some(grant.lease)) {
            Err(Error::Refused(_)) => Err(Error::Refused(Refusal::LeaseExpired)),
            Err(error) => {
                // The caller never hears of the token.
                self.home.release(key, grant.token, self.patience);
                Err(error)
            }
            renewed => renewed,
        }
    }

    /// Leaves the queue after an acquire without an answer: without this a grant that is on its way would be held for
    /// nobody, at a server that releases nothing at the end of a connection. Returns the error.
    fn leave(&mut self, key: &Key<'_>, error: Error) -> Error {
        let is_late = matches!(&error, Error::Io(e) if e.kind() == ErrorKind::TimedOut);
        if !is_late || self.stream.shut_down().is_err() {
            return error;
        }
        // The server answers what it has granted before it heard of the end, and then closes.
        let until = sys::now().saturating_add(GOODBYE);
        while let Ok(line) = self.answer(LINE_MAX, until) {
            if let Some(Reply::Granted { token, .. } | Reply::Acquired { token, .. }) =
                ask::answer(&line)
            {
                self.home.release(key, token, self.patience);
            }
        }
        error
    }

    fn is_told_ok(&mut self, request: &[u8], until: Us) -> Result<(), Error> {
        let line = self.exchange(request, LINE_MAX, until)?;
        self.is_ok(&line)
    }

    /// The answer to a question that was sent before the client took the connection over.
    fn hear_ok(&mut self, until: Us) -> Result<(), Error> {
        self.is_broken = true;
        let line = self.answer(LINE_MAX, until)?;
        self.is_broken = false;
        self.is_ok(&line)
    }

    fn is_ok(&mut self, line: &[u8]) -> Result<(), Error> {
        match self.understood(line)? {
            Reply::Released => Ok(()),
            reply => Err(self.out_of_step(reply)),
        }
    }

    /// Sends a command whose answer may take `within`. Returns the instant before its first byte was sent, and the
    /// answer.
    fn ask(&mut self, command: &Command<'_>, within: Us) -> Result<(Us, Reply), Error> {
        let mut request = Vec::new();
        ask::command(command, &mut request);
        let sent = sys::now();
        let line = self.exchange(&request, LINE_MAX, sent.saturating_add(within))?;
        Ok((sent, self.understood(&line)?))
    }

    fn understood(&mut self, line: &[u8]) -> Result<Reply, Error> {
        match ask::answer(line) {
            Some(Reply::Refused(refusal)) => Err(Error::Refused(refusal)),
            Some(reply) => Ok(reply),
            None => Err(self.not_understood(line)),
        }
    }

    fn exchange(&mut self, request: &[u8], line_max: usize, until: Us) -> Result<Vec<u8>, Error> {
        self.demand_whole()?;
        // It counts as broken until the answer is here.
        self.is_broken = true;
        if !self.keep_heard()? {
            // The only line that may come unasked is the refusal before the end.
            let line = self.input.split(|&byte| byte == b'\n').next();
            let what = format!("{} before it was asked", answered(line.unwrap_or_default()));
            return Err(self.last_word(until).unwrap_or(Error::Protocol(what)));
        }
        let line = match self.stream.write_all(request) {
            Ok(()) => self.answer(line_max, until)?,
            // The server may have said why before it closed.
            Err(error) => return Err(self.last_word(until).unwrap_or(late(error).into())),
        };
        self.is_broken = false;
        Ok(line)
    }

    fn demand_whole(&self) -> io::Result<()> {
        if self.is_broken {
            let why = "this connection has failed before";
            return Err(io::Error::new(ErrorKind::NotConnected, why));
        }
        Ok(())
    }

    /// The refusal that a server may have sent before it closed, or its last word in TLS.
    fn last_word(&mut self, until: Us) -> Option<Error> {
        match self.answer(LINE_MAX, until) {
            Ok(line) => match ask::answer(&line)? {
                Reply::Refused(refusal) => Some(Error::Refused(refusal)),
                _ => None,
            },
            Err(error @ Error::Tls(_)) => Some(error),
            Err(_) => None,
        }
    }

    /// The next line, without its LF. A signal may be longer than an answer. A long answer may come slowly, so its
    /// deadline moves while bytes arrive.
    fn line(&mut self, line_max: usize, mut until: Us) -> Result<Vec<u8>, Error> {
        let (mut seen, is_long) = (0, line_max > LINE_MAX);
        loop {
            let end = text::find_lf(&self.input[seen..]).map(|end| seen + end);
            let is_push = self.heard.is_some() && ask::is_push(&self.input);
            let line_max = if is_push { SIGNAL_MAX } else { line_max };
            if end.unwrap_or(self.input.len()) > line_max {
                let line = mem::take(&mut self.input);
                return Err(self.not_understood(&line));
            }
            if let Some(end) = end {
                let rest = self.input.split_off(end + 1);
                let mut line = mem::replace(&mut self.input, rest);
                line.truncate(end);
                return Ok(line);
            }
            seen = self.input.len();
            self.read(until)?;
            if is_long {
                until = until.max(sys::now().saturating_add(self.patience));
            }
        }
    }

    /// Reads once, and waits if nothing has arrived.
    fn read(&mut self, until: Us) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            let nap = left(until)?.min(NAP);
            self.stream.socket().set_read_timeout(Some(nap))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.input.extend_from_slice(&chunk[..n]);
                    return Ok(());
                }
                Err(e) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&e.kind()) => {}
                Err(e) => return Err(e),
            }
            self.watch(until)?;
        }
    }

    fn out_of_step(&mut self, reply: Reply) -> Error {
        let mut line = Vec::new();
        text::write(reply, &mut line);
        self.not_understood(line.trim_ascii_end())
    }

    fn not_understood(&mut self, line: &[u8]) -> Error {
        self.is_broken = true;
        Error::Protocol(answered(line))
    }
}

/// The error of a socket: when its time is over it says `WouldBlock`.
fn late(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

/// A wait or a lease, cut to the longest that the protocol has.
fn span(duration: Duration) -> Us {
    // Rounded up, so that a wait of a nanosecond is no try.
    let duration = duration.saturating_add(Duration::from_nanos(999));
    micros(duration).min(SECONDS_MAX * SECOND)
}

fn micros(duration: Duration) -> Us {
    Us::try_from(duration.as_micros()).unwrap_or(Us::MAX)
}

#[cfg(test)]
mod tests;
