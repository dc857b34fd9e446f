//! Holds that outlast the `dflock` that took them: what `acquire` waits for, and that it leaves nothing behind unless it
//! has said so; what `renew` tells of the old lease.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Client, Daemon, PATIENCE, eventually};
use crate::proxy::{Net, Proxy};
use crate::stage::{Run, around, at, connections, run, waiters};

/// A server that keeps a hold whose connection has ended.
const KEEPS: &[&str] = &["--no-auto-release-on-disconnect"];

#[track_caller]
fn is_free(daemon: &Daemon, key: &str) {
    assert_eq!(run(at(daemon.addr, &["stat", key])).status, 1, "{key}");
}

/// The token that `acquire` prints.
#[track_caller]
fn token(line: &str) -> &str {
    let token = line.split(' ').next().unwrap();
    assert_eq!(token.len(), 32, "{line}");
    token
}

fn takes(daemon: &Daemon, args: &[&str]) -> String {
    let end = run(at(daemon.addr, args));
    assert_eq!((end.status, end.err.as_str()), (0, ""), "{args:?}");
    token(&end.out).to_string()
}

#[test]
fn a_closed_output_is_no_output_and_a_lock_is_given_back() {
    let daemon = Daemon::start(KEEPS);
    let closed = |words: &str| {
        let script = format!("dflock {words} >&- </dev/null");
        run(around(daemon.addr, &script))
    };
    for words in ["acquire k", "hold k"] {
        // Its input stays open.
        let script = format!("exec dflock {words} >&-");
        let mut one = Run::start(around(daemon.addr, &script));
        assert_eq!(one.says(), "dflock: standard output: it is closed\n");
        assert_eq!(one.status(), 71);
        is_free(&daemon, "k");
    }
    let held = takes(&daemon, &["acquire", "k"]);
    for words in ["ls", "stat k", &format!("renew --lease 9 k {held}")] {
        closed(words).complains(71);
    }
    // Nothing is printed, so nothing is missing.
    let end = closed(&format!("release k {held}"));
    assert_eq!((end.status, end.err.as_str()), (0, ""));
    // The null device is an output like any other.
    let end = run(around(daemon.addr, "dflock acquire null 1<>/dev/null"));
    assert_eq!((end.status, end.err.as_str()), (0, ""));
    assert_eq!(run(at(daemon.addr, &["stat", "null"])).status, 0);
}

#[test]
fn a_renewal_that_shortens_the_lease_says_so() {
    let daemon = Daemon::start(KEEPS);
    let held = takes(&daemon, &["acquire", "--lease", "600", "k"]);
    let renew = |args: &[&str]| run(at(daemon.addr, &[&["renew", "k", &held], args].concat()));
    let end = renew(&[]);
    assert_eq!((end.status, end.out.as_str()), (0, "33\n"));
    let head = "dflock: the lease is shorter now: it lasts for 33 whole seconds, and ";
    let rest = end.err.strip_prefix(head).expect(&end.err);
    let left: u32 = rest.split(' ').next().unwrap().parse().unwrap();
    assert!((500..=600).contains(&left), "{rest}");
    // As long, longer, or as was asked for.
    for args in [&[][..], &["--lease", "100"], &["--lease", "10"]] {
        assert_eq!(renew(args).err, "", "{args:?}");
    }
    assert_eq!(renew(&[]).err, "");
}

#[test]
fn an_acquire_asks_again_while_the_server_cannot_be_reached() {
    let daemon = Daemon::start(KEEPS);
    let proxy = Proxy::to(daemon.addr);
    proxy.set(Net::Cut);
    for args in [&["acquire", "k"][..], &["-w", "100", "acquire", "other"]] {
        proxy.set(Net::Cut);
        let mut waiting = Run::start(at(proxy.addr, args));
        let line = waiting.says();
        let head = format!("dflock: cannot reach {}: ", proxy.addr);
        assert!(line.starts_with(&head), "{line}");
        proxy.set(Net::Open);
        token(&waiting.line());
        assert_eq!(waiting.says(), format!("dflock: {} is back\n", proxy.addr));
        assert_eq!(waiting.end().status, 0);
    }
}

#[test]
fn an_acquire_is_over_with_its_wait_whatever_is_mute() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = mute.local_addr().unwrap();
    let before = Instant::now();
    let end = run(at(addr, &["-w", "1", "acquire", "k"]));
    end.complains(69);
    assert_eq!(end.err, format!("dflock: cannot reach {addr}: no answer\n"));
    let took = before.elapsed();
    assert!(
        took >= Duration::from_secs(1) && took < PATIENCE,
        "{took:?}"
    );
    // A try does not ask again.
    drop(mute);
    let end = run(at(addr, &["-n", "acquire", "k"]));
    end.complains(69);
    assert!(end.err.contains("refused"), "{end:?}");
}

#[test]
fn an_acquire_that_a_signal_ends_leaves_the_queue_and_no_hold() {
    let daemon = Daemon::start(KEEPS);
    let held = takes(&daemon, &["acquire", "k"]);
    for (signal, status) in [("TERM", 143), ("INT", 130)] {
        let mut waiting = Run::start(at(daemon.addr, &["acquire", "k"]));
        eventually("it waits", || waiters(&daemon, "k") == 1);
        waiting.signal(signal);
        assert_eq!(waiting.status(), status);
        eventually("it has left", || waiters(&daemon, "k") == 0);
    }
    assert_eq!(run(at(daemon.addr, &["release", "k", &held])).status, 0);
    is_free(&daemon, "k");
}

#[test]
fn an_acquire_outlives_its_connection_at_any_server_of_ours() {
    for args in [KEEPS, &[]] {
        let daemon = Daemon::start(args);
        let held = takes(&daemon, &["acquire", "k"]);
        let slot = takes(&daemon, &["-l", "1", "acquire", "k"]);
        eventually("their connections have ended", || connections(&daemon) == 0);
        assert_eq!(run(at(daemon.addr, &["-n", "acquire", "k"])).status, 1);
        assert_eq!(
            run(at(daemon.addr, &["-n", "-l", "1", "acquire", "k"])).status,
            1
        );
        assert_eq!(run(at(daemon.addr, &["renew", "k", &held])).status, 0);
        assert_eq!(run(at(daemon.addr, &["release", "k", &held])).status, 0);
        assert_eq!(
            run(at(daemon.addr, &["-l", "1", "release", "k", &slot])).status,
            0
        );
        is_free(&daemon, "k");
    }
}

/// A server that refuses a detach: an older one, which does not know that nor `show`, hangs up behind its error, and keeps
/// holds or does not; or one at which the hold has ended. What it is asked to release.
fn played(shows: bool, keeps: bool) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (released, releases) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let released = released.clone();
            thread::spawn(move || {
                let mut peer = Client::over(stream);
                loop {
                    let frame: String = (0..3).map(|_| peer.line()).collect();
                    let stats = format!("ok {{\"auto_release\":{}}}\n", !keeps);
                    let answer = match frame.split('\n').next().unwrap() {
                        "" => return,
                        "stats" => &stats,
                        "show" if shows => "ok {}\n",
                        "detach" | "show" => "error\n",
                        "l" => "ok 00000000000000ff0123456789abcdef 33\n",
                        "n" => "ok 33\n",
                        "r" => {
                            released.send(frame).unwrap();
                            "ok\n"
                        }
                        _ => "ok\n",
                    };
                    peer.send(answer);
                    if answer == "error\n" {
                        return;
                    }
                }
            });
        }
    });
    (addr, releases)
}

#[test]
fn at_an_older_server_that_releases_an_acquire_is_refused_and_given_back() {
    let (addr, releases) = played(false, false);
    let end = run(at(addr, &["acquire", "k"]));
    end.complains(64);
    assert!(
        end.err.contains("--no-auto-release-on-disconnect"),
        "{end:?}"
    );
    let release = releases.recv_timeout(PATIENCE).unwrap();
    assert_eq!(release, "r\nk\n00000000000000ff0123456789abcdef\n");
}

#[test]
fn at_an_older_server_that_keeps_holds_an_acquire_is_as_before() {
    let (addr, releases) = played(false, true);
    let end = run(at(addr, &["acquire", "k"]));
    assert_eq!((end.status, end.err.as_str()), (0, ""));
    assert!(
        end.out.starts_with("00000000000000ff0123456789abcdef 255 "),
        "{end:?}"
    );
    releases.try_recv().expect_err("it is kept");
}

#[test]
fn an_acquire_that_is_lost_before_its_token_is_printed_says_so() {
    let (addr, _releases) = played(true, false);
    let end = run(at(addr, &["acquire", "k"]));
    end.complains(120);
    assert_eq!(
        end.err,
        "dflock: the lock was lost before its token was printed\n"
    );
}

#[test]
fn a_server_with_too_many_connections_is_asked_again_by_those_that_wait() {
    let daemon = Daemon::start(&["--max-connections", "1"]);
    let full = daemon.connect();
    let end = run(at(daemon.addr, &["-n", "k", "true"]));
    end.complains(75);
    let text = format!(
        "dflock: {} has as many connections as it may\n",
        daemon.addr
    );
    assert_eq!(end.err, text);
    let mut waiting = Run::start(at(daemon.addr, &["-w", "100", "k", "-c", "echo in"]));
    let line = waiting.says();
    assert_eq!(line, text.trim_end().to_string() + "; asking again\n");
    drop(full);
    waiting.hears("in");
    assert_eq!(waiting.status(), 0);
}

#[test]
fn a_try_at_a_server_that_drains_is_status_75_and_a_wait_survives_the_drain() {
    let mut daemon = Daemon::start(&["--shutdown-timeout", "0"]);
    let mut holder = daemon.connect();
    let token = holder.takes("k");
    daemon.signal("TERM");
    daemon.event("draining");
    let end = run(at(daemon.addr, &["-n", "k", "true"]));
    end.complains(75);
    let text = format!("dflock: {} is about to stop\n", daemon.addr);
    assert_eq!(end.err, text);
    let mut waiting = Run::start(at(daemon.addr, &["k", "-c", "echo in"]));
    assert_eq!(
        waiting.says(),
        text.trim_end().to_string() + "; asking again\n"
    );
    holder.says("r", "k", &token, "ok");
    drop(holder);
    let addr = daemon.addr;
    assert_eq!(daemon.end().status, Some(0));
    let _next = Daemon::start(&["--port", &addr.port().to_string()]);
    waiting.hears("in");
    assert_eq!(waiting.status(), 0);
}
