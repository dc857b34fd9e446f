//! All holds stated again, some at a time, so that a store can forget the facts from before. Not here: when it is time for
//! that, and what is forgotten then, which each store knows. Invariant: a sweep that has come to its end has stated each
//! hold that there was all the time, and facts that came meanwhile stand between, in the order in which things happened.

use crate::facts::Facts;

/// A walk over all holds.
pub struct Sweep {
    /// The place of the table that comes next, and how many bytes were stated. None while nothing is to be stated.
    at: Option<(u32, u64)>,
    restated: Facts,
}

impl Default for Sweep {
    fn default() -> Sweep {
        Sweep {
            at: None,
            restated: Facts::kept(),
        }
    }
}

impl Sweep {
    /// Whether it has begun and has not come to its end.
    pub fn is_under_way(&self) -> bool {
        self.at.is_some()
    }

    /// Begins with the first hold.
    pub fn begin(&mut self) {
        self.at = Some((0, 0));
    }

    /// States some more holds. `restate` appends those from a place of the table on, and returns the place to go on from;
    /// None at the end. Returns their facts; and at the end, how many bytes were stated in all.
    pub fn go_on(
        &mut self,
        restate: impl FnOnce(u32, &mut Facts) -> Option<u32>,
    ) -> (&[u8], Option<u64>) {
        self.restated.clear();
        let Some((from, stated)) = self.at else {
            return (&[], None);
        };
        let next = restate(from, &mut self.restated);
        let bytes = self.restated.bytes();
        let stated = stated + bytes.len() as u64;
        self.at = next.map(|next| (next, stated));
        (bytes, self.at.is_none().then_some(stated))
    }
}
