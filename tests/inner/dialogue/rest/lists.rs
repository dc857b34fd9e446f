//! Status and list, and deadlocks that go across both faces.

use super::*;

#[test]
fn a_list_is_paged_and_each_lock_is_on_one_page() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_locks = 10_000);
    let a = d.calls();
    for n in 0..2_500 {
        d.is_given(a, &format!("k{n}"), r#"{"clientId":"c"}"#);
    }
    let mut names = Vec::new();
    let mut path = "/locks?limit=1000".to_string();
    for _ in 0..100 {
        let page = d.call(a, "GET", &path, "").json();
        assert_eq!(page.field("total").number(), 2_500.0);
        let locks = page.field("locks").list();
        assert_eq!(page.field("count").number(), locks.len() as f64);
        names.extend(
            locks
                .iter()
                .map(|lock| lock.field("lockName").text().to_string()),
        );
        match page.field("next") {
            Json::Null => break,
            next => path = format!("/locks?limit=1000&after={}", next.text()),
        }
    }
    assert_eq!(names.len(), 2_500);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 2_500);
    let page = d.call(a, "GET", "/locks?prefix=k249", "").json();
    assert_eq!(
        page.field("count").number(),
        11.0,
        "k249, and k2490 to k2499"
    );
    assert_eq!(d.call(a, "GET", "/locks?limit=0", "").status, 422);
}

/// A semaphore with so many holders, each with metadata of 4 KiB.
fn crowd(d: &mut Dialogue, name: &str, holders: usize) {
    let a = d.calls();
    let metadata = format!(r#"{{"text":"{}"}}"#, "x".repeat(4_085));
    let body = format!(r#"{{"limit":1000,"metadata":{metadata}}}"#);
    for _ in 0..holders {
        d.is_given(a, name, &body);
    }
}

#[test]
fn holders_and_a_queue_end_early_if_they_are_long_and_their_counts_are_true() {
    let mut d = Dialogue::patient();
    crowd(&mut d, "big", 100);
    crowd(&mut d, "large", 100);
    // Each byte of such a name is two in JSON.
    let name = "\\\"".repeat(128);
    let body = format!(r#"{{"clientId":"{name}","waitTimeout":10}}"#);
    let a = d.calls();
    d.is_given(a, "k", "");
    for _ in 0..1_000 {
        let client = d.0.connect_to(Face::Http);
        let ask = request("POST", "/locks/k/acquire", &body);
        d.0.send_only(client, ask.as_bytes());
    }
    let status = d.call(a, "GET", "/locks/big/status?space=semaphore", "");
    let long = 256 * 1024..262 * 1024;
    assert!(long.contains(&status.body.len()), "{}", status.body.len());
    let status = status.json();
    assert_eq!(status.field("held").number(), 100.0);
    assert_eq!(status.field("holders").list().len(), 61);
    let status = d.call(a, "GET", "/locks/k/status", "");
    assert!(long.contains(&status.body.len()), "{}", status.body.len());
    let status = status.json();
    assert_eq!(status.field("waiters").number(), 1_000.0);
    assert!((700..1_000).contains(&status.field("queue").list().len()));
    let page = d.call(a, "GET", "/locks", "").json();
    assert_eq!(page.field("count").number(), 3.0);
    for lock in &page.field("locks").list()[..2] {
        assert_eq!(lock.field("held").number(), 100.0);
        assert_eq!(lock.field("holders").list().len(), 16);
    }
}

#[test]
fn a_turn_gives_only_as_many_long_answers_as_it_has_work_for() {
    let mut d = Dialogue::patient();
    crowd(&mut d, "big", 100);
    let clients: Vec<usize> = (0..20).map(|_| d.calls()).collect();
    for &client in &clients {
        let ask = request("GET", "/locks/big/status?space=semaphore", "");
        d.0.send_only(client, ask.as_bytes());
    }
    let mut answered = 0;
    while answered < clients.len() {
        d.0.turn();
        let heard = |&&client: &&usize| !d.0.clients[client].heard.is_empty();
        let now = clients.iter().filter(heard).count();
        assert!(now <= answered + 1, "{} in a turn", now - answered);
        answered = now;
    }
}

#[test]
fn the_description_is_given_to_a_few_clients_a_turn() {
    let mut d = Dialogue::patient();
    let clients: Vec<usize> = (0..20).map(|_| d.calls()).collect();
    for &client in &clients {
        let ask = request("GET", "/openapi.json", "");
        d.0.send_only(client, ask.as_bytes());
    }
    d.0.turn();
    let heard = |&&client: &&usize| !d.0.clients[client].heard.is_empty();
    let now = clients.iter().filter(heard).count();
    assert!((1..=6).contains(&now), "{now} in a turn");
    d.0.settle();
    for client in clients {
        assert_eq!(d.next_answer(client).status, 200);
    }
}

#[test]
fn a_status_shows_who_waits_behind_whom_on_either_face() {
    let mut d = Dialogue::patient();
    let (a, b, line) = (d.calls(), d.calls(), d.connect());
    let token = d.takes(line, "k");
    d.begins_to_wait(b, "k", r#"{"clientId":"b","waitTimeout":10}"#);
    d.at(1_500);
    let status = d.call(a, "GET", "/locks/k/status", "").json();
    let holder = &status.field("holders").list()[0];
    assert_eq!(holder.field("clientId").text(), "conn-3");
    assert_eq!(holder.field("peer").text(), "127.0.0.1:40002");
    let queue = status.field("queue").list();
    assert_eq!(queue[0].field("clientId").text(), "b");
    assert_eq!(queue[0].field("peer").text(), "127.0.0.1:40001");
    assert_eq!(queue[0].field("waited").number(), 1.5);
    let bare = d.call(a, "GET", "/locks/k/status?queue=false", "").json();
    assert_eq!(bare.get("queue"), None);
    d.says(line, release("k", &token), "ok\n");
}

#[test]
fn a_semaphore_is_another_lock_than_its_namesake() {
    let mut d = Dialogue::patient();
    let a = d.calls();
    for client in ["a", "b"] {
        d.is_given(a, "k", &format!(r#"{{"clientId":"{client}","limit":2}}"#));
    }
    let full = d.post(a, "/locks/k/acquire", r#"{"clientId":"c","limit":2}"#, 200);
    assert_eq!(full.field("acquired"), "false");
    let other = d.post(a, "/locks/k/acquire", r#"{"clientId":"c","limit":3}"#, 409);
    assert_eq!(other.field("code"), "limit-mismatch");
    assert!(other.field("detail").starts_with("send the limit 2,"));
    d.is_given(a, "k", r#"{"clientId":"c"}"#);
    let status = d
        .call(a, "GET", "/locks/k/status?space=semaphore", "")
        .json();
    assert_eq!(status.field("holders").list().len(), 2);
    assert_eq!(
        d.call(a, "GET", "/locks/k/status", "").field("clientId"),
        "c"
    );
    let page = d.call(a, "GET", "/locks?space=semaphore", "").json();
    assert_eq!(
        page.field("locks").list()[0].field("space").text(),
        "semaphore"
    );
    let release = r#"{"clientId":"c","lockId":"LOCK"}"#;
    let lock = d.call(a, "GET", "/locks/k/status", "").field("lockId");
    d.post(a, "/locks/k/release", &release.replace("LOCK", &lock), 200);
    let missed = d.call(a, "DELETE", "/locks/k", "");
    assert_eq!(
        (missed.status, &missed.field("code")[..]),
        (404, "not-held")
    );
    assert!(missed.field("detail").contains("?space=semaphore"));
    let broken = d.call(a, "DELETE", "/locks/k?space=semaphore", "").json();
    assert_eq!(broken.field("locks").list().len(), 2);
    let none = d.call(a, "DELETE", "/locks/k?space=semaphore", "");
    assert!(!none.field("detail").contains('?'));
}

#[test]
fn a_ring_of_both_faces_is_refused_where_it_closes() {
    let mut d = Dialogue::patient();
    let (a, b, line) = (d.calls(), d.calls(), d.connect());
    d.says(line, frame("id", "_", "liner"), "ok\n");
    d.is_given(a, "ka", r#"{"clientId":"a"}"#);
    d.is_given(b, "kb", r#"{"clientId":"b"}"#);
    d.takes(line, "kl");
    d.begins_to_wait(a, "kb", r#"{"clientId":"a","waitTimeout":10}"#);
    d.says(line, "l\nka\n100\n", "");
    let victim = d.post(
        b,
        "/locks/kl/acquire",
        r#"{"clientId":"b","waitTimeout":10}"#,
        409,
    );
    assert_eq!(victim.field("code"), "deadlock");
    assert_eq!(victim.field("acquired"), "false");
    let json = victim.json();
    let cycle: Vec<(&str, &str)> = json
        .field("cycle")
        .list()
        .iter()
        .map(|edge| (edge.field("clientId").text(), edge.field("waitsFor").text()))
        .collect();
    assert_eq!(cycle, [("b", "kl"), ("liner", "ka"), ("a", "kb")]);
    // The same client, asking for what it holds, would wait for itself.
    let own = d.post(
        b,
        "/locks/kb/acquire",
        r#"{"clientId":"b","waitTimeout":1}"#,
        409,
    );
    assert_eq!(own.field("code"), "deadlock");
    // The line's request may be the one that closes a ring, too.
    let (c, other) = (d.calls(), d.connect());
    d.says(other, frame("id", "_", "other"), "ok\n");
    d.takes(other, "ko");
    d.is_given(c, "kc", r#"{"clientId":"c"}"#);
    d.begins_to_wait(c, "ko", r#"{"clientId":"c","waitTimeout":10}"#);
    d.says(other, "l\nkc\n100\n", "error_deadlock\n");
}

#[test]
fn a_hold_that_renews_itself_shows_until_when() {
    let mut d = Dialogue::patient();
    let a = d.calls();
    let own = d.is_given(a, "k", r#"{"autoRenew":true}"#);
    d.at(60_000);
    for path in ["/locks/k/status", "/locks?prefix=k"] {
        let answer = d.call(a, "GET", path, "").json();
        let lock = answer
            .get("locks")
            .map_or(&answer, |locks| &locks.list()[0]);
        let holder = &lock.field("holders").list()[0];
        let until = holder.field("autoRenewUntil").text();
        // The wall clock of these tests stands still at 0.
        assert_eq!(until, "1970-01-01T00:04:00.000Z");
        assert_eq!(own.field("autoRenewUntil"), "1970-01-01T00:05:00.000Z");
    }
    let answer = d.is_given(a, "plain", "");
    assert_eq!(answer.json().get("autoRenewUntil"), None);
    let status = d.call(a, "GET", "/locks/plain/status", "").json();
    assert_eq!(
        status.field("holders").list()[0].get("autoRenewUntil"),
        None
    );
}
