//! Clients with certificates of their own. Invariant: as in main.rs.

use rustls::{AlertDescription, HandshakeKind, StreamOwned, SupportedProtocolVersion};

use super::{ANYBODY, As, Secure, VERSIONS, failure, is_alert, serve, session, tcp};
use crate::daemon::pki::{Pki, pki};
use crate::daemon::{Daemon, Talk};

/// A client that shows this certificate.
fn shows<'a>(cert: Option<&'a str>, version: &'static SupportedProtocolVersion) -> As<'a> {
    As {
        cert,
        version,
        ..ANYBODY
    }
}

/// The server for clients of the authority, and no others.
fn serve_known(pki: &Pki) -> Daemon {
    let ca = pki.path("ca.pem");
    let options = ["--log-locks", "--http-port=0", "--tls-client-ca", &ca];
    serve(pki, "server.pem", "server.key", &options)
}

#[test]
fn with_a_client_ca_strangers_are_refused_by_an_alert_that_says_why() {
    let Some(pki) = pki() else { return };
    let daemon = serve_known(pki);
    for version in VERSIONS {
        for (cert, alert) in [
            (None, AlertDescription::CertificateRequired),
            (Some("stranger.pem"), AlertDescription::UnknownCA),
        ] {
            is_alert(&mut shows(cert, version).connect(pki, &daemon), alert);
        }
    }
}

/// A stranger chooses how many there are, and to check each takes time.
#[test]
fn a_client_may_show_three_certificates_behind_its_own_and_no_more() {
    let Some(pki) = pki() else { return };
    let mut daemon = serve_known(pki);
    for version in VERSIONS {
        let connect = |cert| shows(Some(cert), version).connect(pki, &daemon);
        connect("three.pem").says("ping", "_", "_", "ok");
        failure(&mut connect("four.pem"));
    }
    assert!(
        daemon
            .event("handshake-failed")
            .contains("more than 3 certificates")
    );
}

/// One that goes on would not be asked for a certificate, which may have ended.
#[test]
fn with_a_client_ca_no_session_goes_on_in_another_connection() {
    let Some(pki) = pki() else { return };
    let known = serve_known(pki);
    let open = serve(pki, "server.pem", "server.key", &[]);
    for (daemon, kind) in [
        (&known, HandshakeKind::Full),
        (&open, HandshakeKind::Resumed),
    ] {
        for version in VERSIONS {
            let config = shows(Some("client.pem"), version).config(pki);
            let connect = || {
                let stream = StreamOwned::new(session(config.clone()), tcp(daemon.addr));
                let mut client: Secure = Talk::with(stream);
                client.says("ping", "_", "_", "ok");
                client.stream().conn.handshake_kind()
            };
            assert_eq!(connect(), Some(HandshakeKind::Full));
            assert_eq!(connect(), Some(kind), "{version:?}");
        }
    }
}

#[test]
fn the_names_of_clients_are_in_show_in_the_status_and_in_the_log() {
    let Some(pki) = pki() else { return };
    let mut daemon = serve_known(pki);
    for version in VERSIONS {
        let connect = |cert| shows(Some(cert), version).connect(pki, &daemon);
        let (mut holder, mut waiter) = (connect("client.pem"), connect("unnamed.pem"));
        let token = holder.takes("k");
        waiter.send("l\nk\n100\n");
        let shown = loop {
            holder.send("show\nk\n_\n");
            let shown = holder.line();
            if shown.contains("\"waiting\":1") {
                break shown;
            }
        };
        let names = shown.split("\"peer_name\":\"").skip(1);
        let names: Vec<_> = names.map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(names, ["worker 7", "w8.example"], "{shown}");
        #[cfg(feature = "http")]
        is_in_status(pki, &daemon, version);
        holder.says("r", "k", &token, "ok");
        let token = waiter.is_granted(33);
        waiter.says("r", "k", &token, "ok");
        for (event, name) in [
            ("granted", "\"worker 7\""),
            ("released", "\"worker 7\""),
            ("granted", "w8.example"),
            ("released", "w8.example"),
        ] {
            let line = daemon.event(event);
            assert!(line.contains(&format!(" peer_name={name} ")), "{line}");
        }
    }
}

#[cfg(feature = "http")]
fn is_in_status(pki: &Pki, daemon: &Daemon, version: &'static SupportedProtocolVersion) {
    let client = shows(Some("client.pem"), version);
    let mut asker: Secure = client.over(pki, tcp(daemon.http));
    asker.send("GET /locks/k/status?queue=true HTTP/1.1\r\nHost: localhost\r\n");
    asker.send("Connection: close\r\n\r\n");
    let shown = asker.rest();
    for name in ["worker 7", "w8.example"] {
        assert!(
            shown.contains(&format!(r#","peerName":"{name}""#)),
            "{shown}"
        );
    }
}
