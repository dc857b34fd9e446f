//! What the documents say is what the program does: options against the table, dialogues against the
//! real binary.
//!
//! A dialogue is a literal block with nc in it, as a terminal shows it: `$ ` a shell command, `> ` a line
//! typed, anything else an answer, which goes on in the next line after a `\`. `^C` interrupts the server and
//! kills a client, `^D` ends its input; a bare `$` waits until the command has ended. With several terminals
//! each line begins with the terminal's digit. A token in an answer is any token; typed later or shown again, it
//! is the one that came. A time is any time, a number with a fraction any within ten of it.
//! Invariant: every such block in README.md and man/ is run, with the port replaced and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use dflockd::config::{Flag, OPTIONS, help};

const PATIENCE: Duration = Duration::from_secs(10);
const READY: &str = "0  2026-11-21T01:36:08.123Z info dflockd listening addr=127.0.0.1:6388";

#[test]
fn the_readme_is_true() {
    assert_eq!(run_dialogues(&markdown_blocks(&read("README.md"))), 3);
}

#[test]
fn the_examples_of_the_servers_page_are_true() {
    assert_eq!(run_dialogues(&mdoc_blocks(&read("man/dflockd.8"))), 5);
}

#[test]
fn the_dialogues_of_the_protocol_page_are_true() {
    assert_eq!(
        run_dialogues(&mdoc_blocks(&read("man/dflockd-protocol.7"))),
        12
    );
}

#[test]
fn the_readmes_script_holds_its_lock_while_it_works() {
    demand_nc();
    let blocks = markdown_blocks(&read("README.md"));
    let script = blocks.iter().find(|block| block.contains("/dev/tcp/"));
    let desk = Desk::with_server();
    let script = script.expect("there is a script");
    let script = script.replace("/6388", &format!("/{}", desk.port));
    // The backup sees that the lock is taken; the second time it would not run if it had not been given back.
    let rival = format!(
        "printf 'l\\nnightly-backup\\n0\\n' | nc -N 127.0.0.1 {} >>seen",
        desk.port
    );
    let backup = desk.room.0.join("backup.sh");
    fs::write(&backup, format!("#!/bin/sh\n{rival}\n")).expect("it can be written");
    fs::set_permissions(&backup, fs::Permissions::from_mode(0o755)).expect("it is ours");
    for _ in 0..2 {
        let output = desk
            .room
            .shell("bash", &script)
            .output()
            .expect("bash runs");
        assert!(output.status.success(), "{output:?}");
    }
    let seen = fs::read_to_string(desk.room.0.join("seen")).expect("the backup ran");
    assert_eq!(seen, "timeout\ntimeout\n");
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
    let (_, table) = page.split_once("\"00000000\"\n").expect("there is a table");
    let rows = table.lines().map_while(|row| row.strip_prefix(".It Li "));
    let rows: Vec<_> = rows.filter_map(|row| row.split_once(" Ta Li ")).collect();
    assert_eq!(rows.len(), 5);
    for (key, sum) in rows {
        let key = key.replace("\\('e", "é");
        assert_eq!(format!("{:08x}", crc_32(key.as_bytes())), sum, "{key}");
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
        for block in mdoc_blocks(&read(&path)) {
            for word in block.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
                let Some(name) = word.strip_prefix("--").filter(|name| !name.contains("--")) else {
                    continue;
                };
                // The one of systemctl.
                let exists = name == "now" || OPTIONS.iter().any(|option| option.name == name);
                assert!(exists || name.starts_with('-'), "{path} uses --{name}");
            }
        }
    }
    for word in read("README.md").split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
        if let Some(name) = word
            .strip_prefix("--")
            .filter(|name| !name.starts_with('-'))
        {
            let is_cargos = ["release", "target", "path", "locked"].contains(&name);
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
    let mut desk = if dialogue.contains("$ dflockd") {
        Desk::new()
    } else {
        Desk::with_server()
    };
    let mut lines = dialogue.lines();
    while let Some(line) = lines.next() {
        let mut line = line.to_string();
        while line.ends_with('\\') {
            line.pop();
            let more = lines.next().expect("a broken line goes on");
            line += more.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        }
        if let Err(why) = desk.act(&line) {
            panic!("{line:?}: {why} in\n{dialogue}");
        }
    }
    for terminal in desk.terminals.values() {
        let more = terminal.screen.try_recv();
        assert!(more.is_err(), "{more:?} is not documented in\n{dialogue}");
    }
}

/// Where a dialogue takes place, and what it has shown so far.
struct Desk {
    /// The directory in which its commands are run.
    room: Room,
    /// By digit.
    terminals: BTreeMap<Option<char>, Terminal>,
    /// Where the server listens.
    port: u16,
    /// The documented tokens, and the real ones.
    tokens: BTreeMap<String, String>,
}

impl Desk {
    fn new() -> Desk {
        Desk {
            room: Room::new(),
            terminals: BTreeMap::new(),
            port: 0,
            tokens: BTreeMap::new(),
        }
    }

    /// In a terminal that no dialogue knows there is a server.
    fn with_server() -> Desk {
        let mut desk = Desk::new();
        for line in ["0$ dflockd", READY] {
            desk.act(line).unwrap_or_else(|why| panic!("{line}: {why}"));
        }
        desk
    }

    /// Does or expects what a line of a dialogue says.
    fn act(&mut self, line: &str) -> Result<(), String> {
        let name = line.chars().next().filter(char::is_ascii_digit);
        let rest = &line[name.map_or(0, char::len_utf8)..];
        if let Some(command) = rest.strip_prefix('$') {
            if let Some(mut terminal) = self.terminals.remove(&name) {
                terminal.finish()?;
            }
            if let Some(command) = command.strip_prefix(' ') {
                let terminal = Terminal::start(command, self.port, &self.room);
                self.terminals.insert(name, terminal);
            }
            return Ok(());
        }
        let typed = rest
            .strip_prefix('>')
            .map(|typed| match typed.strip_prefix(' ') {
                Some(typed) => with_real_tokens(typed, &self.tokens),
                None => String::new(),
            });
        if typed.as_deref() == Some("^C") {
            return self.interrupt(name);
        }
        let terminal = self.terminals.get_mut(&name).ok_or("no terminal")?;
        match typed.as_deref() {
            Some("^D") => drop(terminal.keyboard.take()),
            Some(typed) => terminal.type_line(typed),
            None => {
                let answer = terminal.answer()?;
                self.compare(rest.trim_start(), &answer)
                    .map_err(|why| format!("got {answer:?}: {why}"))?;
            }
        }
        Ok(())
    }

    /// A client is killed; a server is asked to stop, once all that was typed before has reached it.
    fn interrupt(&mut self, name: Option<char>) -> Result<(), String> {
        let terminal = self.terminals.get(&name).ok_or("no terminal")?;
        if !terminal.serves {
            self.terminals.remove(&name);
            return Ok(());
        }
        let asking = |terminal: &&Terminal| terminal.asks && !terminal.serves;
        let asking = self.terminals.values().filter(asking).count();
        let until = Instant::now() + PATIENCE;
        while waiters(self.port) != asking {
            if Instant::now() > until {
                return Err(format!("there are not {asking} waiters"));
            }
        }
        let pid = terminal.child.id().to_string();
        let kill = Command::new("sh")
            .args(["-c", "kill -INT $0", &pid])
            .status();
        assert!(kill.is_ok_and(|status| status.success()), "kill works");
        Ok(())
    }

    /// Whether an answer is the documented one, and notes what can differ.
    fn compare(&mut self, wanted: &str, answer: &str) -> Result<(), &'static str> {
        let (wanted, answer): (Vec<_>, Vec<_>) =
            (wanted.split(' ').collect(), answer.split(' ').collect());
        if wanted.len() != answer.len() {
            return Err("another number of fields");
        }
        for (wanted, answer) in wanted.into_iter().zip(answer) {
            if is_token(wanted) {
                self.compare_tokens(wanted, answer)?;
            } else if let Some(port) = answer.strip_prefix("addr=127.0.0.1:")
                && wanted == "addr=127.0.0.1:6388"
            {
                self.port = port.parse().map_err(|_| "not a port")?;
            } else if !(is_time(wanted) && is_time(answer) || is_alike(wanted, answer)) {
                return Err("another field");
            }
        }
        Ok(())
    }

    fn compare_tokens(&mut self, wanted: &str, answer: &str) -> Result<(), &'static str> {
        match self.tokens.get(wanted) {
            Some(known) if known == answer => return Ok(()),
            Some(_) => return Err("another token"),
            None if !is_token(answer) => return Err("not a token"),
            None => {}
        }
        if self.tokens.values().any(|known| known.as_str() >= answer) {
            return Err("not above the tokens before");
        }
        self.tokens.insert(wanted.to_string(), answer.to_string());
        Ok(())
    }
}

fn is_token(word: &str) -> bool {
    word.len() == 32 && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_time(word: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit();
    word.replace(is_digit, "0") == "0000-00-00T00:00:00.000Z"
}

/// Whether two words are equal but for numbers with a fraction, which may be ten apart.
fn is_alike(wanted: &str, answer: &str) -> bool {
    let of_number = |c: char| c.is_ascii_digit() || c == '.';
    let numbers = |word: &str| -> Vec<String> {
        let parts = word
            .split(|c| !of_number(c))
            .filter(|part| !part.is_empty());
        parts.map(str::to_string).collect()
    };
    let (left, right) = (numbers(wanted), numbers(answer));
    let fraction = |number: &str| number.contains('.').then(|| number.parse::<f64>().ok())?;
    let same = |(left, right): (&String, &String)| match (fraction(left), fraction(right)) {
        (Some(left), Some(right)) => (left - right).abs() < 10.0,
        _ => left == right,
    };
    wanted.replace(of_number, "") == answer.replace(of_number, "")
        && left.len() == right.len()
        && left.iter().zip(&right).all(same)
}

fn with_real_tokens(typed: &str, tokens: &BTreeMap<String, String>) -> String {
    let words = typed.split(' ');
    let real = words.map(|word| tokens.get(word).map_or(word, String::as_str));
    real.collect::<Vec<_>>().join(" ")
}

/// How many requests wait for a lock.
fn waiters(port: u16) -> usize {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    stream.write_all(b"stats\n_\n_\n").expect("it reads");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let counts = answer.split("\"waiters\":").skip(1);
    let counts = counts.filter_map(|rest| rest.split('}').next());
    counts
        .map(|count| count.parse::<usize>().expect("a number"))
        .sum()
}

/// The binary under test, with none of the environment's settings.
fn dflockd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dflockd"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// A directory of its own, gone when dropped.
struct Room(PathBuf);

impl Room {
    fn new() -> Room {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dflockd-docs-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory can be made");
        Room(path)
    }

    /// A shell command in that directory, in which `dflockd` is the binary under test.
    fn shell(&self, shell: &str, command: &str) -> Command {
        let ours = Path::new(env!("CARGO_BIN_EXE_dflockd")).parent();
        let ours = ours.expect("it is in a directory").display();
        let path = std::env::var("PATH").expect("there is a PATH");
        let mut shell = Command::new(shell);
        shell.args(["-c", command]).current_dir(&self.0);
        shell.env_clear().env("PATH", format!("{ours}:{path}"));
        shell
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("what was made can be removed");
    }
}

/// What runs behind a `$`, gone when dropped.
struct Terminal {
    child: Child,
    /// None after `^D`.
    keyboard: Option<ChildStdin>,
    screen: Receiver<String>,
    /// It is a server.
    serves: bool,
    /// Something was typed since the last answer.
    asks: bool,
}

impl Terminal {
    fn start(command: &str, port: u16, room: &Room) -> Terminal {
        let args = command.strip_prefix("dflockd");
        let command = match args {
            Some(args) => format!("dflockd --port 0{args}"),
            None => command.replace(" 6388", &format!(" {port}")),
        };
        if command.contains("nc ") {
            demand_nc();
            assert!(
                command.contains(" 127.0.0.1 "),
                "{command:?} leaves the host"
            );
        }
        // exec, so that killing the child kills nc and not a shell around it.
        let mut child = room
            .shell("sh", &format!("exec 2>&1; exec {command}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        Terminal {
            keyboard: child.stdin.take(),
            screen: lines_of(child.stdout.take().expect("stdout is piped")),
            child,
            serves: args.is_some(),
            asks: false,
        }
    }

    fn type_line(&mut self, line: &str) {
        self.asks = true;
        let keyboard = self.keyboard.as_mut().expect("nothing is typed after ^D");
        // One write, so that nc does not see half a line.
        let written = keyboard.write_all(format!("{line}\n").as_bytes());
        written.expect("nc is still there");
    }

    fn answer(&mut self) -> Result<String, String> {
        self.asks = false;
        let answer = self.screen.recv_timeout(PATIENCE);
        answer.map_err(|error| format!("no answer: {error}"))
    }

    /// The command ends by itself and says nothing more.
    fn finish(&mut self) -> Result<(), String> {
        match self.screen.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Disconnected) => Ok(()),
            Err(RecvTimeoutError::Timeout) => Err("the command before goes on".to_string()),
            Ok(line) => Err(format!("{line:?} is not documented")),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Fails only where it ended by itself, as `nc -N` does.
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
    }
}

/// Other netcats lack -N, and some of them go away at the first answer.
fn demand_nc() {
    let usage = Command::new("nc").arg("-h").output();
    assert!(
        usage.is_ok_and(|usage| String::from_utf8_lossy(&usage.stderr).contains("-N")),
        "this needs the nc of OpenBSD: apt-get install netcat-openbsd"
    );
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
