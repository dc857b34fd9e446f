//! Signals between sessions. The session that signals waits until every listener was given the signal or is cut off for
//! never taking what it was given. Signals on their way take turns, a slice each, so one that has many listeners or many
//! patterns to try does not hold up the others; those to one channel follow each other, so all hear them in the same order.
//! Invariant: a signal stands between two lines of its listener's output, never in one.

use std::collections::VecDeque;

use super::Hub;
use super::agenda::{BYTES_A_UNIT, FLUSH, Work};
use super::session::{Busy, Phase};
use crate::base::slab::NIL;
use crate::command::{Refusal, Reply, SessionId};
use crate::signals::{Next, parts};
use crate::wire::text;

/// What a signal may cost before the others have their turn.
const SLICE: Work = 1_000;
/// What a listener costs whose socket is written to anyway.
const PUSH: Work = 10;
/// What it costs to cut a listener off: its session and its socket are closed.
const CUT: Work = 100;
/// What a part of a pattern costs that somebody begins or ends to listen to.
const PART: Work = 2;
/// The line of a signal is kept for the next one unless it is longer.
const KEEP_BYTES: usize = 4096;

/// All signals on their way.
#[derive(Default)]
pub(super) struct Posts {
    /// Those that have begun, in turn. No two of them are to one channel.
    begun: VecDeque<Post>,
    /// Those that came when so many had begun that no more could.
    waiting: VecDeque<Post>,
    /// For the line of the next signal.
    spare_line: Vec<u8>,
}

/// A signal on its way.
struct Post {
    publisher: SessionId,
    /// What its listeners get.
    line: Vec<u8>,
    channel: usize,
    receivers: u64,
    /// The place where the line is kept for listeners that must wait for it; NIL if none has to.
    kept: u32,
    /// Its place among the emissions.
    emission: u32,
    /// Later signals to the same channel.
    followers: VecDeque<Post>,
}

/// What became of a signal that was offered to a listener.
enum Pushed {
    /// It has it, at this cost.
    Sent(Work),
    /// It has no room.
    Stuck,
    /// All together have no room, and most waits for this one, another.
    Over(SessionId),
}

impl Post {
    fn channel(&self) -> &[u8] {
        &self.line[b"sig ".len()..][..self.channel]
    }
}

impl Posts {
    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// Where the lines of signals on their way are kept, of those that are.
    pub fn kept(&self) -> impl Iterator<Item = u32> {
        let posts = self.begun.iter().map(|post| post.kept);
        posts.filter(|&place| place != NIL)
    }

    /// Puts a signal behind one to the same channel that has begun; gives it back if there is none.
    fn follow(&mut self, post: Post) -> Option<Post> {
        let same = |other: &&mut Post| other.channel() == post.channel();
        match self.begun.iter_mut().find(same) {
            Some(leader) => leader.followers.push_back(post),
            None => return Some(post),
        }
        None
    }
}

impl Hub {
    pub(super) fn listen(&mut self, slot: u32, pattern: &[u8], group: &[u8]) -> Work {
        let session = &mut self.sessions[slot];
        session.outlet.listens();
        let reply = match self.signals.listen(session.id, pattern, group) {
            true => Reply::Done,
            false => Reply::Refused(Refusal::Error),
        };
        self.answer(slot, reply);
        PART * parts(pattern)
    }

    pub(super) fn unlisten(&mut self, slot: u32, pattern: &[u8], group: &[u8]) -> Work {
        self.signals
            .unlisten(self.sessions[slot].id, pattern, group);
        self.answer(slot, Reply::Done);
        PART * parts(pattern)
    }

    /// Sends the signal on its way, and a first slice of that way at once.
    pub(super) fn signal(&mut self, slot: u32, channel: &[u8], payload: &[u8]) {
        let session = &mut self.sessions[slot];
        session.busy = Busy::Working;
        let mut line = std::mem::take(&mut self.posts.spare_line);
        text::write_signal(channel, payload, &mut line);
        let post = Post {
            publisher: session.id,
            line,
            channel: channel.len(),
            receivers: 0,
            kept: NIL,
            emission: 0,
            followers: VecDeque::new(),
        };
        if !self.posts.waiting.is_empty() {
            self.posts.waiting.push_back(post);
        } else if let Some(post) = self.posts.follow(post) {
            self.begin(post);
        }
    }

    /// Goes on with the signals that are on their way, a slice of each in turn.
    #[inline(never)]
    pub(super) fn emit_some(&mut self) {
        while self.agenda.signals > 0
            && let Some(post) = self.posts.begun.pop_front()
        {
            self.emit_slice(post);
        }
    }

    /// Removes what listeners that are gone have left, as far as this turn goes.
    #[inline(never)]
    pub(super) fn forget_listeners(&mut self) {
        let mut fuel = self.agenda.slices();
        while let Some(id) = self.signals.leave_some(&mut fuel) {
            self.sessions[id.slot()].left_signals = true;
            self.remove_if_left(id.slot());
        }
    }

    /// A signal to a channel to which no other is on its way begins, if there is room for one more.
    fn begin(&mut self, mut post: Post) {
        match self.signals.emit() {
            Some(emission) => {
                post.emission = emission;
                // A part of the budget is for those that have begun, so that newcomers cannot starve them.
                let may_begin = self.agenda.signals > self.agenda.slices() / 2;
                if may_begin || self.posts.begun.is_empty() {
                    self.emit_slice(post);
                } else {
                    self.posts.begun.push_back(post);
                }
            }
            None => self.posts.waiting.push_back(post),
        }
    }

    fn emit_slice(&mut self, mut post: Post) {
        if self.deliver(&mut post) {
            self.delivered(post);
        } else {
            self.posts.begun.push_back(post);
        }
    }

    /// Offers the signal to one listener after the other, until all were asked: true, or its slice is done.
    fn deliver(&mut self, post: &mut Post) -> bool {
        let most = SLICE.min(self.agenda.signals);
        let mut fuel = most;
        let emission = post.emission;
        let is_done = loop {
            match self.signals.next(emission, post.channel(), &mut fuel) {
                Next::Offer(id) => match self.push(id, post) {
                    Pushed::Sent(cost) => {
                        fuel = fuel.saturating_sub(cost);
                        self.signals.sent(emission);
                        post.receivers += 1;
                    }
                    Pushed::Stuck => {
                        if self.signals.stuck(emission) {
                            fuel = fuel.saturating_sub(CUT);
                            self.cut_off(id);
                        }
                    }
                    Pushed::Over(other) => {
                        fuel = fuel.saturating_sub(CUT);
                        self.cut_off(other);
                    }
                },
                Next::Cut(id) => {
                    fuel = fuel.saturating_sub(CUT);
                    self.cut_off(id);
                }
                Next::OutOfFuel => break false,
                Next::Done => break true,
            }
        };
        self.agenda.signals -= most - fuel;
        is_done
    }

    /// Everybody was given the signal: its publisher is told, if it is still there, and another begins.
    fn delivered(&mut self, post: Post) {
        let Post {
            publisher,
            mut line,
            receivers,
            kept,
            mut followers,
            ..
        } = post;
        if kept != NIL {
            self.budget.release(kept);
        }
        if line.capacity() <= KEEP_BYTES {
            line.clear();
            self.posts.spare_line = line;
        }
        if let Some(slot) = self.find(publisher)
            && self.sessions[slot].phase.is_open()
        {
            self.answer(slot, Reply::Signalled { receivers });
        }
        if let Some(mut next) = followers.pop_front() {
            next.followers = followers;
            next.emission = self.signals.emit().expect("one has just ended");
            return self.posts.begun.push_back(next);
        }
        while let Some(next) = self.posts.waiting.pop_front() {
            if let Some(mut next) = self.posts.follow(next) {
                next.emission = self.signals.emit().expect("one has just ended");
                return self.posts.begun.push_back(next);
            }
        }
    }

    /// Puts a signal into the output of a session, or behind the listing that it is being given.
    fn push(&mut self, id: SessionId, post: &mut Post) -> Pushed {
        let slot = id.slot();
        let session = &mut self.sessions[slot];
        assert!(
            session.id == id && session.phase != Phase::Gone,
            "who is gone is not asked"
        );
        if session.outlet.is_stuck() {
            return Pushed::Stuck;
        }
        let line = &post.line;
        let must_wait = session.pushes_wait();
        let wait = must_wait.then_some((line.len(), post.kept != NIL));
        match self.budget.to_be_cut(slot, session.outlet.charge(), wait) {
            Some(largest) if largest == slot => return Pushed::Stuck,
            Some(largest) => return Pushed::Over(self.sessions[largest].id),
            None => {}
        }
        let cost = if session.dirty { PUSH } else { FLUSH } + (line.len() / BYTES_A_UNIT) as Work;
        if !must_wait {
            session.outlet.push(line, &mut self.pool);
            self.mark_dirty(slot);
            return Pushed::Sent(cost);
        }
        // What follows a complete answer counts as left, which a write finds out.
        let counts = matches!(session.busy, Busy::Following);
        post.kept = self.budget.keep(post.kept, line);
        session
            .outlet
            .push_behind(slot, post.kept, counts, &mut self.budget);
        if counts {
            self.mark_dirty(slot);
        }
        Pushed::Sent(cost)
    }
}
