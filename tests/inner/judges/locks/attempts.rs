//! Attempts, as the judge of the lock table sees them: a request under a name finds what an earlier one has begun, a
//! place is kept for it, an end by that name reaches it wherever it is, and its hold may renew itself. A grant to a place
//! that is kept is told to nobody, as one after an enqueue: the judge works it out, and learns its token from a repeat.

use super::{Act, End, FEW, Hold, Judge, NAMES, Wait, Who, Wish};
use dflockd::command::{Refusal, Renewal, Reply, SECOND, SessionId, Terms, Us};
use dflockd::locks::Locks;

/// What attempts are called.
pub const ATTEMPTS: [&[u8]; 2] = [b"attempt", b"another attempt"];

/// For how long an attempt that was ended is remembered. There are fewer of them than the table remembers.
const ENDED_FOR: Us = 60 * SECOND;

/// The place of its owner's name, and its own name. Its key is told apart.
pub type Attempt = (usize, &'static [u8]);

/// An attempt that was ended.
#[derive(Clone)]
pub(super) struct Ended {
    attempt: Attempt,
    key: Vec<u8>,
    at: Us,
}

/// A command that ends an attempt.
#[derive(Clone)]
pub(super) struct Cancel {
    attempt: Attempt,
    /// All keys of that name.
    keys: Vec<usize>,
    /// Holds that it has ended for sure, and perhaps; and the fences of those that were told.
    sure: u64,
    perhaps: u64,
    fences: Vec<Option<u64>>,
}

/// How a hold renews itself. Until `next` nothing is due; its lease ends at [`Hold::due`].
#[derive(Clone, Copy)]
pub(super) struct Steps {
    renewal: Renewal,
    pub until: Us,
    pub next: Us,
}

impl Steps {
    /// Its client was heard of: the lease is until `due`.
    fn begin(renewal: Renewal, now: Us, due: Us, lease: Us) -> Steps {
        let steps = Steps {
            renewal,
            until: due.max(now.saturating_add(renewal.within)),
            next: 0,
        };
        steps.go_on(now, due, lease)
    }

    /// A third of the lease, or as often as was asked for; with the last step the lease ends.
    pub(super) fn go_on(self, now: Us, due: Us, lease: Us) -> Steps {
        let every = self.renewal.every.min(lease / 3).max(1);
        let next = match due >= self.until {
            true => due,
            false => due.min(now.saturating_add(every)),
        };
        Steps { next, ..self }
    }
}

impl Wait {
    pub(super) fn attempt(&self) -> Option<Attempt> {
        Some((self.for_owner??, self.terms.attempt?))
    }

    /// When it ends by itself.
    pub(super) fn end(&self) -> Option<Us> {
        self.due.or(self.kept)
    }
}

impl Hold {
    /// The client of a hold that renews itself was heard of.
    pub(super) fn begin_steps(&mut self, now: Us) {
        let Hold { due, lease, .. } = *self;
        if let Some(steps) = &mut self.steps {
            *steps = Steps::begin(steps.renewal, now, due, lease);
        }
    }

    /// What the end of its lease would be after a step.
    fn stepped(&self, now: Us) -> Option<Us> {
        let until = self.steps?.until;
        Some(self.due.max(now.saturating_add(self.lease).min(until)))
    }

    pub(super) fn take_step(&mut self, now: Us) {
        self.due = self.stepped(now).expect("it renews itself");
        let Hold { due, lease, .. } = *self;
        self.steps = self.steps.map(|steps| steps.go_on(now, due, lease));
    }
}

impl Judge {
    /// Attempts that hold or wait, and their keys.
    pub fn attempts(&self) -> Vec<(usize, Attempt)> {
        let holds = self.holds.iter().map(|hold| (hold.key, hold.attempt));
        let waits = self.waits.iter().map(|wait| (wait.key, wait.attempt()));
        let all = holds.chain(waits);
        all.filter_map(|(key, attempt)| Some((key, attempt?)))
            .collect()
    }

    /// How many places are kept.
    pub fn kept(&self) -> usize {
        self.waits.iter().filter(|wait| wait.kept.is_some()).count()
    }

    /// Whether a repeat of this attempt is refused, for it was ended.
    pub(super) fn is_ended(&self, key: usize, attempt: Option<Attempt>) -> bool {
        let name = &self.keys[key].name;
        let is_it = |ended: &Ended| Some(ended.attempt) == attempt && ended.key == *name;
        let remembered = |ended: &Ended| self.now <= ended.at.saturating_add(ENDED_FOR);
        self.ended
            .iter()
            .any(|ended| is_it(ended) && remembered(ended))
    }

    /// What was just granted goes by these terms.
    pub(super) fn begin_terms(&mut self, owner: Option<usize>, terms: Terms<'static>) {
        let now = self.now;
        let hold = self.holds.last_mut().expect("it was just granted");
        let Hold { due, lease, .. } = *hold;
        hold.attempt = owner.zip(terms.attempt);
        hold.note = terms.note;
        hold.steps = terms
            .renewal
            .map(|renewal| Steps::begin(renewal, now, due, lease));
        // It ends with the very command that has led to it.
        let (key, attempt) = (hold.key, hold.attempt);
        let is_over = self.cancels(key, attempt);
        self.holds.last_mut().expect("it was just granted").fading = is_over;
    }

    /// A place that was kept has its turn. If it was over by then, it is just gone.
    pub(super) fn grant_kept(&mut self, wait: &Wait, until: Us) {
        if until <= self.now {
            return;
        }
        let owner = wait.for_owner.flatten();
        self.served_kept(wait.since);
        self.begin_hold(SessionId::NOBODY, wait.key, None, wait.lease, true);
        let hold = self.holds.last_mut().expect("it was just granted");
        hold.who = owner.map_or(Who::Nobody, Who::Name);
        (hold.owner, hold.detached, hold.due) = (None, true, until);
        self.begin_terms(owner, wait.terms);
        // Its client is not there, so it does not renew itself yet.
        let hold = self.holds.last_mut().expect("it was just granted");
        let still = |steps: Steps| Steps {
            until,
            next: until,
            ..steps
        };
        hold.steps = hold.steps.map(still);
    }

    /// The request is perhaps a repeat of one before. Then it is judged here.
    pub(super) fn is_repeat(
        &mut self,
        from: SessionId,
        (wish, wait): (Wish, Us),
        (owner, terms): (Option<usize>, Terms<'static>),
        own: Option<Reply>,
        locks: &Locks,
    ) -> bool {
        let Some(attempt) = owner.zip(terms.attempt) else {
            return false;
        };
        let key = wish.key;
        let granted = matches!(own, Some(Reply::Granted { .. }));
        let place = self.wait_of(key, attempt);
        if let Some(place) = place.filter(|_| granted) {
            // Past-due holds of a crowd have made room for it.
            self.promote_before(key, place + 1);
        }
        let is_its = |hold: &Hold| hold.key == key && hold.attempt == Some(attempt);
        if let Some(place) = self.holds.iter().position(is_its) {
            if granted && self.is_told(place, own, locks) {
                self.repeats_hold(place, wish.lease, own);
                return true;
            }
            assert!(self.holds[place].fading, "a repeat has not found its hold");
            self.end_holds(End::Expired, is_its);
        }
        let Some(place) = self.wait_of(key, attempt) else {
            return false;
        };
        let until = self.waits[place].kept;
        let until = until.expect("S3: two sessions wait for one attempt");
        // The session that waited there was told so with this command.
        let waited = until == Us::MAX;
        if until <= self.now && !self.stands_since(from, &self.waits[place], own, locks) {
            self.waits.remove(place);
            return false;
        }
        self.note_take_over(waited, own.is_none(), own);
        self.take_over(from, place, (wish, wait), (owner, terms), own);
        true
    }

    /// Whether the hold that was told is this one, and not a new one after its end.
    fn is_told(&self, place: usize, own: Option<Reply>, locks: &Locks) -> bool {
        let (hold, Some(Reply::Granted { token, .. })) = (&self.holds[place], own) else {
            return false;
        };
        if let Some(known) = hold.token {
            return known.fence == token.fence;
        }
        let key = &self.keys[hold.key];
        let mut views = locks.view_tickets(self.now, (key.space, &key.name), false, 0);
        let view = views.find(|view| view.fence == token.fence);
        view.is_some_and(|view| view.age == self.now - hold.since)
    }

    /// Whether the session has taken over a place that was over already, and did not begin anew at the end.
    fn stands_since(
        &self,
        from: SessionId,
        wait: &Wait,
        own: Option<Reply>,
        locks: &Locks,
    ) -> bool {
        if own.is_some() {
            return !matches!(own, Some(Reply::Granted { .. }));
        }
        let key = &self.keys[wait.key];
        let mut views = locks.view_tickets(self.now, (key.space, &key.name), true, 0);
        let view = views.find(|view| view.session == Some(from));
        view.is_some_and(|view| view.age == self.now - wait.since)
    }

    /// The lease is the request's, unless it ends later; the hold is the same.
    fn repeats_hold(&mut self, place: usize, lease: Us, own: Option<Reply>) {
        let Some(Reply::Granted { token, lease: told }) = own else {
            unreachable!("it was just seen")
        };
        self.learn(place, token);
        let now = self.now;
        let hold = &mut self.holds[place];
        let due = now.saturating_add(told);
        let stepped = hold.steps.is_some_and(|steps| steps.next <= now) && hold.due > now;
        if stepped && due != hold.due && hold.stepped(now) == Some(due) {
            // Of a crowd: the step was in the way of this request.
            hold.take_step(now);
            self.flow.renewals += 1;
        } else {
            self.flow.unsure_renewals += u64::from(stepped);
        }
        let hold = &mut self.holds[place];
        (hold.lease, hold.record, hold.repeated) = (lease, None, true);
        hold.due = hold.due.max(now.saturating_add(lease));
        assert_eq!(told, hold.due - now, "S6: until the later of the ends");
        hold.begin_steps(now);
        self.holds[place].fading = self.is_doomed(&self.holds[place]);
    }

    /// S2: the repeat stands where the request before it stood, and waits as it says itself.
    fn take_over(
        &mut self,
        from: SessionId,
        place: usize,
        (wish, wait): (Wish, Us),
        (owner, terms): (Option<usize>, Terms<'static>),
        own: Option<Reply>,
    ) {
        let now = self.now;
        let taken = &mut self.waits[place];
        (taken.lease, taken.terms) = (wish.lease, terms);
        match own {
            None => {
                assert!(wait > 0);
                (taken.id, taken.kept) = (from, None);
                taken.due = Some(now.saturating_add(wait));
                self.speaks_for(from, owner);
            }
            Some(Reply::Kept { span }) => {
                assert!(wait == 0 && span == terms.keep && span > 0);
                taken.kept = Some(now.saturating_add(span));
            }
            Some(Reply::Timeout) => {
                assert!(wait == 0 && terms.keep == 0);
                self.waits.remove(place);
            }
            Some(Reply::Refused(Refusal::Deadlock)) => {
                self.waits.remove(place);
                self.speaks_for(from, owner);
                self.refused(from, wish.key, wait);
                self.speaks_for(from, None);
            }
            other => panic!("{other:?} answers no repeat"),
        }
    }

    /// A session that waited is told something else than whether it got the slot. Its place stays if it is kept, or if a
    /// repeat has it.
    pub(super) fn hear_of_place(&mut self, place: usize, mut wait: Wait, reply: Reply, act: &Act) {
        let attempt = wait.attempt();
        match (reply, *act) {
            (Reply::Kept { span }, Act::Tick { .. }) => {
                let over = wait.due.is_some_and(|due| due <= self.heard);
                assert!(over && !self.draining, "early");
                assert!(span == wait.terms.keep && span > 0, "S6");
                wait.kept = Some(self.now.saturating_add(span));
                self.flow.timeouts += 1;
            }
            (
                Reply::Superseded,
                Act::AcquireFor {
                    key, name, terms, ..
                },
            ) => {
                let its = name.zip(terms.attempt);
                assert!(its.is_some() && its == attempt && key == wait.key);
                wait.kept = Some(Us::MAX);
            }
            (Reply::Cancelled, Act::Cancel { .. }) => {
                return assert!(self.cancels(wait.key, attempt), "it is another's");
            }
            _ => panic!("{reply:?} answers no acquire"),
        }
        (wait.id, wait.due) = (SessionId::NOBODY, None);
        self.waits.insert(place, wait);
    }

    /// Whether the command under way ends this attempt.
    pub(super) fn cancels(&self, key: usize, attempt: Option<Attempt>) -> bool {
        let cancel = self.cancel.as_ref();
        cancel.is_some_and(|c| Some(c.attempt) == attempt && c.keys.contains(&key))
    }

    /// Whether the command under way ends an attempt of this owner.
    pub(super) fn cancels_for(&self, who: Who) -> bool {
        let cancel = self.cancel.as_ref();
        cancel.is_some_and(|cancel| Who::Name(cancel.attempt.0) == who)
    }

    /// An attempt is to be ended, in both spaces: first the leases that are over, then its holds.
    pub(super) fn begin_cancel(&mut self, key: usize, attempt: Attempt) {
        let name = self.keys[key].name.clone();
        let keys = 0..self.keys.len();
        let keys = keys.filter(|&key| self.keys[key].name == name && self.survey.is_used(key));
        let keys: Vec<usize> = keys.collect();
        let ended = &mut self.ended;
        ended.retain(|ended| ended.attempt != attempt || ended.key != name);
        let at = self.now;
        ended.push(Ended {
            attempt,
            key: name,
            at,
        });
        for &key in &keys {
            let limit = self.survey.limit(key).expect("it is used");
            self.evict(key, limit);
        }
        let is_its = |hold: &Hold| keys.contains(&hold.key) && hold.attempt == Some(attempt);
        let all = self.holds.iter().filter(|hold| is_its(hold));
        let (perhaps, sure): (Vec<&Hold>, Vec<&Hold>) = all.partition(|hold| hold.fading);
        let all = sure.iter().chain(&perhaps);
        let fences = all.clone().map(|hold| hold.token.map(|token| token.fence));
        let fences = fences.collect();
        // Of a crowd a step may have been in the way.
        let step = |hold: &&&Hold| hold.steps.is_some_and(|steps| steps.next <= at);
        self.flow.unsure_renewals += all.filter(step).count() as u64;
        let (sure, perhaps) = (sure.len() as u64, perhaps.len() as u64);
        self.end_holds(End::Otherwise, is_its);
        self.cancel = Some(Cancel {
            attempt,
            keys,
            sure,
            perhaps,
            fences,
        });
    }

    /// What the client was told that has ended its attempt: nothing of that is left.
    pub(super) fn cancelled(&mut self, own: Option<Reply>, locks: &Locks) {
        let cancel = self.cancel.clone().expect("it has begun");
        let Cancel {
            attempt,
            keys,
            mut sure,
            perhaps,
            mut fences,
        } = cancel;
        let released = locks.counts().released - self.released;
        for &key in &keys {
            let limit = self.survey.limit(key).expect("it was used");
            self.promote_free(key, limit);
            let crowd = limit > FEW && released > sure + perhaps;
            if let Some(place) = self.wait_of(key, attempt).filter(|_| crowd) {
                // Past-due holds of a crowd have made room for it, before it was ended.
                self.promote_before(key, place + 1);
            }
            let is_its = |hold: &Hold| hold.key == key && hold.attempt == Some(attempt);
            let its = self.holds.iter().filter(|hold| is_its(hold));
            let its = its.map(|hold| hold.token.map(|token| token.fence));
            let before = fences.len();
            fences.extend(its);
            sure += (fences.len() - before) as u64;
            self.end_holds(End::Otherwise, is_its);
            if let Some(place) = self.wait_of(key, attempt) {
                let wait = self.waits.remove(place);
                assert!(wait.due.is_none(), "its session waits on");
            }
            self.promote_free(key, limit);
        }
        assert!((sure..=sure + perhaps).contains(&released), "S11");
        let Some(Reply::Ended { fence }) = own else {
            panic!("S4: {own:?} is no answer")
        };
        assert_eq!(released > 0, fence > 0, "which hold it has ended");
        let is_it = |known: &Option<u64>| known.is_none_or(|known| known == fence);
        assert!(fence == 0 || fences.iter().any(is_it), "it was another's");
        self.released += released;
        self.cancel = None;
    }

    /// Holds that renew themselves, of this key or all, and are due by `heard`: each takes a step unless it was too late.
    pub(super) fn take_steps(&mut self, key: Option<usize>, heard: Us) {
        let now = self.now;
        let its = |hold: &&mut Hold| key.is_none_or(|key| hold.key == key);
        for hold in self.holds.iter_mut().filter(its) {
            if hold.due > heard && hold.steps.is_some_and(|steps| steps.next <= heard) {
                hold.take_step(now);
                self.flow.renewals += 1;
            }
        }
    }

    /// Of a crowd an acquire makes as many steps as are in its way. What the table shows of each hold tells.
    pub(super) fn follow_steps(&mut self, locks: &Locks) {
        let now = self.now;
        let mut ended = Vec::new();
        for at in 0..self.holds.len() {
            let hold = &self.holds[at];
            let crowd = self.survey.limit(hold.key).is_some_and(|limit| limit > FEW);
            let (Some(steps), Some(token)) = (hold.steps, hold.token.filter(|_| crowd)) else {
                continue;
            };
            let key = &self.keys[hold.key];
            let mut views = locks.view_tickets(now, (key.space, &key.name), false, 0);
            let Some(view) = views.find(|view| view.fence == token.fence) else {
                assert!(hold.fading, "a hold ended before its time");
                ended.push(token.fence);
                continue;
            };
            let due = now + view.lease_left;
            let doomed = self.is_doomed(hold);
            let hold = &mut self.holds[at];
            if view.lease_left > 0 && due != hold.due {
                assert!(steps.next <= now, "a step before its time");
                assert_eq!(Some(due), hold.stepped(now), "a step of another length");
                hold.take_step(now);
                self.flow.renewals += 1;
            }
            hold.fading &= hold.due <= now || doomed;
        }
        let is_it = |hold: &Hold| hold.token.is_some_and(|t| ended.contains(&t.fence));
        self.end_holds(End::Expired, is_it);
        self.count_steps(locks.counts().renewals);
    }

    /// A step that moves no end of a lease, because a longer one was asked for before, shows in the count alone.
    fn count_steps(&mut self, renewals: u64) {
        while renewals > self.flow.renewals + self.flow.unsure_renewals {
            let now = self.now;
            let is_due = |hold: &Hold| {
                let crowd = self.survey.limit(hold.key).is_some_and(|limit| limit > FEW);
                let unseen = hold.stepped(now) == Some(hold.due);
                crowd && unseen && hold.steps.is_some_and(|steps| steps.next <= now)
            };
            let due = (0..self.holds.len()).filter(|&at| is_due(&self.holds[at]));
            let first = due.min_by_key(|&at| self.holds[at].steps.map(|steps| steps.next));
            let Some(first) = first else { break };
            self.holds[first].take_step(now);
            self.flow.renewals += 1;
        }
    }

    /// What the table shows of the terms of a hold.
    pub(super) fn shown_terms(&self, hold: &Hold) -> (Option<Us>, Option<&'static [u8]>) {
        let until = hold.steps.map(|steps| steps.until);
        (until.map(|until| until.saturating_sub(self.now)), hold.note)
    }

    /// The owner of a wait, as the table shows it.
    pub(super) fn shown_owner(&self, wait: &Wait) -> Option<&'static [u8]> {
        match wait.kept {
            Some(_) => wait.for_owner.flatten().map(|name| NAMES[name]),
            None => super::views::name_of(self.who(wait.id)),
        }
    }

    fn wait_of(&self, key: usize, attempt: Attempt) -> Option<usize> {
        let is_its = |wait: &Wait| wait.key == key && wait.attempt() == Some(attempt);
        self.waits.iter().position(is_its)
    }
}
