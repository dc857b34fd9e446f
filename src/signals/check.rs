//! What must hold between any two calls, in code: the invariants of the signals. It looks at everything, so it is for
//! tests and simulations.

use super::Signals;
use crate::base::list::Linked;
use crate::base::slab::NIL;

impl Signals {
    /// Panics if an invariant is broken. Looks at everything: for tests.
    pub fn check(&self) {
        let mut members = 0;
        for place in (0..self.audiences.places()).filter(|&at| self.audiences[at].pattern != NIL) {
            let audience = &self.audiences[place];
            let all: Vec<u32> = audience.members.places(&self.subscriptions).collect();
            assert!(!all.is_empty(), "S9: no audience without listeners");
            assert_eq!(all.len(), audience.count as usize);
            assert!(all.iter().all(|&s| self.subscriptions[s].audience == place));
            assert!(audience.turn == NIL || all.contains(&audience.turn));
            let found = self.find_audience(audience.pattern, audience.group.bytes());
            assert_eq!(found, Some(place));
            members += all.len();
        }
        let mut owned = 0;
        for (slot, listener) in self.listeners.iter() {
            let all: Vec<u32> = listener.subscriptions.places(&self.subscriptions).collect();
            assert_eq!(all.len(), listener.count as usize);
            assert!(self.most == 0 || listener.count <= self.most, "S10");
            assert!(
                all.iter()
                    .all(|&s| self.subscriptions[s].listener == slot as u32)
            );
            assert_eq!(listener.leaving, self.leaving.contains(&(slot as u32)));
            owned += all.len();
        }
        let len = self.subscriptions.len();
        assert_eq!(
            (members, owned, self.by_listener.len()),
            (len, len, len),
            "S9"
        );
        assert_eq!(self.by_group.len(), self.audiences.len(), "S9");
        self.patterns.check(&self.hash, &self.audiences);
        self.check_emissions();
    }

    fn check_emissions(&self) {
        for (audience, member) in self.cursors() {
            assert!(self.audiences[audience].pattern != NIL);
            assert!(member == NIL || self.subscriptions[member].audience == audience);
            assert!(member == NIL || self.subscriptions[member].next(super::OF_AUDIENCE) != member);
        }
    }
}
