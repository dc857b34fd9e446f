//! A terminal with a command in it: a pty whose input are keys and whose lines end with CR, as in script(1). Not
//! here: the keys. Invariant: only processes in the terminal have it open, so that its screen ends when the last of
//! them has.

#![allow(unsafe_code, reason = "neither unlockpt(3) nor setsid(2) is in std")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::thread;

use crate::stage::{Run, around, pair};

impl Run {
    /// A command in a terminal of its own, in which `dflock` asks at this address.
    pub fn on_terminal(addr: SocketAddr, command: &str) -> Run {
        let mut screen = File::options()
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
        let ((input, mut typed), (out, mut shown)) = (pair(), pair());
        let mut keys = screen.try_clone().expect("it can be cloned");
        thread::spawn(move || relay(&mut typed, &mut keys));
        thread::spawn(move || relay(&mut screen, &mut shown));
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

/// Until either side ends; the screen does so with EIO.
fn relay(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
}
