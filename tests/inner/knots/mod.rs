//! Deadlocks, through the one door of the lock table: all small graphs against a judge, and the large and the odd ones
//! by name. Random ones, with leases and closes, are in locks_sim; what clients say and hear, in the dialogues.

mod attempts;
mod graphs;
mod leases;
mod odd;
mod owners;

use std::collections::BTreeSet;

use crate::harness::{apply, settings};
use dflockd::command::{
    Bound, Command, Notice, Owner, Refusal, Reply, SECOND, SessionId, Space, Token, Us,
};
use dflockd::facts::Outbox;
use dflockd::locks::{Locks, Settings};

/// Longer than any of these tests.
const AGES: Us = 1 << 60;

const DEADLOCK: Reply = Reply::Refused(Refusal::Deadlock);

/// A lock table, its clock, and short words for both.
struct Table {
    locks: Locks,
    now: Us,
    out: Outbox,
}

impl Table {
    fn new() -> Table {
        Table::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Table {
        let mut settings = Settings {
            max_locks: 10_000,
            ..settings().locks
        };
        change(&mut settings);
        Table {
            locks: Locks::new(settings),
            now: 1000 * SECOND,
            out: Outbox::default(),
        }
    }

    fn ask(&mut self, from: SessionId, command: Command) {
        let out = apply(&mut self.locks, self.now, from, command);
        self.out.replies.extend(out.replies);
        self.out.notices.extend(out.notices);
    }

    /// What was answered since this was asked last.
    fn heard(&mut self) -> Vec<(SessionId, Reply)> {
        self.out.replies.drain(..).collect()
    }

    /// The notices that came since this was asked last.
    fn noticed(&mut self) -> Vec<(SessionId, Notice)> {
        self.out.notices.drain(..).collect()
    }

    /// What this one request was answered at once; None if it waits, and nobody else heard anything.
    #[track_caller]
    fn answer(&mut self, from: SessionId, command: Command) -> Option<Reply> {
        self.ask(from, command);
        self.only_reply(from)
    }

    /// The reply to this session, if it has come. Nobody else heard anything.
    #[track_caller]
    fn only_reply(&mut self, from: SessionId) -> Option<Reply> {
        let reply = self.out.replies.pop_front();
        assert!(self.out.replies.is_empty(), "{:?}", self.out);
        reply.map(|(id, reply)| {
            assert_eq!(id, from);
            reply
        })
    }

    /// Takes a slot that is free.
    #[track_caller]
    fn takes(&mut self, from: SessionId, key: &str) -> Token {
        self.takes_slot(from, key, 0)
    }

    /// Takes a slot of a semaphore, or with 0 a lock.
    #[track_caller]
    fn takes_slot(&mut self, from: SessionId, key: &str, limit: u32) -> Token {
        match self.answer(from, acquire(key, limit, 0)) {
            Some(Reply::Granted { token, .. }) => token,
            other => panic!("{other:?}"),
        }
    }

    /// Begins to wait, or is refused, for a lock.
    #[track_caller]
    fn waits(&mut self, from: SessionId, key: &str) -> Option<Reply> {
        self.answer(from, acquire(key, 0, AGES))
    }

    #[track_caller]
    fn is(&mut self, from: SessionId, owner: &str) {
        let owner = owner.as_bytes();
        let reply = self.answer(from, Command::Declare { owner });
        assert_eq!(reply, Some(Reply::Done));
    }

    #[track_caller]
    fn releases(&mut self, from: SessionId, key: &str, token: Token) -> Vec<(SessionId, Reply)> {
        self.ask(from, release(key, 0, token));
        let mut heard = self.heard();
        assert_eq!(heard.pop(), Some((from, Reply::Released)));
        heard
    }

    /// So much time passes, and all work that was put off is done.
    fn pass(&mut self, span: Us) -> Vec<(SessionId, Reply)> {
        self.now += span;
        loop {
            self.tick();
            if self.locks.deadline().is_none_or(|due| due > self.now) {
                break self.heard();
            }
        }
    }

    fn tick(&mut self) {
        self.ask(SessionId::NOBODY, Command::Tick { heard: self.now });
    }
}

/// Sessions 0, 1, 2 and so on.
fn session(n: usize) -> SessionId {
    SessionId::new(n as u64 + 1, n as u32)
}

/// A slot of a semaphore, or with 0 a lock.
fn acquire(key: &str, limit: u32, wait: Us) -> Command<'_> {
    Command::Acquire {
        space: space(limit),
        key: key.as_bytes(),
        limit: limit.max(1),
        wait,
        lease: Some(AGES),
        owner: None,
        bound: Bound::Session,
        terms: None,
    }
}

fn space(limit: u32) -> Space {
    if limit == 0 {
        Space::Lock
    } else {
        Space::Semaphore
    }
}

fn enqueue(key: &str, limit: u32) -> Command<'_> {
    Command::Enqueue {
        space: space(limit),
        key: key.as_bytes(),
        limit: limit.max(1),
        lease: Some(AGES),
    }
}

fn wait(key: &str, wait: Us) -> Command<'_> {
    Command::Wait {
        space: Space::Lock,
        key: key.as_bytes(),
        wait,
    }
}

fn release(key: &str, limit: u32, token: Token) -> Command<'_> {
    Command::Release {
        space: space(limit),
        key: key.as_bytes(),
        token,
    }
}

fn renew(key: &str, token: Token) -> Command<'_> {
    Command::Renew {
        space: Space::Lock,
        key: key.as_bytes(),
        token,
        lease: Some(AGES),
        bound: Bound::Session,
    }
}

#[track_caller]
fn is_granted(heard: &[(SessionId, Reply)], to: SessionId) -> Token {
    match heard {
        [(id, Reply::Granted { token, .. })] if *id == to => *token,
        other => panic!("{other:?}"),
    }
}
