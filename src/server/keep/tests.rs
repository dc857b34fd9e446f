//! The ledger over time: what rises at once, what falls later, and what a server that is killed leaves to the next one.
//! Invariant: no test reads a clock, and none of its files is another's.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::command::SessionId;
use crate::config::Secrets;
use crate::hub::{Next, Wrote};
use crate::server::settings::settings;
use crate::wire::Face;

/// The configuration of a server, and its folder, which is removed in the end.
struct Place {
    folder: PathBuf,
    config: Config,
}

impl Place {
    /// No lease of the configuration is above one second.
    fn new(name: &str) -> Place {
        let folder = std::env::temp_dir().join(format!("dflockd-{}-{name}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let mut config = Config {
            default_lease: SECOND,
            read_timeout: 3600 * SECOND,
            ..Config::default()
        };
        config.state.ledger = Some(folder.join("ledger"));
        Place { folder, config }
    }

    fn with_journal(name: &str) -> Place {
        let mut place = Place::new(name);
        place.config.state.journal = Some(place.folder.clone());
        place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.folder);
        assert!(removed.is_ok() || std::thread::panicking());
    }
}

/// A server without sockets, whose time is played.
struct Played {
    place: Place,
    keep: Keep,
    hub: Hub,
    log: Log,
    client: SessionId,
}

impl Played {
    fn new(name: &str) -> Played {
        Played::start(Place::new(name), 0)
    }

    fn start(place: Place, now: Us) -> Played {
        Played::skip(place, now, 0)
    }

    /// As if so many fences had been granted already.
    fn skip(place: Place, now: Us, fences: u64) -> Played {
        let config = &place.config;
        let mut log = Log::new(false);
        let hub = |mut life: Life| {
            life.first_fence += fences;
            Ok(Hub::new(settings(config, &Secrets::default(), &life)?))
        };
        let (keep, mut hub) = Keep::start(config, || now, hub, &mut log).unwrap();
        hub.begin_turn(now, 0);
        let client = hub.opened(Face::Text, "127.0.0.1:1".parse().unwrap());
        Played {
            place,
            keep,
            hub,
            log,
            client: client.unwrap(),
        }
    }

    /// The next server after one that was killed, with what that has left.
    fn restart(self, now: Us) -> Played {
        let Played { place, keep, .. } = self;
        drop(keep);
        Played::start(place, now)
    }

    /// A turn with these requests; the answers, which the ledger covers before they are sent.
    fn turn(&mut self, now: Us, requests: &str) -> String {
        self.hub.begin_turn(now, 0);
        self.hub.received(self.client, requests.as_bytes());
        self.hub.tick(now);
        self.hub.settle();
        self.keep.keep(now, &mut self.hub, &mut self.log).unwrap();
        let mut answers = Vec::new();
        while let Some((id, output)) = self.hub.next_write() {
            answers.extend_from_slice(output);
            assert_eq!(self.hub.wrote(id, Wrote::All), Next::Keep);
        }
        self.hub.end_turn(None);
        self.keep
            .end_turn(now, &mut self.hub, &mut self.log)
            .unwrap();
        String::from_utf8(answers).unwrap()
    }

    /// Takes a lock; its token.
    fn takes(&mut self, now: Us, key: &str, lease: u32) -> String {
        let answer = self.turn(now, &format!("l\n{key}\n0 {lease}\n"));
        let token = answer.split(' ').nth(1).expect("it is granted");
        token.to_string()
    }

    /// The longest lease on record, in seconds.
    fn longest(&self) -> u64 {
        self.keep.record().longest / SECOND
    }
}

#[test]
fn the_longest_lease_on_record_rises_at_once_and_falls_once_a_minute_to_what_is_held() {
    let mut server = Played::new("falls");
    assert_eq!((server.longest(), server.keep.deadline()), (1, None));
    let token = server.takes(10 * SECOND, "long", 500);
    server.takes(11 * SECOND, "short", 100);
    assert_eq!(
        (server.longest(), server.keep.deadline()),
        (512, Some(70 * SECOND))
    );
    let answer = server.turn(20 * SECOND, &format!("r\nlong\n{token}\n"));
    assert_eq!(answer, "ok\n");
    server.turn(70 * SECOND - 1, "");
    assert_eq!(server.longest(), 512);
    server.turn(70 * SECOND, "");
    assert_eq!(
        (server.longest(), server.keep.deadline()),
        (128, Some(130 * SECOND))
    );
    // The lease of the other one ends meanwhile.
    server.turn(130 * SECOND, "");
    assert_eq!((server.longest(), server.keep.deadline()), (1, None));
}

#[test]
fn a_renewal_with_a_shorter_lease_lets_it_fall_and_one_with_a_longer_lease_lets_it_rise() {
    let mut server = Played::new("renewals");
    let token = server.takes(SECOND, "k", 500);
    server.turn(61 * SECOND, &format!("n\nk\n{token} 7\n"));
    assert_eq!(server.longest(), 8);
    server.turn(62 * SECOND, &format!("n\nk\n{token} 9\n"));
    assert_eq!(server.longest(), 16);
}

#[test]
fn nothing_falls_in_a_quarantine() {
    let mut server = Played::new("quarantine");
    server.takes(0, "k", 500);
    let mut server = server.restart(100 * SECOND);
    let wait = server.hub.locks().opens_in(100 * SECOND);
    assert_eq!(wait, 512 * SECOND / 100 * 101);
    let opens = 100 * SECOND + wait;
    for now in [160 * SECOND, opens - 1] {
        server.turn(now, "");
        assert_eq!(server.longest(), 512);
    }
    server.turn(opens + 60 * SECOND - 1, "");
    assert_eq!(server.longest(), 1);
}

/// A journal keeps nothing that nobody can find: the next server would wait for every lease.
#[test]
fn a_journal_that_somebody_has_removed_is_missed_within_a_minute() {
    let mut server = Played::start(Place::with_journal("removed"), 0);
    server.takes(0, "k", 10);
    let folder = &server.place.folder;
    fs::rename(folder.join("journal"), folder.join("elsewhere")).unwrap();
    server.turn(60 * SECOND - 1, "");
    assert_eq!(server.keep.protection(), Protection::Journal);
    server.turn(60 * SECOND, "");
    assert_eq!(server.keep.protection(), Protection::Ledger);
}

/// So many grants would take hours to make.
#[test]
fn fences_that_run_out_are_reserved_before_one_is_told() {
    for has_journal in [false, true] {
        let name = format!("fences-{has_journal}");
        let place = match has_journal {
            true => Place::with_journal(&name),
            false => Place::new(&name),
        };
        let mut server = Played::skip(place, 0, FENCES - 2);
        let ceiling = server.keep.record().ceiling;
        for key in ["a", "b"] {
            server.takes(SECOND, key, 1);
            assert_eq!(server.keep.record().ceiling, ceiling);
        }
        server.takes(SECOND, "c", 1);
        assert_eq!(server.hub.locks().fence(), ceiling);
        assert_eq!(server.keep.record().ceiling, ceiling + FENCES);
        let next = server.restart(2 * SECOND);
        assert!(
            next.hub.locks().fence() >= ceiling,
            "the next fence is greater"
        );
    }
}
