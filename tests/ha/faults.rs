//! The loop of faults: clients of all faces compete for locks while daemons and members of etcd die and stop, and the ways
//! between them are cut, lose or delay. Not here: what a broken promise is, which the judge knows. Invariant: a fault is over
//! before the next one begins, and then somebody leads.
//!
//! `FAULTS=1000` in front has so many, `SEED` repeats which ones; how threads and processes take turns, nobody can repeat.

use std::collections::BTreeMap;
use std::env;
use std::process;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::actor::{Actor, DISTLOCKD_LEASE, Role, Tally};
use crate::board::Board;
use crate::daemon::Client;
use crate::dice::Dice;
use crate::faces::{Key, line};
use crate::judge::{Finding, Judge, Kind};
use crate::link::Face;
use crate::members::{COUNT, Members};
use crate::nodes::{Ends, Nodes};
use crate::record::{Record, SECOND};
use crate::wire::{Net, Wire};

/// How many faults a run has time for that names no number.
const FAULTS: u64 = 40;
/// How long a fault lasts at least and at most, in milliseconds. Most are short.
const SHORT: u64 = 200;
const LONG: u64 = 5_000;
/// How long clients work between two of them, at most.
const LIFE: u64 = 400;

static FREE: [Key; 16] = [
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
    Key::semaphore("a", 1),
    Key::semaphore("s", 2),
    Key::semaphore("t", 3),
    Key::semaphore("u", 4),
];
/// What somebody takes and never gives back, and others try in vain.
static HELD: [Key; 3] = [
    Key::lock("held-1"),
    Key::lock("held-2"),
    Key::semaphore("held-3", 1),
];

/// Every client, in the order of their numbers, which begin at 1.
fn cast() -> Vec<(Face, Role)> {
    let all = Role::Roams {
        free: &FREE,
        held: &HELD,
    };
    let locks = Role::Roams {
        free: &FREE[..12],
        held: &HELD[..2],
    };
    vec![
        (Face::Line, Role::Holds(&HELD[0])),
        (Face::Rest, Role::Holds(&HELD[1])),
        (Face::Line, Role::Holds(&HELD[2])),
        (Face::Line, all),
        (Face::Line, all),
        (Face::Line, all),
        (Face::Distlockd, locks),
        (Face::Distlockd, locks),
        (Face::Rest, all),
        (Face::Rest, all),
    ]
}

/// The options of both daemons. Leases are short, so that many end while nobody leads.
const OPTIONS: &[&str] = &[
    "--failover-after=1",
    "--default-lease-ttl=1",
    "--distlockd-lease=2",
    "--http-default-timeout=2",
    "--http-max-timeout=2",
    "--max-locks=100000",
];

const _: () = assert!(DISTLOCKD_LEASE == 2, "as the option says");

/// One kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fault {
    LeaderDies,
    StandbyDies,
    BothDie,
    LeaderIsTold,
    LeaderStops,
    BothStop,
    MemberDies,
    MemberStops,
    TwoMembersStop,
    LeadersDie,
    WireOfLeader,
    WireOfStandby,
}

const KINDS: [Fault; 12] = [
    Fault::LeaderDies,
    Fault::StandbyDies,
    Fault::BothDie,
    Fault::LeaderIsTold,
    Fault::LeaderStops,
    Fault::BothStop,
    Fault::MemberDies,
    Fault::MemberStops,
    Fault::TwoMembersStop,
    Fault::LeadersDie,
    Fault::WireOfLeader,
    Fault::WireOfStandby,
];

#[test]
fn faults_under_load_break_no_promise() {
    let faults = number("FAULTS", FAULTS);
    let seed = number("SEED", u64::from(process::id()));
    println!("SEED={seed} FAULTS={faults}");
    let mut members = Members::start();
    let addrs: Vec<_> = (0..COUNT).map(|at| members.addr(at)).collect();
    let wires = [Wire::to(&addrs), Wire::to(&addrs)];
    let (record, board) = (Record::new(), Board::default());
    let etcd = wires.each_ref().map(Wire::urls);
    let nodes = Nodes::new(etcd, OPTIONS, &board, &record);
    thread::scope(|scope| {
        let ends = Ends(&nodes);
        for at in 0..2 {
            let nodes = &nodes;
            scope.spawn(move || nodes.keep(at));
        }
        let clients = (1..).zip(cast()).map(|(who, (face, role))| {
            let actor = Actor::new(who, face, role, seed, &record, &board);
            scope.spawn(move || actor.run())
        });
        let clients: Vec<ScopedJoinHandle<(Face, Tally)>> = clients.collect();
        let mut fate = Fate {
            members: &mut members,
            wires: &wires,
            nodes: &nodes,
            dice: Dice::new(seed, 0),
            counts: BTreeMap::new(),
        };
        let (start, mut judge) = (Instant::now(), judge());
        let (mut found, has_failed) = fate.strikes_often(faults, &mut judge, &record);
        board.end();
        let clients = clients.into_iter();
        let tallies: Vec<_> = clients
            .map(|client| client.join().expect("no client panics"))
            .collect();
        if !has_failed {
            all_are_free(&nodes);
        }
        found.extend(judge.hear(record.take()).into_iter().filter(is_broken));
        // A server that is cut off from etcd ends, and with it the connections of its clients.
        found.retain(|found| found.server.is_none_or(|server| !nodes.has_ended(server)));
        drop(ends);
        let report = Report {
            seed,
            faults,
            holds: judge.heard,
            tallies,
            found,
            time: start.elapsed(),
        };
        println!("{:?}", fate.counts);
        report.is_clean(&nodes);
    });
}

/// What came of a run.
struct Report {
    seed: u64,
    faults: u64,
    /// How many holds were judged.
    holds: usize,
    tallies: Vec<(Face, Tally)>,
    found: Vec<Finding>,
    time: Duration,
}

impl Report {
    #[track_caller]
    fn is_clean(&self, nodes: &Nodes) {
        let (holds, takeovers) = (self.holds, nodes.takeovers());
        let seconds = self.time.as_secs();
        println!("{holds} holds, {takeovers} times somebody began to lead, {seconds} s");
        println!("{:?}", self.tallies);
        assert_eq!(nodes.wrong(), [""; 0], "{}", nodes.told(60));
        let few: Vec<_> = self.found.iter().take(5).collect();
        let (count, seed) = (self.found.len(), self.seed);
        assert!(
            few.is_empty(),
            "{count} findings, of which {few:#?}\nSEED={seed}\n{}",
            nodes.told(60)
        );
        let is_enough = holds as u64 > self.faults && takeovers > self.faults / 6;
        assert!(is_enough, "too little has happened");
        let carried: usize = self.tallies.iter().map(|(_, tally)| tally.carried).sum();
        assert!(carried > 0, "no hold was carried over a fault");
    }
}

/// A client may wait on a server that has stopped, lost the lead and not noticed.
fn judge() -> Judge {
    let mut judge = Judge::default();
    judge.memory = 120 * SECOND;
    judge
}

/// A server that is stopped answers late.
fn is_broken(found: &Finding) -> bool {
    found.kind != Kind::Missing
}

fn number(name: &str, other: u64) -> u64 {
    env::var(name).map_or(other, |text| text.parse().expect("a number"))
}

/// Every key is granted to somebody who waits.
fn all_are_free(nodes: &Nodes) {
    let at = nodes.has_leader();
    let keys = FREE.iter().chain(&HELD);
    let clients = keys.map(|key| {
        let stream = std::net::TcpStream::connect(nodes.place(at).line).expect("it leads");
        let mut client = Client::over(stream);
        client.send(line::acquire(key, 100, 1));
        client
    });
    let clients: Vec<Client> = clients.collect();
    for mut client in clients {
        client.is_granted(1);
    }
}

/// Brings faults about, and ends them.
struct Fate<'a> {
    members: &'a mut Members,
    wires: &'a [Wire; 2],
    nodes: &'a Nodes<'a>,
    dice: Dice,
    counts: BTreeMap<Fault, usize>,
}

impl Fate<'_> {
    /// Brings so many faults about, or fewer if a promise is broken. What was found, and whether that is so.
    fn strikes_often(
        &mut self,
        faults: u64,
        judge: &mut Judge,
        record: &Record,
    ) -> (Vec<Finding>, bool) {
        let mut found = Vec::new();
        for _ in 0..faults {
            self.strikes();
            found.extend(judge.hear(record.take()).into_iter().filter(is_broken));
            // Whether a server that has closed connections has ended is known in the end.
            let is_broken = found.iter().any(|found| found.server.is_none());
            if is_broken || !self.nodes.wrong().is_empty() {
                return (found, true);
            }
        }
        (found, false)
    }

    /// One fault, from a moment of work to the next leader.
    fn strikes(&mut self) {
        let leader = self.nodes.has_leader();
        sleep(self.dice.below(LIFE));
        let fault = *self.dice.one_of(&KINDS);
        *self.counts.entry(fault).or_default() += 1;
        self.nodes.announce_fault();
        match fault {
            Fault::LeaderDies => self.dies(&[leader]),
            Fault::StandbyDies => self.dies(&[1 - leader]),
            Fault::BothDie => self.dies(&[0, 1]),
            Fault::LeaderIsTold => self.nodes.signal(leader, "TERM", 0),
            Fault::LeaderStops => self.stops(&[leader]),
            Fault::BothStop => self.stops(&[0, 1]),
            Fault::MemberDies => {
                let at = self.member();
                self.member_dies(at, &[]);
            }
            Fault::LeadersDie => {
                let at = self.members.leader().unwrap_or(0);
                self.member_dies(at, &[leader]);
            }
            Fault::MemberStops => {
                let at = self.member();
                self.members_stop(&[at]);
            }
            Fault::TwoMembersStop => {
                let at = self.member();
                self.members_stop(&[at, (at + 1) % COUNT]);
            }
            Fault::WireOfLeader => self.wire_breaks(leader),
            Fault::WireOfStandby => self.wire_breaks(1 - leader),
        }
        // Whoever led may not have noticed yet.
        sleep(self.dice.below(LIFE));
        self.nodes.has_leader();
    }

    fn member(&mut self) -> usize {
        self.dice.below(COUNT as u64) as usize
    }

    /// How long a fault lasts.
    fn span(&mut self) -> u64 {
        let most = match self.dice.one_in(4) {
            true => LONG,
            false => 3 * SHORT,
        };
        SHORT + self.dice.below(most - SHORT)
    }

    fn dies(&mut self, nodes: &[usize]) {
        let pause = match self.dice.one_in(2) {
            true => 0,
            false => self.span(),
        };
        for &at in nodes {
            self.nodes.signal(at, "KILL", pause);
        }
    }

    fn stops(&mut self, nodes: &[usize]) {
        let span = self.span();
        for (name, span) in [("STOP", span), ("CONT", 0)] {
            for &at in nodes {
                self.nodes.signal(at, name, 0);
            }
            sleep(span);
        }
    }

    /// A member dies, and with it these nodes.
    fn member_dies(&mut self, at: usize, nodes: &[usize]) {
        self.members.kill(at);
        self.dies(nodes);
        sleep(self.span());
        self.members.comes_back(at);
    }

    fn members_stop(&mut self, members: &[usize]) {
        let span = self.span();
        for (name, span) in [("STOP", span), ("CONT", 0)] {
            for &at in members {
                self.members.signal(at, name);
            }
            sleep(span);
        }
    }

    fn wire_breaks(&mut self, at: usize) {
        let late = 50 + self.dice.below(1_500);
        let nets = [
            Net::Cut,
            Net::LosesRequests,
            Net::LosesAnswers,
            Net::Late(late),
        ];
        let net = *self.dice.one_of(&nets);
        self.wires[at].set(net);
        sleep(self.span());
        self.wires[at].set(Net::Open);
    }
}

/// A fault lasts so long, or clients work for so long: that time passes is the matter itself.
fn sleep(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}
