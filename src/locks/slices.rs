//! Work that may be long and is cut into slices: the close of a session with thousands of holds, leases that end at
//! once, the queues that a drain empties. Each turn does its share, and `deadline` is in the past until all is done.
//! Invariant: the work of a turn has a budget, and neither closes nor expiries keep the other from going on.

use super::event::{End, KEPT_NOTED};
use super::ticket::Ticket;
use super::{Locks, Member};
use crate::base::slab::NIL;
use crate::command::{Bound, Notice, Refusal, Reply, SessionId, Us};
use crate::facts::Outbox;

/// Budget of a turn for ends by time or by the close of a session, in units of some 100 ns.
const ENDS_A_TURN: u32 = 4_000;
/// Of that, the slice of one closing session before the next one has its turn, and that of one break.
const CLOSE_SLICE: u32 = 800;
pub(super) const BREAK_SLICE: u32 = 800;
/// The cost of one end, and of one answer that it leads to: a write(2).
const END_COST: u32 = 5;
const ANSWER_COST: u32 = 80;
/// Timers that may move down a level of the wheel in one turn, at some 100 ns each.
const CASCADES_A_TURN: u32 = 20_000;
/// Tickets that a drain looks at in one turn, and waiters that it turns away: a write(2) and a shutdown(2) each.
const DRAINED_A_TURN: u32 = 1000;
const TURNED_AWAY_A_TURN: u32 = 50;

/// How far a drain has looked at the tickets.
#[derive(Clone, Copy, Default)]
pub(super) struct Drain {
    /// The next place to look at.
    pub next: u32,
    /// How many holds were noted.
    noted: u32,
}

impl Locks {
    pub(super) fn tick(&mut self, heard: Us, out: &mut Outbox) {
        if self.is_draining() {
            self.drain_some(out);
        }
        if self.served < u32::MAX {
            self.open_some(out);
        }
        // Expiries and breaks have a fifth of the budget each for themselves, and closes come before the rest of them.
        self.expire_some(heard, self.ends + ENDS_A_TURN / 5, out);
        if !self.breaking.is_empty() {
            self.break_some(self.ends + ENDS_A_TURN / 5, out);
        }
        self.close_some(out);
        self.expire_some(heard, ENDS_A_TURN, out);
        self.ends = 0;
        self.forget_some();
    }

    /// The session is gone: its waits and holds end, the first slice of them at once.
    pub(super) fn close(&mut self, from: SessionId, out: &mut Outbox) {
        let slot = from.slot();
        let Some(member) = self
            .members
            .get(slot as usize)
            .filter(|member| member.id == from)
        else {
            return out.notice(from, Notice::Closed);
        };
        assert!(!member.closing, "a session closes once");
        let is_empty = member.tickets.is_empty() && member.lost.is_none();
        self.deactivate(slot);
        if is_empty {
            self.remove_member(slot);
            return out.notice(from, Notice::Closed);
        }
        self.members[slot as usize].closing = true;
        // A small close is done here, before the next slices of large ones.
        if !self.close_slice(slot, out) {
            self.closing.push_back(slot);
        }
    }

    /// Ends waits and holds of closing sessions, a slice of each in turn, while this turn's budget lasts.
    fn close_some(&mut self, out: &mut Outbox) {
        while self.ends < ENDS_A_TURN
            && let Some(slot) = self.closing.pop_front()
        {
            if !self.close_slice(slot, out) {
                self.closing.push_back(slot);
            }
        }
    }

    /// Ends some waits and holds of a closing session, waits first. Returns whether nothing is left.
    fn close_slice(&mut self, slot: u32, out: &mut Outbox) -> bool {
        let most = ENDS_A_TURN.min(self.ends + CLOSE_SLICE);
        while self.ends < most {
            let Member {
                id,
                ref tickets,
                ref lost,
                ..
            } = self.members[slot as usize];
            let place = tickets.first;
            if place == NIL && lost.is_none() {
                self.remove_member(slot);
                out.notice(id, Notice::Closed);
                return true;
            }
            let before = self.spent(out);
            if place == NIL {
                self.forget_some_lost(slot);
            } else if self.tickets[place].waits() {
                let key = self.tickets[place].key;
                self.leave(place);
                self.retire_if_unused(key);
                self.counts.waits.cancelled += 1;
            } else if self.settings.auto_release || self.is_untold(place) {
                self.end(place, End::Closed, id, out);
            } else {
                self.unrecord(place, None);
                self.make_orphan(place, Bound::Session);
                if self.tickets[place].member == NIL {
                    // Without an owner it has nobody to pass to, after a restart too: its lease alone ends it.
                    self.state_hold(place, out);
                }
            }
            self.ends += END_COST + self.spent(out) - before;
        }
        false
    }

    /// Ends a hold, and adds what that cost to the ends of the turn.
    pub(super) fn end_and_charge(&mut self, place: u32, end: End, by: SessionId, out: &mut Outbox) {
        let before = self.spent(out);
        self.end(place, end, by, out);
        self.ends += END_COST + self.spent(out) - before;
    }

    /// The cost of the searches and answers that the hub has not taken yet.
    fn spent(&self, out: &Outbox) -> u32 {
        self.work + ANSWER_COST * out.replies.len() as u32
    }

    /// Ends waits and leases that are due by `heard`, while the ends of this turn have cost less than `most`.
    fn expire_some(&mut self, heard: Us, most: u32, out: &mut Outbox) {
        let mut fuel = CASCADES_A_TURN;
        while self.ends < most
            && let Some(place) = self.wheel.pop(&mut self.tickets, heard, &mut fuel)
        {
            let is_over = self.tickets[place].due <= heard;
            if !is_over || !self.tickets[place].waits() && self.renews_itself(place, heard, out) {
                self.wheel.insert(&mut self.tickets, place);
                self.ends += u32::from(is_over) * END_COST;
                continue;
            }
            let before = self.spent(out);
            let Ticket { key, member, .. } = self.tickets[place];
            if !self.tickets[place].waits() {
                self.end(place, End::Expired, SessionId::NOBODY, out);
            } else if self.is_closing(member) {
                // The session is gone: no answer is needed.
                self.leave(place);
                self.retire_if_unused(key);
                self.counts.waits.cancelled += 1;
            } else if let Some(kept) = self.keep_place(place) {
                self.counts.waits.timeouts += 1;
                out.reply(self.members[member as usize].id, kept);
            } else {
                self.dismiss(place, Reply::Timeout, out);
            }
            self.ends += END_COST + self.spent(out) - before;
        }
    }

    /// Turns away the waiters among the next tickets.
    fn drain_some(&mut self, out: &mut Outbox) {
        let Drain {
            next: mut place,
            mut noted,
        } = self.drained.expect("asked only while draining");
        let (mut looks, mut waiters) = (DRAINED_A_TURN, TURNED_AWAY_A_TURN);
        while place < self.tickets.places() && looks > 0 && waiters > 0 {
            let ticket = &self.tickets[place];
            if !ticket.is_vacant() && ticket.waits() && !self.is_closing(ticket.member) {
                self.turn_away(place, out);
                waiters -= 1;
            } else if noted < KEPT_NOTED && self.is_kept(place) {
                self.note_kept_at(place);
                noted += 1;
            }
            place += 1;
            looks -= 1;
        }
        self.drained = Some(Drain { next: place, noted });
    }

    /// The server stops: ends this wait. After an enqueue its session may not wait for an answer yet.
    fn turn_away(&mut self, place: u32, out: &mut Outbox) {
        if self.tickets[place].is_timed() {
            return self.dismiss(place, Reply::Refused(Refusal::Draining), out);
        }
        let Ticket { key, member, .. } = self.tickets[place];
        self.leave(place);
        self.retire_if_unused(key);
        self.counts.waits.drained += 1;
        let Member {
            id, ref tickets, ..
        } = self.members[member as usize];
        if tickets.is_empty() {
            out.notice(id, Notice::Freed);
        }
    }
}
