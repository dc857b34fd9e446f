//! The parts of the server that a door needs to take in a connection. Invariant: a face that has TLS is never
//! spoken in plain text.

use std::os::fd::BorrowedFd;

use mio::Registry;
use mio::net::TcpStream;

use super::refusals::Refusals;
use super::socket::Sockets;
use super::stream::Stream;
use super::tls::Tls;
use crate::hub::Hub;
use crate::wire::Face;

/// The parts of the server that take in a connection.
pub(super) struct World<'a> {
    pub hub: &'a mut Hub,
    pub sockets: &'a mut Sockets,
    pub registry: &'a Registry,
    pub refusals: &'a mut Refusals,
    /// A descriptor to copy for the reserve.
    pub spare: BorrowedFd<'a>,
    pub tls: Option<&'a Tls>,
}

impl World<'_> {
    /// The way to a peer that has just connected.
    pub fn stream(&self, socket: TcpStream, face: Face) -> Stream {
        match self.tls.and_then(|tls| tls.session(face)) {
            Some(secure) => Stream::Tls(socket, Some(Box::new(secure))),
            None => Stream::Plain(socket),
        }
    }

    /// Whether clients of this face come over TLS.
    pub fn has_tls(&self, face: Face) -> bool {
        self.tls.is_some_and(|tls| tls.has(face))
    }

    /// Whether clients of this face must wait at the door, for handshakes that have come before.
    pub fn is_pressed(&self, face: Face) -> bool {
        self.has_tls(face) && self.sockets.handshakes.is_pressed()
    }
}
