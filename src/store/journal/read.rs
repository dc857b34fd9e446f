//! Whether the segments in a folder are a whole journal. Not here: the meaning of their records, and anything that
//! changes a file. Invariant: whatever bytes lie there, the answer is one of [`Found`], or an error that names the file.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::recovered::Reading;
use super::segment::{self, HEAD, Head, ROOM, SEGMENT, Stamp};
use super::{Fault, Found, Identity, disk};

/// Reads the journal in a folder, if there is one.
///
/// # Errors
/// A file cannot be read, or the journal shows that the ledger is an old one or a copy.
pub fn read(folder: &Path, identity: &Identity) -> Result<Found, Fault> {
    let numbers = match disk::segments(folder) {
        Ok(numbers) => numbers,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Ok(Found::Unusable("it is not a folder".into()));
        }
        Err(error) => return Err(Fault::cannot("read", folder)(error)),
    };
    if numbers.is_empty() {
        return Ok(Found::Nothing);
    }
    let whole = match heads(folder, &numbers, identity)? {
        Ok(chain) => read_records(folder, chain)?,
        Err(why) => Err(why),
    };
    Ok(whole.unwrap_or_else(Found::Unusable))
}

/// Reads the headers of all segments, or says why they are no journal of this identity. A header that shows that the
/// ledger is an old one or a copy is an error even if another segment is missing or damaged.
fn heads(
    folder: &Path,
    numbers: &[u64],
    identity: &Identity,
) -> Result<Result<Vec<Stamp>, String>, Fault> {
    let mut chain = Ok(Vec::new());
    for &number in numbers {
        let path = segment::path(folder, number);
        let (stamp, size) = read_head(&path).map_err(Fault::cannot("read", &path))?;
        if let Some(Head { identity: of, .. }) = stamp.as_ref().map(|stamp| stamp.head)
            && of.ledger == identity.ledger
        {
            if of.epoch > identity.epoch {
                return Err(Fault::later(&path, of.epoch, identity.epoch));
            }
            if of.epoch == identity.epoch && of.boot == identity.boot && of.file != identity.file {
                return Err(Fault::copied(&path));
            }
        }
        chain = chain.and_then(|mut chain: Vec<Stamp>| {
            let stamp = checked(number, stamp, size, identity)?;
            if let Some(last) = chain.last() {
                follows(last, &stamp)?;
            }
            chain.push(stamp);
            Ok(chain)
        });
    }
    if let Ok(stamps) = &chain
        && let Some(last) = stamps.last()
        && last.is_followed
    {
        return Ok(Err(missing(last.head.number.saturating_add(1))));
    }
    Ok(chain)
}

/// Reads the header of a segment, if it is one, and the size of its file.
fn read_head(path: &Path) -> io::Result<(Option<Stamp>, u64)> {
    let mut file = disk::open_to_read(path)?;
    let size = file.metadata()?.len();
    let mut bytes = [0; HEAD];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok((Stamp::read(&bytes), size)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok((None, size)),
        Err(error) => Err(error),
    }
}

/// A segment that may be part of a journal of this identity, or why it is none.
fn checked(
    number: u64,
    stamp: Option<Stamp>,
    size: u64,
    identity: &Identity,
) -> Result<Stamp, String> {
    let Some(stamp) = stamp else {
        return Err(format!("segment {number} has no header of this version"));
    };
    if let Some(foreign) = foreign(&stamp.head.identity, identity) {
        return Err(format!("segment {number} is of {foreign}"));
    }
    if stamp.is_given_up {
        return Err(format!("segment {number} says that it was given up"));
    }
    if stamp.head.number != number {
        let says = stamp.head.number;
        return Err(format!("segment {number} says that it is segment {says}"));
    }
    if size != SEGMENT as u64 || stamp.length > ROOM as u64 {
        let length = stamp.length;
        return Err(format!(
            "segment {number} has {size} bytes, and says that {length} of them are records"
        ));
    }
    Ok(stamp)
}

/// Why a segment of the first identity is none of the second.
fn foreign(theirs: &Identity, ours: &Identity) -> Option<String> {
    if theirs.ledger != ours.ledger {
        return Some("another ledger".into());
    }
    if theirs.epoch != ours.epoch {
        return Some(format!(
            "epoch {}, and the ledger of {}",
            theirs.epoch, ours.epoch
        ));
    }
    if theirs.boot != ours.boot {
        return Some("another boot".into());
    }
    (theirs.time_namespace != ours.time_namespace).then(|| "another time namespace".into())
}

/// Whether the second segment goes on where the first one ends.
fn follows(last: &Stamp, next: &Stamp) -> Result<(), String> {
    let number = last.head.number + 1;
    if next.head.number != number {
        return Err(missing(number));
    }
    if next.head.before != last.length || next.head.opens != last.head.opens {
        return Err(format!(
            "segment {number} does not go on where the one before ends"
        ));
    }
    Ok(())
}

fn missing(number: u64) -> String {
    format!("segment {number} is missing")
}

/// Reads the records of all segments, or says why they are no journal.
fn read_records(folder: &Path, stamps: Vec<Stamp>) -> Result<Result<Found, String>, Fault> {
    let mut reading = Reading::default();
    for stamp in &stamps {
        let number = stamp.head.number;
        let path = segment::path(folder, number);
        let records = records_of(&path, stamp.length).map_err(Fault::cannot("read", &path))?;
        if let Err(at) = reading.add(records, number) {
            let why = format!("segment {number} has no readable record at byte {at} of them");
            return Ok(Err(why));
        }
    }
    let heads: Vec<Head> = stamps.into_iter().map(|stamp| stamp.head).collect();
    Ok(reading.end(heads).map(Found::Whole))
}

fn records_of(path: &Path, length: u64) -> io::Result<Vec<u8>> {
    let mut file = disk::open_to_read(path)?;
    file.seek(SeekFrom::Start(segment::records_at()))?;
    let mut records = Vec::with_capacity(length as usize);
    file.take(length).read_to_end(&mut records)?;
    Ok(records)
}
