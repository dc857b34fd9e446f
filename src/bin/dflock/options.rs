//! The command line of dflock(1) and its environment, as values. No task is carried out here; a mistake is one line of
//! text. Invariant: in front of a command options stop at the key, so that the command's options are never dflock's; a
//! step has no command, and its options may stand anywhere.

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use lexopt::Arg;

use dflockd::client::signals::checked;
use dflockd::client::sites::Sites;
use dflockd::client::{Error, Key, Owner, Servers, Signal, Tls};
use dflockd::command::{SECOND, SECONDS_MAX, Us};
use dflockd::wire::text::{LIMIT_MAX, LINE_MAX};

use crate::tls;
use crate::values::{addresses, fence, number, owner, secret, span, unread, want};

/// The host to ask if nobody names a server.
const HOST: &str = "127.0.0.1";
/// First words that name a step and not a key, unless `--` or `-c` follows. `bench` is one more, with options of its
/// own.
const STEPS: [&[u8]; 12] = [
    b"hold", b"acquire", b"renew", b"release", b"ls", b"stat", b"break", b"ping", b"signal",
    b"listen", b"version", b"help",
];

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Not known yet.
    None,
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
    /// End the holds of the key by force, or the one with this fence.
    Break {
        key: Vec<u8>,
        fence: Option<u64>,
    },
    Ping,
    /// Send a signal to its channel.
    Signal {
        signal: Signal,
    },
    /// Print the signals to channels that match.
    Listen {
        pattern: Vec<u8>,
    },
    /// Measure servers; the words are for the bench.
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

/// What becomes of processes that outlive the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Stop,
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Plain,
    Sh,
    Json,
}

/// What flags and environment have set.
#[derive(Clone, Debug)]
pub struct Options {
    pub task: Task,
    /// How long to wait for the lock; `Us::MAX` waits for ever. Of a step that takes none: for its answers, and `Us::MAX`
    /// is as long as the client library waits.
    pub wait: Us,
    /// The exit status if the lock was not free in time.
    pub conflict: u8,
    pub limit: Option<u32>,
    pub lease: Option<Us>,
    pub min_hold: Us,
    /// `Us::MAX` if there is no maximum.
    pub max_hold: Us,
    pub on_lost: OnLost,
    pub left: Left,
    pub kill_after: Us,
    /// The owner of waits and holds; None stands for a unique one for each lock.
    pub owner: Option<Owner>,
    /// The group in which listeners take turns.
    pub group: Option<Vec<u8>>,
    pub servers: Vec<String>,
    /// The content of the token file.
    pub secret: Option<Vec<u8>>,
    /// None stands for a connection in the clear.
    pub tls: Option<Tls>,
    pub output: Output,
    pub verbose: bool,
}

impl Options {
    /// The server that has this key or channel.
    pub fn home(&self, key: &[u8]) -> String {
        let servers = Servers::new(self.servers.clone()).expect("there is one at least");
        servers.pick(key).to_string()
    }

    /// The addresses of one of the servers, names not looked up yet.
    pub fn sites(&self, server: &str) -> Sites {
        Sites::new(server, self.tls.as_ref()).expect("each server was tried")
    }
}

/// Options as they are read.
struct Said<'a> {
    options: Options,
    /// The options that were given, as they were written.
    names: Vec<String>,
    /// Values with the option or the variable that they came from.
    servers: (&'a str, OsString),
    token_file: Option<(&'a str, OsString)>,
    id: Option<(&'a str, OsString)>,
    tls: tls::Said,
}

/// Reads arguments, without the program's name, and the environment.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Options, String> {
    let mut said = Said::by(env);
    let mut args = lexopt::Parser::from_args(args);
    let mut forced = false;
    let words = loop {
        if let Some(mut rest) = args.try_raw_args()
            && rest.peek() == Some(OsStr::new("--"))
        {
            rest.next();
            forced = true;
            break rest.collect();
        }
        match args.next().map_err(unread)? {
            None => break Vec::new(),
            Some(Arg::Value(word)) => {
                let mut words = vec![word];
                words.extend(args.raw_args().map_err(unread)?);
                break words;
            }
            Some(Arg::Short(letter)) => said.option(format!("-{letter}"), &mut args)?,
            Some(Arg::Long(name)) => said.option(format!("--{name}"), &mut args)?,
        }
        if said.options.task != Task::None {
            return Ok(said.options);
        }
    };
    let is_step = !forced && !words.get(1).is_some_and(|word| is_shell(word.as_bytes()));
    said.task(words, is_step)?;
    said.finish()
}

/// Whether the word says that a text for the shell follows.
fn is_shell(word: &[u8]) -> bool {
    [&b"-c"[..], b"--command"].contains(&word)
}

/// The message for an option that does not exist. flock(1) has some of them, and its users want to know what to write.
fn no_option(name: &str) -> String {
    let instead = match name {
        "-s" | "--shared" => {
            "there are no shared locks: every lock is exclusive, and -l N is a semaphore that N may hold"
        }
        "-u" | "--unlock" => {
            "leave it out: the lock ends with its COMMAND, and 'release KEY TOKEN' ends one of 'acquire KEY'"
        }
        "-F" | "--no-fork" => {
            "leave it out: dflock runs beside the COMMAND, because it has to renew the lease"
        }
        "-c" | "--command" => "it goes behind the KEY: dflock KEY -c 'shell text'",
        _ => return format!("there is no option {name}"),
    };
    format!("{name}: {instead}")
}

impl<'a> Said<'a> {
    fn by(env: impl Fn(&str) -> Option<OsString>) -> Said<'a> {
        let from = |name: &'a str| {
            let value = env(name).filter(|value| !value.is_empty());
            value.map(|value| (name, value))
        };
        Said {
            options: Options {
                task: Task::None,
                wait: Us::MAX,
                conflict: 1,
                limit: None,
                lease: None,
                min_hold: 0,
                max_hold: Us::MAX,
                on_lost: OnLost::Kill,
                left: Left::Stop,
                kill_after: 5 * SECOND,
                owner: None,
                group: None,
                servers: Vec::new(),
                secret: None,
                tls: None,
                output: Output::Plain,
                verbose: false,
            },
            names: Vec::new(),
            servers: from("DFLOCK_SERVER").unwrap_or_else(|| ("--server", HOST.into())),
            token_file: from("DFLOCK_TOKEN_FILE"),
            id: from("DFLOCK_ID"),
            tls: tls::Said::by(&env),
        }
    }

    /// Takes an option and its value. `--help` and `--version` are tasks.
    fn option(&mut self, name: String, args: &mut lexopt::Parser) -> Result<(), String> {
        let mut value = || args.value().map_err(unread);
        let options = &mut self.options;
        match name.as_str() {
            "-h" | "--help" => options.task = Task::Help,
            "-V" | "--version" => options.task = Task::Version,
            "-n" | "--nonblock" | "--nb" => options.wait = 0,
            "-w" | "--wait" | "--timeout" => options.wait = span(&name, &value()?, 0)?,
            "-E" | "--conflict-exit-code" => {
                options.conflict = count(&name, &value()?, 0..=255)? as u8;
            }
            "-q" | "--skip-ok" => options.conflict = 0,
            "-l" | "--limit" => {
                options.limit = Some(count(&name, &value()?, 1..=LIMIT_MAX)? as u32);
            }
            "--lease" => {
                let lease = number(&name, &value()?, "whole seconds", 1..=SECONDS_MAX)?;
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
            "--left" => {
                options.left = match value()?.as_bytes() {
                    b"stop" => Left::Stop,
                    b"wait" => Left::Wait,
                    other => return Err(want(&name, other, "stop or wait")),
                };
            }
            "-o" | "--output" => {
                options.output = match value()?.as_bytes() {
                    b"sh" => Output::Sh,
                    b"json" => Output::Json,
                    other => {
                        let text = want(&name, other, "sh or json");
                        return Err(format!("{text}; flock's -o is not needed here"));
                    }
                };
            }
            "--id" => self.id = Some(("--id", value()?)),
            "--group" => options.group = Some(value()?.into_vec()),
            "--server" => self.servers = ("--server", value()?),
            "--token-file" => self.token_file = Some(("--token-file", value()?)),
            "-v" | "--verbose" => options.verbose = true,
            // As under flock(1): what they ask for is so in any case.
            "-x" | "-e" | "--exclusive" | "--close" => {}
            _ if self.tls.take(&name, &mut value)? => {}
            _ => return Err(no_option(&name)),
        }
        self.names.push(name);
        Ok(())
    }

    /// Reads the task from the words behind the options.
    fn task(&mut self, words: Vec<OsString>, is_step: bool) -> Result<(), String> {
        let mut words = words.into_iter();
        let first = words.next().ok_or("want a KEY and a COMMAND")?;
        self.options.task = match first.as_bytes() {
            b"bench" if is_step => Task::Bench {
                words: words.collect(),
            },
            name if is_step && STEPS.contains(&name) => {
                let words = self.among(words)?;
                if self.options.task != Task::None {
                    return Ok(());
                }
                step(name, words)?
            }
            _ => run(first, words.collect())?,
        };
        Ok(())
    }

    /// Takes the options among the words of a step; `--` ends them.
    fn among(&mut self, words: impl Iterator<Item = OsString>) -> Result<Vec<OsString>, String> {
        let mut args = lexopt::Parser::from_args(words);
        let mut others = Vec::new();
        while let Some(arg) = args.next().map_err(unread)? {
            let name = match arg {
                Arg::Value(word) => {
                    others.push(word);
                    continue;
                }
                Arg::Short(letter) => format!("-{letter}"),
                Arg::Long(name) => format!("--{name}"),
            };
            let known = self.option(name, &mut args);
            if self.options.task != Task::None {
                break;
            }
            known.map_err(|text| match text.starts_with("there is no") {
                true => format!("{text}; a word that begins with - goes behind --"),
                false => text,
            })?;
        }
        Ok(others)
    }

    /// Checks that the options fit the task, and reads the token file.
    fn finish(self) -> Result<Options, String> {
        let mut options = self.options;
        if matches!(options.task, Task::Help | Task::Version) {
            return Ok(options);
        }
        let stray = self.names.iter().find(|name| !serves(name, &options.task));
        if let Some(name) = stray {
            return Err(format!("{name} is of no use {}", options.task.whom()));
        }
        if options.task.only_asks() && options.wait == 0 {
            let text = want("--wait", b"0", "more than 0 seconds for an answer");
            return Err(text);
        }
        if let Task::Listen { pattern } = &options.task {
            checked(pattern, options.group.as_deref()).map_err(|e| e.to_string())?;
        }
        let owner = self.id.map(|(name, id)| owner(name, &id));
        options.owner = owner.transpose()?;
        let (name, list) = self.servers;
        options.servers = addresses(name, &list)?;
        let secret = self.token_file.map(|(name, path)| secret(name, &path));
        options.secret = secret.transpose()?;
        options.tls = self.tls.read()?;
        for server in &options.servers {
            Sites::new(server, options.tls.as_ref()).map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(options)
    }
}

/// Whether a task accepts an option. Options for the server, the token, TLS and `-v` fit every task. `--id` fits every task
/// with a lock, even where it changes nothing, so that all steps of a job can share their options.
fn serves(name: &str, task: &Task) -> bool {
    let runs = matches!(task, Task::Run { .. });
    let holds = runs || matches!(task, Task::Hold { .. });
    let takes = holds || matches!(task, Task::Acquire { .. });
    let renews = matches!(task, Task::Renew { .. });
    let proves = renews || matches!(task, Task::Release { .. });
    match name {
        "--on-lost" | "--kill-after" | "--left" => runs,
        "--min-hold" | "--max-hold" => holds,
        "-n" | "--nonblock" | "--nb" => takes,
        "-w" | "--wait" | "--timeout" => takes || task.only_asks(),
        "-x" | "-e" | "--exclusive" | "--close" => takes,
        "-E" | "--conflict-exit-code" | "-q" | "--skip-ok" => takes,
        "--lease" => takes || renews,
        "--id" => takes || proves,
        "-l" | "--limit" => {
            takes || proves || matches!(task, Task::Stat { .. } | Task::Break { .. })
        }
        "--group" => matches!(task, Task::Listen { .. }),
        "-o" | "--output" => !matches!(
            task,
            Task::Run { .. } | Task::Release { .. } | Task::Ping | Task::Bench { .. }
        ),
        _ => true,
    }
}

impl Task {
    /// Whether it is a step with questions of a moment: it takes no lock and needs none.
    pub fn only_asks(&self) -> bool {
        matches!(
            self,
            Task::List { .. } | Task::Stat { .. } | Task::Break { .. } | Task::Ping
        )
    }

    /// The end of the message that an option is of no use.
    fn whom(&self) -> &'static str {
        match self {
            Task::None | Task::Run { .. } => "to a COMMAND",
            Task::Hold { .. } => "to hold",
            Task::Acquire { .. } => "to acquire",
            Task::Renew { .. } => "to renew",
            Task::Release { .. } => "to release",
            Task::List { .. } => "to ls",
            Task::Stat { .. } => "to stat",
            Task::Break { .. } => "to break",
            Task::Ping => "to ping",
            Task::Signal { .. } => "to signal",
            Task::Listen { .. } => "to listen",
            Task::Bench { .. } => "in front of bench",
            Task::Help => "to help",
            Task::Version => "to version",
        }
    }
}

/// The task of a step and its words.
fn step(name: &[u8], words: Vec<OsString>) -> Result<Task, String> {
    let mut words = words.into_iter();
    let mut word = |what: &str| words.next().ok_or_else(|| format!("want a {what}"));
    let task = match name {
        b"hold" => Task::Hold {
            key: key(word("KEY")?)?,
        },
        b"acquire" => Task::Acquire {
            key: key(word("KEY")?)?,
        },
        b"renew" => Task::Renew {
            key: key(word("KEY")?)?,
            token: word("TOKEN")?.into_vec(),
        },
        b"release" => Task::Release {
            key: key(word("KEY")?)?,
            token: word("TOKEN")?.into_vec(),
        },
        b"ls" => Task::List {
            prefix: word("PREFIX").unwrap_or_default().into_vec(),
        },
        b"stat" => Task::Stat {
            key: key(word("KEY")?)?,
        },
        b"break" => Task::Break {
            key: key(word("KEY")?)?,
            fence: word("FENCE").ok().map(|word| fence(&word)).transpose()?,
        },
        b"ping" => Task::Ping,
        b"help" => Task::Help,
        b"version" => Task::Version,
        b"signal" => {
            let (channel, payload) = (word("CHANNEL")?, word("PAYLOAD")?);
            let signal = Signal::new(channel.as_bytes(), payload.as_bytes());
            Task::Signal {
                signal: signal.map_err(|e| e.to_string())?,
            }
        }
        b"listen" => Task::Listen {
            pattern: word("PATTERN")?.into_vec(),
        },
        _ => unreachable!("every step has its arm"),
    };
    match words.next() {
        None => Ok(task),
        Some(word) => Err(format!("nothing may follow, but {word:?} does")),
    }
}

fn run(word: OsString, mut command: Vec<OsString>) -> Result<Task, String> {
    let key = key(word)?;
    match command.first().map(|word| word.as_bytes()) {
        None => return Err(bare(&key)),
        Some(b"--") => {
            command.remove(0);
        }
        Some(word) if is_shell(word) && command.len() == 2 => {
            command.splice(..1, ["sh", "-c"].map(OsString::from));
        }
        Some(word) if is_shell(word) => {
            return Err("want one text behind -c, in quotes".to_string());
        }
        Some([b'-', ..]) => {
            let word = &command[0];
            return Err(format!(
                "options go before the KEY, and a COMMAND like {word:?} behind --"
            ));
        }
        Some(_) => {}
    }
    if command.is_empty() {
        return Err("want a COMMAND behind --".to_string());
    }
    Ok(Task::Run { key, command })
}

/// The end of a message about a word that may be a misspelt step; empty if it is like none.
pub fn meant(word: &[u8]) -> String {
    let near = STEPS.iter().min_by_key(|step| distance(word, step));
    match near.filter(|step| word.len() > 2 && (1..=2).contains(&distance(word, step))) {
        Some(step) => format!(" (did you mean {}?)", String::from_utf8_lossy(step)),
        None => String::new(),
    }
}

/// How many letters have to be added, taken away or changed (Levenshtein 1966).
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.iter().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, other) in other.iter().enumerate() {
            let change = corner + usize::from(letter != other);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

/// The message for a key alone. Taken as [`Task::Hold`], flock's form with a descriptor would leave the work
/// unprotected, and a misspelt step would hold a lock.
fn bare(key: &[u8]) -> String {
    let name = String::from_utf8_lossy(key);
    let what = match key.iter().all(u8::is_ascii_digit) {
        true => format!("a descriptor like {name} cannot be held"),
        false if STEPS.contains(&key) => format!("a KEY like {name} wants a COMMAND"),
        false => format!(
            "{name:?} is no step{}, and a KEY wants a COMMAND",
            meant(key)
        ),
    };
    format!(
        "{what}: write 'dflock KEY -- COMMAND', or, to hold a lock until stdin ends, 'dflock hold KEY'"
    )
}

fn count(name: &str, value: &OsStr, range: RangeInclusive<u64>) -> Result<u64, String> {
    number(name, value, "a whole number", range)
}

fn key(word: OsString) -> Result<Vec<u8>, String> {
    let key = word.into_vec();
    let length = key.len();
    Key::lock(&key).map_err(|e| match e {
        // A long one fills no screen.
        Error::Key(_) if length > LINE_MAX => {
            format!("KEY: want {LINE_MAX} bytes at most, not {length}")
        }
        Error::Key(_) => want("KEY", &key, "a word without blanks"),
        e => e.to_string(),
    })?;
    Ok(key)
}
