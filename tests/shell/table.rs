//! The terminal is the command's as much as under flock(1): questions, pipelines, interrupts, stops, timeouts and the
//! end of the terminal. Invariant: a person cannot tell the two apart but by what dflock says on stderr.

use crate::beside::{Scene, script, shells};

const INTERRUPT: &str = "\x03";
const QUIT: &str = "\x1c";
const SUSPEND: &str = "\x1a";

/// A command that asks a question on the terminal.
const ASKS: &str = "exec 3</dev/tty; echo Password >/dev/tty; read x <&3; echo got $x";
/// Commands that an interrupt ends, each in its way.
const DIES: &str = "sh -c 'echo ready; exec sleep 60'";
const EXITS_130: &str =
    "sh -c 'trap \"exit 130\" INT QUIT; echo ready; while :; do sleep 0.05; done'";
const EXITS_0: &str = "sh -c 'trap \"exit 0\" INT QUIT; echo ready; while :; do sleep 0.05; done'";
/// And one that it does not end. It is still at it when the script around flock(1) has ended.
const IGNORES: &str = "sh -c 'trap \"\" INT QUIT; echo ready; sleep 0.3; echo done >FILE.done'";

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
