//! The REST face in the hub: who is let in, what a request leads to, and when it is answered. The bytes of answers are
//! written in `wire::http`. Invariant: a session of this face holds nothing. What it is granted is its client's from the
//! start; the session only waits, and a grant whose answer never left is taken back.

use super::Hub;
use super::agenda::Work;
use super::listing::Listing;
use super::refusals::Refused;
use super::session::Busy;
use super::status::Status;
use crate::command::{
    Bound, Command, Owner, Refusal, Renewal, Reply, SECOND, SessionId, Space, State, Terms,
    TicketView, Token, Us,
};
use crate::wire::http::route::{self, Access};
use crate::wire::http::{
    self, Acquire, Answer, Asked, Clock, Exchange, Method, Problem, Query, Release, Renew, Route,
    lock, stored,
};
use crate::wire::metrics;

/// How long a connection is not served after a wrong secret, and how many wrong ones it may send.
const PENALTY: Us = SECOND / 10;
const FAILURES_MAX: u8 = 5;
/// Clients in a deadlock that are named.
const CYCLE: usize = 16;
/// Holds that the answer to a DELETE names.
const BROKEN: usize = 1_000;

const JSON: &str = "application/json";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the hub knows of a session of this face.
#[derive(Default)]
pub(super) struct Rest {
    /// The request that is being carried out.
    pub exchange: Option<Box<Exchange>>,
    /// The input must have so many bytes before a request can be whole.
    pub need: usize,
    /// The grant whose answer the kernel has not taken yet.
    pub unsent: Option<Box<Grant>>,
    /// Wrong secrets that it has sent.
    failures: u8,
}

/// A grant, so that it can be taken back.
pub(super) struct Grant {
    space: Space,
    name: Vec<u8>,
    token: Token,
}

impl Hub {
    /// The head of a request is here, and its client asks whether to send the body.
    pub(super) fn interim(&mut self, slot: u32, need: usize) {
        let mut exchange = self.scratch.exchange.take().expect("it was just decoded");
        if let Err(problem) = self.let_in(slot, &mut exchange) {
            // The body may come all the same, and is no request.
            exchange.keeps_alive = false;
            self.sessions[slot].busy = Busy::Waiting;
            return self.refuse(slot, &exchange, &problem);
        }
        let session = &mut self.sessions[slot];
        if !session.told_to_go_on {
            session.told_to_go_on = true;
            http::write_interim(session.outlet.tail(&mut self.pool));
            self.mark_dirty(slot);
        }
        self.wait_for_bytes(slot, need, true);
    }

    /// The request of the session is not whole before its input has so many bytes.
    pub(super) fn wait_for_bytes(&mut self, slot: u32, need: usize, begun: bool) {
        self.rest(slot).need = need;
        self.wait_for_rest(slot, 0, begun);
    }

    /// Carries a request out, or begins to. Returns what that cost beyond any request.
    pub(super) fn exchange(&mut self, slot: u32) -> Work {
        let mut exchange = self.scratch.exchange.take().expect("it was just decoded");
        exchange.arrived = self.now;
        if exchange.id.is_empty() {
            self.exchanges += 1;
            let serial = self.sessions[slot].id.serial();
            exchange.id = format!("{serial:x}-{:x}", self.exchanges).into_bytes();
        }
        self.rest(slot).need = 0;
        if let Err(problem) = self.let_in(slot, &mut exchange) {
            self.refuse(slot, &exchange, &problem);
            return 0;
        }
        match std::mem::replace(&mut exchange.asked, Ok(Asked::Nothing)) {
            Err(problem) => self.refuse(slot, &exchange, &problem),
            Ok(_) if exchange.method == Method::Options => {
                self.give(slot, &exchange, http::write_no_content);
            }
            Ok(Asked::Acquire(asked)) => return self.acquire(slot, exchange, asked),
            Ok(Asked::Release(asked)) => return self.release(slot, exchange, asked),
            Ok(Asked::Renew(asked)) => return self.renew(slot, exchange, asked),
            Ok(Asked::Nothing) => return self.read(slot, exchange),
        }
        0
    }

    /// Carries out a request without a body.
    fn read(&mut self, slot: u32, exchange: Box<Exchange>) -> Work {
        match exchange.route {
            Route::Lock => return self.break_lock(slot, exchange),
            Route::Status => {
                self.begin_status(slot, Status::of(&exchange.name, &exchange.query), exchange)
            }
            Route::Locks => self.begin_status(slot, Status::page(&exchange.query), exchange),
            Route::Health => {
                let uptime = self.now - self.born;
                let mut text =
                    format!("{{\"status\":\"ok\",\"version\":\"{VERSION}\"").into_bytes();
                http::write_seconds(",\"uptime\":", uptime, &mut text);
                text.push(b'}');
                self.give_json(slot, &exchange, &text);
            }
            Route::Ready if self.drain.is_some() => {
                let problem = Problem::new("draining", "the server is about to stop");
                self.refuse(slot, &exchange, &problem);
            }
            Route::Ready => self.give_json(slot, &exchange, b"{\"status\":\"ready\"}"),
            Route::Stats => {
                let mut text = Vec::new();
                self.write_stats(&mut text);
                self.give_json(slot, &exchange, &text);
            }
            Route::Metrics => {
                // The server hands in its own counts before that.
                self.want_vitals();
                self.rest(slot).exchange = Some(exchange);
                self.begin_listing(slot, Listing::Metrics);
            }
            Route::Page => self.give(slot, &exchange, |exchange, clock, out| {
                let more = [
                    ("Content-Security-Policy", stored::PAGE_POLICY),
                    ("X-Content-Type-Options", "nosniff"),
                    ("Referrer-Policy", "no-referrer"),
                ];
                http::write_body(
                    "text/html; charset=utf-8",
                    stored::PAGE.as_bytes(),
                    &more,
                    exchange,
                    clock,
                    out,
                );
            }),
            Route::OpenApi => self.give(slot, &exchange, |exchange, clock, out| {
                let more = [
                    ("ETag", &stored::openapi_tag()[..]),
                    ("Cache-Control", "no-cache"),
                ];
                http::write_body(
                    JSON,
                    stored::OPENAPI.as_bytes(),
                    &more,
                    exchange,
                    clock,
                    out,
                );
            }),
            Route::Acquire | Route::Release | Route::Renew | Route::Server | Route::Unknown => {
                unreachable!("it has a body, a problem or only OPTIONS")
            }
        }
        0
    }

    /// Whether a request is carried out for the one who sends it.
    fn let_in(&mut self, slot: u32, exchange: &mut Exchange) -> Result<(), Problem> {
        let has_secret = self.secrets.client.is_some();
        http::admit(exchange, &self.scratch.http, has_secret)?;
        let access = match route::access(exchange.route, exchange.method) {
            Access::Metrics if self.scratch.http.metrics_public => Access::Public,
            access => access,
        };
        let said = exchange.credential.as_deref();
        let (is_client, is_admin) = self.secrets.judge(said.unwrap_or_default());
        let knows = is_client || is_admin;
        let may = match access {
            Access::Public => true,
            Access::Token | Access::Metrics => !has_secret || knows,
            Access::Admin => self.may_administer(slot, knows, is_admin),
        };
        if may {
            return Ok(());
        }
        let peer = self.sessions[slot].peer;
        if knows || said.is_none() && !has_secret && self.secrets.admin.is_none() {
            self.refusals.note(Refused::Break, peer);
            let why = "send the admin token; without any token only this host may break locks";
            return Err(Problem::new("admin-required", why));
        }
        if said.is_some() {
            self.refusals.note(Refused::Token, peer);
        }
        let why = "send the token in the header Authorization, as Bearer TOKEN";
        Err(Problem::new("unauthorized", why))
    }

    fn acquire(&mut self, slot: u32, mut exchange: Box<Exchange>, mut asked: Acquire) -> Work {
        let session = &self.sessions[slot];
        if session.ended || session.hung_up {
            // Its client would never hear of the grant.
            self.close(slot, false);
            return 0;
        }
        let id = session.id;
        let client = asked.client.take().unwrap_or_else(|| self.anonymous());
        let settings = &self.scratch.http;
        let terms = Terms {
            attempt: asked.attempt.as_deref(),
            keep: asked.keep,
            renewal: asked.renews.then_some(Renewal {
                every: settings.renewal_interval,
                within: settings.max_timeout,
            }),
            note: asked.metadata.as_deref(),
        };
        let command = Command::Acquire {
            space: asked.limit.map_or(Space::Lock, |_| Space::Semaphore),
            key: &exchange.name,
            limit: asked.limit.unwrap_or(1),
            wait: asked.wait,
            lease: Some(asked.lease),
            owner: Some(&client),
            bound: Bound::Lease,
            terms: Some(&terms),
        };
        self.locks.apply(self.now, id, command, &mut self.outbox);
        // The table has the metadata now.
        (asked.client, asked.metadata) = (Some(client), None);
        exchange.asked = Ok(Asked::Acquire(asked));
        self.wait_for_reply(slot, exchange);
        let session = &self.sessions[slot];
        if session.waits() && (session.ended || session.hung_up) {
            self.close(slot, true);
        }
        self.locks.take_work()
    }

    fn release(&mut self, slot: u32, mut exchange: Box<Exchange>, asked: Release) -> Work {
        let fence = asked.fence.or(asked.token.map(|token| token.fence));
        let attempt = asked.client.as_deref().zip(asked.attempt.as_deref());
        let cancel = |name| {
            attempt.map(|(owner, attempt)| Command::Cancel {
                key: name,
                owner,
                attempt,
            })
        };
        let name = exchange.name.clone();
        let Some(fence) = fence else {
            let cancel = cancel(&name).expect("a release names a hold or an attempt");
            exchange.ended = vec![(0, asked.client.clone().unwrap_or_default())];
            self.ask(slot, exchange, cancel);
            return self.locks.take_work();
        };
        // What names the hold decides the answer. The attempt is ended in any case.
        match self.hold(&name, fence, asked.token, asked.client.as_deref()) {
            Err(problem) => self.refuse(slot, &exchange, &problem),
            Ok(hold) => {
                let (space, token) = (hold.space, hold.token);
                exchange.ended = vec![(token.fence, hold.client.unwrap_or_default())];
                let release = Command::Release {
                    space,
                    key: &name,
                    token,
                };
                self.ask(slot, exchange, release);
            }
        }
        if let Some(cancel) = cancel(&name) {
            self.locks
                .apply(self.now, SessionId::NOBODY, cancel, &mut self.outbox);
            self.route();
        }
        self.locks.take_work()
    }

    fn renew(&mut self, slot: u32, mut exchange: Box<Exchange>, asked: Renew) -> Work {
        let fence = asked.fence.unwrap_or(asked.token.fence);
        let name = exchange.name.clone();
        match self.hold(&name, fence, Some(asked.token), asked.client.as_deref()) {
            Err(problem) => {
                self.locks.note_failed_renewal();
                self.refuse(slot, &exchange, &problem);
            }
            Ok(hold) => {
                let renew = Command::Renew {
                    space: hold.space,
                    key: &name,
                    token: hold.token,
                    lease: Some(asked.lease.unwrap_or(hold.lease)),
                };
                exchange.ended = vec![(fence, hold.client.unwrap_or_default())];
                exchange.asked = Ok(Asked::Renew(asked));
                self.ask(slot, exchange, renew);
            }
        }
        self.locks.take_work()
    }

    /// An administrator ends the holds of a lock.
    fn break_lock(&mut self, slot: u32, mut exchange: Box<Exchange>) -> Work {
        let Query { space, fence, .. } = exchange.query;
        let (space, name) = (space.unwrap_or_default(), exchange.name.clone());
        let holds = self.locks.view_tickets(self.now, (space, &name), false, 0);
        let holds = holds.filter(|hold| fence.is_none_or(|fence| hold.fence == fence));
        let named = |hold: TicketView| (hold.fence, lock::client_of(&hold).unwrap_or_default());
        exchange.ended = holds.take(BROKEN).map(named).collect();
        self.sessions[slot].busy = Busy::Working;
        let breaks = Command::Break {
            space,
            key: &name,
            fence,
        };
        self.ask(slot, exchange, breaks);
        if let Busy::Working = self.sessions[slot].busy {
            self.note_breaker(slot);
        }
        self.locks.take_work()
    }

    /// Has the lock table carry a command out for this request.
    fn ask(&mut self, slot: u32, exchange: Box<Exchange>, command: Command) {
        let id = self.sessions[slot].id;
        self.locks.apply(self.now, id, command, &mut self.outbox);
        self.wait_for_reply(slot, exchange);
    }

    /// The table knows of the request: its reply may have come already, or comes later.
    fn wait_for_reply(&mut self, slot: u32, exchange: Box<Exchange>) {
        self.rest(slot).exchange = Some(exchange);
        self.route();
    }

    /// The hold that a request names, if the request may end or renew it.
    fn hold(
        &self,
        name: &[u8],
        fence: u64,
        token: Option<Token>,
        client: Option<&[u8]>,
    ) -> Result<Found, Problem> {
        let held = self.locks.hold_of(self.now, name, fence);
        let held = held.filter(|hold| token.is_none_or(|token| token == hold.token));
        let Some(hold) = held else {
            let why =
                "the lock is not held with this lockId or renewalToken; its lease may be over";
            return Err(Problem::new("not-held", why));
        };
        if client.is_some() && hold.owner != client {
            let why = "the hold is another client's";
            return Err(Problem::new("not-owner", why));
        }
        Ok(Found {
            space: hold.space,
            token: hold.token,
            lease: hold.lease,
            client: hold.owner.map(<[u8]>::to_vec),
        })
    }

    /// Writes the answer to the session's request, of which this is the reply.
    pub(super) fn answer_exchange(&mut self, slot: u32, reply: Reply) {
        let exchange = self.rest(slot).exchange.take();
        let exchange = exchange.expect("a session with a reply has a request");
        match (&exchange.asked, reply) {
            (Ok(Asked::Acquire(asked)), reply) => self.acquired(slot, &exchange, asked, reply),
            (_, Reply::Released | Reply::Ended { .. }) => {
                let (named, client) = &exchange.ended[0];
                let fence = match reply {
                    Reply::Ended { fence } => fence,
                    _ => *named,
                };
                let answer = Answer::Released {
                    client: (!client.is_empty()).then_some(&client[..]),
                    fence: (fence > 0).then_some(fence),
                };
                self.say(slot, &exchange, &answer);
            }
            (Ok(Asked::Renew(asked)), Reply::Renewed { lease }) => {
                let hold = self
                    .locks
                    .hold_of(self.now, &exchange.name, asked.token.fence);
                let renews = hold.and_then(|hold| hold.renews);
                let answer = Answer::Granted {
                    client: &exchange.ended[0].1,
                    token: asked.token,
                    lease,
                    waited: 0,
                    renews,
                };
                self.say(slot, &exchange, &answer);
            }
            (_, Reply::Broken { holds: 0 }) => {
                self.refuse(slot, &exchange, &Problem::nothing_held());
            }
            (_, Reply::Broken { .. }) => {
                let space = exchange.query.space.unwrap_or_default();
                let key = self.locks.view_of(self.now, space, &exchange.name);
                let waiting = match key.map(|key| key.state) {
                    Some(State::Used { waiting, .. }) => waiting.into(),
                    _ => 0,
                };
                let holds = &exchange.ended;
                self.say(slot, &exchange, &Answer::Broken { holds, waiting });
            }
            (_, reply) => self.refuse(slot, &exchange, &problem_of(reply)),
        }
    }

    fn acquired(&mut self, slot: u32, exchange: &Exchange, asked: &Acquire, reply: Reply) {
        let client = asked.client.as_deref().expect("the hub has named it");
        let waited = self.now - exchange.arrived;
        let not = |reason, kept| Answer::NotGranted {
            client,
            waited,
            reason,
            kept,
        };
        let cycle;
        let answer = match reply {
            Reply::Granted { token, lease } => {
                let space = asked.limit.map_or(Space::Lock, |_| Space::Semaphore);
                self.rest(slot).unsent = Some(Box::new(Grant {
                    space,
                    name: exchange.name.clone(),
                    token,
                }));
                let max_timeout = self.scratch.http.max_timeout;
                Answer::Granted {
                    client,
                    token,
                    lease,
                    waited,
                    renews: asked.renews.then_some(max_timeout.max(lease)),
                }
            }
            Reply::Timeout => not("timeout", None),
            Reply::Kept { span } => not("timeout", Some(span)),
            Reply::Superseded => not("superseded", None),
            Reply::Cancelled => not("cancelled", None),
            Reply::Refused(Refusal::Deadlock) => {
                cycle = self.cycle(self.sessions[slot].id);
                Answer::Deadlock {
                    client,
                    waited,
                    cycle: &cycle,
                }
            }
            reply => return self.refuse(slot, exchange, &problem_of(reply)),
        };
        self.say(slot, exchange, &answer);
    }

    /// The clients of the deadlock for which this session was refused, and what each waits for.
    fn cycle(&self, id: SessionId) -> Vec<(Vec<u8>, Vec<u8>)> {
        let edges = self.locks.knot_of(id).unwrap_or_default();
        let named = edges.iter().take(CYCLE).map(|edge| {
            let client = match &edge.owner {
                Owner::Session(id) => format!("conn-{}", id.serial()).into_bytes(),
                Owner::Name(name) => name.clone(),
            };
            (client, edge.key.clone())
        });
        named.collect()
    }

    fn say(&mut self, slot: u32, exchange: &Exchange, answer: &Answer) {
        self.give(slot, exchange, |exchange, clock, out| {
            http::write(answer, exchange, clock, out);
        });
    }

    /// Answers with a problem. After a wrong secret the session is not served for a moment, so that guessing takes time.
    fn refuse(&mut self, slot: u32, exchange: &Exchange, problem: &Problem) {
        self.give(slot, exchange, |exchange, clock, out| {
            http::write_problem(problem, Some(exchange), clock, out);
        });
        if problem.status != 401 || !self.sessions[slot].phase.is_open() {
            return;
        }
        self.rest(slot).failures += 1;
        if self.rest(slot).failures >= FAILURES_MAX {
            return self.close(slot, true);
        }
        self.sessions[slot].busy = Busy::Penalty;
        self.set_deadline(slot, self.now.saturating_add(PENALTY));
    }

    /// Appends the answer to a request, which is over then.
    fn give(
        &mut self,
        slot: u32,
        exchange: &Exchange,
        write: impl FnOnce(&Exchange, Clock, &mut Vec<u8>),
    ) {
        let clock = self.clock();
        let session = &mut self.sessions[slot];
        let out = session.outlet.tail(&mut self.pool);
        let begin = out.len();
        write(exchange, clock, out);
        let status = http::status_of(&out[begin..]);
        let waited = match exchange.asked {
            Ok(Asked::Acquire(_)) => 0,
            _ => self.now.saturating_sub(exchange.arrived),
        };
        self.count_answer(exchange.route, exchange.method, status, waited);
        self.answered(slot);
        let session = &mut self.sessions[slot];
        if !session.phase.is_open() {
            return;
        }
        if !exchange.keeps_alive {
            return self.close(slot, true);
        }
        if self.rest(slot).unsent.is_some() {
            // Until the kernel has the answer, the grant can be taken back, and nothing else is to follow it.
            self.sessions[slot].busy = Busy::Telling;
        }
    }

    /// Gives the answer that was put together in slices.
    pub(super) fn give_status(&mut self, slot: u32, status: &Status) {
        let exchange = self.rest(slot).exchange.take();
        let exchange = exchange.expect("a status is asked for");
        self.give_json(slot, &exchange, &status.body);
    }

    /// Gives the metrics, with what the server has just handed in.
    pub(super) fn give_metrics(&mut self, slot: u32) {
        let exchange = self.rest(slot).exchange.take();
        let exchange = exchange.expect("the metrics are asked for");
        let mut text = Vec::new();
        self.write_metrics(&mut text);
        self.give(slot, &exchange, |exchange, clock, out| {
            http::write_body(metrics::CONTENT_TYPE, &text, &[], exchange, clock, out);
        });
    }

    fn give_json(&mut self, slot: u32, exchange: &Exchange, body: &[u8]) {
        self.give(slot, exchange, |exchange, clock, out| {
            http::write_body(JSON, body, &[], exchange, clock, out);
        });
    }

    fn begin_status(&mut self, slot: u32, status: Status, exchange: Box<Exchange>) {
        self.rest(slot).exchange = Some(exchange);
        self.begin_listing(slot, Listing::Status(status));
    }

    /// The connection is gone. If its last answer tells of a grant and the kernel has not taken all of it, the grant goes
    /// to the next in the queue: true.
    pub(super) fn take_back(&mut self, slot: u32) -> bool {
        let Some(rest) = &mut self.sessions[slot].rest else {
            return false;
        };
        let Some(grant) = rest.unsent.take() else {
            return false;
        };
        let release = Command::Release {
            space: grant.space,
            key: &grant.name,
            token: grant.token,
        };
        self.locks
            .apply(self.now, SessionId::NOBODY, release, &mut self.outbox);
        true
    }

    /// The kernel has taken all of the session's output.
    pub(super) fn sent(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if let Some(rest) = &mut session.rest {
            rest.unsent = None;
        }
        if let Busy::Telling = session.busy {
            session.busy = Busy::No;
            self.wake(slot);
            self.resume(slot);
        }
    }

    /// The answer to a request that never came whole in its time.
    pub(super) fn write_too_slow(&mut self, slot: u32) {
        let clock = self.clock();
        let problem = Problem::new("request-timeout", "send the whole request sooner");
        let out = self.sessions[slot].outlet.tail(&mut self.pool);
        http::write_problem(&problem, None, clock, out);
    }

    pub(super) fn rest(&mut self, slot: u32) -> &mut Rest {
        let rest = self.sessions[slot].rest.as_mut();
        rest.expect("it is a session of this face")
    }

    fn clock(&self) -> Clock {
        Clock {
            now: self.now,
            wall_us: self.wall_us,
        }
    }

    /// A name for a client that has sent none; nobody else has it.
    fn anonymous(&mut self) -> Vec<u8> {
        self.exchanges += 1;
        let name = self.locks.unique(self.exchanges);
        format!("anon-{name:016x}").into_bytes()
    }
}

/// A hold that a request names.
struct Found {
    space: Space,
    token: Token,
    lease: Us,
    client: Option<Vec<u8>>,
}

/// Why the lock table has not carried a request out.
fn problem_of(reply: Reply) -> Problem {
    let (code, why) = match reply {
        Reply::Refused(Refusal::Draining) => ("draining", "the server is about to stop; try again"),
        Reply::Refused(Refusal::MaxLocks) => {
            ("max-locks", "as many names are used as --max-locks allows")
        }
        Reply::Refused(Refusal::MaxWaiters) => (
            "max-waiters",
            "as many wait for the lock as --max-waiters allows",
        ),
        Reply::Refused(Refusal::LimitMismatch) => (
            "limit-mismatch",
            "others use the lock with another limit now",
        ),
        Reply::Refused(Refusal::Error) => {
            ("not-held", "the lock is not held; its lease may be over")
        }
        _ => ("internal", "the server has answered what nobody asked"),
    };
    Problem::new(code, why)
}
