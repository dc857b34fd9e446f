//! The guard of a command, as dflock sees it. The guard is a forked copy of dflock between dflock and the command: the
//! command and whatever that starts descend from it. It knows by when they must be dead, and it has the lock's
//! connection, which stays open while either process lives. Invariant: no process of the command runs without a guard
//! or a dflock that will end it; if dflock dies, the connection ends after the command.
//!
//! ```text
//! dflock ---- orders, the connection ---> guard (a session of its own) --- command (dflock's group and session)
//!    ^------------- reports ----------------'                                `-- what the command starts
//!    `--- witness (dflock's group)
//! ```

mod life;
mod tree;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::process::Command;

use dflockd::command::Us;
use dflockd::sys::handover::{self, Channel};
use dflockd::sys::process::{self, End, Fork, Pid};
use dflockd::sys::{self, Signals};

pub use tree::{LOOKS, descendants, signal as signal_tree};

/// The interval at which an open order is checked. At the second check a guard that the kernel has stopped counts as one
/// that does not answer. A check is counted from the one before it, because this process may have been stopped or suspended
/// too.
const LOOK: Us = 250_000;
/// The checks that a guard may leave unanswered which is not stopped: 5 s, for a busy host.
const LOOKS_MAX: u32 = 20;

/// When the command's processes are to be stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// When they get SIGTERM.
    pub term: Us,
    /// When they get SIGKILL.
    pub kill: Us,
}

/// What dflock tells its guard. The guard confirms each order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The lock is held until later: these are the times.
    Live(Times),
    /// Let the command begin: what reached dflock's group before was handed on.
    Go,
    /// Keep the connection that comes along, too.
    Keep,
    /// The hold is with the newest connection: close the others.
    Settled,
    /// Send this signal to the command alone, or to what it has left behind.
    Signal(i32),
    /// Stop all processes: SIGTERM, unless they have had it, and SIGKILL at this time.
    Stop(Us),
}

/// What the guard tells dflock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// It has carried out so many orders.
    Done(u64),
    /// This process is to become the command, and waits for [`Order::Go`].
    Started(Pid),
    /// The command could not be run, for this error of the system.
    CannotRun(i32),
    /// The time was over before the command could start.
    TooLate,
    /// The guard cannot work, for this error of the system, and the command has not run.
    Unable(i32),
    /// The command has ended.
    Ended(End),
    /// Processes that the command has started still run.
    Left,
    /// The times are over: the processes are being stopped.
    Stopping,
    /// A process belongs to another user and cannot be signalled.
    Denied,
    /// No process is left.
    Gone,
}

/// The guard, as dflock sees it.
pub struct Guard {
    pub pid: Pid,
    channel: Channel,
    given: u64,
    done: u64,
    /// Since when an answer is owed.
    asked: Us,
    /// When an answer that is owed is looked for next, and how often one was looked for before.
    look: (Us, u32),
}

/// What the guard needs from its start on.
pub struct Start<'a> {
    pub command: &'a mut Command,
    /// The lock's connection.
    pub connection: Option<RawFd>,
    /// Whether the command dies when its guard does, and with dflock.
    pub bound: bool,
    pub times: Times,
    /// The command is not started at this time or later.
    pub by: Us,
    /// Those of dflock.
    pub signals: &'a Signals,
    /// /dev/null.
    pub null: &'a File,
}

impl Guard {
    /// Forks the guard, which starts the command.
    pub fn start(start: Start<'_>) -> io::Result<Guard> {
        let (ours, its) = handover::pair()?;
        let dflock = process::own_pid();
        match process::fork()? {
            Fork::Parent(pid) => Ok(Guard {
                pid,
                channel: ours,
                given: 0,
                done: 0,
                asked: 0,
                look: (Us::MAX, 0),
            }),
            Fork::Child => {
                drop(ours);
                life::live(&its, start, dflock)
            }
        }
    }

    /// Gives an order, and the connection that belongs to it.
    pub fn order(&mut self, order: Order, connection: Option<BorrowedFd<'_>>) {
        if !self.owes_an_answer() {
            self.asked = sys::now();
        }
        self.given += 1;
        // An error means that the guard is dead or stopped, and either will be noticed.
        let _ = self.channel.send(&order.bytes(), connection);
        if self.look.0 == Us::MAX {
            self.look = (sys::now().saturating_add(LOOK), 0);
        }
    }

    /// The next report, if there is one.
    pub fn report(&mut self) -> Option<Report> {
        loop {
            let mut bytes = [0; MESSAGE];
            let report = match self.channel.receive(&mut bytes) {
                Ok((MESSAGE, _)) => Report::from_bytes(bytes),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                _ => return None,
            };
            if let Some(Report::Done(done)) = report {
                self.done = done;
                if !self.owes_an_answer() {
                    self.look = (Us::MAX, 0);
                }
            }
            return report;
        }
    }

    /// Since when an order is not confirmed, if one is not.
    pub fn owes_since(&self) -> Option<Us> {
        self.owes_an_answer().then_some(self.asked)
    }

    fn owes_an_answer(&self) -> bool {
        self.done < self.given
    }

    /// When [`Guard::is_stopped`] is to be asked.
    pub fn next(&self) -> Us {
        self.look.0
    }

    /// Whether the guard owes an answer for too long. Ask it after the reports were read.
    pub fn is_stopped(&mut self, now: Us) -> bool {
        if now < self.look.0 {
            return false;
        }
        let before = self.look.1;
        self.look = (now.saturating_add(LOOK), before + 1);
        before >= LOOKS_MAX || before > 0 && process::is_stopped(self.pid)
    }
}

impl AsRawFd for Guard {
    fn as_raw_fd(&self) -> RawFd {
        self.channel.as_raw_fd()
    }
}

/// The length of a message: a kind and two numbers, in the byte order of the machine.
const MESSAGE: usize = 24;

fn message(kind: u64, one: u64, two: u64) -> [u8; MESSAGE] {
    let mut bytes = [0; MESSAGE];
    for (at, number) in [kind, one, two].into_iter().enumerate() {
        bytes[at * 8..][..8].copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

fn numbers(bytes: [u8; MESSAGE]) -> (u64, u64, u64) {
    let number = |at: usize| {
        let bytes = bytes[at * 8..][..8].try_into();
        u64::from_ne_bytes(bytes.expect("eight bytes"))
    };
    (number(0), number(1), number(2))
}

impl Order {
    fn bytes(self) -> [u8; MESSAGE] {
        match self {
            Order::Live(times) => message(0, times.term, times.kill),
            Order::Keep => message(1, 0, 0),
            Order::Settled => message(2, 0, 0),
            Order::Signal(number) => message(3, number as u64, 0),
            Order::Stop(kill) => message(4, kill, 0),
            Order::Go => message(5, 0, 0),
        }
    }

    fn from_bytes(bytes: [u8; MESSAGE]) -> Option<Order> {
        Some(match numbers(bytes) {
            (0, term, kill) => Order::Live(Times { term, kill }),
            (1, ..) => Order::Keep,
            (2, ..) => Order::Settled,
            (3, number, _) => Order::Signal(number as i32),
            (4, kill, _) => Order::Stop(kill),
            (5, ..) => Order::Go,
            _ => return None,
        })
    }
}

impl Report {
    fn bytes(self) -> [u8; MESSAGE] {
        match self {
            Report::Done(count) => message(0, count, 0),
            Report::Started(pid) => message(1, pid as u64, 0),
            Report::CannotRun(error) => message(2, error as u64, 0),
            Report::TooLate => message(3, 0, 0),
            Report::Unable(error) => message(4, error as u64, 0),
            Report::Ended(End::Exited(status)) => message(5, status as u64, 0),
            Report::Ended(End::Killed(signal)) => message(5, signal as u64, 1),
            Report::Left => message(6, 0, 0),
            Report::Stopping => message(7, 0, 0),
            Report::Denied => message(8, 0, 0),
            Report::Gone => message(9, 0, 0),
        }
    }

    fn from_bytes(bytes: [u8; MESSAGE]) -> Option<Report> {
        Some(match numbers(bytes) {
            (0, count, _) => Report::Done(count),
            (1, pid, _) => Report::Started(pid as Pid),
            (2, error, _) => Report::CannotRun(error as i32),
            (3, ..) => Report::TooLate,
            (4, error, _) => Report::Unable(error as i32),
            (5, status, 0) => Report::Ended(End::Exited(status as i32)),
            (5, signal, _) => Report::Ended(End::Killed(signal as i32)),
            (6, ..) => Report::Left,
            (7, ..) => Report::Stopping,
            (8, ..) => Report::Denied,
            (9, ..) => Report::Gone,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_reports_arrive_as_they_were_sent() {
        let times = Times {
            term: 5,
            kill: Us::MAX,
        };
        let orders = [
            Order::Live(times),
            Order::Keep,
            Order::Settled,
            Order::Signal(15),
            Order::Stop(7),
            Order::Go,
        ];
        for order in orders {
            assert_eq!(Order::from_bytes(order.bytes()), Some(order));
        }
        let reports = [
            Report::Done(3),
            Report::Started(4711),
            Report::CannotRun(2),
            Report::TooLate,
            Report::Unable(12),
            Report::Ended(End::Exited(255)),
            Report::Ended(End::Killed(9)),
            Report::Left,
            Report::Stopping,
            Report::Denied,
            Report::Gone,
        ];
        for report in reports {
            assert_eq!(Report::from_bytes(report.bytes()), Some(report));
        }
        assert_eq!(Order::from_bytes(message(99, 0, 0)), None);
        assert_eq!(Report::from_bytes(message(99, 0, 0)), None);
    }
}
