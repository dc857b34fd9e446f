//! The scripts, the crontab and the units of the manual pages, which are run. Not here: the dialogues, in docs.rs.
//! Invariant: an example is run as the page has it, but for addresses, paths and times.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use crate::daemon::{eventually, free_port, tools};
use crate::desk::{Desk, FORGETS, READY, Room};
use crate::docs::{markdown_blocks, mdoc_blocks, read, section};
use crate::stage::{is_alive, signal};

#[test]
fn the_server_of_the_readme_is_killed_and_its_lock_goes_on() {
    if !tools::has("bash", "bash") {
        return;
    }
    let blocks = markdown_blocks(&read("README.md"));
    let block = blocks.iter().find(|block| block.contains("kill -9 %1"));
    let lines = block.expect("there is one").lines();
    let (typed, answers): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("$ "));
    let typed: Vec<_> = typed.iter().map(|line| &line[2..]).collect();
    // Jobs have numbers only with `set -m`, and a terminal would show the messages. A person types the third line when the
    // second has its lock.
    let is_held = "for n in $(seq 100); do dflock -n deploy true; [ $? = 1 ] && break; done";
    let script = typed.join("\n").replace("sleep 9", "sleep 3");
    let script = script.replace("kill -9", &format!("{is_held}; kill -9"));
    let script = format!("set -m; exec 2>messages\n{script}\nkill $(jobs -p)\nwait");
    let (room, port) = (Room::new(), free_port());
    let mut shell = room.shell("bash", &script);
    shell.env("DFLOCKD_PORT", port.to_string());
    shell.env("DFLOCK_SERVER", format!("127.0.0.1:{port}"));
    let output = shell.output().expect("the shell runs");
    let text = String::from_utf8(output.stdout).expect("it is UTF-8");
    let fences: Vec<u64> = text
        .lines()
        .zip(&answers)
        .map(|(line, wanted)| {
            let fence_of = |line: &str| {
                line.rsplit_once(' ')
                    .map(|(text, fence)| (text.to_string(), fence.parse().ok()))
            };
            let ((text, fence), (wanted, _)) = (
                fence_of(line).expect("a fence"),
                fence_of(wanted).expect("a fence"),
            );
            assert_eq!(text, wanted);
            fence.expect("a number")
        })
        .collect();
    assert!(
        fences.len() == 2 && fences.is_sorted_by(|a, b| a < b),
        "{text}"
    );
}

#[test]
fn the_scripts_of_the_clients_page_get_their_lock_and_give_it_back() {
    let blocks = mdoc_blocks(&read("man/dflock.1"));
    let scripts: Vec<_> = blocks.iter().filter(|b| b.starts_with("#!")).collect();
    assert_eq!(scripts.len(), 9);
    for script in scripts {
        if script.starts_with("#!/bin/bash") && !tools::has("bash", "bash") {
            continue;
        }
        let mut desk = Desk::new();
        for line in ["0$ dflockd", FORGETS, READY] {
            desk.act(line).expect("the server starts");
        }
        for name in ["a.log", "b.log", "notes.txt", "c.log", "d.log"] {
            fs::write(desk.room.0.join(name), name).expect("it can be written");
        }
        let shell = |command: &str| {
            let mut shell = desk.room.shell("sh", command);
            shell.env("DFLOCK_SERVER", format!("127.0.0.1:{}", desk.port));
            shell
        };
        let run = |command: &str| {
            let mut shell = shell(command);
            let output = shell.output().expect("the shell runs");
            let text = [output.stdout, output.stderr].concat();
            (
                output.status.code(),
                String::from_utf8(text).expect("it is UTF-8"),
            )
        };
        let program = |name: &str, text: &str| tools::script(&desk.room.0.join(name), text);
        program("publish", &script.replace("/opt/", "./"));
        if script.contains("is-healthy") {
            let text = script
                .replace("/opt/", "./")
                .replace("sleep 10", "sleep 0.1");
            program("publish", &text);
            program("scheduler", "#!/bin/sh\necho $$ >run\nexec sleep 60\n");
            program("is-healthy", "#!/bin/sh\n[ ! -e sick ]\n");
            let mut leader = shell("exec dflock deploy ./publish 2>/dev/null")
                .spawn()
                .expect("it runs");
            let run_file = desk.room.0.join("run");
            let mut service = String::new();
            eventually("the service runs", || {
                service = fs::read_to_string(&run_file).unwrap_or_default();
                service.ends_with('\n')
            });
            fs::write(desk.room.0.join("sick"), "").expect("it can be written");
            let status = leader.wait().expect("a child can be waited for");
            assert_eq!(status.code(), Some(1));
            let pid = service.trim_end().parse().expect("a number");
            assert!(
                !is_alive(pid),
                "the service is dead before the lock is free"
            );
        } else if script.contains("./deploy.sh") {
            let short = script.replace("-w 600", "-w 0.2");
            program("publish", &short);
            let deploys = |status: u8| {
                program("deploy.sh", &format!("#!/bin/sh\nexit {status}\n"));
                run("./publish")
            };
            let text = |text: &str| format!("{text}\n");
            assert_eq!(deploys(0), (Some(0), String::new()));
            let failed = text("the deployment failed: status 3");
            assert_eq!(deploys(3), (Some(3), failed));
            let busy = text("another deployment takes too long");
            let (status, said) = run("dflock deploy ./publish");
            assert_eq!((status, said), (Some(200), busy));
            let (status, said) = run("DFLOCK_SERVER=127.0.0.1:1 ./publish");
            let nowhere = "\nno lock server: nothing was deployed\n";
            assert!(status == Some(69) && said.ends_with(nowhere), "{said}");
        } else if script.contains(" listen ") {
            program("work", "#!/bin/sh\necho \"$@\" >>done; cat >>done\n");
            let mut worker = shell("./publish")
                .process_group(0)
                .spawn()
                .expect("it runs");
            let does = |work: &str| {
                eventually(work, || {
                    let done = fs::read_to_string(desk.room.0.join("done"));
                    done.is_ok_and(|done| done.lines().any(|line| line == work))
                });
            };
            does("dflock: listening");
            run("dflock signal jobs.mail 'letter 7'; dflock signal jobs.mail 'letter 8'");
            does("jobs.mail letter 7");
            does("jobs.mail letter 8");
            run(&format!("kill -s TERM -- -{}", worker.id()));
            worker.wait().expect("a child can be waited for");
        } else if script.contains("DFLOCK_ID") {
            program("move", "#!/bin/sh\necho $1 $2\n");
            let both = "(./publish a b & ./publish b a & wait) 2>/dev/null";
            let (status, text) = run(&format!("for n in 1 2 3 4 5; do {both}; done"));
            let moves = |pair: &str| text.lines().filter(|line| *line == pair).count();
            assert_eq!((status, moves("a b"), moves("b a")), (Some(0), 5, 5));
        } else if script.contains("publish") {
            let call = blocks.iter().find(|block| block.contains("./publish"));
            let call = call.and_then(|block| block.strip_prefix("$ "));
            let call = call.expect("it is called");
            assert_eq!(run(call), (Some(0), String::new()));
            let late = (Some(1), "fence 1 is too old\n".to_string());
            assert_eq!(run("./publish 1 notes.txt"), late);
            assert!(desk.room.0.join("published").exists());
        } else if script.contains("gzip") {
            assert_eq!(run("./publish && ls *.gz | wc -l"), (Some(0), "4\n".into()));
        } else {
            for _ in 0..2 {
                let (status, text) = run("./publish");
                assert_eq!(status, Some(0), "{script}\n{text}");
                assert!(text.starts_with("the lock is ours, fence 1"), "{text}");
            }
        }
        let (status, _) = run("dflock stat deploy");
        assert_eq!(status, Some(1), "{script}");
    }
}

#[test]
fn the_crontab_of_the_clients_page_is_silent_when_another_host_was_first() {
    let desk = Desk::with_server();
    let page = read("man/dflock.1");
    let blocks = mdoc_blocks(&page);
    let crontab = blocks.iter().find(|block| block.contains("0 3 * * *"));
    let job = crontab.and_then(|block| block.split_once("* * * ")?.1.lines().next());
    let job = job
        .expect("there is a job")
        .replace("/opt/report/run", "echo ran");
    assert!(job.contains(" -q ") && job.contains(" -n "), "{job}");
    let run = |job: &str, port: u16| {
        let mut shell = desk.room.shell("sh", job);
        let output = shell
            .env("DFLOCK_SERVER", format!("127.0.0.1:{port}"))
            .output()
            .expect("the shell runs");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8(text).expect("it is UTF-8"),
        )
    };
    let brief = job.replace("--min-hold 60", "");
    let second = format!("dflock report -c '{job}'");
    assert_eq!(run(&brief, desk.port), (Some(0), "ran\n".to_string()));
    assert_eq!(run(&second, desk.port), (Some(0), String::new()));
    let (status, mail) = run(&job, 1);
    assert_eq!((status, mail.lines().count()), (Some(69), 1), "{mail}");
    assert!(mail.contains("cannot reach"), "{mail}");
}

/// Each status that the unit names is one that the page explains.
#[test]
fn the_units_of_the_clients_page_name_statuses_that_exist() {
    let page = read("man/dflock.1");
    let listed = section(&page, "EXIT STATUS");
    let blocks = mdoc_blocks(&page);
    let unit = blocks.iter().find(|block| block.contains("[Service]"));
    let unit = unit.expect("there is a unit");
    let (_, statuses) = unit
        .split_once("RestartPreventExitStatus=")
        .expect("it is there");
    let statuses: Vec<_> = statuses.split_whitespace().collect();
    assert_eq!(statuses.len(), 5);
    for status in statuses {
        assert!(listed.contains(&format!("\n.It {status}\n")), "{status}");
    }
    // And that of a command that SIGTERM ends.
    let desk = Desk::with_server();
    let (_, line) = unit
        .split_once("ExecStart=/usr/local/bin/")
        .expect("it starts");
    let line = line.lines().next().expect("it is a line");
    let line = line.replace("/opt/scheduler", "sh -c 'echo runs; exec sleep 60'");
    let mut shell = desk.room.shell("sh", &format!("exec {line}"));
    shell.env("DFLOCK_SERVER", format!("127.0.0.1:{}", desk.port));
    let mut leader = shell.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut said = [0; 5];
    let out = leader.stdout.as_mut().expect("it is piped");
    out.read_exact(&mut said).expect("it says a line");
    assert!(signal(leader.id(), "TERM"));
    let status = leader.wait().expect("a child can be waited for");
    assert!(
        unit.contains("\nSuccessExitStatus=143\n") && status.code() == Some(143),
        "{status}"
    );
}

#[test]
fn the_script_of_the_servers_page_holds_its_lock_while_it_works() {
    if !tools::has("bash", "bash") {
        return;
    }
    let blocks = mdoc_blocks(&read("man/dflockd.8"));
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
    tools::script(&backup, &format!("#!/bin/sh\n{rival}\n"));
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
