//! Facts as batches, among which all holds are stated again from time to time, so that the log stays short. Invariant: the
//! batches since the last sweep that has ended began are a whole log.

use super::parts;
use crate::command::Us;
use crate::facts::Facts;
use crate::store::leadership::Batch;
use crate::store::sweep::Sweep;

/// How large a batch may be, and when a sweep is due.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The bytes of a part, unless one record alone has more.
    pub part: usize,
    /// A sweep is due when more than these bytes, and twice those that the last one stated, were kept since that began.
    pub bytes: u64,
    /// It is due as well when there were more batches, each of which a new leader has to read.
    pub batches: u32,
    /// Places that a batch states again beside two for each of its facts, so that a sweep ends soon where little happens.
    pub places: u32,
}

impl Room {
    /// That of etcd, which takes requests of up to 1.5 MiB.
    pub const ETCD: Room = Room {
        part: 512 * 1024,
        bytes: 4 << 20,
        batches: 10_000,
        places: 64,
    };
}

/// Makes the batches of a leader.
pub struct Writer {
    room: Room,
    /// What was kept since the last sweep began.
    bytes: u64,
    batches: u32,
    /// How many bytes the last sweep has stated.
    last: u64,
    sweep: Sweep,
}

impl Writer {
    /// A writer whose log is empty, unless it is told of what was found.
    pub fn new(room: Room) -> Writer {
        Writer {
            room,
            bytes: 0,
            batches: 0,
            last: 0,
            sweep: Sweep::default(),
        }
    }

    /// A part of so many bytes is there already.
    pub fn found(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.batches += 1;
    }

    /// These facts of a table as a batch, at the time `now`; there are `count` of them, and all fences so far are below
    /// `next_fence`. If it is time for that, some holds come behind them: `restate` appends those of so many places, from
    /// one on, and returns the place to go on from; None at the end.
    pub fn batch(
        &mut self,
        facts: &mut Vec<u8>,
        count: u32,
        (next_fence, now): (u64, Us),
        restate: impl FnOnce(u32, u32, &mut Facts) -> Option<u32>,
    ) -> Batch {
        let mut batch = Batch::default();
        self.bytes += facts.len() as u64;
        if !self.sweep.is_under_way() && self.is_sweep_due() {
            (self.bytes, self.batches) = (0, 0);
            self.sweep.begin();
            batch.begins_sweep = true;
        }
        let places = count.saturating_mul(2).saturating_add(self.room.places);
        let (restated, end) = self.sweep.go_on(|from, facts| restate(from, places, facts));
        facts.extend_from_slice(restated);
        if let Some(stated) = end {
            self.last = stated;
            batch.ends_sweep = true;
        }
        batch.parts = parts(facts, next_fence, now, self.room.part);
        self.batches += batch.parts.len() as u32;
        batch
    }

    fn is_sweep_due(&self) -> bool {
        self.bytes > 2 * self.last + self.room.bytes || self.batches > self.room.batches
    }
}
