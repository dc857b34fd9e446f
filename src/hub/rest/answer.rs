//! Answers of the REST face: from the reply of the lock table, or at once. Invariant: each request has one answer, and the
//! next request of its session is not begun before the kernel has an answer that tells of a grant.

use super::Hub;
use crate::command::{Command, Owner, Refusal, Reply, SECOND, SessionId, Space, State, Us};
use crate::hub::session::{Busy, Grant};
use crate::hub::status::Status;
use crate::wire::http::{
    self, Acquire, Answer, Asked, Clock, Exchange, Granted, JSON, Problem, lock, route,
};
use crate::wire::metrics;

/// How long a connection is not served after a wrong secret, and how many wrong ones it may send.
const PENALTY: Us = SECOND / 10;
const FAILURES_MAX: u8 = 5;
/// Clients in a deadlock that are named.
const CYCLE: usize = 16;

impl Hub {
    /// Writes the answer to the session's request, of which this is the reply.
    pub(in crate::hub) fn answer_exchange(&mut self, slot: u32, reply: Reply) {
        let exchange = self.rest(slot).exchange.take();
        let exchange = exchange.expect("a session with a reply has a request");
        match (&exchange.asked, reply) {
            (Ok(Asked::Acquire(asked)), reply) => self.acquired(slot, &exchange, asked, reply),
            (_, Reply::Released | Reply::Ended { .. }) => {
                let (named, client) = &exchange.named[0];
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
                let renews = self.renews(&exchange.name, asked.token.fence);
                let answer = Answer::Granted(Granted {
                    client: &exchange.named[0].1,
                    token: asked.token,
                    lease,
                    waited: 0,
                    renews,
                });
                self.say(slot, &exchange, &answer);
            }
            (_, Reply::Broken { holds: 0 }) => {
                let space = exchange.query.space.unwrap_or_default();
                self.refuse(slot, &exchange, &Problem::nothing_held(space));
            }
            (_, Reply::Broken { holds: count }) => {
                let space = exchange.query.space.unwrap_or_default();
                let key = self.locks.view_of(self.now, space, &exchange.name);
                let waiting = match key.map(|key| key.state) {
                    Some(State::Used { waiting, .. }) => waiting.into(),
                    _ => 0,
                };
                let holds = &exchange.named;
                self.say(
                    slot,
                    &exchange,
                    &Answer::Broken {
                        count,
                        holds,
                        waiting,
                    },
                );
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
        let timeout = match self.locks.opens_in(self.now) {
            0 => "timeout",
            _ => "quarantine",
        };
        let answer = match reply {
            Reply::Granted { token, lease } => {
                let space = asked.limit.map_or(Space::Lock, |_| Space::Semaphore);
                self.rest(slot).unsent = Some(Box::new(Grant {
                    space,
                    name: exchange.name.clone(),
                    token,
                }));
                // A repeat changes nothing of its hold but the lease.
                let renews = asked
                    .renews
                    .then(|| self.renews(&exchange.name, token.fence));
                Answer::Granted(Granted {
                    client,
                    token,
                    lease,
                    waited,
                    renews: renews.flatten(),
                })
            }
            Reply::Timeout => not(timeout, None),
            Reply::Kept { span } => not(timeout, Some(span)),
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
            Reply::Refused(Refusal::LimitMismatch) => {
                let problem = self.other_limit(&exchange.name);
                return self.refuse(slot, exchange, &problem);
            }
            reply => return self.refuse(slot, exchange, &problem_of(reply)),
        };
        self.say(slot, exchange, &answer);
    }

    /// For how long from now the server renews this hold, if it does.
    fn renews(&self, name: &[u8], fence: u64) -> Option<Us> {
        self.locks.hold_of(self.now, name, fence)?.ticket.renews
    }

    /// A semaphore is used with another limit than the request has.
    fn other_limit(&self, name: &[u8]) -> Problem {
        let key = self.locks.view_of(self.now, Space::Semaphore, name);
        let limit = key.expect("it is in use").limit;
        let why = format!("send the limit {limit}, or wait until nobody uses the semaphore");
        Problem::new("limit-mismatch", why)
    }

    /// The clients of the deadlock for which this session was refused, and what each waits for.
    fn cycle(&self, id: SessionId) -> Vec<(Vec<u8>, Vec<u8>)> {
        let edges = self.locks.knot_of(id).unwrap_or_default();
        let named = edges.iter().take(CYCLE).map(|edge| {
            let client = match &edge.owner {
                Owner::Session(id) => lock::client_at(*id),
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
    pub(super) fn refuse(&mut self, slot: u32, exchange: &Exchange, problem: &Problem) {
        self.give(slot, exchange, |exchange, clock, out| {
            http::write_problem(problem, exchange, clock, out);
        });
        if problem.status != 401 {
            return;
        }
        self.rest(slot).failures += 1;
        if self.sessions[slot].phase.is_open() && self.rest(slot).failures >= FAILURES_MAX {
            self.close(slot, true);
        }
        if !self.sessions[slot].phase.is_open() {
            return self.refusals.turn_away();
        }
        self.sessions[slot].busy = Busy::Penalty;
        self.set_deadline(slot, self.now.saturating_add(PENALTY));
    }

    /// Appends the answer to a request, which is over then.
    pub(super) fn give(
        &mut self,
        slot: u32,
        exchange: &Exchange,
        write: impl FnOnce(&Exchange, Clock, &mut Vec<u8>),
    ) {
        let clock = self.clock();
        let session = &mut self.sessions[slot];
        let waits = session.outlet.is_held_back() || route::tells_of_holds(exchange.route);
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
        if !waits {
            session.outlet.free_all();
        }
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
    pub(in crate::hub) fn give_status(&mut self, slot: u32, status: &Status) {
        let exchange = self.rest(slot).exchange.take();
        let exchange = exchange.expect("a status is asked for");
        self.give_json(slot, &exchange, &status.body);
    }

    /// Gives the metrics, with what the server has just handed in.
    pub(in crate::hub) fn give_metrics(&mut self, slot: u32) {
        let exchange = self.rest(slot).exchange.take();
        let exchange = exchange.expect("the metrics are asked for");
        let mut text = Vec::new();
        self.write_metrics(&mut text);
        self.give(slot, &exchange, |exchange, clock, out| {
            http::write_body(metrics::CONTENT_TYPE, &text, &[], exchange, clock, out);
        });
    }

    pub(super) fn give_json(&mut self, slot: u32, exchange: &Exchange, body: &[u8]) {
        self.give(slot, exchange, |exchange, clock, out| {
            http::write_body(JSON, body, &[], exchange, clock, out);
        });
    }

    /// The connection is gone. If its last answer tells of a grant and the kernel has not taken all of it, the grant goes
    /// to the next in the queue: true.
    pub(in crate::hub) fn take_back(&mut self, slot: u32) -> bool {
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
    pub(in crate::hub) fn sent(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if let Some(rest) = &mut session.rest {
            rest.unsent = None;
        }
        if let Busy::Telling = session.busy {
            session.busy = Busy::No;
            // The one from before has perhaps passed meanwhile, and did not apply.
            self.extend_deadline(slot);
            self.wake(slot);
            self.resume(slot);
        }
    }

    /// A request never came whole in its time: it is refused, and the session closes.
    pub(in crate::hub) fn refuse_late(&mut self, slot: u32) {
        let problem = Problem::new("request-timeout", "send the whole request sooner");
        let mut exchange = Exchange::unread(problem.clone());
        self.name_exchange(slot, &mut exchange);
        // No last byte of it was received.
        exchange.arrived = self.now;
        self.refuse(slot, &exchange, &problem);
    }

    fn clock(&self) -> Clock {
        Clock {
            now: self.now,
            wall_us: self.wall_us,
        }
    }
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
        Reply::Refused(Refusal::Error) => {
            ("not-held", "the lock is not held; its lease may be over")
        }
        _ => ("internal", "the server has answered what nobody asked"),
    };
    Problem::new(code, why)
}
