//! What can go wrong for a client, and how that reads. Invariant: a message tells the person who wants the lock what
//! happened, and shows no token, even if a server has sent one where none belongs.

use std::{fmt, io};

use crate::command::Refusal;

/// How much of an answer an error quotes, in bytes.
const QUOTE_MAX: usize = 80;
/// Hexadecimal digits of a fence, which are no secret; the digits of a token that follow are.
const FENCE: u32 = 16;
const HIDDEN: u32 = FENCE + 1;

/// What can go wrong. After [`Error::Io`], [`Error::Tls`] and [`Error::Protocol`] the connection is of no use: every
/// further call fails at once, and you have to connect again. After the others it goes on.
#[derive(Debug)]
pub enum Error {
    /// This cannot be a key, and why. Nothing was sent.
    Key(&'static str),
    /// This cannot be a pattern, and why. Nothing was sent.
    Pattern(&'static str),
    /// This cannot be a group, and why. Nothing was sent.
    Group(&'static str),
    /// This cannot be a channel, and why. Nothing was sent.
    Channel(&'static str),
    /// This cannot be a payload, and why. Nothing was sent.
    Payload(&'static str),
    /// This cannot be an owner, and why. Nothing was sent.
    Owner(&'static str),
    /// The connection failed, or no answer came in time. The server may or may not have carried out the request.
    Io(io::Error),
    /// Client and server agree on no TLS.
    Tls(TlsError),
    /// The wait ended without a grant.
    Timeout,
    /// The server refused. [`Refusal::Draining`] and [`Refusal::MaxConnections`] pass by themselves: the server is about
    /// to stop, or has as many connections as it may. It closes the connection with the latter, so every further call
    /// fails with [`Error::Io`]; connect again after a pause, as after the end of a connection.
    Refused(Refusal),
    /// The server sent something that is no answer to this question. The text says what, as in `it answered
    /// "HTTP/1.1"`.
    Protocol(String),
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
            Error::Tls(error) => error.fmt(f),
            Error::Timeout => f.write_str("the wait is over"),
            Error::Refused(refusal) => f.write_str(reason(*refusal)),
            Error::Protocol(what) => write!(f, "the server is not a dflockd server: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match error.downcast() {
            Ok(error) => Error::Tls(error),
            Err(error) => Error::Io(error),
        }
    }
}

/// Why client and server agree on no TLS. To ask again does not help: somebody has to change something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsError {
    /// No authority that this client trusts has signed the server's certificate: give the file of the one that has.
    UnknownIssuer,
    /// The server's certificate is for other names: use one of them in the server's address, or give it as the
    /// server's name.
    WrongName {
        /// The name that it has to be for.
        wanted: String,
        /// The names that it is for.
        names: Vec<String>,
    },
    /// The server's certificate has expired, or the clock of this machine is wrong.
    Expired,
    /// The server's certificate is not valid yet, or the clock of this machine is wrong.
    NotYetValid,
    /// The server's certificate is no good, for this reason.
    Unusable(String),
    /// The server speaks no TLS: connect without, or to another port.
    NoTls,
    /// The server speaks nothing but TLS, and this connection goes without.
    OnlyTls,
    /// The server wants a certificate of the client, and has got none.
    WantsCertificate,
    /// The server does not accept the client's certificate; this is its alert.
    Refused(String),
    /// Anything else.
    Other(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::UnknownIssuer => {
                f.write_str("the server's certificate is signed by no authority that is trusted here")
            }
            TlsError::WrongName { wanted, names } if names.is_empty() => {
                write!(f, "the server's certificate is not for {wanted}, and names no other host")
            }
            TlsError::WrongName { wanted, names } => {
                write!(f, "the server's certificate is not for {wanted}, but for {}", names.join(", "))
            }
            TlsError::Expired => f.write_str(
                "the server's certificate has expired: it has to get another one, unless the clock here is wrong",
            ),
            TlsError::NotYetValid => {
                f.write_str("the server's certificate is not valid yet, unless the clock here is wrong")
            }
            TlsError::Unusable(why) => write!(f, "the server's certificate is no good: {why}"),
            TlsError::NoTls => f.write_str("the server speaks no TLS: connect without TLS"),
            TlsError::OnlyTls => f.write_str("the server speaks TLS only: connect with TLS"),
            TlsError::WantsCertificate => f.write_str("the server wants a certificate of the client"),
            TlsError::Refused(alert) => {
                write!(f, "the server does not accept the client's certificate: {alert}")
            }
            TlsError::Other(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for TlsError {}

impl TlsError {
    /// The one inside an error of a connection, if there is one.
    pub fn within(error: &io::Error) -> Option<&TlsError> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// What a server has done that sent a line which is no answer, for [`Error::Protocol`].
pub fn answered(line: &[u8]) -> String {
    format!("it answered \"{}\"", quote(line))
}

/// The beginning of a line: printable, on one line, and of every possible token only the fence.
fn quote(line: &[u8]) -> String {
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
        Refusal::MaxHolds => "this connection holds as much as it may",
        Refusal::LimitMismatch => "the key has another limit",
        Refusal::AlreadyEnqueued => "this connection is in the queue already",
        Refusal::NotEnqueued => "this connection is not in the queue",
        Refusal::LeaseExpired => "the lease is over",
        Refusal::Auth => "the server wants another secret",
        Refusal::MaxConnections => "the server has as many connections as it may",
        Refusal::Deadlock => "deadlock: the holders of the key wait for a lock that is held here",
        Refusal::Draining => "the server is about to stop",
        Refusal::Quarantine => "the server grants nothing yet",
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
