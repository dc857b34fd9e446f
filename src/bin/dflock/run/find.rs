//! Finding the server: the lookup of its name, and the handshakes with its addresses. A mute address must not use up the
//! wait. Invariant: a request for the lock is sent to one address at most, and no thread is left once there is an
//! address.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use dflockd::client::link::Link;
use dflockd::client::sites::{Glance, Site, Sites};
use dflockd::client::turns::{Turn, Turns};
use dflockd::client::{self, Client, Key, Owner, Tls, answered};
use dflockd::command::{Command, Refusal, Reply, Space, Us};
use dflockd::sys;
use dflockd::wire::ask;

use super::news::News;
use super::release::{Peer, leave};
use super::world::World;
use crate::failure::{ENDED, Failure, is_own, reason, tell};
use crate::options::Options;

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
    /// Nothing came where an answer was due, and the server has alternatives.
    Silent,
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
            Miss::Silent => format!("the connection to {server} is lost: no answer"),
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

    /// A miss of one address, after which another one is tried. Of this and the last one, the one that says more.
    fn missed(self, last: Option<Miss>) -> Result<Option<Miss>, Unheard> {
        match (self, last) {
            (Unheard::Miss(_), Some(last @ (Miss::Drains | Miss::Full))) => Ok(Some(last)),
            (Unheard::Miss(miss), _) => Ok(Some(miss)),
            (failure, _) => Err(failure),
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
    /// All its addresses. A lookup that was not over in time goes on for the next attempt.
    pub sites: Sites,
    pub news: News,
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
            sites: options.sites(&server),
            server,
            news: News::new(options.verbose),
        }
    }

    /// Looks the names of the server up anew, and waits until there is an address. Returns whether there is one alone.
    pub fn look_up(&mut self, until: Us) -> Result<bool, Unheard> {
        self.sites.look_up()?;
        let mut glance = Glance::default();
        let can_begin = |sites: &Sites| sites.has_alternatives() && !sites.list().is_empty();
        while self.sites.is_looking() && !can_begin(&self.sites) {
            let now = sys::now();
            if now >= until {
                return Err(Unheard::unreached("its name was not found in time"));
            }
            self.sleep(until.min(glance.next(now)))?;
        }
        let count = self.sites.list().len();
        if count == 0 {
            return Err(Unheard::unreached(reason(&self.sites.failure())));
        }
        Ok(count == 1 && !self.sites.has_alternatives())
    }

    /// Tells of alternatives that have no address: they would be missed when the leader fails.
    pub fn tell_missing(&self) {
        for (place, error) in self.sites.missing() {
            let text = format!("{place} is not found: {}", reason(&error));
            tell(self.options.verbose, &text);
        }
    }

    /// Greets the addresses, the next one when the one before has said nothing for a while, until one of them has
    /// answered. While one of several alternatives is silent the others are greeted again and again, because one of
    /// them may begin to lead. The one that has answered has its turn from then on. `more` follows the greeting at
    /// once: requests that may go to this address alone.
    pub fn handshake(
        &mut self,
        owner: &Owner,
        more: &[u8],
        until: Us,
    ) -> Result<Handshake, Unheard> {
        let (mut meeting, mut glance) = (Meeting::default(), Glance::default());
        loop {
            let is_looking = self.sites.is_looking();
            let next = meeting.begin(self, owner, more, until)?;
            let count = meeting.open.len();
            if let Some(first) = meeting.first(self, more)? {
                self.sites = first.peer.sites.clone();
                return Ok(first);
            }
            if meeting.open.len() < count {
                // The next one need not wait.
                continue;
            }
            if meeting.open.is_empty() && next == Us::MAX && !is_looking {
                return Err(meeting.why(&self.sites));
            }
            let now = sys::now();
            let look = if is_looking { glance.next(now) } else { until };
            let end = match now >= until {
                true => Err(Unheard::unreached(silence(&meeting.open))),
                false => self.sleep(until.min(next).min(look)).map_err(Unheard::from),
            };
            if end.is_err() && !more.is_empty() {
                let link = meeting.open.pop();
                self.leave(link.map(|handshake| (handshake.peer, handshake.link)))?;
            }
            end?;
        }
    }

    fn greet(&self, addr: SocketAddr, owner: &Owner, more: &[u8]) -> Result<Handshake, Unheard> {
        let mut sites = self.sites.clone();
        sites.settle(addr);
        let peer = Peer {
            sites,
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
    pub fn other_limit(&self) -> Failure {
        let limit = || {
            let Site { addr, connector } = self.sites.site().ok()?;
            let settings = client::Options {
                secret: self.options.secret.clone(),
                // The address is not the name that the certificate is for.
                tls: connector.map(Tls::from),
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

/// Addresses that are greeted side by side.
#[derive(Default)]
struct Meeting {
    turns: Turns,
    open: Vec<Handshake>,
    /// Why an address gave no answer.
    last: Option<Miss>,
}

impl Meeting {
    /// Greets each address whose turn it is. Returns when the next one has its turn.
    fn begin(
        &mut self,
        search: &Search,
        owner: &Owner,
        more: &[u8],
        until: Us,
    ) -> Result<Us, Unheard> {
        loop {
            let addrs = self.open.iter().filter_map(|one| one.peer.addr());
            let open: Vec<SocketAddr> = addrs.collect();
            let now = sys::now();
            let site = match self.turns.turn(&search.sites, &open, now, until) {
                Turn::Now(site) => site,
                Turn::Later(next) => return Ok(next),
            };
            self.open.retain(|one| one.peer.addr() != Some(site.addr));
            match search.greet(site.addr, owner, more) {
                Ok(handshake) => self.open.push(handshake),
                Err(unheard) => self.last = unheard.missed(self.last.take())?,
            }
        }
    }

    /// Takes the first that has answered. After one that gives no answer the next one need not wait.
    fn first(&mut self, search: &Search, more: &[u8]) -> Result<Option<Handshake>, Unheard> {
        let mut at = 0;
        while at < self.open.len() {
            match self.open[at].move_on(search, more) {
                Ok(true) => return Ok(Some(self.open.swap_remove(at))),
                Ok(false) => at += 1,
                Err(unheard) => {
                    self.last = unheard.missed(self.last.take())?;
                    self.open.remove(at);
                    self.turns.hurry();
                }
            }
        }
        Ok(None)
    }

    /// Why none has answered.
    fn why(self, sites: &Sites) -> Unheard {
        let none = || Miss::Unreached(reason(&sites.failure()));
        Unheard::Miss(self.last.unwrap_or_else(none))
    }
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
