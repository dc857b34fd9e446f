//! The witness: a tiny child of dflock in dflock's process group. Invariant: it reports each signal that reaches the
//! group, and nothing else. A signal to the group reaches the command too; one to dflock alone has to be handed on. Only
//! a process beside dflock can tell the two apart: equal signals merge while they are pending.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::unix::pipe::{self, Receiver, Sender};
use mio::{Events, Interest, Poll, Token};

use dflockd::command::{SECOND, Us};
use dflockd::sys::Signals;
use dflockd::sys::process::{self, Fork, Pid};

/// Its name in ps(1).
const NAME: &CStr = c"lock-witness";
/// How long a signal that dflock has got is held for the witness to report it too.
const HOLD: Us = SECOND / 20;

/// The witness, as dflock sees it, and the signals that are held.
pub struct Witness {
    /// None once it has ended.
    pid: Option<Pid>,
    reports: Receiver,
    /// Signals that dflock has got, and when that was.
    held: Vec<(i32, Us)>,
    /// Signals that the witness has got, and when that was heard of.
    seen: Vec<(i32, Us)>,
}

impl Witness {
    /// Forks the witness for these signals, which are blocked already.
    pub fn start(numbers: &[i32], null: &File) -> io::Result<Witness> {
        let (sender, reports) = pipe::new()?;
        let dflock = process::own_pid();
        match process::fork()? {
            Fork::Parent(pid) => Ok(Witness {
                pid: Some(pid),
                reports,
                held: Vec::new(),
                seen: Vec::new(),
            }),
            Fork::Child => {
                // Without a witness dflock forwards every signal.
                let _ = watch(sender, numbers, null, dflock);
                process::exit_copy(libc::EXIT_FAILURE)
            }
        }
    }

    /// The number of its process.
    pub fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// This child of dflock has ended and was waited for.
    pub fn forget(&mut self, pid: Pid) {
        self.pid = self.pid.filter(|&own| own != pid);
    }

    /// Where its reports arrive.
    pub fn reports(&mut self) -> &mut Receiver {
        &mut self.reports
    }

    /// dflock has got this signal. The same number again within [`HOLD`] counts once: timeout(1) sends one signal to
    /// dflock and one to its group.
    pub fn hold(&mut self, number: i32, now: Us) {
        self.hear(now);
        let is_same = |&(other, _): &(i32, Us)| other == number;
        if !self.seen.iter().any(is_same) && !self.held.iter().any(is_same) {
            self.held.push((number, now));
        }
    }

    /// Reads the reports. A signal that the witness has too was for the group.
    fn hear(&mut self, now: Us) {
        let mut bytes = [0; 64];
        while let Ok(n @ 1..) = self.reports.read(&mut bytes) {
            for number in bytes[..n].iter().map(|&byte| i32::from(byte)) {
                self.held.retain(|&(held, _)| held != number);
                self.seen.push((number, now));
            }
        }
        self.seen.retain(|&(_, at)| now < at.saturating_add(HOLD));
    }

    /// A signal that the command has not had: it was held for long enough.
    pub fn release(&mut self, now: Us) -> Option<i32> {
        self.hear(now);
        let is_due = |&(_, at): &(i32, Us)| now >= at.saturating_add(HOLD);
        let at = self.held.iter().position(is_due)?;
        Some(self.held.remove(at).0)
    }

    /// When the next signal is released.
    pub fn next(&self) -> Us {
        let due = self.held.iter().map(|&(_, at)| at.saturating_add(HOLD));
        due.min().unwrap_or(Us::MAX)
    }
}

/// The witness's whole life. SIGTSTP, SIGTTIN and SIGTTOU stop it together with its group.
fn watch(mut sender: Sender, numbers: &[i32], null: &File, dflock: Pid) -> io::Result<()> {
    process::die_with(dflock)?;
    process::set_name(NAME)?;
    process::replace_standard_streams(null)?;
    process::close_others(&[sender.as_raw_fd()]);
    let signals = Signals::new(numbers)?;
    let mut poll = Poll::new()?;
    let fd = signals.as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)?;
    let mut events = Events::with_capacity(1);
    loop {
        while let Some(number) = signals.take() {
            sender.write_all(&[number as u8])?;
        }
        match poll.poll(&mut events, None) {
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
    }
}
