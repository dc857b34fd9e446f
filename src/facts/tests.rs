//! Facts as bytes: what is written is read again, and bytes that are no facts are unfit, never a panic. Invariant: each test
//! looks at every record of `all`.

use super::*;

const HOLD: Held = Held {
    token: Token {
        fence: 7,
        salt: 0x0123_4567_89ab_cdef,
    },
    space: Space::Semaphore,
    limit: 3,
    key: b"a key",
    owner: Some((Realm::Distlockd, b"me")),
    lease: 33,
    end: 40,
    since: 7,
    told: true,
    bound: Bound::Lease,
    attempt: Some([1, 2, 3, 4]),
    renews: Some(Renews {
        renewal: Renewal {
            every: 5,
            within: 300,
        },
        step: 33,
        until: 333,
    }),
    note: Some(b"a note"),
};

const PLAIN: Held = Held {
    space: Space::Lock,
    limit: 1,
    owner: None,
    told: false,
    bound: Bound::Session,
    attempt: None,
    renews: None,
    note: None,
    ..HOLD
};

fn all() -> Facts {
    let mut facts = Facts::kept();
    facts.held(&HOLD);
    facts.held(&PLAIN);
    facts.held(&Held {
        owner: Some((Realm::Declared, b"")),
        note: Some(b""),
        ..PLAIN
    });
    facts.renewed(7, 60);
    facts.ended(7);
    facts
}

fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (record, rest) = bytes.split_at(record_len(bytes).expect("whole"));
        records.push(record);
        bytes = rest;
    }
    records
}

#[test]
fn a_fact_is_read_as_it_was_written() {
    let facts = all();
    let read: Vec<_> = records(facts.bytes()).into_iter().map(Fact::read).collect();
    let named = Held {
        owner: Some((Realm::Declared, b"")),
        note: Some(b""),
        ..PLAIN
    };
    let renewed = Fact::Renewed { fence: 7, end: 60 };
    let wanted = [
        Fact::Held(HOLD),
        Fact::Held(PLAIN),
        Fact::Held(named),
        renewed,
        Fact::Ended { fence: 7 },
    ];
    assert_eq!(read, wanted.map(Ok));
    assert_eq!((facts.count(), facts.last_fence()), (5, 7));
}

#[test]
fn a_record_that_is_cut_anywhere_is_unfit() {
    let facts = all();
    for record in records(facts.bytes()) {
        for length in 0..record.len() {
            assert_eq!(Fact::read(&record[..length]), Err(Unfit));
            // It says a length that it has.
            let mut shorter = record[..length].to_vec();
            if let Some(first) = shorter.first_chunk_mut() {
                *first = (length as u32 - 4).to_le_bytes();
                let read = Fact::read(&shorter);
                let is_note = matches!(read, Ok(Fact::Held(held)) if held.note.is_some());
                assert!(read == Err(Unfit) || is_note);
            }
        }
    }
}

#[test]
fn an_unknown_kind_is_unfit() {
    for kind in (0..=255).filter(|kind| !(HELD..=ENDED).contains(kind)) {
        let mut facts = all();
        facts.bytes[LEN] = kind;
        assert_eq!(Fact::read(records(facts.bytes())[0]), Err(Unfit));
    }
}

/// Writes a fact again.
fn written(fact: Fact) -> Facts {
    let mut facts = Facts::kept();
    match fact {
        Fact::Held(held) => facts.held(&held),
        Fact::Renewed { fence, end } => facts.renewed(fence, end),
        Fact::Ended { fence } => facts.ended(fence),
    }
    facts
}

#[test]
fn a_record_with_another_byte_is_unfit_or_says_another_fact_plainly() {
    let facts = all();
    for record in records(facts.bytes()) {
        for at in 0..record.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut record = record.to_vec();
                let is_same = record[at] == value;
                record[at] = value;
                let Ok(fact) = Fact::read(&record) else {
                    assert!(!is_same, "byte {at}");
                    continue;
                };
                assert!(is_same || at >= LEN, "it says another length");
                let again = written(fact);
                assert_eq!(Fact::read(again.bytes()), Ok(fact), "byte {at} is {value}");
            }
        }
    }
}

#[test]
fn facts_that_are_kept_leave_nothing() {
    let mut facts = all();
    facts.promise(9);
    assert_eq!(facts.longest(), 9);
    facts.clear();
    assert!(facts.is_empty() && facts.is_on());
    assert_eq!(
        (facts.count(), facts.longest(), facts.last_fence()),
        (0, 0, 0)
    );
}
