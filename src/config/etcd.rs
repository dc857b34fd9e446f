//! The options of high availability together: which etcd the servers share, and who this one is among them. Invariant: an
//! option that needs etcd is an error without it, and so is a place for a journal with it.

use super::exposure::is_loopback;
use super::{File, Reading};
use crate::command::Us;

/// The store that several servers share, and this one's part in it. Without endpoints there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Etcd {
    /// The addresses of the members of etcd: `http://` or `https://`, a host and a port.
    pub endpoints: Vec<String>,
    /// What all keys begin with.
    pub prefix: String,
    /// The name of this server among those that share the store.
    pub node: String,
    /// How long the leader may be silent before another server takes the lead, in microseconds; 1 s to 3600 s.
    pub failover_after: Us,
    /// The user that etcd knows this server as, if it knows users.
    pub user: Option<String>,
    /// The file with the password of the user.
    pub password: Option<File>,
    /// The file with the authorities that vouch for etcd; without it, those of the machine do.
    pub ca: Option<File>,
    /// The files with the certificate and the key that etcd knows this server by.
    pub cert: Option<File>,
    /// The key of that.
    pub key: Option<File>,
    /// Whether etcd is asked to forget what was replaced.
    pub compact: bool,
}

impl Etcd {
    /// Whether servers share a store.
    pub fn is_there(&self) -> bool {
        !self.endpoints.is_empty()
    }
}

impl Reading {
    /// What would be of no use without etcd, or with it.
    pub(super) fn check_etcd(&mut self, has_sockets: bool) -> Result<(), String> {
        let said = |name| Some(self.settings.from(name)).filter(|from| *from != "default");
        let etcd = &self.config.etcd;
        if !etcd.is_there() {
            let compact = said("etcd-compact").filter(|_| !etcd.compact);
            let needs = [
                "etcd-prefix",
                "node",
                "failover-after",
                "etcd-user",
                "etcd-password-file",
                "etcd-ca",
                "etcd-cert",
                "etcd-key",
            ];
            return match needs.into_iter().find_map(said).or(compact) {
                Some(from) => Err(format!("{from} needs --etcd")),
                None => Ok(()),
            };
        }
        let from = said("etcd").unwrap_or("--etcd");
        let kept = ["state-dir", "run-dir", "fence-state-file"];
        if let Some(other) = kept.into_iter().find_map(said) {
            return Err(format!(
                "{other} and {from}: locks are kept in files or in etcd: leave one of them out"
            ));
        }
        if has_sockets {
            return Err(format!(
                "{from}: a socket of the service manager would listen while another server leads: disable dflockd.socket"
            ));
        }
        match (said("etcd-user"), said("etcd-password-file")) {
            (Some(user), None) => return Err(format!("{user} needs --etcd-password-file")),
            (None, Some(file)) => return Err(format!("{file} needs --etcd-user")),
            _ => {}
        }
        match (said("etcd-cert"), said("etcd-key")) {
            (Some(cert), None) => return Err(format!("{cert} needs --etcd-key")),
            (None, Some(key)) => return Err(format!("{key} needs --etcd-cert")),
            _ => {}
        }
        self.name_node(from.to_string())
    }

    /// The name of a server that was given none is where it listens, if that is a place.
    fn name_node(&mut self, from: String) -> Result<(), String> {
        if !self.config.etcd.node.is_empty() {
            return Ok(());
        }
        let place = self.config.place().ok_or_else(|| {
            let address = self.config.address();
            format!("{from}: {address} is no name for this server among others: give --node")
        });
        self.config.etcd.node = place?;
        Ok(())
    }

    /// The warning about a password or locks that go through a network as plain text.
    pub(super) fn plain_etcd(&self) -> Option<String> {
        let etcd = &self.config.etcd;
        let is_near = |endpoint: &str| {
            let place = endpoint.strip_prefix("http://").unwrap_or_default();
            let inside = place
                .strip_prefix('[')
                .and_then(|rest| rest.split_once(']'));
            let host = match inside {
                Some((address, _)) => address,
                None => place.split(':').next().unwrap_or_default(),
            };
            is_loopback(host)
        };
        let mut plain = etcd.endpoints.iter().filter(|at| at.starts_with("http://"));
        let far = plain.find(|at| !is_near(at))?;
        Some(format!(
            "etcd at {far} is not on this host and without TLS: whoever reads or changes what is sent can take any lock"
        ))
    }
}
