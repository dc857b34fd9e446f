//! Deadlocks: somebody who waits is stuck when nobody who runs can be reached from it, along the key that it waits for,
//! to those who hold that, to the keys that these wait for, and so on. A semaphore is therefore no knot while one of its
//! holders runs. A knot is only ever closed by a wait of somebody who holds, or by a hold given to somebody who waits;
//! it is looked for there and nowhere else. Invariant: nobody is stuck, as far as a search may look.

use super::Locks;
use super::key::Key;
use super::owner::Actor;
use super::ticket::Ticket;
use crate::command::{Outbox, Refusal, Reply, WaitEdge};

/// Holds that one search looks at; a graph that is larger is not searched on, and its waits go on as ever.
const HOLDS_A_SEARCH: u32 = 1000;
/// What a look at a hold costs, in units of some 100 ns.
const LOOK: u32 = 2;
/// Knots that are kept to be told, and how many who wait of each.
const KNOTS: usize = 16;
const TIES: usize = 64;

impl Locks {
    /// Whether the session would be stuck if it waited for the key.
    pub(super) fn would_be_stuck(&mut self, member: u32, key: u32) -> bool {
        let actor = self.actor(member);
        // Who waits elsewhere already is about to be two, and never stuck.
        self.settings.deadlock_detection
            && self.awaited(actor).is_none()
            && self.may_be_stuck(actor)
            && self.is_stuck(actor, key)
    }

    /// Somebody was given a hold. If it waits elsewhere and is stuck with it, that wait is refused.
    pub(super) fn untie(&mut self, member: u32, out: &mut Outbox) {
        if !self.settings.deadlock_detection {
            return;
        }
        let actor = self.actor(member);
        let Some(place) = self.awaited(actor) else {
            return;
        };
        let Ticket { key, .. } = self.tickets[place];
        if self.may_be_stuck(actor) && self.is_stuck(actor, key) {
            self.dismiss(place, Reply::Refused(Refusal::Deadlock), out);
        }
    }

    /// Takes one of the latest deadlocks: who waited for what, the one that was refused first, and 64 at most.
    pub fn take_knot(&mut self) -> Option<Vec<WaitEdge>> {
        self.knots.pop_front()
    }

    /// What was done since it was asked last beyond what each command takes, in units of some 100 ns.
    pub fn take_work(&mut self) -> u32 {
        std::mem::take(&mut self.work)
    }

    /// Whether nobody who runs can be reached from `me`, who waits for `key`.
    fn is_stuck(&mut self, me: Actor, key: u32) -> bool {
        let mut search = std::mem::take(&mut self.search);
        search.begin(me, key);
        let is_stuck = self.is_exhausted(&mut search);
        if is_stuck {
            self.counts.deadlocks += 1;
            self.keep_knot(&search.ties);
        }
        self.search = search;
        is_stuck
    }

    /// Goes on with a search until somebody is found who runs, or all who can be reached wait.
    fn is_exhausted(&mut self, search: &mut Search) -> bool {
        self.counts.searches += 1;
        let (mut next, most) = (0, self.work + HOLDS_A_SEARCH * LOOK);
        while let Some(&(_, key)) = search.ties.get(next) {
            next += 1;
            if !is_new(&mut search.keys, key) {
                continue;
            }
            // A slot that is free will be taken by whoever is first in line.
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
                search.ties.push((actor, self.tickets[awaited].key));
            }
        }
        true
    }

    fn keep_knot(&mut self, ties: &[(Actor, u32)]) {
        if self.knots.len() == KNOTS {
            self.knots.pop_front();
        }
        let tie = |&(actor, key): &(Actor, u32)| WaitEdge {
            owner: self.owner(actor),
            space: self.keys[key].space(),
            key: self.keys[key].name().to_vec(),
        };
        let knot = ties.iter().take(TIES).map(tie).collect();
        self.knots.push_back(knot);
    }
}

/// What a search has seen; kept between searches for its memory.
#[derive(Default)]
pub(super) struct Search {
    /// Who waits, and for which key, in the order in which they were found.
    ties: Vec<(Actor, u32)>,
    /// Sorted.
    actors: Vec<Actor>,
    keys: Vec<u32>,
}

impl Search {
    fn begin(&mut self, me: Actor, key: u32) {
        self.ties.clear();
        self.actors.clear();
        self.keys.clear();
        self.ties.push((me, key));
        self.actors.push(me);
    }
}

/// Adds a value to those that were seen, unless it was.
fn is_new<T: Ord>(seen: &mut Vec<T>, value: T) -> bool {
    match seen.binary_search(&value) {
        Ok(_) => false,
        Err(place) => {
            seen.insert(place, value);
            true
        }
    }
}
