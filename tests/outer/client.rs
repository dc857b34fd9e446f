//! The client library against the real server, and against servers that a test plays because the real one never does
//! such things. Not here: the rules of locks. Invariant: an order of events is proved by grants and not by how long
//! something took.

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

// The network.

#[test]
fn where_nobody_listens_is_an_io_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    drop(taken);
    let options = Options::default();
    is_io(
        Client::connect(&addr, &options),
        &[ErrorKind::ConnectionRefused],
    );
    for server in ["", "127.0.0.1", "127.0.0.1:port"] {
        is_io(
            Client::connect(server, &options),
            &[ErrorKind::InvalidInput],
        );
    }
    let options = Options {
        patience: Duration::ZERO,
        ..options
    };
    is_io(Client::connect(&addr, &options), &[ErrorKind::TimedOut]);
}

#[test]
fn every_address_of_a_name_is_tried() {
    // On most machines the name is ::1 first, where nobody listens.
    let daemon = Daemon::start(&[]);
    let server = format!("localhost:{}", daemon.addr.port());
    let mut client = Client::connect(&server, &Options::default()).unwrap();
    client.ping().unwrap();
}

#[test]
fn a_server_that_says_nothing_is_given_up_after_the_patience() {
    let mut client = hasty(&says(""));
    let before = Instant::now();
    is_io(client.ping(), &[ErrorKind::TimedOut]);
    assert!(before.elapsed() >= HASTE);
    is_broken(&mut client);
}

#[test]
fn a_server_that_says_it_bit_by_bit_is_given_up_after_the_patience() {
    let (addr, _) = play(|mut peer| {
        frame(&mut peer);
        // Until the client hangs up, which is all there is to wait for: every byte comes in time, the line does not.
        while std::io::Write::write_all(peer.stream(), b"o").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    let mut client = hasty(&addr);
    let before = Instant::now();
    is_io(client.ping(), &[ErrorKind::TimedOut]);
    assert!(before.elapsed() < PATIENCE);
}

#[test]
fn nonsense_is_quoted_and_ends_the_connection() {
    let mut client = dial(&says("HTTP/1.1 \x1b\r\n"));
    is_nonsense(client.ping(), "HTTP/1.1 \\x1b\\r");
    is_broken(&mut client);
    // A text that is not UTF-8 is no JSON. Any other is left to the caller.
    is_nonsense(dial(&says("\u{fffd}\n")).stats(), "\\xef\\xbf\\xbd");
    assert_eq!(dial(&says("ok {\n")).stats().unwrap(), "{");
}

#[test]
fn an_answer_to_another_question_is_nonsense() {
    is_nonsense(dial(&says("timeout\n")).ping(), "timeout");
    is_nonsense(dial(&says("ok 33\n")).stats(), "ok 33");
    let mut client = dial(&says("queued\n"));
    is_nonsense(client.acquire(&key("k"), TRY, None), "queued");
    let mut client = dial(&says("ok\n"));
    is_nonsense(client.enqueue(&key("k"), None), "ok");
    is_broken(&mut client);
}

#[test]
fn an_answer_to_no_question_is_nonsense() {
    let mut client = dial(&says("ok\nok\n"));
    client.ping().unwrap();
    is_unasked(client.ping(), "ok");
    is_broken(&mut client);
}

#[test]
fn a_line_that_never_ends_is_not_kept() {
    let (addr, server) = play(|mut peer| {
        frame(&mut peer);
        let mut sent = 0_u64;
        while sent < 1 << 30 && std::io::Write::write_all(peer.stream(), &[b'o'; 4096]).is_ok() {
            sent += 4096;
        }
        sent
    });
    let mut client = dial(&addr);
    is_nonsense(client.ping(), &"o".repeat(80));
    is_broken(&mut client);
    drop(client);
    // It could send no more than fits between the two.
    assert!(server.join().unwrap() < 1 << 30);
}

#[test]
fn the_longest_line_is_256_bytes() {
    let mut client = dial(&says(concat!(
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "0",
    )));
    // It has no end, and is not waited for.
    // Any of it could be a token.
    is_nonsense(client.ping(), "0123456789abcdef...");
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

// The guard.

/// A guard, since when it was asked for, and when it was lost.
fn guard(client: Client, lease: Duration) -> (Lock, Us, mpsc::Receiver<Us>) {
    guard_of(key("k"), client, lease)
}

fn guard_of(key: Key, client: Client, lease: Duration) -> (Lock, Us, mpsc::Receiver<Us>) {
    let (lost, when) = mpsc::channel();
    let before = now();
    let on_lost = move || lost.send(now()).unwrap();
    let lock = Lock::acquire_with(client, key, TRY, Some(lease), on_lost);
    (lock.unwrap(), before, when)
}

#[test]
fn a_guard_of_a_lock_or_a_semaphore_outlives_its_lease_of_1_s_for_3_s() {
    let daemon = Daemon::start(&[]);
    let keys = [key("k"), Key::semaphore(b"k", 1).unwrap()];
    at_once(keys, |key| {
        let (lock, _, lost) = guard_of(key, connect(&daemon), ONE);
        let mut rival = connect(&daemon);
        is_timeout(rival.acquire(&key, 3 * ONE, None));
        assert!(!lock.is_lost());
        let fence = lock.fence();
        assert_eq!(lock.token().fence, fence);
        lock.release().unwrap();
        assert!(rival.acquire(&key, TRY, None).unwrap().token.fence > fence);
        // It was not lost, and never will be.
        assert_eq!(
            lost.recv_timeout(PATIENCE),
            Err(RecvTimeoutError::Disconnected)
        );
    });
}

#[test]
fn a_guard_that_is_dropped_has_released_and_does_not_wait_for_half_time() {
    let daemon = Daemon::start(&[]);
    let before = Instant::now();
    let (lock, _, lost) = guard(connect(&daemon), 1000 * ONE);
    drop(lock);
    assert!(before.elapsed() < PATIENCE);
    connect(&daemon).acquire(&key("k"), TRY, None).unwrap();
    assert_eq!(lost.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn a_guard_that_is_not_granted_is_the_error_of_the_acquire() {
    let daemon = Daemon::start(&[]);
    let _lock = Lock::acquire(connect(&daemon), key("k"), TRY, None).unwrap();
    is_timeout(Lock::acquire(connect(&daemon), key("k"), TRY, None));
}

#[test]
fn a_guard_renews_until_its_release_and_not_after() {
    let (renewed, renewal) = mpsc::channel();
    let (addr, server) = play(move |mut peer| {
        let mut asked = Vec::new();
        loop {
            let frame = frame(&mut peer);
            let Some(command) = frame.chars().next() else {
                return asked;
            };
            asked.push(command);
            match command {
                'l' => peer.send(format!("ok {TOKEN} 1\n")),
                'n' => {
                    renewed.send(()).unwrap();
                    peer.send("ok 1\n");
                }
                _ => peer.send("ok\n"),
            }
        }
    });
    let client = Client::connect(&addr, &Options::default()).unwrap();
    let lock = Lock::acquire(client, key("k"), TRY, None).unwrap();
    renewal.recv_timeout(PATIENCE).unwrap();
    drop(lock);
    let asked: String = server.join().unwrap().into_iter().collect();
    let renewals = asked.strip_prefix("il").unwrap().strip_suffix('r').unwrap();
    assert!(!renewals.is_empty() && renewals.chars().all(|c| c == 'n'));
}

#[test]
fn a_guard_notices_that_another_released_its_lock_and_says_so_once() {
    let daemon = Daemon::start(&[]);
    let (lock, _, lost) = guard(connect(&daemon), ONE);
    connect(&daemon).release(&key("k"), lock.token()).unwrap();
    lost.recv_timeout(PATIENCE).unwrap();
    assert!(lock.is_lost());
    is_refused(lock.release(), Refusal::LeaseExpired);
    assert_eq!(
        lost.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Disconnected)
    );
}

#[test]
fn a_guard_may_be_dropped_by_its_own_callback() {
    let daemon = Daemon::start(&[]);
    let (done, is_done) = mpsc::channel();
    let place: Arc<Mutex<Option<Lock>>> = Arc::default();
    let there = Arc::clone(&place);
    let on_lost = move || {
        drop(there.lock().unwrap().take());
        done.send(()).unwrap();
    };
    let lock = Lock::acquire_with(connect(&daemon), key("k"), TRY, Some(ONE), on_lost).unwrap();
    let token = lock.token();
    *place.lock().unwrap() = Some(lock);
    connect(&daemon).release(&key("k"), token).unwrap();
    is_done.recv_timeout(PATIENCE).unwrap();
    assert!(place.lock().unwrap().is_none());
}

#[test]
fn a_guard_of_a_frozen_server_is_lost_at_its_own_deadline_which_is_before_the_servers() {
    let daemon = Daemon::start(&[]);
    let mut rival = connect(&daemon);
    let (lock, before, lost) = guard(connect(&daemon), ONE);
    daemon.freeze();
    let is_lost = lock.is_lost();
    assert!(!is_lost || now() >= before + SECOND);
    let when = lost.recv_timeout(PATIENCE).unwrap();
    assert!(when >= before + SECOND && lock.is_lost());
    // The server has yet to find out.
    daemon.signal("CONT");
    rival.acquire(&key("k"), PATIENCE, None).unwrap();
    is_refused(lock.release(), Refusal::LeaseExpired);
}

#[test]
fn a_guard_whose_server_died_is_lost_at_its_next_renewal() {
    let daemon = Daemon::start(&[]);
    let (lock, before, lost) = guard(connect(&daemon), 4 * ONE);
    drop(daemon);
    let when = lost.recv_timeout(PATIENCE).unwrap();
    assert!(lock.is_lost());
    assert!(when < before + 4 * SECOND, "before the lease is over");
}

#[test]
fn a_guard_of_a_frozen_server_is_dropped_within_the_patience() {
    let daemon = Daemon::start(&[]);
    let client = hasty(&daemon.addr.to_string());
    let (lock, _, _lost) = guard(client, 1000 * ONE);
    daemon.freeze();
    let before = Instant::now();
    is_io(lock.release(), &[ErrorKind::TimedOut]);
    assert!(before.elapsed() < PATIENCE);
}

// Owners.

/// A connection of this owner.
fn connect_as(daemon: &Daemon, owner: &str) -> Client {
    let options = Options {
        id: Some(Owner::new(owner.as_bytes()).unwrap()),
        ..Options::default()
    };
    Client::connect(&daemon.addr.to_string(), &options).expect("it listens")
}

#[test]
fn an_owner_that_would_wait_for_itself_is_refused_and_keeps_its_holds() {
    let daemon = Daemon::start(&[]);
    let [mut one, mut two] = ["one", "two"].map(|owner| connect_as(&daemon, owner));
    let a = one.acquire(&key("a"), TRY, None).unwrap();
    let b = two.acquire(&key("b"), TRY, None).unwrap();
    is_refused(one.acquire(&key("a"), PATIENCE, None), Refusal::Deadlock);
    // Another connection of the same owner is the same.
    let mut other = connect_as(&daemon, "one");
    let elder = thread::spawn(move || other.acquire(&key("b"), PATIENCE, None).map(|_| other));
    eventually("it waits", || {
        connect(&daemon).stats().unwrap().contains("\"waiters\":1")
    });
    is_refused(two.acquire(&key("a"), PATIENCE, None), Refusal::Deadlock);
    two.release(&key("b"), b.token).unwrap();
    elder.join().unwrap().unwrap();
    one.release(&key("a"), a.token).unwrap();
}

#[test]
fn a_hold_goes_with_its_owner_from_connection_to_connection() {
    let daemon = Daemon::start(&[]);
    let mut one = connect_as(&daemon, "one");
    let first = one.acquire(&key("k"), TRY, None).unwrap();
    let mut other = connect_as(&daemon, "one");
    other.renew(&key("k"), first.token, None).unwrap();
    drop(one);
    let mut rival = connect(&daemon);
    is_timeout(rival.acquire(&key("k"), ONE, None));
    drop(other);
    rival.acquire(&key("k"), PATIENCE, None).unwrap();
}

#[test]
fn a_server_that_knows_no_owners_is_used_without() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let accept = || daemon::Client::over(listener.accept().unwrap().0);
        let mut first = accept();
        let heard = frame(&mut first);
        first.send("error\n");
        drop(first);
        let mut second = accept();
        let asked = frame(&mut second);
        second.send("ok\n");
        (heard, asked)
    });
    let id = Some(Owner::new(b"me").unwrap());
    let options = Options {
        id,
        ..Options::default()
    };
    let mut client = Client::connect(&addr, &options).unwrap();
    assert_eq!(client.owner(), None);
    client.ping().unwrap();
    let frames = ["id\n_\nme\n", "ping\n_\n_\n"].map(str::to_string);
    assert_eq!(server.join().unwrap(), frames.into());
}

#[test]
fn a_guard_has_an_owner_of_its_own_unless_its_connection_has_one() {
    let daemon = Daemon::start(&[]);
    let owners = || {
        let stats = connect(&daemon).stats().unwrap();
        let parts = stats.split("\"owner\":\"").skip(1);
        let owners = parts.map(|rest| rest.split('"').next().unwrap().to_string());
        owners.collect::<Vec<_>>()
    };
    let lock = |client, name| Lock::acquire(client, key(name), TRY, None).unwrap();
    let _locks = [lock(connect(&daemon), "a"), lock(connect(&daemon), "b")];
    let [one, two] = owners().try_into().unwrap();
    assert_ne!(one, two);
    let pid = format!(":{}:", std::process::id());
    assert!(one.contains(&pid) && two.contains(&pid), "{one} {two}");
    let _third = lock(connect_as(&daemon, "me"), "c");
    assert!(owners().contains(&"me".to_string()));
    // A connection with a hold cannot name an owner any more, and works without one.
    let mut client = connect(&daemon);
    client.acquire(&key("d"), TRY, None).unwrap();
    let _fourth = lock(client, "e");
    assert_eq!(owners().len(), 3);
}

// Signals.

fn signal(channel: &str, payload: &str) -> Signal {
    Signal {
        channel: channel.into(),
        payload: payload.into(),
    }
}

#[track_caller]
fn hears(client: &mut Client, channel: &str, payload: &str) {
    let heard = client.hear(PATIENCE).unwrap();
    assert_eq!(heard, Some(signal(channel, payload)));
}

#[test]
fn a_signal_is_heard_by_those_who_listen_and_counted() {
    let daemon = Daemon::start(&[]);
    let (mut one, mut two) = (connect(&daemon), connect(&daemon));
    assert_eq!(two.signal(b"jobs.mail", b"x").unwrap(), 0);
    one.listen(b"jobs.*", None).unwrap();
    one.listen(b"jobs.>", None).unwrap();
    assert_eq!(two.signal(b"jobs.mail", b" letter  7 ").unwrap(), 1);
    hears(&mut one, "jobs.mail", " letter  7 ");
    assert_eq!(two.signal(b"news", b"x").unwrap(), 0);
    one.unlisten(b"jobs.*", None).unwrap();
    one.unlisten(b"jobs.>", None).unwrap();
    one.unlisten(b"jobs.>", None).unwrap();
    assert_eq!(two.signal(b"jobs.mail", b"x").unwrap(), 0);
    assert_eq!(one.hear(TRY).unwrap(), None);
    one.ping().unwrap();
}

#[test]
fn a_group_takes_turns() {
    let daemon = Daemon::start(&[]);
    let mut members = [connect(&daemon), connect(&daemon)];
    for member in &mut members {
        member.listen(b"jobs.>", Some(b"workers")).unwrap();
    }
    let mut publisher = connect(&daemon);
    for n in 0..4 {
        let payload = n.to_string();
        assert_eq!(publisher.signal(b"jobs", payload.as_bytes()).unwrap(), 0);
        let receivers = publisher.signal(b"jobs.mail", payload.as_bytes());
        assert_eq!(receivers.unwrap(), 1);
        hears(&mut members[n % 2], "jobs.mail", &payload);
    }
}

#[test]
fn signals_that_come_during_a_request_are_heard_after_it() {
    let daemon = Daemon::start(&[]);
    let (mut one, mut two) = (connect(&daemon), connect(&daemon));
    one.listen(b"c", None).unwrap();
    let first = two.acquire(&key("k"), TRY, None).unwrap();
    let waiter = thread::spawn(move || one.acquire(&key("k"), PATIENCE, None).map(|_| one));
    eventually("it waits", || {
        two.stats().unwrap().contains("\"waiters\":1")
    });
    for n in 0..100 {
        assert_eq!(two.signal(b"c", n.to_string().as_bytes()).unwrap(), 1);
    }
    two.release(&key("k"), first.token).unwrap();
    let mut one = waiter.join().unwrap().unwrap();
    // Its own are among them, and some are still on their way.
    assert_eq!(one.signal(b"c", b"100").unwrap(), 1);
    assert!(one.stats().unwrap().ends_with('}'));
    assert_eq!(two.signal(b"c", b"101").unwrap(), 1);
    for n in 0..102 {
        hears(&mut one, "c", &n.to_string());
    }
    assert_eq!((one.hear(TRY).unwrap(), one.missed()), (None, 0));
}

#[test]
fn the_longest_signal_is_heard_and_a_longer_one_is_not_sent() {
    let daemon = Daemon::start(&[]);
    let mut client = connect(&daemon);
    client.listen(b"c", None).unwrap();
    let mut payload = vec![b'x'; 65_536 - 5 - 1];
    payload[7] = 0xff;
    assert_eq!(client.signal(b"c", &payload).unwrap(), 1);
    let heard = client.hear(PATIENCE).unwrap().unwrap();
    assert_eq!(heard.payload, payload);
    payload.push(b'x');
    let is_payload = |answer| matches!(answer, Err(Error::Payload(_)));
    assert!(is_payload(client.signal(b"c", &payload)));
    for payload in ["", " \t", "a\nb", "a\r"] {
        assert!(is_payload(client.signal(b"c", payload.as_bytes())));
    }
    for channel in [&b""[..], b"a b", b"a.*", b">", &[b'c'; 257]] {
        assert!(matches!(
            client.signal(channel, b"x"),
            Err(Error::Channel(_))
        ));
    }
    assert!(matches!(client.listen(b"a*", None), Err(Error::Pattern(_))));
    let group = client.unlisten(b"a", Some(b" "));
    assert!(matches!(group, Err(Error::Group(_))));
    client.ping().unwrap();
}

#[test]
fn a_signal_may_come_in_pieces_between_any_two_lines() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (addr, server) = play(move |mut peer| {
        frame(&mut peer);
        peer.send("ok\nsig a 1\nsi");
        frame(&mut peer);
        peer.send("g a 2\nsig a 3\nok\nsig a");
        may_go_on.recv().unwrap();
        peer.send(" 4\n");
        frame(&mut peer);
        peer.send("sig a 5\nok 7\n");
        peer.rest();
    });
    let mut client = dial(&addr);
    client.listen(b"a", None).unwrap();
    client.ping().unwrap();
    for n in ["1", "2", "3"] {
        hears(&mut client, "a", n);
    }
    assert_eq!(client.hear(Duration::from_millis(50)).unwrap(), None);
    go_on.send(()).unwrap();
    hears(&mut client, "a", "4");
    assert_eq!(client.signal(b"a", b"5").unwrap(), 7);
    hears(&mut client, "a", "5");
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_signal_to_who_never_listened_is_nonsense() {
    is_nonsense(dial(&says("sig a 1\nok\n")).ping(), "sig a 1");
    let (addr, _) = play(|mut peer| {
        peer.send("sig a 1\n");
        peer.rest();
    });
    let mut client = dial(&addr);
    is_nonsense(client.hear(PATIENCE), "sig a 1");
    is_broken(&mut client);
    let listen = |answer| {
        let mut client = dial(&says(answer));
        client.listen(b"a", None).unwrap();
        client
    };
    is_nonsense(listen("ok\nsig a\n").ping(), "sig a");
    is_nonsense(listen("ok\nsig a.* b\n").hear(PATIENCE), "sig a.* b");
    is_nonsense(listen("ok\nok\n").hear(PATIENCE), "ok");
    is_unasked(listen("ok\nok\n").ping(), "ok");
}

#[test]
fn a_signal_that_never_ends_is_not_kept() {
    let (addr, server) = play(|mut peer| {
        frame(&mut peer);
        peer.send("ok\nsig a ");
        let mut sent = 0_u64;
        while sent < 1 << 30 && std::io::Write::write_all(peer.stream(), &[b'o'; 4096]).is_ok() {
            sent += 4096;
        }
        sent
    });
    let mut client = dial(&addr);
    client.listen(b"a", None).unwrap();
    let quote = format!("sig a {}", "o".repeat(74));
    is_nonsense(client.hear(PATIENCE), &quote);
    is_broken(&mut client);
    drop(client);
    assert!(server.join().unwrap() < 1 << 30);
}

#[test]
fn of_more_signals_than_there_is_room_for_the_first_are_kept_and_the_others_counted() {
    let (addr, _) = play(|mut peer| {
        frame(&mut peer);
        peer.send("ok\n");
        frame(&mut peer);
        for n in 0..KEPT_MAX + 5 {
            peer.send(format!("sig a {n}\n"));
        }
        peer.send("ok\nsig a last\n");
        peer.rest();
    });
    let mut client = dial(&addr);
    client.listen(b"a", None).unwrap();
    client.ping().unwrap();
    assert_eq!(client.missed(), 5);
    for n in 0..KEPT_MAX {
        hears(&mut client, "a", &n.to_string());
    }
    hears(&mut client, "a", "last");
}

#[test]
fn a_listener_hears_the_kept_signals_and_then_the_end_of_the_server() {
    let mut daemon = Daemon::start(&[]);
    let mut client = connect(&daemon);
    client.listen(b"a", None).unwrap();
    client.signal(b"a", b"1").unwrap();
    daemon.signal("TERM");
    daemon.event("draining");
    hears(&mut client, "a", "1");
    is_io(client.hear(PATIENCE), &[ErrorKind::UnexpectedEof]);
    is_broken(&mut client);
    is_io(client.hear(PATIENCE), &[ErrorKind::NotConnected]);
}

#[test]
fn a_subscription_over_the_limit_is_refused() {
    let daemon = Daemon::start(&["--max-subscriptions", "1"]);
    let mut client = connect(&daemon);
    client.listen(b"a", None).unwrap();
    is_refused(client.listen(b"b", None), Refusal::Error);
    assert_eq!(client.signal(b"b", b"x").unwrap(), 0);
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
