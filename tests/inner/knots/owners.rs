//! Owners: connections that have declared the same name wait and hold as one.

use super::*;

#[test]
fn a_ring_goes_across_connections_of_the_same_owner() {
    let mut table = Table::new();
    for (owner, name) in ["x", "y", "z"].iter().enumerate() {
        // One connection to hold, one to wait, one that does nothing.
        for id in [owner, 3 + owner, 6 + owner].map(session) {
            table.is(id, name);
        }
        table.takes(session(owner), name);
    }
    assert_eq!(table.waits(session(3), "y"), None);
    assert_eq!(table.waits(session(4), "z"), None);
    assert_eq!(table.waits(session(5), "x"), Some(DEADLOCK));
    let knot = table.locks.take_knot().expect("it was refused");
    let owner = |name: &str| Owner::Name(name.into());
    let owners: Vec<Owner> = knot.into_iter().map(|tie| tie.owner).collect();
    assert_eq!(owners, ["z", "x", "y"].map(owner));
}

#[test]
fn who_has_declared_nothing_is_its_own_owner() {
    let mut table = Table::new();
    table.is(session(0), "x");
    table.takes(session(0), "a");
    table.takes(session(1), "b");
    assert_eq!(table.waits(session(0), "b"), None);
    // x runs on no other connection: this is another one, and holds nothing.
    assert_eq!(table.waits(session(2), "a"), None);
    assert_eq!(table.waits(session(1), "a"), Some(DEADLOCK));
}

#[test]
fn two_waits_at_once_make_an_owner_run_until_its_last_connection_is_gone() {
    let mut table = Table::with(|s| s.auto_release = false);
    let [x, x2, x3, y, z] = [0, 1, 2, 3, 4].map(session);
    for id in [x, x2, x3] {
        table.is(id, "x");
    }
    let a = table.takes(x, "a");
    for key in ["b", "c"] {
        table.takes(y, key);
    }
    table.takes(z, "d");
    assert_eq!(table.waits(x2, "b"), None);
    // The second wait is not refused, nor are those that follow.
    assert_eq!(table.answer(x3, acquire("c", 0, SECOND)), None);
    assert_eq!(table.waits(y, "a"), None);
    assert_eq!(table.pass(SECOND), [(x3, Reply::Timeout)]);
    // One waits still, the other is gone: what was seen is not forgotten.
    table.ask(x3, Command::Close);
    assert_eq!(table.noticed(), [(x3, Notice::Closed)]);
    assert_eq!(table.waits(z, "a"), None);
    assert_eq!(table.locks.counts().deadlocks, 0);
    for id in [x, x2] {
        table.ask(id, Command::Close);
        assert_eq!(table.noticed(), [(id, Notice::Closed)]);
    }
    // Its hold was left to it, and it is one actor again.
    let x4 = session(5);
    table.is(x4, "x");
    assert_eq!(table.waits(x4, "d"), Some(DEADLOCK));
    is_granted(&table.releases(x4, "a", a), y);
    table.locks.check();
}

#[test]
fn two_waits_of_one_owner_that_follow_each_other_are_no_two_at_once() {
    let mut table = Table::new();
    let [x, x2, y] = [0, 1, 2].map(session);
    for id in [x, x2] {
        table.is(id, "x");
    }
    table.takes(x, "a");
    table.takes(y, "b");
    assert_eq!(table.answer(x, acquire("b", 0, SECOND)), None);
    assert_eq!(table.pass(SECOND), [(x, Reply::Timeout)]);
    assert_eq!(table.waits(x2, "b"), None);
    assert_eq!(table.waits(y, "a"), Some(DEADLOCK));
}

#[test]
fn an_owner_with_a_connection_that_closed_while_it_waited_runs() {
    let mut table = Table::new();
    let [x, x2, y] = [0, 1, 2].map(session);
    for id in [x, x2] {
        table.is(id, "x");
    }
    table.takes(x, "a");
    table.takes(y, "b");
    assert_eq!(table.waits(x2, "b"), None);
    table.ask(x2, Command::Close);
    assert_eq!(table.noticed(), [(x2, Notice::Closed)]);
    assert_eq!(table.waits(y, "a"), None);
    // x comes back for the second try, and now it is the newest.
    table.is(x2, "x");
    assert_eq!(table.waits(x2, "b"), Some(DEADLOCK));
}

#[test]
fn a_promoted_record_ends_the_wait_on_another_connection_of_its_owner() {
    let mut table = Table::new();
    let [x, x2, b, c] = [0, 1, 2, 3].map(session);
    for id in [x, x2] {
        table.is(id, "x");
    }
    let k = table.takes(b, "k");
    table.takes(c, "m");
    assert_eq!(table.answer(x, enqueue("k", 0)), Some(Reply::Queued));
    assert_eq!(table.waits(x2, "m"), None);
    assert_eq!(table.waits(c, "k"), None);
    assert_eq!(table.releases(b, "k", k), [(x2, DEADLOCK)]);
    assert!(table.locks.holds(x) && !table.locks.has(x2));
    table.locks.check();
}

#[test]
fn a_hold_that_moves_is_still_its_owners() {
    for auto_release in [true, false] {
        let mut table = Table::with(|s| s.auto_release = auto_release);
        let [x, x2, y] = [0, 1, 2].map(session);
        for id in [x, x2] {
            table.is(id, "x");
        }
        let a = table.takes(x, "a");
        table.takes(y, "b");
        table.ask(x2, renew("a", a));
        // The former connection has nothing any more.
        let renewed = Reply::Renewed { lease: AGES };
        assert_eq!(table.heard(), [(x2, renewed)]);
        assert_eq!(table.noticed(), [(x, Notice::Freed)]);
        assert!(!table.locks.has(x) && table.locks.holds(x2));
        table.ask(x, Command::Close);
        assert_eq!(table.noticed(), [(x, Notice::Closed)]);
        assert_eq!(table.locks.counts().held, 2);
        assert_eq!(table.waits(x2, "b"), None);
        assert_eq!(table.waits(y, "a"), Some(DEADLOCK));
        table.locks.check();
        table.ask(x2, Command::Close);
        let held = if auto_release { 1 } else { 2 };
        assert_eq!(table.locks.counts().held, held);
        table.locks.check();
    }
}

#[test]
fn holds_that_are_left_to_an_owner_come_back_with_a_renewal() {
    let mut table = Table::with(|s| s.auto_release = false);
    let [x, x2, y] = [0, 1, 2].map(session);
    table.is(x, "x");
    let a = table.takes(x, "a");
    table.takes(y, "b");
    table.ask(x, Command::Close);
    assert_eq!(table.noticed(), [(x, Notice::Closed)]);
    // Nobody speaks for x: the lease will end this.
    assert_eq!(table.waits(y, "a"), None);
    table.is(x2, "x");
    table.ask(x2, renew("a", a));
    assert_eq!(table.heard(), [(x2, Reply::Renewed { lease: AGES })]);
    assert!(table.locks.holds(x2));
    assert_eq!(table.waits(x2, "b"), Some(DEADLOCK));
    is_granted(&table.releases(x2, "a", a), y);
    table.locks.check();
}

#[test]
fn a_large_session_that_closes_leaves_its_owner_what_it_leaves() {
    for auto_release in [true, false] {
        let mut table = Table::with(|s| s.auto_release = auto_release);
        let [x, x2, y] = [0, 1, 2].map(session);
        for id in [x, x2] {
            table.is(id, "x");
        }
        for n in 0..600 {
            table.takes(x, &format!("key {n}"));
        }
        table.takes(x, "last");
        table.takes(x2, "x2");
        table.takes(y, "y");
        assert_eq!(table.waits(x2, "y"), None);
        table.ask(x, Command::Close);
        assert_eq!(table.noticed(), [], "it is not done");
        // With auto-release the key comes free in a moment; without it stays with x, who waits.
        let refused = (!auto_release).then_some(DEADLOCK);
        assert_eq!(table.waits(y, "last"), refused);
        let heard = table.pass(0);
        assert_eq!(heard.len(), usize::from(auto_release));
        assert_eq!(table.noticed(), [(x, Notice::Closed)]);
        table.locks.check();
    }
}

#[test]
fn a_large_session_that_closes_takes_what_nobody_knows_of_with_it() {
    let mut table = Table::with(|s| s.auto_release = false);
    let [x, x2, y, z] = [0, 1, 2, 3].map(session);
    for id in [x, x2] {
        table.is(id, "x");
    }
    for n in 0..600 {
        table.takes(x, &format!("key {n}"));
    }
    let last = table.takes(z, "last");
    assert_eq!(table.answer(x, enqueue("last", 0)), Some(Reply::Queued));
    assert_eq!(table.releases(z, "last", last), []);
    table.takes(y, "y");
    assert_eq!(table.waits(x2, "y"), None);
    table.ask(x, Command::Close);
    // x was never told that it has the key: it comes free.
    assert_eq!(table.waits(y, "last"), None);
    let heard = table.pass(0);
    is_granted(&heard[..1], y);
    table.locks.check();
}

#[test]
fn a_renewal_that_keeps_a_hold_from_ending_with_its_session_can_close_a_knot() {
    let mut table = Table::new();
    let [x, x2, x3, y] = [0, 1, 2, 3].map(session);
    for id in [x, x2, x3] {
        table.is(id, "x");
    }
    for n in 0..600 {
        table.takes(x, &format!("key {n}"));
    }
    let last = table.takes(x, "last");
    table.takes(y, "y");
    assert_eq!(table.waits(x2, "y"), None);
    table.ask(x, Command::Close);
    assert_eq!(table.waits(y, "last"), None);
    table.ask(x3, renew("last", last));
    let renewed = Reply::Renewed { lease: AGES };
    assert_eq!(table.heard(), [(x2, DEADLOCK), (x3, renewed)]);
    assert_eq!(table.pass(0), []);
    assert_eq!(table.noticed(), [(x, Notice::Closed)]);
    is_granted(&table.releases(x3, "last", last), y);
    table.locks.check();
}

#[test]
fn an_owner_is_declared_only_by_who_has_nothing() {
    let mut table = Table::new();
    let [x, y] = [0, 1].map(session);
    let declare = Command::Declare { owner: b"x" };
    let error = Some(Reply::Refused(Refusal::Error));
    let a = table.takes(x, "a");
    assert_eq!(table.answer(x, declare), error);
    assert_eq!(table.answer(y, enqueue("a", 0)), Some(Reply::Queued));
    assert_eq!(table.answer(y, declare), error);
    assert_eq!(table.answer(y, wait("a", 0)), Some(Reply::Timeout));
    assert_eq!(table.releases(x, "a", a), []);
    for id in [x, y, x] {
        assert_eq!(table.answer(id, declare), Some(Reply::Done));
    }
    // Another name instead; nobody is left of the first in the end.
    table.is(x, "z");
    table.is(y, "z");
    for id in [x, y] {
        table.ask(id, Command::Close);
    }
    table.locks.check();
}
