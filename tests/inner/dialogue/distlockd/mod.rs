//! Clients of distlockd: who gets a lock that the line protocol has too, for how long, and who may give it back.

mod connections;
mod restart;

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
                 \"lease_expires_in_s\":8.500,\"waiters\":0,\"peer\":null,\"held_s\":1.500,";
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
