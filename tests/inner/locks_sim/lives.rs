//! The lives of a server in the simulation: its table dies at any moment, what it did last is lost with all that was
//! answered, and another one goes on with what was kept, or with nothing and a quarantine.

use dflockd::command::{Bound, SECOND, Token, Us};
use dflockd::facts::Facts;

use super::World;
use crate::harness::{Dice, Store, recover};
use crate::judges::locks::Judge;

/// How a server ends and begins in this run.
pub struct Lives {
    /// Its own, so that a run without restarts is what it would be.
    dice: Dice,
    /// Whether somebody keeps what the table says of its holds.
    pub keeps: bool,
    store: Store,
    /// When the last life began: not even a clock that goes back shows an earlier time.
    pub born: Us,
    /// A span that no lease exceeds that is kept.
    longest: Us,
    /// How often a table dies, and how often it states its holds again, in a thousand steps.
    death: u64,
    sweep: u64,
    /// Percent of the restarts in which nothing is left of what was kept.
    forgets: u64,
    /// The table will have died before anybody hears of what it does from now on: the judge as it was, and for how many
    /// steps it goes on.
    doomed: Option<(Box<Judge>, u64)>,
}

impl Lives {
    pub fn new(seed: u64) -> Lives {
        let mut dice = Dice::new(seed ^ 0x11fe_5000);
        Lives {
            keeps: dice.chance(70),
            store: Store::default(),
            born: 0,
            longest: 0,
            death: *dice.pick(&[0, 5, 10, 30]),
            sweep: *dice.pick(&[0, 0, 50, 300]),
            forgets: *dice.pick(&[0, 30, 100]),
            doomed: None,
            dice,
        }
    }

    /// Now and then one of these, if there are any.
    pub fn one_of(&mut self, tokens: &[(usize, Token)]) -> Option<(usize, Token)> {
        (!tokens.is_empty() && self.dice.chance(30)).then(|| *self.dice.pick(tokens))
    }

    /// Whether a renewal may give a hold to the session that asks for it. Clients of the REST face ask for no such thing.
    pub fn bound(&mut self) -> Bound {
        match self.dice.chance(10) {
            true => Bound::Lease,
            false => Bound::Session,
        }
    }

    /// What a step has led to is kept, unless that comes too late.
    pub fn keep(&mut self, facts: &Facts) {
        if self.keeps && self.doomed.is_none() {
            self.longest = self.longest.max(facts.longest());
            self.store.keep(facts);
        }
    }
}

impl World<'_> {
    /// A step is over: now and then it was the last of a life.
    pub fn live_on(&mut self) {
        let lives = &mut self.lives;
        if !lives.keeps {
            return;
        }
        if let Some((_, steps)) = &mut lives.doomed {
            match steps.checked_sub(1) {
                Some(rest) => *steps = rest,
                None => self.restart(),
            }
            return;
        }
        if lives.dice.below(1000) < lives.sweep {
            let count = 1 + lives.dice.below(8) as u32;
            lives.store.sweep(&self.locks, count);
        }
        if lives.dice.chance(20) && self.locks.opens_in(self.clock) == 0 {
            lives.longest = self.locks.longest_told();
        }
        if lives.dice.below(1000) < lives.death && self.judge.can_restart() {
            let steps = *lives.dice.pick(&[0, 0, 1, 3, 20]);
            if steps == 0 && self.locks.opens_in(self.clock) == 0 && lives.dice.chance(50) {
                // It is stopped, and knows what is left of all leases.
                lives.longest = self.locks.left(self.judge.now());
            }
            lives.doomed = Some((Box::new(self.judge.clone()), steps));
        }
    }

    /// The server dies, and is there again a moment later, perhaps with other options.
    fn restart(&mut self) {
        let lives = &mut self.lives;
        let (judge, _) = lives.doomed.take().expect("it was to die");
        self.clock = self.clock.max(self.judge.now());
        self.judge = *judge;
        if lives.dice.chance(30) {
            let bits = lives.dice.below(self.habits.span_bits + 1);
            self.clock += lives.dice.below(1 << bits);
        }
        lives.born = self.clock;
        let settings = &mut self.settings;
        settings.first_fence = self.locks.fence() + 1 + lives.dice.below(1000);
        settings.secret[7] ^= 1 + lives.dice.below(255) as u8;
        if lives.dice.chance(10) {
            settings.max_locks = *lives.dice.pick(&[1, 2, 1024]);
            settings.auto_release = lives.dice.chance(75);
            settings.deadlock_detection = lives.dice.chance(70);
            settings.default_lease = 1 + lives.dice.below(60 * SECOND);
        }
        let forgets = lives.dice.chance(lives.forgets);
        if forgets {
            let longest = lives.longest;
            let opens = self
                .clock
                .saturating_add(longest)
                .saturating_add(longest.div_ceil(100));
            settings.opens = settings.opens.max(opens);
            lives.store = Store::default();
        }
        let holds = || lives.store.holds();
        if let Some(held) = holds().find(|held| held.told) {
            // S7: whoever has lost count must not begin.
            let mut settings = settings.clone();
            settings.first_fence = held.token.fence;
            let begun = recover(settings, self.clock, holds());
            assert!(begun.is_err(), "S7: it would be granted again");
        }
        let recovered = recover(settings.clone(), self.clock, holds());
        self.locks = recovered.expect("there were such holds");
        lives.store.is_recovered();
        self.locks.check();
        self.trace.heard(("restart", forgets, self.clock));
        self.judge
            .restarted(self.clock, settings.clone(), !forgets, &self.locks);
        let wait = self.locks.opens_in(self.clock);
        if lives.dice.chance(60) {
            // Most of a quarantine passes before anybody comes.
            let bits = lives.dice.below(self.habits.span_bits + 1);
            self.clock += wait.saturating_sub(lives.dice.below(1 << bits));
        }
    }
}
