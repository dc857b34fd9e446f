//! What the hub knows of a session of the REST face, beside what it knows of any. It does nothing. Invariant: while there
//! is a grant here, the last answer in the session's output tells of it, and the kernel has not taken all of that.

use crate::command::{Space, Token};
use crate::wire::http::Exchange;

/// A session of the REST face.
#[derive(Default)]
pub struct Rest {
    /// The request that is being carried out.
    pub exchange: Option<Box<Exchange>>,
    /// The input must have so many bytes before a request can be whole.
    pub need: usize,
    /// The grant whose answer the kernel has not taken yet.
    pub unsent: Option<Box<Grant>>,
    /// Wrong secrets that it has sent.
    pub failures: u8,
}

/// A grant, so that it can be taken back.
pub struct Grant {
    pub space: Space,
    pub name: Vec<u8>,
    pub token: Token,
}
