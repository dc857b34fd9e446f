//! One hold as its client knows it: when to renew, when an answer is overdue, when the lock is lost. It is pure: time
//! is an argument that never decreases, and there is no socket, no thread and no clock. [`super::Lock`] asks it from a
//! thread, dflock(1) from an event loop. Invariant: the deadline is never later than the server's, because it counts
//! from when a request was sent; a lock that is lost stays lost, and nothing is sent for it.
//!
//! ```text
//! request sent          half time    unanswered for too long    deadline
//!      |---- Wait ----------|-- Renew, Wait --|-- Overdue ---------|-- Lost
//!      |<--------------------- the lease as granted -------------->|
//! ```
//!
//! ```
//! use dflockd::client::lease::{Lease, Step};
//!
//! // A lease of 8 s, asked for at 0 s.
//! let mut lease = Lease::new(0, 8_000_000);
//! assert_eq!(lease.step(1_000_000), Step::Wait(4_000_000));
//! assert_eq!(lease.step(4_000_000), Step::Renew);
//! lease.renewing(4_000_000, 8_000_000);
//! assert_eq!(lease.step(4_500_000), Step::Wait(5_000_000));
//! // The answer took a second; the lease counts from the question.
//! lease.renewed(5_000_000, 8_000_000);
//! assert_eq!(lease.until(), 12_000_000);
//! assert_eq!(lease.step(12_000_000), Step::Lost);
//! ```

use crate::command::{SECOND, Us};

/// After a wait of more than this share of a lease, a tenth, nobody here knows how much of the lease is left.
const SHARP: Us = 10;
/// After this share of a lease without an answer, an eighth, the connection may be mute, unless answers have taken
/// longer before.
const MUTE: Us = 8;
/// Round trips that take more than this share of a lease, a sixteenth, make renewals earlier than half time.
const SLOW: Us = 16;
/// The earliest share of a lease at which it is renewed, an eighth.
const EARLIEST: Us = 8;
/// Once a connection counts as mute, another one needs up to this time to renew.
const MOVE: Us = SECOND / 4;
/// How long after one attempt to connect the next one is made.
const RETRY: Us = SECOND / 10;

/// What is to be done for a hold at an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing before this instant, which is not after the deadline, unless something is heard.
    Wait(Us),
    /// Send a renewal and call [`Lease::renewing`].
    Renew,
    /// There is no connection: begin one and call [`Lease::reconnecting`], or else [`Lease::lose`].
    Connect,
    /// The connection may be mute. Either begin another, as for `Connect`, or wait for the deadline. The mute one had
    /// better stay open for the length of a lease: its end could be taken for the end of the hold, and its answer may
    /// still come; see [`Lease::renewed_late`].
    Overdue,
    /// The hold is being given back: nothing is renewed any more.
    Released,
    /// Somebody else may have the lock, now and for good.
    Lost,
}

/// A hold: how long it was granted for, and what is under way for it.
#[derive(Clone, Debug)]
pub struct Lease {
    span: Us,
    until: Us,
    phase: Phase,
    path: Path,
    /// No connection is begun before this instant.
    retry: Us,
    /// How long before the deadline an answer must be there; see [`Lease::spare`].
    spare: Us,
    /// How long an answer takes, as far as was seen.
    seen: Us,
    /// The connection is new: before the answer it takes another round trip to connect.
    fresh: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Granted, but nobody knows when.
    Unsure,
    Held,
    Released,
    Lost,
}

/// The connection to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Path {
    /// Nothing is under way; the next renewal is due at this instant.
    Idle(Us),
    /// A renewal was sent at this instant and is not answered.
    Asked(Us),
    /// There is no connection.
    Down,
}

/// Whether a grant that was asked for at `sent` and heard of at `heard` may count from `sent`. A grant out of the queue
/// is younger than its request, by how much is not known: unless this holds, a renewal makes it sharp.
pub fn is_sharp(sent: Us, heard: Us, span: Us) -> bool {
    heard.saturating_sub(sent) <= span / SHARP
}

impl Lease {
    /// A hold that was granted for `span` to a request sent at `sent`.
    pub fn new(sent: Us, span: Us) -> Lease {
        Lease {
            span,
            until: sent.saturating_add(span),
            phase: Phase::Held,
            path: Path::Idle(sent.saturating_add(span / 2)),
            retry: 0,
            spare: 0,
            seen: 0,
            fresh: false,
        }
    }

    /// A hold that was heard of at `heard`, too long after its request to be sharp. It is to be renewed at once, and
    /// not to be used before [`Lease::is_sure`]. Until then it has no deadline, and how long to wait for the answer is
    /// up to the caller.
    pub fn unsure(heard: Us, span: Us) -> Lease {
        Lease {
            until: Us::MAX,
            phase: Phase::Unsure,
            path: Path::Idle(heard),
            ..Lease::new(heard, span)
        }
    }

    /// The work under the lock takes so long to end, and so an answer less than that before the deadline is of no use.
    /// Renewals and attempts to connect are made in time for it; a short lease is renewed before half time then.
    pub fn spare(&mut self, time: Us) {
        self.spare = time;
        if self.phase == Phase::Held {
            let due = self.half_time(self.until.saturating_sub(self.span));
            self.hurry(due);
        }
    }

    /// Records how long an answer took. Call it also for answers before the grant; renewals are watched anyway.
    /// The patience for an answer grows with it.
    pub fn learn(&mut self, round_trip: Us) {
        // One slow answer is forgotten bit by bit.
        self.seen = round_trip.max(self.seen - self.seen / 32);
        if self.phase == Phase::Held {
            let due = self.half_time(self.until.saturating_sub(self.span));
            self.hurry(due);
        }
    }

    /// How long the last good answer granted it for.
    pub fn span(&self) -> Us {
        self.span
    }

    /// The deadline: from then on somebody else may have the lock.
    pub fn until(&self) -> Us {
        self.until
    }

    /// Whether somebody else may have the lock.
    pub fn is_lost(&self, now: Us) -> bool {
        match self.phase {
            Phase::Lost => true,
            Phase::Held => now >= self.until,
            Phase::Unsure | Phase::Released => false,
        }
    }

    /// Whether the server has said when the hold ends, and has not refused it since.
    pub fn is_sure(&self) -> bool {
        matches!(self.phase, Phase::Held | Phase::Released)
    }

    /// Whether a renewal is not answered yet.
    pub fn is_renewing(&self) -> bool {
        matches!(self.path, Path::Asked(_))
    }

    /// What is to be done.
    pub fn step(&self, now: Us) -> Step {
        if self.is_lost(now) {
            return Step::Lost;
        }
        if self.phase == Phase::Released {
            return Step::Released;
        }
        let (due, step) = match self.path {
            Path::Idle(due) => (due, Step::Renew),
            Path::Asked(sent) => (self.overdue(sent), Step::Overdue),
            Path::Down => (self.retry, Step::Connect),
        };
        if now >= due {
            step
        } else {
            Step::Wait(due.min(self.until))
        }
    }

    /// When the answer to a renewal that was sent at `sent` is overdue. An answer may take twice as long as it did
    /// before, if that leaves the time to move to another connection; and somewhat longer in any case, up to three
    /// quarters of what is left of the lease.
    fn overdue(&self, sent: Us) -> Us {
        let trips = if self.fresh { 2 } else { 1 };
        let usual = self.seen.saturating_mul(trips);
        let left = self.until.saturating_sub(self.spare).saturating_sub(sent);
        let in_time = left.saturating_sub(self.seen.saturating_mul(3));
        let patience = usual.saturating_mul(2).min(in_time);
        let patience = patience.max(usual.saturating_add(usual / 4));
        sent.saturating_add(patience.min(left / 4 * 3).max(self.span / MUTE))
    }

    /// When a lease that began at `sent` is renewed: at half time, or earlier if there would be no second try then.
    fn half_time(&self, sent: Us) -> Us {
        let slow = self.seen.saturating_sub(self.span / SLOW);
        let early = (self.span / 2).saturating_sub(slow.saturating_mul(4));
        let early = match self.spare {
            0 => early,
            spare => {
                let mute = self.span / MUTE;
                early.min(self.span.saturating_sub(spare + mute + mute.min(MOVE)))
            }
        };
        sent.saturating_add(early.max(self.span / EARLIEST))
    }

    /// A renewal for `span` is being sent. If that is less than what is left, the lease ends that much earlier, whether
    /// or not the answer arrives.
    pub fn renewing(&mut self, now: Us, span: Us) {
        self.path = Path::Asked(now);
        if self.is_sure() {
            self.until = self.until.min(now.saturating_add(span));
        }
    }

    /// The server has answered the renewal: the hold lasts for `span` from when that was sent. An answer after the
    /// deadline, or to no question, changes nothing.
    pub fn renewed(&mut self, now: Us, span: Us) {
        let Path::Asked(sent) = self.path else {
            return;
        };
        if self.is_lost(now) {
            return self.lose();
        }
        let trips = if self.fresh { 2 } else { 1 };
        self.learn(now.saturating_sub(sent) / trips);
        (self.span, self.until, self.fresh) = (span, sent.saturating_add(span), false);
        self.path = Path::Idle(self.half_time(sent));
        if self.phase == Phase::Unsure {
            self.phase = Phase::Held;
        }
    }

    /// The server has answered a renewal that was sent at `sent` on a connection that was given up as mute. It counts
    /// as any other, if all renewals ask for the same span. The hold may have moved back to that connection, so a
    /// renewal is due at once on the one in use; until that is answered, keep the mute one open.
    pub fn renewed_late(&mut self, now: Us, sent: Us, span: Us) {
        if self.is_lost(now) {
            return self.lose();
        }
        let until = sent.saturating_add(span);
        match self.phase {
            Phase::Held => self.until = self.until.max(until),
            // It says nothing of the hold as it is now.
            Phase::Unsure if now >= until => {}
            Phase::Unsure => (self.phase, self.until) = (Phase::Held, until),
            Phase::Released | Phase::Lost => return,
        }
        self.learn(now.saturating_sub(sent));
        self.hurry(now);
    }

    /// The server has refused a renewal that was sent at `sent` on a connection that was given up as mute. If a later
    /// renewal was answered, the hold had moved, and the refusal says nothing of it.
    pub fn refused_late(&mut self, sent: Us) {
        let began = self.until.saturating_sub(self.span);
        if self.phase != Phase::Held || sent >= began {
            self.lose();
        }
    }

    /// The next renewal is due at this instant, if not before, unless one is under way.
    pub fn hurry(&mut self, at: Us) {
        if let Path::Idle(due) = &mut self.path {
            *due = at.min(*due);
        }
    }

    /// The server has answered something else, or nobody will try any more. A hold that is being given back stays so.
    pub fn lose(&mut self) {
        if self.phase != Phase::Released {
            self.phase = Phase::Lost;
        }
    }

    /// The connection has ended, or could not be begun. The hold may outlive it.
    pub fn disconnected(&mut self) {
        self.path = Path::Down;
    }

    /// Another connection is being begun. A renewal is due there at once, which moves the hold to it.
    pub fn reconnecting(&mut self, now: Us) {
        self.retry = now.saturating_add(RETRY);
        self.path = Path::Idle(now);
        self.fresh = true;
    }

    /// Another address of the server is left: if the connection that is being begun fails, the next one needs no pause.
    pub fn at_once(&mut self) {
        self.retry = 0;
    }

    /// The hold is about to be given back. False if it is lost, so that there is nothing to give back.
    pub fn release(&mut self, now: Us) -> bool {
        self.phase = match self.is_lost(now) {
            true => Phase::Lost,
            false => Phase::Released,
        };
        self.phase == Phase::Released
    }
}

#[cfg(test)]
mod tests;
