//! What the lock table shows of one key, against what the judge knows: the holds in the order of their grants, the queue
//! in its order, whose each is, since when, and until when. Of a hold that is fading it makes no claim.

use super::{Hold, Judge, NAMES, Slot, Who};
use dflockd::command::{State, TicketView};
use dflockd::locks::Locks;

impl Judge {
    /// Is it the truth, and all of it?
    pub(super) fn judge_views(&self, key: usize, locks: &Locks) {
        let (space, name) = (self.keys[key].space, &self.keys[key].name[..]);
        let tickets = |waiting| locks.view_tickets(self.now, (space, name), waiting, 0);
        let holders: Vec<TicketView> = tickets(false).collect();
        let queue: Vec<TicketView> = tickets(true).collect();
        let state = locks.view_of(self.now, space, name).map(|view| view.state);
        let (held, waiting, oldest) = match state {
            Some(State::Used {
                held,
                waiting,
                oldest,
            }) => (held as usize, waiting as usize, oldest),
            _ => (0, 0, None),
        };
        assert_eq!((holders.len(), queue.len()), (held, waiting), "all of them");
        assert_eq!(holders.first(), oldest.as_ref());
        self.judge_shown_holds(key, &holders);
        self.judge_shown_queue(key, &queue);
    }

    fn judge_shown_holds(&self, key: usize, holders: &[TicketView]) {
        assert!(holders.is_sorted_by_key(|hold| hold.fence), "as granted");
        let mut untold = self.held(key).filter(|hold| hold.token.is_none()).count();
        let fence = |hold: &Hold| hold.token.map(|token| token.fence);
        for view in holders {
            let mut known = self.held(key);
            match known.find(|hold| fence(hold) == Some(view.fence)) {
                Some(hold) if !hold.fading => self.judge_shown_hold(hold, view),
                Some(_) => {}
                // It was granted unheard.
                None => {
                    assert!(untold > 0, "{view:?} holds nothing");
                    untold -= 1;
                }
            }
        }
        for hold in self.held(key).filter(|hold| !hold.fading) {
            let shown = |view: &TicketView| fence(hold).is_none_or(|fence| fence == view.fence);
            assert!(holders.iter().any(shown), "a hold is not shown");
        }
    }

    fn judge_shown_hold(&self, hold: &Hold, view: &TicketView) {
        // What a closing session leaves is taken from it one by one.
        let closes = view
            .session
            .is_some_and(|id| self.slots.contains(&Slot::Closing(id)));
        assert!(
            view.session == hold.owner || closes && hold.owner.is_none(),
            "whose it is"
        );
        assert_eq!(view.owner, name_of(hold.who), "whose it is");
        assert_eq!(view.age, self.now - hold.since, "since when");
        let left = hold.due.saturating_sub(self.now);
        assert_eq!(view.lease_left, left, "until when");
        let (renews, note) = self.shown_terms(hold);
        assert_eq!((view.renews, view.note), (renews, note), "by which terms");
    }

    fn judge_shown_queue(&self, key: usize, queue: &[TicketView]) {
        let goes = |view: &&TicketView| {
            let is_its =
                |slot: &Slot| matches!(slot, Slot::Closing(id) if view.session == Some(*id));
            !self.slots.iter().any(is_its)
        };
        let shown: Vec<&TicketView> = queue.iter().filter(goes).collect();
        let waits: Vec<_> = self.waits.iter().filter(|wait| wait.key == key).collect();
        assert_eq!(shown.len(), waits.len(), "a waiter is not shown");
        for (view, wait) in shown.iter().zip(waits) {
            let session = wait.kept.is_none().then_some(wait.id);
            assert_eq!((view.fence, view.session), (0, session), "in order");
            assert_eq!(view.owner, self.shown_owner(wait), "who waits");
            assert_eq!(view.note, wait.terms.note, "by which terms");
            assert_eq!(view.age, self.now - wait.since, "since when");
        }
    }
}

/// The name that a listing shows.
pub(super) fn name_of(who: Who) -> Option<&'static [u8]> {
    match who {
        Who::Name(name) => Some(NAMES[name]),
        _ => None,
    }
}
