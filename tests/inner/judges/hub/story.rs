//! In which order did it happen? Each client knows what it asked and was told, not how that of several fell into one
//! turn. A story is an order of commands for the lock table that explains every answer, and how the hub's own table
//! looks after each call. It is found by trying: a second table, the twin, is asked the same things. Whether the story
//! is legal, the judge of the lock table says, command by command; nothing here knows a rule of it.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use dflockd::command::{Outbox, Reply, SessionId, Us};
use dflockd::locks::{Locks, Settings};
use dflockd::wire::Face;

use super::spelling::{fence_in, spell};
use crate::harness::{Call, Entry, Glance, apply, looks, number};
use crate::judges::locks::{self, Act, Key, Slot};

/// Commands that are tried to explain one call, at most: mostly, and if nothing else helps.
const TRIES: usize = 150;
const ALL_TRIES: usize = 2000;

/// Other orders of former calls that are tried.
const RIVALS_MAX: usize = 200;

/// So many of them, less one, may have no answer in it.
const UNSEEN_MAX: usize = 8;

/// What one session has asked of the lock table, from the request on that waited before.
pub struct Part {
    pub id: SessionId,
    pub face: Face,
    pub asks: VecDeque<Asked>,
    /// Its connection is over, or will be when its requests are done: answers may be lost.
    pub ends: bool,
    /// It is over, after this call at the earliest.
    pub over: Option<usize>,
    /// It leaves so much unread that perhaps nothing more is executed.
    pub blocked: bool,
    /// The drain closes it if it holds nothing.
    pub drains: bool,
}

/// One request.
#[derive(Clone)]
pub struct Asked {
    pub act: Act,
    /// In which call the last of it came, at the earliest.
    pub from: usize,
    /// The call that brought the answer, if one came, and how it is spelt.
    pub answer: Option<(usize, Vec<u8>)>,
}

/// How far a part has come.
#[derive(Clone, Copy, Default)]
struct Progress {
    done: usize,
    /// The next request was asked, and waits.
    waits: bool,
    open: bool,
    /// When it was heard or answered last: who came first is likely to be served first.
    ready: usize,
}

/// One command of the story, or the coming of a session.
#[derive(Clone)]
struct Step {
    turn: u64,
    now: Us,
    /// The call of its turn that it explains.
    call: usize,
    id: SessionId,
    /// None if it comes.
    act: Option<Act>,
    /// What was answered, to whom.
    said: Vec<(SessionId, Reply)>,
}

/// One call that is to be explained.
struct Scene<'a> {
    entry: &'a Entry,
    /// Its number.
    call: usize,
    parts: &'a [Part],
    /// Whoever shall come first, if it can.
    first: Option<SessionId>,
}

/// Calls that are explained together.
struct Turn<'a> {
    entries: &'a [Entry],
    /// By client.
    ids: &'a [SessionId],
    parts: &'a [Part],
}

/// What may come next.
#[derive(Clone, Copy)]
enum Next {
    /// The clock's, or the drain's.
    Own(Act),
    Ask(usize),
    Close(usize),
}

#[derive(Clone)]
struct State {
    progress: Vec<Progress>,
    /// The call has a command of its own, which comes first.
    own: Option<Act>,
    /// The part that acted last.
    last: Option<usize>,
    /// Commands that may still come without being answered.
    unseen: usize,
}

pub struct Story {
    settings: Settings,
    pub judge: locks::Judge,
    /// What the judge is shown.
    table: Locks,
    twin: Locks,
    /// The twin was asked something that is no part of the story.
    strayed: bool,
    steps: Vec<Step>,
    turn: u64,
    effort: usize,
    tries: usize,
    /// What the search has come by.
    seen: HashSet<u64>,
}

impl Story {
    pub fn new(settings: Settings, keys: Vec<Key>, slots: usize) -> Story {
        Story {
            judge: locks::Judge::new(settings.clone(), keys, slots),
            table: Locks::new(settings.clone()),
            twin: Locks::new(settings.clone()),
            settings,
            strayed: false,
            steps: Vec::new(),
            turn: 0,
            effort: TRIES,
            tries: 0,
            seen: HashSet::new(),
        }
    }

    /// The lock table as it must be.
    pub fn table(&self) -> &Locks {
        &self.table
    }

    pub fn is_open(&self, id: SessionId) -> bool {
        self.judge.slots[id.slot() as usize] == Slot::Open(id)
    }

    /// Explains the calls of a turn. The parts come in the order in which they last spoke.
    pub fn explain(&mut self, entries: &[Entry], ids: &[SessionId], parts: &[Part]) {
        self.turn += 1;
        let turn = Turn {
            entries,
            ids,
            parts,
        };
        let mut path = Vec::new();
        // The first path is mostly right. Else it is mostly a former one that was not.
        self.effort = TRIES;
        if self.tell(&turn, None, &mut path).is_err() && !self.retell(&turn, &mut path) {
            self.effort = ALL_TRIES;
            let told = self.tell(&turn, None, &mut path);
            told.unwrap_or_else(|why| panic!("{why}"));
        }
        for step in path {
            self.swear(step);
        }
    }

    /// Explains one call after the other. If one cannot be explained, says how far it came.
    fn tell(
        &mut self,
        turn: &Turn,
        first: Option<(usize, SessionId)>,
        path: &mut Vec<Step>,
    ) -> Result<(), String> {
        self.strayed |= !path.is_empty();
        path.clear();
        let parts = turn.parts;
        let progress = |(at, part): (usize, &Part)| Progress {
            done: 0,
            waits: self.judge.waits(part.id),
            open: self.is_open(part.id),
            ready: at,
        };
        let mut progress: Vec<Progress> = parts.iter().enumerate().map(progress).collect();
        for (call, entry) in turn.entries.iter().enumerate() {
            let own = match entry.call {
                Call::Tick { heard } => Some(Act::Tick { heard }),
                Call::Drain => Some(Act::Drain),
                _ => None,
            };
            let at = |client: usize| parts.iter().position(|part| part.id == turn.ids[client]);
            match entry.call {
                Call::Open(client) => {
                    self.open(entry.now, turn.ids[client], parts, &mut progress, path);
                }
                Call::Hear { client, .. } => {
                    if let Some(at) = at(client) {
                        progress[at].ready = latest(&progress) + 1;
                    }
                }
                Call::Tick { .. } => {
                    // Who was answered first is looked after first.
                    let rest = turn.entries[call + 1..].iter();
                    let rest = rest.take_while(|entry| !matches!(entry.call, Call::Tick { .. }));
                    let flushed = rest.filter_map(|entry| match entry.call {
                        Call::Flush(client) => at(client),
                        _ => None,
                    });
                    put_in_order(&mut progress, flushed.collect());
                }
                Call::Flush(_) => continue,
                _ => {}
            }
            let scene = Scene {
                entry,
                call,
                parts,
                first: first.filter(|first| first.0 == call).map(|first| first.1),
            };
            let state = State {
                progress,
                own,
                last: None,
                unseen: 0,
            };
            match self.shortest(&scene, &state, path) {
                Some(end) => progress = end.progress,
                None => {
                    self.strayed = true;
                    return Err(self.describe(&scene, &state, path));
                }
            }
            self.begin_waits(&scene, &mut progress, path);
            self.close_empty(&scene, &mut progress, path);
        }
        Ok(())
    }

    /// Who goes without having anything goes at once: that makes a difference for its owner alone.
    fn close_empty(&mut self, scene: &Scene, progress: &mut [Progress], path: &mut Vec<Step>) {
        if self.strayed {
            self.go_back(path);
        }
        for (part, progress) in scene.parts.iter().zip(progress) {
            let over = progress.open && part.over.is_some_and(|call| call <= scene.call);
            if over && !self.twin.has(part.id) {
                progress.open = false;
                self.ask(scene.entry.now, scene.call, part.id, Act::Close, path);
            }
        }
    }

    /// What happened within one call happened perhaps in another order, and that shows only now: when those who came to
    /// one queue are served, or when leases end together.
    fn retell(&mut self, turn: &Turn, path: &mut Vec<Step>) -> bool {
        let mut pairs = rivals(path);
        pairs.truncate(RIVALS_MAX);
        let calls: Vec<_> = (pairs.iter())
            .map(|&(_, second)| (path[second].call, path[second].id))
            .collect();
        if calls
            .into_iter()
            .any(|first| self.tell(turn, Some(first), path).is_ok())
        {
            return true;
        }
        let former = self.steps.clone();
        let mut pairs = rivals(&former);
        pairs.truncate(RIVALS_MAX);
        for (first, second) in pairs {
            // Either the second came before all of these, or the first came after them, with what it did meanwhile.
            let (early, late) = (former[second].id, former[first].id);
            let ways: [&dyn Fn(&Step) -> bool; 2] =
                [&|step| step.id == early, &|step| step.id != late];
            for is_ahead in ways {
                let steps = former[first..=second].iter().cloned();
                let (ahead, behind): (Vec<Step>, Vec<Step>) = steps.partition(is_ahead);
                self.steps
                    .splice(first..=second, ahead.into_iter().chain(behind));
                if self.is_retold(&former) && self.tell(turn, None, path).is_ok() {
                    self.swear_again();
                    return true;
                }
                self.steps.clone_from(&former);
                self.strayed = true;
            }
        }
        false
    }

    /// Whoever waits for what it has enqueued stood in the queue before: nothing shows that it waits now, so it does at
    /// once.
    fn begin_waits(&mut self, scene: &Scene, progress: &mut [Progress], path: &mut Vec<Step>) {
        for (part, progress) in scene.parts.iter().zip(progress) {
            if let Some(ask) = part.asks.get(progress.done)
                && let (Act::Wait { wait: 1.., .. }, None) = (ask.act, &ask.answer)
                && progress.open
                && !progress.waits
                && !part.ends
                && !part.blocked
                && ask.from <= scene.call
            {
                let out = self.ask(scene.entry.now, scene.call, part.id, ask.act, path);
                progress.waits = out.replies.is_empty();
                if !progress.waits {
                    path.pop();
                    self.strayed = true;
                }
            }
        }
    }

    /// S9, S11: at the end.
    pub fn is_over(&self) {
        self.judge.is_over(&self.table);
    }

    /// The session is over.
    pub fn close(&mut self, now: Us, id: SessionId) {
        let mut path = Vec::new();
        self.ask(now, usize::MAX, id, Act::Close, &mut path);
        path.into_iter().for_each(|step| self.swear(step));
    }

    /// A session comes; another that was in its slot was closed, though that made no difference.
    fn open(
        &mut self,
        now: Us,
        id: SessionId,
        parts: &[Part],
        progress: &mut [Progress],
        path: &mut Vec<Step>,
    ) {
        let before = parts.iter().zip(progress.iter());
        let before = before.clone().position(|(part, progress)| {
            progress.open && part.id.slot() == id.slot() && (part.ends || part.drains)
        });
        if let Some(at) = before {
            progress[at].open = false;
            self.ask(now, usize::MAX, parts[at].id, Act::Close, path);
        }
        path.push(Step {
            turn: self.turn,
            now,
            call: usize::MAX,
            id,
            act: None,
            said: Vec::new(),
        });
        if let Some(at) = parts.iter().position(|part| part.id == id) {
            progress[at].open = true;
        }
    }

    /// Asks the twin, and goes on with the path.
    fn ask(
        &mut self,
        now: Us,
        call: usize,
        id: SessionId,
        act: Act,
        path: &mut Vec<Step>,
    ) -> Outbox {
        if self.strayed {
            self.go_back(path);
        }
        let out = apply(&mut self.twin, now, id, act.command(&self.judge.keys));
        path.push(Step {
            turn: self.turn,
            now,
            call,
            id,
            act: Some(act),
            said: out.replies.iter().copied().collect(),
        });
        out
    }

    /// The step is in the story: is it legal?
    fn swear(&mut self, step: Step) {
        match step.act {
            None => self.judge.opened(step.id.slot() as usize, step.id),
            Some(act) => {
                let command = act.command(&self.judge.keys);
                let out = apply(&mut self.table, step.now, step.id, command);
                let knots = std::iter::from_fn(|| self.table.take_knot()).collect();
                let judge = &mut self.judge;
                judge.judge(step.now, step.id, &act, out, knots, &self.table);
            }
        }
        self.steps.push(step);
    }

    /// Whether the same was answered in each turn. Then the twin has done it all.
    fn is_retold(&mut self, former: &[Step]) -> bool {
        self.twin = Locks::new(self.settings.clone());
        self.strayed = false;
        let mut waiting: Vec<SessionId> = Vec::new();
        for step in &mut self.steps {
            let Some(act) = step.act else { continue };
            if waiting.contains(&step.id) && act != Act::Close {
                return false;
            }
            let command = act.command(&self.judge.keys);
            let out = apply(&mut self.twin, step.now, step.id, command);
            step.said = out.replies.into();
            waiting.push(step.id);
            let answered = |id: &SessionId| step.said.iter().any(|said| said.0 == *id);
            let waits = act.can_wait();
            waiting.retain(|id| !answered(id) && (*id != step.id || waits));
        }
        while self.twin.take_knot().is_some() {}
        answers(&self.steps) == answers(former)
    }

    /// The judge hears it all again.
    fn swear_again(&mut self) {
        let (keys, slots) = (self.judge.keys.clone(), self.judge.slots.len());
        self.judge = locks::Judge::new(self.settings.clone(), keys, slots);
        self.table = Locks::new(self.settings.clone());
        for step in std::mem::take(&mut self.steps) {
            self.swear(step);
        }
    }

    /// The path with the fewest commands that nobody has answered.
    fn shortest(&mut self, scene: &Scene, state: &State, path: &mut Vec<Step>) -> Option<State> {
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
    }

    /// Whether more has happened than can have, or more stand in a queue than can leave it.
    fn is_too_far(&self, scene: &Scene, state: &State) -> bool {
        if state.own.is_some() {
            return false;
        }
        let (has, goal) = (self.twin.counts(), scene.entry.glance.counts);
        if has.granted > goal.granted
            || has.released > goal.released
            || has.deadlocks > goal.deadlocks
        {
            return true;
        }
        if scene.parts.iter().any(|part| part.ends || part.drains) {
            return false;
        }
        let grants = (goal.granted - has.granted) as u32;
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
            let its = |key: &Key| (key.space, number(&key.name)) == (look.space, look.name);
            let left = left.filter(|ask| key(ask).is_some_and(its)).count() as u32;
            look.waiting > scene.entry.glance.queue(&look) + grants + left
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
            Next::Own(_) => return true,
            Next::Close(at) => {
                let Part { id, ends, .. } = scene.parts[at];
                // It makes no difference if the session has nothing.
                let goes = self.twin.has(id) && !scene.entry.glance.has.contains(&(id, true));
                return goes && (ends || !self.twin.holds(id));
            }
            Next::Ask(at) => at,
        };
        let Asked { act, answer, .. } = &scene.parts[at].asks[state.progress[at].done];
        let (key, limit, waits) = match *act {
            Act::Acquire {
                key, limit, wait, ..
            } => (key, limit, wait > 0),
            Act::Enqueue { key, limit, .. } => (key, limit, false),
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
        if look.is_some_and(|look| look.held > 1 || look.held == 1 && look.span == 0) {
            // Its holds may end first.
            return true;
        }
        match fence_in(answer) {
            Some(fence) if free => fence == self.settings.first_fence + self.twin.counts().granted,
            Some(_) => waits,
            None => !free || !matches!(&answer[..], b"timeout" | b"queued"),
        }
    }

    /// The twin has done the story and this path, and nothing else.
    fn go_back(&mut self, path: &[Step]) {
        self.twin = Locks::new(self.settings.clone());
        for step in self.steps.iter().chain(path) {
            if let Some(act) = step.act {
                apply(
                    &mut self.twin,
                    step.now,
                    step.id,
                    act.command(&self.judge.keys),
                );
            }
        }
        while self.twin.take_knot().is_some() {}
        self.strayed = false;
    }

    /// What cannot be explained.
    fn describe(&mut self, scene: &Scene, state: &State, path: &[Step]) -> String {
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
    /// How many are told in this call that they stand in a queue.
    fn queued(&self) -> i64 {
        let asks = self.parts.iter().flat_map(|part| &part.asks);
        let told = asks.filter_map(|ask| ask.answer.as_ref());
        let queued = told.filter(|told| told.0 == self.call && told.1 == b"queued");
        queued.count() as i64
    }
}

/// Pairs of steps of different sessions within one call: first those about one key, and the latest first.
fn rivals(steps: &[Step]) -> Vec<(usize, usize)> {
    let mut pairs = [Vec::new(), Vec::new()];
    for (second, step) in steps.iter().enumerate().rev() {
        if step.id == SessionId::NOBODY || step.act.is_none() {
            continue;
        }
        let key = |step: &Step| step.act.and_then(Act::key);
        let place = |step: &Step| (step.turn, step.call);
        let before = (0..second).rev();
        for first in before.take_while(|&first| place(&steps[first]) == place(step)) {
            let other = &steps[first];
            if other.id != step.id && other.id != SessionId::NOBODY && other.act.is_some() {
                pairs[usize::from(key(other) != key(step))].push((first, second));
            }
        }
    }
    pairs.concat()
}

/// Steps whose order nothing shows at first: those that lead to one queue, and those after which keys may be idle.
fn place(step: &Step) -> Option<(usize, SessionId)> {
    match step.act? {
        Act::Acquire { key, wait: 1.., .. } | Act::Enqueue { key, .. } => Some((key, step.id)),
        Act::Release { .. } | Act::Yield { .. } | Act::Close => Some((usize::MAX, step.id)),
        _ => None,
    }
}

/// By turn and session.
fn answers(steps: &[Step]) -> Vec<(u64, SessionId, Reply)> {
    let all = steps.iter().flat_map(|step| {
        let said = step.said.iter();
        said.map(|&(id, reply)| (step.turn, id, reply))
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|&(turn, id, _)| (turn, id));
    all
}

/// In the order in which they are likely: whoever acted goes on, then those who were heard first, then ends, then what
/// has no answer in this call; and whether it is of that kind.
fn nexts(scene: &Scene, state: &State) -> Vec<(bool, Next)> {
    if let Some(act) = state.own {
        return vec![(false, Next::Own(act))];
    }
    let mut all: Vec<((u8, usize), (bool, Next))> = Vec::new();
    for (at, (part, progress)) in scene.parts.iter().zip(&state.progress).enumerate() {
        if !progress.open {
            continue;
        }
        let mut rest = part.asks.iter().skip(progress.done);
        let next = rest.clone().next();
        let next = next.filter(|ask| !progress.waits && ask.from <= scene.call);
        if let Some(Asked { act, answer, .. }) = next {
            let call = answer.as_ref().map(|answer| answer.0);
            let unseen = call != Some(scene.call);
            let rank = match (state.last == Some(at), unseen) {
                _ if scene.first == Some(part.id) => 0,
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
            let rank = if scene.first == Some(part.id) { 0 } else { 2 };
            all.push(((rank, progress.ready), (true, Next::Close(at))));
        }
    }
    all.sort_by_key(|next| next.0);
    let nexts = all.into_iter().map(|next| next.1);
    nexts.filter(|next| !next.0 || state.unseen > 0).collect()
}

/// Those at these places become ready in this order, and the others when they did.
fn put_in_order(progress: &mut [Progress], mut places: Vec<usize>) {
    let mut seen = HashSet::new();
    places.retain(|place| seen.insert(*place));
    let mut times: Vec<usize> = places.iter().map(|&at| progress[at].ready).collect();
    times.sort_unstable();
    for (at, time) in places.into_iter().zip(times) {
        progress[at].ready = time;
    }
}

fn latest(progress: &[Progress]) -> usize {
    progress.iter().map(|part| part.ready).max().unwrap_or(0)
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
            None => part.ends,
        };
        if !fits || !progress.waits {
            return None;
        }
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
