//! Which certificates of clients are good: those that an authority has signed, with few between the two. To check each
//! signature takes up to a millisecond, and a stranger chooses how many there are. Invariant: what the library refuses is
//! refused.

use std::fmt::{self, Display};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::tls::provider;

/// Certificates between that of a client and that of the authority. With more, false ones could be tried in each order.
const BETWEEN_MAX: usize = 3;

/// There are more than [`BETWEEN_MAX`].
#[derive(Debug)]
struct TooMany;

impl Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "more than {BETWEEN_MAX} certificates behind that of the client"
        )
    }
}

impl std::error::Error for TooMany {}

/// The library's verifier, of short chains alone.
#[derive(Debug)]
pub(super) struct Verifier(Arc<dyn ClientCertVerifier>);

impl Verifier {
    /// Trusts these authorities.
    ///
    /// # Errors
    /// There is none.
    pub fn new(roots: RootCertStore) -> Result<Verifier, String> {
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map(Verifier)
            .map_err(|e| e.to_string())
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if between.len() > BETWEEN_MAX {
            let why = OtherError(Arc::new(TooMany));
            return Err(Error::InvalidCertificate(CertificateError::Other(why)));
        }
        self.0.verify_client_cert(end_entity, between, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
