//! A step on the disk fails, or is the last one of its process. Invariant: the next start finds all that was appended,
//! or, of a journal that had not begun or was given up, nothing that it could use.

use std::cell::Cell;

use super::*;

/// Which steps on the disk fail.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Failing {
    None,
    /// The one before which there are so many.
    One(u32),
    /// That one and all later ones, as if the process had ended before it.
    From(u32),
}

thread_local! {
    static FAILING: Cell<Failing> = const { Cell::new(Failing::None) };
}

/// Before each step of a journal on the disk.
pub fn step() -> io::Result<()> {
    let (fails, next) = match FAILING.get() {
        Failing::None => (false, Failing::None),
        Failing::One(0) => (true, Failing::None),
        Failing::One(left) => (false, Failing::One(left - 1)),
        Failing::From(0) => (true, Failing::From(0)),
        Failing::From(left) => (false, Failing::From(left - 1)),
    };
    FAILING.set(next);
    match fails {
        true => Err(io::Error::other("a test lets it fail")),
        false => Ok(()),
    }
}

/// What is there when the process starts.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Before {
    Nothing,
    /// A journal of this identity, and one that was moved aside.
    Whole,
    /// A journal of an earlier epoch, and one that was moved aside.
    Unusable,
}

/// How a process takes it when its journal cannot be written.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Then {
    Exits,
    GivesUp,
}

/// One process, and what a client of it may know.
struct Life {
    dir: RunDir,
    /// The next start finds a whole journal: it had begun.
    has_begun: bool,
    /// The next start finds none that is whole.
    is_given_up: bool,
    /// What the facts leave, each one more than the one before. Those of the first `kept` were appended.
    states: Vec<Model>,
    kept: usize,
}

impl Life {
    fn new(before: Before) -> Life {
        let dir = RunDir::new();
        let mut model = Model::default();
        if before != Before::Nothing {
            let (lock, _) = dir.find(&OURS).unwrap();
            let mut identity = OURS;
            identity.epoch -= u64::from(before == Before::Unusable);
            let mut journal = Journal::begin(lock, identity, OPENS, FLOOR).unwrap();
            fill(&mut journal, &mut model, 1);
            let mut facts = Facts::kept();
            while model.holds.len() > 3 {
                model.ended(*model.holds.keys().next().unwrap(), &mut facts);
            }
            journal.append(facts.bytes(), model.last_fence).unwrap();
            sweep(&mut journal, &model);
            fs::create_dir_all(dir.0.join("journal.old/folder")).unwrap();
        }
        let is_whole = before == Before::Whole;
        Life {
            dir,
            has_begun: is_whole,
            is_given_up: false,
            states: vec![if is_whole { model } else { Model::default() }],
            kept: 1,
        }
    }

    fn model(&self) -> Model {
        self.states.last().unwrap().clone()
    }

    /// Appends facts, after each of which another state is due.
    fn append(
        &mut self,
        journal: &mut Journal,
        happens: impl Fn(u32, &mut Model, &mut Facts),
    ) -> Result<(), Fault> {
        let mut facts = Facts::kept();
        for index in 0..20 {
            let mut model = self.model();
            happens(index, &mut model, &mut facts);
            self.states.push(model);
        }
        journal.append(facts.bytes(), self.model().last_fence)?;
        self.kept = self.states.len();
        Ok(())
    }

    /// A start, two segments of facts, a sweep, drops, and more facts.
    fn run(&mut self, then: Then) -> Result<(), Fault> {
        let (lock, found) = self.dir.find(&OURS)?;
        let mut journal = match found {
            Found::Whole(recovered) => {
                assert!(self.has_begun && self.model().is_that_of(&recovered));
                Journal::go_on(lock, &recovered)?
            }
            _ => {
                assert!(!self.has_begun);
                let begun = Journal::begin(lock, OURS, OPENS, FLOOR)?;
                self.has_begun = true;
                begun
            }
        };
        match (self.work(&mut journal), then) {
            (Ok(()), Then::Exits) => Ok(()),
            (Err(fault), Then::Exits) => Err(fault),
            (_, Then::GivesUp) => {
                self.is_given_up = true;
                journal.abandon()
            }
        }
    }

    fn work(&mut self, journal: &mut Journal) -> Result<(), Fault> {
        self.append(journal, |_, model, facts| model.grant(&LONG, facts))?;
        self.append(journal, |index, model, facts| match index % 2 {
            0 => model.grant(&LONG, facts),
            _ => model.ended(*model.holds.keys().next().unwrap(), facts),
        })?;
        journal.begin_sweep();
        for held in self.model().holds.values() {
            let mut facts = Facts::kept();
            facts.held(held);
            journal.append(facts.bytes(), self.model().last_fence)?;
        }
        journal.end_sweep(20 * 65_600)?;
        for _ in 0..10 {
            // A segment that cannot be dropped does no harm.
            let failing = FAILING.get();
            let is_dropped = journal.drop_one().is_ok();
            assert!(is_dropped || matches!(failing, Failing::One(0) | Failing::From(0)));
        }
        self.append(journal, |index, model, facts| match index % 2 {
            0 => model.grant(&LONG, facts),
            _ => model.renewed(*model.holds.keys().next().unwrap(), index.into(), facts),
        })
    }

    /// The next start, of this identity and of the next epoch.
    fn check(&self) {
        match self.dir.find(&OURS).unwrap().1 {
            Found::Whole(recovered) => {
                assert!(!self.is_given_up);
                let states = &self.states[self.kept - 1..];
                let fits = states.iter().any(|state| state.is_that_of(&recovered));
                assert!(fits, "{} holds", recovered.holds().count());
                assert!(recovered.first_fence > self.states[self.kept - 1].last_fence);
            }
            found => assert!(!self.has_begun || self.is_given_up, "{found:?}"),
        }
        let next = Identity { epoch: 6, ..OURS };
        let (lock, found) = self.dir.find(&next).unwrap();
        assert!(!matches!(found, Found::Whole(_)));
        drop(Journal::begin(lock, next, OPENS, FLOOR).unwrap());
        let found = self.dir.find(&next).unwrap().1;
        assert!(matches!(found, Found::Whole(recovered) if recovered.holds().count() == 0));
    }
}

/// Lives from each of the beginnings, with steps failing from each place on. Returns how many lives there were.
fn lives(failing: fn(u32) -> Failing) -> u32 {
    let mut lives = 0;
    for before in [Before::Nothing, Before::Whole, Before::Unusable] {
        for then in [Then::Exits, Then::GivesUp] {
            for steps in 0.. {
                let mut life = Life::new(before);
                FAILING.set(failing(steps));
                let ended = life.run(then);
                let left = FAILING.replace(Failing::None);
                if let Err(fault) = &ended {
                    let (fault, dir) = (fault.to_string(), life.dir.0.to_str().unwrap());
                    assert!(fault.contains(dir) && fault.contains("a test lets it fail"));
                }
                let has_failed = !matches!(left, Failing::One(_) | Failing::From(1..));
                assert!(has_failed || ended.is_ok(), "{before:?} {then:?} {steps}");
                life.check();
                lives += 1;
                if !has_failed {
                    break;
                }
            }
        }
    }
    lives
}

#[test]
fn a_start_after_a_crash_between_any_two_steps_finds_all_or_uses_nothing() {
    let lives = lives(Failing::From);
    assert!(lives > 150, "{lives}");
}

#[test]
fn a_start_after_any_step_that_failed_finds_all_or_uses_nothing() {
    let lives = lives(Failing::One);
    assert!(lives > 150, "{lives}");
}

#[test]
fn a_segment_that_cannot_be_dropped_stays_until_the_next_sweep() {
    let dir = RunDir::new();
    let (mut journal, mut model) = (dir.begin(), Model::default());
    fill(&mut journal, &mut model, 3);
    sweep(&mut journal, &model);
    FAILING.set(Failing::One(0));
    let fault = journal.drop_one().unwrap_err().to_string();
    let is_named = fault.contains("0001\"");
    assert!(is_named && fault.starts_with("cannot remove "), "{fault}");
    for _ in 0..3 {
        journal.drop_one().unwrap();
    }
    assert_eq!(journal.first, 1);
    assert!(model.is_that_of(&dir.copy().whole().1));
    sweep(&mut journal, &model);
    drop_all(&mut journal);
    assert!(journal.first > 4);
    assert!(model.is_that_of(&dir.copy().whole().1));
}

#[test]
fn nothing_is_appended_behind_a_fact_that_is_missing() {
    let dir = RunDir::new();
    let (mut journal, mut model) = (dir.begin(), Model::default());
    fill(&mut journal, &mut model, 0);
    let mut facts = Facts::kept();
    facts.held(&hold(1, &LONG));
    let long = facts.bytes().repeat(15);
    FAILING.set(Failing::One(0));
    journal.append(&long, FLOOR).unwrap_err();
    facts.clear();
    facts.ended(1);
    let appended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        journal.append(facts.bytes(), FLOOR)
    }));
    assert!(appended.is_err());
}
