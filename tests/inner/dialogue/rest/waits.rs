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
    let (a, b, c, e) = (d.calls(), d.calls(), d.calls(), d.calls());
    let held = d.is_given(b, "k", r#"{"clientId":"b"}"#);
    let acquire = request("POST", "/locks/free/acquire", "{}");
    let body = format!(r#"{{"renewalToken":"{}"}}"#, held.field("renewalToken"));
    let release = request("POST", "/locks/k/release", &body);
    d.0.send_last(a, [acquire, release].concat().as_bytes());
    d.0.settle();
    // Whatever else its client asks for is carried out, and a client that hears of it is not misled.
    assert_eq!(d.next_answer(a).field("reason"), "cancelled");
    assert_eq!(d.next_answer(a).field("released"), "true");
    assert!(d.0.clients[a].closed);
    assert_eq!(d.0.locks().counts().granted, 1);
    // A repeat leaves the place of its attempt as it is.
    d.is_given(b, "k", r#"{"clientId":"b"}"#);
    let wait = r#"{"clientId":"c","requestId":"0123456789abcdef","waitTimeout":9}"#;
    d.begins_to_wait(c, "k", wait);
    d.0.send_last(e, request("POST", "/locks/k/acquire", wait).as_bytes());
    d.0.settle();
    assert_eq!(d.0.clients[c].heard, b"");
    let status = d.call(b, "GET", "/locks/k/status", "");
    assert_eq!(status.field("waiters"), "1");
}

#[test]
fn a_hold_that_a_repeat_has_found_is_not_taken_back() {
    let body = r#"{"clientId":"c","requestId":"0123456789abcdef","timeout":60}"#;
    let acquire = request("POST", "/locks/k/acquire", body);
    let is_held = |d: &mut Dialogue, token: &str| {
        let other = d.calls();
        let renew = format!(r#"{{"renewalToken":"{token}"}}"#);
        d.post(other, "/locks/k/renew", &renew, 200);
    };
    // The answer to the repeat is lost.
    let mut d = Dialogue::patient();
    let (a, b) = (d.calls(), d.calls());
    let token = d.is_given(a, "k", body).field("renewalToken");
    d.0.clients[b].appetite = 0;
    d.send(b, &acquire);
    d.reset(b);
    is_held(&mut d, &token);
    // The answer to the first request is lost, after the repeat was answered.
    let mut d = Dialogue::patient();
    let (a, b) = (d.calls(), d.calls());
    d.0.clients[a].appetite = 0;
    d.send(a, &acquire);
    let token = d.is_given(b, "k", body).field("renewalToken");
    d.reset(a);
    is_held(&mut d, &token);
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

#[test]
fn a_connection_that_takes_its_grant_late_may_be_silent_for_75_seconds_and_no_longer() {
    let mut d = Dialogue::with(|settings| settings.write_timeout = 0);
    let a = d.calls();
    d.0.clients[a].appetite = 100;
    let body = r#"{"clientId":"a","timeout":300}"#;
    d.send(a, request("POST", "/locks/k/acquire", body));
    d.at(100_000);
    d.0.feed_client(a, usize::MAX);
    assert_eq!(d.next_answer(a).field("acquired"), "true");
    d.at(174_999);
    d.is_open(a);
    d.at(175_000);
    d.is_closed(a);
}
