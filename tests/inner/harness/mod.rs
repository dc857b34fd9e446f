//! What the tests over the inner rings share: a network without sockets, whose clients and whose time do what
//! they are told; dice; and the loop over the seeds of a simulation.
#![allow(dead_code, reason = "no test uses all of it")]

use std::hash::{DefaultHasher, Hash, Hasher};

use dflockd::command::{SECOND, SessionId, Us};
use dflockd::hub::{Hub, Next, Settings};
use dflockd::locks;
use dflockd::wire::Face;

/// The settings that a server has by default.
pub fn settings() -> Settings {
    Settings {
        locks: locks::Settings {
            max_locks: 1024,
            max_waiters: 0,
            max_idle: 60 * SECOND,
            default_lease: 33 * SECOND,
            claim_lease: 10 * SECOND,
            auto_release: true,
            deadlock_detection: true,
            first_fence: 1_800_000_000_000_000_000,
            secret: [7; 32],
        },
        max_subscriptions: 0,
        secret: None,
        read_timeout: 23 * SECOND,
        write_timeout: 5 * SECOND,
        shutdown_timeout: 30 * SECOND,
    }
}

/// One end of a connection, as its client sees it.
#[derive(Default)]
pub struct Client {
    pub id: SessionId,
    /// What the server sent and nobody has looked at.
    pub heard: Vec<u8>,
    /// The server has shut its write side.
    pub shut: bool,
    /// The server has closed the socket.
    pub closed: bool,
    /// The server closed the socket with input unread, which TCP makes a reset: what is on its way is lost.
    pub was_reset: bool,
    /// What the client sent and the server had no room for.
    pub unread: Vec<u8>,
    /// The client has shut its write side.
    pub ended: bool,
    /// How many bytes the client still takes; what is over stays in the server's output.
    pub appetite: usize,
    told_hung_up: bool,
}

/// A hub and the clients on it.
pub struct Net {
    pub hub: Hub,
    pub clients: Vec<Client>,
    pub now: Us,
    /// Until when all that arrived was heard: requests that were put off come before the end of a lease.
    heard: Us,
}

impl Net {
    pub fn new(settings: Settings) -> Net {
        // Not at 0, where "the past" could not be told from "now".
        Net {
            hub: Hub::new(settings),
            clients: Vec::new(),
            now: 1000 * SECOND,
            heard: 0,
        }
    }

    pub fn connect(&mut self) -> usize {
        self.connect_to(Face::Text)
    }

    pub fn connect_to(&mut self, face: Face) -> usize {
        let id = self
            .hub
            .opened(self.now, face)
            .expect("there are few sessions");
        self.clients.push(Client {
            id,
            appetite: usize::MAX,
            ..Client::default()
        });
        self.clients.len() - 1
    }

    /// The client sends these bytes; the server reads what it has room for. No turn is made.
    pub fn send_only(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].unread.extend_from_slice(bytes);
        self.read(client);
    }

    /// The server reads what it can, in the pieces that it would read.
    fn read(&mut self, client: usize) {
        let c = &mut self.clients[client];
        while !c.closed && !c.unread.is_empty() {
            let room = self.hub.room(c.id).min(c.unread.len());
            if room == 0 {
                break;
            }
            let piece: Vec<u8> = c.unread.drain(..room).collect();
            self.hub.received(self.now, c.id, &piece);
        }
        if c.ended && !c.closed && !c.told_hung_up {
            if c.unread.is_empty() {
                c.told_hung_up = true;
                self.hub.finished(self.now, c.id);
            } else {
                self.hub.hung_up(self.now, c.id);
            }
        }
    }

    /// The client shuts its write side.
    pub fn end_only(&mut self, client: usize) {
        self.clients[client].ended = true;
        self.read(client);
    }

    /// The connection breaks.
    pub fn reset_only(&mut self, client: usize) {
        let c = &self.clients[client];
        if !c.closed {
            self.hub.closed(self.now, c.id);
        }
    }

    /// The rest of a turn, as the server makes it.
    pub fn turn(&mut self) {
        if !self.hub.is_behind() {
            self.heard = self.now;
        }
        self.hub.tick(self.now, self.heard);
        loop {
            self.hub.settle(self.now);
            let Some(id) = self.hub.next_dirty() else {
                break;
            };
            self.flush(id);
        }
        self.hub.end_turn();
    }

    fn flush(&mut self, id: SessionId) {
        let client = self
            .clients
            .iter()
            .position(|c| c.id == id)
            .expect("sessions are clients");
        let c = &mut self.clients[client];
        assert!(!c.closed, "a closed socket is not dirty");
        let n = self.hub.output(id).len().min(c.appetite);
        c.heard.extend_from_slice(&self.hub.output(id)[..n]);
        c.appetite -= if c.appetite == usize::MAX { 0 } else { n };
        self.hub.sent(self.now, id, n);
        match self.hub.next(self.now, id) {
            Next::Keep => {}
            Next::Shut => {
                c.shut = true;
                self.read(client);
            }
            Next::Close => {
                c.shut = true;
                c.closed = true;
                c.was_reset = !c.unread.is_empty();
            }
        }
    }

    /// Turns until the hub would sleep and every socket with room was read.
    pub fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "the hub never sleeps");
            self.turn();
            let mut resumed = false;
            while let Some(id) = self.hub.next_resumed() {
                resumed = true;
                let client = self
                    .clients
                    .iter()
                    .position(|c| c.id == id)
                    .expect("sessions are clients");
                self.read(client);
            }
            let asleep = self.hub.deadline().is_none_or(|due| due > self.now);
            if !resumed && (asleep || self.hub.is_drained(self.now)) {
                break;
            }
        }
        self.hub.check();
    }

    /// The client takes up to `n` more bytes.
    pub fn feed_client(&mut self, client: usize, n: usize) {
        self.clients[client].appetite = n;
        let id = self.clients[client].id;
        if !self.clients[client].closed {
            self.flush(id);
        }
    }

    /// Time goes on to this instant, with every wake-up on the way.
    pub fn until(&mut self, instant: Us) {
        for round in 0.. {
            assert!(round < 1_000_000, "the hub never sleeps");
            self.settle();
            match self.hub.deadline() {
                Some(due) if due <= instant && !self.hub.is_drained(self.now) => {
                    self.now = self.now.max(due)
                }
                _ => break,
            }
        }
        self.now = self.now.max(instant);
        self.settle();
    }
}

/// xorshift64*: enough for tests, the same on every machine.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to n - 1.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u64) as usize]
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// An index into the weights, the heavier the likelier. Not all of them are 0.
    pub fn weigh(&mut self, weights: &[u64]) -> usize {
        let mut rest = self.below(weights.iter().sum());
        let mut at = 0;
        while rest >= weights[at] {
            rest -= weights[at];
            at += 1;
        }
        at
    }
}

/// What one run of a simulation leaves behind: how many steps were checked, and a digest of all that was heard.
#[derive(Default)]
pub struct Trace {
    steps: u64,
    digest: DefaultHasher,
}

impl Trace {
    pub fn step(&mut self) {
        self.steps += 1;
    }

    pub fn heard(&mut self, what: impl Hash) {
        what.hash(&mut self.digest);
    }
}

/// Runs a simulation with the seeds that the environment names: `SEED=7` that one alone, `SEEDS=100000` so many,
/// else `seeds`, which must make for `least_steps`. A failure prints how to have it again. Every so often a seed
/// is run twice, and must lead to the same answers.
pub fn simulate(test: &'static str, seeds: u64, least_steps: u64, run: impl Fn(u64, &mut Trace)) {
    let number = |name| {
        let value = std::env::var(name).ok()?;
        Some(value.parse::<u64>().expect("a seed is a number"))
    };
    let range = match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(many)) => 0..many,
        (None, None) => 0..seeds,
    };
    let chosen = number("SEED").or(number("SEEDS")).is_some();
    let mut total = 0;
    for seed in range {
        let mut replay = Replay {
            test,
            seed,
            before: total,
            trace: Trace::default(),
        };
        run(seed, &mut replay.trace);
        total += replay.trace.steps;
        if seed % 16 == 0 {
            let mut again = Trace::default();
            run(seed, &mut again);
            let digests = [&replay.trace, &again].map(|trace| trace.digest.finish());
            assert_eq!(digests[0], digests[1], "one seed, one story");
        }
    }
    println!("{test}: {total} steps checked");
    assert!(chosen || total >= least_steps, "{total} steps are too few");
}

/// Says on the way out of a failed run how to have it again.
struct Replay {
    test: &'static str,
    seed: u64,
    /// Steps of the seeds before.
    before: u64,
    trace: Trace,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Replay { test, seed, .. } = self;
            let steps = self.before + self.trace.steps;
            eprintln!(
                "after {steps} steps; again with: SEED={seed} cargo test --test inner {test}"
            );
        }
    }
}
