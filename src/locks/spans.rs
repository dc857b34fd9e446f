//! The lengths of leases, counted by powers of two. The ledger must know the longest one, and to look at every hold for it
//! would take too long. Counted only while facts are kept. Invariant: each ticket that holds is counted once.

use super::Locks;
use crate::base::slab::NIL;
use crate::command::{SECOND, Us};

/// Class n has the spans over 2^(n-1) and up to 2^n seconds; class 0 has those up to a second. The longest time that a `Us`
/// can say is in the last one.
const CLASSES: usize = 46;
/// The class of a ticket that does not hold.
const NONE: u8 = 0;

/// How many holds there are of each class.
pub(super) struct Spans {
    /// By the place of the ticket: its class and one.
    of: Vec<u8>,
    counts: [u32; CLASSES],
}

impl Default for Spans {
    fn default() -> Spans {
        Spans {
            of: Vec::new(),
            counts: [0; CLASSES],
        }
    }
}

impl Spans {
    /// The hold of this ticket may last for so long.
    pub fn set(&mut self, place: u32, span: Us) {
        let seconds = span.div_ceil(SECOND).max(1);
        let class = (seconds - 1).checked_ilog2().map_or(0, |log| log as u8 + 1);
        let at = place as usize;
        if at >= self.of.len() {
            self.of.resize(at + 1, NONE);
        }
        let former = std::mem::replace(&mut self.of[at], class + 1);
        self.counts[usize::from(class)] += 1;
        if former != NONE {
            self.counts[usize::from(former - 1)] -= 1;
        }
    }

    /// The hold of this ticket has ended.
    pub fn end(&mut self, place: u32) {
        if let Some(class) = self.of.get_mut(place as usize)
            && *class != NONE
        {
            self.counts[usize::from(*class - 1)] -= 1;
            *class = NONE;
        }
    }

    /// A span that none of the holds exceeds, a power of two seconds; 0 if there is none.
    pub fn longest(&self) -> Us {
        let last = self.counts.iter().rposition(|&count| count > 0);
        last.map_or(0, |class| (1_u64 << class).saturating_mul(SECOND))
    }
}

impl Locks {
    /// A span that no lease exceeds that clients have been told of and that has not ended, as far as facts were kept: a
    /// power of two seconds, 0 if nothing is held.
    pub fn longest_told(&self) -> Us {
        self.spans.longest()
    }

    /// Panics if a ticket is not counted as it must be.
    pub(super) fn check_spans(&self) {
        let mut counts = [0; CLASSES];
        for (place, &class) in self.spans.of.iter().enumerate() {
            if class != NONE {
                let ticket = &self.tickets[place as u32];
                assert!(ticket.key != NIL && !ticket.waits(), "S9");
                counts[usize::from(class - 1)] += 1;
            }
        }
        assert_eq!(counts, self.spans.counts);
        // None is counted if nobody keeps facts.
        let counted = counts.iter().sum::<u32>();
        assert!(
            counted == 0 || u64::from(counted) == self.held(),
            "each hold is counted"
        );
    }
}
