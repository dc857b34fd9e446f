//! Programs that the tests use and that not every machine has. Where one is missing, a stand-in of the tests' own
//! plays its part, so that `cargo test` needs Rust, a shell and coreutils and nothing else. Invariant: with
//! `DEMAND_TOOLS` in the environment nothing is played and nothing is left out: a missing program fails the test that
//! needs it.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// A tool: its name, the package of Debian that has it, and a shell text that plays it.
const STAND_INS: [(&str, &str, &str); 3] = [
    ("nc", "netcat-openbsd", NETCAT),
    // The scripts in the manual pages compress files and lock one; the tests ask only when they run.
    ("gzip", "gzip", "exec mv \"$1\" \"$1.gz\""),
    ("flock", "util-linux", "exit 0"),
];

/// The test program itself. Its output comes on stderr, because stdout belongs to the test harness (see netcat.rs).
const NETCAT: &str = "NETCAT=\"$*\" exec \"$TESTS\" --exact netcat::netcat --nocapture \
                      2>&1 >/dev/null";

/// The PATH for commands, with stand-ins for the tools that it lacks in front.
pub fn path() -> String {
    static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let missing = STAND_INS.iter().filter(|(name, ..)| !is_there(name));
        let missing: Vec<_> = missing.collect();
        for (name, package, _) in &missing {
            demand(name, package);
        }
        (!missing.is_empty()).then(|| stand_ins("missing", missing))
    });
    joined(FOLDER.as_deref())
}

/// The same with the stand-ins of all of them.
pub fn path_of_stand_ins() -> String {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| stand_ins("all", &STAND_INS));
    joined(Some(&FOLDER))
}

/// Whether this machine has a program that no stand-in could play; a test without it has nothing to ask.
pub fn has(name: &str, package: &str) -> bool {
    let is_there = is_there(name);
    if !is_there {
        demand(name, package);
        println!("there is no {name}: left out");
    }
    is_there
}

/// A test cannot be made on this machine: that is said though the test passes, and is a failure where tools are demanded.
#[allow(dead_code, reason = "one program uses it")]
pub fn leave_out(why: &str) {
    assert!(env::var_os("DEMAND_TOOLS").is_none(), "{why}");
    // Not by eprintln, which the tests of Rust keep to themselves.
    let said = std::io::stderr().write_all(format!("left out: {why}\n").as_bytes());
    said.expect("there is a stderr");
}

fn demand(name: &str, package: &str) {
    let is_demanded = env::var_os("DEMAND_TOOLS").is_some();
    assert!(!is_demanded, "no {name}: apt-get install {package}");
}

fn is_there(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found = env::split_paths(&path).map(|folder| folder.join(name));
    let Some(file) = found.find(|file| file.is_file()) else {
        return false;
    };
    if name != "nc" {
        return true;
    }
    // Other netcats lack -N, and some of them go away at the first answer.
    let usage = Command::new(file).arg("-h").output();
    usage.is_ok_and(|usage| String::from_utf8_lossy(&usage.stderr).contains("-N"))
}

fn joined(folder: Option<&Path>) -> String {
    let rest = env::var("PATH").unwrap_or_default();
    folder.map_or(rest.clone(), |folder| {
        format!("{}:{rest}", folder.display())
    })
}

/// Makes a folder of stand-ins, which other runs of this program may use at the same time.
fn stand_ins<'a>(
    name: &str,
    tools: impl IntoIterator<Item = &'a (&'static str, &'static str, &'static str)>,
) -> PathBuf {
    let tests = env::current_exe().expect("it has a path");
    let own = tests.file_name().expect("it is a file").display();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{own}"));
    fs::create_dir_all(&folder).expect("it can be made");
    for (tool, _, text) in tools {
        let text = text.replace("$TESTS", &tests.display().to_string());
        script(&folder.join(tool), &format!("#!/bin/sh\n{text}\n"));
    }
    folder
}

/// Writes a script that can be run at once. A shell writes it: a program cannot be run while any process has it open
/// for writing (ETXTBSY), and a child of another test would have a copy of our descriptor between its fork and its
/// exec.
pub fn script(file: &Path, text: &str) {
    let write = "cat >\"$0.$$\" && chmod 755 \"$0.$$\" && mv \"$0.$$\" \"$0\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", write]).arg(file).stdin(Stdio::piped());
    let mut shell = shell.spawn().expect("there is a shell");
    let mut input = shell.stdin.take().expect("its input is piped");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    assert!(shell.wait().expect("a child can be waited for").success());
}
