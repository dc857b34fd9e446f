//! What a service manager hands over besides the environment's settings: sockets that listen, and files.
//! Invariant: what it hands over passes the same checks as a setting.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Auth, Config, OPTIONS, Reading};
use crate::wire::Face;

/// The face of a socket that is handed over under this name.
///
/// # Errors
/// No face has this name, or this build lacks it.
pub fn face_of(name: &str) -> Result<Face, String> {
    match name {
        // A socket unit that gives no name, and systemd-socket-activate(1).
        "line" | "" | "dflockd.socket" | "unknown" => Ok(Face::Text),
        "distlockd" => Ok(Face::Distlockd),
        #[cfg(feature = "http")]
        "http" => Ok(Face::Http),
        #[cfg(not(feature = "http"))]
        "http" => Err("socket \"http\": this build has no HTTP".to_string()),
        _ => Err(format!(
            "socket {name:?}: want FileDescriptorName=line, http or distlockd"
        )),
    }
}

/// A face that has been handed sockets is on, and is where they are.
pub(super) fn sockets(config: &mut Config, given: &[(Face, SocketAddr)]) {
    for (face, addr) in given {
        let (host, port) = (addr.ip().to_string(), addr.port());
        match face {
            Face::Text => (config.host, config.port) = (host, port),
            Face::Distlockd => {
                (config.distlockd.host, config.distlockd.port) = (Some(host), Some(port));
            }
            // The host of a setting may be a name that requests give.
            #[cfg(feature = "http")]
            Face::Http => {
                config.http.host.get_or_insert(host);
                config.http.port = Some(port);
            }
        }
    }
}

/// Uses the files that a service manager hands over (`LoadCredential=` in systemd.exec(5)), where no setting names a token
/// or a file of TLS.
pub(super) fn credentials(
    reading: &mut Reading,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<(), String> {
    let folder = env("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
    let Some(folder) = folder.map(PathBuf::from) else {
        return Ok(());
    };
    let Config {
        auth,
        admin,
        tls,
        etcd,
        ..
    } = &reading.config;
    let has_etcd = etcd.is_there();
    for (name, option, is_wanted) in [
        ("auth-token", "auth-token-file", *auth == Auth::default()),
        ("admin-token", "admin-token-file", *admin == Auth::default()),
        ("tls-cert", "tls-cert", tls.cert.is_none()),
        ("tls-key", "tls-key", tls.key.is_none()),
        ("tls-client-ca", "tls-client-ca", tls.client_ca.is_none()),
        (
            "etcd-password",
            "etcd-password-file",
            has_etcd && etcd.password.is_none(),
        ),
        ("etcd-ca", "etcd-ca", has_etcd && etcd.ca.is_none()),
        ("etcd-cert", "etcd-cert", has_etcd && etcd.cert.is_none()),
        ("etcd-key", "etcd-key", has_etcd && etcd.key.is_none()),
    ] {
        let path = folder.join(format!("dflockd.{name}"));
        // A file that is there and cannot be read must not make a server without a token.
        let is_absent =
            matches!(path.symlink_metadata(), Err(e) if e.kind() == ErrorKind::NotFound);
        if is_wanted && !is_absent {
            let option = OPTIONS.iter().find(|known| known.name == option);
            let option = option.expect("each credential is an option");
            reading.apply(option, "CREDENTIALS_DIRECTORY", path.as_os_str())?;
        }
    }
    Ok(())
}
