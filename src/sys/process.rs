//! Processes, for dflock(1): a copy of this one that guards a command, the command in a group of its own, its end and
//! the terminal it may have. Each function is one purpose and a call or two. Invariant: whoever forks has one thread,
//! so the copy may do whatever its parent might.
#![allow(unsafe_code, reason = "system calls")]

use std::fs;
use std::io;
use std::mem::zeroed;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use libc::c_int;

use super::{Signals, check};
use crate::command::{SECOND, Us};

/// The number of a process or of a group.
pub type Pid = libc::pid_t;

/// Which of the two one is after a fork.
pub enum Fork {
    /// The one that was there before, and the number of its copy.
    Parent(Pid),
    /// The copy.
    Child,
}

/// What became of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It has ended with this status.
    Exited(c_int),
    /// This signal has ended it.
    Killed(c_int),
    /// This signal has stopped it.
    Stopped(c_int),
}

/// Makes a copy of this process, which must have one thread; see fork(2).
pub fn fork() -> io::Result<Fork> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    assert!(
        threads == 1,
        "a copy of a process has one thread, and the locks of all"
    );
    // SAFETY: with one thread there is no lock that the copy could find held for ever.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// The CPU time that this process has had, its own and the kernel's for it; see getrusage(2).
pub fn cpu_time() -> io::Result<Us> {
    // SAFETY: a rusage is plain integers, and the call fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = zeroed();
        check(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage))?;
        usage
    };
    let span = |time: libc::timeval| time.tv_sec as Us * SECOND + time.tv_usec as Us;
    Ok(span(usage.ru_utime) + span(usage.ru_stime))
}

/// Ends a copy at once: what its parent has buffered or will clean up is not the copy's.
pub fn exit_copy(status: c_int) -> ! {
    // SAFETY: it takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

/// Leaves the group, and with it the terminal's signals; see setpgid(2).
pub fn leave_group() -> io::Result<()> {
    // SAFETY: two integers, which mean this process.
    check(unsafe { libc::setpgid(0, 0) }).map(drop)
}

/// Points stdin, stdout and stderr to /dev/null, so that nobody waits for their end.
pub fn close_standard_streams() -> io::Result<()> {
    for fd in 0..=2 {
        // SAFETY: a descriptor of a file that lives through the call, and one that belongs to no value of ours.
        unsafe {
            let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
            check(null)?;
            check(libc::dup2(null, fd))?;
            libc::close(null);
        }
    }
    Ok(())
}

/// Lets the command start in a group of its own, with the signals blocked that were blocked before `signals` was
/// made, and, if it is to be `bound`, die when this process does; see PR_SET_PDEATHSIG(2const).
pub fn prepare(command: &mut Command, signals: &Signals, bound: bool) {
    let before = signals.before;
    // SAFETY: two integers.
    let parent = unsafe { libc::getpid() };
    command.process_group(0);
    // SAFETY: between fork and exec nothing is called that is not async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            if bound {
                check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            }
            if bound && libc::getppid() != parent {
                // It has gone before it could be watched.
                libc::_exit(libc::EXIT_FAILURE);
            }
            let mask = &raw const before;
            check(libc::sigprocmask(libc::SIG_SETMASK, mask, ptr::null_mut())).map(drop)
        });
    }
}

/// What became of some child, if anything did since the last call; see waitpid(2).
pub fn changed() -> Option<(Pid, Change)> {
    let mut status = 0;
    // SAFETY: the kernel writes one integer.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
    if pid <= 0 {
        return None;
    }
    let change = if libc::WIFEXITED(status) {
        Change::Exited(libc::WEXITSTATUS(status))
    } else if libc::WIFSTOPPED(status) {
        Change::Stopped(libc::WSTOPSIG(status))
    } else {
        Change::Killed(libc::WTERMSIG(status))
    };
    Some((pid, change))
}

/// Sends a signal to all of a group; an error if there is nobody.
pub fn kill_group(group: Pid, signal: c_int) -> io::Result<()> {
    assert!(group > 1, "a group of ours");
    // SAFETY: two integers.
    check(unsafe { libc::kill(-group, signal) }).map(drop)
}

/// Whether nobody of a group runs any more: those that have ended and whom nobody has waited for do not count.
pub fn is_gone(group: Pid) -> bool {
    if kill_group(group, 0).is_err() {
        return true;
    }
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    // proc_pid_stat(5): after the name in parentheses come the state, the parent and the group.
    let runs = |stat: String| {
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        let (state, _, of) = (fields.next()?, fields.next()?, fields.next()?);
        Some(of.parse() == Ok(group) && !matches!(state, "Z" | "X"))
    };
    !processes
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .any(|stat| runs(stat) == Some(true))
}

/// Lets SIGCHLD tell of children, even if whoever started this process ignored it.
pub fn hear_of_children() {
    // SAFETY: two constants. It cannot fail for a signal that exists.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// The group of this process.
pub fn own_group() -> Pid {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::getpgrp() }
}

/// The group that has the terminal `fd`, if that is one; see tcgetpgrp(3).
pub fn foreground(fd: RawFd) -> Option<Pid> {
    // SAFETY: an integer, which may be any.
    check(unsafe { libc::tcgetpgrp(fd) }).ok()
}

/// Gives the terminal `fd` to a group, also from the background.
pub fn set_foreground(fd: RawFd, group: Pid) -> io::Result<()> {
    // SAFETY: integers and a set of plain integers; a background process would be stopped, but for the blocking.
    unsafe {
        let (mut set, mut before): (libc::sigset_t, libc::sigset_t) = (zeroed(), zeroed());
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTTOU);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut before);
        let result = check(libc::tcsetpgrp(fd, group));
        libc::sigprocmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        result.map(drop)
    }
}

/// Stops all of this process' group, itself included, until somebody lets it go on. Nothing happens if nobody is left
/// who could; see the orphaned process groups of setpgid(2).
pub fn stop_group() {
    // SAFETY: two integers, which mean the own group.
    unsafe { libc::kill(0, libc::SIGTSTP) };
}
