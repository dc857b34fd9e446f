//! The judge of the hub: what each client has sent and was told, as bytes, and the life of its connection. It knows
//! frames, the order of answers, deadlines, ends and signals, and nothing of how the hub works. What clients asked of
//! the lock table it puts into a story, for which the lock table's own judge has the rules.

pub mod callers;
mod frames;
mod lives;
mod peers;
pub mod pushes;
#[cfg(feature = "http")]
mod rest;
mod rounds;
mod shown;
mod spelling;
mod story;

use std::collections::VecDeque;

use dflockd::command::{Token, Us};
use dflockd::hub::{OUTPUT_MAX, Settings};
use dflockd::wire::Face;

use crate::harness::{Call, Client, Entry, Net};
use crate::judges::locks::{Act, Key};
use callers::Caller;
pub use frames::{Ask, Frame};
use pushes::{Ear, Letter};
use rounds::Rounds;
use shown::Shown;
pub use spelling::token;
use story::{Asked, Part, Story};

/// Sessions that may be there at once, those included that are about to go.
const SLOTS: usize = 64;

/// One connection.
#[derive(Default)]
pub struct Peer {
    /// Frames that were not answered yet, perhaps not even sent.
    pub frames: VecDeque<Frame>,
    /// It speaks in frames of its own; then much of what is here is of no use.
    caller: Option<Caller>,
    /// What it asked of the lock table and was answered in this turn: in which call, and how.
    asked: VecDeque<Asked>,
    /// By call of this turn, how much of what it sent had come; the first is from before.
    come: Vec<(usize, usize)>,
    /// What it listens to and hears.
    ear: Ear,
    /// It has said the secret, or there is none.
    trusted: bool,
    /// It has said the administrator's.
    pub admin: bool,
    /// It is on the server's own host.
    local: bool,
    /// It came during the drain, and was told nothing but that it may go on.
    newcomer: bool,
    /// The drain has sent it away though it had asked for nothing, or for nothing that was looked at.
    sent_away: bool,
    /// When it was told that its secret is wrong.
    rejected: Option<Us>,
    /// A line that it was told in part.
    tail: Vec<u8>,
    /// Bytes of the stream that were sent.
    pub sent: usize,
    /// In which call of all it spoke last.
    spoke: u64,
    /// In which call of this turn it spoke or was told something last.
    acted: usize,
    /// Its client took some output in this turn.
    pub fed: bool,
    /// Its connection broke in this turn or before.
    pub reset: bool,
    /// When its end was decided; nothing that it holds or says counts from then on.
    pub over: Option<Us>,
    /// The lock table has nothing of it any more.
    left: bool,
    /// Bytes of whole lines that it was told.
    seen: usize,
    /// The first frame waits in the queue of a key.
    waits: bool,
    /// So much output is not taken that nothing is executed.
    blocked: bool,
    /// It took nothing of that, so that nothing can be executed in this turn.
    deaf: bool,
    /// It takes output again.
    resumed: bool,
    /// Bytes that its client had taken after the last turn.
    taken: usize,
    /// Since when it takes nothing of what there is for it.
    stuck: Option<Us>,
    /// When its client learned that nothing more comes.
    shut: Option<Us>,
    answered: bool,
    /// How much it was told in this turn: by chance it was blocked.
    told: usize,
    waited: bool,
    /// It held something, or stood in a queue, after the last turn.
    had: bool,
    /// From when its silence is counted, or by chance later, and what had come of a frame by then.
    base: Us,
    latest: Us,
    begun: bool,
    lines: usize,
}

pub struct Judge {
    settings: Settings,
    pub peers: Vec<Peer>,
    /// What became of the locks.
    pub story: Story,
    /// All signals of the run.
    pub letters: Vec<Letter>,
    rounds: Rounds,
    /// What was said of keys in this turn.
    shown: Vec<Shown>,
    pub draining: bool,
    /// No connection holds anything any more, and nothing is granted.
    pub last_call: bool,
    /// The server dies in this turn.
    dies: bool,
    turn: u64,
    calls: u64,
    now: Us,
    /// Until when all that arrived was heard: what is due later may have been put off.
    heard: Us,
    /// When the hub must be awake at the latest.
    wake: Us,
}

impl Judge {
    pub fn new(settings: Settings, keys: Vec<Key>) -> Judge {
        Judge {
            story: Story::new(settings.locks.clone(), keys, SLOTS),
            settings,
            peers: Vec::new(),
            letters: Vec::new(),
            rounds: Rounds::new(),
            shown: Vec::new(),
            draining: false,
            last_call: false,
            dies: false,
            turn: 0,
            calls: 0,
            now: 0,
            heard: 0,
            wake: 0,
        }
    }

    pub fn connected(&mut self, now: Us, local: bool) {
        self.peers.push(Peer {
            base: now,
            latest: now,
            trusted: self.settings.secret.is_none(),
            local,
            newcomer: self.draining,
            ..Peer::default()
        });
    }

    /// Judges a turn that is over.
    pub fn judge(&mut self, net: &mut Net) {
        let journal = net.take_journal();
        self.begin_turn(net, &journal);
        let opened = self.open();
        self.begin_ears();
        self.wake = Us::MAX;
        for at in 0..self.peers.len() {
            self.watch_output(net, at);
            self.peers[at].begin_turn();
        }
        let hears = self.open();
        self.hear_all(net, &journal, &hears);
        for at in 0..self.peers.len() {
            self.judge_tail(net, at);
        }
        self.end_slow_peers(net, &opened);
        self.end_peers(net);
        self.tell_story(net, &journal);
        if self.draining {
            self.end_idle_peers(net);
        }
        for peer in self.open() {
            self.judge_open(net, peer);
        }
        self.judge_signals(net, &opened);
        self.judge_over(net);
        self.judge_callers(net);
        self.compare(net);
    }

    fn begin_turn(&mut self, net: &Net, journal: &[Entry]) {
        self.turn += 1;
        self.now = net.now;
        for entry in journal {
            if let Call::Tick { heard } = entry.call {
                self.heard = heard;
            }
        }
    }

    /// Reads what clients have said and were told, call by call.
    fn hear_all(&mut self, net: &Net, journal: &[Entry], hears: &[usize]) {
        self.note_broken(journal);
        for (call, entry) in journal.iter().enumerate() {
            if let Call::Hear { client, come } = entry.call {
                self.calls += 1;
                self.peers[client].spoke = self.calls;
                self.note_come(client, come);
                self.peers[client].come.push((call, come));
                self.peers[client].acted = call;
            }
            if let Call::Break(client) = entry.call {
                self.peers[client].acted = call;
            }
            for (at, bytes) in &entry.told {
                self.peers[*at].acted = call;
                if self.is_caller(*at) {
                    self.hear_caller(net, *at, call, bytes);
                } else if hears.contains(at) {
                    self.hear(net, *at, call, bytes);
                }
            }
        }
    }

    /// Whose connections broke when they were written to.
    fn note_broken(&mut self, journal: &[Entry]) {
        for entry in journal {
            if let Call::Break(client) = entry.call {
                let peer = &mut self.peers[client];
                peer.reset = true;
                if let Some(caller) = &mut peer.caller {
                    caller.reset = true;
                }
            }
        }
    }

    /// S13: reads the lines that are new, each the answer to the first frame that has none.
    fn hear(&mut self, net: &Net, at: usize, call: usize, bytes: &[u8]) {
        let peer = &mut self.peers[at];
        peer.told += bytes.len();
        peer.tail.extend_from_slice(bytes);
        let end = peer.tail.iter().rposition(|&byte| byte == b'\n');
        let lines: Vec<u8> = peer.tail.drain(..end.map_or(0, |lf| lf + 1)).collect();
        let lines = String::from_utf8(lines).expect("answers are text");
        for line in lines.split_terminator('\n') {
            let peer = &mut self.peers[at];
            assert!(peer.over.is_none(), "{line:?} after the end");
            peer.seen += line.len() + 1;
            let end = peer.seen;
            if line.starts_with("sig ") {
                self.overheard(at, line, end);
                continue;
            }
            peer.answered = true;
            let come = peer.come.last().map_or(0, |come| come.1);
            // A waiter has its answer whatever it leaves unread.
            let deaf = peer.deaf && !peer.waits;
            let first = peer.frames.front().filter(|frame| frame.end() <= come);
            let first = first.filter(|_| !deaf).map(|frame| frame.ask);
            let is_farewell = peer.newcomer && line == "error_draining";
            if is_farewell && first.is_none_or(|ask| ask.works_in_drain() || !peer.trusted) {
                (peer.sent_away, peer.over) = (true, Some(self.now));
            } else if first.is_some() {
                let frame = peer.frames.pop_front().expect("it was just seen");
                self.answer(net, at, &frame, call, line);
            } else {
                self.timed_out(net, at, line);
            }
        }
    }

    /// S13: what is left when the turn is over.
    fn judge_tail(&mut self, net: &Net, at: usize) {
        let (client, peer) = (&net.clients[at], &mut self.peers[at]);
        // A long answer goes on until its peer must take some of it first.
        let goes_on =
            net.output(at).len() >= OUTPUT_MAX || net.deadline().is_some_and(|due| due <= net.now);
        // And of the last line of one that was cut off, the rest is lost.
        let goes_on = goes_on && peer.tail.starts_with(b"ok {") || client.closed;
        assert!(peer.tail.is_empty() || goes_on, "S13: whole lines");
        peer.answered |= !peer.tail.is_empty();
    }

    fn answer(&mut self, net: &Net, at: usize, frame: &Frame, call: usize, line: &str) {
        let ask = frame.ask;
        self.peers[at].waits = false;
        let introduces = match ask {
            Ask::Auth(_) | Ask::Admin => self.introduced(ask, at),
            _ => Err(()),
        };
        if introduces.is_err() && !self.peers[at].trusted {
            return self.reject(at, line);
        }
        self.peers[at].newcomer &= !(self.draining && ask.ends_newcomer());
        self.answered(at, ask);
        match ask {
            Ask::Lock(Act::Break { .. }) if !self.may_break(at) => assert_eq!(line, "error_auth"),
            Ask::Lock(act) => {
                self.peers[at].waited |= act.can_wait();
                let answer = (call, line.as_bytes().to_vec());
                self.peers[at].asks(act, frame.end(), Some(answer));
            }
            Ask::Listen(_) | Ask::Unlisten(_) | Ask::Signal(_) => self.signalled(at, ask, line),
            Ask::Auth(_) | Ask::Admin => match introduces {
                Ok(word) => assert_eq!(line, word),
                Err(()) => self.reject(at, line),
            },
            Ask::Show(key) => {
                self.peers[at].waited = true;
                let key = &self.story.judge.keys[key];
                self.shown.push(Shown::read(net, call, key, line));
            }
            Ask::Stats => {
                assert!(line.starts_with("ok {") && line.ends_with('}'));
                // It takes its time, and what is behind it comes after the tick.
                self.peers[at].waited = true;
            }
            Ask::Ping => assert_eq!(line, "ok"),
            Ask::Nonsense => assert_eq!(line, "error"),
            Ask::TooLong => {
                assert_eq!(line, "error");
                self.peers[at].over = Some(self.now);
            }
            Ask::Http => panic!("a browser was told {line:?}"),
        }
    }

    /// What a secret leads to: `ok`, or `error` for one that was not needed; a wrong one is the end.
    fn introduced(&mut self, ask: Ask, at: usize) -> Result<&'static str, ()> {
        let is_client = ask == Ask::Auth(true) && self.settings.secret.is_some();
        let is_admin = ask == Ask::Admin && self.settings.admin.is_some();
        let peer = &mut self.peers[at];
        let may_rise = self.settings.admin.is_some() && !peer.admin;
        if is_admin && may_rise || is_client && !peer.trusted {
            (peer.trusted, peer.admin) = (true, peer.admin || is_admin);
            return Ok("ok");
        }
        if peer.trusted && (!may_rise || is_client) {
            return Ok("error");
        }
        Err(())
    }

    /// Whether the client may end holds by force.
    pub fn may_break(&self, at: usize) -> bool {
        let peer = &self.peers[at];
        match (&self.settings.admin, &self.settings.secret) {
            (Some(_), _) => peer.admin,
            (None, Some(_)) => peer.trusted,
            (None, None) => peer.local,
        }
    }

    /// S1 to S9: there is an order in which all answers are right.
    fn tell_story(&mut self, net: &Net, journal: &[Entry]) {
        let ids: Vec<_> = net.clients.iter().map(|client| client.id).collect();
        let waits = |&at: &usize| !self.peers[at].left || self.unheard(net, at).is_some();
        let mut places: Vec<usize> = (0..ids.len()).filter(waits).collect();
        places.sort_by_key(|&at| self.peers[at].spoke);
        let parts: Vec<Part> = places.iter().map(|&at| self.part(net, at)).collect();
        let shown = std::mem::take(&mut self.shown);
        self.story.explain(journal, &ids, &parts, &shown);
        for &at in &places {
            let (id, peer) = (ids[at], &mut self.peers[at]);
            if peer.is_over(&net.clients[at]) && self.story.is_open(id) {
                self.story.close(self.now, id);
            }
            peer.left = !self.story.is_open(id);
            peer.waits = !peer.left && self.story.judge.waits(id);
            if peer.left {
                peer.over.get_or_insert(self.now);
            }
        }
    }

    /// What the client was granted, and what its connection has not taken all the answer of.
    fn unheard(&self, net: &Net, at: usize) -> Option<(usize, Token)> {
        let caller = self.peers[at].caller.as_ref()?;
        caller.unheard(net.clients[at].heard.len())
    }

    /// What a client has to do with the locks in this turn.
    fn part(&mut self, net: &Net, at: usize) -> Part {
        let (may_break, unheard) = (self.may_break(at), self.unheard(net, at));
        let quarantined = self.is_quarantined();
        let (client, peer) = (&net.clients[at], &mut self.peers[at]);
        let over = peer.is_over(client);
        let leaves = peer.caller.as_ref().is_some_and(|caller| caller.farewell);
        let gone = client.ended || client.closed || client.shut;
        let ends = over || peer.reset || gone || leaves;
        let come = peer.come.last().map_or(0, |come| come.1);
        let unanswered: Vec<(Option<Act>, usize)> = match &peer.caller {
            Some(caller) => caller.unanswered(come),
            None if !peer.trusted => Vec::new(),
            None => {
                let frames = peer.frames.iter();
                let whole = frames.take_while(|frame| frame.end() <= come);
                let act = |frame: &Frame| match frame.ask {
                    Ask::Lock(Act::Break { .. }) if !may_break => None,
                    Ask::Lock(act) => Some(act),
                    _ => None,
                };
                whole.map(|frame| (act(frame), frame.end())).collect()
            }
        };
        // Of those of one that goes on only the first was perhaps asked.
        let most = if ends { unanswered.len() } else { 1 };
        for (act, end) in unanswered.into_iter().take(most) {
            if let Some(act) = act {
                peer.asks(act, end, None);
            }
        }
        let all = peer.come.last().map_or(0, |come| come.1);
        peer.come = vec![(0, all)];
        let asks = std::mem::take(&mut peer.asked);
        // In a quarantine a request may leave a key, and no word, after its client spoke last.
        let last = match quarantined && !asks.is_empty() {
            true => usize::MAX,
            false => peer.acted,
        };
        Part {
            id: client.id,
            face: peer
                .caller
                .as_ref()
                .map_or(Face::Text, |caller| caller.face),
            asks,
            ends,
            dies: self.dies,
            over: over.then_some(last),
            blocked: peer.blocked,
            drains: self.draining && peer.caller.is_none(),
            unheard,
        }
    }

    /// What the hub says of itself.
    fn compare(&self, net: &Net) {
        let deadline = net.deadline().unwrap_or(Us::MAX);
        let wake = self
            .wake
            .min(self.story.table().deadline().unwrap_or(Us::MAX));
        assert!(deadline <= wake, "it sleeps too long");
        let open = net.clients.iter().filter(|client| !client.closed).count();
        assert_eq!(net.sessions(), open, "S9");
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
}

impl Peer {
    fn is_over(&self, client: &Client) -> bool {
        match self.caller {
            Some(_) => client.closed,
            None => self.over.is_some(),
        }
    }

    /// It has asked this of the lock table, with a frame that ends there.
    fn asks(&mut self, act: Act, end: usize, answer: Option<(usize, Vec<u8>)>) {
        let call = self.come.iter().find(|come| come.1 >= end);
        let from = call.map_or(0, |call| call.0);
        self.asked.push_back(Asked { act, from, answer });
    }

    fn begin_turn(&mut self) {
        self.acted = 0;
        self.waited = self.waits;
        self.told = self.tail.len();
        self.deaf = self.blocked && !self.fed && self.tail.is_empty();
        self.answered = false;
    }
}
