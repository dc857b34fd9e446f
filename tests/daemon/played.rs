//! A server that a test plays, which goes away and comes back to the same address. It knows no rules: the test says what
//! it hears and answers. Invariant: while it is away nobody listens there, so connections are refused.

use std::net::{Shutdown, SocketAddr, TcpListener};

use super::{Client, eventually, free_port};

/// The token that it grants.
pub const TOKEN: &str = "00000000000000ff0123456789abcdef";

pub struct Played {
    /// None while it is away.
    listener: Option<TcpListener>,
    pub addr: SocketAddr,
}

impl Played {
    pub fn new() -> Played {
        let mut played = Played {
            listener: None,
            addr: (own_host(), free_port()).into(),
        };
        played.comes_back();
        played
    }

    pub fn accept(&self) -> Client {
        let listener = self.listener.as_ref().expect("it is there");
        listener.set_nonblocking(true).unwrap();
        let mut taken = None;
        eventually("somebody connects", || {
            taken = listener.accept().ok();
            taken.is_some()
        });
        Client::over(taken.expect("it was there").0)
    }

    /// Takes a connection, and answers until it has granted the lock that is asked for, for so many seconds.
    pub fn grants(&self, lease: u32) -> Client {
        let mut peer = self.accept();
        while !frame(&mut peer).starts_with("l\n") {
            peer.send("ok\n");
        }
        peer.send(format!("ok {TOKEN} {lease}\n"));
        peer
    }

    /// Nobody listens any more, and then the connection ends, whatever children of other tests have a copy of it.
    pub fn goes(&mut self, mut peer: Client) {
        self.listener = None;
        peer.stream().shutdown(Shutdown::Both).unwrap();
    }

    pub fn comes_back(&mut self) {
        self.listener = Some(TcpListener::bind(self.addr).expect("nobody else took the port"));
    }
}

/// An address of this process, on which no other program is given a port while the server is away.
fn own_host() -> [u8; 4] {
    let [.., high, low] = std::process::id().to_be_bytes();
    [127, 64 + high % 64, low, 2]
}

/// The next request; empty at the end.
pub fn frame(peer: &mut Client) -> String {
    (0..3).map(|_| peer.line()).collect()
}

/// Hears these requests in this order, and answers each at once.
#[track_caller]
pub fn converse(peer: &mut Client, talk: &[(&str, &str)]) {
    for (asked, answer) in talk {
        assert_eq!(frame(peer), *asked);
        peer.send(answer);
    }
}
