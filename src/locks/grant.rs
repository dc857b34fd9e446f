//! How a hold begins and ends. `grant` is the one function where a lock changes hands: release, expiry and the
//! end of a session all lead to `serve`, and `serve` to it. Invariant: after each of these no key has both a
//! free slot and somebody in its queue, unless the server drains.

use super::queue::Ticket;
use super::{Locks, Member};
use crate::command::{Replies, Reply, SessionId, Token};
use crate::slab::NIL;

/// What ended a hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A client gave it back.
    Released,
    /// Its lease is over.
    Expired,
    /// Its session is gone.
    Closed,
}

impl Locks {
    /// Turns the ticket, the first of its key that does not hold, into a hold whose lease begins now.
    pub(super) fn grant(&mut self, place: u32, replies: &mut Replies) {
        let token = self.mint();
        let Ticket {
            key, member, lease, ..
        } = self.tickets[place];
        assert!(
            self.keys[key].held < self.keys[key].limit(),
            "a grant needs a free slot"
        );
        self.keys[key].held += 1;
        self.wheel.cancel(&mut self.tickets, place);
        self.tickets[place].token = token;
        self.tickets[place].due = self.now.saturating_add(lease);
        self.wheel.insert(&mut self.tickets, place);
        self.counts.granted += 1;
        replies.push_back((
            self.members[member as usize].id,
            Reply::Granted { token, lease },
        ));
    }

    /// Grants the free slots of a key to the first in its queue. One whose session is closing is passed over.
    pub(super) fn serve(&mut self, key: u32, replies: &mut Replies) {
        while !self.is_draining() && self.keys[key].held < self.keys[key].limit() {
            let place = self.keys[key].next;
            if place == NIL {
                break;
            }
            let member = self.tickets[place].member;
            if self.members[member as usize].closing {
                self.leave(place);
                continue;
            }
            self.keys[key].waiting -= 1;
            self.keys[key].next = self.tickets[place].behind();
            // In the order in which they were granted, behind the waits: the order in which a close releases.
            let Member { tickets: list, .. } = &mut self.members[member as usize];
            list.remove(&mut self.tickets, place);
            list.push_back(&mut self.tickets, place);
            self.grant(place, replies);
        }
    }

    /// Ends a hold and serves its queue. `by` is the session that asked for it, if one did.
    pub(super) fn end(&mut self, place: u32, end: End, by: SessionId, replies: &mut Replies) {
        let key = self.drop_hold(place, end, by, replies);
        self.serve(key, replies);
        self.forget_if_idle(key);
    }

    /// Ends the holds of a key whose leases are over, though the timer has not had its turn, and serves its
    /// queue: nobody is refused a lock because of a lease that has ended. The key stays, even if idle.
    pub(super) fn evict(&mut self, key: u32, replies: &mut Replies) {
        let mut place = self.keys[key].tickets.first;
        for _ in 0..self.keys[key].held {
            let behind = self.tickets[place].behind();
            if self.tickets[place].due <= self.now {
                self.drop_hold(place, End::Expired, SessionId::NOBODY, replies);
            }
            place = behind;
        }
        self.serve(key, replies);
    }

    /// Takes a waiting ticket out of its queue, unanswered. The key stays, even if idle.
    pub(super) fn leave(&mut self, place: u32) {
        let Ticket { key, .. } = self.tickets[place];
        assert!(self.tickets[place].waits());
        if self.keys[key].next == place {
            self.keys[key].next = self.tickets[place].behind();
        }
        self.keys[key].waiting -= 1;
        self.discard(place);
    }

    /// The wait of the ticket ends with this answer, without a grant.
    pub(super) fn dismiss(&mut self, place: u32, reply: Reply, replies: &mut Replies) {
        let Ticket { key, member, .. } = self.tickets[place];
        self.leave(place);
        self.forget_if_idle(key);
        replies.push_back((self.members[member as usize].id, reply));
    }

    fn drop_hold(&mut self, place: u32, end: End, by: SessionId, replies: &mut Replies) -> u32 {
        let Ticket { key, member, .. } = self.tickets[place];
        assert!(!self.tickets[place].waits());
        match end {
            End::Released => self.counts.released += 1,
            End::Expired => self.counts.expired += 1,
            End::Closed => self.counts.closed += 1,
        }
        self.keys[key].held -= 1;
        self.discard(place);
        if let Some(member) = self.members.get(member as usize)
            && member.tickets.is_empty()
            && !member.closing
            && member.id != by
        {
            replies.push_back((member.id, Reply::Freed));
        }
        key
    }

    /// Takes a ticket out of every list and frees its place.
    fn discard(&mut self, place: u32) {
        self.wheel.cancel(&mut self.tickets, place);
        let Ticket { key, member, .. } = self.tickets[place];
        self.keys[key].tickets.remove(&mut self.tickets, place);
        if member != NIL {
            self.members[member as usize]
                .tickets
                .remove(&mut self.tickets, place);
        }
        self.tickets.remove(place);
    }

    fn mint(&mut self) -> Token {
        let fence = self.next_fence;
        self.next_fence = fence
            .checked_add(1)
            .expect("2^64 grants take longer than the hardware lasts");
        Token {
            fence,
            salt: self.secret.salt(fence),
        }
    }
}
