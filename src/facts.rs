//! What the lock table says: answers, notices and facts. A fact tells a store that outlives the process what happened to a
//! hold. Facts are written as bytes at once, in the order in which things happened, so that a store only has to copy them.
//! Invariant: the facts of a table, read back from its beginning or from a restatement of all its holds, give exactly the
//! holds that it has.
//!
//! A record is its length without these four bytes, a byte for its kind, and its fields, all little-endian. Names follow
//! the fields that have a fixed length.

use std::collections::VecDeque;

use crate::command::{Bound, Notice, Realm, Renewal, Reply, SessionId, Space, Token, Us};

/// How well what the server has granted is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protection {
    /// Not at all: a server that starts again has forgotten it.
    #[default]
    Nothing,
    /// A server that starts again waits until all that was granted has ended.
    Ledger,
    /// A server that starts again has the same holds, unless the machine was started again: then it waits.
    Journal,
    /// Another server has the same holds, whatever becomes of this one and its machine.
    Etcd,
}

impl Protection {
    /// Its name, as people see it.
    pub fn name(self) -> &'static str {
        match self {
            Protection::Nothing => "none",
            Protection::Ledger => "ledger",
            Protection::Journal => "journal",
            Protection::Etcd => "etcd",
        }
    }
}

/// The only way out of the lock table. The hub takes replies and notices after each command; facts stay until the server
/// has kept them.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Answers to requests, oldest first.
    pub replies: VecDeque<(SessionId, Reply)>,
    /// Notices for the hub, oldest first.
    pub notices: VecDeque<(SessionId, Notice)>,
    /// What happened to holds.
    pub facts: Facts,
}

impl Outbox {
    /// Answers the request of this session.
    pub fn reply(&mut self, to: SessionId, reply: Reply) {
        self.replies.push_back((to, reply));
    }

    /// Tells the hub something about this session.
    pub fn notice(&mut self, of: SessionId, notice: Notice) {
        self.notices.push_back((of, notice));
    }

    /// Whether the hub has taken everything that is for it.
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.notices.is_empty()
    }
}

/// Something that happened to a hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact<'a> {
    /// It began, or is as follows from now on.
    Held(Held<'a>),
    /// Its lease was renewed, and its token has been told.
    Renewed {
        /// The fence of the hold.
        fence: u64,
        /// When the lease ends.
        end: Us,
    },
    /// It ended.
    Ended {
        /// The fence of the hold.
        fence: u64,
    },
}

/// A hold, whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held<'a> {
    /// Proves it.
    pub token: Token,
    /// The space of its key.
    pub space: Space,
    /// How many may hold its key at once.
    pub limit: u32,
    /// The name of its key, at most 65,535 bytes.
    pub key: &'a [u8],
    /// The declared owner, at most 65,535 bytes, if it has one.
    pub owner: Option<(Realm, &'a [u8])>,
    /// How long its lease was when it was granted.
    pub lease: Us,
    /// When its lease ends.
    pub end: Us,
    /// Since when it is held.
    pub since: Us,
    /// Whether a client may know its token.
    pub told: bool,
    /// What ends it besides its release.
    pub bound: Bound,
    /// The name of the attempt that it is part of, as a hash.
    pub attempt: Option<[u32; 4]>,
    /// How it renews itself, if it does.
    pub renews: Option<Renews>,
    /// The note of its client.
    pub note: Option<&'a [u8]>,
}

/// How a hold renews itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renews {
    /// What its client asked for.
    pub renewal: Renewal,
    /// For how long with each step.
    pub step: Us,
    /// Until when.
    pub until: Us,
}

/// The facts that no store has taken yet. Nothing is written before somebody keeps them.
#[derive(Debug, Default)]
pub struct Facts {
    bytes: Vec<u8>,
    count: u32,
    longest: Us,
    last_fence: u64,
    on: bool,
}

/// Bytes that are no facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unfit;

const HELD: u8 = 1;
const RENEWED: u8 = 2;
const ENDED: u8 = 3;

/// The length of a record is written in so many bytes.
const LEN: usize = 4;
/// Up to the names of a `Held`, with its length.
const FIXED: usize = 56;

const SEMAPHORE: u8 = 1;
const TOLD: u8 = 2;
const LEASED: u8 = 4;
const OWNED: u8 = 8;
const DISTLOCKD: u8 = 16;
const ATTEMPT: u8 = 32;
const RENEWS: u8 = 64;
const NOTED: u8 = 128;

impl Facts {
    /// Facts for somebody who keeps them.
    pub fn kept() -> Facts {
        Facts {
            on: true,
            ..Facts::default()
        }
    }

    /// Whether somebody keeps them.
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Whether there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether there are so many that no more should happen before some are kept: 256 KiB.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    /// All records, one behind the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// For how long the longest promise among them lasts.
    pub fn longest(&self) -> Us {
        self.longest
    }

    /// The last fence of a grant among them, 0 if there is none.
    pub fn last_fence(&self) -> u64 {
        self.last_fence
    }

    /// They are kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > ROOM {
            self.bytes.shrink_to(ROOM);
        }
        (self.count, self.longest, self.last_fence) = (0, 0, 0);
    }

    /// A client is promised that its hold lasts for so long.
    pub fn promise(&mut self, span: Us) {
        self.longest = self.longest.max(span);
    }

    /// A hold began, or is as follows from now on.
    pub fn held(&mut self, held: &Held) {
        self.write_held(held);
    }

    /// As [`Facts::held`], for a hold that is part of no attempt: compiled apart, because most holds are not.
    #[inline(always)]
    pub fn held_plainly(&mut self, held: &Held) {
        let is_plain = held.attempt.is_none() && held.renews.is_none() && held.note.is_none();
        debug_assert!(is_plain);
        self.write_held(held);
    }

    #[inline(always)]
    fn write_held(&mut self, held: &Held) {
        let (name, owner) = (held.key, held.owner.map_or(&[][..], |(_, name)| name));
        let mut flags = 0;
        let mut flag = |bit, is_set| flags |= if is_set { bit } else { 0 };
        flag(SEMAPHORE, held.space == Space::Semaphore);
        flag(TOLD, held.told);
        flag(LEASED, held.bound == Bound::Lease);
        flag(OWNED, held.owner.is_some());
        let is_distlockd = matches!(held.owner, Some((Realm::Distlockd, _)));
        flag(DISTLOCKD, is_distlockd);
        flag(ATTEMPT, held.attempt.is_some());
        flag(RENEWS, held.renews.is_some());
        flag(NOTED, held.note.is_some());
        let length = |bytes: &[u8]| {
            let length = u16::try_from(bytes.len());
            length.expect("no face takes a longer name").to_le_bytes()
        };
        let mut fixed = [0; FIXED];
        let at = self.bytes.len();
        (fixed[4], fixed[5]) = (HELD, flags);
        fixed[6..8].copy_from_slice(&length(name));
        fixed[8..10].copy_from_slice(&length(owner));
        fixed[12..16].copy_from_slice(&held.limit.to_le_bytes());
        fixed[16..24].copy_from_slice(&held.token.fence.to_le_bytes());
        fixed[24..32].copy_from_slice(&held.token.salt.to_le_bytes());
        fixed[32..40].copy_from_slice(&held.lease.to_le_bytes());
        fixed[40..48].copy_from_slice(&held.end.to_le_bytes());
        fixed[48..56].copy_from_slice(&held.since.to_le_bytes());
        self.bytes.extend_from_slice(&fixed);
        self.bytes.extend_from_slice(name);
        if !owner.is_empty() {
            self.bytes.extend_from_slice(owner);
        }
        for word in held.attempt.iter().flatten() {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        if let Some(Renews {
            renewal,
            step,
            until,
        }) = held.renews
        {
            for span in [renewal.every, renewal.within, step, until] {
                self.bytes.extend_from_slice(&span.to_le_bytes());
            }
        }
        if let Some(note) = held.note {
            self.bytes.extend_from_slice(note);
        }
        let length = (self.bytes.len() - at - LEN) as u32;
        self.bytes[at..at + LEN].copy_from_slice(&length.to_le_bytes());
        self.count += 1;
        self.last_fence = self.last_fence.max(held.token.fence);
    }

    /// The lease of a hold was renewed.
    pub fn renewed(&mut self, fence: u64, end: Us) {
        let mut record = [0; LEN + 17];
        record[..4].copy_from_slice(&17_u32.to_le_bytes());
        record[4] = RENEWED;
        record[5..13].copy_from_slice(&fence.to_le_bytes());
        record[13..21].copy_from_slice(&end.to_le_bytes());
        self.bytes.extend_from_slice(&record);
        self.count += 1;
    }

    /// A hold ended.
    pub fn ended(&mut self, fence: u64) {
        let mut record = [0; LEN + 9];
        record[..4].copy_from_slice(&9_u32.to_le_bytes());
        record[4] = ENDED;
        record[5..13].copy_from_slice(&fence.to_le_bytes());
        self.bytes.extend_from_slice(&record);
        self.count += 1;
    }
}

/// Bytes of facts that may wait for a store.
const FULL: usize = 256 * 1024;
/// Room for facts that is kept between two turns.
const ROOM: usize = 64 * 1024;

/// The length of the first record, with its own bytes.
///
/// # Errors
/// The bytes are not a whole record, or say no sensible length.
pub fn record_len(bytes: &[u8]) -> Result<usize, Unfit> {
    let length = bytes.first_chunk().ok_or(Unfit)?;
    let length = LEN + u32::from_le_bytes(*length) as usize;
    let is_sound = length > LEN && length <= bytes.len();
    is_sound.then_some(length).ok_or(Unfit)
}

impl Fact<'_> {
    /// Reads one record.
    ///
    /// # Errors
    /// The bytes are not exactly one record of a known kind.
    pub fn read(record: &[u8]) -> Result<Fact<'_>, Unfit> {
        if record_len(record)? != record.len() {
            return Err(Unfit);
        }
        let mut rest = Reader(&record[LEN + 1..]);
        let fact = match record[LEN] {
            HELD => Fact::Held(rest.held()?),
            RENEWED => Fact::Renewed {
                fence: rest.fence()?,
                end: rest.word()?,
            },
            ENDED => Fact::Ended {
                fence: rest.fence()?,
            },
            _ => return Err(Unfit),
        };
        rest.0.is_empty().then_some(fact).ok_or(Unfit)
    }
}

/// What is left of a record.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Unfit> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unfit)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unfit> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Unfit)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn word(&mut self) -> Result<u64, Unfit> {
        self.array().map(u64::from_le_bytes)
    }

    fn fence(&mut self) -> Result<u64, Unfit> {
        self.word().and_then(|fence| match fence {
            0 => Err(Unfit),
            fence => Ok(fence),
        })
    }

    fn held(&mut self) -> Result<Held<'a>, Unfit> {
        let [flags] = self.array()?;
        let has = |bit| flags & bit != 0;
        let [name, owner, _unused] = [self.array()?, self.array()?, self.array()?]
            .map(|length| usize::from(u16::from_le_bytes(length)));
        let limit = u32::from_le_bytes(self.array()?);
        let (fence, salt) = (self.fence()?, self.word()?);
        let (lease, end, since) = (self.word()?, self.word()?, self.word()?);
        let (key, owner) = (self.take(name)?, self.take(owner)?);
        let space = match has(SEMAPHORE) {
            true => Space::Semaphore,
            false => Space::Lock,
        };
        let is_sound = limit > 0 && !key.is_empty() && (limit == 1 || space == Space::Semaphore);
        let is_owned = has(OWNED) || owner.is_empty() && !has(DISTLOCKD);
        if !is_sound || !is_owned {
            return Err(Unfit);
        }
        let realm = match has(DISTLOCKD) {
            true => Realm::Distlockd,
            false => Realm::Declared,
        };
        let attempt = match has(ATTEMPT) {
            true => Some(self.attempt()?),
            false => None,
        };
        let renews = match has(RENEWS) {
            true => Some(self.renews()?),
            false => None,
        };
        let note = std::mem::take(&mut self.0);
        if !has(NOTED) && !note.is_empty() {
            return Err(Unfit);
        }
        Ok(Held {
            token: Token { fence, salt },
            space,
            limit,
            key,
            owner: has(OWNED).then_some((realm, owner)),
            lease,
            end,
            since,
            told: has(TOLD),
            bound: match has(LEASED) {
                true => Bound::Lease,
                false => Bound::Session,
            },
            attempt,
            renews,
            note: has(NOTED).then_some(note),
        })
    }

    fn attempt(&mut self) -> Result<[u32; 4], Unfit> {
        let mut attempt = [0; 4];
        for word in &mut attempt {
            *word = u32::from_le_bytes(self.array()?);
        }
        Ok(attempt)
    }

    fn renews(&mut self) -> Result<Renews, Unfit> {
        let renewal = Renewal {
            every: self.word()?,
            within: self.word()?,
        };
        Ok(Renews {
            renewal,
            step: self.word()?,
            until: self.word()?,
        })
    }
}

#[cfg(test)]
mod tests;
