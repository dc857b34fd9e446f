//! Several servers on one store, none of them to be trusted to live: they are killed, stopped for a while and cut off from
//! the store, whose model loses and repeats what it is asked. Clients go from one leader to the next. The judge knows
//! nothing but what clients hear: two never rely on one lock, fences rise, and nothing is lost before its lease is over.

mod clients;
mod store;

use dflockd::command::{SECOND, Us};
use dflockd::facts::{Facts, Protection};
use dflockd::store::leadership::{Event, Head, Leadership, Loss};
use dflockd::store::log::{Log, Room, Writer};

use crate::harness::{Dice, Net, Trace, settings, simulate};
use clients::{Client, Judge};
use store::Store;

const NODES: usize = 3;
const CLIENTS: usize = 12;
/// How long a leader may be silent.
const FAILOVER: Us = SECOND;
/// So little that most batches have several parts, and most runs several sweeps.
const ROOM: Room = Room {
    part: 150,
    bytes: 4_000,
    batches: 40,
    places: 1,
};

/// A server, in one of its lives.
struct Node {
    /// Its clock is ahead of the world's by so much.
    skew: Us,
    /// None while it is dead.
    life: Option<Life>,
    /// It does nothing before: it is dead, or stopped.
    wakes: Us,
}

struct Life {
    serial: u64,
    leadership: Leadership,
    /// What it reads while it takes over.
    log: Log,
    writer: Writer,
    /// What it has, once it leads.
    net: Option<Net>,
    has_given: bool,
    /// What clients have sent and the server has not read yet, by the place of the client.
    inbox: Vec<(usize, String)>,
}

struct World<'a> {
    dice: Dice,
    /// A fault of the way to the store, in percent.
    faults: u64,
    /// A blow to a server, in ten thousand steps.
    blows: u64,
    now: Us,
    store: Store,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    judge: Judge,
    lives: u64,
    takeovers: u64,
    trace: &'a mut Trace,
}

#[test]
fn two_servers_never_grant_what_one_of_them_has_promised() {
    simulate("ha_sim", 60, 100_000, |seed, trace| {
        World::new(seed, trace).run();
    });
}

impl World<'_> {
    fn new(seed: u64, trace: &mut Trace) -> World<'_> {
        let mut dice = Dice::new(seed);
        World {
            faults: *dice.pick(&[0, 1, 5, 20]),
            blows: *dice.pick(&[5, 20, 60]),
            now: 0,
            store: Store::default(),
            nodes: (0..NODES).map(|_| Node::new(&mut dice)).collect(),
            clients: (0..CLIENTS).map(|_| Client::new()).collect(),
            judge: Judge::default(),
            lives: 0,
            takeovers: 0,
            dice,
            trace,
        }
    }

    fn run(&mut self) {
        for _ in 0..3_000 {
            self.step();
        }
        // Without further blows the clients are served again.
        (self.faults, self.blows) = (0, 0);
        let (grants, until) = (self.judge.grants, self.now + 20 * SECOND);
        while self.now < until {
            self.step();
        }
        assert!(self.judge.grants > grants, "nobody serves the clients");
        assert!(
            self.store.len() < 200,
            "{} batches are left",
            self.store.len()
        );
        assert!(self.takeovers > 0);
    }

    fn step(&mut self) {
        self.trace.step();
        self.now += 1 + self.dice.below(20_000);
        if self.dice.below(10_000) < self.blows {
            self.blow();
        }
        for (at, told) in self.store.deliver(self.now, self.faults, &mut self.dice) {
            self.told(at, told);
        }
        for at in 0..NODES {
            if self.nodes[at].wakes <= self.now {
                self.wake(at);
            }
        }
        for at in 0..CLIENTS {
            self.speak(at);
        }
    }

    /// Something happens to a server, or to the store.
    fn blow(&mut self) {
        let at = self.dice.below(NODES as u64) as usize;
        let span = self.dice.below(5 * SECOND);
        match self.dice.below(4) {
            0 => self.die(at, span),
            1 => self.nodes[at].wakes = self.now + span,
            2 => self.store.cut = self.now + span,
            _ => {
                // It is told to stop, if it lives.
                let life = self.nodes[at].life.as_mut();
                let event = life.map(|life| life.leadership.leave());
                self.act(at, event.unwrap_or(Event::Nothing));
            }
        }
    }

    fn die(&mut self, at: usize, span: Us) {
        if let Some(life) = self.nodes[at].life.take() {
            for client in &mut self.clients {
                if client.at.is_some_and(|(serial, _)| serial == life.serial) {
                    client.is_alone(self.now);
                }
            }
        }
        self.store.forget(at);
        self.nodes[at].wakes = self.now + span;
    }

    /// A server that runs does what it has to do.
    fn wake(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let now = self.now + node.skew;
        let Some(life) = &mut node.life else {
            self.lives += 1;
            node.life = Some(Life::new(at, self.lives, now));
            return;
        };
        let event = life.leadership.silence(now);
        life.turn(now);
        if let Some(ask) = life.leadership.ask(now) {
            self.store
                .ask(self.now, at, ask, self.faults, &mut self.dice);
        }
        self.act(at, event);
        self.listen();
    }

    /// An answer of the store has come. A server that is stopped finds it when it goes on.
    fn told(&mut self, at: usize, told: dflockd::store::leadership::Told) {
        let node = &mut self.nodes[at];
        if node.wakes > self.now {
            // It stands in its socket.
            return self.store.keep_for(node.wakes, at, told);
        }
        let now = self.now + node.skew;
        if let Some(life) = &mut node.life {
            let event = life.leadership.told(now, told);
            self.act(at, event);
        }
    }

    fn act(&mut self, at: usize, event: Event) {
        let node = &mut self.nodes[at];
        let now = self.now + node.skew;
        let Some(life) = &mut node.life else { return };
        match event {
            Event::Nothing => {}
            Event::Took => {
                self.takeovers += 1;
                self.trace.heard(("took", at));
            }
            Event::Read(batches, is_all) => {
                for (number, batch) in batches {
                    life.writer.found(batch.len());
                    life.log.add(number, batch).expect("a sound log");
                }
                if is_all {
                    life.lead(now);
                }
            }
            Event::Kept => life.kept(now),
            Event::Left | Event::Lost(Loss::Taken(_) | Loss::Silence) => {
                let span = self.dice.below(2 * SECOND);
                self.die(at, span);
            }
            Event::Lost(loss) => panic!("{loss:?}"),
        }
    }

    /// What servers have written is in the sockets of clients.
    fn listen(&mut self) {
        for node in &mut self.nodes {
            let Some(life) = &mut node.life else { continue };
            let Some(net) = &mut life.net else { continue };
            for client in &mut self.clients {
                let Some((_, place)) = client.at.filter(|&(serial, _)| serial == life.serial)
                else {
                    continue;
                };
                let heard = std::mem::take(&mut net.clients[place].heard);
                for line in String::from_utf8(heard).expect("answers are text").lines() {
                    client.hears(self.now, line, &mut self.judge);
                    self.trace.heard(line);
                }
            }
        }
    }

    /// A client says something to whoever leads, as far as it can know.
    fn speak(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.at.is_none() {
            let leaders = self.nodes.iter_mut().filter_map(|node| node.life.as_mut());
            let mut leaders: Vec<_> = leaders.filter(|life| life.net.is_some()).collect();
            if leaders.is_empty() {
                return;
            }
            let which = self.dice.below(leaders.len() as u64) as usize;
            let (serial, net) = (leaders[which].serial, leaders[which].net.as_mut());
            client.at = net.map(|net| (serial, net.connect()));
        }
        let (serial, place) = client.at.expect("it has a connection");
        if let Some(text) = client.says(self.now, &mut self.judge, &mut self.dice) {
            let lives = self.nodes.iter_mut().filter_map(|node| node.life.as_mut());
            let life = lives.into_iter().find(|life| life.serial == serial);
            let life = life.expect("a client without a server is alone");
            life.inbox.push((place, text));
        }
    }
}

impl Node {
    fn new(dice: &mut Dice) -> Node {
        Node {
            skew: SECOND + dice.below(1_000_000 * SECOND),
            life: None,
            wakes: dice.below(SECOND),
        }
    }
}

impl Life {
    fn new(node: usize, serial: u64, now: Us) -> Life {
        let mut life = [0; 16];
        life[..8].copy_from_slice(&serial.to_le_bytes());
        let head = Head {
            cluster: life,
            life,
            node: format!("node-{node}"),
            address: format!("host-{node}:6388"),
            number: 0,
            largest: 0,
            leads: false,
            left: false,
        };
        Life {
            serial,
            leadership: Leadership::new(head, FAILOVER, true, now),
            log: Log::default(),
            writer: Writer::new(ROOM),
            net: None,
            has_given: false,
            inbox: Vec::new(),
        }
    }

    /// It has read all that others have kept.
    fn lead(&mut self, now: Us) {
        let left = std::mem::take(&mut self.log).end().expect("a sound log");
        let mut settings = settings();
        settings.protection = Protection::Journal;
        settings.locks.first_fence = left.next_fence.max(1);
        settings.locks.secret[..8].copy_from_slice(&self.serial.to_le_bytes());
        self.net = Some(Net::with_holds(settings, now, left.holds(now)));
    }

    /// A turn of its hub, whose facts go to the store when that has kept those before.
    fn turn(&mut self, now: Us) {
        let Some(net) = &mut self.net else { return };
        net.now = net.now.max(now);
        for (place, text) in self.inbox.drain(..) {
            net.send_only(place, text.as_bytes());
        }
        net.settle();
        if self.has_given || !self.leadership.wants_batch() {
            return;
        }
        let Some((mut facts, count)) = net.take_batch() else {
            return;
        };
        self.has_given = true;
        let locks = net.locks();
        let at = (locks.fence() + 1, now);
        let restate = |from, places, facts: &mut Facts| locks.restate(from, places, facts);
        let batch = self.writer.batch(&mut facts, count, at, restate);
        self.leadership.give(batch);
    }

    fn kept(&mut self, now: Us) {
        self.has_given = false;
        let net = self.net.as_mut().expect("it leads");
        net.now = net.now.max(now);
        net.store_answers();
        net.settle();
    }
}
