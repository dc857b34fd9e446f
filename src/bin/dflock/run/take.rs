//! `dflock acquire`: gets the lock as a run does, prints its proof and leaves the lock held. Invariant: a lock whose
//! proof was not printed is given back.

use dflockd::command::Us;
use dflockd::sys;

use super::acquire::acquire;
use super::world::World;
use crate::failure::{Failure, LOST};
use crate::options::Options;
use crate::print::{grant_line, print};

/// Waits for the lock, and prints its proof once `check` has agreed, which is given so long: half of what is left of
/// the lease.
pub fn take(
    options: &Options,
    key: &[u8],
    check: impl FnOnce(Us) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let mut world = World::new()?;
    let keeper = acquire(&mut world, options, key)?;
    let line = grant_line(options.output, &keeper.grant());
    let left = keeper.lease.until().saturating_sub(sys::now());
    let in_time = || match keeper.lease.is_lost(sys::now()) {
        true => Err(Failure::new(
            LOST,
            "the lock was lost before its token was printed",
        )),
        false => print(&line),
    };
    match check(left / 2).and_then(|()| in_time()) {
        Err(failure) => {
            // Nobody has the token, so nobody could use the lock or release it.
            keeper.give_back(&mut world)?;
            Err(failure)
        }
        printed => printed,
    }
}
