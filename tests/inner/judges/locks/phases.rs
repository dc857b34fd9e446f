//! Two-phase acquires, as the judge of the lock table sees them. A grant from the queue that nobody waits for is
//! told to nobody: the judge works it out from who had a right to it, and learns its token when it is asked for.

use super::{End, Hold, Judge, Slot, Wait, Wish};
use dflockd::command::{Refusal, Reply, SessionId, Token, Us};

/// Marks of lost leases that a session may have.
const LOST_MAX: usize = 1024;

/// What an enqueue left, and that leads to a hold by now.
#[derive(Clone, Copy)]
pub struct Record {
    pub id: SessionId,
    step: u64,
    /// Its fence is above this and, if something was granted in a later step, below that.
    after: u64,
    before: Option<u64>,
}

impl Record {
    pub fn new(id: SessionId, step: u64, after: u64) -> Record {
        let before = None;
        Record {
            id,
            step,
            after,
            before,
        }
    }
}

impl Judge {
    /// Keys that the session has a record of, lost ones included.
    pub fn recorded(&self, id: SessionId) -> Vec<usize> {
        let waits = self.waits.iter().filter(|wait| wait.recorded);
        let waits = waits.filter(|wait| wait.id == id).map(|wait| wait.key);
        let holds = self.holds.iter().filter(|hold| has_record(hold, id));
        let lost = self.lost.iter().filter(|lost| lost.0 == id);
        let holds = holds.map(|hold| hold.key);
        waits.chain(holds).chain(lost.map(|lost| lost.1)).collect()
    }

    /// Whether a second enqueue must be refused. Of a hold that may have ended the table knows more.
    pub(super) fn is_enqueued(&mut self, id: SessionId, key: usize, own: Option<Reply>) -> bool {
        if self.waits_recorded(id, key).is_some() {
            return true;
        }
        let refused = own == Some(Reply::Refused(Refusal::AlreadyEnqueued));
        let is_it = |hold: &Hold| hold.key == key && has_record(hold, id);
        let Some(hold) = self.holds.iter().find(|hold| is_it(hold)) else {
            return false;
        };
        if refused || !hold.fading {
            return true;
        }
        self.end_holds(End::Expired, is_it);
        false
    }

    /// What an enqueue was told.
    pub(super) fn enqueued(
        &mut self,
        from: SessionId,
        own: Option<Reply>,
        entering: Result<Wish, Refusal>,
    ) {
        let Some((wish, free)) = self.slot_for(own, entering) else {
            return;
        };
        self.lost.retain(|&mark| mark != (from, wish.key));
        match own {
            Some(Reply::Acquired { token, lease }) => {
                assert_eq!(lease, wish.lease, "S6: the lease is what was asked for");
                self.grant(from, wish.key, token, lease, true);
            }
            Some(Reply::Queued) => {
                assert!(!free, "nobody queues for a free slot");
                self.queue(from, wish, None, true);
            }
            other => panic!("{other:?} answers no enqueue"),
        }
    }

    /// What a wait was told, or that it was told nothing and goes on.
    pub(super) fn waited(&mut self, from: SessionId, key: usize, wait: Us, own: Option<Reply>) {
        let refusal = |refusal| Some(Reply::Refused(refusal));
        let is_it = |hold: &Hold| hold.key == key && has_record(hold, from);
        if self.draining && !matches!(own, Some(Reply::Granted { .. })) {
            let is_owed = |hold: &Hold| is_it(hold) && !hold.fading;
            assert!(
                !self.holds.iter().any(is_owed),
                "a drain leaves what is held"
            );
            return assert_eq!(own, refusal(Refusal::Draining));
        }
        if let Some(place) = self.waits_recorded(from, key) {
            match own {
                None => {
                    assert!(wait > 0);
                    self.waits[place].due = Some(self.now.saturating_add(wait));
                }
                Some(Reply::Timeout) => {
                    assert_eq!(wait, 0, "early");
                    self.flow.timeouts += 1;
                    self.waits.remove(place);
                }
                Some(Reply::Refused(Refusal::Deadlock)) => {
                    self.waits.remove(place);
                    self.flow.stuck += 1;
                    self.refused(from, key, wait);
                }
                other => panic!("{other:?} answers no wait in a queue"),
            }
            return;
        }
        let hold = self.holds.iter().position(is_it);
        if let (Some(place), Some(Reply::Granted { .. })) = (hold, own) {
            return self.tell(place, own);
        }
        if let Some(place) = hold {
            assert!(self.holds[place].fading, "{own:?}, but it is held");
            self.end_holds(End::Expired, is_it);
        }
        let lost = self.lost.iter().position(|&mark| mark == (from, key));
        match lost.map(|place| self.lost.remove(place)) {
            Some(_) => assert_eq!(own, refusal(Refusal::LeaseExpired)),
            None => assert_eq!(own, refusal(Refusal::NotEnqueued)),
        }
    }

    /// A hold is handed out: the token that its enqueue was told, or one that nobody has seen; and its lease
    /// begins anew.
    fn tell(&mut self, place: usize, own: Option<Reply>) {
        let Some(Reply::Granted { token, lease }) = own else {
            unreachable!("it was just seen")
        };
        self.learn(place, token);
        let hold = &mut self.holds[place];
        assert_eq!(lease, hold.lease, "S6: the lease is what was asked for");
        hold.record = None;
        hold.due = self.now.saturating_add(lease);
        self.holds[place].fading = self.is_doomed(&self.holds[place]);
    }

    /// The token of a hold was told: the one that is known, or one that nobody has seen.
    pub(super) fn learn(&mut self, place: usize, token: Token) {
        let known = |hold: &Hold| hold.token.is_some_and(|t| t.fence == token.fence);
        let stale = self.stale.iter().any(|old| old.1.fence == token.fence);
        match self.holds[place].token {
            Some(told) => assert_eq!((told.fence, told.salt), (token.fence, token.salt)),
            None => {
                let record = self.holds[place].record;
                let Record { after, before, .. } = record.expect("it was granted unheard");
                assert!(!stale && !self.holds.iter().any(known), "S3: used before");
                assert!(after < token.fence, "S7: fences rise");
                assert!(before.is_none_or(|before| token.fence < before), "S7");
                self.last_fence = self.last_fence.max(token.fence);
            }
        }
        self.holds[place].token = Some(token);
    }

    /// S2: somebody was granted a slot of the key: who came before and was not told of it has one, too.
    pub(super) fn promote_before(&mut self, key: usize, mut place: usize) {
        let before = |waits: &[Wait]| waits.iter().position(|wait| wait.key == key);
        while let Some(first) = before(&self.waits[..place]) {
            self.promote(first);
            place -= 1;
        }
    }

    /// Who leads the queue of a key with a free slot has it, though nobody waits for it.
    pub(super) fn promote_free(&mut self, key: usize, limit: u32) {
        let served = !self.draining && !self.life.opening;
        while served && self.held(key).count() < limit as usize {
            let first = self.waits.iter().position(|wait| wait.key == key);
            let Some(first) = first.filter(|&first| self.waits[first].due.is_none()) else {
                break;
            };
            self.promote(first);
        }
    }

    /// The queues are as long as the table says: who has left at their heads, unheard, was granted a slot.
    pub(super) fn promote_unheard(&mut self) {
        let unheard = |waits: &[Wait], from: usize| {
            let rest = waits[from..].iter();
            let place = rest.clone().position(|wait| wait.due.is_none());
            place.map(|place| (from + place, waits[from + place].key))
        };
        let mut from = 0;
        while let Some((place, key)) = unheard(&self.waits, from) {
            let its = |wait: &&Wait| wait.key == key;
            let first = self.waits.iter().position(|wait| wait.key == key);
            if self.waits.iter().filter(its).count() > self.survey.waiting(key) {
                self.promote(first.expect("they were just counted"));
                from = 0;
            } else {
                from = place + 1;
            }
        }
    }

    fn promote(&mut self, place: usize) {
        let wait = self.waits.remove(place);
        if let Some(until) = wait.kept {
            return self.grant_kept(&wait, until);
        }
        assert!(wait.due.is_none(), "S2: nobody barges, S4: one answer");
        self.served(wait.since);
        self.begin_hold(wait.id, wait.key, None, wait.lease, true);
    }

    /// A fence was told: what was granted in former steps, unheard, has a lower one.
    pub(super) fn date_silent(&mut self, fence: u64) {
        let step = self.step;
        let records = self.holds.iter_mut().filter(|hold| hold.token.is_none());
        for record in records.filter_map(|hold| hold.record.as_mut()) {
            if record.step < step {
                record.before.get_or_insert(fence);
            }
        }
    }

    /// Leases ended before somebody waited for what was enqueued.
    pub(super) fn lose(&mut self, mut lost: Vec<(Us, SessionId, usize)>) {
        lost.sort_by_key(|lost| lost.0);
        for (_, id, key) in lost {
            if self.slots[id.slot() as usize] != Slot::Open(id) {
                continue;
            }
            self.lost.push((id, key));
            if self.lost.iter().filter(|lost| lost.0 == id).count() > LOST_MAX {
                let oldest = self.lost.iter().position(|lost| lost.0 == id);
                self.lost.remove(oldest.expect("they were just counted"));
            }
        }
    }

    fn waits_recorded(&self, id: SessionId, key: usize) -> Option<usize> {
        let is_it = |wait: &Wait| wait.recorded && (wait.id, wait.key) == (id, key);
        self.waits.iter().position(is_it)
    }
}

fn has_record(hold: &Hold, id: SessionId) -> bool {
    hold.record.is_some_and(|record| record.id == id)
}
