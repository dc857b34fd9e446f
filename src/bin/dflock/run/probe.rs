//! Whether the server of a queue is still there, where another one may lead instead. A wait has no answer for as long
//! as it takes, and the kernel of a stopped server goes on to acknowledge what it gets; so a second connection to the
//! same address asks with a `ping` every two seconds. Invariant: a server counts as silent only if a ping was sent and
//! nothing was heard since for [`SILENCE`], nor did it close that connection.

use dflockd::client::link::Link;
use dflockd::client::turns::{PAUSE, SILENCE, is_absence};
use dflockd::command::{SECOND, Us};
use dflockd::sys;
use dflockd::wire::ask;

use super::release::Peer;
use super::world::World;
use crate::failure::is_own;

/// How long after one attempt to connect the next one is made.
const RETRY: Us = SECOND / 4;

/// Pings the server that has a wait in its queue.
pub struct Probe {
    /// The server at the address of the queue, without an owner: this connection waits for nothing.
    peer: Peer,
    link: Option<Link>,
    /// When the ping was sent, or first tried, that is not answered.
    asked: Option<Us>,
    /// When the last attempt to connect was made.
    tried: Us,
    /// When there is something to do.
    due: Us,
}

impl Probe {
    pub fn new(peer: &Peer) -> Probe {
        Probe {
            peer: Peer {
                owner: None,
                ..peer.clone()
            },
            link: None,
            asked: None,
            tried: 0,
            due: sys::now().saturating_add(PAUSE),
        }
    }

    /// When [`Probe::move_on`] has something to do even if nothing arrives.
    pub fn next(&self) -> Us {
        self.due
    }

    /// Reads, and pings if it is time. Returns whether the server is silent.
    pub fn move_on(&mut self, world: &World) -> bool {
        let now = sys::now();
        if self.listen() && self.asked.take().is_some() {
            self.due = now.saturating_add(PAUSE);
        }
        if now < self.due {
            return false;
        }
        let asked = *self.asked.get_or_insert(now);
        let end = asked.saturating_add(SILENCE);
        if now >= end {
            return true;
        }
        if self.link.is_none() || asked == now {
            self.ping(world, now);
        }
        self.due = match self.link {
            Some(_) => end,
            None => end.min(now.saturating_add(RETRY)),
        };
        false
    }

    /// Whether there is a sign of the server: an answer of any kind, or the end of a connection that it had taken. One
    /// that is full closes connections unread.
    fn listen(&mut self) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        link.move_on();
        let mut is_heard = false;
        while link.line().is_some() {
            is_heard = true;
        }
        if link.is_ended() {
            is_heard |= !link.why().is_some_and(is_absence);
            self.link = None;
            self.due = self.due.min(self.tried.saturating_add(RETRY));
        }
        is_heard
    }

    fn ping(&mut self, world: &World, now: Us) {
        if self.link.is_none() {
            self.tried = now;
            match self.peer.connect(world) {
                Ok(mut link) => {
                    self.peer.greet(link.output());
                    self.link = Some(link);
                }
                // Nobody can say anything about the server.
                Err(error) if is_own(&error) => self.asked = None,
                Err(_) => {}
            }
        }
        if let Some(link) = &mut self.link {
            ask::ping(link.output());
            link.move_on();
        }
    }
}
