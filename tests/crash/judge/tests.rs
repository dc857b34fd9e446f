//! The judge finds each broken promise in a history made up for it, and nothing in the same history without the fault.

use super::*;

/// A history in milliseconds.
#[derive(Default)]
struct Tale {
    judge: Judge,
    events: Vec<Event>,
}

impl Tale {
    fn tell(&mut self, ms: Ns, who: u32, what: What) {
        let at = at(ms);
        self.events.push(Event { at, who, what });
    }

    /// This client's hold `who * 100` of the lock k: asked for and granted then, to be over then.
    fn lock(&mut self, who: u32, fence: u64, [asked, got, until]: [Ns; 3]) {
        self.hold(who, Space::Lock, 1, Some(fence), [asked, got, until]);
    }

    fn hold(&mut self, who: u32, space: Space, limit: usize, fence: Option<u64>, times: [Ns; 3]) {
        let [asked, got, until] = times.map(at);
        let (hold, key) = (number(who), "k");
        let grant = Grant {
            hold,
            space,
            key,
            limit,
            fence,
            asked,
            until,
        };
        self.events.push(Event {
            at: got,
            who,
            what: What::Granted(grant),
        });
    }

    fn finds(mut self) -> Vec<Kind> {
        let found = self.judge.hear(self.events);
        found.into_iter().map(|finding| finding.kind).collect()
    }
}

fn at(ms: Ns) -> Ns {
    ms * 1_000_000
}

fn number(who: u32) -> u64 {
    u64::from(who) * 100
}

fn ended(who: u32) -> What {
    What::Ended { hold: number(who) }
}

fn renewed(who: u32, until: Ns) -> What {
    let (hold, until) = (number(who), at(until));
    What::Renewed { hold, until }
}

fn tale(play: impl FnOnce(&mut Tale)) -> Vec<Kind> {
    let mut tale = Tale::default();
    play(&mut tale);
    tale.finds()
}

#[test]
fn holds_that_follow_each_other_are_no_overlap_and_a_moment_more_is_one() {
    for (until, found) in [(20, vec![]), (21, vec![Kind::Overlap])] {
        let heard = tale(|t| {
            t.lock(1, 1, [0, 1, until]);
            t.lock(2, 2, [5, 20, 30]);
        });
        assert_eq!(heard, found, "{until}");
    }
}

#[test]
fn a_hold_ends_when_its_release_leaves() {
    for (released, found) in [(20, vec![]), (21, vec![Kind::Overlap])] {
        let heard = tale(|t| {
            t.lock(1, 1, [0, 1, 1000]);
            t.tell(released, 1, ended(1));
            t.lock(2, 2, [5, 20, 30]);
        });
        assert_eq!(heard, found, "{released}");
    }
}

#[test]
fn a_renewal_after_the_deadline_shows_that_nobody_else_could_have_held() {
    let other = |t: &mut Tale| {
        t.lock(1, 1, [0, 1, 10]);
        t.lock(2, 2, [5, 20, 30]);
        t.tell(30, 2, ended(2));
    };
    assert_eq!(tale(other), []);
    let late = tale(|t| {
        other(t);
        t.tell(40, 1, renewed(1, 50));
    });
    assert_eq!(late, [Kind::Overlap]);
}

#[test]
fn a_release_does_not_make_a_hold_end_later_and_a_renewal_that_comes_in_behind_it_neither() {
    let heard = tale(|t| {
        t.lock(1, 1, [0, 1, 10]);
        t.tell(11, 1, ended(1));
        t.tell(12, 1, renewed(1, 50));
        t.lock(2, 2, [5, 20, 30]);
    });
    assert_eq!(heard, []);
}

#[test]
fn a_semaphore_has_as_many_holders_as_its_limit_and_no_more() {
    for (count, found) in [(3, vec![]), (4, vec![Kind::Overlap])] {
        let heard = tale(|t| {
            for who in 1..=count {
                let fence = Some(u64::from(who));
                t.hold(who, Space::Semaphore, 3, fence, [0, 1, 10]);
            }
        });
        assert_eq!(heard, found, "{count}");
    }
}

#[test]
fn a_lock_and_a_semaphore_of_one_name_are_two() {
    let heard = tale(|t| {
        t.hold(1, Space::Semaphore, 1, Some(1), [0, 1, 10]);
        t.lock(2, 2, [0, 1, 10]);
    });
    assert_eq!(heard, []);
}

#[test]
fn a_hold_without_a_fence_overlaps_as_any_other() {
    let heard = tale(|t| {
        t.hold(1, Space::Lock, 1, None, [0, 1, 10]);
        t.lock(2, 2, [0, 5, 10]);
    });
    assert_eq!(heard, [Kind::Overlap]);
}

#[test]
fn an_overlap_is_found_though_the_first_hold_was_heard_of_long_before() {
    let mut judge = Judge::default();
    let mut first = Tale::default();
    first.lock(1, 1, [0, 1, 60_000]);
    assert!(judge.hear(first.events).is_empty());
    for n in 1..50 {
        let mut other = Tale::default();
        other.tell(n * 1000, 0, What::Down { server: n });
        assert!(judge.hear(other.events).is_empty());
    }
    let mut second = Tale::default();
    second.lock(2, 2, [50_000, 50_001, 50_002]);
    let found = judge.hear(second.events);
    assert_eq!(found[0].kind, Kind::Overlap);
    assert_eq!(found.len(), 1);
}

#[test]
fn a_fence_falls_only_if_the_earlier_grant_had_arrived_before_the_later_request_left() {
    for (asked, found) in [(10, vec![]), (11, vec![Kind::FenceFalls])] {
        let heard = tale(|t| {
            t.lock(1, 7, [0, 10, 11]);
            t.hold(2, Space::Semaphore, 1, Some(6), [asked, 15, 20]);
        });
        assert_eq!(heard, found, "{asked}");
    }
}

#[test]
fn a_fence_falls_under_one_that_is_long_forgotten() {
    let mut judge = Judge::default();
    let mut first = Tale::default();
    first.lock(1, 7, [0, 10, 11]);
    first.tell(60_000, 0, What::Down { server: 1 });
    assert!(judge.hear(first.events).is_empty());
    assert!(judge.holds.is_empty());
    let mut second = Tale::default();
    second.lock(2, 6, [60_000, 60_001, 60_002]);
    let found = judge.hear(second.events);
    assert_eq!(found[0].kind, Kind::FenceFalls);
}

#[test]
fn a_fence_that_two_have_is_found_even_of_two_keys_and_if_nobody_knows_which_was_first() {
    let heard = tale(|t| {
        t.lock(1, 7, [0, 10, 11]);
        t.hold(2, Space::Semaphore, 1, Some(7), [0, 10, 20]);
    });
    assert_eq!(heard, [Kind::FenceTwice]);
}

#[test]
fn an_answer_without_a_request_is_found_and_one_that_never_comes() {
    let link = 5;
    let exchange = |t: &mut Tale| {
        t.tell(0, 1, What::Opened { link, server: 1 });
        t.tell(1, 1, What::Asked { link });
        t.tell(2, 1, What::Answered { link });
    };
    let by = By::Client;
    let heard = tale(|t| {
        exchange(t);
        t.tell(4, 1, What::Parted { link, by });
    });
    assert_eq!(heard, []);
    let heard = tale(|t| {
        exchange(t);
        t.tell(3, 1, What::Answered { link });
        t.tell(4, 1, What::Parted { link, by });
    });
    assert_eq!(heard, [Kind::Doubled]);
    let by = By::Patience;
    let heard = tale(|t| {
        exchange(t);
        t.tell(3, 1, What::Asked { link });
        t.tell(4, 1, What::Parted { link, by });
    });
    assert_eq!(heard, [Kind::Missing]);
}

#[test]
fn a_connection_may_end_with_its_server_and_not_before() {
    for (down, found) in [(3, vec![]), (5, vec![Kind::CutOff])] {
        let (link, server) = (5, 1);
        let heard = tale(|t| {
            t.tell(0, 1, What::Opened { link, server });
            t.tell(1, 1, What::Asked { link });
            t.tell(down, 0, What::Down { server });
            let by = By::Server;
            t.tell(4, 1, What::Parted { link, by });
        });
        assert_eq!(heard, found, "{down}");
    }
}

#[test]
fn a_refusal_before_the_deadline_needs_a_journal_that_was_lost_after_the_grant_was_asked_for() {
    let refused = What::Refused { hold: number(1) };
    for (refusal, forgot, found) in [
        (50, None, vec![]),
        (49, None, vec![Kind::EndedEarly]),
        (49, Some(20), vec![]),
        (49, Some(5), vec![Kind::EndedEarly]),
    ] {
        let heard = tale(|t| {
            t.lock(1, 1, [10, 15, 50]);
            if let Some(forgot) = forgot {
                t.tell(forgot, 0, What::Forgot);
            }
            t.tell(refusal, 1, refused.clone());
        });
        assert_eq!(heard, found, "{refusal} {forgot:?}");
    }
}

#[test]
fn a_finding_tells_the_history_of_its_key_and_of_no_other() {
    let mut tale = Tale::default();
    tale.lock(1, 1, [0, 1, 100]);
    tale.tell(10, 1, renewed(1, 110));
    tale.tell(20, 0, What::Down { server: 1 });
    tale.lock(2, 2, [5, 30, 130]);
    let grant = Grant {
        hold: 7,
        space: Space::Lock,
        key: "other",
        limit: 1,
        fence: None,
        asked: 0,
        until: at(5),
    };
    tale.tell(3, 3, What::Granted(grant));
    let found = tale.judge.hear(tale.events);
    let text = format!("{:?}", found[0]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(
        lines[0].starts_with("Overlap: at 30.000 ms: hold 100 of Lock k fence 0"),
        "{text}"
    );
    assert_eq!(
        lines[2],
        "  10.000 ms client 1: renewed hold 100 until 110.000 ms"
    );
    assert_eq!(lines[3], "  20.000 ms client 0: Down { server: 1 }");
}
