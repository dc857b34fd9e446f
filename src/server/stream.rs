//! The bytes of one connection, plain or over TLS. Invariant: what a write counts is with the kernel, so that a grant of
//! which the kernel has not heard can be taken back.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use super::tls::Secure;
use crate::base::got::Got;

/// A connection's way to its peer.
pub(super) enum Stream {
    Plain(TcpStream),
    /// Without a session once TLS has failed: nothing that comes can be understood.
    Tls(TcpStream, Option<Box<Secure>>),
}

impl Stream {
    /// The socket, to be watched.
    pub fn source(&mut self) -> &mut TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(socket, _) => socket,
        }
    }

    /// Reads once.
    #[inline(always)]
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        match self {
            Stream::Plain(socket) => take(socket, buffer),
            Stream::Tls(socket, None) => take(socket, buffer),
            Stream::Tls(socket, Some(secure)) => secure.read(socket, buffer),
        }
    }

    /// Writes once, and counts what the kernel has.
    #[inline(always)]
    pub fn write(&mut self, output: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(output),
            Stream::Tls(socket, Some(secure)) => secure.write(socket, output),
            // The peer could not read it.
            Stream::Tls(_, None) => Ok(output.len()),
        }
    }

    /// Ends the output; what the peer sends is still read.
    pub fn shut(&mut self) {
        self.say_goodbye();
        // It fails if the peer has gone meanwhile, which the read will tell.
        let _ = self.source().shutdown(Shutdown::Write);
    }

    /// Tells the peer that this end is meant, where it would otherwise look like an accident.
    pub fn say_goodbye(&mut self) {
        if let Stream::Tls(socket, Some(secure)) = self {
            secure.finish(socket);
        }
    }
}

/// The parts of TLS beyond bytes in and out.
impl Stream {
    /// Whether the peers have not agreed yet.
    pub fn is_handshaking(&self) -> bool {
        matches!(self, Stream::Tls(_, Some(secure)) if secure.is_handshaking())
    }

    /// Moves the handshake on by a step. Whether it is over.
    pub fn shake_hands(&mut self) -> io::Result<bool> {
        match self {
            Stream::Tls(socket, Some(secure)) => secure.shake_hands(socket),
            _ => Ok(true),
        }
    }

    /// The name in the peer's certificate, if the peer has shown one.
    pub fn peer_name(&self) -> Option<String> {
        match self {
            Stream::Tls(_, Some(secure)) => secure.peer_name(),
            _ => None,
        }
    }

    /// Sends what TLS has to say for itself.
    pub fn speak(&mut self) -> io::Result<()> {
        match self {
            Stream::Tls(socket, Some(secure)) => secure.speak(socket),
            _ => Ok(()),
        }
    }

    /// From now on what comes is only thrown away.
    pub fn give_up(&mut self) {
        if let Stream::Tls(_, secure) = self {
            *secure = None;
        }
    }
}

#[inline(always)]
fn take(socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Got> {
    socket
        .read(buffer)
        .map(|count| Got::plain(count, buffer.len()))
}
