//! `dflock acquire`: leaves a lock held when it ends. `run` waits for the lock and has the server detach it. An older
//! server cannot do that: this file asks it whether it keeps all holds. Invariant: a lock of which the token is printed
//! outlives this process.

use serde_json::Value;

use dflockd::client::{self, Error};
use dflockd::command::{Refusal, SECOND, Us};
use dflockd::sys;

use super::talk::{Talk, settings};
use super::{duration, name};
use crate::failure::{Failure, LOST, USAGE};
use crate::options::Options;
use crate::run;

/// How long a server may take to answer.
const PATIENCE: Us = 10 * SECOND;

/// Takes the lock and prints its proof.
pub fn acquire(options: &Options, key: &[u8]) -> Result<u8, Failure> {
    run::take(options, key, |patience| {
        ask(options, key, patience.min(PATIENCE))
    })
}

/// The server refused to detach the hold. Whether it keeps it in spite of that; else a failure that says what to do.
fn ask(options: &Options, key: &[u8], patience: Us) -> Result<(), Failure> {
    let start = sys::now();
    let open = |patience| {
        let settings = client::Options {
            patience: duration(patience),
            ..settings(options)
        };
        Talk::open(&options.home(key), &settings)
    };
    let mut talk = open(patience)?;
    match talk.client().show(&name(options, key)?) {
        // It knows this command, so it knows a detach as well.
        Ok(_) => return Err(Failure::new(LOST, run::LOST_EARLY)),
        Err(Error::Refused(Refusal::Error)) => {}
        Err(error) => return Err(talk.failure(error)),
    }
    // Another connection: an older server may close one on which it has answered an error.
    let spent = sys::now().saturating_sub(start);
    let stats = open(patience.saturating_sub(spent).max(1))?.stats()?;
    if stats["auto_release"] != Value::Bool(false) {
        let text = "this older server releases a lock when its connection ends, as this one would: \
                    use dflock KEY COMMAND, or start dflockd with --no-auto-release-on-disconnect";
        return Err(Failure::new(USAGE, text));
    }
    Ok(())
}
