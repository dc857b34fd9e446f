//! What dflock prints on stdout: text, bytes that may be no text, and the line that proves a grant. It decides nothing
//! and asks no server. Invariant: a write that fails is never taken for one that went well.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use dflockd::client::{Grant, Token};
use dflockd::wire::text;

use crate::failure::{Failure, OS_ERROR};
use crate::options::Output;

/// Prints a text and is content. To a pipe that nobody reads it ends as SIGPIPE would end it.
pub fn print(text: &str) -> Result<u8, Failure> {
    print_bytes(text.as_bytes())
}

/// The same with what may be no text.
pub fn print_bytes(bytes: &[u8]) -> Result<u8, Failure> {
    // The library's own stream takes a descriptor that cannot be written to for one that is closed, and says that all
    // went well.
    let stdout = io::stdout().lock();
    let file = stdout.as_fd().try_clone_to_owned().map(File::from);
    match file.and_then(|mut file| file.write_all(bytes)) {
        Ok(()) => Ok(0),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => {
            Err(Failure::silent(128 + libc::SIGPIPE as u8))
        }
        Err(e) => Err(Failure::new(OS_ERROR, format!("standard output: {e}"))),
    }
}

/// What proves a grant, in the form that was asked for.
pub fn grant_line(output: Output, grant: &Grant) -> String {
    let (token, fence, seconds) = (
        digits(grant.token),
        grant.token.fence,
        grant.lease.as_secs(),
    );
    match output {
        Output::Plain => format!("{token} {fence} {seconds}\n"),
        Output::Sh => {
            format!("DFLOCK_TOKEN={token}\nDFLOCK_FENCE={fence}\nDFLOCK_LEASE={seconds}\n")
        }
        Output::Json => {
            // Many a reader of JSON takes a number of this size for another one: a string is safe.
            format!("{{\"token\":\"{token}\",\"fence\":\"{fence}\",\"lease\":{seconds}}}\n")
        }
    }
}

/// The token as it is said and printed.
pub fn digits(token: Token) -> String {
    let mut digits = Vec::new();
    text::write_token(token, &mut digits);
    String::from_utf8(digits).expect("hex digits")
}
