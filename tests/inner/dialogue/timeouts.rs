//! How long a connection may be silent, and how long it may take to read.

use super::*;

#[test]
fn a_holder_of_any_kind_is_not_cut_for_saying_nothing() {
    for request in [
        "l\nk\n0 60\n",
        "sl\nk\n0 1 60\n",
        "e\nk\n60\n",
        "se\nk\n1 60\n",
        "e\nk\n60\nw\nk\n0\n",
    ] {
        let mut d = Dialogue::new();
        let a = d.connect();
        d.send(a, request);
        d.at(59_999);
        d.is_open(a);
    }
}

#[test]
fn a_connection_with_a_queued_record_is_not_cut() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n0 1000\nsl\nk\n0 1 1000\n");
    d.heard(a);
    d.says(b, "e\nk\n\n", "queued\n");
    let c = d.connect();
    d.says(c, "se\nk\n1\n", "queued\n");
    d.at(900_000);
    d.is_open(b);
    d.is_open(c);
    d.says(b, "w\nk\n0\n", "timeout\n");
    d.says(c, "sw\nk\n0\n", "timeout\n");
    // Now they have nothing.
    d.at(922_999);
    d.is_open(b);
    d.is_open(c);
    d.at(923_000);
    for client in [b, c] {
        d.hears(client, "error\n");
        d.is_shut(client);
    }
    d.is_open(a);
}

#[test]
fn the_time_between_frames_counts_from_becoming_free() {
    // By an expiry.
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(a, "sl\ns\n0 1 100\n");
    d.gets(a, "ok", 100);
    d.at(122_999);
    d.is_open(a);
    d.hears(a, "");
    d.at(123_000);
    d.hears(a, "error\n");
    d.is_shut(a);
    // By a release that another connection sends.
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "e\nk\n100\n");
    let token = d.gets(a, "acquired", 100);
    d.at(20_000);
    d.says(b, "ping\n_\n_\n", "ok\n");
    d.at(40_000);
    d.says(b, release("k", &token), "ok\n");
    d.at(62_999);
    d.is_open(a);
    d.at(63_000);
    d.hears(a, "error\n");
    d.is_shut(a);
}

#[test]
fn the_mark_of_a_lost_lease_is_no_hold() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(b, "l\nk\n0 30\n");
    d.gets(b, "ok", 30);
    d.says(a, "e\nk\n10\n", "queued\n");
    // Promoted at 30 s, lost at 40 s.
    d.at(62_999);
    d.is_open(a);
    d.at(63_000);
    d.hears(a, "error\n");
    d.is_shut(a);
}

#[test]
fn the_time_between_frames_counts_from_the_answer_of_a_wait() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n0 1000\n");
    d.gets(a, "ok", 1000);
    d.says(b, "e\nk\n\nw\nk\n100\n", "queued\n");
    d.at(100_000);
    d.hears(b, "timeout\n");
    d.at(122_999);
    d.is_open(b);
    d.at(123_000);
    d.hears(b, "error\n");
    d.is_shut(b);
}

#[test]
fn no_read_timeout_runs_while_an_acquire_or_a_wait_waits() {
    for wait in [
        "l\nk\n200\n",
        "e\nk\n\nw\nk\n200\n",
        "sl\nk\n200 1\n",
        "se\nk\n1\nsw\nk\n200\n",
    ] {
        let mut d = Dialogue::new();
        let (a, b) = (d.connect(), d.connect());
        d.send(a, "l\nk\n0 1000\nsl\nk\n0 1 1000\n");
        // A started frame behind it has no deadline yet either.
        d.send(b, format!("{wait}pin"));
        d.heard(b);
        d.at(199_999);
        d.is_open(b);
        d.hears(b, "");
        d.at(200_000);
        d.hears(b, "timeout\n");
        d.at(222_999);
        d.is_open(b);
        d.at(223_000);
        d.hears(b, "error\n");
        d.is_shut(b);
    }
}

#[test]
fn a_line_inside_a_frame_has_one_deadline_that_bytes_do_not_refresh() {
    for start in ["se\n", "se\ns\n", "auth\n_\n", "stats\n"] {
        let mut d = Dialogue::new();
        let a = d.connect();
        d.send(a, start);
        for second in 1..23 {
            d.at(second * 1_000);
            d.send(a, "1");
            d.is_open(a);
        }
        d.at(22_999);
        d.hears(a, "");
        d.at(23_000);
        d.hears(a, "error\n");
        d.is_shut(a);
    }
}

#[test]
fn each_line_of_a_frame_has_its_own_deadline() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.at(20_000);
    d.says(a, "se\n", "");
    d.at(40_000);
    d.says(a, "s\n", "");
    d.at(60_000);
    d.send(a, "2\n");
    d.gets(a, "acquired", 33);
}

#[test]
fn a_holder_inside_a_frame_has_the_deadline_too_and_loses_what_it_holds() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "sl\ns\n0 1 1000\n");
    d.gets(a, "ok", 1000);
    d.says(b, "sl\ns\n100 1\n", "");
    d.at(10_000);
    d.send(a, "sn\ns\n");
    d.at(32_999);
    d.hears(b, "");
    d.at(33_000);
    d.hears(a, "error\n");
    d.is_shut(a);
    d.gets(b, "ok", 33);
}

#[test]
fn a_holder_that_has_begun_a_line_has_the_deadline_too() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(a, "sl\ns\n0 1 1000\n");
    d.gets(a, "ok", 1000);
    d.at(100_000);
    d.send(a, "s");
    d.at(122_999);
    d.is_open(a);
    d.hears(a, "");
    d.at(123_000);
    d.hears(a, "error\n");
    d.is_shut(a);
}

#[test]
fn from_accept_to_the_first_line_there_is_one_deadline() {
    for start in ["", "s", "stats"] {
        let mut d = Dialogue::new();
        let a = d.connect();
        d.at(22_000);
        d.send(a, start);
        d.at(22_999);
        d.hears(a, "");
        d.at(23_000);
        d.hears(a, "error\n");
        d.is_shut(a);
    }
}

#[test]
fn the_read_timeout_is_the_one_that_was_set() {
    let mut d = Dialogue::with(|s| s.read_timeout = SECOND);
    let (a, b) = (d.connect(), d.connect());
    d.says(b, "ping\n_\n_\n", "ok\n");
    d.at(999);
    d.hears(a, "");
    d.at(1_000);
    d.hears(a, "error\n");
    d.hears(b, "error\n");
    d.is_shut(a);
    d.is_shut(b);
}

#[test]
fn a_client_that_takes_nothing_for_the_write_timeout_is_closed() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.at(100_000);
    d.0.clients[a].appetite = 0;
    d.send(a, "sl\ns\n0 1\n");
    d.says(b, "sl\ns\n100 1\n", "");
    d.at(104_999);
    d.hears(b, "");
    d.at(105_000);
    d.is_closed(a);
    d.gets(b, "ok", 33);
}

#[test]
fn a_client_that_takes_a_little_now_and_then_is_not_closed() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.0.clients[a].appetite = 0;
    d.send(a, "ping\n_\n_\n".repeat(1_000));
    for bite in 1..=20 {
        d.at(bite * 4_900);
        d.is_open(a);
        d.0.feed_client(a, 1);
        d.0.settle();
    }
    d.at(20 * 4_900 + 4_999);
    d.is_open(a);
    d.at(20 * 4_900 + 5_000);
    d.is_closed(a);
}

#[test]
fn a_client_that_has_taken_everything_owes_nothing() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.0.clients[a].appetite = 0;
    d.send(a, "ping\n_\n_\n");
    d.at(4_999);
    d.0.feed_client(a, usize::MAX);
    d.0.settle();
    d.hears(a, "ok\n");
    d.at(100_000);
    d.is_open(a);
}

#[test]
fn a_write_timeout_of_0_is_none() {
    let mut d = Dialogue::patient_with(|s| s.write_timeout = 0);
    let (a, b) = (d.connect(), d.connect());
    d.0.clients[a].appetite = 0;
    d.send(a, "sl\ns\n0 1 50000\nstats\n_\n\n");
    d.at(40_000_000);
    d.is_open(a);
    d.says(b, "sl\ns\n0 1\n", "timeout\n");
    d.0.feed_client(a, usize::MAX);
    d.0.settle();
    let heard = d.heard(a);
    assert!(heard.starts_with("ok ") && heard.lines().count() == 2);
    // The other deadlines are not off with it.
    d.at(50_000_001);
    d.takes_slot(b, "s", 1);
}

#[test]
fn a_write_timeout_in_the_middle_of_a_huge_answer_closes() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_locks = 10_000);
    let (a, b) = (d.connect(), d.connect());
    for n in 0..5_000 {
        let key = format!("{}{n}", "x".repeat(200));
        d.0.send_only(a, frame("l", &key, "0 1000").as_bytes());
        if n % 50 == 0 {
            d.0.settle();
        }
    }
    d.0.settle();
    d.0.clients[b].appetite = 1_000;
    d.send(b, "l\nof-b\n0\nstats\n_\n\n");
    d.at(4_999);
    d.is_open(b);
    d.0.feed_client(b, 1_000);
    d.0.settle();
    d.at(9_998);
    d.is_open(b);
    d.at(9_999);
    d.is_closed(b);
    d.heard(a);
    d.takes(a, "of-b");
}

#[test]
fn an_idle_connection_that_holds_nothing_ends_a_read_timeout_after_its_last_answer() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.at(10_000);
    d.says(a, "ping\n_\n_\n", "ok\n");
    d.at(23_000);
    d.hears(b, "error\n");
    d.at(32_999);
    d.is_open(a);
    d.at(33_000);
    d.hears(a, "error\n");
    d.lingers(a);
}

#[test]
fn a_holder_that_was_silent_and_sends_an_endless_line_has_a_deadline_too() {
    for pieces in [vec![300], vec![1, 299]] {
        let mut d = Dialogue::new();
        let a = d.connect();
        d.send(a, "l\nk\n0 1000\n");
        d.is_granted(a, 1000);
        d.at(50_000);
        for piece in pieces {
            d.says(a, "x".repeat(piece), "");
        }
        d.at(72_999);
        d.is_open(a);
        d.at(73_000);
        d.hears(a, "error\n");
        d.lingers(a);
    }
}

#[test]
fn a_client_whose_requests_wait_because_it_does_not_read_is_not_idle() {
    let mut d = Dialogue::with(|s| s.write_timeout = 0);
    let a = d.connect();
    d.0.clients[a].appetite = 0;
    d.send(a, "ping\n_\n_\n".repeat(30_000));
    d.at(100_000);
    d.is_open(a);
    d.0.feed_client(a, usize::MAX);
    d.0.settle();
    d.hears(a, &"ok\n".repeat(30_000));
    // From then on it is.
    d.at(122_999);
    d.is_open(a);
    d.at(123_000);
    d.hears(a, "error\n");
}

/// A deadline that passes in a turn in which the session waits for its share of work is not forgotten.
#[test]
fn half_a_line_in_the_crowd_has_its_deadline_too() {
    let mut d = Dialogue::new();
    let (a, flood) = (d.connect(), d.connect());
    d.says(a, "l\n", "");
    d.0.send_only(flood, "ping\n_\n_\n".repeat(600).as_bytes());
    d.0.turn();
    // The flood has more than its share, and this byte queues behind it when the deadline passes.
    d.0.now += 23 * SECOND;
    d.0.send_only(a, b"x");
    d.0.tick(d.0.now);
    d.0.until(d.0.now + 10);
    d.hears(a, "error\n");
    assert!(d.0.clients[a].shut);
}

#[test]
fn a_line_over_its_cap_has_its_own_deadline() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.at(22_000);
    d.says(a, format!("l\n{}", "k".repeat(300)), "");
    d.at(44_999);
    d.is_open(a);
    d.at(45_000);
    d.hears(a, "error\n");
}
