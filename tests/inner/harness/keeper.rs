//! A store without a disk: it keeps the facts of a lock table, and has the holds of which they tell. It knows what a fact
//! means, and no rule of the table.

use std::collections::BTreeMap;

use dflockd::command::Us;
use dflockd::facts::{Fact, Facts, Held, record_len};
use dflockd::locks::Locks;

/// What is kept, and a restatement that is under way: it takes the place of the rest.
#[derive(Clone, Default)]
pub struct Store {
    keeper: Keeper,
    /// With the place that comes next.
    sweep: Option<(Keeper, u32)>,
}

impl Store {
    /// Keeps what happened.
    pub fn keep(&mut self, facts: &Facts) {
        self.keeper.keep(facts);
        if let Some((sweep, _)) = &mut self.sweep {
            sweep.keep(facts);
        }
    }

    /// Has the table state some more of its holds again, of which it must have kept the facts. Returns whether that was
    /// all: then the older facts are forgotten.
    pub fn sweep(&mut self, locks: &Locks, count: u32) -> bool {
        let (sweep, place) = self.sweep.get_or_insert_with(|| (Keeper::midway(), 0));
        let mut facts = Facts::kept();
        let next = locks.restate(*place, count, &mut facts);
        sweep.keep(&facts);
        if let Some(next) = next {
            *place = next;
            return false;
        }
        let (mut sweep, _) = self.sweep.take().expect("it is under way");
        sweep.has_gaps = false;
        let [before, after] = [&self.keeper, &sweep].map(|keeper| {
            let holds = keeper.holds().map(|held| Held {
                // Steps that were missed are taken at a recovery, and stated with the next.
                end: if held.renews.is_some() { 0 } else { held.end },
                ..held
            });
            holds.collect::<Vec<_>>()
        });
        assert_eq!(before, after, "what is stated again is the same");
        self.keeper = sweep;
        true
    }

    /// Another table goes on with this: it has nothing of what nobody knows, nor of a restatement that was under way.
    pub fn is_recovered(&mut self) {
        self.sweep = None;
        self.keeper.holds.retain(|_, hold| hold.told);
    }

    /// The holds that were kept, in the order of their fences.
    pub fn holds(&self) -> impl Iterator<Item = Held<'_>> {
        self.keeper.holds()
    }
}

/// The holds that the facts so far leave, by fence.
#[derive(Clone, Default)]
struct Keeper {
    holds: BTreeMap<u64, Kept>,
    /// It began with a restatement, which has not come to each hold yet.
    has_gaps: bool,
}

/// A hold, as its last `Held` says, and what was said of it since.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Kept {
    record: Vec<u8>,
    end: Us,
    told: bool,
}

impl Keeper {
    /// One that begins with a restatement.
    fn midway() -> Keeper {
        Keeper {
            has_gaps: true,
            ..Keeper::default()
        }
    }

    fn keep(&mut self, facts: &Facts) {
        let (mut rest, mut count, mut last_fence) = (facts.bytes(), 0, 0);
        while !rest.is_empty() {
            let (record, behind) = rest.split_at(record_len(rest).expect("a whole record"));
            match Fact::read(record).expect("a fact") {
                Fact::Held(held) => {
                    last_fence = last_fence.max(held.token.fence);
                    self.hold(record, &held);
                }
                Fact::Renewed { fence, end, .. } => {
                    let hold = self.holds.get_mut(&fence);
                    assert!(hold.is_some() || self.has_gaps, "nobody has held that");
                    if let Some(hold) = hold {
                        (hold.end, hold.told) = (end, true);
                    }
                }
                Fact::Ended { fence } => {
                    let was_held = self.holds.remove(&fence).is_some();
                    assert!(was_held || self.has_gaps, "a hold ends once");
                }
            }
            (rest, count) = (behind, count + 1);
        }
        assert_eq!((count, last_fence), (facts.count(), facts.last_fence()));
    }

    fn hold(&mut self, record: &[u8], held: &Held) {
        let kept = Kept {
            record: record.to_vec(),
            end: held.end,
            told: held.told,
        };
        self.holds.insert(held.token.fence, kept);
    }

    fn holds(&self) -> impl Iterator<Item = Held<'_>> {
        self.holds.values().map(|kept| {
            let Ok(Fact::Held(held)) = Fact::read(&kept.record) else {
                unreachable!("it was one")
            };
            let &Kept { end, told, .. } = kept;
            Held { end, told, ..held }
        })
    }
}
