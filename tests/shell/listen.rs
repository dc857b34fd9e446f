//! `dflock listen` and `dflock signal` against the real server: output, receivers, and how listening ends. Invariant:
//! as in main.rs; a test sees that its listener listens before it signals.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use crate::daemon::{Daemon, eventually};
use crate::proxy::{Net, Proxy};
use crate::stage::{End, Folder, Run, around, at, dflock, run};

/// A listener that listens.
#[track_caller]
fn listens(mut command: Command) -> Run {
    let mut run = Run::start({
        command.args(["listen", "jobs.>"]);
        command
    });
    assert_eq!(run.complaint(), "dflock: listening\n");
    run
}

fn signals(daemon: &Daemon, channel: &str, payload: &str) -> End {
    run(at(daemon.addr, &["-o", "sh", "signal", channel, payload]))
}

#[track_caller]
fn reaches(daemon: &Daemon, channel: &str, payload: &str, receivers: u32) {
    let end = signals(daemon, channel, payload);
    let out = format!("DFLOCK_RECEIVERS={receivers}\n");
    assert_eq!(
        (end.status, end.out, end.err),
        (0, out, String::new()),
        "{channel}"
    );
}

#[test]
fn a_listener_prints_channel_and_payload_at_once_as_they_are() {
    let daemon = Daemon::start(&[]);
    let mut listener = listens(at(daemon.addr, &["-v"]));
    reaches(&daemon, "jobs.mail", "letter 7", 1);
    listener.hears("jobs.mail letter 7");
    reaches(&daemon, "jobs", "not this", 0);
    reaches(&daemon, "jobs.a.b", "  'x' \"y\" \\ \t ", 1);
    listener.hears("jobs.a.b   'x' \"y\" \\ \t ");
    reaches(&daemon, "jobs.long", &"x".repeat(65_000), 1);
    listener.hears(&format!("jobs.long {}", "x".repeat(65_000)));
    assert!(listener.is_running());
}

#[test]
fn any_bytes_are_printed_and_in_json_they_are_one_line_of_utf_8() {
    let daemon = Daemon::start(&[]);
    let folder = Folder::new();
    let file = folder.path("raw");
    let mut raw = at(daemon.addr, &["-v", "listen", "jobs.>"]);
    raw.stdout(fs::File::create(&file).unwrap());
    let mut raw = raw.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = [0; "dflock: listening\n".len()];
    raw.stderr.take().unwrap().read_exact(&mut said).unwrap();
    let mut json = listens(at(daemon.addr, &["-v", "-o", "json"]));
    let payload = b"a\xff\x1b\"\rb";
    let mut command = at(daemon.addr, &["-v", "signal", "jobs.mail"]);
    command.arg(OsStr::from_bytes(payload));
    assert_eq!(run(command).err, "dflock: receivers: 2\n");
    json.hears(r#"{"channel":"jobs.mail","payload":"a�\u001b\"\u000db"}"#);
    let line = [b"jobs.mail ", &payload[..], b"\n"].concat();
    eventually("it is in the file", || fs::read(&file).unwrap() == line);
    raw.kill().unwrap();
    raw.wait().unwrap();
}

#[test]
fn the_members_of_a_group_take_turns_on_either_side_of_the_step() {
    let daemon = Daemon::start(&[]);
    let mut first = listens(at(daemon.addr, &["-v", "--group", "g"]));
    let args = ["-v", "listen", "jobs.>", "--group=g"];
    let mut second = Run::start(at(daemon.addr, &args));
    assert_eq!(second.complaint(), "dflock: listening\n");
    let args = ["-v", "listen", "jobs.>", "--group", "other"];
    let mut third = Run::start(at(daemon.addr, &args));
    assert_eq!(third.complaint(), "dflock: listening\n");
    for n in ["1", "2"] {
        reaches(&daemon, "jobs.a", n, 2);
    }
    first.hears("jobs.a 1");
    second.hears("jobs.a 2");
    for n in ["1", "2"] {
        third.hears(&format!("jobs.a {n}"));
    }
}

#[test]
fn signal_says_how_many_heard_it_only_if_asked() {
    let daemon = Daemon::start(&[]);
    let _listener = listens(at(daemon.addr, &["-v"]));
    let say = |args: &[&str]| {
        let end = run(at(
            daemon.addr,
            &[args, &["signal", "jobs.mail", "x"]].concat(),
        ));
        assert_eq!(end.status, 0, "{end:?}");
        (end.out, end.err)
    };
    let pair = |out: &str, err: &str| (out.to_string(), err.to_string());
    assert_eq!(say(&[]), pair("", ""));
    assert_eq!(say(&["-v"]), pair("", "dflock: receivers: 1\n"));
    assert_eq!(say(&["-o", "json"]), pair("{\"receivers\":1}\n", ""));
}

#[test]
fn a_channel_has_one_server_and_who_listens_listens_to_all() {
    let daemons = [Daemon::start(&[]), Daemon::start(&[])];
    let servers = daemons.each_ref().map(|daemon| daemon.addr.to_string());
    let servers = servers.join(",");
    let mut listener = listens(dflock(&["--server", &servers, "-v"]));
    // CRC-32 of the first is odd, of the second even.
    for (channel, at) in [("jobs.mail", 1), ("jobs.a", 0)] {
        let mut near = daemons[at].connect();
        near.says("listen", channel, "", "ok");
        let args = ["--server", &servers, "signal", channel, "x"];
        assert_eq!(run(dflock(&args)).status, 0);
        near.hears(&format!("sig {channel} x"));
        listener.hears(&format!("{channel} x"));
    }
    drop(daemons);
    let end = listener.end();
    assert_eq!((end.status, end.err.lines().count()), (69, 1), "{end:?}");
}

#[test]
fn a_unix_signal_ends_it_also_when_nobody_reads_or_answers() {
    let daemon = Daemon::start(&[]);
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let mut listener = listens(at(daemon.addr, &["-v"]));
        listener.signal(name);
        assert_eq!(listener.status(), 128 + number);
    }
    let mut listener = listens(at(daemon.addr, &["-v"]));
    // More than fits between the two, which the server notices.
    let payload = "x".repeat(60_000);
    let end = (0..1000).find(|_| {
        let end = signals(&daemon, "jobs.mail", &payload);
        assert_eq!(end.status, 0, "{end:?}");
        end.out == "DFLOCK_RECEIVERS=0\n"
    });
    assert!(end.is_some());
    listener.signal("TERM");
    assert_eq!(listener.status(), 128 + 15);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut listener = Run::start(at(silent.local_addr().unwrap(), &["listen", "jobs.>"]));
    let _connection = silent.accept().unwrap();
    listener.signal("TERM");
    assert_eq!(listener.status(), 128 + 15);
}

#[test]
fn a_unix_signal_that_its_parent_ignores_it_ignores() {
    let daemon = Daemon::start(&[]);
    for name in ["HUP", "INT", "QUIT"] {
        let script = format!("trap '' {name}; exec dflock -v listen 'jobs.>'");
        let mut listener = Run::start(around(daemon.addr, &script));
        assert_eq!(listener.complaint(), "dflock: listening\n");
        listener.signal(name);
        // The signal was there before this line.
        reaches(&daemon, "jobs.mail", name, 1);
        listener.hears(&format!("jobs.mail {name}"));
        listener.signal("TERM");
        assert_eq!(listener.status(), 128 + 15);
    }
}

/// A shell ends its script only if the signal itself has ended the command.
#[test]
fn an_interrupt_at_the_terminal_is_the_signal_that_ends_it() {
    let daemon = Daemon::start(&[]);
    let mut listener = Run::on_terminal(daemon.addr, "dflock -v listen 'jobs.>'");
    assert_eq!(listener.line(), "dflock: listening\r\n");
    listener.send("\x03");
    assert_eq!(listener.status(), -2);
    let idle = daemon.fds();
    let mut bench = Run::on_terminal(daemon.addr, "dflock bench --seconds 60");
    eventually("it measures", || daemon.fds() > idle + 5);
    bench.send("\x03");
    assert_eq!(bench.status(), -2);
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    let daemon = Daemon::start(&[]);
    let mut listener = listens(at(daemon.addr, &["-v"]));
    listener.hang_up();
    assert_eq!(listener.status(), 128 + 13);
    // A pipe without a reader, and the line that notices.
    let mut pipe = at(daemon.addr, &["listen", "jobs.>"]);
    let mut pipe = pipe.stdout(Stdio::piped()).spawn().unwrap();
    drop(pipe.stdout.take());
    let mut status = None;
    eventually("it has ended", || {
        status = pipe.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(128 + 13));
}

#[test]
fn a_connection_that_is_lost_is_status_69_and_one_line() {
    let mut daemon = Daemon::start(&[]);
    let proxy = Proxy::to(daemon.addr);
    let cut = listens(at(proxy.addr, &["-v"]));
    proxy.set(Net::Cut);
    cut.end().complains(69);
    let drained = listens(at(daemon.addr, &["-v"]));
    daemon.signal("TERM");
    daemon.event("draining");
    drained.end().complains(69);
    drop(proxy);
    let addr = daemon.addr;
    drop(daemon);
    run(at(addr, &["listen", "jobs.>"])).complains(69);
    run(at(addr, &["signal", "jobs.mail", "x"])).complains(69);
}

#[test]
fn a_server_that_refuses_or_talks_nonsense_is_told_from_one_that_is_gone() {
    let daemon = Daemon::start(&["--auth-token", "sesame"]);
    run(at(daemon.addr, &["listen", "jobs.>"])).complains(77);
    run(at(daemon.addr, &["signal", "jobs.mail", "x"])).complains(77);
    for nonsense in ["error\n", "queued\n", "ok\nok\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let client = Run::start(at(addr, &["listen", "jobs.>"]));
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(nonsense.as_bytes()).unwrap();
        client.end().complains(76);
    }
}

#[test]
fn a_mistake_is_status_64_and_one_line() {
    let (long, large) = ("c".repeat(257), "x".repeat(65_536));
    let cases: &[&[&str]] = &[
        &["signal"],
        &["signal", "c"],
        &["signal", "c", ""],
        &["signal", "c", " \t"],
        &["signal", "c", "a\nb"],
        &["signal", "c", "x", "y"],
        &["signal", "a.*", "x"],
        &["signal", "", "x"],
        &["signal", "a b", "x"],
        &["signal", &long, "x"],
        &["signal", "c", &large],
        &["listen"],
        &["listen", ""],
        &["listen", "a*"],
        &["listen", ">.a"],
        &["listen", "a b"],
        &["listen", &long],
        &["listen", "c", "x"],
        &["listen", "c", "--group"],
        &["listen", "c", "--group", ""],
        &["listen", "c", "--group", " g"],
        &["listen", "c", "-o", "xml"],
        &["--group", "", "listen", "c"],
        &["-o", "sh", "listen", "c"],
    ];
    for args in cases {
        run(dflock(args)).complains(64);
    }
}

#[test]
fn a_key_may_have_the_name_of_a_step() {
    let daemon = Daemon::start(&[]);
    for args in [
        &["--", "signal", "true"][..],
        &["listen", "-c", "true"],
        &["--", "listen", "--", "true"],
    ] {
        assert_eq!(run(at(daemon.addr, args)).status, 0, "{args:?}");
    }
}
