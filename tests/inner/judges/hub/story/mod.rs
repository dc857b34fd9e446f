//! In which order did it happen? Each client knows what it asked and was told, not how that of several fell into one
//! turn. A story is an order of commands for the lock table that explains every answer, and how the hub's own table
//! looks after each call. It is found by trying: a second table, the twin, is asked the same things. Whether the story
//! is legal, the judge of the lock table says, command by command; nothing here knows a rule of it.

mod doubts;
mod lives;
mod search;

use std::collections::{HashSet, VecDeque};

use dflockd::command::{Reply, SessionId, Token, Us};
use dflockd::facts::Outbox;
use dflockd::locks::{Locks, Settings};
use dflockd::wire::Face;

use super::Shown;
use crate::harness::{Call, Entry, apply};
use crate::judges::locks::{self, Act, Key, Slot};
use doubts::{delays, exchanges, rivals, stand_ins};
use lives::Birth;
use search::{Scene, State};

/// Commands that are tried to explain one call, at most: mostly, before the former calls are doubted, and if nothing else
/// helps.
const TRIES: usize = 150;
const PATIENT_TRIES: usize = 600;
const ALL_TRIES: usize = 20_000;

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
    /// The server dies before it has said all that it would.
    pub dies: bool,
    /// It is over, after this call at the earliest.
    pub over: Option<usize>,
    /// It leaves so much unread that perhaps nothing more is executed.
    pub blocked: bool,
    /// The drain closes it if it holds nothing.
    pub drains: bool,
    /// The key and the token of a grant that its client has not heard of to the end.
    pub unheard: Option<(usize, Token)>,
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
    /// A grant that is taken back if the session ends.
    grant: Option<(usize, Token)>,
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

/// How an answer begins that tells of a kept place.
const KEPT: &[u8] = b"timeout kept";

/// What is tried in one call.
#[derive(Clone, Copy)]
enum Hint {
    /// That this session comes first, if it can.
    First(SessionId),
    /// That it comes after all others.
    Last(SessionId),
}

/// Calls that are explained together.
struct Turn<'a> {
    entries: &'a [Entry],
    /// By client.
    ids: &'a [SessionId],
    parts: &'a [Part],
    shown: &'a [Shown],
}

impl Turn<'_> {
    fn part(&self, client: usize) -> Option<usize> {
        let mut parts = self.parts.iter();
        parts.position(|part| part.id == self.ids[client])
    }
}

pub struct Story {
    settings: Settings,
    birth: Birth,
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
        let judge = locks::Judge::new(settings.clone(), keys, slots);
        Story {
            birth: Birth::first(judge.clone()),
            judge,
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
    pub fn explain(
        &mut self,
        entries: &[Entry],
        ids: &[SessionId],
        parts: &[Part],
        shown: &[Shown],
    ) {
        self.turn += 1;
        let turn = Turn {
            entries,
            ids,
            parts,
            shown,
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
        hint: Option<(usize, Hint)>,
        path: &mut Vec<Step>,
    ) -> Result<(), String> {
        self.strayed |= !path.is_empty();
        path.clear();
        let parts = turn.parts;
        let progress = |(at, part): (usize, &Part)| Progress {
            done: 0,
            waits: self.judge.waits(part.id) || self.judge.breaks(part.id),
            open: self.is_open(part.id),
            ready: at,
            grant: part.unheard,
        };
        let mut progress: Vec<Progress> = parts.iter().enumerate().map(progress).collect();
        for (call, entry) in turn.entries.iter().enumerate() {
            if matches!(entry.call, Call::Flush(_)) {
                continue;
            }
            let own = self.begin_call(turn, call, &mut progress, path);
            let hint = hint.filter(|hint| hint.0 == call);
            let scene = Scene {
                entry,
                call,
                parts,
                shown: turn.shown,
                speaks: match entry.call {
                    Call::Break(client) | Call::Hear { client, .. } => Some(turn.ids[client]),
                    _ => None,
                },
                hint: match entry.call {
                    Call::Break(client) => Some(Hint::First(turn.ids[client])),
                    _ => hint.map(|hint| hint.1),
                },
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
        self.take_back(turn, &progress, path)
    }

    /// A grant that nobody has heard of does not outlive its connection, unless a repeat has found it.
    fn take_back(
        &mut self,
        turn: &Turn,
        progress: &[Progress],
        path: &mut Vec<Step>,
    ) -> Result<(), String> {
        for (part, progress) in turn.parts.iter().zip(progress) {
            let is_over = part.over.is_some() && part.unheard.is_some();
            let Some((key, token)) = progress.grant.filter(|_| is_over) else {
                continue;
            };
            let now = turn.entries.last().map_or(0, |entry| entry.now);
            if self.strayed {
                self.go_back(path);
            }
            let held = self.twin.counts().held;
            let act = Act::TakeBack { key, token };
            self.ask(now, usize::MAX, SessionId::NOBODY, act, path);
            if self.twin.counts().held < held {
                return Err(format!("nobody has heard of {token:?}, and it stays"));
            }
        }
        Ok(())
    }

    /// What a call says of who is likely to act first; and its own command, if it has one.
    fn begin_call(
        &mut self,
        turn: &Turn,
        call: usize,
        progress: &mut [Progress],
        path: &mut Vec<Step>,
    ) -> Option<Act> {
        let entry = &turn.entries[call];
        match entry.call {
            Call::Open(client) => {
                self.open(entry.now, turn.ids[client], turn.parts, progress, path);
                None
            }
            Call::Hear { client, .. } => {
                if let Some(at) = turn.part(client) {
                    progress[at].ready = latest(progress) + 1;
                }
                None
            }
            Call::Tick { heard } => {
                // Whoever was answered first is looked after first.
                let rest = turn.entries[call + 1..].iter();
                let rest = rest.take_while(|entry| !matches!(entry.call, Call::Tick { .. }));
                let flushed = rest.filter_map(|entry| match entry.call {
                    Call::Flush(client) => turn.part(client),
                    _ => None,
                });
                put_in_order(progress, flushed.collect());
                Some(Act::Tick { heard })
            }
            Call::Drain => Some(Act::Drain),
            Call::Settle | Call::Flush(_) | Call::Break(_) => None,
        }
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
        let mut calls: Vec<_> = (pairs.iter())
            .map(|&(_, second)| (path[second].call, Hint::First(path[second].id)))
            .collect();
        calls.extend(stand_ins(path, turn.parts));
        if calls
            .into_iter()
            .any(|hint| self.tell(turn, Some(hint), path).is_ok())
        {
            return true;
        }
        // To try all of the former ones takes far longer than to look once with more patience.
        self.effort = PATIENT_TRIES;
        if self.tell(turn, None, path).is_ok() {
            return true;
        }
        self.effort = TRIES;
        let former = self.steps.clone();
        let mut pairs = rivals(&former);
        pairs.truncate(RIVALS_MAX);
        for (first, second) in pairs {
            // Either the second came before all of these, or the first came after them, with what it did meanwhile.
            let (early, late) = (former[second].id, former[first].id);
            for second_goes in [true, false] {
                let steps = former[first..=second].iter().cloned();
                let (ahead, behind): (Vec<Step>, Vec<Step>) = steps.partition(|step| {
                    if second_goes {
                        step.id == early
                    } else {
                        step.id != late
                    }
                });
                self.steps
                    .splice(first..=second, ahead.into_iter().chain(behind));
                if self.tell_anew(turn, &former, path) {
                    return true;
                }
            }
        }
        for (first, second) in exchanges(&former).into_iter().take(RIVALS_MAX) {
            let (early, late) = (former[first].clone(), former[second].clone());
            (self.steps[first].id, self.steps[first].act) = (late.id, late.act);
            (self.steps[second].id, self.steps[second].act) = (early.id, early.act);
            if self.tell_anew(turn, &former, path) {
                return true;
            }
        }
        for (first, second) in delays(&former).into_iter().take(RIVALS_MAX) {
            self.steps[first..=second].rotate_left(1);
            if self.tell_anew(turn, &former, path) {
                return true;
            }
        }
        false
    }

    /// Whether the steps in this order lead to the former answers and explain the turn. If not they are the former again.
    fn tell_anew(&mut self, turn: &Turn, former: &[Step], path: &mut Vec<Step>) -> bool {
        if self.is_retold(former) && self.tell(turn, None, path).is_ok() {
            self.swear_again();
            return true;
        }
        self.steps.clone_from_slice(former);
        self.strayed = true;
        false
    }

    /// Whoever waits for what it has enqueued stood in the queue before: nothing shows that it waits now, so it does at
    /// once. Its connection may end in a later call of the same turn.
    fn begin_waits(&mut self, scene: &Scene, progress: &mut [Progress], path: &mut Vec<Step>) {
        for (part, progress) in scene.parts.iter().zip(progress) {
            if let Some(ask) = part.asks.get(progress.done)
                && let (Act::Wait { wait: 1.., .. }, None) = (ask.act, &ask.answer)
                && progress.open
                && !progress.waits
                && (!part.ends || part.over > Some(scene.call))
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
        self.twin = self.beginning();
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
        self.judge = self.birth.judge.clone();
        self.table = self.beginning();
        for step in std::mem::take(&mut self.steps) {
            self.swear(step);
        }
    }

    /// The twin has done the story and this path, and nothing else.
    fn go_back(&mut self, path: &[Step]) {
        self.twin = self.beginning();
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
}

/// By turn and session.
fn answers(steps: &[Step]) -> Vec<(u64, SessionId, Reply)> {
    let all = steps.iter().flat_map(|step| {
        let said = step.said.iter();
        said.map(|&(id, reply)| (step.turn, id, heard(step, id, reply)))
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|&(turn, id, _)| (turn, id));
    all
}

/// What the session hears of a reply: the answer to a claim does not tell its token.
fn heard(step: &Step, id: SessionId, reply: Reply) -> Reply {
    match (step.act, reply) {
        (Some(Act::Claim { .. }), Reply::Granted { lease, .. }) if id == step.id => {
            let token = Token::default();
            Reply::Granted { token, lease }
        }
        _ => reply,
    }
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
