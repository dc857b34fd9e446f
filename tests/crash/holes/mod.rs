//! The holes that a restart could have, each by its name: what a client says, a crash, and what it hears then. Not here: what
//! nobody has thought of, which the random kills may find. Invariant: where a test says that a time is over, it has waited for
//! a server to say so, or for a lease that it counts itself.

mod faces;
mod starts;
mod tokens;
mod upgrade;

use std::thread;
use std::time::{Duration, Instant};

use crate::board::Place;
use crate::daemon::{Client, Daemon};
use crate::link::{Face, Link};
use crate::record::Record;
use crate::site::Site;

/// Kills the server and starts the next one.
#[track_caller]
fn crash(site: &Site, daemon: Daemon) -> Daemon {
    kill(daemon);
    site.start()
}

#[track_caller]
fn kill(daemon: Daemon) {
    let end = daemon.kill();
    assert_eq!(end.status, None, "it has ended by itself: {}", end.log);
}

/// Tells the server to stop, and waits until it has.
#[track_caller]
fn stop(daemon: Daemon) {
    daemon.signal("TERM");
    let end = daemon.end();
    assert_eq!(end.status, Some(0), "{}", end.log);
}

/// A connection to any of the server's doors. What is noted of it in these tests, nobody judges.
fn open<'a>(face: Face, daemon: &Daemon, record: &'a Record) -> Link<'a> {
    Link::open(face, &Place::of(daemon, 1, false), 1, record).expect("it listens")
}

/// Takes a lock that is free, for so many seconds, and says when the lease is over at the earliest.
#[track_caller]
fn takes(client: &mut Client, key: &str, lease: u32) -> (String, Instant) {
    let end = Instant::now() + Duration::from_secs(u64::from(lease));
    client.send(format!("l\n{key}\n0 {lease}\n"));
    (client.is_granted(lease), end)
}

/// Waits for a lock, which must not be granted before that moment.
#[track_caller]
fn waits_until(client: &mut Client, key: &str, moment: Instant) -> String {
    client.send(format!("l\n{key}\n100 1\n"));
    let token = client.is_granted(1);
    let early = moment.saturating_duration_since(Instant::now());
    assert_eq!(early, Duration::ZERO, "{key} was granted too early");
    token
}

/// A lease ends by time alone.
fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}
