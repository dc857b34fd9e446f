//! Long polls: a wait is bound to its connection, and a grant that nobody heard of is taken back.

use super::*;

#[test]
fn a_wait_that_is_over_says_so_and_leaves_the_queue() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.calls(), d.calls());
    d.is_given(a, "k", r#"{"clientId":"a"}"#);
    d.begins_to_wait(b, "k", r#"{"clientId":"b","waitTimeout":2.5}"#);
    assert_eq!(
        d.call(a, "GET", "/locks/k/status", "").field("waiters"),
        "1"
    );
    d.at(2_500);
    let answer = d.next_answer(b);
    assert_eq!(answer.status, 200);
    for (member, value) in [
        ("acquired", "false"),
        ("lockId", "null"),
        ("waitTime", "2.5"),
        ("reason", "timeout"),
    ] {
        assert_eq!(answer.field(member), value, "{member}");
    }
    assert_eq!(
        d.call(a, "GET", "/locks/k/status", "").field("waiters"),
        "0"
    );
}

#[test]
fn a_client_that_goes_leaves_the_queue_at_once() {
    for reset in [true, false] {
        let mut d = Dialogue::patient();
        let (a, b, c) = (d.calls(), d.calls(), d.calls());
        let granted = d.is_given(a, "k", r#"{"clientId":"a"}"#);
        d.begins_to_wait(b, "k", r#"{"clientId":"b","waitTimeout":10}"#);
        d.begins_to_wait(c, "k", r#"{"clientId":"c","waitTimeout":10}"#);
        match reset {
            true => d.reset(b),
            false => d.end(b),
        }
        let token = granted.field("renewalToken");
        d.post(
            a,
            "/locks/k/release",
            &format!(r#"{{"renewalToken":"{token}"}}"#),
            200,
        );
        assert_eq!(d.next_answer(c).field("clientId"), "c");
    }
}

#[test]
fn a_grant_whose_answer_never_left_goes_to_the_next() {
    for how in ["broken", "ended", "reset"] {
        let mut d = Dialogue::patient();
        let (a, b, c) = (d.calls(), d.calls(), d.calls());
        let granted = d.is_given(a, "k", r#"{"clientId":"a"}"#);
        d.begins_to_wait(b, "k", r#"{"clientId":"b","waitTimeout":10}"#);
        d.begins_to_wait(c, "k", r#"{"clientId":"c","waitTimeout":10}"#);
        match how {
            "broken" => d.0.clients[b].breaks = true,
            _ => d.0.clients[b].appetite = 0,
        }
        let token = granted.field("renewalToken");
        d.post(
            a,
            "/locks/k/release",
            &format!(r#"{{"renewalToken":"{token}"}}"#),
            200,
        );
        match how {
            "reset" => d.reset(b),
            "ended" => d.end(b),
            _ => {}
        }
        assert_eq!(d.next_answer(c).field("clientId"), "c", "{how}");
        assert!(d.0.clients[b].closed, "{how}");
    }
}

#[test]
fn an_acquire_that_comes_with_the_end_of_its_connection_is_not_executed() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.calls(), d.calls());
    d.0.send_only(a, request("POST", "/locks/k/acquire", "{}").as_bytes());
    d.0.end_only(a);
    d.0.settle();
    assert_eq!(d.0.clients[a].heard, b"");
    assert_eq!(
        d.call(b, "GET", "/locks/k/status", "").field("locked"),
        "false"
    );
}

#[test]
fn requests_in_one_packet_are_answered_in_order() {
    let mut d = Dialogue::patient();
    let a = d.calls();
    let acquire = request("POST", "/locks/k/acquire", r#"{"clientId":"a"}"#);
    let wait = request(
        "POST",
        "/locks/k/acquire",
        r#"{"clientId":"b","waitTimeout":1}"#,
    );
    let health = request("GET", "/health", "");
    d.send(a, [acquire, wait, health].concat());
    assert_eq!(d.next_answer(a).field("acquired"), "true");
    assert_eq!(
        d.0.clients[a].heard, b"",
        "the second waits, and the third behind it"
    );
    d.at(1_000);
    assert_eq!(d.next_answer(a).field("acquired"), "false");
    assert_eq!(d.next_answer(a).field("status"), "ok");
}

#[test]
fn a_drain_turns_waits_away_and_lets_clients_give_back() {
    let mut d = Dialogue::patient();
    let (a, b, line) = (d.calls(), d.calls(), d.connect());
    d.takes(line, "line");
    let granted = d.is_given(a, "k", r#"{"clientId":"a"}"#);
    d.begins_to_wait(b, "k", r#"{"clientId":"b","waitTimeout":100}"#);
    d.drain();
    let answer = d.next_answer(b);
    assert_eq!(
        (answer.status, answer.header("Retry-After")),
        (503, Some("1"))
    );
    assert_eq!(answer.field("code"), "draining");
    assert_eq!(d.call(a, "GET", "/ready", "").status, 503);
    assert_eq!(d.call(a, "GET", "/health", "").status, 200);
    d.post(a, "/locks/other/acquire", "{}", 503);
    let token = granted.field("renewalToken");
    d.post(
        a,
        "/locks/k/release",
        &format!(r#"{{"renewalToken":"{token}"}}"#),
        200,
    );
}
