//! `show` and what `stats` says of a hold: who has a key, from where, since when, and who waits behind.

use super::*;

impl Dialogue {
    /// The answer to `show`, or to `sshow`.
    #[track_caller]
    fn show(&mut self, client: usize, command: &str, key: &str) -> Json {
        self.send(client, frame(command, key, "ignored"));
        let heard = self.heard(client);
        stats_in(&heard)
    }
}

#[track_caller]
fn is_near(json: &Json, member: &str, seconds: f64) {
    let number = json.field(member).number();
    assert!((number - seconds).abs() < 0.0011, "{member} is {number}");
}

#[test]
fn a_key_shows_its_holder_and_its_queue_in_order() {
    let mut d = Dialogue::patient();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.says(a, frame("id", "_", "the \"holder\""), "ok\n");
    let token = d.takes(a, "deploy");
    d.at(1_000);
    d.says(b, "l\ndeploy\n100\n", "");
    d.at(3_000);
    d.says(c, "e\ndeploy\n\n", "queued\n");
    d.at(5_500);
    let key = d.show(c, "show", "deploy");
    assert_eq!(key.field("key").text(), "deploy");
    assert_eq!(key.field("space").text(), "lock");
    for (member, number) in [("limit", 1.0), ("held", 1.0), ("waiting", 2.0)] {
        assert_eq!(key.field(member).number(), number, "{member}");
    }
    let [holder] = key.field("holders").list() else {
        panic!("one holds it");
    };
    assert_eq!(holder.field("fence").text(), &token[..16]);
    assert_eq!(holder.field("owner").text(), "the \"holder\"");
    assert_eq!(holder.field("peer").text(), "127.0.0.1:40000");
    assert_eq!(holder.field("conn_id").number(), 1.0);
    assert_eq!(*holder.field("detached"), Json::Bool(false));
    is_near(holder, "held_s", 5.5);
    is_near(holder, "lease_expires_in_s", 27.5);
    let [first, second] = key.field("queue").list() else {
        panic!("two wait for it");
    };
    for (waiter, at, since) in [(first, 1, 4.5), (second, 2, 2.5)] {
        assert_eq!(waiter.field("conn_id").number(), f64::from(at + 1));
        assert_eq!(
            waiter.field("peer").text(),
            format!("127.0.0.1:{}", 40_000 + at)
        );
        is_near(waiter, "waited_s", since);
    }
    d.at(5_500);
    d.send(c, frame("show", "deploy", ""));
    let heard = d.heard(c);
    assert!(!heard.contains(&token), "a token is nobody else's: {heard}");
    assert!(!heard.contains("idle_s"), "{heard}");
}

#[test]
fn a_hold_counts_from_its_grant_and_neither_renewal_nor_wait_begins_it_anew() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "e\nk\n\n", "queued\n");
    d.at(2_000);
    d.says(a, release("k", &token), "ok\n");
    d.at(5_000);
    is_near(
        &d.show(a, "show", "k").field("holders").list()[0],
        "held_s",
        3.0,
    );
    d.send(b, "w\nk\n0\n");
    let token = d.gets(b, "ok", 33);
    d.says(a, renew("k", &token), "ok 33\n");
    d.at(6_000);
    is_near(
        &d.show(a, "show", "k").field("holders").list()[0],
        "held_s",
        4.0,
    );
    is_near(d.stats(a).field("locks").of_key("k"), "held_s", 4.0);
}

#[test]
fn a_semaphore_shows_its_holders_in_the_order_of_their_grants() {
    let mut d = Dialogue::patient();
    let clients: Vec<usize> = (0..5).map(|_| d.connect()).collect();
    let tokens: Vec<String> = [2, 0, 1].map(|at| d.takes_slot(clients[at], "s", 3)).into();
    d.says(clients[4], "sl\ns\n100 3\n", "");
    let key = d.show(clients[3], "sshow", "s");
    assert_eq!(key.field("space").text(), "semaphore");
    assert_eq!(key.field("limit").number(), 3.0);
    let fences = key.field("holders").list().iter();
    let fences: Vec<&str> = fences.map(|holder| holder.field("fence").text()).collect();
    assert_eq!(
        fences,
        [&tokens[0][..16], &tokens[1][..16], &tokens[2][..16]]
    );
    assert_eq!(key.field("queue").list()[0].field("conn_id").number(), 5.0);
    // The lock of the same name is another key.
    assert_eq!(d.show(clients[3], "show", "s").field("held").number(), 0.0);
}

#[test]
fn keys_that_nobody_uses_are_shown_as_such() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    let nothing = r#","held":0,"waiting":0,"holders":[],"queue":[]"#;
    let lock = r#"ok {"key":"k","space":"lock","limit":1"#;
    let semaphore = r#"ok {"key":"k","space":"semaphore","limit":"#;
    d.says(a, frame("show", "k", ""), &format!("{lock}{nothing}}}\n"));
    d.says(
        a,
        frame("sshow", "k", ""),
        &format!("{semaphore}0{nothing}}}\n"),
    );
    let (token, slot) = (d.takes(a, "k"), d.takes_slot(a, "k", 7));
    d.says(a, release("k", &token), "ok\n");
    d.says(a, frame("sr", "k", &slot), "ok\n");
    d.at(2_000);
    let idle = r#","idle_s":2.000}"#;
    d.says(
        a,
        frame("show", "k", ""),
        &format!("{lock}{nothing}{idle}\n"),
    );
    d.says(
        a,
        frame("sshow", "k", ""),
        &format!("{semaphore}7{nothing}{idle}\n"),
    );
    d.says(a, frame("show", "a key", ""), "error\n");
    d.says(a, frame("show", "", ""), "error\n");
}

#[test]
fn bytes_that_are_no_text_stay_on_the_line_and_can_be_told_apart() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.send(a, b"show\na\xff\x01\n\n");
    let text = "ok {\"key\":\"a\u{fffd}\\u0001\",\"key_hex\":\"61ff01\",\"space\":\"lock\",";
    let heard = d.heard(a);
    assert!(heard.starts_with(text), "{heard}");
}

#[test]
fn the_first_thousand_of_each_are_shown_and_the_counts_are_whole() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_locks = 10);
    let a = d.connect();
    for _ in 0..1_500 {
        d.0.send_only(a, b"sl\ns\n0 1500\n");
    }
    d.0.settle();
    d.heard(a);
    let waiters: Vec<usize> = (0..1_200).map(|_| d.connect()).collect();
    for &waiter in &waiters {
        d.0.send_only(waiter, b"sl\ns\n100 1500\n");
    }
    d.0.settle();
    // A reader that takes a little at a time gets it all.
    let reader = d.connect();
    d.0.clients[reader].appetite = 0;
    d.send(reader, frame("sshow", "s", ""));
    for _ in 0..100 {
        d.0.feed_client(reader, 10_000);
    }
    d.0.feed_client(reader, usize::MAX);
    d.0.settle();
    let heard = d.heard(reader);
    let key = stats_in(&heard);
    let counts = (key.field("held").number(), key.field("waiting").number());
    assert_eq!(counts, (1_500.0, 1_200.0));
    let of = |list: &str, member: &str| -> Vec<String> {
        let list = key.field(list).list().iter();
        list.map(|item| format!("{:?}", item.field(member)))
            .collect()
    };
    let fences = of("holders", "fence");
    assert_eq!(fences.len(), 1_000);
    assert!(fences.is_sorted() && fences[0] != fences[1]);
    let queue = key.field("queue").list();
    let ids = queue.iter().map(|waiter| waiter.field("conn_id").number());
    let wanted = (0..1_000).map(|at| f64::from(at + 2));
    assert!(ids.eq(wanted), "the queue in its order");
}

#[test]
fn a_show_with_the_peers_last_byte_is_finished() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(b, "k");
    d.0.send_only(a, b"show\nk\n\n");
    d.end(a);
    let heard = d.heard(a);
    assert_eq!(stats_in(&heard).field("held").number(), 1.0);
    d.is_closed(a);
}

#[test]
fn a_lock_in_the_stats_says_who_has_it_and_since_when() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.says(a, frame("id", "_", "me"), "ok\n");
    let token = d.takes(a, "k");
    d.takes_slot(a, "s", 2);
    d.at(1_500);
    let stats = d.stats(a);
    let lock = stats.field("locks").of_key("k");
    assert_eq!(lock.field("owner").text(), "me");
    assert_eq!(lock.field("peer").text(), "127.0.0.1:40000");
    assert_eq!(lock.field("fence").text(), &token[..16]);
    is_near(lock, "held_s", 1.5);
}
