//! JSON output: strings of any bytes, and the objects of a listing. It reads no JSON. Invariant: the output is one line
//! of valid UTF-8, whatever bytes clients chose for their keys (RFC 8259).

use super::text::{hex_of, write_hex, write_number};
use crate::command::{Peer, SECOND, SessionId, Space, State, TicketView, Us, View};

/// The member that names a peer by its certificate.
const PEER_NAME: &str = "peer_name";

/// Appends a string. Bytes that are not UTF-8 become U+FFFD, and control characters become escapes.
pub fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'"' | b'\\' => out.extend([b'\\', byte]),
                0..0x20 | 0x7f => {
                    out.extend_from_slice(b"\\u00");
                    out.extend(hex_of(byte));
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// Appends the object of a key, for the listing of `stats`; `peer` is the address of the oldest hold's session.
pub fn write_view(view: View, peer: Option<Peer>, out: &mut Vec<u8>) {
    out.push(b'{');
    write_name(view.name, out);
    match (view.space, view.state) {
        (_, State::Idle { span }) => write_seconds("idle_s", span, out),
        (
            Space::Lock,
            State::Used {
                waiting, oldest, ..
            },
        ) => {
            let session = oldest.and_then(|hold| hold.session);
            write_count("owner_conn_id", session.map_or(0, SessionId::serial), out);
            if let Some(owner) = oldest.and_then(|hold| hold.owner) {
                write_owner(owner, out);
            }
            let lease_left = oldest.map_or(0, |hold| hold.lease_left);
            write_seconds("lease_expires_in_s", lease_left, out);
            write_count("waiters", waiting.into(), out);
            if let Some(hold) = oldest {
                write_peer(peer, PEER_NAME, out);
                write_seconds("held_s", hold.age, out);
                write_fence(hold.fence, out);
            }
        }
        (Space::Semaphore, State::Used { held, waiting, .. }) => {
            write_count("limit", view.limit.into(), out);
            write_count("holders", held.into(), out);
            write_count("waiters", waiting.into(), out);
        }
    }
    out.push(b'}');
}

/// Appends the beginning of the object of one key, up to the bracket of its holders; for a key that nobody has used of
/// late, None, without a limit if that is not fixed.
pub fn write_key(space: Space, name: &[u8], view: Option<View>, out: &mut Vec<u8>) {
    out.push(b'{');
    write_name(name, out);
    let (space, limit) = match space {
        Space::Lock => ("lock", 1),
        Space::Semaphore => ("semaphore", view.map_or(0, |view| view.limit)),
    };
    let (held, waiting) = match view.map(|view| view.state) {
        Some(State::Used { held, waiting, .. }) => (held, waiting),
        _ => (0, 0),
    };
    out.extend_from_slice(format!(",\"space\":\"{space}\"").as_bytes());
    write_count("limit", limit.into(), out);
    write_count("held", held.into(), out);
    write_count("waiting", waiting.into(), out);
    out.extend_from_slice(b",\"holders\":[");
}

/// Appends the object of a hold or a wait, for the listing of its key.
pub fn write_ticket(ticket: TicketView, peer: Option<Peer>, out: &mut Vec<u8>) {
    out.push(b'{');
    let holds = ticket.fence > 0;
    if holds {
        out.extend_from_slice(b"\"fence\":\"");
        write_hex(ticket.fence, out);
        out.extend_from_slice(b"\",");
    }
    out.extend_from_slice(b"\"conn_id\":");
    write_number(ticket.session.map_or(0, SessionId::serial), out);
    if let Some(owner) = ticket.owner {
        write_owner(owner, out);
    }
    write_peer(peer, PEER_NAME, out);
    if holds {
        write_seconds("held_s", ticket.age, out);
        write_seconds("lease_expires_in_s", ticket.lease_left, out);
        let is_detached = ticket.session.is_none();
        out.extend_from_slice(format!(",\"detached\":{is_detached}").as_bytes());
    } else {
        write_seconds("waited_s", ticket.age, out);
    }
    out.push(b'}');
}

/// Appends the end of the object of one key.
pub fn write_key_end(idle: Option<Us>, out: &mut Vec<u8>) {
    if let Some(span) = idle {
        write_seconds("idle_s", span, out);
    }
    out.push(b'}');
}

/// Appends the object of the listeners of one pattern and one group, for the listing of `stats`; without a group if it
/// is empty.
pub fn write_audience(pattern: &[u8], group: &[u8], listeners: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"pattern\":");
    write_string(pattern, out);
    if !group.is_empty() {
        out.extend_from_slice(b",\"group\":");
        write_string(group, out);
    }
    write_count("listeners", listeners.into(), out);
    out.push(b'}');
}

/// Appends the member `key`. A key that is not UTF-8 is there a second time, in hex: as strings, many such keys look
/// alike.
fn write_name(name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"key\":");
    write_string(name, out);
    if std::str::from_utf8(name).is_err() {
        out.extend_from_slice(b",\"key_hex\":\"");
        out.extend(name.iter().flat_map(|&byte| hex_of(byte)));
        out.push(b'"');
    }
}

fn write_owner(owner: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"owner\":");
    write_string(owner, out);
}

/// Appends the member `peer`: the address of a session, `null` for what has none. The name in its certificate follows
/// under `named`, if it has shown one.
pub(super) fn write_peer(peer: Option<Peer>, named: &str, out: &mut Vec<u8>) {
    let text = peer.map_or("null".to_string(), |peer| format!("\"{}\"", peer.addr));
    out.extend_from_slice(format!(",\"peer\":{text}").as_bytes());
    if let Some(name) = peer.and_then(|peer| peer.name) {
        out.extend_from_slice(format!(",\"{named}\":").as_bytes());
        write_string(name.as_bytes(), out);
    }
}

fn write_fence(fence: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"fence\":\"");
    write_hex(fence, out);
    out.push(b'"');
}

fn write_count(member: &str, value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(",\"{member}\":{value}").as_bytes());
}

/// Appends a member with seconds, three decimals of them.
pub fn write_seconds(member: &str, span: Us, out: &mut Vec<u8>) {
    let (seconds, ms) = (span / SECOND, span % SECOND / 1000);
    out.extend_from_slice(format!(",\"{member}\":{seconds}.{ms:03}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_string(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn any_bytes_become_one_line_of_valid_utf8() {
        assert_eq!(string("clé".as_bytes()), "\"clé\"");
        assert_eq!(string(b"a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(
            string(b"\r\n\0\x1b[31m\x7f"),
            r#""\u000d\u000a\u0000\u001b[31m\u007f""#
        );
        assert_eq!(string(b"\xff\xfe-\xc3"), "\"\u{fffd}\u{fffd}-\u{fffd}\"");
    }

    #[test]
    fn a_key_is_shown_by_what_it_is_and_who_uses_it() {
        let show_as = |name, space, state| {
            let mut out = Vec::new();
            let view = View {
                space,
                name,
                limit: 3,
                state,
            };
            let peer = Peer {
                addr: "[::1]:7".parse().unwrap(),
                name: None,
            };
            write_view(view, Some(peer), &mut out);
            String::from_utf8(out).unwrap()
        };
        let show = |space, state| show_as(b"k", space, state);
        let mut hold = TicketView {
            fence: 0x1f,
            session: Some(SessionId::new(7, 1)),
            owner: None,
            age: 2 * SECOND,
            lease_left: 1_234_999,
            renews: None,
            note: None,
        };
        let used = |oldest| State::Used {
            held: 2,
            waiting: 1,
            oldest,
        };
        let tail = r#""peer":"[::1]:7","held_s":2.000,"fence":"000000000000001f"}"#;
        let lock = r#"{"key":"k","owner_conn_id":7,"lease_expires_in_s":1.234,"waiters":1,"#;
        assert_eq!(show(Space::Lock, used(Some(hold))), format!("{lock}{tail}"));
        assert_eq!(
            show(Space::Semaphore, used(Some(hold))),
            r#"{"key":"k","limit":3,"holders":2,"waiters":1}"#
        );
        let nobody = r#"{"key":"k","owner_conn_id":0,"lease_expires_in_s":0.000,"waiters":1}"#;
        assert_eq!(show(Space::Lock, used(None)), nobody);
        hold.owner = Some(b"a \"b\"");
        hold.lease_left = 0;
        let lock = r#"{"key":"k","owner_conn_id":7,"owner":"a \"b\"","lease_expires_in_s":0.000,"waiters":1,"#;
        assert_eq!(show(Space::Lock, used(Some(hold))), format!("{lock}{tail}"));
        let idle = State::Idle { span: 60 * SECOND };
        assert_eq!(show(Space::Lock, idle), r#"{"key":"k","idle_s":60.000}"#);
        assert_eq!(
            show_as(b"a\xff\x0f", Space::Lock, idle),
            "{\"key\":\"a\u{fffd}\\u000f\",\"key_hex\":\"61ff0f\",\"idle_s\":60.000}"
        );
    }
}
