//! The command while it runs: its start, the signals that dflock hands on, the terminal, its end, and its death in time
//! when the lock is lost. Invariant: the lock is given back only when no process of the command's group runs.

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal};
use std::process::Command;

use dflockd::command::{SECOND, Us};
use dflockd::sys;
use dflockd::sys::process::{self, Change, Pid};

use super::keeper::Keeper;
use super::world::World;
use crate::failure::{CANNOT_RUN, Failure, LOST, NOT_FOUND, report, tell};
use crate::guard::{Guard, outlive};
use crate::options::{OnLost, Options};

const STDIN: i32 = libc::STDIN_FILENO;
/// The time between the command's death and the end of the lease: a twentieth of the lease, within these bounds.
const MARGINS: (Us, Us) = (SECOND / 20, SECOND);
/// Two TERM within this time count as one.
const SAME: Us = SECOND / 10;
/// How often processes that the command has left behind are looked at: the first pause, and the longest.
const LOOKS: (Us, Us) = (SECOND / 500, SECOND / 10);

struct Supervisor<'a> {
    options: &'a Options,
    keeper: Keeper,
    /// None with `--on-lost ignore`.
    guard: Option<Guard>,
    /// The guard that has the former connection. It lives until the hold has moved.
    former: Option<Guard>,
    /// The deadline that the guard was told.
    told: Us,
    group: Pid,
    /// The command's exit status, once it has one, and the signal that ended it, if one did.
    status: Option<u8>,
    killed: Option<i32>,
    /// The command is in the foreground of the terminal, so ^C reaches it alone.
    has_terminal: bool,
    /// The terminal has sent dflock a signal.
    interrupted: bool,
    /// The next pause before processes left behind are looked at again.
    look: Us,
    /// Why the group is being stopped, and when KILL follows TERM.
    stopping: Option<(Reason, Us)>,
    lost: bool,
    /// When the first TERM was handed on.
    termed: Option<Us>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Lost,
    MaxHold,
    /// The command has ended and left others behind.
    LeftBehind,
}

/// Runs the command to its end.
pub fn run(
    world: &mut World,
    options: &Options,
    keeper: Keeper,
    command: &[OsString],
) -> Result<u8, Failure> {
    let guard = match options.on_lost {
        OnLost::Ignore => None,
        // Before the command, which must never run without a guard.
        OnLost::Kill | OnLost::Term => match Guard::start() {
            Ok(guard) => Some(guard),
            Err(e) => {
                keeper.give_back(world)?;
                return Err(e.into());
            }
        },
    };
    let mut supervisor = Supervisor {
        options,
        keeper,
        guard,
        former: None,
        told: 0,
        group: 0,
        status: None,
        killed: None,
        has_terminal: false,
        interrupted: false,
        look: LOOKS.0,
        stopping: None,
        lost: false,
        termed: None,
    };
    // If stdout is a pipe, the terminal belongs to the others of the pipeline too, such as a pager.
    supervisor.has_terminal =
        io::stdout().is_terminal() && process::foreground(STDIN) == Some(process::own_group());
    supervisor.group = match supervisor.start(world, command) {
        Ok(group) => group,
        Err(failure) => return supervisor.give_up(world, failure),
    };
    let result = supervisor
        .tell_guard()
        .and_then(|()| supervisor.watch(world));
    if result.is_err() {
        // Without a guard the command must not run on.
        outlive(supervisor.group, supervisor.keeper.lease.until());
    }
    supervisor.take_terminal_back();
    supervisor.finish(world, result?)
}

impl Supervisor<'_> {
    /// Starts the command in a group of its own. Just before exec the new process tells the guard of itself, so that it
    /// never runs unguarded, and checks that the lock is still held.
    fn start(&self, world: &World, words: &[OsString]) -> Result<Pid, Failure> {
        let has_terminal = self.has_terminal;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        self.keeper.describe(&mut command);
        command.env("DFLOCK_SERVER", self.options.servers.join(","));
        let until = self.kill_at();
        let guard_until = self.guard_until();
        let mut announce = match &self.guard {
            Some(guard) => Some(guard.announcer(self.guard_signal(), guard_until)?),
            None => None,
        };
        let is_ours = move || match sys::now() < until {
            true => Ok(()),
            false => Err(io::Error::from(ErrorKind::TimedOut)),
        };
        let last = move || {
            // Checked before the guard knows of it: the guard would kill it at once, as if the command had run.
            is_ours()?;
            if let Some(announce) = &mut announce {
                announce()?;
            }
            if has_terminal {
                process::set_foreground(STDIN, process::own_pid())?;
            }
            is_ours()
        };
        world.prepare(&mut command, self.guard.is_some(), last);
        command.spawn().map(|child| child.id() as Pid).map_err(|e| {
            if sys::now() >= until {
                return Failure::new(LOST, "the lock was lost before the command could start");
            }
            let status = match e.kind() {
                ErrorKind::NotFound => NOT_FOUND,
                _ => CANNOT_RUN,
            };
            let name = words[0].to_string_lossy();
            Failure::new(status, format!("cannot run {name:?}: {e}"))
        })
    }

    /// Gives the lock back because the command could not be started.
    fn give_up(mut self, world: &mut World, failure: Failure) -> Result<u8, Failure> {
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
        self.take_terminal_back();
        self.keeper.give_back(world)?;
        Err(failure)
    }

    /// Waits for the end of the command and of all processes of its group.
    fn watch(&mut self, world: &mut World) -> Result<u8, Failure> {
        loop {
            self.keeper.move_on(world);
            self.change_guard()?;
            self.tell_guard()?;
            self.hear_signals(world)?;
            let now = sys::now();
            if !self.lost && (self.keeper.lease.is_lost(now) || now >= self.term_at()) {
                self.lose(now);
            }
            if let Some(status) = self.status {
                if process::is_gone(self.group) {
                    return Ok(status);
                }
                self.stop(Reason::LeftBehind, now);
            }
            if now >= self.keeper.granted.saturating_add(self.options.max_hold) {
                self.stop(Reason::MaxHold, now);
            }
            self.kill_in_time(now);
            let next = self.next(now);
            world.sleep(next)?;
        }
    }

    fn next(&mut self, now: Us) -> Us {
        if self.status.is_some() {
            // The processes left behind are no children of dflock, so no signal tells of their end.
            let look = self.look;
            self.look = LOOKS.1.min(look * 2);
            return now.saturating_add(look);
        }
        let mut next = self.keeper.granted.saturating_add(self.options.max_hold);
        if now >= next {
            next = Us::MAX;
        }
        if !self.lost {
            next = next.min(self.keeper.next(now)).min(self.term_at());
        }
        match self.stopping {
            Some((_, kill_at)) => next.min(kill_at),
            None => next,
        }
    }

    /// By when the command must be dead.
    fn kill_at(&self) -> Us {
        let margin = (self.keeper.lease.span() / 20).clamp(MARGINS.0, MARGINS.1);
        self.keeper.lease.until().saturating_sub(margin)
    }

    /// When the command must be told to end, unless the lock is renewed before.
    fn term_at(&self) -> Us {
        match self.options.on_lost {
            OnLost::Ignore => self.keeper.lease.until(),
            OnLost::Kill | OnLost::Term => self.kill_at().saturating_sub(self.grace()),
        }
    }

    fn grace(&self) -> Us {
        self.options.kill_after.min(self.keeper.lease.span() / 4)
    }

    fn lose(&mut self, now: Us) {
        self.lost = true;
        match self.options.on_lost {
            OnLost::Ignore => report("the lock is lost, and the command runs on"),
            OnLost::Kill | OnLost::Term => self.stop(Reason::Lost, now),
        }
    }

    /// Sends TERM and sets the time for KILL. A loss comes before other reasons.
    fn stop(&mut self, reason: Reason, now: Us) {
        let again = match self.stopping {
            None => false,
            Some((before, _)) if before != Reason::Lost && reason == Reason::Lost => true,
            Some(_) => return,
        };
        let kill_at = match (reason, self.options.on_lost) {
            (Reason::Lost, OnLost::Term) => Us::MAX,
            (Reason::Lost, _) => self.kill_at().min(now.saturating_add(self.grace())),
            _ => now.saturating_add(self.options.kill_after),
        };
        self.stopping = Some((reason, kill_at));
        if !again {
            self.send(libc::SIGTERM);
        }
        match reason {
            Reason::Lost => report("the lock is lost: stopping the command"),
            Reason::MaxHold => report("the lock was held for --max-hold: stopping the command"),
            Reason::LeftBehind => tell(
                self.options.verbose,
                "stopping what the command has left behind",
            ),
        }
    }

    fn kill_in_time(&mut self, now: Us) {
        if let Some((reason, kill_at)) = self.stopping
            && now >= kill_at
        {
            self.stopping = Some((reason, Us::MAX));
            self.send(libc::SIGKILL);
        }
    }

    fn send(&self, signal: i32) {
        self.send_one(signal);
        if matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGHUP) {
            // A stopped process acts on the signal only when it is continued.
            self.send_one(libc::SIGCONT);
        }
    }

    fn send_one(&self, signal: i32) {
        // All processes of the group may have ended.
        let _ = process::kill_group(self.group, signal);
        if self.status.is_none() && process::group_of(self.group) != Some(self.group) {
            // The command has moved to another group.
            let _ = process::kill(self.group, signal);
        }
    }

    fn hear_signals(&mut self, world: &World) -> Result<(), Failure> {
        while let Some(caught) = world.caught() {
            self.interrupted |= caught.by_terminal;
            match caught.number {
                libc::SIGCHLD => {
                    while let Some((pid, change)) = process::changed() {
                        self.child_changed(pid, change)?;
                    }
                }
                libc::SIGTERM => self.term(),
                signal => self.send(signal),
            }
        }
        Ok(())
    }

    /// Hands the first TERM on; a second one becomes KILL. timeout(1) sends one TERM to dflock and one to its group, so
    /// a second one within [`SAME`] is the first.
    fn term(&mut self) {
        let now = sys::now();
        match self.termed {
            None => {
                self.termed = Some(now);
                self.send(libc::SIGTERM);
            }
            Some(first) if now >= first.saturating_add(SAME) => self.send(libc::SIGKILL),
            Some(_) => {}
        }
    }

    fn child_changed(&mut self, pid: Pid, change: Change) -> Result<(), Failure> {
        if self.guard.as_ref().is_some_and(|guard| guard.pid == pid) {
            if !matches!(change, Change::Stopped(_)) {
                self.guard = Some(Guard::start()?);
                self.told = 0;
                self.tell_guard()?;
            }
            return Ok(());
        }
        if pid != self.group {
            return Ok(());
        }
        match change {
            Change::Exited(status) => self.status = Some(status as u8),
            Change::Killed(signal) => {
                self.status = Some(128 + signal as u8);
                self.killed = Some(signal);
            }
            Change::Stopped(_) => self.stopped(),
        }
        Ok(())
    }

    /// The command was stopped, by ^Z or because it used the terminal from the background.
    fn stopped(&mut self) {
        let Some(foreground) = process::foreground(STDIN) else {
            // There is no terminal: another process has stopped the command and will continue it.
            return;
        };
        if foreground != process::own_group() {
            self.take_terminal_back();
            // The whole job stops, so that the shell notices, until the shell continues it.
            process::stop_group();
        }
        self.hand_terminal_over();
        self.send(libc::SIGCONT);
    }

    /// Puts the command into the foreground, if dflock is there.
    fn hand_terminal_over(&self) {
        if process::foreground(STDIN) == Some(process::own_group()) {
            // The command may have ended already.
            let _ = process::set_foreground(STDIN, self.group);
        }
    }

    fn take_terminal_back(&self) {
        if process::foreground(STDIN) == Some(self.group) {
            let _ = process::set_foreground(STDIN, process::own_group());
        }
    }

    /// When the guard kills the command if dflock has not: later than dflock would, and before the lease ends.
    fn guard_until(&self) -> Us {
        let late = |at: Us| at.saturating_add(self.keeper.lease.until().saturating_sub(at) / 2);
        match self.stopping {
            Some((Reason::Lost, kill_at)) if kill_at < self.kill_at() => {
                kill_at.saturating_add(MARGINS.0)
            }
            _ => late(self.kill_at()),
        }
    }

    fn guard_signal(&self) -> i32 {
        match self.options.on_lost {
            OnLost::Term => libc::SIGTERM,
            OnLost::Kill | OnLost::Ignore => libc::SIGKILL,
        }
    }

    /// Forks a guard that has the connection to which the hold moves, before it moves: if dflock died in between, that
    /// connection would end before the command.
    fn change_guard(&mut self) -> Result<(), Failure> {
        if self.keeper.is_moving()
            && let Some(guard) = self.guard.take()
        {
            if self.former.is_none() {
                self.former = Some(guard);
            } else {
                // This guard's connection came to nothing.
                guard.dismiss();
            }
            self.guard = Some(Guard::start()?);
            self.told = 0;
        }
        if self.keeper.is_settled()
            && let Some(former) = self.former.take()
        {
            former.dismiss();
        }
        Ok(())
    }

    /// Tells the guard the deadline whenever that moves.
    fn tell_guard(&mut self) -> Result<(), Failure> {
        let (until, signal) = (self.guard_until(), self.guard_signal());
        if let Some(guard) = &mut self.guard
            && until != self.told
        {
            match guard.watch(self.group, signal, until) {
                Ok(()) => self.told = until,
                // The guard is dead, and SIGCHLD will say so.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// The command is dead. Holds the lock for `--min-hold`, and gives it back.
    fn finish(mut self, world: &mut World, status: u8) -> Result<u8, Failure> {
        for guard in [self.guard.take(), self.former.take()]
            .into_iter()
            .flatten()
        {
            guard.dismiss();
        }
        if self.lost && self.options.on_lost != OnLost::Ignore {
            return Err(Failure::silent(LOST));
        }
        let least = self.keeper.granted.saturating_add(self.options.min_hold);
        while sys::now() < least && !self.keeper.lease.is_lost(sys::now()) {
            world.sleep(least.min(self.keeper.next(sys::now())))?;
            self.keeper.move_on(world);
            // SIGCHLD tells of the guard's end; any other signal ends the wait.
            if world
                .caught()
                .is_some_and(|caught| caught.number != libc::SIGCHLD)
            {
                break;
            }
        }
        tell(self.options.verbose, "the lock is given back");
        self.keeper.give_back(world)?;
        match self.killed {
            // The terminal's signal was for the whole job.
            Some(signal @ (libc::SIGINT | libc::SIGQUIT))
                if self.has_terminal || self.interrupted =>
            {
                Err(Failure {
                    for_all: self.has_terminal,
                    ..Failure::by_signal(signal, true)
                })
            }
            _ => Ok(status),
        }
    }
}
