//! Holds that outlast the `dflock` that took them: what `acquire` waits for, and that it leaves nothing behind unless it
//! has said so; what `renew` tells of the old lease.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Client, Daemon, PATIENCE, eventually};
use crate::proxy::{Net, Proxy};
use crate::stage::{Run, around, at, run, waiters};

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
fn an_acquire_at_a_server_that_would_release_it_is_refused_and_leaves_no_hold() {
    let daemon = Daemon::start(&[]);
    let end = run(at(daemon.addr, &["acquire", "k"]));
    end.complains(64);
    is_free(&daemon, "k");
}

/// A server that kept holds when it was asked first, and does not any more when it grants, over a second later. What it
/// is asked to release.
fn turncoat() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (released, releases) = mpsc::channel();
    let asked = Arc::new(AtomicU32::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (released, asked) = (released.clone(), Arc::clone(&asked));
            thread::spawn(move || {
                let mut peer = Client::over(stream);
                loop {
                    let frame: String = (0..3).map(|_| peer.line()).collect();
                    let answer = match frame.split('\n').next().unwrap() {
                        "" => return,
                        "stats" if asked.fetch_add(1, Relaxed) == 0 => {
                            "ok {\"auto_release\":false}\n"
                        }
                        "stats" => "ok {\"auto_release\":true}\n",
                        "l" => {
                            // A wait that is long enough for a restart of the server.
                            thread::sleep(Duration::from_millis(1100));
                            "ok 00000000000000ff0123456789abcdef 33\n"
                        }
                        "n" => "ok 33\n",
                        "r" => {
                            released.send(frame).unwrap();
                            "ok\n"
                        }
                        _ => "ok\n",
                    };
                    peer.send(answer);
                }
            });
        }
    });
    (addr, releases)
}

#[test]
fn an_acquire_looks_again_after_a_long_wait_and_gives_back_what_would_not_last() {
    let (addr, releases) = turncoat();
    run(at(addr, &["acquire", "k"])).complains(64);
    let release = releases.recv_timeout(PATIENCE).unwrap();
    assert_eq!(release, "r\nk\n00000000000000ff0123456789abcdef\n");
}
