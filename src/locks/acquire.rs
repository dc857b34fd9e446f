//! A request for a key: is a slot free, and if not, is there room in the queue? An acquire, an enqueue and a claim
//! begin here. No reply is sent from here. Invariant: a new request is granted a slot only if nobody queues for the
//! key.

use super::key::Key;
use super::secret::Name;
use super::ticket::Ticket;
use super::{Locks, Member};
use crate::base::slab::NIL;
use crate::command::{Bound, Realm, Refusal, Reply, SessionId, Space, Terms, Us};
use crate::facts::Outbox;

/// What an acquire, an enqueue and a claim have in common.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub space: Space,
    pub name: &'a [u8],
    pub limit: u32,
    pub lease: Us,
}

impl Locks {
    /// Takes a slot of the key, or a place in its queue until the wait is over. None if the session has to wait.
    pub(super) fn acquire(
        &mut self,
        from: SessionId,
        wish: Wish,
        wait: Us,
        out: &mut Outbox,
    ) -> Option<Reply> {
        if self.has_max_holds(from, wish, out) {
            return Some(Reply::Refused(Refusal::MaxHolds));
        }
        let hash = self.secret.hash(wish.space, wish.name);
        let (key, free) = match self.enter(hash, wish, out) {
            Ok(entered) => entered,
            Err(refusal) => return Some(Reply::Refused(refusal)),
        };
        if free {
            let lease = wish.lease;
            let place = self.add_ticket(from, key, lease, true);
            let token = self.grant(place, out);
            return Some(Reply::Granted { token, lease });
        }
        if wait == 0 {
            self.retire_if_unused(key);
            return Some(Reply::Timeout);
        }
        let member = self.ensure_member(from);
        self.members[member as usize].bound = Bound::Session;
        if self.would_be_stuck(from.slot(), key) {
            return Some(Reply::Refused(Refusal::Deadlock));
        }
        let place = self.add_ticket(from, key, wish.lease, false);
        self.await_grant(place, wait)
    }

    /// Whether the session has as many holds and places in queues as it may. A hold of this key whose lease is over is no
    /// reason.
    pub(super) fn has_max_holds(&mut self, from: SessionId, wish: Wish, out: &mut Outbox) -> bool {
        if self.is_draining() || !self.is_at_max_holds(from) {
            return false;
        }
        let hash = self.secret.hash(wish.space, wish.name);
        if let Some(key) = self.find(hash, wish.space, wish.name)
            && self.keys[key].idle().is_none()
        {
            if self.keys[key].limit() != wish.limit {
                // A user with another limit ends no hold.
                return true;
            }
            self.evict(key, out);
            self.retire_if_unused(key);
        }
        self.is_at_max_holds(from)
    }

    /// The same for a hold bound by its lease: the session waits, and the hold is the named owner's, or nobody's.
    pub(super) fn acquire_for(
        &mut self,
        from: SessionId,
        (owner, terms): (Option<&[u8]>, Option<&Terms>),
        wish: Wish,
        wait: Us,
        out: &mut Outbox,
    ) -> Option<Reply> {
        assert!(owner.is_some() || terms.is_none(), "terms have an owner");
        let name = self.attempt_name(wish.name, owner, terms);
        if let (Some(name), Some(terms)) = (name, terms)
            && !self.is_draining()
            && let Some(reply) = self.repeat(from, name, (wish, terms), wait, out)
        {
            return reply;
        }
        let hash = self.secret.hash(wish.space, wish.name);
        let (key, free) = match self.enter(hash, wish, out) {
            Ok(entered) => entered,
            Err(refusal) => return Some(Reply::Refused(refusal)),
        };
        if !free && wait == 0 && terms.is_none_or(|terms| terms.keep == 0) {
            self.retire_if_unused(key);
            return Some(Reply::Timeout);
        }
        let owner = owner.map_or(NIL, |name| self.owner_by_name(Realm::Declared, name));
        if free {
            self.counts.leased += 1;
            return Some(self.grant_to_owner(owner, key, wish.lease, (name, terms), out));
        }
        let member = self.ensure_member(from);
        let Member { bound, tickets, .. } = &mut self.members[member as usize];
        assert!(
            tickets.is_empty(),
            "a session whose holds end with it asks for no other kind"
        );
        *bound = Bound::Lease;
        self.set_owner(member, owner);
        if wait > 0 && self.would_be_stuck(member, key) {
            self.forget_wait_owner(member);
            return Some(Reply::Refused(Refusal::Deadlock));
        }
        let place = self.add_ticket(from, key, wish.lease, false);
        let attempt = self.begin_attempt(owner, place, name, terms);
        self.members[member as usize].attempt = attempt;
        if attempt != NIL {
            self.index_attempt(attempt);
        }
        self.await_grant(place, wait)
    }

    /// Grants a free slot to an owner, without a session.
    pub(super) fn grant_to_owner(
        &mut self,
        owner: u32,
        key: u32,
        lease: Us,
        (name, terms): (Option<Name>, Option<&Terms>),
        out: &mut Outbox,
    ) -> Reply {
        let place = self.tickets.insert(Ticket::new(self.now, key, NIL, lease));
        self.keys[key].tickets.push_back(&mut self.tickets, place);
        let attempt = self.begin_attempt(owner, place, name, terms);
        self.give_to_owner((owner, attempt), place, Bound::Lease);
        let token = self.grant(place, out);
        if attempt != NIL {
            self.index_attempt(attempt);
            self.begin_renewal(place, lease, out);
        }
        Reply::Granted { token, lease }
    }

    /// Finds the key or makes it. True if a slot is free for this request: expired holds are ended first, and nobody
    /// may be in the queue. False if there is room in the queue; the key may be unused then, in a quarantine.
    pub(super) fn enter(
        &mut self,
        hash: u32,
        wish: Wish,
        out: &mut Outbox,
    ) -> Result<(u32, bool), Refusal> {
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        let Some(key) = self.find(hash, wish.space, wish.name) else {
            if !self.make_room() {
                return Err(Refusal::MaxLocks);
            }
            let key = self
                .keys
                .insert(Key::new(wish.space, wish.name, wish.limit));
            self.table.insert(hash, key);
            return Ok((key, self.is_open()));
        };
        if self.keys[key].idle().is_some() {
            self.unlink_idle(key);
            self.keys[key].set_limit(wish.limit);
            return Ok((key, self.is_open()));
        }
        if self.keys[key].limit() != wish.limit {
            return Err(Refusal::LimitMismatch);
        }
        self.evict(key, out);
        let Key { held, waiting, .. } = self.keys[key];
        let free = waiting == 0 && held < wish.limit && self.is_open();
        let full = self.settings.max_waiters > 0 && waiting >= self.settings.max_waiters;
        if !free && full {
            Err(Refusal::MaxWaiters)
        } else {
            Ok((key, free))
        }
    }

    /// Adds a ticket at the end of its key's list. With `free` the caller grants it at once; else it queues, without a
    /// timer yet.
    pub(super) fn add_ticket(&mut self, from: SessionId, key: u32, lease: Us, free: bool) -> u32 {
        let member = self.ensure_member(from);
        let place = self
            .tickets
            .insert(Ticket::new(self.now, key, member, lease));
        self.keys[key].tickets.push_back(&mut self.tickets, place);
        let Member {
            tickets: mine,
            count,
            ..
        } = &mut self.members[member as usize];
        *count += 1;
        if free {
            mine.push_back(&mut self.tickets, place);
        } else {
            mine.push_front(&mut self.tickets, place);
            self.keys[key].waiting += 1;
            if self.keys[key].next == NIL {
                self.keys[key].next = place;
            }
        }
        place
    }
}
