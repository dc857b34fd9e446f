//! What may be asked of the lock table, as its judge sees it.

use super::{CLAIMANTS, Key, NAMES};
use dflockd::command::{Bound, Command, Realm, Token, Us};

/// One command, its key an index.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Act {
    Acquire {
        key: usize,
        limit: u32,
        wait: Us,
        lease: Option<Us>,
    },
    Enqueue {
        key: usize,
        limit: u32,
        lease: Option<Us>,
    },
    Wait {
        key: usize,
        wait: Us,
    },
    Release {
        key: usize,
        token: Token,
    },
    Renew {
        key: usize,
        token: Token,
        lease: Option<Us>,
    },
    /// The place of an owner's name, for this and the next two.
    Declare {
        name: usize,
    },
    Claim {
        key: usize,
        name: usize,
    },
    Yield {
        key: usize,
        name: usize,
    },
    Close,
    Drain,
    Tick {
        heard: Us,
    },
}

impl Act {
    /// Whether the answer may come later.
    pub fn can_wait(self) -> bool {
        matches!(
            self,
            Act::Acquire { wait: 1.., .. } | Act::Wait { wait: 1.., .. }
        )
    }

    /// The key that it is about.
    pub fn key(self) -> Option<usize> {
        match self {
            Act::Acquire { key, .. }
            | Act::Enqueue { key, .. }
            | Act::Wait { key, .. }
            | Act::Release { key, .. }
            | Act::Renew { key, .. }
            | Act::Claim { key, .. }
            | Act::Yield { key, .. } => Some(key),
            Act::Declare { .. } | Act::Close | Act::Drain | Act::Tick { .. } => None,
        }
    }

    /// The command that asks for it.
    pub fn command(self, keys: &[Key]) -> Command<'_> {
        let of = |key: usize| (keys[key].space, &keys[key].name[..]);
        match self {
            Act::Enqueue { key, limit, lease } => {
                let (space, name) = of(key);
                Command::Enqueue {
                    space,
                    key: name,
                    limit,
                    lease,
                }
            }
            Act::Wait { key, wait } => {
                let (space, key) = of(key);
                Command::Wait { space, key, wait }
            }
            Act::Acquire {
                key,
                limit,
                wait,
                lease,
            } => {
                let (space, name) = of(key);
                Command::Acquire {
                    space,
                    key: name,
                    limit,
                    wait,
                    lease,
                    owner: None,
                    bound: Bound::Session,
                }
            }
            Act::Release { key, token } => {
                let (space, key) = of(key);
                Command::Release { space, key, token }
            }
            Act::Renew { key, token, lease } => {
                let (space, key) = of(key);
                Command::Renew {
                    space,
                    key,
                    token,
                    lease,
                }
            }
            Act::Declare { name } => Command::Declare { owner: NAMES[name] },
            Act::Claim { key, name } => {
                let (space, key) = of(key);
                Command::Claim {
                    space,
                    key,
                    realm: Realm::Distlockd,
                    owner: CLAIMANTS[name],
                }
            }
            Act::Yield { key, name } => {
                let (space, key) = of(key);
                Command::Yield {
                    space,
                    key,
                    realm: Realm::Distlockd,
                    owner: CLAIMANTS[name],
                }
            }
            Act::Close => Command::Close,
            Act::Drain => Command::Drain,
            Act::Tick { heard } => Command::Tick { heard },
        }
    }
}
