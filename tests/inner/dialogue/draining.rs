//! Drain, with all the commands: who is answered what, who stays, and when it ends.

use super::*;

impl Dialogue {
    #[track_caller]
    fn is_drained(&self) {
        assert!(self.0.is_drained(), "the drain goes on");
    }

    #[track_caller]
    fn is_not_drained(&self) {
        assert!(!self.0.is_drained(), "the drain is over");
    }
}

#[test]
fn every_kind_of_waiter_is_told_and_closed() {
    let mut d = Dialogue::new();
    let clients: Vec<usize> = (0..5).map(|_| d.connect()).collect();
    d.takes(clients[0], "k");
    d.takes_slot(clients[0], "k", 1);
    d.says(clients[1], "l\nk\n100\n", "");
    d.says(clients[2], "sl\nk\n100 1\n", "");
    d.says(clients[3], "e\nk\n\nw\nk\n100\n", "queued\n");
    d.says(clients[4], "se\nk\n1\nsw\nk\n100\n", "queued\n");
    d.drain();
    for &client in &clients[1..] {
        d.hears(client, "error_draining\n");
        d.is_shut(client);
    }
    d.is_open(clients[0]);
    d.hears(clients[0], "");
    d.is_not_drained();
}

#[test]
fn a_connection_that_holds_nothing_is_closed_without_a_word() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.says(a, "ping\n_\n_\n", "ok\n");
    d.says(b, "e\nk\n", "");
    d.drain();
    for client in [a, b, c] {
        d.hears(client, "");
        d.is_shut(client);
    }
    d.at(1_100);
    for client in [a, b, c] {
        d.is_closed(client);
    }
    d.is_drained();
}

#[test]
fn nothing_is_granted_any_more() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.takes(a, "other");
    d.takes(b, "of-b");
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(c, "l\nk\n100\n", "");
    d.drain();
    d.hears(c, "error_draining\n");
    d.says(a, release("k", &token), "ok\n");
    d.hears(b, "");
    let stats = d.stats(a);
    assert!(!stats.field("locks").keys().contains(&"k"));
    d.says(b, "w\nk\n10\n", "error_draining\n");
    d.says(a, "l\nk\n0\n", "error_draining\n");
    d.is_open(a);
    d.is_open(b);
}

#[test]
fn a_lease_that_ends_in_the_drain_goes_to_nobody() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "sl\ns\n0 1 5\nl\nk\n0\n");
    d.heard(a);
    d.takes(b, "of-b");
    d.says(b, "se\ns\n1\n", "queued\n");
    d.drain();
    d.at(5_001);
    d.says(b, "sw\ns\n10\n", "error_draining\n");
    let stats = d.stats(b);
    assert!(stats.field("semaphores").list().is_empty());
}

#[test]
fn a_holders_own_commands_work_as_ever() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let lock = d.takes(a, "k");
    let slot = d.takes_slot(a, "s", 2);
    d.takes(a, "kept");
    d.drain();
    d.says(a, renew("k", &lock), "ok 33\n");
    d.says(a, renew("k", &format!("{lock} 5")), "ok 5\n");
    d.says(a, frame("sn", "s", &slot), "ok 33\n");
    d.says(a, "ping\n_\n_\n", "ok\n");
    let stats = d.stats(a);
    assert_eq!(stats.field("locks").list().len(), 2);
    assert_eq!(
        stats
            .field("semaphores")
            .of_key("s")
            .field("holders")
            .number(),
        1.0
    );
    d.says(a, release("k", &lock), "ok\n");
    d.says(a, release("k", &lock), "error\n");
    d.says(a, frame("sr", "s", &slot), "ok\n");
    d.says(a, frame("sn", "s", &slot), "error\n");
    d.is_open(a);
}

#[test]
fn a_holders_other_frames_get_error_draining_and_leave_it_open() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.enqueues(a, "granted");
    d.takes_slot(b, "s", 1);
    d.says(a, "se\ns\n1\n", "queued\n");
    d.drain();
    for request in [
        frame("l", "free", "0"),
        frame("l", "free", "100"),
        frame("l", "k", "0"),
        frame("e", "free", ""),
        frame("e", "granted", ""),
        frame("w", "nobody", "0"),
        frame("sl", "s", "0 1"),
        frame("sl", "s", "0 2"),
        frame("se", "s", "1"),
        frame("sw", "s", "10"),
        frame("sw", "s", "10"),
    ] {
        d.says(a, &request, "error_draining\n");
        d.is_open(a);
    }
    d.says(a, renew("k", &token), "ok 33\n");
}

#[test]
fn malformed_frames_in_the_drain_are_errors_of_some_kind_and_leave_a_holder_open() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.drain();
    for request in [
        "nonsense\nk\n\n",
        "l\nbad key\n0\n",
        "e\nk\nx\n",
        "auth\n_\nx\n",
    ] {
        d.send(a, request);
        let heard = d.heard(a);
        assert!(
            ["error\n", "error_draining\n"].contains(&&heard[..]),
            "{heard:?}"
        );
        d.is_open(a);
    }
    d.says(a, "r\nk\n\n", "error\n");
    d.says(a, release("k", &token), "ok\n");
}

#[test]
fn a_token_of_a_granted_record_is_good_in_the_drain() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.enqueues(a, "k");
    d.drain();
    d.says(a, renew("k", &token), "ok 33\n");
    d.says(a, "w\nk\n0\n", &format!("ok {token} 33\n"));
    d.says(a, "w\nk\n0\n", "error_draining\n");
    d.says(a, renew("k", &token), "ok 33\n");
    d.says(a, release("k", &token), "ok\n");
    d.is_shut(a);
}

#[test]
fn a_promoted_record_holds_through_the_drain() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "e\nk\n10\n", "queued\n");
    d.says(a, release("k", &token), "ok\n");
    d.drain();
    d.is_open(b);
    d.hears(b, "");
    // Its lease runs; with it the last reason to stay goes.
    d.at(9_999);
    d.is_open(b);
    d.at(11_100);
    d.is_closed(b);
    d.is_drained();
}

#[test]
fn a_connection_with_no_more_than_a_queued_record_holds_nothing() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "e\nk\n\n", "queued\n");
    d.drain();
    d.hears(b, "");
    d.is_shut(b);
    d.is_open(a);
}

#[test]
fn a_holder_is_closed_with_its_last_release() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let lock = d.takes(a, "k");
    let slot = d.takes_slot(a, "s", 2);
    d.drain();
    d.says(a, release("k", &lock), "ok\n");
    d.is_open(a);
    d.says(a, frame("sr", "s", &slot), "ok\n");
    d.is_shut(a);
    d.end(a);
    d.is_closed(a);
    d.is_drained();
}

#[test]
fn a_holder_is_closed_when_another_releases_its_last_hold() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let slot = d.takes_slot(a, "s", 2);
    d.takes_slot(b, "s", 2);
    d.drain();
    d.says(b, frame("sr", "s", &slot), "ok\n");
    d.is_shut(a);
    d.hears(a, "");
    d.is_open(b);
}

#[test]
fn a_holder_that_waits_is_told_and_stays() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let lock = d.takes(a, "of-a");
    d.takes_slot(b, "s", 1);
    d.says(a, "se\ns\n1\nsw\ns\n100\nping\n_\n_\nl\nk\n0\n", "queued\n");
    d.drain();
    d.hears(a, "error_draining\nok\nerror_draining\n");
    d.is_open(a);
    d.says(a, renew("of-a", &lock), "ok 33\n");
}

#[test]
fn a_holder_renews_through_the_drain_and_is_not_cut_for_the_read_timeout() {
    let mut d = Dialogue::with(|s| s.shutdown_timeout = 0);
    let (a, b) = (d.connect(), d.connect());
    let lock = d.takes(a, "k");
    let slot = d.takes_slot(b, "s", 1);
    d.drain();
    for half_minute in 1..100 {
        d.at(half_minute * 30_000);
        d.says(a, renew("k", &lock), "ok 33\n");
        d.says(b, frame("sn", "s", &slot), "ok 33\n");
        d.is_not_drained();
    }
    d.says(a, release("k", &lock), "ok\n");
    d.is_not_drained();
    d.at(100 * 30_000 + 3_001);
    // b's lease has ended; nobody holds anything.
    d.at(100 * 30_000 + 5_000);
    d.is_closed(a);
    d.is_closed(b);
    d.is_drained();
}

#[test]
fn at_the_shutdown_timeout_the_drain_ends_whoever_holds() {
    let mut d = Dialogue::with(|s| s.shutdown_timeout = 10 * SECOND);
    let a = d.connect();
    let token = d.takes(a, "k");
    d.at(5_000);
    d.drain();
    d.at(14_999);
    d.says(a, renew("k", &token), "ok 33\n");
    d.is_not_drained();
    d.at(15_000);
    d.is_drained();
}

#[test]
fn a_lease_without_a_connection_does_not_keep_the_drain_alive() {
    let mut d = Dialogue::with(|s| s.locks.auto_release = false);
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.takes_slot(b, "s", 1);
    d.end(a);
    d.drain();
    d.is_not_drained();
    d.is_open(b);
    d.end(b);
    d.is_closed(b);
    d.is_drained();
}

#[test]
fn a_holder_that_hangs_up_in_the_drain_ends_it() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.takes_slot(a, "s", 1);
    d.enqueues(a, "k");
    d.drain();
    d.is_not_drained();
    d.reset(a);
    d.is_drained();
}

#[test]
fn what_was_asked_before_the_drain_is_answered_before_the_close() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.0.clients[a].appetite = 0;
    d.send(a, "ping\n_\n_\n".repeat(1_000));
    d.0.clients[b].appetite = 0;
    d.send(b, "stats\n_\n\n");
    d.drain();
    d.is_open(a);
    d.is_open(b);
    for client in [a, b] {
        d.0.feed_client(client, usize::MAX);
        d.0.settle();
        d.is_shut(client);
    }
    d.hears(a, &"ok\n".repeat(1_000));
    let heard = d.heard(b);
    stats_in(&heard);
}

#[test]
fn a_huge_answer_that_was_begun_is_finished_in_the_drain() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 10_000);
    let (a, b) = (d.connect(), d.connect());
    for n in 0..3_000 {
        let key = format!("{}{n}", "x".repeat(200));
        d.0.send_only(a, frame("l", &key, "0").as_bytes());
        if n % 50 == 0 {
            d.0.settle();
        }
    }
    d.0.settle();
    d.0.send_only(b, b"stats\n_\n\n");
    d.0.turn();
    d.drain();
    let heard = d.heard(b);
    assert_eq!(stats_in(&heard).field("locks").list().len(), 3_000);
    d.is_shut(b);
    d.is_open(a);
}

#[test]
fn error_draining_reaches_a_client_that_goes_on_sending() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n100\n", "");
    d.send(b, "ping\n_\n_\n".repeat(20_000));
    d.drain();
    let heard = d.heard(b);
    assert!(heard.starts_with("error_draining\n"), "{heard:?}");
    d.is_shut(b);
    d.at(1_100);
    d.is_closed(b);
}

#[test]
fn unauthenticated_connections_do_not_hold_up_the_drain() {
    let mut d = Dialogue::with(|s| s.secret = Some(b"x".to_vec()));
    let (a, b) = (d.connect(), d.connect());
    d.says(b, "auth\n_\nwrong\n", "error_auth\n");
    d.drain();
    d.at(1_200);
    d.is_closed(a);
    d.is_closed(b);
    d.is_drained();
}

#[test]
fn an_empty_server_is_drained_at_once() {
    let mut d = Dialogue::new();
    d.is_not_drained();
    d.drain();
    d.is_drained();
}

#[test]
fn a_holder_whose_lease_ends_while_it_reads_gets_its_answer_whole() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 10_000);
    let (a, b) = (d.connect(), d.connect());
    for n in 0..3_000 {
        let key = format!("{}{n}", "x".repeat(200));
        d.0.send_only(a, frame("l", &key, "0").as_bytes());
        if n % 50 == 0 {
            d.0.settle();
        }
    }
    d.0.settle();
    d.send(b, "l\nof-b\n0 1\n");
    d.gets(b, "ok", 1);
    d.drain();
    d.0.clients[b].appetite = 0;
    d.0.send_only(b, b"stats\n_\n\n");
    d.at(2_000);
    d.is_open(b);
    d.0.feed_client(b, usize::MAX);
    d.0.settle();
    let heard = d.heard(b);
    assert!(stats_in(&heard).field("locks").list().len() >= 3_000);
    d.is_shut(b);
}

#[test]
fn a_drain_closes_a_holder_when_its_lease_ends_and_ends_at_its_own_timeout() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n0 10\n");
    d.is_granted(a, 10);
    d.takes(b, "k2");
    d.drain();
    d.at(9_999);
    d.is_open(a);
    d.at(10_000);
    d.is_closed(a);
    d.at(29_999);
    assert!(!d.0.is_drained());
    d.at(30_000);
    assert!(d.0.is_drained());
}

#[test]
fn a_drain_of_thousands_reaches_everybody() {
    let mut d = Dialogue::with(|s| s.shutdown_timeout = 0);
    let clients: Vec<usize> = (0..3000).map(|_| d.connect()).collect();
    d.takes(clients[0], "k");
    for &client in &clients[1..1500] {
        d.0.send_only(client, b"l\nk\n100\n");
    }
    d.0.settle();
    d.drain();
    for &client in &clients[1..1500] {
        d.hears(client, "error_draining\n");
    }
    for &client in &clients[1500..] {
        d.is_closed(client);
    }
    d.is_open(clients[0]);
    d.at(2_000);
    assert_eq!(d.0.sessions(), 1);
    d.reset(clients[0]);
    assert!(d.0.is_drained());
}

#[test]
fn a_holder_that_lost_its_connection_comes_back_in_the_drain() {
    let mut d = Dialogue::new();
    let (a, other) = (d.connect(), d.connect());
    d.says(a, "id\n_\nme\n", "ok\n");
    let token = d.takes(a, "k");
    let kept = d.takes(other, "kept");
    d.drain();
    // The former connection hangs; the server does not know yet.
    let b = d.connect();
    d.hears(b, "");
    d.says(b, "id\n_\nme\n", "ok\n");
    d.is_open(b);
    d.says(b, renew("k", &token), "ok 33\n");
    d.is_open(b);
    d.is_shut(a);
    d.reset(a);
    d.says(b, release("k", &token), "ok\n");
    d.is_shut(b);
    // Another one comes only to give back, and may do so.
    let c = d.connect();
    d.says(c, release("kept", &kept), "ok\n");
    d.is_shut(c);
    d.is_shut(other);
    d.at(1_100);
    d.is_drained();
}

#[test]
fn a_newcomer_is_told_and_closed_after_its_first_answer() {
    let mut d = Dialogue::with(|s| s.secret = Some(b"x".to_vec()));
    let a = d.connect();
    d.says(a, "auth\n_\nx\n", "ok\n");
    d.takes(a, "k");
    d.drain();
    for (request, answer) in [
        ("l\nk\n100\n", "error_draining\n"),
        ("e\nk\n\n", "error_draining\n"),
        ("listen\nk\n\n", "error_draining\n"),
        ("signal\nk\nx\n", "error_draining\n"),
        ("ping\n_\n_\n", "ok\n"),
        ("nonsense\n_\n_\n", "error\n"),
        ("r\nk\n00000000000000010000000000000000\n", "error\n"),
        ("unlisten\nk\n\n", "ok\n"),
        ("break\nnothing\n\n", "ok 0\n"),
    ] {
        let b = d.connect();
        d.says(b, "auth\n_\nx\n", "ok\n");
        d.says(b, "id\n_\nme\n", "ok\n");
        d.is_open(b);
        d.says(b, request, answer);
        d.is_shut(b);
    }
    let b = d.connect();
    d.says(b, "auth\n_\nx\n", "ok\n");
    d.send(b, "show\nk\n\n");
    assert!(d.heard(b).contains("\"held\":1"));
    d.is_shut(b);
    d.is_not_drained();
}

#[test]
fn a_newcomer_with_nothing_to_say_keeps_no_drain_alive() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.drain();
    let (b, c) = (d.connect(), d.connect());
    d.send(c, "l\nk");
    d.at(10_000);
    d.is_open(b);
    d.is_open(c);
    d.says(a, release("k", &token), "ok\n");
    for client in [b, c] {
        d.hears(client, "error_draining\n");
        d.is_shut(client);
    }
    // Nothing is held any more: this one is told at once.
    let late = d.connect();
    d.hears(late, "error_draining\n");
    d.is_shut(late);
    d.at(11_100);
    d.is_drained();
}

#[test]
fn what_is_held_when_the_drain_begins_is_noted_up_to_twenty() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let tokens: Vec<String> = (0..30).map(|n| d.takes(a, &format!("k{n}"))).collect();
    d.says(a, frame("detach", "k0", &tokens[0]), "ok\n");
    d.drain();
    let kept = |happened: &dflockd::hub::Happened| match &happened.event {
        dflockd::locks::Event::Kept { hold, .. } => hold.fence,
        other => panic!("{other:?}"),
    };
    let fences: Vec<u64> = d.0.events.iter().map(kept).collect();
    let wanted: Vec<u64> = tokens[1..21].iter().map(|token| fence(token)).collect();
    assert_eq!(fences, wanted);
}

#[test]
fn detached_holds_do_not_keep_the_drain_alive() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.drain();
    d.says(a, frame("detach", "k", &token), "ok\n");
    d.is_shut(a);
    d.at(1_100);
    d.is_drained();
}
