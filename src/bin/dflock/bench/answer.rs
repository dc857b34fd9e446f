//! What bench asks of a server, and what it hears, whatever the protocol. Plain values. Invariant: an answer that is
//! none of the expected ones is `Refused`.

use dflockd::command::Token;

/// The kind of a request, which its answer does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Hello,
    Acquire,
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With the server's token, if its protocol has one.
    Granted(Option<Token>),
    /// The release, or the greeting.
    Done,
    /// The key is held, and there is no queue.
    Busy,
    /// The wait is over.
    Timeout,
    /// Anything else.
    Refused,
}

/// An answer that has arrived.
pub struct Heard {
    /// How many bytes it has.
    pub used: usize,
    pub answer: Answer,
    /// The server answers nothing more on this connection.
    pub closes: bool,
}
