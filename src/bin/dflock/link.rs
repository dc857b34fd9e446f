//! One connection that never blocks: lines out, lines in, within an event loop. It knows no command and no answer.
//! Invariant: after an end or an error it stays ended; lines that had arrived can still be taken.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use dflockd::sys;

/// The longest line a server may send.
const LINE_MAX: usize = 4096;

/// A connection, perhaps not established yet.
pub struct Link {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Nothing will arrive any more.
    ended: bool,
    /// Why, if it was no ordinary end.
    why: Option<io::Error>,
}

impl Link {
    /// Begins to connect.
    ///
    /// # Errors
    /// The system refuses at once, for example because nobody listens there.
    pub fn open(addr: SocketAddr, registry: &Registry, token: Token) -> io::Result<Link> {
        let mut stream = TcpStream::connect(addr)?;
        sys::watch_server(&stream)?;
        stream.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, token, interest)?;
        Ok(Link {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            ended: false,
            why: None,
        })
    }

    /// The bytes to be sent; append to them.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Sends and receives as much as goes without waiting. Call it after each event and after appending to the output.
    pub fn move_on(&mut self) {
        while !self.ended && !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(n) => {
                    self.output.drain(..n);
                }
                // The connection is not established yet.
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => self.fail(e),
            }
        }
        let mut chunk = [0; 1024];
        while !self.ended {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => self.fail(e),
            }
            if self.input.len() > LINE_MAX {
                self.fail(ErrorKind::InvalidData.into());
            }
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.ended = true;
        self.why = Some(error);
    }

    /// The error that ended it, if one did; [`ErrorKind::InvalidData`] if a line was too long.
    pub fn why(&self) -> Option<&io::Error> {
        self.why.as_ref()
    }

    /// Takes a line that has arrived, without its LF.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|&byte| byte == b'\n')?;
        let mut line: Vec<u8> = self.input.drain(..=end).collect();
        line.pop();
        Some(line)
    }

    /// Whether nothing will arrive any more.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// When it is dropped, what was not delivered yet is thrown away. False if the system refuses that.
    pub fn reset_on_drop(&self) -> bool {
        sys::reset_on_close(&self.stream).is_ok()
    }

    /// Nothing more will be sent; what the peer still sends can be read. False if not even all of what there was could
    /// be sent: then the peer has no whole request, or none that it could answer.
    pub fn shut_down(&mut self) -> bool {
        self.move_on();
        self.output.is_empty() && !self.ended && self.stream.shutdown(Shutdown::Write).is_ok()
    }

    /// The connection itself, for a process that is to have it too.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
