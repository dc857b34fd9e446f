//! Release, renewal and expiry, over both spaces: until when a hold lasts, and what a late or a jumping clock does to it.

use super::*;

/// The words for the same thing in the two spaces: acquire, its argument, renew, release.
const SPACES: [[&str; 4]; 2] = [["l", "0", "n", "r"], ["sl", "0 1", "sn", "sr"]];

#[test]
fn a_renewal_answers_exactly_what_was_asked_or_the_servers_default() {
    for [acquire, argument, renew, _] in SPACES {
        let mut d = Dialogue::patient_with(|s| s.locks.default_lease = 7 * SECOND);
        let a = d.connect();
        d.send(a, frame(acquire, "k", &format!("{argument} 100")));
        let token = d.gets(a, "ok", 100);
        d.says(a, frame(renew, "k", &token), "ok 7\n");
        for lease in [1, 2, 60, 9_223_372_036_u64] {
            d.at(500);
            let argument = format!("{token} {lease}");
            d.says(a, frame(renew, "k", &argument), &format!("ok {lease}\n"));
        }
        d.says(a, frame(renew, "k", &token), "ok 7\n");
        d.at(7_500);
        d.says(a, frame(renew, "k", &token), "error\n");
    }
}

#[test]
fn a_renewal_leaves_the_hold_with_the_connection_it_was_granted_to() {
    for [acquire, argument, renew, _] in SPACES {
        let mut d = Dialogue::patient();
        let (a, b, c) = (d.connect(), d.connect(), d.connect());
        d.send(a, frame(acquire, "k", argument));
        let token = d.gets(a, "ok", 33);
        d.says(b, frame(renew, "k", &token), "ok 33\n");
        d.end(b);
        d.says(c, frame(acquire, "k", argument), "timeout\n");
        d.end(a);
        d.send(c, frame(acquire, "k", argument));
        d.gets(c, "ok", 33);
    }
}

#[test]
fn a_hold_past_due_is_renewable_until_its_timer_had_its_turn() {
    for [acquire, argument, renew, _] in SPACES {
        let mut d = Dialogue::patient();
        let (a, b) = (d.connect(), d.connect());
        d.send(a, frame(acquire, "k", &format!("{argument} 5")));
        let token = d.gets(a, "ok", 5);
        d.0.now += 6 * SECOND;
        d.0.send_only(a, frame(renew, "k", &format!("{token} 5")).as_bytes());
        d.0.settle();
        d.hears(a, "ok 5\n");
        d.says(b, frame(acquire, "k", argument), "timeout\n");
        d.at(11_001);
        d.says(a, frame(renew, "k", &token), "error\n");
    }
}

#[test]
fn a_hold_past_due_may_be_released_until_it_was_ended() {
    for [acquire, argument, _, release] in SPACES {
        let mut d = Dialogue::patient();
        let a = d.connect();
        d.send(a, frame(acquire, "k", &format!("{argument} 5")));
        let token = d.gets(a, "ok", 5);
        d.0.now += 6 * SECOND;
        d.0.send_only(a, frame(release, "k", &token).as_bytes());
        d.0.settle();
        d.hears(a, "ok\n");
        d.says(a, frame(release, "k", &token), "error\n");
    }
}

#[test]
fn an_acquire_past_the_leases_end_ends_the_hold() {
    for [acquire, argument, renew, release] in SPACES {
        let mut d = Dialogue::patient();
        let (a, b) = (d.connect(), d.connect());
        d.send(a, frame(acquire, "k", &format!("{argument} 5")));
        let token = d.gets(a, "ok", 5);
        d.0.now += 5 * SECOND;
        d.0.send_only(b, frame(acquire, "k", argument).as_bytes());
        d.0.send_only(a, frame(renew, "k", &token).as_bytes());
        d.0.send_only(a, frame(release, "k", &token).as_bytes());
        d.0.settle();
        d.gets(b, "ok", 33);
        d.hears(a, "error\nerror\n");
    }
}

#[test]
fn an_acquire_past_the_leases_end_serves_the_queue_before_itself() {
    for [acquire, argument, _, _] in SPACES {
        let mut d = Dialogue::patient();
        let (a, b, c) = (d.connect(), d.connect(), d.connect());
        d.send(a, frame(acquire, "k", &format!("{argument} 5")));
        d.gets(a, "ok", 5);
        let waiting = argument.replacen('0', "100", 1);
        d.says(b, frame(acquire, "k", &waiting), "");
        d.0.now += 5 * SECOND;
        d.0.send_only(c, frame(acquire, "k", argument).as_bytes());
        d.0.settle();
        d.gets(b, "ok", 33);
        d.hears(c, "timeout\n");
    }
}

#[test]
fn past_due_holds_end_before_max_waiters_is_judged() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_waiters = 1);
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.send(a, "l\nk\n0 5\n");
    d.gets(a, "ok", 5);
    d.says(b, "l\nk\n100\n", "");
    d.says(c, "l\nk\n100\n", "error_max_waiters\n");
    d.0.now += 6 * SECOND;
    d.0.send_only(c, b"l\nk\n100\n");
    d.0.settle();
    d.gets(b, "ok", 33);
    d.hears(c, "");
    d.end(b);
    d.gets(c, "ok", 33);
}

#[test]
fn all_past_due_slots_end_with_one_acquire() {
    let mut d = Dialogue::patient();
    let clients: Vec<usize> = (0..5).map(|_| d.connect()).collect();
    for lease in [5, 6, 50] {
        d.send(clients[0], frame("sl", "s", &format!("0 3 {lease}")));
        d.gets(clients[0], "ok", lease);
    }
    d.says(clients[1], "sl\ns\n100 3\n", "");
    d.0.now += 7 * SECOND;
    for &client in &clients[2..] {
        d.0.send_only(client, b"sl\ns\n0 3\n");
    }
    d.0.settle();
    d.gets(clients[1], "ok", 33);
    d.gets(clients[2], "ok", 33);
    d.hears(clients[3], "timeout\n");
    d.hears(clients[4], "timeout\n");
}

#[test]
fn the_lease_clock_starts_at_the_grant() {
    for [acquire, argument, _, release] in SPACES {
        let mut d = Dialogue::patient();
        let (a, b, c) = (d.connect(), d.connect(), d.connect());
        d.send(a, frame(acquire, "k", argument));
        let token = d.gets(a, "ok", 33);
        let waiting = argument.replacen('0', "100", 1);
        d.says(b, frame(acquire, "k", &format!("{waiting} 5")), "");
        d.says(c, frame(acquire, "k", &waiting), "");
        d.at(20_000);
        d.says(a, frame(release, "k", &token), "ok\n");
        d.gets(b, "ok", 5);
        d.at(24_999);
        d.hears(c, "");
        d.at(25_001);
        d.gets(c, "ok", 33);
    }
}

#[test]
fn a_stale_token_never_touches_the_next_holder() {
    for [acquire, argument, renew, release] in SPACES {
        let mut d = Dialogue::patient();
        let (a, b) = (d.connect(), d.connect());
        d.send(a, frame(acquire, "k", &format!("{argument} 5")));
        let stale = d.gets(a, "ok", 5);
        d.at(5_001);
        d.send(b, frame(acquire, "k", &format!("{argument} 10")));
        let token = d.gets(b, "ok", 10);
        d.says(a, frame(release, "k", &stale), "error\n");
        d.says(a, frame(renew, "k", &format!("{stale} 100")), "error\n");
        d.says(a, frame(acquire, "k", argument), "timeout\n");
        d.at(15_002);
        d.says(b, frame(renew, "k", &token), "error\n");
    }
    // Nor after a release.
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let stale = d.takes(a, "k");
    d.says(a, release("k", &stale), "ok\n");
    let token = d.takes(b, "k");
    d.says(a, release("k", &stale), "error\n");
    d.says(a, renew("k", &stale), "error\n");
    d.says(b, release("k", &token), "ok\n");
}

#[test]
fn release_and_renewal_of_nothing_create_nothing() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 1);
    let a = d.connect();
    let token = "0".repeat(32);
    for n in 0..100 {
        for command in ["r", "n", "sr", "sn"] {
            d.says(a, frame(command, &format!("k{n}"), &token), "error\n");
        }
        d.says(a, format!("w\nk{n}\n0\n"), "error_not_enqueued\n");
        d.says(a, format!("sw\nk{n}\n0\n"), "error_not_enqueued\n");
    }
    assert_eq!(d.keys(), 0);
    let stats = d.stats(a);
    for list in ["locks", "semaphores", "idle_locks", "idle_semaphores"] {
        assert!(stats.field(list).list().is_empty(), "{list}");
    }
}

#[test]
fn a_refused_renewal_changes_nothing() {
    for [acquire, argument, renew, _] in SPACES {
        let mut d = Dialogue::patient();
        let (a, b) = (d.connect(), d.connect());
        d.send(a, frame(acquire, "k", &format!("{argument} 5")));
        let token = d.gets(a, "ok", 5);
        d.at(4_000);
        for lease in ["0", "-1", "x", "9223372037", "10 10"] {
            let argument = format!("{token} {lease}");
            d.says(a, frame(renew, "k", &argument), "error\n");
        }
        d.at(5_001);
        d.send(b, frame(acquire, "k", argument));
        d.gets(b, "ok", 33);
    }
}

#[test]
fn a_holder_past_due_that_asks_again_is_granted_anew() {
    for [acquire, argument, renew, _] in SPACES {
        let mut d = Dialogue::patient();
        let a = d.connect();
        d.send(a, frame(acquire, "k", &format!("{argument} 5")));
        let stale = d.gets(a, "ok", 5);
        d.0.now += 6 * SECOND;
        d.0.send_only(a, frame(acquire, "k", argument).as_bytes());
        d.0.settle();
        let token = d.gets(a, "ok", 33);
        assert!(token > stale);
        d.says(a, frame(renew, "k", &stale), "error\n");
        d.says(a, frame(renew, "k", &token), "ok 33\n");
    }
}

#[test]
fn the_longest_times_of_all_settings_overflow_nowhere() {
    let most = 9_223_372_036 * SECOND;
    let mut d = Dialogue::with(|s| {
        s.locks.max_idle = most;
        s.locks.default_lease = most;
        s.read_timeout = most;
        s.write_timeout = most;
        s.shutdown_timeout = most;
    });
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "sl\ns\n9223372036 2\n");
    let slot = d.gets(a, "ok", 9_223_372_036);
    d.says(a, frame("sn", "s", &slot), "ok 9223372036\n");
    d.says(a, frame("sr", "s", &slot), "ok\n");
    d.0.clients[b].appetite = 0;
    d.send(b, "ping\n_\n_\n");
    d.at(1_000_000_000_000);
    d.is_open(b);
    d.send(a, "sshow\ns\n\n");
    assert!(d.heard(a).contains("\"limit\":2,"), "it is kept");
    d.send(a, "e\nk\n\n");
    d.gets(a, "acquired", 9_223_372_036);
    d.drain();
    d.at(2_000_000_000_000);
    d.is_open(a);
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
    for [acquire, argument, renew, _] in SPACES {
        let mut d = Dialogue::patient();
        let (a, b) = (d.connect(), d.connect());
        d.send(a, frame(acquire, "k", argument));
        let token = d.gets(a, "ok", 33);
        let waiting = argument.replacen('0', "1000", 1);
        d.says(b, frame(acquire, "k", &waiting), "");
        d.at(20_000);
        d.says(a, frame(renew, "k", &token), "ok 33\n");
        d.at(40_000);
        d.says(a, frame(renew, "k", &format!("{token} 100")), "ok 100\n");
        d.at(139_999);
        d.hears(b, "");
        d.says(a, frame(renew, "k", &format!("{token} 1")), "ok 1\n");
        d.at(140_998);
        d.hears(b, "");
        d.at(140_999);
        d.gets(b, "ok", 33);
    }
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

#[test]
fn a_renewal_whose_end_is_here_comes_before_the_end_of_its_lease() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n100\n", "");
    d.says(a, "n\nk\n", "");
    d.0.now += 40 * SECOND;
    d.0.send_only(a, format!("{token}\n").as_bytes());
    d.0.settle();
    d.hears(a, "ok 33\n");
    d.hears(b, "");
}
