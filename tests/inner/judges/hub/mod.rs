//! The judge of the hub: what each client has said and was told, as text, and what follows from it for the keys.
//! It knows nothing of how the hub works, only when a turn began and that it is over. Within a turn it does not
//! know in which order things happened, but for what an answer's place and the fences say; where two orders are
//! possible it accepts both, and a turn in which one client acts has only one.

pub mod faces;
mod frames;
mod peers;
pub mod pushes;
mod records;
mod rounds;

use std::collections::VecDeque;

use dflockd::command::{SECOND, Us};
use dflockd::hub::{OUTPUT_MAX, Settings};

use crate::harness::Net;
use faces::{Caller, Claim};
use frames::delivered;
pub use frames::{Ask, Frame};
use pushes::{Ear, Letter};
use records::Record;
use rounds::Rounds;

/// One connection.
#[derive(Default)]
pub struct Peer {
    /// Frames that were not answered yet, perhaps not even sent.
    pub frames: VecDeque<Frame>,
    /// It speaks in frames of its own; then nothing else here is of any use.
    caller: Option<Caller>,
    /// What it listens to and hears.
    ear: Ear,
    /// What its enqueues have left, by key.
    records: Vec<Record>,
    /// It has said the secret, or there is none.
    trusted: bool,
    /// When it was told that its secret is wrong.
    rejected: Option<Us>,
    /// Bytes of a line that it was told in part.
    tail: usize,
    /// Bytes of the stream that were sent.
    pub sent: usize,
    /// Its client took some output in this turn.
    pub fed: bool,
    /// Its connection broke in this turn or before.
    pub reset: bool,
    /// When its end was decided; nothing that it holds or says counts from then on.
    pub over: Option<Us>,
    /// Bytes of answers that were judged.
    seen: usize,
    /// The first frame waits in the queue of a key since this turn, and this time.
    since: Option<(u64, Us)>,
    /// So much output is not taken that nothing is executed.
    blocked: bool,
    /// It takes output again.
    resumed: bool,
    /// Bytes that its client had taken after the last turn.
    taken: usize,
    /// Since when it takes nothing of what there is for it.
    stuck: Option<Us>,
    /// When its client learned that nothing more comes.
    shut: Option<Us>,
    answered: bool,
    /// It was told so much in this turn that by chance it was blocked.
    flooded: bool,
    waited: bool,
    /// It held something, or stood in a queue, after the last turn.
    had: bool,
    /// From when its silence is counted, or by chance later, and what had come of a frame by then.
    base: Us,
    latest: Us,
    begun: bool,
    lines: usize,
}

#[derive(Clone)]
pub struct Hold {
    pub key: usize,
    pub token: String,
    pub owner: Option<usize>,
    /// It was claimed on the other face, and its token nobody knows.
    pub claim: Option<Claim>,
    due: Us,
    limit: u32,
}

struct Wait {
    peer: usize,
    key: usize,
    turn: u64,
}

struct Grant {
    peer: usize,
    key: usize,
    token: String,
    lease: u64,
    limit: u32,
    /// The turn in which it came to wait.
    turn: u64,
    /// It may be older than the answer.
    unheard: bool,
}

/// What one turn brought.
#[derive(Default)]
struct News {
    grants: Vec<Grant>,
    released: Vec<String>,
    /// What was claimed, and keys that went to the first in the queue before the clock's work.
    claimed: Vec<String>,
    handed: Vec<usize>,
    renewed: Vec<String>,
    /// Keys and tokens that were refused, and whether that was behind a wait.
    refused: Vec<(usize, String, bool)>,
    /// Keys that somebody had an answer for.
    acquired: Vec<usize>,
    /// Keys that were not free, and the limits that were asked for.
    missed: Vec<(usize, u32)>,
    /// The same of those that were refused for their limit, and that were not.
    misfits: Vec<(usize, u32)>,
    fits: Vec<(usize, u32)>,
    /// Tokens of records that are gone: somebody must have released them.
    let_go: Vec<String>,
    /// Keys that perhaps somebody held or queued for, unheard, until now.
    left: Vec<usize>,
    /// Keys whose queues were full.
    crowded: Vec<usize>,
    /// Keys that would have been one too many.
    full: Vec<usize>,
    /// Peers whose wait ended without a grant.
    gave_up: Vec<usize>,
}

/// Keys that a run may have.
pub const KEYS: usize = 9;

pub struct Judge {
    settings: Settings,
    pub peers: Vec<Peer>,
    pub holds: Vec<Hold>,
    pub stale: Vec<(usize, String)>,
    /// All signals of the run.
    pub letters: Vec<Letter>,
    rounds: Rounds,
    /// Who sent on the other face in this turn, in order, and how much by then.
    order: Vec<(usize, usize)>,
    /// In this turn nobody acts on a line.
    pub solo: bool,
    claimed: usize,
    /// The last limit that was accepted, by key.
    limits: Vec<u32>,
    pub draining: bool,
    turn: u64,
    now: Us,
    /// When the hub must be awake at the latest.
    wake: Us,
    last_token: String,
}

impl Judge {
    pub fn new(settings: Settings) -> Judge {
        Judge {
            settings,
            peers: Vec::new(),
            holds: Vec::new(),
            stale: Vec::new(),
            letters: Vec::new(),
            rounds: Rounds::new(),
            order: Vec::new(),
            solo: false,
            claimed: 0,
            limits: vec![0; KEYS],
            draining: false,
            turn: 0,
            now: 0,
            wake: 0,
            last_token: String::new(),
        }
    }

    pub fn connected(&mut self, now: Us) {
        self.peers.push(Peer {
            base: now,
            latest: now,
            trusted: self.settings.secret.is_none(),
            ..Peer::default()
        });
    }

    /// Judges a turn that is over.
    pub fn judge(&mut self, net: &Net) {
        self.turn += 1;
        self.now = net.now;
        let mut held = self.holds.clone();
        let waits = self.waits();
        let opened = self.open();
        self.begin_ears();
        let mut news = News::default();
        self.wake = Us::MAX;
        for at in 0..self.peers.len() {
            self.watch_output(net, at);
        }
        self.hear_callers(net, &mut news, &waits);
        let claimed = |hold: &&Hold| news.claimed.contains(&hold.token);
        held.extend(self.holds.iter().filter(claimed).cloned());
        for peer in self.open() {
            self.hear(net, peer, &mut news);
        }
        self.end_slow_peers(net, &opened);
        self.end_peers(net);
        self.end_holds(&news);
        self.judge_grants(&mut news, &waits);
        self.judge_claims(&news, &waits);
        self.judge_refusals(&news, &held, &waits);
        self.end_records(&news);
        if self.draining {
            self.end_idle_peers(net);
        }
        let dues = self.holds.iter().map(|hold| hold.due);
        self.wake = self.wake.min(dues.min().unwrap_or(Us::MAX));
        for peer in self.open() {
            self.judge_open(net, peer);
        }
        self.judge_signals(net, &opened);
        self.judge_over(net);
        self.judge_callers(net);
        self.judge_limits(&news, &held, &waits);
        self.compare(net);
    }

    /// S13: reads the lines that are new, each the answer to the first frame that has none.
    fn hear(&mut self, net: &Net, at: usize, news: &mut News) {
        let (client, peer) = (&net.clients[at], &mut self.peers[at]);
        let output = net.output(at);
        let new = match peer.seen.checked_sub(client.heard.len()) {
            Some(behind) => output.get(behind..).unwrap_or_default().to_vec(),
            None => [&client.heard[peer.seen..], output].concat(),
        };
        let mut end = peer.seen;
        peer.seen += new.len();
        peer.waited = peer.since.is_some();
        peer.flooded = new.len() >= OUTPUT_MAX;
        let stuck = peer.blocked && !peer.fed && peer.tail == 0;
        let text = String::from_utf8(new).expect("answers are ASCII");
        let (text, tail) = text.split_at(text.rfind('\n').map_or(0, |end| end + 1));
        // A long answer goes on until its peer must take some of it first.
        let goes_on =
            output.len() >= OUTPUT_MAX || net.deadline().is_some_and(|due| due <= net.now);
        // And of the last line of one that was cut off, the rest is lost.
        let goes_on = goes_on && tail.starts_with("ok {") || client.closed;
        let partly = tail.is_empty() || goes_on;
        assert!(partly, "S13: whole lines");
        peer.seen -= tail.len();
        peer.tail = tail.len();
        peer.answered = !tail.is_empty();
        for line in text.split_terminator('\n') {
            assert!(self.peers[at].over.is_none(), "{line:?} after the end");
            end += line.len() + 1;
            if line.starts_with("sig ") {
                self.overheard(at, line, end);
                continue;
            }
            self.peers[at].answered = true;
            let come = delivered(net, at, self.peers[at].sent);
            // Who waits in a queue has its answer whatever it leaves unread.
            let stuck = stuck && self.peers[at].since.is_none();
            let frames = &mut self.peers[at].frames;
            if !stuck && frames.front().is_some_and(|frame| frame.end() <= come) {
                let frame = frames.pop_front().expect("it was just seen");
                self.answer(at, frame.ask, line, news);
            } else {
                self.timed_out(net, at, line);
            }
        }
    }

    fn answer(&mut self, at: usize, ask: Ask, line: &str, news: &mut News) {
        let since = self.peers[at].since.take();
        if !self.peers[at].trusted && ask != Ask::Auth(true) {
            return self.reject(at, line);
        }
        self.answered(at, &ask);
        match ask {
            Ask::Listen(_) | Ask::Unlisten(_) | Ask::Signal(_) => self.signalled(at, ask, line),
            Ask::Auth(_) if self.peers[at].trusted => assert_eq!(line, "error"),
            Ask::Auth(_) => {
                assert_eq!(line, "ok");
                self.peers[at].trusted = true;
            }
            Ask::Stats => {
                assert!(line.starts_with("ok {") && line.ends_with('}'));
                // It takes its time, and what is behind it comes after the tick.
                self.peers[at].waited = true;
            }
            Ask::Enqueue { key, limit, lease } => {
                self.enqueued(at, (key, limit, lease), line, news)
            }
            Ask::Wait { key, wait } => self.waited(at, (key, wait), since, line, news),
            Ask::Ping => assert_eq!(line, "ok"),
            Ask::Nonsense => assert_eq!(line, "error"),
            Ask::TooLong => {
                assert_eq!(line, "error");
                self.peers[at].over = Some(self.now);
            }
            Ask::Http => panic!("a browser was told {line:?}"),
            Ask::Release { key, token } if line == "ok" => {
                assert!(self.hold(key, &token).is_some(), "S8: a stale token");
                assert!(!news.released.contains(&token), "S8: released twice");
                news.released.push(token);
            }
            Ask::Renew { key, token, lease } if line != "error" => {
                assert_eq!(line, format!("ok {lease}"));
                self.renewed(key, token, lease, news);
            }
            Ask::Release { key, token } | Ask::Renew { key, token, .. } => {
                assert_eq!(line, "error");
                // Who comes within a turn speaks after its tick.
                let peer = &self.peers[at];
                let later = peer.waited || peer.base == self.now;
                news.refused.push((key, token, later));
            }
            Ask::Acquire {
                key,
                limit,
                wait,
                lease,
            } => {
                let turn = since.map_or(self.turn, |(turn, _)| turn);
                news.acquired.push(key);
                self.peers[at].waited |= wait > 0;
                match line.split(' ').collect::<Vec<_>>()[..] {
                    ["ok", token, told] => {
                        assert_eq!(told, lease.to_string());
                        news.fits.push((key, limit));
                        self.granted(at, (key, limit, lease), token, turn, news);
                    }
                    ["timeout"] if wait == 0 && !self.draining => news.missed.push((key, limit)),
                    ["timeout"] => self.gave_up(at, since, wait, news),
                    ["error_draining"] if self.draining => news.gave_up.push(at),
                    _ => self.refused(key, limit, line, news),
                }
            }
        }
    }

    fn renewed(&mut self, key: usize, token: String, lease: u64, news: &mut News) {
        let due = self.now.saturating_add(lease * SECOND);
        let hold = self.hold(key, &token);
        hold.expect("S8: a stale token was renewed").due = due;
        news.renewed.push(token);
    }

    fn granted(
        &mut self,
        peer: usize,
        (key, limit, lease): (usize, u32, u64),
        token: &str,
        turn: u64,
        news: &mut News,
    ) {
        assert!(!self.draining, "nothing is granted any more");
        assert_eq!(token.len(), 32);
        let token = token.to_string();
        news.grants.push(Grant {
            peer,
            key,
            token,
            lease,
            limit,
            turn,
            unheard: false,
        });
    }

    fn gave_up(&mut self, at: usize, since: Option<(u64, Us)>, wait: u64, news: &mut News) {
        let begun = since.expect("it never waited").1;
        assert!(begun + wait * SECOND <= self.now, "a wait ended early");
        news.gave_up.push(at);
    }

    /// An acquire or an enqueue was refused because of a limit.
    fn refused(&mut self, key: usize, limit: u32, line: &str, news: &mut News) {
        match line {
            "error_max_locks" if !self.draining => news.full.push(key),
            "error_max_waiters" if !self.draining => news.crowded.push(key),
            "error_limit_mismatch" if !self.draining => news.misfits.push((key, limit)),
            "error_draining" if self.draining => {}
            _ => panic!("{line:?} answers no acquire"),
        }
    }

    fn end_holds(&mut self, news: &News) {
        let (now, stale) = (self.now, &mut self.stale);
        for hold in &mut self.holds {
            let over = hold.owner.is_some_and(|at| self.peers[at].over.is_some());
            if over && !self.settings.locks.auto_release {
                hold.owner = None;
            } else if over {
                hold.due = now;
            }
        }
        self.holds.retain(|hold| {
            let ends = hold.due <= now || news.released.contains(&hold.token);
            if ends && hold.claim.is_none() {
                stale.push((hold.key, hold.token.clone()));
            }
            !ends
        });
    }

    /// In the order of their fences: is the key free, and did nobody come before?
    fn judge_grants(&mut self, news: &mut News, waits: &[Wait]) {
        let grants = &mut news.grants;
        grants.sort_by(|a, b| a.token.cmp(&b.token));
        for (place, grant) in grants.iter().enumerate() {
            let &Grant {
                peer, key, turn, ..
            } = grant;
            let fence = &grant.token[..16];
            let used = |token: &String| token[..16] == *fence;
            let used = self.holds.iter().any(|hold| used(&hold.token))
                || self.stale.iter().any(|stale| used(&stale.1));
            assert!(!used, "S3: a token is used once");
            let rises = fence > self.last_token.as_str();
            assert!(rises || grant.unheard, "S7: fences rise");
            if rises {
                self.last_token = fence.to_string();
            }
            self.believe_a_lost_release(key, grant.limit);
            let over = self.peers[peer].over.is_some();
            // What ended with its session within the turn could be claimed.
            let later = |hold: &&Hold| over && news.claimed.contains(&hold.token);
            let held = self
                .holds
                .iter()
                .filter(|hold| hold.key == key && !later(hold));
            assert!(held.count() < grant.limit as usize, "S1: it is held");
            let before = |w: &&Wait| w.key == key && w.turn < turn && !grant.unheard;
            for wait in waits.iter().filter(before) {
                let its = |grant: &Grant| grant.peer == wait.peer && grant.turn == wait.turn;
                let served = grants[..place].iter().any(its)
                    || self.peers[wait.peer].over.is_some()
                    || news.gave_up.contains(&wait.peer);
                assert!(served, "S2: somebody came before");
            }
            if over && self.settings.locks.auto_release {
                self.stale.push((key, grant.token.clone()));
                continue;
            }
            self.holds.push(Hold {
                key,
                token: grant.token.clone(),
                owner: (!over).then_some(peer),
                claim: None,
                due: self.now.saturating_add(grant.lease * SECOND),
                limit: grant.limit,
            });
        }
    }

    /// A client that was cut in this turn may have had a release executed whose `ok` it never heard. That a key
    /// without a free slot is granted is the sign of it.
    fn believe_a_lost_release(&mut self, key: usize, limit: u32) {
        let cut = |peer: &&Peer| peer.over == Some(self.now);
        let asked = |hold: &Hold| {
            let frames = self.peers.iter().filter(cut).flat_map(|peer| &peer.frames);
            let mut asks = frames.map(|frame| &frame.ask);
            asks.any(|ask| matches!(ask, Ask::Release { token, .. } if *token == hold.token))
        };
        if self.holds.iter().filter(|hold| hold.key == key).count() < limit as usize {
            return;
        }
        if let Some(at) = self
            .holds
            .iter()
            .position(|hold| hold.key == key && asked(hold))
        {
            let hold = self.holds.remove(at);
            self.stale.push((key, hold.token));
        }
    }

    /// Was there, before or within the turn, a reason for each no?
    fn judge_refusals(&self, news: &News, held: &[Hold], waits: &[Wait]) {
        for (key, token, waited) in &news.refused {
            let hold = held.iter().find(|h| h.key == *key && h.token == *token);
            let Some(hold) = hold else { continue };
            let over = |at: usize| self.peers[at].over == Some(self.now);
            let released = news.released.contains(token) || hold.owner.is_some_and(over);
            // What was read comes before the end of a lease, unless an acquire has ended it.
            let asked = |wait: &Wait| wait.key == *key && wait.turn == self.turn;
            let next = |peer: &Peer| peer.frames.front().map(|frame| frame.ask.clone());
            let asks = |peer: &Peer| matches!(next(peer), Some(Ask::Acquire { key: its, .. }) if its == *key);
            let acquired = news.acquired.contains(key)
                || self.peers.iter().any(asks)
                || self.waits().iter().any(asked)
                || (0..self.peers.len()).any(over);
            let expired = hold.due <= self.now && (*waited || acquired);
            assert!(released || expired, "a right token was refused");
        }
        for &(key, limit) in &news.missed {
            let renewed = |hold: &Hold| news.renewed.contains(&hold.token);
            let lasts = |hold: &&Hold| hold.due > self.now || renewed(hold);
            let holds = held.iter().filter(|hold| hold.key == key);
            let grants = news.grants.iter().filter(|grant| grant.key == key);
            let left = news.left.iter().filter(|&&left| left == key).count();
            let told = holds.filter(lasts).count() + grants.count();
            let count = told + left + self.unheard(key);
            let busy = count >= limit as usize || waits.iter().any(|wait| wait.key == key);
            assert!(busy, "a free lock was refused");
        }
        for &key in &news.full {
            let granted = news.grants.iter().map(|grant| grant.key);
            let left = news.left.iter().copied();
            let granted = granted.chain(self.unheard_keys()).chain(left);
            let keys = count_keys(held, waits, granted);
            assert!(keys >= self.settings.locks.max_locks, "there is room");
            let came = |hold: &Hold| news.claimed.contains(&hold.token);
            let was = |hold: &Hold| held.iter().any(|was| was.token == hold.token);
            let stays = |hold: &Hold| was(hold) && !came(hold);
            let mut in_use = self.holds.iter().filter(|hold| hold.key == key);
            assert!(!in_use.any(stays), "a key in use is not one more");
        }
    }

    /// What the hub says of itself.
    fn compare(&self, net: &Net) {
        let deadline = net.deadline().unwrap_or(Us::MAX);
        assert!(deadline <= self.wake, "it sleeps too long");
        let open = net.clients.iter().filter(|client| !client.closed).count();
        assert_eq!(net.sessions(), open, "S9");
        if net.is_drained() {
            // That was its last turn, and a lease may have ended with it.
            return;
        }
        let locks = net.locks();
        let waits = self.waits();
        let keys = count_keys(&self.holds, &waits, []);
        let most = count_keys(&self.holds, &waits, self.unheard_keys());
        assert!((keys..=most).contains(&locks.keys()), "S9");
        let most = self.holds.len() + self.unheard_keys().count();
        let held = locks.counts().held as usize;
        assert!((self.holds.len()..=most).contains(&held), "S11");
        for at in self.open() {
            let has = locks.has(net.clients[at].id);
            let surely = self.owns(at) || waits.iter().any(|wait| wait.peer == at);
            let perhaps = surely || self.peers[at].records.iter().any(Record::is_unheard);
            assert!(has >= surely && has <= perhaps, "S9");
        }
    }

    /// Whether the client will be cut for what it has not read.
    pub fn is_doomed(&self, at: usize, now: Us) -> bool {
        let (stuck, timeout) = (self.peers[at].stuck, self.settings.write_timeout);
        timeout > 0 && stuck.is_some_and(|since| since + timeout <= now)
    }

    /// Peers whose end is not decided.
    pub fn open(&self) -> Vec<usize> {
        let open = |&at: &usize| self.peers[at].over.is_none();
        (0..self.peers.len()).filter(open).collect()
    }

    fn owns(&self, at: usize) -> bool {
        self.holds.iter().any(|hold| hold.owner == Some(at))
    }

    fn hold(&mut self, key: usize, token: &str) -> Option<&mut Hold> {
        let is_it = |hold: &&mut Hold| hold.key == key && hold.token == token;
        self.holds.iter_mut().find(is_it)
    }

    fn waits(&self) -> Vec<Wait> {
        let wait = |(at, peer): (usize, &Peer)| {
            let (since, _) = peer.since?;
            let (key, turn) = match peer.frames.front()?.ask {
                Ask::Acquire { key, .. } => (key, since),
                Ask::Wait { key, .. } => (key, peer.enqueued(key).turn),
                _ => return None,
            };
            let peer = at;
            Some(Wait { peer, key, turn })
        };
        self.peers.iter().enumerate().filter_map(wait).collect()
    }
}

/// How many different keys are held, queued for, or among the others.
fn count_keys(holds: &[Hold], waits: &[Wait], more: impl IntoIterator<Item = usize>) -> usize {
    let holds = holds.iter().map(|hold| hold.key);
    let waits = waits.iter().map(|wait| wait.key);
    let mut keys: Vec<usize> = holds.chain(waits).chain(more).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.len()
}
