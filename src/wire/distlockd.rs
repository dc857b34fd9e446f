//! The frames of distlockd, a lock server in Python, as its client of version 1.0.3 sends them: a command, two lengths,
//! a name and the id of the client. An answer is a status and a message. A frame is read to its end before its parts
//! are checked, so a bad request never puts the stream out of step. Invariant: an answer is one frame, and its message
//! one line.
//!
//! The client asks again 0.1 s after it was told that a lock is busy, so no request of this face queues.

use super::text::name_of;
use super::{Parsed, Request};
use crate::command::{Command, Realm, Refusal, Reply, Space};

/// A command in one byte, and the lengths of name and id in two bytes each, big-endian.
const HEAD: usize = 5;
/// The longest id of a client, in bytes.
pub const ID_MAX: usize = 256;
/// The longest name, in bytes: the largest length that a frame can say.
pub const NAME_MAX: usize = u16::MAX as usize;
/// The longest frame, in bytes.
pub const FRAME_MAX: usize = HEAD + 2 * u16::MAX as usize;

const ACQUIRE: u8 = 1;
const RELEASE: u8 = 2;
const HEALTH: u8 = 3;

const OK: u8 = 0;
const ERROR: u8 = 1;
const BUSY: u8 = 2;
const INVALID: u8 = 3;

/// Reads the first frame of `input`.
pub fn parse(input: &[u8]) -> Parsed<'_> {
    let Some((head, rest)) = input.split_first_chunk::<HEAD>() else {
        return Parsed::Partial { lines: 0 };
    };
    let [command, lengths @ ..] = *head;
    let [name_len, id_len] = [[lengths[0], lengths[1]], [lengths[2], lengths[3]]]
        .map(|length| usize::from(u16::from_be_bytes(length)));
    let Some((name, rest)) = rest.split_at_checked(name_len) else {
        return Parsed::Partial { lines: 0 };
    };
    let Some((id, _)) = rest.split_at_checked(id_len) else {
        return Parsed::Partial { lines: 0 };
    };
    let used = HEAD + name_len + id_len;
    match judge(command, name, id) {
        Ok(request) => Parsed::Done { used, request },
        Err(why) => Parsed::Bad {
            used,
            fatal: false,
            why,
        },
    }
}

/// Whether `input` begins as text does, and so as every HTTP request whatever its method. In a frame this would be a
/// command that there is none of, with a name and an id of more than 8000 bytes each.
pub(super) fn is_text(input: &[u8]) -> bool {
    let is_visible = |byte: &u8| (b' '..=b'~').contains(byte);
    input
        .first_chunk::<HEAD>()
        .is_some_and(|head| head.iter().all(is_visible))
}

/// Appends the frame of `reply`.
pub fn write(reply: Reply, out: &mut Vec<u8>) {
    let (status, message) = match reply {
        Reply::Granted { .. } | Reply::Released | Reply::Done => (OK, ""),
        Reply::Timeout => (BUSY, "Lock is busy"),
        Reply::Refused(Refusal::Error) => (ERROR, "Invalid release"),
        Reply::Refused(refusal) => (ERROR, name_of(refusal)),
        Reply::Acquired { .. }
        | Reply::Queued
        | Reply::Renewed { .. }
        | Reply::Signalled { .. }
        | Reply::Broken { .. }
        | Reply::Kept { .. }
        | Reply::Superseded
        | Reply::Cancelled
        | Reply::Ended { .. } => unreachable!("no frame of this face asks for that"),
    };
    write_frame(status, message, out);
}

/// Appends the answer to a frame that is no valid request.
pub fn write_mistake(why: &str, out: &mut Vec<u8>) {
    write_frame(INVALID, why, out);
}

fn judge<'a>(command: u8, name: &'a [u8], id: &'a [u8]) -> Result<Request<'a>, &'static str> {
    if command == HEALTH {
        return Ok(Request::Health);
    }
    if command != ACQUIRE && command != RELEASE {
        return Err("Invalid command");
    }
    if name.is_empty() {
        return Err("Lock name cannot be empty");
    }
    if id.len() > ID_MAX {
        return Err("Client id is over 256 bytes");
    }
    if std::str::from_utf8(name).is_err() || std::str::from_utf8(id).is_err() {
        return Err("Name and client id must be UTF-8");
    }
    let (realm, owner) = (Realm::Distlockd, id);
    Ok(Request::Command(match command {
        ACQUIRE => Command::Claim {
            space: Space::Lock,
            key: name,
            realm,
            owner,
        },
        _ => Command::Yield {
            space: Space::Lock,
            key: name,
            realm,
            owner,
        },
    }))
}

fn write_frame(status: u8, message: &str, out: &mut Vec<u8>) {
    out.push(status);
    out.extend_from_slice(&(message.len() as u16).to_be_bytes());
    out.extend_from_slice(message.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(command: u8, name: &[u8], id: &[u8]) -> Vec<u8> {
        let mut frame = vec![command];
        frame.extend_from_slice(&(name.len() as u16).to_be_bytes());
        frame.extend_from_slice(&(id.len() as u16).to_be_bytes());
        [&frame[..], name, id].concat()
    }

    fn claim<'a>(key: &'a [u8], owner: &'a [u8]) -> Request<'a> {
        Request::Command(Command::Claim {
            space: Space::Lock,
            key,
            realm: Realm::Distlockd,
            owner,
        })
    }

    #[test]
    fn a_frame_is_read_whole_and_cut_anywhere_it_is_not_whole() {
        let longest = vec![b'x'; NAME_MAX];
        for (name, id) in [(&b"k"[..], &b"me"[..]), (b"a b", b""), (&longest, b"me")] {
            let bytes = frame(ACQUIRE, name, id);
            let (used, request) = (bytes.len(), claim(name, id));
            assert_eq!(parse(&bytes), Parsed::Done { used, request });
            for cut in (0..used).rev().take(300).chain(0..used.min(300)) {
                assert_eq!(parse(&bytes[..cut]), Parsed::Partial { lines: 0 });
            }
            let more = [&bytes[..], &[9; 9]].concat();
            assert_eq!(parse(&more), Parsed::Done { used, request });
        }
    }

    #[test]
    fn a_bad_request_is_told_why_and_the_stream_stays_in_step() {
        let long = [b'i'; ID_MAX + 1];
        for (bytes, why) in [
            (frame(0, b"k", b"me"), "Invalid command"),
            (frame(4, b"", b""), "Invalid command"),
            (frame(ACQUIRE, b"", b"me"), "Lock name cannot be empty"),
            (frame(RELEASE, b"k", &long), "Client id is over 256 bytes"),
            (
                frame(ACQUIRE, b"\xff", b"me"),
                "Name and client id must be UTF-8",
            ),
            (
                frame(RELEASE, b"k", b"\xc3"),
                "Name and client id must be UTF-8",
            ),
        ] {
            let used = bytes.len();
            assert_eq!(
                parse(&bytes),
                Parsed::Bad {
                    used,
                    fatal: false,
                    why
                }
            );
        }
        let bytes = frame(HEALTH, b"\xff", &long);
        let (used, request) = (bytes.len(), Request::Health);
        assert_eq!(parse(&bytes), Parsed::Done { used, request });
        assert_eq!(ID_MAX, frame(ACQUIRE, b"", &long[1..]).len() - HEAD);
    }

    #[test]
    fn answers_are_what_the_client_reads() {
        let said = |reply| {
            let mut out = Vec::new();
            write(reply, &mut out);
            out
        };
        assert_eq!(said(Reply::Done), [0, 0, 0]);
        assert_eq!(said(Reply::Released), [0, 0, 0]);
        assert_eq!(said(Reply::Timeout), b"\x02\0\x0cLock is busy");
        assert_eq!(
            said(Reply::Refused(Refusal::Error)),
            b"\x01\0\x0fInvalid release"
        );
        assert_eq!(
            said(Reply::Refused(Refusal::MaxLocks)),
            b"\x01\0\x0ferror_max_locks"
        );
        let mut out = Vec::new();
        write_mistake("Invalid command", &mut out);
        assert_eq!(out, b"\x03\0\x0fInvalid command");
    }
}
