//! The log: one event, one line on stderr, written at once and without waiting.
//!
//! `2026-11-21T01:36:08.123Z info dflockd listening addr=127.0.0.1:6388`: time in UTC, level, program, event, then
//! key=value. In the journal of systemd `<6>` comes before that, the priority of sd-daemon(3). Not here: the clock
//! (time is an argument), files, rotation; a supervisor does that better. Invariant: an event stays one line of at most
//! 4,096 bytes, whatever its values contain, and a line that finds no room is dropped whole and counted.

use std::fmt::{self, Display, Write as _};

use crate::base::date::Date;
use crate::command::{SECOND, Us};
use crate::sys::output::{self, Output, ROOM};

/// The longest line, with its LF: more might not fit into a pipe at once.
const LINE_MAX: usize = ROOM;
/// The end of a line that was longer.
const CUT: &str = " cut=true";

/// Writes events to stderr, those of level debug only if wanted. A lock server must neither stop because its log fails
/// nor wait for the log's reader.
pub struct Log {
    /// Whether events of level debug are written.
    debug: bool,
    /// Whether the journal reads it.
    journal: bool,
    /// None: there was no descriptor for it.
    output: Option<Output>,
    /// The rest of what was written in part, as to a terminal. It comes before anything else.
    rest: Vec<u8>,
    /// Lines that wait for others, to be written with them at once.
    batch: Vec<u8>,
    batch_lines: u64,
    /// Lines that have found no room since this was last said.
    dropped: u64,
}

/// The fields of an event.
pub type Fields<'a> = &'a [(&'a str, &'a dyn Display)];

impl Log {
    /// A log on stderr.
    pub fn new(debug: bool) -> Log {
        let journal = output::is_journal();
        Log {
            journal,
            ..Log::on(Output::stderr(), debug)
        }
    }

    fn on(output: Option<Output>, debug: bool) -> Log {
        Log {
            debug,
            journal: false,
            output,
            rest: Vec::new(),
            batch: Vec::new(),
            batch_lines: 0,
            dropped: 0,
        }
    }

    /// Whether events of level debug are written.
    pub fn is_debug(&self) -> bool {
        self.debug
    }

    /// Logs that the server cannot go on. `unix_us` is the time of the event in microseconds since 1970.
    pub fn error(&mut self, unix_us: u64, event: &str, fields: Fields) {
        self.write(unix_us, "error", event, fields);
    }

    /// Logs something that an administrator should look at.
    pub fn warn(&mut self, unix_us: u64, event: &str, fields: Fields) {
        self.write(unix_us, "warn", event, fields);
    }

    /// Logs a start or a stop; when all is well nothing in between.
    pub fn info(&mut self, unix_us: u64, event: &str, fields: Fields) {
        self.write(unix_us, "info", event, fields);
    }

    /// Logs an event under `--debug` alone.
    pub fn debug(&mut self, unix_us: u64, event: &str, fields: Fields) {
        if self.debug {
            self.write(unix_us, "debug", event, fields);
        }
    }

    /// Logs at level info, together with the events that follow: a line that waits for [`Log::flush`].
    pub fn info_in_batch(&mut self, unix_us: u64, event: &str, fields: Fields) {
        let line = self.line(unix_us, "info", event, fields);
        if self.batch.len() + line.len() > LINE_MAX {
            self.flush(unix_us);
        }
        self.batch.extend_from_slice(line.as_bytes());
        self.batch_lines += 1;
    }

    /// Whether something waits to be written.
    #[inline]
    pub fn is_behind(&self) -> bool {
        !self.batch.is_empty() || !self.rest.is_empty()
    }

    /// Writes the lines that wait, and the rest of what was written in part. The time is for a line about lines that were
    /// dropped, and is not looked at if no line waits.
    pub fn flush(&mut self, unix_us: u64) {
        if self.batch.is_empty() {
            self.finish();
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        let lines = std::mem::take(&mut self.batch_lines);
        self.put(unix_us, &batch, lines);
        batch.clear();
        self.batch = batch;
    }

    fn write(&mut self, unix_us: u64, level: &str, event: &str, fields: Fields) {
        self.flush(unix_us);
        let line = self.line(unix_us, level, event, fields);
        self.put(unix_us, line.as_bytes(), 1);
    }

    fn line(&self, unix_us: u64, level: &str, event: &str, fields: Fields) -> String {
        let priority = if self.journal { priority(level) } else { "" };
        line(priority, unix_us, level, event, fields)
    }

    /// Writes whole lines, or counts them if there is no room. Before them it says how many there were no room for.
    fn put(&mut self, unix_us: u64, text: &[u8], lines: u64) {
        if self.finish() && self.dropped > 0 {
            let told = self.line(unix_us, "warn", "log-dropped", &[("count", &self.dropped)]);
            if self.begin(told.as_bytes()) {
                self.dropped = 0;
            }
        }
        let is_open = self.rest.is_empty() && self.dropped == 0;
        if !is_open || !self.begin(text) {
            self.dropped += lines;
        }
    }

    /// Whether these bytes were written, or some of them; then the rest will be.
    fn begin(&mut self, bytes: &[u8]) -> bool {
        let output = self.output.as_ref();
        let written = output.and_then(|output| output.write(bytes).ok());
        let written = written.unwrap_or(0);
        if written > 0 {
            self.rest.extend_from_slice(&bytes[written..]);
        }
        written > 0
    }

    /// Whether nothing is left of what was written in part.
    fn finish(&mut self) -> bool {
        if !self.rest.is_empty()
            && let Some(output) = &self.output
            && let Ok(written) = output.write(&self.rest)
        {
            self.rest.drain(..written);
        }
        self.rest.is_empty()
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
        self.add(1);
        self.rest(now)
    }

    /// Counts so many events, to be logged when [`Pace::rest`] says so.
    pub fn add(&mut self, count: u64) {
        self.count += count;
    }

    /// Whether there is a count.
    #[inline]
    pub fn has_some(&self) -> bool {
        self.count > 0
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

/// How the journal marks a line of this level, by which `journalctl -p` finds it; see sd-daemon(3).
fn priority(level: &str) -> &'static str {
    match level {
        "error" => "<3>",
        "warn" => "<4>",
        "info" => "<6>",
        _ => "<7>",
    }
}

fn line(priority: &str, unix_us: u64, level: &str, event: &str, fields: Fields) -> String {
    let mut line = format!("{priority}{} {level} dflockd {event}", Time(unix_us));
    let values: Vec<Value> = fields.iter().map(|(_, value)| Value::new(value)).collect();
    // A blank and the sign before each value, and the LF.
    let keys: usize = fields.iter().map(|(key, _)| key.len() + 2).sum();
    let room = LINE_MAX.saturating_sub(line.len() + keys + 1);
    let is_cut = values.iter().map(Value::len).sum::<usize>() > room;
    let most = match is_cut {
        true => share(&values, room.saturating_sub(CUT.len())),
        false => usize::MAX,
    };
    for ((key, _), value) in fields.iter().zip(&values) {
        line.push(' ');
        line.push_str(key);
        line.push('=');
        value.push(&mut line, most);
    }
    if is_cut {
        line.push_str(CUT);
    }
    line.push('\n');
    line
}

/// The length that the longest of these values may have if they share so much room. Shorter ones stay whole.
fn share(values: &[Value], mut room: usize) -> usize {
    let mut lens: Vec<usize> = values.iter().map(Value::len).collect();
    lens.sort_unstable();
    for (at, len) in lens.iter().enumerate() {
        let share = room / (lens.len() - at);
        if *len > share {
            return share;
        }
        room -= len;
    }
    usize::MAX
}

/// The text of a field. One of visible ASCII is written as it is; any other is quoted, with escapes as in Rust.
#[derive(Default)]
struct Value {
    /// Its beginning, of which no more than a line is kept: a text shrinks nowhere when it is written.
    text: String,
    is_quoted: bool,
}

impl Value {
    fn new(value: &dyn Display) -> Value {
        let mut new = Value::default();
        // A text that is too long is refused in the middle, so that what cannot be written is not made.
        let _ = write!(new, "{value}");
        let is_plain = |c: char| c.is_ascii_graphic() && c != '"';
        new.is_quoted = new.text.is_empty() || !new.text.chars().all(is_plain);
        new
    }

    /// How long it is in the log.
    fn len(&self) -> usize {
        match self.is_quoted {
            true => 2 + self.text.chars().map(escaped_len).sum::<usize>(),
            false => self.text.len(),
        }
    }

    /// Appends as much of it as there is room for in so many bytes.
    fn push(&self, line: &mut String, most: usize) {
        if !self.is_quoted {
            return line.push_str(&self.text[..self.text.len().min(most)]);
        }
        line.push('"');
        let mut room = most.saturating_sub(2);
        for c in self.text.chars() {
            let Some(left) = room.checked_sub(escaped_len(c)) else {
                break;
            };
            room = left;
            match c {
                '"' | '\\' => line.extend(['\\', c]),
                ' '..='~' => line.push(c),
                _ => line.extend(c.escape_default()),
            }
        }
        line.push('"');
    }
}

impl fmt::Write for Value {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LINE_MAX - self.text.len();
        let mut end = text.len().min(room);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.push_str(&text[..end]);
        // Up to three bytes may be missing to the length of a line, which is too long with its time all the same.
        (text.len() <= room).then_some(()).ok_or(fmt::Error)
    }
}

fn escaped_len(c: char) -> usize {
    match c {
        '"' | '\\' => 2,
        ' '..='~' => 1,
        _ => c.escape_default().count(),
    }
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
    use crate::sys::output::{foreign_pipe, narrow};
    use std::fs::File;
    use std::io::{self, PipeReader, Read};
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::fs::OpenOptionsExt;
    use std::thread;
    use std::time::Duration;

    const DAY_US: u64 = 86_400_000_000;

    /// Plays a reader that stops and goes on: of numbered lines of all lengths each arrives whole and in order, or is
    /// in a count that stands in its place. Returns how many counts there were.
    fn play(output: Output, reader: &mut impl Read, in_batches: bool) -> usize {
        let mut log = Log::on(Some(output), false);
        let (mut heard, mut seed) = (Vec::new(), 1u64);
        let mut chance = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 40) as usize
        };
        let mut lines = 0;
        while lines < 3000 || log.dropped > 0 || !log.batch.is_empty() || !log.finish() {
            let text = "x".repeat(match chance() % 4 {
                0 => 5000,
                1 => chance() % 4096,
                _ => chance() % 100,
            });
            let n = lines;
            let fields: Fields = &[("n", &n), ("text", &text)];
            lines += 1;
            match in_batches {
                true => log.info_in_batch(0, "line", fields),
                false => log.info(0, "line", fields),
            }
            if !in_batches || chance() % 5 == 0 {
                log.flush(0);
            }
            let most = [0, 0, 100, 9000][chance() % 4];
            // It may find nothing there.
            let _ = reader.take(most).read_to_end(&mut heard);
        }
        drop(log);
        // A process that another test has just forked has the writing end too, until it executes its program.
        let mut tries = 0;
        while let Err(e) = reader.read_to_end(&mut heard) {
            tries += 1;
            let is_early = e.kind() == io::ErrorKind::WouldBlock;
            assert!(is_early && tries < 1000, "{e}");
            thread::sleep(Duration::from_millis(10));
        }
        let (told, counts) = read_back(&heard);
        assert_eq!(told, lines, "all are told of");
        counts
    }

    /// How many lines were written or counted, and how many counts there are.
    fn read_back(heard: &[u8]) -> (usize, usize) {
        let heard = str::from_utf8(heard).unwrap();
        assert!(heard.ends_with('\n'));
        let (mut next, mut counts) = (0, 0);
        for line in heard.lines() {
            assert!(line.len() < LINE_MAX);
            let rest = line.strip_prefix("1970-01-01T00:00:00.000Z ").unwrap();
            if let Some(count) = rest.strip_prefix("warn dflockd log-dropped count=") {
                next += count.parse::<usize>().unwrap();
                counts += 1;
                continue;
            }
            let rest = rest.strip_prefix("info dflockd line n=").unwrap();
            let (n, text) = rest.split_once(" text=").unwrap();
            assert_eq!(n.parse(), Ok(next), "in order");
            let text = text.strip_suffix(CUT).unwrap_or(text);
            let is_whole = text == "\"\"" || text.bytes().all(|byte| byte == b'x');
            assert!(is_whole, "{text}");
            next += 1;
        }
        (next, counts)
    }

    /// The same pipe, read without waiting.
    fn patient(reader: PipeReader) -> File {
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        options.open(path).unwrap()
    }

    #[test]
    fn lines_that_find_no_room_are_dropped_whole_and_counted_in_their_place() {
        for in_batches in [false, true] {
            let (reader, writer) = io::pipe().unwrap();
            let output = Output::new(OwnedFd::from(writer));
            assert!(play(output, &mut patient(reader), in_batches) > 1);
            let (output, reader) = foreign_pipe();
            assert!(play(output, &mut patient(reader), in_batches) > 1);
            let (output, mut reader) = narrow();
            reader.set_nonblocking(true).unwrap();
            assert!(play(output, &mut reader, in_batches) > 1);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_where_it_is_longest_and_says_so() {
        let long = "x".repeat(10_000);
        let fields: Fields = &[("a", &"short"), ("b", &long), ("c", &"also short")];
        let text = line("", 0, "warn", "event", fields);
        assert_eq!(text.len(), LINE_MAX);
        assert!(text.starts_with("1970-01-01T00:00:00.000Z warn dflockd event a=short b=xx"));
        assert!(text.ends_with("xx c=\"also short\" cut=true\n"), "{text}");
        // Two long ones share the room.
        let fields: Fields = &[("a", &long), ("b", &"short"), ("c", &long)];
        let text = line("", 0, "warn", "event", fields);
        let lens: Vec<usize> = text.split(' ').map(str::len).skip(4).collect();
        assert_eq!(lens[0], lens[2]);
        assert!((LINE_MAX - 1..=LINE_MAX).contains(&text.len()));
    }

    #[test]
    fn a_line_of_any_length_is_whole_and_no_escape_is_cut() {
        for c in ["x", " ", "\"", "\u{7f}", "\u{e9}", "\u{2028}", "\u{1f512}"] {
            for len in (0..100).chain(400..900).chain(4000..4200) {
                let value = c.repeat(len);
                let text = line("", 0, "info", "x", &[("v", &value), ("w", &1)]);
                assert!(text.len() <= LINE_MAX);
                let (_, rest) = text.split_once(" v=").unwrap();
                let is_cut = rest.ends_with(" w=1 cut=true\n");
                let end = if is_cut { " w=1 cut=true\n" } else { " w=1\n" };
                let value = rest.strip_suffix(end).unwrap();
                let inside = match value.strip_prefix('"') {
                    Some(rest) => rest.strip_suffix('"').unwrap(),
                    None => value,
                };
                let escaped: String = match c {
                    "\"" => "\\\"".to_string(),
                    "x" | " " => c.to_string(),
                    _ => c.escape_default().to_string(),
                };
                let count = inside.len() / escaped.len();
                assert_eq!(inside, escaped.repeat(count));
                assert!(count == len || is_cut && text.len() > LINE_MAX - 10);
            }
        }
    }

    /// The value is refused long before its end, so a value of any size costs the same.
    #[test]
    fn a_value_that_is_too_long_is_not_made() {
        struct Endless;
        impl Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                loop {
                    f.write_str("again")?;
                }
            }
        }
        let text = line("", 0, "debug", "x", &[("v", &Endless)]);
        assert_eq!(text.len(), LINE_MAX);
    }

    #[test]
    fn an_event_is_one_line_of_time_level_program_event_and_fields() {
        let text = line(
            "",
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
            let text = line("", 0, "warn", "warning", &[("text", &value)]);
            let wanted = format!("1970-01-01T00:00:00.000Z warn dflockd warning text={written}\n");
            assert_eq!(text, wanted);
        }
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
