//! SIGHUP: files are read again, those with tokens here, those of TLS in `tls.rs`. Not here: what a token allows.
//! Invariant: a file that brings no token changes nothing, and connections stay as they are.

use super::unix_us;
use crate::config::{Auth, Config, Secrets};
use crate::hub::Hub;
use crate::log::{Fields, Log};

/// The tokens that are in force, and where they come from.
pub(super) struct Tokens {
    auth: Auth,
    admin: Auth,
    secrets: Secrets,
}

impl Tokens {
    /// The tokens as they were read at the start.
    pub fn new(config: &Config, secrets: Secrets) -> Tokens {
        Tokens {
            auth: config.auth.clone(),
            admin: config.admin.clone(),
            secrets,
        }
    }

    /// The tokens that are in force.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Reads the files again, and tells the hub, and of each that fails the log.
    pub fn reload(&mut self, files: &mut Files, hub: &mut Hub, log: &mut Log) {
        let mut fresh = self.secrets.clone();
        let (mut read, mut path) = (0, "");
        for (from, secret) in [
            (&self.auth, &mut fresh.auth),
            (&self.admin, &mut fresh.admin),
        ] {
            match from.secret_again() {
                None => {}
                Some(Ok(token)) => {
                    *secret = Some(token);
                    read += 1;
                    path = from.file.as_deref().unwrap_or_default();
                }
                Some(Err(e)) => {
                    files.fails(&e.path, &e.why, log);
                }
            }
        }
        if let Some(mistake) = fresh.mistake() {
            return files.fails(path, mistake, log);
        }
        files.read += read;
        hub.set_secrets(fresh.auth.clone(), fresh.admin.clone());
        self.secrets = fresh;
    }
}

/// How many files were read again.
#[derive(Default)]
pub(super) struct Files {
    read: u64,
    failed: u64,
}

impl Files {
    /// So many were read again, and nothing was wrong with them.
    pub fn add(&mut self, read: u64) {
        self.read += read;
    }

    /// One cannot be used: what there was stays.
    pub fn fails(&mut self, path: &str, why: &str, log: &mut Log) {
        self.failed += 1;
        let fields: Fields = &[("file", &path), ("error", &why)];
        log.warn(unix_us(), "reload-failed", fields);
    }

    /// Tells the log of those that were read, if any was or none has failed.
    pub fn report(&self, log: &mut Log) {
        if self.read > 0 || self.failed == 0 {
            log.info(unix_us(), "reloaded", &[("files", &self.read)]);
        }
    }
}
