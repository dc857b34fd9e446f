//! A hold that a thread renews: what it outlives, when it is lost, how it is given back.

use super::*;
use crate::proxy::{Net, Proxy};

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

/// To a connection too many a server says so, and that is no word about the hold.
#[test]
fn a_guard_outlives_a_server_that_is_full_when_it_connects_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (renewed, renewal) = mpsc::channel();
    let server = thread::spawn(move || {
        let accept = || daemon::Client::over(listener.accept().unwrap().0);
        let full = || accept().send("error_max_connections\n");
        let mut peer = accept();
        for answer in ["ok\n".to_string(), format!("ok {TOKEN} 33\n")] {
            frame(&mut peer);
            peer.send(answer);
        }
        drop(peer);
        (0..3).for_each(|_| full());
        let mut peer = accept();
        assert!(frame(&mut peer).starts_with("id\n"));
        assert!(frame(&mut peer).starts_with("n\n"));
        peer.send("ok\nok 33\n");
        renewed.send(()).unwrap();
        assert!(frame(&mut peer).starts_with("r\n"));
        drop(peer);
        full();
        let mut peer = accept();
        assert!(frame(&mut peer).starts_with("r\n"));
        peer.send("ok\n");
    });
    let lock = Lock::acquire(dial(&addr), key("k"), TRY, None).unwrap();
    renewal.recv_timeout(PATIENCE).unwrap();
    assert!(!lock.is_lost());
    lock.release().unwrap();
    server.join().unwrap();
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
fn a_guard_whose_server_died_is_lost_at_its_deadline_and_not_before() {
    let daemon = Daemon::start(&[]);
    let (lock, before, lost) = guard(connect(&daemon), 2 * ONE);
    drop(daemon);
    let when = lost.recv_timeout(PATIENCE).unwrap();
    assert!(lock.is_lost() && when >= before + 2 * SECOND);
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

// A guard and its connection. The server is played, or a way to the real one that can be cut.

/// What a played server does with a connection of a guard.
pub(super) enum Part {
    /// Grants, and then ends the connection.
    GrantAndEnd,
    /// Grants, and answers nothing more.
    GrantAndFallSilent,
    /// Answers as a server does that knows the hold.
    Serve,
    /// The same, but each renewal takes longer than an eighth of the lease.
    ServeSlowly,
    /// Answers secret and owner, and `error` to everything else.
    Refuse,
    /// Is about to stop: takes no owner.
    Drain,
    /// Answers `error` to an owner, and closes.
    KnowNoOwners,
    /// Takes the connection and says nothing.
    Silence,
}

/// A server that plays a part on each connection, one after the other and then the last again; where to find it, and
/// all that it hears: the number of the connection, and the frame, empty at its end.
pub(super) fn stage(parts: Vec<Part>) -> (String, mpsc::Receiver<(usize, String)>) {
    stage_on(TcpListener::bind("127.0.0.1:0").unwrap(), parts)
}

/// The same, where clients look for it already.
pub(super) fn stage_on(
    listener: TcpListener,
    parts: Vec<Part>,
) -> (String, mpsc::Receiver<(usize, String)>) {
    let addr = listener.local_addr().unwrap().to_string();
    let (heard, hears) = mpsc::channel();
    thread::spawn(move || {
        let parts = Arc::new(parts);
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let (parts, heard) = (Arc::clone(&parts), heard.clone());
            thread::spawn(move || {
                let part = &parts[number.min(parts.len() - 1)];
                play_part(daemon::Client::over(stream), part, |frame| {
                    // Nobody may listen any more.
                    let _ = heard.send((number, frame));
                });
            });
        }
    });
    (addr, hears)
}

fn play_part(mut peer: daemon::Client, part: &Part, heard: impl Fn(String)) {
    loop {
        let asked = try_frame(&mut peer);
        heard(asked.clone());
        let grant = format!("ok {TOKEN} 2\n");
        let answer = match (part, asked.split('\n').next().unwrap_or_default()) {
            (_, "") => return,
            (Part::Silence, _) => "",
            (Part::KnowNoOwners, "id") => {
                peer.send("error\n");
                return;
            }
            (Part::Drain, "id") => "error_draining\n",
            (_, "auth" | "id") => "ok\n",
            (Part::GrantAndEnd, _) => {
                peer.send(grant);
                return;
            }
            (Part::Refuse, _) => "error\n",
            (_, "l") => &grant,
            (Part::GrantAndFallSilent, _) => "",
            (Part::ServeSlowly, "n") => {
                // Longer than the patience with a lease of 2 s, and shorter than what is left of it.
                thread::sleep(Duration::from_millis(600));
                "ok 2\n"
            }
            (_, "n") => "ok 2\n",
            (_, _) => "ok\n",
        };
        peer.send(answer);
    }
}

/// The next frame, or nothing at the end; a reset is an end too.
fn try_frame(peer: &mut daemon::Client) -> String {
    let mut frame = Vec::new();
    let mut byte = [0];
    while frame.iter().filter(|byte| **byte == b'\n').count() < 3 {
        match std::io::Read::read(peer.stream(), &mut byte) {
            Ok(1) => frame.push(byte[0]),
            _ => return String::new(),
        }
    }
    String::from_utf8(frame).unwrap()
}

/// The next that this connection hears.
#[track_caller]
fn next(hears: &mpsc::Receiver<(usize, String)>, number: usize) -> String {
    loop {
        let (from, frame) = hears.recv_timeout(PATIENCE).expect("something is said");
        if from == number {
            return frame;
        }
    }
}

fn guard_with_secret(addr: &str) -> (Lock, mpsc::Receiver<Us>) {
    let options = Options {
        secret: Some(b"open sesame".to_vec()),
        id: Some(Owner::new(b"me").unwrap()),
        ..Options::default()
    };
    let client = Client::connect(addr, &options).unwrap();
    let (lock, _, lost) = guard(client, 2 * ONE);
    (lock, lost)
}

const AUTH: &str = "auth\n_\nopen sesame\n";
const ID: &str = "id\n_\nme\n";

fn renewal() -> String {
    format!("n\nk\n{TOKEN} 2\n")
}

fn release() -> String {
    format!("r\nk\n{TOKEN}\n")
}

#[test]
fn a_guard_whose_connection_ends_says_who_it_is_on_a_new_one_and_renews_at_once() {
    let (addr, hears) = stage(vec![Part::GrantAndEnd, Part::Serve]);
    let (lock, lost) = guard_with_secret(&addr);
    for frame in [AUTH.to_string(), ID.to_string(), renewal(), renewal()] {
        assert_eq!(next(&hears, 1), frame);
    }
    lock.release().unwrap();
    assert_eq!(next(&hears, 1), release());
    assert!(lost.try_recv().is_err());
}

#[test]
fn a_guard_whose_connection_falls_silent_moves_to_another_and_then_closes_the_first() {
    let (addr, hears) = stage(vec![Part::GrantAndFallSilent, Part::Serve]);
    let (lock, lost) = guard_with_secret(&addr);
    assert_eq!(
        [AUTH, ID].map(str::to_string),
        [next(&hears, 1), next(&hears, 1)]
    );
    assert_eq!(next(&hears, 1), renewal());
    // The first stays open for as long as the hold could be there.
    let mut said = Vec::new();
    while said.last() != Some(&(0, String::new())) {
        said.push(hears.recv_timeout(PATIENCE).unwrap());
    }
    assert!(said.contains(&(1, renewal())), "{said:?}");
    lock.release().unwrap();
    assert!(lost.try_recv().is_err());
}

#[test]
fn a_guard_that_nobody_answers_has_few_connections_and_is_lost_at_its_deadline() {
    let (addr, hears) = stage(vec![Part::GrantAndFallSilent, Part::Silence]);
    let before = now();
    let (lock, lost) = guard_with_secret(&addr);
    let when = lost.recv_timeout(PATIENCE).unwrap();
    assert!(when >= before + 2 * SECOND && lock.is_lost());
    drop(lock);
    let said: Vec<(usize, String)> = hears.try_iter().collect();
    let last = said.iter().map(|(number, _)| *number).max().unwrap();
    assert!((1..=9).contains(&last), "{last}");
    // Nothing was given back, because there was nothing any more.
    assert!(said.iter().all(|(_, frame)| !frame.starts_with('r')));
}

#[test]
fn a_guard_that_is_refused_on_its_new_connection_is_lost_at_once() {
    let (addr, _hears) = stage(vec![Part::GrantAndEnd, Part::Refuse]);
    let before = now();
    let (lock, lost) = guard_with_secret(&addr);
    let when = lost.recv_timeout(PATIENCE).unwrap();
    assert!(when < before + 2 * SECOND, "before the deadline");
    is_refused(lock.release(), Refusal::LeaseExpired);
}

#[test]
fn a_guard_of_a_slow_server_is_kept() {
    let (addr, _hears) = stage(vec![Part::ServeSlowly]);
    let (lock, lost) = guard_with_secret(&addr);
    // Over two leases.
    let over = lost.recv_timeout(5 * ONE);
    assert_eq!(over, Err(RecvTimeoutError::Timeout));
    lock.release().unwrap();
}

#[test]
fn a_guard_that_a_stopping_server_takes_no_owner_from_asks_again() {
    let (addr, hears) = stage(vec![Part::GrantAndEnd, Part::Drain, Part::Serve]);
    let (lock, lost) = guard_with_secret(&addr);
    while next(&hears, 2) != renewal() {}
    lock.release().unwrap();
    assert!(lost.try_recv().is_err());
}

#[test]
fn a_guard_whose_server_comes_back_without_owners_goes_on_without() {
    let parts = vec![Part::GrantAndEnd, Part::KnowNoOwners, Part::Serve];
    let (addr, hears) = stage(parts);
    let (lock, lost) = guard_with_secret(&addr);
    assert_eq!(next(&hears, 2), AUTH);
    assert_eq!(next(&hears, 2), renewal());
    lock.release().unwrap();
    assert!(lost.try_recv().is_err());
}

#[test]
fn a_guard_of_a_server_that_knows_no_owners_is_granted_over_another_connection() {
    let (addr, hears) = stage(vec![Part::KnowNoOwners, Part::Serve]);
    let lock = Lock::acquire(dial(&addr), key("k"), TRY, None).unwrap();
    assert!(next(&hears, 0).starts_with("id\n"));
    assert_eq!(next(&hears, 1), "l\nk\n0\n");
    lock.release().unwrap();
}

/// Another connection could not keep what the first one has.
#[test]
fn a_guard_declares_no_owner_on_a_connection_that_holds_something() {
    let (addr, hears) = stage(vec![Part::Serve]);
    let mut client = dial(&addr);
    let held = client.acquire(&key("k"), TRY, None).unwrap();
    client.release(&key("k"), held.token).unwrap();
    client.acquire(&key("k"), TRY, None).unwrap();
    Lock::acquire(client, key("other"), TRY, None).unwrap();
    let said: Vec<String> = hears.try_iter().map(|(_, frame)| frame).collect();
    assert!(
        said.iter().all(|frame| !frame.starts_with("id")),
        "{said:?}"
    );
}

#[test]
fn a_guard_is_given_back_over_a_new_connection_if_the_old_one_is_gone() {
    // It ends only when the release is there, so that the guard cannot have noticed before.
    let (addr, hears) = stage(vec![Part::GrantAndFallSilent, Part::Serve]);
    let options = Options {
        secret: Some(b"open sesame".to_vec()),
        id: Some(Owner::new(b"me").unwrap()),
        patience: 4 * ONE,
        ..Options::default()
    };
    let client = Client::connect(&addr, &options).unwrap();
    let lock = Lock::acquire(client, key("k"), TRY, Some(1000 * ONE)).unwrap();
    lock.release().unwrap();
    let said: Vec<String> = std::iter::from_fn(|| hears.try_recv().ok())
        .filter(|(number, frame)| *number == 1 && !frame.is_empty())
        .map(|(_, frame)| frame)
        .collect();
    assert_eq!(said, [AUTH.to_string(), release()]);
}

#[test]
fn a_guard_of_a_server_that_is_gone_is_dropped_at_its_deadline_or_after_the_patience() {
    for (lease, patience) in [(2 * ONE, 2 * PATIENCE), (1000 * ONE, 2 * ONE)] {
        let daemon = Daemon::start(&[]);
        let options = Options {
            patience,
            ..Options::default()
        };
        let client = Client::connect(&daemon.addr.to_string(), &options).unwrap();
        let (lock, _, _lost) = guard(client, lease);
        drop(daemon);
        let before = Instant::now();
        is_io(lock.release(), &[ErrorKind::ConnectionRefused]);
        assert!(before.elapsed() < PATIENCE);
    }
}

#[test]
fn a_guard_that_another_has_released_meanwhile_says_so_at_its_release() {
    let daemon = Daemon::start(&[]);
    let (lock, _, lost) = guard(connect(&daemon), 1000 * ONE);
    connect(&daemon).release(&key("k"), lock.token()).unwrap();
    is_refused(lock.release(), Refusal::Error);
    assert!(lost.try_recv().is_err());
}

/// Also when the server hears of the end of the old connection at last.
#[test]
fn a_guard_outlives_a_connection_that_is_cut_or_mute_and_nobody_else_is_granted_the_lock() {
    at_once([Net::CutOnce, Net::SilentOnce], |net| {
        let daemon = Daemon::start(&[]);
        let proxy = Proxy::to(daemon.addr);
        let (lock, _, lost) = guard(dial(&proxy.addr.to_string()), 2 * ONE);
        let mut rival = connect(&daemon);
        proxy.set(net);
        proxy.passes_a_frame();
        is_timeout(rival.acquire(&key("k"), ONE, None));
        proxy.set(Net::Late);
        is_timeout(rival.acquire(&key("k"), 4 * ONE, None));
        assert!(!lock.is_lost());
        lock.release().unwrap();
        rival.acquire(&key("k"), TRY, None).unwrap();
        assert!(lost.try_recv().is_err());
    });
}
