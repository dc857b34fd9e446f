//! How `dflock` waits: for a server that is away, behind addresses that are mute; and how it leaves. Some servers here
//! are played, line by line, where the real one would need luck. Invariant: as in main.rs.

use std::fs;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::daemon::{Client, Daemon, LONG, PATIENCE, at_once, dflockd, eventually, tools};
use crate::stage::{
    Folder, Run, at, dflock, outlasts_a_lease, program, run, signal, state, waiters,
};

pub const KEEPS: &str = "--no-auto-release-on-disconnect";
/// In it dflock says nothing of its troubles.
const SILENCE: Duration = Duration::from_secs(1);

/// An address at which there was a server.
pub fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A server at an address that another one had.
fn another(addr: SocketAddr) -> Daemon {
    let port = addr.port().to_string();
    Daemon::launch(dflockd(&["--port", &port])).unwrap()
}

/// A server that plays along, one connection after the other.
fn play(script: impl FnOnce(TcpListener) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (addr, thread::spawn(move || script(listener)))
}

/// The next connection of a played server: its name, the same again and the acquire are heard, and the first is answered.
fn asked(listener: &TcpListener) -> Client {
    let mut peer = Client::over(listener.accept().unwrap().0);
    for _ in 0..9 {
        peer.line();
    }
    peer.send("ok\n");
    peer
}

/// The next connection of a played server, on which a hold is to go on.
fn renewed(listener: &TcpListener, token: &str) -> Client {
    let mut peer = Client::over(listener.accept().unwrap().0);
    assert_eq!(peer.line(), "id\n");
    peer.line();
    peer.line();
    for line in ["n", "k"] {
        assert_eq!(peer.line(), format!("{line}\n"));
    }
    assert!(peer.line().starts_with(token));
    peer
}

/// Ends a connection, whatever children of other tests have a copy of it for a moment.
fn hang_up(mut peer: Client) {
    peer.stream().shutdown(Shutdown::Both).unwrap();
}

// A server that is away.

#[test]
fn twenty_that_wait_are_served_across_a_restart() {
    at_once(["TERM", "KILL"], |name| {
        let daemon = Daemon::start(&[]);
        let addr = daemon.addr;
        let folder = Folder::new();
        let file = folder.path("marks");
        let mut holder = daemon.connect();
        holder.takes("k");
        let script = format!("echo mine >>{file}");
        let args = ["k", "-c", &script];
        let all: Vec<Run> = (0..20).map(|_| Run::start(at(addr, &args))).collect();
        eventually("they wait", || waiters(&daemon, "k") == 20);
        daemon.signal(name);
        drop(holder);
        daemon.end();
        let _other = another(addr);
        for one in all {
            let end = one.end();
            assert_eq!(end.status, 0, "{name}: {end:?}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 20);
    });
}

#[test]
fn a_server_that_is_not_there_yet_is_asked_again() {
    let addr = nowhere();
    let waiter = Run::start(at(addr, &["k", "echo", "mine"]));
    let with_limit = Run::start(at(addr, &["-w", LONG, "k", "echo", "mine"]));
    // Several attempts fail in this time.
    thread::sleep(Duration::from_millis(300));
    let _daemon = another(addr);
    for run in [waiter, with_limit] {
        let end = run.end();
        assert_eq!((end.status, end.out.as_str()), (0, "mine\n"), "{end:?}");
    }
}

#[test]
fn a_server_that_does_not_come_is_status_69_after_the_wait_or_10_s() {
    let cases = [
        (&["-n", "k", "true"][..], 0.0, 1),
        (&["-w", "2.5", "k", "true"], 2.5, 2),
        (&["k", "true"], 10.0, 2),
    ];
    at_once(cases, |(args, wait, lines)| {
        // The port is a client's, so no server of another test can have it meanwhile.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (addr, start) = (client.local_addr().unwrap(), Instant::now());
        let end = run(at(addr, args));
        let time = start.elapsed().as_secs_f64();
        // The rest is for a busy machine; -n must not have asked again.
        let most = if wait == 0.0 { 2.0 } else { wait + 8.0 };
        assert!((wait..most).contains(&time), "{args:?}: {time}");
        let why = format!("dflock: cannot reach {addr}: Connection refused (os error 111)");
        let told: Vec<&str> = end.err.lines().collect();
        assert_eq!((end.status, told.len()), (69, lines), "{args:?}: {end:?}");
        assert_eq!(told[lines - 1], why);
        if lines == 2 {
            assert_eq!(told[0], format!("{why}; asking again"));
        }
    });
}

#[test]
fn a_server_that_is_about_to_stop_is_status_75_for_a_try_and_at_the_end_of_the_wait() {
    for args in [&["-n"][..], &["-w", "0.2"]] {
        let (addr, server) = play(|listener| {
            // A wait asks until it is over.
            for stream in listener.incoming() {
                let mut peer = Client::over(stream.unwrap());
                if peer.line().is_empty() {
                    break;
                }
                peer.send("error_draining\n");
            }
        });
        let end = run(at(addr, &[args, &["k", "true"]].concat()));
        assert_eq!(end.status, 75, "{args:?}: {end:?}");
        assert_eq!(end.err, format!("dflock: {addr} is about to stop\n"));
        // It says nothing, and so ends the play.
        drop(TcpStream::connect(addr));
        server.join().unwrap();
    }
}

/// It had been asked, so the server was there.
#[test]
fn a_wait_that_ends_while_the_server_is_away_is_status_1() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("k");
    for (option, status) in [(&["-E", "9"][..], 9), (&["-q"], 0)] {
        let args = [&["-w", "1.5"], option, &["k", "true"]].concat();
        let waiter = Run::start(at(daemon.addr, &args));
        let daemon = Daemon::start(&[]);
        let mut other = daemon.connect();
        other.takes("k");
        let args = [&["-v", "-w", "3"], option, &["k", "true"]].concat();
        let mut lost = Run::start(at(daemon.addr, &args));
        // A server that is killed in the middle of a turn may not have answered it yet.
        loop {
            let line = lost.says();
            assert_ne!(line, "", "it has ended");
            if line.contains(" waiting") {
                break;
            }
        }
        drop(daemon);
        let (busy, lost) = (waiter.end(), lost.end());
        assert_eq!((busy.status, busy.err.as_str()), (status, ""));
        assert_eq!(lost.status, status, "{lost:?}");
    }
}

#[test]
fn a_server_that_is_lost_and_comes_back_is_told_in_one_line_each() {
    let daemon = Daemon::start(&[]);
    let addr = daemon.addr;
    let mut holder = daemon.connect();
    holder.takes("k");
    let mut waiter = Run::start(at(addr, &["k", "true"]));
    eventually("it waits", || waiters(&daemon, "k") == 1);
    // Until then it says nothing.
    thread::sleep(SILENCE);
    drop(daemon);
    let refused = format!("dflock: cannot reach {addr}: Connection refused (os error 111)");
    let first = waiter.says();
    if first != format!("{refused}; asking again\n") {
        let lost = format!("dflock: the connection to {addr} is lost: ");
        assert!(first.starts_with(&lost), "{first}");
        assert!(first.ends_with("; asking again\n"), "{first}");
        assert_eq!(waiter.says(), format!("{refused}; asking again\n"));
    }
    // The same words are not told again.
    thread::sleep(SILENCE);
    let _other = another(addr);
    assert_eq!(waiter.says(), format!("dflock: {addr} is back\n"));
    let end = waiter.end();
    assert_eq!((end.status, end.err.as_str()), (0, ""));
}

#[test]
fn a_server_that_is_back_within_the_first_second_is_not_told_of() {
    let daemon = Daemon::start(&[]);
    let addr = daemon.addr;
    let mut holder = daemon.connect();
    holder.takes("k");
    let start = Instant::now();
    let waiter = Run::start(at(addr, &["k", "true"]));
    eventually("it waits", || waiters(&daemon, "k") == 1);
    drop(daemon);
    let _other = another(addr);
    let end = waiter.end();
    assert_eq!(end.status, 0, "{end:?}");
    // On a busy machine it may take longer.
    assert!(end.err.is_empty() || start.elapsed() > SILENCE, "{end:?}");
}

// Several addresses.

/// A command that sees these lines as /etc/hosts; None where the kernel refuses a namespace.
fn with_hosts(folder: &Folder, name: &str, lines: &str, command: &Command) -> Option<Command> {
    let file = folder.path(name);
    fs::write(&file, lines).unwrap();
    let script = "mount --make-rprivate / && mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let mut ways = [&["-m"][..], &["-m", "--user", "--map-root-user"]].into_iter();
    ways.find_map(|options| {
        let begin = || {
            let mut begin = program("unshare");
            begin.args(options).args(["sh", "-c", script, &file]);
            begin
        };
        let output = begin().arg("true").output().unwrap();
        let mut begin = output.status.success().then(begin)?;
        begin.arg(command.get_program()).args(command.get_args());
        Some(begin)
    })
}

/// Whichever of them comes first.
#[test]
fn a_mute_address_does_not_eat_the_wait() {
    if !tools::has("unshare", "util-linux") {
        return;
    }
    let mute = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = mute.local_addr().unwrap().port().to_string();
    let daemon = dflockd(&["--host", "127.0.0.3", "--port", &port]);
    let daemon = Daemon::launch(daemon).unwrap();
    let mut holder = daemon.connect();
    holder.takes("busy");
    let folder = Folder::new();
    let server = format!("twins:{port}");
    let cases = [
        (&["-w", "1", "busy", "true"][..], 1, 1.0),
        (&["-w", LONG, "one", "true"], 0, 0.0),
        (&["two", "true"], 0, 0.0),
        (&["-n", "three", "true"], 0, 0.0),
        (&["-n", "busy", "true"], 1, 0.0),
    ];
    for (n, hosts) in ["23", "32"].into_iter().enumerate() {
        let lines: String = hosts
            .chars()
            .map(|n| format!("127.0.0.{n} twins\n"))
            .collect();
        at_once(cases.iter().enumerate(), |(m, (args, status, least))| {
            let name = format!("{n}-{m}");
            let plain = dflock(&[&["--server", &server], *args].concat());
            let Some(command) = with_hosts(&folder, &name, &lines, &plain) else {
                return;
            };
            let start = Instant::now();
            let end = run(command);
            let time = start.elapsed().as_secs_f64();
            assert_eq!((end.status, end.err.as_str()), (*status, ""), "{args:?}");
            assert!((*least..least + 8.0).contains(&time), "{args:?}: {time}");
        });
    }
}

// Leaving.

#[test]
fn a_grant_that_comes_while_it_leaves_is_given_back() {
    at_once(
        [("-w1", ""), ("-w100", "TERM"), ("-v", "INT")],
        |(wait, name)| {
            let token = "1".repeat(32);
            let (told, pid) = mpsc::channel();
            let (addr, server) = play(move |listener| {
                let mut peer = asked(&listener);
                peer.send("ok\n");
                let pid: u32 = pid.recv().unwrap();
                if !name.is_empty() {
                    assert!(signal(pid, name));
                }
                assert_eq!(peer.line(), "", "it sends nothing more");
                peer.send(format!("ok {token} 33\n"));
                hang_up(peer);
                let mut peer = Client::over(listener.accept().unwrap().0);
                peer.hears("id");
                peer.line();
                peer.line();
                for line in ["r", "k", &token] {
                    peer.hears(line);
                }
                peer.send("ok\nok\n");
            });
            let waiter = Run::start(at(addr, &[wait, "k", "echo", "mine"]));
            told.send(waiter.pid).unwrap();
            let end = waiter.end();
            let status = [("", 1), ("TERM", 128 + 15), ("INT", 128 + 2)];
            let status = status.iter().find(|(of, _)| *of == name).unwrap().1;
            assert_eq!((end.status, end.out.as_str()), (status, ""), "{end:?}");
            server.join().unwrap();
        },
    );
}

/// The moment is tried at several keys.
#[test]
fn a_wait_that_ends_with_the_grant_leaves_no_hold_behind() {
    let daemon = Daemon::start(&[KEEPS]);
    at_once(0..16, |n| {
        let key = format!("k{n}");
        let mut holder = daemon.connect();
        let token = holder.takes(&key);
        let waiter = Run::start(at(daemon.addr, &["-w", "0.5", &key, "true"]));
        eventually("it waits", || waiters(&daemon, &key) == 1);
        // Its wait has begun some time before.
        thread::sleep(Duration::from_millis(440 + 6 * n));
        holder.says("r", &key, &token, "ok");
        let end = waiter.end();
        assert!([0, 1].contains(&end.status), "{end:?}");
        daemon.connect().takes(&key);
    });
}

#[test]
fn a_server_that_does_not_see_it_leave_is_waited_for_a_second() {
    let (over, done) = mpsc::channel();
    let (addr, server) = play(move |listener| {
        let mut peer = asked(&listener);
        peer.send("ok\n");
        assert_eq!(peer.line(), "");
        // It is there and says nothing until dflock has gone.
        done.recv().unwrap();
    });
    let start = Instant::now();
    assert_eq!(run(at(addr, &["-w", "0.1", "k", "true"])).status, 1);
    let time = start.elapsed().as_secs_f64();
    assert!((1.1..10.0).contains(&time), "{time}");
    over.send(()).unwrap();
    server.join().unwrap();
}

// Grants.

#[test]
fn a_wait_longer_than_the_lease_ends_with_the_lock() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("k");
    let args = ["--lease", "1", "k", "-c", "echo $DFLOCK_FENCE"];
    let waiter = Run::start(at(daemon.addr, &args));
    eventually("it waits", || waiters(&daemon, "k") == 1);
    outlasts_a_lease(&daemon, 1);
    let token = daemon.connect().takes("another");
    drop(holder);
    let end = waiter.end();
    // It has lost no grant: its own is the next one.
    let next = u64::from_str_radix(&token[..16], 16).unwrap() + 1;
    assert_eq!((end.status, end.out), (0, format!("{next}\n")));
}

#[test]
fn a_grant_with_which_the_connection_ends_is_none() {
    let tokens = ["1".repeat(32), "2".repeat(32)];
    let (first, second) = (tokens[0].clone(), tokens[1].clone());
    let (told, pid) = mpsc::channel();
    let (addr, server) = play(move |listener| {
        let mut peer = asked(&listener);
        // Both are there when it looks.
        let pid: u32 = pid.recv().unwrap();
        assert!(signal(pid, "STOP"));
        eventually("it is stopped", || state(pid) == Some('T'));
        peer.send(format!("ok\nok {first} 33\n"));
        hang_up(peer);
        assert!(signal(pid, "CONT"));
        // The hold may have outlived its connection.
        let mut peer = renewed(&listener, &first);
        peer.send("ok\nerror\n");
        let mut peer = asked(&listener);
        peer.send(format!("ok\nok {second} 33\n"));
        assert_eq!(peer.line(), "r\n");
        peer.line();
        assert_eq!(peer.line(), format!("{second}\n"));
        peer.send("ok\n");
    });
    let client = Run::start(at(addr, &["k", "-c", "echo $DFLOCK_TOKEN"]));
    told.send(client.pid).unwrap();
    let end = client.end();
    assert_eq!(
        (end.status, &end.out),
        (0, &format!("{}\n", tokens[1])),
        "{end:?}"
    );
    server.join().unwrap();
}

/// To a connection too many it says so, and that is no word about the hold.
#[test]
fn a_hold_outlives_a_server_that_is_full_when_it_connects_again() {
    let token = "1".repeat(32);
    let (renewal, is_renewed) = mpsc::channel();
    let (addr, server) = play(move |listener| {
        let full = || {
            let mut peer = Client::over(listener.accept().unwrap().0);
            peer.send("error_max_connections\n");
            hang_up(peer);
        };
        let mut peer = asked(&listener);
        peer.send(format!("ok\nok {token} 33\n"));
        hang_up(peer);
        (0..3).for_each(|_| full());
        let mut peer = renewed(&listener, &token);
        peer.send("ok\nok 33\n");
        renewal.send(()).unwrap();
        assert_eq!(peer.line(), "r\n");
        hang_up(peer);
        full();
        let mut peer = Client::over(listener.accept().unwrap().0);
        let frames: String = (0..6).map(|_| peer.line()).collect();
        assert!(frames.ends_with(&format!("r\nk\n{token}\n")), "{frames}");
        peer.send("ok\nok\n");
    });
    let mut client = Run::start(at(addr, &["-v", "k", "-c", "read x; echo done"]));
    is_renewed.recv_timeout(PATIENCE).unwrap();
    client.send("\n");
    let end = client.end();
    assert_eq!((end.status, &*end.out), (0, "done\n"), "{end:?}");
    let why = format!(
        "dflock: the connection to {addr} is lost: the server has as many connections as it may; connecting again\n"
    );
    assert!(end.err.contains(&why), "{end:?}");
    server.join().unwrap();
}

#[test]
fn a_command_is_not_started_when_its_lease_is_over() {
    let tokens = ["1".repeat(32), "2".repeat(32)];
    let (first, second) = (tokens[0].clone(), tokens[1].clone());
    let (told, pid) = mpsc::channel();
    let (addr, server) = play(move |listener| {
        let pid: u32 = pid.recv().unwrap();
        let mut peer = asked(&listener);
        peer.send("ok\n");
        // The client has waited for so long that it renews.
        thread::sleep(Duration::from_millis(200));
        peer.send(format!("ok {first} 1\n"));
        assert_eq!(peer.line(), "n\n");
        peer.line();
        peer.line();
        assert!(signal(pid, "STOP"));
        peer.send("ok 1\n");
        // The answer is heard when the lease is over.
        thread::sleep(Duration::from_millis(1100));
        assert!(signal(pid, "CONT"));
        assert_eq!(peer.line(), "r\n", "it gives back what it may still have");
        peer.send("ok\n");
        let mut peer = asked(&listener);
        peer.send(format!("ok\nok {second} 33\n"));
        assert_eq!(peer.line(), "r\n");
        peer.send("ok\n");
    });
    let client = Run::start(at(addr, &["k", "-c", "echo $DFLOCK_TOKEN"]));
    told.send(client.pid).unwrap();
    let end = client.end();
    assert_eq!((end.status, end.out), (0, format!("{}\n", tokens[1])));
    server.join().unwrap();
}

#[test]
fn a_timeout_that_nobody_asked_for_is_status_76() {
    for (answer, wait) in [("timeout\n", &["-w", LONG][..]), ("ok\ntimeout\n", &[])] {
        for more in [&[][..], &["-q"]] {
            let (addr, server) = play(move |listener| {
                let mut peer = asked(&listener);
                peer.send(answer);
                assert_eq!(peer.line(), "", "it hangs up");
            });
            let args = [wait, more, &["k", "true"]].concat();
            run(at(addr, &args)).complains(76);
            server.join().unwrap();
        }
    }
}
