//! A desk with terminals, and a dialogue that is played on it.
//!
//! A dialogue is a literal block with nc or curl in it, or dflock in a second terminal, as a terminal shows it: `$ ` a
//! shell command, `> ` a line typed, anything else an answer, which goes on in the next line after a `\`. A command goes
//! on there also while a `'` is open. `^C` interrupts
//! the server and kills a client, `^D` ends its input; a bare `$` waits until the command has ended, and `$?` is its
//! status. With several terminals each line begins with the terminal's digit; before one goes on, what was asked in
//! the others waits in the server. A token in an answer is any token; typed later or shown again, it is the one that
//! came; so is the fence at its beginning. A fence in decimal is any, a time any time, a number with a fraction any
//! within ten of it, the port of a client, the number of its connection and the id of its HTTP request any. Invariant: every such block in README.md and man/ is run, with the
//! ports replaced and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use crate::daemon::{PATIENCE, free_port, tools};

/// What a server logs first that keeps nothing.
pub const FORGETS: &str =
    "0  2026-11-21T01:36:08.123Z info dflockd restart protection=none holds=0 opens_in_s=0";
pub const READY: &str = "0  2026-11-21T01:36:08.123Z info dflockd listening addr=127.0.0.1:6388";

/// Runs the dialogues among the blocks, each against a server of its own, and counts them.
pub fn run_dialogues(blocks: &[String]) -> usize {
    let dialogues = blocks.iter().filter(|block| {
        block.contains("nc ") && block.contains("$ ")
            || block.contains("2$ dflock ")
            || has_curl(block)
    });
    let is_playable = |block: &str| {
        (!has_curl(block) || tools::has("curl", "curl"))
            && (!block.contains("$ openssl ") || tools::has("openssl", "openssl"))
    };
    let dialogues = dialogues.inspect(|dialogue| {
        if is_playable(dialogue) {
            run_dialogue(dialogue);
        }
    });
    dialogues.count()
}

fn has_curl(block: &str) -> bool {
    block.contains("$ curl ")
}

fn run_dialogue(dialogue: &str) {
    let mut desk = if dialogue.contains("$ dflockd") {
        Desk::new()
    } else if has_curl(dialogue) {
        Desk::with_http()
    } else {
        Desk::with_server()
    };
    let mut lines = dialogue.lines();
    while let Some(line) = lines.next() {
        let mut line = line.to_string();
        let is_command = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_command = is_command.starts_with("$ ");
        loop {
            if is_command && line.matches('\'').count() % 2 == 1 {
                line.push('\n');
            } else if line.ends_with('\\') {
                line.pop();
            } else {
                break;
            }
            let more = lines.next().expect("a broken line goes on");
            line += more.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        }
        if let Err(why) = desk.act(&line) {
            panic!("{line:?}: {why} in\n{dialogue}");
        }
    }
    for (name, terminal) in &desk.terminals {
        // The log that a dialogue does not show may tell of its breaks.
        let is_known = |line: &str| *name == Some('0') && line.contains(" warn dflockd br");
        while let Ok(line) = terminal.screen.try_recv() {
            assert!(is_known(&line), "{line:?} is not documented in\n{dialogue}");
        }
    }
}

/// The place of a dialogue, and all that it has shown so far.
pub struct Desk {
    /// The directory in which its commands are run.
    pub room: Room,
    /// By digit.
    terminals: BTreeMap<Option<char>, Terminal>,
    /// Where the server listens.
    pub port: u16,
    /// Where it listens for clients of distlockd, if it does.
    distlockd: u16,
    /// Where it listens for HTTP, if it does.
    http: u16,
    /// The documented tokens, and the real ones.
    tokens: BTreeMap<String, String>,
}

impl Desk {
    pub fn new() -> Desk {
        Desk {
            room: Room::new(),
            terminals: BTreeMap::new(),
            port: 0,
            distlockd: free_port(),
            http: free_port(),
            tokens: BTreeMap::new(),
        }
    }

    /// In a terminal that no dialogue knows there is a server.
    pub fn with_server() -> Desk {
        Desk::with(&["0$ dflockd", FORGETS, READY])
    }

    /// The same, and it speaks HTTP too.
    pub fn with_http() -> Desk {
        let listens = READY.replace("listening", "listening-http");
        let listens = listens.replace("6388", "5000");
        let (begin, _) = READY.split_once("listening").expect("it listens");
        let settings = format!("{begin}settings http-port=5000");
        Desk::with(&[
            "0$ dflockd --http-port 5000",
            FORGETS,
            &listens,
            READY,
            &settings,
        ])
    }

    fn with(lines: &[&str]) -> Desk {
        let mut desk = Desk::new();
        for line in lines {
            desk.act(line).unwrap_or_else(|why| panic!("{line}: {why}"));
        }
        desk
    }

    /// Does or expects what a line of a dialogue says.
    pub fn act(&mut self, line: &str) -> Result<(), String> {
        let line = line.replace("9999", &self.distlockd.to_string());
        let line = &line.replace("5000", &self.http.to_string());
        let name = line.chars().next().filter(char::is_ascii_digit);
        let rest = &line[name.map_or(0, char::len_utf8)..];
        if let Some(command) = rest.strip_prefix('$') {
            let mut status = 0;
            if let Some(mut terminal) = self.terminals.remove(&name) {
                status = terminal.finish()?;
            }
            if let Some(command) = command.strip_prefix(' ') {
                self.hear_out(name)?;
                let command = with_real_tokens(command, &self.tokens);
                let command = command.replace("$?", &status.to_string());
                let terminal = Terminal::start(&command, self.port, &self.room);
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
        if typed.is_some() {
            self.hear_out(name)?;
        }
        let terminal = self.terminals.get_mut(&name).ok_or("no terminal")?;
        match typed.as_deref() {
            Some("^D") => drop(terminal.keyboard.take()),
            Some(typed) => terminal.type_line(typed),
            None => {
                let answer = terminal.answer()?;
                self.compare(rest.trim_start(), answer.trim_start())
                    .map_err(|why| format!("got {answer:?}: {why}"))?;
            }
        }
        Ok(())
    }

    /// A client is killed; a server is asked to stop.
    pub fn interrupt(&mut self, name: Option<char>) -> Result<(), String> {
        self.hear_out(name)?;
        let terminal = self.terminals.get(&name).ok_or("no terminal")?;
        if !terminal.serves {
            self.terminals.remove(&name);
            return Ok(());
        }
        let pid = terminal.child.id().to_string();
        let kill = Command::new("sh")
            .args(["-c", "kill -INT $0", &pid])
            .status();
        assert!(kill.is_ok_and(|status| status.success()), "kill works");
        Ok(())
    }

    /// Waits until requests from other terminals that are not answered are in the server's queues.
    fn hear_out(&self, name: Option<char>) -> Result<(), String> {
        let others = self.terminals.iter().filter(|(other, _)| **other != name);
        let asking = others.filter(|(_, terminal)| terminal.asks()).count();
        let until = Instant::now() + PATIENCE;
        while asking > 0 && waiters(self.port) < asking {
            if Instant::now() > until {
                return Err(format!("there are not {asking} waiters"));
            }
        }
        Ok(())
    }

    /// Whether an answer is the documented one. Notes the tokens and ports, which differ.
    pub fn compare(&mut self, wanted: &str, answer: &str) -> Result<(), &'static str> {
        let (wanted, answer): (Vec<_>, Vec<_>) =
            (wanted.split(' ').collect(), answer.split(' ').collect());
        if wanted.len() != answer.len() {
            return Err("another number of fields");
        }
        for (wanted, answer) in wanted.into_iter().zip(answer) {
            let inside = wanted.split('"').zip(answer.split('"'));
            for (wanted, answer) in inside.filter(|(wanted, _)| is_token(wanted)) {
                self.compare_tokens(wanted, answer)?;
            }
            if is_token(wanted) {
                self.compare_tokens(wanted, answer)?;
            } else if let Some(port) = answer.strip_prefix("addr=127.0.0.1:")
                && wanted == "addr=127.0.0.1:6388"
            {
                self.port = port.parse().map_err(|_| "not a port")?;
            } else if !(is_time(wanted) && is_time(answer)
                || is_fence(wanted) && is_fence(answer)
                || is_peer(wanted) && is_peer(answer)
                || is_alike(
                    &with_real_tokens(&without_chance(wanted), &self.tokens),
                    &without_chance(answer),
                ))
            {
                return Err("another field");
            }
        }
        Ok(())
    }

    pub fn compare_tokens(&mut self, wanted: &str, answer: &str) -> Result<(), &'static str> {
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

fn is_fence(word: &str) -> bool {
    word.len() == 19 && word.bytes().all(|b| b.is_ascii_digit())
}

/// The address of a client, in the log or in a table: the kernel has chosen its port.
fn is_peer(word: &str) -> bool {
    let value = word.split_once('=').map_or(word, |(_, value)| value);
    let port = value.strip_prefix("127.0.0.1:");
    port.is_some_and(|port| port.parse::<u16>().is_ok()) && !word.starts_with("addr=")
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

/// Replaces documented tokens by those that came, and documented fences by theirs.
fn with_real_tokens(text: &str, tokens: &BTreeMap<String, String>) -> String {
    let mut text = text.to_string();
    for digits in [32, 16] {
        for (token, real) in tokens {
            text = text.replace(&token[..digits], &real[..digits]);
        }
    }
    text
}

/// Leaves out what is by chance in an answer: instants, and, because the desk connects too, the ports of clients, the
/// numbers of their connections and the ids of their requests.
fn without_chance(word: &str) -> String {
    let mut name = "";
    let parts = word.split('"').map(|part| {
        // Between a name and its value there is a colon.
        let is_id = name == "instance" && part != ":";
        if part != ":" {
            name = part;
        }
        if is_id || is_time(part) { "" } else { part }
    });
    let mut text = parts.collect::<Vec<_>>().join("\"");
    for name in ["\"peer\":\"127.0.0.1:", "\"conn_id\":", "@127.0.0.1:"] {
        let parts = text.split(name).enumerate();
        let parts = parts.map(|(at, part)| match at {
            0 => part,
            _ => part.trim_start_matches(|c: char| c.is_ascii_digit()),
        });
        text = parts.collect::<Vec<_>>().join(name);
    }
    text
}

/// How many requests wait for a lock.
fn waiters(port: u16) -> usize {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    stream.write_all(b"stats\n_\n_\n").expect("it reads");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let counts = answer.split("\"waiters\":").skip(1);
    let counts = counts.filter_map(|rest| rest.split(['}', ',']).next());
    counts
        .map(|count| count.parse::<usize>().expect("a number"))
        .sum()
}

/// The binary under test, with none of the environment's settings.
pub fn dflockd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dflockd"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// A directory of its own, gone when dropped. In a terminal curl shows no progress; here neither.
pub struct Room(pub PathBuf);

impl Room {
    pub fn new() -> Room {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dflockd-docs-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory can be made");
        fs::write(path.join(".curlrc"), "silent\nshow-error\n").expect("it can be written");
        Room(path)
    }

    /// A shell command in that directory, in which `dflockd` and `dflock` are the binaries under test.
    pub fn shell(&self, shell: &str, command: &str) -> Command {
        let ours = Path::new(env!("CARGO_BIN_EXE_dflockd")).parent();
        let ours = ours.expect("it is in a directory").display();
        let path = tools::path();
        let mut shell = Command::new(shell);
        shell.args(["-c", command]).current_dir(&self.0);
        shell.env_clear().env("PATH", format!("{ours}:{path}"));
        shell.env("CURL_HOME", &self.0);
        shell
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("what was made can be removed");
    }
}

/// The process behind a `$`, gone when dropped.
pub struct Terminal {
    child: Child,
    /// None after `^D`.
    keyboard: Option<ChildStdin>,
    screen: Receiver<String>,
    /// It is a server.
    serves: bool,
    /// Lines typed since the last answer; three for a command that asks by itself.
    typed: usize,
}

impl Terminal {
    pub fn start(command: &str, port: u16, room: &Room) -> Terminal {
        let args = command.strip_prefix("dflockd");
        let command = match args {
            Some(args) => format!("dflockd --port 0{args}"),
            None => command
                .replace(" 6388", &format!(" {port}"))
                .replace("localhost:6388", &format!("localhost:{port}")),
        };
        assert!(
            !command.contains("nc ") || command.contains(" 127.0.0.1 "),
            "{command:?} leaves the host"
        );
        let asks = command.starts_with("curl ") && command.contains("waitTimeout");
        // Killing the child has to kill nc and not a shell around it; a loop has only commands that end.
        let exec = if command.starts_with("for ") {
            ""
        } else {
            "exec "
        };
        let mut child = room
            .shell("sh", &format!("exec 2>&1; {exec}{command}"))
            .env("DFLOCK_SERVER", format!("127.0.0.1:{port}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        Terminal {
            keyboard: child.stdin.take(),
            screen: lines_of(child.stdout.take().expect("stdout is piped")),
            child,
            serves: args.is_some(),
            typed: if asks { 3 } else { 0 },
        }
    }

    pub fn type_line(&mut self, line: &str) {
        self.typed += 1;
        let keyboard = self.keyboard.as_mut().expect("nothing is typed after ^D");
        // One write, so that nc does not see half a line.
        let written = keyboard.write_all(format!("{line}\n").as_bytes());
        written.expect("nc is still there");
    }

    pub fn answer(&mut self) -> Result<String, String> {
        let answer = self.screen.recv_timeout(PATIENCE);
        let answer = answer.map_err(|error| format!("no answer: {error}"))?;
        if !answer.starts_with("sig ") {
            self.typed = 0;
        }
        Ok(answer)
    }

    /// A whole request was typed, and is not answered.
    fn asks(&self) -> bool {
        !self.serves && self.typed > 0 && self.typed.is_multiple_of(3)
    }

    /// The command ends by itself and says nothing more. Returns its exit status.
    pub fn finish(&mut self) -> Result<i32, String> {
        match self.screen.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().map_err(|error| error.to_string())?;
                status.code().ok_or("a signal ended it".to_string())
            }
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

/// Reads lines in a thread, because only a channel can be read with a deadline.
/// The line as a document would have it. The option for the port is the desk's, so no document has it among the settings.
fn documented(line: String) -> Option<String> {
    if !line.contains(" dflockd settings ") {
        return Some(line);
    }
    let line = line.replace(" port=0", "");
    (!line.ends_with(" settings")).then_some(line)
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        for line in lines.filter_map(documented) {
            // Goes on without a listener, so that the writer never meets a closed pipe.
            let _ = sender.send(line);
        }
    });
    receiver
}
