//! Locks and semaphores are separate key spaces; fences and limits are not.

use super::*;

#[test]
fn one_key_is_a_lock_and_a_semaphore_at_once() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let lock = d.takes(a, "k");
    let slot = d.takes_slot(a, "k", 2);
    d.says(b, "l\nk\n0\n", "timeout\n");
    d.takes_slot(b, "k", 2);
    d.says(b, "sl\nk\n0 2\n", "timeout\n");
    d.says(a, release("k", &lock), "ok\n");
    d.takes(b, "k");
    d.says(a, "sl\nk\n0 2\n", "timeout\n");
    d.says(a, frame("sr", "k", &slot), "ok\n");
    d.takes_slot(b, "k", 2);
}

#[test]
fn r_never_frees_a_slot_and_sr_never_a_lock() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let lock = d.takes(a, "k");
    let slot = d.takes_slot(a, "k", 1);
    d.says(a, release("k", &slot), "error\n");
    d.says(a, frame("sr", "k", &lock), "error\n");
    d.says(a, renew("k", &slot), "error\n");
    d.says(a, frame("sn", "k", &lock), "error\n");
    d.says(b, "l\nk\n0\n", "timeout\n");
    d.says(b, "sl\nk\n0 1\n", "timeout\n");
    // Nor without the other space's key in the way.
    let only = d.takes_slot(a, "only", 1);
    d.says(a, release("only", &only), "error\n");
    d.says(b, "sl\nonly\n0 1\n", "timeout\n");
    let only = d.takes(a, "only-lock");
    d.says(a, frame("sr", "only-lock", &only), "error\n");
    d.says(b, "l\nonly-lock\n0\n", "timeout\n");
}

#[test]
fn records_of_the_two_spaces_do_not_meet() {
    let mut d = Dialogue::new();
    let (a, b) = (d.connect(), d.connect());
    let lock = d.enqueues(a, "k");
    d.says(a, "sw\nk\n0\n", "error_not_enqueued\n");
    d.send(a, "se\nk\n1\n");
    let slot = d.gets(a, "acquired", 33);
    d.says(b, "se\nk\n1\n", "queued\n");
    d.says(b, "w\nk\n0\n", "error_not_enqueued\n");
    d.says(b, "e\nk\n\n", "queued\n");
    d.says(a, release("k", &lock), "ok\n");
    d.says(a, "w\nk\n0\n", "error_not_enqueued\n");
    d.send(a, "sw\nk\n0\n");
    assert_eq!(d.gets(a, "ok", 33), slot);
    d.send(b, "w\nk\n0\n");
    d.gets(b, "ok", 33);
    d.says(b, "sw\nk\n0\n", "timeout\n");
}

#[test]
fn a_lock_has_no_limit_to_mismatch() {
    let mut d = Dialogue::new();
    let a = d.connect();
    d.takes_slot(a, "k", 5);
    let token = d.takes(a, "k");
    d.says(a, "l\nk\n0\n", "timeout\n");
    d.says(a, release("k", &token), "ok\n");
    d.takes(a, "k");
    // And a lock that was there first fixes no limit.
    d.takes(a, "k2");
    d.takes_slot(a, "k2", 5);
}

#[test]
fn fences_rise_over_both_spaces_and_all_ways_of_being_granted() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    let mut fences = vec![1_800_000_000_000_000_000 - 1];
    for round in 0..50 {
        let lock = d.takes(a, "k");
        fences.push(fence(&lock));
        let slot = d.takes_slot(a, &format!("s{}", 50 - round), 1);
        fences.push(fence(&slot));
        let entry = d.enqueues(a, "z");
        fences.push(fence(&entry));
        // Neither a renewal nor a `w` mints a fence, and neither does what is refused.
        d.says(a, renew("k", &lock), "ok 33\n");
        d.send(a, "w\nz\n0\n");
        assert_eq!(d.gets(a, "ok", 33), entry);
        d.says(b, "l\nk\n0\n", "timeout\n");
        // Promotions: the order of the grants is the order of the fences.
        d.says(b, "e\nz\n\ne\nk\n\n", "queued\nqueued\n");
        d.says(a, release("k", &lock), "ok\n");
        d.says(a, release("z", &entry), "ok\n");
        d.send(b, "w\nz\n0\n");
        let second = d.gets(b, "ok", 33);
        d.send(b, "w\nk\n0\n");
        let first = d.gets(b, "ok", 33);
        fences.extend([fence(&first), fence(&second)]);
        d.says(b, release("k", &first), "ok\n");
        d.says(b, release("z", &second), "ok\n");
    }
    assert!(
        fences.windows(2).all(|pair| pair[0] < pair[1]),
        "{fences:?}"
    );
}

#[test]
fn the_first_fence_is_the_one_that_was_set() {
    let mut d = Dialogue::with(|s| s.locks.first_fence = 0x0123_4567_89ab_cdef);
    let a = d.connect();
    let token = d.takes_slot(a, "s", 1);
    assert_eq!(&token[..16], "0123456789abcdef");
}

#[test]
fn tokens_of_one_key_are_ordered_as_strings() {
    // Over a place where the number of digits would change.
    let mut d = Dialogue::with(|s| s.locks.first_fence = 0x0fff_ffff_ffff_fff0);
    let a = d.connect();
    let mut last = String::new();
    for _ in 0..100 {
        let token = d.takes_slot(a, "s", 1);
        assert!(token > last);
        d.says(a, frame("sr", "s", &token), "ok\n");
        last = token;
    }
}

#[test]
fn salts_differ_and_do_not_follow_from_the_fence() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let mut salts: Vec<String> = (0..1000)
        .map(|_| d.takes_slot(a, "s", 1000)[16..].to_string())
        .collect();
    assert!(!salts.is_sorted());
    salts.sort();
    salts.dedup();
    assert_eq!(salts.len(), 1000);
}

#[test]
fn a_token_is_compared_whole_and_byte_for_byte() {
    let mut d = Dialogue::new();
    let a = d.connect();
    let slot = d.takes_slot(a, "s", 1);
    let mut bad = vec![
        slot.to_uppercase(),
        slot[..31].to_string(),
        slot[1..].to_string(),
        format!("{slot}0"),
        format!("0{slot}"),
        format!("+{slot}"),
        slot[..16].to_string(),
        format!("{}{}", &slot[..16], "0".repeat(16)),
        format!("{}{}", "0".repeat(16), &slot[16..]),
        "0".repeat(32),
        "f".repeat(32),
        "x".repeat(256),
    ];
    for at in 0..32 {
        for digit in ["0", "1", "g", "/", ":", "`"] {
            let mut token = slot.clone();
            token.replace_range(at..=at, digit);
            bad.push(token);
        }
    }
    bad.retain(|token| *token != slot);
    for token in bad {
        d.says(a, frame("sr", "s", &token), "error\n");
        d.says(a, frame("sn", "s", &token), "error\n");
    }
    d.says(a, frame("sr", "s", &slot), "ok\n");
}
