//! A segment of a journal, as bytes: its header, and where records are. Not here: which segments there are. Invariant:
//! the offsets are those of the table in the parent's documentation.

use std::path::{Path, PathBuf};

use super::Identity;
use crate::command::Us;
use crate::facts::{self, Unfit};
use crate::sys::map::Map;

/// The bytes of a segment.
pub const SEGMENT: usize = 1024 * 1024;
/// The bytes before its records.
const HEADER: usize = 4096;
/// The bytes that it has for records. No fact is longer than a fifth of that.
pub const ROOM: usize = SEGMENT - HEADER;

/// The bytes of a header up to the end of its last field.
pub const HEAD: usize = LENGTH_AT + 8;

const MAGIC: [u8; 8] = *b"dflockdj";
const VERSION: u64 = 1;
const VERSION_AT: usize = 8;
const LEDGER_AT: usize = 16;
const EPOCH_AT: usize = 32;
const BOOT_AT: usize = 40;
const TIME_NAMESPACE_AT: usize = 56;
const NUMBER_AT: usize = 64;
const OPENS_AT: usize = 72;
const FLOOR_AT: usize = 80;
const BEFORE_AT: usize = 88;
const GIVEN_UP_AT: usize = 96;
const FOLLOWED_AT: usize = 104;
const FILE_AT: usize = 112;
/// In a cache line of its own: it is written with each append.
const LENGTH_AT: usize = 128;

const YES: u64 = 1;

/// The kind of the record that ends a sweep. Facts have kinds below.
const MARK: u8 = 128;
/// The bytes of such a record, and of its length.
const MARK_LEN: usize = 21;
const LEN: usize = 4;

/// What the header of a segment says for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Whose journal it is part of.
    pub identity: Identity,
    /// Which segment it is, from 1.
    pub number: u64,
    /// When the table opens.
    pub opens: Us,
    /// No fence in the segments before is greater.
    pub floor: u64,
    /// How many bytes of records the segment before has.
    pub before: u64,
}

impl Head {
    /// The bytes of a header, of a segment without records.
    pub fn bytes(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        put(0, &MAGIC);
        put(VERSION_AT, &VERSION.to_le_bytes());
        put(LEDGER_AT, &self.identity.ledger);
        put(EPOCH_AT, &self.identity.epoch.to_le_bytes());
        put(BOOT_AT, &self.identity.boot);
        put(
            TIME_NAMESPACE_AT,
            &self.identity.time_namespace.to_le_bytes(),
        );
        put(FILE_AT, &self.identity.file.to_le_bytes());
        put(NUMBER_AT, &self.number.to_le_bytes());
        put(OPENS_AT, &self.opens.to_le_bytes());
        put(FLOOR_AT, &self.floor.to_le_bytes());
        put(BEFORE_AT, &self.before.to_le_bytes());
        bytes
    }
}

/// All that a header says.
pub struct Stamp {
    /// What it says for good.
    pub head: Head,
    /// The journal was given up.
    pub is_given_up: bool,
    /// There is a next segment.
    pub is_followed: bool,
    /// How many bytes of records there are.
    pub length: u64,
}

impl Stamp {
    /// Reads a header. None if it is not one of this version.
    pub fn read(bytes: &[u8; HEAD]) -> Option<Stamp> {
        if bytes[..8] != MAGIC || word(bytes, VERSION_AT) != VERSION {
            return None;
        }
        let identity = Identity {
            ledger: array(bytes, LEDGER_AT),
            epoch: word(bytes, EPOCH_AT),
            boot: array(bytes, BOOT_AT),
            time_namespace: word(bytes, TIME_NAMESPACE_AT),
            file: word(bytes, FILE_AT),
        };
        let head = Head {
            identity,
            number: word(bytes, NUMBER_AT),
            opens: word(bytes, OPENS_AT),
            floor: word(bytes, FLOOR_AT),
            before: word(bytes, BEFORE_AT),
        };
        Some(Stamp {
            head,
            is_given_up: word(bytes, GIVEN_UP_AT) != 0,
            is_followed: word(bytes, FOLLOWED_AT) != 0,
            length: word(bytes, LENGTH_AT),
        })
    }
}

/// Copies records behind those that take `used` bytes. Nobody reads them yet.
#[inline(always)]
pub fn copy_in(map: &mut Map, used: usize, records: &[u8]) {
    map.copy_in(HEADER + used, records);
}

/// From now on records are read up to there.
#[inline(always)]
pub fn publish(map: &mut Map, used: usize) {
    map.publish(LENGTH_AT, (used as u64).to_le());
}

/// From now on a journal without the next segment is not whole.
pub fn follow(map: &mut Map) {
    map.publish(FOLLOWED_AT, YES.to_le());
}

/// From now on the journal is not used any more.
pub fn give_up(map: &mut Map) {
    map.publish(GIVEN_UP_AT, YES.to_le());
}

/// Where the records of a segment begin in its file.
pub fn records_at() -> u64 {
    HEADER as u64
}

/// The file of a segment.
pub fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016x}"))
}

/// The number of the segment that has this name.
pub fn number(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name, 16).ok()?;
    (format!("{number:016x}") == name).then_some(number)
}

/// The record that ends a sweep, which began in this segment and stated so many bytes again.
pub fn mark(segment: u64, restated: u64) -> [u8; MARK_LEN] {
    let mut bytes = [0; MARK_LEN];
    bytes[..LEN].copy_from_slice(&((MARK_LEN - LEN) as u32).to_le_bytes());
    bytes[LEN] = MARK;
    bytes[5..13].copy_from_slice(&segment.to_le_bytes());
    bytes[13..21].copy_from_slice(&restated.to_le_bytes());
    bytes
}

/// The segment and the bytes of [`mark`], if the record is one.
pub fn read_mark(record: &[u8]) -> Result<Option<(u64, u64)>, Unfit> {
    if record[LEN] != MARK {
        return Ok(None);
    }
    let bytes: &[u8; MARK_LEN] = record.try_into().map_err(|_| Unfit)?;
    Ok(Some((word(bytes, 5), word(bytes, 13))))
}

/// As many whole records as fit into `room` bytes, and the others.
pub fn split(records: &[u8], room: usize) -> (&[u8], &[u8]) {
    let mut end = 0;
    while end < records.len() {
        let length = facts::record_len(&records[end..]).expect("facts are whole records");
        assert!(length <= ROOM, "no face takes so long names");
        if end + length > room {
            break;
        }
        end += length;
    }
    records.split_at(end)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let bytes = bytes[at..].first_chunk();
    *bytes.expect("the offsets are within the header and the mark")
}
