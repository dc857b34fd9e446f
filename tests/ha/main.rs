//! Two servers, one lock service: real members of etcd, two daemons, clients of all faces that compete for locks, and faults
//! of every kind between them. The judge is that of the crash loop, and shares no code with the server. Not here: the same
//! with played stores and clocks, which the simulation has. Invariant: a test binds ports of loopback only, waits for nothing
//! without a deadline, and leaves no child and no file behind.

#![cfg(all(feature = "etcd", feature = "http"))]

#[path = "../crash/actor.rs"]
mod actor;
#[allow(dead_code, reason = "the crash loop uses the rest")]
#[path = "../crash/board.rs"]
mod board;
#[allow(dead_code, reason = "other test programs use the rest")]
#[path = "../daemon/mod.rs"]
mod daemon;
#[path = "../crash/dice.rs"]
mod dice;
#[allow(dead_code, reason = "the crash loop uses the rest")]
#[path = "../crash/faces.rs"]
mod faces;
mod faults;
#[allow(dead_code, reason = "the crash loop uses the rest")]
#[path = "../crash/judge.rs"]
mod judge;
#[allow(dead_code, reason = "the crash loop uses the rest")]
#[path = "../crash/link.rs"]
mod link;
mod members;
mod nodes;
#[allow(dead_code, reason = "the crash loop uses the rest")]
#[path = "../crash/record.rs"]
mod record;
#[path = "../crash/stream.rs"]
mod stream;
mod truth;
mod wire;
