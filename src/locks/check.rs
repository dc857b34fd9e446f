//! What must hold between any two commands, in code: the invariants of the lock table. It looks at everything, so it is
//! for tests and simulations; asserts of O(1) stand where they belong.

use super::Locks;
use super::crowd::FEW;
use crate::base::slab::NIL;

impl Locks {
    /// Panics if an invariant is broken. Looks at everything: for tests.
    pub fn check(&self) {
        let mut held = 0;
        let mut crowded = 0;
        let (mut seen, mut idle) = (0, 0);
        for place in (0..self.keys.places()).filter(|&place| !self.keys[place].is_vacant()) {
            let key = &self.keys[place];
            seen += 1;
            assert_eq!(
                self.find(self.hash_of(place), key.space(), key.name()),
                Some(place)
            );
            if key.idle().is_some() {
                idle += 1;
                continue;
            }
            self.check_queue(place);
            held += u64::from(key.held);
            crowded += if key.limit() > FEW {
                key.held as usize
            } else {
                0
            };
        }
        assert_eq!((seen, self.table.len()), (self.keys.len(), self.keys.len()));
        assert_eq!((idle, crowded), (self.idle.count, self.crowd.len()));
        let most = self.settings.max_locks.max(self.counts.adopted as usize);
        assert!(self.keys.len() <= most, "S10");
        assert_eq!(held, self.counts().held, "S11");
        self.check_members();
        self.check_owners();
        self.check_records();
        self.check_attempts();
        self.check_spans();
    }

    fn check_queue(&self, place: u32) {
        let key = &self.keys[place];
        let all: Vec<u32> = key.tickets.places(&self.tickets).collect();
        assert_eq!(all.len(), (key.held + key.waiting) as usize);
        assert!(!all.is_empty(), "a key without tickets is idle");
        assert!(key.held <= key.limit(), "S1: no more holds than slots");
        let served = key.held == key.limit() || key.waiting == 0 || !self.serves(place);
        assert!(served, "a free slot is granted");
        assert_eq!(key.next, all.get(key.held as usize).copied().unwrap_or(NIL));
        for (at, &ticket) in all.iter().enumerate() {
            assert_eq!(self.tickets[ticket].key, place);
            assert_eq!(
                self.tickets[ticket].waits(),
                at >= key.held as usize,
                "holds stand before waits"
            );
        }
        assert!(
            all[..key.held as usize].is_sorted_by_key(|&t| self.tickets[t].token.fence),
            "S2, S7"
        );
    }

    fn check_members(&self) {
        let mut owned = 0;
        for (slot, member) in self.members.iter() {
            let all: Vec<u32> = member.tickets.places(&self.tickets).collect();
            assert_eq!(all.len(), member.count as usize);
            assert_eq!(member.closing, self.closing.contains(&(slot as u32)));
            // A hold that a renewal moved here from another session of the same owner, or from a former life of the server,
            // stands last.
            let order = |&t: &u32| match member.owner {
                NIL if self.counts.adopted == 0 => self.tickets[t].token.fence,
                _ => self.tickets[t].token.fence.min(1),
            };
            assert!(
                all.iter().is_sorted_by_key(order),
                "waits, then holds as granted"
            );
            assert!(all.iter().all(|&t| self.tickets[t].member == slot as u32));
            owned += all.len();
        }
        let (mut alive, mut timed, mut loose, mut unowned) = (0, 0, 0, 0);
        for place in (0..self.tickets.places()).filter(|&place| !self.tickets[place].is_vacant()) {
            let ticket = &self.tickets[place];
            alive += 1;
            timed += usize::from(ticket.is_timed());
            let is_loose = self.members.get(ticket.member as usize).is_none();
            unowned += usize::from(is_loose);
            loose += u64::from(is_loose && !ticket.waits());
            assert!(ticket.token.fence < self.next_fence);
            assert!(ticket.is_timed() || ticket.waits(), "every hold has an end");
        }
        assert_eq!(
            (alive, owned + unowned),
            (self.tickets.len(), self.tickets.len()),
            "S9: every ticket is in one list of a session or owner"
        );
        assert_eq!(loose, self.loose, "what a drain does not wait for");
        assert_eq!(
            self.wheel.next().is_some(),
            timed > 0,
            "S9: no timer without its ticket"
        );
    }
}
