//! Owners: whose a wait or a hold is. A session that says nothing is its own; sessions that have declared the same name
//! are one sequential actor, which has at most one of them wait at a time. One that was seen in two waits at once is
//! not sequential, and is never taken for stuck. Invariant: an owner is kept while a session speaks for it or a hold that
//! outlived its session is left of it.

use super::ticket::{OF_MEMBER, Ticket};
use super::{Locks, Member};
use crate::base::list::List;
use crate::base::name::Name;
use crate::base::slab::{NIL, Slab};
use crate::base::table::Table;
use crate::command::{Outbox, Owner, Realm, Refusal, Reply, SessionId};

/// Added to the place of an owner in [`Ticket::member`]: the hold is the owner's, and no session's any more.
const ORPHAN: u32 = 1 << 31;

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
    /// Sessions that speak for it, and those of them that are not closing.
    members: u32,
    sessions: u32,
    holds: u32,
    /// Sessions of it that wait, and for which ticket the last of them does.
    waits: u32,
    awaits: u32,
    /// It was seen in two waits at once.
    concurrent: bool,
    /// Holds that outlived their sessions.
    orphans: List<OF_MEMBER>,
}

/// Whose a ticket is, as a node of the graph in which deadlocks are looked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Actor {
    /// The session at this slot, which has declared nothing.
    Session(u32),
    /// The owner at this place.
    Declared(u32),
    /// A hold that outlived its session: its lease ends it.
    Nobody,
}

impl Locks {
    /// The session speaks for this owner from now on, if it has nothing yet.
    pub(super) fn declare(&mut self, from: SessionId, name: &[u8]) -> Reply {
        if self.has(from) {
            return Reply::Refused(Refusal::Error);
        }
        let slot = self.enrol(from);
        let place = self.owner_by_name(Realm::Declared, name);
        self.speak_for(slot, place);
        Reply::Done
    }

    /// The session, which has nothing of its own, speaks for this owner from now on; for itself if that is NIL.
    pub(super) fn speak_for(&mut self, slot: u32, owner: u32) {
        if owner != NIL {
            self.owners.slab[owner].members += 1;
            self.owners.slab[owner].sessions += 1;
        }
        let before = std::mem::replace(&mut self.members[slot as usize].owner, owner);
        if before != NIL {
            self.owners.slab[before].lose_session();
            self.disown(before);
        }
    }

    /// The session begins to wait for what this ticket queues for.
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
        let member = &mut self.members[self.tickets[place].member as usize];
        if member.awaits != place {
            return;
        }
        member.awaits = NIL;
        if member.owner != NIL {
            self.owners.slab[member.owner].waits -= 1;
        }
    }

    /// A session begins to hold, or ends to.
    pub(super) fn count_hold(&mut self, member: u32, more: bool) {
        let place = match self.members.get(member as usize) {
            Some(member) => member.owner,
            None => orphan_of(member),
        };
        if place != NIL {
            let holds = &mut self.owners.slab[place].holds;
            *holds = if more { *holds + 1 } else { *holds - 1 };
        }
    }

    /// The session is closing: its wait is nobody's, and it speaks for nobody.
    pub(super) fn fall_silent(&mut self, slot: u32) {
        let Member { owner, awaits, .. } = self.members[slot as usize];
        if awaits != NIL {
            self.end_wait(awaits);
        }
        if owner != NIL {
            self.owners.slab[owner].lose_session();
        }
    }

    /// Nothing is left of a session that was closing.
    pub(super) fn strike_off(&mut self, slot: u32) {
        let Member { owner, .. } = std::mem::take(&mut self.members[slot as usize]);
        if owner != NIL {
            self.disown(owner);
        }
    }

    /// A hold outlives its session: it is its owner's now, or nobody's.
    pub(super) fn orphan(&mut self, place: u32) {
        let member = self.tickets[place].member as usize;
        let Member {
            owner,
            tickets,
            count,
            ..
        } = &mut self.members[member];
        tickets.remove(&mut self.tickets, place);
        *count -= 1;
        let owner = *owner;
        self.leave_to(owner, place);
    }

    /// A ticket that is in no session's list is this owner's from now on; nobody's if that is NIL.
    pub(super) fn leave_to(&mut self, owner: u32, place: u32) {
        if owner == NIL {
            self.tickets[place].member = NIL;
            return;
        }
        self.tickets[place].member = owner | ORPHAN;
        let orphans = &mut self.owners.slab[owner].orphans;
        orphans.push_back(&mut self.tickets, place);
    }

    /// Takes a ticket out of the list of its session or, if it has outlived that, of its owner.
    pub(super) fn detach(&mut self, place: u32) {
        let member = self.tickets[place].member;
        if let Some(member) = self.members.get_mut(member as usize) {
            member.count -= 1;
            return member.tickets.remove(&mut self.tickets, place);
        }
        let owner = orphan_of(member);
        if owner != NIL {
            let orphans = &mut self.owners.slab[owner].orphans;
            orphans.remove(&mut self.tickets, place);
            self.forget_owner(owner);
        }
    }

    /// A hold that another session of the same owner had moves to the session that has renewed it.
    pub(super) fn adopt(&mut self, place: u32, by: SessionId, out: &mut Outbox) {
        let Some(member) = self.members.get(by.slot() as usize) else {
            return;
        };
        let Ticket { member: former, .. } = self.tickets[place];
        let is_own = former == by.slot();
        if member.id != by || member.owner == NIL || is_own || self.owner_of(former) != member.owner
        {
            return;
        }
        // What is over the limit stays where it is.
        if self.has_enough(by) {
            return;
        }
        let was_ending = self.holder(place) == Actor::Nobody;
        self.unrecord(place, None);
        self.detach(place);
        self.tickets[place].member = by.slot();
        let Member { tickets, count, .. } = &mut self.members[by.slot() as usize];
        tickets.push_back(&mut self.tickets, place);
        *count += 1;
        self.tell_if_freed(former, by, out);
        // It would have ended with its session, and is its owner's again.
        if was_ending {
            self.untie(by.slot(), out);
        }
    }

    /// Who can end this hold, in the graph of those who wait. What goes with its session, which is closing, needs nobody.
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

    /// Whose the tickets of this member are in the graph of those who wait.
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

    /// Whether an actor holds anything, and does not run though it waits.
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

    /// The actor by its name, or as the session that it is.
    pub(super) fn owner(&self, actor: Actor) -> Owner {
        match actor {
            Actor::Nobody => Owner::Session(SessionId::NOBODY),
            Actor::Session(slot) => Owner::Session(self.members[slot as usize].id),
            Actor::Declared(place) => Owner::Name(self.owners.slab[place].name.bytes().to_vec()),
        }
    }

    /// The declared name of whose the tickets of this member are, if it may be seen: to know that of a claim's owner is to
    /// have the right to give it back.
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
            if owner.members == 0 && owner.orphans.is_empty() {
                continue;
            }
            seen += 1;
            let mine: Vec<&Member> = self.members.iter().filter(|m| m.owner == place).collect();
            let speaking = mine.iter().filter(|m| !m.closing).count();
            let waiting = mine.iter().filter(|m| m.awaits != NIL).count();
            assert_eq!(
                (mine.len(), speaking, waiting),
                (
                    owner.members as usize,
                    owner.sessions as usize,
                    owner.waits as usize
                )
            );
            let orphans: Vec<u32> = owner.orphans.places(&self.tickets).collect();
            assert!(
                orphans
                    .iter()
                    .all(|&t| self.tickets[t].member == place | ORPHAN)
            );
            let lists = mine.iter().flat_map(|m| m.tickets.places(&self.tickets));
            let holds = lists.filter(|&t| !self.tickets[t].waits()).count() + orphans.len();
            assert_eq!(holds, owner.holds as usize);
        }
        let len = self.owners.slab.len();
        assert_eq!((seen, self.owners.table.len()), (len, len), "S9");
        for member in self.members.iter().filter(|m| m.awaits != NIL) {
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

    /// The owner of this name, made if there is none; then it needs a session or a hold at once.
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

    /// The place of the declared owner of a member; NIL if there is none.
    pub(super) fn owner_of(&self, member: u32) -> u32 {
        match self.members.get(member as usize) {
            Some(member) => member.owner,
            None => orphan_of(member),
        }
    }

    /// A session does not speak for the owner any more.
    fn disown(&mut self, owner: u32) {
        self.owners.slab[owner].members -= 1;
        self.forget_owner(owner);
    }

    fn forget_owner(&mut self, place: u32) {
        let owner = &self.owners.slab[place];
        if owner.members == 0 && owner.orphans.is_empty() {
            let owner = self.owners.slab.remove(place);
            let hash = self.secret.owner(owner.realm, owner.name.bytes());
            self.owners.table.remove(hash, place);
        }
    }
}

impl Declared {
    fn lose_session(&mut self) {
        self.sessions -= 1;
        self.concurrent &= self.sessions > 0;
    }
}

/// The place of the owner that a hold without a session is left to; NIL if it is nobody's.
fn orphan_of(member: u32) -> u32 {
    match member {
        NIL => NIL,
        member => member & !ORPHAN,
    }
}
