//! `dflock ls` and `dflock stat`: the keys in use, as tables for people, lines for sh(1) and JSON. They come from the
//! answer to `stats`, and nothing is changed. Invariant: names that others have chosen move no cursor and break no
//! line, and two of them are never taken for one.

use std::iter;

use serde_json::{Map, Value};

use super::talk::{Answers, Talk, ask_all, settings};
use crate::failure::{Failure, PROTOCOL, USAGE};
use crate::options::{Options, Output};
use crate::print::print;

/// A key in use, as a listing shows it.
struct Row {
    /// As JSON can say it.
    text: String,
    /// As it is.
    key: Vec<u8>,
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
    let Answers { given, status } = ask_all(options, Talk::stats)?;
    if given.is_empty() {
        return Ok(status);
    }
    let mut rows: Vec<Row> = given
        .iter()
        .flat_map(|(server, stats)| rows_of(options, server, stats))
        .filter(|row| row.key.starts_with(prefix))
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
    let mut rows = rows_of(options, &server, &stats);
    // An older server has no bytes for us: then a key that looks like this one may be this one.
    let is_like = |row: &Row| row.text == text && row.key != key;
    let has_bytes = |row: &Row| row.key != row.text.as_bytes();
    if rows.iter().any(is_like) && !rows.iter().any(has_bytes) {
        let why = "its stats do not tell keys apart that are not UTF-8";
        return Err(Failure::new(PROTOCOL, format!("{server}: {why}")));
    }
    rows.retain(|row| row.key == key && (row.semaphore || options.limit.is_none()));
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
            let text = entry["key"].as_str().unwrap_or_default().to_string();
            let bytes = entry["key_hex"].as_str().and_then(unhex);
            rows.push(Row {
                key: bytes.unwrap_or_else(|| text.clone().into_bytes()),
                text,
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
            pasted(&row.key),
            format!("{}/{}", row.holders, row.limit),
            row.waiters.to_string(),
            row.holder.map_or_else(dash, |id| format!("#{id}")),
            row.left.map_or_else(dash, |left| format!("{left:.1}")),
        ];
        cells.extend(row.server.clone());
        let owner = row.owner.as_deref();
        let owner = owner.map_or_else(dash, |owner| pasted(owner.as_bytes()));
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

/// The bytes that pairs of hexadecimal digits stand for.
fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}

/// A name as a word that can be pasted into a shell: as it is if it is plain, in quotes if it is printable, and
/// otherwise in the form `$'\033'` of bash, ksh and zsh. A terminal would act on what is not printable.
fn pasted(name: &[u8]) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-+:,./@%".contains(c);
    let is_good = |c: char| is_plain(c) || is_printable(c);
    match std::str::from_utf8(name) {
        Ok(text) if text.chars().all(is_plain) => return text.to_string(),
        Ok(text) if text.chars().all(is_good) => return quoted(text),
        _ => {}
    }
    let mut word = "$'".to_string();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '\\' => word.extend(['\\', c]),
                c if is_good(c) => word.push(c),
                c => escape(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut word),
            }
        }
        escape(chunk.invalid(), &mut word);
    }
    word.push('\'');
    word
}

/// In octal, which has three digits at most; a shell may read more than two hexadecimal ones.
fn escape(bytes: &[u8], word: &mut String) {
    for byte in bytes {
        word.push_str(&format!("\\{byte:03o}"));
    }
}

/// Whether a terminal shows the character as one, and acts on nothing: control and format characters, and separators of
/// lines, are not printable.
fn is_printable(c: char) -> bool {
    match c {
        '\'' | '"' | '\\' => true,
        // Behind a letter, accents that combine with it are printable too.
        c => ['a', c].iter().collect::<String>().escape_debug().count() == 2,
    }
}
