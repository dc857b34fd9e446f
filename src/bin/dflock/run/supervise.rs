//! The command while it runs: its start, the signals that dflock hands on, its end, and its death in time when the lock
//! is lost. The guard starts and stops processes; this decides when. Invariant: the lock is given back only when no
//! process that descends from the command runs.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::process::Command;

use mio::Interest;
use mio::unix::SourceFd;

use dflockd::command::{SECOND, Us};
use dflockd::sys::process::{self, Children, End, Pid};
use dflockd::sys::{self, Caught};

use super::keeper::Keeper;
use super::release::{FAILOVER, Told, tell_unanswered};
use super::times::{SECOND_TRY, grace, start_by, times};
use super::world::{GUARD, WITNESS, World};
use crate::failure::{CANNOT_RUN, Failure, LOST, NOT_FOUND, OS_ERROR, report, tell};
use crate::guard::{Guard, LOOKS, Order, Report, Start, Times, descendants, signal_tree};
use crate::options::{Left, OnLost, Options};
use crate::witness::Witness;

/// The exit status for a command that was killed.
const KILLED: u8 = 128 + libc::SIGKILL as u8;
/// Two TERM within this time count as one.
const SAME: Us = SECOND / 10;

struct Supervisor<'a> {
    options: &'a Options,
    /// For messages.
    program: &'a OsStr,
    keeper: Keeper,
    /// None once it is dead: then dflock ends the command itself.
    guard: Option<Guard>,
    witness: Witness,
    /// Children of dflock that do not belong to the command: the witness, and children from before the start.
    strangers: Vec<Pid>,
    /// The times that the guard was told.
    told: Times,
    /// The guard has connections that the hold has left.
    is_moved: bool,
    /// Signals from before the command was there to get them.
    early: Vec<i32>,
    is_started: bool,
    /// The process of the command, until it has ended.
    command: Option<Pid>,
    /// How the command has ended, or why it has not begun.
    end: Option<Result<End, Failure>>,
    /// No process of the command is left.
    is_gone: bool,
    /// A process of the command belongs to another user.
    is_denied: bool,
    /// ^C or ^\ at the terminal.
    interrupted: Option<i32>,
    /// Why the processes are being stopped.
    stopping: Option<Reason>,
    /// The guard is dead, and the processes are killed for that.
    is_cut: bool,
    lost: bool,
    /// When the first TERM arrived.
    termed: Option<Us>,
    /// Without a guard: when the processes are looked at again, and the pause after that.
    look: (Us, Us),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Lost,
    MaxHold,
    /// The command has ended and left others behind.
    Left,
    /// Another TERM.
    Signal,
}

/// /dev/null, which the guard and the witness need. Without it no lock is taken.
pub fn null() -> Result<File, Failure> {
    let null = File::options().read(true).write(true).open("/dev/null");
    null.map_err(|e| Failure::new(OS_ERROR, format!("cannot open /dev/null: {e}")))
}

/// Runs the command to its end.
pub fn run(
    world: &mut World,
    options: &Options,
    keeper: Keeper,
    words: &[OsString],
    null: &File,
) -> Result<u8, Failure> {
    let mut command = prepare(options, &keeper, words);
    let start = match sys::now() < start_by(options, &keeper.lease) {
        true => start(world, options, &keeper, &mut command, null).map_err(Failure::from),
        false => Err(too_late()),
    };
    let (witness, guard, strangers) = match start {
        Ok(parts) => parts,
        Err(failure) => {
            keeper.give_back(world)?;
            return Err(failure);
        }
    };
    let mut supervisor = Supervisor {
        options,
        program: &words[0],
        told: times(options, &keeper.lease),
        keeper,
        guard: Some(guard),
        witness,
        strangers,
        is_moved: false,
        early: Vec::new(),
        is_started: false,
        command: None,
        end: None,
        is_gone: false,
        is_denied: false,
        interrupted: None,
        stopping: None,
        is_cut: false,
        lost: false,
        termed: None,
        look: (0, LOOKS.0),
    };
    let watched = supervisor.watch(world);
    if watched.is_err() {
        // Without dflock the guard kills them, and without a guard the next lines do.
        supervisor.guard = None;
        while !supervisor.is_gone && sys::now() < supervisor.keeper.lease.until() {
            supervisor.kill_alone(sys::now());
            world.sleep(supervisor.look.0)?;
        }
    }
    watched?;
    supervisor.finish(world)
}

/// The command with its arguments and its environment.
fn prepare(options: &Options, keeper: &Keeper, words: &[OsString]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    keeper.describe(&mut command);
    command.env("DFLOCK_SERVER", options.servers.join(","));
    command
}

/// Starts the witness, the guard and through that the command. Returns also the children that do not belong to the
/// command.
fn start(
    world: &World,
    options: &Options,
    keeper: &Keeper,
    command: &mut Command,
    null: &File,
) -> io::Result<(Witness, Guard, Vec<Pid>)> {
    let mut strangers = match process::has_children() {
        true => descendants(&[]),
        false => Vec::new(),
    };
    process::adopt_orphans()?;
    let guard = Guard::start(Start {
        command,
        connection: keeper.link_fd().map(|fd| fd.as_raw_fd()),
        bound: options.on_lost != OnLost::Ignore,
        times: times(options, &keeper.lease),
        by: start_by(options, &keeper.lease),
        signals: &world.signals,
        null,
    })?;
    // While the guard gets ready. If this fails, the guard hears no more, and the command does not begin.
    let mut witness = Witness::start(&world.numbers, null)?;
    strangers.extend(witness.pid());
    let registry = world.registry();
    registry.register(witness.reports(), WITNESS, Interest::READABLE)?;
    registry.register(&mut SourceFd(&guard.as_raw_fd()), GUARD, Interest::READABLE)?;
    Ok((witness, guard, strangers))
}

impl Supervisor<'_> {
    /// Waits until no process of the command is left.
    fn watch(&mut self, world: &mut World) -> Result<(), Failure> {
        loop {
            if !self.lost {
                self.keeper.move_on(world);
            }
            self.lead_guard();
            // Before the guard's reports: a signal to the group may be older than the command.
            self.hear_signals(world);
            self.hear_guard();
            if self.is_gone {
                return Ok(());
            }
            let now = sys::now();
            self.forward(now);
            self.decide(now);
            self.check_guard(now);
            if self.guard.is_none() {
                self.kill_alone(now);
            }
            if self.is_gone || self.is_hopeless(now) {
                return Ok(());
            }
            world.sleep(self.next(now))?;
        }
    }

    /// Tells the guard of another connection and of another deadline, unless the lock is lost.
    fn lead_guard(&mut self) {
        if self.lost {
            return;
        }
        let times = times(self.options, &self.keeper.lease);
        let Some(guard) = &mut self.guard else { return };
        if self.keeper.is_moving() {
            // Before anything is sent there: if dflock died in between, that connection would end before the command.
            guard.order(Order::Keep, self.keeper.link_fd());
            self.is_moved = true;
        }
        if self.is_moved && self.keeper.is_settled() {
            self.is_moved = false;
            guard.order(Order::Settled, None);
        }
        if self.told != times {
            self.told = times;
            guard.order(Order::Live(times), None);
        }
    }

    fn hear_guard(&mut self) {
        while let Some(report) = self.guard.as_mut().and_then(Guard::report) {
            match report {
                Report::Done(_) => {}
                Report::Started(pid) => self.started(pid),
                Report::CannotRun(error) => {
                    let error = io::Error::from_raw_os_error(error);
                    self.end = Some(Err(cannot_run(self.program, &error)));
                }
                Report::TooLate => self.end = Some(Err(too_late())),
                Report::Unable(error) => {
                    self.end = Some(Err(io::Error::from_raw_os_error(error).into()));
                    self.guard = None;
                }
                Report::Ended(end) => {
                    self.command = None;
                    self.end.get_or_insert(Ok(end));
                }
                Report::Left => self.left_behind(),
                Report::Stopping => self.lose(),
                Report::Denied => self.denied(),
                Report::Gone => self.is_gone = true,
            }
        }
    }

    /// The process of the command is there, and waits to begin. A signal to dflock's group that came before was not for
    /// it; one that comes now waits for it, and merges with what is handed on.
    fn started(&mut self, pid: Pid) {
        (self.is_started, self.command) = (true, Some(pid));
        if let Some(guard) = &mut self.guard {
            for number in self.early.drain(..) {
                guard.order(Order::Signal(number), None);
            }
            guard.order(Order::Go, None);
        }
    }

    fn left_behind(&mut self) {
        match self.options.left {
            _ if self.stopping.is_some() => {}
            Left::Wait => report("waiting for what the command has left behind"),
            Left::Stop => {
                let kill = sys::now().saturating_add(self.options.kill_after);
                self.stop(Reason::Left, kill);
            }
        }
    }

    fn denied(&mut self) {
        if !self.is_denied {
            self.is_denied = true;
            report("a process of the command belongs to another user and cannot be stopped");
        }
    }

    /// The lock is lost, because an answer said so or because the time is over.
    fn lose(&mut self) {
        if self.lost {
            return;
        }
        self.lost = true;
        match self.options.on_lost {
            OnLost::Ignore => report("the lock is lost, and the command runs on"),
            OnLost::Kill => {
                let kill = sys::now().saturating_add(grace(self.options, self.keeper.lease.span()));
                self.stop(Reason::Lost, kill.min(self.told.kill));
            }
            OnLost::Term => self.stop(Reason::Lost, Us::MAX),
        }
    }

    /// Stops all processes of the command: TERM, and KILL at `kill`.
    fn stop(&mut self, reason: Reason, kill: Us) {
        if self.stopping.is_none() || reason == Reason::Lost {
            match reason {
                Reason::Lost => report("the lock is lost: stopping the command"),
                Reason::MaxHold => report("the lock was held for --max-hold: stopping the command"),
                Reason::Left => report("stopping what the command has left behind"),
                Reason::Signal => {}
            }
            self.stopping = Some(reason);
        }
        if let Some(guard) = &mut self.guard {
            guard.order(Order::Stop(kill), None);
        }
    }

    fn hear_signals(&mut self, world: &World) {
        while let Some(caught) = world.caught() {
            let now = sys::now();
            match caught.number {
                libc::SIGCHLD => self.reap(),
                libc::SIGINT | libc::SIGQUIT if caught.by_terminal => {
                    self.interrupted = Some(caught.number);
                    self.hold(caught.number, now);
                }
                libc::SIGTERM => self.term(now),
                number => self.hold(number, now),
            }
        }
    }

    /// Keeps a signal until it is known whether the command has had it.
    fn hold(&mut self, number: i32, now: Us) {
        match (&mut self.guard, &self.end) {
            _ if !self.is_started => self.early.push(number),
            // What the command has left behind need not be in dflock's group.
            (Some(guard), Some(_)) => guard.order(Order::Signal(number), None),
            _ => self.witness.hold(number, now),
        }
    }

    /// A first TERM is handed on, and a second one becomes KILL for all. timeout(1) sends one to dflock and one to its
    /// group, so a second one within [`SAME`] is the first.
    fn term(&mut self, now: Us) {
        match self.termed {
            None => {
                self.termed = Some(now);
                self.hold(libc::SIGTERM, now);
            }
            Some(first) if now >= first.saturating_add(SAME) => self.stop(Reason::Signal, 0),
            Some(_) => {}
        }
    }

    /// Hands on the signals that reached dflock alone.
    fn forward(&mut self, now: Us) {
        while let Some(number) = self.witness.release(now) {
            match (&mut self.guard, self.command) {
                (Some(guard), _) => guard.order(Order::Signal(number), None),
                (None, Some(command)) => drop(process::kill(command, number)),
                (None, None) => {}
            }
        }
    }

    /// Waits for the children that have ended.
    fn reap(&mut self) {
        while let Children::Ended(pid, end) = process::ended() {
            self.witness.forget(pid);
            self.strangers.retain(|&stranger| stranger != pid);
            if self.guard.as_ref().is_some_and(|guard| guard.pid == pid) {
                // Its last words may say why.
                self.hear_guard();
                if self.guard.take().is_some() && !self.is_gone {
                    self.lose_guard("the guard was killed: stopping the command");
                }
            } else if self.command == Some(pid) {
                // Its guard is dead.
                self.command = None;
                self.end.get_or_insert(Ok(end));
            }
        }
    }

    /// Goes on without the guard, whose children become children of dflock.
    fn lose_guard(&mut self, why: &str) {
        self.guard = None;
        if self.options.on_lost == OnLost::Ignore {
            return;
        }
        report(why);
        self.is_cut = true;
        self.stopping.get_or_insert(Reason::Signal);
    }

    /// Finds what is due at an instant.
    fn decide(&mut self, now: Us) {
        if self.keeper.lease.is_lost(now) || now >= self.told.term {
            self.lose();
        }
        if now >= self.max_hold() && self.stopping.is_none() {
            let kill = now.saturating_add(self.options.kill_after);
            self.stop(Reason::MaxHold, kill);
        }
    }

    fn max_hold(&self) -> Us {
        self.keeper.granted.saturating_add(self.options.max_hold)
    }

    /// A stopped guard counts as dead: it cannot kill the command.
    fn check_guard(&mut self, now: Us) {
        let last = self.guards_end();
        if let Some(guard) = &mut self.guard
            && (guard.is_stopped(now) || now >= last)
        {
            // It may have ended just now, and was not waited for.
            let _ = process::kill(guard.pid, libc::SIGKILL);
            self.lose_guard("the guard does not answer: stopping the command");
        }
    }

    /// When the guard must be done if its lock is lost: in time for dflock to kill without it. A dflock that was stopped
    /// itself gives it the time for an answer.
    fn guards_end(&self) -> Us {
        let asked = self.guard.as_ref().and_then(Guard::owes_since);
        match self.lost {
            true => asked
                .unwrap_or(0)
                .max(self.told.kill)
                .saturating_add(SECOND_TRY),
            false => Us::MAX,
        }
    }

    /// Kills the processes that have fallen to dflock.
    fn kill_alone(&mut self, now: Us) {
        self.reap();
        if now < self.look.0 {
            return;
        }
        let signals: &[i32] = match self.options.on_lost {
            // The command runs on, and nothing but its end is waited for.
            OnLost::Ignore if self.stopping.is_none() => &[0],
            _ => &[libc::SIGKILL],
        };
        let reached = signal_tree(signals, &self.strangers);
        self.reap();
        if reached.denied > 0 && signals != [0] {
            self.denied();
        }
        self.is_gone = reached.found == 0;
        self.look = (
            now.saturating_add(self.look.1),
            LOOKS.1.min(self.look.1 * 2),
        );
    }

    /// Whether the lease is over and only processes of another user are left.
    fn is_hopeless(&self, now: Us) -> bool {
        let is_stopping = self.lost && self.options.on_lost != OnLost::Ignore;
        is_stopping && self.is_denied && now >= self.keeper.lease.until()
    }

    fn next(&mut self, now: Us) -> Us {
        let mut next = self.witness.next();
        match &self.guard {
            Some(guard) => next = next.min(guard.next()).min(self.guards_end()),
            None => next = next.min(self.look.0),
        }
        if self.stopping.is_none() {
            next = next.min(self.max_hold());
        }
        match self.lost {
            false => next.min(self.keeper.next(now)).min(self.told.term),
            true if now < self.keeper.lease.until() => next.min(self.keeper.lease.until()),
            true => next,
        }
    }

    /// No process of the command is left. Holds the lock for `--min-hold`, and gives it back.
    fn finish(mut self, world: &mut World) -> Result<u8, Failure> {
        let is_stopped = self.lost && self.options.on_lost != OnLost::Ignore;
        let mut result = Ok(());
        if !is_stopped && matches!(self.end, Some(Ok(_))) {
            self.hold_on(world)?;
            tell(self.options.verbose, "the lock is given back");
        }
        // All are dead in time, and so the next waiter need not wait for the end of the lease.
        if self.is_gone && !self.keeper.lease.is_lost(sys::now()) {
            result = self.keeper.release(world, FAILOVER).map(|told| {
                tell_unanswered(&told);
                if let Told::Cut(caught) = told {
                    self.interrupted = self.interrupted.or(interrupt(caught));
                }
            });
        }
        let helpers = [
            self.witness.pid(),
            self.guard.take().filter(|_| self.is_gone).map(|it| it.pid),
        ];
        process::kill_and_reap(&helpers.into_iter().flatten().collect::<Vec<Pid>>());
        result?;
        match self.end {
            Some(Err(failure)) => Err(failure),
            _ if is_stopped => Err(Failure::silent(LOST)),
            end => match self.interrupted {
                Some(signal) => Err(Failure::by_signal(signal, true)),
                // Not 0, if what the command has left behind was killed.
                None if self.is_cut && matches!(end, Some(Ok(End::Exited(0)))) => Ok(KILLED),
                None => Ok(status(end, self.is_denied)),
            },
        }
    }

    /// Waits for the end of `--min-hold`. A signal ends the wait.
    fn hold_on(&mut self, world: &mut World) -> Result<(), Failure> {
        let least = self.keeper.granted.saturating_add(self.options.min_hold);
        let mut is_over = self.interrupted.is_some();
        while !is_over && sys::now() < least && !self.keeper.lease.is_lost(sys::now()) {
            world.sleep(least.min(self.keeper.next(sys::now())))?;
            self.keeper.move_on(world);
            while let Some(caught) = world.called() {
                is_over = true;
                self.interrupted = interrupt(caught).or(self.interrupted);
            }
        }
        if !is_over && sys::now() < least {
            report("the lock is lost before --min-hold is over");
        }
        Ok(())
    }
}

/// The signal, if it is ^C or ^\ at the terminal.
fn interrupt(caught: Caught) -> Option<i32> {
    let is_one = caught.by_terminal && [libc::SIGINT, libc::SIGQUIT].contains(&caught.number);
    is_one.then_some(caught.number)
}

/// The exit status for a command that has ended.
fn status(end: Option<Result<End, Failure>>, is_denied: bool) -> u8 {
    match end {
        Some(Ok(End::Exited(0))) if is_denied => OS_ERROR,
        Some(Ok(End::Exited(status))) => status as u8,
        Some(Ok(End::Killed(signal))) => 128 + signal as u8,
        // It died with its guard.
        _ => KILLED,
    }
}

fn too_late() -> Failure {
    Failure::new(LOST, "the lock was lost before the command could start")
}

/// Why the command could not be run.
fn cannot_run(program: &OsStr, error: &io::Error) -> Failure {
    let status = match error.kind() {
        ErrorKind::NotFound => NOT_FOUND,
        _ => CANNOT_RUN,
    };
    let program = program.to_string_lossy();
    Failure::new(status, format!("cannot run {program:?}: {error}"))
}
