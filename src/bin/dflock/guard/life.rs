//! The guard's whole life, from its fork on: it starts the command in dflock's group and session, leaves both, lets the
//! command go, and then waits for orders, for ends of processes and for the time at which all must be dead. Invariant:
//! the command executes nothing before the guard is out of reach of signals to dflock's group.

use std::ffi::CStr;
use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use dflockd::command::{SECOND, Us};
use dflockd::sys::handover::Channel;
use dflockd::sys::process::{self, Children, Fork, Pid};
use dflockd::sys::{self, Signals, Timer};

use super::tree::{self, LOOKS};
use super::{MESSAGE, Order, Report, Start, Times};

/// Its name in ps(1): neither `killall dflock` nor `pkill -f dflock` may end the guard.
const NAME: &CStr = c"lock-guard";
/// Processes that end within this time after the command were not left behind by it.
const PARTING: Us = SECOND / 50;
/// The most connections that are kept. On a path that always goes mute the oldest does not matter any more: a lease has
/// passed since it was used.
const CONNECTIONS_MAX: usize = 8;

/// What the guard knows.
struct Life<'a> {
    channel: &'a Channel,
    /// dflock lives.
    is_led: bool,
    /// The command and what it started die when dflock does.
    bound: bool,
    orders: u64,
    times: Times,
    /// When an order of dflock wants all processes killed.
    stop: Us,
    /// The command, until it has ended.
    command: Option<Pid>,
    /// When the processes are told of that the command has left behind.
    left: Us,
    /// All processes have had SIGTERM.
    is_stopping: bool,
    is_denied: bool,
    is_gone: bool,
    /// When the dying processes are looked at again, and the pause after that.
    look: (Us, Us),
    /// Connections of the lock, the newest last.
    connections: Vec<OwnedFd>,
}

/// Lives, and exits.
pub fn live(channel: &Channel, start: Start<'_>, dflock: Pid) -> ! {
    let lived = begin(channel, start, dflock).and_then(|mut life| life.run());
    if let Err(error) = lived {
        // If the command was not let go, it dies now. If it was bound, so it does.
        let error = error.raw_os_error().unwrap_or(libc::EIO);
        let _ = channel.send(&Report::Unable(error).bytes(), None);
    }
    process::exit_copy(libc::EXIT_SUCCESS)
}

/// Starts the command.
fn begin<'a>(channel: &'a Channel, start: Start<'_>, dflock: Pid) -> io::Result<Life<'a>> {
    let guard = process::own_pid();
    let (times, bound) = (start.times, start.bound);
    let (gate, mut opener) = io::pipe()?;
    let command = match process::fork()? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            drop(opener);
            become_command(channel, start, gate, guard)
        }
    };
    drop(gate);
    process::block_all();
    process::leave_session()?;
    process::set_name(NAME)?;
    process::adopt_orphans()?;
    process::replace_standard_streams(start.null)?;
    let own = [channel.as_raw_fd(), opener.as_raw_fd()];
    let kept: Vec<_> = own.into_iter().chain(start.connection).collect();
    process::close_others(&kept);
    let life = Life {
        channel,
        is_led: true,
        bound,
        orders: 0,
        times,
        stop: Us::MAX,
        command: Some(command),
        left: Us::MAX,
        is_stopping: false,
        is_denied: false,
        is_gone: false,
        look: (0, LOOKS.0),
        connections: start.connection.map(process::inherit).into_iter().collect(),
    };
    life.report(Report::Started(command));
    if process::is_child_of(dflock) {
        opener.write_all(&[0])?;
    }
    Ok(life)
}

/// Waits until the guard is ready, and becomes the command.
fn become_command(channel: &Channel, start: Start<'_>, mut gate: PipeReader, guard: Pid) -> ! {
    if start.bound {
        // An error would be that of a wrong argument.
        let _ = process::die_with(guard);
    }
    // Without that byte the guard is dead.
    if !matches!(gate.read(&mut [0]), Ok(1)) {
        process::exit_copy(libc::EXIT_FAILURE);
    }
    let report = match sys::now() < start.by {
        true => {
            let error = process::become_command(start.command, start.signals);
            Report::CannotRun(error.raw_os_error().unwrap_or(libc::EINVAL))
        }
        false => Report::TooLate,
    };
    let _ = channel.send(&report.bytes(), None);
    process::exit_copy(libc::EXIT_FAILURE)
}

impl Life<'_> {
    fn run(&mut self) -> io::Result<()> {
        let (mut poll, timer) = (Poll::new()?, Timer::new()?);
        let ends = Signals::new(&[libc::SIGCHLD])?;
        let mut events = Events::with_capacity(4);
        let sources = [
            self.channel.as_raw_fd(),
            timer.as_raw_fd(),
            ends.as_raw_fd(),
        ];
        for fd in sources {
            let mut source = SourceFd(&fd);
            poll.registry()
                .register(&mut source, Token(0), Interest::READABLE)?;
        }
        loop {
            self.hear();
            while ends.take().is_some() {}
            let now = sys::now();
            self.bury(now);
            if !self.is_led && (self.is_gone || !self.bound) {
                return Ok(());
            }
            if self.act(now) {
                return Ok(());
            }
            timer.set(self.next())?;
            match poll.poll(&mut events, None) {
                Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
        }
    }

    fn report(&self, report: Report) {
        // An error means that dflock is gone, which the channel's end will tell.
        let _ = self.channel.send(&report.bytes(), None);
    }

    /// Carries out the orders that have arrived.
    fn hear(&mut self) {
        while self.is_led {
            let mut bytes = [0; MESSAGE];
            match self.channel.receive(&mut bytes) {
                Ok((MESSAGE, connection)) => {
                    self.connections.extend(connection);
                    if let Some(order) = Order::from_bytes(bytes) {
                        self.carry_out(order);
                    }
                    self.orders += 1;
                    self.report(Report::Done(self.orders));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                _ => self.is_led = false,
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Live(times) => self.times = times,
            Order::Keep => self.keep_connections(CONNECTIONS_MAX),
            Order::Settled => self.keep_connections(1),
            Order::Signal(number) => {
                if let Some(command) = self.command {
                    self.signal_command(command, number);
                }
            }
            Order::Stop(kill) => {
                self.stop = self.stop.min(kill);
                match sys::now() < kill {
                    true => self.stop_all(),
                    // There is no time for SIGTERM.
                    false => self.is_stopping = true,
                }
            }
        }
    }

    /// Closes all connections but so many, the newest.
    fn keep_connections(&mut self, count: usize) {
        let others = self.connections.len().saturating_sub(count);
        self.connections.drain(..others);
    }

    fn signal_command(&mut self, command: Pid, number: i32) {
        // It may have ended, and is not waited for yet: then nothing happens.
        let result = process::kill(command, number);
        self.denied(result.is_err_and(|e| e.raw_os_error() == Some(libc::EPERM)));
        if matches!(number, libc::SIGTERM | libc::SIGHUP) {
            // A stopped process acts on the signal only when it is continued.
            let _ = process::kill(command, libc::SIGCONT);
        }
    }

    /// Waits for the processes that have ended, so that their numbers can be used again.
    fn bury(&mut self, now: Us) {
        loop {
            match process::ended() {
                Children::Ended(pid, end) if self.command == Some(pid) => {
                    self.command = None;
                    self.left = now.saturating_add(PARTING);
                    self.report(Report::Ended(end));
                }
                Children::Ended(..) => {}
                Children::Run => return,
                Children::None => {
                    // What a descendant leaves behind becomes a child, so without children nobody is left.
                    if !self.is_gone {
                        self.is_gone = true;
                        self.report(Report::Gone);
                    }
                    return;
                }
            }
        }
    }

    /// Does what is due; whether nothing can be done any more.
    fn act(&mut self, now: Us) -> bool {
        if self.is_gone {
            return false;
        }
        if now >= self.left {
            self.left = Us::MAX;
            self.report(Report::Left);
        }
        if now >= self.times.term && !self.is_stopping {
            self.report(Report::Stopping);
            self.stop_all();
        }
        if now >= self.kill_at() && now >= self.look.0 {
            let reached = tree::signal(&[libc::SIGKILL], &[]);
            self.denied(reached.denied > 0);
            self.look = (
                now.saturating_add(self.look.1),
                LOOKS.1.min(self.look.1 * 2),
            );
            let is_over = now >= self.times.term.max(self.times.kill.min(Us::MAX - 1));
            return !self.is_led && is_over && reached.found == reached.denied;
        }
        false
    }

    fn stop_all(&mut self) {
        if !self.is_stopping {
            self.is_stopping = true;
            let reached = tree::signal(&[libc::SIGTERM, libc::SIGCONT], &[]);
            self.denied(reached.denied > 0);
        }
    }

    fn denied(&mut self, is_denied: bool) {
        if is_denied && !self.is_denied {
            self.is_denied = true;
            self.report(Report::Denied);
        }
    }

    fn kill_at(&self) -> Us {
        match self.is_led {
            true => self.times.kill.min(self.stop),
            false => 0,
        }
    }

    fn next(&self) -> Us {
        if self.is_gone {
            return Us::MAX;
        }
        let term = match self.is_stopping {
            true => Us::MAX,
            false => self.times.term,
        };
        term.min(self.left).min(self.kill_at().max(self.look.0))
    }
}
