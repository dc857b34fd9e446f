//! Those who speak in distlockd's frames, as the judge of the hub sees them. The world sees to it that what they say is
//! done the moment it comes, in the order in which it was said, before the clock's work; only what clients on lines say
//! in the same turn came perhaps before, perhaps after. So the holds of this face are known exactly, and join those that
//! the judge knows by their tokens.

use std::collections::VecDeque;

use super::{Hold, Judge, News, OUTPUT_MAX, Peer, Wait, count_keys};
use crate::harness::Net;
use dflockd::command::Us;

/// What a frame asks for; keys and owners by their numbers.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    Claim {
        key: usize,
        owner: usize,
    },
    Yield {
        key: usize,
        owner: usize,
    },
    Health,
    /// It cannot be done, for this reason.
    Mistake(&'static str),
}

/// One connection of this face.
#[derive(Default)]
pub struct Caller {
    /// What it has made up its mind to say and has no answer for, and where that ends.
    pub calls: VecDeque<(Call, usize)>,
    /// Bytes that were sent.
    pub sent: usize,
    /// Of these, bytes of answered requests.
    done: usize,
    /// Bytes of answers that were judged, and what came with this turn.
    seen: usize,
    new: VecDeque<u8>,
    /// It said more than is done at once.
    pub flooded: bool,
    /// Its connection broke.
    pub reset: bool,
    /// It took nothing of what there is for it, for too long.
    pub cut: bool,
    /// Where the request begins of which a part is there, and since when it is.
    begun: Option<(usize, Us)>,
    /// It is over.
    over: bool,
}

/// A hold of this face, beside its place in the judge's list.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Claim(usize);

/// An answer.
#[derive(PartialEq, Debug)]
struct Answer(u8, String);

impl Answer {
    fn is_ok(&self) -> bool {
        *self == Answer(0, String::new())
    }

    fn is(&self, status: u8, message: &str) -> bool {
        (self.0, self.1.as_str()) == (status, message)
    }
}

impl Caller {
    /// Reads one frame of the new bytes.
    fn answer(&mut self) -> Option<Answer> {
        let mut head = self.new.iter().copied();
        let (status, high, low) = (head.next()?, head.next()?, head.next()?);
        let len = usize::from(u16::from_be_bytes([high, low]));
        assert!(self.new.len() >= 3 + len, "whole frames");
        let message = self.new.drain(..3 + len).skip(3).collect();
        Some(Answer(status, String::from_utf8(message).expect("text")))
    }
}

impl Judge {
    /// One has connected.
    pub fn dialled(&mut self) {
        self.peers.push(Peer {
            caller: Some(Caller::default()),
            // Over from the first, as far as lines go.
            over: Some(0),
            ..Peer::default()
        });
    }

    /// Callers that are there.
    pub fn callers(&self) -> Vec<usize> {
        let open = |caller: &Caller| !caller.over && !caller.reset;
        (0..self.peers.len())
            .filter(|&at| self.peers[at].caller.as_ref().is_some_and(open))
            .collect()
    }

    pub fn is_caller(&self, at: usize) -> bool {
        self.peers[at].caller.is_some()
    }

    pub fn caller(&mut self, at: usize) -> &mut Caller {
        self.peers[at].caller.as_mut().expect("it is one")
    }

    /// The caller sends so many bytes more.
    pub fn called(&mut self, at: usize, bytes: usize) {
        let caller = self.caller(at);
        caller.sent += bytes;
        let sent = caller.sent;
        self.order.push((at, sent));
    }

    /// Keys, and by whom they were claimed.
    pub fn claims(&self) -> Vec<(usize, usize)> {
        let claim = |hold: &Hold| Some((hold.key, hold.claim?.0));
        self.holds.iter().filter_map(claim).collect()
    }

    /// What the frames of this turn were answered.
    pub(super) fn hear_callers(&mut self, net: &Net, news: &mut News, waits: &[Wait]) {
        for (at, client) in net.clients.iter().enumerate() {
            let Some(caller) = &mut self.peers[at].caller else {
                continue;
            };
            let told = [&client.heard, net.output(at)].concat();
            // Of one that was cut off the rest is lost.
            caller.new = told.get(caller.seen..).unwrap_or_default().to_vec().into();
            caller.seen = caller.seen.max(told.len());
        }
        for (at, sent) in std::mem::take(&mut self.order) {
            self.answer_calls(at, sent, news, waits);
        }
        for at in 0..self.peers.len() {
            if self.peers[at].caller.is_some() {
                self.answer_calls(at, usize::MAX, news, waits);
                assert!(self.caller(at).new.is_empty(), "an answer too many");
            }
        }
    }

    /// Every whole frame of the caller among its first bytes has one answer, in order.
    fn answer_calls(&mut self, at: usize, sent: usize, news: &mut News, waits: &[Wait]) {
        loop {
            let caller = self.caller(at);
            let whole = caller
                .calls
                .front()
                .filter(|call| call.1 <= sent.min(caller.sent));
            let Some(&(call, end)) = whole else { break };
            let Some(answer) = caller.answer() else {
                assert!(caller.flooded || caller.over, "{call:?} has no answer");
                break;
            };
            caller.calls.pop_front();
            caller.done = end;
            self.answered_call(call, &answer, news, waits);
        }
    }

    fn answered_call(&mut self, call: Call, answer: &Answer, news: &mut News, waits: &[Wait]) {
        let draining = self.draining && answer.is(1, "error_draining");
        match call {
            Call::Mistake(why) => assert!(answer.is(3, why), "{answer:?}, but {why}"),
            Call::Health => assert!(draining || answer.is_ok() && !self.draining),
            Call::Claim { .. } if self.draining => assert!(draining, "{answer:?} in a drain"),
            Call::Claim { key, owner } => self.claimed(key, Claim(owner), answer, news, waits),
            Call::Yield { key, owner } => self.yielded(key, Claim(owner), answer, news, waits),
        }
    }

    fn claimed(&mut self, key: usize, by: Claim, answer: &Answer, news: &mut News, waits: &[Wait]) {
        let (now, limits) = (self.now, self.settings.locks.clone());
        let lasts = |hold: &&mut Hold| hold.key == key && hold.due > now;
        let gone = &news.released;
        let there = |hold: &&mut Hold| lasts(hold) && !gone.contains(&hold.token);
        let mut holds = self.holds.iter_mut().filter(there);
        let (claims, lines): (Vec<_>, Vec<_>) = holds.by_ref().partition(|h| h.claim.is_some());
        let due = now + limits.claim_lease;
        if let Some(hold) = claims.into_iter().next() {
            if hold.claim == Some(by) {
                assert!(answer.is_ok(), "{answer:?} to the holder");
                hold.due = due;
                return news.renewed.push(hold.token.clone());
            }
            return assert!(answer.is(2, "Lock is busy"), "{answer:?}: it is claimed");
        }
        let queue = waits.iter().any(|wait| wait.key == key);
        let busy = !lines.is_empty() || queue || news.handed.contains(&key);
        let doubt = !self.solo || self.unheard(key) > 0;
        let (held, used) = (self.held_but(news), |keys: usize| keys >= limits.max_locks);
        let is_used = held.iter().any(|hold| hold.key == key) || queue;
        let least = count_keys(&held, waits, []);
        let most = count_keys(&held, waits, self.unheard_keys());
        if answer.is(1, "error_max_locks") {
            let full = used(most) && !is_used || !self.solo && limits.max_locks < super::KEYS;
            return assert!(full, "there is room");
        }
        if answer.is(2, "Lock is busy") {
            assert!(busy || doubt, "a free lock was refused");
            // A hold that is past due has ended all the same, and who came first has it.
            return self.evict(key, news, queue);
        }
        assert!(answer.is_ok(), "{answer:?} answers no claim");
        assert!(!busy || doubt, "S1: it is held, or somebody came before");
        assert!(is_used || !used(least) || !self.solo, "S10: it is one more");
        self.evict(key, news, false);
        self.claimed += 1;
        let token = format!("@{:031}", self.claimed);
        news.claimed.push(token.clone());
        self.holds.push(Hold {
            key,
            token,
            owner: None,
            claim: Some(by),
            due,
            limit: 1,
        });
    }

    fn yielded(&mut self, key: usize, by: Claim, answer: &Answer, news: &mut News, waits: &[Wait]) {
        let gone = &news.released;
        let mut holds = self.holds.iter();
        let hold = holds.find(|h| h.key == key && h.claim == Some(by) && !gone.contains(&h.token));
        if let Some(hold) = hold.filter(|_| answer.is_ok()) {
            news.released.push(hold.token.clone());
            if waits.iter().any(|wait| wait.key == key) && !self.draining {
                news.handed.push(key);
            }
            return;
        }
        assert!(
            answer.is(1, "Invalid release"),
            "{answer:?}: it has nothing"
        );
        // Who came to a line may have ended a lease that is over.
        let over = |hold: &Hold| hold.due <= self.now && !self.solo;
        assert!(hold.is_none_or(over), "it has not ended");
    }

    /// Claims of the key that are past due end when somebody asks for it.
    fn evict(&mut self, key: usize, news: &mut News, queue: bool) {
        let past = |hold: &&Hold| hold.key == key && hold.due <= self.now;
        let mut ends = false;
        for hold in self.holds.iter().filter(past) {
            ends = true;
            if hold.claim.is_some() && !news.released.contains(&hold.token) {
                news.released.push(hold.token.clone());
            }
        }
        if ends && queue {
            news.handed.push(key);
        }
    }

    /// What is held before the clock's work, without what has been given back.
    fn held_but(&self, news: &News) -> Vec<Hold> {
        let holds = self.holds.iter();
        let holds = holds.filter(|hold| !news.released.contains(&hold.token));
        holds.cloned().collect()
    }

    /// A claim excludes all others, and passes nobody.
    pub(super) fn judge_claims(&self, news: &News, waits: &[Wait]) {
        for hold in self.holds.iter().filter(|hold| hold.claim.is_some()) {
            let others = self.holds.iter().filter(|other| other.key == hold.key);
            assert_eq!(others.count(), 1, "S1: it is claimed");
            if !news.claimed.contains(&hold.token) {
                continue;
            }
            let now = self.waits();
            for wait in waits.iter().filter(|wait| wait.key == hold.key) {
                let stays = |w: &Wait| (w.peer, w.turn) == (wait.peer, wait.turn);
                assert!(!now.iter().any(stays), "S2: somebody came before");
            }
        }
    }

    /// The life of their connections: only half a request has its time.
    pub(super) fn judge_callers(&mut self, net: &Net) {
        let lines = self.peers.iter().zip(&net.clients);
        let mut lines = lines.filter(|(peer, _)| peer.caller.is_none());
        if self.draining && lines.all(|(_, client)| client.closed) {
            assert!(net.is_drained(), "no line is left");
        }
        if self.is_cut_short(net) {
            return;
        }
        for (at, (peer, client)) in self.peers.iter_mut().zip(&net.clients).enumerate() {
            let Some(caller) = &mut peer.caller else {
                continue;
            };
            if caller.over {
                assert!(client.closed);
                continue;
            }
            let output = net.output(at);
            let come = caller.sent - client.unread.len();
            let waits = caller.calls.front().is_some_and(|call| call.1 <= come);
            assert!(
                !waits || output.len() >= OUTPUT_MAX || client.closed,
                "unanswered"
            );
            let part = come > caller.done && !waits;
            let begun = caller
                .begun
                .filter(|&(start, _)| part && start == caller.done);
            let (_, since) = begun.unwrap_or((caller.done, self.now));
            caller.begun = part.then_some((caller.done, since));
            let timeout = since + self.settings.read_timeout;
            let late = part && timeout <= self.now;
            if client.closed {
                let ended = client.ended || caller.reset || caller.cut;
                assert!(ended || late || caller.flooded, "closed without a reason");
                caller.over = true;
                continue;
            }
            assert!(!client.shut, "it does not linger");
            assert!(!caller.reset && !caller.cut, "it is gone");
            assert!(
                !client.ended || waits || !output.is_empty(),
                "both have ended"
            );
            assert!(!late || caller.flooded, "half a request has an end");
            if part && !caller.flooded {
                self.wake = self.wake.min(timeout);
            }
            caller.flooded &= waits || !output.is_empty();
        }
    }
}
