//! What a command has from the processes above it, and they of it: signal masks, limits, groups and environment are
//! handed down as under flock(1), and the exit status up, whatever the parent is like and whatever is missing.
//! Invariant: a claim that flock(1) cannot keep is made for dflock alone, and each says so.

#![allow(unsafe_code, reason = "prctl(2) is not in std")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use crate::beside::{Scene, Tool, both, family};
use crate::daemon::{at_once, tools};
use crate::stage::{End, Run, around, children, few_at_once, is_alive, run, signal};

const AT_ONCE: usize = 6;

/// Exit statuses, and signals by which a command ends itself.
#[test]
fn the_status_of_the_command_passes_through() {
    let scene = Scene::new();
    let exits = [0, 1, 2, 75, 120, 126, 127, 128, 255].map(|n| (format!("exit {n}"), n));
    let signals = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("PIPE", 13),
        ("TERM", 15),
        ("USR1", 10),
    ];
    let signals = signals.map(|(name, n)| (format!("ulimit -c 0; kill -s {name} $$"), 128 + n));
    let missing = [
        ("exec /dev/null".to_string(), 126),
        ("exec no-such-command 2>/dev/null".to_string(), 127),
    ];
    let ends = exits.into_iter().chain(signals).chain(missing);
    let cases: Vec<_> = ends
        .flat_map(|end| both().map(move |is_dflock| (is_dflock, end.clone())))
        .collect();
    few_at_once(AT_ONCE, cases, |(is_dflock, (text, status))| {
        let tool = scene.tool(is_dflock);
        let end = run(around(
            tool.addr,
            &tool.text(&format!("exec LOCK sh -c '{text}'")),
        ));
        assert_eq!(end.status, status, "{}: {text}: {end:?}", tool.lock);
    });
}

/// flock(1) cannot wait for its command then, and ends with 71.
#[test]
fn a_parent_that_ignores_its_children_does_not_hide_the_status() {
    let scene = Scene::new();
    at_once(
        ["exit 7", "kill -s KILL $$", "(sleep 0.1; exit 3)"],
        |text| {
            let tool = scene.tool(true);
            let end = run(around(
                tool.addr,
                &tool.text(&format!(
                    "exec env --ignore-signal=CHLD LOCK sh -c '{text}'"
                )),
            ));
            let status = run(around(tool.addr, &format!("sh -c '{text}'"))).status;
            assert_eq!(end.status, status, "{end:?}");
        },
    );
}

/// It reaps what falls to it, and nothing of the command does: that falls to dflock, which ends it.
#[test]
fn nothing_of_the_command_falls_to_a_subreaper_above() {
    let scene = Scene::new();
    let tool = scene.tool(true);
    let left = "(setsid sleep 60 >/dev/null 2>&1 &); sleep 60 >/dev/null 2>&1 & exit 7";
    let text = format!("LOCK sh -c '{left}'; echo $?; read x; exit 3");
    let mut command = around(tool.addr, &tool.text(&text));
    // SAFETY: prctl(2) may be called between fork and exec, and this one takes numbers only.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let mut parent = Run::start(command);
    parent.hears("7");
    assert_eq!(children(parent.pid), [0; 0]);
    assert_eq!(family(&tool.key), [0; 0]);
    assert_eq!(parent.end().status, 3);
}

/// A shell may start a process and then become the tool.
#[test]
fn a_child_that_was_there_before_is_none_of_the_commands() {
    let scene = Scene::new();
    few_at_once(AT_ONCE, both(), |is_dflock| {
        let tool = scene.tool(is_dflock);
        let text = "sleep 60 >/dev/null 2>&1 & echo $!; exec LOCK sh -c 'exit 7'";
        let mut run = Run::start(around(tool.addr, &tool.text(text)));
        let child = run.line().trim_end().parse().unwrap();
        assert_eq!(run.status(), 7, "{}", tool.lock);
        assert!(is_alive(child), "{}", tool.lock);
        signal(child, "KILL");
    });
}

/// One that ends while the command runs is not taken for it.
#[test]
fn a_child_that_was_there_before_may_end() {
    let scene = Scene::new();
    few_at_once(AT_ONCE, both(), |is_dflock| {
        let tool = scene.tool(is_dflock);
        let text = "sh -c 'sleep 0.1; exit 3' & exec LOCK sh -c 'sleep 0.3; exit 7'";
        let end = run(around(tool.addr, &tool.text(text)));
        assert_eq!(end.status, 7, "{}", tool.lock);
    });
}

#[test]
fn one_under_another_passes_the_status_through() {
    let scene = Scene::new();
    let (outer, inner) = (scene.tool(true), scene.tool(true));
    let text = format!("exec {} {} sh -c 'exit 7'", outer.lock, inner.lock);
    assert_eq!(run(around(outer.addr, &text)).status, 7);
}

/// The command's streams are dflock's own, or closed, or /dev/null: never a socket or a pipe of dflock. Of flock(1) the
/// command has the file of the lock there.
#[test]
fn without_standard_streams_the_command_runs() {
    let scene = Scene::new();
    let closings = ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"];
    let cases: Vec<_> = closings
        .into_iter()
        .flat_map(|closed| both().map(move |is_dflock| (closed, is_dflock)))
        .collect();
    few_at_once(AT_ONCE, cases, |(closed, is_dflock)| {
        let tool = scene.tool(is_dflock);
        let look = "for fd in 0 1 2; do \
                        set -- \"$@\" $(readlink /proc/$$/fd/$fd || echo closed); \
                    done; echo $* >FILE.fds; exit 7";
        let text = format!("exec LOCK sh -c '{look}' {closed}");
        assert_eq!(
            run(around(tool.addr, &tool.text(&text))).status,
            7,
            "{}{closed}",
            tool.lock
        );
        let plain = format!("exec sh -c '{}' {closed}", look.replace(".fds", ".plain"));
        assert_eq!(run(around(tool.addr, &tool.text(&plain))).status, 7);
        let lines = |name| {
            let text = fs::read_to_string(format!("{}.{name}", tool.file)).unwrap();
            text.split_whitespace()
                .map(str::to_string)
                .collect::<Vec<_>>()
        };
        let (fds, plain) = (lines("fds"), lines("plain"));
        assert_eq!(fds.len(), 3);
        for (fd, as_plain) in fds.iter().zip(&plain) {
            let is_open = as_plain.starts_with("socket:");
            let is_ours = fd.starts_with("socket:") == is_open;
            let is_none = is_open || ["closed", "/dev/null"].contains(&fd.as_str());
            assert!(
                is_ours && (is_none || !is_dflock),
                "{}{closed}: {fds:?}",
                tool.lock
            );
        }
    });
}

/// The pipe is full and nobody reads it, but its reader lives.
#[test]
fn a_full_stderr_stops_nobody() {
    let scene = Scene::new();
    let tool = scene.tool(true);
    let lock = tool.text("dflock -v KEY sh -c 'echo ran; exit 7'");
    let script = format!(
        "exec 3>&1; {{ timeout 0.2 yes >&2; {lock}; echo $? >&3; }} 2>&1 >&3 | sleep 60 3>&-"
    );
    let mut run = Run::start(around(tool.addr, &script.replace("KEY", &tool.key)));
    run.hears("ran");
    run.hears("7");
}

/// The lines of a command's own look at itself, by itself and under each tool.
#[track_caller]
fn is_the_same(before: &str, command: &str) {
    let scene = Scene::new();
    let look = |lock: &str, tool: &Tool| {
        let text = tool.text(&format!("{before}exec {lock} {command}"));
        let end = run(around(tool.addr, &text));
        assert_eq!((end.status, end.err.as_str()), (0, ""), "{text}");
        end.out
    };
    for is_dflock in both() {
        let tool = scene.tool(is_dflock);
        assert_eq!(
            look("LOCK", &tool),
            look("env", &tool),
            "{}",
            tool.text(before)
        );
    }
}

#[test]
fn signals_are_handed_down_as_they_were() {
    let befores = [
        "",
        "exec env --ignore-signal=HUP ",
        "exec env --ignore-signal=PIPE ",
        "exec env --ignore-signal=INT --ignore-signal=QUIT ",
        "exec env --ignore-signal=CHLD ",
        "exec env --ignore-signal=TSTP --ignore-signal=TTOU --ignore-signal=TTIN ",
        "exec env --ignore-signal=TERM --ignore-signal=USR1 ",
        "exec env --block-signal=USR1 --block-signal=TERM ",
        "exec env --block-signal=CHLD --block-signal=TTOU ",
        "exec env --block-signal ",
    ];
    at_once(befores, |before| {
        // Under CHLD ignored flock(1) fails after its command has run.
        let is_for_flock = !before.contains("ignore-signal=CHLD");
        let scene = Scene::new();
        let look = "grep -E '^(Sig(Blk|Ign|Cgt)|ShdPnd)' /proc/self/status";
        for is_dflock in both().filter(|&is_dflock| is_dflock || is_for_flock) {
            let tool = scene.tool(is_dflock);
            let seen = |lock: &str| {
                run(around(
                    tool.addr,
                    &tool.text(&format!(
                        "{}{lock} {look}",
                        if before.is_empty() { "exec " } else { before }
                    )),
                ))
                .out
            };
            let (under, alone) = (seen("LOCK"), seen(""));
            assert_eq!(under, alone, "{}: {before}", tool.lock);
            assert_ne!(alone, "");
        }
    });
}

#[test]
fn rights_and_limits_are_handed_down_as_they_were() {
    is_the_same("umask 027; cd /; ", "sh -c 'umask; pwd'");
    is_the_same(
        "ulimit -c 0; ulimit -n 123; ulimit -v 9000000; ",
        "cat /proc/self/limits",
    );
    is_the_same(
        "",
        "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Umask|Cpus|CoreDumping)' /proc/self/status",
    );
    is_the_same(
        "",
        "cat /proc/self/oom_score_adj /proc/self/timerslack_ns /proc/self/cgroup",
    );
    is_the_same("exec 5</dev/null; ", "sh -c 'readlink /proc/$$/fd/5'");
    is_the_same(
        "A=1; export A; ",
        "sh -c 'env | grep -v -e ^DF[L]OCK_ -e ^_= -e ^SHLVL= | sort'",
    );
}

/// flock(1) has the lock open in the command.
#[test]
fn no_descriptor_of_dflock_is_handed_down() {
    let scene = Scene::new();
    let tool = scene.tool(true);
    let look = |lock: &str| {
        run(around(
            tool.addr,
            &tool.text(&format!(
                "exec 5</dev/null; exec {lock} sh -c 'ls /proc/$$/fd'"
            )),
        ))
        .out
    };
    assert_eq!(look("LOCK"), look("env"));
}

/// The group, the session and the terminal of the command are those of the tool.
#[test]
fn the_command_is_of_its_tools_group_and_session() {
    let scene = Scene::new();
    // The fields behind the name: state, parent, group, session, terminal, and its foreground.
    let look = "read -r line </proc/$$/stat; set -- ${line##*) }; echo $3 $4 $5 $6";
    let text = format!("{look}; LOCK sh -c '{look}'; echo over");
    for is_dflock in both() {
        for lead in ["", "setsid -w "] {
            if !lead.is_empty() && !tools::has("setsid", "util-linux") {
                continue;
            }
            let tool = scene.tool(is_dflock);
            let script = format!("{}.script", tool.file);
            fs::write(&script, tool.text(&text)).unwrap();
            let plain = run(around(tool.addr, &format!("exec {lead}sh {script}")));
            let mut terminal = Run::on_terminal(tool.addr, &format!("{lead}sh {script}"));
            let mut shown: Vec<String> = Vec::new();
            while shown.last().is_none_or(|line| line != "over") {
                shown.push(terminal.line().trim_end().to_string());
            }
            for lines in [
                plain.out.lines().collect::<Vec<_>>(),
                shown.iter().map(String::as_str).collect(),
            ] {
                assert_eq!(lines.len(), 3, "{lines:?}");
                assert_eq!(lines[0], lines[1], "{}{}", lead, tool.lock);
            }
        }
    }
}

// A system that lacks something.

/// A text for the shell in namespaces of its own, which unshare(1) makes by these flags. None where the kernel refuses
/// them.
fn apart(flags: &str, scene: &Scene, text: &str) -> Option<End> {
    if !tools::has("unshare", "util-linux") {
        return None;
    }
    for more in ["", "--user --map-root-user "] {
        let unshare = format!("exec unshare {more}{flags} sh -c '{text}'");
        let mut command = around(scene.daemon.addr, &unshare);
        command.stdin(Stdio::null());
        let mut end = run(command);
        if let Some(rest) = end.out.strip_prefix("apart\n") {
            end.out = rest.to_string();
            return Some(end);
        }
    }
    println!("the kernel refuses namespaces: left out");
    None
}

/// dflock where a folder is empty.
fn without(folder: &str, scene: &Scene, key: &str, command: &str) -> Option<End> {
    let text = format!("mount -t tmpfs none {folder} && echo apart && exec dflock {key} {command}");
    apart("--mount", scene, &text)
}

/// The numbers in /proc are those of other processes, if they are of any.
#[test]
fn behind_the_proc_of_another_namespace_nobody_is_left() {
    let scene = Scene::new();
    let tool = scene.tool(true);
    let (script, left) = (format!("{}.sh", tool.file), format!("{}.left", tool.file));
    fs::write(
        &script,
        "setsid sleep 60 >/dev/null 2>&1 & echo $! >$1; exit 7\n",
    )
    .unwrap();
    // The shell is process 1 there, and all would end with it.
    let text = format!(
        "echo apart; dflock {} sh {script} {left}; echo status $?; kill -0 $(cat {left}) 2>/dev/null; echo $?",
        tool.key
    );
    if let Some(end) = apart("--pid --fork", &scene, &text) {
        assert_eq!(end.out, "status 7\n1\n", "{end:?}");
    }
}

#[test]
fn without_proc_the_status_passes_through_and_nobody_is_left() {
    let scene = Scene::new();
    let key = "no-proc";
    let command = "sh -c \"(setsid sleep 60 >&- 2>&- &); sleep 60 >&- 2>&- & echo ran; exit 7\"";
    if let Some(end) = without("/proc", &scene, key, command) {
        assert_eq!((end.status, end.out.as_str()), (7, "ran\n"), "{end:?}");
        assert_eq!(family(key), [0; 0]);
    }
}

#[test]
fn without_dev_null_the_command_does_not_run_unguarded() {
    let scene = Scene::new();
    if let Some(end) = without("/dev", &scene, "no-null", "sh -c \"echo ran; exit 7\"") {
        assert!(end.err.contains("/dev/null"), "{end:?}");
        end.complains(71);
        let next = run(around(scene.daemon.addr, "exec dflock -n no-null true"));
        assert_eq!(next.status, 0);
    }
}
