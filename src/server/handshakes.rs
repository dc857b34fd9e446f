//! The handshakes of TLS. One costs as much processor time as some forty requests with a key of ECDSA, and several times
//! that with one of RSA. So a turn takes one step of one, and while others have work to do handshakes have no more than
//! half of the time. Each has 5 s, and there are no more than so many at once. Invariant: a session is given nothing of
//! what its peer sends before its handshake is over.

use std::io::ErrorKind;

use super::refusals::Refusals;
use super::socket::Sockets;
use super::tls::told;
use crate::command::{SessionId, Us};
use crate::hub::Hub;
use crate::sys;

impl Sockets {
    /// Goes on with one of which something has come, and ends those that take too long.
    #[inline(never)]
    pub fn shake_hands(&mut self, now: Us, hub: &mut Hub, refusals: &mut Refusals) {
        self.handshakes.begin_turn(now);
        self.end_late_handshakes(hub, refusals);
        let has_others = std::mem::take(&mut self.has_others);
        if let Some(id) = self.handshakes.next_ready() {
            let begin = sys::now();
            self.go_on(id, hub, refusals);
            if has_others {
                self.handshakes.rest(sys::now() - begin);
            }
        }
    }

    /// The handshake of this session begins.
    pub fn begin_handshake(&mut self, id: SessionId, hub: &mut Hub, refusals: &mut Refusals) {
        self.handshakes.begin(id);
        self.end_late_handshakes(hub, refusals);
    }

    fn end_late_handshakes(&mut self, hub: &mut Hub, refusals: &mut Refusals) {
        while let Some((id, why)) = self.handshakes.next_late() {
            if let Some(socket) = self.of(id)
                && socket.stream.is_handshaking()
            {
                refusals.add_failed(why.to_string(), hub.peer(id));
                socket.stream.give_up();
                self.handshakes.end();
                hub.closed(id);
            }
        }
    }

    fn go_on(&mut self, id: SessionId, hub: &mut Hub, refusals: &mut Refusals) {
        let Some(socket) = self.of(id).filter(|socket| socket.stream.is_handshaking()) else {
            return;
        };
        socket.again = false;
        match socket.stream.shake_hands() {
            Ok(true) => {
                let name = socket.stream.peer_name();
                self.handshakes.end();
                if let Some(name) = name {
                    hub.named(id, &name);
                }
                // Its output has waited for the end of the handshake.
                hub.writable(id);
                self.read_now(id, hub);
            }
            Ok(false) => {
                // No edge tells of what is left.
                socket.again = true;
                self.handshakes.push_ready(id);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) if e.kind() == ErrorKind::InvalidData => {
                refusals.add_failed(told(&e), hub.peer(id));
                socket.garbled(hub);
                self.handshakes.end();
            }
            // The client has disconnected.
            Err(_) => {
                socket.stream.give_up();
                self.handshakes.end();
                hub.closed(id);
            }
        }
    }
}
