//! max-locks, max-waiters and max-holds: what is refused, in which order, and what is not.

use super::*;

/// An acquire of each kind that would be granted if the key were free.
const ACQUIRES: [(&str, &str); 6] = [
    ("l", "0"),
    ("l", "10"),
    ("e", ""),
    ("sl", "0 1"),
    ("sl", "10 1"),
    ("se", "1"),
];

#[test]
fn new_keys_over_the_maximum_are_refused_in_every_way_of_asking() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 2);
    let a = d.connect();
    let token = d.takes(a, "k");
    d.takes_slot(a, "s", 2);
    for (command, argument) in ACQUIRES {
        d.says(a, frame(command, "new", argument), "error_max_locks\n");
    }
    // Not even a record was left.
    d.says(a, "w\nnew\n0\n", "error_not_enqueued\n");
    d.says(a, "sw\nnew\n0\n", "error_not_enqueued\n");
    d.says(a, "e\nnew\n\n", "error_max_locks\n");
    assert_eq!(d.keys(), 2);
    d.says(a, release("k", &token), "ok\n");
    d.takes(a, "new");
}

#[test]
fn the_maximum_is_of_both_spaces_together() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 3);
    let a = d.connect();
    d.takes(a, "k");
    d.takes_slot(a, "k", 1);
    d.takes_slot(a, "k2", 1);
    d.says(a, "l\nk2\n0\n", "error_max_locks\n");
    d.says(a, "sl\nk3\n0 1\n", "error_max_locks\n");
}

#[test]
fn at_the_maximum_known_keys_work() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 2);
    let (a, b) = (d.connect(), d.connect());
    let lock = d.takes(a, "k");
    let slot = d.takes_slot(a, "s", 2);
    d.takes_slot(b, "s", 2);
    d.says(b, "se\ns\n2\n", "queued\n");
    d.says(b, "l\nk\n10\n", "");
    d.says(a, frame("sn", "s", &slot), "ok 33\n");
    d.says(a, release("k", &lock), "ok\n");
    d.is_granted(b, 33);
    d.says(a, frame("sr", "s", &slot), "ok\n");
    d.send(b, "sw\ns\n0\n");
    d.gets(b, "ok", 33);
}

#[test]
fn at_the_maximum_an_idle_key_still_works() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_locks = 2);
    let a = d.connect();
    d.takes(a, "k");
    let slot = d.takes_slot(a, "s", 2);
    d.says(a, frame("sr", "s", &slot), "ok\n");
    d.at(50_000);
    d.takes(a, "k");
    d.takes_slot(a, "s", 3);
    d.says(a, "sl\nnew\n0 1\n", "error_max_locks\n");
}

#[test]
fn at_the_maximum_the_longest_idle_key_makes_room() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_locks = 3);
    let a = d.connect();
    for (n, key) in ["s1", "s2", "s3"].iter().enumerate() {
        let slot = d.takes_slot(a, key, 2);
        d.says(a, frame("sr", key, &slot), "ok\n");
        d.at(1_000 * (n as u64 + 1));
    }
    // s1 is used again; now s2 is the longest idle.
    let slot = d.takes_slot(a, "s1", 2);
    d.says(a, frame("sr", "s1", &slot), "ok\n");
    d.at(5_000);
    d.takes(a, "new");
    let stats = d.stats(a);
    let mut idle = stats.field("idle_semaphores").keys();
    idle.sort();
    assert_eq!(idle, ["s1", "s3"]);
    // s2 takes the place of s3, idle since 2 s, and not of s1, idle since 3 s.
    d.takes_slot(a, "s2", 3);
    let idle = d.stats(a);
    assert_eq!(idle.field("idle_semaphores").keys(), ["s1"]);
    d.takes_slot(a, "s3", 3);
    d.says(a, "sl\ns1\n0 3\n", "error_max_locks\n");
}

#[test]
fn idle_keys_of_both_spaces_make_room_in_their_order() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_locks = 2);
    let a = d.connect();
    let slot = d.takes_slot(a, "s", 2);
    d.says(a, frame("sr", "s", &slot), "ok\n");
    d.at(1_000);
    let lock = d.takes(a, "k");
    d.says(a, release("k", &lock), "ok\n");
    d.at(2_000);
    d.takes(a, "new");
    assert!(d.stats(a).field("idle_semaphores").list().is_empty());
    d.takes_slot(a, "s", 3);
    let stats = d.stats(a);
    assert!(stats.field("idle_locks").list().is_empty());
    assert_eq!(stats.field("locks").keys(), ["new"]);
    assert_eq!(stats.field("semaphores").keys(), ["s"]);
}

#[test]
fn idle_keys_are_never_the_reason_for_error_max_locks() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_locks = 2);
    let a = d.connect();
    for n in 0..2_000 {
        let (acquire, argument, release) = match n % 4 {
            0 => ("l", "0", "r"),
            1 => ("sl", "0 5", "sr"),
            2 => ("e", "", "r"),
            _ => ("se", "7", "sr"),
        };
        let key = format!("k{n}");
        d.send(a, frame(acquire, &key, argument));
        let status = if acquire.ends_with('e') {
            "acquired"
        } else {
            "ok"
        };
        let token = d.gets(a, status, 33);
        d.says(a, frame(release, &key, &token), "ok\n");
    }
    // Also if they became idle by expiry, by a disconnect, or by a waiter that gave up.
    d.send(a, "l\ne1\n0 1\nsl\ne2\n0 1 1\n");
    d.heard(a);
    d.at(1_001);
    d.takes(a, "f1");
    d.takes(a, "f2");
    d.says(a, "l\nf3\n0\n", "error_max_locks\n");
    d.end(a);
    let b = d.connect();
    d.takes(b, "g1");
    d.takes_slot(b, "g2", 1);
}

#[test]
fn a_queue_over_the_maximum_is_refused_in_every_way_of_asking() {
    let mut d = Dialogue::with(|s| s.locks.max_waiters = 2);
    let clients: Vec<usize> = (0..4).map(|_| d.connect()).collect();
    d.takes(clients[0], "k");
    d.takes_slot(clients[0], "k", 1);
    d.says(clients[1], "e\nk\n\nse\nk\n1\n", "queued\nqueued\n");
    d.says(clients[1], "l\nk\n10\n", "");
    d.says(clients[2], "sl\nk\n10 1\n", "");
    for (command, argument) in ACQUIRES {
        d.says(
            clients[3],
            frame(command, "k", argument),
            "error_max_waiters\n",
        );
    }
    d.says(clients[3], "w\nk\n0\n", "error_not_enqueued\n");
    d.says(clients[3], "sw\nk\n0\n", "error_not_enqueued\n");
}

#[test]
fn timeout_0_on_a_queue_with_room_is_a_timeout_and_on_a_full_one_error_max_waiters() {
    let mut d = Dialogue::with(|s| s.locks.max_waiters = 1);
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.takes(a, "k");
    d.takes_slot(a, "k", 1);
    d.says(c, "l\nk\n0\nsl\nk\n0 1\n", "timeout\ntimeout\n");
    d.says(b, "e\nk\n\nse\nk\n1\n", "queued\nqueued\n");
    d.says(
        c,
        "l\nk\n0\nsl\nk\n0 1\n",
        "error_max_waiters\nerror_max_waiters\n",
    );
}

#[test]
fn max_waiters_is_per_key_and_space_and_0_is_unlimited() {
    let mut d = Dialogue::with(|s| s.locks.max_waiters = 1);
    let (a, b) = (d.connect(), d.connect());
    for key in ["k", "k2"] {
        d.takes(a, key);
        d.takes_slot(a, key, 1);
        d.says(b, frame("e", key, ""), "queued\n");
        d.says(b, frame("se", key, "1"), "queued\n");
    }
    let mut d = Dialogue::new();
    let a = d.connect();
    d.takes(a, "k");
    for _ in 0..2_000 {
        let client = d.connect();
        d.says(client, "e\nk\n\n", "queued\n");
    }
}

#[test]
fn holders_are_not_waiters() {
    let mut d = Dialogue::with(|s| s.locks.max_waiters = 1);
    let (a, b) = (d.connect(), d.connect());
    for _ in 0..10 {
        d.takes_slot(a, "s", 10);
    }
    d.says(b, "sl\ns\n10 10\n", "");
    d.says(a, "sl\ns\n10 10\n", "error_max_waiters\n");
}

#[test]
fn a_waiter_that_leaves_makes_room_for_another() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_waiters = 1);
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    // By a timeout.
    d.says(b, "l\nk\n1\n", "");
    d.says(c, "e\nk\n\n", "error_max_waiters\n");
    d.at(1_000);
    d.hears(b, "timeout\n");
    // By a `w` that gives up.
    d.says(c, "e\nk\n\n", "queued\n");
    d.says(b, "l\nk\n10\n", "error_max_waiters\n");
    d.says(c, "w\nk\n0\n", "timeout\n");
    // By a disconnect.
    d.says(b, "l\nk\n10\n", "");
    d.says(c, "e\nk\n\n", "error_max_waiters\n");
    d.end(b);
    // By a promotion.
    d.says(c, "e\nk\n\n", "queued\n");
    d.says(a, release("k", &token), "ok\n");
    d.says(a, "l\nk\n10\n", "");
}

#[test]
fn a_free_slot_is_given_whatever_max_waiters_says() {
    let mut d = Dialogue::with(|s| s.locks.max_waiters = 1);
    let a = d.connect();
    for n in 0..10 {
        d.takes(a, &format!("k{n}"));
        d.takes_slot(a, "s", 10);
    }
}

#[test]
fn a_key_with_waiters_only_in_passing_counts_and_goes() {
    let mut d = Dialogue::patient_with(|s| {
        s.locks.max_locks = 1;
        s.locks.max_idle = 0;
    });
    let (a, b) = (d.connect(), d.connect());
    let slot = d.takes_slot(a, "s", 1);
    d.says(b, "sl\ns\n5 1\n", "");
    d.says(a, frame("sr", "s", &slot), "ok\n");
    let slot = d.gets(b, "ok", 33);
    d.says(a, "l\nk\n0\n", "error_max_locks\n");
    d.says(b, frame("sr", "s", &slot), "ok\n");
    d.takes(a, "k");
}

#[test]
fn a_connection_that_holds_enough_gets_no_more_in_any_way_of_asking() {
    let mut d = Dialogue::with(|s| {
        s.locks.max_holds = 2;
        s.locks.max_locks = 3;
    });
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k1");
    d.takes_slot(a, "k2", 1);
    for (command, argument) in ACQUIRES {
        d.says(a, frame(command, "k3", argument), "error_max_holds\n");
    }
    // The key was not made for it, and others have room.
    d.takes(b, "k3");
    assert_eq!(d.keys(), 3);
    // It comes before what is wrong with the key, and behind what is wrong with the request.
    d.says(
        a,
        "sl\nk2\n0 7\nl\nk4\n0\n",
        "error_max_holds\nerror_max_holds\n",
    );
    d.says(a, "l\nk4\n-1\n", "error\n");
    d.says(a, release("k1", &token), "ok\n");
    d.takes(a, "k1");
}

#[test]
fn a_place_in_a_queue_counts_until_it_is_left() {
    let mut d = Dialogue::with(|s| s.locks.max_holds = 2);
    let (a, b) = (d.connect(), d.connect());
    d.takes(b, "k1");
    d.takes(b, "k2");
    d.says(a, "e\nk1\n\ne\nk2\n\n", "queued\nqueued\n");
    d.says(a, "e\nk1\n\n", "error_already_enqueued\n");
    d.says(a, "l\nfree\n0\n", "error_max_holds\n");
    d.says(a, "w\nk1\n0\n", "timeout\n");
    d.takes(a, "free");
    d.says(a, "l\nfree2\n0\n", "error_max_holds\n");
    // What was queued for is still granted.
    d.reset(b);
    d.send(a, "w\nk2\n0\n");
    d.is_granted(a, 33);
}

#[test]
fn a_renewal_moves_a_hold_also_to_a_connection_that_holds_enough() {
    let mut d = Dialogue::with(|s| s.locks.max_holds = 1);
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    for id in [a, b] {
        d.says(id, "id\n_\nme\n", "ok\n");
    }
    let token = d.takes(a, "k1");
    d.takes(b, "k2");
    d.says(b, format!("n\nk1\n{token}\n"), "ok 33\n");
    d.reset(a);
    d.says(c, "l\nk1\n0\n", "timeout\n");
    d.says(b, "l\nk3\n0\n", "error_max_holds\n");
}

#[test]
fn a_hold_whose_lease_is_over_is_no_reason_to_refuse_its_key() {
    let mut d = Dialogue::with(|s| s.locks.max_holds = 1);
    let a = d.connect();
    d.send(a, "l\nk\n0 1\n");
    d.is_granted(a, 1);
    // Its timer has not had its turn.
    d.0.now += 1_000_000;
    d.0.send_only(a, b"l\nk\n0\n");
    d.0.settle();
    d.is_granted(a, 33);
}

#[test]
fn zero_max_holds_is_any_number_and_a_drain_is_said_first() {
    let mut d = Dialogue::with(|s| s.locks.max_holds = 1);
    let a = d.connect();
    d.takes(a, "k");
    d.0.drain();
    d.says(a, "l\nk2\n0\n", "error_draining\n");
    let mut d = Dialogue::new();
    let a = d.connect();
    for n in 0..1000 {
        d.takes(a, &format!("k{n}"));
    }
}
