//! What the tests over the inner rings share: settings; a network without sockets, whose clients and whose time do what
//! they are told; a store without a disk; dice; and the loop over the seeds of a simulation.

mod journal;
mod json;
mod keeper;
mod net;
mod settings;
mod table;

use std::hash::{DefaultHasher, Hash, Hasher};

pub use journal::{Call, Entry, Glance, looks, number};
pub use json::Json;
pub use keeper::Store;
pub use net::{Client, Net};
pub use settings::settings;
pub use table::{apply, apply_kept, recover};

/// xorshift64*: enough for tests, the same on every machine.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to n - 1.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u64) as usize]
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// An index into the weights, the heavier the likelier. Not all of them are 0.
    pub fn weigh(&mut self, weights: &[u64]) -> usize {
        let mut rest = self.below(weights.iter().sum());
        let mut at = 0;
        while rest >= weights[at] {
            rest -= weights[at];
            at += 1;
        }
        at
    }
}

/// What one run of a simulation leaves behind: how many steps were checked, and a digest of all that was heard.
#[derive(Default)]
pub struct Trace {
    steps: u64,
    digest: DefaultHasher,
}

impl Trace {
    pub fn step(&mut self) {
        self.steps += 1;
    }

    pub fn heard(&mut self, what: impl Hash) {
        what.hash(&mut self.digest);
    }
}

/// Runs a simulation with the seeds that the environment names: `SEED=7` that one alone, `SEEDS=100000` so many,
/// else `seeds`, which must make for `least_steps`. A failure prints how to have it again. Every so often a seed
/// is run twice, and must lead to the same answers.
pub fn simulate(test: &'static str, seeds: u64, least_steps: u64, run: impl Fn(u64, &mut Trace)) {
    let number = |name| {
        let value = std::env::var(name).ok()?;
        Some(value.parse::<u64>().expect("a seed is a number"))
    };
    let range = match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(many)) => 0..many,
        (None, None) => 0..seeds,
    };
    let chosen = number("SEED").or(number("SEEDS")).is_some();
    let mut total = 0;
    for seed in range {
        let mut replay = Replay {
            test,
            seed,
            before: total,
            trace: Trace::default(),
        };
        run(seed, &mut replay.trace);
        total += replay.trace.steps;
        if seed % 16 == 0 {
            let mut again = Trace::default();
            run(seed, &mut again);
            let digests = [&replay.trace, &again].map(|trace| trace.digest.finish());
            assert_eq!(digests[0], digests[1], "one seed, one story");
        }
    }
    println!("{test}: {total} steps checked");
    assert!(chosen || total >= least_steps, "{total} steps are too few");
}

/// Says on the way out of a failed run how to have it again.
struct Replay {
    test: &'static str,
    seed: u64,
    /// Steps of the seeds before.
    before: u64,
    trace: Trace,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Replay { test, seed, .. } = self;
            let steps = self.before + self.trace.steps;
            eprintln!(
                "after {steps} steps; again with: SEED={seed} cargo test --test inner {test}"
            );
        }
    }
}
