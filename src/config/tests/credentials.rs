//! Tests of the token files that a service manager hands over.

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
    std::fs::remove_dir_all(folder).expect("it is there");
}
