//! Signals between sessions: who signals waits until everybody who listens was given it, or is cut off for never taking
//! what it was given. One signal after the other, so all hear them in the same order; a turn does its share, and the
//! rest goes on in the next. Invariant: a signal stands between two lines of its listener's output, never in one.

use super::Hub;
use super::session::{Busy, Phase};
use crate::command::{Refusal, Reply, SessionId, Us};
use crate::signals::Next;
use crate::wire::text;

/// What signals may cost in a turn, in units of 100 ns: some 200 sends, or 1 MiB.
pub(super) const FUEL_A_TURN: u32 = 20_000;
/// What a listener costs that has something to send anyway, one that has not, and every so many bytes.
const PUSH: u32 = 10;
const SEND: u32 = 80;
const BYTES_A_UNIT: u32 = 48;
/// What listeners that are gone may cost in a turn, in units of 100 ns.
const LEAVING_A_TURN: u32 = 10_000;
/// How many parts of a pattern cost as much as a request.
const PARTS_A_REQUEST: u32 = 4;
/// The line of a signal is kept for the next one unless it is longer.
const KEEP_BYTES: usize = 4096;

/// A signal on its way.
pub(super) struct Post {
    publisher: SessionId,
    /// What its listeners get.
    line: Vec<u8>,
    channel: usize,
    receivers: u64,
}

impl Post {
    fn channel(&self) -> &[u8] {
        &self.line[b"sig ".len()..][..self.channel]
    }
}

impl Hub {
    pub(super) fn listen(&mut self, now: Us, slot: u32, pattern: &[u8], group: &[u8]) {
        self.pay_for(pattern);
        let session = &mut self.sessions[slot];
        session.backlog.get_or_insert_default();
        let reply = match self.signals.listen(session.id, pattern, group) {
            true => Reply::Done,
            false => Reply::Refused(Refusal::Error),
        };
        self.answer(now, slot, reply);
    }

    pub(super) fn unlisten(&mut self, now: Us, slot: u32, pattern: &[u8], group: &[u8]) {
        self.pay_for(pattern);
        self.signals
            .unlisten(self.sessions[slot].id, pattern, group);
        self.answer(now, slot, Reply::Done);
    }

    /// Sends the signal on, behind those that are on their way, as far as this turn goes.
    pub(super) fn signal(&mut self, now: Us, slot: u32, channel: &[u8], payload: &[u8]) {
        let session = &mut self.sessions[slot];
        session.busy = Busy::Signalling;
        let mut line = std::mem::take(&mut self.spare_line);
        text::write_signal(channel, payload, &mut line);
        self.posts.push_back(Post {
            publisher: session.id,
            line,
            channel: channel.len(),
            receivers: 0,
        });
        if self.posts.len() == 1 {
            self.signals.emit();
            self.emit_some(now);
        }
    }

    /// Goes on with the signals that are on their way.
    pub(super) fn emit_some(&mut self, now: Us) {
        while let Some(mut post) = self.posts.pop_front() {
            if !self.deliver(now, &mut post) {
                return self.posts.push_front(post);
            }
            if !self.posts.is_empty() {
                self.signals.emit();
            }
            self.delivered(now, post);
        }
    }

    /// Removes what listeners that are gone have left, as far as this turn goes.
    pub(super) fn forget_listeners(&mut self) {
        let mut fuel = LEAVING_A_TURN;
        while let Some(id) = self.signals.leave_some(&mut fuel) {
            self.sessions[id.slot()].left_signals = true;
            self.bury_if_left(id.slot());
        }
    }

    /// Offers the signal to whoever is next, until all were asked: true, or the turn's share is done.
    fn deliver(&mut self, now: Us, post: &mut Post) -> bool {
        loop {
            match self.signals.next(post.channel(), &mut self.fuel) {
                Next::Offer(id) if self.push(id, &post.line) => {
                    self.signals.sent();
                    post.receivers += 1;
                }
                Next::Offer(id) => {
                    if self.signals.stuck() {
                        self.closed(now, id);
                    }
                }
                Next::Cut(id) => self.closed(now, id),
                Next::Tired => return false,
                Next::Done => return true,
            }
        }
    }

    /// Everybody was given the signal: its publisher is told, if it is still there.
    fn delivered(&mut self, now: Us, post: Post) {
        let Post {
            publisher,
            mut line,
            receivers,
            ..
        } = post;
        if line.capacity() <= KEEP_BYTES {
            line.clear();
            self.spare_line = line;
        }
        if let Some(slot) = self.find(publisher)
            && self.sessions[slot].phase.is_open()
        {
            self.answer(now, slot, Reply::Signalled { receivers });
        }
    }

    /// Puts a signal into the output of a session, or behind the long answer that it is being given. False if that has no
    /// room.
    fn push(&mut self, id: SessionId, line: &[u8]) -> bool {
        let slot = id.slot();
        let session = &mut self.sessions[slot];
        assert!(
            session.id == id && session.phase != Phase::Gone,
            "who is gone is not asked"
        );
        let backlog = session.backlog.as_mut().expect("it listens");
        if backlog.is_full() {
            return false;
        }
        let cost = if session.dirty { PUSH } else { SEND } + line.len() as u32 / BYTES_A_UNIT;
        self.fuel = self.fuel.saturating_sub(cost);
        if let Busy::Surveying(_) = session.busy {
            backlog.put_behind(line);
            return true;
        }
        session.output.tail(&mut self.pool).extend_from_slice(line);
        backlog.pushed(line.len(), session.output.len());
        self.soil(slot);
        true
    }

    /// A pattern of many parts is as much work as several requests.
    fn pay_for(&mut self, pattern: &[u8]) {
        let parts = pattern.iter().filter(|&&byte| byte == b'.').count() as u32;
        self.work = self.work.saturating_sub(parts / PARTS_A_REQUEST);
    }
}
