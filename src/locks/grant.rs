//! How a hold begins and ends. A hold begins in `grant`, its end moves in `set_due`, and it ends in `drop_hold`:
//! nowhere else. Release, expiry and the close of a session all lead to `serve`, which grants the freed slot to the
//! next waiter. Invariant: between two commands no key has both a free slot and a waiter, unless the server drains or the
//! key is not served yet after a start (`quarantine.rs`).

use super::crowd::FEW;
use super::event::End;
use super::ticket::Ticket;
use super::{Locks, Member};
use crate::base::slab::NIL;
use crate::command::{Bound, Notice, Refusal, Reply, SessionId, Space, Token, Us};
use crate::facts::Outbox;

/// Holds with an expired lease that one acquire may end, of a semaphore with many slots.
const EVICTED: u32 = 50;
/// Holds that renew themselves whose steps one acquire may make, of a semaphore with many slots: they are in the way of
/// the expired ones.
const STEPS: u32 = 1000;

impl Locks {
    /// A client gives a hold back.
    pub(super) fn release(
        &mut self,
        from: SessionId,
        space: Space,
        name: &[u8],
        token: Token,
        out: &mut Outbox,
    ) -> Reply {
        let Some(place) = self.find_hold(space, name, token) else {
            return Reply::Refused(Refusal::Error);
        };
        let end = match from {
            SessionId::NOBODY if self.is_repeated(place) => return Reply::Refused(Refusal::Error),
            SessionId::NOBODY => End::Closed,
            _ => End::Released,
        };
        self.end(place, end, from, out);
        Reply::Released
    }

    /// A client moves the end of a hold.
    pub(super) fn renew(
        &mut self,
        from: SessionId,
        space: Space,
        name: &[u8],
        token: Token,
        (lease, bound): (Us, Bound),
        out: &mut Outbox,
    ) -> Reply {
        let Some(place) = self.find_hold(space, name, token) else {
            self.counts.renewal_failures += 1;
            return Reply::Refused(Refusal::Error);
        };
        self.counts.renewals += 1;
        self.renew_hold(place, lease, out);
        if bound == Bound::Session {
            self.move_hold(place, from, out);
        }
        Reply::Renewed { lease }
    }

    /// A client binds a hold to its lease alone. Refused for a hold whose session has ended: that is being released.
    pub(super) fn detach(
        &mut self,
        from: SessionId,
        (space, name): (Space, &[u8]),
        token: Token,
        out: &mut Outbox,
    ) -> Reply {
        let Some(place) = self.find_hold(space, name, token) else {
            return Reply::Refused(Refusal::Error);
        };
        let member = self.tickets[place].member;
        match self.members.get(member as usize) {
            Some(session) if session.closing && self.settings.auto_release => {
                return Reply::Refused(Refusal::Error);
            }
            Some(_) => {
                self.unrecord(place, None);
                self.make_orphan(place, Bound::Lease);
                self.tell_if_freed(member, from, out);
            }
            None => self.bind_to_lease(place),
        }
        self.state_hold(place, out);
        Reply::Done
    }

    /// Makes a hold of this ticket, the first of its key that does not hold yet. Its lease begins now.
    pub(super) fn grant(&mut self, place: u32, out: &mut Outbox) -> Token {
        let due = self.now.saturating_add(self.tickets[place].lease);
        self.grant_until(place, due, out)
    }

    #[inline]
    fn grant_until(&mut self, place: u32, due: Us, out: &mut Outbox) -> Token {
        let token = self.mint();
        let since = self.tickets[place].since;
        self.begin_hold(place, token, (self.now, due));
        self.counts.granted += 1;
        if since != self.now {
            self.counts.waits.note_time(self.now - since);
        }
        self.note_grant(place, since);
        self.state_hold(place, out);
        token
    }

    /// The ticket, the first of its key that does not hold yet, holds it from now on.
    #[inline(always)]
    pub(super) fn begin_hold(&mut self, place: u32, token: Token, (since, due): (Us, Us)) {
        let Ticket { key, member, .. } = self.tickets[place];
        assert!(
            self.keys[key].held < self.keys[key].limit(),
            "a grant needs a free slot"
        );
        self.keys[key].held += 1;
        if self.keys[key].limit() > FEW {
            self.crowd
                .join(key, self.secret.place(token.fence), due, place);
        }
        self.wheel.cancel(&mut self.tickets, place);
        self.tickets[place].token = token;
        self.tickets[place].due = due;
        self.tickets[place].since = since;
        self.wheel.insert(&mut self.tickets, place);
        self.count_hold(member, true);
    }

    /// Grants the free slots of a key to the first in its queue, unless nothing is granted now. A ticket whose session is closing is dropped. A grant
    /// that its session does not wait for yet, after an enqueue, is sent when the session waits.
    pub(super) fn serve(&mut self, key: u32, out: &mut Outbox) {
        if self.serves(key) {
            self.serve_up_to(key, u32::MAX, out);
        }
    }

    /// The same for up to `most` free slots, now. Returns whether none is left, or nobody is.
    pub(super) fn serve_up_to(&mut self, key: u32, mut most: u32, out: &mut Outbox) -> bool {
        while self.keys[key].held < self.keys[key].limit() {
            let place = self.keys[key].next;
            if place == NIL {
                break;
            }
            if most == 0 {
                return false;
            }
            most -= 1;
            let Ticket {
                member, lease, due, ..
            } = self.tickets[place];
            let is_kept = self.members.get(member as usize).is_none();
            if self.is_closing(member) || is_kept && due <= self.now {
                self.leave(place);
                self.counts.waits.cancelled += u64::from(!is_kept);
                continue;
            }
            self.keys[key].waiting -= 1;
            self.keys[key].next = self.tickets[place].behind();
            if is_kept {
                self.grant_kept(place, out);
                continue;
            }
            // The hold moves behind the session's waits and older holds: a close releases in the order of the grants.
            let Member {
                id,
                tickets: list,
                bound,
                ..
            } = &mut self.members[member as usize];
            let (id, bound) = (*id, *bound);
            list.remove(&mut self.tickets, place);
            list.push_back(&mut self.tickets, place);
            let awaited = self.tickets[place].is_timed();
            if awaited {
                self.unrecord(place, None);
            }
            self.end_wait(place);
            let token = self.grant(place, out);
            self.counts.waits.granted += 1;
            if bound == Bound::Lease {
                self.make_orphan(place, bound);
                self.counts.leased += 1;
                self.begin_renewal(place, lease, out);
                self.granted_to_owner(place, out);
                self.forget_wait_owner(member);
            }
            if awaited {
                out.reply(id, Reply::Granted { token, lease });
            }
            if bound == Bound::Session {
                self.refuse_if_stuck(member, out);
            }
        }
        true
    }

    /// Grants a slot to a place that was kept. The lease ends when the place would have, and does not renew itself: its
    /// client is not there. A repeat of the request makes it longer.
    fn grant_kept(&mut self, place: u32, out: &mut Outbox) {
        let Ticket { due, member, .. } = self.tickets[place];
        self.put_off_renewal(place);
        let attempt = self.attempt_of(member);
        self.attempts.slab[attempt].untold = true;
        self.grant_until(place, due, out);
        self.counts.leased += 1;
        self.granted_to_owner(place, out);
    }

    /// A slot was granted that belongs to an owner, without a session.
    fn granted_to_owner(&mut self, place: u32, out: &mut Outbox) {
        let Ticket { member, .. } = self.tickets[place];
        let attempt = self.attempt_of(member);
        if attempt != NIL {
            self.attempt_granted(attempt);
        }
        self.refuse_if_stuck(member, out);
    }

    /// Whether this member is a session that is closing.
    pub(super) fn is_closing(&self, member: u32) -> bool {
        self.members
            .get(member as usize)
            .is_some_and(|member| member.closing)
    }

    /// Ends a hold and serves its queue. `by` is the session that released it or is gone, if there is one.
    pub(super) fn end(&mut self, place: u32, end: End, by: SessionId, out: &mut Outbox) {
        let key = self.drop_hold(place, end, by, out);
        self.serve(key, out);
        self.retire_if_unused(key);
    }

    /// Ends the holds of a key whose leases are over but whose timers have not fired yet, and serves its queue. So an
    /// acquire is never refused because of a lease that is over. The key stays, even if unused.
    pub(super) fn evict(&mut self, key: u32, out: &mut Outbox) {
        if self.keys[key].limit() > FEW {
            // Each waiter needs a slot, and so does the new request. The timers end the other holds.
            let mut wanted = self.keys[key].waiting.saturating_add(1).min(EVICTED);
            let mut steps = STEPS;
            while wanted > 0
                && steps > 0
                && let Some(place) = self.crowd.past_due(key, self.now)
            {
                if self.renews_itself(place, self.now, out) {
                    steps -= 1;
                    continue;
                }
                self.drop_hold(place, End::Expired, SessionId::NOBODY, out);
                wanted -= 1;
            }
        } else {
            let mut place = self.keys[key].tickets.first;
            for _ in 0..self.keys[key].held {
                let behind = self.tickets[place].behind();
                if self.tickets[place].due <= self.now && !self.renews_itself(place, self.now, out)
                {
                    self.drop_hold(place, End::Expired, SessionId::NOBODY, out);
                }
                place = behind;
            }
        }
        self.serve(key, out);
    }

    /// Moves the end of a hold.
    pub(super) fn set_due(&mut self, place: u32, due: Us, out: &mut Outbox) {
        let Ticket {
            key, due: before, ..
        } = self.tickets[place];
        self.tickets[place].due = due;
        if self.keys[key].limit() > FEW {
            self.crowd.postpone(key, before, due, place);
        }
        // For a later end the timer stays where it is: when it fires, it is filed again.
        if due < before {
            self.wheel.cancel(&mut self.tickets, place);
            self.wheel.insert(&mut self.tickets, place);
        }
        if out.facts.is_on() {
            self.state_renewal(place, out);
        }
    }

    /// Takes a waiting ticket out of its queue, unanswered. The key stays, even if unused.
    pub(super) fn leave(&mut self, place: u32) {
        let Ticket { key, member, .. } = self.tickets[place];
        assert!(self.tickets[place].waits());
        if self.keys[key].next == place {
            self.keys[key].next = self.tickets[place].behind();
        }
        self.keys[key].waiting -= 1;
        self.end_wait(place);
        self.unrecord(place, None);
        self.discard(place);
        if self.members.get(member as usize).is_some() {
            self.forget_wait_owner(member);
        }
    }

    /// Ends the wait of this ticket with an answer that is no grant.
    pub(super) fn dismiss(&mut self, place: u32, reply: Reply, out: &mut Outbox) {
        let Ticket { key, member, .. } = self.tickets[place];
        self.leave(place);
        self.retire_if_unused(key);
        // A session whose close goes on hears nothing any more.
        if let Some(member) = self.members.get(member as usize).filter(|m| !m.closing) {
            self.counts.waits.note_end(reply);
            out.reply(member.id, reply);
        }
    }

    /// Ends a hold, without serving its queue. Returns its key.
    fn drop_hold(&mut self, place: u32, end: End, by: SessionId, out: &mut Outbox) -> u32 {
        let Ticket {
            key,
            member,
            token,
            due,
            ..
        } = self.tickets[place];
        assert!(!self.tickets[place].waits());
        match end {
            End::Released => self.counts.released += 1,
            End::Expired => self.counts.expired += 1,
            End::Closed => self.counts.closed += 1,
            End::Broken => self.counts.broken += 1,
        }
        self.note_end(place, end, by);
        if out.facts.is_on() {
            self.state_end(place, out);
        }
        self.keys[key].held -= 1;
        if self.keys[key].limit() > FEW {
            self.crowd
                .leave(key, self.secret.place(token.fence), due, place);
        }
        self.unrecord(place, Some(end));
        self.count_hold(member, false);
        self.discard(place);
        self.tell_if_freed(member, by, out);
        key
    }

    /// Tells the hub if the session of a hold that ended has no ticket left, unless it was `by` this session.
    pub(super) fn tell_if_freed(&self, member: u32, by: SessionId, out: &mut Outbox) {
        if let Some(member) = self.members.get(member as usize)
            && member.tickets.is_empty()
            && !member.closing
            && member.id != by
        {
            out.notice(member.id, Notice::Freed);
        }
    }

    /// Takes a ticket out of every list and frees its place.
    fn discard(&mut self, place: u32) {
        self.wheel.cancel(&mut self.tickets, place);
        let Ticket { key, .. } = self.tickets[place];
        self.keys[key].tickets.remove(&mut self.tickets, place);
        self.unlink_member(place);
        // An attempt knows whose list the ticket was in, so it ends after that.
        self.end_attempt(place);
        self.tickets.remove(place);
    }

    pub(super) fn find_hold(&self, space: Space, name: &[u8], token: Token) -> Option<u32> {
        let place = self.find(self.secret.hash(space, name), space, name)?;
        let key = &self.keys[place];
        if key.idle().is_some() {
            return None;
        }
        let is_it = |ticket: u32| self.tickets[ticket].token == token;
        if key.limit() > FEW {
            let of_key = |ticket: u32| self.tickets[ticket].key == place && is_it(ticket);
            return self.crowd.find(self.secret.place(token.fence), of_key);
        }
        key.tickets
            .places(&self.tickets)
            .take(key.held as usize)
            .find(|&ticket| is_it(ticket))
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
