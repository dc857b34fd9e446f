//! Acquire, renew, release, status: one lock, and who may end its hold.

use super::*;

#[test]
fn a_free_lock_is_granted_at_once_and_its_status_says_so() {
    let mut d = Dialogue::patient();
    let a = d.calls();
    let body = r#"{"clientId":"c-1","timeout":30,"metadata":{"job":7}}"#;
    let granted = d.is_given(a, "user:123", body);
    let fence = granted.field("fencingToken");
    assert_eq!(granted.field("lockId"), format!("lock-{fence}"));
    assert_eq!(granted.field("renewalToken")[..16], fence);
    for (member, value) in [
        ("lockName", "user:123"),
        ("clientId", "c-1"),
        ("waitTime", "0"),
        ("ttl", "30"),
    ] {
        assert_eq!(granted.field(member), value, "{member}");
    }
    d.at(2_500);
    let status = d.call(a, "GET", "/locks/user:123/status", "");
    for (member, value) in [
        ("locked", "true"),
        ("clientId", "c-1"),
        ("waiters", "0"),
        ("lockId", &granted.field("lockId")),
    ] {
        assert_eq!(status.field(member), value, "{member}");
    }
    let json = status.json();
    let [holder] = json.field("holders").list() else {
        panic!("one holds it: {}", status.body);
    };
    assert_eq!(holder.field("ttl").number(), 27.5);
    assert_eq!(holder.field("metadata").field("job").number(), 7.0);
    assert!(!status.body.contains(&granted.field("renewalToken")[16..]));
}

#[test]
fn both_faces_have_one_table_and_one_queue() {
    let mut d = Dialogue::patient();
    let (a, line) = (d.calls(), d.connect());
    let token = d.takes(line, "k");
    d.begins_to_wait(a, "k", r#"{"clientId":"c","waitTimeout":10}"#);
    d.at(1_250);
    d.says(line, release("k", &token), "ok\n");
    let granted = d.next_answer(a);
    assert_eq!(granted.field("acquired"), "true");
    assert_eq!(granted.field("waitTime"), "1.25");
    d.says(line, "l\nk\n0\n", "timeout\n");
    // The token is the same on both faces.
    let token = granted.field("renewalToken");
    d.says(line, release("k", &token), "ok\n");
    assert_eq!(
        d.call(a, "GET", "/locks/k/status", "").field("locked"),
        "false"
    );
}

#[test]
fn a_hold_outlives_its_connection_and_ends_with_its_lease() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.calls(), d.calls());
    d.is_given(a, "k", r#"{"clientId":"a","timeout":2}"#);
    d.reset(a);
    let not = d.post(b, "/locks/k/acquire", r#"{"clientId":"b"}"#, 200);
    assert_eq!(not.field("acquired"), "false");
    assert_eq!(not.field("reason"), "timeout");
    d.begins_to_wait(b, "k", r#"{"clientId":"b","waitTimeout":10}"#);
    d.at(1_999);
    assert_eq!(d.0.clients[b].heard, b"");
    d.at(2_000);
    assert_eq!(d.next_answer(b).field("acquired"), "true");
}

#[test]
fn a_release_names_the_hold_by_its_token_or_by_its_id_and_client() {
    let mut d = Dialogue::patient();
    let a = d.calls();
    for by_token in [true, false] {
        let granted = d.is_given(a, "k", r#"{"clientId":"c"}"#);
        let id = granted.field("lockId");
        let token = granted.field("renewalToken");
        let wrong = format!(r#"{{"clientId":"other","lockId":"{id}"}}"#);
        let problem = d.post(a, "/locks/k/release", &wrong, 403);
        assert_eq!(problem.field("code"), "not-owner");
        d.post(a, "/locks/k/release", r#"{"clientId":"c"}"#, 422);
        let right = match by_token {
            true => format!(r#"{{"renewalToken":"{token}"}}"#),
            false => format!(r#"{{"clientId":"c","lockId":"{id}"}}"#),
        };
        let released = d.post(a, "/locks/k/release", &right, 200);
        assert_eq!(released.field("released"), "true");
        assert_eq!(released.field("clientId"), "c");
        let problem = d.post(a, "/locks/k/release", &right, 409);
        assert_eq!(problem.field("code"), "not-held");
        assert_eq!(
            problem.header("Content-Type"),
            Some("application/problem+json")
        );
    }
    // Everybody sees a lockId, so it proves nothing by itself, and a hold of a connection is proved by its token alone.
    let line = d.connect();
    d.says(line, frame("id", "_", "liner"), "ok\n");
    let token = d.takes(line, "k");
    let id = format!("lock-{}", &token[..16]);
    d.post(
        a,
        "/locks/k/release",
        &format!(r#"{{"lockId":"{id}"}}"#),
        422,
    );
    let named = format!(r#"{{"lockId":"{id}","clientId":"liner"}}"#);
    assert_eq!(
        d.post(a, "/locks/k/release", &named, 403).field("code"),
        "not-owner"
    );
    d.post(
        a,
        "/locks/k/release",
        &format!(r#"{{"renewalToken":"{token}"}}"#),
        200,
    );
    // A lockId of another server is one that is not held.
    let seed = r#"{"clientId":"client-1","lockId":"lock-789"}"#;
    d.post(a, "/locks/k/release", seed, 409);
}

#[test]
fn a_renewal_keeps_the_token_and_moves_the_end() {
    let mut d = Dialogue::patient();
    let a = d.calls();
    let granted = d.is_given(a, "k", r#"{"clientId":"c","timeout":10}"#);
    let token = granted.field("renewalToken");
    d.at(9_000);
    let body = format!(r#"{{"renewalToken":"{token}"}}"#);
    let renewed = d.post(a, "/locks/k/renew", &body, 200);
    assert_eq!(renewed.field("renewalToken"), token);
    assert_eq!(renewed.field("clientId"), "c");
    assert_eq!(renewed.field("ttl"), "10");
    let body = format!(r#"{{"renewalToken":"{token}","timeout":1.5}}"#);
    assert_eq!(d.post(a, "/locks/k/renew", &body, 200).field("ttl"), "1.5");
    d.at(10_499);
    d.post(a, "/locks/k/renew", &body, 200);
    d.at(12_000);
    d.post(a, "/locks/k/renew", &body, 409);
    d.post(a, "/locks/k/renew", "{}", 422);
}

#[test]
fn a_renewal_that_names_no_lease_has_that_of_the_grant() {
    for renews in ["false", "true"] {
        let mut d = Dialogue::patient();
        let a = d.calls();
        let body = format!(r#"{{"clientId":"c","timeout":30,"autoRenew":{renews}}}"#);
        let token = d.is_given(a, "k", &body).field("renewalToken");
        for (more, ttl) in [(r#","timeout":60"#, "60"), ("", "30")] {
            let body = format!(r#"{{"renewalToken":"{token}"{more}}}"#);
            let renewed = d.post(a, "/locks/k/renew", &body, 200);
            assert_eq!(renewed.field("ttl"), ttl, "{renews}");
        }
    }
}

#[test]
fn a_renewal_of_anothers_hold_has_not_failed_for_want_of_the_hold() {
    let mut d = Dialogue::patient();
    let a = d.calls();
    let token = d
        .is_given(a, "k", r#"{"clientId":"c"}"#)
        .field("renewalToken");
    let body = format!(r#"{{"renewalToken":"{token}","clientId":"d"}}"#);
    d.post(a, "/locks/k/renew", &body, 403);
    d.post(a, "/locks/other/renew", &body, 409);
    assert_eq!(
        d.call(a, "GET", "/locks/stats", "")
            .field("renewalFailures"),
        "1"
    );
}

#[test]
fn a_renewal_that_was_in_the_socket_comes_before_the_end_of_its_lease() {
    let mut d = Dialogue::patient();
    let a = d.calls();
    let granted = d.is_given(a, "k", r#"{"clientId":"c","timeout":2}"#);
    let body = format!(r#"{{"renewalToken":"{}"}}"#, granted.field("renewalToken"));
    // The server stood still while the renewal came.
    d.0.now += 5 * SECOND;
    d.post(a, "/locks/k/renew", &body, 200);
    d.at(6_999);
    d.post(a, "/locks/k/renew", &body, 200);
}

#[test]
fn a_break_of_one_hold_names_it_and_spares_the_others() {
    let mut d = Dialogue::patient();
    let a = d.calls();
    let body = |n: u32| format!(r#"{{"clientId":"c{n}","limit":20}}"#);
    let holds: Vec<String> = (0..20)
        .map(|n| d.is_given(a, "k", &body(n)).field("lockId"))
        .collect();
    let path = |id: &str| format!("/locks/k?space=semaphore&lockId={id}");
    let broken = d.call(a, "DELETE", &path(&holds[7]), "");
    assert_eq!(broken.field("count"), "1");
    let json = broken.json();
    assert_eq!(json.field("locks").list()[0].field("clientId").text(), "c7");
    assert_eq!(d.call(a, "DELETE", &path(&holds[7]), "").status, 404);
    let status = d.call(a, "GET", "/locks/k/status?space=semaphore", "");
    assert_eq!(status.field("held"), "19");
}

#[test]
fn an_administrator_ends_the_holds_and_the_queue_is_served() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.calls(), d.calls());
    let granted = d.is_given(a, "k", r#"{"clientId":"a"}"#);
    d.begins_to_wait(b, "k", r#"{"clientId":"b","waitTimeout":10}"#);
    let broken = d.call(a, "DELETE", "/locks/k", "");
    assert_eq!(broken.status, 200, "{}", broken.body);
    let json = broken.json();
    assert_eq!(json.field("locks").list()[0].field("clientId").text(), "a");
    assert_eq!(d.next_answer(b).field("acquired"), "true");
    let token = granted.field("renewalToken");
    d.post(
        a,
        "/locks/k/renew",
        &format!(r#"{{"renewalToken":"{token}"}}"#),
        409,
    );
    assert_eq!(d.call(a, "DELETE", "/locks/none", "").status, 404);
}

#[test]
fn whatever_is_wrong_with_an_acquire_its_answer_says_that_nothing_was_granted() {
    let mut d = Dialogue::with(|s| s.secret = Some(b"secret".to_vec()));
    let known = "Authorization: Bearer secret\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (name, headers, body, code, client) in [
        ("k", "", r#"{"clientId":"c"}"#, "unauthorized", "c"),
        ("k", known, r#"{"timeout":1000}"#, "invalid-field", "null"),
        ("k", known, "{", "invalid-json", "null"),
        ("a%20b", known, "{}", "invalid-lock-name", "null"),
        (
            "k",
            &format!("{known}Content-Type: text/plain\r\n"),
            "{}",
            "unsupported-media-type",
            "null",
        ),
        (
            "k",
            &format!("{known}Expect: rain\r\n"),
            "{}",
            "expectation-failed",
            "null",
        ),
        (
            "k",
            &format!("{known}{chunked}"),
            "g\r\n",
            "bad-request",
            "null",
        ),
        (
            "k",
            &format!("{known}{chunked}"),
            "20000\r\n",
            "body-too-large",
            "null",
        ),
        (
            "k",
            &format!("{known}Origin: http://evil.example\r\n"),
            r#"{"clientId":"c"}"#,
            "origin-not-allowed",
            "c",
        ),
    ] {
        let answer = d.acquires_with(name, headers, body);
        assert_eq!(answer.field("code"), code, "{}", answer.body);
        assert_eq!(answer.field("acquired"), "false", "{code}");
        let shown = if name == "k" { "k" } else { "null" };
        assert_eq!(answer.field("lockName"), shown, "{code}");
        assert_eq!(answer.field("clientId"), client, "{code}");
        assert_eq!(answer.field("waitTime"), "0", "{code}");
    }
}

#[test]
fn what_is_no_acquire_is_not_told_that_nothing_was_granted() {
    let mut d = Dialogue::patient();
    let a = d.calls();
    for (method, path) in [("GET", "/locks/k/acquire"), ("POST", "/locks/k/renew")] {
        let answer = d.call(a, method, path, "");
        assert!(answer.status >= 400);
        assert_eq!(answer.json().get("acquired"), None);
    }
}

impl Dialogue {
    /// The answer to an acquire on a connection of its own, with these headers.
    fn acquires_with(&mut self, name: &str, headers: &str, body: &str) -> Answer {
        let a = self.calls();
        let length = match headers.contains("chunked") {
            true => String::new(),
            false => format!("Content-Length: {}\r\n", body.len()),
        };
        let head = format!("POST /locks/{name}/acquire HTTP/1.1\r\nHost: localhost\r\n");
        self.send(a, format!("{head}{headers}{length}\r\n{body}"));
        self.next_answer(a)
    }
}

#[test]
fn a_problem_says_what_to_do_about_it() {
    let mut d = Dialogue::patient();
    let (a, line) = (d.calls(), d.connect());
    let own = d.is_given(a, "k", r#"{"clientId":"c"}"#).field("lockId");
    d.takes(line, "other");
    let other = d.call(a, "GET", "/locks/other/status", "").field("lockId");
    let hold = |client: &str, id: &str| format!(r#"{{"clientId":"{client}","lockId":"{id}"}}"#);
    for (path, body, status, wanted) in [
        (
            "/locks/a/b/acquire",
            "",
            404,
            "write a slash in a name as %2F",
        ),
        (
            "/locks/k/acquire",
            "clientId=ann",
            400,
            r#"send a JSON object, such as {"clientId":"ann"}: "#,
        ),
        (
            "/locks/k/release",
            &hold("d", &own),
            403,
            "send the clientId of its acquire",
        ),
        (
            "/locks/other/release",
            &hold("conn-2", &other),
            403,
            "send the clientId of its acquire",
        ),
        (
            "/locks/k/release",
            &hold("c", "789"),
            409,
            "send it as it was answered",
        ),
        (
            "/locks/k/renew",
            r#"{"renewalToken":"x"}"#,
            409,
            "send it as it was answered",
        ),
        (
            "/locks/k/release",
            &hold("c", &other),
            409,
            "its lease may be over",
        ),
    ] {
        let answer = d.post(a, path, body, status);
        assert!(answer.field("detail").contains(wanted), "{}", answer.body);
    }
}
