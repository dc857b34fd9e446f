//! The real server over real sockets, and the client library against it. Not here: `dflock`, which `shell` has, and
//! the rules of locks, which `inner` has. Invariant: a test binds port 0 only, waits for nothing without a deadline,
//! and leaves no child behind; it does not touch the environment, signals or folder of the process, which all tests
//! share.

#[path = "../daemon/mod.rs"]
mod daemon;
#[path = "../daemon/netcat.rs"]
mod netcat;
#[allow(dead_code, reason = "shell uses the rest")]
#[path = "../shell/proxy.rs"]
mod proxy;

mod absent;
mod admission;
mod check;
mod client;
mod doors;
mod log;
mod manager;
#[cfg(feature = "http")]
mod monitoring;
mod process;
mod reload;
#[cfg(feature = "http")]
mod rest;
mod restart;
#[cfg(all(feature = "etcd", feature = "http"))]
mod several;
mod tidy;
#[cfg(feature = "tls")]
mod tls;
mod trail;
