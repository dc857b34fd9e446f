//! What waits of signals for all listeners together, and the most that may. A line that must wait for the end of an
//! answer is kept once for all listeners, each of which has its place; what a kernel refused is counted where it stands,
//! in the output of each. Invariant: a line is here exactly as long as its signal is on its way or a listener waits for
//! it, and the index has each listener for which something waits, by how much.

use std::collections::BTreeSet;

use super::Hub;
use crate::base::slab::{NIL, Slab};

/// What a line costs besides its bytes.
const LINE: usize = 64;
/// What it costs for each listener that waits for it.
const REF: usize = 8;

/// All lines that wait, and for whom most does.
pub(super) struct Budget {
    lines: Slab<Line>,
    /// What the lines cost, each once.
    shared: usize,
    /// What their places cost, and what is counted in outputs.
    own: usize,
    /// How much waits for each listener, and its slot. A shared line counts whole for each.
    by_size: BTreeSet<(usize, u32)>,
    /// The most that may wait; 0 sets no limit.
    most: usize,
}

/// A line, and how many wait for it: listeners, and its signal while that is on its way.
#[derive(Default)]
struct Line {
    bytes: Box<[u8]>,
    refs: u32,
}

/// What the budget counts for one listener.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Charge {
    /// Bytes in its output, as of the last write.
    pub copied: usize,
    /// Lines that it waits for, and their bytes.
    pub lines: usize,
    pub bytes: usize,
}

impl Charge {
    /// How much waits for the listener.
    fn size(self) -> usize {
        self.copied + self.bytes + REF * self.lines
    }

    /// What would be saved if others wait for the same lines.
    fn own(self) -> usize {
        self.copied + REF * self.lines
    }
}

impl Budget {
    /// Nothing waits yet.
    pub fn new(most: usize) -> Budget {
        Budget {
            lines: Slab::new(),
            shared: 0,
            own: 0,
            by_size: BTreeSet::new(),
            most,
        }
    }

    /// Keeps a line, for its signal at first, unless it is kept already. Returns its place.
    pub fn keep(&mut self, place: u32, line: &[u8]) -> u32 {
        if place != NIL {
            return place;
        }
        self.shared += LINE + line.len();
        let bytes = line.into();
        self.lines.insert(Line { bytes, refs: 1 })
    }

    /// One more waits for the line.
    pub fn add(&mut self, place: u32) {
        self.lines[place].refs += 1;
    }

    /// One less waits for the line, which goes with the last.
    pub fn release(&mut self, place: u32) {
        let line = &mut self.lines[place];
        line.refs -= 1;
        if line.refs == 0 {
            let line = self.lines.remove(place);
            self.shared -= LINE + line.bytes.len();
        }
    }

    /// The bytes of a line.
    pub fn line(&self, place: u32) -> &[u8] {
        &self.lines[place].bytes
    }

    /// What waits for the listener at this slot has changed.
    pub fn charge(&mut self, slot: u32, from: Charge, to: Charge) {
        if from == to {
            return;
        }
        self.own = self.own - from.own() + to.own();
        self.by_size.remove(&(from.size(), slot));
        if to.size() > 0 {
            self.by_size.insert((to.size(), slot));
        }
    }

    /// The slot of the listener that must be cut off before a signal goes to the one at `slot`, if too much waits: the one
    /// for which most does. `line` is the length of the line if this listener would have to wait for it, and whether it is
    /// kept already.
    pub fn to_be_cut(&self, slot: u32, charge: Charge, line: Option<(usize, bool)>) -> Option<u32> {
        let more = line.map_or(0, |(len, kept)| REF + if kept { 0 } else { LINE + len });
        if self.most == 0 || self.shared + self.own + more <= self.most {
            return None;
        }
        let size = line.map_or(0, |(len, _)| charge.size() + REF + len);
        let largest = self.by_size.last().filter(|largest| largest.0 > size);
        Some(largest.map_or(slot, |&(_, slot)| slot))
    }
}

impl Hub {
    /// Panics if the budget is not what waits. For tests.
    pub(super) fn check_budget(&self) {
        let budget = &self.budget;
        let mut refs: Vec<u32> = vec![0; budget.lines.places() as usize];
        let mut by_size = BTreeSet::new();
        let mut own = 0;
        for slot in 0..self.sessions.places() {
            let outlet = &self.sessions[slot].outlet;
            outlet.check(budget);
            let charge = outlet.charge();
            own += charge.own();
            if charge.size() > 0 {
                by_size.insert((charge.size(), slot));
            }
            outlet.behind().for_each(|place| refs[place as usize] += 1);
        }
        let posts = self.posts.kept();
        posts.for_each(|place| refs[place as usize] += 1);
        let mut shared = 0;
        for (place, &refs) in refs.iter().enumerate() {
            let line = &budget.lines[place as u32];
            assert_eq!(line.refs, refs, "S9: a line goes with the last that waits");
            shared += if refs > 0 { LINE + line.bytes.len() } else { 0 };
        }
        assert_eq!((own, shared), (budget.own, budget.shared));
        assert_eq!(by_size, budget.by_size);
        let kept = shared + REF * refs.iter().sum::<u32>() as usize;
        assert!(
            budget.most == 0 || kept <= budget.most + REF * self.posts.kept().count(),
            "S10: no more waits than may"
        );
    }
}
