//! `dflock acquire`: gets the lock as a run does, has the server keep it for its lease, and prints its proof. Invariant: a
//! lock whose proof was not printed is given back.

use dflockd::command::{Refusal, Reply, Us};
use dflockd::sys;

use super::acquire::acquire;
use super::keeper::Keeper;
use super::world::World;
use crate::failure::{Failure, LOST, UNAVAILABLE};
use crate::options::Options;
use crate::print::{grant_line, print};

/// What is said of a lock that was lost before anybody could use it.
pub const LOST_EARLY: &str = "the lock was lost before its token was printed";

/// Waits for the lock, and prints its proof. A server that knows no detach must keep the holds of connections that have
/// ended: `check` asks it, and is given so long.
pub fn take(
    options: &Options,
    key: &[u8],
    check: impl FnOnce(Us) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let mut world = World::new()?;
    let mut keeper = acquire(&mut world, options, key)?;
    let line = grant_line(options.output, &keeper.grant());
    let kept = keep(&mut world, &mut keeper, check);
    let printed = kept.and_then(|()| match keeper.lease.is_lost(sys::now()) {
        true => Err(lost()),
        false => print(&line),
    });
    if printed.is_err() {
        // Nobody has the token, so nobody could use the lock or release it.
        keeper.give_back(&mut world)?;
    }
    printed
}

/// Has the server keep the lock although its connection ends. That may take half of what is left of the lease.
fn keep(
    world: &mut World,
    keeper: &mut Keeper,
    check: impl FnOnce(Us) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let half = |keeper: &Keeper| keeper.lease.until().saturating_sub(sys::now()) / 2;
    match keeper.detach(world, half(keeper))? {
        Some(Reply::Released) => Ok(()),
        // Either it does not know the command, or the hold ended with its connection: then it does not keep holds.
        Some(Reply::Refused(Refusal::Error)) => check(half(keeper)),
        Some(_) => Err(lost()),
        None => {
            let text = "the server did not say whether it keeps the lock, so this is given back";
            Err(Failure::new(UNAVAILABLE, text))
        }
    }
}

fn lost() -> Failure {
    Failure::new(LOST, LOST_EARLY)
}
