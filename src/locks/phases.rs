//! Acquires in two phases: an enqueue leaves a record of its session and key, and the wait consumes it. A record points
//! to the ticket that the enqueue made. If the lease of that hold ends before the wait, the record stays as a mark that
//! says so; the key knows nothing of marks. Invariant: each record has a ticket or is a mark, and a session has one for
//! a key.
//!
//! After the enqueue a queued ticket has no timer. When it is granted, no reply is sent until its session waits.

use std::collections::VecDeque;

use super::Locks;
use super::acquire::Wish;
use super::event::End;
use super::ticket::Ticket;
use crate::base::name::Name;
use crate::base::slab::{NIL, Slab};
use crate::base::table::Table;
use crate::command::{Bound, Refusal, Reply, SessionId, Space, Us};
use crate::facts::Outbox;

/// Marks of lost leases that a session may have. One more, and the oldest is forgotten.
const LOST_MAX: usize = 1024;
/// Marks that are forgotten in one step of a close.
const FORGOTTEN_AT_ONCE: usize = 16;

/// All records, found by session and key.
#[derive(Default)]
pub(super) struct Records {
    slab: Slab<Record>,
    table: Table,
}

/// Places of a session's marks, the oldest first. Few sessions have any.
pub(super) type Lost = Option<Box<VecDeque<u32>>>;

#[derive(Default)]
struct Record {
    member: u32,
    /// NIL in a mark: the lease has ended.
    ticket: u32,
    /// The enqueue was granted at once, and its answer had the token.
    told: bool,
    space: Space,
    name: Name,
}

impl Locks {
    /// The first phase: takes a slot or a place in the queue, and leaves a record.
    pub(super) fn enqueue(&mut self, from: SessionId, wish: Wish, out: &mut Outbox) -> Reply {
        let hash = self.secret.hash(wish.space, wish.name);
        let recorded = self.find_record(from.slot(), hash, wish.space, wish.name);
        if let Some(record) = recorded
            && !self.is_draining()
            && self.records.slab[record].ticket != NIL
        {
            return Reply::Refused(Refusal::AlreadyEnqueued);
        }
        if self.has_max_holds(from, wish, out) {
            return Reply::Refused(Refusal::MaxHolds);
        }
        let (key, free) = match self.enter(hash, wish, out) {
            Ok(entered) => entered,
            Err(refusal) => return Reply::Refused(refusal),
        };
        // A new enqueue replaces the mark of a lost lease.
        if let Some(record) = recorded {
            self.forget_record(record, hash);
        }
        let place = self.add_ticket(from, key, wish.lease, free);
        self.members[from.slot() as usize].bound = Bound::Session;
        let record = Record {
            member: from.slot(),
            ticket: place,
            told: free,
            space: wish.space,
            name: Name::new(wish.name),
        };
        let record = self.records.slab.insert(record);
        self.records.table.insert(mixed(hash, from.slot()), record);
        if !free {
            return Reply::Queued;
        }
        let token = self.grant(place, out);
        Reply::Acquired {
            token,
            lease: wish.lease,
        }
    }

    /// The second phase: consumes the record. None if the session has to wait.
    pub(super) fn wait(
        &mut self,
        from: SessionId,
        (space, name): (Space, &[u8]),
        wait: Us,
        out: &mut Outbox,
    ) -> Option<Reply> {
        let hash = self.secret.hash(space, name);
        let record = self.find_record(from.slot(), hash, space, name);
        // A drain leaves the holds that it found, so what was granted is still told.
        if self.is_draining() && !record.is_some_and(|record| self.is_granted(record)) {
            return Some(Reply::Refused(Refusal::Draining));
        }
        let Some(record) = record else {
            return Some(Reply::Refused(Refusal::NotEnqueued));
        };
        let place = self.records.slab[record].ticket;
        if place == NIL {
            self.forget_record(record, hash);
            return Some(Reply::Refused(Refusal::LeaseExpired));
        }
        let Ticket {
            token, lease, key, ..
        } = self.tickets[place];
        if !self.tickets[place].waits() {
            self.forget_record(record, hash);
            self.set_due(place, self.now.saturating_add(lease), out);
            return Some(Reply::Granted { token, lease });
        }
        if wait == 0 {
            self.leave(place);
            self.retire_if_unused(key);
            self.counts.waits.timeouts += 1;
            return Some(Reply::Timeout);
        }
        if self.would_be_stuck(from.slot(), key) {
            self.leave(place);
            return Some(Reply::Refused(Refusal::Deadlock));
        }
        self.tickets[place].due = self.now.saturating_add(wait);
        self.wheel.insert(&mut self.tickets, place);
        self.begin_wait(place);
        None
    }

    fn is_granted(&self, record: u32) -> bool {
        let place = self.records.slab[record].ticket;
        place != NIL && !self.tickets[place].waits()
    }

    /// Whether no client knows the token of this hold: it was granted from the queue, and its session has not waited
    /// yet.
    #[inline]
    pub(super) fn is_untold(&self, place: u32) -> bool {
        !self.records.slab.is_empty() && self.has_untold(place)
    }

    fn has_untold(&self, place: u32) -> bool {
        let Ticket { key, member, .. } = self.tickets[place];
        let (space, name) = (self.keys[key].space(), self.keys[key].name());
        let record = self.find_record(member, self.hash_of(key), space, name);
        record
            .map(|record| &self.records.slab[record])
            .is_some_and(|record| record.ticket == place && !record.told)
    }

    /// Removes the record of this ticket, if it has one: the ticket leaves its queue or its session, its hold has
    /// ended, or its wait has been answered. After an expiry or a break the record becomes a mark. Called while the ticket still
    /// has its key and session.
    pub(super) fn unrecord(&mut self, place: u32, end: Option<End>) {
        let Ticket { key, member, .. } = self.tickets[place];
        if self.records.slab.is_empty() || self.members.get(member as usize).is_none() {
            return;
        }
        let (space, hash) = (self.keys[key].space(), self.hash_of(key));
        let Some(record) = self.find_record(member, hash, space, self.keys[key].name()) else {
            return;
        };
        if self.records.slab[record].ticket != place {
            return;
        }
        let owner = &mut self.members[member as usize];
        let is_lost = matches!(end, Some(End::Expired | End::Broken));
        if !is_lost || owner.closing {
            return self.forget_record(record, hash);
        }
        self.records.slab[record].ticket = NIL;
        let lost = owner.lost.get_or_insert_default();
        lost.push_back(record);
        if lost.len() > LOST_MAX {
            self.forget_lost(member);
        }
    }

    /// Forgets some marks of a closing session. Its other records go with their tickets.
    pub(super) fn forget_some_lost(&mut self, member: u32) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            self.forget_lost(member);
        }
    }

    /// Forgets the oldest mark of the session, if it has one.
    fn forget_lost(&mut self, member: u32) {
        let lost = &mut self.members[member as usize].lost;
        let Some(record) = lost.as_mut().and_then(|list| list.pop_front()) else {
            *lost = None;
            return;
        };
        let Record {
            space, ref name, ..
        } = self.records.slab[record];
        let hash = self.secret.hash(space, name.bytes());
        self.remove_record(record, hash);
    }

    fn forget_record(&mut self, record: u32, hash: u32) {
        let Record { member, ticket, .. } = self.remove_record(record, hash);
        let lost = &mut self.members[member as usize].lost;
        if ticket == NIL
            && let Some(list) = lost
        {
            list.retain(|&other| other != record);
            if list.is_empty() {
                *lost = None;
            }
        }
    }

    fn remove_record(&mut self, place: u32, hash: u32) -> Record {
        let record = self.records.slab.remove(place);
        self.records.table.remove(mixed(hash, record.member), place);
        record
    }

    fn find_record(&self, member: u32, hash: u32, space: Space, name: &[u8]) -> Option<u32> {
        if self.records.slab.is_empty() {
            return None;
        }
        self.records.table.find(mixed(hash, member), |place| {
            let record = &self.records.slab[place];
            record.member == member && record.space == space && record.name.is(name)
        })
    }

    /// Panics if a record is not as it must be.
    pub(super) fn check_records(&self) {
        let mut lost = 0;
        let mut seen = 0;
        for place in 0..self.records.slab.places() {
            let record = &self.records.slab[place];
            if record.name.bytes().is_empty() {
                continue;
            }
            seen += 1;
            let hash = self.secret.hash(record.space, record.name.bytes());
            let found = self.find_record(record.member, hash, record.space, record.name.bytes());
            assert_eq!(found, Some(place), "one record for a session and a key");
            if record.ticket == NIL {
                lost += 1;
                continue;
            }
            let ticket = &self.tickets[record.ticket];
            assert_eq!(ticket.member, record.member);
            assert!(self.keys[ticket.key].is(record.space, record.name.bytes()));
        }
        let lists = self.members.iter().map(|(_, member)| &member.lost);
        let marks: Vec<usize> = lists
            .map(|lost| lost.as_ref().map_or(0, |lost| lost.len()))
            .collect();
        assert_eq!(lost, marks.iter().sum::<usize>());
        assert!(marks.iter().all(|&marks| marks <= LOST_MAX), "S10");
        assert_eq!(
            (seen, seen),
            (self.records.slab.len(), self.records.table.len()),
            "S9"
        );
    }
}

/// A hash of key and session. Records of one key would otherwise all share one run of cells.
fn mixed(hash: u32, member: u32) -> u32 {
    hash ^ member.wrapping_mul(0x9e37_79b1)
}
