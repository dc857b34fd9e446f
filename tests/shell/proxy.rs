//! A way to the server that can break, and a count of the frames that have passed. Invariant: when `set` returns, no
//! byte passes any more that must not.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::daemon::PATIENCE;

/// The state of the way, for the connections over it.
#[derive(Clone, Copy, PartialEq)]
pub enum Net {
    Open,
    /// Connections are taken and bytes too, and nothing arrives anywhere.
    Silent,
    /// Like `Silent` for the connections that there are, but new ones are as good as ever.
    SilentOnce,
    /// The client's end is closed, and so is each new one; the server sees nothing of it.
    Cut,
    /// Like `Cut` for the connections that there are, but new ones are as good as ever.
    CutOnce,
    /// The server hears of the end of the connections that were cut, too late.
    Late,
}

pub struct Proxy {
    pub addr: SocketAddr,
    road: Arc<Road>,
}

struct Road {
    server: SocketAddr,
    state: Mutex<State>,
    /// Another frame has passed.
    passed: Condvar,
}

struct State {
    net: Net,
    is_over: bool,
    /// All that there ever were.
    ways: Vec<Way>,
    /// Lines that clients have sent and the server was given.
    lines: usize,
}

/// A connection of a client, and the one to the server that belongs to it.
struct Way {
    client: TcpStream,
    server: TcpStream,
    /// Nothing passes, and neither end hears of the end of the other.
    is_dead: bool,
}

impl Proxy {
    pub fn to(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let state = State {
            net: Net::Open,
            is_over: false,
            ways: Vec::new(),
            lines: 0,
        };
        let road = Arc::new(Road {
            server,
            state: Mutex::new(state),
            passed: Condvar::new(),
        });
        let proxy = Proxy {
            addr,
            road: road.clone(),
        };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if !road.opens(client) {
                    break;
                }
            }
        });
        proxy
    }

    pub fn set(&self, net: Net) {
        let mut state = self.road.state.lock().unwrap();
        state.net = net;
        for way in &mut state.ways {
            match net {
                Net::Open => {}
                Net::Silent | Net::SilentOnce => way.is_dead = true,
                Net::Cut | Net::CutOnce => {
                    way.is_dead = true;
                    // It fails only if the client has hung up.
                    let _ = way.client.shutdown(Shutdown::Both);
                }
                Net::Late if way.is_dead => {
                    let _ = way.server.shutdown(Shutdown::Both);
                }
                Net::Late => {}
            }
        }
    }

    /// Waits until the server has been given another request, whole.
    #[track_caller]
    pub fn passes_a_frame(&self) {
        let state = self.road.state.lock().unwrap();
        let frames = state.lines / 3;
        let is_none = |state: &mut State| state.lines / 3 == frames;
        let waited = self
            .road
            .passed
            .wait_timeout_while(state, PATIENCE, is_none);
        assert!(!waited.unwrap().1.timed_out(), "a frame, in time");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A test that has failed is no reason to leave connections behind.
        let state = self.road.state.lock();
        let mut state = state.unwrap_or_else(|poisoned| poisoned.into_inner());
        state.is_over = true;
        for way in state.ways.drain(..) {
            // They fail only if the other side has hung up.
            let _ = way.client.shutdown(Shutdown::Both);
            let _ = way.server.shutdown(Shutdown::Both);
        }
        drop(state);
        // Wakes the thread that accepts; if it is gone, the better.
        let _ = TcpStream::connect(self.addr);
    }
}

impl Road {
    /// Takes a new client in; whether there may be others.
    fn opens(self: &Arc<Road>, client: TcpStream) -> bool {
        let mut state = self.state.lock().unwrap();
        if state.is_over || state.net == Net::Cut {
            return !state.is_over;
        }
        let Ok(server) = TcpStream::connect_timeout(&self.server, PATIENCE) else {
            return true;
        };
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        let number = state.ways.len();
        for (from, to, is_clients) in [(&client, &server, true), (&server, &client, false)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let road = self.clone();
            thread::spawn(move || road.relays(number, from, to, is_clients));
        }
        let is_dead = state.net == Net::Silent;
        state.ways.push(Way {
            client,
            server,
            is_dead,
        });
        true
    }

    /// Passes on the bytes of one side until that side ends, or the way does.
    fn relays(&self, number: usize, mut from: TcpStream, mut to: TcpStream, is_clients: bool) {
        let mut buffer = [0; 4096];
        loop {
            let n = from.read(&mut buffer).unwrap_or(0);
            let mut state = self.state.lock().unwrap();
            let is_dead = state.ways.get(number).is_none_or(|way| way.is_dead);
            if n == 0 {
                if !is_dead {
                    // It fails only if the other side has hung up too.
                    let _ = to.shutdown(Shutdown::Both);
                }
                return;
            }
            if is_dead {
                continue;
            }
            if to.write_all(&buffer[..n]).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            if is_clients {
                state.lines += buffer[..n].iter().filter(|byte| **byte == b'\n').count();
                self.passed.notify_all();
            }
        }
    }
}
