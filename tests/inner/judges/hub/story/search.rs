//! One call of the hub: which commands for the lock table, in which order, explain what it has led to? Tries what may come
//! next, the likely first, and goes back where that leads to another answer than the one that was heard.

use std::hash::{DefaultHasher, Hash, Hasher};

use dflockd::command::{Reply, SessionId};
use dflockd::facts::Outbox;

use super::{Asked, Hint, KEPT, Part, Progress, Step, Story, UNSEEN_MAX, latest};
use crate::harness::{Entry, Glance, looks, number};
use crate::judges::hub::Shown;
use crate::judges::hub::spelling::{fence_in, spell};
use crate::judges::locks::{Act, Key};

/// One call that is to be explained.
pub(super) struct Scene<'a> {
    pub entry: &'a Entry,
    /// Its number.
    pub call: usize,
    pub parts: &'a [Part],
    /// What was said of keys, in any call.
    pub shown: &'a [Shown],
    pub hint: Option<Hint>,
    /// Whose bytes or end it is about.
    pub speaks: Option<SessionId>,
}

/// What may come next.
#[derive(Clone, Copy)]
enum Next {
    /// The clock's, or the drain's.
    Own(Act),
    Ask(usize),
    /// A grant that was not heard of is taken back.
    TakeBack(usize),
    Close(usize),
}

#[derive(Clone)]
pub(super) struct State {
    pub progress: Vec<Progress>,
    /// The call has a command of its own, which comes first.
    pub own: Option<Act>,
    /// The part that acted last.
    pub last: Option<usize>,
    /// Commands that may still come without being answered.
    pub unseen: usize,
}

impl Story {
    /// The path with the fewest commands that nobody has answered.
    pub(super) fn shortest(
        &mut self,
        scene: &Scene,
        state: &State,
        path: &mut Vec<Step>,
    ) -> Option<State> {
        if self.strayed {
            self.go_back(path);
        }
        let least = match scene.entry.glance.waiting() - scene.queued() {
            most @ 1.. => (most - self.glance(scene).waiting()).max(0) as usize,
            _ => 0,
        };
        let unseen = least..least + UNSEEN_MAX;
        unseen.into_iter().find_map(|unseen| {
            let state = State {
                unseen,
                ..state.clone()
            };
            self.tries = self.effort;
            self.seen.clear();
            self.search(scene, &state, path)
        })
    }

    /// Commands that lead from this state to an end of the call are appended to the path.
    fn search(&mut self, scene: &Scene, state: &State, path: &mut Vec<Step>) -> Option<State> {
        if self.strayed {
            self.go_back(path);
        }
        if self.is_explained(scene, state) {
            return Some(state.clone());
        }
        if self.is_too_far(scene, state) {
            return None;
        }
        let nexts = nexts(scene, state);
        // Another order of the same, if nothing has come of that, is of no use either.
        if nexts.len() > 1 && !self.seen.insert(self.summary(scene, state, path)) {
            return None;
        }
        for (unseen, next) in nexts {
            if self.strayed {
                self.go_back(path);
            }
            if !self.may_come(scene, state, next) {
                continue;
            }
            self.tries = self.tries.checked_sub(1)?;
            let (id, act) = match next {
                Next::Own(act) => (SessionId::NOBODY, act),
                Next::Ask(at) => {
                    let part = &scene.parts[at];
                    (part.id, part.asks[state.progress[at].done].act)
                }
                Next::TakeBack(at) => {
                    let (key, token) = state.progress[at].grant.expect("it has one");
                    (SessionId::NOBODY, Act::TakeBack { key, token })
                }
                Next::Close(at) => (scene.parts[at].id, Act::Close),
            };
            let out = self.ask(scene.entry.now, scene.call, id, act, path);
            if let Some(state) = follow(scene, state, next, &out) {
                let state = State {
                    unseen: state.unseen - usize::from(unseen),
                    ..state
                };
                if let Some(end) = self.search(scene, &state, path) {
                    return Some(end);
                }
            }
            path.pop();
            self.strayed = true;
        }
        None
    }

    /// Every answer of the call is there, and the tables look alike.
    fn is_explained(&self, scene: &Scene, state: &State) -> bool {
        let answered = |(at, progress): (usize, &Progress)| {
            let next = scene.parts[at].asks.get(progress.done);
            let answer = next.and_then(|ask| ask.answer.as_ref());
            answer.is_none_or(|answer| answer.0 > scene.call)
        };
        state.own.is_none()
            && state.progress.iter().enumerate().all(answered)
            && self.glance(scene) == scene.entry.glance
            && (scene.shown.iter().filter(|shown| shown.call == scene.call))
                .all(|shown| shown.is_true(&self.twin, scene.entry.now))
    }

    /// Whether more has happened than can have, or more stand in a queue than can leave it.
    fn is_too_far(&self, scene: &Scene, state: &State) -> bool {
        if state.own.is_some() {
            return false;
        }
        let (has, goal) = (self.twin.counts(), scene.entry.glance.counts);
        if has.granted > goal.granted
            || has.released > goal.released
            || has.broken > goal.broken
            || has.deadlocks > goal.deadlocks
        {
            return true;
        }
        if scene.parts.iter().any(|part| part.ends || part.drains) {
            return false;
        }
        let grants = (goal.granted - has.granted) as u32;
        // A place that is kept may just be over when its turn comes.
        let keeps =
            |ask: &&Asked| matches!(ask.act, Act::AcquireFor { terms, .. } if terms.keep > 0);
        let asks = scene.parts.iter().flat_map(|part| &part.asks);
        let kept = (self.judge.kept() + asks.filter(keeps).count()) as u32;
        let mut queues = looks(&self.twin, scene.entry.now).filter(|look| look.waiting > 0);
        queues.any(|look| {
            let left = scene
                .parts
                .iter()
                .zip(&state.progress)
                .flat_map(|(part, progress)| {
                    let rest = part.asks.iter().skip(progress.done);
                    rest.take_while(|ask| ask.answer.as_ref().is_some_and(|a| a.0 == scene.call))
                });
            let key = |ask: &Asked| ask.act.key().map(|key| &self.judge.keys[key]);
            let its = |ask: &&Asked| {
                let same =
                    |key: &Key| key.space == look.space || matches!(ask.act, Act::Cancel { .. });
                key(ask).is_some_and(|key| same(key) && number(&key.name) == look.name)
            };
            let left = left.filter(its).count() as u32;
            look.waiting > scene.entry.glance.queue(&look) + grants + left + kept
        })
    }

    /// Where the search is: how far each part has come, how the table looks, and what it does not show.
    fn summary(&self, scene: &Scene, state: &State, path: &[Step]) -> u64 {
        let mut hasher = DefaultHasher::new();
        for progress in &state.progress {
            (progress.done, progress.waits, progress.open).hash(&mut hasher);
        }
        let mut queued: Vec<(usize, SessionId)> = path.iter().filter_map(place).collect();
        queued.sort_by_key(|queued| queued.0);
        for (key, id) in queued {
            (key, id.serial()).hash(&mut hasher);
        }
        self.glance(scene).hash(&mut hasher);
        hasher.finish()
    }

    fn glance(&self, scene: &Scene) -> Glance {
        let ids = scene.entry.glance.has.iter().map(|has| has.0);
        Glance::new(&self.twin, scene.entry.now, ids)
    }

    /// Whether it is worth trying, because of what the twin knows of the key.
    fn may_come(&self, scene: &Scene, state: &State, next: Next) -> bool {
        let at = match next {
            Next::Own(_) | Next::TakeBack(_) => return true,
            Next::Close(at) => {
                let Part { id, ends, .. } = scene.parts[at];
                // It makes no difference if the session has nothing.
                let goes = self.twin.has(id) && !scene.entry.glance.has.contains(&(id, true));
                return goes && (ends || !self.twin.holds(id));
            }
            Next::Ask(at) => at,
        };
        let Asked { act, answer, .. } = &scene.parts[at].asks[state.progress[at].done];
        // A repeat may be told of what was granted long ago.
        let (key, limit, waits, repeats) = match *act {
            Act::Acquire {
                key, limit, wait, ..
            } => (key, limit, wait > 0, false),
            Act::AcquireFor { key, limit, .. } => (key, limit, true, true),
            Act::Enqueue { key, limit, .. } => (key, limit, false, false),
            _ => return true,
        };
        let Some((_, answer)) = answer else {
            return true;
        };
        let Key { space, name, .. } = &self.judge.keys[key];
        let mut all = looks(&self.twin, scene.entry.now);
        let look = all.find(|look| (look.space, look.name) == (*space, number(name)));
        let free = look
            .as_ref()
            .is_none_or(|look| look.waiting == 0 && look.held < limit);
        let free = free && scene.entry.now >= self.settings.opens;
        if look.is_some_and(|look| look.held > 1 || look.held == 1 && look.span == 0) {
            // Its holds may end first.
            return true;
        }
        match fence_in(answer) {
            Some(fence) if free => {
                let next = self.settings.first_fence + self.twin.counts().granted;
                fence == next || repeats && fence < next
            }
            Some(_) => waits,
            None => !free || !answer.starts_with(b"timeout") && answer != b"queued",
        }
    }

    /// What cannot be explained.
    pub(super) fn describe(&mut self, scene: &Scene, state: &State, path: &[Step]) -> String {
        self.go_back(path);
        let mut text = format!("nothing explains call {}", scene.call);
        for (part, progress) in scene.parts.iter().zip(&state.progress) {
            let Progress { waits, open, .. } = progress;
            let Part { id, ends, .. } = part;
            text += &format!("\n{id:?} open {open} waits {waits} ends {ends}");
            for Asked { act, from, answer } in part.asks.iter().skip(progress.done) {
                let answer = answer.as_ref();
                let answer = answer.map(|a| (a.0, String::from_utf8_lossy(&a.1)));
                text += &format!("\n    {act:?} from {from}: {answer:?}");
            }
        }
        for shown in scene.shown.iter().filter(|shown| shown.call == scene.call) {
            let views = shown.views(&self.twin, scene.entry.now);
            text += &format!("\nshown {shown:?}, but there is {views}");
        }
        let Entry {
            now, call, glance, ..
        } = scene.entry;
        text + &format!(
            "\n{call:?} at {now} from\n{:?} to\n{glance:?}",
            self.glance(scene)
        )
    }
}

impl Scene<'_> {
    /// How many are told in this call that they stand in a queue, or that their place does.
    fn queued(&self) -> i64 {
        let asks = self.parts.iter().flat_map(|part| &part.asks);
        let told = asks.filter_map(|ask| ask.answer.as_ref());
        let queued = |said: &[u8]| said == b"queued" || said.starts_with(KEPT);
        let queued = told.filter(|told| told.0 == self.call && queued(&told.1));
        queued.count() as i64
    }
}

/// Steps whose order nothing shows at first: those that lead to one queue, and those after which keys may be idle.
fn place(step: &Step) -> Option<(usize, SessionId)> {
    match step.act? {
        Act::Acquire { key, wait: 1.., .. }
        | Act::AcquireFor { key, .. }
        | Act::Enqueue { key, .. } => Some((key, step.id)),
        Act::Release { .. }
        | Act::Yield { .. }
        | Act::Break { .. }
        | Act::Cancel { .. }
        | Act::TakeBack { .. }
        | Act::Close => Some((usize::MAX, step.id)),
        _ => None,
    }
}

/// In the order in which they are likely: whoever acted goes on, then those who were heard first, then ends, then what
/// has no answer in this call; and whether it is of that kind.
fn nexts(scene: &Scene, state: &State) -> Vec<(bool, Next)> {
    if let Some(act) = state.own {
        return vec![(false, Next::Own(act))];
    }
    let mut all: Vec<((u8, usize), (bool, Next))> = Vec::new();
    for (at, (part, progress)) in scene.parts.iter().zip(&state.progress).enumerate() {
        if part.ends && progress.grant.is_some() {
            let rank = if scene.speaks == Some(part.id) { 0 } else { 2 };
            all.push(((rank, progress.ready), (true, Next::TakeBack(at))));
        }
        if !progress.open {
            continue;
        }
        let is_first = matches!(scene.hint, Some(Hint::First(id)) if id == part.id);
        let is_last = matches!(scene.hint, Some(Hint::Last(id)) if id == part.id);
        let mut rest = part.asks.iter().skip(progress.done);
        let next = rest.clone().next();
        let next = next.filter(|ask| !progress.waits && ask.from <= scene.call);
        if let Some(Asked { act, answer, .. }) = next {
            let call = answer.as_ref().map(|answer| answer.0);
            let unseen = call != Some(scene.call);
            let rank = match (state.last == Some(at), unseen) {
                _ if is_first => 0,
                _ if is_last => 9,
                (true, _) => 0,
                // Nobody has answered, so it is likely that it waits.
                (false, true) if call.is_none() && !part.ends => 1,
                (false, false) => 1,
                (false, true) => 3,
            };
            if call.is_some() || part.ends || act.can_wait() {
                all.push(((rank, progress.ready), (unseen, Next::Ask(at))));
            }
        }
        if (part.ends || part.drains) && rest.all(|ask| ask.answer.is_none()) {
            let rank = if is_first { 0 } else { 2 };
            all.push(((rank, progress.ready), (true, Next::Close(at))));
        }
    }
    all.sort_by_key(|next| next.0);
    let nexts = all.into_iter().map(|next| next.1);
    nexts.filter(|next| !next.0 || state.unseen > 0).collect()
}

/// What becomes of the state, if the answers were those.
fn follow(scene: &Scene, state: &State, next: Next, out: &Outbox) -> Option<State> {
    let mut state = state.clone();
    match next {
        Next::Own(_) => state.own = None,
        Next::Ask(at) => {
            state.progress[at].waits = true;
            state.last = Some(at);
        }
        Next::TakeBack(at) => state.progress[at].grant = None,
        Next::Close(at) => state.progress[at].open = false,
    }
    for (id, reply) in &out.replies {
        let at = scene.parts.iter().position(|part| part.id == *id)?;
        let ready = latest(&state.progress) + 1;
        let (part, progress) = (&scene.parts[at], &mut state.progress[at]);
        let Asked { act, answer, .. } = part.asks.get(progress.done)?;
        let fits = match answer {
            // It may be told later than it was made.
            Some((call, said)) => *call >= scene.call && spell(part.face, act, reply) == *said,
            None => part.ends || part.dies,
        };
        if !fits || !progress.waits {
            return None;
        }
        progress.grant = match (act, reply) {
            (&Act::AcquireFor { key, .. }, &Reply::Granted { token, .. }) => {
                let grant = Some((key, token));
                grant.filter(|_| answer.is_none() || part.unheard == grant)
            }
            _ => None,
        };
        progress.waits = false;
        progress.done += 1;
        if state.last != Some(at) {
            progress.ready = ready;
        }
    }
    match next {
        Next::Ask(at) if state.progress[at].waits => {
            let act = scene.parts[at].asks[state.progress[at].done].act;
            act.can_wait().then_some(state)
        }
        _ => Some(state),
    }
}
