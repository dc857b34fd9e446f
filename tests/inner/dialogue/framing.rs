//! The form of frames, keys and arguments, the caps of lines, and what is not a request.

use super::*;

/// What a client says with all the commands, given the tokens of its lock `k1` and its slot of `s1`.
fn script(lock: &str, slot: &str) -> Vec<(String, &'static str)> {
    vec![
        (frame("e", "free", ""), "acquired T 33"),
        (frame("w", "free", "0"), "ok T 33"),
        (frame("se", "s2", "2 40"), "acquired T 40"),
        (frame("sw", "s2", "5"), "ok T 40"),
        (frame("sl", "s3", "0 1"), "ok T 33"),
        (frame("sn", "s1", &format!("{slot} 50")), "ok 50"),
        (frame("n", "k1", lock), "ok 33"),
        (frame("sr", "s1", slot), "ok"),
        (frame("r", "k1", lock), "ok"),
        (frame("e", "held", ""), "queued"),
        (frame("e", "held", ""), "error_already_enqueued"),
        (frame("w", "held", "0"), "timeout"),
        (frame("w", "held", "0"), "error_not_enqueued"),
        (frame("sl", "s3", "0 2"), "error_limit_mismatch"),
        (frame("auth", "", "x"), "error"),
        (frame("ping", "", ""), "ok"),
        (frame("nonsense", "k", ""), "error"),
    ]
}

/// The script in pieces of these lengths, the last one as often as needed.
fn runs_in_pieces(mut lengths: impl Iterator<Item = usize>, line_end: &str) {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(b, "held");
    let lock = d.takes(a, "k1");
    let slot = d.takes_slot(a, "s1", 4);
    let script = script(&lock, &slot);
    let text: String = script.iter().map(|(request, _)| &request[..]).collect();
    let text = text.replace('\n', line_end);
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let n = lengths.next().unwrap_or(rest.len()).min(rest.len());
        d.send(a, &rest[..n]);
        rest = &rest[n..];
    }
    let answers: String = script
        .iter()
        .map(|(_, answer)| format!("{answer}\n"))
        .collect();
    assert_eq!(masked(&d.heard(a)), answers);
}

#[test]
fn all_commands_are_answered_in_order_in_one_segment_byte_by_byte_and_cut_anywhere() {
    runs_in_pieces(std::iter::empty(), "\n");
    runs_in_pieces(std::iter::repeat(1), "\n");
    for cut in 1..500 {
        runs_in_pieces(std::iter::once(cut), "\n");
    }
}

#[test]
fn all_trailing_carriage_returns_of_a_line_are_dropped() {
    runs_in_pieces(std::iter::empty(), "\r\n");
    runs_in_pieces(std::iter::repeat(1), "\r\r\r\n");
}

#[test]
fn commands_are_compared_byte_for_byte() {
    let mut d = Dialogue::new();
    let a = d.connect();
    for command in [
        "E", "W", "SL", "sL", " e", "e ", "\te", "se\0", "s", "ss", "sel", "enqueue", "wait",
        "Auth", "STATS", "stats ", "", "e\re",
    ] {
        d.says(a, frame(command, "k", "0"), "error\n");
        d.says(a, frame(command, "k", "0 1"), "error\n");
        d.says(a, frame(command, "k", ""), "error\n");
    }
    d.is_open(a);
    assert_eq!(d.keys(), 0);
}

#[test]
fn a_wrong_number_of_arguments_is_an_error_and_executes_nothing() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let lock = d.takes(a, "k");
    let slot = d.takes_slot(a, "k", 2);
    for (command, argument) in [
        ("e", "30 junk"),
        ("e", "junk"),
        ("e", "30 30"),
        ("w", ""),
        ("w", " \t"),
        ("w", "0 junk"),
        ("w", "0 0"),
        ("l", ""),
        ("l", "0 1 2"),
        ("l", "0 1 junk"),
        ("sl", ""),
        ("sl", "0"),
        ("sl", "0 2 30 junk"),
        ("sl", "0 2 junk"),
        ("sl", "0 junk"),
        ("se", ""),
        ("se", " "),
        ("se", "2 30 junk"),
        ("se", "2 junk"),
        ("n", ""),
        ("sn", ""),
        ("r", ""),
        ("sr", ""),
        ("r", " \t "),
        ("sr", " \t "),
        ("n", " \t "),
        ("sn", " \t "),
        ("r", "a b"),
        ("sr", "a b"),
        ("n", "a b"),
        ("n", "a 10 b"),
        ("sn", "a 10 b"),
    ] {
        d.says(a, frame(command, "k", argument), "error\n");
        d.says(a, frame(command, "new", argument), "error\n");
    }
    for (command, token) in [("r", &lock), ("sr", &slot)] {
        d.says(
            a,
            frame(command, "k", &format!("{token} {token}")),
            "error\n",
        );
        d.says(a, frame(command, "k", &format!("{token} junk")), "error\n");
    }
    for (command, token) in [("n", &lock), ("sn", &slot)] {
        d.says(
            a,
            frame(command, "k", &format!("{token} 10 junk")),
            "error\n",
        );
        d.says(a, frame(command, "k", &format!("{token} junk")), "error\n");
    }
    d.is_open(a);
    assert_eq!(d.keys(), 2);
    d.says(a, release("k", &lock), "ok\n");
    d.says(a, frame("sr", "k", &slot), "ok\n");
}

#[test]
fn arguments_are_split_on_runs_of_blanks_and_trimmed() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(a, "e\nk\n \t 20\t \n");
    let token = d.gets(a, "acquired", 20);
    d.send(a, "w\nk\n\t 0 \t\n");
    d.gets(a, "ok", 20);
    d.says(a, renew("k", &format!("\t{token} \t  40\t")), "ok 40\n");
    d.says(a, release("k", &format!(" \t{token}\t ")), "ok\n");
    d.send(a, "sl\ns\n  0\t\t3 \t50  \n");
    let token = d.gets(a, "ok", 50);
    d.send(a, "se\ns\n\t3\t\t60\t\n");
    d.gets(a, "acquired", 60);
    d.send(a, "sw\ns\n 9\t\n");
    d.gets(a, "ok", 60);
    d.says(a, frame("sn", "s", &format!(" {token}\t")), "ok 33\n");
    d.says(a, frame("sr", "s", &format!(" {token}\t")), "ok\n");
}

/// Commands that take seconds, with the place of the number, and the answer to a good one.
const SECONDS: [(&str, &str, &str); 9] = [
    ("l", "{} 5", "ok T 5\n"),
    ("l", "0 {}", "ok T {}\n"),
    ("e", "{}", "acquired T {}\n"),
    ("w", "{}", "error_not_enqueued\n"),
    ("sl", "{} 3 5", "ok T 5\n"),
    ("sl", "0 3 {}", "ok T {}\n"),
    ("se", "3 {}", "acquired T {}\n"),
    ("sw", "{}", "error_not_enqueued\n"),
    ("n", "TOKEN {}", "ok {}\n"),
];

#[test]
fn seconds_go_up_to_9223372036_and_no_further() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "TOKEN");
    for (n, (command, argument, answer)) in SECONDS.iter().enumerate() {
        let keys = d.keys();
        let argument = argument.replace("TOKEN", &token);
        let key = match *command {
            "n" => "TOKEN".to_string(),
            _ => format!("k{n}"),
        };
        for bad in [
            "9223372037",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551617",
            "100000000000000000000",
            &"9".repeat(200),
            "1e20",
            "-1",
            "-9223372036",
            "1.5",
            "0x10",
            "1_000",
            "+",
            "-",
            "--1",
            "+-1",
            "١",
            "inf",
            "5s",
            "5\0",
        ] {
            let request = frame(command, &key, &argument.replace("{}", bad));
            d.says(a, request, "error\n");
        }
        assert_eq!(d.keys(), keys);
        let most = "9223372036";
        d.send(a, frame(command, &key, &argument.replace("{}", most)));
        assert_eq!(masked(&d.heard(a)), answer.replace("{}", most));
    }
}

#[test]
fn signs_and_leading_zeros_are_fine() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "TOKEN");
    let mut fresh = 0;
    for (command, argument, answer) in SECONDS {
        let argument = argument.replace("TOKEN", &token);
        for good in ["7", "+7", "007", "+0007", &format!("{}7", "0".repeat(180))] {
            fresh += 1;
            let key = match command {
                "n" => "TOKEN".to_string(),
                _ => format!("k{fresh}"),
            };
            d.send(a, frame(command, &key, &argument.replace("{}", good)));
            assert_eq!(masked(&d.heard(a)), answer.replace("{}", "7"), "{good}");
        }
    }
}

#[test]
fn a_timeout_may_be_0_and_a_lease_may_not() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "TOKEN");
    let mut fresh = 0;
    for (command, argument, answer) in SECONDS {
        let is_timeout = !answer.contains("{}");
        for zero in ["0", "+0", "-0", "000"] {
            fresh += 1;
            let key = match command {
                "n" => "TOKEN".to_string(),
                _ => format!("k{fresh}"),
            };
            let argument = argument.replace("TOKEN", &token).replace("{}", zero);
            d.send(a, frame(command, &key, &argument));
            let answer = if is_timeout { answer } else { "error\n" };
            assert_eq!(masked(&d.heard(a)), answer, "{command} {zero}");
        }
    }
}

#[test]
fn the_longest_waits_wait() {
    let mut d = Dialogue::patient();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.send(a, "l\nk\n0 9223372036\nsl\nk\n0 1 9223372036\n");
    assert_eq!(masked(&d.heard(a)), "ok T 9223372036\nok T 9223372036\n");
    d.says(b, "l\nk\n9223372036\n", "");
    d.says(c, "sl\nk\n9223372036 1\n", "");
    d.at(1_000_000_000);
    d.hears(b, "");
    d.hears(c, "");
    d.end(a);
    d.is_granted(b, 33);
    d.is_granted(c, 33);
}

#[test]
fn bad_keys_are_errors_in_every_command_that_has_one() {
    let mut d = Dialogue::new();
    let a = d.connect();
    for (command, argument) in [
        ("l", "0"),
        ("e", ""),
        ("w", "0"),
        ("n", "x"),
        ("r", "x"),
        ("sl", "0 1"),
        ("se", "1"),
        ("sw", "0"),
        ("sn", "x"),
        ("sr", "x"),
    ] {
        for key in [
            "", " ", "a b", " a", "a ", "\t", "a\tb", "a\rb", "\ra", "\r", "\r\r",
        ] {
            d.says(a, frame(command, key, argument), "error\n");
        }
    }
    d.is_open(a);
    assert_eq!(d.keys(), 0);
}

#[test]
fn keys_and_tokens_are_bytes() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    for key in [
        &b"\x00"[..],
        b"\x1b[31m",
        b"\xff\xfe",
        b"\xc3\x28",
        "clé".as_bytes(),
        b"\x7f",
        b"\x0b\x0c",
        &[b'x'; 256],
    ] {
        let request = [&b"e\n"[..], key, b"\n\n"].concat();
        d.send(a, &request);
        let token = d.gets(a, "acquired", 33);
        d.says(b, &request, "queued\n");
        let bad = [&b"r\n"[..], key, b"\n\xff\x00\xfe\n"].concat();
        d.says(a, bad, "error\n");
        let good = [&b"r\n"[..], key, b"\n", token.as_bytes(), b"\n"].concat();
        d.says(a, good, "ok\n");
        let wait = [&b"w\n"[..], key, b"\n0\n"].concat();
        d.send(b, wait);
        d.gets(b, "ok", 33);
    }
}

#[test]
fn keys_that_differ_in_one_byte_are_different_keys() {
    let mut d = Dialogue::new();
    let a = d.connect();
    for key in ["k", "K", "k\0", "\u{feff}k", "k.", "é", "e\u{301}"] {
        d.enqueues(a, key);
    }
}

#[test]
fn the_key_and_argument_of_ping_and_stats_are_ignored() {
    let mut d = Dialogue::new();
    let a = d.connect();
    for (key, argument) in [("", ""), ("a b", "c d"), ("a\rb", "\t"), ("_", "-1 junk")] {
        d.says(a, frame("ping", key, argument), "ok\n");
        d.send(a, frame("stats", key, argument));
        stats_in(&d.heard(a));
    }
}

#[test]
fn a_line_of_256_bytes_is_taken_and_one_of_257_ends_the_connection() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.takes(a, &"k".repeat(256));
    d.send(a, format!("l\n{}\r\n0\n", "x".repeat(255)));
    d.is_granted(a, 33);
    let pad = |text: &str, n: usize| format!("{text}{}", " ".repeat(n - text.len()));
    for (command, argument) in [
        ("l", "0 5"),
        ("e", "5"),
        ("w", "0"),
        ("sl", "0 1"),
        ("se", "1"),
        ("stats", ""),
    ] {
        let mut d = Dialogue::new();
        let (a, b) = (d.connect(), d.connect());
        d.send(a, frame(command, "k", &pad(argument, 256)));
        assert_ne!(d.heard(a), "error\n", "{command}");
        d.is_open(a);
        let behind = "l\nbehind\n0\n";
        d.send(b, frame(command, "k", &pad(argument, 257)) + behind);
        d.hears(b, "error\n");
        d.is_shut(b);
        let c = d.connect();
        let cr = pad(argument, 256) + "\r";
        d.send(c, frame(command, "k", &cr) + behind);
        d.hears(c, "error\n");
        d.is_shut(c);
        let e = d.connect();
        d.send(e, frame(command, &"k".repeat(257), argument) + behind);
        d.hears(e, "error\n");
        d.is_shut(e);
        let f = d.connect();
        d.send(f, frame(&"0".repeat(257), "k", argument) + behind);
        d.hears(f, "error\n");
        d.is_shut(f);
        d.takes(a, "behind");
    }
}

#[test]
fn the_large_cap_is_for_the_argument_of_auth_and_for_nothing_else() {
    let mut d = Dialogue::new();
    let long = "x".repeat(300);
    for (request, stays) in [
        (frame("auth", "_", &long), true),
        (frame("auth", &long, "x"), false),
        (frame("r", "k", &long), false),
        (frame("sr", "k", &long), false),
        (frame("sn", "k", &long), false),
        (frame("ping", "_", &long), false),
        (frame("stats", "_", &long), false),
        (frame("auth ", "_", &long), false),
        (frame("authx", "_", &long), false),
    ] {
        let a = d.connect();
        d.says(a, request, "error\n");
        assert_eq!(!d.0.clients[a].shut, stays);
    }
}

#[test]
fn the_cap_of_a_line_is_chosen_anew_for_each_frame() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.says(a, frame("auth", "_", &"x".repeat(65_536)), "error\n");
    d.says(a, "ping\n_\n_\n", "ok\n");
    d.says(a, frame("r", "k", &"x".repeat(257)), "error\n");
    d.is_shut(a);
}

#[test]
fn a_partial_frame_before_the_end_is_dropped() {
    let mut d = Dialogue::new();
    for request in ["e\nk\n", "e\nk", "sl\nk\n0 1", "stats\n_\n", "auth\n_\nx"] {
        let a = d.connect();
        d.send(a, request);
        d.end(a);
        d.hears(a, "");
        d.is_closed(a);
    }
    assert_eq!(d.keys(), 0);
}

#[test]
fn a_first_line_of_http_is_closed_at_once_without_an_answer() {
    for method in [
        "GET ", "POST ", "PUT ", "PATCH ", "HEAD ", "OPTIONS ", "DELETE ", "CONNECT ", "TRACE ",
    ] {
        let mut d = Dialogue::new();
        let a = d.connect();
        let behind = "l\nk\n0\ne\nk\n\n".repeat(3);
        d.send(a, format!("{method}/ HTTP/1.1\r\n{behind}"));
        d.hears(a, "");
        d.is_closed(a);
        assert_eq!(d.keys(), 0);
        // Byte by byte as well.
        let a = d.connect();
        for byte in format!("{method}/ HTTP/1.1\r\n{behind}").bytes() {
            if !d.0.clients[a].closed {
                d.send(a, [byte]);
            }
        }
        d.hears(a, "");
        d.is_closed(a);
        assert_eq!(d.keys(), 0);
        // Only of the first line, and only in capitals.
        let b = d.connect();
        d.says(b, frame(&method.to_lowercase(), "k", "0"), "error\n");
        d.says(b, frame(method, "k", "0"), "error\n");
        d.is_open(b);
    }
}

#[test]
fn malformed_frames_are_errors_and_leave_the_connection_open_and_in_step() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let bad = [
        "\n\n\n",
        "bogus\nk\n1\n",
        "L\nk\n1\n",
        "l\n\n1\n",
        "l\na b\n1\n",
        "l\nk\n\n",
        "l\nk\nx\n",
        "l\nk\n-1\n",
        "l\nk\n1 0\n",
        "l\nk\n1 1 1\n",
        "l\nk\n9223372037\n",
        "r\nk\n\n",
        "r\nk\n  \n",
        "r\nk\na b\n",
        "n\nk\n\n",
        "e\nk\n0\n",
        "e\nk\n30 junk\n",
        "w\nk\n\n",
        "w\nk\n1 2\n",
        "sl\nk\n1\n",
        "sl\nk\n1 0\n",
        "sl\nk\n1 1048577\n",
        "sl\nk\n1 2 3 4\n",
        "se\nk\n\n",
        "sr\nk\n\n",
        "auth\n_\nanything\n",
        "listen\na*\n\n",
        "unlisten\n>.a\n\n",
        "signal\na.*\nx\n",
        "signal\na\n \n",
        "s\nk\n1\n",
        "\0\n\0\n\0\n",
    ];
    for frame in bad {
        d.says(a, frame, "error\n");
    }
    d.says(a, bad.concat(), &"error\n".repeat(bad.len()));
    d.says(a, "ping\n\n\n", "ok\n");
    d.is_open(a);
    // Also where lines are missing, and the next frame begins in the middle of what was meant.
    let d = &mut Dialogue::new();
    let a = d.connect();
    d.send(
        a,
        "e\n\nping\nnonsense\ne\nk\nse\nk\n\nw\nk\nw\nstats\n\n\nsl\nk\n0 0\nping\n_\n_\n",
    );
    let heard = d.heard(a);
    let answers: Vec<&str> = heard
        .lines()
        .map(|l| l.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        answers,
        ["error", "error", "error", "error", "ok", "error", "ok"]
    );
    assert_eq!(d.keys(), 0);
}

#[test]
fn what_a_browser_chooses_for_its_first_bytes_drives_nothing() {
    let hello = "\u{16}\u{3}\u{1}\u{2}\0\u{1}\n_\n_\n";
    for head in [
        hello,
        "GET /\r\n",
        "MKCOL / HTTP/1.1\r\n_\n_\n",
        "anything HTTP/1.0\n_\n_\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let bytes = format!("{head}l\nk\n0 99\nping\n_\n_\n");
        for size in [1, 2, 5, bytes.len()] {
            let mut d = Dialogue::new();
            let (browser, a) = (d.connect(), d.connect());
            for part in bytes.as_bytes().chunks(size) {
                d.send(browser, part);
            }
            d.hears(browser, "");
            d.is_closed(browser);
            d.takes(a, "k");
        }
    }
}

#[test]
fn later_bytes_of_a_connection_may_be_what_a_browser_would_send() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.says(a, "ping\n_\n_\n", "ok\n");
    for frame in [
        "MKCOL / HTTP/1.1\r\n_\n_\n",
        "GET / HTTP/1.1\r\n_\n_\n",
        "\u{16}\u{3}\u{1}\n_\n_\n",
    ] {
        d.says(a, frame, "error\n");
    }
    d.is_open(a);
}
