//! The client library against the real server, and against servers that a test plays because the real one never does
//! such things. Not here: the rules of locks. Invariant: an order of events is proved by grants and not by how long
//! something took.

mod admin;
mod alternatives;
mod guard;
mod network;
mod owners;
mod restart;
mod signals;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::daemon::{self, Daemon, PATIENCE, at_once, eventually};
use dflockd::client::signals::KEPT_MAX;
use dflockd::client::{
    Client, Error, Grant, Key, Lock, Options, Owner, Place, Refusal, Servers, Signal, Token,
};
use dflockd::command::{SECOND, Us};
use dflockd::sys::now;

const TRY: Duration = Duration::ZERO;
const ONE: Duration = Duration::from_secs(1);
/// Under a second, and yet long enough for a busy machine.
const HASTE: Duration = Duration::from_millis(900);
const TOKEN: &str = "00000000000000ff0123456789abcdef";

fn connect(daemon: &Daemon) -> Client {
    Client::connect(&daemon.addr.to_string(), &Options::default()).expect("it listens")
}

/// Connects to a server that a test plays.
fn dial(server: &str) -> Client {
    Client::connect(server, &Options::default()).expect("it listens")
}

/// A client that gives up sooner than it would have to wait.
fn hasty(server: &str) -> Client {
    let options = Options {
        patience: HASTE,
        ..Options::default()
    };
    Client::connect(server, &options).expect("it listens")
}

fn key(name: &str) -> Key<'_> {
    Key::lock(name.as_bytes()).unwrap()
}

#[track_caller]
fn is_refused<T>(answer: Result<T, Error>, why: Refusal) {
    match answer {
        Err(Error::Refused(refusal)) => assert_eq!(refusal, why),
        Err(error) => panic!("{error:?}, not {why:?}"),
        Ok(_) => panic!("not refused"),
    }
}

#[track_caller]
fn is_timeout<T>(answer: Result<T, Error>) {
    assert!(matches!(answer, Err(Error::Timeout)), "{:?}", answer.err());
}

#[track_caller]
fn is_io<T>(answer: Result<T, Error>, kinds: &[ErrorKind]) {
    match answer {
        Err(Error::Io(error)) => assert!(kinds.contains(&error.kind()), "{error:?}"),
        other => panic!("{:?}", other.err()),
    }
}

#[track_caller]
fn is_nonsense<T>(answer: Result<T, Error>, quote: &str) {
    match answer {
        Err(Error::Protocol(text)) => assert_eq!(text, format!("it answered \"{quote}\"")),
        other => panic!("{:?}", other.err()),
    }
}

#[track_caller]
fn is_unasked<T>(answer: Result<T, Error>, quote: &str) {
    is_nonsense(
        answer.map_err(|error| match error {
            Error::Protocol(text) => {
                let answered = text.strip_suffix(" before it was asked");
                Error::Protocol(answered.expect("it came too early").to_string())
            }
            error => error,
        }),
        quote,
    );
}

/// It is of no use any more, and says so without a wait.
#[track_caller]
fn is_broken(client: &mut Client) {
    is_io(client.ping(), &[ErrorKind::NotConnected]);
    let token = Token { fence: 1, salt: 1 };
    is_io(
        client.renew(&key("k"), token, None),
        &[ErrorKind::NotConnected],
    );
}

/// A server of one connection, played by a test: its address, and the result of the script.
fn play<T: Send + 'static>(
    script: impl FnOnce(daemon::Client) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let play = move || script(daemon::Client::over(listener.accept().unwrap().0));
    (addr, thread::spawn(play))
}

/// The next frame that a played server hears; empty at the end.
fn frame(peer: &mut daemon::Client) -> String {
    (0..3).map(|_| peer.line()).collect()
}

/// A server that answers one frame so, and then listens to the end.
fn says(answer: &'static str) -> String {
    let script = move |mut peer: daemon::Client| {
        frame(&mut peer);
        peer.send(answer);
        peer.rest();
    };
    play(script).0
}

// Commands.

#[test]
fn a_lock_is_acquired_renewed_and_released() {
    let daemon = Daemon::start(&[]);
    let (mut one, mut two) = (connect(&daemon), connect(&daemon));
    let before = now();
    let first = one.acquire(&key("k"), TRY, None).unwrap();
    assert_eq!(first.lease, Duration::from_secs(33));
    assert!((before..=now()).contains(&(first.until - 33 * SECOND)));
    let before = now();
    // From whatever connection.
    let renewed = two.renew(&key("k"), first.token, Some(5 * ONE)).unwrap();
    assert_eq!((renewed.token, renewed.lease), (first.token, 5 * ONE));
    assert!((before..=now()).contains(&(renewed.until - 5 * SECOND)));
    is_timeout(two.acquire(&key("k"), TRY, None));
    one.release(&key("k"), first.token).unwrap();
    let next = two.acquire(&key("k"), TRY, Some(ONE)).unwrap();
    assert!(next.token.fence > first.token.fence && next.lease == ONE);
}

#[test]
fn a_semaphore_has_as_many_holders_as_its_limit() {
    let daemon = Daemon::start(&[]);
    let mut client = connect(&daemon);
    let pool = Key::semaphore(b"k", 2).unwrap();
    let one = client.acquire(&pool, TRY, None).unwrap();
    client.acquire(&pool, TRY, None).unwrap();
    is_timeout(client.acquire(&pool, TRY, None));
    client.renew(&pool, one.token, None).unwrap();
    client.release(&pool, one.token).unwrap();
    let Place::Granted(grant) = client.enqueue(&pool, None).unwrap() else {
        panic!("there is a place");
    };
    assert_eq!(client.wait(&pool, TRY).unwrap().token, grant.token);
    // A lock of that name is another thing.
    client.acquire(&key("k"), TRY, None).unwrap();
}

/// The patience begins when the wait is over.
#[test]
fn a_wait_that_is_over_is_a_timeout_and_not_shorter_than_asked() {
    let daemon = Daemon::start(&[]);
    let mut holder = connect(&daemon);
    holder.acquire(&key("k"), TRY, None).unwrap();
    at_once([Some(Duration::from_nanos(1)), Some(ONE), None], |wait| {
        let mut client = hasty(&daemon.addr.to_string());
        if wait.is_none() {
            client.enqueue(&key("k"), None).unwrap();
        }
        let before = Instant::now();
        match wait {
            Some(wait) => is_timeout(client.acquire(&key("k"), wait, None)),
            None => is_timeout(client.wait(&key("k"), ONE)),
        }
        assert!(before.elapsed() >= wait.unwrap_or(ONE));
        client.ping().unwrap();
    });
}

#[test]
fn a_client_in_the_queue_is_granted_after_the_one_before() {
    let daemon = Daemon::start(&[]);
    let (mut one, mut two) = (connect(&daemon), connect(&daemon));
    let Place::Granted(first) = one.enqueue(&key("k"), None).unwrap() else {
        panic!("it was free");
    };
    assert_eq!(two.enqueue(&key("k"), None).unwrap(), Place::Queued);
    assert_eq!(one.wait(&key("k"), TRY).unwrap().token, first.token);
    one.release(&key("k"), first.token).unwrap();
    let second = two.wait(&key("k"), PATIENCE).unwrap();
    assert!(second.token.fence > first.token.fence);
}

#[test]
fn ping_and_stats_are_answered() {
    let daemon = Daemon::start(&[]);
    let mut client = connect(&daemon);
    client.ping().unwrap();
    client.acquire(&key("k"), TRY, None).unwrap();
    let stats = client.stats().unwrap();
    assert!(stats.starts_with("{\"connections\":1,"), "{stats}");
    assert!(
        stats.contains("\"key\":\"k\"") && stats.ends_with('}'),
        "{stats}"
    );
}

#[test]
fn an_answer_to_stats_may_be_long() {
    let daemon = Daemon::start(&["--max-locks", "5000"]);
    let mut client = connect(&daemon);
    for n in 0..5000 {
        client
            .acquire(&key(&format!("{n:0200}")), TRY, None)
            .unwrap();
    }
    let stats = client.stats().unwrap();
    assert!(stats.len() > 1_000_000 && stats.ends_with('}'));
    client.ping().unwrap();
}

#[test]
fn a_key_is_sent_as_it_is() {
    let daemon = Daemon::start(&[]);
    let mut client = connect(&daemon);
    for name in [&[0xff, 0, b'{'][..], &[b'k'; 256]] {
        let key = Key::lock(name).unwrap();
        let grant = client.acquire(&key, TRY, Some(Duration::MAX)).unwrap();
        client.release(&key, grant.token).unwrap();
    }
}

// Refusals.

#[test]
fn a_token_that_is_not_held_is_an_error_and_the_connection_goes_on() {
    let daemon = Daemon::start(&[]);
    let mut client = connect(&daemon);
    let Grant { mut token, .. } = client.acquire(&key("k"), TRY, None).unwrap();
    token.salt ^= 1;
    is_refused(client.renew(&key("k"), token, None), Refusal::Error);
    is_refused(client.release(&key("k"), token), Refusal::Error);
    client.ping().unwrap();
}

#[test]
fn limits_are_refused_by_name() {
    let daemon = Daemon::start(&["--max-locks", "2", "--max-waiters", "1"]);
    let (mut one, mut two) = (connect(&daemon), connect(&daemon));
    one.acquire(&key("k"), TRY, None).unwrap();
    let pool = |limit| Key::semaphore(b"k", limit).unwrap();
    one.acquire(&pool(2), TRY, None).unwrap();
    is_refused(one.acquire(&pool(3), TRY, None), Refusal::LimitMismatch);
    is_refused(one.enqueue(&key("other"), None), Refusal::MaxLocks);
    assert_eq!(two.enqueue(&key("k"), None).unwrap(), Place::Queued);
    is_refused(one.acquire(&key("k"), ONE, None), Refusal::MaxWaiters);
    one.ping().unwrap();
}

#[test]
fn phases_out_of_order_are_refused_by_name() {
    let daemon = Daemon::start(&[]);
    let (mut one, mut two) = (connect(&daemon), connect(&daemon));
    is_refused(one.wait(&key("k"), TRY), Refusal::NotEnqueued);
    one.enqueue(&key("k"), Some(ONE)).unwrap();
    one.enqueue(&key("another"), None).unwrap();
    is_refused(one.enqueue(&key("another"), None), Refusal::AlreadyEnqueued);
    // That the next one has it says that the first lease is over.
    two.acquire(&key("k"), PATIENCE, None).unwrap();
    is_refused(one.wait(&key("k"), TRY), Refusal::LeaseExpired);
}

#[test]
fn a_server_that_drains_says_so_and_still_renews() {
    let mut daemon = Daemon::start(&[]);
    let mut one = connect(&daemon);
    let grant = one.acquire(&key("k"), TRY, None).unwrap();
    daemon.signal("TERM");
    daemon.event("draining");
    is_refused(one.acquire(&key("other"), TRY, None), Refusal::Draining);
    one.renew(&key("k"), grant.token, None).unwrap();
    one.release(&key("k"), grant.token).unwrap();
}

#[test]
fn the_right_secret_is_let_in_and_no_other() {
    let daemon = Daemon::start(&["--auth-token", "open sesame"]);
    let say = |secret: Option<&str>| {
        let options = Options {
            secret: secret.map(|secret| secret.as_bytes().to_vec()),
            ..Options::default()
        };
        Client::connect(&daemon.addr.to_string(), &options)
    };
    say(Some("open sesame")).unwrap().ping().unwrap();
    is_refused(say(Some("open barley")), Refusal::Auth);
    is_refused(say(None).unwrap().ping(), Refusal::Auth);
    for secret in ["", "open\nsesame", &"s".repeat(65_537)] {
        is_io(say(Some(secret)), &[ErrorKind::InvalidInput]);
    }
    is_refused(say(Some(&"s".repeat(65_536))), Refusal::Auth);
}

#[test]
fn a_secret_is_refused_by_a_server_that_has_none() {
    let daemon = Daemon::start(&[]);
    let options = Options {
        secret: Some(b"open sesame".to_vec()),
        ..Options::default()
    };
    is_refused(
        Client::connect(&daemon.addr.to_string(), &options),
        Refusal::Error,
    );
}

#[test]
fn the_last_word_of_a_server_that_closes_is_heard() {
    let (gone, is_gone) = mpsc::channel();
    let (addr, _) = play(move |mut peer| {
        peer.send("error_draining\n");
        drop(peer);
        gone.send(()).unwrap();
    });
    let mut client = dial(&addr);
    is_gone.recv_timeout(PATIENCE).unwrap();
    is_refused(client.ping(), Refusal::Draining);
    // Either side may be faster, and the error differs.
    let ends = [
        ErrorKind::UnexpectedEof,
        ErrorKind::BrokenPipe,
        ErrorKind::ConnectionReset,
    ];
    is_io(client.ping(), &ends);
    is_broken(&mut client);
}

// Deadlines.

#[test]
fn a_deadline_is_never_later_than_the_servers() {
    let daemon = Daemon::start(&[]);
    let (mut one, mut two) = (connect(&daemon), connect(&daemon));
    let grant = one.acquire(&key("k"), TRY, Some(ONE)).unwrap();
    two.acquire(&key("k"), PATIENCE, None).unwrap();
    assert!(now() >= grant.until);
}

#[test]
fn a_deadline_counts_from_when_the_request_was_sent() {
    let (addr, server) = play(|mut peer| {
        frame(&mut peer);
        let asked = now();
        peer.send(format!("ok {TOKEN} 33\n"));
        frame(&mut peer);
        let asked_again = now();
        peer.send("ok 7\n");
        [asked + 33 * SECOND, asked_again + 7 * SECOND]
    });
    let mut client = dial(&addr);
    let first = client.acquire(&key("k"), TRY, None).unwrap();
    let renewed = client.renew(&key("k"), first.token, None).unwrap();
    // A server cannot hear before it is asked.
    let [first_end, renewed_end] = server.join().unwrap();
    assert!(first.until <= first_end && renewed.until <= renewed_end);
}

#[test]
fn a_grant_out_of_the_queue_is_renewed_on_receipt() {
    let daemon = Daemon::start(&[]);
    let (mut one, mut two) = (connect(&daemon), connect(&daemon));
    let first = one.acquire(&key("k"), TRY, Some(ONE)).unwrap();
    let second = two.acquire(&key("k"), PATIENCE, Some(ONE)).unwrap();
    // The request is a second old, and so is its lease: counted from there it would be over.
    assert!(second.until >= first.until + SECOND);
    assert!(second.until <= now() + SECOND);
}

#[test]
fn a_turn_that_was_waited_for_is_renewed_with_its_own_lease() {
    let daemon = Daemon::start(&[]);
    let (mut one, mut two) = (connect(&daemon), connect(&daemon));
    let first = one.acquire(&key("k"), TRY, Some(ONE)).unwrap();
    two.enqueue(&key("k"), Some(2 * ONE)).unwrap();
    let second = two.wait(&key("k"), PATIENCE).unwrap();
    assert_eq!(second.lease, 2 * ONE);
    assert!(second.until >= first.until + 2 * SECOND);
}

#[test]
fn a_grant_that_is_over_on_receipt_is_an_expired_lease() {
    let (addr, server) = play(|mut peer| {
        frame(&mut peer);
        // A tenth of the lease.
        let since = Instant::now();
        eventually("time passes", || since.elapsed().as_millis() > 100);
        peer.send(format!("ok {TOKEN} 1\n"));
        let asked = frame(&mut peer);
        peer.send("error\n");
        asked
    });
    let mut client = dial(&addr);
    is_refused(
        client.acquire(&key("k"), PATIENCE, Some(ONE)),
        Refusal::LeaseExpired,
    );
    assert_eq!(server.join().unwrap(), format!("n\nk\n{TOKEN} 1\n"));
}

// Several servers.

#[test]
fn a_key_has_one_home_among_several_servers() {
    let daemons = [Daemon::start(&[]), Daemon::start(&[])];
    let servers = Servers::new(daemons.iter().map(|daemon| daemon.addr.to_string())).unwrap();
    for name in ["my-key", "deploy-job"] {
        let there = || Client::connect(servers.pick(name.as_bytes()), &Options::default()).unwrap();
        let _lock = Lock::acquire(there(), key(name), TRY, None).unwrap();
        is_timeout(there().acquire(&key(name), TRY, None));
    }
    // One is odd, one is even.
    for daemon in &daemons {
        let stats = connect(daemon).stats().unwrap();
        assert_eq!(stats.matches("\"key\":").count(), 1, "{stats}");
    }
}
