//! Processes, for dflock(1): a fork of dflock that guards a command, the command in a process group of its own, its
//! end, and the terminal. Each function has one purpose and makes a call or two. Invariant: a process that forks has
//! one thread, so that its child may call anything.
#![allow(unsafe_code, reason = "system calls")]

use std::ffi::{CStr, OsStr};
use std::fs;
use std::io;
use std::mem::zeroed;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::thread;
use std::time::Duration;

use libc::c_int;

use super::{Signals, check};
use crate::command::{SECOND, Us};

/// The number of a process or of a group.
pub type Pid = libc::pid_t;

/// Which of the two processes this is after a fork.
pub enum Fork {
    /// The parent, with the number of its child.
    Parent(Pid),
    /// The child.
    Child,
}

/// What became of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The child has ended with this status.
    Exited(c_int),
    /// This signal has ended the child.
    Killed(c_int),
    /// This signal has stopped the child.
    Stopped(c_int),
}

/// Forks this process, which must have one thread; see fork(2).
pub fn fork() -> io::Result<Fork> {
    assert!(
        is_alone(),
        "a child has one of the threads, and the mutexes of all"
    );
    // SAFETY: with one thread there is no mutex that the child could find locked for ever.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Whether this process has one thread. A joined thread may still be listed for a moment, so this looks again.
fn is_alone() -> bool {
    (0..1000).any(|_| {
        let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        if threads > 1 {
            thread::sleep(Duration::from_millis(1));
        }
        threads == 1
    })
}

/// The CPU time of this process, in its own code and in the kernel; see getrusage(2).
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

/// Ends a forked child at once, without flushing or cleaning up what belongs to its parent.
pub fn exit_copy(status: c_int) -> ! {
    // SAFETY: it takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

/// Leaves the process group, so that the terminal's signals do not reach this process; see setpgid(2).
pub fn leave_group() -> io::Result<()> {
    // SAFETY: two integers, which mean this process.
    check(unsafe { libc::setpgid(0, 0) }).map(drop)
}

/// Points stdin, stdout and stderr to /dev/null, so that no reader of a pipe waits for this process.
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

/// Lets the command start in a group of its own, with the signal mask from before `signals` was made. A `bound` command
/// is killed when this process ends; see PR_SET_PDEATHSIG(2const). `last` runs in the child, just before the command.
pub fn prepare(
    command: &mut Command,
    signals: &Signals,
    bound: bool,
    mut last: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
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
            // 0 is a parent in another namespace.
            if bound && ![parent, 0].contains(&libc::getppid()) {
                // The parent ended before the call above.
                libc::_exit(libc::EXIT_FAILURE);
            }
            last()?;
            let mask = &raw const before;
            check(libc::sigprocmask(libc::SIG_SETMASK, mask, ptr::null_mut())).map(drop)
        });
    }
}

/// The next change of a child, if there was one since the last call; see waitpid(2).
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

/// Sends a signal to all processes of a group; an error if there is none.
pub fn kill_group(group: Pid, signal: c_int) -> io::Result<()> {
    assert!(group > 1, "a group of ours");
    // SAFETY: two integers.
    check(unsafe { libc::kill(-group, signal) }).map(drop)
}

/// Sends a signal to a process; an error if there is none.
pub fn kill(pid: Pid, signal: c_int) -> io::Result<()> {
    assert!(pid > 1, "a child of ours");
    // SAFETY: two integers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Whether no process of a group runs any more. A zombie does not run; a process that cannot be looked at does.
pub fn is_gone(group: Pid) -> bool {
    // EPERM: there is a process, which we may not signal.
    if kill_group(group, 0).is_err_and(|e| e.raw_os_error() == Some(libc::ESRCH)) {
        return true;
    }
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    let is_process = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let mut ended = 0;
    for entry in processes {
        let Ok(entry) = entry else { return false };
        if !is_process(&entry.file_name()) {
            continue;
        }
        match fs::read(entry.path().join("stat")) {
            Ok(stat) => match run_state(&stat, group) {
                Some(true) => return false,
                Some(false) => ended += 1,
                None => {}
            },
            // The process has ended meanwhile.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {}
            Err(_) => return false,
        }
    }
    // The group had a process. If none was seen, it is hidden from us or has just ended: the next look will tell.
    ended > 0
}

/// Whether a process of the group runs, by its line of proc_pid_stat(5); None if it is of another group.
fn run_state(stat: &[u8], group: Pid) -> Option<bool> {
    // The name in parentheses may have any bytes. Behind it come the state, the parent, the group, and as the 18th the
    // number of threads: a zombie's other threads may still run.
    let end = stat.windows(2).rposition(|two| two == b") ")?;
    let fields = std::str::from_utf8(&stat[end + 2..]).ok()?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let threads = fields.get(17)?.parse::<u32>().ok()?;
    (fields[2].parse() == Ok(group)).then(|| !matches!(fields[0], "Z" | "X") || threads > 1)
}

/// Whether this process was started with the signal ignored.
pub fn is_ignored(signal: c_int) -> bool {
    // SAFETY: a sigaction is plain integers, and the call fills it in.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        libc::sigaction(signal, ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Ends this process by a signal that it has blocked, as if it had not; with `with_group` its whole group.
pub fn die_of(signal: c_int, with_group: bool) {
    // SAFETY: a set of plain integers and constants. They cannot fail for a signal that exists.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::kill(if with_group { 0 } else { libc::getpid() }, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
    }
}

/// Gives this process a name of up to 15 bytes, for ps(1) and killall(1).
pub fn set_name(name: &CStr) -> io::Result<()> {
    // SAFETY: the kernel reads a string that ends.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).map(drop)
}

/// The number of this process.
pub fn own_pid() -> Pid {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::getpid() }
}

/// The group of a process, if that exists.
pub fn group_of(pid: Pid) -> Option<Pid> {
    // SAFETY: an integer.
    check(unsafe { libc::getpgid(pid) }).ok()
}

/// Lets SIGCHLD tell of children, even if this process was started with it ignored.
pub fn hear_of_children() {
    // SAFETY: two constants. It cannot fail for a signal that exists.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// The group of this process.
pub fn own_group() -> Pid {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::getpgrp() }
}

/// The group in the foreground of the terminal `fd`, if that is one; see tcgetpgrp(3).
pub fn foreground(fd: RawFd) -> Option<Pid> {
    // SAFETY: an integer, which may be any.
    check(unsafe { libc::tcgetpgrp(fd) }).ok()
}

/// Puts a group into the foreground of the terminal `fd`, also from the background.
pub fn set_foreground(fd: RawFd, group: Pid) -> io::Result<()> {
    // SAFETY: integers and a set of plain integers. SIGTTOU would stop a process in the background, so it is blocked.
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

/// Stops the group of this process, itself included, until it is continued. An orphaned group, which no shell could
/// continue, is not stopped; see setpgid(2).
pub fn stop_group() {
    // SAFETY: two integers, which mean the own group.
    unsafe { libc::kill(0, libc::SIGTSTP) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line as the kernel writes it, of a process in group 871.
    fn stat(name: &[u8], state: char, threads: u32) -> Vec<u8> {
        let fields = format!(
            ") {state} 887 871 3403 0 -1 4227084 120 0 0 0 0 0 0 0 20 0 {threads} 0 2595359 0 0\n"
        );
        [b"888 (", name, fields.as_bytes()].concat()
    }

    #[test]
    fn a_process_runs_whatever_its_name_is() {
        let names: [&[u8]; 6] = [
            b"sleep",
            b"",
            b"a ) Z 1 1",
            b") Z 1 871 (",
            b"(\n) X 1 2",
            b"tagesabschlus\xc3",
        ];
        for name in names {
            assert_eq!(run_state(&stat(name, 'S', 1), 871), Some(true), "{name:?}");
            assert_eq!(run_state(&stat(name, 'Z', 1), 871), Some(false), "{name:?}");
        }
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_runs_while_another_does() {
        for (state, threads, runs) in [
            ('Z', 2, true),
            ('Z', 1, false),
            // The last moment of a process that is not waited for.
            ('X', 0, false),
            ('T', 1, true),
            ('D', 1, true),
        ] {
            let stat = stat(b"thr", state, threads);
            assert_eq!(run_state(&stat, 871), Some(runs), "{state} {threads}");
        }
    }

    #[test]
    fn a_process_of_another_group_does_not_count() {
        for group in [870, 87, 8710, 887, 888, 3403] {
            assert_eq!(run_state(&stat(b"871 871", 'S', 1), group), None, "{group}");
        }
    }

    #[test]
    fn a_line_that_is_cut_says_nothing() {
        let whole = stat(b"sleep", 'S', 1);
        let threads = whole.len() - b" 0 2595359 0 0\n".len();
        for end in 0..threads {
            assert_eq!(run_state(&whole[..end], 871), None, "{end}");
        }
    }
}
