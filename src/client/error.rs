//! What can go wrong for a client, and how that reads. Invariant: a text says what happened, in words for whoever asked
//! for the lock, and has no token in it but what a server that makes no sense has said.

use std::{fmt, io};

use crate::command::Refusal;

/// What can go wrong. After [`Error::Io`] and [`Error::Nonsense`] the connection is of no use: every further call says
/// so at once, and all that is left is to connect again. After the others it goes on.
#[derive(Debug)]
pub enum Error {
    /// The key cannot be one, and why. Nothing was sent.
    Key(&'static str),
    /// The pattern cannot be one, and why. Nothing was sent.
    Pattern(&'static str),
    /// The group cannot be one, and why. Nothing was sent.
    Group(&'static str),
    /// The channel cannot be one, and why. Nothing was sent.
    Channel(&'static str),
    /// The payload cannot be one, and why. Nothing was sent.
    Payload(&'static str),
    /// The owner cannot be one, and why. Nothing was sent.
    Owner(&'static str),
    /// The connection failed, or no answer came in time. Whether the request was carried out is not known.
    Io(io::Error),
    /// The wait is over, without a grant.
    Timeout,
    /// The server refused.
    Refused(Refusal),
    /// The server said what is no answer to this question; the beginning of that, printable.
    Nonsense(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Key(why)
            | Error::Pattern(why)
            | Error::Group(why)
            | Error::Channel(why)
            | Error::Payload(why)
            | Error::Owner(why) => f.write_str(why),
            Error::Io(error) => error.fmt(f),
            Error::Timeout => f.write_str("the wait is over"),
            Error::Refused(refusal) => f.write_str(reason(*refusal)),
            Error::Nonsense(quote) => write!(f, "the server made no sense: {quote:?}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Error => "the server cannot do that, or the token is not held",
        Refusal::MaxLocks => "the server has no room for another key",
        Refusal::MaxWaiters => "the queue is full",
        Refusal::LimitMismatch => "the key has another limit",
        Refusal::AlreadyEnqueued => "this connection is in the queue already",
        Refusal::NotEnqueued => "this connection is not in the queue",
        Refusal::LeaseExpired => "the lease is over",
        Refusal::Auth => "the server wants another secret",
        Refusal::Deadlock => "those who hold it wait for what is held here",
        Refusal::Draining => "the server is about to stop",
    }
}
