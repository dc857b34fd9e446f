//! House rules that a compiler does not know: which file may import which, that no two siblings import each other,
//! where `unsafe` and the clock may be, how long a file and a function may be without a reason, and what may not be in
//! the code at all.

mod events;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use tables::{CIRCLES, FILE_MAX, FUNCTION_MAX, IMPORTS, LONG, OUTER};

#[test]
fn imports_are_those_of_the_table() {
    let files = names();
    let mut wrong = String::new();
    for (file, text) in sources() {
        let targets = targets(&file, &text, &files);
        let labels = targets.iter().filter_map(|target| label(&file, target));
        let labels: BTreeSet<String> = labels.collect();
        let row: BTreeSet<String> = row(&file).split(' ').map(str::to_string).collect();
        let more: Vec<_> = labels.difference(&row).collect();
        let fewer: Vec<_> = row.difference(&labels).filter(|l| !l.is_empty()).collect();
        if !more.is_empty() || !fewer.is_empty() {
            let is = Vec::from_iter(labels.iter().cloned()).join(" ");
            wrong +=
                &format!("imports {more:?}, and not {fewer:?}:\n    (\"{file}\", \"{is}\"),\n");
        }
    }
    assert!(wrong.is_empty(), "the table says otherwise:\n{wrong}");
}

#[test]
fn siblings_import_in_no_circle() {
    let files = names();
    // For each folder: which of its files and folders import which.
    let mut folders: BTreeMap<String, Graph> = BTreeMap::new();
    for (file, text) in sources() {
        for target in targets(&file, &text, &files) {
            if let Some((folder, from, to)) = siblings(&file, &target) {
                let graph = folders.entry(folder).or_default();
                graph.entry(from).or_default().insert(to);
            }
        }
    }
    for (folder, from, to, why) in CIRCLES {
        assert!(!why.is_empty());
        let graph = folders.get_mut(*folder).expect("a folder with imports");
        let is_there = graph.get(*from).is_some_and(|tos| tos.contains(*to));
        assert!(
            is_there && way(graph, to, from).is_some(),
            "{folder}: {from} and {to} are in no circle any more: remove the exception"
        );
        graph.get_mut(*from).expect("seen above").remove(*to);
    }
    for (folder, graph) in &folders {
        for (from, tos) in graph {
            for to in tos {
                let way = way(graph, to, from);
                assert_eq!(way, None, "src/{folder}: {from} imports {to}: a circle");
            }
        }
    }
}

#[test]
fn what_is_long_has_a_reason() {
    let (mut long, mut said) = (Vec::new(), Vec::new());
    let files = [("src", sources()), ("tests", below("tests"))];
    for (folder, (file, text)) in files
        .iter()
        .flat_map(|(f, s)| s.iter().map(move |s| (f, s)))
    {
        let lines = text.lines().count();
        if lines > FILE_MAX {
            long.push((format!("{folder}/{file}"), "", lines));
        }
        for (name, lines) in lengths(text) {
            if lines > FUNCTION_MAX {
                long.push((format!("{folder}/{file}"), name, lines));
            }
        }
    }
    for (file, name, lines) in &long {
        let is_it = |known: &(&str, &str, &str)| known.0 == file && known.1 == *name;
        if !LONG.iter().any(is_it) {
            said.push(format!(
                "{file}.rs {name} has {lines} lines: cut it, or say why not"
            ));
        }
    }
    for (file, name, why) in LONG {
        assert!(!why.is_empty());
        if !long.iter().any(|(f, n, _)| f == file && n == name) {
            said.push(format!(
                "{file}.rs {name} is not long any more: it needs no reason"
            ));
        }
    }
    assert!(said.is_empty(), "{}", said.join("\n"));
}

#[test]
fn an_import_is_seen_however_it_is_written() {
    let files = [
        "lib",
        "hub/mod",
        "hub/life",
        "hub/session",
        "wire/mod",
        "wire/text",
    ];
    let files = files.map(str::to_string).into();
    for (file, code, imports) in [
        ("hub/life", "use super::session::{A, B};", "super::session"),
        ("hub/life", "use crate::hub::session::A;", "super::session"),
        (
            "hub/life",
            "use super::Hub;\nuse super::{A, session};",
            "super::session",
        ),
        ("hub/life", "let a = super::super::wire::text::B;", "wire"),
        (
            "hub/life",
            "use crate::{\n    hub::Hub,\n    wire::{Face, mod_of},\n};",
            "wire",
        ),
        (
            "hub/life",
            "// super::session\n#[cfg(test)]\nuse super::session;",
            "",
        ),
        ("hub/mod", "use session::A;\nuse super::wire;", "wire"),
        ("bin/dflock/main", "use dflockd::hub;", "hub"),
    ] {
        let targets = targets(file, code, &files);
        let labels = targets.iter().filter_map(|target| label(file, target));
        assert_eq!(labels.collect::<Vec<_>>().join(" "), imports, "{code}");
    }
}

#[test]
fn a_circle_and_a_long_function_are_seen() {
    let edge = |a: &str, b: &str| {
        siblings(a, b).map(|(folder, from, to)| format!("{folder}: {from} {to}"))
    };
    assert_eq!(
        edge("hub/life", "hub/session").as_deref(),
        Some("hub: life session")
    );
    assert_eq!(edge("hub/life", "wire/text").as_deref(), Some(": hub wire"));
    assert_eq!(edge("hub/life", "hub/mod"), None);
    let graph: Graph = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]
        .map(|(from, to)| (from.to_string(), BTreeSet::from([to.to_string()])))
        .into();
    assert_eq!(way(&graph, "b", "a").as_deref(), Some("b -> c -> a"));
    assert_eq!(way(&graph, "a", "d"), None);
    let code =
        "impl A {\n    pub fn a(\n        b: C,\n    ) {\n        d();\n    }\n}\nfn e() {}\n";
    assert_eq!(lengths(code), [("a", 5), ("e", 1)]);
}

#[test]
fn every_file_has_its_place_in_the_table_and_every_row_its_file() {
    let files: Vec<String> = sources().into_iter().map(|(file, _)| file).collect();
    for file in &files {
        row(file);
    }
    for (row, _) in IMPORTS {
        assert!(
            files.iter().any(|file| file == row),
            "no src/{row}.rs any more"
        );
    }
}

#[test]
fn every_file_says_what_it_is_first() {
    for (file, text) in sources() {
        assert!(text.starts_with("//! "), "{file}");
    }
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    for (file, text) in sources() {
        if file.starts_with("sys/") {
            let blocks = text.matches("unsafe {").count();
            let reasons = text.matches("// SAFETY: ").count();
            assert_eq!(reasons, blocks, "{file}: each block says why it is sound");
            continue;
        }
        for line in text.lines() {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            assert!(
                !words
                    .clone()
                    .any(|word| word == "unsafe" || word == "unsafe_code"),
                "{file}: {line}"
            );
        }
    }
}

#[test]
fn the_clock_is_read_in_the_outer_ring_alone() {
    for (file, text) in sources().into_iter().filter(|(file, _)| file != "sys/mod") {
        for clock in ["Instant", "SystemTime", "clock_gettime"] {
            assert!(!text.contains(clock), "{file} reads {clock}");
        }
    }
    let server = sources().into_iter().find(|(file, _)| file == "server/mod");
    let server = server.expect("the loop");
    // Once a turn, once for its length under --debug, and once at the start.
    assert_eq!(server.1.matches("sys::now()").count(), 3);
}

#[test]
fn the_inner_rings_have_no_dice_no_files_and_no_maps_in_random_order() {
    for (file, text) in sources() {
        if OUTER.contains(&file.split('/').next().unwrap()) {
            continue;
        }
        for word in [
            "getrandom",
            "HashMap",
            "HashSet",
            "std::io",
            "std::net",
            "std::fs",
            "std::thread",
            "print",
        ] {
            assert!(!text.contains(word), "{file} has {word}");
        }
    }
}

/// What must outlive a turn is told from these three functions, so nothing else may begin, move or end a hold.
#[test]
fn a_hold_begins_moves_and_ends_in_one_function_each() {
    for (mark, function) in [
        (".token = token;", "begin_hold"),
        (".held += 1;", "begin_hold"),
        ("counts.granted += 1;", "grant_until"),
        ("crowd.join(", "begin_hold"),
        ("crowd.postpone(", "set_due"),
        (".held -= 1;", "drop_hold"),
        ("counts.released += 1", "drop_hold"),
        ("counts.expired += 1", "drop_hold"),
        ("counts.closed += 1", "drop_hold"),
        ("crowd.leave(", "drop_hold"),
    ] {
        let locks = sources()
            .into_iter()
            .filter(|(file, _)| file.starts_with("locks/"));
        let mut places = Vec::new();
        for (file, text) in locks {
            // As if each statement stood on one line.
            let text = text.replace("\n                .", ".");
            for (at, _) in text.match_indices(mark) {
                let function = text[..at].rsplit_once("fn ").expect("in a function").1;
                let name = function.split('(').next().expect("a name");
                places.push(format!("{file} {name}"));
            }
        }
        assert_eq!(places, [format!("locks/grant {function}")], "{mark}");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    for (file, text) in sources() {
        for word in [
            concat!("TO", "DO"),
            concat!("to", "do!"),
            concat!("unimpl", "emented!"),
            concat!("db", "g!"),
            "RefCell",
            "async ",
            "dyn Fn",
        ] {
            assert!(!text.contains(word), "{file} has {word}");
        }
        let is_test = format!("{file}/").contains("/tests/");
        let code = text.split("#[cfg(test)]").next().unwrap();
        assert!(
            is_test || !code.contains(".unwrap()"),
            "{file} unwraps outside its tests"
        );
    }
}

fn row(file: &str) -> &'static str {
    let row = IMPORTS.iter().find(|(name, _)| *name == file);
    row.unwrap_or_else(|| panic!("src/{file}.rs has no row in this table"))
        .1
}

/// The files that a file imports, its parents and its children among them. Its unit tests may look at anything.
fn targets(file: &str, text: &str, files: &BTreeSet<String>) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let parent = module(file)
        .split_last()
        .map_or(vec![], |(_, parent)| parent.to_vec());
    let mut found = BTreeSet::new();
    for (marker, base) in [
        ("crate::", root_of(file)),
        ("dflockd::", vec![]),
        ("super::", parent),
    ] {
        for (at, _) in code.match_indices(marker) {
            let is_whole = |c: char| !c.is_alphanumeric() && c != '_' && c != ':';
            if !code[..at].chars().next_back().is_none_or(is_whole) {
                continue;
            }
            for path in paths(&code[at + marker.len()..]) {
                let mut whole = base.clone();
                for word in path {
                    match word {
                        "super" => drop(whole.pop()),
                        word => whole.push(word),
                    }
                }
                found.extend(resolved(&whole, files));
            }
        }
    }
    found
}

/// The paths of a `use`: of `a::{b, c::d}` that is `a::b` and `a::c::d`.
fn paths(text: &str) -> Vec<Vec<&str>> {
    let text = text.trim_start();
    if let Some(list) = text.strip_prefix('{') {
        let (mut all, mut depth, mut start) = (Vec::new(), 0, 0);
        for (at, c) in list.char_indices() {
            if depth == 0 && ",}".contains(c) {
                all.extend(paths(&list[start..at]));
                start = at + 1;
            }
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                _ => {}
            }
        }
        return all;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    match rest.strip_prefix("::") {
        Some(rest) => paths(rest)
            .into_iter()
            .map(|path| [&[word], &path[..]].concat())
            .collect(),
        None => vec![vec![word]],
    }
}

/// The file of the module that a path leads to or into, if it is one of ours.
fn resolved(path: &[&str], files: &BTreeSet<String>) -> Option<String> {
    (1..=path.len()).rev().find_map(|end| {
        let name = path[..end].join("/");
        let places = [name.clone(), format!("{name}/mod"), format!("{name}/main")];
        places.into_iter().find(|place| files.contains(place))
    })
}

/// The path of the module that a file is.
fn module(file: &str) -> Vec<&str> {
    let mut path: Vec<&str> = file.split('/').collect();
    if file == "lib" || file.ends_with("/mod") || file.ends_with("/main") {
        path.pop();
    }
    path
}

/// The path of the crate that a file belongs to: dflock(1)'s, or none.
fn root_of(file: &str) -> Vec<&str> {
    let in_dflock = file.starts_with("bin/dflock/");
    if in_dflock {
        vec!["bin", "dflock"]
    } else {
        vec![]
    }
}

/// How the table calls what a file imports; None for its parents and its children.
fn label(file: &str, target: &str) -> Option<String> {
    let (from, to) = (module(file), module(target));
    if from.starts_with(&to) || to.starts_with(&from) {
        return None;
    }
    let folder = &from[..from.len() - 1];
    if to.starts_with(folder) && folder != root_of(file) {
        return Some(format!("super::{}", to[folder.len()]));
    }
    Some(to[root_of(target).len()].to_string())
}

/// The folder where the ways to two files part, and the two entries of it where they are.
fn siblings(file: &str, target: &str) -> Option<(String, String, String)> {
    let (from, to) = (module(file), module(target));
    let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let (a, b) = (from.get(same)?, to.get(same)?);
    Some((from[..same].join("/"), a.to_string(), b.to_string()))
}

type Graph = BTreeMap<String, BTreeSet<String>>;

/// A way from one to another along imports, if there is one.
fn way(graph: &Graph, from: &str, to: &str) -> Option<String> {
    let (mut ways, mut seen) = (vec![(from.to_string(), from.to_string())], BTreeSet::new());
    while let Some((at, way)) = ways.pop() {
        if at == to {
            return Some(way);
        }
        if seen.insert(at.clone()) {
            let next = graph.get(&at).into_iter().flatten();
            ways.extend(next.map(|next| (next.clone(), format!("{way} -> {next}"))));
        }
    }
    None
}

/// Every function with its lines, from its name to its closing brace as rustfmt sets it.
fn lengths(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words = ["pub(super) ", "pub(crate) ", "pub ", "const ", "unsafe "];
        let bare = words
            .iter()
            .fold(code, |code, word| code.strip_prefix(word).unwrap_or(code));
        let Some(name) = bare.strip_prefix("fn ") else {
            continue;
        };
        let name = name
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .unwrap();
        let close = format!("{}}}", &line[..line.len() - code.len()]);
        let length = match line.ends_with(['}', ';']) {
            true => 1,
            false => {
                1 + lines[start..]
                    .iter()
                    .position(|line| *line == close)
                    .unwrap()
            }
        };
        found.push((name, length));
    }
    found
}

fn names() -> BTreeSet<String> {
    sources().into_iter().map(|(file, _)| file).collect()
}

/// Every source file: its path below src without ending, and its text.
fn sources() -> Vec<(String, String)> {
    below("src")
}

fn below(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut files, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).unwrap().with_extension("");
                let text = fs::read_to_string(&path).unwrap();
                files.push((name.to_str().unwrap().to_string(), text));
            }
        }
    }
    assert!(files.len() > 10);
    files
}
