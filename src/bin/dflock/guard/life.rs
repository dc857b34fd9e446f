//! The guard's whole life, from its fork on: it starts the command in dflock's group and session, leaves both, lets the
//! command go, and then waits for orders, for ends of processes and for the time at which all must be dead. Invariant:
//! the command executes nothing before the guard is out of reach of signals to dflock's group.

use std::ffi::CStr;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use dflockd::command::{SECOND, Us};
use dflockd::sys::handover::Channel;
use dflockd::sys::process::{self, Children, Fork, Pid};
use dflockd::sys::{self, Signals, Timer, is_hung_up};

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
    dflock: Pid,
    /// dflock lives.
    is_led: bool,
    /// A byte into it lets the command begin.
    opener: Option<PipeWriter>,
    /// The command and what it started die when dflock does.
    bound: bool,
    orders: u64,
    times: Times,
    /// When an order of dflock wants all processes killed.
    stop: Us,
    /// The command, until it has ended.
    command: Option<Pid>,
    /// When dflock is told that processes are left.
    left: Us,
    /// All processes have had SIGTERM.
    is_stopping: bool,
    is_denied: bool,
    is_gone: bool,
    /// When the dying processes are looked at again, and the pause after that.
    look: (Us, Us),
    /// Connections of the lock, the newest last.
    connections: Vec<TcpStream>,
}

/// Lives, and exits.
pub fn live(channel: &Channel, start: Start<'_>, dflock: Pid) -> ! {
    let lived = begin(channel, start, dflock).and_then(|mut life| life.run());
    if let Err(error) = lived {
        // A bound command dies with the guard, and one that has not begun.
        let error = error.raw_os_error().unwrap_or(libc::EIO);
        let _ = channel.send(&Report::Unable(error).bytes(), None);
    }
    process::exit_copy(libc::EXIT_SUCCESS)
}

/// Starts the command.
fn begin<'a>(channel: &'a Channel, start: Start<'_>, dflock: Pid) -> io::Result<Life<'a>> {
    let guard = process::own_pid();
    let (times, bound) = (start.times, start.bound);
    let (gate, opener) = io::pipe()?;
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
    process::adopt_orphans()?;
    // dflock can answer while the rest is done.
    let _ = channel.send(&Report::Started(command).bytes(), None);
    process::set_name(NAME)?;
    process::replace_standard_streams(start.null)?;
    let own = [channel.as_raw_fd(), opener.as_raw_fd()];
    let kept: Vec<_> = own.into_iter().chain(start.connection).collect();
    process::close_others(&kept);
    let connection = start.connection.map(process::inherit).map(TcpStream::from);
    Ok(Life {
        channel,
        dflock,
        is_led: true,
        opener: Some(opener),
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
        connections: connection.into_iter().collect(),
    })
}

/// Waits until the guard is ready, and becomes the command.
fn become_command(channel: &Channel, start: Start<'_>, mut gate: PipeReader, guard: Pid) -> ! {
    if start.bound {
        // An error would be that of a wrong argument.
        let _ = process::die_with(guard);
    }
    // Without a byte the guard has died, and takes this process along as soon as the kernel says so.
    if !matches!(gate.read(&mut [0]), Ok(1)) {
        process::exit_copy(128 + libc::SIGKILL);
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
            self.reap(now);
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
                    self.connections.extend(connection.map(TcpStream::from));
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
            Order::Go => self.let_go(),
            Order::Keep => {
                // Attempts that came to nothing. The newest may not be established yet.
                let newest = self.connections.pop();
                // Over TLS the last bytes of a server are always left: dflock does not read here any more.
                self.connections
                    .retain(|connection| !is_hung_up(connection));
                self.connections.extend(newest);
                self.keep_connections(CONNECTIONS_MAX);
            }
            Order::Settled => self.keep_connections(1),
            Order::Signal(number) => self.signal(number),
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

    /// Opens the gate for the command, unless dflock is dead.
    fn let_go(&mut self) {
        if let Some(mut opener) = self.opener.take()
            && process::is_child_of(self.dflock)
        {
            // An error means that the command has ended.
            let _ = opener.write_all(&[0]);
        }
    }

    fn signal(&self, number: i32) {
        // A stopped process acts on these only when it is continued.
        let signals: &[i32] = match number {
            libc::SIGTERM | libc::SIGHUP => &[number, libc::SIGCONT],
            _ => &[number],
        };
        match self.command {
            // It may have ended, and is not waited for yet: then nothing happens.
            Some(command) => {
                for &signal in signals {
                    let _ = process::kill(command, signal);
                }
            }
            None => drop(tree::signal(signals, &[])),
        }
    }

    /// Waits for the processes that have ended, so that their numbers can be used again.
    fn reap(&mut self, now: Us) {
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
