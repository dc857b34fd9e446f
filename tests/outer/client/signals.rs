//! Signals: what is heard, in which order, and what is kept meanwhile.

use super::*;

fn signal(channel: &str, payload: &str) -> Signal {
    Signal {
        channel: channel.into(),
        payload: payload.into(),
    }
}

#[track_caller]
fn hears(client: &mut Client, channel: &str, payload: &str) {
    let heard = client.hear(PATIENCE).unwrap();
    assert_eq!(heard, Some(signal(channel, payload)));
}

#[test]
fn a_signal_is_heard_by_those_who_listen_and_counted() {
    let daemon = Daemon::start(&[]);
    let (mut one, mut two) = (connect(&daemon), connect(&daemon));
    assert_eq!(two.signal(b"jobs.mail", b"x").unwrap(), 0);
    one.listen(b"jobs.*", None).unwrap();
    one.listen(b"jobs.>", None).unwrap();
    assert_eq!(two.signal(b"jobs.mail", b" letter  7 ").unwrap(), 1);
    hears(&mut one, "jobs.mail", " letter  7 ");
    assert_eq!(two.signal(b"news", b"x").unwrap(), 0);
    one.unlisten(b"jobs.*", None).unwrap();
    one.unlisten(b"jobs.>", None).unwrap();
    one.unlisten(b"jobs.>", None).unwrap();
    assert_eq!(two.signal(b"jobs.mail", b"x").unwrap(), 0);
    assert_eq!(one.hear(TRY).unwrap(), None);
    one.ping().unwrap();
}

#[test]
fn a_group_takes_turns() {
    let daemon = Daemon::start(&[]);
    let mut members = [connect(&daemon), connect(&daemon)];
    for member in &mut members {
        member.listen(b"jobs.>", Some(b"workers")).unwrap();
    }
    let mut publisher = connect(&daemon);
    for n in 0..4 {
        let payload = n.to_string();
        assert_eq!(publisher.signal(b"jobs", payload.as_bytes()).unwrap(), 0);
        let receivers = publisher.signal(b"jobs.mail", payload.as_bytes());
        assert_eq!(receivers.unwrap(), 1);
        hears(&mut members[n % 2], "jobs.mail", &payload);
    }
}

#[test]
fn signals_that_come_during_a_request_are_heard_after_it() {
    let daemon = Daemon::start(&[]);
    let (mut one, mut two) = (connect(&daemon), connect(&daemon));
    one.listen(b"c", None).unwrap();
    let first = two.acquire(&key("k"), TRY, None).unwrap();
    let waiter = thread::spawn(move || one.acquire(&key("k"), PATIENCE, None).map(|_| one));
    eventually("it waits", || {
        two.stats().unwrap().contains("\"waiters\":1")
    });
    for n in 0..100 {
        assert_eq!(two.signal(b"c", n.to_string().as_bytes()).unwrap(), 1);
    }
    two.release(&key("k"), first.token).unwrap();
    let mut one = waiter.join().unwrap().unwrap();
    // Its own are among them, and some are still on their way.
    assert_eq!(one.signal(b"c", b"100").unwrap(), 1);
    assert!(one.stats().unwrap().ends_with('}'));
    assert_eq!(two.signal(b"c", b"101").unwrap(), 1);
    for n in 0..102 {
        hears(&mut one, "c", &n.to_string());
    }
    assert_eq!((one.hear(TRY).unwrap(), one.missed()), (None, 0));
}

#[test]
fn the_longest_signal_is_heard_and_a_longer_one_is_not_sent() {
    let daemon = Daemon::start(&[]);
    let mut client = connect(&daemon);
    client.listen(b"c", None).unwrap();
    let mut payload = vec![b'x'; 65_536 - 5 - 1];
    payload[7] = 0xff;
    assert_eq!(client.signal(b"c", &payload).unwrap(), 1);
    let heard = client.hear(PATIENCE).unwrap().unwrap();
    assert_eq!(heard.payload, payload);
    payload.push(b'x');
    let is_payload = |answer| matches!(answer, Err(Error::Payload(_)));
    assert!(is_payload(client.signal(b"c", &payload)));
    for payload in ["", " \t", "a\nb", "a\r"] {
        assert!(is_payload(client.signal(b"c", payload.as_bytes())));
    }
    for channel in [&b""[..], b"a b", b"a.*", b">", &[b'c'; 257]] {
        assert!(matches!(
            client.signal(channel, b"x"),
            Err(Error::Channel(_))
        ));
    }
    assert!(matches!(client.listen(b"a*", None), Err(Error::Pattern(_))));
    let group = client.unlisten(b"a", Some(b" "));
    assert!(matches!(group, Err(Error::Group(_))));
    client.ping().unwrap();
}

#[test]
fn a_signal_may_come_in_pieces_between_any_two_lines() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (addr, server) = play(move |mut peer| {
        frame(&mut peer);
        peer.send("ok\nsig a 1\nsi");
        frame(&mut peer);
        peer.send("g a 2\nsig a 3\nok\nsig a");
        may_go_on.recv().unwrap();
        peer.send(" 4\n");
        frame(&mut peer);
        peer.send("sig a 5\nok 7\n");
        peer.rest();
    });
    let mut client = dial(&addr);
    client.listen(b"a", None).unwrap();
    client.ping().unwrap();
    for n in ["1", "2", "3"] {
        hears(&mut client, "a", n);
    }
    assert_eq!(client.hear(Duration::from_millis(50)).unwrap(), None);
    go_on.send(()).unwrap();
    hears(&mut client, "a", "4");
    assert_eq!(client.signal(b"a", b"5").unwrap(), 7);
    hears(&mut client, "a", "5");
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_signal_to_who_never_listened_is_nonsense() {
    is_nonsense(dial(&says("sig a 1\nok\n")).ping(), "sig a 1");
    let (addr, _) = play(|mut peer| {
        peer.send("sig a 1\n");
        peer.rest();
    });
    let mut client = dial(&addr);
    is_nonsense(client.hear(PATIENCE), "sig a 1");
    is_broken(&mut client);
    let listen = |answer| {
        let mut client = dial(&says(answer));
        client.listen(b"a", None).unwrap();
        client
    };
    is_nonsense(listen("ok\nsig a\n").ping(), "sig a");
    is_nonsense(listen("ok\nsig a.* b\n").hear(PATIENCE), "sig a.* b");
    is_nonsense(listen("ok\nok\n").hear(PATIENCE), "ok");
    is_unasked(listen("ok\nok\n").ping(), "ok");
}

#[test]
fn a_signal_that_never_ends_is_not_kept() {
    let (addr, server) = play(|mut peer| {
        frame(&mut peer);
        peer.send("ok\nsig a ");
        let mut sent = 0_u64;
        while sent < 1 << 30 && std::io::Write::write_all(peer.stream(), &[b'o'; 4096]).is_ok() {
            sent += 4096;
        }
        sent
    });
    let mut client = dial(&addr);
    client.listen(b"a", None).unwrap();
    let quote = format!("sig a {}", "o".repeat(74));
    is_nonsense(client.hear(PATIENCE), &quote);
    is_broken(&mut client);
    drop(client);
    assert!(server.join().unwrap() < 1 << 30);
}

#[test]
fn of_more_signals_than_there_is_room_for_the_first_are_kept_and_the_others_counted() {
    let (addr, _) = play(|mut peer| {
        frame(&mut peer);
        peer.send("ok\n");
        frame(&mut peer);
        for n in 0..KEPT_MAX + 5 {
            peer.send(format!("sig a {n}\n"));
        }
        peer.send("ok\nsig a last\n");
        peer.rest();
    });
    let mut client = dial(&addr);
    client.listen(b"a", None).unwrap();
    client.ping().unwrap();
    assert_eq!(client.missed(), 5);
    for n in 0..KEPT_MAX {
        hears(&mut client, "a", &n.to_string());
    }
    hears(&mut client, "a", "last");
}

#[test]
fn a_listener_hears_the_kept_signals_and_then_the_end_of_the_server() {
    let mut daemon = Daemon::start(&[]);
    let mut client = connect(&daemon);
    client.listen(b"a", None).unwrap();
    client.signal(b"a", b"1").unwrap();
    daemon.signal("TERM");
    daemon.event("draining");
    hears(&mut client, "a", "1");
    is_io(client.hear(PATIENCE), &[ErrorKind::UnexpectedEof]);
    is_broken(&mut client);
    is_io(client.hear(PATIENCE), &[ErrorKind::NotConnected]);
}

#[test]
fn a_subscription_over_the_limit_is_refused() {
    let daemon = Daemon::start(&["--max-subscriptions", "1"]);
    let mut client = connect(&daemon);
    client.listen(b"a", None).unwrap();
    is_refused(client.listen(b"b", None), Refusal::Error);
    assert_eq!(client.signal(b"b", b"x").unwrap(), 0);
}
