//! How the answers of the lock table read, on each face.

use dflockd::command::{Refusal, Reply, SECOND, Token};
use dflockd::wire::Face;

#[cfg(feature = "http")]
use super::rest;
use crate::judges::locks::Act;

/// The answer to a request: a line without its LF, or a frame.
pub fn spell(face: Face, act: &Act, reply: &Reply) -> Vec<u8> {
    match face {
        Face::Text => line(reply).into_bytes(),
        Face::Distlockd => claim(act, reply),
        #[cfg(feature = "http")]
        Face::Http => rest::spell(act, reply).into_bytes(),
    }
}

/// The fence of a line that grants something.
pub fn fence_in(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?;
    let token = line.split(' ').nth(1).filter(|word| word.len() == 32)?;
    u64::from_str_radix(&token[..16], 16).ok()
}

/// The token that 32 hex digits spell.
pub fn token(digits: &str) -> Option<Token> {
    let part = |digits| u64::from_str_radix(digits, 16).ok();
    Some(Token {
        fence: part(digits.get(..16)?)?,
        salt: part(digits.get(16..)?)?,
    })
}

fn line(reply: &Reply) -> String {
    let grant = |word, token: &Token, lease| {
        let (fence, salt) = (token.fence, token.salt);
        format!("{word} {fence:016x}{salt:016x} {}", lease / SECOND)
    };
    match reply {
        Reply::Granted { token, lease } => grant("ok", token, lease),
        Reply::Acquired { token, lease } => grant("acquired", token, lease),
        Reply::Renewed { lease } => format!("ok {}", lease / SECOND),
        Reply::Queued => "queued".into(),
        Reply::Released | Reply::Done => "ok".into(),
        Reply::Timeout => "timeout".into(),
        Reply::Refused(refusal) => name(*refusal).into(),
        Reply::Broken { holds } => format!("ok {holds}"),
        Reply::Signalled { .. }
        | Reply::Kept { .. }
        | Reply::Superseded
        | Reply::Cancelled
        | Reply::Ended { .. } => {
            panic!("no line asks the lock table for that")
        }
    }
}

fn claim(act: &Act, reply: &Reply) -> Vec<u8> {
    let (status, message) = match (act, reply) {
        (_, Reply::Granted { .. } | Reply::Released) => (0, ""),
        (_, Reply::Timeout) => (2, "Lock is busy"),
        (Act::Yield { .. }, Reply::Refused(Refusal::Error)) => (1, "Invalid release"),
        (_, Reply::Refused(refusal)) => (1, name(*refusal)),
        other => panic!("{other:?} is not for this face"),
    };
    frame(status, message)
}

/// A frame with its length in it.
pub fn frame(status: u8, message: &str) -> Vec<u8> {
    let len = (message.len() as u16).to_be_bytes();
    [&[status], &len[..], message.as_bytes()].concat()
}

fn name(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Error => "error",
        Refusal::MaxHolds => "error_max_holds",
        Refusal::MaxLocks => "error_max_locks",
        Refusal::MaxWaiters => "error_max_waiters",
        Refusal::LimitMismatch => "error_limit_mismatch",
        Refusal::AlreadyEnqueued => "error_already_enqueued",
        Refusal::NotEnqueued => "error_not_enqueued",
        Refusal::LeaseExpired => "error_lease_expired",
        Refusal::Auth => "error_auth",
        Refusal::Quarantine => "error_quarantine",
        Refusal::Draining => "error_draining",
        Refusal::Deadlock => "error_deadlock",
        Refusal::MaxConnections => "error_max_connections",
    }
}
