//! Semaphores: `sl sr sn se sw`, their slots, limits and queues.

use super::*;

#[test]
fn a_semaphore_has_as_many_slots_as_its_limit() {
    let mut d = Dialogue::new();
    let clients: Vec<usize> = (0..4).map(|_| d.connect()).collect();
    let mut tokens: Vec<String> = clients[..3]
        .iter()
        .map(|&client| d.takes_slot(client, "s", 3))
        .collect();
    d.says(clients[3], "sl\ns\n0 3\n", "timeout\n");
    d.says(clients[0], frame("sr", "s", &tokens[0]), "ok\n");
    tokens.push(d.takes_slot(clients[3], "s", 3));
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 4);
}

#[test]
fn a_lease_may_be_asked_for_and_else_is_the_servers_default() {
    let mut d = Dialogue::with(|s| s.locks.default_lease = 9 * SECOND);
    let a = d.connect();
    d.send(a, "sl\ns\n10 3\n");
    d.gets(a, "ok", 9);
    d.send(a, "sl\ns\n0 3 60\n");
    d.gets(a, "ok", 60);
    d.send(a, "se\ns\n3 9223372036\n");
    d.gets(a, "acquired", 9_223_372_036);
}

#[test]
fn a_free_slot_goes_to_the_next_in_line() {
    let mut d = Dialogue::new();
    let clients: Vec<usize> = (0..6).map(|_| d.connect()).collect();
    let mut held: Vec<(usize, String)> = Vec::new();
    for &client in &clients[..2] {
        held.push((client, d.takes_slot(client, "s", 2)));
    }
    for &client in &clients[2..] {
        d.says(client, "sl\ns\n10 2 40\n", "");
    }
    for next in 2..6 {
        // Now the one slot, now the other.
        let (holder, token) = held.remove(next % 2);
        d.says(holder, frame("sr", "s", &token), "ok\n");
        for &other in &clients[next + 1..] {
            d.hears(other, "");
        }
        held.push((next, d.gets(clients[next], "ok", 40)));
    }
}

#[test]
fn a_newcomer_never_passes_the_queue_even_with_timeout_0() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.takes_slot(a, "s", 2);
    let token = d.takes_slot(a, "s", 2);
    d.says(b, "sl\ns\n10 2\n", "");
    d.0.send_only(a, frame("sr", "s", &token).as_bytes());
    d.0.send_only(c, b"sl\ns\n0 2\n");
    d.0.settle();
    d.gets(b, "ok", 33);
    d.hears(c, "timeout\n");
}

#[test]
fn a_wait_for_a_slot_times_out_on_time_and_gives_up_its_place() {
    let mut d = Dialogue::patient();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes_slot(a, "s", 1);
    d.says(b, "sl\ns\n5 1\n", "");
    d.says(c, "sl\ns\n100 1\n", "");
    d.at(4_999);
    d.hears(b, "");
    d.at(5_000);
    d.hears(b, "timeout\n");
    d.says(a, frame("sr", "s", &token), "ok\n");
    d.gets(c, "ok", 33);
}

#[test]
fn a_limit_is_1_to_1048576() {
    let mut d = Dialogue::new();
    let a = d.connect();
    for limit in [
        "0",
        "-1",
        "1048577",
        "-0",
        "4294967297",
        "18446744073709551617",
        "1e3",
        "x",
    ] {
        d.says(a, frame("sl", limit, &format!("0 {limit}")), "error\n");
        d.says(a, frame("se", limit, limit), "error\n");
    }
    assert_eq!(d.keys(), 0);
    for limit in ["1", "1048576", "+7", "0000000000000000000000007"] {
        d.send(a, frame("sl", limit, &format!("0 {limit}")));
        d.gets(a, "ok", 33);
        d.send(a, frame("se", &format!("e{limit}"), limit));
        d.gets(a, "acquired", 33);
    }
}

#[test]
fn a_limit_of_1_is_a_lock() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes_slot(a, "s", 1);
    d.says(a, "sl\ns\n0 1\n", "timeout\n");
    d.says(b, "sl\ns\n10 1\n", "");
    d.says(a, frame("sr", "s", &token), "ok\n");
    d.gets(b, "ok", 33);
}

#[test]
fn the_greatest_limit_costs_nothing_until_it_is_used() {
    let mut d = Dialogue::new();
    let a = d.connect();
    for n in 0..1000 {
        d.takes_slot(a, &format!("s{n}"), 1_048_576);
    }
}

#[test]
fn another_limit_than_the_first_users_is_a_mismatch() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes_slot(a, "s", 2);
    for limit in [1, 3, 1_048_576] {
        d.says(
            b,
            frame("sl", "s", &format!("0 {limit}")),
            "error_limit_mismatch\n",
        );
        d.says(
            b,
            frame("sl", "s", &format!("10 {limit}")),
            "error_limit_mismatch\n",
        );
        d.says(
            b,
            frame("se", "s", &limit.to_string()),
            "error_limit_mismatch\n",
        );
    }
    // The refused left nothing behind, not even a record.
    d.says(b, "sw\ns\n0\n", "error_not_enqueued\n");
    d.takes_slot(b, "s", 2);
    d.says(a, frame("sr", "s", &token), "ok\n");
    d.says(a, "sl\ns\n0 3\n", "error_limit_mismatch\n");
}

#[test]
fn a_mismatch_is_found_before_the_queue_and_the_limits() {
    let mut d = Dialogue::with(|s| {
        s.locks.max_waiters = 1;
        s.locks.max_locks = 1;
    });
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.takes_slot(a, "s", 1);
    d.says(b, "sl\ns\n10 1\n", "");
    d.says(c, "sl\ns\n10 2\n", "error_limit_mismatch\n");
    d.says(c, "se\ns\n2\n", "error_limit_mismatch\n");
    d.says(c, "sl\ns\n10 1\n", "error_max_waiters\n");
    d.says(c, "sl\ns2\n10 2\n", "error_max_locks\n");
}

#[test]
fn removing_the_head_waiter_grants_the_free_slot_to_the_next() {
    let mut d = Dialogue::patient();
    let clients: Vec<usize> = (0..5).map(|_| d.connect()).collect();
    let [a, b, c, e, f] = clients[..] else {
        unreachable!()
    };
    let token = d.takes_slot(a, "s", 2);
    d.takes_slot(a, "s", 2);
    for client in [b, c, e] {
        d.says(client, "sl\ns\n10 2\n", "");
    }
    d.says(f, "se\ns\n2\n", "queued\n");
    // The slot is granted to the head, whose connection breaks before it hears of it.
    d.0.send_only(a, frame("sr", "s", &token).as_bytes());
    d.0.reset_only(b);
    d.0.settle();
    let token = d.gets(c, "ok", 33);
    // The head gives up at the instant at which the slot is released.
    d.0.now += 10 * SECOND;
    d.0.send_only(c, frame("sr", "s", &token).as_bytes());
    d.0.settle();
    let heard = d.heard(e);
    if heard == "timeout\n" {
        d.send(f, "sw\ns\n0\n");
        d.gets(f, "ok", 33);
    } else {
        assert_eq!(masked(&heard), "ok T 33\n");
        d.end(e);
        d.send(f, "sw\ns\n0\n");
        d.gets(f, "ok", 33);
    }
}

#[test]
fn a_head_waiter_that_hangs_up_while_no_slot_is_free_changes_nothing_for_the_next() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes_slot(a, "s", 1);
    d.says(b, "sl\ns\n10 1\n", "");
    d.says(c, "sl\ns\n10 1\n", "");
    d.end(b);
    d.hears(c, "");
    d.says(a, frame("sr", "s", &token), "ok\n");
    d.gets(c, "ok", 33);
}

#[test]
fn each_slot_has_its_own_lease() {
    let mut d = Dialogue::patient();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.send(a, "sl\ns\n0 2 5\n");
    d.gets(a, "ok", 5);
    d.send(a, "sl\ns\n0 2 9\n");
    let second = d.gets(a, "ok", 9);
    d.says(b, "sl\ns\n100 2 50\n", "");
    d.says(c, "sl\ns\n100 2 50\n", "");
    d.at(5_001);
    d.gets(b, "ok", 50);
    d.hears(c, "");
    d.says(a, frame("sn", "s", &format!("{second} 4")), "ok 4\n");
    d.at(9_000);
    d.hears(c, "");
    d.at(9_002);
    d.gets(c, "ok", 50);
}

#[test]
fn sn_sets_the_end_to_now_and_the_lease_or_the_default() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "sl\ns\n0 1 100\n");
    let token = d.gets(a, "ok", 100);
    d.says(a, frame("sn", "s", &token), "ok 33\n");
    d.says(a, frame("sn", "s", &format!("{token} 1")), "ok 1\n");
    d.at(999);
    d.says(b, frame("sn", "s", &format!("{token} 2")), "ok 2\n");
    d.says(b, "sl\ns\n100 1\n", "");
    d.at(2_998);
    d.hears(b, "");
    d.at(3_000);
    d.gets(b, "ok", 33);
    d.says(a, frame("sn", "s", &token), "error\n");
}

#[test]
fn anyone_with_key_and_token_may_release_a_slot_once() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    // Another with many slots must not know it either.
    let (few, many) = (d.takes_slot(a, "few", 1), d.takes_slot(a, "many", 100));
    d.takes_slot(a, "more", 100);
    for (key, token) in [("few", &many), ("many", &few), ("more", &many)] {
        d.says(b, frame("sr", key, token), "error\n");
    }
    d.says(b, frame("sr", "many", &many), "ok\n");
    d.says(b, frame("sr", "many", &many), "error\n");
    let token = d.takes_slot(a, "s", 1);
    d.takes_slot(a, "other", 1);
    d.says(b, frame("sr", "other", &token), "error\n");
    d.says(b, frame("sr", "s", &token), "ok\n");
    d.says(b, frame("sr", "s", &token), "error\n");
    d.says(a, frame("sr", "s", &token), "error\n");
    d.takes_slot(b, "s", 1);
    d.says(b, "sl\ns\n0 1\n", "timeout\n");
}

#[test]
fn one_connection_with_three_slots_closes_and_three_waiters_are_served() {
    let mut d = Dialogue::new();
    let clients: Vec<usize> = (0..6).map(|_| d.connect()).collect();
    for _ in 0..3 {
        d.takes_slot(clients[0], "s", 4);
    }
    d.takes_slot(clients[5], "s", 4);
    for &client in &clients[1..5] {
        d.says(client, "sl\ns\n10 4\n", "");
    }
    d.reset(clients[0]);
    let tokens: Vec<String> = clients[1..4]
        .iter()
        .map(|&client| d.gets(client, "ok", 33))
        .collect();
    assert!(tokens.is_sorted());
    d.hears(clients[4], "");
}

#[test]
fn a_connection_that_holds_and_queues_on_one_key_closes_and_the_next_gets_it() {
    let mut d = Dialogue::with(|s| s.locks.deadlock_detection = false);
    for (acquire, enqueue, hold) in [
        ("sl\nk\n10 1\n", "se\nk\n1\n", "sl\nk\n0 1\n"),
        ("l\nk\n10\n", "e\nk\n\n", "l\nk\n0\n"),
    ] {
        for queue in [acquire, enqueue] {
            let (a, b) = (d.connect(), d.connect());
            d.send(a, hold);
            d.gets(a, "ok", 33);
            let answer = if queue == enqueue { "queued\n" } else { "" };
            d.says(a, queue, answer);
            d.says(b, acquire, "");
            d.end(a);
            d.is_closed(a);
            d.hears(a, "");
            d.gets(b, "ok", 33);
            d.end(b);
        }
    }
}

#[test]
fn a_slot_that_expired_and_was_granted_again_is_not_released_with_its_old_connection() {
    let mut d = Dialogue::patient();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.send(a, "sl\ns\n0 1 1\nl\nk\n0 1\n");
    assert_eq!(masked(&d.heard(a)), "ok T 1\nok T 1\n");
    d.at(1_001);
    d.takes_slot(b, "s", 1);
    d.takes(b, "k");
    d.end(a);
    d.is_closed(a);
    d.says(c, "sl\ns\n0 1\n", "timeout\n");
    d.says(c, "l\nk\n0\n", "timeout\n");
}

#[test]
fn one_connection_may_hold_many_slots_of_one_semaphore() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let mut tokens: Vec<String> = (0..1000).map(|_| d.takes_slot(a, "s", 1000)).collect();
    d.says(a, "sl\ns\n0 1000\n", "timeout\n");
    tokens.swap(3, 900);
    for token in tokens {
        d.says(a, frame("sr", "s", &token), "ok\n");
    }
    assert_eq!(d.stats(a).field("semaphores").list().len(), 0);
}

#[test]
fn se_and_sw_take_a_slot_in_two_phases() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.send(a, "se\ns\n2 40\n");
    let token = d.gets(a, "acquired", 40);
    d.says(a, "se\ns\n2\n", "error_already_enqueued\n");
    d.send(b, "se\ns\n2\n");
    d.gets(b, "acquired", 33);
    d.says(c, "se\ns\n2 50\n", "queued\n");
    d.says(c, "sw\ns\n10\n", "");
    d.send(a, "sw\ns\n0\n");
    assert_eq!(d.gets(a, "ok", 40), token);
    d.says(a, "sw\ns\n0\n", "error_not_enqueued\n");
    d.says(a, frame("sr", "s", &token), "ok\n");
    d.gets(c, "ok", 50);
}

#[test]
fn a_wait_for_a_queued_slot_times_out_and_gives_up_its_place() {
    let mut d = Dialogue::patient();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes_slot(a, "s", 1);
    d.says(b, "se\ns\n1\n", "queued\n");
    d.says(b, "sw\ns\n3\n", "");
    d.says(c, "sl\ns\n100 1\n", "");
    d.at(3_000);
    d.hears(b, "timeout\n");
    d.says(a, frame("sr", "s", &token), "ok\n");
    d.gets(c, "ok", 33);
    d.says(b, "sw\ns\n0\n", "error_not_enqueued\n");
}

#[test]
fn sw_restarts_the_full_lease_of_its_own_slot_only() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "sl\ns\n0 2 10\n");
    d.gets(a, "ok", 10);
    d.send(a, "se\ns\n2 10\n");
    let token = d.gets(a, "acquired", 10);
    d.at(9_000);
    d.send(a, "sw\ns\n0\n");
    assert_eq!(d.gets(a, "ok", 10), token);
    d.says(b, "sl\ns\n100 2\n", "");
    d.at(10_001);
    d.gets(b, "ok", 33);
    d.says(b, "sl\ns\n100 2\n", "");
    d.at(18_999);
    d.hears(b, "");
    d.at(19_001);
    d.gets(b, "ok", 33);
}

#[test]
fn a_release_or_renewal_touches_only_the_record_of_its_token() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    let slot = d.takes_slot(a, "s", 3);
    d.send(a, "se\ns\n3\n");
    let token = d.gets(a, "acquired", 33);
    d.says(a, frame("sn", "s", &slot), "ok 33\n");
    d.says(a, frame("sr", "s", &slot), "ok\n");
    d.says(a, "se\ns\n3\n", "error_already_enqueued\n");
    d.send(a, "sw\ns\n0\n");
    assert_eq!(d.gets(a, "ok", 33), token);
    // The other way round: the record goes with its token, the slot of `sl` stays.
    let slot = d.takes_slot(a, "s", 3);
    d.send(a, "se\ns\n3\n");
    let token2 = d.gets(a, "acquired", 33);
    d.says(a, frame("sr", "s", &token2), "ok\n");
    d.says(a, "sw\ns\n0\n", "error_not_enqueued\n");
    d.says(a, frame("sn", "s", &slot), "ok 33\n");
    d.says(a, frame("sn", "s", &token), "ok 33\n");
}

#[test]
fn the_expiry_of_another_slot_leaves_the_record() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.send(a, "sl\ns\n0 2 1\n");
    d.gets(a, "ok", 1);
    d.send(a, "se\ns\n2 50\n");
    let token = d.gets(a, "acquired", 50);
    d.at(1_001);
    d.send(a, "sw\ns\n0\n");
    assert_eq!(d.gets(a, "ok", 50), token);
}

#[test]
fn a_lost_slot_is_told_once_and_then_the_record_is_gone() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    let held = d.takes_slot(b, "s", 1);
    d.says(a, "se\ns\n1 2\n", "queued\n");
    d.at(1_000);
    d.says(b, frame("sr", "s", &held), "ok\n");
    d.says(b, "sl\ns\n100 1\n", "");
    d.at(3_001);
    d.gets(b, "ok", 33);
    d.says(a, "sw\ns\n10\n", "error_lease_expired\n");
    d.says(a, "sw\ns\n10\n", "error_not_enqueued\n");
    d.says(a, "se\ns\n1\n", "queued\n");
}

#[test]
fn a_second_se_with_another_limit_is_already_enqueued() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes_slot(b, "s", 1);
    d.says(a, "se\ns\n1\n", "queued\n");
    d.says(a, "se\ns\n2\n", "error_already_enqueued\n");
    d.says(a, "se\ns\n0\n", "error\n");
}

#[test]
fn after_100000_timeouts_on_one_key_everything_works() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    let lock = d.takes(a, "k");
    let slot = d.takes_slot(a, "k", 1);
    d.says(a, renew("k", &format!("{lock} 100000")), "ok 100000\n");
    d.says(
        a,
        frame("sn", "k", &format!("{slot} 100000")),
        "ok 100000\n",
    );
    // 40,000 that do not wait, in all four ways.
    for _ in 0..10_000 {
        d.0.send_only(
            b,
            b"l\nk\n0\nsl\nk\n0 1\ne\nk\n\nw\nk\n0\nse\nk\n1\nsw\nk\n0\n",
        );
        d.0.settle();
        d.hears(b, "timeout\ntimeout\nqueued\ntimeout\nqueued\ntimeout\n");
    }
    // 60,000 that wait their second in vain.
    let crowd: Vec<usize> = (0..600).map(|_| d.connect()).collect();
    for round in 0..100 {
        for (n, &client) in crowd.iter().enumerate() {
            let request: &[u8] = match n % 4 {
                0 => b"l\nk\n1\n",
                1 => b"sl\nk\n1 1\n",
                2 => b"e\nk\n\nw\nk\n1\n",
                _ => b"se\nk\n1\nsw\nk\n1\n",
            };
            d.0.send_only(client, request);
        }
        d.at((round + 1) * 1_000);
        for (n, &client) in crowd.iter().enumerate() {
            let answer = if n % 4 < 2 {
                "timeout\n"
            } else {
                "queued\ntimeout\n"
            };
            d.hears(client, answer);
        }
    }
    let stats = d.stats(b);
    for space in ["locks", "semaphores"] {
        let key = stats.field(space).of_key("k");
        assert_eq!(key.field("waiters").number(), 0.0);
    }
    d.says(b, "l\nk\n10\n", "");
    d.says(a, release("k", &lock), "ok\n");
    d.gets(b, "ok", 33);
    d.says(b, "sl\nk\n10 1\n", "");
    d.says(a, frame("sr", "k", &slot), "ok\n");
    d.gets(b, "ok", 33);
}

#[test]
fn a_hundred_thousand_bad_releases_change_nothing() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.takes_slot(a, "s", 1);
    for n in 0..100_000u64 {
        let token = format!("{n:032x}");
        d.0.send_only(b, frame("sr", "s", &token).as_bytes());
        if n % 100 == 0 {
            d.0.settle();
        }
    }
    d.0.settle();
    d.hears(b, &"error\n".repeat(100_000));
    d.says(b, "sl\ns\n0 1\n", "timeout\n");
}
