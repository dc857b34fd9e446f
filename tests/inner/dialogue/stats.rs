//! `stats`: its members, its JSON, and that nobody waits for it.

use super::*;

const LISTS: [&str; 5] = [
    "locks",
    "semaphores",
    "idle_locks",
    "idle_semaphores",
    "signal_channels",
];

#[test]
fn an_empty_server_has_five_empty_lists_and_a_connection() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let stats = d.stats(a);
    assert_eq!(stats.field("connections").number(), 1.0);
    for list in LISTS {
        assert!(stats.field(list).list().is_empty(), "{list}");
    }
}

#[test]
fn it_says_whether_holds_end_with_their_connection() {
    for auto_release in [true, false] {
        let mut d = Dialogue::with(|s| s.locks.auto_release = auto_release);
        let a = d.connect();
        assert_eq!(*d.stats(a).field("auto_release"), Json::Bool(auto_release));
    }
}

#[test]
fn connections_are_counted() {
    let mut d = Dialogue::new();
    let clients: Vec<usize> = (0..5).map(|_| d.connect()).collect();
    assert_eq!(d.stats(clients[0]).field("connections").number(), 5.0);
    d.end(clients[1]);
    d.reset(clients[2]);
    assert_eq!(d.stats(clients[0]).field("connections").number(), 3.0);
}

#[test]
fn a_lock_shows_its_owner_its_lease_and_its_waiters() {
    let mut d = Dialogue::patient();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.takes(a, "one");
    d.takes(b, "two");
    d.send(a, "l\nthree\n0 100\n");
    d.gets(a, "ok", 100);
    d.says(b, "e\none\n\n", "queued\n");
    d.says(c, "l\none\n100\n", "");
    d.at(2_500);
    let stats = d.stats(a);
    let locks = stats.field("locks");
    assert_eq!(locks.list().len(), 3);
    for (key, lease, waiters) in [("one", 30.5, 2.0), ("two", 30.5, 0.0), ("three", 97.5, 0.0)] {
        let lock = locks.of_key(key);
        let left = lock.field("lease_expires_in_s").number();
        assert!((left - lease).abs() < 0.01, "{lock:?}");
        assert_eq!(lock.field("waiters").number(), waiters);
    }
    let owner = |key: &str| locks.of_key(key).field("owner_conn_id").number();
    assert_eq!(owner("one"), owner("three"));
    assert_ne!(owner("one"), owner("two"));
}

#[test]
fn a_promoted_record_shows_its_owner_before_its_w() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.takes(b, "of-b");
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(a, release("k", &token), "ok\n");
    let stats = d.stats(a);
    let owner = |key: &str| stats.field("locks").of_key(key).field("owner_conn_id");
    assert_eq!(owner("k"), owner("of-b"));
    assert_eq!(
        stats.field("locks").of_key("k").field("waiters").number(),
        0.0
    );
}

#[test]
fn a_semaphore_shows_its_limit_holders_and_waiters() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.takes_slot(a, "s", 3);
    d.takes_slot(a, "s", 3);
    d.send(b, "se\ns\n3\n");
    d.gets(b, "acquired", 33);
    d.says(c, "se\ns\n3\n", "queued\n");
    d.takes_slot(a, "great", 1_048_576);
    let stats = d.stats(a);
    assert!(stats.field("locks").list().is_empty());
    let semaphores = stats.field("semaphores");
    assert_eq!(semaphores.list().len(), 2);
    for (key, numbers) in [("s", [3.0, 3.0, 1.0]), ("great", [1_048_576.0, 1.0, 0.0])] {
        let semaphore = semaphores.of_key(key);
        for (name, number) in ["limit", "holders", "waiters"].iter().zip(numbers) {
            assert_eq!(semaphore.field(name).number(), number, "{key} {name}");
        }
    }
}

#[test]
fn idle_keys_show_for_how_long() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    let lock = d.takes(a, "k");
    let slot = d.takes_slot(a, "s", 2);
    d.at(1_000);
    d.says(a, release("k", &lock), "ok\n");
    d.at(2_000);
    d.says(a, frame("sr", "s", &slot), "ok\n");
    d.at(3_250);
    let stats = d.stats(a);
    assert!(stats.field("locks").list().is_empty());
    assert!(stats.field("semaphores").list().is_empty());
    let idle = |list: &str, key: &str| stats.field(list).of_key(key).field("idle_s").number();
    assert!((idle("idle_locks", "k") - 2.25).abs() < 0.01);
    assert!((idle("idle_semaphores", "s") - 1.25).abs() < 0.01);
}

#[test]
fn what_is_held_or_queued_is_not_idle() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(a, release("k", &token), "ok\n");
    d.takes(a, "k");
    let slot = d.takes_slot(a, "s", 1);
    d.says(b, "se\ns\n1\n", "queued\n");
    d.says(a, frame("sr", "s", &slot), "ok\n");
    let stats = d.stats(a);
    assert_eq!(stats.field("locks").keys(), ["k"]);
    assert_eq!(stats.field("semaphores").keys(), ["s"]);
    assert!(stats.field("idle_locks").list().is_empty());
    assert!(stats.field("idle_semaphores").list().is_empty());
}

#[test]
fn a_lease_past_due_shows_0_seconds() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n0 1\n");
    d.gets(a, "ok", 1);
    d.0.now += 5 * SECOND;
    d.0.send_only(b, b"stats\n_\n\n");
    d.0.settle();
    let heard = d.heard(b);
    let stats = stats_in(&heard);
    // If its timer came first, the lock is not listed.
    for lock in stats.field("locks").list() {
        assert_eq!(lock.field("lease_expires_in_s").number(), 0.0);
    }
}

#[test]
fn the_seconds_are_those_of_the_instant_of_the_request() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    let slot = d.takes_slot(a, "s", 2);
    d.says(a, frame("sr", "s", &slot), "ok\n");
    // Nothing happens for five seconds; the request is what wakes the server.
    d.0.now += 5 * SECOND;
    d.0.send_only(b, b"stats\n_\n\n");
    d.0.settle();
    let heard = d.heard(b);
    let stats = stats_in(&heard);
    let lock = stats.field("locks").of_key("k");
    let left = lock.field("lease_expires_in_s").number();
    let idle = stats.field("idle_semaphores").of_key("s");
    let idle = idle.field("idle_s").number();
    assert!(
        (left - 28.0).abs() < 0.01 && (idle - 5.0).abs() < 0.01,
        "{heard}"
    );
}

#[test]
fn the_longest_lease_is_a_number_like_any_other() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(a, "l\nk\n0 9223372036\n");
    d.gets(a, "ok", 9_223_372_036);
    let left = d.stats(a).field("locks").of_key("k").clone();
    let left = left.field("lease_expires_in_s").number();
    assert!((9_223_372_035.0..=9_223_372_036.0).contains(&left));
}

#[test]
fn a_hold_without_a_connection_is_listed() {
    let mut d = Dialogue::with(|s| s.locks.auto_release = false);
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.takes_slot(a, "s", 2);
    d.end(a);
    let stats = d.stats(b);
    assert_eq!(stats.field("connections").number(), 1.0);
    stats
        .field("locks")
        .of_key("k")
        .field("owner_conn_id")
        .number();
    let holders = stats.field("semaphores").of_key("s").field("holders");
    assert_eq!(holders.number(), 1.0);
}

#[test]
fn any_key_leaves_stats_one_line_of_valid_json() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    let mut keys: Vec<Vec<u8>> = (0..=255u8)
        .filter(|byte| !b" \t\r\n".contains(byte))
        .map(|byte| vec![byte])
        .collect();
    for key in [
        &b"nul\0esc\x1b[31m"[..],
        b"\"quoted\"\\\\\"",
        b"\\u0000",
        b"</script>",
        b"\xff\xfe\xfd",
        b"a\xc3(b",
        b"\xc0\x80",
        b"\xed\xa0\x80\xed\xb0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf0\x9f\x98",
        "\u{2028}\u{2029}\u{85}\u{feff}".as_bytes(),
        "clé 🔒".replace(' ', "-").as_bytes(),
        &[b'"'; 256],
        &[0x01; 256],
        &[0xff; 256],
    ] {
        keys.push(key.to_vec());
    }
    for (n, key) in keys.iter().enumerate() {
        for (command, argument) in [("l", "0"), ("sl", "0 1"), ("l", "0"), ("sl", "0 1")] {
            let request = [
                command.as_bytes(),
                b"\n",
                key,
                b"\n",
                argument.as_bytes(),
                b"\n",
            ];
            d.send(a, request.concat());
        }
        assert_eq!(
            masked(&d.heard(a)),
            "ok T 33\nok T 33\ntimeout\ntimeout\n",
            "{n}"
        );
        // The keys that leave must be whole as well.
        if n % 64 == 63 {
            d.stats(b);
        }
    }
    let check = |stats: &Json, [locks, semaphores]: [&str; 2]| {
        for list in [locks, semaphores] {
            let listed = stats.field(list).keys();
            assert_eq!(listed.len(), keys.len());
            for key in &keys {
                // What is UTF-8 comes out as it is, what is not has U+FFFD in it.
                match std::str::from_utf8(key) {
                    Ok(key) => assert!(listed.contains(&key), "{key:?}"),
                    Err(_) => assert!(listed.iter().any(|key| key.contains('\u{fffd}'))),
                }
            }
            let mangled = keys.iter().filter(|key| std::str::from_utf8(key).is_err());
            let marked = listed.iter().filter(|key| key.contains('\u{fffd}'));
            assert_eq!(mangled.count(), marked.count());
        }
    };
    check(&d.stats(b), ["locks", "semaphores"]);
    d.end(a);
    check(&d.stats(b), ["idle_locks", "idle_semaphores"]);
}

#[test]
fn a_key_with_a_carriage_return_inside_never_comes_into_stats() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.says(
        a,
        "l\na\rb\n0\nsl\n\ra\n0 1\ne\na\rb\n\n",
        &"error\n".repeat(3),
    );
    d.send(a, "l\nk\r\r\r\n0\n");
    d.gets(a, "ok", 33);
    let stats = d.stats(a);
    assert_eq!(stats.field("locks").keys(), ["k"]);
    assert!(stats.field("semaphores").list().is_empty());
}

#[test]
fn stats_and_an_end_are_answered() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.0.send_only(a, b"stats\n_\n\n");
    d.0.end_only(a);
    d.0.settle();
    let heard = d.heard(a);
    assert_eq!(stats_in(&heard).field("connections").number(), 1.0);
    d.is_closed(a);
}

/// A dialogue with this many locks and as many semaphores, their holder, and another client.
fn crowded(n: usize) -> (Dialogue, usize, usize) {
    let mut d = Dialogue::patient_with(|s| s.locks.max_locks = 10 * n);
    let (a, b) = (d.connect(), d.connect());
    for n in 0..n {
        let key = key(n);
        d.0.send_only(a, frame("l", &key, "0 100000").as_bytes());
        d.0.send_only(a, frame("sl", &key, "0 2 100000").as_bytes());
        if n % 50 == 0 {
            d.0.settle();
        }
    }
    d.0.settle();
    d.heard(a);
    (d, a, b)
}

fn key(n: usize) -> String {
    format!("{}-{n}", "\u{1b}\"key".repeat(20))
}

#[track_caller]
fn has_all_of_the_crowd(stats: &Json, n: usize) {
    for list in ["locks", "semaphores"] {
        let mut listed = stats.field(list).keys();
        listed.sort();
        let all = listed.len();
        listed.dedup();
        assert_eq!(listed.len(), all, "a key twice");
        for n in 0..n {
            assert!(listed.binary_search(&&key(n)[..]).is_ok(), "no {n}");
        }
    }
}

#[test]
fn a_turn_makes_a_share_of_a_huge_answer_whatever_the_size_of_the_table() {
    let shares = [10_000, 20_000].map(|n| {
        let (mut d, _, b) = crowded(n);
        let c = d.connect();
        d.0.send_only(b, b"stats\n_\n\nping\n_\n_\n");
        d.0.turn();
        let share = d.0.clients[b].heard.len();
        d.0.send_only(c, b"ping\n_\n_\n");
        d.0.turn();
        d.hears(c, "ok\n");
        assert!(!d.0.clients[b].heard.contains(&b'\n'), "done in two turns");
        d.0.settle();
        let heard = d.heard(b);
        let line = heard.strip_suffix("ok\n").expect("the ping's answer");
        has_all_of_the_crowd(&stats_in(line), n);
        share
    });
    // The numbers in the lines have not all the same length.
    assert!(shares[0].abs_diff(shares[1]) < shares[0] / 20, "{shares:?}");
}

#[test]
fn others_work_while_a_huge_answer_is_made() {
    let (mut d, _, b) = crowded(3_000);
    let (c, e) = (d.connect(), d.connect());
    d.0.send_only(b, b"stats\n_\n\n");
    let mut turns = 0;
    while !d.0.clients[b].heard.contains(&b'\n') {
        turns += 1;
        assert!(turns < 100_000, "it never ends");
        let busy = format!("busy-{}", turns % 7);
        d.0.send_only(c, frame("l", &busy, "0").as_bytes());
        d.0.send_only(c, frame("sl", &busy, "0 1").as_bytes());
        d.0.turn();
        let heard = d.heard(c);
        assert_eq!(masked(&heard), "ok T 33\nok T 33\n");
        let tokens: Vec<&str> = heard
            .lines()
            .map(|l| l.split(' ').nth(1).unwrap())
            .collect();
        d.0.send_only(e, frame("sl", &busy, "10 1").as_bytes());
        d.0.send_only(c, frame("r", &busy, tokens[0]).as_bytes());
        d.0.send_only(c, frame("sr", &busy, tokens[1]).as_bytes());
        d.0.turn();
        d.hears(c, "ok\nok\n");
        let slot = d.gets(e, "ok", 33);
        d.0.send_only(e, frame("sr", &busy, &slot).as_bytes());
        d.0.turn();
        d.hears(e, "ok\n");
    }
    assert!(turns > 3);
    d.0.settle();
    let heard = d.heard(b);
    let stats = stats_in(&heard);
    has_all_of_the_crowd(&stats, 3_000);
}

#[test]
fn a_table_that_goes_away_meanwhile_leaves_valid_json() {
    let (mut d, a, b) = crowded(3_000);
    d.0.send_only(b, b"stats\n_\n\n");
    d.0.turn();
    d.0.reset_only(a);
    d.0.settle();
    let heard = d.heard(b);
    stats_in(&heard);
    let stats = d.stats(b);
    assert!(stats.field("locks").list().is_empty());
    assert_eq!(stats.field("idle_locks").list().len(), 3_000);
}

#[test]
fn a_table_that_grows_meanwhile_leaves_valid_json_and_comes_to_an_end() {
    let (mut d, a, b) = crowded(1_000);
    d.0.send_only(b, b"stats\n_\n\n");
    for n in 0..10_000 {
        d.0.send_only(a, frame("l", &format!("new-{n}"), "0").as_bytes());
        if n % 20 == 0 {
            d.0.turn();
            d.0.clients[a].heard.clear();
        }
        if d.0.clients[b].heard.contains(&b'\n') {
            break;
        }
    }
    d.0.settle();
    let heard = d.heard(b);
    has_all_of_the_crowd(&stats_in(&heard), 1_000);
}

#[test]
fn many_huge_answers_at_once_are_all_whole() {
    let (mut d, _, _) = crowded(1_000);
    let readers: Vec<usize> = (0..20).map(|_| d.connect()).collect();
    for &reader in &readers {
        d.0.send_only(reader, b"stats\n_\n\nping\n_\n_\nstats\n_\n\n");
    }
    d.0.settle();
    for &reader in &readers {
        let heard = d.heard(reader);
        let lines: Vec<&str> = heard.split_inclusive('\n').collect();
        assert_eq!((lines.len(), lines[1]), (3, "ok\n"));
        has_all_of_the_crowd(&stats_in(lines[0]), 1_000);
        has_all_of_the_crowd(&stats_in(lines[2]), 1_000);
    }
}

#[test]
fn a_slow_reader_gets_its_answer_whole_and_delays_nobody() {
    let (mut d, _, b) = crowded(3_000);
    let c = d.connect();
    d.0.clients[b].appetite = 0;
    d.0.send_only(b, b"stats\n_\n\nping\n_\n_\n");
    d.0.settle();
    // Other work goes on, and not a byte more is made than a client may leave unread.
    assert!(
        d.0.output(b).len() < OUTPUT_MAX + 65_536,
        "{} bytes wait",
        d.0.output(b).len()
    );
    let mut bites = 0;
    while !d.0.clients[b].heard.ends_with(b"\nok\n") {
        bites += 1;
        assert!(bites < 10_000, "it never ends");
        d.0.feed_client(b, 5_000);
        d.0.settle();
        d.takes(c, &format!("busy-{bites}"));
        assert!(d.0.output(b).len() < OUTPUT_MAX + 65_536);
    }
    let heard = d.heard(b);
    let heard = heard.strip_suffix("ok\n").expect("the ping's answer");
    has_all_of_the_crowd(&stats_in(heard), 3_000);
}

#[test]
fn a_reader_that_goes_in_the_middle_leaves_nothing_behind() {
    let (mut d, a, b) = crowded(3_000);
    for how in 0..4 {
        let c = d.connect();
        d.0.clients[c].appetite = [0, 1_000, usize::MAX, 0][how];
        d.0.send_only(c, b"stats\n_\n\n");
        d.0.turn();
        if how < 3 {
            d.0.reset_only(c);
        } else {
            // A reader that has shut its write side may still read.
            d.0.end_only(c);
            d.0.settle();
            d.0.feed_client(c, usize::MAX);
        }
        d.0.settle();
        d.is_closed(c);
        if how == 3 {
            let heard = d.heard(c);
            has_all_of_the_crowd(&stats_in(&heard), 3_000);
        }
    }
    assert_eq!(d.0.sessions(), 2);
    d.says(b, "ping\n_\n_\n", "ok\n");
    d.says(a, "ping\n_\n_\n", "ok\n");
}

#[test]
fn frames_behind_a_huge_answer_are_answered_behind_it() {
    let (mut d, a, b) = crowded(2_000);
    d.0.send_only(b, b"stats\n_\n\nl\nnew\n0\nstats\n_\n\ne\nnew\n\n");
    d.0.settle();
    let heard = d.heard(b);
    let lines: Vec<&str> = heard.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 4);
    has_all_of_the_crowd(&stats_in(lines[0]), 2_000);
    assert_eq!(masked(lines[1]), "ok T 33\n");
    let second = stats_in(lines[2]);
    second.field("locks").of_key("new");
    assert_eq!(lines[3], "queued\n");
    d.says(a, "l\nnew\n0\n", "timeout\n");
}

#[test]
fn a_slow_reader_is_not_cut_for_its_silence_while_it_reads() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 10_000);
    let (a, b) = (d.connect(), d.connect());
    for n in 0..5_000 {
        let key = format!("{}{n}", "x".repeat(200));
        d.0.send_only(a, frame("l", &key, "0 1000").as_bytes());
        if n % 50 == 0 {
            d.0.settle();
        }
    }
    d.0.settle();
    d.0.clients[b].appetite = 0;
    d.0.send_only(b, b"stats\n_\n\n");
    for second in 1..=60 {
        d.at(second * 1_000);
        d.is_open(b);
        d.0.feed_client(b, 1_000);
    }
    d.0.feed_client(b, usize::MAX);
    d.0.settle();
    let heard = d.heard(b);
    assert_eq!(stats_in(&heard).field("locks").list().len(), 5_000);
    d.says(b, "ping\n_\n_\n", "ok\n");
}
