//! How the server is told what to do: one table, `OPTIONS`, a row for each option.
//!
//! The parser, `--help`, the man page's test and the README's test all read the table, so an option
//! exists in one place or nowhere. Not here: acting on any of it; no clock, no file, no socket.
//! Invariant: a `Config` from `parse` has every value in its range, and so has every default.

mod options;

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;

use crate::command::Us;
use options::PLANNED;
pub use options::{Flag, Group, OPTIONS, secret};

/// What the server runs with; every field is in range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address or host name to listen on.
    pub host: String,
    /// TCP port; 0 lets the kernel choose.
    pub port: u16,
    /// The face for clients of distlockd, if there is one.
    pub distlockd: Distlockd,
    /// Lease of an acquire or a renewal that names none, in microseconds; at least a second.
    pub default_lease: Us,
    /// Whether a wait that would never end is refused.
    pub deadlock_detection: bool,
    /// How many keys may be held or waited for at once; at least 1.
    pub max_locks: usize,
    /// How many may queue for one key; 0 is any number.
    pub max_waiters: u32,
    /// How many patterns one connection may listen to; 0 is any number.
    pub max_subscriptions: u32,
    /// How many connections there may be; 0 is any number.
    pub max_connections: u32,
    /// How many there may be from one address; 0 is any number.
    pub max_connections_per_ip: u32,
    /// What clients have to say first, if anything.
    pub auth: Auth,
    /// How long a key that nobody uses is remembered, in microseconds; 0 is not at all.
    pub max_idle: Us,
    /// How long a client may read nothing, in microseconds; 0 is for ever.
    pub write_timeout: Us,
    /// How long a client may take for one line, in microseconds; at least a second.
    pub read_timeout: Us,
    /// Whether the end of a connection releases what it holds.
    pub auto_release: bool,
    /// How long a drain may take, in microseconds; 0 is for ever.
    pub shutdown_timeout: Us,
    /// Whether events of level debug are logged.
    pub debug: bool,
}

/// The face for clients of distlockd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distlockd {
    /// TCP port; 0 is none at all.
    pub port: u16,
    /// Address or host name to listen on, if not that of the others.
    pub host: Option<String>,
    /// How long a lock lasts that is not acquired again, in microseconds; at least a second.
    pub lease: Us,
    /// Whether it is there though its clients cannot say the secret that the others have to.
    pub no_auth: bool,
}

/// Where the secret of the clients comes from: the token if there is one, else the file, else there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// The secret itself.
    pub token: Option<Vec<u8>>,
    /// The path of a file that has it.
    pub file: Option<String>,
}

impl Config {
    /// Whether clients have to say a secret.
    pub fn has_auth(&self) -> bool {
        self.auth != Auth::default()
    }
}

impl Default for Config {
    /// The defaults, as the table spells them.
    fn default() -> Config {
        let mut config = Config {
            host: String::new(),
            port: 0,
            distlockd: Distlockd::default(),
            default_lease: 0,
            max_locks: 0,
            deadlock_detection: true,
            max_waiters: 0,
            max_subscriptions: 0,
            max_connections: 0,
            max_connections_per_ip: 0,
            auth: Auth::default(),
            max_idle: 0,
            write_timeout: 0,
            read_timeout: 0,
            auto_release: false,
            shutdown_timeout: 0,
            debug: false,
        };
        for option in OPTIONS.iter().filter(|option| !option.default.is_empty()) {
            (option.set)(&mut config, option.default).expect("a default is in its own range");
        }
        config
    }
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Serve.
    Run {
        /// With these settings,
        config: Box<Config>,
        /// after logging these, each one line of text.
        warnings: Vec<String>,
    },
    /// Print `help()` to stdout and exit 0.
    Help,
    /// Print `version()` and a newline to stdout and exit 0.
    Version,
}

/// Reads the arguments (without the program's name) and the environment: a flag beats the
/// environment, the environment beats the default, the last of two equal flags wins.
///
/// An error is one line of text without newline that names the flag or variable, the bad value and
/// what is allowed; a value that something else overrides is judged like any other.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Parsed, String> {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(answer) = args.iter().find_map(|arg| asks(arg)) {
        return Ok(answer);
    }
    let mut config = Config::default();
    let mut warnings = environment(&mut config, env)?;
    // A file on the command line beats a token in the environment.
    let from_environment = std::mem::take(&mut config.auth);
    command_line(&mut config, args)?;
    if !config.has_auth() {
        config.auth = from_environment;
    }
    warnings.extend(exposure(&config));
    if config.distlockd.port > 0 && config.has_auth() && !config.distlockd.no_auth {
        return Err(
            "--distlockd-port: its clients cannot say the auth token; --distlockd-no-auth lets them in without"
                .to_string(),
        );
    }
    let config = Box::new(config);
    Ok(Parsed::Run { config, warnings })
}

/// What `--help` prints.
pub fn help() -> String {
    let mut text = format!(
        "{}: named locks for scripts and services, over TCP\n\nUsage: dflockd [options]\n",
        version()
    );
    for group in Group::ALL {
        text += &format!("\n{}:\n", group.title());
        for option in OPTIONS.iter().filter(|option| option.group == group) {
            text += &entry(option);
        }
    }
    text += "\nA flag beats the environment, and the environment the default. Values follow\n\
             as --flag value or --flag=value; booleans are --flag, --flag=false or --no-flag.\n";
    text
}

/// What `--version` prints, without the newline.
pub fn version() -> &'static str {
    concat!("dflockd ", env!("CARGO_PKG_VERSION"))
}

fn entry(option: &Flag) -> String {
    let mut text = format!("  --{}", option.name);
    if !option.value.is_empty() {
        text += &format!(" {}", option.value);
    }
    text.push('\n');
    for line in option.help.lines() {
        text += &format!("      {line}\n");
    }
    if let Some(current) = option.env.first() {
        let default = if option.default.is_empty() {
            "none"
        } else {
            option.default
        };
        text += &format!("      [default {default}] [{current}]\n");
    }
    for older in option.env.iter().skip(1) {
        text += &format!("      [formerly {older}]\n");
    }
    text
}

/// `--help` and `--version` are looked for before anything is judged, because they must work
/// whatever else is wrong; that includes an option in front of them that lacks its value.
fn asks(arg: &OsStr) -> Option<Parsed> {
    match arg.to_str()? {
        "--help" | "-h" => Some(Parsed::Help),
        "--version" | "-V" => Some(Parsed::Version),
        _ => None,
    }
}

/// Applies the environment, older names first so that the current one has the last word. An empty
/// variable is an unset one.
fn environment(
    config: &mut Config,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    for name in PLANNED.iter().flat_map(|planned| planned.1) {
        if env(name).is_some_and(|value| !value.is_empty()) {
            return Err(format!("{name}: not in this version"));
        }
    }
    for option in OPTIONS {
        for (age, name) in option.env.iter().enumerate().rev() {
            let Some(value) = env(name).filter(|value| !value.is_empty()) else {
                continue;
            };
            apply(config, option, name, &value)?;
            if age > 0 {
                let current = option.env[0];
                warnings.push(format!("{name} is an older name: use {current}"));
            }
        }
    }
    Ok(warnings)
}

fn command_line(config: &mut Config, args: Vec<OsString>) -> Result<(), String> {
    let mut parser = lexopt::Parser::from_args(args);
    loop {
        let name = match parser.next() {
            Ok(None) => return Ok(()),
            Ok(Some(lexopt::Arg::Long(name))) => name.to_string(),
            Ok(Some(lexopt::Arg::Short(letter))) => {
                return Err(format!(
                    "unknown option starting with {:?}: options take two dashes",
                    format!("-{letter}")
                ));
            }
            Ok(Some(lexopt::Arg::Value(value))) => {
                let hint = match value.to_str().map(options::boolean) {
                    Some(Ok(_)) => {
                        ": the value of a boolean follows after '=', as in --debug=false"
                    }
                    _ => "",
                };
                return Err(format!("unexpected argument {value:?}{hint}"));
            }
            // A value nobody asked for; each option below takes its own, so none is left over.
            Err(error) => return Err(format!("{:?}", error.to_string())),
        };
        let plain = name.strip_prefix("no-").unwrap_or(&name);
        if PLANNED.iter().any(|planned| planned.0 == plain) {
            return Err(format!("--{name}: not in this version"));
        }
        let (option, negated) =
            find(&name).ok_or_else(|| format!("unknown option {:?}", format!("--{name}")))?;
        let flag = format!("--{name}");
        let value = if option.value.is_empty() {
            match (parser.optional_value(), negated) {
                (Some(_), true) => return Err(format!("{flag} takes no value")),
                (Some(value), false) => value,
                (None, true) => "false".into(),
                (None, false) => "true".into(),
            }
        } else {
            parser
                .value()
                .map_err(|_| format!("{flag} needs a value: {}", option.value))?
        };
        apply(config, option, &flag, &value)?;
    }
}

/// The option of that name, and whether the name is its `--no-` form.
fn find(name: &str) -> Option<(&'static Flag, bool)> {
    if let Some(option) = OPTIONS.iter().find(|option| option.name == name) {
        return Some((option, false));
    }
    let name = name.strip_prefix("no-")?;
    let option = OPTIONS.iter().find(|option| option.name == name)?;
    let is_switch = option.value.is_empty() && !option.default.is_empty();
    is_switch.then_some((option, true))
}

/// Hands a value to its option; `source` is the flag or variable an error has to name. The value is
/// shown as Rust's Debug shows it, which keeps any bytes on one line.
fn apply(config: &mut Config, option: &Flag, source: &str, value: &OsStr) -> Result<(), String> {
    let allowed = match value.to_str() {
        Some(text) => match (option.set)(config, text) {
            Ok(()) => return Ok(()),
            Err(allowed) => allowed,
        },
        None => "valid UTF-8".to_string(),
    };
    if option.value == "TOKEN" {
        // Nearly a secret.
        return Err(format!("{source}: bad value: want {allowed}"));
    }
    Err(format!("{source}: bad value {value:?}: want {allowed}"))
}

/// What is open to everybody who reaches an address that others can reach.
fn exposure(config: &Config) -> Option<String> {
    let distlockd = Some(&config.distlockd).filter(|face| face.port > 0);
    let other = distlockd.map(|face| face.host.as_ref().unwrap_or(&config.host));
    let host = [Some(&config.host), other]
        .into_iter()
        .flatten()
        .find(|host| !is_loopback(host))?;
    let mut open = Vec::new();
    if !config.has_auth() {
        open.push("no --auth-token-file: whoever reaches the port can take any lock".to_string());
    } else if other.is_some_and(|host| !is_loopback(host)) {
        open.push("--distlockd-no-auth: whoever reaches that port can take any lock".to_string());
    }
    let limits = [
        ("--max-connections", config.max_connections),
        ("--max-connections-per-ip", config.max_connections_per_ip),
        ("--max-waiters", config.max_waiters),
        ("--max-subscriptions", config.max_subscriptions),
    ];
    let unlimited: Vec<&str> = limits
        .iter()
        .filter(|limit| limit.1 == 0)
        .map(|limit| limit.0)
        .collect();
    if !unlimited.is_empty() {
        open.push(format!("unlimited: {}", unlimited.join(", ")));
    }
    let open = (!open.is_empty()).then(|| open.join("; "))?;
    Some(format!("host {host} is not a loopback address; {open}"))
}

/// Names are not resolved here, so only the one that always means loopback counts as such.
fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests;
