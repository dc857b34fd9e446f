//! The last words about a hold whose token is known: its release, or that it stays. They are said over a new connection
//! if the old one is gone or mute. Also the end of a place in a queue, at which a grant may be on its way: a server that
//! keeps the holds of connections that have ended would otherwise keep that one for the rest of its lease. Invariant:
//! giving back takes no longer than [`AWAY`], or [`FAILOVER`] where the server has alternatives and the lock was used;
//! and leaving no longer than [`GOODBYE`] before that.

use std::io;
use std::net::SocketAddr;

use dflockd::client::Owner;
use dflockd::client::link::Link;
use dflockd::client::sites::Sites;
use dflockd::client::turns::SILENCE;
use dflockd::command::{Command, Refusal, Reply, SECOND, Space, Token, Us};
use dflockd::sys::{self, Caught};
use dflockd::wire::ask;

use super::world::{LINK, World};
use crate::failure::{Failure, report};

/// How long the answer to a release may take, over all connections that there are: without it the lease ends by itself.
/// Also how long the end of a queue's connection may take.
const GOODBYE: Us = SECOND;
/// How long a server to which there is no connection is asked to take a hold back. One that was killed, and knows its
/// holds when it is started again, is there within that time: systemd(1) waits for a second before it starts it.
pub const AWAY: Us = 3 * SECOND;
/// How long a server with alternatives is asked to take back a hold that was used: 10 s more, in which another one
/// leads. By default that takes half as long.
pub const FAILOVER: Us = AWAY + 10 * SECOND;
/// A connection without an answer for so long may be mute: another one is tried beside it.
const MUTE: Us = SECOND / 4;
/// How long after one attempt to connect the next one is made.
const RETRY: Us = SECOND / 10;

/// A server as a new connection finds it and greets it.
#[derive(Clone)]
pub struct Peer {
    /// All addresses of it. The one in use has its turn.
    pub sites: Sites,
    pub secret: Option<Vec<u8>>,
    /// None if the server knows no owners.
    pub owner: Option<Owner>,
}

impl Peer {
    /// The address in use.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.sites.at()
    }

    /// Begins another connection.
    pub fn connect(&self, world: &World) -> io::Result<Link> {
        let site = self.sites.site()?;
        Link::open(site.addr, site.connector.as_ref(), world.registry(), LINK)
    }

    /// Appends the secret and the owner. Returns how many answers that makes.
    pub fn greet(&self, out: &mut Vec<u8>) -> usize {
        if let Some(secret) = &self.secret {
            ask::auth(secret, out);
        }
        if let Some(owner) = &self.owner {
            let owner = owner.name();
            ask::command(&Command::Declare { owner }, out);
        }
        usize::from(self.secret.is_some()) + usize::from(self.owner.is_some())
    }
}

/// How long the last words may take.
pub struct Limits {
    /// Until the answer, over all connections that there are.
    pub within: Us,
    /// In all, if there is no connection meanwhile.
    pub away: Us,
    /// In all, if the server has alternatives. A signal ends it after `away`.
    pub failover: Us,
}

/// What came of the last words.
pub enum Told {
    /// The answer.
    Answer(Vec<u8>),
    Unanswered,
    /// A signal has ended the attempts.
    Cut(Caught),
}

/// Gives a hold back and waits for the answer. `link` is the connection of the hold, and how many answers are still to
/// come on it. If there is none, or no answer, new connections are tried, unless `here_only`; where the server has
/// alternatives, for as long as `failover`.
pub fn give_back(
    world: &mut World,
    peer: &Peer,
    link: Option<(Link, usize)>,
    (space, key, token): (Space, &[u8], Token),
    here_only: bool,
    failover: Us,
) -> Result<Told, Failure> {
    let command = Command::Release { space, key, token };
    let limits = Limits {
        within: GOODBYE,
        away: AWAY,
        failover,
    };
    say_last(world, peer, link, &command, &limits, here_only)
}

/// Says that nobody knows what became of a release, if that is so.
pub fn tell_unanswered(told: &Told) {
    if !matches!(told, Told::Answer(_)) {
        report(
            "the server did not answer the release: the lock may stay taken until its lease ends",
        );
    }
}

/// Says the last command about a hold. The connections are as in [`give_back`].
pub fn say_last(
    world: &mut World,
    peer: &Peer,
    link: Option<(Link, usize)>,
    command: &Command<'_>,
    limits: &Limits,
    here_only: bool,
) -> Result<Told, Failure> {
    let mut words = LastWords::new(peer, link, command);
    let (start, mut is_late) = (sys::now(), false);
    let goes_round = words.goes_round && !here_only;
    let span = if goes_round {
        limits.failover
    } else {
        limits.away
    };
    let end = start.saturating_add(limits.within.max(span));
    let mut until = start.saturating_add(limits.within);
    let mut mute_at = start.saturating_add(MUTE);
    let mut next = start;
    loop {
        if let Some(line) = words.listen() {
            if is_late {
                report("the server has answered the release");
            }
            return Ok(Told::Answer(line));
        }
        let now = sys::now();
        let (over, due) = match words.paths.is_empty() {
            true => (end, next),
            false if goes_round => (end, mute_at),
            false => (until, mute_at),
        };
        if now >= over || (here_only && words.paths.is_empty()) {
            return Ok(Told::Unanswered);
        }
        if goes_round && now >= start.saturating_add(limits.away) {
            if let Some(caught) = world.called() {
                return Ok(Told::Cut(caught));
            }
            if !std::mem::replace(&mut is_late, true) {
                report("the server does not answer the release: asking again");
            }
        }
        if now < due || here_only {
            world.sleep(if here_only { over } else { over.min(due) })?;
            continue;
        }
        if words.paths.is_empty() {
            // The server may be there again. It has as long as at first.
            until = end.min(now.saturating_add(limits.within));
        }
        let pause = if words.repeat(world, now) { RETRY } else { 0 };
        (next, mute_at) = (now.saturating_add(pause), now.saturating_add(MUTE));
    }
}

/// The last words about a hold, and the connections over which they were said.
struct LastWords<'a> {
    peer: Peer,
    command: &'a Command<'a>,
    paths: Vec<Path>,
    /// The server has alternatives: each is asked again and again, over one connection at a time.
    goes_round: bool,
}

struct Path {
    link: Link,
    /// How many answers come before the one that matters.
    before: usize,
    addr: Option<SocketAddr>,
    /// When it was said here.
    at: Us,
}

impl<'a> LastWords<'a> {
    fn new(peer: &Peer, link: Option<(Link, usize)>, command: &'a Command<'a>) -> LastWords<'a> {
        let path = link.map(|(mut link, before)| {
            ask::command(command, link.output());
            Path {
                link,
                before,
                addr: peer.addr(),
                at: sys::now(),
            }
        });
        LastWords {
            peer: peer.clone(),
            command,
            paths: path.into_iter().collect(),
            goes_round: peer.sites.has_alternatives(),
        }
    }

    /// Sends and reads what goes without waiting, and returns the answer if it has come.
    fn listen(&mut self) -> Option<Vec<u8>> {
        for path in &mut self.paths {
            path.link.move_on();
            while let Some(line) = path.link.line() {
                match path.before {
                    // The server closes this connection, and has read nothing there.
                    _ if is_full(&line) => {}
                    0 => return Some(line),
                    _ => path.before -= 1,
                }
            }
        }
        self.paths.retain(|path| !path.link.is_ended());
        None
    }

    /// Says it over another connection, at the next address. Returns whether that was the last one of a round.
    fn repeat(&mut self, world: &World, now: Us) -> bool {
        let LastWords { peer, paths, .. } = self;
        if self.goes_round {
            paths.retain(|path| now < path.at.saturating_add(SILENCE));
        }
        let is_asked = |addr| self.goes_round && paths.iter().any(|path| path.addr == Some(addr));
        let is_last = peer.sites.pass(now, is_asked);
        if peer.addr().is_some_and(is_asked) {
            return is_last;
        }
        // If it cannot be opened, the next attempt may.
        if let Ok(mut link) = peer.connect(world) {
            let before = peer.greet(link.output());
            ask::command(self.command, link.output());
            paths.push(Path {
                link,
                before,
                addr: peer.addr(),
                at: now,
            });
        }
        is_last
    }
}

/// Whether the server says that it has no room for this connection: then it has read nothing there, and closes it.
pub fn is_full(line: &[u8]) -> bool {
    ask::answer(line) == Some(Reply::Refused(Refusal::MaxConnections))
}

/// Leaves a queue. The server ends the connection when it sees the end of ours; a grant that came before that is given
/// back.
pub fn leave(
    world: &mut World,
    peer: &Peer,
    mut link: Link,
    (space, key): (Space, &[u8]),
) -> Result<(), Failure> {
    if !link.shut_down() {
        return Ok(());
    }
    let until = sys::now().saturating_add(GOODBYE);
    let mut found = None;
    loop {
        link.move_on();
        while let Some(line) = link.line() {
            if let Some(Reply::Granted { token, .. }) = ask::answer(&line) {
                found = Some(token);
            }
        }
        if link.is_ended() || sys::now() >= until {
            break;
        }
        world.sleep(until)?;
    }
    match found {
        Some(token) => give_back(world, peer, None, (space, key, token), false, AWAY).map(drop),
        None => Ok(()),
    }
}
