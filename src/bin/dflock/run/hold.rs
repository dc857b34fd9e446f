//! `dflock KEY` without a command: prints the proof of the lock and holds it until stdin ends. Invariant: when it ends
//! with status 0 the lock was held all the time.

use std::io::{self, ErrorKind, Read};

use dflockd::sys;

use super::acquire::acquire;
use super::world::World;
use crate::failure::{Failure, LOST, report};
use crate::options::Options;
use crate::print::{grant_line, print};

/// Prints the proof of the lock and holds it until stdin ends or a signal comes.
pub fn hold(options: &Options, key: &[u8]) -> Result<u8, Failure> {
    let mut world = World::new()?;
    let mut keeper = acquire(&mut world, options, key)?;
    let line = grant_line(options.output, &keeper.grant());
    if let Err(failure) = print(&line) {
        // The token was not printed, so nobody could use the lock.
        keeper.give_back(&mut world)?;
        return Err(failure);
    }
    // A file cannot be polled: it counts as ended at once.
    let mut ended = world.hear_stdin(false).is_err();
    let over = keeper.granted.saturating_add(options.max_hold);
    let least = keeper.granted.saturating_add(options.min_hold);
    loop {
        let now = sys::now();
        if (ended && now >= least) || now >= over {
            if now >= over {
                report("the lock was held for --max-hold: it is given back");
            }
            keeper.give_back(&mut world)?;
            return Ok(0);
        }
        if keeper.lease.is_lost(now) {
            return Err(Failure::new(LOST, "the lock is lost"));
        }
        let next = if ended { least } else { over };
        world.sleep(next.min(keeper.next(now)))?;
        keeper.move_on(&world);
        if let Err(failure) = world.end_by_signal() {
            keeper.give_back(&mut world)?;
            return Err(failure);
        }
        if world.stdin && !ended {
            ended = has_ended()?;
            world.stdin = false;
            if !ended {
                // The poll is edge-triggered: what is left unread makes no new event.
                world.hear_stdin(true)?;
            }
        }
    }
}

/// Reads from stdin, throws it away, and says whether stdin has ended.
fn has_ended() -> Result<bool, Failure> {
    let mut chunk = [0; 4096];
    match io::stdin().lock().read(&mut chunk) {
        Ok(n) => Ok(n == 0),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
