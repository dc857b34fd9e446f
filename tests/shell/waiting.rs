//! How `dflock` waits: for a server that is away, behind addresses that are mute, over connections that break or are
//! slow, and how it leaves. Some servers here are played, line by line, where the real one would need luck. Invariant: as
//! in main.rs.

use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::daemon::{Client, Daemon, LONG, eventually};
use crate::stage::{Run, at, outlasts_a_lease, run, signal, state, waiters};

/// A server that plays along, one connection after the other.
fn play(script: impl FnOnce(TcpListener) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (addr, thread::spawn(move || script(listener)))
}

/// The next connection of a played server: its name, ping and acquire are heard, and the first is answered.
fn asked(listener: &TcpListener) -> Client {
    let mut peer = Client::over(listener.accept().unwrap().0);
    for _ in 0..9 {
        peer.line();
    }
    peer.send("ok\n");
    peer
}

/// The next connection of a played server, on which a hold is to go on.
fn renewed(listener: &TcpListener, token: &str) -> Client {
    let mut peer = Client::over(listener.accept().unwrap().0);
    assert_eq!(peer.line(), "id\n");
    peer.line();
    peer.line();
    for line in ["n", "k"] {
        assert_eq!(peer.line(), format!("{line}\n"));
    }
    assert!(peer.line().starts_with(token));
    peer
}

// Grants.

#[test]
fn a_wait_longer_than_the_lease_ends_with_the_lock() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("k");
    let args = ["--lease", "1", "k", "-c", "echo $DFLOCK_FENCE"];
    let waiter = Run::start(at(daemon.addr, &args));
    eventually("it waits", || waiters(&daemon, "k") == 1);
    outlasts_a_lease(&daemon, 1);
    let token = daemon.connect().takes("another");
    drop(holder);
    let end = waiter.end();
    // It has lost no grant: its own is the next one.
    let next = u64::from_str_radix(&token[..16], 16).unwrap() + 1;
    assert_eq!((end.status, end.out), (0, format!("{next}\n")));
}

#[test]
fn a_grant_with_which_the_connection_ends_is_none() {
    let tokens = ["1".repeat(32), "2".repeat(32)];
    let (first, second) = (tokens[0].clone(), tokens[1].clone());
    let (told, pid) = std::sync::mpsc::channel();
    let (addr, server) = play(move |listener| {
        let mut peer = asked(&listener);
        // Both are there when it looks.
        let pid: u32 = pid.recv().unwrap();
        assert!(signal(pid, "STOP"));
        eventually("it is stopped", || state(pid) == Some('T'));
        peer.send(format!("ok\nok {first} 33\n"));
        drop(peer);
        assert!(signal(pid, "CONT"));
        // The hold may have outlived its connection.
        let mut peer = renewed(&listener, &first);
        peer.send("ok\nerror\n");
        let mut peer = asked(&listener);
        peer.send(format!("ok\nok {second} 33\n"));
        assert_eq!(peer.line(), "r\n");
        peer.line();
        assert_eq!(peer.line(), format!("{second}\n"));
        peer.send("ok\n");
    });
    let client = Run::start(at(addr, &["k", "-c", "echo $DFLOCK_TOKEN"]));
    told.send(client.pid).unwrap();
    let end = client.end();
    assert_eq!((end.status, end.out), (0, format!("{}\n", tokens[1])));
    server.join().unwrap();
}

#[test]
fn a_command_is_not_started_when_its_lease_is_over() {
    let tokens = ["1".repeat(32), "2".repeat(32)];
    let (first, second) = (tokens[0].clone(), tokens[1].clone());
    let (told, pid) = std::sync::mpsc::channel();
    let (addr, server) = play(move |listener| {
        let pid: u32 = pid.recv().unwrap();
        let mut peer = asked(&listener);
        peer.send("ok\n");
        // The client has waited for so long that it renews.
        thread::sleep(Duration::from_millis(200));
        peer.send(format!("ok {first} 1\n"));
        assert_eq!(peer.line(), "n\n");
        peer.line();
        peer.line();
        assert!(signal(pid, "STOP"));
        peer.send("ok 1\n");
        // The answer is heard when the lease is over.
        thread::sleep(Duration::from_millis(1100));
        assert!(signal(pid, "CONT"));
        assert_eq!(peer.line(), "r\n", "it gives back what it may still have");
        peer.send("ok\n");
        let mut peer = asked(&listener);
        peer.send(format!("ok\nok {second} 33\n"));
        assert_eq!(peer.line(), "r\n");
        peer.send("ok\n");
    });
    let client = Run::start(at(addr, &["k", "-c", "echo $DFLOCK_TOKEN"]));
    told.send(client.pid).unwrap();
    let end = client.end();
    assert_eq!((end.status, end.out), (0, format!("{}\n", tokens[1])));
    server.join().unwrap();
}

#[test]
fn a_timeout_that_nobody_asked_for_is_status_76() {
    for (answer, wait) in [("timeout\n", &["-w", LONG][..]), ("ok\ntimeout\n", &[])] {
        for more in [&[][..], &["-q"]] {
            let (addr, server) = play(move |listener| {
                let mut peer = asked(&listener);
                peer.send(answer);
                assert_eq!(peer.line(), "", "it hangs up");
            });
            let args = [wait, more, &["k", "true"]].concat();
            run(at(addr, &args)).complains(76);
            server.join().unwrap();
        }
    }
}
