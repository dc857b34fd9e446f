//! Stand-ins for TLS in a build without it, so that the rest of the client is the same. Invariant: these types have no
//! values.

use std::io::{self, Read, Write};

use crate::base::got::Got;

/// How to use TLS: this build does not know.
#[derive(Clone, Debug)]
pub enum Tls {}

/// TLS with one server: this build has none.
#[derive(Clone, Debug)]
pub enum Connector {}

/// A session.
#[derive(Debug)]
pub(super) enum Session {}

impl Tls {
    /// There is no value to call it on.
    ///
    /// # Errors
    /// None.
    pub fn to(&self, _server: &str) -> io::Result<Connector> {
        match *self {}
    }
}

impl From<Connector> for Tls {
    fn from(connector: Connector) -> Tls {
        match connector {}
    }
}

impl Connector {
    pub(super) fn session(&self) -> io::Result<Session> {
        match *self {}
    }
}

impl Session {
    pub(super) fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub(super) fn read(&mut self, _: &mut (impl Read + Write), _: &mut [u8]) -> io::Result<Got> {
        match *self {}
    }

    pub(super) fn write(&mut self, _: &mut (impl Read + Write), _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn finish(&mut self, _: &mut impl Write) {
        match *self {}
    }
}
