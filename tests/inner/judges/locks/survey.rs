//! What the lock table says of its keys, and how that may change with one command: keys appear when they are
//! asked for, fall idle when nobody uses them, keep their limits meanwhile, and go when they were idle for long
//! enough or, the longest idle first, when another needs the room.

use std::collections::HashMap;

use super::{Act, Judge, Key, NAMES, Wish};
use dflockd::command::{Space, State, Us, View};
use dflockd::locks::Locks;

#[derive(Clone, Copy, PartialEq, Debug)]
struct Seen {
    limit: u32,
    held: usize,
    waiting: usize,
    /// Since when nobody uses it.
    idle: Option<Us>,
    /// Whose its oldest hold is, of those that have a name.
    owner: Option<usize>,
}

/// All keys of a run, as the table has listed them.
#[derive(Clone, Default)]
pub struct Survey {
    places: [HashMap<Vec<u8>, usize>; 2],
    seen: Vec<Option<Seen>>,
    /// The limit of a key that is about to appear.
    fixed: Option<(usize, u32)>,
}

impl Survey {
    pub fn new(keys: &[Key]) -> Survey {
        let mut survey = Survey {
            seen: vec![None; keys.len()],
            ..Survey::default()
        };
        for (place, key) in keys.iter().enumerate() {
            survey.places[index(key.space)].insert(key.name.clone(), place);
        }
        survey
    }

    /// Has the table list its keys, and returns the former survey's.
    pub fn take(&mut self, keys: &[Key], now: Us, locks: &Locks) -> Former {
        let mut seen = vec![None; keys.len()];
        let views = (0..locks.places()).filter_map(|place| locks.view(now, place));
        for View {
            space,
            name,
            limit,
            state,
        } in views
        {
            let key = self.places[index(space)][name];
            let name = |owner: &[u8]| NAMES.iter().position(|name| *name == owner);
            let (held, waiting, idle, owner) = match state {
                State::Used {
                    held,
                    waiting,
                    oldest,
                } => {
                    let owner = oldest.and_then(|hold| hold.owner);
                    (held as usize, waiting as usize, None, owner)
                }
                State::Idle { span } => (0, 0, Some(now - span), None),
            };
            let twice = seen[key].replace(Seen {
                limit,
                held,
                waiting,
                idle,
                owner: owner.map(|owner| name(owner).expect("they are all here")),
            });
            assert_eq!(twice, None, "a key is there once");
        }
        self.fixed = None;
        Former(std::mem::replace(&mut self.seen, seen))
    }

    /// The key is about to appear with this limit.
    pub fn fix(&mut self, key: usize, limit: u32) {
        self.fixed = Some((key, limit));
    }

    /// The limit that a key has been given by its first user.
    pub fn limit(&self, key: usize) -> Option<u32> {
        let fixed = self.fixed.filter(|fixed| fixed.0 == key);
        let seen = self.seen[key].map(|seen| seen.limit);
        fixed.map(|fixed| fixed.1).or(seen)
    }

    pub fn waiting(&self, key: usize) -> usize {
        self.seen[key].map_or(0, |seen| seen.waiting)
    }

    /// The name of whose its oldest hold is, if that has one.
    pub fn owner(&self, key: usize) -> Option<usize> {
        self.seen[key].and_then(|seen| seen.owner)
    }

    /// Whether somebody holds it or waits for it.
    pub fn is_used(&self, key: usize) -> bool {
        self.seen[key].is_some_and(|seen| seen.idle.is_none())
    }

    /// Keys that are held or queued for.
    pub fn in_use(&self) -> usize {
        let used = |key: &usize| self.is_used(*key);
        (0..self.seen.len()).filter(used).count()
    }

    pub fn idle_since(&self) -> impl Iterator<Item = Us> {
        self.seen.iter().flatten().filter_map(|seen| seen.idle)
    }

    pub fn is_empty(&self) -> bool {
        self.seen.iter().all(|seen| seen.is_none())
    }
}

/// What the judge knows of one key.
#[derive(Clone, Copy, Default)]
struct Tally {
    /// Holds for sure, and holds that have perhaps ended.
    sure: usize,
    fading: usize,
    waits: usize,
    ghosts: usize,
}

/// What a survey has shown before the last command.
pub struct Former(Vec<Option<Seen>>);

impl Judge {
    /// Whether what the table says of its keys can have come of the command.
    pub(super) fn judge_survey(&self, act: &Act, former: &Former, wish: Option<Wish>) {
        let (mut made_room, tallies) = (0, self.tallies());
        for (key, &tally) in tallies.iter().enumerate() {
            let asked = wish.filter(|wish| wish.key == key);
            match (former.0[key], self.survey.seen[key]) {
                (None, None) => {}
                (None, Some(seen)) => {
                    let limit = asked.map(|wish| wish.limit);
                    assert_eq!(Some(seen.limit), limit, "a key from nowhere");
                    self.judge_key(tally, None, seen, true);
                }
                (Some(was), Some(seen)) => {
                    // An idle key takes the limit of its next user.
                    let taken = seen.idle.is_none() || self.is_quarantined();
                    let fixed = match was.idle.is_some() && taken && asked.is_some() {
                        true => asked.map(|wish| wish.limit),
                        false => Some(was.limit),
                    };
                    assert_eq!(fixed, Some(seen.limit), "its first user fixed its limit");
                    self.judge_key(tally, Some(was), seen, asked.is_some());
                }
                (Some(was), None) => match was.idle {
                    None => assert_eq!(self.settings.max_idle, 0, "its limit is forgotten"),
                    Some(since) if matches!(act, Act::Tick { .. }) => {
                        let due = since.saturating_add(self.settings.max_idle);
                        assert!(due <= self.now, "it was forgotten early");
                    }
                    Some(since) => {
                        made_room += 1;
                        self.judge_room(since, former, wish);
                    }
                },
            }
            let used = tally.waits + tally.sure;
            assert!(used == 0 || self.survey.is_used(key), "a key is lost");
        }
        assert!(made_room <= 1, "one key needs the room of one");
        let count = self.survey.seen.iter().flatten().count();
        assert!(count <= self.most_keys(), "S10");
    }

    /// After a restart: the keys of the holds that are carried on are there, with the limits that they had, and nothing
    /// else. Returns how many they are.
    pub(super) fn judge_adopted(&self, former: &Former) -> usize {
        for (key, tally) in self.tallies().into_iter().enumerate() {
            let seen = self.survey.seen[key].map(|seen| (seen.limit, seen.held, seen.waiting));
            let limit = former.0[key].map(|was| was.limit);
            let wanted = (tally.sure > 0).then_some(limit).flatten();
            assert_eq!(
                seen,
                wanted.map(|limit| (limit, tally.sure, 0)),
                "key {key}"
            );
        }
        self.survey.in_use()
    }

    fn tallies(&self) -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); self.keys.len()];
        for hold in &self.holds {
            tallies[hold.key].sure += usize::from(!hold.fading);
            tallies[hold.key].fading += usize::from(hold.fading);
        }
        self.waits.iter().for_each(|w| tallies[w.key].waits += 1);
        self.ghosts.iter().for_each(|g| tallies[g.1].ghosts += 1);
        tallies
    }

    /// A key that is there: who uses it, and since when does nobody?
    fn judge_key(&self, tally: Tally, was: Option<Seen>, seen: Seen, asked: bool) {
        let Some(since) = seen.idle else {
            let was_used = was.is_some_and(|was| was.idle.is_none());
            assert!(was_used || asked, "nobody has asked for it");
            let Tally {
                sure,
                fading,
                waits,
                ghosts,
            } = tally;
            assert!((sure..=sure + fading).contains(&seen.held), "S11");
            assert!((waits..=waits + ghosts).contains(&seen.waiting), "S4");
            return;
        };
        match was.and_then(|was| was.idle) {
            // Somebody who does not wait was sent away.
            Some(_) if asked && self.is_quarantined() => assert_eq!(since, self.now),
            Some(before) => assert_eq!(before, since, "its idle clock was refreshed"),
            None => assert_eq!(since, self.now, "it fell idle with this command"),
        }
        assert!(self.settings.max_idle > 0, "idle keys are not kept");
    }

    /// An idle key has gone though no time has passed: another needed its room.
    fn judge_room(&self, since: Us, former: &Former, wish: Option<Wish>) {
        let new = wish.is_some_and(|wish| former.0[wish.key].is_none());
        let full = former.0.iter().flatten().count() >= self.settings.max_locks;
        assert!(new && full, "there was room");
        let mut others = self.survey.idle_since();
        assert!(others.all(|other| since <= other), "it was not the longest");
    }
}

fn index(space: Space) -> usize {
    match space {
        Space::Lock => 0,
        Space::Semaphore => 1,
    }
}
