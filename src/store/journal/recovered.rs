//! The holds that the records of a journal leave, and the marks of sweeps among those. Not here: files. Invariant: records
//! from before a sweep that has ended are not needed.

use super::segment::{self, Head};
use crate::command::Us;
use crate::facts::{self, Held, Unfit};
use crate::store::history::{History, Holds};

/// The holds that a journal leaves, and what is needed to go on with it.
#[derive(Debug)]
pub struct Recovered {
    /// When the table opens, as the journal was begun with. Before, it grants nothing.
    pub opens: Us,
    /// Greater than each fence that was granted.
    pub first_fence: u64,
    heads: Vec<Head>,
    /// The records of a segment are a part.
    holds: Holds,
    swept: Option<Swept>,
}

/// What the end of a sweep says.
#[derive(Clone, Copy, Debug)]
pub struct Swept {
    /// The segment in which it began.
    pub segment: u64,
    /// How many bytes it stated again.
    pub restated: u64,
}

impl Recovered {
    /// All holds, in the order of their fences.
    pub fn holds(&self) -> impl Iterator<Item = Held<'_>> {
        self.holds.all().map(|found| found.held)
    }

    /// The header of the segment that facts are appended to.
    pub(super) fn last(&self) -> Head {
        *self.heads.last().expect("a journal has a segment")
    }

    /// How many bytes of records that one has.
    pub(super) fn used(&self) -> usize {
        self.holds.parts().last().map_or(0, Vec::len)
    }

    /// The oldest segment.
    pub(super) fn first(&self) -> u64 {
        self.heads[0].number
    }

    /// The last sweep that ended; else as if one had begun with the first segment and had stated nothing again.
    pub(super) fn swept(&self) -> Swept {
        let (segment, restated) = (self.first(), 0);
        self.swept.unwrap_or(Swept { segment, restated })
    }

    /// How many bytes of records there are from a segment on.
    pub(super) fn appended_since(&self, number: u64) -> u64 {
        let segments = self.heads.iter().zip(self.holds.parts());
        let later = segments.filter(|(head, _)| head.number >= number);
        later.map(|(_, records)| records.len() as u64).sum()
    }
}

/// A journal while it is read.
#[derive(Default)]
pub struct Reading {
    history: History,
    swept: Option<Swept>,
}

impl Reading {
    /// Takes the records of the next segment. Returns where one begins that cannot be read, if there is one.
    pub fn add(&mut self, records: Vec<u8>, number: u64) -> Result<(), usize> {
        let mut at = 0;
        while at < records.len() {
            let length = self.add_first(&records[at..], at, number);
            at += length.map_err(|Unfit| at)?;
        }
        self.history.end_part(records);
        Ok(())
    }

    /// Takes the first of these records, which begin at this byte, and returns its length.
    fn add_first(&mut self, records: &[u8], at: usize, number: u64) -> Result<usize, Unfit> {
        let length = facts::record_len(records)?;
        let record = &records[..length];
        match segment::read_mark(record)? {
            Some((segment, restated)) => {
                let former = self.swept.map_or(0, |swept| swept.segment);
                if !(former..=number).contains(&segment) {
                    return Err(Unfit);
                }
                self.swept = Some(Swept { segment, restated });
            }
            None => self.history.add(record, at)?,
        }
        Ok(length)
    }

    /// The holds, when the records of all these segments were taken; or why there may be others.
    pub fn end(self, heads: Vec<Head>) -> Result<Recovered, String> {
        let Head { number, opens, .. } = heads[0];
        if number != 1 && self.swept.is_none_or(|swept| swept.segment < number) {
            return Err(format!(
                "it begins with segment {number}, and no sweep that began there has ended"
            ));
        }
        let floor = heads.iter().map(|head| head.floor).max().unwrap_or(0);
        let holds = self.history.end();
        let Some(first_fence) = holds.last_fence().max(floor).checked_add(1) else {
            return Err("it has the last fence there can be".into());
        };
        Ok(Recovered {
            opens,
            first_fence,
            heads,
            holds,
            swept: self.swept,
        })
    }
}
