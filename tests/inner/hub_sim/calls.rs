//! Clients of distlockd in the simulation: what they say, and how that is spelt; and how they and those of the REST face
//! come, speak and go.

use std::net::SocketAddr;

use dflockd::command::Space;
use dflockd::wire::Face;

use super::World;
use crate::judges::hub::callers::Request;
use crate::judges::locks::{Act, CLAIMANTS, Key, Who};

/// How many claimants have a name that the protocol can carry.
const OWNERS: usize = 4;

/// Frames that ask for nothing that can be done: command, name, length of the id, and why.
const MISTAKES: [(u8, &[u8], usize, &str); 6] = [
    (0, b"k", 2, "Invalid command"),
    (9, &[b'n'; 40_000], 65_535, "Invalid command"),
    (1, b"", 2, "Lock name cannot be empty"),
    (2, b"k", 257, "Client id is over 256 bytes"),
    (1, b"\xff", 2, "Name and client id must be UTF-8"),
    (2, b"k\xc3", 0, "Name and client id must be UTF-8"),
];

/// Callers of one face that may be there at once.
const CROWD: usize = 4;

impl World<'_> {
    /// One turn, perhaps a late one, in which some of them act, and perhaps some on lines before, between and after.
    pub fn call(&mut self, open: &[usize], face: Face) {
        if self.judge.callers(face).len() < CROWD && self.dice.chance(40) {
            self.dial(face);
        }
        let callers = self.judge.callers(face);
        if callers.is_empty() {
            return;
        }
        if self.dice.chance(15) {
            self.net.now += self.span();
        }
        let alone = self.dice.chance(70);
        // Clients of HTTP hardly ever pipeline, and there are many of them already.
        let most = if face == Face::Distlockd { 5 } else { 2 };
        for _ in 0..*self.dice.pick(&[1, 1, 2, 3, most]) {
            if !alone && self.dice.chance(50) {
                let at = *self.dice.pick(open);
                self.send(at);
                continue;
            }
            let at = *self.dice.pick(&callers);
            let floods = match face {
                Face::Distlockd => self.habits.flood,
                _ => 0,
            };
            match self
                .dice
                .weigh(&[30, self.habits.end, self.habits.reset, floods])
            {
                0 => self.speak(at),
                #[cfg(feature = "http")]
                1 if face == Face::Http && self.dice.chance(50) => self.speak_last(at),
                1 => self.net.end_only(at),
                2 => {
                    self.judge.caller(at).reset = true;
                    self.net.reset_only(at);
                }
                _ => self.overdo(at),
            }
        }
        if self.dice.chance(self.habits.fail) {
            self.fail(&callers);
        }
        self.settle();
    }

    /// Somebody connects, now and then from another host.
    pub fn dial(&mut self, face: Face) -> usize {
        let far = self.dice.chance(10);
        let admin = self.settings.admin.is_some() && self.dice.chance(50);
        self.judge.dialled(self.net.now, face, (!far, admin));
        self.scripts.push(Vec::new());
        let from = if far { [192, 0, 2, 1] } else { [127, 0, 0, 1] };
        let port = 1 + self.dice.below(60_000) as u16;
        let at = self.net.connect_from(face, SocketAddr::from((from, port)));
        self.settle();
        at
    }

    /// Whether the caller can speak, and takes what it is told.
    pub fn is_heard(&mut self, at: usize) -> bool {
        let client = &self.net.clients[at];
        let hears = client.appetite == usize::MAX && self.net.output(at).is_empty();
        let goes_on = !client.ended && !client.closed && !client.shut;
        let speaks = goes_on && client.unread.is_empty() && !self.judge.caller(at).reset;
        hears && speaks
    }

    pub fn speak(&mut self, at: usize) {
        if !self.is_heard(at) {
            return;
        }
        let is_rest = self.judge.caller(at).face != Face::Distlockd;
        let more = if is_rest { 10 } else { 40 };
        while self.scripts[at].is_empty() || self.dice.chance(more) {
            match self.judge.caller(at).face {
                #[cfg(feature = "http")]
                Face::Http => self.visit(at),
                _ => {
                    let call = self.think();
                    self.put_call(at, call);
                }
            }
        }
        let most = self.scripts[at].len() as u64;
        let n = if self.dice.chance(self.habits.whole) {
            most
        } else {
            1 + self.dice.below(most)
        };
        self.say_call(at, n as usize);
    }

    /// More than is done at once, of what changes nothing; often it does not read the answers.
    fn overdo(&mut self, at: usize) {
        if !self.is_heard(at) || !self.scripts[at].is_empty() {
            return;
        }
        self.judge.caller(at).flooded = true;
        if self.dice.chance(70) {
            self.net.clients[at].appetite = 0;
        }
        for _ in 0..self.dice.below(12_000) {
            let call = *self
                .dice
                .pick(&[Request::Health, Request::Mistake(MISTAKES[0].3)]);
            self.put_call(at, call);
        }
        let all = self.scripts[at].len();
        self.say_call(at, all);
    }

    pub fn say_call(&mut self, at: usize, n: usize) {
        let bytes: Vec<u8> = self.scripts[at].drain(..n).collect();
        self.judge.caller(at).sent += bytes.len();
        self.net.send_only(at, &bytes);
    }

    /// Mostly of what is claimed.
    fn think(&mut self) -> Request {
        let claims = self.judge.story.judge.holds.iter();
        let claims = claims.filter_map(|hold| match hold.who {
            Who::Claim(name) => Some((hold.key, name)),
            _ => None,
        });
        let claims: Vec<(usize, usize)> = claims.collect();
        let known = !claims.is_empty() && self.dice.chance(60);
        let (mut key, mut name) = match known {
            true => *self.dice.pick(&claims),
            false => (self.lock(), 0),
        };
        if !known || self.dice.chance(20) {
            name = self.dice.below(OWNERS as u64) as usize;
        }
        if known && self.dice.chance(5) {
            key = self.lock();
        }
        match self.dice.below(20) {
            0 => Request::Health,
            1 => Request::Mistake(self.dice.pick(&MISTAKES).3),
            2..8 => Request::Lock(Act::Yield { key, name }),
            _ => Request::Lock(Act::Claim { key, name }),
        }
    }

    /// A key of the run, if it is a lock. The first is.
    fn lock(&mut self) -> usize {
        let key = self.key();
        let Key { space, .. } = self.judge.story.judge.keys[key];
        if space == Space::Lock { key } else { 0 }
    }

    fn put_call(&mut self, at: usize, request: Request) {
        let name_of = |key: usize| self.judge.story.judge.keys[key].name.clone();
        let (command, name, id) = match request {
            Request::Lock(Act::Claim { key, name }) => (1, name_of(key), CLAIMANTS[name].to_vec()),
            Request::Lock(Act::Yield { key, name }) => (2, name_of(key), CLAIMANTS[name].to_vec()),
            Request::Health => (3, Vec::new(), Vec::new()),
            Request::Mistake(why) => {
                let fits = |mistake: &&(u8, &[u8], usize, &str)| mistake.3 == why;
                let mistakes: Vec<_> = MISTAKES.iter().filter(fits).collect();
                let long = !self.judge.caller(at).flooded && self.dice.chance(10);
                let (command, name, len, _) = mistakes[usize::from(long) * (mistakes.len() - 1)];
                (*command, name.to_vec(), vec![b'i'; *len])
            }
            other => panic!("no frame says {other:?}"),
        };
        let script = &mut self.scripts[at];
        script.push(command);
        for len in [name.len(), id.len()] {
            script.extend_from_slice(&(len as u16).to_be_bytes());
        }
        script.extend_from_slice(&name);
        script.extend_from_slice(&id);
        self.note_call(at, request);
    }

    /// The request is in the script to the end.
    pub fn note_call(&mut self, at: usize, request: Request) {
        let ahead = self.scripts[at].len();
        let caller = self.judge.caller(at);
        let end = caller.sent + ahead;
        caller.calls.push_back((request, end));
    }
}
