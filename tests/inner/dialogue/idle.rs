//! Idle keys: what they keep, for how long, and what does not keep them.

use super::*;

/// A dialogue whose semaphore `s` of limit 2 has been idle since 0 ms, and a client.
fn idle_since_0() -> (Dialogue, usize) {
    let mut d = Dialogue::patient();
    let a = d.connect();
    let slot = d.takes_slot(a, "s", 2);
    d.says(a, frame("sr", "s", &slot), "ok\n");
    (d, a)
}

/// The limit of a semaphore as it is shown; 0 once that is forgotten.
#[track_caller]
fn limit_shown(d: &mut Dialogue, client: usize, key: &str) -> f64 {
    d.send(client, frame("sshow", key, ""));
    let heard = d.heard(client);
    stats_in(&heard).field("limit").number()
}

#[test]
fn an_idle_semaphore_takes_the_limit_of_whoever_comes_next() {
    let (mut d, a) = idle_since_0();
    assert_eq!(limit_shown(&mut d, a, "s"), 2.0);
    for limit in [3, 1, 1_048_576] {
        let slot = d.takes_slot(a, "s", limit);
        d.says(a, "sl\ns\n0 2\n", "error_limit_mismatch\n");
        d.says(a, "se\ns\n2\n", "error_limit_mismatch\n");
        assert_eq!(limit_shown(&mut d, a, "s"), f64::from(limit));
        d.says(a, frame("sr", "s", &slot), "ok\n");
    }
    d.send(a, "se\ns\n2\n");
    d.gets(a, "acquired", 33);
}

#[test]
fn bogus_releases_do_not_keep_idle_state_alive() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    let stale = d.takes_slot(a, "s", 2);
    d.says(a, frame("sr", "s", &stale), "ok\n");
    for second in 1..60 {
        d.at(second * 1_000);
        for token in [&stale[..], "bogus", "00000000000000000000000000000000"] {
            d.says(a, frame("sr", "s", token), "error\n");
            d.says(a, frame("sn", "s", &format!("{token} 10")), "error\n");
            d.says(a, "sw\ns\n10\n", "error_not_enqueued\n");
        }
    }
    d.at(60_001);
    let stats = d.stats(a);
    assert!(stats.field("idle_semaphores").list().is_empty());
    d.takes_slot(a, "s", 3);
}

#[test]
fn bogus_releases_do_not_change_who_makes_room() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_locks = 2);
    let a = d.connect();
    let mut stale = String::new();
    for (ms, key) in [(0, "s1"), (1_000, "s2")] {
        d.at(ms);
        let slot = d.takes_slot(a, key, 2);
        d.says(a, frame("sr", key, &slot), "ok\n");
        stale = slot;
    }
    d.at(2_000);
    d.says(a, frame("sr", "s1", &stale), "error\n");
    d.says(a, frame("sn", "s1", &stale), "error\n");
    d.takes(a, "new");
    assert_eq!(d.stats(a).field("idle_semaphores").keys(), ["s2"]);
}

#[test]
fn each_use_starts_the_idle_time_anew() {
    let (mut d, a) = idle_since_0();
    d.at(50_000);
    let slot = d.takes_slot(a, "s", 2);
    d.at(55_000);
    d.says(a, frame("sr", "s", &slot), "ok\n");
    d.at(114_999);
    assert_eq!(limit_shown(&mut d, a, "s"), 2.0);
    d.at(115_001);
    assert_eq!(limit_shown(&mut d, a, "s"), 0.0);
}

#[test]
fn the_idle_time_begins_with_an_expiry_or_a_disconnect_too() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "sl\nexpires\n0 2 10\n");
    d.gets(a, "ok", 10);
    d.takes_slot(b, "leaves", 2);
    d.at(20_000);
    d.end(b);
    d.at(69_999);
    assert_eq!(limit_shown(&mut d, a, "expires"), 2.0);
    d.at(70_001);
    assert_eq!(limit_shown(&mut d, a, "expires"), 0.0);
    d.at(79_999);
    assert_eq!(limit_shown(&mut d, a, "leaves"), 2.0);
    d.at(80_001);
    assert_eq!(limit_shown(&mut d, a, "leaves"), 0.0);
}

#[test]
fn a_held_key_is_not_idle_however_long() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.send(a, "sl\ns\n0 2 100000\n");
    d.gets(a, "ok", 100_000);
    d.at(1_000_000);
    d.says(a, "sl\ns\n0 3\n", "error_limit_mismatch\n");
    let stats = d.stats(a);
    assert_eq!(stats.field("semaphores").keys(), ["s"]);
    assert!(stats.field("idle_semaphores").list().is_empty());
}

#[test]
fn idle_locks_are_listed_for_the_idle_time() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    let token = d.takes(a, "k");
    assert!(d.stats(a).field("idle_locks").list().is_empty());
    d.says(a, release("k", &token), "ok\n");
    d.at(12_500);
    let stats = d.stats(a);
    assert!(stats.field("locks").list().is_empty());
    let idle = stats.field("idle_locks").of_key("k");
    assert!((idle.field("idle_s").number() - 12.5).abs() < 0.01);
    d.at(60_001);
    assert!(d.stats(a).field("idle_locks").list().is_empty());
}

#[test]
fn with_an_idle_time_of_0_a_limit_is_forgotten_at_once() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_idle = 0);
    let (a, b) = (d.connect(), d.connect());
    for limit in [2, 3, 4] {
        let slot = d.takes_slot(a, "s", limit);
        d.says(a, frame("sr", "s", &slot), "ok\n");
        let lock = d.takes(a, "k");
        d.says(a, release("k", &lock), "ok\n");
        assert_eq!(d.keys(), 0);
        let stats = d.stats(a);
        for list in ["locks", "semaphores", "idle_locks", "idle_semaphores"] {
            assert!(stats.field(list).list().is_empty(), "{list}");
        }
    }
    // One that is in use is not.
    let slot = d.takes_slot(a, "s", 2);
    d.says(b, "se\ns\n3\n", "error_limit_mismatch\n");
    d.takes_slot(b, "s", 2);
    d.says(a, frame("sr", "s", &slot), "ok\n");
    d.says(a, "sl\ns\n0 3\n", "error_limit_mismatch\n");
    d.end(b);
    d.takes_slot(a, "s", 3);
}

#[test]
fn with_an_idle_time_of_0_everything_else_works() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_idle = 0);
    let (a, b) = (d.connect(), d.connect());
    let slot = d.takes_slot(a, "s", 1);
    d.says(b, "se\ns\n1\n", "queued\n");
    d.says(a, frame("sr", "s", &slot), "ok\n");
    d.says(a, frame("sr", "s", &slot), "error\n");
    d.send(b, "sw\ns\n0\n");
    let slot = d.gets(b, "ok", 33);
    d.says(b, frame("sr", "s", &slot), "ok\n");
    assert_eq!(
        d.0.deadline().map(|due| due > d.0.now + 1_000 * SECOND),
        Some(true)
    );
}

#[test]
fn a_great_many_idle_keys_go_in_time() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_locks = 20_000);
    let a = d.connect();
    for n in 0..10_000 {
        let key = format!("k{n}");
        d.0.send_only(a, frame("sl", &key, "0 2").as_bytes());
        if n % 50 == 0 {
            d.0.settle();
        }
    }
    d.end(a);
    let b = d.connect();
    let idle = d.stats(b).field("idle_semaphores").list().len();
    assert_eq!(idle, 10_000);
    d.at(60_001);
    assert!(d.stats(b).field("idle_semaphores").list().is_empty());
    assert_eq!(d.keys(), 0);
}
