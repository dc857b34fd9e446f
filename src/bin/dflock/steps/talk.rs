//! A conversation of a step with one server, or with all, over the client library. Not here: holding a lock, which
//! needs an event loop and not a connection that blocks. Invariant: each failure names its server.

use std::thread;

use serde_json::Value;

use dflockd::client::{self, Client, Error};
use dflockd::command::Refusal;

use crate::failure::{Failure, USAGE, say};
use crate::options::Options;

/// A connection to a server.
pub struct Talk {
    client: Client,
    server: String,
    has_secret: bool,
}

/// How a step connects: with the secret, without an owner.
pub fn settings(options: &Options) -> client::Options {
    client::Options {
        secret: options.secret.clone(),
        ..client::Options::default()
    }
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
            .map_err(|_| Failure::not_dflockd(&self.server, "its stats are not JSON"))
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
pub fn ask_all<T: Send>(
    options: &Options,
    question: impl Fn(&mut Talk) -> Result<T, Failure> + Sync,
) -> Result<Answers<'_, T>, Failure> {
    let settings = settings(options);
    let one = |server: &str| Talk::open(server, &settings).and_then(|mut talk| question(&mut talk));
    if let [server] = &options.servers[..] {
        let given = vec![(server.as_str(), one(server)?)];
        return Ok(Answers { given, status: 0 });
    }
    let results: Vec<_> = thread::scope(|scope| {
        let one = &one;
        let begin = |server| scope.spawn(move || one(server));
        let asked: Vec<_> = options.servers.iter().map(|name| begin(name)).collect();
        let end = asked.into_iter().map(|asked| asked.join());
        end.map(|end| end.expect("a panic aborts the process"))
            .collect()
    });
    let (mut given, mut status) = (Vec::new(), 0);
    for (server, result) in options.servers.iter().zip(results) {
        match result {
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

fn failure(server: &str, has_secret: bool, error: Error) -> Failure {
    match error {
        Error::Refused(refusal) => Failure::refused(server, refusal, has_secret),
        Error::Io(e) => Failure::unreachable(server, &e),
        Error::Protocol(what) => Failure::not_dflockd(server, &what),
        error => Failure::new(USAGE, error.to_string()),
    }
}
