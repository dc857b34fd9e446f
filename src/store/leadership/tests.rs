//! Who leads, one request after the other. `tests/inner/ha_sim` has several servers, and what nobody has thought of.

use super::*;
use crate::command::SECOND;

const PATIENCE: Us = 5 * SECOND;

fn head(node: &str, life: u8, number: u64) -> Head {
    Head {
        cluster: [9; 16],
        life: [life; 16],
        node: node.into(),
        address: format!("{node}:6388"),
        number,
        largest: 0,
        leads: false,
        left: false,
    }
}

/// A server that has just started, and its clock.
struct Played {
    leadership: Leadership,
    now: Us,
}

impl Played {
    fn new() -> Played {
        Played {
            leadership: Leadership::new(head("here", 1, 0), PATIENCE, true, 0),
            now: 0,
        }
    }

    /// One that leads, with the first change it made.
    fn leading() -> (Played, Change) {
        let mut played = Played::new();
        played.looks(None);
        let change = played.changes();
        assert_eq!(played.told(Told::Changed(10)), Event::Took);
        let (from, count) = (0, PAGE_BATCHES);
        assert_eq!(played.asks(), Ask::Load { from, count });
        let read = played.told(Told::Batches(vec![], false));
        assert_eq!(read, Event::Read(vec![], true));
        assert!(played.leadership.leads());
        (played, change)
    }

    #[track_caller]
    fn asks(&mut self) -> Ask {
        self.leadership.ask(self.now).expect("it asks something")
    }

    #[track_caller]
    fn is_silent(&mut self) {
        assert_eq!(self.leadership.ask(self.now), None);
    }

    #[track_caller]
    fn changes(&mut self) -> Change {
        match self.asks() {
            Ask::Change(change) => change,
            ask => panic!("{ask:?}"),
        }
    }

    /// The answer comes a millisecond later.
    fn told(&mut self, told: Told) -> Event {
        self.now += 1_000;
        self.leadership.told(self.now, told)
    }

    fn at(&mut self, now: Us) -> &mut Played {
        self.now = now;
        self
    }

    #[track_caller]
    fn looks(&mut self, head: Option<(u64, Head)>) {
        assert_eq!(self.asks(), Ask::Look);
        assert_eq!(self.told(Told::Head(head)), Event::Nothing);
    }

    fn gives(&mut self, parts: &[u8]) {
        self.leadership.give(Batch {
            parts: parts.iter().map(|&part| vec![part]).collect(),
            begins_sweep: false,
            ends_sweep: false,
        });
    }
}

#[test]
fn where_nobody_leads_the_first_server_takes_the_lead_at_once() {
    let (played, change) = Played::leading();
    assert_eq!((change.revision, change.head.number), (0, 1));
    assert_eq!((change.batch, change.keep_from), (None, None));
    assert_eq!(change.head.cluster, [9; 16]);
    assert_eq!(played.leadership.revision(), 10);
}

#[test]
fn a_head_that_does_not_change_for_long_enough_is_taken() {
    let mut played = Played::new();
    let other = || Some((7, head("there", 2, 30)));
    played.looks(other());
    played.is_silent();
    assert_eq!(played.leadership.deadline(), Some(250_000));
    for look in 1..20 {
        played.at(look * 250_000).looks(other());
    }
    // The first answer came after a millisecond, so it may have been true only then.
    played.at(5 * SECOND).looks(other());
    played.at(5 * SECOND + 250_000).looks(other());
    let change = played.changes();
    assert_eq!((change.revision, change.head.number), (7, 31));
    assert_eq!(change.head.life, [1; 16]);
}

#[test]
fn a_head_that_changes_or_is_out_of_sight_is_left_alone() {
    let mut played = Played::new();
    for look in 0..100 {
        let beats = Some((7 + look / 10, head("there", 2, 30 + look / 10)));
        played.at(look * 500_000).looks(beats);
    }
    let start = played.now;
    let still = || Some((90, head("there", 2, 90)));
    played.at(start + SECOND).looks(still());
    played.at(start + 4 * SECOND).asks();
    played.told(Told::Nothing);
    played.at(start + 5 * SECOND).looks(still());
    played.at(start + 9 * SECOND).looks(still());
    played.at(start + 9 * SECOND + 250_000);
    assert_eq!(
        played.asks(),
        Ask::Look,
        "the look that failed begins it anew"
    );
}

#[test]
fn a_leader_that_has_left_is_followed_at_once_and_so_is_a_former_life() {
    for (node, leads, left) in [("there", true, true), ("here", true, false)] {
        let mut played = Played::new();
        let other = Head {
            leads,
            left,
            ..head(node, 2, 30)
        };
        played.looks(Some((7, other)));
        let change = played.changes();
        assert_eq!((change.revision, change.head.number), (7, 31));
        assert!(!change.head.left);
    }
}

/// A node that fails each time that it reads what there is keeps the others waiting no longer than any other leader.
#[test]
fn a_former_life_that_has_not_led_is_waited_for_as_others_are() {
    let mut played = Played::new();
    let former = || Some((7, head("here", 2, 30)));
    played.looks(former());
    for look in 1..=20 {
        played.at(look * 250_000).looks(former());
    }
    played.at(5 * SECOND + 250_000).looks(former());
    let change = played.changes();
    assert_eq!(change.revision, 7);
    assert!(!change.head.leads);
}

#[test]
fn a_change_without_an_answer_is_asked_for_word_for_word_until_it_is_known() {
    let (mut played, _) = Played::leading();
    played.gives(b"x");
    let change = played.changes();
    assert_eq!((change.revision, change.head.number), (10, 2));
    assert_eq!(change.batch, Some(vec![b'x']));
    assert_eq!(played.told(Told::Nothing), Event::Nothing);
    played.is_silent();
    played.now += PAUSE;
    assert_eq!(played.changes(), change);
    // The first one was made after all.
    let head = Some((11, change.head.clone()));
    assert_eq!(played.told(Told::Refused(head)), Event::Kept);
    assert_eq!(played.leadership.revision(), 11);
}

#[test]
fn whoever_finds_another_head_leads_no_more() {
    let taken = Loss::Taken("there".into());
    let soon = Loss::SameName;
    let late = Loss::Taken("here".into());
    for (head, wait, loss) in [
        (Some((12, head("there", 2, 3))), 0, taken),
        (Some((12, head("here", 2, 3))), 0, soon),
        (Some((12, head("here", 2, 3))), PATIENCE, late),
        (None, 0, Loss::Removed),
    ] {
        let (mut played, _) = Played::leading();
        played.now += wait;
        played.gives(b"x");
        played.changes();
        assert_eq!(played.told(Told::Refused(head)), Event::Lost(loss));
        assert!(!played.leadership.leads());
        played.is_silent();
        assert_eq!(played.leadership.deadline(), None);
    }
}

#[test]
fn a_silent_leader_beats_and_one_that_hears_nothing_gives_up() {
    let (mut played, _) = Played::leading();
    let change = played.changes();
    assert!(change.head.leads, "that it leads is said at once");
    played.told(Told::Changed(11));
    played.is_silent();
    let beat = played.leadership.deadline().unwrap();
    assert!(beat < played.now + SECOND, "a fifth of its patience");
    let change = played.at(beat).changes();
    assert_eq!((change.head.number, change.batch), (3, None));
    let asked = played.now;
    played.told(Told::Changed(12));
    let mut silent = played.leadership.deadline().unwrap();
    while silent < asked + PATIENCE {
        played.at(silent);
        assert_eq!(played.leadership.silence(silent), Event::Nothing);
        if played.leadership.ask(silent).is_some() {
            played.told(Told::Nothing);
        }
        silent = played.leadership.deadline().unwrap();
    }
    let lost = played.leadership.silence(asked + PATIENCE);
    assert_eq!(lost, Event::Lost(Loss::Silence));
}

#[test]
fn a_batch_is_kept_with_its_last_part_and_the_end_of_a_sweep_removes_what_is_older() {
    let (mut played, _) = Played::leading();
    played.leadership.give(Batch {
        parts: [vec![1], vec![2]].into(),
        begins_sweep: true,
        ends_sweep: false,
    });
    assert!(!played.leadership.wants_batch());
    let first = played.changes();
    assert_eq!((first.head.number, first.keep_from), (2, None));
    assert_eq!(played.told(Told::Changed(11)), Event::Nothing);
    assert_eq!(played.changes().batch, Some(vec![2]));
    assert_eq!(played.told(Told::Changed(12)), Event::Kept);
    played.leadership.give(Batch {
        parts: [vec![3], vec![4]].into(),
        begins_sweep: false,
        ends_sweep: true,
    });
    assert_eq!(played.changes().keep_from, None, "not before the last part");
    played.told(Told::Changed(13));
    assert_eq!(played.changes().keep_from, Some(2));
    assert_eq!(played.told(Told::Changed(14)), Event::Kept);
}

#[test]
fn a_leader_that_stops_says_so_behind_all_that_it_has_to_keep() {
    let (mut played, _) = Played::leading();
    played.gives(b"xy");
    assert_eq!(played.leadership.leave(), Event::Nothing);
    for part in b"xy" {
        let change = played.changes();
        assert_eq!((change.batch, change.head.left), (Some(vec![*part]), false));
        played.told(Told::Changed(u64::from(*part)));
    }
    let change = played.changes();
    assert_eq!((change.batch, change.head.left), (None, true));
    assert_eq!(played.told(Told::Changed(200)), Event::Left);
    assert_eq!(Played::new().leadership.leave(), Event::Left);
}

#[test]
fn what_was_replaced_ten_seconds_ago_is_forgotten() {
    let (mut played, _) = Played::leading();
    let mut compacted = Vec::new();
    for beat in 1..=30 {
        played.at(beat * (SECOND + 5_000));
        while let Some(ask) = played.leadership.ask(played.now) {
            match ask {
                Ask::Change(_) => played.told(Told::Changed(10 + beat)),
                Ask::Compact { revision } => {
                    compacted.push((beat, revision));
                    played.told(Told::Compacted)
                }
                ask => panic!("{ask:?}"),
            };
        }
    }
    let [(first, one), (second, two)] = compacted[..] else {
        panic!("{compacted:?}");
    };
    assert!(
        (19..=22).contains(&first) && (29..=32).contains(&second),
        "{compacted:?}"
    );
    assert_eq!((one, two), (19, 29), "as it was at the time before");
}

#[test]
fn a_server_that_was_faster_is_left_to_lead() {
    let mut played = Played::new();
    played.looks(None);
    played.changes();
    let other = Some((8, head("there", 2, 1)));
    assert_eq!(played.told(Told::Refused(other.clone())), Event::Nothing);
    played.looks(other);
    played.is_silent();
}

#[test]
fn whoever_asks_for_the_lead_and_hears_nothing_has_no_deadline_but_the_answer() {
    let mut played = Played::new();
    played.looks(None);
    let change = played.changes();
    assert_eq!(played.leadership.deadline(), None);
    played.at(100 * SECOND).told(Told::Nothing);
    // It asks again, which is all that it can do.
    let again = played.leadership.deadline().expect("it asks again");
    assert!(again > played.now);
    assert_eq!(played.at(again).changes(), change);
    assert_eq!(played.leadership.deadline(), None);
}

#[test]
fn a_server_that_cannot_read_what_was_kept_lets_others_try() {
    let mut played = Played::new();
    played.looks(None);
    played.changes();
    played.told(Told::Changed(10));
    let took = played.now;
    let mut lost = None;
    let mut revision = 10;
    while lost.is_none() && played.now < took + 2 * PATIENCE {
        let event = match played.leadership.ask(played.now) {
            Some(Ask::Load { .. }) => played.told(Told::Nothing),
            Some(Ask::Change(_)) => {
                revision += 1;
                played.told(Told::Changed(revision))
            }
            Some(ask) => panic!("{ask:?}"),
            None => {
                played.now = played.leadership.deadline().expect("it goes on");
                played.leadership.silence(played.now)
            }
        };
        lost = (event != Event::Nothing).then_some(event);
    }
    assert_eq!(lost, Some(Event::Lost(Loss::Silence)));
    assert!(played.now >= took + PATIENCE);
}

#[test]
fn whoever_stops_before_it_has_led_says_that_it_leaves_if_it_has_the_lead() {
    for is_made in [true, false] {
        let mut played = Played::new();
        played.looks(Some((7, head("there", 2, 30))));
        played.at(6 * SECOND).looks(Some((7, head("there", 2, 30))));
        let taking = played.changes();
        assert_eq!(played.leadership.leave(), Event::Nothing);
        if is_made {
            assert_eq!(played.told(Told::Changed(8)), Event::Nothing);
            assert!(played.changes().head.left);
            assert_eq!(played.told(Told::Changed(9)), Event::Left);
        } else {
            let other = Some((8, head("there", 2, 31)));
            assert_eq!(played.told(Told::Refused(other)), Event::Left);
        }
        assert_eq!(taking.head.number, 31);
    }
}

#[test]
fn what_is_forgotten_already_is_not_asked_to_be_forgotten_again() {
    let (mut played, _) = Played::leading();
    played.leadership = Leadership::new(head("here", 1, 0), 3600 * SECOND, true, 0);
    played.now = 0;
    played.looks(None);
    played.changes();
    played.told(Told::Changed(10));
    played.asks();
    played.told(Told::Batches(vec![], false));
    assert!(played.changes().head.leads);
    played.told(Told::Changed(11));
    for asked in 1..10 {
        played.at(asked * 11 * SECOND);
        assert_eq!(played.leadership.ask(played.now), None);
    }
}

#[test]
fn a_leader_that_always_has_something_to_keep_has_the_store_forget_too() {
    let (mut played, _) = Played::leading();
    let mut revision = 10;
    let mut compacted = 0;
    for at in 0..600 {
        played.at(at * 100_000);
        if played.leadership.wants_batch() {
            played.gives(b"x");
        }
        match played.leadership.ask(played.now) {
            Some(Ask::Compact { .. }) => {
                compacted += 1;
                played.told(Told::Compacted);
            }
            Some(_) => {
                revision += 1;
                played.told(Told::Changed(revision));
            }
            None => {}
        }
    }
    assert_eq!(compacted, 4, "in a minute, after the first 20 s");
}

/// What an answer has is never more than etcd can send in time, whatever the order in which large and small ones were kept.
#[test]
fn an_answer_has_as_many_batches_as_are_not_too_much_if_all_are_as_large_as_the_largest() {
    let megabyte = 1 << 20;
    for (largest, counts) in [
        (0, [4096, 1024]),
        (2_000, [4096, 1024]),
        (megabyte / 2, [16, 4]),
        (3 * megabyte, [2, 1]),
        (100 * megabyte, [1, 1]),
    ] {
        let mut played = Played::new();
        let left = Head {
            largest,
            left: true,
            ..head("other", 2, 5)
        };
        played.looks(Some((7, left)));
        assert_eq!(played.changes().head.largest, largest);
        assert_eq!(played.told(Told::Changed(10)), Event::Took);
        for count in counts {
            assert_eq!(played.asks(), Ask::Load { from: 0, count });
            // It was too much all the same.
            played.told(Told::Nothing);
            played.now += PAUSE;
        }
        // That time it is not, and the next one may have more.
        let Ask::Load { count, .. } = played.asks() else {
            panic!("it reads on");
        };
        played.told(Told::Batches(vec![(0, vec![])], true));
        let wanted = (count * 4).min(counts[0]);
        let (from, count) = (1, wanted);
        assert_eq!(played.asks(), Ask::Load { from, count });
    }
}

#[test]
fn the_head_has_the_size_of_the_largest_batch_until_a_sweep_has_made_that_useless() {
    let (mut played, _) = Played::leading();
    let mut revision = 10;
    let mut keeps = |sizes: &[usize], begins_sweep, ends_sweep| {
        played.leadership.give(Batch {
            parts: sizes.iter().map(|&size| vec![0; size]).collect(),
            begins_sweep,
            ends_sweep,
        });
        let mut largest = Vec::new();
        for _ in sizes {
            largest.push(played.changes().head.largest);
            revision += 1;
            played.told(Told::Changed(revision));
        }
        largest
    };
    assert_eq!(keeps(&[50, 900, 20], false, false), [50, 900, 900]);
    assert_eq!(keeps(&[30, 70], true, false), [900, 900]);
    assert_eq!(keeps(&[60], false, true), [70]);
    assert_eq!(keeps(&[10], false, false), [70]);
    assert_eq!(keeps(&[5, 8], true, true), [70, 8]);
}
