//! The only place where tests call the hub: a network without sockets, with the turns that the server makes.

mod slow;

use std::iter;
use std::net::SocketAddr;

use dflockd::command::{SECOND, SessionId, Us};
use dflockd::hub::{Happened, Hub, Next, Refusals, Settings, Wrote};
use dflockd::locks::Locks;
use dflockd::wire::Face;

use super::Store;
use super::journal::{Call, Entry, Glance};
use slow::Slow;

/// One end of a connection, as its client sees it.
#[derive(Default)]
pub struct Client {
    pub id: SessionId,
    /// Its address.
    pub peer: Option<SocketAddr>,
    /// What the server sent and nobody has looked at.
    pub heard: Vec<u8>,
    /// The server has shut its write side.
    pub shut: bool,
    /// The server has closed the socket.
    pub closed: bool,
    /// The server closed the socket with input unread, which TCP makes a reset: what is on its way is lost.
    pub was_reset: bool,
    /// How many bytes the client sent, and was sent.
    sent: usize,
    taken: usize,
    /// What of that the server had no room for.
    pub unread: Vec<u8>,
    /// The client has shut its write side.
    pub ended: bool,
    /// How many bytes the client still takes; what is over stays in the server's output.
    pub appetite: usize,
    /// The next write to it fails.
    pub breaks: bool,
    /// It has asked for something whose answer tells of a hold, so that its output waits for the store from then on.
    tells_of_holds: bool,
    told_hung_up: bool,
}

/// A hub and the clients on it.
pub struct Net {
    hub: Hub,
    settings: Settings,
    /// What the hub has said of its holds, if it does, and a span that none of their leases exceeds.
    pub store: Store,
    longest: Us,
    /// A store that needs time, if it does.
    slow: Option<Slow>,
    pub clients: Vec<Client>,
    pub now: Us,
    /// Until when all that arrived was heard: requests that were put off come before the end of a lease.
    heard: Us,
    journal: Option<Journal>,
    /// What the log would be told of.
    pub events: Vec<Happened>,
}

/// What is written down of each call.
#[derive(Default)]
struct Journal {
    entries: Vec<Entry>,
    /// How many of them were there when the last facts were kept.
    kept: usize,
    /// By client: bytes that it was told.
    told: Vec<usize>,
}

impl Net {
    pub fn new(settings: Settings) -> Net {
        // Not at 0, where "the past" could not be told from "now".
        Net {
            hub: Hub::new(settings.clone()),
            settings,
            store: Store::default(),
            longest: 0,
            slow: None,
            clients: Vec::new(),
            now: 1000 * SECOND,
            heard: 0,
            journal: None,
            events: Vec::new(),
        }
    }

    /// The same, but each call is written down.
    pub fn with_journal(settings: Settings) -> Net {
        let mut net = Net::new(settings);
        net.journal = Some(Journal::default());
        net
    }

    /// What was written down since this was asked last.
    pub fn take_journal(&mut self) -> Vec<Entry> {
        let journal = self.journal.as_mut().expect("it has one");
        journal.kept = 0;
        std::mem::take(&mut journal.entries)
    }

    fn note_heard(&mut self, client: usize) {
        let c = &self.clients[client];
        let come = c.sent - c.unread.len();
        self.note(Call::Hear { client, come });
    }

    /// Writes down what a call has led to, unless that is nothing.
    fn note(&mut self, call: Call) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        let open = || self.clients.iter().filter(|client| !client.closed);
        let ids = open().map(|client| client.id);
        let glance = match call {
            Call::Flush(_) => Glance::default(),
            _ => Glance::new(self.hub.locks(), self.now, ids),
        };
        let mut told = Vec::new();
        journal.told.resize(self.clients.len(), 0);
        for (at, client) in self.clients.iter().enumerate().filter(|c| !c.1.closed) {
            let output = self.hub.output(client.id);
            let all = client.heard.len() + output.len();
            let seen = std::mem::replace(&mut journal.told[at], all);
            if all > seen {
                told.push((at, output[output.len() - (all - seen)..].to_vec()));
            }
        }
        let mut before = journal.entries.iter().rev();
        let before = before.find(|entry| !matches!(entry.call, Call::Flush(_)));
        let same = before.is_some_and(|entry| entry.glance == glance);
        let idle = call == Call::Settle && told.is_empty() && same;
        if !idle {
            let now = self.now;
            let entry = Entry {
                now,
                call,
                told,
                glance,
            };
            journal.entries.push(entry);
        }
    }

    pub fn connect(&mut self) -> usize {
        self.connect_to(Face::Text)
    }

    /// The address of the n-th client is 127.0.0.1, port 40,000 + n.
    pub fn connect_to(&mut self, face: Face) -> usize {
        let port = 40_000 + self.clients.len() % 20_000;
        self.connect_from(face, SocketAddr::from(([127, 0, 0, 1], port as u16)))
    }

    pub fn connect_from(&mut self, face: Face, peer: SocketAddr) -> usize {
        self.begin_turn();
        let id = self.hub.opened(face, peer);
        let id = id.expect("there are few sessions");
        self.clients.push(Client {
            id,
            peer: Some(peer),
            appetite: usize::MAX,
            ..Client::default()
        });
        self.note(Call::Open(self.clients.len() - 1));
        self.clients.len() - 1
    }

    /// The client sends these bytes; the server reads what it has room for. No turn is made.
    pub fn send_only(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].tells_of_holds |= !slow::is_plain(bytes);
        self.clients[client].sent += bytes.len();
        self.clients[client].unread.extend_from_slice(bytes);
        self.read(client);
    }

    /// The server reads what it can, in the pieces that it would read.
    fn read(&mut self, client: usize) {
        self.begin_turn();
        let id = self.clients[client].id;
        while !self.clients[client].closed && !self.clients[client].unread.is_empty() {
            if self.clients[client].ended {
                self.hub.hung_up(id);
                self.note_heard(client);
            }
            let unread = &mut self.clients[client].unread;
            let room = self.hub.room(id).min(unread.len());
            if room == 0 {
                break;
            }
            let piece: Vec<u8> = unread.drain(..room).collect();
            self.hub.received(id, &piece);
            self.note_heard(client);
        }
        let c = &mut self.clients[client];
        if c.ended && !c.closed && !c.told_hung_up && c.unread.is_empty() {
            c.told_hung_up = true;
            self.hub.finished(id);
            self.note_heard(client);
        }
    }

    /// The client sends its last bytes, and the server reads them when the end has come, too.
    #[cfg(feature = "http")]
    pub fn send_last(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].ended = true;
        self.send_only(client, bytes);
    }

    /// The client shuts its write side.
    pub fn end_only(&mut self, client: usize) {
        self.clients[client].ended = true;
        self.read(client);
    }

    /// Something that comes late for a socket: bytes, an end, an end behind bytes, or a break.
    pub fn late(&mut self, client: usize, what: u64) {
        self.begin_turn();
        let id = self.clients[client].id;
        match what {
            0 => self.hub.received(id, b"l\nk\n0\n"),
            1 => self.hub.finished(id),
            2 => self.hub.hung_up(id),
            _ => self.hub.closed(id),
        }
    }

    /// The connection breaks.
    pub fn reset_only(&mut self, client: usize) {
        self.begin_turn();
        let c = &self.clients[client];
        if !c.closed {
            self.hub.closed(c.id);
            self.note_heard(client);
        }
    }

    /// What the client sends is no TLS, or none that is agreed upon.
    pub fn garble_only(&mut self, client: usize) {
        self.begin_turn();
        let id = self.clients[client].id;
        self.hub.garbled(id);
    }

    /// The rest of a turn, as the server makes it.
    pub fn turn(&mut self) {
        self.begin_end_of_turn();
        loop {
            self.settle_once();
            if !self.flush() {
                break;
            }
        }
        while let Some(event) = self.hub.next_event() {
            self.events.push(event);
        }
        self.keep();
        self.hub.end_turn(None);
        // A simulation is small. To look at a dialogue's thousands of tickets in each of its turns would take minutes.
        if self.journal.is_some() {
            self.hub.check();
        }
    }

    /// The metrics, as a scraper would read them.
    #[cfg(feature = "http")]
    pub fn metrics(&self) -> String {
        let mut out = Vec::new();
        self.hub.write_metrics(&mut out);
        String::from_utf8(out).expect("metrics are text")
    }

    /// Takes what was counted of refusals.
    pub fn refusals(&mut self) -> Vec<Refusals> {
        iter::from_fn(|| self.hub.next_refusals()).collect()
    }

    pub fn set_secrets(&mut self, client: Option<&str>, admin: Option<&str>) {
        let bytes = |secret: &str| secret.as_bytes().to_vec();
        self.hub.set_secrets(client.map(bytes), admin.map(bytes));
    }

    /// What the hub hears from now on happens now.
    fn begin_turn(&mut self) {
        self.hub.begin_turn(self.now, 0);
    }

    /// The clock's part of a turn.
    pub fn tick(&mut self, heard: Us) {
        self.begin_turn();
        self.hub.tick(heard);
        self.note(Call::Tick { heard });
    }

    /// Writes once to each client that is to be written to, as much as it takes. False if there is none.
    fn flush(&mut self) -> bool {
        let mut any = false;
        while self.flush_one() {
            any = true;
        }
        any
    }

    fn flush_one(&mut self) -> bool {
        self.keep();
        let Some((id, output)) = self.hub.next_write() else {
            return false;
        };
        let client = self.clients.iter().position(|c| c.id == id);
        let client = client.expect("sessions are clients");
        let c = &mut self.clients[client];
        assert!(!c.closed, "a closed socket is not dirty");
        let n = if c.breaks {
            0
        } else {
            output.len().min(c.appetite)
        };
        c.heard.extend_from_slice(&output[..n]);
        c.taken += n;
        if let Some(slow) = &mut self.slow {
            if c.tells_of_holds {
                slow.offered(client, c.taken - n, output.len());
            }
            slow.pieces[client].retain(|&(end, _)| end > c.taken);
        }
        c.appetite -= if c.appetite == usize::MAX { 0 } else { n };
        let (wrote, call) = match n == output.len() {
            // A write of nothing is no write: the server makes none.
            _ if c.breaks && !output.is_empty() => (Wrote::Broken, Call::Break(client)),
            true => (Wrote::All, Call::Flush(client)),
            false => (Wrote::Some(n), Call::Flush(client)),
        };
        let next = self.hub.wrote(id, wrote);
        self.note(call);
        let c = &mut self.clients[client];
        match next {
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
        true
    }

    fn begin_end_of_turn(&mut self) {
        if !self.hub.is_behind() {
            self.heard = self.now;
        }
        self.tick(self.heard);
    }

    fn settle_once(&mut self) {
        self.hub.settle();
        self.note(Call::Settle);
    }

    /// The process dies in a turn: before its end begins (0), behind the tick (1) or what that has led to (2), or when that
    /// is kept, after some writes (3 and more). What was not kept has not happened.
    pub fn die(&mut self, stage: usize) {
        if stage > 0 {
            self.begin_end_of_turn();
        }
        if stage > 1 {
            self.settle_once();
        }
        if stage > 2 {
            self.keep();
            let mut writes = 3..stage;
            while writes.next().is_some() && self.flush_one() {}
        }
        if let Some(journal) = &mut self.journal {
            journal.entries.truncate(journal.kept);
        }
    }

    /// What has happened to holds is kept, before a byte that tells of it leaves.
    fn keep(&mut self) {
        self.longest = self.longest.max(self.hub.facts().longest());
        if self.slow.is_some() {
            return self.give();
        }
        self.store.keep(self.hub.facts());
        self.hub.kept();
        if let Some(journal) = &mut self.journal {
            journal.kept = journal.entries.len();
        }
    }

    /// Goes on with a restatement of the holds, or begins one. Returns whether it is at its end.
    pub fn sweep(&mut self, count: u32) -> bool {
        self.store.sweep(self.hub.locks(), count)
    }

    /// The process is started again with settings that differ so. All connections are gone; what was kept of the holds is
    /// there, unless it is forgotten before.
    pub fn restart(&mut self, change: impl FnOnce(&mut Settings)) {
        let fence = self.hub.locks().fence();
        self.settings.locks.first_fence = fence + (1 << 32);
        self.settings.locks.secret[0] ^= 1;
        change(&mut self.settings);
        self.hub = Hub::new(self.settings.clone());
        for held in self.store.holds() {
            self.hub
                .recover(self.now, &held)
                .expect("there were such holds");
        }
        self.store.is_recovered();
        if self.slow.is_some() {
            self.slow_down();
        }
        for client in &mut self.clients {
            (client.id, client.peer) = (SessionId::NOBODY, None);
            (client.shut, client.closed) = (true, true);
        }
    }

    /// Nothing is left of what was kept but a number: nothing may be granted before this.
    pub fn forget(&mut self) -> Us {
        self.store = Store::default();
        let longest = self.longest;
        let opens = self.now + longest + longest.div_ceil(100);
        self.settings.locks.opens.max(opens)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Turns until the hub would sleep and every socket with room was read.
    pub fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "the hub never sleeps");
            self.turn();
            let mut resumed = false;
            while let Some(id) = self.hub.next_resumed() {
                resumed = true;
                self.read(self.client(id));
            }
            let asleep = self.hub.deadline().is_none_or(|due| due > self.now);
            if !resumed && (asleep || self.is_drained()) {
                break;
            }
        }
        self.hub.check();
    }

    /// The client takes up to `n` more bytes.
    pub fn feed_client(&mut self, client: usize, n: usize) {
        self.clients[client].appetite = n;
        self.begin_turn();
        self.hub.writable(self.clients[client].id);
        self.turn();
    }

    /// Time goes on to this instant, with every wake-up on the way.
    pub fn until(&mut self, instant: Us) {
        for round in 0.. {
            assert!(round < 1_000_000, "the hub never sleeps");
            self.settle();
            match self.hub.deadline() {
                Some(due) if due <= instant && !self.is_drained() => self.now = self.now.max(due),
                _ => break,
            }
        }
        self.now = self.now.max(instant);
        self.settle();
    }

    pub fn drain(&mut self) {
        self.begin_turn();
        self.hub.drain();
        self.note(Call::Drain);
    }

    pub fn is_drained(&self) -> bool {
        self.hub.is_drained()
    }

    pub fn is_behind(&self) -> bool {
        self.hub.is_behind()
    }

    pub fn deadline(&self) -> Option<Us> {
        self.hub.deadline()
    }

    pub fn sessions(&self) -> usize {
        self.hub.sessions()
    }

    pub fn locks(&self) -> &Locks {
        self.hub.locks()
    }

    /// What the server has for the client, and the client has not taken.
    pub fn output(&self, client: usize) -> &[u8] {
        self.hub.output(self.clients[client].id)
    }

    /// The next client that the server would write to.
    pub fn next_write(&mut self) -> Option<usize> {
        let (id, _) = self.hub.next_write()?;
        Some(self.client(id))
    }

    fn client(&self, id: SessionId) -> usize {
        let mut clients = self.clients.iter();
        let place = clients.position(|client| client.id == id);
        place.expect("sessions are clients")
    }
}
