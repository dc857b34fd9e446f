//! A client of a random run: it takes locks and does with them what clients do, well-behaved ones and others. When its
//! server dies it goes to the next one with what it holds. Not here: whether what it is told can be true, which the judge
//! says of what it notes. Invariant: a client holds one lock at a time that it means to use.

use crate::board::{Board, Place};
use crate::dice::Dice;
use crate::faces::distlockd::Claim;
use crate::faces::{Key, Told, distlockd, line, rest};
use crate::link::{Face, Gone, Link};
use crate::record::{Grant, MS, Ns, Record, SECOND, What};

/// The lease of a client of distlockd, in seconds: the server's option says so.
pub const DISTLOCKD_LEASE: u64 = 2;
/// The leases that others ask for, in seconds.
const LEASES: [u64; 4] = [1, 1, 1, 2];

/// What a client is for.
#[derive(Clone, Copy)]
pub enum Role {
    /// Takes this lock once and renews it until the run is over.
    Holds(&'static Key),
    /// Takes any lock, and does anything. Some locks are held all the time: of those it asks seldom.
    Roams {
        free: &'static [Key],
        held: &'static [Key],
    },
}

/// What a client does with the lock that it has got.
#[derive(Clone, Copy)]
enum Plan {
    /// Works for a moment and releases.
    Works,
    /// Renews until then, and releases.
    Renews(Ns),
    /// Stops until the lease is over, comes back and renews.
    Stops,
    /// Ends its connection without a release.
    HangsUp,
    /// Never thinks of it again.
    Forgets,
    /// Has sent a release and has heard nothing of it.
    Releases,
}

struct Held {
    hold: u64,
    key: &'static Key,
    token: String,
    /// The request that named it, over HTTP.
    attempt: String,
    lease: u64,
    until: Ns,
    /// The server that has last told of it.
    server: u64,
    plan: Plan,
}

/// A request that has not been answered, or whose answer was lost: it can be asked again by its name.
struct Attempt {
    key: &'static Key,
    wait_ms: u64,
    lease: u64,
    name: String,
    /// A moment before it was first asked.
    asked: Ns,
}

/// What a client has come through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// How often it asked for a lock.
    pub asked: usize,
    pub granted: usize,
    /// How often a hold was renewed at another server than the one that had told of it last.
    pub carried: usize,
    /// How often a renewal was refused.
    pub refused: usize,
}

pub struct Actor<'a> {
    who: u32,
    face: Face,
    role: Role,
    /// The name by which it is known, at the faces that have names.
    name: String,
    record: &'a Record,
    board: &'a Board,
    dice: Dice,
    link: Option<Link<'a>>,
    /// The last server that it has been connected to.
    server: u64,
    held: Option<Held>,
    /// The lock that it asks for until it is served.
    wanted: Option<&'static Key>,
    /// Holds that end with the connection, though the client has forgotten them.
    forgotten: Vec<u64>,
    attempt: Option<Attempt>,
    tally: Tally,
}

impl<'a> Actor<'a> {
    pub fn new(
        who: u32,
        face: Face,
        role: Role,
        seed: u64,
        record: &'a Record,
        board: &'a Board,
    ) -> Actor<'a> {
        Actor {
            who,
            face,
            role,
            name: format!("actor-{who}"),
            record,
            board,
            dice: Dice::new(seed, who),
            link: None,
            server: 0,
            held: None,
            wanted: None,
            forgotten: Vec::new(),
            attempt: None,
            tally: Tally::default(),
        }
    }

    /// Lives until the run is over.
    pub fn run(mut self) -> (Face, Tally) {
        while !self.board.is_over() {
            if self.step().is_err() {
                self.link = None;
                // Their connection has not ended by the client's will, so they go on.
                self.forgotten.clear();
            }
        }
        // Nothing that it has may be in the way of others.
        if self.link.is_some() && self.held.is_some() {
            // Whoever is gone by now has lost its locks only for their leases.
            let _ = self.release();
        }
        self.hang_up();
        (self.face, self.tally)
    }

    fn step(&mut self) -> Result<(), Gone> {
        if self.link.is_none() {
            let Some(place) = self.board.wait(self.server) else {
                return Ok(());
            };
            self.server = place.number;
            self.connect(&place)?;
        }
        match &self.held {
            None => self.acquire(),
            Some(held) => self.follow(held.plan),
        }
    }

    fn connect(&mut self, place: &Place) -> Result<(), Gone> {
        self.link = Some(Link::open(self.face, place, self.who, self.record)?);
        self.board.has(place)?;
        // Half of the clients of the line protocol say who they are.
        if self.face == Face::Line && self.who.is_multiple_of(2) {
            let declare = line::declare(&self.name);
            let is_done = line::is_done(&self.exchange(&declare)?.1).ok_or(Gone)?;
            assert!(is_done, "whoever has nothing may say who it is");
        }
        // A client that has a lock cares for it first, unless it has stopped.
        match self.held.as_ref().map(|held| held.plan) {
            Some(Plan::Renews(_)) => self.renew(),
            Some(Plan::Works) if self.dice.one_in(2) => self.renew(),
            _ => Ok(()),
        }
    }

    /// Goes on with the lock that it has.
    fn follow(&mut self, plan: Plan) -> Result<(), Gone> {
        let now = self.record.now();
        match plan {
            Plan::Works => {
                self.pause(5 * MS);
                self.release()
            }
            Plan::Renews(end) if now >= end => self.release(),
            Plan::Renews(_) => {
                let held = self.held.as_ref().expect("it has a lock");
                let third = held.lease * SECOND / 3;
                // Some notice at once that their server has gone, others when they renew.
                let server = self.dice.one_in(2).then_some(self.server);
                let time = 20 * MS + self.dice.below(third - 20 * MS);
                self.board.sleep(time, server);
                self.renew()
            }
            Plan::Stops => {
                let held = self.held.as_mut().expect("it has a lock");
                let left = held.until.saturating_sub(now);
                held.plan = Plan::Works;
                let more = self.dice.below(300 * MS);
                self.board.sleep(left + more, None);
                self.renew()
            }
            Plan::Releases => self.release(),
            Plan::HangsUp => {
                self.hang_up();
                Ok(())
            }
            Plan::Forgets => {
                let held = self.held.take().expect("it has a lock");
                self.forgotten.push(held.hold);
                Ok(())
            }
        }
    }

    /// Asks for a lock, in any way that the face has.
    fn acquire(&mut self) -> Result<(), Gone> {
        let key = self.choose();
        self.tally.asked += 1;
        let lease = match (self.face, self.role) {
            (Face::Distlockd, _) => DISTLOCKD_LEASE,
            (_, Role::Holds(_)) => 2,
            _ => *self.dice.one_of(&LEASES),
        };
        match self.face {
            Face::Line if self.dice.one_in(4) => self.acquire_in_two_phases(key, lease),
            Face::Line => {
                let request = line::acquire(key, self.timeout(), lease);
                if self.dice.one_in(32) {
                    return self.ask_and_leave(&request);
                }
                let (asked, answer) = self.exchange(&request)?;
                match line::granted(&answer) {
                    Some(told) => self.begin(key, lease, asked, asked, told, String::new()),
                    None => self.pause(5 * MS),
                }
                Ok(())
            }
            Face::Distlockd => {
                let (asked, answer) = self.exchange(&distlockd::acquire(key, &self.name))?;
                match distlockd::claim(&answer) {
                    Claim::Granted => {
                        self.begin(key, lease, asked, asked, unnamed(), String::new())
                    }
                    Claim::Busy | Claim::Draining => self.pause(5 * MS),
                }
                Ok(())
            }
            Face::Rest => self.attempt(key, lease),
        }
    }

    /// Any lock, or the one that it asks for until it is served.
    fn choose(&mut self) -> &'static Key {
        match (self.role, self.wanted) {
            (_, Some(key)) | (Role::Holds(key), _) => key,
            (Role::Roams { held, .. }, _) if self.dice.one_in(32) => self.dice.one_of(held),
            (Role::Roams { free, .. }, _) => {
                let key = self.dice.one_of(free);
                self.wanted = self.dice.one_in(16).then_some(key);
                key
            }
        }
    }

    /// How many seconds it waits for a lock. Whoever waits does nothing else, most likely until the server dies.
    fn timeout(&mut self) -> u64 {
        *self.dice.one_of(&[0, 0, 0, 0, 0, 0, 1, 2])
    }

    /// Its connection ends while it waits, or before it has heard that it waits no more.
    fn ask_and_leave(&mut self, request: &[u8]) -> Result<(), Gone> {
        let link = self.link.as_mut().expect("it is connected");
        link.ask(request)?;
        self.pause(5 * MS);
        self.hang_up();
        Ok(())
    }

    /// Enqueues, and waits for its turn a moment later.
    fn acquire_in_two_phases(&mut self, key: &'static Key, lease: u64) -> Result<(), Gone> {
        let (enqueued, answer) = self.exchange(&line::enqueue(key, lease))?;
        let is_queued = line::words(&answer)[..] == ["queued"];
        if !is_queued {
            match line::granted(&answer) {
                Some(told) => self.begin(key, lease, enqueued, enqueued, told, String::new()),
                None => return Ok(()),
            }
        }
        self.pause(5 * MS);
        let wait = line::wait(key, self.timeout());
        let (asked, answer) = self.exchange(&wait)?;
        if line::words(&answer)[..] == ["error_lease_expired"] {
            match is_queued {
                // Its turn came and went, and it was not told.
                true => self.pause(MS),
                false => self.refused(),
            }
            return Ok(());
        }
        match line::granted(&answer) {
            // Its turn may have come at any time since, and the lease begins anew with the wait.
            Some(told) if is_queued => {
                self.begin(key, lease, enqueued, asked, told, String::new());
            }
            Some(told) => {
                let held = self.held.as_ref().expect("it was told of it");
                assert_eq!(
                    told.token, held.token,
                    "a wait tells of the hold that is there"
                );
                self.lasts_until(asked + told.lasts);
            }
            None => assert!(is_queued, "a hold that was told of is there for its wait"),
        }
        Ok(())
    }

    /// Asks over HTTP, under the name of an attempt; again under the same, if its answer was lost.
    fn attempt(&mut self, key: &'static Key, lease: u64) -> Result<(), Gone> {
        if self.attempt.is_none() {
            let name = format!("attempt-{:016}", self.record.number());
            let wait_ms = self.timeout() * 1000 + self.dice.below(10);
            let asked = self.record.now();
            self.attempt = Some(Attempt {
                key,
                wait_ms,
                lease,
                name,
                asked,
            });
        }
        let attempt = self.attempt.as_ref().expect("set above");
        let (key, lease, first) = (attempt.key, attempt.lease, attempt.asked);
        let request = rest::acquire(key, attempt.wait_ms, lease, &self.name, &attempt.name);
        if self.dice.one_in(32) {
            return self.ask_and_leave(&request);
        }
        let attempt = self.attempt.as_ref().expect("set above");
        let attempt = attempt.name.clone();
        let (asked, answer) = self.exchange(&request)?;
        self.attempt = None;
        match rest::granted(&answer) {
            Some(told) => {
                self.begin(key, lease, first, asked, told, attempt);
            }
            None => self.pause(5 * MS),
        }
        Ok(())
    }

    /// It has a lock.
    fn begin(
        &mut self,
        key: &'static Key,
        lease: u64,
        asked: Ns,
        counted: Ns,
        told: Told,
        attempt: String,
    ) {
        let (hold, until) = (self.record.number(), counted + told.lasts);
        let Key {
            space,
            name: key_name,
            limit,
        } = *key;
        let grant = Grant {
            hold,
            space,
            key: key_name,
            limit,
            fence: told.fence,
            asked,
            until,
        };
        let now = self.record.note(self.who, What::Granted(grant));
        self.tally.granted += 1;
        self.wanted = None;
        let plan = match self.role {
            Role::Holds(_) => Plan::Renews(Ns::MAX),
            Role::Roams { .. } => self.plan(now),
        };
        let (token, server) = (told.token, self.server);
        self.held = Some(Held {
            hold,
            key,
            token,
            attempt,
            lease,
            until,
            server,
            plan,
        });
    }

    fn plan(&mut self, now: Ns) -> Plan {
        match (self.dice.below(128), self.face) {
            (0 | 1, _) => Plan::Renews(now + 200 * MS + self.dice.below(2 * SECOND)),
            (2, _) => Plan::Stops,
            (3..12, Face::Line) => Plan::HangsUp,
            // A client of distlockd that asks again has the same lock again.
            (12, Face::Line) => Plan::Forgets,
            (12, Face::Rest) => Plan::Forgets,
            _ => Plan::Works,
        }
    }

    fn renew(&mut self) -> Result<(), Gone> {
        let held = self.held.as_ref().expect("it has a lock");
        let (key, lease, token) = (held.key, held.lease, held.token.clone());
        let lasts = match self.face {
            Face::Line => {
                let (asked, answer) = self.exchange(&line::renew(key, &token, lease))?;
                let is_done = line::is_done(&answer).ok_or(Gone)?;
                is_done.then_some(asked + lease * SECOND)
            }
            Face::Distlockd => {
                let until = held.until;
                let (asked, answer) = self.exchange(&distlockd::acquire(key, &self.name))?;
                match distlockd::claim(&answer) {
                    Claim::Granted if self.record.now() < until => Some(asked + lease * SECOND),
                    Claim::Granted => {
                        // Whether it is the same hold, nobody says.
                        self.begin(key, lease, asked, asked, unnamed(), String::new());
                        return Ok(());
                    }
                    Claim::Busy => None,
                    Claim::Draining => {
                        self.pause(5 * MS);
                        return Ok(());
                    }
                }
            }
            Face::Rest if self.dice.one_in(3) => return self.repeat(),
            Face::Rest => {
                let (asked, answer) = self.exchange(&rest::renew(key, &token, lease))?;
                rest::renewed(&answer).map(|lasts| asked + lasts)
            }
        };
        match lasts {
            Some(until) => self.lasts_until(until),
            None => self.refused(),
        }
        Ok(())
    }

    /// Renews by asking again under the name of its attempt.
    fn repeat(&mut self) -> Result<(), Gone> {
        let held = self.held.as_ref().expect("it has a lock");
        let (key, lease, attempt, token) = (
            held.key,
            held.lease,
            held.attempt.clone(),
            held.token.clone(),
        );
        let request = rest::acquire(key, 0, lease, &self.name, &attempt);
        let (asked, answer) = self.exchange(&request)?;
        match rest::granted(&answer) {
            Some(told) if told.token == token => self.lasts_until(asked + told.lasts),
            Some(told) => {
                // The attempt was over, and has begun anew.
                self.refused();
                self.begin(key, lease, asked, asked, told, attempt);
            }
            None if rest::is_draining(&answer) => self.pause(5 * MS),
            None => self.refused(),
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), Gone> {
        let held = self.held.as_mut().expect("it has a lock");
        let (hold, key, token) = (held.hold, held.key, held.token.clone());
        let is_first = !matches!(held.plan, Plan::Releases);
        held.plan = Plan::Releases;
        if is_first {
            self.record.note(self.who, What::Ended { hold });
        }
        let is_done = match self.face {
            Face::Line => {
                let request = line::release(key, &token);
                line::is_done(&self.exchange(&request)?.1).ok_or(Gone)?
            }
            Face::Distlockd => {
                let request = distlockd::release(key, &self.name);
                distlockd::is_released(&self.exchange(&request)?.1)
            }
            Face::Rest => rest::is_done(&self.exchange(&rest::release(key, &token))?.1),
        };
        self.held = None;
        // A second one may find that the first was heard before its server died.
        if is_first && !is_done {
            self.record.note(self.who, What::Refused { hold });
        }
        Ok(())
    }

    /// Ends the connection, and with it what it has in the line protocol.
    fn hang_up(&mut self) {
        if let (Some(held), Face::Line) = (self.held.take(), self.face) {
            self.forgotten.push(held.hold);
        }
        if self.face == Face::Line {
            for hold in self.forgotten.drain(..) {
                self.record.note(self.who, What::Ended { hold });
            }
        }
        let Some(link) = self.link.take() else {
            return;
        };
        if self.dice.one_in(2) {
            link.finish();
        }
        // The same server is there, most likely.
        self.server -= 1;
    }

    fn lasts_until(&mut self, until: Ns) {
        let held = self.held.as_mut().expect("it has a lock");
        let hold = held.hold;
        held.until = until.max(held.until);
        self.tally.carried += usize::from(held.server != self.server);
        held.server = self.server;
        self.record.note(self.who, What::Renewed { hold, until });
    }

    /// It has lost its lock.
    fn refused(&mut self) {
        let hold = self.held.take().expect("it has a lock").hold;
        self.tally.refused += 1;
        self.record.note(self.who, What::Refused { hold });
    }

    fn pause(&mut self, bound: Ns) {
        let time = self.dice.below(bound);
        self.board.sleep(time, None);
    }

    fn exchange(&mut self, request: &[u8]) -> Result<(Ns, Vec<u8>), Gone> {
        let link = self.link.as_mut().expect("it is connected");
        let told = link.exchange(request)?;
        // A server that has lost the lead and started again knows nothing of locks.
        let stands_by = self.face == Face::Rest && rest::stands_by(&told.1);
        if stands_by { Err(Gone) } else { Ok(told) }
    }
}

/// What a client of distlockd is told of a grant, which is nothing else.
fn unnamed() -> Told {
    Told {
        token: String::new(),
        fence: None,
        lasts: DISTLOCKD_LEASE * SECOND,
    }
}
