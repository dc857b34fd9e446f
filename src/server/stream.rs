//! The bytes of one connection, plain or over TLS. Invariant: what a write counts is with the kernel, so that a grant of
//! which the kernel has not heard can be taken back.

use std::io::{self, Read, Write};
use std::net::Shutdown;
#[cfg(feature = "tls")]
use std::net::SocketAddr;

use mio::net::TcpStream;

#[cfg(feature = "tls")]
use crate::tls::{Secure, certificate};

/// A connection's way to its peer.
pub(super) enum Stream {
    Plain(TcpStream),
    /// Without a session once TLS has failed: nothing that comes can be understood.
    #[cfg(feature = "tls")]
    Tls(TcpStream, Option<Box<Secure>>),
}

/// What a read has brought.
pub(super) struct Got {
    /// So many bytes; none if the peer has finished.
    pub bytes: usize,
    /// There is nothing more, as far as is known: an edge will tell of it.
    pub is_drained: bool,
}

impl Stream {
    /// The socket, to be watched.
    pub fn source(&mut self) -> &mut TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            #[cfg(feature = "tls")]
            Stream::Tls(socket, _) => socket,
        }
    }

    /// Reads once.
    #[inline(always)]
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        match self {
            Stream::Plain(socket) => take(socket, buffer),
            #[cfg(feature = "tls")]
            Stream::Tls(socket, None) => take(socket, buffer),
            #[cfg(feature = "tls")]
            Stream::Tls(socket, Some(secure)) => {
                let got = secure.read(socket, buffer)?;
                Ok(Got {
                    bytes: got.bytes,
                    is_drained: got.is_drained,
                })
            }
        }
    }

    /// Writes once, and counts what the kernel has.
    #[inline(always)]
    pub fn write(&mut self, output: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(output),
            #[cfg(feature = "tls")]
            Stream::Tls(socket, Some(secure)) => secure.write(socket, output),
            // Nobody could read it.
            #[cfg(feature = "tls")]
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
        #[cfg(feature = "tls")]
        if let Stream::Tls(socket, Some(secure)) = self {
            secure.finish(socket);
        }
    }
}

/// What there is of TLS beyond bytes in and out.
#[cfg(feature = "tls")]
impl Stream {
    /// Whether the peers have not agreed yet.
    pub fn is_handshaking(&self) -> bool {
        matches!(self, Stream::Tls(_, Some(secure)) if secure.is_handshaking())
    }

    /// Moves the handshake on. Returns what the peer's certificate calls it, if it has shown one.
    pub fn shake_hands(&mut self) -> io::Result<Option<String>> {
        let Stream::Tls(socket, Some(secure)) = self else {
            return Ok(None);
        };
        secure.shake_hands(socket)?;
        Ok(secure.peer_certificate().and_then(certificate::name))
    }

    /// Where the peer is, if it still is there.
    pub fn peer(&mut self) -> Option<SocketAddr> {
        self.source().peer_addr().ok()
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

/// A short read has emptied the socket.
#[inline(always)]
fn take(socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Got> {
    let bytes = socket.read(buffer)?;
    let is_drained = bytes < buffer.len();
    Ok(Got { bytes, is_drained })
}
