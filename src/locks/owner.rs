//! Owners: to whom a wait or a hold belongs. A session that declares nothing is an owner by itself; all sessions that
//! have declared the same name are one. Such an owner counts as one sequential actor, with one wait at a time; once two
//! of its sessions wait at the same time, it counts as running. Invariant: a declared owner is kept exactly while a
//! session speaks for it or a hold without a session is its own.

use super::ticket::{OF_MEMBER, Ticket};
use super::{Locks, Member};
use crate::base::list::List;
use crate::base::name::Name;
use crate::base::slab::{NIL, Slab};
use crate::base::table::Table;
use crate::command::{Bound, Owner, Realm, Refusal, Reply, SessionId};
use crate::facts::Outbox;

/// Set in [`Ticket::member`] above the place of an owner: the hold is the owner's, and no session's.
const ORPHAN: u32 = 1 << 31;
/// Added as well if the hold is bound by its lease alone: a renewal gives it to no session.
const LEASED: u32 = 1 << 30;
/// Added to both if the place is that of an attempt, which knows its owner.
const ATTEMPT: u32 = 1 << 29;
/// In [`Ticket::member`]: the hold is nobody's since the server was started again, and passes to the session that renews
/// it.
const UNCLAIMED: u32 = NIL - 1;

/// All declared owners, found by name.
#[derive(Default)]
pub(super) struct Owners {
    slab: Slab<Declared>,
    table: Table,
}

/// A declared owner.
#[derive(Default)]
pub(super) struct Declared {
    realm: Realm,
    name: Name,
    /// Sessions that have declared it, and have not left the table.
    sessions: u32,
    /// Those of them that are not closing.
    open_sessions: u32,
    holds: u32,
    /// Sessions of it that wait.
    waits: u32,
    /// The ticket that the last of these waits for.
    awaits: u32,
    /// Two of its sessions have waited at once. Cleared when no open session is left.
    concurrent: bool,
    /// Holds without a session: they outlived it, or are bound by their lease alone. And places in queues that are kept.
    orphans: List<OF_MEMBER>,
}

/// A node of the graph that is searched for deadlocks: the session or owner that a ticket belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Actor {
    /// The session at this slot, which has declared nothing.
    Session(u32),
    /// The owner at this place.
    Declared(u32),
    /// No actor: the hold ends by its lease, or with its session, which is closing.
    Nobody,
}

impl Locks {
    /// The session speaks for this owner from now on. Refused if it holds or waits for something.
    pub(super) fn declare(&mut self, from: SessionId, name: &[u8]) -> Reply {
        if self.has(from) {
            return Reply::Refused(Refusal::Error);
        }
        let slot = self.ensure_member(from);
        let place = self.owner_by_name(Realm::Declared, name);
        self.set_owner(slot, place);
        Reply::Done
    }

    /// The session, which has no tickets, speaks for this owner from now on; for itself if `owner` is NIL.
    pub(super) fn set_owner(&mut self, slot: u32, owner: u32) {
        if owner != NIL {
            self.owners.slab[owner].sessions += 1;
            self.owners.slab[owner].open_sessions += 1;
        }
        let before = std::mem::replace(&mut self.members[slot as usize].owner, owner);
        if before != NIL {
            self.owners.slab[before].session_closes();
            self.drop_session(before);
        }
    }

    /// The session begins to wait for this ticket.
    pub(super) fn begin_wait(&mut self, place: u32) {
        let member = &mut self.members[self.tickets[place].member as usize];
        assert!(member.awaits == NIL, "one request at a time");
        member.awaits = place;
        if member.owner != NIL {
            let owner = &mut self.owners.slab[member.owner];
            owner.waits += 1;
            owner.awaits = place;
            owner.concurrent |= owner.waits > 1;
        }
    }

    /// The session does not wait for this ticket any more, if it did.
    pub(super) fn end_wait(&mut self, place: u32) {
        let Ticket { member, .. } = self.tickets[place];
        let Some(member) = self.members.get_mut(member as usize) else {
            return;
        };
        if member.awaits != place {
            return;
        }
        member.awaits = NIL;
        if member.owner != NIL {
            self.owners.slab[member.owner].waits -= 1;
        }
    }

    /// A hold of this member begins (`more`) or ends.
    pub(super) fn count_hold(&mut self, member: u32, more: bool) {
        let place = match self.members.get(member as usize) {
            Some(member) => member.owner,
            None => {
                self.loose = if more { self.loose + 1 } else { self.loose - 1 };
                self.owner_of_orphan(member)
            }
        };
        if place != NIL {
            let holds = &mut self.owners.slab[place].holds;
            *holds = if more { *holds + 1 } else { *holds - 1 };
        }
    }

    /// The session does not wait any more for a hold that is bound by its lease: it speaks for nobody.
    pub(super) fn forget_wait_owner(&mut self, slot: u32) {
        let member = &mut self.members[slot as usize];
        if member.bound == Bound::Session {
            return;
        }
        (member.bound, member.attempt) = (Bound::Session, NIL);
        if !member.closing {
            self.set_owner(slot, NIL);
        }
    }

    /// A ticket that waits and is in no list of a session goes to this one, as part of an attempt.
    pub(super) fn give_to_session(&mut self, slot: u32, place: u32, attempt: u32) {
        self.tickets[place].member = slot;
        let member = &mut self.members[slot as usize];
        (member.bound, member.attempt) = (Bound::Lease, attempt);
        member.count += 1;
        member.tickets.push_front(&mut self.tickets, place);
    }

    /// The session is closing: it waits for nothing any more, and its owner has one open session less.
    pub(super) fn deactivate(&mut self, slot: u32) {
        let Member { owner, awaits, .. } = self.members[slot as usize];
        if awaits != NIL {
            self.end_wait(awaits);
        }
        if owner != NIL {
            self.owners.slab[owner].session_closes();
        }
    }

    /// Nothing is left of a session that was closing.
    pub(super) fn remove_member(&mut self, slot: u32) {
        let Member { owner, .. } = self.members.free(slot as usize);
        if owner != NIL {
            self.drop_session(owner);
        }
    }

    /// A hold, or a place in a queue, loses its session: it is its owner's now, or nobody's.
    pub(super) fn make_orphan(&mut self, place: u32, bound: Bound) {
        let member = self.tickets[place].member as usize;
        let Member {
            owner,
            attempt,
            tickets,
            count,
            ..
        } = &mut self.members[member];
        tickets.remove(&mut self.tickets, place);
        *count -= 1;
        let of = (*owner, *attempt);
        self.loose += u64::from(!self.tickets[place].waits());
        self.give_to_owner(of, place, bound);
    }

    /// Gives a ticket that is in no session's list to this owner; to nobody if that is NIL. It may be part of an attempt.
    pub(super) fn give_to_owner(&mut self, (owner, attempt): (u32, u32), place: u32, bound: Bound) {
        if owner == NIL {
            self.tickets[place].member = NIL;
            return;
        }
        let leased = if bound == Bound::Lease { LEASED } else { 0 };
        let (at, mark) = match attempt {
            NIL => (owner, 0),
            attempt => (attempt, ATTEMPT),
        };
        assert!(at < ATTEMPT, "there are fewer owners than tickets");
        self.tickets[place].member = at | ORPHAN | leased | mark;
        let orphans = &mut self.owners.slab[owner].orphans;
        orphans.push_back(&mut self.tickets, place);
    }

    /// A hold of a former life of the server, of a session that had declared nothing.
    pub(super) fn give_to_nobody(&mut self, place: u32) {
        self.tickets[place].member = UNCLAIMED;
    }

    /// A hold without a session: a renewal gives it to no session of its owner from now on.
    pub(super) fn bind_to_lease(&mut self, place: u32) {
        let Ticket { member, .. } = &mut self.tickets[place];
        // For NIL, and for what was nobody's, that is NIL.
        *member |= LEASED;
        if *member == UNCLAIMED {
            *member = NIL;
        }
    }

    /// What ends the holds of this member besides their release.
    pub(super) fn bound_of(&self, member: u32) -> Bound {
        match self.members.get(member as usize) {
            Some(member) => member.bound,
            None if member == NIL || is_leased(member) => Bound::Lease,
            None => Bound::Session,
        }
    }

    /// The declared owner of this member's tickets.
    pub(super) fn named_owner(&self, member: u32) -> Option<(Realm, &[u8])> {
        let place = self.owner_of(member);
        let owner = (place != NIL).then(|| &self.owners.slab[place])?;
        Some((owner.realm, owner.name.bytes()))
    }

    /// Takes a ticket out of the list of its session or, if it has none, of its owner.
    pub(super) fn unlink_member(&mut self, place: u32) {
        let member = self.tickets[place].member;
        if let Some(member) = self.members.get_mut(member as usize) {
            member.count -= 1;
            return member.tickets.remove(&mut self.tickets, place);
        }
        let owner = self.owner_of_orphan(member);
        if owner != NIL {
            let orphans = &mut self.owners.slab[owner].orphans;
            orphans.remove(&mut self.tickets, place);
            self.forget_owner(owner);
        }
    }

    /// A hold that was renewed by another session of its owner moves to that session. So does one that is nobody's since
    /// the server was started again.
    pub(super) fn move_hold(&mut self, place: u32, by: SessionId, out: &mut Outbox) {
        let Ticket { member: former, .. } = self.tickets[place];
        if former == UNCLAIMED {
            let slot = self.ensure_member(by);
            self.move_to(slot, place, by, out);
            if self.members[slot as usize].owner != NIL {
                // It has an owner from now on, after another restart too.
                self.state_hold(place, out);
            }
            return;
        }
        let Some(member) = self.members.get(by.slot() as usize) else {
            return;
        };
        let stays = former == by.slot() || is_leased(former);
        if member.id != by || member.owner == NIL || stays || self.owner_of(former) != member.owner
        {
            return;
        }
        self.move_to(by.slot(), place, by, out);
    }

    fn move_to(&mut self, slot: u32, place: u32, by: SessionId, out: &mut Outbox) {
        let Ticket { member: former, .. } = self.tickets[place];
        let was_ending = self.holder(place) == Actor::Nobody;
        self.unrecord(place, None);
        self.loose -= u64::from(self.members.get(former as usize).is_none());
        self.unlink_member(place);
        self.tickets[place].member = slot;
        let Member {
            tickets,
            count,
            owner,
            ..
        } = &mut self.members[slot as usize];
        tickets.push_back(&mut self.tickets, place);
        *count += 1;
        // The owner's count of holds does not change, unless nobody's becomes its own.
        if former == UNCLAIMED && *owner != NIL {
            self.owners.slab[*owner].holds += 1;
        }
        self.tell_if_freed(former, by, out);
        // The hold would have ended with its session. Now its owner must release it, so this may close a deadlock.
        if was_ending {
            self.refuse_if_stuck(slot, out);
        }
    }

    /// Which actor can end this hold. A hold of a closing session ends with it, unless it is left to the owner.
    pub(super) fn holder(&self, place: u32) -> Actor {
        let Ticket { member, .. } = self.tickets[place];
        match self.members.get(member as usize) {
            Some(&Member {
                closing: true,
                owner,
                ..
            }) if owner != NIL && !self.settings.auto_release && !self.is_untold(place) => {
                Actor::Declared(owner)
            }
            _ => self.actor(member),
        }
    }

    /// Which actor the tickets of this member belong to.
    pub(super) fn actor(&self, member: u32) -> Actor {
        match self.members.get(member as usize) {
            Some(Member { closing: true, .. }) => Actor::Nobody,
            Some(Member { owner: NIL, .. }) => Actor::Session(member),
            _ => match self.owner_of(member) {
                NIL => Actor::Nobody,
                owner => Actor::Declared(owner),
            },
        }
    }

    /// The ticket that an actor waits for; None if it runs.
    pub(super) fn awaited(&self, actor: Actor) -> Option<u32> {
        match actor {
            Actor::Nobody => None,
            Actor::Session(slot) => {
                Some(self.members[slot as usize].awaits).filter(|&place| place != NIL)
            }
            Actor::Declared(place) => {
                let owner = &self.owners.slab[place];
                (owner.waits == 1 && !owner.concurrent).then_some(owner.awaits)
            }
        }
    }

    /// Whether an actor could be stuck: it holds something, and does not count as running in any case.
    pub(super) fn may_be_stuck(&self, actor: Actor) -> bool {
        match actor {
            Actor::Nobody => false,
            Actor::Session(slot) => self.holds(self.members[slot as usize].id),
            Actor::Declared(place) => {
                let owner = &self.owners.slab[place];
                owner.holds > 0 && !owner.concurrent
            }
        }
    }

    /// The actor as others see it: the name of the owner, or the session.
    pub(super) fn owner(&self, actor: Actor) -> Owner {
        match actor {
            Actor::Nobody => Owner::Session(SessionId::NOBODY),
            Actor::Session(slot) => Owner::Session(self.members[slot as usize].id),
            Actor::Declared(place) => Owner::Name(self.owners.slab[place].name.bytes().to_vec()),
        }
    }

    /// The name of the owner of this member's tickets, if it may be shown. The owner of a distlockd claim may not: a
    /// client that knows the name can release the claim.
    pub(super) fn owner_name(&self, member: u32) -> Option<&[u8]> {
        let place = self.owner_of(member);
        let owner = (place != NIL).then(|| &self.owners.slab[place])?;
        (owner.realm == Realm::Declared).then(|| owner.name.bytes())
    }

    /// Panics if an owner is not as it must be.
    pub(super) fn check_owners(&self) {
        let mut seen = 0;
        for place in 0..self.owners.slab.places() {
            let owner = &self.owners.slab[place];
            if owner.sessions == 0 && owner.orphans.is_empty() {
                continue;
            }
            seen += 1;
            let members = self.members.iter().map(|(_, member)| member);
            let mine: Vec<&Member> = members.filter(|m| m.owner == place).collect();
            let speaking = mine.iter().filter(|m| !m.closing).count();
            let waiting = mine.iter().filter(|m| m.awaits != NIL).count();
            assert_eq!(
                (mine.len(), speaking, waiting),
                (
                    owner.sessions as usize,
                    owner.open_sessions as usize,
                    owner.waits as usize
                )
            );
            let orphans: Vec<u32> = owner.orphans.places(&self.tickets).collect();
            let is_its = |&t: &u32| self.owner_of(self.tickets[t].member) == place;
            assert!(orphans.iter().all(is_its));
            let lists = mine.iter().flat_map(|m| m.tickets.places(&self.tickets));
            let all = lists.chain(orphans);
            let holds = all.filter(|&t| !self.tickets[t].waits()).count();
            assert_eq!(holds, owner.holds as usize);
        }
        let len = self.owners.slab.len();
        assert_eq!((seen, self.owners.table.len()), (len, len), "S9");
        let members = self.members.iter().map(|(_, member)| member);
        for member in members.filter(|m| m.awaits != NIL) {
            let ticket = &self.tickets[member.awaits];
            assert!(ticket.waits() && ticket.is_timed() && !member.closing);
            assert_eq!(self.members[ticket.member as usize].id, member.id);
        }
    }

    pub(super) fn find_owner(&self, realm: Realm, name: &[u8]) -> Option<u32> {
        let hash = self.secret.owner(realm, name);
        self.owners.table.find(hash, |place| {
            let owner = &self.owners.slab[place];
            owner.realm == realm && owner.name.is(name)
        })
    }

    /// The owner of this name, which is made if there is none; the caller then gives it a session or a hold at once.
    pub(super) fn owner_by_name(&mut self, realm: Realm, name: &[u8]) -> u32 {
        if let Some(place) = self.find_owner(realm, name) {
            return place;
        }
        let place = self.owners.slab.insert(Declared {
            realm,
            name: Name::new(name),
            ..Declared::default()
        });
        let hash = self.secret.owner(realm, name);
        self.owners.table.insert(hash, place);
        place
    }

    /// The place of the declared owner of this member's tickets; NIL if there is none.
    pub(super) fn owner_of(&self, member: u32) -> u32 {
        match self.members.get(member as usize) {
            Some(member) => member.owner,
            None => self.owner_of_orphan(member),
        }
    }

    /// The place of the owner of a hold without a session; NIL if it has none.
    fn owner_of_orphan(&self, member: u32) -> u32 {
        match attempt_of_orphan(member) {
            NIL if member >= UNCLAIMED => NIL,
            NIL => member & !(ORPHAN | LEASED),
            attempt => self.attempt(attempt).owner,
        }
    }

    /// One session less speaks for the owner.
    fn drop_session(&mut self, owner: u32) {
        self.owners.slab[owner].sessions -= 1;
        self.forget_owner(owner);
    }

    fn forget_owner(&mut self, place: u32) {
        let owner = &self.owners.slab[place];
        if owner.sessions == 0 && owner.orphans.is_empty() {
            let owner = self.owners.slab.remove(place);
            let hash = self.secret.owner(owner.realm, owner.name.bytes());
            self.owners.table.remove(hash, place);
        }
    }
}

impl Declared {
    fn session_closes(&mut self) {
        self.open_sessions -= 1;
        self.concurrent &= self.open_sessions > 0;
    }
}

/// The attempt that a hold without a session is part of; NIL if there is none.
pub(super) fn attempt_of_orphan(member: u32) -> u32 {
    match member {
        member if member >= UNCLAIMED || member & ORPHAN == 0 || member & ATTEMPT == 0 => NIL,
        member => member & !(ORPHAN | LEASED | ATTEMPT),
    }
}

/// Whether a hold is bound by its lease alone.
fn is_leased(member: u32) -> bool {
    member < UNCLAIMED && member & ORPHAN != 0 && member & LEASED != 0
}
