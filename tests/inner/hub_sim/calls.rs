//! Clients of distlockd in the simulation: what they say, how that is spelt, and how they come and go.

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

/// Callers that may be there at once.
const CROWD: usize = 4;

impl World<'_> {
    /// One turn, perhaps a late one, in which some of them act, and perhaps some on lines before, between and after.
    pub fn call(&mut self, open: &[usize]) {
        if self.judge.callers().len() < CROWD && self.dice.chance(40) {
            self.dial();
        }
        let callers = self.judge.callers();
        if callers.is_empty() {
            return;
        }
        if self.dice.chance(15) {
            self.net.now += self.span();
        }
        let alone = self.dice.chance(70);
        for _ in 0..*self.dice.pick(&[1, 1, 2, 3, 5]) {
            if !alone && self.dice.chance(50) {
                let at = *self.dice.pick(open);
                self.send(at);
                continue;
            }
            let at = *self.dice.pick(&callers);
            match self
                .dice
                .weigh(&[30, self.habits.end, self.habits.reset, self.habits.flood])
            {
                0 => self.speak(at),
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

    fn dial(&mut self) {
        self.judge.dialled();
        self.scripts.push(Vec::new());
        self.net.connect_to(Face::Distlockd);
        self.settle();
    }

    /// Whether the caller can speak, and takes what it is told.
    fn is_heard(&mut self, at: usize) -> bool {
        let client = &self.net.clients[at];
        let hears = client.appetite == usize::MAX && self.net.output(at).is_empty();
        let speaks = !client.ended && client.unread.is_empty() && !self.judge.caller(at).reset;
        hears && speaks
    }

    fn speak(&mut self, at: usize) {
        if !self.is_heard(at) {
            return;
        }
        while self.scripts[at].is_empty() || self.dice.chance(40) {
            let call = self.think();
            self.put_call(at, call);
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

    fn say_call(&mut self, at: usize, n: usize) {
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
            Request::Lock(other) => panic!("no frame says {other:?}"),
            Request::Health => (3, Vec::new(), Vec::new()),
            Request::Mistake(why) => {
                let fits = |mistake: &&(u8, &[u8], usize, &str)| mistake.3 == why;
                let mistakes: Vec<_> = MISTAKES.iter().filter(fits).collect();
                let long = !self.judge.caller(at).flooded && self.dice.chance(10);
                let (command, name, len, _) = mistakes[usize::from(long) * (mistakes.len() - 1)];
                (*command, name.to_vec(), vec![b'i'; *len])
            }
        };
        let script = &mut self.scripts[at];
        script.push(command);
        for len in [name.len(), id.len()] {
            script.extend_from_slice(&(len as u16).to_be_bytes());
        }
        script.extend_from_slice(&name);
        script.extend_from_slice(&id);
        let ahead = script.len();
        let caller = self.judge.caller(at);
        let end = caller.sent + ahead;
        caller.calls.push_back((request, end));
    }
}
