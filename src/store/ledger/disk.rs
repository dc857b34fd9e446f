//! The file of a ledger, step by step. Invariant: each step that can fail goes through `run`, where a test lets it fail.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::fault::{Fault, Why};
use super::{APART, Copy, LEN, SIZE};
use crate::store::owner::stranger;
use crate::sys;

/// A file, open and taken.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    file: File,
    /// There was no such file before.
    pub is_new: bool,
    #[cfg(test)]
    pub plan: super::tests::Plan,
}

/// What is done with it.
pub(super) enum Step<'a> {
    /// Fills this from the beginning of the file, and says how much of it the file had.
    Read(&'a mut [u8]),
    /// Writes these bytes at this offset.
    Write(&'a [u8], usize),
    /// Gives it its length.
    Resize,
    /// Waits until its bytes are on the disk; see fdatasync(2).
    Sync,
    /// Waits until its bytes and what is known about it are on the disk; see fsync(2).
    SyncAll,
    /// Waits until its name is on the disk.
    SyncFolder,
}

impl Disk {
    /// Opens the file, or makes an empty one, and takes it.
    pub fn open(path: &Path) -> Result<Disk, Fault> {
        let fault = |why| Fault {
            path: path.to_path_buf(),
            why,
        };
        // To open a device may be to do something with it.
        let about = fs::metadata(path);
        let is_new = matches!(&about, Err(error) if error.kind() == ErrorKind::NotFound);
        if about.is_ok_and(|about| !about.is_file()) {
            return Err(fault(Why::Odd));
        }
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(path);
        let file = file.map_err(|error| fault(Why::System("open", error)))?;
        let folder = path.parent().filter(|folder| *folder != "");
        let folder = folder.unwrap_or(Path::new("."));
        for about in [fs::metadata(folder), file.metadata()] {
            let about = about.map_err(|error| fault(Why::System("read", error)))?;
            if let Some(user) = stranger(&about) {
                return Err(fault(Why::Owner(user)));
            }
        }
        let disk = Disk {
            path: path.to_path_buf(),
            file,
            is_new,
            #[cfg(test)]
            plan: super::tests::Plan::default(),
        };
        match sys::lock::take(&disk.file) {
            Ok(true) => disk.is_in_place().map(|()| disk),
            Ok(false) => Err(fault(Why::Taken)),
            Err(error) => Err(fault(Why::System("lock", error))),
        }
    }

    /// Its number on its filesystem: a copy of it has another one.
    pub fn inode(&self) -> Result<u64, Fault> {
        let about = self.told("read", self.file.metadata())?;
        Ok(about.ino())
    }

    /// What is in the file, and one byte more than should be.
    pub fn read(&mut self) -> Result<Vec<u8>, Fault> {
        let mut content = vec![0; SIZE + 1];
        let read = self.run(Step::Read(&mut content));
        let len = self.told("read", read)?;
        content.truncate(len);
        Ok(content)
    }

    /// Makes it 8 KiB of zeros that have their room on the disk, and their name in the folder.
    pub fn begin(&mut self) -> Result<(), Fault> {
        let mut steps = [
            Step::Write(&[0; SIZE], 0),
            Step::Resize,
            Step::SyncAll,
            Step::SyncFolder,
        ]
        .into_iter();
        let begun = steps.try_for_each(|step| self.run(step).map(drop));
        self.told("make", begun)
    }

    /// Gives a file that has lost its end its length again.
    pub fn resize(&mut self) -> Result<(), Fault> {
        let resized = self.run(Step::Resize);
        self.told("write", resized).map(drop)
    }

    /// Whether the file has these copies, and is still the one at its path.
    pub fn is_as_left(&mut self, copies: &[Copy; 2]) -> Result<(), Fault> {
        self.is_in_place()?;
        let mut content = [0; APART + LEN];
        let read = self.run(Step::Read(&mut content));
        let len = self.told("read", read)?;
        match len == content.len() && super::copies(&content) == *copies {
            true => Ok(()),
            false => Err(self.fault(Why::Changed)),
        }
    }

    /// Writes a copy, and waits until it is on the disk.
    pub fn write(&mut self, copy: &Copy, at: usize) -> Result<(), Fault> {
        let written = self.run(Step::Write(copy, at));
        let synced = written.and_then(|_| self.run(Step::Sync));
        self.told("write", synced).map(drop)
    }

    /// This is wrong with the file.
    pub fn fault(&self, why: Why) -> Fault {
        Fault {
            path: self.path.clone(),
            why,
        }
    }

    fn told<T>(&self, what: &'static str, result: io::Result<T>) -> Result<T, Fault> {
        result.map_err(|error| self.fault(Why::System(what, error)))
    }

    fn is_in_place(&self) -> Result<(), Fault> {
        let own = self.told("read", self.file.metadata())?;
        match fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (own.dev(), own.ino()) => Ok(()),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(self.fault(Why::System("find", error)))
            }
            _ => Err(self.fault(Why::Gone)),
        }
    }

    /// Does one step; what it returns means something for [`Step::Read`] only.
    fn run(&mut self, step: Step<'_>) -> io::Result<usize> {
        #[cfg(test)]
        self.plan.before(&step, &self.file)?;
        let file = &self.file;
        match step {
            Step::Read(into) => return read(file, into),
            Step::Write(bytes, at) => file.write_all_at(bytes, at as u64),
            Step::Resize => file.set_len(SIZE as u64),
            Step::Sync => file.sync_data(),
            Step::SyncAll => file.sync_all(),
            Step::SyncFolder => sync_folder(&self.path),
        }
        .map(|()| 0)
    }
}

fn read(file: &File, into: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < into.len() {
        match file.read_at(&mut into[len..], len as u64) {
            Ok(0) => break,
            Ok(some) => len += some,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    match File::open(folder)?.sync_all() {
        // A few filesystems do not do that for folders, and have nothing to do.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}
