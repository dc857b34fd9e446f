//! The ledger: four words in a file that survive a loss of power. Not here: what the words mean for locks. Invariant: once
//! a record is written, every later start finds it or a later one, or says that it cannot know.
//!
//! The file has 8 KiB, and the record in it twice, at 0 and at 4096. A write goes to the first copy, waits for the disk,
//! and does the same with the second: one of them is whole at any time. The file is written in place, so that a full disk
//! does no harm, and never renamed, so that flock(2) keeps others away. A copy has 64 bytes, all numbers little-endian:
//!
//! | at | bytes | what |
//! |---:|---:|---|
//! | 0 | 8 | `d-ledger` |
//! | 8 | 8 | the version, 1 |
//! | 16 | 16 | the id |
//! | 32 | 8 | the epoch |
//! | 40 | 8 | the ceiling |
//! | 48 | 8 | the longest lease, in microseconds |
//! | 56 | 8 | SipHash-1-3 of the bytes before, without a key |

mod disk;
mod fault;

use std::hash::Hasher;
use std::path::Path;

use siphasher::sip::SipHasher13;

use crate::command::Us;
use disk::Disk;
pub use fault::Fault;
use fault::Why;

/// The length of the file.
const SIZE: usize = 8192;
/// How far the copies are apart: no disk writes so much at once that both could be torn.
const APART: usize = 4096;
/// The length of a copy.
const LEN: usize = 64;
const MAGIC: [u8; 8] = *b"d-ledger";
const VERSION: u64 = 1;

/// What a ledger says.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Record {
    /// Names the ledger among all others.
    pub id: [u8; 16],
    /// Which of its journals is the last one.
    pub epoch: u64,
    /// The first fence that is not reserved yet.
    pub ceiling: u64,
    /// No lease that is out is longer, in microseconds.
    pub longest: Us,
}

/// A ledger that this process alone may write.
#[derive(Debug)]
pub struct Ledger {
    disk: Disk,
    record: Record,
    /// What the file has, as far as this process knows.
    copies: [Copy; 2],
    /// The file is something else until the first record is written.
    is_reset: bool,
}

type Copy = [u8; LEN];

/// What [`Ledger::open`] has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// No ledger: it was made just now.
    New,
    /// A file without a record: the very first start was cut short, or the file has lost what it had.
    Empty,
    /// A ledger with this record.
    Kept(Record),
    /// Something that is overwritten, because that was asked for.
    Reset,
}

impl Ledger {
    /// Opens the file, makes it if there is none, and takes it for this process. If it cannot be used, `reset` begins it
    /// anew. A record that it finds is on the disk twice when this returns.
    ///
    /// # Errors
    /// See [`Fault`]. What is there is then as it was, unless the disk failed.
    pub fn open(path: &Path, reset: bool) -> Result<(Ledger, Found), Fault> {
        Ledger::open_on(Disk::open(path)?, reset)
    }

    fn open_on(mut disk: Disk, reset: bool) -> Result<(Ledger, Found), Fault> {
        let content = disk.read()?;
        let found = match judge(&content) {
            Ok(Some(record)) => Found::Kept(record),
            Ok(None) if disk.is_new => Found::New,
            Ok(None) => Found::Empty,
            Err(_) if reset => Found::Reset,
            Err(why) => return Err(disk.fault(why)),
        };
        let mut ledger = Ledger {
            disk,
            record: Record::default(),
            copies: copies(&content),
            is_reset: false,
        };
        match found {
            Found::Kept(record) => ledger.adopt(record)?,
            Found::New | Found::Empty => {
                ledger.disk.begin()?;
                ledger.copies = [[0; LEN]; 2];
            }
            // It stays as it is until there is a record: a start that fails before has changed nothing.
            Found::Reset => ledger.is_reset = true,
        }
        Ok((ledger, found))
    }

    /// Writes a record that was found again, unless both copies have it. The process that wrote it may have ended before
    /// the disk had it. A copy that is whole is not touched before the other one is.
    fn adopt(&mut self, record: Record) -> Result<(), Fault> {
        self.record = record;
        let copy = record.encoded();
        if self.copies == [copy; 2] {
            return Ok(());
        }
        let is_first_whole = Record::decode(&self.copies[0]).is_ok();
        let order = if is_first_whole { [1, 0] } else { [0, 1] };
        self.disk.resize()?;
        self.put(copy, order)
    }

    /// The number of the file on its filesystem. A copy of the ledger has the same id, and another number.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn inode(&self) -> Result<u64, Fault> {
        self.disk.inode()
    }

    /// The record that was written or found last; all zeros if there was none.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Writes a record; when this returns it is on the disk twice.
    ///
    /// # Errors
    /// Somebody else has written to the file, or it is not at its path any more, and nothing is written; or the disk
    /// fails, and either record may be there.
    ///
    /// # Panics
    /// Epoch or ceiling would fall.
    pub fn write(&mut self, record: Record) -> Result<(), Fault> {
        let last = &self.record;
        assert!(record.epoch >= last.epoch && record.ceiling >= last.ceiling);
        match self.is_reset {
            true => self.disk.resize()?,
            false => self.disk.is_as_left(&self.copies)?,
        }
        self.put(record.encoded(), [0, 1])?;
        self.is_reset = false;
        self.record = record;
        Ok(())
    }

    fn put(&mut self, copy: Copy, order: [usize; 2]) -> Result<(), Fault> {
        for at in order {
            self.disk.write(&copy, at * APART)?;
            self.copies[at] = copy;
        }
        Ok(())
    }
}

impl Record {
    /// A record that has more here is safe where another one may be the true one.
    fn promises(&self) -> (u64, u64, Us) {
        (self.epoch, self.ceiling, self.longest)
    }

    fn encoded(&self) -> Copy {
        let mut copy = [0; LEN];
        copy[..8].copy_from_slice(&MAGIC);
        copy[8..16].copy_from_slice(&VERSION.to_le_bytes());
        copy[16..32].copy_from_slice(&self.id);
        copy[32..40].copy_from_slice(&self.epoch.to_le_bytes());
        copy[40..48].copy_from_slice(&self.ceiling.to_le_bytes());
        copy[48..56].copy_from_slice(&self.longest.to_le_bytes());
        let sum = sum(&copy);
        copy[56..].copy_from_slice(&sum.to_le_bytes());
        copy
    }

    fn decode(copy: &Copy) -> Result<Record, Why> {
        if copy[..8] != MAGIC {
            return Err(Why::Foreign);
        }
        match word(copy, 8) {
            VERSION if word(copy, 56) == sum(copy) => Ok(Record {
                id: copy[16..32].try_into().expect("16 bytes"),
                epoch: word(copy, 32),
                ceiling: word(copy, 40),
                longest: word(copy, 48),
            }),
            VERSION => Err(Why::Damaged),
            version => Err(Why::Version(version)),
        }
    }
}

/// The sum of the bytes before it.
fn sum(copy: &Copy) -> u64 {
    let mut hash = SipHasher13::new();
    hash.write(&copy[..56]);
    hash.finish()
}

fn word(copy: &Copy, at: usize) -> u64 {
    u64::from_le_bytes(copy[at..at + 8].try_into().expect("eight bytes"))
}

/// The copies in a file; what it lacks is zeros.
fn copies(content: &[u8]) -> [Copy; 2] {
    [0, APART].map(|at| {
        let mut copy = [0; LEN];
        let there = content.get(at..).unwrap_or_default();
        let len = there.len().min(LEN);
        copy[..len].copy_from_slice(&there[..len]);
        copy
    })
}

/// The record in a file, if one was ever written to it.
fn judge(content: &[u8]) -> Result<Option<Record>, Why> {
    let [first, second] = copies(content).map(|copy| Record::decode(&copy));
    match (first, second) {
        // The first is written first. If it is the older one nevertheless, the disk has lost it. Of two records of one
        // epoch the one with the longer lease is safe, whichever is the older one.
        (Ok(first), Ok(second)) if first.id == second.id => {
            Ok(Some(if second.promises() > first.promises() {
                second
            } else {
                first
            }))
        }
        (Ok(record), Err(_)) | (Err(_), Ok(record)) => Ok(Some(record)),
        (Err(_), Err(_)) if is_unfinished(content) => Ok(None),
        (Err(Why::Version(first)), Err(Why::Version(second))) if first == second => {
            Err(Why::Version(first))
        }
        (Err(Why::Foreign), Err(Why::Foreign)) => Err(Why::Foreign),
        _ => Err(Why::Damaged),
    }
}

/// Whether a file is what [`Disk::begin`] and the first write may leave behind when they are interrupted: zeros, and
/// perhaps the beginning of a first copy.
fn is_unfinished(content: &[u8]) -> bool {
    let is_zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
    if content.len() < SIZE {
        return is_zero(content);
    }
    let (copy, rest) = content.split_at(LEN);
    let torn = copy.iter().rposition(|&byte| byte != 0);
    let torn = torn.map_or(0, |last| last + 1).min(MAGIC.len());
    content.len() == SIZE && copy[..torn] == MAGIC[..torn] && is_zero(rest)
}

#[cfg(test)]
mod tests;
