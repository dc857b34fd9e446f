//! The sources of events while dflock waits for a lock or holds it: the connection, unix signals, a timer, perhaps stdin,
//! the guard and the witness. It decides nothing. Invariant: signals that dflock was started with ignored stay ignored.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use dflockd::command::Us;
use dflockd::sys::{self, Caught, Signals, Timer};

use crate::failure::Failure;

pub const LINK: Token = Token(0);
const SIGNALS: Token = Token(1);
const TIMER: Token = Token(2);
const STDIN: Token = Token(3);
pub const GUARD: Token = Token(4);
pub const WITNESS: Token = Token(5);

/// The signals that dflock acts on or hands on, unless it was started with them ignored, as by nohup(1). The others
/// keep their default.
const NUMBERS: [i32; 6] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// The sources of events.
pub struct World {
    poll: Poll,
    events: Events,
    timer: Timer,
    pub signals: Signals,
    /// The signals that are caught, SIGCHLD aside.
    pub numbers: Vec<i32>,
    /// Whether there may be something to read on stdin.
    pub stdin: bool,
}

impl World {
    pub fn new() -> io::Result<World> {
        sys::process::hear_of_children();
        let numbers = sys::process::not_ignored(&NUMBERS);
        let signals = Signals::new(&[&numbers[..], &[libc::SIGCHLD]].concat())?;
        let (poll, timer) = (Poll::new()?, Timer::new()?);
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
            numbers,
            stdin: false,
        })
    }

    pub fn registry(&self) -> &mio::Registry {
        self.poll.registry()
    }

    /// Takes a signal that has arrived.
    pub fn caught(&self) -> Option<Caught> {
        self.signals.catch()
    }

    /// Takes a signal that has arrived and tells of no child.
    pub fn called(&self) -> Option<Caught> {
        let mut caught = std::iter::from_fn(|| self.caught());
        caught.find(|caught| caught.number != libc::SIGCHLD)
    }

    /// Fails if a signal has arrived: without a command the signals are for dflock itself.
    pub fn end_by_signal(&self) -> Result<(), Failure> {
        match self.called() {
            Some(caught) => Err(Failure::by_signal(caught.number, caught.by_terminal)),
            None => Ok(()),
        }
    }

    /// Watches stdin; `again` after something was read.
    pub fn hear_stdin(&self, again: bool) -> io::Result<()> {
        let fd = io::stdin().as_raw_fd();
        let (registry, mut source) = (self.registry(), SourceFd(&fd));
        if again {
            registry.reregister(&mut source, STDIN, Interest::READABLE)
        } else {
            registry.register(&mut source, STDIN, Interest::READABLE)
        }
    }

    /// Sleeps until an event, or until `until`.
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
