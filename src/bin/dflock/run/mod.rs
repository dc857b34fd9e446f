//! Holding a lock: get it, keep it renewed while the command runs, give it back. One thread and one loop over the
//! connection, unix signals and a timer. Invariant: the command runs only while our own deadline, counted from when the
//! last good renewal was sent, is ahead.

mod acquire;
mod lease;
mod supervise;

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::process;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use dflockd::command::Us;
use dflockd::sys::{self, Caught, Signals, Timer};

use crate::failure::{Failure, LOST, say};
use crate::options::Options;
use crate::print::{grant_line, print};
use acquire::{acquire, end_by_signal};

pub const LINK: Token = Token(0);
const SIGNALS: Token = Token(1);
const TIMER: Token = Token(2);
const STDIN: Token = Token(3);

/// What we act on or hand on; the others do what they always do, and so do those that whoever started us has ignored,
/// as nohup(1) does.
const NUMBERS: [i32; 6] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// What becomes of children, and what would stop us for writing to a terminal that is not ours.
const ALWAYS: [i32; 2] = [libc::SIGCHLD, libc::SIGTTOU];

/// What the loop sleeps on.
pub struct World {
    poll: Poll,
    events: Events,
    timer: Timer,
    signals: Signals,
    /// There may be something to read on stdin.
    stdin: bool,
}

impl World {
    fn new() -> io::Result<World> {
        sys::process::hear_of_children();
        let wanted = NUMBERS
            .into_iter()
            .filter(|&number| !sys::process::is_ignored(number));
        let numbers: Vec<i32> = wanted.chain(ALWAYS).collect();
        let (poll, timer, signals) = (Poll::new()?, Timer::new()?, Signals::new(&numbers)?);
        for (fd, token) in [(signals.as_raw_fd(), SIGNALS), (timer.as_raw_fd(), TIMER)] {
            let mut source = SourceFd(&fd);
            poll.registry()
                .register(&mut source, token, Interest::READABLE)?;
        }
        Ok(World {
            poll,
            events: Events::with_capacity(8),
            timer,
            signals,
            stdin: false,
        })
    }

    pub fn registry(&self) -> &mio::Registry {
        self.poll.registry()
    }

    /// Takes a signal that has come.
    pub fn caught(&self) -> Option<Caught> {
        std::iter::from_fn(|| self.signals.catch()).find(|caught| caught.number != libc::SIGTTOU)
    }

    /// Makes a command that is about to be started one that can be supervised; see [`sys::process::prepare`].
    pub fn prepare(
        &self,
        command: &mut process::Command,
        bound: bool,
        last: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    ) {
        sys::process::prepare(command, &self.signals, bound, last);
    }

    /// Watches stdin, `again` if something was read.
    fn hear_stdin(&self, again: bool) -> io::Result<()> {
        let fd = io::stdin().as_raw_fd();
        let (registry, mut source) = (self.registry(), SourceFd(&fd));
        if again {
            registry.reregister(&mut source, STDIN, Interest::READABLE)
        } else {
            registry.register(&mut source, STDIN, Interest::READABLE)
        }
    }

    /// Sleeps until something happens, or until then.
    pub fn sleep(&mut self, until: Us) -> io::Result<()> {
        self.timer.set(until)?;
        match self.poll.poll(&mut self.events, None) {
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
        self.stdin |= self.events.iter().any(|event| event.token() == STDIN);
        Ok(())
    }
}

/// Runs the command under the lock and returns its exit status.
pub fn command(options: &Options, key: &[u8], command: &[OsString]) -> Result<u8, Failure> {
    let mut world = World::new()?;
    let lease = acquire(&mut world, options, key)?;
    supervise::run(&mut world, options, lease, command)
}

/// Prints what proves the lock and holds it until stdin ends or a signal comes.
pub fn hold(options: &Options, key: &[u8]) -> Result<u8, Failure> {
    let mut world = World::new()?;
    let mut lease = acquire(&mut world, options, key)?;
    let line = grant_line(options.output, &lease.grant());
    if let Err(failure) = print(&line) {
        // Nobody knows of it.
        lease.give_back(&mut world)?;
        return Err(failure);
    }
    // A file cannot be polled, and need not be: its end is there already.
    let mut ended = world.hear_stdin(false).is_err();
    let over = lease.granted.saturating_add(options.max_hold);
    let least = lease.granted.saturating_add(options.min_hold);
    loop {
        let now = sys::now();
        if (ended && now >= least) || now >= over {
            if now >= over {
                report("the lock was held for --max-hold: it is given back");
            }
            lease.give_back(&mut world)?;
            return Ok(0);
        }
        if lease.is_lost(now) {
            return Err(Failure::new(LOST, "the lock is lost"));
        }
        let next = if ended { least } else { over };
        world.sleep(next.min(lease.next()))?;
        lease.move_on(&world);
        if let Err(failure) = end_by_signal(&world) {
            lease.give_back(&mut world)?;
            return Err(failure);
        }
        if world.stdin && !ended {
            ended = has_ended()?;
            world.stdin = false;
            if !ended {
                // There may be more, of which no edge tells.
                world.hear_stdin(true)?;
            }
        }
    }
}

/// Reads what is on stdin, which nobody needs, and says whether that was all.
fn has_ended() -> Result<bool, Failure> {
    let mut chunk = [0; 4096];
    match io::stdin().lock().read(&mut chunk) {
        Ok(n) => Ok(n == 0),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Says what happens, if that was asked for.
fn tell(options: &Options, text: &str) {
    if options.verbose {
        report(text);
    }
}

/// Says what happens, unless nobody reads it: who holds a lock waits for no reader.
fn report(text: &str) {
    if sys::can_log() {
        say(text);
    }
}
