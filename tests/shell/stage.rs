//! The real `dflock` as a child, its processes, and its locks as the server lists them. Invariant: a child is killed
//! and reaped when its value is dropped, and nothing is waited for without a deadline.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::daemon::{Daemon, LONG, PATIENCE, at_once, eventually, tools};

/// `dflock` with these arguments and none of the environment's settings.
pub fn dflock(args: &[&str]) -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_dflock"));
    command.args(args);
    command
}

/// A program with none of the environment's settings for `dflock`. It ignores no signal, although the tests may: a
/// script makes the commands in its background ignore some.
pub fn program(name: &str) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal", name]);
    for (variable, _) in env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"DFLOCK_") {
            command.env_remove(variable);
        }
    }
    command
}

/// The same, asking at this address.
pub fn at(addr: SocketAddr, args: &[&str]) -> Command {
    let mut command = dflock(args);
    command.env("DFLOCK_SERVER", addr.to_string());
    command
}

/// A shell text in which `dflock` is one of the commands, and asks at this address.
pub fn around(addr: SocketAddr, script: &str) -> Command {
    let mut command = program("sh");
    command.args(["-c", script]);
    command.env("DFLOCK_SERVER", addr.to_string());
    command.env("PATH", path());
    command
}

/// Where commands are looked for, `dflock` first.
fn path() -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_dflock")).parent().unwrap();
    format!("{}:{}", folder.display(), tools::path())
}

/// The two ends of a stream; the first is ours and has a deadline.
pub fn pair() -> (UnixStream, UnixStream) {
    let (ours, its) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    (ours, its)
}

/// Sends a unix signal by the name that kill(1) knows. False if there is no such process.
pub fn signal(pid: u32, name: &str) -> bool {
    let script = format!("kill -s {name} {pid} 2>/dev/null");
    let status = Command::new("sh").args(["-c", &script]).status();
    status.expect("there is a shell").success()
}

/// Whether a process runs. A zombie does not.
pub fn is_alive(pid: u32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// The state of a process, as proc_pid_stat(5) has it.
pub fn state(pid: u32) -> Option<char> {
    state_and_parent(pid).map(|(state, _)| state)
}

/// What ps(1) calls a process.
pub fn name(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_string())
}

fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    // The name in parentheses may be any bytes.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// A running `dflock`, gone when dropped.
pub struct Run {
    child: Child,
    pub pid: u32,
    input: Option<UnixStream>,
    out: BufReader<UnixStream>,
    err: BufReader<UnixStream>,
}

/// The end of a `dflock`: its exit status, or the signal as a negative number, and its last words.
#[derive(Debug, PartialEq)]
pub struct End {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl End {
    /// One line on stderr, perhaps with a hint, and nothing on stdout.
    #[track_caller]
    pub fn complains(&self, status: i32) {
        assert_eq!((self.status, self.out.as_str()), (status, ""), "{self:?}");
        let lines = self.err.lines().filter(|line| !line.starts_with("Try "));
        assert_eq!(lines.count(), 1, "{self:?}");
        assert!(self.err.starts_with("dflock: "), "{self:?}");
    }
}

impl Run {
    pub fn start(mut command: Command) -> Run {
        let ((input, stdin), (out, stdout), (err, stderr)) = (pair(), pair(), pair());
        command.stdin(OwnedFd::from(stdin));
        command.stdout(OwnedFd::from(stdout));
        command.stderr(OwnedFd::from(stderr));
        Run::of(command, input, out, err)
    }

    /// The same, where the other ends of these are its input and output already.
    pub fn of(mut command: Command, input: UnixStream, out: UnixStream, err: UnixStream) -> Run {
        let child = command.spawn().expect("it can be run");
        Run {
            pid: child.id(),
            child,
            input: Some(input),
            out: BufReader::new(out),
            err: BufReader::new(err),
        }
    }

    /// The next line that it or its command says.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a line in time");
        line
    }

    /// The next line on stderr.
    #[track_caller]
    pub fn says(&mut self) -> String {
        let mut line = String::new();
        self.err.read_line(&mut line).expect("a line in time");
        line
    }

    #[track_caller]
    pub fn hears(&mut self, line: &str) {
        assert_eq!(self.line(), format!("{line}\n"));
    }

    /// The next line that it or its command says on stderr.
    #[track_caller]
    pub fn complaint(&mut self) -> String {
        let mut line = String::new();
        self.err.read_line(&mut line).expect("a line in time");
        line
    }

    /// Its output has no reader any more.
    pub fn hang_up(&mut self) {
        self.out = BufReader::new(UnixStream::pair().unwrap().0);
    }

    pub fn send(&mut self, bytes: &str) {
        let input = self.input.as_mut().expect("its input is open");
        input.write_all(bytes.as_bytes()).unwrap();
    }

    /// Its input ends.
    pub fn close(&mut self) {
        self.input = None;
    }

    pub fn signal(&self, name: &str) {
        assert!(signal(self.pid, name), "{} is there", self.pid);
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its guard.
    pub fn guard(&self) -> u32 {
        self.child("lock-guard")
    }

    /// Its child of this name.
    pub fn child(&self, name: &str) -> u32 {
        let mut found = None;
        eventually(&format!("there is a {name}"), || {
            found = children(self.pid)
                .into_iter()
                .find(|pid| self::name(*pid).as_deref() == Some(name));
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits until it has ended by itself, and every process that could still write to its output.
    #[track_caller]
    pub fn end(mut self) -> End {
        self.close();
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).expect("an end in time");
        self.err.read_to_string(&mut err).expect("an end in time");
        let status = self.status();
        End { status, out, err }
    }

    /// Waits until it has ended by itself. Other processes may still have its output.
    #[track_caller]
    pub fn status(&mut self) -> i32 {
        let mut status = None;
        eventually("it has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let status = status.unwrap();
        status.code().unwrap_or(-status.signal().unwrap_or(0))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let family = children(self.pid);
        // It fails only if the child has ended already.
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
        for pid in family {
            // A guard ends the command and all that it has started.
            if name(pid).as_deref() != Some("lock-guard") {
                signal(pid, "KILL");
            }
        }
    }
}

pub fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<u32>().ok()
    });
    let is_child = |pid: &u32| state_and_parent(*pid).is_some_and(|(_, of)| of == parent);
    processes.filter(is_child).collect()
}

/// Runs it to its end.
#[track_caller]
pub fn run(command: Command) -> End {
    Run::start(command).end()
}

/// Waits until leases of so many seconds that began before have ended: another of that length, which began later,
/// has.
pub fn outlasts_a_lease(daemon: &Daemon, seconds: u32) {
    let (mut holder, mut waiter) = (daemon.connect(), daemon.connect());
    holder.send(format!("l\na-lease\n0 {seconds}\n"));
    holder.is_granted(seconds);
    waiter.waits("a-lease", LONG);
    waiter.is_granted(33);
}

/// How many wait for a key.
pub fn waiters(daemon: &Daemon, key: &str) -> usize {
    let stats = stats(daemon);
    let Some((_, lock)) = stats.split_once(&format!("{{\"key\":\"{key}\",\"owner")) else {
        return 0;
    };
    let (_, count) = lock.split_once("\"waiters\":").unwrap();
    let end = count.find([',', '}']).unwrap();
    count[..end].parse().unwrap()
}

/// The number of the connection that holds a lock.
pub fn holder(daemon: &Daemon, key: &str) -> Option<u64> {
    let stats = stats(daemon);
    let (_, lock) = stats.split_once(&format!("{{\"key\":\"{key}\",\"owner_conn_id\":"))?;
    lock.split(',').next()?.parse().ok()
}

/// How many connections there are, but for the one that asks.
pub fn connections(daemon: &Daemon) -> u64 {
    let stats = stats(daemon);
    let (_, count) = stats.split_once("\"connections\":").unwrap();
    count.split(',').next().unwrap().parse::<u64>().unwrap() - 1
}

fn stats(daemon: &Daemon) -> String {
    let mut client = daemon.connect();
    client.send("stats\n_\n_\n");
    client.line()
}

/// A folder of its own, gone when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dflock-{}-{number}", process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // If it stays, it is in the system's folder for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Plays all cases, so many at a time, because they also work, or look at moments.
pub fn few_at_once<T: Send>(
    count: usize,
    cases: impl IntoIterator<Item = T, IntoIter: Send>,
    play: impl Fn(T) + Sync,
) {
    let cases = Mutex::new(cases.into_iter());
    let next = || {
        cases
            .lock()
            .expect("only the next is taken under it")
            .next()
    };
    at_once(0..count, |_| {
        while let Some(case) = next() {
            play(case);
        }
    });
}
