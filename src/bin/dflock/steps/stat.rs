//! `dflock stat`: one key, with each hold and each wait, from the answer to `show`. An older server knows no `show`: its
//! `stats` are searched, show no waits, and a line says so. Invariant: another key is never shown instead.

use serde_json::{Map, Value};

use dflockd::client::{Error, Key};
use dflockd::command::Refusal;

use super::listing::{Hold, Row, aligned, dashed, rows_of, span, table};
use super::talk::{Talk, ask_one, settings};
use crate::failure::{Failure, PROTOCOL, say};
use crate::options::{Options, Output};
use crate::print::print;

/// A key in use.
struct Entry {
    row: Row,
    /// In the order of the grants, and in that of the queue; None if the server does not say.
    tickets: Option<[Vec<Hold>; 2]>,
}

/// Shows the lock and the semaphore of this name; with a limit the semaphore alone. Status 1 if neither is in use.
pub fn stat(options: &Options, key: &[u8]) -> Result<u8, Failure> {
    let server = options.home(key);
    let (all, bytes) = (options.clone(), key.to_vec());
    let entries = ask_one(options, &server, move |talk| {
        match shown(&all, talk, &bytes)? {
            Some(entries) => Ok(entries),
            None => searched(&all, &bytes),
        }
    })?;
    let Some(first) = entries.first() else {
        return Ok(1);
    };
    match options.output {
        Output::Plain => {
            print(&plain(options, &entries))?;
            if first.tickets.is_none() {
                say(&format!(
                    "{server} is an older server: it does not tell who waits, nor who holds a semaphore"
                ));
            }
            Ok(0)
        }
        Output::Json => {
            let lines = entries.iter().map(|entry| format!("{}\n", entry.json()));
            print(&lines.collect::<String>())
        }
        // A variable has one value, so the lock is shown if both are in use.
        Output::Sh => print(&first.row.sh()),
    }
}

/// What the server knows of a key, as an object; None if it knows no `show`, or a key that no line can name.
pub fn show(talk: &mut Talk, key: Result<Key<'_>, Error>) -> Result<Option<Value>, Failure> {
    let Ok(key) = key else { return Ok(None) };
    match talk.client().show(&key) {
        Ok(json) => talk.json(&json).map(Some),
        Err(Error::Refused(Refusal::Error)) => Ok(None),
        Err(error) => Err(talk.failure(error)),
    }
}

fn shown(options: &Options, talk: &mut Talk, key: &[u8]) -> Result<Option<Vec<Entry>>, Failure> {
    let mut entries = Vec::new();
    for semaphore in [false, true] {
        if !semaphore && options.limit.is_some() {
            continue;
        }
        let name = match semaphore {
            true => Key::semaphore(key, 1),
            false => Key::lock(key),
        };
        let Some(json) = show(talk, name)? else {
            return Ok(None);
        };
        let number = |name: &str| {
            let what = "it does not tell of the key that it was asked for";
            let value = json[name].as_u64();
            value.ok_or_else(|| Failure::not_dflockd(&options.home(key), what))
        };
        let (holders, waiters) = (number("held")?, number("waiting")?);
        if holders + waiters == 0 {
            continue;
        }
        let list = |name: &str| json[name].as_array().into_iter().flatten().map(Hold::of);
        let first = json["holders"].get(0).filter(|_| !semaphore);
        entries.push(Entry {
            row: Row {
                text: String::from_utf8_lossy(key).into_owned(),
                key: key.to_vec(),
                semaphore,
                limit: number("limit")?,
                holders,
                waiters,
                hold: first.map(Hold::of).unwrap_or_default(),
                server: (options.servers.len() > 1).then(|| options.home(key)),
            },
            tickets: Some([list("holders").collect(), list("queue").collect()]),
        });
    }
    Ok(Some(entries))
}

/// The same from the `stats` of an older server.
fn searched(options: &Options, key: &[u8]) -> Result<Vec<Entry>, Failure> {
    let server = options.home(key);
    // Another connection: it may close one on which it has answered an error.
    let stats = Talk::open(&server, &settings(options))?.stats()?;
    let text = String::from_utf8_lossy(key);
    let mut rows = rows_of(options, &server, &stats);
    // A still older server has no bytes for us: then a key that looks like this one may be this one.
    let is_like = |row: &Row| row.text == text && row.key != key;
    let has_bytes = |row: &Row| row.key != row.text.as_bytes();
    if rows.iter().any(is_like) && !rows.iter().any(has_bytes) {
        let why = "its stats do not tell keys apart that are not UTF-8";
        return Err(Failure::new(PROTOCOL, format!("{server}: {why}")));
    }
    rows.retain(|row| row.key == key && (row.semaphore || options.limit.is_none()));
    let entry = |row| Entry { row, tickets: None };
    Ok(rows.into_iter().map(entry).collect())
}

fn plain(options: &Options, entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &table(options, std::slice::from_ref(&entry.row));
        let Some([holders, queue]) = &entry.tickets else {
            continue;
        };
        let heading = ["", "OWNER", "FROM", "FOR", "LEFT", "FENCE"];
        let places = queue
            .iter()
            .enumerate()
            .map(|(at, wait)| (format!("waits, {}.", at + 1), wait));
        let holds = holders.iter().map(|hold| ("holds".to_string(), hold));
        let cells = holds.chain(places).map(|(place, ticket)| {
            vec![
                place,
                ticket.whose(),
                ticket.whence(),
                dashed(ticket.age.map(span)),
                dashed(ticket.left.map(span)),
                dashed(ticket.fence.map(|fence| fence.to_string())),
            ]
        });
        text.push('\n');
        text += &aligned(&heading, cells);
        text += &more(entry.row.holders, holders, "hold it");
        text += &more(entry.row.waiters, queue, "wait for it");
    }
    text
}

/// A line for those that the server has counted and not listed.
fn more(count: u64, listed: &[Hold], what: &str) -> String {
    match count.saturating_sub(listed.len() as u64) {
        0 => String::new(),
        more => format!("{more} more {what}\n"),
    }
}

impl Entry {
    fn json(&self) -> Value {
        let mut row = self.row.json();
        if let Some([holders, queue]) = &self.tickets {
            row.insert("holds".into(), holders.iter().map(ticket).collect());
            row.insert("queue".into(), queue.iter().map(ticket).collect());
        }
        Value::Object(row)
    }
}

/// A hold or a wait; without a fence it waits.
fn ticket(hold: &Hold) -> Value {
    let mut ticket = Map::new();
    ticket.insert("connection".into(), hold.connection.into());
    ticket.insert("owner".into(), hold.owner.clone().into());
    ticket.insert("from".into(), hold.from.clone().into());
    hold.insert_name(&mut ticket);
    match hold.fence {
        Some(fence) => {
            ticket.insert("fence".into(), fence.to_string().into());
            ticket.insert("seconds_held".into(), hold.age.into());
            ticket.insert("seconds_left".into(), hold.left.into());
            ticket.insert("detached".into(), hold.detached.into());
        }
        None => {
            ticket.insert("seconds_waited".into(), hold.age.into());
        }
    }
    Value::Object(ticket)
}
