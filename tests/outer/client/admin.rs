//! What the client library asks for an administrator: who has a key, and the end of a hold by force; and the detach.

use super::*;

const ROOT: &[u8] = b"root token";

fn as_administrator(daemon: &Daemon) -> Client {
    let options = Options {
        secret: Some(ROOT.to_vec()),
        ..Options::default()
    };
    Client::connect(&daemon.addr.to_string(), &options).expect("it listens")
}

#[test]
fn a_key_is_shown_broken_and_served_to_the_next() {
    let daemon = Daemon::start(&["--admin-token", "root token"]);
    let (mut holder, mut waiter) = (connect(&daemon), connect(&daemon));
    let mut admin = as_administrator(&daemon);
    let grant = holder.acquire(&key("k"), TRY, None).unwrap();
    let place = waiter.enqueue(&key("k"), None).unwrap();
    assert_eq!(place, Place::Queued);
    let shown = admin.show(&key("k")).unwrap();
    let fence = format!("\"fence\":\"{:016x}\"", grant.token.fence);
    for part in ["{\"key\":\"k\",", "\"held\":1,\"waiting\":1", &fence] {
        assert!(shown.contains(part), "{shown}");
    }
    is_refused(holder.break_holds(&key("k"), None), Refusal::Auth);
    let other = Some(grant.token.fence - 1);
    assert_eq!(admin.break_holds(&key("k"), other).unwrap(), 0);
    let it = Some(grant.token.fence);
    assert_eq!(admin.break_holds(&key("k"), it).unwrap(), 1);
    is_refused(holder.renew(&key("k"), grant.token, None), Refusal::Error);
    waiter.wait(&key("k"), TRY).unwrap();
    assert_eq!(admin.break_holds(&key("k"), None).unwrap(), 1);
    assert_eq!(admin.break_holds(&key("k"), None).unwrap(), 0);
}

#[test]
fn the_semaphore_of_a_name_is_shown_and_broken_and_not_the_lock() {
    let daemon = Daemon::start(&[]);
    let mut client = connect(&daemon);
    let slots = Key::semaphore(b"k", 3).unwrap();
    for _ in 0..3 {
        client.acquire(&slots, TRY, None).unwrap();
    }
    client.acquire(&key("k"), TRY, None).unwrap();
    let shown = client.show(&slots).unwrap();
    assert!(
        shown.contains("\"space\":\"semaphore\",\"limit\":3,\"held\":3"),
        "{shown}"
    );
    assert_eq!(client.break_holds(&slots, None).unwrap(), 3);
    assert!(client.show(&key("k")).unwrap().contains("\"held\":1"));
}

#[test]
fn a_detached_hold_outlives_its_client() {
    let daemon = Daemon::start(&[]);
    let (mut client, mut other) = (connect(&daemon), connect(&daemon));
    let grant = client.acquire(&key("k"), TRY, None).unwrap();
    let bound = client.acquire(&key("bound"), TRY, None).unwrap();
    client.detach(&key("k"), grant.token).unwrap();
    is_refused(client.detach(&key("bound"), grant.token), Refusal::Error);
    drop(client);
    eventually("its end is seen", || {
        other.renew(&key("bound"), bound.token, None).is_err()
    });
    other.renew(&key("k"), grant.token, None).unwrap();
    other.release(&key("k"), grant.token).unwrap();
}
