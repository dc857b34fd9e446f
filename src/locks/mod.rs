//! The lock table: commands in, replies out, time an argument. No sockets, no clock, no dice; `apply` is the only
//! door that changes anything, so whoever repeats the commands repeats the state. Invariant: `check`, which says
//! in code what must hold between any two commands.
//!
//! Keys and tickets live in slabs and are linked by place; a session's tickets hang on its slot. What a command
//! costs follows from what it touches, never from how much there is; what can be long (a session with many
//! holds, many leases that end at once, the emptying of all queues) is cut into slices that `Tick` carries on.

mod grant;
mod key;
mod queue;

use std::collections::VecDeque;

use siphasher::sip::{SipHasher13, SipHasher24};

use crate::command::{Command, Refusal, Replies, Reply, SessionId, Space, Token, Us};
use crate::slab::{NIL, Slab};
use crate::table::Table;
use crate::wheel::Wheel;
use grant::End;
use key::Key;
use queue::{List, OF_MEMBER, Ticket};

/// Holds and waits that time or a lost session may end in one turn. Each may be a grant, and a grant is a send
/// of some 8 us.
const ENDS_A_TURN: u32 = 500;
/// Timers that may move down a level of the wheel in one turn: some 100 ns each.
const CASCADES_A_TURN: u32 = 20_000;
/// Places that the emptying of the queues looks at in one turn.
const DRAINED_A_TURN: u32 = 1000;

/// What the table is told once, when it is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Keys that may exist at once, at least 1.
    pub max_locks: usize,
    /// The lease of a hold that names none, at least 1 s.
    pub default_lease: Us,
    /// Whether the holds of a session end with it.
    pub auto_release: bool,
    /// The fence of the first grant.
    pub first_fence: u64,
    /// 32 random bytes: keys of the hash table and of the tokens' salts.
    pub secret: [u8; 32],
}

/// The lock table.
pub struct Locks {
    settings: Settings,
    secret: Secret,
    keys: Slab<Key>,
    tickets: Slab<Ticket>,
    table: Table,
    /// By slot of the session.
    members: Vec<Member>,
    wheel: Wheel,
    /// Slots of sessions that are closing and still have tickets.
    closing: VecDeque<u32>,
    /// While draining: the next place of a ticket to look at.
    drained: Option<u32>,
    next_fence: u64,
    now: Us,
    /// Ends since the last tick.
    ends: u32,
    counts: Counts,
}

/// What a session has in the table: first its waits, then its holds in the order of their grants.
#[derive(Clone, Default)]
struct Member {
    id: SessionId,
    tickets: List<OF_MEMBER>,
    closing: bool,
}

/// How holds began and ended. At any time granted = released + expired + closed + held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Holds that began.
    pub granted: u64,
    /// Holds that a client gave back.
    pub released: u64,
    /// Holds whose lease ended.
    pub expired: u64,
    /// Holds that ended with their session.
    pub closed: u64,
    /// Holds now.
    pub held: u64,
}

impl Locks {
    /// An empty table.
    pub fn new(settings: Settings) -> Locks {
        assert!(settings.max_locks > 0 && settings.first_fence > 0);
        Locks {
            secret: Secret::new(&settings.secret),
            next_fence: settings.first_fence,
            settings,
            keys: Slab::new(),
            tickets: Slab::new(),
            table: Table::new(),
            members: Vec::new(),
            wheel: Wheel::new(),
            closing: VecDeque::new(),
            drained: None,
            now: 0,
            ends: 0,
            counts: Counts::default(),
        }
    }

    /// Carries out one command of the session `from` at the time `now`; a time before the last one counts as
    /// that. Each command but Drain and Tick is answered by exactly one reply to `from`, at once or, for
    /// an acquire that waits and a close, later; others may be answered by it too, and before it.
    pub fn apply(&mut self, now: Us, from: SessionId, command: Command, replies: &mut Replies) {
        self.now = self.now.max(now);
        let reply = match command {
            Command::Acquire {
                space,
                key,
                limit,
                wait,
                lease,
            } => {
                let lease = lease.unwrap_or(self.settings.default_lease);
                self.acquire(from, space, key, limit, wait, lease, replies)
            }
            Command::Release { space, key, token } => {
                Some(self.release(from, space, key, token, replies))
            }
            Command::Renew {
                space,
                key,
                token,
                lease,
            } => Some(self.renew(
                space,
                key,
                token,
                lease.unwrap_or(self.settings.default_lease),
            )),
            Command::Close => self.close(from, replies),
            Command::Drain => {
                self.drained.get_or_insert(0);
                None
            }
            Command::Tick => {
                self.tick(replies);
                None
            }
        };
        if let Some(reply) = reply {
            replies.push_back((from, reply));
        }
    }

    /// When the next [`Command::Tick`] has something to do: never late, perhaps early; in the past while work
    /// was put off.
    pub fn deadline(&self) -> Option<Us> {
        let put_off = !self.closing.is_empty()
            || self
                .drained
                .is_some_and(|next| next < self.tickets.places());
        if put_off { Some(0) } else { self.wheel.next() }
    }

    /// Whether the session holds or waits for anything.
    pub fn has(&self, id: SessionId) -> bool {
        self.members
            .get(id.slot() as usize)
            .is_some_and(|m| m.id == id && !m.tickets.is_empty())
    }

    /// How many keys are held or queued for.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// How holds began and ended so far.
    pub fn counts(&self) -> Counts {
        let c = self.counts;
        Counts {
            held: c.granted - c.released - c.expired - c.closed,
            ..c
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the fields of the command, taken apart once"
    )]
    fn acquire(
        &mut self,
        from: SessionId,
        space: Space,
        name: &[u8],
        limit: u32,
        wait: Us,
        lease: Us,
        replies: &mut Replies,
    ) -> Option<Reply> {
        if self.is_draining() {
            return Some(Reply::Refused(Refusal::Draining));
        }
        let hash = self.secret.hash(space, name);
        let key = match self.find(hash, space, name) {
            Some(key) => {
                self.evict(key, replies);
                key
            }
            None if self.keys.len() >= self.settings.max_locks => {
                return Some(Reply::Refused(Refusal::MaxLocks));
            }
            None => {
                let key = self.keys.insert(Key::new(space, name, limit));
                self.table.insert(hash, key);
                key
            }
        };
        let Key { held, waiting, .. } = self.keys[key];
        let free = waiting == 0 && held < self.keys[key].limit();
        if !free && wait == 0 {
            return Some(Reply::Timeout);
        }
        let member = self.enrol(from);
        let place = self.tickets.insert(Ticket::new(
            key,
            member,
            self.now.saturating_add(wait),
            lease,
        ));
        self.keys[key].tickets.push_back(&mut self.tickets, place);
        let mine = &mut self.members[member as usize].tickets;
        if free {
            mine.push_back(&mut self.tickets, place);
            self.grant(place, replies);
        } else {
            mine.push_front(&mut self.tickets, place);
            self.keys[key].waiting += 1;
            if waiting == 0 {
                self.keys[key].next = place;
            }
            self.wheel.insert(&mut self.tickets, place);
        }
        None
    }

    fn release(
        &mut self,
        from: SessionId,
        space: Space,
        name: &[u8],
        token: Token,
        replies: &mut Replies,
    ) -> Reply {
        let Some(place) = self.find_hold(space, name, token) else {
            return Reply::Refused(Refusal::Error);
        };
        self.end(place, End::Released, from, replies);
        Reply::Released
    }

    fn renew(&mut self, space: Space, name: &[u8], token: Token, lease: Us) -> Reply {
        let Some(place) = self.find_hold(space, name, token) else {
            return Reply::Refused(Refusal::Error);
        };
        let due = self.now.saturating_add(lease);
        let sooner = due < self.tickets[place].due;
        self.tickets[place].due = due;
        self.tickets[place].lease = lease;
        // A later end need not be filed: when the timer comes up it is.
        if sooner {
            self.wheel.cancel(&mut self.tickets, place);
            self.wheel.insert(&mut self.tickets, place);
        }
        Reply::Renewed { lease }
    }

    fn close(&mut self, from: SessionId, replies: &mut Replies) -> Option<Reply> {
        let slot = from.slot();
        if !self.has(from) {
            return Some(Reply::Closed);
        }
        assert!(
            !self.members[slot as usize].closing,
            "a session closes once"
        );
        self.members[slot as usize].closing = true;
        self.closing.push_back(slot);
        self.close_some(ENDS_A_TURN, replies);
        None
    }

    fn tick(&mut self, replies: &mut Replies) {
        if self.is_draining() {
            self.drain_some(replies);
        }
        // Neither a flood of hang-ups nor of expiries keeps the other from going on.
        self.expire_some(self.ends + ENDS_A_TURN / 5, replies);
        self.close_some(ENDS_A_TURN, replies);
        self.expire_some(ENDS_A_TURN, replies);
        self.ends = 0;
    }

    /// Ends what closing sessions have, waits first, until `most` ends in this turn.
    fn close_some(&mut self, most: u32, replies: &mut Replies) {
        while self.ends < most
            && let Some(&slot) = self.closing.front()
        {
            let member = &self.members[slot as usize];
            let (id, place) = (member.id, member.tickets.first);
            if place == NIL {
                self.members[slot as usize] = Member::default();
                self.closing.pop_front();
                replies.push_back((id, Reply::Closed));
                continue;
            }
            self.ends += 1;
            if self.tickets[place].waits() {
                let key = self.tickets[place].key;
                self.leave(place);
                self.forget_if_idle(key);
            } else if self.settings.auto_release {
                self.end(place, End::Closed, id, replies);
            } else {
                self.members[slot as usize]
                    .tickets
                    .remove(&mut self.tickets, place);
                self.tickets[place].member = NIL;
            }
        }
    }

    /// Ends waits and leases that are due, until `most` ends in this turn.
    fn expire_some(&mut self, most: u32, replies: &mut Replies) {
        let mut fuel = CASCADES_A_TURN;
        while self.ends < most
            && let Some(place) = self.wheel.pop(&mut self.tickets, self.now, &mut fuel)
        {
            if self.tickets[place].due > self.now {
                self.wheel.insert(&mut self.tickets, place);
                continue;
            }
            self.ends += 1;
            let Ticket { key, member, .. } = self.tickets[place];
            if !self.tickets[place].waits() {
                self.end(place, End::Expired, SessionId::NOBODY, replies);
            } else if self.members[member as usize].closing {
                // It is gone already; nobody is left to be told.
                self.leave(place);
                self.forget_if_idle(key);
            } else {
                self.dismiss(place, Reply::Timeout, replies);
            }
        }
    }

    /// Turns away the waits at the next places of the slab.
    fn drain_some(&mut self, replies: &mut Replies) {
        let from = self.drained.expect("asked only while draining");
        let to = self
            .tickets
            .places()
            .min(from.saturating_add(DRAINED_A_TURN));
        for place in from..to {
            let ticket = &self.tickets[place];
            if !ticket.is_vacant()
                && ticket.waits()
                && !self.members[ticket.member as usize].closing
            {
                self.dismiss(place, Reply::Refused(Refusal::Draining), replies);
            }
        }
        self.drained = Some(to);
    }

    fn is_draining(&self) -> bool {
        self.drained.is_some()
    }

    fn find(&self, hash: u32, space: Space, name: &[u8]) -> Option<u32> {
        self.table.find(hash, |key| self.keys[key].is(space, name))
    }

    fn find_hold(&self, space: Space, name: &[u8], token: Token) -> Option<u32> {
        let key = &self.keys[self.find(self.secret.hash(space, name), space, name)?];
        let mut holds = key.tickets.places(&self.tickets).take(key.held as usize);
        holds.find(|&place| self.tickets[place].token == token)
    }

    /// The session's place in the table of members, made on its first visit.
    fn enrol(&mut self, id: SessionId) -> u32 {
        let slot = id.slot() as usize;
        if self.members.len() <= slot {
            self.members.resize(slot + 1, Member::default());
        }
        let member = &mut self.members[slot];
        if member.id != id {
            assert!(
                member.tickets.is_empty(),
                "a slot is used again after its session is closed"
            );
            *member = Member {
                id,
                ..Member::default()
            };
        }
        assert!(!member.closing, "a closed session asks for nothing");
        slot as u32
    }

    fn forget_if_idle(&mut self, key: u32) {
        if !self.keys[key].is_idle() {
            return;
        }
        let hash = self
            .secret
            .hash(self.keys[key].space(), self.keys[key].name());
        self.table.remove(hash, key);
        self.keys.remove(key);
    }

    /// Panics if anything is not as it must be between two commands. Looks at everything: for tests.
    pub fn check(&self) {
        let mut held = 0;
        let mut seen = 0;
        for place in 0..self.keys.places() {
            let key = &self.keys[place];
            if key.name().is_empty() {
                continue;
            }
            seen += 1;
            held += u64::from(key.held);
            let all: Vec<u32> = key.tickets.places(&self.tickets).collect();
            assert_eq!(all.len(), (key.held + key.waiting) as usize);
            assert!(!all.is_empty(), "no idle key stays");
            assert!(key.held <= key.limit(), "S1: no more holds than slots");
            assert!(
                key.held == key.limit() || key.waiting == 0 || self.is_draining(),
                "nobody waits for a free slot"
            );
            assert_eq!(key.next, all.get(key.held as usize).copied().unwrap_or(NIL));
            for (at, &ticket) in all.iter().enumerate() {
                assert_eq!(self.tickets[ticket].key, place);
                assert_eq!(
                    self.tickets[ticket].waits(),
                    at >= key.held as usize,
                    "holds stand before waits"
                );
            }
            assert!(
                all[..key.held as usize].is_sorted_by_key(|&t| self.tickets[t].token.fence),
                "S2, S7"
            );
            let hash = self.secret.hash(key.space(), key.name());
            assert_eq!(self.find(hash, key.space(), key.name()), Some(place));
        }
        assert_eq!((seen, self.table.len()), (self.keys.len(), self.keys.len()));
        assert!(self.keys.len() <= self.settings.max_locks, "S10");
        assert_eq!(held, self.counts().held, "S11");
        let mut owned = 0;
        for (slot, member) in self.members.iter().enumerate() {
            let all: Vec<u32> = member.tickets.places(&self.tickets).collect();
            assert_eq!(member.closing, self.closing.contains(&(slot as u32)));
            assert!(
                all.iter()
                    .is_sorted_by_key(|&t| self.tickets[t].token.fence),
                "waits, then holds as granted"
            );
            assert!(all.iter().all(|&t| self.tickets[t].member == slot as u32));
            owned += all.len();
        }
        let mut alive = 0;
        for place in 0..self.tickets.places() {
            let ticket = &self.tickets[place];
            if ticket.is_vacant() {
                continue;
            }
            alive += 1;
            owned += usize::from(ticket.member == NIL);
            assert!(ticket.token.fence < self.next_fence);
            assert!(ticket.is_timed(), "exactly one timer at any time");
        }
        assert_eq!(
            (alive, owned),
            (self.tickets.len(), self.tickets.len()),
            "S9: every ticket has its owner"
        );
        assert!(
            self.wheel.next().is_some() == (alive > 0),
            "S9: no timer without its ticket"
        );
    }
}

/// Keyed hashes. Clients choose the keys, so the table's hash has a secret; a salt must not be guessed.
struct Secret {
    table: SipHasher13,
    salt: SipHasher24,
}

impl Secret {
    fn new(bytes: &[u8; 32]) -> Secret {
        let word =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Secret {
            table: SipHasher13::new_with_keys(word(0), word(8)),
            salt: SipHasher24::new_with_keys(word(16), word(24)),
        }
    }

    fn hash(&self, space: Space, name: &[u8]) -> u32 {
        let hash = self.table.hash(name);
        match space {
            Space::Lock => hash as u32,
            Space::Semaphore => (hash >> 32) as u32,
        }
    }

    fn salt(&self, fence: u64) -> u64 {
        self.salt.hash(&fence.to_le_bytes())
    }
}
