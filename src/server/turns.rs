//! Whether turns come when they should, and how long the longest took. It reads no clock. Invariant: a turn that nothing
//! asked for is never late.

use crate::command::{SECOND, Us};

/// A turn that comes later than this after it was due: the process has stood still. It was stopped, it got no CPU, or
/// its machine was suspended.
const GAP: Us = SECOND;

/// How turns follow each other.
pub(super) struct Turns {
    /// When the next turn is due at the latest; `Us::MAX` if only an event leads to one.
    due: Us,
    gaps: u64,
    longest: Us,
}

impl Turns {
    /// No turn is due.
    pub fn new() -> Turns {
        Turns {
            due: Us::MAX,
            gaps: 0,
            longest: 0,
        }
    }

    /// The next turn is due at this time at the latest.
    pub fn expect(&mut self, due: Us) {
        self.due = due;
    }

    /// A turn begins.
    #[inline]
    pub fn begin(&mut self, now: Us) {
        if now > self.due.saturating_add(GAP) {
            self.gaps += 1;
        }
    }

    /// A turn took so long. Whether none took longer.
    #[inline]
    pub fn is_longest(&mut self, took: Us) -> bool {
        let is_longest = took > self.longest;
        if is_longest {
            self.longest = took;
        }
        is_longest
    }

    /// How often the process stood still.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_is_much_too_late_is_a_gap_and_each_counts_once() {
        let mut turns = Turns::new();
        turns.begin(1_000 * SECOND);
        turns.expect(Us::MAX);
        turns.begin(9_000 * SECOND);
        turns.expect(9_001 * SECOND);
        turns.begin(9_002 * SECOND);
        assert_eq!(turns.gaps(), 0, "a second is not too late");
        turns.expect(9_003 * SECOND);
        turns.begin(9_004 * SECOND + 1);
        assert_eq!(turns.gaps(), 1);
        turns.expect(9_005 * SECOND);
        turns.begin(9_005 * SECOND);
        assert_eq!(turns.gaps(), 1);
    }

    #[test]
    fn only_a_longer_turn_is_the_longest() {
        let mut turns = Turns::new();
        let longest = [5, 5, 4, 6].map(|took| turns.is_longest(took));
        assert_eq!(longest, [true, false, false, true]);
    }
}
