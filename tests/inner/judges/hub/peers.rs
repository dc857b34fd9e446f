//! The life of a connection, as the judge of the hub sees it: how long it may be silent, how long it may leave
//! unread what it is told, when its end is decided, and that it is closed then.

use super::frames::{Ask, delivered, partial};
use super::{Judge, OUTPUT_MAX};
use crate::harness::Net;
use dflockd::command::{SECOND, Us};

/// How long after the answer to a wrong secret the connection is closed.
const REJECT: Us = SECOND / 10;

impl Judge {
    /// Who takes nothing of what there is for it is cut when its time is over.
    pub(super) fn watch_output(&mut self, net: &Net, at: usize) {
        let (client, timeout) = (&net.clients[at], self.settings.write_timeout);
        let peer = &mut self.peers[at];
        let taken = std::mem::replace(&mut peer.taken, client.heard.len());
        let cut = |since: Us| timeout > 0 && since + timeout <= self.heard;
        if client.heard.len() == taken && peer.stuck.is_some_and(cut) {
            assert!(client.closed, "a write has a timeout");
            if let Some(caller) = &mut peer.caller {
                caller.cut = true;
            }
            peer.over.get_or_insert(self.now);
        }
        if client.closed || net.output(at).is_empty() {
            peer.stuck = None;
        } else if client.heard.len() > taken || peer.stuck.is_none() {
            peer.stuck = Some(self.now);
        }
        if let (Some(since), 1..) = (peer.stuck, timeout) {
            self.wake = self.wake.min(since + timeout);
        }
        if client.shut {
            peer.shut.get_or_insert(self.now);
        }
    }

    /// The first frame did not say the secret: that is the end, a moment later.
    pub(super) fn reject(&mut self, at: usize, line: &str) {
        assert_eq!(line, "error_auth");
        self.peers[at].over = Some(self.now);
        self.peers[at].rejected = Some(self.now);
    }

    /// An `error` that answers nothing: somebody was silent for too long, and that is the end.
    pub(super) fn timed_out(&mut self, net: &Net, at: usize, line: &str) {
        let holds = self.story.table().holds(net.clients[at].id) || self.listens(at);
        let peer = &mut self.peers[at];
        let (_, lines) = partial(net, at, peer);
        let word = if peer.trusted { "error" } else { "error_auth" };
        assert_eq!((line, peer.waits), (word, false), "S13: answers nothing");
        let patience = peer.base + self.settings.read_timeout;
        assert!(self.now >= patience, "cut early");
        assert!(peer.begun || !holds, "between frames a holder is free");
        assert!(!peer.blocked, "a blocked client is not idle");
        assert!(lines <= peer.lines, "a new line has its own time");
        if !peer.trusted {
            return self.reject(at, line);
        }
        peer.over = Some(self.now);
    }

    /// Who is gone, or has no more to say, or cannot be waited for.
    pub(super) fn end_peers(&mut self, net: &Net) {
        for at in self.open() {
            let peer = &mut self.peers[at];
            let blocked = net.output(at).len() >= OUTPUT_MAX;
            peer.resumed = peer.blocked && !blocked;
            peer.blocked = blocked;
            let come = delivered(net, at, peer.sent);
            let rest = peer.frames.front().filter(|frame| frame.end() <= come);
            let ask = rest.map(|frame| &frame.ask);
            // One at rest need not hear all that it was told.
            let at_rest = peer.frames.front().is_none_or(|frame| frame.start >= come)
                && net.clients[at].unread.is_empty();
            // Nobody waits for one that is gone.
            let goes = !blocked || at_rest || peer.waits;
            let ended = net.clients[at].ended && goes && !peer.reset;
            let waits = ask.is_none_or(|&ask| ask.can_wait() || ask == Ask::Http);
            assert!(!ended || waits || self.draining, "{ask:?} has no answer");
            if ended || peer.reset || ask == Some(&Ask::Http) {
                peer.over = Some(self.now);
            }
        }
    }

    /// The drain sends away who holds nothing. A newcomer may first say who it is and what it has come for, unless nobody
    /// holds anything any more.
    pub(super) fn end_idle_peers(&mut self, net: &Net) {
        self.last_call |= self
            .story
            .judge
            .holds
            .iter()
            .all(|hold| hold.owner.is_none());
        let all = self.peers.iter();
        let early = all.filter(|peer| peer.sent_away).count() > 0 && !self.last_call;
        assert!(!early, "a newcomer is heard");
        for at in self.open() {
            // It still hears the rest of a long answer.
            let id = net.clients[at].id;
            let goes = !self.peers[at].newcomer || self.last_call;
            if goes && self.peers[at].tail.is_empty() && !self.story.table().holds(id) {
                self.peers[at].over = Some(self.now);
                self.peers[at].left = true;
                self.peers[at].waits = false;
                self.story.close(self.now, id);
            }
        }
    }

    /// Who is still there: may it be as silent as it is, and is it waiting for something?
    pub(super) fn judge_open(&mut self, net: &Net, at: usize) {
        assert!(!net.clients[at].shut, "closed without a reason");
        let has = self.story.table().has(net.clients[at].id) || self.listens(at);
        let now = self.now;
        let peer = &mut self.peers[at];
        let come = delivered(net, at, peer.sent);
        let first = peer.frames.front().filter(|frame| frame.end() <= come);
        let (mut begun, mut lines) = partial(net, at, peer);
        if peer.blocked || first.is_some() {
            let ask = first.map(|frame| frame.ask);
            assert!(peer.blocked || peer.waits, "S4: {ask:?} has no answer");
            (begun, lines) = (false, 0);
        }
        let first_byte = begun && !peer.begun && peer.had;
        let freed = peer.had && !has && !peer.begun;
        peer.had = has;
        if peer.answered || peer.resumed || lines > peer.lines || first_byte || freed {
            (peer.base, peer.latest) = (now, now);
        }
        if peer.told >= OUTPUT_MAX {
            peer.latest = now;
        }
        (peer.begun, peer.lines, peer.fed) = (begun, lines, false);
        if !peer.waits && !peer.blocked && (begun || !has) {
            let patience = peer.latest + self.settings.read_timeout;
            // When the time of a drain is up, the server ends with whoever is still there.
            let is_over = net.is_drained();
            assert!(self.heard < patience || is_over, "silence has an end");
            self.wake = self.wake.min(patience);
        }
    }

    /// When a drain's time is up nobody waits for what a turn has put off.
    pub(super) fn is_cut_short(&self, net: &Net) -> bool {
        let put_off = net.deadline().is_some_and(|due| due <= self.now);
        put_off && net.is_drained()
    }

    /// Who is gone is closed, once it has heard everything or after some seconds.
    pub(super) fn judge_over(&mut self, net: &Net) {
        if self.is_cut_short(net) {
            return;
        }
        for (at, (client, peer)) in net.clients.iter().zip(&mut self.peers).enumerate() {
            if peer.over.is_none() || peer.caller.is_some() {
                continue;
            }
            if client.closed {
                continue;
            }
            let output = net.output(at);
            let told = client.heard.len() + output.len();
            assert!(
                told <= peer.seen + peer.tail.len(),
                "told something after the end"
            );
            if let Some(due) = peer.rejected.map(|since| since + REJECT)
                && self.now < due
            {
                assert!(!client.shut, "guessing takes time");
                self.wake = self.wake.min(due);
                continue;
            }
            assert!(client.shut || !output.is_empty(), "it must close");
            assert!(!peer.reset, "it is gone");
            assert!(!client.ended || !output.is_empty(), "both have ended");
            if let Some(shut) = peer.shut {
                assert!(self.now < shut + SECOND, "it lingers on");
                self.wake = self.wake.min(shut + SECOND);
            }
        }
    }
}
