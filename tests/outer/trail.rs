//! What the log of the real binary tells an administrator of locks: who got and lost them, who broke them, and what a
//! drain waits for and cuts. Invariant: no line has a token.

use std::net::SocketAddr;
use std::time::Duration;

use crate::daemon::{Client, Daemon};

/// The address of a client, as the server sees it.
fn addr(client: &mut Client) -> SocketAddr {
    client.stream().local_addr().unwrap()
}

/// The next event with this name, without time, level and program.
fn next(daemon: &mut Daemon, event: &str) -> String {
    let line = daemon.event(event);
    let (_, rest) = line.trim_end().split_once(" dflockd ").unwrap();
    rest.to_string()
}

/// The same, checked against the fields before the number of seconds, which is at least so much.
#[track_caller]
fn tells(daemon: &mut Daemon, event: &str, wanted: &str, seconds: f64) -> String {
    let line = next(daemon, event);
    let (fields, rest) = line.split_once("_s=").expect("a time");
    assert_eq!(fields, format!("{event} {wanted}"));
    let time = rest.split(' ').next().unwrap();
    let took = time.parse::<f64>().unwrap();
    assert!((seconds..seconds + 30.0).contains(&took), "{line}");
    rest[time.len()..].to_string()
}

#[test]
fn without_the_option_no_grant_is_logged() {
    let daemon = Daemon::start(&[]);
    let mut a = daemon.connect();
    let token = a.takes("k");
    a.says("r", "k", &token, "ok");
    drop(a);
    daemon.signal("TERM");
    let log = daemon.end().log;
    assert!(!log.contains("key="), "{log}");
}

#[test]
fn each_grant_and_each_end_is_a_line_with_key_fence_owner_and_address() {
    let mut daemon = Daemon::start(&["--log-locks"]);
    let (mut a, mut b) = (daemon.connect(), daemon.connect());
    let (at_a, at_b) = (addr(&mut a), addr(&mut b));
    a.says("id", "_", "jane doe", "ok");
    let token = a.takes("cl\u{e9}");
    let hold = format!(
        "key=\"cl\\u{{e9}}\" fence={} owner=\"jane doe\" peer={at_a}",
        &token[..16]
    );
    tells(&mut daemon, "granted", &format!("{hold} waited"), 0.0);
    b.waits("cl\u{e9}", "60");
    b.is_silent_for(Duration::from_millis(110));
    a.says("r", "cl\u{e9}", &token, "ok");
    tells(&mut daemon, "released", &format!("{hold} held"), 0.1);
    let next_token = b.is_granted(33);
    let next_hold = format!(
        "key=\"cl\\u{{e9}}\" fence={} peer={at_b}",
        &next_token[..16]
    );
    tells(&mut daemon, "granted", &format!("{next_hold} waited"), 0.1);
    // Released by another connection.
    a.says("r", "cl\u{e9}", &next_token, "ok");
    let by = tells(&mut daemon, "released", &format!("{next_hold} held"), 0.0);
    assert_eq!(by, format!(" by={at_a}"));
    // A semaphore, and a lease that ends.
    b.send("sl\npool\n0 2 1\n");
    let slot = b.is_granted(1);
    let hold = format!("key=pool space=semaphore fence={} peer={at_b}", &slot[..16]);
    tells(&mut daemon, "granted", &format!("{hold} waited"), 0.0);
    tells(&mut daemon, "expired", &format!("{hold} held"), 1.0);
    // The end of its connection.
    let token = b.takes("k");
    drop(b);
    let hold = format!("key=k fence={} peer={at_b} held", &token[..16]);
    tells(&mut daemon, "closed", &hold, 0.0);
    daemon.signal("TERM");
    drop(a);
    let log = daemon.end().log;
    assert!(
        ![token, slot, next_token]
            .iter()
            .any(|token| log.contains(token)),
        "{log}"
    );
}

#[test]
fn a_break_is_logged_in_any_case_with_fence_and_who_did_it() {
    for args in [&[][..], &["--log-locks"]] {
        let mut daemon = Daemon::start(args);
        let (mut holder, mut boss) = (daemon.connect(), daemon.connect());
        let (at_holder, at_boss) = (addr(&mut holder), addr(&mut boss));
        let token = holder.takes("deploy");
        boss.says("break", "deploy", "", "ok 1");
        let hold = format!("key=deploy fence={} peer={at_holder} held", &token[..16]);
        let by = tells(&mut daemon, "broken", &hold, 0.0);
        assert_eq!(by, format!(" by={at_boss}"));
        assert_eq!(
            next(&mut daemon, "break"),
            format!("break key=deploy holds=1 by={at_boss}")
        );
    }
}

#[test]
fn a_drain_says_what_it_waits_for_and_what_it_cuts() {
    let mut daemon = Daemon::start(&["--shutdown-timeout=0"]);
    let mut a = daemon.connect();
    let at = addr(&mut a);
    let kept = a.takes("kept");
    let tokens: Vec<String> = (0..25).map(|n| a.takes(&format!("k{n}"))).collect();
    daemon.signal("TERM");
    assert_eq!(
        next(&mut daemon, "draining"),
        "draining connections=1 holds=26 detached=0"
    );
    let hold = format!("key=kept fence={} peer={at} held", &kept[..16]);
    tells(&mut daemon, "still-held", &hold, 0.0);
    for (n, token) in tokens[..19].iter().enumerate() {
        let hold = format!("key=k{n} fence={} peer={at} held", &token[..16]);
        tells(&mut daemon, "still-held", &hold, 0.0);
    }
    for (n, token) in tokens.iter().enumerate() {
        a.says("r", &format!("k{n}"), token, "ok");
    }
    a.is_silent_for(Duration::from_millis(110));
    daemon.signal("TERM");
    let line = daemon.event("cut-hold");
    assert!(line.contains(&format!(
        " key=kept fence={} peer={at} held_s=",
        &kept[..16]
    )));
    let log = daemon.end().log;
    // At most 20 were told of when the drain began.
    assert!(
        log.ends_with(" info dflockd stopped cut=1 holds=1 detached=0\n")
            && log.lines().count() == 1,
        "{log}"
    );
}

#[test]
fn settings_that_differ_from_the_defaults_are_one_line_at_the_start() {
    let mut daemon = Daemon::spawn(crate::daemon::dflockd(&[
        "--port=0",
        "--max-locks=2000",
        "--auth-token=xyzzy",
        "--max-waiters=0",
        "--no-deadlock-detection",
    ]));
    let wanted = "settings port=0 deadlock-detection=false max-locks=2000 auth-token=set";
    // A script takes the port from the first line.
    daemon.event("listening");
    assert_eq!(next(&mut daemon, "settings"), wanted);
}
