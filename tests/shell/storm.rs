//! KILL or STOP for any one process of a run at any moment: none of the command's processes runs on when the lock is
//! another's. Not here: dflock and its guard killed at the same instant, which nobody could survive. Invariant: the
//! judge waits for the lock itself, and marks the file of marks when it is granted; the seed and the moment of each
//! failure are told.

use std::env;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use dflockd::sys;

use crate::beats::{beats, judge};
use crate::beside::family;
use crate::daemon::{Client, Daemon, LONG, tools};
use crate::stage::{Folder, Run, at, children, few_at_once, is_alive, signal, state};

/// Until then dflock has connected, has forked its guard and runs the command, on a machine that is not busy.
const START: Duration = Duration::from_millis(40);
/// So many at a time: their starts need a processor, their leases only time.
const AT_ONCE: usize = 12;
/// Longer than the lease, by what a busy machine may take.
const LEASE: Duration = Duration::from_millis(1500);
/// Two TERM so far apart are two.
const TWO_SIGNALS: Duration = Duration::from_millis(250);
/// Long enough for a process that still runs to leave a mark.
const A_FEW_MARKS: Duration = Duration::from_millis(60);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    Dflock,
    Guard,
    Witness,
    Group,
}

/// One run, and what happens to it.
#[derive(Debug)]
struct Try {
    number: usize,
    target: Target,
    name: &'static str,
    /// When: after the start, or after the first marks.
    after: Duration,
    is_begun: bool,
    /// The command ignores TERM.
    is_deaf: bool,
}

/// What came of it.
#[derive(Default)]
struct Tally {
    /// Runs whose target was there, and runs whose command had left marks before.
    hit: usize,
    begun: usize,
    wrong: Vec<String>,
}

#[test]
fn the_judge_finds_a_command_that_runs_on() {
    let (daemon, folder) = (Daemon::start(&[]), Folder::new());
    let it = Try {
        number: 0,
        target: Target::Dflock,
        name: "KILL",
        after: Duration::ZERO,
        is_begun: true,
        is_deaf: false,
    };
    let (hit, begun, wrong) = play(&daemon, &folder, &it, &["--on-lost", "ignore"]);
    assert!(hit && begun && wrong.is_some(), "{hit} {begun} {wrong:?}");
}

#[test]
fn nobody_runs_on_after_a_kill_or_a_stop_at_any_moment() {
    let number = |name, other| env::var(name).map_or(other, |text| text.parse().expect("a number"));
    let tries = number("TRIES", 32) as usize;
    let seed = number("SEED", u64::from(process::id()));
    println!("SEED={seed} TRIES={tries}");
    let daemon = Daemon::start(&[]);
    let folder = Folder::new();
    let tally = Mutex::new(Tally::default());
    few_at_once(AT_ONCE, plan(tries, seed), |it| {
        let (hit, begun, wrong) = play(&daemon, &folder, &it, &[]);
        let mut tally = tally.lock().unwrap();
        tally.hit += usize::from(hit);
        tally.begun += usize::from(begun);
        tally
            .wrong
            .extend(wrong.map(|wrong| format!("{it:?}: {wrong}")));
    });
    let Tally { hit, begun, wrong } = tally.into_inner().unwrap();
    println!("of {tries}, {hit} hit somebody, and {begun} a command that ran");
    assert!(begun >= tries / 4, "{begun} of {tries} are too few");
    assert!(
        wrong.is_empty(),
        "{} of {tries}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Every target gets both signals, at moments that are spread evenly, and every fourth of them when the command runs.
fn plan(tries: usize, seed: u64) -> Vec<Try> {
    let targets = [
        Target::Dflock,
        Target::Guard,
        Target::Group,
        Target::Witness,
    ];
    let kinds: Vec<_> = targets
        .into_iter()
        .flat_map(|target| ["KILL", "STOP"].map(|name| (target, name)))
        .collect();
    let rounds = tries.div_ceil(kinds.len());
    let mut state = seed;
    let tries = (0..tries).map(|number| {
        let (target, name) = kinds[number % kinds.len()];
        let round = number / kinds.len();
        // As in Knuth, The Art of Computer Programming, 3.3.4: a step of a linear congruential generator.
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let part = (state >> 33) as u32 % 1000;
        Try {
            number,
            target,
            name,
            after: START * (round as u32 * 1000 + part) / (rounds as u32 * 1000),
            is_begun: round % 4 == 0,
            is_deaf: round % 2 == 1,
        }
    });
    tries.collect()
}

/// Plays one; whether the target was there, whether the command had begun, and what was wrong.
fn play(daemon: &Daemon, folder: &Folder, it: &Try, more: &[&str]) -> (bool, bool, Option<String>) {
    let key = format!("storm-{}-{}{}", process::id(), it.number, more.concat());
    let file = folder.path(&key);
    // By itself, in the background, in a session of its own, and with a parent that has ended.
    let beats = beats(&file);
    let setsid = match tools::has("setsid", "util-linux") {
        true => "setsid",
        false => "env",
    };
    let deaf = if it.is_deaf { "trap '' TERM; " } else { "" };
    let script = format!("{deaf}({beats}) & {setsid} sh -c \"{beats}\" & (({beats}) &); {beats}");
    let args = ["--lease", "1", "--kill-after", "0.1"];
    let args = [&args[..], more, &[&key, "-c", &script]].concat();
    let mut command = at(daemon.addr, &args);
    command.process_group(0);
    let mut run = Run::start(command);
    if it.is_begun {
        let end = Instant::now() + LEASE * 4;
        while judge(&file).0.len() < 4 && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
    }
    // Another moment for each is what is asked for.
    thread::sleep(it.after);
    let begun = !judge(&file).0.is_empty();
    let hit = strike(&run, it);
    let mut next = daemon.connect();
    next.send(format!("l\n{key}\n{LONG}\n"));
    let mut wrong = None;
    if !is_granted(&mut next, LEASE) {
        // The lock is renewed, and so dflock has to be there, and to end all when it is told to.
        if !run.is_running() || state(run.pid) == Some('T') {
            wrong = Some("the lock is renewed by nobody".to_string());
        }
        signal(run.pid, "TERM");
        // A second one is KILL.
        thread::sleep(TWO_SIGNALS);
        signal(run.pid, "TERM");
        if !is_granted(&mut next, LEASE * 4) {
            wrong = Some("the lock is not given back".to_string());
        }
    }
    let mark = format!("{} {}\n", process::id(), sys::now());
    let mut marks = File::options()
        .append(true)
        .create(true)
        .open(&file)
        .unwrap();
    marks.write_all(mark.as_bytes()).unwrap();
    let left = family(&key);
    thread::sleep(A_FEW_MARKS);
    let late = late(&file);
    if !left.is_empty() || late > 0 {
        wrong = Some(format!("{} are left, {late} marks are late", left.len()));
    }
    clean_up(&run, &key);
    (hit, begun, wrong)
}

/// Sends the signal. False if there is no such process, because it is too early, or over.
fn strike(run: &Run, it: &Try) -> bool {
    let comm = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let is_guard = |pid: &u32| comm(pid) == "lock-guard\n";
    let pid = match it.target {
        Target::Group => return signal_group(run.pid, it.name),
        Target::Dflock => Some(run.pid),
        Target::Guard => children(run.pid).into_iter().find(is_guard),
        Target::Witness => children(run.pid).into_iter().find(|pid| !is_guard(pid)),
    };
    pid.is_some_and(|pid| signal(pid, it.name))
}

fn signal_group(group: u32, name: &str) -> bool {
    let script = format!("kill -s {name} -- -{group} 2>/dev/null");
    let status = process::Command::new("sh").args(["-c", &script]).status();
    status.expect("there is a shell").success()
}

/// Whether the lock is granted in time.
fn is_granted(client: &mut Client, time: Duration) -> bool {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        client.stream().set_read_timeout(Some(left)).unwrap();
        match client.stream().peek(&mut [0]) {
            Ok(n) => return n == 1,
            // The call may also be interrupted, and the rest of the time is left then.
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// How many marks come behind that of this process.
fn late(file: &str) -> usize {
    let text = fs::read_to_string(file).unwrap();
    let own = format!("{} ", process::id());
    let lines = text.lines().skip_while(|line| !line.starts_with(&own));
    lines.count() - 1
}

fn clean_up(run: &Run, key: &str) {
    let guards = children(run.pid);
    signal_group(run.pid, "KILL");
    for pid in guards.into_iter().chain(family(key)) {
        if is_alive(pid) {
            signal(pid, "KILL");
        }
    }
}
