//! TLS as a client uses it: whom it trusts, who it is itself, and the session with one server. What a session does with
//! bytes is in `crate::tls`; how its errors read is in `error`. Invariant: there is no session with a server whose
//! certificate was not verified, down to its name.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};

use super::TlsError;
use crate::base::got::Got;
use crate::tls::pem::{self, Mismatch};
use crate::tls::{Secure, VERSIONS, alert_name, provider};

/// No file of certificates is longer, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// How to use TLS. A clone is cheap and shares what it has learned, so that a second session with a server is faster.
/// The server's certificate is always verified, and so is its name; a second session with the same server goes on from
/// the first, which did that.
///
/// ```no_run
/// use dflockd::client::{Client, Options, Tls, TlsFiles};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let files = TlsFiles {
///     ca: Some("/etc/dflock/ca.pem".into()),
///     ..TlsFiles::default()
/// };
/// let options = Options {
///     tls: Some(Tls::new(&files)?),
///     ..Options::default()
/// };
/// let mut client = Client::connect("locks.example.com:6388", &options)?;
/// client.ping()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    /// None stands for the host of each server's address.
    name: Option<ServerName<'static>>,
}

/// What [`Tls`] is made of.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The authorities that may have signed the server's certificate, in PEM. None stands for those that the system
    /// trusts.
    pub ca: Option<PathBuf>,
    /// The certificate of this client, in PEM, for a server that wants one. The certificates between it and its
    /// authority may follow.
    pub certificate: Option<PathBuf>,
    /// The key of that certificate, in PEM and not encrypted. Both or neither.
    pub key: Option<PathBuf>,
    /// The name that the server's certificate must be for. None stands for the host of the server's address.
    pub server_name: Option<String>,
}

/// Which of the [`TlsFiles`] is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsPart {
    /// [`TlsFiles::ca`], or what the system has instead.
    Ca,
    /// [`TlsFiles::certificate`].
    Certificate,
    /// [`TlsFiles::key`].
    Key,
    /// [`TlsFiles::server_name`].
    ServerName,
}

/// Why there is no [`Tls`]. It shows as a text that names the file and what is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadTls {
    /// What is wrong.
    pub part: TlsPart,
    why: String,
}

impl fmt::Display for BadTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for BadTls {}

/// TLS with one server: its certificate must be for one name.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Without its configuration, which is long and nobody's business.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Tls");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Connector");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

/// A session with a server.
#[derive(Debug)]
pub(super) struct Session(Secure);

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be read or is not what it must be, certificate and key do not belong together, the system
    /// trusts no authority and none is given, or the name is none that a certificate can be for.
    pub fn new(files: &TlsFiles) -> Result<Tls, BadTls> {
        let roots = match &files.ca {
            Some(path) => read(TlsPart::Ca, path, pem::authorities)?,
            None => system()?,
        };
        let name = files.server_name.as_ref().map(|name| {
            let wrong = || bad(TlsPart::ServerName, format!("want a host, not {name:?}"));
            ServerName::try_from(name.clone()).map_err(|_| wrong())
        });
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .expect("the provider has ciphers for both versions")
            .with_root_certificates(roots);
        let config = match (&files.certificate, &files.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let chain = read(TlsPart::Certificate, certificate, pem::certificates)?;
                let secret = read(TlsPart::Key, key, pem::key)?;
                let paired = builder.with_client_auth_cert(chain, secret);
                paired.map_err(|e| mismatch(&e, certificate, key))?
            }
            (Some(_), None) => {
                let why = "want the file of the key that belongs to the certificate";
                return Err(bad(TlsPart::Key, why));
            }
            (None, Some(_)) => {
                let why = "want the file of the certificate that belongs to the key";
                return Err(bad(TlsPart::Certificate, why));
            }
        };
        Ok(Tls {
            config: Arc::new(config),
            name: name.transpose()?,
        })
    }

    /// TLS with the server at `HOST:PORT`, whose certificate must be for the host, or for the name that was given.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the host is no name that a certificate can be for.
    pub fn to(&self, server: &str) -> io::Result<Connector> {
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_string()).map_err(|_| {
                let why = format!(
                    "{host:?} is no name that a certificate can be for: give a server name"
                );
                io::Error::new(ErrorKind::InvalidInput, why)
            })?,
        };
        let config = Arc::clone(&self.config);
        Ok(Connector { config, name })
    }
}

/// For any address of that server.
impl From<Connector> for Tls {
    fn from(Connector { config, name }: Connector) -> Tls {
        let name = Some(name);
        Tls { config, name }
    }
}

fn bad(part: TlsPart, why: impl Into<String>) -> BadTls {
    let why = why.into();
    BadTls { part, why }
}

/// What a file has.
fn read<T>(
    part: TlsPart,
    path: &Path,
    of: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<T, BadTls> {
    let mut text = Vec::new();
    let file = File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut text));
    file.map_err(|e| {
        bad(
            part,
            format!("cannot read {path:?}: {e}; want a file in PEM"),
        )
    })?;
    let read = match text.len() as u64 > FILE_MAX {
        true => Err("it has more than 16 MiB".to_string()),
        false => of(&text),
    };
    read.map_err(|why| bad(part, format!("bad file {path:?}: {why}")))
}

/// The authorities that the system trusts.
fn system() -> Result<RootCertStore, BadTls> {
    let mut roots = RootCertStore::empty();
    // Some may be broken or of an odd kind; a server that one of them vouches for is not trusted then.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let why = "the system trusts no authority: give the file of the server's";
        return Err(bad(TlsPart::Ca, why));
    }
    Ok(roots)
}

fn mismatch(error: &Error, certificate: &Path, key: &Path) -> BadTls {
    let (part, path, why) = match pem::mismatch(error, &certificate.to_string_lossy()) {
        Mismatch::Certificate(why) => (TlsPart::Certificate, certificate, why),
        Mismatch::Key(why) => (TlsPart::Key, key, why),
    };
    bad(part, format!("bad file {path:?}: {why}"))
}

impl Connector {
    /// A session that has not begun.
    pub(super) fn session(&self) -> io::Result<Session> {
        let secure = Secure::client(Arc::clone(&self.config), self.name.clone());
        secure.map(Session).map_err(io::Error::other)
    }
}

impl Session {
    pub(super) fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    pub(super) fn read(
        &mut self,
        socket: &mut (impl Read + Write),
        buffer: &mut [u8],
    ) -> io::Result<Got> {
        let read = self.0.read(socket, buffer);
        let is_early = self.is_handshaking();
        let got = read.map_err(|e| told(e, is_early))?;
        if got == Got::End && is_early {
            let why = "it closed the connection in the TLS handshake: perhaps the server speaks no TLS, or is full";
            return Err(io::Error::new(ErrorKind::UnexpectedEof, why));
        }
        Ok(got)
    }

    pub(super) fn write(
        &mut self,
        socket: &mut (impl Read + Write),
        output: &[u8],
    ) -> io::Result<usize> {
        self.0.write(socket, output)
    }

    pub(super) fn finish(&mut self, socket: &mut impl Write) {
        self.0.finish(socket);
    }
}

/// An error of the library in our words; others as they are.
fn told(error: io::Error, is_early: bool) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(inner) => meant(inner, is_early).into(),
        None => error,
    }
}

/// What an error of the library means; `is_early` during the handshake.
fn meant(error: &Error, is_early: bool) -> TlsError {
    match error {
        Error::InvalidCertificate(wrong) => distrust(wrong),
        Error::AlertReceived(alert) => refused(*alert),
        // The first bytes of the server are no record of TLS.
        Error::InvalidMessage(_) if is_early => TlsError::NoTls,
        error => TlsError::Other(error.to_string()),
    }
}

/// What is wrong with the server's certificate.
fn distrust(wrong: &CertificateError) -> TlsError {
    use CertificateError as Wrong;
    match wrong {
        Wrong::UnknownIssuer => TlsError::UnknownIssuer,
        Wrong::Expired | Wrong::ExpiredContext { .. } => TlsError::Expired,
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => TlsError::NotYetValid,
        Wrong::NotValidForNameContext {
            expected,
            presented,
        } => TlsError::WrongName {
            wanted: expected.to_str().into_owned(),
            names: presented.iter().map(|name| plain(name)).collect(),
        },
        Wrong::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            TlsError::Unusable(
                "it is that of an authority, which has to sign another for it".into(),
            )
        }
        // An authority of this name is trusted, with another key.
        Wrong::BadSignature
        | Wrong::UnsupportedSignatureAlgorithmContext { .. }
        | Wrong::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => TlsError::UnknownIssuer,
        wrong => TlsError::Unusable(wrong.to_string()),
    }
}

/// A name as the library shows it, `DnsName("a.example")`: without what is around it, and without what a terminal would
/// act on.
fn plain(shown: &str) -> String {
    let inner = shown
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    let inner = inner.unwrap_or(shown).trim_matches('"');
    inner.chars().filter(|c| c.is_ascii_graphic()).collect()
}

/// What an alert of the server means; RFC 8446, 6.2.
fn refused(alert: AlertDescription) -> TlsError {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => TlsError::WantsCertificate,
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        // It knows an authority of this name, with another key.
        | Alert::DecryptError
        | Alert::AccessDenied => TlsError::Refused(alert_name(alert)),
        // Before TLS 1.3 some servers say no more when they miss a certificate.
        Alert::HandshakeFailure => TlsError::Other(
            "the server refused the handshake: perhaps it wants a certificate of the client"
                .to_string(),
        ),
        Alert::ProtocolVersion => {
            TlsError::Other("it speaks neither TLS 1.2 nor TLS 1.3".to_string())
        }
        alert => TlsError::Other(format!("the server sent the alert {alert:?}")),
    }
}
