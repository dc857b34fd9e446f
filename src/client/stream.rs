//! A connection as its users see it: bytes out, bytes in, plain or over TLS. The socket may block or not. Not here: what
//! is queued, and what the bytes mean. Invariant: a byte counts as sent once the socket has taken it, in its record if
//! there is one; nothing is left in this value when a read says that nothing more has arrived.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, Shutdown};

use super::TlsError;
use super::tls::{Connector, Session};
pub use crate::base::got::Got;

/// The first byte of an alert of TLS (RFC 8446, 5.1). No answer of a dflockd begins with it.
const ALERT: u8 = 21;

/// A socket, and what is between its bytes and those of its user.
#[derive(Debug)]
pub struct Stream<S> {
    socket: S,
    layer: Layer,
}

#[derive(Debug)]
enum Layer {
    /// Whether nothing has arrived yet.
    Plain {
        is_mute: bool,
    },
    Tls(Box<Session>),
}

impl<S: Read + Write> Stream<S> {
    /// A new connection; over TLS if there is a connector. Nothing is sent yet.
    ///
    /// # Errors
    /// The configuration of TLS cannot be used.
    pub fn new(socket: S, connector: Option<&Connector>) -> io::Result<Stream<S>> {
        let layer = match connector {
            Some(connector) => Layer::Tls(Box::new(connector.session()?)),
            None => Layer::Plain { is_mute: true },
        };
        Ok(Stream { socket, layer })
    }

    /// The socket; read and write nothing there.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// As [`Stream::socket`].
    pub fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// The same connection over the same socket in another form.
    ///
    /// # Errors
    /// Those of `form`.
    pub fn map<T>(self, form: impl FnOnce(S) -> io::Result<T>) -> io::Result<Stream<T>> {
        Ok(Stream {
            socket: form(self.socket)?,
            layer: self.layer,
        })
    }

    /// Whether a handshake of TLS is under way.
    pub fn is_handshaking(&self) -> bool {
        match &self.layer {
            Layer::Plain { .. } => false,
            Layer::Tls(session) => session.is_handshaking(),
        }
    }

    /// Whether there may be something to send that the caller has not given.
    pub fn has_own_words(&self) -> bool {
        matches!(self.layer, Layer::Tls(_))
    }

    /// Takes what has arrived, and moves a handshake on. No bytes are the end of what the peer sends.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if nothing more has arrived. [`ErrorKind::InvalidData`] with a [`TlsError`] inside if peer
    /// and client agree on no TLS, also if one of them speaks none. [`ErrorKind::UnexpectedEof`] for an end within the
    /// handshake. Any other is the socket's.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        match &mut self.layer {
            Layer::Plain { is_mute } => {
                let bytes = self.socket.read(buffer)?;
                if *is_mute && bytes > 0 && buffer[0] == ALERT {
                    return Err(TlsError::OnlyTls.into());
                }
                *is_mute &= bytes == 0;
                Ok(Got::plain(bytes, buffer.len()))
            }
            Layer::Tls(session) => session.read(&mut self.socket, buffer),
        }
    }

    /// Sends as much as the socket takes without waiting, or within its timeout, and of TLS what it has to say itself.
    /// Returns how much of the output was sent: less than all if there is no room, or if a handshake is under way. Over
    /// TLS the next call must begin with the bytes that were not sent.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if nothing was sent of an output that is not empty. Any other is the socket's.
    pub fn send(&mut self, output: &[u8]) -> io::Result<usize> {
        let sent = match &mut self.layer {
            Layer::Plain { .. } => self.socket.write(output)?,
            Layer::Tls(session) => session.write(&mut self.socket, output)?,
        };
        match sent {
            0 if !output.is_empty() => Err(ErrorKind::WouldBlock.into()),
            sent => Ok(sent),
        }
    }

    /// Over TLS: tells the peer that nothing more comes, which goes before the end of a socket.
    fn finish(&mut self) {
        if let Layer::Tls(session) = &mut self.layer {
            session.finish(&mut self.socket);
        }
    }
}

impl Stream<net::TcpStream> {
    /// Nothing more will be sent; what the peer still sends can be read.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn shut_down(&mut self) -> io::Result<()> {
        self.finish();
        self.socket.shutdown(Shutdown::Write)
    }
}

impl Stream<mio::net::TcpStream> {
    /// Nothing more will be sent; what the peer still sends can be read.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn shut_down(&mut self) -> io::Result<()> {
        self.finish();
        self.socket.shutdown(Shutdown::Write)
    }
}

impl<S: Read + Write> Read for Stream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.receive(buffer)? {
            Got::Bytes { count, .. } => Ok(count),
            // The caller looks at its clock, and asks again.
            Got::Nothing => Err(ErrorKind::Interrupted.into()),
            Got::End => Ok(0),
        }
    }
}

impl<S: Read + Write> Write for Stream<S> {
    fn write(&mut self, output: &[u8]) -> io::Result<usize> {
        self.send(output)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
