//! Doubly linked lists of values that live in a slab. The links are in the values, so that insert and remove are O(1)
//! everywhere and allocate nothing. A value has one lane of links for each list that it can be in at the same time. A
//! list does not check its use: a value must not be inserted twice, nor removed from a list that it is not in.
//! Invariant: each value's `next` has it as `prev`.

use crate::base::slab::{NIL, Slab};

/// A value with links for one list or more.
pub trait Linked {
    /// Its neighbours in the list of this lane.
    fn lane(&mut self, lane: usize) -> &mut Neighbours;
    /// The place behind it there; NIL if it is the last, or in no list.
    fn next(&self, lane: usize) -> u32;
}

/// The places before and behind a value; NIL for none.
#[derive(Clone, Copy, Debug)]
pub struct Neighbours {
    /// The place before it.
    pub prev: u32,
    /// The place behind it.
    pub next: u32,
}

impl Default for Neighbours {
    fn default() -> Neighbours {
        Neighbours {
            prev: NIL,
            next: NIL,
        }
    }
}

/// The ends of a list that is linked through one lane of its values.
#[derive(Clone, Copy, Debug)]
pub struct List<const LANE: usize> {
    /// The place at its head, NIL if it is empty.
    pub first: u32,
    /// The place at its tail, NIL if it is empty.
    pub last: u32,
}

impl<const LANE: usize> Default for List<LANE> {
    fn default() -> Self {
        List {
            first: NIL,
            last: NIL,
        }
    }
}

impl<const LANE: usize> List<LANE> {
    /// Whether no value is in.
    pub fn is_empty(&self) -> bool {
        self.first == NIL
    }

    /// Inserts the value at `place` at the tail.
    pub fn push_back<T: Linked>(&mut self, slab: &mut Slab<T>, place: u32) {
        let prev = std::mem::replace(&mut self.last, place);
        *slab[place].lane(LANE) = Neighbours { prev, next: NIL };
        match prev {
            NIL => self.first = place,
            _ => slab[prev].lane(LANE).next = place,
        }
    }

    /// Inserts the value at `place` at the head.
    pub fn push_front<T: Linked>(&mut self, slab: &mut Slab<T>, place: u32) {
        let next = std::mem::replace(&mut self.first, place);
        *slab[place].lane(LANE) = Neighbours { prev: NIL, next };
        match next {
            NIL => self.last = place,
            _ => slab[next].lane(LANE).prev = place,
        }
    }

    /// Removes the value at `place`, which is in this list.
    pub fn remove<T: Linked>(&mut self, slab: &mut Slab<T>, place: u32) {
        let Neighbours { prev, next } = std::mem::take(slab[place].lane(LANE));
        match prev {
            NIL => self.first = next,
            _ => slab[prev].lane(LANE).next = next,
        }
        match next {
            NIL => self.last = prev,
            _ => slab[next].lane(LANE).prev = prev,
        }
    }

    /// The places in the list, first to last.
    pub fn places<T: Linked>(self, slab: &Slab<T>) -> impl Iterator<Item = u32> {
        let next = |place: u32| Some(place).filter(|&place| place != NIL);
        std::iter::successors(next(self.first), move |&place| next(slab[place].next(LANE)))
    }
}
