//! Servers that share a store: who listens, who leads, what is carried over, and how they end, with the real binary and a
//! played etcd. Not here: real members and faults under load, which `ha` has. Invariant: as in main.rs.

mod store;

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::daemon::pki::pki;
use crate::daemon::{Client, Daemon, End, LONG, dflockd, eventually, free_port};
use crate::manager::Manager;
use crate::rest::{ask, has, is};
use crate::tls::{ANYBODY, tcp};
use store::{Mood, Store};

/// A head that a server of another name has made, and one of a server that has stopped.
const THIRD: &str = r#"{"version":1,"cluster":"00000000000000000000000000000001","life":"00000000000000000000000000000002","node":"third","address":"a:1","number":9,"largest":99,"leads":true,"left":false}"#;
const LEFT: &str = r#"{"version":1,"cluster":"00000000000000000000000000000001","life":"00000000000000000000000000000002","node":"third","address":"a:1","number":9,"largest":99,"leads":true,"left":true}"#;

/// A node with this name; the leader may be silent for a second.
fn command(store: &Store, node: &str, args: &[&str]) -> Command {
    let (etcd, node) = (store.option(), format!("--node={node}"));
    let own = ["--port=0", "--failover-after=1", &etcd, &node];
    dflockd(&[&own, args].concat())
}

/// One that leads.
fn leader(store: &Store, node: &str) -> Daemon {
    Daemon::launch(command(store, node, &[])).expect("it leads")
}

/// One that stands by, and the address of its door for HTTP.
fn standby(store: &Store, node: &str, args: &[&str]) -> (Daemon, std::net::SocketAddr) {
    let mut daemon = Daemon::spawn(command(store, node, &[&["--http-port=0"], args].concat()));
    let line = daemon.event("listening-http");
    let (_, addr) = line.trim_end().split_once("addr=").expect("an address");
    (daemon, addr.parse().expect("an address"))
}

/// Waits until it leads, and where it listens then.
fn takes_over(daemon: &mut Daemon) -> Client {
    let line = daemon.event("listening");
    let (_, addr) = line.trim_end().split_once("addr=").expect("an address");
    Client::over(TcpStream::connect(addr).expect("it listens"))
}

fn get(addr: std::net::SocketAddr, path: &str) -> String {
    ask(addr, &format!("GET {path}"), &["Host: localhost"], "")
}

/// The last line of a server that ends with this status.
#[track_caller]
fn ends(end: End, status: i32) -> String {
    assert_eq!(end.status, Some(status), "{}", end.log);
    end.log.lines().last().unwrap_or_default().to_string()
}

#[test]
fn who_stands_by_does_not_listen_for_clients_and_says_who_leads() {
    let store = Store::new();
    let first = leader(&store, "first");
    let port = free_port();
    let (_second, http) = standby(&store, "second", &[&format!("--port={port}")]);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let leads = "this server stands by; first leads";
    eventually("it has looked", || get(http, "/ready").contains(leads));
    is(&get(http, "/health"), 200);
    let ready = get(http, "/ready");
    is(&ready, 503);
    has(&ready, r#""code":"standby""#);
    for what in [
        "POST /locks/k/acquire",
        "GET /locks",
        "GET /locks/stats",
        "DELETE /locks/k",
    ] {
        let answer = ask(http, what, &["Host: localhost"], "");
        is(&answer, 503);
        has(&answer, r#""code":"standby""#);
    }
    let metrics = get(http, "/metrics");
    is(&metrics, 200);
    has(&metrics, "\ndflockd_leads 0\n");
    drop(first);
}

#[test]
fn a_hold_goes_on_under_its_token_and_waiters_queue_again() {
    let store = Store::new();
    let first = leader(&store, "first");
    let mut client = first.connect();
    let token = client.takes("k");
    let (mut second, http) = standby(&store, "second", &[]);
    first.kill();
    let mut client = takes_over(&mut second);
    client.says("l", "k", "0", "timeout");
    client.says("n", "k", &token, "ok 33");
    client.says("r", "k", &token, "ok");
    client.takes("k");
    is(&get(http, "/ready"), 200);
    has(&get(http, "/metrics"), "\ndflockd_leads 1\n");
    client.send("stats\n_\n_\n");
    let stats = client.line();
    assert!(
        stats.contains(r#""restart":{"protection":"etcd""#),
        "{stats}"
    );
    assert!(
        stats.contains(r#""ha":{"role":"leader","revision":"#),
        "{stats}"
    );
}

#[test]
fn a_node_that_comes_back_leads_at_once() {
    let store = Store::new();
    let first = leader(&store, "first");
    let mut client = first.connect();
    let token = client.takes("k");
    first.kill();
    let again = Daemon::launch(command(&store, "first", &["--failover-after=3600"]));
    let again = again.expect("it need not wait for itself");
    again.connect().says("n", "k", &token, "ok 33");
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over_at_once() {
    let store = Store::new();
    let patient = ["--failover-after=3600"];
    let first = Daemon::launch(command(&store, "first", &patient)).expect("it leads");
    let mut client = first.connect();
    let token = client.takes("k");
    let (mut second, _) = standby(&store, "second", &patient);
    first.signal("TERM");
    takes_over(&mut second).says("n", "k", &token, "ok 33");
    let end = first.end();
    assert!(
        end.log.contains(" info dflockd handing-over"),
        "{}",
        end.log
    );
    ends(end, 0);
    // Nobody else is there, so nobody takes over.
    second.signal("TERM");
    ends(second.end(), 0);
    assert_eq!(store.head().expect("there is one")["left"], true);
}

#[test]
fn who_stands_by_stops_at_once() {
    let store = Store::new();
    let _first = leader(&store, "first");
    let (second, _) = standby(&store, "second", &[]);
    second.signal("TERM");
    ends(second.end(), 0);
    assert_eq!(store.head().expect("there is one")["node"], "first");
}

#[test]
fn no_answer_leaves_before_the_facts_before_it_are_kept() {
    let store = Store::new();
    let first = command(&store, "first", &["--failover-after=60"]);
    let first = Daemon::launch(first).expect("it leads");
    let (mut holder, mut other) = (first.connect(), first.connect());
    store.set(Mood::HoldsChanges);
    assert!(other.is_served(), "nothing has to be kept");
    holder.send(format!("l\nk\n{LONG}\n"));
    holder.is_silent_for(Duration::from_millis(100));
    assert!(other.is_served(), "that tells of no hold");
    other.send("ping\n_\n_\nl\nk\n0\n");
    other.hears("ok");
    // It would tell of the grant.
    other.is_silent_for(Duration::from_millis(300));
    holder.is_silent_for(Duration::from_millis(1));
    store.set(Mood::Answers);
    holder.is_granted(33);
    other.hears("timeout");
}

#[test]
fn a_leader_that_etcd_does_not_answer_ends_and_says_nothing_more() {
    let store = Store::new();
    let mut first = leader(&store, "first");
    let mut client = first.connect();
    store.set(Mood::Silent);
    client.send("l\nk\n0\n");
    let lost = first.event("lost");
    let why = r#" error dflockd lost why="etcd does not answer"#;
    assert!(lost.contains(why), "{lost}");
    assert_eq!(client.rest(), "");
    ends(first.end(), 75);
}

#[test]
fn a_leader_whose_keys_were_changed_ends() {
    for (key, value, why) in [
        (
            "/dflockd/head",
            None,
            "somebody has removed the keys from etcd",
        ),
        ("/dflockd/head", Some(THIRD), "third leads"),
    ] {
        let store = Store::new();
        let mut first = leader(&store, "first");
        store.meddle(key, value.map(str::as_bytes));
        let lost = first.event("lost");
        assert!(lost.contains(&format!("why=\"{why}\"")), "{lost}");
        ends(first.end(), 75);
    }
}

#[test]
fn two_nodes_of_one_name_are_told_so() {
    let store = Store::new();
    let patient = ["--failover-after=3600"];
    let first = Daemon::launch(command(&store, "same", &patient)).expect("it leads");
    let _second = Daemon::launch(command(&store, "same", &patient)).expect("it leads");
    let last = ends(
        {
            // It has to write something to see it.
            first.connect().send("l\nk\n0\n");
            first.end()
        },
        1,
    );
    assert_eq!(
        last,
        "dflockd: another server has the name same and has taken the lead: give each its own --node"
    );
}

#[test]
fn over_tls_a_hold_goes_on_at_the_next_server() {
    let Some(pki) = pki() else { return };
    let store = Store::new();
    let options = pki.options("server.pem", "server.key");
    let options = options.each_ref().map(String::as_str);
    let start = |node: &str| Daemon::spawn(command(&store, node, &options));
    let leads = |daemon: &mut Daemon| {
        let line = daemon.event("listening");
        let (_, rest) = line.trim_end().split_once("addr=").expect("an address");
        let (addr, tls) = rest.split_once(' ').expect("more than that");
        assert_eq!(tls, "tls=true");
        ANYBODY.over(pki, tcp(addr.parse().expect("an address")))
    };
    let mut first = start("first");
    let mut client = leads(&mut first);
    let token = client.takes("k");
    let mut second = start("second");
    second.event("standby");
    first.kill();
    let mut client = leads(&mut second);
    client.says("l", "k", "0", "timeout");
    client.says("n", "k", &token, "ok 33");
}

#[test]
fn what_cannot_be_used_ends_the_server() {
    let store = Store::new();
    store.set(Mood::Denies);
    let last = ends(Daemon::spawn(command(&store, "a", &[])).end(), 1);
    let denied = format!(
        "dflockd: etcd at http://{}: etcdserver: permission denied (user of the certificate, or none, keys below /dflockd/)",
        store.addr
    );
    assert_eq!(last, denied);
    for (batch, why) in [
        (
            &b"\x02"[..],
            "has version 2, and this server knows version 1: ",
        ),
        (b"\x01", "is damaged: "),
    ] {
        let store = Store::new();
        store.meddle("/dflockd/head", Some(LEFT.as_bytes()));
        store.meddle("/dflockd/log/0000000000000001", Some(batch));
        let last = ends(Daemon::spawn(command(&store, "a", &[])).end(), 1);
        let wanted =
            format!("dflockd: the log in etcd cannot be used: batch 0000000000000001 {why}");
        assert!(last.starts_with(&wanted), "{last}");
    }
    let store = Store::new();
    store.meddle("/dflockd/log/0000000000000001", Some(b"\x01"));
    let last = ends(Daemon::spawn(command(&store, "a", &[])).end(), 1);
    assert!(
        last.contains("batch 0000000000000001 is newer than the head"),
        "{last}"
    );
    let store = Store::new();
    store.meddle("/dflockd/head", Some(b"{}"));
    let last = ends(Daemon::spawn(command(&store, "a", &[])).end(), 1);
    assert!(last.ends_with("has written the head"), "{last}");
}

#[test]
fn whoever_stands_by_without_etcd_says_so_and_waits() {
    let store = Store::new();
    store.set(Mood::Silent);
    let mut first = Daemon::spawn(command(&store, "first", &[]));
    let line = first.event("etcd-silent");
    assert!(
        line.contains(&format!("endpoint=http://{}", store.addr)),
        "{line}"
    );
    store.set(Mood::Answers);
    takes_over(&mut first).takes("k");
}

#[test]
fn a_leader_that_cannot_listen_does_not_lead() {
    let store = Store::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("--port={}", taken.local_addr().unwrap().port());
    let last = ends(Daemon::spawn(command(&store, "a", &[&port])).end(), 1);
    assert!(
        last.starts_with("dflockd: cannot listen on 127.0.0.1 port "),
        "{last}"
    );
    assert_eq!(store.head(), None);
}

#[test]
fn after_a_restore_the_grace_keeps_grants_back() {
    let store = Store::new();
    let first =
        Daemon::launch(command(&store, "first", &["--restart-grace=600"])).expect("it leads");
    let mut client = first.connect();
    client.says("l", "k", "0", "timeout");
    client.send("stats\n_\n_\n");
    assert!(client.line().contains(r#""opens_in_s":59"#));
}

#[test]
fn a_manager_is_told_whether_the_server_leads() {
    let (store, manager) = (Store::new(), Manager::new(true));
    let mut command = command(&store, "first", &[]);
    command.env("NOTIFY_SOCKET", &manager.path);
    let _first = Daemon::launch(command).expect("it leads");
    let ready = "READY=1\nSTATUS=standby: 0 holds, 0 waiters, 0 connections\n";
    assert_eq!(manager.hears(), ready);
    while manager.hears() != "STATUS=0 holds, 0 waiters, 0 connections\n" {}
}

/// A client that is refused at once looks for another server.
#[test]
fn a_server_to_which_etcd_gives_no_lead_refuses_clients_until_it_does() {
    let store = Store::new();
    store.set(Mood::Full);
    let port = free_port();
    let (mut second, http) = standby(&store, "second", &[&format!("--port={port}")]);
    let space = r#"error="etcdserver: mvcc: database space exceeded""#;
    assert!(second.event("etcd-silent").contains(space));
    eventually("it gives up hope", || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    is(&get(http, "/ready"), 503);
    store.set(Mood::Answers);
    takes_over(&mut second).takes("k");
}

#[test]
fn a_server_that_etcd_does_not_answer_says_so() {
    let (store, manager) = (Store::new(), Manager::new(true));
    store.set(Mood::Silent);
    let mut command = command(&store, "second", &["--http-port=0"]);
    command.env("NOTIFY_SOCKET", &manager.path);
    let mut second = Daemon::spawn(command);
    let line = second.event("listening-http");
    let (_, addr) = line.trim_end().split_once("addr=").expect("an address");
    let http = addr.parse().expect("an address");
    let silent = "this server stands by; etcd does not answer";
    eventually("it knows", || get(http, "/ready").contains(silent));
    is(&get(http, "/health"), 200);
    let status = "STATUS=standby, etcd does not answer: 0 holds, 0 waiters, 0 connections\n";
    while manager.hears() != status {}
}

#[test]
fn a_certificate_for_etcd_that_cannot_be_used_is_refused_at_the_start() {
    let Some(pki) = pki() else { return };
    let check = |cert: &str, key: &str| {
        let files = [("ca", "ca.pem"), ("cert", cert), ("key", key)];
        let files = files.map(|(of, name)| format!("--etcd-{of}={}", pki.path(name)));
        let [ca, cert, key] = files.each_ref().map(String::as_str);
        let etcd = "--etcd=https://127.0.0.1:1";
        Daemon::spawn(dflockd(&["--check", etcd, ca, cert, key])).end()
    };
    for (cert, key, named, why) in [
        ("server.pem", "rsa.key", "key", "not the key of the first"),
        ("server.pem", "small.key", "key", "2048 to 8192 bits"),
        ("old.pem", "server.key", "cert", "want 3"),
        ("server.pem", "locked.key", "key", "encrypted"),
    ] {
        let end = check(cert, key);
        let named = format!("--etcd-{named}: cannot use ");
        let is_said = end.log.contains(&named) && end.log.contains(why);
        assert!(end.status == Some(2) && is_said, "{end:?}");
    }
    assert_eq!(check("mark.pem", "mark.key").status, Some(0));
    let soon = check("short.pem", "server.key");
    assert_eq!(soon.status, Some(0), "{}", soon.log);
    assert!(soon.log.contains("in 12 days"), "{}", soon.log);
}

/// At its takeover it would be too late.
#[test]
fn a_host_that_is_not_found_is_told_at_the_start() {
    let store = Store::new();
    let command = command(&store, "a", &["--host=no..such.host"]);
    let last = ends(Daemon::spawn(command).end(), 1);
    let wanted = "dflockd: --host: no address for \"no..such.host\": ";
    assert!(last.starts_with(wanted), "{last}");
    assert_eq!(store.head(), None);
}

#[test]
fn a_log_that_grows_is_swept() {
    let store = Store::new();
    let first = leader(&store, "first");
    let mut client = first.connect();
    let token = client.takes("kept");
    // Four megabytes of facts, in holds with long names, are some 120 rounds.
    let key = "k".repeat(250);
    let mut peak = 0;
    let is_swept = (0..300).any(|_| {
        let asked: String = (0..100).map(|at| format!("e\n{at}{key}\n\n")).collect();
        client.send(asked);
        let tokens: Vec<String> = (0..100).map(|_| client.line()).collect();
        let releases = tokens.iter().enumerate().map(|(at, line)| {
            let token = line.split(' ').nth(1).expect("acquired");
            format!("r\n{at}{key}\n{token}\n")
        });
        client.send(releases.collect::<String>());
        for _ in 0..100 {
            client.hears("ok");
        }
        peak = peak.max(store.batches());
        store.batches() < peak / 2
    });
    assert!(is_swept, "{peak} batches, and none was removed");
    first.kill();
    let second = leader(&store, "first");
    second.connect().says("n", "kept", &token, "ok 33");
}

/// Renewals of the server itself go on, and would be kept one after the other.
#[test]
fn a_leader_hands_over_although_something_happens_all_the_time() {
    let store = Store::new();
    let patient = ["--failover-after=60", "--max-locks=100000"];
    let first = Daemon::launch(command(&store, "first", &patient)).expect("it leads");
    let mut client = first.connect();
    // Each millisecond some lease of a second ends.
    for at in 0..2_000 {
        client.send(format!("e\n{at}\n1\n"));
        assert!(client.line().starts_with("acquired "));
    }
    let token = client.takes("k");
    let (mut second, _) = standby(&store, "second", &patient);
    first.signal("TERM");
    takes_over(&mut second).says("n", "k", &token, "ok 33");
    ends(first.end(), 0);
}

#[test]
fn a_request_that_came_before_the_signal_is_carried_out_and_a_second_signal_ends_at_once() {
    let store = Store::new();
    let patient = ["--failover-after=60"];
    let first = Daemon::launch(command(&store, "first", &patient)).expect("it leads");
    let mut client = first.connect();
    assert!(client.is_served());
    first.freeze();
    // It has connected and asked, and the server has seen neither.
    let mut late = first.connect();
    late.send("l\nlate\n0\n");
    client.send("l\nk\n0\n");
    first.signal("TERM");
    first.signal("CONT");
    client.is_granted(33);
    late.is_granted(33);
    ends(first.end(), 0);
    let first = Daemon::launch(command(&store, "first", &patient)).expect("it leads");
    store.set(Mood::HoldsChanges);
    first.connect().send("l\nx\n0\n");
    first.signal("TERM");
    // Two signals within a tenth of a second count as one.
    std::thread::sleep(Duration::from_millis(200));
    first.signal("TERM");
    ends(first.end(), 0);
}

#[test]
fn whoever_stands_by_reads_its_files_again_and_lets_in_by_the_new_token() {
    let path = format!("{}/several-token", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, "old").unwrap();
    let store = Store::new();
    let first = leader(&store, "first");
    let file = format!("--auth-token-file={path}");
    let (mut second, _) = standby(&store, "second", &[&file]);
    std::fs::write(&path, "new").unwrap();
    second.signal("HUP");
    second.event("reloaded");
    first.kill();
    let mut client = takes_over(&mut second);
    client.says("auth", "_", "new", "ok");
    client.takes("k");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn etcd_is_asked_to_forget_and_one_that_lets_nobody_is_asked_no_more() {
    let store = Store::new();
    let _first = leader(&store, "first");
    eventually("it has asked", || store.compacted() > 0);
    let store = Store::new();
    store.deny_compaction();
    let mut first = leader(&store, "first");
    let line = first.event("compaction-denied");
    assert!(
        line.contains(r#"error="etcdserver: permission denied""#),
        "{line}"
    );
    first.connect().takes("k");
}
