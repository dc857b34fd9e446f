//! Signals: who listens to what, what arrives, and what is answered. Groups are in `groups.rs`, subscribers that are
//! slow, go, or are many in `subscribers.rs`.

use super::frame;
use super::*;

/// The longest line that hands a signal on, and the longest argument of `signal`.
const LINE: usize = 65_536;

pub fn listen(pattern: &str, group: &str) -> String {
    frame("listen", pattern, group)
}

pub fn unlisten(pattern: &str, group: &str) -> String {
    frame("unlisten", pattern, group)
}

pub fn signal(channel: &str, payload: &str) -> String {
    frame("signal", channel, payload)
}

pub fn sig(channel: &str, payload: &str) -> String {
    format!("sig {channel} {payload}\n")
}

impl Dialogue {
    /// A client that listens.
    #[track_caller]
    pub fn listener(&mut self, pattern: &str, group: &str) -> usize {
        let client = self.connect();
        self.says(client, listen(pattern, group), "ok\n");
        client
    }

    /// The signal reaches so many.
    #[track_caller]
    pub fn signals(&mut self, client: usize, channel: &str, payload: &str, receivers: usize) {
        let answer = format!("ok {receivers}\n");
        self.says(client, signal(channel, payload), &answer);
    }

    /// Each entry of `signal_channels`, as `pattern group listeners`, in some order made the same.
    #[track_caller]
    pub fn channels(&mut self, client: usize) -> Vec<String> {
        let stats = self.stats(client);
        let entry = |entry: &Json| {
            let Json::Object(members) = entry else {
                panic!("{entry:?}");
            };
            let group = members.iter().find(|(name, _)| name == "group");
            format!(
                "{} {} {}",
                entry.field("pattern").text(),
                group.map_or("-", |(_, group)| group.text()),
                entry.field("listeners").number()
            )
        };
        let list = stats.field("signal_channels").list();
        let mut channels: Vec<String> = list.iter().map(entry).collect();
        channels.sort();
        channels
    }
}

#[test]
fn a_signal_reaches_everybody_who_listens_and_nobody_else() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener("news", ""), d.listener("news", ""));
    let (other, silent, publisher) = (d.listener("olds", ""), d.connect(), d.connect());
    d.signals(publisher, "news", "hello", 2);
    d.hears(a, "sig news hello\n");
    d.hears(b, "sig news hello\n");
    d.hears(other, "");
    d.hears(silent, "");
}

#[test]
fn a_signal_that_nobody_listens_to_is_ok_0_and_is_not_kept() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.signals(a, "news", "hello", 0);
    let b = d.listener("news", "");
    d.hears(b, "");
    d.signals(a, "news", "again", 1);
    d.hears(b, "sig news again\n");
}

#[test]
fn a_pattern_matches_these_channels_and_no_others() {
    let all = [
        "a", "b", "A", "a.b", "b.a", "a.", ".a", ".", "..", "a..b", "a.b.c", "a.b.c.d", "x.b.c",
        "a.x.c", "a.b.", "a.bb", "aa",
    ];
    let matches: [(&str, &[&str]); 15] = [
        ("a", &["a"]),
        ("a.b", &["a.b"]),
        ("a.", &["a."]),
        (".", &["."]),
        ("a..b", &["a..b"]),
        ("*", &["a", "b", "A", "aa"]),
        ("a.*", &["a.b", "a.", "a.bb"]),
        ("*.a", &["b.a", ".a"]),
        ("*.b.*", &["a.b.c", "x.b.c", "a.b."]),
        ("a.*.b", &["a..b"]),
        ("a.*.c", &["a.b.c", "a.x.c"]),
        ("a.b.>", &["a.b.c", "a.b.c.d", "a.b."]),
        (
            "a.>",
            &[
                "a.b", "a.", "a..b", "a.b.c", "a.b.c.d", "a.x.c", "a.b.", "a.bb",
            ],
        ),
        (
            "*.*.>",
            &["..", "a..b", "a.b.c", "a.b.c.d", "x.b.c", "a.x.c", "a.b."],
        ),
        (">", &all),
    ];
    for (pattern, expected) in matches {
        let mut d = Dialogue::new();
        let (a, b) = (d.listener(pattern, ""), d.connect());
        let mut matched = Vec::new();
        for channel in all {
            d.send(b, signal(channel, "x"));
            let heard = d.heard(a);
            if !heard.is_empty() {
                assert_eq!(heard, sig(channel, "x"));
                matched.push(channel);
            }
            let receivers = matched.last() == Some(&channel);
            d.hears(b, &format!("ok {}\n", u8::from(receivers)));
        }
        assert_eq!(matched, expected, "{pattern}");
    }
}

#[test]
fn a_wildcard_is_a_whole_part_and_the_rest_comes_last() {
    let mut d = Dialogue::new();
    let a = d.connect();
    for pattern in [
        "a*", "*a", "a.b*", "a*b.c", "**", ">.a", "a.>.b", ">.>", ">>", "a>", "a.>b", "*>", "",
        "a b", " a", "a\t", "a\rb",
    ] {
        d.says(a, listen(pattern, ""), "error\n");
        d.says(a, listen(pattern, "g"), "error\n");
        d.says(a, unlisten(pattern, ""), "error\n");
    }
    for pattern in ["*", ">", "a..b", "*.*", "*.>", "..>", "-", "\u{e9}"] {
        d.says(a, listen(pattern, ""), "ok\n");
        d.says(a, unlisten(pattern, ""), "ok\n");
    }
    assert!(d.channels(a).is_empty());
}

#[test]
fn a_channel_has_no_wildcards_and_is_a_key() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener(">", ""), d.connect());
    for channel in [
        "*", ">", "a.*", "a.>", "a*", "a>b", "", "a b", "a\t", "a\rb",
    ] {
        d.says(b, signal(channel, "x"), "error\n");
    }
    d.hears(a, "");
    d.signals(b, "\u{e9}..-", "x", 1);
    d.hears(a, "sig \u{e9}..- x\n");
}

#[test]
fn a_pattern_and_a_channel_have_64_parts_at_most() {
    let parts = |name: &str, count: usize| vec![name; count].join(".");
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    for name in ["x", "", "*"] {
        let (most, over) = (parts(name, 64), parts(name, 65));
        d.says(a, listen(&over, ""), "error\n");
        d.says(a, listen(&over, "g"), "error\n");
        d.says(a, unlisten(&over, ""), "error\n");
        d.says(a, listen(&most, ""), "ok\n");
        d.signals(b, &parts("x", 64), "all", 1);
        d.hears(a, &sig(&parts("x", 64), "all"));
        d.says(a, unlisten(&most, ""), "ok\n");
        let rest = format!("{}.>", parts("x", 63));
        d.says(a, listen(&rest, ""), "ok\n");
    }
    d.says(a, listen(&format!("{}.>", parts("x", 64)), ""), "error\n");
    d.says(b, signal(&parts("x", 65), "all"), "error\n");
    d.says(b, signal(&parts("", 65), "all"), "error\n");
    d.hears(a, "");
}

#[test]
fn a_payload_is_not_blank() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener(">", ""), d.connect());
    for payload in ["", " ", "\t \t", "\r", " \r\r", "\r \r"] {
        d.says(b, signal("a", payload), "error\n");
    }
    d.hears(a, "");
    d.signals(b, "a", "0", 1);
}

#[test]
fn a_payload_arrives_as_it_was_sent() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener("c", ""), d.connect());
    let every: Vec<u8> = (0..=255).filter(|&byte| byte != b'\n').collect();
    let payloads: [&[u8]; 6] = [
        b"  in the middle\t ",
        b"\rinside\r\rand before\r \r.",
        b"sig c x",
        b"ok 1",
        &every,
        &every.repeat(200),
    ];
    for payload in payloads {
        d.says(b, [b"signal\nc\n", payload, b"\n"].concat(), "ok 1\n");
        let heard = std::mem::take(&mut d.0.clients[a].heard);
        assert!(heard == [b"sig c ", payload, b"\n"].concat());
    }
    // These belong to the end of the line.
    d.says(b, "signal\r\nc\r\r\n x \r\r\n", "ok 1\n");
    d.hears(a, "sig c  x \n");
}

#[test]
fn the_largest_payload_arrives_in_one_line() {
    for channel in ["c".to_string(), "c".repeat(256)] {
        let mut d = Dialogue::new();
        let (a, b) = (d.listener(&channel, ""), d.connect());
        let payload = "x".repeat(LINE - 5 - channel.len());
        d.signals(b, &channel, &payload, 1);
        let heard = d.heard(a);
        assert!(heard == sig(&channel, &payload));
        assert_eq!(heard.len(), LINE + 1);
        // A peer that takes it in pieces.
        d.0.clients[a].appetite = 0;
        d.signals(b, &channel, &payload, 1);
        while d.0.clients[a].heard.len() <= LINE {
            d.0.feed_client(a, 1000);
        }
        assert!(d.heard(a) == sig(&channel, &payload));
    }
}

#[test]
fn a_payload_over_the_limit_is_an_error_and_the_connection_stays() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener(">", ""), d.connect());
    for channel in ["c".to_string(), "c".repeat(256)] {
        let most = LINE - 5 - channel.len();
        for len in [most + 1, LINE] {
            d.says(b, signal(&channel, &"x".repeat(len)), "error\n");
        }
        // A CR of the end counts for the line, not for the payload.
        d.signals(b, &channel, &("x".repeat(most) + "\r"), 1);
        assert_eq!(d.heard(a).len(), LINE + 1);
    }
    d.says(b, "ping\n_\n_\n", "ok\n");
}

#[test]
fn a_payload_over_the_line_cap_is_an_error_and_the_end() {
    for payload in ["x".repeat(LINE + 1), "x".repeat(LINE) + "\r"] {
        let mut d = Dialogue::new();
        let (a, b) = (d.listener("c", ""), d.connect());
        d.says(b, signal("c", &payload) + "ping\n_\n_\n", "error\n");
        d.is_shut(b);
        d.hears(a, "");
    }
    // Patterns and groups have the small cap, as has the command that only begins like one.
    for request in [
        listen("c", &"g".repeat(257)),
        unlisten("c", &"g".repeat(257)),
        listen(&"c".repeat(257), ""),
        signal(&"c".repeat(257), "x"),
        frame("signal ", "c", &"x".repeat(257)),
    ] {
        let mut d = Dialogue::new();
        let a = d.connect();
        d.says(a, request, "error\n");
        d.is_shut(a);
    }
}

#[test]
fn before_auth_a_signal_has_the_small_cap() {
    let mut d = Dialogue::with(|s| s.secret = Some(b"sesame".to_vec()));
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    // Without an end of the line: it is known to be too long.
    let long = "x".repeat(257);
    d.says(a, format!("signal\nc\n{long}"), "");
    d.says(a, "\n", "error_auth\n");
    for request in [signal("c", "x"), listen("c", ""), unlisten("c", "")] {
        let client = d.connect();
        d.says(client, request, "error_auth\n");
    }
    d.says(
        b,
        frame("auth", "_", "sesame") + &listen("c", ""),
        "ok\nok\n",
    );
    let largest = "x".repeat(LINE - 6);
    d.says(
        c,
        frame("auth", "_", "sesame") + &signal("c", &largest),
        "ok\nok 1\n",
    );
    assert!(d.heard(b) == sig("c", &largest));
}

#[test]
fn a_connection_with_exact_wildcard_and_grouped_subscriptions_gets_the_counted_copies() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    for pattern in ["a.b", "a.*", "*.b", "a.>", ">"] {
        d.says(a, listen(pattern, ""), "ok\n");
    }
    // Without a group it is one copy, however many patterns match.
    d.signals(b, "a.b", "1", 1);
    d.hears(a, "sig a.b 1\n");
    // Each pattern with each group is a queue of its own.
    for (pattern, group) in [("a.b", "g"), ("a.b", "h"), (">", "g"), ("c", "g")] {
        d.says(a, listen(pattern, group), "ok\n");
    }
    d.signals(b, "a.b", "2", 4);
    d.hears(a, &"sig a.b 2\n".repeat(4));
    d.says(a, unlisten("a.b", "g"), "ok\n");
    d.signals(b, "a.b", "3", 3);
    d.hears(a, &"sig a.b 3\n".repeat(3));
    for pattern in ["a.b", "a.*", "*.b", "a.>", ">"] {
        d.says(a, unlisten(pattern, ""), "ok\n");
    }
    d.signals(b, "a.b", "4", 2);
    d.hears(a, &"sig a.b 4\n".repeat(2));
}

#[test]
fn to_listen_again_is_ok_and_counts_once() {
    let mut d = Dialogue::new();
    let (a, publisher) = (d.connect(), d.connect());
    for group in ["", "g", "", "g", "g"] {
        d.says(a, listen("c", group), "ok\n");
    }
    assert_eq!(d.channels(a), ["c - 1", "c g 1"]);
    d.signals(publisher, "c", "x", 2);
    d.hears(a, "sig c x\nsig c x\n");
    d.says(a, unlisten("c", ""), "ok\n");
    d.says(a, unlisten("c", "g"), "ok\n");
    d.signals(publisher, "c", "x", 0);
    d.hears(a, "");
}

#[test]
fn to_listen_again_at_the_cap_is_ok() {
    let mut d = Dialogue::with(|s| s.max_subscriptions = 2);
    let (a, b) = (d.connect(), d.connect());
    d.says(a, listen("c", "") + &listen("c", "g"), "ok\nok\n");
    d.says(a, listen("c", "") + &listen("c", "g"), "ok\nok\n");
    for (pattern, group) in [("d", ""), ("c", "h"), ("*", "")] {
        d.says(a, listen(pattern, group), "error\n");
    }
    assert_eq!(d.channels(b), ["c - 1", "c g 1"]);
    // Each connection has its own, and what is given back can be had again.
    d.says(b, listen("d", "") + &listen("c", "g"), "ok\nok\n");
    d.says(a, unlisten("c", "g") + &listen("*", ""), "ok\nok\n");
    d.says(a, listen("d", ""), "error\n");
    assert_eq!(d.channels(b), ["* - 1", "c - 1", "c g 1", "d - 1"]);
}

#[test]
fn who_is_refused_a_first_subscription_listens_to_nothing() {
    let mut d = Dialogue::with(|s| s.max_subscriptions = 1);
    let a = d.connect();
    d.says(a, listen("a*", ""), "error\n");
    d.says(a, listen("a", "") + &listen("b", ""), "ok\nerror\n");
    d.says(a, unlisten("b", "") + &unlisten("a", ""), "ok\nok\n");
    d.at(22_999);
    d.is_open(a);
    d.at(23_000);
    d.hears(a, "error\n");
}

#[test]
fn to_unlisten_what_one_does_not_listen_to_changes_no_count() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener("c.d", "g"), d.connect());
    d.says(b, listen("c.d", ""), "ok\n");
    let before = ["c.d - 1", "c.d g 1"];
    for (pattern, group) in [
        ("c.d", "g"),
        ("c.d", "h"),
        ("c", ""),
        ("c.*", ""),
        ("x", "g"),
    ] {
        d.says(b, unlisten(pattern, group), "ok\n");
        assert_eq!(d.channels(b), before);
    }
    d.says(a, unlisten("c.d", ""), "ok\n");
    assert_eq!(d.channels(b), before);
    d.says(a, signal("c.d", "x"), "sig c.d x\nok 2\n");
    d.hears(b, "sig c.d x\n");
}

#[test]
fn a_publisher_that_listens_hears_its_signal_before_the_answer() {
    let mut d = Dialogue::new();
    let a = d.listener("c", "");
    d.says(a, signal("c", "x"), "sig c x\nok 1\n");
    d.says(a, listen(">", "g"), "ok\n");
    d.says(
        a,
        signal("c", "1") + &signal("c", "2") + "ping\n_\n_\n",
        "sig c 1\nsig c 1\nok 2\nsig c 2\nsig c 2\nok 2\nok\n",
    );
}

#[test]
fn signals_come_while_an_acquire_waits_and_while_enqueued() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.listener("c", ""), d.listener("c", "g"), d.connect());
    let token = d.takes(c, "k");
    d.says(a, "l\nk\n10\nping\n_\n_\n", "");
    d.says(b, "e\nk\n\n", "queued\n");
    d.signals(c, "c", "1", 2);
    d.hears(a, "sig c 1\n");
    d.hears(b, "sig c 1\n");
    d.says(b, "w\nk\n10\n", "");
    d.signals(c, "c", "2", 2);
    d.hears(a, "sig c 2\n");
    d.hears(b, "sig c 2\n");
    // They end no wait, and the grant comes as ever.
    d.0.send_only(c, (signal("c", "3") + &release("k", &token)).as_bytes());
    d.0.settle();
    d.hears(c, "ok 2\nok\n");
    let heard = d.heard(a);
    let rest = heard.strip_prefix("sig c 3\nok ").expect("in this order");
    assert!(rest.ends_with(" 33\nok\n"), "{heard:?}");
    d.hears(b, "sig c 3\n");
    d.at(10_000);
    d.hears(b, "timeout\n");
}

#[test]
fn signals_and_answers_keep_their_order() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.says(
        a,
        signal("c", "1")
            + &listen("c", "")
            + &signal("c", "2")
            + &unlisten("c", "")
            + &signal("c", "3"),
        "ok 0\nok\nsig c 2\nok 1\nok\nok 0\n",
    );
    // What others signal comes in the order of their requests, to all alike.
    d.says(a, listen(">", ""), "ok\n");
    let c = d.listener("*", "");
    let mut expected = String::new();
    for n in 0..300 {
        let (channel, payload) = (["x", "y", "z"][n % 3], n.to_string());
        d.0.send_only(b, signal(channel, &payload).as_bytes());
        expected += &sig(channel, &payload);
    }
    d.0.settle();
    d.hears(a, &expected);
    d.hears(c, &expected);
    d.hears(b, &"ok 2\n".repeat(300));
}

#[test]
fn the_answer_to_listen_comes_before_the_first_signal_and_none_after_that_to_unlisten() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.0.send_only(a, listen("c", "").as_bytes());
    d.0.send_only(b, signal("c", "1").as_bytes());
    d.0.send_only(a, unlisten("c", "").as_bytes());
    d.0.send_only(b, signal("c", "2").as_bytes());
    d.0.settle();
    d.hears(a, "ok\nsig c 1\nok\n");
    d.hears(b, "ok 1\nok 0\n");
}

#[test]
fn a_listener_may_be_silent_until_its_last_unlisten() {
    let mut d = Dialogue::new();
    let a = d.listener("c", "");
    d.says(a, listen("c", "g"), "ok\n");
    d.at(100_000);
    d.says(a, unlisten("c", ""), "ok\n");
    d.at(200_000);
    d.is_open(a);
    // An unlisten of something else is none.
    d.says(a, unlisten("c", "h"), "ok\n");
    d.at(300_000);
    d.is_open(a);
    d.says(a, unlisten("c", "g"), "ok\n");
    d.at(322_999);
    d.is_open(a);
    d.at(323_000);
    d.hears(a, "error\n");
    d.is_shut(a);
}

#[test]
fn a_listener_that_begins_a_frame_must_end_it_in_time() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener("c", ""), d.connect());
    d.send(b, "l\nk\n0 1000\n");
    d.is_granted(b, 1000);
    d.at(50_000);
    d.says(a, "sig", "");
    d.at(60_000);
    // What it hears does not extend that.
    d.signals(b, "c", "x", 1);
    d.hears(a, "sig c x\n");
    d.at(72_999);
    d.is_open(a);
    d.at(73_000);
    d.hears(a, "error\n");
}

#[test]
fn stats_show_patterns_and_groups_with_their_listeners() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    assert!(d.channels(c).is_empty());
    for (pattern, group) in [("a.*", ""), ("a.*", "g"), (">", ""), ("\"\\", "\u{1}")] {
        d.says(a, listen(pattern, group), "ok\n");
    }
    d.says(b, listen("a.*", "") + &listen("a.*", "g"), "ok\nok\n");
    d.says(b, listen("a.*", "h"), "ok\n");
    assert_eq!(
        d.channels(c),
        ["\"\\ \u{1} 1", "> - 1", "a.* - 2", "a.* g 2", "a.* h 1"]
    );
    d.end(a);
    assert_eq!(d.channels(c), ["a.* - 1", "a.* g 1", "a.* h 1"]);
    d.reset(b);
    assert!(d.channels(c).is_empty());
}

#[test]
fn stats_stay_json_whatever_a_pattern_is() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.says(a, b"listen\n\xff\0.>\n\xc3\x28\n", "ok\n");
    assert_eq!(d.channels(a), ["\u{fffd}\0.> \u{fffd}( 1"]);
    d.says(a, b"unlisten\n\xff\0.>\n\xc3\x28\n", "ok\n");
    assert!(d.channels(a).is_empty());
}

#[test]
fn in_a_drain_holders_signal_no_more_and_listeners_go() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.listener(">", ""), d.listener(">", "g"));
    let token = d.takes(a, "k");
    d.says(a, listen("c", ""), "ok\n");
    d.drain();
    for listener in [b, c] {
        d.hears(listener, "");
        d.is_closed(listener);
    }
    for request in [
        listen("c", ""),
        listen("d", "g"),
        signal("c", "x"),
        signal("c", &"x".repeat(LINE - 6)),
    ] {
        d.says(a, request, "error_draining\n");
        d.is_open(a);
    }
    assert_eq!(d.channels(a), ["c - 1"]);
    d.says(a, unlisten("c", ""), "ok\n");
    assert!(d.channels(a).is_empty());
    d.says(a, release("k", &token), "ok\n");
    d.is_shut(a);
}
