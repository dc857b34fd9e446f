//! A file as memory: what is written there is the kernel's at once, without a system call, and stays when this process
//! is killed. Not here: what the bytes mean. Invariant: no byte outside of the map is touched, whatever the caller says,
//! and nothing is mapped that the file does not have.
//!
//! A write to a page for which the filesystem has no room ends the process with SIGBUS, as it does when somebody else
//! truncates the file. Hence [`allocate`] goes before [`Map::new`].

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use super::check;

/// The first bytes of a file, as memory that may be written; see mmap(2).
#[derive(Debug)]
pub struct Map {
    start: NonNull<u8>,
    len: usize,
}

impl Map {
    /// Maps the first `len` bytes of a file that is open for reading and writing, with every page in place already. The
    /// file may be closed afterwards.
    ///
    /// # Errors
    /// The file is shorter than that; or as mmap(2) says.
    pub fn new(file: &File, len: usize) -> io::Result<Map> {
        if file.metadata()?.len() < len as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        // SAFETY: the kernel chooses where, so that no memory of ours is replaced.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at 0 by itself");
        Ok(Map { start, len })
    }

    /// Copies bytes to an offset of the map.
    ///
    /// # Panics
    /// They do not fit there.
    pub fn copy_in(&mut self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at);
        // SAFETY: so many bytes of the map begin there. No reference to the map is ever made, so `bytes` is elsewhere.
        unsafe {
            let to = self.start.as_ptr().add(at);
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// Writes a number at an offset, in the processor's order of bytes. Whoever finds it there finds all that was copied
    /// in before, too.
    ///
    /// # Panics
    /// The offset is not a multiple of 8, or too near to the end.
    pub fn publish(&mut self, at: usize, number: u64) {
        self.number(at).store(number, Ordering::Release);
    }

    /// The number at an offset that [`Map::publish`] has written.
    ///
    /// # Panics
    /// As there.
    pub fn published(&self, at: usize) -> u64 {
        self.number(at).load(Ordering::Acquire)
    }

    fn number(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at < self.len && 8 <= self.len - at);
        // SAFETY: a map begins at a page, so this is aligned; eight bytes of the map begin here, and the map lives as
        // long as the reference. `copy_in` needs the map for itself, so nothing else writes meanwhile.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(at).cast()) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the whole of a map that is ours. No reference to it outlives this value.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Gives a file `len` bytes, zeros behind what it has, and room for all of them on the disk; see fallocate(2). Where the
/// filesystem does not know that call the zeros are written, so the file must not have holes.
///
/// # Errors
/// There is no room, or as write(2) says. The file may be longer then than it was.
pub fn allocate(file: &File, len: usize) -> io::Result<()> {
    let size = libc::off_t::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
    loop {
        // SAFETY: four integers.
        let Err(error) = check(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, size) }) else {
            return Ok(());
        };
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => return write_zeros(file, len as u64),
            _ => return Err(error),
        }
    }
}

fn write_zeros(file: &File, len: u64) -> io::Result<()> {
    let zeros = [0; 16 * 1024];
    let mut at = file.metadata()?.len();
    while at < len {
        let some = (len - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..some as usize], at)?;
        at += some;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::MetadataExt;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::PathBuf;

    /// A file of this test's own, without a name.
    fn file(name: &str) -> File {
        let path: PathBuf = std::env::temp_dir().join(format!("map-{name}-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(&path);
        fs::remove_file(&path).unwrap();
        file.unwrap()
    }

    #[test]
    fn what_is_copied_in_is_in_the_file_at_once_and_after_the_map() {
        let file = file("copied");
        allocate(&file, 10_000).unwrap();
        let mut map = Map::new(&file, 10_000).unwrap();
        map.copy_in(9_995, b"ended");
        map.copy_in(0, b"began");
        map.copy_in(10_000, b"");
        map.publish(4_096, 0x0102_0304_0506_0708);
        assert_eq!(map.published(4_096), 0x0102_0304_0506_0708);
        let mut expected = vec![0; 10_000];
        expected[..5].copy_from_slice(b"began");
        expected[9_995..].copy_from_slice(b"ended");
        expected[4_096..4_104].copy_from_slice(&0x0102_0304_0506_0708_u64.to_ne_bytes());
        for _ in 0..2 {
            let mut bytes = vec![0; 10_000];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert!(bytes == expected);
        }
        drop(map);
        let again = Map::new(&file, 10_000).unwrap();
        assert_eq!(again.published(4_096), 0x0102_0304_0506_0708);
    }

    #[test]
    fn nothing_outside_of_a_map_is_touched() {
        let file = file("outside");
        allocate(&file, 4_096).unwrap();
        let mut map = Map::new(&file, 100).unwrap();
        for (at, len) in [(100, 1), (99, 2), (101, 0), (usize::MAX, 2), (0, 101)] {
            let bytes = vec![1; len];
            let copied = catch_unwind(AssertUnwindSafe(|| map.copy_in(at, &bytes)));
            assert!(copied.is_err(), "{len} bytes at {at}");
        }
        for at in [4, 96, 104, usize::MAX - 7] {
            let published = catch_unwind(AssertUnwindSafe(|| map.publish(at, 1)));
            assert!(published.is_err(), "a number at {at}");
        }
        map.publish(88, 1);
    }

    #[test]
    fn a_file_that_is_too_short_or_not_to_be_written_is_not_mapped() {
        let file = file("short");
        allocate(&file, 4_096).unwrap();
        let error = Map::new(&file, 4_097).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let read_only = File::open(path).unwrap();
        let error = Map::new(&read_only, 4_096).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    fn an_allocated_file_has_its_length_its_room_and_its_old_bytes() {
        let ways: [fn(&File) -> io::Result<()>; 2] = [
            |file| allocate(file, 100_000),
            |file| write_zeros(file, 100_000),
        ];
        for (way, give) in ways.into_iter().enumerate() {
            let file = file(&format!("allocated-{way}"));
            file.write_all_at(b"old", 0).unwrap();
            give(&file).unwrap();
            let about = file.metadata().unwrap();
            assert_eq!(about.len(), 100_000, "way {way}");
            assert!(about.blocks() * 512 >= 100_000, "way {way}");
            let mut bytes = vec![1; 100_000];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(&bytes[..3], b"old");
            assert!(bytes[3..].iter().all(|&byte| byte == 0));
        }
    }
}
