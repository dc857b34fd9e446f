//! What the clients of the simulation make up their minds to say, and how that is spelt.

use super::World;
use crate::harness::Dice;
use crate::judges::hub::pushes::{CHANNELS, GROUPS, Letter, PATTERNS, Wish};
use crate::judges::hub::{self as judge, Ask};

/// Locks, and then semaphores, whose names are locks' too.
pub const NAMES: [&str; judge::KEYS] = [
    "k",
    "deploy",
    "a-name-of-22-bytes-xxx",
    "a-name-of-23-bytes-xxxx",
    "a-long-name-that-does-not-fit-into-a-key-at-all",
    "\u{e9}\0",
    "k",
    "deploy",
    "a-name-of-23-bytes-xxxx",
];

/// How many of them are locks.
pub const LOCKS: usize = 6;

/// The limits that most ask for.
const LIMITS: [u32; judge::KEYS] = [1, 1, 1, 1, 1, 1, 2, 3, 9];

pub const SECRET: &str = "open sesame";

pub const STATS: &str = "stats\n_\n\n";

pub const PING: &str = "ping\n\n\n";

/// Whole frames that ask for nothing.
pub const NONSENSE: [&str; 16] = [
    "x\n\n\n",
    "listen\na*\n\n",
    "listen\n>.a\n\n",
    "unlisten\na b\n\n",
    "signal\na.*\nx\n",
    "signal\n>\nx\n",
    "signal\na\n \t\r\n",
    "\n\n\n",
    "L\nk\n1\n",
    "l\n\n1\n",
    "l\na b\n1\n",
    "l\nk\n-1\r\n",
    "l\nk\n1 0\n",
    "r\nk\n \n",
    "n\nk\n11111111111111111111111111111111 x\n",
    // But as a connection's first bytes they end it.
    "GET / HTTP/1.1\r\nl\nk\n",
];

/// What the clients of a run listen to, and what they signal to.
pub struct Topics {
    patterns: Vec<usize>,
    channels: Vec<usize>,
    groups: usize,
}

impl Topics {
    pub fn new(dice: &mut Dice) -> Topics {
        let some = |dice: &mut Dice, all: usize, most: u64| -> Vec<usize> {
            let many = 1 + dice.below(most);
            (0..many).map(|_| dice.below(all as u64) as usize).collect()
        };
        let mut patterns = some(dice, PATTERNS.len(), 6);
        if dice.chance(40) {
            patterns.push(0);
        }
        Topics {
            patterns,
            channels: some(dice, CHANNELS.len(), 4),
            groups: *dice.pick(&[1, 2, 3, GROUPS.len()]),
        }
    }
}

impl World<'_> {
    pub fn ask(&mut self, at: usize) -> Ask {
        let habits = &self.habits;
        let weights = [
            habits.acquire,
            habits.release,
            habits.renew,
            5,
            habits.nonsense,
            habits.enqueue,
            if habits.enqueue > 0 { habits.wait } else { 1 },
            habits.stats,
            habits.signals,
            habits.signals / 4,
            habits.signals,
        ];
        let first = self.judge.peers[at].sent + self.scripts[at].len() == 0;
        if first && self.settings.secret.is_some() && self.dice.chance(90) {
            return Ask::Auth(self.dice.chance(90));
        }
        match self.dice.weigh(&weights) {
            0 => {
                let key = *self.dice.pick(&self.keys);
                Ask::Acquire {
                    key,
                    limit: self.limit(key),
                    wait: *self.dice.pick(&[0, 0, 1, 2, 10, 30, 100]),
                    lease: *self.dice.pick(&[1, 2, 5, 33, 33, 60]),
                }
            }
            5 => {
                let key = *self.dice.pick(&self.keys);
                Ask::Enqueue {
                    key,
                    limit: self.limit(key),
                    lease: *self.dice.pick(&[1, 2, 5, 33, 33, 60]),
                }
            }
            6 => Ask::Wait {
                key: *self.dice.pick(&self.keys),
                wait: *self.dice.pick(&[0, 1, 2, 10, 30]),
            },
            8 => Ask::Listen(self.wish()),
            9 => {
                let wishes = self.judge.wishes(at).to_vec();
                let known = !wishes.is_empty() && self.dice.chance(70);
                Ask::Unlisten(if known {
                    *self.dice.pick(&wishes)
                } else {
                    self.wish()
                })
            }
            10 => {
                let bulk = self.dice.chance(self.habits.bulk / 5);
                self.signal(bulk)
            }
            7 if self.dice.chance(80) => Ask::Stats,
            7 => Ask::Auth(self.dice.chance(50)),
            1 => {
                let (key, token) = self.token(at);
                Ask::Release { key, token }
            }
            2 => {
                let (key, token) = self.token(at);
                let lease = self.lease_of(&token);
                Ask::Renew { key, token, lease }
            }
            3 => Ask::Ping,
            _ if self.dice.chance(10) => Ask::TooLong,
            _ => Ask::Nonsense,
        }
    }

    fn wish(&mut self) -> Wish {
        let pattern = *self.dice.pick(&self.topics.patterns);
        (pattern, self.dice.below(self.topics.groups as u64) as usize)
    }

    /// A signal that nobody has sent before, or will again.
    pub fn signal(&mut self, bulk: bool) -> Ask {
        let number = self.judge.letters.len();
        // Before it has said the secret, that would be a line over its cap.
        let large = bulk && self.settings.secret.is_none();
        let len = match self.dice.below(20) {
            0 if large => 65_500 + self.dice.below(26) as usize,
            _ if large => 45_000 + self.dice.below(20_000) as usize,
            0..3 => self.dice.below(180) as usize,
            _ => 0,
        };
        let payload = *self.dice.pick(&["", " ", "  "]);
        let payload = format!("{payload}{number} {:.<len$}{payload}", "x");
        let channel = *self.dice.pick(&self.topics.channels);
        self.judge.letters.push(Letter::new(channel, payload));
        Ask::Signal(number)
    }

    /// What most ask for, or once in a while something else.
    fn limit(&mut self, key: usize) -> u32 {
        if key >= LOCKS && self.dice.chance(5) {
            return 1 + self.dice.below(10) as u32;
        }
        LIMITS[key]
    }

    /// A key and a token for it: right, stale, of another key, forged.
    fn token(&mut self, at: usize) -> (usize, String) {
        let mine = self.dice.chance(80);
        let of = |hold: &&judge::Hold| match mine {
            true => hold.owner == Some(at),
            false => hold.claim.is_none(),
        };
        let held: Vec<(usize, String)> = (self.judge.holds.iter().filter(of))
            .map(|hold| (hold.key, hold.token.clone()))
            .collect();
        let stale = &self.judge.stale;
        let recent = &stale[stale.len().saturating_sub(10)..];
        let (mut key, mut token) = match (held.is_empty(), recent.is_empty()) {
            (true, true) => (0, "1".repeat(32)),
            (false, _) if self.dice.chance(90) => self.dice.pick(&held).clone(),
            (_, false) => self.dice.pick(recent).clone(),
            _ => self.dice.pick(&held).clone(),
        };
        match self.dice.below(30) {
            0 => key = *self.dice.pick(&self.keys),
            1 => token.replace_range(31.., "x"),
            2 => token = format!("{:032x}", u128::from_str_radix(&token, 16).unwrap_or(7) ^ 1),
            _ => {}
        }
        (key, token)
    }

    /// Renewals of one token that are under way ask for the same, so that their order does not matter.
    fn lease_of(&mut self, wanted: &str) -> u64 {
        let frames = self.judge.peers.iter().flat_map(|peer| &peer.frames);
        let mut leases = frames.filter_map(|frame| match &frame.ask {
            Ask::Renew { token, lease, .. } if token == wanted => Some(*lease),
            _ => None,
        });
        leases
            .next()
            .or_else(|| self.judge.recorded_lease(wanted))
            .unwrap_or_else(|| *self.dice.pick(&[1, 3, 33, 90]))
    }

    pub fn spell(&mut self, ask: &Ask) -> Vec<u8> {
        let eol = *self.dice.pick(&["\n", "\n", "\r\n"]);
        let lines = |command: &str, key: usize, argument: String| {
            let space = if key < LOCKS { "" } else { "s" };
            [&[space, command].concat(), NAMES[key], &argument, ""].join(eol)
        };
        let lease = |lease: u64| match lease {
            33 => String::new(),
            other => format!(" {other}"),
        };
        let limit = |key: usize, limit: u32| match key {
            LOCKS.. => format!(" {limit}"),
            _ => String::new(),
        };
        let text = match *ask {
            Ask::Acquire {
                key,
                limit: l,
                wait,
                lease: ttl,
            } => lines("l", key, format!("{wait}{}{}", limit(key, l), lease(ttl))),
            Ask::Enqueue {
                key,
                limit: l,
                lease: ttl,
            } => lines("e", key, limit(key, l) + &lease(ttl)),
            Ask::Wait { key, wait } => lines("w", key, wait.to_string()),
            Ask::Release { key, ref token } => lines("r", key, token.clone()),
            Ask::Renew {
                key,
                ref token,
                lease: ttl,
            } => lines("n", key, format!(" {token}{}", lease(ttl))),
            Ask::Listen(wish) | Ask::Unlisten(wish) => {
                let command = match ask {
                    Ask::Listen(_) => "listen",
                    _ => "unlisten",
                };
                let blank = *self.dice.pick(&["", "", " "]);
                let group = [blank, GROUPS[wish.1], blank].concat();
                [command, PATTERNS[wish.0], &group, ""].join(eol)
            }
            Ask::Signal(number) => {
                let (channel, payload) = self.judge.letters[number].parts();
                ["signal", channel, payload, ""].join(eol)
            }
            Ask::Stats => STATS.into(),
            Ask::Auth(true) if self.settings.secret.is_some() => ["auth", "", SECRET, ""].join(eol),
            Ask::Auth(_) => ["auth", "", "guess", ""].join(eol),
            Ask::Ping => PING.into(),
            Ask::Nonsense | Ask::Http => self.dice.pick(&NONSENSE).to_string(),
            Ask::TooLong => {
                let before = ["l\n", "k\n"][..self.dice.below(3) as usize].concat();
                let long = "0".repeat(257 + self.dice.below(600) as usize);
                before + &long + "\n"
            }
        };
        text.into_bytes()
    }
}
