//! The completions in the shells themselves: keys and files that a shell has to quote, and servers that do not answer.
//! Not here: which options they know, in docs.rs. Invariant: as in main.rs.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, tools};
use crate::stage::{Folder, Run, around};

/// Where a completion is.
fn path(file: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    format!("{root}/packaging/completions/{file}")
}

/// Keys that a shell reads as they are only in quotes, and some that it does not have to quote.
const KEYS: [&str; 4] = ["plain-key", "job*", "it's", "bench:1"];
/// What is typed before the tab, and the key that is meant.
const TYPED: [(&str, &str); 5] = [
    ("stat pl", "plain-key"),
    ("stat jo", "job*"),
    ("stat it", "it's"),
    ("stat -o json ben", "bench:1"),
    ("-o json stat bench:", "bench:1"),
];

/// A server on which these keys are held until this is dropped.
fn busy() -> (Daemon, crate::daemon::Client) {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    for key in KEYS {
        holder.takes(key);
    }
    (daemon, holder)
}

/// The next line with this in it, of at most a hundred.
#[track_caller]
fn shows(shell: &mut Run, text: &str) -> String {
    let mut lines = (0..100).map(|_| shell.line());
    let found = lines.find(|line| line.contains(text));
    found.unwrap_or_else(|| panic!("no line has {text:?}"))
}

/// An interactive shell that has read this, which lets it say a line when it reads keys.
fn shell(daemon: &Daemon, command: &str, setup: &str) -> Run {
    let mut shell = Run::on_terminal(daemon.addr, command);
    shell.send(&format!("{setup}\n"));
    shows(&mut shell, "ready");
    shell
}

/// The keys and files that a tab completes arrive at the command as they are.
#[track_caller]
fn completes(daemon: &Daemon, command: &str, setup: &str) {
    let folder = Folder::new();
    let secret = folder.path("my token*");
    fs::write(&secret, "sesame\n").unwrap();
    let setup = format!("cd {}; {setup}", folder.path(""));
    let mut shell = shell(daemon, command, &setup);
    for (typed, key) in TYPED {
        let json = if typed.contains("json") {
            ""
        } else {
            " -o json"
        };
        shell.send(&format!("dflock {typed}\t{json}\n"));
        let line = shows(&mut shell, "{\"fence\":");
        shows(&mut shell, "ready");
        assert!(
            line.contains(&format!("\"key\":\"{key}\"")),
            "{typed}: {line}"
        );
    }
    // The server wants no token, and dflock says so once it has read the file.
    shell.send("dflock --token-file my\t ping\n");
    shows(&mut shell, "wants no token");
    shows(&mut shell, "ready");
    shell.send("dflock --token-file=my\t ping\n");
    shows(&mut shell, "wants no token");
    shell.send("exit\n");
}

#[test]
fn bash_completes_keys_and_files_that_have_to_be_quoted() {
    if !tools::has("bash", "bash") {
        return;
    }
    let (daemon, _holder) = busy();
    let setup = format!("source {}; PS1=$'re''ady\\n'", path("dflock.bash"));
    completes(&daemon, "bash --norc --noprofile -i", &setup);
}

#[test]
fn zsh_completes_keys_and_files_that_have_to_be_quoted() {
    if !tools::has("zsh", "zsh") {
        return;
    }
    let (daemon, _holder) = busy();
    let setup = format!(
        "fpath=({} $fpath); autoload -U compinit; compinit -D -u; \
         zle-line-init() {{ print re''ady }}; zle -N zle-line-init",
        path("")
    );
    completes(&daemon, "zsh -f -i", &setup);
}

#[test]
fn fish_completes_keys_and_files_that_have_to_be_quoted() {
    if !tools::has("fish", "fish") {
        return;
    }
    let (daemon, _holder) = busy();
    let folder = Folder::new();
    fs::write(folder.path("my token*"), "sesame\n").unwrap();
    // fish prints what it would complete, before it quotes it.
    let complete = |line: &str| {
        let script = format!("source {}; complete -C \"{line}\"", path("dflock.fish"));
        let mut fish = around(daemon.addr, "exec fish --no-config -c \"$0\"");
        fish.arg(script).env("HOME", folder.path(""));
        let output = fish.current_dir(folder.path("")).output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let words = text.lines().filter_map(|line| line.split('\t').next());
        words.map(str::to_string).collect::<Vec<_>>()
    };
    for (typed, key) in TYPED {
        assert_eq!(complete(&format!("dflock {typed}")), [key], "{typed}");
    }
    assert_eq!(complete("dflock --token-file my"), ["my token*"]);
    assert_eq!(complete("dflock renew plain-key "), [""; 0]);
}

#[test]
fn a_server_that_does_not_answer_delays_a_completion_by_a_second_and_says_nothing() {
    if !tools::has("bash", "bash") {
        return;
    }
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let script = format!(
        "source {}; COMP_WORDS=(dflock stat \"\") COMP_CWORD=2; _dflock; echo \"<${{COMPREPLY[*]}}>\"",
        path("dflock.bash")
    );
    let mut bash = around(silent.local_addr().unwrap(), "exec bash --norc -c \"$0\"");
    let start = Instant::now();
    let output = bash.arg(script).output().unwrap();
    let spent = start.elapsed();
    assert_eq!((output.stdout, output.stderr), (b"<>\n".to_vec(), vec![]));
    // `dflock ls` by itself gives up after 10 s.
    assert!(
        spent >= Duration::from_secs(1) && spent < Duration::from_secs(8),
        "{spent:?}"
    );
}

#[test]
fn bash_completes_the_options_and_files_of_the_server() {
    if !tools::has("bash", "bash") {
        return;
    }
    let folder = Folder::new();
    fs::write(folder.path("my token*"), "sesame\n").unwrap();
    let complete = |words: &[&str]| {
        let script = "source \"$1\"; shift; COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)); _dflockd; \
                      printf '<%s>' \"${COMPREPLY[@]}\"";
        let mut bash = Command::new("bash");
        bash.args([
            "--norc",
            "-c",
            script,
            "_",
            &path("dflockd.bash"),
            "dflockd",
        ]);
        let output = bash.args(words).current_dir(folder.path("")).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!(
        complete(&["--max-l", "3", "--no-dead"]),
        "<--no-deadlock-detection>"
    );
    assert_eq!(complete(&["--auth-token-file", "my"]), "<my token*>");
    assert_eq!(
        complete(&["--auth-token-file", "=", "my\\ t"]),
        "<my token*>"
    );
    assert_eq!(complete(&["--port", ""]), "<>");
}
