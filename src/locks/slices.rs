//! Work that may be long and is therefore cut: a session with thousands of holds, leases that end at once, the queues
//! that a drain empties. Each turn does its share, and `deadline` is in the past until all is done. Invariant: a
//! turn ends no more than it can tell the next in line, and none of these keeps another from going on.

use super::grant::End;
use super::ticket::Ticket;
use super::{Locks, Member};
use crate::base::slab::NIL;
use crate::command::{Notice, Outbox, Refusal, Reply, SessionId, Us};

/// Holds and waits that time or a lost session may end in one turn. Each may be a grant, and a grant is a send
/// of some 8 to 15 us.
const ENDS_A_TURN: u32 = 250;
/// Timers that may move down a level of the wheel in one turn: some 100 ns each.
const CASCADES_A_TURN: u32 = 20_000;
/// Places that the emptying of the queues looks at in one turn, and waiters that it turns away: a send and a
/// shutdown each.
const DRAINED_A_TURN: u32 = 1000;
const TURNED_AWAY_A_TURN: u32 = 200;

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
        self.closing.push_back(slot);
        self.close_some(out);
    }

    /// Ends what closing sessions have, waits first, as far as this turn goes.
    pub(super) fn close_some(&mut self, out: &mut Outbox) {
        while self.ends < ENDS_A_TURN
            && let Some(&slot) = self.closing.front()
        {
            let member = &self.members[slot as usize];
            let (id, place) = (member.id, member.tickets.first);
            if place == NIL && member.lost.is_some() {
                self.ends += 1;
                self.forget_some_lost(slot);
                continue;
            }
            if place == NIL {
                self.strike_off(slot);
                self.closing.pop_front();
                out.notice(id, Notice::Closed);
                continue;
            }
            self.ends += 1;
            if self.tickets[place].waits() {
                let key = self.tickets[place].key;
                self.leave(place);
                self.retire_if_unused(key);
            } else if self.settings.auto_release || self.is_untold(place) {
                self.end(place, End::Closed, id, out);
            } else {
                self.unrecord(place, None);
                self.orphan(place);
            }
        }
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
            self.ends += 1;
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
