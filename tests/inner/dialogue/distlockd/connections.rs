//! The frames of distlockd and its connections: what is answered to what cannot be done, and how a connection lives that
//! a pool keeps for later.

use super::*;

#[test]
fn mistakes_are_answered_and_leave_the_stream_in_step() {
    let mut d = Dialogue::new();
    let a = d.dial();
    let (long, utf8) = ("i".repeat(257), "Name and client id must be UTF-8");
    for (mistake, why) in [
        (frame(0, "k", "a"), "Invalid command"),
        (frame(4, "k", "a"), "Invalid command"),
        (frame(255, "", ""), "Invalid command"),
        (
            frame(b'l', [b'x'; 65_535], [b'y'; 65_535]),
            "Invalid command",
        ),
        (frame(ACQUIRE, "", "a"), "Lock name cannot be empty"),
        (frame(RELEASE, "", ""), "Lock name cannot be empty"),
        (frame(ACQUIRE, "k", &long), "Client id is over 256 bytes"),
        (frame(RELEASE, "k", &long), "Client id is over 256 bytes"),
        (
            frame(ACQUIRE, "k", [b'i'; 65_535]),
            "Client id is over 256 bytes",
        ),
        (frame(ACQUIRE, b"\xff", "a"), utf8),
        (frame(RELEASE, "k", b"\xc3"), utf8),
        // Together they would be, apart they are not.
        (frame(ACQUIRE, b"k\xc3", b"\xa9"), utf8),
        // A surrogate, and more bytes than it takes.
        (frame(ACQUIRE, b"\xed\xa0\x80", "a"), utf8),
        (frame(ACQUIRE, b"\xc0\x80", "a"), utf8),
    ] {
        let batch = [&mistake[..], &frame(HEALTH, "", ""), &mistake].concat();
        d.asks(a, batch, [&invalid(why)[..], &OK, &invalid(why)].concat());
        d.asks(a, &mistake, invalid(why));
    }
    assert_eq!(d.keys(), 0);
    d.is_open(a);
}

#[test]
fn names_and_ids_may_be_whatever_the_format_carries() {
    let mut d = Dialogue::new();
    let (a, b) = (d.dial(), d.dial());
    let long = "n".repeat(65_535);
    let almost = "n".repeat(65_534) + "m";
    let id = "i".repeat(256);
    for name in [" ", "a b", "\n", "\0", "\u{e9}\u{1f512}", &long, &almost] {
        d.claims(a, name, &id);
        d.is_busy(b, name, &id[1..]);
        d.is_busy(b, name, "");
        d.gives_back(b, name, &id);
        d.claims(b, name, "");
        d.is_busy(a, name, &id);
        d.claims(a, name, "");
    }
    d.has_not(a, &long, &id);
    d.gives_back(a, &long, "");
    d.is_busy(b, &almost, &id);
}

#[test]
fn health_looks_at_neither_name_nor_id() {
    let mut d = Dialogue::new();
    let a = d.dial();
    for (name, id) in [
        (&b""[..], &b""[..]),
        (b"k", b"a"),
        (b"\xff", &[b'i'; 300]),
        (&[0xff; 65_535], &[0xff; 65_535]),
    ] {
        d.asks(a, frame(HEALTH, name, id), OK);
    }
    assert_eq!(d.keys(), 0);
}

#[test]
fn this_face_knows_no_secret_and_no_http() {
    let mut d = Dialogue::with(|s| s.secret = Some(b"open sesame".to_vec()));
    let (a, line) = (d.dial(), d.connect());
    d.claims(a, "k", "a");
    d.asks(a, frame(9, "k", "a"), invalid("Invalid command"));
    // On a line this would be a browser; here it is half a frame.
    d.asks(a, "GET / HTTP/1.1\r\n", "");
    d.is_open(a);
    d.says(line, "l\nk\n0\n", "error_auth\n");
}

// Bytes, in any portion.

/// One of each answer, and what they are answered.
fn conversation() -> (Vec<u8>, Vec<u8>) {
    let asked = [
        frame(HEALTH, "", ""),
        frame(ACQUIRE, "k", "a"),
        frame(ACQUIRE, "k", "b"),
        frame(9, "x", "yz"),
        frame(ACQUIRE, "k", "a"),
        frame(RELEASE, "k", "b"),
        frame(RELEASE, "k", "a"),
        frame(ACQUIRE, "", "a"),
        frame(ACQUIRE, "k", "b"),
    ];
    let answers = [
        OK.to_vec(),
        OK.to_vec(),
        busy(),
        invalid("Invalid command"),
        OK.to_vec(),
        error("Invalid release"),
        OK.to_vec(),
        invalid("Lock name cannot be empty"),
        OK.to_vec(),
    ];
    (asked.concat(), answers.concat())
}

#[test]
fn pipelined_requests_are_answered_in_order_whole_byte_by_byte_and_cut_anywhere() {
    let (asked, answers) = conversation();
    for cut in 0..=asked.len() {
        let mut d = Dialogue::new();
        let a = d.dial();
        d.send(a, &asked[..cut]);
        d.send(a, &asked[cut..]);
        d.reads(a, &answers);
    }
    let mut d = Dialogue::new();
    let a = d.dial();
    for byte in asked {
        d.send(a, [byte]);
    }
    d.reads(a, answers);
}

#[test]
fn what_follows_a_frame_of_the_greatest_length_is_the_next() {
    for piece in [131_075 + 5, 16 * 1024, 1000] {
        let mut d = Dialogue::new();
        let a = d.dial();
        let long = frame(ACQUIRE, [b'x'; 65_535], [b'y'; 65_535]);
        for piece in [long, frame(HEALTH, "", "")].concat().chunks(piece) {
            d.send(a, piece);
        }
        d.reads(
            a,
            [&invalid("Client id is over 256 bytes")[..], &OK].concat(),
        );
    }
}

#[test]
fn a_length_that_is_longer_than_what_comes_waits_and_closes_at_the_end_without_a_byte() {
    let (asked, _) = conversation();
    for rest in 1..frame(ACQUIRE, "k", "a").len() {
        let mut d = Dialogue::new();
        let a = d.dial();
        d.asks(a, &frame(ACQUIRE, "k", "a")[..rest], "");
        d.is_open(a);
        d.end(a);
        d.reads(a, "");
        d.is_closed(a);
        assert_eq!(d.keys(), 0);
    }
    // The rest of a frame that is shorter than it says is taken from the next.
    let mut d = Dialogue::new();
    let a = d.dial();
    let mut lie = frame(RELEASE, "k", "a");
    lie[4] = (1 + asked.len()) as u8;
    d.asks(a, [&lie[..], &asked].concat(), error("Invalid release"));
    // And of one that is longer there is a frame too many, whatever it is.
    let mut lie = frame(RELEASE, "k", [HEALTH, 0, 0, 0, 0]);
    lie[4] = 0;
    d.asks(a, lie, [&error("Invalid release")[..], &OK].concat());
    assert_eq!(d.keys(), 0);
}

#[test]
fn whole_requests_before_the_end_of_the_connection_are_answered() {
    let (asked, answers) = conversation();
    for rest in [&b""[..], b"\x01", b"\x01\0\x01\0\x01k"] {
        let mut d = Dialogue::new();
        let a = d.dial();
        d.0.send_only(a, &[&asked[..], rest].concat());
        d.end(a);
        d.reads(a, &answers);
        d.is_closed(a);
    }
}

#[test]
fn an_answer_is_in_the_output_whole_before_any_of_it_is_sent() {
    let mut d = Dialogue::new();
    let a = d.dial();
    d.0.clients[a].appetite = 0;
    d.0.send_only(a, &frame(ACQUIRE, "k", "a"));
    d.0.send_only(a, &frame(ACQUIRE, "k", "b"));
    assert_eq!(d.0.next_write(), Some(a));
    assert_eq!(d.0.output(a), [&OK[..], &busy()].concat());
    assert_eq!(d.0.next_write(), None);
}

#[test]
fn a_batch_takes_its_share_of_a_turn_and_others_have_theirs() {
    let mut d = Dialogue::new();
    let (a, b, line) = (d.dial(), d.dial(), d.connect());
    d.0.send_only(a, &frame(HEALTH, "", "").repeat(3000));
    d.0.send_only(b, &frame(ACQUIRE, "k", "b"));
    d.0.send_only(line, b"ping\n_\n_\n");
    d.0.turn();
    d.reads(b, OK);
    d.hears(line, "ok\n");
    let answered = d.0.clients[a].heard.len() / OK.len();
    assert!(answered < 1000, "{answered} in a turn");
    d.0.settle();
    d.reads(a, OK.repeat(3000));
}

#[test]
fn who_does_not_read_is_not_read_and_is_answered_later() {
    let mut d = Dialogue::with(|s| s.write_timeout = 0);
    let a = d.dial();
    d.0.clients[a].appetite = 0;
    let count = 100_000;
    d.send(a, frame(HEALTH, "", "").repeat(count));
    assert!(d.0.output(a).len() < OUTPUT_MAX + 100);
    assert!(d.0.clients[a].unread.len() > 5 * count - 5 * OUTPUT_MAX - 2 * INPUT_MAX);
    d.0.feed_client(a, usize::MAX);
    d.0.settle();
    d.reads(a, OK.repeat(count));
}

// Time.

#[test]
fn a_pool_may_keep_a_connection_for_days() {
    let mut d = Dialogue::new();
    let (fresh, used) = (d.dial(), d.dial());
    d.claims(used, "k", "a");
    d.at(3 * 24 * 3600 * 1000);
    for client in [fresh, used] {
        d.is_open(client);
        d.claims(client, "k", "a");
    }
}

#[test]
fn half_a_request_has_its_time_and_then_the_connection_is_closed_without_a_byte() {
    for before in [0, 1] {
        for part in [1, 4, 5, 6] {
            let mut d = Dialogue::new();
            let a = d.dial();
            d.at(1000);
            let health = frame(HEALTH, "", "").repeat(before);
            d.send(a, health);
            d.at(100_000);
            d.send(a, &frame(ACQUIRE, "k", "a")[..part]);
            d.at(122_999);
            d.is_open(a);
            d.at(123_000);
            d.is_closed(a);
            d.reads(a, OK.repeat(before));
        }
    }
}

#[test]
fn bytes_do_not_extend_the_time_of_a_request_and_each_has_its_own() {
    let mut d = Dialogue::new();
    let (slow, steady) = (d.dial(), d.dial());
    let request = frame(ACQUIRE, "a-longer-nam", "a");
    for (second, byte) in request[..12].iter().enumerate() {
        d.at(second as u64 * 2000);
        d.send(slow, [*byte]);
        // A batch in which there is always a request half done.
        let at = second * request.len() / 2 % request.len();
        let next = [&request[at..], &request[..at]].concat();
        d.send(steady, &next[..request.len() / 2]);
    }
    d.is_open(slow);
    d.at(23_000);
    d.is_closed(slow);
    d.reads(slow, "");
    d.is_open(steady);
}

#[test]
fn a_request_that_is_half_there_behind_an_answer_has_its_time_from_then() {
    let mut d = Dialogue::new();
    let a = d.dial();
    let request = frame(ACQUIRE, "k", "a");
    d.send(a, &request[..3]);
    d.at(20_000);
    d.asks(a, [&request[3..], &request[..3]].concat(), OK);
    d.at(42_999);
    d.is_open(a);
    d.asks(a, &request[3..], OK);
    d.at(500_000);
    d.is_open(a);
    d.send(a, &request[..3]);
    d.at(523_000);
    d.is_closed(a);
}

#[test]
fn who_does_not_take_its_answers_is_cut_after_the_write_timeout() {
    let mut d = Dialogue::new();
    let (a, b) = (d.dial(), d.dial());
    d.0.clients[a].appetite = 1;
    d.asks(a, frame(ACQUIRE, "k", "a"), [0]);
    d.at(4_999);
    d.is_open(a);
    d.at(5_000);
    d.is_closed(a);
    // What it was granted is its id's, and no connection's.
    d.is_busy(b, "k", "b");
    d.claims(b, "k", "a");
}

// A drain.

#[test]
fn a_browser_is_sent_away_without_a_word_and_drives_nothing() {
    for cut in [1, 4, 5, 1000] {
        let mut d = Dialogue::new();
        let (browser, a) = (d.dial(), d.dial());
        // As a frame this is a command that there is none of, 41,848 bytes long, and one that is whole behind it.
        let mut page = b"POST / HTTP/1.1\r\n".to_vec();
        page.resize(41_848, b'x');
        page.extend(frame(1, "k", "page"));
        for part in page.chunks(cut.max(page.len() / 1000)) {
            d.send(browser, part);
        }
        d.is_closed(browser);
        d.reads(browser, b"");
        d.claims(a, "k", "a");
    }
}

#[test]
fn neither_another_method_nor_tls_drives_anything() {
    // As frames, these are commands that there are none of. A whole frame is behind each.
    let hello = |id: u8| [0x16, 3, 1, 2, id];
    for (head, len) in [
        (&b"PAST / HTTP/1.1\r\n"[..], 5 + 0x4153 + 0x5420),
        (
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            5 + 0x5249 + 0x202a,
        ),
        (&hello(0)[..], 5 + 0x0301 + 0x0200),
        (&hello(99)[..], 5 + 0x0301 + 0x0263),
    ] {
        for cut in [1, 4, usize::MAX] {
            let mut d = Dialogue::new();
            let (browser, a) = (d.dial(), d.dial());
            let mut page = head.to_vec();
            page.resize(len, b'x');
            page.extend(frame(1, "k", "page"));
            for part in page.chunks(cut.max(page.len() / 1000)) {
                d.send(browser, part);
            }
            d.is_closed(browser);
            d.reads(browser, b"");
            d.claims(a, "k", "a");
        }
    }
}
