//! The CPU time and the memory of a server process, from /proc, if it runs on this host and `--server-pid` names it.
//! The server is not asked. Invariant: a figure that cannot be read is None, never zero.

use std::fs;

use dflockd::command::Us;

/// The CPU time of all its threads, from the scheduler's own accounts: see proc(5) and the kernel's sched-stats.
pub fn cpu_time(pid: u32) -> Option<Us> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        let ran_ns: u64 = text.split(' ').next()?.parse().ok()?;
        total += ran_ns / 1000;
    }
    Some(total)
}

/// Its anonymous memory in bytes.
pub fn memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
