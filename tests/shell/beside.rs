//! Scripts at a terminal, each once under flock(1) and once under dflock: what a person sees must be what is written
//! beside the script. Not here: the scripts. Invariant: what dflock says on stderr is passed over and nothing else, and
//! where flock(1) is missing dflock is held against the same values.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::daemon::{Daemon, eventually, tools};
use crate::stage::{Folder, Run, around, few_at_once, is_alive, waiters};

/// So many terminals at a time leave a processor for what is looked at.
const TERMINALS: usize = 6;
/// Says whether the shell's own group has the terminal, and of each process of its session that is stopped.
const AFTERWARDS: &str = r#"set -- $(cat /proc/$$/stat)
[ $5 = $8 ] && echo front || echo back
{ for stat in /proc/[0-9]*/stat; do
    read -r line <$stat || continue
    set -- ${line##*) }
    [ "$4$1" != $$T ] || echo "stopped: $line"
done; } 2>/dev/null
"#;

/// Pairs of a line of the screen and the keys that are typed behind it.
pub type Keys = &'static [(&'static str, &'static str)];

/// A script at the terminal, with a shell around it that outlives it and says how it has ended. `LOCK` is either tool
/// with its key, `FILE` a path of the script's own.
pub struct Script {
    pub text: String,
    pub keys: Keys,
    /// The screen, with `|` between its lines.
    pub shows: &'static str,
}

pub fn script(text: impl Into<String>, keys: Keys, shows: &'static str) -> Script {
    Script {
        text: text.into(),
        keys,
        shows,
    }
}

/// Where the scripts run.
pub struct Scene {
    pub daemon: Daemon,
    folder: Folder,
}

/// A lock tool with a lock of its own.
pub struct Tool {
    /// What stands before a command.
    pub lock: String,
    pub is_dflock: bool,
    pub key: String,
    pub file: String,
    pub addr: SocketAddr,
}

impl Scene {
    pub fn new() -> Scene {
        Scene {
            daemon: Daemon::start(&[]),
            folder: Folder::new(),
        }
    }

    /// A tool with a lock of its own.
    pub fn tool(&self, is_dflock: bool) -> Tool {
        // Of no other test either, so that a process can be known by its key.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let key = format!("key-{}-{number}", process::id());
        let file = self.folder.path(&key);
        let lock = match is_dflock {
            true => format!("dflock {key}"),
            false => format!("flock {file}"),
        };
        Tool {
            lock,
            is_dflock,
            key,
            file,
            addr: self.daemon.addr,
        }
    }

    /// Plays each script in each shell under each tool.
    #[track_caller]
    pub fn plays(&self, scripts: &[Script]) {
        self.plays_in(&shells(), scripts, |tool, shell, script| {
            tool.shows(shell, script)
        });
    }

    #[track_caller]
    pub fn plays_in(
        &self,
        shells: &[&str],
        scripts: &[Script],
        play: impl Fn(&Tool, &str, &Script) -> Vec<String> + Sync,
    ) {
        let cases = both().flat_map(|is_dflock| {
            let of_shell =
                move |shell| scripts.iter().map(move |script| (is_dflock, shell, script));
            shells.iter().flat_map(of_shell)
        });
        let cases: Vec<_> = cases.collect();
        let wrong = Mutex::new(Vec::new());
        few_at_once(TERMINALS, cases, |(is_dflock, shell, script)| {
            let tool = self.tool(is_dflock);
            let shown = play(&tool, shell, script).join("|");
            if shown != script.shows {
                let text = tool.text(&script.text);
                wrong.lock().unwrap().push(format!(
                    "{shell}: {text}\n  {shown}\n  not {}",
                    script.shows
                ));
            }
        });
        let wrong = wrong.into_inner().unwrap();
        assert!(
            wrong.is_empty(),
            "{} of them:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
}

impl Tool {
    pub fn text(&self, text: &str) -> String {
        let text = text.replace("LOCK", &self.lock).replace("FILE", &self.file);
        text.replace("REPORTS", &reports(&self.file))
    }

    /// A script in a shell on a terminal, and around it a shell that outlives it: that makes `FILE.end`, and lives as
    /// long as there is `FILE.wait`.
    pub fn start(&self, shell: &str, text: &str) -> Run {
        let (inner, outer) = (
            format!("{}.inner", self.file),
            format!("{}.outer", self.file),
        );
        fs::write(&inner, self.text(text)).unwrap();
        let wait = self.text(">FILE.end; while [ -e FILE.wait ]; do sleep 0.02; done");
        let around =
            format!("trap : INT QUIT\n{shell} {inner}\necho outer $?\n{AFTERWARDS}{wait}\n");
        fs::write(&outer, around).unwrap();
        Run::on_terminal(self.addr, &format!("sh {outer}"))
    }

    /// A shell that reads commands from a terminal. Its prompt is empty.
    pub fn interactive(&self, shell: &str) -> Run {
        let options = match shell {
            "bash" => "--norc --noediting",
            _ => "",
        };
        let shell = format!("env PS1= {shell} {options} -i");
        let mut run = Run::on_terminal(self.addr, &shell);
        // A greeting is not an answer.
        run.send("echo begins\n");
        self.until(&mut run, "begins");
        run
    }

    /// Plays a script to its end; all of its screen.
    pub fn shows(&self, shell: &str, script: &Script) -> Vec<String> {
        let mut run = self.start(shell, &script.text);
        self.reads(&mut run, script)
    }

    /// The same, typed into a shell.
    pub fn typed(&self, shell: &str, script: &Script) -> Vec<String> {
        let mut run = self.interactive(shell);
        run.send(&format!("{}\n", self.text(&script.text)));
        self.reads(&mut run, script)
    }

    /// The screen to its end, while keys are typed.
    pub fn reads(&self, run: &mut Run, script: &Script) -> Vec<String> {
        let (mut lines, mut keys) = (Vec::new(), script.keys.iter());
        let mut next = keys.next();
        loop {
            let line = run.line();
            if line.is_empty() {
                return lines;
            }
            let Some(line) = self.tidy(line.trim_end()) else {
                continue;
            };
            if let Some((_, typed)) = next.filter(|(seen, _)| *seen == line) {
                run.send(&self.text(typed));
                next = keys.next();
            }
            lines.push(line);
        }
    }

    /// The screen down to a line.
    pub fn until(&self, run: &mut Run, end: &str) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        while lines.last().is_none_or(|line| line != end) {
            let line = run.line();
            assert_ne!(line, "", "{end:?} comes behind {lines:?}");
            lines.extend(self.tidy(line.trim_end()));
        }
        lines
    }

    /// Whether an interactive shell has the terminal.
    pub fn says_front(&self, run: &mut Run) -> Option<String> {
        run.send("set -- $(cat /proc/$$/stat); [ $5 = $8 ] && echo front || echo back\n");
        std::iter::from_fn(|| Some(self.tidy(run.line().trim_end()))).find_map(|line| line)
    }

    /// The processes that have this key in their environment: of dflock the command and all that it has started.
    pub fn family(&self) -> Vec<u32> {
        family(&self.key)
    }

    /// A line without what may differ: dflock's own words, and how a shell calls a job.
    fn tidy(&self, line: &str) -> Option<String> {
        if line.is_empty() || line == "exit" || line.starts_with("dflock: ") {
            return None;
        }
        if line.contains(&self.lock) || line.starts_with("[1]") {
            return line.contains("Stopped").then(|| "Stopped".to_string());
        }
        Some(line.to_string())
    }

    /// Waits until somebody waits for the lock.
    pub fn is_awaited(&self, scene: &Scene) {
        eventually("somebody waits", || {
            if self.is_dflock {
                return waiters(&scene.daemon, &self.key) == 1;
            }
            let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
            let inode = format!(":{} ", inode(&self.file));
            locks
                .lines()
                .any(|line| line.contains("->") && line.contains(&inode))
        });
    }

    /// Takes the lock until it is dropped.
    pub fn held(&self) -> Run {
        let text = self.text("exec LOCK sh -c 'echo held; read x'");
        let mut holder = Run::start(around(self.addr, &text));
        holder.hears("held");
        holder
    }
}

/// The processes that run and have been told this key.
pub fn family(key: &str) -> Vec<u32> {
    let variable = format!("DFLOCK_KEY={key}");
    let is_told = |pid: &u32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environ.split(|byte| *byte == 0);
        variables.any(|it| it == variable.as_bytes()) && is_alive(*pid)
    };
    processes().filter(is_told).collect()
}

/// The group in the foreground of a process's terminal.
pub fn foreground(pid: u32) -> Option<u32> {
    fields(pid)?.get(5)?.parse().ok()
}

/// The fields of proc_pid_stat(5) from the third on, the state: the name before it may be any bytes.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_string).collect())
}

/// The processes of a session that run.
pub fn session(leader: u32) -> Vec<u32> {
    let is_of_it = |pid: &u32| {
        fields(*pid).is_some_and(|fields| fields[3] == leader.to_string()) && is_alive(*pid)
    };
    processes().filter(is_of_it).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn inode(file: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(file).map_or(0, |data| data.ino())
}

/// Whether it is dflock: dflock, and flock(1) where it is.
pub fn both() -> impl Iterator<Item = bool> {
    let is_there = |is_dflock: &bool| *is_dflock || has_flock();
    [true, false].into_iter().filter(is_there)
}

fn has_flock() -> bool {
    tools::has("flock", "util-linux")
}

/// The shells of this machine.
pub fn shells() -> Vec<&'static str> {
    let is_there = |name: &&str| *name == "sh" || tools::has(name, "bash");
    ["sh", "bash"].into_iter().filter(is_there).collect()
}

/// A shell text that becomes a process which writes each signal that it gets into a file, and ends soon after the first.
fn reports(file: &str) -> String {
    let tests = env::current_exe().expect("it has a path");
    let tests = tests.display();
    format!("REPORTS={file}.signals exec {tests} --exact heard::report --nocapture >/dev/null")
}
