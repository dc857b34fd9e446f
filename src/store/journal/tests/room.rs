//! Disks without room, and a filesystem that cannot allocate any. Invariant: want of room is an error, and no signal.

use std::env;
use std::process::{Command, Stdio};

use super::*;

/// The run directory, for the process that such a test begins.
const DIR: &str = "DFLOCKD_TEST_ROOM";

/// Runs this test again, in a shell of which the text mounts something at `$DIR` or sets a limit. False in that process.
fn begins(test: &str, setup: &str) -> bool {
    if env::var_os(DIR).is_some() {
        return false;
    }
    let dir = RunDir::new();
    let script = format!("{setup} && exec \"$0\" --exact store::journal::tests::room::{test}");
    let run = |mut command: Command| {
        command
            .args(["sh", "-c", &script])
            .arg(env::current_exe().unwrap());
        command.env(DIR, &dir.0).stdin(Stdio::null());
        command.output().ok()
    };
    let mut outputs = Vec::new();
    for flags in [&["--mount"][..], &["--mount", "--user", "--map-root-user"]] {
        let mut command = Command::new("unshare");
        command.args(flags);
        outputs.extend(run(command));
        // Not the exit code alone: the test may have been renamed.
        if let Some(output) = outputs.last()
            && String::from_utf8_lossy(&output.stdout).contains("1 passed")
        {
            return true;
        }
    }
    let has_run = outputs.iter().any(|output| !output.stdout.is_empty());
    assert!(!has_run, "{outputs:?}");
    // The kernel allows no mounts here, or there is no unshare(1).
    assert!(env::var_os("DEMAND_TOOLS").is_none(), "{outputs:?}");
    true
}

/// The run directory of the process that such a test begins. The shell's test removes it.
fn dir() -> std::mem::ManuallyDrop<RunDir> {
    std::mem::ManuallyDrop::new(RunDir(env::var_os(DIR).unwrap().into()))
}

/// Appends until there is no room.
fn fill_up(journal: &mut Journal, model: &mut Model) -> String {
    loop {
        let (before, mut facts) = (model.clone(), Facts::kept());
        model.grant(&LONG, &mut facts);
        if let Err(fault) = journal.append(facts.bytes(), model.last_fence) {
            *model = before;
            return fault.to_string();
        }
    }
}

#[test]
fn a_full_disk_ends_a_journal_that_stays_whole_or_is_given_up() {
    let test = "a_full_disk_ends_a_journal_that_stays_whole_or_is_given_up";
    if begins(
        test,
        &format!("mount -t tmpfs -o size=3500k none \"${DIR}\""),
    ) {
        return;
    }
    let dir = dir();
    let (mut journal, mut model) = (dir.begin(), Model::default());
    let fault = fill_up(&mut journal, &mut model);
    assert!(
        fault.contains("journal/next") && fault.contains("No space left"),
        "{fault}"
    );
    assert_eq!(journal.head.number, 3);
    drop(journal);
    for _ in 0..2 {
        let (lock, recovered) = dir.whole();
        assert!(model.is_that_of(&recovered));
        let mut journal = Journal::go_on(lock, &recovered).unwrap();
        fill_up(&mut journal, &mut model);
    }
    let (lock, recovered) = dir.whole();
    let journal = Journal::go_on(lock, &recovered).unwrap();
    journal.abandon().unwrap();
    let (lock, found) = dir.find(&OURS).unwrap();
    assert!(matches!(found, Found::Nothing));
    // It has left its room to the next one; so does one that is found, and of no use.
    let mut journal = Journal::begin(lock, OURS, OPENS, FLOOR).unwrap();
    fill_up(&mut journal, &mut Model::default());
    drop(journal);
    let later = Identity { epoch: 6, ..OURS };
    let (lock, found) = dir.find(&later).unwrap();
    assert!(matches!(found, Found::Unusable(_)) && dir.0.join("journal.old").exists());
    Journal::begin(lock, later, OPENS, FLOOR).unwrap();
    assert!(!dir.0.join("journal.old").exists());
}

#[test]
fn a_filesystem_that_cannot_allocate_is_written_to() {
    let test = "a_filesystem_that_cannot_allocate_is_written_to";
    if begins(test, &format!("mount -t ramfs none \"${DIR}\"")) {
        return;
    }
    let dir = dir();
    let (mut journal, mut model) = (dir.begin(), Model::default());
    fill(&mut journal, &mut model, 3);
    sweep(&mut journal, &model);
    drop_all(&mut journal);
    drop(journal);
    assert!(model.is_that_of(&dir.whole().1));
}

#[test]
fn a_limit_of_the_size_of_files_is_an_error() {
    let test = "a_limit_of_the_size_of_files_is_an_error";
    if begins(test, "trap '' XFSZ && ulimit -f 1000") {
        return;
    }
    let dir = dir();
    let (lock, _) = dir.find(&OURS).unwrap();
    let fault = Journal::begin(lock, OURS, OPENS, FLOOR)
        .unwrap_err()
        .to_string();
    assert!(fault.contains("File too large"), "{fault}");
    assert!(matches!(dir.find(&OURS).unwrap().1, Found::Nothing));
}
