//! Admission to the real binary over real sockets: the limits of connections and the secret that clients say. Not
//! here: the effect of the secret on a session, which dialogues have.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use crate::daemon::{Client, Daemon, LONG, dflockd, eventually};

/// A new connection, if it was let in.
fn is_served(daemon: &Daemon) -> Option<Client> {
    let mut client = daemon.connect();
    client.is_served().then_some(client)
}

/// It is over a limit, is told so, and is closed.
#[track_caller]
fn is_sent_away(mut client: Client) {
    client.hears("error_max_connections");
    client.is_closed();
}

#[test]
fn over_the_limit_of_connections_one_is_told_so_and_closed_and_places_come_free() {
    for limit in ["--max-connections", "--max-connections-per-ip"] {
        let daemon = Daemon::start(&[limit, "2"]);
        for _ in 0..1000 {
            drop(daemon.connect());
        }
        // Exactly two fit, once the server has seen the others go.
        let mut first = None;
        eventually("there is room", || {
            first = is_served(&daemon);
            first.is_some()
        });
        let mut second = None;
        eventually("there is room for another", || {
            second = is_served(&daemon);
            second.is_some()
        });
        for _ in 0..10 {
            is_sent_away(daemon.connect());
        }
        assert!(first.as_mut().unwrap().is_served());
        drop(second);
        eventually("a place came free", || is_served(&daemon).is_some());
    }
}

#[test]
fn the_limit_for_one_address_leaves_room_for_others() {
    let daemon = Daemon::start(&["--host", "::", "--max-connections-per-ip", "1"]);
    let at = |ip: &str| {
        let stream = TcpStream::connect((ip, daemon.addr.port())).unwrap();
        Client::over(stream)
    };
    let (mut four, mut six) = (at("127.0.0.1"), at("::1"));
    assert!(four.is_served() && six.is_served());
    is_sent_away(at("127.0.0.1"));
    is_sent_away(at("::1"));
}

/// The events with this name in a log, each as its fields.
fn events<'a>(log: &'a str, name: &str) -> Vec<&'a str> {
    let mark = format!(" warn dflockd {name} ");
    let lines = log.lines();
    lines
        .filter_map(|line| Some(line.split_once(&mark)?.1))
        .collect()
}

/// The sum of the counts, at most one line a second, and the last address.
#[track_caller]
fn counted(events: &[&str], start: Instant) -> (u64, IpAddr) {
    assert!(events.len() <= 2 + start.elapsed().as_secs() as usize);
    let field = |event: &str, name: &str| -> String {
        let (_, rest) = event.split_once(&format!("{name}=")).unwrap();
        rest.split(' ').next().unwrap().to_string()
    };
    let counts = events
        .iter()
        .map(|event| field(event, "count").parse::<u64>().unwrap());
    let last: SocketAddr = field(events.last().unwrap(), "last").parse().unwrap();
    assert!(last.port() > 0);
    (counts.sum(), last.ip())
}

#[test]
fn connections_over_a_limit_are_warned_of_once_a_second_with_limit_count_and_address() {
    for limit in ["max-connections", "max-connections-per-ip"] {
        let flag = format!("--{limit}=1");
        let mut daemon = Daemon::start(&[&flag]);
        let start = Instant::now();
        let mut first = daemon.connect();
        assert!(first.is_served());
        is_sent_away(daemon.connect());
        // The first is told of at once.
        let line = daemon.event("over-limit");
        assert!(line.contains(&format!(" limit={limit} value=1 count=1 last=127.0.0.1:")));
        for _ in 0..200 {
            is_sent_away(daemon.connect());
        }
        // The others need no other event to be told of.
        let line = daemon.event("over-limit");
        drop(first);
        daemon.signal("TERM");
        let log = line + &daemon.end().log;
        let (count, ip) = counted(&events(&log, "over-limit"), start);
        assert_eq!((count, ip.to_string()), (200, "127.0.0.1".to_string()));
    }
}

#[test]
fn refusals_of_a_session_are_warned_of_with_a_count_and_the_last_address() {
    let mut daemon = Daemon::start(&["--max-locks=1", "--max-waiters=1"]);
    let (mut a, mut b) = (daemon.connect(), daemon.connect());
    a.takes("k");
    b.waits("k", LONG);
    for _ in 0..30 {
        a.says("l", "other", "0", "error_max_locks");
    }
    assert!(
        daemon
            .event("over-limit")
            .contains(" limit=max-locks value=1 count=")
    );
    a.says("l", "k", "0", "error_max_waiters");
    assert!(
        daemon
            .event("over-limit")
            .contains(" limit=max-waiters value=1 count=1 last=127.0.0.1:")
    );

    let mut daemon = Daemon::start(&["--auth-token=a", "--admin-token=b"]);
    daemon.connect().says("ping", "_", "_", "error_auth");
    assert!(
        daemon
            .event("wrong-token")
            .contains(" count=1 last=127.0.0.1:")
    );
    for _ in 0..5 {
        daemon.connect().says("auth", "_", "guess", "error_auth");
    }
    let line = daemon.event("wrong-token");
    assert!(line.contains(" count="), "{line}");
    assert!(!line.contains("guess"), "no secret in the log");
    let mut client = daemon.connect();
    client.says("auth", "_", "a", "ok");
    client.says("break", "k", "", "error_auth");
    assert!(
        daemon
            .event("break-refused")
            .contains(" count=1 last=127.0.0.1:")
    );
}

#[test]
fn a_listener_that_is_cut_off_is_warned_of() {
    let mut daemon = Daemon::start(&["--write-timeout=0"]);
    let (mut deaf, mut speaker) = (daemon.connect(), daemon.connect());
    deaf.says("listen", "c", "", "ok");
    let payload = "x".repeat(65_000);
    let frame = format!("signal\nc\n{payload}\n");
    let mut is_cut = false;
    for _ in 0..1000 {
        speaker.send(&frame);
        is_cut |= speaker.line() == "ok 0\n";
        if is_cut {
            break;
        }
    }
    assert!(is_cut);
    assert!(
        daemon
            .event("listener-cut")
            .contains(" count=1 last=127.0.0.1:")
    );
}

/// A file of this test's own, gone with it.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &[u8]) -> File {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // Nothing depends on it.
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn the_secret_may_come_from_a_file_and_is_trimmed() {
    let file = File::new("token", b" open sesame \r\n\n");
    let daemon = Daemon::start(&["--auth-token-file", file.path()]);
    let mut client = daemon.connect();
    client.says("auth", "_", "open sesame", "ok");
    client.takes("k");
    let mut stranger = daemon.connect();
    stranger.send("auth\n_\nopen\nl\nk2\n0\n");
    stranger.hears("error_auth");
    stranger.is_closed();
    client.takes("k2");
    daemon.connect().says("l", "k3", "0", "error_auth");
}

#[test]
fn a_secret_of_64_kib_arrives_over_a_real_socket() {
    let secret = "s".repeat(65_536);
    let file = File::new("long", secret.as_bytes());
    let daemon = Daemon::start(&["--auth-token-file", file.path()]);
    let mut client = daemon.connect();
    client.says("auth", "_", &secret, "ok");
    daemon
        .connect()
        .says("auth", "_", &(secret + "s"), "error_auth");
}

#[test]
fn a_file_that_says_nothing_is_status_2_and_one_that_cannot_be_read_status_1() {
    let empty = File::new("empty", b" \n\t\r\n");
    let lines = File::new("lines", b"xyzzy\nplugh\n");
    let missing = format!("{}-that-is-not-there", empty.path());
    let cases = [
        (empty.path(), 2),
        (lines.path(), 2),
        ("/dev/zero", 2),
        (missing.as_str(), 1),
    ];
    for (path, status) in cases {
        let end = Daemon::launch(dflockd(&["--port", "0", "--auth-token-file", path]));
        let end = end.err().unwrap();
        assert_eq!(end.status, Some(status), "{end:?}");
        assert!(end.log.contains(path), "{end:?}");
        assert!(!end.log.contains("xyzzy"), "no secret in the log");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn an_option_that_this_build_lacks_is_status_2_and_said() {
    for flag in ["--tls-cert=x", "--tls-key=x"] {
        let end = Daemon::launch(dflockd(&["--port", "0", flag]))
            .err()
            .unwrap();
        assert_eq!(end.status, Some(2), "{end:?}");
        assert!(end.log.contains("this build has no TLS"), "{end:?}");
    }
}
