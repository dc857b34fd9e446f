//! Signals, as the judge of the hub sees them: what each client heard between its answers, and whether that is what
//! listening and signalling must have led to. At any line of a client its subscriptions are known, because its own
//! answers stand in the same stream; where somebody else's stood meanwhile is known unless they changed in that turn.

use std::collections::{BTreeMap, VecDeque};

use super::frames::{Ask, delivered};
use super::{Judge, OUTPUT_MAX};
use crate::harness::Net;

pub const CHANNELS: [&str; 8] = ["a", "b", "a.b", "a.c", "b.b", "a.b.c", "a..b", "b.b.c.c"];

/// The first suits all.
pub const PATTERNS: [&str; 13] = [
    ">", "a", "a.b", "*", "a.*", "a.>", "*.b", "*.>", "*.*.b", "a.b.c", "*.*.*", "b.*.c.>", "a..b",
];

/// The first is none.
pub const GROUPS: [&str; 4] = ["", "g", "h", "a-group-with-a-name-of-30-byte"];

/// Signals that a client may leave, and their bytes.
const LEFT_MAX: usize = 64;
const LEFT_BYTES_MAX: usize = 1024 * 1024;
/// The longest line of a signal, without its LF.
const LINE_MAX: usize = 65_536;
/// So many requests of one client surely are one turn's.
const ONE_TURN: usize = 20;
/// A budget that may be passed.
const SMALL: usize = 8 * 1024 * 1024;
/// What a line costs at most besides its bytes.
const LINE_COST: usize = 72;

/// A pattern and a group.
pub type Wish = (usize, usize);

/// A signal that somebody has made up its mind to send. No two of a run have the same payload.
pub struct Letter {
    pub(super) channel: usize,
    payload: String,
    /// The turn in which it was sent, and whoever was to hear it has, unless that is being told something long.
    turn: Option<u64>,
}

/// What a client listens to and has heard.
#[derive(Default)]
pub struct Ear {
    pub(super) wishes: Vec<Wish>,
    /// The same when the turn began, and after each change in it.
    pub(super) stages: Vec<Vec<Wish>>,
    /// Signals that it heard in this turn, and after how many changes.
    pub(super) heard: Vec<(usize, usize)>,
    /// Its own that were answered in this turn, after how many changes, and what it was told.
    pub(super) told: Vec<(usize, usize, u64)>,
    /// Both in their order.
    order: Vec<usize>,
    /// Lines that its client has not taken: where they end, how long they are, and that they were not kept behind a
    /// long answer.
    untaken: VecDeque<(usize, usize, bool)>,
    /// Where they stood after the last turn.
    was: Left,
    /// It heard a long answer in this turn.
    surveyed: bool,
    /// It is being told one, or perhaps what came meanwhile, and what it will hear of that: surely, or perhaps.
    pub(super) veiled: bool,
    owed: Vec<(usize, bool)>,
    /// How many answers it had in this turn.
    answers: usize,
}

/// Signals that are not taken.
#[derive(Clone, Copy, Default)]
struct Left {
    /// Those of which something is left.
    count: usize,
    bytes: usize,
    /// Those of which all is left, without what was behind a long answer.
    sure: usize,
    sure_bytes: usize,
    /// Bytes of output that its client had taken.
    taken: usize,
}

impl Left {
    fn is_perhaps_too_much(self) -> bool {
        self.count >= LEFT_MAX || self.bytes >= LEFT_BYTES_MAX
    }

    fn is_too_much(self) -> bool {
        self.sure >= LEFT_MAX || self.sure_bytes >= LEFT_BYTES_MAX
    }
}

impl Letter {
    pub fn new(channel: usize, payload: String) -> Letter {
        Letter {
            channel,
            payload,
            turn: None,
        }
    }

    /// The channel and the payload, as they are sent.
    pub fn parts(&self) -> (&str, &str) {
        (CHANNELS[self.channel], &self.payload)
    }

    fn line(&self) -> String {
        format!("sig {} {}", CHANNELS[self.channel], self.payload)
    }
}

impl Ear {
    fn begin(&mut self) {
        self.stages.clear();
        self.stages.push(self.wishes.clone());
        self.heard.clear();
        self.told.clear();
        self.order.clear();
        self.surveyed = false;
        self.answers = 0;
    }

    fn stage(&self) -> usize {
        self.stages.len() - 1
    }

    pub(super) fn copies(&self, letter: usize) -> usize {
        self.heard.iter().filter(|heard| heard.0 == letter).count()
    }

    /// What it will perhaps hear behind a long answer: how many lines, and their bytes.
    fn owed(&self, letters: &[Letter]) -> (usize, usize) {
        let lines = self
            .owed
            .iter()
            .map(|owed| letters[owed.0].line().len() + 1);
        (lines.clone().count(), lines.sum())
    }

    /// What is left when so many bytes are taken.
    fn left(&self, taken: usize) -> Left {
        let mut left = Left {
            taken,
            ..Left::default()
        };
        for &(end, len, sure) in self.untaken.iter().filter(|line| line.0 > taken) {
            left.count += 1;
            left.bytes += len;
            if sure && end - len >= taken {
                left.sure += 1;
                left.sure_bytes += len;
            }
        }
        left
    }
}

impl Judge {
    /// Whether the client listens to something.
    pub(super) fn listens(&self, at: usize) -> bool {
        !self.peers[at].ear.wishes.is_empty()
    }

    /// Whether the client listens, or is about to.
    pub fn will_listen(&self, at: usize) -> bool {
        let mut frames = self.peers[at].frames.iter();
        self.listens(at) || frames.any(|frame| matches!(frame.ask, Ask::Listen(_)))
    }

    /// Whether nothing that the client has sent is without an answer, but for a wait.
    pub fn is_quiet(&self, at: usize) -> bool {
        let peer = &self.peers[at];
        let waits = peer.waits && peer.frames.len() == 1;
        let first = peer.frames.front();
        waits || first.is_none_or(|frame| frame.start >= peer.sent)
    }

    /// What it listens to.
    pub fn wishes(&self, at: usize) -> &[Wish] {
        &self.peers[at].ear.wishes
    }

    pub(super) fn begin_ears(&mut self) {
        for at in self.open() {
            self.peers[at].ear.begin();
        }
    }

    /// A line that is no answer, which ends there in the client's stream.
    pub(super) fn overheard(&mut self, at: usize, line: &str, end: usize) {
        let number = line.split(' ').filter(|word| !word.is_empty()).nth(2);
        let number: usize = number
            .and_then(|word| word.parse().ok())
            .unwrap_or(usize::MAX);
        let letter = self.letters.get(number).expect("nobody has said that");
        assert_eq!(line, letter.line());
        let (channel, ear) = (letter.channel, &mut self.peers[at].ear);
        let owed = ear.owed.iter().any(|owed| owed.0 == number);
        assert!(owed || letter.turn.is_none(), "a signal comes in one turn");
        let ways = ways(&ear.wishes, channel).count();
        assert!(ways > 0, "it does not listen to that");
        let heard = (number, ear.stage());
        ear.heard.push(heard);
        ear.order.push(number);
        let times = ear.heard.iter().filter(|&&other| other == heard).count();
        assert!(times <= ways, "a signal comes twice");
        let len = line.len() + 1;
        ear.untaken.push_back((end, len, !ear.surveyed && !owed));
    }

    /// A line that is the answer to `ask`.
    pub(super) fn answered(&mut self, at: usize, ask: Ask) {
        let ear = &mut self.peers[at].ear;
        ear.answers += 1;
        ear.surveyed |= ask.is_listing();
    }

    /// `listen`, `unlisten` or `signal` was answered.
    pub(super) fn signalled(&mut self, at: usize, ask: Ask, line: &str) {
        if let Ask::Signal(number) = ask
            && self.letters[number].line().len() > LINE_MAX
        {
            return assert_eq!(line, "error", "it is too long");
        }
        if self.draining && !matches!(ask, Ask::Unlisten(_)) {
            return assert_eq!(line, "error_draining");
        }
        let most = self.settings.max_subscriptions as usize;
        let ear = &mut self.peers[at].ear;
        match ask {
            Ask::Listen(wish) => {
                let has = ear.wishes.contains(&wish);
                if !has && most > 0 && ear.wishes.len() >= most {
                    return assert_eq!(line, "error", "S10: one too many");
                }
                assert_eq!(line, "ok");
                if !has {
                    ear.wishes.push(wish);
                }
            }
            Ask::Unlisten(wish) => {
                assert_eq!(line, "ok");
                ear.wishes.retain(|&other| other != wish);
            }
            Ask::Signal(number) => {
                let count = line.strip_prefix("ok ").and_then(|n| n.parse().ok());
                let count = count.unwrap_or_else(|| panic!("{line:?} answers no signal"));
                ear.told.push((number, ear.stage(), count));
                return ear.order.push(number);
            }
            _ => unreachable!("it is about signals"),
        }
        if ear.stages.last() != Some(&ear.wishes) {
            ear.stages.push(ear.wishes.clone());
        }
    }

    /// Who left too much is cut off without a word; whoever takes what it is given is not.
    pub(super) fn end_slow_peers(&mut self, net: &Net, opened: &[usize]) {
        for at in self.open() {
            let client = &net.clients[at];
            let too_slow = client.appetite == 0 && self.may_be_too_slow(net, at, opened);
            if client.closed && (too_slow || self.may_be_most(net, at, opened)) {
                self.peers[at].over = Some(self.now);
            }
        }
    }

    /// Whether a client that was cut off may be the one for which most waited, when too much did for all together.
    fn may_be_most(&self, net: &Net, at: usize, opened: &[usize]) -> bool {
        let most = self.settings.max_backlog;
        let ear = &self.peers[at].ear;
        let first = self.peers[at].frames.front();
        let asks = ear.surveyed || first.is_some_and(|frame| frame.ask.is_listing());
        let waits = net.clients[at].appetite == 0 || ear.veiled || asks;
        if most == 0 || !waits || self.all_perhaps_sent(net, opened).is_empty() {
            return false;
        }
        let all = opened
            .iter()
            .map(|&other| self.most_left(net, other, opened));
        let mine = self.most_left(net, at, opened);
        let stays = |other: usize| {
            let client = &net.clients[other];
            !client.closed && self.peers[other].ear.was.taken == client.heard.len()
        };
        let others = opened.iter().filter(|&&other| stays(other));
        let more = others.filter(|&&other| self.peers[other].ear.was.sure_bytes > mine);
        all.sum::<usize>() > most && more.count() == 0
    }

    /// What perhaps waited for a client at some time of this turn, with what it costs to keep it.
    fn most_left(&self, net: &Net, at: usize, opened: &[usize]) -> usize {
        let ear = &self.peers[at].ear;
        let left = ear.left(0);
        let (owed, owed_bytes) = ear.owed(&self.letters);
        let wishes = self.perhaps_wishes(net, at);
        let mut most = left.bytes + owed_bytes + LINE_COST * (left.count + owed);
        for number in self.all_perhaps_sent(net, opened) {
            let letter = &self.letters[number];
            let ways = ways(&wishes, letter.channel).count();
            most += ways * (letter.line().len() + 1 + LINE_COST);
        }
        most
    }

    /// Whether the signals of this turn, with those it has left, were too many.
    fn may_be_too_slow(&self, net: &Net, at: usize, opened: &[usize]) -> bool {
        let ear = &self.peers[at].ear;
        let left = ear.left(net.clients[at].heard.len());
        let wishes = self.perhaps_wishes(net, at);
        let needed = |wish: Wish| {
            let mut others = opened.iter().filter(|&&other| other != at);
            wish.1 == 0 || !others.any(|&other| self.surely_takes(net, other, wish))
        };
        let (owed, owed_bytes) = ear.owed(&self.letters);
        let (mut count, mut bytes) = (left.count + owed, left.bytes + owed_bytes);
        let mut come = 0;
        let mut asked = false;
        for number in self.all_perhaps_sent(net, opened) {
            let letter = &self.letters[number];
            asked |= ways(&wishes, letter.channel).any(needed);
            let all = ways(&wishes, letter.channel).count();
            come += letter.line().len();
            let unheard = all.saturating_sub(ear.copies(number));
            count += unheard;
            bytes += unheard * letter.line().len();
        }
        let piled_up = self.is_one_turn(net, opened, come) && !ear.was.is_perhaps_too_much();
        asked && !piled_up && (count > LEFT_MAX || bytes > LEFT_BYTES_MAX)
    }

    /// Whether the client listens in a group and has room all the time: no other of it need be cut off.
    fn surely_takes(&self, net: &Net, at: usize, wish: Wish) -> bool {
        let (peer, client) = (&self.peers[at], &net.clients[at]);
        let stays = peer.over.is_none() && !peer.reset && !client.ended && !client.closed;
        let listens = peer.ear.stages.iter().all(|wishes| wishes.contains(&wish));
        let is_small = (1..SMALL).contains(&self.settings.max_backlog);
        let waits = peer.ear.veiled || client.appetite == 0;
        stays && listens && !(is_small && waits) && !self.is_perhaps_jammed(net, at)
    }

    /// Signals of a client that were answered in this turn, or whose answer was lost.
    fn perhaps_sent(&self, net: &Net, at: usize) -> Vec<usize> {
        let peer = &self.peers[at];
        let mut sent: Vec<usize> = peer.ear.told.iter().map(|told| told.0).collect();
        if peer.over.is_some() || net.clients[at].closed {
            let come = delivered(net, at, peer.sent);
            let frames = peer.frames.iter().filter(|frame| frame.end() <= come);
            sent.extend(frames.filter_map(|frame| match frame.ask {
                Ask::Signal(number) => Some(number),
                _ => None,
            }));
        }
        sent
    }

    fn all_perhaps_sent(&self, net: &Net, opened: &[usize]) -> Vec<usize> {
        let sent = opened.iter().map(|&at| self.perhaps_sent(net, at));
        sent.collect::<Vec<_>>().concat()
    }

    /// What a client perhaps listened to at some time of this turn.
    pub(super) fn perhaps_wishes(&self, net: &Net, at: usize) -> Vec<Wish> {
        let peer = &self.peers[at];
        let come = delivered(net, at, peer.sent);
        let frames = peer.frames.iter().filter(|frame| frame.end() <= come);
        let mut all: Vec<Wish> = peer.ear.stages.concat();
        all.extend(frames.filter_map(|frame| match frame.ask {
            Ask::Listen(wish) => Some(wish),
            _ => None,
        }));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether what happened was one client's, and so little that the hub did it in a row.
    fn is_one_turn(&self, net: &Net, opened: &[usize], bytes: usize) -> bool {
        let mut acted = opened.iter().filter(|&&at| {
            let peer = &self.peers[at];
            peer.ear.answers > 0 || peer.reset || net.clients[at].ended
        });
        let Some(&at) = acted.next() else {
            return false;
        };
        let (peer, client) = (&self.peers[at], &net.clients[at]);
        let few = peer.ear.answers <= ONE_TURN && bytes < OUTPUT_MAX / 4;
        let in_a_row = !peer.waited && !peer.fed && !client.ended && !client.closed;
        acted.next().is_none() && few && in_a_row
    }

    /// Judges the signals of a turn whose lines are read.
    pub(super) fn judge_signals(&mut self, net: &Net, opened: &[usize]) {
        for &at in opened {
            let ear = &self.peers[at].ear;
            let told = !ear.heard.is_empty() && !ear.surveyed;
            assert!(!told || !self.is_jammed(net, at), "S10: it leaves too much");
        }
        self.judge_budget(net, opened);
        self.judge_owed(net, opened);
        self.judge_order(opened);
        self.judge_senders(net, opened);
        self.judge_receivers(net, opened);
        self.judge_rounds(net, opened);
        for letter in self.all_perhaps_sent(net, opened) {
            self.letters[letter].turn = Some(self.turn);
        }
        for &at in opened {
            let ear = &mut self.peers[at].ear;
            let taken = net.clients[at].heard.len();
            while ear.untaken.front().is_some_and(|line| line.0 <= taken) {
                ear.untaken.pop_front();
            }
            ear.was = ear.left(taken);
        }
    }

    /// When too much is left for all together, nobody gets any more before somebody is cut off.
    fn judge_budget(&self, net: &Net, opened: &[usize]) {
        let most = self.settings.max_backlog;
        let told = opened.iter().any(|&at| {
            let ear = &self.peers[at].ear;
            !ear.heard.is_empty() && !ear.surveyed && !ear.veiled
        });
        let stays = |at: usize| {
            let (peer, client) = (&self.peers[at], &net.clients[at]);
            let took = peer.ear.was.taken < client.heard.len() || client.appetite > 0;
            peer.over.is_none() && !client.closed && !client.shut && !took
        };
        let left = opened.iter().filter(|&&at| stays(at));
        let left: usize = left.map(|&at| self.peers[at].ear.was.sure_bytes).sum();
        assert!(most == 0 || !told || left <= most, "S10: too much is left");
    }

    /// Whether the client has left so much, and takes nothing, that it gets no more.
    pub(super) fn is_jammed(&self, net: &Net, at: usize) -> bool {
        let ear = &self.peers[at].ear;
        ear.was.is_too_much() && ear.was.taken == net.clients[at].heard.len()
    }

    /// Whether the client perhaps got no more at some time of this turn.
    pub(super) fn is_perhaps_jammed(&self, net: &Net, at: usize) -> bool {
        let ear = &self.peers[at].ear;
        let left = ear.left(net.clients[at].heard.len());
        ear.was.is_perhaps_too_much() || left.is_perhaps_too_much()
    }

    /// What was sent while a client is being told a long answer stands behind that.
    fn judge_owed(&mut self, net: &Net, opened: &[usize]) {
        let sent = self.all_perhaps_sent(net, opened);
        let all_told = opened.iter().flat_map(|&at| &self.peers[at].ear.told);
        let all_told: Vec<usize> = all_told.map(|told| told.0).collect();
        for &at in opened {
            let come = delivered(net, at, self.peers[at].sent);
            let ends = self.peers[at].over.is_some();
            let first = self.peers[at].frames.front();
            let first = first.filter(|frame| frame.end() <= come && !ends);
            let told = first.is_some_and(|frame| frame.ask.is_listing());
            // What is behind the answer follows as there is room.
            let is_full = net.output(at).len() >= OUTPUT_MAX;
            let goes_on = is_full || net.deadline().is_some_and(|due| due <= self.now);
            let ear = &mut self.peers[at].ear;
            let follows = (ear.surveyed || ear.veiled) && goes_on && !ends;
            let veiled = told || follows;
            let turns = ear
                .heard
                .iter()
                .filter_map(|heard| self.letters[heard.0].turn);
            assert!(turns.is_sorted(), "two heard in different orders");
            let heard = |letter: usize| ear.heard.iter().any(|heard| heard.0 == letter);
            let owed: Vec<(usize, bool)> = ear
                .owed
                .iter()
                .map(|owed| (owed.0, owed.1 && !heard(owed.0)))
                .collect();
            if !veiled && !ends {
                let none = owed.iter().all(|owed| !owed.1);
                assert!(none, "a signal was not kept for it");
            }
            ear.owed = if veiled { owed } else { Vec::new() };
            ear.veiled = veiled;
            for &letter in sent.iter().filter(|_| veiled) {
                let alone = |wishes: &Vec<Wish>| {
                    ways(wishes, self.letters[letter].channel).any(|wish| wish.1 == 0)
                };
                let sure = all_told.contains(&letter) && !heard(letter);
                let sure = sure && ear.stages.iter().all(alone);
                ear.owed.push((letter, sure));
            }
        }
    }

    /// All hear what is signalled to one channel in one order.
    fn judge_order(&self, opened: &[usize]) {
        for channel in 0..CHANNELS.len() {
            self.judge_order_of(channel, opened);
        }
    }

    fn judge_order_of(&self, channel: usize, opened: &[usize]) {
        let mut after: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut before: BTreeMap<usize, usize> = BTreeMap::new();
        for &at in opened {
            let order = &self.peers[at].ear.order;
            let new = |letter: &&usize| {
                let Letter {
                    channel: to, turn, ..
                } = self.letters[**letter];
                to == channel && turn.is_none()
            };
            let order: Vec<usize> = order.iter().filter(new).copied().collect();
            for &letter in &order {
                before.entry(letter).or_default();
            }
            for pair in order.windows(2).filter(|pair| pair[0] != pair[1]) {
                after.entry(pair[0]).or_default().push(pair[1]);
                *before.entry(pair[1]).or_default() += 1;
            }
        }
        let free = before.iter().filter(|entry| *entry.1 == 0);
        let mut free: Vec<usize> = free.map(|entry| *entry.0).collect();
        let mut placed = 0;
        while let Some(letter) = free.pop() {
            placed += 1;
            for next in after.get(&letter).into_iter().flatten() {
                let count = before.get_mut(next).expect("it was counted");
                *count -= 1;
                if *count == 0 {
                    free.push(*next);
                }
            }
        }
        assert_eq!(placed, before.len(), "two heard in different orders");
    }

    /// Nobody hears what was not signalled yet.
    fn judge_senders(&self, net: &Net, opened: &[usize]) {
        let sent = self.all_perhaps_sent(net, opened);
        for &at in opened {
            let heard = &self.peers[at].ear.heard;
            let known =
                |letter: usize| sent.contains(&letter) || self.letters[letter].turn.is_some();
            assert!(
                heard.iter().all(|heard| known(heard.0)),
                "nobody has sent it yet"
            );
        }
    }
}

/// In how many ways this listens to a channel: without a group once, and once for each pattern and group. The first of
/// each is shown.
pub(super) fn ways(wishes: &[Wish], channel: usize) -> impl Iterator<Item = Wish> {
    let first = wishes
        .iter()
        .position(|&wish| wish.1 == 0 && suits(wish, channel));
    let is_way = move |&(place, wish): &(usize, &Wish)| {
        Some(place) == first || wish.1 > 0 && suits(*wish, channel)
    };
    let all = wishes.iter().enumerate().filter(is_way);
    all.map(|(_, wish)| *wish)
}

fn suits(wish: Wish, channel: usize) -> bool {
    let split = |text: &'static str| text.split('.').collect::<Vec<_>>();
    matches(&split(PATTERNS[wish.0]), &split(CHANNELS[channel]))
}

fn matches(pattern: &[&str], channel: &[&str]) -> bool {
    match (pattern, channel) {
        ([">"], [_, ..]) => true,
        ([part, pattern @ ..], [name, channel @ ..]) => {
            (*part == "*" || part == name) && matches(pattern, channel)
        }
        (pattern, channel) => pattern.is_empty() && channel.is_empty(),
    }
}
