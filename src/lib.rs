//! A lock server on one thread. This page is the map; start here.
//!
//! # Three rings, one direction
//!
//! ```text
//! +------- server/: sockets, clock, dice, unix signals -------------+
//! |   +--- hub/: sessions and faces; bytes in, bytes out -------+   |
//! |   |   +--- locks/, signals/: commands in, replies out ---+  |   |
//! |   |   |    command.rs, facts.rs: the words of both       |  |   |
//! |   |   +--------------------------------------------------+  |   |
//! |   |   wire/: requests in, replies out                       |   |
//! |   +---------------------------------------------------------+   |
//! |   store/ (what outlives us)   sys/   tls/   config/   log.rs    |
//! +-----------------------------------------------------------------+
//!
//! main -> server -> hub -> locks, signals -> base -> command
//!           |        +---> wire -> command
//!           +----> store, sys, tls, config, log   store -> facts, sys, tls
//! client -> wire, sys, tls                       for other programs
//! ```
//!
//! Only the outer ring may block, read the clock, draw randomness, log, or see an `io::Error`. The inner two are plain
//! values, so tests drive them with no socket and no waiting. Imports point inwards; `tests/outer/tidy` holds the
//! table.
//!
//! **Where does a line of code go?** It knows a socket, a file or the clock: [`server`], [`store`], [`sys`]. It knows the
//! bytes of a protocol: [`wire`]. It knows a connection, but no bytes of it: [`hub`]. It knows who may hold what:
//! [`locks`]. It would serve any program: [`base`].
//!
//! # The files
//!
//! - **[`command`]** is the vocabulary of commands, replies, notices and tokens. **[`facts`]** are what must outlive the
//!   process, as bytes.
//! - **[`locks`]** is the lock table. `mod.rs` has `apply`, the one way in. A request for a key begins in `acquire.rs`,
//!   in two phases in `phases.rs`, without a session in `claim.rs`. `attempt.rs` has requests that can be repeated,
//!   `ended.rs` those that their client has ended, `extra.rs` kept places and holds that renew themselves. A hold
//!   begins, moves and ends in `grant.rs`. `breaking.rs` ends holds for an administrator. `key.rs` and `ticket.rs` are
//!   the records, `owner.rs` says whose they are and moves them to another session, `knot.rs` finds deadlocks,
//!   `slices.rs` ends what is due and cuts what may be long, `idle.rs` forgets unused keys, `crowd.rs` indexes large
//!   semaphores, `view.rs` is what listings show, `event.rs` what a log is told, `secret.rs` hashes, `counts.rs`
//!   counts. `recover.rs` makes a table from facts and states all holds again, `quarantine.rs` grants nothing for a
//!   while after a start, `spans.rs` knows the longest lease that is out.
//! - **[`signals`]**, beside it, is who listens to what: `patterns.rs` is the tree of patterns, `emission.rs` one
//!   signal's way to its listeners.
//! - **[`hub`]** joins sessions, faces and the two tables. `mod.rs` is what the server calls; `execute.rs` turns bytes
//!   into requests and replies into bytes; `agenda.rs` says what comes next and how much of it; `outlet.rs` is a
//!   session's output, and says when a reader is too slow: `post.rs` or a deadline in `life.rs` then cuts it off;
//!   `budget.rs` is what waits of signals for all readers together; `life.rs` is how a session ends; `session.rs` is
//!   its record; `access.rs` says who may do what; `listing.rs` gives long answers in slices, of which `stats.rs`,
//!   `show.rs` and `status.rs` write one each from what `view.rs` lets them look at; `rest` carries HTTP requests out;
//!   `standing.rs` says whether this server leads, and who does if not;
//!   `post.rs` is signals on their way; `keep.rs` gives facts to the server, holds back the outputs that wait for them,
//!   and takes holds of a former life; `counts.rs` is the snapshot of all counts, `metrics.rs` gives it to a scraper,
//!   `answer_counts.rs` counts answers to HTTP requests, `refusals.rs` and `event.rs` are what the log is to be told.
//!   Here and in both tables `check.rs` has the invariants, for tests.
//! - **[`wire`]** is the faces. `mod.rs` has the one table of what they differ in; [`wire::text`], [`wire::distlockd`]
//!   and [`wire::http`] are their bytes, and the status page and the description of the REST face lie beside the last.
//!   [`wire::json`] is what listings write, [`wire::metrics`] what a scraper reads, [`wire::ask`] is the client's end
//!   of the line protocol.
//! - **[`server`]** is the loop. `settings.rs` gives the inner rings what options say, `keep.rs` keeps facts before any
//!   byte that follows from them leaves, and begins with what was kept. Where several servers share a store, `cluster.rs`
//!   does that, and `lead.rs` stands by, takes the lead and hands it over; `no_etcd.rs` is for a build without etcd.
//!   `ending.rs` is how the server ends. `places.rs` says where clients come in, `doors.rs` listens there and accepts with
//!   what `world.rs` has of the rest; `limits.rs` counts connections, `socket.rs` reads and writes when an edge says so,
//!   over the plain or TLS `stream.rs`. `tls.rs` is
//!   the certificate in force, `clients.rs` says which certificates of clients are good, `handshakes.rs` and
//!   `handshake_queue.rs` let clients agree on them without holding up others. `turns.rs` notices a turn that comes too
//!   late, `reload.rs` reads token files again, `manager.rs` tells a service manager how the server is; `lines.rs`,
//!   `refusals.rs` and `trail.rs` log what the server was told, what was refused and what happened to locks.
//! - **[`store`]** is what outlives the process: `ledger.rs` survives a loss of power, `journal/` carries the holds over a
//!   restart. There `segment.rs` and `disk.rs` are its bytes and its steps, `read.rs` says whether it is whole, and
//!   `recovered.rs` which holds it leaves. For several servers on one store, as with `--etcd`, `leadership.rs` says who
//!   leads, `log.rs` has batches of facts as bytes, `log/writer.rs` makes them, and `etcd/` asks etcd, in a thread of its
//!   own. For both `history.rs` makes holds of facts, and `sweep.rs` states all holds again.
//! - **`tls`**, in a build that has it, is TLS over any socket, for both ends: `secure.rs` one session, `pem.rs` the files,
//!   `certificate.rs` what a certificate says.
//! - **[`base`]** is containers: `wheel` times, `slab` and `grid` store, `list` links, `table` finds, `name` and `buffer`
//!   hold bytes, `histogram` counts, `date` is the calendar, `got` is what a read brings.
//! - **[`sys`]** is what Linux has and std has not; only there may code be unchecked by the compiler. **[`config`]** is
//!   the one table of options; `config/given.rs` takes what a service manager hands over, `config/file.rs` reads files,
//!   `config/tls.rs` knows which files of TLS belong together, `config/state.rs` where ledger and journal are,
//!   `config/etcd.rs` which etcd the servers share, `config/leases.rs` which leases are too long, and
//!   `config/exposure.rs` which addresses other hosts can reach. **[`log`]** writes lines, and waits for nobody.
//! - **[`client`]** is not in the server: it is for programs that want a lock, and stands on [`wire::ask`].
//!   `client/lease.rs` decides when to renew and when a lock is lost; `keeper.rs` does so in a thread, over a `link.rs`
//!   that does not block. `connect.rs` begins a connection, `sites.rs` knows the addresses of a server and its alternatives,
//!   `turns.rs` whose turn it is, `dial.rs` finds the one that answers, `queue.rs` pings it beside a wait, `stream.rs`
//!   is plain or TLS.
//!   `src/bin/dflock` is dflock(1). Libraries of other languages speak HTTP and stand in `clients/`.
//!
//! To read it all, take that order; `locks/grant.rs` and `hub/execute.rs` are the heart.
//!
//! # One request's journey
//!
//! 1. The server sleeps in poll until a socket is ready. It reads the clock once: [`hub::Hub::begin_turn`]. The whole
//!    turn happens at that time.
//! 2. Every ready socket is read once, into one buffer: [`hub::Hub::received`]. Nothing is written yet; an edge that
//!    says "room to write" only marks its session.
//! 3. The session's face parses a frame in place, and the hub carries the request out, unless other sessions come first
//!    (`hub/agenda.rs`). What cannot be executed yet is kept as input.
//! 4. [`locks::Locks::apply`] carries a command out. The outbox then holds replies, among them grants to other
//!    sessions, and notices for the hub. The face of each session writes its reply into the session's output.
//! 5. [`hub::Hub::tick`]: leases and waits end that were due when everything that had arrived was heard. Work that may
//!    be long goes on by a slice: ends of many holds, subscriptions of listeners that are gone, signals, listings.
//! 6. [`hub::Hub::settle`] executes what sessions have ready, until the turn's budget of work is spent. Then the facts of
//!    the turn go to the [`store`] (`server/keep.rs`), and each marked session is written to once:
//!    [`hub::Hub::next_write`], [`hub::Hub::wrote`]. A write that fails closes its session, whose locks go to the next in
//!    line in the same turn. This step repeats until nothing is left to be written.
//!
//! No call goes back up a ring.
//!
//! # A signal's journey
//!
//! 1. The hub puts it on its way (`hub/post.rs`), and its session waits for the answer. Signals to one channel follow
//!    each other; signals to different channels take turns, a slice each.
//! 2. The hub asks [`signals::Signals::next`] for one listener after the other, and writes the line into the output of
//!    each. A listener that has left too much unread gets none, and is cut off unless another of its group takes it. When
//!    all together have left too much, the listener with most is cut off first.
//! 3. When every listener was asked, the session that sent the signal is told how many got it.
//!
//! # Glossary
//!
//! - **key**: the name of a lock or semaphore; its **limit** is how many may hold it.
//! - **hold**: begins with a grant, and ends by a **release** (a client), an **expiry** (time), a **close** (the end of
//!   its session) or a **break** (an administrator). A **token** proves it. It lasts for its **lease** unless renewed.
//!   It is **bound** by its session, or by its lease alone, as after a **detach**.
//! - **waiter**: a session in the **queue** of a key. **ticket**: the record of one wait or one hold.
//! - **fence**: the part of a token that rises with every grant; for the resource that the lock guards.
//! - **fact**: something that happened to a hold, as bytes. The **journal** has all facts, the **ledger** bounds leases
//!   and fences. In a **quarantine** nothing is granted, because leases from before the start may not be over.
//! - **owner**: whose waits and holds they are: a session, or all that have declared the same name. Owners that wait
//!   for each other are in a **knot**, a deadlock.
//! - **claim**: a hold that an owner takes and gives back by its name, without a session. Its **realm** is where the
//!   name is from: equal names of two realms are two owners.
//! - **signal**: a payload sent to a **channel**, for every listener whose **pattern** matches. Listeners with the same
//!   pattern and the same **group**, or none, are an **audience**: all of it hear a signal, or one of a group in turn.
//!   One listener in one audience is a **subscription**. The signals of [`sys`] are Unix's.
//! - **session**: one connection, as the hub sees it. **face**: the protocol it speaks. **door**: where clients of one
//!   face come in.
//! - **turn**: once around the loop. **work**: what a turn may cost, in units of 100 ns; a session has a **share** of
//!   it.

pub mod base;
pub mod client;
pub mod command;
pub mod config;
pub mod facts;
pub mod hub;
pub mod locks;
pub mod log;
pub mod server;
pub mod signals;
pub mod store;
pub mod sys;
#[cfg(feature = "tls")]
pub mod tls;
pub mod wire;
