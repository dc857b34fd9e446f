//! What a listing shows of a key. A listing may take many turns; it asks for one place after the other, so it may miss,
//! or see twice, a key that comes or goes meanwhile. Formatting is not done here. Invariant: to look changes nothing.

use super::Locks;
use crate::command::{State, Us, View};

impl Locks {
    /// One above the highest place that [`Locks::view`] may be asked for.
    pub fn places(&self) -> u32 {
        self.keys.places()
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
        let holder = (key.held > 0).then(|| &self.tickets[key.tickets.first]);
        let state = State::Used {
            held: key.held,
            waiting: key.waiting,
            holder: holder
                .and_then(|hold| self.members.get(hold.member as usize))
                .map(|member| member.id),
            owner: holder.and_then(|hold| self.owner_name(hold.member)),
            lease_left: holder.map_or(0, |hold| hold.due.saturating_sub(now)),
        };
        Some(View {
            space,
            name,
            limit,
            state,
        })
    }
}
