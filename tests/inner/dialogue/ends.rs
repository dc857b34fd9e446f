//! What happens to what a client had when its connection ends.

use super::*;

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
fn with_auto_release_off_a_hold_outlives_its_client_until_release_or_lease() {
    let mut d = Dialogue::with(|s| s.locks.auto_release = false);
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.takes(a, "k2");
    d.end(a);
    d.is_closed(a);
    d.says(b, "l\nk\n0\n", "timeout\n");
    d.says(b, release("k", &token), "ok\n");
    d.takes(b, "k");
    d.says(b, "l\nk2\n100\n", "");
    d.at(33_000);
    d.is_granted(b, 33);
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
fn frames_before_the_end_of_input_are_executed_and_answered() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.0.send_only(a, b"ping\n_\n_\nl\nk\n0\nping\n_\n_\nl\nk");
    d.end(a);
    let heard = d.heard(a);
    assert!(
        heard.starts_with("ok\nok ") && heard.ends_with(" 33\nok\n"),
        "{heard:?}"
    );
    d.is_closed(a);
    assert_eq!(d.keys(), 0);
}

#[test]
fn more_frames_than_a_turns_share_before_the_end_are_executed_too() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.0.send_only(a, "ping\n_\n_\n".repeat(5000).as_bytes());
    d.0.end_only(a);
    d.0.settle();
    d.hears(a, &"ok\n".repeat(5000));
    d.is_closed(a);
}

#[test]
fn an_acquire_that_would_wait_for_a_client_that_is_gone_does_not() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.0.send_only(b, b"ping\n_\n_\nl\nk\n10\nping\n_\n_\n");
    d.end(b);
    d.hears(b, "ok\n");
    d.is_closed(b);
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
fn input_over_the_cap_stays_in_the_socket_and_is_read_when_there_is_room() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.send(b, "ping\n_\n_\n".repeat(7000));
    assert!(d.0.clients[b].unread.len() >= 63_000 - INPUT_MAX);
    d.says(a, release("k", &token), "ok\n");
    let heard = d.heard(b);
    assert_eq!(heard.lines().count(), 7001);
}

#[test]
fn a_client_that_does_not_read_is_not_served_until_it_does() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.0.clients[a].appetite = 0;
    d.send(a, "ping\n_\n_\n".repeat(100_000));
    assert!(d.0.clients[a].unread.len() > 500_000);
    assert!(d.0.output(a).len() < OUTPUT_MAX + 64);
    d.0.feed_client(a, usize::MAX);
    d.0.settle();
    d.hears(a, &"ok\n".repeat(100_000));
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
fn everything_a_client_had_is_gone_after_it() {
    let mut d = Dialogue::with(|s| s.locks.max_idle = 0);
    for round in 0..1000 {
        let (a, b) = (d.connect(), d.connect());
        d.takes(a, "k");
        d.says(b, "l\nk\n10\nping\n", "");
        if round % 2 == 0 {
            d.end(b);
            d.reset(a);
        } else {
            d.end(a);
            d.end(b);
        }
        assert_eq!(d.0.sessions(), 0);
        assert_eq!(d.keys(), 0);
        assert_eq!(d.0.deadline(), None, "not a timer stays");
    }
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

#[test]
fn who_came_first_is_served_first_however_much_others_send() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let floods: Vec<usize> = (0..300).map(|_| d.connect()).collect();
    for &flood in &floods {
        d.0.send_only(flood, "ping\n_\n_\n".repeat(255).as_bytes());
    }
    d.0.send_only(a, b"ping\n_\n_\n");
    let mut turns = 0;
    while d.heard(a).is_empty() {
        // Others are always first to arrive, and in a turn of their own would be executed at once.
        d.0.turn();
        for &flood in &floods {
            d.0.send_only(flood, "ping\n_\n_\n".repeat(64).as_bytes());
        }
        turns += 1;
    }
    assert!(turns < 25, "{turns} turns");
    d.0.settle();
}

/// A grant is a send: thousands of releases in one turn, each with a waiter, are not one turn's work.
#[test]
fn a_turn_grants_only_as_many_as_it_can_tell() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 10_000);
    let holders: Vec<usize> = (0..16).map(|_| d.connect()).collect();
    let mut releases = vec![String::new(); 16];
    let mut waiters = Vec::new();
    for n in 0..16 * 128 {
        let key = format!("k{n}");
        let token = d.takes(holders[n % 16], &key);
        releases[n % 16] += &release(&key, &token);
        waiters.push(d.connect());
        d.says(waiters[n], format!("l\n{key}\n100\n"), "");
    }
    for (&holder, text) in holders.iter().zip(&releases) {
        d.0.send_only(holder, text.as_bytes());
    }
    d.0.turn();
    let told = waiters
        .iter()
        .filter(|&&waiter| !d.0.clients[waiter].heard.is_empty())
        .count();
    assert!((20..150).contains(&told), "{told} grants in a turn");
    d.0.settle();
    for &waiter in &waiters {
        d.is_granted(waiter, 33);
    }
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
