//! The only place where tests call the lock table.

use dflockd::command::{Command, SessionId, Us};
use dflockd::facts::{Facts, Held, Outbox, Unfit};
use dflockd::locks::{Locks, Settings};

/// Has the table carry out a command, and returns what that led to.
pub fn apply(locks: &mut Locks, now: Us, from: SessionId, command: Command) -> Outbox {
    apply_kept(locks, now, from, command, false)
}

/// The same, if somebody `keeps` what is to be said of holds.
pub fn apply_kept(
    locks: &mut Locks,
    now: Us,
    from: SessionId,
    command: Command,
    keeps: bool,
) -> Outbox {
    let mut out = Outbox::default();
    if keeps {
        out.facts = Facts::kept();
    }
    locks.apply(now, from, command, &mut out);
    out
}

/// A table that has these holds from a former life, in the order of their fences.
pub fn recover<'a>(
    settings: Settings,
    now: Us,
    holds: impl IntoIterator<Item = Held<'a>>,
) -> Result<Locks, Unfit> {
    let mut locks = Locks::new(settings);
    for held in holds {
        locks.recover(now, &held)?;
    }
    Ok(locks)
}
