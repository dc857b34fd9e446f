//! A command under a lock whose server goes away and comes back. Invariant: as in main.rs.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::Duration;

use crate::daemon::played::{Played, TOKEN, converse, frame};
use crate::daemon::{Client, at_once};
use crate::stage::{Run, at};

/// Longer than dflock waits for the answer to a release.
const AWAY: Duration = Duration::from_millis(1300);

/// Runs until its input ends.
const SCRIPT: &str = "echo ready; read line; exit 6";

/// It runs under a lease that is longer than any test.
fn holder(server: &Played) -> (Run, Client) {
    let args = ["--id", "me", "k", "-c", SCRIPT];
    let mut holder = Run::start(at(server.addr, &args));
    let peer = server.grants(1000);
    holder.hears("ready");
    (holder, peer)
}

#[track_caller]
fn says_that_it_is_lost(holder: &mut Run, server: &Played) {
    let line = holder.says();
    let head = format!("dflock: the connection to {} is lost: ", server.addr);
    assert!(
        line.starts_with(&head) && line.ends_with("; connecting again\n"),
        "{line}"
    );
}

#[test]
fn a_command_outlives_a_server_that_is_away_for_a_while() {
    let mut server = Played::new();
    let (mut holder, peer) = holder(&server);
    server.goes(peer);
    says_that_it_is_lost(&mut holder, &server);
    // Nothing can come, and that is no event.
    thread::sleep(AWAY);
    assert!(holder.is_running());
    server.comes_back();
    let mut peer = server.accept();
    let renewal = format!("n\nk\n{TOKEN} 1000\n");
    converse(
        &mut peer,
        &[("id\n_\nme\n", "ok\n"), (&renewal, "ok 1000\n")],
    );
    while !holder.says().ends_with(" is back\n") {}
    holder.close();
    converse(&mut peer, &[(&format!("r\nk\n{TOKEN}\n"), "ok\n")]);
    let end = holder.end();
    assert_eq!((end.status, end.err.as_str()), (6, ""), "{end:?}");
}

#[test]
fn a_lock_is_given_back_when_the_server_is_there_again_or_dflock_says_that_nobody_knows() {
    at_once([true, false], |comes_back| {
        let mut server = Played::new();
        let (mut holder, peer) = holder(&server);
        server.goes(peer);
        says_that_it_is_lost(&mut holder, &server);
        holder.close();
        if comes_back {
            // The same.
            thread::sleep(AWAY);
            server.comes_back();
            let mut peer = server.accept();
            let release = format!("r\nk\n{TOKEN}\n");
            converse(&mut peer, &[("id\n_\nme\n", "ok\n"), (&release, "ok\n")]);
        }
        let end = holder.end();
        let unknown = end.err.contains("the server did not answer the release");
        assert_eq!((end.status, unknown), (6, !comes_back), "{end:?}");
    });
}

/// An older server, which knows no owners, leaves a lock with the connection that it was granted to. Of a command the guard
/// has that connection too; here there is no guard.
#[test]
fn a_lock_without_an_owner_keeps_its_connection_though_that_was_mute_for_a_while() {
    let server = Played::new();
    let mut holder = Run::start(at(server.addr, &["--lease", "2", "hold", "k"]));
    let mut old = server.accept();
    assert!(frame(&mut old).starts_with("id\n"));
    old.send("error\n");
    drop(old);
    let mut first = server.grants(2);
    assert!(holder.line().starts_with(TOKEN));
    let renewal = format!("n\nk\n{TOKEN} 2\n");
    assert_eq!(frame(&mut first), renewal);
    let mut second = server.accept();
    first.send("ok 2\n");
    for _ in 0..4 {
        converse(&mut second, &[(&renewal, "ok 2\n")]);
    }
    first.stream().set_nonblocking(true).unwrap();
    let more = first.stream().read(&mut [0]);
    assert_eq!(more.map_err(|e| e.kind()), Err(ErrorKind::WouldBlock));
    holder.close();
    converse(&mut second, &[(&format!("r\nk\n{TOKEN}\n"), "ok\n")]);
    assert_eq!(holder.end().status, 0);
}

/// So a renewal that arrives late cannot shorten a later one.
#[test]
fn each_renewal_asks_for_the_same_lease_whatever_was_granted() {
    let server = Played::new();
    let mut holder = Run::start(at(server.addr, &["hold", "k"]));
    let mut peer = server.grants(3);
    assert!(holder.line().starts_with(TOKEN));
    let renewal = format!("n\nk\n{TOKEN} 3\n");
    converse(&mut peer, &[(&renewal, "ok 1\n"), (&renewal, "ok 3\n")]);
    holder.close();
    converse(&mut peer, &[(&format!("r\nk\n{TOKEN}\n"), "ok\n")]);
    assert_eq!(holder.end().status, 0);
}
