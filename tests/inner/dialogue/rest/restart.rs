//! Clients of the REST face over a restart: their holds are the same, and so are their attempts.

use super::*;
use dflockd::facts::Protection;

fn kept() -> Dialogue {
    Dialogue::patient_with(|s| s.protection = Protection::Journal)
}

impl Dialogue {
    /// The server dies and comes again; a client connects.
    fn calls_again(&mut self) -> usize {
        self.0.restart(|_| {});
        self.0.settle();
        self.calls()
    }

    #[track_caller]
    fn is_locked(&mut self, name: &str, locked: bool) {
        let client = self.calls();
        let answer = self.call(client, "GET", &format!("/locks/{name}/status"), "");
        assert_eq!(answer.field("locked"), locked.to_string());
    }
}

fn by_token(hold: &Answer, more: &str) -> String {
    format!(
        r#"{{"renewalToken":"{}"{more}}}"#,
        hold.field("renewalToken")
    )
}

#[test]
fn a_repeat_finds_the_hold_of_before_the_restart() {
    for limit in ["", r#","limit":2"#, r#","limit":20"#] {
        let mut d = kept();
        let a = d.calls();
        let body = format!(
            r#"{{"clientId":"c","timeout":10,"requestId":"0123456789abcdef","metadata":{{"n":1}}{limit}}}"#
        );
        let first = d.is_given(a, "k", &body);
        let a = d.calls_again();
        d.at(4_000);
        let again = d.is_given(a, "k", &body);
        for member in ["lockId", "renewalToken", "fencingToken"] {
            assert_eq!(again.field(member), first.field(member), "{member}");
        }
        assert_eq!(d.0.locks().counts().granted, 0);
        let space = if limit.is_empty() {
            "lock"
        } else {
            "semaphore"
        };
        let status = d.call(a, "GET", &format!("/locks/k/status?space={space}"), "");
        let holder = &status.json();
        let holder = &holder.field("holders").list()[0];
        assert_eq!(holder.field("clientId").text(), "c");
        assert_eq!(holder.field("metadata").field("n").number(), 1.0);
        let release = r#"{"clientId":"c","requestId":"0123456789abcdef"}"#;
        let released = d.post(a, "/locks/k/release", release, 200);
        assert_eq!(released.field("lockId"), first.field("lockId"));
    }
}

#[test]
fn a_hold_without_a_name_is_renewed_and_given_back_by_its_token_and_stays_its_clients() {
    let mut d = kept();
    let a = d.calls();
    let hold = d.is_given(a, "k", r#"{"clientId":"c","timeout":10}"#);
    let a = d.calls_again();
    d.at(5_000);
    let renewed = d.post(a, "/locks/k/renew", &by_token(&hold, ""), 200);
    assert_eq!(renewed.field("ttl"), "10", "that of the grant");
    // No connection of the line protocol gets it, of whatever name.
    let line = d.connect();
    d.says(line, super::super::frame("id", "_", "c"), "ok\n");
    d.says(line, renew("k", &hold.field("renewalToken")), "ok 33\n");
    d.end(line);
    d.is_locked("k", true);
    let other = by_token(&hold, r#","clientId":"d""#);
    d.post(a, "/locks/k/release", &other, 403);
    d.post(a, "/locks/k/release", &by_token(&hold, ""), 200);
    d.calls_again();
    d.is_locked("k", false);
}

#[test]
fn a_renewal_without_a_lease_has_that_of_the_last_repeat_after_a_restart_too() {
    let mut d = kept();
    let a = d.calls();
    let body = r#"{"clientId":"c","timeout":10,"requestId":"0123456789abcdef"}"#;
    d.is_given(a, "k", body);
    let hold = d.is_given(a, "k", &body.replace("10", "50"));
    let a = d.calls_again();
    let renewed = d.post(a, "/locks/k/renew", &by_token(&hold, ""), 200);
    assert_eq!(renewed.field("ttl"), "50");
}

#[test]
fn a_hold_that_renews_itself_goes_on_after_a_restart_until_it_was_to_end() {
    let mut d = kept();
    let a = d.calls();
    let body = r#"{"clientId":"c","timeout":6,"autoRenew":true}"#;
    let hold = d.is_given(a, "k", body);
    assert_eq!(
        d.0.locks().longest_told(),
        512 * SECOND,
        "it was promised 300"
    );
    d.at(10_000);
    // For longer than its lease nobody was there to take its steps.
    d.0.now += 60 * SECOND;
    for _ in 0..2 {
        let a = d.calls_again();
        let answer = d.call(a, "GET", "/locks/k/status", "");
        let holder = &answer.json();
        let holder = &holder.field("holders").list()[0];
        assert_eq!(holder.field("ttl").number(), 6.0);
        let until = holder.field("autoRenewUntil").text();
        // The wall clock of these tests stands still at 0.
        assert_eq!(until, "1970-01-01T00:03:50.000Z");
        assert_eq!(d.0.locks().left(d.0.now), 230 * SECOND);
    }
    d.at(299_999);
    d.is_locked("k", true);
    d.at(300_000);
    d.is_locked("k", false);
    // A renewal begins the time anew, after the restart as before.
    let a = d.calls();
    let hold_of = |d: &mut Dialogue, a| d.is_given(a, "k", body);
    let second = hold_of(&mut d, a);
    d.at(400_000);
    let a = d.calls_again();
    d.post(a, "/locks/k/renew", &by_token(&hold, ""), 409);
    d.post(a, "/locks/k/renew", &by_token(&second, ""), 200);
    d.at(699_999);
    d.is_locked("k", true);
    d.at(700_000);
    d.is_locked("k", false);
}

#[test]
fn a_hold_whose_own_renewals_ended_while_nobody_was_there_is_over() {
    let mut d = kept();
    let a = d.calls();
    let body = r#"{"clientId":"c","timeout":6,"autoRenew":true}"#;
    d.is_given(a, "k", body);
    d.at(10_000);
    d.0.now += 290 * SECOND;
    let a = d.calls_again();
    assert_eq!(d.keys(), 0);
    d.is_given(a, "k", r#"{"clientId":"d"}"#);
}

#[test]
fn a_grant_whose_answer_never_left_is_taken_back_and_stays_so() {
    let mut d = kept();
    let a = d.calls();
    d.0.clients[a].appetite = 0;
    d.send(
        a,
        request("POST", "/locks/k/acquire", r#"{"clientId":"c"}"#),
    );
    assert_eq!(d.keys(), 1);
    d.reset(a);
    assert_eq!(d.keys(), 0);
    d.calls_again();
    d.is_locked("k", false);
}

#[test]
fn a_kept_place_is_forgotten_and_what_it_was_granted_unheard_too() {
    let mut d = kept();
    let a = d.calls();
    let first = d.is_given(a, "k", r#"{"clientId":"a"}"#);
    let second = d.is_given(a, "l", r#"{"clientId":"a"}"#);
    let body = r#"{"clientId":"b","requestId":"0123456789abcdef","keepPlace":10}"#;
    for name in ["k", "l"] {
        let answer = d.post(a, &format!("/locks/{name}/acquire"), body, 200);
        assert_eq!(answer.field("placeKept"), "10");
    }
    d.post(a, "/locks/k/release", &by_token(&first, ""), 200);
    d.post(a, "/locks/l/release", &by_token(&second, ""), 200);
    // Of the one its client has heard since.
    let told = d.is_given(a, "l", body);
    assert_eq!(d.keys(), 2);
    let a = d.calls_again();
    d.is_locked("k", false);
    d.is_given(a, "k", r#"{"clientId":"c"}"#);
    let again = d.is_given(a, "l", body);
    assert_eq!(again.field("lockId"), told.field("lockId"));
}
