//! The signals in a session's output that its peer has not taken. A subscriber that is too slow must not cost memory
//! for ever, and one that is merely unlucky must not be cut off: what one turn piles up does not count until the
//! kernel has refused it, and what waits behind a long answer does not count at all, up to a limit of its own.
//! Invariant: the ends rise, and none is sent yet.

use std::collections::VecDeque;

/// Signals that may be left when the kernel has refused more, and their bytes.
const PUSHES_MAX: usize = 64;
const PUSH_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that may wait behind an answer to stats.
const BEHIND_MAX: usize = 8 * 1024 * 1024;
/// Ends for which room is kept.
const KEEP: usize = 2 * PUSHES_MAX;

/// What a listener is owed.
#[derive(Default)]
pub(super) struct Backlog {
    /// Bytes of output that were sent.
    sent: u64,
    /// Where each signal in the output ends, counted from the first byte ever sent, and how long it is.
    ends: VecDeque<(u64, u32)>,
    /// The length of them all.
    bytes: usize,
    /// Too much was left when the kernel took no more.
    stuck: bool,
    /// Lines that wait for the end of an answer that is given in slices.
    behind: Vec<u8>,
}

impl Backlog {
    /// Whether another signal would be too much.
    pub fn is_full(&self) -> bool {
        self.stuck || self.behind.len() >= BEHIND_MAX
    }

    /// A signal of this length is now at the end of the output, which has so many bytes.
    pub fn pushed(&mut self, len: usize, output: usize) {
        self.ends.push_back((self.sent + output as u64, len as u32));
        self.bytes += len;
    }

    /// Keeps a line until the answer before it is complete.
    pub fn put_behind(&mut self, line: &[u8]) {
        self.behind.extend_from_slice(line);
    }

    /// Takes what was kept.
    pub fn take_behind(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.behind)
    }

    /// The kernel has taken so many bytes of the output.
    pub fn sent(&mut self, n: usize) {
        self.sent += n as u64;
        while let Some(&(_, len)) = self.ends.front().filter(|(end, _)| *end <= self.sent) {
            self.ends.pop_front();
            self.bytes -= len as usize;
        }
        if self.ends.is_empty() {
            self.ends.shrink_to(KEEP);
        }
        self.stuck &= self.is_over();
    }

    /// The kernel does not take what is left.
    pub fn refused(&mut self) {
        self.stuck = self.is_over();
    }

    fn is_over(&self) -> bool {
        self.ends.len() >= PUSHES_MAX || self.bytes >= PUSH_BYTES_MAX
    }
}
