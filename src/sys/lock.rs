//! Files that one process at a time may have. Invariant: nobody waits for one.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::check;

/// Takes the file for this value, until it and its copies are closed, and says whether that worked: it does not if
/// another open file has it, in this process or in another; see flock(2). The end of a process, however it comes, closes
/// its files.
///
/// # Errors
/// The filesystem has no locks, or as flock(2) says.
pub fn take(file: &File) -> io::Result<bool> {
    // SAFETY: two integers.
    match check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_until_it_is_closed() {
        let name = format!("dflockd-taken-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let open = || {
            let mut options = File::options();
            options.write(true).create(true).truncate(false);
            options.open(&path).unwrap()
        };
        let (one, other) = (open(), open());
        assert!(take(&one).unwrap() && take(&one).unwrap());
        assert!(!take(&other).unwrap());
        drop(one);
        assert!(take(&other).unwrap());
        std::fs::remove_file(path).unwrap();
    }
}
