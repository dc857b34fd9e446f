//! Owners that a connection declares, and servers that know none.

use super::*;

/// A connection of this owner.
fn connect_as(daemon: &Daemon, owner: &str) -> Client {
    let options = Options {
        id: Some(Owner::new(owner.as_bytes()).unwrap()),
        ..Options::default()
    };
    Client::connect(&daemon.addr.to_string(), &options).expect("it listens")
}

#[test]
fn an_owner_that_would_wait_for_itself_is_refused_and_keeps_its_holds() {
    let daemon = Daemon::start(&[]);
    let [mut one, mut two] = ["one", "two"].map(|owner| connect_as(&daemon, owner));
    let a = one.acquire(&key("a"), TRY, None).unwrap();
    let b = two.acquire(&key("b"), TRY, None).unwrap();
    is_refused(one.acquire(&key("a"), PATIENCE, None), Refusal::Deadlock);
    // Another connection of the same owner is the same.
    let mut other = connect_as(&daemon, "one");
    let elder = thread::spawn(move || other.acquire(&key("b"), PATIENCE, None).map(|_| other));
    eventually("it waits", || {
        connect(&daemon).stats().unwrap().contains("\"waiters\":1")
    });
    is_refused(two.acquire(&key("a"), PATIENCE, None), Refusal::Deadlock);
    two.release(&key("b"), b.token).unwrap();
    elder.join().unwrap().unwrap();
    one.release(&key("a"), a.token).unwrap();
}

#[test]
fn a_hold_goes_with_its_owner_from_connection_to_connection() {
    let daemon = Daemon::start(&[]);
    let mut one = connect_as(&daemon, "one");
    let first = one.acquire(&key("k"), TRY, None).unwrap();
    let mut other = connect_as(&daemon, "one");
    other.renew(&key("k"), first.token, None).unwrap();
    drop(one);
    let mut rival = connect(&daemon);
    is_timeout(rival.acquire(&key("k"), ONE, None));
    drop(other);
    rival.acquire(&key("k"), PATIENCE, None).unwrap();
}

/// An older server may close a connection that declares an owner, or not.
#[test]
fn a_server_that_knows_no_owners_is_used_without() {
    at_once([true, false], |closes| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let accept = || daemon::Client::over(listener.accept().unwrap().0);
            let mut first = accept();
            let heard = frame(&mut first);
            first.send("error\n");
            let first = (!closes).then_some(first);
            let mut second = accept();
            let asked = frame(&mut second);
            second.send("ok\n");
            drop(first);
            (heard, asked)
        });
        let id = Some(Owner::new(b"me").unwrap());
        let options = Options {
            id,
            ..Options::default()
        };
        let mut client = Client::connect(&addr, &options).unwrap();
        assert_eq!(client.owner(), None);
        client.ping().unwrap();
        let frames = ["id\n_\nme\n", "ping\n_\n_\n"].map(str::to_string);
        assert_eq!(server.join().unwrap(), frames.into());
    });
}

#[test]
fn a_guard_has_an_owner_of_its_own_unless_its_connection_has_one() {
    let daemon = Daemon::start(&[]);
    let owners = || {
        let stats = connect(&daemon).stats().unwrap();
        let parts = stats.split("\"owner\":\"").skip(1);
        let owners = parts.map(|rest| rest.split('"').next().unwrap().to_string());
        owners.collect::<Vec<_>>()
    };
    let lock = |client, name| Lock::acquire(client, key(name), TRY, None).unwrap();
    let _locks = [lock(connect(&daemon), "a"), lock(connect(&daemon), "b")];
    let [one, two] = owners().try_into().unwrap();
    assert_ne!(one, two);
    let pid = format!(":{}:", std::process::id());
    assert!(one.contains(&pid) && two.contains(&pid), "{one} {two}");
    let _third = lock(connect_as(&daemon, "me"), "c");
    assert!(owners().contains(&"me".to_string()));
    // A connection with a hold cannot name an owner any more, and works without one.
    let mut client = connect(&daemon);
    client.acquire(&key("d"), TRY, None).unwrap();
    let _fourth = lock(client, "e");
    assert_eq!(owners().len(), 3);
}
