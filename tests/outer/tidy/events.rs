//! The events of the log in the sources against DIAGNOSTICS in dflockd(8). Not here: what a line looks like, which the
//! unit tests of the log have. Invariant: an event name that this file cannot find fails the test, and is not skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The level of each method of `Log` that takes an event.
const LEVELS: [(&str, &str); 5] = [
    (".error(", "error"),
    (".warn(", "warn"),
    (".info(", "info"),
    (".debug(", "debug"),
    (".info_in_batch(", "info"),
];

/// Each event with the levels at which it is logged.
type Events = BTreeMap<String, BTreeSet<String>>;

#[test]
fn diagnostics_has_each_event_with_its_level_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/dflockd.8");
    let page = fs::read_to_string(path).unwrap();
    let (_, section) = page.split_once("\n.Sh DIAGNOSTICS\n").unwrap();
    let (section, _) = section.split_once("\n.Sh ").unwrap();
    // Its subsections have messages that are no events.
    let section = section.split("\n.Ss ").next().unwrap();
    let heads = section
        .lines()
        .filter_map(|line| line.strip_prefix(".It Li "));
    let heads: Vec<_> = heads.filter_map(|head| head.split_once(' ')).collect();
    let name = |rest: &str| rest.split(' ').next().unwrap().to_string();
    let told: BTreeMap<_, _> = heads
        .iter()
        .map(|(level, rest)| (name(rest), level))
        .collect();
    assert_eq!(told.len(), heads.len(), "an event has one item");
    let logged = events(&super::sources());
    assert!(logged.len() > 20, "{logged:?}");
    let mut wrong = String::new();
    for (event, levels) in &logged {
        match told.get(event) {
            None => wrong += &format!("{event}: the server logs it, DIAGNOSTICS has no item\n"),
            Some(level) if !levels.contains(**level) => {
                wrong += &format!("{event}: logged as {levels:?}, DIAGNOSTICS has {level}\n");
            }
            Some(_) => {}
        }
    }
    for event in told.keys().filter(|event| !logged.contains_key(*event)) {
        wrong += &format!("{event}: DIAGNOSTICS has an item, the server does not log it\n");
    }
    assert!(
        wrong.is_empty(),
        "\n{wrong}man/dflockd.8 wants `.It Li LEVEL EVENT FIELD= ...` for each event, with what it means and what to do"
    );
}

#[test]
fn an_event_is_seen_however_it_is_named() {
    let server = r#"
        const KEPT: &str = "kept";
        fn a(log: &mut Log) {
            log.warn(
                unix_us(),
                "plain",
                &[("of", &f(1, 2))],
            );
            // log.warn(0, "comment", &[]);
            self.log.debug(0, face.rules().listening, &[]);
            tell(0, "passed", log);
            b::tell(0, KEPT, log);
        }
        fn b(kind: Kind, log: &mut Log) {
            let event = match kind {
                #[cfg(feature = "f")]
                Kind::One => "one",
                Kind::More => return log.error(0, "more", &[("of", &1)]),
                Kind::Two => { "two" }
            };
            log.error(0, event, &[]);
        }
        pub(super) fn tell(at: u64, name: &str, log: &mut Log) {
            log.info_in_batch(at, name, &[]);
        }
        #[cfg(test)]
        fn c() { log.info(0, "tested", &[]) }
    "#;
    let wire = r#"Rules { listening: "listening" }"#;
    let files = [("server/mod", server), ("wire/mod", wire)];
    let found = events(&files.map(|(file, text)| (file.to_string(), text.to_string())));
    let found: Vec<_> = found
        .into_iter()
        .map(|(event, levels)| format!("{event} {}", Vec::from_iter(levels).join(" ")))
        .collect();
    let wanted = [
        "kept info",
        "listening debug",
        "more error",
        "one error",
        "passed info",
        "plain warn",
        "two error",
    ];
    assert_eq!(found, wanted);
}

/// The events that the server can log, from its sources.
fn events(sources: &[(String, String)]) -> Events {
    let is_ours = |file: &str| !file.starts_with("bin/") && !file.starts_with("client/");
    let files = sources.iter().filter(|(file, _)| is_ours(file));
    let files: Vec<(&str, String)> = files.map(|(file, text)| (&file[..], code(text))).collect();
    let mut found = Events::new();
    for (file, text) in &files {
        for (method, level) in LEVELS {
            for (at, _) in text.match_indices(method) {
                let given = arguments(&text[at + method.len()..]);
                let event = given
                    .get(1)
                    .unwrap_or_else(|| panic!("{file}: no event: {given:?}"));
                for name in names(event, &text[..at], &files) {
                    found.entry(name).or_default().insert(level.to_string());
                }
            }
        }
    }
    // The one line that the log writes by itself.
    for (_, text) in files.iter().filter(|(file, _)| *file == "log") {
        for (at, method) in text.match_indices("self.line(") {
            let given = arguments(&text[at + method.len()..]);
            if let [_, level, event, _] = &given[..]
                && let (Some(level), Some(event)) = (literal(level), literal(event))
            {
                found.entry(event).or_default().insert(level);
            }
        }
    }
    found
}

/// The names that an expression stands for: a literal, a constant, a field of a table, a `let` of a `match`, or a
/// parameter, which is what the callers of its function give.
fn names(event: &str, before: &str, files: &[(&str, String)]) -> Vec<String> {
    if let Some(name) = literal(event) {
        return vec![name];
    }
    let all = |mark: &str| -> Vec<String> {
        let texts = files.iter().flat_map(|(_, text)| text.split(mark).skip(1));
        texts
            .filter_map(|rest| literal(rest.split([';', ',', ' ', '}']).next()?))
            .collect()
    };
    let last = event
        .rsplit(['.', ':'])
        .next()
        .expect("split gives at least one");
    let function = before
        .rsplit("fn ")
        .next()
        .expect("split gives at least one");
    let found = if event.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
        all(&format!("const {event}: &str = "))
    } else if event.contains('.') {
        all(&format!(" {last}: "))
    } else if let Some((_, body)) = function.rsplit_once(&format!("let {event} = match ")) {
        let (body, _) = body.split_once("};").expect("a match ends");
        // Behind a parenthesis it is the name of a field, and behind an equals sign that of a feature.
        let parts: Vec<&str> = body.split('"').collect();
        let literals = parts.chunks_exact(2);
        let literals = literals.filter(|part| !part[0].trim_end().ends_with(['(', '=']));
        literals.map(|part| part[1].to_string()).collect()
    } else {
        let (name, rest) = function.split_once('(').expect("a function has parameters");
        let place = arguments(rest)
            .iter()
            .position(|given| given.starts_with(&format!("{event}:")));
        let place = place.unwrap_or_else(|| panic!("{name}: where does {event} come from?"));
        let mark = format!("{name}(");
        let calls = files.iter().flat_map(|(_, text)| {
            let places = text.match_indices(&mark);
            places.map(move |(at, mark)| (text, at, at + mark.len()))
        });
        let calls = calls.filter(|(text, at, _)| !text[..*at].ends_with("fn "));
        calls
            .flat_map(|(text, at, end)| names(&arguments(&text[end..])[place], &text[..at], files))
            .collect()
    };
    assert!(
        !found.is_empty(),
        "{event}: want the name of the event as a literal, or where it is from"
    );
    found
}

/// What stands between double quotes.
fn literal(expression: &str) -> Option<String> {
    let inside = expression.trim().strip_prefix('"')?.strip_suffix('"')?;
    Some(inside.to_string())
}

/// The arguments of a call, of which the text begins behind the parenthesis.
fn arguments(text: &str) -> Vec<String> {
    let (mut all, mut depth, mut start, mut is_text) = (Vec::new(), 0, 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => is_text = !is_text,
            _ if is_text => {}
            '(' | '[' | '{' => depth += 1,
            ',' | ')' if depth == 0 => {
                all.push(text[start..at].trim().to_string());
                start = at + 1;
                if c == ')' {
                    break;
                }
            }
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    all.retain(|argument| !argument.is_empty());
    all
}

/// A source without its tests and comments, in one line.
fn code(text: &str) -> String {
    let code = text
        .split("#[cfg(test)]")
        .next()
        .expect("split gives at least one");
    let lines = code
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"));
    lines.collect::<Vec<_>>().join(" ")
}
