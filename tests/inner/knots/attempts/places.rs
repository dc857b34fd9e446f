//! Places in a queue that are kept after the wait is over.

use super::*;

#[test]
fn a_kept_place_is_granted_in_order_until_it_would_have_ended() {
    for limit in [0, 20] {
        for lease in [1, 10] {
            let mut table = Table::new();
            let [a, b, c, d] = [0, 1, 2, 3].map(session);
            let slots = table.fills(a, limit);
            let ask = Ask {
                limit,
                wait: 2 * SECOND,
                keep: 5 * SECOND,
                lease: lease * SECOND,
                ..ask()
            };
            assert_eq!(table.asks(b, ask), None);
            assert_eq!(table.answer(c, acquire("k", limit, AGES)), None);
            let span = 5 * SECOND;
            assert_eq!(table.pass(2 * SECOND), [(b, Reply::Kept { span })]);
            assert!(!table.locks.has(b), "no session waits");
            assert_eq!(table.views("k", limit).1.len(), 2);
            table.pass(3 * SECOND);
            table.ask(a, release("k", limit, slots[0]));
            assert_eq!(table.heard(), [(a, Reply::Released)], "nobody is told");
            let (holds, queue) = table.views("k", limit);
            let hold = holds.last().unwrap();
            assert_eq!((hold.lease_left, hold.session), (2 * SECOND, None));
            assert_eq!(hold.owner, Some(&b"x"[..]));
            assert_eq!(queue.len(), 1);
            let fence = hold.fence;
            // A repeat renews it to the full lease, if that is later.
            table.pass(SECOND);
            let whole = lease.max(1) * SECOND;
            let reply = table.asks(d, ask);
            let mine = token(reply);
            assert_eq!(
                reply,
                Some(Reply::Granted {
                    token: mine,
                    lease: whole
                })
            );
            assert_eq!(mine.fence, fence);
            assert_eq!(table.pass(whole - 1), []);
            is_granted(&table.pass(1), c);
            table.locks.check();
        }
    }
}

#[test]
fn a_kept_place_that_nobody_asks_for_again_is_gone_in_time() {
    let mut table = Table::new();
    let [a, b, c, d] = [0, 1, 2, 3].map(session);
    let held = table.takes(a, "k");
    let ask = Ask {
        wait: SECOND,
        keep: 5 * SECOND,
        ..ask()
    };
    assert_eq!(table.asks(b, ask), None);
    assert_eq!(table.waits(c, "k"), None);
    let span = 5 * SECOND;
    assert_eq!(table.pass(SECOND), [(b, Reply::Kept { span })]);
    assert_eq!(table.pass(5 * SECOND - 1), []);
    assert_eq!(table.views("k", 0).1.len(), 2);
    assert_eq!(table.pass(1), []);
    assert_eq!(table.views("k", 0).1.len(), 1);
    // It is unknown now: a repeat stands behind all others.
    assert_eq!(table.asks(d, ask), None);
    assert_eq!(table.views("k", 0).1[1].session, Some(d));
    assert!(matches!(
        table.releases(a, "k", held)[..],
        [(to, Reply::Granted { .. })] if to == c
    ));
}

#[test]
fn a_kept_place_that_is_over_is_granted_nothing_though_no_tick_has_come() {
    let mut table = Table::new();
    let [a, b, c] = [0, 1, 2].map(session);
    let held = table.takes(a, "k");
    let ask = Ask {
        keep: 5 * SECOND,
        ..ask()
    };
    // A try keeps a place as well.
    let span = 5 * SECOND;
    assert_eq!(table.asks(b, ask), Some(Reply::Kept { span }));
    assert_eq!(table.waits(c, "k"), None);
    table.now += 5 * SECOND;
    let heard = table.releases(a, "k", held);
    is_granted(&heard, c);
    table.locks.check();
    assert_eq!(table.pass(SECOND), []);
}

#[test]
fn polls_that_keep_their_places_are_served_in_order() {
    let mut table = Table::new();
    let [a, b, c] = [0, 1, 2].map(session);
    let held = table.takes(a, "k");
    let poll = |owner| Ask {
        owner,
        wait: SECOND,
        keep: 5 * SECOND,
        ..ask()
    };
    let kept = Reply::Kept { span: 5 * SECOND };
    for _ in 0..10 {
        assert_eq!(table.asks(b, poll("x")), None);
        assert_eq!(table.asks(c, poll("y")), None);
        assert_eq!(in_order(table.pass(SECOND)), [(b, kept), (c, kept)]);
        table.pass(3 * SECOND);
        assert_eq!(table.asks(c, poll("y")), None);
        assert_eq!(table.asks(b, poll("x")), None);
        assert_eq!(in_order(table.pass(SECOND)), [(b, kept), (c, kept)]);
    }
    // The first has its turn though it does not wait, and the second does.
    assert_eq!(table.asks(c, poll("y")), None);
    assert_eq!(table.releases(a, "k", held), []);
    let first = token(table.asks(b, poll("x")));
    table.ask(b, release("k", 0, first));
    is_granted(&table.heard()[..1], c);
}

#[test]
fn the_end_of_a_connection_removes_its_wait_at_once_but_no_kept_place() {
    let mut table = Table::new();
    let [a, b, c] = [0, 1, 2].map(session);
    table.takes(a, "k");
    let ask = Ask {
        keep: 5 * SECOND,
        ..ask_and_wait()
    };
    assert_eq!(table.asks(b, ask), None);
    table.ask(b, Command::Close);
    table.locks.check();
    assert_eq!(table.noticed(), [(b, Notice::Closed)]);
    assert_eq!(table.views("k", 0).1, []);
    assert_eq!(
        table.asks(c, Ask { wait: 0, ..ask }),
        Some(Reply::Kept { span: 5 * SECOND })
    );
    table.ask(c, Command::Close);
    assert_eq!(table.views("k", 0).1.len(), 1);
    table.locks.check();
}

#[test]
fn a_kept_place_counts_in_max_waiters() {
    let mut table = Table::with(|s| s.max_waiters = 1);
    let [a, b, c] = [0, 1, 2].map(session);
    table.takes(a, "k");
    let ask = Ask {
        keep: 5 * SECOND,
        ..ask()
    };
    let kept = Some(Reply::Kept { span: 5 * SECOND });
    assert_eq!(table.asks(b, ask), kept);
    let full = Some(Reply::Refused(Refusal::MaxWaiters));
    assert_eq!(table.waits(c, "k"), full);
    // For its own place there is room.
    assert_eq!(table.asks(b, ask_and_wait()), None);
    assert_eq!(table.waits(c, "k"), full);
    let heard = table.cancels(c, ask);
    assert_eq!(heard, [(b, Reply::Cancelled), (c, NO_HOLD)]);
    assert_eq!(table.waits(c, "k"), None);
}

#[test]
fn a_drain_removes_kept_places_and_keeps_no_more() {
    let mut table = Table::new();
    let [a, b, c, d] = [0, 1, 2, 3].map(session);
    let held = table.takes(a, "k");
    let keep = 5 * SECOND;
    let ask = Ask { keep, ..ask() };
    assert_eq!(table.asks(b, ask), Some(Reply::Kept { span: keep }));
    let second = Ask {
        attempt: "2",
        wait: SECOND,
        ..ask
    };
    assert_eq!(table.asks(c, second), None);
    table.ask(SessionId::NOBODY, Command::Drain);
    let draining = Reply::Refused(Refusal::Draining);
    assert_eq!(table.asks(d, ask), Some(draining));
    assert_eq!(table.pass(0), [(c, draining)]);
    assert_eq!(table.views("k", 0).1, []);
    assert_eq!(table.releases(a, "k", held), []);
    table.locks.check();
    assert_eq!(table.locks.keys(), 0);
}

#[test]
fn a_wait_that_times_out_in_a_drain_keeps_nothing() {
    let mut table = Table::new();
    let [a, b] = [0, 1].map(session);
    table.takes(a, "k");
    let ask = Ask {
        wait: SECOND,
        keep: 5 * SECOND,
        ..ask()
    };
    assert_eq!(table.asks(b, ask), None);
    table.now += SECOND;
    table.ask(SessionId::NOBODY, Command::Drain);
    let heard = table.pass(0);
    assert!(
        matches!(heard[..], [(to, Reply::Timeout | Reply::Refused(Refusal::Draining))] if to == b),
        "{heard:?}"
    );
    assert_eq!(table.views("k", 0).1, []);
    table.locks.check();
}

#[test]
fn a_place_that_is_granted_refuses_the_wait_that_it_makes_endless() {
    let mut table = Table::new();
    let [a, b, c] = [0, 1, 2].map(session);
    table.is(a, "y");
    table.is(b, "z");
    let keep = 5 * SECOND;
    let held = table.takes(b, "k");
    table.takes(a, "m");
    // x keeps a place at k, y stands behind it there, and x waits for m of y.
    assert_eq!(
        table.asks(c, Ask { keep, ..ask() }),
        Some(Reply::Kept { span: keep })
    );
    assert_eq!(table.waits(a, "k"), None);
    let second = Ask {
        key: "m",
        attempt: "2",
        ..ask_and_wait()
    };
    assert_eq!(table.asks(c, second), None);
    // k is granted to x, of whom y waits now.
    assert_eq!(table.releases(b, "k", held), [(c, DEADLOCK)]);
    assert_eq!(table.held(), 2);
    assert_eq!(table.views("m", 0).1, []);
    table.locks.check();
    is_granted(&table.pass(5 * SECOND), a);
}

#[test]
fn a_place_that_is_granted_may_refuse_another_wait_for_the_same_key() {
    let mut table = Table::new();
    let [a, b] = [0, 1].map(session);
    let held = table.takes(a, "k");
    let keep = 5 * SECOND;
    assert_eq!(
        table.asks(b, Ask { keep, ..ask() }),
        Some(Reply::Kept { span: keep })
    );
    let second = Ask {
        attempt: "2",
        ..ask_and_wait()
    };
    assert_eq!(table.asks(b, second), None);
    assert_eq!(table.releases(a, "k", held), [(b, DEADLOCK)]);
    assert_eq!((table.held(), table.views("k", 0).1.len()), (1, 0));
    table.locks.check();
}
