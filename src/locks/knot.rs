//! Deadlocks, or knots. An actor that waits is stuck if the search from it finds no actor that runs: from the key that
//! it waits for to the holders of that, from these to the keys that they wait for, and so on. So a semaphore with one
//! running holder makes no deadlock. Two events can close one: an actor that holds begins to wait, or an actor that
//! waits is given a hold. The search runs at these two. Invariant: nobody is stuck, unless a search was cut because the
//! graph was too large.

use super::Locks;
use super::key::Key;
use super::owner::Actor;
use super::ticket::Ticket;
use crate::command::{Refusal, Reply, SessionId, WaitEdge};
use crate::facts::Outbox;

/// Holds that one search looks at. A search of a larger graph is cut: it finds no deadlock, and the wait goes on.
const HOLDS_A_SEARCH: u32 = 1000;
/// The cost of one look at a hold, in units of some 100 ns.
const LOOK: u32 = 2;
/// Knots that are kept until they are taken, and edges that are kept of each.
const KNOTS: usize = 16;
const EDGES: usize = 64;

impl Locks {
    /// Whether the session would be stuck if it waited for the key.
    pub(super) fn would_be_stuck(&mut self, member: u32, key: u32) -> bool {
        let actor = self.actor(member);
        // If another session of this owner waits already, the owner counts as running.
        self.settings.deadlock_detection
            && self.awaited(actor).is_none()
            && self.may_be_stuck(actor)
            && self.is_stuck(actor, key, self.members[member as usize].id)
    }

    /// This member was given a hold. If its owner waits elsewhere and is stuck with the hold, that wait is refused.
    pub(super) fn refuse_if_stuck(&mut self, member: u32, out: &mut Outbox) {
        if !self.settings.deadlock_detection {
            return;
        }
        let actor = self.actor(member);
        let Some(place) = self.awaited(actor) else {
            return;
        };
        let Ticket { key, member, .. } = self.tickets[place];
        let id = self.members[member as usize].id;
        if self.may_be_stuck(actor) && self.is_stuck(actor, key, id) {
            self.dismiss(place, Reply::Refused(Refusal::Deadlock), out);
        }
    }

    /// Takes the oldest of the deadlocks that are kept: at most 64 edges, the refused wait first.
    pub fn take_knot(&mut self) -> Option<Vec<WaitEdge>> {
        self.knots.pop_front().map(|knot| knot.1)
    }

    /// The deadlock for which this session was refused last, if it was not taken yet.
    pub fn knot_of(&self, id: SessionId) -> Option<&[WaitEdge]> {
        let knot = self.knots.iter().rev().find(|knot| knot.0 == id);
        knot.map(|knot| &knot.1[..])
    }

    /// Takes the cost of the searches since the last call, in units of some 100 ns.
    pub fn take_work(&mut self) -> u32 {
        std::mem::take(&mut self.work)
    }

    /// Whether no actor that runs can be reached from `me`, which waits for `key` by this session.
    fn is_stuck(&mut self, me: Actor, key: u32, id: SessionId) -> bool {
        let mut search = std::mem::take(&mut self.search);
        search.begin(me, key);
        let is_stuck = self.all_wait(&mut search);
        if is_stuck {
            self.counts.deadlocks += 1;
            self.keep_knot(id, &search.edges);
        }
        self.search = search;
        is_stuck
    }

    /// Searches on until an actor is found that runs. True if all that can be reached wait.
    fn all_wait(&mut self, search: &mut Search) -> bool {
        self.counts.searches += 1;
        let (mut next, most) = (0, self.work + HOLDS_A_SEARCH * LOOK);
        while let Some(&(_, key)) = search.edges.get(next) {
            next += 1;
            if !is_new(&mut search.keys, key) {
                continue;
            }
            // A free slot is granted to the first in the queue, so this wait is not stuck.
            let Key { held, tickets, .. } = self.keys[key];
            if held < self.keys[key].limit() {
                return false;
            }
            for hold in tickets.places(&self.tickets).take(held as usize) {
                if self.work == most {
                    self.counts.searches_cut += 1;
                    return false;
                }
                self.work += LOOK;
                let actor = self.holder(hold);
                if !is_new(&mut search.actors, actor) {
                    continue;
                }
                let Some(awaited) = self.awaited(actor) else {
                    return false;
                };
                search.edges.push((actor, self.tickets[awaited].key));
            }
        }
        true
    }

    fn keep_knot(&mut self, id: SessionId, edges: &[(Actor, u32)]) {
        if self.knots.len() == KNOTS {
            self.knots.pop_front();
        }
        let edge = |&(actor, key): &(Actor, u32)| WaitEdge {
            owner: self.owner(actor),
            space: self.keys[key].space(),
            key: self.keys[key].name().to_vec(),
        };
        let knot = edges.iter().take(EDGES).map(edge).collect();
        self.knots.push_back((id, knot));
    }
}

/// What a search has seen. It is kept between searches for its memory.
#[derive(Default)]
pub(super) struct Search {
    /// Actors and the key that each waits for, in the order in which they were found.
    edges: Vec<(Actor, u32)>,
    /// Actors seen, sorted.
    actors: Vec<Actor>,
    /// Keys seen, sorted.
    keys: Vec<u32>,
}

impl Search {
    fn begin(&mut self, me: Actor, key: u32) {
        self.edges.clear();
        self.actors.clear();
        self.keys.clear();
        self.edges.push((me, key));
        self.actors.push(me);
    }
}

/// Adds a value to a sorted list. False if it was in already.
fn is_new<T: Ord>(seen: &mut Vec<T>, value: T) -> bool {
    match seen.binary_search(&value) {
        Ok(_) => false,
        Err(place) => {
            seen.insert(place, value);
            true
        }
    }
}
