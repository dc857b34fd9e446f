//! A lock that is held, over a connection in an event loop. When to renew and when the lock is lost is decided in
//! `dflockd::client::lease`; a connection that is lost or mute is replaced at once, and again until the deadline.
//! Invariant: nothing is sent for a lock that is lost, except the release.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
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

/// Keeps a lock.
pub struct Keeper {
    /// None while there is no connection.
    link: Option<Link>,
    /// Connections on which a renewal was not answered; see [`Step::Overdue`].
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
    /// When the grant arrived.
    pub granted: Us,
    pub lease: Lease,
    /// The connection is new, and nothing was sent on it.
    fresh: bool,
    /// How many answers to the secret and the owner are still to come.
    greetings: u8,
}

impl Keeper {
    /// Keeps a lock that was granted for `span` to a request sent at `sent`.
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

    /// Whether there is no connection.
    pub fn is_broken(&self) -> bool {
        self.link.is_none()
    }

    /// Whether the hold is about to move to a new connection. Nothing is sent there before the next
    /// [`Keeper::move_on`], so that a guard can be forked that has this connection too.
    pub fn is_moving(&self) -> bool {
        self.fresh && self.owner.is_some()
    }

    /// Whether the hold is with the present connection.
    pub fn is_settled(&self) -> bool {
        self.link.is_some() && !self.fresh && !self.lease.is_renewing()
    }

    /// The connection in use, for a guard that is to have it too.
    #[allow(dead_code, reason = "the guard asks for it from its next version on")]
    pub fn link_fd(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(Link::fd)
    }

    /// When [`Keeper::move_on`] has something to do even if nothing arrives.
    pub fn next(&self, now: Us) -> Us {
        match self.lease.step(now) {
            Step::Wait(until) => until,
            Step::Lost | Step::Released => Us::MAX,
            Step::Renew | Step::Connect | Step::Overdue => now,
        }
    }

    /// Does what is due: reads answers, renews, connects again. Does nothing once the lock is lost.
    pub fn move_on(&mut self, world: &World) {
        match self.lease.step(sys::now()) {
            Step::Lost | Step::Released => return,
            Step::Connect => return self.connect(world),
            Step::Overdue => {
                // The old connection stays open. Its end would end the hold if that has not moved yet, and a renewal
                // that still arrives there moves the hold back.
                self.mute.extend(self.link.take());
                return self.connect(world);
            }
            Step::Renew if self.fresh => self.greet(),
            Step::Renew => self.renew(),
            Step::Wait(_) => {}
        }
        self.listen();
    }

    /// Reads answers, and nothing else.
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

    /// Sends the secret and the owner on a new connection, and renews: that moves the hold to it.
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
            // The server was replaced by one that knows no owners.
            Some(Reply::Refused(Refusal::Error)) if self.greetings == 1 && self.owner.is_some() => {
                (self.greetings, self.owner) = (0, None);
            }
            Some(Reply::Renewed { lease }) => self.lease.renewed(sys::now(), lease),
            // No other answer confirms the hold.
            _ => self.lease.lose(),
        }
    }

    /// Releases the lock and waits for the answer, a second at most.
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
