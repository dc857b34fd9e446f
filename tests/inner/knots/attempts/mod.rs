//! Attempts: requests under a secret name that are repeated, keep their places in a queue, are ended by that name, and
//! whose holds renew themselves.

mod ends;
mod places;
mod renewals;
mod repeats;

use super::leases::token;
use super::*;
use dflockd::command::{Renewal, Terms, TicketView};

/// To the end of an attempt that held nothing.
const NO_HOLD: Reply = Reply::Ended { fence: 0 };
const ERROR: Reply = Reply::Refused(Refusal::Error);

/// A request of one owner for one key, under a name.
#[derive(Clone, Copy)]
struct Ask<'a> {
    owner: &'a str,
    attempt: &'a str,
    key: &'a str,
    /// 0 asks for a lock.
    limit: u32,
    wait: Us,
    lease: Us,
    keep: Us,
    renewal: Option<Renewal>,
    note: Option<&'a str>,
}

/// Owner x, attempt "1", lock k, a lease of 10 s.
fn ask() -> Ask<'static> {
    Ask {
        owner: "x",
        attempt: "1",
        key: "k",
        limit: 0,
        wait: 0,
        lease: 10 * SECOND,
        keep: 0,
        renewal: None,
        note: None,
    }
}

/// The same, for up to a minute.
fn ask_and_wait() -> Ask<'static> {
    Ask {
        wait: 60 * SECOND,
        ..ask()
    }
}

impl Table {
    /// Sends the request. What others hear stays in the outbox.
    fn sends(&mut self, from: SessionId, ask: Ask) {
        let terms = Terms {
            attempt: Some(ask.attempt.as_bytes()),
            keep: ask.keep,
            renewal: ask.renewal,
            note: ask.note.map(str::as_bytes),
        };
        self.ask(
            from,
            Command::Acquire {
                space: space(ask.limit),
                key: ask.key.as_bytes(),
                limit: ask.limit.max(1),
                wait: ask.wait,
                lease: Some(ask.lease),
                owner: Some(ask.owner.as_bytes()),
                bound: Bound::Lease,
                terms: Some(&terms),
            },
        );
        self.locks.check();
    }

    /// Sends the request. Nobody but `from` hears of it.
    #[track_caller]
    fn asks(&mut self, from: SessionId, ask: Ask) -> Option<Reply> {
        self.sends(from, ask);
        self.only_reply(from)
    }

    #[track_caller]
    fn cancels(&mut self, from: SessionId, ask: Ask) -> Vec<(SessionId, Reply)> {
        let Ask {
            key,
            owner,
            attempt,
            ..
        } = ask;
        self.ask(
            from,
            Command::Cancel {
                key: key.as_bytes(),
                owner: owner.as_bytes(),
                attempt: attempt.as_bytes(),
            },
        );
        self.locks.check();
        self.heard()
    }

    /// The holds of a key and its queue.
    fn views(&self, key: &str, limit: u32) -> (Vec<TicketView<'_>>, Vec<TicketView<'_>>) {
        let of = (space(limit), key.as_bytes());
        let tickets = |waiting| self.locks.view_tickets(self.now, of, waiting, 0).collect();
        (tickets(false), tickets(true))
    }

    /// So much time passes for a server that is never late: a tick each second, and one just before the end.
    fn lives(&mut self, span: Us) {
        for _ in 0..span / SECOND {
            self.pass(SECOND - 1);
            self.pass(1);
        }
        self.pass(span % SECOND);
        self.locks.check();
    }

    /// Takes all slots of the key.
    fn fills(&mut self, from: SessionId, limit: u32) -> Vec<Token> {
        (0..limit.max(1))
            .map(|_| self.takes_slot(from, "k", limit))
            .collect()
    }

    /// The one hold that there is lasts so long, and no longer.
    #[track_caller]
    fn is_held_for(&mut self, span: Us) {
        self.lives(span - 1);
        assert_eq!(self.held(), 1);
        self.pass(1);
        assert_eq!(self.held(), 0);
    }

    fn held(&self) -> u64 {
        self.locks.counts().held
    }
}

/// What was said within one turn, by session.
fn in_order(mut heard: Vec<(SessionId, Reply)>) -> Vec<(SessionId, Reply)> {
    heard.sort_by_key(|heard| heard.0);
    heard
}

fn granted(lease: Us, heard: &[(SessionId, Reply)], to: SessionId) -> Token {
    let token = is_granted(heard, to);
    assert_eq!(heard[0].1, Reply::Granted { token, lease });
    token
}
