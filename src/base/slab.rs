//! A chunked slab: values at u32 places that do not move. A value is found without a search, and a freed place is used
//! again. The slab grows by a chunk at a time, so that no insert copies a large array; links between values are u32,
//! half a pointer. It cannot tell a free place from a used one: the caller must not use a place after `remove`.
//! Invariant: a free place holds the default value.

use std::ops::{Index, IndexMut};

/// No place: the end of a list.
pub const NIL: u32 = u32::MAX;

/// Values in a chunk. A chunk is large enough to be mapped by itself, so that a page is only used once its values are.
/// The allocator of musl rounds smaller blocks up, which cost 7 bytes for each held lock.
const CHUNK: usize = 4096;

/// Values of one type at places that do not move.
pub struct Slab<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
    places: u32,
}

impl<T: Default> Slab<T> {
    /// An empty slab; allocates nothing.
    pub fn new() -> Slab<T> {
        Slab {
            chunks: Vec::new(),
            free: Vec::new(),
            places: 0,
        }
    }

    /// Puts `value` at the place that was freed last, or at a new one.
    pub fn insert(&mut self, value: T) -> u32 {
        if let Some(place) = self.free.pop() {
            self[place] = value;
            return place;
        }
        let place = self.places;
        // The top bit of a link is the wheel's.
        assert!(place < 1 << 31, "a slab holds at most 2^31 values");
        if (place as usize).is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks
            .last_mut()
            .expect("a chunk was just added when none had room")
            .push(value);
        self.places += 1;
        place
    }

    /// Takes the value out, leaves the default in its place, and frees that.
    pub fn remove(&mut self, place: u32) -> T {
        self.free.push(place);
        std::mem::take(&mut self[place])
    }

    /// How many values are in.
    pub fn len(&self) -> usize {
        self.places as usize - self.free.len()
    }

    /// Whether no value is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One above the highest place ever used. Free places below it hold the default value.
    pub fn places(&self) -> u32 {
        self.places
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
        &self.chunks[place as usize / CHUNK][place as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline(always)]
    fn index_mut(&mut self, place: u32) -> &mut T {
        &mut self.chunks[place as usize / CHUNK][place as usize % CHUNK]
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
}
