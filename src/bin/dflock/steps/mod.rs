//! Tasks of one step, for scripts that keep a token between their steps and for people who look what is held. Each is
//! one short conversation with a server over the client library, in `talk`. Invariant: no step holds a lock when it
//! ends, but `acquire`, which has printed the token.

mod listen;
mod listing;
mod talk;

use std::time::Duration;

use serde_json::Value;

use dflockd::client::{self, Client, Error, Key, Owner, Signal, Token};
use dflockd::command::{Refusal, Us};
use dflockd::wire::text;

use crate::failure::{Failure, LOST, USAGE, say};
use crate::options::{Options, Output, Task};
use crate::print::{grant_line, print};
pub use listen::listen;
use talk::{Talk, ask_all, settings};

/// Carries out the task, which must be a step.
pub fn step(options: &Options) -> Result<u8, Failure> {
    match &options.task {
        Task::Acquire { key } => acquire(options, key),
        Task::Renew { key, token } => renew(options, key, token),
        Task::Release { key, token } => release(options, key, token),
        Task::List { prefix } => listing::list(options, prefix),
        Task::Stat { key } => listing::stat(options, key),
        Task::Ping => ping(options),
        Task::Signal { signal } => send(options, signal),
        task => unreachable!("{task:?} is not a step"),
    }
}

fn acquire(options: &Options, key: &[u8]) -> Result<u8, Failure> {
    // A hold moves to a connection of its owner that renews it, and ends with that: renew and release declare none.
    let owner = options.owner.clone().unwrap_or_else(Owner::unique);
    let settings = client::Options {
        id: Some(owner),
        ..settings(options)
    };
    let mut talk = Talk::open(&options.home(key), &settings)?;
    if talk.stats()?["auto_release"] != Value::Bool(false) {
        let text = "the server releases a lock when its connection ends, as this one would: \
                    use dflock KEY COMMAND, or start dflockd with --no-auto-release-on-disconnect";
        return Err(Failure::new(USAGE, text));
    }
    let (wait, lease) = (duration(options.wait), options.lease.map(duration));
    let key = name(options, key)?;
    let grant = match talk.client().acquire(&key, wait, lease) {
        Err(Error::Timeout) => return Err(Failure::silent(options.conflict)),
        result => result.map_err(|e| talk.failure(e))?,
    };
    let printed = print(&grant_line(options.output, &grant));
    if printed.is_err() {
        // The token was not printed, so nobody can release the lock. If this fails too, its lease ends it.
        let _ = talk.client().release(&key, grant.token);
    }
    printed
}

fn renew(options: &Options, key: &[u8], token: &[u8]) -> Result<u8, Failure> {
    let (key_name, token) = (name(options, key)?, proof(token)?);
    let lease = options.lease.map(duration);
    let mut talk = talk_about(options, key)?;
    let renewed = talk.client().renew(&key_name, token, lease);
    let grant = renewed.map_err(|e| lost_or(&talk, e))?;
    match options.output {
        Output::Plain => print(&format!("{}\n", grant.lease.as_secs())),
        _ => print(&grant_line(options.output, &grant)),
    }
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
