//! The secret that a server and its clients share, as a value and as the content of a file. Invariant: a secret is 1 to
//! 65,536 bytes on one line without blanks around it, and no message shows it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;

use crate::wire::text::SECRET_MAX;

/// How much of a file is read: more than a secret and the blanks around it may have.
const FILE_MAX: u64 = 128 * 1024;

/// Why a file brings no secret: one line that names the option or the variable, the path and what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSecret {
    /// The file cannot be read.
    Unread(String),
    /// Its content cannot be a secret.
    Bad(String),
}

/// A secret as it can be said on the line: trimmed, not empty, one line, not over the cap. An error says what is
/// wanted.
pub fn secret(text: &[u8]) -> Result<Vec<u8>, String> {
    let secret = text.trim_ascii();
    if secret.is_empty() || secret.len() > SECRET_MAX || secret.contains(&b'\n') {
        return Err(format!("1 to {SECRET_MAX} bytes on one line"));
    }
    Ok(secret.to_vec())
}

/// Reads the secret from a file; `source` is the option or the variable that named it.
pub fn secret_in(source: &str, path: &OsStr) -> Result<Vec<u8>, NoSecret> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut text));
    read.map_err(|e| {
        let text = format!("{source}: cannot read {path:?}: {e}; want a file with the token");
        NoSecret::Unread(text)
    })?;
    secret(&text).map_err(|want| NoSecret::Bad(format!("{source}: bad file {path:?}: want {want}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_secret_is_told_from_one_that_cannot_be_read() {
        let of = |path: &str| secret_in("--token-file", OsStr::new(path));
        let want = "want 1 to 65536 bytes on one line";
        for path in ["/dev/null", "/dev/zero"] {
            let text = format!("--token-file: bad file {path:?}: {want}");
            assert_eq!(of(path), Err(NoSecret::Bad(text)));
        }
        let Err(NoSecret::Unread(text)) = of("/no/such/file") else {
            panic!("there is no such file");
        };
        assert!(
            text.starts_with("--token-file: cannot read \"/no/such/file\": "),
            "{text}"
        );
        assert!(text.ends_with("; want a file with the token"), "{text}");
    }
}
