//! `dflock acquire`: leaves a lock held when it ends, so the server must keep a hold whose connection has ended. This
//! file asks the server whether it does, and leaves the wait to `run`. Invariant: the question and the wait together
//! take no longer than `--wait`, and an answer to the question is never older than a second when the lock is granted.

use std::thread;

use serde_json::Value;

use dflockd::client;
use dflockd::command::{SECOND, Us};
use dflockd::sys;

use super::duration;
use super::talk::{Talk, settings};
use crate::failure::{Failure, TRY_LATER, UNAVAILABLE, USAGE, report};
use crate::options::Options;
use crate::run;

/// How long a server may take to answer, and how long one is looked for without `--wait`.
const PATIENCE: Us = 10 * SECOND;
/// The pause before a server that was not reached is asked again: the first, and the longest.
const PAUSES: (Us, Us) = (SECOND / 20, 2 * SECOND);
/// After so long a wait another server may stand there.
const FRESH: Us = SECOND;
/// For so long nothing is said about a server that is not reached.
const QUIET: Us = SECOND;

/// Takes the lock and prints its proof.
pub fn acquire(options: &Options, key: &[u8]) -> Result<u8, Failure> {
    let start = sys::now();
    look(options, key, start)?;
    let waited = sys::now().saturating_sub(start);
    let mut rest = options.clone();
    if options.wait != Us::MAX && options.wait > 0 {
        // Not zero, which would be a try.
        rest.wait = options.wait.saturating_sub(waited).max(1);
    }
    let asked = sys::now();
    run::take(&rest, key, |patience| match sys::now() < asked + FRESH {
        true => Ok(()),
        false => ask(options, key, patience.min(PATIENCE)),
    })
}

/// Asks the server, again and again until the wait is over if it cannot be reached. Signals have their default effect
/// meanwhile, since nothing is held and nothing is asked for.
fn look(options: &Options, key: &[u8], start: Us) -> Result<(), Failure> {
    let over = match options.wait {
        0 | Us::MAX => start.saturating_add(PATIENCE),
        wait => start.saturating_add(wait),
    };
    let (mut pause, mut is_told) = (PAUSES.0, false);
    loop {
        let now = sys::now();
        let left = over.saturating_sub(now).max(1);
        let failure = match ask(options, key, left.min(PATIENCE)) {
            Err(failure) if matches!(failure.status, UNAVAILABLE | TRY_LATER) => failure,
            answer => {
                if is_told {
                    report(&format!("{} is back", options.home(key)));
                }
                return answer;
            }
        };
        let now = sys::now();
        if options.wait == 0 || now >= over {
            return Err(failure);
        }
        if now >= start.saturating_add(QUIET) && !is_told {
            report(failure.text.as_deref().unwrap_or_default());
            is_told = true;
        }
        // Many that were started at once need not come back at once.
        let odd = now % (pause / 2);
        thread::sleep(duration((pause - odd).min(over - now)));
        if sys::now() >= over {
            return Err(failure);
        }
        pause = PAUSES.1.min(pause * 2);
    }
}

/// Whether the server keeps a hold whose connection has ended; else a failure that says what to do.
fn ask(options: &Options, key: &[u8], patience: Us) -> Result<(), Failure> {
    let settings = client::Options {
        patience: duration(patience),
        ..settings(options)
    };
    let stats = Talk::open(&options.home(key), &settings)?.stats()?;
    if stats["auto_release"] != Value::Bool(false) {
        let text = "the server releases a lock when its connection ends, as this one would: \
                    use dflock KEY COMMAND, or start dflockd with --no-auto-release-on-disconnect";
        return Err(Failure::new(USAGE, text));
    }
    Ok(())
}
