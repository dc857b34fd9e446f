//! What changes the fate of a hold from outside its session, as the judge of the lock table sees it: a detach, a break,
//! a hold that was bound by its lease from the first, and the limit of what one session may hold.

use super::{Act, End, FEW, FEW_ENDS, Hold, Judge, Key, Slot, Who, Wish};
use dflockd::command::{Refusal, Reply, SessionId, Terms, Token, Us};
use dflockd::locks::Locks;

/// A break that goes on: of a key, and of the holds that it had when the break was asked for.
#[derive(Clone)]
pub(super) struct Breaking {
    pub by: SessionId,
    key: usize,
    step: u64,
    most: u64,
}

impl Breaking {
    fn ends(&self, hold: &Hold) -> bool {
        hold.key == self.key && hold.begun < self.step
    }
}

impl Judge {
    /// Whether a break of this session goes on.
    pub fn breaks(&self, id: SessionId) -> bool {
        self.breaking.iter().any(|breaking| breaking.by == id)
    }

    /// Whether a break that goes on ends the hold sooner or later.
    pub(super) fn is_doomed(&self, hold: &Hold) -> bool {
        self.breaking.iter().any(|breaking| breaking.ends(hold))
    }

    /// What a detach was told. The hold lasts for its lease from now on, and is no session's.
    pub(super) fn detached(&mut self, key: usize, token: Token, own: Option<Reply>) {
        let place = self.holds.iter().position(|hold| hold.is(key, token));
        match own {
            Some(Reply::Done) => {
                let place = place.expect("S8: nothing is held by this token");
                let doomed = self.is_doomed(&self.holds[place]);
                let heard = self.heard;
                let hold = &mut self.holds[place];
                if matches!(hold.who, Who::Session(_)) {
                    hold.who = Who::Nobody;
                }
                (hold.owner, hold.record, hold.detached) = (None, None, true);
                hold.unclaimed = false;
                hold.fading = doomed || hold.due <= heard;
            }
            Some(Reply::Refused(Refusal::Error)) => {
                let fading = place.is_none_or(|place| self.holds[place].fading);
                assert!(fading, "a hold ended before its time");
            }
            _ => panic!("S4: {own:?} is no answer"),
        }
    }

    /// What a break was told, or that it was told nothing and goes on: all holds of the key end, or the one with this
    /// fence, and no others.
    pub(super) fn broken(
        &mut self,
        by: SessionId,
        key: usize,
        fence: Option<u64>,
        own: Option<Reply>,
        locks: &Locks,
    ) {
        if let (Some(fence), Some(Reply::Broken { holds: 1 })) = (fence, own) {
            self.guess_fence(key, fence, locks);
        }
        let is_it = |hold: &Hold| {
            let its = |token: Token| fence.is_none_or(|fence| token.fence == fence);
            hold.key == key && (fence.is_none() || hold.token.is_some_and(its))
        };
        let all = self.holds.iter().filter(|hold| is_it(hold)).count() as u64;
        let sure = |hold: &&Hold| is_it(hold) && !hold.fading;
        let sure = self.holds.iter().filter(sure).count() as u64;
        match own {
            Some(Reply::Broken { holds }) => {
                assert!((sure..=all).contains(&holds), "{holds} of {sure} to {all}");
                self.broken += holds;
                if fence.is_none() || holds > 0 {
                    self.end_holds(End::Broken, is_it);
                }
            }
            None => {
                let many = fence.is_none() && all >= FEW_ENDS as u64;
                assert!(many, "so few are broken at once");
                let step = self.step;
                self.ends += all as usize;
                self.holds
                    .iter_mut()
                    .filter(|hold| is_it(hold))
                    .for_each(|hold| hold.fading = true);
                self.breaking.push(Breaking {
                    by,
                    key,
                    step,
                    most: all,
                });
            }
            _ => panic!("S4: {own:?} answers no break"),
        }
    }

    /// A hold with this fence was ended. If that is none which was told, it is one that was granted unheard: as many of
    /// these are left before it as the table still shows with lower fences.
    fn guess_fence(&mut self, key: usize, fence: u64, locks: &Locks) {
        let known: Vec<u64> = (self.held(key))
            .filter_map(|hold| Some(hold.token?.fence))
            .collect();
        if known.contains(&fence) {
            return;
        }
        let Key { space, name, .. } = &self.keys[key];
        let views = locks.view_tickets(self.now, (*space, name), false, 0);
        let unheard = views.map(|view| view.fence).filter(|f| !known.contains(f));
        let unheard: Vec<u64> = unheard.collect();
        let before = unheard.iter().filter(|&&other| other < fence).count();
        let is_its = |hold: &Hold| hold.key == key && hold.token.is_none();
        let sure = |hold: &&Hold| is_its(hold) && !hold.fading;
        // If all that are left are sure to be, it was none of those that are fading.
        let all_sure = self.holds.iter().filter(sure).count() > unheard.len();
        let holds = self.holds.iter_mut();
        let mut holds = holds.filter(|hold| is_its(hold) && !(all_sure && hold.fading));
        if let Some(hold) = holds.nth(before) {
            hold.token = Some(Token { fence, salt: 0 });
        }
    }

    /// A break that went on is over.
    pub(super) fn break_is_over(&mut self, by: SessionId, holds: u64) {
        let place = self.breaking.iter().position(|breaking| breaking.by == by);
        let breaking = self
            .breaking
            .remove(place.expect("S3: an answer answers a request"));
        assert!(holds <= breaking.most, "it has ended what came later");
        self.broken += holds;
        self.end_holds(End::Broken, |hold| breaking.ends(hold));
        self.told.push(by);
    }

    /// Nothing is put off any more: breaks of sessions that are gone are over as well.
    pub(super) fn end_breaks(&mut self) {
        for breaking in std::mem::take(&mut self.breaking) {
            let waits = self.slots.contains(&Slot::Open(breaking.by));
            assert!(!waits, "S4: a break has no end");
            self.unsure_broken += breaking.most;
            self.end_holds(End::Broken, |hold| breaking.ends(hold));
        }
    }

    /// S11: how many holds were broken, as far as that is known.
    pub(super) fn judge_broken(&self, broken: u64) {
        let going_on: u64 = self.breaking.iter().map(|breaking| breaking.most).sum();
        let most = self.broken + self.unsure_broken + going_on;
        assert!((self.broken..=most).contains(&broken), "S11");
    }

    /// What an acquire for an owner was told, or that it was told nothing and waits: the session only asks.
    pub(super) fn acquired_for(
        &mut self,
        from: SessionId,
        act: &Act,
        own: Option<Reply>,
        entering: Result<Wish, Refusal>,
        locks: &Locks,
    ) {
        let Act::AcquireFor {
            key,
            wait,
            name,
            terms,
            ..
        } = *act
        else {
            unreachable!("no other asks for an owner")
        };
        if !self.draining && self.is_ended(key, name.zip(terms.attempt)) {
            return assert_eq!(own, Some(Reply::Cancelled));
        }
        if let Ok(wish) = entering {
            self.promote_free(key, wish.limit);
            if self.is_repeat(from, (wish, wait), (name, terms), own, locks) {
                return;
            }
        }
        let Some((wish, free)) = self.slot_for(own, entering) else {
            return;
        };
        if matches!(own, None | Some(Reply::Refused(Refusal::Deadlock))) {
            self.speaks_for(from, name);
        }
        match own {
            Some(Reply::Granted { token, lease }) => {
                assert_eq!(lease, wish.lease, "S6: the lease is what was asked for");
                self.grant(from, wish.key, token, lease, false);
                self.give_to_owner(from, name);
                self.begin_terms(name, terms);
            }
            Some(Reply::Timeout) => assert!(wait == 0 && !free && terms.keep == 0),
            Some(Reply::Kept { span }) => {
                assert!(wait == 0 && !free && span == terms.keep && span > 0);
                self.queue_kept(wish, span, name, terms);
            }
            None => {
                assert!(wait > 0 && !free, "nobody waits for a free slot");
                let due = Some(self.now.saturating_add(wait));
                self.queue(from, wish, due, false);
                let queued = self.waits.last_mut().expect("it waits");
                (queued.for_owner, queued.terms) = (Some(name), terms);
            }
            Some(Reply::Refused(Refusal::Deadlock)) => {
                assert!(!free, "nobody waits for a free slot");
                self.refused(from, wish.key, wait);
                self.speaks_for(from, None);
            }
            other => panic!("{other:?} answers no acquire"),
        }
    }

    /// A place is kept at once: nobody has waited.
    fn queue_kept(&mut self, wish: Wish, span: Us, name: Option<usize>, terms: Terms<'static>) {
        self.queue(SessionId::NOBODY, wish, None, false);
        self.flow.queued -= 1;
        let queued = self.waits.last_mut().expect("it is kept");
        queued.kept = Some(self.now.saturating_add(span));
        (queued.for_owner, queued.terms) = (Some(name), terms);
    }

    /// What the session was granted last is the owner's, or nobody's, and lasts for its lease.
    pub(super) fn give_to_owner(&mut self, id: SessionId, name: Option<usize>) {
        let hold = self.holds.last_mut().expect("it was just granted");
        hold.who = name.map_or(Who::Nobody, Who::Name);
        (hold.owner, hold.detached) = (None, true);
        self.flow.leased += 1;
        self.told.push(id);
    }

    /// Whether the session has as much as it may, so that it is refused. What is past due of this very
    /// key ends first.
    pub(super) fn is_at_max_holds(
        &mut self,
        from: SessionId,
        (key, limit): (usize, u32),
        own: Option<Reply>,
    ) -> bool {
        let most = self.settings.max_holds as usize;
        if most == 0 || self.draining {
            return false;
        }
        let now = self.now;
        let few = self.survey.limit(key).is_none_or(|limit| limit <= FEW);
        let past = |hold: &Hold| hold.key == key && hold.due <= now;
        let waits = self.waits.iter().filter(|wait| wait.id == from).count();
        let sure = |hold: &&Hold| !hold.fading && !past(hold);
        let sure = self.owns(from).filter(sure).count() + waits;
        // A user with another limit ends no hold.
        let same = !self.survey.is_used(key) || self.survey.limit(key) == Some(limit);
        let maybe = |hold: &&Hold| !few || !same || !past(hold);
        let maybe = self.owns(from).filter(maybe).count() + waits;
        let refused = own == Some(Reply::Refused(Refusal::MaxHolds));
        assert!(refused || sure < most, "S10: one too many");
        assert!(!refused || maybe >= most, "it may have another");
        if refused && few && same {
            self.end_holds(End::Expired, past);
            self.take_steps(Some(key), now);
        } else if same {
            // Perhaps it had as much as it may until these ended.
            let holds = self.holds.iter_mut().filter(|hold| past(hold));
            holds.for_each(|hold| hold.fading = true);
        }
        refused
    }
}
