//! Many frames at once: the order of their answers, the share of a turn, and what happens when a client does not read.

use super::*;

#[test]
fn more_frames_than_a_turns_share_are_all_answered() {
    let mut d = Dialogue::new();
    let clients: Vec<usize> = (0..30).map(|_| d.connect()).collect();
    for &client in &clients {
        d.0.send_only(client, "ping\n_\n_\n".repeat(1000).as_bytes());
    }
    d.0.settle();
    for &client in &clients {
        d.hears(client, &"ok\n".repeat(1000));
    }
}

#[test]
fn frames_behind_a_waiting_acquire_wait_and_then_go_on() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\nping\n_\n_\nl\nk\n0\nping\n_", "");
    d.says(a, release("k", &token), "ok\n");
    let heard = d.heard(b);
    assert!(
        heard.starts_with("ok ") && heard.ends_with("ok\ntimeout\n"),
        "{heard:?}"
    );
    d.says(b, "\n_\n", "ok\n");
}

#[test]
fn a_granted_session_with_pipelined_input_wakes_in_the_same_turn() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\nping\n_\n_\n", "");
    d.0.send_only(a, release("k", &token).as_bytes());
    d.0.turn();
    assert!(d.heard(b).ends_with(" 33\nok\n"));
}

#[test]
fn a_timed_out_session_with_pipelined_input_wakes_too() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n5\nping\n_\n_\n", "");
    d.at(5_000);
    d.hears(b, "timeout\nok\n");
}

#[test]
fn many_frames_behind_a_waiting_acquire_kill_nobody() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let slot = d.takes_slot(a, "s", 1);
    d.says(b, "se\ns\n1\n", "queued\n");
    d.says(b, "sw\ns\n20\n", "");
    d.send(b, "se\nfree\n1\nsw\nfree\n0\n".repeat(5_000));
    d.hears(b, "");
    d.is_open(b);
    assert!(!d.0.clients[b].unread.is_empty(), "the buffer is bounded");
    d.says(a, frame("sr", "s", &slot), "ok\n");
    let heard = masked(&d.heard(b));
    let mut lines = heard.lines();
    assert_eq!(lines.next(), Some("ok T 33"));
    assert_eq!(lines.next(), Some("acquired T 33"));
    assert_eq!(lines.next(), Some("ok T 33"));
    assert_eq!(lines.next(), Some("queued"));
    assert_eq!(lines.next(), Some("timeout"));
    assert_eq!(lines.count(), 2 * 4_998);
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

#[test]
fn a_client_over_its_output_cap_is_not_read_until_it_takes_some() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.takes(b, "k");
    d.0.clients[a].appetite = 0;
    d.send(a, "stats\n_\n\n".repeat(100_000) + "l\nlast\n0\n");
    assert!(d.0.output(a).len() < OUTPUT_MAX + 65_536);
    assert!(!d.0.clients[a].unread.is_empty());
    d.takes(b, "last");
    d.0.feed_client(a, usize::MAX);
    d.0.settle();
    let heard = d.heard(a);
    assert_eq!(heard.lines().count(), 100_001);
    assert!(heard.ends_with("\ntimeout\n"));
}
