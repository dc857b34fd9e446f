//! Writing to stdout: text, bytes, and the line that proves a grant. Invariant: a write that fails is never taken for
//! one that went well.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use dflockd::client::{Grant, Token};
use dflockd::sys;
use dflockd::wire::text;

use crate::failure::{Failure, OS_ERROR};
use crate::options::Output;

/// Prints a text; status 0. If the pipe has no reader, dflock ends as SIGPIPE would end it.
pub fn print(text: &str) -> Result<u8, Failure> {
    print_bytes(text.as_bytes())
}

/// As `print`, for bytes that may be no text.
pub fn print_bytes(bytes: &[u8]) -> Result<u8, Failure> {
    if sys::was_stdout_closed() && !bytes.is_empty() {
        return Err(Failure::new(OS_ERROR, "standard output: it is closed"));
    }
    // std's own stream ignores EBADF, and so takes a descriptor that is open for reading for a closed one.
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

/// The line that proves a grant, in the form that `-o` asked for.
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
            // Many JSON readers round a number of this size, so the fence is a string.
            format!("{{\"token\":\"{token}\",\"fence\":\"{fence}\",\"lease\":{seconds}}}\n")
        }
    }
}

/// The 32 digits of a token.
pub fn digits(token: Token) -> String {
    let mut digits = Vec::new();
    text::write_token(token, &mut digits);
    String::from_utf8(digits).expect("hex digits")
}
