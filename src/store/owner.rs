//! Whose a file or a folder is. Another user who can change it could make locks appear and vanish. Invariant: only files of
//! this process's user, or of root's, are trusted.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use crate::sys;

/// The user that this belongs to, if that is neither this process's nor root.
pub(super) fn stranger(about: &Metadata) -> Option<u32> {
    Some(about.uid()).filter(|&user| user != 0 && user != sys::user())
}
