//! `dflock ls` and `dflock stat`: names of any bytes, and what is shown of a key. Not here: servers that are gone, in
//! steps.rs. Invariant: as in main.rs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::daemon::{Daemon, eventually, tools};
use crate::stage::{at, run};
use crate::steps::says;

#[test]
fn names_move_no_cursor() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("cl\u{e9}\u{1b}[2J\u{7f}\\");
    let table = run(at(daemon.addr, &["ls"])).out;
    let row = table.lines().nth(1).unwrap();
    assert!(
        row.starts_with("$'cl\u{e9}\\033[2J\\177\\\\'   1/1 "),
        "{row}"
    );
    let heading = table.lines().next().unwrap();
    assert_eq!(heading.chars().count(), row.chars().count(), "{table}");
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
    // Of a server that knows no key_hex nothing is claimed.
    let older = says("ok {\"locks\":[{\"key\":\"\u{fffd}\"}]}\n");
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
    assert_eq!(stat(&[]).out.lines().count(), 3);
    assert!(stat(&["-o", "sh"]).out.starts_with("DFLOCK_LIMIT=1\n"));
    drop(semaphore);
    eventually("it is free", || kinds(&[]) == (0, vec![false]));
}
