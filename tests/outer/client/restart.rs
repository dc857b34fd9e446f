//! A hold that a thread renews, while its server is away and when that is there again.

use super::*;
use crate::daemon::lasting::Lasting;
use crate::daemon::played::{Played, converse};

/// Several attempts to connect fail in this time.
const AWAY: Duration = Duration::from_millis(1500);

/// A guard of `k` with a lease that is longer than any test, and its connection.
fn guard(server: &Played, options: Options) -> (Lock, daemon::Client) {
    thread::scope(|scope| {
        let granted = scope.spawn(|| server.grants(1000));
        let client = Client::connect(&server.addr.to_string(), &options).unwrap();
        let lock = Lock::acquire(client, key("k"), TRY, None).unwrap();
        (lock, granted.join().unwrap())
    })
}

fn with_secret() -> Options {
    Options {
        secret: Some(b"open sesame".to_vec()),
        id: Some(Owner::new(b"me").unwrap()),
        patience: 2 * PATIENCE,
        ..Options::default()
    }
}

const AUTH: &str = "auth\n_\nopen sesame\n";
const ID: &str = "id\n_\nme\n";
const RENEWAL: &str = "n\nk\n00000000000000ff0123456789abcdef 1000\n";
const RELEASE: &str = "r\nk\n00000000000000ff0123456789abcdef\n";

#[test]
fn a_guard_outlives_a_server_that_is_away_for_a_while() {
    let mut server = Played::new();
    let (lock, peer) = guard(&server, with_secret());
    server.goes(peer);
    // Nothing can come, and that is no event.
    thread::sleep(AWAY);
    assert!(!lock.is_lost());
    server.comes_back();
    let mut peer = server.accept();
    converse(
        &mut peer,
        &[(AUTH, "ok\n"), (ID, "ok\n"), (RENEWAL, "ok 1000\n")],
    );
    let server = thread::spawn(move || converse(&mut peer, &[(RELEASE, "ok\n")]));
    lock.release().unwrap();
    server.join().unwrap();
}

#[test]
fn a_release_while_the_server_is_away_is_sent_when_it_is_there_again() {
    let mut server = Played::new();
    let (lock, peer) = guard(&server, with_secret());
    server.goes(peer);
    let release = thread::spawn(move || lock.release());
    // Nothing can come, and that is no event.
    thread::sleep(AWAY);
    assert!(!release.is_finished());
    server.comes_back();
    // What the thread had begun before it was told of the release may have been on its way.
    let mut peer = server.accept();
    converse(&mut peer, &[(AUTH, "ok\n"), (RELEASE, "ok\n")]);
    release.join().unwrap().unwrap();
}

#[test]
fn a_release_that_was_read_before_the_server_went_is_not_an_error_when_it_is_repeated() {
    let mut server = Played::new();
    let (lock, mut peer) = guard(&server, with_secret());
    let release = thread::spawn(move || lock.release());
    assert_eq!(frame(&mut peer), RELEASE);
    server.goes(peer);
    server.comes_back();
    let mut peer = server.accept();
    converse(&mut peer, &[(AUTH, "ok\n"), (RELEASE, "error\n")]);
    release.join().unwrap().unwrap();
}

#[test]
fn a_guard_whose_server_was_started_again_and_knows_nothing_is_lost_at_once() {
    let daemon = Daemon::start(&[]);
    let port = daemon.addr.port().to_string();
    let (lost, when) = mpsc::channel();
    let on_lost = move || lost.send(()).unwrap();
    let lease = Some(1000 * ONE);
    let lock = Lock::acquire_with(connect(&daemon), key("k"), TRY, lease, on_lost).unwrap();
    drop(daemon);
    assert!(!lock.is_lost());
    let _other = Daemon::launch(daemon::dflockd(&["--port", &port])).unwrap();
    when.recv_timeout(PATIENCE).unwrap();
    assert!(lock.is_lost());
    is_refused(lock.release(), Refusal::LeaseExpired);
}

/// A server that was killed and knows its holds leaves one without an owner to the first connection that renews it. It
/// ends with that one, as it would have ended with the first.
#[test]
fn a_guard_without_an_owner_keeps_the_connection_that_renewed_it_first_after_a_restart() {
    let mut server = Played::new();
    let peer = thread::scope(|scope| {
        let first = scope.spawn(|| {
            let mut peer = server.accept();
            converse(&mut peer, &[("l\nother\n0\n", &format!("ok {TOKEN} 33\n"))]);
            converse(&mut peer, &[("l\nk\n0 2\n", &format!("ok {TOKEN} 2\n"))]);
            peer
        });
        // On a connection that holds something no owner can be declared any more.
        let mut client = dial(&server.addr.to_string());
        client.acquire(&key("other"), TRY, None).unwrap();
        let lock = Lock::acquire(client, key("k"), TRY, Some(2 * ONE)).unwrap();
        (lock, first.join().unwrap())
    });
    let (lock, first) = peer;
    server.goes(first);
    server.comes_back();
    let renewal = format!("n\nk\n{TOKEN} 2\n");
    let mut second = server.accept();
    converse(&mut second, &[(&renewal, "ok 2\n")]);
    // It falls silent, and the next one goes on for two leases.
    let mut third = server.accept();
    for _ in 0..5 {
        converse(&mut third, &[(&renewal, "ok 2\n")]);
    }
    assert_eq!(frame(&mut second), renewal);
    second.stream().set_nonblocking(true).unwrap();
    let more = std::io::Read::read(second.stream(), &mut [0]);
    assert_eq!(
        more.map_err(|error| error.kind()),
        Err(ErrorKind::WouldBlock)
    );
    let third = thread::spawn(move || converse(&mut third, &[(RELEASE, "ok\n")]));
    lock.release().unwrap();
    third.join().unwrap();
}

// A server that knows its holds when it is started again.

/// A guard of this key, with a lease that is longer than any test unless it is said, and when it is lost.
fn kept(client: Client, key: Key, lease: Duration) -> (Lock, mpsc::Receiver<Us>) {
    let (lost, when) = mpsc::channel();
    let on_lost = move || lost.send(now()).unwrap();
    let lock = Lock::acquire_with(client, key, TRY, Some(lease), on_lost).unwrap();
    (lock, when)
}

/// Kills the server several times under a guard of this key. Nobody else is granted the lock before its release.
fn outlives_kills(server: &mut Lasting, options: &Options, key: Key, client: Client) {
    let dial = |server: &Lasting| Client::connect(&server.addr.to_string(), options).unwrap();
    let (lock, lost) = kept(client, key, 1000 * ONE);
    for _ in 0..3 {
        server.goes("KILL");
        server.comes_back();
        let mut rival = dial(server);
        is_timeout(rival.acquire(&key, TRY, None));
        // A hold without a connection has no address.
        eventually("it has moved", || {
            rival.show(&key).unwrap().contains("\"peer\":\"127.0.0.1:")
        });
        assert!(!lock.is_lost());
    }
    let fence = lock.fence();
    lock.release().unwrap();
    let next = dial(server).acquire(&key, TRY, None).unwrap();
    assert!(next.token.fence > fence);
    assert!(lost.try_recv().is_err());
}

#[test]
fn a_guard_outlives_its_server_if_that_knows_its_holds_again() {
    let pool = Key::semaphore(b"k", 1).unwrap();
    let cases = [(key("k"), false), (pool, false), (key("k"), true)];
    at_once(cases, |(key, has_another)| {
        let mut server = Lasting::start(&[]);
        let mut client = connect(server.daemon());
        if has_another {
            // Then it can declare no owner.
            client.acquire(&self::key("other"), TRY, None).unwrap();
        }
        outlives_kills(&mut server, &Options::default(), key, client);
    });
}

#[test]
fn a_guard_says_its_secret_to_a_server_that_is_started_again() {
    let mut server = Lasting::start(&["--auth-token", "open sesame"]);
    let options = with_secret();
    let client = Client::connect(&server.addr.to_string(), &options).unwrap();
    let rival = Options {
        id: None,
        ..options
    };
    outlives_kills(&mut server, &rival, key("k"), client);
}

#[cfg(feature = "tls")]
#[test]
fn a_guard_outlives_its_server_over_tls() {
    use dflockd::client::{Tls, TlsFiles};
    let Some(pki) = crate::daemon::pki::pki() else {
        return;
    };
    let own = pki.options("server.pem", "server.key");
    let mut server = Lasting::start(&own.each_ref().map(String::as_str));
    let files = TlsFiles {
        ca: Some(pki.path("ca.pem").into()),
        ..TlsFiles::default()
    };
    let options = Options {
        tls: Some(Tls::new(&files).unwrap()),
        ..Options::default()
    };
    let client = Client::connect(&server.addr.to_string(), &options).unwrap();
    outlives_kills(&mut server, &options, key("k"), client);
}

#[test]
fn each_guard_of_several_servers_comes_back_to_its_own() {
    let mut all = [Lasting::start(&[]), Lasting::start(&[])];
    let servers = Servers::new(all.iter().map(|server| server.addr.to_string())).unwrap();
    // One is odd, one is even.
    let names = ["my-key", "deploy-job"];
    let dial = |name: &str| Client::connect(servers.pick(name.as_bytes()), &Options::default());
    let locks = names.map(|name| kept(dial(name).unwrap(), key(name), 1000 * ONE));
    for server in &mut all {
        server.goes("KILL");
    }
    for server in &mut all {
        server.comes_back();
        assert_eq!(server.daemon().said.matches(" holds=1 ").count(), 1);
    }
    for (name, (lock, lost)) in names.into_iter().zip(locks) {
        let mut rival = dial(name).unwrap();
        is_timeout(rival.acquire(&key(name), TRY, None));
        lock.release().unwrap();
        rival.acquire(&key(name), TRY, None).unwrap();
        assert!(lost.try_recv().is_err());
    }
}

#[test]
fn a_release_while_the_server_is_killed_ends_the_hold_when_that_is_back() {
    let mut server = Lasting::start(&[]);
    let options = Options {
        patience: 2 * PATIENCE,
        ..Options::default()
    };
    let client = Client::connect(&server.addr.to_string(), &options).unwrap();
    let (lock, lost) = kept(client, key("k"), 1000 * ONE);
    server.goes("KILL");
    let release = thread::spawn(move || lock.release());
    // Nothing can come, and that is no event.
    thread::sleep(AWAY);
    server.comes_back();
    release.join().unwrap().unwrap();
    connect(server.daemon())
        .acquire(&key("k"), TRY, None)
        .unwrap();
    assert!(lost.try_recv().is_err());
}

/// As after a loss of power. The server grants nothing while a guard could believe in its lock.
#[test]
fn a_guard_whose_server_lost_its_journal_is_lost_at_once_and_before_anybody_else_has_the_lock() {
    let mut server = Lasting::start(&["--default-lease-ttl", "1"]);
    let (lock, lost) = kept(connect(server.daemon()), key("k"), 4 * ONE);
    let until = now() + 4 * SECOND;
    server.goes("KILL");
    server.loses_its_journal();
    server.comes_back();
    let mut rival = connect(server.daemon());
    is_timeout(rival.acquire(&key("k"), TRY, None));
    let when = lost.recv_timeout(PATIENCE).unwrap();
    assert!(lock.is_lost());
    let next = rival.acquire(&key("k"), PATIENCE, None).unwrap();
    assert!(when < until && until <= now(), "{when} {until} {}", now());
    assert!(next.token.fence > lock.fence());
}
