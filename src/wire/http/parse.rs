//! One request from the head of a byte stream: its frame first, then what it asks for. Invariant: a request of which
//! the end is in doubt closes the connection, and what follows it is never read; one that only asks for the wrong thing
//! takes up exactly its own bytes.

use super::body::{self, BODY_MAX, Extent, FRAMING_MAX, TRAILER_MAX};
use super::head::{self, Expects, Found, HEADERS_MAX, Head};
use super::{Asked, Exchange, JSON, Method, Problem, Query, Route, Settings, read, route};

/// The longest request that may be incomplete, in bytes. A chunk may be refused only when its line is whole.
pub const FRAME_MAX: usize =
    2 + head::LINE_MAX + 2 + HEADERS_MAX + BODY_MAX + FRAMING_MAX + TRAILER_MAX + 512;

/// What the head of a byte stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framed {
    /// Not a whole request yet.
    Partial {
        /// There is none before the input has so many bytes, always more than it has now.
        need: usize,
    },
    /// A whole head that may be carried out, of a client that waits for an interim answer before it sends the body.
    Interim {
        /// There is no whole request before the input has so many bytes.
        need: usize,
    },
    /// A request.
    Done {
        /// Its length in bytes; all of the input if the connection cannot go on.
        used: usize,
    },
}

/// Whether a request has begun in `input`. An empty line after a body is none.
pub fn has_begun(input: &[u8]) -> bool {
    !matches!(input, b"" | b"\r" | b"\r\n")
}

/// Reads the first request of `input` into `out`. If the request is partial but its head is whole, that is there, so
/// that it can be refused before its body is kept; it has nothing of the body.
pub fn parse(input: &[u8], settings: &Settings, out: &mut Option<Box<Exchange>>) -> Framed {
    // An empty line after a body is an old mistake of clients; RFC 9112, 2.2.
    let begin = match input {
        [b'\r'] => return Framed::Partial { need: 2 },
        [b'\r', b'\n', ..] => 2,
        _ => 0,
    };
    let mut last = |exchange: Exchange| {
        *out = Some(Box::new(exchange));
        Framed::Done { used: input.len() }
    };
    let end = match head::find(&input[begin..]) {
        Found::Whole(len) => begin + len,
        Found::Partial(need) => return Framed::Partial { need: begin + need },
        Found::Bad(problem) => return last(Exchange::unread(problem)),
    };
    let head = match head::read(&input[begin..end]) {
        Ok(head) => head,
        Err(problem) => return last(Exchange::unread(problem)),
    };
    let rest = &input[end..];
    match body::measure(head.length, rest) {
        Extent::Whole(len) => {
            let data = body::data(head.length, &rest[..len]);
            let exchange = Exchange::of(&head, |route| {
                check(&head, !data.is_empty())?;
                match head.method {
                    Method::Post => read::body(route, &data, settings),
                    _ => Ok(Asked::Nothing),
                }
            });
            if !exchange.keeps_alive {
                return last(exchange);
            }
            *out = Some(Box::new(exchange));
            Framed::Done { used: end + len }
        }
        Extent::Bad(problem) => last(Exchange {
            keeps_alive: false,
            ..Exchange::of(&head, |_| Err(problem))
        }),
        Extent::Partial(need) if head.expects == Expects::Nothing || !rest.is_empty() => {
            let exchange = Exchange::of(&head, |_| Ok(Asked::Nothing));
            *out = Some(Box::new(exchange));
            Framed::Partial { need: end + need }
        }
        Extent::Partial(need) => {
            let exchange = Exchange::of(&head, |_| check(&head, true).map(|()| Asked::Nothing));
            if exchange.asked.is_err() {
                let keeps_alive = false;
                return last(Exchange {
                    keeps_alive,
                    ..exchange
                });
            }
            *out = Some(Box::new(exchange));
            Framed::Interim { need: end + need }
        }
    }
}

/// Checks what the head says of the body.
fn check(head: &Head, has_body: bool) -> Result<(), Problem> {
    if head.expects == Expects::Other {
        let detail = "the only expectation is 100-continue";
        return Err(Problem::new("expectation-failed", detail));
    }
    let is_read = has_body && head.method == Method::Post;
    if is_read && (head.is_encoded || !is_json(head.content_type)) {
        let detail = "send application/json without a Content-Encoding";
        return Err(Problem::new("unsupported-media-type", detail));
    }
    Ok(())
}

/// Whether a body of this type is read, as JSON. `curl -d` declares every body a form.
fn is_json(content_type: Option<&[u8]>) -> bool {
    let Some(text) = content_type else {
        return true;
    };
    let essence = text.split(|&byte| byte == b';').next().unwrap_or(text);
    [JSON, "application/x-www-form-urlencoded"]
        .iter()
        .any(|known| essence.trim_ascii().eq_ignore_ascii_case(known.as_bytes()))
}

impl Exchange {
    /// A request whose head is not understood or did not come. It is of the older version, as nothing in it may be relied
    /// upon, and the last on its connection.
    pub fn unread(problem: Problem) -> Exchange {
        Exchange {
            route: Route::Unknown,
            method: Method::Other,
            keeps_alive: false,
            is_old: true,
            id: Vec::new(),
            host: Vec::new(),
            origin: None,
            is_shared: false,
            is_preflight: false,
            tags: Vec::new(),
            credential: None,
            name: Vec::new(),
            query: Query::default(),
            asked: Err(Box::new(problem)),
            arrived: 0,
            named: Vec::new(),
        }
    }

    /// The request of a head. `ask` reads the body, if the head asks for something.
    fn of(head: &Head, ask: impl FnOnce(Route) -> Result<Asked, Problem>) -> Exchange {
        let (route, name) = route::find(head.method, head.word, head.path);
        let (query, errors) = route::query(route, head.query);
        let (name, asked) = match name {
            Ok(name) => (name, ask(route)),
            Err(problem) => (Vec::new(), Err(problem)),
        };
        let asked = match asked {
            Ok(_) if !errors.is_empty() && head.method != Method::Options => {
                Err(Problem::fields(errors))
            }
            asked => asked,
        };
        Exchange {
            route,
            method: head.method,
            keeps_alive: head.keeps_alive,
            is_old: head.is_old,
            id: head
                .id
                .filter(|id| is_safe(id))
                .unwrap_or_default()
                .to_vec(),
            host: head.host.to_vec(),
            origin: head.origin.map(<[u8]>::to_vec),
            is_shared: false,
            is_preflight: head.is_preflight,
            tags: head.tags.unwrap_or_default().to_vec(),
            credential: head.authorization.and_then(bearer).map(<[u8]>::to_vec),
            name,
            query,
            asked: asked.map_err(Box::new),
            arrived: 0,
            named: Vec::new(),
        }
    }
}

/// Whether an `X-Request-Id` may be repeated in headers, bodies and log lines.
fn is_safe(id: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~:/+=@#".contains(byte);
    (1..=64).contains(&id.len()) && id.iter().all(is_plain)
}

/// The secret in an `Authorization`; RFC 6750, 2.1.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, secret) = value.split_first_chunk::<6>()?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer");
    let secret = secret.strip_prefix(b" ").map(<[u8]>::trim_ascii)?;
    (is_bearer && !secret.is_empty()).then_some(secret)
}
