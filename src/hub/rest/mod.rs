//! The REST face in the hub: who is let in, and what a request asks for. `locks.rs` has the lock table carry it out, and
//! `answer.rs` gives the answer, at once or when a wait ends; the bytes of that are written in `wire::http`. Invariant: a
//! session of this face holds nothing. What it is granted is its client's from the start; the session only waits, and a
//! grant whose answer never left is taken back.

mod answer;
mod locks;

use super::Hub;
use super::agenda::{BYTES_A_UNIT, Work};
use super::listing::Listing;
use super::refusals::Refused;
use super::session::{Busy, Rest};
use super::status::Status;
use crate::command::SECOND;
use crate::wire::http::route::{self, Access};
use crate::wire::http::{self, Asked, Clock, Exchange, JSON, Method, Problem, Route, stored};
use crate::wire::text::write_number;

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Hub {
    /// The head of a request is here, and its client asks whether to send the body.
    pub(in crate::hub) fn interim(&mut self, slot: u32, need: usize) {
        if !self.may_send_body(slot) {
            return;
        }
        let session = &mut self.sessions[slot];
        if !session.told_to_go_on {
            session.told_to_go_on = true;
            http::write_interim(session.outlet.tail(&mut self.pool));
            self.mark_dirty(slot);
        }
        self.expect_bytes(slot, need, true);
    }

    /// The request of the session is not whole before its input has so many bytes.
    pub(in crate::hub) fn wait_for_bytes(&mut self, slot: u32, need: usize, begun: bool) {
        if self.may_send_body(slot) {
            self.expect_bytes(slot, need, begun);
        }
    }

    fn expect_bytes(&mut self, slot: u32, need: usize, begun: bool) {
        self.rest(slot).need = need;
        self.wait_for_more(slot, 0, begun);
    }

    /// Whether the body of the request may come, if its head is here. If not, the request is refused now: a body that is
    /// not to be read would only take up memory.
    fn may_send_body(&mut self, slot: u32) -> bool {
        let Some(mut exchange) = self.scratch.exchange.take() else {
            return true;
        };
        self.name_exchange(slot, &mut exchange);
        let Err(problem) = self.let_in(slot, &mut exchange) else {
            return true;
        };
        // The body may come all the same, and is no request.
        exchange.keeps_alive = false;
        self.sessions[slot].busy = Busy::Waiting;
        self.refuse(slot, &exchange, &problem);
        false
    }

    /// Carries a request out, or begins to. Returns what that cost beyond any request.
    pub(in crate::hub) fn exchange(&mut self, slot: u32) -> Work {
        let mut exchange = self.scratch.exchange.take().expect("it was just decoded");
        self.name_exchange(slot, &mut exchange);
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

    /// The request is here now, and has a name of its own if its client has given it none.
    fn name_exchange(&mut self, slot: u32, exchange: &mut Exchange) {
        exchange.arrived = self.rest(slot).heard;
        if exchange.id.is_empty() {
            self.exchanges += 1;
            let serial = self.sessions[slot].id.serial();
            write_number(serial, &mut exchange.id);
            exchange.id.push(b'-');
            write_number(self.exchanges, &mut exchange.id);
        }
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
                let text = self.health();
                self.give_json(slot, &exchange, &text);
            }
            Route::Ready if self.drain.is_some() => {
                let problem = Problem::new("draining", "the server is about to stop");
                self.refuse(slot, &exchange, &problem);
            }
            Route::Ready if self.locks.opens_in(self.now) > 0 => {
                let seconds = self.locks.opens_in(self.now).div_ceil(SECOND);
                let why = format!(
                    "leases from before the restart may not be over: nothing is granted for {seconds} s"
                );
                self.refuse(slot, &exchange, &Problem::new("quarantine", why));
            }
            Route::Ready => {
                let protection = self.protection.name();
                let text = format!("{{\"status\":\"ready\",\"protection\":\"{protection}\"}}");
                self.give_json(slot, &exchange, text.as_bytes());
            }
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
            Route::Page => return self.give_stored(slot, &exchange, write_page),
            Route::OpenApi => return self.give_stored(slot, &exchange, write_description),
            Route::Acquire | Route::Release | Route::Renew | Route::Server | Route::Unknown => {
                unreachable!("it has a body, a problem or only OPTIONS")
            }
        }
        0
    }

    /// Gives one of the two long texts, unless the client has it already. Returns what that cost.
    fn give_stored(
        &mut self,
        slot: u32,
        exchange: &Exchange,
        write: impl FnOnce(&Exchange, Clock, &mut Vec<u8>),
    ) -> Work {
        let before = self.sessions[slot].outlet.len();
        self.give(slot, exchange, write);
        let given = self.sessions[slot].outlet.len() - before;
        (given / BYTES_A_UNIT) as Work
    }

    /// The answer to `/health`: that there is one says that the loop turns.
    fn health(&self) -> Vec<u8> {
        let mut text = format!("{{\"status\":\"ok\",\"version\":\"{VERSION}\"").into_bytes();
        http::write_seconds(",\"uptime\":", self.now - self.born, &mut text);
        text.push(b'}');
        text
    }

    /// Checks whether the client may have this request carried out.
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
            return match self.refers_to() {
                Some(why) if route::needs_leader(exchange.route) => {
                    Err(Problem::new("standby", why))
                }
                _ => Ok(()),
            };
        }
        let peer = self.sessions[slot].peer;
        if knows || !has_secret && self.secrets.admin.is_none() {
            self.refusals.note(Refused::Break, peer);
            let why = match knows {
                true => "send the admin token",
                false => {
                    "only clients on this host (127.0.0.1 or ::1) may break locks, \
                     as the server has no --admin-token-file"
                }
            };
            return Err(Problem::new("admin-required", why));
        }
        if said.is_some() {
            self.refusals.note(Refused::Token, peer);
        }
        let why = "send the token in the header Authorization, as Bearer TOKEN";
        Err(Problem::new("unauthorized", why))
    }

    fn begin_status(&mut self, slot: u32, status: Status, exchange: Box<Exchange>) {
        self.rest(slot).exchange = Some(exchange);
        self.begin_listing(slot, Listing::Status(status));
    }

    pub(in crate::hub) fn rest(&mut self, slot: u32) -> &mut Rest {
        let rest = self.sessions[slot].rest.as_mut();
        rest.expect("it is a session of this face")
    }
}

fn write_page(exchange: &Exchange, clock: Clock, out: &mut Vec<u8>) {
    let more = [
        ("Content-Security-Policy", stored::PAGE_POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
    ];
    let page = stored::PAGE.as_bytes();
    http::write_body(
        "text/html; charset=utf-8",
        page,
        &more,
        exchange,
        clock,
        out,
    );
}

fn write_description(exchange: &Exchange, clock: Clock, out: &mut Vec<u8>) {
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
}
