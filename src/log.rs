//! The log: one event, one line, one write to stderr.
//!
//! `2026-11-21T01:36:08.123Z info dflockd listening addr=127.0.0.1:6388`: time in UTC, level, program, event, then
//! key=value. Not here: the clock (time is an argument), files, rotation; a supervisor does that better. Invariant: an
//! event stays one line, whatever its values contain.

use std::fmt::{self, Display};
use std::io::{self, Write as _};

use crate::base::date::Date;
use crate::command::{SECOND, Us};
use crate::sys;

/// Writes events to stderr, those of level debug only if wanted.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// Whether events of level debug are written.
    pub debug: bool,
}

/// The fields of an event. Bytes that may not be UTF-8 go in as `bytes.escape_ascii()`.
pub type Fields<'a> = &'a [(&'a str, &'a dyn Display)];

impl Log {
    /// Logs that the server cannot go on. `unix_us` is the time of the event in microseconds since 1970.
    pub fn error(&self, unix_us: u64, event: &str, fields: Fields) {
        write(&line(unix_us, "error", event, fields));
    }

    /// Logs something that an administrator should look at.
    pub fn warn(&self, unix_us: u64, event: &str, fields: Fields) {
        write(&line(unix_us, "warn", event, fields));
    }

    /// Logs a start or a stop; when all is well nothing in between.
    pub fn info(&self, unix_us: u64, event: &str, fields: Fields) {
        write(&line(unix_us, "info", event, fields));
    }

    /// Logs an event under `--debug` alone.
    pub fn debug(&self, unix_us: u64, event: &str, fields: Fields) {
        if self.debug {
            write(&line(unix_us, "debug", event, fields));
        }
    }
}

/// Limits an event that may happen in every turn to one line a second, which says how often it happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    count: u64,
    next: Us,
}

impl Pace {
    /// Counts one event. Once a second it returns how many there were since it last did, this one included: log then.
    pub fn tick(&mut self, now: Us) -> Option<u64> {
        self.count += 1;
        self.rest(now)
    }

    /// When a count will be due though nothing more happens; None if there is none.
    pub fn deadline(&self) -> Option<Us> {
        (self.count > 0).then_some(self.next)
    }

    /// The count, if there is one and its second has passed.
    pub fn rest(&mut self, now: Us) -> Option<u64> {
        if self.count == 0 || now < self.next {
            return None;
        }
        self.next = now.saturating_add(SECOND);
        Some(std::mem::take(&mut self.count))
    }
}

fn write(line: &str) {
    // stderr is unbuffered in std, so a line is one write(2), and whole beside other writers of the same pipe. A lock
    // server must neither stop because its log fails nor wait for the log's reader: a line that finds no room is
    // dropped.
    if !sys::can_log() {
        return;
    }
    let _ = io::stderr().write_all(line.as_bytes());
}

fn line(unix_us: u64, level: &str, event: &str, fields: Fields) -> String {
    let mut line = format!("{} {level} dflockd {event}", Time(unix_us));
    for (key, value) in fields {
        line.push(' ');
        line.push_str(key);
        line.push('=');
        push_value(&mut line, &value.to_string());
    }
    line.push('\n');
    line
}

/// A value of visible ASCII is written as it is; any other is quoted, with escapes as in Rust.
fn push_value(line: &mut String, value: &str) {
    let is_plain = |c: char| c.is_ascii_graphic() && c != '"';
    if !value.is_empty() && value.chars().all(is_plain) {
        line.push_str(value);
        return;
    }
    line.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            ' '..='~' => line.push(c),
            _ => line.extend(c.escape_default()),
        }
    }
    line.push('"');
}

/// Unix microseconds, shown as RFC 3339 in UTC with milliseconds.
struct Time(u64);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let at = Date::of_unix_ms(self.0 / 1_000);
        let Date {
            year, month, day, ..
        } = at;
        let Date {
            hour,
            minute,
            second,
            ms,
            ..
        } = at;
        write!(f, "{year:04}-{month:02}-{day:02}T")?;
        write!(f, "{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: u64 = 86_400_000_000;

    #[test]
    fn an_event_is_one_line_of_time_level_program_event_and_fields() {
        let text = line(
            1_795_224_968_123_999,
            "info",
            "listening",
            &[("addr", &"127.0.0.1:6388"), ("tries", &2)],
        );
        assert_eq!(
            text,
            "2026-11-21T01:36:08.123Z info dflockd listening addr=127.0.0.1:6388 tries=2\n"
        );
    }

    #[test]
    fn values_cannot_break_the_line_or_pose_as_fields() {
        for (value, written) in [
            ("plain", "plain"),
            ("a=b\\c'", "a=b\\c'"),
            ("", r#""""#),
            ("two words", r#""two words""#),
            ("say \"x\" \\", r#""say \"x\" \\""#),
            ("a\r\nb\t\0", r#""a\r\nb\t\u{0}""#),
            ("clé \u{2028}\u{7f}", r#""cl\u{e9} \u{2028}\u{7f}""#),
        ] {
            let text = line(0, "warn", "warning", &[("text", &value)]);
            let wanted = format!("1970-01-01T00:00:00.000Z warn dflockd warning text={written}\n");
            assert_eq!(text, wanted);
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_escaped_once() {
        let text = line(0, "debug", "x", &[("key", &b"a\xff\n".escape_ascii())]);
        assert!(text.ends_with(" key=a\\xff\\n\n"));
    }

    #[test]
    fn the_last_millisecond_of_a_day_is_still_that_day() {
        assert_eq!(Time(DAY_US - 1).to_string(), "1970-01-01T23:59:59.999Z");
        assert_eq!(Time(DAY_US).to_string(), "1970-01-02T00:00:00.000Z");
    }

    #[test]
    fn what_a_pace_held_back_can_be_asked_for_later() {
        let mut pace = Pace::default();
        assert_eq!((pace.rest(0), pace.tick(SECOND)), (None, Some(1)));
        assert_eq!(
            (pace.tick(SECOND + 1), pace.rest(SECOND * 2 - 1)),
            (None, None)
        );
        assert_eq!(
            (pace.rest(SECOND * 2), pace.rest(SECOND * 4)),
            (Some(1), None)
        );
    }

    #[test]
    fn a_pace_lets_one_a_second_through_and_counts_the_rest() {
        let mut pace = Pace::default();
        assert_eq!(pace.tick(5), Some(1));
        assert_eq!(pace.tick(5), None);
        assert_eq!(pace.tick(SECOND + 4), None);
        assert_eq!(pace.tick(SECOND + 5), Some(3));
        assert_eq!(pace.tick(Us::MAX), Some(1));
        assert_eq!(pace.tick(Us::MAX), Some(1));
    }
}
