//! When a sweep is due, and what it leaves. Invariant: at any time the segments that are there are a whole journal.

use super::*;

#[test]
fn a_sweep_is_due_after_twice_the_last_and_4_mib() {
    let dir = RunDir::new();
    let (mut journal, mut model) = (dir.begin(), Model::default());
    let mib4 = 4 * 1024 * 1024;
    grow(&mut journal, 0, mib4);
    fill(&mut journal, &mut model, 2);
    let began = journal.appended();
    journal.begin_sweep();
    fill(&mut journal, &mut model, 5);
    assert!(!journal.wants_sweep(), "one is under way");
    journal.end_sweep(1_000_000).unwrap();
    grow(&mut journal, began, 2_000_000 + mib4);
    // Nothing is left: the next one is due 4 MiB after it began.
    let began = journal.appended();
    journal.begin_sweep();
    journal.end_sweep(0).unwrap();
    grow(&mut journal, began, mib4);
}

#[test]
fn a_restart_remembers_the_last_sweep_and_no_other() {
    let dir = RunDir::new();
    let (mut journal, mut model) = (dir.begin(), Model::default());
    fill(&mut journal, &mut model, 2);
    sweep(&mut journal, &model);
    let (number, stated) = (journal.needed, 100_000_000);
    fill(&mut journal, &mut model, 1);
    journal.begin_sweep();
    journal.end_sweep(stated).unwrap();
    let needed = journal.needed;
    assert!(needed > number);
    let in_segment = journal.used as u64;
    journal.begin_sweep();
    drop(journal);
    let (lock, recovered) = dir.whole();
    let mut journal = Journal::go_on(lock, &recovered).unwrap();
    assert_eq!((journal.first, journal.needed), (1, needed));
    assert_eq!(journal.appended(), in_segment);
    assert_eq!(journal.sweep_due, 2 * stated + SWEEP_MIN);
    drop_all(&mut journal);
    assert_eq!(
        dir.files("journal").len() as u64,
        journal.head.number - needed + 1
    );
    // The sweep that had not ended is forgotten.
    journal.begin_sweep();
}

#[test]
fn after_a_sweep_older_segments_are_dropped_one_by_one() {
    let dir = RunDir::new();
    let (mut journal, mut model) = (dir.begin(), Model::default());
    fill(&mut journal, &mut model, 4);
    let mut facts = Facts::kept();
    for fence in 1_001..1_030 {
        model.ended(fence, &mut facts);
    }
    journal.append(facts.bytes(), model.last_fence).unwrap();
    journal.drop_one().unwrap();
    assert_eq!(dir.files("journal").len(), 5, "all are needed");
    sweep(&mut journal, &model);
    let files = dir.files("journal");
    for dropped in 1..=4 {
        journal.drop_one().unwrap();
        assert_eq!(dir.files("journal"), files[dropped..]);
        let copy = dir.copy();
        let (_lock, recovered) = copy.whole();
        assert!(model.is_that_of(&recovered));
    }
    journal.drop_one().unwrap();
    assert_eq!(dir.files("journal"), files[4..]);
}

#[test]
fn a_segment_that_somebody_else_has_removed_is_dropped() {
    let dir = RunDir::new();
    let (mut journal, mut model) = (dir.begin(), Model::default());
    fill(&mut journal, &mut model, 2);
    sweep(&mut journal, &model);
    fs::remove_file(dir.segment(1)).unwrap();
    drop_all(&mut journal);
    assert!(model.is_that_of(&dir.copy().whole().1));
}

/// Appends until a sweep is wanted, which must be when more than this was appended since `began`.
fn grow(journal: &mut Journal, began: u64, due: u64) {
    let mut facts = Facts::kept();
    facts.held(&hold(1, &LONG));
    while !journal.wants_sweep() {
        assert!(journal.appended() - began <= due);
        journal.append(facts.bytes(), FLOOR).unwrap();
    }
    assert!(journal.appended() - began > due);
}
