//! One session over a socket that takes as little as the test wants: what is counted as sent, and what is sent.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use dflockd::base::got::Got;
use dflockd::tls::{Secure, VERSIONS, pem, provider};
use rustls::ServerConfig;
use rustls::pki_types::ServerName;

use super::ANYBODY;
use crate::daemon::pki::{Pki, pki};

/// One end of a connection: what has come, and what this end has sent, for which there is so much room.
#[derive(Default)]
struct Socket {
    input: VecDeque<u8>,
    sent: Vec<u8>,
    room: usize,
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.room);
        self.sent.extend_from_slice(&bytes[..n]);
        self.room -= n;
        match n {
            0 => Err(ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both ends, which have shaken hands.
struct Pair {
    server: Secure,
    at_server: Socket,
    client: Secure,
    at_client: Socket,
}

impl Pair {
    fn new(pki: &Pki) -> Pair {
        let chain = pem::certificates(&pki.read("server.pem")).unwrap();
        let key = pem::key(&pki.read("server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut pair = Pair {
            server: Secure::server(Arc::new(config)).unwrap(),
            at_server: Socket::default(),
            client: Secure::client(ANYBODY.config(pki), name).unwrap(),
            at_client: Socket::default(),
        };
        (pair.at_server.room, pair.at_client.room) = (usize::MAX, usize::MAX);
        for _ in 0..8 {
            let _ = pair.client.read(&mut pair.at_client, &mut [0; 64]);
            pair.carry();
            let _ = pair.server.read(&mut pair.at_server, &mut [0; 64]);
            pair.carry();
        }
        assert!(!pair.server.is_handshaking() && !pair.client.is_handshaking());
        pair
    }

    /// What each has sent comes to the other.
    fn carry(&mut self) {
        self.at_server.input.extend(self.at_client.sent.drain(..));
        self.at_client.input.extend(self.at_server.sent.drain(..));
    }

    fn client_hears(&mut self) -> io::Result<Vec<u8>> {
        let mut heard = vec![0; 64];
        let count = taken(&mut self.client, &mut self.at_client, &mut heard)?;
        heard.truncate(count);
        Ok(heard)
    }
}

/// Reads until something is for the reader.
fn taken(secure: &mut Secure, socket: &mut Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match secure.read(socket, buffer)? {
            Got::Bytes { count, .. } => return Ok(count),
            Got::End => return Ok(0),
            Got::Nothing => {}
        }
    }
}

/// Records without anything for the reader must not keep it: others want to be served.
#[test]
fn one_read_receives_once() {
    let Some(pki) = pki() else { return };
    let mut pair = Pair::new(pki);
    pair.client.write(&mut pair.at_client, b"x").unwrap();
    let whole = std::mem::take(&mut pair.at_client.sent);
    for (at, &byte) in whole.iter().enumerate() {
        pair.at_server.input.push_back(byte);
        let got = pair.server.read(&mut pair.at_server, &mut [0; 8]).unwrap();
        let is_whole = at + 1 == whole.len();
        assert_eq!(got != Got::Nothing, is_whole, "{at}");
    }
}

/// A grant can be taken back as long as it is not counted, so its client must not have all of it.
#[test]
fn of_a_record_that_is_not_counted_the_peer_has_no_more_than_a_part() {
    let Some(pki) = pki() else { return };
    let mut pair = Pair::new(pki);
    pair.at_server.room = 9;
    assert_eq!(
        pair.server.write(&mut pair.at_server, b"granted").unwrap(),
        0
    );
    assert_eq!(pair.at_server.sent.len(), 9);
    // There is room again, and the client asks on.
    pair.at_server.room = 1000;
    pair.at_client.room = 1000;
    assert_eq!(pair.client.write(&mut pair.at_client, b"more").unwrap(), 4);
    pair.at_server.input.extend(pair.at_client.sent.drain(..));
    let mut asked = [0; 64];
    let count = taken(&mut pair.server, &mut pair.at_server, &mut asked).unwrap();
    assert_eq!(&asked[..count], b"more");
    pair.server.speak(&mut pair.at_server).unwrap();
    assert_eq!(pair.at_server.sent.len(), 9, "only a write goes on");
    let mut taken_back = pair.server;
    taken_back.finish(&mut pair.at_server);
    assert_eq!(pair.at_server.sent.len(), 9, "nor does the end");
    pair.server = taken_back;
    pair.carry();
    assert_eq!(
        pair.client_hears().unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn a_byte_counts_once_its_record_is_out() {
    let Some(pki) = pki() else { return };
    let mut pair = Pair::new(pki);
    let long = vec![b'x'; 100_000];
    let (mut counted, mut calls) = (0, 0);
    while counted < long.len() {
        pair.at_server.room = 1_000;
        let before = pair.at_server.sent.len();
        counted += pair
            .server
            .write(&mut pair.at_server, &long[counted..])
            .unwrap();
        let sent = pair.at_server.sent.len();
        assert!(
            sent <= before + 1_000 && counted <= sent,
            "{counted} of {sent}"
        );
        calls += 1;
    }
    assert!(calls > 100);
    pair.carry();
    let mut heard = Vec::new();
    while heard.len() < long.len() {
        heard.extend(pair.client_hears().unwrap());
    }
    assert!(heard == long);
}
