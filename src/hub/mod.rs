//! Joins sessions, faces and the lock table: bytes in, bytes out, time an argument. It knows no socket, no clock
//! and no log, so simulations and fuzzers drive it as the server does. Invariant, once settled: no session that
//! is free to go on holds a complete request, and every reply is in the output of the session it is for.
//!
//! A session has one request outstanding; what it sends meanwhile waits, unparsed, in its input.

mod backlog;
mod check;
mod life;
mod listing;
mod post;
mod session;

use std::collections::VecDeque;

use crate::base::buffer::Pool;
use crate::base::slab::Slab;
use crate::base::wheel::Wheel;
use crate::command::{Command, Notice, Outbox, Refusal, Reply, SessionId, Tie, Us};
use crate::locks::{self, Locks};
use crate::signals::Signals;
use crate::wire::{Face, Parsed, Request, text};
use life::{Drain, LINGER};
use listing::Survey;
use post::{FUEL_A_TURN, Post};
use session::{Busy, Phase, Session};

/// Bytes of a session's input that are kept while it cannot go on; then its socket is not read.
pub const INPUT_MAX: usize = 16 * 1024;
/// While this much of a session's output is not taken by its peer, its requests are not executed.
pub const OUTPUT_MAX: usize = 64 * 1024;
/// Requests that one session may have executed in a row, before the others have their turn.
const REQUESTS_A_SESSION: u32 = 128;
/// Work of one turn, in requests of some microsecond each.
const WORK_A_TURN: u32 = 4096;
/// What a session that has something to be sent counts: a system call.
const SEND: u32 = 8;
/// Holds that a search for a deadlock looks at for what a request costs.
const LOOKS_A_REQUEST: u64 = 10;

/// What the hub is told once, when it is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For the lock table.
    pub locks: locks::Settings,
    /// Subscriptions that a connection may have; 0 is any number.
    pub max_subscriptions: u32,
    /// What a connection must say before anything else, if something.
    pub secret: Option<Vec<u8>>,
    /// How long a line of a request, or an idle connection that holds nothing, may take; at least 1 s.
    pub read_timeout: Us,
    /// How long a peer may take to read some of what it is sent; 0 is for ever.
    pub write_timeout: Us,
    /// How long a drain may take; 0 is for ever.
    pub shutdown_timeout: Us,
}

/// What the server is to do with a socket whose output it has written.
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
    /// Signals on their way, in order.
    posts: VecDeque<Post>,
    /// For the line of the next signal.
    spare_line: Vec<u8>,
    /// What signals may still cost in this turn.
    fuel: u32,
    /// What the lock table has said and nobody has acted on.
    outbox: Outbox,
    sessions: Slab<Session>,
    /// Sessions whose close is not decided.
    connections: usize,
    /// Sessions of the line protocol.
    lines: usize,
    serial: u64,
    wheel: Wheel,
    pool: Pool,
    /// Slots of sessions that may have a complete request.
    ready: VecDeque<u32>,
    /// The same, when they or the turn have had their share.
    later: VecDeque<u32>,
    /// Slots of sessions whose long answers go on when the others have had their turn.
    surveys: VecDeque<u32>,
    /// Work left in this turn, in requests.
    work: u32,
    /// Slots of sessions whose sockets the server must look after.
    dirty: VecDeque<u32>,
    /// Sessions that have room for input again.
    resumed: Vec<SessionId>,
    /// Slots that are free from the next turn on.
    buried: Vec<u32>,
    drain: Option<Drain>,
    secret: Option<Vec<u8>>,
    read_timeout: Us,
    write_timeout: Us,
    shutdown_timeout: Us,
}

impl Hub {
    /// A hub without sessions.
    pub fn new(settings: Settings) -> Hub {
        let secret = settings.locks.secret.first_chunk().expect("it has 32");
        Hub {
            signals: Signals::new(settings.max_subscriptions, secret),
            posts: VecDeque::new(),
            spare_line: Vec::new(),
            fuel: FUEL_A_TURN,
            locks: Locks::new(settings.locks),
            outbox: Outbox::default(),
            sessions: Slab::new(),
            connections: 0,
            lines: 0,
            serial: 0,
            wheel: Wheel::new(),
            pool: Pool::default(),
            ready: VecDeque::new(),
            later: VecDeque::new(),
            surveys: VecDeque::new(),
            work: WORK_A_TURN,
            dirty: VecDeque::new(),
            resumed: Vec::new(),
            buried: Vec::new(),
            drain: None,
            secret: settings.secret,
            read_timeout: settings.read_timeout,
            write_timeout: settings.write_timeout,
            shutdown_timeout: settings.shutdown_timeout,
        }
    }

    /// A peer has connected. None if there are too many already: 2^24.
    pub fn opened(&mut self, now: Us, face: Face) -> Option<SessionId> {
        if self.sessions.len() >= SessionId::SLOTS as usize {
            return None;
        }
        self.serial += 1;
        self.connections += 1;
        self.lines += usize::from(face == Face::Text);
        let slot = self.sessions.insert(Session::default());
        let session = &mut self.sessions[slot];
        session.id = SessionId::new(self.serial, slot);
        session.face = face;
        session.trusted = self.secret.is_none() || face == Face::Distlockd;
        let id = session.id;
        self.extend_deadline(now, slot);
        Some(id)
    }

    /// How many bytes may be received for the session now. After 0 it will be in `resumed` when there is room,
    /// or `next` will say [`Next::Shut`].
    pub fn room(&mut self, id: SessionId) -> usize {
        let Some(slot) = self.find(id) else { return 0 };
        let room = self.sessions[slot].room();
        self.sessions[slot].paused = room == 0;
        room
    }

    /// The peer sent these bytes. Requests of a session that is free to go on are executed in place.
    pub fn received(&mut self, now: Us, id: SessionId, bytes: &[u8]) {
        let Some(slot) = self.find(id) else { return };
        let session = &mut self.sessions[slot];
        match session.phase {
            // Who came before is served before.
            Phase::Open | Phase::Skip
                if session.is_blocked() || session.ready || !self.ready.is_empty() =>
            {
                session.input.tail(&mut self.pool).extend_from_slice(bytes);
                self.wake(slot);
            }
            // A frame that began earlier.
            Phase::Open | Phase::Skip if !session.input.is_empty() => {
                session.input.tail(&mut self.pool).extend_from_slice(bytes);
                self.go_on(now, slot);
            }
            Phase::Open | Phase::Skip => {
                let used = self.execute(now, slot, bytes);
                let session = &mut self.sessions[slot];
                if session.phase.is_open() && used < bytes.len() {
                    session
                        .input
                        .tail(&mut self.pool)
                        .extend_from_slice(&bytes[used..]);
                }
            }
            Phase::Linger => self.discard(slot, bytes.len()),
            Phase::Reject | Phase::Flush { .. } | Phase::Gone => {}
        }
    }

    /// The peer has finished sending and everything it sent was received: whole requests are still executed and
    /// answered, unless one waits; then the session closes.
    pub fn finished(&mut self, now: Us, id: SessionId) {
        // What another's close has granted it already is its answer: it waits no longer.
        self.route(now);
        let Some(slot) = self.find(id) else { return };
        let session = &mut self.sessions[slot];
        session.ended = true;
        let at_rest = session.is_idle() && session.input.is_empty();
        match session.phase {
            Phase::Open | Phase::Skip if session.waits() || at_rest => self.close(now, slot, false),
            Phase::Open | Phase::Skip => self.wake(slot),
            // It hears what it was told, and not a moment sooner.
            Phase::Reject => {}
            Phase::Flush { .. } => session.phase = Phase::Flush { linger: false },
            Phase::Linger => self.give_up(slot),
            Phase::Gone => {}
        }
    }

    /// The peer has finished sending, but there is no room to receive all of it: if the session waits, or as
    /// soon as it does, its peer is gone.
    pub fn hung_up(&mut self, now: Us, id: SessionId) {
        // What another's close has granted it already is its answer: it waits no longer.
        self.route(now);
        let Some(slot) = self.find(id) else { return };
        self.sessions[slot].hung_up = true;
        if self.sessions[slot].waits() {
            // A close with input unread would be a reset, and eat what was answered before.
            self.close(now, slot, true);
        }
    }

    /// The connection is broken: nothing can be sent any more.
    pub fn closed(&mut self, now: Us, id: SessionId) {
        let Some(slot) = self.find(id) else { return };
        if self.sessions[slot].phase.is_open() {
            self.close(now, slot, false);
        }
        self.give_up(slot);
    }

    /// Time has passed. Called once a turn, after what was received: everything that had arrived until `heard` is
    /// among that, so what is due by then has not been prevented by anybody. A renewal that is already here comes
    /// before the end of its lease.
    pub fn tick(&mut self, now: Us, heard: Us) {
        let tick = Command::Tick { heard };
        self.locks
            .apply(now, SessionId::NOBODY, tick, &mut self.outbox);
        // The table has counted them itself.
        self.locks.take_looks();
        self.route(now);
        self.time_out_some(now, heard);
        self.forget_listeners();
        self.emit_some(now);
        self.drain_some(now);
        self.survey_some(now);
    }

    /// Executes what sessions have ready and hands out replies, until nobody can move or the turn's share of
    /// work is done.
    pub fn settle(&mut self, now: Us) {
        self.route(now);
        while self.work > 0
            && let Some(slot) = self.ready.pop_front()
        {
            self.sessions[slot].ready = false;
            if !self.sessions[slot].phase.is_open() {
                continue;
            }
            if matches!(self.sessions[slot].busy, Busy::Surveying(_)) {
                // It began while the session was in this queue.
                self.wake(slot);
                continue;
            }
            self.go_on(now, slot);
            self.route(now);
        }
    }

    /// Executes what a session has in its input, as far as it can go on.
    fn go_on(&mut self, now: Us, slot: u32) {
        let mut input = std::mem::take(&mut self.sessions[slot].input);
        let used = self.execute(now, slot, input.bytes());
        if self.sessions[slot].phase.is_open() {
            input.consume(used, &mut self.pool);
            self.sessions[slot].input = input;
            self.resume(slot);
        } else {
            input.clear(&mut self.pool);
        }
    }

    /// A session whose socket must be looked after: write its output, then ask `next`.
    pub fn next_dirty(&mut self) -> Option<SessionId> {
        let slot = self.dirty.pop_front()?;
        self.sessions[slot].dirty = false;
        Some(self.sessions[slot].id)
    }

    /// What is to be sent to the peer.
    pub fn output(&self, id: SessionId) -> &[u8] {
        self.find(id)
            .map_or(&[], |slot| self.sessions[slot].output.bytes())
    }

    /// The kernel has taken the first `n` bytes of the output.
    pub fn sent(&mut self, now: Us, id: SessionId, n: usize) {
        let Some(slot) = self.find(id) else { return };
        let session = &mut self.sessions[slot];
        let was_full = session.output.len() >= OUTPUT_MAX;
        session.output.consume(n, &mut self.pool);
        if n > 0 {
            session.write_due = Us::MAX;
            if let Some(backlog) = &mut session.backlog {
                backlog.sent(n);
            }
        }
        if was_full && session.output.len() < OUTPUT_MAX {
            self.wake(slot);
            self.resume(slot);
            if self.sessions[slot].phase == Phase::Open {
                self.extend_deadline(now, slot);
            }
        }
    }

    /// What becomes of the connection now that its output was written as far as it could be.
    pub fn next(&mut self, now: Us, id: SessionId) -> Next {
        let Some(slot) = self.find(id) else {
            return Next::Close;
        };
        if !self.sessions[slot].output.is_empty() {
            self.expect_progress(now, slot);
            if let Some(backlog) = &mut self.sessions[slot].backlog {
                backlog.refused();
            }
        }
        let session = &mut self.sessions[slot];
        match session.phase {
            Phase::Flush { .. } if !session.output.is_empty() => Next::Keep,
            Phase::Flush { linger: true } => {
                session.phase = Phase::Linger;
                self.set_deadline(slot, now.saturating_add(LINGER));
                Next::Shut
            }
            Phase::Flush { linger: false } | Phase::Gone => {
                session.phase = Phase::Gone;
                session.left_server = true;
                self.bury_if_left(slot);
                Next::Close
            }
            Phase::Open | Phase::Skip | Phase::Reject | Phase::Linger => Next::Keep,
        }
    }

    /// Takes a session that said it had no room and has some now: its socket may have bytes whose coming was
    /// signalled long ago.
    pub fn next_resumed(&mut self) -> Option<SessionId> {
        self.resumed.pop()
    }

    /// The turn is over: what it put off comes first in the next one, and slots that came free can be used.
    pub fn end_turn(&mut self) {
        self.work = WORK_A_TURN;
        self.fuel = FUEL_A_TURN;
        self.ready.append(&mut self.later);
        for slot in self.buried.drain(..) {
            self.wheel.cancel(&mut self.sessions, slot);
            let session = self.sessions.remove(slot);
            self.lines -= usize::from(session.face == Face::Text);
        }
    }

    /// When the next turn must be, if no socket asks for one before; in the past while work was put off.
    pub fn deadline(&self) -> Option<Us> {
        let draining = self
            .drain
            .as_ref()
            .map(|drain| drain.deadline(self.sessions.places()));
        let put_off = !self.ready.is_empty()
            || !self.surveys.is_empty()
            || !self.posts.is_empty()
            || self.signals.is_leaving();
        let ready = put_off.then_some(0);
        [ready, self.locks.deadline(), self.wheel.next(), draining]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether requests that were received wait for a later turn: leases should not end before them.
    pub fn is_behind(&self) -> bool {
        !self.ready.is_empty() || !self.later.is_empty()
    }

    /// How many connections there are whose close is not decided.
    pub fn connections(&self) -> usize {
        self.connections
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
    pub fn next_knot(&mut self) -> Option<Vec<Tie>> {
        self.locks.take_knot()
    }

    /// The lock table, to look at.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    // Optimised for size it would be a call, ten for each request: with those of `Buffer`, 4 % of its instructions.
    #[inline(always)]
    fn find(&self, id: SessionId) -> Option<u32> {
        let slot = id.slot();
        (slot < self.sessions.places() && self.sessions[slot].id == id).then_some(slot)
    }

    /// Executes the requests at the head of `bytes`, as far as the session can go on, and returns how many bytes
    /// that were. The rest is for its input.
    fn execute(&mut self, now: Us, slot: u32, bytes: &[u8]) -> usize {
        let mut used = 0;
        let mut count = 0;
        loop {
            let session = &mut self.sessions[slot];
            let rest = &bytes[used..];
            if session.phase == Phase::Skip {
                self.skip(now, slot, rest);
                return bytes.len();
            }
            if session.phase != Phase::Open || session.is_blocked() {
                return used;
            }
            if count == REQUESTS_A_SESSION || self.work == 0 {
                if !session.ready {
                    session.ready = true;
                    self.later.push_back(slot);
                }
                return used;
            }
            if !session.greeted && text::is_http(rest) {
                self.close(now, slot, false);
                return used;
            }
            match session.face.parse(rest, session.trusted) {
                Parsed::Partial { lines } => {
                    self.wait_for_rest(now, slot, lines, !rest.is_empty());
                    return used;
                }
                Parsed::TooLong {
                    used: before,
                    lines,
                } => {
                    used += before;
                    self.begin_line(now, slot, lines, true);
                    self.sessions[slot].phase = Phase::Skip;
                    continue;
                }
                Parsed::Done {
                    used: frame,
                    request,
                } => {
                    used += frame;
                    session.start_frame();
                    self.request(now, slot, request);
                }
                Parsed::Bad { .. } if !session.trusted => self.reject(now, slot),
                Parsed::Bad { used: frame, why } => {
                    used += frame;
                    session.start_frame();
                    let out = session.output.tail(&mut self.pool);
                    session.face.write_mistake(why, out);
                    self.answered(now, slot);
                }
            }
            count += 1;
            self.work = self.work.saturating_sub(1);
        }
    }

    fn request(&mut self, now: Us, slot: u32, request: Request) {
        let session = &mut self.sessions[slot];
        session.busy = Busy::Waiting;
        match request {
            Request::Auth(secret) => self.authenticate(now, slot, secret),
            _ if !session.trusted => self.reject(now, slot),
            Request::Ping => self.answer(now, slot, Reply::Done),
            Request::Health if self.drain.is_some() => {
                self.answer(now, slot, Reply::Refused(Refusal::Draining));
            }
            Request::Health => self.answer(now, slot, Reply::Done),
            Request::Stats => {
                let out = session.output.tail(&mut self.pool);
                session.busy = Busy::Surveying(Box::new(Survey::start(self.connections, out)));
                self.soil(slot);
                self.wake(slot);
            }
            Request::Listen { .. }
            | Request::Unlisten { .. }
            | Request::Signal { .. }
            | Request::Command(Command::Declare { .. })
                if self.drain.is_some() =>
            {
                self.answer(now, slot, Reply::Refused(Refusal::Draining));
            }
            Request::Listen { pattern, group } => self.listen(now, slot, pattern, group),
            Request::Unlisten { pattern, group } => self.unlisten(now, slot, pattern, group),
            Request::Signal { channel, payload } => self.signal(now, slot, channel, payload),
            Request::Command(command) => {
                self.locks.apply(now, session.id, command, &mut self.outbox);
                let looks = self.locks.take_looks() / LOOKS_A_REQUEST;
                self.work = self.work.saturating_sub(looks as u32);
                self.route(now);
                let session = &self.sessions[slot];
                // Nobody is there to wait any more.
                if session.waits() && (session.ended || session.hung_up) {
                    self.close(now, slot, true);
                }
            }
        }
    }

    /// Hands every reply to its session, and acts on every notice. A session that is closing gets no reply; what it was
    /// granted ends with it.
    fn route(&mut self, now: Us) {
        while !self.outbox.is_empty() {
            while let Some((id, reply)) = self.outbox.replies.pop_front() {
                let slot = self.kept(id);
                let session = &self.sessions[slot];
                if session.phase.is_open() {
                    assert!(!session.is_idle(), "one answer for one request");
                    self.answer(now, slot, reply);
                }
            }
            if let Some((id, notice)) = self.outbox.notices.pop_front() {
                self.notice(now, self.kept(id), notice);
            }
        }
    }

    /// The slot of a session of which the lock table has spoken.
    fn kept(&self, id: SessionId) -> u32 {
        let slot = id.slot();
        assert!(
            self.sessions[slot].id == id,
            "a session is kept until the lock table has nothing of it"
        );
        slot
    }

    fn notice(&mut self, now: Us, slot: u32, notice: Notice) {
        let session = &mut self.sessions[slot];
        let is_at_rest = session.phase.is_open() && session.is_idle();
        match notice {
            Notice::Closed => {
                session.left_locks = true;
                self.bury_if_left(slot);
            }
            // It was granted something after this was said.
            Notice::Freed if !is_at_rest || self.locks.has(session.id) => {}
            Notice::Freed if self.drain.is_some() => self.close_drained(now, slot),
            // Between frames silence has an end again.
            Notice::Freed if !session.begun => self.extend_deadline(now, slot),
            Notice::Freed => {}
        }
    }

    fn answer(&mut self, now: Us, slot: u32, reply: Reply) {
        let session = &mut self.sessions[slot];
        let out = session.output.tail(&mut self.pool);
        session.face.write(reply, out);
        self.answered(now, slot);
    }

    /// The answer to the session's request is in its output: it may go on.
    fn answered(&mut self, now: Us, slot: u32) {
        self.sessions[slot].busy = Busy::No;
        self.extend_deadline(now, slot);
        self.soil(slot);
        self.wake(slot);
        if self.drain.is_some() && self.has_no_place_in_drain(slot) {
            self.close_drained(now, slot);
        }
    }

    /// What is left is not a whole frame.
    fn wait_for_rest(&mut self, now: Us, slot: u32, lines: u8, begun: bool) {
        if self.sessions[slot].ended {
            // What is left is not a request.
            return self.close(now, slot, false);
        }
        self.begin_line(now, slot, lines, begun);
    }

    /// A line has begun, with or without bytes of it, after so many others of its frame. Each has a deadline of
    /// its own, which bytes do not extend.
    fn begin_line(&mut self, now: Us, slot: u32, lines: u8, begun: bool) {
        let session = &mut self.sessions[slot];
        let new_line = lines > session.lines;
        // Between frames a holder has no deadline; with the first byte it gets one.
        let first_byte = begun && !session.begun;
        session.lines = lines;
        session.begun = begun;
        session.greeted |= lines > 0;
        if new_line || first_byte && self.is_engaged(slot) {
            self.extend_deadline(now, slot);
        }
    }

    /// The session may have a complete request, or an end to act on.
    fn wake(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if !session.ready && session.can_go_on() {
            session.ready = true;
            match session.busy {
                Busy::Surveying(_) => self.surveys.push_back(slot),
                _ => self.ready.push_back(slot),
            }
        }
    }

    fn resume(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if session.paused && session.room() > 0 {
            session.paused = false;
            self.resumed.push(session.id);
        }
    }

    fn soil(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if !session.dirty && !session.left_server {
            session.dirty = true;
            self.dirty.push_back(slot);
            self.work = self.work.saturating_sub(SEND);
        }
    }
}
