//! Signals that wait behind a long answer, and the budget of all that waits: what is kept once, and who is cut off for it.

use super::signals::*;
use super::subscribers::*;
use super::*;
use dflockd::hub::Refused;

/// A server with so many keys that the answer to stats takes some turns.
fn with_a_long_answer() -> (Dialogue, usize) {
    with_a_budget(64 * 1024 * 1024)
}

/// The same, where so many bytes of signals may wait.
fn with_a_budget(max_backlog: usize) -> (Dialogue, usize) {
    let mut d = Dialogue::with(|s| {
        s.locks.max_locks = 100_000;
        s.max_backlog = max_backlog;
    });
    let keeper = d.connect();
    for n in 0..5000 {
        let request = frame("l", &format!("key-{n}"), "0 100000");
        d.0.send_only(keeper, request.as_bytes());
        // Each turn looks at all that there is.
        if n % 50 == 49 {
            d.0.turn();
        }
    }
    d.0.settle();
    d.heard(keeper);
    (d, keeper)
}

#[test]
fn signals_that_come_during_stats_stand_behind_that_line() {
    let (mut d, b) = with_a_long_answer();
    let a = d.listener("c", "");
    d.0.send_only(a, b"stats\n_\n_\nping\n_\n_\n");
    d.0.turn();
    let mut expected = String::new();
    for n in 0..3 {
        assert!(!d.0.clients[a].heard.contains(&b'\n'), "it takes longer");
        d.0.send_only(b, signal("c", &n.to_string()).as_bytes());
        d.0.turn();
        d.hears(b, "ok 1\n");
        expected += &sig("c", &n.to_string());
    }
    d.0.settle();
    let heard = d.heard(a);
    let (stats, rest) = heard.split_at(heard.find('\n').unwrap() + 1);
    assert_eq!(stats_in(stats).field("locks").list().len(), 5000);
    assert_eq!(rest, expected + "ok\n");
}

#[test]
fn a_subscriber_that_asks_for_stats_while_it_is_flooded_hears_whole_lines() {
    let (mut d, _) = with_a_long_answer();
    let (a, b, c) = (d.listener("c", ""), d.connect(), d.connect());
    let (mut count, mut asked, mut heard) = (0, 0, String::new());
    for turn in 0..300 {
        for _ in 0..20 {
            d.0.send_only(b, signal("c", &count.to_string()).as_bytes());
            count += 1;
        }
        d.0.send_only(c, signal("other", "x").as_bytes());
        if turn % 7 == 0 {
            d.0.send_only(a, b"stats\n_\n_\n");
            asked += 1;
        }
        d.0.turn();
        // Pieces that end anywhere.
        d.0.feed_client(a, 3000 * (turn % 17));
        heard += &d.heard(a);
    }
    d.wakes(a);
    heard += &d.heard(a);
    let mut signals = 0;
    for line in heard.split_inclusive('\n') {
        if line.starts_with("ok ") {
            stats_in(line);
            asked -= 1;
        } else {
            assert_eq!(line, sig("c", &signals.to_string()));
            signals += 1;
        }
    }
    assert_eq!((asked, signals), (0, count));
    d.is_open(a);
    assert!(!d.heard(b).contains("ok 0"));
}

#[test]
fn what_waits_behind_a_stats_line_cuts_nobody_off() {
    let (mut d, b) = with_a_long_answer();
    let a = d.listener("c", "");
    d.sleeps(a);
    d.send(a, "stats\n_\n_\n");
    let payload = "x".repeat(LARGEST);
    for n in 0..200 {
        d.signals(b, "c", &n.to_string(), 1);
        if n < 20 {
            d.signals(b, "c", &payload, 1);
        }
    }
    d.0.feed_client(a, 100_000);
    d.0.settle();
    d.signals(b, "c", "200", 1);
    d.wakes(a);
    let heard = d.heard(a);
    let (stats, rest) = heard.split_at(heard.find('\n').unwrap() + 1);
    stats_in(stats);
    let small = rest.lines().filter(|line| line.len() < 100);
    let expected = (0..=200).map(|n| format!("sig c {n}"));
    assert!(small.eq(expected));
    assert_eq!(rest.lines().count(), 221);
    d.is_open(a);
}

/// What waited behind the answer counts for nothing when that is out, either.
#[test]
fn after_a_stats_line_64_more_may_be_left() {
    let (mut d, b) = with_a_long_answer();
    let a = d.listener("c", "");
    d.0.send_only(a, b"stats\n_\n_\n");
    d.0.turn();
    for _ in 0..100 {
        d.0.send_only(b, signal("c", "behind").as_bytes());
    }
    d.sleeps(a);
    // All of the answer goes out, and nothing of what is behind it.
    loop {
        d.0.settle();
        let output = d.0.output(a);
        let end = output.iter().position(|&byte| byte == b'\n');
        let (len, is_all) = (output.len(), end.is_some());
        d.0.feed_client(a, end.map_or(len, |end| end + 1));
        if is_all {
            break;
        }
    }
    assert!(d.heard(a).ends_with('\n'));
    d.hears(a, "");
    d.0.settle();
    d.hears(b, &"ok 1\n".repeat(100));
    for _ in 0..PUSHES {
        d.signals(b, "c", "x", 1);
    }
    d.signals(b, "c", "x", 0);
    d.is_closed(a);
}

impl Dialogue {
    /// A client that listens, asks for a long answer, and reads nothing of it.
    #[track_caller]
    fn surveyor(&mut self, pattern: &str, group: &str) -> usize {
        let client = self.listener(pattern, group);
        self.sleeps(client);
        self.send(client, "stats\n_\n_\n");
        client
    }

    /// How many listeners were cut off.
    fn cut_off(&mut self) -> u64 {
        let all = self.0.refusals().into_iter();
        let cut = all.filter(|refusals| refusals.refused == Refused::Listener);
        cut.map(|refusals| refusals.count).sum()
    }
}

/// A payload whose line costs some 10 kB.
fn large(n: usize) -> String {
    format!("{n:0>10000}")
}

#[test]
fn what_waits_for_many_listeners_is_kept_once() {
    let (mut d, b) = with_a_budget(1024 * 1024);
    let all: Vec<usize> = (0..50).map(|_| d.surveyor("c", "")).collect();
    for n in 0..90 {
        d.signals(b, "c", &large(n), 50);
    }
    for a in all {
        d.wakes(a);
        let heard = d.heard(a);
        let rest = heard.split_inclusive('\n').skip(1);
        let expected = (0..90).map(|n| sig("c", &large(n)));
        assert!(rest.eq(expected));
    }
    assert_eq!(d.cut_off(), 0);
}

#[test]
fn over_the_budget_the_listener_for_which_most_waits_is_cut_off_first() {
    let (mut d, p) = with_a_budget(100_000);
    let (a, b, c) = (
        d.surveyor("a", ""),
        d.surveyor("b", ""),
        d.surveyor("c", ""),
    );
    for (channel, count) in [("a", 2), ("b", 5), ("c", 2)] {
        for n in 0..count {
            d.signals(p, channel, &large(n), 1);
        }
    }
    assert_eq!(d.cut_off(), 0);
    d.signals(p, "c", &large(2), 1);
    d.is_closed(b);
    assert_eq!(d.cut_off(), 1);
    for n in 3..7 {
        d.signals(p, "c", &large(n), 1);
    }
    // Now it is the one for which most would wait itself.
    d.signals(p, "c", &large(7), 0);
    d.is_closed(c);
    assert_eq!(d.cut_off(), 1);
    d.wakes(a);
    assert_eq!(d.heard(a).lines().count(), 3);
}

#[test]
fn a_group_passes_over_the_member_that_the_budget_has_no_room_for() {
    let (mut d, p) = with_a_budget(100_000);
    let a = d.surveyor("c", "g");
    for n in 0..9 {
        d.signals(p, "c", &large(n), 1);
    }
    let b = d.listener("c", "g");
    d.signals(p, "c", &large(9), 1);
    d.hears(b, &sig("c", &large(9)));
    d.is_open(a);
    d.0.end_only(b);
    d.0.settle();
    d.signals(p, "c", &large(10), 0);
    d.is_closed(a);
    assert_eq!(d.cut_off(), 1);
}

#[test]
fn signals_that_the_kernel_refused_come_under_the_budget_too() {
    let (mut d, p) = with_a_budget(150_000);
    let all: Vec<usize> = (0..10).map(|_| d.listener("c", "")).collect();
    for &a in &all {
        d.sleeps(a);
    }
    let reader = d.listener("c", "");
    // 100 kB are left of the first, 200 kB with the second: that was one turn.
    d.signals(p, "c", &large(0), 11);
    d.signals(p, "c", &large(1), 11);
    assert_eq!(d.cut_off(), 0);
    // Three of 20 kB have to go, then three of 30 kB.
    d.signals(p, "c", &large(2), 8);
    assert_eq!(d.cut_off(), 3);
    d.signals(p, "c", &large(3), 5);
    assert_eq!(d.cut_off(), 3);
    let open = all.iter().filter(|&&at| !d.0.clients[at].closed);
    assert_eq!(open.count(), 4);
    assert_eq!(d.heard(reader).lines().count(), 4);
}

#[test]
fn the_budget_counts_nothing_that_a_reader_takes_in_its_turn() {
    let (mut d, p) = with_a_budget(1);
    let a = d.listener("c", "");
    let all: String = (0..100).map(|n| signal("c", &large(n))).collect();
    d.send(p, &all);
    d.hears(p, &"ok 1\n".repeat(100));
    let expected: String = (0..100).map(|n| sig("c", &large(n))).collect();
    d.hears(a, &expected);
    assert_eq!(d.cut_off(), 0);
}

#[test]
fn without_a_budget_as_much_waits_as_comes() {
    let (mut d, p) = with_a_budget(0);
    let a = d.surveyor("c", "");
    for n in 0..1000 {
        d.signals(p, "c", &large(n), 1);
    }
    d.wakes(a);
    assert_eq!(d.heard(a).lines().count(), 1001);
    assert_eq!(d.cut_off(), 0);
}

/// What follows a long answer does so as there is room, and requests wait for it.
#[test]
fn what_waited_behind_stats_comes_before_the_next_answer_however_much_it_is() {
    let (mut d, p) = with_a_long_answer();
    let a = d.surveyor("c", "");
    d.send(a, &(frame("ping", "_", "_") + &unlisten("c", "")));
    let mut expected = String::new();
    for n in 0..100 {
        d.signals(p, "c", &large(n), 1);
        expected += &sig("c", &large(n));
    }
    // The answer is taken, and some of what is behind it; more comes.
    while !d.0.clients[a].heard.contains(&b'\n') {
        d.0.feed_client(a, 10_000);
        d.0.settle();
    }
    for n in 100..110 {
        d.signals(p, "c", &large(n), 1);
        expected += &sig("c", &large(n));
    }
    d.wakes(a);
    let heard = d.heard(a);
    let (stats, rest) = heard.split_at(heard.find('\n').unwrap() + 1);
    stats_in(stats);
    assert_eq!(rest, expected + "ok\nok\n");
    d.signals(p, "c", "x", 0);
}
