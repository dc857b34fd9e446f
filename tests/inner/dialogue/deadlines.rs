//! How long a connection may be silent, and how long it may take to read.

use super::*;

#[test]
fn each_line_of_a_frame_has_one_deadline_which_bytes_do_not_extend() {
    let mut d = Dialogue::new();
    let a = d.connect();
    for byte in 0..92 {
        d.at(byte * 250);
        d.says(a, "l", "");
    }
    d.at(22_999);
    d.is_open(a);
    d.at(23_000);
    d.hears(a, "error\n");
    d.lingers(a);
}

#[test]
fn a_line_that_is_done_gives_the_next_one_its_own_deadline() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.at(22_000);
    d.says(a, "l\n", "");
    d.at(44_000);
    d.says(a, "k\n", "");
    d.at(66_000);
    d.send(a, "0\n");
    d.is_granted(a, 33);
    let b = d.connect();
    d.says(b, "l\n", "");
    d.at(88_999);
    d.is_open(b);
    d.at(89_000);
    d.hears(b, "error\n");
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
fn a_holder_may_be_silent_for_as_long_as_it_holds_and_a_read_timeout_more() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(a, "l\nk\n0 100\n");
    d.is_granted(a, 100);
    d.at(122_999);
    d.is_open(a);
    d.at(123_000);
    d.hears(a, "error\n");
}

#[test]
fn a_holder_freed_from_elsewhere_has_a_read_timeout_from_then() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n0 1000\n");
    let token = d.is_granted(a, 1000);
    d.at(20_000);
    d.says(b, "ping\n_\n_\n", "ok\n");
    d.at(40_000);
    d.says(b, release("k", &token), "ok\n");
    d.at(62_999);
    d.is_open(a);
    d.at(63_000);
    d.hears(a, "error\n");
}

#[test]
fn a_holder_that_begins_a_line_must_end_it_in_time() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n0 1000\n");
    d.is_granted(a, 1000);
    d.at(50_000);
    d.says(a, "pin", "");
    let c = d.connect();
    d.says(c, "l\nk\n1000\n", "");
    d.at(72_999);
    d.is_open(a);
    d.at(73_000);
    d.hears(a, "error\n");
    // What it held went with the decision to close, not with the end of the lingering.
    d.is_granted(c, 33);
    d.hears(b, "error\n");
}

#[test]
fn no_read_timeout_runs_while_an_acquire_waits() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n0 1000\n");
    d.is_granted(a, 1000);
    d.says(b, "l\nk\n500\nhalf a li", "");
    d.at(499_999);
    d.is_open(b);
    d.hears(b, "");
    d.at(500_000);
    d.hears(b, "timeout\n");
    d.at(522_999);
    d.is_open(b);
    d.at(523_000);
    d.hears(b, "error\n");
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
