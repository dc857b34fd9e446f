//! Tests of the sockets and the token files that a service manager hands over.

use super::*;

#[test]
fn a_credential_is_a_token_where_no_setting_names_one() {
    let folder = std::env::temp_dir().join(format!("dflockd-credentials-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("it can be made");
    let path = folder.join("dflockd.admin-token");
    std::fs::write(&path, "boss").expect("it can be written");
    let (folder, path) = (folder.to_str().expect("text"), path.to_str().expect("text"));
    let (config, _) = run(&[], &[("CREDENTIALS_DIRECTORY", folder)]);
    assert_eq!(config.auth, Auth::default());
    assert_eq!(config.admin.file.as_deref(), Some(path));
    assert_eq!(
        config.admin.secret(&mut Vec::new()),
        Ok(Some(b"boss".to_vec()))
    );
    // A flag or a variable beats it.
    let named = [
        ("CREDENTIALS_DIRECTORY", folder),
        ("DFLOCKD_ADMIN_TOKEN_FILE", "/other"),
    ];
    let (config, _) = run(&[], &named);
    assert_eq!(config.admin.file.as_deref(), Some("/other"));
    let (config, _) = run(&["--admin-token=x"], &named[..1]);
    assert_eq!(
        (config.admin.token, config.admin.file),
        (Some(b"x".to_vec()), None)
    );
    // A credential that cannot be read is no reason to serve without it, and no folder is not the one that we are in.
    std::fs::remove_file(path).expect("it is there");
    std::os::unix::fs::symlink("/nowhere", path).expect("it can be made");
    let (config, _) = run(&[], &named[..1]);
    assert!(config.admin.secret(&mut Vec::new()).is_err());
    let (config, _) = run(&[], &[("CREDENTIALS_DIRECTORY", "")]);
    assert_eq!(config.admin, Auth::default());
    std::fs::remove_dir_all(folder).expect("it is there");
}

#[cfg(feature = "tls")]
#[test]
fn certificate_and_key_are_taken_from_credentials_unless_they_are_named() {
    let folder = std::env::temp_dir().join(format!("dflockd-tls-given-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("it can be made");
    for name in ["tls-cert", "tls-key", "tls-client-ca"] {
        std::fs::write(folder.join(format!("dflockd.{name}")), "").expect("it can be made");
    }
    let env = [("CREDENTIALS_DIRECTORY", folder.to_str().expect("a path"))];
    let (config, _) = run(&["--tls-key=mine"], &env);
    let path = |file: Option<File>| file.expect("it is there").path;
    let given = |name: &str| folder.join(name).to_str().expect("a path").to_string();
    assert_eq!(path(config.tls.cert), given("dflockd.tls-cert"));
    assert_eq!(path(config.tls.key), "mine");
    assert_eq!(path(config.tls.client_ca), given("dflockd.tls-client-ca"));
    std::fs::remove_dir_all(folder).expect("it is there");
}

#[test]
fn a_socket_that_is_handed_over_is_where_its_protocol_is() {
    let given = |name: &str, addr: &str, args: &[&str]| {
        let face = face_of(name).expect("a face");
        let given = [(face, addr.parse().expect("an address"))];
        parse(args.iter().map(OsString::from), |_| None, [], &given)
    };
    let Ok(Parsed::Run {
        config, warnings, ..
    }) = given("", "192.0.2.1:7", &["--port=1"])
    else {
        panic!("it is a line");
    };
    assert_eq!((&config.host[..], config.port), ("192.0.2.1", 7));
    assert!(
        warnings[0].starts_with("host 192.0.2.1 is not a loopback address"),
        "{warnings:?}"
    );
    let Ok(Parsed::Run { config, .. }) = given("distlockd", "[::1]:7", &[]) else {
        panic!("it is distlockd's");
    };
    assert_eq!(config.distlockd.host.as_deref(), Some("::1"));
    assert_eq!((config.distlockd.port, config.port), (Some(7), 6388));
    let error = given("distlockd", "[::1]:7", &["--auth-token=s"]).expect_err("an open door");
    assert!(error.contains("--distlockd-no-auth"), "{error}");
    assert!(face_of("lines").is_err());
}
