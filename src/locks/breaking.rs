//! Breaks: an administrator ends the holds of a key, whoever has them. There may be a million, so a break goes on in
//! slices. Invariant: a break ends only holds that were granted before it was asked for.

use super::Locks;
use super::crowd::FEW;
use super::event::{End, Event};
use super::key::Key;
use super::slices::BREAK_SLICE;
use crate::command::{Reply, SessionId, Space};
use crate::facts::Outbox;

/// A break that is under way.
pub(super) struct Breaking {
    by: SessionId,
    space: Space,
    name: Vec<u8>,
    /// The place of the key. By now another key may be there: none of its holds is old enough.
    key: u32,
    /// The fences of the holds that end are below this.
    below: u64,
    holds: u64,
}

impl Locks {
    /// An administrator ends the hold with this fence, or all holds of the key. None if there are too many for now: the
    /// answer follows.
    pub(super) fn break_holds(
        &mut self,
        from: SessionId,
        (space, name): (Space, &[u8]),
        fence: Option<u64>,
        out: &mut Outbox,
    ) -> Option<Reply> {
        let key = self.find(self.secret.hash(space, name), space, name);
        let Some(key) = key.filter(|&key| self.keys[key].idle().is_none()) else {
            return Some(Reply::Broken { holds: 0 });
        };
        let mut breaking = Breaking {
            by: from,
            space,
            name: name.to_vec(),
            key,
            below: self.next_fence,
            holds: 0,
        };
        if let Some(fence) = fence {
            if let Some(place) = self.find_fence(key, fence) {
                self.broken = 0;
                self.end(place, End::Broken, from, out);
                breaking.holds = 1;
            }
            return Some(self.broken(breaking));
        }
        if self.break_slice(&mut breaking, out) {
            return Some(self.broken(breaking));
        }
        // The session is known to the table from now on, which tells later whether it is still there.
        self.ensure_member(from);
        self.breaking.push_back(breaking);
        None
    }

    /// Goes on with breaks, a slice of each in turn, while this turn's ends have cost less than `most`.
    pub(super) fn break_some(&mut self, most: u32, out: &mut Outbox) {
        while self.ends < most
            && let Some(mut breaking) = self.breaking.pop_front()
        {
            if !self.break_slice(&mut breaking, out) {
                self.breaking.push_back(breaking);
                continue;
            }
            let by = breaking.by;
            let reply = self.broken(breaking);
            let member = &self.members[by.slot() as usize];
            if member.id == by && !member.closing {
                out.reply(by, reply);
            }
        }
    }

    /// Ends some of the holds. Returns whether none is left.
    fn break_slice(&mut self, breaking: &mut Breaking, out: &mut Outbox) -> bool {
        let most = self.ends + BREAK_SLICE;
        self.broken = breaking.holds;
        loop {
            let key = &self.keys[breaking.key];
            let place = key.tickets.first;
            // Holds stand first, as granted.
            if key.idle().is_some()
                || key.held == 0
                || self.tickets[place].token.fence >= breaking.below
            {
                return true;
            }
            if self.ends >= most {
                return false;
            }
            self.end_and_charge(place, End::Broken, breaking.by, out);
            breaking.holds += 1;
            self.broken = breaking.holds;
        }
    }

    /// The break is over.
    fn broken(&mut self, breaking: Breaking) -> Reply {
        let Breaking {
            by,
            space,
            name: key,
            holds,
            ..
        } = breaking;
        if holds > 0 {
            let event = Event::Broken {
                space,
                key,
                holds,
                by,
            };
            self.events.push_back(event);
        }
        Reply::Broken { holds }
    }

    /// The hold of the key that has this fence.
    pub(super) fn find_fence(&self, key: u32, fence: u64) -> Option<u32> {
        let is_it = |ticket: u32| {
            self.tickets[ticket].key == key && self.tickets[ticket].token.fence == fence
        };
        let Key { held, tickets, .. } = &self.keys[key];
        if self.keys[key].limit() > FEW {
            return self.crowd.find(self.secret.place(fence), is_it);
        }
        let mut holds = tickets.places(&self.tickets).take(*held as usize);
        holds.find(|&ticket| is_it(ticket))
    }
}
