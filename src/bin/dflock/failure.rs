//! The ends of dflock that are not its command's: exit statuses and what is said on stderr. One line each; invariant:
//! a failure has never status 0, unless that was asked for.

use std::io::{self, ErrorKind, Write};

use dflockd::client::Refusal;
use dflockd::sys;

/// sysexits(3).
pub const USAGE: u8 = 64;
pub const UNAVAILABLE: u8 = 69;
pub const OS_ERROR: u8 = 71;
pub const TRY_LATER: u8 = 75;
pub const PROTOCOL: u8 = 76;
pub const NO_PERMISSION: u8 = 77;
/// The lock was lost while the command ran, and it was stopped.
pub const LOST: u8 = 120;
/// Those who hold the lock wait for what its owner holds.
pub const DEADLOCK: u8 = 121;
pub const CANNOT_RUN: u8 = 126;
pub const NOT_FOUND: u8 = 127;

/// How a server is called that needs no name.
pub const SERVER: &str = "the server";

/// Why there is no command's exit status to hand on.
#[derive(Debug)]
pub struct Failure {
    pub status: u8,
    /// What to say on stderr, if anything.
    pub text: Option<String>,
    /// The terminal's signal of which to die, as if we had not caught it.
    pub signal: Option<i32>,
    /// All of our group has to hear of it too: the terminal has told the command alone.
    pub for_all: bool,
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
            for_all: false,
        }
    }

    /// The system refused something; says so, and what helps if that is known.
    pub fn refused_by_system(error: &io::Error) -> Failure {
        let hint = match error.raw_os_error() {
            Some(libc::EMFILE) => ", see ulimit -n",
            _ => "",
        };
        Failure::new(OS_ERROR, format!("{error}{hint}"))
    }

    /// A signal ends us. A shell goes on with its script when we merely exit, which is not what who has pressed ^C wants.
    pub fn by_signal(number: i32, by_terminal: bool) -> Failure {
        Failure {
            signal: Some(number).filter(|_| by_terminal),
            ..Failure::silent(128 + number as u8)
        }
    }

    /// How a refusal of a server ends dflock, here and while it waits for a lock.
    pub fn refused(refusal: Refusal, has_secret: bool) -> Failure {
        let (status, text) = match refusal {
            Refusal::Draining => (TRY_LATER, "the server is about to stop"),
            Refusal::MaxWaiters => (TRY_LATER, "too many wait for the key already"),
            Refusal::MaxLocks => (TRY_LATER, "the server has too many keys already"),
            Refusal::LimitMismatch => (USAGE, "others use the key with another --limit"),
            Refusal::Auth => return Failure::unwelcome(SERVER, has_secret),
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

    /// A connection to the server failed.
    pub fn unreachable(server: &str, error: &io::Error) -> Failure {
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

/// Whether a connection failed for want of something that this host lacks, and not the server.
pub fn is_own(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
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

/// Says something on stderr; if that is closed nobody is left to be told.
pub fn say(text: &str) {
    // One write: many may share one file.
    let _ = io::stderr().write_all(format!("dflock: {text}\n").as_bytes());
}

/// Says what happens, unless nobody reads it: who holds a lock waits for no reader.
pub fn report(text: &str) {
    if sys::can_log() {
        say(text);
    }
}

/// Says what happens, if that was asked for.
pub fn tell(verbose: bool, text: &str) {
    if verbose {
        report(text);
    }
}
