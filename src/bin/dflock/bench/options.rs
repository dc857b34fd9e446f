//! The options behind `dflock bench`, as values. Nothing is measured here; a mistake is one line of text. Options in
//! front of `bench` (the server, the token file) count too. Invariant: every number is in its range, and every plan has
//! at least one lane.

use std::ffi::OsString;

use lexopt::Arg;

use dflockd::client::Tls;
use dflockd::command::{SECOND, Us};

use super::plan::{Clocked, Habit, Keys, Plan};
use super::proto::{Protocol, Security, split};
use crate::options::Options;
use crate::tls::Said;
use crate::values::{address, alternatives, number, secret, span, unread, want};

pub const HELP: &str = "\
Usage: dflock [--server HOST:PORT] [--token-file FILE] bench [options]

Measures a lock server, alone or beside others, and checks that it grants no lock wrongly.

      --scenario NAME[,NAME...]  uncontended, contended, pipelined, many, held, churn, expiry or all
                                 (uncontended; with --shared-key contended)
      --workers N                connections at work (10)
      --rounds N                 lock-and-release pairs of each (1000)
      --seconds S                instead of --rounds: measure this long, decimals allowed
      --connections N            all connections; those above the workers are idle (as --workers)
      --shared-key               all workers want one key
      --pipeline N               locks under way on each connection (1; in pipelined 32)
      --key PREFIX               how the keys begin (bench)
      --timeout S                how long to wait for a lock (30)
      --lease S                  how long a lease lasts (10)
      --clients N                connections of many (100)
      --locks N                  keys of many (10), and of held (1000)
      --iterations N             as --rounds; each of these three alone means many
      --against HOST:PORT | http[s]://HOST:PORT | redis://HOST:PORT | distlockd://HOST:PORT
                                 another server; may be repeated; dflockd://HOST:PORT is one without TLS in any case
      --repeat N                 runs of each, in turn; the medians are shown (1; with --against 3)
      --pause MS                 pause before a server without a queue is asked again (1)
      --server-pid PID           show the server's CPU time and memory; a second one is for the first --against
      --json                     one JSON object
      --report FILE              write a page of HTML
      --server, --token-file     as in front of bench, where the options for TLS go
  -h, --help                     this

Exit status: 0; 1 if there was an error or a lock was given wrongly; 64 usage; 69 no server. More: man dflock.
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    Uncontended,
    Contended,
    Pipelined,
    Many,
    Held,
    Churn,
    Expiry,
}

const ALL: [Scenario; 7] = [
    Scenario::Uncontended,
    Scenario::Contended,
    Scenario::Pipelined,
    Scenario::Many,
    Scenario::Held,
    Scenario::Churn,
    Scenario::Expiry,
];

/// Connections of churn in one run; more would use up the ports of a host.
const CHURN_MAX: u64 = 5000;

pub struct Settings {
    /// The first is measured, the others are what it is compared with.
    pub servers: Vec<String>,
    pub secret: Option<Vec<u8>>,
    /// How to use TLS, if an option says so; and with a server that speaks HTTPS.
    tls: Option<Tls>,
    https: Option<Tls>,
    pub scenarios: Vec<Scenario>,
    pub workers: usize,
    pub rounds: u64,
    pub connections: usize,
    pub pipeline: Option<usize>,
    pub key: String,
    pub wait: Us,
    pub lease: Us,
    pub time: Option<Us>,
    pub clients: usize,
    pub locks: Option<usize>,
    pub repeat: usize,
    pub pause: Us,
    pub pids: Vec<u32>,
    pub json: bool,
    pub report: Option<OsString>,
    /// The command line, for the report.
    pub command: String,
}

impl Settings {
    fn new(options: &Options) -> Settings {
        let words = std::env::args_os().skip(1);
        let words: Vec<String> = words
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        Settings {
            // Filled in later from the options in front of `bench`, unless --server is given.
            servers: vec![String::new()],
            secret: options.secret.clone(),
            tls: options.tls.clone(),
            https: None,
            scenarios: Vec::new(),
            workers: 10,
            rounds: 1000,
            connections: 0,
            pipeline: None,
            key: "bench".to_string(),
            wait: 30 * SECOND,
            lease: 10 * SECOND,
            time: None,
            clients: 100,
            locks: None,
            repeat: 0,
            pause: 1000,
            pids: Vec::new(),
            json: false,
            report: None,
            command: format!("dflock {}", words.join(" ")),
        }
    }
}

/// Reads the options; None if help is wanted.
pub fn parse(options: &Options, words: &[OsString]) -> Result<Option<Settings>, String> {
    let mut settings = Settings::new(options);
    let (mut is_shared, mut is_older, mut is_counted) = (false, false, false);
    let mut args = lexopt::Parser::from_args(words.iter().cloned());
    while let Some(arg) = args.next().map_err(unread)? {
        let name = match arg {
            Arg::Short('h') => return Ok(None),
            Arg::Short(letter) => format!("-{letter}"),
            Arg::Long(name) => format!("--{name}"),
            Arg::Value(word) => return Err(format!("bench: want options, not {word:?}")),
        };
        match name.as_str() {
            "--help" => return Ok(None),
            "--shared-key" => is_shared = true,
            "--json" => settings.json = true,
            _ => {
                is_older |= matches!(name.as_str(), "--iterations" | "--clients" | "--locks");
                is_counted |= matches!(name.as_str(), "--iterations" | "--rounds");
                let mut value = || args.value().map_err(unread);
                settings.set(&name, &mut value)?;
            }
        }
    }
    if settings.time.is_some() && is_counted {
        return Err("--seconds: want no --rounds beside it".to_string());
    }
    if settings.servers[0].is_empty() {
        let [server] = &options.servers[..] else {
            return Err("bench: want one server, and others by --against".to_string());
        };
        settings.servers[0].clone_from(server);
    }
    settings.https.clone_from(&settings.tls);
    let is_https = |server: &String| split(server).1 == Security::Tls;
    if settings.tls.is_none() && settings.servers.iter().any(is_https) {
        settings.https = Said::on("https://").read()?;
    }
    settings.finish(is_shared, is_older)?;
    Ok(Some(settings))
}

impl Settings {
    fn set(
        &mut self,
        name: &str,
        value: &mut impl FnMut() -> Result<OsString, String>,
    ) -> Result<(), String> {
        let mut count = |least, most| number(name, &value()?, "a whole number", least..=most);
        match name {
            "--workers" => self.workers = count(1, 100_000)? as usize,
            "--rounds" | "--iterations" => self.rounds = count(1, 1_000_000_000)?,
            "--seconds" => {
                let value = value()?;
                let time = span(name, &value, 1)?;
                let wanted = || want(name, value.as_encoded_bytes(), "86400 seconds at most");
                self.time = Some(time).filter(|&time| time <= 86_400 * SECOND);
                self.time.ok_or_else(wanted)?;
            }
            "--connections" => self.connections = count(1, 1_000_000)? as usize,
            "--pipeline" => self.pipeline = Some(count(1, 1000)? as usize),
            "--timeout" => self.wait = whole_seconds(name, &value()?, 0)?,
            "--lease" => self.lease = whole_seconds(name, &value()?, 1)?,
            "--clients" => self.clients = count(1, 100_000)? as usize,
            "--locks" => self.locks = Some(count(1, 10_000_000)? as usize),
            "--repeat" => self.repeat = count(1, 1000)? as usize,
            "--pause" => {
                self.pause = number(name, &value()?, "whole milliseconds", 1..=60_000)? * 1000;
            }
            "--server-pid" => self.pids.push(count(1, u64::from(u32::MAX))? as u32),
            "--scenario" => self.add_scenarios(&value()?)?,
            "--against" => self.servers.push(server(name, &value()?)?),
            "--server" => self.servers[0] = server(name, &value()?)?,
            "--token-file" => self.secret = Some(secret(name, &value()?)?),
            "--report" => self.report = Some(value()?),
            "--key" => self.key = prefix(&value()?)?,
            _ if name.starts_with("--tls") => {
                return Err(format!("bench: {name} goes in front of bench"));
            }
            _ => return Err(format!("bench: there is no option {name}")),
        }
        Ok(())
    }

    fn add_scenarios(&mut self, list: &OsString) -> Result<(), String> {
        for word in list.to_string_lossy().split(',') {
            if word == "all" {
                self.scenarios.extend(ALL);
                continue;
            }
            let scenario = ALL.into_iter().find(|scenario| scenario.name() == word);
            let names = ALL.map(Scenario::name).join(", ");
            let wanted = || want("--scenario", word.as_bytes(), &format!("{names} or all"));
            self.scenarios.push(scenario.ok_or_else(wanted)?);
        }
        Ok(())
    }

    fn finish(&mut self, is_shared: bool, is_older: bool) -> Result<(), String> {
        if is_shared && ![&[][..], &[Scenario::Contended]].contains(&&self.scenarios[..]) {
            return Err("--shared-key: want no other --scenario beside it".to_string());
        }
        if self.scenarios.is_empty() {
            self.scenarios = match (is_shared, is_older) {
                (true, _) => vec![Scenario::Contended],
                (false, true) => vec![Scenario::Many],
                (false, false) => vec![Scenario::Uncontended],
            };
        }
        if self.repeat == 0 {
            self.repeat = if self.servers.len() > 1 { 3 } else { 1 };
        }
        if self.pids.len() > self.servers.len() {
            return Err("--server-pid: there are more than servers".to_string());
        }
        if self.connections > 0 && self.connections < self.workers {
            return Err("--connections: want as many as --workers at least".to_string());
        }
        Ok(())
    }

    /// How to use TLS with one of the servers; None stands for a connection in the clear.
    pub fn tls(&self, server: &str) -> Option<&Tls> {
        match split(server).1 {
            Security::Plain => None,
            Security::AsSaid => self.tls.as_ref(),
            Security::Tls => self.https.as_ref(),
        }
    }

    /// What the plans of all scenarios have in common.
    fn base(&self, scenario: Scenario) -> Plan {
        Plan {
            prefix: format!("{}:{}", self.key, scenario.name()),
            habit: Habit::Pairs,
            keys: Keys::Own,
            clocked: Clocked::Pair,
            peers: self.workers,
            idle: self.connections.saturating_sub(self.workers),
            lanes: self.pipeline.unwrap_or(1),
            rounds: self.time.map_or(self.rounds, |_| u64::MAX),
            time: self.time,
            wait: self.wait,
            lease: self.lease,
            pause: self.pause,
            must_grant: true,
        }
    }

    /// The plan of a scenario; None if the protocol cannot do it.
    pub fn plan(&self, scenario: Scenario, protocol: Protocol) -> Option<Plan> {
        let mut plan = self.base(scenario);
        match scenario {
            Scenario::Uncontended => {}
            Scenario::Contended => {
                plan.lanes = 1;
                plan.keys = Keys::Any(1);
                plan.clocked = Clocked::Acquire;
            }
            Scenario::Pipelined => plan.lanes = self.pipeline.unwrap_or(32),
            Scenario::Many => {
                plan.lanes = 1;
                plan.peers = self.clients;
                plan.keys = Keys::Any(self.locks.unwrap_or(10));
                plan.must_grant = false;
            }
            Scenario::Held => {
                let lanes = plan.peers * plan.lanes;
                let each = self.locks.unwrap_or(1000).div_ceil(lanes);
                plan.habit = Habit::Keep;
                plan.keys = Keys::Several(each);
                plan.clocked = Clocked::Acquire;
                plan.rounds = each as u64;
                plan.time = None;
            }
            Scenario::Churn => {
                plan.lanes = 1;
                plan.habit = Habit::HangUp;
                plan.clocked = Clocked::Acquire;
                let most = (CHURN_MAX / plan.peers as u64).max(1);
                plan.rounds = plan.rounds.min(most);
            }
            Scenario::Expiry => {
                plan.lanes = 1;
                plan.habit = Habit::Expire;
                plan.keys = Keys::Pair;
                plan.clocked = Clocked::Lateness;
                plan.peers *= 2;
                plan.rounds = 1;
                plan.time = None;
                plan.lease = SECOND;
                plan.wait = plan.wait.max(5 * SECOND);
                return protocol.has_leases().then_some(plan);
            }
        }
        Some(plan)
    }
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Uncontended => "uncontended",
            Scenario::Contended => "contended",
            Scenario::Pipelined => "pipelined",
            Scenario::Many => "many",
            Scenario::Held => "held",
            Scenario::Churn => "churn",
            Scenario::Expiry => "expiry",
        }
    }

    /// What happens in it, in words.
    pub fn text(self) -> &'static str {
        match self {
            Scenario::Uncontended => "each worker locks and releases a key of its own",
            Scenario::Contended => {
                "all workers want one key; they must get it one at a time and in turn"
            }
            Scenario::Pipelined => "as uncontended, with many locks under way on each connection",
            Scenario::Many => "many clients want a few keys, any of them",
            Scenario::Held => "keys are taken and kept; an operation is one key",
            Scenario::Churn => "connect, lock, hang up",
            Scenario::Expiry => "a lease of 1 s ends and the next in line is granted, never early",
        }
    }

    /// The span that its latencies measure.
    pub fn latency_of(self) -> &'static str {
        match self {
            Scenario::Uncontended | Scenario::Pipelined | Scenario::Many => "lock and release",
            Scenario::Contended | Scenario::Held => "acquire",
            Scenario::Churn => "connect and acquire",
            Scenario::Expiry => "grant after the lease's end",
        }
    }
}

/// Up to a day.
fn whole_seconds(name: &str, value: &OsString, least: u64) -> Result<Us, String> {
    Ok(number(name, value, "whole seconds", least..=86_400)? * SECOND)
}

fn server(name: &str, value: &OsString) -> Result<String, String> {
    let wanted = || {
        let forms = "HOST:PORT, http://HOST:PORT, https://HOST:PORT, redis://HOST:PORT or distlockd://HOST:PORT";
        want(name, value.as_encoded_bytes(), forms)
    };
    let server = value.to_str().ok_or_else(wanted)?;
    let (protocol, _, place) = split(server);
    let address = match protocol {
        Protocol::Dflockd => alternatives(name, place).unwrap_or_else(|| Err(wanted()))?,
        _ => address(place, None).ok_or_else(wanted)?,
    };
    // The scheme stays in front of it.
    Ok(match server.find("://") {
        Some(at) => format!("{}{address}", &server[..at + 3]),
        None => address,
    })
}

fn prefix(value: &OsString) -> Result<String, String> {
    let is_plain = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    let prefix = value.to_str().filter(is_plain);
    let prefix = prefix.filter(|text| text.len() <= 200);
    let wanted = || {
        want(
            "--key",
            value.as_encoded_bytes(),
            "1 to 200 letters, no blanks",
        )
    };
    prefix.map(str::to_string).ok_or_else(wanted)
}
