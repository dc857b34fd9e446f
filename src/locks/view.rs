//! What a listing shows of a key. A listing may take many turns; it asks for one place after the other, so it may miss,
//! or see twice, a key that comes or goes meanwhile. Formatting is not done here. Invariant: to look changes nothing.

use std::iter;

use super::Locks;
use super::ticket::Ticket;
use crate::base::slab::NIL;
use crate::command::{Space, State, TicketView, Token, Us, View};

/// A hold that a request names.
#[derive(Clone, Copy, Debug)]
pub struct HoldView<'a> {
    /// The space of its key.
    pub space: Space,
    /// Its token: a secret.
    pub token: Token,
    /// How long its last grant or repeat was to last.
    pub lease: Us,
    /// The hold as a listing shows it.
    pub ticket: TicketView<'a>,
}

impl Locks {
    /// One above the highest place that [`Locks::view`] may be asked for.
    pub fn places(&self) -> u32 {
        self.keys.places()
    }

    /// The space and the name of the key at a place, if it is used: far less to read than all of its view.
    pub fn used_at(&self, place: u32) -> Option<(Space, &[u8])> {
        let key = &self.keys[place];
        let is_used = !key.is_vacant() && key.idle().is_none();
        is_used.then(|| (key.space(), key.name()))
    }

    /// The key at a place, None if the place is free.
    pub fn view(&self, now: Us, place: u32) -> Option<View<'_>> {
        let now = self.now.max(now);
        let key = &self.keys[place];
        if key.is_vacant() {
            return None;
        }
        let (space, name, limit) = (key.space(), key.name(), key.limit());
        if let Some(idle) = key.idle() {
            let state = State::Idle {
                span: now.saturating_sub(idle.since),
            };
            return Some(View {
                space,
                name,
                limit,
                state,
            });
        }
        let oldest = (key.held > 0).then(|| self.view_ticket(now, key.tickets.first));
        let state = State::Used {
            held: key.held,
            waiting: key.waiting,
            oldest,
        };
        Some(View {
            space,
            name,
            limit,
            state,
        })
    }

    /// The key of this name, if it is used or its limit is kept.
    pub fn view_of(&self, now: Us, space: Space, name: &[u8]) -> Option<View<'_>> {
        let place = self.find(self.secret.hash(space, name), space, name)?;
        self.view(now, place)
    }

    /// The holds of a key in the order of their grants, or its queue in its order, without the first `skip`: that many
    /// steps are made to find the next. None of a key that nobody uses.
    pub fn view_tickets(
        &self,
        now: Us,
        (space, name): (Space, &[u8]),
        waiting: bool,
        skip: usize,
    ) -> impl Iterator<Item = TicketView<'_>> {
        let now = self.now.max(now);
        let place = self.find(self.secret.hash(space, name), space, name);
        let key = place.map(|place| &self.keys[place]);
        let used = key.filter(|key| key.idle().is_none());
        let first = used.map(|key| if waiting { key.next } else { key.tickets.first });
        let some = |place: &u32| *place != NIL;
        let behind = move |&place: &u32| Some(self.tickets[place].behind()).filter(some);
        iter::successors(first.filter(some), behind)
            .skip(skip)
            .take_while(move |&place| self.tickets[place].waits() == waiting)
            .map(move |place| self.view_ticket(now, place))
    }

    /// The hold of this name, in either space, that has this fence. Its lease may be over by now: a renewal that came in
    /// time ends before it.
    pub fn hold_of(&self, now: Us, name: &[u8], fence: u64) -> Option<HoldView<'_>> {
        let now = self.now.max(now);
        let place = [Space::Lock, Space::Semaphore].iter().find_map(|&space| {
            let key = self.find(self.secret.hash(space, name), space, name)?;
            let used = self.keys[key].idle().is_none();
            used.then(|| self.find_fence(key, fence)).flatten()
        })?;
        let Ticket {
            token, lease, key, ..
        } = self.tickets[place];
        Some(HoldView {
            space: self.keys[key].space(),
            token,
            lease,
            ticket: self.view_ticket(now, place),
        })
    }

    fn view_ticket(&self, now: Us, place: u32) -> TicketView<'_> {
        let Ticket {
            token,
            since,
            member,
            ..
        } = self.tickets[place];
        let (end, renews, note) = self.terms_of(place);
        let session = self.members.get(member as usize);
        TicketView {
            fence: token.fence,
            session: session.map(|member| member.id),
            owner: self.owner_name(member),
            age: now.saturating_sub(since),
            lease_left: end.saturating_sub(now),
            renews: renews.map(|until| until.saturating_sub(now)),
            note,
        }
    }
}
