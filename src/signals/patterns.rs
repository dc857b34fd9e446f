//! The patterns that sessions listen to, as a tree of their parts: the parts of `a.*.>` are `a`, `*` and `>`. A channel
//! is matched from the root, part by part: each step goes to the child of that name, to `*` and to `>`. So patterns
//! that begin differently cost nothing. It checks no pattern and knows no session. Invariant: a part exists exactly
//! while a part below it or an audience does.

use super::{Audience, Hash};
use crate::base::list::List;
use crate::base::name::Name;
use crate::base::slab::{NIL, Slab};
use crate::base::table::Table;

/// The lane of [`List`] for the audiences of a pattern.
pub(super) const OF_PATTERN: usize = 0;

/// All parts of all patterns. The last part of a pattern stands for it.
pub(super) struct Patterns {
    parts: Slab<Part>,
    table: Table,
    /// Rises with every part, so that a removed part is told from a later one at its place.
    serial: u64,
}

struct Part {
    name: Name,
    /// NIL for the first part of a pattern.
    parent: u32,
    /// Parts directly below it.
    children: u32,
    /// 0 in a free place.
    serial: u64,
    audiences: List<OF_PATTERN>,
}

impl Patterns {
    pub fn new() -> Patterns {
        Patterns {
            parts: Slab::new(),
            table: Table::new(),
            serial: 0,
        }
    }

    pub fn find(&self, hash: &Hash, pattern: &[u8]) -> Option<u32> {
        let mut place = NIL;
        for name in split(pattern) {
            place = self.child(hash, place, name)?;
        }
        Some(place)
    }

    /// The pattern, which is made if there is none; the caller then gives it an audience at once.
    pub fn make(&mut self, hash: &Hash, pattern: &[u8]) -> u32 {
        let mut parent = NIL;
        for name in split(pattern) {
            let place = match self.child(hash, parent, name) {
                Some(place) => place,
                None => self.add(hash, parent, name),
            };
            parent = place;
        }
        parent
    }

    /// The child of this name below `parent`; below the root if that is NIL.
    pub fn child(&self, hash: &Hash, parent: u32, name: &[u8]) -> Option<u32> {
        self.table.find(hash.part(parent, name), |place| {
            self.parts[place].parent == parent && self.parts[place].name.is(name)
        })
    }

    /// Removes the parts of a pattern that has no audience any more, up to the first that is still needed. Returns how
    /// many.
    pub fn prune(&mut self, hash: &Hash, mut place: u32) -> u32 {
        let mut pruned = 0;
        while place != NIL && self.parts[place].is_unused() {
            let part = self.parts.remove(place);
            self.table
                .remove(hash.part(part.parent, part.name.bytes()), place);
            place = part.parent;
            if place != NIL {
                self.parts[place].children -= 1;
            }
            pruned += 1;
        }
        pruned
    }

    pub fn audiences(&mut self, place: u32) -> &mut List<OF_PATTERN> {
        &mut self.parts[place].audiences
    }

    /// The serial of the part that is at this place now.
    pub fn serial(&self, place: u32) -> u64 {
        self.parts[place].serial
    }

    pub fn first_audience(&self, place: u32) -> u32 {
        self.parts[place].audiences.first
    }

    /// The pattern as it was sent.
    pub fn text(&self, place: u32) -> Vec<u8> {
        let parent = |&place: &u32| Some(self.parts[place].parent).filter(|&place| place != NIL);
        let parts: Vec<u32> = std::iter::successors(Some(place), parent).collect();
        let names = parts
            .iter()
            .rev()
            .map(|&part| self.parts[part].name.bytes());
        names.collect::<Vec<_>>().join(&b'.')
    }

    /// Panics if an invariant is broken.
    pub fn check(&self, hash: &Hash, audiences: &Slab<Audience>) {
        let mut children = 0;
        for place in (0..self.parts.places()).filter(|&place| self.parts[place].serial > 0) {
            let part = &self.parts[place];
            assert!(!part.is_unused(), "S9: every part is needed");
            assert_eq!(
                self.child(hash, part.parent, part.name.bytes()),
                Some(place)
            );
            assert!(part.parent == NIL || self.parts[part.parent].serial > 0);
            assert!(
                part.audiences
                    .places(audiences)
                    .all(|a| audiences[a].pattern == place)
            );
            children += part.children as usize + usize::from(part.parent == NIL);
        }
        assert_eq!(
            (children, self.table.len()),
            (self.parts.len(), self.parts.len())
        );
    }

    fn add(&mut self, hash: &Hash, parent: u32, name: &[u8]) -> u32 {
        self.serial += 1;
        let place = self.parts.insert(Part {
            name: Name::new(name),
            parent,
            serial: self.serial,
            ..Part::default()
        });
        self.table.insert(hash.part(parent, name), place);
        if parent != NIL {
            self.parts[parent].children += 1;
        }
        place
    }
}

impl Part {
    fn is_unused(&self) -> bool {
        self.children == 0 && self.audiences.is_empty()
    }
}

impl Default for Part {
    fn default() -> Part {
        Part {
            name: Name::default(),
            parent: NIL,
            children: 0,
            serial: 0,
            audiences: List::default(),
        }
    }
}

fn split(pattern: &[u8]) -> impl Iterator<Item = &[u8]> {
    pattern.split(|&byte| byte == b'.')
}
