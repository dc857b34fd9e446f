//! What a server remembers when it has died: a judge that knows the promises, clients of all faces that compete for locks,
//! and a loop that kills their server at any moment. It shares no code with the server, not even the client library: what
//! both believe wrongly, no test of theirs would find. Not here: dflock(1) over a crash, which `shell` has. Invariant: a test
//! binds port 0 only, waits for nothing without a deadline, and leaves no child and no file behind.

// A build that lacks a face has nothing of its own to remember.
#![cfg(all(feature = "http", feature = "tls"))]

mod actor;
mod at_random;
mod board;
#[allow(dead_code, reason = "other test programs use the rest")]
#[path = "../daemon/mod.rs"]
mod daemon;
mod dice;
mod faces;
mod flood;
mod holes;
mod judge;
mod link;
mod record;
mod site;
mod stream;
