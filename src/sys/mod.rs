//! System calls of Linux that std and mio do not offer: the boot-time clock and its timer, unix signals as a file, the
//! limit of open files, options of sockets, and standard error without a wait, in `output`; what this process uses, in
//! `figures`; the sockets that it inherits, in `activation`; a file as memory, in `map`, or for one process alone, in
//! `lock`; which boot of the machine this is, in `boot`; for dflock(1) processes, in `process`, and a socket between them,
//! in `handover`. Not here: any decision.
//! Invariant: unsafe code is in this folder alone, and each block makes one system call on values of its own, or writes
//! to a map.
#![allow(unsafe_code, reason = "system calls")]

pub mod activation;
pub mod boot;
pub mod figures;
pub mod handover;
pub mod lock;
pub mod map;
pub mod output;
pub mod process;

use std::fs::File;
use std::io::{self, Read};
use std::mem::zeroed;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use libc::c_int;

use crate::command::{SECOND, Us};

/// Connections that the kernel completes before they are accepted; net.core.somaxconn may lower it.
const BACKLOG: c_int = 4096;
/// The kernel's buffer for each direction of a connection, instead of megabytes: requests and answers are short.
const BUFFER: c_int = 128 * 1024;
/// Blocks of this many bytes, as chunks of slabs are, have pages of their own.
#[cfg(target_env = "gnu")]
const MAPPED_MIN: c_int = 64 * 1024;
/// A peer that is silent for 30 s is probed three times, 10 s apart: a host that has vanished is noticed in a minute.
const KEEPALIVE_IDLE_S: c_int = 30;
const KEEPALIVE_INTERVAL_S: c_int = 10;
const KEEPALIVE_PROBES: c_int = 3;
/// While sent bytes are not acknowledged there are no probes: only this ends such a connection, after a minute too.
const UNACKNOWLEDGED_MAX_MS: c_int = 60_000;

/// The time on CLOCK_BOOTTIME: never set, never steps back, goes on while the machine is suspended.
pub fn now() -> Us {
    time_on(libc::CLOCK_BOOTTIME)
}

/// The time on CLOCK_MONOTONIC, which stands still while the machine is suspended: only for a service manager that asks
/// for it.
pub fn monotonic() -> Us {
    time_on(libc::CLOCK_MONOTONIC)
}

fn time_on(clock: libc::clockid_t) -> Us {
    // SAFETY: a timespec is plain integers, and the call fills it in.
    let time = unsafe {
        let mut time: libc::timespec = zeroed();
        let failed = libc::clock_gettime(clock, &raw mut time);
        assert!(failed == 0, "both clocks are there since Linux 2.6.39");
        time
    };
    time.tv_sec as Us * SECOND + time.tv_nsec as Us / 1000
}

/// The user as whom this process acts; see geteuid(2).
pub fn user() -> u32 {
    // SAFETY: no arguments; it cannot fail.
    unsafe { libc::geteuid() }
}

/// The wall clock, in nanoseconds since 1970: for the log, and for the first fence. Nothing is timed by it.
pub fn unix_now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos() as u64)
}

/// A timer that becomes readable at an instant of [`now`]; see timerfd_create(2).
pub struct Timer(OwnedFd);

impl Timer {
    /// A timer that is not set.
    pub fn new() -> io::Result<Timer> {
        // SAFETY: the call takes two integers and returns a descriptor that nobody else owns.
        unsafe {
            let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
            owned(libc::timerfd_create(libc::CLOCK_BOOTTIME, flags)).map(Timer)
        }
    }

    /// Sets it to `due`, in place of what it was set to. An instant in the past makes it readable at once.
    /// Setting it also clears its readiness, so that it need not be read.
    pub fn set(&self, due: Us) -> io::Result<()> {
        // Zero would disarm it.
        let due = due.max(1);
        let value = libc::timespec {
            // The kernel's timers end before our microseconds do, in 292 years.
            tv_sec: (due / SECOND).min(i64::MAX as u64 / 1_000_000_000) as _,
            tv_nsec: (due % SECOND * 1000) as _,
        };
        // SAFETY: both structures are plain integers; the kernel reads one and leaves the other alone.
        let result = unsafe {
            let mut spec: libc::itimerspec = zeroed();
            spec.it_value = value;
            libc::timerfd_settime(
                self.as_raw_fd(),
                libc::TFD_TIMER_ABSTIME,
                &spec,
                ptr::null_mut(),
            )
        };
        check(result).map(drop)
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether standard output was closed when the program began. By the time of `main` std has opened /dev/null in its
/// place, where writes succeed: `acquire k >&-` would print its token to nobody.
static WAS_STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// The system calls what is listed in this section before std begins; see DT_INIT_ARRAY in elf(5).
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_STD: extern "C" fn() = before_std;

extern "C" fn before_std() {
    process::look_at_signals();
    // SAFETY: two constants; the call only looks.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    WAS_STDOUT_CLOSED.store(flags < 0, Ordering::Relaxed);
}

/// Whether standard output was closed when the program began.
pub fn was_stdout_closed() -> bool {
    WAS_STDOUT_CLOSED.load(Ordering::Relaxed)
}

/// Lets children that a process with id 1 inherits vanish when they end; see wait(2) on SIGCHLD.
pub fn adopt_quietly() {
    // SAFETY: two constants. It cannot fail for a signal that exists.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Keeps a signal waiting until a [`Signals`] takes it.
pub fn hold_back(number: c_int) {
    // SAFETY: a set of plain integers, filled in by the calls. They cannot fail for a signal that exists.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, number);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
    }
}

/// The code of a signal that the kernel sends of its own accord; see sigaction(2).
const SI_KERNEL: c_int = 0x80;

/// A unix signal that has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caught {
    /// Its number.
    pub number: c_int,
    /// No process has sent it: it comes from a key at the terminal, or the terminal is gone.
    pub by_terminal: bool,
}

/// Unix signals as a file that becomes readable; see signalfd(2). They are blocked from then on, so that they neither
/// interrupt nor kill. A process with id 1 gets them too, though the kernel drops signals for which it has no handler.
pub struct Signals {
    file: File,
    /// The signals that were blocked before.
    before: libc::sigset_t,
}

impl Signals {
    /// Blocks these signals and opens the file.
    pub fn new(numbers: &[c_int]) -> io::Result<Signals> {
        // SAFETY: the sets are plain integers, filled in by the calls; the descriptor has no other owner.
        let (fd, before) = unsafe {
            let (mut set, mut before): (libc::sigset_t, libc::sigset_t) = (zeroed(), zeroed());
            libc::sigemptyset(&raw mut set);
            for &number in numbers {
                libc::sigaddset(&raw mut set, number);
            }
            check(libc::sigprocmask(
                libc::SIG_BLOCK,
                &raw const set,
                &raw mut before,
            ))?;
            let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
            (owned(libc::signalfd(-1, &raw const set, flags))?, before)
        };
        let file = File::from(fd);
        Ok(Signals { file, before })
    }

    /// Takes the number of a signal that has arrived, if any. The kernel merges two of the same number.
    pub fn take(&self) -> Option<c_int> {
        self.catch().map(|caught| caught.number)
    }

    /// As [`Signals::take`], and says where the signal comes from.
    pub fn catch(&self) -> Option<Caught> {
        // A signalfd_siginfo, whose first members are the number, an error and the code.
        let mut signal = [0; size_of::<libc::signalfd_siginfo>()];
        let member = |signal: &[u8], at: usize| {
            let bytes = signal[at..at + 4].try_into().expect("four bytes");
            c_int::from_ne_bytes(bytes)
        };
        match (&self.file).read(&mut signal) {
            Ok(n) if n == signal.len() => Some(Caught {
                number: member(&signal, 0),
                by_terminal: member(&signal, 8) == SI_KERNEL,
            }),
            _ => None,
        }
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Whether a short line can be written to stderr without waiting for its reader.
pub fn can_log() -> bool {
    has_room(&io::stderr())
}

/// Whether something can be written to a file without waiting; see poll(2) and, for pipes, pipe(7).
fn has_room(file: &impl AsRawFd) -> bool {
    state(file, libc::POLLOUT) & libc::POLLOUT != 0
}

/// Whether the peer of a connection has closed it, or there is none; unread bytes before its end do not matter. See
/// poll(2).
pub fn is_hung_up(socket: &impl AsRawFd) -> bool {
    let over = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
    state(socket, libc::POLLRDHUP) & over != 0
}

/// What of this is so at the moment, and whether there is an error or an end.
fn state(file: &impl AsRawFd, of: libc::c_short) -> libc::c_short {
    let mut asked = libc::pollfd {
        fd: file.as_raw_fd(),
        events: of,
        revents: 0,
    };
    // SAFETY: one structure, of which the kernel changes one field; no time to wait.
    let ready = unsafe { libc::poll(&raw mut asked, 1, 0) };
    if ready == 1 { asked.revents } else { 0 }
}

/// Whether the system has no more descriptors or memory for another socket; see accept(2).
pub fn is_exhaustion(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

/// Whether the system knows no such addresses at all, as IPv6 where it is turned off; see socket(2).
pub fn is_no_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

/// Raises the number of files that may be open, connections included, to the hard limit, and returns it.
pub fn raise_file_limit() -> io::Result<u64> {
    // SAFETY: the structure is plain integers, filled in by the first call and read by the second.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        if limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))?;
        }
        Ok(limit.rlim_cur)
    }
}

/// Has the allocator map large blocks one by one, so that those that are freed go back to the system. That of glibc
/// begins so, but after the first such block is freed keeps all up to its size (mallopt(3), M_MMAP_THRESHOLD).
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a number for the allocator; no pointer is passed. If it is refused, all stays as it was.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_MIN);
    }
}

/// Gives the listening socket its backlog and the options that accepted sockets inherit (tcp(7)): no delay, buffers
/// of a bounded size, keepalive and TCP_USER_TIMEOUT. Set once here, they cost no system call per connection.
pub fn prepare_listener(listener: &TcpListener) -> io::Result<()> {
    set_option(listener, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    set_option(listener, libc::SOL_SOCKET, libc::SO_RCVBUF, BUFFER)?;
    set_option(listener, libc::SOL_SOCKET, libc::SO_SNDBUF, BUFFER)?;
    watch_peer(listener)?;
    // SAFETY: two integers. A second listen(2) on a listening socket only changes its backlog.
    check(unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) }).map(drop)
}

/// Lets a socket notice within a minute that its peer's host has vanished, whether the connection is idle (keepalive) or
/// has sent something that nobody acknowledges (TCP_USER_TIMEOUT in tcp(7)). The latter also ends a connection whose
/// peer is alive and reads nothing for that long while its window is full.
pub fn watch_peer(socket: &impl AsRawFd) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    let values = [
        (libc::TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
        (libc::TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
        (libc::TCP_KEEPCNT, KEEPALIVE_PROBES),
        (libc::TCP_USER_TIMEOUT, UNACKNOWLEDGED_MAX_MS),
    ];
    for (name, value) in values {
        set_option(socket, libc::IPPROTO_TCP, name, value)?;
    }
    Ok(())
}

/// How many milliseconds what this socket has sent may go unacknowledged; 0 if the system decides.
pub fn unacknowledged_max(socket: &impl AsRawFd) -> io::Result<c_int> {
    option(socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT)
}

/// Lets the close of a socket throw away what was not delivered yet, and reset the connection; see SO_LINGER in
/// socket(7).
pub fn reset_on_close(socket: &impl AsRawFd) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_LINGER, linger)
}

fn set_option<T: Copy>(
    socket: &impl AsRawFd,
    level: c_int,
    name: c_int,
    value: T,
) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads plain integers from where it is told to, and of the length that it is told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            length,
        )
    };
    check(result).map(drop)
}

fn option(socket: &impl AsRawFd, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes one integer to where it is told to.
    let result = unsafe {
        let to = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), level, name, to, &raw mut length)
    };
    check(result).map(|_| value)
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// # Safety
/// `result` is what a system call returned: an error, or a descriptor that nobody else owns.
unsafe fn owned(result: c_int) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promises.
    check(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn option(socket: &impl AsRawFd, level: c_int, name: c_int) -> c_int {
        super::option(socket, level, name).unwrap()
    }

    /// Whether this socket ends within a minute if its peer's host vanishes, idle or with data under way.
    #[track_caller]
    fn notices(socket: &impl AsRawFd) {
        assert_eq!(option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1);
        for (name, value) in [
            (libc::TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
            (libc::TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
            (libc::TCP_KEEPCNT, KEEPALIVE_PROBES),
            (libc::TCP_USER_TIMEOUT, UNACKNOWLEDGED_MAX_MS),
        ] {
            assert_eq!(option(socket, libc::IPPROTO_TCP, name), value);
        }
    }

    #[test]
    fn a_connection_is_hung_up_when_its_peer_has_closed_it_whatever_is_unread() {
        use std::io::Write;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut peer = listener.accept().unwrap().0;
        peer.write_all(b"last words").unwrap();
        socket.peek(&mut [0]).unwrap();
        assert!(!is_hung_up(&socket));
        drop(peer);
        // The end needs a moment; nothing tells of it but the question itself.
        let until = now() + 60_000_000;
        while !is_hung_up(&socket) {
            assert!(now() < until, "it has an end, in time");
            std::thread::yield_now();
        }
        assert_eq!(socket.peek(&mut [0; 20]).unwrap(), 10);
    }

    #[test]
    fn accepted_sockets_inherit_no_delay_and_notice_a_client_that_has_vanished() {
        for host in ["127.0.0.1", "::1"] {
            let listener = TcpListener::bind((host, 0)).unwrap();
            prepare_listener(&listener).unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(option(&accepted, libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
            notices(&accepted);
        }
    }

    #[test]
    fn a_client_notices_a_server_that_has_vanished() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        watch_peer(&client).unwrap();
        notices(&client);
    }

    #[test]
    fn a_reset_throws_away_what_was_not_delivered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        reset_on_close(&client).unwrap();
        drop(client);
        let error = accepted.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn the_clock_runs_in_microseconds_and_forwards() {
        let first = now();
        assert!(first > SECOND && first < 100 * 365 * 86_400 * SECOND);
        assert!(now() >= first);
        assert!(unix_now_ns() > 1_700_000_000_000_000_000);
    }

    #[test]
    fn a_timer_is_readable_at_its_instant_and_not_before() {
        let timer = Timer::new().unwrap();
        let mut file = File::from(timer.0.try_clone().unwrap());
        let mut count = [0; 8];
        for far in [now() + 1000 * SECOND, Us::MAX] {
            timer.set(far).unwrap();
            assert_eq!(
                file.read(&mut count).unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
        }
        timer.set(0).unwrap();
        assert_eq!(file.read(&mut count).unwrap(), 8);
        assert_eq!(u64::from_ne_bytes(count), 1);
    }
}
