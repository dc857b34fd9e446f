//! A command is owned by descent: whatever it starts ends before the lock is free, wherever it has gone. Not here:
//! broken networks and frozen processes, which `overlap` has. Invariant: as in main.rs.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::daemon::{Daemon, LONG, at_once, eventually};
use crate::stage::{
    Run, around, at, children, few_at_once, is_alive, outlasts_a_lease, run, signal, waiters,
};

/// Shell texts that start something in the background and print its number, each further away from the command.
const FAR: [&str; 4] = [
    "sleep 60 & echo $!",
    "setsid sh -c 'echo $$; exec sleep 60' & sleep 0.2",
    // Its parent ends at once.
    "(setsid sh -c 'echo $$; exec sleep 60' &) ; sleep 0.2",
    // And the parent of that.
    r#"(sh -c '(setsid sh -c "echo \$\$; exec sleep 60") &' &); sleep 0.2"#,
];

fn pid(run: &mut Run) -> u32 {
    run.line().trim().parse().expect("a number")
}

#[test]
fn what_a_command_leaves_behind_is_ended_and_told_wherever_it_went() {
    let daemon = Daemon::start(&[]);
    at_once(FAR.iter().zip(["a", "b", "c", "d"]), |(script, key)| {
        let mut holder = Run::start(at(daemon.addr, &[key, "sh", "-c", script]));
        let left = pid(&mut holder);
        assert_eq!(holder.status(), 0, "{script}");
        assert!(!is_alive(left), "{script}");
        let told = holder.complaint();
        assert_eq!(told, "dflock: stopping what the command has left behind\n");
        let next = run(at(daemon.addr, &["-n", key, "true"]));
        assert_eq!(next.status, 0, "{script}");
    });
}

#[test]
fn it_may_be_waited_for_instead() {
    let daemon = Daemon::start(&[]);
    let script = "(setsid sh -c 'echo $$; read a; echo $a' <&3 &) 3<&0; exit 4";
    let mut holder = Run::start(at(
        daemon.addr,
        &["--left", "wait", "k", "sh", "-c", script],
    ));
    let left = pid(&mut holder);
    let told = holder.complaint();
    assert_eq!(
        told,
        "dflock: waiting for what the command has left behind\n"
    );
    assert!(is_alive(left) && holder.is_running());
    assert_eq!(run(at(daemon.addr, &["-n", "k", "true"])).status, 1);
    holder.send("late\n");
    holder.hears("late");
    assert_eq!(holder.status(), 4);
    assert_eq!(run(at(daemon.addr, &["-n", "k", "true"])).status, 0);
}

#[test]
fn a_process_that_ends_with_the_command_was_not_left_behind() {
    let daemon = Daemon::start(&[]);
    let end = run(at(daemon.addr, &["k", "sh", "-c", "(setsid true &); true"]));
    assert_eq!((end.status, end.err.as_str()), (0, ""));
}

#[test]
fn a_second_term_ends_all_wherever_they_went() {
    let daemon = Daemon::start(&[]);
    let script =
        "trap '' TERM; (setsid sh -c 'trap \"\" TERM; echo $$; exec sleep 60' &); sleep 60";
    let mut holder = Run::start(at(daemon.addr, &["k", "sh", "-c", script]));
    let far = pid(&mut holder);
    holder.signal("TERM");
    thread::sleep(Duration::from_millis(150));
    assert!(is_alive(far));
    holder.signal("TERM");
    assert_eq!(holder.status(), 137);
    assert!(!is_alive(far));
}

#[test]
fn the_loss_of_an_outer_lock_ends_an_inner_dflock_and_its_command() {
    for inner in ["kill", "ignore"] {
        let daemon = Daemon::start(&[]);
        let other = Daemon::start(&[]);
        let server = other.addr.to_string();
        let args = [
            "--lease",
            "1",
            "--kill-after",
            "0",
            "outer",
            env!("CARGO_BIN_EXE_dflock"),
            "--server",
            &server,
            "--on-lost",
            inner,
            "inner",
            "sh",
            "-c",
            "echo $$; exec sleep 60",
        ];
        let mut holder = Run::start(at(daemon.addr, &args));
        let command = pid(&mut holder);
        drop(daemon);
        assert_eq!(holder.status(), 120, "{inner}");
        eventually("the inner command is dead", || !is_alive(command));
        // Its lock ends with its connection.
        let next = run(at(other.addr, &["-w", LONG, "inner", "true"]));
        assert_eq!(next.status, 0, "{inner}");
    }
}

#[test]
fn with_ignore_the_command_outlives_dflock_and_its_guard() {
    let daemon = Daemon::start(&[]);
    let script = "echo $$; read a; echo $a";
    for whom in ["dflock", "lock-guard"] {
        let args = ["--on-lost", "ignore", whom, "sh", "-c", script];
        let mut holder = Run::start(at(daemon.addr, &args));
        let command = pid(&mut holder);
        match whom {
            "dflock" => holder.signal("KILL"),
            _ => assert!(signal(holder.guard(), "KILL")),
        }
        thread::sleep(Duration::from_millis(100));
        assert!(is_alive(command), "{whom}");
        holder.send("on\n");
        holder.hears("on");
        let status = holder.status();
        assert!([0, -9].contains(&status), "{whom} {status}");
    }
}

#[test]
fn a_process_that_was_there_before_is_none_of_the_commands() {
    let daemon = Daemon::start(&[]);
    let dflock = env!("CARGO_BIN_EXE_dflock");
    // The shell becomes dflock, which so has a child that it has not started.
    let script = format!("sleep 60 & echo $!; exec {dflock} k sh -c 'echo $$; exec sleep 60'");
    let mut shell = around(daemon.addr, &script);
    shell.env("DFLOCK_SERVER", daemon.addr.to_string());
    let mut holder = Run::start(shell);
    let (before, command) = (pid(&mut holder), pid(&mut holder));
    assert!(signal(holder.guard(), "KILL"));
    assert_eq!(holder.status(), 137);
    assert!(!is_alive(command) && is_alive(before));
    assert!(signal(before, "KILL"));
}

/// The moments are from before dflock has connected until the command runs.
#[test]
fn a_signal_to_the_group_is_lost_at_no_moment_of_the_start() {
    let daemon = Daemon::start(&[]);
    let tries: Vec<u64> = (0..48).collect();
    few_at_once(8, tries, |n| {
        let key = format!("k{n}");
        let mut command = at(daemon.addr, &[&key, "sleep", "60"]);
        command.process_group(0);
        let mut run = Run::start(command);
        thread::sleep(Duration::from_micros(n * 300));
        let group = format!("kill -s TERM -- -{}", run.pid);
        let sent = Command::new("sh").args(["-c", &group]).status().unwrap();
        assert!(sent.success(), "{n}");
        // Before it has begun to listen dflock dies of the signal.
        assert!([143, -15].contains(&run.status()), "{n}");
    });
}

#[test]
fn a_term_reaches_what_the_command_has_left_behind_and_is_waited_for() {
    let daemon = Daemon::start(&[]);
    let script =
        "(trap 'echo heard; exit' TERM; echo ready; while :; do sleep 0.05; done) & exit 3";
    let args = ["--left", "wait", "k", "sh", "-c", script];
    let mut holder = Run::start(at(daemon.addr, &args));
    holder.hears("ready");
    assert!(holder.complaint().contains("waiting for"));
    holder.signal("TERM");
    holder.hears("heard");
    assert_eq!(holder.status(), 3);
}

#[test]
fn what_is_killed_with_the_guard_is_not_status_0() {
    let daemon = Daemon::start(&[]);
    let script = "(setsid sh -c 'echo $$; exec sleep 60' &); sleep 0.2";
    let args = ["--left", "wait", "k", "sh", "-c", script];
    let mut holder = Run::start(at(daemon.addr, &args));
    let left = pid(&mut holder);
    assert!(holder.complaint().contains("waiting for"));
    assert!(signal(holder.guard(), "KILL"));
    assert_eq!((holder.status(), is_alive(left)), (137, false));
}

/// dflock is stopped for longer than its lease, but its command had ended before.
#[test]
fn a_command_that_ended_in_time_has_its_own_status() {
    let daemon = Daemon::start(&[]);
    let script = "echo ready; read a; exit 7";
    let args = ["--lease", "1", "k", "sh", "-c", script];
    let mut holder = Run::start(at(daemon.addr, &args));
    holder.hears("ready");
    let guard = holder.guard();
    holder.signal("STOP");
    holder.send("go\n");
    eventually("the command has ended", || children(guard).is_empty());
    outlasts_a_lease(&daemon, 2);
    holder.signal("CONT");
    let end = holder.end();
    assert_eq!((end.status, end.err.as_str()), (7, ""));
}

#[test]
fn an_input_that_ends_while_hold_waits_ends_the_hold_at_once() {
    let daemon = Daemon::start(&[]);
    let mut other = daemon.connect();
    let token = other.takes("k");
    let mut holder = Run::start(at(daemon.addr, &["--lease", "3600", "hold", "k"]));
    eventually("it waits", || waiters(&daemon, "k") == 1);
    holder.close();
    other.send(format!("r\nk\n{token}\n"));
    assert_eq!(holder.status(), 0);
}
