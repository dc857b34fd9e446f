//! Clients that hold locks while servers come and go, and a judge of what they hear: nobody hears of a grant while another
//! one may rely on the same lock, and fences rise.

use std::collections::BTreeMap;

use dflockd::command::{SECOND, Us};

use crate::harness::Dice;

/// How long a client may rely on what it was told: it counts from the moment at which it asked.
#[derive(Clone)]
struct Grant {
    fence: u64,
    until: Us,
}

/// What was said of each lock.
#[derive(Default)]
pub struct Judge {
    /// By key: who relies on it.
    held: BTreeMap<&'static str, Grant>,
    /// By key: the greatest fence that anybody heard.
    fences: BTreeMap<&'static str, u64>,
    pub grants: u64,
}

impl Judge {
    fn granted(&mut self, now: Us, key: &'static str, fence: u64, until: Us) {
        if now >= until {
            // It has heard of it too late to rely on it.
            return;
        }
        if let Some(former) = self.held.get(key) {
            assert!(
                former.fence == fence || now >= former.until,
                "two hold {key}: {:x} until {}, {fence:x} at {now}",
                former.fence,
                former.until
            );
        }
        let last = self.fences.entry(key).or_default();
        assert!(fence >= *last, "S7: {fence:x} comes behind {last:x}");
        *last = fence;
        self.grants += 1;
        self.held.insert(key, Grant { fence, until });
    }

    /// Whoever holds it relies on less.
    fn shortened(&mut self, key: &str, fence: u64, until: Us) {
        if let Some(grant) = self.held.get_mut(key).filter(|grant| grant.fence == fence) {
            grant.until = until;
        }
    }

    /// Whoever held it does not rely on it any more.
    fn ended(&mut self, key: &str, fence: u64) {
        if self.held.get(key).is_some_and(|grant| grant.fence == fence) {
            self.held.remove(key);
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
enum State {
    Idle,
    /// It has asked for the lock.
    Asks,
    /// It has it.
    Holds,
    Renews,
    Releases,
}

/// One that wants one lock after the other.
pub struct Client {
    key: &'static str,
    lease: u64,
    token: String,
    until: Us,
    asked: Us,
    state: State,
    /// Its connection: the life of the server, and its place there.
    pub at: Option<(u64, usize)>,
    /// It does nothing before.
    pause: Us,
    /// It renews instead of giving back so often, and then it goes without a word.
    renewals: u64,
    /// Nothing that it held was lost before its lease was over.
    pub kept: u64,
}

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

impl Client {
    pub fn new() -> Client {
        Client {
            key: "a",
            lease: 1,
            token: String::new(),
            until: 0,
            asked: 0,
            state: State::Idle,
            at: None,
            pause: 0,
            renewals: 0,
            kept: 0,
        }
    }

    fn fence(&self) -> u64 {
        u64::from_str_radix(&self.token[..16], 16).expect("16 hex digits")
    }

    /// Whether it relies on its lock.
    fn relies(&self, now: Us) -> bool {
        !self.token.is_empty() && now < self.until
    }

    /// Its server is gone. What it holds goes on, as far as it knows.
    pub fn is_alone(&mut self, now: Us) {
        self.at = None;
        self.state = match self.state {
            State::Renews | State::Holds if self.relies(now) => State::Holds,
            _ => State::Idle,
        };
    }

    /// What it says now, if it has a connection.
    pub fn says(&mut self, now: Us, judge: &mut Judge, dice: &mut Dice) -> Option<String> {
        if now < self.pause {
            return None;
        }
        match self.state {
            State::Idle => {
                self.pause = now + dice.below(SECOND / 5);
                self.key = KEYS[dice.below(4) as usize];
                self.lease = 1 + dice.below(6);
                self.renewals = dice.below(5);
                (self.asked, self.state) = (now, State::Asks);
                self.token.clear();
                let wait = dice.below(3);
                // The answer to a ping tells of no hold, and must not take along the one before it.
                let ping = if dice.chance(30) { "ping\n_\n_\n" } else { "" };
                Some(format!("l\n{}\n{wait} {}\n{ping}", self.key, self.lease))
            }
            State::Holds if !self.relies(now) => {
                self.state = State::Idle;
                None
            }
            State::Holds => {
                self.pause = now + dice.below(self.lease * SECOND / 3);
                if self.renewals == 0 {
                    self.state = State::Releases;
                    judge.ended(self.key, self.fence());
                    return Some(format!("r\n{}\n{}\n", self.key, self.token));
                }
                self.renewals -= 1;
                (self.asked, self.state) = (now, State::Renews);
                self.lease = 1 + dice.below(6);
                // Whether or not it hears an answer, its lease may be a shorter one from now on.
                self.until = self.until.min(now + self.lease * SECOND);
                judge.shortened(self.key, self.fence(), self.until);
                Some(format!("n\n{}\n{} {}\n", self.key, self.token, self.lease))
            }
            _ => None,
        }
    }

    /// A line from its server.
    pub fn hears(&mut self, now: Us, line: &str, judge: &mut Judge) {
        if line == "ok" && self.state != State::Releases {
            return;
        }
        let is_ok = line.starts_with("ok");
        let until = self.asked + self.lease * SECOND;
        match self.state {
            State::Asks if is_ok => {
                self.token = line.split(' ').nth(1).expect("a token").to_string();
                (self.until, self.state) = (until, State::Holds);
                judge.granted(now, self.key, self.fence(), until);
            }
            State::Renews if is_ok => {
                (self.until, self.state) = (until, State::Holds);
                self.kept += 1;
                judge.granted(now, self.key, self.fence(), until);
            }
            State::Renews => {
                // It said so in time, and was told that it is not so: then the judge knows of a loss.
                assert!(now >= self.until, "a hold is lost before its lease is over");
                self.state = State::Idle;
            }
            _ => self.state = State::Idle,
        }
    }
}
