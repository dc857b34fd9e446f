//! From bytes to requests, from replies to bytes: a frame is parsed in place and carried out, and its answer goes into the
//! output of its session, at once or turns later. Invariant: a session has one request outstanding; the bytes that come
//! meanwhile wait, unparsed, in its input.

use super::Hub;
use super::agenda::{BYTES_A_UNIT, REQUEST, Work};
use super::listing::Listing;
use super::refusals::Refused;
use super::session::{Busy, Phase};
use super::show::Show;
use super::stats::Stats;
use crate::command::{Command, Notice, Refusal, Reply, SessionId};
#[cfg(feature = "http")]
use crate::wire::http;
use crate::wire::{Parsed, Request};

impl Hub {
    /// Executes the requests at the head of what has just come for a session that had nothing to do.
    pub(super) fn execute_in_place(&mut self, slot: u32, bytes: &[u8]) {
        let used = self.execute(slot, bytes);
        let session = &mut self.sessions[slot];
        if session.phase.is_open() && used < bytes.len() {
            let rest = &bytes[used..];
            session.input.tail(&mut self.pool).extend_from_slice(rest);
        }
    }

    /// Executes what a session has in its input, as far as it can go on.
    pub(super) fn go_on(&mut self, slot: u32) {
        let mut input = std::mem::take(&mut self.sessions[slot].input);
        let used = self.execute(slot, input.bytes());
        if self.sessions[slot].phase.is_open() {
            input.consume(used, &mut self.pool);
            self.sessions[slot].input = input;
            self.resume(slot);
        } else {
            input.clear(&mut self.pool);
        }
    }

    /// Executes the requests at the head of `bytes`, as far as the session can go on, and returns how many bytes
    /// that were. The rest is for its input.
    fn execute(&mut self, slot: u32, bytes: &[u8]) -> usize {
        let (mut used, mut spent) = (0, 0);
        while self.may_execute(slot, spent) && !self.is_short(slot, bytes.len() - used) {
            let flushes = self.agenda.flushes;
            let (frame, mut cost) = self.execute_one(slot, &bytes[used..]);
            used += frame;
            if cost == 0 {
                break;
            }
            // The answer, and whatever it leads to for others.
            cost += self.agenda.flush_cost(flushes);
            spent += cost;
            let share = &mut self.sessions[slot].share;
            self.agenda.charge(share, cost);
            if self.outbox.facts.is_full() {
                self.agenda.exhaust();
            }
        }
        used
    }

    /// Whether so many bytes cannot be a whole request, as was found out before. To read the same head anew for each byte
    /// that comes would cost more than the client pays.
    #[cfg_attr(
        not(feature = "http"),
        expect(
            unused_variables,
            reason = "the other faces have lines or whole frames"
        )
    )]
    #[inline]
    fn is_short(&self, slot: u32, bytes: usize) -> bool {
        #[cfg(feature = "http")]
        if let Some(rest) = &self.sessions[slot].rest {
            return bytes < rest.need && !self.sessions[slot].ended;
        }
        false
    }

    /// Whether the session may have a request executed. If others come first it is queued.
    fn may_execute(&mut self, slot: u32, spent: Work) -> bool {
        let session = &mut self.sessions[slot];
        if !session.phase.is_open() || session.is_blocked() {
            return false;
        }
        let may_go_on = self.agenda.may_go_on(&session.share, spent);
        if !may_go_on && !session.share.queued {
            self.agenda.queue_again(slot, &mut session.share, spent);
        }
        may_go_on
    }

    /// Executes the first request of `bytes`. Returns how many bytes it had, and what it cost: nothing if no whole one is
    /// there.
    fn execute_one(&mut self, slot: u32, bytes: &[u8]) -> (usize, Work) {
        let session = &mut self.sessions[slot];
        if session.phase == Phase::Skip {
            self.skip(slot, bytes);
            return (bytes.len(), 0);
        }
        let face = session.face;
        if !session.greeted && face.is_browser(bytes) {
            self.close(slot, false);
            return (0, 0);
        }
        match face.parse(bytes, &mut self.scratch, session.trusted) {
            Parsed::Partial { lines } => {
                self.wait_for_more(slot, lines, !bytes.is_empty());
                (0, 0)
            }
            #[cfg(feature = "http")]
            Parsed::Short { need } => {
                self.wait_for_bytes(slot, need, http::has_begun(bytes));
                self.charge_part(slot, bytes.len());
                (0, 0)
            }
            #[cfg(feature = "http")]
            Parsed::Interim { need } => {
                self.interim(slot, need);
                self.charge_part(slot, bytes.len());
                (0, 0)
            }
            #[cfg(not(feature = "http"))]
            Parsed::Short { .. } | Parsed::Interim { .. } => {
                unreachable!("the faces that are built have lines or whole frames")
            }
            Parsed::TooLong { used, lines } => {
                self.begin_line(slot, lines, true);
                self.sessions[slot].phase = Phase::Skip;
                // What is left is skipped next.
                (used, REQUEST)
            }
            Parsed::Done { used, request } => {
                session.start_frame();
                (
                    used,
                    REQUEST + self.request(slot, request) + bytes_cost(used),
                )
            }
            Parsed::Bad { used, .. } if !session.trusted => {
                self.reject(slot);
                (used, REQUEST)
            }
            Parsed::Bad { used, fatal, why } => {
                session.start_frame();
                face.write_mistake(why, session.outlet.tail(&mut self.pool));
                self.answered(slot);
                if fatal && self.sessions[slot].phase.is_open() {
                    self.close(slot, true);
                }
                (used, REQUEST + bytes_cost(used))
            }
        }
    }

    /// So many bytes were read, and are no whole frame yet. They are read anew each time that more come, which the client
    /// pays for: chunks, each of which may end the body, come in any number.
    #[cfg(feature = "http")]
    fn charge_part(&mut self, slot: u32, bytes: usize) {
        if bytes > 0 {
            let share = &mut self.sessions[slot].share;
            self.agenda.charge(share, REQUEST + bytes_cost(bytes));
        }
    }

    /// Carries a request out, or begins to, and returns what that cost beyond any request.
    fn request(&mut self, slot: u32, request: Request) -> Work {
        let session = &mut self.sessions[slot];
        session.busy = Busy::Waiting;
        match request {
            Request::Auth(secret) => self.authenticate(slot, secret),
            _ if !session.trusted => self.reject(slot),
            Request::Ping => self.answer_at_once(slot, Reply::Done),
            Request::Command(command) => return self.command(slot, command),
            #[cfg(feature = "http")]
            Request::Exchange => return self.exchange(slot),
            request => return self.seldom(slot, request),
        }
        0
    }

    /// Carries out what is asked for less often. Apart from the rest, because that has more registers then.
    #[inline(never)]
    fn seldom(&mut self, slot: u32, request: Request) -> Work {
        let is_draining = self.drain.is_some();
        match request {
            Request::Health | Request::Listen { .. } | Request::Signal { .. } if is_draining => {
                self.answer(slot, Reply::Refused(Refusal::Draining));
            }
            Request::Health if self.locks.opens_in(self.now) > 0 => {
                self.answer(slot, Reply::Refused(Refusal::Quarantine));
            }
            Request::Health => self.answer_at_once(slot, Reply::Done),
            Request::Stats => {
                let out = self.sessions[slot].outlet.tail(&mut self.pool);
                let stats = Stats::start(self.connections.all(), out);
                self.begin_listing(slot, Listing::Stats(stats));
            }
            Request::Show { space, key } => {
                self.begin_listing(slot, Listing::Show(Show::new(space, key)));
            }
            Request::Listen { pattern, group } => return self.listen(slot, pattern, group),
            Request::Unlisten { pattern, group } => return self.unlisten(slot, pattern, group),
            Request::Signal { channel, payload } => self.signal(slot, channel, payload),
            Request::Ping | Request::Auth(_) | Request::Command(_) | Request::Exchange => {
                unreachable!("it is asked for often")
            }
        }
        0
    }

    /// Has the lock table carry a command out, and returns what that cost.
    fn command(&mut self, slot: u32, command: Command) -> Work {
        match command {
            Command::Break { .. } if !self.may_break(slot) => {
                let peer = self.sessions[slot].peer;
                self.refusals.note(Refused::Break, peer);
                self.answer(slot, Reply::Refused(Refusal::Auth));
                return 0;
            }
            // It is finished even if the peer has sent its last byte.
            Command::Break { .. } => self.sessions[slot].busy = Busy::Working,
            Command::Declare { .. } => self.sessions[slot].busy = Busy::Introduced,
            _ => {}
        }
        let id = self.sessions[slot].id;
        self.locks.apply(self.now, id, command, &mut self.outbox);
        self.route();
        let session = &self.sessions[slot];
        if let Busy::Working = session.busy {
            self.note_breaker(slot);
        }
        let session = &self.sessions[slot];
        // The peer is gone: it cannot wait.
        if session.waits() && (session.ended || session.hung_up) {
            self.close(slot, true);
        }
        self.locks.take_work()
    }

    /// The answer comes in slices.
    pub(super) fn begin_listing(&mut self, slot: u32, listing: Listing) {
        self.sessions[slot].busy = Busy::Listing(Box::new(listing));
        self.mark_dirty(slot);
        self.wake(slot);
    }

    /// Hands every reply to its session, and acts on every notice. A session that is closing gets no reply; a hold that
    /// it was granted meanwhile ends with it.
    pub(super) fn route(&mut self) {
        while !self.outbox.is_empty() {
            while let Some((id, reply)) = self.outbox.replies.pop_front() {
                let slot = self.slot_of(id);
                let session = &self.sessions[slot];
                if session.phase.is_open() {
                    assert!(!session.is_idle(), "one answer for one request");
                    self.answer(slot, reply);
                }
            }
            if let Some((id, notice)) = self.outbox.notices.pop_front() {
                self.notice(self.slot_of(id), notice);
            }
        }
    }

    /// The slot of a session that the lock table has named.
    fn slot_of(&self, id: SessionId) -> u32 {
        let slot = id.slot();
        assert!(
            self.sessions[slot].id == id,
            "a session is kept until the lock table has nothing of it"
        );
        slot
    }

    fn notice(&mut self, slot: u32, notice: Notice) {
        let session = &mut self.sessions[slot];
        let is_at_rest = session.phase.is_open() && session.is_idle();
        match notice {
            Notice::Closed => {
                session.left_locks = true;
                self.remove_if_left(slot);
            }
            // It was granted something after this was said.
            Notice::Freed if !is_at_rest || self.locks.has(session.id) => {}
            Notice::Freed if self.drain.is_some() => self.close_drained(slot),
            // Between frames silence has an end again.
            Notice::Freed if !session.begun => self.extend_deadline(slot),
            Notice::Freed => {}
        }
    }

    /// Appends the answer to the session's request.
    #[inline(always)]
    pub(super) fn answer(&mut self, slot: u32, reply: Reply) {
        let session = &mut self.sessions[slot];
        if let Reply::Refused(refusal) = reply {
            self.refusals.note_refusal(refusal, session.peer);
        }
        #[cfg(feature = "http")]
        if session.rest.is_some() {
            return self.answer_exchange(slot, reply);
        }
        let out = session.outlet.tail(&mut self.pool);
        session.face.write(reply, out);
        self.answered(slot);
    }

    /// Appends an answer that says nothing of any hold, so that it waits for no store unless others before it do.
    #[inline(always)]
    pub(super) fn answer_at_once(&mut self, slot: u32, reply: Reply) {
        let waits = self.sessions[slot].outlet.is_held_back();
        self.answer(slot, reply);
        if !waits {
            self.sessions[slot].outlet.free_all();
        }
    }

    /// The answer to the session's request is in its output: it may go on.
    pub(super) fn answered(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if self.drain.is_some() {
            session.newcomer &= matches!(session.busy, Busy::Introduced);
        }
        session.busy = Busy::No;
        self.extend_deadline(slot);
        self.mark_dirty(slot);
        self.wake(slot);
        if self.drain.is_some() && self.has_no_place_in_drain(slot) {
            self.close_drained(slot);
        }
    }

    /// The bytes that are left are not a whole frame.
    #[inline(always)]
    pub(super) fn wait_for_more(&mut self, slot: u32, lines: u8, begun: bool) {
        if self.sessions[slot].ended {
            // No more will come.
            return self.close(slot, false);
        }
        self.begin_line(slot, lines, begun);
    }

    /// A line has begun, of which bytes may have come, after `lines` others of its frame. Each line has a deadline of its
    /// own, which further bytes do not extend.
    #[inline]
    fn begin_line(&mut self, slot: u32, lines: u8, begun: bool) {
        let session = &mut self.sessions[slot];
        let new_line = lines > session.lines;
        // Between frames a holder has no deadline; with the first byte it gets one.
        let first_byte = begun && !session.begun;
        session.lines = lines;
        session.begun = begun;
        session.greeted |= lines > 0;
        if new_line || first_byte && self.may_be_silent(slot) {
            self.extend_deadline(slot);
        }
    }

    /// The session may have a complete request, or an end to act on.
    pub(super) fn wake(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if session.share.queued || !session.can_go_on() {
            return;
        }
        match session.busy {
            Busy::Listing(_) | Busy::Following => {
                session.share.queued = true;
                self.agenda.listings.push_back(slot);
            }
            _ => self.agenda.queue(slot, &mut session.share),
        }
    }

    /// The session may have room for input again.
    pub(super) fn resume(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if session.paused && session.room() > 0 {
            session.paused = false;
            self.resumed.push(session.id);
        }
    }

    /// The server must look after the session's socket before the turn ends.
    pub(super) fn mark_dirty(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if !session.dirty && !session.left_server {
            session.dirty = true;
            self.agenda.mark_dirty(slot);
        }
    }
}

/// What it costs to read a frame of so many bytes.
fn bytes_cost(bytes: usize) -> Work {
    (bytes / BYTES_A_UNIT) as Work
}
