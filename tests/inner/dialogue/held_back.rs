//! A store that needs time: answers wait until the facts behind which they were written are kept.

use super::*;
use dflockd::facts::Protection;

/// The answer is `error`: no such hold is there.
const GUESS: &str = "r\nnone\n0123456789abcdef0123456789abcdef\n";

fn slow() -> Dialogue {
    slow_with(|_| {})
}

fn slow_with(change: impl FnOnce(&mut Settings)) -> Dialogue {
    let mut d = Dialogue::patient_with(|s| {
        s.protection = Protection::Journal;
        change(s);
    });
    d.0.slow_down();
    d
}

impl Dialogue {
    /// The store has kept its batch; the next one is on its way.
    fn kept(&mut self) {
        self.0.store_answers();
        self.0.settle();
    }

    /// Something has happened that the store does not know yet.
    fn stir(&mut self) {
        let other = self.connect();
        self.says(other, "l\nstirred\n0\n", "");
    }
}

#[test]
fn a_grant_is_told_when_it_is_kept() {
    let mut d = slow();
    let a = d.connect();
    d.says(a, "l\nk\n0\n", "");
    d.kept();
    let token = d.is_granted(a, 33);
    d.says(a, renew("k", &token), "");
    d.kept();
    d.hears(a, "ok 33\n");
    d.says(a, release("k", &token), "");
    d.kept();
    d.hears(a, "ok\n");
}

#[test]
fn where_nothing_happens_nothing_waits() {
    let mut d = slow();
    let a = d.connect();
    d.says(a, GUESS, "error\n");
}

#[test]
fn what_is_written_while_a_batch_is_in_flight_waits_for_that_one_alone() {
    let mut d = slow();
    let a = d.connect();
    d.stir();
    d.says(a, GUESS, "");
    d.kept();
    d.hears(a, "error\n");
}

#[test]
fn what_tells_of_no_hold_waits_for_no_store() {
    let mut d = slow();
    let a = d.connect();
    d.stir();
    d.says(a, "ping\n_\n_\nping\n_\n_\n", "ok\nok\n");
    // Behind an answer that waits it waits as well.
    d.says(a, format!("{GUESS}ping\n_\n_\n"), "");
    d.kept();
    d.hears(a, "error\nok\n");
}

#[test]
fn a_client_with_a_token_is_told_at_once_that_the_server_is_there() {
    let mut d = slow_with(|s| s.secret = Some(b"sesame".to_vec()));
    let (a, b) = (d.connect(), d.connect());
    d.says(a, frame("auth", "_", "sesame"), "ok\n");
    d.says(a, "l\nstirred\n0\n", "");
    d.says(b, frame("auth", "_", "sesame") + "ping\n_\n_\n", "ok\nok\n");
}

/// A load balancer asks so whether the server is well, and an administrator why it is slow.
#[cfg(feature = "http")]
#[test]
fn over_http_health_and_metrics_wait_for_no_store_and_holds_do() {
    use dflockd::wire::Face;
    let mut d = slow();
    d.stir();
    for path in ["/health", "/ready", "/metrics"] {
        let client = d.0.connect_to(Face::Http);
        d.send(
            client,
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        );
        let heard = d.heard(client);
        assert!(heard.starts_with("HTTP/1.1 200 OK"), "{path}: {heard}");
    }
    let client = d.0.connect_to(Face::Http);
    let list = "GET /locks HTTP/1.1\r\nHost: localhost\r\n\r\n";
    d.says(client, list, "");
    d.kept();
    assert!(d.heard(client).contains("stirred"));
}

#[test]
fn what_is_written_behind_newer_facts_waits_for_the_next_batch() {
    let mut d = slow();
    let (a, b) = (d.connect(), d.connect());
    d.stir();
    d.says(a, GUESS, "");
    d.says(b, "l\nk\n0\n", "");
    d.says(a, GUESS, "");
    d.kept();
    // The first of them did not wait for more, but in one turn with the second.
    d.hears(b, "");
    d.kept();
    d.is_granted(b, 33);
    assert_eq!(d.heard(a), "error\nerror\n");
}

#[test]
fn answers_keep_their_order_over_batches() {
    let mut d = slow();
    let a = d.connect();
    let ping = "ping\n_\n_\n";
    d.says(a, format!("{GUESS}l\nk\n0\n{ping}l\nk\n0\n{GUESS}"), "");
    d.kept();
    let heard = d.heard(a);
    assert_eq!(masked(&heard), "error\nok T 33\nok\ntimeout\nerror\n");
}

#[test]
fn the_tables_run_ahead_of_the_store() {
    let mut d = slow();
    let (a, b) = (d.connect(), d.connect());
    d.stir();
    d.says(a, "l\nk\n0\n", "");
    d.says(b, "l\nk\n100\n", "");
    // Nobody has heard of it, and it is over.
    d.0.reset_only(a);
    d.0.settle();
    d.kept();
    d.hears(b, "");
    d.kept();
    d.is_granted(b, 33);
    d.hears(a, "");
}

#[test]
fn a_connection_that_closes_has_its_last_answers_first() {
    let mut d = slow();
    let a = d.connect();
    d.says(a, "l\nk\n0\n", "");
    d.0.end_only(a);
    d.0.settle();
    d.is_open(a);
    d.kept();
    d.is_granted(a, 33);
    d.is_closed(a);
}

#[test]
fn a_peer_that_is_kept_waiting_is_not_slow() {
    let mut d = slow_with(|s| s.write_timeout = 5 * SECOND);
    let a = d.connect();
    d.says(a, "l\nk\n0 1000\n", "");
    d.at(60_000);
    d.is_open(a);
    d.kept();
    d.is_granted(a, 1000);
}

#[test]
fn signals_that_are_held_back_cut_nobody_off() {
    let mut d = slow();
    let (listener, sender) = (d.connect(), d.connect());
    d.says(listener, frame("listen", "c", "_"), "ok\n");
    d.says(sender, frame("signal", "c", "x"), "ok 1\n");
    d.hears(listener, "sig c x\n");
    d.0.feed_client(listener, 0);
    d.says(sender, frame("signal", "c", "x"), "ok 1\n");
    d.stir();
    for _ in 0..200 {
        d.send(sender, frame("signal", "c", "x"));
    }
    // A write of what may go fails again, and 200 signals stand behind it.
    d.0.feed_client(listener, 1);
    d.send(sender, frame("signal", "c", "x"));
    d.0.feed_client(listener, usize::MAX);
    d.kept();
    let answers = "ok 1\n".repeat(201);
    d.hears(sender, &answers);
    assert_eq!(d.heard(listener), "sig c x\n".repeat(202));
}

#[test]
fn a_turn_that_leads_to_too_many_facts_goes_on_when_they_are_kept() {
    let mut d = slow_with(|s| s.locks.max_locks = 10_000);
    let a = d.connect();
    d.stir();
    // Some 60 bytes a hold beside its name, which is as long as names of the line protocol can be.
    for n in 0..2_000 {
        let key = format!("{n:0200}");
        d.send(a, format!("l\n{key}\n0\n"));
    }
    let held = d.0.locks().counts().held;
    let facts = 256 * 1024 / (200 + 56);
    assert!((facts..facts + 130).contains(&held), "{held}");
    assert!(d.0.is_behind(), "requests wait");
    for _ in 0..5 {
        d.kept();
    }
    let heard = d.heard(a);
    assert_eq!(heard.lines().count(), 2_000);
    assert!(heard.lines().all(|line| line.starts_with("ok ")));
}

#[test]
fn a_restart_has_what_the_store_has_kept_and_nothing_else() {
    let mut d = slow();
    let a = d.connect();
    d.says(a, "l\nkept\n0\n", "");
    d.kept();
    let token = d.is_granted(a, 33);
    d.says(a, release("kept", &token), "");
    d.says(a, "l\nnot-kept\n0\n", "");
    d.0.restart(|_| {});
    d.0.settle();
    let b = d.connect();
    d.says(b, "l\nkept\n0\n", "timeout\n");
    d.says(b, "l\nnot-kept\n0\n", "");
    d.kept();
    d.is_granted(b, 33);
}
