//! The real binary over real sockets: how it starts and ends, where locks go when clients die, and the price that
//! others pay for a hostile client. Not here: the rules of locks, which dialogues and simulations try without
//! waiting. Invariant: as in main.rs.

use std::io::{ErrorKind, Write};
use std::net::{Ipv6Addr, Shutdown, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{
    Client, Daemon, LONG, Nc, as_process_1, dflockd, eventually, shell, spin, tools,
};
use dflockd::config::{Flag, Group, OPTIONS, help, version};

const PING: &str = "ping\n_\n_\n";

// The start.

#[test]
fn the_ready_line_has_the_real_port_and_two_servers_have_two() {
    let (one, two) = (Daemon::start(&[]), Daemon::start(&[]));
    assert!(one.addr.port() != 0 && one.addr != two.addr);
    let (mut a, mut b) = (one.connect(), two.connect());
    a.takes("k");
    b.takes("k");
}

#[test]
fn a_port_that_is_taken_is_status_1_and_one_line_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let end = Daemon::launch(dflockd(&["--port", &port])).err().unwrap();
    assert_eq!((end.status, end.out.as_str()), (Some(1), ""));
    assert_eq!(end.log.lines().count(), 1, "{end:?}");
    let wanted = format!("dflockd: cannot listen on 127.0.0.1 port {port}: ");
    assert!(end.log.starts_with(&wanted), "{end:?}");
}

#[test]
fn a_host_that_is_unknown_or_not_ours_is_status_1_and_named() {
    // No resolver asks anybody for a name with an empty label; the address is for documents only.
    for host in ["no..such.host", "192.0.2.1"] {
        let end = Daemon::launch(dflockd(&["--port", "0", "--host", host]));
        let end = end.err().unwrap();
        assert_eq!(end.status, Some(1));
        let mistake = end.log.lines().last().unwrap();
        let wanted = format!("dflockd: cannot listen on {host} port 0: ");
        assert!(mistake.starts_with(&wanted), "{end:?}");
    }
}

#[test]
fn it_listens_on_ipv6() {
    if let Err(e) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        panic!("this machine has no IPv6 loopback, which this test needs: {e}");
    }
    let daemon = Daemon::start(&["--host", "::1"]);
    assert_eq!(daemon.addr.ip(), Ipv6Addr::LOCALHOST);
    daemon.connect().takes("k");
}

#[test]
fn a_bad_value_of_any_flag_or_variable_is_status_2_and_named() {
    let is_listed = |option: &&Flag| Group::ALL.contains(&option.group);
    let options = OPTIONS.iter().filter(is_listed);
    for option in options.filter(|option| !option.default.is_empty()) {
        // Nothing takes a value with a blank in it.
        let flag = format!("--{}", option.name);
        let mut cases = vec![(flag.as_str(), dflockd(&[&format!("{flag}=1 2")]))];
        for name in option.env {
            // Some names of HTTP are read only where there is a port for it.
            let port: &[&str] = match option.group {
                Group::Http => &["--http-port=0"],
                _ => &[],
            };
            let mut command = dflockd(port);
            command.env(name, "1 2");
            cases.push((name, command));
        }
        for (name, command) in cases {
            let end = Daemon::launch(command).err().unwrap();
            assert_eq!((end.status, end.out.as_str()), (Some(2), ""), "{name}");
            let wanted = format!("dflockd: {name}: bad value \"1 2\": want ");
            assert!(end.log.starts_with(&wanted), "{end:?}");
        }
    }
}

#[test]
fn a_stray_argument_is_status_2_and_named() {
    for args in [&["serve"][..], &["--port", "0", "serve"], &["--serve"]] {
        let end = Daemon::launch(dflockd(args)).err().unwrap();
        assert_eq!((end.status, end.out.as_str()), (Some(2), ""));
        assert!(end.log.lines().next().unwrap().contains("serve"), "{end:?}");
    }
}

#[test]
fn help_and_version_are_on_stdout_whatever_else_is_wrong() {
    for (word, text) in [
        ("--help", help()),
        ("--version", format!("{}\n", version())),
    ] {
        for args in [&[word][..], &["--port", "x", word, "serve", "--serve"]] {
            let mut command = dflockd(args);
            command.env("DFLOCKD_MAX_LOCKS", "x");
            let end = Daemon::launch(command).err().unwrap();
            assert_eq!((end.status, end.log.as_str()), (Some(0), ""));
            assert_eq!(end.out, text);
        }
    }
}

#[test]
fn a_flag_beats_the_environment_and_the_environment_the_default() {
    let mut command = dflockd(&["--port", "0", "--max-locks=1"]);
    command.env("DFLOCKD_MAX_LOCKS", "5");
    command.env("DFLOCKD_DEFAULT_LEASE_TTL_S", "7");
    let daemon = Daemon::launch(command).unwrap();
    let mut a = daemon.connect();
    a.send("l\nk\n0\n");
    a.is_granted(7);
    a.says("l", "k2", "0", "error_max_locks");
}

#[test]
fn it_needs_neither_stdin_nor_stdout() {
    let daemon = Daemon::launch(shell("exec \"$0\" --port 0 <&- >&-")).unwrap();
    daemon.connect().takes("k");
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
}

#[test]
fn it_needs_no_stderr_to_start_nor_its_reader_to_go_on() {
    let mut deaf = Daemon::spawn(shell("exec \"$0\" --port 0 2>&-"));
    eventually("it listens", || {
        deaf.listening_port()
            .map(|port| deaf.addr.set_port(port))
            .is_some()
    });
    let mut unheard = Daemon::start(&[]);
    unheard.hang_up_log();
    for daemon in [deaf, unheard] {
        daemon.connect().takes("k");
        daemon.signal("TERM");
        assert_eq!(daemon.end().status, Some(0));
    }
}

// Locks and their clients.

#[test]
fn clients_get_a_lock_in_the_order_in_which_they_came() {
    let daemon = Daemon::start(&[]);
    let mut holder = daemon.connect();
    let mut token = holder.takes("k");
    let mut waiters: Vec<Client> = (0..20).map(|_| daemon.connect()).collect();
    for waiter in waiters.iter_mut().rev() {
        waiter.waits("k", LONG);
    }
    daemon.connect().says("l", "k", "0", "timeout");
    for mut next in waiters.into_iter().rev() {
        holder.says("r", "k", &token, "ok");
        let fence = token;
        token = next.is_granted(33);
        assert!(token > fence);
        holder = next;
    }
}

/// Behind a grant work waits; behind the answer to a release only a client does.
#[test]
fn the_next_in_line_is_told_before_the_answer_to_the_release() {
    let daemon = Daemon::start(&[]);
    let (mut holder, mut waiter) = (daemon.connect(), daemon.connect());
    let mut token = holder.takes("k");
    for _ in 0..500 {
        waiter.waits("k", LONG);
        holder.stream().set_nonblocking(true).unwrap();
        holder.send(format!("r\nk\n{token}\n"));
        // Asked again and again, because the answer must be seen the moment it is here.
        spin("an answer", || holder.stream().peek(&mut [0]).is_ok());
        waiter.stream().set_nonblocking(true).unwrap();
        let granted = waiter.stream().peek(&mut [0]);
        assert!(granted.is_ok(), "the grant is here already: {granted:?}");
        for client in [&mut holder, &mut waiter] {
            client.stream().set_nonblocking(false).unwrap();
        }
        holder.hears("ok");
        token = waiter.is_granted(33);
        std::mem::swap(&mut holder, &mut waiter);
    }
}

#[test]
fn a_deadlock_is_logged_with_everything_escaped_once() {
    let mut daemon = Daemon::start(&["--debug"]);
    let (mut jane, mut other) = (daemon.connect(), daemon.connect());
    jane.says("id", "_", "jane \"doe\"", "ok");
    jane.takes("cl\u{e9}\u{1b}");
    other.send("sl\npool\n0 1\n");
    other.is_granted(33);
    jane.send(format!("{PING}sl\npool\n{LONG} 1\n"));
    jane.hears("ok");
    other.says("l", "cl\u{e9}\u{1b}", LONG, "error_deadlock");
    let line = daemon.event("deadlock");
    let waits = r#" waits="conn 2:cl\u{e9}\u{1b},jane \"doe\":semaphore pool""#;
    assert_eq!(line.trim_end().split_once("deadlock").unwrap().1, waits);
}

#[test]
fn a_lease_ends_on_time_although_nobody_stirs() {
    let daemon = Daemon::start(&[]);
    let (mut a, mut b) = (daemon.connect(), daemon.connect());
    let start = Instant::now();
    a.send("l\nk\n0 1\n");
    let token = a.is_granted(1);
    b.waits("k", LONG);
    b.is_granted(33);
    assert!(start.elapsed() >= Duration::from_secs(1), "never early");
    a.says("r", "k", &token, "error");
}

#[test]
fn a_wait_ends_on_time_although_nobody_stirs() {
    let daemon = Daemon::start(&[]);
    let (mut a, mut b) = (daemon.connect(), daemon.connect());
    a.takes("k");
    let start = Instant::now();
    b.says("l", "k", "1", "timeout");
    assert!(start.elapsed() >= Duration::from_secs(1), "never early");
}

#[test]
fn an_idle_client_and_half_a_line_are_told_and_closed_after_the_read_timeout() {
    // Long enough for the requests of this test to come in time.
    let daemon = Daemon::start(&["--read-timeout", "2"]);
    let start = Instant::now();
    let (mut idle, mut slow, mut holder) = (daemon.connect(), daemon.connect(), daemon.connect());
    holder.takes("k");
    slow.send("l\nk");
    for mut client in [idle, slow] {
        client.hears("error");
        client.is_closed();
    }
    assert!(start.elapsed() >= Duration::from_secs(2), "never early");
    idle = daemon.connect();
    idle.says("l", "k", "0", "timeout");
    assert!(holder.is_served());
}

#[test]
fn renewals_that_came_while_the_server_stood_still_are_in_time() {
    let daemon = Daemon::start(&[]);
    let (mut waiter, mut crowd) = (daemon.connect(), Vec::new());
    for n in 0..300 {
        let mut client = daemon.connect();
        crowd.push((client.takes(&format!("k{n}")), client));
    }
    waiter.waits("k0", LONG);
    // As short as that only now: connecting may have taken a while.
    for (n, (token, client)) in crowd.iter_mut().enumerate() {
        client.send(format!("n\nk{n}\n{token} 2\n"));
    }
    for (_, client) in &mut crowd {
        client.hears("ok 2");
    }
    daemon.freeze();
    for (n, (token, client)) in crowd.iter_mut().enumerate() {
        client.send(format!("n\nk{n}\n{token} 9\n"));
    }
    crowd[0].1.is_silent_for(Duration::from_millis(2100));
    daemon.signal("CONT");
    for (_, client) in &mut crowd {
        client.hears("ok 9");
    }
    let (token, client) = &mut crowd[0];
    client.says("r", "k0", token, "ok");
    waiter.is_granted(33);
}

/// The server may be stopped anywhere, also between what it asks of the kernel and its look at the clock.
#[test]
fn renewals_that_come_as_the_server_is_stopped_are_in_time() {
    let daemon = Daemon::start(&[]);
    let mut crowd = Vec::new();
    for n in 0..100 {
        let mut client = daemon.connect();
        crowd.push((client.takes(&format!("k{n}")), client));
    }
    for _ in 0..3 {
        for (n, (token, client)) in crowd.iter_mut().enumerate() {
            client.send(format!("n\nk{n}\n{token} 1\n"));
        }
        for (_, client) in &mut crowd {
            client.hears("ok 1");
        }
        daemon.signal("STOP");
        for (n, (token, client)) in crowd.iter_mut().enumerate() {
            client.send(format!("n\nk{n}\n{token} 60\n"));
        }
        // The leases of 1 s pass, and no answer is waited for: it may have come before the stop.
        thread::sleep(Duration::from_millis(1100));
        daemon.signal("CONT");
        for (_, client) in &mut crowd {
            client.hears("ok 60");
        }
    }
}

#[test]
fn a_lock_is_released_by_the_fin_of_its_client() {
    let daemon = Daemon::start(&[]);
    let (mut a, mut b) = (daemon.connect(), daemon.connect());
    a.takes("k");
    b.waits("k", LONG);
    drop(a);
    b.is_granted(33);
}

#[test]
fn a_lock_is_released_by_the_reset_of_its_client() {
    let daemon = Daemon::start(&[]);
    let (mut a, mut b) = (daemon.connect(), daemon.connect());
    a.send("l\nk\n0\n");
    eventually("it is answered", || a.stream().peek(&mut [0]).is_ok());
    b.waits("k", LONG);
    // Closing a socket with unread input sends a reset and no FIN: RFC 2525, 2.17.
    drop(a);
    b.is_granted(33);
}

#[test]
fn without_auto_release_a_lock_outlives_its_client() {
    let daemon = Daemon::start(&["--no-auto-release-on-disconnect"]);
    let (mut a, mut b) = (daemon.connect(), daemon.connect());
    let token = a.takes("k");
    assert!(b.is_served());
    let fds = daemon.fds();
    drop(a);
    eventually("its socket is closed", || daemon.fds() == fds - 1);
    b.says("l", "k", "0", "timeout");
    b.says("r", "k", &token, "ok");
    b.takes("k");
}

#[test]
fn a_deadlock_is_refused_and_logged_unless_detection_is_off() {
    let mut daemon = Daemon::start(&["--debug"]);
    let mut a = daemon.connect();
    a.says("id", "_", "worker 7", "ok");
    a.takes("k");
    a.says("l", "k", LONG, "error_deadlock");
    let event = daemon.event("deadlock");
    assert!(event.contains("worker 7:k"), "{event}");

    let daemon = Daemon::start(&["--no-deadlock-detection"]);
    let (mut a, mut b) = (daemon.connect(), daemon.connect());
    let token = a.takes("k");
    a.waits("k", LONG);
    b.says("r", "k", &token, "ok");
    a.is_granted(33);
}

#[test]
fn a_waiter_that_hangs_up_leaves_the_queue_at_once() {
    // With little, and with more unread input behind the wait than the server keeps.
    for pings in [0, 60_000 / PING.len()] {
        let daemon = Daemon::start(&[]);
        let (mut a, mut b, mut c) = (daemon.connect(), daemon.connect(), daemon.connect());
        let token = a.takes("k");
        b.waits("k", LONG);
        c.waits("k", LONG);
        let fds = daemon.fds();
        b.send(PING.repeat(pings));
        drop(b);
        eventually("its socket is closed", || daemon.fds() == fds - 1);
        a.says("r", "k", &token, "ok");
        c.is_granted(33);
    }
}

#[test]
fn nc_pipes_requests_in_and_answers_out() {
    let daemon = Daemon::start(&[]);
    let port = daemon.addr.port();
    let script = format!(r"printf 'l\nk\n0\nping\n_\n_\nr\nk\nx\nl\nk' | nc -N 127.0.0.1 {port}");
    for path in [tools::path(), tools::path_of_stand_ins()] {
        let mut nc = Nc::run(&script, &path);
        nc.screen.is_granted(33);
        assert_eq!(nc.screen.rest(), "ok\nerror\n");
    }
    daemon.connect().takes("k");
}

#[test]
fn one_nc_has_the_lock_when_the_other_is_killed() {
    let daemon = Daemon::start(&[]);
    let script = format!("exec nc 127.0.0.1 {}", daemon.addr.port());
    for path in [tools::path(), tools::path_of_stand_ins()] {
        let (mut one, mut two) = (Nc::run(&script, &path), Nc::run(&script, &path));
        one.screen.send("l\nk\n0\n");
        one.screen.is_granted(33);
        two.screen.send(format!("{PING}l\nk\n{LONG}\n"));
        two.screen.hears("ok");
        daemon.connect().says("l", "k", "0", "timeout");
        drop(one);
        two.screen.is_granted(33);
    }
}

// Bytes, in any portion.

#[test]
fn requests_may_come_byte_by_byte_or_by_the_thousand() {
    let daemon = Daemon::start(&[]);
    let mut a = daemon.connect();
    for byte in b"l\nk\n0\n" {
        a.send([*byte]);
    }
    let token = a.is_granted(33);
    // The i-th answer belongs to the i-th request.
    let frames: Vec<String> = (1..=1000).map(|n| format!("n\nk\n{token} {n}\n")).collect();
    a.send(frames.concat());
    for n in 1..=1000 {
        a.hears(&format!("ok {n}"));
    }
}

#[test]
fn the_error_for_a_long_line_arrives_although_200_kb_behind_it_are_unread() {
    let daemon = Daemon::start(&[]);
    for _ in 0..20 {
        let mut a = daemon.connect();
        a.takes("k");
        a.send("x".repeat(300) + "\n" + &PING.repeat(200_000 / PING.len()));
        a.hears("error");
        a.is_closed();
    }
}

#[test]
fn a_line_of_100_mb_takes_no_memory_and_nobodys_turn() {
    let daemon = Daemon::start(&[]);
    let (mut a, mut b) = (daemon.connect(), daemon.connect());
    assert!(a.is_served() && b.is_served());
    let before = daemon.memory_kb();
    let piece = [b'x'; 100_000];
    for n in 0..1000 {
        a.send(piece);
        assert!(n % 50 != 0 || b.is_served());
    }
    a.send("\n");
    a.hears("error");
    a.is_closed();
    assert!(daemon.memory_kb() < before + 1024, "S10");
}

#[test]
fn a_client_that_does_not_read_takes_little_memory_and_has_all_its_answers_later() {
    let daemon = Daemon::start(&["--write-timeout", "0"]);
    let (mut a, mut b) = (daemon.connect(), daemon.connect());
    assert!(a.is_served() && b.is_served());
    let before = daemon.memory_kb();
    let flood = PING.repeat(10_000);
    let mut sent = 0;
    // Until nothing moves any more: the kernel's buffers are full, and the server does not read.
    let short = Some(Duration::from_millis(200));
    a.stream().set_write_timeout(short).unwrap();
    loop {
        match a.stream().write(&flood.as_bytes()[sent % flood.len()..]) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => break assert_eq!(e.kind(), ErrorKind::WouldBlock),
        }
        assert!(sent < 1 << 30, "there is an end to what the server takes");
    }
    assert!(b.is_served());
    assert!(daemon.memory_kb() < before + 1024, "S10");
    a.stream().shutdown(Shutdown::Write).unwrap();
    let answers = a.rest();
    assert_eq!(answers.len(), sent / PING.len() * 3);
    assert!(answers.as_bytes().chunks(3).all(|line| line == b"ok\n"));
}

/// The write of which the kernel takes only a part may be the last: then its rest waits for an edge and nothing else.
#[test]
fn the_rest_of_an_answer_needs_no_other_answer_to_follow() {
    let daemon = Daemon::start(&["--write-timeout", "0"]);
    let (mut holder, mut witness) = (daemon.connect(), daemon.connect());
    for n in 0..190 {
        holder.takes(&format!("{n:0250}"));
        if n % 20 != 0 || n < 100 {
            continue;
        }
        // Each answer is a write, and after some the buffers are full: one of these clients asks for no more.
        for count in 4..16 {
            let mut client = daemon.connect();
            client.send("stats\n_\n_\n".repeat(count));
            // A turn gives one of them at least, so all are written before any is read.
            assert!((0..count + 10).all(|_| witness.is_served()));
            for _ in 0..count {
                assert!(client.line().ends_with("}\n"), "all of it");
            }
        }
    }
}

// Crowds.

#[test]
fn a_thousand_clients_leave_no_descriptor_behind() {
    let daemon = Daemon::start(&[]);
    let fds = daemon.fds();
    for n in 0..1000 {
        let mut client = daemon.connect();
        if n % 2 == 0 {
            client.takes(&format!("k{n}"));
        }
    }
    eventually("all are closed", || daemon.fds() == fds);
}

#[test]
fn a_crowd_that_came_while_the_server_stood_still_is_served() {
    let daemon = Daemon::start(&[]);
    daemon.freeze();
    let mut crowd: Vec<Client> = (0..300).map(|_| daemon.connect()).collect();
    for (n, client) in crowd.iter_mut().enumerate() {
        client.send(format!("l\nk{n}\n0\n"));
    }
    daemon.signal("CONT");
    for client in &mut crowd {
        client.is_granted(33);
    }
}

#[test]
fn out_of_descriptors_it_turns_newcomers_away_and_serves_the_others() {
    let limit = 40;
    let script = format!("ulimit -n {limit}; exec \"$0\" --port 0");
    let daemon = Daemon::launch(shell(&script)).unwrap();
    let start = Instant::now();
    let mut served = Vec::new();
    loop {
        let mut client = daemon.connect();
        if !client.is_served() {
            break;
        }
        served.push(client);
        assert!(served.len() < limit);
    }
    assert!(served.len() > 8, "{}", served.len());
    for _ in 0..200 {
        assert!(!daemon.connect().is_served());
    }
    eventually("it has its reserve again", || daemon.is_full(limit));
    // It neither spins nor forgets anybody.
    let ticks = daemon.ticks();
    served[0].is_silent_for(Duration::from_millis(500));
    assert!(daemon.ticks() - ticks < 15, "half a second has 50");
    assert!(served.iter_mut().all(Client::is_served));
    // Each that goes makes room for one.
    for _ in 0..5 {
        drop(served.pop());
        let mut next = daemon.connect();
        eventually("there is room", || {
            let is_served = next.is_served();
            if !is_served {
                next = daemon.connect();
            }
            is_served
        });
        served.push(next);
    }
    drop(served);
    daemon.signal("TERM");
    let end = daemon.end();
    let warnings = end.log.split(" warn dflockd fd-exhausted refused=").skip(1);
    let counts = warnings.map(|rest| rest.lines().next().unwrap().parse::<u64>().unwrap());
    let counts: Vec<u64> = counts.collect();
    // At most one a second, and the rest when it stops: every refusal is counted.
    assert!(
        counts.len() <= 2 + start.elapsed().as_secs() as usize,
        "{end:?}"
    );
    assert!(counts.iter().sum::<u64>() >= 201, "{end:?}");
    assert_eq!(end.status, Some(0));
}

#[test]
fn an_idle_server_does_not_wake_up() {
    let daemon = Daemon::start(&[]);
    let (mut holder, mut idle) = (daemon.connect(), daemon.connect());
    holder.takes("k");
    assert!(idle.is_served());
    let wakes = || -> u64 { daemon.status("voluntary_ctxt_switches").parse().unwrap() };
    let before = wakes();
    idle.is_silent_for(Duration::from_secs(1));
    assert!(wakes() - before <= 3);
}

// Unix signals, and the end.

#[test]
fn sigterm_and_sigint_drain() {
    for signal in ["TERM", "INT"] {
        let mut daemon = Daemon::start(&[]);
        let (mut idle, mut waiter, mut holder) =
            (daemon.connect(), daemon.connect(), daemon.connect());
        assert!(idle.is_served());
        let token = holder.takes("k");
        waiter.waits("k", LONG);
        daemon.signal(signal);
        assert!(
            daemon
                .event("draining")
                .ends_with(" connections=3 holds=1 detached=0\n")
        );
        idle.is_closed();
        waiter.hears("error_draining");
        waiter.is_closed();
        // Newcomers are told, and no second server can take the port meanwhile.
        let mut late = daemon.connect();
        late.says("l", "k", LONG, "error_draining");
        late.is_closed();
        let second = TcpListener::bind(daemon.addr).map_err(|e| e.kind());
        assert_eq!(second.err(), Some(ErrorKind::AddrInUse));
        holder.says("n", "k", &format!("{token} 20"), "ok 20");
        holder.says("l", "k2", "0", "error_draining");
        assert!(holder.is_served());
        holder.says("r", "k", &token, "ok");
        holder.is_closed();
        drop((waiter, holder, late));
        let end = daemon.end();
        assert_eq!(end.status, Some(0));
        assert!(
            end.log
                .ends_with(" info dflockd stopped cut=0 holds=0 detached=0\n")
        );
    }
}

#[test]
fn a_second_signal_cuts_the_holders() {
    for second in ["TERM", "INT"] {
        let mut daemon = Daemon::start(&["--shutdown-timeout", "0"]);
        let mut holder = daemon.connect();
        holder.takes("k");
        daemon.signal("TERM");
        daemon.event("draining");
        assert!(holder.is_served());
        // Signals within 0.1 s are one.
        holder.is_silent_for(Duration::from_millis(110));
        daemon.signal(second);
        assert_eq!(daemon.end().status, Some(0));
        assert!(!holder.is_served());
    }
}

#[test]
fn a_holder_whose_connection_hangs_comes_back_in_the_drain_to_renew_and_to_release() {
    let mut daemon = Daemon::start(&["--shutdown-timeout", "0"]);
    let mut holder = daemon.connect();
    holder.says("id", "_", "me", "ok");
    let token = holder.takes("k");
    daemon.signal("TERM");
    daemon.event("draining");
    let mut again = daemon.connect();
    again.says("id", "_", "me", "ok");
    again.says("n", "k", &token, "ok 33");
    holder.is_closed();
    drop(holder);
    again.says("r", "k", &token, "ok");
    again.is_closed();
    drop(again);
    assert_eq!(daemon.end().status, Some(0));
}

/// Stopped, it gets both in the same moment.
#[test]
fn two_signals_at_once_begin_one_drain() {
    let mut daemon = Daemon::start(&["--shutdown-timeout", "0"]);
    let (mut holder, mut idle) = (daemon.connect(), daemon.connect());
    let token = holder.takes("k");
    assert!(idle.is_served());
    daemon.freeze();
    daemon.signal("TERM");
    daemon.signal("INT");
    daemon.signal("CONT");
    daemon.event("draining");
    idle.is_closed();
    holder.says("n", "k", &token, "ok 33");
    holder.says("r", "k", &token, "ok");
    holder.is_closed();
    drop(holder);
    assert!(
        daemon
            .end()
            .log
            .ends_with(" stopped cut=0 holds=0 detached=0\n")
    );
}

#[test]
fn the_shutdown_timeout_cuts_the_holders() {
    let daemon = Daemon::start(&["--shutdown-timeout", "1"]);
    let mut holder = daemon.connect();
    holder.takes("k");
    let start = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
    assert!(start.elapsed() >= Duration::from_secs(1), "never early");
    assert!(!holder.is_served());
}

#[test]
fn sigpipe_and_clients_that_are_gone_do_no_harm() {
    let daemon = Daemon::start(&[]);
    let mut witness = daemon.connect();
    assert!(witness.is_served());
    let fds = daemon.fds();
    for _ in 0..100 {
        // Answers are on their way to a socket that is closed and resets them.
        daemon.connect().send(PING.repeat(1000));
    }
    daemon.signal("PIPE");
    eventually("all are closed", || daemon.fds() == fds);
    assert!(witness.is_served());
}

#[test]
fn it_can_be_process_1_of_a_container() {
    // The kernel drops signals for process 1 unless it handles or blocks them.
    let daemon = Daemon::start(&[]);
    let blocked = u64::from_str_radix(&daemon.status("SigBlk"), 16).unwrap();
    let (sigint, sigterm) = (1 << (2 - 1), 1 << (15 - 1));
    assert_eq!(blocked & (sigint | sigterm), sigint | sigterm);
    // Where the kernel allows a namespace, which inside of some containers it does not, see it happen.
    for signal in ["TERM", "INT"] {
        if let Some(daemon) = as_process_1() {
            daemon.connect().takes("k");
            daemon.signal(signal);
            assert_eq!(daemon.end().status, Some(0));
        }
    }
}
