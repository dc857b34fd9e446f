//! What a session is to be sent, and what of it the kernel has not taken yet. A subscriber that is too slow must not cost
//! memory for ever, and one that is merely unlucky must not be cut off: what one turn piles up does not count until the
//! kernel has refused it, and what waits behind a long answer counts for the budget of all alone (`budget.rs`). Those
//! lines follow the answer as the output has room, and later ones follow them. Invariants: a mark stands where a signal
//! in the output ends, and the marks rise; nothing beyond the first `free` bytes is handed out.

use std::collections::VecDeque;

use super::budget::{Budget, Charge};
use crate::base::buffer::{Buffer, Pool};

/// While this much of a session's output is not taken by its peer, its requests are not executed.
pub const OUTPUT_MAX: usize = 64 * 1024;
/// Signals that may be left when the kernel has refused more, and their bytes.
const PUSHES_MAX: usize = 64;
const PUSH_BYTES_MAX: usize = 1024 * 1024;
/// Marks for which room is kept.
const KEEP: usize = 2 * PUSHES_MAX;

/// The output of one session.
#[derive(Default)]
pub(super) struct Outlet {
    output: Buffer,
    /// How many of its first bytes may go: they wait for no fact to be kept.
    free: usize,
    /// How many of them may go once the batch in flight is kept; 0 if it holds nothing of this session back.
    marked: usize,
    /// What it is owed of signals; none if it has never listened.
    backlog: Option<Box<Backlog>>,
}

/// What a listener is owed.
#[derive(Default)]
struct Backlog {
    /// Bytes of output that the kernel has taken.
    taken: u64,
    marks: VecDeque<Mark>,
    /// The length of them all.
    copied: usize,
    /// Signals that count when the kernel takes no more, whether in the output or behind, and their length.
    left: usize,
    left_bytes: usize,
    /// Too much was left when the kernel took no more.
    stuck: bool,
    /// Lines that wait for the end of an answer that is given in slices, or for room behind it. Each is kept once for
    /// all listeners.
    behind: VecDeque<u32>,
    /// How many of them, at the front, came before the answer was complete: they do not count as left.
    early: usize,
    charge: Charge,
}

/// The end of a signal in the output, or of several that do not count as left.
struct Mark {
    /// Counted from the first byte ever sent.
    end: u64,
    len: u32,
    counts: bool,
}

impl Outlet {
    /// All that the kernel has not taken.
    pub fn bytes(&self) -> &[u8] {
        self.output.bytes()
    }

    /// What of it may go now.
    #[inline(always)]
    pub fn free(&self) -> &[u8] {
        &self.bytes()[..self.free]
    }

    /// All of it may go now.
    #[inline(always)]
    pub fn free_all(&mut self) {
        self.free = self.len();
    }

    /// All that is not free yet will be once the batch in flight is kept. Returns whether it held nothing of this session
    /// back before.
    pub fn mark(&mut self) -> bool {
        std::mem::replace(&mut self.marked, self.output.len()) == 0
    }

    /// The batch that was in flight is kept.
    pub fn free_marked(&mut self) {
        self.free = self.free.max(std::mem::take(&mut self.marked));
    }

    /// Whether some of it may not go yet.
    pub fn is_held_back(&self) -> bool {
        self.free < self.len()
    }

    /// How many bytes the kernel has not taken.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.output.len()
    }

    pub fn is_empty(&self) -> bool {
        self.output.is_empty()
    }

    /// So much is left that nothing more is to be executed.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.len() >= OUTPUT_MAX
    }

    /// Where answers are appended.
    pub fn tail(&mut self, pool: &mut Pool) -> &mut Vec<u8> {
        self.output.tail(pool)
    }

    /// The session listens from now on.
    pub fn listens(&mut self) {
        self.backlog.get_or_insert_default();
    }

    /// Whether the session has ever listened.
    pub fn has_listened(&self) -> bool {
        self.backlog.is_some()
    }

    /// Whether another signal would be too much for this listener.
    pub fn is_stuck(&self) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| backlog.stuck)
    }

    /// What waits for the session, as the budget counts it.
    pub fn charge(&self) -> Charge {
        self.backlog
            .as_ref()
            .map_or(Charge::default(), |backlog| backlog.charge)
    }

    /// Appends the line of a signal, which must go between two answers.
    pub fn push(&mut self, line: &[u8], pool: &mut Pool) {
        self.output.tail(pool).extend_from_slice(line);
        let end = self.output.len() as u64;
        let backlog = self.backlog.as_mut().expect("it listens");
        backlog.mark(end, line.len(), true);
        backlog.left += 1;
        backlog.left_bytes += line.len();
    }

    /// Has the session wait for a line that is kept: until the answer that is being given is complete, or behind other
    /// such lines, when it counts as any other signal.
    pub fn push_behind(&mut self, slot: u32, place: u32, counts: bool, budget: &mut Budget) {
        let backlog = self.backlog.as_mut().expect("it listens");
        let len = budget.line(place).len();
        budget.add(place);
        backlog.behind.push_back(place);
        if counts {
            backlog.left += 1;
            backlog.left_bytes += len;
        } else {
            backlog.early += 1;
        }
        backlog.recharge(slot, budget, |charge| {
            charge.lines += 1;
            charge.bytes += len;
        });
    }

    /// The answer is complete: what waits behind it follows, as far as there is room.
    pub fn follow(&mut self, slot: u32, pool: &mut Pool, budget: &mut Budget) {
        let Some(backlog) = &mut self.backlog else {
            return;
        };
        let before = backlog.charge;
        while self.output.len() < OUTPUT_MAX
            && let Some(place) = backlog.behind.pop_front()
        {
            let line = budget.line(place);
            self.output.tail(pool).extend_from_slice(line);
            let counts = backlog.early == 0;
            backlog.early = backlog.early.saturating_sub(1);
            backlog.mark(self.output.len() as u64, line.len(), counts);
            backlog.charge.lines -= 1;
            backlog.charge.bytes -= line.len();
            budget.release(place);
        }
        if backlog.behind.is_empty() {
            backlog.behind = VecDeque::new();
        }
        budget.charge(slot, before, backlog.charge);
    }

    /// Whether lines wait behind an answer.
    pub fn has_behind(&self) -> bool {
        self.backlog
            .as_ref()
            .is_some_and(|backlog| !backlog.behind.is_empty())
    }

    /// The kernel has taken the first `n` bytes.
    pub fn took(&mut self, slot: u32, n: usize, pool: &mut Pool, budget: &mut Budget) {
        self.output.consume(n, pool);
        self.free -= n;
        self.marked = self.marked.saturating_sub(n);
        if let Some(backlog) = &mut self.backlog {
            backlog.took(n);
            let copied = backlog.copied;
            backlog.recharge(slot, budget, |charge| charge.copied = copied);
        }
    }

    /// The kernel does not take what is left. What it was not offered is nobody's fault.
    pub fn refused(&mut self) {
        let is_held_back = self.is_held_back();
        if let Some(backlog) = &mut self.backlog {
            backlog.stuck = match is_held_back {
                false => backlog.is_over(),
                true => backlog.is_over_before(self.free),
            };
        }
    }

    /// Drops what waits behind an answer: no answer will be complete any more.
    pub fn drop_behind(&mut self, slot: u32, budget: &mut Budget) {
        let Some(backlog) = &mut self.backlog else {
            return;
        };
        for place in std::mem::take(&mut backlog.behind) {
            budget.release(place);
        }
        backlog.early = 0;
        backlog.recharge(slot, budget, |charge| {
            charge.lines = 0;
            charge.bytes = 0;
        });
    }

    /// Drops everything.
    pub fn clear(&mut self, slot: u32, pool: &mut Pool, budget: &mut Budget) {
        self.output.clear(pool);
        (self.free, self.marked) = (0, 0);
        self.drop_behind(slot, budget);
        if let Some(backlog) = self.backlog.take() {
            budget.charge(slot, backlog.charge, Charge::default());
        }
    }

    /// The places of the lines that wait behind an answer.
    pub fn behind(&self) -> impl Iterator<Item = u32> {
        let backlogs = self.backlog.iter();
        backlogs.flat_map(|backlog| backlog.behind.iter().copied())
    }

    /// Panics if what is counted is not there. For tests, between two turns.
    pub fn check(&self, budget: &Budget) {
        let Some(backlog) = &self.backlog else {
            return;
        };
        let lens = |from: usize| {
            backlog
                .behind
                .iter()
                .skip(from)
                .map(|&at| budget.line(at).len())
        };
        let marks = |counts: bool| {
            let marks = backlog
                .marks
                .iter()
                .filter(move |mark| mark.counts == counts);
            marks.map(|mark| mark.len as usize)
        };
        let copied = marks(true).sum::<usize>() + marks(false).sum::<usize>();
        let charge = Charge {
            copied,
            lines: backlog.behind.len(),
            bytes: lens(0).sum(),
        };
        assert_eq!((backlog.copied, backlog.charge), (copied, charge));
        let late = backlog.early;
        assert_eq!(
            (backlog.left, backlog.left_bytes),
            (
                marks(true).count() + lens(late).count(),
                marks(true).sum::<usize>() + lens(late).sum::<usize>()
            )
        );
        let end = backlog.marks.back().map_or(0, |mark| mark.end);
        assert!(end <= backlog.taken + self.output.len() as u64);
    }
}

impl Backlog {
    /// A signal has been appended to an output that is now so long.
    fn mark(&mut self, output: u64, len: usize, counts: bool) {
        let end = self.taken + output;
        self.copied += len;
        match self.marks.back_mut() {
            Some(last) if !counts && !last.counts => {
                last.end = end;
                last.len += len as u32;
            }
            _ => self.marks.push_back(Mark {
                end,
                len: len as u32,
                counts,
            }),
        }
    }

    fn took(&mut self, n: usize) {
        self.taken += n as u64;
        while let Some(&Mark { end, len, counts }) = self.marks.front()
            && end <= self.taken
        {
            self.marks.pop_front();
            self.copied -= len as usize;
            self.left -= usize::from(counts);
            self.left_bytes -= if counts { len as usize } else { 0 };
        }
        if self.marks.is_empty() {
            self.marks.shrink_to(KEEP);
        }
        self.stuck &= self.is_over();
    }

    fn is_over(&self) -> bool {
        self.left >= PUSHES_MAX || self.left_bytes >= PUSH_BYTES_MAX
    }

    /// As `is_over`, for the signals within the first bytes of the output alone.
    fn is_over_before(&self, bytes: usize) -> bool {
        let end = self.taken + bytes as u64;
        let counted = self.marks.iter().take_while(|mark| mark.end <= end);
        let lens = counted.filter(|mark| mark.counts).map(|mark| mark.len);
        let (count, len) = lens.fold((0, 0), |(count, sum), len| (count + 1, sum + len as usize));
        count >= PUSHES_MAX || len >= PUSH_BYTES_MAX
    }

    /// Changes what the budget counts for the session.
    fn recharge(&mut self, slot: u32, budget: &mut Budget, change: impl Fn(&mut Charge)) {
        let before = self.charge;
        change(&mut self.charge);
        budget.charge(slot, before, self.charge);
    }
}
