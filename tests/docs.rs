//! What the documents say is what the program does: options against the table, dialogues against the
//! real binary.
//!
//! A dialogue is a literal block that starts nc, as a terminal shows it: `$ ` a shell command, `> ` a
//! line typed, anything else an answer; `^C` kills the client. With several terminals each line begins
//! with the terminal's digit. A token in an answer is any token; typed later, it is the one that came.
//! Invariant: every such block in README.md and man/ is run, with the port replaced and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use dflockd::config::{Flag, OPTIONS, help};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn the_readme_is_true() {
    assert_eq!(run_dialogues(&markdown_blocks(&read("README.md"))), 3);
}

#[test]
fn the_examples_of_the_servers_page_are_true() {
    assert_eq!(run_dialogues(&mdoc_blocks(&read("man/dflockd.8"))), 2);
}

#[test]
fn the_dialogues_of_the_protocol_page_are_true() {
    assert_eq!(
        run_dialogues(&mdoc_blocks(&read("man/dflockd-protocol.7"))),
        6
    );
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
    let variables = mdoc_items(section(&page, "ENVIRONMENT"), "Ev");
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
    for path in pages() {
        for line in read(&path).lines() {
            let mut words = line.split(' ');
            while let Some(word) = words.next() {
                if !word.ends_with("Fl") {
                    continue;
                }
                let name = words.next().expect("Fl has a name");
                let name = name.strip_prefix('-').unwrap_or(name);
                let exists = ["V", "h", "flag", "no-flag"].contains(&name)
                    || OPTIONS.iter().any(|option| {
                        option.name == name || name.strip_prefix("no-") == Some(option.name)
                    });
                assert!(exists, "{path} mentions --{name}");
            }
        }
    }
    for word in read("README.md").split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
        if let Some(name) = word
            .strip_prefix("--")
            .filter(|name| !name.starts_with('-'))
        {
            let is_cargos = ["release", "target", "path"].contains(&name);
            let name = name.strip_prefix("no-").unwrap_or(name);
            let exists = is_cargos || OPTIONS.iter().any(|option| option.name == name);
            assert!(exists, "README.md mentions --{name}");
        }
    }
}

#[test]
fn the_readmes_table_is_the_table() {
    let text = read("README.md");
    let rows = text.lines().filter(|line| line.starts_with("| `--"));
    let rows: Vec<Vec<&str>> = rows
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let quoted = |words: &[&str]| {
        let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        quoted.join(", ")
    };
    let wanted: Vec<Vec<String>> = OPTIONS
        .iter()
        .map(|option| {
            let default = [option.default];
            let default = if option.default.is_empty() {
                &[][..]
            } else {
                &default
            };
            vec![
                quoted(&[&format!("--{}", option.name)]),
                quoted(option.env),
                quoted(default),
            ]
        })
        .collect();
    let found: Vec<&[&str]> = rows.iter().map(|row| &row[..3]).collect();
    assert_eq!(found, wanted);
    assert!(rows.iter().all(|row| row.len() == 4 && !row[3].is_empty()));
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
    let wanted = "dflockd: --port: bad value \"x\": want 0 to 65535\n";
    assert!(text.starts_with(wanted), "{text}");
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
    // What stands in backquotes and begins like one of our directories.
    for word in text.split('`').skip(1).step_by(2) {
        let word = word.rsplit(' ').next().expect("split gives at least one");
        let ours = ["src/", "tests/", "man/", "systemd/"];
        if ours.iter().any(|prefix| word.starts_with(prefix)) {
            assert!(root().join(word).exists(), "README.md names {word}");
        }
    }
}

/// Runs the dialogues among the blocks, each against a server of its own, and counts them.
fn run_dialogues(blocks: &[String]) -> usize {
    let dialogues = blocks
        .iter()
        .filter(|block| block.contains("nc ") && block.contains("$ "));
    dialogues.map(|dialogue| run_dialogue(dialogue)).count()
}

fn run_dialogue(dialogue: &str) {
    let server = Server::start();
    let mut terminals: BTreeMap<Option<char>, Terminal> = BTreeMap::new();
    let mut tokens: BTreeMap<String, String> = BTreeMap::new();
    for line in dialogue.lines() {
        let name = line.chars().next().filter(char::is_ascii_digit);
        let rest = &line[name.map_or(0, char::len_utf8)..];
        if let Some(command) = rest.strip_prefix("$ ") {
            terminals.insert(name, Terminal::start(&with_port(command, server.port)));
            continue;
        }
        let terminal = terminals
            .get_mut(&name)
            .unwrap_or_else(|| panic!("no terminal for {line:?} in\n{dialogue}"));
        match rest.strip_prefix("> ") {
            Some("^C") => drop(terminals.remove(&name)),
            Some(typed) => terminal.type_line(&with_real_tokens(typed, &tokens)),
            None => {
                let answer = terminal.answer(line, dialogue);
                if let Err(why) = matches(rest.trim_start(), &answer, &mut tokens) {
                    panic!("expected {line:?}, got {answer:?} ({why}) in\n{dialogue}");
                }
            }
        }
    }
}

/// Whether the answer is the documented one, where a token is any token not seen before.
fn matches(
    wanted: &str,
    answer: &str,
    tokens: &mut BTreeMap<String, String>,
) -> Result<(), &'static str> {
    let (wanted, answer): (Vec<_>, Vec<_>) =
        (wanted.split(' ').collect(), answer.split(' ').collect());
    if wanted.len() != answer.len() {
        return Err("another number of fields");
    }
    for (wanted, answer) in wanted.into_iter().zip(answer) {
        if !is_token(wanted) {
            if wanted != answer {
                return Err("another field");
            }
            continue;
        }
        if !is_token(answer) {
            return Err("not a token");
        }
        if tokens.values().any(|known| known.as_str() >= answer) {
            return Err("not above the tokens before");
        }
        tokens.insert(wanted.to_string(), answer.to_string());
    }
    Ok(())
}

fn is_token(word: &str) -> bool {
    word.len() == 32 && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn with_real_tokens(typed: &str, tokens: &BTreeMap<String, String>) -> String {
    let words = typed.split(' ');
    let real = words.map(|word| tokens.get(word).map_or(word, String::as_str));
    real.collect::<Vec<_>>().join(" ")
}

fn with_port(command: &str, port: u16) -> String {
    assert!(
        command.contains(" 6388"),
        "{command:?} talks to another port"
    );
    command.replace(" 6388", &format!(" {port}"))
}

/// The binary under test, with none of the environment's settings.
fn dflockd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dflockd"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// A server on a port of its own, gone when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Server {
        let mut command = dflockd(&["--port", "0"]);
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("dflockd starts");
        let log = lines_of(child.stderr.take().expect("stderr is piped"));
        let mut server = Server { child, port: 0 };
        while server.port == 0 {
            let line = log.recv_timeout(PATIENCE).expect("a ready line in time");
            if let Some((_, addr)) = line.split_once(" dflockd listening addr=") {
                let port = addr.rsplit(':').next().expect("split gives at least one");
                server.port = port.parse().expect("the ready line ends in a port");
            }
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// What runs behind a `$`, gone when dropped.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: Receiver<String>,
}

impl Terminal {
    fn start(command: &str) -> Terminal {
        // Other netcats lack -N, and some of them go away at the first answer.
        let usage = Command::new("nc").arg("-h").output();
        assert!(
            usage.is_ok_and(|usage| String::from_utf8_lossy(&usage.stderr).contains("-N")),
            "this needs the nc of OpenBSD: apt-get install netcat-openbsd"
        );
        // exec, so that killing the child kills nc and not a shell around it.
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        Terminal {
            keyboard: child.stdin.take().expect("stdin is piped"),
            screen: lines_of(child.stdout.take().expect("stdout is piped")),
            child,
        }
    }

    fn type_line(&mut self, line: &str) {
        // One write, so that nc does not see half a line.
        let written = self.keyboard.write_all(format!("{line}\n").as_bytes());
        written.expect("nc is still there");
    }

    fn answer(&mut self, wanted: &str, dialogue: &str) -> String {
        match self.screen.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            Err(error) => panic!("no answer for {wanted:?} ({error}) in\n{dialogue}"),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) -> ExitStatus {
    // Fails only where it ended by itself, as `nc -N` does.
    let _ = child.kill();
    child.wait().expect("a child can be waited for")
}

/// Reads lines in a thread, because only a channel can be read with a deadline.
fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Goes on when nobody listens, so that the writer never meets a closed pipe.
            let _ = sender.send(line);
        }
    });
    receiver
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
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

fn names(items: &[(String, String)]) -> BTreeSet<String> {
    items.iter().map(|(name, _)| name.clone()).collect()
}

/// The fenced blocks of a Markdown text.
fn markdown_blocks(text: &str) -> Vec<String> {
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
fn mdoc_blocks(text: &str) -> Vec<String> {
    let blocks = text.split("\n.Bd -literal").skip(1);
    let body = |block: &str| {
        let (_, body) = block.split_once('\n').expect("a block has lines");
        let (body, _) = body.split_once("\n.Ed").expect("a block ends");
        body.replace("\\e", "\\")
    };
    blocks.map(body).collect()
}

fn section<'a>(page: &'a str, title: &str) -> &'a str {
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
