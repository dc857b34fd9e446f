//! Histories of holds by chance, with sweeps, drops and restarts in between. Invariant: at each restart, and after a
//! crash at any append, the journal has exactly the holds of the model.

use std::ops::Bound;

use super::*;
use crate::command;

const HISTORIES: u64 = 50;
const STEPS: u64 = 200;

/// xorshift64*: enough for tests, the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A sweep under way: up to which fence all holds were stated again, up to which they are to be, and how much that was.
struct Sweep {
    done: u64,
    end: u64,
    restated: u64,
}

struct History {
    dir: RunDir,
    dice: Dice,
    model: Model,
    sweep: Option<Sweep>,
    /// How many restarts, cuts, ended sweeps and dropped segments there were.
    counts: [u64; 4],
}

impl History {
    /// Some facts, and what they leave.
    fn facts(&mut self) -> Facts {
        let mut facts = Facts::kept();
        for _ in 0..=self.dice.below(12) {
            let count = self.model.holds.len() as u64;
            let nth = self.dice.below(count.max(1)) as usize;
            let held = self.model.holds.values().nth(nth).copied();
            match (held, self.dice.below(10)) {
                (Some(held), 0..=1) => {
                    let end = self.dice.below(1 << 40);
                    self.model.renewed(held.token.fence, end, &mut facts);
                }
                (Some(held), 2) => {
                    let detached = Held {
                        bound: command::Bound::Lease,
                        end: self.dice.below(1 << 40),
                        ..held
                    };
                    self.model.held(detached, &mut facts);
                }
                (Some(held), 3..) if self.dice.below(60) < count => {
                    self.model.ended(held.token.fence, &mut facts);
                }
                _ => {
                    let length = match self.dice.chance(30) {
                        true => self.dice.below(LONG.len() as u64) as usize,
                        false => self.dice.below(30) as usize,
                    };
                    self.model.last_fence += self.dice.below(3);
                    self.model.grant(&LONG[..length + 1], &mut facts);
                }
            }
        }
        facts
    }

    /// Appends facts. At times a copy of the journal, as a crash right before or after them leaves it, is read.
    fn append(&mut self, journal: &mut Journal) {
        let (number, used, before) = (journal.head.number, journal.used, self.model.clone());
        let facts = self.facts();
        let floor = self.model.last_fence;
        journal.append(facts.bytes(), floor).unwrap();
        if self.dice.chance(5) {
            self.counts[1] += 1;
            let copy = self.dir.copy();
            assert!(self.model.is_that_of(&copy.whole().1));
            if journal.head.number == number {
                copy.edit(number, 128, &(used as u64).to_le_bytes());
                assert!(before.is_that_of(&copy.whole().1));
            }
        }
    }

    /// Goes on with the sweep, or begins one.
    fn sweep(&mut self, journal: &mut Journal) {
        let Some(sweep) = &mut self.sweep else {
            if self.dice.chance(40) || journal.wants_sweep() {
                journal.begin_sweep();
                self.sweep = Some(Sweep {
                    done: 0,
                    end: self.model.last_fence,
                    restated: 0,
                });
            }
            return;
        };
        let left = (Bound::Excluded(sweep.done), Bound::Included(sweep.end));
        let left = self.model.holds.range(left);
        let mut facts = Facts::kept();
        for (fence, held) in left.take(8) {
            facts.held(held);
            sweep.done = *fence;
        }
        sweep.restated += facts.bytes().len() as u64;
        if facts.is_empty() {
            journal.end_sweep(sweep.restated).unwrap();
            self.sweep = None;
            self.counts[2] += 1;
        } else {
            journal
                .append(facts.bytes(), self.model.last_fence)
                .unwrap();
        }
    }

    fn restart(&mut self, journal: Journal) -> Journal {
        drop(journal);
        let (lock, recovered) = self.dir.whole();
        assert!(self.model.is_that_of(&recovered));
        assert!(recovered.first_fence > self.model.last_fence);
        assert_eq!(recovered.opens, OPENS);
        self.sweep = None;
        self.counts[0] += 1;
        Journal::go_on(lock, &recovered).unwrap()
    }
}

#[test]
fn any_history_is_read_as_the_model_has_it() {
    let mut counts = [0; 4];
    for seed in 1..=HISTORIES {
        println!("seed {seed}");
        let mut history = History {
            dir: RunDir::new(),
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            model: Model::default(),
            sweep: None,
            counts: [0; 4],
        };
        let mut journal = history.dir.begin();
        for _ in 0..STEPS {
            match history.dice.below(40) {
                0..=21 => history.append(&mut journal),
                22..=33 => history.sweep(&mut journal),
                34..=38 => {
                    let first = journal.first;
                    journal.drop_one().unwrap();
                    history.counts[3] += journal.first - first;
                }
                _ => journal = history.restart(journal),
            }
        }
        history.restart(journal);
        for (sum, count) in counts.iter_mut().zip(history.counts) {
            *sum += count;
        }
    }
    println!("restarts, cuts, sweeps, drops: {counts:?}");
    assert!(counts.iter().all(|&count| count > HISTORIES));
}
