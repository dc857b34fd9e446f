//! A terminal with a command in it: a pty whose input are keys and whose lines end with CR, as in script(1). Not
//! here: the keys. Invariant: only processes in the terminal have it open, so that its screen ends when the last of
//! them has; it hangs up when nobody reads its screen any more, or
//! after [`LIFE`], so that a test can say what the screen showed.

#![allow(
    unsafe_code,
    reason = "unlockpt(3), setsid(2) and poll(2) are not in std"
)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::PATIENCE;
use crate::stage::{Run, around, pair};

/// Longer than any script at a terminal takes, and shorter than a reader's patience.
const LIFE: Duration = PATIENCE.checked_div(3).expect("not by zero");

impl Run {
    /// A command in a terminal of its own, in which `dflock` asks at this address.
    pub fn on_terminal(addr: SocketAddr, command: &str) -> Run {
        let screen = File::options()
            .read(true)
            .write(true)
            .open("/dev/ptmx")
            .expect("there are terminals");
        // SAFETY: a call with a descriptor that is open, and no memory.
        let unlocked = unsafe { libc::unlockpt(screen.as_raw_fd()) };
        assert_eq!(unlocked, 0, "{}", std::io::Error::last_os_error());
        let number = number(&screen);
        // The first terminal that the leader of a session opens is the one that controls it: tty_ioctl(4).
        let script =
            format!("exec 0<>/dev/pts/{number} && exec >&0 2>&0 && stty -echo && exec {command}");
        let mut terminal = around(addr, &script);
        terminal.env("LC_ALL", "C");
        // SAFETY: setsid(2) may be called between fork and exec.
        unsafe {
            terminal.pre_exec(|| match libc::setsid() {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        terminal
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let ((input, typed), (out, shown)) = (pair(), pair());
        thread::spawn(move || relay(screen, Some(typed), shown));
        Run::of(terminal, input, out, pair().0)
    }
}

/// Of the terminal behind this end, as its file in /dev/pts is called.
fn number(screen: &File) -> u32 {
    let path = format!("/proc/self/fdinfo/{}", screen.as_raw_fd());
    let text = fs::read_to_string(path).expect("it is open");
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let index = lines.find(|(name, _)| *name == "tty-index");
    let (_, index) = index.expect("proc_pid_fdinfo(5) has it since Linux 4.15");
    index.trim().parse().expect("a number")
}

/// Until the screen ends, which it does with EIO, or has no reader any more, or is too old. Keys come until their end is
/// closed.
fn relay(mut screen: File, mut typed: Option<UnixStream>, mut shown: UnixStream) {
    let mut buffer = [0; 4096];
    let end = Instant::now() + LIFE;
    loop {
        let keys = typed.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let mut polled = [
            (screen.as_raw_fd(), libc::POLLIN),
            (keys, libc::POLLIN),
            (shown.as_raw_fd(), 0),
        ]
        .map(|(fd, events)| libc::pollfd {
            fd,
            events,
            revents: 0,
        });
        let left = end.saturating_duration_since(Instant::now());
        let left = i32::try_from(left.as_millis()).expect("less than a minute");
        // SAFETY: three descriptors, of which poll(2) passes over a negative one.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), 3, left) };
        if ready <= 0 || polled[2].revents != 0 {
            return;
        }
        if polled[1].revents != 0
            && let Some(keys) = &mut typed
        {
            match keys.read(&mut buffer) {
                Ok(n @ 1..) if screen.write_all(&buffer[..n]).is_ok() => {}
                _ => typed = None,
            }
        }
        if polled[0].revents != 0 {
            match screen.read(&mut buffer) {
                Ok(n @ 1..) if shown.write_all(&buffer[..n]).is_ok() => {}
                _ => return,
            }
        }
    }
}
