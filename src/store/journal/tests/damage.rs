//! What lies there is not what was written, or not for this process. Invariant: it is not used then, and not forgotten
//! without a word.

use super::*;

/// A journal of so many segments.
fn written(segments: u64) -> (RunDir, Model) {
    let dir = RunDir::new();
    let (mut journal, mut model) = (dir.begin(), Model::default());
    fill(&mut journal, &mut model, segments - 1);
    (dir, model)
}

/// A journal of one segment with a few short records, and the states that each of them leaves, by where it ends.
fn short() -> (RunDir, Vec<(usize, Model)>) {
    let dir = RunDir::new();
    let (mut journal, mut model) = (dir.begin(), Model::default());
    let mut states = vec![(0, model.clone())];
    for step in 0..12 {
        let mut facts = Facts::kept();
        match step % 4 {
            3 => model.ended(1_000 + step / 2, &mut facts),
            2 => model.renewed(1_000 + step / 2, 77, &mut facts),
            _ => model.grant(b"a key", &mut facts),
        }
        journal.append(facts.bytes(), model.last_fence).unwrap();
        states.push((journal.used, model.clone()));
    }
    (dir, states)
}

#[test]
fn a_journal_of_another_identity_says_what_differs() {
    for (identity, why) in [
        (
            Identity {
                ledger: [0; 16],
                ..OURS
            },
            "segment 1 is of another ledger",
        ),
        (
            Identity { epoch: 6, ..OURS },
            "segment 1 is of epoch 5, and the ledger of 6",
        ),
        (
            Identity {
                boot: [0; 16],
                ..OURS
            },
            "segment 1 is of another boot",
        ),
        (
            Identity {
                time_namespace: 1,
                ..OURS
            },
            "segment 1 is of another time namespace",
        ),
        // A later epoch of another ledger says nothing of ours.
        (
            Identity {
                ledger: [0; 16],
                epoch: 4,
                ..OURS
            },
            "segment 1 is of another ledger",
        ),
    ] {
        let (dir, _) = written(2);
        assert_eq!(dir.unusable(&identity), why);
    }
}

#[test]
fn the_boot_id_stands_where_it_is_documented() {
    let (dir, _) = written(2);
    dir.edit(2, 55, b"?");
    assert_eq!(dir.unusable(&OURS), "segment 2 is of another boot");
}

#[test]
fn a_ledger_that_is_a_copy_does_not_start_in_the_boot_that_the_journal_has_seen() {
    let copy = Identity { file: 18, ..OURS };
    let (dir, _) = written(2);
    for _ in 0..2 {
        let fault = dir.find(&copy).unwrap_err().to_string();
        assert!(fault.contains("is a copy and may be old"), "{fault}");
    }
    // A restored backup, after the machine was started again: leases are no longer than it knows.
    let later = Identity {
        boot: [0; 16],
        ..copy
    };
    assert_eq!(dir.unusable(&later), "segment 1 is of another boot");
}

#[test]
fn a_journal_of_a_later_epoch_stays_and_says_that_the_ledger_is_an_old_copy() {
    let old = Identity { epoch: 4, ..OURS };
    let dirs = [
        |_: &RunDir| {},
        |dir: &RunDir| dir.edit(1, 0, b"damage"),
        |dir: &RunDir| {
            fs::remove_file(dir.segment(2)).unwrap();
        },
    ];
    for damage in dirs {
        let (dir, _) = written(3);
        damage(&dir);
        for _ in 0..2 {
            let fault = dir.find(&old).unwrap_err().to_string();
            assert!(
                fault.contains("is of epoch 5 of the ledger, which is of epoch 4"),
                "{fault}"
            );
        }
        // After a reset the ledger is another one.
        dir.unusable(&Identity {
            ledger: [1; 16],
            ..old
        });
    }
}

#[test]
fn a_journal_without_one_of_its_segments_is_not_whole() {
    for missing in 1..=4 {
        let (dir, model) = written(4);
        let path = dir.segment(missing);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let why = dir.unusable(&OURS);
        match missing {
            1 => assert_eq!(
                why,
                "it begins with segment 2, and no sweep that began there has ended"
            ),
            _ => assert_eq!(why, format!("segment {missing} is missing")),
        }
        dir.put_back();
        fs::write(path, bytes).unwrap();
        assert!(model.is_that_of(&dir.whole().1));
    }
}

#[test]
fn a_journal_without_segments_that_a_sweep_needs_is_not_whole() {
    let (dir, model) = written(3);
    let (lock, recovered) = dir.whole();
    let mut journal = Journal::go_on(lock, &recovered).unwrap();
    sweep(&mut journal, &model);
    drop(journal);
    for dropped in 1..=2 {
        fs::remove_file(dir.segment(dropped)).unwrap();
        assert!(model.is_that_of(&dir.whole().1));
    }
    fs::remove_file(dir.segment(3)).unwrap();
    let why = dir.unusable(&OURS);
    assert_eq!(
        why,
        "it begins with segment 4, and no sweep that began there has ended"
    );
}

#[test]
fn a_sweep_that_has_not_ended_replaces_nothing() {
    let (dir, model) = written(2);
    let (lock, recovered) = dir.whole();
    let mut journal = Journal::go_on(lock, &recovered).unwrap();
    journal.begin_sweep();
    let mut facts = Facts::kept();
    model.holds.values().for_each(|held| facts.held(held));
    journal.append(facts.bytes(), model.last_fence).unwrap();
    journal.drop_one().unwrap();
    drop(journal);
    assert!(model.is_that_of(&dir.whole().1));
    fs::remove_file(dir.segment(1)).unwrap();
    dir.unusable(&OURS);
}

#[test]
fn the_end_of_a_sweep_names_a_segment_that_is_there() {
    let (dir, model) = written(2);
    let (lock, recovered) = dir.whole();
    let mut journal = Journal::go_on(lock, &recovered).unwrap();
    sweep(&mut journal, &model);
    let at = (segment::records_at() as usize + journal.used - 16) as u64;
    let number = journal.head.number;
    drop(journal);
    for (named, is_whole) in [(1_u64, true), (number, true), (number + 1, false)] {
        dir.edit(number, at, &named.to_le_bytes());
        if is_whole {
            assert!(model.is_that_of(&dir.whole().1));
        } else {
            let why = dir.unusable(&OURS);
            assert!(why.contains("has no readable record"), "{why}");
        }
    }
}

#[test]
fn a_journal_that_ends_at_a_record_has_what_stands_before_it_and_else_nothing() {
    let (dir, states) = short();
    let end = states.last().unwrap().0;
    // Behind the end there are zeros.
    for length in 0..end + 20 {
        dir.edit(1, 128, &(length as u64).to_le_bytes());
        match states.iter().find(|(at, _)| *at == length) {
            Some((_, model)) => assert!(model.is_that_of(&dir.whole().1), "{length} bytes"),
            None => {
                let start = states.iter().rev().find(|(at, _)| *at < length).unwrap().0;
                let why = format!("segment 1 has no readable record at byte {start} of them");
                assert_eq!(dir.unusable(&OURS), why);
                dir.put_back();
            }
        }
    }
    for length in [ROOM as u64 + 1, u64::MAX] {
        dir.edit(1, 128, &length.to_le_bytes());
        let why = dir.unusable(&OURS);
        assert_eq!(
            why,
            format!("segment 1 has 1048576 bytes, and says that {length} of them are records")
        );
        dir.put_back();
    }
}

#[test]
fn a_segment_that_another_follows_may_not_end_sooner() {
    let (dir, model) = written(3);
    for number in 1..=2 {
        let bytes = dir.read(number);
        let (length, mut at) = (word(&bytes, 128) as usize, 0);
        while at < length {
            dir.edit(number, 128, &(at as u64).to_le_bytes());
            let why = format!(
                "segment {} does not go on where the one before ends",
                number + 1
            );
            assert_eq!(dir.unusable(&OURS), why);
            dir.put_back();
            at += facts::record_len(&bytes[4096 + at..]).unwrap();
        }
        assert_eq!(at, length);
        dir.edit(number, 128, &(length as u64).to_le_bytes());
    }
    assert!(model.is_that_of(&dir.whole().1));
}

#[test]
fn segments_of_two_journals_are_not_one() {
    let (dir, _) = written(3);
    dir.edit(3, 72, &(OPENS + 1).to_le_bytes());
    dir.unusable(&OURS);
    let (dir, _) = written(3);
    fs::rename(dir.segment(3), dir.segment(2)).unwrap();
    assert_eq!(dir.unusable(&OURS), "segment 2 says that it is segment 3");
}

#[test]
fn any_byte_of_a_header_may_be_damaged() {
    let (dir, states) = short();
    let model = &states.last().unwrap().1;
    let whole = dir.read(1);
    for at in 0..HEAD as u64 {
        let byte = whole[at as usize];
        for damaged in [byte ^ 1, byte ^ 0x80, !byte] {
            dir.edit(1, at, &[damaged]);
            let is_named = (0..72).contains(&at) || (96..112).contains(&at) || at >= 128;
            match dir.find(&OURS) {
                // A later epoch, or another file.
                Err(_) => assert!((32..40).contains(&at) || (112..120).contains(&at)),
                Ok((_, Found::Unusable(_))) => {
                    // The last fence is in use, or a longer segment is said to have gone before: none is read then.
                    assert!(is_named || (80..88).contains(&at), "byte {at}");
                    dir.put_back();
                }
                Ok((_, Found::Whole(recovered))) => {
                    assert!(!is_named, "byte {at}");
                    assert!(model.is_that_of(&recovered));
                }
                Ok((_, Found::Nothing)) => panic!("byte {at}"),
            }
            dir.edit(1, at, &[byte]);
        }
    }
}

#[test]
fn any_byte_of_a_record_may_be_damaged_without_a_panic() {
    let (dir, states) = short();
    let whole = dir.read(1);
    for at in segment::records_at()..segment::records_at() + states.last().unwrap().0 as u64 {
        let byte = whole[at as usize];
        for damaged in [0, byte ^ 1, byte ^ 0x80, 0xff] {
            dir.edit(1, at, &[damaged]);
            match dir.find(&OURS).unwrap().1 {
                Found::Whole(recovered) => assert!(recovered.holds().count() <= 10),
                Found::Unusable(_) => dir.put_back(),
                Found::Nothing => panic!("byte {at}"),
            }
        }
        dir.edit(1, at, &[byte]);
    }
}

#[test]
fn a_file_of_another_size_is_no_segment() {
    for size in [0, 1, 135, 136, 4_095, 4_096, 1_048_575, 1_048_577] {
        let (dir, _) = written(2);
        let file = OpenOptions::new().write(true).open(dir.segment(2)).unwrap();
        file.set_len(size).unwrap();
        let why = dir.unusable(&OURS);
        let length = if size < 136 {
            "no header"
        } else {
            "bytes, and says"
        };
        assert!(
            why.starts_with("segment 2 has ") && why.contains(length),
            "{why}"
        );
    }
}

#[test]
fn whatever_else_has_the_name_of_the_journal_is_moved_aside() {
    let dir = RunDir::new();
    fs::write(dir.0.join("journal"), b"a file").unwrap();
    let (lock, found) = dir.find(&OURS).unwrap();
    assert!(matches!(found, Found::Unusable(why) if why == "it is not a folder"));
    assert_eq!(fs::read(dir.0.join("journal.old")).unwrap(), b"a file");
    Journal::begin(lock, OURS, OPENS, FLOOR).unwrap();
}

#[test]
fn a_segment_that_cannot_be_read_is_named_and_stays() {
    let (dir, _) = written(2);
    fs::remove_file(dir.segment(2)).unwrap();
    fs::create_dir(dir.segment(2)).unwrap();
    for _ in 0..2 {
        let fault = dir.find(&OURS).unwrap_err().to_string();
        let is_named = fault.contains("0002\"");
        assert!(is_named && fault.starts_with("cannot read "), "{fault}");
    }
}
