//! Authentication: the first frame, what is told to whom does not have the secret, and when.

use super::*;

const SECRET: &str = "open-sesame";

fn guarded() -> Dialogue {
    guarded_by(SECRET.as_bytes())
}

fn guarded_by(secret: &[u8]) -> Dialogue {
    Dialogue::with(|s| s.secret = Some(secret.to_vec()))
}

fn auth(secret: &str) -> String {
    frame("auth", "_", secret)
}

impl Dialogue {
    /// A client that has authenticated.
    #[track_caller]
    fn admit(&mut self) -> usize {
        let client = self.connect();
        self.says(client, auth(SECRET), "ok\n");
        client
    }

    /// The client hears `error_auth` and no more, now; the close comes 100 ms later.
    #[track_caller]
    fn is_refused(&mut self, client: usize) {
        self.hears(client, "error_auth\n");
        self.is_open(client);
        let now = self.0.now;
        self.0.until(now + 99_000);
        self.is_open(client);
        self.0.until(now + 100_000);
        self.is_shut(client);
        self.0.until(now + 2 * SECOND);
        self.is_closed(client);
        self.hears(client, "");
    }
}

#[test]
fn the_right_secret_opens_the_connection() {
    let mut d = guarded();
    let a = d.connect();
    d.says(a, auth(SECRET), "ok\n");
    d.takes(a, "k");
    d.says(a, "ping\n_\n_\n", "ok\n");
    d.at(10_000);
    d.is_open(a);
}

#[test]
fn the_key_of_auth_is_ignored_and_its_argument_trimmed() {
    let mut d = guarded();
    for request in [
        frame("auth", "", SECRET),
        frame("auth", "a b\tc", SECRET),
        frame("auth", "_", &format!(" \t{SECRET}\t ")),
        format!("auth\r\n_\r\n{SECRET}\r\n"),
        format!("auth\r\r\n\r\n{SECRET}\r\r\r\n"),
    ] {
        let a = d.connect();
        d.says(a, request, "ok\n");
        d.says(a, "ping\n_\n_\n", "ok\n");
    }
}

#[test]
fn a_secret_may_be_any_bytes_blanks_inside_included() {
    let secret = b"a b\t\xff\x00\xc3\x28\x1b c";
    let mut d = guarded_by(secret);
    let a = d.connect();
    let request = [&b"auth\n_\n"[..], secret, b"\n"].concat();
    d.says(a, request, "ok\n");
}

#[test]
fn what_waits_behind_the_right_auth_is_executed() {
    let mut d = guarded();
    let a = d.connect();
    d.send(a, auth(SECRET) + "l\nk\n0\nping\n_\n_\n");
    assert_eq!(masked(&d.heard(a)), "ok\nok T 33\nok\n");
}

#[test]
fn anything_else_first_is_refused_at_once_and_closed_100_ms_later() {
    for request in [
        "l\nk\n0\n",
        "ping\n_\n_\n",
        "stats\n_\n_\n",
        "e\nk\n\n",
        "r\nk\n00000000000000000000000000000000\n",
        "AUTH\n_\nopen-sesame\n",
        " auth\n_\nopen-sesame\n",
        "auth \n_\nopen-sesame\n",
        "\n\n\n",
        "nonsense\n\n\n",
        "l\nbad key\nx\n",
        "auth\n_\n\n",
        "auth\n_\n \t \n",
        "auth\n_\nopen-sesam\n",
        "auth\n_\nopen-sesamee\n",
        "auth\n_\nOpen-Sesame\n",
        "auth\n_\nopen sesame\n",
        "auth\n_\nopen-sesame x\n",
        "auth\nopen-sesame\n_\n",
        "auth\n_\nopen-sesame\0\n",
    ] {
        let mut d = guarded();
        let a = d.connect();
        d.send(a, request);
        d.is_refused(a);
    }
}

#[test]
fn a_frame_is_complete_before_it_is_refused() {
    let mut d = guarded();
    let a = d.connect();
    for byte in b"l\nk\n0" {
        d.says(a, [*byte], "");
    }
    d.send(a, "\n");
    d.is_refused(a);
}

#[test]
fn nothing_behind_a_bad_auth_is_executed() {
    let mut d = guarded();
    let b = d.admit();
    for bad in [auth("wrong"), frame("ping", "_", "_")] {
        let a = d.connect();
        let behind = "l\nk\n0\ne\nk2\n\n".to_string() + &auth(SECRET) + "l\nk3\n0\n";
        d.send(a, bad + &behind);
        d.hears(a, "error_auth\n");
        // Nor is what comes before the close.
        d.says(a, auth(SECRET) + "sl\nk4\n0 1\nstats\n_\n_\n", "");
        assert_eq!(d.keys(), 0);
        d.0.until(d.0.now + 2 * SECOND);
        d.is_closed(a);
        d.hears(a, "");
    }
    d.takes(b, "k");
}

#[test]
fn a_hundred_bad_auths_in_parallel_delay_no_grant() {
    let mut d = guarded();
    let (a, b) = (d.admit(), d.admit());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    let bad: Vec<usize> = (0..100).map(|_| d.0.connect()).collect();
    let before = d.0.now;
    for &client in &bad {
        d.0.send_only(client, auth("wrong").as_bytes());
    }
    d.0.send_only(a, release("k", &token).as_bytes());
    // They came first: what they cost is more than a turn has.
    for _ in 0..3 {
        d.0.turn();
    }
    d.is_granted(b, 33);
    d.hears(a, "ok\n");
    d.0.settle();
    assert_eq!(d.0.now, before);
    for &client in &bad {
        d.hears(client, "error_auth\n");
        d.is_open(client);
    }
    d.at(100);
    for &client in &bad {
        d.is_shut(client);
    }
}

#[test]
fn a_second_auth_is_an_error_and_the_connection_stays() {
    let mut d = guarded();
    let a = d.admit();
    d.takes(a, "k");
    d.says(a, auth(SECRET), "error\n");
    d.says(a, auth("wrong"), "error\n");
    d.says(a, auth(""), "error\n");
    d.at(5_000);
    d.is_open(a);
    d.says(a, "ping\n_\n_\n", "ok\n");
    d.says(a, "l\nk\n0\n", "timeout\n");
}

#[test]
fn auth_where_none_is_configured_is_an_error_and_the_connection_stays() {
    let mut d = Dialogue::new();
    let a = d.connect();
    for secret in ["x", "", " ", SECRET, &"x".repeat(65_536)] {
        d.says(a, auth(secret), "error\n");
    }
    d.at(5_000);
    d.is_open(a);
    d.takes(a, "k");
}

#[test]
fn a_secret_of_65536_bytes_is_taken_and_one_of_65537_is_not() {
    let secret = "s".repeat(65_536);
    let mut d = guarded_by(secret.as_bytes());
    let a = d.connect();
    d.says(a, auth(&secret), "ok\n");
    d.says(a, "ping\n_\n_\n", "ok\n");
    let longer = secret.clone() + "s";
    let b = d.connect();
    d.send(b, auth(&longer));
    d.is_refused(b);
    // A trailing CR counts.
    let c = d.connect();
    d.send(c, auth(&(secret + "\r")));
    d.is_refused(c);
    // A blank that would be trimmed counts as well.
    let mut d = guarded();
    let a = d.connect();
    let padded = format!("{SECRET}{}", " ".repeat(65_536 - SECRET.len()));
    d.says(a, auth(&padded), "ok\n");
    let b = d.connect();
    d.send(b, auth(&(padded + " ")));
    d.is_refused(b);
}

#[test]
fn an_authenticated_client_may_send_a_long_auth_up_to_the_cap() {
    let mut d = guarded();
    let a = d.admit();
    d.says(a, auth(&"x".repeat(65_536)), "error\n");
    d.is_open(a);
    d.says(a, auth(&"x".repeat(65_537)) + "l\nk\n0\n", "error\n");
    d.is_shut(a);
    assert_eq!(d.keys(), 0);
}

#[test]
fn a_secret_comes_in_any_pieces() {
    let secret: String = (0..60_000u32)
        .map(|n| char::from(b'a' + (n % 26) as u8))
        .collect();
    let mut d = guarded_by(secret.as_bytes());
    let a = d.connect();
    let request = auth(&secret) + "ping\n_\n_\n";
    for piece in request.as_bytes().chunks(777) {
        d.send(a, piece);
    }
    d.hears(a, "ok\nok\n");
}

#[test]
fn long_lines_before_authentication_are_refused_as_such() {
    let long = "x".repeat(257);
    for request in [
        format!("{long}\n"),
        format!("auth\n{long}\n"),
        format!("l\nk\n{long}\n"),
        format!("signal\nk\n{long}\n"),
        format!("stats\n_\n{long}\n"),
        format!("auth\n_\n{}\n", "x".repeat(1_000_000)),
    ] {
        let mut d = guarded();
        let a = d.connect();
        d.send(a, request + &auth(SECRET) + "l\nk\n0\n");
        assert_eq!(d.keys(), 0);
        d.is_refused(a);
    }
}

#[test]
fn a_long_line_without_an_end_is_refused_at_its_deadline() {
    let mut d = guarded();
    let a = d.connect();
    d.send(a, "auth\n_\n");
    d.send(a, "x".repeat(200_000));
    d.at(22_999);
    d.hears(a, "");
    d.at(23_000);
    d.is_refused(a);
}

#[test]
fn a_timeout_before_authentication_is_error_auth() {
    for start in ["", "auth", "auth\n", "auth\n_\n", "auth\n_\nopen-sesame"] {
        let mut d = guarded();
        let a = d.connect();
        d.send(a, start);
        d.at(22_999);
        d.hears(a, "");
        d.is_open(a);
        d.at(23_000);
        d.is_refused(a);
    }
}

#[test]
fn a_timeout_after_authentication_is_an_error_as_ever() {
    let mut d = guarded();
    let a = d.connect();
    d.at(10_000);
    d.says(a, auth(SECRET), "ok\n");
    d.at(32_999);
    d.is_open(a);
    d.at(33_000);
    d.hears(a, "error\n");
    d.is_shut(a);
}

#[test]
fn an_end_before_authentication_is_closed_without_a_word() {
    let mut d = guarded();
    for start in ["", "auth\n_\nopen-sesame", "l\nk"] {
        let a = d.connect();
        d.send(a, start);
        d.end(a);
        d.hears(a, "");
        d.is_closed(a);
    }
    assert_eq!(d.0.sessions(), 0);
}

#[test]
fn a_bad_auth_and_an_end_are_answered_and_closed() {
    let mut d = guarded();
    let a = d.connect();
    d.0.send_only(a, auth("wrong").as_bytes());
    d.0.end_only(a);
    d.0.settle();
    d.hears(a, "error_auth\n");
    d.at(100);
    d.is_closed(a);
    assert_eq!(d.0.sessions(), 0);
}

#[test]
fn the_right_auth_with_frames_and_an_end_behind_it_is_executed() {
    let mut d = guarded();
    let a = d.connect();
    d.0.send_only(a, (auth(SECRET) + "ping\n_\n_\n").as_bytes());
    d.0.end_only(a);
    d.0.settle();
    d.hears(a, "ok\nok\n");
    d.is_closed(a);
}

#[test]
fn a_browser_hears_nothing_and_is_closed_at_once() {
    for method in [
        "GET / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\n\r\n",
        "MKCOL / HTTP/1.1\r\n",
        "\u{16}\u{3}\u{1}\n_\n_\n",
    ] {
        let mut d = guarded();
        let a = d.connect();
        d.send(a, method.to_string() + &auth(SECRET));
        d.hears(a, "");
        d.is_closed(a);
    }
}

#[test]
fn error_auth_reaches_a_client_that_goes_on_sending() {
    let mut d = guarded();
    let a = d.connect();
    d.send(a, auth("wrong") + &"ping\n_\n_\n".repeat(1_000));
    d.hears(a, "error_auth\n");
    d.at(100);
    // The write side is shut; what it still sends is thrown away until it closes as well.
    d.lingers(a);
    d.send(a, "ping\n_\n_\n".repeat(1_000));
    d.hears(a, "");
    d.end(a);
    d.is_closed(a);
}

#[test]
fn after_authentication_mistakes_are_errors_and_not_error_auth() {
    let mut d = guarded();
    let a = d.admit();
    d.says(a, "nonsense\n\n\n", "error\n");
    d.says(a, "l\nbad key\n0\n", "error\n");
    d.is_open(a);
    d.says(a, format!("{}\n", "x".repeat(257)), "error\n");
    d.is_shut(a);
}

#[test]
fn a_connection_that_has_not_authenticated_counts_as_a_connection_and_holds_nothing() {
    let mut d = guarded();
    let a = d.admit();
    let b = d.connect();
    assert_eq!(d.stats(a).field("connections").number(), 2.0);
    d.end(b);
    assert_eq!(d.stats(a).field("connections").number(), 1.0);
}
