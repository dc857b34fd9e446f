//! Certificates and keys in PEM (RFC 7468), as administrators have them in files. Invariant: an error says what is wrong
//! and what is wanted, and nothing of a key.

use rustls::RootCertStore;
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates of a file in its order: the own one first, then those of the authorities that vouch for it.
///
/// # Errors
/// There is none, or it is no PEM.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    const WANT: &str = "want PEM with BEGIN CERTIFICATE";
    let all: Result<Vec<_>, Error> = CertificateDer::pem_slice_iter(plain(text)).collect();
    match all {
        Ok(all) if all.is_empty() => Err(format!("it has no certificate; {WANT}")),
        all => all.map_err(|e| format!("{}; {WANT}", told(&e))),
    }
}

/// The one private key of a file: PKCS#8 (RFC 5958), SEC1 (RFC 5915) or PKCS#1 (RFC 8017).
///
/// # Errors
/// There is none, or it is no PEM, or a passphrase protects it.
pub fn key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    const WANT: &str = "want PEM with BEGIN PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY";
    match PrivateKeyDer::from_pem_slice(plain(text)) {
        Err(_) if is_encrypted(text) => Err(
            "its key is encrypted, and there is nobody to ask for the passphrase; decrypt it with openssl pkey"
                .to_string(),
        ),
        Err(Error::NoItemsFound) => Err(format!("it has no private key; {WANT}")),
        found => found.map_err(|e| format!("{}; {WANT}", told(&e))),
    }
}

/// The authorities of a file, which vouch for the certificates of peers.
///
/// # Errors
/// There is none, or one of them cannot be used, or it is no PEM.
pub fn authorities(text: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (at, certificate) in certificates(text)?.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|e| format!("its certificate {}: {e}", at + 1))?;
    }
    Ok(roots)
}

/// Without the mark that some editors put in front of a text; RFC 3629, 6.
pub fn plain(text: &[u8]) -> &[u8] {
    text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text)
}

/// What is wrong with a certificate and its key, told of the file that has to be mended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// The certificate cannot be used.
    Certificate(String),
    /// The key cannot, or it is another's.
    Key(String),
}

/// What the library says of a pair, in words for who has to mend it. `certificate` is the path of its file.
pub fn mismatch(error: &rustls::Error, certificate: &str) -> Mismatch {
    match error {
        rustls::Error::InconsistentKeys(_) => Mismatch::Key(format!(
            "it is not the key of the first certificate in {certificate:?}, which must be the own one"
        )),
        // Of OpenSSL's the ones without any extension. The library has no other name for the fault.
        rustls::Error::InvalidCertificate(why)
            if format!("{why:?}").contains("UnsupportedCertVersion") =>
        {
            Mismatch::Certificate(
                "its X.509 version is 1; want 3, with the owner's names in subjectAltName"
                    .to_string(),
            )
        }
        rustls::Error::InvalidCertificate(_) => Mismatch::Certificate(error.to_string()),
        // The provider's, of any key that it does not know.
        rustls::Error::General(_) => Mismatch::Key(
            "want a key of RSA with 2048 to 8192 bits, of ECDSA on P-256 or P-384, or of Ed25519"
                .to_string(),
        ),
        _ => Mismatch::Key(error.to_string()),
    }
}

/// The library's text may show bytes of the file, which may be those of a key.
fn told(error: &Error) -> &'static str {
    match error {
        Error::MissingSectionEnd { .. } => "a section has no END line",
        Error::IllegalSectionStart { .. } => "a BEGIN line is broken",
        Error::Base64Decode(_) => "a section is no base64",
        Error::SectionTooLarge => "a section is too long",
        _ => "it is no PEM",
    }
}

fn is_encrypted(text: &[u8]) -> bool {
    const TITLE: &[u8] = b"ENCRYPTED";
    text.windows(TITLE.len()).any(|part| part == TITLE)
}
