//! Two-phase acquires, as the judge of the hub sees them: what each enqueue has left. Of one that was queued the
//! client hears nothing until it waits; until then the judge does not know whether it holds, or held.

use super::{Hold, Judge, KEYS, News, Peer, Wait};
use dflockd::command::{SECOND, Us};

/// What an enqueue of a client has left.
#[derive(Clone, Debug)]
pub struct Record {
    key: usize,
    pub limit: u32,
    lease: u64,
    /// When it was made.
    pub turn: u64,
    at: Us,
    /// What it was told at once, if it did not have to queue.
    token: Option<String>,
}

impl Record {
    pub fn is_unheard(&self) -> bool {
        self.token.is_none()
    }
}

impl Peer {
    pub fn enqueued(&self, key: usize) -> &Record {
        let record = self.records.iter().find(|record| record.key == key);
        record.expect("who waits has enqueued")
    }
}

impl Judge {
    pub(super) fn enqueued(
        &mut self,
        at: usize,
        (key, limit, lease): (usize, u32, u64),
        line: &str,
        news: &mut News,
    ) {
        news.acquired.push(key);
        let former = self.peers[at]
            .records
            .iter()
            .find(|r| r.key == key)
            .cloned();
        let words = line.split(' ').collect::<Vec<_>>();
        let token = match words[..] {
            ["acquired", token, told] => {
                assert_eq!(told, lease.to_string());
                self.granted(at, (key, limit, lease), token, self.turn, news);
                Some(token.to_string())
            }
            ["queued"] if !self.draining => None,
            ["error_already_enqueued"] if !self.draining => {
                let former = former.expect("nothing was enqueued");
                assert!(self.may_be_there(&former), "its record is gone");
                return;
            }
            _ => return self.refused(key, limit, line, news),
        };
        if let Some(former) = former.filter(|former| !self.may_be_gone(former)) {
            let token = former.token.expect("enqueued twice");
            news.let_go.push(token);
        }
        news.fits.push((key, limit));
        let record = Record {
            key,
            limit,
            lease,
            turn: self.turn,
            at: self.now,
            token,
        };
        let records = &mut self.peers[at].records;
        records.retain(|record| record.key != key);
        records.push(record);
    }

    pub(super) fn waited(
        &mut self,
        at: usize,
        (key, wait): (usize, u64),
        since: Option<(u64, Us)>,
        line: &str,
        news: &mut News,
    ) {
        self.peers[at].waited |= wait > 0;
        if line == "error_draining" && self.draining {
            return news.gave_up.push(at);
        }
        assert!(!self.draining, "{line:?} in a drain");
        let records = &mut self.peers[at].records;
        let place = records.iter().position(|record| record.key == key);
        let Some(record) = place.map(|place| records.remove(place)) else {
            return assert_eq!(line, "error_not_enqueued");
        };
        if record.is_unheard() {
            news.left.push(key);
        }
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["ok", token, told] => {
                assert_eq!(told, record.lease.to_string());
                self.handed_out(at, record, token, since.is_none(), news);
            }
            ["timeout"] => {
                assert!(record.is_unheard(), "it was granted");
                match wait {
                    0 => news.gave_up.push(at),
                    _ => self.gave_up(at, since, wait, news),
                }
            }
            ["error_lease_expired"] => {
                assert!(self.may_be_gone(&record), "it is held");
            }
            ["error_not_enqueued"] => {
                let token = record.token.expect("nobody could release it");
                news.let_go.push(token);
            }
            _ => panic!("{line:?} answers no wait"),
        }
    }

    /// The token that the enqueue was told, or one that nobody has heard; its lease begins anew.
    fn handed_out(
        &mut self,
        at: usize,
        record: Record,
        token: &str,
        at_once: bool,
        news: &mut News,
    ) {
        let Record {
            key, limit, lease, ..
        } = record;
        let due = self.now.saturating_add(lease * SECOND);
        let Some(told) = record.token else {
            self.granted(at, (key, limit, lease), token, record.turn, news);
            news.grants.last_mut().expect("it was just made").unheard = at_once;
            return;
        };
        assert_eq!(told, token, "it was told another");
        if let Some(grant) = news.grants.iter().find(|grant| grant.token == told) {
            return assert_eq!(grant.peer, at);
        }
        self.hold(key, token).expect("S8: it is not held").due = due;
        news.renewed.push(told);
    }

    /// What the wait for an enqueued hold will renew it to.
    pub fn recorded_lease(&self, token: &str) -> Option<u64> {
        let mut records = self.peers.iter().flat_map(|peer| &peer.records);
        let record = records.find(|record| record.token.as_deref() == Some(token));
        record.map(|record| record.lease)
    }

    /// Whether the record can lead to something that is queued or held.
    fn may_be_there(&self, record: &Record) -> bool {
        let Some(token) = &record.token else {
            return true;
        };
        record.at == self.now || self.holds.iter().any(|hold| hold.token == *token)
    }

    /// Whether what was enqueued can have ended.
    fn may_be_gone(&self, record: &Record) -> bool {
        let Some(token) = &record.token else {
            return record.at.saturating_add(record.lease * SECOND) <= self.now;
        };
        let hold = self.holds.iter().find(|hold| hold.token == *token);
        let lasts = hold.is_some_and(|hold| hold.due > self.now) || record.at == self.now;
        !lasts
    }

    /// Records end with their clients, and with the release of what they lead to.
    pub(super) fn end_records(&mut self, news: &News) {
        for token in &news.let_go {
            assert!(news.released.contains(token), "its record was there");
        }
        for peer in &mut self.peers {
            let released = |token: &String| news.released.contains(token);
            let over = peer.over.is_some();
            peer.records
                .retain(|record| !over && !record.token.as_ref().is_some_and(released));
        }
    }

    /// Grants of the key that perhaps nobody was told of.
    pub(super) fn unheard(&self, key: usize) -> usize {
        self.unheard_keys().filter(|&other| other == key).count()
    }

    pub(super) fn unheard_keys(&self) -> impl Iterator<Item = usize> {
        let records = self.peers.iter().flat_map(|peer| &peer.records);
        let unheard = records.filter(|record| record.is_unheard());
        unheard.map(|record| record.key)
    }

    /// A key's limit is fixed while it is used, and its queue is bounded.
    pub(super) fn judge_limits(&mut self, news: &News, held: &[Hold], waits: &[Wait]) {
        for &(key, limit) in &news.misfits {
            let others = news.fits.iter().filter(|fit| fit.0 == key);
            let mut others = others.map(|fit| fit.1).chain([self.limits[key]]);
            assert!(others.any(|other| other > 0 && other != limit), "it fits");
        }
        for &(key, limit) in &news.fits {
            let stays = |hold: &&Hold| held.iter().any(|was| was.token == hold.token);
            let mut holds = self.holds.iter().filter(|hold| hold.key == key);
            let fits = holds.clone().filter(stays).all(|hold| hold.limit == limit);
            assert!(
                fits || holds.next().is_none(),
                "its first user fixed its limit"
            );
            self.limits[key] = limit;
        }
        let most = self.settings.locks.max_waiters as usize;
        let now = self.waits();
        for key in 0..KEYS {
            let queued = |waits: &[Wait]| waits.iter().filter(|wait| wait.key == key).count();
            assert!(
                most == 0 || queued(&now) <= most,
                "S10: a queue is too long"
            );
            if news.crowded.contains(&key) {
                let came = news.acquired.iter().chain(&news.left);
                let came = came.filter(|&&other| other == key).count();
                let count = queued(waits) + queued(&now) + self.unheard(key) + came;
                // Who came and vanished within the turn was perhaps in it, too.
                let mut gone = self.peers.iter().map(|peer| peer.over);
                let room = count < most && !gone.any(|over| over == Some(self.now));
                assert!(most > 0 && !room, "there is room in the queue");
            }
        }
    }
}
