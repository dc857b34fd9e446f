//! Values at places that somebody else chose: the slots of sessions. What a slab is for places of its own: chunks, of
//! which one without values is given back. Invariant: a place that is not taken holds the default value, whether its
//! chunk is there or not.

use std::ops::{Index, IndexMut};

use super::slab::{CHUNK, NONE, ROOM};

/// Values of one type at places from outside, as low as the slab gives them out that the places are of.
pub struct Grid<T> {
    chunks: Vec<Chunk<T>>,
    /// A chunk with memory of which no place is taken; NONE if there is none.
    spare: usize,
    /// How many chunks have memory, and how many places are taken.
    present: usize,
    len: usize,
    /// What is read at a place whose chunk is not there.
    vacant: T,
}

/// A part of the places. It has no memory while none of them is taken, unless it is the spare one.
struct Chunk<T> {
    values: Vec<T>,
    /// A bit for each place that is taken.
    taken: Vec<u64>,
    count: usize,
}

impl<T: Default> Grid<T> {
    /// An empty grid; allocates nothing.
    pub fn new() -> Grid<T> {
        Grid {
            chunks: Vec::new(),
            spare: NONE,
            present: 0,
            len: 0,
            vacant: T::default(),
        }
    }

    /// The value at a place, which is taken from now on.
    pub fn take(&mut self, place: usize) -> &mut T {
        let (at, inner) = (place / CHUNK, place % CHUNK);
        if self.chunks.len() <= at {
            self.chunks.resize_with(at + 1, Chunk::default);
        }
        let chunk = &mut self.chunks[at];
        self.present += usize::from(chunk.values.is_empty());
        if chunk.values.len() <= inner {
            chunk.values.reserve_exact(CHUNK - chunk.values.len());
            chunk.values.resize_with(inner + 1, T::default);
            chunk.taken.resize(CHUNK / 64, 0);
        }
        let (word, bit) = (&mut chunk.taken[inner / 64], 1 << (inner % 64));
        let is_new = usize::from(*word & bit == 0);
        chunk.count += is_new;
        *word |= bit;
        self.len += is_new;
        if self.spare == at {
            self.spare = NONE;
        }
        &mut chunk.values[inner]
    }

    /// Takes the value out, leaves the default in its place, and frees that. Of a free place that is the default.
    pub fn free(&mut self, place: usize) -> T {
        let (at, inner) = (place / CHUNK, place % CHUNK);
        let bit = 1 << (inner % 64);
        let Some(chunk) = self.chunks.get_mut(at) else {
            return T::default();
        };
        if chunk
            .taken
            .get(inner / 64)
            .is_none_or(|word| word & bit == 0)
        {
            return T::default();
        }
        chunk.taken[inner / 64] &= !bit;
        chunk.count -= 1;
        let value = std::mem::take(&mut chunk.values[inner]);
        let is_empty = chunk.count == 0;
        self.len -= 1;
        if is_empty {
            self.empty(at);
        }
        if self.spare != NONE && (self.present - 1) * CHUNK >= self.len + ROOM {
            self.give_back(self.spare);
            self.spare = NONE;
        }
        value
    }

    /// The value at a place; None if its chunk is not there.
    #[inline(always)]
    pub fn get(&self, place: usize) -> Option<&T> {
        let chunk = self.chunks.get(place / CHUNK)?;
        chunk.values.get(place % CHUNK)
    }

    /// The value at a place, to be changed; None if its chunk is not there.
    #[inline(always)]
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(place / CHUNK)?;
        chunk.values.get_mut(place % CHUNK)
    }

    /// The places that may be taken, and their values: for checks.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let all = self.chunks.iter().enumerate();
        all.flat_map(|(at, chunk)| {
            let values = chunk.values.iter().enumerate();
            values.map(move |(inner, value)| (at * CHUNK + inner, value))
        })
    }

    /// The last place of a chunk was freed. Of two such chunks the lower one is kept.
    fn empty(&mut self, at: usize) {
        if self.spare != NONE {
            self.give_back(self.spare.max(at));
        }
        self.spare = self.spare.min(at);
    }

    /// Frees the memory of a chunk of which no place is taken.
    fn give_back(&mut self, at: usize) {
        self.chunks[at] = Chunk::default();
        self.present -= 1;
        while self
            .chunks
            .last()
            .is_some_and(|last| last.values.is_empty())
        {
            self.chunks.pop();
        }
    }
}

impl<T> Default for Chunk<T> {
    fn default() -> Chunk<T> {
        Chunk {
            values: Vec::new(),
            taken: Vec::new(),
            count: 0,
        }
    }
}

impl<T: Default> Default for Grid<T> {
    fn default() -> Grid<T> {
        Grid::new()
    }
}

impl<T: Default> Index<usize> for Grid<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, place: usize) -> &T {
        match self.get(place) {
            Some(value) => value,
            None => self.vacant(),
        }
    }
}

impl<T> Grid<T> {
    // Out of the way, as in a slab.
    #[cold]
    #[inline(never)]
    fn vacant(&self) -> &T {
        &self.vacant
    }
}

impl<T: Default> IndexMut<usize> for Grid<T> {
    #[inline(always)]
    fn index_mut(&mut self, place: usize) -> &mut T {
        &mut self.chunks[place / CHUNK].values[place % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(grid: &Grid<u64>) -> usize {
        grid.chunks
            .iter()
            .filter(|chunk| !chunk.values.is_empty())
            .count()
    }

    #[test]
    fn a_chunk_goes_with_its_last_value_and_its_places_hold_the_default() {
        let (mut grid, chunk) = (Grid::new(), CHUNK);
        for place in [0, 5, chunk, 3 * chunk + 1] {
            *grid.take(place) = place as u64 + 1;
        }
        assert_eq!((present(&grid), grid[2 * chunk], grid[7]), (3, 0, 0));
        assert_eq!(grid.free(chunk), chunk as u64 + 1);
        // There is room elsewhere.
        assert_eq!(present(&grid), 2);
        assert_eq!((grid.free(chunk), grid.free(9 * chunk)), (0, 0));
        assert_eq!(grid.free(3 * chunk + 1), 3 * chunk as u64 + 2);
        assert_eq!((present(&grid), grid.chunks.len()), (1, 1));
        assert_eq!((grid[chunk], grid[3 * chunk + 1], grid[5]), (0, 0, 6));
        // The last one stays.
        assert_eq!((grid.free(0), grid.free(5)), (1, 6));
        assert_eq!((present(&grid), grid.chunks.len()), (1, 1));
    }

    #[test]
    fn one_value_that_comes_and_goes_costs_no_chunk_each_time() {
        let mut grid: Grid<u64> = Grid::new();
        for place in 0..CHUNK {
            grid.take(place);
        }
        for _ in 0..3 {
            *grid.take(CHUNK) = 1;
            assert_eq!((grid.free(CHUNK), present(&grid)), (1, 2));
        }
    }

    #[test]
    fn a_place_that_is_taken_twice_is_freed_once() {
        let mut grid = Grid::new();
        *grid.take(3) = 1;
        *grid.take(3) += 1;
        *grid.take(CHUNK) = 9;
        assert_eq!((grid.free(3), grid.free(3)), (2, 0));
        assert_eq!(grid.get(CHUNK), Some(&9));
        assert_eq!(grid.get(u32::MAX as usize), None);
    }
}
