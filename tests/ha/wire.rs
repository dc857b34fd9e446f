//! The way from one daemon to the members of etcd, which can be cut, lose what goes in one direction, or take its time.
//! Invariant: once open again, each new connection is as good as ever.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// The state of a way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Net {
    Open,
    /// Connections end, and none begins.
    Cut,
    /// What the daemon asks is lost.
    LosesRequests,
    /// What etcd answers is lost, although it was done.
    LosesAnswers,
    /// Everything arrives, this many milliseconds late: a request may be carried out when nobody waits for it any more.
    Late(u64),
}

pub struct Wire {
    net: Arc<AtomicU64>,
    addrs: Vec<SocketAddr>,
}

impl Wire {
    pub fn to(members: &[SocketAddr]) -> Wire {
        let net = Arc::new(AtomicU64::new(Net::Open.code()));
        let addrs = members.iter().map(|&member| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let net = net.clone();
            // It ends with the test program.
            thread::spawn(move || {
                for daemon in listener.incoming().map_while(Result::ok) {
                    open(daemon, member, &net);
                }
            });
            addr
        });
        Wire {
            addrs: addrs.collect(),
            net,
        }
    }

    pub fn urls(&self) -> String {
        let urls = self.addrs.iter().map(|addr| format!("http://{addr}"));
        urls.collect::<Vec<_>>().join(",")
    }

    pub fn set(&self, net: Net) {
        self.net.store(net.code(), Ordering::SeqCst);
    }
}

impl Net {
    fn code(self) -> u64 {
        match self {
            Net::Open => 0,
            Net::Cut => 1,
            Net::LosesRequests => 2,
            Net::LosesAnswers => 3,
            Net::Late(ms) => 4 + ms,
        }
    }
}

fn open(daemon: TcpStream, member: SocketAddr, net: &Arc<AtomicU64>) {
    let second = Duration::from_secs(1);
    let is_cut = net.load(Ordering::SeqCst) == Net::Cut.code();
    let Some(member) = TcpStream::connect_timeout(&member, second)
        .ok()
        .filter(|_| !is_cut)
    else {
        return;
    };
    let tick = Some(Duration::from_millis(20));
    for stream in [&daemon, &member] {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(tick).unwrap();
    }
    let ways = [
        (&daemon, &member, Net::LosesRequests),
        (&member, &daemon, Net::LosesAnswers),
    ];
    for (from, to, loses) in ways {
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let net = net.clone();
        thread::spawn(move || relay(from, to, loses.code(), &net));
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, loses: u64, net: &AtomicU64) {
    let mut buffer = [0; 65_536];
    loop {
        let read = match from.read(&mut buffer) {
            Err(e) if is_tick(&e) => None,
            read => Some(read.unwrap_or(0)),
        };
        let now = net.load(Ordering::SeqCst);
        if read == Some(0) || now == Net::Cut.code() {
            // They fail only if the other side has hung up.
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        let Some(read) = read.filter(|_| now != loses) else {
            continue;
        };
        if let Some(ms) = now.checked_sub(Net::Late(0).code()) {
            // To be late is what this way is for.
            thread::sleep(Duration::from_millis(ms));
        }
        if to.write_all(&buffer[..read]).is_err() {
            let _ = from.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn is_tick(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
