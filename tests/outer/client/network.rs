//! The network between: addresses, secrets and servers that say nothing, or what no server of ours says.

use super::*;

#[test]
fn where_nobody_listens_is_an_io_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    drop(taken);
    let options = Options::default();
    is_io(
        Client::connect(&addr, &options),
        &[ErrorKind::ConnectionRefused],
    );
    for server in ["", "127.0.0.1", "127.0.0.1:port"] {
        is_io(
            Client::connect(server, &options),
            &[ErrorKind::InvalidInput],
        );
    }
    let options = Options {
        patience: Duration::ZERO,
        ..options
    };
    is_io(Client::connect(&addr, &options), &[ErrorKind::TimedOut]);
}

#[test]
fn every_address_of_a_name_is_tried() {
    // On most machines the name is ::1 first, where nobody listens.
    let daemon = Daemon::start(&[]);
    let server = format!("localhost:{}", daemon.addr.port());
    let mut client = Client::connect(&server, &Options::default()).unwrap();
    client.ping().unwrap();
}

#[test]
fn a_server_that_says_nothing_is_given_up_after_the_patience() {
    let mut client = hasty(&says(""));
    let before = Instant::now();
    is_io(client.ping(), &[ErrorKind::TimedOut]);
    assert!(before.elapsed() >= HASTE);
    is_broken(&mut client);
}

#[test]
fn a_server_that_says_it_bit_by_bit_is_given_up_after_the_patience() {
    let (addr, _) = play(|mut peer| {
        frame(&mut peer);
        // Until the client hangs up, which is all there is to wait for: every byte comes in time, the line does not.
        while std::io::Write::write_all(peer.stream(), b"o").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    let mut client = hasty(&addr);
    let before = Instant::now();
    is_io(client.ping(), &[ErrorKind::TimedOut]);
    assert!(before.elapsed() < PATIENCE);
}

#[test]
fn a_long_answer_may_take_longer_than_the_patience_while_it_keeps_coming() {
    let (addr, _) = play(|mut peer| {
        frame(&mut peer);
        peer.send("ok {");
        // Together longer than the patience, and each pause is shorter: that is what this is about.
        for _ in 0..4 {
            thread::sleep(HASTE / 3);
            peer.send(" ");
        }
        peer.send("}\n");
        frame(&mut peer);
        peer.send("ok {");
        peer.rest();
    });
    let mut client = hasty(&addr);
    assert_eq!(client.stats().unwrap(), "{    }");
    is_io(client.stats(), &[ErrorKind::TimedOut]);
}

/// The server has granted it when the client has lost its patience already.
#[test]
fn an_acquire_that_is_given_up_gives_back_what_was_on_its_way() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let accept = || daemon::Client::over(listener.accept().unwrap().0);
        let mut released = Vec::new();
        for answer in ["ok", "acquired"] {
            let mut first = accept();
            frame(&mut first);
            first.rest();
            first.send(format!("{answer} {TOKEN} 33\n"));
            drop(first);
            let mut second = accept();
            released.push(frame(&mut second));
            second.send("ok\n");
        }
        released
    });
    is_io(
        hasty(&addr).acquire(&key("k"), TRY, None),
        &[ErrorKind::TimedOut],
    );
    is_io(
        hasty(&addr).enqueue(&key("k"), None),
        &[ErrorKind::TimedOut],
    );
    let release = format!("r\nk\n{TOKEN}\n");
    assert_eq!(server.join().unwrap(), [release.clone(), release]);
}

#[test]
fn nonsense_is_quoted_and_ends_the_connection() {
    let mut client = dial(&says("HTTP/1.1 \x1b\r\n"));
    is_nonsense(client.ping(), "HTTP/1.1 \\x1b\\r");
    is_broken(&mut client);
    // A text that is not UTF-8 is no JSON. Any other is left to the caller.
    is_nonsense(dial(&says("\u{fffd}\n")).stats(), "\\xef\\xbf\\xbd");
    assert_eq!(dial(&says("ok {\n")).stats().unwrap(), "{");
}

#[test]
fn an_answer_to_another_question_is_nonsense() {
    is_nonsense(dial(&says("timeout\n")).ping(), "timeout");
    is_nonsense(dial(&says("ok 33\n")).stats(), "ok 33");
    let mut client = dial(&says("queued\n"));
    is_nonsense(client.acquire(&key("k"), TRY, None), "queued");
    let mut client = dial(&says("ok\n"));
    is_nonsense(client.enqueue(&key("k"), None), "ok");
    is_broken(&mut client);
}

#[test]
fn an_answer_to_no_question_is_nonsense() {
    let mut client = dial(&says("ok\nok\n"));
    client.ping().unwrap();
    is_unasked(client.ping(), "ok");
    is_broken(&mut client);
}

#[test]
fn a_line_that_never_ends_is_not_kept() {
    let (addr, server) = play(|mut peer| {
        frame(&mut peer);
        let mut sent = 0_u64;
        while sent < 1 << 30 && std::io::Write::write_all(peer.stream(), &[b'o'; 4096]).is_ok() {
            sent += 4096;
        }
        sent
    });
    let mut client = dial(&addr);
    is_nonsense(client.ping(), &"o".repeat(80));
    is_broken(&mut client);
    drop(client);
    // It could send no more than fits between the two.
    assert!(server.join().unwrap() < 1 << 30);
}

#[test]
fn the_longest_line_is_256_bytes() {
    let mut client = dial(&says(concat!(
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "0",
    )));
    // It has no end, and is not waited for.
    // Any of it could be a token.
    is_nonsense(client.ping(), "0123456789abcdef...");
}

#[test]
fn a_server_that_is_full_refuses_until_there_is_room() {
    let daemon = Daemon::start(&["--max-connections", "1"]);
    let mut only = connect(&daemon);
    only.ping().unwrap();
    let options = Options {
        id: Some(Owner::new(b"me").unwrap()),
        ..Options::default()
    };
    let addr = daemon.addr.to_string();
    is_refused(Client::connect(&addr, &options), Refusal::MaxConnections);
    let mut client = connect(&daemon);
    is_refused(client.ping(), Refusal::MaxConnections);
    assert!(matches!(client.ping(), Err(Error::Io(_))));
    drop(only);
    eventually("there is room", || {
        Client::connect(&addr, &options).is_ok_and(|mut client| client.ping().is_ok())
    });
}
