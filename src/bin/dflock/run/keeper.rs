//! A lock that is held, and what we know of its end. Renewed at half time; a connection that is lost is opened again at
//! once, and again until the end. Invariant: `until` counts from when the last good request was sent, so the server's
//! lease never ends before it, and nothing is renewed once it has passed.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::process;
use std::time::Duration;

use dflockd::client::lease::{Lease, Step, is_sharp};
use dflockd::client::{Grant, Owner};
use dflockd::command::{Command, Refusal, Reply, SECOND, Space, Token, Us};
use dflockd::sys;
use dflockd::wire::ask;

use super::world::{LINK, World};
use crate::failure::Failure;
use crate::link::Link;
use crate::options::Options;
use crate::print::digits;

/// How long the answer to a release may take: without it the lease ends by itself.
const GOODBYE: Us = SECOND;

/// What holds a lock.
pub struct Keeper {
    /// None while there is no connection.
    link: Option<Link>,
    /// Connections on which a renewal was not answered.
    mute: Vec<Link>,
    addr: SocketAddr,
    secret: Option<Vec<u8>>,
    /// None if the server knows no owners: then the hold stays with the connection that it was granted to.
    owner: Option<Owner>,
    space: Space,
    key: Vec<u8>,
    /// The lease to ask for.
    wish: Option<Us>,
    pub token: Token,
    /// When we heard of the grant.
    pub granted: Us,
    pub lease: Lease,
    /// The connection is new, and nothing has been said yet.
    fresh: bool,
    /// Answers to the secret and to the owner that are still to come.
    greetings: u8,
}

impl Keeper {
    /// Keeps what was granted to a request sent at `sent`, for `span`.
    pub fn new(
        link: Link,
        (addr, owner): (SocketAddr, Option<Owner>),
        options: &Options,
        (space, key): (Space, &[u8]),
        token: Token,
        (sent, span): (Us, Us),
    ) -> Keeper {
        let granted = sys::now();
        let lease = match is_sharp(sent, granted, span) {
            true => Lease::new(sent, span),
            false => Lease::unsure(granted, span),
        };
        Keeper {
            link: Some(link),
            mute: Vec::new(),
            addr,
            secret: options.secret.clone(),
            owner,
            space,
            key: key.to_vec(),
            wish: options.lease,
            token,
            granted,
            lease,
            fresh: false,
            greetings: 0,
        }
    }

    /// What proves it.
    pub fn grant(&self) -> Grant {
        Grant {
            token: self.token,
            lease: Duration::from_micros(self.lease.span()),
            until: self.lease.until(),
        }
    }

    /// Tells a command what it is run under.
    pub fn describe(&self, command: &mut process::Command) {
        command.env("DFLOCK_KEY", OsStr::from_bytes(&self.key));
        command.env("DFLOCK_TOKEN", digits(self.token));
        command.env("DFLOCK_FENCE", self.token.fence.to_string());
        command.env("DFLOCK_LEASE", (self.lease.span() / SECOND).to_string());
    }

    /// Whether there is no connection.
    pub fn is_broken(&self) -> bool {
        self.link.is_none()
    }

    /// Whether the hold is about to move to a connection that is new. It says nothing before the next
    /// [`Keeper::move_on`], so that whoever must have the connection too can get it first.
    pub fn is_moving(&self) -> bool {
        self.fresh && self.owner.is_some()
    }

    /// Whether the hold is with this connection, as far as it goes with any.
    pub fn is_settled(&self) -> bool {
        self.link.is_some() && !self.fresh && !self.lease.is_renewing()
    }

    /// When there is something to do, if nothing comes before.
    pub fn next(&self, now: Us) -> Us {
        match self.lease.step(now) {
            Step::Wait(until) => until,
            Step::Lost | Step::Released => Us::MAX,
            Step::Renew | Step::Connect | Step::Overdue => now,
        }
    }

    /// Hears what the server says, renews in time, and connects again if need be. Does nothing once lost.
    pub fn move_on(&mut self, world: &World) {
        match self.lease.step(sys::now()) {
            Step::Lost | Step::Released => return,
            Step::Connect => return self.connect(world),
            Step::Overdue => {
                // The path may be mute. It stays open: its end must not be taken for ours before the hold has moved, and
                // what was asked there may yet arrive and move the hold back.
                self.mute.extend(self.link.take());
                return self.connect(world);
            }
            Step::Renew if self.fresh => self.greet(),
            Step::Renew => self.renew(),
            Step::Wait(_) => {}
        }
        self.listen();
    }

    /// Hears what the server says, and nothing else.
    pub fn listen(&mut self) {
        let Some(link) = &mut self.link else { return };
        link.move_on();
        while let Some(line) = self.link.as_mut().and_then(Link::line) {
            self.hear(&line);
        }
        if self.link.as_ref().is_some_and(Link::is_ended) {
            self.link = None;
            self.lease.disconnected();
        }
    }

    /// Sends a renewal.
    pub fn renew(&mut self) {
        let Some(link) = &mut self.link else { return };
        let span = self.wish.unwrap_or(self.lease.span());
        let command = Command::Renew {
            space: self.space,
            key: &self.key,
            token: self.token,
            lease: Some(span),
        };
        ask::command(&command, link.output());
        self.lease.renewing(sys::now(), span);
        link.move_on();
    }

    /// Begins another connection; the next [`Keeper::move_on`] speaks on it.
    fn connect(&mut self, world: &World) {
        self.link = Link::open(self.addr, world.registry(), LINK).ok();
        self.lease.reconnecting(sys::now());
        self.fresh = self.link.is_some();
        if self.link.is_none() {
            self.lease.disconnected();
        }
    }

    /// Says what comes before everything else, and renews: that moves the hold here.
    fn greet(&mut self) {
        let Some(link) = &mut self.link else { return };
        (self.fresh, self.greetings) = (false, 0);
        if let Some(secret) = &self.secret {
            ask::auth(secret, link.output());
            self.greetings += 1;
        }
        if let Some(owner) = &self.owner {
            let owner = owner.name();
            ask::command(&Command::Declare { owner }, link.output());
            self.greetings += 1;
        }
        self.renew();
    }

    fn hear(&mut self, line: &[u8]) {
        match ask::answer(line) {
            Some(Reply::Released) if self.greetings > 0 => self.greetings -= 1,
            // Whoever has taken the server's place knows no owners.
            Some(Reply::Refused(Refusal::Error)) if self.greetings == 1 && self.owner.is_some() => {
                (self.greetings, self.owner) = (0, None);
            }
            Some(Reply::Renewed { lease }) => self.lease.renewed(sys::now(), lease),
            // Whatever else it says, it does not say that the lock is ours.
            _ => self.lease.lose(),
        }
    }

    /// Releases the lock and waits a moment for the answer.
    pub fn give_back(mut self, world: &mut World) -> Result<(), Failure> {
        let Some(mut link) = self.link.take() else {
            return Ok(());
        };
        let mut late = self.lease.is_renewing();
        let command = Command::Release {
            space: self.space,
            key: &self.key,
            token: self.token,
        };
        ask::command(&command, link.output());
        let patience = sys::now().saturating_add(GOODBYE);
        loop {
            link.move_on();
            while let Some(line) = link.line() {
                if !late {
                    return Ok(());
                }
                late = !matches!(
                    ask::answer(&line),
                    Some(Reply::Renewed { .. } | Reply::Refused(_))
                );
            }
            if link.is_ended() || sys::now() >= patience {
                return Ok(());
            }
            world.sleep(patience)?;
        }
    }
}
