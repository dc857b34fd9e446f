//! The line protocol: which tokens are good after a crash, and whose the holds are.

use std::time::{Duration, Instant};

use crate::daemon::{Client, Daemon};
use crate::site::Site;

use super::{crash, kill, sleep_until, takes, waits_until};

#[track_caller]
fn is_renewed(client: &mut Client, key: &str, token: &str) {
    client.says("n", key, &format!("{token} 30"), "ok 30");
}

#[track_caller]
fn is_stale(client: &mut Client, key: &str, token: &str) {
    client.says("n", key, token, "error");
    client.says("r", key, token, "error");
}

#[track_caller]
fn only_the_fresh_token_outlives_a_crash(site: &Site, daemon: Daemon, stale: &str, fresh: &str) {
    let daemon = crash(site, daemon);
    let mut client = daemon.connect();
    is_stale(&mut client, "k", stale);
    client.says("l", "k", "0", "timeout");
    is_renewed(&mut client, "k", fresh);
}

#[test]
fn a_lock_that_was_cut_and_granted_on_is_not_its_first_holders_again() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let (mut first, mut second) = (daemon.connect(), daemon.connect());
    let (stale, _) = takes(&mut first, "k", 30);
    second.waits("k", "100 30");
    drop(first);
    let token = second.is_granted(30);
    assert!(token > stale);
    only_the_fresh_token_outlives_a_crash(&site, daemon, &stale, &token);
}

#[test]
fn a_token_that_was_released_stays_so_and_the_key_is_free() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let mut client = daemon.connect();
    takes(&mut client, "another", 30);
    let (stale, _) = takes(&mut client, "k", 30);
    client.says("r", "k", &stale, "ok");
    let daemon = crash(&site, daemon);
    let mut client = daemon.connect();
    client.says("l", "another", "0", "timeout");
    is_stale(&mut client, "k", &stale);
    let (token, _) = takes(&mut client, "k", 30);
    assert!(token > stale, "{token} after {stale}");
}

#[test]
fn a_lease_goes_on_over_a_crash_and_a_client_that_renews_late_has_lost_it() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let mut absent = daemon.connect();
    let (stale, end) = takes(&mut absent, "k", 1);
    let daemon = crash(&site, daemon);
    let mut client = daemon.connect();
    let token = waits_until(&mut client, "k", end);
    assert!(token > stale);
    is_stale(&mut daemon.connect(), "k", &stale);
    is_renewed(&mut client, "k", &token);
}

#[test]
fn a_lease_goes_on_while_there_is_no_server() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let mut absent = daemon.connect();
    takes(&mut absent, "another", 30);
    let (stale, _) = takes(&mut absent, "k", 1);
    // The server's count began before this.
    let end = Instant::now() + Duration::from_secs(1);
    kill(daemon);
    sleep_until(end);
    let daemon = site.start();
    let mut client = daemon.connect();
    client.says("l", "another", "0", "timeout");
    takes(&mut client, "k", 30);
    is_stale(&mut client, "k", &stale);
}

#[test]
fn an_absent_holder_has_its_lock_after_two_crashes() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let mut absent = daemon.connect();
    let (token, _) = takes(&mut absent, "k", 30);
    let daemon = crash(&site, daemon);
    daemon.connect().says("l", "k", "0", "timeout");
    let daemon = crash(&site, daemon);
    let mut client = daemon.connect();
    client.says("l", "k", "0", "timeout");
    is_renewed(&mut client, "k", &token);
    client.says("r", "k", &token, "ok");
    assert!(takes(&mut client, "k", 30).0 > token);
}

#[test]
fn what_is_released_after_a_crash_stays_so_after_the_next_one() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let mut absent = daemon.connect();
    let (token, _) = takes(&mut absent, "k", 30);
    let daemon = crash(&site, daemon);
    daemon.connect().says("r", "k", &token, "ok");
    let daemon = crash(&site, daemon);
    let mut client = daemon.connect();
    is_stale(&mut client, "k", &token);
    takes(&mut client, "k", 30);
}

#[test]
fn a_semaphore_knows_its_stale_tokens_from_those_that_hold() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let mut client = daemon.connect();
    let take = |client: &mut Client| {
        client.send("sl\nk\n0 2 30\n");
        client.is_granted(30)
    };
    let (stale, old) = (take(&mut client), take(&mut client));
    client.says("sr", "k", &stale, "ok");
    let new = take(&mut client);
    let daemon = crash(&site, daemon);
    let mut client = daemon.connect();
    client.says("sl", "k", "0 2", "timeout");
    client.says("sl", "k", "0 3", "error_limit_mismatch");
    client.says("sn", "k", &stale, "error");
    client.says("sr", "k", &stale, "error");
    client.says("sn", "k", &format!("{old} 30"), "ok 30");
    client.says("sr", "k", &new, "ok");
    let next = take(&mut client);
    assert!(next > new && new > old);
    client.says("sl", "k", "0 2", "timeout");
    // The lock of that name is another one.
    client.says("r", "k", &next, "error");
    takes(&mut client, "k", 30);
}

#[test]
fn whoever_renews_a_hold_of_nobody_has_it_and_loses_it_with_its_connection() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let mut absent = daemon.connect();
    let (token, _) = takes(&mut absent, "k", 30);
    let daemon = crash(&site, daemon);
    let (mut owner, mut other) = (daemon.connect(), daemon.connect());
    is_renewed(&mut owner, "k", &token);
    // Somebody has it now, and a renewal by a third one changes nothing of that.
    let mut third = daemon.connect();
    is_renewed(&mut third, "k", &token);
    drop(third);
    other.says("l", "k", "0", "timeout");
    other.waits("k", "100 30");
    drop(owner);
    assert!(other.is_granted(30) > token);
}

#[test]
fn a_hold_of_a_declared_owner_moves_only_to_a_session_that_declares_the_same() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let mut absent = daemon.connect();
    absent.says("id", "_", "me", "ok");
    let (token, _) = takes(&mut absent, "k", 30);
    let daemon = crash(&site, daemon);
    let mut stranger = daemon.connect();
    is_renewed(&mut stranger, "k", &token);
    drop(stranger);
    let (mut owner, mut other) = (daemon.connect(), daemon.connect());
    owner.says("id", "_", "me", "ok");
    other.says("l", "k", "0", "timeout");
    is_renewed(&mut owner, "k", &token);
    other.waits("k", "100 30");
    drop(owner);
    assert!(other.is_granted(30) > token);
}

#[test]
fn a_hold_that_was_detached_is_so_after_a_crash_whoever_renews_it() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let mut absent = daemon.connect();
    let (token, _) = takes(&mut absent, "k", 30);
    absent.says("detach", "k", &token, "ok");
    let daemon = crash(&site, daemon);
    let mut client = daemon.connect();
    is_renewed(&mut client, "k", &token);
    drop(client);
    let mut other = daemon.connect();
    other.says("l", "k", "0", "timeout");
    other.says("r", "k", &token, "ok");
    takes(&mut other, "k", 30);
}

#[test]
fn a_lease_that_was_renewed_has_its_new_end_after_a_crash() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let mut absent = daemon.connect();
    let (token, _) = takes(&mut absent, "k", 30);
    let end = Instant::now() + Duration::from_secs(1);
    absent.says("n", "k", &format!("{token} 1"), "ok 1");
    let daemon = crash(&site, daemon);
    let mut client = daemon.connect();
    assert!(waits_until(&mut client, "k", end) > token);
    let stale = token;
    is_stale(&mut client, "k", &stale);
}

#[test]
fn a_place_that_was_granted_and_never_waited_for_is_dropped_and_one_that_was_told_is_not() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let (mut holder, mut enqueued) = (daemon.connect(), daemon.connect());
    let (token, _) = takes(&mut holder, "untold", 30);
    enqueued.says("e", "untold", "30", "queued");
    holder.says("r", "untold", &token, "ok");
    holder.says("l", "untold", "0", "timeout");
    enqueued.send("e\ntold\n30\n");
    let line = enqueued.line();
    let told = line.split(' ').nth(1).expect("a token").to_string();
    assert!(line.starts_with("acquired "), "{line}");
    let daemon = crash(&site, daemon);
    let mut client = daemon.connect();
    assert!(takes(&mut client, "untold", 30).0 > told);
    client.says("l", "told", "0", "timeout");
    is_renewed(&mut client, "told", &told);
    client.says("w", "told", "0", "error_not_enqueued");
}

#[test]
fn a_place_that_was_granted_and_waited_for_is_kept() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let (mut holder, mut enqueued) = (daemon.connect(), daemon.connect());
    let (stale, _) = takes(&mut holder, "k", 30);
    enqueued.says("e", "k", "30", "queued");
    holder.says("r", "k", &stale, "ok");
    enqueued.send("w\nk\n100\n");
    let token = enqueued.is_granted(30);
    only_the_fresh_token_outlives_a_crash(&site, daemon, &stale, &token);
}

#[test]
fn what_an_administrator_broke_stays_broken() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let mut absent = daemon.connect();
    takes(&mut absent, "another", 30);
    let (stale, _) = takes(&mut absent, "k", 30);
    daemon.connect().says("break", "k", "", "ok 1");
    let daemon = crash(&site, daemon);
    let mut client = daemon.connect();
    client.says("l", "another", "0", "timeout");
    is_stale(&mut client, "k", &stale);
    takes(&mut client, "k", 30);
}

#[test]
fn more_keys_than_are_allowed_now_are_all_kept_and_no_new_one_comes_in() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let mut absent = daemon.connect();
    let tokens = ["a", "b", "c"].map(|key| (key, takes(&mut absent, key, 30).0));
    kill(daemon);
    let daemon = site.start_with(&["--max-locks=2".to_string()]);
    let mut client = daemon.connect();
    client.says("l", "d", "0", "error_max_locks");
    for (key, token) in &tokens {
        client.says("l", key, "0", "timeout");
        is_renewed(&mut client, key, token);
    }
    for (key, token) in &tokens[..2] {
        client.says("r", key, token, "ok");
    }
    takes(&mut client, "d", 30);
}

#[test]
fn two_that_asked_before_a_crash_and_ask_again_are_served_one_after_the_other() {
    let site = Site::new(&[]);
    let daemon = site.start();
    let mut absent = daemon.connect();
    let (token, _) = takes(&mut absent, "k", 30);
    let mut before = [daemon.connect(), daemon.connect()];
    for client in &mut before {
        client.waits("k", "100 30");
    }
    let daemon = crash(&site, daemon);
    let mut clients = [daemon.connect(), daemon.connect()];
    for client in &mut clients {
        client.waits("k", "100 30");
    }
    let mut holder = daemon.connect();
    holder.says("r", "k", &token, "ok");
    let mut last = token;
    for client in &mut clients {
        let token = client.is_granted(30);
        assert!(token > last);
        client.says("r", "k", &token, "ok");
        last = token;
    }
}
