//! TLS over any socket, for the server and its clients: one session's bytes in `secure.rs`, certificates and keys as files
//! have them in `pem.rs`, what a certificate says in `certificate.rs`. The cryptography is rustls' and ring's. Not here:
//! which socket, and what the bytes mean. Invariant: a byte counts as sent once the socket has taken the record that
//! carries it, and not before.

pub mod certificate;
pub mod pem;
mod secure;

use std::io;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, CertificateError, SupportedProtocolVersion};

pub use secure::Secure;

/// The versions that both ends speak: 1.2 (RFC 5246) and 1.3 (RFC 8446).
pub static VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// The text of an error, for people. Errors that are not the library's keep their text.
pub fn told(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|e| e.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => "the peer speaks no TLS".to_string(),
        Some(rustls::Error::AlertReceived(alert)) => {
            format!("the peer refuses: {}", alert_name(*alert))
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(why))) => {
            format!("invalid peer certificate: {why}")
        }
        _ => error.to_string(),
    }
}

/// The name of an alert as RFC 8446, 6 spells it.
pub fn alert_name(alert: AlertDescription) -> String {
    let mut name = String::new();
    let mut was_small = false;
    for c in format!("{alert:?}").chars() {
        if c.is_ascii_uppercase() && was_small {
            name.push('_');
        }
        was_small = c.is_ascii_lowercase();
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// The ciphers, key exchanges and signatures that both ends offer: those that rustls deems safe.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
