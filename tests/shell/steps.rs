//! The steps of `dflock`, which hold nothing: their output, their messages about servers that are gone or are no
//! dflockd, and their options. Not here: `signal` and `listen`, in `listen.rs`, and names in tables, in `listing.rs`.
//! Invariant: as in main.rs.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::daemon::{Daemon, eventually};
use crate::stage::{End, Folder, at, dflock, run};

const KEEPS: &[&str] = &["--no-auto-release-on-disconnect"];

/// An address without a server.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A server that gives this answer to every request, on each connection. With an empty answer it hangs up.
pub fn says(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The client may be gone.
            let _ = stream.read(&mut [0; 200]);
            let _ = stream.write_all(answer.as_bytes());
            if !answer.is_empty() {
                let _ = stream.read(&mut [0; 200]);
            }
        }
    });
    addr
}

/// It ended with this status, nothing on stdout and this line on stderr.
#[track_caller]
fn fails(command: Command, status: i32, text: &str) {
    let end = run(command);
    end.complains(status);
    assert_eq!(end.err.lines().next(), Some(&*format!("dflock: {text}")));
}

fn list(servers: &[&str], args: &[&str]) -> End {
    run(dflock(&[&["--server", &servers.join(",")], args].concat()))
}

/// Also the variable, which is read before anybody is asked.
#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_refuses_each_of_its_options() {
    for args in [
        &["--tls"][..],
        &["--tls-ca", "f"],
        &["--tls-cert", "f"],
        &["--tls-key", "f"],
        &["--tls-server-name", "n"],
    ] {
        let text = format!("{}: this build has no TLS", args[0]);
        fails(dflock(&[args, &["ping"]].concat()), 64, &text);
    }
    let mut command = dflock(&["ping"]);
    command.env("DFLOCK_TLS_CA", "f");
    fails(command, 64, "DFLOCK_TLS_CA: this build has no TLS");
}

// Output that cannot be written.

#[test]
fn an_acquire_that_nobody_hears_of_is_given_back() {
    let daemon = Daemon::start(KEEPS);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let readable = || File::open("/dev/null").unwrap();
    for (out, status) in [(full(), 71), (readable(), 71)] {
        for args in [&["acquire", "k"][..], &["hold", "k"]] {
            let mut command = at(daemon.addr, args);
            let (stdin, _open) = io::pipe().unwrap();
            let ended = command.stdout(out.try_clone().unwrap()).stdin(stdin);
            let ended = ended.output().unwrap();
            assert_eq!(ended.status.code(), Some(status), "{ended:?}");
            let err = String::from_utf8(ended.stderr).unwrap();
            assert!(err.starts_with("dflock: standard output: "), "{err}");
            assert_eq!(run(at(daemon.addr, &["stat", "k"])).status, 1);
        }
    }
    let mut command = at(daemon.addr, &["acquire", "k"]);
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut child = command.stdout(writer).spawn().unwrap();
    let mut status = None;
    eventually("it has ended", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(128 + 13));
    assert_eq!(run(at(daemon.addr, &["stat", "k"])).status, 1);
}

#[test]
fn the_fence_is_a_string_in_json_because_a_double_cannot_hold_it() {
    let daemon = Daemon::start(KEEPS);
    let end = run(at(daemon.addr, &["acquire", "k", "-o", "json"]));
    let (token, rest) = end.out.strip_prefix("{\"token\":\"").unwrap().split_at(32);
    let fence = u64::from_str_radix(&token[..16], 16).unwrap();
    assert!(fence > 1 << 53);
    assert_eq!(rest, format!("\",\"fence\":\"{fence}\",\"lease\":33}}\n"));
    let end = run(at(daemon.addr, &["renew", "-o", "sh", "k", token]));
    let line = format!("DFLOCK_FENCE={fence}");
    assert_eq!(end.out.lines().nth(1), Some(&*line));
}

// Messages about a server.

#[test]
fn errors_name_the_server() {
    let gone = nowhere();
    let hangs_up = says("").to_string();
    let nonsense = says("ok 18e9eb98d4e91d15c5bb0cdc3986ff01 33\n").to_string();
    for args in [
        &["ping"][..],
        &["ls"],
        &["stat", "k"],
        &["break", "k"],
        &["-n", "acquire", "k"],
        &["k", "true"],
    ] {
        let end = list(&[&gone], args);
        let head = format!("dflock: cannot reach {gone}: Connection refused");
        assert!(end.status == 69 && end.err.starts_with(&head), "{end:?}");
        let end = list(&[&nonsense], args);
        let line = format!(
            "dflock: {nonsense} is not a dflockd server: it answered \"ok 18e9eb98d4e91d15... 33\"\n"
        );
        assert_eq!((end.status, &end.err), (76, &line), "{end:?}");
    }
    fails(
        dflock(&["--server", &hangs_up, "ping"]),
        69,
        &format!("cannot reach {hangs_up}: the connection ended"),
    );
    let other = says("ok {\n");
    let text = format!("{other} is not a dflockd server: its answer is not JSON");
    fails(at(other, &["ls"]), 76, &text);
}

#[test]
fn a_token_is_wanted_or_another_or_none() {
    let folder = Folder::new();
    let wrong = folder.path("wrong");
    fs::write(&wrong, "simsalabim\n").unwrap();
    let (open, closed) = (
        Daemon::start(&[]),
        Daemon::start(&["--auth-token", "sesame"]),
    );
    for args in [
        &["ping"][..],
        &["ls"],
        &["stat", "k"],
        &["signal", "a", "x"],
        &["listen", "a"],
        &["bench"],
        &["k", "true"],
        &["--id", "me", "acquire", "k"],
    ] {
        let with = |addr: SocketAddr| {
            let mut command = at(addr, args);
            command.env("DFLOCK_TOKEN_FILE", &wrong);
            command
        };
        for (command, what) in [
            (at(closed.addr, args), "a token, see --token-file"),
            (with(closed.addr), "another token, see --token-file"),
            (
                with(open.addr),
                "no token: leave out --token-file and DFLOCK_TOKEN_FILE, or check --server",
            ),
        ] {
            let end = run(command);
            end.complains(77);
            let is_of = |addr| end.err == format!("dflock: {addr} wants {what}\n");
            assert!(is_of(closed.addr) || is_of(open.addr), "{args:?} {end:?}");
        }
    }
}

#[test]
fn the_limit_that_others_use_is_named_if_the_server_tells_it() {
    let limits = |daemon: &Daemon, text: &str| {
        let mut holder = daemon.connect();
        holder.send("sl\nk\n0 3\n");
        holder.is_granted(33);
        fails(at(daemon.addr, &["-l", "2", "k", "true"]), 64, text);
        fails(
            at(daemon.addr, &["-n", "-l", "2", "acquire", "k"]),
            64,
            text,
        );
    };
    limits(&Daemon::start(&[]), "others use the key with --limit 3");
    // It has no room for the question.
    let full = Daemon::start(&["--max-connections", "2"]);
    limits(&full, "others use the key with another --limit");
}

// Several servers.

#[test]
fn of_several_servers_those_that_answer_are_shown() {
    let daemons = [Daemon::start(&[]), Daemon::start(&[])];
    let [one, two] = daemons.each_ref().map(|daemon| daemon.addr.to_string());
    let gone = nowhere();
    let mut holders = daemons.each_ref().map(|daemon| daemon.connect());
    holders[0].takes("b");
    thread::sleep(Duration::from_millis(20));
    holders[1].takes("a");
    let end = list(&[&one, &two], &["ls"]);
    let lines: Vec<&str> = end.out.lines().collect();
    assert!(lines[0].ends_with("  LEFT   SERVER"), "{end:?}");
    // The longest held comes first.
    assert!(lines[1].starts_with("b ") && lines[1].ends_with(&format!("  {one}")));
    assert!(lines[2].starts_with("a ") && lines[2].ends_with(&format!("  {two}")));
    let end = list(&[&one, &two], &["ls", "b"]);
    assert_eq!(end.out.lines().count(), 2, "{end:?}");
    let end = list(&[&one, &gone, &two], &["ls", "-o", "json"]);
    let complaint = format!("dflock: cannot reach {gone}: ");
    assert!(
        end.err.starts_with(&complaint) && end.err.lines().count() == 1,
        "{end:?}"
    );
    assert_eq!(end.status, 69);
    for server in [&one, &two] {
        assert!(
            end.out.contains(&format!("\"server\":\"{server}\"")),
            "{end:?}"
        );
    }
    let end = list(&[&gone, &one, &gone], &["ping"]);
    assert_eq!((end.status, end.err.lines().count()), (69, 2), "{end:?}");
    assert_eq!(
        list(&[&one, &two], &["ping"]),
        End {
            status: 0,
            out: String::new(),
            err: String::new()
        }
    );
    let end = list(&[&gone, &gone], &["ls"]);
    assert_eq!((end.status, end.out.as_str()), (69, ""));
    let closed = Daemon::start(&["--auth-token", "sesame"]);
    let end = list(&[&one, &closed.addr.to_string()], &["ping"]);
    let line = format!("dflock: {} wants a token, see --token-file\n", closed.addr);
    assert_eq!((end.status, end.err), (77, line));
    assert!(!list(&[&one], &["ls", "-o", "json"]).out.contains("server"));
}

// Options.

#[test]
fn options_may_stand_on_either_side_of_a_steps_words() {
    let daemon = Daemon::start(KEEPS);
    let ok = |args: &[&str]| {
        let end = run(at(daemon.addr, args));
        assert_eq!((end.status, end.err.as_str()), (0, ""), "{args:?}");
        end.out
    };
    let line = ok(&["acquire", "k", "--lease", "60", "-n"]);
    assert!(line.ends_with(" 60\n"), "{line}");
    let token = line.split(' ').next().unwrap();
    assert_eq!(ok(&["renew", "k", "--lease=50", token]), "50\n");
    assert!(ok(&["ls", "-o", "json"]).starts_with("[{"));
    assert!(ok(&["ls", "k", "-v"]).contains("OWNER"));
    assert_eq!(ok(&["break", "k", "-o", "sh"]), "DFLOCK_BROKEN=1\n");
    let line = ok(&["acquire", "k", "--lease", "60", "-n"]);
    let token = line.split(' ').next().unwrap();
    assert_eq!(ok(&["release", "k", token, "--id", "me"]), "");
    let table = ok(&["acquire", "-l", "2", "-osh", "k"]);
    assert!(table.starts_with("DFLOCK_TOKEN="), "{table}");
    assert!(ok(&["stat", "k", "-l", "2"]).contains(" 1/2 "));
    assert_eq!(
        ok(&["signal", "a", "x", "-o", "json"]),
        "{\"receivers\":0}\n"
    );
    assert_eq!(
        ok(&["signal", "-o", "json", "a", "--", "-x"]),
        "{\"receivers\":0}\n"
    );
    let help = ok(&["--help"]);
    for args in [
        &["ls", "-h"][..],
        &["ping", "--help"],
        &["help"],
        &["stat", "-h", "-z"],
    ] {
        assert_eq!(ok(args), help);
    }
    assert_eq!(ok(&["ping", "--version"]), ok(&["version", "-v"]));
    // A command has its own.
    assert_eq!(ok(&["--", "stat", "echo", "-v"]), "-v\n");
    assert_eq!(ok(&["ls", "-c", "echo x"]), "x\n");
}

#[test]
fn an_option_of_no_use_is_status_64_and_named() {
    let token = "18e9eb98d4e91d15c5bb0cdc3986ff01";
    let cases: &[(&[&str], &str)] = &[
        (
            &["--wait", "1", "signal", "a", "x"],
            "--wait is of no use to signal",
        ),
        (
            &["-w", "0", "ping"],
            "--wait: want more than 0 seconds for an answer, not \"0\"",
        ),
        (&["break", "k", "-n"], "-n is of no use to break"),
        (&["break", "k", "-q"], "-q is of no use to break"),
        (&["ls", "-n"], "-n is of no use to ls"),
        (&["ls", "-l", "2"], "-l is of no use to ls"),
        (&["-q", "stat", "k"], "-q is of no use to stat"),
        (&["-E", "3", "ping"], "-E is of no use to ping"),
        (&["ping", "-o", "sh"], "-o is of no use to ping"),
        (
            &["--min-hold=1", "acquire", "k"],
            "--min-hold is of no use to acquire",
        ),
        (&["renew", "k", token, "-w1"], "-w is of no use to renew"),
        (
            &["release", "k", token, "--lease", "1"],
            "--lease is of no use to release",
        ),
        (
            &["--kill-after", "1", "signal", "a", "x"],
            "--kill-after is of no use to signal",
        ),
        (
            &["--id", "me", "listen", "a"],
            "--id is of no use to listen",
        ),
        (
            &["--max-hold", "1", "listen", "a"],
            "--max-hold is of no use to listen",
        ),
        (&["-n", "bench"], "-n is of no use in front of bench"),
        (&["-o", "sh", "k", "true"], "-o is of no use to a COMMAND"),
        (
            &["--group", "g", "k", "true"],
            "--group is of no use to a COMMAND",
        ),
        (
            &["--on-lost", "term", "hold", "k"],
            "--on-lost is of no use to hold",
        ),
    ];
    for (args, text) in cases {
        fails(dflock(args), 64, text);
    }
}

#[test]
fn mistakes_say_what_would_be_right() {
    let rule = "a TOKEN has 32 lowercase hexadecimal digits, the first 16 of them not all 0";
    let (nought, upper) = ("0".repeat(32), "18E9EB98D4E91D15C5BB0CDC3986FF01");
    let long = "k".repeat(257);
    let cases: &[(&[&str], &str)] = &[
        (&["release", "k", &nought], rule),
        (&["renew", "k", upper], rule),
        (
            &["k", "-n", "true"],
            "options go before the KEY, and a COMMAND like \"-n\" behind --",
        ),
        (
            &["signal", "a", "-5"],
            "there is no option -5; a word that begins with - goes behind --",
        ),
        (
            &["a key", "true"],
            "KEY: want a word without blanks, not \"a key\"",
        ),
        (&[&long, "true"], "KEY: want 256 bytes at most, not 257"),
        (&["ping", "x"], "nothing may follow, but \"x\" does"),
        (&["break"], "want a KEY"),
        (
            &["break", "k", "0"],
            "FENCE: want a decimal number above 0, or exactly 16 hexadecimal digits, not \"0\"",
        ),
        (
            &["break", "k", "1", "2"],
            "nothing may follow, but \"2\" does",
        ),
    ];
    for (args, text) in cases {
        fails(dflock(args), 64, text);
    }
    let daemon = Daemon::start(&[]);
    let end = run(at(daemon.addr, &["k", "echo hi"]));
    end.complains(127);
    assert!(end.err.ends_with("; -c runs a shell text\n"), "{end:?}");
    let end = run(at(daemon.addr, &["k", "FOO=bar", "env"]));
    assert!(end.err.ends_with("; -c runs a shell text\n"), "{end:?}");
    let end = run(at(daemon.addr, &["brake", "k"]));
    assert!(end.err.ends_with(" (did you mean break?)\n"), "{end:?}");
    let end = run(at(daemon.addr, &["k", "no-such-program"]));
    assert!(!end.err.contains("shell text"), "{end:?}");
}

#[test]
fn a_bad_value_is_named_with_what_is_wanted() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["--max-hold", "0", "k", "true"],
            "--max-hold: want seconds, more than 0 to 9223372036, decimals allowed, not \"0\"",
        ),
        (
            &["--server", "http://h:1", "ping"],
            "--server: want HOST:PORT[,HOST:PORT...], IPv6 in brackets, | between alternatives of one server, \
             not \"http://h:1\"",
        ),
        (&["-w"], "-w: want a value behind it"),
        (
            &["--nonblock=yes", "k", "true"],
            "--nonblock: want no value, not \"yes\"",
        ),
        (
            &["--lease", "1.5", "k", "true"],
            "--lease: want whole seconds, 1 to 9223372036, not \"1.5\"",
        ),
        (
            &["bench", "--pause", "0.5"],
            "--pause: want whole milliseconds, 1 to 60000, not \"0.5\"",
        ),
        (
            &["-l", "1.5", "k", "true"],
            "-l: want a whole number, 1 to 1048576, not \"1.5\"",
        ),
        (
            &["-w", "9223372037", "k", "true"],
            "-w: want seconds, 0 to 9223372036, decimals allowed, not \"9223372037\"",
        ),
    ];
    for (args, text) in cases {
        fails(dflock(args), 64, text);
    }
}

#[test]
fn what_flock_has_and_dflock_has_not_is_refused_with_advice() {
    let bare =
        "write 'dflock KEY -- COMMAND', or, to hold a lock until stdin ends, 'dflock hold KEY'";
    let cases: &[(&[&str], &str)] = &[
        // The form with a descriptor, and a misspelt step.
        (
            &["-n", "200"],
            &format!("a descriptor like 200 cannot be held: {bare}"),
        ),
        (
            &["lst"],
            &format!("\"lst\" is no step (did you mean ls?), and a KEY wants a COMMAND: {bare}"),
        ),
        (
            &["k", "--command", "true", "x"],
            "want one text behind -c, in quotes",
        ),
        (
            &["-c", "true", "k"],
            "-c: it goes behind the KEY: dflock KEY -c 'shell text'",
        ),
        (
            &["-o", "k", "true"],
            "-o: want sh or json, not \"k\"; flock's -o is not needed here",
        ),
        (
            &["-s", "k", "true"],
            "-s: there are no shared locks: every lock is exclusive, and -l N is a semaphore that N may hold",
        ),
        (
            &["-u", "9"],
            "-u: leave it out: the lock ends with its COMMAND, and 'release KEY TOKEN' ends one of 'acquire KEY'",
        ),
        (
            &["--no-fork", "k", "true"],
            "--no-fork: leave it out: dflock runs beside the COMMAND, because it has to renew the lease",
        ),
    ];
    for (args, text) in cases {
        fails(dflock(args), 64, text);
    }
}

#[test]
fn what_flock_users_write_is_taken() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("busy");
    for option in ["-x", "-e", "--exclusive", "--close"] {
        assert_eq!(run(at(daemon.addr, &[option, "k", "true"])).status, 0);
    }
    for args in [
        &["--nb"][..],
        &["-xn"],
        &["--timeout", "0.1", "--conflict-exit-code", "1"],
    ] {
        let end = run(at(daemon.addr, &[args, &["busy", "true"]].concat()));
        assert_eq!(end.status, 1, "{end:?}");
    }
    let end = run(at(daemon.addr, &["k", "--command", "exit 7"]));
    assert_eq!(end.status, 7, "{end:?}");
}

#[test]
fn a_key_that_begins_with_a_dash_goes_behind_two() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("-x");
    assert_eq!(run(at(daemon.addr, &["-n", "--", "-x", "true"])).status, 1);
    let end = run(at(daemon.addr, &["stat", "--", "-x"]));
    assert!(end.status == 0 && end.out.contains("\n-x "), "{end:?}");
    // Whatever the word is, it is the step's, and not a command: scripts have it in a variable.
    let end = run(at(daemon.addr, &["stat", "--", "id"]));
    assert_eq!((end.status, end.out.as_str()), (1, ""), "{end:?}");
    let end = run(at(daemon.addr, &["stat", "--", "echo", "-x"]));
    assert_eq!(end.status, 64, "{end:?}");
    // A key of that name, and its command.
    let end = run(at(daemon.addr, &["--", "stat", "echo", "-x"]));
    assert_eq!((end.status, end.out.as_str()), (0, "-x\n"), "{end:?}");
}

#[test]
fn a_mistake_in_a_variable_names_the_variable() {
    for (variable, value) in [
        ("DFLOCK_SERVER", "http://h:1"),
        ("DFLOCK_SERVER", "h:+1"),
        ("DFLOCK_SERVER", "::1"),
        ("DFLOCK_TOKEN_FILE", "/no/such/file"),
        ("DFLOCK_ID", " me"),
    ] {
        let mut command = dflock(&["k", "true"]);
        command.env(variable, value);
        let end = run(command);
        end.complains(64);
        assert!(
            end.err.starts_with(&format!("dflock: {variable}: ")),
            "{end:?}"
        );
    }
}

#[test]
fn of_two_that_say_the_same_the_last_wins() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("k");
    for (args, status) in [
        (&["-n", "-q", "-E", "7"][..], 7),
        (&["-n", "-E", "7", "-q"], 0),
        (&["-w", "60", "-n"], 1),
        (&["-n", "-w", "1"], 1),
    ] {
        let end = run(at(daemon.addr, &[args, &["k", "true"]].concat()));
        assert_eq!(end.status, status, "{args:?}");
    }
}
