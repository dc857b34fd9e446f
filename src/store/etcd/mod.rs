//! etcd as a store that several servers share: one helper thread asks it, one request after the other, and wakes the loop
//! with each answer. Not here: what is asked and why, which `leadership.rs` decides. Invariant: each request has one
//! answer, and whatever is not clear is told as nothing.

mod gateway;

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;
use std::{fmt, io};

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::leadership::{Ask, Told};
use crate::tls::{pem, provider};
use gateway::{Failure, Keys, Request};

/// How long etcd has for an answer. Without a quorum it would say so after 7 s.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest answer, in bytes: more than a page of batches in base64.
const ANSWER_MAX: u64 = 32 << 20;

/// Where the store is and who may use it.
pub struct Settings {
    /// The addresses of its members, `http://` or `https://`, without a path. One is asked until it fails.
    pub endpoints: Vec<String>,
    /// What all keys begin with.
    pub prefix: String,
    /// A name and a password.
    pub user: Option<(String, String)>,
    /// The authorities to trust, in PEM; None for those of the machine.
    pub ca: Option<Vec<u8>>,
    /// The own certificate and its key, in PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// The part of the settings that cannot be used, and why.
#[derive(Debug)]
pub enum Unusable {
    /// The authorities.
    Ca(String),
    /// The own certificate.
    Cert(String),
    /// Its key.
    Key(String),
    /// One of both, or both together.
    Pair(rustls::Error),
}

/// An answer, and what to tell people of it.
#[derive(Debug)]
pub enum Answer {
    /// This is what the store says.
    Told(Told),
    /// It says nothing that can be relied on, at this address and for this reason.
    Failed(String, String),
    /// Nobody may have it forget anything.
    NoCompaction(String),
    /// No answer will ever be better.
    Hopeless(String),
}

/// The loop's end of the helper thread.
pub struct Etcd {
    asks: Sender<Ask>,
    answers: Receiver<Answer>,
}

impl Etcd {
    /// Starts the thread. It calls `wake` after each answer.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start(mut client: Client, wake: impl Fn() + Send + 'static) -> io::Result<Etcd> {
        let (asks, to_do) = channel();
        let (done, answers) = channel();
        let work = move || {
            for ask in to_do {
                if done.send(client.ask(&ask)).is_err() {
                    break;
                }
                wake();
            }
        };
        thread::Builder::new().name("etcd".into()).spawn(work)?;
        Ok(Etcd { asks, answers })
    }

    /// Asks something. There must be no other request without an answer.
    pub fn ask(&self, ask: Ask) {
        self.asks
            .send(ask)
            .expect("the thread lives as long as this");
    }

    /// The next answer, if it has come.
    pub fn answer(&self) -> Option<Answer> {
        match self.answers.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the thread of etcd has ended"),
        }
    }
}

/// The thread's end.
pub struct Client {
    agent: Agent,
    keys: Keys,
    endpoints: Vec<String>,
    /// Which of them is asked.
    at: usize,
    /// Whether it was ever answered: then a right that is missing may come back.
    is_known: bool,
    user: Option<(String, String)>,
    /// The token of the user; an empty one while etcd asks for none.
    token: Option<String>,
}

impl Client {
    /// A client that has asked nothing.
    ///
    /// # Errors
    /// A certificate or a key cannot be used.
    pub fn new(settings: Settings) -> Result<Client, Unusable> {
        let tls = tls(settings.ca.as_deref(), settings.identity.as_ref())?;
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .tls_config(tls)
            .build();
        Ok(Client {
            agent: config.into(),
            keys: Keys::new(&settings.prefix),
            endpoints: settings.endpoints,
            at: 0,
            is_known: false,
            user: settings.user,
            token: None,
        })
    }

    fn ask(&mut self, ask: &Ask) -> Answer {
        let mut told = self.try_ask(ask);
        if told == Err(Failure::Token) && self.user.is_some() {
            // It was too old, or its member has been started again.
            self.token = None;
            told = self.try_ask(ask);
        }
        let endpoint = &self.endpoints[self.at];
        match told {
            Ok(told) => {
                self.is_known = true;
                Answer::Told(told)
            }
            Err(Failure::Denied(what)) if matches!(ask, Ask::Compact { .. }) => {
                Answer::NoCompaction(what)
            }
            Err(Failure::Denied(what)) if !self.is_known => {
                let user = self.user.as_ref().map(|(name, _)| name.as_str());
                let user = user.unwrap_or("of the certificate, or none");
                Answer::Hopeless(format!(
                    "etcd at {endpoint}: {what} (user {user}, keys below {})",
                    self.keys.prefix()
                ))
            }
            Err(Failure::Unfit(what)) => Answer::Hopeless(what),
            Err(failure) => {
                let answer = Answer::Failed(endpoint.clone(), failure.to_string());
                self.at = (self.at + 1) % self.endpoints.len();
                answer
            }
        }
    }

    fn try_ask(&mut self, ask: &Ask) -> Result<Told, Failure> {
        if let (Some((user, password)), None) = (&self.user, &self.token) {
            let (status, body) = self.post(&gateway::authenticate(user, password))?;
            self.token = Some(match gateway::token(status, &body) {
                // Somebody has turned that off. Should it be turned on again, a request without a token is refused.
                Err(Failure::Failed(what)) if what.contains("authentication is not enabled") => {
                    String::new()
                }
                token => token?,
            });
        }
        let (status, body) = self.post(&self.keys.request(ask))?;
        self.keys.told(ask, status, &body)
    }

    fn post(&self, request: &Request) -> Result<(u16, Vec<u8>), Failure> {
        let url = format!("{}{}", self.endpoints[self.at], request.path);
        let mut message = self
            .agent
            .post(url)
            .header("Content-Type", "application/json");
        if let Some(token) = self.token.as_ref().filter(|token| !token.is_empty()) {
            message = message.header("Authorization", token);
        }
        let failed = |error: ureq::Error| {
            Failure::Failed(match error {
                ureq::Error::Timeout(_) => format!("no answer in {} s", PATIENCE.as_secs()),
                error => error.to_string(),
            })
        };
        let mut answer = message.send(request.body.as_bytes()).map_err(failed)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_MAX);
        Ok((status, body.read_to_vec().map_err(failed)?))
    }
}

/// Whom to trust, and who this is.
fn tls(ca: Option<&[u8]>, identity: Option<&(Vec<u8>, Vec<u8>)>) -> Result<TlsConfig, Unusable> {
    let passed = |all: Vec<CertificateDer>| {
        let all = all
            .iter()
            .map(|each| Certificate::from_der(each).to_owned());
        all.collect::<Vec<_>>()
    };
    let roots = match ca {
        Some(text) => {
            pem::authorities(text).map_err(Unusable::Ca)?;
            pem::certificates(text).map_err(Unusable::Ca)?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut config = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider())
        .root_certs(RootCerts::new_with_certs(&passed(roots)));
    if let Some((certificate, key)) = identity {
        let chain = pem::certificates(certificate).map_err(Unusable::Cert)?;
        let secret = pem::key(key).map_err(Unusable::Key)?;
        let key =
            PrivateKey::from_pem(pem::plain(key)).map_err(|e| Unusable::Key(e.to_string()))?;
        // ureq takes any pair, and panics with one that does not fit.
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for both versions")
            .with_root_certificates(RootCertStore::empty())
            .with_client_auth_cert(chain.clone(), secret)
            .map_err(Unusable::Pair)?;
        config = config.client_cert(Some(ClientCert::new_with_certs(&passed(chain), key)));
    }
    Ok(config.build())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failure::Failed(what) | Failure::Denied(what) | Failure::Unfit(what) => {
                f.write_str(what)
            }
            Failure::Token => {
                f.write_str("it wants a user: give --etcd-user and --etcd-password-file")
            }
        }
    }
}

#[cfg(test)]
mod tests;
