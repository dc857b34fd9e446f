//! Tests of the options of restart safety, and of the longest lease.

use super::*;

const SYSTEMD: [(&str, &str); 2] = [
    ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"),
    ("RUNTIME_DIRECTORY", "/run/a:/run/b"),
];

/// Ledger and journal.
fn places(args: &[&str], env: &[(&str, &str)]) -> [Option<String>; 2] {
    let state = run(args, env).0.state;
    let path = |path: std::path::PathBuf| path.to_str().expect("text").to_string();
    [state.ledger, state.journal].map(|place| place.map(path))
}

fn found<'a>(ledger: &'a str, journal: &'a str) -> [Option<String>; 2] {
    [ledger, journal].map(|place| (!place.is_empty()).then(|| place.to_string()))
}

#[test]
fn the_ledger_is_in_the_state_folder_and_the_journal_in_the_run_folder_or_beside_it() {
    assert_eq!(places(&[], &[]), found("", ""));
    assert_eq!(places(&["--state-dir=/s"], &[]), found("/s/ledger", "/s"));
    assert_eq!(places(&["--state-dir", "s/"], &[]), found("s/ledger", "s"));
    let both = ["--state-dir=/s", "--run-dir=/r"];
    assert_eq!(places(&both, &[]), found("/s/ledger", "/r"));
    let env = [("DFLOCKD_STATE_DIR", "/es"), ("DFLOCKD_RUN_DIR", "/er")];
    assert_eq!(places(&[], &env), found("/es/ledger", "/er"));
    assert_eq!(places(&both, &env), found("/s/ledger", "/r"));
    let file = "--fence-state-file=/f";
    assert_eq!(places(&[file], &[]), found("/f", ""));
    assert_eq!(places(&[file, "--run-dir=/r"], &[]), found("/f", "/r"));
    let env = [("DFLOCKD_FENCE_STATE_FILE", "/ef")];
    assert_eq!(places(&[], &env), found("/ef", ""));
}

#[test]
fn the_first_folder_of_a_service_manager_counts_where_no_setting_names_one() {
    assert_eq!(places(&[], &SYSTEMD), found("/var/lib/a/ledger", "/run/a"));
    assert_eq!(
        places(&[], &SYSTEMD[..1]),
        found("/var/lib/a/ledger", "/var/lib/a")
    );
    let state = ["--state-dir=/s"];
    assert_eq!(places(&state, &SYSTEMD), found("/s/ledger", "/run/a"));
    let run = ["--run-dir=/r"];
    assert_eq!(places(&run, &SYSTEMD), found("/var/lib/a/ledger", "/r"));
    let file = ["--fence-state-file=/f"];
    assert_eq!(places(&file, &SYSTEMD), found("/f", "/run/a"));
    // A folder for what does not outlive the machine is none for what does.
    assert_eq!(places(&[], &SYSTEMD[1..]), found("", ""));
    assert_eq!(places(&[], &[("STATE_DIRECTORY", "")]), found("", ""));
    let error = refusal(&[], &[("STATE_DIRECTORY", ":/a")]);
    let wanted = "STATE_DIRECTORY: bad value \"\": want the path of a folder";
    assert_eq!(error, wanted);
}

#[test]
fn the_settings_say_where_a_folder_is_from() {
    let Ok(Parsed::Run { settings, .. }) = parse_with(&["--max-lease=0040"], &SYSTEMD) else {
        panic!("it is good");
    };
    let list = settings.list();
    let lines = list
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let lines: Vec<String> = lines.map(|words| words.join(" ")).collect();
    for wanted in [
        "state-dir /var/lib/a STATE_DIRECTORY",
        "run-dir /run/a RUNTIME_DIRECTORY",
        "fence-state-file unset default",
        "restart-grace 0 default",
        "reset-state false default",
        "handover false default",
        "max-lease 40 --max-lease",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted}: {list}");
    }
}

#[test]
fn each_switch_and_each_time_reaches_its_setting() {
    let state = run(&["--state-dir=/s", "--reset-state", "--handover"], &[])
        .0
        .state;
    assert!(state.reset && state.handover);
    let env = [
        ("DFLOCKD_STATE_DIR", "/s"),
        ("DFLOCKD_RESET_STATE", "yes"),
        ("DFLOCKD_HANDOVER", "yes"),
        ("DFLOCKD_MAX_LEASE_S", "60"),
    ];
    let (config, warnings) = run(&[], &env);
    assert_eq!((config.state, warnings), (state, Vec::new()));
    assert_eq!(config.max_lease, Some(60 * SECOND));
    assert_eq!(
        run(&["--restart-grace=9"], &[]).0.state.restart_grace,
        9 * SECOND
    );
    let env = [("DFLOCKD_RESTART_GRACE_S", "7")];
    assert_eq!(run(&[], &env).0.state.restart_grace, 7 * SECOND);
    assert!(refusal(&["--max-lease=0"], &[]).contains("below 1; want whole seconds, 1 to"));
    let error = refusal(&["--state-dir="], &[]);
    let wanted = "--state-dir: bad value \"\": want the path of a folder";
    assert_eq!(error, wanted);
}

#[test]
fn what_does_not_fit_together_is_refused_by_what_has_said_it() {
    let grace =
        "with --state-dir the server knows itself how long it has to wait: leave one of them out";
    let two = "both name a ledger: leave one of them out";
    for (args, wanted) in [
        (&["--run-dir=/r"][..], "--run-dir needs --state-dir"),
        (&["--handover"], "--handover needs --state-dir"),
        (&["--reset-state"], "--reset-state needs --state-dir"),
        (
            &["--handover", "--fence-state-file=/f"],
            "--handover needs --run-dir",
        ),
        (
            &["--fence-state-file=/f", "--state-dir=/s"],
            &format!("--fence-state-file and --state-dir {two}"),
        ),
        (
            &["--restart-grace=1", "--state-dir=/s"],
            &format!("--restart-grace: {grace}"),
        ),
        (
            &["--restart-grace=0", "--state-dir=/s"],
            &format!("--restart-grace: {grace}"),
        ),
    ] {
        assert_eq!(refusal(args, &[]), wanted);
    }
    let grace = ("DFLOCKD_RESTART_GRACE_S", "1");
    let error = refusal(&[], &[SYSTEMD[0], grace]);
    let wanted = "DFLOCKD_RESTART_GRACE_S: with STATE_DIRECTORY the server knows ";
    assert!(error.starts_with(wanted), "{error}");
    let error = refusal(&["--fence-state-file=/f"], &[grace]);
    assert!(error.contains("with --fence-state-file the"), "{error}");
    let error = refusal(&[], &[("DFLOCKD_RUN_DIR", "/r"), SYSTEMD[1]]);
    assert_eq!(error, "DFLOCKD_RUN_DIR needs --state-dir");
    let env = [("DFLOCKD_HANDOVER", "1"), SYSTEMD[1]];
    assert_eq!(refusal(&[], &env), "DFLOCKD_HANDOVER needs --state-dir");
    // An option that is off needs no other, and a folder of a service manager is enough.
    run(&["--no-handover", "--no-reset-state"], &[]);
    run(&["--handover"], &SYSTEMD);
    run(&["--handover", "--fence-state-file=/f"], &SYSTEMD[1..]);
    run(&["--run-dir=/r"], &SYSTEMD);
}

#[test]
fn no_lease_of_the_configuration_is_above_the_longest() {
    let below = |args: &[&str]| refusal(&[&["--max-lease=20"], args].concat(), &[]);
    let wanted = "--default-lease-ttl 33 s (default) is above --max-lease 20 s (--max-lease)";
    assert_eq!(below(&[]), wanted);
    let short = "--default-lease-ttl=20";
    run(&["--max-lease=20", short], &[]);
    let distlockd = [short, "--distlockd-lease=21", "--distlockd-port=0"];
    let wanted =
        "--distlockd-lease 21 s (--distlockd-lease) is above --max-lease 20 s (--max-lease)";
    assert_eq!(below(&distlockd), wanted);
    run(
        &[&["--max-lease=20"], &distlockd[..2]].concat(),
        &[("DFLOCKD_DISTLOCKD_PORT", "")],
    );
    #[cfg(feature = "http")]
    {
        let wanted =
            "--http-default-timeout 30 s (default) is above --max-lease 20 s (--max-lease)";
        assert_eq!(below(&[short, "--http-port=0"]), wanted);
        let args = ["--max-lease=33", "--http-port=0"];
        assert_eq!(run(&args, &[]).0.http.max_timeout, 33 * SECOND);
    }
}

#[test]
fn a_long_lease_is_warned_of_where_it_is_waited_for() {
    let long = ["--default-lease-ttl=3601", "--distlockd-lease=9999"];
    assert_eq!(run(&long, &[]).1, [""; 0]);
    let kept = [&long[..], &["--state-dir=/s"]].concat();
    let wanted = "after a loss of power nothing is granted until the longest lease has passed: --default-lease-ttl 3601 s (--default-lease-ttl)";
    assert_eq!(run(&kept, &[]).1, [wanted]);
    let both = [&kept[..], &["--distlockd-port=0"]].concat();
    let wanted = format!("{wanted}, --distlockd-lease 9999 s (--distlockd-lease)");
    assert_eq!(run(&both, &[]).1, [wanted]);
    let fine = ["--default-lease-ttl=3600", "--state-dir=/s"];
    assert_eq!(run(&fine, &[]).1, [""; 0]);
}
