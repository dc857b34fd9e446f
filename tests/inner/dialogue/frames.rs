//! Framing, pipelining, caps, and what is not a request.

use super::*;

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
}

#[test]
fn any_number_of_frames_in_one_segment_are_answered_in_order() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let frames = "ping\n_\n_\nbogus\nk\n1\nl\nk\n0\nl\nk\n0\nping\n_\n_\n";
    d.send(a, frames);
    let heard = d.heard(a);
    let lines: Vec<&str> = heard
        .lines()
        .map(|l| l.split(' ').next().unwrap())
        .collect();
    assert_eq!(lines, ["ok", "error", "ok", "timeout", "ok"]);
}

#[test]
fn more_frames_than_a_turns_share_are_all_answered() {
    let mut d = Dialogue::new();
    let clients: Vec<usize> = (0..30).map(|_| d.connect()).collect();
    for &client in &clients {
        d.0.send_only(client, "ping\n_\n_\n".repeat(1000).as_bytes());
    }
    d.0.settle();
    for &client in &clients {
        d.hears(client, &"ok\n".repeat(1000));
    }
}

#[test]
fn frames_may_come_byte_by_byte() {
    let mut d = Dialogue::new();
    let a = d.connect();
    for byte in b"l\r\nk\r\n0\r\n" {
        d.hears(a, "");
        d.send(a, [*byte]);
    }
    d.is_granted(a, 33);
}

#[test]
fn frames_behind_a_waiting_acquire_wait_and_then_go_on() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\nping\n_\n_\nl\nk\n0\nping\n_", "");
    d.says(a, release("k", &token), "ok\n");
    let heard = d.heard(b);
    assert!(
        heard.starts_with("ok ") && heard.ends_with("ok\ntimeout\n"),
        "{heard:?}"
    );
    d.says(b, "\n_\n", "ok\n");
}

#[test]
fn a_granted_session_with_pipelined_input_wakes_in_the_same_turn() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\nping\n_\n_\n", "");
    d.0.send_only(a, release("k", &token).as_bytes());
    d.0.turn();
    assert!(d.heard(b).ends_with(" 33\nok\n"));
}

#[test]
fn a_timed_out_session_with_pipelined_input_wakes_too() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n5\nping\n_\n_\n", "");
    d.at(5_000);
    d.hears(b, "timeout\nok\n");
}

#[test]
fn a_line_over_its_cap_is_an_error_and_the_end_and_nothing_behind_it_runs() {
    for line in 0..3 {
        for cr in ["", "\r"] {
            let mut d = Dialogue::new();
            let (a, b) = (d.connect(), d.connect());
            let mut lines = ["l".to_string(), "key".to_string(), "0".to_string()];
            lines[line] = "0".repeat(257 - cr.len()) + cr;
            d.send(a, lines.join("\n") + "\nl\nk\n0\n");
            d.hears(a, "error\n");
            d.lingers(a);
            d.takes(b, "k");
        }
    }
}

#[test]
fn a_line_at_its_cap_is_fine() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.takes(a, &"k".repeat(256));
    d.send(a, format!("l\n{}\r\n0\n", "x".repeat(255)));
    d.is_granted(a, 33);
}

#[test]
fn an_endless_line_is_discarded_as_it_comes_and_answered_at_its_end_or_deadline() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    for _ in 0..1000 {
        d.says(a, [b'x'; 10_000], "");
        d.says(b, [b'x'; 10_000], "");
    }
    d.says(a, "\n", "error\n");
    d.lingers(a);
    d.at(22_999);
    d.hears(b, "");
    d.at(23_000);
    d.hears(b, "error\n");
    d.lingers(b);
}

#[test]
fn a_closed_connection_is_read_for_a_second_or_256_kib_so_that_its_last_line_arrives() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    for client in [a, b, c] {
        d.says(client, "x".repeat(300) + "\n", "error\n");
        d.lingers(client);
    }
    d.end(a);
    d.is_closed(a);
    for _ in 0..16 {
        d.send(b, [b'x'; 16 * 1024]);
        d.lingers(b);
    }
    d.send(b, "x");
    d.is_closed(b);
    d.at(999);
    d.lingers(c);
    d.at(1_000);
    d.is_closed(c);
}

#[test]
fn http_is_closed_at_once_without_an_answer() {
    for method in [
        "GET", "POST", "PUT", "PATCH", "HEAD", "OPTIONS", "DELETE", "CONNECT", "TRACE",
    ] {
        let mut d = Dialogue::new();
        let (a, b) = (d.connect(), d.connect());
        d.says(a, format!("{method} / HTTP/1.1\r\nl\nk\n0\nl\nk\n0\n"), "");
        d.is_closed(a);
        d.takes(b, "k");
        // Not a first line: an ordinary bad command.
        d.says(b, format!("{method} /\nk\n1\n"), "error\n");
        d.is_open(b);
    }
}

#[test]
fn http_is_known_even_byte_by_byte() {
    let mut d = Dialogue::new();
    let a = d.connect();
    for byte in b"GET " {
        d.is_open(a);
        d.send(a, [*byte]);
    }
    d.is_closed(a);
}
