//! Clients of the REST face that lose answers, over random requests and jumps of time: every acquire is repeated once
//! at a random later moment, answers are cut short, connections vanish while they wait, attempts are ended by name. Each
//! answer is judged by what its client knows for sure, and the lock table by what all of them know together.

use dflockd::command::{SECOND, Space, Us};
use dflockd::wire::Face;

use crate::harness::{Dice, Json, Net, Trace, settings, simulate};

#[test]
fn every_repeat_finds_what_its_client_had() {
    simulate("rest_sim", 300, 30_000, |seed, trace| {
        World::new(seed, trace).run();
    });
}

/// Names of keys, and limits; 0 asks for a lock.
const KEYS: [(&str, usize); 3] = [("a", 0), ("both", 0), ("both", 2)];

/// For how long an ended attempt is remembered.
const ENDED_FOR: Us = 60 * SECOND;

/// One attempt, as its client sees it.
#[derive(Clone, Default)]
struct Attempt {
    client: String,
    key: usize,
    lease: Us,
    /// The longest lease that it has asked for.
    longest: Us,
    keep: Us,
    renews: bool,
    /// Another attempt has the same client.
    shares: bool,
    /// The turn in the queue that its first request has had.
    turn: u64,
    /// Its hold, and until when that lasts for sure; 0 if it is not known to hold.
    fence: Option<String>,
    token: String,
    sure_until: Us,
    /// Answers were lost, or its place was kept: it may hold though nobody knows.
    doubt: bool,
    /// Its place is kept no longer than until then.
    kept_until: Us,
    ended_at: Option<Us>,
    repeated: bool,
}

/// A request that is not answered yet.
struct Poll {
    /// Its connection.
    at: usize,
    attempt: usize,
    sent: Us,
    wait: Us,
    /// A later request for the same attempt was sent.
    superseded: bool,
}

struct World<'a> {
    dice: Dice,
    trace: &'a mut Trace,
    net: Net,
    attempts: Vec<Attempt>,
    polls: Vec<Poll>,
    /// Connections that have nothing to be answered.
    idle: Vec<usize>,
    turns: u64,
}

impl<'a> World<'a> {
    fn new(seed: u64, trace: &'a mut Trace) -> World<'a> {
        let mut dice = Dice::new(seed);
        let mut settings = settings();
        settings.locks.deadlock_detection = dice.chance(50);
        settings.locks.max_idle = *dice.pick(&[0, 60 * SECOND]);
        World {
            dice,
            trace,
            net: Net::new(settings),
            attempts: Vec::new(),
            polls: Vec::new(),
            idle: Vec::new(),
            turns: 0,
        }
    }

    fn run(mut self) {
        for _ in 0..100 + self.dice.below(100) {
            self.anything();
            self.settle();
            self.trace.step();
        }
        while self.attempts.iter().any(|attempt| !attempt.repeated) {
            self.repeat();
            self.settle();
        }
        for poll in std::mem::take(&mut self.polls) {
            self.net.reset_only(poll.at);
        }
        for at in std::mem::take(&mut self.idle) {
            self.net.end_only(at);
        }
        self.net.settle();
        assert!(self.waiting() <= self.kept(), "a long poll is left");
        let last = self.net.now + 400 * SECOND;
        self.net.until(last);
        let counts = self.net.locks().counts();
        assert_eq!((counts.held, counts.waiting), (0, 0), "S9");
        assert_eq!(self.net.sessions(), 0, "S9");
    }

    fn anything(&mut self) {
        match self.dice.weigh(&[30, 40, 6, 6, 15, 8, 8, 30]) {
            0 => self.begin(),
            1 => self.repeat(),
            2 => self.vanish(),
            3 => self.cut(),
            4 => self.release(),
            5 => self.cancel(),
            6 => self.renew(),
            _ => self.sleep(),
        }
    }

    fn begin(&mut self) {
        let n = self.attempts.len();
        let shares = n > 0 && self.dice.chance(20);
        let client = match shares {
            true => self.dice.pick(&self.attempts).client.clone(),
            false => format!("client-{n}"),
        };
        if shares {
            let same = self.attempts.iter_mut();
            same.filter(|a| a.client == client)
                .for_each(|a| a.shares = true);
        }
        let lease = self.lease();
        self.attempts.push(Attempt {
            client,
            key: self.dice.below(KEYS.len() as u64) as usize,
            lease,
            keep: self.dice.chance(40) as u64 * (1 + self.dice.below(50)) * 100_000,
            renews: self.dice.chance(10),
            shares,
            ..Attempt::default()
        });
        self.ask(n);
    }

    fn repeat(&mut self) {
        let first = |attempt: &Attempt| !attempt.repeated;
        let places: Vec<usize> = (0..self.attempts.len()).collect();
        let all: Vec<usize> = (places.iter().copied())
            .filter(|&n| first(&self.attempts[n]))
            .collect();
        if !all.is_empty() {
            let n = *self.dice.pick(&all);
            self.attempts[n].repeated = true;
            if self.dice.chance(50) {
                self.attempts[n].lease = self.lease();
            }
            self.ask(n);
        }
    }

    fn lease(&mut self) -> Us {
        (1 + self.dice.below(200)) * 100_000
    }

    /// Sends the request of an attempt, for the first time or again.
    fn ask(&mut self, n: usize) {
        let attempt = &mut self.attempts[n];
        attempt.longest = attempt.longest.max(attempt.lease);
        let wait = self.dice.chance(80) as u64 * self.dice.below(100) * 100_000;
        let at = self.connection();
        let waits = self.polls.iter().any(|poll| poll.attempt == n);
        if !waits && !self.attempts[n].doubt {
            // Nothing is left of the former request: this one comes last.
            self.turns += 1;
            self.attempts[n].turn = self.turns;
        }
        let Attempt {
            client,
            key,
            lease,
            keep,
            renews,
            ..
        } = &self.attempts[n];
        let (name, limit) = KEYS[*key];
        let limit = match limit {
            0 => String::new(),
            limit => format!(r#","limit":{limit}"#),
        };
        let body = format!(
            r#"{{"clientId":"{client}","requestId":"attempt-number-{n:0>6}","timeout":{},"waitTimeout":{},"keepPlace":{},"autoRenew":{renews}{limit}}}"#,
            seconds(*lease),
            seconds(wait),
            seconds(*keep),
        );
        for poll in self.polls.iter_mut().filter(|poll| poll.attempt == n) {
            poll.superseded = true;
        }
        self.polls.push(Poll {
            at,
            attempt: n,
            sent: self.net.now,
            wait,
            superseded: false,
        });
        self.send(at, name, "acquire", &body);
    }

    fn send(&mut self, at: usize, name: &str, verb: &str, body: &str) {
        let length = body.len();
        let request = format!(
            "POST /locks/{name}/{verb} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let cut = self.dice.below(request.len() as u64 + 1) as usize;
        let (one, other) = request.as_bytes().split_at(cut);
        self.net.send_only(at, one);
        self.net.send_only(at, other);
    }

    /// One that is there already, or a new one.
    fn connection(&mut self) -> usize {
        let clients = &self.net.clients;
        self.idle
            .retain(|&at| !clients[at].closed && !clients[at].shut);
        if !self.idle.is_empty() && self.dice.chance(60) {
            let place = self.dice.below(self.idle.len() as u64) as usize;
            return self.idle.swap_remove(place);
        }
        self.net.connect_to(Face::Http)
    }

    /// A connection that waits is gone, by a FIN or a reset.
    fn vanish(&mut self) {
        if self.polls.is_empty() {
            return;
        }
        let place = self.dice.below(self.polls.len() as u64) as usize;
        let poll = self.polls.swap_remove(place);
        self.attempts[poll.attempt].doubt = true;
        match self.dice.chance(50) {
            true => self.net.end_only(poll.at),
            false => self.net.reset_only(poll.at),
        }
    }

    /// The answer is cut at any byte, and lost: the connection takes so much and is gone.
    fn cut(&mut self) {
        self.begin();
        let poll = self.polls.pop().expect("it has just asked");
        self.attempts[poll.attempt].doubt = true;
        self.net.clients[poll.at].appetite = self.dice.below(700) as usize;
        self.net.settle();
        if self.dice.chance(50) {
            self.net.now += self.dice.below(2 * SECOND);
            self.net.settle();
        }
        let (heard, left) = (&self.net.clients[poll.at].heard, self.net.output(poll.at));
        let all = String::from_utf8([heard, left].concat()).expect("answers are text");
        let unheard = !left.is_empty() && all.contains("\"acquired\":true");
        self.net.reset_only(poll.at);
        self.net.settle();
        let Attempt { client, key, .. } = &self.attempts[poll.attempt];
        let (name, limit) = KEYS[*key];
        let space = match limit {
            0 => Space::Lock,
            _ => Space::Semaphore,
        };
        let of = (space, name.as_bytes());
        let mut holds = self.net.locks().view_tickets(self.net.now, of, false, 0);
        let holds = holds.any(|view| view.owner == Some(client.as_bytes()));
        let shares = self.attempts[poll.attempt].shares;
        assert!(!holds || !unheard || shares, "nobody knows of this grant");
        // Perhaps it was told that its place is kept.
        let attempt = &mut self.attempts[poll.attempt];
        attempt.kept_until = self.net.now + attempt.keep;
    }

    fn release(&mut self) {
        let Some(n) = self.told() else { return };
        let (at, token) = (self.connection(), self.attempts[n].token.clone());
        let name = KEYS[self.attempts[n].key].0;
        self.send(
            at,
            name,
            "release",
            &format!(r#"{{"renewalToken":"{token}"}}"#),
        );
        let (status, answer) = self.answer(at);
        let sure = self.attempts[n].sure_until > self.net.now;
        assert!(
            status == 200 || status == 409 && !sure,
            "{status} {answer:?}"
        );
        let attempt = &mut self.attempts[n];
        // The attempt is unknown now: a repeat begins it anew.
        (attempt.sure_until, attempt.token) = (0, String::new());
        attempt.doubt = true;
    }

    fn renew(&mut self) {
        let Some(n) = self.told() else { return };
        let (at, token, lease) = (
            self.connection(),
            self.attempts[n].token.clone(),
            self.lease(),
        );
        let name = KEYS[self.attempts[n].key].0;
        let body = format!(
            r#"{{"renewalToken":"{token}","timeout":{}}}"#,
            seconds(lease)
        );
        self.send(at, name, "renew", &body);
        let (status, answer) = self.answer(at);
        let now = self.net.now;
        let attempt = &mut self.attempts[n];
        assert!(
            status == 200 || attempt.sure_until <= now,
            "{status} {answer:?}"
        );
        if status == 200 {
            assert_eq!(text(&answer, "fencingToken"), attempt.fence);
            attempt.sure_until = now + micros(&answer, "ttl");
        } else {
            (attempt.sure_until, attempt.token) = (0, String::new());
        }
    }

    /// A client ends its attempt: before, while or after it waits or holds.
    fn cancel(&mut self) {
        if self.attempts.is_empty() {
            return;
        }
        let n = self.dice.below(self.attempts.len() as u64) as usize;
        let at = self.connection();
        let Attempt { client, key, .. } = &self.attempts[n];
        let body = format!(r#"{{"clientId":"{client}","requestId":"attempt-number-{n:0>6}"}}"#);
        let name = KEYS[*key].0;
        self.send(at, name, "release", &body);
        self.net.settle();
        self.attempts[n].ended_at = Some(self.net.now);
        let (status, answer) = self.answer(at);
        let attempt = &mut self.attempts[n];
        let released = answer.field("released") == &Json::Bool(true);
        assert_eq!(status, 200);
        let sure = attempt.sure_until > self.net.now;
        assert!(released || !sure, "{answer:?}");
        (attempt.sure_until, attempt.token) = (0, String::new());
        attempt.kept_until = 0;
    }

    /// An attempt that was told of its hold, mostly one that still has it.
    fn told(&mut self) -> Option<usize> {
        let now = self.net.now;
        let told = |n: &usize| !self.attempts[*n].token.is_empty();
        let all: Vec<usize> = (0..self.attempts.len()).filter(told).collect();
        let sure = |n: &usize| self.attempts[*n].sure_until > now;
        let held: Vec<usize> = all.iter().copied().filter(sure).collect();
        match (held.is_empty(), all.is_empty()) {
            (false, _) => Some(*self.dice.pick(&held)),
            (true, false) => Some(*self.dice.pick(&all)),
            _ => None,
        }
    }

    fn sleep(&mut self) {
        let span = *self.dice.pick(&[1, 1000, SECOND, 10 * SECOND, 70 * SECOND]);
        let until = self.net.now + self.dice.below(span) + 1;
        while let Some(due) = self.net.deadline().filter(|&due| due <= until) {
            self.net.now = self.net.now.max(due);
            self.settle();
        }
        self.net.now = until;
    }

    /// What has come is judged, and so is the table.
    fn settle(&mut self) {
        self.net.settle();
        let mut polls = std::mem::take(&mut self.polls);
        // In the order of the fences, if that of the grants is asked for.
        polls.sort_by_key(|poll| (poll.sent, poll.at));
        let mut answers = Vec::new();
        for poll in polls {
            match self.take(poll.at) {
                Some((status, answer)) => answers.push((poll, status, answer)),
                None => self.polls.push(poll),
            }
        }
        answers.sort_by_key(|(_, _, answer)| text(answer, "fencingToken"));
        for (poll, status, answer) in answers {
            self.trace.heard(format!("{answer:?}"));
            self.judge(&poll, status, &answer);
            self.idle.push(poll.at);
        }
        self.judge_table();
    }

    fn judge(&mut self, poll: &Poll, status: u16, answer: &Json) {
        let now = self.net.now;
        let attempt = self.attempts[poll.attempt].clone();
        let sure = attempt.sure_until > now;
        if status != 200 {
            let stuck = text(answer, "code").as_deref() == Some("deadlock");
            return assert!(stuck && attempt.shares && !sure, "{status} {answer:?}");
        }
        assert_eq!(text(answer, "clientId"), Some(attempt.client.clone()));
        let ended = |at: Us| at >= poll.sent || now <= at + ENDED_FOR;
        if answer.field("acquired") == &Json::Bool(true) {
            self.acquired(poll, &attempt, answer);
            return;
        }
        assert_eq!(answer.field("lockId"), &Json::Null);
        match text(answer, "reason").as_deref() {
            Some("superseded") => assert!(poll.superseded, "nobody has its place"),
            Some("cancelled") => {
                assert!(attempt.ended_at.is_some_and(ended), "nobody has ended it");
            }
            Some("timeout") => {
                assert!(!sure, "it holds");
                let remembered = |at: Us| at < poll.sent && poll.sent <= at + ENDED_FOR;
                assert!(!attempt.ended_at.is_some_and(remembered), "it was ended");
                assert!(now >= poll.sent + poll.wait, "early");
                let kept = answer.get("placeKept");
                let kept = kept.map_or(0, |_| micros(answer, "placeKept"));
                assert_eq!(kept, attempt.keep, "for how long");
                let attempt = &mut self.attempts[poll.attempt];
                attempt.kept_until = now + kept;
                attempt.doubt = kept > 0;
            }
            other => panic!("{other:?} is no reason"),
        }
        let waited = (now - poll.sent) / 1000 * 1000;
        assert_eq!(micros(answer, "waitTime"), waited, "since it was asked");
    }

    /// A grant, or a repeat of one.
    fn acquired(&mut self, poll: &Poll, attempt: &Attempt, answer: &Json) {
        let now = self.net.now;
        let remembered = |at: Us| at < poll.sent && poll.sent <= at + ENDED_FOR;
        assert!(!attempt.ended_at.is_some_and(remembered), "it was ended");
        let fence = text(answer, "fencingToken");
        let sure = attempt.sure_until > now;
        assert!(!sure || fence == attempt.fence, "a second grant");
        let others = || {
            let all = self.attempts.iter().enumerate();
            all.filter(|(n, other)| *n != poll.attempt && other.key == attempt.key)
        };
        let taken = others().any(|(_, other)| other.fence == fence);
        assert!(!taken, "S7: it is another's");
        let holds = others().filter(|(_, other)| other.sure_until > now).count();
        assert!(holds < KEYS[attempt.key].1.max(1), "S1: {holds} hold it");
        let waits = |n: usize| self.polls.iter().any(|poll| poll.attempt == n);
        let passed =
            others().any(|(n, other)| other.turn < attempt.turn && waits(n) && !other.doubt);
        let same = fence == attempt.fence;
        assert!(attempt.doubt || same || !passed, "S2: somebody came before");
        let ttl = micros(answer, "ttl");
        let lost = if attempt.doubt { attempt.longest } else { 0 };
        let most = attempt.lease.max(attempt.keep).max(lost);
        let most = most.max(attempt.sure_until.saturating_sub(now));
        let least = attempt
            .lease
            .max(if sure { attempt.sure_until - now } else { 0 });
        let floor = |us: Us| us / 1000 * 1000;
        let right = floor(least) <= ttl && (attempt.renews || ttl <= most);
        assert!(right, "S6: {least} to {most}, but {ttl}");
        let attempt = &mut self.attempts[poll.attempt];
        (attempt.fence, attempt.sure_until) = (fence, now + ttl);
        attempt.token = text(answer, "renewalToken").expect("a grant has a token");
        (attempt.kept_until, attempt.doubt) = (0, false);
    }

    /// What the table has, against what the clients know.
    fn judge_table(&self) {
        let locks = self.net.locks();
        locks.check();
        let now = self.net.now;
        let sure = self.attempts.iter().filter(|a| a.sure_until > now).count();
        assert!(locks.counts().held as usize >= sure, "a hold is lost");
        for poll in &self.polls {
            assert!(poll.sent + poll.wait > now, "S4: a wait has no end");
        }
        let polls = self.polls.len();
        let range = polls..=polls + self.kept();
        assert!(
            range.contains(&self.waiting()),
            "{range:?} wait, not {}",
            self.waiting()
        );
    }

    fn waiting(&self) -> usize {
        self.net.locks().counts().waiting as usize
    }

    /// Places that are kept, perhaps.
    fn kept(&self) -> usize {
        let now = self.net.now;
        self.attempts.iter().filter(|a| a.kept_until > now).count()
    }

    /// The answer that has to be there at once.
    fn answer(&mut self, at: usize) -> (u16, Json) {
        self.net.settle();
        let answer = self.take(at).expect("it is answered at once");
        self.idle.push(at);
        answer
    }

    /// Takes the answer of a connection, if it is there.
    fn take(&mut self, at: usize) -> Option<(u16, Json)> {
        let heard = &mut self.net.clients[at].heard;
        if heard.is_empty() {
            return None;
        }
        let all = String::from_utf8(std::mem::take(heard)).expect("answers are text");
        let (head, body) = all.split_once("\r\n\r\n").expect("a whole answer");
        let length = format!("\r\nContent-Length: {}", body.len());
        assert!(head.contains(&length), "one answer to one request: {all}");
        let status = head[9..12].parse().expect("a status");
        Some((status, Json::parse(body).expect("the body is JSON")))
    }
}

fn seconds(us: Us) -> String {
    format!("{}.{:0>6}", us / SECOND, us % SECOND)
}

/// A member of an answer that is a number of seconds, in microseconds.
fn micros(answer: &Json, name: &str) -> Us {
    match answer.field(name) {
        Json::Number(seconds) => (seconds * 1e6).round() as Us,
        other => panic!("{name} is {other:?}"),
    }
}

fn text(answer: &Json, name: &str) -> Option<String> {
    match answer.get(name) {
        Some(Json::Text(text)) => Some(text.clone()),
        _ => None,
    }
}
