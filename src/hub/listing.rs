//! The answer to `stats`: one line of JSON over all keys and listeners, in slices, because there may be a million. A
//! slice looks at some and stops when enough is waiting to be sent. What comes and goes between two slices may be
//! missed or seen twice.

use super::agenda::{BYTES_A_UNIT, Work};
use super::{Hub, OUTPUT_MAX, Snapshot};
use crate::command::{Space, State, Us, View};
use crate::locks::Locks;
use crate::signals::{self, Signals};
use crate::wire::distlockd::NAME_MAX;
use crate::wire::json;
use crate::wire::text::LINE_MAX;

/// What a slice may cost before others have theirs.
const SLICE: Work = 1_000;
/// What a place that is looked at costs, and a part of a pattern.
const LOOK: Work = 2;
const PART: Work = 1;

/// The longest that an entry takes in the answer: each byte of two names escaped, the key's of the face that has the
/// longest, and numbers.
pub(super) const ENTRY_MAX: usize = 6 * (NAME_MAX + LINE_MAX) + 128;

/// The arrays of the answer, in order.
const ARRAYS: [&str; 5] = [
    "locks",
    "semaphores",
    "idle_locks",
    "idle_semaphores",
    "signal_channels",
];
const CHANNELS: usize = 4;

/// How far the answer is.
#[derive(Default)]
pub(super) struct Listing {
    array: usize,
    /// The next place to look at.
    place: u32,
    /// The array has its bracket.
    opened: bool,
    /// The array has an element.
    begun: bool,
}

impl Listing {
    /// Begins the answer.
    pub fn start(connections: usize, out: &mut Vec<u8>) -> Listing {
        out.extend_from_slice(b"ok {\"connections\":");
        json::write_number(connections as u64, out);
        Listing::default()
    }

    /// Whether the answer is complete.
    pub fn is_done(&self) -> bool {
        self.array == ARRAYS.len()
    }

    /// Appends the next slice of the answer, of some `most` bytes. Returns what that cost.
    pub fn go_on(
        &mut self,
        now: Us,
        (locks, signals): (&Locks, &Signals),
        counts: &Snapshot,
        most: usize,
        out: &mut Vec<u8>,
    ) -> Work {
        let (start, mut cost) = (out.len(), LOOK);
        while !self.is_done() {
            if !std::mem::replace(&mut self.opened, true) {
                out.extend_from_slice(format!(",\"{}\":[", ARRAYS[self.array]).as_bytes());
            }
            let places = match self.array {
                CHANNELS => signals.places(),
                _ => locks.places(),
            };
            while self.place < places {
                let written = out.len() - start;
                if cost + (written / BYTES_A_UNIT) as Work >= SLICE || written >= most {
                    return cost + (written / BYTES_A_UNIT) as Work;
                }
                cost += match self.array {
                    CHANNELS => self.show_audience(signals.view(self.place), out),
                    _ => self.show_key(locks.view(now, self.place), out),
                };
                self.place += 1;
            }
            out.push(b']');
            *self = Listing {
                array: self.array + 1,
                ..Listing::default()
            };
        }
        let tail = format!(
            ",\"deadlocks\":{},\"deadlock_searches_cut\":{},\"auto_release\":{}}}\n",
            counts.locks.deadlocks,
            counts.locks.searches_cut,
            locks.auto_release()
        );
        out.extend_from_slice(tail.as_bytes());
        cost
    }

    /// Appends the key if it belongs to the array that is being written.
    fn show_key(&mut self, view: Option<View>, out: &mut Vec<u8>) -> Work {
        if let Some(view) = view.filter(|&view| array_of(view) == self.array) {
            self.separate(out);
            json::write_view(view, out);
        }
        LOOK
    }

    fn show_audience(&mut self, view: Option<signals::View>, out: &mut Vec<u8>) -> Work {
        let Some(view) = view else { return LOOK };
        self.separate(out);
        json::write_audience(&view.pattern, view.group, view.listeners, out);
        LOOK + PART * signals::parts(&view.pattern)
    }

    fn separate(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            out.push(b',');
        }
    }
}

impl Hub {
    /// Gives the next slices of listings, to each session one in turn.
    pub(super) fn list_some(&mut self) {
        let mut left = self.agenda.slices();
        while left > 0
            && let Some(slot) = self.agenda.listings.pop_front()
        {
            let counts = self.counts();
            let session = &mut self.sessions[slot];
            session.share.queued = false;
            // It may have been closed, or blocked by its peer, meanwhile.
            if !session.can_go_on() {
                continue;
            }
            let Some(mut listing) = session.take_listing() else {
                continue;
            };
            let most = OUTPUT_MAX - session.outlet.len();
            let out = session.outlet.tail(&mut self.pool);
            let tables = (&self.locks, &self.signals);
            left = left.saturating_sub(listing.go_on(self.now, tables, &counts, most, out));
            if listing.is_done() {
                session.outlet.append_behind(&mut self.pool);
                self.answered(slot);
            } else {
                session.go_on_listing(listing);
                self.mark_dirty(slot);
                self.wake(slot);
            }
        }
    }
}

fn array_of(view: View) -> usize {
    match (view.state, view.space) {
        (State::Used { .. }, Space::Lock) => 0,
        (State::Used { .. }, Space::Semaphore) => 1,
        (State::Idle { .. }, Space::Lock) => 2,
        (State::Idle { .. }, Space::Semaphore) => 3,
    }
}
