//! Clients that speak no lines, as the judge of the hub sees them: requests in, answers out, in order, and how their
//! connections end. They are clients of distlockd, and of the REST face. What they ask of the locks is the story's.

use std::collections::VecDeque;

use super::frames::delivered;
use super::spelling::frame;
use super::{Judge, OUTPUT_MAX, Peer};
use crate::harness::Net;
use crate::judges::locks::Act;
use dflockd::command::{SECOND, Token, Us};
use dflockd::wire::Face;

/// What a frame asks for.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    Lock(Act),
    Health,
    /// It cannot be done, for this reason.
    Mistake(&'static str),
    /// To give back what is another's by now, or nobody's.
    #[cfg(feature = "http")]
    Foreign,
    /// How much there is of everything.
    #[cfg(feature = "http")]
    Stats,
    /// What there is to be said of a key.
    #[cfg(feature = "http")]
    Status(usize),
}

/// One connection of this face.
#[derive(Default)]
pub struct Caller {
    /// Its protocol.
    pub face: Face,
    /// What it has made up its mind to say and has no answer for, and where that ends.
    pub calls: VecDeque<(Request, usize)>,
    /// Bytes that were sent.
    pub sent: usize,
    /// Of these, bytes of answered requests.
    pub(super) done: usize,
    /// Bytes of the next answer.
    pub(super) new: VecDeque<u8>,
    /// Bytes that it was told.
    told: usize,
    /// What its last answer has granted: the key and the token.
    pub(super) grant: Option<(usize, Token)>,
    /// Bytes that have come, and when the last did.
    come: usize,
    pub(super) heard: Us,
    /// When that was as the request that waits was begun.
    pub(super) arrived: Option<Us>,
    /// When it had its last answer, or came.
    pub(super) rested: Us,
    /// Its last answer was not all taken after the last turn.
    telling: bool,
    /// It has sent a part of a request for too long, and was told so in this turn.
    pub(super) slow: bool,
    /// The server has said that it closes the connection.
    pub(super) farewell: bool,
    /// When the server has shut its side.
    shut: Option<Us>,
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

    /// What it was granted, if its client has not taken all of the answer.
    pub(super) fn unheard(&self, heard: usize) -> Option<(usize, Token)> {
        self.grant.filter(|_| heard < self.told)
    }

    /// Since when a part of a request has been there; now, if none is.
    fn begun(&mut self, part: bool, now: Us) -> Us {
        let same = self.begun.filter(|&(start, _)| part && start == self.done);
        let since = same.map_or(now, |begun| begun.1);
        self.begun = part.then_some((self.done, since));
        since
    }

    /// Its connection is closed, for one reason or another.
    fn ends(&mut self, over: bool) {
        let ended = self.reset || self.cut || self.farewell || self.flooded;
        assert!(ended || over, "closed without a reason");
        (self.over, self.grant) = (true, None);
    }

    /// The server has died.
    pub(super) fn die(&mut self) {
        (self.over, self.grant) = (true, None);
        self.calls.clear();
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
    /// One has connected, that knows the secret, and perhaps the administrator's.
    pub fn dialled(&mut self, now: Us, face: Face, (local, admin): (bool, bool)) {
        self.peers.push(Peer {
            caller: Some(Caller {
                face,
                rested: now,
                ..Caller::default()
            }),
            trusted: true,
            admin,
            local,
            // Over from the first, as far as lines go.
            over: Some(0),
            ..Peer::default()
        });
    }

    /// Callers that are there.
    pub fn all_callers(&self) -> Vec<usize> {
        let open = |caller: &Caller| !caller.over && !caller.reset;
        (0..self.peers.len())
            .filter(|&at| self.peers[at].caller.as_ref().is_some_and(open))
            .collect()
    }

    /// Those of this face.
    pub fn callers(&self, face: Face) -> Vec<usize> {
        let its = |at: &usize| self.peers[*at].caller.as_ref().map(|c| c.face) == Some(face);
        self.all_callers().into_iter().filter(its).collect()
    }

    /// So many bytes have come of a client.
    pub(super) fn note_come(&mut self, at: usize, come: usize) {
        let now = self.now;
        if let Some(caller) = &mut self.peers[at].caller
            && come > caller.come
        {
            (caller.come, caller.heard) = (come, now);
        }
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
        self.caller(at).told += bytes.len();
        #[cfg(feature = "http")]
        if self.caller(at).face == Face::Http {
            return self.hear_rest(net, at, call);
        }
        while let Some((status, message)) = self.caller(at).answer() {
            let (draining, quarantined) = (self.draining, self.is_quarantined());
            let caller = self.caller(at);
            let (request, end) = caller.calls.pop_front().expect("an answer too many");
            assert!(end <= come, "{request:?} is answered before it has come");
            caller.done = end;
            match request {
                Request::Mistake(why) => assert_eq!((status, &message[..]), (3, why)),
                Request::Health if draining => {
                    assert_eq!((status, &message[..]), (1, "error_draining"));
                }
                Request::Health if quarantined => {
                    assert_eq!((status, &message[..]), (1, "error_quarantine"));
                }
                Request::Health => assert_eq!((status, &message[..]), (0, "")),
                Request::Lock(act) => {
                    let answer = frame(status, &message);
                    self.peers[at].asks(act, end, Some((call, answer)));
                }
                #[cfg(feature = "http")]
                other => panic!("no frame asks for {other:?}"),
            }
        }
    }

    /// The life of their connections: half a request has its time, and so have silence on the REST face and a connection
    /// that lingers there.
    pub(super) fn judge_callers(&mut self, net: &Net) {
        let lines = self.peers.iter().zip(&net.clients);
        let mut lines = lines.filter(|(peer, _)| peer.caller.is_none());
        if self.draining && lines.all(|(_, client)| client.closed) {
            assert!(net.is_drained(), "no line is left");
        }
        if self.is_cut_short(net) {
            return;
        }
        for at in 0..self.peers.len() {
            if self.is_caller(at) {
                self.judge_caller(net, at);
            }
        }
    }

    fn judge_caller(&mut self, net: &Net, at: usize) {
        let (now, client) = (self.now, &net.clients[at]);
        let output = net.output(at);
        let queued = self.peers[at].waits;
        let read_timeout = self.settings.read_timeout;
        let caller = self.caller(at);
        if caller.over {
            return assert!(client.closed);
        }
        let keep_alive = caller.face.rules().keep_alive;
        let come = caller.sent - client.unread.len();
        let is_leaving = caller.farewell || keep_alive > 0 && client.ended && !output.is_empty();
        // Nothing is begun before a grant is heard of.
        let telling = caller.grant.is_some() && !output.is_empty();
        let whole = caller.calls.front().is_some_and(|call| call.1 <= come);
        let waits = whole && (queued || telling || is_leaving);
        assert!(
            !whole || waits || output.len() >= OUTPUT_MAX || client.closed,
            "unanswered"
        );
        assert!(caller.new.is_empty() || client.closed, "whole answers");
        if caller.telling && !telling {
            caller.rested = now;
        }
        caller.telling = telling;
        if queued {
            caller.arrived.get_or_insert(caller.heard);
        }
        let part = come > caller.done && !whole && !telling;
        let timeout = caller.begun(part, now) + read_timeout;
        let late = part && timeout <= now;
        let slow = std::mem::take(&mut caller.slow);
        assert!(late || !slow, "half a request has its time");
        let rests = keep_alive > 0 && !part && !whole && !telling;
        let silent = rests && caller.rested + keep_alive <= now;
        if client.closed {
            return caller.ends(client.ended || late || silent);
        }
        assert!(!client.shut || caller.farewell, "it does not linger");
        assert!(!caller.reset && !caller.cut, "it is gone");
        assert!(
            !client.ended || whole && keep_alive == 0 || !output.is_empty(),
            "both have ended"
        );
        // What it was told before still goes out.
        let ends = caller.flooded || !output.is_empty() || caller.farewell;
        assert!(!late || ends, "half a request has an end");
        assert!(!silent || ends || is_leaving, "silence has an end");
        let mut wake = Us::MAX;
        if client.shut {
            wake = *caller.shut.get_or_insert(now) + SECOND;
            assert!(now < wake, "it lingers on");
        } else if part && !late && !client.ended && !caller.flooded && !is_leaving {
            wake = timeout;
        } else if rests && !silent && !client.ended && !is_leaving {
            wake = caller.rested + keep_alive;
        }
        caller.flooded &= whole || !output.is_empty();
        self.wake = self.wake.min(wake);
    }
}
