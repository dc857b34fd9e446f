//! Holds that renew themselves.

use super::*;

/// Every 5 s, within 300 s.
const RENEWAL: Option<Renewal> = Some(Renewal {
    every: 5 * SECOND,
    within: 300 * SECOND,
});

#[test]
fn a_hold_renews_itself_within_its_bound() {
    for limit in [0, 20] {
        // Of a step each: the least of 5 s and a third of the lease.
        for (lease, steps) in [(60, 48), (3, 297)] {
            let mut table = Table::new();
            let [a, b] = [0, 1].map(session);
            let lease = lease * SECOND;
            let ask = Ask {
                limit,
                lease,
                renewal: RENEWAL,
                ..ask()
            };
            let mine = token(table.asks(a, ask));
            for second in 1..300 {
                table.pass(SECOND);
                table.locks.check();
                let (holds, _) = table.views("k", limit);
                let until = 300 - second;
                assert_eq!(holds[0].renews, Some(until * SECOND));
                let left = holds[0].lease_left;
                let every = (lease / 3).min(5 * SECOND);
                let least = (lease - every).min(until * SECOND);
                assert!(
                    (least..=lease.min(until * SECOND)).contains(&left),
                    "{second}: {left}"
                );
            }
            assert_eq!(table.locks.counts().renewals, steps);
            assert_eq!(table.held(), 1);
            table.pass(SECOND);
            assert_eq!(table.held(), 0);
            assert_eq!(table.answer(b, release("k", limit, mine)), Some(ERROR));
            assert_eq!(table.locks.counts().expired, 1);
        }
    }
}

#[test]
fn a_renewal_and_a_repeat_give_a_hold_that_renews_itself_all_its_time_again() {
    for repeats in [true, false] {
        for limit in [0, 20] {
            let mut table = Table::new();
            let a = session(0);
            let ask = Ask {
                limit,
                lease: 30 * SECOND,
                renewal: RENEWAL,
                ..ask()
            };
            let mine = token(table.asks(a, ask));
            for _ in 0..3 {
                table.lives(299 * SECOND);
                assert_eq!(table.held(), 1);
                if repeats {
                    assert_eq!(token(table.asks(a, ask)), mine);
                } else {
                    let lease = 30 * SECOND;
                    let renew = Command::Renew {
                        space: space(limit),
                        key: b"k",
                        token: mine,
                        lease: Some(lease),
                        bound: Bound::Session,
                    };
                    assert_eq!(table.answer(a, renew), Some(Reply::Renewed { lease }));
                }
                table.locks.check();
                let (holds, _) = table.views("k", limit);
                assert_eq!(holds[0].lease_left, 30 * SECOND);
                assert_eq!(holds[0].renews, Some(300 * SECOND));
            }
            table.is_held_for(300 * SECOND);
        }
    }
}

#[test]
fn a_renewal_may_make_a_hold_that_renews_itself_shorter() {
    let mut table = Table::new();
    let a = session(0);
    let ask = Ask {
        lease: 60 * SECOND,
        renewal: RENEWAL,
        ..ask()
    };
    let mine = token(table.asks(a, ask));
    let lease = 3 * SECOND;
    let renew = Command::Renew {
        space: Space::Lock,
        key: b"k",
        token: mine,
        lease: Some(lease),
        bound: Bound::Session,
    };
    assert_eq!(table.answer(a, renew), Some(Reply::Renewed { lease }));
    assert_eq!(table.views("k", 0).0[0].lease_left, lease);
    // Its steps are of that lease from now on.
    table.pass(SECOND);
    assert_eq!(table.views("k", 0).0[0].lease_left, lease);
    table.is_held_for(299 * SECOND);
}

#[test]
fn a_release_and_a_break_stop_a_hold_that_renews_itself() {
    for stop in 0..3 {
        for limit in [0, 20] {
            let mut table = Table::new();
            let [a, b] = [0, 1].map(session);
            let ask = Ask {
                limit,
                renewal: RENEWAL,
                ..ask()
            };
            let mine = token(table.asks(a, ask));
            table.lives(7 * SECOND);
            match stop {
                0 => table.ask(b, release("k", limit, mine)),
                1 => drop(table.cancels(b, ask)),
                _ => table.ask(
                    b,
                    Command::Break {
                        space: space(limit),
                        key: b"k",
                        fence: None,
                    },
                ),
            }
            assert_eq!(table.held(), 0);
            table.locks.check();
            // No timer is left but that of the key, which is remembered for a minute.
            let idle = Some(table.now + 60 * SECOND);
            assert_eq!((table.locks.keys(), table.locks.deadline()), (0, idle));
        }
    }
}

#[test]
fn a_hold_whose_steps_came_too_late_has_ended() {
    let mut table = Table::new();
    let [a, b] = [0, 1].map(session);
    let ask = Ask {
        renewal: RENEWAL,
        ..ask()
    };
    token(table.asks(a, ask));
    // Its lease was to end at 10 s, but for steps that nobody made.
    assert_eq!(table.pass(10 * SECOND), []);
    assert_eq!(table.held(), 0);
    // It had time until then.
    token(table.asks(a, ask));
    table.pass(10 * SECOND - 1);
    assert_eq!(
        (table.held(), table.views("k", 0).0[0].lease_left),
        (1, 10 * SECOND)
    );
    // The same if another asks before the tick.
    table.now += 10 * SECOND;
    token(table.answer(b, acquire("k", 0, 0)));
    table.locks.check();
}

#[test]
fn an_acquire_ends_no_hold_whose_step_is_merely_due() {
    for limit in [0, 9] {
        let mut table = Table::new();
        let [a, b] = [0, 1].map(session);
        let ask = Ask {
            limit,
            renewal: RENEWAL,
            ..ask()
        };
        token(table.asks(a, ask));
        for _ in 1..limit {
            table.takes_slot(a, "k", limit);
        }
        table.now += 9 * SECOND;
        assert_eq!(
            table.answer(b, acquire("k", limit, 0)),
            Some(Reply::Timeout)
        );
        assert_eq!(table.views("k", limit).0[0].lease_left, 10 * SECOND);
        assert_eq!(table.locks.counts().renewals, 1);
        table.locks.check();
        // The step was made, and the timers know of the next.
        table.pass(9 * SECOND);
        assert_eq!(table.held(), u64::from(limit.max(1)));
    }
}

#[test]
fn holds_whose_steps_are_due_keep_no_lease_that_is_over() {
    let mut table = Table::new();
    let [a, b] = [0, 1].map(session);
    let limit = 20;
    let names: Vec<String> = (0..19).map(|n| format!("attempt-{n}")).collect();
    for attempt in &names {
        token(table.asks(
            a,
            Ask {
                attempt,
                limit,
                renewal: RENEWAL,
                ..ask()
            },
        ));
    }
    let lease = 9 * SECOND;
    token(table.asks(
        a,
        Ask {
            limit,
            lease,
            ..ask()
        },
    ));
    // All their steps were due before its lease was over, and no tick has come.
    table.now += 9 * SECOND;
    token(table.answer(b, acquire("k", limit, 0)));
    table.locks.check();
}

#[test]
fn a_place_that_is_granted_renews_itself_only_once_its_client_is_back() {
    for limit in [0, 20] {
        let mut table = Table::new();
        let [a, b] = [0, 1].map(session);
        let slots = table.fills(a, limit);
        let ask = Ask {
            limit,
            keep: 5 * SECOND,
            renewal: RENEWAL,
            ..ask()
        };
        let kept = Some(Reply::Kept { span: 5 * SECOND });
        assert_eq!(table.asks(b, ask), kept);
        table.ask(a, release("k", limit, slots[0]));
        table.heard();
        let left = table.views("k", limit).0.last().unwrap().lease_left;
        assert_eq!(left, 5 * SECOND, "until the place would have ended");
        table.pass(5 * SECOND - 1);
        let others = u64::from(limit.max(1)) - 1;
        assert_eq!(table.held(), others + 1);
        table.pass(1);
        assert_eq!(table.held(), others);
        // With a repeat it begins.
        let slot = if limit == 0 {
            table.takes(a, "k")
        } else {
            table.takes_slot(a, "k", limit)
        };
        assert_eq!(table.asks(b, ask), kept);
        table.ask(a, release("k", limit, slot));
        table.heard();
        table.pass(4 * SECOND);
        let reply = table.asks(b, ask);
        let lease = 10 * SECOND;
        assert_eq!(
            reply,
            Some(Reply::Granted {
                token: token(reply),
                lease
            })
        );
        table.lives(299 * SECOND);
        assert_eq!(table.held(), others + 1);
        table.pass(SECOND);
        assert_eq!(table.held(), others);
    }
}

#[test]
fn a_hold_that_was_waited_for_renews_itself_from_its_grant() {
    let mut table = Table::new();
    let [a, b] = [0, 1].map(session);
    let held = table.takes(a, "k");
    let ask = Ask {
        renewal: RENEWAL,
        ..ask_and_wait()
    };
    assert_eq!(table.asks(b, ask), None);
    table.pass(50 * SECOND);
    granted(10 * SECOND, &table.releases(a, "k", held), b);
    table.is_held_for(300 * SECOND);
    table.locks.check();
}
