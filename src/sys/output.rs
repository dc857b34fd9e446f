//! A file that lines are written to and that nobody may wait for: standard error, whatever is behind it. Not here: what
//! becomes of a line that finds no room. Invariant: no write waits for a reader, and the flags that other processes see
//! of the file stay as they are.
#![allow(unsafe_code, reason = "system calls")]

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use super::has_room;

/// The file, and how it is written to without waiting.
pub struct Output {
    file: File,
    kind: Kind,
}

/// What is behind the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A socket, as systemd gives: each send(2) can be told not to wait.
    Socket,
    /// A file on a disk, which has no reader to wait for; see open(2) on O_NONBLOCK.
    Regular,
    /// A pipe, a terminal or a device, opened anew: O_NONBLOCK is then this description's alone.
    Own,
    /// One that cannot be opened anew, because there is no /proc or it belongs to another user. It is asked for room
    /// before each write. A pipe that says yes has room for 4,096 bytes (pipe(7)), a terminal for one.
    Shared {
        /// How much room there is when it says that there is some.
        room: usize,
    },
}

/// The room of a pipe that has any, and so the longest line that [`Output`] writes at once; see PIPE_BUF in pipe(7).
pub const ROOM: usize = 4096;

/// Whether standard error is read by the journal of systemd: `JOURNAL_STREAM` names its device and inode then
/// (systemd.exec(5)). A stream that was put in its place is another one.
pub fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let copy = io::stderr().as_fd().try_clone_to_owned();
    let data = copy.and_then(|copy| File::from(copy).metadata());
    data.is_ok_and(|data| stream == format!("{}:{}", data.dev(), data.ino()))
}

impl Output {
    /// Standard error. None if the process has no descriptor left.
    pub fn stderr() -> Option<Output> {
        let copy = io::stderr().as_fd().try_clone_to_owned();
        copy.ok().map(Output::new)
    }

    /// Whatever is behind this descriptor.
    pub fn new(fd: OwnedFd) -> Output {
        let file = File::from(fd);
        let is = |test: fn(&std::fs::FileType) -> bool| {
            file.metadata().is_ok_and(|data| test(&data.file_type()))
        };
        if is(FileTypeExt::is_socket) {
            let kind = Kind::Socket;
            return Output { file, kind };
        }
        // To open a file on a disk anew would give it a place of its own in the file, and whoever shares this one would
        // write over the log.
        if is(std::fs::FileType::is_file) {
            let kind = Kind::Regular;
            return Output { file, kind };
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut options = OpenOptions::new();
        options.write(true);
        options.custom_flags(libc::O_NONBLOCK | libc::O_APPEND | libc::O_NOCTTY);
        match options.open(path) {
            Ok(own) => Output {
                file: own,
                kind: Kind::Own,
            },
            Err(_) => Output::shared(file),
        }
    }

    fn shared(file: File) -> Output {
        let room = if file.is_terminal() { 1 } else { ROOM };
        let kind = Kind::Shared { room };
        Output { file, kind }
    }

    /// Writes what there is room for, up to [`ROOM`] bytes, and returns how much that was.
    ///
    /// # Errors
    /// There is no room (`WouldBlock`), or the file takes nothing any more.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let written = match self.kind {
                Kind::Socket => self.send(bytes),
                Kind::Regular | Kind::Own => (&self.file).write(bytes),
                Kind::Shared { room } => self.write_asking(bytes, room),
            };
            match written {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the kernel reads so many bytes, which are there.
        let sent = unsafe {
            libc::send(
                self.file.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                flags,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn write_asking(&self, bytes: &[u8], room: usize) -> io::Result<usize> {
        let mut written = 0;
        for piece in bytes[..bytes.len().min(ROOM)].chunks(room) {
            if !has_room(&self.file) {
                break;
            }
            match (&self.file).write(piece) {
                Ok(n) => written += n,
                Err(e) if written == 0 => return Err(e),
                Err(_) => break,
            }
        }
        match written {
            0 => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(written),
        }
    }
}

/// Lets this process write to its terminal from the background, where another program's `stty tostop` would stop it; see
/// SIGTTOU in signal(7).
pub fn write_from_background() {
    // SAFETY: two constants. It cannot fail for a signal that exists.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
}

/// A socket that takes long lines only in parts, and the other end. For tests of what becomes of the rest.
#[cfg(test)]
pub fn narrow() -> (Output, std::os::unix::net::UnixStream) {
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    super::set_option(&writer, libc::SOL_SOCKET, libc::SO_SNDBUF, 1).unwrap();
    (Output::new(writer.into()), reader)
}

/// A pipe that cannot be opened anew. For tests.
#[cfg(test)]
pub fn foreign_pipe() -> (Output, io::PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    (Output::shared(OwnedFd::from(writer).into()), reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::FromRawFd;
    use std::os::unix::net::UnixStream;
    use std::ptr;

    /// Both ends of a terminal: its user's, and the one for programs.
    fn terminal() -> (File, File) {
        let (mut user, mut program) = (0, 0);
        // SAFETY: the call fills in two descriptors, which nobody else owns.
        unsafe {
            let none = ptr::null_mut();
            let failed = libc::openpty(
                &raw mut user,
                &raw mut program,
                none,
                ptr::null(),
                ptr::null(),
            );
            assert_eq!(failed, 0);
            (File::from_raw_fd(user), File::from_raw_fd(program))
        }
    }

    /// Stops the output of a terminal as ^S does, or lets it go on.
    fn flow(program: &File, action: libc::c_int) {
        // SAFETY: two integers.
        assert_eq!(unsafe { libc::tcflow(program.as_raw_fd(), action) }, 0);
    }

    #[test]
    fn a_terminal_that_was_stopped_takes_nothing_until_it_goes_on() {
        let (mut user, program) = terminal();
        let own = Output::new(program.try_clone().unwrap().into());
        assert_eq!(own.kind, Kind::Own);
        let shared = Output::shared(program.try_clone().unwrap());
        assert_eq!(shared.kind, Kind::Shared { room: 1 });
        for output in [own, shared] {
            let mut heard = [0; 5];
            assert_eq!(output.write(b"one\n").unwrap(), 4);
            user.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"one\r\n");
            flow(&program, libc::TCOOFF);
            let error = output.write(b"two\n").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            flow(&program, libc::TCOON);
            assert_eq!(output.write(b"six\n").unwrap(), 4);
            user.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"six\r\n");
        }
    }

    #[test]
    fn a_terminal_whose_program_is_not_read_takes_some_and_then_nothing() {
        for is_own in [true, false] {
            let (_user, program) = terminal();
            let output = match is_own {
                true => Output::new(program.into()),
                false => Output::shared(program),
            };
            assert!(fill(&output, &[b'x'; 1000]) > 0);
        }
    }

    /// Writes until there is no room, and returns what was written.
    fn fill(output: &Output, line: &[u8]) -> usize {
        let mut written = 0;
        loop {
            match output.write(line) {
                Ok(n) => written += n,
                Err(e) => break assert_eq!(e.kind(), ErrorKind::WouldBlock),
            }
            assert!(written < 1 << 26, "there is an end to what it takes");
        }
        written
    }

    #[test]
    fn a_pipe_that_nobody_reads_takes_whole_lines_and_then_nothing() {
        let line = [&[b'x'; ROOM - 1][..], b"\n"].concat();
        let (mut reader, writer) = io::pipe().unwrap();
        let output = Output::new(OwnedFd::from(writer.try_clone().unwrap()));
        assert_eq!(output.kind, Kind::Own);
        let shared = Output::shared(File::from(OwnedFd::from(writer)));
        assert_eq!(shared.kind, Kind::Shared { room: ROOM });
        for output in [output, shared] {
            for len in [ROOM, ROOM - 1, 1000, 7] {
                let line = &line[ROOM - len..];
                let written = fill(&output, line);
                assert!(
                    written > 0 && written.is_multiple_of(len),
                    "only whole ones"
                );
                reader.read_exact(&mut vec![0; written]).unwrap();
            }
        }
    }

    #[test]
    fn the_flags_that_others_see_stay_as_they_are() {
        let (reader, mut writer) = io::pipe().unwrap();
        let output = Output::new(OwnedFd::from(writer.try_clone().unwrap()));
        fill(&output, &[b'x'; ROOM]);
        // This one still waits for the reader.
        let writer = std::thread::spawn(move || writer.write_all(b"late"));
        let mut all = Vec::new();
        drop(output);
        let mut reader = reader;
        reader.read_to_end(&mut all).unwrap();
        assert!(writer.join().unwrap().is_ok() && all.ends_with(b"late"));
    }

    #[test]
    fn a_socket_that_nobody_reads_takes_some_and_then_nothing() {
        let (_reader, writer) = UnixStream::pair().unwrap();
        let output = Output::new(writer.into());
        assert_eq!(output.kind, Kind::Socket);
        assert!(fill(&output, &[b'x'; ROOM]) > 0);
        let (reader, writer) = UnixStream::pair().unwrap();
        drop(reader);
        let error = Output::new(writer.into()).write(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_file_on_a_disk_is_written_where_its_others_go_on() {
        let path = std::env::temp_dir().join(format!("dflockd-output-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        let output = Output::new(file.try_clone().unwrap().into());
        assert_eq!(output.kind, Kind::Regular);
        file.write_all(b"one\n").unwrap();
        assert_eq!(output.write(b"two\n").unwrap(), 4);
        file.write_all(b"three\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\nthree\n");
        std::fs::remove_file(path).unwrap();
    }
}
