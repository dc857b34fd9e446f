//! A socket between two related processes, for dflock(1) and its guard: a message arrives whole or not at all, and may
//! bring an open file along. Not here: what the messages mean. Invariant: nothing here waits.
#![allow(unsafe_code, reason = "system calls")]

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::c_int;

use super::check;

/// The room for one descriptor beside a message; see cmsg(3). Longs, because its header needs their alignment.
type Beside = [libc::c_long; 8];

/// One end of a pair; see unix(7) on SOCK_SEQPACKET.
pub struct Channel(OwnedFd);

/// Both ends, neither of which a command inherits.
pub fn pair() -> io::Result<(Channel, Channel)> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: the kernel writes two descriptors, which nobody else owns.
    unsafe {
        check(libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()))?;
        let end = |fd| Channel(OwnedFd::from_raw_fd(fd));
        Ok((end(ends[0]), end(ends[1])))
    }
}

impl Channel {
    /// Sends a message and perhaps an open file, which the receiver then shares; see cmsg(3).
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if too much is not received yet, [`io::ErrorKind::BrokenPipe`] if the other end is
    /// closed.
    pub fn send(&self, message: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut beside: Beside = [0; 8];
        let mut part = libc::iovec {
            iov_base: message.as_ptr().cast_mut().cast(),
            iov_len: message.len(),
        };
        // SAFETY: the header points to values that live through the call; the control message is within its room.
        let sent = unsafe {
            let mut header: libc::msghdr = zeroed();
            (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
            if let Some(file) = file {
                let length = size_of::<c_int>() as u32;
                header.msg_control = (&raw mut beside).cast();
                header.msg_controllen = libc::CMSG_SPACE(length) as _;
                let first = libc::CMSG_FIRSTHDR(&raw const header);
                (*first).cmsg_level = libc::SOL_SOCKET;
                (*first).cmsg_type = libc::SCM_RIGHTS;
                (*first).cmsg_len = libc::CMSG_LEN(length) as _;
                ptr::write_unaligned(libc::CMSG_DATA(first).cast(), file.as_raw_fd());
            }
            libc::sendmsg(self.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL)
        };
        check(sent as c_int).map(drop)
    }

    /// Takes the next message into `message`: its length, and the file that came along. A length of 0 is the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none.
    pub fn receive(&self, message: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
        let mut beside: Beside = [0; 8];
        let mut part = libc::iovec {
            iov_base: message.as_mut_ptr().cast(),
            iov_len: message.len(),
        };
        // SAFETY: the header points to values that live through the call; the kernel says how much of them it filled,
        // and a descriptor that it has made belongs to nobody else.
        unsafe {
            let mut header: libc::msghdr = zeroed();
            (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
            header.msg_control = (&raw mut beside).cast();
            header.msg_controllen = size_of::<Beside>() as _;
            let flags = libc::MSG_CMSG_CLOEXEC;
            let n = libc::recvmsg(self.as_raw_fd(), &raw mut header, flags);
            check(n as c_int)?;
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            let has_file = !first.is_null() && (*first).cmsg_type == libc::SCM_RIGHTS;
            let file = has_file.then(|| {
                let fd: RawFd = ptr::read_unaligned(libc::CMSG_DATA(first).cast());
                OwnedFd::from_raw_fd(fd)
            });
            Ok((n as usize, file))
        }
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{ErrorKind, Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn messages_stay_apart_and_bring_a_file_along() {
        let (one, other) = pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        one.send(b"first", None).unwrap();
        one.send(b"second", Some(writer.as_fd())).unwrap();
        drop(writer);
        let mut message = [0; 16];
        assert_eq!(other.receive(&mut message).unwrap().0, 5);
        let (n, file) = other.receive(&mut message).unwrap();
        assert_eq!(&message[..n], b"second");
        File::from(file.unwrap()).write_all(b"x").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn nothing_waits_and_the_end_is_told() {
        let (one, other) = pair().unwrap();
        let mut message = [0; 16];
        let nothing = other.receive(&mut message).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        drop(one);
        assert_eq!(other.receive(&mut message).unwrap().0, 0);
        let broken = other.send(b"x", None).unwrap_err();
        assert_eq!(broken.kind(), ErrorKind::BrokenPipe);
    }
}
