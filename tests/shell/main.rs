//! The real `dflock` against the real server, and the documents against both. Not here: the client library, which
//! `outer` has. Invariant: a test binds port 0 only, waits for nothing without a deadline, and leaves no child
//! behind; it does not touch the environment, signals or folder of the process, which all tests share.

mod beats;
mod beside;
#[allow(dead_code, reason = "outer uses the rest")]
#[path = "../daemon/mod.rs"]
mod daemon;
mod desk;
mod heard;
#[path = "../daemon/netcat.rs"]
mod netcat;
mod proxy;
mod stage;
mod terminal;

mod alternatives;
mod bench;
mod completions;
mod descent;
mod dflock;
mod docs;
mod examples;
mod force;
mod hardship;
mod lasting;
mod listen;
mod listing;
mod overlap;
mod parents;
mod restart;
mod steps;
mod storm;
mod table;
#[cfg(feature = "tls")]
mod tls;
mod waiting;
mod ways;
