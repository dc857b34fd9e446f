//! What the store is asked and what it answers, in the JSON of etcd's gateway (etcd 3.4 and later, `/v3`). No network.
//! Invariant: what is not exactly an answer to what was asked tells nothing.
//!
//! etcd leaves members out that are false, 0 or empty, writes 64-bit numbers as strings and bytes in base64, and ignores
//! members that it does not know: so a wrong name in a request would be a request without that part.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::store::leadership::{Ask, Change, Head, Told};

/// The longest name of a server and its address, in bytes.
const NAME_MAX: usize = 1024;
/// How much of what etcd says is told to people, in bytes.
const SAID_MAX: usize = 200;

/// A request: the path and the body.
pub struct Request {
    pub path: &'static str,
    pub body: String,
}

/// Why an answer tells nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// etcd says this, or it is no answer of etcd: another endpoint may know better.
    Failed(String),
    /// The token of the user is not known, or no longer.
    Token,
    /// The user may not do that.
    Denied(String),
    /// The store has something that this server cannot read.
    Unfit(String),
}

/// The keys of a prefix.
pub struct Keys {
    head: Vec<u8>,
    log: String,
}

impl Keys {
    /// The keys below this prefix.
    pub fn new(prefix: &str) -> Keys {
        Keys {
            head: format!("{prefix}/head").into_bytes(),
            log: format!("{prefix}/log/"),
        }
    }

    /// The prefix of all keys, with a slash at its end.
    pub fn prefix(&self) -> &str {
        self.log.strip_suffix("log/").unwrap_or_default()
    }

    /// What to send to etcd.
    pub fn request(&self, ask: &Ask) -> Request {
        let (path, body) = match ask {
            Ask::Look => ("/v3/kv/range", json!({"key": base64(&self.head)})),
            Ask::Change(change) => ("/v3/kv/txn", self.change(change)),
            Ask::Load { from, count } => ("/v3/kv/range", self.load(*from, *count)),
            Ask::Compact { revision } => (
                "/v3/kv/compaction",
                json!({"revision": revision.to_string()}),
            ),
        };
        let body = body.to_string();
        Request { path, body }
    }

    fn change(&self, change: &Change) -> Value {
        let head = base64(&self.head);
        let compare = json!({
            "key": head, "target": "MOD", "result": "EQUAL",
            "mod_revision": change.revision.to_string(),
        });
        let mut success = vec![put(&self.head, &head_to_json(&change.head))];
        if let Some(batch) = &change.batch {
            success.push(put(&self.batch(change.head.number), batch));
        }
        if let Some(number) = change.keep_from {
            let (from, to) = (base64(&self.batch(0)), base64(&self.batch(number)));
            success.push(json!({"request_delete_range": {"key": from, "range_end": to}}));
        }
        let failure = json!([{"request_range": {"key": head}}]);
        json!({"compare": [compare], "success": success, "failure": failure})
    }

    fn load(&self, from: u64, count: u64) -> Value {
        // The byte behind the slash ends the range of all that begins with it.
        let end = format!("{}0", &self.log[..self.log.len() - 1]);
        json!({
            "key": base64(&self.batch(from)), "range_end": base64(end.as_bytes()),
            "limit": count.to_string(), "sort_order": "ASCEND", "sort_target": "KEY",
        })
    }

    fn batch(&self, number: u64) -> Vec<u8> {
        format!("{}{number:016x}", self.log).into_bytes()
    }

    /// What an answer tells.
    ///
    /// # Errors
    /// It tells nothing.
    pub fn told(&self, ask: &Ask, status: u16, body: &[u8]) -> Result<Told, Failure> {
        let answer: Value = serde_json::from_slice(body).map_err(|_| strange(status, body))?;
        if status != 200 {
            let failure = failure(status, &answer, body);
            // Somebody else was faster.
            let is_done = matches!(ask, Ask::Compact { .. })
                && matches!(&failure, Failure::Failed(what) if what.contains("has been compacted"));
            return if is_done {
                Ok(Told::Compacted)
            } else {
                Err(failure)
            };
        }
        let header = |answer: &Value| number(&answer["header"]["revision"]);
        let revision = header(&answer).ok_or_else(|| strange(status, body))?;
        match ask {
            Ask::Look => Ok(Told::Head(self.head(&answer)?)),
            Ask::Change(_) if answer["succeeded"] == true => Ok(Told::Changed(revision)),
            Ask::Change(_) => {
                let range = &answer["responses"][0]["response_range"];
                if !range.is_object() {
                    return Err(strange(status, body));
                }
                Ok(Told::Refused(self.head(range)?))
            }
            Ask::Load { from, .. } => self.batches(*from, &answer),
            Ask::Compact { .. } => Ok(Told::Compacted),
        }
    }

    /// The head in an answer to a range of its key.
    fn head(&self, range: &Value) -> Result<Option<(u64, Head)>, Failure> {
        let Some(entry) = range["kvs"].get(0) else {
            return Ok(None);
        };
        let unfit = || {
            Failure::Unfit(
                "a server of another version, or another program, has written the head".into(),
            )
        };
        let revision = number(&entry["mod_revision"]).ok_or_else(unfit)?;
        let head = bytes(&entry["value"]).and_then(|value| head_from_json(&value));
        Ok(Some((revision, head.ok_or_else(unfit)?)))
    }

    fn batches(&self, from: u64, range: &Value) -> Result<Told, Failure> {
        let mut batches: Vec<(u64, Vec<u8>)> = Vec::new();
        let entries = match &range["kvs"] {
            Value::Null => &[][..],
            Value::Array(entries) => entries,
            _ => return Err(Failure::Failed("not an answer of etcd: kvs".into())),
        };
        let has_more = range["more"] == true;
        if has_more && entries.is_empty() {
            return Err(Failure::Failed(
                "not an answer of etcd: more of nothing".into(),
            ));
        }
        for entry in entries {
            let key = bytes(&entry["key"]).and_then(|key| String::from_utf8(key).ok());
            let number = key.as_deref().and_then(|key| {
                let digits = key.strip_prefix(&self.log)?;
                let number = u64::from_str_radix(digits, 16).ok()?;
                (digits == format!("{number:016x}")).then_some(number)
            });
            // An empty value is left out.
            let value = match &entry["value"] {
                Value::Null => Some(Vec::new()),
                value => bytes(value),
            };
            let unfit = || Failure::Unfit(format!("a key below the log is no batch: {key:?}"));
            let (number, value) = number.zip(value).ok_or_else(unfit)?;
            let least = batches
                .last()
                .map_or(from, |(last, _)| last.saturating_add(1));
            if number < least {
                return Err(Failure::Failed(
                    "not an answer of etcd: batches out of order".into(),
                ));
            }
            batches.push((number, value));
        }
        Ok(Told::Batches(batches, has_more))
    }
}

/// The request for a token, which a user has by a password.
pub fn authenticate(user: &str, password: &str) -> Request {
    Request {
        path: "/v3/auth/authenticate",
        body: json!({"name": user, "password": password}).to_string(),
    }
}

/// The token in the answer to that.
///
/// # Errors
/// There is none.
pub fn token(status: u16, body: &[u8]) -> Result<String, Failure> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| strange(status, body))?;
    match answer["token"].as_str() {
        Some(token) if status == 200 && token.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(token.to_string())
        }
        Some(_) if status == 200 => Err(strange(status, b"a token that is no header")),
        _ => Err(failure(status, &answer, body)),
    }
}

/// What etcd says instead of an answer. Its words are part of its interface: the codes are shared by many errors.
fn failure(status: u16, answer: &Value, body: &[u8]) -> Failure {
    let said = answer["error"].as_str().or(answer["message"].as_str());
    match said {
        Some(said)
            if [
                "invalid auth token",
                "user name is empty",
                // Somebody has changed a user or a role since the token was given.
                "revision of auth store is old",
                "revision in header is old",
            ]
            .iter()
            .any(|known| said.contains(known)) =>
        {
            Failure::Token
        }
        Some(said)
            if said.contains("permission denied") || said.contains("authentication failed") =>
        {
            Failure::Denied(beginning(said))
        }
        Some(said) => Failure::Failed(beginning(said)),
        None => strange(status, body),
    }
}

/// As much of a text as people are told.
fn beginning(said: &str) -> String {
    let bytes = &said.as_bytes()[..said.len().min(SAID_MAX)];
    String::from_utf8_lossy(bytes).into_owned()
}

/// Not an answer of etcd.
fn strange(status: u16, body: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(&body[..body.len().min(100)]);
    Failure::Failed(format!(
        "not an answer of etcd: {status}, {:?}",
        text.trim()
    ))
}

fn put(key: &[u8], value: &[u8]) -> Value {
    json!({"request_put": {"key": base64(key), "value": base64(value)}})
}

fn head_to_json(head: &Head) -> Vec<u8> {
    let hex = |id: [u8; 16]| format!("{:032x}", u128::from_be_bytes(id));
    let value = json!({
        "version": 1, "cluster": hex(head.cluster), "life": hex(head.life), "node": head.node,
        "address": head.address, "number": head.number, "largest": head.largest, "leads": head.leads,
        "left": head.left,
    });
    value.to_string().into_bytes()
}

fn head_from_json(bytes: &[u8]) -> Option<Head> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let id = |name: &str| {
        let digits = value[name].as_str().filter(|digits| digits.len() == 32)?;
        Some(u128::from_str_radix(digits, 16).ok()?.to_be_bytes())
    };
    let text = |name: &str| {
        let text = value[name].as_str().filter(|text| text.len() <= NAME_MAX)?;
        Some(text.to_string())
    };
    (value["version"] == 1).then_some(())?;
    Some(Head {
        cluster: id("cluster")?,
        life: id("life")?,
        node: text("node")?,
        address: text("address")?,
        // More than this is no count of changes.
        number: value["number"]
            .as_u64()
            .filter(|&number| number < u64::MAX / 2)?,
        largest: value["largest"].as_u64()?,
        leads: value["leads"].as_bool()?,
        left: value["left"].as_bool()?,
    })
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(value.as_str()?).ok()
}

/// A number that etcd writes as a string.
fn number(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests;
