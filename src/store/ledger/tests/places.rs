//! Tests of the places where a ledger may be.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Folder;
use crate::store::ledger::Ledger;

/// Says to the test that runs it what is found at a place.
const PLACE: &str = "DFLOCKD_TEST_PLACE";

#[test]
fn a_place_where_no_ledger_can_be_is_told_with_what_to_do() {
    if let Some(place) = env::var_os(PLACE) {
        return println!("told {}", told(Path::new(&place)));
    }
    let folder = Folder::new("places");
    let path = |name: &str| folder.0.join(name);
    fs::create_dir(path("folder")).unwrap();
    fs::write(path("file"), "").unwrap();
    for (place, wanted) in [
        (
            "none/ledger",
            "No such file or directory (os error 2): make its folder, or name another place",
        ),
        (
            "file/ledger",
            "Not a directory (os error 20): what should be its folder is a file: name another place",
        ),
        (
            "folder",
            "is not a regular file: move it away, or name another place",
        ),
    ] {
        let text = told(&path(place));
        assert!(text.contains(wanted), "{text}");
    }
    assert!(told(Path::new("/dev/null")).contains("is not a regular file"));
    // Not every machine lets this user make a namespace.
    if inside(OWN, "", &path("ledger")).as_deref() != Some("New") {
        return eprintln!("skipped: no namespaces");
    }
    let place = path("folder/ledger");
    for (namespace, script, wanted) in [
        (
            OWN,
            "mount -t tmpfs -o ro none \"${P%/*}\" &&",
            "Read-only file system (os error 30): name a place that can be written to",
        ),
        // Nobody's user, who owns nothing.
        (
            &["--user"],
            "chmod 500 \"${P%/*}\";",
            "Permission denied (os error 13): the user of the server must be able to read and write it and its folder",
        ),
        (
            OWN,
            "mount -t tmpfs -o size=64k none \"${P%/*}\" && head -c 64k /dev/zero >\"$P.full\" &&",
            "cannot make the ledger",
        ),
    ] {
        let text = inside(namespace, script, &place).expect("it tells something");
        assert!(text.contains(wanted), "{script} {text}");
    }
}

/// A namespace in which this user may mount.
const OWN: &[&str] = &["--user", "--map-current-user", "--keep-caps", "--mount"];

/// What the test above says of a place in a namespace of its own, after these commands of a shell.
fn inside(namespace: &[&str], script: &str, place: &Path) -> Option<String> {
    let test =
        "store::ledger::tests::places::a_place_where_no_ledger_can_be_is_told_with_what_to_do";
    let script = format!("{script} exec \"$0\" {test} --exact --nocapture");
    let mut command = Command::new("unshare");
    command.args(namespace).args(["sh", "-c", &script]);
    command.arg(env::current_exe().unwrap());
    let output = command.env("P", place).env(PLACE, place).output().ok()?;
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.split_once("told ")?.1.lines().next()?.to_string())
}

fn told(place: &Path) -> String {
    match Ledger::open(place, false) {
        Ok((_, found)) => format!("{found:?}"),
        Err(fault) => fault.to_string(),
    }
}
