//! The server's configuration: command line and environment in, a `Config` out.
//!
//! One table, `OPTIONS`, has a row for each option. The parser, `--help` and the man page's tests all read it, so an
//! option cannot exist in one of them only. Not here: acting on the values; no
//! clock, no socket, and of files only what is in those with tokens (`secret.rs`), or in any that an option names
//! (`file.rs`).
//! Invariant: a `Config` from `parse` has every value in its range, and so has every default.

mod etcd;
mod exposure;
mod file;
mod given;
mod leases;
mod options;
mod secret;
mod settings;
mod state;
mod tls;
mod values;

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr};

use crate::command::Us;
use crate::wire::Face;
pub use etcd::Etcd;
use exposure::exposure;
pub use file::{File, content};
pub use given::face_of;
pub use leases::LONG_LEASE;
use options::{FOREIGN, REDIS};
pub use options::{Flag, Group, OPTIONS};
pub use secret::{Auth, NoSecret, Secrets, secret_in};
pub use settings::{Setting, Settings};
pub use state::State;
pub use tls::Tls;

/// How many unknown variables a warning names.
const NAMED_MAX: usize = 20;

/// The settings that the server runs with; every field is in its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address or host name to listen on.
    pub host: String,
    /// TCP port; with 0 the kernel chooses one.
    pub port: u16,
    /// The face for clients of distlockd.
    pub distlockd: Distlockd,
    /// The REST face.
    pub http: Http,
    /// Certificate and key, and which faces use them.
    pub tls: Tls,
    /// Lease of an acquire or a renewal that names none, in microseconds; at least a second.
    pub default_lease: Us,
    /// The longest lease that a client may have, in microseconds; at least a second.
    pub max_lease: Option<Us>,
    /// The files that outlive the process.
    pub state: State,
    /// The store that several servers share.
    pub etcd: Etcd,
    /// Whether a wait that could never end is refused.
    pub deadlock_detection: bool,
    /// How many keys may be held or waited for at once; at least 1.
    pub max_locks: usize,
    /// How many waiters one key may have; 0 sets no limit.
    pub max_waiters: u32,
    /// How many holds one connection may have; 0 sets no limit.
    pub max_holds: u32,
    /// How many subscriptions one connection may have; 0 sets no limit.
    pub max_subscriptions: u32,
    /// Bytes of signals that may wait for all connections together; 0 sets no limit.
    pub max_backlog: usize,
    /// How many connections may be open; 0 sets no limit.
    pub max_connections: u32,
    /// How many connections one address may have open; 0 sets no limit.
    pub max_connections_per_ip: u32,
    /// Where the secret comes from that clients must send first.
    pub auth: Auth,
    /// Where the secret comes from that an administrator may say.
    pub admin: Auth,
    /// How long an unused key is remembered, in microseconds; 0 forgets it at once.
    pub max_idle: Us,
    /// How long a client may leave answers unread, in microseconds; 0 sets no limit.
    pub write_timeout: Us,
    /// How long a client may take to send one line, in microseconds; at least a second.
    pub read_timeout: Us,
    /// Whether the end of a connection releases its holds.
    pub auto_release: bool,
    /// How long a drain may take, in microseconds; 0 sets no limit.
    pub shutdown_timeout: Us,
    /// Whether grants and ends of holds are logged.
    pub log_locks: bool,
    /// Whether events of level debug are logged.
    pub debug: bool,
    /// Whether the settings are only checked and printed.
    pub check: bool,
}

/// The face for clients of distlockd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distlockd {
    /// TCP port, with 0 one that the kernel chooses; without it there is no such face.
    pub port: Option<u16>,
    /// Address or host name to listen on; without it, `Config::host`.
    pub host: Option<String>,
    /// Lease of a lock, in microseconds; at least a second.
    pub lease: Us,
    /// Whether its clients, which cannot send a secret, are let in although the other clients must send one.
    pub no_auth: bool,
}

/// The REST face. Times are in microseconds, and at least a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// TCP port, with 0 one that the kernel chooses; without it there is no such face.
    pub port: Option<u16>,
    /// Address or host name to listen on; without it, `Config::host`.
    pub host: Option<String>,
    /// Lease of an acquire that names none; at most `max_timeout`.
    pub default_timeout: Us,
    /// The longest lease that a request may name.
    pub max_timeout: Us,
    /// How often the server renews a hold that asked for it.
    pub renewal_interval: Us,
    /// The longest wait that a request may name.
    pub max_wait: Us,
    /// Whether metrics are served without a secret.
    pub metrics_public: bool,
    /// Origins whose pages may use the face, as a browser sends them.
    pub origins: Vec<String>,
}

impl Config {
    /// Where the line protocol is, as clients write it.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The same, if it names one server and no other.
    pub fn place(&self) -> Option<String> {
        let is_any = matches!(self.host.parse::<IpAddr>(), Ok(address) if address.is_unspecified());
        (!is_any && self.port != 0).then(|| self.address())
    }

    /// Whether clients must send a secret.
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
            http: Http::default(),
            tls: Tls::default(),
            default_lease: 0,
            max_lease: None,
            state: State::default(),
            etcd: Etcd::default(),
            max_locks: 0,
            deadlock_detection: true,
            max_waiters: 0,
            max_holds: 0,
            max_subscriptions: 0,
            max_backlog: 0,
            max_connections: 0,
            max_connections_per_ip: 0,
            auth: Auth::default(),
            admin: Auth::default(),
            max_idle: 0,
            write_timeout: 0,
            read_timeout: 0,
            auto_release: false,
            shutdown_timeout: 0,
            log_locks: false,
            debug: false,
            check: false,
        };
        for option in OPTIONS.iter().filter(|option| !option.default.is_empty()) {
            (option.set)(&mut config, option.default).expect("a default is in its own range");
        }
        config
    }
}

/// The outcome of a valid command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Serve, or check if the configuration says so.
    Run {
        /// With these settings,
        config: Box<Config>,
        /// which are for people to see as these,
        settings: Settings,
        /// after logging these, each one line of text.
        warnings: Vec<String>,
    },
    /// Print `help()` to stdout and exit 0.
    Help,
    /// Print `version()` and a newline to stdout and exit 0.
    Version,
}

/// Reads the arguments (without the program's name) and the environment, `names` being all that is set there: a flag
/// beats the environment, the environment beats the default, the last of two equal flags wins. `given` are the sockets
/// that were handed over, which beat all of these.
///
/// An error is one line of text without newline that names the flag or variable, the bad value and
/// the values that are allowed. A bad value is an error even where another source overrides it.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
    names: impl IntoIterator<Item = OsString>,
    given: &[(Face, SocketAddr)],
) -> Result<Parsed, String> {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(answer) = args.iter().find_map(|arg| asks(arg)) {
        return Ok(answer);
    }
    let mut reading = Reading::new();
    let unknown = unknown(&env, names)?;
    let mut warnings = environment(&mut reading, &env)?;
    warnings.extend(unknown);
    // A file on the command line beats a token in the environment.
    let [auth, admin] = reading.secrets().map(std::mem::take);
    command_line(&mut reading, args)?;
    for (secret, in_environment) in reading.secrets().into_iter().zip([auth, admin]) {
        if *secret == Auth::default() {
            *secret = in_environment;
        }
    }
    given::credentials(&mut reading, &env)?;
    given::sockets(&mut reading.config, given);
    if reading.config.http.port.is_some() {
        bare_names(&mut reading, &env)?;
        warnings.extend(redis(&env));
    }
    reading.folders(&env)?;
    reading.check_leases()?;
    reading.check_tls()?;
    reading.check_etcd(!given.is_empty())?;
    reading.check_state()?;
    warnings.extend(reading.long_leases());
    warnings.extend(reading.plain_etcd());
    warnings.extend(reading.idle_ledger(&env));
    let Reading {
        config,
        mut settings,
    } = reading;
    settings.note_secrets(&config);
    warnings.extend(exposure(&config));
    if config.distlockd.port.is_some() && config.has_auth() && !config.distlockd.no_auth {
        return Err(
            "--distlockd-port: distlockd clients cannot send the auth token: --distlockd-no-auth lets them in without it"
                .to_string(),
        );
    }
    Ok(Parsed::Run {
        config: Box::new(config),
        settings,
        warnings,
    })
}

/// What `--help` prints.
pub fn help() -> String {
    let mut text = format!(
        "{}: named locks for scripts and services, over TCP\n\nUsage: dflockd [options]\n",
        version()
    );
    for group in Group::ALL {
        text += &format!("\n{}:\n", group.title());
        for option in OPTIONS.iter().filter(|option| option.group == *group) {
            text += &entry(option);
        }
    }
    text += "\nA flag overrides its environment variable, and that the default. Write a value\n\
             as --flag value or --flag=value, and a boolean as --flag, --flag=false or\n\
             --no-flag. A bad value stops the start. More is in the manual: man dflockd.\n";
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
    for other in option.env.iter().skip(1) {
        let word = if is_older(other) { "formerly" } else { "or" };
        text += &format!("      [{word} {other}]\n");
    }
    text
}

/// `--help` and `--version` are looked for before anything is checked, because they must work
/// whatever else is wrong, even behind an option that lacks its value.
fn asks(arg: &OsStr) -> Option<Parsed> {
    match arg.to_str()? {
        "--help" | "-h" => Some(Parsed::Help),
        "--version" | "-V" => Some(Parsed::Version),
        _ => None,
    }
}

/// Applies the environment, older names first, so that the current name wins. An empty variable counts
/// as unset. The bare names of the REST face come later: it must be known first whether there is to be one.
fn environment(
    reading: &mut Reading,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    for option in OPTIONS {
        let names = option.env.iter().enumerate().rev();
        for (age, name) in names.filter(|(_, name)| !is_bare_http(option, name)) {
            let Some(value) = env(name).filter(|value| !value.is_empty()) else {
                continue;
            };
            reading.apply(option, name, &value)?;
            if age > 0 && is_older(name) {
                let current = option.env[0];
                warnings.push(format!("{name} is an older name: use {current}"));
            }
        }
    }
    Ok(warnings)
}

/// Whether a name in the environment that is not the current one is an older one, of which the log warns. A name of
/// another kind of server is as good as ours.
fn is_older(name: &str) -> bool {
    name.starts_with("DFLOCKD_")
}

/// Whether it is a name of many meanings, such as `DEFAULT_TIMEOUT`, which counts only if there is a REST face.
fn is_bare_http(option: &Flag, name: &str) -> bool {
    option.group == Group::Http && !is_older(name)
}

/// Applies the bare names of the REST face where nothing else has set an option. A bad value is an error all the same.
fn bare_names(reading: &mut Reading, env: impl Fn(&str) -> Option<OsString>) -> Result<(), String> {
    for option in OPTIONS {
        for name in option.env.iter().filter(|name| is_bare_http(option, name)) {
            let Some(value) = env(name).filter(|value| !value.is_empty()) else {
                continue;
            };
            if reading.settings.is_default(option) {
                reading.apply(option, name, &value)?;
            } else {
                Reading::new().apply(option, name, &value)?;
            }
        }
    }
    Ok(())
}

/// The one warning about the place where another server keeps the locks that it gives out over HTTP.
fn redis(env: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let is_set = |name: &&str| env(name).is_some_and(|value| !value.is_empty());
    let names: Vec<&str> = REDIS.into_iter().filter(is_set).collect();
    (!names.is_empty()).then(|| {
        let names = names.join(", ");
        format!("ignored: {names}: dflockd keeps its locks itself and needs no Redis")
    })
}

/// The one warning about variables that look like ours and are none: a misspelt one would go unnoticed. Variables of
/// another make, by which its server would act, are errors, because somebody relies on them.
fn unknown(
    env: impl Fn(&str) -> Option<OsString>,
    names: impl IntoIterator<Item = OsString>,
) -> Result<Option<String>, String> {
    let known = |name: &str| OPTIONS.iter().any(|option| option.env.contains(&name));
    let mut unknown: Vec<String> = names
        .into_iter()
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with("DFLOCKD_") && !known(name))
        .filter(|name| env(name).is_none_or(|value| !value.is_empty()))
        .collect();
    unknown.sort_unstable();
    if let Some(name) = unknown.iter().find(|name| is_foreign(name)) {
        return Err(format!(
            "{name:?}: dflockd has no such setting, and does not start without what it asks for: unset it"
        ));
    }
    let more = unknown.len().saturating_sub(NAMED_MAX);
    unknown.truncate(NAMED_MAX);
    let mut text = unknown.join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    Ok((!text.is_empty()).then(|| format!("no such setting, ignored: {text}")))
}

/// Whether a server of another make would act by this variable.
fn is_foreign(name: &str) -> bool {
    FOREIGN
        .iter()
        .any(|foreign| match foreign.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == *foreign,
        })
}

fn command_line(reading: &mut Reading, args: Vec<OsString>) -> Result<(), String> {
    let mut parser = lexopt::Parser::from_args(args);
    loop {
        let name = match parser.next() {
            Ok(None) => return Ok(()),
            Ok(Some(lexopt::Arg::Long(name))) => name.to_string(),
            Ok(Some(lexopt::Arg::Short(letter))) => {
                return Err(format!(
                    "unknown option that begins with {:?}: options have two dashes",
                    format!("-{letter}")
                ));
            }
            Ok(Some(lexopt::Arg::Value(value))) => {
                let hint = match value.to_str().map(values::boolean) {
                    Some(Ok(_)) => ": write the value of a boolean after '=', as in --debug=false",
                    _ => ": dflockd takes only options",
                };
                return Err(format!("unexpected argument {value:?}{hint}"));
            }
            // A value left over by an option; each one below takes its own, so this does not come.
            Err(error) => return Err(format!("{:?}", error.to_string())),
        };
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
        reading.apply(option, &flag, &value)?;
    }
}

/// The option with this name, and whether the name is its `--no-` form.
fn find(name: &str) -> Option<(&'static Flag, bool)> {
    if let Some(option) = OPTIONS.iter().find(|option| option.name == name) {
        return Some((option, false));
    }
    let name = name.strip_prefix("no-")?;
    let option = OPTIONS.iter().find(|option| option.name == name)?;
    let is_switch = option.value.is_empty() && !option.default.is_empty();
    is_switch.then_some((option, true))
}

/// A configuration that is being read.
struct Reading {
    config: Config,
    settings: Settings,
}

impl Reading {
    fn new() -> Reading {
        Reading {
            config: Config::default(),
            settings: Settings::new(),
        }
    }

    /// The auth token and the admin token.
    fn secrets(&mut self) -> [&mut Auth; 2] {
        [&mut self.config.auth, &mut self.config.admin]
    }

    /// The file of an option that is to know what has named it.
    fn file(&mut self, option: &str) -> Option<&mut File> {
        let Config { tls, etcd, .. } = &mut self.config;
        let file = match option {
            "tls-cert" => &mut tls.cert,
            "tls-key" => &mut tls.key,
            "tls-client-ca" => &mut tls.client_ca,
            "etcd-password-file" => &mut etcd.password,
            "etcd-ca" => &mut etcd.ca,
            "etcd-cert" => &mut etcd.cert,
            "etcd-key" => &mut etcd.key,
            _ => return None,
        };
        file.as_mut()
    }

    /// Hands a value to its option; `source` is the flag or variable that an error names. The value is
    /// shown as Rust's Debug shows it, which keeps any bytes on one line.
    fn apply(&mut self, option: &Flag, source: &str, value: &OsStr) -> Result<(), String> {
        if !Group::ALL.contains(&option.group) {
            return Err(format!(
                "{source}: this build has no {}",
                option.group.title()
            ));
        }
        let set = |text| (option.set)(&mut self.config, text).map(|()| text);
        let why = match value.to_str().map(set) {
            Some(Ok(text)) => {
                match option.name {
                    "auth-token-file" => self.config.auth.file_from = source.to_string(),
                    "admin-token-file" => self.config.admin.file_from = source.to_string(),
                    _ => {}
                }
                if let Some(file) = self.file(option.name) {
                    file.from = source.to_string();
                }
                self.settings.note(option, text, source);
                return Ok(());
            }
            Some(Err(why)) => why,
            None => "want valid UTF-8".to_string(),
        };
        if option.value == "TOKEN" {
            // Probably a secret with a typing mistake: it must not reach a log.
            return Err(format!("{source}: bad value: {why}"));
        }
        Err(format!("{source}: bad value {value:?}: {why}"))
    }
}

#[cfg(test)]
mod tests;
