//! One server that is asked something, over the client library, and what its refusals and failures read like. Not for
//! who holds a lock, which needs a loop and not a connection that blocks. Invariant: each failure is one line, and who
//! reads it knows which server it was.

use std::io::{self, ErrorKind};
use std::thread;

use serde_json::Value;

use dflockd::client::{self, Client, Error, Servers};
use dflockd::command::Refusal;

use crate::failure::{
    DEADLOCK, Failure, NO_PERMISSION, PROTOCOL, TRY_LATER, UNAVAILABLE, USAGE, say,
};
use crate::options::Options;

/// How a server is called that needs no name.
pub const SERVER: &str = "the server";

/// A connection, whose server has a name.
pub struct Talk {
    client: Client,
    server: String,
    has_secret: bool,
}

/// How every step connects, unless it says whose it is.
pub fn settings(options: &Options) -> client::Options {
    client::Options {
        secret: options.secret.clone(),
        ..client::Options::default()
    }
}

/// The server that has this key, or this channel.
pub fn home(options: &Options, key: &[u8]) -> String {
    let servers = Servers::new(options.servers.clone()).expect("the options have one at least");
    servers.pick(key).to_string()
}

impl Talk {
    pub fn open(server: &str, settings: &client::Options) -> Result<Talk, Failure> {
        let has_secret = settings.secret.is_some();
        let client = Client::connect(server, settings).map_err(|e| match e {
            // Nothing else has been asked that it could refuse.
            Error::Refused(Refusal::Error) if has_secret => no_token(SERVER),
            e => failure(server, has_secret, e),
        })?;
        Ok(Talk {
            client,
            server: server.to_string(),
            has_secret,
        })
    }

    /// Asks something, which fails as [`Talk::failure`] says.
    pub fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        question(&mut self.client).map_err(|e| self.failure(e))
    }

    /// The same for who knows better what some errors mean.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// What becomes of an error here.
    pub fn failure(&self, error: Error) -> Failure {
        failure(&self.server, self.has_secret, error)
    }

    pub fn stats(&mut self) -> Result<Value, Failure> {
        let json = self.ask(Client::stats)?;
        serde_json::from_str(&json).map_err(|_| nonsense(&self.server, "stats that are no JSON"))
    }
}

/// What several servers have answered.
pub struct Answers<'a, T> {
    /// Each with its server, in the order of the list.
    pub given: Vec<(&'a str, T)>,
    /// How it ends: as the first failure says, if there is one.
    pub status: u8,
}

/// Asks all servers at once, and says of each that does not answer why not.
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
        end.map(|end| end.expect("a panic ends us all")).collect()
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
        Error::Refused(refusal) => refused(refusal, has_secret),
        Error::Io(e) => unreachable(server, &e),
        Error::Nonsense(quote) => nonsense(server, &quote),
        error => Failure::new(USAGE, error.to_string()),
    }
}

/// How a refusal ends dflock, here and while it waits for a lock.
pub fn refused(refusal: Refusal, has_secret: bool) -> Failure {
    let (status, text) = match refusal {
        Refusal::Draining => (TRY_LATER, "the server is about to stop"),
        Refusal::MaxWaiters => (TRY_LATER, "too many wait for the key already"),
        Refusal::MaxLocks => (TRY_LATER, "the server has too many keys already"),
        Refusal::LimitMismatch => (USAGE, "others use the key with another --limit"),
        Refusal::Auth => return unwelcome(SERVER, has_secret),
        Refusal::Deadlock => (
            DEADLOCK,
            "deadlock: those who hold the lock wait for what is held here",
        ),
        _ => (PROTOCOL, "the server refused the request"),
    };
    Failure::new(status, text)
}

/// The server wants to hear something, or something else.
pub fn unwelcome(server: &str, has_secret: bool) -> Failure {
    let what = if has_secret { "another" } else { "a" };
    let text = format!("{server} wants {what} token, see --token-file");
    Failure::new(NO_PERMISSION, text)
}

/// It was told a token, and has none.
pub fn no_token(server: &str) -> Failure {
    Failure::new(NO_PERMISSION, format!("{server} wants no token"))
}

/// The server said what is no answer; `quote` is printable.
pub fn nonsense(server: &str, quote: &str) -> Failure {
    Failure::new(PROTOCOL, format!("{server} talks nonsense: {quote}"))
}

pub fn unreachable(server: &str, error: &io::Error) -> Failure {
    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
        // That is this host's want, not the server's.
        return Failure::refused_by_system(error);
    }
    Failure::new(
        UNAVAILABLE,
        format!("cannot reach {server}: {}", reason(error)),
    )
}

/// Why a server was not reached, or a connection was lost.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        // A socket whose time is over says that it would block.
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer".to_string(),
        ErrorKind::UnexpectedEof => "the connection ended".to_string(),
        ErrorKind::NotFound => "it has no address".to_string(),
        _ => error.to_string(),
    }
}
