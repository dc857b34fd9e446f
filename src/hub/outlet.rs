//! What a session is to be sent, and what of it the kernel has not taken yet. A subscriber that is too slow must not cost
//! memory for ever, and one that is merely unlucky must not be cut off: what one turn piles up does not count until the
//! kernel has refused it, and what waits behind a long answer does not count at all, up to a limit of its own.
//! Invariant: a mark stands where a signal in the output ends, and the marks rise.

use std::collections::VecDeque;

use crate::base::buffer::{Buffer, Pool};

/// While this much of a session's output is not taken by its peer, its requests are not executed.
pub const OUTPUT_MAX: usize = 64 * 1024;
/// Signals that may be left when the kernel has refused more, and their bytes.
const PUSHES_MAX: usize = 64;
const PUSH_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that may wait behind an answer to `stats`.
const BEHIND_MAX: usize = 8 * 1024 * 1024;
/// Marks for which room is kept.
const KEEP: usize = 2 * PUSHES_MAX;

/// The output of one session.
#[derive(Default)]
pub(super) struct Outlet {
    output: Buffer,
    /// What it is owed of signals; none if it has never listened.
    backlog: Option<Box<Backlog>>,
}

/// What a listener is owed.
#[derive(Default)]
struct Backlog {
    /// Bytes of output that the kernel has taken.
    taken: u64,
    /// Where each signal in the output ends, counted from the first byte ever sent, and how long it is.
    marks: VecDeque<(u64, u32)>,
    /// The length of them all.
    bytes: usize,
    /// Too much was left when the kernel took no more.
    stuck: bool,
    /// Lines that wait for the end of an answer that is given in slices.
    behind: Vec<u8>,
}

impl Outlet {
    /// All that the kernel has not taken.
    pub fn bytes(&self) -> &[u8] {
        self.output.bytes()
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

    /// Whether another signal would be too much.
    pub fn is_stuck(&self) -> bool {
        self.backlog
            .as_ref()
            .is_some_and(|backlog| backlog.stuck || backlog.behind.len() >= BEHIND_MAX)
    }

    /// Appends the line of a signal, which must go between two answers.
    pub fn push(&mut self, line: &[u8], pool: &mut Pool) {
        self.output.tail(pool).extend_from_slice(line);
        let end = self.output.len() as u64;
        let backlog = self.backlog.as_mut().expect("it listens");
        backlog
            .marks
            .push_back((backlog.taken + end, line.len() as u32));
        backlog.bytes += line.len();
    }

    /// Keeps the line of a signal until the answer that is being given is complete.
    pub fn push_behind(&mut self, line: &[u8]) {
        let backlog = self.backlog.as_mut().expect("it listens");
        backlog.behind.extend_from_slice(line);
    }

    /// The answer is complete: what waited behind it follows.
    pub fn append_behind(&mut self, pool: &mut Pool) {
        if let Some(backlog) = &mut self.backlog {
            self.output.tail(pool).append(&mut backlog.behind);
        }
    }

    /// The kernel has taken the first `n` bytes.
    pub fn took(&mut self, n: usize, pool: &mut Pool) {
        self.output.consume(n, pool);
        if let Some(backlog) = &mut self.backlog {
            backlog.took(n);
        }
    }

    /// The kernel does not take what is left.
    pub fn refused(&mut self) {
        if let Some(backlog) = &mut self.backlog {
            backlog.stuck = backlog.is_over();
        }
    }

    /// Drops everything.
    pub fn clear(&mut self, pool: &mut Pool) {
        self.output.clear(pool);
    }
}

impl Backlog {
    fn took(&mut self, n: usize) {
        self.taken += n as u64;
        while let Some(&(_, len)) = self.marks.front().filter(|(end, _)| *end <= self.taken) {
            self.marks.pop_front();
            self.bytes -= len as usize;
        }
        if self.marks.is_empty() {
            self.marks.shrink_to(KEEP);
        }
        self.stuck &= self.is_over();
    }

    fn is_over(&self) -> bool {
        self.marks.len() >= PUSHES_MAX || self.bytes >= PUSH_BYTES_MAX
    }
}
