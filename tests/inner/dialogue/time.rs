//! Leases, renewals, timeouts, and what a stalled or jumping clock does to them.

use super::*;

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

#[test]
fn a_lease_ends_on_time_and_the_next_in_line_has_a_full_one() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let stale = d.takes(a, "k");
    d.says(b, "l\nk\n100 5\n", "");
    d.says(c, "l\nk\n100\n", "");
    d.0.until(1033 * SECOND - 1);
    d.hears(b, "");
    d.at(33_000);
    d.is_granted(b, 5);
    d.says(a, release("k", &stale), "error\n");
    d.0.until(1038 * SECOND - 1);
    d.hears(c, "");
    d.at(38_000);
    d.is_granted(c, 33);
}

#[test]
fn a_renewal_moves_the_end_to_now_plus_the_lease_later_or_sooner() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n1000\n", "");
    d.at(20_000);
    d.says(a, renew("k", &token), "ok 33\n");
    d.at(40_000);
    d.says(a, renew("k", &format!("{token} 100")), "ok 100\n");
    d.at(139_999);
    d.hears(b, "");
    d.says(a, renew("k", &format!("{token} 1")), "ok 1\n");
    d.at(140_998);
    d.hears(b, "");
    d.at(140_999);
    d.is_granted(b, 33);
}

#[test]
fn a_renewal_without_a_lease_uses_the_servers_default_not_the_first_lease() {
    let mut d = Dialogue::with(|s| s.locks.default_lease = 7 * SECOND);
    let a = d.connect();
    d.send(a, "l\nk\n0 60\n");
    let token = d.is_granted(a, 60);
    d.says(a, renew("k", &token), "ok 7\n");
    d.at(7_000);
    d.says(a, renew("k", &token), "error\n");
}

#[test]
fn a_renewal_answers_the_full_lease_of_one_second_and_of_the_longest() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.says(
        a,
        renew("k", &format!("{token} 9223372036")),
        "ok 9223372036\n",
    );
    d.says(a, renew("k", &format!("{token} 1")), "ok 1\n");
    d.says(a, renew("k", &format!("{token} 0")), "error\n");
}

#[test]
fn a_renewal_that_is_already_here_comes_before_the_end_of_its_lease() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n100\n", "");
    // The server was stopped past the end of the lease; both are seen in one turn.
    d.0.now += 40 * SECOND;
    d.0.send_only(a, renew("k", &token).as_bytes());
    d.0.settle();
    d.hears(a, "ok 33\n");
    d.hears(b, "");
}

#[test]
fn a_release_of_a_hold_past_due_but_not_yet_ended_is_ok() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.0.now += 40 * SECOND;
    d.0.send_only(a, release("k", &token).as_bytes());
    d.0.settle();
    d.hears(a, "ok\n");
}

#[test]
fn an_acquire_ends_a_past_due_hold_of_its_key_before_it_is_judged() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.0.now += 33 * SECOND;
    d.0.send_only(b, b"l\nk\n0\n");
    d.0.send_only(a, renew("k", &token).as_bytes());
    d.0.settle();
    d.is_granted(b, 33);
    d.hears(a, "error\n");
}

#[test]
fn an_expired_holder_a_waiter_and_a_newcomer_with_timeout_0_the_waiter_wins() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n100\n", "");
    d.0.now += 33 * SECOND;
    d.0.send_only(c, b"l\nk\n0\n");
    d.0.settle();
    d.is_granted(b, 33);
    d.hears(c, "timeout\n");
}

#[test]
fn timeout_and_grant_in_the_same_turn_make_exactly_one_answer() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    for round in 0..10_000 {
        d.send(a, "l\nk\n0 100\n");
        let token = d.is_granted(a, 100);
        d.send(b, "l\nk\n1 1\n");
        d.0.now += SECOND;
        if round % 2 == 0 {
            d.0.send_only(a, release("k", &token).as_bytes());
        } else {
            d.0.turn();
            d.0.send_only(a, release("k", &token).as_bytes());
        }
        d.0.settle();
        d.hears(a, "ok\n");
        let heard = d.heard(b);
        assert_eq!(heard.matches('\n').count(), 1, "{heard}");
        if let Some(fields) = heard.strip_prefix("ok ") {
            d.says(b, release("k", &fields[..32]), "ok\n");
        }
    }
}

#[test]
fn times_at_the_end_of_the_range_saturate() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n9223372036 9223372036\n");
    d.is_granted(a, 9_223_372_036);
    d.says(b, "l\nk\n9223372036\n", "");
    d.0.now = u64::MAX - 5;
    d.0.settle();
    let heard = d.heard(b);
    assert!(
        heard == "timeout\n" || heard.starts_with("ok "),
        "{heard:?}"
    );
    let c = d.connect();
    d.send(c, "l\nlate\n0 9223372036\n");
    d.is_granted(c, 9_223_372_036);
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.at(10_000);
    d.takes(a, "k");
    d.0.now -= 5 * SECOND;
    d.says(b, "l\nk\n100\n", "");
    d.at(42_999);
    d.hears(b, "");
    d.at(43_000);
    d.is_granted(b, 33);
}

/// Renewals that were received and wait for a later turn come before the ends of their leases.
#[test]
fn renewals_that_a_turn_puts_off_are_in_time() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let tokens: Vec<String> = (0..300).map(|n| d.takes(a, &format!("k{n}"))).collect();
    let frames: Vec<String> = (0..300)
        .map(|n| renew(&format!("k{n}"), &tokens[n]))
        .collect();
    d.0.now += 40 * SECOND;
    d.0.send_only(a, frames.concat().as_bytes());
    assert!(d.0.is_behind());
    d.0.settle();
    d.hears(a, &"ok 33\n".repeat(300));
}
