//! Admission to the real binary over real sockets: the limits of connections and the secret that clients say. Not
//! here: the effect of the secret on a session, which dialogues have.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;

use crate::daemon::{Client, Daemon, dflockd, eventually};

/// A new connection, if it was let in.
fn is_served(daemon: &Daemon) -> Option<Client> {
    let mut client = daemon.connect();
    client.is_served().then_some(client)
}

#[test]
fn over_the_limit_of_connections_one_is_closed_without_a_word_and_places_come_free() {
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
            daemon.connect().is_closed();
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
    at("127.0.0.1").is_closed();
    at("::1").is_closed();
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

#[test]
fn an_option_that_this_version_lacks_is_status_2_and_said() {
    for flag in ["--tls-cert=x", "--tls-key=x"] {
        let end = Daemon::launch(dflockd(&["--port", "0", flag]))
            .err()
            .unwrap();
        assert_eq!(end.status, Some(2), "{end:?}");
        assert!(end.log.contains("not in this version"), "{end:?}");
    }
}
