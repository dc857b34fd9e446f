//! The faces: how requests arrive as bytes and how replies leave as bytes. A face is a set of pure functions: from the
//! head of a byte stream to one request, and from a reply to bytes. It keeps nothing between calls, and knows no
//! connection. Invariant: each face makes the same few requests, so the hub only asks `Rules` how faces differ
//! otherwise.

pub mod ask;
pub mod distlockd;
#[cfg(feature = "http")]
pub mod http;
pub mod json;
#[cfg(feature = "http")]
pub mod metrics;
pub mod text;

use crate::command::{Command, Refusal, Reply, Space, Us};
#[cfg(feature = "http")]
pub use http::Exchange;

/// There are no such requests without the REST face.
#[cfg(not(feature = "http"))]
#[derive(Debug)]
pub enum Exchange {}

/// The protocol of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Face {
    /// The protocol of dflockd-protocol(7), three lines a request.
    #[default]
    Text,
    /// The frames of the Python server distlockd.
    Distlockd,
    /// HTTP/1.1, for clients without a connection of their own, for browsers and for Prometheus.
    #[cfg(feature = "http")]
    Http,
}

/// How faces differ beyond their bytes. Code that depends on the face of a session asks here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// A drain waits for the sessions of this face, and closes those that hold nothing.
    pub drains: bool,
    /// A server that does not lead answers on this face, because others ask how it is.
    pub stands_by: bool,
    /// A session may be silent between frames without limit, because clients of this face keep pools of connections.
    pub may_idle: bool,
    /// How long a session may be silent between frames; 0: the read timeout, unless it holds or listens.
    pub keep_alive: Us,
    /// A session must say the server's secret first, if there is one.
    pub needs_secret: bool,
    /// A session that begins with an HTTP request or with TLS is closed unanswered: a browser must not drive this port.
    pub refuses_browsers: bool,
    /// A session that fails is told so before it is closed. On other faces a client would take that for the answer to
    /// its next request.
    pub has_last_word: bool,
    /// The event by which the log tells where its clients come in.
    pub listening: &'static str,
    /// The option that sets its port.
    pub port_flag: &'static str,
    /// The longest frame, in bytes.
    pub frame_max: usize,
}

impl Face {
    /// The one table of how faces differ.
    pub const fn rules(self) -> &'static Rules {
        match self {
            Face::Text => &Rules {
                drains: true,
                stands_by: false,
                may_idle: false,
                keep_alive: 0,
                needs_secret: true,
                refuses_browsers: true,
                has_last_word: true,
                listening: "listening",
                port_flag: "--port",
                frame_max: text::FRAME_MAX,
            },
            Face::Distlockd => &Rules {
                drains: false,
                stands_by: false,
                may_idle: true,
                keep_alive: 0,
                needs_secret: false,
                refuses_browsers: true,
                has_last_word: false,
                listening: "listening-distlockd",
                port_flag: "--distlockd-port",
                frame_max: distlockd::FRAME_MAX,
            },
            #[cfg(feature = "http")]
            Face::Http => &Rules {
                drains: false,
                stands_by: true,
                may_idle: false,
                keep_alive: http::KEEP_ALIVE,
                needs_secret: false,
                refuses_browsers: false,
                has_last_word: false,
                listening: "listening-http",
                port_flag: "--http-port",
                frame_max: http::FRAME_MAX,
            },
        }
    }

    /// Reads the first frame of `input`. A session that is not `trusted` yet may send no long one. `scratch` is for what a
    /// face must decode.
    #[cfg_attr(
        not(feature = "http"),
        expect(unused_variables, reason = "the other faces read in place")
    )]
    pub fn parse<'a>(self, input: &'a [u8], scratch: &mut Scratch, trusted: bool) -> Parsed<'a> {
        match self {
            Face::Text => text::parse(input, trusted),
            Face::Distlockd => distlockd::parse(input),
            #[cfg(feature = "http")]
            Face::Http => match http::parse(input, &scratch.http, &mut scratch.exchange) {
                http::Framed::Partial { need } => Parsed::Short { need },
                http::Framed::Interim { need } => Parsed::Interim { need },
                http::Framed::Done { used } => Parsed::Done {
                    used,
                    request: Request::Exchange,
                },
            },
        }
    }

    /// Whether a connection that begins with these bytes is a browser's, on a face that refuses those. A web page chooses
    /// the method and most of what follows the first line; over TLS its server chooses the id of the session.
    pub fn is_browser(self, input: &[u8]) -> bool {
        let is_like_http = match self {
            Face::Text => text::is_http_line,
            Face::Distlockd => distlockd::is_text,
            #[cfg(feature = "http")]
            Face::Http => |_: &[u8]| false,
        };
        self.rules().refuses_browsers && (is_http(input) || is_tls(input) || is_like_http(input))
    }

    /// Appends the bytes of `reply`. The answers of HTTP say more than a reply: [`http::write`] and its like write those.
    pub fn write(self, reply: Reply, out: &mut Vec<u8>) {
        match self {
            Face::Text => text::write(reply, out),
            Face::Distlockd => distlockd::write(reply, out),
            #[cfg(feature = "http")]
            Face::Http => unreachable!("an answer of HTTP needs its request"),
        }
    }

    /// Appends the answer to a frame that is no valid request.
    pub fn write_mistake(self, why: &str, out: &mut Vec<u8>) {
        match self {
            Face::Text => text::write(Reply::Refused(Refusal::Error), out),
            Face::Distlockd => distlockd::write_mistake(why, out),
            #[cfg(feature = "http")]
            Face::Http => unreachable!("a mistake over HTTP is a request with a problem"),
        }
    }
}

/// What faces decode into, and what they must know for that. It is the hub's, and used again for every request.
#[derive(Clone, Debug)]
pub struct Scratch {
    /// What the REST face was told when it was made.
    #[cfg(feature = "http")]
    pub http: http::Settings,
    /// The last request of the REST face, until the hub takes it.
    #[cfg(feature = "http")]
    pub exchange: Option<Box<Exchange>>,
}

/// Whether a connection that begins with these bytes speaks TLS: they are a record of a handshake, and the first byte of
/// its version; RFC 8446, 5.1.
fn is_tls(input: &[u8]) -> bool {
    input.starts_with(&[0x16, 0x03])
}

/// Whether a connection that begins with these bytes speaks HTTP, with a usual method.
fn is_http(input: &[u8]) -> bool {
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

/// What the head of a byte stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed<'a> {
    /// Not a whole frame yet.
    Partial {
        /// How many lines of it are whole: 0 to 2; 0 where frames have no lines.
        lines: u8,
    },
    /// Not a whole frame yet, on a face without lines.
    Short {
        /// There is no whole frame before the input has so many bytes.
        need: usize,
    },
    /// The same, and the client waits for an interim answer before it sends the rest. One is sent per frame.
    Interim {
        /// As above.
        need: usize,
    },
    /// A whole frame with a valid request.
    Done {
        /// Its length in bytes.
        used: usize,
        /// The request.
        request: Request<'a>,
    },
    /// A whole frame without a valid request.
    Bad {
        /// Its length in bytes.
        used: usize,
        /// The beginning of the next frame cannot be found, so the session is closed after the answer.
        fatal: bool,
        /// What is wrong, for faces whose answer says it.
        why: &'static str,
    },
    /// A line is over its cap; its end may not have come yet.
    TooLong {
        /// Length in bytes of the lines before it in the frame.
        used: usize,
        /// How many lines are before it: 0 to 2.
        lines: u8,
    },
}

/// A request to the lock table or to the hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// For the lock table.
    Command(Command<'a>),
    /// Of the REST face: it is decoded, in the [`Scratch`].
    Exchange,
    /// Asks whether the server answers.
    Ping,
    /// Says the secret.
    Auth(&'a [u8]),
    /// Asks whether the server could grant something, which it cannot while it drains.
    Health,
    /// Asks for the keys, the audiences and the counts.
    Stats,
    /// Asks who holds a key, and who waits for it.
    Show {
        /// The space of the key.
        space: Space,
        /// The name, as sent.
        key: &'a [u8],
    },
    /// Subscribes to the signals of all channels that match a pattern.
    Listen {
        /// Parts with dots between them: `*` matches one part, and `>` at the end one part or more.
        pattern: &'a [u8],
        /// Listeners that name one pattern and one group take turns; empty for no group.
        group: &'a [u8],
    },
    /// Ends a subscription.
    Unlisten {
        /// The pattern of the subscription.
        pattern: &'a [u8],
        /// Its group; empty for none.
        group: &'a [u8],
    },
    /// Sends a signal to the listeners of a channel.
    Signal {
        /// Parts with dots between them, none of them a wildcard.
        channel: &'a [u8],
        /// The payload, as sent; not blank.
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

    #[test]
    fn each_face_knows_a_browser_as_early_as_it_can() {
        let hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
        for (face, bytes, known_at) in [
            (Face::Text, &hello[..], 2),
            (Face::Distlockd, hello, 2),
            (Face::Text, b"GET / HTTP/1.1\r\n", 4),
            (Face::Distlockd, b"GET / HTTP/1.1\r\n", 4),
            (Face::Text, b"MKCOL /a HTTP/1.1\r\r\n_\n_\n", 20),
            (Face::Text, b"x HTTP/1.0\nl\nk\n", 11),
            (Face::Text, b" HTTP/1.1\n", 10),
            (Face::Text, b"PRI * HTTP/2.0\r\n\r\nSM\r\n", 16),
            (Face::Distlockd, b"PRI * HTTP/2.0\r\n", 5),
            (Face::Distlockd, b"!~ / HTTP/1.1\r\n", 5),
        ] {
            for cut in 0..=bytes.len() {
                assert_eq!(face.is_browser(&bytes[..cut]), cut >= known_at, "{bytes:?}");
            }
        }
    }

    #[test]
    fn no_client_is_taken_for_a_browser() {
        for bytes in [
            &b"l\nk HTTP/1.1\n0 HTTP/1.1\n"[..],
            b"signal\na\nGET / HTTP/1.1\n",
            b"l HTTP/1.2\n",
            b"lHTTP/1.1\n",
            b"l HTTP/1.1 \n",
            b"PRI * HTTP/2.0 \n",
            b"\x16\n\x03\n\n",
            b"\x15\x03\n",
        ] {
            assert!(!Face::Text.is_browser(bytes), "{bytes:?}");
        }
        for command in 0..32 {
            let frame = [&[command][..], b"\x20\x20\x20\x20 / HTTP/1.1\n"].concat();
            assert!(!Face::Distlockd.is_browser(&frame), "{frame:?}");
        }
        let frame = b"x\0\x01\0\x01kc HTTP/1.1\n";
        assert!(!Face::Distlockd.is_browser(frame));
    }
}
