//! The answer to `show`: one key, its holds in the order of their grants and its queue in its order. The first thousand of
//! each are there, because a person reads no more; the counts are whole. Invariant: its cost follows from that key alone.

use super::agenda::{BYTES_A_UNIT, Work};
use super::view::{LOOK, SLICE, View};
use crate::command::{Peer, SessionId, Space, State};
use crate::wire::json;

/// Holds that are shown, and waits.
const SHOWN: usize = 1_000;
/// Steps over tickets that were shown before, for a unit of work.
const STEPS_A_UNIT: usize = 8;

/// How far the answer is.
pub(super) struct Show {
    space: Space,
    key: Vec<u8>,
    part: Part,
    /// How many tickets of this part were shown.
    shown: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Holders,
    Queue,
    Done,
}

impl Show {
    /// An answer about this key, of which nothing is written yet.
    pub fn new(space: Space, key: &[u8]) -> Show {
        Show {
            space,
            key: key.to_vec(),
            part: Part::Head,
            shown: 0,
        }
    }

    pub fn is_done(&self) -> bool {
        self.part == Part::Done
    }

    /// Appends the next slice, of some `most` bytes. Returns what that cost.
    pub fn go_on<'a>(
        &mut self,
        view: &View<'a, impl Fn(SessionId) -> Option<Peer<'a>>>,
        most: usize,
        out: &mut Vec<u8>,
    ) -> Work {
        let start = out.len();
        let mut cost = LOOK;
        while !self.is_done() {
            let spent = cost + ((out.len() - start) / BYTES_A_UNIT) as Work;
            if spent >= SLICE || out.len() - start >= most {
                return spent;
            }
            match self.part {
                Part::Head => {
                    let key = view.locks.view_of(view.now, self.space, &self.key);
                    out.extend_from_slice(b"ok ");
                    json::write_key(self.space, &self.key, key, out);
                    self.part = Part::Holders;
                }
                Part::Holders => {
                    if self.tickets(view, false, most, &mut cost, out) {
                        out.extend_from_slice(b"],\"queue\":[");
                        (self.part, self.shown) = (Part::Queue, 0);
                    }
                }
                Part::Queue => {
                    if !self.tickets(view, true, most, &mut cost, out) {
                        continue;
                    }
                    let key = view.locks.view_of(view.now, self.space, &self.key);
                    let idle = match key.map(|key| key.state) {
                        Some(State::Idle { span }) => Some(span),
                        _ => None,
                    };
                    out.push(b']');
                    json::write_key_end(idle, out);
                    out.push(b'\n');
                    self.part = Part::Done;
                }
                Part::Done => {}
            }
        }
        cost
    }

    /// Appends tickets of one part. Returns whether all of them are there.
    fn tickets<'a>(
        &mut self,
        view: &View<'a, impl Fn(SessionId) -> Option<Peer<'a>>>,
        waiting: bool,
        most: usize,
        cost: &mut Work,
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        *cost += (self.shown / STEPS_A_UNIT) as Work;
        let key = (self.space, &self.key[..]);
        let tickets = view.locks.view_tickets(view.now, key, waiting, self.shown);
        for ticket in tickets.take(SHOWN - self.shown) {
            let written = out.len() - start;
            if *cost + (written / BYTES_A_UNIT) as Work >= SLICE || written >= most {
                return false;
            }
            if self.shown > 0 {
                out.push(b',');
            }
            json::write_ticket(ticket, view.peer(ticket.session), out);
            self.shown += 1;
            *cost += LOOK;
        }
        true
    }
}
