//! The lock table: commands in; replies, notices and facts out; time as an argument. It has no sockets, no clock and no
//! randomness. Once the holds of a former life are recovered, `apply` alone changes what is held and waited for, so the
//! same commands at the same times give the same answers. Invariant: `check`, which says in code what must hold between any two commands.
//!
//! Keys and tickets live in slabs and are linked by their places; a session's tickets are linked from its slot. The
//! cost of a command depends on what it touches, not on the size of the table. Work that can be long (a session with
//! many holds, many leases that end at once, a drain of all queues) is cut into slices, which `Tick` carries on.

mod acquire;
mod attempt;
mod breaking;
mod check;
mod claim;
mod counts;
mod crowd;
mod ended;
mod event;
mod extra;
mod grant;
mod idle;
mod key;
mod knot;
mod owner;
mod phases;
mod quarantine;
mod recover;
mod secret;
mod slices;
mod spans;
mod ticket;
mod view;

use std::collections::VecDeque;

use crate::base::grid::Grid;
use crate::base::list::List;
use crate::base::slab::{NIL, Slab};
use crate::base::table::Table;
use crate::base::wheel::Wheel;
use crate::command::{Bound, Command, Refusal, Reply, SessionId, Space, Us, WaitEdge, earlier};
use crate::facts::Outbox;
use acquire::Wish;
use attempt::Attempts;
use breaking::Breaking;
pub use counts::{Counts, Waits};
use crowd::Crowd;
pub use event::{End, Event, Hold};
use idle::IdleKeys;
use key::Key;
use knot::Search;
use owner::Owners;
use phases::{Lost, Records};
use secret::Secret;
use slices::Drain;
use spans::Spans;
use ticket::{OF_MEMBER, Ticket};

/// The options of a table, fixed when it is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Keys that may exist at once, at least 1.
    pub max_locks: usize,
    /// Tickets that may queue for one key; 0 sets no limit.
    pub max_waiters: u32,
    /// Holds and places in queues that one session may have; 0 sets no limit.
    pub max_holds: u32,
    /// How long an unused key is kept, for listings alone; 0 forgets it at once.
    pub max_idle: Us,
    /// The lease of a hold whose request names none, at least 1 s.
    pub default_lease: Us,
    /// The lease of a claim, at least 1 s.
    pub claim_lease: Us,
    /// The longest lease that a request may ask for; [`Us::MAX`] sets no limit.
    pub max_lease: Us,
    /// Whether the holds of a session end with it.
    pub auto_release: bool,
    /// Whether a wait that would never end is refused.
    pub deadlock_detection: bool,
    /// Whether each begin and each end of a hold is noted as an [`Event`].
    pub log: bool,
    /// The fence of the first grant.
    pub first_fence: u64,
    /// When the table begins to grant. Until then requests queue.
    pub opens: Us,
    /// 32 random bytes: keys of the hash table and of the tokens' salts.
    pub secret: [u8; 32],
    /// 16 bytes that nobody can guess, and that a table which recovers holds shares with the former one: the key of the
    /// names of attempts.
    pub attempt_secret: [u8; 16],
}

/// The lock table.
pub struct Locks {
    settings: Settings,
    secret: Secret,
    keys: Slab<Key>,
    tickets: Slab<Ticket>,
    table: Table,
    /// Indexed by the slot of the session.
    members: Grid<Member>,
    wheel: Wheel,
    idle: IdleKeys,
    crowd: Crowd,
    records: Records,
    owners: Owners,
    attempts: Attempts,
    search: Search,
    /// Cost of searches since it was last taken, in units of some 100 ns.
    work: u32,
    /// Deadlocks that were refused and not taken yet.
    knots: VecDeque<(SessionId, Vec<WaitEdge>)>,
    /// Slots of sessions that are closing and still have tickets.
    closing: VecDeque<u32>,
    /// Breaks that go on.
    breaking: VecDeque<Breaking>,
    /// Holds that the break under way has ended.
    broken: u64,
    /// What was noted and not taken yet.
    events: VecDeque<Event>,
    /// In a drain: how far that is.
    drained: Option<Drain>,
    /// The keys below this place are served.
    served: u32,
    spans: Spans,
    /// Holds without a session.
    loose: u64,
    next_fence: u64,
    now: Us,
    /// Cost of the ends since the last tick, in units of some 100 ns.
    ends: u32,
    counts: Counts,
}

/// A session as the table sees it. Its tickets are its waits, then its holds in the order of their grants.
struct Member {
    id: SessionId,
    tickets: List<OF_MEMBER>,
    lost: Lost,
    /// The place of its declared owner, NIL if none.
    owner: u32,
    /// The ticket that its request waits for, NIL if none.
    awaits: u32,
    /// The attempt of that ticket, NIL if it has none.
    attempt: u32,
    /// The length of `tickets`.
    count: u32,
    /// What will end the hold that the session waits for, besides its release.
    bound: Bound,
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
            attempt: NIL,
            count: 0,
            bound: Bound::Session,
            closing: false,
        }
    }
}

impl Locks {
    /// An empty table.
    pub fn new(settings: Settings) -> Locks {
        assert!(settings.max_locks > 0 && settings.first_fence > 0);
        Locks {
            secret: Secret::new(&settings.secret, &settings.attempt_secret),
            next_fence: settings.first_fence,
            served: if settings.opens == 0 { u32::MAX } else { 0 },
            spans: Spans::default(),
            settings,
            keys: Slab::new(),
            tickets: Slab::new(),
            table: Table::new(),
            members: Grid::new(),
            wheel: Wheel::new(),
            idle: IdleKeys::default(),
            crowd: Crowd::default(),
            records: Records::default(),
            owners: Owners::default(),
            attempts: Attempts::default(),
            search: Search::default(),
            work: 0,
            knots: VecDeque::new(),
            closing: VecDeque::new(),
            breaking: VecDeque::new(),
            broken: 0,
            events: VecDeque::new(),
            drained: None,
            loose: 0,
            now: 0,
            ends: 0,
            counts: Counts::default(),
        }
    }

    /// Carries out one command of the session `from` at the time `now`; a `now` before the last one counts as the last
    /// one. Each command but Close, Drain and Tick is answered by exactly one reply to `from`: at once, or later if an
    /// acquire or a wait has to wait, or a break goes on; [`SessionId::NOBODY`] is not answered. The same command may answer
    /// other sessions too, before `from`.
    pub fn apply(&mut self, now: Us, from: SessionId, command: Command, out: &mut Outbox) {
        self.now = self.now.max(now);
        let (default, max_lease) = (self.settings.default_lease, self.settings.max_lease);
        let too_long = Some(Reply::Refused(Refusal::Error));
        let reply = match command {
            Command::Acquire {
                space,
                key: name,
                limit,
                wait,
                lease,
                owner,
                bound,
                terms,
            } => {
                let lease = lease.unwrap_or(default);
                let wish = Wish {
                    space,
                    name,
                    limit,
                    lease,
                };
                match bound {
                    _ if lease > max_lease => too_long,
                    Bound::Session => self.acquire(from, wish, wait, out),
                    Bound::Lease => self.acquire_for(from, (owner, terms), wish, wait, out),
                }
            }
            Command::Enqueue {
                space,
                key: name,
                limit,
                lease,
            } => {
                let lease = lease.unwrap_or(default);
                let wish = Wish {
                    space,
                    name,
                    limit,
                    lease,
                };
                match lease > max_lease {
                    true => too_long,
                    false => Some(self.enqueue(from, wish, out)),
                }
            }
            Command::Wait { space, key, wait } => self.wait(from, (space, key), wait, out),
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
                Some(self.claim(wish, realm, owner, out))
            }
            Command::Yield {
                space,
                key,
                realm,
                owner,
            } => Some(self.yield_claim((space, key), realm, owner, out)),
            Command::Cancel {
                key,
                owner,
                attempt,
            } => Some(self.cancel(from, key, owner, attempt, out)),
            Command::Declare { owner } => Some(self.declare(from, owner)),
            Command::Release { space, key, token } => {
                Some(self.release(from, space, key, token, out))
            }
            Command::Renew {
                space,
                key,
                token,
                lease,
                bound,
            } => {
                let lease = lease.unwrap_or(default);
                match lease > max_lease {
                    true => too_long,
                    false => Some(self.renew(from, space, key, token, (lease, bound), out)),
                }
            }
            Command::Detach { space, key, token } => {
                Some(self.detach(from, (space, key), token, out))
            }
            Command::Break { space, key, fence } => {
                self.break_holds(from, (space, key), fence, out)
            }
            Command::Close => {
                self.close(from, out);
                None
            }
            Command::Drain => {
                self.drained.get_or_insert_default();
                None
            }
            Command::Tick { heard } => {
                self.tick(heard.min(self.now), out);
                None
            }
        };
        if let Some(reply) = reply {
            if matches!(reply, Reply::Refused(Refusal::MaxWaiters)) {
                self.counts.waits.refused += 1;
            }
            if from == SessionId::NOBODY {
                return;
            }
            out.reply(from, reply);
        }
    }

    /// When the next [`Command::Tick`] has something to do. Never late, perhaps early; 0 while sliced work is left.
    #[inline(always)]
    pub fn deadline(&self) -> Option<Us> {
        let put_off =
            !self.closing.is_empty() || !self.breaking.is_empty() || self.is_turning_away();
        if put_off {
            return Some(0);
        }
        if self.served < u32::MAX {
            return self.opening_deadline();
        }
        earlier(self.wheel.next(), self.idle_deadline())
    }

    /// Whether the session holds or waits for anything.
    pub fn has(&self, id: SessionId) -> bool {
        self.members
            .get(id.slot() as usize)
            .is_some_and(|m| m.id == id && !m.tickets.is_empty())
    }

    /// Whether the session holds anything.
    pub fn holds(&self, id: SessionId) -> bool {
        // Holds stand behind waits, so the last ticket tells.
        self.has(id) && !self.tickets[self.members[id.slot() as usize].tickets.last].waits()
    }

    /// How many holds would end with their session, if that is what ends holds.
    pub fn held_by_sessions(&self) -> u64 {
        self.held() - self.loose
    }

    /// How many holds have no session, and end by release, lease or break alone.
    pub fn held_without_session(&self) -> u64 {
        self.loose
    }

    /// Whether the session has as many holds and places in queues as it may.
    fn is_at_max_holds(&self, id: SessionId) -> bool {
        let most = self.settings.max_holds;
        let member = self.members.get(id.slot() as usize);
        most > 0 && member.is_some_and(|member| member.id == id && member.count >= most)
    }

    /// Whether the holds of a session end with it.
    pub fn auto_release(&self) -> bool {
        self.settings.auto_release
    }

    /// How many keys are held or queued for.
    pub fn keys(&self) -> usize {
        self.keys.len() - self.idle.count
    }

    /// A renewal has found no such hold, outside of the table.
    pub fn note_failed_renewal(&mut self) {
        self.counts.renewal_failures += 1;
    }

    /// Whether a drain has not looked at all that wait yet.
    pub fn is_turning_away(&self) -> bool {
        self.drained
            .is_some_and(|drain| drain.next < self.tickets.places())
    }

    /// A number that is given once for each `count`, and that nobody can guess.
    pub fn unique(&self, count: u64) -> u64 {
        self.secret.unique(count)
    }

    fn is_draining(&self) -> bool {
        self.drained.is_some()
    }

    fn find(&self, hash: u32, space: Space, name: &[u8]) -> Option<u32> {
        self.table.find(hash, |key| self.keys[key].is(space, name))
    }

    /// The session's place in `members`, which is made on its first visit.
    fn ensure_member(&mut self, id: SessionId) -> u32 {
        let slot = id.slot() as usize;
        if self.members[slot].id != id {
            let member = self.members.take(slot);
            assert!(
                member.tickets.is_empty(),
                "a slot is used again only after its session is closed"
            );
            *member = Member {
                id,
                ..Member::default()
            };
        }
        assert!(
            !self.members[slot].closing,
            "a closed session sends no command"
        );
        slot as u32
    }

    fn hash_of(&self, key: u32) -> u32 {
        self.secret
            .hash(self.keys[key].space(), self.keys[key].name())
    }
}
