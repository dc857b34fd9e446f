//! What a log of batches leaves, by another clock than that of the servers that wrote it.

use super::*;
use crate::command::{Bound, Renewal, SECOND, Space, Token};
use crate::facts::Facts;

const NOW: Us = 1_000 * SECOND;
const PART: usize = Room::ETCD.part;

fn held(fence: u64, key: &[u8]) -> Held<'_> {
    Held {
        token: Token { fence, salt: 7 },
        space: Space::Lock,
        limit: 1,
        key,
        owner: None,
        lease: 30 * SECOND,
        end: NOW + 30 * SECOND,
        since: NOW - 10 * SECOND,
        told: true,
        bound: Bound::Session,
        attempt: None,
        renews: None,
        note: None,
    }
}

/// The parts of a batch with these facts, by a clock that shows `clock`.
fn batch(clock: Us, facts: impl FnOnce(&mut Facts)) -> VecDeque<Vec<u8>> {
    let mut all = Facts::kept();
    facts(&mut all);
    parts(all.bytes(), 100, clock, PART)
}

fn read(batches: impl IntoIterator<Item = Vec<u8>>) -> Result<Left, Fault> {
    let mut log = Log::default();
    for (number, batch) in batches.into_iter().enumerate() {
        log.add(number as u64 + 1, batch)?;
    }
    log.end()
}

#[test]
fn a_hold_has_as_much_left_as_when_that_was_said_last() {
    let renewal = Renewal {
        every: SECOND,
        within: SECOND,
    };
    let renews = Some(Renews {
        renewal,
        step: SECOND,
        until: NOW + 60 * SECOND,
    });
    let first = batch(NOW, |facts| {
        facts.held(&held(1, b"a"));
        facts.held(&Held {
            renews,
            ..held(2, b"b")
        });
        facts.held(&held(3, b"c"));
    });
    let later = batch(NOW + 10 * SECOND, |facts| {
        facts.renewed(2, NOW + 15 * SECOND);
        facts.ended(3);
    });
    let left = read(first.into_iter().chain(later)).unwrap();
    assert_eq!(left.next_fence, 100);
    // The other machine was started a moment ago.
    let now = 3 * SECOND;
    let holds: Vec<_> = left.holds(now).collect();
    let ends: Vec<_> = holds.iter().map(|hold| (hold.key, hold.end)).collect();
    assert_eq!(
        ends,
        [(&b"a"[..], 33 * SECOND), (&b"b"[..], 8 * SECOND)],
        "a was told 30 s, b 5 s"
    );
    assert_eq!(holds[0].since, 0, "its clock does not go back so far");
    assert_eq!(holds[1].renews.unwrap().until, 63 * SECOND);
}

#[test]
fn what_is_over_by_the_clock_of_its_leader_is_over_by_every_clock() {
    let late = batch(NOW + 40 * SECOND, |facts| facts.held(&held(1, b"a")));
    let left = read(late).unwrap();
    let hold = left.holds(100 * SECOND).next().unwrap();
    assert_eq!(hold.end, 90 * SECOND);
}

#[test]
fn a_large_batch_is_cut_between_records_and_an_empty_one_is_a_part_as_well() {
    let names: Vec<Vec<u8>> = (1..=30).map(|n| vec![n; 40_000]).collect();
    let all = batch(NOW, |facts| {
        for (fence, name) in names.iter().enumerate() {
            facts.held(&held(fence as u64 + 1, name));
        }
    });
    assert_eq!(all.len(), 3, "1.2 MB in parts of half a megabyte");
    assert!(all.iter().all(|part| part.len() <= PART));
    let left = read(all).unwrap();
    assert!(left.holds(NOW).map(|hold| hold.key.to_vec()).eq(names));
    let one = vec![1; 60_000];
    let huge = batch(NOW, |facts| {
        facts.held(&Held {
            owner: Some((crate::command::Realm::Declared, &one)),
            note: Some(&one),
            ..held(1, &one)
        });
    });
    assert_eq!(huge.len(), 1);
    let none = parts(&[], 5, NOW, PART);
    assert_eq!(none.len(), 1);
    assert_eq!(read(none).unwrap().next_fence, 5);
    assert_eq!(read([]).unwrap().next_fence, 0);
}

#[test]
fn a_batch_that_cannot_be_understood_is_refused_and_named() {
    let sound = batch(NOW, |facts| facts.held(&held(1, b"a")));
    for at in 0..sound[0].len() {
        assert_eq!(
            read([sound[0][..at].to_vec()]).err(),
            (at != HEADER).then_some(Fault::Damaged(1)),
            "the first {at} bytes"
        );
        for bit in 0..8 {
            let mut damaged = sound[0].clone();
            damaged[at] ^= 1 << bit;
            // Whatever it says, it is no panic.
            let _ = read([damaged]).map(|left| left.holds(0).count());
        }
    }
    let mut newer = sound[0].clone();
    newer[0] = 2;
    assert_eq!(read([newer]).unwrap_err(), Fault::Newer(1, 2));
    let text = Fault::Newer(0x1f, 2).to_string();
    assert!(
        text.starts_with("batch 000000000000001f has version 2"),
        "{text}"
    );
    let endless = parts(&[], u64::MAX / 2 + 1, NOW, PART);
    assert_eq!(read(endless).unwrap_err(), Fault::Damaged(1));
    let old = parts(sound[0].get(HEADER..).unwrap(), 1, NOW, PART);
    assert_eq!(read(old).unwrap_err(), Fault::LastFence);
}
