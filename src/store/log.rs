//! Batches of facts as bytes, for a store that survives the machine, and the holds that a log of them leaves. The clocks of
//! two machines have nothing in common, so each batch has the time of its leader, and whoever reads it counts from there.
//! Invariant: a hold never ends earlier than its clients were promised. It may end later: by as much as has passed since
//! its end was stated last.
//!
//! A batch is a byte for the version, the next fence, the time of the leader in microseconds, and records of facts. Numbers
//! are little-endian.

mod writer;

use std::collections::VecDeque;
use std::fmt;

use super::history::{History, Holds};
use crate::command::Us;
use crate::facts::{self, Held, Renews, Unfit};

pub use writer::{Room, Writer};

const VERSION: u8 = 1;
/// The bytes before the records.
const HEADER: usize = 17;

/// No server comes to a greater next fence: they begin with the nanoseconds since 1970.
const FENCE_MAX: u64 = u64::MAX / 2;

/// Why a log cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A server of a later version has written this batch.
    Newer(u64, u8),
    /// This batch is damaged.
    Damaged(u64),
    /// A batch tells of a fence that is not below the next one of any batch.
    LastFence,
}

/// Facts as parts of a batch, one at least, each of `room` bytes unless one record alone has more. All fences so far are
/// below `next_fence`, and the leader's clock shows `clock`.
fn parts(mut facts: &[u8], next_fence: u64, clock: Us, room: usize) -> VecDeque<Vec<u8>> {
    let mut parts = VecDeque::new();
    while parts.is_empty() || !facts.is_empty() {
        let (records, rest) = facts.split_at(whole(facts, room));
        let mut part = Vec::with_capacity(HEADER + records.len());
        part.push(VERSION);
        part.extend_from_slice(&next_fence.to_le_bytes());
        part.extend_from_slice(&clock.to_le_bytes());
        part.extend_from_slice(records);
        parts.push_back(part);
        facts = rest;
    }
    parts
}

/// How many bytes of whole records fit into a part of `room` bytes.
fn whole(facts: &[u8], room: usize) -> usize {
    let mut at = 0;
    while at < facts.len() {
        let length = facts::record_len(&facts[at..]).expect("facts are whole records");
        if at > 0 && HEADER + at + length > room {
            break;
        }
        at += length;
    }
    at
}

/// A log while it is read.
#[derive(Default)]
pub struct Log {
    history: History,
    /// The time of the leader, by batch.
    clocks: Vec<Us>,
    next_fence: u64,
}

/// What a log leaves.
#[derive(Debug)]
pub struct Left {
    /// Greater than each fence that was granted; 0 if nobody has ever led.
    pub next_fence: u64,
    holds: Holds,
    clocks: Vec<Us>,
}

impl Log {
    /// Takes the batch of this number.
    ///
    /// # Errors
    /// It is none that this version can read.
    pub fn add(&mut self, number: u64, batch: Vec<u8>) -> Result<(), Fault> {
        let damaged = Fault::Damaged(number);
        match batch.first() {
            Some(&version) if version > VERSION => return Err(Fault::Newer(number, version)),
            Some(&VERSION) => {}
            _ => return Err(damaged),
        }
        let word = |at: usize| {
            batch
                .get(at..)?
                .first_chunk()
                .map(|&bytes| u64::from_le_bytes(bytes))
        };
        let (next_fence, clock) = word(1).zip(word(9)).ok_or(damaged)?;
        if next_fence > FENCE_MAX {
            return Err(damaged);
        }
        let mut at = HEADER;
        while at < batch.len() {
            at += self.add_record(&batch[at..], at).map_err(|Unfit| damaged)?;
        }
        self.next_fence = self.next_fence.max(next_fence);
        self.clocks.push(clock);
        self.history.end_part(batch);
        Ok(())
    }

    fn add_record(&mut self, rest: &[u8], at: usize) -> Result<usize, Unfit> {
        let length = facts::record_len(rest)?;
        self.history.add(&rest[..length], at)?;
        Ok(length)
    }

    /// What all batches leave.
    ///
    /// # Errors
    /// The log has a fence that is not below its next one.
    pub fn end(self) -> Result<Left, Fault> {
        let holds = self.history.end();
        if holds.last_fence() >= self.next_fence.max(1) {
            return Err(Fault::LastFence);
        }
        Ok(Left {
            next_fence: self.next_fence,
            holds,
            clocks: self.clocks,
        })
    }
}

impl Left {
    /// All holds in the order of their fences, by a clock that shows `now`.
    pub fn holds(&self, now: Us) -> impl Iterator<Item = Held<'_>> {
        self.holds.all().map(move |found| {
            let mut held = found.held;
            let stated = self.clocks[found.stated];
            held.end = shifted(held.end, self.clocks[found.ends], now);
            held.since = shifted(held.since, stated, now);
            held.renews = held.renews.map(|renews| Renews {
                until: shifted(renews.until, stated, now),
                ..renews
            });
            held
        })
    }
}

/// A time by another clock.
fn shifted(time: Us, from: Us, to: Us) -> Us {
    match time >= from {
        true => to.saturating_add(time - from),
        false => to.saturating_sub(from - time),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Fault::Newer(number, version) => write!(
                f,
                "batch {number:016x} has version {version}, and this server knows version {VERSION}: start the server that \
                 wrote it, or one that is newer"
            ),
            Fault::Damaged(number) => write!(
                f,
                "batch {number:016x} is damaged: if no lease can still run, remove all keys below the prefix from etcd"
            ),
            Fault::LastFence => {
                f.write_str("the log has fences that are greater than its next one")
            }
        }
    }
}

#[cfg(test)]
mod tests;
