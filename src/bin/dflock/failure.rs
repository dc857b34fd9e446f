//! Why dflock ends, if not with the exit status of its command: statuses, and the messages on stderr. Invariant: a
//! message is one line, and a failure has status 0 only if `-q` or `-E 0` asked for that.

use std::io::{self, ErrorKind, Write};

use dflockd::client::{Refusal, TlsError};
use dflockd::sys::{self, process};

use crate::names::pasted;

/// From sysexits(3).
pub const USAGE: u8 = 64;
pub const UNAVAILABLE: u8 = 69;
pub const OS_ERROR: u8 = 71;
pub const TRY_LATER: u8 = 75;
pub const PROTOCOL: u8 = 76;
pub const NO_PERMISSION: u8 = 77;
/// The lock was lost while the command ran, and it was stopped.
pub const LOST: u8 = 120;
/// The holders of the lock wait for a lock that its owner holds.
pub const DEADLOCK: u8 = 121;
pub const CANNOT_RUN: u8 = 126;
pub const NOT_FOUND: u8 = 127;

/// Why a connection was lost that the server has closed.
pub const ENDED: &str = "the connection ended";

/// An end of dflock without an exit status of the command.
#[derive(Debug)]
pub struct Failure {
    pub status: u8,
    /// The message for stderr, if there is one.
    pub text: Option<String>,
    /// The signal of the terminal that dflock dies of, as if it had not caught it.
    pub signal: Option<i32>,
}

impl Failure {
    /// Ends with this status and says why.
    pub fn new(status: u8, text: impl Into<String>) -> Failure {
        Failure {
            text: Some(text.into()),
            ..Failure::silent(status)
        }
    }

    /// Ends with this status and says nothing.
    pub fn silent(status: u8) -> Failure {
        Failure {
            status,
            text: None,
            signal: None,
        }
    }

    /// The system refused something. The message has a hint if one is known.
    pub fn refused_by_system(error: &io::Error) -> Failure {
        let hint = match error.raw_os_error() {
            Some(libc::EMFILE) => ", see ulimit -n",
            _ => "",
        };
        Failure::new(OS_ERROR, format!("{error}{hint}"))
    }

    /// A signal ends dflock. After ^C dflock must die of the signal: if it merely exits, a shell goes on with its
    /// script.
    pub fn by_signal(number: i32, by_terminal: bool) -> Failure {
        Failure {
            signal: Some(number).filter(|_| by_terminal),
            ..Failure::silent(128 + number as u8)
        }
    }

    /// A server refused the request.
    pub fn refused(server: &str, refusal: Refusal, has_secret: bool) -> Failure {
        let (status, text) = match refusal {
            Refusal::Draining => (TRY_LATER, format!("{server} is about to stop")),
            Refusal::MaxConnections => (
                TRY_LATER,
                format!("{server} has as many connections as it may"),
            ),
            Refusal::MaxHolds => (
                TRY_LATER,
                format!("this connection to {server} holds as much as it may"),
            ),
            Refusal::MaxWaiters => (
                TRY_LATER,
                format!("too many wait for the key at {server} already"),
            ),
            Refusal::MaxLocks => (TRY_LATER, format!("{server} has too many keys already")),
            Refusal::LimitMismatch => return Failure::other_limit(None),
            Refusal::Auth => return Failure::unwelcome(server, has_secret),
            _ => (PROTOCOL, format!("{server} refused the request")),
        };
        Failure::new(status, text)
    }

    /// Others use the semaphore with another limit: this one, if it is known.
    pub fn other_limit(limit: Option<u64>) -> Failure {
        let theirs = match limit {
            Some(limit) => format!("--limit {limit}"),
            None => "another --limit".to_string(),
        };
        Failure::new(USAGE, format!("others use the key with {theirs}"))
    }

    /// The wait for the key could never end. `owner` is None for this connection.
    pub fn deadlock(key: &[u8], owner: Option<&[u8]>) -> Failure {
        let owner = owner.map_or("this connection".to_string(), |owner| {
            format!("the owner {}", pasted(owner))
        });
        let text = format!(
            "deadlock: the holders of {} wait for a lock of {owner}; take several locks in one order everywhere",
            pasted(key)
        );
        Failure::new(DEADLOCK, text)
    }

    /// The server wants a token, or another one.
    pub fn unwelcome(server: &str, has_secret: bool) -> Failure {
        let what = if has_secret { "another" } else { "a" };
        let text = format!("{server} wants {what} token, see --token-file");
        Failure::new(NO_PERMISSION, text)
    }

    /// The server was sent a token and has none.
    pub fn no_token(server: &str) -> Failure {
        Failure::new(
            NO_PERMISSION,
            format!(
                "{server} wants no token: leave out --token-file and DFLOCK_TOKEN_FILE, or check --server"
            ),
        )
    }

    /// The server has sent something that no dflockd sends; `what` says that, and is printable.
    pub fn not_dflockd(server: &str, what: &str) -> Failure {
        Failure::new(
            PROTOCOL,
            format!("{server} is not a dflockd server: {what}"),
        )
    }

    /// The server and dflock agree on no TLS.
    pub fn no_tls(server: &str, error: &TlsError) -> Failure {
        let (status, option) = match error {
            TlsError::WantsCertificate | TlsError::Refused(_) => (NO_PERMISSION, "--tls-cert"),
            TlsError::UnknownIssuer => (PROTOCOL, "--tls-ca"),
            TlsError::WrongName { .. } => (PROTOCOL, "--tls-server-name"),
            _ => (PROTOCOL, "--tls"),
        };
        Failure::new(
            status,
            format!("no TLS with {server}: {error}, see {option}"),
        )
    }

    /// A connection to the server failed with this error.
    pub fn unreachable(server: &str, error: &io::Error) -> Failure {
        if let Some(error) = TlsError::within(error) {
            return Failure::no_tls(server, error);
        }
        if is_own(error) {
            return Failure::refused_by_system(error);
        }
        Failure::cannot_reach(server, &reason(error))
    }

    /// The server is out of reach, for this reason.
    pub fn cannot_reach(server: &str, why: &str) -> Failure {
        Failure::new(UNAVAILABLE, format!("cannot reach {server}: {why}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::refused_by_system(&error)
    }
}

/// Whether a connection failed because this process has no file descriptor left: that is not the server's fault.
pub fn is_own(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Why a server was not reached or a connection was lost, in words.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        // It has a text of ours.
        _ if error.get_ref().is_some() => error.to_string(),
        // A blocking socket reports WouldBlock when its time is over.
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer".to_string(),
        ErrorKind::UnexpectedEof => ENDED.to_string(),
        ErrorKind::NotFound => "it has no address".to_string(),
        _ => error.to_string(),
    }
}

/// The longest line on stderr, in bytes: a pipe that has room takes so much without waiting; see PIPE_BUF in pipe(7).
const LINE_MAX: usize = 4096;

/// Writes a line to stderr, unless that would wait for its reader: a terminal that was stopped with ^S, or a full pipe,
/// must stop neither the renewals of a lock nor the end of dflock. If stderr is closed, the exit status has to do.
pub fn say(text: &str) {
    if !sys::can_log() {
        return;
    }
    // One write, so that the lines of several processes do not mix in one file. From the background of a terminal too:
    // a dflock that stopped there would not renew.
    let mut line = format!("dflock: {text}").into_bytes();
    line.truncate(LINE_MAX - 1);
    line.push(b'\n');
    let _ = process::without_stopping(|| io::stderr().write_all(&line));
}

/// As [`say`]. Its callers hold a lock.
pub fn report(text: &str) {
    say(text);
}

/// As [`say`], but only with `--verbose`.
pub fn tell(verbose: bool, text: &str) {
    if verbose {
        say(text);
    }
}
