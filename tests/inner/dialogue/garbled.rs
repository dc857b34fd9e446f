//! Connections over TLS that cannot be understood any more: how they end, whatever their phase.

use super::*;

#[test]
fn a_connection_that_is_not_understood_any_more_ends_and_lingers_so_that_it_hears_why() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.0.garble_only(a);
    d.0.settle();
    d.lingers(a);
    d.gets(b, "ok", 33);
    d.hears(a, "");
}

/// Nobody could read them, so nothing waits for the peer to take them.
#[test]
fn last_words_that_cannot_be_understood_any_more_are_dropped_at_once() {
    let mut d = Dialogue::with(|s| s.write_timeout = 100 * SECOND);
    let a = d.connect();
    d.0.clients[a].appetite = 0;
    // Longer than a line may take: it is told so, and does not take it.
    d.0.send_only(a, b"l\n");
    d.at(30_000);
    d.is_open(a);
    d.0.garble_only(a);
    d.0.settle();
    d.lingers(a);
    d.hears(a, "");
    d.0.garble_only(a);
    d.at(32_000);
    d.is_closed(a);
}
