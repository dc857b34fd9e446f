//! Tests of bad values, of whatever option and source.

use super::*;

/// Values that each option must refuse.
fn bad_values(option: &Flag) -> &'static [&'static str] {
    match option.name {
        "host" | "distlockd-host" | "http-host" => &[
            " ",
            "a b",
            "a\nb",
            "\u{7f}",
            "127.0.0.1:99",
            "[::1",
            "[a]",
            "a:b",
        ],
        "port" | "distlockd-port" | "http-port" => {
            &["-1", "65536", "x", " 1", "1 ", "0x10", "1.0", "+", "-", "٣"]
        }
        "max-locks" => &["0", "-1", "1000000001", "99999999999999999999", "1e3"],
        "shutdown-timeout" | "write-timeout" | "gc-max-idle" | "restart-grace" => {
            &["-1", "9223372037", "1s", "1_000", "99999999999999999999"]
        }
        "failover-after" => &["0", "3601", "1s"],
        "etcd-prefix" => &["/", "a/"],
        _ if option.value == "COUNT" => &["-1", "1000000001", "x", "1.0"],
        _ if option.value == "BYTES" => &["-1", "1000000000001", "64M", "1.0"],
        _ if option.value == "SECONDS" => &["0", "-5", "9223372037", "5s", "5 ", "--5"],
        _ => &["2", "y", "truee", " true", "-1", "enable"],
    }
}

fn settable() -> impl Iterator<Item = &'static Flag> {
    listed().filter(|option| !option.default.is_empty())
}

/// The options of this build.
pub(super) fn listed() -> impl Iterator<Item = &'static Flag> {
    OPTIONS
        .iter()
        .filter(|option| Group::ALL.contains(&option.group))
}

#[test]
fn a_bad_flag_value_is_an_error_that_names_flag_value_and_range() {
    for option in settable() {
        let allowed = (option.set)(&mut Config::default(), "\n").unwrap_err();
        for bad in bad_values(option).iter().chain(&[""]) {
            let error = refusal(&[&format!("--{}={bad}", option.name)], &[]);
            let wanted = format!("--{}: bad value {bad:?}: ", option.name);
            assert!(error.starts_with(&wanted), "{error}");
            // Before it may stand that a number is above or below its range.
            assert!(error.ends_with(&allowed), "{error}");
            let wanted = error;
            if !option.value.is_empty() {
                assert_eq!(refusal(&[&format!("--{}", option.name), bad], &[]), wanted);
            }
        }
    }
}

#[test]
fn a_bad_number_is_told_its_unit_and_its_range() {
    for (args, wanted) in [
        (
            ["--read-timeout", "5s"],
            "--read-timeout: bad value \"5s\": want whole seconds, 1 to 9223372036",
        ),
        (
            ["--max-waiters", "-1"],
            "--max-waiters: bad value \"-1\": below 0; want a whole number, 0 to 1000000000",
        ),
        (
            ["--port", "65536"],
            "--port: bad value \"65536\": above 65535; want a port, 0 to 65535",
        ),
    ] {
        assert_eq!(refusal(&args, &[]), wanted);
    }
}

#[test]
fn a_bad_variable_is_an_error_even_where_a_flag_overrides_it() {
    for option in settable() {
        let good = format!("--{}={}", option.name, option.default);
        for name in option.env {
            for bad in bad_values(option) {
                // Without a REST face its bare names are not read.
                let args: &[&str] = match is_bare_http(option, name) {
                    true => &["--http-port=0"],
                    false => &[],
                };
                let error = refusal(args, &[(name, bad)]);
                assert!(error.starts_with(&format!("{name}: bad value {bad:?}: ")));
                let args = [args, &[&good]].concat();
                assert_eq!(refusal(&args, &[(name, bad)]), error);
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
        let error = parse([flag], |_| None, [], &[]).unwrap_err();
        let wanted = format!(r#"--{}: bad value "\xFF\n": want valid UTF-8"#, option.name);
        assert_eq!(error, wanted);
        for name in option.env {
            let args = is_bare_http(option, name).then(|| OsString::from("--http-port=0"));
            let get = |asked: &str| (asked == *name).then(|| raw.clone());
            let error = parse(args, get, [], &[]).unwrap_err();
            assert!(error.starts_with(&format!(r#"{name}: bad value "\xFF\n""#)));
        }
    }
    assert!(parse([raw], |_| None, [], &[]).is_err());
    assert!(parse([OsString::from_vec(b"--\xff".to_vec())], |_| None, [], &[]).is_err());
}
