//! Claims over a restart: they are their owners' still.

use super::*;
use dflockd::facts::Protection;

#[test]
fn a_claim_outlives_the_server_and_ends_with_its_lease() {
    let mut d = Dialogue::with(|s| s.protection = Protection::Journal);
    let a = d.dial();
    d.claims(a, "k", "a");
    d.claims(a, "again", "a");
    d.claims(a, "back", "a");
    d.gives_back(a, "back", "a");
    d.at(4_000);
    d.claims(a, "again", "a");
    d.0.restart(|_| {});
    d.0.settle();
    let b = d.dial();
    d.is_busy(b, "k", "b");
    d.has_not(b, "k", "b");
    d.claims(b, "back", "b");
    // An owner of the line protocol with that name is another.
    let line = d.connect();
    d.says(line, super::super::frame("id", "_", "a"), "ok\n");
    d.says(line, "l\nk\n0\n", "timeout\n");
    d.0.until(1010 * SECOND - 1);
    d.is_busy(b, "k", "b");
    d.at(10_000);
    d.claims(b, "k", "b");
    d.is_busy(b, "again", "b");
    d.claims(b, "again", "a");
    d.gives_back(b, "again", "a");
    d.claims(b, "again", "b");
}

#[test]
fn a_claim_waits_for_no_quarantine_and_none_is_granted_in_one() {
    let mut d = Dialogue::with(|s| s.protection = Protection::Journal);
    let a = d.dial();
    d.claims(a, "k", "a");
    d.0.restart(|s| s.locks.opens = 1010 * SECOND);
    let b = d.dial();
    d.is_busy(b, "free", "b");
    d.claims(b, "k", "a");
    d.gives_back(b, "k", "a");
    d.is_busy(b, "k", "a");
    d.0.until(1010 * SECOND - 1);
    d.is_busy(b, "free", "b");
    d.at(10_000);
    d.claims(b, "free", "b");
    d.claims(b, "k", "a");
}
