//! What a client of the hub says, frame by frame, and how much of it the server has taken.

use super::Peer;
use super::pushes::Wish;
use crate::harness::Net;
use crate::judges::locks::Act;

/// What a frame asks for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Ask {
    /// Something of the lock table.
    Lock(Act),
    Listen(Wish),
    Unlisten(Wish),
    /// Which one of all.
    Signal(usize),
    Ping,
    Stats,
    /// What there is to be said of a key.
    Show(usize),
    /// The right secret, or a wrong one.
    Auth(bool),
    /// The administrator's secret.
    Admin,
    /// A whole frame that asks for nothing.
    Nonsense,
    /// A frame with a line over its cap.
    TooLong,
    /// The first line of a browser.
    Http,
}

impl Ask {
    /// Whether it may have no answer for a while.
    pub fn can_wait(self) -> bool {
        matches!(self, Ask::Lock(act) if act.can_queue())
    }

    /// Whether its answer comes in slices.
    pub fn is_listing(self) -> bool {
        matches!(self, Ask::Stats | Ask::Show(_))
    }

    /// Whether it says who its client is, and nothing else.
    fn introduces(self) -> bool {
        matches!(
            self,
            Ask::Auth(_) | Ask::Admin | Ask::Lock(Act::Declare { .. })
        )
    }

    /// Whether a drain answers it as ever, whatever its client holds.
    pub fn works_in_drain(self) -> bool {
        let works = |act| {
            matches!(
                act,
                Act::Renew { .. } | Act::Release { .. } | Act::Detach { .. } | Act::Break { .. }
            )
        };
        match self {
            Ask::Lock(act) => works(act) || self.introduces(),
            Ask::Listen(_) | Ask::Signal(_) => false,
            _ => true,
        }
    }

    /// Whether a newcomer that has this answer in a drain must hold something to stay.
    pub fn ends_newcomer(self) -> bool {
        !self.introduces()
    }
}

/// A frame as it stands in the stream of its client.
pub struct Frame {
    pub ask: Ask,
    pub start: usize,
    /// Where each of its lines ends; the last is where it has to be acted on.
    pub ends: Vec<usize>,
}

impl Frame {
    pub fn end(&self) -> usize {
        *self.ends.last().expect("a frame has an end")
    }
}

/// How many bytes of the stream the server has taken.
pub fn delivered(net: &Net, at: usize, sent: usize) -> usize {
    sent - net.clients[at].unread.len()
}

/// Whether a frame has begun behind the whole ones that came, and how many of its lines are there.
pub fn partial(net: &Net, at: usize, peer: &Peer) -> (bool, usize) {
    let come = delivered(net, at, peer.sent);
    let Some(frame) = peer.frames.iter().find(|frame| frame.end() > come) else {
        return (false, 0);
    };
    let lines = frame.ends.iter().filter(|&&end| end <= come).count();
    (come > frame.start, lines)
}
