//! The answer to `stats`: one line of JSON over all keys and listeners, in slices, because there may be a million. A
//! slice looks at some and stops when enough is waiting to be sent. What comes and goes between two slices may be
//! missed or seen twice.

use super::session::Busy;
use super::{Hub, OUTPUT_MAX};
use crate::command::{Space, State, Us, View};
use crate::locks::Locks;
use crate::signals::{self, Signals};
use crate::wire::distlockd::NAME_MAX;
use crate::wire::json;
use crate::wire::text::LINE_MAX;

/// Keys that a slice looks at, and all slices of a turn together: some 200 ns each.
const KEYS_A_SLICE: u32 = 1000;
const KEYS_A_TURN: u32 = 2000;
/// What a slice counts in any case.
const SLICE: u32 = 20;

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
pub(super) struct Survey {
    array: usize,
    /// The next place to look at.
    place: u32,
    /// The array has its bracket.
    opened: bool,
    /// The array has an element.
    begun: bool,
}

impl Survey {
    /// Begins the answer.
    pub fn start(connections: usize, out: &mut Vec<u8>) -> Survey {
        out.extend_from_slice(b"ok {\"connections\":");
        json::write_number(connections as u64, out);
        Survey::default()
    }

    /// Whether the answer is complete.
    pub fn is_done(&self) -> bool {
        self.array == ARRAYS.len()
    }

    /// Appends the next part of the answer, of some `most` bytes. Returns what that cost, in keys.
    pub fn go_on(
        &mut self,
        now: Us,
        (locks, signals): (&Locks, &Signals),
        most: usize,
        out: &mut Vec<u8>,
    ) -> u32 {
        let enough = out.len() + most;
        let mut keys = 0;
        while !self.is_done() {
            if !std::mem::replace(&mut self.opened, true) {
                out.extend_from_slice(format!(",\"{}\":[", ARRAYS[self.array]).as_bytes());
            }
            let places = match self.array {
                CHANNELS => signals.places(),
                _ => locks.places(),
            };
            while self.place < places {
                if keys == KEYS_A_SLICE || out.len() >= enough {
                    return keys + SLICE;
                }
                keys += 1;
                match self.array {
                    CHANNELS => self.show_audience(signals.view(self.place), out),
                    _ => self.show_key(locks.view(now, self.place), out),
                }
                self.place += 1;
            }
            out.push(b']');
            *self = Survey {
                array: self.array + 1,
                ..Survey::default()
            };
        }
        let counts = locks.counts();
        let tail = format!(
            ",\"deadlocks\":{},\"deadlock_searches_cut\":{},\"auto_release\":{}}}\n",
            counts.deadlocks,
            counts.searches_cut,
            locks.auto_release()
        );
        out.extend_from_slice(tail.as_bytes());
        keys + SLICE
    }

    /// Appends the key if it belongs to the array that is being written.
    fn show_key(&mut self, view: Option<View>, out: &mut Vec<u8>) {
        let Some(view) = view.filter(|&view| array_of(view) == self.array) else {
            return;
        };
        self.separate(out);
        json::write_view(view, out);
    }

    fn show_audience(&mut self, view: Option<signals::View>, out: &mut Vec<u8>) {
        let Some(view) = view else { return };
        self.separate(out);
        json::write_audience(&view.pattern, view.group, view.listeners, out);
    }

    fn separate(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            out.push(b',');
        }
    }
}

impl Hub {
    /// Gives the next slices of long answers, to each session one in turn.
    pub(super) fn survey_some(&mut self, now: Us) {
        let mut keys = KEYS_A_TURN;
        while keys > 0
            && let Some(slot) = self.surveys.pop_front()
        {
            let session = &mut self.sessions[slot];
            session.ready = false;
            // It may have been closed, or blocked by its peer, meanwhile.
            if !session.can_go_on() {
                continue;
            }
            let Busy::Surveying(survey) = &mut session.busy else {
                continue;
            };
            let most = OUTPUT_MAX - session.output.len();
            let out = session.output.tail(&mut self.pool);
            let tables = (&self.locks, &self.signals);
            keys = keys.saturating_sub(survey.go_on(now, tables, most, out));
            if survey.is_done() {
                if let Some(backlog) = &mut session.backlog {
                    out.append(&mut backlog.take_behind());
                }
                self.answered(now, slot);
            } else {
                self.soil(slot);
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
