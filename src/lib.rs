//! A lock server on one thread. This page is the map; start here.
//!
//! # Three rings, one direction
//!
//! ```text
//! main -> server -> hub -> locks, signals -> base
//!           |        |
//!           |        +-> wire (text, distlockd), base
//!           +-> sys, log, config             all of them -> command
//!
//! client -> wire, sys                          the other end, for other programs
//! ```
//!
//! - **[`locks`]** is the lock table: commands in, replies out. Time is an argument, nothing is random, nothing
//!   can fail. Only it knows what a lock is.
//! - **[`signals`]**, beside it, is who listens to what. It knows nothing of locks, nor they of it.
//! - **[`hub`]** is sessions and faces around the two: bytes in, bytes out. Parsing, pipelining, the order of answers,
//!   deadlines of connections and their ends happen here.
//! - **[`server`]** is the world: sockets, clock, unix signals, log. It moves bytes and decides nothing.
//! - **[`client`]** is not in the server: who wants a lock from Rust uses it. It is of the outer ring too.
//!
//! Only the outer ring may block, read the clock, draw randomness, log, or see an `io::Error`. The inner two are
//! plain values, so the tests drive them with no socket and no waiting.
//!
//! # Reading order
//!
//! [`command`] (the words), [`locks`] (with `locks/grant.rs`, where a lock changes hands, `locks/phases.rs`, two
//! phases, then `locks/owner.rs` and `locks/knot.rs`, deadlocks), [`signals`] (with `signals/patterns.rs` and
//! `signals/emission.rs`, how a signal finds who listens), [`hub`] (with `hub/life.rs`, how a session ends, and
//! `hub/post.rs`), [`wire::Face`], [`wire::text`], [`wire::distlockd`], [`server`], then what they stand on:
//! [`base`] (wheel, slab, list, table, name, buffer, date), [`sys`], [`config`], [`log`]. And by
//! itself: [`client`], with [`client::lease`] (when to renew, when it is lost), [`client::lock`], [`client::signals`] and
//! [`client::shard`].
//!
//! # One request's journey
//!
//! 1. The server sleeps in poll until a socket is ready. It reads the clock once for the whole turn, and each
//!    ready socket once, into one buffer: [`hub::Hub::received`].
//! 2. The session's face parses a frame in place, and the hub marks the session busy. What it cannot execute yet is
//!    kept as input.
//! 3. [`locks::Locks::apply`] carries the command out. Replies go into a queue, the grants to others among them.
//! 4. The hub drains that queue: each reply is written by the face of its session into that session's output.
//!    A session that was waiting may go on with what it had pipelined.
//! 5. Then [`hub::Hub::tick`]: leases and waits end that were due when everything that had arrived was heard. In a
//!    turn that has more to hear than it can take they wait, for some milliseconds at most. Work that may be long
//!    is cut into slices: the ends of thousands of holds (`locks/slices.rs`) or subscriptions, the answer to stats
//!    (`hub/listing.rs`).
//! 6. The server writes each output once. A write that fails closes its session, whose locks go on, in the same
//!    turn, to the next in line.
//!
//! No call goes back up a ring.
//!
//! # A signal's journey
//!
//! 1. The hub puts it behind those that are on their way, and its session waits for the answer (`hub/post.rs`).
//! 2. The hub asks [`signals::Signals::next`] for one listener after the other, and writes the line into the output of
//!    each. One whose peer has left too much untaken (`hub/backlog.rs`) gets none, and is cut off unless another of its
//!    group takes it.
//! 3. When the turn's share of work is done the rest goes on in the next. When nobody is left the sender is told how
//!    many there were, and the next signal begins.
//!
//! # The other side
//!
//! [`client`] is for programs that want a lock; it stands on [`wire::ask`], the other end of [`wire::text`].
//! `src/bin/dflock` is dflock(1): `run` holds a lock while a command runs, `guard` ends the command before the lease if
//! dflock cannot, `steps` are the tasks that hold nothing, `bench` measures servers.
//!
//! # Glossary
//!
//! - **key**: the name of a lock or semaphore; its **limit** is how many may hold it.
//! - **hold**: what a grant begins and a **release** (by a client), an **expiry** (by time) or a **close** (of
//!   its session) ends. It is proved by a **token**, and lasts for a **lease** unless renewed.
//! - **waiter**: a session in the **queue** of a key. **ticket**: one wait or one hold.
//! - **fence**: the part of a token that rises with every grant; for the resource that the lock guards.
//! - **owner**: whose waits and holds are: a session, or all that have declared the same name. Owners who wait for each
//!   other tie a **knot**, a deadlock.
//! - **signal**: a payload on its way to those who listen to its **channel**, by a **pattern** that matches. Those who
//!   say the same pattern and the same **group**, or none, are an **audience**: all of it hear a signal, of a group one
//!   in turn. One listener in one audience is a **subscription**. The signals of [`sys`] are Unix's.
//! - **claim**: a hold of an owner that is no session's, taken and given back (**yield**) by the owner's name. Its
//!   **realm** is where that name is from: equal names of two realms are two owners.
//! - **session**: one connection, as the hub sees it. **face**: the protocol it speaks. **door**: where clients of one
//!   face come in.
//! - **turn**: once around the loop.

pub mod base;
pub mod client;
pub mod command;
pub mod config;
pub mod hub;
pub mod locks;
pub mod log;
pub mod server;
pub mod signals;
pub mod sys;
pub mod wire;
