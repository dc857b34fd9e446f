//! Joins sessions, faces and the lock table: bytes in, bytes out, time an argument. It knows no socket, no clock
//! and no log, so simulations and fuzzers drive it as the server does. Invariant, once settled: no session that
//! is free to go on holds a complete request, and every reply is in the output of the session it is for.
//!
//! A session has one request outstanding; what it sends meanwhile waits, unparsed, in its input.

use std::collections::VecDeque;

use crate::buffer::{Buffer, Pool};
use crate::command::{Command, Refusal, Replies, Reply, SECOND, SessionId, Us};
use crate::locks::{self, Locks};
use crate::slab::Slab;
use crate::wheel::{Link, Timers, Wheel};
use crate::wire::text::{self, Parsed, Request};

/// Bytes of a session's input that are kept while it cannot go on; then its socket is not read.
pub const INPUT_MAX: usize = 16 * 1024;
/// While this much of a session's output is not taken by its peer, its requests are not executed.
pub const OUTPUT_MAX: usize = 64 * 1024;
/// Requests that one session may have executed in a row, and all sessions together in a turn.
const REQUESTS_A_SESSION: u32 = 256;
const REQUESTS_A_TURN: u32 = 4096;
/// Sessions whose deadlines may end, or that the drain may close, in a turn: some 10 us each.
const CLOSES_A_TURN: u32 = 256;
const CASCADES_A_TURN: u32 = 20_000;
/// How long, and for how many bytes, a closed connection is read so that its last line is not lost to a reset.
const LINGER: Us = SECOND;
const LINGER_BYTES: usize = 256 * 1024;
/// How long a peer may take to read the last lines of a connection that is being closed.
const FLUSH: Us = 5 * SECOND;

/// What the hub is told once, when it is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For the lock table.
    pub locks: locks::Settings,
    /// How long a line of a request, or an idle connection that holds nothing, may take; at least 1 s.
    pub read_timeout: Us,
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
    replies: Replies,
    sessions: Slab<Session>,
    serial: u64,
    wheel: Wheel,
    pool: Pool,
    /// Slots of sessions that may have a complete request.
    ready: VecDeque<u32>,
    /// The same, when they or the turn have had their share.
    later: VecDeque<u32>,
    /// Requests left in this turn.
    requests: u32,
    /// Slots of sessions whose sockets the server must look after.
    dirty: VecDeque<u32>,
    /// Sessions that have room for input again.
    resumed: Vec<SessionId>,
    /// Slots that are free from the next turn on.
    buried: Vec<u32>,
    drain: Option<Drain>,
    read_timeout: Us,
    shutdown_timeout: Us,
}

/// The server is stopping.
struct Drain {
    /// The next slot to look at.
    next: u32,
    /// When patience ends.
    due: Us,
}

#[derive(Default)]
struct Session {
    id: SessionId,
    /// When the line, the idling or the lingering must be over.
    due: Us,
    timer: Link,
    input: Buffer,
    output: Buffer,
    phase: Phase,
    /// A request waits for its reply.
    busy: bool,
    /// In `ready` or `later`.
    ready: bool,
    /// In `dirty`.
    dirty: bool,
    /// The server was told that there is no room for input.
    paused: bool,
    /// The peer has finished sending, though not all of it is read.
    hung_up: bool,
    /// All that the peer sent has been received.
    ended: bool,
    /// A first line has been received: this is no browser.
    greeted: bool,
    /// The first byte of a frame is here, and this many of its lines.
    begun: bool,
    lines: u8,
    /// The lock table has nothing more of it.
    left_locks: bool,
    /// The server has closed its socket.
    left_server: bool,
    /// Bytes discarded while lingering.
    discarded: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Phase {
    /// Requests are executed.
    #[default]
    Open,
    /// A line over its cap is being discarded.
    Skip,
    /// The close is decided; output that is left goes out.
    Flush { linger: bool },
    /// The write side is shut; input is discarded.
    Linger,
    /// The socket is to be closed.
    Gone,
}

impl Phase {
    fn is_open(self) -> bool {
        matches!(self, Phase::Open | Phase::Skip)
    }
}

impl Timers for Slab<Session> {
    fn link(&mut self, place: u32) -> &mut Link {
        &mut self[place].timer
    }

    fn due(&self, place: u32) -> Us {
        self[place].due
    }
}

impl Hub {
    /// A hub without sessions.
    pub fn new(settings: Settings) -> Hub {
        Hub {
            locks: Locks::new(settings.locks),
            replies: Replies::new(),
            sessions: Slab::new(),
            serial: 0,
            wheel: Wheel::new(),
            pool: Pool::default(),
            ready: VecDeque::new(),
            later: VecDeque::new(),
            requests: REQUESTS_A_TURN,
            dirty: VecDeque::new(),
            resumed: Vec::new(),
            buried: Vec::new(),
            drain: None,
            read_timeout: settings.read_timeout,
            shutdown_timeout: settings.shutdown_timeout,
        }
    }

    /// A peer has connected. None if there are too many already: 2^24.
    pub fn opened(&mut self, now: Us) -> Option<SessionId> {
        if self.sessions.len() >= SessionId::SLOTS as usize {
            return None;
        }
        self.serial += 1;
        let slot = self.sessions.insert(Session::default());
        let session = &mut self.sessions[slot];
        session.id = SessionId::new(self.serial, slot);
        session.due = now.saturating_add(self.read_timeout);
        let id = session.id;
        self.wheel.insert(&mut self.sessions, slot);
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
            Phase::Open | Phase::Skip
                if session.busy || session.ready || !session.input.is_empty() =>
            {
                session.input.tail(&mut self.pool).extend_from_slice(bytes);
                if !session.ready && !session.is_blocked() {
                    self.go_on(now, slot);
                }
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
            Phase::Linger => {
                session.discarded += bytes.len();
                if session.discarded > LINGER_BYTES {
                    self.give_up(slot);
                }
            }
            Phase::Flush { .. } | Phase::Gone => {}
        }
    }

    /// The peer has finished sending and everything it sent was received: whole requests are still executed and
    /// answered, unless one waits; then the session closes.
    pub fn finished(&mut self, now: Us, id: SessionId) {
        let Some(slot) = self.find(id) else { return };
        self.sessions[slot].ended = true;
        match self.sessions[slot].phase {
            Phase::Open | Phase::Skip if self.sessions[slot].busy => self.close(now, slot, false),
            Phase::Open | Phase::Skip => self.wake(slot),
            Phase::Flush { .. } => self.sessions[slot].phase = Phase::Flush { linger: false },
            Phase::Linger => self.give_up(slot),
            Phase::Gone => {}
        }
    }

    /// The peer has finished sending, but there is no room to receive all of it: if the session waits, or as
    /// soon as it does, its peer is gone.
    pub fn hung_up(&mut self, now: Us, id: SessionId) {
        let Some(slot) = self.find(id) else { return };
        self.sessions[slot].hung_up = true;
        if self.sessions[slot].busy {
            self.close(now, slot, false);
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

    /// Time has passed. Called once a turn, after everything that was received: a renewal that is already here
    /// comes before the end of its lease.
    pub fn tick(&mut self, now: Us) {
        self.locks
            .apply(now, SessionId::NOBODY, Command::Tick, &mut self.replies);
        self.route(now);
        let mut fuel = CASCADES_A_TURN;
        for _ in 0..CLOSES_A_TURN {
            let Some(slot) = self.wheel.pop(&mut self.sessions, now, &mut fuel) else {
                break;
            };
            if self.sessions[slot].due > now {
                self.wheel.insert(&mut self.sessions, slot);
            } else {
                self.time_out(now, slot);
            }
        }
        self.drain_some(now);
    }

    /// Executes what sessions have ready and hands out replies, until nobody can move or the turn's share of
    /// work is done.
    pub fn settle(&mut self, now: Us) {
        self.route(now);
        while self.requests > 0
            && let Some(slot) = self.ready.pop_front()
        {
            self.sessions[slot].ready = false;
            if !self.sessions[slot].phase.is_open() {
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
    pub fn sent(&mut self, id: SessionId, n: usize) {
        let Some(slot) = self.find(id) else { return };
        let session = &mut self.sessions[slot];
        let was_full = session.output.len() >= OUTPUT_MAX;
        session.output.consume(n, &mut self.pool);
        if was_full && session.output.len() < OUTPUT_MAX {
            self.wake(slot);
            self.resume(slot);
        }
    }

    /// What becomes of the connection now that its output was written as far as it could be.
    pub fn next(&mut self, now: Us, id: SessionId) -> Next {
        let Some(slot) = self.find(id) else {
            return Next::Close;
        };
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
            Phase::Open | Phase::Skip | Phase::Linger => Next::Keep,
        }
    }

    /// Takes a session that said it had no room and has some now: its socket may have bytes whose coming was
    /// signalled long ago.
    pub fn next_resumed(&mut self) -> Option<SessionId> {
        self.resumed.pop()
    }

    /// The turn is over: what it put off comes first in the next one, and slots that came free can be used.
    pub fn end_turn(&mut self) {
        self.requests = REQUESTS_A_TURN;
        self.ready.append(&mut self.later);
        for slot in self.buried.drain(..) {
            self.wheel.cancel(&mut self.sessions, slot);
            self.sessions.remove(slot);
        }
    }

    /// When the next turn must be, if no socket asks for one before; in the past while work was put off.
    pub fn deadline(&self) -> Option<Us> {
        let draining = self.drain.as_ref().map(|drain| {
            if drain.next < self.sessions.places() {
                0
            } else {
                drain.due
            }
        });
        let ready = (!self.ready.is_empty()).then_some(0);
        [ready, self.locks.deadline(), self.wheel.next(), draining]
            .into_iter()
            .flatten()
            .min()
    }

    /// Begins to stop: nothing is granted any more, who waits is turned away, who holds nothing is closed.
    pub fn drain(&mut self, now: Us) {
        if self.drain.is_some() {
            return;
        }
        let due = if self.shutdown_timeout == 0 {
            Us::MAX
        } else {
            now.saturating_add(self.shutdown_timeout)
        };
        self.drain = Some(Drain { next: 0, due });
        self.locks
            .apply(now, SessionId::NOBODY, Command::Drain, &mut self.replies);
    }

    /// Whether a drain has come to its end: nobody is left, or its time is up.
    pub fn is_drained(&self, now: Us) -> bool {
        self.drain
            .as_ref()
            .is_some_and(|drain| self.sessions.is_empty() || now >= drain.due)
    }

    /// How many sessions there are, closing ones included.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The lock table, to look at.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

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
            if count == REQUESTS_A_SESSION || self.requests == 0 {
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
            match text::parse(rest) {
                Parsed::Partial { lines } => {
                    self.wait_for_rest(now, slot, lines, !rest.is_empty());
                    return used;
                }
                Parsed::TooLong { used: lines } => {
                    let whole = rest[..lines].iter().filter(|&&b| b == b'\n').count();
                    session.phase = Phase::Skip;
                    used += lines;
                    self.begin_line(now, slot, whole as u8, true);
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
                Parsed::Bad { used: frame } => {
                    used += frame;
                    session.start_frame();
                    self.answer(now, slot, Reply::Refused(Refusal::Error));
                }
            }
            count += 1;
            self.requests -= 1;
        }
    }

    fn request(&mut self, now: Us, slot: u32, request: Request) {
        let session = &mut self.sessions[slot];
        session.busy = true;
        match request {
            Request::Ping => self.answer(now, slot, Reply::Pong),
            Request::Command(command) => {
                self.locks
                    .apply(now, session.id, command, &mut self.replies);
                self.route(now);
                let session = &self.sessions[slot];
                // Nobody is there to wait any more.
                if session.busy && (session.ended || session.hung_up) {
                    self.close(now, slot, false);
                }
            }
        }
    }

    /// Hands every reply to its session. A session that is closing gets none; what it was granted ends with it.
    fn route(&mut self, now: Us) {
        while let Some((id, reply)) = self.replies.pop_front() {
            let slot = id.slot();
            let session = &mut self.sessions[slot];
            assert!(
                session.id == id,
                "a session is kept until the lock table has nothing of it"
            );
            match reply {
                Reply::Closed => {
                    session.left_locks = true;
                    self.bury_if_left(slot);
                }
                _ if !session.phase.is_open() => {}
                Reply::Freed if self.drain.is_some() && !session.busy => {
                    self.close_drained(now, slot)
                }
                Reply::Freed if session.busy || session.begun => {}
                Reply::Freed => self.extend_deadline(now, slot),
                reply => {
                    assert!(session.busy, "one answer for one request");
                    self.answer(now, slot, reply);
                }
            }
        }
    }

    fn answer(&mut self, now: Us, slot: u32, reply: Reply) {
        let session = &mut self.sessions[slot];
        session.busy = false;
        text::write(reply, session.output.tail(&mut self.pool));
        self.extend_deadline(now, slot);
        self.soil(slot);
        self.wake(slot);
        if self.drain.is_some() && !self.locks.has(self.sessions[slot].id) {
            self.close_drained(now, slot);
        }
    }

    /// A frame has begun or gone on, and is not whole. Each of its lines has a deadline of its own, which bytes
    /// do not extend.
    fn wait_for_rest(&mut self, now: Us, slot: u32, lines: u8, begun: bool) {
        if self.sessions[slot].ended {
            // What is left is not a request.
            return self.close(now, slot, false);
        }
        self.begin_line(now, slot, lines, begun);
    }

    /// A line has begun, with or without bytes of it, after so many others of its frame.
    fn begin_line(&mut self, now: Us, slot: u32, lines: u8, begun: bool) {
        let session = &mut self.sessions[slot];
        let new_line = lines > session.lines;
        // Between frames a holder has no deadline; with the first byte it gets one.
        let first_byte = begun && !session.begun && self.locks.has(session.id);
        session.lines = lines;
        session.begun = begun;
        session.greeted |= lines > 0;
        if new_line || first_byte {
            self.extend_deadline(now, slot);
        }
    }

    /// Discards bytes of a line over its cap, up to its LF; then the connection has had its last answer.
    fn skip(&mut self, now: Us, slot: u32, bytes: &[u8]) {
        if text::find_lf(bytes).is_some() {
            self.fail(now, slot);
        } else if self.sessions[slot].ended {
            self.close(now, slot, false);
        }
    }

    /// A deadline has passed.
    fn time_out(&mut self, now: Us, slot: u32) {
        let session = &self.sessions[slot];
        match session.phase {
            // The next answer sets a new deadline.
            Phase::Open if session.busy => {}
            // A holder may be silent between frames for as long as it holds.
            Phase::Open if !session.begun && self.locks.has(session.id) => {}
            Phase::Open | Phase::Skip => self.fail(now, slot),
            Phase::Flush { .. } | Phase::Linger | Phase::Gone => self.give_up(slot),
        }
    }

    /// The peer broke the framing or took too long: it is told so, and that is the last it hears.
    fn fail(&mut self, now: Us, slot: u32) {
        text::write(
            Reply::Refused(Refusal::Error),
            self.sessions[slot].output.tail(&mut self.pool),
        );
        self.close(now, slot, true);
    }

    /// Decides the end of a session: what it has in the lock table ends now, what it was told still goes out.
    fn close(&mut self, now: Us, slot: u32, linger: bool) {
        let session = &mut self.sessions[slot];
        assert!(session.phase.is_open(), "a session closes once");
        session.phase = Phase::Flush {
            linger: linger && !session.ended,
        };
        session.busy = false;
        session.input.clear(&mut self.pool);
        let id = session.id;
        self.set_deadline(slot, now.saturating_add(FLUSH));
        self.soil(slot);
        self.locks.apply(now, id, Command::Close, &mut self.replies);
    }

    /// Whatever is left to send is dropped; the server will close the socket.
    fn give_up(&mut self, slot: u32) {
        self.sessions[slot].phase = Phase::Gone;
        self.sessions[slot].output.clear(&mut self.pool);
        self.soil(slot);
    }

    fn bury_if_left(&mut self, slot: u32) {
        if self.sessions[slot].left_locks && self.sessions[slot].left_server {
            self.buried.push(slot);
        }
    }

    /// Looks at some more sessions, and closes those that hold nothing. Waiters are turned away by the lock
    /// table, and closed with that answer.
    fn drain_some(&mut self, now: Us) {
        let Some(drain) = &mut self.drain else { return };
        let from = drain.next;
        drain.next = self.sessions.places().min(from + CLOSES_A_TURN);
        for slot in from..drain.next {
            let session = &self.sessions[slot];
            if session.id != SessionId::NOBODY
                && session.phase.is_open()
                && !session.busy
                && !self.locks.has(session.id)
            {
                self.close_drained(now, slot);
            }
        }
    }

    /// Closes a session that the drain has no more use for. One that has heard everything needs no lingering.
    fn close_drained(&mut self, now: Us, slot: u32) {
        let linger = !self.sessions[slot].output.is_empty();
        self.close(now, slot, linger);
    }

    /// The session may have a complete request, or an end to act on.
    fn wake(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if !session.ready && !session.is_blocked() && (session.ended || !session.input.is_empty()) {
            session.ready = true;
            self.ready.push_back(slot);
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
        }
    }

    /// A later deadline is not filed again: when the timer comes up it is.
    fn extend_deadline(&mut self, now: Us, slot: u32) {
        let session = &mut self.sessions[slot];
        session.due = now.saturating_add(self.read_timeout);
        if !session.timer.is_filed() {
            self.wheel.insert(&mut self.sessions, slot);
        }
    }

    fn set_deadline(&mut self, slot: u32, due: Us) {
        self.wheel.cancel(&mut self.sessions, slot);
        self.sessions[slot].due = due;
        self.wheel.insert(&mut self.sessions, slot);
    }

    /// Panics if anything is not as it must be between two turns. Looks at everything: for tests.
    pub fn check(&self) {
        self.locks.check();
        assert!(
            self.replies.is_empty() && self.dirty.is_empty() && self.later.is_empty(),
            "settled"
        );
        for slot in 0..self.sessions.places() {
            let session = &self.sessions[slot];
            if session.id == SessionId::NOBODY {
                continue;
            }
            assert!(!session.ready || self.ready.contains(&slot));
            assert!(
                session.input.len() <= INPUT_MAX && session.output.len() < OUTPUT_MAX + 64,
                "S10"
            );
            if session.phase == Phase::Open && !session.ready && !session.is_blocked() {
                let parsed = text::parse(session.input.bytes());
                assert!(
                    matches!(parsed, Parsed::Partial { .. }),
                    "no idle session holds a complete request"
                );
                assert!(!session.ended, "a session that has ended closes");
                assert!(
                    session.timer.is_filed() || self.locks.has(session.id),
                    "silence has an end"
                );
            }
            if session.busy {
                assert!(
                    self.locks.has(session.id),
                    "S4: who waits stands in a queue"
                );
                assert!(
                    !session.ended && !session.hung_up,
                    "nobody waits for a peer that is gone"
                );
            }
            if !session.phase.is_open() {
                assert!(session.input.is_empty());
                assert!(
                    session.timer.is_filed() || session.left_server,
                    "a close has an end"
                );
            }
        }
    }
}

impl Session {
    fn room(&self) -> usize {
        match self.phase {
            Phase::Open if self.output.len() >= OUTPUT_MAX => 0,
            Phase::Open | Phase::Skip => INPUT_MAX.saturating_sub(self.input.len()),
            Phase::Linger => INPUT_MAX,
            Phase::Flush { .. } | Phase::Gone => 0,
        }
    }

    /// Its next request must wait: for the answer to the last one, or until its peer reads.
    fn is_blocked(&self) -> bool {
        self.busy || self.output.len() >= OUTPUT_MAX
    }

    fn start_frame(&mut self) {
        self.greeted = true;
        self.begun = false;
        self.lines = 0;
    }
}
