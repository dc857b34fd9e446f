//! Deadlocks as clients meet them: who is told `error_deadlock`, what `id` is, and where a hold is that was renewed.

use super::*;

fn id(name: &str) -> String {
    format!("id\n_\n{name}\n")
}

impl Dialogue {
    /// A client that speaks for this owner.
    #[track_caller]
    fn connect_as(&mut self, owner: &str) -> usize {
        let client = self.connect();
        self.says(client, id(owner), "ok\n");
        client
    }

    /// The client enqueues and is granted it at once; returns the token.
    #[track_caller]
    fn acquires(&mut self, client: usize, key: &str) -> String {
        self.send(client, format!("e\n{key}\n\n"));
        let heard = self.heard(client);
        let token = heard
            .strip_prefix("acquired ")
            .and_then(|rest| rest.get(..32));
        token.unwrap_or_else(|| panic!("{heard:?}")).to_string()
    }

    fn stats_of(&mut self, client: usize) -> String {
        self.send(client, "stats\n_\n\n");
        self.heard(client)
    }

    /// Whether somebody else would get the lock at once.
    #[track_caller]
    fn is_free(&mut self, key: &str) -> bool {
        let other = self.connect();
        self.send(other, format!("l\n{key}\n0\n"));
        let heard = self.heard(other);
        self.end(other);
        heard != "timeout\n"
    }
}

#[test]
fn the_newest_of_a_ring_is_told_and_the_others_notice_nothing() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.takes(a, "a");
    d.takes(b, "b");
    let of_c = d.takes(c, "c");
    d.says(a, "l\nb\n10\n", "");
    d.says(b, "l\nc\n10\n", "");
    d.says(c, "l\na\n10\n", "error_deadlock\n");
    for client in [a, b] {
        d.hears(client, "");
    }
    // It keeps what it has, and may ask for something else.
    d.is_open(c);
    d.takes(c, "d");
    d.says(c, release("c", &of_c), "ok\n");
    d.is_granted(b, 33);
    d.end(b);
    d.is_granted(a, 33);
}

#[test]
fn all_four_that_wait_can_be_told() {
    for (hold, wait) in [
        ("l\nof-b\n0\n", "l\nof-a\n10\n"),
        ("l\nof-b\n0\n", "e\nof-a\n\nw\nof-a\n10\n"),
        ("sl\nof-b\n0 1\n", "sl\nof-a\n10 1\n"),
        ("sl\nof-b\n0 1\n", "se\nof-a\n1\nsw\nof-a\n10\n"),
    ] {
        let mut d = Dialogue::new();
        let (a, b) = (d.connect(), d.connect());
        d.send(a, hold.replace("of-b", "of-a"));
        d.is_granted(a, 33);
        d.send(b, hold);
        d.is_granted(b, 33);
        let answers = |told: &str| match wait.contains('e') {
            true => format!("queued\n{told}"),
            false => told.to_string(),
        };
        d.says(a, wait.replace("of-a", "of-b"), &answers(""));
        d.says(b, wait, &answers("error_deadlock\n"));
    }
}

#[test]
fn a_wait_that_is_refused_has_consumed_its_record() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let of_a = d.takes(a, "a");
    d.takes(b, "b");
    d.says(a, "l\nb\n10\n", "");
    d.says(b, "e\na\n\n", "queued\n");
    d.says(b, "w\na\n10\n", "error_deadlock\n");
    d.says(b, "w\na\n10\n", "error_not_enqueued\n");
    d.says(b, release("a", &of_a), "ok\n");
    // It had left the queue: the lock goes to who asks next.
    d.takes(b, "a");
}

#[test]
fn who_asks_for_what_it_has_is_told() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.says(a, "l\nk\n10\n", "error_deadlock\n");
    d.says(a, "e\nk\n\nw\nk\n10\n", "queued\nerror_deadlock\n");
    d.says(a, release("k", &token), "ok\n");
    assert_eq!(d.keys(), 0);
}

#[test]
fn what_is_pipelined_behind_a_refusal_is_executed() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "k");
    let frames = format!("l\nk\n10\nping\n_\n_\n{}", release("k", &token));
    d.says(a, frames, "error_deadlock\nok\nok\n");
}

#[test]
fn timeout_0_is_a_timeout() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.takes(a, "k");
    d.says(a, "l\nk\n0\n", "timeout\n");
    d.says(a, "e\nk\n\nw\nk\n0\n", "queued\ntimeout\n");
}

#[test]
fn a_full_queue_is_a_full_queue() {
    let mut d = Dialogue::with(|s| s.locks.max_waiters = 1);
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.says(a, "l\nk\n10\n", "error_max_waiters\n");
}

#[test]
fn a_semaphore_with_a_holder_that_runs_is_waited_for() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    for client in [a, b] {
        d.send(client, "sl\npool\n0 2\n");
        d.is_granted(client, 33);
    }
    d.says(a, "sl\npool\n10 2\n", "");
    d.says(b, "sl\npool\n10 2\n", "error_deadlock\n");
}

#[test]
fn a_record_that_is_promoted_into_a_knot_ends_the_wait_of_its_connection() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let of_b = d.takes(b, "k");
    d.takes(c, "m");
    d.says(a, "e\nk\n\n", "queued\n");
    // What is behind the wait is executed as soon as that has ended.
    d.says(a, "l\nm\n10\nping\n_\n_\n", "");
    d.says(c, "l\nk\n10\n", "");
    d.says(b, release("k", &of_b), "ok\n");
    d.hears(a, "error_deadlock\nok\n");
    d.hears(c, "");
    d.send(a, "w\nk\n10\n");
    let token = d.is_granted(a, 33);
    d.says(a, release("k", &token), "ok\n");
    d.is_granted(c, 33);
}

#[test]
fn without_detection_they_wait_for_as_long_as_they_said() {
    let mut d = Dialogue::with(|s| s.locks.deadlock_detection = false);
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "a");
    d.takes(b, "b");
    d.says(a, "l\nb\n10\n", "");
    d.says(b, "l\na\n11\n", "");
    d.at(9_999);
    d.hears(a, "");
    d.at(10_000);
    d.hears(a, "timeout\n");
    d.hears(b, "");
    d.at(11_000);
    d.hears(b, "timeout\n");
    let stats = d.stats_of(a);
    assert!(stats.contains(r#""deadlocks":0,"#), "{stats}");
}

#[test]
fn stats_counts_what_was_refused() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let none = r#""deadlocks":0,"deadlock_searches_cut":0,"#;
    assert!(d.stats_of(a).contains(none));
    d.takes(a, "k");
    for count in 1..4 {
        d.says(a, "l\nk\n10\n", "error_deadlock\n");
        let stats = d.stats_of(a);
        assert!(
            stats.contains(&format!(r#""deadlocks":{count},"#)),
            "{stats}"
        );
    }
}

#[test]
fn an_id_is_1_to_128_printable_bytes() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let long = "n".repeat(128);
    for name in ["x", "host-1:4711/worker 3", "~!\"\\", &long] {
        d.says(a, id(name), "ok\n");
    }
    for name in [
        "",
        " ",
        "\t",
        "a\tb",
        "a\rb",
        "\u{e9}",
        "\0",
        "\u{7f}",
        &(long + "n"),
    ] {
        d.says(a, id(name), "error\n");
    }
    d.says(a, b"id\n_\n\xff\n", "error\n");
    d.is_open(a);
}

#[test]
fn an_id_is_trimmed_and_its_key_is_ignored() {
    let mut d = Dialogue::new();
    let a = d.connect();
    for key in ["", " ", "two words", "\t", "\r\r"] {
        d.says(a, format!("id\n{key}\n \t x \r\n"), "ok\n");
    }
    d.takes(a, "k");
    assert!(d.stats_of(a).contains(r#""owner":"x","#));
}

#[test]
fn an_id_is_said_by_who_holds_and_queues_for_nothing() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(a, id("x"), "error\n");
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(b, id("x"), "error\n");
    d.says(b, "w\nk\n0\n", "timeout\n");
    d.says(b, id("x"), "ok\n");
    d.says(a, release("k", &token), "ok\n");
    d.says(a, id("x"), "ok\n");
    // Again, and another one; a subscription does not matter.
    d.says(
        a,
        format!("listen\nc\n\n{}{}", id("x"), id("y")),
        "ok\nok\nok\n",
    );
}

#[test]
fn an_id_may_be_pipelined_before_what_it_is_for() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(a, format!("{}l\nk\n0\n", id("x")));
    let heard = d.heard(a);
    assert!(heard.starts_with("ok\nok "), "{heard:?}");
    assert!(d.stats_of(a).contains(r#""owner":"x","#));
}

#[test]
fn an_id_is_taken_in_a_drain_and_not_before_the_secret() {
    let mut d = Dialogue::with(|s| s.secret = Some(b"sesame".to_vec()));
    let a = d.connect();
    d.says(a, id("x"), "error_auth\n");
    let a = d.connect();
    d.says(a, format!("auth\n_\nsesame\n{}", id("x")), "ok\nok\n");
    d.takes(a, "k");
    d.drain();
    let b = d.connect();
    d.says(b, format!("auth\n_\nsesame\n{}", id("x")), "ok\nok\n");
    d.says(a, id("x"), "error\n");
    d.is_open(a);
}

#[test]
fn stats_shows_the_owner_where_there_is_one() {
    let mut d = Dialogue::with(|s| s.locks.auto_release = false);
    let (a, b) = (d.connect(), d.connect_as("the \"x\""));
    d.takes(a, "of-a");
    d.takes(b, "of-b");
    let shows = |stats: &str, conn: u32| {
        let none = r#"{"key":"of-a","owner_conn_id":1,"lease_expires_in_s":"#;
        let name = r#","owner":"the \"x\"","lease_expires_in_s":"#;
        let name = format!(r#"{{"key":"of-b","owner_conn_id":{conn}{name}"#);
        assert!(stats.contains(none) && stats.contains(&name), "{stats}");
    };
    let stats = d.stats_of(a);
    shows(&stats, 2);
    // What has outlived its connection is still its owner's.
    d.end(b);
    let stats = d.stats_of(a);
    shows(&stats, 0);
}

#[test]
fn connections_of_one_owner_wait_and_hold_as_one() {
    let mut d = Dialogue::new();
    let (x, x2) = (d.connect_as("x"), d.connect_as("x"));
    let (y, y2) = (d.connect_as("y"), d.connect_as("y"));
    d.takes(x, "of-x");
    d.takes(y, "of-y");
    d.says(x2, "l\nof-y\n10\n", "");
    d.says(y2, "l\nof-x\n10\n", "error_deadlock\n");
    // Without a name it is another's wait, and no knot.
    let z = d.connect();
    d.says(z, "l\nof-x\n10\n", "");
}

#[test]
fn an_owner_that_waits_twice_at_once_is_not_told() {
    let mut d = Dialogue::new();
    let (x, x2, y) = (d.connect_as("x"), d.connect_as("x"), d.connect());
    d.takes(x, "of-x");
    d.takes(y, "of-y");
    d.says(x, "l\nof-y\n10\n", "");
    d.says(x2, "l\nof-x\n10\n", "");
    d.says(y, "l\nof-x\n10\n", "");
    d.at(10_000);
    for client in [x, x2, y] {
        d.hears(client, "timeout\n");
    }
}

#[test]
fn a_renewal_by_the_same_owner_takes_the_hold_along() {
    let mut d = Dialogue::new();
    let (x, x2) = (d.connect_as("x"), d.connect_as("x"));
    let token = d.takes(x, "k");
    d.says(x2, renew("k", &token), "ok 33\n");
    // A late end of the former connection frees nothing.
    d.end(x);
    assert!(!d.is_free("k"));
    d.says(x2, renew("k", &token), "ok 33\n");
    d.end(x2);
    assert!(d.is_free("k"));
}

#[test]
fn a_hold_that_has_moved_may_move_back() {
    let mut d = Dialogue::new();
    let (x, x2) = (d.connect_as("x"), d.connect_as("x"));
    let token = d.takes(x, "k");
    d.says(x2, renew("k", &token), "ok 33\n");
    d.says(x, renew("k", &token), "ok 33\n");
    d.reset(x2);
    assert!(!d.is_free("k"));
    d.reset(x);
    assert!(d.is_free("k"));
}

#[test]
fn what_has_outlived_a_connection_outlives_the_next_one_too() {
    let mut d = Dialogue::with(|s| s.locks.auto_release = false);
    let x = d.connect_as("x");
    let token = d.takes(x, "k");
    d.end(x);
    let x2 = d.connect_as("x");
    d.says(x2, renew("k", &token), "ok 33\n");
    d.end(x2);
    assert!(!d.is_free("k"));
    d.at(33_001);
    assert!(d.is_free("k"));
}

#[test]
fn the_record_of_a_hold_that_has_moved_is_gone() {
    let mut d = Dialogue::new();
    let (x, x2) = (d.connect_as("x"), d.connect_as("x"));
    let token = d.acquires(x, "k");
    d.says(x2, renew("k", &token), "ok 33\n");
    d.says(x, "w\nk\n10\n", "error_not_enqueued\n");
    d.says(x, "e\nk\n\n", "queued\n");
    d.says(x2, release("k", &token), "ok\n");
    d.send(x, "w\nk\n10\n");
    d.is_granted(x, 33);
}

#[test]
fn a_connection_whose_holds_have_moved_has_the_deadline_of_an_idle_one() {
    let mut d = Dialogue::new();
    let (x, x2) = (d.connect_as("x"), d.connect_as("x"));
    d.send(x, "l\nk\n0 1000\n");
    let token = d.is_granted(x, 1000);
    d.at(20_000);
    d.says(x2, renew("k", &format!("{token} 1000")), "ok 1000\n");
    d.at(42_999);
    d.is_open(x);
    d.at(43_000);
    d.hears(x, "error\n");
    // The other holds, and may be silent.
    d.is_open(x2);
}

#[test]
fn a_renewal_by_anybody_else_leaves_the_hold_where_it_was() {
    for (holder, other) in [(Some("x"), Some("y")), (Some("x"), None), (None, Some("x"))] {
        let mut d = Dialogue::new();
        let mut connect = |name: Option<&str>| match name {
            Some(name) => d.connect_as(name),
            None => d.connect(),
        };
        let (a, b) = (connect(holder), connect(other));
        let token = d.takes(a, "k");
        d.says(b, renew("k", &token), "ok 33\n");
        d.end(b);
        assert!(!d.is_free("k"));
        d.end(a);
        assert!(d.is_free("k"));
    }
}
