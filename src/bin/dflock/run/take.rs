//! `dflock acquire`: gets the lock as a run does, prints its proof and leaves the lock held. Invariant: a lock whose
//! proof was not printed is given back.

use super::acquire::acquire;
use super::world::World;
use crate::failure::Failure;
use crate::options::Options;
use crate::print::{grant_line, print};

/// Waits for the lock, and prints its proof once `check` has agreed.
pub fn take(
    options: &Options,
    key: &[u8],
    check: impl FnOnce() -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let mut world = World::new()?;
    let keeper = acquire(&mut world, options, key)?;
    let line = grant_line(options.output, &keeper.grant());
    match check().and_then(|()| print(&line)) {
        Err(failure) => {
            // Nobody has the token, so nobody could use the lock or release it.
            keeper.give_back(&mut world)?;
            Err(failure)
        }
        printed => printed,
    }
}
