//! The holds that records of facts leave, wherever the records were kept. Invariant: a hold is as its last `Held` says, with
//! the end that the last `Renewed` behind it gives. A hold with an `Ended` behind its last `Held` is not there.

use crate::facts::{self, Fact, Held, Unfit};

/// Records while they are read, in parts. Facts are sorted in the end: to look each fence up in a hash table took twice as
/// long.
#[derive(Default)]
pub struct History {
    /// Those of each part.
    records: Vec<Vec<u8>>,
    /// The fence of its hold, and its record, for each fact.
    facts: Vec<(u64, Spot)>,
    last_fence: u64,
}

/// The holds that all records leave.
#[derive(Debug)]
pub struct Holds {
    records: Vec<Vec<u8>>,
    places: Vec<Place>,
    last_fence: u64,
}

/// A hold, and where that was read.
#[derive(Debug)]
pub struct Found<'a> {
    /// The hold.
    pub held: Held<'a>,
    /// The part that states it.
    pub stated: usize,
    /// The part that says when it ends.
    pub ends: usize,
}

/// A hold: where it is stated last, and where its last renewal since then is.
#[derive(Clone, Copy, Debug)]
struct Place {
    held: Spot,
    renewed: Option<Spot>,
}

/// Where a record is, and of which kind: its part, from 0, in the upper half; then its byte, above two bits for the kind.
/// The later it was appended, the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Spot(u64);

const HELD: u64 = 0;
const RENEWED: u64 = 1;
const ENDED: u64 = 2;

impl History {
    /// Takes a record that begins at this byte of the next part.
    ///
    /// # Errors
    /// It is no fact.
    pub fn add(&mut self, record: &[u8], at: usize) -> Result<(), Unfit> {
        let (fence, kind) = match Fact::read(record)? {
            Fact::Held(held) => (held.token.fence, HELD),
            Fact::Renewed { fence, .. } => (fence, RENEWED),
            Fact::Ended { fence } => (fence, ENDED),
        };
        let spot = Spot::new(self.records.len(), at, kind);
        self.facts.push((fence, spot));
        self.last_fence = self.last_fence.max(fence);
        Ok(())
    }

    /// The part is at its end: all its bytes, of which the facts were taken.
    pub fn end_part(&mut self, records: Vec<u8>) {
        self.records.push(records);
    }

    /// The holds, when all records were taken.
    pub fn end(self) -> Holds {
        Holds {
            records: self.records,
            places: places(self.facts),
            last_fence: self.last_fence,
        }
    }
}

impl Holds {
    /// All holds in the order of their fences.
    pub fn all(&self) -> impl Iterator<Item = Found<'_>> {
        self.places.iter().map(|place| {
            let Fact::Held(mut held) = place.held.read(&self.records) else {
                unreachable!("a spot has the kind of its record");
            };
            let ends = place.renewed.unwrap_or(place.held);
            if let Fact::Renewed { end, .. } = ends.read(&self.records) {
                (held.end, held.told) = (end, true);
            }
            Found {
                held,
                stated: place.held.part(),
                ends: ends.part(),
            }
        })
    }

    /// The greatest fence in any record, 0 if there is none.
    pub fn last_fence(&self) -> u64 {
        self.last_fence
    }

    /// The records of each part.
    pub fn parts(&self) -> &[Vec<u8>] {
        &self.records
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
    fn new(part: usize, at: usize, kind: u64) -> Spot {
        Spot((part as u64) << 32 | (at as u64) << 2 | kind)
    }

    fn kind(self) -> u64 {
        self.0 & 3
    }

    fn part(self) -> usize {
        (self.0 >> 32) as usize
    }

    /// The fact, from the records of all parts.
    fn read(self, records: &[Vec<u8>]) -> Fact<'_> {
        let rest = &records[self.part()][self.0 as u32 as usize >> 2..];
        let record = facts::record_len(rest).map(|length| &rest[..length]);
        let fact = record.and_then(Fact::read);
        fact.expect("the same bytes were read before")
    }
}
