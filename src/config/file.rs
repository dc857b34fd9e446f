//! Files that options name: what is in them, and who may read them. Invariant: of a file no more is read than it may have.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

/// The bit of a file's mode that lets every user read it; see inode(7).
const ALL_READ: u32 = 0o004;

/// A file that an option names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path.
    pub path: String,
    /// The option or the variable that has named it, for messages.
    pub from: String,
}

impl File {
    /// The option, variable or credential that has named it, for somebody who looks for it.
    pub(super) fn name(&self) -> String {
        match self.from.as_str() {
            "CREDENTIALS_DIRECTORY" => format!("the credential {:?}", self.path),
            from => from.to_string(),
        }
    }

    /// A warning if every user may read the file.
    pub fn exposure(&self) -> Option<String> {
        exposure(&self.from, &self.path)
    }
}

/// The beginning of a file, up to `most` bytes. With `at_once` only a regular file is read, because any other may have
/// nothing to read yet.
///
/// # Errors
/// It cannot be read.
pub fn content(path: &OsStr, most: u64, at_once: bool) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    options.read(true);
    if at_once {
        options.custom_flags(libc::O_NONBLOCK);
    }
    let file = options.open(path)?;
    if at_once && !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

/// A warning if it is a regular file that every user of the host may read. The folders on the way may still keep them out.
pub(super) fn exposure(from: &str, path: &str) -> Option<String> {
    let data = std::fs::metadata(path);
    let is_open =
        data.is_ok_and(|data| data.is_file() && data.permissions().mode() & ALL_READ != 0);
    is_open.then(|| {
        format!(
            "{from}: every user of this host may read {path:?}: take that right away with chmod o-r"
        )
    })
}
