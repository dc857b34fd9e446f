//! The guard: a forked copy of dflock that outlives it. The guard has the deadline by which the command must be dead,
//! and the lock's connection, which stays open while either process lives. Invariant: if dflock dies, the connection
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
/// How often a dying group is looked at: the first pause, and the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));
/// Its name in ps(1): `killall dflock` must not end the guard.
const NAME: &CStr = c"lock-guard";

/// The guard, as dflock sees it.
pub struct Guard {
    pub pid: Pid,
    orders: Sender,
}

/// An order to the guard: 16 bytes, in the byte order of the machine.
#[derive(Clone, Copy)]
struct Order {
    /// The group to signal; 0 ends the guard.
    group: Pid,
    signal: i32,
    /// When to signal it.
    until: Us,
}

impl Guard {
    /// Forks the guard. It shares every file that is open now.
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

    /// Tells the guard to send `signal` to the group at `until`, and to kill the group when dflock is gone.
    pub fn watch(&mut self, group: Pid, signal: i32, until: Us) -> io::Result<()> {
        self.order(Order {
            group,
            signal,
            until,
        })
    }

    /// A function for the command's process, between fork and exec: it tells the guard to watch that process.
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

    /// Ends the guard, because the command is dead.
    pub fn dismiss(mut self) {
        let nobody = Order {
            group: 0,
            signal: 0,
            until: Us::MAX,
        };
        // An error means that the guard is gone already.
        let _ = self.order(nobody);
    }

    fn order(&mut self, order: Order) -> io::Result<()> {
        let bytes = order.to_bytes();
        let n = self.orders.write(&bytes)?;
        assert!(
            n == bytes.len(),
            "pipe(7): up to PIPE_BUF bytes are written whole"
        );
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
                    // A later guard may have the pipe's other end too, so its end cannot be waited for.
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
            // The group may be gone already.
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

/// Kills a group and waits until it is dead, so that the lock's connection ends after it; at `until` the lease is over
/// anyway.
pub fn outlive(group: Pid, until: Us) {
    let _ = process::kill_group(group, libc::SIGKILL);
    let mut look = LOOKS.0;
    while !process::is_gone(group) && sys::now() < until {
        thread::sleep(look);
        look = LOOKS.1.min(look * 2);
    }
}
