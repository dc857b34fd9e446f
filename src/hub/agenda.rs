//! What is to be done, in which order, and how much of it in one turn. Work is counted in what it costs: a turn has a
//! budget, and each session a share of it. A session that comes with something to do when it had nothing is served before
//! those that pile up work, as flow queues do (RFC 8290, section 4.2), so a client that sends one request is not kept
//! waiting by one that sends thousands. Invariant: a session stands in one queue at most, and a turn that has work left
//! over asks for another at once.

use std::collections::VecDeque;

/// Work in units of some 100 ns of one core, as far as that can be told beforehand.
pub(super) type Work = u32;

/// What all requests of a turn may cost: half a millisecond.
const TURN: Work = 5_000;
/// Of that, what is kept for sessions that have used up a share before, so that newcomers cannot starve them.
const OLD_PART: Work = TURN / 4;
/// What the requests of one session may cost in a turn before it must queue: some 128 of them in one write.
const SHARE: i32 = 1_000;
/// What it may cost in a row while others wait for their turn.
const QUANTUM: Work = 100;
/// What signals may cost in a turn; and the same again for listings, and for the ends of subscriptions.
const SLICES: Work = 4_000;

/// What a request costs in any case.
pub(super) const REQUEST: Work = 5;
/// What a session costs whose socket must be written to: a system call.
pub(super) const FLUSH: Work = 80;
/// Bytes read or written that cost a unit.
pub(super) const BYTES_A_UNIT: usize = 64;

/// A session's part of the work.
#[derive(Default)]
pub(super) struct Share {
    /// What it may still cost; below 0 if a request cost more than was left.
    left: i32,
    /// The turn in which it was given some last.
    turn: u32,
    /// It stands in a queue.
    pub queued: bool,
}

/// The queues of the hub, all of slots of sessions, and the budget of the turn.
pub(super) struct Agenda {
    /// Sessions that had nothing to do before.
    new: VecDeque<u32>,
    /// Sessions that have used up a share and get another in turn.
    old: VecDeque<u32>,
    /// Sessions whose listings go on, in turn.
    pub listings: VecDeque<u32>,
    /// Sessions whose sockets the server must look after.
    dirty: VecDeque<u32>,
    /// Writes that were asked for since the start.
    pub flushes: u32,
    /// Work left in this turn.
    left: Work,
    /// What signals may still cost in this turn.
    pub signals: Work,
    turn: u32,
}

impl Agenda {
    pub fn new() -> Agenda {
        Agenda {
            new: VecDeque::new(),
            old: VecDeque::new(),
            listings: VecDeque::new(),
            dirty: VecDeque::new(),
            flushes: 0,
            left: TURN,
            signals: SLICES,
            // Later than any share was given.
            turn: 1,
        }
    }

    /// Whether a session that stands in no queue may have its requests executed as they come in. Otherwise it must be
    /// queued: another came before it, or the turn or the session has had its share.
    #[inline]
    pub fn admits(&self, share: &mut Share) -> bool {
        self.refill(share);
        self.new.is_empty() && self.may_serve_new() && share.left > 0
    }

    /// The session stands in no queue and has something to do.
    pub fn queue(&mut self, slot: u32, share: &mut Share) {
        self.refill(share);
        share.queued = true;
        if share.left > 0 {
            self.new.push_back(slot);
        } else {
            self.old.push_back(slot);
        }
    }

    /// The session was interrupted after work that cost `spent`: it, or the turn, has had its share.
    pub fn queue_again(&mut self, slot: u32, share: &mut Share, spent: Work) {
        share.queued = true;
        if share.left > 0 && spent < QUANTUM {
            // It keeps its place.
            self.new.push_front(slot);
        } else {
            self.old.push_back(slot);
        }
    }

    /// Takes the session whose requests are to be executed next, and whether it is to be given another share.
    pub fn next_session(&mut self) -> Option<(u32, bool)> {
        if self.left == 0 {
            return None;
        }
        if self.may_serve_new()
            && let Some(slot) = self.new.pop_front()
        {
            return Some((slot, false));
        }
        self.old.pop_front().map(|slot| (slot, true))
    }

    /// Gives a session another share, as its turn has come.
    pub fn give(&self, share: &mut Share) {
        share.left = (share.left + SHARE).min(SHARE);
        share.turn = self.turn;
    }

    /// Whether the session may have another request executed, after `spent` in a row.
    #[inline]
    pub fn may_go_on(&self, share: &Share, spent: Work) -> bool {
        share.left > 0 && self.left > 0 && (spent < QUANTUM || !self.is_behind())
    }

    /// A request of the session has cost so much.
    #[inline]
    pub fn charge(&mut self, share: &mut Share, cost: Work) {
        self.left = self.left.saturating_sub(cost);
        share.left -= cost.min(TURN) as i32;
    }

    /// No more requests are executed in this turn.
    #[cold]
    pub fn exhaust(&mut self) {
        self.left = 0;
    }

    /// The server must write to the session's socket in this turn.
    pub fn mark_dirty(&mut self, slot: u32) {
        self.dirty.push_back(slot);
        self.flushes = self.flushes.wrapping_add(1);
    }

    /// What the writes will cost that were asked for since there were `before` of them.
    pub fn flush_cost(&self, before: u32) -> Work {
        self.flushes.wrapping_sub(before) * FLUSH
    }

    pub fn next_dirty(&mut self) -> Option<u32> {
        self.dirty.pop_front()
    }

    /// What the slices of one kind may cost in a turn.
    pub fn slices(&self) -> Work {
        SLICES
    }

    /// The next turn has a budget of its own.
    pub fn end_turn(&mut self) {
        self.left = TURN;
        self.signals = SLICES;
        self.turn = self.turn.wrapping_add(1);
    }

    /// Whether requests wait for the next turn.
    pub fn is_behind(&self) -> bool {
        !self.new.is_empty() || !self.old.is_empty()
    }

    /// Whether the next turn has something to do, though nothing happens.
    pub fn is_put_off(&self) -> bool {
        self.is_behind() || !self.listings.is_empty()
    }

    /// Whether the session stands in a queue; for checks.
    pub fn has(&self, slot: u32) -> bool {
        [&self.new, &self.old, &self.listings]
            .iter()
            .any(|queue| queue.contains(&slot))
    }

    fn may_serve_new(&self) -> bool {
        self.left > OLD_PART || self.old.is_empty() && self.left > 0
    }

    /// A share a turn; one that was left over is not added to it.
    fn refill(&self, share: &mut Share) {
        if share.turn != self.turn {
            self.give(share);
        }
    }
}
