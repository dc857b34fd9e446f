//! The real binary with several doors: the line protocol's and distlockd's, and one on each address of a name. Not here: the conversations behind them,
//! which dialogues and simulations have. Invariant: the second port was free a moment ago, because its option has no
//! value for any port.

use std::env;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, End, LONG, PATIENCE, dflockd, eventually, program, tools};

const ACQUIRE: u8 = 1;
const RELEASE: u8 = 2;
const HEALTH: u8 = 3;

const OK: &[u8] = &[0, 0, 0];
const BUSY: &[u8] = b"\x02\0\x0cLock is busy";
const DRAINING: &[u8] = b"\x01\0\x0eerror_draining";

/// A client of distlockd.
struct Caller(TcpStream);

impl Caller {
    fn dial(addr: SocketAddr) -> Caller {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Caller(stream)
    }

    fn send(&mut self, command: u8, name: &str, id: &str) {
        let lengths = [name.len(), id.len()].map(|len| (len as u16).to_be_bytes());
        let frame = [
            &[command][..],
            &lengths.concat(),
            name.as_bytes(),
            id.as_bytes(),
        ]
        .concat();
        self.0.write_all(&frame).expect("it reads");
    }

    #[track_caller]
    fn asks(&mut self, command: u8, name: &str, id: &str, answer: &[u8]) {
        self.send(command, name, id);
        let mut heard = vec![0; answer.len()];
        self.0.read_exact(&mut heard).expect("an answer in time");
        assert_eq!(
            heard.escape_ascii().to_string(),
            answer.escape_ascii().to_string()
        );
    }

    /// Whether it is answered, and not the connection closed or reset.
    fn is_served(&mut self) -> bool {
        let asked = self.0.write_all(&[HEALTH, 0, 0, 0, 0]);
        asked.is_ok() && self.0.read_exact(&mut [0; 3]).is_ok()
    }

    /// The server has closed it, and has said nothing more.
    #[track_caller]
    fn is_closed(&mut self) {
        let mut rest = Vec::new();
        if let Err(e) = self.0.read_to_end(&mut rest) {
            assert_eq!(e.kind(), ErrorKind::ConnectionReset);
        }
        assert_eq!(rest, [0; 0]);
    }
}

/// The server with a door for distlockd's clients at that port of that host.
fn launch(host: &str, change: impl Fn(&mut Command)) -> Result<(Daemon, SocketAddr), End> {
    for _ in 0..20 {
        let free = TcpListener::bind((host, 0)).expect("a port is free");
        let addr = free.local_addr().unwrap();
        drop(free);
        let port = addr.port().to_string();
        let mut command = dflockd(&["--port", "0", "--distlockd-port", &port]);
        change(&mut command);
        match Daemon::launch(command) {
            Ok(daemon) => return Ok((daemon, addr)),
            // Another process has taken the port meanwhile.
            Err(end) if end.log.contains(&format!(" port {port}: Address")) => {}
            Err(end) => return Err(end),
        }
    }
    panic!("whatever port is free is taken a moment later");
}

fn start(args: &[&str]) -> (Daemon, SocketAddr) {
    let started = launch("127.0.0.1", |command| {
        command.args(args);
    });
    started.expect("it starts")
}

#[test]
fn both_doors_lead_to_the_same_locks() {
    let (daemon, addr) = start(&[]);
    let (mut line, mut caller) = (daemon.connect(), Caller::dial(addr));
    caller.asks(HEALTH, "", "", OK);
    caller.asks(ACQUIRE, "k", "me", OK);
    line.says("l", "k", "0", "timeout");
    line.waits("k", LONG);
    Caller::dial(addr).asks(RELEASE, "k", "me", OK);
    line.is_granted(33);
    caller.asks(ACQUIRE, "k", "me", BUSY);
    caller.asks(RELEASE, "k", "me", b"\x01\0\x0fInvalid release");
}

#[test]
fn without_the_option_there_is_one_door_and_the_ready_line_is_the_last() {
    let daemon = Daemon::start(&[]);
    daemon.connect().takes("k");
    daemon.signal("TERM");
    assert!(!daemon.end().log.contains("distlockd"));
    // When it says that it is ready, both are.
    for _ in 0..20 {
        let (_daemon, addr) = start(&[]);
        Caller::dial(addr).asks(HEALTH, "", "", OK);
    }
}

#[test]
fn a_claim_ends_on_time_although_nobody_stirs() {
    let (daemon, addr) = start(&["--distlockd-lease", "1"]);
    let (mut line, mut caller) = (daemon.connect(), Caller::dial(addr));
    let start = Instant::now();
    caller.asks(ACQUIRE, "k", "me", OK);
    line.waits("k", LONG);
    line.is_granted(33);
    assert!(start.elapsed() >= Duration::from_secs(1), "never early");
}

#[test]
fn half_a_request_is_closed_without_a_byte_and_an_idle_client_is_not() {
    let (_daemon, addr) = start(&["--read-timeout", "1"]);
    let (mut idle, mut used) = (Caller::dial(addr), Caller::dial(addr));
    used.asks(ACQUIRE, "k", "me", OK);
    let mut half = Caller::dial(addr);
    let start = Instant::now();
    half.0.write_all(&[ACQUIRE, 0, 1]).unwrap();
    half.is_closed();
    assert!(start.elapsed() >= Duration::from_secs(1), "never early");
    assert!(idle.is_served() && used.is_served());
}

#[test]
fn whole_requests_before_the_end_are_answered() {
    let (_daemon, addr) = start(&[]);
    let mut caller = Caller::dial(addr);
    for _ in 0..1000 {
        caller.send(HEALTH, "", "");
    }
    caller.0.write_all(&[ACQUIRE, 0]).unwrap();
    caller.0.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    caller.0.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, OK.repeat(1000));
}

#[test]
fn a_name_of_65535_bytes_is_taken_and_listed() {
    let (daemon, addr) = start(&[]);
    let name = "n".repeat(65_535);
    let mut caller = Caller::dial(addr);
    caller.asks(ACQUIRE, &name, "me", OK);
    let mut line = daemon.connect();
    line.send("stats\n_\n_\n");
    let listed = line.line();
    assert!(listed.contains(&format!("{{\"key\":\"{name}\",\"owner_conn_id\":0,")));
    caller.asks(RELEASE, &name, "me", OK);
}

#[test]
fn both_doors_count_as_one_for_the_limits_of_connections() {
    for limit in ["--max-connections", "--max-connections-per-ip"] {
        let (daemon, addr) = start(&[limit, "2"]);
        let (mut line, mut caller) = (daemon.connect(), Caller::dial(addr));
        assert!(line.is_served() && caller.is_served());
        for _ in 0..10 {
            daemon.connect().hears("error_max_connections");
            Caller::dial(addr).is_closed();
        }
        assert!(line.is_served() && caller.is_served());
        // Whichever goes makes room for either.
        drop(line);
        let mut second = Caller::dial(addr);
        eventually("a place came free", || {
            second.is_served() || {
                second = Caller::dial(addr);
                false
            }
        });
        drop(caller);
        eventually("another did", || daemon.connect().is_served());
        assert!(second.is_served());
    }
}

#[test]
fn sigterm_with_none_but_distlockds_clients_ends_it_at_once() {
    for signal in ["TERM", "INT"] {
        let (daemon, addr) = start(&["--shutdown-timeout", "0"]);
        let (mut caller, mut half) = (Caller::dial(addr), Caller::dial(addr));
        caller.asks(ACQUIRE, "k", "me", OK);
        half.0.write_all(&[ACQUIRE, 0, 1]).unwrap();
        let start = Instant::now();
        daemon.signal(signal);
        assert_eq!(daemon.end().status, Some(0));
        // Neither the lease nor any timeout was waited for.
        assert!(start.elapsed() < Duration::from_secs(5));
        caller.is_closed();
        half.is_closed();
    }
}

#[test]
fn in_a_drain_the_door_stays_open_for_giving_back_until_the_last_line_is_gone() {
    let (mut daemon, addr) = start(&["--shutdown-timeout", "0"]);
    let (mut holder, mut caller) = (daemon.connect(), Caller::dial(addr));
    let token = holder.takes("held");
    caller.asks(ACQUIRE, "k", "me", OK);
    daemon.signal("TERM");
    daemon.event("draining");
    let mut newcomer = daemon.connect();
    newcomer.says("l", "k", "0", "error_draining");
    newcomer.is_closed();
    drop(newcomer);
    caller.asks(HEALTH, "", "", DRAINING);
    let mut late = Caller::dial(addr);
    late.asks(ACQUIRE, "k", "me", DRAINING);
    late.asks(RELEASE, "k", "me", OK);
    holder.says("r", "held", &token, "ok");
    holder.is_closed();
    drop(holder);
    assert_eq!(daemon.end().status, Some(0));
    caller.is_closed();
    late.is_closed();
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn with_a_token_that_its_clients_cannot_say_it_starts_only_if_told_to() {
    let token = |command: &mut Command| {
        command.env("DFLOCKD_AUTH_TOKEN", "open sesame");
    };
    let end = launch("127.0.0.1", token).err().unwrap();
    assert_eq!((end.status, end.out.as_str()), (Some(2), ""), "{end:?}");
    assert!(end.log.contains("--distlockd-no-auth"), "{end:?}");
    assert!(!end.log.contains("sesame"), "no secret in the log");
    let (daemon, addr) = launch("127.0.0.1", |command| {
        token(command);
        command.arg("--distlockd-no-auth");
    })
    .unwrap();
    Caller::dial(addr).asks(ACQUIRE, "k", "me", OK);
    daemon.connect().says("l", "k", "0", "error_auth");
    let mut line = daemon.connect();
    line.says("auth", "_", "open sesame", "ok");
    line.says("l", "k", "0", "timeout");
}

#[test]
fn a_port_that_is_taken_is_status_1_and_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let end = Daemon::launch(dflockd(&["--port", "0", "--distlockd-port", &port]));
    let end = end.err().unwrap();
    assert_eq!((end.status, end.out.as_str()), (Some(1), ""));
    assert_eq!(end.log.lines().count(), 1, "{end:?}");
    let wanted = format!("dflockd: cannot listen on 127.0.0.1 port {port}: ");
    assert!(end.log.starts_with(&wanted), "{end:?}");
    assert!(
        end.log.ends_with("; see --host and --distlockd-port\n"),
        "{end:?}"
    );
    // Also by the server itself.
    drop(taken);
    let end = Daemon::launch(dflockd(&["--port", &port, "--distlockd-port", &port]));
    let end = end.err().unwrap();
    assert_eq!(end.status, Some(1), "{end:?}");
    let own = format!("{wanted}--distlockd-port and --port have the same address\n");
    assert!(end.log.ends_with(&own), "{end:?}");
}

#[test]
fn port_0_is_any_free_port_that_the_log_names() {
    let mut daemon = Daemon::spawn(dflockd(&["--port", "0", "--distlockd-port", "0"]));
    let addr = |line: String| -> SocketAddr {
        let (_, addr) = line.split_once("addr=").unwrap();
        addr.trim_end().parse().unwrap()
    };
    let distlockd = addr(daemon.event("listening-distlockd"));
    daemon.addr = addr(daemon.event("listening"));
    assert!(distlockd.port() != 0 && distlockd != daemon.addr);
    Caller::dial(distlockd).asks(ACQUIRE, "k", "me", OK);
    daemon.connect().says("l", "k", "0", "timeout");
}

#[test]
fn the_doors_may_be_on_different_hosts() {
    let (daemon, addr) = launch("::1", |command| {
        command.args(["--distlockd-host", "::1"]);
    })
    .unwrap();
    assert_eq!(addr.ip(), Ipv6Addr::LOCALHOST);
    assert!(daemon.addr.is_ipv4());
    Caller::dial(addr).asks(ACQUIRE, "k", "me", OK);
    daemon.connect().says("l", "k", "0", "timeout");
    let wrong = TcpStream::connect(("127.0.0.1", addr.port())).map_err(|e| e.kind());
    assert_eq!(wrong.err(), Some(ErrorKind::ConnectionRefused));
}

#[test]
fn a_second_signal_cuts_distlockds_clients_too() {
    let (mut daemon, addr) = start(&["--shutdown-timeout", "0"]);
    let (mut holder, mut caller) = (daemon.connect(), Caller::dial(addr));
    holder.takes("k");
    daemon.signal("TERM");
    daemon.event("draining");
    caller.asks(HEALTH, "", "", DRAINING);
    // Signals within 0.1 s are one.
    holder.is_silent_for(Duration::from_millis(110));
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
    caller.is_closed();
}

/// The kernel allows a file of hosts of its own to root, and inside of some containers to nobody.
#[test]
fn a_name_with_two_addresses_is_served_on_both_and_the_log_names_both() {
    if !tools::has("unshare", "util-linux") {
        return;
    }
    let hosts = env::temp_dir().join(format!("dflockd-hosts-{}", std::process::id()));
    fs::write(&hosts, "::1 two.test\n127.0.0.1 two.test\n").unwrap();
    let script = "mount --bind \"$1\" /etc/hosts && \
        exec \"$0\" --port 0 --host two.test";
    for more in [&[][..], &["--user", "--map-root-user"]] {
        let mut command = program("unshare");
        command.args(more).args(["--mount", "sh", "-c", script]);
        command.arg(env!("CARGO_BIN_EXE_dflockd")).arg(&hosts);
        let Ok(mut daemon) = Daemon::launch(command) else {
            continue;
        };
        let first = daemon.addr;
        let line = daemon.event("listening");
        let (_, second) = line.split_once("addr=").unwrap();
        daemon.addr = second.trim_end().parse().unwrap();
        assert_eq!(first.port(), daemon.addr.port());
        assert_ne!(first.is_ipv4(), daemon.addr.is_ipv4());
        daemon.connect().takes("k");
        daemon.addr = first;
        daemon.connect().takes("k2");
    }
    fs::remove_file(&hosts).unwrap();
}
