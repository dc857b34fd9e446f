//! What may be asked of the lock table, as its judge sees it.

use dflockd::command::{Token, Us};

/// One command, its key an index.
#[derive(Debug)]
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
    Tick,
}
