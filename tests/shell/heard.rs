//! Which signals a command gets: one for each that somebody meant for it, whichever way it was sent. The command says
//! so itself. Invariant: a signal is one line, written by its handler, and one that was ignored at the start stays so.

#![allow(unsafe_code, reason = "a handler of signal(2) is not in std")]

use std::env;
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::beside::{Scene, Tool, both};
use crate::daemon::{PATIENCE, eventually};
use crate::stage::{Run, around, children, few_at_once, is_alive, signal};

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
const STATUS: i32 = 7;
/// So many at a time leave a processor for dflock, which judges signals by the moment at which they come.
const AT_ONCE: usize = 4;

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
    process::exit(STATUS);
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

impl Tool {
    /// The command under this tool, in a group of its own, when it runs; and its process.
    fn listens(&self, before: &str) -> (Run, u32) {
        let mut command = around(
            self.addr,
            &self.text(&format!("{before}exec LOCK sh -c 'REPORTS'")),
        );
        command.process_group(0);
        let run = Run::start(command);
        eventually("it listens", || !self.report().is_empty());
        (run, self.report()[0].parse().expect("a number"))
    }

    /// Its process, and the signals that it has had.
    fn report(&self) -> Vec<String> {
        let text = fs::read_to_string(format!("{}.signals", self.file)).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }

    /// Waits until the command has ended; the signals that it has had.
    fn heard(&self, command: u32) -> Vec<String> {
        eventually("the command has ended", || !is_alive(command));
        self.report().split_off(1)
    }
}

/// Sends each signal to a command under each tool, and returns what it has heard.
#[track_caller]
fn hears(names: &[&str], send: impl Fn(&str, &Run, u32) + Sync, is_for_both: bool, times: usize) {
    let scene = Scene::new();
    let tools = both().filter(|&is_dflock| is_dflock || is_for_both);
    let cases: Vec<_> = tools
        .flat_map(|is_dflock| names.iter().map(move |name| (is_dflock, name)))
        .collect();
    few_at_once(AT_ONCE, cases, |(is_dflock, name)| {
        let tool = scene.tool(is_dflock);
        let (mut run, command) = tool.listens("");
        send(name, &run, command);
        assert_eq!(tool.heard(command), vec![*name; times], "{}", tool.lock);
        if is_dflock {
            assert_eq!(run.status(), STATUS, "{name}");
        }
    });
}

const ALL: [&str; 6] = ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"];

/// One call of kill(1), so that nothing comes between.
fn kill(name: &str, pids: &str) {
    let status = process::Command::new("sh")
        .args(["-c", &format!("kill -s {name} -- {pids}")])
        .status();
    assert!(status.unwrap().success(), "{pids}");
}

#[test]
fn of_a_signal_to_the_group_a_command_hears_one() {
    hears(
        &ALL,
        |name, run, _| kill(name, &format!("-{}", run.pid)),
        true,
        1,
    );
}

/// timeout(1) sends one to its child and then one to their group.
#[test]
fn of_a_signal_to_dflock_and_its_group_a_command_hears_one() {
    hears(
        &ALL,
        |name, run, _| kill(name, &format!("{0} -{0}", run.pid)),
        true,
        1,
    );
}

#[test]
fn of_a_signal_to_dflock_alone_a_command_hears_one() {
    hears(&ALL, |name, run, _| run.signal(name), false, 1);
}

#[test]
fn of_signals_to_dflock_and_to_the_command_by_name_it_hears_two() {
    let send = |name: &str, run: &Run, command: u32| kill(name, &format!("{command} {}", run.pid));
    hears(&ALL, send, false, 2);
}

/// So systemd ends a unit: each process of the control group by itself.
#[test]
fn of_a_signal_to_each_process_a_command_hears_one() {
    let send = |name: &str, run: &Run, _| {
        let (mut all, mut next) = (Vec::new(), vec![run.pid]);
        while let Some(pid) = next.pop() {
            all.push(pid.to_string());
            next.extend(children(pid));
        }
        assert!(all.len() > 2, "{all:?}");
        kill(name, &all.join(" "));
    };
    hears(&["TERM", "INT", "HUP"], send, false, 1);
}

#[test]
fn of_a_timeout_a_command_hears_one_signal() {
    let scene = Scene::new();
    let names = ["TERM", "INT", "HUP", "QUIT"];
    let cases: Vec<_> = both()
        .flat_map(|is_dflock| names.map(|name| (is_dflock, name)))
        .collect();
    few_at_once(AT_ONCE, cases, |(is_dflock, name)| {
        let tool = scene.tool(is_dflock);
        let text = format!("timeout -s {name} 1.5 LOCK sh -c 'REPORTS'; echo $?");
        let mut run = Run::start(around(tool.addr, &tool.text(&text)));
        run.hears("124");
        let command = tool.report()[0].parse().unwrap();
        assert_eq!(tool.heard(command), [name], "{}", tool.lock);
    });
}

#[test]
fn a_signal_that_was_ignored_at_the_start_is_heard_by_nobody() {
    let scene = Scene::new();
    let names = ["HUP", "INT", "QUIT", "USR1"];
    let cases: Vec<_> = both()
        .flat_map(|is_dflock| names.map(|name| (is_dflock, name)))
        .collect();
    few_at_once(AT_ONCE, cases, |(is_dflock, name)| {
        let tool = scene.tool(is_dflock);
        let (mut run, command) = tool.listens(&format!("trap '' {name}; "));
        kill(name, &format!("{0} -{0}", run.pid));
        // Nothing may happen, and that is no event.
        thread::sleep(AFTER_THE_FIRST / 2);
        assert!(run.is_running(), "{}", tool.lock);
        kill("TERM", &format!("-{}", run.pid));
        assert_eq!(tool.heard(command), ["TERM"], "{}", tool.lock);
    });
}

/// As under nohup(1), and in the background of a script.
#[test]
fn a_signal_that_was_ignored_at_the_start_ends_no_form_of_dflock() {
    let scene = Scene::new();
    let forms = [
        "sleep-1 sleep 60",
        "hold held-1",
        "listen a.b",
        "bench --seconds 20",
    ];
    let cases = forms
        .iter()
        .flat_map(|form| ["HUP", "INT", "QUIT", "TERM"].map(|name| (*form, name)));
    let cases: Vec<_> = cases.enumerate().collect();
    few_at_once(AT_ONCE, cases, |(n, (form, name))| {
        let tool = scene.tool(true);
        let form = form.replace("-1", &n.to_string());
        let script = format!("trap '' {name}; exec dflock {form}");
        let mut run = Run::start(around(tool.addr, &script));
        eventually("it is dflock", || {
            fs::read(format!("/proc/{}/comm", run.pid)).is_ok_and(|comm| comm == b"dflock\n")
        });
        // Long enough to have begun, and then nothing may happen: neither is an event.
        thread::sleep(AFTER_THE_FIRST / 4);
        assert!(signal(run.pid, name));
        thread::sleep(AFTER_THE_FIRST / 4);
        assert!(run.is_running(), "{form} {name}");
    });
}
