//! A conversation of a step with one server, or with all, over the client library. Not here: holding a lock, which
//! needs an event loop and not a connection that blocks. Invariant: each failure names its server.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use dflockd::client::{self, Client, Error};
use dflockd::command::{Refusal, SECOND, Us};
use dflockd::sys;

use crate::failure::{Failure, USAGE, say};
use crate::options::Options;

/// How much later than `--wait` says a thread is given up that should have given up itself.
const MARGIN: Us = SECOND / 10;

/// A connection to a server.
pub struct Talk {
    client: Client,
    server: String,
    has_secret: bool,
}

/// How a step connects: with the secret, over TLS if it is to be, without an owner. A step that only asks has the patience
/// that `--wait` says.
pub fn settings(options: &Options) -> client::Options {
    let mut settings = client::Options {
        secret: options.secret.clone(),
        tls: options.tls.clone(),
        ..client::Options::default()
    };
    if let Some(wait) = bound(options) {
        settings.patience = Duration::from_micros(wait);
    }
    settings
}

/// How long a step that only asks may take at most, if `--wait` says so.
fn bound(options: &Options) -> Option<Us> {
    let is_bound = options.task.only_asks() && options.wait != Us::MAX;
    is_bound.then_some(options.wait)
}

impl Talk {
    pub fn open(server: &str, settings: &client::Options) -> Result<Talk, Failure> {
        let has_secret = settings.secret.is_some();
        let client = Client::connect(server, settings).map_err(|e| match e {
            // The secret is the only thing that it was sent.
            Error::Refused(Refusal::Error) if has_secret => Failure::no_token(server),
            e => failure(server, has_secret, e),
        })?;
        Ok(Talk {
            client,
            server: server.to_string(),
            has_secret,
        })
    }

    /// Asks a question; an error becomes a failure by [`Talk::failure`].
    pub fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        question(&mut self.client).map_err(|e| self.failure(e))
    }

    /// The client, for a step that gives some errors a meaning of their own.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The failure that an error becomes.
    pub fn failure(&self, error: Error) -> Failure {
        failure(&self.server, self.has_secret, error)
    }

    pub fn stats(&mut self) -> Result<Value, Failure> {
        let json = self.ask(Client::stats)?;
        self.json(&json)
    }

    /// What the server has said in JSON.
    pub fn json(&self, json: &str) -> Result<Value, Failure> {
        serde_json::from_str(json)
            .map_err(|_| Failure::not_dflockd(&self.server, "its answer is not JSON"))
    }
}

/// The answers of several servers.
pub struct Answers<'a, T> {
    /// Each with its server, in the order of the list.
    pub given: Vec<(&'a str, T)>,
    /// The status of the first failure, or 0.
    pub status: u8,
}

/// Asks all servers at once. Of each that fails a line on stderr says why.
pub fn ask_all<T: Send + 'static>(
    options: &Options,
    question: impl Fn(&mut Talk) -> Result<T, Failure> + Clone + Send + 'static,
) -> Result<Answers<'_, T>, Failure> {
    if let [server] = &options.servers[..] {
        let given = vec![(server.as_str(), ask_one(options, server, question)?)];
        return Ok(Answers { given, status: 0 });
    }
    let start = sys::now();
    let begin = |server: &String| begin(options, server, question.clone());
    let asked: Vec<_> = options.servers.iter().map(begin).collect();
    let (mut given, mut status) = (Vec::new(), 0);
    for (server, asked) in options.servers.iter().zip(asked) {
        match asked.and_then(|answer| end(options, server, &answer, start)) {
            Ok(answer) => given.push((server.as_str(), answer)),
            Err(failure) => {
                let text = failure.text.unwrap_or_default();
                match text.contains(server.as_str()) {
                    true => say(&text),
                    false => say(&format!("{server}: {text}")),
                }
                if status == 0 {
                    status = failure.status;
                }
            }
        }
    }
    Ok(Answers { given, status })
}

/// Asks this server.
pub fn ask_one<T: Send + 'static>(
    options: &Options,
    server: &str,
    question: impl FnOnce(&mut Talk) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let start = sys::now();
    let answer = begin(options, server, question)?;
    end(options, server, &answer, start)
}

/// Asks in a thread of its own: an answer that comes in many small parts may take longer than `--wait` allows.
fn begin<T: Send + 'static>(
    options: &Options,
    server: &str,
    question: impl FnOnce(&mut Talk) -> Result<T, Failure> + Send + 'static,
) -> Result<Receiver<Result<T, Failure>>, Failure> {
    let (server, settings) = (server.to_string(), settings(options));
    let (told, tells) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let answer = Talk::open(&server, &settings).and_then(|mut talk| question(&mut talk));
        // Nobody may wait for it any more.
        let _ = told.send(answer);
    })?;
    Ok(tells)
}

/// Waits for the answer to what was asked at `start`.
fn end<T>(
    options: &Options,
    server: &str,
    answer: &Receiver<Result<T, Failure>>,
    start: Us,
) -> Result<T, Failure> {
    let late = |_| Err(Failure::cannot_reach(server, "no answer"));
    match bound(options) {
        Some(wait) => {
            // The thread gives up at this moment too, and then it can say what it waited for.
            let until = start.saturating_add(wait).saturating_add(MARGIN);
            let rest = Duration::from_micros(until.saturating_sub(sys::now()));
            answer.recv_timeout(rest).unwrap_or_else(late)
        }
        None => answer.recv().expect("a panic aborts the process"),
    }
}

fn failure(server: &str, has_secret: bool, error: Error) -> Failure {
    match error {
        Error::Refused(refusal) => Failure::refused(server, refusal, has_secret),
        Error::Io(e) => Failure::unreachable(server, &e),
        Error::Tls(e) => Failure::no_tls(server, &e),
        Error::Protocol(what) => Failure::not_dflockd(server, &what),
        error => Failure::new(USAGE, error.to_string()),
    }
}
