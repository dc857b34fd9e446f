//! The terminal is the command's as much as under flock(1): questions, pipelines, interrupts, stops, timeouts and the
//! end of the terminal. Invariant: a person cannot tell the two apart but by what dflock says on stderr.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::beside::{Scene, Tool, foreground, script, session, shells};
use crate::daemon::{eventually, tools};
use crate::stage::{Run, is_alive, state};

const INTERRUPT: &str = "\x03";
const QUIT: &str = "\x1c";
const SUSPEND: &str = "\x1a";
/// Long enough for a process that runs to be seen.
const A_WHILE: Duration = Duration::from_millis(200);

/// A command that asks a question on the terminal.
const ASKS: &str = "exec 3</dev/tty; echo Password >/dev/tty; read x <&3; echo got $x";
/// Commands that an interrupt ends, each in its way.
const DIES: &str = "sh -c 'echo ready; exec sleep 60'";
const EXITS_130: &str =
    "sh -c 'trap \"exit 130\" INT QUIT; echo ready; while :; do sleep 0.05; done'";
const EXITS_0: &str = "sh -c 'trap \"exit 0\" INT QUIT; echo ready; while :; do sleep 0.05; done'";
/// And one that it does not end. It is still at it when the script around flock(1) has ended.
const IGNORES: &str = "sh -c 'trap \"\" INT QUIT; echo ready; sleep 1; echo done >FILE.done'";

// Questions on the terminal.

#[test]
fn a_command_that_asks_on_the_terminal_gets_its_answer() {
    let after = "echo $?; read y; echo also $y";
    let keys = &[("Password", "secret\n"), ("0", "more\n")];
    let shows = "Password|got secret|0|also more|outer 0|front";
    Scene::new().plays(&[
        script(format!("LOCK sh -c '{ASKS}'; {after}"), keys, shows),
        script(
            format!("LOCK sh -c '{ASKS}' </dev/null; {after}"),
            keys,
            shows,
        ),
        script(
            format!("echo data | LOCK sh -c '{ASKS}'; {after}"),
            keys,
            shows,
        ),
        script(
            format!("LOCK sh -c '{ASKS}' <<END\nline\nEND\n{after}"),
            keys,
            shows,
        ),
        script(
            format!("echo word | xargs -I@ LOCK sh -c '{ASKS}'; {after}"),
            keys,
            shows,
        ),
        script(
            format!("LOCK sh -c '{ASKS}' >FILE.out; {after}"),
            keys,
            "Password|0|also more|outer 0|front",
        ),
        script(
            format!("echo data | LOCK sh -c '{ASKS}; cat' | cat; {after}"),
            keys,
            "Password|got secret|data|0|also more|outer 0|front",
        ),
    ]);
}

#[test]
fn both_ends_of_a_pipeline_read_the_terminal() {
    let first = "sh -c 'echo one; read a </dev/tty; echo first $a'";
    let second =
        "sh -c 'read l; echo saw $l; read m; echo then $m; read b </dev/tty; echo second $b'";
    let keys = &[("saw one", "x\n"), ("then first x", "y\n")];
    let shows = "saw one|then first x|second y|outer 0|front";
    Scene::new().plays(&[
        script(format!("LOCK {first} | {second}"), keys, shows),
        script(format!("{first} | LOCK {second}"), keys, shows),
        script(
            format!(
                "LOCK sh -c \"{}\"",
                format!("{first} | {second}").replace('$', "\\$")
            ),
            keys,
            shows,
        ),
    ]);
}

// An interrupt.

#[test]
fn an_interrupt_is_seen_by_the_script_around() {
    let scripts = [DIES, EXITS_130, EXITS_0, IGNORES].map(|command| {
        [
            script(
                format!("LOCK {command}; echo next"),
                &[("ready", INTERRUPT)],
                "ready|outer 130|front",
            ),
            script(
                format!("for i in 1 2 3; do echo round $i; LOCK {command}; done; echo next"),
                &[("ready", INTERRUPT)],
                "round 1|ready|outer 130|front",
            ),
            script(
                format!("trap 'echo cleaned; exit 1' INT; LOCK {command}; echo next"),
                &[("ready", INTERRUPT)],
                "ready|cleaned|outer 1|front",
            ),
            script(
                format!("trap 'echo trapped' INT; LOCK {command}; echo next $?"),
                &[("ready", INTERRUPT)],
                "ready|trapped|next 130|outer 0|front",
            ),
        ]
    });
    Scene::new().plays(scripts.as_flattened());
}

/// A shell script of bash goes on after a command that died of QUIT, because bash ignores that itself.
#[test]
fn a_quit_is_seen_by_the_script_around() {
    for (shell, shows) in [
        ("sh", "ready|Quit|outer 131|front"),
        ("bash", "ready|next 131|outer 0|front"),
    ] {
        if shells().contains(&shell) {
            let scripts = [DIES, EXITS_130, EXITS_0, IGNORES].map(|command| {
                let text = format!("exec 2>/dev/null; ulimit -c 0; LOCK {command}; echo next $?");
                script(text, &[("ready", QUIT)], shows)
            });
            Scene::new().plays_in(&[shell], &scripts, |tool, shell, script| {
                tool.shows(shell, script)
            });
        }
    }
}

#[test]
fn an_interrupt_is_seen_by_the_script_around_while_it_still_waits() {
    let scene = Scene::new();
    let scripts = [
        script("LOCK echo never; echo next", &[], "outer 130|front"),
        script(
            "for i in 1 2; do LOCK echo never; done; echo next",
            &[],
            "outer 130|front",
        ),
        script(
            "trap 'echo cleaned; exit 1' INT; LOCK echo never; echo next",
            &[],
            "cleaned|outer 1|front",
        ),
    ];
    scene.plays_in(&shells(), &scripts, |tool, shell, script| {
        let _holder = tool.held();
        let mut run = tool.start(shell, &script.text);
        tool.is_awaited(&scene);
        run.send(INTERRUPT);
        tool.reads(&mut run, script)
    });
}

#[test]
fn an_interrupt_ends_the_loop_in_an_interactive_shell() {
    let scripts = [DIES, EXITS_130, EXITS_0].map(|command| {
        script(
            format!("for i in 1 2 3; do echo round $i; LOCK {command}; done"),
            &[("ready", "\x03echo status $?\n"), ("status 130", "exit\n")],
            "round 1|ready|status 130",
        )
    });
    Scene::new().plays_in(&shells(), &scripts, |tool, shell, script| {
        tool.typed(shell, script)
    });
}

// A stop.

/// A command of two processes that leave marks until its file is gone.
const MARKS: &str = "sh -c '\
    (while [ -e FILE.go ]; do echo b >>FILE.marks; sleep 0.02; done) 2>/dev/null & \
    echo ready >/dev/tty; while [ -e FILE.go ]; do echo a >>FILE.marks; sleep 0.02; done'";

/// The same with its output redirected so. In a pipeline `ready` comes through it, and so all of the job has started.
fn marking(to: &str) -> String {
    let says = if to.starts_with('|') {
        "ready"
    } else {
        "ready >/dev/tty"
    };
    format!("{} {to}", MARKS.replace("ready >/dev/tty", says))
}

/// How many marks there are of the first process and of the second.
fn marks(tool: &Tool) -> [usize; 2] {
    let text = fs::read_to_string(format!("{}.marks", tool.file)).unwrap_or_default();
    ["a", "b"].map(|name| text.lines().filter(|line| *line == name).count())
}

/// Both processes go on.
#[track_caller]
fn marks_more(tool: &Tool) {
    let before = marks(tool);
    eventually("both go on", || {
        let now = marks(tool);
        now[0] > before[0] && now[1] > before[1]
    });
}

/// All of the session but its shell has stopped.
#[track_caller]
fn is_stopped(tool: &Tool, shell: &Run) {
    eventually("each has stopped", || {
        let mut others = session(shell.pid)
            .into_iter()
            .filter(|&pid| pid != shell.pid);
        // A shell whose child has stopped between its vfork and its exec waits in state D.
        others.all(|pid| matches!(state(pid), None | Some('T' | 'Z' | 'D')))
    });
    let before = marks(tool);
    // Nothing may happen, and that is no event.
    thread::sleep(A_WHILE);
    assert_eq!(marks(tool), before);
}

#[test]
fn a_job_stops_and_goes_on_as_a_whole() {
    let scene = Scene::new();
    let shows = "ready|Stopped|Stopped|status 130|front";
    let redirections = ["", ">FILE.out", "| cat"];
    let scripts = redirections.map(|to| script(format!("LOCK {}", marking(to)), &[], shows));
    scene.plays_in(&shells(), &scripts, |tool, shell, script| {
        fs::write(format!("{}.go", tool.file), "").unwrap();
        let mut run = tool.interactive(shell);
        run.send(&format!("{}\n", tool.text(&script.text)));
        let mut lines = tool.until(&mut run, "ready");
        for on in ["bg\n", "fg\n"] {
            marks_more(tool);
            run.send(SUSPEND);
            lines.extend(tool.until(&mut run, "Stopped"));
            is_stopped(tool, &run);
            run.send(on);
            marks_more(tool);
            if on == "bg\n" {
                assert_eq!(foreground(run.pid), Some(run.pid));
                run.send("fg\n");
            }
            // The keys are for the job from now on.
            eventually("it has the terminal", || {
                foreground(run.pid) != Some(run.pid)
            });
        }
        run.send(INTERRUPT);
        run.send("echo status $?\n");
        lines.extend(tool.until(&mut run, "status 130"));
        lines.extend(tool.says_front(&mut run));
        lines
    });
}

#[test]
fn a_job_that_has_stopped_can_be_killed() {
    let scene = Scene::new();
    let scripts = ["", ">FILE.out", "| cat"].map(|to| {
        script(
            format!("LOCK {}", marking(to)),
            &[],
            "ready|Stopped|over|free",
        )
    });
    scene.plays_in(&shells(), &scripts, |tool, shell, script| {
        fs::write(format!("{}.go", tool.file), "").unwrap();
        let mut run = tool.interactive(shell);
        run.send(&format!("{}\n", tool.text(&script.text)));
        let mut lines = tool.until(&mut run, "ready");
        run.send(SUSPEND);
        lines.extend(tool.until(&mut run, "Stopped"));
        // Not every shell lets a job that has stopped go on to die.
        run.send("kill %1; kill -s CONT %1; wait; echo over\n");
        lines.extend(tool.until(&mut run, "over"));
        let shell_says = ["Terminated", "warning", "No such process", "no such job"];
        lines.retain(|line| !shell_says.iter().any(|it| line.contains(it)));
        drop(tool.held());
        lines.push("free".to_string());
        lines
    });
}

/// A shell takes the terminal for each of its own jobs, and gives it back.
#[test]
fn a_shell_under_the_lock_has_jobs_of_its_own() {
    let scene = Scene::new();
    for shell in shells() {
        let inner = match shell {
            "bash" => "LOCK env PS1= bash --norc --noediting -i",
            _ => "LOCK env PS1= sh -i",
        };
        let shows = "ready|Stopped|inner 130|this|status 3|front";
        let script = script(inner, &[], shows);
        scene.plays_in(&[shell], &[script], |tool, shell, script| {
            let mut run = tool.interactive(shell);
            run.send(&format!("{}\necho inner\n", tool.text(&script.text)));
            tool.until(&mut run, "inner");
            run.send("sh -c 'echo ready; exec sleep 60'\n");
            let mut lines = tool.until(&mut run, "ready");
            run.send(SUSPEND);
            lines.extend(tool.until(&mut run, "Stopped"));
            let inner = foreground(run.pid);
            run.send("fg\n");
            // The keys are for the job from now on.
            eventually("it has the terminal", || foreground(run.pid) != inner);
            run.send(INTERRUPT);
            run.send("echo inner $?\n");
            lines.extend(tool.until(&mut run, "inner 130"));
            run.send("sh -c 'read x; echo $x'\nthis\nexit 3\necho status $?\n");
            lines.extend(tool.until(&mut run, "status 3"));
            // As some shells say which command goes on.
            lines.retain(|line| !line.starts_with("sh -c"));
            lines.extend(tool.says_front(&mut run));
            lines
        });
    }
}

/// So that the next holder does not wait for somebody to come back from lunch.
#[test]
fn a_job_that_stays_stopped_is_ended_with_its_lease() {
    let scene = Scene::new();
    for (shell, to) in [
        ("sh", ""),
        ("sh", ">FILE.out"),
        ("sh", "| cat"),
        ("bash", ""),
    ] {
        if !shells().contains(&shell) {
            continue;
        }
        let tool = scene.tool(true);
        fs::write(format!("{}.go", tool.file), "").unwrap();
        let mut run = tool.interactive(shell);
        let lock = format!("dflock --lease 1 {}", tool.key);
        run.send(&tool.text(&format!("{lock} {}\n", marking(to))));
        tool.until(&mut run, "ready");
        marks_more(&tool);
        run.send(SUSPEND);
        tool.until(&mut run, "Stopped");
        let mut next = scene.daemon.connect();
        next.waits(&tool.key, "100");
        next.is_granted(33);
        assert_eq!(tool.family(), [0; 0]);
        let before = marks(&tool);
        run.send("fg\n");
        run.send("echo status $?\n");
        let status = if to == "| cat" {
            "status 0"
        } else {
            "status 120"
        };
        tool.until(&mut run, status);
        assert_eq!(tool.says_front(&mut run).as_deref(), Some("front"));
        assert_eq!(marks(&tool), before);
    }
}

#[test]
fn a_job_in_the_background_stops_when_it_writes_and_must_not() {
    let script = script(
        "stty tostop; LOCK sh -c 'echo written; exit 5' &",
        &[("Stopped", "fg; echo status $?\n"), ("status 5", "exit\n")],
        "Stopped|written|status 5",
    );
    Scene::new().plays_in(&shells(), &[script], |tool, shell, script| {
        let mut run = tool.interactive(shell);
        run.send(&format!("{}\n", tool.text(&script.text)));
        // A shell tells of its jobs before its next prompt.
        eventually("it has stopped", || {
            let mut pids = session(run.pid).into_iter();
            pids.any(|pid| state(pid) == Some('T'))
        });
        run.send("true\n");
        tool.reads(&mut run, script)
    });
}

#[test]
fn a_job_in_the_background_does_not_touch_the_terminal() {
    let script = script(
        "LOCK sh -c 'sleep 0.3; echo done >FILE.done' & read x; echo $x; wait; cat FILE.done",
        &[],
        "this|done|front",
    );
    Scene::new().plays_in(&shells(), &[script], |tool, shell, script| {
        let mut run = tool.interactive(shell);
        run.send(&format!("{}\nthis\n", tool.text(&script.text)));
        let mut lines = tool.until(&mut run, "done");
        lines.extend(tool.says_front(&mut run));
        lines
    });
}

// A timeout.

#[test]
fn a_timeout_ends_a_command_that_reads_the_terminal() {
    let keys = &[("status 124", "more\n")];
    let shows = "status 124|also more|outer 0|front";
    let after = "echo status $?; read y; echo also $y";
    let scripts = ["INT", "TERM", "HUP"].map(|name| {
        let timeout = format!("timeout -s {name} 0.5 LOCK");
        script(
            format!("{timeout} sh -c 'read x </dev/tty'; {after}"),
            keys,
            shows,
        )
    });
    Scene::new().plays(&scripts);
}

/// Also a command whose children read the terminal, and so are stopped.
#[test]
fn a_timeout_leaves_nobody_stopped() {
    let shows = "status 124|outer 0|front";
    Scene::new().plays(&[
        script(
            "timeout 0.5 LOCK sh -c 'cat </dev/tty; cat </dev/tty'; echo status $?",
            &[],
            shows,
        ),
        script(
            "echo x | timeout 1 LOCK sh -c 'cat; cat </dev/tty | cat'; echo status $?",
            &[],
            "x|status 124|outer 0|front",
        ),
    ]);
}

// The end of the terminal, and none.

#[test]
fn when_the_terminal_hangs_up_the_command_ends_and_the_lock_is_free() {
    let scripts = ["", ">FILE.out", "| cat", "</dev/null"]
        .map(|to| script(format!("LOCK {}; echo next", marking(to)), &[], "free"));
    let scene = Scene::new();
    scene.plays_in(&shells(), &scripts, |tool, shell, script| {
        fs::write(format!("{}.go", tool.file), "").unwrap();
        let mut run = tool.start(shell, &script.text);
        tool.until(&mut run, "ready");
        marks_more(tool);
        run.close();
        run.hang_up();
        eventually("the first process ends", || {
            let before = marks(tool);
            thread::sleep(A_WHILE);
            marks(tool)[0] == before[0]
        });
        // Under flock(1) the second one has the lock as long as it lives.
        fs::remove_file(format!("{}.go", tool.file)).unwrap();
        drop(tool.held());
        vec!["free".to_string()]
    });
}

#[test]
fn under_nohup_the_command_outlives_its_terminal() {
    let mut texts = vec!["nohup LOCK", "trap '' HUP; LOCK"];
    if tools::has("setsid", "util-linux") {
        texts.push("nohup setsid -w LOCK");
    }
    let scripts = texts.into_iter().map(|lock| {
        script(
            format!("{lock} {MARKS} >FILE.out; echo next"),
            &[],
            "goes on",
        )
    });
    let scripts: Vec<_> = scripts.collect();
    let scene = Scene::new();
    scene.plays_in(&shells(), &scripts, |tool, shell, script| {
        fs::write(format!("{}.go", tool.file), "").unwrap();
        let text = script.text.replace(">/dev/tty", "");
        let mut run = tool.start(shell, &text);
        marks_more(tool);
        run.close();
        run.hang_up();
        eventually("its leader has ended", || !is_alive(run.pid));
        thread::sleep(A_WHILE);
        marks_more(tool);
        fs::remove_file(format!("{}.go", tool.file)).unwrap();
        drop(tool.held());
        vec!["goes on".to_string()]
    });
}

/// A shell makes the commands in its background ignore the keys of the terminal.
#[test]
fn an_interrupt_does_not_reach_what_a_script_has_in_its_background() {
    let job =
        "sh -c '>FILE.wait; until [ -e FILE.end ]; do sleep 0.02; done; echo done; rm FILE.wait'";
    let other = "sh -c 'until [ -e FILE.wait ]; do sleep 0.02; done; echo ready; exec sleep 60'";
    let locks = ["LOCK", "sh -c 'trap \"\" INT; exec \"$@\"' - LOCK"];
    let scripts = locks.map(|lock| {
        script(
            format!("{lock} {job} & {other}; wait"),
            &[("ready", INTERRUPT)],
            "ready|outer 130|front|done",
        )
    });
    Scene::new().plays(&scripts);
}

/// As under `ssh -t`: nobody is between the terminal and the tool.
#[test]
fn the_tool_may_be_the_first_process_of_its_terminal() {
    let command = "echo ready; read x; echo got $x; read y </dev/tty; echo also $y; exit 5";
    let scripts = [
        script(
            command,
            &[("ready", "this\n"), ("got this", "that\n")],
            "ready|got this|also that|status 5",
        ),
        // The group is an orphan, so the key stops nobody.
        script(
            command,
            &[("ready", "\x1athis\n"), ("got this", "that\n")],
            "ready|got this|also that|status 5",
        ),
        script(command, &[("ready", INTERRUPT)], "ready|status -2"),
        script(
            command,
            &[("ready", "this\n"), ("got this", INTERRUPT)],
            "ready|got this|status -2",
        ),
    ];
    Scene::new().plays_in(&["sh"], &scripts, |tool, shell, script| {
        let file = format!("{}.command", tool.file);
        fs::write(&file, &script.text).unwrap();
        let mut run = Run::on_terminal(tool.addr, &tool.text(&format!("LOCK {shell} {file}")));
        let mut lines = tool.reads(&mut run, script);
        lines.push(format!("status {}", run.status()));
        lines
    });
}

#[test]
fn the_first_process_of_a_terminal_ends_with_it() {
    let script = script("echo ready; exec sleep 60", &[], "ready|free");
    Scene::new().plays_in(&["sh"], &[script], |tool, shell, script| {
        let file = format!("{}.command", tool.file);
        fs::write(&file, &script.text).unwrap();
        let mut run = Run::on_terminal(tool.addr, &tool.text(&format!("LOCK {shell} {file}")));
        let mut lines = tool.until(&mut run, "ready");
        run.close();
        run.hang_up();
        drop(tool.held());
        lines.push("free".to_string());
        lines
    });
}
