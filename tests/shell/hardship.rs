//! The finds of an attack on the real `dflock`, each as a claim: commands that hide, full pipes, moments that are hard
//! to hit, ignored signals, and the keys of a terminal. Invariant: as in main.rs; a claim about a moment is tried
//! several times, and holds wherever a try has hit.

use std::env;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dflockd::sys;

use crate::beats::{FOR_GUARDS, beats, goes_on, judge};
use crate::daemon::{Daemon, PATIENCE, at_once, dflockd, eventually, spin, tools};
use crate::stage::{Folder, Run, around, at, children, is_alive, run, signal, state, waiters};

/// Long enough for a signal to have an effect that it must not have.
const AFTERWARDS: Duration = Duration::from_millis(200);
const KEEPS: &str = "--no-auto-release-on-disconnect";
/// A command that says when it runs, and does so until it is ended.
const STAYS: &str = "echo ready; exec sleep 60";

/// The process that a command says it is.
fn pid(run: &mut Run) -> u32 {
    run.line().trim_end().parse().expect("a number")
}

// Commands that are hard to end.

#[test]
fn a_process_that_is_left_behind_is_ended_under_any_name() {
    let daemon = Daemon::start(&[]);
    let names = ["plain", "a) Z 1 1 (", "abschlus\\303", "\\377\\376"];
    at_once(names.iter().zip(["a", "b", "c", "d"]), |(name, key)| {
        // A subshell: its name is not the command's, and no other process could be taken for it.
        let script = format!(
            "(trap '' TERM; printf '{name}' >/proc/self/comm; : >$0.ready; read a <>$0) & \
             echo $!; until [ -e $0.ready ]; do sleep 0.01; done"
        );
        let folder = Folder::new();
        let fifo = fifo(&folder);
        let args = ["--kill-after", "0.3", key, "sh", "-c", &script, &fifo];
        let mut holder = Run::start(at(daemon.addr, &args));
        let left = pid(&mut holder);
        assert_eq!((holder.status(), is_alive(left)), (0, false), "{name}");
    });
}

/// Its path.
fn fifo(folder: &Folder) -> String {
    let path = folder.path("fifo");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    path
}

#[test]
fn a_process_that_is_waited_for_costs_nothing() {
    let daemon = Daemon::start(&[]);
    let script = "trap '' TERM; sleep 60 & echo $!";
    let mut holder = Run::start(at(daemon.addr, &["--left", "wait", "k", "-c", script]));
    let left = pid(&mut holder);
    // Nothing may happen: the looks in this time are counted.
    thread::sleep(Duration::from_millis(1500));
    // Each look is followed by a sleep.
    let status = fs::read_to_string(format!("/proc/{}/status", holder.guard())).unwrap();
    let (_, sleeps) = status.split_once("\nvoluntary_ctxt_switches:").unwrap();
    let sleeps: u32 = sleeps.lines().next().unwrap().trim().parse().unwrap();
    assert!(signal(left, "KILL"));
    assert_eq!(holder.status(), 0);
    assert!(sleeps < 40, "{sleeps} in 1.5 s");
}

#[test]
fn a_command_that_has_joined_another_group_is_ended_too() {
    let own = env::current_exe().unwrap();
    let joins = |daemon: &Daemon, args: &[&str]| {
        let own = own.to_str().unwrap();
        let args = [
            args,
            &[
                "k",
                own,
                "--exact",
                "hardship::joins_a_group",
                "--nocapture",
            ],
        ]
        .concat();
        let mut command = at(daemon.addr, &args);
        command.env("HARDSHIP_GROUP", group_of("self").to_string());
        let mut holder = Run::start(command);
        let pid = loop {
            // The harness of the helper has its say first.
            let line = holder.line();
            assert_ne!(line, "", "it is still there");
            if let Some(pid) = line.strip_prefix("joined ") {
                break pid.trim_end().to_string();
            }
        };
        assert_eq!(group_of(&pid), group_of("self"));
        (holder, pid.parse().unwrap())
    };
    let daemon = Daemon::start(&[]);
    let (mut holder, pid) = joins(&daemon, &[]);
    holder.signal("TERM");
    assert_eq!((holder.status(), is_alive(pid)), (128 + 15, false));
    let (mut holder, pid) = joins(&daemon, &["--lease", "1"]);
    drop(daemon);
    assert_eq!((holder.status(), is_alive(pid)), (120, false));
}

fn group_of(process: &str) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(2).unwrap().parse().unwrap()
}

/// No claim, but the command of the one above: no common program joins a group.
#[test]
fn joins_a_group() {
    if let Ok(group) = env::var("HARDSHIP_GROUP") {
        let mut command = Command::new("sh");
        command.args(["-c", "echo; echo joined $$; exec sleep 60"]);
        command.process_group(group.parse().unwrap());
        panic!("{}", command.exec());
    }
}

#[test]
fn a_command_is_ended_though_nobody_reads_what_dflock_says_of_it() {
    let folder = Folder::new();
    let fifo = fifo(&folder);
    let mut options = fs::File::options();
    options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK);
    let mut pipe = options.open(&fifo).unwrap();
    let mut daemon = Daemon::start(&[]);
    let script = format!(
        "exec dflock --lease 60 --kill-after 0.2 k sh -c \
         'echo $$; trap \"\" TERM; while :; do sleep 1; done' 2>{fifo}"
    );
    let mut holder = Run::start(around(daemon.addr, &script));
    let command = pid(&mut holder);
    let full = loop {
        if let Err(e) = pipe.write(&[b'x'; 256]) {
            break e.kind();
        }
    };
    assert_eq!(full, ErrorKind::WouldBlock);
    // Another server in the same place knows nothing of the lock.
    let port = daemon.addr.port().to_string();
    drop(daemon);
    daemon = Daemon::launch(dflockd(&["--port", &port])).unwrap();
    assert_eq!((holder.status(), is_alive(command)), (120, false));
    assert_eq!(run(at(daemon.addr, &["-n", "k", "true"])).status, 0);
}

// Moments.

/// Sends a process a signal as soon as it has so many children.
fn once_it_has(children: usize, pid: u32, signal: i32) {
    let path = format!("/proc/{pid}/task/{pid}/children");
    spin("it has children", || {
        let text = fs::read_to_string(&path).expect("it is there");
        text.split_whitespace().count() >= children
    });
    sys::process::kill(pid as i32, signal).expect("it is there");
}

/// Its children are the witness and the guard, in this order.
#[test]
fn dflock_may_freeze_or_die_at_any_moment_of_the_start_of_its_command() {
    let daemon = Daemon::start(&[]);
    let folder = Folder::new();
    let moments = [(1, libc::SIGSTOP), (2, libc::SIGSTOP), (2, libc::SIGKILL)];
    let scene = |n: usize| {
        let (count, signal) = moments[n % moments.len()];
        let (key, file) = (format!("k{n}"), folder.path(&format!("{n}")));
        // The process that beats is not a child of dflock.
        let script = format!("({}) & wait", beats(&file));
        let first = Run::start(at(
            daemon.addr,
            &["--lease", FOR_GUARDS, &key, "-c", &script],
        ));
        once_it_has(count, first.pid, signal);
        let script = format!("echo $$; {}", beats(&file));
        let second = Run::start(at(daemon.addr, &[&key, "-c", &script]));
        (signal, file, first, second)
    };
    let scenes: Vec<_> = (0..12).map(scene).collect();
    for (n, (signal, file, mut first, mut second)) in scenes.into_iter().enumerate() {
        let beating = pid(&mut second);
        let is_stopped = signal == libc::SIGSTOP;
        if is_stopped {
            first.signal("CONT");
        }
        let status = first.status();
        assert_eq!(status, if is_stopped { 120 } else { -9 }, "{n}");
        goes_on(&file, beating);
        drop(second);
        assert_eq!(judge(&file).1, [0; 0], "{n} {signal}");
    }
}

#[test]
fn neither_killall_nor_pkill_finds_guard_and_witness_as_dflock() {
    let daemon = Daemon::start(&[]);
    let mut holder = Run::start(at(daemon.addr, &["k", "-c", STAYS]));
    holder.hears("ready");
    for name in ["lock-guard", "lock-witness"] {
        let line = fs::read(format!("/proc/{}/cmdline", holder.child(name))).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line.trim_end_matches('\0'), name);
    }
}

// Messages.

#[test]
fn each_thing_that_it_says_is_one_write() {
    let daemon = Daemon::start(&[]);
    // There is no server any more.
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let nowhere = nowhere.unwrap().to_string();
    let cases: [(&[&str], &[&str]); 4] = [
        (&["--server", &nowhere, "k", "true"], &["cannot reach"]),
        (&["--nonsense"], &["--nonsense"]),
        (&["k", "/no/such/program"], &["cannot run"]),
        (&["-v", "k", "true"], &["is ours", "is given back"]),
    ];
    // One write(2) is one datagram.
    for (args, says) in cases {
        let (ours, its) = UnixDatagram::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = at(daemon.addr, args);
        command.stderr(OwnedFd::from(its)).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        for part in says {
            let mut datagram = [0; 1000];
            let n = loop {
                match ours.recv(&mut datagram) {
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    n => break n.expect("a line in time"),
                }
            };
            let text = String::from_utf8_lossy(&datagram[..n]);
            assert!(
                text.starts_with("dflock: ") && text.contains(part) && text.ends_with('\n'),
                "{args:?}: {text:?}"
            );
        }
        child.wait().unwrap();
    }
}

#[test]
fn it_says_that_it_waits_and_when_it_has_the_lock() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("k");
    let mut waiter = Run::start(at(daemon.addr, &["-v", "k", "true"]));
    assert_eq!(waiter.says(), "dflock: the lock is not free: waiting\n");
    drop(holder);
    assert_eq!(waiter.says(), "dflock: the lock is ours\n");
    assert_eq!(waiter.end().status, 0);
}

#[test]
fn it_says_that_it_was_held_for_the_longest_time_allowed() {
    let daemon = Daemon::start(&[]);
    for args in [&["k", "sleep", "60"][..], &["hold", "k"]] {
        let args = [&["--max-hold", "0.1"], args].concat();
        let mut holder = Run::start(at(daemon.addr, &args));
        assert!(holder.says().contains("--max-hold"));
    }
}

#[test]
fn a_hold_that_cannot_be_told_of_is_given_back() {
    let daemon = Daemon::start(&[KEEPS]);
    let command = around(daemon.addr, "exec dflock --lease 60 hold k >/dev/full");
    let mut holder = Run::start(command);
    assert!(holder.says().starts_with("dflock: standard output: "));
    assert_eq!(holder.status(), 71);
    assert_eq!(run(at(daemon.addr, &["-n", "k", "true"])).status, 0);
}

// Signals.

#[test]
fn a_signal_that_its_parent_ignores_it_ignores() {
    at_once(["HUP", "INT", "QUIT", "USR1"], |name| {
        let daemon = Daemon::start(&[]);
        let mut holder = daemon.connect();
        holder.takes("k");
        let script = format!("trap '' {name}; exec dflock --min-hold 0.7 k sh -c 'echo ran'");
        let start = Instant::now();
        let mut waiter = Run::start(around(daemon.addr, &script));
        eventually("it waits", || waiters(&daemon, "k") == 1);
        waiter.signal(name);
        // Nothing may happen, and that is no event.
        thread::sleep(AFTERWARDS);
        drop(holder);
        waiter.hears("ran");
        // The command is the guard's only child.
        let guard = waiter.guard();
        eventually("the command has ended", || children(guard).is_empty());
        assert!(is_alive(waiter.pid), "{name}");
        waiter.signal(name);
        assert_eq!(waiter.end().status, 0, "{name}");
        assert!(start.elapsed() > Duration::from_millis(700), "{name}");
    });
}

/// A shell makes the commands in its background ignore the keys of a terminal.
#[test]
fn in_the_background_of_a_script_it_ignores_interrupts() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("k");
    let mut script = Run::start(around(daemon.addr, "dflock k echo ran & echo $!; wait"));
    let waiter = pid(&mut script);
    eventually("it waits", || waiters(&daemon, "k") == 1);
    assert!(signal(waiter, "INT") && signal(waiter, "QUIT"));
    // Nothing may happen, and that is no event.
    thread::sleep(AFTERWARDS);
    drop(holder);
    script.hears("ran");
}

#[test]
fn an_interrupt_that_a_process_sent_is_an_exit_status() {
    let daemon = Daemon::start(&[]);
    let mut holder = Run::start(at(daemon.addr, &["k", "-c", STAYS]));
    holder.hears("ready");
    let waiter = Run::start(at(daemon.addr, &["k", "true"]));
    eventually("it waits", || waiters(&daemon, "k") == 1);
    for mut run in [waiter, holder] {
        run.signal("INT");
        assert_eq!(run.status(), 128 + 2);
    }
}

// A terminal.

const INTERRUPT: &str = "\x03";
const SUSPEND: &str = "\x1a";
const END: &str = "\x04";

/// The shells of this machine.
fn shells() -> impl Iterator<Item = &'static str> {
    ["sh", "bash"]
        .into_iter()
        .filter(|name| *name == "sh" || tools::has(name, "bash"))
}

/// A shell that reads commands from a terminal. Its prompt is empty.
fn interactive(addr: SocketAddr, shell: &str) -> Run {
    let options = match shell {
        "bash" => " --norc --noediting",
        _ => "",
    };
    let mut shell = Run::on_terminal(addr, &format!("env PS1= {shell}{options} -i"));
    // A greeting is not an answer.
    shell.send("echo begins\n");
    shows(&mut shell, "begins");
    shell
}

/// Reads the screen down to a line that ends so, and returns the text before it.
#[track_caller]
fn shows(run: &mut Run, end: &str) -> String {
    let mut before = String::new();
    loop {
        let line = run.line();
        assert_ne!(line, "", "{end:?} comes, behind {before:?}");
        if line.trim_end().ends_with(end) {
            return before;
        }
        before.push_str(&line);
    }
}

/// The script is interrupted there, and ends by that.
#[track_caller]
fn is_interrupted(mut script: Run) {
    script.send(INTERRUPT);
    let mut rest = String::new();
    loop {
        match script.line() {
            line if line.is_empty() => break,
            line => rest.push_str(&line),
        }
    }
    assert!(!rest.contains("next"), "{rest:?}");
    assert_eq!(script.status(), -2);
}

#[test]
fn an_interrupt_at_the_terminal_ends_the_script_around_it() {
    let daemon = Daemon::start(&[]);
    let folder = Folder::new();
    let file = folder.path("script");
    for command in [
        format!("dflock k sh -c '{STAYS}'"),
        format!("dflock k sh -c '{STAYS}' | cat"),
        format!("dflock k sh -c '({STAYS}); true'"),
    ] {
        fs::write(&file, format!("{command}\necho next $?\n")).unwrap();
        for shell in shells() {
            let mut script = Run::on_terminal(daemon.addr, &format!("{shell} {file}"));
            shows(&mut script, "ready");
            is_interrupted(script);
            let mut holder = daemon.connect();
            holder.takes("k");
            let waiting = Run::on_terminal(daemon.addr, &format!("{shell} {file}"));
            eventually("it waits", || waiters(&daemon, "k") == 1);
            is_interrupted(waiting);
        }
    }
}

#[test]
fn an_interrupt_at_the_terminal_ends_the_loop_around_it() {
    let daemon = Daemon::start(&[]);
    for shell in shells() {
        let mut shell = interactive(daemon.addr, shell);
        shell.send(&format!(
            "for i in 1 2 3; do dflock k sh -c '{STAYS}'; done\n"
        ));
        shows(&mut shell, "ready");
        shell.send(INTERRUPT);
        shell.send("echo so $((40 + 2))\n");
        assert!(!shows(&mut shell, "so 42").contains("ready"));
    }
}

#[test]
fn it_stops_at_the_terminal_and_goes_on() {
    let daemon = Daemon::start(&[]);
    for shell in shells() {
        let mut shell = interactive(daemon.addr, shell);
        let script = "echo $$; echo ready; while read a; do echo got $a; done; exit 5";
        shell.send(&format!("dflock k sh -c '{script}'\n"));
        let text = shows(&mut shell, "ready");
        let command = text.lines().find_map(|line| line.trim().parse().ok());
        let command: u32 = command.expect("its number");
        for word in ["this", "that"] {
            shell.send(SUSPEND);
            // The shell reports a job that has stopped.
            while !shell.line().contains("Stopped") {}
            // The shell is told of dflock alone. A command that still runs would take what is typed.
            eventually("it has stopped", || state(command) == Some('T'));
            shell.send(&format!("fg\n{word}\n"));
            shows(&mut shell, &format!("got {word}"));
        }
        shell.send(END);
        shell.send("echo status $?\n");
        shows(&mut shell, "status 5");
    }
}

#[test]
fn in_a_pipeline_the_terminal_is_for_the_others() {
    let daemon = Daemon::start(&[]);
    for shell in shells() {
        let mut shell = interactive(daemon.addr, shell);
        let pager = "sh -c 'read a; echo $a; read b </dev/tty; echo got $b'";
        shell.send(&format!(
            "dflock k sh -c 'while echo ready; do sleep 0.02; done' | {pager}\n"
        ));
        shows(&mut shell, "ready");
        shell.send("this\n");
        shows(&mut shell, "got this");
    }
}
