//! A lock that is held, over a connection in an event loop. When to renew and when the lock is lost is decided in
//! `dflockd::client::lease`; a connection that is lost or mute is replaced at once, and again until the deadline.
//! Invariant: nothing is sent for a lock that is lost, except the release.

use std::ffi::OsStr;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::process;
use std::time::Duration;

use dflockd::client::Grant;
use dflockd::client::lease::{Lease, Step, is_sharp};
use dflockd::client::link::Link;
use dflockd::command::{Bound, Command, Refusal, Reply, SECOND, Space, Token, Us};
use dflockd::sys;
use dflockd::wire::ask;

use super::find::Search;
use super::news::News;
use super::release::{AWAY, Limits, Peer, Told, give_back, is_full, say_last};
use super::times::spare;
use super::world::World;
use crate::failure::{ENDED, Failure, reason};
use crate::print::digits;

/// A hold as it was heard of: it was granted for `lease` to a request sent at `sent`.
pub struct Granted {
    pub token: Token,
    pub sent: Us,
    pub lease: Us,
}

/// Keeps a lock.
pub struct Keeper {
    /// None while there is no connection.
    link: Option<Link>,
    mute: Vec<Mute>,
    /// When another address is tried unless the new connection has answered; None if there is none.
    trial: Option<Us>,
    peer: Peer,
    /// The server as messages call it.
    server: String,
    news: News,
    space: Space,
    key: Vec<u8>,
    /// The lease to ask for. It never changes: a renewal that arrives late must not shorten a later one.
    wish: Us,
    pub token: Token,
    /// When the grant arrived.
    pub granted: Us,
    pub lease: Lease,
    /// The connection is new, and nothing was sent on it.
    fresh: bool,
    /// How many answers to the secret and the owner are still to come.
    greetings: usize,
    /// When the last renewal was sent.
    sent: Us,
}

/// A connection on which a renewal was not answered in time; see [`Step::Overdue`].
struct Mute {
    link: Link,
    addr: Option<SocketAddr>,
    greetings: usize,
    /// When the renewal was sent.
    sent: Us,
    /// When its answer came after all.
    heard: Option<Us>,
}

impl Keeper {
    /// Keeps a lock of that server.
    pub fn new(
        link: Link,
        peer: Peer,
        search: &Search,
        granted: &Granted,
        round_trip: Us,
    ) -> Keeper {
        let now = sys::now();
        // The hold may have ended with its connection.
        let is_sharp = is_sharp(granted.sent, now, granted.lease) && !link.is_ended();
        let mut lease = match is_sharp {
            true => Lease::new(granted.sent, granted.lease),
            false => Lease::unsure(now, granted.lease),
        };
        lease.learn(round_trip);
        lease.spare(spare(search.options, granted.lease));
        Keeper {
            link: Some(link),
            mute: Vec::new(),
            trial: None,
            peer,
            server: search.server.clone(),
            news: News::new(search.options.verbose),
            space: search.key.0,
            key: search.key.1.to_vec(),
            wish: search.options.lease.unwrap_or(granted.lease),
            token: granted.token,
            granted: now,
            lease,
            fresh: false,
            greetings: 0,
            sent: granted.sent,
        }
    }

    /// The proof of the hold.
    pub fn grant(&self) -> Grant {
        Grant {
            token: self.token,
            lease: Duration::from_micros(self.lease.span()),
            until: self.lease.until(),
        }
    }

    /// Puts the lock into the environment of a command.
    pub fn describe(&self, command: &mut process::Command) {
        command.env("DFLOCK_KEY", OsStr::from_bytes(&self.key));
        command.env("DFLOCK_TOKEN", digits(self.token));
        command.env("DFLOCK_FENCE", self.token.fence.to_string());
        command.env("DFLOCK_LEASE", (self.lease.span() / SECOND).to_string());
    }

    /// From now on troubles are told at once.
    pub fn tell_at_once(&mut self) {
        self.news.tell_at_once();
    }

    /// Whether the hold has ended: no connection is open, and a lease has passed since the last renewal.
    pub fn is_over(&self, now: Us) -> bool {
        let is_reached = self.link.as_ref().is_some_and(|link| !link.is_ended());
        !is_reached && self.mute.is_empty() && now >= self.sent.saturating_add(self.wish)
    }

    /// Whether the hold is about to move to a new connection. Nothing is sent there before the next
    /// [`Keeper::move_on`], so that the guard can get this connection before.
    pub fn is_moving(&self) -> bool {
        self.fresh && self.peer.owner.is_some()
    }

    /// Whether the hold is with the present connection, and no renewal on another one can still move it.
    pub fn is_settled(&self) -> bool {
        let is_asked = self.fresh || self.lease.is_renewing();
        self.link.is_some() && !is_asked && self.mute.is_empty()
    }

    /// The connection in use, for a guard that is to have it too.
    pub fn link_fd(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(Link::as_fd)
    }

    /// When [`Keeper::move_on`] has something to do even if nothing arrives.
    pub fn next(&self, now: Us) -> Us {
        match self.lease.step(now) {
            Step::Wait(until) => until.min(self.news.due()).min(self.trial_end()),
            Step::Lost | Step::Released => Us::MAX,
            Step::Renew | Step::Connect | Step::Overdue => now,
        }
    }

    /// Does what is due: reads answers, renews, connects again. Sends nothing once the lock is lost.
    pub fn move_on(&mut self, world: &World) {
        self.listen();
        self.news.tell_kept();
        let now = sys::now();
        match self.lease.step(now) {
            Step::Wait(_) if now >= self.trial_end() => {
                self.peer.sites.slowed();
                self.tell_lost("no answer");
                self.set_aside();
                return self.connect(world);
            }
            Step::Wait(_) | Step::Lost | Step::Released => return,
            Step::Connect => return self.connect(world),
            Step::Overdue => {
                self.tell_lost("no answer");
                self.set_aside();
                return self.connect(world);
            }
            Step::Renew if self.fresh => self.greet(),
            Step::Renew => self.renew(),
        }
        self.listen();
    }

    /// The old connection stays open. Its end would end the hold if that has not moved yet, and a renewal that still
    /// arrives there moves the hold back.
    fn set_aside(&mut self) {
        let (greetings, sent) = (self.greetings, self.sent);
        let addr = self.peer.sites.site().ok().map(|site| site.addr);
        let mute = self.link.take().map(|link| Mute {
            link,
            addr,
            greetings,
            sent,
            heard: None,
        });
        self.mute.extend(mute);
    }

    /// Reads answers, and nothing else.
    fn listen(&mut self) {
        self.listen_to_mute();
        let Some(link) = &mut self.link else { return };
        link.move_on();
        while let Some(line) = self.link.as_mut().and_then(Link::line) {
            self.hear(&line);
        }
        if let Some(link) = self.link.take_if(|link| link.is_ended()) {
            let why = link.why().map_or_else(|| ENDED.to_string(), reason);
            self.lease.disconnected();
            self.tell_lost(&why);
        }
    }

    /// Reads late answers, and lets go of connections that do not matter any more: a lease after its last renewal, or
    /// when this was answered and the hold has moved since, the hold cannot be there.
    fn listen_to_mute(&mut self) {
        let (now, wish) = (sys::now(), self.wish);
        let mut mute = mem::take(&mut self.mute);
        for one in &mut mute {
            one.link.move_on();
            while let Some(line) = one.link.line() {
                if is_full(&line) {
                    // It is closed, and nothing that was sent there was read.
                } else if one.greetings > 0 {
                    one.greetings -= 1;
                } else if let Some(Reply::Renewed { lease }) = ask::answer(&line) {
                    one.heard = Some(now);
                    self.lease.renewed_late(now, one.sent, lease);
                } else {
                    self.lease.refused_late(one.sent);
                }
            }
        }
        // Without an owner the hold does not move. It is with the first connection.
        let mut stays = self.peer.owner.is_none();
        mute.retain(|one| {
            let matters = now < one.sent.saturating_add(wish) || mem::take(&mut stays);
            let is_kept = matters && !one.link.is_ended();
            if !is_kept {
                // A renewal that was delivered after all would move the hold to a connection that ends with it.
                one.link.reset_on_drop();
            }
            is_kept
        });
        self.mute = mute;
    }

    /// Sends a renewal.
    fn renew(&mut self) {
        let Some(link) = &mut self.link else { return };
        let command = Command::Renew {
            space: self.space,
            key: &self.key,
            token: self.token,
            lease: Some(self.wish),
            bound: Bound::Session,
        };
        ask::command(&command, link.output());
        self.sent = sys::now();
        self.lease.renewing(self.sent, self.wish);
        link.move_on();
    }

    /// Begins another connection, at the next address; the next [`Keeper::move_on`] speaks on it.
    fn connect(&mut self, world: &World) {
        let now = sys::now();
        let mute = self.mute_addrs(now);
        let is_mute = |addr| mute.contains(&addr);
        let is_last = self.peer.sites.pass(now, is_mute);
        let head_start = self.peer.sites.head_start(is_mute);
        self.trial = head_start.map(|time| now.saturating_add(time));
        let link = self.peer.connect(world);
        self.lease.reconnecting(now);
        if !is_last {
            self.lease.at_once();
        }
        self.fresh = link.is_ok();
        match link {
            Ok(link) => self.link = Some(link),
            Err(e) => {
                self.lease.disconnected();
                self.tell_lost(&reason(&e));
            }
        }
    }

    /// When another address is tried beside a new connection that is silent.
    fn trial_end(&self) -> Us {
        let is_open = self.link.is_some();
        self.trial.filter(|_| is_open).unwrap_or(Us::MAX)
    }

    /// Addresses at which a connection is mute that is not old yet. Its answer may still come.
    fn mute_addrs(&self, now: Us) -> Vec<SocketAddr> {
        let age = self.lease.span() / 8;
        let is_young = |mute: &&Mute| mute.heard.is_none() && now < mute.sent.saturating_add(age);
        let mute = self.mute.iter().filter(is_young);
        mute.filter_map(|mute| mute.addr).collect()
    }

    fn tell_lost(&mut self, why: &str) {
        let server = &self.server;
        let text = format!("the connection to {server} is lost: {why}; connecting again");
        self.news.trouble(&text);
    }

    /// Sends the secret and the owner on a new connection, and renews: that moves the hold to it.
    fn greet(&mut self) {
        let Some(link) = &mut self.link else { return };
        self.fresh = false;
        self.greetings = self.peer.greet(link.output());
        self.renew();
    }

    fn hear(&mut self, line: &[u8]) {
        match ask::answer(line) {
            Some(Reply::Released) if self.greetings > 0 => self.greetings -= 1,
            // The server was replaced by one that knows no owners.
            Some(Reply::Refused(Refusal::Error))
                if self.greetings == 1 && self.peer.owner.is_some() =>
            {
                (self.greetings, self.peer.owner) = (0, None);
            }
            // It takes no new owners when it is about to stop. That says nothing of the hold.
            Some(Reply::Refused(Refusal::Draining)) if self.greetings > 0 => {
                self.link = None;
                self.lease.disconnected();
            }
            // It is full, and closes the new connection. That says nothing of the hold either.
            Some(Reply::Refused(Refusal::MaxConnections)) => {
                self.link = None;
                self.lease.disconnected();
                self.tell_lost("the server has as many connections as it may");
            }
            Some(Reply::Renewed { lease }) => self.renewed(lease),
            // No other answer confirms the hold.
            _ => self.lease.lose(),
        }
    }

    /// The renewal on the connection in use was answered, so the hold is here.
    fn renewed(&mut self, lease: Us) {
        let now = sys::now();
        self.trial = None;
        if let Ok(site) = self.peer.sites.site() {
            self.peer.sites.settle(site.addr);
        }
        self.lease.renewed(now, lease);
        let text = format!("the connection to {} is back", self.server);
        self.news.over(&text);
        // What was answered before this renewal was sent cannot take the hold back. Without an owner the hold has not moved.
        let (sent, stays) = (self.sent, self.peer.owner.is_none());
        let is_taken = |mute: &Mute| mute.heard.is_some_and(|heard| heard > sent);
        self.mute
            .retain(|mute| stays || mute.heard.is_none() || is_taken(mute));
        if self.mute.iter().any(is_taken) {
            self.lease.hurry(now);
        }
    }

    /// Has the server keep the hold for its lease, whatever becomes of its connections, and returns the answer; None if
    /// there is none within that time. Nothing is renewed from now on.
    pub fn detach(&mut self, world: &mut World, within: Us) -> Result<Option<Reply>, Failure> {
        let link = self.take_link();
        let command = Command::Detach {
            space: self.space,
            key: &self.key,
            token: self.token,
        };
        let limits = Limits {
            within,
            away: within,
            failover: within,
        };
        Ok(
            match say_last(world, &self.peer, link, &command, &limits, false)? {
                Told::Answer(line) => ask::answer(&line),
                Told::Unanswered | Told::Cut(_) => None,
            },
        )
    }

    /// The connection in use, and how many answers are still to come on it.
    fn take_link(&mut self) -> Option<(Link, usize)> {
        let before = self.greetings + usize::from(self.lease.is_renewing());
        let link = self.link.take().filter(|_| !self.fresh);
        link.map(|link| (link, before))
    }

    /// Releases a lock that nobody has used, and waits for the answer, a second at most, or three while the server is
    /// away.
    pub fn give_back(self, world: &mut World) -> Result<(), Failure> {
        self.release(world, AWAY).map(drop)
    }

    /// Releases the lock and waits for the answer, a second at most, or three while the server is away. If it has
    /// alternatives that may take as long as `failover`, but no longer than the lease.
    pub fn release(mut self, world: &mut World, failover: Us) -> Result<Told, Failure> {
        let link = self.take_link();
        let now = sys::now();
        let is_lost = self.lease.is_lost(now);
        let left = self.lease.until().saturating_sub(now);
        let failover = failover.min(left.max(AWAY));
        let proof = (self.space, &self.key[..], self.token);
        give_back(world, &self.peer, link, proof, is_lost, failover)
    }
}
