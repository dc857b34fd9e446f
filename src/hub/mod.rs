//! Joins sessions, faces and the lock table: bytes in, bytes out, time an argument. It knows no socket, no clock
//! and no log, so simulations and fuzzers drive it as the server does. Invariant, once settled: no session that
//! is free to go on holds a complete request, and every reply is in the output of the session it is for.
//!
//! This file is what the server calls. A turn is [`Hub::begin_turn`], what came in, [`Hub::tick`], then
//! [`Hub::settle`] and a write to each session of [`Hub::next_write`] until there is none, and [`Hub::end_turn`].

mod access;
mod agenda;
#[cfg(feature = "http")]
mod answer_counts;
mod budget;
mod check;
mod counts;
mod event;
mod execute;
mod keep;
mod life;
mod listing;
#[cfg(feature = "http")]
mod metrics;
mod outlet;
mod post;
mod refusals;
#[cfg(feature = "http")]
mod rest;
mod session;
mod show;
mod standing;
mod stats;
#[cfg(feature = "http")]
mod status;
mod view;

use core::net::SocketAddr;

use crate::base::buffer::Pool;
use crate::base::slab::Slab;
use crate::base::wheel::Wheel;
use crate::command::{Command, SessionId, Us, WaitEdge, earlier};
use crate::facts::{Facts, Outbox, Protection};
use crate::locks::{self, Locks};
use crate::signals::Signals;
#[cfg(feature = "http")]
use crate::wire::http;
use crate::wire::{Face, Scratch};
use access::Secrets;
use agenda::Agenda;
use budget::Budget;
use counts::Tally;
pub use counts::{Connections, Snapshot, Vitals};
pub use event::{Happened, Somebody};
use keep::HeldBack;
use life::{Drain, LINGER};
pub use outlet::OUTPUT_MAX;
use post::Posts;
use refusals::Tallies;
pub use refusals::{Refusals, Refused};
use session::{Phase, Session};
pub use standing::Standing;

/// Bytes of a session's input that are kept while it cannot go on; then its socket is not read.
pub const INPUT_MAX: usize = 16 * 1024;

/// What the hub is told once, when it is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For the lock table.
    pub locks: locks::Settings,
    /// How well the holds are kept. If they are, the facts of each turn must be.
    pub protection: Protection,
    /// Subscriptions that a session may have; 0 sets no limit.
    pub max_subscriptions: u32,
    /// Bytes of signals that may wait for all sessions together; 0 sets no limit.
    pub max_backlog: usize,
    /// The secret that a session must say before anything else, if there is one.
    pub secret: Option<Vec<u8>>,
    /// The secret of administrators, if there is one. It serves as the other one too.
    pub admin: Option<Vec<u8>>,
    /// How long a line of a request may take, and the silence of a session that holds nothing; at least 1 s.
    pub read_timeout: Us,
    /// How long a peer may leave its output unread before it is disconnected; 0 sets no limit.
    pub write_timeout: Us,
    /// How long a drain may take; 0 sets no limit.
    pub shutdown_timeout: Us,
    /// For the REST face.
    #[cfg(feature = "http")]
    pub http: http::Settings,
}

/// What the kernel did with what [`Hub::next_write`] handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrote {
    /// It took all of it, or there was nothing.
    All,
    /// It took so many bytes, and no more for now.
    Some(usize),
    /// The connection is broken.
    Broken,
}

/// What the server is to do with a socket that it has written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing: the connection goes on.
    Keep,
    /// Shut its write side down and read on: what comes is discarded until the peer closes.
    Shut,
    /// Close it; the session is over.
    Close,
}

/// All sessions and what they share.
pub struct Hub {
    locks: Locks,
    signals: Signals,
    posts: Posts,
    /// What waits of signals, for all sessions together.
    budget: Budget,
    /// What the lock table has said and the hub has not acted on yet.
    outbox: Outbox,
    sessions: Slab<Session>,
    /// Sessions whose close is not decided.
    connections: Connections,
    /// Sessions of the line protocol.
    lines: usize,
    serial: u64,
    wheel: Wheel,
    pool: Pool,
    /// For what a face must decode before it can be read.
    scratch: Scratch,
    /// Requests of the REST face, and clients that were given a name.
    #[cfg(feature = "http")]
    exchanges: u64,
    agenda: Agenda,
    /// Sessions that have room for input again.
    resumed: Vec<SessionId>,
    /// Slots that are free from the next turn on.
    removed: Vec<u32>,
    drain: Option<Drain>,
    protection: Protection,
    held_back: HeldBack,
    /// Its part among others, if it is not alone; and who does, if it does not lead.
    standing: Option<Standing>,
    known: Option<Box<str>>,
    secrets: Secrets,
    /// Sessions whose breaks are not over, and where they are.
    breakers: Vec<(SessionId, Somebody)>,
    refusals: Tallies,
    tally: Tally,
    read_timeout: Us,
    write_timeout: Us,
    shutdown_timeout: Us,
    /// When the first turn was.
    born: Us,
    /// The time of the turn, and the wall clock then.
    now: Us,
    wall_us: u64,
}

impl Hub {
    /// A hub without sessions.
    pub fn new(settings: Settings) -> Hub {
        let secret = settings.locks.secret.first_chunk().expect("it has 32");
        Hub {
            signals: Signals::new(settings.max_subscriptions, secret),
            posts: Posts::default(),
            budget: Budget::new(settings.max_backlog),
            locks: Locks::new(settings.locks),
            outbox: Outbox {
                facts: match settings.protection {
                    Protection::Nothing => Facts::default(),
                    _ => Facts::kept(),
                },
                ..Outbox::default()
            },
            sessions: Slab::new(),
            connections: Connections::default(),
            lines: 0,
            serial: 0,
            wheel: Wheel::new(),
            pool: Pool::default(),
            scratch: Scratch {
                #[cfg(feature = "http")]
                http: settings.http,
                #[cfg(feature = "http")]
                exchange: None,
            },
            #[cfg(feature = "http")]
            exchanges: 0,
            agenda: Agenda::new(),
            resumed: Vec::new(),
            removed: Vec::new(),
            drain: None,
            protection: settings.protection,
            held_back: HeldBack::default(),
            standing: None,
            known: None,
            secrets: Secrets {
                client: settings.secret,
                admin: settings.admin,
            },
            breakers: Vec::new(),
            refusals: Tallies::default(),
            tally: Tally::default(),
            read_timeout: settings.read_timeout,
            write_timeout: settings.write_timeout,
            shutdown_timeout: settings.shutdown_timeout,
            born: Us::MAX,
            now: 0,
            wall_us: 0,
        }
    }

    /// A turn begins: all of it happens at `now`, by a wall clock that shows `wall_us`, in microseconds since 1970. A time
    /// before the last one counts as that.
    pub fn begin_turn(&mut self, now: Us, wall_us: u64) {
        self.now = self.now.max(now);
        self.born = self.born.min(self.now);
        self.wall_us = wall_us;
    }

    /// A peer has connected from this address. None if there are too many already: 2^24.
    pub fn opened(&mut self, face: Face, peer: SocketAddr) -> Option<SessionId> {
        if self.sessions.len() >= SessionId::SLOTS as usize {
            return None;
        }
        self.serial += 1;
        self.connections.enter(face);
        self.lines += usize::from(face.rules().drains);
        let slot = self.sessions.insert(Session::default());
        let session = &mut self.sessions[slot];
        session.id = SessionId::new(self.serial, slot);
        session.face = face;
        session.peer = Some(SocketAddr::new(peer.ip().to_canonical(), peer.port()));
        session.trusted = self.secrets.client.is_none() || !face.rules().needs_secret;
        session.newcomer = self.drain.is_some() && face.rules().drains;
        #[cfg(feature = "http")]
        if face == Face::Http {
            session.rest = Some(Box::default());
        }
        let id = session.id;
        self.extend_deadline(slot);
        if self.is_last_call() && self.has_no_place_in_drain(slot) {
            self.close_drained(slot);
        }
        Some(id)
    }

    /// Where the session's peer is.
    pub fn peer(&self, id: SessionId) -> Option<SocketAddr> {
        self.sessions[self.find(id)?].peer
    }

    /// The peer has shown a certificate with this name.
    pub fn named(&mut self, id: SessionId, name: &str) {
        if let Some(slot) = self.find(id) {
            self.sessions[slot].name = Some(name.into());
        }
    }

    /// How many bytes may be received for the session now. After 0 it will be in `next_resumed` when there is room,
    /// or `wrote` will say [`Next::Shut`].
    pub fn room(&mut self, id: SessionId) -> usize {
        let Some(slot) = self.find(id) else { return 0 };
        let room = self.sessions[slot].room();
        self.sessions[slot].paused = room == 0;
        room
    }

    /// The peer sent these bytes. Requests of a session that is free to go on are executed in place, unless others
    /// came before it.
    pub fn received(&mut self, id: SessionId, bytes: &[u8]) {
        let Some(slot) = self.find(id) else { return };
        let session = &mut self.sessions[slot];
        #[cfg(feature = "http")]
        if let Some(rest) = &mut session.rest {
            rest.heard = self.now;
        }
        match session.phase {
            Phase::Open | Phase::Skip => {
                let must_wait = session.is_blocked()
                    || session.share.queued
                    || !self.agenda.admits(&mut session.share);
                if !must_wait && session.input.is_empty() {
                    return self.execute_in_place(slot, bytes);
                }
                session.input.tail(&mut self.pool).extend_from_slice(bytes);
                if must_wait {
                    self.wake(slot);
                } else {
                    self.go_on(slot);
                }
            }
            Phase::Linger => self.discard(slot, bytes.len()),
            Phase::Reject | Phase::Flush { .. } | Phase::Gone => {}
        }
    }

    /// The peer has finished sending, and everything it sent was received. Requests that are whole are still executed and
    /// answered, then the session closes. A session that waits in a queue closes at once.
    pub fn finished(&mut self, id: SessionId) {
        // Another session's close may have granted it its lock already: then it does not wait any more.
        self.route();
        let Some(slot) = self.find(id) else { return };
        #[cfg(feature = "http")]
        if self.take_back(slot) {
            return self.closed(id);
        }
        let session = &mut self.sessions[slot];
        session.ended = true;
        let at_rest = session.is_idle() && session.input.is_empty();
        match session.phase {
            Phase::Open | Phase::Skip if session.waits() || at_rest => self.close(slot, false),
            Phase::Open | Phase::Skip => self.wake(slot),
            // The refusal goes out, and the close comes no sooner.
            Phase::Reject => {}
            Phase::Flush { .. } => session.phase = Phase::Flush { linger: false },
            Phase::Linger => self.give_up(slot),
            Phase::Gone => {}
        }
    }

    /// The peer has finished sending, but not all of it was received. If the session waits in a queue it closes, now or as
    /// soon as it begins to wait.
    pub fn hung_up(&mut self, id: SessionId) {
        // Another session's close may have granted it its lock already: then it does not wait any more.
        self.route();
        let Some(slot) = self.find(id) else { return };
        #[cfg(feature = "http")]
        if self.take_back(slot) {
            return self.closed(id);
        }
        self.sessions[slot].hung_up = true;
        if self.sessions[slot].waits() {
            // A close with input unread would be a reset, which eats the answers before.
            self.close(slot, true);
        }
    }

    /// The connection is broken: nothing can be sent any more.
    pub fn closed(&mut self, id: SessionId) {
        let Some(slot) = self.find(id) else { return };
        #[cfg(feature = "http")]
        self.take_back(slot);
        if self.sessions[slot].phase.is_open() {
            self.close(slot, false);
        }
        self.give_up(slot);
    }

    /// What the peer sends cannot be understood any more, so the session closes. What the server itself has told the peer of
    /// that still reaches it: its input is read for a moment.
    pub fn garbled(&mut self, id: SessionId) {
        let Some(slot) = self.find(id) else { return };
        #[cfg(feature = "http")]
        self.take_back(slot);
        if self.sessions[slot].phase.is_open() {
            self.close(slot, true);
        }
        self.sessions[slot]
            .outlet
            .clear(slot, &mut self.pool, &mut self.budget);
        self.mark_dirty(slot);
    }

    /// The kernel has room again for what a peer is to be sent.
    pub fn writable(&mut self, id: SessionId) {
        if let Some(slot) = self.find(id)
            && !self.sessions[slot].outlet.is_empty()
        {
            self.mark_dirty(slot);
        }
    }

    /// Time has passed. Called once a turn, after everything that had arrived until `heard` was received: what is due by
    /// then ends now. So a renewal that is in the socket comes before the end of its lease.
    #[inline(always)]
    pub fn tick(&mut self, heard: Us) {
        let tick = Command::Tick { heard };
        self.locks
            .apply(self.now, SessionId::NOBODY, tick, &mut self.outbox);
        // The table has a budget of its own for that.
        self.locks.take_work();
        self.route();
        self.time_out_some(heard);
        // Most turns have none of these, and the calls would be a fiftieth of a ping.
        if self.signals.is_leaving() {
            self.forget_listeners();
        }
        if !self.posts.is_empty() {
            self.emit_some();
        }
        if self.drain.is_some() {
            self.drain_some();
        }
        if !self.agenda.listings.is_empty() {
            self.list_some();
        }
    }

    /// Executes what sessions have ready and hands out replies, until nobody can move or the turn's share of
    /// work is done.
    pub fn settle(&mut self) {
        self.route();
        while let Some((slot, is_old)) = self.agenda.next_session() {
            let session = &mut self.sessions[slot];
            session.share.queued = false;
            if is_old {
                self.agenda.give(&mut session.share);
            }
            if !session.phase.is_open() {
                continue;
            }
            if session.is_blocked() {
                // Its listing began while it stood in this queue.
                self.wake(slot);
                continue;
            }
            self.go_on(slot);
            self.route();
        }
    }

    /// A session that must be written to, and those of its bytes that may go, perhaps none. [`Hub::wrote`] says what came of it, before
    /// anything else is called.
    pub fn next_write(&mut self) -> Option<(SessionId, &[u8])> {
        let slot = self.agenda.next_dirty()?;
        self.sessions[slot].dirty = false;
        match self.is_all_kept() {
            true => self.sessions[slot].outlet.free_all(),
            false => self.hold_back(slot),
        }
        let session = &self.sessions[slot];
        Some((session.id, session.outlet.free()))
    }

    /// All that the session's peer has not taken yet, to look at.
    pub fn output(&self, id: SessionId) -> &[u8] {
        self.find(id)
            .map_or(&[], |slot| self.sessions[slot].outlet.bytes())
    }

    /// What the kernel took of the bytes that [`Hub::next_write`] handed out. Returns what becomes of the connection.
    pub fn wrote(&mut self, id: SessionId, wrote: Wrote) -> Next {
        let Some(slot) = self.find(id) else {
            return Next::Close;
        };
        match wrote {
            Wrote::All => self.took(slot, self.sessions[slot].outlet.free().len()),
            Wrote::Some(n) => {
                self.took(slot, n);
                self.expect_progress(slot);
                self.sessions[slot].outlet.refused();
            }
            Wrote::Broken => self.broken(slot),
        }
        let session = &mut self.sessions[slot];
        match session.phase {
            Phase::Flush { .. } if !session.outlet.is_empty() => Next::Keep,
            Phase::Flush { linger: true } => {
                session.phase = Phase::Linger;
                self.set_deadline(slot, self.now.saturating_add(LINGER));
                Next::Shut
            }
            Phase::Flush { linger: false } | Phase::Gone => {
                session.phase = Phase::Gone;
                session.left_server = true;
                self.remove_if_left(slot);
                Next::Close
            }
            Phase::Open | Phase::Skip | Phase::Reject | Phase::Linger => Next::Keep,
        }
    }

    /// The write has failed: the session is over, and needs no other.
    fn broken(&mut self, slot: u32) {
        self.sessions[slot].dirty = true;
        self.closed(self.sessions[slot].id);
        self.sessions[slot].dirty = false;
    }

    fn took(&mut self, slot: u32, n: usize) {
        let session = &mut self.sessions[slot];
        let was_full = session.outlet.is_full();
        session
            .outlet
            .took(slot, n, &mut self.pool, &mut self.budget);
        if n > 0 {
            session.write_due = Us::MAX;
        }
        #[cfg(feature = "http")]
        if session.rest.is_some() && session.outlet.is_empty() {
            self.sent(slot);
        }
        let session = &mut self.sessions[slot];
        if was_full && !session.outlet.is_full() {
            self.wake(slot);
            self.resume(slot);
            if self.sessions[slot].phase == Phase::Open {
                self.extend_deadline(slot);
            }
        }
    }

    /// Takes a session that had no room for input and has some now: bytes may be in its socket of which no edge will tell.
    pub fn next_resumed(&mut self) -> Option<SessionId> {
        self.resumed.pop()
    }

    /// The turn is over: the next one has a budget of its own, and slots of sessions that are gone can be used again.
    /// `took` is how long it took, if it was timed.
    // With most turns there is nothing to do, and a call costs each ping a hundredth.
    #[inline(always)]
    pub fn end_turn(&mut self, took: Option<Us>) {
        self.agenda.end_turn();
        if self.outbox.facts.is_full() {
            self.agenda.exhaust();
        }
        self.tally.end_turn(took);
        if !self.removed.is_empty() {
            self.free_removed();
        }
    }

    /// Slots of sessions that are gone can be used again.
    #[inline(never)]
    fn free_removed(&mut self) {
        for slot in std::mem::take(&mut self.removed) {
            if self.sessions[slot].share.queued {
                // A queue still has it, which must not find another session in its place.
                self.removed.push(slot);
                continue;
            }
            self.wheel.cancel(&mut self.sessions, slot);
            let session = self.sessions.remove(slot);
            self.lines -= usize::from(session.face.rules().drains);
        }
    }

    /// When the next turn must be, if no socket asks for one before; in the past while work is put off.
    #[inline(always)]
    pub fn deadline(&self) -> Option<Us> {
        // While there are too many facts, what is kept wakes the loop.
        let put_off = self.agenda.is_put_off() && !self.outbox.facts.is_full()
            || !self.posts.is_empty()
            || self.signals.is_leaving();
        if put_off {
            return Some(0);
        }
        let due = earlier(self.locks.deadline(), self.wheel.next());
        earlier(due, self.drain_deadline())
    }

    /// Whether requests that were received wait for a later turn: leases should not end before them.
    pub fn is_behind(&self) -> bool {
        self.agenda.is_behind()
    }

    /// How many connections there are whose close is not decided.
    pub fn connections(&self) -> usize {
        self.connections.all()
    }

    /// How many sessions of the line protocol there are, closing ones included: those that a drain waits for.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// How many sessions there are, closing ones included.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Takes one of the deadlocks of this turn: who waits for what, the one that was refused first.
    pub fn next_knot(&mut self) -> Option<Vec<WaitEdge>> {
        self.locks.take_knot()
    }

    /// Whether there is a deadlock, an event or a refusal that was not taken yet.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.locks.has_news() || self.refusals.any()
    }

    /// The lock table, to look at.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    // A call would be ten for each request: with those of `Buffer`, 4 % of its instructions.
    #[inline(always)]
    fn find(&self, id: SessionId) -> Option<u32> {
        let slot = id.slot();
        (id != SessionId::NOBODY && self.sessions[slot].id == id).then_some(slot)
    }
}
