//! What the tests over the hub share: a network without sockets, whose clients and whose time do what they are
//! told, and dice.
#![allow(dead_code, reason = "no test uses all of it")]

use dflockd::command::{SECOND, SessionId, Us};
use dflockd::hub::{Hub, Next, Settings};
use dflockd::locks;

/// The settings that a server has by default.
pub fn settings() -> Settings {
    Settings {
        locks: locks::Settings {
            max_locks: 1024,
            max_waiters: 0,
            max_idle: 60 * SECOND,
            default_lease: 33 * SECOND,
            auto_release: true,
            first_fence: 1_800_000_000_000_000_000,
            secret: [7; 32],
        },
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
}

impl Net {
    pub fn new(settings: Settings) -> Net {
        // Not at 0, where "the past" could not be told from "now".
        Net {
            hub: Hub::new(settings),
            clients: Vec::new(),
            now: 1000 * SECOND,
        }
    }

    pub fn connect(&mut self) -> usize {
        let id = self.hub.opened(self.now).expect("there are few sessions");
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
        self.hub.tick(self.now, self.now);
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
}
