//! The real `dflock` against the real server, and what the documents say of both. Not here: the client library, which
//! `outer` has. Invariant: a test binds port 0 only, waits for nothing without a deadline, and leaves no child behind;
//! it does not touch what the process has once, such as its environment or its signals.

mod beats;
#[allow(dead_code, reason = "outer uses the rest")]
#[path = "../daemon/mod.rs"]
mod daemon;
mod desk;
mod proxy;
mod stage;
mod terminal;

mod bench;
mod dflock;
mod docs;
mod hardship;
mod listen;
mod overlap;
mod steps;
