//! The judge of the lock table: plain vectors of who holds what and who waits where, and the rules by which one
//! command may change them. It decides nothing by itself: it is shown what the table answered, asks whether that
//! was legal, and believes it. Its one doubt: a hold that is past due or whose session is closing is "fading" -
//! it may have ended, or a later turn may end it - until the table says that it has put nothing off.

use dflockd::command::{Refusal, Replies, Reply, SessionId, Space, Token, Us};
use dflockd::locks::{Locks, Settings};

/// So few ends fit into a turn, or half of one: with fewer nothing may be put off.
const FEW_ENDS: usize = 250;

/// A key of the run. Its limit never changes.
pub struct Key {
    pub space: Space,
    pub name: Vec<u8>,
    pub limit: u32,
}

/// One command, its key an index.
#[derive(Debug)]
pub enum Act {
    Acquire {
        key: usize,
        wait: Us,
        lease: Option<Us>,
    },
    Release {
        key: usize,
        token: Token,
    },
    Renew {
        key: usize,
        token: Token,
        lease: Option<Us>,
    },
    Close,
    Drain,
    Tick,
}

/// What a slot is used for.
#[derive(Clone, Copy, PartialEq)]
pub enum Slot {
    Free,
    Open(SessionId),
    /// Closed, and not yet told that nothing is left.
    Closing(SessionId),
}

pub struct Hold {
    pub key: usize,
    pub token: Token,
    due: Us,
    /// None once it has outlived its session.
    pub owner: Option<SessionId>,
    fading: bool,
}

struct Wait {
    key: usize,
    id: SessionId,
    due: Us,
    lease: Us,
}

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
    draining: bool,
    last_fence: u64,
    granted: u64,
    released: u64,
    /// Ends that may have come since the last tick.
    ends: usize,
    /// Keys in use after the last command.
    in_use: usize,
}

impl Key {
    pub fn new(space: Space, name: Vec<u8>, limit: u32) -> Key {
        Key { space, name, limit }
    }
}

impl Hold {
    /// Compared by hand: how tokens compare is judged too.
    fn is(&self, key: usize, token: Token) -> bool {
        let Token { fence, salt } = self.token;
        (self.key, fence, salt) == (key, token.fence, token.salt)
    }
}

impl Judge {
    pub fn new(settings: Settings, keys: Vec<Key>, slots: usize) -> Judge {
        Judge {
            last_fence: settings.first_fence - 1,
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
            draining: false,
            granted: 0,
            released: 0,
            ends: 0,
            in_use: 0,
        }
    }

    pub fn waits(&self, id: SessionId) -> bool {
        self.waits.iter().any(|wait| wait.id == id)
    }

    /// Judges what `act` of the session `from` led to.
    pub fn judge(
        &mut self,
        clock: Us,
        from: SessionId,
        act: &Act,
        mut replies: Replies,
        locks: &Locks,
    ) {
        // S14: a clock that goes back stands still.
        self.now = self.now.max(clock);
        let asks = !matches!(act, Act::Close | Act::Drain | Act::Tick);
        // The answer to who asked comes last.
        let own = match replies.back() {
            Some(&(id, reply)) if asks && id == from && reply != Reply::Freed => Some(reply),
            _ => None,
        };
        replies.truncate(replies.len() - usize::from(own.is_some()));
        let was_in_use = match *act {
            Act::Acquire { key, .. } => self.uses(key),
            _ => Maybe::No,
        };
        self.begin(from, act, own);
        for (id, reply) in replies {
            self.hear(id, reply, act);
        }
        if let Act::Acquire { key, wait, lease } = *act {
            self.acquired(from, key, wait, lease, own, was_in_use);
        }
        if asks && !self.waits(from) {
            self.told.push(from);
        }
        self.settle(act, locks);
        self.compare(locks);
    }

    /// What the command ends by itself, or from now on may end.
    fn begin(&mut self, from: SessionId, act: &Act, own: Option<Reply>) {
        let now = self.now;
        match *act {
            // Past-due holds of the key end before the request is judged.
            Act::Acquire { key, .. } if !self.draining => {
                self.end_holds(|hold| hold.key == key && hold.due <= now)
            }
            Act::Acquire { .. } => {}
            Act::Release { key, token } => {
                let was = self.token_is_held(key, token, own, Reply::Released);
                self.end_holds(|hold| hold.is(key, token) && was);
                self.released += u64::from(was);
            }
            Act::Renew { key, token, lease } => {
                let lease = lease.unwrap_or(self.settings.default_lease);
                if self.token_is_held(key, token, own, Reply::Renewed { lease }) {
                    let hold = self.holds.iter_mut().find(|hold| hold.is(key, token));
                    let hold = hold.expect("it was just found");
                    hold.due = now.saturating_add(lease);
                    hold.fading = hold
                        .owner
                        .is_some_and(|id| self.slots.contains(&Slot::Closing(id)));
                }
            }
            Act::Close => self.close(from),
            Act::Drain => self.draining = true,
            Act::Tick => {
                for hold in &mut self.holds {
                    hold.fading |= hold.due <= now;
                }
                self.ends += self.holds.iter().filter(|hold| hold.fading).count();
                let ends = |wait: &&Wait| wait.due <= now || self.draining;
                self.ends += self.waits.iter().filter(ends).count() + self.ghosts.len();
            }
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
                self.end_holds(|hold| hold.is(key, token));
                false
            }
            _ => panic!("S4: {own:?} is no answer"),
        }
    }

    fn close(&mut self, id: SessionId) {
        self.ends += self.owns(id).count() + 1;
        self.slots[id.slot() as usize] = Slot::Closing(id);
        if let Some(place) = self.waits.iter().position(|wait| wait.id == id) {
            self.ghosts.push((id, self.waits.remove(place).key));
        }
        for hold in self.holds.iter_mut().filter(|h| h.owner == Some(id)) {
            if self.settings.auto_release {
                hold.fading = true;
            } else {
                hold.owner = None;
            }
        }
    }

    fn hear(&mut self, id: SessionId, reply: Reply, act: &Act) {
        let slot = id.slot() as usize;
        if reply == Reply::Closed {
            assert!(self.slots[slot] == Slot::Closing(id), "nobody closes it");
            self.slots[slot] = Slot::Free;
            self.believes[slot] = false;
            self.ghosts.retain(|&(ghost, _)| ghost != id);
            return self.end_holds(|hold| hold.owner == Some(id));
        }
        // S5, S9
        assert!(self.slots[slot] == Slot::Open(id), "a closed session hears");
        if reply == Reply::Freed {
            assert!(self.believes[slot], "it is told once, and only what is new");
            self.believes[slot] = false;
            assert!(!self.waits(id) && self.owns(id).all(|hold| hold.fading));
            return self.end_holds(|hold| hold.owner == Some(id));
        }
        let place = self.waits.iter().position(|wait| wait.id == id);
        let place = place.expect("S3: an answer answers a request");
        let wait = self.waits.remove(place);
        match reply {
            Reply::Granted { token, lease } => {
                assert_eq!(lease, wait.lease, "S6: the lease is what was asked for");
                let mut before = self.waits[..place].iter();
                assert!(before.all(|w| w.key != wait.key), "S2: nobody barges");
                self.grant(id, wait.key, token, lease);
            }
            Reply::Timeout => {
                assert!(matches!(act, Act::Tick) && wait.due <= self.now, "early");
                self.told.push(id);
            }
            Reply::Refused(Refusal::Draining) => {
                assert!(self.draining && matches!(act, Act::Tick));
                self.told.push(id);
            }
            _ => panic!("{reply:?} answers no acquire"),
        }
    }

    fn grant(&mut self, id: SessionId, key: usize, token: Token, lease: Us) {
        assert!(!self.draining, "nothing is granted any more");
        assert!(token.fence > self.last_fence, "S7: fences rise");
        let sure = self.held(key).filter(|hold| !hold.fading).count();
        assert!(sure < self.keys[key].limit as usize, "S1: no slot is free");
        self.last_fence = token.fence;
        self.granted += 1;
        self.believes[id.slot() as usize] = true;
        self.holds.push(Hold {
            key,
            token,
            due: self.now.saturating_add(lease),
            owner: Some(id),
            fading: false,
        });
    }

    /// What an acquire was told, or that it was told nothing and waits.
    fn acquired(
        &mut self,
        from: SessionId,
        key: usize,
        wait: Us,
        lease: Option<Us>,
        own: Option<Reply>,
        was_in_use: Maybe,
    ) {
        let lease = lease.unwrap_or(self.settings.default_lease);
        let limit = self.keys[key].limit as usize;
        let queued = self.waits.iter().any(|wait| wait.key == key);
        let free = !queued && self.held(key).count() < limit;
        let full = was_in_use == Maybe::No && self.in_use >= self.settings.max_locks;
        let refusal = |refusal| Some(Reply::Refused(refusal));
        let draining = self.draining && own == refusal(Refusal::Draining);
        assert!(draining || !self.draining, "{own:?} in a drain");
        let refused = draining || own == refusal(Refusal::MaxLocks);
        assert!(!full || refused, "S10: there is no room");
        match own {
            _ if draining => {}
            Some(Reply::Refused(Refusal::MaxLocks)) => {
                assert!(was_in_use != Maybe::Yes && self.in_use >= self.settings.max_locks);
            }
            Some(Reply::Granted { token, lease: told }) => {
                assert!(!queued, "S2: nobody barges");
                assert_eq!(told, lease, "S6: the lease is what was asked for");
                self.grant(from, key, token, lease);
            }
            Some(Reply::Timeout) => assert!(wait == 0 && !free),
            None => {
                assert!(wait > 0 && !free, "nobody waits for a free slot");
                let due = self.now.saturating_add(wait);
                self.waits.push(Wait {
                    key,
                    id: from,
                    due,
                    lease,
                });
            }
            other => panic!("{other:?} answers no acquire"),
        }
    }

    /// After the command: is everything done that had to be?
    fn settle(&mut self, act: &Act, locks: &Locks) {
        let deadline = locks.deadline();
        let put_off = deadline.is_some_and(|due| due <= self.now);
        let closing = |slot: &Slot| matches!(slot, Slot::Closing(_));
        if self.ends < FEW_ENDS {
            let some_close = self.slots.iter().any(closing);
            assert!(!some_close, "a small session closes at once");
            let turn = matches!(act, Act::Tick);
            assert!(!turn || !put_off, "a small turn puts nothing off");
        }
        if matches!(act, Act::Tick) {
            self.ends = 0;
            if !put_off {
                self.end_holds(|hold| hold.fading);
                let waits = |wait: &Wait| wait.due <= self.now || self.draining;
                assert!(!self.waits.iter().any(waits), "S4: a wait has no end");
                assert!(!self.slots.iter().any(closing), "S9: a close has no end");
            } else {
                // What closing sessions that keep their holds have left is not known.
                self.ends += self.slots.iter().filter(|slot| closing(slot)).count() * FEW_ENDS;
            }
        }
        for wait in &self.waits {
            let limit = self.keys[wait.key].limit as usize;
            let full = self.held(wait.key).count() >= limit;
            assert!(full || self.draining, "somebody waits for a free slot");
        }
        let dues = self.holds.iter().filter(|h| !h.fading).map(|h| h.due);
        let first = dues.chain(self.waits.iter().map(|wait| wait.due)).min();
        let wakes = first.is_none() || deadline.is_some_and(|due| Some(due) <= first);
        assert!(wakes, "it sleeps too long");
    }

    /// What the table says of itself, against what the judge knows.
    fn compare(&mut self, locks: &Locks) {
        let (counts, most) = (locks.counts(), self.holds.len());
        let least = self.holds.iter().filter(|hold| !hold.fading).count();
        assert_eq!(counts.granted, self.granted, "S11");
        assert_eq!(counts.released, self.released, "S11");
        assert!(counts.closed == 0 || self.settings.auto_release, "S11");
        assert!((least..=most).contains(&(counts.held as usize)), "S11");
        self.in_use = locks.keys();
        let (least, most) = (self.count_keys(true), self.count_keys(false));
        assert!((least..=most).contains(&self.in_use), "S9: keys stay");
        assert!(self.in_use <= self.settings.max_locks, "S10");
        for id in self.told.drain(..) {
            self.believes[id.slot() as usize] = locks.has(id);
        }
        for (slot, state) in self.slots.iter().enumerate() {
            let &Slot::Open(id) = state else { continue };
            let has = locks.has(id);
            let surely = self.waits(id) || self.owns(id).any(|hold| !hold.fading);
            assert!(has || !surely, "something is lost");
            assert!(!has || surely || self.owns(id).next().is_some(), "S9");
            assert!(has || !self.believes[slot], "nobody has told it");
        }
    }

    /// S9, S11: at the end.
    pub fn is_over(&self, locks: &Locks) {
        assert!(self.holds.is_empty() && self.waits.is_empty());
        assert!(self.slots.iter().all(|&slot| slot == Slot::Free));
        assert_eq!((locks.keys(), locks.counts().held), (0, 0));
    }

    /// Keys in use for sure, or perhaps.
    fn count_keys(&self, surely: bool) -> usize {
        let mut used = vec![false; self.keys.len()];
        let holds = self.holds.iter().filter(|hold| !surely || !hold.fading);
        let ghosts = self.ghosts.iter().filter(|_| !surely);
        holds.for_each(|hold| used[hold.key] = true);
        ghosts.for_each(|&(_, key)| used[key] = true);
        self.waits.iter().for_each(|wait| used[wait.key] = true);
        used.iter().filter(|&&used| used).count()
    }

    fn uses(&self, key: usize) -> Maybe {
        if self.waits.iter().any(|w| w.key == key) || self.held(key).any(|h| !h.fading) {
            Maybe::Yes
        } else if self.held(key).next().is_some() || self.ghosts.iter().any(|g| g.1 == key) {
            Maybe::Perhaps
        } else {
            Maybe::No
        }
    }

    fn held(&self, key: usize) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(move |hold| hold.key == key)
    }

    fn owns(&self, id: SessionId) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(move |hold| hold.owner == Some(id))
    }

    fn end_holds(&mut self, ended: impl Fn(&Hold) -> bool) {
        let stale = &mut self.stale;
        self.holds.retain(|hold| {
            let ends = ended(hold);
            if ends {
                stale.push((hold.key, hold.token));
            }
            !ends
        });
    }
}

/// Whether a key is in use, when work that was put off may have ended it.
#[derive(Clone, Copy, PartialEq)]
enum Maybe {
    No,
    Perhaps,
    Yes,
}
