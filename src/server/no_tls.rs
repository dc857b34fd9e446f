//! Stand-ins for TLS in a build without it, so that the rest of the server is the same. Invariant: these types have no
//! values.

use std::fmt::{self, Display};
use std::io::{self, Read, Write};

use crate::base::got::Got;
use crate::command::Us;
use crate::config;
use crate::log::Log;
use crate::wire::Face;

/// The certificate that newcomers are shown: this build has none.
#[derive(Debug)]
pub enum Tls {}

/// Why TLS cannot be: nobody could ask for it.
#[derive(Debug)]
pub enum NoTls {}

/// A session.
#[derive(Debug)]
pub(super) enum Secure {}

impl Display for NoTls {
    fn fmt(&self, _: &mut fmt::Formatter) -> fmt::Result {
        match *self {}
    }
}

impl NoTls {
    /// There is no value to call it on.
    pub(super) fn fault(&self) -> (&str, &str) {
        match *self {}
    }
}

impl Tls {
    /// None, as the options were refused.
    ///
    /// # Errors
    /// None.
    pub fn read(_: &config::Tls, _: &mut Vec<String>) -> Result<Option<Tls>, NoTls> {
        Ok(None)
    }

    pub(super) fn reload(&mut self) -> Result<u64, NoTls> {
        match *self {}
    }

    pub(super) fn has(&self, _: Face) -> bool {
        match *self {}
    }

    pub(super) fn session(&self, _: Face) -> Option<Secure> {
        match *self {}
    }

    pub(super) fn end_s(&self) -> u64 {
        match *self {}
    }

    pub(super) fn deadline(&self) -> Us {
        match *self {}
    }

    pub(super) fn report(&mut self, _: Us, _: &mut Log) {
        match *self {}
    }
}

impl Secure {
    pub fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub fn peer_name(&self) -> Option<String> {
        match *self {}
    }

    pub fn shake_hands(&mut self, _: &mut (impl Read + Write)) -> io::Result<bool> {
        match *self {}
    }

    pub fn read(&mut self, _: &mut (impl Read + Write), _: &mut [u8]) -> io::Result<Got> {
        match *self {}
    }

    pub fn write(&mut self, _: &mut (impl Read + Write), _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub fn speak(&mut self, _: &mut impl Write) -> io::Result<()> {
        match *self {}
    }

    pub fn finish(&mut self, _: &mut impl Write) {
        match *self {}
    }
}

/// The text of an error of a handshake, for people.
pub(super) fn told(error: &io::Error) -> String {
    error.to_string()
}
