//! Two phases: `e` takes a place in the queue, `w` waits in it. Not the leases that are lost between
//! the two, which are in losses.rs, nor the traps of `se` and `sw`, which are in semaphores.rs.

use super::*;

#[test]
fn e_on_a_free_lock_acquires_it_and_w_answers_with_the_same_token() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.enqueues(a, "k");
    d.says(b, "l\nk\n0\n", "timeout\n");
    d.send(a, "w\nk\n10\n");
    assert_eq!(d.gets(a, "ok", 33), token);
    d.says(a, release("k", &token), "ok\n");
    d.takes(b, "k");
}

#[test]
fn e_takes_a_lease_which_e_and_w_echo() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(a, "e\nk\n60\n");
    let token = d.gets(a, "acquired", 60);
    d.send(a, "w\nk\n0\n");
    assert_eq!(d.gets(a, "ok", 60), token);
    d.send(a, "e\nlong\n9223372036\n");
    d.gets(a, "acquired", 9_223_372_036);
    d.send(a, "w\nlong\n9223372036\n");
    d.gets(a, "ok", 9_223_372_036);
}

#[test]
fn an_e_without_a_lease_gets_the_servers_default() {
    let mut d = Dialogue::with(|s| s.locks.default_lease = 7 * SECOND);
    let a = d.connect();
    d.send(a, "e\nk\n\n");
    d.gets(a, "acquired", 7);
    d.send(a, "e\nblank\n \t \n");
    d.gets(a, "acquired", 7);
}

#[test]
fn e_on_a_held_lock_is_queued_and_w_answers_with_the_release() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "e\nk\n40\n", "queued\n");
    d.says(b, "w\nk\n10\n", "");
    d.says(a, release("k", &token), "ok\n");
    let next = d.gets(b, "ok", 40);
    assert!(next > token);
    d.says(b, release("k", &next), "ok\n");
}

#[test]
fn a_queued_entry_that_is_promoted_holds_the_lock_before_its_w() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(a, release("k", &token), "ok\n");
    d.hears(b, "");
    d.says(c, "l\nk\n0\n", "timeout\n");
    d.send(b, "w\nk\n0\n");
    d.gets(b, "ok", 33);
}

#[test]
fn the_lease_of_a_promoted_entry_runs_from_its_promotion() {
    let mut d = Dialogue::patient();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "e\nk\n5\n", "queued\n");
    d.at(20_000);
    d.says(a, release("k", &token), "ok\n");
    d.says(c, "l\nk\n100\n", "");
    d.at(24_999);
    d.hears(c, "");
    d.at(25_001);
    d.is_granted(c, 33);
    d.says(b, "w\nk\n10\n", "error_lease_expired\n");
}

#[test]
fn w_on_a_granted_record_restarts_the_full_lease() {
    let mut d = Dialogue::patient();
    let (a, c) = (d.connect(), d.connect());
    d.send(a, "e\nk\n10\n");
    let token = d.gets(a, "acquired", 10);
    d.says(c, "l\nk\n100\n", "");
    d.at(9_000);
    d.send(a, "w\nk\n0\n");
    assert_eq!(d.gets(a, "ok", 10), token);
    d.at(18_999);
    d.hears(c, "");
    d.at(19_001);
    d.is_granted(c, 33);
}

#[test]
fn w_restarts_the_full_lease_of_a_promoted_record_too() {
    let mut d = Dialogue::patient();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "e\nk\n10\n", "queued\n");
    d.says(c, "l\nk\n100\n", "");
    d.at(1_000);
    d.says(a, release("k", &token), "ok\n");
    d.at(10_000);
    d.send(b, "w\nk\n50\n");
    d.gets(b, "ok", 10);
    d.at(19_999);
    d.hears(c, "");
    d.at(20_001);
    d.is_granted(c, 33);
}

#[test]
fn w_restarts_the_lease_that_was_granted_whatever_a_renewal_made_of_it() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.send(a, "e\nk\n10\n");
    let token = d.gets(a, "acquired", 10);
    d.says(a, renew("k", &format!("{token} 100")), "ok 100\n");
    d.send(a, "w\nk\n0\n");
    assert_eq!(d.gets(a, "ok", 10), token);
}

#[test]
fn a_renewal_leaves_the_record_for_its_w() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "e\nk\n10\n");
    let token = d.gets(a, "acquired", 10);
    d.at(9_000);
    d.says(b, renew("k", &format!("{token} 10")), "ok 10\n");
    d.says(a, "e\nk\n\n", "error_already_enqueued\n");
    d.at(18_000);
    d.send(a, "w\nk\n0\n");
    assert_eq!(d.gets(a, "ok", 10), token);
}

#[test]
fn a_wait_that_times_out_gives_up_its_place() {
    let mut d = Dialogue::patient();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(b, "w\nk\n5\n", "");
    d.says(c, "l\nk\n100\n", "");
    d.at(4_999);
    d.hears(b, "");
    d.at(5_000);
    d.hears(b, "timeout\n");
    d.says(a, release("k", &token), "ok\n");
    d.is_granted(c, 33);
    d.says(b, "w\nk\n5\n", "error_not_enqueued\n");
    d.says(b, "e\nk\n\n", "queued\n");
}

#[test]
fn w_0_on_a_queued_record_times_out_at_once_and_gives_up_the_place() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(b, "w\nk\n0\n", "timeout\n");
    d.says(b, "w\nk\n0\n", "error_not_enqueued\n");
    d.says(a, release("k", &token), "ok\n");
    d.takes(a, "k");
}

#[test]
fn w_without_an_e_is_not_enqueued() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.says(a, "w\nnobody\n10\n", "error_not_enqueued\n");
    d.takes(a, "k");
    d.says(a, "w\nk\n10\n", "error_not_enqueued\n");
    d.says(b, "w\nk\n10\n", "error_not_enqueued\n");
}

#[test]
fn a_second_e_is_refused_while_the_record_exists() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.enqueues(a, "k");
    d.says(a, "e\nk\n\n", "error_already_enqueued\n");
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(b, "e\nk\n10\n", "error_already_enqueued\n");
    d.says(a, release("k", &token), "ok\n");
    // Promoted, and still the same record.
    d.says(b, "e\nk\n\n", "error_already_enqueued\n");
    d.send(b, "w\nk\n0\n");
    d.gets(b, "ok", 33);
}

#[test]
fn already_enqueued_is_checked_before_the_limits() {
    let mut d = Dialogue::with(|s| {
        s.locks.max_waiters = 1;
        s.locks.max_locks = 2;
    });
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(b, "e\nk\n\n", "error_already_enqueued\n");
    d.send(b, "se\ns\n2\n");
    d.gets(b, "acquired", 33);
    d.says(b, "se\ns\n3\n", "error_already_enqueued\n");
}

#[test]
fn a_record_belongs_to_one_connection_and_one_key() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.enqueues(a, "k");
    d.says(b, "w\nk\n10\n", "error_not_enqueued\n");
    d.enqueues(a, "k2");
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(b, "e\nk2\n\n", "queued\n");
    d.send(a, "w\nk\n0\n");
    assert_eq!(d.gets(a, "ok", 33), token);
    d.send(a, "w\nk2\n0\n");
    d.gets(a, "ok", 33);
}

#[test]
fn w_consumes_the_record_and_a_new_e_queues_behind_the_own_hold() {
    let mut d = Dialogue::patient_with(|s| s.locks.deadlock_detection = false);
    let a = d.connect();
    let token = d.enqueues(a, "k");
    d.send(a, "w\nk\n0\n");
    assert_eq!(d.gets(a, "ok", 33), token);
    d.says(a, "w\nk\n0\n", "error_not_enqueued\n");
    d.says(a, "e\nk\n\n", "queued\n");
    d.says(a, "w\nk\n2\n", "");
    d.at(2_000);
    d.hears(a, "timeout\n");
    d.says(a, "e\nk\n\n", "queued\n");
    d.says(a, release("k", &token), "ok\n");
    d.send(a, "w\nk\n0\n");
    assert_ne!(d.gets(a, "ok", 33), token);
}

#[test]
fn a_release_frees_the_record_whoever_sends_it_and_does_not_make_it_lost() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    for releaser in [a, b] {
        let token = d.enqueues(a, "k");
        d.says(releaser, release("k", &token), "ok\n");
        d.says(a, "w\nk\n0\n", "error_not_enqueued\n");
        let token = d.enqueues(a, "k");
        d.says(releaser, release("k", &token), "ok\n");
        let token = d.enqueues(a, "k");
        d.says(releaser, release("k", &token), "ok\n");
    }
}

#[test]
fn a_release_or_renewal_touches_only_the_record_of_its_token() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    let held = d.takes(a, "k");
    d.says(a, "e\nk\n10\n", "queued\n");
    d.says(a, renew("k", &held), "ok 33\n");
    d.says(b, renew("k", &held), "ok 33\n");
    d.says(a, "e\nk\n\n", "error_already_enqueued\n");
    d.says(b, "l\nk\n100\n", "");
    d.says(a, release("k", &held), "ok\n");
    // The record is still there and was promoted by that release; the old token does nothing to it.
    d.says(a, release("k", &held), "error\n");
    d.says(a, renew("k", &held), "error\n");
    d.hears(b, "");
    d.send(a, "w\nk\n0\n");
    let token = d.gets(a, "ok", 10);
    d.says(a, release("k", &token), "ok\n");
    d.is_granted(b, 33);
}

#[test]
fn a_malformed_w_leaves_the_record_alone() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.enqueues(a, "k");
    d.says(b, "e\nk\n\n", "queued\n");
    for client in [a, b] {
        for argument in ["", "x", "-1", "5 junk", "9223372037"] {
            d.says(client, frame("w", "k", argument), "error\n");
        }
        d.says(client, "e\nk\nx\n", "error\n");
        d.says(client, "e\nk\n\n", "error_already_enqueued\n");
    }
    d.send(a, "w\nk\n0\n");
    assert_eq!(d.gets(a, "ok", 33), token);
    d.says(a, release("k", &token), "ok\n");
    d.send(b, "w\nk\n0\n");
    d.gets(b, "ok", 33);
}

#[test]
fn both_ways_of_asking_share_one_queue_in_order_of_arrival() {
    let mut d = Dialogue::new();
    let clients: Vec<usize> = (0..6).map(|_| d.connect()).collect();
    let mut token = d.takes(clients[0], "k");
    for &client in &clients[1..] {
        if client % 2 == 0 {
            d.says(client, "l\nk\n10\n", "");
        } else {
            d.says(client, "e\nk\n\n", "queued\n");
        }
    }
    // The `w` of the last does not take it to the front.
    d.says(clients[5], "w\nk\n10\n", "");
    for pair in clients.windows(2) {
        d.says(pair[0], release("k", &token), "ok\n");
        if pair[1] == 1 || pair[1] == 3 {
            d.send(pair[1], "w\nk\n0\n");
        }
        token = d.is_granted(pair[1], 33);
    }
}

#[test]
fn a_two_phase_waiter_that_disconnects_leaves_the_queue() {
    let mut d = Dialogue::new();
    let (a, b, c, e) = (d.connect(), d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(c, "e\nk\n\n", "queued\n");
    d.says(c, "w\nk\n10\n", "");
    d.says(e, "l\nk\n10\n", "");
    d.end(b);
    d.is_closed(b);
    d.hears(b, "");
    d.end(c);
    d.is_closed(c);
    d.hears(c, "");
    d.says(a, release("k", &token), "ok\n");
    d.is_granted(e, 33);
}

#[test]
fn a_promoted_record_of_a_connection_that_goes_is_released() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(c, "l\nk\n10\n", "");
    d.says(a, release("k", &token), "ok\n");
    d.hears(c, "");
    d.reset(b);
    d.is_granted(c, 33);
}

#[test]
fn a_record_does_not_survive_its_connection() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.enqueues(a, "k");
    d.end(a);
    let b = d.connect();
    d.says(b, "w\nk\n0\n", "error_not_enqueued\n");
    d.enqueues(b, "k");
}

#[test]
fn a_connection_may_queue_with_both_ways_on_one_key() {
    let mut d = Dialogue::patient_with(|s| s.locks.deadlock_detection = false);
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(b, "k");
    d.says(a, "e\nk\n\n", "queued\n");
    d.says(a, "l\nk\n5\n", "");
    d.says(b, release("k", &token), "ok\n");
    // The entry is first in line and holds it; the acquire is behind it.
    d.hears(a, "");
    d.at(5_000);
    d.hears(a, "timeout\n");
    d.send(a, "w\nk\n0\n");
    let token = d.gets(a, "ok", 33);
    d.says(a, release("k", &token), "ok\n");
    d.takes(b, "k");
}

#[test]
fn frames_behind_a_waiting_w_wait() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(
        b,
        "e\nk\n\nw\nk\n10\nping\n_\n_\nl\nfree\n0\nbad\n_\n_\n",
        "queued\n",
    );
    d.takes(a, "free");
    d.says(a, release("k", &token), "ok\n");
    assert_eq!(masked(&d.heard(b)), "ok T 33\nok\ntimeout\nerror\n");
}

#[test]
fn with_auto_release_off_a_granted_record_leaves_its_hold_and_a_queued_one_nothing() {
    let mut d = Dialogue::patient_with(|s| s.locks.auto_release = false);
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.enqueues(a, "k");
    d.says(b, "e\nk\n\n", "queued\n");
    d.end(a);
    d.is_closed(a);
    d.says(c, "l\nk\n0\n", "timeout\n");
    d.end(b);
    d.is_closed(b);
    d.says(c, release("k", &token), "ok\n");
    d.takes(c, "k");
}

#[test]
fn an_e_ends_a_hold_that_is_past_due() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n0 1\n");
    let token = d.is_granted(a, 1);
    d.0.now += 2 * SECOND;
    d.0.send_only(b, b"e\nk\n\n");
    d.0.send_only(a, renew("k", &token).as_bytes());
    d.0.settle();
    d.gets(b, "acquired", 33);
    d.hears(a, "error\n");
}

#[test]
fn a_wait_of_the_longest_timeout_waits_and_is_answered() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "e\nk\n9223372036\n", "queued\n");
    d.says(b, "w\nk\n9223372036\n", "");
    d.at(30_000);
    d.says(a, release("k", &token), "ok\n");
    d.gets(b, "ok", 9_223_372_036);
}

#[test]
fn ten_thousand_records_of_one_connection_go_with_it() {
    let mut d = Dialogue::with(|s| {
        s.locks.max_locks = 20_000;
        s.locks.max_idle = 0;
    });
    let (a, b) = (d.connect(), d.connect());
    for n in 0..10_000 {
        let key = format!("k{n}");
        if n % 2 == 0 {
            d.0.send_only(b, frame("l", &key, "0").as_bytes());
        }
        d.0.send_only(a, frame("e", &key, "").as_bytes());
        if n % 50 == 0 {
            d.0.settle();
        }
    }
    d.0.settle();
    assert_eq!(d.heard(a).matches("queued").count(), 5_000);
    d.end(a);
    d.is_closed(a);
    assert_eq!(d.keys(), 5_000);
    d.end(b);
    d.is_closed(b);
    assert_eq!(d.keys(), 0);
    assert_eq!(d.0.deadline(), None, "not a timer stays");
}
