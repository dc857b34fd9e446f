//! A client that blocks: a connection to one server, where every command is a question and waits for its answer. It
//! renews nothing by itself, which [`Lock`] does, and never connects again. Invariant: an answer belongs to the
//! question before it, or the connection is of no further use.
//!
//! Keys are locks or semaphores. A [`Grant`] is proved by its token and ends at its `until`, by the clock of this
//! machine, unless it was renewed before. It also ends with the connection, unless the server was told otherwise.
//! Waits and leases are whole seconds on the wire: a wait is rounded up, a lease is rounded down, but not below 1 s.
//!
//! Two phases: take a place in the queue, do something else, then wait for the turn.
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
//! // The turn may have come meanwhile, and its lease be half over: to wait for it starts the lease again.
//! let grant = client.wait(&key, Duration::from_secs(30))?;
//! work(grant.token.fence);
//! client.release(&key, grant.token)?;
//! # Ok(())
//! # }
//! ```

mod error;
pub mod lease;
pub mod lock;
mod owner;
pub mod shard;
pub mod signals;
pub mod stream;

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::TcpStream;
use std::time::Duration;

use crate::command::{Command, Reply, SECOND, SECONDS_MAX, Space};
pub use crate::command::{Refusal, Token, Us};
use crate::sys;
use crate::wire::ask;
use crate::wire::text::{self, LIMIT_MAX, LINE_MAX, SECRET_MAX, SIGNAL_MAX};

pub use error::{Error, quote};
use lease::is_sharp;
pub use lock::Lock;
pub use owner::Owner;
pub use shard::Servers;
use signals::Heard;
pub use signals::Signal;
use stream::{dial, left};

/// The longest answer to `stats`, in bytes.
const STATS_MAX: usize = 1 << 30;
/// How much is read at a time, in bytes.
const CHUNK: usize = 16 * 1024;
/// The longest sleep. Sockets and condition variables wait by a clock that stops while the machine is suspended; ours
/// goes on, so it is asked that often.
const NAP: Duration = Duration::from_secs(1);

/// How to connect.
#[derive(Clone)]
pub struct Options {
    /// What a server with a secret wants to hear first: 1 to 65,536 bytes without LF. Blanks around it do not count.
    pub secret: Option<Vec<u8>>,
    /// Whose the waits and holds of this connection are: said after the secret, so that a renewal moves a hold of the
    /// same owner here. Without it the connection is an owner by itself. A server that knows no owners is used without.
    pub id: Option<Owner>,
    /// How long it may take to connect, all addresses and the secret included, and then to get an answer: of any
    /// question, beyond the wait that it asked for. To look up a name may take longer; that is the system's part.
    pub patience: Duration,
}

impl Default for Options {
    /// No secret, no owner, and a patience of 10 s.
    fn default() -> Options {
        Options {
            secret: None,
            id: None,
            patience: Duration::from_secs(10),
        }
    }
}

/// The name of a lock or of a semaphore; the same name may be used for both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key<'a> {
    space: Space,
    name: &'a [u8],
    limit: u32,
}

impl<'a> Key<'a> {
    /// A lock, which one at a time can hold. The name is 1 to 256 bytes, none of them SP, TAB, CR or LF;
    /// [`Error::Key`] if not.
    pub fn lock(name: &'a [u8]) -> Result<Key<'a>, Error> {
        Key::new(Space::Lock, name, 1)
    }

    /// A semaphore, which `limit` at a time can hold: 1 to 1,048,576. All who use it must say the same limit. The name
    /// is as for a lock; [`Error::Key`] if either is not.
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
    /// Proves it. Its fence goes to the resource that the lock guards.
    pub token: Token,
    /// How long it lasts: what the server granted, which need not be what was asked for. Whole seconds, at least 1.
    pub lease: Duration,
    /// When it ends unless renewed, in microseconds on the clock of [`sys::now`]. The lease is counted from when the
    /// request was sent, so this is never later than the end that the server has in mind.
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

/// What the first of two phases brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The hold, at once. It runs; a [`Client::wait`] starts its lease again.
    Granted(Grant),
    /// A place in the queue. When the turn comes the lease starts, whether or not anybody waits.
    Queued,
}

/// A connection to one server. To drop it closes it, and so ends the holds that it was granted.
///
/// The server closes a connection that says nothing and holds nothing after its `--read-timeout`, with a last `error`.
/// The next call brings that as [`Refusal::Error`], the one after it [`Error::Io`].
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// What has come and was not needed yet: behind the answer to one question, nothing before the next.
    input: Vec<u8>,
    patience: Us,
    is_broken: bool,
    /// What it has declared.
    owner: Option<Owner>,
    /// None if it never listened.
    heard: Option<Heard>,
}

impl Client {
    /// Connects to `HOST:PORT`, trying every address of the host, and says the secret and the owner if there are.
    ///
    /// [`Error::Refused`] with [`Refusal::Auth`] if it is the wrong secret, with [`Refusal::Error`] if the server has
    /// none; [`Error::Io`] if nobody is there, with [`ErrorKind::InvalidInput`] for a server or a secret that cannot
    /// be one.
    pub fn connect(server: &str, options: &Options) -> Result<Client, Error> {
        let until = sys::now().saturating_add(micros(options.patience));
        let mut client = Client::open(server, options, until)?;
        let Some(owner) = &options.id else {
            return Ok(client);
        };
        match client.declare(owner.clone(), until) {
            Ok(()) => Ok(client),
            // It knows no owners, and may have closed the connection that said such a thing.
            Err(Error::Refused(Refusal::Error)) => Client::open(server, options, until),
            Err(error) => Err(error),
        }
    }

    fn open(server: &str, options: &Options, until: Us) -> Result<Client, Error> {
        let stream = dial(server, until)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(options.patience))?;
        let mut client = Client {
            stream,
            input: Vec::new(),
            patience: micros(options.patience),
            is_broken: false,
            owner: None,
            heard: None,
        };
        if let Some(secret) = &options.secret {
            client.say_secret(secret, until)?;
        }
        Ok(client)
    }

    /// Takes a slot of `key`, queueing for up to `wait`; a wait of zero is a try. The hold lasts for `lease`, the
    /// server's default if None, 1 to 9,223,372,036 s.
    ///
    /// A grant that took long to come began at a time that nobody here knows. It is then renewed once on receipt, and
    /// `until` counts from that; if it ended before that, it is [`Refusal::LeaseExpired`].
    ///
    /// [`Error::Timeout`] when the wait is over. The server may refuse with [`Refusal::MaxLocks`],
    /// [`Refusal::MaxWaiters`], [`Refusal::LimitMismatch`] and [`Refusal::Draining`]. With [`Refusal::Deadlock`] this
    /// owner holds something that those who hold `key` wait for, directly or through others, so that nobody of them
    /// would ever go on. Nothing has changed: it stands in no queue and keeps what it holds, which is what it should
    /// give back before it tries again. Nobody else was told. The owner is [`Options::id`], or else this connection.
    pub fn acquire(
        &mut self,
        key: &Key<'_>,
        wait: Duration,
        lease: Option<Duration>,
    ) -> Result<Grant, Error> {
        let wait = span(wait);
        let command = Command::Acquire {
            space: key.space,
            key: key.name,
            limit: key.limit,
            wait,
            lease: lease.map(span),
        };
        let (sent, reply) = self.ask(&command, beyond(wait, self.patience))?;
        self.granted(key, sent, reply)
    }

    /// The first of two phases: takes a slot of `key` or a place in its queue, and does not wait. The lease is as in
    /// [`Client::acquire`].
    ///
    /// [`Refusal::AlreadyEnqueued`] if this connection has done so and not waited since; else as for an acquire.
    pub fn enqueue(&mut self, key: &Key<'_>, lease: Option<Duration>) -> Result<Place, Error> {
        let command = Command::Enqueue {
            space: key.space,
            key: key.name,
            limit: key.limit,
            lease: lease.map(span),
        };
        match self.ask(&command, self.patience)? {
            (sent, Reply::Acquired { token, lease }) => {
                Ok(Place::Granted(Grant::new(token, lease, sent)))
            }
            (_, Reply::Queued) => Ok(Place::Queued),
            (_, reply) => Err(self.out_of_step(reply)),
        }
    }

    /// The second of two phases: waits for up to `wait` for what was enqueued. A hold that is there is answered at
    /// once, and its lease starts again; one that took long to come is renewed, as in [`Client::acquire`].
    ///
    /// [`Error::Timeout`] when the wait is over, and the place in the queue is gone. [`Refusal::NotEnqueued`] if there
    /// was none, [`Refusal::LeaseExpired`] if the turn had come and its lease is over, [`Refusal::Draining`].
    /// [`Refusal::Deadlock`] as for an acquire, at once or, if this owner is granted something else meanwhile, later; the
    /// place in the queue is gone.
    pub fn wait(&mut self, key: &Key<'_>, wait: Duration) -> Result<Grant, Error> {
        let wait = span(wait);
        let command = Command::Wait {
            space: key.space,
            key: key.name,
            wait,
        };
        let (sent, reply) = self.ask(&command, beyond(wait, self.patience))?;
        self.granted(key, sent, reply)
    }

    /// Lets a hold last for `lease` from now, the server's default if None, from whatever connection it was granted
    /// to. It stays with that connection, unless both have declared the same owner: then it is this one's from now on.
    ///
    /// [`Refusal::Error`] if the token is not held, or not any more.
    pub fn renew(
        &mut self,
        key: &Key<'_>,
        token: Token,
        lease: Option<Duration>,
    ) -> Result<Grant, Error> {
        self.renew_within(key, token, lease, self.patience)
    }

    /// Gives a hold back, from whatever connection it was granted to.
    ///
    /// [`Refusal::Error`] if the token is not held, or not any more.
    pub fn release(&mut self, key: &Key<'_>, token: Token) -> Result<(), Error> {
        let command = Command::Release {
            space: key.space,
            key: key.name,
            token,
        };
        match self.ask(&command, self.patience)? {
            (_, Reply::Released) => Ok(()),
            (_, reply) => Err(self.out_of_step(reply)),
        }
    }

    /// Asks whether the server is there. [`Refusal::Auth`] if it first wants a secret that was not said.
    pub fn ping(&mut self) -> Result<(), Error> {
        let mut request = Vec::new();
        ask::ping(&mut request);
        self.is_told_ok(&request, sys::now().saturating_add(self.patience))
    }

    /// What the server has to say about itself: one line of JSON, as in dflockd-protocol(7), of at most 1 GiB.
    pub fn stats(&mut self) -> Result<String, Error> {
        let mut request = Vec::new();
        ask::stats(&mut request);
        let until = sys::now().saturating_add(self.patience);
        let mut line = self.exchange(&request, STATS_MAX, until)?;
        if !line.starts_with(b"ok {") {
            let reply = self.understood(&line)?;
            return Err(self.out_of_step(reply));
        }
        line.drain(..b"ok ".len());
        String::from_utf8(line).map_err(|error| self.nonsense(error.as_bytes()))
    }

    /// As [`Client::renew`], but no longer than this for the answer.
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
        };
        match self.ask(&command, within)? {
            (sent, Reply::Renewed { lease }) => Ok(Grant::new(token, lease, sent)),
            (_, reply) => Err(self.out_of_step(reply)),
        }
    }

    /// The hold that an acquire or a wait ends with. Out of the queue it is younger than the request, nobody here knows
    /// by how much; counted from the request its deadline would be early, up to long over. A renewal makes it sharp.
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
            renewed => renewed,
        }
    }

    fn say_secret(&mut self, secret: &[u8], until: Us) -> Result<(), Error> {
        if secret.is_empty() || secret.len() > SECRET_MAX || secret.contains(&b'\n') {
            let rule = "a secret is 1 to 65,536 bytes without LF";
            return Err(io::Error::new(ErrorKind::InvalidInput, rule).into());
        }
        let mut request = Vec::new();
        ask::auth(secret, &mut request);
        self.is_told_ok(&request, until)
    }

    fn is_told_ok(&mut self, request: &[u8], until: Us) -> Result<(), Error> {
        let line = self.exchange(request, LINE_MAX, until)?;
        match self.understood(&line)? {
            Reply::Released => Ok(()),
            reply => Err(self.out_of_step(reply)),
        }
    }

    /// Sends a command whose answer may take so long. Returns when it was sent, before its first byte, and the answer.
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
            None => Err(self.nonsense(line)),
        }
    }

    fn exchange(&mut self, request: &[u8], line_max: usize, until: Us) -> Result<Vec<u8>, Error> {
        self.demand_whole()?;
        // Until the answer is here it is not known to be good.
        self.is_broken = true;
        if !self.keep_heard()? {
            // Nothing else may come unasked but a refusal before the end.
            let nothing = Error::Nonsense("an answer to no question".to_string());
            return Err(self.last_word(until).unwrap_or(nothing));
        }
        let line = match self.stream.write_all(request) {
            Ok(()) => self.answer(line_max, until)?,
            // Why it closed may have come before, and says more.
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

    /// The refusal that a server may send before it closes.
    fn last_word(&mut self, until: Us) -> Option<Error> {
        let line = self.answer(LINE_MAX, until).ok()?;
        match ask::answer(&line)? {
            Reply::Refused(refusal) => Some(Error::Refused(refusal)),
            _ => None,
        }
    }

    /// The next line, without its LF. A signal may be longer than an answer.
    fn line(&mut self, line_max: usize, until: Us) -> Result<Vec<u8>, Error> {
        let mut seen = 0;
        loop {
            let end = text::find_lf(&self.input[seen..]).map(|end| seen + end);
            let is_push = self.heard.is_some() && ask::is_push(&self.input);
            let line_max = if is_push { SIGNAL_MAX } else { line_max };
            if end.unwrap_or(self.input.len()) > line_max {
                let line = mem::take(&mut self.input);
                return Err(self.nonsense(&line));
            }
            if let Some(end) = end {
                let rest = self.input.split_off(end + 1);
                let mut line = mem::replace(&mut self.input, rest);
                line.truncate(end);
                return Ok(line);
            }
            seen = self.input.len();
            self.read(until)?;
        }
    }

    /// Reads what is there, or waits for it.
    fn read(&mut self, until: Us) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            let nap = left(until)?.min(NAP);
            self.stream.set_read_timeout(Some(nap))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.input.extend_from_slice(&chunk[..n]);
                    return Ok(());
                }
                Err(e) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&e.kind()) => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn out_of_step(&mut self, reply: Reply) -> Error {
        let mut line = Vec::new();
        text::write(reply, &mut line);
        self.nonsense(line.trim_ascii_end())
    }

    fn nonsense(&mut self, line: &[u8]) -> Error {
        self.is_broken = true;
        Error::Nonsense(quote(line))
    }
}

/// How long the answer to a wait may take, which the server hears rounded up to seconds.
fn beyond(wait: Us, patience: Us) -> Us {
    wait.div_ceil(SECOND)
        .saturating_mul(SECOND)
        .saturating_add(patience)
}

/// A socket whose time is over says that it would block.
fn late(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

/// A wait or a lease, no longer than the protocol can say.
fn span(duration: Duration) -> Us {
    // Rounded up, so that a nanosecond is not a try.
    let duration = duration.saturating_add(Duration::from_nanos(999));
    micros(duration).min(SECONDS_MAX * SECOND)
}

fn micros(duration: Duration) -> Us {
    Us::try_from(duration.as_micros()).unwrap_or(Us::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_1_to_256_bytes_and_no_blank() {
        for name in [&b"k"[..], &[0xff; 256], b"\x00{}"] {
            assert!(Key::lock(name).is_ok(), "{name:?}");
            assert!(Key::semaphore(name, 1).is_ok(), "{name:?}");
        }
        for name in [&b""[..], &[b'k'; 257], b"a b", b"a\tb", b"a\r", b"a\n"] {
            assert!(matches!(Key::lock(name), Err(Error::Key(_))), "{name:?}");
            assert!(
                matches!(Key::semaphore(name, 1), Err(Error::Key(_))),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_limit_is_1_to_1_048_576() {
        for limit in [1, 1_048_576] {
            assert!(Key::semaphore(b"k", limit).is_ok());
        }
        for limit in [0, 1_048_577, u32::MAX] {
            assert!(matches!(Key::semaphore(b"k", limit), Err(Error::Key(_))));
        }
    }

    #[test]
    fn a_span_is_what_the_protocol_can_say_and_never_shorter_than_asked() {
        assert_eq!(span(Duration::ZERO), 0);
        assert_eq!(span(Duration::from_nanos(1)), 1);
        assert_eq!(span(Duration::from_millis(1500)), 1_500_000);
        assert_eq!(span(Duration::MAX), SECONDS_MAX * SECOND);
    }

    #[test]
    fn every_error_says_what_it_is() {
        let errors = [
            (
                Error::Key("a key is 1 to 256 bytes"),
                "a key is 1 to 256 bytes",
            ),
            (Error::Io(ErrorKind::TimedOut.into()), "timed out"),
            (Error::Timeout, "the wait is over"),
            (
                Error::Refused(Refusal::Draining),
                "the server is about to stop",
            ),
            (
                Error::Nonsense("HTTP/1.1".to_string()),
                "the server talks nonsense: HTTP/1.1",
            ),
        ];
        for (error, text) in errors {
            assert_eq!(error.to_string(), text);
        }
    }
}
