//! A lane, which locks and releases over and over, and a key with its holder and its waiters as the bench knows them.
//! `load` drives them. Invariant: a lane has at most one request under way.

use std::collections::VecDeque;

use dflockd::command::{Token, Us};

use super::plan::{Keys, Plan};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Rest,
    Asking,
    Holding,
    Releasing,
    Over,
}

pub struct Lane {
    pub step: Step,
    pub peer: usize,
    pub key: usize,
    /// The first of its own keys.
    pub first: usize,
    pub left: u64,
    /// The token to release.
    pub token: Token,
    pub began: Us,
    /// The number of its acquire, and the highest number that was answered when the acquire was sent.
    pub number: u64,
    pub known: u64,
}

pub struct Key {
    pub name: Vec<u8>,
    /// The lane that holds it, and the earliest end of its lease.
    pub holder: Option<(u32, Us)>,
    pub token: Token,
    pub fence: u64,
    /// Numbers and lanes of acquires under way, in the order in which they were sent.
    pub waiting: VecDeque<(u64, u32)>,
}

impl Lane {
    pub fn new(at: usize, plan: &Plan) -> Lane {
        let first = match plan.keys {
            Keys::Own => at,
            Keys::Several(each) => at * each,
            Keys::Any(_) => 0,
            Keys::Pair => at / 2,
        };
        Lane {
            step: Step::Rest,
            peer: at / plan.lanes,
            key: first,
            first,
            left: plan.rounds,
            token: Token::default(),
            began: 0,
            number: 0,
            known: 0,
        }
    }
}

impl Key {
    pub fn new(at: usize, plan: &Plan) -> Key {
        Key {
            name: format!("{}:{at}", plan.prefix).into_bytes(),
            holder: None,
            token: Token::default(),
            fence: 0,
            waiting: VecDeque::new(),
        }
    }
}
