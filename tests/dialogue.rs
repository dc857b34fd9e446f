//! Dialogues: what clients say and hear, over the hub, without sockets and without waiting. Each test is one
//! sentence of dflockd-protocol(7), or one trap that servers of this kind fell into.

mod harness;

use dflockd::command::SECOND;
use dflockd::hub::{INPUT_MAX, OUTPUT_MAX, Settings};
use harness::{Net, settings};

/// A net with short words for what dialogues do.
struct Dialogue(Net);

impl Dialogue {
    fn new() -> Dialogue {
        Dialogue::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Dialogue {
        let mut settings = settings();
        change(&mut settings);
        Dialogue(Net::new(settings))
    }

    fn connect(&mut self) -> usize {
        let client = self.0.connect();
        self.0.settle();
        client
    }

    /// `at(5_000)`: five seconds after the start.
    fn at(&mut self, ms: u64) {
        self.0.until(1000 * SECOND + ms * 1000);
    }

    fn send(&mut self, client: usize, text: impl AsRef<[u8]>) {
        self.0.send_only(client, text.as_ref());
        self.0.settle();
    }

    fn heard(&mut self, client: usize) -> String {
        String::from_utf8(std::mem::take(&mut self.0.clients[client].heard))
            .expect("answers are ASCII")
    }

    #[track_caller]
    fn hears(&mut self, client: usize, text: &str) {
        assert_eq!(self.heard(client), text);
    }

    #[track_caller]
    fn says(&mut self, client: usize, request: impl AsRef<[u8]>, answer: &str) {
        self.send(client, request);
        self.hears(client, answer);
    }

    /// The client hears of a grant with this lease; returns the token.
    #[track_caller]
    fn is_granted(&mut self, client: usize, lease: u64) -> String {
        let heard = self.heard(client);
        let fields: Vec<&str> = heard
            .strip_suffix('\n')
            .expect("a whole line")
            .split(' ')
            .collect();
        assert_eq!((fields.len(), fields[0]), (3, "ok"), "{heard:?}");
        assert!(
            fields[1].len() == 32 && fields[1].bytes().all(|b| b"0123456789abcdef".contains(&b)),
            "{heard:?}"
        );
        assert_eq!(fields[2], lease.to_string());
        fields[1].to_string()
    }

    /// The client asks for the lock `k` and gets it at once, for the default 33 s.
    #[track_caller]
    fn takes(&mut self, client: usize, key: &str) -> String {
        self.send(client, format!("l\n{key}\n0\n"));
        self.is_granted(client, 33)
    }

    fn end(&mut self, client: usize) {
        self.0.end_only(client);
        self.0.settle();
    }

    fn reset(&mut self, client: usize) {
        self.0.reset_only(client);
        self.0.settle();
    }

    fn drain(&mut self) {
        self.0.hub.drain(self.0.now);
        self.0.settle();
    }

    #[track_caller]
    fn is_closed(&self, client: usize) {
        assert!(self.0.clients[client].closed, "still open");
    }

    #[track_caller]
    fn is_open(&self, client: usize) {
        assert!(!self.0.clients[client].shut, "closed");
    }

    /// The server has said all it will say, and waits for the client to close.
    #[track_caller]
    fn lingers(&self, client: usize) {
        assert!(self.0.clients[client].shut && !self.0.clients[client].closed);
    }

    fn keys(&self) -> usize {
        self.0.hub.locks().keys()
    }
}

fn release(key: &str, token: &str) -> String {
    format!("r\n{key}\n{token}\n")
}

fn renew(key: &str, argument: &str) -> String {
    format!("n\n{key}\n{argument}\n")
}

// Acquire, release, queue.

#[test]
fn a_free_lock_is_granted_at_once_with_the_default_lease() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.takes(a, "k");
}

#[test]
fn a_lease_may_be_asked_for_and_is_echoed() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(a, "l\nk\n10 60\n");
    d.is_granted(a, 60);
    d.send(a, "l\nlong\n10 9223372036\n");
    d.is_granted(a, 9_223_372_036);
}

#[test]
fn a_held_lock_refuses_who_does_not_wait() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n0\n", "timeout\n");
    d.takes(b, "other");
}

#[test]
fn a_released_lock_goes_to_the_next_in_line() {
    let mut d = Dialogue::new();
    let clients: Vec<usize> = (0..5).map(|_| d.connect()).collect();
    let mut token = d.takes(clients[0], "k");
    for &client in &clients[1..] {
        d.says(client, "l\nk\n10\n", "");
    }
    for pair in clients.windows(2) {
        d.says(pair[0], release("k", &token), "ok\n");
        token = d.is_granted(pair[1], 33);
    }
}

#[test]
fn a_newcomer_never_passes_the_queue_even_with_timeout_0() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.0.send_only(a, release("k", &token).as_bytes());
    d.0.send_only(c, b"l\nk\n0\n");
    d.0.settle();
    d.is_granted(b, 33);
    d.hears(c, "timeout\n");
}

#[test]
fn a_lock_is_not_reentrant() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.takes(a, "k");
    d.says(a, "l\nk\n0\n", "timeout\n");
    d.says(a, "l\nk\n1\n", "");
    d.at(1_000);
    d.hears(a, "timeout\n");
}

#[test]
fn anyone_with_key_and_token_may_release() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, release("k", &token), "ok\n");
    d.takes(b, "k");
}

#[test]
fn a_token_is_good_for_one_release_of_its_own_key() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.takes(a, "other");
    d.says(a, release("other", &token), "error\n");
    d.says(a, release("nobody", &token), "error\n");
    let mut forged = token.clone().into_bytes();
    forged[31] ^= 1;
    d.says(
        a,
        release("k", &String::from_utf8(forged).unwrap()),
        "error\n",
    );
    d.says(a, release("k", &token), "ok\n");
    d.says(a, release("k", &token), "error\n");
}

#[test]
fn a_stale_token_never_touches_the_new_holder() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let stale = d.takes(a, "k");
    d.says(a, release("k", &stale), "ok\n");
    let token = d.takes(b, "k");
    d.says(a, release("k", &stale), "error\n");
    d.says(a, renew("k", &stale), "error\n");
    d.says(b, release("k", &token), "ok\n");
}

#[test]
fn fences_rise_over_all_keys_and_tokens_differ() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let mut last = String::new();
    for round in 0..100 {
        let token = d.takes(a, &format!("k{}", round % 3 + 3 * (round / 3)));
        assert!(token[..16] > last[..last.len().min(16)]);
        last = token;
    }
}

#[test]
fn a_grant_is_sent_before_the_releasers_own_answer() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.0.send_only(a, release("k", &token).as_bytes());
    assert_eq!(d.0.hub.next_dirty(), Some(d.0.clients[b].id));
    assert_eq!(d.0.hub.next_dirty(), Some(d.0.clients[a].id));
}

#[test]
fn locks_over_the_maximum_are_refused_but_known_keys_and_freed_places_work() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 2);
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "one");
    d.takes(a, "two");
    d.says(a, "l\nthree\n10\n", "error_max_locks\n");
    d.says(b, "l\none\n0\n", "timeout\n");
    d.says(a, release("one", &token), "ok\n");
    d.takes(a, "three");
}

#[test]
fn keys_that_nobody_uses_are_never_the_reason_for_error_max_locks() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 2);
    let a = d.connect();
    for n in 0..1000 {
        let key = format!("key-{n}-{}", "x".repeat(n % 100));
        let token = d.takes(a, &key);
        d.says(a, release(&key, &token), "ok\n");
    }
    assert_eq!(d.keys(), 0);
}

// Time.

#[test]
fn a_wait_ends_with_its_timeout_and_not_before() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.0.until(1010 * SECOND - 1);
    d.hears(b, "");
    d.at(10_000);
    d.hears(b, "timeout\n");
}

#[test]
fn a_lease_ends_on_time_and_the_next_in_line_has_a_full_one() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let stale = d.takes(a, "k");
    d.says(b, "l\nk\n100 5\n", "");
    d.says(c, "l\nk\n100\n", "");
    d.0.until(1033 * SECOND - 1);
    d.hears(b, "");
    d.at(33_000);
    d.is_granted(b, 5);
    d.says(a, release("k", &stale), "error\n");
    d.0.until(1038 * SECOND - 1);
    d.hears(c, "");
    d.at(38_000);
    d.is_granted(c, 33);
}

#[test]
fn a_renewal_moves_the_end_to_now_plus_the_lease_later_or_sooner() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n1000\n", "");
    d.at(20_000);
    d.says(a, renew("k", &token), "ok 33\n");
    d.at(40_000);
    d.says(a, renew("k", &format!("{token} 100")), "ok 100\n");
    d.at(139_999);
    d.hears(b, "");
    d.says(a, renew("k", &format!("{token} 1")), "ok 1\n");
    d.at(140_998);
    d.hears(b, "");
    d.at(140_999);
    d.is_granted(b, 33);
}

#[test]
fn a_renewal_without_a_lease_uses_the_servers_default_not_the_first_lease() {
    let mut d = Dialogue::with(|s| s.locks.default_lease = 7 * SECOND);
    let a = d.connect();
    d.send(a, "l\nk\n0 60\n");
    let token = d.is_granted(a, 60);
    d.says(a, renew("k", &token), "ok 7\n");
    d.at(7_000);
    d.says(a, renew("k", &token), "error\n");
}

#[test]
fn a_renewal_answers_the_full_lease_of_one_second_and_of_the_longest() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.says(
        a,
        renew("k", &format!("{token} 9223372036")),
        "ok 9223372036\n",
    );
    d.says(a, renew("k", &format!("{token} 1")), "ok 1\n");
    d.says(a, renew("k", &format!("{token} 0")), "error\n");
}

#[test]
fn a_renewal_that_is_already_here_comes_before_the_end_of_its_lease() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n100\n", "");
    // The server was stopped past the end of the lease; both are seen in one turn.
    d.0.now += 40 * SECOND;
    d.0.send_only(a, renew("k", &token).as_bytes());
    d.0.settle();
    d.hears(a, "ok 33\n");
    d.hears(b, "");
}

#[test]
fn a_release_of_a_hold_past_due_but_not_yet_ended_is_ok() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.0.now += 40 * SECOND;
    d.0.send_only(a, release("k", &token).as_bytes());
    d.0.settle();
    d.hears(a, "ok\n");
}

#[test]
fn an_acquire_ends_a_past_due_hold_of_its_key_before_it_is_judged() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.0.now += 33 * SECOND;
    d.0.send_only(b, b"l\nk\n0\n");
    d.0.send_only(a, renew("k", &token).as_bytes());
    d.0.settle();
    d.is_granted(b, 33);
    d.hears(a, "error\n");
}

#[test]
fn an_expired_holder_a_waiter_and_a_newcomer_with_timeout_0_the_waiter_wins() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n100\n", "");
    d.0.now += 33 * SECOND;
    d.0.send_only(c, b"l\nk\n0\n");
    d.0.settle();
    d.is_granted(b, 33);
    d.hears(c, "timeout\n");
}

#[test]
fn timeout_and_grant_in_the_same_turn_make_exactly_one_answer() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    for round in 0..10_000 {
        d.send(a, "l\nk\n0 100\n");
        let token = d.is_granted(a, 100);
        d.send(b, "l\nk\n1 1\n");
        d.0.now += SECOND;
        if round % 2 == 0 {
            d.0.send_only(a, release("k", &token).as_bytes());
        } else {
            d.0.turn();
            d.0.send_only(a, release("k", &token).as_bytes());
        }
        d.0.settle();
        d.hears(a, "ok\n");
        let heard = d.heard(b);
        assert_eq!(heard.matches('\n').count(), 1, "{heard}");
        if let Some(fields) = heard.strip_prefix("ok ") {
            d.says(b, release("k", &fields[..32]), "ok\n");
        }
    }
}

#[test]
fn times_at_the_end_of_the_range_saturate() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n9223372036 9223372036\n");
    d.is_granted(a, 9_223_372_036);
    d.says(b, "l\nk\n9223372036\n", "");
    d.0.now = u64::MAX - 5;
    d.0.settle();
    let heard = d.heard(b);
    assert!(
        heard == "timeout\n" || heard.starts_with("ok "),
        "{heard:?}"
    );
    let c = d.connect();
    d.send(c, "l\nlate\n0 9223372036\n");
    d.is_granted(c, 9_223_372_036);
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.at(10_000);
    d.takes(a, "k");
    d.0.now -= 5 * SECOND;
    d.says(b, "l\nk\n100\n", "");
    d.at(42_999);
    d.hears(b, "");
    d.at(43_000);
    d.is_granted(b, 33);
}

// Frames.

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
        "e\nk\n\n",
        "stats\n_\n\n",
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

// Deadlines of a connection.

#[test]
fn each_line_of_a_frame_has_one_deadline_which_bytes_do_not_extend() {
    let mut d = Dialogue::new();
    let a = d.connect();
    for byte in 0..92 {
        d.at(byte * 250);
        d.says(a, "l", "");
    }
    d.at(22_999);
    d.is_open(a);
    d.at(23_000);
    d.hears(a, "error\n");
    d.lingers(a);
}

#[test]
fn a_line_that_is_done_gives_the_next_one_its_own_deadline() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.at(22_000);
    d.says(a, "l\n", "");
    d.at(44_000);
    d.says(a, "k\n", "");
    d.at(66_000);
    d.send(a, "0\n");
    d.is_granted(a, 33);
    let b = d.connect();
    d.says(b, "l\n", "");
    d.at(88_999);
    d.is_open(b);
    d.at(89_000);
    d.hears(b, "error\n");
}

#[test]
fn an_idle_connection_that_holds_nothing_ends_a_read_timeout_after_its_last_answer() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.at(10_000);
    d.says(a, "ping\n_\n_\n", "ok\n");
    d.at(23_000);
    d.hears(b, "error\n");
    d.at(32_999);
    d.is_open(a);
    d.at(33_000);
    d.hears(a, "error\n");
    d.lingers(a);
}

#[test]
fn a_holder_may_be_silent_for_as_long_as_it_holds_and_a_read_timeout_more() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(a, "l\nk\n0 100\n");
    d.is_granted(a, 100);
    d.at(122_999);
    d.is_open(a);
    d.at(123_000);
    d.hears(a, "error\n");
}

#[test]
fn a_holder_freed_from_elsewhere_has_a_read_timeout_from_then() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n0 1000\n");
    let token = d.is_granted(a, 1000);
    d.at(20_000);
    d.says(b, "ping\n_\n_\n", "ok\n");
    d.at(40_000);
    d.says(b, release("k", &token), "ok\n");
    d.at(62_999);
    d.is_open(a);
    d.at(63_000);
    d.hears(a, "error\n");
}

#[test]
fn a_holder_that_begins_a_line_must_end_it_in_time() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n0 1000\n");
    d.is_granted(a, 1000);
    d.at(50_000);
    d.says(a, "pin", "");
    let c = d.connect();
    d.says(c, "l\nk\n1000\n", "");
    d.at(72_999);
    d.is_open(a);
    d.at(73_000);
    d.hears(a, "error\n");
    // What it held went with the decision to close, not with the end of the lingering.
    d.is_granted(c, 33);
    d.hears(b, "error\n");
}

#[test]
fn no_read_timeout_runs_while_an_acquire_waits() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n0 1000\n");
    d.is_granted(a, 1000);
    d.says(b, "l\nk\n500\nhalf a li", "");
    d.at(499_999);
    d.is_open(b);
    d.hears(b, "");
    d.at(500_000);
    d.hears(b, "timeout\n");
    d.at(522_999);
    d.is_open(b);
    d.at(523_000);
    d.hears(b, "error\n");
}

// The end of a connection.

#[test]
fn a_lock_is_released_when_its_client_goes() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.says(c, "l\nk\n10\n", "");
    d.end(a);
    d.is_closed(a);
    d.is_granted(b, 33);
    d.reset(b);
    d.is_granted(c, 33);
}

#[test]
fn with_auto_release_off_a_hold_outlives_its_client_until_release_or_lease() {
    let mut d = Dialogue::with(|s| s.locks.auto_release = false);
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.takes(a, "k2");
    d.end(a);
    d.is_closed(a);
    d.says(b, "l\nk\n0\n", "timeout\n");
    d.says(b, release("k", &token), "ok\n");
    d.takes(b, "k");
    d.says(b, "l\nk2\n100\n", "");
    d.at(33_000);
    d.is_granted(b, 33);
}

#[test]
fn a_waiter_that_hangs_up_leaves_the_queue_at_once_unanswered() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.says(c, "l\nk\n10\n", "");
    d.end(b);
    d.is_closed(b);
    d.hears(b, "");
    d.says(a, release("k", &token), "ok\n");
    d.is_granted(c, 33);
}

#[test]
fn frames_before_the_end_of_input_are_executed_and_answered() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.0.send_only(a, b"ping\n_\n_\nl\nk\n0\nping\n_\n_\nl\nk");
    d.end(a);
    let heard = d.heard(a);
    assert!(
        heard.starts_with("ok\nok ") && heard.ends_with(" 33\nok\n"),
        "{heard:?}"
    );
    d.is_closed(a);
    assert_eq!(d.keys(), 0);
}

#[test]
fn more_frames_than_a_turns_share_before_the_end_are_executed_too() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.0.send_only(a, "ping\n_\n_\n".repeat(5000).as_bytes());
    d.0.end_only(a);
    d.0.settle();
    d.hears(a, &"ok\n".repeat(5000));
    d.is_closed(a);
}

#[test]
fn an_acquire_that_would_wait_for_a_client_that_is_gone_does_not() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.takes(a, "k");
    d.0.send_only(b, b"ping\n_\n_\nl\nk\n10\nping\n_\n_\n");
    d.end(b);
    d.hears(b, "ok\n");
    d.is_closed(b);
}

#[test]
fn a_hang_up_is_seen_behind_input_that_is_not_read() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.says(c, "l\nk\n10\n", "");
    d.send(b, "ping\n_\n_\n".repeat(7000));
    assert!(d.0.clients[b].unread.len() > 40_000, "the input is full");
    d.end(b);
    d.is_closed(b);
    d.says(a, release("k", &token), "ok\n");
    d.is_granted(c, 33);
}

#[test]
fn input_over_the_cap_stays_in_the_socket_and_is_read_when_there_is_room() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.send(b, "ping\n_\n_\n".repeat(7000));
    assert!(d.0.clients[b].unread.len() >= 63_000 - INPUT_MAX);
    d.says(a, release("k", &token), "ok\n");
    let heard = d.heard(b);
    assert_eq!(heard.lines().count(), 7001);
}

#[test]
fn a_client_that_does_not_read_is_not_served_until_it_does() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.0.clients[a].appetite = 0;
    d.send(a, "ping\n_\n_\n".repeat(100_000));
    assert!(d.0.clients[a].unread.len() > 500_000);
    assert!(d.0.hub.output(d.0.clients[a].id).len() < OUTPUT_MAX + 64);
    d.0.feed_client(a, usize::MAX);
    d.0.settle();
    d.hears(a, &"ok\n".repeat(100_000));
}

#[test]
fn a_grant_that_its_client_never_received_goes_to_the_next_in_the_same_turn() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n10\n", "");
    d.says(c, "l\nk\n10\n", "");
    d.0.send_only(a, release("k", &token).as_bytes());
    // The grant is in b's output; the write fails.
    d.0.reset_only(b);
    d.0.turn();
    d.is_closed(b);
    d.is_granted(c, 33);
}

#[test]
fn grant_expiry_and_disconnect_in_the_same_turn_leave_one_holder() {
    let mut d = Dialogue::new();
    let (a, b, c, e) = (d.connect(), d.connect(), d.connect(), d.connect());
    d.send(a, "l\nk\n0 5\n");
    d.is_granted(a, 5);
    for client in [b, c, e] {
        d.says(client, "l\nk\n5 5\n", "");
    }
    d.0.now += 5 * SECOND;
    d.0.reset_only(a);
    d.0.reset_only(b);
    d.0.turn();
    let answers = [d.heard(c), d.heard(e)];
    assert!(answers[0].starts_with("ok "), "{answers:?}");
    assert_eq!(answers[1], "timeout\n");
    d.0.settle();
}

#[test]
fn an_expired_hold_of_a_gone_client_is_not_released_twice() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.takes(a, "k");
    d.at(33_000);
    let b = d.connect();
    let token = d.takes(b, "k");
    d.end(a);
    d.says(b, renew("k", &token), "ok 33\n");
}

#[test]
fn a_session_with_10000_holds_closes_in_slices_and_every_waiter_is_served() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 20_000);
    let (a, b) = (d.connect(), d.connect());
    for n in 0..10_000 {
        d.0.send_only(a, format!("l\nk{n}\n0\n").as_bytes());
        d.0.turn();
    }
    let waiters: Vec<usize> = (0..1000).map(|_| d.connect()).collect();
    for (n, &waiter) in waiters.iter().enumerate() {
        d.0.send_only(waiter, format!("l\nk{}\n10\n", n * 10).as_bytes());
    }
    d.0.settle();
    d.0.reset_only(a);
    d.0.turn();
    assert!(
        d.0.hub.locks().keys() > 9000,
        "a turn does its share and no more"
    );
    d.says(b, "ping\n_\n_\n", "ok\n");
    for &waiter in &waiters {
        d.is_granted(waiter, 33);
    }
    assert_eq!(d.keys(), 1000);
}

#[test]
fn a_flood_of_hang_ups_keeps_no_lease_from_ending() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 100_000);
    let (b, c) = (d.connect(), d.connect());
    d.send(b, "l\nk\n0 1\n");
    d.is_granted(b, 1);
    d.says(c, "l\nk\n100\n", "");
    let floods: Vec<usize> = (0..20).map(|_| d.connect()).collect();
    for &flood in &floods {
        for n in 0..600 {
            let frame = format!("l\nflood-{flood}-{n}\n0\n");
            d.0.send_only(flood, frame.as_bytes());
        }
        d.0.settle();
    }
    d.0.now += SECOND;
    for &flood in &floods {
        d.0.reset_only(flood);
    }
    d.0.turn();
    d.is_granted(c, 33);
}

#[test]
fn everything_a_client_had_is_gone_after_it() {
    let mut d = Dialogue::new();
    for round in 0..1000 {
        let (a, b) = (d.connect(), d.connect());
        d.takes(a, "k");
        d.says(b, "l\nk\n10\nping\n", "");
        if round % 2 == 0 {
            d.end(b);
            d.reset(a);
        } else {
            d.end(a);
            d.end(b);
        }
        assert_eq!(d.0.hub.sessions(), 0);
        assert_eq!(d.keys(), 0);
        assert_eq!(d.0.hub.deadline(), None, "not a timer stays");
    }
}

// The drain.

#[test]
fn a_drain_turns_waiters_away_closes_the_idle_and_lets_holders_finish() {
    let mut d = Dialogue::new();
    let (a, b, idle) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n100\n", "");
    d.drain();
    d.hears(b, "error_draining\n");
    d.lingers(b);
    d.is_closed(idle);
    d.hears(idle, "");
    d.says(a, renew("k", &token), "ok 33\n");
    d.says(a, "ping\n_\n_\n", "ok\n");
    d.says(a, "l\nother\n0\n", "error_draining\n");
    d.says(a, "bogus\nk\n0\n", "error\n");
    d.is_open(a);
    assert!(!d.0.hub.is_drained(d.0.now));
    d.says(a, release("k", &token), "ok\n");
    d.lingers(a);
    d.end(a);
    d.end(b);
    assert!(d.0.hub.is_drained(d.0.now));
}

#[test]
fn a_drain_closes_a_holder_when_its_lease_ends_and_ends_at_its_own_timeout() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    d.send(a, "l\nk\n0 10\n");
    d.is_granted(a, 10);
    d.takes(b, "k2");
    d.drain();
    d.at(9_999);
    d.is_open(a);
    d.at(10_000);
    d.is_closed(a);
    d.at(29_999);
    assert!(!d.0.hub.is_drained(d.0.now));
    d.at(30_000);
    assert!(d.0.hub.is_drained(d.0.now));
}

#[test]
fn a_drain_of_thousands_reaches_everybody() {
    let mut d = Dialogue::with(|s| s.shutdown_timeout = 0);
    let clients: Vec<usize> = (0..3000).map(|_| d.connect()).collect();
    d.takes(clients[0], "k");
    for &client in &clients[1..1500] {
        d.0.send_only(client, b"l\nk\n100\n");
    }
    d.0.settle();
    d.drain();
    for &client in &clients[1..1500] {
        d.hears(client, "error_draining\n");
    }
    for &client in &clients[1500..] {
        d.is_closed(client);
    }
    d.is_open(clients[0]);
    d.at(2_000);
    assert_eq!(d.0.hub.sessions(), 1);
    d.reset(clients[0]);
    assert!(d.0.hub.is_drained(d.0.now));
}

// What the simulations found.

#[test]
fn a_renewal_whose_end_is_here_comes_before_the_end_of_its_lease() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n100\n", "");
    d.says(a, "n\nk\n", "");
    d.0.now += 40 * SECOND;
    d.0.send_only(a, format!("{token}\n").as_bytes());
    d.0.settle();
    d.hears(a, "ok 33\n");
    d.hears(b, "");
}

#[test]
fn a_holder_that_begins_an_endless_line_must_end_it_in_time() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.send(a, "l\nk\n0 1000\n");
    d.is_granted(a, 1000);
    d.at(50_000);
    d.says(a, [b'x'; 300], "");
    d.at(72_999);
    d.is_open(a);
    d.at(73_000);
    d.hears(a, "error\n");
}

#[test]
fn a_line_over_its_cap_has_its_own_deadline() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.at(22_000);
    d.says(a, format!("l\n{}", "k".repeat(300)), "");
    d.at(44_999);
    d.is_open(a);
    d.at(45_000);
    d.hears(a, "error\n");
}
