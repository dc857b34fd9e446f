//! Holders that leave marks in a file while they have the lock, and the judge who reads them. The file is the judge's
//! clock: its lines are in the order in which they were appended. Invariant: a mark is one write(2), "process
//! microseconds", on the clock that the server has.

use std::env;
use std::fs;
use std::io::Write;
use std::process;
use std::thread;
use std::time::Duration;

use dflockd::command::Us;
use dflockd::sys;

use crate::daemon::eventually;

/// So many marks of one holder take 200 ms: another holder that still ran would have marked the file too.
const LONG: usize = 20;

/// A lease in seconds. Where dflock freezes, its guard alone kills the command, 0.3 s before a lease of 1 s ends: a busy
/// machine may take longer to wake it. A longer lease leaves more time.
pub const FOR_GUARDS: &str = "3";

/// A shell text that becomes a process which marks the file every 10 ms until it is killed. It starts no other
/// process: to kill this one is enough.
pub fn beats(file: &str) -> String {
    let tests = env::current_exe().expect("it has a path");
    let tests = tests.display();
    format!("BEATS='{file}' exec '{tests}' --exact beats::beat --nocapture >/dev/null")
}

/// No claim, but the process that beats.
#[test]
fn beat() {
    let Ok(file) = env::var("BEATS") else {
        return;
    };
    let options = fs::File::options().append(true).create(true).open(file);
    let mut file = options.unwrap();
    loop {
        let mark = format!("{} {}\n", process::id(), sys::now());
        file.write_all(mark.as_bytes()).unwrap();
        // The time between two marks.
        thread::sleep(Duration::from_millis(10));
    }
}

/// The marks in the file, in order: a process and a time. The last line may be half written.
fn marks(file: &str) -> Vec<(u32, Us)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let marks = whole.lines().map(|line| {
        let (pid, time) = line.split_once(' ').expect("two fields");
        (pid.parse().unwrap(), time.parse().unwrap())
    });
    marks.collect()
}

/// The processes that have marked the file, in order, and those of them that did so after the next one had begun.
pub fn judge(file: &str) -> (Vec<u32>, Vec<u32>) {
    let (mut holders, mut late) = (Vec::new(), Vec::new());
    for (pid, _) in marks(file) {
        if !holders.contains(&pid) {
            holders.push(pid);
        } else if holders.last() != Some(&pid) && !late.contains(&pid) {
            late.push(pid);
        }
    }
    (holders, late)
}

/// Waits until so many have left marks.
#[track_caller]
pub fn holders(file: &str, count: usize) {
    eventually(&format!("there is holder {count}"), || {
        judge(file).0.len() >= count
    });
}

/// Waits until the holder has left so many marks that another would have been seen.
#[track_caller]
pub fn goes_on(file: &str, holder: u32) {
    eventually("the holder goes on", || {
        let marks = marks(file);
        marks.iter().filter(|mark| mark.0 == holder).count() >= LONG
    });
}

/// Waits until the second holder has.
#[track_caller]
pub fn second_goes_on(file: &str) {
    holders(file, 2);
    goes_on(file, judge(file).0[1]);
}

/// The last mark of the first holder.
pub fn last_of_first(file: &str) -> Us {
    let marks = marks(file);
    let of_first = marks.iter().rfind(|mark| mark.0 == marks[0].0);
    of_first.expect("there is one").1
}

/// The time between the last mark of the first holder and the first of the second.
pub fn pause(file: &str) -> Us {
    let marks = marks(file);
    let second = marks.iter().find(|mark| mark.0 != marks[0].0);
    second.expect("somebody came second").1 - last_of_first(file)
}
