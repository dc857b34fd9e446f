//! Repeats, kept places and cancels: what a client can do whose answer was lost.

use super::*;

const WAITS: &str = r#"{"clientId":"b","waitTimeout":10,"requestId":"0123456789abcdef"}"#;

#[test]
fn a_repeat_finds_the_hold_that_its_lost_answer_told_of() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.calls(), d.calls());
    let body = r#"{"clientId":"c","timeout":10,"requestId":"0123456789abcdef"}"#;
    let first = d.is_given(a, "k", body);
    d.at(4_000);
    let again = d.is_given(b, "k", body);
    for member in ["lockId", "renewalToken", "fencingToken"] {
        assert_eq!(again.field(member), first.field(member), "{member}");
    }
    assert_eq!(
        (again.field("waitTime"), again.field("ttl")),
        ("0".into(), "10".into())
    );
    assert_eq!(d.0.locks().counts().granted, 1);
    // It changes nothing but the lease, and does not say that it does.
    let renews = body.replace("\"timeout\":10", "\"timeout\":10,\"autoRenew\":true");
    let again = d.is_given(b, "k", &renews);
    assert!(!again.body.contains("autoRenewUntil"), "{}", again.body);
    // Another name is another attempt, and so is another client's.
    for other in [
        r#"{"clientId":"c","requestId":"0123456789abcdeF"}"#,
        r#"{"clientId":"d","requestId":"0123456789abcdef"}"#,
    ] {
        assert_eq!(
            d.post(b, "/locks/k/acquire", other, 200).field("acquired"),
            "false"
        );
    }
}

#[test]
fn a_repeat_takes_the_place_in_the_queue_over() {
    let mut d = Dialogue::patient();
    let (a, b, c, again) = (d.calls(), d.calls(), d.calls(), d.calls());
    let first = d.is_given(a, "k", r#"{"clientId":"a"}"#);
    d.begins_to_wait(b, "k", WAITS);
    d.begins_to_wait(c, "k", r#"{"clientId":"c","waitTimeout":10}"#);
    d.at(3_000);
    d.begins_to_wait(again, "k", WAITS);
    let superseded = d.next_answer(b);
    assert_eq!(superseded.field("reason"), "superseded");
    assert_eq!(superseded.field("waitTime"), "3");
    let token = first.field("renewalToken");
    d.post(
        a,
        "/locks/k/release",
        &format!(r#"{{"renewalToken":"{token}"}}"#),
        200,
    );
    assert_eq!(d.next_answer(again).field("clientId"), "b");
    assert_eq!(d.0.clients[c].heard, b"", "the repeat has kept its place");
}

#[test]
fn polls_with_a_kept_place_are_served_in_order() {
    let mut d = Dialogue::patient();
    let holder = d.calls();
    let first = d.is_given(holder, "k", r#"{"clientId":"h","timeout":100}"#);
    let polls: Vec<usize> = (0..3).map(|_| d.calls()).collect();
    let poll = |n: usize| {
        format!(
            r#"{{"clientId":"c{n}","waitTimeout":0.2,"keepPlace":5,"requestId":"attempt-of-client-{n}"}}"#
        )
    };
    for round in 0..10 {
        for (n, &client) in polls.iter().enumerate() {
            d.begins_to_wait(client, "k", &poll(n));
        }
        d.at((round + 1) * 200);
        for &client in &polls {
            let answer = d.next_answer(client);
            assert_eq!(answer.field("placeKept"), "5");
        }
    }
    // The first has gone for good: its turn comes, and passes with its place.
    let token = first.field("renewalToken");
    d.post(
        holder,
        "/locks/k/release",
        &format!(r#"{{"renewalToken":"{token}"}}"#),
        200,
    );
    for n in [2, 1] {
        let body = poll(n).replace("0.2", "10");
        d.begins_to_wait(polls[n], "k", &body);
    }
    d.at(6_999);
    assert_eq!(d.0.clients[polls[1]].heard, b"");
    d.at(7_000);
    assert_eq!(d.next_answer(polls[1]).field("acquired"), "true");
    assert_eq!(d.0.clients[polls[2]].heard, b"");
}

#[test]
fn the_time_that_was_waited_counts_from_the_request_and_not_from_its_turn() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.calls(), d.calls());
    d.is_given(a, "k", r#"{"clientId":"a"}"#);
    let wait = |wait: &str| request("POST", "/locks/k/acquire", wait);
    let waits = [r#"{"waitTimeout":1}"#, r#"{"waitTimeout":0.25}"#].map(wait);
    d.send(b, waits.concat());
    d.at(1_000);
    assert_eq!(d.next_answer(b).field("waitTime"), "1");
    d.at(1_250);
    assert_eq!(d.next_answer(b).field("waitTime"), "1.25");
}

#[test]
fn a_cancel_ends_the_attempt_before_during_and_after() {
    let cancel = r#"{"clientId":"b","requestId":"0123456789abcdef"}"#;
    // Before: it overtakes its acquire.
    let mut d = Dialogue::patient();
    let (a, b) = (d.calls(), d.calls());
    let answer = d.post(a, "/locks/k/release", cancel, 200);
    assert_eq!(
        (answer.field("released"), answer.field("lockId")),
        ("false".into(), "null".into())
    );
    let answer = d.post(b, "/locks/k/acquire", WAITS, 200);
    assert_eq!(answer.field("reason"), "cancelled");
    // During: its open request is told.
    let mut d = Dialogue::patient();
    let (a, b) = (d.calls(), d.calls());
    d.is_given(a, "k", r#"{"clientId":"a"}"#);
    d.begins_to_wait(b, "k", WAITS);
    assert_eq!(
        d.post(a, "/locks/k/release", cancel, 200).field("released"),
        "false"
    );
    assert_eq!(d.next_answer(b).field("reason"), "cancelled");
    // After: its hold is released, and the answer says which.
    let mut d = Dialogue::patient();
    let a = d.calls();
    let hold = d.is_given(a, "k", WAITS);
    let answer = d.post(a, "/locks/k/release", cancel, 200);
    assert_eq!(answer.field("released"), "true");
    assert_eq!(answer.field("lockId"), hold.field("lockId"));
    assert_eq!(
        d.post(a, "/locks/k/release", cancel, 200).field("released"),
        "false"
    );
    // A minute later nothing remembers it.
    d.at(60_001);
    d.is_given(a, "k", WAITS);
}

#[test]
fn a_token_decides_the_answer_and_the_attempt_ends_all_the_same() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.calls(), d.calls());
    d.is_given(a, "k", r#"{"clientId":"a"}"#);
    d.begins_to_wait(b, "k", WAITS);
    let token = "0".repeat(32);
    let both =
        format!(r#"{{"clientId":"b","requestId":"0123456789abcdef","renewalToken":"{token}"}}"#);
    assert_eq!(
        d.post(a, "/locks/k/release", &both, 409).field("code"),
        "not-held"
    );
    assert_eq!(d.next_answer(b).field("reason"), "cancelled");
}

#[test]
fn a_hold_that_renews_itself_ends_so_long_after_its_client_was_heard_of() {
    let mut d = Dialogue::patient();
    let a = d.calls();
    let body = r#"{"clientId":"c","timeout":60,"autoRenew":true}"#;
    let hold = d.is_given(a, "k", body);
    assert!(hold.body.contains("\"autoRenewUntil\":\""), "{}", hold.body);
    // Connections do not stay as long as that.
    let locked = |d: &mut Dialogue| {
        let client = d.calls();
        d.call(client, "GET", "/locks/k/status", "").field("locked")
    };
    d.at(299_999);
    assert_eq!(locked(&mut d), "true");
    d.at(300_000);
    assert_eq!(locked(&mut d), "false");
    // A renewal begins the time anew.
    let a = d.calls();
    let hold = d.is_given(a, "k", body);
    let token = hold.field("renewalToken");
    d.at(500_000);
    let a = d.calls();
    d.post(
        a,
        "/locks/k/renew",
        &format!(r#"{{"renewalToken":"{token}"}}"#),
        200,
    );
    d.at(799_999);
    assert_eq!(locked(&mut d), "true");
    d.at(800_000);
    assert_eq!(locked(&mut d), "false");
}
