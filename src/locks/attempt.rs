//! Attempts: requests for holds that are bound by their leases, from clients that have no session of their own. Such a
//! client may lose an answer, so it may repeat a request under a secret name, and end it by that name wherever it is. What
//! else it may ask for is in `extra.rs`. Invariant: a record lives as long as its ticket, and its name finds it.
//!
//! A name is found by the table while the ticket waits, or holds a key with many slots. The holds of a key with few slots
//! are searched one by one: a hundred thousand locks need no index.

use super::acquire::Wish;
use super::crowd::FEW;
use super::ended::Ended;
use super::event::End;
use super::extra::Extra;
use super::secret::Name;
use super::ticket::Ticket;
use super::{Locks, Member};
use crate::base::slab::{NIL, Slab};
use crate::base::table::Table;
use crate::command::{Bound, Refusal, Reply, SessionId, Space, Terms, Us};
use crate::facts::Outbox;

/// All attempts of requests that ask for more than a hold.
#[derive(Default)]
pub(super) struct Attempts {
    pub slab: Slab<Attempt>,
    table: Table,
    pub extras: Slab<Extra>,
    ended: Ended,
}

/// One attempt. 32 bytes: a lock server may have a hundred thousand.
pub(super) struct Attempt {
    name: Name,
    pub owner: u32,
    ticket: u32,
    /// NIL if it has none.
    pub extra: u32,
    /// A repeat has found the hold.
    repeated: bool,
    /// It was granted while its client was not there, and no repeat has come since.
    pub untold: bool,
}

const _: () = assert!(size_of::<Attempt>() == 32);

impl Default for Attempt {
    fn default() -> Attempt {
        Attempt {
            name: Name::default(),
            owner: NIL,
            ticket: NIL,
            extra: NIL,
            repeated: false,
            untold: false,
        }
    }
}

impl Attempt {
    /// The attempt of a hold that outlived the process.
    pub fn recovered(owner: u32, ticket: u32, name: Name) -> Attempt {
        Attempt {
            name,
            owner,
            ticket,
            ..Attempt::default()
        }
    }

    /// Its name, if its client has given it one.
    pub fn given_name(&self) -> Option<Name> {
        (self.name != Name::default()).then_some(self.name)
    }
}

impl Locks {
    /// The name of the attempt that a request makes, if it names one.
    pub(super) fn attempt_name(
        &self,
        key: &[u8],
        owner: Option<&[u8]>,
        terms: Option<&Terms>,
    ) -> Option<Name> {
        let attempt = terms.and_then(|terms| terms.attempt)?;
        let owner = owner.expect("an attempt has an owner");
        Some(self.secret.attempt(key, owner, attempt))
    }

    /// The reply to a request whose attempt is known already. None if it is not; Some(None) if the session has to wait.
    pub(super) fn repeat(
        &mut self,
        from: SessionId,
        name: Name,
        (wish, terms): (Wish, &Terms),
        wait: Us,
        out: &mut Outbox,
    ) -> Option<Option<Reply>> {
        if self.attempts.ended.has(&name, self.now) {
            return Some(Some(Reply::Cancelled));
        }
        let hash = self.secret.hash(wish.space, wish.name);
        let key = self.find(hash, wish.space, wish.name)?;
        if self.keys[key].idle().is_some() || self.keys[key].limit() != wish.limit {
            return None;
        }
        self.evict(key, out);
        let Some(place) = self.find_attempt(&name, key) else {
            self.retire_if_unused(key);
            return None;
        };
        self.tickets[place].lease = wish.lease;
        if self.tickets[place].waits() {
            return Some(self.take_over(from, place, terms, wait, out));
        }
        let lease = self.extend(place, out);
        let Ticket { token, .. } = self.tickets[place];
        Some(Some(Reply::Granted { token, lease }))
    }

    /// A client ends its attempt, wherever it is. Both spaces are searched.
    pub(super) fn cancel(
        &mut self,
        from: SessionId,
        name: &[u8],
        owner: &[u8],
        attempt: &[u8],
        out: &mut Outbox,
    ) -> Reply {
        let attempt = self.secret.attempt(name, owner, attempt);
        self.attempts.ended.add(attempt, self.now);
        let mut fence = 0;
        for space in [Space::Lock, Space::Semaphore] {
            let key = self.find(self.secret.hash(space, name), space, name);
            let Some(key) = key.filter(|&key| self.keys[key].idle().is_none()) else {
                continue;
            };
            self.evict(key, out);
            match self.find_attempt(&attempt, key) {
                Some(place) if self.tickets[place].waits() => {
                    self.dismiss(place, Reply::Cancelled, out);
                    continue;
                }
                Some(place) => {
                    fence = self.tickets[place].token.fence;
                    self.end(place, End::Released, from, out);
                }
                None => self.retire_if_unused(key),
            }
        }
        Reply::Ended { fence }
    }

    /// The ticket belongs to an attempt from now on, if the request asks for more than a hold. Returns the attempt.
    pub(super) fn begin_attempt(
        &mut self,
        owner: u32,
        place: u32,
        name: Option<Name>,
        terms: Option<&Terms>,
    ) -> u32 {
        let Some(terms) = terms.filter(|terms| **terms != Terms::default()) else {
            return NIL;
        };
        let attempt = self.attempts.slab.insert(Attempt {
            name: name.unwrap_or_default(),
            owner,
            ticket: place,
            ..Attempt::default()
        });
        self.set_extra(attempt, terms);
        attempt
    }

    /// The attempt of this ticket is over.
    pub(super) fn end_attempt(&mut self, place: u32) {
        let attempt = self.attempt_of(self.tickets[place].member);
        if attempt == NIL || self.attempts.slab[attempt].ticket != place {
            return;
        }
        if self.is_indexed(place) {
            self.unindex_attempt(attempt);
        }
        self.set_extra(attempt, &Terms::default());
        self.attempts.slab.remove(attempt);
    }

    /// Whether a repeat has found this hold: then its client has heard of it, however an earlier answer fared.
    pub(super) fn is_repeated(&self, place: u32) -> bool {
        let attempt = self.attempt_of(self.tickets[place].member);
        attempt != NIL && self.attempts.slab[attempt].repeated
    }

    /// The attempt of a member's ticket: of the wait of a session, or of a hold or a place without one.
    #[inline]
    pub(super) fn attempt_of(&self, member: u32) -> u32 {
        match self.members.get(member as usize) {
            Some(member) => member.attempt,
            None => super::owner::attempt_of_orphan(member),
        }
    }

    pub(super) fn attempt(&self, attempt: u32) -> &Attempt {
        &self.attempts.slab[attempt]
    }

    /// An attempt begins that its name must find.
    pub(super) fn index_attempt(&mut self, attempt: u32) {
        let Attempt { name, ticket, .. } = self.attempts.slab[attempt];
        if name != Name::default() && self.is_indexed(ticket) {
            self.attempts.table.insert(name[0], attempt);
        }
    }

    /// The ticket was granted after it had queued, as part of an attempt.
    pub(super) fn attempt_granted(&mut self, attempt: u32) {
        let Attempt { ticket, .. } = self.attempts.slab[attempt];
        if !self.is_indexed(ticket) {
            self.unindex_attempt(attempt);
        }
    }

    /// The wait of this session's ticket is over, but its place in the queue is kept. None if it is not to be.
    pub(super) fn keep_place(&mut self, place: u32) -> Option<Reply> {
        let Ticket { member, .. } = self.tickets[place];
        let keep = self.extra(self.members.get(member as usize)?.attempt)?.keep;
        if keep == 0 || self.is_draining() {
            return None;
        }
        self.wheel.cancel(&mut self.tickets, place);
        self.end_wait(place);
        self.make_orphan(place, Bound::Lease);
        self.forget_wait_owner(member);
        self.tickets[place].due = self.now.saturating_add(keep);
        self.wheel.insert(&mut self.tickets, place);
        Some(Reply::Kept { span: keep })
    }

    /// A repeat has found its hold: the lease is the request's, unless it lasts longer. Returns how long it lasts.
    fn extend(&mut self, place: u32, out: &mut Outbox) -> Us {
        let Ticket {
            lease, due, member, ..
        } = self.tickets[place];
        let attempt = self.attempt_of(member);
        self.attempts.slab[attempt].repeated = true;
        self.attempts.slab[attempt].untold = false;
        self.set_due(place, due.max(self.now.saturating_add(lease)), out);
        if !self.begin_renewal(place, lease, out) {
            // A renewal that names no lease has this one from now on.
            self.state_hold(place, out);
        }
        self.terms_of(place).0 - self.now
    }

    /// A repeat has found its wait, or the place that was kept: the session waits there from now on. The one that waited
    /// is told so.
    fn take_over(
        &mut self,
        from: SessionId,
        place: u32,
        terms: &Terms,
        wait: Us,
        out: &mut Outbox,
    ) -> Option<Reply> {
        let Ticket {
            key,
            member: former,
            ..
        } = self.tickets[place];
        let attempt = self.attempt_of(former);
        let owner = self.attempts.slab[attempt].owner;
        self.set_extra(attempt, terms);
        self.wheel.cancel(&mut self.tickets, place);
        // The new session speaks for the owner before the old one stops: an owner without either is forgotten.
        let slot = self.ensure_member(from);
        self.set_owner(slot, owner);
        match self.members.get(former as usize) {
            Some(&Member { id, closing, .. }) => {
                if !closing {
                    out.reply(id, Reply::Superseded);
                }
                self.end_wait(place);
                self.unlink_member(place);
                self.forget_wait_owner(former);
                // The wait goes on in the new session, unless that does not wait.
                self.counts.waits.timeouts += u64::from(wait == 0);
            }
            None => self.unlink_member(place),
        }
        self.give_to_session(slot, place, attempt);
        if wait > 0 && self.would_be_stuck(slot, key) {
            self.leave(place);
            self.retire_if_unused(key);
            return Some(Reply::Refused(Refusal::Deadlock));
        }
        self.await_grant(place, wait)
    }

    /// The session waits for this ticket, or it has waited long enough at once.
    pub(super) fn await_grant(&mut self, place: u32, wait: Us) -> Option<Reply> {
        if wait > 0 {
            self.tickets[place].due = self.now.saturating_add(wait);
            self.wheel.insert(&mut self.tickets, place);
            self.begin_wait(place);
            return None;
        }
        let kept = self.keep_place(place);
        kept.or_else(|| {
            let Ticket { key, .. } = self.tickets[place];
            self.leave(place);
            self.retire_if_unused(key);
            Some(Reply::Timeout)
        })
    }

    /// The ticket of this attempt at this key.
    fn find_attempt(&self, name: &Name, key: u32) -> Option<u32> {
        let is_it = |attempt: u32| {
            let attempt = &self.attempts.slab[attempt];
            attempt.name == *name && self.tickets[attempt.ticket].key == key
        };
        if let Some(attempt) = self.attempts.table.find(name[0], is_it) {
            return Some(self.attempts.slab[attempt].ticket);
        }
        let key = &self.keys[key];
        if key.limit() > FEW {
            return None;
        }
        let mut holds = key.tickets.places(&self.tickets).take(key.held as usize);
        holds.find(|&place| {
            let attempt = self.attempt_of(self.tickets[place].member);
            attempt != NIL && self.attempts.slab[attempt].name == *name
        })
    }

    /// Whether the table finds the attempt of this ticket.
    fn is_indexed(&self, place: u32) -> bool {
        let ticket = &self.tickets[place];
        ticket.waits() || self.keys[ticket.key].limit() > FEW
    }

    fn unindex_attempt(&mut self, attempt: u32) {
        let Attempt { name, .. } = self.attempts.slab[attempt];
        if name != Name::default() {
            self.attempts.table.remove(name[0], attempt);
        }
    }

    /// Panics if an attempt is not as it must be.
    pub(super) fn check_attempts(&self) {
        let (mut seen, mut indexed, mut extras) = (0, 0, 0);
        for place in (0..self.tickets.places()).filter(|&place| !self.tickets[place].is_vacant()) {
            let attempt = self.attempt_of(self.tickets[place].member);
            if attempt == NIL || self.attempts.slab[attempt].ticket != place {
                continue;
            }
            let Attempt {
                name, owner, extra, ..
            } = self.attempts.slab[attempt];
            seen += 1;
            indexed += usize::from(name != Name::default() && self.is_indexed(place));
            extras += usize::from(extra != NIL);
            assert_eq!(self.owner_of(self.tickets[place].member), owner);
            if name != Name::default() {
                let found = self.find_attempt(&name, self.tickets[place].key);
                assert_eq!(found, Some(place), "a name finds its ticket");
            }
        }
        let Attempts {
            slab,
            table,
            extras: all,
            ended,
        } = &self.attempts;
        assert_eq!(
            (seen, indexed, extras),
            (slab.len(), table.len(), all.len()),
            "S9"
        );
        ended.check();
    }
}
