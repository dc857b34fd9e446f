//! One connection as the hub sees it: what it has sent and not yet had executed, what it is owed, in which phase of
//! its life it is, and when that phase must be over.

use core::net::SocketAddr;

use super::INPUT_MAX;
use super::agenda::Share;
use super::listing::Listing;
use super::outlet::Outlet;
use crate::base::buffer::Buffer;
use crate::base::slab::Slab;
use crate::base::wheel::{Link, Timers};
use crate::command::{Peer, SessionId, Us};
#[cfg(feature = "http")]
use crate::command::{Space, Token};
use crate::wire::Face;
#[cfg(feature = "http")]
use crate::wire::http::Exchange;

pub(super) struct Session {
    pub id: SessionId,
    /// When the line, the silence or the lingering must be over; `Us::MAX` is never.
    pub due: Us,
    /// When the peer must have taken some of its output; `Us::MAX` is never.
    pub write_due: Us,
    pub timer: Link,
    pub input: Buffer,
    pub outlet: Outlet,
    pub share: Share,
    pub face: Face,
    /// Where its peer is.
    pub peer: Option<SocketAddr>,
    /// The name in the certificate that its peer has shown.
    pub name: Option<Box<str>>,
    /// What else there is of a session of the REST face; None on other faces.
    #[cfg(feature = "http")]
    pub rest: Option<Box<Rest>>,
    pub phase: Phase,
    pub busy: Busy,
    /// The server must look after its socket.
    pub dirty: bool,
    /// The next batch of facts frees its output.
    pub waits: bool,
    /// It has said the secret, or it need not.
    pub trusted: bool,
    /// It has said the administrator's secret.
    pub admin: bool,
    /// It came in during the drain, and has said no more than who it is.
    pub newcomer: bool,
    /// The server was told that there is no room for input, and does not read the socket.
    pub paused: bool,
    /// The peer has finished sending, though not all of it is read.
    pub hung_up: bool,
    /// All that the peer sent has been received.
    pub ended: bool,
    /// A first line has been received: this is no browser.
    pub greeted: bool,
    /// Its client was told to send the rest of the frame.
    pub told_to_go_on: bool,
    /// The first byte of a frame is here; `lines` of its lines are whole.
    pub begun: bool,
    pub lines: u8,
    /// The lock table has nothing more of it.
    pub left_locks: bool,
    /// The signals have nothing more of it.
    pub left_signals: bool,
    /// The server has closed its socket.
    pub left_server: bool,
    /// Bytes discarded while lingering.
    pub discarded: u32,
}

/// What else there is of a session of the REST face. While there is a grant, the last answer in its output tells of it.
#[cfg(feature = "http")]
#[derive(Default)]
pub(super) struct Rest {
    /// The request that is being carried out.
    pub exchange: Option<Box<Exchange>>,
    /// The input must have so many bytes before a request can be whole.
    pub need: usize,
    /// When bytes came last: no later than that was a request that is whole.
    pub heard: Us,
    /// The grant whose answer the kernel has not taken yet.
    pub unsent: Option<Box<Grant>>,
    /// Wrong secrets that it has sent.
    pub failures: u8,
}

/// A grant, so that it can be taken back.
#[cfg(feature = "http")]
pub(super) struct Grant {
    pub space: Space,
    pub name: Vec<u8>,
    pub token: Token,
}

/// What the session's request waits for. When the peer has sent its last byte, an answer in slices is still finished, and
/// so are a signal and a break; a wait in a queue ends, and the session closes.
#[derive(Default)]
pub(super) enum Busy {
    /// It has its answer.
    #[default]
    No,
    /// It stands in a queue.
    Waiting,
    /// It says who it is. A drain does not end a newcomer with that answer.
    Introduced,
    /// The answer is being given in slices.
    Listing(Box<Listing>),
    /// The answer is complete, and signals that waited behind it follow.
    Following,
    /// Its signal is on its way, or its break goes on in slices.
    Working,
    /// It has its answer, which tells of a grant that is its client's. Nothing else is executed until the kernel has it.
    #[cfg(feature = "http")]
    Telling,
    /// It has said a wrong secret, and is not served for a moment.
    #[cfg(feature = "http")]
    Penalty,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Requests are executed.
    Open,
    /// A line over its cap is being discarded.
    Skip,
    /// It was told that its secret is wrong, and will be closed in a moment.
    Reject,
    /// The close is decided; output that is left goes out.
    Flush { linger: bool },
    /// The write side is shut; input is discarded.
    Linger,
    /// The socket is to be closed.
    Gone,
}

impl Phase {
    pub fn is_open(self) -> bool {
        matches!(self, Phase::Open | Phase::Skip)
    }
}

impl Session {
    /// How many bytes may be received now.
    pub fn room(&self) -> usize {
        match self.phase {
            Phase::Open if self.outlet.is_full() => 0,
            // Its input is part of one frame, whose length the parser bounds.
            Phase::Open if self.is_idle() && !self.share.queued => INPUT_MAX,
            Phase::Open | Phase::Skip => INPUT_MAX.saturating_sub(self.input.len()),
            Phase::Reject | Phase::Linger => INPUT_MAX,
            Phase::Flush { .. } | Phase::Gone => 0,
        }
    }

    /// All its requests have their answers.
    pub fn is_idle(&self) -> bool {
        matches!(self.busy, Busy::No)
    }

    /// Its next request must wait: for the answer to the one before, or until the peer reads what it was sent.
    pub fn is_blocked(&self) -> bool {
        !self.is_idle() || self.outlet.is_full()
    }

    /// Signals wait behind the answer that is being given, or behind others that do.
    pub fn pushes_wait(&self) -> bool {
        matches!(self.busy, Busy::Listing(_) | Busy::Following)
    }

    /// Takes the listing that is its answer, if it is being given one; then it is idle.
    pub fn take_listing(&mut self) -> Option<Box<Listing>> {
        match std::mem::take(&mut self.busy) {
            Busy::Listing(listing) => Some(listing),
            busy => {
                self.busy = busy;
                None
            }
        }
    }

    /// Its listing is complete, and its answer is still to be written.
    #[cfg(feature = "http")]
    pub fn wait(&mut self) {
        self.busy = Busy::Waiting;
    }

    /// There is more of the listing to come.
    pub fn go_on_listing(&mut self, listing: Box<Listing>) {
        self.busy = Busy::Listing(listing);
    }

    /// Its listing is complete, and signals that waited behind it follow.
    pub fn follow(&mut self) {
        self.busy = Busy::Following;
    }

    /// Whether signals follow its listing.
    pub fn is_following(&self) -> bool {
        matches!(self.busy, Busy::Following)
    }

    /// A request waits in the queue of a key.
    pub fn waits(&self) -> bool {
        matches!(self.busy, Busy::Waiting)
    }

    /// Whether a turn has something to do for it.
    pub fn can_go_on(&self) -> bool {
        match self.busy {
            Busy::Listing(_) | Busy::Following => !self.outlet.is_full(),
            _ => !self.is_blocked() && (self.ended || !self.input.is_empty()),
        }
    }

    /// A whole frame was read.
    pub fn start_frame(&mut self) {
        self.greeted = true;
        self.told_to_go_on = false;
        self.begun = false;
        self.lines = 0;
    }

    /// The earlier of its two deadlines.
    pub fn deadline(&self) -> Us {
        self.due.min(self.write_due)
    }

    /// Its peer, for people to see.
    pub fn peer(&self) -> Option<Peer<'_>> {
        let name = self.name.as_deref();
        self.peer.map(|addr| Peer { addr, name })
    }

    /// Whether the place in the slab holds no session.
    pub fn is_vacant(&self) -> bool {
        self.id == SessionId::NOBODY
    }
}

impl Default for Session {
    fn default() -> Session {
        Session {
            id: SessionId::NOBODY,
            due: Us::MAX,
            write_due: Us::MAX,
            timer: Link::default(),
            input: Buffer::default(),
            outlet: Outlet::default(),
            share: Share::default(),
            face: Face::Text,
            peer: None,
            name: None,
            #[cfg(feature = "http")]
            rest: None,
            phase: Phase::Open,
            busy: Busy::No,
            dirty: false,
            waits: false,
            trusted: false,
            admin: false,
            newcomer: false,
            paused: false,
            hung_up: false,
            ended: false,
            greeted: false,
            told_to_go_on: false,
            begun: false,
            lines: 0,
            left_locks: false,
            left_signals: false,
            left_server: false,
            discarded: 0,
        }
    }
}

impl Timers for Slab<Session> {
    fn link(&mut self, place: u32) -> &mut Link {
        &mut self[place].timer
    }

    fn due(&self, place: u32) -> Us {
        self[place].deadline()
    }
}
