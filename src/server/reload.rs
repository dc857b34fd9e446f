//! SIGHUP: the token files are read again. Not here: what a token allows. Invariant: a file that brings no token changes
//! nothing, and connections stay as they are.

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

    /// Reads the files again, and tells the hub and the log.
    pub fn reload(&mut self, hub: &mut Hub, log: &mut Log) {
        let mut fresh = self.secrets.clone();
        let (mut read, mut failed, mut path) = (0, 0, "");
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
                    let fields: Fields = &[("file", &e.path), ("error", &e.why)];
                    log.warn(unix_us(), "reload-failed", fields);
                    failed += 1;
                }
            }
        }
        if let Some(mistake) = fresh.mistake() {
            let fields: Fields = &[("file", &path), ("error", &mistake)];
            return log.warn(unix_us(), "reload-failed", fields);
        }
        if read > 0 || failed == 0 {
            log.info(unix_us(), "reloaded", &[("files", &read)]);
        }
        hub.set_secrets(fresh.auth.clone(), fresh.admin.clone());
        self.secrets = fresh;
    }
}
