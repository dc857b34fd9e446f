//! A command under a lock whose server goes away and comes back. Invariant: as in main.rs.

use std::io::{ErrorKind, Read};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::beats::{beats, holders, judge, second_goes_on};
use crate::daemon::lasting::Lasting;
use crate::daemon::played::{Played, TOKEN, converse, frame};
use crate::daemon::{Client, Daemon, at_once, eventually};
use crate::stage::{Folder, Run, at, run, waiters};

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
    let back = format!("dflock: the connection to {} is back\n", server.addr);
    // Why the connection was lost may be told again, in other words.
    eventually("it is back", || holder.says() == back);
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

// A server that knows its locks when it is started again.

/// Says its fence, and runs until its input ends.
const TELLS: &str = "echo $DFLOCK_FENCE; read line; exit 6";

fn fence(run: &mut Run) -> u64 {
    run.line().trim_end().parse().expect("a number")
}

/// The command runs on, a second `dflock` waits for it, and the fence rises.
#[track_caller]
fn outlives_kills(server: &mut Lasting, dflock: impl Fn(&[&str]) -> Command) {
    let mut first = Run::start(dflock(&["k", "-c", TELLS]));
    let first_fence = fence(&mut first);
    let mut second = Run::start(dflock(&["k", "-c", TELLS]));
    let listed = |part: &str, word: &str| {
        let list = run(dflock(&["-o", "json", "stat", "k"])).out;
        let rest = list.split_once(&format!("\"{part}\":")).unwrap().1;
        rest.split(']').next().unwrap().contains(word)
    };
    for _ in 0..3 {
        eventually("it waits", || listed("queue", "127.0.0.1:"));
        server.goes("KILL");
        server.comes_back();
        eventually("it has moved", || listed("holds", "127.0.0.1:"));
        assert_eq!(run(dflock(&["-n", "k", "true"])).status, 1);
    }
    assert!(first.is_running());
    assert_eq!(first.end().status, 6);
    assert!(fence(&mut second) > first_fence);
    assert_eq!(second.end().status, 6);
}

#[test]
fn a_command_outlives_its_server_if_that_knows_its_locks_again() {
    let mut server = Lasting::start(&[]);
    let addr = server.addr;
    outlives_kills(&mut server, |args| at(addr, args));
}

#[cfg(feature = "tls")]
#[test]
fn a_command_outlives_its_server_over_tls() {
    let Some(pki) = crate::daemon::pki::pki() else {
        return;
    };
    let own = pki.options("server.pem", "server.key");
    let mut server = Lasting::start(&own.each_ref().map(String::as_str));
    let addr = server.addr;
    outlives_kills(&mut server, |args| {
        let mut command = at(addr, args);
        command.env("DFLOCK_TLS_CA", pki.path("ca.pem"));
        command
    });
}

#[test]
fn twenty_holders_and_twenty_waiters_outlive_a_kill_and_an_upgrade() {
    at_once(["KILL", "TERM"], |signal| {
        let mut server = Lasting::start(&["--handover"]);
        let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
        let start = |key: &String| Run::start(at(server.addr, &[key, "-c", TELLS]));
        let mut holders: Vec<Run> = keys.iter().map(start).collect();
        let fences: Vec<u64> = holders.iter_mut().map(fence).collect();
        let waiting: Vec<Run> = keys.iter().map(start).collect();
        let all_wait = |daemon: &Daemon| {
            eventually("all wait", || {
                keys.iter().all(|key| waiters(daemon, key) == 1)
            });
        };
        all_wait(server.daemon());
        server.goes(signal);
        server.comes_back();
        all_wait(server.daemon());
        for (mut holder, before) in holders.into_iter().zip(&fences) {
            assert!(holder.is_running(), "{before}");
            assert_eq!(holder.end().status, 6);
        }
        for (mut waiter, before) in waiting.into_iter().zip(fences) {
            assert!(fence(&mut waiter) > before);
            assert_eq!(waiter.end().status, 6);
        }
    });
}

#[test]
fn a_lock_is_given_back_to_a_server_that_is_killed_when_the_command_ends() {
    let mut server = Lasting::start(&[]);
    let mut holder = Run::start(at(server.addr, &["--lease", "1000", "k", "-c", TELLS]));
    fence(&mut holder);
    server.goes("KILL");
    holder.close();
    // Nothing can come, and that is no event.
    thread::sleep(AWAY);
    server.comes_back();
    assert_eq!(holder.status(), 6);
    assert_eq!(run(at(server.addr, &["-n", "k", "true"])).status, 0);
}

#[test]
fn a_script_renews_and_releases_its_token_after_a_kill() {
    let mut server = Lasting::start(&[]);
    let kinds = [&[][..], &["-l", "1"]];
    let tokens = kinds.map(|kind| {
        let taken = run(at(server.addr, &[&["acquire"], kind, &["k"]].concat()));
        assert_eq!(taken.status, 0, "{taken:?}");
        taken.out.split(' ').next().unwrap().to_string()
    });
    server.goes("KILL");
    server.comes_back();
    for (kind, token) in kinds.into_iter().zip(&tokens) {
        let step = |words: &[&str]| run(at(server.addr, &[kind, words].concat()));
        assert_eq!(step(&["-n", "k", "true"]).status, 1);
        // No connection has it: it outlives the one that renews.
        for _ in 0..2 {
            assert_eq!(
                run(at(server.addr, &[&["renew"], kind, &["k", token]].concat())).status,
                0
            );
        }
        assert_eq!(
            run(at(
                server.addr,
                &[&["release"], kind, &["k", token]].concat()
            ))
            .status,
            0
        );
        assert_eq!(step(&["-n", "k", "true"]).status, 0);
    }
}

/// As after a loss of power: the command of before has ended when the next one begins.
#[test]
fn a_command_whose_server_lost_its_journal_is_stopped_before_the_next_one_runs() {
    let mut server = Lasting::start(&["--default-lease-ttl", "1"]);
    let folder = Folder::new();
    let file = folder.path("marks");
    let first = Run::start(at(server.addr, &["--lease", "4", "k", "-c", &beats(&file)]));
    holders(&file, 1);
    server.goes("KILL");
    server.loses_its_journal();
    server.comes_back();
    let _second = Run::start(at(server.addr, &["k", "-c", &beats(&file)]));
    second_goes_on(&file);
    assert_eq!(judge(&file).1, [0; 0]);
    assert_eq!(first.end().status, 120);
}
