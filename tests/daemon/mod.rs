//! The real server as a child process, and its clients over real sockets. A child's input and output are sockets too,
//! because only sockets can be read with a deadline: nothing here waits for ever. Invariant: a child is killed and
//! reaped when its value is dropped, whatever the test did.

#[allow(dead_code, reason = "not every test program has one")]
pub mod lasting;
#[cfg(feature = "tls")]
#[allow(dead_code, reason = "not every test program uses all of it")]
pub mod pki;
#[allow(dead_code, reason = "not every test program plays a server")]
pub mod played;
pub mod tools;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that must happen. No limit of the server or of a client that a test waits for is as
/// long: else a slow machine would decide which of the two is over first.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// A wait, in seconds, that is not over before the test has lost its patience.
pub const LONG: &str = "100";

/// A program with none of the environment's settings for the server.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    for (variable, _) in env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"DFLOCKD_") {
            command.env_remove(variable);
        }
    }
    command
}

/// The server with these arguments.
pub fn dflockd(args: &[&str]) -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_dflockd"));
    command.args(args);
    command
}

/// A shell that sets limits or descriptors and then becomes the server, whose path is `$0`.
pub fn shell(script: &str) -> Command {
    let mut command = program("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_dflockd")]);
    command
}

/// Polls a condition that has no event to wait for.
#[track_caller]
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    // The pause leaves the processor to the process that is waited for.
    poll(what, is_so, || thread::sleep(Duration::from_millis(1)));
}

/// The same without a pause, where the moment itself matters.
#[track_caller]
pub fn spin(what: &str, is_so: impl FnMut() -> bool) {
    poll(what, is_so, thread::yield_now);
}

#[track_caller]
fn poll(what: &str, mut is_so: impl FnMut() -> bool, pause: impl Fn()) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}, in time");
        pause();
    }
}

/// A port that is free, below the range that the kernel hands out: for an option where 0 means no door, and for a server
/// that comes back to its port.
#[allow(dead_code, reason = "not every test program has such a server")]
pub fn free_port() -> u16 {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let mine = std::process::id() as u16 % 1000 * 10;
    let mut ports = (0..10_000).map(|_| {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        20_000 + mine.wrapping_add(count) % 10_000
    });
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).expect("there is a free port")
}

/// Plays all cases at the same time, because they wait more than they work.
pub fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, play: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| play(case));
        }
    });
}

/// A running server, gone when dropped.
pub struct Daemon {
    child: Child,
    /// Of the server itself; the child may have started it.
    pub pid: u32,
    pub addr: SocketAddr,
    /// Where it speaks HTTP; port 0 if it does not.
    #[allow(dead_code, reason = "not every test program speaks HTTP")]
    pub http: SocketAddr,
    /// Where it speaks to clients of distlockd; port 0 if it does not.
    #[allow(dead_code, reason = "not every test program speaks distlockd")]
    pub distlockd: SocketAddr,
    /// What it had logged when it was ready.
    #[allow(dead_code, reason = "one program asks")]
    pub said: String,
    out: Talk<UnixStream>,
    log: Talk<UnixStream>,
}

/// The end of a server, and all that it has said.
#[derive(Debug)]
pub struct End {
    pub status: Option<i32>,
    pub out: String,
    pub log: String,
}

impl Daemon {
    /// The server on any port, with these arguments, ready.
    pub fn start(args: &[&str]) -> Daemon {
        Daemon::launch(dflockd(&[&["--port", "0"], args].concat())).expect("it starts")
    }

    /// Waits until it is ready, or has ended.
    pub fn launch(command: Command) -> Result<Daemon, End> {
        Daemon::launch_with(command, Stdio::null())
    }

    /// The same with something at its standard input.
    pub fn launch_with(command: Command, input: Stdio) -> Result<Daemon, End> {
        let (log, its_log) = UnixStream::pair().unwrap();
        let mut daemon = Daemon::spawn_with(command, input, its_log.into());
        daemon.log = Talk::unix(log);
        let mut log = String::new();
        loop {
            let line = daemon.log.line();
            log.push_str(&line);
            if line.is_empty() {
                return Err(End {
                    log,
                    ..daemon.end()
                });
            }
            let at = |face: &str| {
                let (_, rest) = line.split_once(&format!(" info dflockd {face} addr="))?;
                let addr = rest.split_whitespace().next()?;
                Some(addr.parse().expect("an address with a port"))
            };
            daemon.http = at("listening-http").unwrap_or(daemon.http);
            daemon.distlockd = at("listening-distlockd").unwrap_or(daemon.distlockd);
            if let Some(addr) = at("listening") {
                (daemon.addr, daemon.said) = (addr, log);
                return Ok(daemon);
            }
        }
    }

    /// Starts it and waits for nothing.
    pub fn spawn(command: Command) -> Daemon {
        let (log, its_log) = UnixStream::pair().unwrap();
        let mut daemon = Daemon::spawn_with_log(command, its_log.into());
        daemon.log = Talk::unix(log);
        daemon
    }

    /// The same with a log of the test's own.
    pub fn spawn_with_log(command: Command, log: OwnedFd) -> Daemon {
        Daemon::spawn_with(command, Stdio::null(), log)
    }

    fn spawn_with(mut command: Command, input: Stdio, log: OwnedFd) -> Daemon {
        let (out, its_out) = UnixStream::pair().unwrap();
        command.stdin(input);
        command.stdout(OwnedFd::from(its_out));
        command.stderr(log);
        let child = command.spawn().expect("it can be run");
        // The command has copies of the child's ends of the sockets; without them the child's end is EOF here.
        drop(command);
        Daemon {
            pid: child.id(),
            child,
            addr: ([127, 0, 0, 1], 0).into(),
            http: ([127, 0, 0, 1], 0).into(),
            distlockd: ([127, 0, 0, 1], 0).into(),
            said: String::new(),
            out: Talk::unix(out),
            log: Talk::unix(UnixStream::pair().unwrap().0),
        }
    }

    /// Waits until it has ended by itself.
    pub fn end(mut self) -> End {
        let log = self.log.rest();
        let out = self.out.rest();
        let status = self.child.wait().expect("a child can be waited for").code();
        End { status, out, log }
    }

    /// Kills it with SIGKILL. Its end has a status only if it had ended by itself before.
    #[allow(dead_code, reason = "one program does so")]
    pub fn kill(mut self) -> End {
        // It fails only if the child has ended already.
        let _ = self.child.kill();
        self.end()
    }

    /// Waits for the next event in the log with this name.
    pub fn event(&mut self, name: &str) -> String {
        loop {
            let line = self.log.line();
            assert!(!line.is_empty(), "it ended before {name}");
            if line.split(' ').nth(3).map(str::trim_end) == Some(name) {
                return line;
            }
        }
    }

    /// The log has no reader any more.
    pub fn hang_up_log(&mut self) {
        self.log = Talk::unix(UnixStream::pair().unwrap().0);
    }

    pub fn connect(&self) -> Client {
        Client::over(TcpStream::connect_timeout(&self.addr, PATIENCE).expect("it listens"))
    }

    /// Sends it a unix signal, by the name that kill(1) knows.
    pub fn signal(&self, name: &str) {
        let script = format!("kill -s {name} {}", self.pid);
        let status = Command::new("sh").args(["-c", &script]).status();
        assert!(status.expect("there is a shell").success(), "{script}");
    }

    /// Stops it, and waits until it has stopped: on a busy machine it may run on for a while.
    pub fn freeze(&self) {
        self.signal("STOP");
        eventually("it has stopped", || self.status("State") == "T");
    }

    /// How many descriptors it has open.
    pub fn fds(&self) -> usize {
        self.descriptors().count()
    }

    /// Whether each number below a limit is in use; there may be inherited ones above it.
    pub fn is_full(&self, limit: usize) -> bool {
        self.descriptors().filter(|&(fd, _)| fd < limit).count() == limit
    }

    /// The numbers of its descriptors, each with the file behind it.
    fn descriptors(&self) -> impl Iterator<Item = (usize, String)> {
        let folder = fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("it runs");
        folder.filter_map(|entry| {
            let path = entry.ok()?.path();
            // It may be closed by now.
            let to = fs::read_link(&path).ok()?.to_str()?.to_string();
            Some((path.file_name()?.to_str()?.parse().ok()?, to))
        })
    }

    /// The first word of a line of proc_pid_status(5).
    pub fn status(&self, field: &str) -> String {
        status(self.pid, field).unwrap_or_else(|| panic!("a line {field}"))
    }

    /// The most memory that it ever had resident, in kB.
    pub fn memory_kb(&self) -> u64 {
        self.status("VmHWM").parse().unwrap()
    }

    /// The processor time that it has used, in ticks of 10 ms.
    pub fn ticks(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("it runs");
        // The name in parentheses may contain anything; utime and stime are fields 14 and 15.
        let (_, fields) = text.rsplit_once(") ").unwrap();
        let times = fields.split(' ').skip(11).take(2);
        times.map(|time| time.parse::<u64>().unwrap()).sum()
    }

    /// The port that it listens on, by the numbers of its sockets: for a server without a log.
    pub fn listening_port(&self) -> Option<u16> {
        let links: Vec<String> = self.descriptors().map(|(_, to)| to).collect();
        let table = fs::read_to_string("/proc/net/tcp").expect("there is TCP");
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (addr, state, inode) = (fields[1], fields[3], fields[9]);
            let is_its = state == "0A" && links.contains(&format!("socket:[{inode}]"));
            is_its.then(|| u16::from_str_radix(addr.split(':').nth(1).unwrap(), 16).unwrap())
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

fn kill(child: &mut Child) {
    // It fails only if the child has ended already.
    let _ = child.kill();
    child.wait().expect("a child can be waited for");
}

fn status(pid: u32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(":"));
    let (_, value) = lines.find(|(name, _)| *name == field)?;
    value.split_whitespace().next().map(str::to_string)
}

/// The server as process 1 of a namespace of its own; None where the kernel refuses one, as inside of some
/// containers.
pub fn as_process_1() -> Option<Daemon> {
    if !tools::has("unshare", "util-linux") {
        return None;
    }
    [&[][..], &["--user", "--map-root-user"]]
        .into_iter()
        .find_map(|more| {
            let mut command = program("unshare");
            command.args(more).args(["--fork", "--pid", "--kill-child"]);
            command.args([env!("CARGO_BIN_EXE_dflockd"), "--port", "0"]);
            let mut daemon = Daemon::launch(command).ok()?;
            let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
                let name = entry.ok()?.file_name();
                name.to_str()?.parse::<u32>().ok()
            });
            let parent = Some(daemon.pid.to_string());
            daemon.pid = processes
                .filter(|&pid| status(pid, "PPid") == parent)
                .last()
                .expect("unshare has a child");
            Some(daemon)
        })
}

/// A shell command with nc in it, gone when dropped.
pub struct Nc {
    child: Child,
    pub screen: Talk<UnixStream>,
}

impl Nc {
    /// Runs it with this PATH. The screen is its input and its output.
    pub fn run(script: &str, path: &str) -> Nc {
        let (ours, its) = UnixStream::pair().unwrap();
        let child = Command::new("sh")
            .args(["-c", script])
            .env("PATH", path)
            .stdin(OwnedFd::from(its.try_clone().unwrap()))
            .stdout(OwnedFd::from(its))
            .spawn()
            .expect("there is a shell");
        Nc {
            child,
            screen: Talk::unix(ours),
        }
    }
}

impl Drop for Nc {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// One end of a connection, line by line.
pub struct Talk<S>(BufReader<S>);

/// A client of the server.
pub type Client = Talk<TcpStream>;

impl Talk<UnixStream> {
    pub fn unix(stream: UnixStream) -> Talk<UnixStream> {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Talk(BufReader::new(stream))
    }
}

impl<S: Read + Write> Talk<S> {
    /// A connection over any stream, which has its own deadlines.
    #[allow(dead_code, reason = "not every test program has other streams")]
    pub fn with(stream: S) -> Talk<S> {
        Talk(BufReader::new(stream))
    }

    /// The stream itself.
    pub fn stream(&mut self) -> &mut S {
        self.0.get_mut()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let written = self.stream().write_all(bytes.as_ref());
        written.expect("the other side is there and reads");
    }

    /// The next line, with its LF; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line in time");
        line
    }

    /// All that comes until the end.
    pub fn rest(&mut self) -> String {
        let mut text = String::new();
        self.0.read_to_string(&mut text).expect("an end in time");
        text
    }

    #[track_caller]
    pub fn hears(&mut self, line: &str) {
        assert_eq!(self.line(), format!("{line}\n"));
    }

    /// The next line is a grant with this lease in seconds; returns its token.
    #[track_caller]
    pub fn is_granted(&mut self, lease: u32) -> String {
        let line = self.line();
        let fields: Vec<&str> = line.split(' ').collect();
        let is_grant = fields.len() == 3 && fields[0] == "ok" && fields[1].len() == 32;
        assert!(
            is_grant && fields[2] == format!("{lease}\n"),
            "granted: {line:?}"
        );
        fields[1].to_string()
    }

    /// Sends a frame and checks the answer.
    #[track_caller]
    pub fn says(&mut self, command: &str, key: &str, argument: &str, answer: &str) {
        self.send(format!("{command}\n{key}\n{argument}\n"));
        self.hears(answer);
    }

    /// Takes a key that is free; returns the token.
    #[track_caller]
    pub fn takes(&mut self, key: &str) -> String {
        self.send(format!("l\n{key}\n0\n"));
        self.is_granted(33)
    }

    /// The server has closed in order, and has said nothing more.
    #[track_caller]
    pub fn is_closed(&mut self) {
        assert_eq!(self.line(), "");
    }
}

impl Client {
    pub fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Talk(BufReader::new(stream))
    }

    /// Begins to wait. The ping before is in the same segment, so its answer says that the server has both.
    #[track_caller]
    pub fn waits(&mut self, key: &str, argument: &str) {
        self.send(format!("ping\n_\n_\nl\n{key}\n{argument}\n"));
        self.hears("ok");
    }

    /// Whether a ping is answered, and not the connection closed or reset.
    pub fn is_served(&mut self) -> bool {
        if self.stream().write_all(b"ping\n_\n_\n").is_err() {
            return false;
        }
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(_) => line == "ok\n",
            Err(e) if e.kind() == ErrorKind::WouldBlock => panic!("neither answered nor closed"),
            Err(_) => false,
        }
    }

    /// Nothing comes for so long.
    #[track_caller]
    pub fn is_silent_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.stream().set_read_timeout(Some(left)).unwrap();
            // The call may also be interrupted, and the rest of the time is left then.
            let silence = self.0.fill_buf().map(<[u8]>::len).map_err(|e| e.kind());
            let is_silent = [ErrorKind::WouldBlock, ErrorKind::Interrupted].map(Err);
            assert!(is_silent.contains(&silence), "{silence:?}");
        }
        self.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    }
}
