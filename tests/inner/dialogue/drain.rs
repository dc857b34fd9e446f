//! SIGTERM, as clients see it.

use super::*;

#[test]
fn a_drain_turns_waiters_away_closes_the_idle_and_lets_holders_finish() {
    let mut d = Dialogue::new();
    let (a, b, idle) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n100\n", "");
    d.drain();
    d.hears(b, "error_draining\n");
    d.lingers(b);
    d.is_closed(idle);
    d.hears(idle, "");
    d.says(a, renew("k", &token), "ok 33\n");
    d.says(a, "ping\n_\n_\n", "ok\n");
    d.says(a, "l\nother\n0\n", "error_draining\n");
    d.says(a, "bogus\nk\n0\n", "error\n");
    d.is_open(a);
    assert!(!d.0.is_drained());
    d.says(a, release("k", &token), "ok\n");
    d.lingers(a);
    d.end(a);
    d.end(b);
    assert!(d.0.is_drained());
}

#[test]
fn a_drain_closes_a_holder_when_its_lease_ends_and_ends_at_its_own_timeout() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n0 10\n");
    d.is_granted(a, 10);
    d.takes(b, "k2");
    d.drain();
    d.at(9_999);
    d.is_open(a);
    d.at(10_000);
    d.is_closed(a);
    d.at(29_999);
    assert!(!d.0.is_drained());
    d.at(30_000);
    assert!(d.0.is_drained());
}

#[test]
fn a_drain_of_thousands_reaches_everybody() {
    let mut d = Dialogue::with(|s| s.shutdown_timeout = 0);
    let clients: Vec<usize> = (0..3000).map(|_| d.connect()).collect();
    d.takes(clients[0], "k");
    for &client in &clients[1..1500] {
        d.0.send_only(client, b"l\nk\n100\n");
    }
    d.0.settle();
    d.drain();
    for &client in &clients[1..1500] {
        d.hears(client, "error_draining\n");
    }
    for &client in &clients[1500..] {
        d.is_closed(client);
    }
    d.is_open(clients[0]);
    d.at(2_000);
    assert_eq!(d.0.sessions(), 1);
    d.reset(clients[0]);
    assert!(d.0.is_drained());
}
