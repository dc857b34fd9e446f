//! Subscribers that are slow, busy, gone or many, and publishers that go: who is cut off, and who is not.

use super::signals::*;
use super::*;

/// Signals that may be left, and one that is the largest.
pub const PUSHES: usize = 64;
pub const LARGEST: usize = 65_536 - "sig c ".len();

/// More listeners than a turn can serve.
const MANY: usize = 10_000;

/// No turn gives a signal to so many.
const A_TURN: usize = 1000;

impl Dialogue {
    /// The client takes nothing any more.
    pub fn sleeps(&mut self, client: usize) {
        self.0.clients[client].appetite = 0;
    }

    /// It takes all there is, and goes on to.
    pub fn wakes(&mut self, client: usize) {
        self.0.feed_client(client, usize::MAX);
        self.0.settle();
    }

    /// A client that listens, takes nothing, and is owed so much that the next signal is too much.
    pub fn stuck_listener(&mut self, pattern: &str, group: &str, publisher: usize) -> usize {
        let client = self.connect();
        let pattern_of_its_own = format!("own.{client}");
        self.says(client, listen(&pattern_of_its_own, ""), "ok\n");
        self.says(client, listen(pattern, group), "ok\n");
        self.sleeps(client);
        for _ in 0..PUSHES {
            self.signals(publisher, &pattern_of_its_own, "x", 1);
        }
        client
    }

    /// Turns until the client hears something. Returns how many of these listeners at most had their first signal in one.
    fn fan_out(&mut self, listeners: &[usize], until: usize) -> usize {
        let count = |d: &Dialogue| {
            let heard = |&&at: &&usize| !d.0.clients[at].heard.is_empty();
            listeners.iter().filter(heard).count()
        };
        let (mut before, mut most) = (count(self), 0);
        for turn in 0.. {
            assert!(turn < 1000, "it has no end");
            self.0.turn();
            let now = count(self);
            most = most.max(now - before);
            before = now;
            if !self.0.clients[until].heard.is_empty() {
                break;
            }
        }
        most
    }

    fn many_listeners(&mut self) -> Vec<usize> {
        let listeners: Vec<usize> = (0..MANY).map(|_| self.0.connect()).collect();
        for &listener in &listeners {
            self.0.send_only(listener, listen("c", "").as_bytes());
        }
        self.0.settle();
        for &listener in &listeners {
            self.hears(listener, "ok\n");
        }
        listeners
    }
}

#[test]
fn with_63_signals_left_a_subscriber_hears_the_next_and_with_64_it_is_cut_off() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener("c", ""), d.connect());
    d.sleeps(a);
    for n in 0..PUSHES {
        d.signals(b, "c", &n.to_string(), 1);
    }
    d.is_open(a);
    d.signals(b, "c", "64", 0);
    d.is_closed(a);
    d.hears(a, "");
    d.signals(b, "c", "65", 0);
    assert!(d.channels(b).is_empty());
}

#[test]
fn a_subscriber_that_takes_one_signal_has_room_for_one() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener("c", ""), d.connect());
    d.sleeps(a);
    for _ in 0..PUSHES {
        d.signals(b, "c", "x", 1);
    }
    let one = sig("c", "x").len();
    for _ in 0..100 {
        d.0.feed_client(a, one);
        d.signals(b, "c", "x", 1);
    }
    // Part of one is not enough.
    d.0.feed_client(a, one - 1);
    d.signals(b, "c", "x", 0);
    d.is_closed(a);
}

#[test]
fn what_one_turn_piles_up_cuts_nobody_off() {
    let mut d = Dialogue::new();
    let (a, slow, b) = (d.listener("c", ""), d.listener("c", ""), d.connect());
    d.sleeps(slow);
    // As much as a turn executes for one, and more than may be left.
    d.0.send_only(b, signal("c", "x").repeat(120).as_bytes());
    d.0.turn();
    d.hears(b, &"ok 2\n".repeat(120));
    d.hears(a, &sig("c", "x").repeat(120));
    d.is_open(slow);
    // It takes them late, but in time.
    d.wakes(slow);
    d.hears(slow, &sig("c", "x").repeat(120));
    d.signals(b, "c", "y", 2);
    d.hears(slow, "sig c y\n");
}

#[test]
fn a_subscriber_that_reads_is_never_cut_off_however_much_there_is() {
    let mut d = Dialogue::new();
    let publishers: Vec<usize> = (0..8).map(|_| d.connect()).collect();
    let a = d.listener("c", "");
    let payload = "x".repeat(5000);
    for _ in 0..50 {
        for &publisher in &publishers {
            d.0.send_only(publisher, signal("c", &payload).repeat(20).as_bytes());
        }
        d.0.settle();
    }
    assert_eq!(d.heard(a).lines().count(), 50 * 8 * 20);
    for publisher in publishers {
        d.hears(publisher, &"ok 1\n".repeat(50 * 20));
    }
    d.is_open(a);
}

#[test]
fn a_mebibyte_left_is_too_much_with_fewer_signals() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener("c", ""), d.connect());
    d.sleeps(a);
    let payload = "x".repeat(LARGEST);
    // Sixteen lines of 64 KiB and an LF.
    for _ in 0..16 {
        d.signals(b, "c", &payload, 1);
    }
    d.signals(b, "c", "x", 0);
    d.is_closed(a);
}

#[test]
fn who_is_ten_large_signals_behind_and_keeps_up_is_not_cut_off() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener("c", ""), d.connect());
    d.sleeps(a);
    let payload = "x".repeat(LARGEST);
    for n in 0..40 {
        d.signals(b, "c", &payload, 1);
        if n >= 10 {
            d.0.feed_client(a, LARGEST + "sig c \n".len());
        }
    }
    d.is_open(a);
    d.wakes(a);
    assert_eq!(d.heard(a).lines().count(), 40);
}

#[test]
fn several_are_cut_off_by_one_signal_and_the_others_hear_it() {
    let mut d = Dialogue::new();
    let b = d.connect();
    let stuck: Vec<usize> = (0..3).map(|_| d.stuck_listener("c", "", b)).collect();
    let well = d.listener("c", "");
    let last = d.stuck_listener("*", "", b);
    d.signals(b, "c", "x", 1);
    d.hears(well, "sig c x\n");
    for client in stuck {
        d.is_closed(client);
    }
    d.is_closed(last);
    assert_eq!(d.channels(b), ["c - 1"]);
}

#[test]
fn who_is_cut_off_leaves_its_locks_to_the_next_at_once() {
    let mut d = Dialogue::new();
    let b = d.connect();
    let a = d.connect();
    d.takes(a, "k");
    d.says(a, listen("c", ""), "ok\n");
    let next = d.connect();
    d.says(next, "l\nk\n10\n", "");
    d.sleeps(a);
    for _ in 0..PUSHES {
        d.signals(b, "c", "x", 1);
    }
    d.0.send_only(b, signal("c", "x").as_bytes());
    d.0.turn();
    d.is_granted(next, 33);
    d.hears(b, "ok 0\n");
    d.0.settle();
}

#[test]
fn a_publisher_that_is_cut_off_by_its_own_signal_hears_no_more() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener("c", ""), d.listener("c", ""));
    d.sleeps(a);
    for _ in 0..PUSHES {
        d.says(b, signal("c", "x"), "sig c x\nok 2\n");
    }
    d.send(a, signal("c", "y") + &signal("c", "z"));
    d.is_closed(a);
    // The one that cut it off was sent; what was behind it was not executed.
    d.hears(b, "sig c y\n");
    assert_eq!(d.0.sessions(), 1);
}

#[test]
fn who_has_gone_in_this_turn_is_not_counted() {
    let mut d = Dialogue::new();
    let listeners: Vec<usize> = (0..5).map(|_| d.listener("c", "")).collect();
    let b = d.connect();
    d.0.end_only(listeners[0]);
    d.0.reset_only(listeners[1]);
    d.0.send_only(listeners[2], b"bogus\n");
    d.0.send_only(listeners[2], &[b'x'; 300]);
    d.0.send_only(listeners[2], b"\n");
    d.0.send_only(b, signal("c", "x").as_bytes());
    d.0.settle();
    d.hears(b, "ok 2\n");
    d.hears(listeners[0], "");
    d.hears(listeners[2], "error\n");
    for &listener in &listeners[3..] {
        d.hears(listener, "sig c x\n");
    }
}

#[test]
fn a_fan_out_to_ten_thousand_takes_turns_and_counts_all() {
    let mut d = Dialogue::new();
    let listeners = d.many_listeners();
    let (b, c) = (d.connect(), d.connect());
    d.0.send_only(b, signal("c", "x").as_bytes());
    d.0.send_only(c, b"ping\n_\n_\n");
    let most = d.fan_out(&listeners, c);
    assert!(most < A_TURN, "others wait while {most} are served");
    d.hears(b, "");
    let most = d.fan_out(&listeners, b);
    assert!(most < A_TURN, "{most} in a turn");
    d.hears(b, &format!("ok {MANY}\n"));
    for listener in listeners {
        d.hears(listener, "sig c x\n");
    }
    d.0.settle();
}

#[test]
fn signals_behind_a_long_fan_out_come_after_it() {
    let mut d = Dialogue::new();
    let listeners = d.many_listeners();
    let (b, c) = (d.connect(), d.listener("*", "g"));
    d.0.send_only(b, (signal("c", "1") + &signal("c", "3")).as_bytes());
    d.0.send_only(c, (signal("c", "2") + "ping\n_\n_\n").as_bytes());
    d.0.settle();
    let count = MANY + 1;
    d.hears(b, &format!("ok {count}\nok {count}\n"));
    d.hears(c, &format!("sig c 1\nsig c 2\nok {count}\nok\nsig c 3\n"));
    for listener in listeners {
        d.hears(listener, "sig c 1\nsig c 2\nsig c 3\n");
    }
}

#[test]
fn a_publisher_that_hangs_up_in_the_middle_is_answered_and_everybody_hears_it() {
    let mut d = Dialogue::new();
    let listeners = d.many_listeners();
    let b = d.connect();
    d.0.send_only(b, (signal("c", "1") + &signal("c", "2")).as_bytes());
    d.0.turn();
    d.hears(b, "");
    d.0.end_only(b);
    d.0.settle();
    d.hears(b, &format!("ok {MANY}\nok {MANY}\n"));
    d.is_closed(b);
    for listener in listeners {
        d.hears(listener, "sig c 1\nsig c 2\n");
    }
}

#[test]
fn a_publisher_that_breaks_off_in_the_middle_has_signalled() {
    let mut d = Dialogue::new();
    let listeners = d.many_listeners();
    let b = d.connect();
    d.0.send_only(b, (signal("c", "1") + &signal("c", "2")).as_bytes());
    d.0.turn();
    d.0.reset_only(b);
    d.0.turn();
    // Whoever has its place now is not answered for it.
    let next = d.0.connect();
    d.0.settle();
    d.hears(next, "");
    d.hears(b, "");
    for listener in listeners {
        d.hears(listener, "sig c 1\n");
    }
}

#[test]
fn listeners_that_go_in_the_middle_of_a_fan_out_are_not_waited_for() {
    let mut d = Dialogue::new();
    let listeners = d.many_listeners();
    let b = d.connect();
    d.0.send_only(b, signal("c", "x").as_bytes());
    d.0.turn();
    for &listener in &listeners {
        d.0.reset_only(listener);
    }
    let late = d.0.connect();
    d.0.send_only(late, listen("d", "").as_bytes());
    d.0.settle();
    let heard = (listeners.iter())
        .filter(|&&listener| !d.0.clients[listener].heard.is_empty())
        .count();
    d.hears(b, &format!("ok {heard}\n"));
    assert!(heard < A_TURN);
    d.hears(late, "ok\n");
    assert_eq!(d.channels(b), ["d - 1"]);
    assert_eq!(d.0.sessions(), 2);
}

#[test]
fn a_hundred_thousand_subscriptions_that_end_leave_nothing() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    for n in 0..100_000 {
        let (pattern, group) = (format!("p{n}.*.{}", n % 7), ["", "g"][n % 2]);
        d.0.send_only(
            a,
            (listen(&pattern, group) + &unlisten(&pattern, group)).as_bytes(),
        );
        d.0.turn();
    }
    d.0.settle();
    d.hears(a, &"ok\n".repeat(200_000));
    assert!(d.channels(b).is_empty());
    d.at(22_999);
    d.is_open(a);
    d.at(23_000);
    d.hears(a, "error\n");
}

#[test]
fn who_goes_with_thousands_of_subscriptions_leaves_nothing() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.listener(">", ""));
    for n in 0..30_000 {
        let request = listen(&format!("p{n}.x.y.z"), ["", "g"][n % 2]);
        d.0.send_only(a, request.as_bytes());
        // Each turn looks at all that there is.
        if n % 100 == 99 {
            d.0.turn();
        }
    }
    d.0.settle();
    d.0.reset_only(a);
    let mut turns = 0;
    while d.0.sessions() > 1 {
        d.0.turn();
        turns += 1;
        assert!(turns < 1000, "something is left of it");
    }
    assert!(turns > 3, "{turns} turns for so much");
    d.0.settle();
    assert_eq!(d.channels(b), ["> - 1"]);
}

#[test]
fn a_subscriber_that_takes_nothing_for_the_write_timeout_is_cut_off_too() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener("c", ""), d.listener("d", ""));
    d.sleeps(a);
    d.signals(b, "c", "1", 1);
    d.at(3_000);
    // That it is given more is no progress of its own.
    d.signals(b, "c", "2", 1);
    d.at(4_999);
    d.is_open(a);
    d.at(5_000);
    d.is_closed(a);
    d.signals(b, "c", "3", 0);
}

/// Who was not reached when the drain closed it is not counted.
#[test]
fn a_signal_that_is_on_its_way_when_a_drain_begins_is_answered() {
    let mut d = Dialogue::new();
    let listeners = d.many_listeners();
    let b = d.connect();
    d.0.send_only(b, signal("c", "x").as_bytes());
    d.0.turn();
    d.drain();
    let mut count = 0;
    for listener in listeners {
        d.is_shut(listener);
        let heard = d.heard(listener);
        assert!(heard.is_empty() || heard == "sig c x\n", "{heard:?}");
        count += usize::from(!heard.is_empty());
    }
    d.hears(b, &format!("ok {count}\n"));
    d.is_shut(b);
}
