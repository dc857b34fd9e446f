//! What may be asked of the lock table, as its judge sees it.

use super::{CLAIMANTS, Key, NAMES};
use dflockd::command::{Bound, Command, Realm, Terms, Token, Us};

/// One command, its key an index.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Act {
    Acquire {
        key: usize,
        limit: u32,
        wait: Us,
        lease: Option<Us>,
    },
    /// The same for an owner, or for nobody: the hold is bound by its lease, and the session only asks.
    AcquireFor {
        key: usize,
        limit: u32,
        wait: Us,
        lease: Option<Us>,
        name: Option<usize>,
        terms: Terms<'static>,
    },
    /// Of an attempt of the owner of this name, in both spaces.
    Cancel {
        key: usize,
        name: usize,
        attempt: &'static [u8],
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
        bound: Bound,
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
    Detach {
        key: usize,
        token: Token,
    },
    /// Of all holds, or of the one with this fence.
    Break {
        key: usize,
        fence: Option<u64>,
    },
    /// A hold whose client cannot have heard of it is given back, by nobody.
    TakeBack {
        key: usize,
        token: Token,
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
        self.can_queue() || matches!(self, Act::Break { fence: None, .. })
    }

    /// Whether it may have to wait for somebody else.
    pub fn can_queue(self) -> bool {
        matches!(
            self,
            Act::Acquire { wait: 1.., .. }
                | Act::AcquireFor { wait: 1.., .. }
                | Act::Wait { wait: 1.., .. }
        )
    }

    /// Whether a session asks for it, and is answered.
    pub(super) fn is_asked(self) -> bool {
        !matches!(
            self,
            Act::Close | Act::Drain | Act::Tick { .. } | Act::TakeBack { .. }
        )
    }

    /// The key that it is about.
    pub fn key(self) -> Option<usize> {
        match self {
            Act::Acquire { key, .. }
            | Act::AcquireFor { key, .. }
            | Act::Cancel { key, .. }
            | Act::Detach { key, .. }
            | Act::Break { key, .. }
            | Act::Enqueue { key, .. }
            | Act::Wait { key, .. }
            | Act::Release { key, .. }
            | Act::Renew { key, .. }
            | Act::Claim { key, .. }
            | Act::Yield { key, .. }
            | Act::TakeBack { key, .. } => Some(key),
            Act::Declare { .. } | Act::Close | Act::Drain | Act::Tick { .. } => None,
        }
    }

    /// The command that asks for it.
    pub fn command<'a>(&'a self, keys: &'a [Key]) -> Command<'a> {
        let of = |key: usize| (keys[key].space, &keys[key].name[..]);
        match *self {
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
                    terms: None,
                }
            }
            Act::AcquireFor {
                key,
                limit,
                wait,
                lease,
                name: owner,
                ref terms,
            } => {
                let (space, name) = of(key);
                Command::Acquire {
                    space,
                    key: name,
                    limit,
                    wait,
                    lease,
                    owner: owner.map(|name| NAMES[name]),
                    bound: Bound::Lease,
                    terms: owner.map(|_| terms),
                }
            }
            Act::Cancel { key, name, attempt } => Command::Cancel {
                key: of(key).1,
                owner: NAMES[name],
                attempt,
            },
            Act::Detach { key, token } => {
                let (space, key) = of(key);
                Command::Detach { space, key, token }
            }
            Act::Break { key, fence } => {
                let (space, key) = of(key);
                Command::Break { space, key, fence }
            }
            Act::Release { key, token } | Act::TakeBack { key, token } => {
                let (space, key) = of(key);
                Command::Release { space, key, token }
            }
            Act::Renew {
                key,
                token,
                lease,
                bound,
            } => {
                let (space, key) = of(key);
                Command::Renew {
                    space,
                    key,
                    token,
                    lease,
                    bound,
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
