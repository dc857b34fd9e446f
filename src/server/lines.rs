//! Lines of the log about the server itself: what it was told, and what its former life has left. Not here: locks, which
//! `trail.rs` tells of. Invariant: no line has a token.

use std::fmt::{self, Display};

use super::keep::Keep;
use super::unix_us;
use crate::command::{SECOND, Us, WaitEdge};
use crate::config::{self, Config};
use crate::hub::Hub;
use crate::log::{Fields, Log};

/// Logs what the former life of the server has left.
pub(super) fn log_restart(keep: &Keep, hub: &Hub, now: Us, log: &mut Log) {
    let protection = keep.protection();
    let (holds, opens_in) = (hub.locks().counts().adopted, hub.locks().opens_in(now));
    let (name, seconds) = (protection.name(), opens_in.div_ceil(SECOND));
    let fields: Fields = &[
        ("protection", &name),
        ("holds", &holds),
        ("opens_in_s", &seconds),
    ];
    match opens_in {
        0 => log.info(unix_us(), "restart", fields),
        _ => log.warn(unix_us(), "restart", fields),
    }
}

/// Logs that this server is one of several, and does not lead.
pub(super) fn log_standby(config: &Config, log: &mut Log) {
    let etcd = &config.etcd;
    let endpoints = etcd.endpoints.join(",");
    let fields: Fields = &[("node", &etcd.node), ("etcd", &endpoints)];
    log.info(unix_us(), "standby", fields);
}

/// Logs the settings that are not as by default, if there are any.
pub(super) fn log_settings(shown: &config::Settings, log: &mut Log) {
    let changed = shown.changed().map(|setting| {
        let value: &dyn Display = &setting.value;
        (setting.name, value)
    });
    let fields: Vec<(&str, &dyn Display)> = changed.collect();
    if !fields.is_empty() {
        log.info(unix_us(), "settings", &fields);
    }
}

/// A deadlock as the log shows it: `owner:key` or `owner:semaphore key`, with commas between. The log escapes what is
/// not plain, so nothing is escaped here.
pub(super) struct Waits<'a>(pub &'a [WaitEdge]);

impl Display for Waits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (at, edge) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{edge}")?;
        }
        Ok(())
    }
}
