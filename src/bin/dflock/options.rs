//! The command line of dflock(1) and its environment, as values. Nothing is done here; a mistake is one line of text.
//! Invariant: options stop at the key, so that a command's own options are never ours.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use lexopt::Arg;

use dflockd::client::signals::checked;
use dflockd::client::{Key, Owner, Signal};
use dflockd::command::{SECOND, SECONDS_MAX, Us};
use dflockd::config;
use dflockd::wire::text::LIMIT_MAX;

/// Where a server listens if nobody says.
const SERVER: &str = "127.0.0.1:6388";
/// More than a token file may have.
const SECRET_FILE_MAX: u64 = 128 * 1024;

pub const HELP: &str = "\
Usage: dflock [options] KEY [--] COMMAND [ARG...]
       dflock [options] KEY -c 'shell text'
       dflock [options] KEY
       dflock [options] acquire KEY | renew KEY TOKEN | release KEY TOKEN
       dflock [options] ls [PREFIX] | stat KEY | ping | version
       dflock [options] signal CHANNEL PAYLOAD | listen PATTERN [--group GROUP]
       dflock [options] bench [bench options]

Runs a command while holding a lock that spans hosts; without one, holds it until stdin ends.

  -n, --nonblock               do not wait
  -w, --wait SECONDS           wait at most so long
  -E, --conflict-exit-code N   exit status when the lock is not free in time (1)
  -q, --skip-ok                exit 0 then, and say nothing
  -l, --limit N                a semaphore that N may hold at once
      --lease SECONDS          how long the lock outlives a failure (the server's default)
      --min-hold SECONDS       hold it at least so long
      --max-hold SECONDS       stop the command after so long
      --on-lost kill|term|ignore
                               what becomes of the command when the lock is lost (kill)
      --kill-after SECONDS     from TERM to KILL (5, at most a quarter of the lease)
      --id OWNER               who waits and holds, for deadlocks and lost connections (unique)
      --group GROUP            with listen: those of a group take turns
      --server HOST:PORT[,HOST:PORT...]
                               where to ask; of several, the key chooses (127.0.0.1:6388)
      --token-file FILE        what to say to a server that asks who you are
  -o, --output sh|json         how to print what is found
  -v, --verbose                say on stderr what happens
  -h, --help                   this
  -V, --version

Environment: DFLOCK_SERVER, DFLOCK_TOKEN_FILE, DFLOCK_ID. Exit status and examples: man dflock.
";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Run this while holding the key.
    Run {
        key: Vec<u8>,
        command: Vec<OsString>,
    },
    /// Hold the key until stdin ends.
    Hold {
        key: Vec<u8>,
    },
    Acquire {
        key: Vec<u8>,
    },
    Renew {
        key: Vec<u8>,
        token: Vec<u8>,
    },
    Release {
        key: Vec<u8>,
        token: Vec<u8>,
    },
    List {
        prefix: Vec<u8>,
    },
    Stat {
        key: Vec<u8>,
    },
    Ping,
    /// Tell everybody who listens.
    Signal {
        signal: Signal,
    },
    /// Print what is signalled to channels like this.
    Listen {
        pattern: Vec<u8>,
    },
    /// Measure servers, as these words say.
    Bench {
        words: Vec<OsString>,
    },
    Help,
    Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLost {
    Kill,
    Term,
    Ignore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Plain,
    Sh,
    Json,
}

/// Everything that flags and environment say.
#[derive(Debug)]
pub struct Options {
    pub task: Task,
    /// How long to wait for the lock; `Us::MAX` is for ever.
    pub wait: Us,
    /// The exit status if it was not free in time.
    pub conflict: u8,
    pub limit: Option<u32>,
    pub lease: Option<Us>,
    pub min_hold: Us,
    /// `Us::MAX` is for ever.
    pub max_hold: Us,
    pub on_lost: OnLost,
    pub kill_after: Us,
    /// Who waits and holds; None is a unique one for each lock.
    pub owner: Option<Owner>,
    /// With whom to take turns in listening.
    pub group: Option<Vec<u8>>,
    pub servers: Vec<String>,
    /// What the token file has, blanks around it removed.
    pub secret: Option<Vec<u8>>,
    pub output: Output,
    pub verbose: bool,
}

/// Reads arguments, without the program's name, and the environment.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Options, String> {
    let env = |name| env(name).filter(|value| !value.is_empty());
    let mut options = Options {
        task: Task::Help,
        wait: Us::MAX,
        conflict: 1,
        limit: None,
        lease: None,
        min_hold: 0,
        max_hold: Us::MAX,
        on_lost: OnLost::Kill,
        kill_after: 5 * SECOND,
        owner: None,
        group: None,
        servers: Vec::new(),
        secret: None,
        output: Output::Plain,
        verbose: false,
    };
    let mut servers = env("DFLOCK_SERVER").unwrap_or_else(|| SERVER.into());
    let mut token_file = env("DFLOCK_TOKEN_FILE");
    let mut id = env("DFLOCK_ID").map(|owner| ("DFLOCK_ID", owner));
    let mut args = lexopt::Parser::from_args(args);
    let (mut skip_ok, mut forced) = (false, false);
    let words = loop {
        if let Some(mut rest) = args.try_raw_args()
            && rest.peek() == Some(OsStr::new("--"))
        {
            rest.next();
            forced = true;
            let words: Vec<OsString> = rest.collect();
            if words.is_empty() {
                return Err("want a KEY".to_string());
            }
            break words;
        }
        let name = match args.next().map_err(|e| e.to_string())? {
            None => return Err("want a KEY".to_string()),
            Some(Arg::Value(word)) => {
                let mut words = vec![word];
                words.extend(args.raw_args().map_err(|e| e.to_string())?);
                break words;
            }
            Some(Arg::Short(letter)) => format!("-{letter}"),
            Some(Arg::Long(name)) => format!("--{name}"),
        };
        let mut value = || args.value().map_err(|e| e.to_string());
        match name.as_str() {
            "-h" | "--help" => return Ok(options),
            "-V" | "--version" => {
                options.task = Task::Version;
                return Ok(options);
            }
            "-n" | "--nonblock" => options.wait = 0,
            "-w" | "--wait" => options.wait = span(&name, &value()?, 0)?,
            "-E" | "--conflict-exit-code" => {
                options.conflict = number(&name, &value()?, 0, 255)? as u8;
            }
            "-q" | "--skip-ok" => skip_ok = true,
            "-l" | "--limit" => {
                let limit = number(&name, &value()?, 1, LIMIT_MAX)?;
                options.limit = Some(limit as u32);
            }
            "--lease" => {
                let lease = number(&name, &value()?, 1, SECONDS_MAX)?;
                options.lease = Some(lease * SECOND);
            }
            "--min-hold" => options.min_hold = span(&name, &value()?, 0)?,
            "--max-hold" => options.max_hold = span(&name, &value()?, 1)?,
            "--kill-after" => options.kill_after = span(&name, &value()?, 0)?,
            "--on-lost" => {
                options.on_lost = match value()?.as_bytes() {
                    b"kill" => OnLost::Kill,
                    b"term" => OnLost::Term,
                    b"ignore" => OnLost::Ignore,
                    other => return Err(want(&name, other, "kill, term or ignore")),
                };
            }
            "-o" | "--output" => {
                options.output = match value()?.as_bytes() {
                    b"sh" => Output::Sh,
                    b"json" => Output::Json,
                    other => return Err(want(&name, other, "sh or json")),
                };
            }
            "--id" => id = Some(("--id", value()?)),
            "--group" => options.group = Some(value()?.into_vec()),
            "--server" => servers = value()?,
            "--token-file" => token_file = Some(value()?),
            "-v" | "--verbose" => options.verbose = true,
            _ => return Err(format!("there is no option {name}")),
        }
    };
    if skip_ok {
        options.conflict = 0;
    }
    options.task = task(words, forced, &mut options.group)?;
    if let Task::Listen { pattern } = &options.task {
        checked(pattern, options.group.as_deref()).map_err(|e| e.to_string())?;
    }
    options.owner = id.map(|(name, id)| owner(name, &id)).transpose()?;
    if options.task != Task::Version {
        options.servers = addresses(&servers)?;
        options.secret = token_file.map(|path| secret(&path)).transpose()?;
    }
    Ok(options)
}

/// What the words behind the options ask for. A word that names a step is a key all the same if it is `forced` to be,
/// by `--` before it, or if a command follows. The group may stand behind what it is for.
fn task(
    mut words: Vec<OsString>,
    forced: bool,
    group: &mut Option<Vec<u8>>,
) -> Result<Task, String> {
    let first = words.remove(0);
    let is_key = |word: &OsString| word == "--" || word == "-c";
    if forced || words.first().is_some_and(is_key) {
        return run(first, words);
    }
    let mut rest = words.into_iter();
    let task = match first.as_bytes() {
        b"acquire" => Task::Acquire {
            key: key(rest.next())?,
        },
        b"renew" => Task::Renew {
            key: key(rest.next())?,
            token: rest.next().ok_or("want a TOKEN")?.into_vec(),
        },
        b"release" => Task::Release {
            key: key(rest.next())?,
            token: rest.next().ok_or("want a TOKEN")?.into_vec(),
        },
        b"ls" => Task::List {
            prefix: rest.next().unwrap_or_default().into_vec(),
        },
        b"stat" => Task::Stat {
            key: key(rest.next())?,
        },
        b"ping" => Task::Ping,
        b"version" => Task::Version,
        b"help" => Task::Help,
        b"bench" => Task::Bench {
            words: rest.by_ref().collect(),
        },
        b"signal" => {
            let channel = rest.next().ok_or("want a CHANNEL")?;
            let payload = rest.next().ok_or("want a PAYLOAD")?;
            let signal = Signal::new(channel.as_bytes(), payload.as_bytes());
            Task::Signal {
                signal: signal.map_err(|e| e.to_string())?,
            }
        }
        b"listen" => {
            let pattern = rest.next().ok_or("want a PATTERN")?.into_vec();
            let mut rest = lexopt::Parser::from_args(rest.by_ref());
            while let Some(arg) = rest.next().map_err(|e| e.to_string())? {
                match arg {
                    Arg::Long("group") => {
                        *group = Some(rest.value().map_err(|e| e.to_string())?.into_vec());
                    }
                    other => return Err(other.unexpected().to_string()),
                }
            }
            Task::Listen { pattern }
        }
        _ => return run(first, rest.collect()),
    };
    match rest.next() {
        None => Ok(task),
        Some(word) => Err(format!("nothing may follow, but {word:?} does")),
    }
}

fn run(word: OsString, mut command: Vec<OsString>) -> Result<Task, String> {
    let key = key(Some(word))?;
    match command.first().map(|word| word.as_bytes()) {
        None => return Ok(Task::Hold { key }),
        Some(b"--") => {
            command.remove(0);
        }
        Some(b"-c") if command.len() == 2 => {
            command.splice(..1, ["sh", "-c"].map(OsString::from));
        }
        Some(b"-c") => return Err("want one text behind -c".to_string()),
        Some(_) => {}
    }
    if command.is_empty() {
        return Err("want a COMMAND behind --".to_string());
    }
    Ok(Task::Run { key, command })
}

fn key(word: Option<OsString>) -> Result<Vec<u8>, String> {
    let key = word.ok_or("want a KEY")?.into_vec();
    Key::lock(&key).map_err(|e| e.to_string())?;
    Ok(key)
}

fn owner(name: &str, id: &OsStr) -> Result<Owner, String> {
    Owner::new(id.as_bytes()).map_err(|e| format!("{name}: {e}"))
}

/// Takes a list of servers apart.
pub fn addresses(list: &OsStr) -> Result<Vec<String>, String> {
    let wanted = || want("--server", list.as_bytes(), "HOST:PORT[,HOST:PORT...]");
    let list = list.to_str().ok_or_else(wanted)?;
    let is_address = |address: &str| {
        address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains('|') && port.parse::<u16>().is_ok_and(|n| n > 0)
        })
    };
    let addresses: Vec<String> = list.split(',').map(|one| one.trim().to_string()).collect();
    if addresses.iter().all(|address| is_address(address)) {
        Ok(addresses)
    } else {
        Err(wanted())
    }
}

/// What a token file has, blanks around it removed.
pub fn secret(path: &OsStr) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SECRET_FILE_MAX).read_to_end(&mut text));
    read.map_err(|e| format!("cannot read the token file {path:?}: {e}"))?;
    config::secret(&text).map_err(|want| format!("token file {path:?}: want {want}"))
}

/// Seconds, perhaps with decimals, in microseconds; `least` is in microseconds too.
fn span(name: &str, value: &OsStr, least: Us) -> Result<Us, String> {
    let wanted = || want(name, value.as_bytes(), "seconds, decimals allowed");
    let (whole, part) = match value.to_str().ok_or_else(wanted)?.split_once('.') {
        Some((whole, part)) => (whole, part),
        None => (value.to_str().ok_or_else(wanted)?, "0"),
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // A decimal point may come first, but not last.
    let whole = if whole.is_empty() && value.len() > 1 {
        "0"
    } else {
        whole
    };
    if !is_number(whole) || !is_number(part) {
        return Err(wanted());
    }
    let whole: u64 = whole.parse().map_err(|_| wanted())?;
    let micros: u64 = format!("{part:0<6}")[..6].parse().map_err(|_| wanted())?;
    let span = whole.saturating_mul(SECOND).saturating_add(micros);
    if whole > SECONDS_MAX || span < least {
        return Err(wanted());
    }
    Ok(span)
}

/// A decimal number within its range.
pub fn number(name: &str, value: &OsStr, least: u64, most: u64) -> Result<u64, String> {
    value
        .to_str()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| want(name, value.as_bytes(), &format!("{least} to {most}")))
}

/// What is wrong with an option, in a line.
pub fn want(name: &str, value: &[u8], wanted: &str) -> String {
    format!(
        "{name}: want {wanted}, not {:?}",
        String::from_utf8_lossy(value)
    )
}
