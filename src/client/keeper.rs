//! The thread of a lock: a loop over its connection that renews, connects again, and at last gives the lock back. When
//! to do what is decided in [`super::lease`]. Invariant: nothing is renewed after the deadline or after a release was
//! sent; a connection that may have the hold is open, and there are never more than [`MUTE_MAX`] beside the one in use.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mio::{Events, Poll, Registry, Token as Source, Waker};

use super::connect::{Home, Secret};
use super::lease::{Lease, Step};
use super::link::Link;
use super::sites::Site;
use super::{Client, Error, Grant, Key, NAP, Owner, Refusal, Token};
use super::{Us, answered, micros};
use crate::command::{Bound, Command, Reply, SECOND, Space};
use crate::sys;
use crate::wire::ask;

const LINK: Source = Source(0);
const CALL: Source = Source(1);

/// How many connections without an answer are kept at most. Each has had an eighth of the lease. With an owner none is
/// kept for longer than a lease.
const MUTE_MAX: usize = 8;
/// How long after one attempt to give back over a new connection the next one is made.
const RETRY: Us = SECOND / 10;

/// What the lock and its thread share. Neither keeps the mutex while it waits for the server.
#[derive(Debug)]
pub(super) struct Shared {
    lease: Mutex<Lease>,
    /// Ends the sleep of the thread.
    waker: Waker,
}

impl Shared {
    pub(super) fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().expect("nobody panics with it")
    }

    /// Tells the thread to release; false if the lock is lost, so that there is nothing to release.
    pub(super) fn begin_release(&self) -> bool {
        let is_held = self.lease().release(sys::now());
        // If this fails, the thread sees it at the end of its nap.
        let _ = self.waker.wake();
        is_held
    }
}

/// What a keeper needs before there is something to keep, so that it cannot fail afterwards.
pub(super) struct Loop {
    poll: Poll,
    events: Events,
    waker: Waker,
}

impl Loop {
    pub(super) fn new() -> io::Result<Loop> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), CALL)?;
        let events = Events::with_capacity(8);
        Ok(Loop {
            poll,
            events,
            waker,
        })
    }
}

/// A question that is not answered yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Secret,
    Owner,
    Renewal,
    Release,
}

/// A connection, and the questions under way on it, the eldest first.
struct Path {
    link: Link,
    addr: SocketAddr,
    asked: VecDeque<Asked>,
    /// Nothing was said here yet.
    is_fresh: bool,
    /// When the last renewal was sent here.
    sent: Us,
    /// Of a mute connection: when the answer to that came after all.
    heard: Option<Us>,
}

/// What the thread owns and does.
pub(super) struct Keeper {
    poll: Poll,
    events: Events,
    /// The connection in use; None while there is none.
    path: Option<Path>,
    /// Connections on which a renewal was not answered; see [`Step::Overdue`].
    mute: Vec<Path>,
    /// When another address is tried unless the new connection has answered; None if there is none.
    trial: Option<Us>,
    home: Home,
    owner: Option<Owner>,
    /// Signals may come between the answers: the connection has listened.
    hears: bool,
    patience: Us,
    space: Space,
    name: Vec<u8>,
    token: Token,
    /// The lease to ask for.
    wish: Us,
    shared: Arc<Shared>,
}

impl Keeper {
    /// Keeps what this client was granted.
    pub(super) fn new(
        Loop {
            poll,
            events,
            waker,
        }: Loop,
        client: Client,
        key: &Key<'_>,
        grant: &Grant,
    ) -> io::Result<Keeper> {
        let wish = micros(grant.lease);
        let lease = Lease::new(grant.until.saturating_sub(wish), wish);
        let addr = client.home.sites.site()?.addr;
        let link = Link::resume(client.stream, client.input, poll.registry(), LINK)?;
        let path = Path {
            link,
            addr,
            asked: VecDeque::new(),
            is_fresh: false,
            sent: 0,
            heard: None,
        };
        let lease = Mutex::new(lease);
        Ok(Keeper {
            poll,
            events,
            path: Some(path),
            mute: Vec::new(),
            trial: None,
            home: client.home,
            owner: client.owner,
            hears: client.heard.is_some(),
            patience: client.patience,
            space: key.space,
            name: key.name.to_vec(),
            token: grant.token,
            wish,
            shared: Arc::new(Shared { lease, waker }),
        })
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Renews until the lock is released or lost. Returns what [`super::Lock::release`] answers.
    pub(super) fn keep(&mut self, on_lost: impl FnOnce()) -> Result<(), Error> {
        loop {
            self.listen();
            let now = sys::now();
            let step = self.shared.lease().step(now);
            match step {
                Step::Wait(_) if now >= self.trial_end() => {
                    self.set_aside();
                    self.home.sites.slowed();
                    self.connect(now);
                }
                Step::Wait(until) => self.sleep(until.min(self.trial_end())),
                Step::Renew => self.renew(now),
                Step::Connect => self.connect(now),
                Step::Overdue if self.mute.len() < MUTE_MAX || self.makes_room(now) => {
                    self.set_aside();
                    self.connect(now);
                }
                Step::Overdue => {
                    let until = self.shared.lease().until();
                    self.sleep(until);
                }
                Step::Released => return self.give_back(),
                Step::Lost => {
                    let paths = self.path.iter().chain(&self.mute);
                    paths.for_each(|path| path.link.reset_on_drop());
                    on_lost();
                    return Err(Error::Refused(Refusal::LeaseExpired));
                }
            }
        }
    }

    /// Sleeps until something happens, or until an instant. The system waits by a clock that stops while the machine is
    /// suspended, so ours is read at each [`NAP`].
    fn sleep(&mut self, until: Us) {
        let nap = Duration::from_micros(until.saturating_sub(sys::now())).min(NAP);
        // It fails when a signal interrupts it: then there may be something to do.
        let _ = self.poll.poll(&mut self.events, Some(nap));
    }

    /// Reads the answers on all connections.
    fn listen(&mut self) {
        self.listen_to_mute();
        while let Some((asked, line)) = self.next() {
            match (asked, ask::answer(&line)) {
                (Asked::Secret | Asked::Owner, Some(Reply::Released)) => {}
                (Asked::Owner, Some(Reply::Refused(Refusal::Error))) => self.disown(),
                // A server that is about to stop takes no new owners. That says nothing of the hold.
                (Asked::Secret | Asked::Owner, Some(Reply::Refused(Refusal::Draining))) => {
                    self.path = None;
                    self.shared.lease().disconnected();
                }
                // It is full, and closes this new connection unread.
                (_, Some(Reply::Refused(Refusal::MaxConnections))) => {
                    self.path = None;
                    self.shared.lease().disconnected();
                }
                (Asked::Renewal, Some(Reply::Renewed { lease })) => self.renewed(lease),
                // No other answer confirms the hold.
                _ => self.shared.lease().lose(),
            }
        }
        if self.path.take_if(|path| path.link.is_ended()).is_some() {
            self.shared.lease().disconnected();
        }
    }

    /// Reads late answers, and closes the connections that do not matter any more: the hold cannot be where the last
    /// renewal was sent a lease ago. Without an owner it may be with any of them: it stays where it was granted, or, if the
    /// server was killed since and knows its holds again, where it was renewed first.
    fn listen_to_mute(&mut self) {
        let now = sys::now();
        for path in &mut self.mute {
            path.link.move_on();
            while let Some((asked, line)) = path.next(self.hears) {
                match (asked, ask::answer(&line)) {
                    (Asked::Renewal, Some(Reply::Renewed { lease })) => {
                        path.heard = Some(now);
                        self.shared.lease().renewed_late(now, path.sent, lease);
                    }
                    (_, Some(Reply::Refused(Refusal::MaxConnections))) => {}
                    (Asked::Renewal, _) => self.shared.lease().refused_late(path.sent),
                    _ => {}
                }
            }
        }
        let (wish, is_bound) = (self.wish, self.owner.is_none());
        self.mute.retain(|path| {
            let matters = is_bound || now < path.sent.saturating_add(wish);
            matters && !path.link.is_ended()
        });
    }

    /// Closes mute connections that the hold is hardly with, and returns whether one more may be kept. Without an owner
    /// the hold is with the first of them, if with any: the later ones have had a lease to be the first that was heard.
    fn makes_room(&mut self, now: Us) -> bool {
        let (wish, is_bound) = (self.wish, self.owner.is_none());
        let mut is_first = true;
        self.mute.retain(|path| {
            let matters = path.heard.is_none() && now < path.sent.saturating_add(wish);
            std::mem::take(&mut is_first) && is_bound || matters
        });
        self.mute.len() < MUTE_MAX
    }

    /// The next answer on the connection in use, and the question that it answers.
    fn next(&mut self) -> Option<(Asked, Vec<u8>)> {
        let path = self.path.as_mut()?;
        path.link.move_on();
        path.next(self.hears)
    }

    /// The server was replaced by one that knows no owners, and may close a connection that declares one.
    fn disown(&mut self) {
        self.owner = None;
        self.path = None;
        self.shared.lease().disconnected();
    }

    /// The renewal on the connection in use was answered, so the hold is here.
    fn renewed(&mut self, span: Us) {
        let now = sys::now();
        let sent = self.path.as_ref().map_or(now, |path| path.sent);
        let is_bound = self.owner.is_none();
        // What was answered before this renewal was sent cannot take the hold back. What was answered after it may have.
        self.mute
            .retain(|path| is_bound || path.heard.is_none_or(|heard| heard > sent));
        let is_taken = |path: &Path| path.heard.is_some_and(|heard| heard > sent);
        self.trial = None;
        if let Some(path) = &self.path {
            self.home.sites.settle(path.addr);
        }
        let mut lease = self.shared.lease();
        lease.renewed(now, span);
        if self.mute.iter().any(is_taken) {
            lease.hurry(now);
        }
    }

    /// Sends a renewal, on a new connection after secret and owner: that moves the hold to it.
    fn renew(&mut self, now: Us) {
        let Some(mut path) = self.path.take() else {
            return;
        };
        if self.greet(&mut path)
            && let Some(owner) = &self.owner
        {
            path.ask(Asked::Owner, |out| owner.declare(out));
        }
        let command = Command::Renew {
            space: self.space,
            key: &self.name,
            token: self.token,
            lease: Some(self.wish),
            bound: Bound::Session,
        };
        {
            let mut lease = self.shared.lease();
            // The lock may have been given back a moment ago.
            if lease.step(now) == Step::Released || lease.is_lost(now) {
                drop(lease);
                self.path = Some(path);
                return;
            }
            lease.renewing(now, self.wish);
        }
        path.sent = now;
        path.ask(Asked::Renewal, |out| ask::command(&command, out));
        self.path = Some(path);
    }

    /// Says the secret on a new connection. Returns whether it is one.
    fn greet(&self, path: &mut Path) -> bool {
        let is_fresh = mem::replace(&mut path.is_fresh, false);
        if is_fresh && let Some(Secret(secret)) = &self.home.secret {
            path.ask(Asked::Secret, |out| ask::auth(secret, out));
        }
        is_fresh
    }

    /// The connection in use is mute. It stays open: its end could be taken for the end of the hold. When it is closed
    /// at last, nothing that was sent there may arrive any more.
    fn set_aside(&mut self) {
        if let Some(path) = self.path.take() {
            path.link.reset_on_drop();
            self.mute.push(path);
        }
    }

    /// Begins another connection, at the next address.
    fn connect(&mut self, now: Us) {
        let mute = self.mute_addrs(now);
        let is_mute = |addr| mute.contains(&addr);
        let sites = &mut self.home.sites;
        // A lookup that is over now counts.
        sites.is_looking();
        let is_last = sites.pass(now, is_mute);
        if is_last {
            sites.look_up_again(now);
        }
        let head_start = sites.head_start(is_mute);
        self.trial = head_start.map(|time| now.saturating_add(time));
        self.path = Path::open(&self.home, self.poll.registry()).ok();
        let mut lease = self.shared.lease();
        lease.reconnecting(now);
        if !is_last {
            lease.at_once();
        }
        if self.path.is_none() {
            lease.disconnected();
        }
    }

    /// When another address is tried beside a new connection that is silent.
    fn trial_end(&self) -> Us {
        let has_room = self.path.is_some() && self.mute.len() < MUTE_MAX;
        self.trial.filter(|_| has_room).unwrap_or(Us::MAX)
    }

    /// Addresses at which a connection is mute that is not old yet. Its answer may still come.
    fn mute_addrs(&self, now: Us) -> Vec<SocketAddr> {
        let age = self.shared.lease().span() / 8;
        let is_young = |path: &&Path| path.heard.is_none() && now < path.sent.saturating_add(age);
        let mute = self.mute.iter().filter(is_young);
        mute.map(|path| path.addr).collect()
    }

    /// Releases: on the connection in use, and over new ones while it is gone or mute, for as long as the patience.
    fn give_back(&mut self) -> Result<(), Error> {
        let until = sys::now().saturating_add(self.patience);
        let mut attempt = Attempt::default();
        loop {
            // A mute connection leaves time for another one.
            let now = sys::now();
            let is_new = self.path.as_ref().is_some_and(|path| path.is_fresh);
            let head_start = self.home.sites.head_start(|_| false).filter(|_| is_new);
            let quarter = self.patience / 4;
            let part = head_start.map_or(quarter, |time| time.min(quarter));
            let part = until.min(now.saturating_add(part));
            if let Some(answer) = self.ask_back(part, &mut attempt) {
                return answer;
            }
            // What was sent there may still arrive; the server reads the release last.
            self.path = None;
            if attempt.why.is_none() {
                self.home.sites.slowed();
            }
            let now = sys::now();
            // A server that refuses connections may come back and know the hold, unless that has ended by then.
            let end = self.shared.lease().until();
            if now >= until || (attempt.is_refused() && now >= end) {
                return Err(attempt.why.unwrap_or(ErrorKind::TimedOut.into()).into());
            }
            if self.home.sites.pass(now, |_| false) && attempt.tries > 1 {
                self.sleep(until.min(now.saturating_add(RETRY)));
            }
            match Path::open(&self.home, self.poll.registry()) {
                Ok(path) => self.path = Some(path),
                Err(error) => attempt.why = Some(error),
            }
        }
    }

    /// Sends a release on the connection in use, which needs no owner, and waits for the answer. None if there was none:
    /// then the connection is gone, or mute.
    fn ask_back(&mut self, until: Us, attempt: &mut Attempt) -> Option<Result<(), Error>> {
        attempt.tries += 1;
        let mut path = self.path.take()?;
        self.greet(&mut path);
        let command = Command::Release {
            space: self.space,
            key: &self.name,
            token: self.token,
        };
        path.ask(Asked::Release, |out| ask::command(&command, out));
        self.path = Some(path);
        loop {
            while let Some((asked, line)) = self.next() {
                match (asked, ask::answer(&line)) {
                    (Asked::Secret | Asked::Owner, Some(Reply::Released)) => {}
                    (Asked::Renewal, Some(Reply::Renewed { .. } | Reply::Refused(_))) => {}
                    (Asked::Release, Some(Reply::Released)) => return Some(Ok(())),
                    // An earlier release has arrived, though its answer has not.
                    (Asked::Release, Some(Reply::Refused(Refusal::Error))) if attempt.is_sent => {
                        return Some(Ok(()));
                    }
                    (_, Some(Reply::Refused(Refusal::MaxConnections))) => {
                        self.path = None;
                        let full = Error::Refused(Refusal::MaxConnections).to_string();
                        attempt.why = Some(io::Error::other(full));
                        return None;
                    }
                    (Asked::Owner, Some(Reply::Refused(_))) => {}
                    (_, Some(Reply::Refused(refusal))) => {
                        return Some(Err(Error::Refused(refusal)));
                    }
                    _ => return Some(Err(Error::Protocol(answered(&line)))),
                }
            }
            let path = self.path.take()?;
            let is_over = sys::now() >= until;
            if is_over || path.link.is_ended() {
                attempt.is_sent |= path.link.has_sent();
                attempt.why = path.link.is_ended().then(|| path.link.into_error());
                return None;
            }
            self.path = Some(path);
            self.sleep(until);
        }
    }
}

/// What came of giving back so far.
#[derive(Default)]
struct Attempt {
    tries: u32,
    /// A release was sent, and its answer did not come.
    is_sent: bool,
    /// Why the last connection failed; None if it is mute.
    why: Option<io::Error>,
}

impl Attempt {
    fn is_refused(&self) -> bool {
        let why = self.why.as_ref().map(io::Error::kind);
        why == Some(ErrorKind::ConnectionRefused)
    }
}

impl Path {
    fn open(home: &Home, registry: &Registry) -> io::Result<Path> {
        let Site { addr, connector } = home.sites.site()?;
        Ok(Path {
            link: Link::open(addr, connector.as_ref(), registry, LINK)?,
            addr,
            asked: VecDeque::new(),
            is_fresh: true,
            sent: 0,
            heard: None,
        })
    }

    /// The next answer that has arrived, and to what it is one.
    fn next(&mut self, hears: bool) -> Option<(Asked, Vec<u8>)> {
        loop {
            let line = self.link.line()?;
            if hears && ask::is_push(&line) {
                continue;
            }
            // A server that says something unasked says why it closes.
            return self.asked.pop_front().map(|asked| (asked, line));
        }
    }

    /// Sends a question.
    fn ask(&mut self, asked: Asked, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.link.output());
        self.asked.push_back(asked);
        self.link.move_on();
    }
}
