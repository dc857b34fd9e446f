//! `dflockd --check`: the settings on standard output, or all mistakes on standard error. Not here: each option, which
//! unit tests of the table have. Invariant: nothing is listened on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::daemon::{Daemon, End, dflockd};

/// Runs it to its end with these arguments and variables.
fn check(args: &[&str], env: &[(&str, &str)]) -> End {
    let mut command = dflockd(args);
    command.arg("--check").envs(env.iter().copied());
    Daemon::launch(command).err().expect("it listens nowhere")
}

fn file(name: &str, text: &str, mode: u32) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("check-{name}-{}", std::process::id()));
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn it_prints_every_setting_and_where_it_is_from() {
    let token = file("token", "xyzzy\n", 0o600);
    let path = token.to_str().unwrap();
    let end = check(
        &["--max-locks=7", "--auth-token-file", path],
        &[
            ("DFLOCKD_PORT", "0"),
            ("DFLOCKD_ADMIN_TOKEN", "plugh"),
            ("DFLOCKD_MAX_WAITERS", "0"),
        ],
    );
    assert_eq!((end.status, end.log.as_str()), (Some(0), ""));
    let lines: Vec<Vec<&str>> = end
        .out
        .lines()
        .map(|line| line.split_ascii_whitespace().collect())
        .collect();
    for wanted in [
        ["host", "127.0.0.1", "default"],
        ["port", "0", "DFLOCKD_PORT"],
        ["max-locks", "7", "--max-locks"],
        ["max-waiters", "0", "DFLOCKD_MAX_WAITERS"],
        ["auth-token", "unset", "default"],
        ["auth-token-file", path, "--auth-token-file"],
        ["admin-token", "set", "DFLOCKD_ADMIN_TOKEN"],
        ["log-locks", "false", "default"],
    ] {
        assert!(
            lines.iter().any(|line| *line == wanted),
            "{wanted:?}: {end:?}"
        );
    }
    assert!(!end.out.contains("xyzzy") && !end.out.contains("plugh"));
    fs::remove_file(token).unwrap();
}

#[test]
fn it_says_all_that_is_wrong_with_files_and_hosts_and_ends_with_status_2() {
    let empty = file("empty", "\n", 0o600);
    // No resolver asks anybody for a name with an empty label.
    let end = check(
        &[
            "--host=no..such.host",
            "--distlockd-host=nor..this.one",
            "--distlockd-port=0",
            "--distlockd-no-auth",
            "--auth-token-file=/no/such/file",
            "--admin-token-file",
            empty.to_str().unwrap(),
        ],
        &[],
    );
    assert_eq!((end.status, end.out.as_str()), (Some(2), ""));
    for wanted in [
        "dflockd: --auth-token-file: cannot read \"/no/such/file\": ",
        "dflockd: --admin-token-file: bad file ",
        "dflockd: --host: no address for \"no..such.host\": ",
        "dflockd: --distlockd-host: no address for \"nor..this.one\": ",
    ] {
        assert!(end.log.contains(wanted), "{wanted}: {end:?}");
    }
    fs::remove_file(empty).unwrap();
}

#[test]
fn a_bad_option_is_named_and_warnings_are_no_mistakes() {
    let end = check(&["--port=99999"], &[]);
    assert_eq!((end.status, end.out.as_str()), (Some(2), ""));
    let wanted = "dflockd: --port: bad value \"99999\": above 65535; want a port, 0 to 65535\n";
    assert!(end.log.starts_with(wanted), "{end:?}");
    let open = file("open", "said\n", 0o644);
    let end = check(
        &[
            "--host=0.0.0.0",
            "--auth-token-file",
            open.to_str().unwrap(),
        ],
        &[("DFLOCKD_PROT", "1")],
    );
    assert_eq!(end.status, Some(0), "{end:?}");
    for wanted in [
        "dflockd: warning: no such setting, ignored: DFLOCKD_PROT\n",
        "dflockd: warning: host 0.0.0.0 is not a loopback address; ",
        "dflockd: warning: --auth-token-file: every user of this host may read ",
    ] {
        assert!(end.log.contains(wanted), "{wanted}: {end:?}");
    }
    fs::remove_file(open).unwrap();
}

#[test]
fn equal_tokens_of_clients_and_administrators_are_a_mistake() {
    let args = ["--auth-token=xyzzy", "--admin-token=xyzzy"];
    for end in [
        check(&args, &[]),
        Daemon::launch(dflockd(&[&["--port=0"], &args[..]].concat()))
            .err()
            .unwrap(),
    ] {
        assert_eq!((end.status, end.out.as_str()), (Some(2), ""));
        assert!(
            end.log
                .starts_with("dflockd: the admin token is the auth token: "),
            "{end:?}"
        );
        assert!(!end.log.contains("xyzzy"), "no secret in the log");
    }
}

#[test]
fn a_port_that_is_taken_is_no_mistake() {
    let daemon = Daemon::start(&[]);
    let port = daemon.addr.port().to_string();
    assert_eq!(check(&["--port", &port], &[]).status, Some(0));
    assert!(daemon.connect().is_served());
}
