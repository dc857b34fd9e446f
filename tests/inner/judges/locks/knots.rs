//! Owners and deadlocks, as the judge of the lock table sees them: whose each wait and each hold is, whether a refusal
//! was right, and that nobody is left who waits for ever. Of a hold that is fading it makes no claim: who may be
//! released by its end is not stuck, and who was refused because of it was perhaps right to be.

use super::{Act, Hold, Judge, Slot};
use dflockd::command::{Bound, Owner, Refusal, Reply, SessionId, Us, WaitEdge};
use dflockd::locks::Locks;

/// What owners are called; one is too long for the inside of a name.
pub const NAMES: [&[u8]; 3] = [b"x", b"an owner with a name of its own", b"both"];

/// Knots that the table keeps to be told.
const KNOTS: usize = 16;

/// Whose a wait or a hold is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Who {
    /// A hold that outlived a session which had declared nothing.
    Nobody,
    Session(SessionId),
    /// The place of its name, which sessions have declared.
    Name(usize),
    /// The place of the name that has claimed it: an owner that never waits.
    Claim(usize),
}

#[derive(Clone, Default)]
pub struct Owners {
    /// By slot: the name that its session has declared.
    names: Vec<Option<usize>>,
    /// By name: it was seen in two waits at once, and still has a session.
    concurrent: [bool; NAMES.len()],
    /// Who waited for what before this command.
    before: Vec<(Who, usize)>,
    /// Who was refused by this command, what it waited for, and whether it had just asked for that.
    refused: Vec<(Who, usize, bool)>,
    /// All refusals.
    refusals: u64,
}

impl Owners {
    pub fn new(slots: usize) -> Owners {
        Owners {
            names: vec![None; slots],
            ..Owners::default()
        }
    }
}

impl Judge {
    /// Who the session is.
    pub fn who(&self, id: SessionId) -> Who {
        self.owners.names[id.slot() as usize].map_or(Who::Session(id), Who::Name)
    }

    /// The slot has a new session.
    pub fn opened(&mut self, slot: usize, id: SessionId) {
        self.slots[slot] = Slot::Open(id);
        self.owners.names[slot] = None;
    }

    /// The session waits for this owner, or for nobody any more, and declares nothing.
    pub(super) fn speaks_for(&mut self, id: SessionId, name: Option<usize>) {
        let before = std::mem::replace(&mut self.owners.names[id.slot() as usize], name);
        // Without a session an owner is forgotten, and with it that it was more than one.
        if let Some(before) = before
            && name != Some(before)
        {
            self.owners.concurrent[before] &= self.speaks(before);
        }
    }

    /// A repeat speaks for the owner of this session, which waits no more: at no time does nobody.
    pub(super) fn hands_over(&mut self, id: SessionId) {
        self.owners.names[id.slot() as usize] = None;
    }

    pub(super) fn begin_knots(&mut self) {
        let waits = self.waits.iter().filter(|wait| wait.due.is_some());
        self.owners.before = waits.map(|wait| (self.who(wait.id), wait.key)).collect();
    }

    /// What a session was told that says who it is: that is for those who have nothing.
    pub(super) fn declared(&mut self, from: SessionId, name: usize, own: Option<Reply>) {
        let waits = self.waits.iter().any(|wait| wait.id == from);
        match own {
            Some(Reply::Done) => {
                let holds = self.owns(from).any(|hold| !hold.fading);
                assert!(!waits && !holds, "what it has is another's");
                self.end_holds(super::End::Expired, |hold| hold.owner == Some(from));
                self.owners.names[from.slot() as usize] = Some(name);
            }
            Some(Reply::Refused(Refusal::Error)) => {
                assert!(waits || self.owns(from).next().is_some(), "it has nothing");
            }
            other => panic!("{other:?} answers no declaration"),
        }
    }

    /// What a renewal was told. The hold moves to the session from another of the same owner, or from nobody if that died
    /// with the server.
    pub(super) fn renewed(&mut self, by: SessionId, act: &Act, own: Option<Reply>) {
        let &Act::Renew {
            key,
            token,
            lease,
            bound,
        } = act
        else {
            unreachable!("no other renews")
        };
        let lease = lease.unwrap_or(self.settings.default_lease);
        let found = self.token_is_held(key, token, own, Reply::Renewed { lease });
        self.note_renewal(found);
        if !found {
            return;
        }
        let who = self.who(by);
        let hold = self.holds.iter_mut().find(|hold| hold.is(key, token));
        let hold = hold.expect("it was just found");
        let takes = bound == Bound::Session;
        let is_its = takes && matches!(who, Who::Name(_)) && hold.who == who;
        if hold.owner != Some(by) && is_its && !hold.detached {
            (hold.owner, hold.record) = (Some(by), None);
        }
        if takes && std::mem::take(&mut hold.unclaimed) {
            (hold.owner, hold.who) = (Some(by), who);
        }
        hold.due = self.now.saturating_add(lease);
        if hold.steps.is_some() {
            hold.lease = lease;
            hold.begin_steps(self.now);
        }
        let closes = |id| self.slots.contains(&Slot::Closing(id));
        hold.fading = hold.owner.is_some_and(closes);
        let place = self.holds.iter().position(|hold| hold.is(key, token));
        let place = place.expect("it was just found");
        self.holds[place].fading |= self.is_doomed(&self.holds[place]);
    }

    /// The session asked for a key that is full, and was refused.
    pub(super) fn refused(&mut self, id: SessionId, key: usize, wait: Us) {
        assert!(self.settings.deadlock_detection, "nobody looks for that");
        assert!(wait > 0, "who does not wait is not stuck");
        let who = self.who(id);
        assert!(!self.is_concurrent(who), "it is more than one");
        assert_eq!(self.awaits(who), None, "its other wait is the older");
        assert!(
            self.holds.iter().any(|hold| hold.who == who),
            "it holds nothing"
        );
        assert!(self.is_stuck(who, key, true), "somebody can go on");
        self.owners.refused.push((who, key, true));
    }

    /// The session was in a wait that was refused because its owner holds something more.
    pub(super) fn untied(&mut self, id: SessionId, key: usize) {
        assert!(self.settings.deadlock_detection, "nobody looks for that");
        let who = self.who(id);
        assert!(!self.is_concurrent(who), "it is more than one");
        self.owners.refused.push((who, key, false));
        self.told.push(id);
    }

    /// After the command: was each refusal right, and is nobody stuck who was not refused?
    pub(super) fn judge_knots(&mut self, act: &Act, knots: Vec<Vec<WaitEdge>>, locks: &Locks) {
        let refused = std::mem::take(&mut self.owners.refused);
        self.owners.refusals += refused.len() as u64;
        let counts = locks.counts();
        assert_eq!(counts.deadlocks, self.owners.refusals);
        let searches = self.settings.deadlock_detection || counts.searches == 0;
        assert!(searches, "nobody looks for that");
        for &(who, key, _) in refused.iter().filter(|refused| !refused.2) {
            self.judge_untied(act, who, key);
        }
        assert_eq!(knots.len(), refused.len().min(KNOTS), "each is told");
        let told = &refused[refused.len() - knots.len()..];
        for (&(who, key, _), knot) in told.iter().zip(&knots) {
            self.judge_knot(who, key, knot);
        }
        self.note_concurrent();
        self.judge_holders();
        // A search that was cut excuses a knot for as long as it lasts.
        if !self.settings.deadlock_detection || counts.searches_cut > 0 {
            return;
        }
        for wait in self.waits.iter().filter(|wait| wait.due.is_some()) {
            let who = self.who(wait.id);
            let stuck = self.awaits(who).is_some() && self.is_stuck(who, wait.key, false);
            assert!(!stuck, "{who:?} waits for ever, for {}", wait.key);
        }
    }

    /// Who was refused without having asked: its owner must have come to hold something with this very command.
    fn judge_untied(&self, act: &Act, who: Who, key: usize) {
        let waited = self.owners.before.contains(&(who, key));
        assert!(waited, "it has not asked");
        let is_new = |hold: &Hold| hold.begun == self.step && hold.token.is_none();
        let mut holds = self.holds.iter().filter(|hold| hold.who == who);
        let renews = matches!(act, Act::Renew { .. });
        assert!(
            holds.any(|hold| is_new(hold) || renews) || self.cancels_for(who),
            "it was given nothing"
        );
        // Others end more than one hold, and not all at once.
        if matches!(
            act,
            Act::Release { .. } | Act::Renew { .. } | Act::Yield { .. }
        ) {
            assert!(self.is_stuck(who, key, true), "somebody can go on");
        }
    }

    /// What the table says of a knot: each of its owners did wait for its key, and nobody else has held one.
    fn judge_knot(&self, who: Who, key: usize, knot: &[WaitEdge]) {
        let tie = |tie: &WaitEdge| {
            let is_it = |key: &super::Key| key.space == tie.space && key.name == tie.key;
            let key = self.keys.iter().position(is_it).expect("they are all here");
            let is_it = |name: &[u8]| tie.owner == Owner::Name(name.to_vec());
            match tie.owner {
                Owner::Session(id) => (Who::Session(id), key),
                Owner::Name(_) => {
                    let name = NAMES.iter().position(|name| is_it(name));
                    (Who::Name(name.expect("they are all here")), key)
                }
            }
        };
        let ties: Vec<(Who, usize)> = knot.iter().map(tie).collect();
        assert_eq!(ties[0], (who, key), "the refused comes first");
        let waited = |tie: &(Who, usize)| self.owners.before.contains(tie);
        assert!(ties[1..].iter().all(waited), "they did not wait: {ties:?}");
        for at in 0..ties.len() {
            let named = ties[..at].iter().any(|tie| tie.0 == ties[at].0);
            assert!(!named, "one waits once: {ties:?}");
            let sure = |hold: &&Hold| !hold.fading && hold.begun < self.step;
            for hold in self.held(ties[at].1).filter(sure) {
                let is_in = ties.iter().any(|tie| tie.0 == hold.who);
                assert!(is_in, "{:?} holds it, too: {ties:?}", hold.who);
            }
        }
    }

    fn note_concurrent(&mut self) {
        for name in 0..NAMES.len() {
            let is_its = |id: SessionId| self.who(id) == Who::Name(name);
            let waits = self.waits.iter().filter(|wait| wait.due.is_some());
            let waits = waits.filter(|wait| is_its(wait.id)).count();
            let speaks = self.speaks(name);
            let concurrent = &mut self.owners.concurrent[name];
            *concurrent = (*concurrent || waits > 1) && speaks;
        }
    }

    /// Whether an open session speaks for the owner of this name.
    fn speaks(&self, name: usize) -> bool {
        let is_its = |id: SessionId| self.who(id) == Who::Name(name);
        let speaks = |slot: &Slot| matches!(*slot, Slot::Open(id) if is_its(id));
        self.slots.iter().any(speaks)
    }

    /// Whose the table says a key is, where there is no doubt.
    fn judge_holders(&self) {
        let mut holders = vec![(0, None); self.keys.len()];
        for hold in &self.holds {
            holders[hold.key].0 += 1;
            holders[hold.key].1 = Some(hold);
        }
        for (key, holder) in holders.into_iter().enumerate() {
            let (1, Some(hold)) = holder else { continue };
            let name = match hold.who {
                Who::Name(name) => Some(name),
                _ => None,
            };
            if !hold.fading {
                assert_eq!(self.survey.owner(key), name, "its owner is another");
            }
        }
    }

    fn is_concurrent(&self, who: Who) -> bool {
        matches!(who, Who::Name(name) if self.owners.concurrent[name])
    }

    /// What an owner waits for; None if it runs.
    fn awaits(&self, who: Who) -> Option<usize> {
        if who == Who::Nobody || self.is_concurrent(who) {
            return None;
        }
        let mut waits = self.waits.iter().filter(|wait| wait.due.is_some());
        let wait = waits.find(|wait| self.who(wait.id) == who);
        wait.map(|wait| wait.key)
    }

    /// Whether all who can be reached from `me`, who waits for `key`, wait: surely, or perhaps.
    fn is_stuck(&self, me: Who, key: usize, perhaps: bool) -> bool {
        let mut keys = vec![key];
        let mut next = 0;
        while let Some(&key) = keys.get(next) {
            next += 1;
            let limit = self.survey.limit(key).expect("it is held") as usize;
            let holds = self.held(key).count();
            if holds < limit {
                return false;
            }
            for hold in self.held(key) {
                let closing =
                    (hold.owner).is_some_and(|id| self.slots.contains(&Slot::Closing(id)));
                if hold.fading && perhaps && holds > limit {
                    continue;
                }
                if hold.fading && (!perhaps || closing) {
                    return false;
                }
                if hold.who == me {
                    continue;
                }
                let Some(awaited) = self.awaits(hold.who) else {
                    return false;
                };
                if !keys.contains(&awaited) {
                    keys.push(awaited);
                }
            }
        }
        true
    }
}
