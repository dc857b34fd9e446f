//! The options of TLS together: which files there are, and whose connections they are for. Invariant: a part of TLS without
//! the rest is an error.

use super::{File, Reading};
use crate::wire::Face;

/// TLS. Without a certificate there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The file with the server's certificate, and those of the authorities between it and the root.
    pub cert: Option<File>,
    /// The file with its private key.
    pub key: Option<File>,
    /// The file with the authorities that vouch for clients: then every client must have a certificate.
    pub client_ca: Option<File>,
    /// Whether HTTP is over TLS, too.
    pub http: bool,
    /// Whether clients of distlockd must come over TLS.
    pub distlockd: bool,
}

impl Tls {
    /// Whether clients of this face come over TLS.
    pub fn has(&self, face: Face) -> bool {
        self.cert.is_some()
            && match face {
                Face::Text => true,
                Face::Distlockd => self.distlockd,
                #[cfg(feature = "http")]
                Face::Http => self.http,
            }
    }
}

impl Reading {
    /// A certificate is of no use without its key, and the rest is of no use without a certificate.
    pub(super) fn check_tls(&self) -> Result<(), String> {
        let Tls {
            cert,
            key,
            client_ca,
            ..
        } = &self.config.tls;
        let switch = |name: &str, is_on: bool| {
            let from = self.settings.from(name);
            (is_on && from != "default").then(|| from.to_string())
        };
        let from = |file: &Option<File>| file.as_ref().map(File::name);
        let tls = &self.config.tls;
        let asks = from(client_ca)
            .or_else(|| switch("http-tls", tls.http))
            .or_else(|| switch("distlockd-tls", tls.distlockd));
        match (from(cert), from(key), asks) {
            (Some(cert), None, _) => Err(format!("{cert} needs --tls-key")),
            (None, Some(key), _) => Err(format!("{key} needs --tls-cert")),
            (None, None, Some(asks)) => Err(format!("{asks} needs --tls-cert and --tls-key")),
            _ => Ok(()),
        }
    }
}
