//! Dialogues: what clients say and hear, over the hub, without sockets and without waiting. Each test is one
//! sentence of dflockd-protocol(7), or one trap that servers of this kind fell into.

mod contract;
mod deadlines;
mod deadlocks;
mod distlockd;
mod drain;
mod ends;
mod found;
mod frames;
mod groups;
mod locks;
mod signals;
mod subscribers;
mod time;

use crate::harness::{Net, settings};
use dflockd::command::SECOND;
use dflockd::hub::{INPUT_MAX, OUTPUT_MAX, Settings};

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
}

fn release(key: &str, token: &str) -> String {
    format!("r\n{key}\n{token}\n")
}

fn renew(key: &str, argument: &str) -> String {
    format!("n\n{key}\n{argument}\n")
}
