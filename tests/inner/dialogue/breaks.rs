//! `break`: an administrator ends holds, and the log can tell; who is one, and what else is noted of holds.

use super::*;
use dflockd::hub::{Happened, Refused, Somebody};
use dflockd::locks::{End, Event};
use dflockd::wire::Face;

fn force(key: &str, fence: &str) -> String {
    frame("break", key, fence)
}

impl Dialogue {
    /// A client on another host.
    fn connect_from(&mut self, ip: &str) -> usize {
        let peer = format!("{ip}:5000").parse().unwrap();
        let client = self.0.connect_from(Face::Text, peer);
        self.0.settle();
        client
    }

    fn events(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.0.events)
    }
}

#[test]
fn a_break_ends_all_holds_and_serves_the_queue() {
    let mut d = Dialogue::patient();
    let (a, b, c) = (d.connect(), d.connect(), d.connect());
    let token = d.takes(a, "deploy");
    d.says(b, "l\ndeploy\n100\n", "");
    d.says(c, force("deploy", ""), "ok 1\n");
    let next = d.is_granted(b, 33);
    d.says(a, renew("deploy", &token), "error\n");
    d.says(a, release("deploy", &token), "error\n");
    d.says(c, release("deploy", &next), "ok\n");
    d.says(c, force("deploy", ""), "ok 0\n");
    d.says(c, force("never-seen", ""), "ok 0\n");
    d.is_open(a);
}

#[test]
fn a_break_with_a_fence_ends_that_hold_alone() {
    let mut d = Dialogue::patient();
    let a = d.connect();
    for limit in [3, 100] {
        let tokens: Vec<String> = (0..3)
            .map(|_| d.takes_slot(a, &format!("s{limit}"), limit))
            .collect();
        let key = format!("s{limit}");
        let breaks = |fence: &str| frame("sbreak", &key, fence);
        d.says(a, breaks(&tokens[1][..16]), "ok 1\n");
        d.says(a, breaks(&tokens[1][..16]), "ok 0\n");
        d.says(a, frame("sn", &key, &tokens[0]), "ok 33\n");
        d.says(a, frame("sn", &key, &tokens[1]), "error\n");
        // The lock of that name is another key.
        d.says(a, force(&key, &tokens[0][..16]), "ok 0\n");
        d.says(a, breaks("0000000000000000"), "ok 0\n");
        for bad in [
            &tokens[0][..15],
            &tokens[0],
            "x",
            "000000000000000G",
            "1 2",
            "00000000000000AB",
        ] {
            d.says(a, breaks(bad), "error\n");
        }
        d.says(a, breaks(""), "ok 2\n");
    }
}

#[test]
fn a_broken_hold_counts_as_lost() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.enqueues(a, "k");
    d.says(b, force("k", ""), "ok 1\n");
    d.says(a, "w\nk\n0\n", "error_lease_expired\n");
    d.says(a, "w\nk\n0\n", "error_not_enqueued\n");
}

#[test]
fn a_break_of_thousands_is_told_when_it_is_over_and_spares_those_that_come_after() {
    let mut d = Dialogue::patient_with(|s| s.locks.max_locks = 10);
    let (a, b, late) = (d.connect(), d.connect(), d.connect());
    for _ in 0..5_000 {
        d.0.send_only(a, b"sl\ns\n0 5000\n");
    }
    d.0.settle();
    d.heard(a);
    d.says(late, "sl\ns\n100 5000\n", "");
    d.0.send_only(b, frame("sbreak", "s", "").as_bytes());
    d.0.turn();
    // It takes turns: others are served between, and the peer's last byte does not stop it.
    d.hears(b, "");
    d.0.send_only(a, b"ping\n_\n_\n");
    d.0.turn();
    d.hears(a, "ok\n");
    d.hears(b, "");
    assert!(
        d.heard(late).starts_with("ok "),
        "it is served with the first that ends"
    );
    d.0.end_only(b);
    d.0.settle();
    d.hears(b, "ok 5000\n");
    assert_eq!(d.0.locks().counts().held, 1);
}

#[test]
fn a_break_goes_on_although_its_administrator_is_gone() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    for _ in 0..3_000 {
        d.0.send_only(a, b"sl\ns\n0 5000\n");
    }
    d.0.settle();
    d.0.send_only(b, frame("sbreak", "s", "").as_bytes());
    d.0.turn();
    d.reset(b);
    d.0.settle();
    assert_eq!(d.0.locks().counts().held, 0);
    assert_eq!(d.0.locks().counts().broken, 3_000);
    // The log can still tell whose break it was.
    let events = d.events();
    let told = events.iter().filter(|event| event.by.is_none()).count();
    assert_eq!((events.len(), told), (21, 0));
}

#[test]
fn without_any_token_a_loopback_peer_may_break() {
    let mut d = Dialogue::patient();
    let near = [
        d.connect(),
        d.connect_from("127.9.9.9"),
        d.connect_from("[::1]"),
    ];
    let mapped = d.connect_from("[::ffff:127.0.0.1]");
    let far = [
        d.connect_from("10.0.0.1"),
        d.connect_from("[fe80::1]"),
        d.connect_from("[::ffff:10.0.0.1]"),
    ];
    let token = d.takes(near[0], "k");
    for client in far {
        d.says(client, force("k", ""), "error_auth\n");
        d.says(client, renew("k", &token), "ok 33\n");
    }
    let refusals = d.0.refusals();
    assert_eq!(
        (refusals.len(), refusals[0].refused, refusals[0].count),
        (1, Refused::Break, 3)
    );
    assert_eq!(refusals[0].last.unwrap().to_string(), "10.0.0.1:5000");
    for client in near.into_iter().chain([mapped]) {
        d.says(client, force("nothing", ""), "ok 0\n");
    }
    d.says(mapped, force("k", ""), "ok 1\n");
}

#[test]
fn without_an_administrators_token_that_of_all_is_enough_to_break() {
    let mut d = Dialogue::patient_with(|s| s.secret = Some(b"all".to_vec()));
    let far = d.connect_from("10.0.0.1");
    d.says(far, frame("auth", "_", "all"), "ok\n");
    d.takes(far, "k");
    d.says(far, force("k", ""), "ok 1\n");
}

#[test]
fn with_an_administrators_token_nothing_else_may_break() {
    let mut d = Dialogue::patient_with(|s| {
        s.secret = Some(b"all".to_vec());
        s.admin = Some(b"root".to_vec());
    });
    let (a, b) = (d.connect(), d.connect());
    d.says(a, frame("auth", "_", "all"), "ok\n");
    d.takes(a, "k");
    d.says(a, force("k", ""), "error_auth\n");
    d.is_open(a);
    // The administrator's token does all that the other does, and a later `auth` raises a connection.
    d.says(b, frame("auth", "_", "root"), "ok\n");
    d.says(b, force("k", ""), "ok 1\n");
    d.says(a, frame("auth", "_", "all"), "error\n");
    d.says(a, frame("auth", "_", "root"), "ok\n");
    d.says(a, force("k", ""), "ok 0\n");
    for said in ["root", "all", "wrong"] {
        d.says(a, frame("auth", "_", said), "error\n");
    }
    d.is_open(a);
}

#[test]
fn a_wrong_token_of_an_administrator_costs_the_connection() {
    for secret in [None, Some(b"all".to_vec())] {
        let mut d = Dialogue::patient_with(|s| {
            s.secret = secret.clone();
            s.admin = Some(b"root".to_vec());
        });
        let a = d.connect();
        if secret.is_some() {
            d.says(a, frame("auth", "_", "all"), "ok\n");
        }
        d.takes(a, "k");
        d.says(
            a,
            format!("{}ping\n_\n_\n", frame("auth", "_", "rood")),
            "error_auth\n",
        );
        assert_eq!(d.keys(), 0);
        d.at(200);
        d.is_shut(a);
        let refusals = d.0.refusals();
        assert_eq!(
            (refusals[0].refused, refusals[0].count),
            (Refused::Token, 1)
        );
    }
}

#[test]
fn with_an_administrators_token_alone_auth_is_optional() {
    let mut d = Dialogue::patient_with(|s| s.admin = Some(b"root".to_vec()));
    let a = d.connect();
    d.takes(a, "k");
    d.says(a, force("k", ""), "error_auth\n");
    d.says(a, frame("auth", "_", "root"), "ok\n");
    d.says(a, force("k", ""), "ok 1\n");
}

#[test]
fn new_secrets_count_for_each_auth_from_then_on() {
    let mut d = Dialogue::patient_with(|s| {
        s.secret = Some(b"old".to_vec());
        s.admin = Some(b"old root".to_vec());
    });
    let (a, root, late) = (d.connect(), d.connect(), d.connect());
    d.says(a, frame("auth", "_", "old"), "ok\n");
    d.says(root, frame("auth", "_", "old root"), "ok\n");
    d.0.set_secrets(Some("new"), Some("new root"));
    d.takes(a, "k");
    d.says(root, force("k", ""), "ok 1\n");
    d.says(late, frame("auth", "_", "old"), "error_auth\n");
    let b = d.connect();
    d.says(b, frame("auth", "_", "new"), "ok\n");
}

#[test]
fn a_break_is_noted_with_its_holds_and_by_whom() {
    let mut d = Dialogue::patient();
    let (a, b) = (d.connect(), d.connect());
    d.says(a, frame("id", "_", "me"), "ok\n");
    let token = d.takes(a, "deploy");
    d.at(2_000);
    d.says(b, force("deploy", ""), "ok 1\n");
    let [hold, all] = &d.events()[..] else {
        panic!("two events");
    };
    let Event::Ended {
        hold: it,
        end,
        held,
        ..
    } = &hold.event
    else {
        panic!("{hold:?}");
    };
    assert_eq!(
        (*end, *held, &it.key[..]),
        (End::Broken, 2 * SECOND, &b"deploy"[..])
    );
    assert_eq!(
        (it.fence, it.owner.as_deref()),
        (fence(&token), Some(&b"me"[..]))
    );
    let addr = |who: &Option<Somebody>| who.as_ref().unwrap().addr.to_string();
    assert_eq!(addr(&hold.peer), "127.0.0.1:40000");
    assert_eq!(addr(&hold.by), "127.0.0.1:40001");
    assert!(matches!(&all.event, Event::Broken { holds: 1, key, .. } if key == b"deploy"));
    assert_eq!(all.by, hold.by);
    // Of many holds the first are named; that there was nothing to break is no event.
    for _ in 0..100 {
        d.0.send_only(a, b"sl\ns\n0 100\n");
    }
    d.0.settle();
    d.send(b, frame("sbreak", "s", ""));
    d.send(b, frame("sbreak", "s", ""));
    assert_eq!(d.events().len(), 21);
}

#[test]
fn each_begin_and_end_of_a_hold_is_noted_if_wanted() {
    let mut d = Dialogue::patient_with(|s| s.locks.log = true);
    let (a, b) = (d.connect(), d.connect());
    let token = d.takes(a, "k");
    d.says(b, "l\nk\n100 5\n", "");
    d.at(3_000);
    d.says(a, release("k", &token), "ok\n");
    d.is_granted(b, 5);
    d.at(8_000);
    d.takes(b, "other");
    d.end(b);
    let told: Vec<String> = d
        .events()
        .iter()
        .map(|happened| match &happened.event {
            Event::Granted { hold, waited } => {
                format!("granted {} {}", hold.key.escape_ascii(), waited / SECOND)
            }
            Event::Ended {
                hold, end, held, ..
            } => format!("{end:?} {} {}", hold.key.escape_ascii(), held / SECOND),
            other => panic!("{other:?}"),
        })
        .collect();
    let wanted = [
        "granted k 0",
        "Released k 3",
        "granted k 3",
        "Expired k 5",
        "granted other 0",
        "Closed other 0",
    ];
    assert_eq!(told, wanted);
}
