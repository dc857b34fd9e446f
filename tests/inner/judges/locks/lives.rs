//! Restarts, as the judge of the lock table sees them. All sessions are gone at once, and with them whatever waited. What
//! clients were told of is held on, if the facts were kept, by the same token and until the same end; nobody knows of the
//! rest, and it is gone too. If they were not, all of it is forgotten, and nothing is granted before its leases are over.

use super::{Flow, Hold, Judge, Key, Owners, Slot, Who, Wish};
use dflockd::command::{Refusal, Reply, Token, Us};
use dflockd::locks::{Locks, Settings};

/// What the judge knows of the lives before.
#[derive(Clone, Default)]
pub(super) struct Life {
    /// S12: when the last lease ends that was told and is carried on by nobody.
    ends: Us,
    /// Holds that were carried on, and their keys.
    adopted: u64,
    keys: usize,
    /// Queues that are not served yet may stand behind free slots.
    pub opening: bool,
}

impl Hold {
    /// Until when its client may count on it.
    fn promised(&self) -> Us {
        self.due.max(self.steps.map_or(0, |steps| steps.until))
    }

    /// It goes on in another life.
    fn carry_on(&mut self, now: Us) {
        (self.record, self.repeated, self.fading) = (None, false, false);
        self.owner = None;
        if let Who::Session(_) = self.who {
            (self.who, self.unclaimed) = (Who::Nobody, true);
        }
        match self.steps {
            // The steps that were missed are taken at once.
            Some(steps) if now < steps.until => self.take_step(now),
            Some(steps) => self.steps = Some(steps.go_on(now, self.due, self.lease)),
            None => {}
        }
    }
}

impl Judge {
    /// The server has died and is there again, with these settings and this table. It `carries` on what was told, or has
    /// forgotten all of it.
    pub fn restarted(&mut self, clock: Us, settings: Settings, carries: bool, locks: &Locks) {
        self.now = self.now.max(clock);
        for mut hold in std::mem::take(&mut self.holds) {
            let Some(token) = hold.token else { continue };
            let key = &self.keys[hold.key];
            let mut views = locks.view_tickets(self.now, (key.space, &key.name), false, 0);
            if views.any(|view| view.fence == token.fence) {
                assert!(carries, "it cannot know of that");
                hold.carry_on(self.now);
                self.holds.push(hold);
                continue;
            }
            assert!(!carries || hold.fading, "a hold is forgotten");
            if !hold.fading {
                self.life.ends = self.life.ends.max(hold.promised());
            }
            self.stale.push((hold.key, token));
        }
        self.forget_sessions();
        self.settings = settings;
        self.life.opening = self.settings.opens > 0;
        let former = self.survey.take(&self.keys, self.now, locks);
        self.life.keys = self.judge_adopted(&former);
        self.life.adopted = self.holds.len() as u64;
        for key in 0..self.keys.len() {
            self.judge_views(key, locks);
        }
        self.compare(locks);
    }

    /// The tokens of claims are told to nobody. Which of two claims that came at once had which shows now.
    pub fn learn_claims(&mut self, locks: &Locks) {
        let is_claim = |hold: &Hold| matches!(hold.who, Who::Claim(_));
        let others = self.holds.iter().filter(|hold| !is_claim(hold));
        let others: Vec<u64> = others.filter_map(|hold| Some(hold.token?.fence)).collect();
        for hold in self.holds.iter_mut().filter(|hold| is_claim(hold)) {
            let Key { space, name, .. } = &self.keys[hold.key];
            let views = locks.view_tickets(self.now, (*space, name), false, 0);
            let ended = |fence| self.stale.iter().any(|old| old.1.fence == fence);
            let mut fences = views.map(|view| view.fence);
            let fence = fences.find(|fence| !others.contains(fence) && !ended(*fence));
            if let Some(shown) = fence.and_then(|fence| locks.hold_of(self.now, name, fence)) {
                hold.token = Some(shown.token);
            }
        }
    }

    /// Nothing that a life has begun goes on in the next, but for holds.
    fn forget_sessions(&mut self) {
        let slots = self.slots.len();
        self.slots = vec![Slot::Free; slots];
        self.believes = vec![false; slots];
        self.owners = Owners::new(slots);
        self.flow = Flow::default();
        self.waits.clear();
        self.ghosts.clear();
        self.told.clear();
        self.breaking.clear();
        self.lost.clear();
        self.ended.clear();
        self.cancel = None;
        self.draining = false;
        self.ends = 0;
        (self.granted, self.released, self.untold) = (0, 0, 0);
        (self.broken, self.unsure_broken) = (0, 0);
    }

    /// S12: whether nothing is granted yet.
    pub(super) fn is_quarantined(&self) -> bool {
        self.now < self.settings.opens
    }

    /// S12: a grant begins now.
    pub(super) fn judge_begin(&self) {
        assert!(!self.is_quarantined(), "S12: nothing is granted yet");
        assert!(self.now >= self.life.ends, "S12: a lease may not be over");
    }

    /// S10: more keys there may not be.
    pub(super) fn most_keys(&self) -> usize {
        self.settings.max_locks.max(self.life.keys)
    }

    /// While more keys are used than there may be, one that falls idle may be a new one to the very request that has found
    /// its lease over: then there is no room for it.
    pub(super) fn unless_too_many(
        &self,
        entering: Result<Wish, Refusal>,
        own: Option<Reply>,
    ) -> Result<Wish, Refusal> {
        let wish = entering?;
        let is_new = self.held(wish.key).all(|hold| hold.fading)
            && self.waits.iter().all(|wait| wait.key != wish.key)
            && self.settings.max_idle == 0;
        let too_many = self.survey.in_use() > self.settings.max_locks;
        match own {
            Some(Reply::Refused(Refusal::MaxLocks)) if is_new && too_many => Err(Refusal::MaxLocks),
            _ => Ok(wish),
        }
    }

    /// S11: how many holds were carried on.
    pub(super) fn adopted(&self) -> u64 {
        self.life.adopted
    }

    /// What sessions held that died with the server, and nobody else has taken: keys and tokens.
    pub fn unclaimed(&self) -> Vec<(usize, Token)> {
        let holds = self.holds.iter().filter(|hold| hold.unclaimed);
        holds
            .filter_map(|hold| Some((hold.key, hold.token?)))
            .collect()
    }

    /// Whether a session may go on in another life, as far as it is known what that has. What a closing session leaves
    /// to nobody is taken from it one by one, and only that makes it last.
    pub fn can_restart(&self) -> bool {
        let closes = |slot: &Slot| matches!(slot, Slot::Closing(_));
        self.settings.auto_release || !self.slots.iter().any(closes)
    }
}
