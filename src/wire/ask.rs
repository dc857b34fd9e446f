//! The client's end of the three-line protocol: requests out, answers in. `text` is the other end: each reads what the
//! other writes. Pure functions on bytes; no socket and no waiting. Invariant: a request is three whole lines, if its
//! parts have no LF.

use super::text::{
    channel, integer, name_of, payload, token, write_hex, write_seconds, write_token,
};
use crate::command::{Command, Refusal, Reply, SECOND, SECONDS_MAX, Space, Us};

/// All refusals, to find one by its name.
const REFUSALS: [Refusal; 12] = [
    Refusal::Error,
    Refusal::MaxLocks,
    Refusal::MaxWaiters,
    Refusal::MaxHolds,
    Refusal::LimitMismatch,
    Refusal::AlreadyEnqueued,
    Refusal::NotEnqueued,
    Refusal::LeaseExpired,
    Refusal::Auth,
    Refusal::MaxConnections,
    Refusal::Draining,
    Refusal::Deadlock,
];

/// The beginning of a line that carries a signal.
pub const PUSH: &[u8] = b"sig ";

/// The longest span of the protocol.
const LONGEST: Us = SECONDS_MAX * SECOND;

/// Appends the frame of `command`, whose key and limit must be valid. Spans are whole seconds on the wire, and at most
/// 292 years. A wait is rounded up, so that no client waits shorter than it asked; a lease is rounded down, to 1 s at
/// least. Nothing is appended for Claim, Yield and Cancel, which are of other faces, and for Close, Drain and Tick, which are
/// the server's.
pub fn command(command: &Command, out: &mut Vec<u8>) {
    match *command {
        Command::Acquire {
            space,
            key,
            limit,
            wait,
            lease,
            ..
        } => {
            head(space, b"l", key, out);
            write_seconds(rounded_up(wait), out);
            write_limit(space, limit, out);
            write_lease(lease, out);
        }
        Command::Enqueue {
            space,
            key,
            limit,
            lease,
        } => {
            head(space, b"e", key, out);
            write_limit(space, limit, out);
            write_lease(lease, out);
        }
        Command::Wait { space, key, wait } => {
            head(space, b"w", key, out);
            write_seconds(rounded_up(wait), out);
        }
        Command::Release { space, key, token } => {
            head(space, b"r", key, out);
            write_token(token, out);
        }
        Command::Renew {
            space,
            key,
            token,
            lease,
            bound: _,
        } => {
            head(space, b"n", key, out);
            write_token(token, out);
            write_lease(lease, out);
        }
        Command::Detach { space, key, token } => {
            head(space, b"detach", key, out);
            write_token(token, out);
        }
        Command::Break { space, key, fence } => {
            head(space, b"break", key, out);
            if let Some(fence) = fence {
                write_hex(fence, out);
            }
        }
        Command::Declare { owner } => {
            out.extend_from_slice(b"id\n_\n");
            out.extend_from_slice(owner);
        }
        Command::Claim { .. }
        | Command::Yield { .. }
        | Command::Cancel { .. }
        | Command::Close
        | Command::Drain
        | Command::Tick { .. } => return,
    }
    out.push(b'\n');
}

/// Appends `ping`.
pub fn ping(out: &mut Vec<u8>) {
    out.extend_from_slice(b"ping\n_\n_\n");
}

/// Appends `stats`.
pub fn stats(out: &mut Vec<u8>) {
    out.extend_from_slice(b"stats\n_\n_\n");
}

/// Appends `auth` with this secret, which must have no LF in it.
pub fn auth(secret: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"auth\n_\n");
    out.extend_from_slice(secret);
    out.push(b'\n');
}

/// Appends `listen` to a pattern, in a group unless `group` is empty.
pub fn listen(pattern: &[u8], group: &[u8], out: &mut Vec<u8>) {
    frame([b"listen", pattern, group], out);
}

/// Appends `unlisten` for the same pattern and group as the `listen` before.
pub fn unlisten(pattern: &[u8], group: &[u8], out: &mut Vec<u8>) {
    frame([b"unlisten", pattern, group], out);
}

/// Appends `signal` to a channel. The payload must have no LF in it, and no CR at its end, which the server would drop.
pub fn signal(channel: &[u8], payload: &[u8], out: &mut Vec<u8>) {
    frame([b"signal", channel, payload], out);
}

fn frame(lines: [&[u8]; 3], out: &mut Vec<u8>) {
    for line in lines {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
}

/// Appends `show`, or `sshow`, for a valid key.
pub fn show(space: Space, key: &[u8], out: &mut Vec<u8>) {
    head(space, b"show", key, out);
    out.push(b'\n');
}

/// How many receivers a signal has reached, or how many holds a break has ended: reads the answer, without its LF.
pub fn count(line: &[u8]) -> Option<u64> {
    integer(line.strip_prefix(b"ok ")?, 0, u64::MAX)
}

/// Whether a line, or the beginning of one, is a signal and not an answer.
pub fn is_push(line: &[u8]) -> bool {
    line.starts_with(PUSH)
}

/// The channel and the payload of a signal, read from its line without its LF.
pub fn push(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_prefix(PUSH)?;
    let end = rest.iter().position(|&byte| byte == b' ')?;
    let channel = channel(&rest[..end])?;
    Some((channel, payload(channel, &rest[end + 1..])?))
}

/// The reply that a line without its LF stands for. None if it is no answer, or the answer to `stats`. A lone `ok` is
/// read as [`Reply::Released`], and `ok` with a number as [`Reply::Renewed`]; only the caller, who knows the request, can
/// tell them from other replies that look so.
pub fn answer(line: &[u8]) -> Option<Reply> {
    let mut words = line.split(|&byte| byte == b' ');
    let first = words.next()?;
    let reply = match (first, words.next(), words.next()) {
        (b"ok", None, None) => Reply::Released,
        (b"timeout", None, None) => Reply::Timeout,
        (b"queued", None, None) => Reply::Queued,
        (b"ok", Some(lease), None) => Reply::Renewed {
            lease: seconds(lease)?,
        },
        (b"ok", Some(word), Some(lease)) => Reply::Granted {
            token: token(word)?,
            lease: seconds(lease)?,
        },
        (b"acquired", Some(word), Some(lease)) => Reply::Acquired {
            token: token(word)?,
            lease: seconds(lease)?,
        },
        (word, None, None) => {
            let refusal = REFUSALS
                .into_iter()
                .find(|refusal| name_of(*refusal).as_bytes() == word)?;
            Reply::Refused(refusal)
        }
        _ => return None,
    };
    words.next().is_none().then_some(reply)
}

fn head(space: Space, command: &[u8], key: &[u8], out: &mut Vec<u8>) {
    if space == Space::Semaphore {
        out.push(b's');
    }
    out.extend_from_slice(command);
    out.push(b'\n');
    out.extend_from_slice(key);
    out.push(b'\n');
}

fn write_limit(space: Space, limit: u32, out: &mut Vec<u8>) {
    if space == Space::Semaphore {
        out.push(b' ');
        write_seconds(Us::from(limit) * SECOND, out);
    }
}

fn write_lease(lease: Option<Us>, out: &mut Vec<u8>) {
    if let Some(lease) = lease {
        out.push(b' ');
        write_seconds(lease.clamp(SECOND, LONGEST), out);
    }
}

fn rounded_up(span: Us) -> Us {
    span.saturating_add(SECOND - 1).min(LONGEST)
}

fn seconds(word: &[u8]) -> Option<Us> {
    integer(word, 1, SECONDS_MAX).map(|value| value * SECOND)
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::super::{Parsed, Request};
    use super::*;
    use crate::command::Bound;
    use crate::command::Token;

    const TOKEN: Token = Token {
        fence: 0x0123_4567_89ab_cdef,
        salt: 0xff,
    };

    fn said(asked: Command) -> String {
        let mut out = Vec::new();
        command(&asked, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_server_reads_what_was_asked() {
        for space in [Space::Lock, Space::Semaphore] {
            let (key, token) = (&b"k"[..], TOKEN);
            let limit = if space == Space::Lock { 1 } else { 5 };
            for lease in [None, Some(SECOND), Some(SECONDS_MAX * SECOND)] {
                let wait = 7 * SECOND;
                let asked = [
                    Command::Acquire {
                        space,
                        key,
                        limit,
                        wait,
                        lease,
                        owner: None,
                        bound: Bound::Session,
                        terms: None,
                    },
                    Command::Enqueue {
                        space,
                        key,
                        limit,
                        lease,
                    },
                    Command::Wait { space, key, wait },
                    Command::Release { space, key, token },
                    Command::Renew {
                        space,
                        key,
                        token,
                        lease,
                        bound: Bound::Session,
                    },
                ];
                for asked in asked {
                    let text = said(asked);
                    let (used, request) = (text.len(), Request::Command(asked));
                    assert_eq!(
                        text::parse(text.as_bytes(), true),
                        Parsed::Done { used, request }
                    );
                }
            }
        }
        let mut out = Vec::new();
        ping(&mut out);
        stats(&mut out);
        auth(b"s", &mut out);
        assert_eq!(out, b"ping\n_\n_\nstats\n_\n_\nauth\n_\ns\n");
    }

    #[test]
    fn the_server_reads_what_is_said_about_signals() {
        let (pattern, channel, payload) = (&b"jobs.>"[..], &b"jobs.mail"[..], &b" a\xff b "[..]);
        for group in [&b""[..], b"g 1"] {
            let mut out = Vec::new();
            listen(pattern, group, &mut out);
            let (used, request) = (out.len(), Request::Listen { pattern, group });
            assert_eq!(text::parse(&out, true), Parsed::Done { used, request });
            out.clear();
            unlisten(pattern, group, &mut out);
            let (used, request) = (out.len(), Request::Unlisten { pattern, group });
            assert_eq!(text::parse(&out, true), Parsed::Done { used, request });
        }
        let mut out = Vec::new();
        signal(channel, payload, &mut out);
        let (used, request) = (out.len(), Request::Signal { channel, payload });
        assert_eq!(text::parse(&out, true), Parsed::Done { used, request });
    }

    #[test]
    fn a_signal_is_read_as_it_was_written() {
        for payload in [&b"x"[..], b" a\xff  b ", &[b'x'; 65_536 - 5 - 3]] {
            let mut line = Vec::new();
            text::write_signal(b"a.b", payload, &mut line);
            assert_eq!(line.pop(), Some(b'\n'));
            assert!(is_push(&line) && answer(&line).is_none());
            assert_eq!(push(&line), Some((&b"a.b"[..], payload)));
        }
        for nonsense in [
            "sig",
            "sig ",
            "sig a",
            "sig a ",
            "sig  a b",
            "sig a.* b",
            "sig a  ",
            "ok a b",
        ] {
            assert_eq!(push(nonsense.as_bytes()), None, "{nonsense:?}");
        }
        assert_eq!(
            push(&[b"sig a.b ".as_slice(), &[b'x'; 65_529]].concat()),
            None
        );
    }

    #[test]
    fn the_answer_to_a_signal_says_how_many_it_reached() {
        for receivers in [0, 1, u64::MAX] {
            let mut line = Vec::new();
            text::write(Reply::Signalled { receivers }, &mut line);
            assert_eq!(super::count(line.trim_ascii_end()), Some(receivers));
        }
        for nonsense in ["", "ok", "ok ", "ok -1", "ok 1 2", "error", "OK 1"] {
            assert_eq!(super::count(nonsense.as_bytes()), None, "{nonsense:?}");
        }
    }

    #[test]
    fn waits_are_rounded_up_and_leases_down_to_a_second_at_least() {
        let (space, key, limit) = (Space::Lock, &b"k"[..], 1);
        for (wait, lease, line) in [
            (0, SECOND / 2, "0 1"),
            (1, 2 * SECOND - 1, "1 1"),
            (SECOND, 2 * SECOND, "1 2"),
            (SECOND + 1, SECOND, "2 1"),
            (Us::MAX, Us::MAX, "9223372036 9223372036"),
        ] {
            let lease = Some(lease);
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
            assert_eq!(said(asked), format!("l\nk\n{line}\n"));
        }
    }

    #[test]
    fn what_an_administrator_asks_is_read_as_it_was_meant() {
        let (key, token) = (&b"k"[..], TOKEN);
        for space in [Space::Lock, Space::Semaphore] {
            let commands = [
                Command::Detach { space, key, token },
                Command::Break {
                    space,
                    key,
                    fence: None,
                },
                Command::Break {
                    space,
                    key,
                    fence: Some(0x1f),
                },
            ];
            for asked in commands {
                let frame = said(asked);
                let Parsed::Done { used, request } = text::parse(frame.as_bytes(), true) else {
                    panic!("{frame:?}");
                };
                assert_eq!((used, request), (frame.len(), Request::Command(asked)));
            }
            let mut frame = Vec::new();
            show(space, key, &mut frame);
            let Parsed::Done { request, .. } = text::parse(&frame, true) else {
                panic!("{frame:?}");
            };
            assert_eq!(request, Request::Show { space, key });
        }
        let mut line = Vec::new();
        text::write(Reply::Broken { holds: 1_048_576 }, &mut line);
        assert_eq!(count(line.trim_ascii_end()), Some(1_048_576));
        assert_eq!((count(b"ok"), count(b"error_auth")), (None, None));
    }

    #[test]
    fn every_answer_is_read_as_it_was_written() {
        let (token, lease) = (TOKEN, 33 * SECOND);
        let mut replies = vec![
            Reply::Granted { token, lease },
            Reply::Acquired { token, lease },
            Reply::Renewed { lease },
            Reply::Released,
            Reply::Timeout,
            Reply::Queued,
        ];
        replies.extend(REFUSALS.map(Reply::Refused));
        for reply in replies {
            let mut line = Vec::new();
            text::write(reply, &mut line);
            assert_eq!(line.pop(), Some(b'\n'));
            assert_eq!(answer(&line), Some(reply));
            for spoilt in [[&line[..], b" "].concat(), [b" ", &line[..]].concat()] {
                assert_eq!(answer(&spoilt), None);
            }
        }
        for nonsense in [
            "",
            "OK",
            "ok ",
            "ok x",
            "ok 0",
            "error_unknown",
            "ok 1 2 3",
            "{}",
        ] {
            assert_eq!(answer(nonsense.as_bytes()), None, "{nonsense:?}");
        }
    }
}
