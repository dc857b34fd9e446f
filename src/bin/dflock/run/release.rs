//! The last words about a hold whose token is known: its release, or that it stays. They are said over a new connection
//! if the old one is gone or mute. Also the end of a place in a queue, at which a grant may be on its way: a server that
//! keeps the holds of connections that have ended would otherwise keep that one for the rest of its lease. Invariant:
//! giving back takes no longer than [`AWAY`], and leaving no longer than [`GOODBYE`] before that.

use std::io;

use dflockd::client::Owner;
use dflockd::client::link::Link;
use dflockd::client::sites::Sites;
use dflockd::command::{Command, Refusal, Reply, SECOND, Space, Token, Us};
use dflockd::sys;
use dflockd::wire::ask;

use super::world::{LINK, World};
use crate::failure::{Failure, report};

/// How long the answer to a release may take, over all connections that there are: without it the lease ends by itself.
/// Also how long the end of a queue's connection may take.
const GOODBYE: Us = SECOND;
/// How long a server to which there is no connection is asked to take a hold back. One that was killed, and knows its
/// holds when it is started again, is there within that time: systemd(1) waits for a second before it starts it.
const AWAY: Us = 3 * SECOND;
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

/// Gives a hold back and waits for the answer. `link` is the connection of the hold, and how many answers are still to
/// come on it. If there is none, or no answer, new connections are tried, unless `here_only`. Returns whether there was
/// an answer.
pub fn give_back(
    world: &mut World,
    peer: &Peer,
    link: Option<(Link, usize)>,
    (space, key, token): (Space, &[u8], Token),
    here_only: bool,
) -> Result<bool, Failure> {
    let command = Command::Release { space, key, token };
    let answer = say_last(world, peer, link, (&command, GOODBYE, AWAY), here_only)?;
    Ok(answer.is_some())
}

/// Says that nobody knows what became of a release, if that is so.
pub fn tell_unanswered(is_answered: bool) {
    if !is_answered {
        report(
            "the server did not answer the release: the lock may stay taken until its lease ends",
        );
    }
}

/// Says the last command about a hold, and returns its answer; None if there is none `within` that time, or within
/// `away` in all while there is no connection. The connections are as in [`give_back`].
pub fn say_last(
    world: &mut World,
    peer: &Peer,
    link: Option<(Link, usize)>,
    (command, within, away): (&Command<'_>, Us, Us),
    here_only: bool,
) -> Result<Option<Vec<u8>>, Failure> {
    let mut links: Vec<(Link, usize)> = link.into_iter().collect();
    let mut peer = peer.clone();
    for (link, _) in &mut links {
        ask::command(command, link.output());
    }
    let start = sys::now();
    let end = start.saturating_add(within.max(away));
    let mut until = start.saturating_add(within);
    let mut mute_at = start.saturating_add(MUTE);
    let mut next = start;
    loop {
        for (link, before) in &mut links {
            link.move_on();
            while let Some(line) = link.line() {
                match *before {
                    // The server closes this connection, and has read nothing there.
                    _ if is_full(&line) => {}
                    0 => return Ok(Some(line)),
                    _ => *before -= 1,
                }
            }
        }
        links.retain(|(link, _)| !link.is_ended());
        let now = sys::now();
        let (over, due) = match links.is_empty() {
            true => (end, next),
            false => (until, mute_at),
        };
        if now >= over || (here_only && links.is_empty()) {
            return Ok(None);
        }
        if now < due || here_only {
            world.sleep(if here_only { over } else { over.min(due) })?;
            continue;
        }
        if links.is_empty() {
            // The server may be there again. It has as long as at first.
            until = end.min(now.saturating_add(within));
        }
        let pause = if peer.sites.pass(now, |_| false) {
            RETRY
        } else {
            0
        };
        (next, mute_at) = (now.saturating_add(pause), now.saturating_add(MUTE));
        // If it cannot be opened, the next attempt may.
        if let Ok(mut link) = peer.connect(world) {
            let before = peer.greet(link.output());
            ask::command(command, link.output());
            links.push((link, before));
        }
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
        Some(token) => give_back(world, peer, None, (space, key, token), false).map(drop),
        None => Ok(()),
    }
}
