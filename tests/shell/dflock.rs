//! The real `dflock` and the real server: exit status, the command and its surroundings, signals, the order of
//! holders. Not here: locks that are lost, which `overlap.rs` has. Written from the manual and not from the code.
//! Invariant: as in main.rs.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::daemon::{Client, Daemon, LONG, at_once, dflockd, eventually};
use crate::stage::{Folder, Run, around, at, connections, dflock, is_alive, program, run, waiters};

/// An address without a server.
fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

// Exit status.

#[test]
fn the_exit_status_is_the_commands_or_says_why_there_is_none() {
    let daemon = Daemon::start(&[]);
    daemon.connect().takes("free");
    let mut holder = daemon.connect();
    holder.takes("busy");
    let folder = Folder::new();
    let text = folder.path("text");
    fs::write(&text, "no program").unwrap();
    let long = "k".repeat(256);
    let cases: &[(&[&str], i32)] = &[
        (&["k", "true"], 0),
        (&["k", "false"], 1),
        (&["k", "sh", "-c", "exit 42"], 42),
        (&["k", "sh", "-c", "exit 255"], 255),
        (&["k", "-c", "exit 43"], 43),
        (&["k", "sh", "-c", "kill -TERM $$"], 128 + 15),
        (&["k", "sh", "-c", "kill -KILL $$"], 128 + 9),
        (&["k", "sh", "-c", "kill -INT $$"], 128 + 2),
        (&["k", &text], 126),
        (&["k", "/"], 126),
        (&["k", "/no/such/program"], 127),
        (&["k", "no-such-program"], 127),
        (&["-E", "9", "k", "no-such-program"], 127),
        (&["-n", "busy", "true"], 1),
        (&["-w", "0", "busy", "true"], 1),
        (&["-n", "-E", "7", "busy", "true"], 7),
        (&["-n", "-E", "255", "busy", "true"], 255),
        (&["-n", "-q", "busy", "true"], 0),
        (&["-n", "free", "true"], 0),
        (&["-w", LONG, "free", "true"], 0),
        (&["-n", "-q", "-E", "7", "free", "sh", "-c", "exit 3"], 3),
        (&[&long[..250], "true"], 0),
    ];
    for (args, status) in cases {
        let end = run(at(daemon.addr, args));
        assert_eq!(
            (end.status, end.err.lines().count().min(2) < 2),
            (*status, true),
            "{args:?}: {end:?}"
        );
        if [126, 127].contains(status) {
            end.complains(*status);
        }
        if args.contains(&"-q") {
            assert_eq!(end.err, "", "{args:?}");
        }
    }
}

#[test]
fn a_busy_lock_is_waited_for_as_long_as_asked() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("busy");
    // The lease of the holder would be over later.
    let cases = [
        (&["busy", "true"][..], 1),
        (&["-E", "0", "busy", "true"], 0),
        (&["-q", "busy", "false"], 0),
    ];
    at_once(cases, |(args, status)| {
        let start = Instant::now();
        let end = run(at(daemon.addr, &[&["-w", "1.5"], args].concat()));
        assert!(
            start.elapsed() >= Duration::from_millis(1500),
            "never early"
        );
        assert!(start.elapsed() < Duration::from_secs(20), "{args:?}");
        assert_eq!((end.status, end.err.as_str()), (status, ""), "{args:?}");
    });
}

#[test]
fn a_command_is_not_run_when_the_lock_is_busy() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("k");
    for args in [&["-n", "k", "echo"][..], &["-q", "-w", "0.1", "k", "echo"]] {
        assert_eq!(run(at(daemon.addr, args)).out, "");
    }
}

#[test]
fn a_mistake_in_the_arguments_is_status_64_and_one_line() {
    let daemon = Daemon::start(&[]);
    let (blank, long) = ("a key", "k".repeat(257));
    let cases: &[&[&str]] = &[
        &["--wiat", "1", "k", "true"],
        &["-z", "k", "true"],
        &["-w", "x", "k", "true"],
        &["-w", "-1", "k", "true"],
        &["-w", "", "k", "true"],
        &["-w", "nan", "k", "true"],
        &["-w", "inf", "k", "true"],
        &["-w"],
        &["-E", "256", "k", "true"],
        &["-E", "-1", "k", "true"],
        &["-E", "x", "k", "true"],
        &["-l", "0", "k", "true"],
        &["-l", "-1", "k", "true"],
        &["-l", "x", "k", "true"],
        &["-l", "1.5", "k", "true"],
        &["--lease", "0", "k", "true"],
        &["--lease", "-1", "k", "true"],
        &["--lease", "x", "k", "true"],
        &["--on-lost", "x", "k", "true"],
        &["-o", "x", "k", "true"],
        &["--min-hold", "x", "k", "true"],
        &["--max-hold", "x", "k", "true"],
        &["--kill-after", "x", "k", "true"],
        &["--server", "http://localhost", "k", "true"],
        &["--server", "localhost:x", "k", "true"],
        &["--server", "localhost:65536", "k", "true"],
        &["--server", "localhost:0", "k", "true"],
        &["--server", "localhost:+1", "k", "true"],
        &["--server", "::1:6388", "k", "true"],
        &["--server", ":1", "k", "true"],
        &["--server", "", "k", "true"],
        &["--server", "127.0.0.1:1,", "k", "true"],
        &["--nonblock=yes", "k", "true"],
        &["k", "-c"],
        &["", "true"],
        &[blank, "true"],
        &["a\nkey", "true"],
        &["a\tkey", "true"],
        &[&long, "true"],
        &["-n"],
        &["--left", "x", "k", "true"],
        &[],
    ];
    let mut wrong = Vec::new();
    for args in cases {
        let end = run(at(daemon.addr, args));
        let lines = end.err.lines().filter(|line| !line.starts_with("Try "));
        if (end.status, end.out.as_str(), lines.count()) != (64, "", 1) {
            wrong.push(format!("{args:?}: {end:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_key_alone_is_refused_and_holds_nothing() {
    let daemon = Daemon::start(&[]);
    for args in [
        &["k"][..],
        &["--", "k"],
        &["lst"],
        &["hold"],
        &["hold", "k", "true"],
        &["--left", "wait", "hold", "k"],
    ] {
        run(at(daemon.addr, args)).complains(64);
    }
}

#[test]
fn no_server_is_status_69() {
    for wait in [&["-n"][..], &["-w", "0.5"]] {
        run(at(nowhere(), &[wait, &["k", "true"]].concat())).complains(69);
        let server = ["--server", "no..such.host:1"];
        run(dflock(&[wait, &server, &["k", "true"]].concat())).complains(69);
    }
}

#[test]
fn a_server_that_never_answers_is_status_69_after_the_wait_or_10_s() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let cases = [
        (&["-w", "1", "k", "true"][..], 1.0),
        (&["-n", "k", "true"], 10.0),
        (&["k", "true"], 10.0),
        (&["ping"], 10.0),
    ];
    at_once(cases, |(args, wait)| {
        let start = Instant::now();
        let end = run(at(addr, args));
        end.complains(69);
        let text = format!("dflock: cannot reach {addr}: no answer");
        assert_eq!(end.err.lines().next(), Some(&*text), "{args:?}");
        // Some 8 s are for a busy machine.
        let time = start.elapsed().as_secs_f64();
        assert!((wait..wait + 8.0).contains(&time), "{args:?}: {time}");
    });
}

#[test]
fn a_queue_that_is_full_is_status_75() {
    let daemon = Daemon::start(&["--max-waiters", "1"]);
    let (mut holder, mut waiter) = (daemon.connect(), daemon.connect());
    holder.takes("k");
    waiter.waits("k", LONG);
    run(at(daemon.addr, &["k", "true"])).complains(75);
    run(at(daemon.addr, &["-w", LONG, "k", "true"])).complains(75);
}

#[test]
fn a_server_that_talks_nonsense_is_status_76() {
    for nonsense in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "\n",
        "ok 1 2 3\n",
        "ok\nok\nok\n",
        "ok\nok\nok x 33\n",
        "error\nerror\nerror\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Run::start(at(
            listener.local_addr().unwrap(),
            &["-w", LONG, "k", "true"],
        ));
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 100]).unwrap() > 0);
        stream.write_all(nonsense.as_bytes()).unwrap();
        let end = client.end();
        assert_eq!(end.status, 76, "{nonsense:?}: {end:?}");
        end.complains(76);
    }
    // Without an end, nonsense is not kept either.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Run::start(at(
        listener.local_addr().unwrap(),
        &["-w", LONG, "k", "true"],
    ));
    let (mut stream, _) = listener.accept().unwrap();
    while stream.write_all(&[b'x'; 4096]).is_ok() {}
    client.end().complains(76);
}

#[test]
fn a_wrong_or_missing_secret_is_status_77() {
    let daemon = Daemon::start(&["--auth-token", "sesame"]);
    let folder = Folder::new();
    let (right, wrong) = (folder.path("right"), folder.path("wrong"));
    fs::write(&right, "sesame\n").unwrap();
    fs::write(&wrong, "simsalabim\n").unwrap();
    run(at(daemon.addr, &["k", "true"])).complains(77);
    run(at(daemon.addr, &["--token-file", &wrong, "k", "true"])).complains(77);
    assert_eq!(
        run(at(daemon.addr, &["--token-file", &right, "k", "true"])).status,
        0
    );
    let mut command = at(daemon.addr, &["k", "true"]);
    command.env("DFLOCK_TOKEN_FILE", &right);
    assert_eq!(run(command).status, 0);
}

#[test]
fn a_lock_that_is_lost_while_the_command_runs_is_status_120() {
    let daemon = Daemon::start(&[]);
    let script = "echo $DFLOCK_TOKEN; exec sleep 60";
    let mut holder = Run::start(at(daemon.addr, &["--lease", "1", "k", "-c", script]));
    let token = holder.line();
    // Another connection releases it.
    daemon.connect().says("r", "k", token.trim_end(), "ok");
    let end = holder.end();
    assert_eq!((end.status, end.err.lines().count()), (120, 1), "{end:?}");
}

// The command.

#[test]
fn the_command_knows_its_lock_from_its_environment() {
    let daemon = Daemon::start(&[]);
    let script = "echo $DFLOCK_KEY; echo $DFLOCK_FENCE; echo $DFLOCK_TOKEN; echo $DFLOCK_LEASE; echo $DFLOCK_SERVER";
    let addr = daemon.addr.to_string();
    let end = run(dflock(&[
        "--server", &addr, "--lease", "7", "my/key", "-c", script,
    ]));
    let lines: Vec<&str> = end.out.lines().collect();
    let [key, fence, token, lease, server] = lines[..] else {
        panic!("{end:?}")
    };
    assert_eq!((key, lease, server), ("my/key", "7", addr.as_str()));
    assert_eq!(token.len(), 32);
    assert_eq!(
        fence,
        u64::from_str_radix(&token[..16], 16).unwrap().to_string()
    );
    let later = run(dflock(&[
        "--server",
        &addr,
        "my/key",
        "-c",
        "echo $DFLOCK_FENCE",
    ]));
    assert!(later.out.trim_end().parse::<u64>().unwrap() > fence.parse().unwrap());
}

#[test]
fn the_command_has_the_same_stdin_stdout_and_stderr() {
    let daemon = Daemon::start(&[]);
    let script = "while read -r line; do echo $line; echo $line >&2; done";
    let mut copy = Run::start(at(daemon.addr, &["k", "-c", script]));
    copy.send("one\n");
    copy.hears("one");
    copy.send("two\n");
    copy.close();
    let end = copy.end();
    assert_eq!(
        (end.status, end.out.as_str(), end.err.as_str()),
        (0, "two\n", "one\ntwo\n")
    );
}

#[test]
fn options_end_at_the_key() {
    let daemon = Daemon::start(&[]);
    for (args, out) in [
        (&["k", "echo", "-n", "-x", "--", "a  b"][..], "-x -- a  b"),
        (&["k", "sh", "-c", "echo $1", "x", "--help"], "--help\n"),
        (&["k", "--", "echo", "-w"], "-w\n"),
        (&["k", "--", "echo", "--", "x"], "-- x\n"),
        (&["-n", "--", "k", "echo", "-n", "x"], "x"),
        (&["--", "-k", "echo", "x"], "x\n"),
        (&["-nw1", "k", "echo", "x"], "x\n"),
        (&["--wait=1", "k", "echo", "x"], "x\n"),
        (&["k", "-c", "echo $0 $# \"$@\""], "sh 0\n"),
        (&["k", "-c", "printf '%s|' a 'b  c'"], "a|b  c|"),
    ] {
        let end = run(at(daemon.addr, args));
        assert_eq!(
            (end.status, end.out.as_str()),
            (0, out),
            "{args:?}: {end:?}"
        );
    }
}

#[test]
fn the_command_inherits_no_descriptor_and_no_blocked_or_ignored_signal() {
    let daemon = Daemon::start(&[]);
    let listing = run(at(daemon.addr, &["k", "ls", "/proc/self/fd"])).out;
    // Descriptors of the test itself may be there too.
    let mut plain = program("ls");
    plain.arg("/proc/self/fd");
    assert_eq!(listing, run(plain).out);
    let masks = |command| {
        let status = run(command).out;
        let lines = status.lines().map(str::to_string);
        let of_signals = |line: &String| line.starts_with("SigBlk:") || line.starts_with("SigIgn:");
        lines.filter(of_signals).collect::<Vec<_>>()
    };
    let mut plain = program("cat");
    plain.arg("/proc/self/status");
    let found = masks(at(daemon.addr, &["k", "cat", "/proc/self/status"]));
    assert_eq!(found, masks(plain));
    assert_eq!(found[0], "SigBlk:\t0000000000000000");
}

// Signals.

#[test]
fn a_waiter_asks_again_when_the_server_goes_and_another_comes() {
    let daemon = Daemon::start(&[]);
    let port = daemon.addr.port().to_string();
    let mut holder = daemon.connect();
    holder.takes("k");
    let waiter = Run::start(at(daemon.addr, &["-w", LONG, "k", "echo", "mine"]));
    eventually("it waits", || waiters(&daemon, "k") == 1);
    let mut short = Run::start(at(daemon.addr, &["-w", "1", "k", "true"]));
    // On a busy machine its wait may be over first.
    eventually("they wait", || {
        waiters(&daemon, "k") == 2 || !short.is_running()
    });
    drop(daemon);
    // No server came in time.
    let end = short.end();
    assert!([1, 69].contains(&end.status), "{end:?}");
    let _other = Daemon::launch(dflockd(&["--port", &port])).unwrap();
    let end = waiter.end();
    assert_eq!((end.status, end.out.as_str()), (0, "mine\n"), "{end:?}");
}

#[test]
fn a_signal_while_waiting_leaves_the_queue() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("k");
    for (name, number) in [("TERM", 15), ("INT", 2)] {
        for args in [
            &["k", "echo"][..],
            &["-w", LONG, "k", "echo"],
            &["hold", "k"],
        ] {
            let waiter = Run::start(at(daemon.addr, args));
            eventually("it waits", || waiters(&daemon, "k") == 1);
            waiter.signal(name);
            let end = waiter.end();
            assert_eq!(
                (end.status, end.out.as_str()),
                (128 + number, ""),
                "{end:?}"
            );
            eventually("nobody waits", || waiters(&daemon, "k") == 0);
        }
    }
}

#[test]
fn a_signal_while_nobody_answers_ends_it_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Run::start(at(listener.local_addr().unwrap(), &["k", "true"]));
    let _silent: TcpStream = listener.accept().unwrap().0;
    client.signal("TERM");
    assert_eq!(client.end().status, 128 + 15);
}

#[test]
fn a_signal_while_the_command_runs_is_the_commands() {
    let daemon = Daemon::start(&[]);
    for name in ["TERM", "HUP", "QUIT", "USR1", "USR2"] {
        let script =
            format!("trap 'echo {name}; exit 9' {name}; echo ready; while :; do sleep 0.01; done");
        let mut holder = Run::start(at(daemon.addr, &["k", "-c", &script]));
        holder.hears("ready");
        holder.signal(name);
        let end = holder.end();
        assert_eq!(
            (end.status, end.out),
            (9, format!("{name}\n")),
            "{}",
            end.err
        );
    }
    let mut plain = Run::start(at(daemon.addr, &["k", "-c", "echo ready; exec sleep 60"]));
    plain.hears("ready");
    plain.signal("TERM");
    assert_eq!(plain.end().status, 128 + 15);
}

#[test]
fn a_second_term_kills_the_command_and_its_children() {
    let daemon = Daemon::start(&[]);
    let script = "trap 'echo once' TERM; (trap '' TERM; echo $$ >/dev/null; exec sleep 60) & echo $!; \
                  while :; do sleep 0.01; done";
    let mut holder = Run::start(at(daemon.addr, &["k", "-c", script]));
    let grandchild: u32 = holder.line().trim_end().parse().unwrap();
    holder.signal("TERM");
    holder.hears("once");
    assert!(is_alive(grandchild) && holder.is_running());
    // One that comes too soon could be the same, sent to dflock and to its group.
    eventually("it is killed", || {
        holder.signal("TERM");
        !holder.is_running()
    });
    assert_eq!(holder.status(), 128 + 9);
    assert!(!is_alive(grandchild));
}

// Holders.

#[test]
fn of_five_for_a_semaphore_of_three_three_run_at_once_and_never_more() {
    // Three begin before any ends, and then stay for a moment in which a fourth must not begin.
    let daemon = Daemon::start(&[]);
    let folder = Folder::new();
    let file = folder.path("marks");
    let script = format!(
        "echo start >>{file}; until [ $(wc -l <{file}) -ge 3 ]; do sleep 0.01; done; sleep 0.2; echo end >>{file}"
    );
    let all: Vec<Run> = (0..5)
        .map(|_| Run::start(at(daemon.addr, &["-l", "3", "k", "-c", &script])))
        .collect();
    for one in all {
        assert_eq!(one.end().status, 0);
    }
    let (mut now, mut most) = (0, 0);
    for line in fs::read_to_string(&file).unwrap().lines() {
        now += if line == "start" { 1 } else { -1 };
        most = most.max(now);
    }
    assert_eq!((now, most), (0, 3));
}

#[test]
fn a_hundred_for_one_lock_run_one_by_one_as_they_came() {
    let daemon = Daemon::start(&[]);
    let folder = Folder::new();
    let file = folder.path("marks");
    let mut holder = daemon.connect();
    let token = holder.takes("k");
    let mut all = Vec::new();
    for n in 0..100 {
        let script = format!("echo start {n} >>{file}; echo end {n} >>{file}");
        all.push(Run::start(at(daemon.addr, &["k", "-c", &script])));
        eventually("it waits", || waiters(&daemon, "k") == n + 1);
    }
    holder.says("r", "k", &token, "ok");
    for one in all {
        assert_eq!(one.end().status, 0);
    }
    let wanted: String = (0..100).map(|n| format!("start {n}\nend {n}\n")).collect();
    assert_eq!(fs::read_to_string(&file).unwrap(), wanted);
}

#[test]
fn it_is_held_at_least_and_at_most_so_long() {
    let daemon = Daemon::start(&[]);
    let start = Instant::now();
    let mut short = Run::start(at(
        daemon.addr,
        &["--min-hold", "2", "k", "-c", "echo done; exit 5"],
    ));
    short.hears("done");
    daemon.connect().says("l", "k", "0", "timeout");
    let mut next = daemon.connect();
    next.waits("k", LONG);
    next.is_granted(33);
    assert!(start.elapsed() >= Duration::from_secs(2), "never early");
    assert_eq!(short.end().status, 5);
    drop(next);
    let start = Instant::now();
    let long = run(at(daemon.addr, &["--max-hold", "0.5", "k", "sleep", "60"]));
    assert!(long.status == 128 + 15, "{long:?}");
    let time = start.elapsed().as_secs_f64();
    assert!((0.5..20.0).contains(&time), "{time}");
}

#[test]
fn a_command_that_outlasts_the_lease_keeps_the_lock() {
    let daemon = Daemon::start(&[]);
    let holder = Run::start(at(daemon.addr, &["--lease", "2", "k", "sleep", "4.5"]));
    eventually("it has it", || {
        run(at(daemon.addr, &["-n", "k", "true"])).status == 1
    });
    let mut waiter = daemon.connect();
    let start = Instant::now();
    waiter.waits("k", LONG);
    assert_eq!(holder.end().status, 0);
    waiter.is_granted(33);
    assert!(start.elapsed() >= Duration::from_secs(3));
}

#[test]
fn without_a_command_it_says_what_it_holds_until_its_input_ends() {
    let daemon = Daemon::start(&[]);
    let mut holder = Run::start(at(daemon.addr, &["--lease", "5", "hold", "k"]));
    let line = holder.line();
    let fields: Vec<&str> = line.trim_end().split(' ').collect();
    assert_eq!((fields.len(), fields[2]), (3, "5"), "{line:?}");
    let fence = u64::from_str_radix(&fields[0][..16], 16).unwrap();
    assert_eq!(fields[1], fence.to_string());
    daemon.connect().says("l", "k", "0", "timeout");
    holder.close();
    assert_eq!(holder.end().status, 0);
    daemon.connect().takes("k");

    let hold = |format, key| {
        Run::start(at(
            daemon.addr,
            &["-o", format, "--lease", "5", "hold", key],
        ))
    };
    let mut holder = hold("sh", "k2");
    let lines = [holder.line(), holder.line(), holder.line()].concat();
    let script = format!("{lines}echo ${{#DFLOCK_TOKEN}} $DFLOCK_LEASE");
    let shell = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(shell.stdout, b"32 5\n", "{lines}");

    let line = hold("json", "k3").line();
    let (token, rest) = line.strip_prefix("{\"token\":\"").unwrap().split_at(32);
    let fence = u64::from_str_radix(&token[..16], 16).unwrap();
    assert_eq!(rest, format!("\",\"fence\":\"{fence}\",\"lease\":5}}\n"));

    let args = ["-n", "-q", "hold", "k2"];
    assert_eq!(Run::start(at(daemon.addr, &args)).status(), 0);
}

/// However much of it there is, and whether or not it is there at once.
#[test]
fn without_a_command_input_is_read_to_its_end() {
    let daemon = Daemon::start(&[]);
    for input in ["one\n", &"x".repeat(10_000)] {
        let mut holder = Run::start(at(daemon.addr, &["hold", "k"]));
        assert_ne!(holder.line(), "");
        holder.send(input);
        assert_eq!(holder.end().status, 0);
    }
}

/// The hold would be over as soon as it began.
#[test]
fn without_a_command_an_input_that_has_ended_is_status_64() {
    let daemon = Daemon::start(&[]);
    let folder = Folder::new();
    let (text, empty) = (folder.path("text"), folder.path("empty"));
    fs::write(&text, "x".repeat(10_000)).unwrap();
    fs::write(&empty, "").unwrap();
    let ended = "dflock: standard input has ended already: ";
    let file = "dflock: standard input is a file, whose end cannot be waited for: ";
    for (input, what) in [
        ("</dev/null".to_string(), ended),
        ("<&-".to_string(), ended),
        (format!("<{empty}"), ended),
        (format!("<{text}"), file),
        ("</dev/zero".to_string(), file),
        ("<&3".to_string(), ended),
    ] {
        // The end of the pipe is there before dflock is.
        let script =
            format!("(echo one) | {{ sleep 0.1; exec 3<&0; exec dflock hold k {input}; }}");
        let end = run(around(daemon.addr, &script));
        end.complains(64);
        assert!(end.err.starts_with(what), "{input}: {end:?}");
    }
}

#[test]
fn without_a_command_a_signal_ends_it_and_frees_the_lock() {
    let daemon = Daemon::start(&[]);
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let mut holder = Run::start(at(daemon.addr, &["hold", "k"]));
        assert_ne!(holder.line(), "");
        holder.signal(name);
        assert_eq!(holder.status(), 128 + number);
        daemon.connect().takes("k");
    }
}

// Owners.

/// In the order A, B and in the order B, A.
#[test]
fn of_two_that_wait_for_each_other_the_later_is_status_121_and_the_other_goes_on() {
    let daemon = Daemon::start(&[]);
    let nested = |owner: &str, outer: &str, inner: &str| {
        let text = format!("echo has {outer}; read line; exec \"$0\" {inner} echo has both");
        let mut command = at(
            daemon.addr,
            &[outer, "sh", "-c", &text, env!("CARGO_BIN_EXE_dflock")],
        );
        command.env("DFLOCK_ID", owner);
        let mut run = Run::start(command);
        run.hears(&format!("has {outer}"));
        run
    };
    let (mut elder, mut later) = (nested("one", "a", "b"), nested("two", "b", "a"));
    elder.send("\n");
    eventually("it waits", || waiters(&daemon, "b") == 1);
    later.send("\n");
    let end = later.end();
    end.complains(121);
    assert_eq!(
        end.err,
        "dflock: deadlock: the holders of a wait for a lock of the owner two; take several locks in one order \
         everywhere\n"
    );
    let end = elder.end();
    let both = (0, "has both\n", "");
    assert_eq!((end.status, end.out.as_str(), end.err.as_str()), both);
}

#[test]
fn a_key_that_its_owner_has_is_status_121_and_without_an_owner_waits() {
    let daemon = Daemon::start(&[]);
    let again = |args: &[&str]| {
        let program = env!("CARGO_BIN_EXE_dflock");
        let inner = format!("exec {program} -w 1 {} k true", args.join(" "));
        run(at(daemon.addr, &[args, &["k", "-c", &inner]].concat()))
    };
    again(&["--id", "me"]).complains(121);
    assert_eq!(again(&[]).status, 1);
    // Without a wait there is no deadlock.
    assert_eq!(again(&["--id", "me", "-n"]).status, 1);
}

#[test]
fn each_lock_has_an_owner_of_its_own_unless_that_is_said() {
    let daemon = Daemon::start(&[]);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let owner_of = |holder: &mut Run, key: &str| {
        assert_ne!(holder.line(), "");
        let end = run(at(daemon.addr, &["-o", "json", "stat", key]));
        let (_, rest) = end.out.split_once("\"owner\":\"").expect("there is one");
        rest.split('"').next().unwrap().to_string()
    };
    let mut first = Run::start(at(daemon.addr, &["hold", "k"]));
    let pattern = format!("{}:{}:", host.trim_end(), first.pid);
    let owner = owner_of(&mut first, "k");
    assert!(owner.starts_with(&pattern) && owner.len() <= 128, "{owner}");
    let mut second = Run::start(at(daemon.addr, &["-l", "2", "hold", "k"]));
    assert_ne!(second.line(), "");
    let mut third = Run::start(at(daemon.addr, &["--id", "it's me", "hold", "k3"]));
    assert_eq!(owner_of(&mut third, "k3"), "it's me");
    let mut fourth = at(daemon.addr, &["hold", "k4"]);
    fourth.env("DFLOCK_ID", "me too");
    assert_eq!(owner_of(&mut Run::start(fourth), "k4"), "me too");
    // Others choose these names, and a shell is to read them.
    let end = run(at(daemon.addr, &["-o", "sh", "stat", "k3"]));
    let script = format!("{}printf '%s|' \"$DFLOCK_OWNER\"", end.out);
    let shell = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(shell.stdout, b"it's me|", "{end:?}");
    let table = run(at(daemon.addr, &["ls"])).out;
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("KEY  HELD  WAITING  OWNER  "),
        "{table}"
    );
    assert!(
        lines[1].contains(&format!("  {owner}  127.0.0.1:")),
        "{table}"
    );
    assert!(lines[2].contains(r"  'it'\''s me'  "), "{table}");
    let semaphore = "k    1/2   0        -";
    assert!(lines.last().unwrap().starts_with(semaphore), "{table}");
}

#[test]
fn the_command_knows_of_an_owner_only_what_was_exported() {
    let daemon = Daemon::start(&[]);
    let script = "echo ${DFLOCK_ID-none}";
    for (args, variable, seen) in [
        (&[][..], None, "none\n"),
        (&["--id", "me"], None, "none\n"),
        (&[], Some("me"), "me\n"),
        (&["--id", "me"], Some("other"), "other\n"),
    ] {
        let mut command = at(daemon.addr, &[args, &["k", "-c", script]].concat());
        command.envs(variable.map(|value| ("DFLOCK_ID", value)));
        assert_eq!(run(command).out, seen, "{args:?} {variable:?}");
    }
}

#[test]
fn an_owner_is_1_to_128_printable_bytes() {
    let daemon = Daemon::start(&[]);
    let longest = "o".repeat(128);
    assert_eq!(
        run(at(daemon.addr, &["--id", &longest, "k", "true"])).status,
        0
    );
    let longer = "o".repeat(129);
    for id in ["", " ", " a", "a\n", "\u{e9}", &longer] {
        run(at(daemon.addr, &["--id", id, "k", "true"])).complains(64);
    }
    let mut command = at(daemon.addr, &["k", "true"]);
    command.env("DFLOCK_ID", longer);
    run(command).complains(64);
}

/// The played server answers and hangs up as servers do that know no owners.
#[test]
fn a_server_that_knows_no_owners_is_used_without() {
    const GRANT: &str = "ok 00000000000000ff0123456789abcdef 33\n";
    for closes in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let client = Run::start(at(addr, &["--id", "me", "k", "echo", "mine"]));
        let accept = || Client::over(listener.accept().unwrap().0);
        let mut peer = accept();
        peer.hears("id");
        for line in ["_", "me", "id", "_", "me"] {
            peer.hears(line);
        }
        peer.send("error\n");
        let mut second = "error";
        if closes {
            drop(peer);
            peer = accept();
            for line in ["ping", "_", "_"] {
                peer.hears(line);
            }
            second = "ok";
        }
        for line in ["l", "k", "9223372036"] {
            peer.hears(line);
        }
        peer.send(format!("{second}\n{GRANT}"));
        peer.hears("r");
        peer.send("ok\n");
        let end = client.end();
        assert_eq!((end.status, end.out.as_str()), (0, "mine\n"), "{end:?}");
    }
}

/// Their connection ends at once, and must not take the lock with it.
#[test]
fn single_steps_leave_the_lock_where_it_is() {
    let daemon = Daemon::start(&[]);
    let script = "echo $DFLOCK_TOKEN; read line; true";
    let mut holder = Run::start(at(daemon.addr, &["--id", "me", "k", "-c", script]));
    let token = holder.line();
    let args = ["--id", "me", "renew", "k", token.trim_end()];
    assert_eq!(run(at(daemon.addr, &args)).status, 0);
    eventually("it has gone", || connections(&daemon) == 1);
    daemon.connect().says("l", "k", "0", "timeout");
    holder.close();
    assert_eq!(holder.status(), 0);
    let daemon = Daemon::start(&[]);
    let acquire = |key| run(at(daemon.addr, &["--id", "me", "acquire", key])).status;
    assert_eq!((acquire("k"), acquire("k")), (0, 121));
}

// Several servers.

#[test]
fn of_several_servers_crc_32_of_the_key_chooses() {
    let daemons = [Daemon::start(&[]), Daemon::start(&[])];
    let list = daemons.each_ref().map(|daemon| daemon.addr.to_string());
    let servers = list.join(",");
    for n in 0..20 {
        let key = format!("key-{n}");
        let args = [
            "--server",
            &servers,
            &key,
            "-c",
            "echo $DFLOCK_SERVER; read line",
        ];
        let mut run = Run::start(dflock(&args));
        // A dflock in the command chooses by its own key.
        run.hears(&servers);
        let chosen = crc_32(key.as_bytes()) as usize % 2;
        daemons[chosen].connect().says("l", &key, "0", "timeout");
        daemons[1 - chosen].connect().takes(&key);
        run.close();
        run.status();
    }
    let keys =
        |chosen| (0..20).filter(move |n| crc_32(format!("key-{n}").as_bytes()) % 2 == chosen);
    assert!(keys(0).count() > 4 && keys(1).count() > 4);
}

/// Of ISO 3309, as in PNG: RFC 2083, 15.
fn crc_32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |mut crc: u32, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
        crc
    })
}
