//! The log of locks: grants and ends with `--log-locks`, breaks always, and the holds that a drain waits for.
//! Invariant: no line has a token; a fence is no secret.

use std::fmt::{self, Display};

use super::{CUT_HOLD, unix_us};
use crate::command::{SECOND, Space, Us};
use crate::hub::{Happened, Hub, Somebody};
use crate::locks::{End, Event, Hold};
use crate::log::Log;

/// Logs what happened in this turn. What is still held is logged as `kept`.
pub(super) fn log_events(hub: &mut Hub, kept: &str, log: &mut Log) {
    let mut time = None;
    while let Some(Happened { event, peer, by }) = hub.next_event() {
        let at = *time.get_or_insert_with(unix_us);
        let (peer, by) = (peer.as_ref(), by.as_ref());
        match event {
            Event::Granted { hold, waited } => {
                let waited = ("waited_s", Seconds(waited));
                tell(at, "granted", &hold, peer, waited, None, log);
            }
            Event::Ended {
                hold, end, held, ..
            } => {
                let name = match end {
                    End::Released => "released",
                    End::Expired => "expired",
                    End::Closed => "closed",
                    End::Broken => "broken",
                };
                let by = by.filter(|_| by != peer);
                tell(at, name, &hold, peer, ("held_s", Seconds(held)), by, log);
            }
            Event::Kept { hold, held } => {
                tell(at, kept, &hold, peer, ("held_s", Seconds(held)), None, log);
            }
            Event::Broken {
                space, key, holds, ..
            } => {
                let key = Text(&key);
                let mut fields: Vec<(&str, &dyn Display)> = vec![("key", &key)];
                fields.extend(space_of(space));
                fields.push(("holds", &holds));
                push(by, ["by", "by_name"], &mut fields);
                log.warn(at, "break", &fields);
            }
        }
    }
    log.flush(time.unwrap_or_default());
}

/// One line about a hold. Those of one turn are written together, but for a break's, which an administrator looks for.
fn tell(
    at: u64,
    name: &str,
    hold: &Hold,
    peer: Option<&Somebody>,
    (span, time): (&str, Seconds),
    by: Option<&Somebody>,
    log: &mut Log,
) {
    let key = Text(&hold.key);
    let owner = hold.owner.as_deref().map(Text);
    let fence = format!("{:016x}", hold.fence);
    let mut fields: Vec<(&str, &dyn Display)> = vec![("key", &key)];
    fields.extend(space_of(hold.space));
    fields.push(("fence", &fence));
    if let Some(owner) = &owner {
        fields.push(("owner", owner));
    }
    push(peer, ["peer", "peer_name"], &mut fields);
    fields.push((span, &time));
    push(by, ["by", "by_name"], &mut fields);
    match name {
        "broken" | CUT_HOLD => log.warn(at, name, &fields),
        _ => log.info_in_batch(at, name, &fields),
    }
}

/// Appends the address of somebody, and the name if there is one, under these names.
fn push<'a>(
    who: Option<&'a Somebody>,
    [addr, name]: [&'static str; 2],
    fields: &mut Vec<(&'a str, &'a dyn Display)>,
) {
    if let Some(who) = who {
        fields.push((addr, &who.addr));
        if let Some(text) = &who.name {
            fields.push((name, text));
        }
    }
}

/// A lock needs no word for what it is.
fn space_of(space: Space) -> Option<(&'static str, &'static dyn Display)> {
    (space == Space::Semaphore).then_some(("space", &"semaphore"))
}

/// Bytes of a client, of which those that are no text become U+FFFD.
struct Text<'a>(&'a [u8]);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

/// A span in seconds, to the millisecond.
struct Seconds(Us);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / SECOND, self.0 % SECOND / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_bytes_are_shown_for_people() {
        let shown = |span: Us| Seconds(span).to_string();
        assert_eq!(shown(0), "0.000");
        assert_eq!(shown(61_002_999), "61.002");
        let text = |bytes: &[u8]| Text(bytes).to_string();
        assert_eq!(text("cl\u{e9}".as_bytes()), "cl\u{e9}");
        assert_eq!(text(b"a\xff\xfeb\xe2\x80"), "a\u{fffd}\u{fffd}b\u{fffd}");
    }
}
