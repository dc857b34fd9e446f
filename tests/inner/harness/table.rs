//! The only place where tests call the lock table.

use dflockd::command::{Command, SessionId, Us};
use dflockd::facts::Outbox;
use dflockd::locks::Locks;

/// Has the table carry out a command, and returns what that led to.
pub fn apply(locks: &mut Locks, now: Us, from: SessionId, command: Command) -> Outbox {
    let mut out = Outbox::default();
    locks.apply(now, from, command, &mut out);
    out
}
