//! Locks of clients that have names rather than connections: distlockd's and those of the REST face.

use std::time::{Duration, Instant};

use crate::faces::distlockd::Claim;
use crate::faces::{Key, distlockd, rest};
use crate::link::{Face, Link};
use crate::record::Record;
use crate::site::Site;

use super::{crash, open};

const K: Key = Key::lock("k");

#[test]
fn a_client_of_distlockd_has_its_lock_after_a_crash_by_its_name() {
    let (site, record) = (Site::new(&["--distlockd-lease=30"]), Record::new());
    let daemon = site.start();
    let takes = |link: &mut Link, id: &str| {
        let (_, answer) = link.exchange(&distlockd::acquire(&K, id)).unwrap();
        distlockd::claim(&answer) == Claim::Granted
    };
    let releases = |link: &mut Link, id: &str| {
        let (_, answer) = link.exchange(&distlockd::release(&K, id)).unwrap();
        distlockd::is_released(&answer)
    };
    let mut link = open(Face::Distlockd, &daemon, &record);
    assert!(takes(&mut link, "me"));
    let daemon = crash(&site, daemon);
    let mut link = open(Face::Distlockd, &daemon, &record);
    assert!(!takes(&mut link, "other") && !releases(&mut link, "other"));
    // An equal name of another face is another owner.
    let mut line = daemon.connect();
    line.says("id", "_", "me", "ok");
    line.says("l", "k", "0", "timeout");
    assert!(takes(&mut link, "me"));
    drop(link);
    let daemon = crash(&site, daemon);
    let mut link = open(Face::Distlockd, &daemon, &record);
    assert!(!takes(&mut link, "other"));
    assert!(releases(&mut link, "me") && !releases(&mut link, "me"));
    assert!(takes(&mut link, "other"));
    let daemon = crash(&site, daemon);
    let mut link = open(Face::Distlockd, &daemon, &record);
    assert!(!releases(&mut link, "me") && !takes(&mut link, "me"));
    assert!(releases(&mut link, "other"));
}

/// The answer to an acquire with this body.
fn acquire(link: &mut Link, body: &str) -> Vec<u8> {
    link.exchange(&rest::post(&K, "acquire", body)).unwrap().1
}

fn get(link: &mut Link, path: &str) -> String {
    let (_, answer) = link.exchange(&rest::get(path)).unwrap();
    assert_eq!(rest::status(&answer), 200, "{}", rest::text(&answer));
    rest::text(&answer).to_string()
}

#[test]
fn a_lock_that_renews_itself_does_so_after_a_crash_until_the_moment_that_was_promised() {
    let options = ["--http-default-timeout=1", "--http-max-timeout=3"];
    let (site, record) = (Site::new(&options), Record::new());
    let daemon = site.start();
    let mut link = open(Face::Rest, &daemon, &record);
    let promised = Instant::now() + Duration::from_secs(3);
    let body = r#"{"clientId":"me","timeout":1,"autoRenew":true,"metadata":{"why":"because"}}"#;
    let answer = acquire(&mut link, body);
    let told = rest::granted(&answer).expect("it is free");
    let until = rest::field(&answer, "autoRenewUntil").to_string();
    let daemon = crash(&site, daemon);
    let mut link = open(Face::Rest, &daemon, &record);
    let status = get(&mut link, "/locks/k/status");
    let lock = format!("lock-{}", &told.token[..16]);
    for part in [
        format!(r#""lockId":"{lock}""#),
        r#""clientId":"me""#.to_string(),
        r#""autoRenew":true"#.to_string(),
        r#""metadata":{"why":"because"}"#.to_string(),
        until,
    ] {
        assert!(status.contains(&part), "{part} in {status}");
    }
    // Three leases are over by then.
    let mut line = daemon.connect();
    super::waits_until(&mut line, "k", promised);
    let answer = link.exchange(&rest::renew(&K, &told.token, 1)).unwrap().1;
    assert!(!rest::is_done(&answer));
}

#[test]
fn a_lock_of_the_rest_face_is_renewed_and_released_after_a_crash_by_its_token() {
    let (site, record) = (Site::new(&[]), Record::new());
    let daemon = site.start();
    let mut link = open(Face::Rest, &daemon, &record);
    let told = rest::granted(&acquire(&mut link, r#"{"clientId":"me"}"#)).expect("it is free");
    let daemon = crash(&site, daemon);
    let mut link = open(Face::Rest, &daemon, &record);
    let renewal = rest::renew(&K, &told.token, 30);
    let answer = link.exchange(&renewal).unwrap().1;
    assert!(rest::renewed(&answer).is_some());
    assert_eq!(rest::field(&answer, "clientId"), "me");
    let lock = format!("lock-{}", &told.token[..16]);
    assert_eq!(rest::field(&answer, "lockId"), lock);
    // Not the connection has the lock: it stays without one.
    drop(link);
    daemon.connect().says("l", "k", "0", "timeout");
    let mut link = open(Face::Rest, &daemon, &record);
    let body = format!(r#"{{"clientId":"other","lockId":"{lock}"}}"#);
    let (_, answer) = link.exchange(&rest::post(&K, "release", &body)).unwrap();
    assert_eq!(rest::status(&answer), 403, "{}", rest::text(&answer));
    let body = format!(r#"{{"clientId":"me","lockId":"{lock}"}}"#);
    let (_, answer) = link.exchange(&rest::post(&K, "release", &body)).unwrap();
    assert!(rest::is_done(&answer));
    let daemon = crash(&site, daemon);
    let mut link = open(Face::Rest, &daemon, &record);
    assert!(!rest::is_done(&link.exchange(&renewal).unwrap().1));
}

#[test]
fn a_request_that_is_repeated_over_a_crash_finds_the_lock_that_it_got() {
    let (site, record) = (Site::new(&[]), Record::new());
    let daemon = site.start();
    let ask = |link: &mut Link, client: &str, attempt: &str| {
        let request = rest::acquire(&K, 0, 30, client, attempt);
        rest::granted(&link.exchange(&request).unwrap().1)
    };
    let mut link = open(Face::Rest, &daemon, &record);
    let first = ask(&mut link, "me", "attempt-number-one").expect("it is free");
    let daemon = crash(&site, daemon);
    let mut link = open(Face::Rest, &daemon, &record);
    assert!(ask(&mut link, "me", "attempt-number-two").is_none());
    assert!(ask(&mut link, "other", "attempt-number-one").is_none());
    let again = ask(&mut link, "me", "attempt-number-one").expect("it has the lock");
    assert_eq!(again.token, first.token);
    let daemon = crash(&site, daemon);
    let mut link = open(Face::Rest, &daemon, &record);
    let again = ask(&mut link, "me", "attempt-number-one").expect("it still has it");
    assert_eq!(again.token, first.token);
    let body = r#"{"clientId":"me","requestId":"attempt-number-one"}"#;
    let (_, answer) = link.exchange(&rest::post(&K, "release", body)).unwrap();
    assert_eq!(rest::field(&answer, "released"), "true");
    let daemon = crash(&site, daemon);
    let mut link = open(Face::Rest, &daemon, &record);
    let second = ask(&mut link, "other", "attempt-number-one").expect("it is free");
    assert!(second.fence > first.fence);
    assert!(ask(&mut link, "me", "attempt-number-one").is_none());
}

#[test]
fn a_counted_lock_of_the_rest_face_and_of_the_line_protocol_is_one_after_a_crash() {
    let (site, record) = (Site::new(&[]), Record::new());
    let daemon = site.start();
    let mut link = open(Face::Rest, &daemon, &record);
    let told = acquire(&mut link, r#"{"clientId":"me","limit":2}"#);
    let told = rest::granted(&told).expect("it is free");
    let mut line = daemon.connect();
    line.send("sl\nk\n0 2 30\n");
    let token = line.is_granted(30);
    let daemon = crash(&site, daemon);
    let mut line = daemon.connect();
    line.says("sl", "k", "0 2", "timeout");
    line.says("sn", "k", &format!("{token} 30"), "ok 30");
    let mut link = open(Face::Rest, &daemon, &record);
    let (_, answer) = link.exchange(&rest::release(&K, &told.token)).unwrap();
    assert!(rest::is_done(&answer));
    line.send("sl\nk\n0 2 30\n");
    line.is_granted(30);
}
