//! House rules that a compiler does not know: which file may import which, where `unsafe` and the clock may be,
//! and that everything which may not be in the code is not.

use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom. A file that is not here may not be at all: give it its place first.
const IMPORTS: &[(&str, &[&str])] = &[
    ("main", &["config", "log", "server", "sys"]),
    ("lib", &[]),
    ("bin/dflock/main", &["sys"]),
    (
        "bin/dflock/bench/mod",
        &["failure", "options", "print", "sys"],
    ),
    ("bin/dflock/bench/figures", &["command"]),
    ("bin/dflock/bench/lane", &["command"]),
    ("bin/dflock/bench/load", &["command", "sys"]),
    (
        "bin/dflock/bench/options",
        &["command", "options", "values"],
    ),
    ("bin/dflock/bench/page", &[]),
    ("bin/dflock/bench/peer", &[]),
    ("bin/dflock/bench/plan", &["command"]),
    (
        "bin/dflock/bench/proto",
        &["command", "failure", "steps", "wire"],
    ),
    ("bin/dflock/bench/report", &["command"]),
    ("bin/dflock/bench/watch", &["command"]),
    ("bin/dflock/failure", &[]),
    ("bin/dflock/guard", &["command", "sys"]),
    ("bin/dflock/link", &["sys"]),
    (
        "bin/dflock/print",
        &["client", "failure", "options", "wire"],
    ),
    (
        "bin/dflock/steps/listen",
        &["client", "failure", "options", "print", "sys", "wire"],
    ),
    (
        "bin/dflock/options",
        &["client", "command", "values", "wire"],
    ),
    ("bin/dflock/steps/listing", &["failure", "options", "print"]),
    (
        "bin/dflock/run/mod",
        &["command", "failure", "options", "print", "sys"],
    ),
    (
        "bin/dflock/run/acquire",
        &[
            "client", "command", "failure", "link", "options", "steps", "sys", "wire",
        ],
    ),
    (
        "bin/dflock/run/lease",
        &[
            "client", "command", "failure", "link", "options", "print", "sys", "wire",
        ],
    ),
    (
        "bin/dflock/run/supervise",
        &["command", "failure", "guard", "options", "sys"],
    ),
    (
        "bin/dflock/steps/mod",
        &["client", "command", "failure", "options", "print", "wire"],
    ),
    (
        "bin/dflock/steps/talk",
        &["client", "command", "failure", "options"],
    ),
    ("bin/dflock/values", &["client", "command", "config"]),
    (
        "server/mod",
        &["command", "config", "hub", "locks", "log", "sys"],
    ),
    ("client/mod", &["command", "sys", "wire"]),
    ("client/error", &["command"]),
    ("client/lock", &["command", "sys"]),
    ("client/owner", &["command", "sys", "wire"]),
    ("client/shard", &[]),
    ("client/signals", &["command", "sys", "wire"]),
    ("server/limits", &[]),
    ("server/socket", &["command", "hub"]),
    (
        "server/doors",
        &["command", "config", "hub", "log", "sys", "wire"],
    ),
    ("sys/mod", &["command"]),
    ("sys/process", &["command"]),
    ("config/mod", &["command"]),
    ("config/tests", &["command"]),
    ("config/options", &["command", "wire"]),
    ("log", &["command", "sys"]),
    ("hub/mod", &["base", "command", "locks", "signals", "wire"]),
    ("hub/check", &["wire"]),
    ("hub/life", &["command", "wire"]),
    ("hub/session", &["base", "command", "wire"]),
    ("hub/post", &["command", "signals", "wire"]),
    ("hub/listing", &["command", "locks", "signals", "wire"]),
    ("hub/agenda", &[]),
    ("hub/counts", &["command", "locks"]),
    ("hub/outlet", &["base"]),
    ("hub/execute", &["command", "wire"]),
    ("locks/mod", &["base", "command"]),
    ("locks/check", &["base"]),
    ("locks/crowd", &["base", "command"]),
    ("locks/grant", &["base", "command"]),
    ("locks/idle", &["base", "command"]),
    ("locks/key", &["base", "command"]),
    ("locks/knot", &["command"]),
    ("locks/owner", &["base", "command"]),
    ("locks/phases", &["base", "command"]),
    ("locks/slices", &["base", "command"]),
    ("locks/ticket", &["base", "command"]),
    ("locks/acquire", &["base", "command"]),
    ("locks/view", &["command"]),
    ("locks/counts", &[]),
    ("locks/claim", &["base", "command"]),
    ("locks/secret", &["command"]),
    ("signals/mod", &["base", "command"]),
    ("signals/check", &["base"]),
    ("signals/emission", &["base", "command"]),
    ("signals/patterns", &["base"]),
    ("wire/mod", &["command"]),
    ("wire/distlockd", &["command"]),
    ("wire/ask", &["command"]),
    ("wire/json", &["command"]),
    ("wire/text", &["command"]),
    ("wire/text/tests", &[]),
    ("base/wheel", &["base", "command"]),
    ("command", &[]),
    ("base/table", &[]),
    ("base/slab", &[]),
    ("base/list", &["base"]),
    ("base/name", &[]),
    ("base/buffer", &[]),
    ("base/mod", &[]),
];

/// Files and folders of the outer ring.
const OUTER: [&str; 8] = [
    "bin", "main", "lib", "server", "client", "sys", "config", "log",
];

#[test]
fn imports_point_inwards() {
    for (file, text) in sources() {
        // Tests may look at anything.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            for marker in ["crate::", "dflockd::"] {
                for (at, _) in line.match_indices(marker) {
                    let rest = &line[at + marker.len()..];
                    for name in imported(rest) {
                        let allowed = allowed(&file);
                        assert!(
                            allowed.contains(&name),
                            "{file} must not import {name}: {line}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn every_file_has_its_place_in_the_table_and_every_row_its_file() {
    let files: Vec<String> = sources().into_iter().map(|(file, _)| file).collect();
    for file in &files {
        allowed(file);
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
    // Once a turn, once for its length under --debug, and once at the start.
    assert_eq!(source("server/mod").matches("sys::now()").count(), 3);
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
        let is_test = file.ends_with("/tests");
        let code = text.split("#[cfg(test)]").next().unwrap();
        assert!(
            is_test || !code.contains(".unwrap()"),
            "{file} unwraps outside its tests"
        );
    }
}

fn allowed(file: &str) -> &'static [&'static str] {
    let row = IMPORTS.iter().find(|(name, _)| *name == file);
    row.unwrap_or_else(|| panic!("src/{file}.rs has no row in this table"))
        .1
}

/// The modules of ours that a path begins with: `hub::Hub` or `{server, sys}`.
fn imported(rest: &str) -> Vec<&str> {
    let word = |text: &'_ str| {
        text.split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .unwrap()
            .len()
    };
    match rest.strip_prefix('{') {
        Some(list) => {
            let list = list.split('}').next().unwrap();
            list.split(',')
                .map(|item| &item.trim()[..word(item.trim())])
                .collect()
        }
        None => vec![&rest[..word(rest)]],
    }
}

fn source(name: &str) -> String {
    fs::read_to_string(root().join(format!("{name}.rs"))).unwrap()
}

/// Every source file: its path below src without ending, and its text.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root()).unwrap().with_extension("");
                files.push((
                    name.to_str().unwrap().to_string(),
                    fs::read_to_string(&path).unwrap(),
                ));
            }
        }
    }
    assert!(files.len() > 10);
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
