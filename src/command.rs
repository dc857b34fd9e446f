//! The vocabulary that the faces, the hub and the lock table share: commands, replies and refusals, and the types of
//! sessions, tokens and time. It has no behaviour beyond that of its values, and imports nothing of ours. Invariant:
//! the faces have checked the form of every value; only the lock table decides whether a command is granted.

use core::net::SocketAddr;
use std::fmt::{self, Display};

/// Microseconds of the server's clock (CLOCK_BOOTTIME): an instant or a span. A span that a client asks for is at most
/// 9,223,372,036 s; sums saturate.
pub type Us = u64;

/// The earlier of two instants, each of which there may not be.
#[inline(always)]
pub fn earlier(one: Option<Us>, other: Option<Us>) -> Option<Us> {
    // A search for the least of a list costs each turn three times the instructions.
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// One second, in [`Us`].
pub const SECOND: Us = 1_000_000;

/// The longest span a client or an option may name, in seconds: 2^63 ns, as in the Go server.
pub const SECONDS_MAX: u64 = 9_223_372_036;

/// The other end of a connection, for people to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer<'a> {
    /// Its address.
    pub addr: SocketAddr,
    /// The name in its certificate, if it has shown one.
    pub name: Option<&'a str>,
}

/// Names one connection for the life of the server: a serial that is never reused, above a slot that is. The slot finds
/// the session without a search. The whole id is compared, so an event that comes late does not reach a later session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct SessionId(u64);

impl SessionId {
    /// How many slots there can be: 2^24.
    pub const SLOTS: u32 = 1 << 24;

    /// No session: the sender of commands of the server itself, such as [`Command::Tick`].
    pub const NOBODY: SessionId = SessionId(0);

    /// `serial` counts from 1 and has 40 bits; `slot` is below [`SessionId::SLOTS`].
    pub fn new(serial: u64, slot: u32) -> SessionId {
        assert!(slot < SessionId::SLOTS && serial < 1 << 40);
        SessionId(serial << 24 | u64::from(slot))
    }

    /// The place in tables that are indexed by session.
    pub fn slot(self) -> u32 {
        self.0 as u32 & (SessionId::SLOTS - 1)
    }

    /// Which connection it is, counted from 1 since the server started.
    pub fn serial(self) -> u64 {
        self.0 >> 24
    }
}

/// Proof of one grant. The fence rises with every grant and is never 0; the salt cannot be guessed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Token {
    /// Orders all grants of all keys. A client hands it to the resource that it guards.
    pub fence: u64,
    /// SipHash-2-4 of the fence under the server's secret.
    pub salt: u64,
}

impl PartialEq for Token {
    /// Takes the same time wherever the two differ, so that a token cannot be guessed byte by byte.
    fn eq(&self, other: &Token) -> bool {
        (self.fence ^ other.fence) | (self.salt ^ other.salt) == 0
    }
}

impl Eq for Token {}

/// Locks and semaphores are two spaces of keys: the same name may be used in both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Space {
    /// One hold at a time.
    #[default]
    Lock,
    /// Up to a limit of holds at a time.
    Semaphore,
}

/// Where the name of an owner comes from. Equal names of two realms are two owners.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Realm {
    /// A client has declared it, on the line protocol with `id`.
    #[default]
    Declared,
    /// The client id of distlockd's protocol.
    Distlockd,
}

/// The event that ends a hold besides its release.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Bound {
    /// The end of its session or of its lease.
    #[default]
    Session,
    /// The end of its lease alone: the hold has an owner or none, and no session.
    Lease,
}

/// A request of a session to the lock table, or of the server to the whole table. It borrows from the request's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// Takes a slot of `key`, or waits in its queue for up to `wait`; 0 never waits.
    Acquire {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
        /// Slots of the key: 1 for a lock.
        limit: u32,
        /// How long to wait at most.
        wait: Us,
        /// How long the hold lasts unless renewed; the server's default if not said.
        lease: Option<Us>,
        /// The declared owner of the wait and the hold; None: nobody. Only with [`Bound::Lease`].
        owner: Option<&'a [u8]>,
        /// The event that ends the hold besides its release.
        bound: Bound,
        /// Further terms of the request. Only with [`Bound::Lease`] and an owner.
        terms: Option<&'a Terms<'a>>,
    },
    /// The first phase of an acquire: takes a slot of `key` or a place in its queue, and answers at once. It leaves
    /// a record, for [`Command::Wait`].
    Enqueue {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
        /// Slots of the key: 1 for a lock.
        limit: u32,
        /// How long the hold lasts unless renewed; the server's default if not said.
        lease: Option<Us>,
    },
    /// The second phase: waits for up to `wait` for the slot that was enqueued for, and consumes the record.
    Wait {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
        /// How long to wait at most. If the slot was granted already the answer comes at once.
        wait: Us,
    },
    /// Gives a hold back; the session may be another than the one that it was granted to. [`SessionId::NOBODY`] gives it
    /// back for a client whose answer was lost; a hold that a repeat has found since then stays.
    Release {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
        /// The hold's token.
        token: Token,
    },
    /// Sets a hold's end to now plus `lease`.
    Renew {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
        /// The hold's token.
        token: Token,
        /// The new lease; the server's default if not said.
        lease: Option<Us>,
        /// With [`Bound::Session`] a hold of the session's owner becomes this session's, and so does one that has been
        /// nobody's since the server was started again.
        bound: Bound,
    },
    /// The session speaks for this owner from now on. All sessions that declare the same name count as one sequential
    /// actor: their waits and holds count together when deadlocks are looked for, and a renewal moves a hold to the
    /// session that renews it.
    Declare {
        /// The name, as sent.
        owner: &'a [u8],
    },
    /// An acquire that never waits, of a hold of the owner's, without a session; its lease is an option of the table.
    /// If the owner holds the key already it is granted again, with a new lease. If the key is not free the answer is
    /// [`Reply::Timeout`].
    Claim {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
        /// Where the name of the owner comes from.
        realm: Realm,
        /// The owner's name, as sent.
        owner: &'a [u8],
    },
    /// Gives back a hold that the owner has claimed.
    Yield {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
        /// Where the name of the owner comes from.
        realm: Realm,
        /// The owner's name, as sent.
        owner: &'a [u8],
    },
    /// Ends an attempt, wherever it is: its hold is released, or its wait or kept place removed. A repeat that comes later
    /// is answered [`Reply::Cancelled`].
    Cancel {
        /// The name of the key; the attempt may be in either space.
        key: &'a [u8],
        /// The declared owner.
        owner: &'a [u8],
        /// The name of the attempt.
        attempt: &'a [u8],
    },
    /// Makes a hold last for its lease, whatever becomes of its session; a renewal does not bind it again.
    Detach {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
        /// The hold's token.
        token: Token,
    },
    /// An administrator ends the holds that a key has now, or one of them; its queue is served next. The answer may come
    /// turns later.
    Break {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
        /// The fence of the one hold that ends; None: all end.
        fence: Option<u64>,
    },
    /// The session is gone: its waits end, then its holds. [`Notice::Closed`] follows, perhaps turns later.
    Close,
    /// From now on nothing is granted; the queues empty over the next ticks.
    Drain,
    /// Time has passed: waits and leases that are due end, and work that was put off goes on.
    Tick {
        /// Everything that arrived until then has been received: waits and leases due by then end.
        heard: Us,
    },
}

/// Further terms of a request for a hold that is bound by its lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terms<'a> {
    /// The name of the attempt, which its client keeps secret: the same request with the same name is a repeat, not
    /// another request. Owner, key and space belong to it.
    pub attempt: Option<&'a [u8]>,
    /// For how long a wait that has timed out keeps its place in the queue. Only with an attempt.
    pub keep: Us,
    /// How the table renews the hold by itself, if it does.
    pub renewal: Option<Renewal>,
    /// A note that listings show beside the hold.
    pub note: Option<&'a [u8]>,
}

/// How the table renews a hold by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renewal {
    /// How often, at least 1.
    pub every: Us,
    /// Until when, from the last time that its client was heard of.
    pub within: Us,
}

/// An answer of the lock table, or of the hub, to a session. A face turns it into bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The slot was granted; its lease counts from now.
    Granted {
        /// Proves the hold.
        token: Token,
        /// How long the hold lasts.
        lease: Us,
    },
    /// To an enqueue: a slot was granted; its lease counts from now.
    Acquired {
        /// Proves the hold.
        token: Token,
        /// How long the hold lasts.
        lease: Us,
    },
    /// To an enqueue: the session stands in the queue.
    Queued,
    /// The hold was given back.
    Released,
    /// The hold ends at now plus `lease`.
    Renewed {
        /// How long the hold lasts from now.
        lease: Us,
    },
    /// The holds of the key were ended by force.
    Broken {
        /// How many there were.
        holds: u64,
    },
    /// The wait ended without a grant.
    Timeout,
    /// The wait ended without a grant, and its place in the queue is kept for so long.
    Kept {
        /// For how long.
        span: Us,
    },
    /// A repeat of the request has taken its place over.
    Superseded,
    /// The attempt was ended by its client.
    Cancelled,
    /// To a cancel: the attempt is over.
    Ended {
        /// The fence of the hold that it had; 0 if it had none.
        fence: u64,
    },
    /// Done; the answer has nothing else to say. To `ping`, a health check, `auth`, `listen`, `unlisten`,
    /// [`Command::Declare`] and [`Command::Detach`].
    Done,
    /// The signal was sent.
    Signalled {
        /// How many got it: connections without a group, and groups.
        receivers: u64,
    },
    /// The request was not carried out.
    Refused(Refusal),
}

/// News of a session from the lock table to the hub; no client hears of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The session has nothing left in the table: its last hold was ended by time or by another session, or a drain has
    /// ended its last enqueue.
    Freed,
    /// After [`Command::Close`]: nothing of the session is left.
    Closed,
}

/// Why a request was not carried out: the client's mistake or a limit, never a failure of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Malformed, or the token is not held.
    Error,
    /// There are as many keys as there may be.
    MaxLocks,
    /// The queue of the key is full.
    MaxWaiters,
    /// The session holds, or queues for, as much as it may.
    MaxHolds,
    /// The key has another limit, fixed by its first user.
    LimitMismatch,
    /// The session has enqueued for this key already, and not waited yet.
    AlreadyEnqueued,
    /// The session has not enqueued for this key.
    NotEnqueued,
    /// The slot that was enqueued for was granted, and its lease ended before the wait.
    LeaseExpired,
    /// The first frame did not say the right secret, or the request is an administrator's.
    Auth,
    /// There are as many connections as there may be, in all or from this address.
    MaxConnections,
    /// The server is about to stop.
    Draining,
    /// To a health check: the server grants nothing yet, because leases of its former life may not be over.
    Quarantine,
    /// The wait would close a circle of waiting holders, and never end.
    Deadlock,
}

/// A key as a listing shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View<'a> {
    /// Whether it is a lock or a semaphore.
    pub space: Space,
    /// Its name, any bytes.
    pub name: &'a [u8],
    /// How many may hold it at once.
    pub limit: u32,
    /// Whether it is used, and how.
    pub state: State<'a>,
}

/// Whether a key is used, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State<'a> {
    /// It is held or queued for.
    Used {
        /// Holds.
        held: u32,
        /// Tickets in its queue.
        waiting: u32,
        /// Its oldest hold.
        oldest: Option<TicketView<'a>>,
    },
    /// A key that nobody holds or queues for.
    Idle {
        /// For how long.
        span: Us,
    },
}

/// A hold or a wait as a listing shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TicketView<'a> {
    /// The fence of the hold; 0 while it waits.
    pub fence: u64,
    /// Its session. None: the hold has none, and lasts for its lease.
    pub session: Option<SessionId>,
    /// Its owner, if that was declared.
    pub owner: Option<&'a [u8]>,
    /// For how long it has been held, or has waited.
    pub age: Us,
    /// For how long the hold's lease still runs.
    pub lease_left: Us,
    /// For how long from now the table renews the hold by itself; None if it does not.
    pub renews: Option<Us>,
    /// The note that its client has attached to it.
    pub note: Option<&'a [u8]>,
}

/// The owner of a wait or a hold.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Owner {
    /// A session that has declared nothing.
    Session(SessionId),
    /// All sessions that have declared this name.
    Name(Vec<u8>),
}

/// One edge of a deadlock: an owner and the key that it waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitEdge {
    /// The owner that waits.
    pub owner: Owner,
    /// The space of the key.
    pub space: Space,
    /// The key that it waits for.
    pub key: Vec<u8>,
}

impl Display for WaitEdge {
    /// `owner:key`, or `owner:semaphore key`; bytes that are no text become U+FFFD.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.owner {
            Owner::Session(id) => write!(f, "conn {}", id.serial())?,
            Owner::Name(name) => f.write_str(&String::from_utf8_lossy(name))?,
        }
        let space = match self.space {
            Space::Lock => "",
            Space::Semaphore => "semaphore ",
        };
        write!(f, ":{space}{}", String::from_utf8_lossy(&self.key))
    }
}
