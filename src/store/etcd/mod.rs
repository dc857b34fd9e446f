//! etcd as a store that several servers share: one helper thread asks it, one request after the other, and wakes the loop
//! with each answer. Not here: what is asked and why, which `leadership.rs` decides. Invariant: each request has one
//! answer, and whatever is not clear is told as nothing.

mod gateway;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;
use std::{fmt, io};

use rustls::crypto::ring;
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::leadership::{Ask, Told};
use crate::tls::pem;
use gateway::{Failure, Keys, Request};

/// How long etcd has for an answer. Without a quorum it would say so after 7 s.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest answer: the least page of batches, of half a megabyte each, in base64.
const ANSWER_MAX: u64 = 32 << 20;
/// How many batches an answer has at least and at most, if there are so many. Small ones come by thousands, and each answer
/// takes a millisecond.
const PAGES: RangeInclusive<usize> = 1..=4096;
/// How many the first answer has.
const PAGE: usize = 16;
/// After an answer with less than this, in bytes, the next one has more batches; after one with more than that, fewer.
const SHORT: usize = 1 << 20;
const LONG: usize = 8 << 20;

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
    /// How many batches the next answer has at most.
    page: usize,
    /// Whether it was ever answered: then a right that is missing may come back.
    is_known: bool,
    user: Option<(String, String)>,
    token: Option<String>,
}

impl Client {
    /// A client that has asked nothing.
    ///
    /// # Errors
    /// A certificate or a key cannot be used.
    pub fn new(settings: Settings) -> Result<Client, String> {
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
            page: PAGE,
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
                Answer::Hopeless(format!("etcd at {endpoint}: {what}"))
            }
            Err(Failure::Unfit(what)) => Answer::Hopeless(what),
            Err(failure) => {
                let answer = Answer::Failed(endpoint.clone(), failure.to_string());
                // It may have been too long.
                self.page = (self.page / 4).max(*PAGES.start());
                self.at = (self.at + 1) % self.endpoints.len();
                answer
            }
        }
    }

    fn try_ask(&mut self, ask: &Ask) -> Result<Told, Failure> {
        if let (Some((user, password)), None) = (&self.user, &self.token) {
            let (status, body) = self.post(&gateway::authenticate(user, password))?;
            self.token = Some(gateway::token(status, &body)?);
        }
        let (status, body) = self.post(&self.keys.request(ask, self.page))?;
        let told = self.keys.told(ask, status, &body)?;
        if matches!(ask, Ask::Load { .. }) {
            self.page = match body.len() {
                ..SHORT => (self.page * 4).min(*PAGES.end()),
                LONG.. => (self.page / 2).max(*PAGES.start()),
                _ => self.page,
            };
        }
        Ok(told)
    }

    fn post(&self, request: &Request) -> Result<(u16, Vec<u8>), Failure> {
        let url = format!("{}{}", self.endpoints[self.at], request.path);
        let mut message = self
            .agent
            .post(url)
            .header("Content-Type", "application/json");
        if let Some(token) = &self.token {
            message = message.header("Authorization", token);
        }
        let failed = |error: ureq::Error| Failure::Failed(error.to_string());
        let mut answer = message.send(request.body.as_bytes()).map_err(failed)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_MAX);
        Ok((status, body.read_to_vec().map_err(failed)?))
    }
}

/// Whom to trust, and who this is.
fn tls(ca: Option<&[u8]>, identity: Option<&(Vec<u8>, Vec<u8>)>) -> Result<TlsConfig, String> {
    let known = |text: &[u8]| {
        let all = pem::certificates(text)?.into_iter();
        Ok::<Vec<_>, String>(
            all.map(|each| Certificate::from_der(&each).to_owned())
                .collect(),
        )
    };
    let roots = match ca {
        Some(text) => known(text).map_err(|what| format!("the authority: {what}"))?,
        None => {
            let found = rustls_native_certs::load_native_certs().certs.into_iter();
            found
                .map(|each| Certificate::from_der(&each).to_owned())
                .collect()
        }
    };
    let mut config = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots));
    if let Some((certificate, key)) = identity {
        let chain = known(certificate).map_err(|what| format!("the certificate: {what}"))?;
        pem::key(key).map_err(|what| format!("the key: {what}"))?;
        let key = PrivateKey::from_pem(key).map_err(|e| format!("the key: {e}"))?;
        config = config.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
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
