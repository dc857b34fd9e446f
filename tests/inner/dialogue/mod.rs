//! Dialogues: what clients say and hear, over the hub, without sockets and without waiting. Each test is one
//! sentence of dflockd-protocol(7), or one trap that servers of this kind fell into.

mod auth;
mod backlog;
mod breaks;
mod closing;
mod deadlocks;
mod detach;
mod distlockd;
mod draining;
mod framing;
mod garbled;
mod groups;
mod held_back;
mod idle;
mod leases;
mod limits;
mod locks;
mod losses;
#[cfg(feature = "http")]
mod metrics;
mod phases;
mod pipelining;
mod quarantine;
#[cfg(feature = "http")]
mod rest;
mod restart;
mod semaphores;
mod show;
mod signals;
mod spaces;
mod stats;
mod subscribers;
mod timeouts;

use crate::harness::{Json, Net, settings};
use dflockd::command::SECOND;
use dflockd::hub::{INPUT_MAX, OUTPUT_MAX, Settings};

/// Long enough that no read timeout disturbs a dialogue about something else.
const AGES: u64 = 1_000_000 * SECOND;

fn frame(command: &str, key: &str, argument: &str) -> String {
    format!("{command}\n{key}\n{argument}\n")
}

/// The fence in a token.
#[track_caller]
fn fence(token: &str) -> u64 {
    u64::from_str_radix(&token[..16], 16).expect("16 hex digits")
}

#[track_caller]
fn is_token(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b"0123456789abcdef".contains(&b))
}

/// The text with each token in it replaced by `T`.
fn masked(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let fields: Vec<&str> = line
            .split(' ')
            .map(|field| if is_token(field) { "T" } else { field })
            .collect();
        fields.join(" ")
    });
    lines.collect()
}

/// A net with short words for what dialogues do.
struct Dialogue(Net);

impl Dialogue {
    fn new() -> Dialogue {
        Dialogue::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Dialogue {
        let mut settings = settings();
        change(&mut settings);
        Dialogue(Net::new(settings))
    }

    fn connect(&mut self) -> usize {
        let client = self.0.connect();
        self.0.settle();
        client
    }

    /// `at(5_000)`: five seconds after the start.
    fn at(&mut self, ms: u64) {
        self.0.until(1000 * SECOND + ms * 1000);
    }

    fn send(&mut self, client: usize, text: impl AsRef<[u8]>) {
        self.0.send_only(client, text.as_ref());
        self.0.settle();
    }

    fn heard(&mut self, client: usize) -> String {
        String::from_utf8(std::mem::take(&mut self.0.clients[client].heard))
            .expect("answers are text")
    }

    #[track_caller]
    fn hears(&mut self, client: usize, text: &str) {
        assert_eq!(self.heard(client), text);
    }

    #[track_caller]
    fn says(&mut self, client: usize, request: impl AsRef<[u8]>, answer: &str) {
        self.send(client, request);
        self.hears(client, answer);
    }

    /// The client hears of a grant with this lease; returns the token.
    #[track_caller]
    fn is_granted(&mut self, client: usize, lease: u64) -> String {
        let heard = self.heard(client);
        let fields: Vec<&str> = heard
            .strip_suffix('\n')
            .expect("a whole line")
            .split(' ')
            .collect();
        assert_eq!((fields.len(), fields[0]), (3, "ok"), "{heard:?}");
        assert!(
            fields[1].len() == 32 && fields[1].bytes().all(|b| b"0123456789abcdef".contains(&b)),
            "{heard:?}"
        );
        assert_eq!(fields[2], lease.to_string());
        fields[1].to_string()
    }

    /// The client asks for the lock `k` and gets it at once, for the default 33 s.
    #[track_caller]
    fn takes(&mut self, client: usize, key: &str) -> String {
        self.send(client, format!("l\n{key}\n0\n"));
        self.is_granted(client, 33)
    }

    fn end(&mut self, client: usize) {
        self.0.end_only(client);
        self.0.settle();
    }

    fn reset(&mut self, client: usize) {
        self.0.reset_only(client);
        self.0.settle();
    }

    fn drain(&mut self) {
        self.0.drain();
        self.0.settle();
    }

    #[track_caller]
    fn is_closed(&self, client: usize) {
        assert!(self.0.clients[client].closed, "still open");
    }

    #[track_caller]
    fn is_open(&self, client: usize) {
        assert!(!self.0.clients[client].shut, "closed");
    }

    /// The server has said all it will say, and waits for the client to close.
    #[track_caller]
    fn lingers(&self, client: usize) {
        assert!(self.0.clients[client].shut && !self.0.clients[client].closed);
    }

    fn keys(&self) -> usize {
        self.0.locks().keys()
    }

    /// A dialogue in which nobody is cut for saying nothing.
    fn patient() -> Dialogue {
        Dialogue::patient_with(|_| {})
    }

    fn patient_with(change: impl FnOnce(&mut Settings)) -> Dialogue {
        Dialogue::with(|s| {
            s.read_timeout = AGES;
            change(s);
        })
    }

    /// The client hears `<status> <token> <lease>` and nothing else; returns the token.
    #[track_caller]
    fn gets(&mut self, client: usize, status: &str, lease: u64) -> String {
        let heard = self.heard(client);
        let fields: Vec<&str> = heard
            .strip_suffix('\n')
            .unwrap_or_else(|| panic!("not a whole line: {heard:?}"))
            .split(' ')
            .collect();
        assert_eq!((fields.len(), fields[0]), (3, status), "{heard:?}");
        assert!(is_token(fields[1]), "{heard:?}");
        assert_eq!(fields[2], lease.to_string(), "{heard:?}");
        fields[1].to_string()
    }

    /// `e`, granted at once for the default lease.
    #[track_caller]
    fn enqueues(&mut self, client: usize, key: &str) -> String {
        self.send(client, frame("e", key, ""));
        self.gets(client, "acquired", 33)
    }

    /// `sl`, granted at once for the default lease.
    #[track_caller]
    fn takes_slot(&mut self, client: usize, key: &str, limit: u32) -> String {
        self.send(client, frame("sl", key, &format!("0 {limit}")));
        self.gets(client, "ok", 33)
    }

    #[track_caller]
    fn stats(&mut self, client: usize) -> Json {
        self.send(client, "stats\n_\n\n");
        let heard = self.heard(client);
        stats_in(&heard)
    }

    #[track_caller]
    fn is_shut(&self, client: usize) {
        assert!(self.0.clients[client].shut, "still open");
    }
}

fn release(key: &str, token: &str) -> String {
    format!("r\n{key}\n{token}\n")
}

fn renew(key: &str, argument: &str) -> String {
    format!("n\n{key}\n{argument}\n")
}

/// The JSON of an answer to `stats`, which is one line with two fields.
#[track_caller]
fn stats_in(heard: &str) -> Json {
    let line = heard.strip_suffix('\n').expect("a whole line");
    assert!(!line.contains(['\n', '\r']), "more than a line: {heard:?}");
    let text = line.strip_prefix("ok ").expect("ok and a field");
    Json::parse(text).unwrap_or_else(|what| panic!("{what} in {text}"))
}
