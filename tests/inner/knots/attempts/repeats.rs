//! Repeats of a request that holds or waits.

use super::*;

#[test]
fn a_repeat_of_a_hold_has_the_same_token_and_the_later_end() {
    for limit in [0, 3, 20] {
        let mut table = Table::new();
        let [a, b] = [0, 1].map(session);
        let ask = Ask { limit, ..ask() };
        let mine = token(table.asks(a, ask));
        table.pass(4 * SECOND);
        // From any session, with its own lease; that of the hold does not become shorter.
        for (lease, left) in [(10, 10), (3, 10), (5, 10), (20, 20), (1, 20)] {
            let lease = lease * SECOND;
            let reply = table.asks(b, Ask { lease, ..ask });
            let lease = left * SECOND;
            assert_eq!(reply, Some(Reply::Granted { token: mine, lease }));
        }
        assert_eq!((table.held(), table.locks.counts().granted), (1, 1));
        table.pass(20 * SECOND - 1);
        assert_eq!(table.held(), 1);
        table.pass(1);
        assert_eq!(table.held(), 0);
        // After its end it is unknown, and begins.
        let next = token(table.asks(b, ask));
        assert!(next.fence > mine.fence);
    }
}

#[test]
fn a_repeat_does_not_revive_a_lease_that_is_over() {
    let mut table = Table::new();
    let [a, b, c] = [0, 1, 2].map(session);
    token(table.asks(a, ask()));
    assert_eq!(table.waits(b, "k"), None);
    // No tick has come yet.
    table.now += 10 * SECOND;
    table.sends(c, ask());
    let heard = table.heard();
    assert!(matches!(heard[0], (to, Reply::Granted { .. }) if to == b));
    assert_eq!(heard[1..], [(c, Reply::Timeout)]);
}

#[test]
fn other_names_are_other_attempts() {
    let mut table = Table::new();
    let [a, b] = [0, 1].map(session);
    token(table.asks(a, Ask { limit: 2, ..ask() }));
    for other in [
        Ask {
            attempt: "2",
            ..ask()
        },
        Ask {
            owner: "y",
            ..ask()
        },
        Ask { key: "m", ..ask() },
        ask(),
    ] {
        let before = table.locks.counts().granted;
        table.sends(b, Ask { limit: 3, ..other });
        let mismatch = (b, Reply::Refused(Refusal::LimitMismatch));
        if other.key == "k" {
            assert_eq!(table.heard(), [mismatch], "the attempt of a limit of 2");
        } else {
            is_granted(&table.heard(), b);
        }
        // The lock of that name is another key.
        table.sends(b, other);
        if table.locks.counts().granted == before {
            assert_eq!(table.heard(), [(b, Reply::Timeout)]);
        } else {
            is_granted(&table.heard(), b);
        }
    }
}

#[test]
fn a_repeat_takes_the_place_of_its_wait_over() {
    for limit in [0, 20] {
        let mut table = Table::new();
        let [a, b, c, d] = [0, 1, 2, 3].map(session);
        let slots = table.fills(a, limit);
        let ask = Ask {
            limit,
            ..ask_and_wait()
        };
        assert_eq!(table.asks(b, ask), None);
        assert_eq!(table.answer(c, acquire("k", limit, AGES)), None);
        table.pass(50 * SECOND);
        // Its own wait, lease, note.
        table.sends(
            d,
            Ask {
                wait: 20 * SECOND,
                lease: 5 * SECOND,
                note: Some("{}"),
                ..ask
            },
        );
        assert_eq!(table.heard(), [(b, Reply::Superseded)]);
        assert!(!table.locks.has(b) && table.locks.has(d));
        let (_, queue) = table.views("k", limit);
        let seen: Vec<_> = queue.iter().map(|v| (v.session, v.note)).collect();
        assert_eq!(seen, [(Some(d), Some(&b"{}"[..])), (Some(c), None)]);
        assert_eq!(queue[0].age, 50 * SECOND, "since its first request");
        // The former session may ask for something else, or end.
        token(table.asks(b, Ask { key: "m", ..ask }));
        table.ask(b, Command::Close);
        assert_eq!(table.pass(20 * SECOND - 1), []);
        table.ask(a, release("k", limit, slots[0]));
        granted(5 * SECOND, &table.heard()[..1], d);
        assert_eq!(
            table.views("k", limit).0.last().unwrap().note,
            Some(&b"{}"[..])
        );
        table.locks.check();
    }
}

#[test]
fn a_wait_that_was_taken_over_ends_when_the_repeat_says() {
    let mut table = Table::new();
    let [a, b, c] = [0, 1, 2].map(session);
    table.takes(a, "k");
    for wait in [0, 1, 90] {
        assert_eq!(table.asks(b, ask_and_wait()), None);
        let wait = wait * SECOND;
        table.sends(c, Ask { wait, ..ask() });
        let mut heard = table.heard();
        assert_eq!(heard.remove(0), (b, Reply::Superseded));
        if wait > 0 {
            assert_eq!(table.pass(wait - 1), []);
            heard = table.pass(1);
        }
        assert_eq!(heard, [(c, Reply::Timeout)]);
        assert_eq!(table.views("k", 0).1, []);
        table.locks.check();
    }
}

#[test]
fn a_repeat_with_another_limit_is_refused_wherever_its_attempt_is() {
    let mut table = Table::new();
    let [a, b, c] = [0, 1, 2].map(session);
    let mismatch = Some(Reply::Refused(Refusal::LimitMismatch));
    let pool = Ask {
        limit: 9,
        lease: AGES,
        ..ask_and_wait()
    };
    token(table.asks(a, pool));
    assert_eq!(table.asks(b, Ask { limit: 8, ..pool }), mismatch);
    for _ in 0..8 {
        table.takes_slot(a, "k", 9);
    }
    let second = Ask {
        owner: "y",
        keep: 5 * SECOND,
        ..pool
    };
    assert_eq!(table.asks(b, second), None);
    assert_eq!(table.asks(c, Ask { limit: 8, ..second }), mismatch);
    table.pass(60 * SECOND);
    assert_eq!(table.asks(c, Ask { limit: 8, ..second }), mismatch);
    assert_eq!(table.views("k", 9).1.len(), 1, "its place is kept still");
}

#[test]
fn a_repeat_is_a_new_wait_when_deadlocks_are_looked_for() {
    let mut table = Table::new();
    let [a, b, c, d] = [0, 1, 2, 3].map(session);
    table.is(a, "y");
    table.takes(a, "k");
    let keep = 5 * SECOND;
    assert_eq!(
        table.asks(b, Ask { keep, ..ask() }),
        Some(Reply::Kept { span: keep })
    );
    // x has a kept place, and is not waiting: y may wait for it.
    token(table.asks(
        b,
        Ask {
            key: "m",
            attempt: "2",
            ..ask()
        },
    ));
    assert_eq!(table.waits(a, "m"), None);
    // Now the place cannot be waited at.
    assert_eq!(table.asks(c, ask_and_wait()), Some(DEADLOCK));
    assert_eq!(table.views("k", 0).1, [], "and is given up");
    // A try waits for nobody.
    assert_eq!(table.asks(d, ask()), Some(Reply::Timeout));
    table.locks.check();
}

#[test]
fn a_wait_that_is_taken_over_is_one_wait_still() {
    let mut table = Table::new();
    let [a, b, c] = [0, 1, 2].map(session);
    table.takes(a, "k");
    let held = Ask {
        key: "m",
        attempt: "2",
        ..ask()
    };
    token(table.asks(b, held));
    assert_eq!(table.asks(b, ask_and_wait()), None);
    table.sends(c, ask_and_wait());
    assert_eq!(table.heard(), [(b, Reply::Superseded)]);
    // With two at once its owner would count as running, and this wait would be none that never ends.
    assert_eq!(table.waits(a, "m"), Some(DEADLOCK));
    table.locks.check();
}

#[test]
fn a_self_deadlock_of_two_attempts_is_refused_at_once() {
    let mut table = Table::new();
    let [a, b] = [0, 1].map(session);
    token(table.asks(a, ask()));
    let second = Ask {
        attempt: "2",
        ..ask_and_wait()
    };
    assert_eq!(table.asks(b, second), Some(DEADLOCK));
    // By a repeat of the first it is the same hold.
    token(table.asks(b, ask_and_wait()));
    assert_eq!(table.held(), 1);
}
