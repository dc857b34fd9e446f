//! Tasks of one step, for scripts that keep a token between their steps and for people who look what is held. Each is
//! one short conversation with a server over the client library, in `talk`. Invariant: no step holds a lock when it
//! ends, but `acquire`, which has printed the token.

mod acquire;
mod force;
mod listen;
mod listing;
mod stat;
mod talk;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use dflockd::client::{Client, Error, Key, Signal, Token};
use dflockd::command::{Refusal, Us};
use dflockd::wire::text;

use crate::failure::{Failure, LOST, USAGE, say};
use crate::options::{Options, Output, Task};
use crate::print::{grant_line, print};
pub use listen::listen;
use talk::{Talk, ask_all, settings};

/// How long a renewal waits to hear what is left of the lease.
const SOON: Duration = Duration::from_secs(1);

/// Carries out the task, which must be a step.
pub fn step(options: &Options) -> Result<u8, Failure> {
    match &options.task {
        Task::Acquire { key } => acquire::acquire(options, key),
        Task::Renew { key, token } => renew(options, key, token),
        Task::Release { key, token } => release(options, key, token),
        Task::List { prefix } => listing::list(options, prefix),
        Task::Stat { key } => stat::stat(options, key),
        Task::Break { key, fence } => force::break_holds(options, key, *fence),
        Task::Ping => ping(options),
        Task::Signal { signal } => send(options, signal),
        task => unreachable!("{task:?} is not a step"),
    }
}

fn renew(options: &Options, key: &[u8], token: &[u8]) -> Result<u8, Failure> {
    let (key_name, token) = (name(options, key)?, proof(token)?);
    let lease = options.lease.map(duration);
    let before = match lease {
        None => left(options, key, token),
        Some(_) => None,
    };
    let mut talk = talk_about(options, key)?;
    let renewed = talk.client().renew(&key_name, token, lease);
    let grant = renewed.map_err(|e| lost_or(&talk, e))?;
    if let Some(before) = before.filter(|&before| before > grant.lease.as_secs_f64()) {
        say(&format!(
            "the lease is shorter now: it lasts for {} whole seconds, and {before:.0} were left; see --lease",
            grant.lease.as_secs()
        ));
    }
    match options.output {
        Output::Plain => print(&format!("{}\n", grant.lease.as_secs())),
        _ => print(&grant_line(options.output, &grant)),
    }
}

/// How many seconds are left of the lease of a hold. None if an older server does not say it, or no server does so soon:
/// a renewal must not wait for long.
fn left(options: &Options, key: &[u8], token: Token) -> Option<f64> {
    let (server, settings) = (options.home(key), settings(options));
    let (told, tells) = mpsc::channel();
    let (key, limit) = (key.to_vec(), options.limit);
    thread::Builder::new()
        .spawn(move || {
            let name = match limit {
                Some(limit) => Key::semaphore(&key, limit),
                None => Key::lock(&key),
            };
            let talk = Talk::open(&server, &settings);
            let shown = talk.and_then(|mut talk| stat::show(&mut talk, name));
            // Nobody may wait for it any more.
            let _ = told.send(shown);
        })
        .ok()?;
    let shown = tells.recv_timeout(SOON).ok()?.ok()??;
    let fence = format!("{:016x}", token.fence);
    let mut holders = shown["holders"].as_array()?.iter();
    let hold = holders.find(|hold| hold["fence"] == fence.as_str())?;
    hold["lease_expires_in_s"].as_f64()
}

fn release(options: &Options, key: &[u8], token: &[u8]) -> Result<u8, Failure> {
    let (key_name, token) = (name(options, key)?, proof(token)?);
    let mut talk = talk_about(options, key)?;
    let released = talk.client().release(&key_name, token);
    released.map_err(|e| lost_or(&talk, e)).map(|()| 0)
}

fn ping(options: &Options) -> Result<u8, Failure> {
    ask_all(options, |talk| talk.ask(Client::ping)).map(|answers| answers.status)
}

fn send(options: &Options, signal: &Signal) -> Result<u8, Failure> {
    let Signal { channel, payload } = signal;
    let mut talk = talk_about(options, channel)?;
    let receivers = talk.ask(|client| client.signal(channel, payload))?;
    if options.verbose {
        say(&format!("receivers: {receivers}"));
    }
    match options.output {
        Output::Plain => Ok(0),
        Output::Sh => print(&format!("DFLOCK_RECEIVERS={receivers}\n")),
        Output::Json => print(&format!("{{\"receivers\":{receivers}}}\n")),
    }
}

fn talk_about(options: &Options, key: &[u8]) -> Result<Talk, Failure> {
    Talk::open(&options.home(key), &settings(options))
}

fn name<'a>(options: &Options, key: &'a [u8]) -> Result<Key<'a>, Failure> {
    match options.limit {
        Some(limit) => Key::semaphore(key, limit),
        None => Key::lock(key),
    }
    .map_err(|e| Failure::new(USAGE, e.to_string()))
}

fn proof(token: &[u8]) -> Result<Token, Failure> {
    let rule = "a TOKEN has 32 lowercase hexadecimal digits, the first 16 of them not all 0";
    text::token(token).ok_or_else(|| Failure::new(USAGE, rule))
}

/// To a token the plain `error` means that nothing is held by it.
fn lost_or(talk: &Talk, error: Error) -> Failure {
    match error {
        Error::Refused(Refusal::Error) => {
            Failure::new(LOST, "the lock is not held with this token")
        }
        error => talk.failure(error),
    }
}

fn duration(span: Us) -> Duration {
    Duration::from_micros(span)
}
