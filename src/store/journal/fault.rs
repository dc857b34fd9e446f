//! What can be wrong with a journal, in words for whoever starts the server. Invariant: each text names the file, and says
//! what to do unless the system's own words do.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a journal can be neither used nor begun, or facts not be kept.
#[derive(Debug)]
pub struct Fault {
    path: PathBuf,
    why: Why,
}

#[derive(Debug)]
enum Why {
    /// The system refuses to do this with the file.
    System(&'static str, io::Error),
    /// Another process has it.
    Taken,
    /// The epoch that its journal began in, and that of the ledger, which is earlier.
    Later(u64, u64),
    /// The ledger that it belongs to was another file.
    Copied,
    /// It belongs to this user.
    Foreign(u32),
    /// It is not there any more.
    Gone,
}

impl Fault {
    /// The system refuses to do this with the file, for a reason that it gives.
    pub(super) fn cannot(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Fault {
        move |error| Fault::new(path, Why::System(what, error))
    }

    /// Another process has the lock file.
    pub(super) fn taken(path: &Path) -> Fault {
        Fault::new(path, Why::Taken)
    }

    /// A segment is of a later epoch than the ledger.
    pub(super) fn later(path: &Path, theirs: u64, ours: u64) -> Fault {
        Fault::new(path, Why::Later(theirs, ours))
    }

    /// A segment belongs to another file of the same ledger.
    pub(super) fn copied(path: &Path) -> Fault {
        Fault::new(path, Why::Copied)
    }

    /// It was there, and is not any more.
    pub(super) fn gone(path: &Path) -> Fault {
        Fault::new(path, Why::Gone)
    }

    /// Another user could change it.
    pub(super) fn foreign(path: &Path, user: u32) -> Fault {
        Fault::new(path, Why::Foreign(user))
    }

    fn new(path: &Path, why: Why) -> Fault {
        let path = path.into();
        Fault { path, why }
    }

    /// Whether another process has the journal.
    pub fn is_taken(&self) -> bool {
        matches!(self.why, Why::Taken)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.why {
            Why::System(what, error) => {
                write!(f, "cannot {what} {path:?}: {error}")?;
                match advice(error.kind()) {
                    Some(advice) => write!(f, ": {advice}"),
                    None => Ok(()),
                }
            }
            Why::Taken => write!(
                f,
                "the journal behind {path:?} is in use by another dflockd: stop that one, or name another run directory"
            ),
            Why::Later(theirs, ours) => write!(
                f,
                "{path:?} is of epoch {theirs} of the ledger, which is of epoch {ours}, so an old copy: move the very file back; \
                 or, if no lease from before can still run, remove the folder of the journal"
            ),
            Why::Copied => write!(
                f,
                "{path:?} belongs to another file than the ledger, which is a copy and may be old: move the very file \
                 back; or, if no lease from before can still run, remove the folder of the journal"
            ),
            Why::Gone => write!(
                f,
                "{path:?} was removed while the server ran: find out what did that"
            ),
            Why::Foreign(user) => write!(
                f,
                "{path:?} belongs to user {user}: give it to the user of the server, or name another run directory"
            ),
        }
    }
}

impl Error for Fault {}

/// What to do where the system's words do not say it.
fn advice(error: ErrorKind) -> Option<&'static str> {
    match error {
        ErrorKind::NotFound => Some("make the run directory, or name another one"),
        ErrorKind::NotADirectory => Some("the run directory is a file: name another one"),
        ErrorKind::PermissionDenied => {
            Some("the user of the server must be able to read and write the run directory")
        }
        ErrorKind::ReadOnlyFilesystem => Some("name a run directory that can be written to"),
        ErrorKind::StorageFull => Some("make room for 2 MiB, or name another run directory"),
        _ => None,
    }
}
