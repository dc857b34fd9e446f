//! A store that needs time under the network without sockets: it has one batch of facts after the other, and answers when it
//! is told to. It notes which bytes were written behind which facts. Invariant: none of them leaves before those are kept.

use std::collections::VecDeque;

use dflockd::command::Us;
use dflockd::facts::{Facts, Held};
use dflockd::hub::Settings;

use super::Net;
use crate::harness::Store;

/// What a store that needs time was given, and which answers wait for it.
#[derive(Default)]
pub(super) struct Slow {
    /// The store with the batch that is in flight.
    next: Option<Store>,
    batch: Option<(Vec<u8>, u32)>,
    /// How many facts were in all batches, and in those that are kept.
    given: u64,
    kept: u64,
    /// By client, for what it was not sent yet: where a piece of output ends, counted from its first byte ever, and how many
    /// facts there were when it was written.
    pub(super) pieces: Vec<VecDeque<(usize, u64)>>,
}

impl Slow {
    /// Panics unless all facts are kept behind which these bytes of an output were written. Those of a client that asked for
    /// nothing that tells of a hold wait for none.
    pub(super) fn offered(&self, client: usize, from: usize, count: usize) {
        let mut begins = from;
        for &(end, facts) in &self.pieces[client] {
            assert!(begins >= from + count || facts <= self.kept, "S15");
            begins = end;
        }
    }
}

/// Whether no answer to this says what is held.
pub(super) fn is_plain(mut bytes: &[u8]) -> bool {
    let plain = [&b"ping\n_\n_\n"[..], b"auth\n_\nsesame\n"];
    while let Some(rest) = plain.iter().find_map(|frame| bytes.strip_prefix(*frame)) {
        bytes = rest;
    }
    let paths = ["/health", "/ready", "/metrics"];
    bytes.is_empty()
        || paths
            .iter()
            .any(|path| bytes.starts_with(format!("GET {path} HTTP/1.1\r\n").as_bytes()))
}

impl Net {
    /// A hub that goes on with these holds, on a store that needs time.
    pub fn with_holds<'a>(
        settings: Settings,
        now: Us,
        holds: impl Iterator<Item = Held<'a>>,
    ) -> Net {
        let mut net = Net::new(settings);
        net.now = now;
        let mut facts = Facts::kept();
        for held in holds {
            facts.held(&held);
            net.hub.recover(now, &held).expect("there were such holds");
        }
        net.store.keep(&facts);
        net.store.is_recovered();
        net.slow_down();
        net
    }

    /// From now on the store has each batch of facts until [`Net::store_answers`].
    pub fn slow_down(&mut self) {
        self.slow = Some(Slow::default());
    }

    /// The slow store has kept its batch, if there is one; what waited for it goes out, and the next batch is on its way.
    pub fn store_answers(&mut self) {
        let slow = self.slow.as_mut().expect("it needs time");
        if let Some(store) = slow.next.take() {
            slow.kept = slow.given;
            self.store = store;
            self.begin_turn();
            self.hub.batch_kept();
        }
    }

    /// Takes the batch that is on its way to the slow store, and how many facts it has.
    pub fn take_batch(&mut self) -> Option<(Vec<u8>, u32)> {
        let slow = self.slow.as_mut().expect("it needs time");
        slow.batch.take()
    }

    /// What has happened to holds is on its way to the slow store, if that has kept all before.
    pub(super) fn give(&mut self) {
        let slow = self.slow.as_mut().expect("it needs time");
        let facts = self.hub.facts();
        let emitted = slow.given + u64::from(facts.count());
        slow.pieces.resize_with(self.clients.len(), VecDeque::new);
        for (client, pieces) in self.clients.iter().zip(&mut slow.pieces) {
            let end = client.taken + self.hub.output(client.id).len();
            if pieces.back().is_none_or(|&(last, _)| last < end) {
                pieces.push_back((end, emitted));
            }
        }
        if slow.next.is_none() && !facts.is_empty() {
            let mut store = self.store.clone();
            store.keep(facts);
            (slow.next, slow.given) = (Some(store), emitted);
            let (bytes, count, mut batch) = (facts.bytes().to_vec(), facts.count(), Vec::new());
            self.hub.cut(&mut batch);
            assert_eq!(batch, bytes);
            slow.batch = Some((batch, count));
        }
    }
}
