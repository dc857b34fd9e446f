//! What requests of the REST face ask of the lock table. Invariant: a request ends or renews a hold only if it proves the
//! hold by its token, or names its client.

use super::Hub;
use crate::command::{
    Bound, Command, Renewal, Reply, SessionId, Space, Terms, TicketView, Token, Us,
};
use crate::hub::agenda::Work;
use crate::hub::session::Busy;
use crate::wire::http::{Acquire, Asked, Exchange, Problem, Query, Release, Renew, lock};

/// Holds that the answer to a DELETE names.
const BROKEN: usize = 1_000;

impl Hub {
    pub(super) fn acquire(
        &mut self,
        slot: u32,
        mut exchange: Box<Exchange>,
        mut asked: Acquire,
    ) -> Work {
        let session = &self.sessions[slot];
        if session.ended || session.hung_up {
            // Its client would never hear of the grant. What follows may be a release.
            asked.client.get_or_insert_default();
            exchange.asked = Ok(Asked::Acquire(asked));
            self.rest(slot).exchange = Some(exchange);
            self.answer(slot, Reply::Cancelled);
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

    pub(super) fn release(
        &mut self,
        slot: u32,
        mut exchange: Box<Exchange>,
        asked: Release,
    ) -> Work {
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
            exchange.named = vec![(0, asked.client.clone().unwrap_or_default())];
            self.ask(slot, exchange, cancel);
            return self.locks.take_work();
        };
        // What names the hold decides the answer. The attempt is ended in any case.
        match self.hold(&name, fence, asked.token, asked.client.as_deref()) {
            Err(problem) => self.refuse(slot, &exchange, &problem),
            Ok(hold) => {
                let (space, token) = (hold.space, hold.token);
                exchange.named = vec![(token.fence, hold.client.unwrap_or_default())];
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

    pub(super) fn renew(&mut self, slot: u32, mut exchange: Box<Exchange>, asked: Renew) -> Work {
        let fence = asked.fence.unwrap_or(asked.token.fence);
        let name = exchange.name.clone();
        match self.hold(&name, fence, Some(asked.token), asked.client.as_deref()) {
            Err(problem) => {
                if problem.code == "not-held" {
                    self.locks.note_failed_renewal();
                }
                self.refuse(slot, &exchange, &problem);
            }
            Ok(hold) => {
                let renew = Command::Renew {
                    space: hold.space,
                    key: &name,
                    token: hold.token,
                    // That of the grant may be above what is allowed since a restart.
                    lease: Some(
                        asked
                            .lease
                            .unwrap_or(hold.lease.min(self.scratch.http.max_timeout)),
                    ),
                    bound: Bound::Lease,
                };
                exchange.named = vec![(fence, hold.client.unwrap_or_default())];
                exchange.asked = Ok(Asked::Renew(asked));
                self.ask(slot, exchange, renew);
            }
        }
        self.locks.take_work()
    }

    /// An administrator ends the holds of a lock.
    pub(super) fn break_lock(&mut self, slot: u32, mut exchange: Box<Exchange>) -> Work {
        let Query { space, fence, .. } = exchange.query;
        let (space, name) = (space.unwrap_or_default(), exchange.name.clone());
        let named = |hold: TicketView| (hold.fence, lock::client_of(&hold).unwrap_or_default());
        exchange.named = match fence {
            // To look through the holds of a large semaphore for it would take a long turn.
            Some(fence) => {
                let hold = self.locks.hold_of(self.now, &name, fence);
                hold.map(|hold| named(hold.ticket)).into_iter().collect()
            }
            None => {
                let holds = self.locks.view_tickets(self.now, (space, &name), false, 0);
                holds.take(BROKEN).map(named).collect()
            }
        };
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
            let is_ours = fence > 0 && token.is_none_or(|token| token.fence > 0);
            let why = match is_ours {
                true => {
                    "the lock is not held with this lockId or renewalToken; its lease may be over"
                }
                false => {
                    "this server gives no such lockId or renewalToken; send it as it was answered"
                }
            };
            return Err(Problem::new("not-held", why));
        };
        let TicketView { owner, session, .. } = hold.ticket;
        if client.is_some() && owner != client {
            let why = "send the clientId of its acquire, or its renewalToken and no clientId";
            return Err(Problem::new("not-owner", why));
        }
        if token.is_none() && session.is_some() {
            let why = "a connection of the line protocol holds it: send its token as renewalToken";
            return Err(Problem::new("not-owner", why));
        }
        Ok(Found {
            space: hold.space,
            token: hold.token,
            lease: hold.lease,
            client: owner.map(<[u8]>::to_vec),
        })
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
