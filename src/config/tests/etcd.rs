//! Tests of the options of high availability: what belongs together, and what makes no sense with it or without it.

use super::*;

const ETCD: &str = "--etcd=http://127.0.0.1:2379";

fn etcd(args: &[&str]) -> Etcd {
    run(&[&[ETCD], args].concat(), &[]).0.etcd
}

#[test]
fn a_server_is_named_by_its_address_unless_that_names_many() {
    assert_eq!(etcd(&[]).node, "127.0.0.1:6388");
    assert_eq!(etcd(&["--host=::1", "--port=7"]).node, "[::1]:7");
    assert_eq!(etcd(&["--host=a.example", "--node=b"]).node, "b");
    assert_eq!(etcd(&["--port=0", "--node=b"]).node, "b");
    for (args, address) in [
        (["--host=0.0.0.0", "--port=7"], "0.0.0.0:7"),
        (["--host=::", "--port=7"], "[::]:7"),
        (["--host=a", "--port=0"], "a:0"),
    ] {
        let error = refusal(&[&[ETCD][..], &args].concat(), &[]);
        let wanted =
            format!("--etcd: {address} is no name for this server among others: give --node");
        assert_eq!(error, wanted);
    }
}

#[test]
fn endpoints_are_urls_without_paths() {
    let endpoints = |text: &str| run(&[&format!("--etcd={text}")], &[]).0.etcd.endpoints;
    assert_eq!(
        endpoints("http://a:2379, https://b:2379/,http://[::1]:9"),
        ["http://a:2379", "https://b:2379", "http://[::1]:9"]
    );
    for text in [
        "a:2379",
        "http://",
        "http://a:2379/v3",
        "http://u:p@a:1",
        "",
        "http://a:1,",
    ] {
        let error = refusal(&[&format!("--etcd={text}")], &[]);
        assert!(
        error.ends_with("want the addresses of etcd, each http://HOST:PORT or https://HOST:PORT, with commas between"),
        "{error}"
    );
    }
    for text in ["http://a", "https://[::1]/", "http://a:1,http://a"] {
        let error = refusal(&[&format!("--etcd={text}")], &[]);
        assert!(error.contains("want a port in http"), "{error}");
        assert!(error.contains(":2379 unless"), "{error}");
    }
}

#[test]
fn what_needs_etcd_or_a_second_option_says_so() {
    for alone in [
        "--node=a",
        "--failover-after=3",
        "--etcd-prefix=/a",
        "--etcd-user=a",
        "--etcd-password-file=a",
        "--etcd-ca=a",
        "--etcd-cert=a",
        "--etcd-key=a",
        "--no-etcd-compact",
    ] {
        let name = alone.split('=').next().unwrap();
        assert_eq!(refusal(&[alone], &[]), format!("{name} needs --etcd"));
    }
    for (given, needed) in [
        ("--etcd-user=a", "--etcd-password-file"),
        ("--etcd-password-file=a", "--etcd-user"),
        ("--etcd-cert=a", "--etcd-key"),
        ("--etcd-key=a", "--etcd-cert"),
    ] {
        let name = given.split('=').next().unwrap();
        let wanted = format!("{name} needs {needed}");
        assert_eq!(refusal(&[ETCD, given], &[]), wanted);
    }
    assert!(
        refusal(&[ETCD, "--failover-after=3601"], &[]).contains("want whole seconds, 1 to 3600")
    );
    assert!(refusal(&[ETCD, "--etcd-prefix=/a/"], &[]).contains("without a slash at the end"));
    assert!(refusal(&[ETCD, "--node=a b"], &[]).contains("without blanks"));
}

#[test]
fn locks_are_kept_in_files_or_in_etcd() {
    for other in ["--state-dir=a", "--run-dir=a", "--fence-state-file=a"] {
        let name = other.split('=').next().unwrap();
        let wanted =
            format!("{name} and --etcd: locks are kept in files or in etcd: leave one of them out");
        assert_eq!(refusal(&[ETCD, other], &[]), wanted);
    }
    for other in ["--handover", "--reset-state"] {
        let error = refusal(&[ETCD, other], &[]);
        assert!(
            error.starts_with(other) && error.ends_with("leave it out"),
            "{error}"
        );
    }
    let env = [("STATE_DIRECTORY", "/s"), ("RUNTIME_DIRECTORY", "/r")];
    let (config, _) = run(&[ETCD, "--restart-grace=9"], &env);
    assert_eq!(config.state.ledger, None);
    assert_eq!(config.state.restart_grace, 9 * SECOND);
}

#[test]
fn a_ledger_that_nobody_asks_any_more_is_warned_of() {
    let folder = std::env::temp_dir().join(format!("dflockd-idle-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let folders = format!("{}:/other", folder.display());
    let env = [("STATE_DIRECTORY", &folders[..])];
    let warned = |args: &[&str]| run(&[&[ETCD], args].concat(), &env).1.join(" ");
    assert_eq!(warned(&[]), "");
    std::fs::write(folder.join("ledger"), "").unwrap();
    let text = warned(&[]);
    assert!(
        text.contains("start once with --restart-grace SECONDS"),
        "{text}"
    );
    assert_eq!(warned(&["--restart-grace=33"]), "");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_socket_of_the_service_manager_would_listen_for_a_server_that_does_not_lead() {
    let socket = [(Face::Text, "127.0.0.1:9".parse().unwrap())];
    let args = [ETCD].map(OsString::from);
    let error = parse(args, |_| None, [], &socket).unwrap_err();
    assert!(error.contains("disable dflockd.socket"), "{error}");
}

#[test]
fn a_network_that_others_may_read_is_warned_of() {
    let warned = |etcd: &str| run(&[&format!("--etcd={etcd}")], &[]).1.join(" ");
    assert_eq!(
        warned("http://localhost:1,http://[::1]:2,http://[::1]:80,https://far:3"),
        ""
    );
    assert!(
        warned("https://a:1,http://far:3").starts_with("etcd at http://far:3 is not on this host")
    );
}
