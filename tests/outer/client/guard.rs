//! A hold that a thread renews: what it outlives, when it is lost, how it is given back.

use super::*;

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
