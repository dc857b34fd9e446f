//! Processes, for dflock(1): forks of dflock, the command that one of them becomes, their ends, and signals to them.
//! Each function has one purpose and makes a call or two. Invariant: a process that forks has one thread, so that its
//! child may call anything.
#![allow(unsafe_code, reason = "system calls")]

use std::ffi::CStr;
use std::fs;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// How a child has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With this status.
    Exited(c_int),
    /// By this signal.
    Killed(c_int),
}

/// What [`ended`] has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Children {
    /// This child has ended.
    Ended(Pid, End),
    /// All children run.
    Run,
    /// There is no child.
    None,
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

/// Takes over a descriptor of the parent in a forked child, which never drops the parent's value for it.
pub fn inherit(fd: RawFd) -> OwnedFd {
    // SAFETY: the descriptor is open, and in this process the value that owns it is dropped by nobody.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Lets the processes that descendants leave behind become children of this one; see PR_SET_CHILD_SUBREAPER(2const).
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: two integers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }).map(drop)
}

/// Lets the kernel kill this process when its parent ends, and ends it if that has happened already; see
/// PR_SET_PDEATHSIG(2const).
pub fn die_with(parent: Pid) -> io::Result<()> {
    // SAFETY: two integers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    if !is_child_of(parent) {
        exit_copy(libc::EXIT_FAILURE);
    }
    Ok(())
}

/// Whether this is still a child of that process.
pub fn is_child_of(parent: Pid) -> bool {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::getppid() == parent }
}

/// Leaves the session and the process group, so that no terminal and no signal to the group reaches this process; see
/// setsid(2).
pub fn leave_session() -> io::Result<()> {
    // SAFETY: it takes nothing.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Blocks every signal that can be blocked.
pub fn block_all() {
    // SAFETY: a set of plain integers. The call cannot fail.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Points stdin, stdout and stderr to another file, so that no reader of a pipe waits for this process.
pub fn replace_standard_streams(file: &impl AsRawFd) -> io::Result<()> {
    for fd in 0..=2 {
        // SAFETY: a descriptor of a file that lives through the call, and one that belongs to no value of ours.
        check(unsafe { libc::dup2(file.as_raw_fd(), fd) })?;
    }
    Ok(())
}

/// Closes every descriptor of a forked child but the standard streams and these. Values of the parent that own the
/// others are dropped by nobody in the child.
pub fn close_others(kept: &[RawFd]) {
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    let mut from: u32 = 3;
    for fd in kept.into_iter().map(|fd| fd as u32) {
        if fd > from {
            close_range(from, fd - 1);
        }
        from = from.max(fd + 1);
    }
    close_range(from, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    // SAFETY: three integers; what is closed belongs to no value that this process drops.
    let failed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0;
    if failed {
        // Before Linux 5.9 there is no such call.
        for fd in first..=last.min(FILES) {
            // SAFETY: as above.
            unsafe { libc::close(fd as c_int) };
        }
    }
}

/// Descriptors above this one, the usual limit of open files, are not closed by hand.
const FILES: u32 = 1024;

/// Whether SIGPIPE and SIGCHLD were ignored when this process began. The runtime of Rust ignores the first before
/// `main`, and [`hear_of_children`] changes the second.
static WERE_IGNORED: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];
const CHANGED: [c_int; 2] = [libc::SIGPIPE, libc::SIGCHLD];

/// Notes which signals are ignored, before std begins.
pub(super) fn look_at_signals() {
    for (was_ignored, signal) in WERE_IGNORED.iter().zip(CHANGED) {
        was_ignored.store(is_ignored(signal), Ordering::Relaxed);
    }
}

/// Becomes the command, with the signal mask from before `signals` was made and with the signals ignored that were
/// ignored at the start. Returns why that failed.
pub fn become_command(command: &mut Command, signals: &Signals) -> io::Error {
    let before = signals.before;
    // SAFETY: just before exec nothing is called that is not async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            for (was_ignored, signal) in WERE_IGNORED.iter().zip(CHANGED) {
                let action = match was_ignored.load(Ordering::Relaxed) {
                    true => libc::SIG_IGN,
                    false => libc::SIG_DFL,
                };
                libc::signal(signal, action);
            }
            let mask = &raw const before;
            check(libc::sigprocmask(libc::SIG_SETMASK, mask, ptr::null_mut())).map(drop)
        });
    }
    command.exec()
}

/// The next child that has ended since the last call, if there is one; see waitpid(2).
pub fn ended() -> Children {
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one integer.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
            0 => return Children::Run,
            pid if pid < 0 => return Children::None,
            pid if libc::WIFEXITED(status) => {
                return Children::Ended(pid, End::Exited(libc::WEXITSTATUS(status)));
            }
            pid if libc::WIFSIGNALED(status) => {
                return Children::Ended(pid, End::Killed(libc::WTERMSIG(status)));
            }
            // A child that has asked to be traced has stopped.
            _ => {}
        }
    }
}

/// Kills children that nobody has waited for, and waits for their end: the first process of a container may not wait
/// for orphans.
pub fn kill_and_reap(children: &[Pid]) {
    for &child in children {
        // It may have ended already.
        let _ = kill(child, libc::SIGKILL);
    }
    for &child in children {
        // SAFETY: an integer, and no memory.
        unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
    }
}

/// Whether there is a child, running or not; see waitid(2).
pub fn has_children() -> bool {
    is_there(libc::P_ALL, 0)
}

/// Whether a process is a child of this one, running or not; see waitid(2).
pub fn is_child(pid: Pid) -> bool {
    is_there(libc::P_PID, pid as libc::id_t)
}

fn is_there(kind: libc::idtype_t, id: libc::id_t) -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel fills in a structure of plain integers.
    unsafe {
        let mut info: libc::siginfo_t = zeroed();
        libc::waitid(kind, id, &raw mut info, flags) == 0
    }
}

/// Whether a child of this process is stopped, as by SIGSTOP; see waitid(2).
pub fn is_stopped(pid: Pid) -> bool {
    let flags = libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel fills in a structure of plain integers, of which one is read.
    unsafe {
        let mut info: libc::siginfo_t = zeroed();
        let found = libc::waitid(libc::P_PID, pid as libc::id_t, &raw mut info, flags);
        found == 0 && info.si_pid() == pid
    }
}

/// Sends a signal to a process.
///
/// # Errors
/// There is none (ESRCH), or it belongs to another user (EPERM).
pub fn kill(pid: Pid, signal: c_int) -> io::Result<()> {
    assert!(pid > 1, "a process of ours");
    // SAFETY: two integers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
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

/// Those of the signals that this process was not started with ignored. Only these may be blocked for a
/// [`Signals`]: it would report the others too, and an ignored signal has to stay without effect.
pub fn not_ignored(signals: &[c_int]) -> Vec<c_int> {
    let signals = signals.iter().copied();
    signals.filter(|&signal| !is_ignored(signal)).collect()
}

/// Ends this process by a signal that it has blocked, as if it had not. Returns if that fails.
pub fn die_of(signal: c_int) {
    // SAFETY: a set of plain integers and constants. They cannot fail for a signal that exists.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::kill(libc::getpid(), signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
    }
}

/// Calls `f`, which may write to the terminal from the background: SIGTTOU does not stop this process for it.
pub fn without_stopping<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: sets of plain integers, filled in by the calls. They cannot fail for a signal that exists.
    unsafe {
        let (mut set, mut before): (libc::sigset_t, libc::sigset_t) = (zeroed(), zeroed());
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTTOU);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut before);
        let result = f();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        result
    }
}

/// Gives this process a name of up to 15 bytes, for killall(1) and `ps -e`, and in place of its arguments too, for
/// `pkill -f`. Without /proc the arguments stay.
pub fn set_name(name: &CStr) -> io::Result<()> {
    // SAFETY: the kernel reads a string that ends.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) })?;
    let stat = fs::read("/proc/self/stat").unwrap_or_default();
    let Some((start, end)) = arguments(&stat) else {
        return Ok(());
    };
    let room = end.saturating_sub(start);
    let name = name.to_bytes();
    for at in 0..room {
        // The last byte stays 0; otherwise the kernel would show the environment too.
        let byte = name.get(at).filter(|_| at + 1 < room).copied();
        // SAFETY: the kernel says that the strings of argv lie here. They are in a page of this process that may be
        // written, and std has copied what it needs of them.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(start + at).write(byte.unwrap_or(0)) };
    }
    Ok(())
}

/// Where the arguments of a process begin and end in its memory, by its line of proc_pid_stat(5).
fn arguments(stat: &[u8]) -> Option<(usize, usize)> {
    // Behind the name in parentheses comes the third field; the two are the 48th and the 49th.
    let end = stat.windows(2).rposition(|two| two == b") ")?;
    let fields = std::str::from_utf8(&stat[end + 2..]).ok()?;
    let mut fields = fields.trim_end().split(' ').skip(48 - 3);
    let start = fields.next()?.parse().ok()?;
    let end = fields.next()?.parse().ok()?;
    (start > 0).then_some((start, end))
}

/// The number of this process.
pub fn own_pid() -> Pid {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::getpid() }
}

/// Lets SIGCHLD tell of children, even if this process was started with it ignored.
pub fn hear_of_children() {
    // SAFETY: two constants. It cannot fail for a signal that exists.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_a_process_lie_where_its_stat_says() {
        let fields: Vec<String> = (3..=52).map(|field| (1000 + field).to_string()).collect();
        for name in ["dflock", "a) b (c", ""] {
            let line = format!("7 ({name}) {}\n", fields.join(" "));
            assert_eq!(arguments(line.as_bytes()), Some((1048, 1049)), "{name}");
        }
        assert_eq!(arguments(b"7 (cut) S 1 2 3"), None);
        assert_eq!(arguments(b""), None);
        // A process that may not be looked at shows zeros.
        let zeros = format!("7 (x) {}\n", vec!["0"; 50].join(" "));
        assert_eq!(arguments(zeros.as_bytes()), None);
    }

    #[test]
    fn a_process_is_its_parents_child_and_nobody_elses() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as Pid;
        assert!(is_child(pid) && !is_child(own_pid()) && !is_child(1));
        child.kill().unwrap();
        // A zombie still is one.
        assert!(is_child(pid));
        child.wait().unwrap();
        assert!(!is_child(pid));
    }
}
