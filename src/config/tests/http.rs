//! Tests of the options of the REST face, and of the names that another server gave them.

use super::*;

const BARE: [(&str, &str); 3] = [
    ("DEFAULT_TIMEOUT", "40"),
    ("MAX_TIMEOUT", "50"),
    ("RENEWAL_INTERVAL", "7"),
];

#[test]
fn a_name_from_another_kind_of_server_counts_without_a_warning() {
    let (config, warnings) = run(&[], &[("DEADLOCK_DETECTION", "off")]);
    assert_eq!((config.deadlock_detection, warnings), (false, Vec::new()));
    let both = [
        ("DEADLOCK_DETECTION", "off"),
        ("DFLOCKD_DEADLOCK_DETECTION", "on"),
    ];
    assert!(run(&[], &both).0.deadlock_detection);
}

#[test]
fn each_flag_and_each_variable_reaches_its_setting() {
    let wanted = Http {
        port: Some(5000),
        host: Some("::1".to_string()),
        default_timeout: SECOND,
        max_timeout: 2 * SECOND,
        renewal_interval: 3 * SECOND,
        max_wait: 4 * SECOND,
        metrics_public: true,
        origins: vec!["https://a.example".to_string(), "http://b:81".to_string()],
    };
    let said = [
        ("port", "5000"),
        ("host", "[::1]"),
        ("default-timeout", "1"),
        ("max-timeout", "2"),
        ("renewal-interval", "3"),
        ("max-wait", "4"),
        (
            "cors-allowed-origins",
            "https://A.example:443 , http://b:81",
        ),
    ];
    let flags = said.map(|(name, value)| format!("--http-{name}={value}"));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let flags = [&flags[..], &["--metrics-public"]].concat();
    assert_eq!(run(&flags, &[]).0.http, wanted);
    let env = said.map(|(name, value)| {
        let flag = format!("http-{name}");
        let option = OPTIONS.iter().find(|option| option.name == flag);
        (option.expect("it is in the table").env[0], value)
    });
    let env = [&env[..], &[("DFLOCKD_METRICS_PUBLIC", "yes")]].concat();
    let (config, warnings) = run(&[], &env);
    assert_eq!(config.http, wanted);
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn bare_names_count_where_there_is_a_port_and_nothing_else_is_said() {
    let times = |(config, warnings): (Config, Vec<String>)| {
        assert_eq!(warnings, [""; 0]);
        let Http {
            default_timeout,
            max_timeout,
            renewal_interval,
            ..
        } = config.http;
        [default_timeout, max_timeout, renewal_interval].map(|time| time / SECOND)
    };
    assert_eq!(times(run(&[], &BARE)), [30, 300, 5]);
    assert_eq!(times(run(&["--http-port=0"], &BARE)), [40, 50, 7]);
    let port = ("DFLOCKD_HTTP_PORT", "0");
    let env = [&BARE[..], &[port]].concat();
    assert_eq!(times(run(&[], &env)), [40, 50, 7]);
    let env = [&env[..], &[("DFLOCKD_HTTP_MAX_TIMEOUT_S", "60")]].concat();
    assert_eq!(times(run(&[], &env)), [40, 60, 7]);
    let flag = "--http-renewal-interval=8";
    assert_eq!(times(run(&[flag], &env)), [40, 60, 8]);
}

#[test]
fn a_bad_bare_name_is_an_error_only_where_there_is_a_port() {
    let bad = [("MAX_TIMEOUT", "long")];
    run(&[], &bad);
    let args = ["--http-max-timeout=60", "--http-port=0"];
    for args in [&args[..], &args[1..]] {
        let wanted = "MAX_TIMEOUT: bad value \"long\": want whole seconds, 1 to 9223372036";
        assert_eq!(refusal(args, &bad), wanted);
    }
}

#[test]
fn a_default_lease_above_the_longest_is_an_error_that_names_both_sources() {
    let wanted = "--http-default-timeout 30 s (default) is above --http-max-timeout 20 s";
    let error = refusal(&["--http-port=0"], &[("MAX_TIMEOUT", "20")]);
    assert_eq!(error, format!("{wanted} (MAX_TIMEOUT)"));
    let error = refusal(&["--http-max-timeout=20"], &[]);
    assert_eq!(error, format!("{wanted} (--http-max-timeout)"));
    run(&["--http-max-timeout=30"], &[]);
}

#[test]
fn the_place_of_another_servers_locks_is_ignored_with_one_warning() {
    let env = [
        ("REDIS_DB", "0"),
        ("REDIS_HOST", "localhost"),
        ("REDIS_PORT", ""),
    ];
    assert_eq!(run(&[], &env).1, [""; 0]);
    let wanted = "ignored: REDIS_HOST, REDIS_DB: dflockd keeps its locks itself and needs no Redis";
    assert_eq!(run(&["--http-port=0"], &env).1, [wanted]);
}

#[test]
fn an_origin_is_taken_as_a_browser_sends_it() {
    for (said, wanted) in [
        ("http://localhost", "http://localhost"),
        ("HTTP://LocalHost:3000", "http://localhost:3000"),
        ("http://a.example:80", "http://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("https://a.example:80", "https://a.example:80"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://[::1]", "http://[::1]"),
    ] {
        let (config, _) = run(&["--http-cors-allowed-origins", said], &[]);
        assert_eq!(config.http.origins, [wanted], "{said}");
    }
    for bad in [
        "",
        "*",
        "null",
        "a.example",
        "ftp://a.example",
        "http://",
        "http://:80",
        "http://a/",
        "http://a:",
        "http://a:65536",
        "http://a:+1",
        "http://u@a",
        "http://::1",
        "http://[a]",
        "http://a,",
        "http://a http://b",
    ] {
        let error = refusal(&["--http-cors-allowed-origins", bad], &[]);
        assert!(error.contains("want origins, each http://HOST"), "{error}");
    }
}

#[test]
fn an_open_rest_face_is_warned_of_as_the_other_doors_are() {
    let args = ["--http-port=0", "--http-host=0.0.0.0"];
    let (_, warnings) = run(&args, &[]);
    let wanted = "host 0.0.0.0 is not a loopback address; without --auth-token-file ";
    assert!(warnings[0].starts_with(wanted), "{warnings:?}");
    assert_eq!(run(&args[1..], &[]).1, [""; 0]);
    // Beside an open port of distlockd that is on loopback.
    let doors = ["--distlockd-port=0", "--distlockd-no-auth"];
    let (_, warnings) = run(
        &[&args[..], &doors].concat(),
        &[("DFLOCKD_AUTH_TOKEN", "s")],
    );
    let wanted = "host 0.0.0.0 is not a loopback address; without a limit: ";
    assert!(warnings[0].starts_with(wanted), "{warnings:?}");
}
