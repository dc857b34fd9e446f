//! Restarts, as the judge of the hub sees them: the connections are gone, and with them all that they had said or were to
//! be told. What becomes of the locks is the story's.

use super::pushes::Ear;
use super::rounds::Rounds;
use super::{Judge, Peer};
use crate::harness::Net;
use dflockd::command::Us;

impl Judge {
    /// The process has died in this turn. What was written down before has happened, and nothing else; who must be closed
    /// or answered by its end nobody will ever know.
    pub fn last_turn(&mut self, net: &mut Net) {
        let journal = net.take_journal();
        self.begin_turn(net, &journal);
        self.begin_ears();
        for peer in &mut self.peers {
            peer.begin_turn();
        }
        let hears = self.open();
        self.hear_all(net, &journal, &hears);
        self.dies = true;
        self.tell_story(net, &journal);
        self.dies = false;
    }

    /// Whether nothing is granted yet.
    pub(super) fn is_quarantined(&self) -> bool {
        self.now < self.settings.locks.opens
    }

    /// It is there again, and `carries` on what was kept of its holds, or has forgotten them.
    pub fn restarted(&mut self, net: &Net, carries: bool) {
        self.now = net.now;
        self.settings = net.settings().clone();
        let (settings, store) = (self.settings.locks.clone(), net.store.clone());
        self.story.restart(net.now, settings, store, carries);
        for peer in &mut self.peers {
            peer.die(net.now);
        }
        self.shown.clear();
        self.rounds = Rounds::new();
        (self.draining, self.last_call) = (false, false);
        self.wake = Us::MAX;
    }
}

impl Peer {
    /// Nothing of its connection is left.
    fn die(&mut self, now: Us) {
        self.over.get_or_insert(now);
        self.left = true;
        (self.waits, self.blocked, self.rejected) = (false, false, None);
        self.frames.clear();
        self.asked.clear();
        self.tail.clear();
        self.ear = Ear::default();
        if let Some(caller) = &mut self.caller {
            caller.die();
        }
    }
}
