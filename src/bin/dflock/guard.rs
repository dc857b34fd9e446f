//! The guard: a copy of dflock that outlives it. It holds the deadline by which the command must be dead, and the
//! lock's connection, which the kernel closes when its last owner has gone. Invariant: if dflock dies, the connection
//! ends after the command; if dflock freezes, the command ends before the lease.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::unix::pipe::{self, Receiver, Sender};
use mio::{Events, Interest, Poll, Token};

use dflockd::command::Us;
use dflockd::sys::process::{self, Fork, Pid};
use dflockd::sys::{self, Timer};

const PIPE: Token = Token(0);
const TIMER: Token = Token(1);
/// How often a dying group is looked at: soon, then less and less.
const LOOKS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));
/// What ps(1) calls it: who ends dflock by its name does not mean the guard.
const NAME: &CStr = c"lock-guard";

/// The guard, as dflock sees it.
pub struct Guard {
    pub pid: Pid,
    orders: Sender,
}

/// What the guard is told: 16 bytes, in the byte order of the machine.
#[derive(Clone, Copy)]
struct Order {
    /// Whom to kill; 0 is nobody, now and later.
    group: Pid,
    signal: i32,
    /// When.
    until: Us,
}

impl Guard {
    /// Forks it. What is open now the guard has too.
    pub fn start() -> io::Result<Guard> {
        let (orders, receiver) = pipe::new()?;
        match process::fork()? {
            Fork::Parent(pid) => Ok(Guard { pid, orders }),
            Fork::Child => {
                drop(orders);
                let result = keep(receiver);
                process::exit_copy(i32::from(result.is_err()));
            }
        }
    }

    /// From now on the group is to be sent `signal` at `until`, and killed when dflock is gone.
    pub fn watch(&mut self, group: Pid, signal: i32, until: Us) -> io::Result<()> {
        self.order(Order {
            group,
            signal,
            until,
        })
    }

    /// What a command does that is about to start, between fork and exec: it says that it is to be watched.
    pub fn announcer(
        &self,
        signal: i32,
        until: Us,
    ) -> io::Result<impl FnMut() -> io::Result<()> + use<>> {
        let mut orders = File::from(self.orders.as_fd().try_clone_to_owned()?);
        Ok(move || {
            let group = process::own_pid();
            let order = Order {
                group,
                signal,
                until,
            };
            orders.write_all(&order.to_bytes())
        })
    }

    /// The command is dead: there is nobody to be killed any more.
    pub fn dismiss(mut self) {
        let nobody = Order {
            group: 0,
            signal: 0,
            until: Us::MAX,
        };
        // A guard that is gone needs no telling.
        let _ = self.order(nobody);
    }

    fn order(&mut self, order: Order) -> io::Result<()> {
        let bytes = order.to_bytes();
        let n = self.orders.write(&bytes)?;
        assert!(n == bytes.len(), "pipe(7): so few bytes go at once");
        Ok(())
    }
}

impl Order {
    fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.group.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.signal.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.until.to_ne_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; 16]) -> Order {
        let half = |at: usize| bytes[at..at + 4].try_into().expect("four bytes");
        Order {
            group: Pid::from_ne_bytes(half(0)),
            signal: i32::from_ne_bytes(half(4)),
            until: Us::from_ne_bytes(bytes[8..].try_into().expect("eight bytes")),
        }
    }
}

/// The guard's whole life.
fn keep(mut orders: Receiver) -> io::Result<()> {
    process::set_name(NAME)?;
    process::leave_group()?;
    process::close_standard_streams()?;
    let (mut poll, timer) = (Poll::new()?, Timer::new()?);
    let registry = poll.registry();
    registry.register(&mut orders, PIPE, Interest::READABLE)?;
    registry.register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
    let mut events = Events::with_capacity(2);
    let mut order = Order {
        group: 0,
        signal: 0,
        until: Us::MAX,
    };
    loop {
        let mut bytes = [0; 16];
        match orders.read(&mut bytes) {
            Ok(16) => {
                order = Order::from_bytes(bytes);
                if order.group == 0 {
                    // A later guard may have our end of the pipe too, so that it does not tell.
                    return Ok(());
                }
                timer.set(order.until)?;
                continue;
            }
            Ok(_) => break,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => break,
        }
        if order.group != 0 && order.until <= sys::now() {
            // It may be gone already.
            let _ = process::kill_group(order.group, order.signal);
            order.until = Us::MAX;
        }
        match poll.poll(&mut events, None) {
            Err(e) if e.kind() != ErrorKind::Interrupted => break,
            _ => {}
        }
    }
    if order.group != 0 {
        // dflock is gone.
        outlive(order.group, order.until);
    }
    Ok(())
}

/// Kills a group and sees it dead: the lock's connection must not end before that, but the lease ends by itself.
pub fn outlive(group: Pid, until: Us) {
    let _ = process::kill_group(group, libc::SIGKILL);
    let mut look = LOOKS.0;
    while !process::is_gone(group) && sys::now() < until {
        thread::sleep(look);
        look = LOOKS.1.min(look * 2);
    }
}
