//! The attempts that were ended last, in a ring: an end may overtake its request. Invariant: each is in it once, and
//! found by its name.

use super::secret::Name;
use crate::base::table::Table;
use crate::command::{SECOND, Us};

/// Ended attempts that are remembered, and for how long.
const ENDED_MAX: usize = 4096;
const ENDED_FOR: Us = 60 * SECOND;

/// The ring.
#[derive(Default)]
pub(super) struct Ended {
    names: Vec<(Name, Us)>,
    /// The place in the ring that is written next.
    next: usize,
    table: Table,
}

impl Ended {
    /// Whether this attempt is remembered as ended.
    pub fn has(&self, name: &Name, now: Us) -> bool {
        let place = self.find(name);
        place.is_some_and(|place| now <= self.names[place].1.saturating_add(ENDED_FOR))
    }

    /// The attempt ends now.
    pub fn add(&mut self, name: Name, now: Us) {
        // It is among the last once more, and its former cell stands for nothing.
        if let Some(place) = self.find(&name) {
            self.forget(place);
        }
        let place = self.next;
        self.next = (self.next + 1) % ENDED_MAX;
        match self.names.get_mut(place) {
            None => self.names.push((name, now)),
            Some(_) => {
                self.forget(place);
                self.names[place] = (name, now);
            }
        }
        self.table.insert(name[0], place as u32);
    }

    fn forget(&mut self, place: usize) {
        let (name, _) = std::mem::take(&mut self.names[place]);
        if name != Name::default() {
            self.table.remove(name[0], place as u32);
        }
    }

    fn find(&self, name: &Name) -> Option<usize> {
        let is_it = |place: u32| self.names[place as usize].0 == *name;
        self.table.find(name[0], is_it).map(|place| place as usize)
    }

    /// Panics if there are too many.
    pub fn check(&self) {
        assert!(self.names.len() <= ENDED_MAX, "S10");
    }
}
