//! The faces: how requests arrive as bytes and how replies leave as bytes. A face is a pure function from the
//! head of a byte stream to one request and back from a reply to bytes; it keeps nothing between calls. Invariant: what
//! they make of bytes is the same few words, so the hub does not know which of them has spoken.

pub mod ask;
pub mod distlockd;
pub mod json;
pub mod text;

use crate::command::{Command, Refusal, Reply};

/// The protocol of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Face {
    /// Three lines a request, of dflockd-protocol(7).
    #[default]
    Text,
    /// The frames of the Python server distlockd.
    Distlockd,
}

impl Face {
    /// Reads the first frame of `input`; who is not `trusted` yet may send no long one.
    pub fn parse(self, input: &[u8], trusted: bool) -> Parsed<'_> {
        match self {
            Face::Text => text::parse(input, trusted),
            Face::Distlockd => distlockd::parse(input),
        }
    }

    /// Appends what says `reply`.
    pub fn write(self, reply: Reply, out: &mut Vec<u8>) {
        match self {
            Face::Text => text::write(reply, out),
            Face::Distlockd => distlockd::write(reply, out),
        }
    }

    /// Appends the answer to a frame that asks for nothing that can be done.
    pub fn write_mistake(self, why: &str, out: &mut Vec<u8>) {
        match self {
            Face::Text => text::write(Reply::Refused(Refusal::Error), out),
            Face::Distlockd => distlockd::write_mistake(why, out),
        }
    }

    /// The longest frame, in bytes.
    pub fn frame_max(self) -> usize {
        match self {
            Face::Text => text::FRAME_MAX,
            Face::Distlockd => distlockd::FRAME_MAX,
        }
    }
}

/// What the head of a stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed<'a> {
    /// Not a whole frame yet, but this many lines of one.
    Partial {
        /// 0 to 2; 0 where frames have no lines.
        lines: u8,
    },
    /// A whole frame that asks for something.
    Done {
        /// Its length in bytes.
        used: usize,
        /// What it asks for.
        request: Request<'a>,
    },
    /// A whole frame that asks for nothing that can be done.
    Bad {
        /// Its length in bytes.
        used: usize,
        /// What is wrong with it, for faces that say so.
        why: &'static str,
    },
    /// A line over its cap begins after this many bytes; its end may not have come yet.
    TooLong {
        /// Length of the lines before it in bytes.
        used: usize,
        /// How many those are: 0 to 2.
        lines: u8,
    },
}

/// What a frame asks for: of the lock table, or of the hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// For the lock table.
    Command(Command<'a>),
    /// Are you there?
    Ping,
    /// Here is the secret.
    Auth(&'a [u8]),
    /// Could you grant something?
    Health,
    /// What is there?
    Stats,
    /// Tell me of signals to channels like this.
    Listen {
        /// Parts with dots between them; `*` is any one part, `>` at the end any one or more.
        pattern: &'a [u8],
        /// Who says the same takes turns; empty is nobody.
        group: &'a [u8],
    },
    /// Tell me no more.
    Unlisten {
        /// As it was said.
        pattern: &'a [u8],
        /// As it was said.
        group: &'a [u8],
    },
    /// Tell everybody who listens to this channel.
    Signal {
        /// Parts with dots between them, none of them a wildcard.
        channel: &'a [u8],
        /// What to tell, as it was sent; not blank.
        payload: &'a [u8],
    },
}
