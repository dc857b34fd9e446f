//! The options as the hub and the lock table are told of them. Invariant: `Life` decides the first fence, when the table
//! opens, the key of attempts and how holds are kept; options and dice decide the rest.

use std::io;

use super::fill;
use crate::command::Us;
#[cfg(feature = "http")]
use crate::config;
use crate::config::{Config, Secrets};
use crate::facts::Protection;
use crate::hub::Settings;
use crate::locks;
#[cfg(feature = "http")]
use crate::wire::Face;
#[cfg(feature = "http")]
use crate::wire::http;

/// The values that a new lock table begins with.
pub(super) struct Life {
    /// When it begins to grant.
    pub opens: Us,
    pub first_fence: u64,
    /// The key of the names of attempts.
    pub attempt_secret: [u8; 16],
    pub protection: Protection,
}

impl Life {
    /// Before it leads, a server has no locks.
    pub fn standby() -> Life {
        Life {
            opens: 0,
            first_fence: 1,
            attempt_secret: [0; 16],
            protection: Protection::Etcd,
        }
    }
}

/// The settings of a hub that begins with this life.
pub(super) fn settings(config: &Config, secrets: &Secrets, life: &Life) -> io::Result<Settings> {
    let mut secret = [0; 32];
    fill(&mut secret)?;
    let locks = locks::Settings {
        max_locks: config.max_locks,
        max_waiters: config.max_waiters,
        max_holds: config.max_holds,
        max_idle: config.max_idle,
        default_lease: config.default_lease,
        claim_lease: config.distlockd.lease,
        max_lease: config.max_lease.unwrap_or(Us::MAX),
        auto_release: config.auto_release,
        deadlock_detection: config.deadlock_detection,
        log: config.log_locks,
        first_fence: life.first_fence,
        opens: life.opens,
        secret,
        attempt_secret: life.attempt_secret,
    };
    Ok(Settings {
        locks,
        protection: life.protection,
        max_subscriptions: config.max_subscriptions,
        max_backlog: config.max_backlog,
        secret: secrets.auth.clone(),
        admin: secrets.admin.clone(),
        read_timeout: config.read_timeout,
        write_timeout: config.write_timeout,
        shutdown_timeout: config.shutdown_timeout,
        #[cfg(feature = "http")]
        http: http_settings(config),
    })
}

#[cfg(feature = "http")]
fn http_settings(config: &Config) -> http::Settings {
    let config::Http {
        port: _,
        host,
        default_timeout,
        max_timeout,
        renewal_interval,
        max_wait,
        metrics_public,
        origins,
    } = config.http.clone();
    http::Settings {
        default_timeout,
        max_timeout: max_timeout.min(config.max_lease.unwrap_or(Us::MAX)),
        renewal_interval,
        max_wait,
        metrics_public,
        is_https: config.tls.has(Face::Http),
        knows_clients: config.tls.has(Face::Http) && config.tls.client_ca.is_some(),
        host: host.unwrap_or_else(|| config.host.clone()),
        origins,
    }
}
