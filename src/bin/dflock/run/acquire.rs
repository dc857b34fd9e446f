//! Getting the lock: connect, wait in the queue, notice everything that ends the wait. Invariant: whoever does not get
//! the lock has left the queue, because the connection is gone with the failure.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::thread;

use dflockd::client::stream::resolve;
use dflockd::client::{Owner, quote};
use dflockd::command::{Command, Refusal, Reply, SECOND, Space, Us};
use dflockd::sys;
use dflockd::wire::ask;

use super::keeper::Keeper;
use super::world::{LINK, World};
use crate::failure::{Failure, SERVER, is_own, tell};
use crate::link::Link;
use crate::options::Options;

/// How long a server may take to connect and to say that it is there.
const PATIENCE: Us = 10 * SECOND;
/// How often a server is asked again that went while we stood in its queue.
const RETRY: Us = SECOND / 5;
/// How often a lookup is asked whether it has ended: soon, then less and less.
const GLANCES: (Us, Us) = (SECOND / 5000, SECOND / 50);

/// Waits for the lock as long as the options allow.
pub fn acquire(world: &mut World, options: &Options, key: &[u8]) -> Result<Keeper, Failure> {
    let start = sys::now();
    let over = start.saturating_add(options.wait);
    let server = &options.home(key);
    let addresses = find(
        world,
        server,
        if options.wait == 0 {
            start + PATIENCE
        } else {
            over
        },
    )?;
    let mut owner = Some(options.owner.clone().unwrap_or_else(Owner::unique));
    let mut queued = false;
    loop {
        let wait = over.saturating_sub(sys::now());
        let mut keeper = match queue(world, options, key, &addresses, wait, &mut owner) {
            Ok(keeper) => keeper,
            Err(Unheard::Failure(failure)) => return Err(failure),
            // Its server went while we stood in the queue: another may come up in its place.
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

/// Sleeps a moment.
fn pause(world: &mut World) -> Result<(), Failure> {
    let until = sys::now().saturating_add(RETRY);
    while sys::now() < until {
        world.sleep(until)?;
        world.end_by_signal()?;
    }
    Ok(())
}

/// Every address of the server. A name is looked up beside the loop, because it may take long.
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
            return Err(Failure::cannot_reach(
                server,
                "its name was not found in time",
            ));
        }
        world.sleep(until.min(now + glance))?;
        glance = GLANCES.1.min(glance * 2);
        world.end_by_signal()?;
    }
    let found = search.join().expect("a lookup does not panic");
    found.map_err(|e| Failure::cannot_reach(server, &e.to_string()))
}

/// Asks the first address that answers.
fn queue(
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
            // It knows no owners, and closes when it is told of one.
            result = ask_one(world, options, key, addr, wait, owner);
        }
        last = match result {
            Err(Unheard::Connection(why)) => Unheard::Connection(why),
            result => return result,
        };
    }
    Err(last)
}

enum Unheard {
    /// Nothing was heard of the server: another of its addresses may be better.
    Connection(String),
    /// It had answered, and then the connection ended.
    Lost(String),
    Failure(Failure),
}

fn ask_one(
    world: &mut World,
    options: &Options,
    key: &[u8],
    addr: SocketAddr,
    wait: Us,
    owner: &mut Option<Owner>,
) -> Result<Keeper, Unheard> {
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
    let mut oks = 1;
    if let Some(secret) = &options.secret {
        ask::auth(secret, link.output());
        oks += 1;
    }
    if let Some(owner) = owner {
        let owner = owner.name();
        ask::command(&Command::Declare { owner }, link.output());
        oks += 1;
    }
    // Its answer says that the server is there, though the queue may be long.
    ask::ping(link.output());
    let all = oks;
    let command = Command::Acquire {
        space,
        key,
        limit,
        wait,
        lease: options.lease,
    };
    ask::command(&command, link.output());
    let over = start.saturating_add(wait);
    // Who does not want to wait for others still has to hear the answer.
    let patience = start.saturating_add(if wait == 0 {
        PATIENCE
    } else {
        PATIENCE.min(wait)
    });
    let mut told = false;
    loop {
        link.move_on();
        while let Some(line) = link.line() {
            match ask::answer(&line) {
                Some(Reply::Released) if oks > 0 => oks -= 1,
                Some(Reply::Granted { .. }) if oks == 0 && link.is_ended() => {
                    return Err(Unheard::Lost("the connection ended".to_string()));
                }
                Some(Reply::Refused(Refusal::Error)) if oks == all && options.secret.is_some() => {
                    return Err(Unheard::Failure(Failure::no_token(SERVER)));
                }
                // An older server knows no owners, and goes on without.
                Some(Reply::Refused(Refusal::Error)) if oks == 2 && owner.is_some() => {
                    *owner = None;
                    oks -= 1;
                }
                Some(Reply::Granted { token, lease }) if oks == 0 => {
                    tell(options.verbose, "the lock is ours");
                    return Ok(Keeper::new(
                        link,
                        (addr, owner.clone()),
                        options,
                        (space, key),
                        token,
                        (start, lease),
                    ));
                }
                Some(Reply::Timeout) if oks == 0 && options.wait != Us::MAX => {
                    return Err(Unheard::Failure(busy(options)));
                }
                other => return Err(Unheard::Failure(refused(options, key, &line, other))),
            }
        }
        if oks == 0 && wait > 0 && !std::mem::replace(&mut told, true) {
            tell(options.verbose, "the lock is not free: waiting");
        }
        let now = sys::now();
        if link.is_ended() {
            return Err(match link.why() {
                Some(e) if e.kind() == ErrorKind::InvalidData => {
                    Unheard::Failure(refused(options, key, b"a line without an end", None))
                }
                _ if oks == 0 => Unheard::Lost("the connection ended".to_string()),
                None => Unheard::Connection("the connection ended".to_string()),
                Some(e) => Unheard::Connection(e.to_string()),
            });
        }
        if (oks > 0 || wait == 0) && now >= patience {
            return Err(Unheard::Connection("no answer".to_string()));
        }
        // Who wants no wait hears the server's word, which is behind the other answers.
        if wait > 0 && oks == 0 && now >= over {
            return Err(Unheard::Failure(busy(options)));
        }
        let until = if oks > 0 || wait == 0 { patience } else { over };
        world.sleep(until).map_err(|e| Unheard::Failure(e.into()))?;
        world.end_by_signal().map_err(Unheard::Failure)?;
    }
}

fn busy(options: &Options) -> Failure {
    tell(options.verbose, "the lock is not free");
    Failure::silent(options.conflict)
}

fn refused(options: &Options, key: &[u8], line: &[u8], reply: Option<Reply>) -> Failure {
    match reply {
        Some(Reply::Refused(refusal)) => Failure::refused(refusal, options.secret.is_some()),
        _ => Failure::nonsense(&options.home(key), &quote(line)),
    }
}

/// Renews a hold whose lease may have begun long after it was asked for. Returns whether it is there.
fn confirm(world: &mut World, keeper: &mut Keeper) -> Result<bool, Failure> {
    keeper.renew();
    let patience = sys::now().saturating_add(PATIENCE);
    loop {
        keeper.listen();
        let now = sys::now();
        if keeper.is_broken() || now >= patience {
            return Ok(false);
        }
        // An answer that came after its own lease is no refusal: what is left of that is seen before the command starts.
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
