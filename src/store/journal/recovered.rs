//! The holds that the records of a journal leave. Not here: files. Invariant: a hold is as its last `Held` says, with the
//! end that the last `Renewed` behind it gives. A hold with an `Ended` behind its last `Held` is not there.

use super::segment::{self, Head};
use crate::command::Us;
use crate::facts::{self, Fact, Held, Unfit};

/// The holds that a journal leaves, and what is needed to go on with it.
#[derive(Debug)]
pub struct Recovered {
    /// When the table opens, as the journal was begun with. Before, it grants nothing.
    pub opens: Us,
    /// Greater than each fence that was granted.
    pub first_fence: u64,
    heads: Vec<Head>,
    /// Those of each segment.
    records: Vec<Vec<u8>>,
    places: Vec<Place>,
    swept: Option<Swept>,
}

/// A hold: where it is stated last, and where its last renewal since then is.
#[derive(Clone, Copy, Debug)]
struct Place {
    held: Spot,
    renewed: Option<Spot>,
}

/// Where a record is, and of which kind: its segment, from 0, in the upper half; then its byte, above two bits for the
/// kind. The later it was appended, the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Spot(u64);

const HELD: u64 = 0;
const RENEWED: u64 = 1;
const ENDED: u64 = 2;

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
        self.places.iter().map(|place| {
            let Fact::Held(held) = place.held.read(&self.records) else {
                unreachable!("a spot has the kind of its record");
            };
            match place.renewed.map(|spot| spot.read(&self.records)) {
                Some(Fact::Renewed { end, .. }) => Held {
                    end,
                    told: true,
                    ..held
                },
                _ => held,
            }
        })
    }

    /// The header of the segment that facts are appended to.
    pub(super) fn last(&self) -> Head {
        *self.heads.last().expect("a journal has a segment")
    }

    /// How many bytes of records that one has.
    pub(super) fn used(&self) -> usize {
        self.records.last().map_or(0, Vec::len)
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
        let segments = self.heads.iter().zip(&self.records);
        let later = segments.filter(|(head, _)| head.number >= number);
        later.map(|(_, records)| records.len() as u64).sum()
    }
}

/// A journal while it is read. Facts are sorted in the end: to look each fence up in a hash table took twice as long.
#[derive(Default)]
pub struct Reading {
    records: Vec<Vec<u8>>,
    /// The fence of its hold, and its record, for each fact.
    facts: Vec<(u64, Spot)>,
    last_fence: u64,
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
        self.records.push(records);
        Ok(())
    }

    /// Takes the first of these records, which begin at this byte, and returns its length.
    fn add_first(&mut self, records: &[u8], at: usize, number: u64) -> Result<usize, Unfit> {
        let length = facts::record_len(records)?;
        let record = &records[..length];
        if let Some((segment, restated)) = segment::read_mark(record)? {
            let former = self.swept.map_or(0, |swept| swept.segment);
            if !(former..=number).contains(&segment) {
                return Err(Unfit);
            }
            self.swept = Some(Swept { segment, restated });
            return Ok(length);
        }
        let (fence, kind) = match Fact::read(record)? {
            Fact::Held(held) => (held.token.fence, HELD),
            Fact::Renewed { fence, .. } => (fence, RENEWED),
            Fact::Ended { fence } => (fence, ENDED),
        };
        let spot = Spot::new(self.records.len(), at, kind);
        self.facts.push((fence, spot));
        self.last_fence = self.last_fence.max(fence);
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
        let Some(first_fence) = self.last_fence.max(floor).checked_add(1) else {
            return Err("it has the last fence there can be".into());
        };
        Ok(Recovered {
            opens,
            first_fence,
            heads,
            places: places(self.facts),
            records: self.records,
            swept: self.swept,
        })
    }
}

/// The holds in the order of their fences.
fn places(mut facts: Vec<(u64, Spot)>) -> Vec<Place> {
    facts.sort_unstable();
    let holds = facts.chunk_by(|(fence, _), (next, _)| fence == next);
    let places = holds.filter_map(|facts| {
        let mut place: Option<Place> = None;
        for &(_, spot) in facts {
            match (spot.kind(), &mut place) {
                (HELD, _) => {
                    let (held, renewed) = (spot, None);
                    place = Some(Place { held, renewed });
                }
                (RENEWED, Some(place)) => place.renewed = Some(spot),
                (RENEWED, None) => {}
                _ => place = None,
            }
        }
        place
    });
    places.collect()
}

impl Spot {
    fn new(segment: usize, at: usize, kind: u64) -> Spot {
        Spot((segment as u64) << 32 | (at as u64) << 2 | kind)
    }

    fn kind(self) -> u64 {
        self.0 & 3
    }

    /// The fact, from the records of all segments.
    fn read(self, records: &[Vec<u8>]) -> Fact<'_> {
        let (segment, at) = (self.0 >> 32, self.0 as u32 >> 2);
        let rest = &records[segment as usize][at as usize..];
        let record = facts::record_len(rest).map(|length| &rest[..length]);
        let fact = record.and_then(Fact::read);
        fact.expect("the same bytes were read before")
    }
}
