//! The command while it runs: its start, the signals that are handed on, the terminal it may have, its end, and its
//! death in time when the lock is lost. Invariant: the lock is given back only when nobody of the command's group runs.

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
/// What is kept between the command's death and the end of the lease: a twentieth of it, within these bounds.
const MARGINS: (Us, Us) = (SECOND / 20, SECOND);
/// Two TERM within this are one.
const SAME: Us = SECOND / 10;
/// How often those that the command has left behind are looked at: soon, then less and less.
const LOOKS: (Us, Us) = (SECOND / 500, SECOND / 10);

struct Supervisor<'a> {
    options: &'a Options,
    keeper: Keeper,
    /// None where the loss of the lock is to be ignored.
    guard: Option<Guard>,
    /// The guard that has the connection before: it is not to end before the hold has moved.
    former: Option<Guard>,
    /// The deadline that the guard knows.
    told: Us,
    group: Pid,
    /// The command's exit status, once it has one, and the signal that ended it, if one did.
    status: Option<u8>,
    killed: Option<i32>,
    /// The terminal was given to the command, which it interrupts alone.
    has_terminal: bool,
    /// The terminal has interrupted us.
    interrupted: bool,
    /// When those that it has left behind are looked at again.
    look: Us,
    /// Why its group is being stopped, and when TERM is to be followed by KILL.
    stopping: Option<(Reason, Us)>,
    lost: bool,
    /// When TERM was handed on first.
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
        // Before the command, because it must never run without.
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
    // In a pipeline the terminal is for the others too, a pager perhaps.
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
        // Without a guard, or whatever else there has to be, it must not run on.
        outlive(supervisor.group, supervisor.keeper.lease.until());
    }
    supervisor.take_terminal_back();
    supervisor.finish(world, result?)
}

impl Supervisor<'_> {
    /// Starts the command in a group of its own. Its last act before it is the command is to tell the guard of itself, so
    /// that it never runs unguarded, and to see that the lock is still ours.
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
            // Otherwise the guard would kill it at once, as if it had run.
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

    /// There is no command.
    fn give_up(mut self, world: &mut World, failure: Failure) -> Result<u8, Failure> {
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
        self.take_terminal_back();
        self.keeper.give_back(world)?;
        Err(failure)
    }

    /// Waits for the end of the command and of all that it has started in its group.
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
            // Nobody tells of those that are not our children.
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

    /// When it must begin to die, unless the lock was renewed by then.
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
            // Who is stopped hears of it when it goes on.
            self.send_one(libc::SIGCONT);
        }
    }

    fn send_one(&self, signal: i32) {
        // They may all have ended.
        let _ = process::kill_group(self.group, signal);
        if self.status.is_none() && process::group_of(self.group) != Some(self.group) {
            // It has joined another group.
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

    /// The first TERM is handed on, and a second one is KILL, unless it is the same: timeout(1) sends one to us and one
    /// to our group.
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

    /// The command was stopped, by somebody at the terminal or because it wanted the terminal.
    fn stopped(&mut self) {
        let Some(foreground) = process::foreground(STDIN) else {
            // No terminal: whoever has stopped it will see to it.
            return;
        };
        if foreground != process::own_group() {
            self.take_terminal_back();
            // All of our job stop, that the shell notices, until it lets us go on.
            process::stop_group();
        }
        self.hand_terminal_over();
        self.send(libc::SIGCONT);
    }

    /// Gives the command the terminal, if that is ours.
    fn hand_terminal_over(&self) {
        if process::foreground(STDIN) == Some(process::own_group()) {
            // It may have ended already.
            let _ = process::set_foreground(STDIN, self.group);
        }
    }

    fn take_terminal_back(&self) {
        if process::foreground(STDIN) == Some(self.group) {
            let _ = process::set_foreground(STDIN, process::own_group());
        }
    }

    /// By when the guard is to have the command dead, should we not: later than we, and before the lease ends.
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

    /// The guard needs the connection that the hold moves to, and needs it before: if we died in between, that would end
    /// before the command.
    fn change_guard(&mut self) -> Result<(), Failure> {
        if self.keeper.is_moving()
            && let Some(guard) = self.guard.take()
        {
            if self.former.is_none() {
                self.former = Some(guard);
            } else {
                // It has one that came to nothing.
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

    /// Hands our deadline on whenever it moves.
    fn tell_guard(&mut self) -> Result<(), Failure> {
        let (until, signal) = (self.guard_until(), self.guard_signal());
        if let Some(guard) = &mut self.guard
            && until != self.told
        {
            match guard.watch(self.group, signal, until) {
                Ok(()) => self.told = until,
                // It is dead, and SIGCHLD will say so.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Everybody is dead. Holds on for as long as was asked for, and gives the lock back.
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
            // SIGCHLD is the guard's end; the others end the wait.
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
            // The terminal's signal was for all of our job.
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
