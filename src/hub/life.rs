//! How a session ends: by a deadline, failed framing, a wrong secret, a peer that is gone, or the drain. Invariant: once a
//! close is decided no request of the session is executed any more, its waits and holds end, and its last answers still
//! go out, as far as the peer takes them in time.

use super::Hub;
use super::refusals::Refused;
use super::session::{Busy, Phase, Session};
use crate::command::{Command, Refusal, Reply, SECOND, SessionId, Us};
use crate::wire::text;

/// How long, and for how many bytes, a closed connection is read so that its last line is not lost to a reset.
pub(super) const LINGER: Us = SECOND;
const LINGER_BYTES: u32 = 256 * 1024;
/// How long a peer may leave its last answers unread, if there is no write timeout.
const FLUSH: Us = 5 * SECOND;
/// How long after the answer to a wrong secret the connection is closed.
const REJECT: Us = SECOND / 10;
/// Sessions whose deadlines may end, or that the drain may close, in a turn: some 10 us each.
const CLOSES_A_TURN: u32 = 64;
/// Timers that may move down a level of the wheel in a turn.
const CASCADES_A_TURN: u32 = 20_000;

/// The server is stopping.
pub(super) struct Drain {
    /// The next slot to look at.
    next: u32,
    /// When the drain ends, whoever is still there.
    due: Us,
    /// No session holds anything any more: the doors close, and every session ends once it has its answers.
    last_call: bool,
}

impl Hub {
    /// Begins to stop: nothing is granted any more, waiters are turned away, sessions that hold nothing are closed.
    pub fn drain(&mut self) {
        if self.drain.is_some() {
            return;
        }
        let due = deadline(self.now, self.shutdown_timeout);
        self.drain = Some(Drain {
            next: 0,
            due,
            last_call: false,
        });
        self.locks.apply(
            self.now,
            SessionId::NOBODY,
            Command::Drain,
            &mut self.outbox,
        );
    }

    /// Whether nothing is held by a session any more, so that the doors of the line protocol are to close.
    pub fn is_last_call(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.last_call)
    }

    /// Whether a drain has come to its end: no session is left that it waits for, or its time is up.
    pub fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| {
            let all = drain.last_call && self.lines == 0 && !self.locks.is_turning_away();
            all || self.now >= drain.due
        })
    }

    /// When a drain needs the next turn.
    pub(super) fn drain_deadline(&self) -> Option<Us> {
        let drain = self.drain.as_ref()?;
        let is_put_off = drain.next < self.sessions.places()
            || !drain.last_call && self.locks.held_by_sessions() == 0;
        Some(if is_put_off { 0 } else { drain.due })
    }

    /// Looks at some more sessions, and closes those that hold nothing. Waiters are turned away by the lock
    /// table, and closed with that answer.
    #[inline(never)]
    pub(super) fn drain_some(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        if !drain.last_call && self.locks.held_by_sessions() == 0 {
            // Newcomers that have asked nothing are closed now, too.
            (drain.last_call, drain.next) = (true, 0);
        }
        let from = drain.next;
        drain.next = self.sessions.places().min(from + CLOSES_A_TURN);
        for slot in from..drain.next {
            let session = &self.sessions[slot];
            let idle = !session.is_vacant() && session.phase.is_open() && session.is_idle();
            if idle && self.has_no_place_in_drain(slot) {
                self.close_drained(slot);
            }
        }
    }

    /// Whether the drain closes the session once it has its answers: it holds nothing, and could only ask for more. A
    /// newcomer may have come to renew or to give back. On a face whose holds have no session, a session may still give
    /// one back.
    pub(super) fn has_no_place_in_drain(&self, slot: u32) -> bool {
        let session = &self.sessions[slot];
        let may_stay = session.newcomer && !self.is_last_call();
        session.face.rules().drains && !may_stay && !self.locks.holds(session.id)
    }

    /// Closes a session that the drain does not wait for. It lingers only if bytes are left to be sent or to be read.
    pub(super) fn close_drained(&mut self, slot: u32) {
        if self.sessions[slot].newcomer {
            // It has heard nothing yet.
            self.write(slot, Reply::Refused(Refusal::Draining));
        }
        let session = &self.sessions[slot];
        let linger = !session.outlet.is_empty() || !session.input.is_empty() || session.paused;
        self.close(slot, linger);
    }

    /// The first frame did not say the secret. The close comes 100 ms later, by a timer, so that guessing takes time.
    pub(super) fn reject(&mut self, slot: u32) {
        self.refusals.note(Refused::Token, self.sessions[slot].peer);
        self.refusals.turn_away();
        self.write(slot, Reply::Refused(Refusal::Auth));
        self.begin_close(slot, Phase::Reject);
        self.set_deadline(slot, self.now.saturating_add(REJECT));
    }

    /// The peer broke the framing or took too long: it is told so, and the session closes.
    pub(super) fn fail(&mut self, slot: u32) {
        if !self.sessions[slot].trusted {
            return self.reject(slot);
        }
        #[cfg(feature = "http")]
        if self.sessions[slot].rest.is_some() && self.sessions[slot].begun {
            return self.refuse_late(slot);
        }
        if !self.sessions[slot].face.rules().has_last_word {
            return self.close(slot, false);
        }
        self.write(slot, Reply::Refused(Refusal::Error));
        self.close(slot, true);
    }

    /// Appends an answer that no request asked for: the last.
    fn write(&mut self, slot: u32, reply: Reply) {
        let session = &mut self.sessions[slot];
        let out = session.outlet.tail(&mut self.pool);
        session.face.write(reply, out);
    }

    /// Decides the end of a session: its output goes out, then its socket is closed. With `linger` the socket is read for
    /// a moment first, because a close with input unread is a reset, which would eat the last answer.
    pub(super) fn close(&mut self, slot: u32, linger: bool) {
        let linger = linger && !self.sessions[slot].ended;
        self.begin_close(slot, Phase::Flush { linger });
    }

    /// No request of the session is executed any more, and its waits and holds end now.
    fn begin_close(&mut self, slot: u32, phase: Phase) {
        let session = &mut self.sessions[slot];
        assert!(session.phase.is_open(), "a session closes once");
        session.phase = phase;
        session.busy = Busy::No;
        session.due = Us::MAX;
        session.input.clear(&mut self.pool);
        session.outlet.drop_behind(slot, &mut self.budget);
        let id = session.id;
        self.connections.leave(session.face);
        self.mark_dirty(slot);
        self.sessions[slot].left_signals = self.signals.leave(id);
        self.locks
            .apply(self.now, id, Command::Close, &mut self.outbox);
        // The table has a budget of its own for that.
        self.locks.take_work();
    }

    /// Drops what is left to be sent; the server will close the socket.
    pub(super) fn give_up(&mut self, slot: u32) {
        self.sessions[slot].phase = Phase::Gone;
        self.sessions[slot]
            .outlet
            .clear(slot, &mut self.pool, &mut self.budget);
        self.mark_dirty(slot);
    }

    /// Bytes came while the session lingers. Nothing reads them, and there may not be many.
    pub(super) fn discard(&mut self, slot: u32, bytes: usize) {
        let discarded = &mut self.sessions[slot].discarded;
        *discarded = discarded.saturating_add(bytes as u32);
        if *discarded > LINGER_BYTES {
            self.give_up(slot);
        }
    }

    /// Bytes of a line over its cap are discarded up to its LF; then the connection has had its last answer.
    pub(super) fn skip(&mut self, slot: u32, bytes: &[u8]) {
        if text::find_lf(bytes).is_some() {
            self.fail(slot);
        } else if self.sessions[slot].ended {
            self.close(slot, false);
        }
    }

    pub(super) fn remove_if_left(&mut self, slot: u32) {
        let session = &self.sessions[slot];
        if session.left_locks && session.left_signals && session.left_server {
            self.removed.push(slot);
        }
    }

    /// Acts on the deadlines of sessions that have passed by `heard`.
    #[inline(always)]
    pub(super) fn time_out_some(&mut self, heard: Us) {
        let mut fuel = CASCADES_A_TURN;
        for _ in 0..CLOSES_A_TURN {
            let Some(slot) = self.wheel.pop(&mut self.sessions, heard, &mut fuel) else {
                break;
            };
            if self.sessions[slot].deadline() <= heard {
                self.time_out(slot);
            }
            let session = &self.sessions[slot];
            if session.deadline() < Us::MAX && !session.timer.is_filed() {
                self.wheel.insert(&mut self.sessions, slot);
            }
        }
    }

    /// A deadline has passed, or does not apply.
    fn time_out(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if session.write_due <= self.now {
            session.write_due = Us::MAX;
            let id = session.id;
            return match self.signals.has(id) {
                true => self.cut_off(id),
                false => self.closed(id),
            };
        }
        session.due = Us::MAX;
        let session = &self.sessions[slot];
        match session.phase {
            #[cfg(feature = "http")]
            Phase::Open if matches!(session.busy, Busy::Penalty) => {
                self.sessions[slot].busy = Busy::No;
                self.extend_deadline(slot);
                self.wake(slot);
                self.resume(slot);
            }
            // The server owes the peer an answer, or the peer must read first: either sets a new deadline.
            Phase::Open if session.is_blocked() => {}
            // Its answer is on the way, or its request has to wait, because the store is slow.
            Phase::Open
                if self.held_back.has_batch && session.outlet.is_held_back()
                    || session.share.queued && self.outbox.facts.is_full() =>
            {
                self.extend_deadline(slot);
            }
            // Its bytes came in time, and the session is queued to be served.
            Phase::Open if session.share.queued => {
                self.sessions[slot].due = self.now.saturating_add(1)
            }
            // Between frames a holder and a listener may be silent, where silence has no end of its own.
            Phase::Open
                if !session.begun
                    && session.face.rules().keep_alive == 0
                    && self.may_be_silent(slot) => {}
            Phase::Open | Phase::Skip => self.fail(slot),
            Phase::Reject => {
                let linger = !session.ended;
                self.sessions[slot].phase = Phase::Flush { linger };
                self.mark_dirty(slot);
            }
            Phase::Flush { .. } | Phase::Linger | Phase::Gone => self.give_up(slot),
        }
    }

    /// Whether the session may be silent between frames: it holds, queues or listens, or its face allows it.
    pub(super) fn may_be_silent(&self, slot: u32) -> bool {
        let &Session { id, face, .. } = &self.sessions[slot];
        let rules = face.rules();
        rules.may_idle || rules.keep_alive > 0 || self.locks.has(id) || self.signals.has(id)
    }

    /// The read timeout begins anew. A timer that is filed for an earlier time stays there: when it comes up, it is filed
    /// for the new one.
    pub(super) fn extend_deadline(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        let span = match session.face.rules().keep_alive {
            span if span > 0 && !session.begun => span,
            _ => self.read_timeout,
        };
        let due = self.now.saturating_add(span);
        if session.due <= due && session.timer.is_filed() {
            session.due = due;
        } else {
            self.set_deadline(slot, due);
        }
    }

    /// The kernel refused some of the output: the peer must take some of it within the write timeout.
    pub(super) fn expect_progress(&mut self, slot: u32) {
        let session = &self.sessions[slot];
        // A connection that is being closed has a write timeout in any case.
        let span = match self.write_timeout {
            0 if !session.phase.is_open() => FLUSH,
            span => span,
        };
        if session.write_due == Us::MAX && span > 0 && session.phase != Phase::Gone {
            self.wheel.cancel(&mut self.sessions, slot);
            self.sessions[slot].write_due = self.now.saturating_add(span);
            self.wheel.insert(&mut self.sessions, slot);
        }
    }

    pub(super) fn set_deadline(&mut self, slot: u32, due: Us) {
        self.wheel.cancel(&mut self.sessions, slot);
        self.sessions[slot].due = due;
        self.wheel.insert(&mut self.sessions, slot);
    }
}

/// The end of a span, of which 0 has none.
fn deadline(now: Us, span: Us) -> Us {
    if span == 0 {
        Us::MAX
    } else {
        now.saturating_add(span)
    }
}
