//! The options for TLS and the variable beside them, as they are read. Any of them switches TLS on. What TLS does with
//! them is the client library's. Invariant: a mistake names its option and its file, and nobody is asked before.

use std::ffi::OsString;

use dflockd::client::Tls;

/// The variable that names the file of the authorities.
const CA: &str = "DFLOCK_TLS_CA";

/// What was said of TLS.
#[derive(Default)]
pub struct Said {
    /// The first option or variable; None if TLS is off.
    first: Option<String>,
    /// The file, and what has named it.
    ca: Option<(&'static str, OsString)>,
    certificate: Option<OsString>,
    key: Option<OsString>,
    server_name: Option<OsString>,
}

impl Said {
    /// What the environment says.
    pub fn by(env: impl Fn(&str) -> Option<OsString>) -> Said {
        let ca = env(CA).filter(|value| !value.is_empty());
        Said {
            first: ca.as_ref().map(|_| CA.to_string()),
            ca: ca.map(|value| (CA, value)),
            ..Said::default()
        }
    }

    /// TLS is on, and `name` has said so.
    pub fn on(name: &str) -> Said {
        let first = Some(name.to_string());
        Said {
            first,
            ..Said::default()
        }
    }

    /// Takes an option and its value, if it is one of TLS; whether it is.
    pub fn take(
        &mut self,
        name: &str,
        mut value: impl FnMut() -> Result<OsString, String>,
    ) -> Result<bool, String> {
        match name {
            "--tls" => {}
            "--tls-ca" => self.ca = Some(("--tls-ca", value()?)),
            "--tls-cert" => self.certificate = Some(value()?),
            "--tls-key" => self.key = Some(value()?),
            "--tls-server-name" => self.server_name = Some(value()?),
            _ => return Ok(false),
        }
        self.first.get_or_insert_with(|| name.to_string());
        Ok(true)
    }

    /// How to use TLS; None if it is off.
    #[cfg(feature = "tls")]
    pub fn read(self) -> Result<Option<Tls>, String> {
        use dflockd::client::{TlsFiles, TlsPart};
        match (&self.first, &self.certificate, &self.key) {
            (None, ..) => return Ok(None),
            (_, Some(_), None) => return Err("--tls-cert: want --tls-key beside it".to_string()),
            (_, None, Some(_)) => return Err("--tls-key: want --tls-cert beside it".to_string()),
            _ => {}
        }
        let (source, ca) = self.ca.unzip();
        let name = self.server_name;
        let name = name.map(|name| name.to_string_lossy().into_owned());
        let files = TlsFiles {
            ca: ca.map(Into::into),
            certificate: self.certificate.map(Into::into),
            key: self.key.map(Into::into),
            server_name: name,
        };
        let tls = Tls::new(&files).map_err(|bad| {
            let option = match bad.part {
                TlsPart::Ca => source.unwrap_or("--tls-ca"),
                TlsPart::Certificate => "--tls-cert",
                TlsPart::Key => "--tls-key",
                TlsPart::ServerName => "--tls-server-name",
            };
            format!("{option}: {bad}")
        });
        tls.map(Some)
    }

    /// Fails unless TLS is off: this build has none.
    #[cfg(not(feature = "tls"))]
    pub fn read(self) -> Result<Option<Tls>, String> {
        match self.first {
            Some(name) => Err(format!("{name}: this build has no TLS")),
            None => Ok(None),
        }
    }
}
