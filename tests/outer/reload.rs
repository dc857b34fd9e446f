//! SIGHUP to the real binary: token files are read again, and nothing else happens. Not here: the files that are no good,
//! which unit tests have. Invariant: as in main.rs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::daemon::{Daemon, dflockd, eventually};

/// A token file of this test's own, gone with it.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let file = File(folder.join(format!("reload-{name}-{}", std::process::id())));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // A test may have removed it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether a newcomer that says this token is let in.
#[track_caller]
fn is_let_in(daemon: &Daemon, token: &str) -> bool {
    let mut client = daemon.connect();
    client.send(format!("auth\n_\n{token}\n"));
    let answer = client.line();
    assert!(
        ["ok\n", "error_auth\n"].contains(&answer.as_str()),
        "{answer:?}"
    );
    answer == "ok\n"
}

#[test]
fn sighup_reads_the_token_files_again_and_touches_no_connection() {
    let (auth, admin) = (File::new("auth", "one"), File::new("admin", "boss"));
    let args = [
        "--auth-token-file",
        auth.path(),
        "--admin-token-file",
        admin.path(),
    ];
    let mut daemon = Daemon::start(&args);
    let mut holder = daemon.connect();
    holder.says("auth", "_", "one", "ok");
    let token = holder.takes("k");
    auth.write("two\n");
    admin.write("chief\n");
    daemon.signal("HUP");
    assert!(
        daemon
            .event("reloaded")
            .ends_with(" info dflockd reloaded files=2\n")
    );
    assert!(is_let_in(&daemon, "two") && is_let_in(&daemon, "chief"));
    assert!(!is_let_in(&daemon, "one") && !is_let_in(&daemon, "boss"));
    holder.says("r", "k", &token, "ok");
}

#[test]
fn a_bad_file_keeps_the_old_token_and_is_named_with_what_is_wrong() {
    let (auth, admin) = (File::new("old", "one"), File::new("new", "boss"));
    let args = [
        "--auth-token-file",
        auth.path(),
        "--admin-token-file",
        admin.path(),
    ];
    let mut daemon = Daemon::start(&args);
    let fifo = format!("{}.fifo", auth.path());
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("coreutils are there").success());
    for (spoil, why) in [
        ("", "it is empty; want 1 to 65536 bytes on one line"),
        ("xyzzy\nplugh\n", "it has several lines; want "),
        ("boss", "the admin token is the auth token: want "),
    ] {
        auth.write(spoil);
        daemon.signal("HUP");
        let line = daemon.event("reload-failed");
        let wanted = format!(
            " warn dflockd reload-failed file={} error=\"{why}",
            match why.starts_with("the admin") {
                // Both files were read, and the last is named.
                true => admin.path(),
                false => auth.path(),
            }
        );
        assert!(line.contains(&wanted), "{line}");
        assert!(!line.contains("xyzzy"), "no secret in the log");
        assert!(is_let_in(&daemon, "one") && is_let_in(&daemon, "boss"));
    }
    // One that would make the server wait, and none at all. The other file counts all the same.
    fs::remove_file(auth.path()).unwrap();
    fs::rename(&fifo, auth.path()).unwrap();
    for why in ["not a regular file; want ", "No such file or directory"] {
        admin.write(if why.starts_with("not") {
            "chief"
        } else {
            "head"
        });
        daemon.signal("HUP");
        let line = daemon.event("reload-failed");
        assert!(line.contains(&format!(" error=\"{why}")), "{line}");
        assert!(daemon.event("reloaded").ends_with(" files=1\n"));
        assert!(is_let_in(&daemon, "one") && !is_let_in(&daemon, "boss"));
        // The second time it is gone.
        let _ = fs::remove_file(auth.path());
    }
    assert!(is_let_in(&daemon, "head"));
}

#[test]
fn sighup_kills_neither_without_files_nor_at_the_start_nor_in_a_drain() {
    let mut daemon = Daemon::spawn(dflockd(&["--port=0", "--shutdown-timeout=0"]));
    eventually("it holds the signal back", || {
        let blocked = daemon.status("SigBlk");
        u64::from_str_radix(&blocked, 16).unwrap() & 1 == 1
    });
    daemon.signal("HUP");
    let line = daemon.event("listening");
    let (_, addr) = line.trim_end().split_once("addr=").unwrap();
    daemon.addr = addr.parse().unwrap();
    assert!(daemon.event("reloaded").ends_with(" files=0\n"));
    let mut holder = daemon.connect();
    let token = holder.takes("k");
    daemon.signal("TERM");
    daemon.event("draining");
    daemon.signal("HUP");
    daemon.event("reloaded");
    // It was no second signal to stop.
    holder.says("r", "k", &token, "ok");
    holder.is_closed();
    drop(holder);
    let end = daemon.end();
    assert_eq!(end.status, Some(0));
    assert!(
        end.log.ends_with(" stopped cut=0 holds=0 detached=0\n"),
        "{end:?}"
    );
}
