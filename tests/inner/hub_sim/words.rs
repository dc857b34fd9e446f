//! What the clients of the simulation make up their minds to say, and how that is spelt.

use dflockd::command::{Bound, SECOND, Space, Token, Us};

use super::World;
use crate::harness::Dice;
use crate::judges::hub::pushes::{CHANNELS, GROUPS, Letter, PATTERNS, Wish};
use crate::judges::hub::{Ask, token};
use crate::judges::locks::{Act, Hold, Key, NAMES};

/// Locks, and then semaphores, whose names are locks' too, with the limits that most ask for.
const KEYS: [(Space, &str, u32); 9] = [
    (Space::Lock, "k", 1),
    (Space::Lock, "deploy", 1),
    (Space::Lock, "a-name-of-22-bytes-xxx", 1),
    (Space::Lock, "a-name-of-23-bytes-xxxx", 1),
    (
        Space::Lock,
        "a-long-name-that-does-not-fit-into-a-key-at-all",
        1,
    ),
    (Space::Lock, "\u{e9}\0", 1),
    (Space::Semaphore, "k", 2),
    (Space::Semaphore, "deploy", 3),
    (Space::Semaphore, "a-name-of-23-bytes-xxxx", 9),
];

/// How many of them are locks.
const LOCKS: usize = 6;

/// 1 to 6 of the keys; in most runs locks only.
pub fn keys(dice: &mut Dice) -> Vec<Key> {
    let first = *dice.pick(&[0, 0, LOCKS - 2, LOCKS - 1]);
    let many = 1 + dice.below(LOCKS as u64) as usize;
    let keys = KEYS[first..].iter().take(many);
    keys.map(|&(space, name, limit)| Key::new(space, name.into(), limit))
        .collect()
}

pub const SECRET: &str = "open sesame";

pub const ADMIN: &str = "open cellar";

pub const STATS: &str = "stats\n_\n\n";

pub const PING: &str = "ping\n\n\n";

/// Whole frames that ask for nothing.
pub const NONSENSE: [&str; 22] = [
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
    "r\nk\n1111111111111111111111111111111x\n",
    "show\na b\n\n",
    "break\nk\n18fae27693b4000\n",
    "break\nk\n18fae27693b4000g\n",
    "sbreak\nk\n18fae27693b40000 1\n",
    "detach\nk\n\n",
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
            habits.declare,
            habits.detach,
            habits.breaks,
            habits.show,
        ];
        let first = self.judge.peers[at].sent + self.scripts[at].len() == 0;
        if first && self.settings.secret.is_some() && self.dice.chance(90) {
            return match self.settings.admin.is_some() && self.dice.chance(30) {
                true => Ask::Admin,
                false => Ask::Auth(self.dice.chance(90)),
            };
        }
        if first && self.settings.admin.is_some() && self.dice.chance(30) {
            return Ask::Admin;
        }
        if first && self.dice.chance(self.habits.named) {
            return self.declare();
        }
        match self.dice.weigh(&weights) {
            0 => self.acquire(at),
            1 => {
                let (key, token) = self.token(at);
                Ask::Lock(Act::Release { key, token })
            }
            2 => {
                let (key, token) = self.token(at);
                let lease = self.lease();
                Ask::Lock(Act::Renew {
                    key,
                    token,
                    lease,
                    bound: Bound::Session,
                })
            }
            3 => Ask::Ping,
            5 => {
                let (key, lease) = (self.key(), self.lease());
                let limit = self.limit(key);
                Ask::Lock(Act::Enqueue { key, limit, lease })
            }
            6 => {
                let recorded = self.recorded(at);
                let known = !recorded.is_empty() && self.dice.chance(60);
                let key = match known {
                    true => *self.dice.pick(&recorded),
                    false => self.key(),
                };
                let wait = *self.dice.pick(&[0, 1, 2, 10, 30]) * SECOND;
                Ask::Lock(Act::Wait { key, wait })
            }
            7 if self.dice.chance(80) => Ask::Stats,
            7 => *self
                .dice
                .pick(&[Ask::Auth(true), Ask::Auth(false), Ask::Admin]),
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
            11 => self.declare(),
            12 => {
                let (key, token) = self.token(at);
                Ask::Lock(Act::Detach { key, token })
            }
            13 => self.breaks(at),
            14 => Ask::Show(self.key()),
            _ if self.dice.chance(10) => Ask::TooLong,
            _ => Ask::Nonsense,
        }
    }

    /// All holds of a key, or one of those whose fences were told, perhaps of another key or not held any more.
    fn breaks(&mut self, at: usize) -> Ask {
        let mut key = self.key();
        let (other, token) = self.token(at);
        let judge = &self.judge.story.judge;
        let holds = judge.holds.iter().filter_map(|h| Some((h.key, h.token?)));
        let mut known = holds.chain(judge.stale.iter().copied());
        let known = known.any(|(_, old)| old.fence == token.fence);
        let fence = (known && self.dice.chance(50)).then_some(token.fence);
        if fence.is_some() && self.dice.chance(90) {
            key = other;
        }
        Ask::Lock(Act::Break { key, fence })
    }

    fn declare(&mut self) -> Ask {
        let name = self.dice.below(self.habits.owners) as usize;
        Ask::Lock(Act::Declare { name })
    }

    /// Mostly what its owner does not have: whoever has it and asks again is deadlocked at once.
    fn acquire(&mut self, at: usize) -> Ask {
        let mut key = self.key();
        let who = self.judge.story.judge.who(self.net.clients[at].id);
        let shy = self.dice.chance(self.habits.shy);
        for _ in 0..if shy { 5 } else { 0 } {
            let own = |hold: &Hold| (hold.key, hold.who) == (key, who);
            if self.judge.story.judge.holds.iter().any(own) {
                key = self.key();
            }
        }
        let wait = *self.dice.pick(&[0, 0, 1, 2, 10, 30, 100]) * SECOND;
        Ask::Lock(Act::Acquire {
            key,
            limit: self.limit(key),
            wait,
            lease: self.lease(),
        })
    }

    /// Keys of which the client has a record.
    fn recorded(&self, at: usize) -> Vec<usize> {
        self.judge.story.judge.recorded(self.net.clients[at].id)
    }

    pub fn key(&mut self) -> usize {
        self.dice.below(self.judge.story.judge.keys.len() as u64) as usize
    }

    fn lease(&mut self) -> Option<Us> {
        let lease = self
            .dice
            .pick(&[None, None, Some(1), Some(2), Some(5), Some(60)]);
        lease.map(|lease: u64| lease * SECOND)
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
    pub fn limit(&mut self, key: usize) -> u32 {
        let Key { space, limit, .. } = self.judge.story.judge.keys[key];
        if space == Space::Semaphore && self.dice.chance(5) {
            return 1 + self.dice.below(10) as u32;
        }
        limit
    }

    /// A key and a token for it: right, stale, of another key, forged.
    pub fn token(&mut self, at: usize) -> (usize, Token) {
        let judge = &self.judge.story.judge;
        if let Some(known) = self.lives.one_of(&judge.unclaimed()) {
            return known;
        }
        let who = judge.who(self.net.clients[at].id);
        let mine = self.dice.chance(80);
        let holds = judge.holds.iter().filter(|hold| !mine || hold.who == who);
        let known = holds.filter_map(|hold| Some((hold.key, hold.token?)));
        let held: Vec<(usize, Token)> = known.collect();
        let stale = &judge.stale;
        let recent = &stale[stale.len().saturating_sub(10)..];
        let (mut key, mut token) = match (held.is_empty(), recent.is_empty()) {
            (true, true) => (0, token(&"1".repeat(32)).expect("32 digits")),
            (false, _) if self.dice.chance(90) => *self.dice.pick(&held),
            (_, false) => *self.dice.pick(recent),
            _ => *self.dice.pick(&held),
        };
        match self.dice.below(30) {
            0 => key = self.key(),
            1 => token.fence ^= 1,
            2 => token.salt ^= 1,
            _ => {}
        }
        (key, token)
    }

    pub fn spell(&mut self, ask: &Ask) -> Vec<u8> {
        let eol = *self.dice.pick(&["\n", "\n", "\r\n"]);
        let text = match *ask {
            Ask::Lock(act) => self.spell_act(act, eol),
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
            Ask::Admin if self.settings.admin.is_some() => ["auth", "", ADMIN, ""].join(eol),
            Ask::Auth(_) | Ask::Admin => ["auth", "", "guess", ""].join(eol),
            Ask::Show(key) => {
                let Key { space, name, .. } = &self.judge.story.judge.keys[key];
                let command = ["show", "sshow"][usize::from(*space == Space::Semaphore)];
                let name = std::str::from_utf8(name).expect("they are text");
                [command, name, "", ""].join(eol)
            }
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

    fn spell_act(&mut self, act: Act, eol: &str) -> String {
        let keys = &self.judge.story.judge.keys;
        let lines = |command: &str, key: usize, argument: String| {
            let Key { space, name, .. } = &keys[key];
            let space = if *space == Space::Lock { "" } else { "s" };
            let name = std::str::from_utf8(name).expect("they are text");
            [&[space, command].concat(), name, &argument, ""].join(eol)
        };
        let lease = |lease: Option<Us>| match lease {
            Some(lease) => format!(" {}", lease / SECOND),
            None => String::new(),
        };
        let limit = |key: usize, limit: u32| match keys[key].space {
            Space::Semaphore => format!(" {limit}"),
            Space::Lock => String::new(),
        };
        let digits = |token: Token| format!("{:016x}{:016x}", token.fence, token.salt);
        match act {
            Act::Acquire {
                key,
                limit: l,
                wait,
                lease: ttl,
            } => lines(
                "l",
                key,
                format!("{}{}{}", wait / SECOND, limit(key, l), lease(ttl)),
            ),
            Act::Enqueue {
                key,
                limit: l,
                lease: ttl,
            } => lines("e", key, limit(key, l) + &lease(ttl)),
            Act::Wait { key, wait } => lines("w", key, (wait / SECOND).to_string()),
            Act::Release { key, token } => lines("r", key, digits(token)),
            Act::Detach { key, token } => lines("detach", key, digits(token)),
            Act::Break { key, fence } => {
                let fence = fence.map(|fence| format!("{fence:016x}"));
                lines("break", key, fence.unwrap_or_default())
            }
            Act::Renew {
                key,
                token,
                lease: ttl,
                ..
            } => lines("n", key, format!(" {}{}", digits(token), lease(ttl))),
            Act::Declare { name } => {
                let name = std::str::from_utf8(NAMES[name]).expect("they are text");
                ["id", "", &format!(" {name}"), ""].join(eol)
            }
            other => panic!("no line says {other:?}"),
        }
    }
}
