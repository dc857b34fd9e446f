//! Attempts that are ended by their names.

use super::*;

/// To the end of an attempt that held this.
fn released(Token { fence, .. }: Token) -> Reply {
    Reply::Ended { fence }
}

#[test]
fn an_attempt_is_ended_wherever_it_is() {
    let keep = 5 * SECOND;
    for limit in [0, 3, 20] {
        let mut table = Table::new();
        let [a, b, c, d] = [0, 1, 2, 3].map(session);
        let owners = ["x", "y", "z", "x"];
        let attempts = [1, 2, 3, 4].map(|n| (["1", "2", "3", "4"][n - 1], owners[n - 1]));
        let [held, waits, kept, late] = attempts.map(|(attempt, owner)| Ask {
            attempt,
            owner,
            limit,
            keep,
            ..ask()
        });
        let mine = token(table.asks(a, held));
        for _ in 1..limit {
            table.takes_slot(d, "k", limit);
        }
        assert_eq!(table.asks(b, kept), Some(Reply::Kept { span: keep }));
        let wait = 60 * SECOND;
        assert_eq!(table.asks(b, Ask { wait, ..waits }), None);
        assert_eq!(table.answer(d, acquire("k", limit, AGES)), None);
        // Before its request: the end wins.
        assert_eq!(table.cancels(c, late), [(c, NO_HOLD)]);
        assert_eq!(table.asks(c, late), Some(Reply::Cancelled));
        assert_eq!(table.cancels(c, kept), [(c, NO_HOLD)]);
        let heard = table.cancels(c, waits);
        assert_eq!(heard, [(b, Reply::Cancelled), (c, NO_HOLD)]);
        let heard = table.cancels(c, held);
        assert!(matches!(heard[0], (to, Reply::Granted { .. }) if to == d));
        assert_eq!(heard[1..], [(c, released(mine))]);
        for ask in [held, waits, kept, late] {
            assert_eq!(table.asks(c, ask), Some(Reply::Cancelled));
            assert_eq!(table.cancels(c, ask), [(c, NO_HOLD)], "no error");
        }
        assert_eq!(table.locks.counts().released, 1);
        assert_eq!(table.held(), u64::from(limit.max(1)));
    }
}

#[test]
fn an_end_reaches_both_spaces() {
    let mut table = Table::new();
    let [a, b, c, d] = [0, 1, 2, 3].map(session);
    let pool = Ask { limit: 2, ..ask() };
    token(table.asks(a, ask()));
    let last = token(table.asks(a, pool));
    assert_eq!(table.cancels(b, ask()), [(b, released(last))]);
    assert_eq!(table.held(), 0);
    // In one it holds, in the other it waits.
    let ask = Ask {
        attempt: "2",
        ..ask()
    };
    let pool = Ask {
        limit: 2,
        wait: AGES,
        ..ask
    };
    for (taken, waits, slots) in [(ask, pool, 2), (pool, Ask { wait: AGES, ..ask }, 0)] {
        let attempt = if slots == 2 { "2" } else { "3" };
        let [taken, waits] = [taken, waits].map(|ask| Ask { attempt, ..ask });
        for _ in 0..slots.max(1) {
            table.takes_slot(d, "k", slots);
        }
        let mine = token(table.asks(a, taken));
        assert_eq!(table.asks(b, waits), None);
        let heard = table.cancels(c, taken);
        assert_eq!(heard, [(b, Reply::Cancelled), (c, released(mine))]);
        for ask in [taken, waits] {
            assert_eq!(table.asks(a, ask), Some(Reply::Cancelled));
        }
        table.ask(d, Command::Close);
        table.noticed();
        assert_eq!(table.locks.keys(), 0);
    }
}

#[test]
fn ended_attempts_are_remembered_for_a_minute() {
    let mut table = Table::new();
    let [a, b] = [0, 1].map(session);
    table.cancels(a, ask());
    table.pass(60 * SECOND);
    assert_eq!(table.asks(b, ask()), Some(Reply::Cancelled));
    table.pass(1);
    let mine = token(table.asks(b, ask()));
    // Ended again, it is remembered again.
    assert_eq!(table.cancels(a, ask()), [(a, released(mine))]);
    table.pass(60 * SECOND);
    assert_eq!(table.asks(b, ask()), Some(Reply::Cancelled));
    assert_eq!(table.answer(b, release("k", 0, mine)), Some(ERROR));
    // A release by the token ends a hold, and no attempt.
    table.pass(SECOND);
    let mine = token(table.asks(b, ask()));
    table.ask(b, release("k", 0, mine));
    table.heard();
    token(table.asks(b, ask()));
}

#[test]
fn the_last_4096_ended_attempts_are_remembered() {
    let mut table = Table::new();
    let a = session(0);
    let names: Vec<String> = (0..=4096).map(|n| format!("attempt-{n}")).collect();
    let ask = |n: usize| Ask {
        attempt: &names[n],
        ..ask()
    };
    for n in 0..4096 {
        table.cancels(a, ask(n));
    }
    for n in [0, 1, 4095] {
        assert_eq!(table.asks(a, ask(n)), Some(Reply::Cancelled));
    }
    table.cancels(a, ask(4096));
    for n in [1, 4096] {
        assert_eq!(table.asks(a, ask(n)), Some(Reply::Cancelled));
    }
    token(table.asks(a, ask(0)));
    // What is ended again is among the last again.
    table.cancels(a, ask(1));
    table.cancels(a, ask(0));
    for n in [0, 1, 3, 4096] {
        assert_eq!(table.asks(a, ask(n)), Some(Reply::Cancelled));
    }
    token(table.asks(a, ask(2)));
    for n in 2..4096 {
        table.cancels(a, ask(n));
    }
    for n in [1, 2, 4095] {
        assert_eq!(table.asks(a, ask(n)), Some(Reply::Cancelled));
    }
}

#[test]
fn a_session_whose_close_goes_on_hears_of_no_repeat_and_no_end() {
    for cancels in [true, false] {
        let mut table = Table::new();
        let [a, b, c] = [0, 1, 2].map(session);
        table.takes(a, "k");
        // Closes that use up what a turn may end.
        for n in 10..1000 {
            table.takes(session(n), &format!("k{n}"));
        }
        let keep = 5 * SECOND;
        assert_eq!(
            table.asks(
                b,
                Ask {
                    keep,
                    ..ask_and_wait()
                }
            ),
            None
        );
        for n in 10..1000 {
            table.ask(session(n), Command::Close);
        }
        table.ask(b, Command::Close);
        assert!(
            !table.noticed().contains(&(b, Notice::Closed)),
            "it goes on"
        );
        if cancels {
            assert_eq!(table.cancels(c, ask()), [(c, NO_HOLD)]);
        } else {
            assert_eq!(table.asks(c, ask_and_wait()), None);
            assert_eq!(table.views("k", 0).1[0].session, Some(c));
        }
        assert_eq!(table.pass(0), []);
        assert!(table.noticed().contains(&(b, Notice::Closed)));
        table.locks.check();
    }
}
