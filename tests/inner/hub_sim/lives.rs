//! The lives of a server in the simulation: it dies in the middle of a turn, and another one goes on with what was kept,
//! or with nothing and a quarantine.

use dflockd::command::{SECOND, Token};
use dflockd::facts::Protection;
use dflockd::hub::Settings;

use super::World;
use crate::harness::Dice;

/// How a server ends and begins in this run.
pub struct Lives {
    /// Its own, so that a run without restarts is what it would be.
    dice: Dice,
    /// How often it dies, and how often its holds are stated again, in a thousand steps.
    death: u64,
    sweep: u64,
    /// Percent of the restarts in which nothing is left of what was kept.
    forgets: u64,
}

impl Lives {
    pub fn new(seed: u64, settings: &mut Settings) -> Lives {
        let mut dice = Dice::new(seed ^ 0x11fe_5000);
        let keeps = dice.chance(60);
        if keeps {
            settings.protection = Protection::Journal;
        }
        Lives {
            death: match *dice.pick(&[0, 10, 30]) {
                death if keeps => death,
                _ => 0,
            },
            sweep: *dice.pick(&[0, 0, 100, 500]),
            forgets: *dice.pick(&[0, 30, 100]),
            dice,
        }
    }

    /// Now and then one of these, if there are any.
    pub fn one_of(&mut self, tokens: &[(usize, Token)]) -> Option<(usize, Token)> {
        (!tokens.is_empty() && self.dice.chance(30)).then(|| *self.dice.pick(tokens))
    }

    /// Whether a server that has stopped comes back.
    pub fn comes_back(&mut self) -> bool {
        self.death > 0 && self.dice.chance(50)
    }
}

impl World<'_> {
    /// A turn is over: now and then the next one is the last of a life.
    pub fn live_on(&mut self) {
        let lives = &mut self.lives;
        if lives.death > 0 && lives.dice.below(1000) < lives.sweep {
            let count = 1 + lives.dice.below(8) as u32;
            self.net.sweep(count);
        }
        if lives.dice.below(1000) < lives.death && self.judge.story.judge.can_restart() {
            self.act_for_the_last_time();
            self.restart();
        }
    }

    /// Some say something. Whether that came to anything only those hear who are written to before the end.
    fn act_for_the_last_time(&mut self) {
        let open = self.judge.open();
        for _ in 0..self.lives.dice.below(4) {
            if !open.is_empty() {
                let at = *self.lives.dice.pick(&open);
                self.send(at);
            }
            let callers = self.judge.all_callers();
            if !callers.is_empty() && self.lives.dice.chance(70) {
                let at = *self.lives.dice.pick(&callers);
                self.speak(at);
            }
        }
        let stage = self.lives.dice.below(8) as usize;
        self.net.die(stage);
        self.judge.last_turn(&mut self.net);
    }

    /// The server is there again a moment later, perhaps with other options.
    pub fn restart(&mut self) {
        let lives = &mut self.lives;
        self.net.now += match lives.dice.below(4) {
            0 => 0,
            1 => lives.dice.below(SECOND),
            2 => lives.dice.below(20 * SECOND),
            _ => lives.dice.below(100 * SECOND),
        };
        let forgets = lives.dice.chance(lives.forgets);
        let opens = forgets.then(|| self.net.forget());
        self.net.restart(|settings| {
            let locks = &mut settings.locks;
            locks.opens = opens.unwrap_or(locks.opens);
            if lives.dice.chance(10) {
                locks.max_locks = *lives.dice.pick(&[1, 2, 1024]);
                locks.auto_release = lives.dice.chance(80);
                locks.deadlock_detection = lives.dice.chance(70);
            }
        });
        self.settings = self.net.settings().clone();
        self.judge.restarted(&self.net, !forgets);
        self.trace.heard(("restart", forgets));
        if lives.dice.chance(60) {
            // Most of a quarantine passes before anybody comes.
            let wait = self.net.locks().opens_in(self.net.now);
            self.net.now += wait.saturating_sub(lives.dice.below(20 * SECOND));
        }
        self.settle();
    }
}
