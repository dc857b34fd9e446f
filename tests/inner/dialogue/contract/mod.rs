//! Dialogues that were written from the contract alone, by someone who had not seen the server: one file per
//! area, each test one of its sentences. Where one fails, either the server or the sentence is wrong.

use super::*;
use json::Json;

mod auth;
mod closing;
mod draining;
mod framing;
mod idle;
pub(super) mod json;
mod leases;
mod limits;
mod losses;
mod phases;
mod semaphores;
mod spaces;
mod stats;
mod timeouts;

/// Long enough that no read timeout disturbs a dialogue about something else.
const AGES: u64 = 1_000_000 * SECOND;

pub(super) fn frame(command: &str, key: &str, argument: &str) -> String {
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

impl Dialogue {
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
    pub(super) fn stats(&mut self, client: usize) -> Json {
        self.send(client, "stats\n_\n\n");
        let heard = self.heard(client);
        stats_in(&heard)
    }

    #[track_caller]
    pub(super) fn is_shut(&self, client: usize) {
        assert!(self.0.clients[client].shut, "still open");
    }
}

/// The JSON of an answer to `stats`, which is one line with two fields.
#[track_caller]
pub(super) fn stats_in(heard: &str) -> Json {
    let line = heard.strip_suffix('\n').expect("a whole line");
    assert!(!line.contains(['\n', '\r']), "more than a line: {heard:?}");
    let text = line.strip_prefix("ok ").expect("ok and a field");
    Json::parse(text).unwrap_or_else(|what| panic!("{what} in {text}"))
}
