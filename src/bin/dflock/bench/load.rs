//! The event loop that puts load on one server: lanes that lock and release, spread over connections, and the checks
//! that no lock is granted twice. One thread. Invariant: a violation is counted only where the server's own answers
//! prove it, and the loop allocates nothing for a request.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll};

use dflockd::command::{SECOND, Token, Us};
use dflockd::sys::{self, process};

use super::answer::{Answer, Asked, Heard};
use super::figures::Figures;
use super::lane::{Key, Lane, Step};
use super::peer::{Peer, connect};
use super::plan::{Clocked, Habit, Keys, Plan};
use super::proto::{Acquire, Target};

/// How often progress is shown and a silent server is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// How long after a timeout a server may be silent.
const SILENCE: Us = 5 * SECOND;
/// How long a shared lock is held in the proof that no other lane gets it.
const PROOF: Us = 1000;
/// Stands for no lane: the answer is to the greeting of the connection.
const NOBODY: u32 = u32::MAX;

struct Load<'a> {
    plan: &'a Plan,
    target: &'a Target,
    poll: Poll,
    peers: Vec<Peer>,
    /// For each peer its requests without an answer: a lane and the number of the request.
    asked: Vec<VecDeque<(u32, u64)>>,
    lanes: Vec<Lane>,
    keys: Vec<Key>,
    /// Lanes that ask again, and when; in order, since all pauses have the same length.
    pauses: VecDeque<(Us, u32)>,
    /// Lanes that hold a shared lock, and until when. A lane that released the lock as soon as it was granted would
    /// miss that another lane has it too, so all answers that have arrived are read first.
    holds: VecDeque<(Us, u32)>,
    /// Whether the proof runs: before the clock starts each lane holds a shared lock for a while.
    is_proof: bool,
    /// Lanes that have had their turn in the proof, or hold all keys that they keep, and wait for the others.
    parked: usize,
    /// CPU time when the clock started.
    cpu: Us,
    figures: Figures,
    now: Us,
    start: Us,
    /// After this instant no acquire begins.
    end: Us,
    heard_at: Us,
    /// Requests are numbered as they are sent, over all connections.
    number: u64,
    /// The server has read every request up to this number.
    heard: u64,
    active: usize,
    dice: u64,
}

/// One run. `progress` gets the number of pairs that are done, now and then, and when all keys that are kept are held.
pub fn run(plan: &Plan, target: &Target, progress: &mut impl FnMut(u64)) -> io::Result<Figures> {
    let mut load = Load::new(plan, target)?;
    let idle: Result<Vec<_>, _> = (0..plan.idle).map(|_| connect(target)).collect();
    let idle = idle?;
    load.start();
    load.turn_until_over(progress)?;
    drop(idle);
    load.figures.cpu = process::cpu_time()? - load.cpu;
    if load.figures.wall == 0 {
        load.figures.wall = load.now - load.start;
    }
    Ok(load.figures)
}

impl<'a> Load<'a> {
    fn new(plan: &'a Plan, target: &'a Target) -> io::Result<Load<'a>> {
        let poll = Poll::new()?;
        let mut peers = Vec::with_capacity(plan.peers);
        for at in 0..plan.peers {
            peers.push(Peer::connect(target, poll.registry(), mio::Token(at))?);
        }
        let count = plan.peers * plan.lanes;
        let keys = match plan.keys {
            Keys::Own => count,
            Keys::Several(each) => count * each,
            Keys::Any(all) => all,
            Keys::Pair => count.div_ceil(2),
        };
        let now = sys::now();
        Ok(Load {
            plan,
            target,
            poll,
            peers,
            asked: (0..plan.peers)
                .map(|_| VecDeque::with_capacity(plan.lanes + 1))
                .collect(),
            lanes: (0..count).map(|at| Lane::new(at, plan)).collect(),
            keys: (0..keys).map(|at| Key::new(at, plan)).collect(),
            pauses: VecDeque::with_capacity(count),
            holds: VecDeque::with_capacity(count),
            is_proof: plan.shares(),
            parked: 0,
            cpu: process::cpu_time()?,
            figures: Figures::default(),
            now,
            start: now,
            end: Us::MAX,
            heard_at: now,
            number: 0,
            heard: 0,
            active: count,
            dice: now | 1,
        })
    }

    fn start(&mut self) {
        for peer in 0..self.peers.len() {
            self.greet(peer);
        }
        self.now = sys::now();
        self.heard_at = self.now;
        self.begin_all();
    }

    /// Starts the clock, and all lanes at once.
    fn begin_all(&mut self) {
        self.start = self.now;
        self.end = self.plan.time.map_or(Us::MAX, |time| self.now + time);
        for at in 0..self.lanes.len() {
            let waits = self.plan.habit == Habit::Expire && at % 2 == 1;
            if self.lanes[at].step == Step::Rest && !waits {
                self.begin(at);
            }
        }
        self.peers.iter_mut().for_each(Peer::flush);
    }

    fn turn_until_over(&mut self, progress: &mut impl FnMut(u64)) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut told = self.now;
        while self.active > 0 {
            let wait = Duration::from_micros(self.due().saturating_sub(self.now));
            match self.poll.poll(&mut events, Some(wait.min(LOOK))) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
            for event in &events {
                self.event(event);
            }
            self.now = sys::now();
            self.ask_again();
            self.end_holds();
            if self.is_proof && self.parked == self.active {
                self.end_proof()?;
            }
            if self.plan.habit == Habit::Keep && self.parked > 0 && self.parked == self.active {
                progress(self.figures.ops);
                self.give_back();
            }
            if self.now - told > LOOK.as_micros() as Us {
                told = self.now;
                progress(self.figures.ops);
            }
            if self.now > self.heard_at + self.plan.wait.max(self.plan.lease) + SILENCE {
                let rest = self.active;
                self.figures
                    .error(|| format!("the server is silent to {rest} requests"));
                break;
            }
        }
        Ok(())
    }

    /// When there is something to do though nothing arrives.
    fn due(&self) -> Us {
        let firsts = [self.pauses.front(), self.holds.front()];
        let dues = firsts.into_iter().flatten().map(|&(due, _)| due);
        dues.min().unwrap_or(Us::MAX)
    }

    fn event(&mut self, event: &Event) {
        let peer = event.token().0;
        let closed = event.is_read_closed() || event.is_error();
        loop {
            let more = self.peers[peer].receive(closed);
            self.now = sys::now();
            self.answers(peer);
            if !more {
                break;
            }
        }
        self.peers[peer].flush();
        if self.peers[peer].ended {
            self.cut(peer);
        }
    }

    fn answers(&mut self, peer: usize) {
        while let Some(&(lane, number)) = self.asked[peer].front() {
            let asked = match lane {
                NOBODY => Asked::Hello,
                lane if self.lanes[lane as usize].step == Step::Asking => Asked::Acquire,
                _ => Asked::Release,
            };
            let Some(heard) = self.target.answer(asked, self.peers[peer].bytes()) else {
                return;
            };
            let Heard {
                used,
                answer,
                closes,
            } = heard;
            self.asked[peer].pop_front();
            self.heard_at = self.now;
            self.heard = self.heard.max(number);
            if answer == Answer::Refused {
                self.refused(peer, used, lane);
            }
            self.peers[peer].take(used);
            if closes && let Err(e) = self.open_again(peer) {
                self.figures.error(|| format!("cannot connect: {e}"));
                self.peers[peer].ended = true;
                return;
            }
            if asked != Asked::Hello {
                self.figures.requests += 1;
                self.answered(lane as usize, answer);
            }
        }
    }

    fn refused(&mut self, peer: usize, used: usize, lane: u32) {
        let line = self.target.shown(&self.peers[peer].bytes()[..used]);
        self.figures
            .error(|| format!("the server says {:?}", String::from_utf8_lossy(line)));
        if lane != NOBODY && self.lanes[lane as usize].step == Step::Asking {
            self.leave_queue(lane as usize);
        }
    }

    fn answered(&mut self, at: usize, answer: Answer) {
        match (self.lanes[at].step, answer) {
            (Step::Asking, Answer::Granted(token)) => self.granted(at, token),
            (Step::Asking, Answer::Busy) if self.now < self.lanes[at].began + self.plan.wait => {
                self.figures.again += 1;
                let pause = (self.now + self.plan.pause, at as u32);
                self.pauses.push_back(pause);
            }
            (Step::Asking, Answer::Busy | Answer::Timeout) => {
                self.leave_queue(at);
                self.figures.timeouts += 1;
                if self.plan.must_grant {
                    self.figures
                        .error(|| "a lock was not granted in time".to_string());
                }
                self.next(at);
            }
            (Step::Asking, _) => self.next(at),
            (_, answer) => self.released(at, answer == Answer::Done),
        }
    }

    fn granted(&mut self, at: usize, token: Option<Token>) {
        self.check(at, token);
        let lane = &mut self.lanes[at];
        lane.token = token.unwrap_or(lane.token);
        let lasted = self.now - lane.began;
        if self.plan.clocked == Clocked::Acquire {
            self.figures.latency.add(lasted);
        }
        match self.plan.habit {
            Habit::Pairs if self.plan.shares() => {
                lane.step = Step::Holding;
                let until = self.now + if self.is_proof { PROOF } else { 0 };
                self.holds.push_back((until, at as u32));
            }
            Habit::Pairs => self.release(at),
            Habit::Keep => self.keep(at),
            Habit::HangUp if self.target.protocol.frees_on_close() => {
                self.figures.ops += 1;
                self.lanes[at].step = Step::Rest;
                self.keys[self.lanes[at].key].holder = None;
                self.hang_up(at);
            }
            Habit::HangUp => self.release(at),
            Habit::Expire if at.is_multiple_of(2) => {
                self.lanes[at].step = Step::Holding;
                self.begin(at + 1);
                let neighbour = self.lanes[at + 1].peer;
                self.peers[neighbour].flush();
            }
            Habit::Expire => {
                self.lateness(at);
                self.release(at);
            }
        }
    }

    /// Checks a grant: no other lane holds the key, none has waited longer, and the fence has risen.
    fn check(&mut self, at: usize, token: Option<Token>) {
        let lane = &self.lanes[at];
        let (began, known) = (lane.began, lane.known);
        let key = &mut self.keys[lane.key];
        if let Some((_, until)) = key.holder
            && self.now < until
        {
            self.figures.exclusion += 1;
            if self.plan.habit == Habit::Expire {
                self.figures.early += 1;
                self.figures.exclusion -= 1;
            }
        }
        // The lease began no earlier than its request was sent.
        key.holder = Some((at as u32, began + self.plan.lease));
        if let Some(&(number, other)) = key.waiting.front()
            && other != at as u32
            && number <= known
        {
            self.figures.order += 1;
        }
        if let Some(token) = token {
            self.figures.order += u64::from(token.fence <= key.fence);
            key.fence = token.fence;
        }
        self.leave_queue(at);
    }

    fn leave_queue(&mut self, at: usize) {
        let waiting = &mut self.keys[self.lanes[at].key].waiting;
        if let Some(place) = waiting.iter().position(|&(_, lane)| lane == at as u32) {
            waiting.remove(place);
        }
    }

    fn lateness(&mut self, at: usize) {
        let due = self.lanes[at - 1].began + self.plan.lease;
        self.figures.latency.add(self.now.saturating_sub(due));
    }

    /// Keeps the key and goes on to the next; after the last the clock stops and all keys are released.
    fn keep(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        self.keys[lane.key].token = lane.token;
        self.figures.ops += 1;
        if lane.left > 0 {
            lane.key += 1;
            return self.begin(at);
        }
        self.figures.wall = self.now - self.start;
        lane.step = Step::Holding;
        self.parked += 1;
    }

    /// All keys are held: each lane releases its own, one after the other.
    fn give_back(&mut self) {
        self.parked = 0;
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            if lane.step == Step::Holding {
                lane.key = lane.first;
                lane.token = self.keys[lane.key].token;
                self.release(at);
            }
        }
        self.peers.iter_mut().for_each(Peer::flush);
    }

    fn released(&mut self, at: usize, is_done: bool) {
        match self.plan.habit {
            Habit::Keep => {
                let Keys::Several(each) = self.plan.keys else {
                    return self.over(at);
                };
                let lane = &mut self.lanes[at];
                if lane.key + 1 == lane.first + each {
                    return self.over(at);
                }
                lane.key += 1;
                lane.token = self.keys[lane.key].token;
                self.release(at);
            }
            _ if !is_done => self.next(at),
            Habit::HangUp => {
                self.figures.ops += 1;
                self.hang_up(at);
            }
            _ => {
                self.figures.ops += 1;
                if self.plan.clocked == Clocked::Pair {
                    self.figures.latency.add(self.now - self.lanes[at].began);
                }
                self.next(at);
            }
        }
    }

    /// Ends the connection and begins another, for the next acquire.
    fn hang_up(&mut self, at: usize) {
        let (lane, peer) = (&self.lanes[at], self.lanes[at].peer);
        if lane.left == 0 || self.now >= self.end {
            return self.over(at);
        }
        // The time to connect belongs to the next acquire.
        let began = sys::now();
        let registry = self.poll.registry();
        self.asked[peer].clear();
        match self.peers[peer].reopen(self.target, registry, mio::Token(peer)) {
            Ok(()) => {
                self.greet(peer);
                self.begin(at);
                self.lanes[at].began = began;
            }
            Err(e) => {
                self.figures.error(|| format!("cannot connect: {e}"));
                self.over(at);
            }
        }
    }

    /// The server will read nothing more on this connection: what it has not read goes out on another.
    fn open_again(&mut self, peer: usize) -> io::Result<()> {
        let registry = self.poll.registry();
        self.peers[peer].reopen(self.target, registry, mio::Token(peer))?;
        for _ in 0..self.asked[peer].len() {
            let (lane, _) = self.asked[peer].pop_front().expect("they were counted");
            let at = lane as usize;
            match self.lanes[at].step {
                Step::Asking => self.ask(at),
                _ => self.send_release(at),
            }
        }
        Ok(())
    }

    /// Appends the greeting of a connection.
    fn greet(&mut self, peer: usize) {
        if !self.target.hello.is_empty() {
            self.peers[peer]
                .output
                .extend_from_slice(&self.target.hello);
            self.asked[peer].push_back((NOBODY, 0));
        }
    }

    /// Goes on to the next acquire, if there is to be one.
    fn next(&mut self, at: usize) {
        let is_last = self.lanes[at].left == 0 || self.plan.habit == Habit::Keep;
        if self.is_proof {
            self.lanes[at].step = Step::Rest;
            self.parked += 1;
        } else if is_last || self.now >= self.end {
            self.over(at);
        } else {
            self.begin(at);
        }
    }

    /// Ends a lane. With `Habit::Expire` its neighbour ends with it.
    fn over(&mut self, at: usize) {
        if self.lanes[at].step == Step::Over {
            return;
        }
        self.lanes[at].step = Step::Over;
        self.active -= 1;
        if self.plan.habit == Habit::Expire {
            self.over(at ^ 1);
        }
    }

    fn begin(&mut self, at: usize) {
        if let Keys::Any(all) = self.plan.keys {
            self.lanes[at].key = self.roll() as usize % all;
        }
        self.lanes[at].left -= 1;
        self.lanes[at].began = self.now;
        self.figures.tries += 1;
        self.ask(at);
        if self.target.protocol.queues() && self.plan.has_queues() {
            let lane = &self.lanes[at];
            let place = (lane.number, at as u32);
            self.keys[lane.key].waiting.push_back(place);
        }
    }

    fn ask(&mut self, at: usize) {
        self.number += 1;
        let lane = &mut self.lanes[at];
        (lane.step, lane.number, lane.known) = (Step::Asking, self.number, self.heard);
        if !self.target.protocol.queues() {
            // A token that no other lane, acquire or process uses.
            let fence = u64::from(std::process::id()) << 32 | at as u64;
            let salt = self.number;
            lane.token = Token { fence, salt };
        }
        let acquire = Acquire {
            key: &self.keys[lane.key].name,
            me: lane.token,
            wait: self.plan.wait,
            lease: self.plan.lease,
        };
        self.target
            .acquire(&acquire, &mut self.peers[lane.peer].output);
        self.asked[lane.peer].push_back((at as u32, self.number));
    }

    fn release(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        lane.step = Step::Releasing;
        self.keys[lane.key].holder = None;
        self.send_release(at);
    }

    fn send_release(&mut self, at: usize) {
        self.number += 1;
        let lane = &self.lanes[at];
        let key = &self.keys[lane.key];
        let output = &mut self.peers[lane.peer].output;
        self.target.release(&key.name, lane.token, output);
        self.asked[lane.peer].push_back((at as u32, self.number));
    }

    fn ask_again(&mut self) {
        while let Some(at) = due(&mut self.pauses, self.now) {
            if self.lanes[at].step == Step::Asking {
                self.ask(at);
                self.peers[self.lanes[at].peer].flush();
            }
        }
    }

    fn end_holds(&mut self) {
        while let Some(at) = due(&mut self.holds, self.now) {
            if self.lanes[at].step == Step::Holding {
                self.release(at);
                self.peers[self.lanes[at].peer].flush();
            }
        }
    }

    /// All lanes have held the lock: the clock starts. Of the proof only errors and violations are kept.
    fn end_proof(&mut self) -> io::Result<()> {
        self.is_proof = false;
        let figures = mem::take(&mut self.figures);
        self.figures.errors = figures.errors;
        self.figures.exclusion = figures.exclusion;
        self.figures.order = figures.order;
        self.figures.why = figures.why;
        self.lanes
            .iter_mut()
            .for_each(|lane| lane.left = self.plan.rounds);
        self.cpu = process::cpu_time()?;
        self.begin_all();
        Ok(())
    }

    /// The server has closed the connection: its lanes end with an error.
    fn cut(&mut self, peer: usize) {
        let first = peer * self.plan.lanes;
        for at in first..first + self.plan.lanes {
            if self.lanes[at].step != Step::Over {
                self.figures
                    .error(|| "the server has closed a connection".to_string());
                self.leave_queue(at);
                let parks = match self.plan.habit {
                    Habit::Keep => self.lanes[at].step == Step::Holding,
                    _ => self.is_proof && self.lanes[at].step == Step::Rest,
                };
                self.parked -= usize::from(parks);
                self.over(at);
            }
        }
        self.asked[peer].clear();
    }

    /// Xorshift: which key is next.
    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }
}

/// Takes the first lane whose time has come.
fn due(lanes: &mut VecDeque<(Us, u32)>, now: Us) -> Option<usize> {
    let &(_, lane) = lanes.front().filter(|(due, _)| *due <= now)?;
    lanes.pop_front();
    Some(lane as usize)
}
