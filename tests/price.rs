//! What a request costs: the instructions that the real server executes for it in user space, counted by valgrind
//! while clients talk to it over real sockets. Counts hardly depend on the machine and not on how busy it is, so a
//! regression is seen where a stopwatch sees noise. Not here: what the kernel costs, which is most of the time.
//! Prints a table and fails where that in tests/README.md promises less. Invariant: what is sent, and in how many
//! turns the server hears it, does not depend on timing.

#[allow(dead_code, reason = "process.rs uses the rest")]
mod daemon;

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use daemon::{Client, Daemon, eventually, program};
use dflockd::command::{SECOND, Us};
use dflockd::sys;

const PRICES: [Price; 13] = [
    price("ping", "request", 2000, ping),
    price("acquire and release", "pair", 1000, acquire_and_release),
    // More than --max-locks: every further key makes the longest idle one go.
    price("acquire and release, new keys", "pair", 1200, new_keys),
    price("renew", "request", 2000, renew),
    price("hand-off", "pair", 1000, hand_off),
    price("semaphore", "pair", 1000, semaphore),
    price("two phases", "triple", 1000, two_phases),
    price("expiry, acquire to grant", "lease", CROWD, expiry),
    price("pipelined", "pair", 20 * BATCH, pipelined),
    price("visit", "visit", 500, visit),
    price("acquire and release over HTTP", "pair", 300, over_http),
    kept(price(
        "acquire and release, kept",
        "pair",
        1000,
        acquire_and_release,
    )),
    kept(price("renew, kept", "request", 2000, renew)),
];

/// How the table begins, here and in tests/README.md.
const HEADER: &str = "| path | per | instructions |";
/// Requests in one write: as many as one session may have executed in a row.
const BATCH: usize = 128;
/// Leases that run at once.
const CROWD: usize = 200;
/// Leases that end in one turn.
const GROUP: usize = 20;
/// Microseconds in a slot of the wheel's level for minutes.
const SLOT: Us = 1 << 24;

fn main() -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("price: of a release build only: cargo test --release --test price");
        return ExitCode::FAILURE;
    }
    let mut valgrind = Command::new("valgrind");
    let there = valgrind.arg("--version").stdout(Stdio::null()).status();
    if there.is_err() {
        eprintln!("price: there is no valgrind: apt-get install valgrind");
        return ExitCode::FAILURE;
    }
    println!("{HEADER}\n|---|---|---|");
    let mut measured = Vec::new();
    for price in PRICES {
        let instructions = price.measure();
        let Price { path, per, .. } = price;
        println!("| {path} | {per} | {instructions} |");
        measured.push((path.to_string(), instructions));
    }
    if agrees(&measured, &recorded()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Something that clients do again and again.
struct Price {
    path: &'static str,
    /// What is counted once.
    per: &'static str,
    /// How often it is done in the shorter of two runs.
    count: usize,
    drive: fn(&Meter, usize),
    /// What is held outlives the server.
    is_kept: bool,
}

const fn price(
    path: &'static str,
    per: &'static str,
    count: usize,
    drive: fn(&Meter, usize),
) -> Price {
    Price {
        path,
        per,
        count,
        drive,
        is_kept: false,
    }
}

/// The same for a server with a ledger and a journal.
const fn kept(price: Price) -> Price {
    Price {
        is_kept: true,
        ..price
    }
}

impl Price {
    /// Instructions for one, to the nearest ten. Two runs of different lengths, so that the start and the end of
    /// the server, which both have, do not count.
    fn measure(&self) -> u64 {
        let [short, long] = [1, 3].map(|times| self.total(times * self.count));
        let once = (long - short) as f64 / (2 * self.count) as f64;
        (once / 10.0).round() as u64 * 10
    }

    /// The instructions of a server's whole life in which it is done so many times. What valgrind has written stays,
    /// for callgrind_annotate(1).
    fn total(&self, count: usize) -> u64 {
        let name = self.path.replace(',', "").replace(' ', "-");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{name}"));
        let mut command = program("valgrind");
        command.args(["--quiet", "--tool=callgrind"]);
        command.arg(format!("--callgrind-out-file={}", path.display()));
        command.args([env!("CARGO_BIN_EXE_dflockd"), "--port", "0"]);
        // The line protocol is not to pay for a door of another face.
        command.args(["--http-port", "0"]);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("price");
        if self.is_kept {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir(&folder).expect("a folder");
            command.arg("--state-dir").arg(folder);
        }
        let meter = Meter(Daemon::launch(command).expect("it starts"));
        (self.drive)(&meter, count);
        meter.0.signal("TERM");
        let end = meter.0.end();
        assert_eq!(end.status, Some(0), "{end:?}");
        let text = fs::read_to_string(path).expect("valgrind has written it");
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        total.and_then(|total| total.parse().ok()).expect("a total")
    }
}

/// The server while its instructions are counted.
struct Meter(Daemon);

impl Meter {
    /// Does something that has no answer, and waits until the server has dealt with it: it slept before, and has gone
    /// to sleep once more.
    fn settle<T>(&self, act: impl FnOnce() -> T) -> T {
        self.sleeps_since(0);
        let before = self.naps();
        let result = act();
        self.sleeps_since(before + 1);
        result
    }

    fn sleeps_since(&self, naps: u64) {
        eventually("it sleeps", || {
            self.naps() >= naps && self.0.status("State") == "S"
        });
    }

    fn naps(&self) -> u64 {
        let count = self.0.status("voluntary_ctxt_switches");
        count.parse().expect("a number")
    }

    fn connect(&self) -> Client {
        self.settle(|| self.0.connect())
    }

    fn hang_up(&self, client: Client) {
        self.settle(|| drop(client));
    }
}

fn ping(meter: &Meter, count: usize) {
    let mut client = meter.connect();
    for _ in 0..count {
        client.says("ping", "_", "_", "ok");
    }
    meter.hang_up(client);
}

fn acquire_and_release(meter: &Meter, count: usize) {
    let mut client = meter.connect();
    for _ in 0..count {
        let token = client.takes("k");
        client.says("r", "k", &token, "ok");
    }
    meter.hang_up(client);
}

fn new_keys(meter: &Meter, count: usize) {
    let mut client = meter.connect();
    for number in 0..count {
        let key = format!("{number:013}");
        let token = client.takes(&key);
        client.says("r", &key, &token, "ok");
    }
    meter.hang_up(client);
}

/// Each time another of a hundred holds: what a token costs depends on its digits.
fn renew(meter: &Meter, count: usize) {
    let mut client = meter.connect();
    let keys = (0..100).map(|key| format!("{key:02}"));
    let holds: Vec<_> = keys.map(|key| (client.takes(&key), key)).collect();
    for (token, key) in holds.iter().cycle().take(count) {
        client.says("n", key, token, "ok 33");
    }
    meter.hang_up(client);
}

/// Each waits for the lock of the other.
fn hand_off(meter: &Meter, count: usize) {
    let (mut holder, mut waiter) = (meter.connect(), meter.connect());
    let mut token = holder.takes("k");
    for _ in 0..count {
        // For 100 s: as leases, and at any time of day, that is on the wheel's level for minutes.
        meter.settle(|| waiter.send("l\nk\n100\n"));
        holder.says("r", "k", &token, "ok");
        token = waiter.is_granted(33);
        (holder, waiter) = (waiter, holder);
    }
    meter.hang_up(holder);
    meter.hang_up(waiter);
}

/// One of ten thousand and one slots; then the one that was taken first is given back.
fn semaphore(meter: &Meter, count: usize) {
    const ACQUIRE: &str = "sl\nk\n0 10001\n";
    let (mut other, mut client) = (meter.connect(), meter.connect());
    let mut tokens = VecDeque::new();
    while tokens.len() < 10_000 {
        other.send(ACQUIRE.repeat(100));
        tokens.extend((0..100).map(|_| other.is_granted(33)));
    }
    for _ in 0..count {
        client.send(ACQUIRE);
        tokens.push_back(client.is_granted(33));
        let oldest = tokens.pop_front().expect("all but one are taken");
        client.says("sr", "k", &oldest, "ok");
    }
    meter.hang_up(client);
    meter.hang_up(other);
}

fn two_phases(meter: &Meter, count: usize) {
    let mut client = meter.connect();
    for _ in 0..count {
        client.send("e\nk\n\n");
        assert!(client.line().starts_with("acquired "));
        client.send("w\nk\n100\n");
        let token = client.is_granted(33);
        client.says("r", "k", &token, "ok");
    }
    meter.hang_up(client);
}

/// Two crowds take turns, each client with a key of its own. A client is granted its key when the lease before is
/// over, and holds it for a second while a client of the other crowd waits for it. The first leases begin a group in
/// a turn, so a group ends in a turn, and so do all that follow.
fn expiry(meter: &Meter, count: usize) {
    // All that follows ends in one slot, or the wheel moves some of the timers once more than others.
    let into = sys::now() % SLOT;
    if into > SLOT - 6 * SECOND {
        thread::sleep(Duration::from_micros(SLOT - into));
    }
    let crowd = || (0..CROWD).map(|_| meter.connect()).collect();
    let (mut holders, mut waiters): (Vec<Client>, Vec<Client>) = (crowd(), crowd());
    let mut first = meter.connect();
    for round in 0..=count / CROWD {
        let mut start = None;
        for keys in (0..CROWD).collect::<Vec<_>>().chunks(GROUP) {
            if round == 0 {
                let frames = keys.iter().map(|key| format!("l\n{key}\n0 1\n"));
                first.send(frames.collect::<String>());
            }
            for &key in keys {
                let holder = if round == 0 {
                    &mut first
                } else {
                    &mut holders[key]
                };
                holder.is_granted(1);
                start.get_or_insert_with(Instant::now);
            }
            if round < count / CROWD {
                for &key in keys {
                    meter.settle(|| waiters[key].send(format!("l\n{key}\n100 1\n")));
                }
            }
        }
        assert!(
            start.is_some_and(|start| start.elapsed() < Duration::from_millis(900)),
            "the machine is too busy: a lease was over before somebody waited for it"
        );
        (holders, waiters) = (waiters, holders);
    }
    for client in holders.into_iter().chain(waiters).chain([first]) {
        meter.hang_up(client);
    }
}

fn pipelined(meter: &Meter, count: usize) {
    let mut client = meter.connect();
    let acquires: String = (0..BATCH).map(|key| format!("l\n{key}\n0\n")).collect();
    for _ in 0..count / BATCH {
        client.send(&acquires);
        let tokens = (0..BATCH).map(|key| (key, client.is_granted(33)));
        let releases = tokens.map(|(key, token)| format!("r\n{key}\n{token}\n"));
        let releases: String = releases.collect();
        client.send(&releases);
        for _ in 0..BATCH {
            client.hears("ok");
        }
    }
    meter.hang_up(client);
}

fn visit(meter: &Meter, count: usize) {
    for _ in 0..count {
        let mut client = meter.connect();
        client.takes("k");
        meter.hang_up(client);
    }
}

fn over_http(meter: &Meter, count: usize) {
    let mut client = meter.settle(|| TcpStream::connect(meter.0.http).expect("it listens"));
    let mut ask = |what: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "POST /locks/k/{what} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        client.write_all(request.as_bytes()).expect("it reads");
        let mut answer = [0; 1024];
        // An answer is one write of the server.
        let n = client.read(&mut answer).expect("it answers");
        let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer
    };
    for _ in 0..count {
        let answer = ask("acquire", r#"{"clientId":"client-1","timeout":30}"#);
        let (_, token) = answer.split_once("\"renewalToken\":\"").expect("a grant");
        ask(
            "release",
            &format!(r#"{{"renewalToken":"{}"}}"#, &token[..32]),
        );
    }
    meter.settle(|| drop(client));
}

/// The table in tests/README.md.
fn recorded() -> Vec<(String, u64)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md");
    let text = fs::read_to_string(path).expect("it can be read");
    let rows = text.lines().skip_while(|line| *line != HEADER).skip(2);
    let rows = rows.take_while(|line| !line.is_empty()).map(|row| {
        let fields: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, path, _, instructions, _] = fields[..] else {
            panic!("three columns: {row}");
        };
        (path.to_string(), instructions.parse().expect(row))
    });
    rows.collect()
}

/// Whether each path is in both tables and costs at most a tenth more than recorded.
fn agrees(measured: &[(String, u64)], recorded: &[(String, u64)]) -> bool {
    let mut is_fine = true;
    for (path, now) in measured {
        let Some((_, before)) = recorded.iter().find(|(name, _)| name == path) else {
            eprintln!("price: {path}: not recorded, measured {now}");
            is_fine = false;
            continue;
        };
        if now * 10 > before * 11 {
            eprintln!("price: {path}: recorded {before}, measured {now}");
            is_fine = false;
        } else if now * 10 < before * 9 {
            println!("{path}: better than recorded: record {now} instead of {before}");
        }
    }
    for (path, before) in recorded {
        if !measured.iter().any(|(name, _)| name == path) {
            eprintln!("price: {path}: recorded {before}, not measured");
            is_fine = false;
        }
    }
    is_fine
}
