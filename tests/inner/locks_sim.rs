//! The lock table against a naive model, over random commands and jumps of time. Few keys and few sessions, so
//! that they collide. The model is no second lock table but a judge: it is shown each command and the replies
//! that came out, and asks whether each was legal and none is missing. What work a turn may put off it does not
//! know; until a tick says that nothing is put off, such a hold may or may not have ended ("fading").

mod lives;

use dflockd::command::{Renewal, SECOND, SessionId, Space, Terms, Token, Us};
use dflockd::locks::{Locks, Settings};

use crate::harness::{Dice, Trace, apply_kept, settings, simulate};
use crate::judges::locks::{
    self as judge, ATTEMPTS, Act, Attempt, CLAIMANTS, Judge, Key, NAMES, Slot, Who,
};
use lives::Lives;

#[test]
fn every_answer_is_legal_and_none_is_missing() {
    simulate("locks_sim", 1500, 400_000, |seed, trace| {
        World::new(seed, trace).run();
    });
}

/// More keys than this are there for hoards.
const FEW: u64 = 6;

/// Weights of what sessions do, and the server around them.
struct Habits {
    acquire: u64,
    enqueue: u64,
    wait: u64,
    /// Percent of the acquires that ask for another limit than most.
    odd: u64,
    release: u64,
    renew: u64,
    claim: u64,
    give_back: u64,
    detach: u64,
    breaks: u64,
    /// Slots whose sessions ask only for holds that are bound by their lease, for owners or for nobody.
    askers: usize,
    /// Percent of what these ask for that has a name, and percent of that which keeps its place or renews itself.
    attempts: u64,
    keeps: u64,
    renews: u64,
    cancel: u64,
    close: u64,
    /// Percent of the acquires that turn to another key, if their owner has this one: deadlocks need others then.
    shy: u64,
    /// Percent of the sessions that say at once whose they are, and the weight of saying it later.
    named: u64,
    declare: u64,
    /// Owners that have a name.
    owners: u64,
    tick: u64,
    jump: u64,
    /// How many bits the spans have at most: 10 is a millisecond, 34 some hours.
    span_bits: u64,
    /// Spans are multiples of this, so that they end together.
    grain: Us,
    drains: bool,
}

struct World<'a> {
    dice: Dice,
    trace: &'a mut Trace,
    habits: Habits,
    settings: Settings,
    lives: Lives,
    locks: Locks,
    judge: Judge,
    clock: Us,
    serial: u64,
}

impl<'a> World<'a> {
    fn new(seed: u64, trace: &'a mut Trace) -> World<'a> {
        let mut dice = Dice::new(seed);
        let hoards = dice.chance(3);
        let keys = if hoards {
            hoarded_keys()
        } else {
            few_keys(&mut dice)
        };
        let settings = Settings {
            max_locks: if hoards || dice.chance(60) {
                1024
            } else {
                1 + dice.below(keys.len() as u64) as usize
            },
            default_lease: 1 + dice.below(60 * SECOND),
            claim_lease: *dice.pick(&[1, 1000, SECOND, 10 * SECOND, 60 * SECOND]),
            auto_release: dice.chance(75),
            deadlock_detection: dice.chance(70),
            max_waiters: *dice.pick(&[0, 0, 0, 1, 2, 5]),
            max_holds: *dice.pick(&[0, 0, 0, 1, 2, 4]),
            max_idle: *dice.pick(&[0, 1, 1000, SECOND, 60 * SECOND, Us::MAX >> 20]),
            ..settings().locks
        };
        let slots = 3 + dice.below(6) as usize;
        World {
            habits: Habits::new(&mut dice),
            locks: Locks::new(settings.clone()),
            judge: Judge::new(settings.clone(), keys, slots),
            settings,
            lives: Lives::new(seed),
            clock: dice.below(1 << 40),
            serial: 0,
            dice,
            trace,
        }
    }

    fn run(mut self) {
        let mut steps = 200 + self.dice.below(200);
        let drain_at = if self.habits.drains { steps / 5 } else { 0 };
        while steps > 0 {
            steps -= 1;
            if steps + 1 == drain_at {
                self.step(SessionId::NOBODY, Act::Drain);
            }
            self.anything();
            self.live_on();
        }
        self.end();
    }

    fn anything(&mut self) {
        let Habits { tick, jump, .. } = self.habits;
        match self.dice.weigh(&[60, tick, jump]) {
            0 => self.any_session_acts(),
            1 => self.tick(),
            _ => self.jump(),
        }
    }

    fn any_session_acts(&mut self) {
        let slot = self.dice.below(self.judge.slots.len() as u64) as usize;
        let habits = &self.habits;
        let asks = slot < habits.askers;
        match self.judge.slots[slot] {
            Slot::Free => self.open(slot),
            Slot::Closing(_) => {}
            Slot::Open(id) if self.judge.waits(id) || self.judge.breaks(id) => {
                if self.dice.below(60) < habits.close {
                    self.close(id);
                }
            }
            Slot::Open(id) => {
                let weights = [
                    habits.acquire,
                    habits.release,
                    habits.renew,
                    habits.close,
                    habits.enqueue,
                    habits.wait,
                    habits.declare,
                    habits.claim,
                    habits.give_back,
                    habits.detach,
                    habits.breaks,
                    habits.cancel,
                ];
                match self.dice.weigh(&weights) {
                    0 | 2 | 4..7 if asks => self.acquire_for(id),
                    0 if self.judge.keys.len() as u64 > FEW && self.dice.chance(5) => {
                        self.hoard(id)
                    }
                    0 => self.acquire(id),
                    1 => self.release(id),
                    2 => self.renew(id),
                    4 => self.enqueue(id),
                    5 => self.wait(id),
                    6 => self.declare(id),
                    9 => self.detach(id),
                    10 => self.breaks(id),
                    11 => self.cancel(id),
                    7 => self.claim(id),
                    8 => self.give_back(id),
                    _ => self.close(id),
                }
            }
        }
    }

    /// A session ends, and once in a while all others of its owner with it.
    fn close(&mut self, id: SessionId) {
        let who = self.judge.who(id);
        let all = self.dice.chance(20);
        for slot in 0..self.judge.slots.len() {
            if let Slot::Open(other) = self.judge.slots[slot]
                && (other == id || all && self.judge.who(other) == who)
            {
                self.step(other, Act::Close);
            }
        }
    }

    fn open(&mut self, slot: usize) {
        self.serial += 1;
        let id = SessionId::new(self.serial, slot as u32);
        self.judge.opened(slot, id);
        if slot >= self.habits.askers && self.dice.chance(self.habits.named) {
            self.declare(id);
        }
    }

    fn declare(&mut self, id: SessionId) {
        let name = self.dice.below(self.habits.owners) as usize;
        self.step(id, Act::Declare { name });
    }

    fn acquire(&mut self, id: SessionId) {
        let mut key = self.key();
        let who = self.judge.who(id);
        for _ in 0..if self.dice.chance(self.habits.shy) {
            5
        } else {
            0
        } {
            let own = |hold: &judge::Hold| (hold.key, hold.who) == (key, who);
            if self.judge.holds.iter().any(own) {
                key = self.key();
            }
        }
        let wait = if self.dice.chance(25) { 0 } else { self.span() };
        let (limit, lease) = (self.limit(key), self.lease());
        self.step(
            id,
            Act::Acquire {
                key,
                limit,
                wait,
                lease,
            },
        );
    }

    /// Something new, or what was asked for before: a repeat.
    fn acquire_for(&mut self, id: SessionId) {
        let name = self.dice.chance(80);
        let mut name = name.then(|| self.dice.below(self.habits.owners) as usize);
        let mut key = self.key();
        let mut terms = Terms::default();
        if name.is_some() && self.has_attempts() && self.dice.chance(self.habits.attempts) {
            let (repeated, (owner, attempt)) = self.attempt();
            (key, name, terms.attempt) = (repeated, Some(owner), Some(attempt));
            if self.dice.chance(self.habits.keeps) {
                terms.keep = self.span();
            }
        }
        if name.is_some() && self.has_attempts() && self.dice.chance(self.habits.renews) {
            let (every, within) = (self.span(), self.span());
            terms.renewal = Some(Renewal { every, within });
            terms.note = self.dice.chance(30).then_some(b"{}");
        }
        let wait = if self.dice.chance(25) { 0 } else { self.span() };
        let (limit, lease) = (self.limit(key), self.lease());
        self.step(
            id,
            Act::AcquireFor {
                key,
                limit,
                wait,
                lease,
                name,
                terms,
            },
        );
    }

    /// Mostly of an attempt that there is.
    fn cancel(&mut self, id: SessionId) {
        if self.has_attempts() && self.habits.attempts > 0 {
            let (key, (name, attempt)) = self.attempt();
            self.step(id, Act::Cancel { key, name, attempt });
        }
    }

    /// Among many keys the judge could not follow what is put off, and neither while a close goes on.
    fn has_attempts(&self) -> bool {
        let closes = |slot: &Slot| matches!(slot, Slot::Closing(_));
        self.judge.keys.len() as u64 <= FEW && !self.judge.slots.iter().any(closes)
    }

    /// An attempt that holds or waits, or any other.
    fn attempt(&mut self) -> (usize, Attempt) {
        let known = self.judge.attempts();
        if !known.is_empty() && self.dice.chance(60) {
            return *self.dice.pick(&known);
        }
        let owner = self.dice.below(self.habits.owners) as usize;
        (self.key(), (owner, *self.dice.pick(&ATTEMPTS)))
    }

    /// The first phase. With many keys only of those that are free: what is granted unheard the judge can tell
    /// while no turn puts anything off.
    fn enqueue(&mut self, id: SessionId) {
        let (key, lease) = (self.key(), self.lease());
        let limit = self.limit(key);
        if self.judge.keys.len() as u64 <= FEW || !self.judge.survey.is_used(key) {
            self.step(id, Act::Enqueue { key, limit, lease });
        }
    }

    /// The second phase, mostly where there was a first.
    fn wait(&mut self, id: SessionId) {
        let recorded = self.judge.recorded(id);
        let key = if recorded.is_empty() || self.dice.chance(5) {
            self.key()
        } else {
            *self.dice.pick(&recorded)
        };
        let wait = if self.dice.chance(25) { 0 } else { self.span() };
        self.step(id, Act::Wait { key, wait });
    }

    /// What most ask for, or once in a while something else.
    fn limit(&mut self, key: usize) -> u32 {
        let Key { space, limit, .. } = self.judge.keys[key];
        if space == Space::Semaphore && self.dice.chance(self.habits.odd) {
            return 1 + self.dice.below(12) as u32;
        }
        limit
    }

    /// One session takes so much that neither its end nor that of its leases fits into one turn.
    fn hoard(&mut self, id: SessionId) {
        let lease = self.lease();
        let enqueues = self.dice.chance(30);
        for _ in 0..700 + self.dice.below(300) {
            let key = self.key();
            let limit = self.judge.keys[key].limit;
            let act = if enqueues && !self.judge.survey.is_used(key) {
                Act::Enqueue { key, limit, lease }
            } else {
                Act::Acquire {
                    key,
                    limit,
                    wait: 0,
                    lease,
                }
            };
            self.step(id, act);
        }
    }

    fn release(&mut self, id: SessionId) {
        let (key, token) = self.token(id);
        self.step(id, Act::Release { key, token });
    }

    fn detach(&mut self, id: SessionId) {
        let (key, token) = self.token(id);
        self.step(id, Act::Detach { key, token });
    }

    /// All holds of a key, or one of those whose fences were told, perhaps of another key or not held any more.
    fn breaks(&mut self, id: SessionId) {
        let mut key = self.key();
        let (other, token) = self.token(id);
        let judge = &self.judge;
        let known = |(_, old): &(usize, Token)| old.fence == token.fence;
        let holds = judge.holds.iter().filter_map(|h| Some((h.key, h.token?)));
        let known = holds.chain(judge.stale.iter().copied()).any(|k| known(&k));
        let fence = (known && self.dice.chance(50)).then_some(token.fence);
        if fence.is_some() && self.dice.chance(90) {
            key = other;
        }
        self.step(id, Act::Break { key, fence });
    }

    fn renew(&mut self, id: SessionId) {
        let (key, token) = self.token(id);
        let lease = self.lease();
        let bound = self.lives.bound();
        self.step(
            id,
            Act::Renew {
                key,
                token,
                lease,
                bound,
            },
        );
    }

    /// Any lock for anybody, or once more what was claimed.
    fn claim(&mut self, id: SessionId) {
        let (key, name) = self.claimed(30);
        if self.judge.keys[key].space == Space::Lock {
            self.step(id, Act::Claim { key, name });
        }
    }

    /// Mostly what was claimed, and by whom.
    fn give_back(&mut self, id: SessionId) {
        let (key, mut name) = self.claimed(90);
        if self.dice.chance(20) {
            name = self.claimant();
        }
        if self.judge.keys[key].space == Space::Lock {
            self.step(id, Act::Yield { key, name });
        }
    }

    /// What was claimed and by whom, if there is any and with this chance in a hundred, or any key and name.
    fn claimed(&mut self, chance: u64) -> (usize, usize) {
        let claims = self.judge.holds.iter().filter_map(|hold| match hold.who {
            Who::Claim(name) => Some((hold.key, name)),
            _ => None,
        });
        let claims: Vec<(usize, usize)> = claims.collect();
        if !claims.is_empty() && self.dice.chance(chance) {
            return *self.dice.pick(&claims);
        }
        (self.key(), self.claimant())
    }

    fn claimant(&mut self) -> usize {
        self.dice.below(CLAIMANTS.len() as u64) as usize
    }

    /// A key and a token for it: right, stale, of another key, forged.
    fn token(&mut self, id: SessionId) -> (usize, Token) {
        if let Some(known) = self.lives.one_of(&self.judge.unclaimed()) {
            return known;
        }
        let other = self.key();
        let dice = &mut self.dice;
        let who = self.judge.who(id);
        let own = |hold: &&judge::Hold| hold.who == who;
        let mut held: Vec<(usize, Token)> = (self.judge.holds.iter().filter(own))
            .filter_map(|hold| Some((hold.key, hold.token?)))
            .collect();
        if held.is_empty() || dice.chance(30) {
            let holds = self.judge.holds.iter();
            held = holds.filter_map(|h| Some((h.key, h.token?))).collect();
        }
        let stale = &self.judge.stale;
        if held.is_empty() || (dice.chance(15) && !stale.is_empty()) {
            return match stale.last() {
                None => (0, Token::default()),
                Some(&latest) if dice.chance(50) => latest,
                Some(_) => *dice.pick(stale),
            };
        }
        let (mut key, mut token) = *dice.pick(&held);
        match dice.below(40) {
            0 => key = other,
            1 => token.salt ^= 1 << dice.below(64),
            2 => token.fence += 1,
            3 => token.fence -= 1,
            4 => token = Token::default(),
            _ => {}
        }
        (key, token)
    }

    fn key(&mut self) -> usize {
        let keys = self.judge.keys.len() as u64;
        if keys > FEW && self.dice.chance(50) {
            return 0;
        }
        self.dice.below(keys) as usize
    }

    fn lease(&mut self) -> Option<Us> {
        (!self.dice.chance(20)).then(|| self.span())
    }

    fn span(&mut self) -> Us {
        let bits = self.dice.below(self.habits.span_bits + 1);
        let span = 1 + self.dice.below(1 << bits);
        span.next_multiple_of(self.habits.grain)
    }

    /// Time goes on to the next deadline or by any span; once in a while it seems to go back. Whether a tick
    /// follows at once is left to the dice: a turn can be late, and commands come before it.
    fn jump(&mut self) {
        match self.dice.below(10) {
            0..6 => self.clock = self.clock.max(self.locks.deadline().unwrap_or(0)),
            6 => self.clock = self.clock.saturating_sub(self.span()).max(self.lives.born),
            _ => self.clock += self.span(),
        }
        if self.dice.chance(70) {
            self.tick();
        }
    }

    /// Now and then not all that came by now is heard.
    fn tick(&mut self) {
        let late = if self.dice.chance(10) { self.span() } else { 0 };
        let heard = self.clock.saturating_sub(late);
        self.step(SessionId::NOBODY, Act::Tick { heard });
    }

    fn step(&mut self, from: SessionId, act: Act) {
        let command = act.command(&self.judge.keys);
        let out = apply_kept(&mut self.locks, self.clock, from, command, self.lives.keeps);
        self.lives.keep(&out.facts);
        self.trace.step();
        self.trace.heard(format!("{out:?}"));
        self.locks.check();
        let knots = std::iter::from_fn(|| self.locks.take_knot()).collect();
        self.judge
            .judge(self.clock, from, &act, out, knots, &self.locks);
    }

    /// S9: when every session is closed and every lease is over, nothing is left.
    fn end(mut self) {
        for slot in 0..self.judge.slots.len() {
            if let Slot::Open(id) = self.judge.slots[slot] {
                self.step(id, Act::Close);
            }
            if self.dice.chance(30) {
                self.tick();
            }
        }
        for round in 0.. {
            let Some(due) = self.locks.deadline() else {
                break;
            };
            assert!(round < 10_000, "the table never sleeps");
            self.clock = self.clock.max(due);
            if round > 200 {
                // Holds that renew themselves in small steps do so for hours, but no server that is late makes them.
                self.clock += 1 << 36;
            }
            let heard = self.clock;
            self.step(SessionId::NOBODY, Act::Tick { heard });
        }
        self.judge.is_over(&self.locks);
    }
}

impl Habits {
    /// Each run has other habits: a corner that is rare under one set is common under another.
    fn new(dice: &mut Dice) -> Habits {
        Habits {
            acquire: 10 + dice.below(50),
            enqueue: *dice.pick(&[0, 10, 40]),
            wait: dice.below(40),
            odd: *dice.pick(&[0, 5, 30]),
            release: dice.below(40),
            renew: dice.below(15),
            claim: *dice.pick(&[0, 0, 5, 20, 60]),
            give_back: *dice.pick(&[2, 10, 30]),
            detach: *dice.pick(&[0, 2, 10]),
            breaks: *dice.pick(&[0, 0, 1, 5]),
            askers: *dice.pick(&[0, 0, 0, 1, 3, 6]),
            attempts: *dice.pick(&[0, 50, 90]),
            keeps: *dice.pick(&[0, 30, 90]),
            renews: *dice.pick(&[0, 10, 60]),
            cancel: *dice.pick(&[0, 1, 10]),
            close: dice.below(8),
            shy: *dice.pick(&[0, 90]),
            named: *dice.pick(&[0, 50, 90]),
            declare: *dice.pick(&[0, 0, 5]),
            owners: 1 + dice.below(NAMES.len() as u64),
            tick: dice.below(10),
            jump: 1 + dice.below(20),
            span_bits: *dice.pick(&[4, 12, 24, 34]),
            grain: *dice.pick(&[1, 1, 16, 1024]),
            drains: dice.chance(12),
        }
    }
}

/// 3 to 6 keys; a name in both spaces, names longer than fit into a key.
fn few_keys(dice: &mut Dice) -> Vec<Key> {
    let long = |n: u8| [&[b'x'; 30][..], &[n]].concat();
    let mut keys = vec![
        Key::new(Space::Lock, b"both".to_vec(), 1),
        Key::new(Space::Semaphore, b"both".to_vec(), 2),
        Key::new(Space::Lock, long(1), 1),
        Key::new(Space::Semaphore, long(2), *dice.pick(&[3, 12])),
        Key::new(Space::Lock, vec![0xff; 22], 1),
        Key::new(Space::Semaphore, vec![0xff; 23], 1 + dice.below(11) as u32),
    ];
    for _ in 0..dice.below(4) {
        keys.swap_remove(dice.below(keys.len() as u64) as usize);
    }
    keys
}

/// A semaphore and locks, enough for hoards.
fn hoarded_keys() -> Vec<Key> {
    let lock = |n: u32| Key::new(Space::Lock, format!("hoard-{n}").into_bytes(), 1);
    let mut keys = vec![Key::new(Space::Semaphore, b"pool".to_vec(), 400)];
    keys.extend((0..600).map(lock));
    keys
}
