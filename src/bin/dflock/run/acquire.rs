//! Getting the lock: find the server, stand in its queue, notice everything that ends the wait. Invariant: a wait that
//! ends without the lock has left the queue, because its connection is closed with it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::thread;

use dflockd::client::stream::resolve;
use dflockd::client::{Owner, answered};
use dflockd::command::{Bound, Command, Refusal, Reply, SECOND, Space, Token, Us};
use dflockd::sys;
use dflockd::wire::ask;

use super::keeper::Keeper;
use super::world::{LINK, World};
use crate::failure::{Failure, SERVER, is_own, tell};
use crate::link::Link;
use crate::options::Options;

/// How long a server may take to connect and to answer the first question.
const PATIENCE: Us = 10 * SECOND;
/// How long after a server was lost from its queue it is asked again.
const RETRY: Us = SECOND / 5;
/// How often the end of a lookup is checked: the first pause, and the longest.
const GLANCES: (Us, Us) = (SECOND / 5000, SECOND / 50);

/// Waits for the lock as long as the options allow.
pub fn acquire(world: &mut World, options: &Options, key: &[u8]) -> Result<Keeper, Failure> {
    let start = sys::now();
    let over = start.saturating_add(options.wait);
    let server = &options.home(key);
    let found_by = match options.wait {
        0 => start.saturating_add(PATIENCE),
        _ => over,
    };
    let addresses = find(world, server, found_by)?;
    let mut owner = Some(options.owner.clone().unwrap_or_else(Owner::unique));
    let mut queued = false;
    loop {
        let wait = over.saturating_sub(sys::now());
        let mut keeper = match ask_all(world, options, key, &addresses, wait, &mut owner) {
            Ok(keeper) => keeper,
            Err(Unheard::Failure(failure)) => return Err(failure),
            // The server went away while this wait stood in its queue: another may come up in its place.
            Err(unheard)
                if sys::now() < over && (queued || matches!(unheard, Unheard::Lost(_))) =>
            {
                queued = true;
                tell(options.verbose, "the server is gone: trying again");
                pause(world)?;
                continue;
            }
            Err(Unheard::Connection(why) | Unheard::Lost(why)) => {
                return Err(Failure::cannot_reach(server, &why));
            }
        };
        if keeper.lease.is_sure() || confirm(world, &mut keeper)? {
            return Ok(keeper);
        }
        tell(
            options.verbose,
            "the lock was granted and lost while its answer was on its way",
        );
    }
}

fn pause(world: &mut World) -> Result<(), Failure> {
    let until = sys::now().saturating_add(RETRY);
    while sys::now() < until {
        world.sleep(until)?;
        world.end_by_signal()?;
    }
    Ok(())
}

/// Every address of the server. A thread of its own looks the name up, because that may take long.
fn find(world: &mut World, server: &str, until: Us) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(address) = server.parse() {
        return Ok(vec![address]);
    }
    let name = server.to_string();
    let search = thread::spawn(move || resolve(&name));
    let mut glance = GLANCES.0;
    while !search.is_finished() {
        let now = sys::now();
        if now >= until {
            let why = "its name was not found in time";
            return Err(Failure::cannot_reach(server, why));
        }
        world.sleep(until.min(now + glance))?;
        glance = GLANCES.1.min(glance * 2);
        world.end_by_signal()?;
    }
    let found = search.join().expect("a lookup does not panic");
    found.map_err(|e| Failure::cannot_reach(server, &e.to_string()))
}

/// Why an address has not granted the lock.
enum Unheard {
    /// The server has answered nothing: another of its addresses may be better.
    Connection(String),
    /// The server had answered, and then the connection ended.
    Lost(String),
    Failure(Failure),
}

/// Waits at the first address that answers.
fn ask_all(
    world: &mut World,
    options: &Options,
    key: &[u8],
    addresses: &[SocketAddr],
    wait: Us,
    owner: &mut Option<Owner>,
) -> Result<Keeper, Unheard> {
    let mut last = Unheard::Connection("it has no address".to_string());
    for &addr in addresses {
        let declared = owner.is_some();
        let mut result = ask_one(world, options, key, addr, wait, owner);
        if matches!(result, Err(Unheard::Connection(_))) && declared && owner.is_none() {
            // It knows no owners, and has closed the connection that declared one.
            result = ask_one(world, options, key, addr, wait, owner);
        }
        last = match result {
            Err(Unheard::Connection(why)) => Unheard::Connection(why),
            result => return result,
        };
    }
    Err(last)
}

/// Waits at one address. If the server knows no owners, `owner` is None afterwards.
fn ask_one(
    world: &mut World,
    options: &Options,
    key: &[u8],
    addr: SocketAddr,
    wait: Us,
    owner: &mut Option<Owner>,
) -> Result<Keeper, Unheard> {
    let mut place = Place::open(world, options, key, addr, wait, owner)?;
    let mut told = false;
    loop {
        place.link.move_on();
        while let Some(line) = place.link.line() {
            if let Some((token, lease)) = place.hear(&line, owner)? {
                tell(options.verbose, "the lock is ours");
                let owner = owner.clone();
                let (link, space, start) = (place.link, place.space, place.start);
                let grant = (start, lease);
                let keeper = Keeper::new(link, (addr, owner), options, (space, key), token, grant);
                return Ok(keeper);
            }
        }
        if place.is_queued() && wait > 0 && !std::mem::replace(&mut told, true) {
            tell(options.verbose, "the lock is not free: waiting");
        }
        let until = place.until();
        place.check(sys::now() >= until)?;
        world.sleep(until).map_err(|e| Unheard::Failure(e.into()))?;
        world.end_by_signal().map_err(Unheard::Failure)?;
    }
}

/// A place in the queue of one server: its connection, and what is still to be heard there.
struct Place<'a> {
    options: &'a Options,
    key: &'a [u8],
    space: Space,
    link: Link,
    /// When the request was sent, and how long it waits.
    start: Us,
    wait: Us,
    /// How many `ok` come before the answer to the acquire, and how many of them are still to come: to the secret, to
    /// the owner and to a ping.
    greetings: u8,
    left: u8,
}

impl<'a> Place<'a> {
    /// Connects, and says everything at once.
    fn open(
        world: &World,
        options: &'a Options,
        key: &'a [u8],
        addr: SocketAddr,
        wait: Us,
        owner: &Option<Owner>,
    ) -> Result<Place<'a>, Unheard> {
        let start = sys::now();
        let mut link = match Link::open(addr, world.registry(), LINK) {
            Ok(link) => link,
            Err(e) if is_own(&e) => return Err(Unheard::Failure(e.into())),
            Err(e) => return Err(Unheard::Connection(e.to_string())),
        };
        let (space, limit) = match options.limit {
            Some(limit) => (Space::Semaphore, limit),
            None => (Space::Lock, 1),
        };
        let mut greetings = 1;
        if let Some(secret) = &options.secret {
            ask::auth(secret, link.output());
            greetings += 1;
        }
        if let Some(owner) = owner {
            let owner = owner.name();
            ask::command(&Command::Declare { owner }, link.output());
            greetings += 1;
        }
        // The queue may be long; the answer to a ping says at once that the server is there.
        ask::ping(link.output());
        let command = Command::Acquire {
            space,
            key,
            limit,
            wait,
            lease: options.lease,
            owner: None,
            bound: Bound::Session,
        };
        ask::command(&command, link.output());
        Ok(Place {
            options,
            key,
            space,
            link,
            start,
            wait,
            greetings,
            left: greetings,
        })
    }

    /// Whether the server has answered everything but the acquire.
    fn is_queued(&self) -> bool {
        self.left == 0
    }

    /// Takes an answer; the grant, if that is it.
    fn hear(
        &mut self,
        line: &[u8],
        owner: &mut Option<Owner>,
    ) -> Result<Option<(Token, Us)>, Unheard> {
        let is_queued = self.is_queued();
        match ask::answer(line) {
            Some(Reply::Released) if !is_queued => self.left -= 1,
            Some(Reply::Granted { .. }) if is_queued && self.link.is_ended() => {
                return Err(Unheard::Lost("the connection ended".to_string()));
            }
            Some(Reply::Granted { token, lease }) if is_queued => return Ok(Some((token, lease))),
            Some(Reply::Refused(Refusal::Error))
                if self.left == self.greetings && self.options.secret.is_some() =>
            {
                return Err(Unheard::Failure(Failure::no_token(SERVER)));
            }
            // An older server knows no owners, and goes on without.
            Some(Reply::Refused(Refusal::Error)) if self.left == 2 && owner.is_some() => {
                *owner = None;
                self.left -= 1;
            }
            Some(Reply::Timeout) if is_queued && self.options.wait != Us::MAX => {
                return Err(Unheard::Failure(self.busy()));
            }
            Some(Reply::Refused(refusal)) => {
                let has_secret = self.options.secret.is_some();
                return Err(Unheard::Failure(Failure::refused(refusal, has_secret)));
            }
            _ => return Err(Unheard::Failure(self.not_dflockd(&answered(line)))),
        }
        Ok(None)
    }

    /// When there must have been an answer. A try has no wait of its own, but the server's answer takes its time.
    fn until(&self) -> Us {
        let patience = match self.wait {
            0 => PATIENCE,
            wait if self.is_queued() => wait,
            wait => PATIENCE.min(wait),
        };
        self.start.saturating_add(patience)
    }

    /// An error if the connection has ended or if [`Place::until`] is over.
    fn check(&self, is_over: bool) -> Result<(), Unheard> {
        let ended = "the connection ended".to_string();
        if self.link.is_ended() {
            return Err(match self.link.why() {
                Some(e) if e.kind() == ErrorKind::InvalidData => {
                    Unheard::Failure(self.not_dflockd("it sent a line without an end"))
                }
                _ if self.is_queued() => Unheard::Lost(ended),
                None => Unheard::Connection(ended),
                Some(e) => Unheard::Connection(e.to_string()),
            });
        }
        match is_over {
            true if self.is_queued() && self.wait > 0 => Err(Unheard::Failure(self.busy())),
            true => Err(Unheard::Connection("no answer".to_string())),
            false => Ok(()),
        }
    }

    fn busy(&self) -> Failure {
        tell(self.options.verbose, "the lock is not free");
        Failure::silent(self.options.conflict)
    }

    fn not_dflockd(&self, what: &str) -> Failure {
        Failure::not_dflockd(&self.options.home(self.key), what)
    }
}

/// Renews a hold whose lease may have begun long after it was asked for. Returns whether it is still there.
fn confirm(world: &mut World, keeper: &mut Keeper) -> Result<bool, Failure> {
    keeper.renew();
    let patience = sys::now().saturating_add(PATIENCE);
    loop {
        keeper.listen();
        let now = sys::now();
        if keeper.is_broken() || now >= patience {
            return Ok(false);
        }
        // An answer that came after its own lease is no refusal: the command is not started then.
        if keeper.lease.is_sure() {
            return Ok(true);
        }
        if keeper.lease.is_lost(now) {
            return Ok(false);
        }
        world.sleep(patience)?;
        world.end_by_signal()?;
    }
}
