//! The journal: the facts of the lock table, in files that outlive the process. Not here: the meaning of a fact, and the
//! time at which it must be kept. To append is to copy bytes into a map of a file and to store their length there. The
//! kernel has both when the call returns, so `kill -9` takes nothing away. Nothing is synced: a power loss ends the boot,
//! and a journal is good for one boot.
//! Invariant: a journal that [`Journal::find`] calls whole has all facts since it began; or all holds, stated again by a
//! sweep, and all facts since that sweep began. Any other journal is moved aside, and no hold is taken from it.
//!
//! # Files
//!
//! The run directory has `journal.lock`, which the process of the journal has locked, and the folder `journal`. In it are
//! segments, with their numbers as names, in 16 hexadecimal digits. A segment is made as `next`, and gets its name when
//! it has its room and its header. The folder `journal.old` is the last journal that could not be used.
//!
//! A segment has 1,048,576 bytes, all numbers little-endian. The first 4,096 bytes are its header:
//!
//! | at | bytes | what |
//! |---:|---:|---|
//! | 0 | 8 | `dflockdj` |
//! | 8 | 8 | the version, 1 |
//! | 16 | 16 | the id of the ledger |
//! | 32 | 8 | the epoch of the ledger in which the journal began |
//! | 40 | 16 | the id of the boot |
//! | 56 | 8 | the time namespace |
//! | 64 | 8 | the number of the segment, from 1 |
//! | 72 | 8 | when the table opens: it grants nothing before |
//! | 80 | 8 | a fence that is not less than any in the segments before |
//! | 88 | 8 | how many bytes of records the segment before has; 0 in segment 1 |
//! | 96 | 8 | 1 if the journal was given up, else 0 |
//! | 104 | 8 | 1 if there must be a next segment, else 0 |
//! | 112 | 8 | the file of the ledger, as an inode number |
//! | 128 | 8 | how many bytes of records this segment has |
//!
//! All other bytes of the header are zeros. Whole records follow, as [`facts`](crate::facts) has them. A record of one more
//! kind, 128, ends a sweep. It has two numbers of eight bytes: the segment in which the sweep began, and how many bytes
//! it stated again.
//!
//! # Sweeps
//!
//! The table states all its holds again, some at a time, and other facts go on in between. The record that ends the sweep
//! makes the segments from before it useless, and they are dropped, the oldest first.

mod disk;
mod fault;
mod read;
mod recovered;
mod segment;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::command::Us;
use crate::store::owner::stranger;
use crate::sys::{lock, map::Map};
use segment::{Head, ROOM, split};

pub use fault::Fault;
pub use recovered::Recovered;

/// A sweep is due after so many bytes, and twice those that the last one stated again.
const SWEEP_MIN: u64 = 4 * 1024 * 1024;

/// Whose journal it is: no process with another identity may use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The id of the ledger.
    pub ledger: [u8; 16],
    /// The epoch of the ledger.
    pub epoch: u64,
    /// The id of the boot, for which the clock runs.
    pub boot: [u8; 16],
    /// The time namespace, by which the clock is set.
    pub time_namespace: u64,
    /// The file of the ledger: a copy, as a backup is, has another one, and what happened since is not in it.
    pub file: u64,
}

/// What was found in a run directory.
#[derive(Debug)]
pub enum Found {
    /// No journal.
    Nothing,
    /// One that cannot be used, and why. It is `journal.old` now.
    Unusable(String),
    /// This identity's own, without a gap.
    Whole(Recovered),
}

/// The right to the journal of a run directory, which one process has.
#[derive(Debug)]
pub struct Lock {
    run_dir: PathBuf,
    file: File,
}

/// The journal that facts are appended to.
#[derive(Debug)]
pub struct Journal {
    lock: Lock,
    /// The segment that is appended to.
    map: Map,
    /// How many bytes of records it has.
    used: usize,
    /// The header of the segment that is appended to, without its length.
    head: Head,
    /// The greatest fence that was granted, as of the last append.
    floor: u64,
    /// How many bytes were appended before this segment: only differences matter.
    before: u64,
    /// A sweep is due when more than this was appended.
    sweep_due: u64,
    /// The segment in which the sweep under way began, and how much was appended before it.
    sweep: Option<(u64, u64)>,
    /// The oldest segment that is there.
    first: u64,
    /// Older segments than this are not needed.
    needed: u64,
    /// A fact could not be appended, so no other may be.
    has_failed: bool,
    /// Keeps a descriptor for the next segment: clients may have taken all others by then.
    spare: Option<File>,
}

impl Journal {
    /// Whether a run directory has a journal, whosever that is.
    ///
    /// # Errors
    /// Another process has the lock, or it cannot be taken.
    pub fn is_there(run_dir: &Path) -> Result<bool, Fault> {
        let lock = Lock::take(run_dir)?;
        Ok(disk::segments(&lock.folder()).is_ok_and(|numbers| !numbers.is_empty()))
    }

    /// Takes the lock of the run directory and reads its journal. One that cannot be used is moved aside.
    ///
    /// # Errors
    /// Another process has the lock; a file cannot be read or moved; or the journal is of a later epoch than the ledger,
    /// which is an old copy then. A server that starts without a journal gives its ledger the next epoch first, so that
    /// no later start uses what lies here.
    pub fn find(run_dir: &Path, identity: &Identity) -> Result<(Lock, Found), Fault> {
        let lock = Lock::take(run_dir)?;
        let found = read::read(&lock.folder(), identity)?;
        if let Found::Unusable(_) = found {
            lock.set_aside()?;
        }
        Ok((lock, found))
    }

    /// Begins a journal, in place of what is there. Before `opens` its table grants nothing; `floor` is the greatest
    /// fence that may have been granted before.
    ///
    /// # Errors
    /// As for [`Journal::find`].
    pub fn begin(lock: Lock, identity: Identity, opens: Us, floor: u64) -> Result<Journal, Fault> {
        let folder = lock.folder();
        match disk::segments(&folder) {
            Ok(numbers) if numbers.is_empty() => {}
            Ok(_) => lock.set_aside()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Fault::cannot("read", &folder)(error)),
        }
        disk::make_folder(&folder).map_err(Fault::cannot("make the folder", &folder))?;
        let head = Head {
            identity,
            number: 1,
            opens,
            floor,
            before: 0,
        };
        let map = match make(&folder, &head) {
            Ok(map) => map,
            // Perhaps what was moved aside takes the room.
            Err(fault) => {
                let old = lock.old();
                disk::remove_all(&old).map_err(Fault::cannot("remove", &old))?;
                make(&folder, &head).map_err(|_| fault)?
            }
        };
        let spare = lock.spare();
        Ok(Journal {
            lock,
            map,
            used: 0,
            head,
            floor,
            before: 0,
            sweep_due: SWEEP_MIN,
            sweep: None,
            first: 1,
            needed: 1,
            has_failed: false,
            spare,
        })
    }

    /// Appends to the journal that was found.
    ///
    /// # Errors
    /// As for [`Journal::find`].
    pub fn go_on(lock: Lock, recovered: &Recovered) -> Result<Journal, Fault> {
        let head = recovered.last();
        let path = segment::path(&lock.folder(), head.number);
        let map = disk::open(&path).and_then(|file| disk::map(&file));
        let map = map.map_err(Fault::cannot("map", &path))?;
        let (used, swept) = (recovered.used(), recovered.swept());
        let spare = lock.spare();
        Ok(Journal {
            lock,
            map,
            used,
            head,
            floor: recovered.first_fence - 1,
            before: recovered.appended_since(swept.segment) - used as u64,
            sweep_due: due(0, swept.restated),
            sweep: None,
            first: recovered.first(),
            needed: swept.segment.max(recovered.first()),
            has_failed: false,
            spare,
        })
    }

    /// Appends whole records. When this returns they outlive the process. `floor` is the greatest fence that was granted.
    ///
    /// # Errors
    /// There is no next segment. Some of the facts may be in the journal then. No client may be told anything that follows
    /// from these facts unless the journal is abandoned first.
    ///
    /// # Panics
    /// The journal has failed before.
    pub fn append(&mut self, facts: &[u8], floor: u64) -> Result<(), Fault> {
        self.floor = floor;
        if facts.len() > ROOM - self.used {
            return self.append_on(facts);
        }
        self.put(facts);
        Ok(())
    }

    /// Whether enough was appended for a sweep to make the journal shorter, and none is under way.
    #[inline]
    pub fn wants_sweep(&self) -> bool {
        self.appended() > self.sweep_due
    }

    /// From now on the holds are stated again, among other facts.
    pub fn begin_sweep(&mut self) {
        assert!(self.sweep.is_none(), "one sweep at a time");
        self.sweep = Some((self.head.number, self.appended()));
        self.sweep_due = u64::MAX;
    }

    /// All holds were stated again and appended, in so many bytes. Segments from before the sweep are no longer needed.
    ///
    /// # Errors
    /// As for [`Journal::append`].
    pub fn end_sweep(&mut self, restated: u64) -> Result<(), Fault> {
        let (segment, began) = self.sweep.take().expect("a sweep that ends has begun");
        self.append(&segment::mark(segment, restated), self.floor)?;
        self.needed = segment;
        self.sweep_due = due(began, restated);
        Ok(())
    }

    /// Removes the oldest segment if it is not needed.
    ///
    /// # Errors
    /// It cannot be removed. That does no harm, and the next sweep tries again.
    #[inline]
    pub fn drop_one(&mut self) -> Result<(), Fault> {
        match self.first == self.needed {
            true => Ok(()),
            false => self.remove_first(),
        }
    }

    #[cold]
    fn remove_first(&mut self) -> Result<(), Fault> {
        let path = segment::path(&self.lock.folder(), self.first);
        match disk::remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // Without it, a younger one would leave a gap.
                self.needed = self.first;
                Err(Fault::cannot("remove", &path)(error))
            }
            _ => {
                self.first += 1;
                Ok(())
            }
        }
    }

    /// Gives the journal up: no later process uses it, even if this one goes on without it.
    ///
    /// # Errors
    /// It cannot be moved aside. It is marked as given up all the same, so no later process uses it either.
    pub fn abandon(mut self) -> Result<(), Fault> {
        segment::give_up(&mut self.map);
        drop(self.spare.take());
        self.lock.set_aside()?;
        // It may be why the disk is full. What cannot be removed is in nobody's way.
        let _ = disk::remove_all(&self.lock.old());
        Ok(())
    }

    /// Whether its last segment is still where the next process looks for it.
    pub fn is_in_place(&self) -> bool {
        segment::path(&self.lock.folder(), self.head.number).exists()
    }

    /// Somebody has removed it.
    pub fn removed(&self) -> Fault {
        Fault::gone(&self.lock.folder())
    }

    fn appended(&self) -> u64 {
        self.before + self.used as u64
    }

    /// Copies records that fit, then publishes them.
    fn put(&mut self, records: &[u8]) {
        segment::copy_in(&mut self.map, self.used, records);
        self.used += records.len();
        segment::publish(&mut self.map, self.used);
    }

    /// Appends records that do not fit into one segment.
    #[cold]
    fn append_on(&mut self, mut facts: &[u8]) -> Result<(), Fault> {
        assert!(!self.has_failed, "no fact follows one that is missing");
        self.has_failed = true;
        while !facts.is_empty() {
            let (fit, rest) = split(facts, ROOM - self.used);
            self.put(fit);
            facts = rest;
            if !facts.is_empty()
                && let Err(fault) = self.begin_segment()
            {
                // Not even a short fact fits from now on.
                self.used = ROOM;
                return Err(fault);
            }
        }
        self.has_failed = false;
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), Fault> {
        let head = Head {
            number: self.head.number + 1,
            floor: self.floor,
            before: self.used as u64,
            ..self.head
        };
        drop(self.spare.take());
        let next = make(&self.lock.folder(), &head)?;
        self.spare = self.lock.spare();
        segment::follow(&mut self.map);
        self.map = next;
        self.before += head.before;
        (self.head, self.used) = (head, 0);
        Ok(())
    }
}

impl Lock {
    fn take(run_dir: &Path) -> Result<Lock, Fault> {
        own(run_dir)?;
        let path = run_dir.join("journal.lock");
        let file = disk::make(&path).map_err(Fault::cannot("open", &path))?;
        own(&path)?;
        own(&run_dir.join("journal"))?;
        let is_ours = lock::take(&file).map_err(Fault::cannot("lock", &path))?;
        let run_dir = run_dir.into();
        match is_ours {
            true => Ok(Lock { run_dir, file }),
            false => Err(Fault::taken(&path)),
        }
    }

    fn folder(&self) -> PathBuf {
        self.run_dir.join("journal")
    }

    /// Another descriptor, if there is one.
    fn spare(&self) -> Option<File> {
        self.file.try_clone().ok()
    }

    fn old(&self) -> PathBuf {
        self.run_dir.join("journal.old")
    }

    /// The folder is `journal.old` from now on, if there is one.
    fn set_aside(&self) -> Result<(), Fault> {
        let (folder, old) = (self.folder(), self.old());
        disk::remove_all(&old).map_err(Fault::cannot("remove", &old))?;
        match disk::rename(&folder, &old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed.map_err(Fault::cannot("rename to journal.old", &folder)),
        }
    }
}

/// Makes a segment without records.
fn make(folder: &Path, head: &Head) -> Result<Map, Fault> {
    let path = folder.join("next");
    let made = || -> io::Result<Map> {
        let file = disk::make_empty(&path)?;
        disk::allocate(&file)?;
        let mut map = disk::map(&file)?;
        map.copy_in(0, &head.bytes());
        // It is whole when it has its name, and nothing can fail from then on.
        disk::rename(&path, &segment::path(folder, head.number))?;
        Ok(map)
    };
    made().map_err(Fault::cannot("make the segment", &path))
}

/// When a sweep is due after one that began when so much had been appended, and stated so many bytes again.
fn due(began: u64, restated: u64) -> u64 {
    began
        .saturating_add(restated.saturating_mul(2))
        .saturating_add(SWEEP_MIN)
}

/// No other user could have made it, or change it. What is not there is nobody's.
fn own(path: &Path) -> Result<(), Fault> {
    match fs::metadata(path) {
        Ok(about) => match stranger(&about) {
            Some(user) => Err(Fault::foreign(path, user)),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::cannot("read", path)(error)),
    }
}

#[cfg(test)]
mod tests;
