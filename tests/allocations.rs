//! Once warm, a request allocates nothing, and a crowd that has left leaves no memory behind: counted by an allocator of
//! the test's own, over the hub.
#![allow(unsafe_code, reason = "an allocator that counts")]

#[path = "inner/harness/settings.rs"]
mod settings;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dflockd::command::{Bound, Command, SessionId, Space, Terms};
use dflockd::facts::Outbox;
use dflockd::hub::{Hub, Next, Wrote};
use dflockd::locks::Locks;
use dflockd::wire::Face;
use settings::settings;

const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Bytes that are allocated now.
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        LIVE.with(|live| live.set(live.get() + layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // What another thread has allocated is not counted here.
        LIVE.with(|live| live.set(live.get().saturating_sub(layout.size())));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Acquires and releases `key`, each in a turn of its own.
fn pair(hub: &mut Hub, id: SessionId, now: u64, key: &str, frame: &mut Vec<u8>) {
    frame.clear();
    frame.extend_from_slice(b"l\n");
    frame.extend_from_slice(key.as_bytes());
    frame.extend_from_slice(b"\n10\n");
    let mut token = [0; 32];
    for command in [b"l", b"r"] {
        if command == b"r" {
            frame.clear();
            frame.extend_from_slice(b"r\n");
            frame.extend_from_slice(key.as_bytes());
            frame.push(b'\n');
            frame.extend_from_slice(&token);
            frame.push(b'\n');
        }
        hub.begin_turn(now, 0);
        hub.received(id, frame);
        hub.tick(now);
        hub.settle();
        while let Some((id, output)) = hub.next_write() {
            assert!(output.starts_with(b"ok"));
            if command == b"l" {
                token.copy_from_slice(&output[3..35]);
            }
            assert_eq!(hub.wrote(id, Wrote::All), Next::Keep);
        }
        hub.end_turn(None);
    }
}

#[test]
fn ten_thousand_pairs_allocate_nothing_once_warm() {
    let mut hub = Hub::new(settings());
    let mut now = 1_000_000_000;
    hub.begin_turn(now, 0);
    let id = hub.opened(Face::Text, PEER).unwrap();
    let keys: Vec<String> = (0..100).map(|n| format!("{n:0>22}")).collect();
    let mut frame = Vec::with_capacity(128);
    for key in &keys {
        pair(&mut hub, id, now, key, &mut frame);
    }
    let before = COUNT.with(Cell::get);
    for round in 0..10_000 {
        now += 1000;
        pair(&mut hub, id, now, &keys[round % keys.len()], &mut frame);
    }
    assert_eq!(COUNT.with(Cell::get) - before, 0);
    // The counter counts: a key over 22 bytes takes a box while it exists.
    let long = "k".repeat(23);
    let before = COUNT.with(Cell::get);
    pair(&mut hub, id, now, &long, &mut frame);
    assert_eq!(COUNT.with(Cell::get) - before, 1);
}

/// Sends `frame`, lets `wait` pass, and takes what the session is told.
fn exchange(hub: &mut Hub, id: SessionId, now: &mut u64, frame: &[u8], wait: u64) -> bool {
    let mut timed_out = false;
    for (span, bytes) in [(0, frame), (wait, b"")] {
        *now += span;
        hub.begin_turn(*now, 0);
        hub.received(id, bytes);
        hub.tick(*now);
        hub.settle();
        while let Some((id, output)) = hub.next_write() {
            timed_out |= output == b"timeout\n";
            assert_eq!(hub.wrote(id, Wrote::All), Next::Keep);
        }
        hub.end_turn(None);
    }
    timed_out
}

#[test]
fn a_hundred_thousand_timeouts_on_one_key_take_no_memory() {
    let mut hub = Hub::new(settings());
    let mut now = 1_000_000_000;
    hub.begin_turn(now, 0);
    let (holder, waiter) = (
        hub.opened(Face::Text, PEER).unwrap(),
        hub.opened(Face::Text, PEER).unwrap(),
    );
    assert!(!exchange(
        &mut hub,
        holder,
        &mut now,
        b"l\nk\n0 9000000\n",
        0
    ));
    let before = COUNT.with(Cell::get);
    for round in 0..100_000 {
        assert!(exchange(
            &mut hub,
            waiter,
            &mut now,
            b"l\nk\n1\n",
            1_000_000
        ));
        // The first rounds make the ticket and the buffers that all others use.
        let allocated = COUNT.with(Cell::get) - before;
        assert!(
            allocated < 16,
            "{allocated} allocations after {round} rounds"
        );
    }
}

/// More than any table keeps for its next entries.
const CROWD: usize = 100_000;
/// What may stay: a chunk of each slab, and tables that are not worth shrinking.
const SLACK: usize = 1024 * 1024;

/// Turns until nothing is put off. Every client takes what it is sent; returns how many lines that were.
fn settle(hub: &mut Hub, now: u64) -> usize {
    let mut lines = 0;
    loop {
        hub.begin_turn(now, 0);
        hub.tick(now);
        hub.settle();
        while let Some((id, output)) = hub.next_write() {
            lines += output.iter().filter(|&&byte| byte == b'\n').count();
            hub.wrote(id, Wrote::All);
        }
        hub.end_turn(None);
        if hub.deadline().is_none_or(|due| due > now) {
            return lines;
        }
    }
}

/// A hub, and a session that stays.
fn hub_with_one() -> (Hub, SessionId) {
    let mut settings = settings();
    settings.locks.max_locks = CROWD;
    settings.locks.max_idle = 0;
    let mut hub = Hub::new(settings);
    hub.begin_turn(1_000_000_000, 0);
    let id = hub.opened(Face::Text, PEER).unwrap();
    hub.received(id, b"l\nmine\n0 9000\nlisten\nmine\n\n");
    assert_eq!(settle(&mut hub, 1_000_000_000), 2);
    (hub, id)
}

#[track_caller]
fn is_back(before: usize, most: usize) {
    let left = LIVE.with(Cell::get).saturating_sub(before);
    assert!(most > 10 * SLACK, "{most} bytes are no crowd");
    assert!(left < SLACK, "{left} bytes are left of {most}");
}

#[test]
fn a_crowd_of_connections_leaves_no_memory_behind() {
    let (mut hub, _) = hub_with_one();
    let (now, before) = (1_000_000_000, LIVE.with(Cell::get));
    for _ in 0..2 {
        let all: Vec<_> = (0..CROWD)
            .map(|_| hub.opened(Face::Text, PEER).unwrap())
            .collect();
        for (n, &id) in all.iter().enumerate() {
            let request = format!("l\nkey-{n}\n0\nlisten\nchannel.{n}\n\nid\n_\nowner-{n}\n");
            hub.received(id, request.as_bytes());
            if n % 100 == 0 {
                settle(&mut hub, now);
            }
        }
        settle(&mut hub, now);
        let most = LIVE.with(Cell::get) - before;
        for (n, id) in all.into_iter().enumerate() {
            hub.closed(id);
            if n % 64 == 0 {
                settle(&mut hub, now);
            }
        }
        settle(&mut hub, now);
        assert_eq!(hub.sessions(), 1);
        is_back(before, most);
    }
}

#[test]
fn a_hundred_thousand_subscriptions_leave_no_memory_behind() {
    let (mut hub, id) = hub_with_one();
    let (now, before) = (1_000_000_000, LIVE.with(Cell::get));
    for command in ["listen", "unlisten"] {
        let most = LIVE.with(Cell::get) - before;
        for n in 0..CROWD {
            let request = format!("{command}\na.{n}.*\ngroup-{}\n", n % 7);
            hub.received(id, request.as_bytes());
            if n % 50 == 0 {
                settle(&mut hub, now);
            }
        }
        settle(&mut hub, now);
        if command == "unlisten" {
            is_back(before, most);
        }
    }
}

#[test]
fn a_hundred_thousand_holds_leave_no_memory_behind() {
    let (mut hub, id) = hub_with_one();
    let (now, before) = (1_000_000_000, LIVE.with(Cell::get));
    for n in 0..CROWD - 1 {
        hub.received(id, format!("l\nkey-{n}\n0 1\n").as_bytes());
        if n % 50 == 0 {
            settle(&mut hub, now);
        }
    }
    settle(&mut hub, now);
    let most = LIVE.with(Cell::get) - before;
    settle(&mut hub, now + 2_000_000);
    assert_eq!(hub.locks().keys(), 1);
    is_back(before, most);
}

/// Holds of one owner, each under the name of an attempt or none; how many bytes they take and what is left of them.
fn bytes_of_holds(attempts: bool) -> (usize, usize) {
    let mut settings = settings().locks;
    (settings.max_locks, settings.max_idle) = (CROWD, 0);
    let before = LIVE.with(Cell::get);
    let mut locks = Locks::new(settings);
    let (now, mut out, id) = (1_000_000_000, Outbox::default(), SessionId::new(1, 0));
    for n in 0..CROWD {
        let (key, attempt) = (format!("key-{n}"), format!("attempt-{n:0>16}"));
        let terms = Terms {
            attempt: attempts.then_some(attempt.as_bytes()),
            ..Terms::default()
        };
        let acquire = Command::Acquire {
            space: Space::Lock,
            key: key.as_bytes(),
            limit: 1,
            wait: 0,
            lease: Some(1_000_000),
            owner: Some(b"owner"),
            bound: Bound::Lease,
            terms: Some(&terms),
        };
        locks.apply(now, id, acquire, &mut out);
        out.replies.clear();
    }
    assert_eq!(locks.counts().held, CROWD as u64);
    let most = LIVE.with(Cell::get) - before;
    let now = now + 1_000_000;
    while locks.deadline().is_some() {
        let tick = Command::Tick { heard: now };
        locks.apply(now, SessionId::NOBODY, tick, &mut out);
    }
    assert_eq!(locks.counts().expired, CROWD as u64);
    (most, LIVE.with(Cell::get) - before)
}

#[test]
fn a_hundred_thousand_attempts_take_4_mib_and_leave_none() {
    let (plain, _) = bytes_of_holds(false);
    let (named, left) = bytes_of_holds(true);
    println!("{plain} bytes, {named} with attempts, {left} left");
    assert!(named > plain + CROWD * 28, "a record each");
    assert!(named - plain <= 4 * 1024 * 1024, "{plain}, {named}");
    assert!(left < SLACK, "{left} bytes are left of {named}");
}
