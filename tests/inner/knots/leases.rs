//! Holds that are bound by their lease alone: an owner has them, and no session does. The session that asks only waits.

use super::*;

/// An acquire for an owner, whose hold no session will have.
fn acquire_for<'a>(owner: Option<&'a str>, key: &'a str, wait: Us, lease: Us) -> Command<'a> {
    Command::Acquire {
        space: Space::Lock,
        key: key.as_bytes(),
        limit: 1,
        wait,
        lease: Some(lease),
        owner: owner.map(str::as_bytes),
        bound: Bound::Lease,
        terms: None,
    }
}

pub(super) fn token(reply: Option<Reply>) -> Token {
    match reply {
        Some(Reply::Granted { token, .. }) => token,
        other => panic!("{other:?} is no grant"),
    }
}

#[test]
fn a_hold_bound_by_its_lease_outlives_its_session_and_ends_with_the_lease() {
    for owner in [Some("x"), None] {
        let mut table = Table::new();
        let [a, b] = [0, 1].map(session);
        token(table.answer(a, acquire_for(owner, "k", 0, 10 * SECOND)));
        assert!(!table.locks.has(a), "it is not the session's");
        table.ask(a, Command::Close);
        assert_eq!(table.noticed(), [(a, Notice::Closed)]);
        assert_eq!(table.waits(b, "k"), None);
        assert_eq!(table.pass(10 * SECOND - 1), []);
        assert!(matches!(table.pass(1)[..], [(to, Reply::Granted { .. })] if to == b));
        table.locks.check();
    }
}

#[test]
fn one_that_was_waited_for_is_granted_to_its_owner_in_its_turn() {
    for owner in [Some("x"), None] {
        let mut table = Table::new();
        let [a, b, c] = [0, 1, 2].map(session);
        let first = table.takes(a, "k");
        assert_eq!(table.answer(b, acquire_for(owner, "k", AGES, AGES)), None);
        assert_eq!(table.waits(c, "k"), None);
        assert!(table.locks.has(b), "it stands in the queue");
        table.ask(a, release("k", 0, first));
        let heard = table.heard();
        let mine = token(heard.iter().find(|(to, _)| *to == b).map(|heard| heard.1));
        assert!(!table.locks.has(b), "it is not the session's");
        // Its session may go: the next in line waits for the release all the same.
        table.ask(b, Command::Close);
        assert_eq!(table.heard(), []);
        table.ask(a, release("k", 0, mine));
        assert!(matches!(table.heard()[..], [(to, Reply::Granted { .. }), _] if to == c));
        table.locks.check();
    }
}

#[test]
fn a_session_that_waits_for_one_and_goes_leaves_the_queue() {
    let mut table = Table::new();
    let [a, b, c] = [0, 1, 2].map(session);
    let first = table.takes(a, "k");
    assert_eq!(
        table.answer(b, acquire_for(Some("x"), "k", AGES, AGES)),
        None
    );
    assert_eq!(table.waits(c, "k"), None);
    table.ask(b, Command::Close);
    table.ask(a, release("k", 0, first));
    assert!(matches!(table.heard()[..], [(to, Reply::Granted { .. }), _] if to == c));
    table.locks.check();
}

#[test]
fn its_owner_is_a_node_of_the_graph_of_waits() {
    let mut table = Table::new();
    let [a, b, c] = [0, 1, 2].map(session);
    token(table.answer(a, acquire_for(Some("x"), "kx", 0, AGES)));
    token(table.answer(b, acquire_for(Some("y"), "ky", 0, AGES)));
    assert_eq!(
        table.answer(a, acquire_for(Some("x"), "ky", AGES, AGES)),
        None
    );
    let refused = Some(Reply::Refused(Refusal::Deadlock));
    assert_eq!(
        table.answer(b, acquire_for(Some("y"), "kx", AGES, AGES)),
        refused
    );
    // Another owner may wait on the connection that was refused, and so may nobody.
    for owner in [Some("z"), None] {
        assert_eq!(
            table.answer(b, acquire_for(owner, "kx", 0, AGES)),
            Some(Reply::Timeout)
        );
    }
    assert_eq!(
        table.answer(b, acquire_for(Some("z"), "kx", AGES, AGES)),
        None
    );
    // A session that has declared the name is the same owner.
    table.is(c, "y");
    assert_eq!(table.waits(c, "kx"), refused);
    table.locks.check();
}

#[test]
fn what_a_session_may_hold_is_not_asked_of_it() {
    let mut table = Table::with(|s| s.max_holds = 1);
    let a = session(0);
    for key in ["k1", "k2", "k3"] {
        token(table.answer(a, acquire_for(Some("x"), key, 0, AGES)));
    }
    table.locks.check();
}

#[test]
fn a_detached_hold_is_its_owners_still_and_without_one_nobodys() {
    for named in [true, false] {
        let mut table = Table::new();
        let [a, b] = [0, 1].map(session);
        if named {
            table.is(a, "x");
        }
        let token = table.takes(a, "ka");
        table.takes(b, "kb");
        let detach = Command::Detach {
            space: Space::Lock,
            key: b"ka",
            token,
        };
        assert_eq!(table.answer(a, detach), Some(Reply::Done));
        assert!(!table.locks.has(a), "it is not the session's");
        assert_eq!(table.waits(b, "ka"), None);
        // With a name the owner holds what b waits for. Without one the lease will end it, whoever waits.
        let refused = named.then_some(Reply::Refused(Refusal::Deadlock));
        assert_eq!(table.waits(a, "kb"), refused);
        table.ask(a, Command::Close);
        assert_eq!(table.locks.counts().held, 2);
        table.locks.check();
    }
}

#[test]
fn a_break_frees_who_waits_for_a_ring_to_be() {
    let mut table = Table::new();
    let [a, b, c] = [0, 1, 2].map(session);
    table.takes(a, "ka");
    table.takes(b, "kb");
    assert_eq!(table.waits(b, "ka"), None);
    let breaks = Command::Break {
        space: Space::Lock,
        key: b"ka",
        fence: None,
    };
    table.ask(c, breaks);
    let broken = Reply::Broken { holds: 1 };
    let heard = table.heard();
    assert!(
        matches!(heard[..], [(to, Reply::Granted { .. }), last] if to == b && last == (c, broken))
    );
    // a holds nothing any more, so it may wait for b, who runs.
    assert_eq!(table.waits(a, "kb"), None);
    assert_eq!(table.locks.counts().broken, 1);
    table.locks.check();
}

#[test]
fn a_renewal_gives_it_to_no_session_of_its_owner() {
    let mut table = Table::new();
    let [a, b, c] = [0, 1, 2].map(session);
    let first = table.takes(a, "k");
    assert_eq!(
        table.answer(b, acquire_for(Some("x"), "k", AGES, AGES)),
        None
    );
    table.ask(a, release("k", 0, first));
    let heard = table.heard();
    let mine = token(heard.iter().find(|(to, _)| *to == b).map(|heard| heard.1));
    table.is(c, "x");
    for by in [b, c] {
        let renewed = Some(Reply::Renewed { lease: AGES });
        assert_eq!(table.answer(by, renew("k", mine)), renewed);
        assert!(!table.locks.has(by), "it is bound by its lease");
    }
    // The session that waited for it may wait for another.
    table.takes(a, "k2");
    assert_eq!(
        table.answer(b, acquire_for(Some("x"), "k2", AGES, AGES)),
        None
    );
    table.ask(b, Command::Close);
    table.ask(c, Command::Close);
    assert_eq!(table.waits(a, "k"), None);
    table.locks.check();
}
