//! What the loop sleeps on while a lock is waited for or held: the connection, unix signals, a timer and perhaps stdin.
//! It decides nothing. Invariant: a signal that was not ignored when dflock started is either taken here or still pending.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::process;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use dflockd::command::Us;
use dflockd::sys::{self, Caught, Signals, Timer};

use crate::failure::Failure;

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
    pub stdin: bool,
}

impl World {
    pub fn new() -> io::Result<World> {
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

    /// While there is no command yet a signal is for us.
    pub fn end_by_signal(&self) -> Result<(), Failure> {
        while let Some(caught) = self.caught() {
            if caught.number != libc::SIGCHLD {
                return Err(Failure::by_signal(caught.number, caught.by_terminal));
            }
        }
        Ok(())
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
    pub fn hear_stdin(&self, again: bool) -> io::Result<()> {
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
