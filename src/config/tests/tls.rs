//! Tests of the options of TLS: who asks for it gets it or an error.

use super::*;

const PAIR: [&str; 2] = ["--tls-cert=c.pem", "--tls-key=k.pem"];

#[test]
fn the_line_and_http_are_over_tls_with_a_certificate_and_distlockd_only_if_asked() {
    let faces = |args: &[&str]| {
        let tls = run(&[&PAIR, args].concat(), &[]).0.tls;
        #[cfg(feature = "http")]
        assert_eq!(tls.has(Face::Http), !args.contains(&"--no-http-tls"));
        [Face::Text, Face::Distlockd].map(|face| tls.has(face))
    };
    assert_eq!(faces(&[]), [true, false]);
    assert_eq!(faces(&["--no-http-tls"]), [true, false]);
    assert_eq!(faces(&["--distlockd-tls"]), [true, true]);
    let none = run(&[], &[]).0.tls;
    assert!(!none.has(Face::Text) && none.http);
}

#[test]
fn each_file_is_known_by_what_has_named_it() {
    let env = [
        ("DFLOCKD_TLS_CERT", "a"),
        ("DFLOCKD_TLS_KEY", "b"),
        ("DFLOCKD_TLS_CLIENT_CA", "c"),
    ];
    let file = |path: &str, from: &str| {
        Some(File {
            path: path.to_string(),
            from: from.to_string(),
        })
    };
    let (config, _) = run(&["--tls-key=d"], &env);
    assert_eq!(config.tls.cert, file("a", "DFLOCKD_TLS_CERT"));
    assert_eq!(config.tls.key, file("d", "--tls-key"));
    assert_eq!(config.tls.client_ca, file("c", "DFLOCKD_TLS_CLIENT_CA"));
}

#[test]
fn an_address_of_others_is_warned_of_unless_certificates_keep_strangers_out() {
    let warning = |more: &[&str]| {
        let args = [&PAIR[..], &["--host=0.0.0.0"], more].concat();
        run(&args, &[]).1.join(" ")
    };
    let anybody = "without --auth-token-file any client can take any lock";
    assert!(warning(&[]).contains(anybody));
    assert!(!warning(&["--tls-client-ca=a"]).contains(anybody));
    assert!(warning(&["--tls-client-ca=a", "--distlockd-port=0"]).contains(anybody));
    #[cfg(feature = "http")]
    {
        let open = ["--tls-client-ca=a", "--http-port=0", "--no-http-tls"];
        let text = warning(&open);
        assert!(
            text.contains(anybody) && text.contains("HTTP is without TLS there"),
            "{text}"
        );
        assert!(!warning(&[&open[..], &["--http-host=::1"]].concat()).contains("HTTP"));
    }
}

#[test]
fn half_of_tls_is_refused_by_what_is_missing() {
    for (args, text) in [
        (&["--tls-cert=c"][..], "--tls-cert needs --tls-key"),
        (&["--tls-key=k"], "--tls-key needs --tls-cert"),
        (
            &["--tls-client-ca=a"],
            "--tls-client-ca needs --tls-cert and --tls-key",
        ),
        (&["--http-tls"], "--http-tls needs --tls-cert and --tls-key"),
        (
            &["--distlockd-tls"],
            "--distlockd-tls needs --tls-cert and --tls-key",
        ),
    ] {
        assert_eq!(refusal(args, &[]), text);
    }
    let env = [("DFLOCKD_TLS_KEY", "k")];
    assert_eq!(refusal(&[], &env), "DFLOCKD_TLS_KEY needs --tls-cert");
    assert_eq!(
        run(&["--no-http-tls", "--no-distlockd-tls"], &[]).1,
        [""; 0]
    );
}
