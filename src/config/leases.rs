//! The leases that options give, together. Invariant: no lease of the configuration is above the longest that a client
//! may have.

use super::{Config, Distlockd, Http, Reading};
use crate::command::{SECOND, Us};

/// With a ledger, a longer lease gets a warning: a start after a loss of power waits for it.
pub const LONG_LEASE: Us = 3600 * SECOND;

impl Config {
    /// The longest lease of a client that asks for none, over all faces that are on.
    pub fn longest_lease(&self) -> Us {
        let of_http = self.http.port.map_or(0, |_| self.http.default_timeout);
        let of_distlockd = self.distlockd.port.map_or(0, |_| self.distlockd.lease);
        self.default_lease.max(of_http).max(of_distlockd)
    }
}

impl Reading {
    /// The lease that an acquire over HTTP has by default must be one that it may name, and none may be above
    /// `--max-lease`. The longest one over HTTP is no longer than that, if nobody has set it.
    pub(super) fn check_leases(&mut self) -> Result<(), String> {
        let Http {
            default_timeout,
            max_timeout,
            ..
        } = self.config.http;
        if default_timeout > max_timeout {
            return Err(format!(
                "{} is above {}",
                self.said("http-default-timeout", default_timeout),
                self.said("http-max-timeout", max_timeout)
            ));
        }
        let Some(max_lease) = self.config.max_lease else {
            return Ok(());
        };
        if self.settings.from("http-max-timeout") == "default" {
            self.config.http.max_timeout = max_timeout.min(max_lease);
        }
        let above = self.leases_above(max_lease);
        if above.is_empty() {
            return Ok(());
        }
        let verb = if above.len() == 1 { "is" } else { "are" };
        let max_lease = self.said("max-lease", max_lease);
        Err(format!("{} {verb} above {max_lease}", above.join(" and ")))
    }

    /// The warning about leases for which the server may have to wait after a loss of power.
    pub(super) fn long_leases(&self) -> Option<String> {
        self.config.state.ledger.as_ref()?;
        let long = self.leases_above(LONG_LEASE);
        (!long.is_empty()).then(|| {
            format!(
                "after a loss of power nothing is granted until the longest lease has passed: {}",
                long.join(", ")
            )
        })
    }

    /// The settings that give a longer lease than this, as people are told of them. A face that is off gives none.
    fn leases_above(&self, limit: Us) -> Vec<String> {
        let Config {
            default_lease,
            http,
            distlockd,
            ..
        } = &self.config;
        let Distlockd { lease, .. } = *distlockd;
        [
            ("default-lease-ttl", *default_lease, true),
            ("distlockd-lease", lease, distlockd.port.is_some()),
            (
                "http-default-timeout",
                http.default_timeout,
                http.port.is_some(),
            ),
            ("http-max-timeout", http.max_timeout, http.port.is_some()),
        ]
        .into_iter()
        .filter(|&(_, value, is_on)| is_on && value > limit)
        .map(|(name, value, _)| self.said(name, value))
        .collect()
    }

    /// A time that an option gives, and what has set it.
    fn said(&self, name: &str, value: Us) -> String {
        let from = self.settings.from(name);
        format!("--{name} {} s ({from})", value / SECOND)
    }
}
