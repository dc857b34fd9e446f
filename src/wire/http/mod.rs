//! The REST face: requests of HTTP/1.1 (RFC 9110, RFC 9112) with bodies in JSON. This file has the types that the parts
//! share. `parse.rs` reads a request: `head.rs` and `body.rs` find its end, `route.rs` says what its path and method ask
//! for, `read.rs` reads its body. `guard.rs` keeps the pages of browsers out. `problem.rs` has what can be wrong, and
//! `answer.rs` writes answers; `stored.rs` has the two that are the same for everybody. Invariant: whatever is not
//! understood exactly is refused, and after a doubt about where a request ends nothing that follows it is read.

mod answer;
mod body;
mod guard;
mod head;
pub mod lock;
mod parse;
pub mod problem;
mod read;
pub mod route;
pub mod stored;

pub use answer::{
    JSON, status_of, write, write_body, write_instant, write_interim, write_lock_id,
    write_no_content, write_problem, write_seconds,
};
pub use guard::{admit, is_allowed_host, is_allowed_origin};
pub use parse::{FRAME_MAX, Framed, has_begun, parse};

use crate::command::{SECOND, Space, Token, Us};

/// How long a connection may be silent between requests.
pub const KEEP_ALIVE: Us = 75 * SECOND;

/// What the face is told once, when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The lease of an acquire that names none; at most `max_timeout`.
    pub default_timeout: Us,
    /// The longest lease that a request may ask for, and how long after its last contact a hold renews itself.
    pub max_timeout: Us,
    /// How often the server renews a hold that asked for that.
    pub renewal_interval: Us,
    /// The longest wait that a request may ask for.
    pub max_wait: Us,
    /// Whether the metrics are given without a secret.
    pub metrics_public: bool,
    /// Whether the face is over TLS, so that its own pages are of `https`.
    pub is_https: bool,
    /// Whether it asks clients for certificates.
    pub knows_clients: bool,
    /// The name of the host that the face listens on, as configured: allowed in `Host`.
    pub host: String,
    /// Origins whose pages may use the face, as `scheme://host[:port]`.
    pub origins: Vec<String>,
}

impl Default for Settings {
    /// The defaults.
    fn default() -> Settings {
        Settings {
            default_timeout: 30 * SECOND,
            max_timeout: 300 * SECOND,
            renewal_interval: 5 * SECOND,
            max_wait: 300 * SECOND,
            metrics_public: false,
            is_https: false,
            knows_clients: false,
            host: String::new(),
            origins: Vec::new(),
        }
    }
}

/// One request, decoded: what the hub carries out and what the answer repeats. A session keeps it while it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What the path asks for; [`Route::Unknown`] if there is nothing like it.
    pub route: Route,
    /// The method.
    pub method: Method,
    /// Whether the connection goes on after the answer.
    pub keeps_alive: bool,
    /// The request is of HTTP/1.0, so an answer that keeps the connection says so.
    pub is_old: bool,
    /// `X-Request-Id` as sent, if it may be repeated; else empty, and the hub names the request.
    pub id: Vec<u8>,
    /// `Host` as sent; empty if there is none.
    pub host: Vec<u8>,
    /// `Origin` as sent: a page of a browser asks.
    pub origin: Option<Vec<u8>>,
    /// The page at `origin` may read the answer. Set by [`admit`].
    pub is_shared: bool,
    /// A browser asks whether a page may ask: there is an `Access-Control-Request-Method`.
    pub is_preflight: bool,
    /// `If-None-Match` as sent; empty if there is none.
    pub tags: Vec<u8>,
    /// The secret of `Authorization: Bearer`.
    pub credential: Option<Vec<u8>>,
    /// The name of the lock, decoded; empty on routes without one.
    pub name: Vec<u8>,
    /// What follows the `?`.
    pub query: Query,
    /// What the body asks for; an error says what is wrong with the request.
    pub asked: Result<Asked, Box<Problem>>,
    /// When its last byte was received. Set by the hub.
    pub arrived: Us,
    /// The fence and the client of each hold that it names, to be ended or renewed. Set by the hub.
    pub named: Vec<(u64, Vec<u8>)>,
}

/// A method of HTTP; RFC 9110, 9.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Read.
    Get,
    /// Read, without the body of the answer.
    Head,
    /// Act.
    Post,
    /// End holds by force.
    Delete,
    /// Ask which methods there are.
    Options,
    /// Any other.
    Other,
}

/// What a path and its method ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// POST `/locks/{lockName}/acquire`.
    Acquire,
    /// POST `/locks/{lockName}/release`.
    Release,
    /// POST `/locks/{lockName}/renew`.
    Renew,
    /// GET `/locks/{lockName}/status`.
    Status,
    /// GET `/locks`.
    Locks,
    /// GET `/locks/stats`; DELETE of a lock with that name is [`Route::Lock`].
    Stats,
    /// DELETE `/locks/{lockName}`.
    Lock,
    /// GET `/health`.
    Health,
    /// GET `/ready`.
    Ready,
    /// GET `/metrics`.
    Metrics,
    /// GET `/`.
    Page,
    /// GET `/openapi.json`.
    OpenApi,
    /// OPTIONS `*`.
    Server,
    /// No path of this face.
    Unknown,
}

/// The parameters of a query that a route reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// `space=semaphore` or `space=lock`.
    pub space: Option<Space>,
    /// How many locks a page has: 1 to 1,000.
    pub limit: usize,
    /// Where the page begins: a cursor that an earlier page has given.
    pub after: u32,
    /// What the names on the page begin with.
    pub prefix: Vec<u8>,
    /// `lockId`, as a fence; 0 is no hold.
    pub fence: Option<u64>,
    /// Whether a status has the queue.
    pub queue: bool,
}

/// What the body of a request asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// Nothing: the route says it all.
    Nothing,
    /// A slot of a lock.
    Acquire(Acquire),
    /// The end of a hold, or of an attempt.
    Release(Release),
    /// A later end of a lease.
    Renew(Renew),
}

/// The body of an acquire. Names have 1 to 128 bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acquire {
    /// `clientId`; the hub makes one up if there is none.
    pub client: Option<Vec<u8>>,
    /// `timeout`: how long the hold lasts.
    pub lease: Us,
    /// `waitTimeout`: how long to wait at most; 0 tries once.
    pub wait: Us,
    /// `autoRenew`: the server renews the hold.
    pub renews: bool,
    /// `metadata`, a JSON object as sent.
    pub metadata: Option<Box<[u8]>>,
    /// `limit`: the name is a semaphore's, with so many slots.
    pub limit: Option<u32>,
    /// `requestId`, the secret name of the attempt. There is a `client` too.
    pub attempt: Option<Vec<u8>>,
    /// `keepPlace`: for how long a wait that has timed out keeps its place; 0 does not.
    pub keep: Us,
}

/// The body of a release: something in it names a hold or an attempt.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Release {
    /// `clientId`.
    pub client: Option<Vec<u8>>,
    /// `lockId`, as a fence; 0 is no hold.
    pub fence: Option<u64>,
    /// `renewalToken`; one that no grant could have has fence 0.
    pub token: Option<Token>,
    /// `requestId`. There is a `client` too.
    pub attempt: Option<Vec<u8>>,
}

/// The body of a renewal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Renew {
    /// `renewalToken`; one that no grant could have has fence 0.
    pub token: Token,
    /// `timeout`: the new lease; that of the grant if there is none.
    pub lease: Option<Us>,
    /// `lockId`, as a fence; 0 is no hold.
    pub fence: Option<u64>,
    /// `clientId`.
    pub client: Option<Vec<u8>>,
}

/// Why a request is not carried out; RFC 9457.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The status of the answer.
    pub status: u16,
    /// A short name for programs. The type is `urn:dflockd:problem:` and this.
    pub code: &'static str,
    /// What is wrong and what to do, for people.
    pub detail: String,
    /// The fields of the body that are wrong, and what is wrong with each.
    pub errors: Vec<(&'static str, String)>,
    /// The methods that the path has, for `Allow`; empty on other problems.
    pub allow: &'static str,
}

/// The time of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The server's clock.
    pub now: Us,
    /// The wall clock, in microseconds since 1970.
    pub wall_us: u64,
}

/// A hold that begins, or goes on with another lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted<'a> {
    /// Whose hold it is.
    pub client: &'a [u8],
    /// Proves the hold.
    pub token: Token,
    /// How long the hold lasts from now.
    pub lease: Us,
    /// How long the request has waited.
    pub waited: Us,
    /// For how long from now the server renews the hold, if it does.
    pub renews: Option<Us>,
}

/// What a request about a lock led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    /// A slot was granted, or its lease renewed.
    Granted(Granted<'a>),
    /// No slot was granted in time.
    NotGranted {
        /// Who asked.
        client: &'a [u8],
        /// How long the request has waited.
        waited: Us,
        /// `timeout`, `quarantine`, `superseded` or `cancelled`.
        reason: &'static str,
        /// For how long the place in the queue is kept, if it is.
        kept: Option<Us>,
    },
    /// The hold or the attempt has ended.
    Released {
        /// Whose it was, if the request or the hold says so.
        client: Option<&'a [u8]>,
        /// The fence of the hold; None: there was none.
        fence: Option<u64>,
    },
    /// The holds of a lock were ended by force.
    Broken {
        /// How many there were.
        count: u64,
        /// The fence and the client of each, at most 1,000.
        holds: &'a [(u64, Vec<u8>)],
        /// How many wait for the lock.
        waiting: u64,
    },
    /// The wait would have been a deadlock.
    Deadlock {
        /// Who asked.
        client: &'a [u8],
        /// How long the request has waited.
        waited: Us,
        /// Each client in the circle and the key that it waits for, at most 16.
        cycle: &'a [(Vec<u8>, Vec<u8>)],
    },
}

#[cfg(test)]
mod tests;
