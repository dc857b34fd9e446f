//! The signals against a naive model: sessions that come, listen, stop, go and come again in the same place, while
//! signals are on their way that wait for fuel in the middle of a fan-out, and listeners that now and then have no room.
//! Few sessions, patterns and groups, so that they collide. The judge knows the contract and not the tree.

use std::collections::BTreeMap;

use dflockd::command::SessionId;
use dflockd::signals::{Next, Signals};

use crate::harness::{Dice, Trace, simulate};
use crate::judges::signals::{Judge, Outcome, Place};

#[test]
fn every_listener_gets_its_counted_copies_and_every_group_one() {
    simulate("signals_sim", 3000, 1_000_000, |seed, trace| {
        World::new(seed, trace).run();
    });
}

/// Parts of channels and patterns; one does not fit into a name in place.
const PARTS: [&[u8]; 4] = [b"a", b"b", b"", b"a-part-that-is-longer-than-22-bytes"];

const GROUPS: [&[u8]; 4] = [b"", b"g", b"h", b"a group with a name that is long"];

/// More fuel than any signal takes here.
const PLENTY: u32 = 5000;

/// Weights of what sessions do, and percents.
struct Habits {
    listen: u64,
    unlisten: u64,
    leave: u64,
    sweep: u64,
    emit: u64,
    /// How many signals may be on their way at a time.
    lanes: usize,
    /// How often a signal that is on its way goes on.
    go_on: u64,
    /// Percent of the time that it goes on to its end.
    whole: u64,
    /// How much fuel it gets else, at most.
    fuel: u64,
    fill: u64,
    /// Percent of the changes after which a session has no room.
    full: u64,
    /// Percent of the subscriptions that are in a group.
    grouped: u64,
    /// How many groups there are.
    groups: u64,
}

struct World<'a> {
    dice: Dice,
    trace: &'a mut Trace,
    habits: Habits,
    signals: Signals,
    judge: Judge,
    /// By slot: who uses it, if anybody, and whether it has room for no signal.
    slots: Vec<Option<SessionId>>,
    full: Vec<bool>,
    serial: u64,
    /// Where each signal on its way is sent to.
    channels: BTreeMap<u32, Vec<u8>>,
}

impl<'a> World<'a> {
    fn new(seed: u64, trace: &'a mut Trace) -> World<'a> {
        let mut dice = Dice::new(seed);
        let secret = [dice.next().to_le_bytes(), dice.next().to_le_bytes()];
        let most = *dice.pick(&[0, 0, 0, 1, 2, 5]);
        let slots = 2 + dice.below(5) as usize;
        let (patterns, habits) = match dice.below(20) {
            0..2 => (vec![b">".to_vec()], Habits::of_a_crowd()),
            2..4 => (patterns(&mut dice, 8), Habits::of_passers_by()),
            _ => {
                let many = *dice.pick(&[1, 1, 2, 3, 5, 8]);
                (patterns(&mut dice, many), Habits::new(&mut dice))
            }
        };
        World {
            habits,
            signals: Signals::new(most, secret.as_flattened().first_chunk().unwrap()),
            judge: Judge::new(patterns, GROUPS.map(Vec::from).into(), most as usize),
            slots: vec![None; slots],
            full: vec![false; slots],
            serial: 0,
            channels: BTreeMap::new(),
            dice,
            trace,
        }
    }

    fn run(mut self) {
        for _ in 0..200 + self.dice.below(200) {
            self.anything();
            self.check();
        }
        self.end();
    }

    fn anything(&mut self) {
        let Habits {
            sweep, fill, emit, ..
        } = self.habits;
        if !self.judge.emissions().is_empty() && self.dice.chance(self.habits.go_on) {
            return self.go_on();
        }
        match self.dice.weigh(&[60, sweep, fill, emit]) {
            0 => self.any_session_acts(),
            1 => self.sweep(),
            2 => {
                let slot = self.dice.below(self.full.len() as u64) as usize;
                self.full[slot] = self.dice.chance(self.habits.full);
            }
            _ if self.judge.emissions().len() >= self.habits.lanes => self.go_on(),
            _ => self.emit(),
        }
    }

    fn any_session_acts(&mut self) {
        let slot = self.dice.below(self.slots.len() as u64) as usize;
        let Some(id) = self.slots[slot] else {
            return self.open(slot);
        };
        if self.is_leaving(id) {
            return;
        }
        let place = self.place(id);
        let (pattern, group) = (
            &self.judge.patterns[place.0].clone(),
            &self.judge.groups[place.1].clone(),
        );
        let Habits {
            listen,
            unlisten,
            leave,
            ..
        } = self.habits;
        match self.dice.weigh(&[listen, unlisten, leave]) {
            0 => {
                let granted = self.signals.listen(id, pattern, group);
                self.trace.heard(granted);
                self.judge.listened(id, place, granted);
            }
            1 => {
                self.signals.unlisten(id, pattern, group);
                self.judge.unlistened(id, place);
            }
            _ => self.leave(id),
        }
        if !self.is_leaving(id) {
            let listens = !self.judge.places(id).is_empty();
            assert_eq!(self.signals.has(id), listens);
        }
    }

    fn open(&mut self, slot: usize) {
        self.serial += 1;
        self.slots[slot] = Some(SessionId::new(self.serial, slot as u32));
        self.full[slot] = false;
    }

    /// A place to listen to or not to listen to any more: often one where the session does.
    fn place(&mut self, id: SessionId) -> Place {
        let places = self.judge.places(id);
        if !places.is_empty() && self.dice.chance(25) {
            return *self.dice.pick(&places);
        }
        let pattern = self.dice.below(self.judge.patterns.len() as u64) as usize;
        let group = match self.dice.chance(self.habits.grouped) {
            true => 1 + self.dice.below(self.habits.groups) as usize,
            false => 0,
        };
        (pattern, group)
    }

    fn leave(&mut self, id: SessionId) {
        let nothing_left = self.signals.leave(id);
        self.trace.heard(nothing_left);
        self.judge.left(id, nothing_left);
        if nothing_left {
            self.slots[id.slot() as usize] = None;
        }
    }

    fn is_leaving(&self, id: SessionId) -> bool {
        self.judge.leaving.contains(&id)
    }

    fn sweep(&mut self) {
        let mut fuel = self.dice.below(12) as u32;
        while let Some(id) = self.signals.leave_some(&mut fuel) {
            self.trace.heard(id.serial());
            // What it had elsewhere went first.
            self.judge.swept(id);
            self.slots[id.slot() as usize] = None;
        }
        let idle = fuel > 0;
        assert!(
            !idle || !self.signals.is_leaving(),
            "fuel is left, and work"
        );
    }

    /// To a channel that is mostly like a pattern.
    fn emit(&mut self) {
        let channel = if self.dice.chance(80) {
            let pattern = self.dice.pick(&self.judge.patterns).clone();
            like(&mut self.dice, &pattern)
        } else {
            let depth = 1 + self.dice.below(4);
            join((0..depth).map(|_| *self.dice.pick(&PARTS)))
        };
        let emission = self.signals.emit().expect("there are few at a time");
        self.judge.emitted(emission, &channel);
        self.channels.insert(emission, channel);
    }

    /// One of the signals on their way goes on, as far as its fuel goes.
    fn go_on(&mut self) {
        let emission = *self.dice.pick(&self.judge.emissions());
        let mut fuel = match self.dice.chance(self.habits.whole) {
            true => PLENTY,
            false => self.dice.below(self.habits.fuel) as u32,
        };
        loop {
            let before = fuel;
            let next = self
                .signals
                .next(emission, &self.channels[&emission], &mut fuel);
            assert!(
                fuel < before || next == Next::OutOfFuel,
                "a step costs something"
            );
            self.trace.heard(format!("{next:?}"));
            self.trace.step();
            match next {
                Next::Offer(id) => self.offer(emission, id),
                Next::Cut(id) => {
                    self.judge.cut(emission, id);
                    self.leave(id);
                }
                Next::OutOfFuel => {
                    assert_eq!(fuel, 0, "tired of nothing");
                    assert!(before < PLENTY, "a signal comes to its end");
                    return;
                }
                Next::Done => return self.judge.done(emission),
            }
            self.check();
        }
    }

    fn offer(&mut self, emission: u32, id: SessionId) {
        assert_eq!(self.slots[id.slot() as usize], Some(id), "nobody else");
        let outcome = if !self.full[id.slot() as usize] {
            self.signals.sent(emission);
            Outcome::Sent
        } else if self.signals.stuck(emission) {
            Outcome::CutOff
        } else {
            Outcome::PassedOn
        };
        self.judge.offered(emission, id, outcome);
        if outcome == Outcome::CutOff {
            self.leave(id);
        }
    }

    fn check(&mut self) {
        self.trace.step();
        self.signals.check();
        self.judge.compare(&self.signals);
    }

    /// S9: when the last signal is out and everybody has gone, nothing is left.
    fn end(mut self) {
        self.habits.whole = 100;
        while !self.judge.emissions().is_empty() {
            self.go_on();
        }
        for slot in 0..self.slots.len() {
            if let Some(id) = self.slots[slot].filter(|&id| !self.is_leaving(id)) {
                self.leave(id);
            }
        }
        for round in 0.. {
            if !self.signals.is_leaving() {
                break;
            }
            assert!(round < 1000, "somebody is left for ever");
            self.sweep();
            self.check();
        }
        self.judge.is_over(&self.signals);
    }
}

impl Habits {
    /// Each run has other habits: a corner that is rare under one set is common under another.
    fn new(dice: &mut Dice) -> Habits {
        Habits {
            listen: 10 + dice.below(40),
            unlisten: dice.below(20),
            leave: dice.below(5),
            sweep: 1 + dice.below(20),
            emit: 5 + dice.below(60),
            lanes: *dice.pick(&[1, 1, 2, 3, 5]),
            go_on: *dice.pick(&[10, 40, 90]),
            whole: *dice.pick(&[5, 30, 95]),
            fuel: *dice.pick(&[3, 8, 20]),
            fill: *dice.pick(&[0, 2, 10, 30]),
            full: *dice.pick(&[20, 50, 80]),
            grouped: *dice.pick(&[0, 30, 60, 90]),
            groups: 1 + dice.below(GROUPS.len() as u64 - 1),
        }
    }

    /// One group is asked again and again, and has hardly ever room.
    fn of_a_crowd() -> Habits {
        Habits {
            listen: 20,
            unlisten: 10,
            leave: 5,
            sweep: 5,
            emit: 30,
            lanes: 2,
            go_on: 50,
            whole: 0,
            fuel: 3,
            fill: 20,
            full: 80,
            grouped: 95,
            groups: 1,
        }
    }

    /// Nobody listens to anything for as long as a signal takes.
    fn of_passers_by() -> Habits {
        Habits {
            listen: 40,
            unlisten: 60,
            leave: 1,
            sweep: 1,
            emit: 30,
            lanes: 2,
            go_on: 20,
            whole: 0,
            fuel: 4,
            fill: 1,
            full: 10,
            grouped: 10,
            groups: 1,
        }
    }
}

/// So many patterns, short ones mostly; some begin alike, and one or two are deep.
fn patterns(dice: &mut Dice, many: usize) -> Vec<Vec<u8>> {
    let mut patterns: Vec<Vec<u8>> = Vec::new();
    while patterns.len() < many {
        let depth = match dice.chance(5) {
            true => 30 + dice.below(60),
            false => 1 + dice.below(4),
        };
        let mut parts: Vec<&[u8]> = Vec::new();
        for at in 1..=depth {
            parts.push(match dice.below(10) {
                0..3 => b"*",
                3..6 if at == depth => b">",
                3..7 => b"a",
                _ => *dice.pick(&PARTS),
            });
        }
        let pattern = join(parts);
        // A line can be no longer, and nobody says nothing.
        if !pattern.is_empty() && pattern.len() <= 256 && !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    patterns
}

/// A channel that this pattern matches, or nearly.
fn like(dice: &mut Dice, pattern: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in pattern.split(|&byte| byte == b'.') {
        match part {
            b"*" => parts.push(*dice.pick(&PARTS)),
            b">" => parts.extend((0..dice.below(3)).map(|_| *dice.pick(&PARTS))),
            part => parts.push(part),
        }
    }
    match dice.below(10) {
        0 => parts.push(b"a"),
        1 => drop(parts.pop()),
        _ => {}
    }
    let channel = join(parts);
    match channel.is_empty() {
        true => b"a".to_vec(),
        false => channel,
    }
}

fn join<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
    parts.into_iter().collect::<Vec<_>>().join(&b'.')
}
