//! One TLS session over a socket, which may block or not; a timeout of one that blocks is "would block". The caller keeps
//! what it has to send until it is counted, so nothing is in two buffers but the record under way.
//! Invariants: it asks the socket for more only when all that has arrived was taken; of a record under way nothing is sent
//! but by a write, which counts it.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::certificate;
use crate::base::got::Got;

/// Plaintext that is encrypted before the socket is written to again: two records of the largest size; RFC 8446, 5.1.
const CHUNK: usize = 32 * 1024;

/// One TLS session.
#[derive(Debug)]
pub struct Secure {
    session: Connection,
    /// Plaintext that has arrived and was not taken.
    held: usize,
    /// The close_notify of the peer has arrived: behind what is held, a read brings no bytes.
    is_ended: bool,
    /// Bytes of the caller's output that are encrypted, and that the socket has not taken to their end.
    under_way: usize,
}

impl Secure {
    /// The server's end of a session that has not begun.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn server(config: Arc<ServerConfig>) -> Result<Secure, rustls::Error> {
        Ok(Secure::over(ServerConnection::new(config)?.into()))
    }

    /// The client's end of a session that has not begun, to a server of this name.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Secure, rustls::Error> {
        Ok(Secure::over(ClientConnection::new(config, name)?.into()))
    }

    fn over(session: Connection) -> Secure {
        Secure {
            session,
            held: 0,
            is_ended: false,
            under_way: 0,
        }
    }

    /// Whether the peers have not agreed yet.
    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// What the certificate calls the peer that has shown it, once the handshake is over.
    pub fn peer_name(&self) -> Option<String> {
        certificate::name(self.session.peer_certificates()?.first()?)
    }

    /// Takes plaintext that has arrived, and moves the handshake on: receives once if there is none yet. The end may have
    /// come with or without close_notify.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if nothing more has arrived, [`ErrorKind::InvalidData`] with the library's error if it is no
    /// TLS that is agreed upon: then the alert is sent as far as the socket takes it. Any other is the socket's.
    pub fn read(&mut self, socket: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<Got> {
        let mut is_drained = false;
        if self.held == 0 && !self.is_ended {
            // A socket that takes nothing may still have an alert, which says more.
            let stuck = self.speak(socket).err();
            match (self.receive(socket), stuck) {
                (Ok(Received { bytes: 0, .. }), Some(stuck)) => return Err(stuck),
                (Err(e), Some(stuck)) if e.kind() != ErrorKind::InvalidData => return Err(stuck),
                (received, _) => is_drained = received?.is_drained,
            }
        }
        match self.session.reader().read(buffer) {
            Ok(0) => Ok(Got::End),
            Ok(count) => {
                self.held = self.held.saturating_sub(count);
                Ok(Got::Bytes {
                    count,
                    is_drained: is_drained && self.held == 0,
                    is_last: self.is_ended,
                })
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(Got::Nothing),
            // No close_notify: many clients just close.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(Got::End),
            Err(e) => Err(e),
        }
    }

    /// Moves the handshake on: receives once. Whether it is over; if not, there may be more of it to come.
    ///
    /// # Errors
    /// As for [`Secure::read`], and [`ErrorKind::UnexpectedEof`] if the peer has finished before.
    pub fn shake_hands(&mut self, socket: &mut (impl Read + Write)) -> io::Result<bool> {
        self.speak(socket)?;
        if self.is_handshaking() && self.receive(socket)?.bytes == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(!self.is_handshaking())
    }

    /// Receives once, and decrypts.
    fn receive(&mut self, socket: &mut (impl Read + Write)) -> io::Result<Received> {
        let mut tap = Tap {
            socket: &mut *socket,
            is_drained: false,
        };
        let bytes = self.session.read_tls(&mut tap)?;
        let is_drained = tap.is_drained;
        match self.session.process_new_packets() {
            Ok(state) => {
                self.held = state.plaintext_bytes_to_read();
                self.is_ended = state.peer_has_closed();
                // The answers of a handshake. If they cannot go, the next call says so.
                let _ = self.speak(socket);
                Ok(Received { bytes, is_drained })
            }
            Err(e) => {
                // The alert. An error of the socket says less.
                let _ = self.speak(socket);
                Err(io::Error::new(ErrorKind::InvalidData, e))
            }
        }
    }

    /// Encrypts and sends. Returns how many more bytes of the output the socket has taken, in whole records. Call it
    /// again with those that were not counted, unchanged and at the front. If it is fewer than all, the socket has no
    /// room, or the handshake goes on.
    ///
    /// # Errors
    /// Those of the socket but [`ErrorKind::WouldBlock`].
    pub fn write(&mut self, socket: &mut (impl Read + Write), output: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while self.flush(socket)? {
            sent += std::mem::take(&mut self.under_way);
            let rest = &output[sent..];
            if rest.is_empty() || self.is_handshaking() {
                break;
            }
            let chunk = &rest[..rest.len().min(CHUNK)];
            self.under_way = self.session.writer().write(chunk)?;
            if self.under_way == 0 {
                break;
            }
        }
        Ok(sent)
    }

    /// Sends what TLS itself has to say: answers of the handshake, alerts. Behind a record under way it waits for the write
    /// that sends the rest of that.
    ///
    /// # Errors
    /// Those of the socket but [`ErrorKind::WouldBlock`].
    pub fn speak(&mut self, socket: &mut impl Write) -> io::Result<()> {
        match self.under_way {
            0 => self.flush(socket).map(drop),
            _ => Ok(()),
        }
    }

    /// Sends what is encrypted. Whether all of it is out.
    fn flush(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Tells the peer by close_notify that nothing more comes, as far as the socket takes it. Behind a record under way
    /// nothing can be told.
    pub fn finish(&mut self, socket: &mut impl Write) {
        self.session.send_close_notify();
        // Whoever has gone does not miss it.
        let _ = self.speak(socket);
    }
}

/// What came from a socket.
struct Received {
    /// So many bytes, none if the peer has finished.
    bytes: usize,
    /// The socket had fewer than it might.
    is_drained: bool,
}

/// A socket that is watched for a read that brings less than it might.
struct Tap<'a, S> {
    socket: &'a mut S,
    is_drained: bool,
}

impl<S: Read> Read for Tap<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket.read(buffer) {
                Ok(n) => {
                    self.is_drained = n < buffer.len();
                    return Ok(n);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}
