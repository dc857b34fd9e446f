//! A command under a lock: get the lock (`acquire`), renew it (`keeper`) while the command runs (`supervise`), give it
//! back. One thread and one loop over the connection, unix signals and a timer (`world`). Invariant: the command runs
//! only before dflock's own deadline, which counts from when the last answered renewal was sent.

mod acquire;
mod find;
mod hold;
mod keeper;
mod news;
mod probe;
mod release;
mod supervise;
mod take;
mod times;
mod world;

use std::ffi::OsString;

use crate::failure::Failure;
use crate::options::Options;
use acquire::acquire;
pub use hold::hold;
pub use take::{LOST_EARLY, take};
use world::World;

/// Runs the command under the lock and returns its exit status.
pub fn command(options: &Options, key: &[u8], command: &[OsString]) -> Result<u8, Failure> {
    let null = supervise::null()?;
    let mut world = World::new()?;
    let keeper = acquire(&mut world, options, key)?;
    supervise::run(&mut world, options, keeper, command, &null)
}
