//! Groups of listeners: who of them gets a signal, and what becomes of those that have no room.

use super::signals::*;
use super::subscribers::PUSHES;
use super::*;

#[test]
fn receivers_are_connections_without_a_group_and_groups() {
    let mut d = Dialogue::new();
    let publisher = d.connect();
    for n in 0..5 {
        let client = d.connect();
        d.says(client, listen("c", ""), "ok\n");
        d.says(client, listen("*", ""), "ok\n");
        d.says(client, listen("c", if n < 3 { "g" } else { "h" }), "ok\n");
        d.says(client, listen("*", "g"), "ok\n");
    }
    d.signals(publisher, "c", "x", 5 + 3);
}

#[test]
fn a_group_takes_turns_from_the_oldest() {
    let mut d = Dialogue::new();
    let members: Vec<usize> = (0..3).map(|_| d.listener("jobs", "g")).collect();
    let publisher = d.connect();
    for n in 0..7 {
        let payload = n.to_string();
        d.signals(publisher, "jobs", &payload, 1);
        for (at, &member) in members.iter().enumerate() {
            let mine = if n % 3 == at {
                sig("jobs", &payload)
            } else {
                String::new()
            };
            d.hears(member, &mine);
        }
    }
    // It is the second's turn, who does not listen any more: then it is the third's.
    d.says(members[1], unlisten("jobs", "g"), "ok\n");
    d.signals(publisher, "jobs", "7", 1);
    d.hears(members[2], "sig jobs 7\n");
    // Who comes again is the youngest.
    d.says(members[1], listen("jobs", "g"), "ok\n");
    for (n, member) in [0, 2, 1].into_iter().enumerate() {
        d.signals(publisher, "jobs", "x", 1);
        d.hears(members[member], "sig jobs x\n");
        assert_eq!(d.heard(members[(member + 1) % 3]), "", "{n}");
    }
}

#[test]
fn a_member_that_goes_hands_its_turn_on() {
    let mut d = Dialogue::new();
    let members: Vec<usize> = (0..4).map(|_| d.listener("jobs", "g")).collect();
    let publisher = d.connect();
    d.signals(publisher, "jobs", "0", 1);
    d.end(members[1]);
    d.reset(members[2]);
    d.signals(publisher, "jobs", "1", 1);
    d.hears(members[3], "sig jobs 1\n");
    // And one that goes in the very turn of the signal.
    d.0.reset_only(members[0]);
    d.0.send_only(publisher, signal("jobs", "2").as_bytes());
    d.0.settle();
    d.hears(publisher, "ok 1\n");
    d.hears(members[3], "sig jobs 2\n");
    d.end(members[3]);
    d.signals(publisher, "jobs", "3", 0);
}

#[test]
fn a_group_is_trimmed_and_a_blank_one_is_none() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener("c", "g g"), d.listener("c", " \tg g \r"));
    let publisher = d.connect();
    d.says(a, listen("d", " \t "), "ok\n");
    assert_eq!(d.channels(a), ["c g g 2", "d - 1"]);
    d.signals(publisher, "c", "x", 1);
    d.hears(a, "sig c x\n");
    d.says(b, unlisten("c", "  g g"), "ok\n");
    d.says(a, unlisten("d", " "), "ok\n");
    d.says(a, unlisten("c", "g g "), "ok\n");
    assert!(d.channels(a).is_empty());
}

#[test]
fn a_group_passes_a_stuck_member_over_and_does_not_cut_it_off() {
    let mut d = Dialogue::new();
    let b = d.connect();
    let stuck = d.stuck_listener("jobs", "g", b);
    let well: Vec<usize> = (0..2).map(|_| d.listener("jobs", "g")).collect();
    for n in 0..4 {
        let payload = n.to_string();
        d.signals(b, "jobs", &payload, 1);
        d.hears(well[n % 2], &sig("jobs", &payload));
        d.hears(well[(n + 1) % 2], "");
    }
    d.is_open(stuck);
    // As soon as it has room it takes its turn again.
    d.wakes(stuck);
    let own = sig(&format!("own.{stuck}"), "x");
    d.hears(stuck, &own.repeat(PUSHES));
    d.signals(b, "jobs", "4", 1);
    d.hears(stuck, "sig jobs 4\n");
}

#[test]
fn of_a_group_that_is_all_stuck_the_one_whose_turn_it_is_is_cut_off() {
    let mut d = Dialogue::new();
    let b = d.connect();
    let members: Vec<usize> = (0..3).map(|_| d.listener("jobs", "g")).collect();
    d.signals(b, "jobs", "0", 1);
    for &member in &members {
        d.send(member, listen(&format!("own.{member}"), ""));
        d.sleeps(member);
        for _ in 0..PUSHES {
            d.signals(b, &format!("own.{member}"), "x", 1);
        }
    }
    for (n, member) in [1, 2, 0].into_iter().enumerate() {
        d.signals(b, "jobs", "1", 0);
        let closed: Vec<bool> = (members.iter()).map(|&m| d.0.clients[m].closed).collect();
        assert_eq!(closed.iter().filter(|&&closed| closed).count(), n + 1);
        assert!(closed[member], "{closed:?}");
    }
    d.signals(b, "jobs", "1", 0);
    assert!(d.channels(b).is_empty());
}

/// Its group passes it over, and then, turns later, it is offered the same signal by itself.
#[test]
fn a_failed_delivery_does_not_mark_the_connection_as_served() {
    let mut d = Dialogue::new();
    let b = d.connect();
    let a = d.stuck_listener("c", "g", b);
    let other = d.listener("c", "g");
    // The patterns that match are asked one after the other, and this many take some turns.
    let many: Vec<usize> = (0..2000).map(|_| d.0.connect()).collect();
    for &client in &many {
        d.0.send_only(client, listen("c", "").as_bytes());
    }
    d.0.settle();
    d.says(b, "ping\n_\n_\n", "ok\n");
    d.0.send_only(
        a,
        (listen(">", "") + &listen("*", "") + &unlisten(">", "")).as_bytes(),
    );
    d.0.settle();
    d.0.send_only(b, signal("c", "x").as_bytes());
    d.0.turn();
    d.hears(b, "");
    d.hears(other, "sig c x\n");
    d.is_open(a);
    d.wakes(a);
    let own = sig(&format!("own.{a}"), "x").repeat(PUSHES);
    d.hears(a, &(own + "ok\nok\nok\nsig c x\n"));
    // Without a group all of them; and the group.
    d.hears(b, "ok 2002\n");
}

/// A member of a group that is about to be closed, and is told why, is told so.
#[test]
fn a_group_of_which_all_are_closing_cuts_nobody_off() {
    let mut d = Dialogue::new();
    let (a, b) = (d.listener("c", "g"), d.connect());
    d.0.send_only(a, listen(&"x".repeat(300), "").as_bytes());
    d.0.send_only(b, signal("c", "x").as_bytes());
    d.0.settle();
    d.hears(b, "ok 0\n");
    d.hears(a, "error\n");
    d.lingers(a);
}
