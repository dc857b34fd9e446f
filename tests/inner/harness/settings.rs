//! The settings that tests over the inner rings begin with.

use dflockd::command::{SECOND, Us};
use dflockd::facts::Protection;
use dflockd::hub::Settings;
use dflockd::locks;
#[cfg(feature = "http")]
use dflockd::wire::http;

/// The settings that a server has by default.
pub fn settings() -> Settings {
    Settings {
        locks: locks::Settings {
            max_locks: 1024,
            max_waiters: 0,
            max_holds: 0,
            max_idle: 60 * SECOND,
            default_lease: 33 * SECOND,
            claim_lease: 10 * SECOND,
            max_lease: Us::MAX,
            auto_release: true,
            deadlock_detection: true,
            log: false,
            first_fence: 1_800_000_000_000_000_000,
            opens: 0,
            secret: [7; 32],
            attempt_secret: [8; 16],
        },
        protection: Protection::Nothing,
        max_subscriptions: 0,
        max_backlog: 64 * 1024 * 1024,
        secret: None,
        admin: None,
        read_timeout: 23 * SECOND,
        write_timeout: 5 * SECOND,
        shutdown_timeout: 30 * SECOND,
        #[cfg(feature = "http")]
        http: http::Settings::default(),
    }
}
