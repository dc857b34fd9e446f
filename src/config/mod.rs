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
    /// Lease of an acquire or a renewal that names none, in microseconds; at least a second.
    pub default_lease: Us,
    /// How many keys may be held or waited for at once; at least 1.
    pub max_locks: usize,
    /// How many may queue for one key; 0 is any number.
    pub max_waiters: u32,
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
            default_lease: 0,
            max_locks: 0,
            max_waiters: 0,
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
        config: Config,
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
            return Err(format!("{name}: not in this build"));
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
            return Err(format!("--{name}: not in this build"));
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
    if is_loopback(&config.host) {
        return None;
    }
    let mut open = Vec::new();
    if !config.has_auth() {
        open.push("no --auth-token-file: whoever reaches the port can take any lock".to_string());
    }
    let limits = [
        ("--max-connections", config.max_connections),
        ("--max-connections-per-ip", config.max_connections_per_ip),
        ("--max-waiters", config.max_waiters),
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
    Some(format!(
        "host {} is not a loopback address; {open}",
        config.host
    ))
}

/// Names are not resolved here, so only the one that always means loopback counts as such.
fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::command::SECOND;

    fn parse_with(args: &[&str], env: &[(&str, &str)]) -> Result<Parsed, String> {
        parse(args.iter().map(OsString::from), |name| {
            let (_, value) = env.iter().find(|(known, _)| *known == name)?;
            Some(value.into())
        })
    }

    fn run(args: &[&str], env: &[(&str, &str)]) -> (Config, Vec<String>) {
        match parse_with(args, env) {
            Ok(Parsed::Run { config, warnings }) => (config, warnings),
            other => panic!("{args:?} {env:?} gave {other:?}"),
        }
    }

    fn refusal(args: &[&str], env: &[(&str, &str)]) -> String {
        let error = parse_with(args, env).expect_err("should be refused");
        assert!(!error.contains(char::is_control), "{error:?}");
        error
    }

    /// Values that each option must refuse.
    fn bad_values(option: &Flag) -> &'static [&'static str] {
        match option.name {
            "host" => &[" ", "a b", "a\nb", "\u{7f}"],
            "port" => &["-1", "65536", "x", " 1", "1 ", "0x10", "1.0", "+", "-", "٣"],
            "max-locks" => &["0", "-1", "1000000001", "99999999999999999999", "1e3"],
            "shutdown-timeout" | "write-timeout" | "gc-max-idle" => {
                &["-1", "9223372037", "1s", "1_000", "99999999999999999999"]
            }
            _ if option.value == "COUNT" => &["-1", "1000000001", "x", "1.0"],
            _ if option.value == "SECONDS" => &["0", "-5", "9223372037", "5s", "5 ", "--5"],
            _ => &["2", "y", "truee", " true", "-1", "enable"],
        }
    }

    fn settable() -> impl Iterator<Item = &'static Flag> {
        OPTIONS.iter().filter(|option| !option.default.is_empty())
    }

    #[test]
    fn nothing_said_gives_the_documented_defaults() {
        let (config, warnings) = run(&[], &[]);
        assert_eq!(
            config,
            Config {
                host: "127.0.0.1".to_string(),
                port: 6388,
                default_lease: 33 * SECOND,
                max_locks: 1024,
                max_waiters: 0,
                max_connections: 0,
                max_connections_per_ip: 0,
                auth: Auth::default(),
                max_idle: 60 * SECOND,
                write_timeout: 5 * SECOND,
                read_timeout: 23 * SECOND,
                auto_release: true,
                shutdown_timeout: 30 * SECOND,
                debug: false,
            }
        );
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn a_bad_flag_value_is_an_error_that_names_flag_value_and_range() {
        for option in settable() {
            let allowed = (option.set)(&mut Config::default(), "\n").unwrap_err();
            for bad in bad_values(option).iter().chain(&[""]) {
                let error = refusal(&[&format!("--{}={bad}", option.name)], &[]);
                let wanted = format!("--{}: bad value {bad:?}: want {allowed}", option.name);
                assert_eq!(error, wanted);
                if !option.value.is_empty() {
                    assert_eq!(refusal(&[&format!("--{}", option.name), bad], &[]), wanted);
                }
            }
        }
    }

    #[test]
    fn a_bad_variable_is_an_error_even_where_a_flag_overrides_it() {
        for option in settable() {
            let good = format!("--{}={}", option.name, option.default);
            for name in option.env {
                for bad in bad_values(option) {
                    let error = refusal(&[], &[(name, bad)]);
                    assert!(error.starts_with(&format!("{name}: bad value {bad:?}: want ")));
                    assert_eq!(refusal(&[&good], &[(name, bad)]), error);
                }
            }
        }
    }

    #[test]
    fn a_bad_older_variable_is_an_error_even_where_the_current_one_overrides_it() {
        let env = [
            ("DFLOCKD_READ_TIMEOUT_S", "7"),
            ("DFLOCKD_DFLOCKD_READ_TIMEOUT_S", "soon"),
        ];
        assert!(refusal(&[], &env).starts_with("DFLOCKD_DFLOCKD_READ_TIMEOUT_S: "));
    }

    #[test]
    fn a_value_that_is_not_utf8_is_an_error() {
        let raw = OsString::from_vec(b"\xff\n".to_vec());
        for option in settable() {
            let mut flag = OsString::from(format!("--{}=", option.name));
            flag.push(&raw);
            let error = parse([flag], |_| None).unwrap_err();
            assert_eq!(
                error,
                format!(r#"--{}: bad value "\xFF\n": want valid UTF-8"#, option.name)
            );
            for name in option.env {
                let error = parse([], |asked| (asked == *name).then(|| raw.clone())).unwrap_err();
                assert!(error.starts_with(&format!(r#"{name}: bad value "\xFF\n""#)));
            }
        }
        assert!(parse([raw], |_| None).is_err());
        assert!(parse([OsString::from_vec(b"--\xff".to_vec())], |_| None).is_err());
    }

    #[test]
    fn a_flag_beats_the_environment_and_the_environment_the_default() {
        let env = [("DFLOCKD_PORT", "1"), ("DFLOCKD_MAX_LOCKS", "2")];
        let (config, _) = run(&["--port", "3"], &env);
        assert_eq!((config.port, config.max_locks), (3, 2));
        assert_eq!(config.read_timeout, 23 * SECOND);
        let (config, _) = run(&["--no-debug"], &[("DFLOCKD_DEBUG", "1")]);
        assert!(!config.debug);
    }

    #[test]
    fn each_variable_reaches_its_setting() {
        let (config, warnings) = run(
            &[],
            &[
                ("DFLOCKD_HOST", "::1"),
                ("DFLOCKD_PORT", "0"),
                ("DFLOCKD_DEFAULT_LEASE_TTL_S", "9223372036"),
                ("DFLOCKD_MAX_LOCKS", "1000000000"),
                ("DFLOCKD_MAX_WAITERS", "3"),
                ("DFLOCKD_MAX_CONNECTIONS", "4"),
                ("DFLOCKD_MAX_CONNECTIONS_PER_IP", "5"),
                ("DFLOCKD_MAX_SUBSCRIPTIONS", "6"),
                ("DFLOCKD_AUTH_TOKEN", " said\n"),
                ("DFLOCKD_AUTH_TOKEN_FILE", "read"),
                ("DFLOCKD_GC_MAX_IDLE_S", "0"),
                ("DFLOCKD_WRITE_TIMEOUT_S", "0"),
                ("DFLOCKD_READ_TIMEOUT_S", "+007"),
                ("DFLOCKD_AUTO_RELEASE_ON_DISCONNECT", "off"),
                ("DFLOCKD_SHUTDOWN_TIMEOUT_S", "-0"),
                ("DFLOCKD_DEBUG", "YES"),
                ("DFLOCKD_LEASE_SWEEP_INTERVAL_S", "9"),
                ("DFLOCKD_GC_INTERVAL_S", "9"),
            ],
        );
        assert_eq!(
            config,
            Config {
                host: "::1".to_string(),
                port: 0,
                default_lease: 9_223_372_036 * SECOND,
                max_locks: 1_000_000_000,
                max_waiters: 3,
                max_connections: 4,
                max_connections_per_ip: 5,
                auth: Auth {
                    token: Some(b"said".to_vec()),
                    file: Some("read".to_string())
                },
                max_idle: 0,
                write_timeout: 0,
                read_timeout: 7 * SECOND,
                auto_release: false,
                shutdown_timeout: 0,
                debug: true,
            }
        );
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn both_spellings_of_a_value_mean_the_same_and_the_last_wins() {
        assert_eq!(run(&["--port", "7"], &[]), run(&["--port=7"], &[]));
        assert_eq!(run(&["--port", "1", "--port=2"], &[]).0.port, 2);
        assert!(!run(&["--debug", "--no-debug"], &[]).0.debug);
        assert!(run(&["--debug=off", "--debug"], &[]).0.debug);
    }

    #[test]
    fn integers_may_carry_a_sign_and_leading_zeros() {
        for text in ["5", "+5", "0005", "+005", &format!("{}5", "0".repeat(100))] {
            assert_eq!(run(&["--port", text], &[]).0.port, 5, "{text}");
        }
        assert_eq!(run(&["--port", "-0"], &[]).0.port, 0);
    }

    #[test]
    fn booleans_know_every_spelling() {
        for yes in ["1", "yes", "true", "on", "YES", "True", "oN"] {
            assert!(run(&[&format!("--debug={yes}")], &[]).0.debug, "{yes}");
            assert!(run(&[], &[("DFLOCKD_DEBUG", yes)]).0.debug, "{yes}");
        }
        for no in ["0", "no", "false", "off", "NO", "False", "oFF"] {
            let flag = format!("--auto-release-on-disconnect={no}");
            assert!(!run(&[&flag], &[]).0.auto_release, "{no}");
            let env = [("DFLOCKD_AUTO_RELEASE_ON_DISCONNECT", no)];
            assert!(!run(&[], &env).0.auto_release, "{no}");
            assert!(run(&["--auto-release-on-disconnect"], &env).0.auto_release);
        }
        assert!(
            !run(&["--no-auto-release-on-disconnect"], &[])
                .0
                .auto_release
        );
        assert!(run(&["--debug"], &[]).0.debug);
    }

    #[test]
    fn a_boolean_does_not_swallow_the_next_word() {
        assert!(refusal(&["--debug", "false"], &[]).contains(r#"argument "false""#));
    }

    #[test]
    fn the_negated_form_belongs_to_booleans_and_takes_no_value() {
        assert_eq!(
            refusal(&["--no-debug=yes"], &[]),
            "--no-debug takes no value"
        );
        for flag in ["--no-port", "--no-help", "--no-version", "--no-no-debug"] {
            assert!(
                refusal(&[flag], &[]).starts_with("unknown option"),
                "{flag}"
            );
        }
    }

    #[test]
    fn stray_arguments_and_unknown_options_are_errors() {
        for args in [
            &["serve"][..],
            &["--", "serve"],
            &["--port", "1", "2"],
            &["-p", "1"],
            &["-host", "::1"],
            &["-"],
            &[""],
            &["--max-waiter", "1"],
            &["--Port", "1"],
            &["--por", "1"],
            &["--a\nb=c"],
            &["--help=1"],
            &["--version="],
        ] {
            refusal(args, &[]);
        }
        assert_eq!(refusal(&["--port"], &[]), "--port needs a value: PORT");
    }

    #[test]
    fn help_and_version_win_whatever_else_is_wrong() {
        let env = [("DFLOCKD_PORT", "x")];
        for before in [
            &[][..],
            &["--port", "x"],
            &["--nonsense"],
            &["stray"],
            &["--port"],
        ] {
            for (word, wanted) in [
                ("--help", Parsed::Help),
                ("-h", Parsed::Help),
                ("--version", Parsed::Version),
                ("-V", Parsed::Version),
            ] {
                let args = [before, &[word], &["--more", "wrong"]].concat();
                assert_eq!(parse_with(&args, &env), Ok(wanted), "{args:?}");
            }
        }
    }

    #[test]
    fn an_empty_variable_is_an_unset_one() {
        for option in OPTIONS {
            for name in option.env {
                assert_eq!(run(&[], &[(name, "")]), run(&[], &[]));
            }
        }
    }

    #[test]
    fn an_older_variable_counts_warns_once_and_yields_to_the_current_one() {
        let old = ("DFLOCKD_DFLOCKD_READ_TIMEOUT_S", "8");
        let warning = "DFLOCKD_DFLOCKD_READ_TIMEOUT_S is an older name: use DFLOCKD_READ_TIMEOUT_S";
        let (config, warnings) = run(&[], &[old]);
        assert_eq!(config.read_timeout, 8 * SECOND);
        assert_eq!(warnings, [warning]);
        let (config, warnings) = run(&[], &[old, ("DFLOCKD_READ_TIMEOUT_S", "9")]);
        assert_eq!(config.read_timeout, 9 * SECOND);
        assert_eq!(warnings, [warning]);
        let (_, warnings) = run(&[], &[("DFLOCKD_GC_LOOP_SLEEP", "3")]);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn only_a_host_beyond_loopback_is_warned_of() {
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "localhost",
            "LocalHost",
            "::ffff:127.0.0.1",
        ] {
            assert_eq!(run(&["--host", host], &[]).1, [""; 0], "{host}");
        }
        for host in [
            "0.0.0.0",
            "::",
            "192.0.2.7",
            "db.example",
            "localhost.example",
        ] {
            let (config, warnings) = run(&["--host", host], &[]);
            assert_eq!(config.host, host);
            assert_eq!(warnings.len(), 1, "{host}");
            assert!(warnings[0].contains(host));
        }
    }

    #[test]
    fn a_secret_comes_from_flag_flag_file_variable_or_variable_file_in_this_order() {
        let token = |config: &Config| {
            config
                .auth
                .token
                .clone()
                .map(|t| String::from_utf8(t).unwrap())
        };
        let env = [
            ("DFLOCKD_AUTH_TOKEN", "env"),
            ("DFLOCKD_AUTH_TOKEN_FILE", "env-file"),
        ];
        let (config, _) = run(&["--auth-token-file=f", "--auth-token", " t "], &env);
        assert_eq!(token(&config).as_deref(), Some("t"));
        let (config, _) = run(&["--auth-token-file=f"], &env);
        assert_eq!(
            (token(&config), config.auth.file.as_deref()),
            (None, Some("f"))
        );
        let (config, _) = run(&[], &env);
        assert_eq!(token(&config).as_deref(), Some("env"));
        let (config, _) = run(&[], &env[1..]);
        assert_eq!(
            (token(&config), config.auth.file.as_deref()),
            (None, Some("env-file"))
        );
        assert!(!run(&[], &[]).0.has_auth());
    }

    #[test]
    fn an_empty_or_impossible_secret_is_an_error_that_does_not_show_it() {
        let long = "x".repeat(65_537);
        for bad in ["", "  ", "two\nlines", &long] {
            let error = refusal(&["--auth-token", bad], &[]);
            assert_eq!(
                error,
                "--auth-token: bad value: want 1 to 65536 bytes on one line"
            );
        }
        assert!(refusal(&[], &[("DFLOCKD_AUTH_TOKEN", " ")]).starts_with("DFLOCKD_AUTH_TOKEN: "));
        assert!(refusal(&["--auth-token-file", ""], &[]).starts_with("--auth-token-file: "));
    }

    #[test]
    fn options_of_later_builds_are_refused_by_name() {
        for flag in [
            "--tls-cert",
            "--tls-key=x",
            "--deadlock-detection",
            "--no-deadlock-detection",
        ] {
            let name = flag.split('=').next().unwrap();
            assert_eq!(refusal(&[flag], &[]), format!("{name}: not in this build"));
        }
        for name in ["DFLOCKD_TLS_CERT", "DFLOCKD_TLS_KEY", "DEADLOCK_DETECTION"] {
            assert_eq!(
                refusal(&[], &[(name, "1")]),
                format!("{name}: not in this build")
            );
        }
    }

    #[test]
    fn options_without_effect_change_nothing() {
        let args = ["--gc-interval", "60", "--lease-sweep-interval=60"];
        assert_eq!(run(&args, &[]), run(&[], &[]));
    }

    #[test]
    fn help_lists_each_option_with_its_names_and_default() {
        let text = help();
        assert!(text.starts_with(version()));
        for option in OPTIONS {
            assert!(text.contains(&format!("  --{}", option.name)));
            assert!(option.env.iter().all(|name| text.contains(name)));
            assert!(
                text.contains(&format!("[default {}]", option.default))
                    || option.default.is_empty()
            );
        }
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn names_are_unique() {
        let flags = OPTIONS.iter().map(|option| option.name);
        let env = OPTIONS.iter().flat_map(|option| option.env.iter().copied());
        let mut names: Vec<&str> = flags.chain(env).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
