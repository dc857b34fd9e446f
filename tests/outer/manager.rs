//! What the real binary and a service manager have to do with each other, without a manager: a socket that hears what one
//! would be told, sockets that are handed over, and a log as the journal reads it. Invariant: as in main.rs.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr as Name, UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::daemon::{Client, Daemon, End, PATIENCE, Talk, at_once, dflockd, shell};

/// The manager's end of the socket.
pub struct Manager {
    socket: UnixDatagram,
    pub path: String,
}

impl Manager {
    /// With a path, or with a name that is in no folder.
    pub fn new(is_abstract: bool) -> Manager {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let own = format!("manager-{}-{count}", std::process::id());
        let (socket, path) = if is_abstract {
            let name = Name::from_abstract_name(&own).unwrap();
            (UnixDatagram::bind_addr(&name), format!("@{own}"))
        } else {
            let path = format!("{}/{own}", env!("CARGO_TARGET_TMPDIR"));
            let _ = fs::remove_file(&path);
            (UnixDatagram::bind(&path), path)
        };
        let socket = socket.unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, path }
    }

    /// The next message, without those about the watchdog.
    #[track_caller]
    pub fn hears(&self) -> String {
        loop {
            let text = self.next().expect("a message");
            let text = text.replace("WATCHDOG=1\n", "");
            if !text.is_empty() {
                return text;
            }
        }
    }

    fn next(&self) -> Option<String> {
        let mut message = [0; 1024];
        let len = self.socket.recv(&mut message).ok()?;
        Some(String::from_utf8(message[..len].to_vec()).unwrap())
    }

    /// Whether nothing comes for so long, after what has come already.
    fn hears_nothing(&self, during: Duration) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        while self.next().is_some() {}
        self.socket.set_nonblocking(false).unwrap();
        self.socket.set_read_timeout(Some(during)).unwrap();
        let heard = self.next();
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        heard.is_none()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[test]
fn a_manager_hears_when_the_server_is_ready_reloads_and_stops() {
    at_once([true, false], |is_abstract| {
        let manager = Manager::new(is_abstract);
        let mut command = dflockd(&["--port", "0"]);
        command.env("NOTIFY_SOCKET", &manager.path);
        let daemon = Daemon::launch(command).unwrap();
        let ready = "READY=1\nSTATUS=0 holds, 0 waiters, 0 connections\n";
        assert_eq!(manager.hears(), ready);
        let mut holder = daemon.connect();
        let token = holder.takes("k");
        let mut waiter = daemon.connect();
        waiter.send("l\nk\n100\n");
        while manager.hears() != "STATUS=1 holds, 1 waiters, 2 connections\n" {}
        daemon.signal("HUP");
        let reloads = manager.hears();
        assert!(
            reloads.starts_with("RELOADING=1\nMONOTONIC_USEC="),
            "{reloads}"
        );
        assert_eq!(manager.hears(), "READY=1\n");
        daemon.signal("TERM");
        let stops = "STOPPING=1\nSTATUS=draining: 1 holds, 1 waiters, 2 connections\n";
        assert_eq!(manager.hears(), stops);
        let extends = manager.hears();
        assert!(
            extends.contains("EXTEND_TIMEOUT_USEC=15000000\n"),
            "{extends}"
        );
        holder.send(format!("r\nk\n{token}\n"));
        assert_eq!(daemon.end().status, Some(0));
    });
}

#[test]
fn the_watchdog_is_fed_while_the_loop_turns_and_only_then() {
    let manager = Manager::new(false);
    let mut command = dflockd(&["--port", "0"]);
    command.env("NOTIFY_SOCKET", &manager.path);
    command.env("WATCHDOG_USEC", "200000");
    let daemon = Daemon::launch(command).unwrap();
    for _ in 0..5 {
        while !manager.next().expect("a message").contains("WATCHDOG=1\n") {}
    }
    daemon.freeze();
    assert!(manager.hears_nothing(Duration::from_millis(500)));
    daemon.signal("CONT");
    while !manager.next().expect("a message").contains("WATCHDOG=1\n") {}
    // The watchdog of another process is none of its business.
    let other = Manager::new(true);
    let mut command = dflockd(&["--port", "0"]);
    command.env("NOTIFY_SOCKET", &other.path);
    command.env("WATCHDOG_USEC", "1000");
    command.env("WATCHDOG_PID", "1");
    let _other = Daemon::launch(command).unwrap();
    assert!(other.next().expect("a message").starts_with("READY=1\n"));
    assert!(other.hears_nothing(Duration::from_millis(100)));
}

#[test]
fn a_manager_that_cannot_be_told_keeps_the_server_from_starting() {
    let mut command = dflockd(&["--port", "0"]);
    command.env("NOTIFY_SOCKET", "vsock:2:1234");
    let end = Daemon::launch(command).err().expect("it does not start");
    assert_eq!(end.status, Some(1));
    assert_eq!(
        end.log,
        "dflockd: NOTIFY_SOCKET \"vsock:2:1234\": want a path or a name that begins with @\n"
    );
}

/// The server behind a socket that was opened before it.
fn behind(listener: &TcpListener, name: &str, args: &str) -> Daemon {
    try_behind(listener, name, args).unwrap()
}

fn try_behind(listener: &TcpListener, name: &str, args: &str) -> Result<Daemon, End> {
    let mut command = shell(&format!(
        "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$0\" {args}"
    ));
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name);
    let socket = OwnedFd::from(listener.try_clone().unwrap());
    Daemon::launch_with(command, Stdio::from(socket))
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn client(addr: SocketAddr) -> Client {
    Client::over(TcpStream::connect_timeout(&addr, PATIENCE).unwrap())
}

#[test]
fn clients_of_a_socket_that_is_handed_over_are_refused_by_no_restart() {
    let (listener, addr) = listen();
    // The name of a socket unit that gives no other; the port is that of the socket.
    let daemon = behind(&listener, "dflockd.socket", "--port 1");
    assert_eq!(daemon.addr, addr);
    let mut holder = daemon.connect();
    let token = holder.takes("k");
    daemon.signal("TERM");
    holder.send("l\nother\n0\n");
    assert_eq!(holder.line(), "error_draining\n");
    // While somebody holds, a newcomer is told so: it may be a holder who has come again.
    let mut early = client(addr);
    early.send("l\nk\n10\n");
    assert_eq!(early.line(), "error_draining\n");
    holder.send(format!("r\nk\n{token}\n"));
    holder.hears("ok");
    assert_eq!(daemon.end().status, Some(0));
    let mut late = client(addr);
    late.send("l\nk\n0\n");
    let _daemon = behind(&listener, "line", "--port 1");
    late.is_granted(33);
}

#[test]
fn a_socket_of_another_face_turns_that_face_on() {
    let (listener, addr) = listen();
    if cfg!(not(feature = "http")) {
        let end = try_behind(&listener, "http", "--port 0").err();
        let log = end.expect("it does not start").log;
        return assert!(log.contains("this build has no HTTP"), "{log}");
    }
    let daemon = behind(&listener, "http", "--port 0");
    assert_eq!(daemon.http, addr);
    assert_ne!(daemon.addr, addr);
    let mut client = client(addr);
    client.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.line(), "HTTP/1.1 200 OK\r\n");
}

#[test]
fn what_is_handed_over_and_does_not_listen_keeps_the_server_from_starting() {
    let mut command =
        shell("exec 3</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" --port 0");
    command.env_remove("LISTEN_FDNAMES");
    let end = Daemon::launch(command).err().expect("it does not start");
    assert_eq!(end.status, Some(2));
    assert_eq!(
        end.log,
        "dflockd: descriptor 3 () of the service manager: it is no TCP socket that listens\n"
    );
}

#[test]
fn a_message_for_which_there_is_no_room_comes_later() {
    let manager = Manager::new(false);
    let stuffer = UnixDatagram::unbound().unwrap();
    stuffer.set_nonblocking(true).unwrap();
    let mut stuffed = 0;
    while stuffer.send_to(b"x", &manager.path).is_ok() {
        stuffed += 1;
    }
    let mut command = dflockd(&["--port", "0"]);
    command.env("NOTIFY_SOCKET", &manager.path);
    let _daemon = Daemon::launch(command).unwrap();
    for _ in 0..stuffed {
        assert_eq!(manager.hears(), "x");
    }
    assert!(manager.hears().starts_with("READY=1\n"));
}

#[test]
fn the_rules_for_a_port_are_those_for_a_socket() {
    let (listener, _) = listen();
    let refused = |name: &str, args: &str| {
        let end = try_behind(&listener, name, args)
            .err()
            .expect("it does not start");
        assert_eq!(end.status, Some(2));
        end.log
    };
    let log = refused("distlockd", "--port 0 --auth-token s");
    assert!(
        log.contains("distlockd clients cannot send the auth token"),
        "{log}"
    );
    let log = refused("htttp", "--port 0");
    let wanted = "dflockd: socket \"htttp\": want FileDescriptorName=line, http or distlockd\n";
    assert!(log.starts_with(wanted), "{log}");
}

#[test]
fn the_journal_gets_the_priority_of_each_line_and_nobody_else_does() {
    let stream = |end: &UnixStream| {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(end));
        let data = fs::metadata(path).unwrap();
        format!("{}:{}", data.dev(), data.ino())
    };
    // Each server has a log of its own: the one before may have written more than was read.
    let priorities = |is_journal: bool| {
        let ((log, its_log), (other, _)) =
            (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let journal = stream(if is_journal { &its_log } else { &other });
        let mut command: Command = dflockd(&["--port", "0", "--host", "0.0.0.0", "--debug"]);
        command.env("JOURNAL_STREAM", journal);
        let daemon = Daemon::spawn_with_log(command, its_log.into());
        let mut log = Talk::unix(log);
        let lines = [log.line(), log.line()];
        drop(daemon);
        lines.map(|line| line.split_once("20").unwrap().0.to_string())
    };
    assert_eq!(priorities(true), ["<4>", "<6>"]);
    assert_eq!(priorities(false), ["", ""]);
}
