//! `dflock` over connections that are mute, slow or cut, and with a stderr that nobody reads: the lock is neither lost
//! nor left behind. Invariant: as in main.rs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, at_once, eventually};
use crate::proxy::{Net, Proxy};
use crate::stage::{Run, at, run, waiters};
use crate::waiting::{KEEPS, nowhere};

/// A way to a server on which each message takes a while, and some requests and all that follows are lost: those for
/// which `loses` holds, by the number of the connection, the command, and how many of that it had before.
fn way(
    server: SocketAddr,
    delay: Duration,
    loses: impl Fn(usize, &str, usize) -> bool + Send + Copy + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
            let Ok(server) = TcpStream::connect(server) else {
                continue;
            };
            let (to_server, to_client) = (server.try_clone(), client.try_clone());
            let (to_server, to_client) = (
                later(to_server.unwrap(), delay),
                later(to_client.unwrap(), delay),
            );
            thread::spawn(move || {
                let mut reader = BufReader::new(client);
                let mut counts = BTreeMap::new();
                while let Some(frame) = frame(&mut reader) {
                    let command = frame.lines().next().unwrap_or_default().to_string();
                    let count = counts.entry(command.clone()).or_insert(0);
                    if loses(number, &command, *count) {
                        // The end of the client's connection is lost too.
                        return std::mem::forget(to_server);
                    }
                    *count += 1;
                    to_server
                        .send((Instant::now(), frame.into_bytes()))
                        .unwrap_or(());
                }
            });
            thread::spawn(move || {
                let mut reader = BufReader::new(server);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                    let line = std::mem::take(&mut line).into_bytes();
                    to_client.send((Instant::now(), line)).unwrap_or(());
                }
            });
        }
    });
    addr
}

/// Three lines; None at the end.
fn frame(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut frame = String::new();
    for _ in 0..3 {
        let n = reader.read_line(&mut frame).ok()?;
        (n > 0).then_some(())?;
    }
    Some(frame)
}

/// Writes what it is sent some time later. When the sender is gone, the stream ends.
fn later(mut stream: TcpStream, delay: Duration) -> mpsc::Sender<(Instant, Vec<u8>)> {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        stream.set_nodelay(true).unwrap();
        for (sent, bytes) in receiver {
            thread::sleep((sent + delay).saturating_duration_since(Instant::now()));
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
        // It fails only if the other side has hung up.
        let _ = stream.shutdown(Shutdown::Both);
    });
    sender
}

const AT_ONCE: Duration = Duration::ZERO;

/// Else it would wait for its own hold, and be refused as a deadlock.
#[test]
fn a_grant_whose_confirmation_is_lost_is_confirmed_over_another_connection() {
    at_once([&[][..], &[KEEPS]], |args| {
        at_once([&[][..], &["--id", "me"]], |id: &[&str]| {
            let daemon = Daemon::start(args);
            let mut holder = daemon.connect();
            holder.takes("k");
            let way = way(daemon.addr, AT_ONCE, |connection, command, _| {
                connection == 0 && command == "n"
            });
            let script = "echo $DFLOCK_FENCE; echo $DFLOCK_LEASE";
            let args = [id, &["--lease", "2", "k", "-c", script]].concat();
            let waiter = Run::start(at(way, &args));
            eventually("it waits", || waiters(&daemon, "k") == 1);
            // So long that the lease may be old when the grant arrives.
            thread::sleep(Duration::from_millis(400));
            let token = daemon.connect().takes("another");
            drop(holder);
            let end = waiter.end();
            let fence = u64::from_str_radix(&token[..16], 16).unwrap() + 1;
            assert_eq!(
                (end.status, end.out),
                (0, format!("{fence}\n2\n")),
                "{}",
                end.err
            );
        });
    });
}

/// A round trip takes a fifth of the lease.
#[test]
fn a_lease_of_few_round_trips_is_kept() {
    let daemon = Daemon::start(&[]);
    let way = way(daemon.addr, Duration::from_millis(200), |_, _, _| false);
    let end = run(at(way, &["--lease", "2", "k", "sleep", "5"]));
    assert_eq!((end.status, end.err.as_str()), (0, ""));
}

/// On each connection all after the first renewal is lost, so the hold moves at each half time.
#[test]
fn mute_connections_are_closed_once_the_hold_has_moved() {
    let daemon = Daemon::start(&[]);
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    let way = way(daemon.addr, AT_ONCE, |connection, command, count| {
        CONNECTIONS.fetch_max(connection, Ordering::Relaxed);
        command == "n" && count == usize::from(connection > 0)
    });
    let mut holder = Run::start(at(
        way,
        &["--lease", "2", "k", "-c", "echo ready; exec sleep 60"],
    ));
    holder.hears("ready");
    let fds = || {
        fs::read_dir(format!("/proc/{}/fd", holder.pid))
            .unwrap()
            .count()
    };
    let (before, mut most) = (fds(), 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(7) {
        most = most.max(fds());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(holder.is_running());
    assert!(most <= before + 4, "{before} {most}");
    holder.signal("TERM");
    let end = holder.end();
    let is_lost = |line: &&str| line.ends_with(" is lost: no answer; connecting again");
    let connections = CONNECTIONS.load(Ordering::Relaxed);
    assert!(connections >= 4, "{connections}");
    // The same trouble is told once a minute.
    let lost = end.err.lines().filter(is_lost).count();
    let back = end
        .err
        .lines()
        .filter(|line| line.ends_with(" is back"))
        .count();
    assert_eq!((lost, back), (1, 1), "{}", end.err);
}

#[test]
fn a_hold_is_given_back_over_another_connection_if_its_own_is_mute_or_gone() {
    let daemon = Daemon::start(&[KEEPS]);
    let mute = way(daemon.addr, AT_ONCE, |connection, command, _| {
        connection == 0 && command == "r"
    });
    let end = run(at(mute, &["--lease", "60", "k", "true"]));
    assert_eq!((end.status, end.err.as_str()), (0, ""));
    daemon.connect().takes("k");
    let proxy = Proxy::to(daemon.addr);
    for args in [
        &["--lease", "60", "l", "-c", "echo ready; read line; true"][..],
        &["--lease", "60", "hold", "l"],
    ] {
        let mut holder = Run::start(at(proxy.addr, args));
        assert_ne!(holder.line(), "");
        proxy.set(Net::CutOnce);
        assert_eq!(holder.end().status, 0);
        proxy.set(Net::Open);
        let mut next = daemon.connect();
        let token = next.takes("l");
        next.says("r", "l", &token, "ok");
    }
}

#[test]
fn the_loss_of_a_connection_is_told_before_the_lock_is_lost() {
    let daemon = Daemon::start(&[]);
    let proxy = Proxy::to(daemon.addr);
    let command = ["--lease", "4", "k", "-c", "echo ready; exec sleep 60"];
    let mut holder = Run::start(at(proxy.addr, &command));
    holder.hears("ready");
    let name = format!("dflock: the connection to {}", proxy.addr);
    proxy.set(Net::CutOnce);
    let lost = holder.says();
    assert!(lost.starts_with(&format!("{name} is lost: ")), "{lost}");
    assert!(lost.ends_with("; connecting again\n"), "{lost}");
    assert_eq!(holder.says(), format!("{name} is back\n"));
    proxy.set(Net::Silent);
    assert_eq!(
        holder.says(),
        format!("{name} is lost: no answer; connecting again\n")
    );
    assert_eq!(
        holder.says(),
        "dflock: the lock is lost: stopping the command\n"
    );
    assert_eq!(holder.status(), 120);
}

/// A terminal that was stopped with ^S, or a pager that nobody pages.
#[test]
fn a_full_stderr_stops_nothing() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    holder.takes("busy");
    let cases = [
        (&["-v", "-n", "busy", "true"][..], 1),
        (&["-v", "-w", "1.5", "busy", "true"], 1),
        (&["-v", "free", "true"], 0),
        (&["--wiat", "k", "true"], 64),
        (&["k", "/no/such/program"], 127),
    ];
    let of_nobody = nowhere();
    let all = cases
        .into_iter()
        .map(|(args, status)| (daemon.addr, args, status));
    let none = (of_nobody, &["-w", "1.5", "k", "true"][..], 69);
    at_once(all.chain([none]), |(addr, args, status)| {
        let (_ours, its) = UnixStream::pair().unwrap();
        its.set_nonblocking(true).unwrap();
        while (&its).write(&[b'x'; 4096]).is_ok() {}
        its.set_nonblocking(false).unwrap();
        let mut command = at(addr, args);
        command.stdin(Stdio::null()).stderr(OwnedFd::from(its));
        let mut child = command.spawn().unwrap();
        let mut end = None;
        eventually("it ends", || {
            end = child.try_wait().unwrap();
            end.is_some()
        });
        assert_eq!(end.unwrap().code(), Some(status), "{args:?}");
    });
}
