//! The frames of distlockd, as its clients see them: who gets a lock that the line protocol has too, what is answered to
//! what cannot be done, and how a connection lives that a pool keeps for later.

use dflockd::wire::Face;

use super::*;

const ACQUIRE: u8 = 1;
const RELEASE: u8 = 2;
const HEALTH: u8 = 3;

const OK: [u8; 3] = [0, 0, 0];

fn frame(command: u8, name: impl AsRef<[u8]>, id: impl AsRef<[u8]>) -> Vec<u8> {
    let (name, id) = (name.as_ref(), id.as_ref());
    let lengths = [name.len(), id.len()].map(|len| (len as u16).to_be_bytes());
    [&[command][..], &lengths.concat(), name, id].concat()
}

fn answer(status: u8, message: &str) -> Vec<u8> {
    let len = (message.len() as u16).to_be_bytes();
    [&[status][..], &len, message.as_bytes()].concat()
}

fn error(message: &str) -> Vec<u8> {
    answer(1, message)
}

fn busy() -> Vec<u8> {
    answer(2, "Lock is busy")
}

fn invalid(message: &str) -> Vec<u8> {
    answer(3, message)
}

impl Dialogue {
    fn dial(&mut self) -> usize {
        let client = self.0.connect_to(Face::Distlockd);
        self.0.settle();
        client
    }

    #[track_caller]
    fn reads(&mut self, client: usize, answer: impl AsRef<[u8]>) {
        let heard = std::mem::take(&mut self.0.clients[client].heard);
        assert_eq!(
            heard.escape_ascii().to_string(),
            answer.as_ref().escape_ascii().to_string()
        );
    }

    #[track_caller]
    fn asks(&mut self, client: usize, frames: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) {
        self.send(client, frames);
        self.reads(client, answer);
    }

    #[track_caller]
    fn claims(&mut self, client: usize, name: &str, id: &str) {
        self.asks(client, frame(ACQUIRE, name, id), OK);
    }

    #[track_caller]
    fn is_busy(&mut self, client: usize, name: &str, id: &str) {
        self.asks(client, frame(ACQUIRE, name, id), busy());
    }

    #[track_caller]
    fn gives_back(&mut self, client: usize, name: &str, id: &str) {
        self.asks(client, frame(RELEASE, name, id), OK);
    }

    #[track_caller]
    fn has_not(&mut self, client: usize, name: &str, id: &str) {
        self.asks(client, frame(RELEASE, name, id), error("Invalid release"));
    }
}

// Who gets the lock.

#[test]
fn the_first_to_ask_gets_the_lock_and_another_is_told_that_it_is_busy() {
    let mut d = Dialogue::new();
    let (a, b) = (d.dial(), d.dial());
    d.claims(a, "k", "a");
    d.is_busy(b, "k", "b");
    d.is_busy(a, "k", "b");
    d.claims(b, "other", "b");
    d.gives_back(a, "k", "a");
    d.claims(b, "k", "b");
    d.is_busy(a, "k", "a");
}

#[test]
fn a_stale_lock_ends_after_ten_seconds_and_not_before() {
    let mut d = Dialogue::new();
    let a = d.dial();
    d.claims(a, "k", "a");
    d.0.until(1010 * SECOND - 1);
    d.is_busy(a, "k", "b");
    d.at(10_000);
    assert_eq!(d.keys(), 0);
    d.claims(a, "k", "b");
}

#[test]
fn a_claim_lasts_as_long_as_the_setting_says() {
    let mut d = Dialogue::with(|s| s.locks.claim_lease = 3 * SECOND);
    let a = d.dial();
    d.claims(a, "k", "a");
    d.at(2_999);
    d.is_busy(a, "k", "b");
    d.at(3_000);
    d.claims(a, "k", "b");
}

#[test]
fn who_holds_it_is_granted_again_on_any_connection_and_the_lease_begins_anew() {
    let mut d = Dialogue::new();
    let (a, b) = (d.dial(), d.dial());
    d.claims(a, "k", "a");
    d.at(9_000);
    d.claims(b, "k", "a");
    d.at(18_999);
    d.is_busy(a, "k", "b");
    d.at(19_000);
    d.claims(a, "k", "b");
    assert_eq!(d.0.locks().counts().granted, 2);
}

#[test]
fn the_holder_is_the_id_and_not_the_connection() {
    let mut d = Dialogue::new();
    let (a, b, c) = (d.dial(), d.dial(), d.dial());
    d.claims(a, "k", "a");
    d.claims(b, "k2", "a");
    d.end(a);
    d.reset(b);
    d.is_busy(c, "k", "b");
    d.is_busy(c, "k2", "b");
    d.gives_back(c, "k", "a");
    d.gives_back(c, "k2", "a");
}

#[test]
fn a_claim_ends_a_past_due_hold_of_its_key_before_it_is_judged() {
    let mut d = Dialogue::new();
    let (a, line) = (d.dial(), d.connect());
    d.claims(a, "k", "a");
    d.takes(line, "k2");
    // Late, and both are read before the clock's work.
    d.0.now += 40 * SECOND;
    d.0.send_only(a, &frame(ACQUIRE, "k", "b"));
    d.0.send_only(a, &frame(ACQUIRE, "k2", "b"));
    d.0.settle();
    d.reads(a, [OK, OK].concat());
}

#[test]
fn a_claim_past_due_is_granted_to_its_owner_unless_somebody_queues() {
    let mut d = Dialogue::new();
    let (a, line) = (d.dial(), d.connect());
    d.claims(a, "k", "a");
    d.0.now += 10 * SECOND;
    d.0.send_only(a, &frame(ACQUIRE, "k", "a"));
    d.0.settle();
    d.reads(a, OK);
    d.says(line, "l\nk\n100\n", "");
    d.0.now += 10 * SECOND;
    d.0.send_only(a, &frame(ACQUIRE, "k", "a"));
    d.0.settle();
    d.reads(a, busy());
    d.is_granted(line, 33);
}

#[test]
fn a_claim_past_due_but_not_yet_ended_can_be_given_back() {
    let mut d = Dialogue::new();
    let a = d.dial();
    d.claims(a, "k", "a");
    d.0.now += 11 * SECOND;
    d.0.send_only(a, &frame(RELEASE, "k", "a"));
    d.0.settle();
    d.reads(a, OK);
}

#[test]
fn a_release_is_by_name_and_id_and_everything_else_is_invalid() {
    let mut d = Dialogue::new();
    let a = d.dial();
    d.has_not(a, "k", "a");
    d.claims(a, "k", "a");
    d.has_not(a, "k", "b");
    d.has_not(a, "k", "");
    d.has_not(a, "K", "a");
    d.gives_back(a, "k", "a");
    d.has_not(a, "k", "a");
    d.claims(a, "k", "a");
    d.at(10_000);
    d.has_not(a, "k", "a");
    d.claims(a, "k", "b");
    d.has_not(a, "k", "a");
}

#[test]
fn one_id_may_hold_many_locks_and_each_ends_by_itself() {
    let mut d = Dialogue::new();
    let a = d.dial();
    for n in 0..50 {
        d.claims(a, &format!("k{n}"), "a");
    }
    for n in (0..50).step_by(2) {
        d.gives_back(a, &format!("k{n}"), "a");
    }
    for n in 0..50 {
        let name = format!("k{n}");
        match n % 2 {
            0 => d.claims(a, &name, "b"),
            _ => d.is_busy(a, &name, "b"),
        }
    }
    assert_eq!(d.0.locks().counts().held, 50);
    d.at(10_000);
    assert_eq!(d.keys(), 0);
}

// The same locks as on the line.

#[test]
fn the_line_protocol_and_this_one_contend_for_the_same_locks() {
    let mut d = Dialogue::new();
    let (a, line) = (d.dial(), d.connect());
    let token = d.takes(line, "k");
    d.is_busy(a, "k", "a");
    d.has_not(a, "k", "a");
    d.says(line, release("k", &token), "ok\n");
    d.claims(a, "k", "a");
    d.says(line, "l\nk\n0\n", "timeout\n");
    d.gives_back(a, "k", "a");
    d.takes(line, "k");
}

#[test]
fn a_semaphore_of_the_same_name_is_another_key() {
    let mut d = Dialogue::new();
    let (a, line) = (d.dial(), d.connect());
    d.send(line, "sl\nk\n0 1\n");
    d.is_granted(line, 33);
    d.claims(a, "k", "a");
}

#[test]
fn a_waiter_on_the_line_is_granted_when_a_claim_is_given_back_or_ends() {
    let mut d = Dialogue::new();
    let (a, line) = (d.dial(), d.connect());
    d.claims(a, "k", "a");
    d.says(line, "l\nk\n100 5\n", "");
    d.gives_back(a, "k", "a");
    let token = d.is_granted(line, 5);
    d.says(line, release("k", &token), "ok\n");
    d.claims(a, "k", "a");
    d.says(line, "l\nk\n100\n", "");
    d.0.until(1010 * SECOND - 1);
    d.hears(line, "");
    d.at(10_000);
    d.is_granted(line, 33);
}

#[test]
fn a_claim_does_not_pass_who_queues_on_the_line() {
    let mut d = Dialogue::new();
    let (a, one, two) = (d.dial(), d.connect(), d.connect());
    d.claims(a, "k", "a");
    d.says(one, "l\nk\n100\n", "");
    d.says(two, "l\nk\n100\n", "");
    d.is_busy(a, "k", "b");
    // Released and claimed in one turn: the first in line was there before.
    d.asks(
        a,
        [frame(RELEASE, "k", "a"), frame(ACQUIRE, "k", "a")].concat(),
        [&OK[..], &busy()].concat(),
    );
    let token = d.is_granted(one, 33);
    d.says(one, release("k", &token), "ok\n");
    d.is_busy(a, "k", "a");
    d.is_granted(two, 33);
}

#[test]
fn the_holder_goes_on_claiming_although_somebody_queues() {
    for max_waiters in [0, 1] {
        let mut d = Dialogue::with(|s| s.locks.max_waiters = max_waiters);
        let (a, line) = (d.dial(), d.connect());
        d.claims(a, "k", "a");
        d.says(line, "l\nk\n100\n", "");
        for second in (0..90).step_by(9) {
            d.at(second * 1000);
            d.claims(a, "k", "a");
            d.is_busy(a, "k", "b");
        }
        d.at(91_000);
        d.is_granted(line, 33);
    }
}

#[test]
fn an_enqueued_record_on_the_line_is_a_queue_too() {
    let mut d = Dialogue::new();
    let (a, line) = (d.dial(), d.connect());
    d.claims(a, "k", "a");
    d.says(line, "e\nk\n\n", "queued\n");
    d.gives_back(a, "k", "a");
    d.is_busy(a, "k", "a");
    d.send(line, "w\nk\n0\n");
    d.is_granted(line, 33);
}

#[test]
fn equal_names_of_owners_on_the_two_faces_are_strangers() {
    let mut d = Dialogue::new();
    let (a, line) = (d.dial(), d.connect());
    d.says(line, "id\n_\nme\n", "ok\n");
    let token = d.takes(line, "k");
    d.is_busy(a, "k", "me");
    d.has_not(a, "k", "me");
    d.claims(a, "k2", "me");
    d.says(line, "l\nk2\n0\n", "timeout\n");
    d.says(line, release("k2", &token), "error\n");
    // Nor does what outlives its connection change hands.
    let mut d = Dialogue::with(|s| s.locks.auto_release = false);
    let (a, line) = (d.dial(), d.connect());
    d.says(line, "id\n_\nme\n", "ok\n");
    d.takes(line, "k");
    d.end(line);
    d.is_busy(a, "k", "me");
    d.has_not(a, "k", "me");
    d.at(33_000);
    d.claims(a, "k", "me");
}

#[test]
fn no_token_on_the_line_ends_or_renews_a_claim() {
    let mut d = Dialogue::new();
    let (a, line) = (d.dial(), d.connect());
    d.claims(a, "other", "a");
    let token = d.takes(line, "k");
    d.says(line, release("k", &token), "ok\n");
    // The claim has the very next fence; its salt nobody can know.
    d.claims(a, "k", "a");
    let fence = u64::from_str_radix(&token[..16], 16).unwrap() + 1;
    for guess in [
        token.clone(),
        "0".repeat(32),
        format!("{fence:016x}{}", &token[16..]),
        format!("{fence:016x}{}", "0".repeat(16)),
    ] {
        d.says(line, release("k", &guess), "error\n");
        d.says(line, renew("k", &guess), "error\n");
    }
    d.is_busy(a, "k", "b");
    d.at(10_000);
    d.claims(a, "k", "b");
}

#[test]
fn claims_do_not_end_with_a_connection_whatever_auto_release_says() {
    for auto_release in [true, false] {
        let mut d = Dialogue::with(|s| s.locks.auto_release = auto_release);
        let (a, b) = (d.dial(), d.dial());
        d.claims(a, "k", "a");
        d.reset(a);
        d.is_busy(b, "k", "b");
        d.at(10_000);
        d.claims(b, "k", "b");
    }
}

#[test]
fn a_line_that_waits_for_a_claim_is_not_a_deadlock() {
    let mut d = Dialogue::new();
    let (a, line) = (d.dial(), d.connect());
    d.says(line, "id\n_\nme\n", "ok\n");
    d.takes(line, "l");
    d.claims(a, "k", "me");
    d.is_busy(a, "l", "me");
    d.says(line, "l\nk\n100\n", "");
    d.gives_back(a, "k", "me");
    d.is_granted(line, 33);
}

// Limits and mistakes.

#[test]
fn what_is_refused_for_a_limit_is_an_error_by_its_name() {
    let mut d = Dialogue::with(|s| s.locks.max_locks = 2);
    let a = d.dial();
    d.claims(a, "k", "a");
    d.claims(a, "k2", "a");
    d.asks(a, frame(ACQUIRE, "k3", "a"), error("error_max_locks"));
    d.claims(a, "k2", "a");
    d.is_busy(a, "k", "b");
    d.gives_back(a, "k", "a");
    d.claims(a, "k3", "a");
    d.is_open(a);
}

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
fn in_a_drain_nothing_is_granted_and_claims_can_be_given_back() {
    let mut d = Dialogue::new();
    let (a, b, line) = (d.dial(), d.dial(), d.connect());
    d.claims(a, "k", "a");
    d.takes(line, "held");
    d.drain();
    let why = error("error_draining");
    for client in [a, b] {
        d.asks(client, frame(HEALTH, "", ""), &why);
        d.asks(client, frame(ACQUIRE, "k", "a"), &why);
        d.asks(client, frame(ACQUIRE, "k", "b"), &why);
        d.asks(client, frame(ACQUIRE, "free", "b"), &why);
        d.asks(
            client,
            frame(ACQUIRE, "", "b"),
            invalid("Lock name cannot be empty"),
        );
        d.has_not(client, "k", "b");
        d.is_open(client);
    }
    let late = d.dial();
    d.gives_back(late, "k", "a");
    d.has_not(late, "k", "a");
    d.at(25_000);
    for client in [a, b, late] {
        d.is_open(client);
        d.asks(client, frame(HEALTH, "", ""), &why);
    }
}

#[test]
fn neither_claims_nor_their_connections_keep_a_drain_alive() {
    let mut d = Dialogue::with(|s| s.shutdown_timeout = 0);
    let (a, half, line) = (d.dial(), d.dial(), d.connect());
    d.claims(a, "k", "a");
    d.send(half, &frame(ACQUIRE, "k2", "a")[..3]);
    let token = d.takes(line, "held");
    d.drain();
    assert!(!d.0.is_drained());
    d.says(line, release("held", &token), "ok\n");
    d.end(line);
    assert!(d.0.is_drained());
    assert_eq!(d.keys(), 1);
    // And where there is no line at all it ends at once.
    let mut d = Dialogue::with(|s| s.shutdown_timeout = 0);
    let a = d.dial();
    d.claims(a, "k", "a");
    d.drain();
    assert!(d.0.is_drained());
}

#[test]
fn a_claim_that_ends_in_a_drain_is_granted_to_nobody() {
    let mut d = Dialogue::new();
    let (a, line, waiter) = (d.dial(), d.connect(), d.connect());
    d.takes(line, "held");
    d.claims(a, "k", "a");
    d.says(waiter, "l\nk\n100\n", "");
    d.drain();
    d.hears(waiter, "error_draining\n");
    d.at(10_000);
    assert_eq!(d.keys(), 1);
    d.asks(a, frame(ACQUIRE, "k", "a"), error("error_draining"));
}

// The listing.

#[test]
fn stats_shows_a_claim_and_not_whose_it_is() {
    let mut d = Dialogue::new();
    let (a, line) = (d.dial(), d.connect());
    d.claims(a, "a \"key\"\n", "secret-\u{e9}");
    d.at(1_500);
    d.send(line, "stats\n_\n_\n");
    let heard = d.heard(line);
    let entry = "{\"key\":\"a \\\"key\\\"\\u000a\",\"owner_conn_id\":0,\
                 \"lease_expires_in_s\":8.500,\"waiters\":0}";
    // Who knows the id may give the lock back.
    assert!(!heard.contains("secret"), "{heard}");
    assert!(heard.contains(entry), "{heard}");
    assert!(heard.starts_with("ok {\"connections\":2,"), "{heard}");
}

#[test]
fn stats_shows_the_longest_names_whole() {
    let mut d = Dialogue::new();
    let (a, line) = (d.dial(), d.connect());
    let id = "\u{1}".repeat(256);
    // Two that are as long as they can be, and the worst that escapes can make of one.
    let names = [
        "n".repeat(65_535),
        "m".repeat(65_535),
        "\u{1}".repeat(65_535),
    ];
    for name in &names {
        d.claims(a, name, &id);
    }
    d.claims(a, "k", "a");
    for appetite in [usize::MAX, 0] {
        d.0.clients[line].appetite = appetite;
        d.send(line, "stats\n_\n_\nping\n_\n_\n");
        if appetite == 0 {
            while d.0.clients[line].heard.last() != Some(&b'\n')
                || d.0.clients[line].heard.len() < 9
            {
                d.0.feed_client(line, 10_000);
                d.0.settle();
            }
        }
        d.0.feed_client(line, usize::MAX);
        d.0.settle();
        let heard = d.heard(line);
        assert!(heard.ends_with("}\nok\n") && heard.lines().count() == 2);
        for name in &names {
            let name = name.replace('\u{1}', "\\u0001");
            let entry = format!("{{\"key\":\"{name}\",\"owner_conn_id\":0,");
            assert!(heard.contains(&entry), "of {} bytes", name.len());
        }
        assert!(heard.contains("{\"key\":\"k\",\"owner_conn_id\":0,"));
    }
}

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
