//! A command that says which signals it gets. Invariant: a signal is one line, written by its handler, and one that was
//! ignored at the start stays so.

#![allow(unsafe_code, reason = "a handler of signal(2) is not in std")]

use std::env;
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::PATIENCE;

const NAMES: [(i32, &str); 6] = [
    (libc::SIGHUP, "HUP\n"),
    (libc::SIGINT, "INT\n"),
    (libc::SIGQUIT, "QUIT\n"),
    (libc::SIGTERM, "TERM\n"),
    (libc::SIGUSR1, "USR1\n"),
    (libc::SIGUSR2, "USR2\n"),
];
/// Several times as long as dflock takes to hand a signal on.
const AFTER_THE_FIRST: Duration = Duration::from_millis(500);
/// The status of the command.
pub const STATUS: u8 = 7;

static FILE: AtomicI32 = AtomicI32::new(-1);
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// No claim, but the command.
#[test]
fn report() {
    let Ok(path) = env::var("REPORTS") else {
        return;
    };
    let mut file = fs::File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    FILE.store(file.as_raw_fd(), Ordering::SeqCst);
    for (number, _) in NAMES {
        // SAFETY: the handler calls write(2) and nothing else.
        unsafe {
            if libc::signal(number, heard as *const () as usize) == libc::SIG_IGN {
                libc::signal(number, libc::SIG_IGN);
            }
        }
    }
    file.write_all(format!("{}\n", process::id()).as_bytes())
        .unwrap();
    let mut end = Instant::now() + PATIENCE;
    let mut is_first = true;
    while Instant::now() < end {
        if is_first && COUNT.load(Ordering::SeqCst) > 0 {
            is_first = false;
            end = Instant::now() + AFTER_THE_FIRST;
        }
        // A signal may come in any thread, and so end no sleep of this one.
        thread::sleep(Duration::from_millis(5));
    }
    process::exit(i32::from(STATUS));
}

extern "C" fn heard(number: i32) {
    for (known, name) in NAMES {
        if known == number {
            // SAFETY: the bytes are static, and the file is open as long as the process lives.
            unsafe {
                libc::write(
                    FILE.load(Ordering::SeqCst),
                    name.as_ptr().cast(),
                    name.len(),
                )
            };
        }
    }
    COUNT.fetch_add(1, Ordering::SeqCst);
}
