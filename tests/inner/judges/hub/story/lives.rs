//! A story in several lives: each begins with a table that has recovered what was kept, and is told by itself.

use super::Story;
use crate::harness::{Store, recover};
use crate::judges::locks::Judge;
use dflockd::command::Us;
use dflockd::locks::{Locks, Settings};

/// How a life of the server begins.
pub(super) struct Birth {
    now: Us,
    /// The holds that it carries on.
    store: Store,
    /// What the judge knows then.
    pub judge: Judge,
}

impl Birth {
    /// Nothing was before.
    pub fn first(judge: Judge) -> Birth {
        Birth {
            now: 0,
            store: Store::default(),
            judge,
        }
    }
}

impl Story {
    /// The server has died, and is there again with these holds.
    pub fn restart(&mut self, now: Us, settings: Settings, store: Store, carries: bool) {
        (self.settings, self.birth.now, self.birth.store) = (settings, now, store);
        self.table = self.beginning();
        let settings = self.settings.clone();
        self.judge.learn_claims(&self.table);
        self.judge.restarted(now, settings, carries, &self.table);
        self.birth.judge = self.judge.clone();
        self.steps.clear();
        self.strayed = true;
    }

    /// The lock table as it was when this life began.
    pub(super) fn beginning(&self) -> Locks {
        let Birth { now, store, .. } = &self.birth;
        let table = recover(self.settings.clone(), *now, store.holds());
        table.expect("the hub has had such holds")
    }
}
