//! Finding the server: the lookup of its name, and the handshakes with its addresses. A mute address must not use up the
//! wait. Invariant: a request for the lock is sent to one address at most, and no thread is left once there is an
//! address.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use dflockd::client::dial::resolve;
use dflockd::client::link::Link;
use dflockd::client::{self, Client, Connector, Key, Owner, Tls, answered};
use dflockd::command::{Command, Refusal, Reply, SECOND, Space, Us};
use dflockd::sys;
use dflockd::wire::ask;

use super::news::News;
use super::release::{Peer, leave};
use super::world::World;
use crate::failure::{ENDED, Failure, is_own, reason};
use crate::options::Options;

/// How often the end of a lookup is checked: the first pause, and the longest.
const LOOKUP_PAUSES: (Us, Us) = (SECOND / 5000, SECOND / 50);
/// How long an address may be silent before the next one is tried beside it.
const HEAD_START: Us = SECOND / 4;
/// How long a question for a better message may take.
const SOON: Duration = Duration::from_secs(1);

/// Why there is no lock.
pub enum Unheard {
    /// The server is out of reach, was lost, or is about to stop: the same, or another one in its place, may answer
    /// later.
    Miss(Miss),
    Failure(Failure),
}

/// Why a server gave no answer; another attempt may get one.
pub enum Miss {
    Unreached(String),
    Lost(String),
    Drains,
    /// It has as many connections as it may.
    Full,
    /// It has granted the lock to a connection that was lost, and to the same owner.
    Stray,
}

impl Miss {
    /// What has happened, in words.
    pub fn text(&self, server: &str) -> String {
        match self {
            Miss::Unreached(why) => format!("cannot reach {server}: {why}"),
            Miss::Lost(why) => format!("the connection to {server} is lost: {why}"),
            Miss::Drains => format!("{server} is about to stop"),
            Miss::Full => format!("{server} has as many connections as it may"),
            Miss::Stray => format!("{server} has granted the lock to a connection that is lost"),
        }
    }
}

impl Unheard {
    pub fn unreached(why: impl Into<String>) -> Unheard {
        Unheard::Miss(Miss::Unreached(why.into()))
    }

    /// A miss of one address, after which another one is tried.
    fn missed(self) -> Result<Unheard, Unheard> {
        match self {
            Unheard::Miss(_) => Ok(self),
            Unheard::Failure(_) => Err(self),
        }
    }
}

impl From<Failure> for Unheard {
    fn from(failure: Failure) -> Unheard {
        Unheard::Failure(failure)
    }
}

impl From<io::Error> for Unheard {
    fn from(error: io::Error) -> Unheard {
        Unheard::Failure(error.into())
    }
}

/// The search for the server of a key.
pub struct Search<'a> {
    pub world: &'a mut World,
    pub options: &'a Options,
    pub key: (Space, &'a [u8]),
    pub server: String,
    connector: Option<Connector>,
    pub news: News,
    /// A lookup that was not over in time goes on for the next attempt.
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl<'a> Search<'a> {
    pub fn new(world: &'a mut World, options: &'a Options, key: &'a [u8]) -> Search<'a> {
        let space = match options.limit {
            Some(_) => Space::Semaphore,
            None => Space::Lock,
        };
        let server = options.home(key);
        Search {
            world,
            options,
            key: (space, key),
            connector: options.connector(&server),
            server,
            news: News::new(options.verbose),
            lookup: None,
        }
    }

    /// Every address of the server, looked up anew. A thread of its own does that, because it may take long.
    pub fn addresses(&mut self, until: Us) -> Result<VecDeque<SocketAddr>, Unheard> {
        if let Ok(address) = self.server.parse() {
            return Ok(VecDeque::from([address]));
        }
        let name = self.server.clone();
        let lookup = match self.lookup.take() {
            Some(lookup) => lookup,
            None => thread::Builder::new().spawn(move || resolve(&name))?,
        };
        let mut glance = LOOKUP_PAUSES.0;
        while !lookup.is_finished() {
            let now = sys::now();
            if now >= until {
                self.lookup = Some(lookup);
                return Err(Unheard::unreached("its name was not found in time"));
            }
            self.sleep(until.min(now.saturating_add(glance)))?;
            glance = LOOKUP_PAUSES.1.min(glance * 2);
        }
        let found = lookup.join().expect("a lookup does not panic");
        found
            .map(VecDeque::from)
            .map_err(|e| Unheard::unreached(reason(&e)))
    }

    /// Greets the addresses, the next one when the one before has said nothing for a while, until one of them has
    /// answered. `more` follows the greeting at once: requests that may go to this address alone.
    pub fn handshake(
        &mut self,
        mut left: VecDeque<SocketAddr>,
        owner: &Owner,
        more: &[u8],
        until: Us,
    ) -> Result<Handshake, Unheard> {
        let mut open: Vec<Handshake> = Vec::new();
        let mut last = Unheard::unreached("it has no address");
        let mut next = 0;
        loop {
            let now = sys::now();
            while (now >= next || open.is_empty())
                && let Some(addr) = left.pop_front()
            {
                match self.greet(addr, owner, more) {
                    Ok(handshake) => {
                        open.push(handshake);
                        next = now.saturating_add(HEAD_START.min(until.saturating_sub(now) / 2));
                    }
                    Err(unheard) => last = unheard.missed()?,
                }
            }
            let mut at = 0;
            while at < open.len() {
                match open[at].move_on(self, more) {
                    Ok(true) => return Ok(open.swap_remove(at)),
                    Ok(false) => at += 1,
                    Err(unheard) => {
                        last = unheard.missed()?;
                        open.remove(at);
                        next = now;
                    }
                }
            }
            if left.is_empty() {
                next = until;
            }
            let end = match (open.is_empty(), left.is_empty()) {
                (true, true) => return Err(last),
                _ if now >= until => Err(Unheard::unreached(silence(&open))),
                (true, false) => continue,
                _ => self.sleep(until.min(next)).map_err(Unheard::from),
            };
            if end.is_err() && !more.is_empty() {
                let link = open.pop().map(|handshake| (handshake.peer, handshake.link));
                self.leave(link)?;
            }
            end?;
        }
    }

    fn greet(&self, addr: SocketAddr, owner: &Owner, more: &[u8]) -> Result<Handshake, Unheard> {
        let peer = Peer {
            addr,
            connector: self.connector.clone(),
            secret: self.options.secret.clone(),
            owner: Some(owner.clone()),
        };
        Handshake::begin(self.world, peer, more)
    }

    /// Leaves a queue, if this connection has a place in one.
    pub fn leave(&mut self, place: Option<(Peer, Link)>) -> Result<(), Failure> {
        match place {
            Some((peer, link)) => leave(self.world, &peer, link, self.key),
            None => Ok(()),
        }
    }

    /// Sleeps until an event, and fails if that is a signal.
    pub fn sleep(&mut self, until: Us) -> Result<(), Failure> {
        self.news.tell_kept();
        self.world.sleep(until.min(self.news.due()))?;
        self.world.end_by_signal()
    }

    /// The failure that the server has sent something that no dflockd sends.
    pub fn not_dflockd(&self, what: &str) -> Failure {
        Failure::not_dflockd(&self.server, what)
    }

    /// Why a connection has ended.
    pub fn end_of(&self, link: &Link) -> Unheard {
        if let Some(error) = link.tls_error() {
            return Failure::no_tls(&self.server, error).into();
        }
        match link.why() {
            Some(e) if e.kind() == ErrorKind::InvalidData => {
                self.not_dflockd("it sent a line without an end").into()
            }
            Some(e) => Unheard::unreached(reason(e)),
            None => Unheard::unreached(ENDED),
        }
    }

    /// Others use the semaphore with another limit, which this address may tell if it is asked.
    pub fn other_limit(&self, addr: SocketAddr) -> Failure {
        let limit = || {
            let settings = client::Options {
                secret: self.options.secret.clone(),
                // The address is not the name that the certificate is for.
                tls: self.connector.clone().map(Tls::from),
                patience: SOON,
                ..client::Options::default()
            };
            let ours = self.options.limit?;
            let key = Key::semaphore(self.key.1, ours).ok()?;
            let mut client = Client::connect(&addr.to_string(), &settings).ok()?;
            let shown: Value = serde_json::from_str(&client.show(&key).ok()?).ok()?;
            // The others may be gone since.
            let theirs = |&limit: &u64| limit > 0 && limit != u64::from(ours);
            shown["limit"].as_u64().filter(theirs)
        };
        Failure::other_limit(limit())
    }

    /// What a refusal of the server means for a wait.
    pub fn refused(&self, refusal: Refusal) -> Unheard {
        match refusal {
            Refusal::Draining => Unheard::Miss(Miss::Drains),
            Refusal::MaxConnections => Unheard::Miss(Miss::Full),
            refusal => {
                let has_secret = self.options.secret.is_some();
                Failure::refused(&self.server, refusal, has_secret).into()
            }
        }
    }
}

/// The first words with an address: the secret, the owner and a question. The queue may be long; the answer to the
/// question says at once that the server is there. It is the owner once more: after an answer to anything else a server
/// that drains would close the connection, and not say that it drains.
pub struct Handshake {
    pub peer: Peer,
    pub link: Link,
    pub start: Us,
    /// How many `ok` are wanted, and how many of them are still to come.
    greetings: usize,
    left: usize,
    /// The server knows no owners, and may close the connection that declared one.
    is_older: bool,
}

/// What is said when the time is over for these.
fn silence(open: &[Handshake]) -> &'static str {
    match open.iter().any(|one| one.link.is_handshaking()) {
        true => "no answer in the TLS handshake: perhaps the server speaks no TLS",
        false => "no answer",
    }
}

impl Handshake {
    fn begin(world: &World, peer: Peer, more: &[u8]) -> Result<Handshake, Unheard> {
        let start = sys::now();
        let mut link = match peer.connect(world) {
            Ok(link) => link,
            Err(e) if is_own(&e) => return Err(Unheard::Failure(e.into())),
            Err(e) => return Err(Unheard::unreached(reason(&e))),
        };
        let greetings = peer.greet(link.output()) + 1;
        match &peer.owner {
            Some(owner) => ask::command(
                &Command::Declare {
                    owner: owner.name(),
                },
                link.output(),
            ),
            None => ask::ping(link.output()),
        }
        link.output().extend_from_slice(more);
        Ok(Handshake {
            peer,
            link,
            start,
            greetings,
            left: greetings,
            is_older: false,
        })
    }

    /// Sends and reads what goes without waiting. Whether the server has answered everything.
    fn move_on(&mut self, search: &Search, more: &[u8]) -> Result<bool, Unheard> {
        self.link.move_on();
        while self.left > 0
            && let Some(line) = self.link.line()
        {
            self.hear(&line, search)?;
        }
        if self.left == 0 {
            return Ok(true);
        }
        if !self.link.is_ended() {
            return Ok(false);
        }
        if self.is_older {
            *self = Handshake::begin(search.world, self.peer.clone(), more)?;
            return Ok(false);
        }
        Err(search.end_of(&self.link))
    }

    fn hear(&mut self, line: &[u8], search: &Search) -> Result<(), Unheard> {
        let has_secret = self.peer.secret.is_some();
        match ask::answer(line) {
            Some(Reply::Released) => self.left -= 1,
            Some(Reply::Refused(Refusal::Error)) if self.left == self.greetings && has_secret => {
                return Err(Failure::no_token(&search.server).into());
            }
            // An older server knows no owners, and goes on without.
            Some(Reply::Refused(Refusal::Error)) if self.left == 2 && self.peer.owner.is_some() => {
                self.peer.owner = None;
                self.is_older = true;
                self.left -= 1;
            }
            Some(Reply::Refused(Refusal::Error)) if self.left == 1 && self.is_older => {
                self.left -= 1;
            }
            Some(Reply::Refused(refusal)) => return Err(search.refused(refusal)),
            _ => return Err(search.not_dflockd(&answered(line)).into()),
        }
        Ok(())
    }
}
