//! Clients of distlockd, as the judge of the hub sees them: frames in, frames out, in order, and how their connections
//! end. Their claims are the story's.

use std::collections::VecDeque;

use super::frames::delivered;
use super::spelling::frame;
use super::{Judge, OUTPUT_MAX, Peer};
use crate::harness::Net;
use crate::judges::locks::Act;
use dflockd::command::Us;

/// What a frame asks for.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    Lock(Act),
    Health,
    /// It cannot be done, for this reason.
    Mistake(&'static str),
}

/// One connection of this face.
#[derive(Default)]
pub struct Caller {
    /// What it has made up its mind to say and has no answer for, and where that ends.
    pub calls: VecDeque<(Request, usize)>,
    /// Bytes that were sent.
    pub sent: usize,
    /// Of these, bytes of answered requests.
    done: usize,
    /// Bytes of the next answer.
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

impl Caller {
    /// The next answer, if it is whole.
    fn answer(&mut self) -> Option<(u8, String)> {
        let mut head = self.new.iter().copied();
        let (status, high, low) = (head.next()?, head.next()?, head.next()?);
        let len = 3 + usize::from(u16::from_be_bytes([high, low]));
        if self.new.len() < len {
            return None;
        }
        let message = self.new.drain(..len).skip(3).collect();
        Some((status, String::from_utf8(message).expect("text")))
    }

    /// What it asked of the locks, by so many bytes, and has no answer for.
    pub(super) fn unanswered(&self, come: usize) -> Vec<(Option<Act>, usize)> {
        let whole = self.calls.iter().take_while(|call| call.1 <= come);
        let act = |request: Request| match request {
            Request::Lock(act) => Some(act),
            _ => None,
        };
        whole.map(|call| (act(call.0), call.1)).collect()
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

    /// Reads the answers that are new, each to the first frame that has none.
    pub(super) fn hear_caller(&mut self, net: &Net, at: usize, call: usize, bytes: &[u8]) {
        let come = delivered(net, at, self.caller(at).sent);
        self.caller(at).new.extend(bytes);
        while let Some((status, message)) = self.caller(at).answer() {
            let draining = self.draining;
            let caller = self.caller(at);
            let (request, end) = caller.calls.pop_front().expect("an answer too many");
            assert!(end <= come, "{request:?} is answered before it has come");
            caller.done = end;
            match request {
                Request::Mistake(why) => assert_eq!((status, &message[..]), (3, why)),
                Request::Health if draining => {
                    assert_eq!((status, &message[..]), (1, "error_draining"));
                }
                Request::Health => assert_eq!((status, &message[..]), (0, "")),
                Request::Lock(act) => {
                    let answer = frame(status, &message);
                    self.peers[at].asks(act, end, Some((call, answer)));
                }
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
            assert!(caller.new.is_empty() || client.closed, "whole frames");
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
            // What it was told before still goes out.
            let ends = caller.flooded || !output.is_empty();
            assert!(!late || ends, "half a request has an end");
            if part && !late && !client.ended && !caller.flooded {
                self.wake = self.wake.min(timeout);
            }
            caller.flooded &= waits || !output.is_empty();
        }
    }
}
