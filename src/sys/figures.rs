//! What the kernel says of this process, for the metrics: its memory and its open files. Each costs a system call or
//! three. Invariant: where /proc is not there, nothing is said.

use std::fs;

/// The memory of this process that is not swapped out, in bytes; see proc_pid_statm(5).
pub fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: a constant, and no memory.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

/// How many files this process has open, if the kernel tells without a list of them: as the size of the folder, since
/// Linux 6.2.
pub fn open_files() -> Option<u64> {
    let folder = fs::metadata("/proc/self/fd").ok()?;
    Some(folder.len()).filter(|&count| count > 0)
}

/// The same by a list, which takes longer the more there are.
pub fn listed_files() -> Option<u64> {
    // The list itself is open meanwhile.
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(count.saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_process_uses_memory_and_each_open_file_counts() {
        assert!(memory().unwrap() > 100_000);
        let files: Vec<File> = (0..500).map(|_| File::open("/dev/null").unwrap()).collect();
        // Other tests run at the same time.
        let listed = listed_files().unwrap();
        assert!(listed >= 503);
        if let Some(told) = open_files() {
            assert!(told >= 503 && told.abs_diff(listed) < 400);
        }
        drop(files);
    }
}
