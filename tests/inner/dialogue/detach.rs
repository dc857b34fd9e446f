//! `detach`: a hold that lasts for its lease, whatever becomes of its connection.

use super::*;

fn detach(key: &str, token: &str) -> String {
    frame("detach", key, token)
}

#[test]
fn a_detached_hold_outlives_its_connection_and_ends_with_its_lease() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    let slot = d.takes_slot(a, "s", 1);
    let bound = d.takes(a, "bound");
    d.says(a, detach("k", &token), "ok\n");
    d.says(a, frame("sdetach", "s", &format!(" {slot} ")), "ok\n");
    d.says(b, "l\nk\n0\n", "timeout\n");
    d.end(a);
    d.says(b, renew("bound", &bound), "error\n");
    d.says(b, "l\nk\n0\n", "timeout\n");
    d.says(b, renew("k", &format!("{token} 50")), "ok 50\n");
    // A renewal does not bind it again.
    d.at(10_000);
    let c = d.connect();
    d.says(c, renew("k", &token), "ok 33\n");
    d.end(c);
    d.at(33_001);
    d.takes_slot(b, "s", 1);
    d.says(b, "l\nk\n0\n", "timeout\n");
    d.at(43_001);
    d.takes(b, "k");
}

#[test]
fn a_detached_hold_is_released_by_its_token() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, detach("k", &token), "ok\n");
    d.says(b, detach("k", &token), "ok\n");
    d.end(a);
    d.says(b, release("k", &token), "ok\n");
    d.says(b, detach("k", &token), "error\n");
    assert_eq!(d.keys(), 0);
}

#[test]
fn a_detach_wants_the_token_of_a_hold_of_that_key() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    let token = d.takes(a, "k");
    let wrong = format!(
        "{}{}",
        &token[..31],
        if token.ends_with('0') { '1' } else { '0' }
    );
    for request in [
        detach("k", &wrong),
        detach("other", &token),
        frame("sdetach", "k", &token),
        detach("k", &token[..31]),
        detach("k", ""),
        detach("a k", &token),
        detach("k", &format!("{token} 5")),
    ] {
        d.says(a, request, "error\n");
    }
    d.end(a);
    assert_eq!(d.keys(), 0, "it was not detached");
}

#[test]
fn a_renewal_by_its_owner_does_not_bind_a_detached_hold_again() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    for client in [a, b] {
        d.says(client, frame("id", "_", "me"), "ok\n");
    }
    let token = d.takes(a, "k");
    d.says(a, detach("k", &token), "ok\n");
    d.says(b, renew("k", &token), "ok 33\n");
    d.end(b);
    d.end(a);
    assert_eq!(d.keys(), 1);
    let c = d.connect();
    d.send(c, frame("show", "k", ""));
    let heard = d.heard(c);
    for part in [
        "\"conn_id\":0,\"owner\":\"me\",\"peer\":null",
        "\"detached\":true",
    ] {
        assert!(heard.contains(part), "{heard}");
    }
}

#[test]
fn with_holds_that_stay_a_detached_one_of_the_past_is_bound_to_its_lease() {
    let mut d = Dialogue::patient_with(|s| s.locks.auto_release = false);
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    for client in [a, b] {
        d.says(client, frame("id", "_", "me"), "ok\n");
    }
    let token = d.takes(a, "k");
    d.end(a);
    d.says(c, detach("k", &token), "ok\n");
    d.says(b, renew("k", &token), "ok 33\n");
    d.send(c, frame("show", "k", ""));
    assert!(d.heard(c).contains("\"detached\":true"));
}

#[test]
fn a_detach_consumes_the_record_of_its_enqueue() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    let token = d.enqueues(a, "k");
    d.says(a, detach("k", &token), "ok\n");
    d.says(a, "w\nk\n0\n", "error_not_enqueued\n");
    d.says(a, "e\nk\n\n", "queued\n");
    d.says(a, renew("k", &token), "ok 33\n");
}

#[test]
fn a_connection_that_has_detached_all_is_idle() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    let kept = d.takes(b, "kept");
    d.at(20_000);
    d.says(a, detach("k", &token), "ok\n");
    d.says(a, detach("kept", &kept), "ok\n");
    d.at(42_999);
    d.is_open(a);
    d.is_open(b);
    d.at(43_000);
    d.hears(a, "error\n");
    d.hears(b, "error\n");
}

#[test]
fn nobody_waits_in_vain_for_a_detached_hold() {
    // The hold of one that waits is nobody's once it is detached: its lease ends it, so this is no deadlock.
    let mut d = Dialogue::patient();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "of-a");
    d.takes(b, "of-b");
    d.says(c, detach("of-a", &token), "ok\n");
    d.says(a, "l\nof-b\n100\n", "");
    d.says(b, "l\nof-a\n100\n", "");
    d.at(33_001);
    assert!(d.heard(b).starts_with("ok "));
}
