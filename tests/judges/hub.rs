//! The judge of the hub: what each client has said and was told, as text, and what follows from it for the keys.
//! It knows nothing of how the hub works, only when a turn began and that it is over. Within a turn it does not
//! know in which order things happened, but for what an answer's place and the fences say; where two orders are
//! possible it accepts both, and a turn in which one client acts has only one.

use std::collections::VecDeque;

use dflockd::command::{SECOND, Us};
use dflockd::hub::{OUTPUT_MAX, Settings};

use crate::harness::Net;

/// What a frame asks for; times in seconds.
#[derive(Clone, PartialEq, Debug)]
pub enum Ask {
    Acquire {
        key: usize,
        wait: u64,
        lease: u64,
    },
    Release {
        key: usize,
        token: String,
    },
    Renew {
        key: usize,
        token: String,
        lease: u64,
    },
    Ping,
    /// A whole frame that asks for nothing.
    Nonsense,
    /// A frame with a line over its cap.
    TooLong,
    /// The first line of a browser.
    Http,
}

/// A frame as it stands in the stream of its client.
pub struct Frame {
    pub ask: Ask,
    pub start: usize,
    /// Where each of its lines ends; the last is where it has to be acted on.
    pub ends: Vec<usize>,
}

/// One connection.
#[derive(Default)]
pub struct Peer {
    /// Frames that were not answered yet, perhaps not even sent.
    pub frames: VecDeque<Frame>,
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
    answered: bool,
    waited: bool,
    /// From when its silence is counted, and what had come of a frame by then.
    base: Us,
    begun: bool,
    lines: usize,
}

#[derive(Clone)]
pub struct Hold {
    pub key: usize,
    pub token: String,
    pub owner: Option<usize>,
    due: Us,
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
    /// The turn in which it came to wait.
    turn: u64,
}

/// What one turn brought.
#[derive(Default)]
struct News {
    grants: Vec<Grant>,
    released: Vec<String>,
    renewed: Vec<String>,
    /// Keys and tokens that were refused, and whether that was behind a wait.
    refused: Vec<(usize, String, bool)>,
    /// Keys that somebody had an answer for.
    acquired: Vec<usize>,
    /// Keys that were not free.
    missed: Vec<usize>,
    /// Keys that would have been one too many.
    full: Vec<usize>,
    /// Peers whose wait ended without a grant.
    gave_up: Vec<usize>,
}

pub struct Judge {
    settings: Settings,
    pub peers: Vec<Peer>,
    pub holds: Vec<Hold>,
    pub stale: Vec<(usize, String)>,
    pub draining: bool,
    turn: u64,
    now: Us,
    /// When the hub must be awake at the latest.
    wake: Us,
    last_token: String,
}

impl Frame {
    fn end(&self) -> usize {
        *self.ends.last().expect("a frame has an end")
    }
}

impl Judge {
    pub fn new(settings: Settings) -> Judge {
        Judge {
            settings,
            peers: Vec::new(),
            holds: Vec::new(),
            stale: Vec::new(),
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
            ..Peer::default()
        });
    }

    /// Judges a turn that is over.
    pub fn judge(&mut self, net: &Net) {
        self.turn += 1;
        self.now = net.now;
        let held = self.holds.clone();
        let waits = self.waits();
        let mut news = News::default();
        for peer in self.open() {
            self.hear(net, peer, &mut news);
        }
        self.end_peers(net);
        self.end_holds(&news);
        self.judge_grants(&mut news, &waits);
        self.judge_refusals(&news, &held, &waits);
        if self.draining {
            self.end_idle_peers();
        }
        let dues = self.holds.iter().map(|hold| hold.due);
        self.wake = dues.min().unwrap_or(Us::MAX);
        for peer in self.open() {
            let had = held.iter().any(|hold| hold.owner == Some(peer));
            self.judge_open(net, peer, had);
        }
        self.judge_over(net);
        self.compare(net);
    }

    /// S13: reads the lines that are new, each the answer to the first frame that has none.
    fn hear(&mut self, net: &Net, at: usize, news: &mut News) {
        let (client, peer) = (&net.clients[at], &mut self.peers[at]);
        let output = net.hub.output(client.id);
        let new = match peer.seen.checked_sub(client.heard.len()) {
            Some(behind) => output.get(behind..).unwrap_or_default().to_vec(),
            None => [&client.heard[peer.seen..], output].concat(),
        };
        peer.seen += new.len();
        peer.waited = peer.since.is_some();
        peer.answered = !new.is_empty();
        let stuck = peer.blocked && !peer.fed;
        let text = String::from_utf8(new).expect("answers are ASCII");
        assert!(text.is_empty() || text.ends_with('\n'), "S13: whole lines");
        for line in text.lines() {
            assert!(self.peers[at].over.is_none(), "{line:?} after the end");
            let come = delivered(net, at, self.peers[at].sent);
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
        match ask {
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
                let due = self.now.saturating_add(lease * SECOND);
                let hold = self.hold(key, &token);
                hold.expect("S8: a stale token was renewed").due = due;
                news.renewed.push(token);
            }
            Ask::Release { key, token } | Ask::Renew { key, token, .. } => {
                assert_eq!(line, "error");
                news.refused.push((key, token, self.peers[at].waited));
            }
            Ask::Acquire { key, wait, lease } => {
                let turn = since.map_or(self.turn, |(turn, _)| turn);
                news.acquired.push(key);
                self.peers[at].waited |= wait > 0;
                match line.split(' ').collect::<Vec<_>>()[..] {
                    ["ok", token, told] if !self.draining => {
                        assert_eq!(told, lease.to_string());
                        assert_eq!(token.len(), 32);
                        let (peer, token) = (at, token.to_string());
                        news.grants.push(Grant {
                            peer,
                            key,
                            token,
                            lease,
                            turn,
                        });
                    }
                    ["timeout"] if wait == 0 && !self.draining => news.missed.push(key),
                    ["timeout"] => {
                        let begun = since.expect("it never waited").1;
                        assert!(begun + wait * SECOND <= self.now, "a wait ended early");
                        news.gave_up.push(at);
                    }
                    ["error_draining"] if self.draining => news.gave_up.push(at),
                    ["error_max_locks"] if !self.draining => news.full.push(key),
                    _ => panic!("{line:?} answers no acquire"),
                }
            }
        }
    }

    /// An `error` that answers nothing: somebody was silent for too long, and that is the end.
    fn timed_out(&mut self, net: &Net, at: usize, line: &str) {
        let holds = self.owns(at);
        let peer = &mut self.peers[at];
        let (_, lines) = partial(net, at, peer);
        assert_eq!((line, peer.since), ("error", None), "S13: answers nothing");
        let patience = peer.base + self.settings.read_timeout;
        assert!(self.now >= patience, "cut early");
        assert!(peer.begun || !holds, "between frames a holder is free");
        let old_line = peer.blocked || lines <= peer.lines;
        assert!(old_line, "a new line has its own time");
        peer.over = Some(self.now);
    }

    /// Who is gone, or has no more to say, or cannot be waited for.
    fn end_peers(&mut self, net: &Net) {
        for at in self.open() {
            let peer = &mut self.peers[at];
            peer.blocked = net.hub.output(net.clients[at].id).len() >= OUTPUT_MAX;
            let come = delivered(net, at, peer.sent);
            let rest = peer.frames.front().filter(|frame| frame.end() <= come);
            let ask = rest.map(|frame| &frame.ask);
            let ended = net.clients[at].ended && !peer.blocked && !peer.reset;
            let waits = matches!(ask, None | Some(Ask::Acquire { wait: 1.., .. } | Ask::Http));
            assert!(!ended || waits || self.draining, "{ask:?} has no answer");
            if ended || peer.reset || ask == Some(&Ask::Http) {
                peer.over = Some(self.now);
            }
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
            if ends {
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
            assert!(grant.token[..16] > *self.last_token, "S7: fences rise");
            self.last_token = grant.token[..16].to_string();
            let held = self.holds.iter().any(|hold| hold.key == key);
            assert!(!held, "S1: it is held");
            for wait in waits.iter().filter(|w| w.key == key && w.turn < turn) {
                let its = |grant: &Grant| grant.peer == wait.peer && grant.turn == wait.turn;
                let served = grants[..place].iter().any(its)
                    || self.peers[wait.peer].over.is_some()
                    || news.gave_up.contains(&wait.peer);
                assert!(served, "S2: somebody came before");
            }
            let over = self.peers[peer].over.is_some();
            if over && self.settings.locks.auto_release {
                self.stale.push((key, grant.token.clone()));
                continue;
            }
            self.holds.push(Hold {
                key,
                token: grant.token.clone(),
                owner: (!over).then_some(peer),
                due: self.now.saturating_add(grant.lease * SECOND),
            });
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
            let acquired = news.acquired.contains(key)
                || self.waits().iter().any(asked)
                || (0..self.peers.len()).any(over);
            let expired = hold.due <= self.now && (*waited || acquired);
            assert!(released || expired, "a right token was refused");
        }
        let granted = |key| news.grants.iter().any(|grant| grant.key == key);
        for &key in &news.missed {
            let renewed = |hold: &Hold| news.renewed.contains(&hold.token);
            let lasts = |hold: &Hold| hold.due > self.now || renewed(hold);
            let busy = held.iter().any(|hold| hold.key == key && lasts(hold))
                || waits.iter().any(|wait| wait.key == key);
            assert!(busy || granted(key), "a free lock was refused");
        }
        for &key in &news.full {
            let granted = news.grants.iter().map(|grant| grant.key);
            let keys = count_keys(held, waits, granted);
            assert!(keys >= self.settings.locks.max_locks, "there is room");
            let stays = |hold: &Hold| held.iter().any(|was| was.token == hold.token);
            let mut in_use = self.holds.iter().filter(|hold| hold.key == key);
            assert!(!in_use.any(stays), "a key in use is not one more");
        }
    }

    fn end_idle_peers(&mut self) {
        for at in self.open() {
            if !self.owns(at) {
                self.peers[at].over = Some(self.now);
            }
        }
    }

    /// Who is still there: may it be as silent as it is, and is it waiting for something?
    fn judge_open(&mut self, net: &Net, at: usize, had: bool) {
        assert!(!net.clients[at].shut, "closed without a reason");
        let holds = self.owns(at);
        let (turn, now) = (self.turn, self.now);
        let peer = &mut self.peers[at];
        let come = delivered(net, at, peer.sent);
        let first = peer.frames.front().filter(|frame| frame.end() <= come);
        let (mut begun, mut lines) = partial(net, at, peer);
        if peer.blocked {
            (begun, lines) = (false, 0);
        } else if let Some(frame) = first {
            (begun, lines) = (false, 0);
            let (key, wait) = match frame.ask {
                Ask::Acquire { key, wait, .. } if wait > 0 => (key, wait),
                ref ask => panic!("S4: {ask:?} has no answer"),
            };
            let (_, since) = *peer.since.get_or_insert((turn, now));
            let due = since + wait * SECOND;
            assert!(now < due, "S4: its time is over");
            self.wake = self.wake.min(due);
            let held = self.holds.iter().any(|hold| hold.key == key);
            assert!(held && !self.draining, "somebody waits for a free lock");
        }
        let first_byte = begun && !peer.begun && had;
        let freed = had && !holds && !peer.begun;
        if peer.answered || lines > peer.lines || first_byte || freed {
            peer.base = now;
        }
        (peer.begun, peer.lines, peer.fed) = (begun, lines, false);
        if peer.since.is_none() && (begun || !holds) {
            let patience = peer.base + self.settings.read_timeout;
            assert!(now < patience, "silence has an end");
            self.wake = self.wake.min(patience);
        }
    }

    /// Who is gone is closed, once it has heard everything or after some seconds.
    fn judge_over(&mut self, net: &Net) {
        for (client, peer) in net.clients.iter().zip(&mut self.peers) {
            let Some(over) = peer.over else { continue };
            peer.since = None;
            if client.closed {
                continue;
            }
            self.wake = self.wake.min(over + 6 * SECOND);
            let output = net.hub.output(client.id);
            let told = client.heard.len() + output.len();
            assert!(told <= peer.seen, "told something after the end");
            assert!(client.shut || !output.is_empty(), "it must close");
            assert!(!peer.reset && self.now < over + 6 * SECOND, "it lingers on");
            assert!(!client.ended || !output.is_empty(), "both have ended");
        }
    }

    /// What the hub says of itself.
    fn compare(&self, net: &Net) {
        let deadline = net.hub.deadline().unwrap_or(Us::MAX);
        assert!(deadline <= self.wake, "it sleeps too long");
        let open = net.clients.iter().filter(|client| !client.closed).count();
        assert_eq!(net.hub.sessions(), open, "S9");
        let locks = net.hub.locks();
        let waits = self.waits();
        assert_eq!(locks.keys(), count_keys(&self.holds, &waits, []), "S9");
        assert_eq!(locks.counts().held, self.holds.len() as u64, "S11");
        for at in self.open() {
            let has = self.owns(at) || waits.iter().any(|wait| wait.peer == at);
            assert_eq!(locks.has(net.clients[at].id), has);
        }
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
            let (turn, _) = peer.since?;
            let Ask::Acquire { key, .. } = peer.frames.front()?.ask else {
                return None;
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

/// How many bytes of the stream the server has taken.
fn delivered(net: &Net, at: usize, sent: usize) -> usize {
    sent - net.clients[at].unread.len()
}

/// Whether a frame has begun behind the whole ones that came, and how many of its lines are there.
fn partial(net: &Net, at: usize, peer: &Peer) -> (bool, usize) {
    let come = delivered(net, at, peer.sent);
    let Some(frame) = peer.frames.iter().find(|frame| frame.end() > come) else {
        return (false, 0);
    };
    let lines = frame.ends.iter().filter(|&&end| end <= come).count();
    (come > frame.start, lines)
}
