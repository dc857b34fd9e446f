//! One member of etcd, as far as a server asks it: ranges, transactions and compactions over its gateway. It can be silent, keep
//! its answers back, and deny. It knows no rule of who leads. Invariant: revisions rise with each change.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How it treats what it is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Answers,
    /// Nothing is done, and connections stay open without a word.
    Silent,
    /// Changes wait until it is in another mood; the rest is answered.
    HoldsChanges,
    /// It has no room for a change; the rest is answered.
    Full,
    /// Nobody may do anything.
    Denies,
}

struct State {
    mood: Mood,
    revision: u64,
    /// Value and revision of the last change, by key.
    keys: BTreeMap<String, (Vec<u8>, u64)>,
    /// The revision before which everything is forgotten; None if nobody may have that.
    compacted: Option<u64>,
}

#[derive(Clone)]
pub struct Store {
    pub addr: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Store {
    pub fn new() -> Store {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = State {
            mood: Mood::Answers,
            revision: 1,
            keys: BTreeMap::new(),
            compacted: Some(0),
        };
        let store = Store {
            addr: listener.local_addr().unwrap(),
            shared: Arc::new((Mutex::new(state), Condvar::new())),
        };
        let serving = store.clone();
        // It ends with the test program.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let store = serving.clone();
                thread::spawn(move || store.serve(&client));
            }
        });
        store
    }

    /// As `--etcd` has it.
    pub fn option(&self) -> String {
        format!("--etcd=http://{}", self.addr)
    }

    pub fn set(&self, mood: Mood) {
        self.state().mood = mood;
        self.shared.1.notify_all();
    }

    /// The head, if somebody has ever led.
    pub fn head(&self) -> Option<Value> {
        let state = self.state();
        let (value, _) = state.keys.get("/dflockd/head")?;
        Some(serde_json::from_slice(value).expect("the head is JSON"))
    }

    /// How many batches there are.
    pub fn batches(&self) -> usize {
        let log = "/dflockd/log/".to_string();
        self.state().keys.range(log..).count()
    }

    /// Before which revision everything is forgotten.
    pub fn compacted(&self) -> u64 {
        self.state().compacted.unwrap_or_default()
    }

    /// Nobody may have it forget anything.
    pub fn deny_compaction(&self) {
        self.state().compacted = None;
    }

    /// Somebody changes a key behind the servers' backs; None removes it.
    pub fn meddle(&self, key: &str, value: Option<&[u8]>) {
        let mut state = self.state();
        state.revision += 1;
        let revision = state.revision;
        match value {
            Some(value) => drop(state.keys.insert(key.into(), (value.to_vec(), revision))),
            None => drop(state.keys.remove(key)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    fn serve(&self, client: &TcpStream) {
        let mut lines = BufReader::new(client);
        while let Some((path, body)) = read(&mut lines) {
            let (status, answer) = self.answer(&path, &body);
            let text = answer.to_string();
            let length = text.len();
            let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n");
            let mut out = client;
            if out.write_all(format!("{head}{text}").as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, path: &str, body: &Value) -> (u16, Value) {
        let waits = |state: &mut State| match state.mood {
            Mood::Silent => true,
            Mood::HoldsChanges => path == "/v3/kv/txn",
            Mood::Answers | Mood::Full | Mood::Denies => false,
        };
        let state = self.shared.1.wait_while(self.state(), waits);
        let mut state = state.unwrap();
        if state.mood == Mood::Denies {
            return (403, refusal("etcdserver: permission denied"));
        }
        if state.mood == Mood::Full && path == "/v3/kv/txn" {
            return (500, refusal("etcdserver: mvcc: database space exceeded"));
        }
        let answer = match path {
            "/v3/kv/range" => state.range(body),
            "/v3/kv/txn" => state.txn(body),
            "/v3/kv/compaction" => {
                let wanted = number(&body["revision"]);
                let Some(compacted) = state.compacted else {
                    return (403, refusal("etcdserver: permission denied"));
                };
                if wanted <= compacted {
                    let said = "etcdserver: mvcc: required revision has been compacted";
                    return (400, refusal(said));
                }
                state.compacted = Some(wanted);
                json!({})
            }
            _ => panic!("asked for {path}"),
        };
        (200, with_header(answer, state.revision))
    }
}

impl State {
    fn range(&self, asked: &Value) -> Value {
        let from = text(&asked["key"]);
        let end = match asked["range_end"].is_string() {
            true => text(&asked["range_end"]),
            false => format!("{from}\0"),
        };
        let limit = match asked["limit"].is_string() {
            true => number(&asked["limit"]) as usize,
            false => usize::MAX,
        };
        let found: Vec<_> = self.keys.range(from..end).collect();
        let kvs = found.iter().take(limit).map(|(key, (value, revision))| {
            json!({"key": base64(key.as_bytes()), "value": base64(value), "mod_revision": revision.to_string()})
        });
        let kvs: Vec<Value> = kvs.collect();
        match found.len() > limit {
            true => json!({"kvs": kvs, "more": true}),
            false => json!({"kvs": kvs}),
        }
    }

    fn txn(&mut self, asked: &Value) -> Value {
        let compare = &asked["compare"][0];
        assert_eq!(compare["target"], "MOD", "{asked}");
        let (_, revision) = self
            .keys
            .get(&text(&compare["key"]))
            .cloned()
            .unwrap_or_default();
        if revision != number(&compare["mod_revision"]) {
            let range = self.range(&asked["failure"][0]["request_range"]);
            return json!({"responses": [{"response_range": range}]});
        }
        self.revision += 1;
        for change in asked["success"].as_array().expect("changes") {
            let (put, delete) = (&change["request_put"], &change["request_delete_range"]);
            if put.is_object() {
                let value = STANDARD.decode(put["value"].as_str().unwrap()).unwrap();
                self.keys.insert(text(&put["key"]), (value, self.revision));
            } else {
                let (from, end) = (text(&delete["key"]), text(&delete["range_end"]));
                self.keys.retain(|key, _| *key < from || *key >= end);
            }
        }
        json!({"succeeded": true})
    }
}

fn refusal(said: &str) -> Value {
    json!({"error": said, "code": 7, "message": said})
}

fn with_header(mut answer: Value, revision: u64) -> Value {
    answer["header"] = json!({"revision": revision.to_string()});
    answer
}

/// One request of a connection: its path and its body; None at its end.
fn read(lines: &mut BufReader<&TcpStream>) -> Option<(String, Value)> {
    let (mut first, mut length) = (String::new(), 0);
    lines.read_line(&mut first).ok().filter(|&read| read > 0)?;
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    let path = first.split(' ').nth(1)?.to_string();
    Some((path, serde_json::from_slice(&body).expect("JSON")))
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn text(value: &Value) -> String {
    let bytes = STANDARD
        .decode(value.as_str().expect("base64"))
        .expect("base64");
    String::from_utf8(bytes).expect("keys are text")
}

/// A number that etcd has as text.
fn number(value: &Value) -> u64 {
    value.as_str().expect("text").parse().expect("a number")
}
