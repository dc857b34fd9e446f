//! The documents against the program: options against the table, dialogues against the real binary. Not here: how a
//! dialogue is played, which desk.rs has, and the scripts, in examples.rs. Invariant: a document and the program say the
//! same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::tools;
use crate::desk::{FORGETS, READY, dflockd, run_dialogues};
use dflockd::config::{Flag, OPTIONS, help};
#[cfg(feature = "http")]
use dflockd::wire::{http::route::PATHS, metrics};

#[test]
fn the_readme_is_true() {
    assert_eq!(run_dialogues(&markdown_blocks(&read("README.md"))), 3);
}

/// What follows in the README uses what its first block has built: `cargo run` would leave out `dflock`.
#[test]
fn the_readme_begins_with_a_build_of_both_programs() {
    let readme = read("README.md");
    let blocks = markdown_blocks(&readme);
    let lines: Vec<_> = blocks[0].lines().collect();
    let [build, start, forgets, ready] = lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(build, "$ cargo build --release");
    assert_eq!(start, "$ target/release/dflockd");
    assert!(FORGETS.ends_with(forgets), "{forgets}");
    assert!(READY.ends_with(ready), "{ready}");
    assert!(readme.contains("`PATH=$PWD/target/release:$PATH`"));
}

#[test]
fn the_examples_of_the_servers_page_are_true() {
    assert_eq!(run_dialogues(&mdoc_blocks(&read("man/dflockd.8"))), 11);
}

/// The page plays it.
#[test]
fn the_certificate_of_the_readme_is_made_as_in_the_servers_page() {
    let made = |blocks: Vec<String>| -> BTreeSet<String> {
        let text = blocks.join("\n").replace("\\\n1", " ").replace("\\\n", " ");
        let (_, command) = text.split_once("$ openssl req ").expect("it is there");
        let words = command.lines().next().expect("a line").split_whitespace();
        let words = words.filter(|word| !word.starts_with("2>"));
        words.map(str::to_string).collect()
    };
    let readme = made(markdown_blocks(&read("README.md")));
    assert_eq!(readme, made(mdoc_blocks(&read("man/dflockd.8"))));
    assert!(readme.len() > 10, "{readme:?}");
}

#[test]
fn the_examples_of_the_clients_page_are_true() {
    assert_eq!(run_dialogues(&mdoc_blocks(&read("man/dflock.1"))), 3);
}

#[test]
fn the_clients_page_and_completions_have_each_of_its_options_and_no_other() {
    let wanted = flags_of(&["--help"]);
    assert!(wanted.len() > 20, "{wanted:?}");
    let page = read("man/dflock.1");
    let heads = section(&page, "OPTIONS").lines();
    let heads = heads.filter_map(|line| line.strip_prefix(".It Fl "));
    let heads = heads.flat_map(|head| head.split(" Ar ").next());
    let heads = heads.flat_map(|head| head.split(" Cm ").next());
    let found: BTreeSet<_> = heads
        .flat_map(|head| head.split(" , ").map(|name| format!("-{name}")))
        .collect();
    assert_eq!(found, wanted, "OPTIONS");
    let benchs = flags_of(&["bench", "--help"]);
    let heads = section(&page, "BENCHMARK").lines();
    let heads = heads.filter_map(|line| line.strip_prefix(".It Cm "));
    let found: BTreeSet<_> = heads
        .flat_map(|head| head.split(' ').filter(|word| word.starts_with("--")))
        .map(str::to_string)
        .collect();
    let in_front = ["--server", "--token-file", "-h", "--help"].map(str::to_string);
    let behind = benchs.difference(&in_front.into()).cloned().collect();
    assert_eq!(found, behind, "BENCHMARK");
    let bash = read("packaging/completions/dflock.bash");
    let (_, list) = bash.split_once("_words '-n").expect("there is a list");
    let list = format!("-n{}", list.split('\'').next().expect("it ends"));
    let found = list.split_whitespace().map(str::to_string).collect();
    assert_eq!(wanted, found, "bash");
    let (_, list) = bash
        .split_once("_words '--scenario")
        .expect("there is a list");
    let list = format!("--scenario{}", list.split('\'').next().expect("it ends"));
    let found = list.split_whitespace().map(str::to_string).collect();
    assert_eq!(benchs, found, "bash, bench");
    let wanted: BTreeSet<String> = wanted.union(&benchs).cloned().collect();
    assert_eq!(wanted, flags_of_zsh("_dflock"), "zsh");
    assert_eq!(wanted, flags_of_fish("dflock.fish"), "fish");
}

#[test]
fn the_completions_of_the_server_have_each_of_its_options_and_no_other() {
    let mut wanted = flags();
    for Flag { name, value, .. } in OPTIONS {
        if value.is_empty() && !["help", "version"].contains(name) {
            wanted.insert(format!("--no-{name}"));
        }
    }
    wanted.extend(["-V", "--version", "-h", "--help"].map(str::to_string));
    let bash = read("packaging/completions/dflockd.bash");
    let (_, list) = bash.split_once("compgen -W '").expect("there is a list");
    let list = list.split('\'').next().expect("it ends");
    let found = list.split_whitespace().map(str::to_string).collect();
    assert_eq!(wanted, found, "bash");
    assert_eq!(wanted, flags_of_zsh("_dflockd"), "zsh");
    assert_eq!(wanted, flags_of_fish("dflockd.fish"), "fish");
}

/// The flags that a completion for zsh describes.
fn flags_of_zsh(file: &str) -> BTreeSet<String> {
    let text = read(&format!("packaging/completions/{file}"));
    let lines = text.lines().map(str::trim_start);
    let lines = lines.map(|line| line.split_once("=(").map_or(line, |(_, rest)| rest));
    let lines = lines.filter(|line| line.starts_with(['\'', '(']));
    let heads = lines.filter_map(|line| Some(line.split_once('[')?.0));
    let flags = heads.flat_map(|head| {
        let head = head.rsplit(')').next().expect("split gives at least one");
        head.split(['{', '}', ',', '\'', '=', '+', '*'])
            .map(str::trim)
            .filter(|word| word.starts_with('-'))
    });
    flags.map(str::to_string).collect()
}

/// The flags that a completion for fish describes.
fn flags_of_fish(file: &str) -> BTreeSet<String> {
    let text = read(&format!("packaging/completions/{file}"));
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("complete ")) {
        let words: Vec<_> = line.split(' ').collect();
        for pair in words.windows(2) {
            match pair[0] {
                "-s" => found.insert(format!("-{}", pair[1])),
                "-l" => found.insert(format!("--{}", pair[1])),
                _ => false,
            };
        }
    }
    found
}

#[test]
fn the_completion_for_bash_knows_options_values_steps_and_commands() {
    if !tools::has("bash", "bash") {
        return;
    }
    let complete = |words: &[&str]| {
        let script = "source \"$1\" && shift && COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) \
                      && _dflock && echo ${COMPREPLY[*]}";
        let output = Command::new("bash")
            .args(["--norc", "-c", script, "_"])
            .arg(root().join("packaging/completions/dflock.bash"))
            .args(words)
            .output()
            .expect("bash runs");
        String::from_utf8(output.stdout).expect("it is UTF-8")
    };
    assert_eq!(complete(&["dflock", "--on"]), "--on-lost\n");
    let values = complete(&["dflock", "--on-lost", ""]);
    assert_eq!(values, "kill term ignore\n");
    assert_eq!(complete(&["dflock", "-no", ""]), "sh json\n");
    assert_eq!(complete(&["dflock", "-w", "5", "re"]), "renew release\n");
    for words in [
        &["dflock", "k", "mkfif"][..],
        &["dflock", "k", "--", "mkfif"],
    ] {
        assert!(complete(words).contains("mkfifo"), "{words:?}");
    }
    assert_eq!(complete(&["dflock", "stat", "mkfif"]), "\n");
    assert_eq!(complete(&["dflock", "stat", "--", "mkfif"]), "\n");
    assert_eq!(complete(&["dflock", "--id", "x", "li"]), "listen\n");
    assert_eq!(
        complete(&["dflock", "listen", "jobs.>", "--g"]),
        "--group\n"
    );
    assert_eq!(complete(&["dflock", "stat", "k", "--ou"]), "--output\n");
    assert_eq!(complete(&["dflock", "stat", "k", "-o", ""]), "sh json\n");
    assert_eq!(complete(&["dflock", "ping", "--g"]), "\n");
    assert_eq!(complete(&["dflock", "br"]), "break\n");
    for step in ["ls", "stat", "break", "ping"] {
        assert_eq!(complete(&["dflock", step, "--wa"]), "--wait\n");
    }
    assert_eq!(complete(&["dflock", "break", "k", "--li"]), "--limit\n");
    let words = ["dflock", "bench", "--json", "--re"];
    assert_eq!(complete(&words), "--repeat --report\n");
    let words = ["dflock", "bench", "--scenario", "=", "m"];
    assert_eq!(complete(&words), "many\n");
    let words = ["dflock", "--server", "localhost", ":", "1", "pi"];
    assert_eq!(complete(&words), "ping\n");
    // A server's name is no file's, so its colon stays as it is.
    let bash = read("packaging/completions/dflock.bash");
    assert!(bash.contains("\ncomplete -F _dflock dflock\n"));
    assert_eq!(complete(&["dflock", "listen", "jobs.>"]), "\n");
}

#[test]
fn the_dialogues_of_the_protocol_page_are_true() {
    assert_eq!(
        run_dialogues(&mdoc_blocks(&read("man/dflockd-protocol.7"))),
        30
    );
}

#[test]
#[cfg(feature = "http")]
fn the_protocol_page_has_each_path_of_http_and_each_metric_and_no_other() {
    let page = read("man/dflockd-protocol.7");
    let items = |title: &str| {
        let (_, part) = page
            .split_once(&format!("\n.Ss {title}\n"))
            .expect("it is there");
        let part = part.split("\n.S").next().expect("split gives at least one");
        let heads = part.lines().filter_map(|line| line.strip_prefix(".It Li "));
        heads
            .flat_map(|head| head.split(" , "))
            .map(|name| {
                name.replace(" Ns Ar name Ns Li ", "{lockName}")
                    .replace(" Ns Ar name", "{lockName}")
            })
            .collect::<BTreeSet<String>>()
    };
    // The first method is what the path is for; that of `*` is for nothing else.
    let paths = PATHS.iter().filter(|path| path.template != "*");
    let paths = paths.map(|path| {
        let method = path.allow.split(',').next().expect("it has a method");
        format!("{method} {}", path.template)
    });
    assert_eq!(items("Paths"), paths.collect());
    let mut out = Vec::new();
    metrics::write(&metrics::Metrics::default(), &mut out);
    let text = String::from_utf8(out).expect("it is UTF-8");
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let families = families.filter_map(|line| line.split(' ').next());
    assert_eq!(items("Metrics"), families.map(str::to_string).collect());
}

#[test]
fn the_checksums_of_the_protocol_page_are_those_of_crc_32() {
    let crc_32 = |bytes: &[u8]| {
        let fold = |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                crc >> 1 ^ (0xedb8_8320 * (crc & 1))
            })
        };
        !bytes.iter().fold(!0, fold)
    };
    assert_eq!(crc_32(b"123456789"), 0xcbf4_3926);
    let page = read("man/dflockd-protocol.7");
    let (_, table) = page
        .split_once("\n.Bl -tag -offset indent -width worker-pool -compact\n")
        .expect("there is a list");
    let (table, _) = table.split_once("\n.El").expect("the list ends");
    let rows = table.split(".It Li ").skip(1);
    let rows: Vec<_> = rows.filter_map(|row| row.split_once("\n.Li ")).collect();
    assert_eq!(rows.len(), 5);
    for (key, sum) in rows {
        let key = key.replace("\\('e", "é");
        let ours = format!("{:08x}", crc_32(key.as_bytes()));
        assert_eq!(ours, sum.trim_end(), "{key}");
    }
}

#[test]
fn the_servers_page_has_each_option_with_its_names_and_default() {
    let page = read("man/dflockd.8");
    let items = mdoc_items(section(&page, "OPTIONS"), "Fl");
    assert_eq!(names(&items), flags(), "items of OPTIONS");
    for option in OPTIONS {
        let (_, text) = items
            .iter()
            .find(|(name, _)| *name == format!("--{}", option.name))
            .expect("the names are equal");
        assert_eq!(mdoc_words(text, ".Ev "), option.env, "--{}", option.name);
        let default = format!("\nThe default is {}.\n", option.default);
        assert_eq!(
            text.contains(&default),
            !option.default.is_empty(),
            "default of --{}",
            option.name
        );
    }
    let (settings, others) = section(&page, "ENVIRONMENT")
        .split_once("\nA service manager such as\n")
        .expect("what is no option comes last");
    let others = mdoc_items(others, "Ev");
    let others: Vec<_> = others.iter().map(|(name, _)| name.as_str()).collect();
    let managers = [
        "NOTIFY_SOCKET",
        "LISTEN_PID",
        "CREDENTIALS_DIRECTORY",
        "STATE_DIRECTORY",
        "JOURNAL_STREAM",
    ];
    assert_eq!(others, managers, "variables of a service manager");
    let variables = mdoc_items(settings, "Ev");
    let variables: BTreeMap<_, _> = variables
        .iter()
        .map(|(name, text)| (name.as_str(), text.trim().replace(".Fl -", "")))
        .collect();
    let wanted = OPTIONS.iter().flat_map(|option| {
        option
            .env
            .iter()
            .map(|name| (*name, option.name.to_string()))
    });
    assert_eq!(variables, wanted.collect(), "ENVIRONMENT");
}

#[test]
fn no_page_mentions_an_option_that_does_not_exist() {
    let mut clients = flags_of(&["--help"]);
    let benchs = flags_of(&["bench", "--help"]);
    // `--` ends the options, and `-c` begins a text for the shell.
    clients.extend(["--".to_string(), "-c".to_string()]);
    for path in pages() {
        for line in read(&path).lines() {
            let mut words = line.split(' ');
            while let Some(word) = words.next() {
                if !word.ends_with("Fl") {
                    continue;
                }
                let name = words.next().expect("Fl has a name");
                if path == "man/dflock.1" {
                    assert!(clients.contains(&format!("-{name}")), "{path}: -{name}");
                    continue;
                }
                let name = name.strip_prefix('-').unwrap_or(name);
                let exists = ["V", "h", "flag", "no-flag"].contains(&name)
                    || OPTIONS.iter().any(|option| {
                        option.name == name || name.strip_prefix("no-") == Some(option.name)
                    });
                assert!(exists, "{path} mentions --{name}");
            }
        }
        for block in mdoc_blocks(&read(&path)) {
            for word in block.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
                let Some(name) = word.strip_prefix("--").filter(|name| !name.contains("--")) else {
                    continue;
                };
                // Those of systemctl and of an image.
                let exists = ["now", "chown"].contains(&name)
                    || clients.contains(word)
                    || OPTIONS.iter().any(|option| {
                        option.name == name || name.strip_prefix("no-") == Some(option.name)
                    });
                assert!(exists || name.starts_with('-'), "{path} uses --{name}");
            }
        }
    }
    for word in read("README.md").split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
        if let Some(name) = word
            .strip_prefix("--")
            .filter(|name| !name.starts_with('-'))
        {
            let is_cargos = ["release", "target", "path", "locked", "test"].contains(&name);
            let is_systemds = name == "offline";
            let name = name.strip_prefix("no-").unwrap_or(name);
            let exists = is_cargos
                || is_systemds
                || clients.contains(word)
                || benchs.contains(word)
                || OPTIONS.iter().any(|option| option.name == name);
            assert!(exists, "README.md mentions --{name}");
        }
    }
}

#[test]
fn help_is_printed_and_lists_each_option() {
    let output = dflockd(&["--help"]).output().expect("dflockd runs");
    assert!(output.status.success() && output.stderr.is_empty());
    let text = String::from_utf8(output.stdout).expect("help is UTF-8");
    assert_eq!(text, help());
    for Flag { name, env, .. } in OPTIONS {
        assert!(text.contains(&format!("\n  --{name}")));
        assert!(env.iter().all(|name| text.contains(name)));
    }
}

#[test]
fn version_is_printed() {
    let output = dflockd(&["--version"]).output().expect("dflockd runs");
    assert!(output.status.success() && output.stderr.is_empty());
    let wanted = concat!("dflockd ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), wanted);
}

#[test]
fn a_wrong_option_is_named_on_stderr_with_status_2() {
    let output = dflockd(&["--port", "x"]).output().expect("dflockd runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8_lossy(&output.stderr);
    let wanted = "dflockd: --port: bad value \"x\": want a port, 0 to 65535\n";
    assert!(text.starts_with(wanted), "{text}");
    // A file with nothing in it is a mistake of the same kind.
    let args = ["--auth-token-file", "/dev/null"];
    let output = dflockd(&args).output().expect("dflockd runs");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("bad file") && text.ends_with("\nTry 'dflockd --help'.\n"),
        "{text}"
    );
}

#[test]
fn every_file_that_the_readme_names_exists() {
    let text = read("README.md");
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let links: BTreeSet<&str> = targets.filter(|target| !target.contains(':')).collect();
    assert!(links.len() > 10, "{links:?}");
    for link in links {
        assert!(root().join(link).exists(), "README.md links to {link}");
    }
    // A path in backquotes that begins like one of our folders.
    for word in text.split('`').skip(1).step_by(2) {
        let word = word.rsplit(' ').next().expect("split gives at least one");
        let ours = ["src/", "tests/", "man/", "packaging/", "systemd/"];
        if ours.iter().any(|prefix| word.starts_with(prefix)) {
            assert!(root().join(word).exists(), "README.md names {word}");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn pages() -> Vec<String> {
    let files = fs::read_dir(root().join("man")).expect("man/ is there");
    let paths = files.map(|file| file.expect("man/ can be listed").path());
    let name = |path: PathBuf| path.file_name().expect("files have names").to_owned();
    paths
        .map(|path| format!("man/{}", name(path).display()))
        .collect()
}

fn flags() -> BTreeSet<String> {
    OPTIONS
        .iter()
        .map(|option| format!("--{}", option.name))
        .collect()
}

/// The flags in a usage text of the client, `-n` and `--nonblock` alike.
fn flags_of(args: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_dflock"))
        .args(args)
        .output()
        .expect("dflock runs");
    let text = String::from_utf8(output.stdout).expect("help is UTF-8");
    let lines = text.lines().filter_map(|line| line.strip_prefix("  "));
    let lines = lines.filter(|line| line.trim_start().starts_with('-'));
    let words = lines.flat_map(|line| line.split_whitespace().take(2));
    let words = words.map(|word| word.trim_end_matches(','));
    let flags = words.filter(|word| word.starts_with('-'));
    flags.map(str::to_string).collect()
}

fn names(items: &[(String, String)]) -> BTreeSet<String> {
    items.iter().map(|(name, _)| name.clone()).collect()
}

/// The fenced blocks of a Markdown text.
pub fn markdown_blocks(text: &str) -> Vec<String> {
    let parts = text.split("\n```").skip(1).step_by(2);
    parts
        .map(|block| {
            block
                .split_once('\n')
                .map_or("", |(_, rest)| rest)
                .to_string()
        })
        .collect()
}

/// The literal blocks of a manual page, as they are shown.
pub fn mdoc_blocks(text: &str) -> Vec<String> {
    let blocks = text.split("\n.Bd -literal").skip(1);
    let body = |block: &str| {
        let (_, body) = block.split_once('\n').expect("a block has lines");
        let (body, _) = body.split_once("\n.Ed").expect("a block ends");
        body.replace("\\e", "\\")
    };
    blocks.map(body).collect()
}

pub fn section<'a>(page: &'a str, title: &str) -> &'a str {
    let (_, rest) = page
        .split_once(&format!("\n.Sh {title}\n"))
        .unwrap_or_else(|| panic!("no section {title}"));
    rest.split("\n.Sh ")
        .next()
        .expect("split gives at least one")
}

/// The list items of a section that begin with this macro: the name, and the text up to the next item.
fn mdoc_items(section: &str, kind: &str) -> Vec<(String, String)> {
    let mark = format!("\n.It {kind} ");
    let items = section.split(&mark).skip(1).map(|item| {
        let (head, text) = item.split_once('\n').expect("an item has a text");
        let name = head.split(' ').next().expect("split gives at least one");
        let name = if kind == "Fl" {
            format!("-{name}")
        } else {
            name.to_string()
        };
        let text = text
            .split("\n.El")
            .next()
            .expect("split gives at least one");
        (name, format!("\n{text}\n"))
    });
    items.collect()
}

/// The arguments of the lines that begin with this macro.
fn mdoc_words<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(mark));
    lines.filter_map(|line| line.split(' ').next()).collect()
}
