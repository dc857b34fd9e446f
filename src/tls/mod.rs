//! TLS over any socket, for the server and its clients: one session's bytes in `secure.rs`, certificates and keys as files
//! have them in `pem.rs`, what a certificate says in `certificate.rs`. The cryptography is rustls' and ring's. Not here:
//! which socket, and what the bytes mean. Invariant: a byte counts as sent once the socket has taken the record that
//! carries it, and not before.

pub mod certificate;
pub mod pem;
mod secure;

use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};

pub use secure::{Got, Secure};

/// The versions that both ends speak: 1.2 (RFC 5246) and 1.3 (RFC 8446).
pub static VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// The ciphers, key exchanges and signatures that both ends offer: those that rustls deems safe.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
