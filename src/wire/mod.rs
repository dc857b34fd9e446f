//! The faces: how requests arrive as bytes and how replies leave as bytes. A face is a pure function from the
//! head of a byte stream to one request and back from a reply to bytes; it keeps nothing between calls. Invariant: what
//! they make of bytes is the same few words, so the hub does not know which of them has spoken.

pub mod ask;
pub mod distlockd;
pub mod json;
#[cfg(test)]
mod played;
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
    /// A face that the hub's own tests play.
    #[cfg(test)]
    Played,
}

/// What the faces differ in beyond their bytes: whoever needs to know which face a session speaks asks here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// A drain waits for the sessions of this face, and closes those that hold nothing.
    pub drains: bool,
    /// A session may be silent for as long as it likes, because its clients keep pools of connections.
    pub may_idle: bool,
    /// A session must say the server's secret first, if there is one.
    pub needs_secret: bool,
    /// A session that begins with an HTTP request is closed without a word: a browser must not drive this port.
    pub refuses_browsers: bool,
    /// A session that fails is told so before it is closed. On a face without it, a client would take that for the
    /// answer to its next request.
    pub has_last_word: bool,
    /// The longest frame, in bytes.
    pub frame_max: usize,
}

impl Face {
    /// The one table of what faces differ in.
    pub const fn rules(self) -> &'static Rules {
        match self {
            Face::Text => &Rules {
                drains: true,
                may_idle: false,
                needs_secret: true,
                refuses_browsers: true,
                has_last_word: true,
                frame_max: text::FRAME_MAX,
            },
            Face::Distlockd => &Rules {
                drains: false,
                may_idle: true,
                needs_secret: false,
                refuses_browsers: true,
                has_last_word: false,
                frame_max: distlockd::FRAME_MAX,
            },
            #[cfg(test)]
            Face::Played => &played::RULES,
        }
    }

    /// Reads the first frame of `input`. A session that is not `trusted` yet may send no long one. `scratch` is for what
    /// must be decoded before it can be read; the faces that read in place leave it alone.
    #[cfg_attr(
        not(test),
        allow(
            unused_variables,
            clippy::ptr_arg,
            reason = "no face here needs it yet"
        )
    )]
    pub fn parse<'a>(self, input: &'a [u8], scratch: &'a mut Vec<u8>, trusted: bool) -> Parsed<'a> {
        match self {
            Face::Text => text::parse(input, trusted),
            Face::Distlockd => distlockd::parse(input),
            #[cfg(test)]
            Face::Played => played::parse(input, scratch),
        }
    }

    /// What the answer to this request needs of it, if an answer says more than its reply does.
    #[cfg_attr(
        not(test),
        allow(
            unused_variables,
            clippy::ptr_arg,
            reason = "no face here needs it yet"
        )
    )]
    pub fn exchange(self, request: &Request) -> Option<Box<Exchange>> {
        match self {
            Face::Text | Face::Distlockd => None,
            #[cfg(test)]
            Face::Played => played::exchange(request),
        }
    }

    /// Appends what says `reply`.
    #[cfg_attr(
        not(test),
        allow(
            unused_variables,
            clippy::ptr_arg,
            reason = "no face here needs it yet"
        )
    )]
    pub fn write(self, reply: Reply, exchange: Option<&Exchange>, out: &mut Vec<u8>) {
        match self {
            Face::Text => text::write(reply, out),
            Face::Distlockd => distlockd::write(reply, out),
            #[cfg(test)]
            Face::Played => played::write(reply, exchange, out),
        }
    }

    /// Appends the answer to a frame that asks for nothing that can be done.
    pub fn write_mistake(self, why: &str, out: &mut Vec<u8>) {
        match self {
            Face::Text => text::write(Reply::Refused(Refusal::Error), out),
            Face::Distlockd => distlockd::write_mistake(why, out),
            #[cfg(test)]
            Face::Played => out.extend_from_slice(why.as_bytes()),
        }
    }

    /// Appends what a client waits for before it sends the rest of a frame; see [`Parsed::Interim`].
    #[cfg_attr(
        not(test),
        allow(
            unused_variables,
            clippy::ptr_arg,
            reason = "no face here needs it yet"
        )
    )]
    pub fn write_interim(self, out: &mut Vec<u8>) {
        match self {
            Face::Text | Face::Distlockd => unreachable!("a frame of this face comes unasked"),
            #[cfg(test)]
            Face::Played => out.extend_from_slice(b"go on\n"),
        }
    }
}

/// Whether a connection that begins with these bytes speaks HTTP.
pub fn is_http(input: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"PATCH ",
        b"HEAD ",
        b"OPTIONS ",
        b"DELETE ",
        b"CONNECT ",
        b"TRACE ",
    ];
    METHODS.iter().any(|method| input.starts_with(method))
}

/// What the answer to a request needs of that request, where answers say more than replies do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Exchange {
    /// What the request was about, as sent.
    pub name: Vec<u8>,
}

/// What the head of a stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed<'a> {
    /// Not a whole frame yet, but this many lines of one.
    Partial {
        /// 0 to 2; 0 where frames have no lines.
        lines: u8,
    },
    /// Not a whole frame yet, and its client waits for a word before it sends the rest. It is told once a frame.
    Interim,
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
        /// Where the next frame begins cannot be told: the session is closed after the answer.
        fatal: bool,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_known_by_its_first_bytes() {
        assert!(is_http(b"GET / HTTP/1.1\r\n") && is_http(b"POST "));
        assert!(!is_http(b"GE") && !is_http(b"GET\n") && !is_http(b"get / "));
    }
}
