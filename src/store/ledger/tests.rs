//! Tests of the ledger: what a loss of power, a failing disk, damage and other programs may leave of it. Not here: the
//! places where it may be, in `places`.

mod places;
mod plan;

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::*;
use crate::command::SECOND;
use crate::sys;
pub(super) use plan::Plan;
use plan::{Done, images};

/// A folder of this test's own in memory if there is one, which goes when this value does.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let memory = PathBuf::from("/dev/shm");
        let memory = if memory.is_dir() {
            memory
        } else {
            env::temp_dir()
        };
        let folder = memory.join(format!("dflockd-ledger-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn ledger(&self) -> PathBuf {
        self.0.join("ledger")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const FIRST: Record = Record {
    id: *b"0123456789abcdef",
    epoch: 1,
    ceiling: 1 << 60,
    longest: 64_000_000,
};

const NEXT: Record = Record {
    epoch: 2,
    ceiling: (1 << 60) + (1 << 32),
    ..FIRST
};

/// The same as [`FIRST`] for locks, with a lower bound for leases.
const LOWER: Record = Record {
    longest: 32_000_000,
    ..FIRST
};

/// The bytes of a file with these records.
fn file(first: &Copy, second: &Copy) -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    bytes[..LEN].copy_from_slice(first);
    bytes[APART..APART + LEN].copy_from_slice(second);
    bytes
}

fn even(record: Record) -> Vec<u8> {
    file(&record.encoded(), &record.encoded())
}

/// Opens a ledger that this test has closed. Another test that starts a program may have a copy of it for a moment.
fn free<T>(open: impl Fn() -> Result<T, Fault>) -> Result<T, Fault> {
    let until = sys::now() + 60 * SECOND;
    loop {
        match open() {
            Err(fault) if fault.is_taken() && sys::now() < until => thread::yield_now(),
            opened => return opened,
        }
    }
}

fn reopen(path: &Path, reset: bool) -> Result<(Ledger, Found), Fault> {
    free(|| Ledger::open(path, reset))
}

/// Opens a file with these bytes. When that has worked, the file has the record twice, or only zeros.
fn open(path: &Path, bytes: &[u8]) -> Result<Found, String> {
    fs::write(path, bytes).unwrap();
    let found = reopen(path, false).map_err(|fault| fault.to_string());
    let after = fs::read(path).unwrap();
    match &found {
        Ok((ledger, Found::Kept(record))) => {
            assert_eq!(ledger.record(), record);
            assert_eq!(after[..LEN], record.encoded());
            assert_eq!(after[APART..][..LEN], record.encoded());
        }
        Ok((ledger, found)) => {
            assert_eq!(
                (found, *ledger.record()),
                (&Found::Empty, Record::default())
            );
            assert!(after == [0; SIZE]);
        }
        Err(text) => {
            assert!(after == bytes, "a refused file stays as it is");
            assert!(text.contains(path.to_str().unwrap()), "{text}");
        }
    }
    found.map(|(_, found)| found)
}

#[test]
fn what_was_written_is_found_again() {
    let folder = Folder::new("found");
    let path = folder.ledger();
    let (mut ledger, found) = reopen(&path, false).unwrap();
    assert_eq!(found, Found::New);
    let about = fs::metadata(&path).unwrap();
    assert_eq!((about.len(), about.mode() & 0o7777), (8192, 0o600));
    assert!(about.blocks() * 512 >= 8192);
    for record in [FIRST, NEXT] {
        ledger.write(record).unwrap();
        assert_eq!(*ledger.record(), record);
        assert!(fs::read(&path).unwrap() == even(record));
        drop(ledger);
        let again = reopen(&path, false).unwrap();
        assert_eq!((*again.0.record(), again.1), (record, Found::Kept(record)));
        ledger = again.0;
    }
    // Nothing is reset that is good.
    drop(ledger);
    let (_, found) = reopen(&path, true).unwrap();
    assert_eq!(found, Found::Kept(NEXT));
}

/// A later version must be able to read this.
#[test]
fn the_bytes_of_a_record_are_these() {
    let hex: String = FIRST.encoded().iter().map(|b| format!("{b:02x}")).collect();
    let wanted = "642d6c6564676572010000000000000030313233343536373839616263646566010000000000000000000000000000100090d00300000000";
    assert_eq!(
        hex,
        format!("{wanted}{:016x}", sum(&FIRST.encoded()).swap_bytes())
    );
    assert_eq!(sum(&FIRST.encoded()), 3_333_033_256_202_507_126);
}

#[test]
fn a_loss_of_power_leaves_a_new_ledger_new_or_with_its_first_record() {
    let folder = Folder::new("made");
    let path = folder.ledger();
    let (mut ledger, _) = reopen(&path, false).unwrap();
    let made = ledger.disk.plan.done.len();
    ledger.write(FIRST).unwrap();
    let done = std::mem::take(&mut ledger.disk.plan.done);
    drop(ledger);
    // Its name is on the disk before anything relies on it.
    assert!(done[..made].contains(&Done::SyncFolder));
    let mut kept = 0;
    for (count, image) in images(&[], &done, false) {
        match open(&path, &image).unwrap() {
            Found::New | Found::Empty => assert!(count < done.len()),
            Found::Kept(record) => {
                assert!(record == FIRST && count > made);
                kept += 1;
            }
            Found::Reset => panic!("nobody has asked for that"),
        }
    }
    assert!(kept > 40);
}

#[test]
fn a_loss_of_power_leaves_the_last_record_or_the_one_that_is_written() {
    let folder = Folder::new("written");
    let path = folder.ledger();
    for (before, after) in [(FIRST, NEXT), (LOWER, FIRST), (FIRST, LOWER)] {
        fs::write(&path, even(before)).unwrap();
        let (mut ledger, _) = reopen(&path, false).unwrap();
        ledger.disk.plan.done.clear();
        ledger.write(after).unwrap();
        let done = std::mem::take(&mut ledger.disk.plan.done);
        drop(ledger);
        let mut seen = [0, 0];
        for (count, image) in images(&even(before), &done, true) {
            // A start after it may lose its power, too.
            for (again, image) in interrupted_start(&path, &image) {
                let found = judge(&image).unwrap();
                let is_after = found == Some(after);
                assert!(is_after || found == Some(before), "{found:?}");
                assert!(is_after || count < done.len(), "{count} {again}");
                seen[usize::from(is_after)] += 1;
            }
        }
        assert!(seen[0] > 60 && seen[1] > 60, "{seen:?}");
    }
}

/// What a loss of power may leave while a ledger is opened. All of the file is on the disk before.
fn interrupted_start(path: &Path, image: &[u8]) -> Vec<(usize, Vec<u8>)> {
    fs::write(path, image).unwrap();
    let (ledger, _) = reopen(path, false).unwrap();
    images(image, &ledger.disk.plan.done, true)
}

/// The process that wrote it was killed before the disk had it, or the disk has lost it and said so once.
#[test]
fn a_record_that_only_memory_has_is_on_the_disk_when_it_is_found() {
    let folder = Folder::new("memory");
    let path = folder.ledger();
    for (before, after) in [(FIRST, NEXT), (LOWER, FIRST)] {
        let [old, new] = [before, after].map(|record| record.encoded());
        fs::write(&path, file(&new, &old)).unwrap();
        let (ledger, found) = reopen(&path, false).unwrap();
        assert_eq!(found, Found::Kept(after));
        let done = &ledger.disk.plan.done;
        for (count, image) in images(&even(before), done, true) {
            let found = judge(&image).unwrap();
            assert!(found == Some(before) || found == Some(after));
            if count == done.len() {
                assert!(image == even(after));
            }
        }
    }
}

#[test]
fn a_copy_that_is_damaged_anywhere_yields_to_the_other() {
    let folder = Folder::new("damaged");
    let path = folder.ledger();
    for at in 0..LEN {
        for flipped in [0x01, 0x80, 0xff] {
            let mut copy = NEXT.encoded();
            copy[at] ^= flipped;
            for bytes in [file(&copy, &NEXT.encoded()), file(&NEXT.encoded(), &copy)] {
                assert_eq!(open(&path, &bytes), Ok(Found::Kept(NEXT)), "{at}");
            }
            // The second one is the older one.
            let bytes = file(&copy, &FIRST.encoded());
            assert_eq!(open(&path, &bytes), Ok(Found::Kept(FIRST)), "{at}");
        }
    }
    // An older record never makes the wait shorter, whichever block the disk has lost.
    for (first, second) in [(LOWER, FIRST), (FIRST, LOWER)] {
        let bytes = file(&first.encoded(), &second.encoded());
        assert_eq!(judge(&bytes).unwrap(), Some(FIRST));
    }
    // A block that the disk has lost, and one write.
    assert_eq!(
        judge(&file(&FIRST.encoded(), &NEXT.encoded())).unwrap(),
        Some(NEXT)
    );
    let bytes = file(&[0; LEN], &FIRST.encoded());
    assert_eq!(open(&path, &bytes), Ok(Found::Kept(FIRST)));
    let bytes = even(FIRST);
    for len in LEN..SIZE {
        assert_eq!(open(&path, &bytes[..len]), Ok(Found::Kept(FIRST)), "{len}");
        let is_cut = fs::metadata(&path).unwrap().len() < SIZE as u64;
        assert!(!is_cut || len >= APART + LEN, "{len}");
    }
}

#[test]
fn a_ledger_of_which_no_copy_is_whole_is_reset_only_if_that_is_asked_for() {
    let folder = Folder::new("reset");
    let path = folder.ledger();
    let mut files = vec![];
    for at in 0..LEN {
        for other in [at, LEN - 1 - at, 0, 20, 63] {
            let mut bytes = even(FIRST);
            bytes[at] ^= 0xff;
            bytes[APART + other] ^= 0x10;
            files.push((bytes, ""));
        }
    }
    for len in 1..LEN {
        files.push((even(FIRST)[..len].to_vec(), ""));
    }
    // Two ledgers in one file.
    let other = Record {
        id: [7; 16],
        ..FIRST
    };
    files.push((file(&FIRST.encoded(), &other.encoded()), "are damaged"));
    let mut copy = NEXT.encoded();
    copy[8] = 2;
    let newer = "is of version 2, and this dflockd knows only version 1";
    files.push((file(&copy, &copy), newer));
    let mut bytes = even(FIRST);
    (bytes[40], bytes[APART + 40]) = (9, 9);
    files.push((bytes, "both copies in the ledger "));
    let foreign = "is not a ledger: ";
    for text in [
        "x",
        "\n",
        "18446744073709551615\n",
        "d-ledges",
        "{\"fence\":1}",
    ] {
        files.push((text.into(), foreign));
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(SIZE, 0);
        files.push((bytes, foreign));
    }
    files.push((vec![0; SIZE + 1], foreign));
    files.push((b"PK\x03\x04".repeat(50_000), foreign));
    let mut bytes = vec![0; SIZE];
    bytes[SIZE - 1] = 1;
    files.push((bytes, foreign));
    for (bytes, wanted) in files {
        let text = open(&path, &bytes).expect_err("it is no ledger");
        assert!(text.contains(wanted), "{text}");
        assert!(text.contains("--reset-state"), "{text}");
        let (mut ledger, found) = reopen(&path, true).unwrap();
        assert_eq!((found, *ledger.record()), (Found::Reset, Record::default()));
        // A start that fails before it has a record has changed nothing.
        assert!(fs::read(&path).unwrap() == bytes);
        ledger.write(FIRST).unwrap();
        drop(ledger);
        let (_, found) = reopen(&path, false).unwrap();
        assert_eq!(found, Found::Kept(FIRST));
    }
}

#[test]
fn a_reset_that_loses_its_power_is_asked_for_again_or_done_and_never_new() {
    let folder = Folder::new("half-reset");
    let path = folder.ledger();
    let mut bytes = even(FIRST);
    (bytes[63], bytes[APART + 63]) = (bytes[63] ^ 1, bytes[APART + 63] ^ 1);
    fs::write(&path, &bytes).unwrap();
    let (mut ledger, _) = reopen(&path, true).unwrap();
    ledger.write(NEXT).unwrap();
    let done = std::mem::take(&mut ledger.disk.plan.done);
    drop(ledger);
    let mut seen = [0; 2];
    for (_, image) in images(&bytes, &done, false) {
        seen[match open(&path, &image) {
            Err(_) => 0,
            Ok(found) => {
                assert_eq!(found, Found::Kept(NEXT));
                1
            }
        }] += 1;
    }
    assert!(seen.iter().all(|&count| count > 10), "{seen:?}");
}

#[test]
fn each_step_that_fails_is_told_and_leaves_the_old_record_or_the_new_one() {
    let folder = Folder::new("failing");
    let path = folder.ledger();
    let mut copy = FIRST.encoded();
    copy[63] ^= 1;
    let damaged = file(&copy, &copy);
    // What is there, whether it is reset, and what may be found after a failure.
    for (bytes, reset, before) in [
        (Vec::new(), false, None),
        (damaged, true, None),
        (even(FIRST), false, Some(FIRST)),
        (file(&copy, &FIRST.encoded()), false, Some(FIRST)),
        (even(FIRST)[..5000].to_vec(), false, Some(FIRST)),
    ] {
        for step in 0.. {
            let mut is_done = false;
            for part in 0..=LEN {
                fs::write(&path, &bytes).unwrap();
                let mut disk = free(|| Disk::open(&path)).unwrap();
                disk.plan.fails = Some((step, part));
                let written =
                    Ledger::open_on(disk, reset).and_then(|(mut ledger, _)| ledger.write(NEXT));
                is_done = written.is_ok();
                if let Err(fault) = written {
                    let text = fault.to_string();
                    let name = path.to_str().unwrap();
                    assert!(text.starts_with("cannot ") && text.contains(name), "{text}");
                }
                let (_, found) = reopen(&path, reset).unwrap();
                let found = match found {
                    Found::Kept(record) => Some(record),
                    Found::New | Found::Empty | Found::Reset => None,
                };
                assert!(found == before || found == Some(NEXT), "{found:?}");
                assert!(!is_done || found == Some(NEXT));
            }
            if is_done {
                // Two reads, and two writes that are waited for.
                assert!(step >= 6, "{step}");
                break;
            }
        }
    }
}

#[test]
fn after_a_failed_write_the_ledger_is_not_what_it_should_be() {
    let folder = Folder::new("poisoned");
    let path = folder.ledger();
    fs::write(&path, even(FIRST)).unwrap();
    let (mut ledger, _) = reopen(&path, false).unwrap();
    // Read back, written, and not synced.
    ledger.disk.plan.fails = Some((2, 0));
    assert!(ledger.write(NEXT).is_err());
    assert_eq!(*ledger.record(), FIRST);
    ledger.disk.plan.fails = None;
    let fault = ledger.write(NEXT).unwrap_err();
    assert!(matches!(fault.why, Why::Changed), "{fault}");
}

#[test]
fn whatever_somebody_else_does_to_the_file_is_found_out_before_the_next_write() {
    let folder = Folder::new("else");
    let path = folder.ledger();
    type Change = fn(&Path);
    let changes: [(&str, Change); 6] = [
        ("was changed by", |path| {
            fs::write(path, even(NEXT)).unwrap()
        }),
        ("was changed by", |path| {
            fs::write(path, file(&FIRST.encoded(), &LOWER.encoded())).unwrap();
        }),
        ("was changed by", |path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(0).unwrap();
        }),
        ("was removed, replaced or unmounted", |path| {
            fs::remove_file(path).unwrap()
        }),
        ("was removed, replaced or unmounted", |path| {
            let other = path.with_extension("other");
            fs::copy(path, &other).unwrap();
            fs::rename(other, path).unwrap();
        }),
        ("was removed, replaced or unmounted", |path| {
            fs::rename(path, path.with_extension("away")).unwrap();
        }),
    ];
    for (at, (wanted, change)) in changes.into_iter().enumerate() {
        fs::write(&path, even(FIRST)).unwrap();
        let (mut ledger, _) = reopen(&path, false).unwrap();
        ledger.write(FIRST).unwrap();
        change(&path);
        let before = fs::read(&path).ok();
        let text = ledger.write(NEXT).unwrap_err().to_string();
        assert!(text.contains(wanted), "{at}: {text}");
        assert!(fs::read(&path).ok() == before, "{at}");
    }
}

/// It would write over a hole, for which a full disk has no room.
#[test]
fn a_new_ledger_that_is_cut_is_not_written() {
    let folder = Folder::new("cut");
    let path = folder.ledger();
    let (mut ledger, _) = reopen(&path, false).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(0).unwrap();
    let fault = ledger.write(FIRST).unwrap_err();
    assert!(matches!(fault.why, Why::Changed), "{fault}");
}

#[test]
fn one_process_has_a_ledger_and_opens_it_once() {
    let folder = Folder::new("taken");
    let path = folder.ledger();
    let one = Ledger::open(&path, false).unwrap();
    for reset in [false, true] {
        let fault = Ledger::open(&path, reset).unwrap_err();
        assert!(fault.is_taken());
        let wanted = format!("the ledger {path:?} is in use by another dflockd: ");
        assert!(fault.to_string().starts_with(&wanted), "{fault}");
    }
    drop(one);
    // Another process, until it ends.
    let script = "echo taken; read line";
    let mut other = Other(
        Command::new("flock")
            .args([path.to_str().unwrap(), "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    let said = other.0.stdout.take().unwrap();
    BufReader::new(said).read_line(&mut line).unwrap();
    assert_eq!(line, "taken\n");
    assert!(Ledger::open(&path, false).unwrap_err().is_taken());
    drop(other);
    assert!(reopen(&path, false).is_ok());
}

/// A process that ends with this value.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        // It waits for a line or the end of its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
