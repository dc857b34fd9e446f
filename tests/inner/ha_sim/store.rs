//! The store that several servers share, as a model: one history of changes, each made whole or not at all. The way to it
//! loses requests and answers, delays them, and brings a request a second time when nobody expects it any more.

use std::collections::BTreeMap;

use dflockd::command::Us;
use dflockd::store::leadership::{Ask, Change, Head, Told};

use crate::harness::Dice;

/// How long a server waits for an answer.
pub const PATIENCE: Us = 1_000_000;
/// Batches in one answer.
const PAGE: usize = 3;

#[derive(Default)]
pub struct Store {
    revision: u64,
    head: Option<(u64, Head)>,
    log: BTreeMap<u64, Vec<u8>>,
    asked: u64,
    /// Requests on their way, with the time at which they arrive, and which they are if somebody waits for the answer.
    requests: Vec<(Us, Option<u64>, Ask)>,
    /// Answers on their way, with the time, the server that they are for and the request.
    answers: Vec<(Us, usize, u64, Told)>,
    /// Until then no request and no answer comes through.
    pub cut: Us,
}

impl Store {
    /// A server asks. It hears something within its patience.
    pub fn ask(&mut self, now: Us, node: usize, ask: Ask, faults: u64, dice: &mut Dice) {
        let mut delay = || match dice.below(100) {
            chance if chance < faults => dice.below(2 * PATIENCE),
            _ => 200 + dice.below(3_000),
        };
        let (there, late) = (now + delay(), now + PATIENCE + delay());
        self.asked += 1;
        let is_lost = now < self.cut || dice.chance(faults);
        if !is_lost {
            self.requests.push((there, Some(self.asked), ask.clone()));
        }
        if matches!(ask, Ask::Change(_)) && dice.chance(faults) {
            self.requests.push((late, None, ask));
        }
        // Whatever comes behind this is not waited for.
        self.answers
            .push((now + PATIENCE, node, self.asked, Told::Nothing));
    }

    /// What has come by now: answers, each with its server.
    pub fn deliver(&mut self, now: Us, faults: u64, dice: &mut Dice) -> Vec<(usize, Told)> {
        self.requests.sort_by_key(|&(at, ..)| at);
        while let Some(&(at, ..)) = self.requests.first()
            && at <= now
        {
            let (_, asked, ask) = self.requests.remove(0);
            let told = self.carry_out(ask);
            if at < self.cut || dice.chance(faults) {
                continue;
            }
            let mut answers = self.answers.iter_mut();
            if let Some(answer) = answers.find(|answer| Some(answer.2) == asked)
                && at + 500 < answer.0
            {
                (answer.0, answer.3) = (at + 500, told);
            }
        }
        let due = self.answers.extract_if(.., |(at, ..)| *at <= now);
        due.map(|(_, node, _, told)| (node, told)).collect()
    }

    /// The server is stopped, and finds the answer when it goes on.
    pub fn keep_for(&mut self, until: Us, node: usize, told: Told) {
        self.answers.push((until, node, 0, told));
    }

    /// The server is gone: nobody waits for its answers.
    pub fn forget(&mut self, node: usize) {
        self.answers.retain(|&(_, to, ..)| to != node);
    }

    fn carry_out(&mut self, ask: Ask) -> Told {
        match ask {
            Ask::Look => Told::Head(self.head.clone()),
            Ask::Change(change) => self.change(change),
            Ask::Load { from, count } => {
                let mut rest = self
                    .log
                    .range(from..)
                    .map(|(&at, batch)| (at, batch.clone()));
                let page = rest.by_ref().take(PAGE.min(count as usize)).collect();
                Told::Batches(page, rest.next().is_some())
            }
            Ask::Compact { revision } => {
                assert!(revision <= self.revision, "etcd refuses a revision to come");
                Told::Compacted
            }
        }
    }

    fn change(&mut self, change: Change) -> Told {
        if self.head.as_ref().map_or(0, |&(revision, _)| revision) != change.revision {
            return Told::Refused(self.head.clone());
        }
        self.revision += 1;
        if let Some(number) = change.keep_from {
            self.log = self.log.split_off(&number);
        }
        if let Some(batch) = change.batch {
            let former = self.log.insert(change.head.number, batch);
            assert_eq!(former, None, "a number is used once");
        }
        let largest = change.head.largest;
        assert!(
            self.log.values().all(|batch| batch.len() as u64 <= largest),
            "an answer could be too long"
        );
        self.head = Some((self.revision, change.head));
        Told::Changed(self.revision)
    }

    /// How many batches there are.
    pub fn len(&self) -> usize {
        self.log.len()
    }
}
