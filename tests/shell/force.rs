//! `dflock break`: who may, what it ends, and what it says. Not here: the rules of the server, which have dialogues.
//! Invariant: as in main.rs.

use std::fs;

use crate::daemon::{Daemon, eventually};
use crate::listing::older;
use crate::stage::{Folder, Run, at, run, waiters};

#[test]
fn a_break_ends_all_holds_and_serves_the_next() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    let token = holder.takes("k");
    let mut waiter = Run::start(at(daemon.addr, &["k", "echo", "mine"]));
    eventually("it waits", || waiters(&daemon, "k") == 1);
    let end = run(at(daemon.addr, &["break", "k"]));
    assert_eq!((end.status, &*end.out, &*end.err), (0, "1\n", ""));
    waiter.hears("mine");
    assert_eq!(waiter.status(), 0);
    holder.says("n", "k", &token, "error");
    let end = run(at(daemon.addr, &["break", "k"]));
    assert_eq!((end.status, &*end.out, &*end.err), (1, "0\n", ""));
}

#[test]
fn a_fence_chooses_one_hold_in_decimal_or_in_16_digits() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    let mut slot = || {
        holder.send("sl\nk\n0 3\n");
        holder.is_granted(33)
    };
    let (first, second, _third) = (slot(), slot(), slot());
    let held = || {
        let end = run(at(daemon.addr, &["-o", "json", "stat", "k"]));
        let (_, rest) = end.out.split_once("\"holders\":").unwrap();
        rest.split(',').next().unwrap().to_string()
    };
    let breaks = |args: &[&str]| {
        let end = run(at(daemon.addr, &[&["break", "k"], args].concat()));
        assert_eq!(end.err, "");
        (end.status, end.out)
    };
    let none = |out: &str| (1, out.to_string());
    // The lock of that name is another one.
    assert_eq!(breaks(&[]), none("0\n"));
    let decimal = u64::from_str_radix(&first[..16], 16).unwrap().to_string();
    assert_eq!(breaks(&["-l", "1", &decimal]), (0, "1\n".to_string()));
    assert_eq!(breaks(&["-l", "1", &decimal]), none("0\n"));
    assert_eq!(held(), "2");
    let json = "{\"broken\":1}\n".to_string();
    assert_eq!(breaks(&["-o", "json", "-l", "1", &second[..16]]), (0, json));
    assert_eq!(held(), "1");
    assert_eq!(
        breaks(&["-o", "sh", "-l", "1"]),
        (0, "DFLOCK_BROKEN=1\n".to_string())
    );
}

#[test]
fn break_ends_what_it_is_told_to_and_says_how_much_that_was() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    let breaks = |args: &[&str]| {
        let end = run(at(daemon.addr, &[&["break"], args].concat()));
        (end.status, end.out)
    };
    let answer = |status, text: &str| (status, text.to_string());
    let decimal = |token: &str| u64::from_str_radix(&token[..16], 16).unwrap().to_string();
    let token = holder.takes("k");
    assert_eq!(breaks(&["k", &decimal(&token)]), answer(0, "1\n"));
    let token = holder.takes("k");
    assert_eq!(breaks(&["k", &token[..16]]), answer(0, "1\n"));
    assert_eq!(breaks(&["k", &token[..16]]), answer(1, "0\n"));
    for _ in 0..3 {
        holder.send("sl\nk\n0 3\n");
        holder.is_granted(33);
    }
    holder.takes("k");
    assert_eq!(breaks(&["k", "-l", "3"]), answer(0, "3\n"));
    assert_eq!(breaks(&["k"]), answer(0, "1\n"));
    assert_eq!(breaks(&["k"]), answer(1, "0\n"));
    for bad in [
        "x",
        "0",
        "0000000000000000",
        "",
        "-1",
        "18446744073709551616",
        "00000000000000fg",
        &token,
    ] {
        let end = run(at(daemon.addr, &["break", "k", bad]));
        end.complains(64);
        // A token proves a hold, and a screen is not the place for it.
        assert!(!end.err.contains(&token[16..]), "{end:?}");
    }
    assert_eq!(breaks(&["k", "1", "2"]).0, 64);
}

#[test]
fn only_an_administrator_breaks_and_others_hear_what_it_takes() {
    let folder = Folder::new();
    let token = |name: &str| {
        let path = folder.path(name);
        fs::write(&path, format!("{name}\n")).unwrap();
        path
    };
    let (user, root) = (token("user"), token("root"));
    let with = |daemon: &Daemon, file: Option<&str>| {
        let mut command = at(daemon.addr, &["break", "k"]);
        command.envs(file.map(|file| ("DFLOCK_TOKEN_FILE", file)));
        run(command)
    };
    let refused = |daemon: &Daemon, file, how: &str| {
        let end = with(daemon, file);
        end.complains(77);
        let text = format!(
            "dflock: {} lets only an administrator break locks: {how}\n",
            daemon.addr
        );
        assert_eq!(end.err, text);
    };
    let give = "the token of its --admin-token goes into --token-file \
                (a server without tokens takes a break from its own host)";
    let daemon = Daemon::start(&["--admin-token", "root"]);
    let mut holder = daemon.connect();
    holder.takes("k");
    refused(&daemon, None, give);
    assert_eq!(with(&daemon, Some(&root)).out, "1\n");
    let daemon = Daemon::start(&["--admin-token", "root", "--auth-token", "user"]);
    refused(&daemon, None, give);
    let other = "the token in --token-file is not that of its --admin-token";
    refused(&daemon, Some(&user), other);
    assert_eq!(with(&daemon, Some(&root)).out, "0\n");
    let daemon = Daemon::start(&["--auth-token", "user"]);
    assert_eq!(with(&daemon, Some(&user)).out, "0\n");
}

#[test]
fn an_older_server_that_knows_no_break_is_status_76() {
    let addr = older("ok {}\n");
    let end = run(at(addr, &["break", "k"]));
    end.complains(76);
    let text = format!("dflock: {addr} knows no break: it is an older version\n");
    assert_eq!(end.err, text);
}

#[test]
fn a_word_that_names_the_step_is_a_key_behind_two_dashes() {
    let daemon = Daemon::start(&[]);
    let end = run(at(daemon.addr, &["--", "break", "echo", "-x"]));
    assert_eq!((end.status, &*end.out), (0, "-x\n"), "{end:?}");
    let end = run(at(daemon.addr, &["break", "-c", "echo x"]));
    assert_eq!((end.status, &*end.out), (0, "x\n"), "{end:?}");
    let mut holder = daemon.connect();
    holder.takes("-x");
    assert_eq!(run(at(daemon.addr, &["break", "--", "-x"])).out, "1\n");
}
