//! `dflock` and a server with alternatives, of which one leads: it is found, and missed no longer than until the next
//! one leads. Invariant: as in main.rs.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::played::{Played, TOKEN, frame};
use crate::daemon::{Client, Daemon, PATIENCE, at_once, dflockd, eventually};
use crate::proxy::{Net, Proxy};
use crate::stage::{Run, dflock, run, waiters};
use crate::waiting::nowhere;

/// Runs until its input ends.
const SCRIPT: &str = "echo ready; read line; exit 6";

/// Asking at one of these.
fn among<const N: usize>(servers: [SocketAddr; N], args: &[&str]) -> Command {
    let mut command = dflock(args);
    let servers = servers.map(|addr| addr.to_string()).join("|");
    command.env("DFLOCK_SERVER", servers);
    command
}

/// A command that runs under a lock of this leader, which is one of the alternatives, and its connection there.
fn holding<const N: usize>(leader: &mut Played, servers: [SocketAddr; N]) -> (Run, Client) {
    let mut holder = Run::start(among(servers, &["k", "-c", SCRIPT]));
    let peer = leader.grants(1000);
    holder.hears("ready");
    (holder, peer)
}

/// An address that takes connections, and nobody ever answers there.
fn mute() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// An address at which somebody may listen later, and nobody else.
fn standby() -> SocketAddr {
    Played::new().addr
}

/// A server that has the hold: it answers whatever it is asked, over all connections. All that it hears.
fn serve(listener: TcpListener) -> mpsc::Receiver<String> {
    let (heard, hears) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let heard = heard.clone();
            thread::spawn(move || {
                let mut answers = stream.try_clone().unwrap();
                let lines = BufReader::new(stream).lines().map_while(Result::ok);
                for (number, line) in lines.enumerate() {
                    // Nobody may listen any more, and the client may be gone.
                    let _ = match (number % 3, line.as_str()) {
                        (0, "n") => answers.write_all(b"ok 1000\n"),
                        (0, _) => answers.write_all(b"ok\n"),
                        _ => continue,
                    };
                    let _ = heard.send(line);
                }
            });
        }
    });
    hears
}

/// A server that stands by for so many connections, each of which it ends unread, and then leads: it answers whatever
/// it is asked, and grants.
fn leads_after(count: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok).skip(count) {
            thread::spawn(move || {
                let mut answers = stream.try_clone().unwrap();
                let lines = BufReader::new(stream).lines().map_while(Result::ok);
                for command in lines.step_by(3) {
                    let answer = match command.as_str() {
                        "l" => format!("ok {TOKEN} 1000\n"),
                        "n" => "ok 1000\n".to_string(),
                        "stats" => "ok {}\n".to_string(),
                        "show" | "sshow" => {
                            "ok {\"limit\":1,\"held\":0,\"waiting\":0}\n".to_string()
                        }
                        _ => "ok\n".to_string(),
                    };
                    // The client may be gone.
                    let _ = answers.write_all(answer.as_bytes());
                }
            });
        }
    });
    addr
}

/// Waits until this was asked.
#[track_caller]
fn hears(heard: &mpsc::Receiver<String>, command: &str) {
    while heard.recv_timeout(PATIENCE).expect("it is asked in time") != command {}
}

#[test]
fn a_bar_has_a_server_on_both_sides() {
    for server in ["a||b", "|a", "a|", "|", "a:1,b:1|"] {
        let end = run(dflock(&["--server", server, "ping"]));
        end.complains(64);
        let wanted = "--server: want HOST:PORT on both sides of each |, not ";
        assert!(end.err.contains(wanted), "{}", end.err);
    }
    let end = run(dflock(&["--server", "a|b:x", "ping"]));
    end.complains(64);
    let wanted = "| between alternatives of one server, not \"a|b:x\"";
    assert!(end.err.contains(wanted), "{}", end.err);
    let mut command = dflock(&["ping"]);
    command.env("DFLOCK_SERVER", "a||b");
    let end = run(command);
    assert!(
        end.err.contains("DFLOCK_SERVER: want HOST:PORT on both"),
        "{}",
        end.err
    );
}

#[test]
fn each_step_finds_the_alternative_that_answers() {
    let daemon = Daemon::start(&[]);
    let (_listener, mute) = mute();
    let servers = [nowhere(), mute, daemon.addr];
    let mut holder = daemon.connect();
    holder.takes("busy");
    let cases = [
        (&["ping"][..], 0),
        (&["ls"], 0),
        (&["stat", "busy"], 0),
        (&["signal", "c", "p"], 0),
        (&["-n", "free", "true"], 0),
        (&["-n", "busy", "true"], 1),
        (&["-w", "1", "busy", "true"], 1),
        (&["acquire", "mine"], 0),
        (&["bench", "--rounds", "1"], 0),
    ];
    at_once(cases, |(args, status)| {
        // As a bench takes the first that accepts, it must not find the mute one.
        let end = match args[0] {
            "bench" => run(among([nowhere(), daemon.addr], args)),
            _ => run(among(servers, args)),
        };
        assert_eq!(end.status, status, "{args:?}: {end:?}");
    });
    let end = run(among([nowhere(), nowhere()], &["-n", "k", "true"]));
    end.complains(69);
}

/// CRC-32 picks the shard, and its alternatives do not count: `my-key` is odd, `deploy-job` even.
#[test]
fn the_key_picks_a_server_and_not_an_alternative() {
    let (one, two) = (Daemon::start(&[]), Daemon::start(&[]));
    let nobody = nowhere();
    let servers = format!("{}|{nobody},{nobody}|{nobody}|{}", one.addr, two.addr);
    for (key, home) in [("deploy-job", &one), ("my-key", &two)] {
        let mut holder = Run::start(dflock(&["--server", &servers, key, "-c", SCRIPT]));
        holder.hears("ready");
        home.connect().says("l", key, "0", "timeout");
        holder.close();
        let end = holder.end();
        assert_eq!(end.status, 6, "{end:?}");
    }
}

#[test]
fn a_command_goes_on_while_the_next_alternative_takes_over() {
    let (mut leader, next) = (Played::new(), standby());
    let servers = [leader.addr, next];
    let (mut holder, peer) = holding(&mut leader, servers);
    leader.goes(peer);
    let line = holder.says();
    let head = format!("dflock: the connection to {}|{next} is lost: ", leader.addr);
    assert!(line.starts_with(&head), "{line}");
    // Nobody leads for a while.
    thread::sleep(Duration::from_millis(1300));
    assert!(holder.is_running());
    let heard = serve(TcpListener::bind(next).unwrap());
    hears(&heard, "n");
    holder.close();
    hears(&heard, "r");
    let end = holder.end();
    assert_eq!(end.status, 6, "{end:?}");
}

/// An eighth of this lease is two minutes, which a mute connection has if it is the only one.
#[test]
fn an_alternative_that_is_mute_does_not_keep_a_command_from_the_next() {
    assert!(PATIENCE < Duration::from_secs(1000 / 8));
    let mut leader = Played::new();
    let (_listener, mute) = mute();
    let second = TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = [leader.addr, mute, second.local_addr().unwrap()];
    let heard = serve(second);
    let (mut holder, peer) = holding(&mut leader, servers);
    leader.goes(peer);
    hears(&heard, "n");
    holder.close();
    hears(&heard, "r");
    let end = holder.end();
    assert_eq!(end.status, 6, "{end:?}");
}

#[test]
fn a_command_is_released_at_the_alternative_that_has_taken_over() {
    let (mut leader, next) = (Played::new(), standby());
    let servers = [leader.addr, next];
    let (mut holder, peer) = holding(&mut leader, servers);
    leader.goes(peer);
    holder.says();
    holder.close();
    // The command ends, and the release finds nobody for a moment.
    thread::sleep(Duration::from_millis(500));
    let heard = serve(TcpListener::bind(next).unwrap());
    let end = holder.end();
    hears(&heard, "r");
    assert_eq!(end.status, 6, "{end:?}");
    assert!(!end.err.contains("did not answer the release"), "{end:?}");
}

#[test]
fn waiters_queue_at_the_alternative_that_leads_next() {
    let leader = Daemon::start(&[]);
    let next = standby();
    let mut holder = leader.connect();
    holder.takes("k");
    let args = ["k", "-c", "echo mine"];
    let waiter = Run::start(among([leader.addr, next], &args));
    eventually("it waits", || waiters(&leader, "k") == 1);
    drop(leader);
    // Longer than the pauses are at first.
    thread::sleep(Duration::from_millis(700));
    let (host, port) = (next.ip().to_string(), next.port().to_string());
    let second = Daemon::launch(dflockd(&["--host", &host, "--port", &port])).unwrap();
    let end = waiter.end();
    assert_eq!((end.status, end.out.as_str()), (0, "mine\n"), "{end:?}");
    drop(second);
}

/// The one that has cut the connection is there again, and would take it too.
#[test]
fn a_waiter_that_was_cut_asks_the_next_alternative_first() {
    let (leader, second) = (Daemon::start(&[]), Daemon::start(&[]));
    let proxy = Proxy::to(leader.addr);
    let mut holder = leader.connect();
    holder.takes("k");
    let args = ["k", "-c", "echo mine"];
    let waiter = Run::start(among([proxy.addr, second.addr], &args));
    eventually("it waits", || waiters(&leader, "k") == 1);
    proxy.set(Net::CutOnce);
    let end = waiter.end();
    assert_eq!((end.status, end.out.as_str()), (0, "mine\n"), "{end:?}");
}

/// It is stopped, and its kernel takes connections all the same.
#[test]
fn behind_a_leader_that_is_silent_the_next_one_is_asked_until_it_leads() {
    let cases = [
        (&["-n", "k", "true"][..], 0),
        (&["-w", "60", "k", "true"], 0),
        (&["-n", "acquire", "k"], 0),
        (&["ls"], 0),
        (&["stat", "k"], 1),
        (&["ping"], 0),
        (&["release", "k", TOKEN], 0),
    ];
    at_once(cases, |(args, status)| {
        let (_listener, mute) = mute();
        let end = run(among([mute, leads_after(2)], args));
        assert_eq!(end.status, status, "{args:?}: {end:?}");
    });
}

/// There is no first answer to a wait, but to a try there is.
#[test]
fn a_try_whose_server_falls_silent_is_made_at_the_next_one() {
    let (leader, second) = (Played::new(), leads_after(0));
    let tries = Run::start(among([leader.addr, second], &["-n", "k", "true"]));
    let mut peer = leader.accept();
    for _ in 0..2 {
        assert!(frame(&mut peer).starts_with("id\n"));
    }
    peer.send("ok\nok\n");
    assert_eq!(frame(&mut peer), "l\nk\n0\n");
    // It leaves: a grant that comes later ends with the connection.
    peer.is_closed();
    let end = tries.end();
    assert_eq!(end.status, 0, "{end:?}");
}

#[test]
fn a_waiter_leaves_a_leader_that_is_stopped() {
    let (leader, second) = (Daemon::start(&[]), Daemon::start(&[]));
    let mut holder = leader.connect();
    holder.takes("k");
    let args = ["k", "-c", "echo mine"];
    let waiter = Run::start(among([leader.addr, second.addr], &args));
    eventually("it waits", || waiters(&leader, "k") == 1);
    leader.freeze();
    let end = waiter.end();
    assert_eq!((end.status, end.out.as_str()), (0, "mine\n"), "{end:?}");
    let told = "is lost: no answer; asking again\n";
    assert!(end.err.contains(told), "{end:?}");
}

/// The pings go to the address of the queue, and the connection of the wait stays.
#[test]
fn a_waiter_stays_where_its_pings_are_answered() {
    let leader = Played::new();
    let mut waiter = Run::start(among([leader.addr, nowhere()], &["k", "-c", SCRIPT]));
    let mut place = leader.accept();
    for _ in 0..2 {
        frame(&mut place);
    }
    place.send("ok\nok\n");
    assert!(frame(&mut place).starts_with("l\n"));
    let mut pings = leader.accept();
    for answer in ["ok\n", "ok\n"] {
        assert_eq!(frame(&mut pings), "ping\n_\n_\n");
        pings.send(answer);
    }
    // A server that is full, or lets nobody be idle for long, closes the connection. It is there.
    assert_eq!(frame(&mut pings), "ping\n_\n_\n");
    drop(pings);
    let mut pings = leader.accept();
    assert_eq!(frame(&mut pings), "ping\n_\n_\n");
    place.send(format!("ok {TOKEN} 1000\n"));
    waiter.hears("ready");
    waiter.close();
    assert!(frame(&mut place).starts_with("r\n"));
    place.send("ok\n");
    let end = waiter.end();
    assert_eq!((end.status, end.err.as_str()), (6, ""), "{end:?}");
}

/// A command that has ended while nobody answers: its leader is gone, or silent. Returns it, where the next leader is
/// to be, and the silent one, once it has said that it asks again.
fn gives_back(is_silent: bool) -> (Run, SocketAddr, Played, Option<Client>) {
    let (mut leader, next) = (Played::new(), standby());
    let servers = [leader.addr, next];
    let (mut holder, peer) = holding(&mut leader, servers);
    let peer = match is_silent {
        true => Some(peer),
        false => {
            leader.goes(peer);
            holder.says();
            None
        }
    };
    holder.close();
    let told = "dflock: the server does not answer the release: asking again\n";
    loop {
        let line = holder.says();
        assert!(!line.is_empty(), "it goes on");
        if line == told {
            break;
        }
    }
    (holder, next, leader, peer)
}

#[test]
fn a_release_is_repeated_until_the_next_alternative_leads() {
    at_once([false, true], |is_silent| {
        let (holder, next, _leader, _peer) = gives_back(is_silent);
        let heard = serve(TcpListener::bind(next).unwrap());
        let end = holder.end();
        hears(&heard, "r");
        assert_eq!(end.status, 6, "{end:?}");
        let told = "dflock: the server has answered the release\n";
        assert_eq!(end.err, told);
    });
}

#[test]
fn a_release_that_nobody_answers_is_ended_by_a_signal() {
    let (holder, ..) = gives_back(false);
    let before = Instant::now();
    holder.signal("TERM");
    let end = holder.end();
    // Without the signal it would go on for ten seconds.
    assert!(before.elapsed() < Duration::from_secs(6));
    assert_eq!(end.status, 6, "{end:?}");
    assert!(end.err.contains("did not answer the release"), "{end:?}");
}

/// A script around it must see that.
#[test]
fn a_release_that_nobody_answers_is_ended_by_an_interrupt_of_which_dflock_dies() {
    let (mut leader, next) = (Played::new(), standby());
    let command = format!("dflock --server '{}|{next}' k -c '{SCRIPT}'", leader.addr);
    let mut holder = Run::on_terminal(leader.addr, &command);
    let peer = leader.grants(1000);
    assert_eq!(holder.line().trim_end(), "ready");
    leader.goes(peer);
    holder.send("\n");
    loop {
        let line = holder.line();
        assert!(!line.is_empty(), "it goes on");
        if line.contains("the release: asking again") {
            break;
        }
    }
    holder.send("\x03");
    assert_eq!(holder.status(), -libc::SIGINT);
}

#[test]
fn a_name_that_is_not_found_is_told_and_does_no_harm() {
    let daemon = Daemon::start(&[]);
    // No resolver asks anybody for a name with an empty label.
    let server = format!("a..example:1|{}", daemon.addr);
    let end = run(dflock(&["--server", &server, "-v", "-n", "k", "true"]));
    assert_eq!(end.status, 0, "{end:?}");
    assert!(end.err.contains("a..example:1 is not found: "), "{end:?}");
    let end = run(dflock(&["--server", &server, "-n", "k", "true"]));
    assert_eq!((end.status, end.err.as_str()), (0, ""));
}
