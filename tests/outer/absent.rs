//! A host that vanishes without a word: its packets are lost, and nobody resets its connections. Server and clients have a
//! network of their own, whose one interface is taken down. Not here: the options of the sockets, which sys tests.
//! Invariant: only that network is touched; where the kernel allows none, as inside of some containers, the test says so
//! and is left out. It takes a minute, so its name is the first: it begins before the others, and runs beside them.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, LONG, Nc, program, tools};

/// A server in a network of its own.
struct Island {
    daemon: Daemon,
    /// The command that runs another one there.
    enter: String,
}

impl Island {
    /// None where a program is missing, or where the kernel allows no network.
    fn new(args: &str) -> Option<Island> {
        let tools = [
            ("unshare", "util-linux"),
            ("nsenter", "util-linux"),
            ("ip", "iproute2"),
        ];
        if !tools
            .iter()
            .all(|(name, package)| tools::has(name, package))
        {
            return None;
        }
        let ways = [
            (&[][..], "--net"),
            (
                &["--user", "--map-root-user"],
                "--user --preserve-credentials --net",
            ),
        ];
        let mut refusals = String::new();
        let island = ways.into_iter().find_map(|(more, spaces)| {
            let mut command = program("unshare");
            let script = format!("ip link set lo up && exec \"$0\" --port 0 {args}");
            command.args(more).args(["--net", "sh", "-c", &script]);
            command.arg(env!("CARGO_BIN_EXE_dflockd"));
            let daemon = match Daemon::launch(command) {
                Ok(daemon) => daemon,
                Err(end) => {
                    refusals.push_str(&end.log);
                    return None;
                }
            };
            let enter = format!("exec nsenter --target {} {spaces}", daemon.pid);
            Some(Island { daemon, enter })
        });
        if island.is_none() {
            tools::leave_out(&format!("no network of its own: {}", refusals.trim()));
        }
        island
    }

    fn connect(&self) -> Nc {
        let (enter, port) = (&self.enter, self.daemon.addr.port());
        Nc::run(&format!("{enter} nc 127.0.0.1 {port}"), &tools::path())
    }

    /// From now on every packet is lost.
    fn cut(&self) {
        let script = format!("{} ip link set lo down", self.enter);
        let status = Command::new("sh").args(["-c", &script]).status();
        assert!(status.expect("there is a shell").success());
    }
}

/// What is under way to such a host is a grant. Keepalive is silent then, and the kernel would send again for a quarter of
/// an hour.
#[test]
fn a_waiter_that_has_vanished_keeps_what_it_is_granted_for_a_minute_and_no_longer() {
    const LEASE: u32 = 3;
    let Some(island) = Island::new("--read-timeout 1") else {
        return;
    };
    let fds = island.daemon.fds();
    let (mut holder, mut waiter) = (island.connect(), island.connect());
    holder.screen.send(format!("l\nk\n0 {LEASE}\n"));
    holder.screen.is_granted(LEASE);
    // The ping is answered when the server has both. The lease is longer than this may take.
    waiter
        .screen
        .send(format!("ping\n_\n_\nl\nk\n{LONG} {LONG}\n"));
    waiter.screen.hears("ok");
    island.cut();
    let start = Instant::now();
    // The holder goes when its lease is over, for being idle. The waiter is granted then and holds for longer than this.
    while island.daemon.fds() > fds {
        let waited = start.elapsed().as_secs();
        assert!(
            waited < u64::from(LEASE) + 75,
            "it is still there after {waited} s"
        );
        thread::sleep(Duration::from_millis(100));
    }
    assert!(
        start.elapsed() > Duration::from_secs(55),
        "a host may be away for a moment"
    );
}
