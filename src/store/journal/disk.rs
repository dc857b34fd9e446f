//! The steps that a journal takes on the disk, a system call or a few each. Not here: in which order, and why.
//! Invariant: besides the memory of a map, these steps are all that changes a file. So a test can let each step fail, or
//! make it the last one of its process.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::segment::{self, SEGMENT};
use crate::sys::map::{self, Map};

/// No link is followed, and no pipe waited for: somebody else may have put it there.
const PLAIN: libc::c_int = libc::O_NOFOLLOW | libc::O_NONBLOCK;

/// Opens a file that may be there, for reading and writing, or makes it.
pub fn make(path: &Path) -> io::Result<File> {
    step()?;
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).custom_flags(PLAIN).open(path)
}

/// The same, empty.
pub fn make_empty(path: &Path) -> io::Result<File> {
    step()?;
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true);
    options.mode(0o600).custom_flags(PLAIN).open(path)
}

/// Opens a file for reading and writing.
pub fn open(path: &Path) -> io::Result<File> {
    step()?;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(PLAIN)
        .open(path)
}

/// Opens a file for reading.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    step()?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(PLAIN)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Gives an empty file the size of a segment, and the room.
pub fn allocate(file: &File) -> io::Result<()> {
    step()?;
    map::allocate(file, SEGMENT)
}

/// Maps a segment.
pub fn map(file: &File) -> io::Result<Map> {
    step()?;
    Map::new(file, SEGMENT)
}

/// Makes a folder for its owner alone, unless it is there.
pub fn make_folder(path: &Path) -> io::Result<()> {
    step()?;
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The numbers of the segments in a folder, in order.
pub fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    step()?;
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(segment::number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Gives a file or a folder another name, where there is no file, or one to be replaced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step()?;
    fs::rename(from, to)
}

/// Removes a file.
pub fn remove(path: &Path) -> io::Result<()> {
    step()?;
    fs::remove_file(path)
}

/// Removes a file, or a folder with all that is in it, if there is one.
pub fn remove_all(path: &Path) -> io::Result<()> {
    step()?;
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Before each step: here a test lets one fail.
#[cfg(not(test))]
#[inline(always)]
fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use super::tests::step;
