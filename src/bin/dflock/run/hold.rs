//! `dflock hold KEY`: prints the proof of the lock and holds it until stdin ends. Invariant: when it ends with status 0
//! the lock was held all the time, and stdin had not ended before.

use std::io::{self, ErrorKind, IsTerminal, Read};

use dflockd::sys;

use super::acquire::acquire;
use super::keeper::Keeper;
use super::release::{FAILOVER, Told, tell_unanswered};
use super::world::World;
use crate::failure::{Failure, LOST, USAGE, report};
use crate::options::Options;
use crate::print::{grant_line, print};

/// How often stdin is read before the lock is asked for: as much as fits into a pipe.
const LOOKS: usize = 16;

/// Prints the proof of the lock and holds it until stdin ends or a signal comes.
pub fn hold(options: &Options, key: &[u8]) -> Result<u8, Failure> {
    let mut world = World::new()?;
    demand_input(&mut world)?;
    let mut keeper = acquire(&mut world, options, key)?;
    let line = grant_line(options.output, &keeper.grant());
    if let Err(failure) = print(&line) {
        // The token was not printed, so nobody could use the lock.
        keeper.give_back(&mut world)?;
        return Err(failure);
    }
    let mut ended = false;
    let over = keeper.granted.saturating_add(options.max_hold);
    let least = keeper.granted.saturating_add(options.min_hold);
    loop {
        // It may have ended while the lock was waited for.
        if world.stdin && !ended {
            ended = has_ended(&mut world)?;
        }
        let now = sys::now();
        if (ended && now >= least) || now >= over {
            if now >= over {
                report("the lock was held for --max-hold: it is given back");
            }
            release(&mut world, keeper)?;
            return Ok(0);
        }
        if keeper.lease.is_lost(now) {
            return Err(Failure::new(LOST, "the lock is lost"));
        }
        let next = if ended { least } else { over };
        world.sleep(next.min(keeper.next(now)))?;
        keeper.move_on(&world);
        if let Err(failure) = world.end_by_signal() {
            release(&mut world, keeper)?;
            return Err(failure);
        }
    }
}

/// Gives the lock back. Fails if a signal ends that.
fn release(world: &mut World, keeper: Keeper) -> Result<(), Failure> {
    let told = keeper.release(world, FAILOVER)?;
    tell_unanswered(&told);
    match told {
        Told::Cut(caught) => Err(Failure::by_signal(caught.number, caught.by_terminal)),
        Told::Answer(_) | Told::Unanswered => Ok(()),
    }
}

/// Fails if stdin has ended already, as where a script or a unit gives it none, or is a file: its end cannot be waited
/// for. The hold would be over as soon as it began, and the work after it unprotected.
fn demand_input(world: &mut World) -> Result<(), Failure> {
    const ADVICE: &str = "hold wants a pipe or a terminal that stays open";
    if let Err(e) = world.hear_stdin(false) {
        if e.kind() != ErrorKind::PermissionDenied {
            return Err(e.into());
        }
        let what = match io::stdin().lock().read(&mut [0]) {
            Ok(0) => "has ended already",
            _ => "is a file, whose end cannot be waited for",
        };
        return Err(Failure::new(
            USAGE,
            format!("standard input {what}: {ADVICE}"),
        ));
    }
    // To read from a terminal in the background would stop dflock.
    for _ in 0..if io::stdin().is_terminal() { 0 } else { LOOKS } {
        world.sleep(0)?;
        if !world.stdin {
            break;
        }
        if has_ended(world)? {
            let text = format!("standard input has ended already: {ADVICE}");
            return Err(Failure::new(USAGE, text));
        }
    }
    Ok(())
}

/// Reads from stdin, throws it away, and says whether stdin has ended.
fn has_ended(world: &mut World) -> Result<bool, Failure> {
    let mut chunk = [0; 4096];
    world.stdin = false;
    match io::stdin().lock().read(&mut chunk) {
        Ok(0) => return Ok(true),
        Err(e) if !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            return Err(e.into());
        }
        _ => {}
    }
    // The poll is edge-triggered: what is left unread makes no new event.
    world.hear_stdin(true)?;
    Ok(false)
}
