//! Alternatives of one server: the one that answers is found, and a hold goes on at the next one when it is gone. The
//! servers are played: they have the same hold because the test says so.

use super::guard::{Part, stage, stage_on};
use super::*;
use crate::daemon::played::{Played, converse};
use std::net::SocketAddr;

type Heard = mpsc::Receiver<(usize, String)>;

const RENEWAL: &str = "n\nk\n00000000000000ff0123456789abcdef";

/// An address that takes connections, and nobody ever answers there.
fn mute() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    (listener, addr)
}

/// An address at which somebody may listen later, and nobody else.
fn standby() -> SocketAddr {
    Played::new().addr
}

fn options() -> Options {
    Options {
        id: Some(Owner::new(b"me").unwrap()),
        patience: 2 * PATIENCE,
        ..Options::default()
    }
}

/// A guard of `k` for as long as the server grants it.
fn guard(server: &str) -> (Lock, mpsc::Receiver<()>) {
    let (lost, when) = mpsc::channel();
    let client = Client::connect(server, &options()).unwrap();
    let on_lost = move || {
        // Nobody may listen any more.
        let _ = lost.send(());
    };
    let lock = Lock::acquire_with(client, key("k"), TRY, None, on_lost).unwrap();
    (lock, when)
}

/// The same of a leader that has granted it for 1000 s, and its connection there.
fn long_guard(server: &str, leader: &Played) -> (Lock, daemon::Client) {
    thread::scope(|scope| {
        let granted = scope.spawn(|| leader.grants(1000));
        let (lock, _) = guard(server);
        (lock, granted.join().unwrap())
    })
}

/// Waits until so many frames were heard that begin so.
#[track_caller]
fn hears(heard: &Heard, count: usize, head: &str) {
    let mut left = count;
    while left > 0 {
        let (_, frame) = heard.recv_timeout(PATIENCE).expect("it is asked in time");
        left -= usize::from(frame.starts_with(head));
    }
}

#[test]
fn the_alternative_that_answers_is_found_behind_others_that_refuse_or_are_mute_or_unknown() {
    let daemon = Daemon::start(&[]);
    let (_listener, mute) = mute();
    let gone = standby();
    // No resolver asks anybody for a name with an empty label.
    let server = format!("{}|a..example:1|{mute}|{}", gone, daemon.addr);
    let mut client = Client::connect(&server, &Options::default()).unwrap();
    client.ping().unwrap();
    let mut client = Client::connect(&server, &options()).unwrap();
    let grant = client.acquire(&key("k"), TRY, None).unwrap();
    client.release(&key("k"), grant.token).unwrap();
    let none = format!("{}|{}", gone, gone);
    is_io(
        Client::connect(&none, &Options::default()),
        &[ErrorKind::ConnectionRefused],
    );
}

#[test]
fn a_server_that_no_client_can_name_is_refused_before_anybody_is_asked() {
    for server in ["a:1||b:1", "|a:1", "a:1|", "a:1|b"] {
        let Err(Error::Io(error)) = Client::connect(server, &Options::default()) else {
            panic!("{server} is no server");
        };
        let text = format!("want HOST:PORT on both sides of each |, not {server:?}");
        assert_eq!(error.to_string(), text);
    }
}

/// The leader is stopped, and its kernel takes connections all the same.
#[test]
fn behind_a_leader_that_is_silent_the_next_one_is_asked_until_it_leads() {
    let (_listener, mute) = mute();
    let next = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("{mute}|{}", next.local_addr().unwrap());
    let client = thread::spawn(move || Client::connect(&server, &options()));
    // It stands by.
    for _ in 0..2 {
        drop(next.accept().unwrap());
    }
    let (_, heard) = stage_on(next, vec![Part::Serve]);
    let mut client = client.join().unwrap().unwrap();
    client.ping().unwrap();
    hears(&heard, 1, "id\n_\nme\n");
}

/// For a wait without an end, the end of the patience does not come.
#[test]
fn a_wait_at_a_leader_that_is_stopped_is_given_up() {
    let (leader, second) = (Daemon::start(&[]), Daemon::start(&[]));
    let mut holder = connect(&leader);
    holder.acquire(&key("k"), TRY, None).unwrap();
    let server = format!("{}|{}", leader.addr, second.addr);
    let mut places = [Client::connect(&server, &options()).unwrap(), {
        let mut client = Client::connect(&server, &options()).unwrap();
        assert_eq!(client.enqueue(&key("k"), None).unwrap(), Place::Queued);
        client
    }];
    thread::scope(|scope| {
        let [one, two] = &mut places;
        let one = scope.spawn(|| one.acquire(&key("k"), Duration::MAX, None));
        let two = scope.spawn(|| two.wait(&key("k"), Duration::MAX));
        eventually("both wait", || {
            let shown = holder.show(&key("k")).unwrap();
            shown.contains("\"waiting\":2")
        });
        leader.freeze();
        is_io(one.join().unwrap(), &[ErrorKind::TimedOut]);
        is_io(two.join().unwrap(), &[ErrorKind::TimedOut]);
    });
    let mut client = Client::connect(&server, &options()).unwrap();
    client.acquire(&key("k"), TRY, None).unwrap();
}

#[test]
fn a_wait_goes_on_while_pings_are_answered() {
    let leader = Played::new();
    let server = format!("{}|{}", leader.addr, standby());
    let client = thread::spawn(move || {
        let mut client = Client::connect(&server, &Options::default())?;
        client.acquire(&key("k"), Duration::MAX, None)
    });
    let mut place = leader.accept();
    converse(&mut place, &[("ping\n_\n_\n", "ok\n")]);
    assert!(frame(&mut place).starts_with("l\n"));
    let mut pings = leader.accept();
    converse(&mut pings, &[("ping\n_\n_\n", "ok\n"); 2]);
    assert_eq!(frame(&mut pings), "ping\n_\n_\n");
    // A server that lets nobody be idle for long is there all the same.
    drop(pings);
    let mut pings = leader.accept();
    assert_eq!(frame(&mut pings), "ping\n_\n_\n");
    place.send(format!("ok {TOKEN} 1000\n"));
    pings.send("ok\n");
    client.join().unwrap().unwrap();
}

#[test]
fn a_guard_goes_on_at_the_alternative_that_takes_over() {
    let (mut leader, second) = (Played::new(), standby());
    let server = format!("{}|{}", leader.addr, second);
    let (lock, peer) = long_guard(&server, &leader);
    leader.goes(peer);
    // So long nobody leads.
    thread::sleep(ONE);
    assert!(!lock.is_lost());
    let (_, heard) = stage_on(TcpListener::bind(second).unwrap(), vec![Part::Serve]);
    hears(&heard, 1, "id\n_\nme\n");
    hears(&heard, 1, RENEWAL);
    lock.release().unwrap();
    hears(&heard, 1, "r\nk\n");
}

/// In most attempts: on a busy machine the next one may have no time to answer before the first is asked beside it.
#[test]
fn after_a_cut_the_next_alternative_is_asked_before_the_same_again() {
    let is_next_first = || {
        let (leader, asked) = stage(vec![Part::GrantAndEnd, Part::Serve]);
        let (second, heard) = stage(vec![Part::Serve]);
        let (lock, _) = guard(&format!("{leader}|{second}"));
        hears(&heard, 1, RENEWAL);
        let is_first = asked.try_iter().all(|(connection, _)| connection == 0);
        lock.release().unwrap();
        is_first
    };
    assert!((0..10).any(|_| is_next_first()));
}

#[test]
fn a_guard_whose_connections_are_cut_goes_round() {
    let (leader, asked) = stage(vec![Part::GrantAndEnd, Part::Serve]);
    let second = Played::new();
    let (lock, _) = guard(&format!("{leader}|{}", second.addr));
    let peer = second.accept();
    drop((peer, second));
    hears(&asked, 4, RENEWAL);
    lock.release().unwrap();
}

/// An eighth of this lease is two minutes, which a mute connection has if it is the only one.
#[test]
fn an_alternative_that_is_mute_does_not_keep_a_guard_from_the_next() {
    let mut leader = Played::new();
    let (_listener, mute) = mute();
    let (second, heard) = stage(vec![Part::Serve]);
    let server = format!("{}|{mute}|{second}", leader.addr);
    let (lock, peer) = long_guard(&server, &leader);
    leader.goes(peer);
    hears(&heard, 1, RENEWAL);
    lock.release().unwrap();
}

/// The connection is not cut: its server is frozen, or its machine is dead.
#[test]
fn a_guard_of_a_leader_that_falls_silent_goes_on_at_the_next_alternative() {
    let (leader, _asked) = stage(vec![Part::GrantAndFallSilent]);
    let (second, heard) = stage(vec![Part::Serve]);
    let (lock, lost) = guard(&format!("{leader}|{second}"));
    hears(&heard, 5, RENEWAL);
    lock.release().unwrap();
    assert!(lost.try_recv().is_err());
}

#[test]
fn a_guard_whose_leader_is_gone_is_given_back_to_the_next_alternative() {
    let (mut leader, second) = (Played::new(), standby());
    let server = format!("{}|{}", leader.addr, second);
    let (lock, peer) = long_guard(&server, &leader);
    leader.goes(peer);
    let release = thread::spawn(move || lock.release());
    thread::sleep(ONE);
    assert!(!release.is_finished());
    let (_, heard) = stage_on(TcpListener::bind(second).unwrap(), vec![Part::Serve]);
    release.join().unwrap().unwrap();
    hears(&heard, 1, "r\nk\n");
}

/// The name may be found after the leader has answered.
#[test]
fn a_guard_goes_on_at_an_alternative_that_is_a_name() {
    let (mut leader, second) = (Played::new(), standby());
    let port = second.port();
    let server = format!("{}|localhost:{port}", leader.addr);
    let (lock, peer) = long_guard(&server, &leader);
    let there = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (_, heard) = stage_on(there, vec![Part::Serve]);
    leader.goes(peer);
    hears(&heard, 1, RENEWAL);
    lock.release().unwrap();
}
