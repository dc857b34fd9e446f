//! The answers to GET of a lock's status and of the list of locks. They have a length in front, so they are put together
//! a slice a turn and sent when they are whole. Invariant: an answer is bounded in bytes, however much is held and however
//! long its metadata is: holders, waiters and pages end early if they become long, and their counts stay true.

use super::agenda::{BYTES_A_UNIT, Work};
use super::view::{LOOK, SLICE, View};
use crate::command::{Peer, SessionId, Space, State};
use crate::wire::http::{Clock, Query, lock};

/// Holders of a lock that are shown, and waiters.
const SHOWN: usize = 1_000;
/// What it costs to write the object of a lock, of a hold or of a wait.
const OBJECT: Work = 30;
/// Steps over tickets that were shown before, for a unit of work.
const STEPS_A_UNIT: usize = 8;
/// Bytes of a page after which it ends; so do the holders of a status, and its queue.
const PAGE_BYTES: usize = 256 * 1024;
/// Bytes after which the holders of a lock in a list end.
const LOCK_BYTES: usize = 64 * 1024;

/// How far an answer is.
pub(super) struct Status {
    /// Of the list; None for the status of one lock.
    page: Option<Page>,
    /// With the queue of the lock.
    queue: bool,
    /// The list has only locks of this space, if it says which.
    wanted: Option<Space>,
    /// The lock that is being shown.
    space: Space,
    name: Vec<u8>,
    part: Part,
    /// How many tickets of this part were shown.
    shown: usize,
    /// How long the body may become before this part ends.
    end: usize,
    /// What there is of the answer.
    pub body: Vec<u8>,
}

struct Page {
    prefix: Vec<u8>,
    /// The place to look at next.
    place: u32,
    /// Locks on the page, and how many there may be.
    count: usize,
    most: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Next,
    Head,
    Holders,
    Queue,
    Done,
}

impl Status {
    /// The status of one lock.
    pub fn of(name: &[u8], query: &Query) -> Status {
        Status {
            page: None,
            queue: query.queue,
            wanted: query.space,
            space: query.space.unwrap_or_default(),
            name: name.to_vec(),
            part: Part::Head,
            shown: 0,
            end: 0,
            body: Vec::new(),
        }
    }

    /// A page of the list.
    pub fn page(query: &Query) -> Status {
        let page = Page {
            prefix: query.prefix.clone(),
            place: query.after,
            count: 0,
            most: query.limit,
        };
        Status {
            page: Some(page),
            part: Part::Next,
            body: b"{\"locks\":[".to_vec(),
            ..Status::of(b"", query)
        }
    }

    pub fn is_done(&self) -> bool {
        self.part == Part::Done
    }

    /// Goes on by a slice. Returns what that cost.
    pub fn go_on<'a>(&mut self, view: &View<'a, impl Fn(SessionId) -> Option<Peer<'a>>>) -> Work {
        let start = self.body.len();
        let mut cost = LOOK;
        while !self.is_done() {
            let spent = cost + ((self.body.len() - start) / BYTES_A_UNIT) as Work;
            if spent >= SLICE {
                return spent;
            }
            match self.part {
                Part::Next => self.next(view, &mut cost),
                Part::Head => {
                    self.head(view);
                    cost += OBJECT;
                }
                Part::Holders => self.tickets(view, false, &mut cost),
                Part::Queue => self.tickets(view, true, &mut cost),
                Part::Done => {}
            }
        }
        cost + ((self.body.len() - start) / BYTES_A_UNIT) as Work
    }

    /// Looks for the next lock of the page, or ends it.
    fn next<'a>(
        &mut self,
        view: &View<'a, impl Fn(SessionId) -> Option<Peer<'a>>>,
        cost: &mut Work,
    ) {
        let wanted = self.wanted;
        let page = self.page.as_mut().expect("only a page has a next lock");
        let is_full = page.count >= page.most || self.body.len() >= PAGE_BYTES;
        let places = view.locks.places();
        while !is_full && page.place < places && *cost < SLICE {
            *cost += LOOK;
            let found = view.locks.used_at(page.place);
            page.place += 1;
            let is_wanted = |&(space, name): &(Space, &[u8])| {
                wanted.is_none_or(|wanted| wanted == space) && name.starts_with(&page.prefix)
            };
            if let Some((space, name)) = found.filter(is_wanted) {
                (self.space, self.part) = (space, Part::Head);
                self.name.clear();
                self.name.extend_from_slice(name);
                return;
            }
        }
        if !is_full && page.place < places {
            return;
        }
        let next = match page.place < places {
            true => format!("\"{}\"", page.place),
            false => "null".to_string(),
        };
        let (count, total) = (page.count, view.locks.keys());
        let tail = format!("],\"count\":{count},\"total\":{total},\"next\":{next}}}");
        self.body.extend_from_slice(tail.as_bytes());
        self.part = Part::Done;
    }

    fn head<'a>(&mut self, view: &View<'a, impl Fn(SessionId) -> Option<Peer<'a>>>) {
        let key = view.locks.view_of(view.now, self.space, &self.name);
        let used = key.filter(|key| matches!(key.state, State::Used { .. }));
        if let Some(page) = &mut self.page {
            if used.is_none() {
                self.part = Part::Next;
                return;
            }
            if page.count > 0 {
                self.body.push(b',');
            }
            page.count += 1;
        }
        match used {
            Some(key) => lock::write_lock(&key, clock(view), &mut self.body),
            None => lock::write_free(self.space, &self.name, &mut self.body),
        }
        let most = match self.page {
            Some(_) => LOCK_BYTES,
            None => PAGE_BYTES,
        };
        self.begin(Part::Holders, most);
    }

    /// Begins a part that ends after so many bytes.
    fn begin(&mut self, part: Part, most: usize) {
        (self.part, self.shown) = (part, 0);
        self.end = self.body.len() + most;
    }

    /// Appends tickets of one part, and goes on to the next part once all are there.
    fn tickets<'a>(
        &mut self,
        view: &View<'a, impl Fn(SessionId) -> Option<Peer<'a>>>,
        waiting: bool,
        cost: &mut Work,
    ) {
        let start = self.body.len();
        *cost += (self.shown / STEPS_A_UNIT) as Work;
        let key = (self.space, &self.name[..]);
        let tickets = view.locks.view_tickets(view.now, key, waiting, self.shown);
        for ticket in tickets.take(SHOWN - self.shown) {
            if self.body.len() >= self.end {
                break;
            }
            if *cost + ((self.body.len() - start) / BYTES_A_UNIT) as Work >= SLICE {
                return;
            }
            if self.shown > 0 {
                self.body.push(b',');
            }
            let peer = view.peer(ticket.session);
            match waiting {
                false => lock::write_holder(&ticket, peer, clock(view), &mut self.body),
                true => lock::write_waiter(&ticket, peer, &mut self.body),
            }
            self.shown += 1;
            *cost += OBJECT;
        }
        self.body.push(b']');
        if !waiting && self.page.is_none() && self.queue {
            self.body.extend_from_slice(b",\"queue\":[");
            self.begin(Part::Queue, PAGE_BYTES);
            return;
        }
        self.body.push(b'}');
        self.part = match self.page {
            Some(_) => Part::Next,
            None => Part::Done,
        };
    }
}

fn clock<Find>(view: &View<Find>) -> Clock {
    Clock {
        now: view.now,
        wall_us: view.counts.wall_us,
    }
}
