//! Clients of the REST face in the simulation: what they ask for, and how that is spelt. Each attempt that has a name is
//! made a second time at a random later moment, by any of them, as a client does that has lost an answer.

use dflockd::command::{Bound, Renewal, SECOND, Space, Terms, Us};
use dflockd::wire::Face;

use super::World;
use super::words::{ADMIN, SECRET};
use crate::harness::Dice;
use crate::judges::hub::callers::Request;
use crate::judges::locks::{Act, Hold, Key, NAMES, Who};

/// What these clients have asked for, and their habits.
pub struct Visits {
    attempts: Vec<Attempt>,
    cancel: u64,
    repeat: u64,
    /// Percent of the acquires that keep their places, and of those that renew themselves.
    keeps: u64,
    renews: u64,
}

impl Visits {
    pub fn new(dice: &mut Dice) -> Visits {
        Visits {
            attempts: Vec::new(),
            cancel: *dice.pick(&[0, 3, 10]),
            repeat: *dice.pick(&[5, 20, 60]),
            keeps: *dice.pick(&[0, 30, 90]),
            renews: *dice.pick(&[0, 0, 20]),
        }
    }
}

/// One acquire that has a name.
#[derive(Clone, Copy)]
struct Attempt {
    key: usize,
    limit: u32,
    client: usize,
    name: &'static [u8],
    repeated: bool,
}

/// What attempts are called: more than a run has.
static ATTEMPTS: [[u8; 18]; 1000] = {
    let mut all = [*b"attempt-number-000"; 1000];
    let mut n = 0;
    while n < all.len() {
        all[n][15] = b'0' + (n / 100) as u8;
        all[n][16] = b'0' + (n / 10 % 10) as u8;
        all[n][17] = b'0' + (n % 10) as u8;
        n += 1;
    }
    all
};

/// As the server renews by default.
const RENEWAL: Renewal = Renewal {
    every: 5 * SECOND,
    within: 300 * SECOND,
};

/// Requests that ask for nothing: method, what follows the name of the lock, body, and the problem.
const MISTAKES: [(&str, &str, &str, &str); 5] = [
    ("POST", "/acquire", r#"{"timeout":0}"#, "invalid-field"),
    ("POST", "/acquire", "{", "invalid-json"),
    ("POST", "/release", r#"{"clientId":"x"}"#, "missing-lock-id"),
    ("POST", "/status", "", "method-not-allowed"),
    ("GET", "/acquired", "", "not-found"),
];

impl World<'_> {
    /// One more request for the client's script.
    pub fn visit(&mut self, at: usize) {
        let habits = &self.habits;
        let weights = [
            habits.acquire,
            self.visits.repeat,
            habits.release,
            habits.renew,
            self.visits.cancel,
            habits.breaks,
            habits.show,
            habits.nonsense,
            2,
        ];
        match self.dice.weigh(&weights) {
            1 => self.repeat(at),
            2 => self.give_back(at),
            3 => self.renew(at),
            4 => self.cancel(at),
            5 => self.evict(at),
            6 => {
                let key = self.key();
                let semaphore = self.judge.story.judge.keys[key].space == Space::Semaphore;
                let path = ["/status", "/status?space=semaphore"][usize::from(semaphore)];
                self.put_request(at, Request::Status(key), key, ("GET", path, ""));
            }
            7 => {
                let (method, path, body, why) = *self.dice.pick(&MISTAKES);
                let path = format!("/locks/k{path}");
                self.put_path(at, Request::Mistake(why), &path, (method, body));
            }
            8 => {
                let (request, path) = *self.dice.pick(&[
                    (Request::Health, "/health"),
                    (Request::Stats, "/locks/stats"),
                ]);
                self.put_path(at, request, path, ("GET", ""));
            }
            _ => self.begin(at),
        }
    }

    /// One request to the end, and that of the connection with it.
    pub fn speak_last(&mut self, at: usize) {
        if !self.is_heard(at) {
            return;
        }
        self.visit(at);
        let bytes = std::mem::take(&mut self.scripts[at]);
        self.judge.caller(at).sent += bytes.len();
        self.net.send_last(at, &bytes);
    }

    /// Whatever was not asked for twice is now.
    pub fn repeat_the_rest(&mut self) {
        while self.visits.attempts.iter().any(|attempt| !attempt.repeated) {
            let at = self.dial(Face::Http);
            self.repeat(at);
            let all = self.scripts[at].len();
            self.say_call(at, all);
            self.settle();
            self.net.end_only(at);
            self.settle();
        }
    }

    /// Mostly of what its client does not have.
    fn begin(&mut self, at: usize) {
        let client = self.dice.below(self.habits.owners) as usize;
        let mut key = self.key();
        let shy = self.dice.chance(self.habits.shy);
        for _ in 0..if shy { 5 } else { 0 } {
            let own = |hold: &Hold| (hold.key, hold.who) == (key, Who::Name(client));
            if self.judge.story.judge.holds.iter().any(own) {
                key = self.key();
            }
        }
        let limit = self.limit(key);
        let name = self.dice.chance(85).then(|| {
            let name = &ATTEMPTS[self.visits.attempts.len() % ATTEMPTS.len()][..];
            self.visits.attempts.push(Attempt {
                key,
                limit,
                client,
                name,
                repeated: false,
            });
            name
        });
        self.acquire_by(at, (key, limit), client, name);
    }

    fn repeat(&mut self, at: usize) {
        let all = 0..self.visits.attempts.len();
        let left: Vec<usize> = all.filter(|&n| !self.visits.attempts[n].repeated).collect();
        if left.is_empty() {
            return self.begin(at);
        }
        let n = *self.dice.pick(&left);
        self.visits.attempts[n].repeated = true;
        let Attempt {
            key,
            limit,
            client,
            name,
            ..
        } = self.visits.attempts[n];
        self.acquire_by(at, (key, limit), client, Some(name));
    }

    fn acquire_by(
        &mut self,
        at: usize,
        (key, limit): (usize, u32),
        client: usize,
        name: Option<&'static [u8]>,
    ) {
        let lease = self.tenths(200);
        let wait = *self.dice.pick(&[0, 1, 20, 100, 1000]);
        let wait = if wait > 0 { self.tenths(wait) } else { 0 };
        let keeps = name.is_some() && self.dice.chance(self.visits.keeps);
        let keep = if keeps { self.tenths(100) } else { 0 };
        let renews = self.dice.chance(self.visits.renews);
        let note = self.dice.chance(10).then_some(&b"{}"[..]);
        let terms = Terms {
            attempt: name,
            keep,
            renewal: renews.then_some(RENEWAL),
            note,
        };
        let mut body = format!(
            r#"{{"clientId":"{}","timeout":{},"waitTimeout":{},"autoRenew":{renews}"#,
            text(NAMES[client]),
            seconds(lease),
            seconds(wait),
        );
        if self.judge.story.judge.keys[key].space == Space::Semaphore {
            body += &format!(r#","limit":{limit}"#);
        }
        if note.is_some() {
            body += r#","metadata":{}"#;
        }
        if let Some(name) = name {
            let (name, keep) = (text(name), seconds(keep));
            body += &format!(r#","requestId":"{name}","keepPlace":{keep}"#);
        }
        let act = Act::AcquireFor {
            key,
            limit,
            wait,
            lease: Some(lease),
            name: Some(client),
            terms,
        };
        self.put_act(at, act, ("POST", "/acquire", &(body + "}")));
    }

    /// By its token, by its public name, or what is another client's.
    fn give_back(&mut self, at: usize) {
        let leased = self.judge.story.judge.holds.iter();
        let leased = leased.filter_map(|hold| match (hold.who, hold.token) {
            (Who::Name(client), Some(token)) if hold.detached => Some((hold.key, client, token)),
            _ => None,
        });
        let leased: Vec<_> = leased.collect();
        if leased.is_empty() || self.dice.chance(50) {
            let (key, token) = self.any_token(at);
            let body = format!(
                r#"{{"renewalToken":"{:016x}{:016x}"}}"#,
                token.fence, token.salt
            );
            let act = Act::Release { key, token };
            return self.put_act(at, act, ("POST", "/release", &body));
        }
        let (key, mut client, token) = *self.dice.pick(&leased);
        let mut request = Request::Lock(Act::Release { key, token });
        if self.dice.chance(10) {
            client = (client + 1) % NAMES.len();
            request = Request::Foreign;
        }
        let client = text(NAMES[client]);
        let body = format!(
            r#"{{"clientId":"{client}","lockId":"lock-{:016x}"}}"#,
            token.fence
        );
        self.put_request(at, request, key, ("POST", "/release", &body));
    }

    fn renew(&mut self, at: usize) {
        let (key, token) = self.any_token(at);
        let lease = self.tenths(200);
        let body = format!(
            r#"{{"renewalToken":"{:016x}{:016x}","timeout":{}}}"#,
            token.fence,
            token.salt,
            seconds(lease)
        );
        let lease = Some(lease);
        let act = Act::Renew {
            key,
            token,
            lease,
            bound: Bound::Lease,
        };
        self.put_act(at, act, ("POST", "/renew", &body));
    }

    /// An attempt ends wherever it is, or before it is there.
    fn cancel(&mut self, at: usize) {
        if self.visits.attempts.is_empty() {
            return self.begin(at);
        }
        let recent = self.visits.attempts.len().saturating_sub(8);
        let Attempt {
            key, client, name, ..
        } = *self.dice.pick(&self.visits.attempts[recent..]);
        let (id, who) = (text(name), text(NAMES[client]));
        let body = format!(r#"{{"clientId":"{who}","requestId":"{id}"}}"#);
        let act = Act::Cancel {
            key,
            name: client,
            attempt: name,
        };
        self.put_act(at, act, ("POST", "/release", &body));
    }

    /// By an administrator, if it is one.
    fn evict(&mut self, at: usize) {
        if self.credential(at).is_none() && self.settings.admin.is_some() {
            return self.begin(at);
        }
        let (key, token) = self.any_token(at);
        let fence = self.dice.chance(50).then_some(token.fence);
        let semaphore = self.judge.story.judge.keys[key].space == Space::Semaphore;
        let space = ["lock", "semaphore"][usize::from(semaphore)];
        let mut path = format!("?space={space}");
        if let Some(fence) = fence {
            path += &format!("&lockId=lock-{fence:016x}");
        }
        let request = match self.judge.may_break(at) {
            true => Request::Lock(Act::Break { key, fence }),
            false => Request::Mistake("admin-required"),
        };
        self.put_request(at, request, key, ("DELETE", &path, ""));
    }

    /// A key and a token for it. Of two keys with one name the token says which is meant.
    fn any_token(&mut self, at: usize) -> (usize, dflockd::command::Token) {
        let (key, token) = self.token(at);
        let judge = &self.judge.story.judge;
        let holds = judge.holds.iter().filter_map(|h| Some((h.key, h.token?)));
        let mut known = holds.chain(judge.stale.iter().copied());
        let its = |name: &Key, other: usize| judge.keys[other].name == name.name;
        let same =
            known.find(|(other, old)| old.fence == token.fence && its(&judge.keys[key], *other));
        (same.map_or(key, |same| same.0), token)
    }

    /// Up to so many tenths of a second.
    fn tenths(&mut self, most: u64) -> Us {
        (1 + self.dice.below(most)) * SECOND / 10
    }

    fn put_act(&mut self, at: usize, act: Act, request: (&str, &str, &str)) {
        let key = act.key().expect("it is about a lock");
        self.put_request(at, Request::Lock(act), key, request);
    }

    /// A request about a key: method, what follows the name, and body.
    fn put_request(
        &mut self,
        at: usize,
        mut request: Request,
        key: usize,
        (method, rest, body): (&str, &str, &str),
    ) {
        let name = &self.judge.story.judge.keys[key].name;
        let mistake = matches!(request, Request::Mistake(_));
        if name.iter().any(u8::is_ascii_control) && !mistake {
            request = Request::Mistake("invalid-lock-name");
        }
        let name: String = name.iter().map(|byte| format!("%{byte:02x}")).collect();
        self.put_path(at, request, &format!("/locks/{name}{rest}"), (method, body));
    }

    fn put_path(&mut self, at: usize, request: Request, path: &str, (method, body): (&str, &str)) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(secret) = self.credential(at) {
            head += &format!("Authorization: Bearer {secret}\r\n");
        }
        if self.dice.chance(3) {
            head += "Connection: close\r\n";
        }
        let length = body.len();
        let rest = match length {
            1.. if self.dice.chance(10) => {
                format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
            }
            _ => format!("Content-Length: {length}\r\n\r\n{body}"),
        };
        self.scripts[at].extend_from_slice((head + &rest).as_bytes());
        self.note_call(at, request);
    }

    fn credential(&self, at: usize) -> Option<&'static str> {
        match self.judge.peers[at].admin {
            true => Some(ADMIN),
            false => self.settings.secret.as_ref().map(|_| SECRET),
        }
    }
}

fn text(name: &[u8]) -> &str {
    std::str::from_utf8(name).expect("they are text")
}

fn seconds(us: Us) -> String {
    format!("{}.{}", us / SECOND, us % SECOND * 10 / SECOND)
}
