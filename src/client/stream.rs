//! The way to a server: a name to its addresses, an address to a connection, and what is left of the time for it. It
//! says nothing on the connection. Invariant: all addresses together take no longer than they were given, the lookup
//! aside.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::command::Us;
use crate::sys;

/// Every address of `HOST:PORT`. A name is looked up, and how long that takes is up to the system.
///
/// # Errors
/// The name is unknown, or it is no `HOST:PORT`.
pub fn resolve(server: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(server.to_socket_addrs()?.collect())
}

/// Connects to the first address of `HOST:PORT` that answers before `until`. Each gets an equal part of the time that
/// the ones before it left.
///
/// # Errors
/// Those of [`resolve`], [`ErrorKind::NotFound`] if it has no address, [`ErrorKind::TimedOut`], or why the last address
/// could not be reached.
pub fn dial(server: &str, until: Us) -> io::Result<TcpStream> {
    let addrs = resolve(server)?;
    let mut last = ErrorKind::NotFound.into();
    for (done, addr) in addrs.iter().enumerate() {
        let part = left(until)? / (addrs.len() - done) as u32;
        match TcpStream::connect_timeout(addr, part.max(Duration::from_micros(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The time that is left until an instant, never zero.
///
/// # Errors
/// [`ErrorKind::TimedOut`] if there is none.
pub fn left(until: Us) -> io::Result<Duration> {
    match until.saturating_sub(sys::now()) {
        0 => Err(ErrorKind::TimedOut.into()),
        left => Ok(Duration::from_micros(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::SECOND;
    use std::net::TcpListener;

    #[test]
    fn a_server_is_reached_at_the_address_that_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Where localhost is ::1 first, nobody answers there.
        let name = format!("localhost:{}", listener.local_addr().unwrap().port());
        let stream = dial(&name, sys::now() + 10 * SECOND).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[test]
    fn nobody_is_dialled_when_the_time_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let kind = |until| dial(&addr, until).unwrap_err().kind();
        assert_eq!(kind(sys::now()), ErrorKind::TimedOut);
        assert_eq!(
            resolve("no-port").unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
}
