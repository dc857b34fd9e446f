//! The log of the real binary: a reader that stops does not stop the server. Not here: how a line is cut and counted,
//! which unit tests have. Invariant: as in main.rs.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;

use crate::daemon::{Client, Daemon, LONG, dflockd, eventually};

/// A server whose log nobody reads, ready.
fn unread(log: OwnedFd, args: &[&str]) -> Daemon {
    let command = dflockd(&[&["--port", "0"], args].concat());
    let mut daemon = Daemon::spawn_with_log(command, log);
    eventually("it listens", || {
        let port = daemon.listening_port();
        port.map(|port| daemon.addr.set_port(port)).is_some()
    });
    daemon
}

/// A pipe whose reader waits for nothing.
fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = io::pipe().unwrap();
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    (options.open(path).unwrap(), writer.into())
}

/// Asks so often for a lock that the same client holds. Each is refused, and is a line of some 2,000 bytes in the log.
fn lock_oneself_out(client: &mut Client, times: usize) {
    // Each of the bytes is no text, and 8 characters in the log.
    let key = [&[0xff; 250][..], b"\n"].concat();
    let frame = [b"l\n", &key[..], LONG.as_bytes(), b"\n"].concat();
    client.send(frame.repeat(times));
    for _ in 0..times {
        client.hears("error_deadlock");
    }
}

fn take(client: &mut Client) {
    client.send([b"l\n", &[0xff; 250][..], b"\n0\n"].concat());
    client.is_granted(33);
}

/// A log of whole lines, each of at most 4,096 bytes. Returns how many lines it says were dropped.
fn count_dropped(log: &[u8]) -> usize {
    let log = str::from_utf8(log).unwrap();
    assert!(log.ends_with('\n'));
    let counts = log.lines().map(|line| {
        assert!(line.len() < 4096 && line.contains(" dflockd "), "{line}");
        let count = line.split_once(" log-dropped count=");
        count.map_or(0, |(_, count)| count.parse::<usize>().unwrap())
    });
    counts.sum()
}

#[test]
fn a_pipe_that_nobody_reads_stops_nobody_and_what_it_missed_is_counted() {
    let (mut reader, writer) = pipe();
    let daemon = unread(writer, &["--debug"]);
    let (mut stuck, mut other) = (daemon.connect(), daemon.connect());
    take(&mut stuck);
    for _ in 0..20 {
        lock_oneself_out(&mut stuck, 16);
        assert!(other.is_served());
    }
    // There is room again, and the next line says how many there was none for.
    reader.read_exact(&mut [0; 20_000]).unwrap();
    lock_oneself_out(&mut stuck, 1);
    daemon.signal("TERM");
    drop((stuck, other));
    assert_eq!(daemon.end().status, Some(0));
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    let at = rest.iter().position(|&byte| byte == b'\n').unwrap();
    let dropped = count_dropped(&rest[at + 1..]);
    // A pipe has room for 32 lines of this length at most, and there were 320.
    assert!((288..=320).contains(&dropped), "{dropped}");
    let text = String::from_utf8_lossy(&rest);
    assert!(text.contains(" stopped "), "{text}");
}

#[test]
fn a_socket_that_nobody_reads_stops_nobody() {
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let daemon = unread(writer.into(), &["--debug"]);
    let (mut stuck, mut other) = (daemon.connect(), daemon.connect());
    take(&mut stuck);
    for _ in 0..40 {
        lock_oneself_out(&mut stuck, 16);
        assert!(other.is_served());
    }
    daemon.signal("TERM");
    drop((stuck, other));
    assert_eq!(daemon.end().status, Some(0));
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest.len() < 40 * 16 * 2000, "not all found room");
    count_dropped(&rest);
}

/// The first waits for the second, which waits for the third, and so on.
#[test]
fn a_deadlock_of_64_long_keys_is_a_line_that_says_it_was_cut() {
    let mut daemon = Daemon::start(&["--debug"]);
    let key = |n: usize| [&[0xff; 200][..], format!("{n:02}").as_bytes()].concat();
    let mut crowd: Vec<Client> = (0..64).map(|_| daemon.connect()).collect();
    let ask = |client: &mut Client, n: usize, wait: &str| {
        client.send([b"l\n", &key(n)[..], b"\n", wait.as_bytes(), b"\n"].concat());
    };
    for (n, client) in crowd.iter_mut().enumerate() {
        ask(client, n, "0");
        client.is_granted(33);
    }
    for (n, client) in crowd[..63].iter_mut().enumerate() {
        client.send("ping\n_\n_\n");
        ask(client, n + 1, LONG);
        client.hears("ok");
    }
    ask(&mut crowd[63], 0, LONG);
    crowd[63].hears("error_deadlock");
    let line = daemon.event("deadlock");
    assert!(
        line.len() <= 4096 && line.ends_with("}\" cut=true\n"),
        "{line}"
    );
    assert!(crowd[63].is_served());
}
