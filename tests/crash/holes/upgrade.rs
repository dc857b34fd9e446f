//! An upgrade, which is a stop and a start, under holders and waiters of all faces: nobody loses a lock, and whoever waited and
//! asks again is served.

use crate::daemon::{Daemon, at_once};
use crate::faces::distlockd::Claim;
use crate::faces::{Key, Told, distlockd, line, rest};
use crate::link::{Face, Gone, Link};
use crate::record::Record;
use crate::site::Site;

use super::open;

/// In seconds; no lease and no wait is over while the test runs.
const LONG: u64 = 100;

/// So many hold, and as many wait.
static KEYS: [Key; 20] = [
    Key::lock("k01"),
    Key::lock("k02"),
    Key::lock("k03"),
    Key::lock("k04"),
    Key::lock("k05"),
    Key::lock("k06"),
    Key::lock("k07"),
    Key::lock("k08"),
    Key::lock("k09"),
    Key::lock("k10"),
    Key::lock("k11"),
    Key::lock("k12"),
    Key::semaphore("k13", 1),
    Key::semaphore("k14", 1),
    Key::semaphore("k15", 1),
    Key::semaphore("k16", 1),
    Key::semaphore("k17", 1),
    Key::semaphore("k18", 1),
    Key::semaphore("k19", 1),
    Key::semaphore("k20", 1),
];

/// How a server makes room for the next one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// SIGTERM: it drains, and cuts off those who still hold something after a second.
    Drain,
    /// SIGTERM with `--handover`: it stops at once.
    Handover,
    Kill,
}

/// Somebody who holds a lock or waits for it.
struct Party<'a> {
    face: Face,
    name: String,
    key: &'static Key,
    token: String,
    link: Link<'a>,
}

impl<'a> Party<'a> {
    /// The face follows from the number. Semaphores are no matter of distlockd, and nobody waits there.
    fn new(number: usize, waits: bool, daemon: &Daemon, record: &'a Record) -> Party<'a> {
        let key = &KEYS[number];
        let mut face = [Face::Line, Face::Rest, Face::Distlockd][(number + usize::from(waits)) % 3];
        if face == Face::Distlockd && (waits || *key == Key::semaphore(key.name, 1)) {
            face = Face::Line;
        }
        Party {
            face,
            name: format!("{}-{}", if waits { "waiter" } else { "holder" }, key.name),
            key,
            token: String::new(),
            link: open(face, daemon, record),
        }
    }

    fn comes_back(&mut self, daemon: &Daemon, record: &'a Record) {
        self.link = open(self.face, daemon, record);
    }

    fn asks(&mut self) {
        let request = match self.face {
            Face::Line => line::acquire(self.key, LONG, LONG),
            Face::Distlockd => distlockd::acquire(self.key, &self.name),
            Face::Rest => {
                let attempt = format!("{}-attempt-1", self.name);
                rest::acquire(self.key, LONG * 1000, LONG, &self.name, &attempt)
            }
        };
        self.link.ask(&request).expect("the server reads");
    }

    /// What its request has come to.
    fn hears(&mut self) -> Result<Option<Told>, Gone> {
        let answer = self.link.answer()?;
        Ok(match self.face {
            Face::Line => line::granted(&answer),
            Face::Distlockd => (distlockd::claim(&answer) == Claim::Granted).then(|| Told {
                token: String::new(),
                fence: None,
                lasts: 0,
            }),
            Face::Rest => rest::granted(&answer),
        })
    }

    #[track_caller]
    fn is_granted(&mut self) {
        let told = self.hears().expect("the server is there");
        self.token = told.expect("a grant").token;
    }

    #[track_caller]
    fn renews(&mut self) {
        let request = match self.face {
            Face::Line => line::renew(self.key, &self.token, LONG),
            Face::Distlockd => distlockd::acquire(self.key, &self.name),
            Face::Rest => rest::renew(self.key, &self.token, LONG),
        };
        let (_, answer) = self.link.exchange(&request).expect("the server is there");
        let is_done = match self.face {
            Face::Line => line::is_done(&answer) == Some(true),
            Face::Distlockd => distlockd::claim(&answer) == Claim::Granted,
            Face::Rest => rest::is_done(&answer),
        };
        assert!(is_done, "{} has lost its lock", self.name);
    }

    #[track_caller]
    fn releases(&mut self) {
        let request = match self.face {
            Face::Line => line::release(self.key, &self.token),
            Face::Distlockd => distlockd::release(self.key, &self.name),
            Face::Rest => rest::release(self.key, &self.token),
        };
        let (_, answer) = self.link.exchange(&request).expect("the server is there");
        let is_done = match self.face {
            Face::Line => line::is_done(&answer) == Some(true),
            Face::Distlockd => distlockd::is_released(&answer),
            Face::Rest => rest::is_done(&answer),
        };
        assert!(is_done, "{} had no lock", self.name);
    }
}

#[test]
fn an_upgrade_under_holders_and_waiters_loses_no_lock_and_no_waiter() {
    at_once([Way::Drain, Way::Handover, Way::Kill], upgrade);
}

fn upgrade(way: Way) {
    let lease = format!("--distlockd-lease={LONG}");
    let mut options = vec![lease.as_str()];
    match way {
        Way::Drain => options.push("--shutdown-timeout=1"),
        Way::Handover => options.push("--handover"),
        Way::Kill => {}
    }
    let (site, record) = (Site::new(&options), Record::new());
    let daemon = site.start();
    let parties = |waits| (0..KEYS.len()).map(move |number| (number, waits));
    let party = |(number, waits)| Party::new(number, waits, &daemon, &record);
    let mut holders: Vec<Party> = parties(false).map(party).collect();
    for holder in &mut holders {
        holder.asks();
        holder.is_granted();
    }
    let mut waiters: Vec<Party> = parties(true).map(party).collect();
    waiters.iter_mut().for_each(Party::asks);
    holders.iter_mut().for_each(Party::renews);
    match way {
        Way::Kill => super::kill(daemon),
        Way::Handover => super::stop(daemon),
        Way::Drain => {
            daemon.signal("TERM");
            for waiter in &mut waiters {
                let heard = waiter.hears().expect("it is told before the end");
                assert!(heard.is_none(), "{} has its lock too early", waiter.name);
            }
            // An acquire is refused in a drain, even to the one who holds it.
            let holders = holders.iter_mut();
            let renewing = holders.filter(|holder| holder.face != Face::Distlockd);
            renewing.for_each(Party::renews);
            let end = daemon.end();
            assert_eq!(end.status, Some(0), "{}", end.log);
        }
    }
    if way != Way::Drain {
        for waiter in &mut waiters {
            let heard = waiter.hears();
            assert!(
                !matches!(heard, Ok(Some(_))),
                "{} has its lock too early",
                waiter.name
            );
        }
    }
    let daemon = site.start();
    for waiter in &mut waiters {
        waiter.comes_back(&daemon, &record);
        waiter.asks();
    }
    for holder in &mut holders {
        holder.comes_back(&daemon, &record);
        holder.renews();
    }
    for (holder, waiter) in holders.iter_mut().zip(&mut waiters) {
        holder.releases();
        waiter.is_granted();
        assert!(waiter.token > holder.token);
    }
    waiters.iter_mut().for_each(Party::releases);
}
