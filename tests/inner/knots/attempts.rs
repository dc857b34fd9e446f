//! Attempts: requests under a secret name that are repeated, keep their places in a queue, are ended by that name, and
//! whose holds renew themselves.

use super::leases::token;
use super::*;
use dflockd::command::{Renewal, Terms, TicketView};

const ERROR: Reply = Reply::Refused(Refusal::Error);

/// A request of one owner for one key, under a name.
#[derive(Clone, Copy)]
struct Ask<'a> {
    owner: &'a str,
    attempt: &'a str,
    key: &'a str,
    /// 0 asks for a lock.
    limit: u32,
    wait: Us,
    lease: Us,
    keep: Us,
    renewal: Option<Renewal>,
    note: Option<&'a str>,
}

/// Owner x, attempt "1", lock k, a lease of 10 s.
fn ask() -> Ask<'static> {
    Ask {
        owner: "x",
        attempt: "1",
        key: "k",
        limit: 0,
        wait: 0,
        lease: 10 * SECOND,
        keep: 0,
        renewal: None,
        note: None,
    }
}

/// The same, for up to a minute.
fn ask_and_wait() -> Ask<'static> {
    Ask {
        wait: 60 * SECOND,
        ..ask()
    }
}

impl Table {
    /// Sends the request. What others hear stays in the outbox.
    fn sends(&mut self, from: SessionId, ask: Ask) {
        let terms = Terms {
            attempt: Some(ask.attempt.as_bytes()),
            keep: ask.keep,
            renewal: ask.renewal,
            note: ask.note.map(str::as_bytes),
        };
        self.ask(
            from,
            Command::Acquire {
                space: space(ask.limit),
                key: ask.key.as_bytes(),
                limit: ask.limit.max(1),
                wait: ask.wait,
                lease: Some(ask.lease),
                owner: Some(ask.owner.as_bytes()),
                bound: Bound::Lease,
                terms: Some(&terms),
            },
        );
        self.locks.check();
    }

    /// Sends the request. Nobody but `from` hears of it.
    #[track_caller]
    fn asks(&mut self, from: SessionId, ask: Ask) -> Option<Reply> {
        self.sends(from, ask);
        let reply = self.out.replies.pop_front();
        assert!(self.out.replies.is_empty(), "{:?}", self.out);
        reply.map(|(id, reply)| {
            assert_eq!(id, from);
            reply
        })
    }

    #[track_caller]
    fn cancels(&mut self, from: SessionId, ask: Ask) -> Vec<(SessionId, Reply)> {
        let Ask {
            key,
            owner,
            attempt,
            ..
        } = ask;
        self.ask(
            from,
            Command::Cancel {
                key: key.as_bytes(),
                owner: owner.as_bytes(),
                attempt: attempt.as_bytes(),
            },
        );
        self.locks.check();
        self.heard()
    }

    /// The holds of a key and its queue.
    fn views(&self, key: &str, limit: u32) -> (Vec<TicketView<'_>>, Vec<TicketView<'_>>) {
        let of = (space(limit), key.as_bytes());
        let tickets = |waiting| self.locks.view_tickets(self.now, of, waiting, 0).collect();
        (tickets(false), tickets(true))
    }

    /// So much time passes for a server that is never late: a tick each second, and one just before the end.
    fn lives(&mut self, span: Us) {
        for _ in 0..span / SECOND {
            self.pass(SECOND - 1);
            self.pass(1);
        }
        self.pass(span % SECOND);
        self.locks.check();
    }

    fn held(&self) -> u64 {
        self.locks.counts().held
    }
}

/// What was said within one turn, by session.
fn in_order(mut heard: Vec<(SessionId, Reply)>) -> Vec<(SessionId, Reply)> {
    heard.sort_by_key(|heard| heard.0);
    heard
}

fn granted(lease: Us, heard: &[(SessionId, Reply)], to: SessionId) -> Token {
    let token = is_granted(heard, to);
    assert_eq!(heard[0].1, Reply::Granted { token, lease });
    token
}

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
        let slots: Vec<Token> = (0..limit.max(1))
            .map(|_| table.takes_slot(a, "k", limit))
            .collect();
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
fn a_kept_place_is_granted_in_order_until_it_would_have_ended() {
    for limit in [0, 20] {
        for lease in [1, 10] {
            let mut table = Table::new();
            let [a, b, c, d] = [0, 1, 2, 3].map(session);
            let slots: Vec<Token> = (0..limit.max(1))
                .map(|_| table.takes_slot(a, "k", limit))
                .collect();
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
    assert_eq!(heard, [(b, Reply::Cancelled), (c, Reply::Done)]);
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
        token(table.asks(a, held));
        for _ in 1..limit {
            table.takes_slot(d, "k", limit);
        }
        assert_eq!(table.asks(b, kept), Some(Reply::Kept { span: keep }));
        let wait = 60 * SECOND;
        assert_eq!(table.asks(b, Ask { wait, ..waits }), None);
        assert_eq!(table.answer(d, acquire("k", limit, AGES)), None);
        // Before its request: the end wins.
        assert_eq!(table.cancels(c, late), [(c, Reply::Done)]);
        assert_eq!(table.asks(c, late), Some(Reply::Cancelled));
        assert_eq!(table.cancels(c, kept), [(c, Reply::Done)]);
        let heard = table.cancels(c, waits);
        assert_eq!(heard, [(b, Reply::Cancelled), (c, Reply::Done)]);
        let heard = table.cancels(c, held);
        assert!(matches!(heard[0], (to, Reply::Granted { .. }) if to == d));
        assert_eq!(heard[1..], [(c, Reply::Released)]);
        for ask in [held, waits, kept, late] {
            assert_eq!(table.asks(c, ask), Some(Reply::Cancelled));
            assert_eq!(table.cancels(c, ask), [(c, Reply::Done)], "no error");
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
    for ask in [ask(), pool] {
        token(table.asks(a, ask));
    }
    assert_eq!(table.cancels(b, ask()), [(b, Reply::Released)]);
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
        token(table.asks(a, taken));
        assert_eq!(table.asks(b, waits), None);
        let heard = table.cancels(c, taken);
        assert_eq!(heard, [(b, Reply::Cancelled), (c, Reply::Released)]);
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
    assert_eq!(table.cancels(a, ask()), [(a, Reply::Released)]);
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
fn a_wait_that_is_taken_over_is_looked_at_again() {
    let mut table = Table::with(|s| s.auto_release = true);
    let [a, b, c, d] = [0, 1, 2, 3].map(session);
    // y runs, by two waits at once, when x begins to wait for it.
    let [h, i] = [4, 5].map(session);
    for (from, key) in [(h, "p"), (h, "q"), (i, "r")] {
        table.takes(from, key);
    }
    table.is(a, "y");
    table.is(d, "y");
    table.takes(a, "k");
    token(table.asks(
        b,
        Ask {
            key: "m",
            attempt: "2",
            ..ask()
        },
    ));
    assert_eq!(table.waits(a, "m"), None);
    assert_eq!(table.waits(d, "p"), None);
    assert_eq!(table.asks(b, ask_and_wait()), None);
    // One of the two goes; the owner counts as two still, for as long as it has a session.
    table.ask(d, Command::Close);
    table.sends(c, ask_and_wait());
    assert_eq!(table.heard(), [(b, Reply::Superseded)]);
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
                    };
                    assert_eq!(table.answer(a, renew), Some(Reply::Renewed { lease }));
                }
                table.locks.check();
                let (holds, _) = table.views("k", limit);
                assert_eq!(holds[0].lease_left, 30 * SECOND);
                assert_eq!(holds[0].renews, Some(300 * SECOND));
            }
            table.lives(300 * SECOND - 1);
            assert_eq!(table.held(), 1);
            table.pass(1);
            assert_eq!(table.held(), 0);
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
    };
    assert_eq!(table.answer(a, renew), Some(Reply::Renewed { lease }));
    assert_eq!(table.views("k", 0).0[0].lease_left, lease);
    // Its steps are of that lease from now on.
    table.pass(SECOND);
    assert_eq!(table.views("k", 0).0[0].lease_left, lease);
    table.lives(299 * SECOND - 1);
    assert_eq!(table.held(), 1);
    table.pass(1);
    assert_eq!(table.held(), 0);
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
        let slots: Vec<Token> = (0..limit.max(1))
            .map(|_| table.takes_slot(a, "k", limit))
            .collect();
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
    table.lives(300 * SECOND - 1);
    assert_eq!(table.held(), 1);
    table.pass(1);
    assert_eq!(table.held(), 0);
    table.locks.check();
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
            assert_eq!(table.cancels(c, ask()), [(c, Reply::Done)]);
        } else {
            assert_eq!(table.asks(c, ask_and_wait()), None);
            assert_eq!(table.views("k", 0).1[0].session, Some(c));
        }
        assert_eq!(table.pass(0), []);
        assert!(table.noticed().contains(&(b, Notice::Closed)));
        table.locks.check();
    }
}
