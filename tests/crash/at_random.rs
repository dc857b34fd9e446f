//! The crash loop: clients of all faces compete for locks, and their server is killed again and again, at any moment of its
//! life and of its start. Now and then it is told to stop, drains, or loses its journal. Not here: what a broken promise is,
//! which the judge knows. Invariant: at most one server runs, and its clients know of it only when it is ready.
//!
//! `KILLS=10000` in front kills so often, `SEED` repeats what the clients do and when the server dies; how their threads and
//! the server take turns, nobody can repeat.

use std::env;
use std::process;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::actor::{Actor, DISTLOCKD_LEASE, Role, Tally};
use crate::board::{Board, Place};
use crate::daemon::pki::pki;
use crate::daemon::{Client, Daemon, End};
use crate::dice::Dice;
use crate::faces::{Key, line};
use crate::flood::Flood;
use crate::judge::{Finding, Judge, Kind};
use crate::link::Face;
use crate::record::{MS, Ns, Record, What};
use crate::site::Site;

/// How many kills a plain `cargo test` has time for.
const KILLS: u64 = 300;
/// How often the journal is lost: each time nothing is granted for two seconds.
const LOSS: u64 = 300;
/// How long a server lives at most when it is ready.
const LIFE: Ns = 40 * MS;
/// How often a server with a ledger alone is killed: each time nothing is granted for two seconds.
const WAITS: u64 = 8;
/// For how long a server with a ledger alone grants nothing, with the leases of [`options`].
const WAIT: Ns = 2020 * MS;
/// So many kills are judged at once.
const ROUND: u64 = 25;
/// Two TERM so far apart are two.
const TWO_SIGNALS: Duration = Duration::from_millis(120);

/// What everybody wants: the locks, and for those whose protocol has them the semaphores, one of which has the name of a lock.
/// A grant whose answer is lost in a crash keeps its key from all others for a lease, so there are more keys than clients.
static FREE: [Key; 24] = [
    Key::lock("a"),
    Key::lock("b"),
    Key::lock("c"),
    Key::lock("d"),
    Key::lock("e"),
    Key::lock("f"),
    Key::lock("g"),
    Key::lock("h"),
    Key::lock("i"),
    Key::lock("j"),
    Key::lock("k"),
    Key::lock("l"),
    Key::lock("m"),
    Key::lock("n"),
    Key::lock("o"),
    Key::lock("p"),
    Key::lock("q"),
    Key::lock("r"),
    Key::lock("v"),
    Key::lock("w"),
    Key::semaphore("a", 1),
    Key::semaphore("s", 2),
    Key::semaphore("t", 3),
    Key::semaphore("u", 4),
];
/// What somebody takes and never gives back, and others try in vain.
static HELD: [Key; 4] = [
    Key::lock("held-1"),
    Key::lock("held-2"),
    Key::lock("held-3"),
    Key::semaphore("held-4", 1),
];

/// Every client, in the order of their numbers, which begin at 1.
fn cast() -> Vec<(Face, Role)> {
    let all = Role::Roams {
        free: &FREE,
        held: &HELD,
    };
    let locks = Role::Roams {
        free: &FREE[..20],
        held: &HELD[..3],
    };
    vec![
        (Face::Line, Role::Holds(&HELD[0])),
        (Face::Line, Role::Holds(&HELD[3])),
        (Face::Distlockd, Role::Holds(&HELD[1])),
        (Face::Line, all),
        (Face::Line, all),
        (Face::Line, all),
        (Face::Distlockd, locks),
        (Face::Distlockd, locks),
        (Face::Rest, Role::Holds(&HELD[2])),
        (Face::Rest, all),
        (Face::Rest, all),
        (Face::Rest, all),
    ]
}

#[test]
fn kills_under_load_break_no_promise() {
    let kills = number("KILLS", KILLS);
    let site = Site::new(&options());
    let report = run(&site, kills, |found| !found.is_empty());
    report.print();
    report.is_clean();
    for (face, tally) in &report.tallies {
        assert!(tally.granted > 0, "{face:?}: granted nothing");
        assert!(tally.carried > 0, "{face:?}: carried nothing over a crash");
    }
}

#[test]
fn under_the_ledger_alone_no_lease_overlaps_another() {
    let site = Site::with_ledger(&options());
    let report = run(&site, number("WAITS", WAITS), |found| !found.is_empty());
    report.print();
    report.is_clean();
    for (face, tally) in &report.tallies {
        assert!(tally.granted > 0, "{face:?}: granted nothing");
    }
}

#[test]
fn without_a_journal_the_judge_finds_overlaps() {
    let site = Site::unprotected(&options());
    let has_overlap = |found: &[Finding]| found.iter().any(|one| one.kind == Kind::Overlap);
    let report = run(&site, KILLS, has_overlap);
    report.print();
    assert!(has_overlap(&report.found), "{:?}", report.found);
}

/// Leases are short, so that what the loss of the journal costs is short too.
fn options() -> Vec<&'static str> {
    assert_eq!(DISTLOCKD_LEASE, 2);
    vec![
        "--default-lease-ttl=1",
        "--distlockd-lease=2",
        "--http-default-timeout=2",
        "--http-max-timeout=2",
        "--shutdown-timeout=5",
        "--max-locks=100000",
    ]
}

fn number(name: &str, other: u64) -> u64 {
    env::var(name).map_or(other, |text| text.parse().expect("a number"))
}

/// What came of a run.
struct Report {
    seed: u64,
    kills: u64,
    /// How many holds were judged, and how many of them were taken many at once.
    holds: usize,
    many: usize,
    losses: usize,
    slowest_start: Duration,
    tallies: Vec<(Face, Tally)>,
    found: Vec<Finding>,
    time: Duration,
}

impl Report {
    fn print(&self) {
        let (seconds, start) = (self.time.as_secs_f64(), self.slowest_start.as_secs_f64());
        println!(
            "SEED={} KILLS={}: {} holds and {} more, {} losses of the journal, the slowest start {start:.3} s, all {seconds:.1} s",
            self.seed,
            self.kills,
            self.holds - self.many,
            self.many,
            self.losses
        );
        for (face, tally) in &self.tallies {
            println!("{face:?}: {tally:?}");
        }
    }

    #[track_caller]
    fn is_clean(&self) {
        let (count, seed, kills) = (self.found.len(), self.seed, self.kills);
        let found: Vec<_> = self.found.iter().take(10).collect();
        assert!(
            found.is_empty(),
            "{count} findings, of which {found:#?}\nSEED={seed} KILLS={kills} cargo test --test crash -- random"
        );
    }
}

/// Kills so often, or until enough is found.
fn run(site: &Site, kills: u64, is_enough: impl Fn(&[Finding]) -> bool) -> Report {
    let seed = number("SEED", u64::from(process::id()));
    println!("SEED={seed} KILLS={kills}");
    let certificate = certificate();
    let (record, board) = (Record::new(), Board::default());
    thread::scope(|scope| {
        let numbered = (1..).zip(cast());
        let clients = numbered.map(|(who, (face, role))| {
            let actor = Actor::new(who, face, role, seed, &record, &board);
            scope.spawn(move || actor.run())
        });
        let clients: Vec<ScopedJoinHandle<(Face, Tally)>> = clients.collect();
        let flood = Flood::new(100, seed, &record, &board);
        let flood = scope.spawn(move || flood.run());
        // However this thread ends, the clients must not wait for another server.
        let _ends = Ends(&board);
        let mut reaper = Reaper {
            site,
            record: &record,
            board: &board,
            dice: Dice::new(seed, 0),
            certificate: &certificate,
            losses: 0,
            last_start: Duration::ZERO,
            slowest_start: Duration::ZERO,
        };
        let (start, mut judge, mut found) = (Instant::now(), Judge::default(), Vec::new());
        let kills = reaper.reap(kills, || {
            found.extend(judge.hear(record.take()));
            is_enough(&found)
        });
        // With nobody left but those who wait, each key is free as soon as the last lease of a client that has died is over.
        let (daemon, _) = reaper.start_with(&[], false);
        board.end();
        let tallies = sums(clients.into_iter().map(joined));
        let many = joined(flood);
        if found.is_empty() {
            all_are_free(&daemon);
        }
        found.extend(judge.hear(record.take()));
        Report {
            seed,
            kills,
            holds: judge.heard,
            many,
            losses: reaper.losses,
            slowest_start: reaper.slowest_start,
            tallies,
            found,
            time: start.elapsed(),
        }
    })
}

fn joined<T>(client: ScopedJoinHandle<T>) -> T {
    client.join().expect("no client panics")
}

struct Ends<'a>(&'a Board);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn sums(all: impl Iterator<Item = (Face, Tally)>) -> Vec<(Face, Tally)> {
    let mut sums: Vec<(Face, Tally)> = Vec::new();
    for (face, tally) in all {
        match sums.iter_mut().find(|(other, _)| *other == face) {
            None => sums.push((face, tally)),
            Some((_, sum)) => {
                sum.asked += tally.asked;
                sum.granted += tally.granted;
                sum.carried += tally.carried;
                sum.refused += tally.refused;
            }
        }
    }
    sums
}

/// Every key is granted to somebody who waits.
fn all_are_free(daemon: &Daemon) {
    let keys = FREE.iter().chain(&HELD);
    let clients = keys.map(|key| {
        let mut client: Client = daemon.connect();
        client.send(line::acquire(key, 100, 1));
        client
    });
    let clients: Vec<Client> = clients.collect();
    for mut client in clients {
        client.is_granted(1);
    }
}

/// Starts servers and ends them.
struct Reaper<'a> {
    site: &'a Site,
    record: &'a Record,
    board: &'a Board,
    dice: Dice,
    /// The options for TLS.
    certificate: &'a [String],
    losses: usize,
    last_start: Duration,
    slowest_start: Duration,
}

impl Reaper<'_> {
    /// Kills so often, or until enough is found. Returns how often it has.
    fn reap(&mut self, kills: u64, mut is_enough: impl FnMut() -> bool) -> u64 {
        let mut loss = 0;
        for kill in 0..kills {
            if kill % LOSS == 0 {
                loss = kill + self.dice.below(LOSS);
            }
            if kill == loss {
                self.lose_journal();
            }
            self.live_and_die();
            if kill % ROUND == ROUND - 1 && is_enough() {
                return kill + 1;
            }
        }
        kills
    }

    /// One life of the server.
    fn live_and_die(&mut self) {
        match self.dice.below(100) {
            0..10 => self.die_in_the_start(),
            10..14 if self.site.has_journal() => self.hand_over(),
            14 => self.drain_and_die(),
            15 => self.drain(),
            _ => {
                let server = self.start(&[]);
                self.live();
                self.kill(server);
            }
        }
    }

    /// A server that everybody knows of, and its number.
    fn start(&mut self, more: &[&str]) -> (Daemon, u64) {
        let is_secure = self.dice.one_in(4);
        let options = if is_secure { self.certificate } else { &[] };
        self.start_with(&[options, &owned(more)].concat(), !options.is_empty())
    }

    fn start_with(&mut self, options: &[String], secure: bool) -> (Daemon, u64) {
        let start = Instant::now();
        let daemon = self.site.start_with(options);
        self.last_start = start.elapsed();
        self.slowest_start = self.slowest_start.max(self.last_start);
        let number = self.record.number();
        self.board
            .announce(Some(Place::of(&daemon, number, secure)));
        (daemon, number)
    }

    /// Lets clients work for any time.
    fn live(&mut self) {
        // Under the ledger alone the end comes within the wait as often as behind it.
        let life = match self.site.has_ledger_alone() {
            true => 2 * WAIT,
            false => LIFE,
        };
        let time = self.dice.below(life);
        thread::sleep(Duration::from_nanos(time));
    }

    /// The server is about to end.
    fn announce_end(&self, server: u64) {
        self.board.announce(None);
        self.record.note(0, What::Down { server });
        if self.site.has_ledger_alone() {
            self.record.note(0, What::Forgot);
        }
    }

    fn kill(&mut self, (daemon, server): (Daemon, u64)) {
        self.announce_end(server);
        is_killed(daemon.kill());
    }

    fn die_in_the_start(&mut self) {
        let daemon = Daemon::spawn(self.site.command(&[]));
        let time = self.dice.below(self.last_start.as_nanos() as u64 + MS);
        thread::sleep(Duration::from_nanos(time));
        is_killed(daemon.kill());
    }

    /// It stops at once and keeps what it knows for the next one.
    fn hand_over(&mut self) {
        let (daemon, server) = self.start(&["--handover"]);
        self.live();
        self.announce_end(server);
        daemon.signal("TERM");
        has_ended(daemon.end());
    }

    /// It waits for those who hold something, and is killed at any time before it is ready to end.
    fn drain_and_die(&mut self) {
        let (daemon, server) = self.start(&[]);
        self.live();
        self.announce_end(server);
        daemon.signal("TERM");
        self.live();
        let end = daemon.kill();
        assert!(matches!(end.status, None | Some(0)), "{end:?}");
    }

    /// It waits for those who hold something, but not for long.
    fn drain(&mut self) {
        let (daemon, server) = self.start(&[]);
        self.live();
        self.announce_end(server);
        daemon.signal("TERM");
        // Whoever holds something is in no hurry.
        thread::sleep(TWO_SIGNALS);
        daemon.signal("TERM");
        has_ended(daemon.end());
    }

    /// Removes the journal, if there is one.
    fn lose_journal(&mut self) {
        if self.site.lose_journal() {
            self.losses += 1;
            self.record.note(0, What::Forgot);
        }
    }
}

/// It was killed, and has not ended before for reasons of its own.
#[track_caller]
fn is_killed(end: End) {
    assert_eq!(end.status, None, "it has ended by itself: {}", end.log);
}

/// It has done what it was told.
#[track_caller]
fn has_ended(end: End) {
    assert_eq!(end.status, Some(0), "{}", end.log);
}

/// The options for TLS, or none if this machine can make no certificate.
fn certificate() -> Vec<String> {
    let options = pki().map(|pki| pki.options("server.pem", "server.key"));
    options.into_iter().flatten().collect()
}

fn owned(options: &[&str]) -> Vec<String> {
    options.iter().map(ToString::to_string).collect()
}
