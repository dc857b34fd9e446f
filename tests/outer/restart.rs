//! What a server leaves to the next one, with the real binary: holds, leases and fences, and what it does with files that it
//! cannot use. Not here: the rules of recovered holds, which dialogues try, and hundreds of kills, which `crash` has.
//! Invariant: as in main.rs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::daemon::{Client, Daemon, End, dflockd, eventually};

/// A folder of its own, which ends with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("restart-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn of(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        dflockd(&[&["--port", "0", "--state-dir", self.path()], args].concat())
    }

    fn start(&self, args: &[&str]) -> Daemon {
        Daemon::launch(self.command(args)).expect("it starts")
    }

    /// How a server ends that cannot start here.
    fn fails(&self, args: &[&str]) -> String {
        let end = Daemon::launch(self.command(args)).err().expect("it ends");
        assert_eq!(end.status, Some(1), "{end:?}");
        end.log.lines().last().unwrap().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn kill(daemon: Daemon) -> End {
    daemon.signal("KILL");
    daemon.end()
}

fn stop(daemon: Daemon) -> End {
    daemon.signal("TERM");
    let end = daemon.end();
    assert_eq!(end.status, Some(0), "{end:?}");
    end
}

/// For how many seconds a server that has just started grants nothing, as it says.
#[track_caller]
fn opens_in(daemon: &Daemon) -> u64 {
    let (_, rest) = daemon.said.split_once(" opens_in_s=").expect("it says so");
    let digits = rest.split('\n').next().expect("a line");
    digits.parse().expect("a number")
}

/// It has no hold, and grants nothing until a lease of the default, which the ledger has as 64 s, is over.
#[track_caller]
fn waits_for_the_default_lease(daemon: &Daemon) {
    let said = " warn dflockd restart protection=journal holds=0 ";
    assert!(daemon.said.contains(said), "{}", daemon.said);
    assert!((60..=65).contains(&opens_in(daemon)), "{}", daemon.said);
}

#[track_caller]
fn takes(client: &mut Client, key: &str, argument: &str, lease: u32) -> String {
    client.send(format!("l\n{key}\n{argument}\n"));
    client.is_granted(lease)
}

#[test]
fn a_hold_outlives_a_kill_and_the_next_fence_is_greater() {
    let folder = Folder::new("kill");
    let daemon = folder.start(&[]);
    assert!(
        daemon
            .said
            .contains(" info dflockd restart protection=journal holds=0 opens_in_s=0")
    );
    let token = daemon.connect().takes("gone");
    let mut holder = daemon.connect();
    let kept = holder.takes("k");
    assert!(kept > token);
    kill(daemon);
    let daemon = folder.start(&[]);
    assert!(
        daemon.said.contains(" restart protection=journal holds=1 "),
        "{}",
        daemon.said
    );
    let (mut other, mut holder) = (daemon.connect(), daemon.connect());
    other.says("l", "k", "0", "timeout");
    holder.says("n", "k", &kept, "ok 33");
    let token = other.takes("free");
    assert!(token > kept);
    // It is the connection's that has renewed it.
    other.waits("k", "9");
    drop(holder);
    assert!(other.is_granted(33) > token);
}

#[test]
fn a_hold_of_before_that_is_over_is_granted_on() {
    let folder = Folder::new("over");
    let daemon = folder.start(&[]);
    let mut holder = daemon.connect();
    let began = Instant::now();
    takes(&mut holder, "k", "0 1", 1);
    kill(daemon);
    let daemon = folder.start(&[]);
    let mut other = daemon.connect();
    takes(&mut other, "k", "9", 33);
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn without_its_journal_nothing_is_granted_until_every_lease_is_over() {
    let folder = Folder::new("ledger");
    let short = ["--default-lease-ttl", "1"];
    let daemon = folder.start(&short);
    let mut holder = daemon.connect();
    let token = takes(&mut holder, "k", "0", 1);
    kill(daemon);
    fs::remove_dir_all(folder.of("journal")).unwrap();
    let began = Instant::now();
    let daemon = folder.start(&short);
    assert!(
        daemon
            .said
            .contains(" restart protection=journal holds=0 opens_in_s="),
        "{}",
        daemon.said
    );
    // A hundredth is added, and what the start takes is gone.
    assert!((1..=2).contains(&opens_in(&daemon)), "{}", daemon.said);
    let (mut holder, mut other) = (daemon.connect(), daemon.connect());
    other.says("l", "k", "0", "timeout");
    holder.says("n", "k", &token, "error");
    holder.says("r", "k", &token, "error");
    assert!(takes(&mut other, "another", "9", 1) > token);
    assert!(
        began.elapsed() >= Duration::from_millis(1010),
        "{:?}",
        began.elapsed()
    );
    takes(&mut other, "k", "0", 1);
    // The quarantine of a journal that has nothing in it is remembered.
    kill(daemon);
    fs::remove_dir_all(folder.of("journal")).unwrap();
    kill(folder.start(&short));
    let daemon = folder.start(&short);
    assert!(
        daemon
            .said
            .contains(" restart protection=journal holds=0 opens_in_s=")
    );
    assert!(opens_in(&daemon) > 0, "{}", daemon.said);
}

#[test]
fn a_long_lease_is_on_record_before_its_client_hears_of_it_and_a_release_at_a_stop() {
    let folder = Folder::new("long");
    let daemon = folder.start(&["--default-lease-ttl", "1"]);
    let mut holder = daemon.connect();
    let token = takes(&mut holder, "k", "0 5000", 5000);
    kill(daemon);
    fs::remove_dir_all(folder.of("journal")).unwrap();
    let mut daemon = folder.start(&[]);
    assert!(
        (8270..=8274).contains(&opens_in(&daemon)),
        "{}",
        daemon.said
    );
    // A stop within does not make it shorter than what is left of it.
    daemon.signal("TERM");
    daemon.event("stopped");
    daemon.end();
    fs::remove_dir_all(folder.of("journal")).unwrap();
    let daemon = folder.start(&[]);
    assert!(
        (8300..=8399).contains(&opens_in(&daemon)),
        "{}",
        daemon.said
    );
    kill(daemon);
    // With nothing held the next server grants at once.
    fs::remove_file(folder.of("ledger")).unwrap();
    fs::remove_dir_all(folder.of("journal")).unwrap();
    let daemon = folder.start(&[]);
    let mut holder = daemon.connect();
    let newer = takes(&mut holder, "k", "0 5000", 5000);
    assert!(newer > token);
    holder.says("r", "k", &newer, "ok");
    stop(daemon);
    fs::remove_dir_all(folder.of("journal")).unwrap();
    let daemon = folder.start(&[]);
    assert_eq!(opens_in(&daemon), 0, "{}", daemon.said);
}

#[test]
fn a_ledger_alone_makes_each_start_wait_and_a_crash_within_begins_it_anew() {
    let folder = Folder::new("alone");
    let file = folder.of("fences");
    let options = ["--port", "0", "--default-lease-ttl", "1"];
    let start = || {
        let file = ["--fence-state-file", file.to_str().unwrap()];
        Daemon::launch(dflockd(&[&options[..], &file].concat())).expect("it starts")
    };
    let daemon = start();
    let said = " restart protection=ledger holds=0 opens_in_s=";
    assert!(
        daemon.said.contains(&format!("{said}0\n")),
        "{}",
        daemon.said
    );
    let mut holder = daemon.connect();
    let token = takes(&mut holder, "k", "0 16", 16);
    kill(daemon);
    // 16 s and a hundredth, rounded up.
    for _ in 0..2 {
        let daemon = start();
        assert!(daemon.said.contains(said), "{}", daemon.said);
        assert!((16..=17).contains(&opens_in(&daemon)), "{}", daemon.said);
        let mut client = daemon.connect();
        client.says("n", "k", &token, "error");
        client.says("l", "k", "0", "timeout");
        kill(daemon);
    }
    // A clean stop writes down what is left of the wait, which is less.
    stop(start());
    let daemon = start();
    assert!(
        !daemon.said.contains(&format!("{said}0\n")),
        "{}",
        daemon.said
    );
    kill(daemon);
    // With nothing held a clean stop leaves nothing to wait for, and fences go on.
    fs::remove_file(&file).unwrap();
    let daemon = start();
    let mut holder = daemon.connect();
    let newer = takes(&mut holder, "k", "0 16", 16);
    holder.says("r", "k", &newer, "ok");
    stop(daemon);
    let daemon = start();
    assert!(
        daemon.said.contains(&format!("{said}0\n")),
        "{}",
        daemon.said
    );
    assert!(takes(&mut daemon.connect(), "k", "0", 1) > newer);
}

#[test]
fn without_a_folder_a_grace_is_what_the_administrator_says() {
    let began = Instant::now();
    let daemon = Daemon::start(&["--restart-grace", "1"]);
    assert!(
        daemon
            .said
            .contains(" restart protection=none holds=0 opens_in_s=1")
    );
    let mut client = daemon.connect();
    client.says("l", "k", "0", "timeout");
    takes(&mut client, "k", "9", 33);
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_lease_above_the_longest_is_an_error() {
    let daemon = Daemon::start(&["--max-lease", "40"]);
    let mut client = daemon.connect();
    for (command, argument) in [("l", "0 41"), ("e", "41"), ("sl", "0 3 41"), ("se", "3 41")] {
        client.says(command, "k", argument, "error");
    }
    let token = takes(&mut client, "k", "0 40", 40);
    client.says("n", "k", &format!("{token} 41"), "error");
    client.says("n", "k", &format!("{token} 40"), "ok 40");
}

#[test]
fn a_hand_over_ends_at_once_and_the_next_server_has_what_is_held() {
    let folder = Folder::new("handover");
    let mut daemon = folder.start(&["--handover"]);
    let mut holder = daemon.connect();
    let token = holder.takes("k");
    let mut waiter = daemon.connect();
    waiter.waits("k", "60");
    daemon.signal("TERM");
    daemon.event("handing-over");
    daemon.event("stopped");
    waiter.is_closed();
    assert_eq!(daemon.end().status, Some(0));
    let daemon = folder.start(&["--handover"]);
    assert!(daemon.said.contains(" holds=1 "), "{}", daemon.said);
    daemon.connect().says("n", "k", &token, "ok 33");
}

#[test]
fn two_servers_never_share_a_folder() {
    let (one, two) = (Folder::new("one"), Folder::new("two"));
    let daemon = one.start(&[]);
    let why = one.fails(&[]);
    assert!(
        why.contains(one.path()) && why.contains("in use by another dflockd"),
        "{why}"
    );
    // Another ledger, but the same journal.
    let why = two.fails(&["--run-dir", one.path()]);
    assert!(
        why.contains(one.path()) && why.contains("in use by another dflockd"),
        "{why}"
    );
    daemon.connect().takes("k");
}

#[test]
fn a_folder_that_is_not_there_or_is_a_file_is_named() {
    let folder = Folder::new("missing");
    let missing = folder.of("missing");
    let end = Daemon::launch(dflockd(&[
        "--port=0",
        "--state-dir",
        missing.to_str().unwrap(),
    ]));
    let end = end.err().expect("it ends");
    assert_eq!(end.status, Some(1));
    assert!(end.log.contains(missing.to_str().unwrap()), "{end:?}");
    fs::write(&missing, "").unwrap();
    for args in [["--port=0", "--state-dir"], ["--port=0", "--run-dir"]] {
        let mut args = args.to_vec();
        args.push(missing.to_str().unwrap());
        if args[1] == "--run-dir" {
            args.extend(["--state-dir", folder.path()]);
        }
        let end = Daemon::launch(dflockd(&args)).err().expect("it ends");
        assert_eq!(end.status, Some(1));
        assert!(end.log.contains(missing.to_str().unwrap()), "{end:?}");
    }
}

#[test]
fn a_journal_whose_ledger_is_lost_or_a_copy_is_never_used() {
    let folder = Folder::new("lost");
    let daemon = folder.start(&[]);
    daemon.connect().takes("k");
    kill(daemon);
    // As a backup is brought back: the same bytes in another file.
    let bytes = fs::read(folder.of("ledger")).unwrap();
    fs::remove_file(folder.of("ledger")).unwrap();
    // Its number must not be given to the copy.
    fs::write(folder.of("in-its-place"), "").unwrap();
    for _ in 0..2 {
        let why = folder.fails(&[]);
        assert!(
            why.contains(" belongs to one: if somebody has moved the file, move it back; or, if"),
            "{why}"
        );
        fs::remove_file(folder.of("ledger")).unwrap();
    }
    fs::write(folder.of("ledger"), bytes).unwrap();
    let why = folder.fails(&[]);
    assert!(why.contains(" is a copy and may be old: move"), "{why}");
    // With nothing in it, it is no better than with nothing there.
    fs::write(folder.of("ledger"), "").unwrap();
    let why = folder.fails(&[]);
    assert!(why.contains(" belongs to one: if somebody has"), "{why}");
    let daemon = folder.start(&["--reset-state"]);
    waits_for_the_default_lease(&daemon);
}

#[test]
fn a_ledger_that_has_lost_its_bytes_is_waited_for() {
    let folder = Folder::new("empty");
    stop(folder.start(&[]));
    for length in [0, 1, 8192] {
        fs::remove_dir_all(folder.of("journal")).unwrap();
        fs::write(folder.of("ledger"), vec![0; length]).unwrap();
        let daemon = folder.start(&[]);
        assert!(
            daemon.said.contains(" warn dflockd ledger-empty\n"),
            "{}",
            daemon.said
        );
        waits_for_the_default_lease(&daemon);
        daemon.connect().says("l", "k", "0", "timeout");
        kill(daemon);
    }
}

#[test]
fn what_belongs_to_another_user_is_not_trusted() {
    let folder = Folder::new("owner");
    let run = Folder::new("owner-run");
    stop(folder.start(&["--run-dir", run.path()]));
    for strange in [
        folder.of(""),
        folder.of("ledger"),
        run.of(""),
        run.of("journal"),
    ] {
        if std::os::unix::fs::chown(&strange, Some(65534), None).is_err() {
            // Only root gives files away.
            return;
        }
        let why = folder.fails(&["--run-dir", run.path()]);
        assert!(why.contains(" user 65534"), "{why}");
        std::os::unix::fs::chown(&strange, Some(0), None).unwrap();
    }
}

#[test]
fn a_ledger_that_somebody_else_writes_ends_the_server_before_it_tells_anything() {
    let folder = Folder::new("foreign");
    let daemon = folder.start(&[]);
    let mut client = daemon.connect();
    client.takes("k");
    let other = Folder::new("foreign-other");
    stop(other.start(&[]));
    // In place: the server has the file open.
    let bytes = fs::read(other.of("ledger")).unwrap();
    fs::write(folder.of("ledger"), bytes).unwrap();
    client.send("l\nlong\n0 100000\n");
    client.is_closed();
    let end = daemon.end();
    assert_eq!(end.status, Some(1));
    let why = end.log.lines().last().unwrap();
    assert!(why.contains(folder.of("ledger").to_str().unwrap()), "{why}");
}

#[test]
fn a_journal_that_cannot_be_written_is_put_aside_and_the_server_goes_on() {
    let folder = Folder::new("full");
    let run = Folder::new("full-run");
    let mut daemon = folder.start(&["--run-dir", run.path()]);
    let mut client = daemon.connect();
    let token = client.takes("held");
    // No segment can be made where a file has the name.
    fs::create_dir(run.of("journal").join("next")).unwrap();
    fs::write(run.of("journal").join("next").join("x"), "").unwrap();
    let pair = format!("e\nk{}\n\n", "x".repeat(200));
    let mut sent = 0;
    while run.of("journal").exists() {
        assert!(sent < 20_000, "a segment has a megabyte");
        client.send(&pair);
        let token = client
            .line()
            .split(' ')
            .nth(1)
            .expect("acquired")
            .to_string();
        client.says("r", &format!("k{}", "x".repeat(200)), token.trim(), "ok");
        sent += 1;
    }
    let why = daemon.event("journal-lost");
    assert!(why.contains(" error ") && why.contains(run.path()), "{why}");
    client.says("n", "held", &token, "ok 33");
    client.send("stats\n_\n_\n");
    assert!(client.line().contains("\"protection\":\"ledger\""));
    kill(daemon);
    // It takes no room any more.
    assert!(!run.of("journal.old").exists());
    let daemon = folder.start(&["--run-dir", run.path()]);
    waits_for_the_default_lease(&daemon);
}

#[test]
fn a_journal_stays_short_and_has_all_holds_after_many_sweeps() {
    let folder = Folder::new("sweeps");
    let daemon = folder.start(&["--max-locks", "100000"]);
    let mut client = daemon.connect();
    let held: Vec<String> = (0..3000)
        .map(|n| client.takes(&format!("held{n}")))
        .collect();
    let journal = folder.of("journal");
    let size = || fs::read_dir(&journal).unwrap().count();
    let mut most = 0;
    let name = "x".repeat(240);
    for _ in 0..300 {
        let enqueues: String = (0..100).map(|n| format!("e\n{name}{n}\n\n")).collect();
        client.send(enqueues);
        let mut releases = String::new();
        for n in 0..100 {
            let line = client.line();
            let token = line.split(' ').nth(1).expect("acquired");
            releases += &format!("r\n{name}{n}\n{token}\n");
        }
        client.send(releases);
        (0..100).for_each(|_| client.hears("ok"));
        most = most.max(size());
    }
    // 9 MB were written at least.
    assert!((5..9).contains(&most), "{most} MiB at most");
    kill(daemon);
    let daemon = folder.start(&["--max-locks", "100000"]);
    assert!(daemon.said.contains(" holds=3000 "), "{}", daemon.said);
    let mut client = daemon.connect();
    for (n, token) in held.iter().enumerate().step_by(97) {
        client.says("n", &format!("held{n}"), token, "ok 33");
    }
}

#[test]
fn clients_that_take_all_descriptors_do_not_take_the_journal() {
    let folder = Folder::new("descriptors");
    let limit = 40;
    let script = format!("ulimit -n {limit}; exec \"$0\" --port 0 --state-dir \"$1\"");
    let mut command = crate::daemon::shell(&script);
    command.arg(folder.path());
    let daemon = Daemon::launch(command).expect("it starts");
    let mut client = daemon.connect();
    let token = client.takes("held");
    let crowd: Vec<_> = (0..limit).map(|_| daemon.connect()).collect();
    eventually("all are taken", || daemon.is_full(limit));
    let segments = || fs::read_dir(folder.of("journal")).unwrap().count();
    let key = "k".repeat(250);
    while segments() < 3 {
        client.send(format!("e\n{key}\n\n"));
        let token = client
            .line()
            .split(' ')
            .nth(1)
            .expect("acquired")
            .to_string();
        client.says("r", &key, token.trim(), "ok");
    }
    drop(crowd);
    kill(daemon);
    let daemon = folder.start(&[]);
    daemon.connect().says("n", "held", &token, "ok 33");
}
