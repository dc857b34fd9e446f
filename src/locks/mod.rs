//! The lock table: commands in, replies out, time an argument. No sockets, no clock, no dice; `apply` is the only
//! door that changes anything, so whoever repeats the commands repeats the state. Invariant: `check`, which says
//! in code what must hold between any two commands.
//!
//! Keys and tickets live in slabs and are linked by place; a session's tickets hang on its slot. What a command
//! costs follows from what it touches, never from how much there is; what can be long (a session with many
//! holds, many leases that end at once, the emptying of all queues) is cut into slices that `Tick` carries on.

mod check;
mod crowd;
mod grant;
mod idle;
mod key;
mod knot;
mod owner;
mod phases;
mod slices;
mod ticket;

use std::collections::VecDeque;

use siphasher::sip::{SipHasher13, SipHasher24};

use crate::base::list::List;
use crate::base::slab::{NIL, Slab};
use crate::base::table::Table;
use crate::base::wheel::Wheel;
use crate::command::{
    Command, Realm, Refusal, Replies, Reply, SessionId, Space, State, Tie, Token, Us, View,
};
use crowd::{Crowd, FEW};
use grant::End;
use idle::IdleKeys;
use key::Key;
use knot::Search;
use owner::Owners;
use phases::{Lost, Records};
use ticket::{OF_MEMBER, Ticket};

/// What the table is told once, when it is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Keys that may exist at once, at least 1.
    pub max_locks: usize,
    /// Tickets that may queue for one key; 0 is any number.
    pub max_waiters: u32,
    /// How long a key that nobody uses keeps its limit; 0 is not at all.
    pub max_idle: Us,
    /// The lease of a hold that names none, at least 1 s.
    pub default_lease: Us,
    /// The lease of a claim, at least 1 s.
    pub claim_lease: Us,
    /// Whether the holds of a session end with it.
    pub auto_release: bool,
    /// Whether a wait that would never end is refused.
    pub deadlock_detection: bool,
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
    idle: IdleKeys,
    crowd: Crowd,
    records: Records,
    owners: Owners,
    search: Search,
    /// Holds that searches have looked at.
    looks: u64,
    /// Deadlocks that were refused and not told yet.
    knots: VecDeque<Vec<Tie>>,
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
struct Member {
    id: SessionId,
    tickets: List<OF_MEMBER>,
    lost: Lost,
    /// The place of the owner that it has declared, NIL if none.
    owner: u32,
    /// The ticket that its request waits for, NIL if none.
    awaits: u32,
    closing: bool,
}

impl Default for Member {
    fn default() -> Member {
        Member {
            id: SessionId::NOBODY,
            tickets: List::default(),
            lost: None,
            owner: NIL,
            awaits: NIL,
            closing: false,
        }
    }
}

/// What an acquire and an enqueue have in common.
#[derive(Clone, Copy)]
struct Wish<'a> {
    space: Space,
    name: &'a [u8],
    limit: u32,
    lease: Us,
}

/// How holds began and ended, and what became of waits that would not have ended. At any time granted = released +
/// expired + closed + held.
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
    /// Deadlocks that were refused.
    pub deadlocks: u64,
    /// Searches for a deadlock, and those that ended because the graph was too large.
    pub searches: u64,
    /// The latter.
    pub searches_cut: u64,
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
            idle: IdleKeys::default(),
            crowd: Crowd::default(),
            records: Records::default(),
            owners: Owners::default(),
            search: Search::default(),
            looks: 0,
            knots: VecDeque::new(),
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
        let default = self.settings.default_lease;
        let reply = match command {
            Command::Acquire {
                space,
                key: name,
                limit,
                wait,
                lease,
            } => {
                let lease = lease.unwrap_or(default);
                self.acquire(
                    from,
                    Wish {
                        space,
                        name,
                        limit,
                        lease,
                    },
                    wait,
                    replies,
                )
            }
            Command::Enqueue {
                space,
                key: name,
                limit,
                lease,
            } => {
                let lease = lease.unwrap_or(default);
                Some(self.enqueue(
                    from,
                    Wish {
                        space,
                        name,
                        limit,
                        lease,
                    },
                    replies,
                ))
            }
            Command::Wait { space, key, wait } => self.wait(from, space, key, wait),
            Command::Claim {
                space,
                key: name,
                realm,
                owner,
            } => {
                let lease = self.settings.claim_lease;
                let wish = Wish {
                    space,
                    name,
                    limit: 1,
                    lease,
                };
                Some(self.claim(wish, realm, owner, replies))
            }
            Command::Yield {
                space,
                key,
                realm,
                owner,
            } => Some(self.yield_claim((space, key), realm, owner, replies)),
            Command::Declare { owner } => Some(self.declare(from, owner)),
            Command::Release { space, key, token } => {
                Some(self.release(from, space, key, token, replies))
            }
            Command::Renew {
                space,
                key,
                token,
                lease,
            } => {
                let lease = lease.unwrap_or(default);
                Some(self.renew(from, space, key, token, lease, replies))
            }
            Command::Close => self.close(from, replies),
            Command::Drain => {
                self.drained.get_or_insert(0);
                None
            }
            Command::Tick { heard } => {
                self.tick(heard.min(self.now), replies);
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
        if put_off {
            return Some(0);
        }
        [self.wheel.next(), self.idle_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the session holds or waits for anything.
    pub fn has(&self, id: SessionId) -> bool {
        self.members
            .get(id.slot() as usize)
            .is_some_and(|m| m.id == id && !m.tickets.is_empty())
    }

    /// Whether the session holds anything.
    pub fn holds(&self, id: SessionId) -> bool {
        // Holds stand behind waits.
        self.has(id) && !self.tickets[self.members[id.slot() as usize].tickets.last].waits()
    }

    /// Whether the holds of a session end with it.
    pub fn auto_release(&self) -> bool {
        self.settings.auto_release
    }

    /// How many keys are held or queued for.
    pub fn keys(&self) -> usize {
        self.keys.len() - self.idle.count
    }

    /// How holds began and ended so far.
    pub fn counts(&self) -> Counts {
        let c = self.counts;
        Counts {
            held: c.granted - c.released - c.expired - c.closed,
            ..c
        }
    }

    fn acquire(
        &mut self,
        from: SessionId,
        wish: Wish,
        wait: Us,
        replies: &mut Replies,
    ) -> Option<Reply> {
        let hash = self.secret.hash(wish.space, wish.name);
        let (key, free) = match self.enter(hash, wish, replies) {
            Ok(entered) => entered,
            Err(refusal) => return Some(Reply::Refused(refusal)),
        };
        if !free && wait == 0 {
            return Some(Reply::Timeout);
        }
        if !free {
            let member = self.enrol(from);
            if self.would_be_stuck(member, key) {
                return Some(Reply::Refused(Refusal::Deadlock));
            }
        }
        let place = self.add_ticket(from, key, wish.lease, free);
        if free {
            let token = self.grant(place);
            return Some(Reply::Granted {
                token,
                lease: wish.lease,
            });
        }
        self.tickets[place].due = self.now.saturating_add(wait);
        self.wheel.insert(&mut self.tickets, place);
        self.begin_wait(place);
        None
    }

    /// Finds the key or makes it, and says whether a slot is free for who comes now: free of the holds whose
    /// leases are over, and with nobody in the queue. Otherwise there is room in the queue.
    fn enter(
        &mut self,
        hash: u32,
        wish: Wish,
        replies: &mut Replies,
    ) -> Result<(u32, bool), Refusal> {
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        let Some(key) = self.find(hash, wish.space, wish.name) else {
            if !self.make_room() {
                return Err(Refusal::MaxLocks);
            }
            let key = self
                .keys
                .insert(Key::new(wish.space, wish.name, wish.limit));
            self.table.insert(hash, key);
            return Ok((key, true));
        };
        if self.keys[key].limit() != wish.limit {
            return Err(Refusal::LimitMismatch);
        }
        if self.keys[key].idle().is_some() {
            self.revive(key);
            return Ok((key, true));
        }
        self.evict(key, replies);
        let Key { held, waiting, .. } = self.keys[key];
        let free = waiting == 0 && held < wish.limit;
        let full = self.settings.max_waiters > 0 && waiting >= self.settings.max_waiters;
        if !free && full {
            Err(Refusal::MaxWaiters)
        } else {
            Ok((key, free))
        }
    }

    /// A new ticket at the end of its key's list: about to be granted, if there is a free slot, or in the queue,
    /// without a timer.
    fn add_ticket(&mut self, from: SessionId, key: u32, lease: Us, free: bool) -> u32 {
        let member = self.enrol(from);
        let place = self.tickets.insert(Ticket::new(key, member, 0, lease));
        self.keys[key].tickets.push_back(&mut self.tickets, place);
        let mine = &mut self.members[member as usize].tickets;
        if free {
            mine.push_back(&mut self.tickets, place);
        } else {
            mine.push_front(&mut self.tickets, place);
            self.keys[key].waiting += 1;
            if self.keys[key].next == NIL {
                self.keys[key].next = place;
            }
        }
        place
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

    fn renew(
        &mut self,
        from: SessionId,
        space: Space,
        name: &[u8],
        token: Token,
        lease: Us,
        replies: &mut Replies,
    ) -> Reply {
        let Some(place) = self.find_hold(space, name, token) else {
            return Reply::Refused(Refusal::Error);
        };
        self.set_due(place, self.now.saturating_add(lease));
        self.adopt(place, from, replies);
        Reply::Renewed { lease }
    }

    fn close(&mut self, from: SessionId, replies: &mut Replies) -> Option<Reply> {
        let slot = from.slot();
        let Some(member) = self
            .members
            .get(slot as usize)
            .filter(|member| member.id == from)
        else {
            return Some(Reply::Closed);
        };
        assert!(!member.closing, "a session closes once");
        let is_empty = member.tickets.is_empty() && member.lost.is_none();
        self.fall_silent(slot);
        if is_empty {
            self.strike_off(slot);
            return Some(Reply::Closed);
        }
        self.members[slot as usize].closing = true;
        self.closing.push_back(slot);
        self.close_some(replies);
        None
    }

    fn is_draining(&self) -> bool {
        self.drained.is_some()
    }

    fn find(&self, hash: u32, space: Space, name: &[u8]) -> Option<u32> {
        self.table.find(hash, |key| self.keys[key].is(space, name))
    }

    fn find_hold(&self, space: Space, name: &[u8], token: Token) -> Option<u32> {
        let place = self.find(self.secret.hash(space, name), space, name)?;
        let key = &self.keys[place];
        if key.idle().is_some() {
            return None;
        }
        let is_it = |ticket: u32| self.tickets[ticket].token == token;
        if key.limit() > FEW {
            let of_key = |ticket: u32| self.tickets[ticket].key == place && is_it(ticket);
            return self.crowd.find(self.secret.place(token.fence), of_key);
        }
        key.tickets
            .places(&self.tickets)
            .take(key.held as usize)
            .find(|&ticket| is_it(ticket))
    }

    /// The session's place in the table of members, made on its first visit.
    fn enrol(&mut self, id: SessionId) -> u32 {
        let slot = id.slot() as usize;
        if self.members.len() <= slot {
            self.members.resize_with(slot + 1, Member::default);
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

    fn hash_of(&self, key: u32) -> u32 {
        self.secret
            .hash(self.keys[key].space(), self.keys[key].name())
    }

    /// One above the highest place that [`Locks::view`] knows.
    pub fn places(&self) -> u32 {
        self.keys.places()
    }

    /// The key at a place, if there is one: for a listing, which may take many turns and then has missed or
    /// seen twice what came and went.
    pub fn view(&self, now: Us, place: u32) -> Option<View<'_>> {
        let now = self.now.max(now);
        let key = &self.keys[place];
        if key.is_vacant() {
            return None;
        }
        let (space, name, limit) = (key.space(), key.name(), key.limit());
        if let Some(idle) = key.idle() {
            let state = State::Idle {
                span: now.saturating_sub(idle.since),
            };
            return Some(View {
                space,
                name,
                limit,
                state,
            });
        }
        let holder = (key.held > 0).then(|| &self.tickets[key.tickets.first]);
        let state = State::Used {
            held: key.held,
            waiting: key.waiting,
            holder: holder
                .and_then(|hold| self.members.get(hold.member as usize))
                .map(|member| member.id),
            owner: holder.and_then(|hold| self.owner_name(hold.member)),
            lease_left: holder.map_or(0, |hold| hold.due.saturating_sub(now)),
        };
        Some(View {
            space,
            name,
            limit,
            state,
        })
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

    fn owner(&self, realm: Realm, name: &[u8]) -> u32 {
        let hash = self.table.hash(name);
        match realm {
            Realm::Line => hash as u32,
            Realm::Distlockd => (hash >> 32) as u32,
        }
    }

    fn place(&self, fence: u64) -> u32 {
        self.table.hash(&fence.to_le_bytes()) as u32
    }

    fn salt(&self, fence: u64) -> u64 {
        self.salt.hash(&fence.to_le_bytes())
    }
}
