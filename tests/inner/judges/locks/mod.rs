//! The judge of the lock table: plain vectors of who holds what and who waits where, and the rules by which one
//! command may change them. It decides nothing by itself: it is shown what the table answered, asks whether that
//! was legal, and believes it. Its one doubt: a hold that is past due or whose session is closing is "fading" -
//! it may have ended, or a later turn may end it - until the table says that it has put nothing off.

mod acts;
mod attempts;
mod claims;
mod flow;
mod force;
mod knots;
mod lives;
mod phases;
mod survey;
mod views;

pub use acts::Act;
pub use attempts::{ATTEMPTS, Attempt};
use attempts::{Cancel, Ended, Steps};
pub use claims::CLAIMANTS;
use dflockd::command::{Notice, Refusal, Reply, SessionId, Space, Terms, Token, Us, WaitEdge};
use dflockd::facts::Outbox;
use dflockd::locks::{Locks, Settings};
use flow::Flow;
use force::Breaking;
use knots::Owners;
pub use knots::{NAMES, Who};
use lives::Life;
use phases::Record;
use survey::Survey;

/// Up to this limit all holds that are past due end before an acquire of their key is judged.
const FEW: u32 = 8;

/// So few ends fit into a turn, or half of one: with fewer nothing may be put off.
const FEW_ENDS: usize = 9;

/// A key of the run, and the limit that most ask for.
#[derive(Clone)]
pub struct Key {
    pub space: Space,
    pub name: Vec<u8>,
    pub limit: u32,
}

/// What a slot is used for.
#[derive(Clone, Copy, PartialEq)]
pub enum Slot {
    Free,
    Open(SessionId),
    /// Closed, and not yet told that nothing is left.
    Closing(SessionId),
}

#[derive(Clone)]
pub struct Hold {
    pub key: usize,
    /// None while nobody was told of it.
    pub token: Option<Token>,
    due: Us,
    /// What it was granted for.
    lease: Us,
    /// None once it has outlived its session, and for a claim.
    pub owner: Option<SessionId>,
    /// Whose it is when deadlocks are looked for.
    pub who: Who,
    /// It is bound by its lease alone.
    pub detached: bool,
    /// Its session died with the server: it passes to the one that renews it.
    unclaimed: bool,
    since: Us,
    /// In which step it began.
    begun: u64,
    fading: bool,
    /// Whose record leads to it, and in which step and after which fence it began.
    pub record: Option<Record>,
    attempt: Option<Attempt>,
    /// A repeat was told of it.
    repeated: bool,
    /// It renews itself.
    steps: Option<Steps>,
    note: Option<&'static [u8]>,
}

#[derive(Clone)]
struct Wait {
    key: usize,
    id: SessionId,
    /// None while nobody waits for it.
    due: Option<Us>,
    /// Nobody waits, but the place is kept until then.
    kept: Option<Us>,
    lease: Us,
    since: Us,
    /// It was enqueued.
    recorded: bool,
    /// The hold will be this owner's, or nobody's, and no session's.
    for_owner: Option<Option<usize>>,
    terms: Terms<'static>,
}

/// What ended a hold.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Expired,
    Broken,
    Otherwise,
}

/// What an acquire and an enqueue ask for.
#[derive(Clone, Copy)]
struct Wish {
    key: usize,
    limit: u32,
    lease: Us,
}

#[derive(Clone)]
pub struct Judge {
    settings: Settings,
    pub keys: Vec<Key>,
    pub slots: Vec<Slot>,
    pub holds: Vec<Hold>,
    /// In order of arrival, over all keys.
    waits: Vec<Wait>,
    /// Tokens of holds that have certainly ended, with their keys.
    pub stale: Vec<(usize, Token)>,
    /// What closing sessions waited for: dead, but perhaps not yet taken out.
    ghosts: Vec<(SessionId, usize)>,
    /// By slot: its session believes that it holds something, for nobody has told it otherwise.
    believes: Vec<bool>,
    /// Who had an answer from this command: with it they look anew at what they hold.
    told: Vec<SessionId>,
    now: Us,
    /// Until when the last tick has heard everything: what is due by then is over.
    heard: Us,
    draining: bool,
    last_fence: u64,
    /// The last one before this command.
    former_fence: u64,
    granted: u64,
    released: u64,
    /// Holds that were broken, and perhaps some more.
    broken: u64,
    unsure_broken: u64,
    breaking: Vec<Breaking>,
    /// Ends that may have come since the last tick.
    ends: usize,
    /// Sessions and keys whose leases were lost, the oldest first.
    lost: Vec<(SessionId, usize)>,
    /// Holds that nobody was told of and that were taken back or may have ended with their sessions.
    untold: u64,
    /// Attempts that were ended, and the one that this command ends.
    ended: Vec<Ended>,
    cancel: Option<Cancel>,
    step: u64,
    life: Life,
    flow: Flow,
    owners: Owners,
    /// What the table said of its keys after the last command.
    pub survey: Survey,
}

impl Key {
    pub fn new(space: Space, name: Vec<u8>, limit: u32) -> Key {
        Key { space, name, limit }
    }
}

impl Hold {
    /// Compared by hand: how tokens compare is judged too.
    fn is(&self, key: usize, token: Token) -> bool {
        let Some(Token { fence, salt }) = self.token else {
            return false;
        };
        self.key == key && (fence, salt) == (token.fence, token.salt)
    }
}

impl Judge {
    pub fn new(settings: Settings, keys: Vec<Key>, slots: usize) -> Judge {
        Judge {
            former_fence: settings.first_fence - 1,
            last_fence: settings.first_fence - 1,
            survey: Survey::new(&keys),
            settings,
            keys,
            slots: vec![Slot::Free; slots],
            holds: Vec::new(),
            waits: Vec::new(),
            stale: Vec::new(),
            ghosts: Vec::new(),
            believes: vec![false; slots],
            told: Vec::new(),
            now: 0,
            heard: 0,
            draining: false,
            granted: 0,
            released: 0,
            broken: 0,
            unsure_broken: 0,
            breaking: Vec::new(),
            ends: 0,
            lost: Vec::new(),
            untold: 0,
            ended: Vec::new(),
            cancel: None,
            step: 0,
            life: Life::default(),
            flow: Flow::default(),
            owners: Owners::new(slots),
        }
    }

    /// The latest time that it has seen.
    pub fn now(&self) -> Us {
        self.now
    }

    /// Whether the session has a request that is not answered.
    pub fn waits(&self, id: SessionId) -> bool {
        (self.waits.iter()).any(|wait| wait.id == id && wait.due.is_some())
    }

    /// Judges what `act` of the session `from` led to.
    pub fn judge(
        &mut self,
        clock: Us,
        from: SessionId,
        act: &Act,
        out: Outbox,
        knots: Vec<Vec<WaitEdge>>,
        locks: &Locks,
    ) {
        // S14: a clock that goes back stands still.
        self.now = self.now.max(clock);
        self.step += 1;
        self.former_fence = self.last_fence;
        let asks = act.is_asked();
        // The answer to who asked comes last.
        let Outbox {
            mut replies,
            notices,
            ..
        } = out;
        let own = match replies.back() {
            Some(&(id, reply)) if asks && id == from => Some(reply),
            _ => None,
        };
        replies.truncate(replies.len() - usize::from(own.is_some()));
        self.note_own(own);
        self.begin_knots();
        let entering = self.begin(from, act, own, locks);
        let entering = self.unless_too_many(entering, own);
        for (id, reply) in replies {
            self.hear(id, reply, act);
        }
        for (id, notice) in notices {
            self.notice(id, notice, act);
        }
        self.answered((from, act), own, entering, locks);
        if asks && !self.waits(from) && !self.breaks(from) {
            self.told.push(from);
        }
        if self.draining && matches!(act, Act::Tick { .. }) {
            self.waits.retain(|wait| wait.due.is_some());
        }
        self.look(act, entering.ok(), knots, locks);
    }

    /// Judges what the table looks like after `act`.
    fn look(&mut self, act: &Act, wish: Option<Wish>, knots: Vec<Vec<WaitEdge>>, locks: &Locks) {
        let last = self.survey.take(&self.keys, self.now, locks);
        self.promote_unheard();
        self.follow_steps(locks);
        self.settle(act, locks);
        self.judge_knots(act, knots, locks);
        self.judge_survey(act, &last, wish);
        self.compare(locks);
        if let Some(key) = act.key() {
            self.judge_views(key, locks);
        }
    }

    /// What who asked was told, or that it was told nothing and waits.
    fn answered(
        &mut self,
        (from, act): (SessionId, &Act),
        own: Option<Reply>,
        entering: Result<Wish, Refusal>,
        locks: &Locks,
    ) {
        match *act {
            Act::Acquire { wait, .. } => self.acquired(from, wait, own, entering),
            Act::AcquireFor { .. } => self.acquired_for(from, act, own, entering, locks),
            Act::Cancel { .. } => self.cancelled(own, locks),
            Act::Enqueue { .. } => self.enqueued(from, own, entering),
            Act::Wait { key, wait } => self.waited(from, key, wait, own),
            Act::Declare { name } => self.declared(from, name, own),
            Act::Claim { name, .. } => self.claimed(from, name, own, entering),
            _ => {}
        }
    }

    /// What the command ends by itself, or from now on may end. For an acquire and an enqueue: why it must not
    /// enter the key, if there is a reason.
    fn begin(
        &mut self,
        from: SessionId,
        act: &Act,
        own: Option<Reply>,
        locks: &Locks,
    ) -> Result<Wish, Refusal> {
        match *act {
            Act::Acquire {
                key, limit, lease, ..
            } => {
                if self.is_at_max_holds(from, (key, limit), own) {
                    return Err(Refusal::MaxHolds);
                }
                return self.enter(key, limit, lease);
            }
            Act::AcquireFor {
                key,
                limit,
                lease,
                name,
                terms,
                ..
            } => {
                if self.draining || !self.is_ended(key, name.zip(terms.attempt)) {
                    return self.enter(key, limit, lease);
                }
            }
            Act::Cancel { key, name, attempt } => self.begin_cancel(key, (name, attempt)),
            Act::Enqueue { key, limit, lease } => {
                if !self.draining && self.is_enqueued(from, key, own) {
                    return Err(Refusal::AlreadyEnqueued);
                }
                if self.is_at_max_holds(from, (key, limit), own) {
                    return Err(Refusal::MaxHolds);
                }
                return self.enter(key, limit, lease);
            }
            Act::Detach { key, token } => self.detached(key, token, own),
            Act::Break { key, fence } => self.broken(from, key, fence, own, locks),
            Act::Claim { key, .. } => return self.enter(key, 1, Some(self.settings.claim_lease)),
            Act::Yield { key, name } => self.yielded(key, name, own),
            Act::Wait { .. } | Act::Declare { .. } => {}
            Act::Release { key, token } => {
                let was = self.token_is_held(key, token, own, Reply::Released);
                self.end_holds(End::Otherwise, |hold| hold.is(key, token) && was);
                self.released += u64::from(was);
            }
            Act::Renew { .. } => self.renewed(from, act, own),
            Act::TakeBack { key, token } => self.taken_back(key, token),
            Act::Close => self.close(from),
            Act::Drain => self.draining = true,
            Act::Tick { heard } => self.hear_until(heard),
        }
        Err(Refusal::Error)
    }

    /// What nobody has heard of ends. A hold that a repeat has found its client knows of.
    fn taken_back(&mut self, key: usize, token: Token) {
        let is_it = |hold: &Hold| hold.is(key, token) && !hold.repeated;
        self.untold += u64::from(self.holds.iter().any(is_it));
        self.end_holds(End::Otherwise, is_it);
    }

    /// All that is due by then ends, or takes its step.
    fn hear_until(&mut self, heard: Us) {
        self.heard = heard.min(self.now);
        for hold in &mut self.holds {
            hold.fading |= hold.due <= self.heard;
        }
        self.ends += self.holds.iter().filter(|hold| hold.fading).count();
        let heard = self.heard;
        let over = |due: Us| due <= heard;
        let ends = |wait: &&Wait| wait.end().is_some_and(over) || self.draining;
        self.ends += self.waits.iter().filter(ends).count() + self.ghosts.len();
        if self.life.opening && !self.is_quarantined() {
            self.ends += self.waits.len();
        }
        self.waits.retain(|wait| !wait.kept.is_some_and(over));
        self.take_steps(None, heard);
    }

    /// The checks in their order; then past-due holds of the key end before the request is judged.
    fn enter(&mut self, key: usize, limit: u32, lease: Option<Us>) -> Result<Wish, Refusal> {
        if self.draining {
            return Err(Refusal::Draining);
        }
        match self.survey.limit(key) {
            Some(fixed) if fixed != limit && self.survey.is_used(key) => {
                return Err(Refusal::LimitMismatch);
            }
            None if self.survey.in_use() >= self.settings.max_locks => {
                return Err(Refusal::MaxLocks);
            }
            // An idle key takes the limit of whoever comes next.
            _ => self.survey.fix(key, limit),
        }
        self.evict(key, limit);
        Ok(Wish {
            key,
            limit,
            lease: lease.unwrap_or(self.settings.default_lease),
        })
    }

    /// Holds of the key that are past due end before a request is carried out.
    fn evict(&mut self, key: usize, limit: u32) {
        let now = self.now;
        if limit > FEW {
            // Of a crowd only as many end as are wanted, and the timers see to the rest.
            let past = |hold: &&mut Hold| hold.key == key && hold.due <= now;
            self.holds
                .iter_mut()
                .filter(past)
                .for_each(|hold| hold.fading = true);
        } else {
            self.end_holds(End::Expired, |hold| hold.key == key && hold.due <= now);
            self.take_steps(Some(key), now);
        }
    }

    /// S3, S8: whether the table has rightly found the hold of a token. Nothing but what is held is found, and
    /// what is certainly held must be.
    fn token_is_held(&mut self, key: usize, token: Token, own: Option<Reply>, yes: Reply) -> bool {
        let hold = self.holds.iter().find(|hold| hold.is(key, token));
        match own {
            Some(reply) if reply == yes => {
                assert!(hold.is_some(), "S8: nothing is held by this token");
                true
            }
            Some(Reply::Refused(Refusal::Error)) => {
                let fading = hold.is_none_or(|hold| hold.fading);
                assert!(fading, "a hold ended before its time");
                self.end_holds(End::Expired, |hold| hold.is(key, token));
                false
            }
            _ => panic!("S4: {own:?} is no answer"),
        }
    }

    fn close(&mut self, id: SessionId) {
        let waits = self.waits.iter().filter(|wait| wait.id == id).count();
        self.ends += self.owns(id).count() + waits + 1;
        self.slots[id.slot() as usize] = Slot::Closing(id);
        self.lost.retain(|&(session, _)| session != id);
        let ghosts = &mut self.ghosts;
        self.waits.retain(|wait| {
            if wait.id == id {
                ghosts.push((id, wait.key));
            }
            wait.id != id
        });
        for hold in self.holds.iter_mut().filter(|h| h.owner == Some(id)) {
            // What nobody can know of ends, too.
            let untold = hold.record.is_some() && hold.token.is_none();
            self.untold += u64::from(untold);
            hold.record = None;
            if self.settings.auto_release || untold {
                hold.fading = true;
            } else {
                hold.owner = None;
                if hold.who == Who::Session(id) {
                    hold.who = Who::Nobody;
                }
            }
        }
    }

    fn notice(&mut self, id: SessionId, notice: Notice, act: &Act) {
        let slot = id.slot() as usize;
        if notice == Notice::Closed {
            assert!(self.slots[slot] == Slot::Closing(id), "nobody closes it");
            self.slots[slot] = Slot::Free;
            self.believes[slot] = false;
            self.ghosts.retain(|&(ghost, _)| ghost != id);
            return self.end_holds(End::Otherwise, |hold| hold.owner == Some(id));
        }
        assert!(self.slots[slot] == Slot::Open(id), "a closed session hears");
        assert!(self.believes[slot], "it is told once, and only what is new");
        self.believes[slot] = false;
        if self.draining && matches!(act, Act::Tick { .. }) {
            self.waits
                .retain(|wait| wait.id != id || wait.due.is_some());
        }
        assert!(self.waits.iter().all(|wait| wait.id != id), "it waits");
        assert!(self.owns(id).all(|hold| hold.fading), "it holds");
        self.end_holds(End::Expired, |hold| hold.owner == Some(id));
    }

    fn hear(&mut self, id: SessionId, reply: Reply, act: &Act) {
        let slot = id.slot() as usize;
        // S5, S9
        assert!(self.slots[slot] == Slot::Open(id), "a closed session hears");
        if let Reply::Broken { holds } = reply {
            return self.break_is_over(id, holds);
        }
        let asked = |wait: &Wait| wait.id == id && wait.due.is_some();
        let place = self.waits.iter().position(asked);
        let place = place.expect("S3: an answer answers a request");
        let wait = self.waits.remove(place);
        match reply {
            Reply::Granted { token, lease } => {
                assert_eq!(lease, wait.lease, "S6: the lease is what was asked for");
                self.promote_before(wait.key, place);
                self.served(wait.since);
                self.grant(id, wait.key, token, lease, false);
                if let Some(name) = wait.for_owner {
                    self.give_to_owner(id, name);
                    self.begin_terms(name, wait.terms);
                }
            }
            Reply::Timeout => {
                let over = wait.due.is_some_and(|due| due <= self.heard);
                assert!(matches!(act, Act::Tick { .. }) && over, "early");
                let kept = wait.terms.keep > 0 && !self.draining;
                assert!(!kept, "its place is to be kept");
                self.flow.timeouts += 1;
                self.told.push(id);
            }
            Reply::Refused(Refusal::Draining) => {
                assert!(self.draining && matches!(act, Act::Tick { .. }));
                self.flow.drained += 1;
                self.told.push(id);
            }
            Reply::Refused(Refusal::Deadlock) => {
                self.flow.stuck += 1;
                self.untied(id, wait.key);
            }
            _ => {
                match reply {
                    Reply::Superseded => self.hands_over(id),
                    _ => self.speaks_for(id, None),
                }
                self.told.push(id);
                return self.hear_of_place(place, wait, reply, act);
            }
        }
        if wait.for_owner.is_some() {
            self.speaks_for(id, None);
        }
    }

    fn grant(&mut self, id: SessionId, key: usize, token: Token, lease: Us, recorded: bool) {
        assert!(token.fence > self.last_fence, "S7: fences rise");
        self.date_silent(token.fence);
        self.last_fence = token.fence;
        self.believes[id.slot() as usize] = true;
        self.begin_hold(id, key, Some(token), lease, recorded);
    }

    fn begin_hold(
        &mut self,
        id: SessionId,
        key: usize,
        token: Option<Token>,
        lease: Us,
        recorded: bool,
    ) {
        assert!(!self.draining, "nothing is granted any more");
        self.judge_begin();
        let limit = self.survey.limit(key).expect("the key is there") as usize;
        let sure = self.held(key).filter(|hold| !hold.fading).count();
        assert!(sure < limit, "S1: no slot is free");
        self.granted += 1;
        self.holds.push(Hold {
            key,
            token,
            due: self.now.saturating_add(lease),
            lease,
            owner: Some(id),
            who: self.who(id),
            detached: false,
            unclaimed: false,
            since: self.now,
            begun: self.step,
            fading: false,
            record: recorded.then(|| Record::new(id, self.step, self.former_fence)),
            attempt: None,
            repeated: false,
            steps: None,
            note: None,
        });
    }

    /// What an acquire was told, or that it was told nothing and waits.
    fn acquired(
        &mut self,
        from: SessionId,
        wait: Us,
        own: Option<Reply>,
        entering: Result<Wish, Refusal>,
    ) {
        let (wish, free) = match self.slot_for(own, entering) {
            Some(entered) => entered,
            None => return,
        };
        match own {
            Some(Reply::Granted { token, lease }) => {
                assert_eq!(lease, wish.lease, "S6: the lease is what was asked for");
                self.grant(from, wish.key, token, lease, false);
            }
            Some(Reply::Timeout) => assert!(wait == 0 && !free),
            None => {
                assert!(wait > 0 && !free, "nobody waits for a free slot");
                let due = Some(self.now.saturating_add(wait));
                self.queue(from, wish, due, false);
            }
            Some(Reply::Refused(Refusal::Deadlock)) => {
                assert!(!free, "nobody waits for a free slot");
                self.refused(from, wish.key, wait);
            }
            other => panic!("{other:?} answers no acquire"),
        }
    }

    /// Whether who asks finds a free slot of the key; None if it was rightly refused.
    fn slot_for(
        &mut self,
        own: Option<Reply>,
        entering: Result<Wish, Refusal>,
    ) -> Option<(Wish, bool)> {
        let wish = match entering {
            Ok(wish) => wish,
            Err(refusal) => {
                assert_eq!(own, Some(Reply::Refused(refusal)));
                return None;
            }
        };
        self.promote_free(wish.key, wish.limit);
        let granted = matches!(own, Some(Reply::Granted { .. } | Reply::Acquired { .. }));
        if granted {
            // Past-due holds of a crowd have made room for those who came before, too.
            self.promote_before(wish.key, self.waits.len());
        }
        let waiting = self.waits.iter().filter(|w| w.key == wish.key).count();
        let ghosts = self.ghosts.iter().filter(|g| g.1 == wish.key).count();
        let free = waiting == 0 && self.held(wish.key).count() < wish.limit as usize;
        let free = free && !self.is_quarantined();
        let most = self.settings.max_waiters as usize;
        if own == Some(Reply::Refused(Refusal::MaxWaiters)) {
            assert!(
                !free && most > 0 && waiting + ghosts >= most,
                "there is room"
            );
            return None;
        }
        assert!(waiting == 0 || !granted, "S2: nobody barges");
        let full = most > 0 && waiting >= most;
        assert!(granted || !full, "S10: the queue is full");
        Some((wish, free))
    }

    fn queue(&mut self, id: SessionId, wish: Wish, due: Option<Us>, recorded: bool) {
        let Wish { key, lease, .. } = wish;
        self.flow.queued += 1;
        self.waits.push(Wait {
            key,
            id,
            due,
            lease,
            since: self.now,
            recorded,
            for_owner: None,
            kept: None,
            terms: Terms::default(),
        });
    }

    /// After the command: is everything done that had to be?
    fn settle(&mut self, act: &Act, locks: &Locks) {
        let deadline = locks.deadline();
        let put_off = deadline.is_some_and(|due| due <= self.heard);
        let closing = |slot: &Slot| matches!(slot, Slot::Closing(_));
        let turn = matches!(act, Act::Tick { .. });
        if self.ends < FEW_ENDS {
            let some_close = self.slots.iter().any(closing);
            assert!(!some_close, "a small session closes at once");
            assert!(!turn || !put_off, "a small turn puts nothing off");
        }
        if turn {
            self.ends = 0;
            if !put_off {
                let heard = self.heard;
                let over = |due: Us| due <= heard;
                self.end_holds(End::Expired, |hold| hold.fading && over(hold.due));
                let waits = |wait: &Wait| wait.end().is_some_and(over) || self.draining;
                assert!(!self.waits.iter().any(waits), "S4: a wait has no end");
                assert!(!self.slots.iter().any(closing), "S9: a close has no end");
                self.end_breaks();
                self.life.opening &= self.is_quarantined();
            } else {
                // What closing sessions that keep their holds have left is not known.
                self.ends += self.slots.iter().filter(|slot| closing(slot)).count() * FEW_ENDS;
            }
        }
        for wait in &self.waits {
            let limit = self.survey.limit(wait.key).expect("its key is there");
            let full = self.held(wait.key).count() >= limit as usize;
            let served = !self.draining && !self.life.opening;
            assert!(full || !served, "somebody waits for a free slot");
        }
        let dues = self.holds.iter().filter(|h| !h.fading);
        let dues = dues.map(|h| h.steps.map_or(h.due, |steps| steps.next));
        let waits = self.waits.iter().filter_map(Wait::end);
        let idle = self.survey.idle_since().min();
        let idle = idle.map(|since| since.saturating_add(self.settings.max_idle));
        let opens = self.is_quarantined().then_some(self.settings.opens);
        let first = dues.chain(waits).chain(idle).chain(opens).min();
        let wakes = first.is_none() || deadline.is_some_and(|due| Some(due) <= first);
        assert!(wakes, "it sleeps too long");
    }

    /// What the table says of itself, against what the judge knows.
    fn compare(&mut self, locks: &Locks) {
        let (counts, most) = (locks.counts(), self.holds.len());
        let least = self.holds.iter().filter(|hold| !hold.fading).count();
        let begun = (counts.granted, counts.adopted);
        assert_eq!(begun, (self.granted, self.adopted()), "S11");
        assert_eq!(counts.released, self.released, "S11");
        self.judge_broken(counts.broken);
        self.compare_flow(&counts);
        let closed = self.settings.auto_release || counts.closed <= self.untold;
        assert!(closed, "S11");
        assert!((least..=most).contains(&(counts.held as usize)), "S11");
        assert_eq!(locks.keys(), self.survey.in_use());
        for id in self.told.drain(..) {
            self.believes[id.slot() as usize] = locks.has(id);
        }
        for (slot, state) in self.slots.iter().enumerate() {
            let &Slot::Open(id) = state else { continue };
            let has = locks.has(id);
            let waits = self.waits.iter().any(|wait| wait.id == id);
            let surely = waits || self.owns(id).any(|hold| !hold.fading);
            assert!(has || !surely, "something is lost");
            assert!(!has || surely || self.owns(id).next().is_some(), "S9");
            // The answer to its break, which goes on, will tell.
            let told = !self.believes[slot] || self.breaks(id);
            assert!(has || told, "nobody has told it");
        }
    }

    /// S9, S11: at the end.
    pub fn is_over(&self, locks: &Locks) {
        assert!(self.holds.is_empty() && self.waits.is_empty());
        assert!(self.slots.iter().all(|&slot| slot == Slot::Free));
        assert_eq!((locks.keys(), locks.counts().held), (0, 0));
        assert!(self.lost.is_empty() && self.survey.is_empty());
    }

    fn held(&self, key: usize) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(move |hold| hold.key == key)
    }

    fn owns(&self, id: SessionId) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(move |hold| hold.owner == Some(id))
    }

    fn end_holds(&mut self, end: End, ended: impl Fn(&Hold) -> bool) {
        let (stale, mut lost) = (&mut self.stale, Vec::new());
        self.holds.retain(|hold| {
            let ends = ended(hold);
            if ends {
                stale.extend(hold.token.map(|token| (hold.key, token)));
            }
            if ends && end != End::Otherwise {
                lost.extend(hold.record.map(|record| (hold.due, record.id, hold.key)));
            }
            !ends
        });
        self.lose(lost);
    }
}
