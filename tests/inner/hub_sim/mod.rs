//! The hub against a naive model, through bytes: clients that pipeline, cut their frames anywhere, talk nonsense,
//! signal to each other, do not read, fall silent or vanish; several of them in one turn, and turns that come
//! late. Clients of all faces compete for the same keys. The model is a judge that reads what clients said and were told. That no idle session holds a complete
//! request, the hub checks itself whenever it is settled.

mod calls;
mod lives;
#[cfg(feature = "http")]
mod rest;
mod words;

use std::net::SocketAddr;

use dflockd::command::{SECOND, Us};
use dflockd::hub::Settings;
use dflockd::wire::Face;

use crate::harness::{Dice, Net, Trace, settings, simulate};
use crate::judges::hub::{Ask, Frame, Judge};
use crate::judges::locks::NAMES;
use lives::Lives;
use words::{ADMIN, NONSENSE, PING, SECRET, STATS, Topics, keys};

#[test]
fn every_client_is_told_the_truth_in_order() {
    simulate("hub_sim", 700, 130_000, |seed, trace| {
        World::new(seed, trace).run();
    });
}

/// More than any run takes.
const LONG: Us = 1_000_000 * SECOND;

/// Requests that a client has sent and that have no answer: then it says no more.
const PILE: usize = 8;

/// Weights of what clients do.
struct Habits {
    acquire: u64,
    enqueue: u64,
    wait: u64,
    stats: u64,
    signals: u64,
    /// Percent of the signals that are large.
    bulk: u64,
    burst: u64,
    release: u64,
    renew: u64,
    detach: u64,
    breaks: u64,
    show: u64,
    nonsense: u64,
    /// Percent of the sends that send everything there is.
    whole: u64,
    end: u64,
    reset: u64,
    /// Percent of the turns in which a write to somebody fails, or is short.
    fail: u64,
    sleep: u64,
    slow: u64,
    flood: u64,
    calls: u64,
    /// What the clients of the REST face do.
    visits: u64,
    hurry: u64,
    /// Percent of the acquires that turn to another key if their owner has this one.
    shy: u64,
    /// Percent of the sessions that say at once whose they are, and the weight of saying it later.
    named: u64,
    declare: u64,
    /// Owners that have a name.
    owners: u64,
    drains: bool,
}

struct World<'a> {
    dice: Dice,
    trace: &'a mut Trace,
    habits: Habits,
    settings: Settings,
    lives: Lives,
    net: Net,
    judge: Judge,
    /// By client: what it has made up its mind to send.
    scripts: Vec<Vec<u8>>,
    topics: Topics,
    #[cfg(feature = "http")]
    visits: rest::Visits,
}

impl<'a> World<'a> {
    fn new(seed: u64, trace: &'a mut Trace) -> World<'a> {
        let mut dice = Dice::new(seed);
        let mut settings = settings();
        settings.locks.deadlock_detection = dice.chance(70);
        settings.locks.auto_release = dice.chance(80);
        settings.locks.max_locks = *dice.pick(&[1, 2, 3, 5, 1024, 1024, 1024]);
        settings.write_timeout = *dice.pick(&[SECOND, 5 * SECOND, 5 * SECOND, LONG]);
        settings.locks.max_idle = *dice.pick(&[0, SECOND, 60 * SECOND]);
        settings.locks.max_waiters = *dice.pick(&[0, 0, 0, 1, 3]);
        settings.secret = dice.chance(15).then(|| SECRET.into());
        settings.admin = dice.chance(15).then(|| ADMIN.into());
        settings.locks.max_holds = *dice.pick(&[0, 0, 0, 1, 2, 4]);
        settings.shutdown_timeout = *dice.pick(&[0, 30 * SECOND]);
        settings.max_subscriptions = *dice.pick(&[0, 0, 1, 2, 4]);
        settings.max_backlog = *dice.pick(&[0, 64 << 20, 64 << 20, 20_000, 100_000, 500_000]);
        let lives = Lives::new(seed, &mut settings);
        let mut habits = Habits::new(&mut dice);
        if habits.signals == 0 {
            habits.burst = 0;
        }
        World {
            habits,
            lives,
            net: Net::with_journal(settings.clone()),
            judge: Judge::new(settings.clone(), keys(&mut dice)),
            settings,
            scripts: Vec::new(),
            topics: Topics::new(&mut dice),
            #[cfg(feature = "http")]
            visits: rest::Visits::new(&mut dice),
            dice,
            trace,
        }
    }

    fn run(mut self) {
        self.live();
        if !self.net.is_drained() {
            self.end();
        }
        for client in &self.net.clients {
            self.trace.heard((&client.heard, client.shut));
        }
    }

    fn live(&mut self) {
        let steps = 150 + self.dice.below(150);
        let crowd = 3 + self.dice.below(6) as usize;
        for step in 0..steps {
            if self.habits.drains && step == steps * 4 / 5 {
                self.net.drain();
                self.judge.draining = true;
                self.settle();
            }
            let may_come = if self.judge.draining {
                // Somebody who holds may have lost its connection, and comes back.
                !self.judge.last_call && self.dice.chance(15)
            } else {
                true
            };
            if may_come && self.judge.open().len() < crowd {
                self.connect();
            }
            self.anything();
            if !self.net.is_drained() {
                self.live_on();
            } else if self.lives.comes_back() {
                self.restart();
            } else {
                return;
            }
        }
    }

    fn anything(&mut self) {
        self.trace.step();
        // Hardly ever does all happen in one instant, and what ends together ends in no order.
        if self.dice.chance(80) {
            self.net.now += self.dice.below(1000);
        }
        let open = self.judge.open();
        if open.is_empty() {
            return self.sleep();
        }
        let at = *self.dice.pick(&open);
        let Habits {
            sleep,
            slow,
            flood,
            burst,
            calls,
            visits,
            hurry,
            ..
        } = self.habits;
        match self
            .dice
            .weigh(&[60, sleep, slow, flood, burst, 1, calls, hurry, visits])
        {
            0 => self.race(&open),
            1 => self.sleep(),
            2 => self.read_little(at),
            3 => self.flood(at),
            4 => self.burst(&open),
            6 => self.call(&open, Face::Distlockd),
            7 => self.hurry(at),
            #[cfg(feature = "http")]
            8 => self.call(&open, Face::Http),
            _ => self.haunt(),
        }
    }

    /// What comes late for a socket that is closed finds nobody, though its slot is used again.
    fn haunt(&mut self) {
        let client = self.dice.below(self.net.clients.len() as u64) as usize;
        if self.net.clients[client].closed {
            let what = self.dice.below(4);
            self.net.late(client, what);
        }
        self.settle();
    }

    /// One turn, perhaps a late one, in which one or several clients act.
    fn race(&mut self, open: &[usize]) {
        if self.dice.chance(10) {
            self.net.now += self.span();
        }
        let acts = *self.dice.pick(&[1, 1, 1, 1, 2, 3, 5]);
        for _ in 0..acts {
            let at = *self.dice.pick(open);
            let weights = [30, self.habits.end, self.habits.reset];
            match self.dice.weigh(&weights) {
                0 => self.send(at),
                1 => self.net.end_only(at),
                _ => {
                    self.judge.peers[at].reset = true;
                    self.net.reset_only(at);
                }
            }
        }
        if self.dice.chance(self.habits.fail) {
            self.fail(open);
        }
        let gone = open.iter().any(|&at| self.net.clients[at].ended);
        let comes = if gone { 40 } else { 3 };
        if !self.judge.draining && self.dice.chance(comes) {
            // Somebody comes, and speaks, before the hub has forgotten who is gone.
            self.net.turn();
            let at = self.come();
            self.send(at);
        }
        self.settle();
    }

    /// The next write to one or some of them fails, be it in this turn, or is short.
    fn fail(&mut self, open: &[usize]) {
        for _ in 0..1 + self.dice.below(2) {
            let at = *self.dice.pick(open);
            if self.dice.chance(60) {
                self.net.clients[at].breaks = true;
            } else if self.net.clients[at].appetite == usize::MAX {
                let anywhere = self.dice.below(700) as usize;
                self.net.clients[at].appetite = *self.dice.pick(&[0, 1, 10, 100, anywhere]);
            }
        }
    }

    fn send(&mut self, at: usize) {
        if !self.may_send(at) {
            return;
        }
        while self.scripts[at].is_empty() || self.dice.chance(30) {
            self.write(at);
        }
        if !self.may_send(at) {
            return;
        }
        let script = &mut self.scripts[at];
        let most = script.len() as u64;
        let n = if self.dice.chance(self.habits.whole) {
            most
        } else {
            1 + self.dice.below(most)
        };
        let bytes: Vec<u8> = script.drain(..n as usize).collect();
        self.judge.peers[at].sent += bytes.len();
        self.net.send_only(at, &bytes);
    }

    /// What a client says in the turn that cuts it is perhaps done, though its answer is lost. One that listens and
    /// does not read may be cut in any turn.
    fn may_send(&self, at: usize) -> bool {
        let client = &self.net.clients[at];
        let deaf = client.appetite < usize::MAX && self.judge.will_listen(at);
        let doomed = deaf || self.judge.is_doomed(at, self.net.now);
        let doomed = doomed || self.judge.peers[at].frames.len() > PILE;
        !client.ended && !self.judge.peers[at].reset && !doomed
    }

    /// One more frame for the client's script.
    fn write(&mut self, at: usize) {
        let ask = self.ask(at);
        let text = self.spell(&ask);
        self.put(at, ask, &text);
    }

    fn put(&mut self, at: usize, mut ask: Ask, text: &[u8]) {
        let start = self.judge.peers[at].sent + self.scripts[at].len();
        if start == 0 && text.starts_with(b"GET ") {
            ask = Ask::Http;
        }
        let ends = match ask {
            Ask::Http => vec![start + 4],
            _ => (0..text.len())
                .filter(|&byte| text[byte] == b'\n')
                .map(|lf| start + lf + 1)
                .collect(),
        };
        self.scripts[at].extend_from_slice(text);
        let frame = Frame { ask, start, ends };
        self.judge.peers[at].frames.push_back(frame);
    }

    /// Time goes on, with every wake-up on the way.
    fn sleep(&mut self) {
        let until = self.net.now + self.span();
        while let Some(due) = self.net.deadline().filter(|&due| due <= until) {
            self.net.now = self.net.now.max(due);
            self.settle();
            if self.net.is_drained() {
                return;
            }
        }
        self.net.now = until;
        self.settle();
    }

    fn span(&mut self) -> Us {
        let second = |n: u64| n * SECOND;
        match self.dice.below(10) {
            0..4 => self.dice.below(SECOND),
            4..7 => second(1 + self.dice.below(3)),
            7 => second(self.dice.below(12)),
            8 => second(23) - self.dice.below(2),
            _ => second(self.dice.below(70)),
        }
    }

    /// The client takes some more bytes, and then none, or again as many as come.
    fn read_little(&mut self, mut at: usize) {
        let callers = self.judge.all_callers();
        if !callers.is_empty() && self.dice.chance(50) {
            at = *self.dice.pick(&callers);
        }
        let n = *self.dice.pick(&[0, 1, 100, 10_000, usize::MAX, usize::MAX]);
        self.judge.peers[at].fed = true;
        self.net.feed_client(at, n);
        self.settle();
    }

    /// More than the hub takes in, and often more answers than it keeps.
    fn flood(&mut self, at: usize) {
        if self.net.clients[at].ended {
            return;
        }
        if self.dice.chance(70) {
            self.net.clients[at].appetite = 0;
        }
        let (text, ask, most) = self.dice.pick(&[
            (NONSENSE[0], Ask::Nonsense, 16_000),
            (PING, Ask::Ping, 16_000),
            (STATS, Ask::Stats, 600),
        ]);
        for _ in 0..self.dice.below(*most) {
            self.put(at, *ask, text.as_bytes());
        }
        let bytes = std::mem::take(&mut self.scripts[at]);
        self.judge.peers[at].sent += bytes.len();
        self.net.send_only(at, &bytes);
        self.settle();
    }

    /// One that has said more than is done at once, wants to know what there is, and is gone: the answer begins while
    /// the end of the connection waits for its turn.
    fn hurry(&mut self, at: usize) {
        if self.judge.is_quiet(at) && self.may_send(at) {
            let most = 129 + self.dice.below(100);
            let asks = [Ask::Ping, Ask::Stats];
            self.say(at, most, |world| asks[usize::from(world.dice.chance(10))]);
            self.net.end_only(at);
        }
        self.settle();
    }

    /// Many signals at once, of one client or of some; some who listen do not read, or are just being told a lot.
    fn burst(&mut self, open: &[usize]) {
        let bulk = self.dice.chance(self.habits.bulk);
        let most = if bulk { 30 } else { 130 };
        // What one asks in the turn in which it is blocked is perhaps done, and perhaps not.
        let quiet = |at: &usize| self.judge.will_listen(*at) && self.judge.is_quiet(*at);
        let listeners: Vec<usize> = open.iter().copied().filter(quiet).collect();
        if !listeners.is_empty() && self.dice.chance(60) {
            let at = *self.dice.pick(&listeners);
            let n = *self.dice.pick(&[0, 0, 1000, 100_000, usize::MAX]);
            self.judge.peers[at].fed = true;
            self.net.feed_client(at, n);
        }
        if !listeners.is_empty() && self.dice.chance(30) {
            let at = *self.dice.pick(&listeners);
            self.say(at, 1, |_| Ask::Stats);
        }
        for _ in 0..1 + self.dice.below(3) {
            let (at, many) = (*self.dice.pick(open), self.dice.below(most));
            self.say(at, many, |world| world.signal(bulk));
        }
        if self.dice.chance(self.habits.fail) {
            self.fail(open);
        }
        self.settle();
    }

    /// The client says all it has made up its mind to, and so many frames more.
    fn say(&mut self, at: usize, many: u64, ask: impl Fn(&mut Self) -> Ask) {
        let spoken = self.judge.peers[at].sent > 0;
        if !spoken || !self.may_send(at) {
            return;
        }
        for _ in 0..many {
            let ask = ask(self);
            let text = self.spell(&ask);
            self.put(at, ask, &text);
        }
        let bytes = std::mem::take(&mut self.scripts[at]);
        self.judge.peers[at].sent += bytes.len();
        self.net.send_only(at, &bytes);
    }

    /// S9: when every client is gone and every lease is over, nothing is left.
    fn end(&mut self) {
        #[cfg(feature = "http")]
        self.repeat_the_rest();
        for at in 0..self.net.clients.len() {
            self.judge.peers[at].fed = true;
            self.net.feed_client(at, usize::MAX);
            self.settle();
            if self.judge.is_caller(at) {
                self.net.end_only(at);
                self.settle();
                continue;
            }
            if self.judge.peers[at].over.is_none() && self.dice.chance(50) {
                self.judge.peers[at].reset = true;
                self.net.reset_only(at);
            } else {
                self.net.end_only(at);
            }
            self.settle();
        }
        while let Some(due) = self.net.deadline() {
            if self.net.is_drained() {
                break;
            }
            self.net.now = due;
            self.settle();
        }
        assert_eq!(self.net.sessions(), 0);
        if !self.judge.draining {
            self.judge.story.is_over();
        }
    }

    fn connect(&mut self) {
        self.come();
        self.settle();
    }

    /// Somebody connects, now and then from another host.
    fn come(&mut self) -> usize {
        let far = self.dice.chance(10);
        self.judge.connected(self.net.now, !far);
        self.scripts.push(Vec::new());
        if far {
            let port = 1 + self.dice.below(60_000) as u16;
            let from = SocketAddr::from(([192, 0, 2, 1], port));
            return self.net.connect_from(Face::Text, from);
        }
        self.net.connect()
    }

    fn settle(&mut self) {
        self.net.settle();
        self.judge.judge(&mut self.net);
    }
}

impl Habits {
    /// Each run has other habits: a corner that is rare under one set is common under another.
    fn new(dice: &mut Dice) -> Habits {
        Habits {
            acquire: 10 + dice.below(50),
            enqueue: *dice.pick(&[0, 0, 5, 30]),
            wait: dice.below(30),
            stats: dice.below(4),
            signals: *dice.pick(&[0, 0, 5, 20, 60]),
            bulk: *dice.pick(&[0, 0, 0, 0, 0, 0, 70]),
            burst: *dice.pick(&[0, 2, 10]),
            release: dice.below(40),
            renew: dice.below(15),
            detach: *dice.pick(&[0, 0, 2, 10]),
            breaks: *dice.pick(&[0, 0, 2, 10]),
            show: *dice.pick(&[0, 0, 2, 10]),
            nonsense: dice.below(5),
            whole: *dice.pick(&[10, 60, 95]),
            end: dice.below(5),
            reset: dice.below(5),
            fail: *dice.pick(&[0, 5, 20]),
            sleep: 2 + dice.below(20),
            slow: dice.below(4),
            flood: u64::from(dice.chance(20)),
            calls: *dice.pick(&[0, 0, 0, 10, 30, 100]),
            visits: match *dice.pick(&[0, 0, 0, 20, 60, 150]) {
                visits if cfg!(feature = "http") => visits,
                _ => 0,
            },
            hurry: u64::from(dice.chance(30)),
            shy: *dice.pick(&[0, 90]),
            named: *dice.pick(&[0, 0, 50, 90]),
            declare: *dice.pick(&[0, 0, 2]),
            owners: 1 + dice.below(NAMES.len() as u64),
            drains: dice.chance(20),
        }
    }
}
