//! Locks as a status and a list show them: parts of JSON, which the hub puts together a slice at a time. Invariant: no
//! token and no name of an attempt is ever shown.

use super::Clock;
use super::answer::{write_instant, write_lock_id, write_seconds};
use crate::command::{Peer, SessionId, Space, State, TicketView, View};
use crate::wire::json::{write_peer, write_string};
use crate::wire::text::{hex_of, write_number};

/// The member that names the peer by its certificate.
const PEER_NAME: &str = "peerName";

/// Appends the object of a lock that is used, up to the bracket of its holders. For simple clients the one holder of a
/// lock is there a second time, as members of the lock.
pub fn write_lock(view: &View, clock: Clock, out: &mut Vec<u8>) {
    let State::Used {
        held,
        waiting,
        oldest,
    } = view.state
    else {
        return write_free(view.space, view.name, out);
    };
    write_name(view.space, view.name, out);
    out.extend_from_slice(format!(",\"locked\":{},\"limit\":", held > 0).as_bytes());
    write_number(view.limit.into(), out);
    out.extend_from_slice(b",\"held\":");
    write_number(held.into(), out);
    out.extend_from_slice(b",\"waiters\":");
    write_number(waiting.into(), out);
    if let Some(hold) = oldest.filter(|_| view.limit == 1) {
        write_lock_id(",\"lockId\":", hold.fence, out);
        write_client(&hold, out);
        let end = clock.wall_us.saturating_add(hold.lease_left);
        write_instant(",\"expiresAt\":", end, out);
        write_metadata(&hold, out);
    }
    out.extend_from_slice(b",\"holders\":[");
}

/// Appends the object of a lock that nobody uses, up to the bracket of its holders.
pub fn write_free(space: Space, name: &[u8], out: &mut Vec<u8>) {
    write_name(space, name, out);
    out.extend_from_slice(b",\"locked\":false,\"waiters\":0,\"holders\":[");
}

/// Appends the object of a hold.
pub fn write_holder(hold: &TicketView, peer: Option<Peer>, clock: Clock, out: &mut Vec<u8>) {
    write_lock_id("{\"lockId\":", hold.fence, out);
    write_client(hold, out);
    let begin = clock.wall_us.saturating_sub(hold.age);
    write_instant(",\"acquiredAt\":", begin, out);
    let end = clock.wall_us.saturating_add(hold.lease_left);
    write_instant(",\"expiresAt\":", end, out);
    write_seconds(",\"ttl\":", hold.lease_left, out);
    write_seconds(",\"heldFor\":", hold.age, out);
    let renews = hold.renews.is_some();
    out.extend_from_slice(format!(",\"autoRenew\":{renews}").as_bytes());
    if let Some(renews) = hold.renews {
        let until = clock.wall_us.saturating_add(renews);
        write_instant(",\"autoRenewUntil\":", until, out);
    }
    write_metadata(hold, out);
    write_peer(peer, PEER_NAME, out);
    out.push(b'}');
}

/// Appends the object of a wait.
pub fn write_waiter(wait: &TicketView, peer: Option<Peer>, out: &mut Vec<u8>) {
    // The first member has no comma before it.
    let begin = out.len();
    write_client(wait, out);
    out[begin] = b'{';
    write_peer(peer, PEER_NAME, out);
    write_seconds(",\"waited\":", wait.age, out);
    out.push(b'}');
}

/// The client of a hold or a wait: its owner or, if it has none, its connection.
pub fn client_of(ticket: &TicketView) -> Option<Vec<u8>> {
    let owner = ticket.owner.map(<[u8]>::to_vec);
    owner.or_else(|| ticket.session.map(client_at))
}

/// What stands for the client at a connection that has declared no name.
pub fn client_at(id: SessionId) -> Vec<u8> {
    format!("conn-{}", id.serial()).into_bytes()
}

fn write_name(space: Space, name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"lockName\":");
    write_string(name, out);
    // As strings, many such names look alike, and no path can have one.
    if str::from_utf8(name).is_err() {
        out.extend_from_slice(b",\"lockNameHex\":\"");
        out.extend(name.iter().flat_map(|&byte| hex_of(byte)));
        out.push(b'"');
    }
    let space = match space {
        Space::Lock => "lock",
        Space::Semaphore => "semaphore",
    };
    out.extend_from_slice(format!(",\"space\":\"{space}\"").as_bytes());
}

fn write_client(ticket: &TicketView, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"clientId\":");
    match client_of(ticket) {
        Some(client) => write_string(&client, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn write_metadata(hold: &TicketView, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"metadata\":");
    out.extend_from_slice(hold.note.unwrap_or(b"null"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_utf8_is_there_in_hex_besides() {
        let free = |name: &[u8]| {
            let mut out = Vec::new();
            write_free(Space::Lock, name, &mut out);
            String::from_utf8(out).unwrap()
        };
        let rest = r#""space":"lock","locked":false,"waiters":0,"holders":["#;
        assert_eq!(
            free("clé".as_bytes()),
            format!(r#"{{"lockName":"clé",{rest}"#)
        );
        let shown = format!("{{\"lockName\":\"a\u{fffd}\",\"lockNameHex\":\"61ff\",{rest}");
        assert_eq!(free(b"a\xff"), shown);
    }
}
