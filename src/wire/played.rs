//! A face for tests of the hub, with all that the real faces do not use yet: a name that must be decoded, a client that
//! waits for an interim answer in the middle of a frame, an answer that repeats its request, a mistake that ends the
//! session. It is not in the product. Invariant: a frame is a line.
//!
//! The lines are `wait NAME`, where NAME is decoded by leaving out its `%`; `bad`; `fatal`; and `ask`, which wants an
//! interim answer, then any of the others.

use super::{Exchange, Parsed, Request, Rules, text};
use crate::command::{Bound, Command, Reply, SECOND, Space};

pub const RULES: Rules = Rules {
    drains: true,
    may_idle: false,
    needs_secret: false,
    refuses_browsers: false,
    has_last_word: true,
    listening: "listening-played",
    port_flag: "--played-port",
    frame_max: 256,
};

pub fn parse<'a>(input: &'a [u8], scratch: &'a mut Vec<u8>) -> Parsed<'a> {
    let Some(end) = text::find_lf(input) else {
        return match input {
            b"ask" => Parsed::Interim,
            _ => Parsed::Partial { lines: 0 },
        };
    };
    let (used, line) = (end + 1, input[..end].strip_prefix(b"ask"));
    let line = line.unwrap_or(&input[..end]);
    let Some(name) = line.strip_prefix(b"wait ") else {
        let fatal = line == b"fatal";
        let why = if fatal { "fatal\n" } else { "bad\n" };
        return Parsed::Bad { used, fatal, why };
    };
    scratch.clear();
    scratch.extend(name.iter().filter(|&&byte| byte != b'%'));
    Parsed::Done {
        used,
        request: Request::Command(Command::Acquire {
            space: Space::Lock,
            key: scratch,
            limit: 1,
            wait: 2 * SECOND,
            lease: None,
            owner: None,
            bound: Bound::Session,
            terms: None,
        }),
    }
}

pub fn exchange(request: &Request) -> Option<Box<Exchange>> {
    match request {
        Request::Command(Command::Acquire { key, .. }) => {
            Some(Box::new(Exchange { name: key.to_vec() }))
        }
        _ => None,
    }
}

pub fn write(reply: Reply, exchange: Option<&Exchange>, out: &mut Vec<u8>) {
    let name = exchange.map_or(&b"nothing"[..], |exchange| &exchange.name);
    out.extend_from_slice(name);
    out.extend_from_slice(match reply {
        Reply::Granted { .. } => b" granted\n",
        Reply::Timeout => b" timeout\n",
        _ => b" other\n",
    });
}
