//! The answer to `stats`: one line of JSON over all keys and listeners. What comes and goes between two slices of it may be
//! missed or seen twice.

use super::agenda::{BYTES_A_UNIT, Work};
use super::view::{LOOK, SLICE, View};
use crate::command::{Peer, SessionId, Space, State, View as KeyView};
use crate::signals;
use crate::wire::distlockd::NAME_MAX;
use crate::wire::text::LINE_MAX;
use crate::wire::{json, text};

/// What a part of a pattern costs.
const PART: Work = 1;

/// The longest that an entry takes in the answer: each byte of two names escaped, the key's of the face that has the
/// longest, and numbers.
pub(super) const ENTRY_MAX: usize = 6 * (NAME_MAX + LINE_MAX) + 256;

/// The arrays of the answer, in order.
const ARRAYS: [&str; 5] = [
    "locks",
    "semaphores",
    "idle_locks",
    "idle_semaphores",
    "signal_channels",
];
const CHANNELS: usize = 4;

/// How far the answer to `stats` is.
#[derive(Default)]
pub(super) struct Stats {
    array: usize,
    /// The next place to look at.
    place: u32,
    /// The array has its bracket.
    opened: bool,
    /// The array has an element.
    begun: bool,
}

impl Stats {
    /// Begins the answer.
    pub fn start(connections: usize, out: &mut Vec<u8>) -> Stats {
        out.extend_from_slice(b"ok {\"connections\":");
        text::write_number(connections as u64, out);
        Stats::default()
    }

    pub fn is_done(&self) -> bool {
        self.array == ARRAYS.len()
    }

    pub fn go_on<'a>(
        &mut self,
        view: &View<'a, impl Fn(SessionId) -> Option<Peer<'a>>>,
        most: usize,
        out: &mut Vec<u8>,
    ) -> Work {
        let View {
            now,
            locks,
            signals,
            ref counts,
            ..
        } = *view;
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
                    _ => self.show_key(locks.view(now, self.place), view, out),
                };
                self.place += 1;
            }
            out.push(b']');
            *self = Stats {
                array: self.array + 1,
                ..Stats::default()
            };
        }
        let tail = format!(
            ",\"deadlocks\":{},\"deadlock_searches_cut\":{},\"auto_release\":{},\"restart\":{{\"protection\":\"{}\"",
            counts.locks.deadlocks,
            counts.locks.searches_cut,
            locks.auto_release(),
            counts.protection.name()
        );
        out.extend_from_slice(tail.as_bytes());
        json::write_seconds("opens_in_s", counts.opens_in, out);
        out.push(b'}');
        if let Some((standing, silence)) = counts.standing {
            let (role, revision) = (standing.role(), standing.revision);
            let ha = format!(",\"ha\":{{\"role\":\"{role}\",\"revision\":{revision}");
            out.extend_from_slice(ha.as_bytes());
            json::write_seconds("heard_s", silence, out);
            out.push(b'}');
        }
        out.extend_from_slice(b"}\n");
        cost
    }

    /// Appends the key if it belongs to the array that is being written.
    fn show_key<'a>(
        &mut self,
        key: Option<KeyView>,
        view: &View<'a, impl Fn(SessionId) -> Option<Peer<'a>>>,
        out: &mut Vec<u8>,
    ) -> Work {
        if let Some(key) = key.filter(|&key| array_of(key) == self.array) {
            self.separate(out);
            json::write_view(key, view.peer(session_of(key)), out);
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

/// The session of the key's oldest hold.
fn session_of(key: KeyView) -> Option<SessionId> {
    match key.state {
        State::Used { oldest, .. } => oldest?.session,
        State::Idle { .. } => None,
    }
}

fn array_of(view: KeyView) -> usize {
    match (view.state, view.space) {
        (State::Used { .. }, Space::Lock) => 0,
        (State::Used { .. }, Space::Semaphore) => 1,
        (State::Idle { .. }, Space::Lock) => 2,
        (State::Idle { .. }, Space::Semaphore) => 3,
    }
}
