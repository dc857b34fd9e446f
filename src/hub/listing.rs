//! Answers that may be long, to `stats` and to `show`, and those of the REST face about locks. They are given in slices,
//! because there may be a million keys. A slice looks at some and stops when enough is waiting to be sent.

use super::agenda::{BYTES_A_UNIT, FLUSH, Work};
use super::show::Show;
use super::stats::Stats;
#[cfg(feature = "http")]
use super::status::Status;
#[cfg(feature = "http")]
use super::view::LOOK;
use super::view::View;
use super::{Hub, OUTPUT_MAX};
use crate::command::{Peer, SessionId};

/// How far an answer is.
pub(super) enum Listing {
    /// To `stats`.
    Stats(Stats),
    /// To `show`.
    Show(Show),
    /// To GET of a lock's status, and of the list.
    #[cfg(feature = "http")]
    Status(Status),
    /// The metrics, which are written at once.
    #[cfg(feature = "http")]
    Metrics,
}

impl Listing {
    /// Whether the answer is complete.
    pub fn is_done(&self) -> bool {
        match self {
            Listing::Stats(stats) => stats.is_done(),
            Listing::Show(show) => show.is_done(),
            #[cfg(feature = "http")]
            Listing::Status(status) => status.is_done(),
            #[cfg(feature = "http")]
            Listing::Metrics => true,
        }
    }

    /// Appends the next slice of the answer, of some `most` bytes. Returns what that cost.
    fn go_on<'a>(
        &mut self,
        view: &View<'a, impl Fn(SessionId) -> Option<Peer<'a>>>,
        most: usize,
        out: &mut Vec<u8>,
    ) -> Work {
        match self {
            Listing::Stats(stats) => stats.go_on(view, most, out),
            Listing::Show(show) => show.go_on(view, most, out),
            #[cfg(feature = "http")]
            Listing::Status(status) => status.go_on(view),
            #[cfg(feature = "http")]
            Listing::Metrics => LOOK,
        }
    }
}

impl Hub {
    /// Gives the next slices of listings, to each session one in turn.
    #[inline(never)]
    pub(super) fn list_some(&mut self) {
        let mut left = self.agenda.slices();
        while left > 0
            && let Some(slot) = self.agenda.listings.pop_front()
        {
            let session = &mut self.sessions[slot];
            session.share.queued = false;
            // It may have been closed, or blocked by its peer, meanwhile.
            if !session.can_go_on() {
                continue;
            }
            if session.is_following() {
                left = left.saturating_sub(self.follow(slot));
                continue;
            }
            let Some(mut listing) = session.take_listing() else {
                continue;
            };
            let mut outlet = std::mem::take(&mut session.outlet);
            let most = OUTPUT_MAX - outlet.len();
            let view = View {
                now: self.now,
                locks: &self.locks,
                signals: &self.signals,
                counts: self.counts(),
                peer: |id: SessionId| {
                    let session = &self.sessions[id.slot()];
                    session.peer().filter(|_| session.id == id)
                },
            };
            left = left.saturating_sub(listing.go_on(&view, most, outlet.tail(&mut self.pool)));
            self.sessions[slot].outlet = outlet;
            #[cfg(feature = "http")]
            if let Some(cost) = self.give_whole(slot, &listing) {
                left = left.saturating_sub(cost);
                continue;
            }
            if listing.is_done() {
                left = left.saturating_sub(self.follow(slot));
            } else {
                self.sessions[slot].go_on_listing(listing);
                self.mark_dirty(slot);
                self.wake(slot);
            }
        }
    }

    /// Gives an answer that is sent whole, if it is complete. Returns what that cost; None: it is no such answer.
    #[cfg(feature = "http")]
    fn give_whole(&mut self, slot: u32, listing: &Listing) -> Option<Work> {
        let before = self.sessions[slot].outlet.len();
        match listing {
            Listing::Status(status) if status.is_done() => {
                self.sessions[slot].wait();
                self.give_status(slot, status);
            }
            Listing::Metrics => {
                self.sessions[slot].wait();
                self.give_metrics(slot);
            }
            _ => return None,
        }
        let given = self.sessions[slot].outlet.len() - before;
        Some(FLUSH + (given / BYTES_A_UNIT) as Work)
    }

    /// The listing of the session is complete: signals that waited behind it follow, as far as there is room; then it is
    /// answered. Returns what that cost.
    fn follow(&mut self, slot: u32) -> Work {
        let session = &mut self.sessions[slot];
        let before = session.outlet.len();
        session
            .outlet
            .follow(slot, &mut self.pool, &mut self.budget);
        let cost = FLUSH + ((session.outlet.len() - before) / BYTES_A_UNIT) as Work;
        if session.outlet.has_behind() {
            session.follow();
            self.mark_dirty(slot);
        } else {
            self.answered(slot);
        }
        cost
    }
}
