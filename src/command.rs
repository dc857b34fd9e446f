//! The vocabulary that the faces and the lock table share: what may be asked, what may be answered, and the
//! names for sessions, tokens and time. It holds no behaviour beyond that of its values, and imports nothing of
//! ours. Invariant: a value of these types has already been checked for form, never for right.

use std::collections::VecDeque;
use std::fmt::{self, Display};

/// Microseconds of the server's clock (CLOCK_BOOTTIME): an instant or a span. Spans that a client asks for are
/// at most 9,223,372,036 s; sums saturate.
pub type Us = u64;

/// One second, in [`Us`].
pub const SECOND: Us = 1_000_000;

/// The longest span a client or an option may name, in seconds: 2^63 ns, as in the Go server.
pub const SECONDS_MAX: u64 = 9_223_372_036;

/// Names one connection for the life of the server: a serial that is never reused, above a slot that is. The
/// slot finds the session without a search, the whole id is compared, so what is late finds nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct SessionId(u64);

impl SessionId {
    /// How many slots there can be: 2^24.
    pub const SLOTS: u32 = 1 << 24;

    /// From nobody: commands of the server itself, such as [`Command::Tick`].
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
    /// Orders all grants of all keys; what a client hands to the resource that it guards.
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

/// Where the name of an owner is from. Equal names of two realms are two owners.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Realm {
    /// A client has declared it: `id` on the line protocol, and what other faces have of the kind.
    #[default]
    Declared,
    /// The client id of distlockd's protocol.
    Distlockd,
}

/// What ends a hold besides its release.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Bound {
    /// The end of its session, or of its lease.
    #[default]
    Session,
    /// The end of its lease alone: it is its owner's, and no session's.
    Lease,
}

/// What a session asks of the lock table, or the server itself of all of it. Borrows from the request's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// A slot of `key`, waiting in its queue for up to `wait`; 0 never waits.
    Acquire {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
        /// Slots of the key: 1 for a lock.
        limit: u32,
        /// How long to queue at most.
        wait: Us,
        /// How long the hold lasts unless renewed; the server's default if not said.
        lease: Option<Us>,
        /// The declared owner that waits and is to hold, if it is not the session's; only with [`Bound::Lease`].
        owner: Option<&'a [u8]>,
        /// What ends the hold besides its release.
        bound: Bound,
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
    /// The second phase: waits for up to `wait` for what was enqueued, and consumes the record.
    Wait {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
        /// How long to wait at most; a hold that is there is answered at once.
        wait: Us,
    },
    /// Gives a hold back, from whatever session it was granted to.
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
    },
    /// The session speaks for this owner from now on. Whoever says the same name is the same sequential actor: its waits
    /// and holds count together when deadlocks are looked for, and a renewal moves a hold to the session that renews.
    Declare {
        /// The name, as sent.
        owner: &'a [u8],
    },
    /// An acquire that never waits, of a hold bound by its lease, which is the realm's. The same owner's hold of the key
    /// is answered again, with its lease begun anew. What is not free is a [`Reply::Timeout`].
    Claim {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
        /// Who names owners so.
        realm: Realm,
        /// The owner's name, as sent.
        owner: &'a [u8],
    },
    /// Gives back what the owner has claimed.
    Yield {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
        /// Who names owners so.
        realm: Realm,
        /// The owner's name, as sent.
        owner: &'a [u8],
    },
    /// The session is gone: its waits end, then its holds. [`Notice::Closed`] follows, perhaps turns later.
    Close,
    /// From now on nothing is granted; the queues empty over the next ticks.
    Drain,
    /// Time has passed: what is due ends, and work that was put off goes on.
    Tick {
        /// Until when everything that arrived is known; what is due by then ends.
        heard: Us,
    },
}

/// What the lock table tells a session. The faces spell it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The hold that was asked for, its lease counted from now.
    Granted {
        /// Proves the hold.
        token: Token,
        /// How long it lasts.
        lease: Us,
    },
    /// To an enqueue: the hold is there, its lease counted from now.
    Acquired {
        /// Proves the hold.
        token: Token,
        /// How long it lasts.
        lease: Us,
    },
    /// To an enqueue: there is a queue, and the session stands in it.
    Queued,
    /// The hold was given back.
    Released,
    /// The hold now ends this long after now.
    Renewed {
        /// How long it lasts.
        lease: Us,
    },
    /// The wait ended without a grant.
    Timeout,
    /// Done, and there is nothing else to say: to `ping`, `auth`, `listen`, `unlisten` and
    /// [`Command::Declare`].
    Done,
    /// The signal was sent.
    Signalled {
        /// To how many connections without a group, and to how many groups.
        receivers: u64,
    },
    /// The request was not carried out.
    Refused(Refusal),
}

/// What the lock table tells the hub of a session, and no client ever hears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The last hold of the session was ended by time or from another session.
    Freed,
    /// After [`Command::Close`]: nothing of the session is left.
    Closed,
}

/// Why a request was not carried out: the client's mistake or a limit, never a failure of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Malformed, or the token is not held.
    Error,
    /// The key would be one too many.
    MaxLocks,
    /// The queue of the key is full.
    MaxWaiters,
    /// The session holds, or queues for, as much as it may.
    MaxHolds,
    /// The key has another limit, fixed by its first user.
    LimitMismatch,
    /// The session has a record of this key already.
    AlreadyEnqueued,
    /// The session has no record of this key.
    NotEnqueued,
    /// What was enqueued was granted, and its lease ended before the wait.
    LeaseExpired,
    /// The first frame was not the right secret.
    Auth,
    /// The server is about to stop.
    Draining,
    /// Nobody would ever release what the session wants to wait for.
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
    /// Who uses it.
    pub state: State<'a>,
}

/// Who uses a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State<'a> {
    /// Somebody holds it or queues for it.
    Used {
        /// Holds.
        held: u32,
        /// Tickets in its queue.
        waiting: u32,
        /// The session of its oldest hold, if that still has one.
        holder: Option<SessionId>,
        /// The owner of its oldest hold, if it was declared.
        owner: Option<&'a [u8]>,
        /// What is left of the oldest hold's lease.
        lease_left: Us,
    },
    /// Nobody does.
    Idle {
        /// For how long.
        span: Us,
    },
}

/// Whose a wait or a hold is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Owner {
    /// A session that has declared nothing.
    Session(SessionId),
    /// All sessions that have declared this.
    Name(Vec<u8>),
}

/// One of those who wait for each other: an owner and the key that it waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitEdge {
    /// Who waits.
    pub owner: Owner,
    /// Whether for a lock or a semaphore.
    pub space: Space,
    /// For which.
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

/// The only way out of the lock table, for the hub to empty after each command.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Each answers the request of its session, in the order in which they were made.
    pub replies: VecDeque<(SessionId, Reply)>,
    /// Each is for the hub alone, in the order in which they were made.
    pub notices: VecDeque<(SessionId, Notice)>,
}

impl Outbox {
    /// Answers the request of this session.
    pub fn reply(&mut self, to: SessionId, reply: Reply) {
        self.replies.push_back((to, reply));
    }

    /// Tells the hub something of this session.
    pub fn notice(&mut self, of: SessionId, notice: Notice) {
        self.notices.push_back((of, notice));
    }

    /// Whether the hub has taken everything.
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.notices.is_empty()
    }
}
