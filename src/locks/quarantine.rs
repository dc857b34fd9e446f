//! The time after a start in which nothing is granted: leases of a former life of the server, of which nothing is known,
//! may not be over. Requests queue, and when it ends the queues are served a slice a turn. Invariant: a key that is not
//! served yet grants only to a request that finds nobody in its queue, and only after the quarantine.

use super::Locks;
use crate::command::{Us, earlier};
use crate::facts::Outbox;

/// Keys that are looked at in one turn, and slots that are granted: a write(2) each.
const LOOKS_A_TURN: u32 = 5000;
const GRANTS_A_TURN: u32 = 100;

impl Locks {
    /// How long nothing is granted yet; 0 if the table grants.
    pub fn opens_in(&self, now: Us) -> Us {
        self.settings.opens.saturating_sub(now.max(self.now))
    }

    /// Whether the quarantine is over.
    pub(super) fn is_open(&self) -> bool {
        self.now >= self.settings.opens
    }

    /// Whether the free slots of this key go to its queue now.
    pub(super) fn serves(&self, key: u32) -> bool {
        key < self.served && !self.is_draining()
    }

    /// Serves the queues of some keys, if the quarantine is over.
    pub(super) fn open_some(&mut self, out: &mut Outbox) {
        if !self.is_open() {
            return;
        }
        let (mut looks, mut grants) = (LOOKS_A_TURN, GRANTS_A_TURN);
        while self.served < self.keys.places() {
            if looks == 0 || grants == 0 {
                return;
            }
            looks -= 1;
            let key = self.served;
            let Some(wanted) = self.wanted(key) else {
                self.served += 1;
                continue;
            };
            let most = grants.min(wanted);
            grants -= most;
            if !self.is_draining() && !self.serve_up_to(key, most, out) {
                continue;
            }
            self.served += 1;
            self.retire_if_unused(key);
        }
        self.served = u32::MAX;
    }

    /// How many slots of the key go to its queue, if any.
    fn wanted(&self, key: u32) -> Option<u32> {
        let key = &self.keys[key];
        let is_used = !key.is_vacant() && key.idle().is_none();
        let wanted = is_used.then(|| key.waiting.min(key.limit() - key.held));
        wanted.filter(|&wanted| wanted > 0)
    }

    /// When there is something to do, while keys are not served.
    pub(super) fn opening_deadline(&self) -> Option<Us> {
        let opens = match self.is_open() {
            true => 0,
            false => self.settings.opens,
        };
        earlier(
            earlier(self.wheel.next(), self.idle_deadline()),
            Some(opens),
        )
    }
}
