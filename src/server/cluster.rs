//! This server among those that share a store: it asks etcd what `leadership.rs` wants to know, cuts the facts of the hub
//! into batches, and reads what the leaders before have left. Not here: what the server does when it leads, which is in
//! `lead.rs`. Invariant: there is one batch at a time, and the hub is told that it is kept only when etcd has said so.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::io;
use std::sync::Arc;

use mio::{Registry, Token, Waker};

use super::lead::Step;
use super::{fill, tls, unix_us};
use crate::command::{SECOND, Us};
use crate::config::{self, Config, File, content, secret_in};
use crate::facts::Facts;
use crate::hub::{Hub, Standing};
use crate::log::{Fields, Log};
use crate::store::etcd::{Answer, Client, Etcd, Settings, Unusable};
use crate::store::leadership::{Event, Head, Leadership, Loss, Told};
use crate::store::log::{self, Room, Writer};
use crate::sys;
use crate::tls::certificate;
use crate::tls::pem::{self, Mismatch};

/// How much of a file is read: hundreds of certificates.
const FILE_MAX: u64 = 1024 * 1024;
/// An etcd that has not answered for so long is away.
const SILENT: Us = 3 * SECOND;
/// While etcd does not answer, the log is told so often.
const TELL: Us = 10 * SECOND;

/// The etcd that servers share, as the options name it.
pub struct Store(Client);

/// Why etcd cannot be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoStore {
    why: String,
    is_unread: bool,
}

impl NoStore {
    fn new(why: String, is_unread: bool) -> NoStore {
        NoStore { why, is_unread }
    }

    /// Whether a file could not be read, so that nothing is known of what is in it.
    pub fn is_unread(&self) -> bool {
        self.is_unread
    }
}

impl Display for NoStore {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Store {
    /// The store, if there is to be one; its files are read now. The texts are warnings: a file that every user may read, a
    /// certificate that ends soon.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn read(
        config: &config::Etcd,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Store>, NoStore> {
        if !config.is_there() {
            return Ok(None);
        }
        let password = config.password.as_ref().map(|file| {
            let password = secret_in(&file.from, OsStr::new(&file.path));
            password.map_err(|e| NoStore::new(e.to_string(), e.is_unread))
        });
        for file in [&config.password, &config.key].into_iter().flatten() {
            warnings.extend(file.exposure());
        }
        let password = password.transpose()?;
        let password = password.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let of = |file: &Option<File>| file.as_ref().map(read).transpose();
        let cert = of(&config.cert)?;
        if let (Some(file), Some(text)) = (&config.cert, &cert) {
            warnings.extend(out_of_time(file, text));
        }
        let client = Client::new(Settings {
            endpoints: config.endpoints.clone(),
            prefix: config.prefix.clone(),
            user: config.user.clone().zip(password),
            ca: of(&config.ca)?,
            identity: cert.zip(of(&config.key)?),
        });
        client
            .map(|client| Some(Store(client)))
            .map_err(|what| unusable(config, what))
    }
}

/// A warning if the certificate of this server is out of its time, or soon will be.
fn out_of_time(file: &File, text: &[u8]) -> Option<String> {
    let chain = pem::certificates(text).ok()?;
    let span = certificate::span_s(chain.first()?)?;
    tls::out_of_time(file, span, unix_us() / SECOND, "etcd refuses")
}

/// The message about what cannot be used, which names the file that somebody has to mend.
fn unusable(config: &config::Etcd, what: Unusable) -> NoStore {
    let file = |file: &Option<File>| file.clone().expect("its text was read");
    let (file, why) = match what {
        Unusable::Ca(why) => (file(&config.ca), why),
        Unusable::Cert(why) => (file(&config.cert), why),
        Unusable::Key(why) => (file(&config.key), why),
        Unusable::Pair(error) => {
            let cert = file(&config.cert);
            match pem::mismatch(&error, &cert.path) {
                Mismatch::Certificate(why) => (cert, why),
                Mismatch::Key(why) => (file(&config.key), why),
            }
        }
    };
    let File { from, path, .. } = file;
    NoStore::new(format!("{from}: cannot use {path:?}: {why}"), false)
}

fn read(file: &File) -> Result<Vec<u8>, NoStore> {
    let text = content(OsStr::new(&file.path), FILE_MAX, false);
    text.map_err(|e| {
        let why = format!("{}: cannot read {:?}: {e}", file.from, file.path);
        NoStore::new(why, true)
    })
}

/// One server's part, and its store.
pub(super) struct Cluster {
    leadership: Leadership,
    etcd: Etcd,
    /// The log of the leaders before, while it is read, and what goes on with it.
    log: log::Log,
    writer: Writer,
    /// When this server took the lead, and the number of the change that gave it.
    took: Us,
    first: u64,
    /// It is about to leave, and what it keeps now is the last.
    has_last: bool,
    /// When the log may be told next that etcd does not answer, and why it did not the last time.
    tell: Us,
    trouble: String,
    bytes: Vec<u8>,
}

impl Cluster {
    /// A server that stands by. Each answer of the store wakes the loop by this token.
    ///
    /// # Errors
    /// The system refuses a thread or a waker, or has no random numbers.
    pub fn start(
        config: &Config,
        store: Store,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Cluster> {
        let now = sys::now();
        let waker = Arc::new(Waker::new(registry, token)?);
        let etcd = Etcd::start(store.0, move || {
            // It fails only if its descriptor is bad, which no later call could mend.
            let _ = waker.wake();
        })?;
        let (mut cluster, mut life) = ([0; 16], [0; 16]);
        fill(&mut cluster)?;
        fill(&mut life)?;
        let head = Head {
            cluster,
            life,
            node: config.etcd.node.clone(),
            address: config.place().unwrap_or_default(),
            number: 0,
            largest: 0,
            leads: false,
            left: false,
        };
        let config::Etcd {
            failover_after,
            compact,
            ..
        } = config.etcd;
        Ok(Cluster {
            leadership: Leadership::new(head, failover_after, compact, now),
            etcd,
            log: log::Log::default(),
            writer: Writer::new(Room::ETCD),
            took: now,
            first: 0,
            has_last: false,
            tell: 0,
            trouble: String::new(),
            bytes: Vec::new(),
        })
    }

    /// The next answer of the store, if there is one, and what it leads to.
    ///
    /// # Errors
    /// The store has something that this server cannot use, or lets nobody in: no later answer will be better.
    pub fn hear(&mut self, now: Us, log: &mut Log) -> io::Result<Option<Step>> {
        let told = match self.etcd.answer() {
            None => return Ok(None),
            Some(Answer::Told(told)) => told,
            Some(Answer::Failed(endpoint, error)) => {
                self.tell_silence(now, &endpoint, &error, log);
                self.trouble = error;
                Told::Nothing
            }
            Some(Answer::NoCompaction(error)) => {
                log.warn(unix_us(), "compaction-denied", &[("error", &error)]);
                self.leadership.stop_compacting();
                Told::Compacted
            }
            Some(Answer::Hopeless(why)) => return Err(io::Error::other(why)),
        };
        let event = self.leadership.told(now, told);
        self.act(event, now, log).map(Some)
    }

    /// Time has passed.
    ///
    /// # Errors
    /// As for [`Cluster::hear`].
    pub fn wait(&mut self, now: Us, log: &mut Log) -> io::Result<Step> {
        let event = self.leadership.silence(now);
        self.act(event, now, log)
    }

    fn act(&mut self, event: Event, now: Us, log: &mut Log) -> io::Result<Step> {
        Ok(match event {
            Event::Nothing => Step::Nothing,
            Event::Took => {
                self.took = now;
                self.first = self.leadership.head().number;
                Step::Nothing
            }
            Event::Read(batches, is_all) => {
                for (number, batch) in batches {
                    if number >= self.first {
                        return Err(self.removed(number));
                    }
                    self.writer.found(batch.len());
                    self.log.add(number, batch).map_err(unfit)?;
                }
                if !is_all {
                    return Ok(Step::Nothing);
                }
                // To make the holds takes time, and the others may hear meanwhile that somebody leads.
                self.ask(now);
                let read = std::mem::take(&mut self.log);
                Step::Lead(read.end().map_err(unfit)?)
            }
            Event::Kept => Step::Kept,
            Event::Left => Step::Left,
            Event::Lost(loss) => {
                let own = &self.leadership.head().node;
                let why = match loss {
                    Loss::Taken(node) if node == *own => {
                        format!(
                            "another server has the name {own} and leads: give each its own --node"
                        )
                    }
                    Loss::Taken(node) => format!("{node} leads"),
                    Loss::Silence if self.trouble.is_empty() => "etcd does not answer".to_string(),
                    Loss::Silence => format!("etcd does not answer: {}", self.trouble),
                    Loss::Removed => "somebody has removed the keys from etcd".to_string(),
                    Loss::SameName => {
                        return Err(io::Error::other(format!(
                            "another server has the name {own} and has taken the lead: give each its own --node"
                        )));
                    }
                };
                log.error(unix_us(), "lost", &[("why", &why)]);
                Step::Lost
            }
        })
    }

    /// There is a batch that no leader before can have made.
    fn removed(&self, number: u64) -> io::Error {
        io::Error::other(format!(
            "the log in etcd cannot be used: batch {number:016x} is newer than the head, so somebody has removed or changed \
             that: if no lease can still run, remove all keys below the prefix from etcd"
        ))
    }

    fn tell_silence(&mut self, now: Us, endpoint: &str, error: &str, log: &mut Log) {
        if now < self.tell {
            return;
        }
        self.tell = now.saturating_add(TELL);
        let silent = now.saturating_sub(self.leadership.answered()) / SECOND;
        let fields: Fields = &[
            ("endpoint", &endpoint),
            ("error", &error),
            ("silent_s", &silent),
        ];
        log.warn(unix_us(), "etcd-silent", fields);
    }

    /// Whether this server should have a place for clients, because it leads or is about to.
    pub fn is_to_lead(&self, now: Us) -> bool {
        self.leadership.is_to_lead(now)
    }

    /// Asks the store what is to be asked now.
    pub fn ask(&mut self, now: Us) {
        if let Some(ask) = self.leadership.ask(now) {
            self.etcd.ask(ask);
        }
    }

    /// Gives the facts of the hub to the store, unless others are on their way.
    pub fn keep(&mut self, now: Us, hub: &mut Hub) {
        let facts = hub.facts();
        if facts.is_empty() || !self.leadership.wants_batch() {
            return;
        }
        let count = facts.count();
        self.bytes.clear();
        hub.cut(&mut self.bytes);
        let locks = hub.locks();
        let at = (locks.fence().saturating_add(1), now);
        let restate = |from, places, facts: &mut Facts| locks.restate(from, places, facts);
        let batch = self.writer.batch(&mut self.bytes, count, at, restate);
        self.leadership.give(batch);
    }

    /// This server stops. What has happened until now is kept; what happens later, such as the end of a lease, is left to
    /// the next leader. Whether the server may end now, because the others need not be told that it does.
    pub fn leave(&mut self, now: Us, hub: &mut Hub) -> bool {
        if !hub.has_batch() && !std::mem::replace(&mut self.has_last, true) {
            self.keep(now, hub);
        }
        !hub.has_batch() && self.leadership.leave() == Event::Left
    }

    /// When something is to be done although nothing happens.
    pub fn deadline(&self) -> Option<Us> {
        self.leadership.deadline()
    }

    /// How long the server has taken until now to lead.
    pub fn taken(&self, now: Us) -> Us {
        now - self.took
    }

    /// The secret that all servers share.
    pub fn secret(&self) -> [u8; 16] {
        self.leadership.head().cluster
    }

    /// The leader as a server knows it that does not lead: the name, and the address if that says more.
    pub fn known(&self, now: Us) -> String {
        if self.is_silent(now) {
            return match self.trouble.as_str() {
                "" => "etcd does not answer".to_string(),
                why => format!("etcd does not answer: {why}"),
            };
        }
        match self.leadership.leader() {
            _ if !self.leadership.stands_by() => "it is about to lead".to_string(),
            None => "nobody leads".to_string(),
            Some(Head { node, address, .. }) if address.is_empty() || address == node => {
                format!("{node} leads")
            }
            Some(Head { node, address, .. }) => format!("{node} at {address} leads"),
        }
    }

    /// Whether etcd has not answered for longer than it may take.
    pub fn is_silent(&self, now: Us) -> bool {
        now >= self.leadership.answered().saturating_add(SILENT)
    }

    /// The part of this server, for `stats` and the metrics.
    pub fn standing(&self) -> Standing {
        Standing {
            leads: self.leadership.leads(),
            revision: self.leadership.revision(),
            answered: self.leadership.answered(),
        }
    }
}

fn unfit(fault: log::Fault) -> io::Error {
    io::Error::other(format!("the log in etcd cannot be used: {fault}"))
}
