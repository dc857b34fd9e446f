//! Tests of the options: every flag and variable, good and bad, and which of them wins.

#[cfg(not(all(feature = "etcd", feature = "http")))]
mod absent;
#[cfg(feature = "etcd")]
mod etcd;
mod given;
#[cfg(feature = "http")]
mod http;
mod state;
#[cfg(feature = "tls")]
mod tls;
mod values;

use std::os::unix::ffi::OsStringExt;

use super::*;
use crate::command::SECOND;
use values::listed;

pub(super) fn parse_with(args: &[&str], env: &[(&str, &str)]) -> Result<Parsed, String> {
    let value = |name: &str| {
        let (_, value) = env.iter().find(|(known, _)| *known == name)?;
        Some(value.into())
    };
    let names = env.iter().map(|(name, _)| name.into());
    parse(args.iter().map(OsString::from), value, names, &[])
}

pub(super) fn run(args: &[&str], env: &[(&str, &str)]) -> (Config, Vec<String>) {
    match parse_with(args, env) {
        Ok(Parsed::Run {
            config, warnings, ..
        }) => (*config, warnings),
        other => panic!("{args:?} {env:?} gave {other:?}"),
    }
}

pub(super) fn refusal(args: &[&str], env: &[(&str, &str)]) -> String {
    let error = parse_with(args, env).expect_err("should be refused");
    assert!(!error.contains(char::is_control), "{error:?}");
    error
}

#[test]
fn nothing_said_gives_the_documented_defaults() {
    let (config, warnings) = run(&[], &[]);
    assert_eq!(
        config,
        Config {
            host: "127.0.0.1".to_string(),
            port: 6388,
            distlockd: Distlockd {
                lease: 10 * SECOND,
                ..Distlockd::default()
            },
            http: Http {
                default_timeout: 30 * SECOND,
                max_timeout: 300 * SECOND,
                renewal_interval: 5 * SECOND,
                max_wait: 300 * SECOND,
                ..Http::default()
            },
            tls: Tls {
                http: true,
                ..Tls::default()
            },
            default_lease: 33 * SECOND,
            max_lease: None,
            state: State::default(),
            etcd: Etcd {
                prefix: "/dflockd".to_string(),
                failover_after: 5 * SECOND,
                compact: true,
                ..Etcd::default()
            },
            max_locks: 1024,
            deadlock_detection: true,
            max_waiters: 0,
            max_holds: 0,
            max_subscriptions: 0,
            max_backlog: 64 * 1024 * 1024,
            max_connections: 0,
            max_connections_per_ip: 0,
            auth: Auth::default(),
            admin: Auth::default(),
            max_idle: 60 * SECOND,
            write_timeout: 5 * SECOND,
            read_timeout: 23 * SECOND,
            auto_release: true,
            shutdown_timeout: 30 * SECOND,
            log_locks: false,
            debug: false,
            check: false,
        }
    );
    assert_eq!(warnings, [""; 0]);
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
            ("DFLOCKD_DISTLOCKD_PORT", "8"),
            ("DFLOCKD_DISTLOCKD_HOST", "127.0.0.2"),
            ("DFLOCKD_DISTLOCKD_LEASE_S", "9"),
            ("DFLOCKD_DISTLOCKD_NO_AUTH", "1"),
            ("DFLOCKD_DEFAULT_LEASE_TTL_S", "9223372036"),
            ("DFLOCKD_MAX_LOCKS", "1000000000"),
            ("DFLOCKD_DEADLOCK_DETECTION", "No"),
            ("DFLOCKD_MAX_WAITERS", "3"),
            ("DFLOCKD_MAX_CONNECTIONS", "4"),
            ("DFLOCKD_MAX_CONNECTIONS_PER_IP", "5"),
            ("DFLOCKD_MAX_SUBSCRIPTIONS", "6"),
            ("DFLOCKD_MAX_BACKLOG_BYTES", "1000000000000"),
            ("DFLOCKD_AUTH_TOKEN", " said\n"),
            ("DFLOCKD_AUTH_TOKEN_FILE", "read"),
            ("DFLOCKD_ADMIN_TOKEN", "boss"),
            ("DFLOCKD_ADMIN_TOKEN_FILE", "bosses"),
            ("DFLOCKD_LOG_LOCKS", "on"),
            ("DFLOCKD_GC_MAX_IDLE_S", "0"),
            ("DFLOCKD_WRITE_TIMEOUT_S", "0"),
            ("DFLOCKD_READ_TIMEOUT_S", "+007"),
            ("DFLOCKD_AUTO_RELEASE_ON_DISCONNECT", "off"),
            ("DFLOCKD_SHUTDOWN_TIMEOUT_S", "-0"),
            ("DFLOCKD_DEBUG", "YES"),
            ("DFLOCKD_LEASE_SWEEP_INTERVAL_S", "9"),
            ("DFLOCKD_GC_INTERVAL_S", "9"),
            ("DFLOCKD_MAX_HOLDS", "10"),
        ],
    );
    assert_eq!(
        config,
        Config {
            host: "::1".to_string(),
            port: 0,
            distlockd: Distlockd {
                port: Some(8),
                host: Some("127.0.0.2".to_string()),
                lease: 9 * SECOND,
                no_auth: true,
            },
            http: Config::default().http,
            tls: Config::default().tls,
            default_lease: 9_223_372_036 * SECOND,
            max_lease: None,
            state: State::default(),
            etcd: Config::default().etcd,
            max_locks: 1_000_000_000,
            deadlock_detection: false,
            max_waiters: 3,
            max_holds: 10,
            max_subscriptions: 6,
            max_backlog: 1_000_000_000_000,
            max_connections: 4,
            max_connections_per_ip: 5,
            auth: Auth {
                token: Some(b"said".to_vec()),
                file: Some("read".to_string()),
                file_from: "DFLOCKD_AUTH_TOKEN_FILE".to_string(),
            },
            admin: Auth {
                token: Some(b"boss".to_vec()),
                file: Some("bosses".to_string()),
                file_from: "DFLOCKD_ADMIN_TOKEN_FILE".to_string(),
            },
            max_idle: 0,
            write_timeout: 0,
            read_timeout: 7 * SECOND,
            auto_release: false,
            shutdown_timeout: 0,
            log_locks: true,
            debug: true,
            check: false,
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
fn numbers_out_of_range_are_told_on_which_side() {
    for (arg, wrong) in [
        ("--port=99999", "above 65535; want a port"),
        ("--port=-1", "below 0; want a port"),
        ("--port=99999999999999999999", "above 65535; want a port"),
        ("--port=-99999999999999999999", "below 0; want a port"),
        ("--read-timeout=0", "below 1; want whole seconds"),
        (
            "--max-locks=1000000001",
            "above 1000000000; want a whole number",
        ),
        ("--port=1e9", "want a port"),
    ] {
        let error = refusal(&[arg], &[]);
        assert!(error.contains(&format!("\": {wrong}")), "{error}");
    }
}

#[test]
fn a_face_without_auth_beside_a_secret_has_to_be_wanted() {
    let open = [
        ("DFLOCKD_AUTH_TOKEN", "s"),
        ("DFLOCKD_DISTLOCKD_PORT", "9999"),
    ];
    assert!(refusal(&[], &open).starts_with("--distlockd-port: "));
    let (config, warnings) = run(&["--distlockd-no-auth"], &open);
    assert_eq!((config.distlockd.port, warnings), (Some(9999), Vec::new()));
    let public = ["--distlockd-no-auth", "--distlockd-host", "0.0.0.0"];
    let (_, warnings) = run(&public, &open);
    assert!(
        warnings[0]
            .starts_with("host 0.0.0.0 is not a loopback address; with --distlockd-no-auth ")
    );
}

#[test]
fn a_port_of_another_face_is_absent_for_off_and_0_for_any() {
    assert_eq!(run(&[], &[]).0.distlockd.port, None);
    assert_eq!(
        run(&[], &[("DFLOCKD_DISTLOCKD_PORT", "")]).0.distlockd.port,
        None
    );
    assert_eq!(run(&["--distlockd-port=0"], &[]).0.distlockd.port, Some(0));
    for (bad, wrong) in [
        ("", ""),
        ("-1", "below 0; "),
        ("65536", "above 65535; "),
        ("x", ""),
        ("off", ""),
    ] {
        assert_eq!(
            refusal(&["--distlockd-port", bad], &[]),
            format!("--distlockd-port: bad value {bad:?}: {wrong}want a port, 0 to 65535")
        );
    }
}

#[test]
fn unknown_variables_are_named_in_one_warning() {
    let env = [
        ("DFLOCKD_PROT", "7"),
        ("DFLOCKD_MAX_LOCK", "5"),
        ("DFLOCKD_EMPTY", ""),
        ("DFLOCK_SERVER", "x"),
        ("dflockd_port", "x"),
        ("DFLOCKD_PORT", "7"),
    ];
    let (config, warnings) = run(&[], &env);
    assert_eq!(config.port, 7);
    let wanted = "no such setting, ignored: DFLOCKD_MAX_LOCK, DFLOCKD_PROT";
    assert_eq!(warnings, [wanted]);
    let many: Vec<String> = (10..35).map(|n| format!("DFLOCKD_{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let (_, warnings) = run(&[], &many);
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].ends_with(", DFLOCKD_29 and 5 more"),
        "{warnings:?}"
    );
}

#[test]
fn variables_that_another_make_would_act_on_stop_the_start() {
    for name in [
        "DFLOCKD_HTTP_MAX_SESSIONS",
        "DFLOCKD_HTTP_MAX_SESSIONS_PER_IP",
        "DFLOCKD_HTTP_SESSION_TTL_S",
        "DFLOCKD_TLS_CIPHERS",
        "DFLOCKD_RAFT_ADDR",
        "DFLOCKD_NODE_ID",
        "DFLOCKD_CLUSTER_SIZE",
        "DFLOCKD_ADVERTISE_ADDR",
        "DFLOCKD_ORPHAN_TTL_S",
    ] {
        let text = refusal(&[], &[(name, "1")]);
        assert!(
            text.starts_with(&format!("{name:?}: dflockd has no such setting")),
            "{text}"
        );
        assert_eq!(run(&[], &[(name, "")]), run(&[], &[]));
    }
    // Only the beginnings of the list: this one is misspelt.
    assert_eq!(run(&[], &[("DFLOCKD_NODE_IDS", "1")]).1.len(), 1);
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
    for option in listed() {
        assert!(text.contains(&format!("  --{}", option.name)));
        assert!(option.env.iter().all(|name| text.contains(name)));
        assert!(
            text.contains(&format!("[default {}]", option.default)) || option.default.is_empty()
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

#[test]
fn an_ipv6_address_may_stand_in_brackets() {
    assert_eq!(run(&["--host", "[::1]"], &[]).0.host, "::1");
    assert_eq!(run(&["--host", "fe80::1%eth0"], &[]).0.host, "fe80::1%eth0");
}
