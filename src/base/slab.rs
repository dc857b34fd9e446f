//! A chunked slab: values at u32 places that do not move. A value is found without a search, and a freed place is used
//! again. The slab grows by a chunk at a time, so that no insert copies a large array; links between values are u32,
//! half a pointer. A value goes to the lowest chunk with room, and a chunk without values is given back, so a crowd that
//! has left leaves no memory behind. The slab cannot tell a free place from a used one: the caller must not use a place
//! after `remove`. Invariant: a free place holds the default value, whether its chunk is there or not.

use std::ops::{Index, IndexMut};

/// No place: the end of a list.
pub const NIL: u32 = u32::MAX;

/// Values in a chunk. A chunk is large enough to be mapped by itself, so that a page is only used once its values are.
/// The allocator of musl rounds smaller blocks up, which cost 7 bytes for each held lock.
pub(super) const CHUNK: usize = 4096;

/// Free places that the other chunks must have before the spare one is given back: so many values come before it is
/// wanted again.
pub(super) const ROOM: usize = CHUNK / 4;
/// No chunk.
pub(super) const NONE: usize = usize::MAX;

/// Values of one type at places that do not move.
pub struct Slab<T> {
    /// As many as there ever were: so a read need not ask whether there is one.
    chunks: Vec<Chunk<T>>,
    /// One above the last that has memory.
    top: usize,
    /// No chunk below this one has room.
    roomy: usize,
    /// A chunk with memory and without values; NONE if there is none.
    spare: usize,
    /// How many chunks have memory.
    present: usize,
    len: usize,
    /// What is read at a place whose chunk is not there.
    vacant: T,
}

/// A part of the places. It has no memory while it has no values, unless it is the spare one.
struct Chunk<T> {
    /// Those that were ever used; a free one among them holds the default value.
    values: Vec<T>,
    /// The free ones, the last freed last.
    free: Vec<u16>,
}

impl<T: Default> Slab<T> {
    /// An empty slab; allocates nothing.
    pub fn new() -> Slab<T> {
        Slab {
            chunks: Vec::new(),
            top: 0,
            roomy: 0,
            spare: NONE,
            present: 0,
            len: 0,
            vacant: T::default(),
        }
    }

    /// Puts `value` into the lowest chunk with room: at the place there that was freed last, or at a new one.
    pub fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        loop {
            let at = self.roomy;
            let Some(chunk) = self.chunks.get_mut(at) else {
                // The top bit of a link is the wheel's.
                assert!(at < (1 << 31) / CHUNK, "a slab holds at most 2^31 values");
                self.chunks.push(Chunk::default());
                continue;
            };
            if at == self.spare {
                self.spare = NONE;
            }
            let place = (at * CHUNK) as u32;
            if let Some(free) = chunk.free.pop() {
                chunk.values[usize::from(free)] = value;
                return place + u32::from(free);
            }
            let used = chunk.values.len();
            if used < CHUNK {
                if used == 0 {
                    chunk.values.reserve_exact(CHUNK);
                    self.present += 1;
                    self.top = self.top.max(at + 1);
                }
                chunk.values.push(value);
                return place + used as u32;
            }
            self.roomy += 1;
        }
    }

    /// Takes the value out, leaves the default in its place, and frees that.
    pub fn remove(&mut self, place: u32) -> T {
        let at = place as usize / CHUNK;
        let chunk = &mut self.chunks[at];
        let value = std::mem::take(&mut chunk.values[place as usize % CHUNK]);
        chunk.free.push((place as usize % CHUNK) as u16);
        let is_empty = chunk.is_empty();
        self.len -= 1;
        self.roomy = self.roomy.min(at);
        if is_empty {
            self.empty(at);
        }
        if self.spare != NONE && (self.present - 1) * CHUNK >= self.len + ROOM {
            self.give_back(self.spare);
            self.spare = NONE;
        }
        value
    }

    /// How many values are in.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no value is in.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One above the highest place that may be used. Free places below it hold the default value.
    pub fn places(&self) -> u32 {
        match self.top {
            0 => 0,
            top => ((top - 1) * CHUNK + self.chunks[top - 1].values.len()) as u32,
        }
    }

    /// A chunk has lost its last value. Of two such chunks the lower one is kept.
    fn empty(&mut self, at: usize) {
        if self.spare != NONE {
            self.give_back(self.spare.max(at));
        }
        self.spare = self.spare.min(at);
    }

    /// Frees the memory of a chunk without values.
    fn give_back(&mut self, at: usize) {
        self.chunks[at] = Chunk::default();
        self.present -= 1;
        while self.top > 0 && self.chunks[self.top - 1].is_absent() {
            self.top -= 1;
        }
    }
}

impl<T> Chunk<T> {
    /// Whether it has memory and no values.
    fn is_empty(&self) -> bool {
        !self.values.is_empty() && self.values.len() == self.free.len()
    }

    fn is_absent(&self) -> bool {
        self.values.is_empty()
    }
}

impl<T> Default for Chunk<T> {
    fn default() -> Chunk<T> {
        Chunk {
            values: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T: Default> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab::new()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    // Optimised for size it would be a call of 16 instructions, dozens for each request: 12 % of them all.
    #[inline(always)]
    fn index(&self, place: u32) -> &T {
        let chunk = &self.chunks[place as usize / CHUNK];
        chunk
            .values
            .get(place as usize % CHUNK)
            .unwrap_or(&self.vacant)
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline(always)]
    fn index_mut(&mut self, place: u32) -> &mut T {
        &mut self.chunks[place as usize / CHUNK].values[place as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_at_their_places_over_growth_and_reuse() {
        let (mut slab, all) = (Slab::new(), 3 * CHUNK as u64);
        let places: Vec<u32> = (0..all).map(|v| slab.insert(v + 1)).collect();
        for &place in places.iter().step_by(2) {
            assert_eq!(slab.remove(place), u64::from(place) + 1);
            assert_eq!(slab[place], 0);
        }
        assert_eq!(slab.len() as u64, all / 2);
        for value in 0..all / 2 {
            slab.insert(value);
        }
        assert_eq!((slab.len() as u64, u64::from(slab.places())), (all, all));
        for &place in places.iter().skip(1).step_by(2) {
            assert_eq!(slab[place], u64::from(place) + 1);
        }
    }

    /// How many chunks have memory.
    fn present(slab: &Slab<u64>) -> usize {
        slab.chunks
            .iter()
            .filter(|chunk| !chunk.is_absent())
            .count()
    }

    #[test]
    fn a_chunk_without_values_is_given_back_and_its_places_hold_the_default() {
        let mut slab = Slab::new();
        let places: Vec<u32> = (0..4 * CHUNK as u64).map(|v| slab.insert(v + 1)).collect();
        for &place in &places[CHUNK..3 * CHUNK] {
            slab.remove(place);
        }
        // One is kept for the values that may come next.
        assert_eq!((present(&slab), slab.places()), (3, 4 * CHUNK as u32));
        assert_eq!((slab[places[CHUNK]], slab[places[2 * CHUNK]]), (0, 0));
        assert_eq!(slab[places[3 * CHUNK]], 3 * CHUNK as u64 + 1);
        // There is room elsewhere.
        for &place in &places[..ROOM] {
            slab.remove(place);
        }
        assert_eq!((present(&slab), slab.places()), (2, 4 * CHUNK as u32));
        for &place in &places[3 * CHUNK..] {
            slab.remove(place);
        }
        assert_eq!((present(&slab), slab.places()), (1, CHUNK as u32));
        for &place in &places[ROOM..CHUNK] {
            slab.remove(place);
        }
        // The last one stays.
        assert_eq!((present(&slab), slab.places()), (1, CHUNK as u32));
        assert!(slab.is_empty());
        assert_eq!(slab.insert(1), places[CHUNK - 1]);
    }

    #[test]
    fn new_values_go_to_the_lowest_chunk_so_that_higher_ones_run_empty() {
        let mut slab = Slab::new();
        let places: Vec<u32> = (0..8 * CHUNK as u64).map(|v| slab.insert(v)).collect();
        // One of eight stays everywhere; each that comes then lets an older one go.
        for &place in places.iter().filter(|&place| place % 8 > 0) {
            slab.remove(place);
        }
        for &place in places.iter().filter(|&place| place % 8 == 0) {
            slab.remove(place);
            let new = slab.insert(1);
            assert!(new < CHUNK as u32 * 2, "{new}");
        }
        assert!(present(&slab) <= 3);
        assert_eq!(slab.len(), CHUNK);
    }

    #[test]
    fn one_value_that_comes_and_goes_costs_no_chunk_each_time() {
        let mut slab = Slab::new();
        let all: Vec<u32> = (0..CHUNK as u64).map(|v| slab.insert(v)).collect();
        for _ in 0..3 {
            let place = slab.insert(1);
            assert_eq!((place, present(&slab)), (CHUNK as u32, 2));
            slab.remove(place);
            assert_eq!(present(&slab), 2);
        }
        slab.remove(all[7]);
        assert_eq!(slab.insert(2), all[7]);
    }
}
