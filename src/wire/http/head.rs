//! The head of a request: request line and headers, up to the empty line. httparse splits it; the rules that two readers
//! of the same bytes could see differently are checked here (RFC 9112, 2.2, 5, 6 and 11.2). Invariant: each line ends
//! with CR LF and neither is anywhere else, and the length of the body is known from one header alone.

use std::str;

use super::{Method, Problem};
use crate::wire::text::find_lf;

/// The longest request line, in bytes without its CR LF.
pub const LINE_MAX: usize = 8192;
/// The longest block of headers, in bytes with the CR LF of each and the empty line.
pub const HEADERS_MAX: usize = 16_384;
/// The most headers.
pub const COUNT_MAX: usize = 64;

/// Where the head ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// It has not ended, and does not before there are so many bytes.
    Partial(usize),
    /// After so many bytes.
    Whole(usize),
    /// It cannot be one.
    Bad(Problem),
}

/// How the length of the body is said; RFC 9112, 6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    /// In the head. 0 if the head has nothing of it.
    Known(usize),
    /// By the chunks.
    Chunked,
}

/// What the client wants to hear before it sends the body; RFC 9110, 10.1.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expects {
    /// Nothing.
    Nothing,
    /// Whether it shall go on.
    Continue,
    /// What nobody knows.
    Other,
}

/// What the face reads of a head. Values are without the blanks around them.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// The method, as sent.
    pub word: &'a str,
    /// The method.
    pub method: Method,
    /// The path, as sent: `/...` or `*`.
    pub path: &'a str,
    /// What follows the first `?`.
    pub query: &'a str,
    /// HTTP/1.0.
    pub is_old: bool,
    /// Whether the client wants to keep the connection.
    pub keeps_alive: bool,
    /// The length of the body.
    pub length: Length,
    /// `Expect`.
    pub expects: Expects,
    /// `Host`, or the host of an absolute target; empty if there is none.
    pub host: &'a [u8],
    /// `Origin`.
    pub origin: Option<&'a [u8]>,
    /// `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// There is a `Content-Encoding` other than `identity`.
    pub is_encoded: bool,
    /// `X-Request-Id`; the first.
    pub id: Option<&'a [u8]>,
    /// `If-None-Match`; the first.
    pub tags: Option<&'a [u8]>,
    /// There is an `Access-Control-Request-Method`.
    pub is_preflight: bool,
}

/// Finds the end of the head at the beginning of `input`. Only the ends of the lines are looked at, and the version: an
/// older version has no headers, so that nothing else would follow.
pub fn find(input: &[u8]) -> Found {
    let Some(&first) = input.first() else {
        return Found::Partial(1);
    };
    if !first.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~".contains(&first) {
        return Found::Bad(bad("the request begins with no method"));
    }
    let Some(end) = find_lf(&input[..input.len().min(LINE_MAX + 2)]) else {
        return match input.len() {
            // Of an old version this line is all there is, so its end is not to be missed.
            ..LINE_MAX_ENDED => Found::Partial(input.len() + 1),
            _ => Found::Bad(Problem::new(
                "uri-too-long",
                format!("the request line has more than {LINE_MAX} bytes"),
            )),
        };
    };
    if let Err(problem) = version(&input[..end]) {
        return Found::Bad(problem);
    }
    let headers = &input[end + 1..];
    let mut at = 0;
    for _ in 0..=COUNT_MAX {
        let rest = &headers[at..headers.len().min(HEADERS_MAX)];
        let Some(end_of_line) = find_lf(rest) else {
            return match headers.len() {
                ..HEADERS_MAX => Found::Partial(least(input)),
                _ => Found::Bad(too_large()),
            };
        };
        match &rest[..end_of_line] {
            b"\r" => return Found::Whole(end + 1 + at + 2),
            [.., b'\r'] => at += end_of_line + 1,
            _ => return Found::Bad(bad("a line of the head ends without CR LF")),
        }
    }
    Found::Bad(too_large())
}

/// `LINE_MAX` and CR LF.
const LINE_MAX_ENDED: usize = LINE_MAX + 2;

/// How many bytes there are at least when a head that begins with `input`, and does not end in it, has ended.
fn least(input: &[u8]) -> usize {
    let seen = match input {
        [.., b'\r', b'\n', b'\r'] => 3,
        [.., b'\r', b'\n'] => 2,
        [.., b'\r'] => 1,
        _ => 0,
    };
    input.len() + 4 - seen
}

/// Checks the end of the request line, which is without its LF.
fn version(line: &[u8]) -> Result<(), Problem> {
    let Some(line) = line.strip_suffix(b"\r") else {
        return Err(bad("the request line ends without CR LF"));
    };
    let word = line.rsplit(|&byte| byte == b' ').next().unwrap_or(line);
    match word {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', ..] => Err(old_or_new()),
        _ if line.iter().filter(|&&byte| byte == b' ').count() == 1 => Err(old_or_new()),
        _ => Err(bad("the request line is not: method, path, version")),
    }
}

fn old_or_new() -> Problem {
    Problem::new("unsupported-version", "send HTTP/1.1 or HTTP/1.0")
}

fn too_large() -> Problem {
    let detail = format!("the headers are more than {COUNT_MAX}, or have over {HEADERS_MAX} bytes");
    Problem::new("headers-too-large", detail)
}

fn bad(detail: &str) -> Problem {
    Problem::new("bad-request", detail)
}

/// Reads a whole head.
pub fn read(head: &[u8]) -> Result<Head<'_>, Problem> {
    let mut headers = [httparse::EMPTY_HEADER; COUNT_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(used)) if used == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
        Err(error) => return Err(bad(&format!("the head is malformed: {error}"))),
        Ok(_) => return Err(bad("the head is malformed")),
    }
    let (word, target) = request
        .method
        .zip(request.path)
        .ok_or_else(|| bad("no method"))?;
    let is_old = request.version == Some(0);
    let mut seen = Seen::default();
    for header in request.headers.iter() {
        seen.take(header.name, header.value.trim_ascii())?;
    }
    let (path, query, authority) = target_of(word, target)?;
    let host = match (seen.host, authority) {
        (None, _) if !is_old => return Err(bad("there is no Host")),
        (Some(host), _) if !is_host(host) => return Err(bad("Host is not a host")),
        (_, Some(authority)) => authority.as_bytes(),
        (host, None) => host.unwrap_or_default(),
    };
    Ok(Head {
        word,
        method: method(word),
        path,
        query,
        is_old,
        keeps_alive: !seen.closes && (!is_old || seen.keeps) && word != "CONNECT",
        length: seen.length(is_old)?,
        expects: if is_old {
            Expects::Nothing
        } else {
            seen.expects
        },
        host,
        origin: seen.origin,
        authorization: seen.authorization,
        content_type: seen.content_type,
        is_encoded: seen.is_encoded,
        id: seen.id,
        tags: seen.tags,
        is_preflight: seen.is_preflight,
    })
}

fn method(word: &str) -> Method {
    match word {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        _ => Method::Other,
    }
}

/// The headers that matter, as they come.
struct Seen<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    id: Option<&'a [u8]>,
    tags: Option<&'a [u8]>,
    expects: Expects,
    closes: bool,
    keeps: bool,
    is_encoded: bool,
    is_preflight: bool,
}

impl Default for Seen<'_> {
    fn default() -> Self {
        Seen {
            host: None,
            content_length: None,
            transfer_encoding: None,
            origin: None,
            authorization: None,
            content_type: None,
            id: None,
            tags: None,
            expects: Expects::Nothing,
            closes: false,
            keeps: false,
            is_encoded: false,
            is_preflight: false,
        }
    }
}

impl<'a> Seen<'a> {
    /// Notes one header. A second one of a name that may be there once could be read by a proxy and not by us.
    fn take(&mut self, name: &str, value: &'a [u8]) -> Result<(), Problem> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let place = match name.len() {
            4 if is("Host") => &mut self.host,
            6 if is("Origin") => &mut self.origin,
            6 if is("Expect") => {
                self.expects = match value.eq_ignore_ascii_case(b"100-continue") {
                    true if self.expects == Expects::Nothing => Expects::Continue,
                    true => self.expects,
                    false => Expects::Other,
                };
                return Ok(());
            }
            10 if is("Connection") => {
                self.take_connection(value);
                return Ok(());
            }
            12 if is("Content-Type") => &mut self.content_type,
            12 if is("X-Request-Id") => {
                self.id = self.id.or(Some(value));
                return Ok(());
            }
            13 if is("Authorization") => &mut self.authorization,
            13 if is("If-None-Match") => {
                self.tags = self.tags.or(Some(value));
                return Ok(());
            }
            14 if is("Content-Length") => &mut self.content_length,
            16 if is("Content-Encoding") => {
                self.is_encoded |= !value.eq_ignore_ascii_case(b"identity");
                return Ok(());
            }
            17 if is("Transfer-Encoding") => {
                // Two headers are one list: chunked twice, which nobody reads.
                let known = self.transfer_encoding.is_none();
                self.transfer_encoding = Some(if known { value } else { b"" });
                return Ok(());
            }
            29 if is("Access-Control-Request-Method") => {
                self.is_preflight = true;
                return Ok(());
            }
            _ => return Ok(()),
        };
        match place {
            Some(_) => Err(bad(&format!("there are two headers {name}"))),
            None => {
                *place = Some(value);
                Ok(())
            }
        }
    }

    fn take_connection(&mut self, value: &[u8]) {
        for word in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.closes |= word.eq_ignore_ascii_case(b"close");
            self.keeps |= word.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn length(&self, is_old: bool) -> Result<Length, Problem> {
        match (self.content_length, self.transfer_encoding) {
            (None, None) => Ok(Length::Known(0)),
            (Some(_), Some(_)) => Err(bad("Content-Length and Transfer-Encoding contradict")),
            (None, Some(_)) if is_old => Err(bad("HTTP/1.0 has no Transfer-Encoding")),
            (None, Some(coding)) => match coding.eq_ignore_ascii_case(b"chunked") {
                true => Ok(Length::Chunked),
                false => Err(Problem::new(
                    "not-implemented",
                    "the only Transfer-Encoding is chunked",
                )),
            },
            (Some(digits), None) => {
                let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
                let digits = str::from_utf8(digits).ok().filter(|_| is_number);
                let digits = digits.ok_or_else(|| bad("Content-Length is not a number"))?;
                // A number that is too large for the type is too large for the cap.
                Ok(Length::Known(digits.parse().unwrap_or(usize::MAX)))
            }
        }
    }
}

/// Splits a target into path, query and the host that it names, if it does; RFC 9112, 3.2.
fn target_of<'a>(
    word: &str,
    target: &'a str,
) -> Result<(&'a str, &'a str, Option<&'a str>), Problem> {
    let (mut local, mut authority) = (target, None);
    if word == "CONNECT" || (target == "*" && word == "OPTIONS") {
        return Ok((target, "", None));
    }
    if let Some((scheme, rest)) = target
        .split_once("://")
        .filter(|_| !target.starts_with('/'))
    {
        let is_ours = ["http", "https"]
            .iter()
            .any(|s| s.eq_ignore_ascii_case(scheme));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        if !is_ours || end == 0 || !is_host(&rest.as_bytes()[..end]) {
            return Err(bad("the target is no address of this server"));
        }
        (authority, local) = (Some(&rest[..end]), &rest[end..]);
    }
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    match path {
        "" if authority.is_some() => Ok(("/", query, authority)),
        _ if !path.starts_with('/') => Err(bad("the target does not begin with /")),
        _ if target.contains('#') => Err(bad("a fragment (#) is not sent; write %23")),
        _ => Ok((path, query, authority)),
    }
}

/// Whether this can be a host with or without a port: of the bytes of RFC 3986, 3.2.2. It may be empty.
fn is_host(host: &[u8]) -> bool {
    host.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte))
}
