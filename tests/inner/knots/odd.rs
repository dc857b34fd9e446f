//! Knots that are large, and what is none: rings and chains of any length, the bound of a search, semaphores, requests
//! that never wait.

use super::*;

/// `n` sessions, each holding the key of its number.
fn holders(table: &mut Table, n: usize) -> Vec<Token> {
    (0..n)
        .map(|at| table.takes(session(at), &key(at)))
        .collect()
}

fn key(n: usize) -> String {
    format!("key {n}")
}

#[test]
fn a_ring_has_one_victim_the_newest_and_the_others_have_their_turns() {
    for n in 2..=50 {
        for first in 0..n {
            let mut table = Table::new();
            let tokens = holders(&mut table, n);
            // Each waits for the key of the next.
            for at in (first..first + n).map(|at| at % n) {
                let refused = (at == (first + n - 1) % n).then_some(DEADLOCK);
                assert_eq!(table.waits(session(at), &key((at + 1) % n)), refused);
            }
            let counts = table.locks.counts();
            assert_eq!((counts.deadlocks, counts.held), (1, n as u64));
            let knot = table.locks.take_knot().expect("it was refused");
            let owners: Vec<Owner> = knot.into_iter().map(|tie| tie.owner).collect();
            let ring = (0..n).map(|at| Owner::Session(session((first + n - 1 + at) % n)));
            assert!(owners.into_iter().eq(ring), "the refused first");
            assert_eq!(table.locks.take_knot(), None);
            // The victim gives up what it holds, who waits for that is granted it, and so on round the ring.
            let victim = (first + n - 1) % n;
            let mut heard = table.releases(session(victim), &key(victim), tokens[victim]);
            for at in (1..n).map(|back| (victim + n - back) % n) {
                is_granted(&heard, session(at));
                heard = table.releases(session(at), &key(at), tokens[at]);
            }
            assert_eq!(heard, []);
            assert_eq!(table.locks.counts().deadlocks, 1);
            table.locks.check();
        }
    }
}

#[test]
fn the_victims_end_frees_the_others_as_well() {
    let mut table = Table::new();
    holders(&mut table, 3);
    assert_eq!(table.waits(session(0), &key(1)), None);
    assert_eq!(table.waits(session(1), &key(2)), None);
    assert_eq!(table.waits(session(2), &key(0)), Some(DEADLOCK));
    table.ask(session(2), Command::Close);
    let heard = table.heard();
    assert_eq!(table.noticed(), [(session(2), Notice::Closed)]);
    is_granted(&heard, session(1));
}

#[test]
fn chains_that_end_in_somebody_who_runs_are_never_refused() {
    for n in 2..=50 {
        for backwards in [false, true] {
            let mut table = Table::new();
            holders(&mut table, n);
            for at in 0..n - 1 {
                let at = if backwards { n - 2 - at } else { at };
                assert_eq!(table.waits(session(at), &key(at + 1)), None);
            }
            let counts = table.locks.counts();
            assert_eq!((counts.deadlocks, counts.searches), (0, n as u64 - 1));
            // Who holds nothing closes no knot, and is not looked for.
            assert_eq!(table.waits(session(n), &key(0)), None);
            assert_eq!(table.locks.counts().searches, n as u64 - 1);
        }
    }
}

#[test]
fn a_ring_of_1000_holds_is_a_knot_and_one_of_1001_is_not_looked_through() {
    for (n, refused) in [(1000, Some(DEADLOCK)), (1001, None)] {
        let mut table = Table::new();
        holders(&mut table, n);
        for at in 0..n - 1 {
            assert_eq!(table.waits(session(at), &key(at + 1)), None);
        }
        assert_eq!(table.locks.counts().searches_cut, 0);
        assert_eq!(table.waits(session(n - 1), &key(0)), refused);
        let counts = table.locks.counts();
        let cut = u64::from(refused.is_none());
        assert_eq!((counts.deadlocks, counts.searches_cut), (1 - cut, cut));
        // What was not found waits as ever, and its lease or its timeout ends it.
        table.locks.check();
    }
}

#[test]
fn a_chain_of_1001_holds_goes_on_and_is_counted() {
    let mut table = Table::new();
    holders(&mut table, 1002);
    for at in (0..1001).rev() {
        assert_eq!(table.waits(session(at), &key(at + 1)), None);
        // Seen from `at`, so many holds lie before it, the last of somebody who runs.
        let cut = u64::from(1001 - at > 1000);
        assert_eq!(table.locks.counts().searches_cut, cut);
    }
    assert_eq!(table.locks.counts().deadlocks, 0);
}

#[test]
fn what_a_search_counts_is_holds_and_not_owners() {
    for (slots, refused) in [(1000, Some(DEADLOCK)), (1001, None)] {
        let mut table = Table::new();
        for _ in 0..slots {
            table.takes_slot(session(0), "pool", slots);
        }
        let reply = table.answer(session(0), acquire("pool", slots, AGES));
        assert_eq!(reply, refused);
        let cut = u64::from(refused.is_none());
        assert_eq!(table.locks.counts().searches_cut, cut);
    }
}

#[test]
fn without_detection_nothing_is_looked_for() {
    let mut table = Table::with(|s| s.deadlock_detection = false);
    let tokens = holders(&mut table, 3);
    for at in 0..3 {
        assert_eq!(table.waits(session(at), &key((at + 1) % 3)), None);
    }
    assert_eq!(
        table.answer(session(3), enqueue(&key(0), 0)),
        Some(Reply::Queued)
    );
    assert_eq!(table.waits(session(3), &key(1)), None);
    // Session 2 is granted first, then the record of 3, which waits behind 2 and 0 in the end.
    let heard = table.releases(session(0), &key(0), tokens[0]);
    let token = is_granted(&heard, session(2));
    assert_eq!(table.releases(session(2), &key(0), token), []);
    let counts = table.locks.counts();
    assert_eq!((counts.searches, counts.deadlocks, counts.held), (0, 0, 3));
    assert_eq!(table.locks.take_knot(), None);
}

#[test]
fn who_asks_for_a_free_key_is_not_looked_for() {
    let mut table = Table::new();
    holders(&mut table, 3);
    assert_eq!(table.locks.counts().searches, 0);
}

#[test]
fn one_running_holder_of_a_semaphore_is_enough() {
    let mut table = Table::new();
    let [a, b, c] = [0, 1, 2].map(session);
    for id in [a, b] {
        table.takes_slot(id, "pool", 2);
    }
    table.takes(c, "k");
    // a waits for c, who may wait for the pool: b runs.
    assert_eq!(table.waits(a, "k"), None);
    assert_eq!(table.answer(c, acquire("pool", 2, AGES)), None);
    // With b the last one would wait.
    assert_eq!(table.waits(b, "k"), Some(DEADLOCK));
    let knot = table.locks.take_knot().expect("it was refused");
    let ties: BTreeSet<_> = knot.iter().map(|tie| (tie.space, &tie.key[..])).collect();
    let both = [(Space::Lock, &b"k"[..]), (Space::Semaphore, b"pool")];
    assert_eq!((knot.len(), ties), (3, both.into()));
}

#[test]
fn a_lock_and_a_semaphore_of_one_name_are_two_keys() {
    let mut table = Table::new();
    let [a, b] = [0, 1].map(session);
    table.takes(a, "k");
    table.takes_slot(b, "k", 1);
    assert_eq!(table.answer(a, acquire("k", 1, AGES)), None);
    assert_eq!(table.waits(b, "k"), Some(DEADLOCK));
}

#[test]
fn who_waits_behind_itself_is_refused() {
    let mut table = Table::new();
    let a = session(0);
    table.takes(a, "k");
    assert_eq!(table.waits(a, "k"), Some(DEADLOCK));
    let pool = table.takes_slot(a, "pool", 2);
    table.takes_slot(a, "pool", 2);
    assert_eq!(table.answer(a, acquire("pool", 2, AGES)), Some(DEADLOCK));
    // Neither left anything in a queue.
    let reply = table.answer(a, release("pool", 2, pool));
    assert_eq!(reply, Some(Reply::Released));
    table.takes_slot(a, "pool", 2);
    table.locks.check();
}

#[test]
fn timeout_0_is_never_refused_and_never_looked_for() {
    let mut table = Table::new();
    let a = session(0);
    table.takes(a, "k");
    assert_eq!(table.answer(a, acquire("k", 0, 0)), Some(Reply::Timeout));
    assert_eq!(table.answer(a, enqueue("k", 0)), Some(Reply::Queued));
    assert_eq!(table.answer(a, wait("k", 0)), Some(Reply::Timeout));
    let counts = table.locks.counts();
    assert_eq!((counts.searches, counts.deadlocks), (0, 0));
}

#[test]
fn a_full_queue_comes_before_a_deadlock() {
    let mut table = Table::with(|s| s.max_waiters = 1);
    let [a, b] = [0, 1].map(session);
    table.takes(a, "k");
    assert_eq!(table.waits(b, "k"), None);
    let full = Some(Reply::Refused(Refusal::MaxWaiters));
    assert_eq!(table.waits(a, "k"), full);
    assert_eq!(table.locks.counts().searches, 0);
}

#[test]
fn a_lease_that_is_over_is_no_reason() {
    let mut table = Table::new();
    let [a, b] = [0, 1].map(session);
    let command = Command::Acquire {
        space: Space::Lock,
        key: b"a",
        limit: 1,
        wait: 0,
        lease: Some(SECOND),
        owner: None,
        bound: Bound::Session,
        terms: None,
    };
    assert!(table.answer(a, command).is_some());
    table.takes(b, "b");
    assert_eq!(table.waits(a, "b"), None);
    // Its timer has not had its turn.
    table.now += SECOND;
    table.takes_slot(b, "a", 0);
}

#[test]
fn a_wait_for_what_was_enqueued_is_refused_and_consumes_the_record() {
    let mut table = Table::new();
    let [a, b] = [0, 1].map(session);
    table.takes(a, "a");
    table.takes(b, "b");
    assert_eq!(table.waits(a, "b"), None);
    assert_eq!(table.answer(b, enqueue("a", 0)), Some(Reply::Queued));
    assert_eq!(table.answer(b, wait("a", AGES)), Some(DEADLOCK));
    let gone = Some(Reply::Refused(Refusal::NotEnqueued));
    assert_eq!(table.answer(b, wait("a", AGES)), gone);
    table.locks.check();
}

#[test]
fn a_queue_place_that_nobody_waits_for_is_no_wait() {
    let mut table = Table::new();
    let [a, b] = [0, 1].map(session);
    let token = table.takes(a, "a");
    table.takes(b, "b");
    assert_eq!(table.answer(a, enqueue("b", 0)), Some(Reply::Queued));
    assert_eq!(table.waits(b, "a"), None);
    // It still can give up what it holds.
    is_granted(&table.releases(a, "a", token), b);
}

#[test]
fn a_promoted_record_that_closes_a_knot_ends_its_owners_wait_and_stays() {
    let mut table = Table::new();
    let [a, b, c, d] = [0, 1, 2, 3].map(session);
    let k = table.takes(b, "k");
    table.takes(c, "m");
    assert_eq!(table.answer(a, enqueue("k", 0)), Some(Reply::Queued));
    assert_eq!(table.waits(a, "m"), None);
    assert_eq!(table.waits(d, "m"), None);
    assert_eq!(table.waits(c, "k"), None);
    // a, who waits for c, has from now on what c waits for.
    assert_eq!(table.releases(b, "k", k), [(a, DEADLOCK)]);
    let counts = table.locks.counts();
    assert_eq!((counts.held, counts.deadlocks), (2, 1));
    table.locks.check();
    let Some(Reply::Granted { token, .. }) = table.answer(a, wait("k", AGES)) else {
        panic!("its hold stays");
    };
    // Nobody else has noticed: c gets k, then d, who stood behind a, gets m.
    is_granted(&table.releases(a, "k", token), c);
    table.ask(c, Command::Close);
    is_granted(&table.heard()[..1], d);
}

#[test]
fn a_session_that_is_closing_runs_though_it_takes_its_time() {
    let mut table = Table::new();
    let [a, b] = [0, 1].map(session);
    for n in 0..600 {
        table.takes(a, &key(n));
    }
    table.takes(a, "last");
    table.takes(b, "b");
    assert_eq!(table.waits(a, "b"), None);
    table.ask(a, Command::Close);
    assert_eq!(table.heard(), [], "it is not done");
    assert_eq!(table.waits(b, "last"), None);
    let heard = table.pass(0);
    is_granted(&heard[..1], b);
    assert_eq!(table.locks.counts().deadlocks, 0);
}
