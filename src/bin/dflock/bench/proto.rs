//! The protocols that bench speaks: how each says acquire and release, and what its answers mean. They are the line
//! protocol of dflockd, its REST (in `http`), RESP of redis, and the frames of distlockd. The only socket here is the one
//! that finds out whether a server is there. Invariant: nothing is allocated to write a request or to read an answer.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use dflockd::client::Tls;
use dflockd::client::dial::dial;
use dflockd::client::sites::{Site, Sites};
use dflockd::client::stream::Stream;
use dflockd::command::{Bound, Command, Reply, SECOND, Space, Token, Us};
use dflockd::sys;
use dflockd::wire::{ask, text};

use super::answer::{Answer, Asked, Heard};
use super::http;
use crate::failure::{Failure, PROTOCOL};

/// How long a server may take to connect, and to answer the first question.
const PATIENCE: Us = 5 * SECOND;
/// Deletes a key if it still has our value: redis has no command for such a release.
const SCRIPT: &str =
    "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Dflockd,
    Http,
    Redis,
    Distlockd,
}

/// A server that has answered.
pub struct Target {
    /// As it was named on the command line.
    pub name: String,
    pub protocol: Protocol,
    /// The address that has answered.
    pub site: Site,
    /// The greeting of each connection, if there is one; the answer to it is `ok`.
    pub hello: Vec<u8>,
    /// The words of a redis release up to the key; the lines that all requests of HTTP have.
    common: Vec<u8>,
}

/// One acquire.
pub struct Acquire<'a> {
    pub key: &'a [u8],
    /// The lane that asks: the value of a redis key, the client id of distlockd.
    pub me: Token,
    pub wait: Us,
    pub lease: Us,
}

impl Protocol {
    /// Whether the server has a queue, so that a client need not ask again.
    pub fn queues(self) -> bool {
        matches!(self, Protocol::Dflockd | Protocol::Http)
    }

    /// Whether the end of a connection releases what it holds.
    pub fn frees_on_close(self) -> bool {
        self == Protocol::Dflockd
    }

    /// Whether a client says how long its lease is.
    pub fn has_leases(self) -> bool {
        self != Protocol::Distlockd
    }

    pub fn name(self) -> &'static str {
        match self {
            Protocol::Dflockd => "dflockd",
            Protocol::Http => "http",
            Protocol::Redis => "redis",
            Protocol::Distlockd => "distlockd",
        }
    }
}

/// Whether a server is measured over TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Security {
    Plain,
    Tls,
    /// Over TLS if an option says so.
    AsSaid,
}

/// Splits `redis://HOST:PORT` and its like; without a scheme it is dflockd's line protocol.
pub fn split(server: &str) -> (Protocol, Security, &str) {
    const SCHEMES: [(&str, Protocol, Security); 5] = [
        ("dflockd://", Protocol::Dflockd, Security::Plain),
        ("http://", Protocol::Http, Security::Plain),
        ("https://", Protocol::Http, Security::Tls),
        ("redis://", Protocol::Redis, Security::Plain),
        ("distlockd://", Protocol::Distlockd, Security::Plain),
    ];
    for (scheme, protocol, security) in SCHEMES {
        if let Some(rest) = server.strip_prefix(scheme) {
            return (protocol, security, rest.trim_end_matches('/'));
        }
    }
    (Protocol::Dflockd, Security::AsSaid, server)
}

impl Target {
    /// Finds out whether the server is there and speaks its protocol.
    pub fn reach(
        server: &str,
        secret: Option<&[u8]>,
        tls: Option<&Tls>,
    ) -> Result<Target, Failure> {
        let (protocol, _, address) = split(server);
        let sites = Sites::new(address, tls);
        let reached = sites.and_then(|mut sites| connect(&mut sites));
        let (stream, site) = reached.map_err(|e| Failure::unreachable(server, &e))?;
        let mut target = Target {
            name: server.to_string(),
            protocol,
            site,
            hello: Vec::new(),
            common: Vec::new(),
        };
        if let (Protocol::Dflockd, Some(secret)) = (protocol, secret) {
            ask::auth(secret, &mut target.hello);
        }
        if protocol == Protocol::Http {
            target.common = http::common(address, secret);
        }
        target.greet(stream).map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied => Failure::unwelcome(server, secret.is_some()),
            ErrorKind::Unsupported => Failure::no_token(server),
            ErrorKind::InvalidData if e.get_ref().is_none() => Failure::new(
                PROTOCOL,
                format!("{server} does not speak {}", protocol.name()),
            ),
            ErrorKind::Other => Failure::new(PROTOCOL, format!("{server} says {e}")),
            _ => Failure::unreachable(server, &e),
        })?;
        Ok(target)
    }

    fn greet(&mut self, stream: Stream<TcpStream>) -> io::Result<()> {
        let other = || io::Error::from(ErrorKind::InvalidData);
        let mut stream = BufReader::new(stream);
        match self.protocol {
            Protocol::Dflockd => {
                let mut asked = self.hello.clone();
                ask::ping(&mut asked);
                stream.get_mut().write_all(&asked)?;
                let answers = 1 + usize::from(!self.hello.is_empty());
                for left in (1..=answers).rev() {
                    match line(&mut stream)?.as_str() {
                        "ok\n" => {}
                        "error_auth\n" => return Err(ErrorKind::PermissionDenied.into()),
                        // A server without a secret answers this to one.
                        "error\n" if left == 2 => return Err(ErrorKind::Unsupported.into()),
                        _ => return Err(other()),
                    }
                }
            }
            Protocol::Http => {
                let mut asked = Vec::new();
                http::greeting(&self.common, &mut asked);
                stream.get_mut().write_all(&asked)?;
                let first = line(&mut stream)?;
                match http::status(first.as_bytes()) {
                    Some(200) => {}
                    Some(401) => return Err(ErrorKind::PermissionDenied.into()),
                    Some(_) => return Err(io::Error::other(first.trim_end().to_string())),
                    None => return Err(other()),
                }
            }
            Protocol::Redis => {
                let mut asked = Vec::new();
                words(&[b"SCRIPT", b"LOAD", SCRIPT.as_bytes()], 3, &mut asked);
                stream.get_mut().write_all(&asked)?;
                let first = line(&mut stream)?;
                if first == "$40\r\n" {
                    let hash = line(&mut stream)?;
                    let hash = hash.trim_end().as_bytes();
                    words(&[b"EVALSHA", hash, b"1"], 5, &mut self.common);
                } else if first.starts_with('-') {
                    words(&[b"EVAL", SCRIPT.as_bytes(), b"1"], 5, &mut self.common);
                } else {
                    return Err(other());
                }
            }
            Protocol::Distlockd => {
                stream.get_mut().write_all(&[3, 0, 0, 0, 0])?;
                let length = stream.fill_buf()?.len();
                match stream.buffer().first() {
                    Some(0..=3) if length >= 3 => {}
                    _ => return Err(other()),
                }
            }
        }
        Ok(())
    }

    /// Appends an acquire.
    pub fn acquire(&self, acquire: &Acquire, out: &mut Vec<u8>) {
        let &Acquire {
            key,
            me,
            wait,
            lease,
        } = acquire;
        match self.protocol {
            Protocol::Dflockd => {
                let (space, limit, lease) = (Space::Lock, 1, Some(lease));
                let asked = Command::Acquire {
                    space,
                    key,
                    limit,
                    wait,
                    lease,
                    owner: None,
                    bound: Bound::Session,
                    terms: None,
                };
                ask::command(&asked, out);
            }
            Protocol::Http => http::acquire(&self.common, key, lease, wait, out),
            Protocol::Redis => {
                out.extend_from_slice(b"*6\r\n$3\r\nSET\r\n");
                word(key, out);
                write_me(me, out);
                out.extend_from_slice(b"$2\r\nNX\r\n$2\r\nPX\r\n");
                number(lease / 1000, out);
            }
            Protocol::Distlockd => frame(1, key, me, out),
        }
    }

    /// Appends a release of the hold of this token.
    pub fn release(&self, key: &[u8], token: Token, out: &mut Vec<u8>) {
        match self.protocol {
            Protocol::Dflockd => {
                let space = Space::Lock;
                ask::command(&Command::Release { space, key, token }, out);
            }
            Protocol::Http => http::release(&self.common, key, token, out),
            Protocol::Redis => {
                out.extend_from_slice(&self.common);
                word(key, out);
                write_me(token, out);
            }
            Protocol::Distlockd => frame(2, key, token, out),
        }
    }

    /// What an answer says, for people.
    pub fn shown<'a>(&self, answer: &'a [u8]) -> &'a [u8] {
        match self.protocol {
            Protocol::Http => http::shown(answer).trim_ascii(),
            _ => answer.trim_ascii(),
        }
    }

    /// Reads one answer; None if it has not arrived in full.
    pub fn answer(&self, asked: Asked, input: &[u8]) -> Option<Heard> {
        if self.protocol == Protocol::Http {
            return http::answer(asked, input);
        }
        let (used, answer) = self.plain_answer(asked, input)?;
        Some(Heard {
            used,
            answer,
            closes: false,
        })
    }

    /// An answer of a protocol whose connections stay open, and how long it is.
    fn plain_answer(&self, asked: Asked, input: &[u8]) -> Option<(usize, Answer)> {
        if self.protocol == Protocol::Distlockd {
            let &[status, high, low, ..] = input else {
                return None;
            };
            let used = 3 + usize::from(u16::from_be_bytes([high, low]));
            let answer = match (status, asked) {
                (0, Asked::Acquire) => Answer::Granted(None),
                (0, _) => Answer::Done,
                (2, Asked::Acquire) => Answer::Busy,
                _ => Answer::Refused,
            };
            return (input.len() >= used).then_some((used, answer));
        }
        let end = text::find_lf(input)?;
        let line = &input[..end];
        let answer = match self.protocol {
            Protocol::Redis => match (line.trim_ascii_end(), asked) {
                (b"+OK", Asked::Acquire) => Answer::Granted(None),
                (b"$-1" | b"_", Asked::Acquire) => Answer::Busy,
                (b":1", Asked::Release) => Answer::Done,
                _ => Answer::Refused,
            },
            _ => match (ask::answer(line), asked) {
                (Some(Reply::Granted { token, .. }), Asked::Acquire) => {
                    Answer::Granted(Some(token))
                }
                (Some(Reply::Timeout), Asked::Acquire) => Answer::Timeout,
                (Some(Reply::Released), Asked::Release | Asked::Hello) => Answer::Done,
                _ => Answer::Refused,
            },
        };
        Some((end + 1, answer))
    }
}

fn connect(sites: &mut Sites) -> io::Result<(Stream<TcpStream>, Site)> {
    let until = sys::now().saturating_add(PATIENCE);
    let (site, stream, unasked) = dial(sites, until)?;
    if !unasked.is_empty() {
        let text = String::from_utf8_lossy(&unasked);
        return Err(io::Error::other(format!("it says {:?}", text.trim_end())));
    }
    let socket = stream.socket();
    socket.set_read_timeout(Some(Duration::from_micros(PATIENCE)))?;
    Ok((stream, site))
}

fn line(stream: &mut BufReader<Stream<TcpStream>>) -> io::Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(line),
    }
}

/// The first words of a RESP request that has `count` words.
fn words(first: &[&[u8]], count: u64, out: &mut Vec<u8>) {
    out.push(b'*');
    text::write_number(count, out);
    out.extend_from_slice(b"\r\n");
    for one in first {
        word(one, out);
    }
}

fn word(word: &[u8], out: &mut Vec<u8>) {
    out.push(b'$');
    text::write_number(word.len() as u64, out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// A number as a word.
fn number(value: u64, out: &mut Vec<u8>) {
    let digits = 1 + value.checked_ilog10().unwrap_or(0);
    out.push(b'$');
    text::write_number(digits.into(), out);
    out.extend_from_slice(b"\r\n");
    text::write_number(value, out);
    out.extend_from_slice(b"\r\n");
}

/// The lane that asks, as a word of 32 digits.
fn write_me(me: Token, out: &mut Vec<u8>) {
    out.extend_from_slice(b"$32\r\n");
    text::write_token(me, out);
    out.extend_from_slice(b"\r\n");
}

/// A request of distlockd.
fn frame(command: u8, key: &[u8], me: Token, out: &mut Vec<u8>) {
    let length = u16::try_from(key.len()).expect("a key has 256 bytes at most");
    out.push(command);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&32u16.to_be_bytes());
    out.extend_from_slice(key);
    text::write_token(me, out);
}

/// The pause before a server without a queue is asked again, in words.
pub fn pause_text(pause: Us) -> String {
    format!("{} ms", pause as f64 * 1000.0 / SECOND as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_word_of_its_digits() {
        for (value, said) in [(0, "$1\r\n0\r\n"), (9, "$1\r\n9\r\n"), (10, "$2\r\n10\r\n")] {
            let mut out = Vec::new();
            number(value, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), said);
        }
        let mut out = Vec::new();
        number(u64::MAX, &mut out);
        assert_eq!(out, b"$20\r\n18446744073709551615\r\n");
    }
}
