//! TLS of the server: the certificate and the key that are in force, and when they end. SIGHUP reads the files again.
//! Invariant: files that cannot be used change nothing, and connections keep what they began with.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;

use super::clients::Verifier;
use super::unix_us;
use crate::base::date::Date;
use crate::command::{SECOND, Us};
use crate::config::{self, File, content};
use crate::log::Log;
use crate::sys;
use crate::tls::pem::{self, Mismatch};
pub(super) use crate::tls::{Secure, told};
use crate::tls::{VERSIONS, certificate, provider};
use crate::wire::Face;

/// How much of a file is read: hundreds of certificates.
const FILE_MAX: u64 = 1024 * 1024;
/// From so long before its end on, a certificate is warned of each day.
const WARN_S: u64 = 30 * DAY_S;
const DAY_S: u64 = 24 * 60 * 60;

/// The one protocol that HTTP clients may agree on; RFC 7301.
#[cfg(feature = "http")]
const ALPN: &[u8] = b"http/1.1";

/// The certificate that newcomers are shown, and how they are asked for theirs.
pub struct Tls {
    files: config::Tls,
    config: Arc<ServerConfig>,
    #[cfg(feature = "http")]
    http: Arc<ServerConfig>,
    /// From when to when the certificate is valid, in seconds since 1970; None if it does not say so.
    span: Option<(u64, u64)>,
    /// Why clients would refuse the certificate.
    doubt: Option<&'static str>,
    /// When the log is told of the end next.
    tell: Us,
}

/// Why TLS cannot be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoTls {
    /// The option or the variable that named the file.
    pub source: String,
    /// Its path.
    pub path: String,
    /// The fault, and the form that is wanted.
    pub why: String,
}

impl NoTls {
    fn of(file: &File, why: impl Display) -> NoTls {
        NoTls {
            source: file.from.clone(),
            path: file.path.clone(),
            why: why.to_string(),
        }
    }
}

impl NoTls {
    /// The path of the file, and what is wrong with it.
    pub(super) fn fault(&self) -> (&str, &str) {
        (&self.path, &self.why)
    }
}

impl Display for NoTls {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let NoTls { source, path, why } = self;
        write!(f, "{source}: cannot use {path:?}: {why}")
    }
}

impl Tls {
    /// TLS as the files have it; None if none is wanted. The texts are warnings: a key that every user may read, a
    /// certificate that ends soon.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn read(files: &config::Tls, warnings: &mut Vec<String>) -> Result<Option<Tls>, NoTls> {
        let Some(key) = files.key.as_ref().filter(|_| files.cert.is_some()) else {
            return Ok(None);
        };
        let mut tls = Tls::load(files.clone(), false)?;
        warnings.extend(key.exposure());
        warnings.extend(tls.warning(unix_us() / SECOND));
        warnings.extend(tls.doubt());
        tls.tell = sys::now().saturating_add(DAY_S * SECOND);
        Ok(Some(tls))
    }

    /// Reads the files. With `at_once` it does not wait for one that is no regular file.
    fn load(files: config::Tls, at_once: bool) -> Result<Tls, NoTls> {
        let read = |file: &File| {
            let text = content(OsStr::new(&file.path), FILE_MAX + 1, at_once);
            let text = text.map_err(|e| NoTls::of(file, e))?;
            match text.len() as u64 > FILE_MAX {
                true => Err(NoTls::of(file, "it has more than 1 MiB")),
                false => Ok(text),
            }
        };
        let pair = files.cert.as_ref().zip(files.key.as_ref());
        let (cert, key) = pair.expect("a certificate has its key");
        let chain = pem::certificates(&read(cert)?).map_err(|e| NoTls::of(cert, e))?;
        let span = certificate::span_s(&chain[0]);
        let doubt = certificate::doubt(&chain[0]);
        let private = pem::key(&read(key)?).map_err(|e| NoTls::of(key, e))?;
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder
            .with_protocol_versions(VERSIONS)
            .map_err(|e| NoTls::of(cert, e))?;
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let roots = pem::authorities(&read(file)?).map_err(|e| NoTls::of(file, e))?;
                let verifier = Verifier::new(roots).map_err(|e| NoTls::of(file, e))?;
                builder.with_client_cert_verifier(Arc::new(verifier))
            }
        };
        let mut config = builder
            .with_single_cert(chain, private)
            .map_err(|e| fault_of(&e, cert, key))?;
        if files.client_ca.is_some() {
            // A session that goes on would not ask whether the certificate of its client still counts.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        #[cfg(feature = "http")]
        let http = {
            let mut http = config.clone();
            http.alpn_protocols = vec![ALPN.to_vec()];
            Arc::new(http)
        };
        Ok(Tls {
            files,
            #[cfg(feature = "http")]
            http,
            config: Arc::new(config),
            span,
            doubt,
            tell: 0,
        })
    }

    /// Reads the files again, for clients that come from now on. Returns how many there are.
    ///
    /// # Errors
    /// One cannot be read or used: then all is as it was.
    pub(super) fn reload(&mut self) -> Result<u64, NoTls> {
        *self = Tls::load(self.files.clone(), true)?;
        Ok(2 + u64::from(self.files.client_ca.is_some()))
    }

    /// Whether clients of this face come over TLS.
    pub(super) fn has(&self, face: Face) -> bool {
        self.files.has(face)
    }

    /// A session with a client that has just connected; None if its face has no TLS.
    pub(super) fn session(&self, face: Face) -> Option<Secure> {
        if !self.has(face) {
            return None;
        }
        let config = match face {
            #[cfg(feature = "http")]
            Face::Http => &self.http,
            _ => &self.config,
        };
        Some(Secure::server(config.clone()).expect("the configuration was used before"))
    }

    /// When the certificate ends, in seconds since 1970; 0 if it does not say so.
    pub(super) fn end_s(&self) -> u64 {
        self.span.map_or(0, |(_, end)| end)
    }

    /// When the next warning may be due.
    pub(super) fn deadline(&self) -> Us {
        self.tell
    }

    /// Warns the log once a day, and of a new certificate at once.
    #[inline(never)]
    pub(super) fn report(&mut self, now: Us, log: &mut Log) {
        if now < self.tell {
            return;
        }
        self.tell = now.saturating_add(DAY_S * SECOND);
        let unix_us = unix_us();
        for warning in [self.warning(unix_us / SECOND), self.doubt()]
            .iter()
            .flatten()
        {
            log.warn(unix_us, "warning", &[("text", warning)]);
        }
    }

    /// A warning if clients such as dflock(1) refuse the certificate, whoever has signed it.
    fn doubt(&self) -> Option<String> {
        let File { path, from } = self.files.cert.as_ref()?;
        let doubt = self.doubt?;
        Some(format!("{from}: the certificate in {path:?} {doubt}"))
    }

    /// A warning if the certificate is out of its time by this wall clock, or soon will be.
    fn warning(&self, now_s: u64) -> Option<String> {
        out_of_time(
            self.files.cert.as_ref()?,
            self.span?,
            now_s,
            "clients refuse",
        )
    }
}

/// A warning if the certificate in this file, which is valid for this span, is out of its time or soon will be. `refuse` is
/// who refuses it then.
pub(super) fn out_of_time(
    file: &File,
    (begin, end): (u64, u64),
    now_s: u64,
    refuse: &str,
) -> Option<String> {
    let day = |s: u64| {
        let Date {
            year, month, day, ..
        } = Date::of_unix_ms(s * 1000);
        format!("{year:04}-{month:02}-{day:02}")
    };
    let what = if now_s < begin {
        format!("is not valid before {}: {refuse} it", day(begin))
    } else if now_s >= end {
        format!("has expired on {}: {refuse} it", day(end))
    } else if end - now_s <= WARN_S {
        let days = (end - now_s).div_ceil(DAY_S);
        let word = if days == 1 { "day" } else { "days" };
        format!("expires on {}, in {days} {word}", day(end))
    } else {
        return None;
    };
    let File { path, from } = file;
    Some(format!("{from}: the certificate in {path:?} {what}"))
}

/// The fault of a pair, told of the file that somebody has to mend.
fn fault_of(error: &rustls::Error, cert: &File, key: &File) -> NoTls {
    match pem::mismatch(error, &cert.path) {
        Mismatch::Certificate(why) => NoTls::of(cert, why),
        Mismatch::Key(why) => NoTls::of(key, why),
    }
}
