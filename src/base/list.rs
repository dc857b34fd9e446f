//! Doubly linked lists of values that live in a slab: the links stand in the values, so to enter and to leave costs the
//! same wherever, and allocates nothing. A value has one lane of links for each list that it can be in at a time. The
//! list does not know what is in it: who enters twice or leaves what it is not in breaks it.

use crate::base::slab::{NIL, Slab};

/// A value's places in its lists.
pub trait Linked {
    /// Its neighbours in the list of this lane.
    fn lane(&mut self, lane: usize) -> &mut Neighbours;
    /// Who stands behind it there; NIL if it is the last, or in no list.
    fn next(&self, lane: usize) -> u32;
}

/// Who stands before and behind a value; NIL is nobody.
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
    /// Whether nobody is in.
    pub fn is_empty(&self) -> bool {
        self.first == NIL
    }

    /// Enters at the tail.
    pub fn push_back<T: Linked>(&mut self, slab: &mut Slab<T>, place: u32) {
        let prev = std::mem::replace(&mut self.last, place);
        *slab[place].lane(LANE) = Neighbours { prev, next: NIL };
        match prev {
            NIL => self.first = place,
            _ => slab[prev].lane(LANE).next = place,
        }
    }

    /// Enters at the head.
    pub fn push_front<T: Linked>(&mut self, slab: &mut Slab<T>, place: u32) {
        let next = std::mem::replace(&mut self.first, place);
        *slab[place].lane(LANE) = Neighbours { prev: NIL, next };
        match next {
            NIL => self.last = place,
            _ => slab[next].lane(LANE).prev = place,
        }
    }

    /// Leaves.
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
