//! The only place where tests call the lock table.

use dflockd::command::{Command, SessionId, Us};
use dflockd::facts::{Held, Outbox, Unfit};
use dflockd::locks::{Locks, Settings};

/// Has the table carry out a command, and returns what that led to.
pub fn apply(locks: &mut Locks, now: Us, from: SessionId, command: Command) -> Outbox {
    let mut out = Outbox::default();
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
