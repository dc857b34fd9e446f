//! What the tests of the journal share: a run directory, holds, and a model of them; and what can be tried without a
//! fault. Invariant: the model knows nothing of files.

mod crashes;
mod damage;
mod histories;
mod room;
mod sweeps;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::command::{Bound, Realm, SECOND, Space, Token};
use crate::facts::{self, Facts, Held};
use crate::sys;
use segment::{HEAD, SEGMENT};

pub use crashes::step;

const OURS: Identity = Identity {
    ledger: *b"the ledger's id.",
    epoch: 5,
    boot: *b"the id of a boot",
    time_namespace: 4_026_531_834,
    file: 17,
};
const OPENS: Us = 123_456_789;
const FLOOR: u64 = 1_000;

/// A name as long as names can be, to fill segments.
static LONG: [u8; 65_535] = [b'x'; 65_535];

/// A run directory that is removed in the end.
struct RunDir(PathBuf);

impl RunDir {
    fn new() -> RunDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dflockd-journal-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        RunDir(path)
    }

    fn find(&self, identity: &Identity) -> Result<(Lock, Found), Fault> {
        let until = sys::now() + 10 * SECOND;
        loop {
            match Journal::find(&self.0, identity) {
                // A child of another test has inherited the lock, until it becomes its program.
                Err(fault) if fault.is_taken() && sys::now() < until => {
                    std::thread::yield_now();
                }
                found => return found,
            }
        }
    }

    /// A journal that begins here.
    fn begin(&self) -> Journal {
        let (lock, _) = self.find(&OURS).unwrap();
        Journal::begin(lock, OURS, OPENS, FLOOR).unwrap()
    }

    /// The journal that is whole.
    fn whole(&self) -> (Lock, Recovered) {
        match self.find(&OURS).unwrap() {
            (lock, Found::Whole(recovered)) => (lock, recovered),
            (_, found) => panic!("{found:?}"),
        }
    }

    /// Why the journal is not whole. Asserts that it is out of the way then.
    fn unusable(&self, identity: &Identity) -> String {
        let before = self.files("journal");
        match self.find(identity).unwrap() {
            (_, Found::Unusable(why)) => {
                assert!(!self.0.join("journal").exists());
                assert_eq!(self.files("journal.old"), before);
                why
            }
            (_, found) => panic!("{found:?}"),
        }
    }

    /// Undoes that it was moved out of the way.
    fn put_back(&self) {
        let (old, folder) = (self.0.join("journal.old"), self.0.join("journal"));
        fs::rename(old, folder).unwrap();
    }

    fn segment(&self, number: u64) -> PathBuf {
        segment::path(&self.0.join("journal"), number)
    }

    /// Changes bytes of a segment.
    fn edit(&self, number: u64, at: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(self.segment(number));
        file.unwrap().write_all_at(bytes, at).unwrap();
    }

    /// How many bytes of records each segment has.
    fn lengths(&self) -> Vec<usize> {
        let names = self.files("journal");
        let numbers = names.iter().filter_map(|name| segment::number(name));
        let lengths = numbers.map(|number| word(&self.read(number), 128) as usize);
        lengths.collect()
    }

    fn read(&self, number: u64) -> Vec<u8> {
        fs::read(self.segment(number)).unwrap()
    }

    /// The names of the files in a folder, in order.
    fn files(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// The same journal in a run directory of its own.
    fn copy(&self) -> RunDir {
        let copy = RunDir::new();
        fs::create_dir(copy.0.join("journal")).unwrap();
        for name in self.files("journal") {
            let path = Path::new("journal").join(name);
            fs::copy(self.0.join(&path), copy.0.join(&path)).unwrap();
        }
        copy
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.0);
        assert!(removed.is_ok() || std::thread::panicking());
    }
}

fn hold(fence: u64, key: &'static [u8]) -> Held<'static> {
    Held {
        token: Token {
            fence,
            salt: !fence,
        },
        space: Space::Semaphore,
        limit: 3,
        key,
        owner: fence
            .is_multiple_of(3)
            .then_some((Realm::Declared, b"an owner")),
        lease: 33_000_000,
        end: 40_000_000 + fence,
        since: 7_000_000,
        told: !fence.is_multiple_of(4),
        bound: Bound::Session,
        attempt: None,
        renews: None,
        note: fence.is_multiple_of(5).then_some(b"a note"),
    }
}

/// A table of holds that does nothing but state facts, with what a journal of them leaves.
#[derive(Clone, Default)]
struct Model {
    holds: BTreeMap<u64, Held<'static>>,
    last_fence: u64,
}

impl Model {
    fn held(&mut self, held: Held<'static>, facts: &mut Facts) {
        facts.held(&held);
        self.last_fence = self.last_fence.max(held.token.fence);
        self.holds.insert(held.token.fence, held);
    }

    fn renewed(&mut self, fence: u64, end: Us, facts: &mut Facts) {
        facts.renewed(fence, end);
        let held = self.holds.get_mut(&fence).unwrap();
        (held.end, held.told) = (end, true);
    }

    fn ended(&mut self, fence: u64, facts: &mut Facts) {
        facts.ended(fence);
        self.holds.remove(&fence).unwrap();
    }

    /// Grants a lock to somebody for good.
    fn grant(&mut self, key: &'static [u8], facts: &mut Facts) {
        self.held(hold(self.last_fence.max(FLOOR) + 1, key), facts);
    }

    fn is_that_of(&self, recovered: &Recovered) -> bool {
        recovered.holds().eq(self.holds.values().copied())
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

/// Appends as many grants of long names as fill so many segments, and half of one.
fn fill(journal: &mut Journal, model: &mut Model, segments: u64) {
    let last = journal.head.number + segments;
    while journal.head.number < last || journal.used < SEGMENT / 2 {
        let mut facts = Facts::kept();
        model.grant(&LONG, &mut facts);
        journal.append(facts.bytes(), model.last_fence).unwrap();
    }
}

/// Appends statements of one hold until so many bytes are used.
fn fill_to(journal: &mut Journal, used: usize) -> Held<'static> {
    let mut facts = Facts::kept();
    let plain = |key| Held {
        owner: None,
        note: None,
        ..hold(1, key)
    };
    facts.held(&plain(b"x"));
    let fixed = facts.bytes().len() - 1;
    loop {
        facts.clear();
        let left = used - journal.used;
        let name = match left - fixed {
            name if name > LONG.len() => LONG.len() - 2 * fixed,
            name => name,
        };
        let held = plain(&LONG[..name]);
        facts.held(&held);
        journal.append(facts.bytes(), FLOOR).unwrap();
        if journal.used == used {
            return held;
        }
    }
}

/// States all holds again, in one go.
fn sweep(journal: &mut Journal, model: &Model) {
    journal.begin_sweep();
    let mut restated = 0;
    for held in model.holds.values() {
        let mut facts = Facts::kept();
        facts.held(held);
        restated += facts.bytes().len() as u64;
        journal.append(facts.bytes(), model.last_fence).unwrap();
    }
    journal.end_sweep(restated).unwrap();
}

fn drop_all(journal: &mut Journal) {
    while journal.first < journal.needed {
        journal.drop_one().unwrap();
    }
}

#[test]
fn a_run_directory_without_a_journal_has_nothing() {
    let dir = RunDir::new();
    assert!(matches!(dir.find(&OURS).unwrap().1, Found::Nothing));
    // As after a crash before the first segment.
    fs::create_dir(dir.0.join("journal")).unwrap();
    assert!(matches!(dir.find(&OURS).unwrap().1, Found::Nothing));
    fs::write(dir.0.join("journal/next"), b"half of a segment").unwrap();
    fs::write(dir.0.join("journal/000000000000000G"), b"").unwrap();
    assert!(matches!(dir.find(&OURS).unwrap().1, Found::Nothing));
    dir.begin();
    dir.whole();
}

#[test]
fn holds_are_found_as_they_were_stated_last() {
    let dir = RunDir::new();
    let (mut journal, mut model, mut facts) = (dir.begin(), Model::default(), Facts::kept());
    for _ in 0..100 {
        model.grant(b"a key", &mut facts);
    }
    journal.append(facts.bytes(), model.last_fence).unwrap();
    facts.clear();
    for fence in (1_002..=1_100).step_by(2) {
        model.renewed(fence, 50_000_000 + fence, &mut facts);
    }
    for fence in (1_001..=1_100).step_by(3) {
        model.ended(fence, &mut facts);
    }
    let mut bound = hold(1_002, b"a key");
    (bound.bound, bound.end) = (Bound::Lease, 99);
    model.held(bound, &mut facts);
    // Of holds that are not there.
    facts.renewed(900, 2);
    facts.ended(901);
    facts.ended(5_000);
    journal.append(facts.bytes(), 5_000).unwrap();
    drop(journal);
    let (_lock, recovered) = dir.whole();
    assert!(model.is_that_of(&recovered));
    assert_eq!(recovered.holds().count(), 66);
    assert_eq!((recovered.opens, recovered.first_fence), (OPENS, 5_001));
}

#[test]
fn the_first_fence_is_above_those_of_facts_and_of_headers() {
    let dir = RunDir::new();
    drop(dir.begin());
    let (lock, recovered) = dir.whole();
    assert_eq!(recovered.first_fence, FLOOR + 1);
    let mut journal = Journal::go_on(lock, &recovered).unwrap();
    let mut facts = Facts::kept();
    facts.ended(70_001);
    journal.append(facts.bytes(), 70_001).unwrap();
    assert_eq!(dir.copy().whole().1.first_fence, 70_002);
    // Only the header of the second segment knows of it when the first one is dropped.
    fill_to(&mut journal, ROOM);
    journal.append(facts.bytes(), 80_001).unwrap();
    journal.begin_sweep();
    journal.end_sweep(0).unwrap();
    drop_all(&mut journal);
    assert_eq!(dir.files("journal"), ["0000000000000002"]);
    assert_eq!(dir.copy().whole().1.first_fence, 80_002);
    // So it is after a restart, before anything is appended.
    drop(journal);
    let (lock, recovered) = dir.whole();
    let mut journal = Journal::go_on(lock, &recovered).unwrap();
    journal.used = ROOM;
    journal.begin_sweep();
    journal.end_sweep(0).unwrap();
    assert_eq!(word(&dir.read(3), 80), 80_001);
}

#[test]
fn a_journal_of_the_last_fence_cannot_be_used() {
    let dir = RunDir::new();
    let mut journal = dir.begin();
    let mut facts = Facts::kept();
    facts.ended(u64::MAX);
    journal.append(facts.bytes(), FLOOR).unwrap();
    drop(journal);
    assert_eq!(dir.unusable(&OURS), "it has the last fence there can be");
}

#[test]
fn a_segment_has_the_documented_bytes() {
    let dir = RunDir::new();
    let (mut journal, mut model) = (dir.begin(), Model::default());
    fill(&mut journal, &mut model, 1);
    let (first, second) = (dir.read(1), dir.read(2));
    assert_eq!((first.len(), second.len()), (1_048_576, 1_048_576));
    let length = word(&first, 128);
    assert!(length > 900_000 && length < ROOM as u64);
    let fences = FLOOR + length / 65_000;
    for (bytes, words) in [
        (&first, [1, OPENS, FLOOR, 0, 0, 1]),
        (&second, [2, OPENS, fences + 1, length, 0, 0]),
    ] {
        assert_eq!(bytes[..8], *b"dflockdj");
        assert_eq!(word(bytes, 8), 1);
        assert_eq!(bytes[16..32], OURS.ledger);
        assert_eq!(word(bytes, 32), OURS.epoch);
        assert_eq!(bytes[40..56], OURS.boot);
        assert_eq!(word(bytes, 56), OURS.time_namespace);
        assert_eq!(word(bytes, 112), OURS.file);
        let ats = [64, 72, 80, 88, 96, 104];
        assert_eq!(ats.map(|at| word(bytes, at)), words);
        assert!(
            bytes[120..128]
                .iter()
                .chain(&bytes[136..4096])
                .all(|&byte| byte == 0)
        );
        // A record: its length, its kind.
        assert_eq!(bytes[4100], 1);
    }
    assert_eq!(word(&second, 128), journal.used as u64);
    journal.begin_sweep();
    journal.end_sweep(77).unwrap();
    let second = dir.read(2);
    let end = 4096 + journal.used;
    let mark = &second[end - 21..end];
    assert_eq!(mark[..5], [17, 0, 0, 0, 128]);
    assert_eq!((word(mark, 5), word(mark, 13)), (2, 77));
}

#[test]
fn only_the_owner_may_look() {
    let dir = RunDir::new();
    let _journal = dir.begin();
    let mode = |path: &str| fs::metadata(dir.0.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("journal.lock"), 0o600);
    assert_eq!(mode("journal"), 0o700);
    assert_eq!(mode("journal/0000000000000001"), 0o600);
}

#[test]
fn a_run_directory_serves_one_process() {
    let dir = RunDir::new();
    let journal = dir.begin();
    let fault = Journal::find(&dir.0, &OURS).unwrap_err().to_string();
    assert!(
        fault.contains("journal.lock\" is in use by another dflockd"),
        "{fault}"
    );
    drop(journal);
    dir.whole();
}

#[test]
fn a_run_directory_that_cannot_be_one_is_named() {
    let dir = RunDir::new();
    fs::write(dir.0.join("file"), b"").unwrap();
    for (name, advice) in [
        ("none", "make the run directory"),
        ("file", "the run directory is a file"),
    ] {
        let path = dir.0.join(name);
        let fault = Journal::find(&path, &OURS).unwrap_err().to_string();
        assert!(fault.contains(path.to_str().unwrap()), "{fault}");
        assert!(fault.contains(advice), "{fault}");
    }
}

#[test]
fn a_folder_that_is_removed_under_a_journal_ends_it() {
    let dir = RunDir::new();
    let (mut journal, mut model) = (dir.begin(), Model::default());
    fill(&mut journal, &mut model, 1);
    fs::remove_dir_all(dir.0.join("journal")).unwrap();
    journal.append(&[], FLOOR).unwrap();
    fill_to(&mut journal, ROOM);
    let mut facts = Facts::kept();
    facts.ended(1);
    let fault = journal.append(facts.bytes(), FLOOR).unwrap_err();
    assert!(fault.to_string().contains("journal/next"), "{fault}");
    journal.abandon().unwrap();
    assert!(matches!(dir.find(&OURS).unwrap().1, Found::Nothing));
}

#[test]
fn a_batch_goes_on_in_the_next_segment_between_two_records() {
    let (mut facts, mut model) = (Facts::kept(), Model::default());
    for fence in [1_001, 1_002, 1_007] {
        model.held(
            Held {
                owner: None,
                ..hold(fence, b"a key")
            },
            &mut facts,
        );
    }
    let record = facts.bytes().len() / 3;
    let edges = (0..=4).flat_map(|count| [0, 1, record - 1].map(|more| count * record + more));
    for left in edges {
        let dir = RunDir::new();
        let mut journal = dir.begin();
        let filler = fill_to(&mut journal, ROOM - left);
        journal.append(facts.bytes(), 2_000).unwrap();
        drop(journal);
        let (_lock, recovered) = dir.whole();
        let mut model = model.clone();
        model.held(filler, &mut Facts::kept());
        assert!(model.is_that_of(&recovered), "{left} bytes left");
        let fit = (left / record).min(3);
        let lengths = dir.lengths();
        let first = ROOM - left + fit * record;
        match fit {
            3 => assert_eq!(lengths, [first]),
            fit => assert_eq!(lengths, [first, (3 - fit) * record]),
        }
    }
}

#[test]
fn a_batch_may_be_longer_than_segments() {
    let dir = RunDir::new();
    let (mut journal, mut model, mut facts) = (dir.begin(), Model::default(), Facts::kept());
    for _ in 0..50 {
        model.grant(&LONG, &mut facts);
    }
    journal.append(facts.bytes(), model.last_fence).unwrap();
    drop(journal);
    let (_lock, recovered) = dir.whole();
    assert_eq!(recovered.last().number, 4);
    assert!(model.is_that_of(&recovered));
}

#[test]
fn what_was_found_is_gone_on_with() {
    let dir = RunDir::new();
    let mut model = Model::default();
    drop(dir.begin());
    for life in 1..=6 {
        let (lock, recovered) = dir.whole();
        assert!(model.is_that_of(&recovered), "life {life}");
        assert_eq!(recovered.opens, OPENS);
        let mut journal = Journal::go_on(lock, &recovered).unwrap();
        fill(&mut journal, &mut model, life % 2);
        let mut facts = Facts::kept();
        model.ended(1_000 + life, &mut facts);
        journal.append(facts.bytes(), model.last_fence).unwrap();
    }
    assert!(model.is_that_of(&dir.whole().1));
}

#[test]
fn a_journal_that_begins_moves_aside_what_is_there() {
    let dir = RunDir::new();
    let (mut journal, mut model) = (dir.begin(), Model::default());
    fill(&mut journal, &mut model, 1);
    drop(journal);
    let (lock, _) = dir.whole();
    let next = Identity { epoch: 6, ..OURS };
    drop(Journal::begin(lock, next, OPENS, model.last_fence).unwrap());
    assert_eq!(dir.files("journal"), ["0000000000000001"]);
    assert_eq!(dir.files("journal.old").len(), 2);
    let (_lock, found) = dir.find(&next).unwrap();
    assert!(matches!(found, Found::Whole(recovered) if recovered.holds().count() == 0));
}

#[test]
fn a_journal_that_was_given_up_is_moved_aside_whatever_is_there() {
    for old in 0..3 {
        let dir = RunDir::new();
        match old {
            0 => {}
            1 => fs::write(dir.0.join("journal.old"), b"a file").unwrap(),
            _ => fs::create_dir_all(dir.0.join("journal.old/a/b")).unwrap(),
        }
        let (mut journal, mut model) = (dir.begin(), Model::default());
        fill(&mut journal, &mut model, 1);
        // Somebody has a copy, and brings it back.
        let copy = dir.0.join("copy");
        fs::create_dir(&copy).unwrap();
        for number in [1, 2] {
            fs::hard_link(dir.segment(number), copy.join(format!("{number:016x}"))).unwrap();
        }
        journal.abandon().unwrap();
        assert!(!dir.0.join("journal.old").exists());
        assert!(matches!(dir.find(&OURS).unwrap().1, Found::Nothing));
        fs::rename(copy, dir.0.join("journal")).unwrap();
        let why = dir.unusable(&OURS);
        assert_eq!(why, "segment 2 says that it was given up");
    }
}
