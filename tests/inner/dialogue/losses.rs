//! Leases that are lost between `e` and `w`: who is told, how often, and that nobody gets a dead token.

use super::*;

#[test]
fn an_expiry_frees_the_record_for_the_next_e() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.send(a, "e\nk\n1\n");
    let lost = d.gets(a, "acquired", 1);
    d.at(1_001);
    let token = d.enqueues(a, "k");
    assert!(token > lost);
    d.send(a, "w\nk\n0\n");
    assert_eq!(d.gets(a, "ok", 33), token);
}

#[test]
fn a_promotion_and_then_an_expiry_free_the_record_for_the_next_e() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.send(b, "l\nk\n0 5\n");
    d.is_granted(b, 5);
    d.says(a, "e\nk\n2\n", "queued\n");
    d.at(7_001);
    d.enqueues(a, "k");
}

#[test]
fn a_lost_lease_is_told_once_and_then_the_record_is_gone() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "e\nk\n1\n");
    d.gets(a, "acquired", 1);
    d.at(1_001);
    d.takes(b, "k");
    d.says(a, "w\nk\n10\n", "error_lease_expired\n");
    d.says(a, "w\nk\n10\n", "error_not_enqueued\n");
}

#[test]
fn a_lost_lease_is_told_too_if_nobody_else_took_the_lock() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.send(a, "e\nk\n1\n");
    d.gets(a, "acquired", 1);
    // Long after the idle state of the key is gone.
    d.at(200_000);
    d.says(a, "w\nk\n0\n", "error_lease_expired\n");
    d.says(a, "w\nk\n0\n", "error_not_enqueued\n");
}

#[test]
fn a_lease_lost_after_its_w_leaves_no_mark() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.send(a, "e\nk\n1\n");
    d.gets(a, "acquired", 1);
    d.send(a, "w\nk\n0\n");
    d.gets(a, "ok", 1);
    d.at(1_001);
    d.says(a, "w\nk\n0\n", "error_not_enqueued\n");
}

#[test]
fn a_new_e_replaces_the_mark_of_a_lost_lease() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    let lose = |d: &mut Dialogue, ms: u64| {
        d.send(a, "e\nk\n1\n");
        d.gets(a, "acquired", 1);
        d.at(ms);
    };
    // The new record is granted and waited for.
    lose(&mut d, 1_001);
    let token = d.enqueues(a, "k");
    d.send(a, "w\nk\n0\n");
    assert_eq!(d.gets(a, "ok", 33), token);
    d.says(a, "w\nk\n0\n", "error_not_enqueued\n");
    d.says(a, release("k", &token), "ok\n");
    // The new record is granted and released.
    lose(&mut d, 3_000);
    let token = d.enqueues(a, "k");
    d.says(a, release("k", &token), "ok\n");
    d.says(a, "w\nk\n0\n", "error_not_enqueued\n");
    // The new record is queued and times out.
    lose(&mut d, 5_000);
    d.takes(b, "k");
    d.says(a, "e\nk\n\n", "queued\n");
    d.says(a, "w\nk\n0\n", "timeout\n");
    d.says(a, "w\nk\n0\n", "error_not_enqueued\n");
}

#[test]
fn a_late_release_of_a_lost_lease_is_an_error_and_w_still_tells_the_loss() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.send(a, "e\nk\n1\n");
    let token = d.gets(a, "acquired", 1);
    d.at(1_001);
    d.says(a, release("k", &token), "error\n");
    d.says(a, renew("k", &token), "error\n");
    d.says(a, "w\nk\n0\n", "error_lease_expired\n");
}

#[test]
fn the_mark_of_a_lost_lease_does_not_make_the_key_busy() {
    let mut d = Dialogue::patient_with(|s| {
        s.locks.max_idle = 0;
        s.locks.max_locks = 1;
    });
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "e\nk\n1\n");
    d.gets(a, "acquired", 1);
    d.at(1_001);
    assert_eq!(d.keys(), 0);
    let token = d.takes(b, "other");
    d.says(b, release("other", &token), "ok\n");
    assert!(d.stats(b).field("locks").list().is_empty());
    d.says(a, "w\nk\n0\n", "error_lease_expired\n");
}

#[test]
fn marks_are_kept_by_key_and_space() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.send(a, "e\nk\n1\ne\nk2\n1\nse\nk\n2 1\n");
    assert_eq!(
        masked(&d.heard(a)),
        "acquired T 1\nacquired T 1\nacquired T 1\n"
    );
    d.at(1_001);
    for (request, answer) in [
        ("sw\nk\n0\n", "error_lease_expired\n"),
        ("sw\nk\n0\n", "error_not_enqueued\n"),
        ("w\nk2\n0\n", "error_lease_expired\n"),
        ("w\nk2\n0\n", "error_not_enqueued\n"),
        ("w\nk\n0\n", "error_lease_expired\n"),
        ("w\nk\n0\n", "error_not_enqueued\n"),
    ] {
        d.says(a, request, answer);
    }
}

#[test]
fn a_mark_does_not_outlive_its_connection() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.send(a, "e\nk\n1\n");
    d.gets(a, "acquired", 1);
    d.at(1_001);
    d.end(a);
    let b = d.connect();
    d.says(b, "w\nk\n0\n", "error_not_enqueued\n");
}

#[test]
fn a_token_that_is_not_held_is_never_handed_out() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    // The lease is past due, its timer has had no turn, and someone else took the lock: `w` cannot have it.
    d.send(a, "e\nk\n1\n");
    d.gets(a, "acquired", 1);
    d.0.now += 2 * SECOND;
    d.0.send_only(b, b"l\nk\n0\n");
    d.0.send_only(a, b"w\nk\n0\n");
    d.0.settle();
    d.is_granted(b, 33);
    d.hears(a, "error_lease_expired\n");
    // Without someone else, what `w` answers is true: a token that it hands out is held.
    d.send(a, "e\nk2\n1\n");
    d.gets(a, "acquired", 1);
    d.0.now += 2 * SECOND;
    d.0.send_only(a, b"w\nk2\n0\n");
    d.0.settle();
    let heard = d.heard(a);
    if heard == "error_lease_expired\n" {
        d.takes(b, "k2");
    } else {
        assert_eq!(masked(&heard), "ok T 1\n");
        d.says(b, "l\nk2\n0\n", "timeout\n");
        let token = heard.split(' ').nth(1).unwrap();
        d.says(b, release("k2", token), "ok\n");
    }
}
