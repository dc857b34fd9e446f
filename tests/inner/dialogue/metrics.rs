//! What the metrics say after clients of the line protocol and of distlockd have done this and that. How they are written
//! is tested beside `wire/metrics.rs`.

use super::*;
use dflockd::wire::Face;

impl Dialogue {
    /// Every series has its value. A name that does not begin with `distributed_` has the prefix `dflockd_`.
    #[track_caller]
    fn counts<const N: usize>(&self, series: [(&str, u64); N]) {
        let text = self.0.metrics();
        for (name, expected) in series {
            let name = match name.starts_with("distributed_") {
                true => name.to_string(),
                false => format!("dflockd_{name}"),
            };
            let line = format!("\n{name} {expected}\n");
            let found = text.lines().find(|line| line.starts_with(&name));
            assert!(text.contains(&line), "{name}: {expected}, not {found:?}");
        }
    }
}

#[test]
fn each_way_in_which_a_wait_ends_is_counted() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_waiters = 3);
    let [a, b, c, e, f] = [(); 5].map(|()| d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n1\n", "");
    d.says(c, "l\nk\n100\n", "");
    d.says(e, "e\nk\n\n", "queued\n");
    d.counts([("waiters", 3), ("keys", 1), ("distributed_locks_active", 1)]);
    // The queue is full, whether this one would wait or not.
    d.says(f, "l\nk\n100\n", "error_max_waiters\n");
    d.says(f, "l\nk\n0\n", "error_max_waiters\n");
    d.at(1_000);
    d.hears(b, "timeout\n");
    d.reset(c);
    d.says(a, release("k", &token), "ok\n");
    d.send(e, "w\nk\n10\n");
    let token = d.is_granted(e, 33);
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(b, "w\nk\n0\n", "timeout\n");
    // An attempt that does not queue is no wait.
    d.says(f, "l\nk\n0\n", "timeout\n");
    d.says(e, "l\nk\n100\n", "error_deadlock\n");
    d.says(f, "l\nk\n100\n", "");
    d.says(b, "e\nk\n\n", "queued\n");
    d.drain();
    d.hears(f, "error_draining\n");
    d.says(e, release("k", &token), "ok\n");
    d.counts([
        ("waiters", 0),
        (r#"wait_results_total{result="granted"}"#, 1),
        (r#"wait_results_total{result="timeout"}"#, 2),
        (r#"wait_results_total{result="cancelled"}"#, 1),
        (r#"wait_results_total{result="deadlock"}"#, 1),
        (r#"wait_results_total{result="draining"}"#, 2),
        (r#"wait_results_total{result="refused"}"#, 2),
        ("distributed_locks_deadlocks_detected", 1),
        ("distributed_locks_wait_time_count", 2),
    ]);
}

#[test]
fn the_time_before_each_grant_is_in_one_bucket_and_that_of_a_free_lock_in_the_first() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    let mut token = d.takes(a, "k");
    for (now, waited) in [(100, 0), (200, 4), (300, 5), (400, 301_000)] {
        d.at(now);
        d.says(b, "l\nk\n1000 1000\n", "");
        d.says(a, renew("k", &format!("{token} 1000")), "ok 1000\n");
        d.at(now + waited);
        d.says(a, release("k", &token), "ok\n");
        let other = d.is_granted(b, 1000);
        d.says(b, release("k", &other), "ok\n");
        token = d.takes(a, "k");
    }
    d.counts([
        (r#"distributed_locks_wait_time_bucket{le="0.001"}"#, 6),
        (r#"distributed_locks_wait_time_bucket{le="0.005"}"#, 8),
        (r#"distributed_locks_wait_time_bucket{le="0.01"}"#, 8),
        (r#"distributed_locks_wait_time_bucket{le="300"}"#, 8),
        (r#"distributed_locks_wait_time_bucket{le="+Inf"}"#, 9),
        ("distributed_locks_wait_time_count", 9),
        ("distributed_locks_acquired_total", 9),
        ("distributed_locks_renewal_success", 4),
    ]);
    let text = d.0.metrics();
    assert!(text.contains("\ndistributed_locks_wait_time_sum 301.009\n"));
}

#[test]
fn holds_are_counted_by_what_began_and_what_ended_them() {
    let mut d = Dialogue::patient();
    let [a, b] = [(); 2].map(|()| d.connect());
    let python = d.0.connect_to(Face::Distlockd);
    d.0.settle();
    d.send(python, b"\x01\0\x01\0\x01pi");
    // The owner's second claim is the same hold.
    d.send(python, b"\x01\0\x01\0\x01pi");
    let token = d.takes(a, "released");
    d.takes(a, "broken");
    d.takes(b, "closed");
    d.send(a, "l\nexpired\n0 1\n");
    d.is_granted(a, 1);
    d.counts([
        (r#"connections{listener="line"}"#, 2),
        (r#"connections{listener="distlockd"}"#, 1),
        (r#"connections{listener="http"}"#, 0),
        ("distributed_locks_active", 5),
        ("keys", 5),
    ]);
    d.says(a, release("released", &token), "ok\n");
    d.says(a, renew("released", &token), "error\n");
    d.says(a, "break\nbroken\n\n", "ok 1\n");
    d.reset(b);
    d.at(1_000);
    d.counts([
        (r#"connections{listener="line"}"#, 1),
        (r#"grants_total{protocol="line"}"#, 4),
        (r#"grants_total{protocol="http"}"#, 0),
        (r#"grants_total{protocol="distlockd"}"#, 1),
        (r#"lease_ends_total{reason="release"}"#, 1),
        (r#"lease_ends_total{reason="expiry"}"#, 1),
        (r#"lease_ends_total{reason="close"}"#, 1),
        (r#"lease_ends_total{reason="break"}"#, 1),
        ("distributed_locks_released_total", 1),
        ("distributed_locks_active", 1),
        ("distributed_locks_renewal_success", 0),
    ]);
    assert_eq!(d.0.locks().counts().renewal_failures, 1);
}

#[test]
fn a_connection_with_a_wrong_token_is_counted_whether_the_log_was_told_or_not() {
    let mut d = Dialogue::with(|s| s.secret = Some(b"right".to_vec()));
    for count in 1..=4 {
        let client = d.connect();
        d.says(client, "auth\n_\nwrong\n", "error_auth\n");
        if count == 2 {
            d.0.refusals();
        }
        d.counts([(r#"connections_rejected_total{reason="token"}"#, count)]);
    }
}

#[test]
fn a_connection_of_http_is_turned_away_when_an_answer_of_401_is_its_last() {
    let mut d = Dialogue::with(|s| s.secret = Some(b"right".to_vec()));
    let request = |token: &str, more: &str| {
        format!("GET /locks HTTP/1.1\r\nHost: h\r\n{more}Authorization: Bearer {token}\r\n\r\n")
    };
    let open = |d: &mut Dialogue| {
        let client = d.0.connect_to(Face::Http);
        d.0.settle();
        client
    };
    let mut now = 0;
    let mut say = |d: &mut Dialogue, client: usize, request: String| {
        d.send(client, request);
        now += 100;
        d.at(now);
    };
    let count = |d: &Dialogue, count| {
        d.counts([(r#"connections_rejected_total{reason="token"}"#, count)]);
    };
    let served = open(&mut d);
    for token in ["wrong", "wrong", "wrong", "wrong", "right"] {
        say(&mut d, served, request(token, ""));
    }
    count(&d, 0);
    say(&mut d, served, request("wrong", ""));
    assert!(d.0.clients[served].shut);
    count(&d, 1);
    // Nor does it help to say nothing.
    let silent = open(&mut d);
    for _ in 0..5 {
        say(
            &mut d,
            silent,
            "GET /locks HTTP/1.1\r\nHost: h\r\n\r\n".to_string(),
        );
    }
    count(&d, 2);
    let short = open(&mut d);
    say(&mut d, short, request("wrong", "Connection: close\r\n"));
    count(&d, 3);
}
