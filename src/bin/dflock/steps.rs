//! One step each: for scripts that keep a token between their steps, and for people who want to see what is held. Each
//! is one short conversation with a server over the client library. Invariant: nothing here holds a lock when it ends,
//! but `acquire`, which says so by its token.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use serde_json::Value;

use dflockd::client::{self, Client, Error, Grant, Key, Owner, Servers, Signal, Token};
use dflockd::command::{Refusal, Us};
use dflockd::wire::text;

use crate::failure::{
    DEADLOCK, Failure, LOST, NO_PERMISSION, OS_ERROR, PROTOCOL, TRY_LATER, UNAVAILABLE, USAGE, say,
};
use crate::options::{Options, Output, Task};

/// Prints a text and is content. To a pipe that nobody reads it ends as SIGPIPE would end it.
pub fn print(text: &str) -> Result<u8, Failure> {
    print_bytes(text.as_bytes())
}

/// The same with what may be no text.
pub fn print_bytes(bytes: &[u8]) -> Result<u8, Failure> {
    // The library's own stream takes a descriptor that cannot be written to for one that is closed, and says that all
    // went well.
    let stdout = io::stdout().lock();
    let file = stdout.as_fd().try_clone_to_owned().map(File::from);
    match file.and_then(|mut file| file.write_all(bytes)) {
        Ok(()) => Ok(0),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => {
            Err(Failure::silent(128 + libc::SIGPIPE as u8))
        }
        Err(e) => Err(Failure::new(OS_ERROR, format!("standard output: {e}"))),
    }
}

/// Carries out the task, which is one of those that do not hold on.
pub fn step(options: &Options) -> Result<u8, Failure> {
    match &options.task {
        Task::Acquire { key } => acquire(options, key),
        Task::Renew { key, token } => renew(options, key, token),
        Task::Release { key, token } => release(options, key, token),
        Task::List { prefix } => list(options, prefix),
        Task::Stat { key } => stat(options, key),
        Task::Ping => ping(options),
        Task::Signal { signal } => send(options, signal),
        task => unreachable!("{task:?} is not a step"),
    }
}

fn acquire(options: &Options, key: &[u8]) -> Result<u8, Failure> {
    // The others must not say whose they are: they would take the hold with them when they end.
    let owner = options.owner.clone().unwrap_or_else(Owner::unique);
    let settings = client::Options {
        id: Some(owner),
        ..settings(options)
    };
    let mut client = reach(servers(options).pick(key), &settings)?;
    let stats = stats_of(&mut client)?;
    if stats["auto_release"] != Value::Bool(false) {
        let text = "the server releases a lock when its connection ends, as this one would: \
                    use dflock KEY COMMAND, or start dflockd with --no-auto-release-on-disconnect";
        return Err(Failure::new(USAGE, text));
    }
    let (wait, lease) = (duration(options.wait), options.lease.map(duration));
    let key = name(options, key)?;
    let grant = client
        .acquire(&key, wait, lease)
        .map_err(|e| failure(options, e))?;
    let printed = print(&grant_line(options.output, &grant));
    if printed.is_err() {
        // Nobody knows of it. If this fails too, its lease ends it.
        let _ = client.release(&key, grant.token);
    }
    printed
}

fn renew(options: &Options, key: &[u8], token: &[u8]) -> Result<u8, Failure> {
    let (key_name, token) = (name(options, key)?, proof(token)?);
    let lease = options.lease.map(duration);
    let grant = connect_for(options, key)?
        .renew(&key_name, token, lease)
        .map_err(|e| lost_or(options, e))?;
    match options.output {
        Output::Plain => print(&format!("{}\n", grant.lease.as_secs())),
        _ => print(&grant_line(options.output, &grant)),
    }
}

fn release(options: &Options, key: &[u8], token: &[u8]) -> Result<u8, Failure> {
    let (key_name, token) = (name(options, key)?, proof(token)?);
    connect_for(options, key)?
        .release(&key_name, token)
        .map_err(|e| lost_or(options, e))?;
    Ok(0)
}

fn ping(options: &Options) -> Result<u8, Failure> {
    for server in &options.servers {
        connect(options, server)?
            .ping()
            .map_err(|e| failure(options, e))?;
    }
    Ok(0)
}

fn send(options: &Options, signal: &Signal) -> Result<u8, Failure> {
    let Signal { channel, payload } = signal;
    let receivers = connect_for(options, channel)?
        .signal(channel, payload)
        .map_err(|e| failure(options, e))?;
    if options.verbose {
        say(&format!("receivers: {receivers}"));
    }
    match options.output {
        Output::Plain => Ok(0),
        Output::Sh => print(&format!("DFLOCK_RECEIVERS={receivers}\n")),
        Output::Json => print(&format!("{{\"receivers\":{receivers}}}\n")),
    }
}

/// A key in use, as a listing shows it.
struct Row {
    key: String,
    semaphore: bool,
    limit: u64,
    holders: u64,
    waiters: u64,
    /// Of a lock: the number of the connection that holds it, if that is still there.
    holder: Option<u64>,
    /// Of a lock: who holds it, if that was said.
    owner: Option<String>,
    /// Of a lock: seconds.
    left: Option<f64>,
}

fn list(options: &Options, prefix: &[u8]) -> Result<u8, Failure> {
    let prefix = String::from_utf8_lossy(prefix);
    let mut rows = Vec::new();
    for server in &options.servers {
        rows.extend(rows_of(&stats_of(&mut connect(options, server)?)?));
    }
    rows.retain(|row| row.key.starts_with(&*prefix));
    rows.sort_by(|a, b| (&a.key, a.semaphore).cmp(&(&b.key, b.semaphore)));
    match options.output {
        Output::Plain => print(&table(&rows, options.verbose)),
        Output::Json => {
            let list: Vec<Value> = rows.iter().map(Row::json).collect();
            print(&format!("{}\n", Value::from(list)))
        }
        Output::Sh => Err(Failure::new(USAGE, "-o sh is for one key: see dflock stat")),
    }
}

fn stat(options: &Options, key: &[u8]) -> Result<u8, Failure> {
    let stats = stats_of(&mut connect_for(options, key)?)?;
    let text = String::from_utf8_lossy(key);
    let is_it = |row: &Row| row.key == text && row.semaphore == options.limit.is_some();
    let Some(row) = rows_of(&stats).into_iter().find(is_it) else {
        // Free: there is nothing to show.
        return Ok(1);
    };
    match options.output {
        Output::Plain => print(&table(&[row], options.verbose)),
        Output::Json => print(&format!("{}\n", row.json())),
        Output::Sh => print(&row.sh()),
    }
}

fn rows_of(stats: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    for semaphore in [false, true] {
        let list = &stats[if semaphore { "semaphores" } else { "locks" }];
        for entry in list.as_array().into_iter().flatten() {
            let number = |name: &str| entry[name].as_u64();
            let left = entry["lease_expires_in_s"].as_f64();
            let holder = number("owner_conn_id").filter(|&holder| holder > 0);
            rows.push(Row {
                key: entry["key"].as_str().unwrap_or_default().to_string(),
                semaphore,
                limit: number("limit").unwrap_or(1),
                holders: number("holders").unwrap_or(1),
                waiters: number("waiters").unwrap_or(0),
                holder,
                owner: entry["owner"].as_str().map(str::to_string),
                left,
            });
        }
    }
    rows
}

/// Aligned columns under a heading; what a semaphore does not have is a dash. Owners may be long, so they come last and
/// only if asked for.
fn table(rows: &[Row], owners: bool) -> String {
    let heading = ["KEY", "HELD", "WAITING", "HOLDER", "SECONDS LEFT"].map(String::from);
    let cells = rows.iter().map(|row| {
        let dash = || "-".to_string();
        [
            row.key.clone(),
            format!("{}/{}", row.holders, row.limit),
            row.waiters.to_string(),
            row.holder.map_or_else(dash, |id| format!("#{id}")),
            row.left.map_or_else(dash, |left| format!("{left:.1}")),
        ]
    });
    let lines: Vec<[String; 5]> = std::iter::once(heading).chain(cells).collect();
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    let names = rows.iter().map(|row| row.owner.as_deref().unwrap_or("-"));
    for (line, owner) in lines.iter().zip(std::iter::once("OWNER").chain(names)) {
        let [key, held, waiting, holder, left] = line;
        let row = format!(
            "{key:<0$}  {held:>1$}  {waiting:>2$}  {holder:>3$}  {left:>4$}",
            widths[0], widths[1], widths[2], widths[3], widths[4]
        );
        text.push_str(row.trim_end());
        if owners {
            text.push_str("  ");
            text.push_str(owner);
        }
        text.push('\n');
    }
    text
}

impl Row {
    fn json(&self) -> Value {
        let mut row = serde_json::Map::new();
        row.insert("key".into(), self.key.clone().into());
        let kind = if self.semaphore { "semaphore" } else { "lock" };
        row.insert("kind".into(), kind.into());
        row.insert("limit".into(), self.limit.into());
        row.insert("holders".into(), self.holders.into());
        row.insert("waiters".into(), self.waiters.into());
        row.insert("holder".into(), self.holder.into());
        row.insert("owner".into(), self.owner.clone().into());
        row.insert("seconds_left".into(), self.left.into());
        Value::Object(row)
    }

    fn sh(&self) -> String {
        let or_none = |value: Option<String>| value.unwrap_or_default();
        format!(
            "DFLOCK_LIMIT={}\nDFLOCK_HOLDERS={}\nDFLOCK_WAITERS={}\nDFLOCK_HOLDER={}\nDFLOCK_OWNER={}\nDFLOCK_LEFT={}\n",
            self.limit,
            self.holders,
            self.waiters,
            or_none(self.holder.map(|holder| holder.to_string())),
            or_none(self.owner.as_deref().map(quoted)),
            or_none(self.left.map(|left| format!("{left:.3}"))),
        )
    }
}

/// A word of sh(1): others have chosen what is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What proves a grant, in the form that was asked for.
pub fn grant_line(output: Output, grant: &Grant) -> String {
    let (token, fence, seconds) = (
        digits(grant.token),
        grant.token.fence,
        grant.lease.as_secs(),
    );
    match output {
        Output::Plain => format!("{token} {fence} {seconds}\n"),
        Output::Sh => {
            format!("DFLOCK_TOKEN={token}\nDFLOCK_FENCE={fence}\nDFLOCK_LEASE={seconds}\n")
        }
        Output::Json => {
            // Many a reader of JSON takes a number of this size for another one: a string is safe.
            format!("{{\"token\":\"{token}\",\"fence\":\"{fence}\",\"lease\":{seconds}}}\n")
        }
    }
}

/// The token as it is said and printed.
pub fn digits(token: Token) -> String {
    let mut digits = Vec::new();
    text::write_token(token, &mut digits);
    String::from_utf8(digits).expect("hex digits")
}

fn stats_of(client: &mut Client) -> Result<Value, Failure> {
    let json = client.stats().map_err(described)?;
    let wanted = || Failure::new(PROTOCOL, "the server's stats are no JSON");
    serde_json::from_str(&json).map_err(|_| wanted())
}

fn connect_for(options: &Options, key: &[u8]) -> Result<Client, Failure> {
    connect(options, servers(options).pick(key))
}

fn connect(options: &Options, server: &str) -> Result<Client, Failure> {
    reach(server, &settings(options))
}

fn servers(options: &Options) -> Servers {
    Servers::new(options.servers.clone()).expect("the options have one at least")
}

/// How every step connects.
pub fn settings(options: &Options) -> client::Options {
    client::Options {
        secret: options.secret.clone(),
        ..client::Options::default()
    }
}

pub fn reach(server: &str, settings: &client::Options) -> Result<Client, Failure> {
    Client::connect(server, settings).map_err(|e| match e {
        Error::Io(e) => Failure::new(UNAVAILABLE, format!("cannot reach {server}: {e}")),
        e => described(e),
    })
}

fn name<'a>(options: &Options, key: &'a [u8]) -> Result<Key<'a>, Failure> {
    match options.limit {
        Some(limit) => Key::semaphore(key, limit),
        None => Key::lock(key),
    }
    .map_err(described)
}

fn proof(token: &[u8]) -> Result<Token, Failure> {
    text::token(token).ok_or_else(|| Failure::new(USAGE, "a TOKEN has 32 hexadecimal digits"))
}

fn failure(options: &Options, error: Error) -> Failure {
    match error {
        Error::Timeout => Failure::silent(options.conflict),
        error => described(error),
    }
}

/// The plain `error` to a token means that it is not held.
fn lost_or(options: &Options, error: Error) -> Failure {
    match error {
        Error::Refused(Refusal::Error) => {
            Failure::new(LOST, "the lock is not held with this token")
        }
        error => failure(options, error),
    }
}

/// How a refusal ends dflock, here and while it waits for a lock.
pub fn refused(refusal: Refusal) -> Failure {
    let (status, text) = match refusal {
        Refusal::Draining => (TRY_LATER, "the server is about to stop"),
        Refusal::MaxWaiters => (TRY_LATER, "too many wait for the key already"),
        Refusal::MaxLocks => (TRY_LATER, "the server has too many keys already"),
        Refusal::LimitMismatch => (USAGE, "others use the key with another --limit"),
        Refusal::Auth => (
            NO_PERMISSION,
            "the server wants another token, see --token-file",
        ),
        Refusal::Deadlock => (
            DEADLOCK,
            "deadlock: those who hold the lock wait for what is held here",
        ),
        _ => (PROTOCOL, "the server refused the request"),
    };
    Failure::new(status, text)
}

pub fn described(error: Error) -> Failure {
    match error {
        Error::Refused(refusal) => refused(refusal),
        Error::Io(e) => Failure::new(UNAVAILABLE, e.to_string()),
        error => Failure::new(PROTOCOL, error.to_string()),
    }
}

fn duration(span: Us) -> Duration {
    Duration::from_micros(span)
}
