//! `dflock ls` and `dflock stat`: names of any bytes, what is shown of a key, and for how long they ask. Not here: servers
//! that are gone, in steps.rs. Invariant: as in main.rs.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, eventually, tools};
use crate::stage::{at, dflock, run};
use crate::steps::says;

#[test]
fn names_move_no_cursor() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("cl\u{e9}\u{1b}[2J\u{7f}\\");
    let table = run(at(daemon.addr, &["ls"])).out;
    let row = table.lines().nth(1).unwrap();
    assert!(
        row.starts_with("$'cl\u{e9}\\033[2J\\177\\\\'  1/1 "),
        "{row}"
    );
    let heading = table.lines().next().unwrap();
    assert_eq!(
        heading.find("HELD"),
        Some(row.chars().position(|c| c == '/').unwrap() - 1),
        "{table}"
    );
}

/// `ls` shows each as one word of bash, on one line, and each is that key for `stat`.
#[test]
fn a_name_that_was_listed_can_be_pasted() {
    if !tools::has("bash", "bash") {
        return;
    }
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    let mut names: Vec<Vec<u8>> = (1..=255u8)
        .filter(|byte| !b" \t\r\n".contains(byte))
        .map(|byte| vec![byte])
        .collect();
    for name in [
        &b"$(id)"[..],
        b"$'a'",
        b"it's",
        b"\x1b[31mred",
        b"\xff\xfe",
        b"\xff\xfd",
        b"\xff0",
        b"=ls",
        b"-x",
        "a\u{2028}b\u{202e}c\u{301}".as_bytes(),
        "\u{fffd}\u{fffd}".as_bytes(),
        "\u{43a}\u{43b}\u{44e}\u{447}".as_bytes(),
    ] {
        names.push(name.to_vec());
    }
    for name in &names {
        holder.send([b"l\n", &name[..], b"\n0\n"].concat());
        holder.is_granted(33);
    }
    let table = run(at(daemon.addr, &["ls"])).out;
    let is_shown = |c: char| c == '\n' || !c.is_control() && !"\u{2028}\u{202e}".contains(c);
    assert!(table.chars().all(is_shown), "{table:?}");
    let rows = table.lines().skip(1);
    let words: Vec<_> = rows.filter_map(|row| row.split(' ').next()).collect();
    let script = format!("printf '%s\\n' {}", words.join(" "));
    let shell = Command::new("bash").args(["-c", &script]).output().unwrap();
    let mut said: Vec<Vec<u8>> = shell
        .stdout
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    said.pop();
    names.sort();
    said.sort();
    assert_eq!(said, names);
}

#[test]
fn a_key_that_is_not_utf_8_is_told_from_those_that_look_like_it() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    for name in [&b"\xff\xfe"[..], "\u{fffd}\u{fffd}".as_bytes()] {
        holder.send([b"l\n", name, b"\n0\n"].concat());
        holder.is_granted(33);
    }
    let stat = |name: &[u8]| {
        let mut command = at(daemon.addr, &["-o", "json", "stat"]);
        command.arg(OsStr::from_bytes(name));
        let end = run(command);
        assert_eq!(end.err, "");
        (end.status, end.out.lines().count())
    };
    assert_eq!(stat(b"\xff\xfe"), (0, 1));
    assert_eq!(stat("\u{fffd}\u{fffd}".as_bytes()), (0, 1));
    let mut command = at(daemon.addr, &["-o", "json", "ls"]);
    let end = run({
        command.arg(OsStr::from_bytes(b"\xff"));
        command
    });
    assert!(
        end.out.contains("\"key_hex\":\"fffe\"") && end.out.matches("\"key\"").count() == 1,
        "{end:?}"
    );
    // Of a server that knows neither show nor key_hex nothing is claimed.
    let older = older("ok {\"locks\":[{\"key\":\"\u{fffd}\"}]}\n");
    for (name, status) in [(&b"\xff"[..], 76), (b"\xff\xff", 1)] {
        let mut command = at(older, &["stat"]);
        command.arg(OsStr::from_bytes(name));
        assert_eq!(run(command).status, status);
    }
}

#[test]
fn stat_shows_the_lock_and_the_semaphore_of_a_name() {
    let daemon = Daemon::start(&[]);
    let (mut lock, mut semaphore) = (daemon.connect(), daemon.connect());
    let stat = |args: &[&str]| run(at(daemon.addr, &[&["stat", "k"], args].concat()));
    let kinds = |args: &[&str]| {
        let end = stat(&[&["-o", "json"], args].concat());
        let kind = |line: &str| line.contains("\"kind\":\"semaphore\"");
        (end.status, end.out.lines().map(kind).collect::<Vec<_>>())
    };
    assert_eq!(kinds(&[]), (1, vec![]));
    semaphore.send("sl\nk\n0 3\n");
    semaphore.is_granted(33);
    assert_eq!(kinds(&[]), (0, vec![true]));
    assert_eq!(kinds(&["-l", "1"]), (0, vec![true]));
    assert!(stat(&["-o", "sh"]).out.starts_with("DFLOCK_LIMIT=3\n"));
    lock.takes("k");
    assert_eq!(kinds(&[]), (0, vec![false, true]));
    assert_eq!(kinds(&["-l", "1"]), (0, vec![true]));
    // Of each its row, and a line for each hold.
    assert_eq!(stat(&[]).out.lines().count(), 2 * (2 + 1 + 2) + 1);
    assert!(stat(&["-o", "sh"]).out.starts_with("DFLOCK_LIMIT=1\n"));
    drop(semaphore);
    eventually("it is free", || kinds(&[]) == (0, vec![false]));
}

/// A server that knows no `show` and hangs up behind its error, with these `stats`.
pub fn older(stats: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut peer = BufReader::new(stream);
                let mut frame = Vec::new();
                loop {
                    frame.clear();
                    for _ in 0..3 {
                        peer.read_until(b'\n', &mut frame).unwrap();
                    }
                    let answer = match frame.split(|&byte| byte == b'\n').next().unwrap() {
                        b"" => return,
                        b"stats" => stats,
                        _ => "error\n",
                    };
                    peer.get_mut().write_all(answer.as_bytes()).unwrap();
                    if answer == "error\n" {
                        return;
                    }
                }
            });
        }
    });
    addr
}

#[test]
fn an_older_server_is_shown_as_far_as_its_stats_go() {
    let entry = r#"{"key":"k","owner_conn_id":7,"lease_expires_in_s":12.5,"waiters":1}"#;
    let stats = format!("ok {{\"locks\":[{entry}],\"semaphores\":[]}}\n");
    let addr = older(stats.leak());
    for args in [&["ls"][..], &["stat", "k"]] {
        let end = run(at(addr, args));
        let row = "k    1/1   1        -      -     -         12.5s";
        assert_eq!(end.out.lines().last(), Some(row), "{end:?}");
        // Nobody is to believe that nobody waits.
        let note = format!(
            "dflock: {addr} is an older server: it does not tell who waits, nor who holds a semaphore\n"
        );
        let is_one = args[0] == "stat";
        assert_eq!(end.err, if is_one { &note } else { "" });
    }
    let json = run(at(addr, &["-o", "json", "stat", "k"]));
    assert!(
        !json.out.contains("queue") && json.err.is_empty(),
        "{json:?}"
    );
    assert_eq!(run(at(addr, &["stat", "other"])).status, 1);
}

#[test]
fn stat_shows_every_hold_and_every_wait_in_order() {
    let daemon = Daemon::start(&[]);
    let (mut holder, mut first, mut second) =
        (daemon.connect(), daemon.connect(), daemon.connect());
    holder.says("id", "_", "the holder", "ok");
    let token = holder.takes("deploy");
    first.waits("deploy", "100");
    second.says("id", "_", "second", "ok");
    second.waits("deploy", "100");
    let end = run(at(daemon.addr, &["stat", "deploy"]));
    let lines: Vec<Vec<&str>> = end
        .out
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    let fence = u64::from_str_radix(&token[..16], 16).unwrap().to_string();
    assert_eq!(
        lines[0],
        [
            "KEY", "HELD", "WAITING", "OWNER", "FROM", "HELD FOR", "LEFT"
        ]
    );
    assert_eq!(lines[1][..4], ["deploy", "1/1", "2", "'the holder'"]);
    assert_eq!(lines[3], ["OWNER", "FROM", "FOR", "LEFT", "FENCE"]);
    assert_eq!(
        (lines[4][0], lines[4][1], lines[4][5]),
        ("holds", "'the holder'", &fence[..])
    );
    assert_eq!((lines[5][0], lines[5][1]), ("waits, 1.", "-"));
    assert_eq!((lines[6][0], lines[6][1]), ("waits, 2.", "second"));
    assert_eq!(
        lines[5][2],
        first.stream().local_addr().unwrap().to_string()
    );
    assert_eq!(lines.len(), 7);
    let json = run(at(daemon.addr, &["-o", "json", "stat", "deploy"])).out;
    for part in [
        &format!("\"fence\":\"{fence}\"")[..],
        "\"queue\":[{\"connection\":2,",
        "\"detached\":false",
    ] {
        assert!(json.contains(part), "{json}");
    }
}

#[test]
fn a_renewal_that_shortens_the_lease_of_a_slot_says_so_too() {
    let daemon = Daemon::start(&[]);
    let end = run(at(
        daemon.addr,
        &["-l", "2", "--lease", "600", "acquire", "k"],
    ));
    let token = end.out.split(' ').next().unwrap();
    let end = run(at(daemon.addr, &["-l", "2", "renew", "k", token]));
    assert!(end.err.contains("the lease is shorter now"), "{end:?}");
    let end = run(at(daemon.addr, &["stat", "k"]));
    assert!(end.out.contains("(detached)"), "{end:?}");
}

#[test]
fn stat_shows_a_thousand_of_each_and_how_many_more_there_are() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    for _ in 0..1001 {
        holder.send("sl\nk\n0 1001\n");
        holder.is_granted(33);
    }
    let end = run(at(daemon.addr, &["stat", "k"]));
    let lines: Vec<&str> = end.out.lines().collect();
    assert!(lines[1].starts_with("k    1001/1001  0 "), "{end:?}");
    assert_eq!(lines.len(), 2 + 1 + 1 + 1000 + 1);
    assert_eq!(lines[1004], "1 more hold it");
}

#[test]
fn an_answer_to_show_that_tells_nothing_of_the_key_is_not_taken_for_a_free_key() {
    let addr = says("ok {\"locks\":[]}\n");
    run(at(addr, &["stat", "k"])).complains(76);
}

#[test]
fn a_step_that_only_asks_takes_no_longer_than_it_was_told() {
    // It accepts, and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = mute.local_addr().unwrap();
    let ends = |addr, step: &[&str]| {
        let start = Instant::now();
        let end = run(at(addr, &[&["-w", "0.3"], step].concat()));
        let spent = start.elapsed().as_secs_f64();
        // Without it they take 10 s at least.
        assert!((0.3..8.0).contains(&spent), "{step:?}: {spent}");
        end.complains(69);
        let head = format!("dflock: cannot reach {addr}: no answer");
        assert!(end.err.starts_with(&head), "{end:?}");
        end.err
    };
    for step in [&["ping"][..], &["ls"], &["stat", "k"], &["break", "k"]] {
        let text = ends(addr, step);
        // What was sent may have been carried out.
        let may_be_done = text.contains("before you break again");
        assert_eq!(may_be_done, step[0] == "break", "{text}");
    }
    // It answers for ever, a little at a time.
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = slow.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in slow.incoming().map_while(Result::ok) {
            stream.write_all(b"ok {").unwrap();
            while stream.write_all(b" ").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        }
    });
    for step in [&["ls"][..], &["stat", "k"]] {
        ends(addr, step);
    }
}

#[test]
fn all_servers_are_asked_within_one_wait() {
    let daemon = Daemon::start(&[]);
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = mute.local_addr().unwrap().to_string();
    let good = daemon.addr.to_string();
    let servers = [&mute, &good, &mute, &mute].map(String::as_str);
    let start = Instant::now();
    let end = run(dflock(&[
        "--server",
        &servers.join(","),
        "--wait",
        "1",
        "ping",
    ]));
    let spent = start.elapsed().as_secs_f64();
    assert!(spent < 2.5, "{spent}");
    assert_eq!((end.status, end.err.lines().count()), (69, 3), "{end:?}");
}
