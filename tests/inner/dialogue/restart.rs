//! A restart: what was told of a hold is true again, and whatever nobody knew of is forgotten.

use super::*;
use crate::harness::recover;
use dflockd::command::{Bound, Space, Token};
use dflockd::facts::{Held, Protection, Unfit};

fn kept() -> Dialogue {
    kept_with(|_| {})
}

fn kept_with(change: impl FnOnce(&mut Settings)) -> Dialogue {
    Dialogue::patient_with(|s| {
        s.protection = Protection::Journal;
        change(s);
    })
}

fn id(name: &str) -> String {
    frame("id", "_", name)
}

impl Dialogue {
    fn restart(&mut self) {
        self.0.restart(|_| {});
        self.0.settle();
    }

    /// So many holds of the former life are there, and no other.
    #[track_caller]
    fn adopted(&self, holds: u64) {
        let counts = self.0.locks().counts();
        assert_eq!((counts.adopted, counts.granted), (holds, 0));
        assert_eq!(counts.held, holds, "S11");
    }
}

#[test]
fn a_hold_has_its_token_and_its_end_again() {
    let mut d = kept();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.at(10_000);
    d.restart();
    d.adopted(1);
    d.is_closed(a);
    let (b, c) = (d.connect(), d.connect());
    d.says(b, "l\nk\n0\n", "timeout\n");
    d.says(c, "l\nk\n100\n", "");
    d.at(32_999);
    d.hears(c, "");
    d.at(33_000);
    let next = d.is_granted(c, 33);
    assert!(fence(&next) > fence(&token), "S7");
    d.says(b, renew("k", &token), "error\n");
}

#[test]
fn a_renewal_moves_the_end_that_a_restart_finds() {
    let mut d = kept();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.at(10_000);
    d.says(a, renew("k", &format!("{token} 5")), "ok 5\n");
    d.restart();
    let b = d.connect();
    d.says(b, "l\nk\n100\n", "");
    d.at(14_999);
    d.hears(b, "");
    d.at(15_000);
    d.is_granted(b, 33);
}

#[test]
fn any_session_gives_a_hold_back_by_its_token_alone() {
    let mut d = kept();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.restart();
    let b = d.connect();
    let wrong = token.replace(&token[31..], if token.ends_with('0') { "1" } else { "0" });
    d.says(b, release("k", &wrong), "error\n");
    d.says(b, release("k", &token), "ok\n");
    d.says(b, release("k", &token), "error\n");
    d.restart();
    d.adopted(0);
}

#[test]
fn what_has_ended_does_not_come_back() {
    let mut d = kept();
    let (a, gone, admin) = (d.connect(), d.connect(), d.connect());
    let released = d.takes(a, "released");
    d.says(a, release("released", &released), "ok\n");
    d.takes(gone, "closed");
    d.end(gone);
    d.takes(a, "broken");
    d.says(admin, frame("break", "broken", ""), "ok 1\n");
    d.send(a, "l\nexpired\n0 1\n");
    d.is_granted(a, 1);
    d.takes(a, "kept");
    d.at(1_000);
    d.restart();
    d.adopted(1);
    assert_eq!(d.keys(), 1);
}

#[test]
fn waits_and_grants_of_which_nobody_knows_are_forgotten() {
    let mut d = kept();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, frame("e", "k", ""), "queued\n");
    d.says(c, "l\nk\n100\n", "");
    d.says(a, release("k", &token), "ok\n");
    assert_eq!(
        d.0.locks().counts().held,
        1,
        "of b, who has not heard of it"
    );
    d.restart();
    d.adopted(0);
    let next = d.connect();
    d.takes(next, "k");
    d.says(next, "w\nk\n0\n", "error_not_enqueued\n");
}

#[test]
fn an_enqueue_that_was_told_of_its_grant_is_kept() {
    let mut d = kept();
    let (a, b) = (d.connect(), d.connect());
    let first = d.enqueues(a, "first");
    let token = d.takes(a, "k");
    d.says(b, frame("e", "k", ""), "queued\n");
    d.says(a, release("k", &token), "ok\n");
    d.at(10_000);
    d.send(b, "w\nk\n0\n");
    let second = d.is_granted(b, 33);
    d.restart();
    d.adopted(2);
    let c = d.connect();
    d.at(32_999);
    d.says(c, renew("first", &format!("{first} 1")), "ok 1\n");
    // The wait has begun the lease anew.
    d.at(42_999);
    d.says(c, renew("k", &second), "ok 33\n");
}

#[test]
fn a_hold_of_nobodys_passes_to_the_session_that_renews_it_and_ends_with_that() {
    let mut d = kept();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.restart();
    let (b, c, watcher) = (d.connect(), d.connect(), d.connect());
    d.says(b, "ping\n_\n\n", "ok\n");
    d.end(b);
    assert_eq!(d.keys(), 1, "it was never b's");
    d.says(c, renew("k", &token), "ok 33\n");
    // Whoever comes second has it no more.
    let late = d.connect();
    d.says(late, renew("k", &token), "ok 33\n");
    d.end(late);
    d.says(watcher, "l\nk\n100\n", "");
    d.end(c);
    d.is_granted(watcher, 33);
}

#[test]
fn a_hold_of_a_named_owner_passes_to_sessions_of_that_name_alone() {
    let mut d = kept();
    let a = d.connect();
    d.says(a, id("me"), "ok\n");
    let token = d.takes(a, "k");
    d.restart();
    let (stranger, other, me) = (d.connect(), d.connect(), d.connect());
    d.says(other, id("other"), "ok\n");
    d.says(me, id("me"), "ok\n");
    for client in [stranger, other] {
        d.says(client, renew("k", &token), "ok 33\n");
        d.end(client);
        assert_eq!(d.keys(), 1, "it was not its own");
    }
    d.says(me, renew("k", &token), "ok 33\n");
    d.end(me);
    assert_eq!(d.keys(), 0);
}

#[test]
fn a_hold_that_passed_to_a_named_session_is_that_owners_after_the_next_restart() {
    let mut d = kept();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.restart();
    let b = d.connect();
    d.says(b, id("me"), "ok\n");
    d.says(b, renew("k", &token), "ok 33\n");
    d.restart();
    let (stranger, me) = (d.connect(), d.connect());
    d.says(me, id("me"), "ok\n");
    d.says(stranger, renew("k", &token), "ok 33\n");
    d.end(stranger);
    assert_eq!(d.keys(), 1, "it was not the stranger's");
    d.says(me, renew("k", &token), "ok 33\n");
    d.end(me);
    assert_eq!(d.keys(), 0);
}

#[test]
fn a_detached_hold_stays_detached_after_a_restart_and_a_renewal() {
    let mut d = kept();
    let (a, b) = (d.connect(), d.connect());
    d.says(b, id("me"), "ok\n");
    let (plain, named) = (d.takes(a, "plain"), d.takes(b, "named"));
    d.says(a, frame("detach", "plain", &plain), "ok\n");
    d.says(b, frame("detach", "named", &named), "ok\n");
    for _ in 0..2 {
        d.restart();
        let (a, b) = (d.connect(), d.connect());
        d.says(b, id("me"), "ok\n");
        for client in [a, b] {
            d.says(client, renew("plain", &plain), "ok 33\n");
            d.says(client, renew("named", &named), "ok 33\n");
            d.end(client);
        }
        assert_eq!(d.keys(), 2);
    }
}

#[test]
fn a_hold_is_detached_after_the_restart() {
    let mut d = kept();
    let a = d.connect();
    let token = d.takes(a, "k");
    d.restart();
    let b = d.connect();
    d.says(b, frame("detach", "k", &token), "ok\n");
    d.says(b, renew("k", &token), "ok 33\n");
    d.end(b);
    d.restart();
    let c = d.connect();
    d.says(c, renew("k", &token), "ok 33\n");
    d.end(c);
    assert_eq!(d.keys(), 1);
}

#[test]
fn a_hold_that_has_outlived_its_session_is_bound_by_its_lease_after_a_restart() {
    let mut d = kept_with(|s| s.locks.auto_release = false);
    let (a, b) = (d.connect(), d.connect());
    d.says(b, id("me"), "ok\n");
    let (plain, named) = (d.takes(a, "plain"), d.takes(b, "named"));
    d.end(a);
    d.end(b);
    d.0.restart(|s| s.locks.auto_release = true);
    let (a, b) = (d.connect(), d.connect());
    d.says(b, id("me"), "ok\n");
    d.says(a, renew("plain", &plain), "ok 33\n");
    d.says(b, renew("named", &named), "ok 33\n");
    d.end(a);
    d.end(b);
    // As without the restart: a session that has come since does not end the one, and is the owner of the other.
    let c = d.connect();
    d.says(c, "l\nplain\n0\n", "timeout\n");
    d.takes(c, "named");
}

#[test]
fn a_lease_that_ended_meanwhile_ends_with_the_first_tick() {
    let mut d = kept();
    let a = d.connect();
    d.takes(a, "k");
    let slot = d.takes_slot(a, "s", 1);
    d.0.now += 40 * SECOND;
    d.0.restart(|_| {});
    d.adopted(2);
    // What is heard before that wins.
    let b = d.0.connect();
    d.0.send_only(b, frame("sn", "s", &slot).as_bytes());
    d.0.settle();
    d.hears(b, "ok 33\n");
    assert_eq!(d.0.locks().counts().expired, 1);
    d.takes(b, "k");
}

#[test]
fn two_restarts_with_nobody_there_between_lose_nothing() {
    let mut d = kept();
    let a = d.connect();
    d.says(a, id("me"), "ok\n");
    let named = d.takes(a, "named");
    let plain = d.connect();
    let plain = d.takes(plain, "plain");
    for _ in 0..3 {
        d.0.now += SECOND;
        d.restart();
        d.adopted(2);
    }
    let (b, me) = (d.connect(), d.connect());
    d.says(me, id("me"), "ok\n");
    d.says(b, renew("plain", &plain), "ok 33\n");
    d.says(me, renew("named", &named), "ok 33\n");
    d.end(b);
    d.end(me);
    assert_eq!(d.keys(), 0);
}

#[test]
fn the_slots_of_semaphores_few_and_many_are_adopted() {
    for limit in [2, 3, 8, 9, 40] {
        let mut d = kept();
        let a = d.connect();
        let tokens: Vec<String> = (0..limit).map(|_| d.takes_slot(a, "s", limit)).collect();
        d.says(a, frame("sr", "s", &tokens[0]), "ok\n");
        d.at(5_000);
        d.says(a, frame("sn", "s", &tokens[1]), "ok 33\n");
        d.restart();
        d.adopted(u64::from(limit) - 1);
        let b = d.connect();
        d.says(
            b,
            frame("sl", "s", &format!("0 {}", limit + 1)),
            "error_limit_mismatch\n",
        );
        d.takes_slot(b, "s", limit);
        d.says(b, frame("sl", "s", &format!("100 {limit}")), "");
        for token in &tokens[2..] {
            d.says(b, frame("sn", "s", &format!("{token} 100")), "");
        }
        // The renewals stand behind the wait, which the end of the one lease that is left answers.
        d.at(38_000);
        assert!(d.heard(b).starts_with("ok "));
    }
}

#[test]
fn keys_that_are_adopted_are_kept_though_there_are_too_many_and_new_ones_are_refused() {
    let mut d = kept();
    let a = d.connect();
    let tokens: Vec<String> = (0..3).map(|n| d.takes(a, &format!("k{n}"))).collect();
    d.0.restart(|s| s.locks.max_locks = 1);
    d.adopted(3);
    let b = d.connect();
    d.says(b, "l\nnew\n0\n", "error_max_locks\n");
    // Two are in use still, which are more than one.
    d.says(b, release("k0", &tokens[0]), "ok\n");
    d.says(b, "l\nnew\n0\n", "error_max_locks\n");
    d.says(b, release("k1", &tokens[1]), "ok\n");
    d.says(b, "l\nnew\n0\n", "error_max_locks\n");
    d.says(b, release("k2", &tokens[2]), "ok\n");
    d.takes(b, "new");
    d.says(b, "l\nk0\n0\n", "error_max_locks\n");
}

#[test]
fn a_drain_does_not_wait_for_holds_whose_sessions_died_with_the_server() {
    let mut d = kept();
    let a = d.connect();
    d.takes(a, "k");
    d.restart();
    d.drain();
    assert!(d.0.is_drained());
    d.restart();
    d.adopted(1);
}

#[test]
fn nobody_waits_in_vain_for_a_hold_of_nobodys() {
    let mut d = kept();
    let a = d.connect();
    let token = d.takes(a, "of-nobody");
    d.restart();
    let (b, c) = (d.connect(), d.connect());
    d.takes(b, "of-b");
    d.says(b, "l\nof-nobody\n100\n", "");
    d.says(c, "l\nof-b\n100\n", "");
    // But once it is c's, who waits for b, who waits for it, somebody must give in.
    let me = d.connect();
    d.says(me, renew("of-nobody", &token), "ok 33\n");
    d.says(me, "l\nof-b\n100\n", "error_deadlock\n");
}

#[test]
fn facts_are_stated_for_those_who_keep_them_alone() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    d.takes(a, "k");
    d.restart();
    d.adopted(0);
}

#[test]
fn the_longest_lease_that_was_told_is_known_and_what_is_left_of_it() {
    let mut d = kept();
    let (a, b) = (d.connect(), d.connect());
    let told = |d: &Dialogue| d.0.locks().longest_told() / SECOND;
    let left = |d: &Dialogue| d.0.locks().left(d.0.now) / SECOND;
    assert_eq!((told(&d), left(&d)), (0, 0));
    let token = d.takes(a, "k");
    assert_eq!((told(&d), left(&d)), (64, 33));
    d.says(b, frame("e", "k", "1000"), "queued\n");
    d.at(10_000);
    assert_eq!((told(&d), left(&d)), (64, 23));
    d.says(a, renew("k", &format!("{token} 2")), "ok 2\n");
    assert_eq!((told(&d), left(&d)), (2, 2));
    d.says(a, release("k", &token), "ok\n");
    // Nobody knows of this one.
    assert_eq!(left(&d), 0);
    d.send(b, "w\nk\n0\n");
    d.is_granted(b, 1000);
    assert_eq!((told(&d), left(&d)), (1024, 1000));
    d.restart();
    assert_eq!((told(&d), left(&d)), (1024, 1000));
    d.at(1_010_000);
    assert_eq!((told(&d), left(&d)), (0, 0));
}

#[test]
fn a_restatement_with_the_facts_after_its_begin_tells_of_the_same_holds() {
    let mut d = kept_with(|s| s.locks.auto_release = false);
    let (a, b) = (d.connect(), d.connect());
    let tokens: Vec<String> = (0..20).map(|n| d.takes(a, &format!("k{n}"))).collect();
    for _ in 0..3 {
        d.takes_slot(a, "s", 10);
    }
    d.says(b, frame("e", "k5", ""), "queued\n");
    let mut step = 0;
    while !d.0.sweep(2) {
        // Before and behind the place of the sweep.
        for n in [step % 20, 19 - step % 20] {
            let key = format!("k{n}");
            match step % 4 {
                0 => d.send(b, renew(&key, &format!("{} 50", tokens[n]))),
                1 => d.send(b, release(&key, &tokens[n])),
                2 => d.send(b, frame("detach", &key, &tokens[n])),
                _ => d.send(b, format!("l\n{key}\n0\n")),
            }
        }
        step += 1;
    }
    assert!(step > 10);
    // That they are the same, the sweep itself has seen.
    let all: Vec<_> = d.0.store.holds().collect();
    assert!(all.iter().any(|held| held.space == Space::Semaphore));
    assert!(all.iter().any(|held| !held.told), "k5 is b's, unheard");
}

#[test]
fn holds_that_no_table_can_have_had_are_unfit() {
    let of = |fence| Held {
        token: Token { fence, salt: 1 },
        space: Space::Semaphore,
        limit: 2,
        key: b"s",
        owner: None,
        lease: SECOND,
        end: 100 * SECOND,
        since: SECOND,
        told: true,
        bound: Bound::Session,
        attempt: None,
        renews: None,
        note: None,
    };
    let locks = || {
        let mut locks = settings().locks;
        locks.first_fence = 10;
        locks
    };
    let try_all = |holds: &[Held]| recover(locks(), 2 * SECOND, holds.iter().copied()).map(|_| ());
    assert_eq!(try_all(&[of(1), of(9)]), Ok(()));
    let of_lock = |fence| Held {
        space: Space::Lock,
        limit: 1,
        ..of(fence)
    };
    assert_eq!(try_all(&[of(1), of(2), of_lock(3)]), Ok(()));
    for unfit in [
        // S7: a fence that is yet to come.
        &[of(10)][..],
        // One hold too many; one that is not the next.
        &[of(1), of(2), of(3)],
        &[of_lock(1), of_lock(2)],
        &[of(2), of(1)],
        &[of(1), of(1)],
        &[of(1), Held { limit: 3, ..of(2) }],
        // From the future.
        &[Held {
            since: 3 * SECOND,
            ..of(1)
        }],
        // An attempt of nobody's.
        &[Held {
            note: Some(b"{}"),
            ..of(1)
        }],
    ] {
        assert_eq!(try_all(unfit), Err(Unfit), "{unfit:?}");
    }
}
