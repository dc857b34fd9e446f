//! `dflock ls` and `dflock stat`: the keys in use, as tables for people, lines for sh(1) and JSON. They come from the
//! answer to `stats`, and nothing is changed. Invariant: names that others have chosen move no cursor and break no
//! line.

use std::iter;

use serde_json::{Map, Value};

use super::talk::{Answers, Talk, ask_all, settings};
use crate::failure::{Failure, USAGE};
use crate::options::{Options, Output};
use crate::print::print;

/// A key in use, as a listing shows it.
struct Row {
    key: String,
    semaphore: bool,
    limit: u64,
    holders: u64,
    waiters: u64,
    /// Of a lock: the number of the connection that holds it, if that is still open.
    holder: Option<u64>,
    /// Of a lock: the owner of the hold, if it was declared.
    owner: Option<String>,
    /// Of a lock: seconds until its lease ends.
    left: Option<f64>,
    /// If several servers are listed.
    server: Option<String>,
}

/// Shows the keys in use at all servers that answer.
pub fn list(options: &Options, prefix: &[u8]) -> Result<u8, Failure> {
    if options.output == Output::Sh {
        let text = "-o sh is for one key: see dflock stat";
        return Err(Failure::new(USAGE, text));
    }
    let prefix = String::from_utf8_lossy(prefix);
    let Answers { given, status } = ask_all(options, Talk::stats)?;
    if given.is_empty() {
        return Ok(status);
    }
    let mut rows: Vec<Row> = given
        .iter()
        .flat_map(|(server, stats)| rows_of(options, server, stats))
        .filter(|row| row.key.starts_with(&*prefix))
        .collect();
    rows.sort_by(|a, b| (&a.key, a.semaphore).cmp(&(&b.key, b.semaphore)));
    if options.output == Output::Json {
        let list: Vec<Value> = rows.iter().map(Row::json).collect();
        print(&format!("{}\n", Value::from(list)))?;
    } else {
        print(&table(options, &rows))?;
    }
    Ok(status)
}

/// Shows the lock and the semaphore of this name; with a limit the semaphore alone. Status 1 if neither is in use.
pub fn stat(options: &Options, key: &[u8]) -> Result<u8, Failure> {
    let server = options.home(key);
    let stats = Talk::open(&server, &settings(options))?.stats()?;
    let text = String::from_utf8_lossy(key);
    let is_it = |row: &Row| row.key == text && (row.semaphore || options.limit.is_none());
    let mut rows = rows_of(options, &server, &stats);
    rows.retain(is_it);
    let Some(first) = rows.first() else {
        return Ok(1);
    };
    match options.output {
        Output::Plain => print(&table(options, &rows)),
        Output::Json => {
            let lines = rows.iter().map(|row| format!("{}\n", row.json()));
            print(&lines.collect::<String>())
        }
        // A variable has one value, so the lock is shown if both are in use.
        Output::Sh => print(&first.sh()),
    }
}

/// The rows of one server, locks first.
fn rows_of(options: &Options, server: &str, stats: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    for semaphore in [false, true] {
        let list = &stats[if semaphore { "semaphores" } else { "locks" }];
        for entry in list.as_array().into_iter().flatten() {
            let number = |name: &str| entry[name].as_u64();
            let left = entry["lease_expires_in_s"].as_f64();
            let holder = number("owner_conn_id").filter(|&holder| holder > 0);
            rows.push(Row {
                key: entry["key"].as_str().unwrap_or_default().to_string(),
                semaphore,
                limit: number("limit").unwrap_or(1),
                holders: number("holders").unwrap_or(1),
                waiters: number("waiters").unwrap_or(0),
                holder,
                owner: entry["owner"].as_str().map(str::to_string),
                left,
                server: (options.servers.len() > 1).then(|| server.to_string()),
            });
        }
    }
    rows
}

/// Aligned columns under a heading, with a dash where a semaphore has no value. Owners may be long, so they come last,
/// and only with `--verbose`.
fn table(options: &Options, rows: &[Row]) -> String {
    let mut heading = vec!["KEY", "HELD", "WAITING", "HOLDER", "SECONDS LEFT"];
    let numbers = 1..heading.len();
    let several = options.servers.len() > 1;
    heading.extend(several.then_some("SERVER"));
    heading.extend(options.verbose.then_some("OWNER"));
    let heading = heading.into_iter().map(str::to_string).collect();
    let cells = rows.iter().map(|row| {
        let dash = || "-".to_string();
        let mut cells = vec![
            visible(&row.key),
            format!("{}/{}", row.holders, row.limit),
            row.waiters.to_string(),
            row.holder.map_or_else(dash, |id| format!("#{id}")),
            row.left.map_or_else(dash, |left| format!("{left:.1}")),
        ];
        cells.extend(row.server.clone());
        let owner = row.owner.as_deref().map_or_else(dash, visible);
        cells.extend(options.verbose.then_some(owner));
        cells
    });
    let lines: Vec<Vec<String>> = iter::once(heading).chain(cells).collect();
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if numbers.contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        let row = cells.collect::<Vec<String>>().join("  ");
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

impl Row {
    fn json(&self) -> Value {
        let mut row = Map::new();
        row.insert("key".into(), self.key.clone().into());
        let kind = if self.semaphore { "semaphore" } else { "lock" };
        row.insert("kind".into(), kind.into());
        row.insert("limit".into(), self.limit.into());
        row.insert("holders".into(), self.holders.into());
        row.insert("waiters".into(), self.waiters.into());
        row.insert("holder".into(), self.holder.into());
        row.insert("owner".into(), self.owner.clone().into());
        row.insert("seconds_left".into(), self.left.into());
        if let Some(server) = &self.server {
            row.insert("server".into(), server.clone().into());
        }
        Value::Object(row)
    }

    fn sh(&self) -> String {
        let or_none = |value: Option<String>| value.unwrap_or_default();
        format!(
            "DFLOCK_LIMIT={}\nDFLOCK_HOLDERS={}\nDFLOCK_WAITERS={}\nDFLOCK_HOLDER={}\nDFLOCK_OWNER={}\nDFLOCK_LEFT={}\n",
            self.limit,
            self.holders,
            self.waiters,
            or_none(self.holder.map(|holder| holder.to_string())),
            or_none(self.owner.as_deref().map(quoted)),
            or_none(self.left.map(|left| format!("{left:.3}"))),
        )
    }
}

/// A quoted word of sh(1), since others have chosen what is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A name with its control characters escaped as in JSON, since a terminal would act on them.
fn visible(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_control() {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}
