//! Sockets that a service manager opened before this process began and hands over to it; see sd_listen_fds(3). Not here:
//! what they are for. Invariant: only what is a listening TCP socket is taken, each once, and it closes on exec.
#![allow(unsafe_code, reason = "system calls, and descriptors by number")]

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{check, option};

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;
/// More sockets than a server of three faces has use for.
const MAX: RawFd = 64;

/// A socket that was handed over.
#[derive(Debug)]
pub struct Inherited {
    /// Its `FileDescriptorName=`; empty if it has none.
    pub name: String,
    /// It listens.
    pub listener: TcpListener,
    /// Its address.
    pub addr: SocketAddr,
}

/// Takes the sockets that are meant for this process. `get` reads the environment. To be called once.
///
/// # Errors
/// A variable is malformed, or a descriptor is no listening TCP socket: the message says which.
pub fn inherited(get: impl Fn(&str) -> Option<OsString>) -> io::Result<Vec<Inherited>> {
    let text = |name| get(name).and_then(|value| value.into_string().ok());
    // The variables of another process may be left in the environment.
    if text("LISTEN_PID") != Some(std::process::id().to_string()) {
        return Ok(Vec::new());
    }
    let count = text("LISTEN_FDS").and_then(|count| count.parse().ok());
    let count: RawFd = count
        .filter(|count| (0..=MAX).contains(count))
        .ok_or_else(|| wrong(format!("LISTEN_FDS is not a number of sockets up to {MAX}")))?;
    let names = text("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let all = FIRST..FIRST + count;
    all.map(|fd| take(fd, names.next().unwrap_or_default()))
        .collect()
}

fn take(fd: RawFd, name: &str) -> io::Result<Inherited> {
    let bad = |why: &str| {
        wrong(format!(
            "descriptor {fd} ({name}) of the service manager: {why}"
        ))
    };
    // SAFETY: an integer and a constant; of a descriptor that is not open nothing is changed.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })
        .map_err(|_| bad("it is not open"))?;
    // SAFETY: it is open, and only looked at here.
    let seen = unsafe { BorrowedFd::borrow_raw(fd) };
    let is =
        |name, wanted| option(&seen, libc::SOL_SOCKET, name).is_ok_and(|value| value == wanted);
    let is_tcp = is(libc::SO_PROTOCOL, libc::IPPROTO_TCP) && is(libc::SO_TYPE, libc::SOCK_STREAM);
    if !is_tcp || !is(libc::SO_ACCEPTCONN, 1) {
        return Err(bad("it is no TCP socket that listens"));
    }
    // SAFETY: the manager opened it for this process, which has opened no listening socket yet; it is taken once.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let listener = TcpListener::from(socket);
    let addr = listener.local_addr()?;
    Ok(Inherited {
        name: name.to_string(),
        listener,
        addr,
    })
}

fn wrong(text: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_variables_of_this_process_count_and_they_must_be_right() {
        let own = std::process::id().to_string();
        let taken = |pid: &str, count: &str| {
            inherited(|name| match name {
                "LISTEN_PID" => Some(pid.into()),
                "LISTEN_FDS" => Some(count.into()),
                _ => None,
            })
        };
        assert!(taken("1", "1").unwrap().is_empty());
        assert!(taken(&own, "0").unwrap().is_empty());
        for count in ["", "x", "-1", "65", "99999999999"] {
            let error = taken(&own, count).unwrap_err();
            assert!(error.to_string().starts_with("LISTEN_FDS is"), "{error}");
        }
        assert!(inherited(|_| None).unwrap().is_empty());
    }

    #[test]
    fn what_does_not_listen_is_refused_by_its_number() {
        let (reader, _writer) = io::pipe().unwrap();
        use std::os::fd::AsRawFd;
        let error = take(reader.as_raw_fd(), "line").unwrap_err().to_string();
        assert!(error.ends_with("(line) of the service manager: it is no TCP socket that listens"));
        let error = take(9_999, "").unwrap_err().to_string();
        assert!(error.ends_with("it is not open"), "{error}");
    }
}
