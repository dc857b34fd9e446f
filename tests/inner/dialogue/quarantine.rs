//! The time after a start in which nothing is granted, and how it ends.

use super::*;
use dflockd::command::Us;
use dflockd::facts::Protection;

/// The first 10 seconds are a quarantine.
fn quarantined() -> Dialogue {
    quarantined_with(|_| {})
}

fn quarantined_with(change: impl FnOnce(&mut Settings)) -> Dialogue {
    Dialogue::patient_with(|s| {
        s.locks.opens = opens();
        s.protection = Protection::Journal;
        change(s);
    })
}

fn opens() -> Us {
    1010 * SECOND
}

#[test]
fn nothing_is_granted_before_its_end_and_then_each_queue_in_order() {
    let mut d = quarantined();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.says(a, "l\nk\n100\n", "");
    d.says(b, "l\nk\n100\n", "");
    d.says(c, "l\nother\n100\n", "");
    d.0.until(opens() - 1);
    for client in [a, b, c] {
        d.hears(client, "");
    }
    assert_eq!(d.0.locks().opens_in(d.0.now), 1);
    d.at(10_000);
    assert_eq!(d.0.locks().opens_in(d.0.now), 0);
    let first = d.is_granted(a, 33);
    d.is_granted(c, 33);
    d.hears(b, "");
    d.says(a, release("k", &first), "ok\n");
    d.is_granted(b, 33);
    d.takes(c, "new");
}

#[test]
fn who_does_not_wait_is_told_at_once_and_timeouts_run() {
    let mut d = quarantined();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.says(a, "l\nk\n0\n", "timeout\n");
    d.says(a, "l\nk\n3\n", "");
    d.says(b, "l\nk\n10\n", "");
    d.says(c, "l\nk\n0\n", "timeout\n");
    d.at(2_999);
    d.hears(a, "");
    d.at(3_000);
    d.hears(a, "timeout\n");
    d.end(b);
    assert_eq!(d.keys(), 0);
    let token = "0".repeat(31) + "1";
    d.says(a, renew("k", &token), "error\n");
    d.says(a, release("k", &token), "error\n");
    d.says(a, frame("detach", "k", &token), "error\n");
    d.says(a, frame("break", "k", ""), "ok 0\n");
}

#[test]
fn the_queue_is_bounded_and_a_limit_is_fixed_in_it() {
    let mut d = quarantined_with(|s| {
        s.locks.max_waiters = 1;
        s.locks.max_locks = 2;
    });
    let (a, b) = (d.connect(), d.connect());
    d.says(a, frame("sl", "s", "100 2"), "");
    d.says(b, frame("sl", "s", "100 3"), "error_limit_mismatch\n");
    d.says(b, frame("sl", "s", "100 2"), "error_max_waiters\n");
    // Nobody is left at a key that was asked for without a wait.
    d.says(b, "l\nx\n0\n", "timeout\n");
    d.says(b, "l\ny\n0\n", "timeout\n");
    d.says(b, "l\nz\n100\n", "");
    let c = d.connect();
    d.says(c, "l\nx\n0\n", "error_max_locks\n");
    d.at(10_000);
    assert!(d.heard(a).starts_with("ok "));
    d.is_granted(b, 33);
}

#[test]
fn an_enqueue_queues_and_is_granted_at_the_end() {
    let mut d = quarantined();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.says(a, frame("e", "k", ""), "queued\n");
    d.says(b, frame("e", "k", ""), "queued\n");
    d.says(b, "w\nk\n0\n", "timeout\n");
    d.says(c, frame("e", "other", ""), "queued\n");
    d.says(c, "w\nother\n100\n", "");
    d.at(10_000);
    d.is_granted(c, 33);
    d.at(20_000);
    d.send(a, "w\nk\n0\n");
    d.is_granted(a, 33);
}

#[test]
fn a_table_that_sleeps_until_its_end_does_not_spin() {
    let mut d = quarantined();
    assert_eq!(d.0.deadline(), Some(opens()));
    let a = d.connect();
    d.says(a, "l\nk\n100\n", "");
    assert_eq!(d.0.deadline(), Some(opens()));
    let b = d.connect();
    d.says(b, "l\nk\n3\n", "");
    let due = d.0.deadline().expect("the wait has an end");
    assert!(d.0.now < due && due <= 1003 * SECOND);
    // The settling itself fails if the hub never sleeps.
    d.at(10_000);
    d.is_granted(a, 33);
    let due = d.0.deadline().expect("the lease has an end");
    assert!(d.0.now < due && due <= 1043 * SECOND);
}

#[test]
fn many_keys_are_served_in_slices() {
    let mut d = quarantined_with(|s| s.locks.max_locks = 100_000);
    let clients: Vec<usize> = (0..250).map(|_| d.connect()).collect();
    for (n, &client) in clients.iter().enumerate() {
        d.says(client, format!("l\nk{n}\n100\n"), "");
    }
    let enqueues: String = (0..6_000)
        .map(|n| frame("e", &format!("e{n}"), ""))
        .collect();
    let a = d.connect();
    for part in enqueues.as_bytes().chunks(8_000) {
        d.send(a, part);
    }
    assert_eq!(d.heard(a), "queued\n".repeat(6_000));
    d.0.now = opens();
    let (mut turns, mut granted) = (0, 0);
    while granted < 6_250 {
        d.0.turn();
        let now = d.0.locks().counts().granted;
        assert!(now > granted && now - granted <= 100, "a slice");
        (turns, granted) = (turns + 1, now);
        if granted < 6_250 {
            assert_eq!(d.0.deadline(), Some(0), "it goes on");
        }
    }
    assert!(turns >= 62);
    for client in clients {
        d.is_granted(client, 33);
    }
    assert!(d.0.deadline() > Some(d.0.now));
}

#[test]
fn one_semaphore_with_thousands_of_slots_is_served_in_slices_and_nobody_barges() {
    let mut d = quarantined_with(|s| s.max_subscriptions = 0);
    let clients: Vec<usize> = (0..1_000).map(|_| d.connect()).collect();
    for &client in &clients {
        d.says(client, frame("sl", "s", "100 5000"), "");
    }
    d.0.now = opens();
    let late = d.0.connect();
    let mut served = 0;
    for turn in 0..10 {
        if turn == 3 {
            // One who comes meanwhile is the last.
            d.0.send_only(late, frame("sl", "s", "100 5000").as_bytes());
            assert!(d.0.clients[late].heard.is_empty());
        }
        d.0.turn();
        let heard = |&&at: &&usize| !d.0.clients[at].heard.is_empty();
        let now = clients.iter().filter(heard).count();
        assert!(now - served <= 100, "a slice");
        assert!(clients[..now].iter().all(|at| heard(&at)), "in order");
        served = now;
    }
    assert_eq!(served, 1_000);
    d.0.settle();
    let all = clients.iter().chain([&late]);
    let tokens: Vec<String> = all.map(|&at| d.heard(at)[3..35].to_string()).collect();
    assert!(tokens.is_sorted_by_key(|token| fence(token)));
}

#[test]
fn many_keys_that_nobody_waits_for_cost_no_turn_too_much() {
    let mut d = quarantined_with(|s| s.locks.max_locks = 100_000);
    let a = d.connect();
    let asks: String = (0..12_000).map(|n| format!("l\nk{n}\n0\n")).collect();
    for part in asks.as_bytes().chunks(8_000) {
        d.send(a, part);
    }
    assert_eq!(d.heard(a).len(), 12_000 * "timeout\n".len());
    d.0.now = opens();
    // Each turn looks at 5,000; what is granted meanwhile does not wait for that.
    d.0.turn();
    assert_eq!(d.0.deadline(), Some(0));
    d.takes(a, "k11999");
    assert!(d.0.deadline() > Some(d.0.now));
}

#[test]
fn a_drain_in_a_quarantine_sends_its_waiters_away_and_ends() {
    let mut d = quarantined();
    let (a, b, idle) = (d.connect(), d.connect(), d.connect());
    d.says(a, "l\nk\n100\n", "");
    d.says(b, frame("e", "k", ""), "queued\n");
    d.drain();
    d.hears(a, "error_draining\n");
    d.is_closed(idle);
    for client in [a, b] {
        d.end(client);
    }
    assert!(d.0.is_drained());
    assert_eq!(d.keys(), 0);
    d.at(20_000);
    assert_eq!(d.0.locks().counts().granted, 0);
}

#[test]
fn what_is_recovered_is_held_in_the_quarantine_and_nothing_else_is() {
    let mut d = Dialogue::patient_with(|s| s.protection = Protection::Journal);
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    let short = d.connect();
    d.send(short, "l\nshort\n0 3\n");
    d.is_granted(short, 3);
    let other = d.takes(b, "other");
    d.0.restart(|s| s.locks.opens = opens());
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.says(a, renew("k", &token), "ok 33\n");
    d.says(b, "l\nk\n100\n", "");
    d.says(c, "l\nshort\n100\n", "");
    let free = d.connect();
    d.says(free, release("other", &other), "ok\n");
    d.says(free, "l\nother\n100\n", "");
    // One gives back, another's lease ends: neither is granted on yet.
    d.at(5_000);
    d.says(a, release("k", &token), "ok\n");
    d.at(9_999);
    for client in [b, c, free] {
        d.hears(client, "");
    }
    d.at(10_000);
    for client in [b, c, free] {
        d.is_granted(client, 33);
    }
}

#[test]
fn a_quarantine_that_is_over_before_the_first_turn_grants_at_once() {
    let mut d = Dialogue::patient_with(|s| s.locks.opens = 1);
    let a = d.connect();
    d.takes(a, "k");
    assert!(d.0.deadline() > Some(d.0.now));
}
