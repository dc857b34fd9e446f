//! Starts without a usable journal: nothing is granted until each lease that may be out is over.

use std::fs;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, program, tools};
use crate::faces::distlockd::Claim;
use crate::faces::{Key, distlockd, rest};
use crate::link::Face;
use crate::record::Record;
use crate::site::Site;

use super::{crash, kill, open, stop, takes, waits_until};

/// No lease is longer than a second but those that a test takes.
const SHORT: &[&str] = &[
    "--default-lease-ttl=1",
    "--distlockd-lease=1",
    "--http-default-timeout=1",
    "--http-max-timeout=1",
];

/// How long after its start a server grants nothing, when the longest lease was of two seconds.
const QUARANTINE: Duration = Duration::from_millis(2020);

/// A site where a client has a lock for two seconds, and was killed with its server. Returns the token.
fn with_a_lock() -> (Site, String) {
    let site = Site::new(SHORT);
    let daemon = site.start();
    let mut absent = daemon.connect();
    let (token, _) = takes(&mut absent, "k", 2);
    kill(daemon);
    (site, token)
}

/// Nothing is granted, and nothing that was is known.
#[track_caller]
fn grants_nothing(daemon: &Daemon, token: &str) {
    let mut client = daemon.connect();
    for key in ["k", "free"] {
        client.says("l", key, "0", "timeout");
        client.says("sl", key, "0 2", "timeout");
    }
    client.says("n", "k", token, "error");
    client.says("r", "k", token, "error");
    client.says("e", "enqueued", "", "queued");
    client.says("w", "enqueued", "0", "timeout");
}

#[test]
fn without_its_journal_nothing_is_granted_before_the_longest_lease_is_over() {
    let (site, token) = with_a_lock();
    assert!(site.lose_journal());
    let start = Instant::now();
    let daemon = site.start();
    grants_nothing(&daemon, &token);
    let mut clients = [daemon.connect(), daemon.connect(), daemon.connect()];
    let [first, second, other] = &mut clients;
    first.waits("k", "100 30");
    second.waits("k", "100 30");
    assert!(waits_until(other, "free", start + QUARANTINE) > token);
    // The queue is served in order.
    let next = first.is_granted(30);
    assert!(next > token);
    first.says("r", "k", &next, "ok");
    assert!(second.is_granted(30) > next);
}

#[test]
fn a_wait_that_is_over_before_the_quarantine_is_answered_in_time() {
    let (site, _) = with_a_lock();
    site.lose_journal();
    let start = Instant::now();
    let daemon = site.start();
    let mut client = daemon.connect();
    client.says("l", "k", "1", "timeout");
    assert!(
        start.elapsed() < QUARANTINE,
        "a second is over, and no more"
    );
}

#[test]
fn other_faces_say_that_nothing_is_granted_yet() {
    let (site, token) = with_a_lock();
    site.lose_journal();
    let daemon = site.start();
    let (record, k) = (Record::new(), Key::lock("k"));
    let mut link = open(Face::Distlockd, &daemon, &record);
    let (_, answer) = link.exchange(&distlockd::acquire(&k, "me")).unwrap();
    assert_eq!(distlockd::claim(&answer), Claim::Busy);
    assert_eq!(link.exchange(&distlockd::health()).unwrap().1[0], 1);
    let mut link = open(Face::Rest, &daemon, &record);
    let mut ask = |request: Vec<u8>| link.exchange(&request).expect("it is there").1;
    let answer = ask(rest::get("/ready"));
    assert_eq!(rest::status(&answer), 503);
    assert_eq!(rest::field(&answer, "code"), "quarantine");
    assert_eq!(rest::status(&ask(rest::get("/health"))), 200);
    let answer = ask(rest::post(&k, "acquire", "{}"));
    assert!(rest::granted(&answer).is_none());
    assert_eq!(rest::field(&answer, "reason"), "quarantine");
    assert!(!rest::is_done(&ask(rest::renew(&k, &token, 1))));
}

#[test]
fn a_clean_stop_and_a_crash_inside_of_a_quarantine_do_not_end_it() {
    let (site, token) = with_a_lock();
    site.lose_journal();
    let start = Instant::now();
    let daemon = site.start();
    grants_nothing(&daemon, &token);
    stop(daemon);
    let daemon = site.start();
    grants_nothing(&daemon, &token);
    let daemon = crash(&site, daemon);
    grants_nothing(&daemon, &token);
    waits_until(&mut daemon.connect(), "k", start + QUARANTINE);
}

#[test]
fn a_journal_that_is_lost_again_inside_of_a_quarantine_shortens_nothing() {
    let (site, token) = with_a_lock();
    site.lose_journal();
    let start = Instant::now();
    stop(site.start());
    site.lose_journal();
    let daemon = site.start();
    grants_nothing(&daemon, &token);
    waits_until(&mut daemon.connect(), "k", start + QUARANTINE);
}

#[test]
fn a_crash_with_a_loss_of_the_journal_inside_of_a_quarantine_begins_another() {
    let (site, token) = with_a_lock();
    site.lose_journal();
    kill(site.start());
    site.lose_journal();
    let start = Instant::now();
    let daemon = site.start();
    grants_nothing(&daemon, &token);
    waits_until(&mut daemon.connect(), "k", start + QUARANTINE);
}

#[test]
fn a_stop_with_nothing_held_needs_no_quarantine_and_no_journal() {
    let (site, token) = with_a_lock();
    let daemon = site.start();
    daemon.connect().says("r", "k", &token, "ok");
    stop(daemon);
    site.lose_journal();
    let daemon = site.start();
    assert!(takes(&mut daemon.connect(), "k", 1).0 > token);
}

#[test]
fn a_lease_that_is_out_at_a_stop_is_over_before_anything_is_granted() {
    let site = Site::new(SHORT);
    let daemon = site.start();
    // Bound by its lease alone, so that the drain does not wait for it.
    let mut client = daemon.connect();
    let (token, end) = takes(&mut client, "k", 2);
    client.says("detach", "k", &token, "ok");
    stop(daemon);
    site.lose_journal();
    let daemon = site.start();
    daemon.connect().says("l", "free", "0", "timeout");
    assert!(waits_until(&mut daemon.connect(), "k", end) > token);
}

#[test]
fn another_boot_makes_a_journal_useless() {
    let (site, token) = with_a_lock();
    let boot = "/proc/sys/kernel/random/boot_id";
    let file = site.path("boot_id");
    fs::write(&file, "11111111-2222-4333-8444-555555555555\n").unwrap();
    if !tools::has("unshare", "util-linux") {
        return;
    }
    // The file of the kernel lies below another one, for this server alone.
    let script = format!("mount --bind {file} {boot} && exec \"$0\" \"$@\"");
    let started = [&[][..], &["--user", "--map-root-user"]]
        .into_iter()
        .find_map(|more| {
            let mut command = program("unshare");
            command.args(more).args(["--mount", "sh", "-c", &script]);
            let server = site.command(&[]);
            command.arg(server.get_program()).args(server.get_args());
            let start = Instant::now();
            let daemon = Daemon::launch(command);
            daemon.map(|daemon| (start, daemon)).ok()
        });
    let Some((start, daemon)) = started else {
        tools::leave_out("no namespace with a boot of its own");
        return;
    };
    grants_nothing(&daemon, &token);
    let mut client = daemon.connect();
    assert!(waits_until(&mut client, "k", start + QUARANTINE) > token);
    // Back in the former boot its journal is that of an epoch that is over.
    kill(daemon);
    let start = Instant::now();
    let daemon = site.start();
    grants_nothing(&daemon, &token);
    waits_until(&mut daemon.connect(), "k", start + QUARANTINE);
}

#[test]
fn without_folders_a_grace_after_the_start_is_all_that_there_is() {
    let site = Site::unprotected(&["--restart-grace=1"]);
    let start = Instant::now();
    let daemon = site.start();
    let mut client = daemon.connect();
    client.says("l", "k", "0", "timeout");
    waits_until(&mut client, "k", start + Duration::from_secs(1));
}

#[test]
fn a_lease_that_is_longer_than_any_before_counts_from_its_grant_on() {
    let site = Site::new(SHORT);
    let daemon = site.start();
    let mut absent = daemon.connect();
    let (token, _) = takes(&mut absent, "k", 1);
    let end = Instant::now() + Duration::from_secs(4);
    absent.says("n", "k", &format!("{token} 4"), "ok 4");
    kill(daemon);
    site.lose_journal();
    let daemon = site.start();
    assert!(waits_until(&mut daemon.connect(), "k", end) > token);
}
