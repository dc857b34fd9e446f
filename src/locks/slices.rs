//! Work that may be long and is therefore cut: a session with thousands of holds, leases that end at once, the queues
//! that a drain empties. Each turn does its share, and `deadline` is in the past until all is done. Invariant: a
//! turn ends no more than it can tell the next in line, and none of these keeps another from going on.

use super::grant::End;
use super::ticket::Ticket;
use super::{Locks, Member};
use crate::base::slab::NIL;
use crate::command::{Notice, Outbox, Refusal, Reply, SessionId, Us};

/// What may end in one turn by time or with its session, in units of some 100 ns.
const ENDS_A_TURN: u32 = 4_000;
/// Of that, what one session that is closing may cost before the next one has its turn.
const CLOSE: u32 = 800;
/// What the end of a wait or a hold costs, and an answer that it leads to: a system call.
const END: u32 = 5;
const TOLD: u32 = 80;
/// Timers that may move down a level of the wheel in one turn: some 100 ns each.
const CASCADES_A_TURN: u32 = 20_000;
/// Places that the emptying of the queues looks at in one turn, and waiters that it turns away: a send and a
/// shutdown each.
const DRAINED_A_TURN: u32 = 1000;
const TURNED_AWAY_A_TURN: u32 = 50;

impl Locks {
    pub(super) fn tick(&mut self, heard: Us, out: &mut Outbox) {
        if self.is_draining() {
            self.drain_some(out);
        }
        // Neither a flood of hang-ups nor of expiries keeps the other from going on.
        self.expire_some(heard, self.ends + ENDS_A_TURN / 5, out);
        self.close_some(out);
        self.expire_some(heard, ENDS_A_TURN, out);
        self.ends = 0;
        self.forget_some();
    }

    /// A session is gone.
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
        self.fall_silent(slot);
        if is_empty {
            self.strike_off(slot);
            return out.notice(from, Notice::Closed);
        }
        self.members[slot as usize].closing = true;
        // Its first slice comes before the next ones of those that have more.
        if !self.close_slice(slot, out) {
            self.closing.push_back(slot);
        }
    }

    /// Ends what closing sessions have, a slice of each in turn, as far as this turn goes.
    fn close_some(&mut self, out: &mut Outbox) {
        while self.ends < ENDS_A_TURN
            && let Some(slot) = self.closing.pop_front()
        {
            if !self.close_slice(slot, out) {
                self.closing.push_back(slot);
            }
        }
    }

    /// Ends some of what a closing session has, its waits first. Whether that was all.
    fn close_slice(&mut self, slot: u32, out: &mut Outbox) -> bool {
        let most = ENDS_A_TURN.min(self.ends + CLOSE);
        while self.ends < most {
            let Member {
                id,
                ref tickets,
                ref lost,
                ..
            } = self.members[slot as usize];
            let place = tickets.first;
            if place == NIL && lost.is_none() {
                self.strike_off(slot);
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
            } else if self.settings.auto_release || self.is_untold(place) {
                self.end(place, End::Closed, id, out);
            } else {
                self.unrecord(place, None);
                self.orphan(place);
            }
            self.ends += END + self.spent(out) - before;
        }
        false
    }

    /// What searches and answers have cost that nobody has asked for since.
    fn spent(&self, out: &Outbox) -> u32 {
        self.work + TOLD * out.replies.len() as u32
    }

    /// Ends waits and leases that are due by `heard`, until `most` ends in this turn.
    fn expire_some(&mut self, heard: Us, most: u32, out: &mut Outbox) {
        let mut fuel = CASCADES_A_TURN;
        while self.ends < most
            && let Some(place) = self.wheel.pop(&mut self.tickets, heard, &mut fuel)
        {
            if self.tickets[place].due > heard {
                self.wheel.insert(&mut self.tickets, place);
                continue;
            }
            let before = self.spent(out);
            let Ticket { key, member, .. } = self.tickets[place];
            if !self.tickets[place].waits() {
                self.end(place, End::Expired, SessionId::NOBODY, out);
            } else if self.members[member as usize].closing {
                // It is gone already; nobody is left to be told.
                self.leave(place);
                self.retire_if_unused(key);
            } else {
                self.dismiss(place, Reply::Timeout, out);
            }
            self.ends += END + self.spent(out) - before;
        }
    }

    /// Turns away the waits at the next places of the slab.
    fn drain_some(&mut self, out: &mut Outbox) {
        let mut place = self.drained.expect("asked only while draining");
        let (mut looks, mut waiters) = (DRAINED_A_TURN, TURNED_AWAY_A_TURN);
        while place < self.tickets.places() && looks > 0 && waiters > 0 {
            let ticket = &self.tickets[place];
            if !ticket.is_vacant()
                && ticket.waits()
                && !self.members[ticket.member as usize].closing
            {
                self.turn_away(place, out);
                waiters -= 1;
            }
            place += 1;
            looks -= 1;
        }
        self.drained = Some(place);
    }

    /// The server stops: the wait is over, whether or not somebody waits for its answer yet.
    fn turn_away(&mut self, place: u32, out: &mut Outbox) {
        if self.tickets[place].is_timed() {
            return self.dismiss(place, Reply::Refused(Refusal::Draining), out);
        }
        let Ticket { key, member, .. } = self.tickets[place];
        self.leave(place);
        self.retire_if_unused(key);
        let Member {
            id, ref tickets, ..
        } = self.members[member as usize];
        if tickets.is_empty() {
            out.notice(id, Notice::Freed);
        }
    }
}
