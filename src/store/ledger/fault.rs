//! What can be wrong with a ledger, in words for whoever starts the server. Invariant: each text names the file, and says
//! what to do unless the system's own words do.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// Why a ledger cannot be used.
#[derive(Debug)]
pub struct Fault {
    pub(super) path: PathBuf,
    pub(super) why: Why,
}

#[derive(Debug)]
pub(super) enum Why {
    /// The system refuses to do this with the file.
    System(&'static str, io::Error),
    /// It is a folder, a device or something else that is no file.
    Odd,
    /// Another process has it.
    Taken,
    /// It, or its folder, belongs to this user.
    Owner(u32),
    /// It is a file of another kind.
    Foreign,
    /// Another version of this program has written it.
    Version(u64),
    /// No copy is whole.
    Damaged,
    /// It is not what this process has written last.
    Changed,
    /// Another file, or none, is at its path.
    Gone,
}

impl Fault {
    /// Whether another process has the ledger.
    pub fn is_taken(&self) -> bool {
        matches!(self.why, Why::Taken)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        let reset = "if no lease from before can still run, begin anew with --reset-state";
        match &self.why {
            Why::System(what, error) => {
                write!(f, "cannot {what} the ledger {path:?}: {error}")?;
                match advice(error.kind()) {
                    Some(advice) => write!(f, ": {advice}"),
                    None => Ok(()),
                }
            }
            Why::Odd => write!(
                f,
                "the ledger {path:?} is not a regular file: move it away, or name another place"
            ),
            Why::Taken => write!(
                f,
                "the ledger {path:?} is in use by another dflockd: stop that one, or name another place"
            ),
            Why::Owner(user) => write!(
                f,
                "the ledger {path:?} or its folder belongs to user {user}: give both to the user of the server, or name another place"
            ),
            Why::Foreign => write!(
                f,
                "{path:?} is not a ledger: name another place, or have the file overwritten with --reset-state"
            ),
            Why::Version(version) => write!(
                f,
                "the ledger {path:?} is of version {version}, and this dflockd knows only version {}: start the dflockd that wrote it; or {reset}",
                super::VERSION
            ),
            Why::Damaged => write!(f, "both copies in the ledger {path:?} are damaged: {reset}"),
            Why::Changed => write!(
                f,
                "the ledger {path:?} was changed by something else than this server: find out what writes to it"
            ),
            Why::Gone => write!(
                f,
                "the ledger {path:?} was removed, replaced or unmounted while the server ran: find out what did that"
            ),
        }
    }
}

impl Error for Fault {}

/// What to do where the system's words do not say it.
fn advice(error: ErrorKind) -> Option<&'static str> {
    match error {
        ErrorKind::NotFound => Some("make its folder, or name another place"),
        ErrorKind::NotADirectory => Some("what should be its folder is a file: name another place"),
        ErrorKind::PermissionDenied => {
            Some("the user of the server must be able to read and write it and its folder")
        }
        ErrorKind::ReadOnlyFilesystem => Some("name a place that can be written to"),
        _ => None,
    }
}
