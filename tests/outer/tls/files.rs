//! Certificates and keys as files: at the start, at SIGHUP, and near their end. Invariant: as in main.rs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dflockd::tls::certificate;
use rustls::AlertDescription;

use super::{ANYBODY, As, is_alert, serve};
use crate::daemon::pki::{Pki, pki};
use crate::daemon::{Daemon, dflockd};

/// The path of a file that a test makes.
fn fresh(name: &str) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("tls-reload-{}-{name}", std::process::id()));
    path.to_str().unwrap().to_string()
}

#[test]
fn sighup_shows_newcomers_the_new_certificate_and_a_bad_one_changes_nothing() {
    let Some(pki) = pki() else { return };
    let copy = |name: &str, to: &str| fs::copy(pki.path(name), to).map(drop).unwrap();
    let (cert, key) = (fresh("cert"), fresh("key"));
    copy("server.pem", &cert);
    copy("server.key", &key);
    let mut daemon = Daemon::start(&["--tls-cert", &cert, "--tls-key", &key]);
    let name = |daemon: &Daemon| {
        let mut client = ANYBODY.connect(pki, daemon);
        client.says("ping", "_", "_", "ok");
        let shown = client.stream().conn.peer_certificates().unwrap()[0].clone();
        certificate::name(&shown).unwrap()
    };
    let mut old = ANYBODY.connect(pki, &daemon);
    old.send("l\nk\n0\n");
    let token = old.is_granted(33);
    assert_eq!(name(&daemon), "server");
    // A pair that does not match, as while the files are being changed.
    copy("second.pem", &cert);
    daemon.signal("HUP");
    let line = daemon.event("reload-failed");
    assert!(
        line.contains(&key) && line.contains("not the key of the first certificate"),
        "{line}"
    );
    assert_eq!(name(&daemon), "server");
    copy("rsa.key", &key);
    daemon.signal("HUP");
    assert!(daemon.event("reloaded").ends_with(" files=2\n"));
    assert_eq!(name(&daemon), "second");
    // What is wrong with the new one is said before that all is well.
    copy("ended.pem", &cert);
    copy("server.key", &key);
    daemon.signal("HUP");
    assert!(
        daemon
            .event("warning")
            .contains("has expired on 2021-01-01")
    );
    daemon.event("reloaded");
    copy("second.pem", &cert);
    copy("rsa.key", &key);
    daemon.signal("HUP");
    daemon.event("reloaded");
    fs::write(&cert, "no PEM").unwrap();
    daemon.signal("HUP");
    let line = daemon.event("reload-failed");
    assert!(
        line.contains(&cert) && line.contains("BEGIN CERTIFICATE"),
        "{line}"
    );
    assert_eq!(name(&daemon), "second");
    old.says("r", "k", &token, "ok");
    fs::remove_file(cert).unwrap();
    fs::remove_file(key).unwrap();
}

/// A file of this test's folder, or another path.
fn at(pki: &Pki, name: &str) -> String {
    match name.starts_with('/') {
        true => name.to_string(),
        false => pki.path(name),
    }
}

#[test]
fn files_that_cannot_be_used_stop_the_start_and_are_named() {
    let Some(pki) = pki() else { return };
    let (cert, key, none) = ("server.pem", "server.key", "/no/such");
    for (files, named, why) in [
        (&[none, key][..], none, "No such file"),
        (&[cert, none], none, "No such file"),
        (&["/dev/null", key], "/dev/null", "BEGIN CERTIFICATE"),
        (&["old.pem", key], "old.pem", "want 3"),
        (&[cert, cert], cert, "no private key"),
        (&[cert, "locked.key"], "locked.key", "encrypted"),
        (&[cert, "locked.sec1.key"], "locked.sec1.key", "encrypted"),
        (&[cert, "small.key"], "small.key", "2048 to 8192 bits"),
        (&["upside-down.pem", key], key, "must be the own one"),
        (&[cert, key, "long.pem"], "long.pem", "more than 1 MiB"),
        (
            &[cert, "rsa.key"],
            "rsa.key",
            "not the key of the first certificate",
        ),
        (&[cert, key, key], key, "no certificate"),
        (&[cert, key, none], none, "No such file"),
    ] {
        let options = ["--tls-cert", "--tls-key", "--tls-client-ca"];
        let pairs = options.iter().zip(files);
        let args = pairs.map(|(option, name)| format!("{option}={}", at(pki, name)));
        let args: Vec<String> = args.collect();
        for more in [&["--port=0"][..], &["--check"]] {
            let args = args.iter().map(String::as_str).chain(more.iter().copied());
            let end = Daemon::launch(dflockd(&args.collect::<Vec<_>>()))
                .err()
                .unwrap();
            assert_eq!(end.status, Some(2), "{end:?}");
            let said = end.log.contains(&at(pki, named)) && end.log.contains(why);
            assert!(
                said && !end.log.contains("PRIVATE KEY-----"),
                "{why}: {end:?}"
            );
        }
    }
}

#[test]
fn a_certificate_that_ends_and_a_key_that_all_may_read_are_warned_of_at_the_start() {
    let Some(pki) = pki() else { return };
    for (cert, text) in [
        ("short.pem", ", in 12 days"),
        ("ended.pem", "has expired on 2021-01-01"),
    ] {
        let line = serve(pki, cert, "server.key", &[]).said.clone();
        assert!(
            line.contains("--tls-cert: the certificate in ") && line.contains(text),
            "{line}"
        );
    }
    let line = serve(pki, "ca.pem", "ca.key", &[]).said.clone();
    assert!(line.contains("is that of an authority"), "{line}");
    assert!(
        !serve(pki, "server.pem", "server.key", &[])
            .said
            .contains(" warn ")
    );
    let open = format!("{}-open", pki.path("server.key"));
    fs::copy(pki.path("server.key"), &open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let args = ["--tls-cert", &pki.path("server.pem"), "--tls-key", &open];
    let line = Daemon::start(&args).said.clone();
    assert!(
        line.contains("--tls-key: every user of this host may read"),
        "{line}"
    );
}

#[test]
fn sighup_with_another_client_ca_keeps_the_clients_of_the_old_one_out() {
    let Some(pki) = pki() else { return };
    let ca = format!("{}-changes", pki.path("ca.pem"));
    fs::copy(pki.path("ca.pem"), &ca).unwrap();
    let mut daemon = serve(pki, "server.pem", "server.key", &["--tls-client-ca", &ca]);
    let client = As {
        cert: Some("client.pem"),
        ..ANYBODY
    };
    let mut old = client.connect(pki, &daemon);
    old.says("ping", "_", "_", "ok");
    fs::copy(pki.path("other-ca.pem"), &ca).unwrap();
    daemon.signal("HUP");
    assert!(daemon.event("reloaded").ends_with(" files=3\n"));
    is_alert(
        &mut client.connect(pki, &daemon),
        AlertDescription::UnknownCA,
    );
    old.says("ping", "_", "_", "ok");
}

#[cfg(feature = "http")]
#[test]
fn the_end_of_the_certificate_is_a_metric() {
    use super::tcp;
    use crate::daemon::Client;
    use dflockd::tls::pem;

    let Some(pki) = pki() else { return };
    let chain = pem::certificates(&pki.read("server.pem")).unwrap();
    let (_, end) = certificate::span_s(&chain[0]).unwrap();
    let plain = ["--http-port=0", "--no-http-tls"];
    let daemon = serve(pki, "server.pem", "server.key", &plain);
    let mut scraper = Client::over(tcp(daemon.http));
    scraper.send("GET /metrics HTTP/1.0\r\n\r\n");
    let metric = format!("\ndflockd_tls_certificate_expiry_timestamp_seconds {end}\n");
    assert!(scraper.rest().contains(&metric));
}
