//! The processes that descend from this one, and their end. They are found by the parents that /proc names; without
//! /proc, children alone are found, and what those leave behind becomes a child in turn. Invariant: a signal goes to
//! descendants only.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

use dflockd::command::{SECOND, Us};
use dflockd::sys::process::{self, Fork, Pid};

/// How often a dying tree is looked at: the first pause, and the longest. A process of another user may die late.
pub const LOOKS: (Us, Us) = (SECOND / 500, SECOND / 10);

/// So many listed processes are enough before they are signalled: they may start others meanwhile.
const LISTED_MAX: usize = 1000;

/// What became of a signal to a tree.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Reached {
    /// Processes found, zombies included.
    pub found: usize,
    /// Processes of other users, which could not be signalled.
    pub denied: usize,
}

/// Sends the signals, in this order, to each descendant of this process, but not to `others` and their descendants.
pub fn signal(signals: &[i32], others: &[Pid]) -> Reached {
    let (mut reached, mut had) = (Reached::default(), HashSet::new());
    let mut send = |pids: Vec<Pid>| {
        for pid in pids {
            // The process may have ended meanwhile.
            let is_denied = |e: io::Error| e.raw_os_error() == Some(libc::EPERM);
            let mut signals = signals.iter();
            if had.insert(pid) {
                reached.found += 1;
                let denied = signals.any(|&it| process::kill(pid, it).is_err_and(is_denied));
                reached.denied += usize::from(denied);
            }
        }
        reached
    };
    // The listed ones are found at once, and all of them by a look at every process of the host.
    send(listed(others));
    match send(descendants(others)) {
        // If /proc shows none of the children that there are, it hides them.
        Reached { found: 0, .. } => send(by_number(others)),
        reached => reached,
    }
}

/// The descendants that the kernel lists with their parents, parents first. The list may lack some whose brothers end
/// meanwhile, and not every kernel has it; see proc_pid_task(5) on `children`.
fn listed(others: &[Pid]) -> Vec<Pid> {
    if !is_ours() {
        return Vec::new();
    }
    let mut found = vec![process::own_pid()];
    let mut at = 0;
    while let Some(&parent) = found.get(at).filter(|_| found.len() < LISTED_MAX) {
        at += 1;
        let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children = children.split(' ').filter_map(|pid| pid.parse().ok());
            found.extend(children.filter(|pid| !others.contains(pid)));
        }
    }
    found.split_off(1)
}

/// The descendants of this process without `others` and theirs, parents before their children: a shell that got a signal
/// after its child would report the child's death.
pub fn descendants(others: &[Pid]) -> Vec<Pid> {
    let own = process::own_pid();
    let Some(parents) = parents() else {
        return by_number(others);
    };
    let depth = |pid: Pid| {
        let mut at = pid;
        // A line of parents is no longer than the list, even if it changed while it was read.
        for depth in 0..parents.len() {
            match parents.get(&at) {
                _ if others.contains(&at) => return None,
                Some(&parent) if parent == own => return Some(depth),
                Some(&parent) => at = parent,
                None => return None,
            }
        }
        None
    };
    let pids = parents.keys().copied();
    let mut found: Vec<(usize, Pid)> = pids.filter_map(|pid| Some((depth(pid)?, pid))).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, pid)| pid).collect()
}

/// Whether /proc shows the processes by the numbers that they have here. It may be that of another namespace, or
/// something else.
fn is_ours() -> bool {
    let own = process::own_pid().to_string();
    fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == own.as_str())
}

/// The parent of each process, or None without a /proc of ours.
fn parents() -> Option<HashMap<Pid, Pid>> {
    if !is_ours() {
        return None;
    }
    let mut parents = HashMap::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended meanwhile.
        let stat = fs::read(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = parent(&stat) {
            parents.insert(pid, parent);
        }
    }
    Some(parents)
}

/// The parent of a process, by its line of proc_pid_stat(5).
fn parent(stat: &[u8]) -> Option<Pid> {
    // The name in parentheses may have any bytes. Behind it come the state and the parent.
    let end = stat.windows(2).rposition(|two| two == b") ")?;
    let fields = std::str::from_utf8(&stat[end + 2..]).ok()?;
    fields.split(' ').nth(1)?.parse().ok()
}

/// The children of this process, without /proc: the kernel is asked about each number that a child of it can have. The
/// kernel gives numbers in order, so that they lie between its own and the newest.
fn by_number(others: &[Pid]) -> Vec<Pid> {
    if !process::has_children() {
        return Vec::new();
    }
    let own = process::own_pid();
    let newest = match process::fork() {
        Ok(Fork::Parent(pid)) => pid,
        Ok(Fork::Child) => process::exit_copy(0),
        // No number is left: all of them are in question.
        Err(_) => PIDS.1,
    };
    let numbers: Vec<Pid> = match newest > own {
        true => (own + 1..=newest).collect(),
        // The numbers have begun anew.
        false => (own + 1..=PIDS.1).chain(PIDS.0..=newest).collect(),
    };
    let is_ours = |pid: &Pid| *pid != newest && !others.contains(pid) && process::is_child(*pid);
    numbers.into_iter().filter(is_ours).collect()
}

/// The least and the greatest number that a process can have; see proc_sys_kernel(5) on pid_max.
const PIDS: (Pid, Pid) = (2, 1 << 22);

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn a_parent_is_found_behind_any_name() {
        let names: [&[u8]; 6] = [
            b"sleep",
            b"",
            b"a ) Z 1 1",
            b") Z 1 871 (",
            b"(\n) X 1 2",
            b"tagesabschlus\xc3",
        ];
        for name in names {
            let stat = [b"888 (", name, b") S 887 871 3403 0 -1\n"].concat();
            assert_eq!(parent(&stat), Some(887), "{name:?}");
        }
        for cut in [&b""[..], b"888 (sleep", b"888 (sleep) S", b"888 (sleep) S "] {
            assert_eq!(parent(cut), None);
        }
    }

    #[test]
    fn descendants_are_found_and_others_are_left_out() {
        let script = "sleep 60 & echo $!; wait";
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .stdout(std::process::Stdio::piped());
        let mut shell = command.spawn().unwrap();
        let mut other = sleeper();
        let mut line = String::new();
        let stdout = shell.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        let inner: Pid = line.trim().parse().unwrap();
        let (shell_pid, other_pid) = (shell.id() as Pid, other.id() as Pid);
        let found = descendants(&[other_pid]);
        let place = |of: Pid| found.iter().position(|&pid| pid == of);
        assert!(place(shell_pid).expect("it is there") < place(inner).expect("it is too"));
        assert!(!found.contains(&other_pid) && !found.contains(&process::own_pid()));
        let some = listed(&[other_pid]);
        assert!(some.iter().all(|pid| found.contains(pid)) && !some.contains(&other_pid));
        assert!(descendants(&[shell_pid]).contains(&other_pid));
        assert!(!descendants(&[shell_pid]).contains(&inner));
        process::kill(inner, libc::SIGKILL).unwrap();
        for child in [&mut shell, &mut other] {
            // The shell may have ended with its own child.
            let _ = child.kill();
            child.wait().unwrap();
        }
    }
}
