//! A lock server on one thread. This page is the map; start here.
//!
//! # Three rings, one direction
//!
//! ```text
//! main -> server -> hub -> locks -> wheel, slab, list, table, name
//!           |        |       |
//!           |        +-> wire, buffer
//!           +-> sys, log, config, guests     all of them -> command
//!
//! client -> wire, sys                          the other end, for other programs
//! ```
//!
//! - **[`locks`]** is the lock table: commands in, replies out. Time is an argument, nothing is random, nothing
//!   can fail. It is the only ring that knows what a lock is.
//! - **[`hub`]** is sessions and faces around it: bytes in, bytes out. Parsing, pipelining, the order of answers,
//!   deadlines of connections and their ends happen here.
//! - **[`server`]** is the world: sockets, clock, unix signals, log. It moves bytes and decides nothing.
//! - **[`client`]** is not in the server: who wants a lock from Rust uses it. It is of the outer ring too.
//!
//! Only the outer ring may block, read the clock, draw randomness, log, or see an `io::Error`. The inner two are
//! plain values, so the tests drive them with no socket and no waiting.
//!
//! # Reading order
//!
//! [`command`] (the words), [`locks`] (with `locks/grant.rs`, where a lock changes hands, and `locks/phases.rs`, two
//! phases), [`hub`] (with `hub/life.rs`, how a session ends), [`wire::text`], [`server`], then what they stand on: [`wheel`], [`slab`], [`list`], [`table`],
//! [`name`], [`buffer`], [`sys`],
//! [`config`], [`guests`], [`log`]. And by itself: [`client`], with [`client::lock`] and [`client::shard`].
//!
//! # One request's journey
//!
//! 1. The server sleeps in poll until a socket is ready. It reads the clock once for the whole turn, and each
//!    ready socket once, into one buffer: [`hub::Hub::received`].
//! 2. The hub parses a frame in place and marks the session busy. What it cannot execute yet is kept as input.
//! 3. [`locks::Locks::apply`] carries the command out. Replies go into a queue, the grants to others among them.
//! 4. The hub drains that queue: each reply is written by the face of its session into that session's output.
//!    A session that was waiting may go on with what it had pipelined.
//! 5. Then [`hub::Hub::tick`]: leases and waits end that were due when everything that had arrived was heard. In a
//!    turn that has more to hear than it can take they wait, for some milliseconds at most. Work that may be long
//!    is cut into slices: the ends of thousands of holds (`locks/slices.rs`), the answer to stats
//!    (`hub/survey.rs`).
//! 6. The server writes each output once. A write that fails closes its session, whose locks go on, in the same
//!    turn, to the next in line.
//!
//! No call goes back up a ring.
//!
//! # The other side
//!
//! [`client`] is for programs that want a lock; it stands on [`wire::ask`], the other end of [`wire::text`]. `src/bin/dflock`
//! is dflock(1): `run` holds a lock while a command runs, `guard` sees to it that nobody holds it too long.
//!
//! # Glossary
//!
//! - **key**: the name of a lock or semaphore; its **limit** is how many may hold it.
//! - **hold**: what a grant begins and a **release** (by a client), an **expiry** (by time) or a **close** (of
//!   its session) ends. It is proved by a **token**, and lasts for a **lease** unless renewed.
//! - **waiter**: a session in the **queue** of a key. **ticket**: one wait or one hold.
//! - **fence**: the part of a token that rises with every grant; for the resource that the lock guards.
//! - **session**: one connection, as the hub sees it. **face**: the protocol it speaks.
//! - **turn**: once around the loop.

pub mod buffer;
pub mod client;
pub mod command;
pub mod config;
pub mod guests;
pub mod hub;
pub mod list;
pub mod locks;
pub mod log;
pub mod name;
pub mod server;
pub mod signals;
pub mod slab;
pub mod sys;
pub mod table;
pub mod wheel;
pub mod wire;
