//! What must hold between any two turns, in code: the invariants of the hub. Looks at everything, so it is for tests
//! and simulations.

use super::session::Phase;
use super::{Hub, INPUT_MAX, OUTPUT_MAX, stats};
use crate::wire::{Parsed, Scratch};

impl Hub {
    /// Panics if anything is not as it must be between two turns. Looks at everything: for tests.
    pub fn check(&self) {
        self.locks.check();
        self.signals.check();
        self.check_budget();
        assert!(self.outbox.is_empty(), "settled");
        let mut scratch = self.scratch.clone();
        for slot in 0..self.sessions.places() {
            self.check_session(slot, &mut scratch);
        }
    }

    fn check_session(&self, slot: u32, scratch: &mut Scratch) {
        let session = &self.sessions[slot];
        if session.is_vacant() {
            return;
        }
        assert!(!session.share.queued || self.agenda.has(slot));
        assert!(!session.dirty, "flushed");
        assert!(
            session.input.len() <= INPUT_MAX + session.face.rules().frame_max,
            "S10"
        );
        let answers = session.outlet.len() < OUTPUT_MAX + stats::ENTRY_MAX;
        // A status is one answer, however long; its parts are bounded.
        let is_rest = session.face.rules().keep_alive > 0;
        assert!(answers || is_rest || session.outlet.has_listened(), "S10");
        if session.phase == Phase::Open && !session.share.queued && !session.is_blocked() {
            let parsed = session
                .face
                .parse(session.input.bytes(), scratch, session.trusted);
            assert!(
                matches!(
                    parsed,
                    Parsed::Partial { .. } | Parsed::Short { .. } | Parsed::Interim { .. }
                ),
                "no idle session holds a complete request"
            );
            assert!(!session.ended, "a session that has ended closes");
            assert!(
                session.timer.is_filed() || self.may_be_silent(slot),
                "silence has an end"
            );
        }
        if session.phase == Phase::Skip {
            assert!(session.timer.is_filed(), "an endless line has an end");
        }
        if session.waits() {
            assert!(
                self.locks.has(session.id),
                "S4: a session that waits stands in a queue"
            );
            assert!(
                !session.ended && !session.hung_up,
                "a peer that is gone waits for nothing"
            );
        }
        if !session.phase.is_open() {
            assert!(session.input.is_empty());
            assert!(
                session.timer.is_filed() || session.left_server,
                "a close has an end"
            );
        }
    }
}
