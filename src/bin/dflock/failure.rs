//! The ends of dflock that are not its command's: exit statuses and what is said on stderr. One line each; invariant:
//! a failure has never status 0, unless that was asked for.

use std::io::{self, Write};

/// sysexits(3).
pub const USAGE: u8 = 64;
pub const UNAVAILABLE: u8 = 69;
pub const OS_ERROR: u8 = 71;
pub const TRY_LATER: u8 = 75;
pub const PROTOCOL: u8 = 76;
pub const NO_PERMISSION: u8 = 77;
/// The lock was lost while the command ran, and it was stopped.
pub const LOST: u8 = 120;
pub const CANNOT_RUN: u8 = 126;
pub const NOT_FOUND: u8 = 127;

/// Why there is no command's exit status to hand on.
#[derive(Debug)]
pub struct Failure {
    pub status: u8,
    /// What to say on stderr, if anything.
    pub text: Option<String>,
}

impl Failure {
    /// Ends with this status and says why.
    pub fn new(status: u8, text: impl Into<String>) -> Failure {
        let text = Some(text.into());
        Failure { status, text }
    }

    /// Ends with this status and says nothing.
    pub fn silent(status: u8) -> Failure {
        Failure { status, text: None }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::new(OS_ERROR, error.to_string())
    }
}

/// Says something on stderr; if that is closed nobody is left to be told.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "dflock: {text}");
}
