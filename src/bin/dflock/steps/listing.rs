//! `dflock ls`: the keys in use, as a table for people or as JSON. They come from the answer to `stats`, and nothing is
//! changed. Not here: one key, in stat.rs. Invariant: a row shows what its server said, and a dash where that was nothing.

use std::cmp::Reverse;

use serde_json::{Map, Value};

use super::talk::{Answers, Talk, ask_all};
use crate::failure::{Failure, USAGE};
use crate::names::{pasted, quoted, unhex};
use crate::options::{Options, Output};
use crate::print::print;

/// A key in use, as a listing shows it.
#[derive(Default)]
pub struct Row {
    /// As JSON can say it.
    pub text: String,
    /// As it is.
    pub key: Vec<u8>,
    pub semaphore: bool,
    pub limit: u64,
    pub holders: u64,
    pub waiters: u64,
    /// The hold of a lock.
    pub hold: Hold,
    /// If several servers are listed.
    pub server: Option<String>,
}

/// A hold or a wait, of which a server may not say everything.
#[derive(Default)]
pub struct Hold {
    /// The number of its connection, if that is still open.
    pub connection: Option<u64>,
    /// Its owner, if that was declared.
    pub owner: Option<String>,
    /// The address of its connection.
    pub from: Option<String>,
    /// The name in the certificate that it has shown.
    pub name: Option<String>,
    /// Seconds since it began.
    pub age: Option<f64>,
    /// Seconds until its lease ends.
    pub left: Option<f64>,
    pub fence: Option<u64>,
    /// It lasts for its lease, whatever becomes of connections.
    pub detached: bool,
}

/// Shows the keys in use at all servers that answer.
pub fn list(options: &Options, prefix: &[u8]) -> Result<u8, Failure> {
    if options.output == Output::Sh {
        let text = "-o sh is for one key: see dflock stat";
        return Err(Failure::new(USAGE, text));
    }
    let Answers { given, status } = ask_all(options, Talk::stats)?;
    if given.is_empty() {
        return Ok(status);
    }
    let mut rows: Vec<Row> = given
        .iter()
        .flat_map(|(server, stats)| rows_of(options, server, stats))
        .filter(|row| row.key.starts_with(prefix))
        .collect();
    // The longest held comes first. Times of one answer are in whole milliseconds.
    let age = |row: &Row| Reverse(row.hold.age.map(|age| (age * 1000.0) as u64));
    rows.sort_by(|a, b| (age(a), &a.key, a.semaphore).cmp(&(age(b), &b.key, b.semaphore)));
    if options.output == Output::Json {
        let list: Vec<Value> = rows.iter().map(|row| Value::Object(row.json())).collect();
        print(&format!("{}\n", Value::from(list)))?;
    } else {
        print(&table(options, &rows))?;
    }
    Ok(status)
}

/// Whether somebody has this lock. A server that grants nothing yet after its start has locks that are only waited for;
/// one that shows no fences has none.
fn is_held(entry: &Value) -> bool {
    let is_nobody = entry["owner_conn_id"] == 0 && entry["lease_expires_in_s"] == 0.0;
    !is_nobody || entry["fence"].is_string()
}

/// The rows of one server, locks first.
pub fn rows_of(options: &Options, server: &str, stats: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    for semaphore in [false, true] {
        let list = &stats[if semaphore { "semaphores" } else { "locks" }];
        for entry in list.as_array().into_iter().flatten() {
            let number = |name: &str| entry[name].as_u64();
            let text = entry["key"].as_str().unwrap_or_default().to_string();
            let bytes = entry["key_hex"].as_str().and_then(unhex);
            let is_held = is_held(entry);
            rows.push(Row {
                key: bytes.unwrap_or_else(|| text.clone().into_bytes()),
                text,
                semaphore,
                limit: number("limit").unwrap_or(1),
                holders: number("holders").unwrap_or(is_held.into()),
                waiters: number("waiters").unwrap_or(0),
                hold: match is_held && !semaphore {
                    true => Hold::of(entry),
                    false => Hold::default(),
                },
                server: (options.servers.len() > 1).then(|| server.to_string()),
            });
        }
    }
    rows
}

/// The rows under a heading.
pub fn table(options: &Options, rows: &[Row]) -> String {
    let mut heading = vec![
        "KEY", "HELD", "WAITING", "OWNER", "FROM", "HELD FOR", "LEFT",
    ];
    let several = options.servers.len() > 1;
    heading.extend(several.then_some("SERVER"));
    let cells = rows.iter().map(|row| {
        let mut cells = vec![
            pasted(&row.key),
            format!("{}/{}", row.holders, row.limit),
            row.waiters.to_string(),
            row.hold.whose(),
            row.hold.whence(),
            dashed(row.hold.age.map(span)),
            dashed(row.hold.left.map(span)),
        ];
        cells.extend(row.server.clone());
        cells
    });
    aligned(&heading, cells)
}

/// Lines whose cells stand below each other.
pub fn aligned(heading: &[&str], cells: impl Iterator<Item = Vec<String>>) -> String {
    let heading = heading.iter().map(|name| name.to_string()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(heading).chain(cells).collect();
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
        let row = cells.collect::<Vec<String>>().join("  ");
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// What was not said is a dash.
pub fn dashed(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "-".to_string())
}

/// Seconds as a person reads them.
pub fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..100 => format!("{seconds:.1}s"),
        100..6_000 => format!("{}m{:02}s", whole / 60, whole % 60),
        6_000..360_000 => format!("{}h{:02}m", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

impl Hold {
    /// What a server says of a hold or a wait, in `stats` or in `show`.
    pub fn of(entry: &Value) -> Hold {
        let seconds = |name: &str| entry[name].as_f64();
        let text = |name: &str| entry[name].as_str().map(str::to_string);
        let id = entry["owner_conn_id"].as_u64();
        let id = id.or_else(|| entry["conn_id"].as_u64());
        let fence = entry["fence"].as_str();
        Hold {
            connection: id.filter(|&id| id > 0),
            owner: text("owner"),
            from: text("peer"),
            name: text("peer_name"),
            age: seconds("held_s").or_else(|| seconds("waited_s")),
            left: seconds("lease_expires_in_s"),
            fence: fence.and_then(|fence| u64::from_str_radix(fence, 16).ok()),
            detached: entry["detached"] == Value::Bool(true),
        }
    }

    /// The owner, as a cell of a table.
    pub fn whose(&self) -> String {
        dashed(self.owner.as_deref().map(|owner| pasted(owner.as_bytes())))
    }

    /// The address, and the name in the certificate if there is one, as a cell of a table. Without a connection a hold has none.
    pub fn whence(&self) -> String {
        let named = |from: &String| match &self.name {
            Some(name) => format!("{}@{from}", pasted(name.as_bytes())),
            None => from.clone(),
        };
        let from = self.from.as_ref().map(named);
        dashed(from.or_else(|| self.detached.then(|| "(detached)".to_string())))
    }
}

impl Hold {
    /// Adds the name in the certificate of its connection, if there is one.
    pub fn insert_name(&self, members: &mut Map<String, Value>) {
        if let Some(name) = &self.name {
            members.insert("peer_name".into(), name.clone().into());
        }
    }
}

impl Row {
    /// All members. A fence is a string, because the numbers of many JSON readers are too small for it.
    pub fn json(&self) -> Map<String, Value> {
        let mut row = Map::new();
        row.insert("key".into(), self.text.clone().into());
        if self.key != self.text.as_bytes() {
            let hex = self.key.iter().map(|byte| format!("{byte:02x}"));
            row.insert("key_hex".into(), hex.collect::<String>().into());
        }
        let kind = if self.semaphore { "semaphore" } else { "lock" };
        row.insert("kind".into(), kind.into());
        row.insert("limit".into(), self.limit.into());
        row.insert("holders".into(), self.holders.into());
        row.insert("waiters".into(), self.waiters.into());
        row.insert("holder".into(), self.hold.connection.into());
        row.insert("owner".into(), self.hold.owner.clone().into());
        row.insert("from".into(), self.hold.from.clone().into());
        self.hold.insert_name(&mut row);
        row.insert("seconds_held".into(), self.hold.age.into());
        row.insert("seconds_left".into(), self.hold.left.into());
        let fence = self.hold.fence.map(|fence| fence.to_string());
        row.insert("fence".into(), fence.into());
        if let Some(server) = &self.server {
            row.insert("server".into(), server.clone().into());
        }
        row
    }

    /// Variables for sh(1).
    pub fn sh(&self) -> String {
        let or_none = |value: Option<String>| value.unwrap_or_default();
        let quoted = |value: &Option<String>| or_none(value.as_deref().map(quoted));
        let seconds = |value: Option<f64>| or_none(value.map(|value| format!("{value:.3}")));
        let Hold {
            connection,
            owner,
            from,
            age,
            left,
            fence,
            ..
        } = &self.hold;
        format!(
            "DFLOCK_LIMIT={}\nDFLOCK_HOLDERS={}\nDFLOCK_WAITERS={}\nDFLOCK_HOLDER={}\nDFLOCK_OWNER={}\n\
             DFLOCK_FROM={}\nDFLOCK_HELD={}\nDFLOCK_LEFT={}\nDFLOCK_FENCE={}\n",
            self.limit,
            self.holders,
            self.waiters,
            or_none(connection.map(|id| id.to_string())),
            quoted(owner),
            quoted(from),
            seconds(*age),
            seconds(*left),
            or_none(fence.map(|fence| fence.to_string())),
        )
    }
}
