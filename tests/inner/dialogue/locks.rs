//! Acquire, release, the queue and tokens.

use super::*;

#[test]
fn a_free_lock_is_granted_at_once_with_the_default_lease() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.takes(a, "k");
}

#[test]
fn a_lease_may_be_asked_for_and_is_echoed() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(a, "l\nk\n10 60\n");
    d.is_granted(a, 60);
    d.send(a, "l\nlong\n10 9223372036\n");
    d.is_granted(a, 9_223_372_036);
}

#[test]
fn a_held_lock_refuses_who_does_not_wait() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n0\n", "timeout\n");
    d.takes(b, "other");
}

#[test]
fn a_released_lock_goes_to_the_next_in_line() {
    let mut d = Dialogue::new();
    let clients: Vec<usize> = (0..5).map(|_| d.connect()).collect();
    let mut token = d.takes(clients[0], "k");
    for &client in &clients[1..] {
        d.says(client, "l\nk\n10\n", "");
    }
    for pair in clients.windows(2) {
        d.says(pair[0], release("k", &token), "ok\n");
        token = d.is_granted(pair[1], 33);
    }
}

#[test]
fn a_newcomer_never_passes_the_queue_even_with_timeout_0() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.0.send_only(a, release("k", &token).as_bytes());
    d.0.send_only(c, b"l\nk\n0\n");
    d.0.settle();
    d.is_granted(b, 33);
    d.hears(c, "timeout\n");
}

#[test]
fn a_lock_is_not_reentrant() {
    let mut d = Dialogue::with(|s| s.locks.deadlock_detection = false);
    let a = d.connect();
    d.takes(a, "k");
    d.says(a, "l\nk\n0\n", "timeout\n");
    d.says(a, "l\nk\n1\n", "");
    d.at(1_000);
    d.hears(a, "timeout\n");
}

#[test]
fn anyone_with_key_and_token_may_release() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, release("k", &token), "ok\n");
    d.takes(b, "k");
}

#[test]
fn a_token_is_good_for_one_release_of_its_own_key() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.takes(a, "other");
    d.says(a, release("other", &token), "error\n");
    d.says(a, release("nobody", &token), "error\n");
    let mut forged = token.clone().into_bytes();
    forged[31] ^= 1;
    d.says(
        a,
        release("k", &String::from_utf8(forged).unwrap()),
        "error\n",
    );
    d.says(a, release("k", &token), "ok\n");
    d.says(a, release("k", &token), "error\n");
}

#[test]
fn fences_rise_over_all_keys_and_tokens_differ() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let mut last = String::new();
    for round in 0..100 {
        let token = d.takes(a, &format!("k{}", round % 3 + 3 * (round / 3)));
        assert!(token[..16] > last[..last.len().min(16)]);
        last = token;
    }
}

#[test]
fn a_grant_is_sent_before_the_releasers_own_answer() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.0.send_only(a, release("k", &token).as_bytes());
    assert_eq!(d.0.next_write(), Some(b));
    assert_eq!(d.0.next_write(), Some(a));
}

#[test]
fn a_wait_ends_with_its_timeout_and_not_before() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.0.until(1010 * SECOND - 1);
    d.hears(b, "");
    d.at(10_000);
    d.hears(b, "timeout\n");
}
