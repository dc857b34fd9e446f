//! What can go wrong for a client, and how that reads. Invariant: a text says what happened, in words for whoever asked
//! for the lock, and has no token in it, even if a server that makes no sense has said one.

use std::{fmt, io};

use crate::command::Refusal;

/// How much of nonsense an error quotes, in bytes.
const QUOTE_MAX: usize = 80;
/// Digits of a fence, and where the secret of a token begins.
const FENCE: u32 = 16;
const HIDDEN: u32 = FENCE + 1;

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
    /// The server said what is no answer to this question; the beginning of that, by [`quote`].
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
            Error::Nonsense(quote) => write!(f, "the server talks nonsense: {quote}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

/// The beginning of a line that is no answer: printable, in one line, and of what may be a token only the fence, which
/// is no secret.
pub fn quote(line: &[u8]) -> String {
    let (mut text, mut digits) = (String::new(), 0);
    for &byte in &line[..line.len().min(QUOTE_MAX)] {
        digits = if byte.is_ascii_hexdigit() {
            digits + 1
        } else {
            0
        };
        match digits {
            ..=FENCE => text.extend(byte.escape_ascii().map(char::from)),
            HIDDEN => text.push_str("..."),
            _ => {}
        }
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_printable_and_has_no_token() {
        let token = "18e9eb98d4e91d15c5bb0cdc3986ff01";
        for (line, quoted) in [
            (String::new(), ""),
            ("HTTP/1.1 \u{1b}\r".to_string(), r"HTTP/1.1 \x1b\r"),
            ("say \"x\"".to_string(), r#"say \"x\""#),
            (format!("ok {token} x"), "ok 18e9eb98d4e91d15... x"),
            (format!("ok {}", &token[..17]), "ok 18e9eb98d4e91d15..."),
            (format!("ok {}", &token[..16]), "ok 18e9eb98d4e91d15"),
            (token.to_uppercase(), "18E9EB98D4E91D15..."),
        ] {
            assert_eq!(quote(line.as_bytes()), quoted);
        }
        assert_eq!(quote(&[b'x'; 81]), "x".repeat(80));
    }
}
