//! Attempts: requests for holds that are bound by their leases, from clients that have no session of their own. Such a
//! client may lose an answer, so it may repeat a request under a secret name. A wait may keep its place in the queue
//! after its time is up; a hold may renew itself and carry a note. Invariant: a record lives as long as its ticket, and
//! its name finds it.
//!
//! A name is found by the table while the ticket waits, or holds a key with many slots. The holds of a key with few slots
//! are searched one by one: a hundred thousand locks need no index.

use super::acquire::Wish;
use super::crowd::FEW;
use super::event::End;
use super::secret::Name;
use super::ticket::Ticket;
use super::{Locks, Member};
use crate::base::slab::{NIL, Slab};
use crate::base::table::Table;
use crate::command::{Bound, Outbox, Refusal, Renewal, Reply, SECOND, SessionId, Space, Terms, Us};

/// Ended attempts that are remembered, and for how long.
const ENDED_MAX: usize = 4096;
const ENDED_FOR: Us = 60 * SECOND;

/// All attempts that ask for more than a hold.
#[derive(Default)]
pub(super) struct Attempts {
    slab: Slab<Attempt>,
    table: Table,
    /// What few attempts ask for.
    extras: Slab<Extra>,
    ended: Ended,
}

/// One attempt. 32 bytes: a lock server may have a hundred thousand.
pub(super) struct Attempt {
    name: Name,
    pub owner: u32,
    ticket: u32,
    /// NIL if it has none.
    extra: u32,
    /// A repeat has found the hold.
    repeated: bool,
}

const _: () = assert!(size_of::<Attempt>() == 32);

#[derive(Default)]
struct Extra {
    keep: Us,
    renewal: Option<Renewal>,
    /// While the hold renews itself: until when, for how long with each step, and when its lease ends. Its ticket is due
    /// at the next step, and has the lease of its grant, which is that of a renewal which names none.
    until: Us,
    step: Us,
    end: Us,
    note: Option<Box<[u8]>>,
}

impl Default for Attempt {
    fn default() -> Attempt {
        Attempt {
            name: Name::default(),
            owner: NIL,
            ticket: NIL,
            extra: NIL,
            repeated: false,
        }
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
        let lease = self.extend(place);
        let Ticket { token, member, .. } = self.tickets[place];
        let attempt = self.attempt_of(member);
        self.attempts.slab[attempt].repeated = true;
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

    /// The hold begins, or its client was heard of: if it renews itself, the time for that begins anew, with steps of
    /// this lease.
    pub(super) fn begin_renewal(&mut self, place: u32, lease: Us) {
        let Ticket { member, .. } = self.tickets[place];
        let (attempt, now) = (self.attempt_of(member), self.now);
        let Some(extra) = self.extra_mut(attempt) else {
            return;
        };
        let Some(renewal) = extra.renewal else { return };
        extra.end = extra.end.max(now.saturating_add(lease));
        extra.until = extra.end.max(now.saturating_add(renewal.within));
        extra.step = lease;
        let due = extra.next_step(now);
        self.set_due(place, due);
    }

    /// A place that was kept is a hold now: it renews itself from the next repeat on, if it does.
    pub(super) fn put_off_renewal(&mut self, place: u32) {
        let Ticket { due, member, .. } = self.tickets[place];
        let attempt = self.attempt_of(member);
        if let Some(extra) = self.extra_mut(attempt) {
            (extra.end, extra.until) = (due, due);
        }
    }

    /// A client renews a hold: its lease ends so much later than now.
    pub(super) fn renew_hold(&mut self, place: u32, lease: Us) {
        let end = self.now.saturating_add(lease);
        let attempt = self.attempt_of(self.tickets[place].member);
        match self.extra_mut(attempt) {
            Some(extra) if extra.renewal.is_some() => {
                extra.end = end;
                self.begin_renewal(place, lease);
            }
            _ => self.set_due(place, end),
        }
    }

    /// The hold is due. If it renews itself and its lease has not ended by `heard`, it takes a step: true. Its timer is
    /// to be filed again.
    pub(super) fn renews_itself(&mut self, place: u32, heard: Us) -> bool {
        let Ticket { member, .. } = self.tickets[place];
        let (attempt, now) = (super::owner::attempt_of_orphan(member), self.now);
        let Some(extra) = self.extra_mut(attempt) else {
            return false;
        };
        if extra.renewal.is_none() || extra.end <= heard {
            return false;
        }
        extra.end = extra
            .end
            .max(now.saturating_add(extra.step).min(extra.until));
        let due = extra.next_step(now);
        self.counts.renewals += 1;
        self.set_due(place, due);
        true
    }

    /// When the lease of a hold ends, until when it renews itself, and its note.
    pub(super) fn terms_of(&self, place: u32) -> (Us, Option<Us>, Option<&[u8]>) {
        let Ticket { due, member, .. } = self.tickets[place];
        let Some(extra) = self.extra(self.attempt_of(member)) else {
            return (due, None, None);
        };
        let note = extra.note.as_deref();
        match extra.renewal {
            Some(_) if !self.tickets[place].waits() => (extra.end, Some(extra.until), note),
            _ => (due, None, note),
        }
    }

    /// A repeat has found its hold: the lease is the request's, unless it lasts longer. Returns how long it lasts.
    fn extend(&mut self, place: u32) -> Us {
        let Ticket { lease, due, .. } = self.tickets[place];
        self.set_due(place, due.max(self.now.saturating_add(lease)));
        self.begin_renewal(place, lease);
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

    fn extra(&self, attempt: u32) -> Option<&Extra> {
        let extra = (attempt != NIL).then(|| self.attempts.slab[attempt].extra)?;
        (extra != NIL).then(|| &self.attempts.extras[extra])
    }

    fn extra_mut(&mut self, attempt: u32) -> Option<&mut Extra> {
        let extra = (attempt != NIL).then(|| self.attempts.slab[attempt].extra)?;
        (extra != NIL).then(|| &mut self.attempts.extras[extra])
    }

    /// The attempt asks for this from now on.
    fn set_extra(&mut self, attempt: u32, terms: &Terms) {
        let former = std::mem::replace(&mut self.attempts.slab[attempt].extra, NIL);
        if former != NIL {
            self.attempts.extras.remove(former);
        }
        let &Terms {
            keep,
            renewal,
            note,
            ..
        } = terms;
        if keep > 0 || renewal.is_some() || note.is_some() {
            self.attempts.slab[attempt].extra = self.attempts.extras.insert(Extra {
                keep,
                renewal,
                note: note.map(Box::from),
                ..Extra::default()
            });
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
        assert!(ended.names.len() <= ENDED_MAX, "S10");
    }
}

impl Extra {
    /// When the hold takes its next step; at the last one its lease ends.
    fn next_step(&self, now: Us) -> Us {
        if self.end >= self.until {
            return self.end;
        }
        let every = self.renewal.map_or(self.step, |renewal| renewal.every);
        let every = every.min(self.step / 3).max(1);
        self.end.min(now.saturating_add(every))
    }
}

/// The attempts that were ended last, in a ring: an end may overtake its request.
#[derive(Default)]
struct Ended {
    names: Vec<(Name, Us)>,
    /// The place in the ring that is written next.
    next: usize,
    table: Table,
}

impl Ended {
    fn has(&self, name: &Name, now: Us) -> bool {
        let place = self.find(name);
        place.is_some_and(|place| now <= self.names[place].1.saturating_add(ENDED_FOR))
    }

    fn add(&mut self, name: Name, now: Us) {
        // It is among the last once more, and its former cell stands for nothing.
        if let Some(place) = self.find(&name) {
            self.forget(place);
        }
        let place = self.next;
        self.next = (self.next + 1) % ENDED_MAX;
        match self.names.get_mut(place) {
            None => self.names.push((name, now)),
            Some(_) => {
                self.forget(place);
                self.names[place] = (name, now);
            }
        }
        self.table.insert(name[0], place as u32);
    }

    fn forget(&mut self, place: usize) {
        let (name, _) = std::mem::take(&mut self.names[place]);
        if name != Name::default() {
            self.table.remove(name[0], place as u32);
        }
    }

    fn find(&self, name: &Name) -> Option<usize> {
        let is_it = |place: u32| self.names[place as usize].0 == *name;
        self.table.find(name[0], is_it).map(|place| place as usize)
    }
}
