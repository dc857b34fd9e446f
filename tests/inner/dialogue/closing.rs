//! The end of a connection: what goes, in which order, who is served then, and that the last words arrive.

use super::*;

#[test]
fn what_a_connection_held_is_released_in_the_order_in_which_it_was_acquired() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "z");
    d.takes_slot(a, "m", 1);
    d.takes(a, "a");
    d.enqueues(a, "e");
    d.send(a, "w\ne\n0\n");
    d.gets(a, "ok", 33);
    d.takes_slot(a, "b", 1);
    let asks = "e\na\n\nse\nb\n1\nse\nm\n1\ne\nz\n\ne\ne\n\n";
    d.says(b, asks, &"queued\n".repeat(5));
    d.end(a);
    let mut last = String::new();
    for wait in [
        "w\nz\n0\n",
        "sw\nm\n0\n",
        "w\na\n0\n",
        "w\ne\n0\n",
        "sw\nb\n0\n",
    ] {
        d.send(b, wait);
        let token = d.gets(b, "ok", 33);
        assert!(token[..16] > last[..], "{wait}");
        last = token[..16].to_string();
    }
}

#[test]
fn a_connection_is_not_promoted_in_its_own_clean_up() {
    let mut d = Dialogue::with(|s| s.locks.deadlock_detection = false);
    let (a, b) = (d.connect(), d.connect());
    let before = d.takes(a, "k");
    d.takes_slot(a, "s", 1);
    d.says(a, "e\nk\n\nse\ns\n1\n", "queued\nqueued\n");
    d.says(b, "e\nk\n\nse\ns\n1\n", "queued\nqueued\n");
    d.says(a, "l\nk\n10\n", "");
    d.end(a);
    d.is_closed(a);
    d.hears(a, "");
    d.send(b, "w\nk\n0\n");
    let lock = d.gets(b, "ok", 33);
    d.send(b, "sw\ns\n0\n");
    let slot = d.gets(b, "ok", 33);
    // No fence was spent on the one that left: two were granted to each.
    let mut fences = [fence(&lock), fence(&slot)];
    fences.sort();
    assert_eq!(fences, [fence(&before) + 2, fence(&before) + 3]);
}

#[test]
fn a_wait_for_a_record_ends_with_the_hang_up_unanswered() {
    for (enqueue, wait) in [("e\nk\n\n", "w\nk\n100\n"), ("se\nk\n1\n", "sw\nk\n100\n")] {
        let mut d = Dialogue::new();
        let (a, b, c) = (d.connect(), d.connect(), d.connect());
        d.takes(a, "k");
        d.takes_slot(a, "k", 1);
        d.says(b, enqueue, "queued\n");
        d.says(b, wait, "");
        d.says(c, enqueue, "queued\n");
        d.end(b);
        d.hears(b, "");
        d.is_closed(b);
        d.end(a);
        d.send(c, wait);
        d.gets(c, "ok", 33);
    }
}

#[test]
fn frames_before_the_end_are_executed_and_answered() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.0.send_only(
        a,
        b"e\nk\n\nw\nk\n10\nsl\ns\n10 2\nse\ns\n2\nsw\ns\n0\nstats\n_\n\ne\nhalf",
    );
    d.0.end_only(a);
    d.0.settle();
    let heard = d.heard(a);
    let lines: Vec<&str> = heard.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 6, "{heard}");
    assert_eq!(
        masked(&lines[..5].concat()),
        "acquired T 33\nok T 33\nok T 33\nacquired T 33\nok T 33\n"
    );
    stats_in(lines[5]);
    d.is_closed(a);
    d.takes(b, "k");
    d.takes_slot(b, "s", 2);
    d.takes_slot(b, "s", 2);
}

#[test]
fn a_wait_that_would_wait_for_a_client_that_is_gone_does_not() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.0.send_only(b, b"ping\n_\n_\nl\nk\n10\nping\n_\n_\n");
    d.end(b);
    d.hears(b, "ok\n");
    d.is_closed(b);
    // The second phase as well.
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let slot = d.takes_slot(a, "s", 1);
    d.0.send_only(b, b"se\ns\n1\nsw\ns\n100\nping\n_\n_\n");
    d.0.end_only(b);
    d.0.settle();
    d.hears(b, "queued\n");
    d.is_closed(b);
    d.says(a, frame("sr", "s", &slot), "ok\n");
    d.takes_slot(a, "s", 1);
}

#[test]
fn a_line_over_its_cap_is_told_and_then_the_connection_lingers() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.takes_slot(a, "s", 1);
    d.says(b, "sl\ns\n100 1\n", "");
    d.send(a, frame("sl", "s2", &"0".repeat(257)) + "sl\ns3\n0 1\n");
    d.hears(a, "error\n");
    d.lingers(a);
    // What it held is released when the close is decided, not when the discarding ends.
    d.gets(b, "ok", 33);
    d.takes_slot(b, "s3", 2);
    d.at(999);
    d.lingers(a);
    d.at(1_000);
    d.is_closed(a);
}

#[test]
fn places_in_queues_go_with_the_decision_to_close_as_well() {
    let mut d = Dialogue::patient();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let lock = d.takes(a, "k");
    let slot = d.takes_slot(a, "s", 1);
    d.says(b, "e\nk\n\nse\ns\n1\n", "queued\nqueued\n");
    d.says(c, "e\nk\n\nse\ns\n1\n", "queued\nqueued\n");
    d.says(b, format!("{}\n", "x".repeat(257)), "error\n");
    d.lingers(b);
    d.says(a, release("k", &lock), "ok\n");
    d.says(a, frame("sr", "s", &slot), "ok\n");
    d.send(c, "w\nk\n0\nsw\ns\n0\n");
    assert_eq!(masked(&d.heard(c)), "ok T 33\nok T 33\n");
}

#[test]
fn a_release_does_not_wait_for_the_last_words_to_be_taken() {
    let mut d = Dialogue::patient_with(|s| s.write_timeout = 0);
    let (a, b) = (d.connect(), d.connect());
    d.takes_slot(a, "s", 1);
    d.says(b, "sl\ns\n100 1\n", "");
    d.0.clients[a].appetite = 0;
    d.send(a, format!("{}\n", "x".repeat(257)));
    d.gets(b, "ok", 33);
}

#[test]
fn nothing_goes_on_being_said_while_a_connection_lingers() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.send(a, format!("{}\n", "x".repeat(257)));
    d.hears(a, "error\n");
    d.send(a, "ping\n_\n_\nl\nk\n0\n".repeat(100));
    d.hears(a, "");
    assert_eq!(d.keys(), 0);
    d.end(a);
    d.is_closed(a);
}

#[test]
fn a_long_line_is_answered_at_its_end() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.says(a, "sl\n", "");
    d.says(a, "x".repeat(500_000), "");
    d.is_open(a);
    d.says(a, "\n", "error\n");
    d.is_shut(a);
}

#[test]
fn a_long_line_without_an_end_is_answered_at_its_deadline() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(a, "sl\ns\n");
    for second in 0..23 {
        d.at(second * 1_000);
        d.send(a, "x".repeat(10_000));
        d.hears(a, "");
    }
    d.at(23_000);
    d.hears(a, "error\n");
    d.is_shut(a);
}

#[test]
fn answers_before_the_long_line_arrive_as_well() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(
        a,
        "e\nk\n\nsl\ns\n0 2\n".to_string() + &"x".repeat(300) + "\nping\n_\n_\n",
    );
    assert_eq!(masked(&d.heard(a)), "acquired T 33\nok T 33\nerror\n");
    d.is_shut(a);
    let b = d.connect();
    d.enqueues(b, "k");
}

#[test]
fn with_auto_release_off_slots_stay_and_places_in_queues_go() {
    let mut d = Dialogue::patient_with(|s| s.locks.auto_release = false);
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let slot = d.takes_slot(a, "s", 2);
    d.takes_slot(b, "s", 2);
    d.says(a, "se\ns\n2\n", "queued\n");
    d.says(c, "sl\ns\n100 2\n", "");
    d.end(a);
    d.is_closed(a);
    d.hears(c, "");
    d.says(b, frame("sr", "s", &slot), "ok\n");
    d.gets(c, "ok", 33);
    d.at(33_001);
    d.takes_slot(b, "s", 2);
}

#[test]
fn a_connection_with_5000_slots_closes_and_5000_waiters_are_served() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    for n in 0..5_000 {
        d.0.send_only(a, b"sl\ns\n0 5000\n");
        if n % 50 == 0 {
            d.0.settle();
        }
    }
    d.0.settle();
    assert_eq!(d.heard(a).lines().count(), 5_000);
    let waiters: Vec<usize> = (0..5_000).map(|_| d.0.connect()).collect();
    for &waiter in &waiters {
        d.0.send_only(waiter, b"sl\ns\n100 5000\n");
    }
    d.0.settle();
    d.says(b, "sl\ns\n0 5000\n", "timeout\n");
    d.0.reset_only(a);
    d.0.turn();
    d.0.send_only(b, b"ping\n_\n_\n");
    d.0.turn();
    d.hears(b, "ok\n");
    d.0.settle();
    let mut last = 0;
    for &waiter in &waiters {
        let token = d.gets(waiter, "ok", 33);
        assert!(fence(&token) > last, "first come, first served");
        last = fence(&token);
    }
}

#[test]
fn a_connection_that_goes_with_many_records_is_not_granted_one_of_them() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_locks = 20_000);
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    for n in 0..5_000 {
        let key = format!("k{n}");
        d.0.send_only(b, frame("l", &key, "0 1000").as_bytes());
        d.0.send_only(a, frame("e", &key, "").as_bytes());
        if n % 50 == 0 {
            d.0.settle();
        }
    }
    d.0.settle();
    let tokens: Vec<String> = d
        .heard(b)
        .lines()
        .map(|line| line.split(' ').nth(1).unwrap().to_string())
        .collect();
    d.says(c, "l\nk4999\n100\n", "");
    d.0.reset_only(a);
    d.0.send_only(b, release("k4999", &tokens[4_999]).as_bytes());
    d.0.turn();
    d.0.send_only(b, release("k2500", &tokens[2_500]).as_bytes());
    d.0.send_only(c, b"ping\n_\n_\n");
    d.0.settle();
    let heard = masked(&d.heard(c));
    assert_eq!(heard, "ok T 33\nok\n");
    d.takes(c, "k2500");
}

#[test]
fn a_thousand_clients_that_come_and_go_leave_nothing() {
    let mut d = Dialogue::with(|s| s.locks.max_idle = 0);
    for round in 0..1_000 {
        let (a, b, c) = (d.connect(), d.connect(), d.connect());
        d.send(a, "e\nk\n\nsl\nk\n0 1\nse\nk2\n3\n");
        d.send(b, "e\nk\n\nse\nk\n1\nw\nk\n100\n");
        d.send(c, "sl\nk\n100 1\n");
        let mut order = [a, b, c];
        order.rotate_left(round % 3);
        for client in order {
            if round % 2 == 0 {
                d.end(client);
            } else {
                d.reset(client);
            }
        }
        assert_eq!(d.0.sessions(), 0);
        assert_eq!(d.keys(), 0);
        assert_eq!(d.0.deadline(), None, "not a timer stays");
    }
}

#[test]
fn a_closed_connection_is_read_for_a_second_or_256_kib_so_that_its_last_line_arrives() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    for client in [a, b, c] {
        d.says(client, "x".repeat(300) + "\n", "error\n");
        d.lingers(client);
    }
    d.end(a);
    d.is_closed(a);
    for _ in 0..16 {
        d.send(b, [b'x'; 16 * 1024]);
        d.lingers(b);
    }
    d.send(b, "x");
    d.is_closed(b);
    d.at(999);
    d.lingers(c);
    d.at(1_000);
    d.is_closed(c);
}

#[test]
fn a_lock_is_released_when_its_client_goes() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.says(c, "l\nk\n10\n", "");
    d.end(a);
    d.is_closed(a);
    d.is_granted(b, 33);
    d.reset(b);
    d.is_granted(c, 33);
}

#[test]
fn a_waiter_that_hangs_up_leaves_the_queue_at_once_unanswered() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.says(c, "l\nk\n10\n", "");
    d.end(b);
    d.is_closed(b);
    d.hears(b, "");
    d.says(a, release("k", &token), "ok\n");
    d.is_granted(c, 33);
}

#[test]
fn a_hang_up_is_seen_behind_input_that_is_not_read() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.says(c, "l\nk\n10\n", "");
    d.send(b, "ping\n_\n_\n".repeat(7000));
    assert!(d.0.clients[b].unread.len() > 40_000, "the input is full");
    d.end(b);
    d.is_closed(b);
    d.says(a, release("k", &token), "ok\n");
    d.is_granted(c, 33);
}

#[test]
fn a_grant_that_its_client_never_received_goes_to_the_next_in_the_same_turn() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.says(c, "l\nk\n10\n", "");
    d.0.send_only(a, release("k", &token).as_bytes());
    // The grant is in b's output; the write fails.
    d.0.reset_only(b);
    d.0.turn();
    d.is_closed(b);
    d.is_granted(c, 33);
}

#[test]
fn grant_expiry_and_disconnect_in_the_same_turn_leave_one_holder() {
    let mut d = Dialogue::new();
    let (a, b, c, e) = (d.connect(), d.connect(), d.connect(), d.connect());
    d.send(a, "l\nk\n0 5\n");
    d.is_granted(a, 5);
    for client in [b, c, e] {
        d.says(client, "l\nk\n5 5\n", "");
    }
    d.0.now += 5 * SECOND;
    d.0.reset_only(a);
    d.0.reset_only(b);
    d.0.turn();
    let answers = [d.heard(c), d.heard(e)];
    assert!(answers[0].starts_with("ok "), "{answers:?}");
    assert_eq!(answers[1], "timeout\n");
    d.0.settle();
}

#[test]
fn an_expired_hold_of_a_gone_client_is_not_released_twice() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.takes(a, "k");
    d.at(33_000);
    let b = d.connect();
    let token = d.takes(b, "k");
    d.end(a);
    d.says(b, renew("k", &token), "ok 33\n");
}

#[test]
fn a_session_with_10000_holds_closes_in_slices_and_every_waiter_is_served() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 20_000);
    let (a, b) = (d.connect(), d.connect());
    for n in 0..10_000 {
        d.0.send_only(a, format!("l\nk{n}\n0\n").as_bytes());
        d.0.turn();
    }
    let waiters: Vec<usize> = (0..1000).map(|_| d.connect()).collect();
    for (n, &waiter) in waiters.iter().enumerate() {
        d.0.send_only(waiter, format!("l\nk{}\n10\n", n * 10).as_bytes());
    }
    d.0.settle();
    d.0.reset_only(a);
    d.0.turn();
    assert!(
        d.0.locks().keys() > 9000,
        "a turn does its share and no more"
    );
    d.says(b, "ping\n_\n_\n", "ok\n");
    for &waiter in &waiters {
        d.is_granted(waiter, 33);
    }
    assert_eq!(d.keys(), 1000);
}

#[test]
fn a_flood_of_hang_ups_keeps_no_lease_from_ending() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 100_000);
    let (b, c) = (d.connect(), d.connect());
    d.send(b, "l\nk\n0 1\n");
    d.is_granted(b, 1);
    d.says(c, "l\nk\n100\n", "");
    let floods: Vec<usize> = (0..20).map(|_| d.connect()).collect();
    for &flood in &floods {
        for n in 0..600 {
            let frame = format!("l\nflood-{flood}-{n}\n0\n");
            d.0.send_only(flood, frame.as_bytes());
        }
        d.0.settle();
    }
    d.0.now += SECOND;
    for &flood in &floods {
        d.0.reset_only(flood);
    }
    d.0.turn();
    d.is_granted(c, 33);
}

#[test]
fn what_was_answered_before_a_hang_up_is_not_eaten_by_a_reset() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.send(b, "ping\n_\n_\n".repeat(7000));
    assert!(!d.0.clients[b].unread.is_empty());
    d.end(b);
    d.is_closed(b);
    assert!(!d.0.clients[b].was_reset);
}

/// Sessions that always have more to execute than a turn's share do not keep a lock of somebody who has gone.
#[test]
fn a_close_does_not_queue_behind_everybody_elses_requests() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    let floods: Vec<usize> = (0..300).map(|_| d.connect()).collect();
    for turn in 0..10 {
        for &flood in &floods {
            d.0.send_only(flood, "ping\n_\n_\n".repeat(255).as_bytes());
        }
        if turn == 5 {
            d.0.end_only(a);
            d.0.turn();
            break;
        }
        d.0.turn();
    }
    d.is_granted(b, 33);
    d.0.settle();
}

/// With auto-release off a hold waits for its token, or for its lease. Nobody knows this one's.
#[test]
fn a_hold_whose_token_was_never_told_ends_with_its_session_in_any_case() {
    let mut d = Dialogue::with(|s| s.locks.auto_release = false);
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(a, release("k", &token), "ok\n");
    d.says(c, "l\nk\n10\n", "");
    d.end(b);
    d.is_granted(c, 33);
    // This one was told: it stays.
    let e = d.connect();
    d.send(e, "e\nk2\n\n");
    assert!(d.heard(e).starts_with("acquired "));
    d.end(e);
    d.says(a, "l\nk2\n0\n", "timeout\n");
}

/// Marks of lost leases cost nobody else anything when their sessions go.
#[test]
fn sessions_with_a_thousand_lost_marks_close_in_slices() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 2000);
    let clients: Vec<usize> = (0..40).map(|_| d.connect()).collect();
    for n in 0..1030 {
        for &client in &clients {
            d.0.send_only(client, format!("se\ns{n}\n1000 1\n").as_bytes());
        }
        d.0.turn();
    }
    d.0.now += 2 * SECOND;
    d.0.settle();
    d.heard(clients[0]);
    // The oldest marks have made room for the newest, and each is told once.
    d.says(clients[0], "sw\ns0\n0\n", "error_not_enqueued\n");
    d.says(clients[0], "sw\ns1029\n0\n", "error_lease_expired\n");
    d.says(clients[0], "sw\ns1029\n0\n", "error_not_enqueued\n");
    for &client in &clients {
        d.0.reset_only(client);
    }
    d.0.turn();
    assert!(d.0.sessions() > 20, "a turn does its share and no more");
    d.0.settle();
    assert_eq!(d.0.sessions(), 0);
}

#[test]
fn a_grant_that_cannot_be_written_goes_to_the_next_in_the_same_turn() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    for waiter in [b, c] {
        d.says(waiter, "l\nk\n10\n", "");
    }
    d.0.clients[b].breaks = true;
    d.0.send_only(a, release("k", &token).as_bytes());
    d.0.turn();
    assert!(d.0.clients[b].closed, "its write has failed");
    d.is_granted(c, 33);
    d.0.settle();
    // Its slot is free again, once.
    assert_eq!(d.0.sessions(), 2);
    let others: Vec<usize> = (0..3).map(|_| d.connect()).collect();
    for other in others {
        d.says(other, "ping\n_\n_\n", "ok\n");
    }
}
